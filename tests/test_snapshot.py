"""Snapshots: what is written equals the data at the start, whatever is done between the steps of the walk."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from kvstore.engine import snapshot as walker
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.eviction import POLICIES
from kvstore.engine.snapshot import Entries, Rest, Snapshot
from kvstore.engine.types import TYPES, Target, Value
from kvstore.persist.aof_base import AofBaseWriter
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.rdb_load import load_rdb
from tests.differential import grammar as grammars
from tests.laws import START_MS, Digest, Lawful, digest
from tests.seeds import new_seed
from tests.test_laws import FAMILIES, LIMITS_OF, run_step


@pytest.fixture(autouse=True, params=["written", "copied"])
def small_buckets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few keys make many buckets and many slices; small values that change are written, or copied as if
    they were large."""
    monkeypatch.setattr(walker, "_BUCKET_KEYS", 2)
    monkeypatch.setattr(walker, "_SORTED_AT_ONCE", 3)
    if request.param == "copied":
        monkeypatch.setattr(walker, "_SMALL", 4)


class Found:
    """Entries that are kept as digests. Every container is one that takes several steps to write."""

    def __init__(self) -> None:
        self.data: Digest = {}
        self.open = False

    def keep(self, db: int, key: bytes, value: Value, deadline_ms: int | None) -> None:
        assert (db, key) not in self.data, "written twice"
        record = TYPES[type(value)]
        self.data[db, key] = record.name, record.digest(value), deadline_ms

    def entry(self, db: int, key: bytes, value: Value, deadline_ms: int | None) -> Rest | None:
        assert not self.open, "in the middle of another entry"
        if type(value) is bytes:
            self.keep(db, key, value, deadline_ms)
            return None
        self.open = True
        return Slowly(self, db, key, value, deadline_ms)


class Slowly(Rest):
    """A container that takes three steps."""

    def __init__(self, found: Found, db: int, key: bytes, value: Value, deadline_ms: int | None) -> None:
        self.found, self.db, self.key, self.value, self.deadline_ms = found, db, key, value, deadline_ms
        self.digest = TYPES[type(value)].digest
        self.before = self.digest(value)
        self.steps = 3

    def __next__(self) -> None:
        assert self.digest(self.value) == self.before, "changed before it was written"
        self.steps -= 1
        if not self.steps:
            self.found.keep(self.db, self.key, self.value, self.deadline_ms)
            self.found.open = False
            raise StopIteration

    def let_go(self, copy: Callable[[], Value]) -> None:
        self.value = copy()


class FoundFast(Found):
    """As Found, and takes many strings at once."""

    def strings(
        self, db: int, keys: list[bytes], values: list[bytes], deadlines_ms: list[int | None] | None
    ) -> None:
        assert not self.open, "in the middle of another entry"
        for key, value, deadline in zip(keys, values, deadlines_ms or [None] * len(keys), strict=True):
            self.keep(db, key, value, deadline)


class InFile:
    """Entries that go into an RDB file, which is then loaded."""

    def __init__(self) -> None:
        self.file: list[bytes] = []
        self.writer = RdbWriter(
            self.file.append, target=Target.PORTABLE, compress=True, checksum=True, sizes={0: (9, 9)}
        )
        self.writer.begin()

    @property
    def data(self) -> Digest:
        self.writer.end()
        ctx = Context(Database, clock=ManualClock(START_MS))
        for _ in load_rdb(ctx, b"".join(self.file), path="", now_ms=None):
            pass
        for db in ctx.databases.values():
            db.check()
        return digest(ctx)


def sink(kind: str) -> tuple[Any, Entries]:
    if kind == "file":
        found = InFile()
        return found, found.writer
    entries = Found() if kind == "slow" else FoundFast()
    return entries, entries


class Watched:
    """A snapshot, and what it must find."""

    def __init__(self, ctx: Context, kind: str) -> None:
        self.ctx = ctx
        self.before = digest(ctx)
        self.found, out = sink(kind)
        self.snapshot = Snapshot(ctx, out)
        assert self.snapshot.total == len(self.before)

    def finish(self) -> None:
        self.snapshot.finish()
        assert self.snapshot.written == self.snapshot.total
        assert self.found.data == self.before
        assert all(db._before_change is None for db in self.ctx.databases.values())


