"""Lists: the typed methods, their effects and events, encodings, and properties against a plain list."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types.list import UNKNOWN, List
from kvstore.errors import ResponseError, WrongTypeError
from tests.laws import START_MS, Recorder


def events(recorder: Recorder) -> list[tuple[str, bytes]]:
    return [(name, key) for _, name, key in recorder.events]


def test_pushes_and_pops_at_both_ends(db: Database) -> None:
    assert db.rpush("l", "a", "b") == 2
    assert db.lpush("l", 1, 2.5) == 4
    assert db.lrange("l", 0, -1) == [b"2.5", b"1", b"a", b"b"]
    assert (db.lpop("l"), db.rpop("l"), db.lpop("l", 5)) == (b"2.5", b"b", [b"1", b"a"])
    assert (db.lpop("l"), db.rpop("l", 2), db.exists("l")) == (None, None, 0)


@pytest.mark.parametrize("count", [1, 4, 5, 30, -1, -4, -5, -30])
def test_lrem_takes_the_first_or_the_last_that_match(db: Database, count: int) -> None:
    elements = [b"x" if n % 3 else b"%d" % n for n in range(60)]
    db.rpush("l", *elements)
    assert db.lrem("l", count, "x") == abs(count)
    left = elements if count > 0 else elements[::-1]
    for _ in range(abs(count)):
        left.remove(b"x")
    assert db.lrange("l", 0, -1) == (left if count > 0 else left[::-1])
    db.check()


def test_pushes_that_need_a_list(db: Database) -> None:
    assert (db.lpushx("l", "a"), db.rpushx("l", "a")) == (0, 0)
    db.rpush("l", "m")
    assert (db.lpushx("l", "a"), db.rpushx("l", "z")) == (2, 3)
    assert db.lrange("l", 0, -1) == [b"a", b"m", b"z"]


def test_the_last_element_takes_the_key_and_says_so(db: Database, recorder: Recorder) -> None:
    db.rpush("l", "a")
    recorder.take()
    db.lpop("l")
    assert events(recorder) == [("lpop", b"l"), ("del", b"l")]
    assert recorder.take() == [(0, (b"LPOP", b"l"))]


def test_a_move_pushes_before_it_pops(db: Database, recorder: Recorder) -> None:
    db.rpush("l", "a")
    recorder.take()
    assert db.lmove("l", "m", "LEFT", "RIGHT") == b"a"
    assert events(recorder) == [("new", b"m"), ("rpush", b"m"), ("lpop", b"l"), ("del", b"l")]
    assert recorder.take() == [(0, (b"LMOVE", b"l", b"m", b"LEFT", b"RIGHT"))]


def test_a_list_can_be_rotated(db: Database) -> None:
    db.rpush("l", "a", "b", "c")
    assert db.rpoplpush("l", "l") == b"c"
    assert db.lrange("l", 0, -1) == [b"c", b"a", b"b"]
    assert db.lmove("l", "l", "left", "left") == b"c"


def test_a_trim_that_takes_nothing_touches_the_key_but_logs_nothing(db: Database, recorder: Recorder) -> None:
    db.rpush("l", "a", "b")
    recorder.take()
    before = db.dirty
    assert db.ltrim("l", 0, -1) is True
    assert (events(recorder), recorder.take(), db.dirty) == ([("ltrim", b"l")], [], before)


def test_places_and_replacements(db: Database) -> None:
    db.rpush("l", "a", "b", "a", "c")
    assert (db.lindex("l", -1), db.lindex("l", 9), db.lindex("none", "x")) == (b"c", None, None)  # type: ignore[arg-type]
    assert db.lset("l", 1, "B") is True
    assert db.linsert("l", "after", "B", "x") == 5
    assert (db.linsert("l", "BEFORE", "none", "x"), db.linsert("none", "before", "a", "b")) == (-1, 0)
    assert (db.lpos("l", "a"), db.lpos("l", "a", rank=-1), db.lpos("l", "a", count=0)) == (0, 3, [0, 3])
    assert (db.lpos("l", "zz"), db.lpos("l", "a", rank=2, maxlen=2)) == (None, None)
    assert (db.lrem("l", -1, "a"), db.lrange("l", 0, -1)) == (1, [b"a", b"B", b"x", b"c"])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda db: db.lset("none", 0, "x"), "ERR no such key"),
        (lambda db: db.lset("l", 9, "x"), "ERR index out of range"),
        (lambda db: db.lset("l", "x", "x"), "ERR value is not an integer or out of range"),
        (lambda db: db.lpop("l", -1), "ERR value is out of range, must be positive"),
        (lambda db: db.lpos("l", "a", rank=0), "ERR RANK can't be zero"),
        (lambda db: db.lpos("l", "a", count=-1), "ERR COUNT can't be negative"),
        (lambda db: db.lmove("l", "l", "UP", "LEFT"), "ERR syntax error"),
        (lambda db: db.lmpop(0, direction="LEFT"), "ERR numkeys should be greater than 0"),
        (lambda db: db.lmpop(1, "l", direction="LEFT", count=0), "ERR count should be greater than 0"),
        (lambda db: db.lpush("l"), "ERR wrong number of arguments for 'lpush' command"),
    ],
)
def test_what_the_server_refuses_is_refused_in_its_words(db: Database, call: Any, text: str) -> None:
    db.rpush("l", "a", "b")
    with pytest.raises(ResponseError, match=text.replace("'", ".")):
        call(db)
    assert db.lrange("l", 0, -1) == [b"a", b"b"]


def test_other_types_are_refused_and_left_alone(db: Database) -> None:
    db.set("s", "x")
    db.rpush("l", "a")
    for call in (
        lambda: db.lpush("s", 1),
        lambda: db.lrange("s", 0, 1),
        lambda: db.lmove("l", "s"),
        lambda: db.lmpop(2, "s", "l", direction="LEFT"),
        lambda: db.blpop(["s", "l"], 1),
    ):
        with pytest.raises(WrongTypeError):
            call()
    assert (db.get("s"), db.lrange("l", 0, -1)) == (b"x", [b"a"])


def test_pops_from_the_first_list_that_exists(db: Database) -> None:
    db.rpush("b", 1, 2, 3)
    assert db.lmpop(3, "a", "b", "c", direction="RIGHT", count=2) == [b"b", [b"3", b"2"]]
    assert db.blpop(["a", "b"], timeout=0) == (b"b", b"1")
    assert db.lmpop(1, "b", direction="LEFT") is None


def test_a_wait_with_a_timeout_is_over_at_once_and_one_without_is_refused(db: Database) -> None:
    assert db.blpop("none", timeout=30) is None
    assert db.blmove("none", "x", 30) is None
    assert db.blmpop(30, 1, "none", direction="LEFT") is None
    with pytest.raises(ResponseError, match="wait for ever"):
        db.brpop("none")


# --- encodings ----------------------------------------------------------------------------------------


def test_a_list_is_a_quicklist_past_8_kilobytes_and_a_listpack_again_below_half(db: Database) -> None:
    db.rpush("l", *["x" * 98] * 80)  # 80 entries of 101 bytes and 7 more
    assert db.object("encoding", "l") == b"listpack"
    db.rpush("l", "x" * 98)
    db.rpush("l", "x" * 98)
    assert db.object("encoding", "l") == b"quicklist"
    db.lpop("l", 41)
    assert db.object("encoding", "l") == b"quicklist"
    db.lpop("l", 2)
    assert db.object("encoding", "l") == b"listpack"
    db.check()


def test_the_size_of_a_large_list_is_not_followed(db: Database) -> None:
    db.rpush("l", *range(40_000))
    value = db._data[b"l"]
    assert isinstance(value, List) and value.quick and value.size == UNKNOWN
    db.ltrim("l", 0, 99)
    assert db.object("encoding", "l") == b"listpack"
    db.check()


@pytest.mark.parametrize("fill", [1, 5, 128, -1, -5])
def test_the_limit_can_be_a_count_or_a_size(db: Database, fill: int) -> None:
    db.ctx.limits.list_max_listpack_size = fill
    most = fill if fill > 0 else {-1: 4096, -5: 65536}[fill] // 13
    for _ in range(max(1, most // 2)):
        db.rpush("l", "elevenbytes")
    assert db.object("encoding", "l") == b"listpack"
    for _ in range(most):
        db.rpush("l", "elevenbytes")
    assert db.object("encoding", "l") == b"quicklist"
    db.check()


# --- properties ---------------------------------------------------------------------------------------

ELEMENTS = st.sampled_from([b"a", b"b", b"c", b"", b"1", b"-200", b"70000", b"x" * 70, b"y" * 3000])
INDEXES = st.integers(-8, 8)
CALLS = st.one_of(
    st.tuples(st.just("rpush"), st.lists(ELEMENTS, min_size=1, max_size=5)),
    st.tuples(st.just("lpush"), st.lists(ELEMENTS, min_size=1, max_size=5)),
    st.tuples(st.just("lpop"), st.integers(0, 4)),
    st.tuples(st.just("rpop"), st.integers(0, 4)),
    st.tuples(st.just("ltrim"), INDEXES, INDEXES),
    st.tuples(st.just("lrem"), st.integers(-3, 3), ELEMENTS),
    st.tuples(st.just("lset"), INDEXES, ELEMENTS),
    st.tuples(st.just("linsert"), st.sampled_from(["BEFORE", "AFTER"]), ELEMENTS, ELEMENTS),
)


def _slice(model: list[bytes], start: int, end: int) -> list[bytes]:
    size = len(model)
    low = max(0, start + size if start < 0 else start)
    return model[low : max(0, (end + size if end < 0 else end) + 1)]


def _apply(model: list[bytes], call: tuple[Any, ...]) -> list[bytes]:
    """The model after a call, written with lists alone."""
    name, *args = call
    if name == "rpush":
        return model + args[0]
    if name == "lpush":
        return args[0][::-1] + model
    if name == "lpop":
        return model[args[0] :]
    if name == "rpop":
        return model[: len(model) - min(args[0], len(model))]
    if name == "ltrim":
        return _slice(model, *args)
    if name == "lrem":
        order = model if args[0] >= 0 else model[::-1]
        left, kept = abs(args[0]) or len(model), []
        for element in order:
            if element == args[1] and left:
                left -= 1
            else:
                kept.append(element)
        return kept if args[0] >= 0 else kept[::-1]
    if name == "lset":
        if -len(model) <= args[0] < len(model):
            model = model.copy()
            model[args[0]] = args[1]
        return model
    if args[1] in model:
        at = model.index(args[1]) + (args[0] == "AFTER")
        return [*model[:at], args[2], *model[at:]]
    return model


@settings(max_examples=150, deadline=None)
@given(st.lists(CALLS, max_size=25), INDEXES, INDEXES)
def test_a_list_is_what_a_plain_list_would_be(calls: list[tuple[Any, ...]], start: int, end: int) -> None:
    db = Context(Database, clock=ManualClock(START_MS)).database(0)
    model: list[bytes] = []
    for call in calls:
        name, *args = call
        try:
            getattr(db, name)("l", *(args[0] if name in ("lpush", "rpush") else args))
        except ResponseError:
            assert name == "lset"
        model = _apply(model, call)
        db.check()
        assert db.lrange("l", 0, -1) == model
        assert db.llen("l") == len(model) and db.exists("l") == bool(model)
    assert db.lrange("l", start, end) == _slice(model, start, end)
    assert db.lindex("l", start) == (model[start] if -len(model) <= start < len(model) else None)
