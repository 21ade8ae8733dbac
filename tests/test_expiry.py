"""Deadlines: the commands, what they log, and that an expired key is never seen."""

from __future__ import annotations

import datetime
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
from kvstore.engine.expiry import BUCKET_SHIFT
from kvstore.errors import ResponseError
from tests.laws import START_MS, Recorder

BUCKET_MS = 1 << BUCKET_SHIFT
NOT_INTEGER = "ERR value is not an integer or out of range"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_MS)


@pytest.fixture
def db(clock: ManualClock) -> Database:
    return Context(Database, clock=clock, random=random.Random(1)).database(0)


class TestSetting:
    def test_each_command_has_its_unit_and_its_zero(self, db: Database) -> None:
        for method, time, left in (
            (db.expire, 10, 10_000),
            (db.pexpire, 1500, 1500),
            (db.expireat, START_MS // 1000 + 20, 20_000),
            (db.pexpireat, START_MS + 77, 77),
        ):
            db.append("a", "1")
            assert method("a", time) is True
            assert db.pttl("a") == left
            assert db.pexpiretime("a") == START_MS + left

    def test_python_times_are_taken_as_redis_py_takes_them(self, db: Database) -> None:
        db.append("a", "1")
        db.expire("a", datetime.timedelta(minutes=1, milliseconds=900))
        assert db.pttl("a") == 60_000
        db.pexpire("a", datetime.timedelta(seconds=1.5))
        assert db.pttl("a") == 1500
        moment = datetime.datetime.fromtimestamp(START_MS / 1000 + 3.25)
        db.expireat("a", moment)
        assert db.pttl("a") == 3000
        db.pexpireat("a", moment)
        assert db.pttl("a") == 3250

    def test_seconds_are_rounded(self, db: Database) -> None:
        db.append("a", "1")
        for milliseconds, seconds in ((499, 0), (500, 1), (1499, 1), (1500, 2)):
            db.pexpire("a", milliseconds)
            assert db.ttl("a") == seconds
        db.pexpireat("a", START_MS + 1500)
        assert db.expiretime("a") == (START_MS + 2000) // 1000

    def test_no_key_and_no_deadline(self, db: Database) -> None:
        db.append("a", "1")
        for method in (db.ttl, db.pttl, db.expiretime, db.pexpiretime):
            assert (method("a"), method("nope")) == (-1, -2)
        assert db.expire("nope", 1) is False
        assert db.persist("nope") is False

    def test_persist_takes_the_deadline_away(self, db: Database, clock: ManualClock) -> None:
        db.append("a", "1")
        db.expire("a", 1)
        assert (db.persist("a"), db.persist("a")) == (True, False)
        clock.advance(10)
        assert db.get("a") == b"1"

    @pytest.mark.parametrize("time", [0, -1, -(1 << 53)])
    def test_a_time_that_is_not_in_the_future_deletes(
        self, db: Database, recorder: Recorder, time: int
    ) -> None:
        db.append("a", "1")
        recorder.take()
        assert db.expire("a", time) is True
        assert db.exists("a") == 0
        assert recorder.effects == [(0, (b"DEL", b"a"))]
        assert recorder.events[0] == (0, "del", b"a")

    def test_the_effect_is_absolute(self, db: Database, recorder: Recorder) -> None:
        db.append("a", "1")
        recorder.take()
        db.expire("a", 7)
        db.persist("a")
        assert recorder.effects == [
            (0, (b"PEXPIREAT", b"a", b"%d" % (START_MS + 7000))),
            (0, (b"PERSIST", b"a")),
        ]
        assert [name for _, name, _ in recorder.events] == ["expire", "persist"]


class TestConditions:
    @pytest.mark.parametrize(
        ("before", "flag", "time", "done"),
        [
            (None, "nx", 10, True),
            (None, "xx", 10, False),
            (None, "gt", 10, False),
            (None, "lt", 10, True),
            (10, "nx", 20, False),
            (10, "xx", 20, True),
            (10, "gt", 20, True),
            (10, "gt", 10, False),
            (10, "gt", 5, False),
            (10, "lt", 20, False),
            (10, "lt", 10, False),
            (10, "lt", 5, True),
            (10, "lt", -1, True),
            (10, "gt", -1, False),
        ],
    )
    def test_one_flag(self, db: Database, before: int | None, flag: str, time: int, done: bool) -> None:
        db.append("a", "1")
        if before is not None:
            db.expire("a", before)
        assert db.expire("a", time, **{flag: True}) is done
        after = -2 if done and time < 0 else time if done else -1 if before is None else before
        assert db.ttl("a") == after

    def test_xx_goes_with_gt_or_lt(self, db: Database) -> None:
        db.append("a", "1")
        assert db.expire("a", 10, xx=True, lt=True) is False
        db.expire("a", 10)
        assert db.expire("a", 5, xx=True, lt=True) is True
        assert db.expire("a", 3, xx=True, gt=True) is False

    @pytest.mark.parametrize("flags", [("nx", "xx"), ("nx", "gt"), ("nx", "lt"), ("nx", "gt", "lt")])
    def test_nx_goes_with_nothing(self, db: Database, flags: tuple[str, ...]) -> None:
        with pytest.raises(ResponseError) as caught:
            db.expire("a", 10, **dict.fromkeys(flags, True))
        text = "ERR NX and XX, GT or LT options at the same time are not compatible"
        assert str(caught.value) == text

    def test_gt_and_lt_exclude_each_other(self, db: Database) -> None:
        with pytest.raises(ResponseError) as caught:
            db.expire("a", 10, gt=True, lt=True)
        assert str(caught.value) == "ERR GT and LT options at the same time are not compatible"


class TestRefused:
    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("EXPIRE a x", NOT_INTEGER),
            ("EXPIRE a 1.5", NOT_INTEGER),
            ("EXPIRE a x FOO", "ERR Unsupported option FOO"),
            ("EXPIRE a x NX XX", "ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("EXPIRE a x GT LT", "ERR GT and LT options at the same time are not compatible"),
            ("EXPIRE a 9223372036854775807", "ERR invalid expire time in 'expire' command"),
            ("EXPIRE a 9223372036854775", "ERR invalid expire time in 'expire' command"),
            ("EXPIRE a -9223372036854776", "ERR invalid expire time in 'expire' command"),
            ("EXPIREAT a -9223372036854776", "ERR invalid expire time in 'expireat' command"),
            ("EXPIREAT a 9223372036854776", "ERR invalid expire time in 'expireat' command"),
            ("PEXPIRE a 9223372036854775807", "ERR invalid expire time in 'pexpire' command"),
            ("PEXPIREAT a 9223372036854775808", NOT_INTEGER),
        ],
    )
    def test_bad_times_are_refused_before_the_key_is_looked_at(
        self, db: Database, line: str, text: str
    ) -> None:
        session = Session(Hub(db.ctx), RESP2)
        assert session.call([word.encode() for word in line.split()]) == b"-%b\r\n" % text.encode()

    @pytest.mark.parametrize(
        "line",
        [
            "EXPIREAT a 9223372036854775",
            "PEXPIREAT a 9223372036854775807",
            "EXPIREAT a -9223372036854775",
            "PEXPIRE a -9223372036854775808",
            "EXPIRE a 100 nx nX",
        ],
    )
    def test_the_outermost_times_are_taken(self, db: Database, line: str) -> None:
        db.append("a", "1")
        session = Session(Hub(db.ctx), RESP2)
        assert session.call([word.encode() for word in line.split()]) == b":1\r\n"
        db.check()