@pytest.mark.parametrize("kind", ["slow", "fast", "file"])
def test_what_is_written_is_the_data_at_the_start(kind: str, heavy: bool) -> None:
    """Random commands of all families, and steps of random size between them."""
    rng = random.Random(new_seed())
    everything = [grammars.load(name) for name in FAMILIES]
    for _ in range(300 if heavy else 12):
        ctx = Context(Database, databases=4, clock=ManualClock(START_MS), random=random.Random(rng.random()))
        if rng.random() < 0.7:
            for name, value in LIMITS_OF.items():
                setattr(ctx.limits, name, value)
        if rng.random() < 0.5:
            ctx.keep_order()
        ctx.active_expire = rng.random() < 0.5
        ctx.evictor.configure(policy=rng.choice(POLICIES), maxmemory=rng.choice((0, 0, 3000, 10_000)))
        lawful = Lawful(ctx)
        for step in grammars.PROLOGUE:
            lawful.run(*step.argv)
        step_ms = rng.choice((0, 1, 50, 100_000))
        for _ in range(4):
            run(lawful, everything, rng, 30, step_ms, None)
            watched = Watched(ctx, kind)
            run(lawful, everything, rng, 40, step_ms, watched)
            watched.finish()


def run(
    lawful: Lawful, families: list[Any], rng: random.Random, steps: int, step_ms: int, watched: Watched | None
) -> None:
    clock = lawful.ctx.clock
    assert isinstance(clock, ManualClock)
    for _ in range(steps):
        for step in rng.choice(families).group(rng):
            run_step(lawful, step, clock)
            for _ in range(rng.choice((0, 0, 1, 3))):
                if watched is not None:
                    watched.snapshot.step(0)
        clock.advance(ms=step_ms)


class Machine(RuleBasedStateMachine):
    """Few keys, three databases, and everything that moves data about."""

    keys = st.sampled_from([b"k%d" % n for n in range(12)])
    indexes = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START_MS)
        self.ctx = Context(Database, databases=3, clock=self.clock, random=random.Random(1))
        self.watched: Watched | None = None

    def db(self, index: int) -> Database:
        return self.ctx.database(index)

    @rule(index=indexes, key=keys, value=st.binary(max_size=3), ms=st.sampled_from([None, 5, 500]))
    def set(self, index: int, key: bytes, value: bytes, ms: int | None) -> None:
        self.db(index).set(key, value, px=ms)

    @rule(index=indexes, key=keys, size=st.integers(1, 300))
    def make_hash(self, index: int, key: bytes, size: int) -> None:
        self.db(index).delete(key)
        self.db(index).hset(key, mapping={b"f%d" % n: b"%d" % n for n in range(size)})

    @rule(index=indexes, key=keys)
    def change_in_place(self, index: int, key: bytes) -> None:
        if self.db(index).type(key) == b"hash":
            self.db(index).hincrby(key, b"f0", 1)
            self.db(index).hpexpire(key, 5, b"f1")

    @rule(index=indexes, key=keys, to=keys)
    def rename(self, index: int, key: bytes, to: bytes) -> None:
        if key in self.db(index):
            self.db(index).rename(key, to)

    @rule(index=indexes, key=keys, to=indexes)
    def move(self, index: int, key: bytes, to: int) -> None:
        if index != to:
            self.db(index).move(key, to)

    @rule(index=indexes, key=keys, to=keys, other=indexes)
    def copy(self, index: int, key: bytes, to: bytes, other: int) -> None:
        if (index, key) != (other, to):
            self.db(index).copy(key, to, other, replace=True)

    @rule(index=indexes, key=keys)
    def delete(self, index: int, key: bytes) -> None:
        self.db(index).delete(key)

    @rule(index=indexes, other=indexes)
    def swap(self, index: int, other: int) -> None:
        self.db(0).swapdb(index, other)

    @rule(index=indexes, all_of_them=st.booleans())
    def flush(self, index: int, all_of_them: bool) -> None:
        self.db(index).flushall() if all_of_them else self.db(index).flushdb()

    @rule(ms=st.integers(1, 400))
    def expire(self, ms: int) -> None:
        self.clock.advance(ms=ms)
        for index in range(3):
            self.db(index).expire_due(2)

    @precondition(lambda self: self.watched is None)
    @rule(kind=st.sampled_from(["slow", "fast", "file"]))
    def start(self, kind: str) -> None:
        self.watched = Watched(self.ctx, kind)

    @precondition(lambda self: self.watched is not None)
    @rule(times=st.integers(1, 4))
    def step(self, times: int) -> None:
        assert self.watched is not None
        for _ in range(times):
            self.watched.snapshot.step(0)

    @precondition(lambda self: self.watched is not None)
    @rule()
    def finish(self) -> None:
        self.teardown()

    def teardown(self) -> None:
        if self.watched is not None:
            self.watched.finish()
            self.watched = None


def test_a_state_machine_finds_no_way_round_the_taps(heavy: bool) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=2000 if heavy else 60,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def filled(count: int) -> Context:
    ctx = Context(Database, clock=ManualClock(START_MS))
    for number in range(count):
        ctx.database(0).set(f"k{number}", "v")
    return ctx


