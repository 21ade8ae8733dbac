"""Eviction by each policy, the accounting of memory, and the record of uses."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.eviction import POLICIES
from kvstore.engine.memory import Accountant, weigh_key
from kvstore.errors import ResponseError
from tests.laws import START_MS, Lawful, Recorder

KEY = "k%04d"
LRU_ERROR = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching"
LFU_ERROR = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when"


def make(policy: str = "noeviction", maxmemory: int = 0, seed: int = 1) -> Database:
    ctx = Context(Database, clock=ManualClock(START_MS), random=random.Random(seed))
    ctx.evictor.configure(policy=policy, maxmemory=maxmemory)
    return ctx.database(0)


def fill(db: Database, count: int, **options: Any) -> None:
    for n in range(count):
        db.set(KEY % n, "v" * 100, **options)
        advance(db, 1)


def advance(db: Database, ms: int) -> None:
    clock = db.ctx.clock
    assert isinstance(clock, ManualClock)
    clock.advance(ms=ms)


def limit_to(db: Database, keys: int, policy: str | None = None) -> None:
    """Set the limit at which that many of ``fill``'s keys fit."""
    size = (weigh_key(db, db.keys()[0]) + 15) // 16 * 16
    db.ctx.evictor.configure(maxmemory=size * keys, policy=policy)


def numbers(db: Database) -> set[int]:
    return {int(key[1:]) for key in db.scan_iter()}


class TestLimit:
    def test_there_is_room_while_no_limit_is_set(self) -> None:
        db = make()
        fill(db, 10)
        assert db.ctx.evictor.make_room() is True
        assert db.ctx.listeners == []

    def test_noeviction_keeps_all_and_has_no_room(self) -> None:
        db = make()
        fill(db, 100)
        limit_to(db, 50)
        assert db.ctx.evictor.make_room() is False
        assert db.dbsize() == 100
        db.delete(*db.keys()[:50])
        assert db.ctx.evictor.make_room() is True

    @pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "noeviction"])
    def test_every_other_policy_evicts_down_to_the_limit_and_no_further(self, policy: str) -> None:
        db = make()
        fill(db, 100, px=1_000_000)
        limit_to(db, 60, policy)
        assert db.ctx.evictor.make_room() is True
        assert db.dbsize() == 60
        assert db.ctx.stats.evicted == 40
        assert db.ctx.evictor.make_room() is True
        assert db.dbsize() == 60
        db.check()

    @pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.startswith("volatile")])
    def test_volatile_policies_spare_what_has_no_deadline(self, policy: str) -> None:
        db = make()
        fill(db, 50)
        for n in range(50, 100):
            db.set(KEY % n, "v" * 100, px=1_000_000)
        limit_to(db, 20, policy)
        assert db.ctx.evictor.make_room() is False
        assert numbers(db) == set(range(50))

    def test_much_goes_in_slices(self) -> None:
        db = make()
        fill(db, 2000)
        limit_to(db, 10, "allkeys-lru")
        assert db.ctx.evictor.make_room() is True
        assert 10 < db.dbsize() < 2000
        for _ in range(10):
            db.ctx.evictor.make_room()
        assert db.dbsize() == 10

    def test_all_databases_are_one_store(self) -> None:
        db = make()
        other = db.ctx.database(3)
        fill(db, 50)
        for n in range(50):
            other.set(KEY % n, "v" * 100)
        limit_to(db, 60, "allkeys-random")
        db.ctx.evictor.make_room()
        assert db.dbsize() + other.dbsize() == 60
        assert db.dbsize() < 50 and other.dbsize() < 50

    def test_an_eviction_is_a_commit(self) -> None:
        db = make("allkeys-lru", 1 << 30)
        fill(db, 2)
        recorder = Recorder()
        db.ctx.listen(recorder)
        limit_to(db, 1)
        db.ctx.evictor.make_room()
        assert recorder.effects == [(0, (b"DEL", b"k0000"))]
        assert recorder.events == [(0, "evicted", b"k0000")]

    def test_an_unknown_policy_is_refused(self) -> None:
        with pytest.raises(ValueError, match="allkeys-best"):
            make("allkeys-best")


