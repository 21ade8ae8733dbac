"""Streams in files and payloads: what real servers made comes back to them as it was."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from kvstore.commands.digest import digest_all
from kvstore.engine.codec import Pieces, Reader, crc64
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.ids import LAST_ID
from kvstore.engine.snapshot import Snapshot
from kvstore.engine.types import TYPES, Target, load
from kvstore.engine.types.payload import dump_payload, load_payload
from kvstore.engine.types.stream import NEVER, UNKNOWN, Consumer, Group, Stream
from kvstore.engine.types.stream_layout import Layout
from kvstore.errors import FormatError, ResponseError
from kvstore.persist.aof_base import AofBaseWriter
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.rdb_load import load_rdb
from kvstore.resp import encode_request
from kvstore.tools.check import check
from kvstore.tools.lines import Key, key_line, parse_line
from tests import servers
from tests.conftest import require
from tests.laws import START_MS, Recorder, digest
from tests.rawclient import Node, RawClient, parse
from tests.seeds import new_seed
from tests.servers import Server
from tests.test_rdb import write
from tests.test_replay import disk, words
from tests.test_replay import load as load_log_of

RECORD = TYPES[Stream]
LIMITS = Limits()
TOP = (1 << 64) - 1
# By server: the target whose files it reads, with all that streams count.
TARGETS = {"redis": Target.REDIS_70, "valkey": Target.REDIS_72}


# ------------------------------------------------------------------------------- streams by servers


def commands(rng: random.Random) -> Iterator[tuple[object, ...]]:
    """Streams of all kinds, one a key, on a server that can do more with them than we."""
    for number in range(3):
        yield "XADD", "plain", f"{number}-1", "field", number, "other", "text"
    for number in range(1000):
        size = rng.choice((0, 1, 63, 64, 127, 128, 300, 4095, 4096, 5000)) if rng.random() < 0.1 else 5
        whole = rng.randrange(-(1 << rng.choice((1, 7, 12, 13, 15, 23, 31, 63))), 1 << 63) >> rng.randrange(
            63
        )
        more = ("more", whole, "", "") if rng.random() < 0.2 else ()
        yield (
            "XADD",
            "many",
            f"{1000 + number // 3}-{number % 3 * 2 + rng.randrange(2)}",
            "f",
            "x" * size,
            "g",
            whole,
            *more,
        )
    for number in range(400):
        yield "XADD", "deleted", f"1700000000{number:03}-0", "f", number
    for number in rng.sample(range(400), 150):
        yield "XDEL", "deleted", f"1700000000{number:03}-0"
    for number in range(300):
        yield "XADD", "trimmed", f"{number + 1}-{rng.randrange(TOP)}", "f", number
    yield "XTRIM", "trimmed", "MAXLEN", 130
    yield "XADD", "far", f"1-{TOP}", "f", "v"
    yield "XADD", "far", f"{TOP - 1}-0", "f", "v"
    yield "XADD", "far", f"{TOP}-{TOP}", "f", "v"
    yield "XADD", "set", "5-5", "f", "v"
    yield "XSETID", "set", "9-9", "ENTRIESADDED", 100, "MAXDELETEDID", "3-3"
    yield "XGROUP", "CREATE", "empty", "group", "$", "MKSTREAM"
    yield "XADD", "emptied", "7-7", "f", "v"
    yield "XDEL", "emptied", "7-7"
    yield "XADD", "cut", "7-7", "f", "v"
    yield "XTRIM", "cut", "MAXLEN", 0
    for number in range(250):
        yield "XADD", "read", f"{number + 1}-0", "f", number
    for group, start in (("a", "0"), ("b", "$"), ("c", "100-0"), ("d", "1000-0"), ("e", "1-0"), ("", "0")):
        yield "XGROUP", "CREATE", "read", group, start
    yield "XGROUP", "CREATE", "read", "told", "100-0", "ENTRIESREAD", 42
    for consumer, count in (("one", 120), ("two", 30), ("one", 3), ("three", 1)):
        yield "XREADGROUP", "GROUP", "a", consumer, "COUNT", count, "STREAMS", "read", ">"
    yield "XREADGROUP", "GROUP", "c", "one", "STREAMS", "read", ">"
    yield "XGROUP", "CREATECONSUMER", "read", "a", "idle"
    yield "XACK", "read", "a", *[f"{number}-0" for number in rng.sample(range(1, 150), 70)]
    yield (
        "XCLAIM",
        "read",
        "a",
        "two",
        0,
        *[f"{number}-0" for number in rng.sample(range(1, 150), 20)],
        "TIME",
        17,
    )
    yield "XCLAIM", "read", "a", "forced", 0, "200-0", "RETRYCOUNT", 9, "FORCE", "JUSTID"
    yield "XDEL", "read", "60-0", "61-0", "120-0"
    yield "PEXPIREAT", "read", 4_000_000_000_000


KEYS = ("plain", "many", "deleted", "trimmed", "far", "set", "empty", "emptied", "cut", "read")


def plain(node: Node) -> Any:
    """A reply as Python has it."""
    if node.items is not None:
        return [plain(each) for each in node.items]
    return int(node.text) if node.mark == b":" else node.text


def call(client: RawClient, *argv: object) -> Any:
    reply = client.call(*[word if isinstance(word, bytes) else str(word) for word in argv])
    assert reply[:1] != b"-", (argv, reply)
    return plain(parse(reply))


def view(client: RawClient, key: str) -> tuple[Any, ...]:
    """All that a server tells of a stream, but how its memory is laid out."""
    full = call(client, "XINFO", "STREAM", key, "FULL", "COUNT", 0)
    told = {name: value for name, value in zip(full[::2], full[1::2], strict=True) if b"radix" not in name}
    groups = [dict(zip(each[::2], each[1::2], strict=True))[b"name"] for each in told[b"groups"]]
    pending = [call(client, "XPENDING", key, group) for group in groups]
    return told, pending, call(client, "XRANGE", key, "-", "+"), call(client, "DEBUG", "DIGEST-VALUE", key)


def views(client: RawClient) -> dict[str, tuple[Any, ...]]:
    return {key: view(client, key) for key in KEYS}


@pytest.fixture(params=sorted(TARGETS))
def server(request: pytest.FixtureRequest) -> Server:
    """A real server, full of streams."""
    require(request.param)
    server: Server = request.getfixturevalue(f"{request.param}_server")
    with server.client() as client:
        call(client, "FLUSHALL")
        call(client, "FUNCTION", "FLUSH")
        for words in commands(random.Random(new_seed())):
            call(client, *words)
    return server


def loaded(content: bytes) -> Context:
    ctx = Context(Database, clock=ManualClock(START_MS))
    for _ in load_rdb(ctx, content, path="x.rdb", now_ms=None):
        pass
    ctx.database(0).check()
    return ctx


def saved(server: Server) -> bytes:
    with server.client() as client:
        call(client, "SAVE")
        directory = call(client, "CONFIG", "GET", "dir")[1]
    return (Path(directory.decode()) / "dump.rdb").read_bytes()


def taken(server: Server) -> Context:
    """The server's file, here."""
    with server.client() as client:
        wanted = call(client, "DEBUG", "DIGEST")
    ctx = loaded(saved(server))
    assert digest_all(ctx).hex().encode() == wanted
    return ctx


