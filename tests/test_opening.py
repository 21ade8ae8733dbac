"""Stores on disk: what ``kvstore.open(path)`` keeps, when it is safe, who may have it, and what ends it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import kvstore
from kvstore import PersistenceError, Store, StoreError, WrongThreadError
from kvstore.durable import WRITING, DurableStore
from kvstore.errors import FormatError
from tests.conftest import require
from tests.servers import ROOT, running

PATIENCE = 30.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def fill(store: Any) -> None:
    """Some of everything."""
    store.set("s", "text")
    store.set("bytes", b"\x00\xff")
    store.incrby("n", 41)
    store.incr("n")
    store.rpush("l", *range(300))
    store.sadd("set", "a", "b", 3)
    store.hset("h", mapping={"f": "1", "g": "2"})
    store.hexpire("h", 100_000, "g")
    store.zadd("z", {"m": 1.1, "k": float("inf")})
    store.set("t", "x", ex=100_000)
    store.set("gone", "x")
    store.delete("gone")
    store.database(3).set("other", "db")
    with store.pipeline() as pipe:
        pipe.lpop("l").set("p", 1).execute()


def data_of(store: Any) -> dict[int, dict[str, Any]]:
    """All that is in it, by what its methods say."""
    found: dict[int, dict[str, Any]] = {}
    for index in range(16):
        keys = found[index] = {}
        db = store.database(index)
        for key in sorted(db.keys()):
            ttl = db.pexpiretime(key)
            keys[str(key)] = (db.type(key), _value(db, key), ttl)
    return {index: keys for index, keys in found.items() if keys}


def _value(db: Any, key: Any) -> Any:
    kind = db.type(key)
    if kind == b"string":
        return db.get(key)
    if kind == b"list":
        return db.lrange(key, 0, -1)
    if kind == b"set":
        return db.smembers(key)
    if kind == b"hash":
        fields = db.hgetall(key)
        return fields, db.hpexpiretime(key, *fields)
    return db.zrange(key, 0, -1, withscores=True)


def in_process(code: str, *args: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
        **kwargs,
    )


# -- what is kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
def test_what_was_there_at_the_end_is_there_again(tmp_path: Path, fsync: str) -> None:
    with kvstore.open(str(tmp_path / "data"), fsync=fsync) as store:
        assert isinstance(store, Store)
        fill(store)
        before = data_of(store)
    with kvstore.open(tmp_path / "data") as store:
        assert data_of(store) == before
        store.check()
        store.set("more", 1)
    with kvstore.open(f"file://{tmp_path}/data") as store:
        assert store.get("more") == b"1"


KILLED = """
import os, sys, kvstore
store = kvstore.open(sys.argv[1], fsync=sys.argv[2])
for number in range(500):
    store.rpush("l", number)
store.pipeline().set("a", 1).set("b", 2).execute()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
def test_a_killed_process_loses_nothing_that_was_returned(tmp_path: Path, fsync: str) -> None:
    assert in_process(KILLED, tmp_path / "data", fsync).returncode == -signal.SIGKILL
    with kvstore.open(tmp_path / "data") as store:
        assert store.lrange("l", 0, -1) == [b"%d" % number for number in range(500)]
        assert store.mget("a", "b") == [b"1", b"2"]


def test_everything_that_changes_data_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("lupa")
    with kvstore.open(tmp_path, decode_responses=True) as store:
        assert store.set("typed", "é") is True and store.get("typed") == "é"
        store["item"] = 1
        store.call("SET", "called", 2)
        store.client().set("client", 3)
        store.client().pipeline().incr("client").incr("client").execute()
        store.eval("redis.call('set', KEYS[1], 4) redis.call('incr', KEYS[1])", 1, "script")
        store.transaction(lambda pipe: (pipe.multi(), pipe.set("transaction", 6)), "typed")
        store.database(1).set("other", 7)
        assert store.database(1).get("other") == "7"
        store.swapdb(1, 2)
    with kvstore.open(tmp_path, decode_responses=True) as store:
        found = store.mget("typed", "item", "called", "client", "script", "transaction")
        assert found == ["é", "1", "2", "5", "5", "6"]
        assert store.database(2).get("other") == "7"