class TestGone:
    def test_a_key_is_there_to_its_last_millisecond(self, db: Database, clock: ManualClock) -> None:
        db.set("a", "1", px=100)
        clock.advance(ms=99)
        assert (db.exists("a"), db.pttl("a")) == (1, 1)
        clock.advance(ms=1)
        assert (db.exists("a"), db.pttl("a")) == (0, -2)

    @pytest.mark.parametrize(
        "look",
        [
            lambda db: db.get("a") is None,
            lambda db: db.exists("a") == 0,
            lambda db: db.type("a") == b"none",
            lambda db: db.keys() == [b"b"],
            lambda db: db.scan()[1] == [b"b"],
            lambda db: list(db.scan_iter()) == [b"b"],
            lambda db: db.dbsize() == 1,
            lambda db: db.randomkey() == b"b",
            lambda db: db.object("encoding", "a") is None,
            lambda db: db.memory_usage("a") is None,
            lambda db: db.renamenx("b", "a") is True,
            lambda db: db.copy("a", "c") is False,
            lambda db: db.copy("b", "a") is True,
            lambda db: db.move("a", 1) is False,
            lambda db: db.persist("a") is False,
            lambda db: db.expire("a", 10) is False,
            lambda db: db.touch("a") == 0,
            lambda db: db.append("a", "x") == 1,
            lambda db: db.set("a", "x", nx=True) is True,
            lambda db: db.set("a", "x", xx=True) is None,
            lambda db: db.set("a", "x", get=True) is None,
        ],
    )
    @pytest.mark.parametrize("late_ms", [0, 1, 10 * BUCKET_MS])
    @pytest.mark.parametrize("active", [True, False])
    def test_nobody_sees_an_expired_key(
        self, db: Database, clock: ManualClock, look: Any, late_ms: int, active: bool
    ) -> None:
        if not active and "dbsize" in look.__code__.co_names:
            return  # as in Redis, DBSIZE counts what was not deleted while active expiry is switched off
        db.ctx.active_expire = active
        db.set("b", "2")
        db.set("a", "1", px=1000)
        clock.advance(ms=1000 + late_ms)
        assert look(db)
        db.check()

    def test_lazy_expiry_is_a_commit(self, db: Database, clock: ManualClock, recorder: Recorder) -> None:
        db.set("a", "1", px=10)
        recorder.take()
        clock.advance(ms=10)
        db.get("a")
        assert recorder.effects == [(0, (b"DEL", b"a"))]
        assert recorder.events == [(0, "expired", b"a"), (0, "keymiss", b"a")]
        assert db.ctx.stats.expired == 1

    def test_time_stands_still_within_a_unit(self, db: Database, clock: ManualClock) -> None:
        db.set("a", "1", px=10)
        db.ctx.frozen = clock.now_ms()
        clock.advance(ms=10)
        assert db.get("a") == b"1"
        db.ctx.frozen = None
        assert db.get("a") is None


