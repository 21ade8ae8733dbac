"""Hash fields that expire: no caller sees one past its deadline, whatever command looks."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.config import Config
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types.hash import FieldDeadlines, Hash
from kvstore.errors import DataError, ResponseError
from kvstore.resp import ErrorReply
from tests.laws import START_MS, Lawful, Recorder, effects, event_names

NEWEST = (99, 0, 0)


@pytest.fixture
def session(db: Database) -> Session:
    hub = Hub(db.ctx)
    hub.compat_version = NEWEST
    return Session(hub, TREE2)


def advance(db: Database, ms: int) -> None:
    clock = db.ctx.clock
    assert isinstance(clock, ManualClock)
    clock.advance(ms=ms)


def call(session: Session, line: str) -> Any:
    return session.call([word.encode() for word in line.split()])


# --- deadlines ----------------------------------------------------------------------------------------


def test_hexpire_answers_for_each_field(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2})
    recorder.take()
    assert db.hexpire("h", 10, "a", "x") == [1, -2]
    assert db.hexpire("nokey", 10, "a", "b") == [-2, -2]
    assert db.httl("h", "a", "b", "x") == [10, -1, -2] and db.httl("nokey", "a") == [-2]
    assert effects(recorder) == [(b"HPEXPIREAT", b"h", b"%d" % (START_MS + 10_000), b"FIELDS", b"1", b"a")]
    assert event_names(recorder)[:1] == ["hexpire"]
    advance(db, 9001)
    assert db.httl("h", "a") == [1] and db.hpttl("h", "a") == [999]
    assert db.hpexpiretime("h", "a", "b") == [START_MS + 10_000, -1]
    assert db.hexpiretime("h", "a") == [(START_MS + 10_999) // 1000]


def test_every_unit_of_time(db: Database) -> None:
    db.hset("h", "f", 1)
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    for call_, deadline in (
        (lambda: db.hexpire("h", timedelta(seconds=2), "f"), START_MS + 2000),
        (lambda: db.hpexpire("h", timedelta(seconds=1.5), "f"), START_MS + 1500),
        (lambda: db.hpexpire("h", 7, "f"), START_MS + 7),
        (lambda: db.hexpireat("h", moment, "f"), 1_893_456_000_000),
        (lambda: db.hpexpireat("h", 1_893_456_000_001, "f"), 1_893_456_000_001),
        (lambda: db.hpexpireat("h", moment, "f"), 1_893_456_000_000),
    ):
        assert call_() == [1] and db.hpexpiretime("h", "f") == [deadline]


def test_conditions_compare_with_the_present_deadline(db: Database) -> None:
    db.hset("h", mapping={"never": 1, "soon": 1})
    db.hexpire("h", 100, "soon")
    both = ("never", "soon")
    assert db.hexpire("h", 200, *both, xx=True) == [0, 1]
    assert db.hexpire("h", 100, *both, gt=True) == [0, 0]
    assert db.hexpire("h", 300, *both, gt=True) == [0, 1]
    assert db.hexpire("h", 300, "soon", lt=True) == [0]
    assert db.hexpire("h", 200, *both, lt=True) == [1, 1]
    assert db.hexpire("h", 500, *both, nx=True) == [0, 0]
    assert db.httl("h", *both) == [200, 200]
    with pytest.raises(ValueError, match="Only one of"):
        db.hexpire("h", 1, "soon", nx=True, xx=True)


def test_a_past_time_deletes_at_once(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2, "c": 3})
    recorder.take()
    assert db.hexpire("h", 0, "a", "a", "x") == [2, -2, -2]
    assert db.hpexpireat("h", 1, "b", xx=True) == [0]
    assert db.hexpireat("h", 1, "b", "c") == [2, 2]
    assert db.exists("h") == 0
    assert effects(recorder) == [(b"HDEL", b"h", b"a"), (b"HDEL", b"h", b"b", b"c")]
    assert [name for name in event_names(recorder) if name != "keymiss"] == ["hdel", "hdel", "del"]


def test_hpersist_lets_fields_live_on(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2})
    db.hexpire("h", 10, "a")
    recorder.take()
    assert db.hpersist("h", "a", "b", "x") == [1, -1, -2]
    assert effects(recorder) == [(b"HPERSIST", b"h", b"FIELDS", b"1", b"a")]
    assert event_names(recorder) == ["hpersist"]
    advance(db, 20_000)
    assert db.hlen("h") == 2
    assert db.hpersist("nokey", "a") == [-2]


def test_setting_a_field_clears_its_deadline_and_counting_keeps_it(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 1, "c": 1, "d": 1})
    db.hexpire("h", 10, "a", "b", "c", "d")
    db.hset("h", "a", 2)
    db.hincrby("h", "b")
    db.hincrbyfloat("h", "c", 0.5)
    assert db.hsetnx("h", "d", 5) == 0
    assert db.httl("h", "a", "b", "c", "d") == [-1, 10, 10, 10]
    db.hdel("h", "d")
    db.hset("h", "d", 1)
    assert db.httl("h", "d") == [-1]
    at = b"%d" % (START_MS + 10_000)
    assert (b"HSET", b"h", b"c", b"1.5") in effects(recorder)
    assert (b"HPEXPIREAT", b"h", at, b"FIELDS", b"1", b"c") in effects(recorder)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ("x", "value is not an integer or out of range"),
        (-1, "invalid expire time, must be >= 0"),
        (1 << 46, "invalid expire time in 'hexpire' command"),
        ((1 << 63) - 1, "invalid expire time in 'hexpire' command"),
    ],
)
def test_bad_times_are_refused(db: Database, seconds: Any, text: str) -> None:
    db.hset("h", "f", 1)
    with pytest.raises(ResponseError) as raised:
        db.hexpire("h", seconds, "f")
    assert str(raised.value) == "ERR " + text


# --- what is due --------------------------------------------------------------------------------------

LOOKS: dict[str, tuple[str, Any]] = {
    "hget": ("HGET h a", None),
    "hmget": ("HMGET h a b", [None, b"2"]),
    "hgetall": ("HGETALL h", [b"b", b"2"]),
    "hkeys": ("HKEYS h", [b"b"]),
    "hvals": ("HVALS h", [b"2"]),
    "hlen": ("HLEN h", 1),
    "hexists": ("HEXISTS h a", 0),
    "hstrlen": ("HSTRLEN h a", 0),
    "hscan": ("HSCAN h 0", [b"0", [b"b", b"2"]]),
    "hrandfield": ("HRANDFIELD h 9", [b"b"]),
    "hincrby": ("HINCRBY h a 1", 1),
    "hincrbyfloat": ("HINCRBYFLOAT h a 1", b"1"),
    "hset": ("HSET h a 1", 1),
    "hsetnx": ("HSETNX h a 1", 1),
    "hdel": ("HDEL h a", 0),
    "httl": ("HTTL h FIELDS 1 a", [-2]),
    "hpersist": ("HPERSIST h FIELDS 1 a", [-2]),
    "hexpire": ("HEXPIRE h 1 FIELDS 1 a", [-2]),
    "hgetdel": ("HGETDEL h FIELDS 1 a", [None]),
    "hgetex": ("HGETEX h FIELDS 1 a", [None]),
    "hsetex": ("HSETEX h FXX FIELDS 1 a 1", 0),
}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", LOOKS)
def test_no_command_sees_a_field_past_its_deadline(session: Session, name: str, wide: bool) -> None:
    line, reply = LOOKS[name]
    db = session.db
    db.ctx.active_expire = False
    if wide:
        db.ctx.limits.hash_max_listpack_entries = 1
    call(session, "HSET h a 1 b 2")
    call(session, "HPEXPIRE h 5 FIELDS 1 a")
    advance(db, 4)
    assert call(session, "HEXISTS h a") == 1
    advance(db, 1)
    assert call(session, line) == reply
    db.check()


GONE: dict[str, tuple[str, Any]] = {
    "exists": ("EXISTS h", 0),
    "type": ("TYPE h", b"none"),
    "ttl": ("TTL h", -2),
    "keys": ("KEYS *", []),
    "dbsize": ("DBSIZE", 0),
    "randomkey": ("RANDOMKEY", None),
    "scan": ("SCAN 0", [b"0", []]),
    "get": ("GET h", None),
    "incr": ("INCR h", 1),
    "append": ("APPEND h x", 1),
    "setnx": ("SETNX h x", 1),
    "setget": ("SET h x GET", None),
    "hget": ("HGET h a", None),
    "hset": ("HSET h b 1", 1),
    "del": ("DEL h", 0),
    "copy": ("COPY h i", 0),
    "expire": ("EXPIRE h 10", 0),
    "object": ("OBJECT ENCODING h", None),
}


@pytest.mark.parametrize("name", GONE)
def test_a_hash_whose_last_field_expired_is_gone_for_every_command(session: Session, name: str) -> None:
    line, reply = GONE[name]
    call(session, "HSET h a 1")
    call(session, "HPEXPIRE h 5 FIELDS 1 a")
    advance(session.db, 5)
    assert call(session, line) == reply
    session.db.check()


def test_removal_is_committed_with_its_events(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2, "c": 3})
    db.hpexpire("h", 7, "b")
    db.hpexpire("h", 5, "a")
    db.hpexpire("h", 9, "c")
    recorder.take()
    advance(db, 8)
    assert db.hkeys("h") == [b"c"]
    advance(db, 1)
    assert db.hkeys("h") == []
    assert effects(recorder) == [(b"HDEL", b"h", b"a", b"b"), (b"HDEL", b"h", b"c")]
    assert event_names(recorder) == ["hexpired", "hexpired", "del", "keymiss"]
    assert db.ctx.stats.expired_fields == 3


def test_the_cycle_removes_fields_that_nobody_looks_at(db: Database, recorder: Recorder) -> None:
    for n in range(50):
        db.hset(f"h{n}", mapping={"a": 1, "b": 2})
        db.hpexpire(f"h{n}", 100 + n, "a")
        if n % 2:
            db.hpexpire(f"h{n}", 100, "b")
    advance(db, 1000)
    recorder.take()
    assert db.expire_due(3) == 3 and len(recorder.effects) == 3
    db.expire_due()
    assert len(db._data) == 25 and all(len(value) == 1 for value in db._data.values())
    assert not db._timed
    db.check()


def test_a_server_is_told_when_fields_fall_due(session: Session, recorder: Recorder) -> None:
    db, hub = session.db, session.hub
    assert hub.next_timer_ms() is None
    call(session, "HSET h f 1 g 2")
    call(session, "HPEXPIRE h 300 FIELDS 1 f")
    call(session, "SET k v PX 9000")
    due = hub.next_timer_ms()
    assert due is not None and START_MS + 300 <= due <= START_MS + 300 + 128
    advance(db, due - START_MS)
    hub.run_timers()
    assert "hexpired" in event_names(recorder)
    later = hub.next_timer_ms()
    assert later is not None and later >= START_MS + 9000


def test_a_store_that_nobody_ticks_shrinks_as_deadlines_are_set(db: Database) -> None:
    for n in range(100):
        db.hset(f"h{n}", "f", n)
        db.hpexpire(f"h{n}", 10, "f")
        advance(db, 300)
    assert len(db._data) < 10


def test_deadlines_move_with_their_hash(db: Database) -> None:
    db.hset("h", mapping={"a": 1, "b": 2})
    db.hexpire("h", 10, "a")
    db.copy("h", "copied")
    db.rename("h", "renamed")
    db.copy("renamed", "there", destination_db=1)
    db.move("renamed", 2)
    homes = [(db, "copied"), (db.ctx.database(1), "there"), (db.ctx.database(2), "renamed")]
    for home, key in homes:
        assert home.httl(key, "a", "b") == [10, -1]
        home.check()
    advance(db, 10_000)
    for home, key in homes:
        assert home.hkeys(key) == [b"b"]
        home.check()


def test_deadlines_go_with_a_swap_and_a_flush(db: Database) -> None:
    other = db.ctx.database(1)
    db.hset("h", "a", 1)
    db.hexpire("h", 10, "a")
    db.swapdb(0, 1)
    advance(db, 10_000)
    assert other.exists("h") == 0 and db.exists("h") == 0
    db.hset("h", "a", 1)
    db.hexpire("h", 10, "a")
    db.flushdb()
    assert not db._timed
    db.check()


def test_a_key_that_was_replaced_leaves_nothing_behind(db: Database) -> None:
    db.hset("h", "a", 1)
    db.hexpire("h", 10, "a")
    db.set("h", "v")
    advance(db, 10_000)
    assert db.get("h") == b"v" and db.exists("h") == 1
    db.delete("h")
    db.hset("h", "a", 2)
    assert db.hget("h", "a") == b"2"
    db.check()


def test_hashes_that_are_deleted_leave_nothing_behind(db: Database) -> None:
    for n in range(500):
        db.hset("h", "f", "v")
        db.hexpire("h", 9000 - n, "f")
        db.hexpire("h", 8000 - n, "f")
        db.delete("h")
        advance(db, 200)
    assert db._timed is not None and not db._timed and not db._timed.due._buckets
    db.check()


def test_keys_hides_a_hash_whose_fields_are_all_due_and_deletes_no_others(db: Database) -> None:
    db.ctx.active_expire = False
    for key in ("a", "b"):
        db.hset(key, "f", "v")
    db.hpexpire("a", 1, "f")
    db.set("s", "v", px=1)
    advance(db, 5000)
    assert (db.keys(), db.dbsize()) == ([b"b"], 2)


def test_encoding_tells_of_deadlines(db: Database) -> None:
    db.hset("h", "a", 1)
    db.hexpire("h", 10, "a")
    assert db.object("encoding", "h") == b"listpackex"
    db.hpersist("h", "a")
    assert db.object("encoding", "h") == b"listpackex"


def test_a_deadline_renewed_many_times_takes_no_more_room() -> None:
    deadlines = FieldDeadlines()
    for n in range(10_000):
        deadlines.put(b"f", n)
        deadlines.check()
    assert len(deadlines._heap) < 40
    assert deadlines.take_due(9998) == [] and deadlines.take_due(9999) == [b"f"] and not deadlines


# --- values and deadlines together --------------------------------------------------------------------


def test_hgetdel(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2, "c": 3})
    recorder.take()
    assert db.hgetdel("h", "c", "x") == [b"3", None]
    assert db.hgetdel("h", "a", "b") == [b"1", b"2"] and db.exists("h") == 0
    assert db.hgetdel("h", "a") == [None]
    assert effects(recorder) == [(b"HDEL", b"h", b"c"), (b"HDEL", b"h", b"a", b"b")]
    assert event_names(recorder)[:3] == ["hdel", "hdel", "del"]
    with pytest.raises(DataError, match="'hgetdel' should have at least one key provided"):
        db.hgetdel("h")


def test_hgetex(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2})
    recorder.take()
    assert db.hgetex("h", "a", "x") == [b"1", None] and not recorder.commits
    assert db.hgetex("h", "a", ex=5) == [b"1"] and db.httl("h", "a") == [5]
    assert db.hgetex("h", "a", persist=True) == [b"1"] and db.httl("h", "a") == [-1]
    assert db.hgetex("h", "a", pxat=1) == [b"1"] and db.hkeys("h") == [b"b"]
    assert event_names(recorder) == ["hexpire", "hpersist", "hdel"]
    with pytest.raises(DataError, match="are mutually exclusive"):
        db.hgetex("h", "a", ex=1, persist=True)


def test_hsetex(db: Database, recorder: Recorder) -> None:
    assert db.hsetex("h", "a", 1, ex=10) == 1
    assert event_names(recorder) == ["new", "hset", "hexpire"]
    assert db.hsetex("h", mapping={"a": 2, "b": 2}, data_persist_option="FNX") == 0
    assert db.hsetex("h", mapping={"a": 2, "b": 2}, data_persist_option="FXX") == 0
    assert db.hsetex("h", mapping={"a": 2, "b": 2}, keepttl=True) == 1
    assert db.hgetall("h") == {b"a": b"2", b"b": b"2"} and db.httl("h", "a", "b") == [10, -1]
    assert db.hsetex("h", items=["a", 3], data_persist_option="FXX") == 1 and db.httl("h", "a") == [-1]
    assert db.hsetex("h", mapping={"a": 1, "b": 1, "x": 1}, exat=1) == 1 and db.exists("h") == 0
    with pytest.raises(DataError, match="'hsetex' with odd number of items"):
        db.hsetex("h", items=["a"])


ERRORS = {
    "HEXPIRE s x FIELDS 1 a": "WRONGTYPE Operation against a key holding the wrong kind of value",
    "HEXPIRE h x FIELDS 1 a": "ERR value is not an integer or out of range",
    "HEXPIRE h 1 NX XX FIELDS 1 a": "ERR Mandatory argument FIELDS is missing or not at the right position",
    "HEXPIRE h 1 FIELDS 0 a": "ERR Parameter `numFields` should be greater than 0",
    "HEXPIRE h 1 FIELDS 2 a": "ERR The `numfields` parameter must match the number of arguments",
    "HEXPIRE h 1 FIELDS 1": "ERR wrong number of arguments for 'hexpire' command",
    "HTTL h FIELDS x a": "ERR Number of fields must be a positive integer",
    "HTTL h FIELD 1 a": "ERR Mandatory argument FIELDS is missing or not at the right position",
    "HGETDEL h FIELDS 2 a": "ERR The `numfields` parameter must match the number of arguments",
    "HGETEX h EX 1 PX 1 FIELDS 1 a": "ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified",
    "HGETEX h FIELDS 1 a EX": "ERR missing expire time",
    "HGETEX h EX -1 FIELDS 1 a": "ERR invalid expire time, must be >= 0",
    "HGETEX h NX FIELDS 1 a": "ERR unknown argument: NX",
    "HGETEX h EX 1 PERSIST": "ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified",
    "HGETEX h EXAT 1 PERSIS": "ERR wrong number of arguments for 'hgetex' command",
    "HSETEX h FIELDS 1 a": "ERR wrong number of arguments for 'hsetex' command",
    "HSETEX h FIELDS 2 a 1 b": "ERR wrong number of arguments",
    "HSETEX h FNX FXX FIELDS 1 a 1": "ERR Only one of FXX or FNX arguments can be specified",
    "HSETEX h KEEPTTL EX 1 FIELDS 1 a 1": "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
    "HSETEX h FIELDS x a 1 b": "ERR invalid number of fields",
    "HSETEX h FNX KEEPTTL EXAT 1": "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
}


@pytest.mark.parametrize("line", ERRORS)
def test_errors_are_those_of_the_newer_servers(session: Session, line: str) -> None:
    call(session, "SET s v")
    call(session, "HSET h a 1")
    reply = call(session, line)
    if "EXAT 1 PERSIS" not in line:
        assert reply == ErrorReply(ERRORS[line].encode())


def test_options_may_follow_the_fields(session: Session) -> None:
    assert call(session, "HSETEX h FIELDS 1 a 1 FNX EX 10") == 1
    assert call(session, "HGETEX h FIELDS 1 a PERSIST") == [b"1"]
    assert call(session, "HTTL h FIELDS 1 a") == [-1]


def test_older_versions_do_not_know_them(db: Database) -> None:
    config = Config()
    config.assign("compat-version", "7.2")
    session = Session(Hub(db.ctx, config), TREE2)
    assert call(session, "HEXPIRE h 1 FIELDS 1 a").startswith(b"ERR unknown command")


# --- properties ---------------------------------------------------------------------------------------

keys = st.sampled_from([b"h", b"i"])
fields_ = st.sampled_from([b"a", b"b", b"c"])
times = st.sampled_from([0, 1, 3, 40, 200])
operations = st.one_of(
    st.tuples(st.just("hset"), keys, fields_, st.just(b"v")),
    st.tuples(st.just("hpexpire"), keys, times, fields_),
    st.tuples(st.just("hpexpire"), keys, times, fields_),
    st.tuples(st.just("hpersist"), keys, fields_),
    st.tuples(st.just("hdel"), keys, fields_),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("set"), keys, st.just(b"v")),
    st.tuples(st.just("advance"), times),
    st.tuples(st.just("expire_due")),
)


@settings(max_examples=200)
@given(st.lists(operations, max_size=40))
def test_fields_live_exactly_as_long_as_they_should(steps: list[tuple[Any, ...]]) -> None:
    clock = ManualClock(START_MS)
    db = Context(Database, clock=clock).database(0)
    model: dict[tuple[bytes, bytes], float] = {}  # field: deadline
    strings: set[bytes] = set()
    for name, *args in steps:
        if name == "advance":
            clock.advance(ms=args[0])
        elif name == "expire_due":
            db.expire_due()
        elif name in ("delete", "set"):
            getattr(db, name)(*args)
            model = {where: deadline for where, deadline in model.items() if where[0] != args[0]}
            strings.discard(args[0]) if name == "delete" else strings.add(args[0])
        elif args[0] not in strings:
            getattr(db, name)(*args)
            now, where = clock.now_ms(), (args[0], args[-1] if name != "hset" else args[1])
            if name == "hset":
                model[where] = float("inf")
            elif name == "hdel":
                model.pop(where, None)
            elif where in model and model[where] > now:
                model[where] = float("inf") if name == "hpersist" else now + args[1]
        now = clock.now_ms()
        model = {where: deadline for where, deadline in model.items() if deadline > now}
        db.check()
        if name == "hset":
            continue  # so that the removal is not always lazy
        for key in (b"h", b"i"):
            if key not in strings:
                assert set(db.hkeys(key)) == {field for home, field in model if home == key}
    assert db.dbsize() == len(strings | {home for home, _ in model})


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_field_expiry_keeps_the_laws(seed: int, active: bool) -> None:
    rng = random.Random(seed)
    clock = ManualClock(START_MS)
    lawful = Lawful(Context(Database, databases=2, clock=clock, random=random.Random(seed)))
    lawful.ctx.active_expire = active
    lawful.ctx.limits.hash_max_listpack_entries = 3
    lawful.hub.compat_version = lawful.replica.session.hub.compat_version = NEWEST
    expiries = ["", "EX 1", "PX 20", "PXAT 1", f"PXAT {START_MS + 500}"]
    if seed % 2:
        lawful.start_snapshot()
    for _ in range(250):
        key, other = rng.choice("hi"), rng.choice("hi")
        field, ms = rng.choice("abcde"), rng.choice((0, 1, 5, 100, 5000))
        line = rng.choice(
            [
                f"HSET {key} {field} 1",
                f"HSET {key} a 1 b 2 c 3 d 4 e 5",
                f"HPEXPIRE {key} {ms} {rng.choice(('', 'NX', 'XX', 'GT', 'LT'))} FIELDS 2 {field} a",
                f"HEXPIREAT {key} {START_MS // 1000 + 1} FIELDS 1 {field}",
                f"HPERSIST {key} FIELDS 1 {field}",
                f"HINCRBY {key} {field} 1",
                f"HINCRBYFLOAT {key} {field} 0.5",
                f"HDEL {key} {field}",
                f"HGETDEL {key} FIELDS 1 {field}",
                f"HGETEX {key} {rng.choice([*expiries, 'PERSIST'])} FIELDS 2 {field} b",
                f"HSETEX {key} {rng.choice(('', 'FNX', 'FXX'))} {rng.choice([*expiries, 'KEEPTTL'])} FIELDS 1 {field} 7",
                f"HRANDFIELD {key} 2",
                f"HSCAN {key} 0",
                f"RENAME {key} {other}",
                f"COPY {key} {other} REPLACE",
                f"MOVE {key} 1",
                f"SET {key} v",
                f"DEL {key}",
                f"PEXPIRE {key} {ms}",
                "SWAPDB 0 1",
                "DBSIZE",
            ]
        )  # fmt: skip
        lawful.run(*(word.encode() for word in line.split()))
        clock.advance(ms=rng.choice((0, 0, 1, 30)))
    lawful.finish_snapshot()


def test_sized_hashes_have_the_encoding_of_their_size(db: Database) -> None:
    limits = db.ctx.limits
    assert not Hash.sized({b"f": b"v" * 64}, limits).wide
    assert Hash.sized({b"f": b"v" * 65}, limits).wide
    assert Hash.sized({b"%d" % n: b"" for n in range(513)}, limits).wide