class TestWhoGoes:
    def test_lru_spares_what_was_used_last(self) -> None:
        db = make("allkeys-lru", 1 << 30)
        fill(db, 200)
        for n in range(0, 200, 2):
            db.get(KEY % n)
            advance(db, 1)
        limit_to(db, 100)
        db.ctx.evictor.make_room()
        assert len({n for n in numbers(db) if n % 2 == 0}) >= 90

    def test_lfu_spares_what_was_used_often(self) -> None:
        db = make("allkeys-lfu", 1 << 30)
        fill(db, 200)
        for _ in range(30):
            for n in range(0, 200, 2):
                db.get(KEY % n)
        for n in range(200):
            db.get(KEY % n)  # used last does not help
        limit_to(db, 100)
        db.ctx.evictor.make_room()
        assert len({n for n in numbers(db) if n % 2 == 0}) >= 95

    def test_ttl_spares_what_would_live_long(self) -> None:
        db = make()
        for n in range(200):
            db.set(KEY % n, "v" * 100, px=1_000_000 if n % 2 else 500_000)
        limit_to(db, 100, "volatile-ttl")
        db.ctx.evictor.make_room()
        assert len({n for n in numbers(db) if n % 2}) >= 90

    def test_random_evicts_each_with_the_same_chance(self) -> None:
        gone = [0] * 20
        for seed in range(400):
            db = make(seed=seed)
            fill(db, 20)
            limit_to(db, 19, "allkeys-random")
            db.ctx.evictor.make_room()
            gone[next(iter(set(range(20)) - numbers(db)))] += 1
        assert sum((count - 20) ** 2 / 20 for count in gone) < 50  # chi-square of 19 degrees

    def test_a_candidate_that_was_used_meanwhile_is_spared(self) -> None:
        db = make("allkeys-lru", 1 << 30)
        fill(db, 16)
        limit_to(db, 15)
        db.ctx.evictor.make_room()  # k0000 or another old one went; the rest of the sample is in the pool
        pooled = [key for _, _, key in db.ctx.evictor._pool]
        assert pooled
        for key in pooled:
            db.get(key)
            advance(db, 1)
        before = numbers(db)
        unused = before - {int(key[1:]) for key in pooled}
        limit_to(db, 14)
        db.ctx.evictor.make_room()
        assert before - numbers(db) <= unused

    def test_evicted_keys_leave_nothing_behind(self) -> None:
        for policy in POLICIES[1:]:
            db = make(policy, 1 << 30)
            fill(db, 300, px=500_000)
            limit_to(db, 30)
            for _ in range(3):
                db.ctx.evictor.make_room()
            db.check()
            assert db._access is None or len(db._access) == 30


