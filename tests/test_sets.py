"""Sets: the typed methods, their effects and events, encodings, draws, and properties against a plain set."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import ResponseError, WrongTypeError
from tests.laws import START_MS, Recorder
from tests.scanning import check_guarantee, check_uniform


def events(recorder: Recorder) -> list[tuple[str, bytes]]:
    return [(name, key) for _, name, key in recorder.events if name != "keymiss"]


def test_members_come_and_go(db: Database) -> None:
    assert db.sadd("s", "a", 1, "a") == 2
    assert (db.sadd("s", "a"), db.scard("s"), db.sismember("s", 1)) == (0, 2, 1)
    assert db.smismember("s", ["a", "z"], 1) == [1, 0, 1]
    assert db.smembers("s") == {b"a", b"1"}
    assert (db.srem("s", "a", "z"), db.srem("s", 1), db.exists("s")) == (1, 1, 0)


def test_adding_what_is_there_commits_nothing(db: Database, recorder: Recorder) -> None:
    db.sadd("s", "a")
    recorder.take()
    before = db.dirty
    db.sadd("s", "a")
    assert (recorder.take(), db.dirty) == ([], before)
    db.sadd("s", "a", "b")
    assert recorder.take() == [(0, (b"SADD", b"s", b"b"))]


def test_a_pop_is_logged_as_what_it_took(db: Database, recorder: Recorder) -> None:
    db.sadd("s", *range(10))
    recorder.take()
    member = db.spop("s")
    assert recorder.take() == [(0, (b"SREM", b"s", member))]
    gone = db.spop("s", 3)
    assert isinstance(gone, list) and len(set(gone)) == 3
    assert recorder.take() == [(0, (b"SREM", b"s", *gone))]
    rest = db.smembers("s")
    popped = db.spop("s", 100)
    assert isinstance(popped, list) and set(popped) == rest
    assert events(recorder) == [("spop", b"s"), ("del", b"s")]
    assert recorder.take() == [(0, (b"DEL", b"s"))]


def test_a_large_pop_is_logged_in_pieces_with_one_event(db: Database, recorder: Recorder) -> None:
    db.sadd("s", *range(5000))
    recorder.take()
    db.spop("s", 4999)
    effects = [effect for _, effect in recorder.effects]
    assert sum(len(effect) - 2 for effect in effects) == 4999
    assert events(recorder) == [("spop", b"s")]


def test_a_move_takes_from_one_and_adds_to_the_other(db: Database, recorder: Recorder) -> None:
    db.sadd("a", "m")
    recorder.take()
    assert db.smove("a", "b", "m") is True
    assert events(recorder) == [("srem", b"a"), ("del", b"a"), ("new", b"b"), ("sadd", b"b")]
    assert recorder.take() == [(0, (b"SMOVE", b"a", b"b", b"m"))]
    assert db.smove("b", "b", "m") is True and db.smove("b", "b", "z") is False
    assert (db.smembers("b"), db.exists("a")) == ({b"m"}, 0)


def test_algebra(db: Database) -> None:
    db.sadd("a", 1, 2, 3, "x")
    db.sadd("b", 2, 3, "y")
    db.sadd("c", 3)
    assert db.sinter("a", "b") == db.sinter(["a", "b"]) == {b"2", b"3"}
    assert db.sunion(["a", "b"], "c") == {b"1", b"2", b"3", b"x", b"y"}
    assert db.sdiff("a", "b", "none") == {b"1", b"x"}
    assert (db.sinter("a", "none"), db.sdiff("none", "a"), db.sdiff("a", "a")) == (set(), set(), set())
    assert (db.sintercard(2, ["a", "b"]), db.sintercard(2, ["a", "b"], limit=1)) == (2, 1)


def test_a_result_replaces_whatever_was_there_and_an_empty_one_deletes_it(
    db: Database, recorder: Recorder
) -> None:
    db.sadd("a", 1, 2)
    db.set("dest", "x", ex=100)
    assert db.sunionstore("dest", "a") == 2
    assert (db.smembers("dest"), db.ttl("dest")) == ({b"1", b"2"}, -1)
    recorder.take()
    assert db.sinterstore("dest", "a", "none") == 0
    assert (db.exists("dest"), events(recorder)) == (0, [("del", b"dest")])
    assert db.sdiffstore("dest", "none") == 0
    assert db.sdiffstore("a", "a", "none") == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda db: db.spop("s", -1), "ERR value is out of range, must be positive"),
        (lambda db: db.spop("s", "x"), "ERR value is out of range, must be positive"),
        (lambda db: db.srandmember("s", "x"), "ERR value is not an integer or out of range"),
        (lambda db: db.sintercard(0, []), "ERR numkeys should be greater than 0"),
        (lambda db: db.sintercard(2, ["s"]), "ERR Number of keys can't be greater than number of args"),
        (lambda db: db.sintercard(1, ["s"], limit=-1), "ERR LIMIT can't be negative"),
        (lambda db: db.sscan("s", "x"), "ERR invalid cursor"),
        (lambda db: db.sadd("s"), "ERR wrong number of arguments for 'sadd' command"),
    ],
)
def test_what_the_server_refuses_is_refused_in_its_words(db: Database, call: Any, text: str) -> None:
    db.sadd("s", "a")
    with pytest.raises(ResponseError, match=text.replace("'", ".")):
        call(db)
    assert db.smembers("s") == {b"a"}


def test_other_types_are_refused_and_left_alone(db: Database) -> None:
    db.rpush("l", "x")
    db.sadd("s", "a")
    for call in (
        lambda: db.sadd("l", 1),
        lambda: db.smove("s", "l", "a"),
        lambda: db.sinter("none", "l"),
        lambda: db.sunionstore("s", "s", "l"),
        lambda: db.spop("l", 1),
    ):
        with pytest.raises(WrongTypeError):
            call()
    assert (db.smembers("s"), db.lrange("l", 0, -1)) == ({b"a"}, [b"x"])


# --- encodings ----------------------------------------------------------------------------------------


def test_encodings_follow_the_sizes_and_never_shrink(db: Database) -> None:
    db.sadd("s", *range(512))
    assert db.object("encoding", "s") == b"intset"
    db.sadd("s", 512)
    assert db.object("encoding", "s") == b"hashtable"
    db.srem("s", *range(500))
    assert db.object("encoding", "s") == b"hashtable"
    db.sadd("t", 1, "x")
    assert db.object("encoding", "t") == b"listpack"
    db.srem("t", "x")
    assert db.object("encoding", "t") == b"listpack"
    db.sadd("t", "y" * 65)
    assert db.object("encoding", "t") == b"hashtable"


def test_small_sets_list_their_members_as_the_server_does(db: Database) -> None:
    db.sadd("ints", 10, 9, -1)
    assert db._smembers(b"ints") == [b"-1", b"9", b"10"]
    db.sadd("words", "z", "a", "m")
    assert db._smembers(b"words") == [b"z", b"a", b"m"]


# --- draws and scans ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 100])
def test_draws_are_uniform_after_churn(db: Database, size: int) -> None:
    db.sadd("s", *range(size * 3))
    db.srem("s", *range(0, size * 3, 3))
    db.srem("s", *range(1, size * 3, 3))
    members = db.smembers("s")
    single = Counter(db.srandmember("s") for _ in range(size * 40))
    check_uniform(single, members)
    repeated = db.srandmember("s", -size * 40)
    assert isinstance(repeated, list)
    check_uniform(Counter(repeated), members)
    several: Counter[Any] = Counter()
    for _ in range(200):
        drawn = db.srandmember("s", size // 4 + 1)
        assert isinstance(drawn, list) and len(set(drawn)) == len(drawn) == size // 4 + 1
        several.update(drawn)
    check_uniform(several, members)


def test_pops_are_uniform() -> None:
    first: Counter[Any] = Counter()
    for seed in range(600):
        db = Context(Database, random=random.Random(seed)).database(0)
        db.sadd("s", *range(50))
        first[db.spop("s")] += 1
    check_uniform(first, [b"%d" % n for n in range(50)])


class SetSubject:
    """A set with the hashtable encoding, by its commands."""

    def __init__(self, seed: int) -> None:
        self.db = Context(Database, clock=ManualClock(START_MS), random=random.Random(seed)).database(0)
        self.db.sadd("s", "x" * 100)

    def add(self, element: bytes) -> None:
        self.db.sadd("s", element)

    def remove(self, element: bytes) -> None:
        self.db.srem("s", element)

    def draw(self) -> bytes | None:
        drawn = self.db.srandmember("s")
        return drawn if isinstance(drawn, bytes) and len(drawn) < 100 else None

    def scan(self, cursor: int, count: int) -> tuple[int, Iterable[bytes]]:
        cursor, members = self.db.sscan("s", cursor, count=count)
        return cursor, [member for member in members if len(member) < 100]

    def check(self) -> None:
        self.db.check()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32))
def test_sscan_meets_every_member_that_stays(seed: int) -> None:
    check_guarantee(random.Random(seed), SetSubject(seed))


def test_a_small_set_is_one_page_and_patterns_choose(db: Database) -> None:
    db.sadd("s", *(f"m{n}" for n in range(100)))
    cursor, members = db.sscan("s", 0, match="m1*", count=1)
    assert (cursor, len(members)) == (0, 11)
    db.sadd("s", "x" * 100)
    assert sorted(db.sscan_iter("s", match="m1*")) == sorted(members)


@pytest.mark.parametrize("seed", range(5))
def test_a_scan_goes_on_when_a_pop_leaves_few(db: Database, seed: int) -> None:
    db.ctx.limits.set_max_listpack_entries = 0
    db.ctx.random.seed(seed)
    db.sadd("s", *(f"m{n}" for n in range(1000)))
    cursor, met = db.sscan("s", count=1)[0], set()
    for n in range(600):
        db.srem("s", f"m{n}")
    db.srandmember("s", -2000)  # draws let those at the end of the order take the free places
    while cursor:
        if 0 < cursor < 40 and db.scard("s") == 400:
            db.spop("s", 340)
        cursor, page = db.sscan("s", cursor, count=10)
        met |= set(page)
    assert db.scard("s") == 60
    assert db.smembers("s") <= met
    db.check()


# --- properties ---------------------------------------------------------------------------------------

MEMBERS = st.sampled_from([b"1", b"2", b"30", b"-4", b"a", b"b", b"", b"01", b"x" * 70])
KEYS = st.sampled_from(["a", "b", "c"])
CALLS = st.one_of(
    st.tuples(st.just("sadd"), KEYS, st.lists(MEMBERS, min_size=1, max_size=4)),
    st.tuples(st.just("srem"), KEYS, st.lists(MEMBERS, min_size=1, max_size=4)),
    st.tuples(st.just("smove"), KEYS, KEYS, MEMBERS),
    st.tuples(st.just("spop"), KEYS, st.integers(0, 3)),
    st.tuples(
        st.sampled_from(["sinterstore", "sunionstore", "sdiffstore"]),
        KEYS,
        st.lists(KEYS, min_size=1, max_size=3),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CALLS, max_size=25))
def test_sets_are_what_plain_sets_would_be(calls: list[tuple[Any, ...]]) -> None:
    db = Context(Database, clock=ManualClock(START_MS), random=random.Random(1)).database(0)
    model: dict[str, set[bytes]] = {"a": set(), "b": set(), "c": set()}
    for name, key, *args in calls:
        if name == "sadd":
            assert db.sadd(key, *args[0]) == len(set(args[0]) - model[key])
            model[key] |= set(args[0])
        elif name == "srem":
            assert db.srem(key, *args[0]) == len(set(args[0]) & model[key])
            model[key] -= set(args[0])
        elif name == "smove":
            there = args[1] in model[key]
            assert db.smove(key, args[0], args[1]) is there
            if there:
                model[key].discard(args[1])
                model[args[0]].add(args[1])
        elif name == "spop":
            gone = db.spop(key, args[0])
            assert isinstance(gone, list) and set(gone) <= model[key]
            assert len(gone) == min(args[0], len(model[key]))
            model[key] -= set(gone)
        else:
            sources = [model[each] for each in args[0]]
            combine = {
                "sinterstore": set.intersection,
                "sunionstore": set.union,
                "sdiffstore": set.difference,
            }[name]
            result = combine(*sources)
            assert getattr(db, name)(key, args[0]) == len(result)
            model[key] = set(result)
        db.check()
        assert {each: db.smembers(each) for each in model} == model