@pytest.fixture
def started(server: Server) -> Iterator[Callable[..., RawClient]]:
    """Starts a server of the same kind on a file, and connects to it."""
    directories, running = [], []

    def start(content: bytes, name: str = "dump.rdb", **options: str) -> RawClient:
        directory = Path(tempfile.mkdtemp(prefix="streams-"))
        directories.append(directory)
        (directory / name).write_bytes(content)
        one = servers.start(
            server.kind, options={"dir": str(directory), "enable-debug-command": "yes", **options}
        )
        running.append(one)
        return one.client()

    yield start
    for one in running:
        one.remove()
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def test_payloads_bring_streams_here_and_back(server: Server) -> None:
    db = Context(Database, clock=ManualClock(START_MS)).database(0)
    with server.client() as client:
        before = views(client)
        for key in KEYS:
            payload = call(client, "DUMP", key)
            db.restore(key, 0, payload)
            again = db.dump(key)
            assert again is not None and again[0] <= payload[0]  # readable by whoever made it
            deadline = max(0, call(client, "PEXPIRETIME", key))
            call(client, "RESTORE", key, deadline, again, "REPLACE", "ABSTTL")
            copy = db.restore("copy", 0, again, replace=True)
            assert copy and RECORD.digest(db._data[b"copy"]) == RECORD.digest(db._data[key.encode()])
        assert views(client) == before
    db.check()


