"""Files that real servers wrote, kept in tests/data: read as what the servers said that they hold.

They need no server, so that they are read on every version of Python, with and without the libraries in C.
``tests/make_golden.py`` makes them.
"""

from __future__ import annotations

import json
import mmap
import shutil
from pathlib import Path
from typing import Any

import pytest

from kvstore.engine import codec
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types import TYPES, Value
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.set import Set
from kvstore.engine.types.stream import Consumer, Group, Stream
from kvstore.engine.types.zset import ZSet
from kvstore.persist.fs import OsFileSystem
from kvstore.persist.rdb_load import Loaded, Note, Record, load_rdb, read_rdb
from kvstore.persist.replay import load_log

DATA = Path(__file__).parent / "data"
RDB = sorted(path.stem for path in DATA.glob("*.rdb"))
LOGS = sorted(path.name for path in DATA.iterdir() if (path / "appendonly.aof.manifest").exists())
OLD_LOGS = sorted(path.name for path in DATA.iterdir() if (path / "appendonly.aof").exists())
Keys = dict[tuple[int, str], dict[str, Any]]


def expected(name: str) -> tuple[dict[str, Any], Keys]:
    """What stands in the description of a file, and its keys."""
    head = json.loads((DATA / f"{name}.json").read_text())
    return head, {(each["db"], each["key"]): each for each in head.pop("keys")}


def context(head: dict[str, Any]) -> Context:
    """An empty store with the sizes and the policy of the server, at the time when the file was made."""
    ctx = Context(Database, clock=ManualClock(head["made_ms"]))
    for name, size in head["limits"].items():
        setattr(ctx.limits, name, size)
    ctx.evictor.configure(policy=head["policy"], maxmemory=1 << 30)
    return ctx


# ------------------------------------------------------------------ values as descriptions have them


def text(word: bytes) -> str:
    return word.decode("latin-1")


def described(value: Value) -> Any:
    match value:
        case List():
            return [text(element) for element in value]
        case Set():
            return sorted(text(member) for member in value)
        case Hash():
            return {text(field): text(word) for field, word in sorted(value.items())}
        case ZSet():
            return {text(member): score for member, score in value.scores.items()}
        case Stream():
            return described_stream(value)
    return text(value)


def in_question(found: dict[str, Any]) -> Any:
    """The value of a description, in a form in which equal ones are equal."""
    value = found["value"]
    if found["type"] == "zset":
        return {member: float(score) for member, score in value.items()}
    if found["type"] == "stream":
        value["groups"].sort(key=lambda group: group["name"])
        for group in value["groups"]:
            group["consumers"].sort(key=lambda consumer: consumer["name"])
    return value


def name_of(id: tuple[int, int]) -> str:
    return f"{id[0]}-{id[1]}"


def described_stream(value: Stream) -> dict[str, Any]:
    """As XINFO STREAM FULL has it, and all entries."""
    return {
        "length": len(value),
        "last-generated-id": name_of(value.last_id),
        "max-deleted-entry-id": name_of(value.max_deleted_id),
        "entries-added": value.entries_added,
        "recorded-first-entry-id": name_of(value.first_id),
        "entries": [[name_of(id), [text(word) for word in words]] for id, words in value.entries.items()],
        "groups": [described_group(name, group) for name, group in sorted(value.groups.items())],
    }


def described_group(name: bytes, group: Group) -> dict[str, Any]:
    pending = [
        [name_of(id), text(each.consumer.name), each.delivered_ms, each.count]
        for id, each in group.pending.items()
    ]
    return {
        "name": text(name),
        "last-delivered-id": name_of(group.last_id),
        "entries-read": None if group.entries_read < 0 else group.entries_read,
        "pel-count": len(pending),
        "pending": pending,
        "consumers": [described_consumer(each) for _, each in sorted(group.consumers.items())],
    }


def described_consumer(consumer: Consumer) -> dict[str, Any]:
    pending = [[name_of(id), each.delivered_ms, each.count] for id, each in consumer.pending.items()]
    return {
        "name": text(consumer.name),
        "seen-time": consumer.seen_ms,
        "active-time": consumer.active_ms,
        "pel-count": len(pending),
        "pending": pending,
    }


def without(tree: Any, names: set[str]) -> Any:
    """What one server tells and another does not, left out."""
    if isinstance(tree, dict):
        return {name: without(each, names) for name, each in tree.items() if name not in names}
    return [without(each, names) for each in tree] if isinstance(tree, list) else tree


def same_value(value: Value, found: dict[str, Any]) -> bool:
    ours, theirs = described(value), in_question(found)
    if found["type"] == "stream" and "active-time" not in str(theirs):  # Redis 7.0
        ours = without(ours, {"active-time"})
    return bool(ours == without(theirs, {"lag"}))


def same_encoding(value: Value, found: dict[str, Any], limits: Limits, server: str) -> bool:
    ours = TYPES[type(value)].encoding(value, limits)
    if server.startswith("redis_version:7.0") and (ours, found["encoding"]) in (
        # It has no listpacks of these.
        ("listpack", "quicklist"),
        ("listpack", "hashtable"),
    ):
        return True
    return bool(ours == found["encoding"])