class TestUses:
    def test_nothing_is_recorded_unless_somebody_needs_it(self) -> None:
        for policy, maxmemory, recorded in (
            ("noeviction", 100, False),
            ("allkeys-random", 100, False),
            ("volatile-ttl", 100, False),
            ("allkeys-lru", 0, False),
            ("allkeys-lru", 100, True),
            ("volatile-lru", 100, True),
            ("allkeys-lfu", 0, True),
            ("volatile-lfu", 100, True),
        ):
            db = make(policy, maxmemory)
            assert (db._on_access is not None) is recorded, policy
            assert (db.ctx.database(5)._on_access is not None) is recorded, policy

    def test_the_record_ends_when_the_need_does(self) -> None:
        db = make("allkeys-lru", 1 << 30)
        fill(db, 3)
        assert db._access is not None and len(db._access) == 3
        db.ctx.evictor.configure(policy="noeviction")
        assert db._access is None and db._on_access is None

    def test_idle_time_counts_from_the_first_question(self) -> None:
        db = make()
        fill(db, 1)
        advance(db, 60_000)
        assert db.object("idletime", KEY % 0) == 0
        advance(db, 60_999)
        assert db.object("idletime", KEY % 0) == 60
        db.ctx.evictor.configure(policy="volatile-ttl")
        assert db.object("idletime", KEY % 0) == 60
        db.get(KEY % 0)
        assert db.object("idletime", KEY % 0) == 0

    def test_each_policy_answers_its_own_question(self) -> None:
        db = make("allkeys-lfu")
        fill(db, 1)
        with pytest.raises(ResponseError) as caught:
            db.object("idletime", KEY % 0)
        assert str(caught.value).startswith(LRU_ERROR)
        assert db.object("freq", KEY % 0) == 5
        db.ctx.evictor.configure(policy="allkeys-lru")
        with pytest.raises(ResponseError) as caught:
            db.object("freq", KEY % 0)
        assert str(caught.value).startswith(LFU_ERROR)

    def test_the_counter_is_logarithmic(self) -> None:
        db = make("allkeys-lfu")
        fill(db, 1)
        found = []
        for uses in (1, 9, 90, 900, 9000):
            for _ in range(uses):
                db.get(KEY % 0)
            found.append(db.object("freq", KEY % 0))
        assert found[0] == 6
        assert found == sorted(found)
        assert 6 <= found[2] <= 20 and 30 <= found[4] <= 80

    def test_a_factor_of_zero_counts_every_use(self) -> None:
        db = make("allkeys-lfu")
        db.ctx.evictor.configure(lfu_log_factor=0)
        fill(db, 1)
        for _ in range(20):
            db.get(KEY % 0)
        assert db.object("freq", KEY % 0) == 25
        for _ in range(500):
            db.get(KEY % 0)
        assert db.object("freq", KEY % 0) == 255

    def test_the_counter_decays_by_minutes(self) -> None:
        db = make("allkeys-lfu")
        db.ctx.evictor.configure(lfu_log_factor=0)
        fill(db, 1)
        for _ in range(20):
            db.get(KEY % 0)
        advance(db, 3 * 60_000)
        assert db.object("freq", KEY % 0) == 22
        db.ctx.evictor.configure(lfu_decay_time=3)
        assert db.object("freq", KEY % 0) == 24
        db.ctx.evictor.configure(lfu_decay_time=0)
        assert db.object("freq", KEY % 0) == 25
        db.ctx.evictor.configure(lfu_decay_time=1)
        advance(db, 300 * 60_000)
        assert db.object("freq", KEY % 0) == 0

    def test_what_looks_at_keys_is_no_use_of_them(self) -> None:
        db = make("allkeys-lfu")
        db.ctx.evictor.configure(lfu_log_factor=0)
        fill(db, 1)
        for look in (db.exists, db.type, db.ttl, db.memory_usage):
            look(KEY % 0)
        assert db.object("freq", KEY % 0) == 5
        db.touch(KEY % 0)
        assert db.object("freq", KEY % 0) == 6

    def test_an_overwritten_or_renamed_key_keeps_its_counter(self) -> None:
        db = make("allkeys-lfu")
        db.ctx.evictor.configure(lfu_log_factor=0)
        fill(db, 1)
        for _ in range(10):
            db.get(KEY % 0)
        db.set(KEY % 0, "new")
        db.rename(KEY % 0, "other")
        assert db.object("freq", "other") >= 15