def test_files_for_a_server_bring_all_back_to_it(server: Server, started: Callable[..., RawClient]) -> None:
    ctx = taken(server)
    with server.client() as client:
        before = views(client)
    for compress in (True, False):
        with started(write(ctx, TARGETS[server.kind], compress=compress)) as client:
            assert views(client) == before


def without_counters(view: tuple[Any, ...]) -> tuple[Any, ...]:
    """What RDB 9 has of it."""
    told, *rest = view
    told = dict(told)
    for name in (b"max-deleted-entry-id", b"entries-added", b"recorded-first-entry-id"):
        del told[name]
    groups = [dict(zip(each[::2], each[1::2], strict=True)) for each in told.pop(b"groups")]
    for group in groups:
        del group[b"entries-read"], group[b"lag"]
        consumers = [dict(zip(each[::2], each[1::2], strict=True)) for each in group[b"consumers"]]
        for consumer in consumers:
            consumer.pop(b"active-time", None)
        group[b"consumers"] = consumers
    return told, groups, *rest


def test_portable_files_lose_no_more_than_their_version_and_nothing_here(
    server: Server, started: Callable[..., RawClient]
) -> None:
    ctx = taken(server)
    content = write(ctx)
    assert content.startswith(b"REDIS0009")
    assert digest(loaded(content)) == digest(ctx)
    with server.client() as client:
        before = views(client)
    with started(content) as client:
        after = views(client)
    for key in KEYS:
        assert without_counters(after[key]) == without_counters(before[key]), key
    assert after["plain"] == before["plain"] and after["far"] == before["far"]


def test_a_log_of_commands_carries_them(server: Server, started: Callable[..., RawClient]) -> None:
    ctx = taken(server)
    parts: list[bytes] = []
    writer = AofBaseWriter(parts.append)
    writer.begin()
    for key, value in ctx.database(0)._data.items():
        rest = writer.entry(0, key, value, ctx.database(0)._expires.get(key))
        for _ in rest or ():
            pass
    writer.end()
    with server.client() as client:
        before = views(client)
    with started(b"".join(parts), "appendonly.aof", appendonly="yes") as client:
        assert views(client) == before
        assert call(client, "PEXPIRETIME", "read") == 4_000_000_000_000


def test_what_type_15_leaves_out_is_guessed_as_the_server_guesses(
    server: Server, started: Callable[..., RawClient]
) -> None:
    ctx = taken(server)
    db = ctx.database(0)
    with server.client() as client:
        for key in KEYS:
            value = db._data[key.encode()]
            body = b"\x0f" + b"".join(RECORD.dump(value, Target.PORTABLE)) + b"\x09\0"
            old = body + crc64(body).to_bytes(8, "little")
            call(client, "RESTORE", "old", 0, old, "REPLACE")
            theirs = load_payload(call(client, "DUMP", "old"), LIMITS)
            assert RECORD.digest(theirs) == RECORD.digest(load_payload(old, LIMITS)), key


def test_every_target_and_every_copy_has_all_of_a_stream(server: Server) -> None:
    ctx = taken(server)
    for target in Target:
        assert digest(loaded(write(ctx, target))) == digest(ctx), target
    db = ctx.database(0)
    for key in KEYS:
        assert db.copy(key, "copy", replace=True)
        value, copy = db._data[key.encode()], db._data[b"copy"]
        assert RECORD.digest(copy) == RECORD.digest(value)
        assert b"".join(RECORD.dump(copy, Target.REDIS_72)) == b"".join(RECORD.dump(value, Target.REDIS_72))
        # The copy is independent.
        for id, _ in list(copy.entries.items()):
            copy.delete(id)
        for group in copy.groups.values():
            for id, _ in list(group.pending.items()):
                group.acknowledge(id)
            group.consumers.clear()
        RECORD.check(copy)
        RECORD.check(value)
        line = b"".join(key_line(0, key.encode(), value, None))
        json.loads(line)
        found = parse_line(line, LIMITS)
        assert isinstance(found, Key) and RECORD.digest(found.value) == RECORD.digest(value), key
        RECORD.check(found.value)
    db.delete("copy")