class TestActiveExpiry:
    def test_due_keys_go_in_slices(self, db: Database, clock: ManualClock) -> None:
        for n in range(100):
            db.set(f"k{n}", "v", px=50 + n)
        clock.advance(ms=200 + BUCKET_MS)
        assert db.expire_due(30) == 30
        assert len(db._data) == 70
        assert db.expire_due(1000) == 70
        assert not db._data

    def test_a_key_that_was_refreshed_has_one_entry_and_lives(self, db: Database, clock: ManualClock) -> None:
        db.append("a", "1")
        for _ in range(1000):
            db.expire("a", 10)
            clock.advance(ms=100)
        assert list(db._due._buckets.values()) == [b"a"]
        db.expire_due()
        assert db.ttl("a") == 10
        clock.advance(10 + BUCKET_MS / 1000)
        db.expire_due()
        assert not db._data

    def test_deadlines_that_are_taken_back_leave_nothing_behind(
        self, db: Database, clock: ManualClock
    ) -> None:
        for n in range(1000):
            db.set(f"lock{n}", "v", ex=3600)
            db.set("cache", "v")
            db.expire("cache", 86_400 - n)
            db.expire("cache", 80_000 - n)
            db.delete(f"lock{n}")
            clock.advance(ms=200)
        db.check()
        due = db._due
        assert list(due._buckets.values()) == [b"cache"]
        assert len(due._heap) < 100

    def test_switched_off_it_deletes_nothing(self, db: Database, clock: ManualClock) -> None:
        db.set("a", "1", px=1)
        db.ctx.active_expire = False
        clock.advance(10)
        assert (db.expire_due(), db.dbsize(), db.keys()) == (0, 1, [])

    def test_a_store_that_nobody_ticks_shrinks_too(self, db: Database, clock: ManualClock) -> None:
        for n in range(3000):
            db.set(f"k{n}", "v", px=1000)
            clock.advance(ms=10)
        assert len(db._data) < 300


actions = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), st.integers(1, 400)),
        st.tuples(st.just("expire"), st.integers(0, 5), st.integers(-5, 400)),
        st.tuples(st.just("persist"), st.integers(0, 5)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 300)),
        st.tuples(st.just("tick"), st.integers(1, 4)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(actions, st.booleans())
def test_deadlines_agree_with_a_model(actions: list[tuple[Any, ...]], counted: bool) -> None:
    clock = ManualClock(START_MS)
    db = Context(Database, clock=clock).database(0)
    model: dict[bytes, float] = {}
    for name, *args in actions:
        key = b"k%d" % args[0]
        match name:
            case "set":
                db.set(key, "v", px=args[1])
                model[key] = clock.now_ms() + args[1]
            case "expire":
                assert db.pexpire(key, args[1]) is (key in model)
                if key in model:
                    model[key] = clock.now_ms() + args[1]
            case "persist":
                db.persist(key)
                if key in model:
                    model[key] = float("inf")
            case "delete":
                assert db.delete(key) == (key in model)
                model.pop(key, None)
            case "wait":
                clock.advance(ms=args[0])
            case "tick":
                db.expire_due(args[0])
        model = {key: deadline for key, deadline in model.items() if deadline > clock.now_ms()}
        assert set(db.keys()) == set(model)
        if counted:
            assert db.dbsize() == len(model)
        db.check()
    for key, deadline in model.items():
        assert db.pexpiretime(key) == (-1 if deadline == float("inf") else deadline)