class TestAccounting:
    def test_used_memory_follows_the_data(self) -> None:
        db = make("noeviction", 1 << 30)
        evictor = db.ctx.evictor
        assert evictor.used_memory() == 0
        fill(db, 100)
        full = evictor.used_memory()
        assert full > 100 * 100
        db.append(KEY % 0, "x" * 5000)
        assert 4900 < evictor.used_memory() - full < 5200
        db.delete(*db.keys()[:50])
        assert evictor.used_memory() < full * 0.6 + 5200
        db.flushall()
        assert evictor.used_memory() == 0

    def test_without_a_limit_it_is_a_guess_that_is_exact_for_small_stores(self) -> None:
        db = make()
        fill(db, 800)
        guessed = db.ctx.evictor.used_memory()
        db.ctx.evictor.configure(maxmemory=1 << 30)
        assert abs(db.ctx.evictor.used_memory() - guessed) <= 16 * 800
        fill(db, 5000)
        exact = db.ctx.evictor.used_memory()
        db.ctx.evictor.configure(maxmemory=0)
        assert abs(db.ctx.evictor.used_memory() - exact) < exact * 0.1

    def test_moves_and_swaps_are_followed(self) -> None:
        db = make("noeviction", 1 << 30)
        fill(db, 20)
        before = db.ctx.evictor.used_memory()
        db.move(KEY % 0, 1)
        db.swapdb(0, 1)
        db.rename(KEY % 0, KEY % 99)
        assert db.ctx.evictor.used_memory() == before
        db.copy(KEY % 99, "copy", 2)
        assert db.ctx.evictor.used_memory() > before
        accountant = db.ctx.evictor._accountant
        assert accountant is not None
        accountant.check()

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 1 << 32), st.sampled_from(POLICIES))
    def test_the_total_is_what_a_fresh_count_gives(self, seed: int, policy: str) -> None:
        rng = random.Random(seed)
        ctx = Context(Database, databases=3, clock=ManualClock(START_MS), random=random.Random(seed))
        ctx.evictor.configure(policy=policy, maxmemory=3000)
        lawful = Lawful(ctx)
        for _ in range(60):
            db = ctx.database(rng.randrange(3))
            key = b"k%d" % rng.randrange(12)
            match rng.randrange(9):
                case 0 | 1 | 2:
                    db.append(key, b"x" * rng.randrange(200))
                case 3:
                    db.pexpire(key, rng.randrange(1, 2000))
                case 4:
                    db.delete(key)
                case 5:
                    ctx.clock.advance(ms=rng.randrange(600))  # type: ignore[attr-defined]
                case 6:
                    db.swapdb(rng.randrange(3), rng.randrange(3))
                case 7:
                    if db.exists(key):
                        db.rename(key, b"k%d" % rng.randrange(12))
                case 8:
                    db.flushdb()
            room = ctx.evictor.make_room()
            lawful.check()
            accountant = ctx.evictor._accountant
            assert accountant is not None
            assert accountant.used() == Accountant(ctx).used()
            assert (accountant.used() <= 3000) or not room


class TestCommands:
    """Through a session whose hub makes room before each command."""

    def session(self, policy: str) -> Session:
        db = make()
        fill(db, 50)
        session = Session(Hub(db.ctx), RESP2)
        limit_to(db, 40, policy)
        session.hub.set_limited(db.ctx.evictor.make_room)
        return session

    def test_under_noeviction_reads_and_deletes_work_and_growth_is_refused(self) -> None:
        session = self.session("noeviction")
        oom = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        assert session.call([b"APPEND", b"k0000", b"x"]) == oom
        assert session.call([b"COPY", b"k0000", b"other"]) == oom
        assert session.call([b"GET", b"k0001"]).startswith(b"$100")
        assert session.call([b"EXPIRE", b"k0001", b"100"]) == b":1\r\n"
        assert session.call([b"DEL", *(b"k%04d" % n for n in range(2, 20))]) == b":18\r\n"
        assert session.call([b"APPEND", b"k0000", b"x"]) == b":101\r\n"

    def test_under_a_policy_growth_evicts_before_it(self) -> None:
        session = self.session("allkeys-lru")
        assert session.call([b"APPEND", b"new", b"x"]) == b":1\r\n"
        assert session.db.ctx.stats.evicted >= 10

    def test_under_volatile_without_volatile_keys_growth_is_refused(self) -> None:
        session = self.session("volatile-lru")
        assert session.call([b"APPEND", b"new", b"x"]).startswith(b"-OOM")