def test_a_unit_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with kvstore.open(tmp_path) as store:
        store.set("before", 1)
        store.pipeline().set("a", 1).set("b", 2).execute()
    [log] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    whole = log.read_bytes()
    assert whole.endswith(b"*1\r\n$4\r\nEXEC\r\n")
    for cut in (1, 10, 20, 40):
        log.write_bytes(whole[:-cut])
        with kvstore.open(tmp_path) as store:
            assert store.mget("before", "a", "b") == [b"1", None, None]
        log.write_bytes(whole)
    with kvstore.open(tmp_path) as store:
        assert store.mget("before", "a", "b") == [b"1", b"1", b"2"]


def test_deadlines_pass_while_nobody_has_the_store_open(tmp_path: Path) -> None:
    clock = kvstore.ManualClock()
    with kvstore.open(tmp_path, clock=clock) as store:
        store.set("soon", 1, ex=10)
        store.set("late", 1, ex=1000)
        store.hset("h", mapping={"f": 1, "g": 2})
        store.hexpire("h", 10, "f")
    clock.advance(20)
    with kvstore.open(tmp_path, clock=clock) as store:
        assert store.get("soon") is None and store.ttl("late") == 980 and store.hgetall("h") == {b"g": b"2"}


def test_evictions_are_kept_too(tmp_path: Path) -> None:
    with kvstore.open(tmp_path, maxmemory=100_000, maxmemory_policy="allkeys-lru") as store:
        for number in range(2000):
            store.set(f"k{number}", "x" * 100)
        left = set(store.keys())
        assert 0 < len(left) < 1000
    with kvstore.open(tmp_path) as store:
        assert set(store.keys()) == left


# -- snapshots and the log's length ------------------------------------------------------------------------


def test_snapshots_are_files_for_everybody(tmp_path: Path) -> None:
    with kvstore.open(tmp_path / "a") as store:
        fill(store)
        store.snapshot()
        store.snapshot(tmp_path / "copy.rdb")
        store.set("later", 1)
        before = data_of(store)
    assert (tmp_path / "a" / "dump.rdb").exists()
    # A directory that has only a snapshot, as that of a server without a log: it begins the log.
    (tmp_path / "b").mkdir()
    (tmp_path / "copy.rdb").rename(tmp_path / "b" / "dump.rdb")
    with kvstore.open(tmp_path / "b") as store:
        store.set("later", 1)
        assert data_of(store) == before
    (tmp_path / "b" / "dump.rdb").unlink()
    with kvstore.open(tmp_path / "b") as store:
        assert data_of(store) == before


def log_size(directory: Path) -> int:
    return sum(path.stat().st_size for path in (directory / "appendonlydir").iterdir())


def test_compact_makes_the_log_as_short_as_the_data(tmp_path: Path) -> None:
    with kvstore.open(tmp_path) as store:
        for number in range(3000):
            store.set("k", number)
        fill(store)
        long = log_size(tmp_path)
        before = data_of(store)
        store.compact()
        assert log_size(tmp_path) < long / 10
        store.set("after", 1)
        store.compact()
        store.set("last", 1)
        with pytest.raises(StoreError, match="in a unit"):
            store.pipeline().set("x", 1).compact().execute()
    with kvstore.open(tmp_path) as store:
        assert store.mget("after", "last", "x") == [b"1", b"1", b"1"]
        store.delete("after", "last", "x")
        assert data_of(store) == before
    assert len(list((tmp_path / "appendonlydir").glob("*.aof"))) == 1