def compare(ctx: Context, head: dict[str, Any], keys: Keys) -> None:
    """The store holds these keys, and no others."""
    held = {(index, text(key)) for index, db in ctx.databases.items() for key in db._data}
    assert held == keys.keys()
    for (index, name), found in keys.items():
        db, key = ctx.database(index), name.encode("latin-1")
        value = db._data[key]
        assert TYPES[type(value)].name == found["type"]
        assert same_value(value, found), (index, name)
        assert db._expires.get(key) == found["deadline_ms"]
    assert {text(name): text(source) for name, source in ctx.libraries.items()} == head["libraries"]
    for db in ctx.databases.values():
        db.check()


# -------------------------------------------------------------------------------------------- files


@pytest.fixture(params=["fast", "pure"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the libraries in C, where they are installed, and without."""
    if request.param == "pure":
        monkeypatch.setattr(codec, "_calculate", codec.crc64_pure)
        monkeypatch.setattr(codec, "_lzf", None)


def test_there_are_files_of_every_kind() -> None:
    kinds = {name.split("-")[0] for name in RDB}
    assert kinds == {name.split("-")[0] for name in LOGS} == {"redis", "valkey"}
    assert len(RDB) == 8 and len(LOGS) == 4 and len(OLD_LOGS) == 2


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", RDB)
def test_a_snapshot_of_a_real_server_is_loaded_as_what_it_held(
    name: str, mapped: bool, both_ways: None
) -> None:
    head, keys = expected(name)
    ctx = context(head)
    with open(DATA / f"{name}.rdb", "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else file.read()
    steps = load_rdb(ctx, content, path=name, now_ms=head["made_ms"])
    while True:
        try:
            next(steps)
        except StopIteration as end:
            loaded = end.value
            break
    assert isinstance(loaded, Loaded)
    assert (loaded.keys, loaded.expired, loaded.empty) == (len(keys), head["expired"], 0)
    assert loaded.end == len(content)
    compare(ctx, head, keys)
    for (index, key), found in keys.items():
        if "freq" in found:
            assert ctx.database(index).object("freq", key.encode("latin-1")) == found["freq"]


@pytest.mark.parametrize("name", RDB)
def test_a_snapshot_is_read_record_by_record_with_encodings_and_uses(name: str) -> None:
    head, keys = expected(name)
    limits = context(head).limits
    keys_met, notes = set(), {}
    for each in read_rdb((DATA / f"{name}.rdb").read_bytes(), limits, path=name):
        if isinstance(each, Note):
            notes[each.kind, text(each.name)] = text(each.value)
            continue
        where = each.db, text(each.key)
        if each.key == b"gone":  # it had expired when the file was written
            assert each.deadline_ms is not None and each.deadline_ms < head["made_ms"]
            continue
        check_record(each, keys[where], limits, head["server"])
        keys_met.add(where)
    assert keys_met == keys.keys()
    assert {what for kind, what in notes if kind == "function"} == head["libraries"].keys()
    server, version = head["server"].split(":")
    assert notes["aux", server.replace("_version", "-ver")] == version
    assert notes["version", "redis"] == ("10" if server == "redis_version" else "11")


def check_record(found: Record, wanted: dict[str, Any], limits: Limits, server: str) -> None:
    assert same_value(found.value, wanted), found.key
    assert same_encoding(found.value, wanted, limits, server), (found.key, wanted["encoding"])
    assert found.deadline_ms == wanted["deadline_ms"]
    assert found.frequency == wanted.get("freq")
    if "idletime" in wanted:  # asked for a moment later
        assert found.idle_s is not None and 0 <= wanted["idletime"] - found.idle_s <= 2
    else:
        assert found.idle_s is None


def replayed(head: dict[str, Any], directory: Path, single: Path | None) -> Context:
    ctx = context(head)
    steps = load_log(
        ctx,
        OsFileSystem(),
        str(directory),
        "appendonly.aof",
        single=None if single is None else str(single),
        load_truncated=False,
    )
    assert all(type(done) is int for done in steps)
    return ctx


@pytest.mark.parametrize("name", LOGS)
def test_a_log_of_a_real_server_is_replayed_to_what_it_held(
    name: str, both_ways: None, tmp_path: Path
) -> None:
    head, keys = expected(name)
    directory = tmp_path / "appendonlydir"
    shutil.copytree(DATA / name, directory)
    compare(replayed(head, directory, None), head, keys)
    kinds = {path.suffix for path in directory.iterdir()}
    assert kinds == {".aof", ".manifest"} | ({".rdb"} if name.endswith("rdb") else set())


@pytest.mark.parametrize("name", OLD_LOGS)
def test_an_old_log_of_one_file_is_adopted_and_holds_the_same(name: str, tmp_path: Path) -> None:
    head, keys = expected(name)
    directory = tmp_path / "appendonlydir"
    directory.mkdir()
    single = tmp_path / "appendonly.aof"
    shutil.copy(DATA / name / "appendonly.aof", single)
    # Relative times count from the start of whoever reads them.
    relative = keys[0, "relative"].pop("deadline_ms")
    ctx = replayed(head, directory, single)
    keys[0, "relative"]["deadline_ms"] = ctx.database(0)._expires[b"relative"]
    assert abs(ctx.database(0)._expires[b"relative"] - relative) < 60_000
    compare(ctx, head, keys)
    assert not single.exists() and (directory / "appendonly.aof").exists()
    # And again, from where it is now.
    compare(replayed(head, directory, None), head, keys)