def make_large(db: Database, kind: str) -> None:
    words = [b"%d" % n + random.randbytes(500) for n in range(2000)]
    if kind == "list":
        db.rpush("large", *words)
    elif kind == "long list":
        db.rpush("large", *(b"element:%012d" % number for number in range(50_000)))
    elif kind == "set":
        db.sadd("large", *words)
    elif kind == "zset":
        db.zadd("large", {word: n for n, word in enumerate(words)})
    elif kind == "string":
        db.set("large", b"".join(words))
    else:
        db.hset("large", mapping=dict(zip(words, words, strict=True)))
        if kind == "timed hash":
            db.hexpire("large", 100, *words[::3])


def change_large(db: Database, kind: str) -> None:
    if kind in ("list", "long list"):
        db.lpop("large", 100)
        db.lset("large", 300, "changed")
        db.lset("large", -1, "changed")
        db.linsert("large", "before", "changed", "new")
    elif kind == "set":
        db.srem("large", *list(db._data[b"large"])[::2])
    elif kind == "zset":
        db.zremrangebyrank("large", 0, 700)
        db.zadd("large", {b"new": 1})
    elif kind == "string":
        db.append("large", "more")
    else:
        db.hdel("large", *list(db._data[b"large"])[::2])
        db.hset("large", "new", "new")


@pytest.mark.parametrize("kind", ["list", "long list", "set", "zset", "hash", "timed hash", "string"])
def test_what_changes_while_a_large_value_is_written_is_written_after_it_as_it_was(kind: str) -> None:
    ctx = filled(0)
    db = ctx.database(0)
    make_large(db, kind)
    found = InFile()
    snapshot = Snapshot(ctx, found.writer)
    before = digest(ctx)
    for _ in range(5):
        assert not snapshot.step(0)
    for number in range(20):  # of another database, and made too late
        ctx.database(1).set(f"k{number}", "v")
    assert snapshot.written == 0
    change_large(db, kind)
    assert snapshot.written == 0
    assert not snapshot.step(0)
    change_large(db, kind)
    snapshot.finish()
    assert found.data == before


def test_keys_that_change_while_a_large_value_is_written_do_not_wait_for_it() -> None:
    ctx = filled(0)
    db = ctx.database(0)
    make_large(db, "hash")
    for number in range(200):
        db.set(f"k{number}", "v", ex=100)
        db.hset(f"h{number}", "f", "v")
    found = InFile()
    snapshot = Snapshot(ctx, found.writer)
    before = digest(ctx)
    while snapshot._rest is None:
        assert not snapshot.step(0)
    written = snapshot.written
    for number in range(200):
        db.append(f"k{number}", "w")
        db.hset(f"h{number}", "f", "w")
        db.delete(f"k{number}")
    assert snapshot.written == written
    assert snapshot._rest is not None
    snapshot.finish()
    assert snapshot.written == snapshot.total
    assert found.data == before


@pytest.mark.parametrize("kind", ["list", "long list", "set", "zset", "hash", "timed hash"])
def test_a_large_value_that_changes_becomes_the_same_commands(kind: str) -> None:
    ctx = filled(0)
    db = ctx.database(0)
    make_large(db, kind)
    whole: list[bytes] = []
    writer = AofBaseWriter(whole.append)
    for _ in writer.entry(0, b"large", db._data[b"large"], 1 << 50) or ():
        pass
    writer.end()
    parts: list[bytes] = []
    writer = AofBaseWriter(parts.append)
    db.pexpireat("large", 1 << 50)
    snapshot = Snapshot(ctx, writer)
    for _ in range(5):
        assert not snapshot.step(0)
    change_large(db, kind)
    snapshot.finish()
    writer.end()
    assert b"".join(parts) == b"".join(whole)


def test_a_key_made_during_the_snapshot_is_not_in_it_even_if_it_was_deleted_before() -> None:
    ctx = filled(100)
    db = ctx.database(0)
    db._scan_order()
    db.delete("k1")
    watched = Watched(ctx, "fast")
    db.set("k1", "back")
    db.set("new", "v")
    watched.finish()
    assert (0, b"k1") not in watched.found.data


def test_cancelling_takes_all_taps_away_wherever_their_data_is() -> None:
    ctx = filled(100)
    ctx.database(1).set("other", "v")
    snapshot = Snapshot(ctx, Found())
    snapshot.step(0)
    ctx.database(0).swapdb(0, 5)
    ctx.database(1).flushdb()
    snapshot.cancel()
    assert all(db._before_change is None for db in ctx.databases.values())
    assert snapshot.step(0)


def test_one_step_does_not_walk_it_all() -> None:
    ctx = filled(1000)
    ctx.keep_order()
    snapshot = Snapshot(ctx, Found())
    steps = 0
    while not snapshot.step(0):
        steps += 1
    assert steps > 300