def test_a_log_that_grows_is_rewritten_in_slices_of_later_calls(tmp_path: Path) -> None:
    with kvstore.open(tmp_path, fsync="no") as store:
        files = store._pulse.files
        files.settings.auto_aof_rewrite_min_size = 100_000
        for number in range(2000):
            store.set(f"k{number}", number)
        deadline = time.monotonic() + PATIENCE
        number = 0
        while not files.figures.rewrite.count:
            assert time.monotonic() < deadline
            number += 1
            store.set("n", number)
        for key in range(2000):
            assert store.get(f"k{key}") == b"%d" % key
    assert log_size(tmp_path) < 200_000
    with kvstore.open(tmp_path) as store:
        assert store.dbsize() == 2001 and store.get("n") == b"%d" % number


def test_every_method_that_changes_data_gives_the_files_their_time() -> None:
    from kvstore.commands.all import COMMANDS

    every = [each for command in COMMANDS.values() for each in (command, *command.subcommands.values())]
    writing = {each.full_name.replace("|", "_") for each in every if "write" in each.flags}
    assert {name for name in writing if callable(getattr(Store, name, None))} == WRITING - {
        "delete",
        "call",
        "pfcount",
    }
    for name in WRITING:
        assert getattr(DurableStore, name) is not getattr(Store, name), name


# -- who may have it ---------------------------------------------------------------------------------------


def test_a_store_that_is_open_is_refused_to_others(tmp_path: Path) -> None:
    with kvstore.open(tmp_path) as store:
        store.set("k", 1)
        with pytest.raises(
            PersistenceError, match=rf"{tmp_path}.* in use by this process \(pid {os.getpid()}\)"
        ):
            kvstore.open(tmp_path)
        done = in_process("import sys, kvstore; kvstore.open(sys.argv[1])", tmp_path)
        assert done.returncode == 1 and f"in use by the process with pid {os.getpid()}" in done.stderr
        assert store.get("k") == b"1"
    kvstore.open(tmp_path).close()


def test_the_thread_that_opened_it_has_it(tmp_path: Path) -> None:
    with kvstore.open(tmp_path) as store:
        store.set("k", 1)
        raised: list[BaseException] = []

        def elsewhere() -> None:
            for call in (lambda: store.set("k", 2), store.snapshot, store.compact, store.close):
                try:
                    call()
                except WrongThreadError as error:
                    raised.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(PATIENCE)
        assert len(raised) == 4
        assert store.get("k") == b"1"


def test_a_store_of_no_thread_may_be_used_by_all(tmp_path: Path) -> None:
    with kvstore.open(tmp_path, check_same_thread=False) as store:
        for number in range(3):
            thread = threading.Thread(target=lambda number=number: store.set(f"k{number}", number))
            thread.start()
            thread.join(PATIENCE)
    with kvstore.open(tmp_path) as store:
        assert store.mget("k0", "k1", "k2") == [b"0", b"1", b"2"]


# -- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"check_same_thread": False}, {"decode_responses": True}])
def test_a_closed_store_answers_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    store = kvstore.open(tmp_path, **options)
    client, other, pipe = store.client(), store.database(1), store.pipeline()
    store.set("k", 1)
    other.set("k", 1)
    store.close()
    store.close()
    for call in (
        lambda: store.get("k"),
        lambda: store.set("k", 2),
        lambda: other.get("k"),
        lambda: store.database(2).set("k", 2),
        lambda: store.dbsize(),
        lambda: store.keys(),
        lambda: "k" in store,
        lambda: store.snapshot(),
        lambda: store.compact(),
        lambda: pipe.set("k", 2).execute(),
        lambda: store.transaction(lambda pipe: pipe.set("k", 2)),
    ):
        with pytest.raises(PersistenceError, match=f"the store in {tmp_path} is closed"):
            call()
    with pytest.raises(Exception, match="is closed"):
        client.get("k")
    with pytest.raises(StoreError, match="is closed"):
        store.call("GET", "k")
    with kvstore.open(tmp_path) as store:
        assert store.get("k") == b"1"


