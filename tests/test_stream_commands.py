"""Stream commands: IDs, trimming by nodes, groups, blocked readers, events, and logs that go both ways."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore import DataError, ManualClock, ResponseError, Store
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.engine.stream_ids import parse_id, parse_new_id, parse_start, parse_stop
from kvstore.engine.types import TYPES
from kvstore.engine.types.stream import Stream
from kvstore.engine.types.stream_layout import radix_nodes
from kvstore.persist.aof import AppendLog
from kvstore.persist.fs import OsFileSystem
from kvstore.persist.replay import load_log
from kvstore.persist.worker import InlineWorker
from tests import servers
from tests.conftest import require
from tests.differential import grammar as grammars
from tests.laws import START_MS, Recorder
from tests.scenario import compare
from tests.seeds import new_seed
from tests.servers import Server
from tests.test_aof_real_servers import caller, caller_of
from tests.test_notifications import hear

TOP = (1 << 64) - 1


@pytest.fixture(params=["redis", "valkey"])
def kind(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def store() -> Store:
    return Store(clock=ManualClock(START_MS))


# -- IDs ---------------------------------------------------------------------------------------------


def test_ids_are_made_of_the_time_and_never_go_back(store: Store) -> None:
    clock = store.ctx.clock
    assert isinstance(clock, ManualClock)
    ids = [store.xadd("s", {"f": 1}), store.xadd("s", {"f": 1})]
    clock.advance(ms=1)
    ids.append(store.xadd("s", {"f": 1}))
    store.xadd("s", {"f": 1}, id=b"%d-5" % (START_MS + 1000))  # from the future
    ids.append(store.xadd("s", {"f": 1}))
    assert ids == [
        b"%d-%d" % id for id in ((START_MS, 0), (START_MS, 1), (START_MS + 1, 0), (START_MS + 1000, 6))
    ]
    store.xadd("t", {"f": 1}, id=f"{START_MS + 9}-{TOP}")
    assert store.xadd("t", {"f": 1}) == b"%d-0" % (START_MS + 10)
    store.xadd("last", {"f": 1}, id=f"{TOP}-{TOP}")
    with pytest.raises(ResponseError, match="exhausted"):
        store.xadd("last", {"f": 1})
    with pytest.raises(ResponseError, match="equal or smaller"):
        store.xadd("t", {"f": 1}, id=f"{START_MS + 9}-*")


def test_ids_are_read_as_c_reads_numbers() -> None:
    assert parse_id("5") == (5, 0) and parse_id("5", TOP) == (5, TOP)
    assert parse_id(b" \t007-+01") == (7, 1) and parse_id(b"1-2\0x") == (1, 2)
    assert parse_id(b"1--01") == (1, TOP)
    assert (parse_id("-"), parse_id("+")) == ((0, 0), (TOP, TOP))
    assert (parse_start("(5"), parse_stop("(5")) == ((5, 1), (5, TOP - 1))
    assert (parse_start(f"(5-{TOP}"), parse_stop("(5-0")) == ((6, 0), (4, TOP))
    assert parse_new_id(b"5-*") == (5, None)
    for wrong in (
        b"",
        b"-1",
        b"1-",
        b"1-1-1",
        b"1_0",
        b"(1",
        f"{TOP + 1}".encode(),
        b"1" * 128,
        b"x",
        b"1--1",
    ):
        with pytest.raises(ResponseError, match="Invalid stream ID"):
            parse_id(wrong)
    for wrong in (f"({TOP}-{TOP}", "(-"):
        with pytest.raises(ResponseError):
            parse_start(wrong)
    with pytest.raises(ResponseError, match="invalid end ID"):
        parse_stop("(0-0")


# -- the typed methods ---------------------------------------------------------------------------------


def test_what_redis_py_refuses_before_it_sends_is_refused(store: Store) -> None:
    wrong: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("xadd", ("s", {}), {}),
        ("xadd", ("s", {"f": 1}), {"maxlen": 1, "minid": 1}),
        ("xadd", ("s", {"f": 1}), {"maxlen": -1}),
        ("xtrim", ("s",), {}),
        ("xrange", ("s",), {"count": 0}),
        ("xread", ({},), {}),
        ("xread", ({"s": 0},), {"block": -1}),
        ("xreadgroup", ("g", "c", {}), {}),
        ("xpending_range", ("s", "g", "-", "+", None), {}),
        ("xclaim", ("s", "g", "c", 0, []), {}),
        ("xclaim", ("s", "g", "c", -1, [1]), {}),
        ("xautoclaim", ("s", "g", "c", -1), {}),
    ]
    for name, args, kwargs in wrong:
        with pytest.raises(DataError):
            getattr(store, name)(*args, **kwargs)
    assert store.dbsize() == 0


def test_a_group_hands_every_entry_to_one_consumer_until_it_is_acknowledged(store: Store) -> None:
    clock = store.ctx.clock
    assert isinstance(clock, ManualClock)
    ids = [store.xadd("jobs", {"n": n}) for n in range(6)]
    store.xgroup_create("jobs", "workers", 0)
    first = store.xreadgroup("workers", "one", {"jobs": ">"}, count=4)
    rest = store.xreadgroup("workers", "two", {"jobs": ">"})
    assert [id for _, entries in (*first, *rest) for id, _ in entries] == ids
    assert store.xreadgroup("workers", "one", {"jobs": ">"}) == []
    assert store.xack("jobs", "workers", *ids[:2], 7) == 2
    assert store.xpending("jobs", "workers") == {
        "pending": 4,
        "min": ids[2],
        "max": ids[5],
        "consumers": [{"name": b"one", "pending": 2}, {"name": b"two", "pending": 2}],
    }
    clock.advance(seconds=60)
    store.xdel("jobs", ids[3])
    assert store.xclaim("jobs", "workers", "two", 61_000, [ids[2]]) == []
    assert store.xautoclaim("jobs", "workers", "two", 60_000, count=2) == [
        ids[4],
        [(ids[2], {b"n": b"2"})],
        [ids[3]],
    ]
    assert store.xpending_range("jobs", "workers", "-", "+", 9, consumername="two")[0] == {
        "message_id": ids[2],
        "consumer": b"two",
        "time_since_delivered": 0,
        "times_delivered": 2,
    }
    assert store.xgroup_delconsumer("jobs", "workers", "two") == 3
    assert store.xinfo_groups("jobs")[0]["pending"] == 0
    store.check()


def test_a_read_that_would_wait_for_ever_is_refused(store: Store) -> None:
    store.xgroup_create("s", "g", mkstream=True)
    assert store.xread({"s": "$"}, block=5) == [] == store.xreadgroup("g", "c", {"s": ">"}, block=5)
    for read in (
        lambda: store.xread({"s": "$"}, block=0),
        lambda: store.xreadgroup("g", "c", {"s": ">"}, block=0),
    ):
        with pytest.raises(ResponseError, match="for ever"):
            read()


def test_changed_limits_of_nodes_count_for_what_is_added_from_then_on(store: Store) -> None:
    for _ in range(250):
        store.xadd("s", {"f": "v"})
    store.ctx.limits.stream_node_max_entries = 10
    for _ in range(30):
        store.xadd("s", {"f": "v"})
    # 100, 100, 50, then tens
    gone = [store.xtrim("s", maxlen=keep) for keep in (200, 170, 80, 29, 15)]
    assert gone == [0, 100, 100, 50, 10]
    store.check()


def test_nodes_of_a_radix_tree_are_counted() -> None:
    def count(*keys: str) -> int:
        return radix_nodes([key.encode() for key in sorted(keys)])

    assert (count(), count("aaaa"), count("aaaa", "aaab")) == (1, 2, 4)
    # a fork at the root, or one byte behind it; runs of one byte, and none
    assert (count("aaaa", "baaa"), count("aaaa", "abaa"), count("a", "b")) == (5, 6, 3)
    assert count("aaaa", "aaab", "aaba", "bbbb") == 1 + 1 + 1 + 2 + 2 + 1 + 1 + 1


# -- beside real servers -------------------------------------------------------------------------------

PLAYS = {
    "who watches a key sees entries, not groups": """
        a> XADD s 1-1 f v
        b> WATCH s
        a> XGROUP CREATE s g 0
        a> XREADGROUP GROUP g c STREAMS s >
        a> XACK s g 1-1
        a> XCLAIM s g d 0 1-1 FORCE JUSTID
        a> XAUTOCLAIM s g c 0 - JUSTID
        a> XGROUP SETID s g 0
        a> XGROUP CREATECONSUMER s g e
        a> XGROUP DELCONSUMER s g c
        a> XGROUP DESTROY s g
        a> XSETID s 5-5
        b> MULTI
        b> PING
        b> EXEC
        b> WATCH s
        a> XADD s 6-1 f v
        b> MULTI
        b> EXEC
        b> WATCH s
        a> XDEL s 1-1
        b> MULTI
        b> EXEC
        b> WATCH s
        a> XTRIM s MAXLEN 0
        b> MULTI
        b> EXEC
        b> WATCH t
        a> XGROUP CREATE t g $ MKSTREAM
        b> MULTI
        b> EXEC
        b> WATCH none
        a> XADD none NOMKSTREAM 1-1 f v
        a> XREAD STREAMS none 0
        b> MULTI
        b> EXEC
    """,
    "readers of a group hear that it is gone": """
        a> XGROUP CREATE s g $ MKSTREAM
        b: XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        c3: XREADGROUP GROUP g two BLOCK 0 STREAMS s >
        d: XREAD BLOCK 0 STREAMS s $
        blocked 3
        a> XGROUP DESTROY s g
        b<
        c3<
        blocked 1
        a> DEL s
        blocked 1
        a> XGROUP CREATE s g $ MKSTREAM
        b: XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        blocked 2
        a> SET s v
        b<
        blocked 1
        a> DEL s
        a> XGROUP CREATE s g $ MKSTREAM
        b: XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        blocked 2
        a> FLUSHALL
        b<
        a> XGROUP CREATE s g $ MKSTREAM
        b: XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        blocked 2
        a> PEXPIRE s 1
        sleep 0.3
        b<
        a> XGROUP CREATE s g $ MKSTREAM
        b: XREADGROUP GROUP g one BLOCK 0 STREAMS s >
        blocked 2
        a> RENAME s t
        b<
        a> MULTI
        a> XADD s 1-1 f v
        a> DEL s
        a> XADD s 2-2 f v
        a> EXEC
        d<
    """,
    "an entry goes to the first who waits": """
        a> XGROUP CREATE s g $ MKSTREAM
        b: XREADGROUP GROUP g one COUNT 1 BLOCK 0 STREAMS s >
        blocked 1
        c: XREADGROUP GROUP g two BLOCK 0 STREAMS s >
        blocked 2
        d3: XREAD BLOCK 0 STREAMS t s $ $
        blocked 3
        a> MULTI
        a> XADD s 1-1 f v
        a> XADD s 2-1 f v
        a> EXEC
        b<
        c<
        d3<
        a> XPENDING s g
        a> XREAD BLOCK 20 STREAMS s $
        a> XREADGROUP GROUP g one BLOCK 20 STREAMS s >
        a> MULTI
        a> XREAD BLOCK 0 STREAMS s $
        a> EXEC
        a> EVAL "return redis.call('XREAD','BLOCK',0,'STREAMS',KEYS[1],'$')" 1 s
        a> EVAL "return redis.call('XRANGE',KEYS[1],'-','+')" 1 s
        a> COMMAND GETKEYS XREAD COUNT 1 STREAMS s t 0 0
        a> COMMAND GETKEYSANDFLAGS XREADGROUP GROUP g c STREAMS s >
        a> COMMAND GETKEYS XGROUP CREATE s g $
        a3> XREAD COUNT 1 STREAMS s s 0 0
        a3> XREADGROUP GROUP g one STREAMS s 0
        a> XDEL s 1-1
        a3> XREADGROUP GROUP g one STREAMS s 0
        a> XREADGROUP GROUP g one STREAMS s 0
    """,
}


@pytest.mark.parametrize("name", PLAYS)
def test_what_clients_see_of_each_other_is_as_on_a_real_server(
    name: str, kvstore_server: Server, valkey_server: Server
) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])


def test_the_last_entry_is_read_by_plus(kvstore_server: Server, valkey_server: Server) -> None:
    compare(
        kvstore_server,
        valkey_server,
        """
        a> XREAD STREAMS s +
        a> XADD s 1-1 f v
        a> XADD s 2-0 f w
        a> XREAD STREAMS s +
        a> XREAD COUNT 5 STREAMS s t + +
        b: XREAD BLOCK 0 STREAMS t +
        blocked 1
        a> XADD t 7-7 f v
        b<
        """,
    )


EVENTS = """
    XADD s 1-1 f v
    XADD s 2-1 f v
    XADD s MAXLEN 1 3-1 f v
    XADD s MAXLEN ~ 1 4-1 f v
    XADD none NOMKSTREAM 1-1 f v
    XTRIM s MAXLEN 5
    XTRIM s MAXLEN 1
    XDEL s 9-9
    XDEL s 4-1
    XSETID s 9-9
    XADD s 10-1 f v
    XGROUP CREATE s g 0
    XGROUP CREATE t g 0 MKSTREAM
    XGROUP SETID s g 0
    XGROUP CREATECONSUMER s g c
    XGROUP CREATECONSUMER s g c
    XREADGROUP GROUP g d STREAMS s >
    XREADGROUP GROUP g c STREAMS s 0
    XACK s g 10-1
    XCLAIM s g e 0 10-1 FORCE
    XAUTOCLAIM s g h 0 -
    XDEL s 10-1
    XAUTOCLAIM s g h 0 -
    XGROUP DELCONSUMER s g c
    XGROUP DELCONSUMER s g none
    XGROUP DESTROY s g
    XREAD STREAMS nothing 0
    XLEN nothing
    XINFO STREAM s
    DEL s t
