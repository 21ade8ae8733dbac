"""Cold values that are packed: nobody can tell, but by the memory."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvstore import Store
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.memory import weigh_key
from kvstore.engine.packing import LEAST_KEYS, Packer, count_packed, pack_all
from kvstore.engine.snapshot import Snapshot
from kvstore.engine.types import TYPES, Target, Value
from kvstore.engine.types.cold import MOST_BYTES, MOST_ELEMENTS, PACK, UNPACK, container_of, unpacked
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.payload import dump_payload
from kvstore.engine.types.set import Set, filled
from kvstore.engine.types.zset import ZSet
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.rdb_load import read_rdb
from tests.differential import grammar as grammars
from tests.differential.runner import minimal, report
from tests.laws import START_MS, Lawful, digest
from tests.rawclient import parse
from tests.seeds import new_seed
from tests.servers import Server, running
from tests.test_differential import LENGTH, compared
from tests.test_laws import FAMILIES, LIMITS_OF, run_steps
from tests.waiting import until

FOR_EVER = 1 << 62


def is_packed(db: Any, key: bytes) -> bool:
    return type(db._data[key]) in UNPACK


def make_db() -> Database:
    ctx = Context(Database, databases=4, clock=ManualClock(START_MS), random=random.Random(1))
    return ctx.database(0)


# -- a value ------------------------------------------------------------------------------------------

words = st.one_of(
    st.binary(max_size=12),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: b"%d" % number),
    st.integers(0, 20).map(lambda number: b"field:%d" % number),
    st.sampled_from([b"", b"\0", b"\0\xff", b"-", b"n", b"x" * 70]),
)
scores = st.one_of(
    st.floats(allow_nan=False), st.integers(-(1 << 54), 1 << 54).map(float), st.integers(-9, 9).map(float)
)
limits = Limits(hash_max_listpack_entries=5, set_max_intset_entries=5, set_max_listpack_entries=6)
values = st.one_of(
    st.dictionaries(words, words, min_size=1).map(lambda found: Hash.sized(found, limits)),
    st.lists(words, min_size=1).map(lambda found: filled(found, limits)),
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1).map(
        lambda found: filled([b"%d" % number for number in found], Limits())
    ),
    st.dictionaries(words, scores, min_size=1).map(lambda found: ZSet.sized(found, limits)),
    st.dictionaries(words, st.floats(width=16, allow_nan=False), min_size=1).map(
        lambda found: ZSet(found, True)
    ),
    st.lists(words, min_size=1).map(lambda found: List.sized(found, Limits(list_max_listpack_size=4))),
)


def seen(value: Value) -> Any:
    """All that there is to see of a container, in its order."""
    if isinstance(value, ZSet):
        return [(member, repr(score)) for member, score in value.scores.items()], value.wide
    if isinstance(value, List):
        return list(value), value.quick, value.size
    if isinstance(value, Set):
        return list(value), value.encoding
    return list(value.items()), value.wide


@given(values)
@settings(max_examples=400, deadline=None)
def test_a_packed_value_is_the_same_value(value: Value) -> None:
    packed = PACK[type(value)](value)
    assert packed is not None
    assert container_of(packed) is type(value)
    again = unpacked(packed)
    assert type(again) is type(value)
    assert seen(again) == seen(value)
    mine, other = TYPES[type(packed)], TYPES[type(value)]
    mine.check(packed)
    assert mine.name == other.name
    assert mine.digest(packed) == other.digest(value)
    assert mine.encoding(packed, limits) == other.encoding(value, limits)
    assert list(mine.rewrite(b"k", packed)) == list(other.rewrite(b"k", value))
    assert dump_payload(packed) == dump_payload(value)
    for target in Target:
        assert mine.rdb_type(packed, target) == other.rdb_type(value, target)
        for compress in (False, True):
            assert b"".join(mine.dump(packed, target, compress)) == b"".join(
                other.dump(value, target, compress)
            )


def test_what_cannot_be_packed_stays_as_it_is() -> None:
    db = make_db()
    every_byte = [bytes((byte,)) for byte in range(256)]
    db.rpush("bytes", *every_byte[:128], b"".join(every_byte[128:]))
    db.rpush("many", *range(MOST_ELEMENTS + 1))
    db.rpush("long", b"x" * (MOST_BYTES + 1))
    db.hset("deadline", "a", "1")
    db.hexpire("deadline", 100, "a")
    db.hset("persisted", "a", "1")
    db.hexpire("persisted", 100, "a")
    db.hpersist("persisted", "a")
    db.xadd("stream", {"a": "1"})
    db.set("string", "1")
    assert pack_all(db.ctx) == 0
    assert db.object("encoding", "persisted") == b"listpackex"


# -- a store ------------------------------------------------------------------------------------------


def test_commands_that_need_no_elements_leave_values_packed() -> None:
    db = make_db()
    db.hset("h", mapping={"a": "1", "b": "2"})
    db.sadd("s", 1, 2)
    db.zadd("z", {"a": 1})
    db.rpush("l", "a", "b")
    assert pack_all(db.ctx) == 4
    names = {b"h": b"hash", b"s": b"set", b"z": b"zset", b"l": b"list"}
    for key, name in names.items():
        assert db.type(key) == name
        assert db.exists(key) == 1
        assert db.ttl(key) == -1
        assert db.expire(key, 100)
        assert db.object("encoding", key) == (b"intset" if key == b"s" else b"listpack")
        assert db.dump(key)
        assert db.rename(key, b"new")
        assert db.rename(b"new", key)
        assert db.copy(key, b"copy:" + key)
        assert db.move(key, 1)
        assert db.ctx.database(1).move(key, 0)
        with pytest.raises(Exception, match="WRONGTYPE"):
            db.get(key)
        assert is_packed(db, key)
        assert is_packed(db, b"copy:" + key)
    db.swapdb(0, 1)
    assert is_packed(db.ctx.database(1), b"h")
    db.check()
    db.swapdb(0, 1)
    assert db.delete("h", "copy:h") == 2
    assert db.scard("s") == 2 and not is_packed(db, b"s")
    assert db.smembers("copy:s") == {b"1", b"2"}
    assert db.zadd("z", {"b": 2}) == 1
    assert db.zrange("copy:z", 0, -1) == [b"a"]
    assert db.lpop("l") == b"a"
    assert db.lrange("copy:l", 0, -1) == [b"a", b"b"]
    db.check()


# Replies that tell of memory, or of the order of a dict.
_UNALIKE = {b"MEMORY", b"DEBUG", b"INFO"}
_UNORDERED = {b"KEYS"}


class _Twin:
    """A session on a store of its own."""

    def __init__(self, seed: int, small_limits: bool) -> None:
        self.clock = ManualClock(START_MS)
        self.ctx = Context(Database, databases=4, clock=self.clock, random=random.Random(seed))
        if small_limits:
            for name, value in LIMITS_OF.items():
                setattr(self.ctx.limits, name, value)
        self.ctx.keep_order()
        self.session = Session(Hub(self.ctx), TREE2)

    def run(self, argv: tuple[bytes, ...]) -> Any:
        reply = self.session.call(list(argv))
        return sorted(reply) if argv[0].upper() in _UNORDERED and type(reply) is list else reply


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), small_limits=st.booleans())
def test_packing_after_every_command_changes_no_reply(family: str, seed: int, small_limits: bool) -> None:
    packing, plain = _Twin(seed, small_limits), _Twin(seed, small_limits)
    rng, grammar = random.Random(seed), grammars.load(family)
    steps = list(grammars.PROLOGUE)
    for _ in range(60):
        steps += grammar.group(rng)
    for step in steps:
        argv = step.argv
        if argv[0] == b"@SCAN":
            argv = (
                (*argv[1:2], b"0", *argv[2:]) if argv[1].upper() == b"SCAN" else (*argv[1:3], b"0", *argv[3:])
            )
        elif argv[0][:1] == b"@":
            continue
        mine, other = packing.run(argv), plain.run(argv)
        if argv[0].upper() not in _UNALIKE:
            assert mine == other, argv
        pack_all(packing.ctx)
        packing.clock.advance(ms=40)
        plain.clock.advance(ms=40)
    assert digest(packing.ctx) == digest(plain.ctx)
    for index, db in plain.ctx.databases.items():
        twin = packing.ctx.database(index)
        twin.check()
        assert twin._expires == db._expires
        for key in db._data:
            assert seen_of(twin, key) == seen_of(db, key)


def seen_of(db: Database, key: bytes) -> Any:
    value = unpacked(db._data[key])
    return db.object("encoding", key), seen(value) if type(value) in PACK else dump_payload(value)


def test_the_laws_hold_where_everything_is_packed_all_the_time(
    heavy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = new_seed()
    rng = random.Random(seed)

    class Packing(Lawful):
        def run(self, *argv: bytes) -> Any:
            reply = super().run(*argv)
            before, dirty = digest(self.ctx), [db.dirty for db in self.ctx.databases.values()]
            self.recorder.take()
            pack_all(self.ctx)
            assert digest(self.ctx) == before
            assert [db.dirty for db in self.ctx.databases.values()] == dirty
            assert not self.recorder.commits and not self.recorder.events
            self.check()
            return reply

    everything = [grammars.load(name) for name in FAMILIES]
    for policy in ("noeviction", "allkeys-lru", "volatile-lfu", "allkeys-random") * (10 if heavy else 1):
        ctx = Context(Database, databases=4, clock=ManualClock(START_MS), random=random.Random(seed))
        for name, value in LIMITS_OF.items():
            setattr(ctx.limits, name, value)
        ctx.evictor.configure(policy=policy, maxmemory=rng.choice((0, 4000, 10_000)))
        lawful = Packing(ctx)
        for _ in range(12):
            run_steps(lawful, rng.choice(everything), rng, 12, rng.choice((0, 50, 100_000)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["hashes", "sets", "zsets", "lists", "generic", "sort", "tx", "blocking"])
def test_real_servers_say_the_same_as_one_that_packs_after_every_command(
    family: str, valkey_server: Server, heavy: bool
) -> None:
    seed = new_seed()
    with (
        running("kvstore", options={"enable-debug-command": "yes"}) as ours,
        compared(ours, valkey_server, family, 3) as pair,
    ):
        pair.between = ("DEBUG", "PACK")
        for number in range(200 if heavy else 3):
            groups = pair.sequence(f"{seed}:{number}", LENGTH)
            mismatch = pair.run(groups)
            if mismatch is not None:
                pytest.fail(report(pair, *minimal(pair, groups, mismatch)))


# -- beside others ------------------------------------------------------------------------------------


def test_memory_is_accounted_when_values_are_packed_and_unpacked() -> None:
    db = make_db()
    db.ctx.evictor.configure(maxmemory=1 << 30)
    for number in range(100):
        db.hset(f"h{number}", mapping={f"field:{at}": "value" for at in range(10)})
    before = db.ctx.evictor.used_memory()
    pack_all(db.ctx)
    packed = db.ctx.evictor.used_memory()
    assert packed < before / 3
    assert packed == sum((weigh_key(db, key) + 15) // 16 * 16 for key in db._data)
    assert count_packed(db.ctx) == 100
    for number in range(100):
        db.hlen(f"h{number}")
    assert db.ctx.evictor.used_memory() == before
    assert count_packed(db.ctx) == 0
    assert (db.ctx.stats.packed, db.ctx.stats.unpacked) == (100, 100)


def test_packed_values_are_evicted() -> None:
    db = make_db()
    for number in range(300):
        db.rpush(f"l{number}", *range(20))
    pack_all(db.ctx)
    db.ctx.evictor.configure(maxmemory=20_000, policy="allkeys-lru")
    while db.ctx.evictor.used_memory() > 20_000:
        assert db.ctx.evictor.make_room()
    assert 0 < db.dbsize() < 300
    db.check()


def test_packed_values_expire() -> None:
    db = make_db()
    clock = db.ctx.clock
    assert isinstance(clock, ManualClock)
    for number in range(50):
        db.hset(f"h{number}", "a", "1")
        db.pexpire(f"h{number}", 100 * number + 1)
    for number in range(50, 60):
        db.hset(f"h{number}", "a", "1")
        db.pexpire(f"h{number}", 10)
        db.pexpire(f"h{number}", 100 * number + 1)
    pack_all(db.ctx)
    db.check()
    clock.advance(ms=2001)
    assert db.dbsize() == 39
    pack_all(db.ctx)
    clock.advance(ms=5000)
    db.expire_due()
    assert not db._data
    db.check()


def test_packing_does_not_touch_watched_keys() -> None:
    store = Store()
    store.hset("h", "a", "1")
    client = store.client()
    pipe = client.pipeline()
    pipe.watch("h")
    assert store.pack() == 1
    assert store.hget("h", "a") == b"1"  # which unpacks it
    assert store.pack() == 1
    pipe.multi()
    pipe.hset("h", "a", "2")
    assert pipe.execute() == [0]


def test_a_client_blocked_on_a_key_gets_the_packed_list_that_comes_there() -> None:
    options = {"enable-debug-command": "yes"}
    with running("kvstore", options=options) as server, server.client() as waits, server.client() as other:
        other.call("RPUSH", "from", "a", "b")
        assert other.call("DEBUG", "PACK") == b":1\r\n"
        waits.send("BLPOP", "to", "0")
        until(lambda: b"blocked_clients:1" in other.call("INFO", "clients"), "a blocked client")
        other.call("RENAME", "from", "to")
        assert waits.read_reply_bytes() == b"*2\r\n$2\r\nto\r\n$1\r\na\r\n"


def test_a_snapshot_is_of_its_moment_whatever_is_packed_meanwhile() -> None:
    seed = new_seed()
    rng = random.Random(seed)
    for _ in range(20):
        db = make_db()
        for number in range(300):
            kind = number % 4
            if kind == 0:
                db.hset(f"k{number}", mapping={f"f{at}": at for at in range(rng.randrange(1, 100))})
            elif kind == 1:
                db.sadd(f"k{number}", *range(rng.randrange(1, 300)))
            elif kind == 2:
                db.zadd(f"k{number}", {f"m{at}": at / 2 for at in range(rng.randrange(1, 200))})
            else:
                db.rpush(f"k{number}", *(b"x" * at for at in range(rng.randrange(1, 300))))
            if rng.random() < 0.3:
                db.expire(f"k{number}", 1000)
        if rng.random() < 0.5:
            pack_all(db.ctx)
        start = digest(db.ctx)
        content: list[bytes] = []
        writer = RdbWriter(content.append, target=Target.PORTABLE, compress=True, checksum=True)
        writer.begin()
        snapshot = Snapshot(db.ctx, writer)
        while not snapshot.step(1):
            for _ in range(3):
                key = f"k{rng.randrange(300)}"
                match db.type(key):
                    case b"hash":
                        db.hset(key, "new", "1")
                    case b"set":
                        db.srem(key, 0)
                    case b"zset":
                        db.zpopmax(key)
                    case b"list":
                        db.lpush(key, "new")
                    case _:
                        db.set(key, "new")
            if rng.random() < 0.5:
                pack_all(db.ctx)
        writer.end()
        db.check()
        found = {}
        for record in read_rdb(b"".join(content), db.ctx.limits):
            if hasattr(record, "key"):
                kind_of = TYPES[type(record.value)]
                found[record.db, record.key] = kind_of.name, kind_of.digest(record.value), record.deadline_ms
        assert found == start


def test_a_scan_meets_all_keys_and_elements_whatever_is_packed_meanwhile() -> None:
    seed = new_seed()
    rng = random.Random(seed)
    db = make_db()
    for name, value in LIMITS_OF.items():
        setattr(db.ctx.limits, name, value)
    for number in range(200):
        db.hset(f"h{number}", "a", "1")
    db.hset("wide", mapping={f"f{at}": at for at in range(100)})
    db.sadd("wide set", *range(100))
    cursors = {"": 0, "h": 0, "s": 0}
    met: dict[str, set[bytes]] = {name: set() for name in cursors}
    kept = {"": {b"h%d" % at for at in range(200)}, "h": {b"f%d" % at for at in range(100)}, "s": set()}
    kept["s"] = {b"%d" % at for at in range(100)}
    while cursors:
        for name in list(cursors):
            cursor, found = (
                db.scan(cursors[name])
                if name == ""
                else db.hscan("wide", cursors[name])
                if name == "h"
                else db.sscan("wide set", cursors[name])
            )
            met[name] |= set(found)
            cursors[name] = cursor
            if not cursor:
                del cursors[name]
        if rng.random() < 0.5:
            pack_all(db.ctx)
        gone = rng.randrange(1000)
        db.hset(f"new{gone}", "a", "1")
        db.delete(f"new{rng.randrange(1000)}")
        db.hset("wide", f"new{gone}", 1)
        db.hdel("wide", f"new{rng.randrange(1000)}")
        db.sadd("wide set", f"new{gone}")
        db.check()
    for name, all_of in kept.items():
        assert all_of <= met[name]


# -- when ---------------------------------------------------------------------------------------------


def fill(db: Database, prefix: str, count: int = LEAST_KEYS) -> None:
    for number in range(count):
        db.hset(f"{prefix}{number}", mapping={"a": number, "b": number})


def packed_keys(db: Database) -> int:
    return sum(type(value) in UNPACK for value in db._data.values())


def test_a_pass_packs_what_was_there_at_the_last_one() -> None:
    db, packer = make_db(), None
    packer = Packer(db.ctx)
    fill(db, "old")
    assert packer.step(FOR_EVER) and packed_keys(db) == 0
    fill(db, "new", 100)
    assert packer.step(FOR_EVER) and packed_keys(db) == LEAST_KEYS
    assert packer.step(FOR_EVER) and packed_keys(db) == LEAST_KEYS + 100
    db.check()


def test_what_was_used_is_left_alone_for_some_passes() -> None:
    db = make_db()
    packer = Packer(db.ctx)
    fill(db, "k")
    for _ in range(2):
        packer.step(FOR_EVER)
    for number in range(LEAST_KEYS // 2):
        assert db.hget(f"k{number}", "a") == b"%d" % number
    passes = 0
    while packed_keys(db) < LEAST_KEYS:
        assert passes < 10 and packed_keys(db) == LEAST_KEYS // 2
        passes += 1
        packer.step(FOR_EVER)
    assert passes > 3


def test_a_small_database_and_one_of_strings_are_not_walked() -> None:
    db = make_db()
    packer = Packer(db.ctx)
    fill(db, "k", 10)
    fill_strings = db.ctx.database(1)
    for number in range(2 * LEAST_KEYS):
        fill_strings.set(f"s{number}", "x")
    for _ in range(4):
        packer.step(FOR_EVER)
    assert packed_keys(db) == 0
    assert db._order is None and fill_strings._order is None


def test_a_pass_goes_on_in_slices_while_the_data_changes() -> None:
    seed = new_seed()
    rng = random.Random(seed)
    db = make_db()
    packer = Packer(db.ctx)
    fill(db, "k", 2 * LEAST_KEYS)
    expected = digest(db)
    for _ in range(3):
        while not packer.step(1):
            key = f"k{rng.randrange(2 * LEAST_KEYS)}".encode()
            match rng.randrange(40):
                case 0:
                    db.delete(key)
                    expected.pop((0, key), None)
                case 1:
                    db.hset(key, mapping={"new": "1"})
                    expected[0, key] = digest(db)[0, key]
                case 2:
                    db.swapdb(0, 1)
                    db.swapdb(0, 1)
                case _:
                    db.hgetall(key)
        db.check()
    assert digest(db) == expected
    packer.step(1)
    db.flushall()
    packer.step(FOR_EVER)
    assert not db._data
    db.check()


def test_a_server_packs_what_is_cold_and_tells() -> None:
    with running("kvstore", options={"pack-cold-after": "1"}) as server, server.client() as client:
        for number in range(LEAST_KEYS):
            client.call("RPUSH", f"l{number}", "a", "b")
        told = f"mem_packed_values:{LEAST_KEYS}".encode()
        until(lambda: told in client.call("INFO", "memory"), "cold values to be packed")
        assert f"total_packed_values:{LEAST_KEYS}".encode() in client.call("INFO", "stats")
        assert [item.text for item in parse(client.call("LRANGE", "l7", 0, -1)).items or ()] == [b"a", b"b"]
        assert client.call("CONFIG", "SET", "pack-cold-after", "0") == b"+OK\r\n"
        assert b"total_unpacked_values:1" in client.call("INFO", "stats")