def test_the_file_of_a_server_passes_check(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(saved(server))
    assert check(str(path), fix=False) == 0
    said = capsys.readouterr().out
    assert f"{len(KEYS)} stream" in said and "counters that RDB 9 has no place for" in said


# --------------------------------------------------------------------------------------- here alone


def small(active: bool = True) -> Stream:
    """A stream with something of everything."""
    value = Stream()
    for number in range(4):
        value.add((1 << 40, number + 1), (b"field", b"%d" % (number * 1000), b"f2", b"text" * number))
    value.add(((1 << 40) + 5, 0), (b"other", b"-1"))
    value.delete((1 << 40, 2))
    group = value.groups[b"group"] = Group((1 << 40, 3), 3)
    for name in (b"one", b"two"):
        group.consumers[name] = Consumer(name, START_MS, NEVER if active else START_MS)
    group.deliver((1 << 40, 1), group.consumers[b"one"], START_MS, 3)
    group.deliver((1 << 40, 2), group.consumers[b"two"], START_MS)
    value.groups[b"idle"] = Group((0, 0), UNKNOWN)
    return value


@pytest.fixture
def store() -> Context:
    ctx = Context(Database, clock=ManualClock(START_MS))
    ctx.database(0)._place(b"stream", small(), None)
    ctx.database(0)._place(b"empty", Stream(), None)
    return ctx


def test_generic_commands_know_streams_and_others_refuse_them(store: Context) -> None:
    db = store.database(0)
    assert db.type("stream") == b"stream"
    assert db.object("encoding", "stream") == b"stream"
    assert db.memory_usage("stream") > db.memory_usage("empty") > 0
    assert sorted(db.scan(_type="stream")[1]) == [b"empty", b"stream"]
    for refused in (lambda: db.get("stream"), lambda: db.hlen("stream"), lambda: db.rpush("empty", "x")):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            refused()
    db.rename("stream", "renamed")
    assert db.type("renamed") == b"stream" and db.unlink("renamed", "empty") == 2
    db.check()


def test_our_own_log_carries_them_and_what_came_after(store: Context) -> None:
    parts: list[bytes] = []
    writer = AofBaseWriter(parts.append)
    writer.begin()
    for key, value in store.database(0)._data.items():
        writer.entry(0, key, value, None)
    writer.end()
    assert digest(load_log_of(disk(base=b"".join(parts)))) == digest(store)
    recorder = Recorder()
    store.listen(recorder)
    store.database(0).copy("stream", "copy")
    store.database(0).restore("again", 0, store.database(0).dump("stream"))
    effects = b"".join(encode_request(effect) for _, effect in recorder.effects)
    assert digest(load_log_of(disk(effects, base=b"".join(parts)))) == digest(store)
    later = load_log_of(disk(words("XADD stream 99999999999999-1 f v"), base=b"".join(parts)))
    assert later.database(0)._xrange(b"stream", (99999999999999, 0), LAST_ID, None, False) == [
        ((99999999999999, 1), (b"f", b"v"))
    ]


def test_payloads_are_of_the_oldest_version_that_has_all() -> None:
    value = Stream()
    value.add((1, 1), (b"f", b"v"))
    versions = []
    value.groups[b"g"] = Group((1, 1), 1)
    for change in (
        lambda: None,
        lambda: setattr(value, "entries_added", 2),
        lambda: setattr(value, "entries_added", 1),
        lambda: setattr(value.groups[b"g"], "entries_read", UNKNOWN),
        lambda: value.groups[b"g"].consumers.update({b"c": Consumer(b"c", 5, 5)}),
        lambda: value.groups[b"g"].consumers.update({b"c": Consumer(b"c", 5, 6)}),
    ):
        change()
        payload = dump_payload(value)
        assert RECORD.digest(load_payload(payload, LIMITS)) == RECORD.digest(value)
        versions.append((payload[0], payload[-10]))
    assert versions == [(15, 9), (19, 10), (15, 9), (19, 10), (19, 10), (21, 11)]
    payload = dump_payload(Stream())
    assert (payload[0], payload[-10]) == (19, 10)


def test_large_streams_are_written_in_pieces_of_about_64_kb() -> None:
    value = Stream()
    for number in range(30_000):
        value.add((number + 1, 0), (b"field", b"value of entry %d" % number))
    group = value.groups[b"g"] = Group((30_000, 0), 30_000)
    consumer = group.consumers[b"c"] = Consumer(b"c", 5, 6)
    for number in range(10_000):
        group.deliver((number + 1, 0), consumer, START_MS)
    pieces = list(RECORD.dump(value, Target.REDIS_72))
    assert len(pieces) > 10 and max(map(len, pieces)) < 100_000
    again = load(21, Reader(b"".join(pieces)), LIMITS)
    assert RECORD.digest(again) == RECORD.digest(value)
    # Whenever the stream changes meanwhile, a copy takes its place.
    for step in range(len(pieces)):
        original = RECORD.copy(value)
        original.layout, value.layout = Layout(), Layout()
        begun = RECORD.dump(original, Target.REDIS_72)
        assert isinstance(begun, Pieces)
        found = list(islice(begun, step))
        begun.go_on_with(RECORD.dump(value, Target.REDIS_72))
        original.groups[b"g"].pending.trim(9000)
        original.groups[b"g"].consumers.clear()
        original.entries.trim(29_000)
        assert [*filter(None, found), *filter(None, begun)] == [*filter(None, pieces)], step


def test_a_snapshot_has_a_large_stream_as_it_was_when_it_is_changed_in_the_middle() -> None:
    db = Context(Database, clock=ManualClock(START_MS)).database(0)
    value = Stream()
    for number in range(5000):
        value.add((number + 1, 0), (b"field", b"value of entry %d" % number))
    db._place(b"s", value, None)
    before = digest(db.ctx)
    for steps in range(4):
        file: list[bytes] = []
        writer = RdbWriter(file.append, target=Target.PORTABLE, compress=False, checksum=True)
        writer.begin()
        snapshot = Snapshot(db.ctx, writer)
        for _ in range(steps):
            snapshot.step(1)
        db.copy("s", "kept")
        db.delete("s")
        snapshot.finish()
        writer.end()
        assert digest(loaded(b"".join(file))) == before
        db.rename("kept", "s")


def test_lines_need_no_more_of_a_stream_than_its_entries() -> None:
    found = parse_line(
        b'{"db": 0, "key": "k", "type": "stream", "value": {"entries": [["5-0", "f", "v"]]}}', LIMITS
    )
    assert isinstance(found, Key)
    assert (found.value.last_id, found.value.entries_added, len(found.value)) == ((5, 0), 1, 1)
    empty = parse_line(b'{"db": 0, "key": "k", "type": "stream", "value": {"entries": []}}', LIMITS)
    assert isinstance(empty, Key) and len(empty.value) == 0


GROUP = '"name": "g", "last_id": "0-0"'
BAD_LINES = {
    "[]": "no object",
    "{}": "no member 'entries'",
    '{"entries": 7}': "'entries' is no array",
    '{"entries": [["1-0"]]}': "no array of an ID, fields and values",
    '{"entries": [["1-0", "f"]]}': "no array of an ID, fields and values",
    '{"entries": [["1", "f", "v"]]}': "no ID such as",
    '{"entries": [["01-0", "f", "v"]]}': "no ID such as",
    '{"entries": [["18446744073709551616-0", "f", "v"]]}': "no ID such as",
    '{"entries": [["0-0", "f", "v"]]}': "not behind the one before",
    '{"entries": [["2-0", "f", "v"], ["1-0", "f", "v"]]}': "not behind the one before",
    '{"entries": [["2-0", "f", "v"]], "last_id": "1-0"}': "before the last entry",
    '{"entries": [], "entries_added": -1}': "no integer",
    '{"entries": [], "more": 1}': "a member 'more'",
    '{"entries": [], "groups": [7]}': "no object",
    f'{{"entries": [], "groups": [{{{GROUP}}}, {{{GROUP}}}]}}': "twice",
    f'{{"entries": [], "groups": [{{{GROUP}, "pending": [["1-0", "c", 1, 1]]}}]}}': "no consumer of the group",
    f'{{"entries": [], "groups": [{{{GROUP}, "pending": [["1-0", "c", 1]]}}]}}': "no array of an ID, a consumer",
    f'{{"entries": [], "groups": [{{{GROUP}, "consumers": [{{"name": "c"}}]}}]}}': "no member 'seen_at_ms'",
    f'{{"entries": [], "groups": [{{{GROUP}, "consumers": [{{"name": "c", "seen_at_ms": 1}}],'
    ' "pending": [["1-0", "c", 1, 1], ["1-0", "c", 1, 1]]}]}': "pending twice",
}


@pytest.mark.parametrize("text", BAD_LINES)
def test_a_line_that_is_no_stream_is_refused_with_the_reason(text: str) -> None:
    line = f'{{"db": 0, "key": "k", "type": "stream", "value": {text}}}'
    with pytest.raises(FormatError, match=BAD_LINES[text]):
        parse_line(line.encode(), LIMITS)


# ------------------------------------------------------------------------------------------- damage


def attempt(number: int, body: bytes) -> bool:
    """Load a body; whether it is a stream, which then is sound and written again."""
    reader = Reader(body)
    try:
        value = load(number, reader, LIMITS)
    except FormatError as error:
        assert error.offset is None or 0 <= error.offset <= len(body)
        return False
    if type(value) is Stream:
        RECORD.check(value)
        again = load(21, Reader(b"".join(RECORD.dump(value, Target.REDIS_72))), LIMITS)
        assert RECORD.digest(again) == RECORD.digest(value)
    return True


@pytest.mark.parametrize(
    "number, target", [(15, Target.PORTABLE), (19, Target.REDIS_70), (21, Target.REDIS_72)]
)
def test_damage_is_refused_or_gives_a_sound_stream(number: int, target: Target, heavy: bool) -> None:
    rng = random.Random(new_seed())
    for value in (small(), Stream()):
        body = b"".join(RECORD.dump(value, target))
        assert attempt(number, body)
        for at in range(len(body)):
            assert not attempt(number, body[:at])
            flips = range(1, 256) if heavy else {*(1 << bit for bit in range(8)), 0xFF, rng.randrange(1, 256)}
            for flip in flips:
                attempt(number, body[:at] + bytes((body[at] ^ flip,)) + body[at + 1 :])
        for _ in range(20_000 if heavy else 1000):
            start, stop = sorted((rng.randrange(len(body)), rng.randrange(len(body))))
            attempt(
                number,
                body[:start] + rng.choice((b"", rng.randbytes(3), b"\x81" + b"\xff" * 8)) + body[stop:],
            )


def test_damaged_counters_in_a_file_are_refused_or_taken(store: Context) -> None:
    aux = RECORD.aux(store.database(0)._data[b"stream"], Target.PORTABLE)
    assert aux is not None
    for at in range(len(aux)):
        for changed in (aux[:at], *(aux[:at] + bytes((byte,)) + aux[at + 1 :] for byte in range(256))):
            value = small()
            try:
                RECORD.apply_aux(value, changed)
            except FormatError:
                continue
            RECORD.check(value)
            load_payload(dump_payload(value), LIMITS)


def test_claims_of_a_file_reserve_no_memory() -> None:
    huge = b"\x81" + b"\x7f" * 8
    body = b"".join(RECORD.dump(Stream(), Target.REDIS_72))
    for at in range(len(body)):
        with pytest.raises(FormatError):
            load(21, Reader(huge + body[at:]), LIMITS)