"""


@pytest.mark.parametrize("classes", ["KEA", "KEAnm", "Kt"])
def test_events_are_those_of_a_real_server(
    classes: str, kvstore_server: Server, valkey_server: Server
) -> None:
    ours, theirs = (list(hear(server, classes, EVENTS)) for server in (kvstore_server, valkey_server))
    assert ours == theirs


# -- logs ----------------------------------------------------------------------------------------------


def random_commands(rng: random.Random, count: int) -> Iterator[tuple[bytes, ...]]:
    """Without deadlines, which two servers do not see at the same instant."""
    grammar = grammars.load("streams")
    for _ in range(count):
        for step in grammar.group(rng):
            if b"EXPIRE" not in step.argv[0].upper():
                yield step.argv


def described(call: Any) -> dict[bytes, Any]:
    """All streams, without what 7.0 does not know or no command tells: times of consumers, nodes."""
    found: dict[bytes, Any] = {}
    for key in sorted(call("KEYS", "*")):
        if bytes(call("TYPE", key)) != b"stream":
            continue
        facts = call("XINFO", "STREAM", key)
        named = as_dict(facts)
        counted = [named[name] for name in (b"length", b"last-generated-id", b"max-deleted-entry-id")]
        groups = {}
        for group in call("XINFO", "GROUPS", key):
            told = as_dict(group)
            del told[b"consumers"]
            name = told[b"name"]
            pending = call("XPENDING", key, name, "-", "+", "1000")
            whole = call("XINFO", "STREAM", key, "FULL", "COUNT", "0")
            groups[name] = told, [(id, who, count) for id, who, _, count in pending], times_of(whole)
        found[key] = counted, named[b"entries-added"], call("XRANGE", key, "-", "+"), groups
    return found


def as_dict(facts: Any) -> dict[bytes, Any]:
    """A map, or the array that it is to some clients."""
    return dict(facts) if isinstance(facts, dict) else dict(zip(facts[::2], facts[1::2], strict=True))


def times_of(facts: list[Any]) -> list[Any]:
    """When what is pending was delivered, of all groups."""
    groups = as_dict(facts)[b"groups"]
    return [as_dict(each)[b"pending"] for each in groups]


def run(call: Any, commands: Iterator[tuple[bytes, ...]]) -> None:
    import redis

    for argv in commands:
        try:
            call(*argv)
        except redis.ResponseError:
            pass


def test_effects_are_commands_by_which_a_real_server_has_the_same(kind: str, request: Any) -> None:
    rng = random.Random(new_seed())
    server = request.getfixturevalue(f"{kind}_server")
    call = caller(server)
    for _ in range(5):
        call("FLUSHALL")
        ctx = Context(Database)
        recorder = Recorder()
        ctx.listen(recorder)
        ours = caller_of(ctx)
        run(ours, random_commands(rng, 300))
        for _, effect in recorder.effects:
            call(*effect)
        assert described(call) == described(ours)
        # So are the commands of a rewritten log.
        call("FLUSHALL")
        mine = described(ours)
        for key in list(mine):
            effects = list(TYPES[Stream].rewrite(key, ctx.database(0)._data[key]))
            if effects[0][0] == b"RESTORE":  # with all that is pending and was deleted
                del mine[key]
                continue
            for effect in effects:
                call(*effect)
        assert described(call) == mine


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_logs_of_real_servers_are_read_and_ours_by_them(kind: str, preamble: str, tmp_path: Path) -> None:
    rng = random.Random(new_seed())
    options = {"dir": str(tmp_path), "appendonly": "yes", "aof-use-rdb-preamble": preamble}
    with servers.running(kind, options=options) as server:
        call = caller(server)
        run(call, random_commands(rng, 200))
        call("BGREWRITEAOF")
        deadline = time.monotonic() + 20
        while b"aof_rewrite_in_progress:1" in call("INFO", "persistence"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run(call, random_commands(rng, 300))
    with servers.running(kind, options=options) as server:  # its log does not tell of entries read again
        theirs = described(caller(server))
    ctx = Context(Database)
    directory = str(tmp_path / "appendonlydir")
    fs = OsFileSystem()
    for _ in load_log(ctx, fs, directory, "appendonly.aof", single=None, load_truncated=False):
        pass
    call = caller_of(ctx)
    ctx.database(0).check()
    assert described(call) == theirs
    log = AppendLog(fs, InlineWorker(), directory, "appendonly.aof", policy="always", now_ms=ctx.clock.now_ms)
    log.begin()
    ctx.listen(log)
    run(call, random_commands(rng, 200))
    log.close()
    mine = described(call)
    with servers.running(kind, options=options) as server:
        assert described(caller(server)) == mine