def test_another_database_may_be_left_without_closing_the_store(tmp_path: Path) -> None:
    with kvstore.open(tmp_path) as store:
        with store.database(1) as other:
            other.set("k", 1)
        other.set("k", 2)
        store.set("k", 3)
    with kvstore.open(tmp_path) as store:
        assert store.get("k") == b"3" and store.database(1).get("k") == b"2"


FORGOTTEN = """
import sys, kvstore
store = kvstore.open(sys.argv[1])
store.set("k", 1)
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("del store", 0), ("sys.exit(3)", 3), ("raise SystemError('x')", 1)]
)
def test_the_end_of_the_program_closes_what_it_forgot(tmp_path: Path, end: str, code: int) -> None:
    done = in_process(FORGOTTEN.format(end=end), tmp_path)
    assert done.returncode == code
    assert "Warning" not in done.stderr and ("Traceback" in done.stderr) == (code == 1)
    with kvstore.open(tmp_path) as store:
        assert store.get("k") == b"1"


def test_a_store_that_nobody_has_any_more_gives_its_directory_back(tmp_path: Path) -> None:
    for number in range(3):
        store = kvstore.open(tmp_path, decode_responses=bool(number % 2))
        store.incr("k")
        store.database(1).set("k", 1)
        del store
        gc.collect()
    with kvstore.open(tmp_path) as store:
        assert store.get("k") == b"3"


FORKED = """
import os, sys, kvstore
store = kvstore.open(sys.argv[1])
store.set("k", 1)
child = os.fork()
if child == 0:
    try:
        store.set("k", 2)
    except kvstore.PersistenceError as error:
        print(error, flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
store.incr("k")
"""


def test_a_forked_process_has_no_part_in_the_store(tmp_path: Path) -> None:
    done = in_process(FORKED, tmp_path)
    assert done.stdout == f"the store in {tmp_path} was opened by the process that this one was forked from\n"
    assert (done.returncode, done.stderr) == (0, "")
    with kvstore.open(tmp_path) as store:
        assert store.get("k") == b"2"


# -- what cannot be opened ---------------------------------------------------------------------------------


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, why in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "no" / "data", "No such file"),
        ("", "empty"),
    ):
        with pytest.raises(StoreError, match=why):
            kvstore.open(path)
    with pytest.raises(ValueError, match="fsync must be one of always, everysec, no"):
        kvstore.open(tmp_path / "data", fsync="sometimes")
    with pytest.raises(TypeError):
        kvstore.open(tmp_path / "data", nonsense=1)
    with pytest.raises(TypeError):
        kvstore.open(fsync="always")
    assert not (tmp_path / "data").exists() and (tmp_path / "file").read_text() == "x"


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "kvstore.lock"
    }


@pytest.mark.parametrize("damaged", ["*.base.rdb", "*.incr.aof", "*.manifest"])
def test_what_cannot_be_read_is_named_and_left_alone(tmp_path: Path, damaged: str) -> None:
    with kvstore.open(tmp_path) as store:
        fill(store)
        store.compact()
        store.set("k", 1)
        store.set("l", 1)
    [path] = (tmp_path / "appendonlydir").glob(damaged)
    data = bytearray(path.read_bytes())
    at = 0 if damaged.endswith("manifest") else 10
    data[at] ^= 0x55
    path.write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises((FormatError, PersistenceError)) as refused:
        kvstore.open(tmp_path)
    assert str(path) in str(refused.value)
    if not damaged.endswith("manifest"):
        assert "offset" in str(refused.value)
    assert contents(tmp_path) == before
    # Nobody has it now.
    data[at] ^= 0x55
    path.write_bytes(data)
    with kvstore.open(tmp_path) as store:
        assert store.get("k") == b"1"


def test_a_damaged_snapshot_begins_no_log(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0009\xfe\x00\x00\x01k")
    before = contents(tmp_path)
    with pytest.raises(FormatError, match=rf"{tmp_path}/dump.rdb.*offset"):
        kvstore.open(tmp_path)
    assert contents(tmp_path) == before


# -- the same files as servers -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kvstore", "redis", "valkey"])
def test_servers_read_a_store_and_it_reads_what_they_write(tmp_path: Path, kind: str) -> None:
    require(kind)
    options = {"dir": str(tmp_path), "appendonly": "yes"}
    with kvstore.open(tmp_path) as store:
        fill(store)
        if kind != "kvstore":
            store.hpersist("h", "g")  # they came with versions that are not here
        store.compact()
        store.pipeline().incr("n").rpush("l", "x").execute()
        before = data_of(store)
    for _ in range(2):
        with running(kind, options=options) as server, server.client() as client:
            assert client.call("DBSIZE") == b":9\r\n"
            assert client.call("INCR", "n") == b":44\r\n"
            assert client.call("DECR", "n") == b":43\r\n"
            client.call("SET", "theirs", "1")
            assert client.call("DEL", "theirs") == b":1\r\n"
            assert client.call("LLEN", "l") == b":300\r\n"
        with kvstore.open(tmp_path) as store:
            assert data_of(store) == before


def test_a_running_server_has_its_directory(tmp_path: Path) -> None:
    with running("kvstore", options={"dir": str(tmp_path), "appendonly": "yes"}) as server:
        with pytest.raises(PersistenceError, match=f"in use by the process with pid {server.process.pid}"):
            kvstore.open(tmp_path)
        server.stop()
        kvstore.open(tmp_path).close()


# -- a disk that is full -----------------------------------------------------------------------------------

FULL = """
import resource, sys, kvstore

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

store = kvstore.open(sys.argv[1], fsync=sys.argv[2])
kept, refused = [], []
limit(4000)
for number in range(200):
    try:
        store.set(f"k{number}", number)
        store.pipeline().rpush("l", number).incr("n").execute()
        kept.append(number)
    except kvstore.PersistenceError as error:
        assert "cannot write" in str(error) and sys.argv[1] in str(error), error
        refused.append(number)
assert len(kept) > 10 and len(refused) > 10, (kept, refused)
assert refused == list(range(len(kept), 200))
for number in refused[1:]:  # from the second one on before anything changed
    assert store.get(f"k{number}") is None
assert store.get("k0") == b"0"
limit(resource.RLIM_INFINITY)
store.set("again", 1)
print(len(kept), flush=True)
import os
if sys.argv[3] == "die":
    os._exit(0)
store.close()
"""


@pytest.mark.parametrize("end", ["close", "die"])
@pytest.mark.parametrize("fsync", ["always", "no"])
def test_a_full_disk_loses_nothing_and_is_got_over(tmp_path: Path, fsync: str, end: str) -> None:
    done = in_process(FULL, tmp_path, fsync, end)
    assert done.returncode == 0, done.stderr
    kept = int(done.stdout)
    with kvstore.open(tmp_path) as store:
        assert store.get("again") == b"1"
        assert store.mget([f"k{number}" for number in range(kept)]) == [
            b"%d" % number for number in range(kept)
        ]
        assert store.llen("l") in (kept, kept + 1) and int(store.get("n")) == store.llen("l")
        store.check()


def test_a_change_is_synced_with_no_call_after_it(tmp_path: Path) -> None:
    with kvstore.open(tmp_path, fsync="everysec") as store:
        log = store._pulse.files.log
        for _ in range(2):
            store.incr("k")
            began = time.monotonic()
            assert log.synced < log.appended
            while log.synced < log.appended:
                assert time.monotonic() < began + PATIENCE
                time.sleep(0.02)


def test_a_store_on_disk_may_be_served(tmp_path: Path) -> None:
    redis = pytest.importorskip("redis")
    store = kvstore.open(tmp_path, check_same_thread=False)
    with kvstore.serve(store=store) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("theirs", 1)
            client.pipeline().incr("n").incr("n").execute()
        server.call(lambda shared: shared.set("mine", 2))
    store.set("after", 3)
    store.close()
    with kvstore.open(tmp_path) as store:
        assert store.mget("theirs", "n", "mine", "after") == [b"1", b"2", b"2", b"3"]
