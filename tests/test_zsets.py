"""Sorted sets by their typed methods: results, events, encodings, errors, and redis-py beside them."""

from __future__ import annotations

import inspect
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types import TYPES
from kvstore.errors import DataError, ResponseError, StoreError, WrongTypeError
from tests.laws import Recorder, digest, replay
from tests.scanning import check_guarantee, check_uniform
from tests.seeds import new_seed
from tests.servers import Server

INF = math.inf


@pytest.fixture
def db() -> Database:
    return Context(Database, clock=ManualClock(), random=random.Random(7)).database(0)


@pytest.fixture(params=["small", "large"])
def sized(request: pytest.FixtureRequest, db: Database) -> Database:
    """A database whose sorted sets are listpacks, or skiplists from their first member on."""
    if request.param == "large":
        db.ctx.limits.zset_max_listpack_entries = 0
    return db


def encoding(db: Database, key: bytes) -> str:
    value = db._data[key]
    return TYPES[type(value)].encoding(value, db.ctx.limits)


@pytest.mark.parametrize("key", ["h", "s", "z"])
def test_draws_are_refused_before_they_fill_the_memory(db: Database, key: str) -> None:
    db.hset("h", "a", 1)
    db.sadd("s", "a")
    db.zadd("z", {"a": 1})
    draw: Any = {"h": db.hrandfield, "s": db.srandmember, "z": db.zrandmember}[key]
    assert draw("nothing", -(2**63) + 1) == []
    assert draw(key, 2**63 - 1) == [b"a"]
    for count in (-(2**63) + 1, -(2**40)):
        with pytest.raises(ResponseError, match=r"^ERR value is out of range$"):
            draw(key, count)
    with pytest.raises(ResponseError, match="value must between -9223372036854775807 and"):
        draw("nothing", -(2**63))
    if key != "s":
        assert draw("nothing", -(2**62) + 1, True) == []
        with pytest.raises(ResponseError, match=r"^ERR value is out of range$"):
            draw("nothing", -(2**62), True)


class TestAdding:
    def test_zadd_counts_what_is_new_and_ch_what_changed(self, sized: Database) -> None:
        assert sized.zadd("z", {"a": 1, "b": 2}) == 2
        assert sized.zadd("z", {"a": 5, "c": 3}) == 1
        assert sized.zadd("z", {"a": 5, "b": 7, "d": 1}, ch=True) == 2
        assert sized.zrange("z", 0, -1, withscores=True) == [
            (b"d", 1.0),
            (b"c", 3.0),
            (b"a", 5.0),
            (b"b", 7.0),
        ]

    def test_flags_forbid_what_they_say(self, sized: Database) -> None:
        assert sized.zadd("z", {"a": 1}, xx=True) == 0
        assert sized.zcard("z") == 0
        sized.zadd("z", {"a": 5})
        sized.zadd("z", {"a": 9, "b": 1}, nx=True)
        assert sized.zmscore("z", ["a", "b"]) == [5.0, 1.0]
        sized.zadd("z", {"a": 4, "b": 2}, gt=True)
        assert sized.zmscore("z", ["a", "b"]) == [5.0, 2.0]
        sized.zadd("z", {"a": 4, "b": 3, "c": 0}, lt=True, xx=True)
        assert sized.zmscore("z", ["a", "b", "c"]) == [4.0, 2.0, None]

    def test_incr_returns_the_score_or_none(self, sized: Database) -> None:
        assert sized.zadd("z", {"a": 1.5}, incr=True) == 1.5
        assert sized.zadd("z", {"a": 1}, incr=True, nx=True) is None
        assert sized.zadd("z", {"a": -1}, incr=True, gt=True) is None
        assert sized.zincrby("z", 2, "a") == 3.5
        assert sized.zincrby("z", INF, "a") == INF
        with pytest.raises(ResponseError, match=r"resulting score is not a number \(NaN\)"):
            sized.zincrby("z", -INF, "a")
        assert sized.zscore("z", "a") == INF

    @pytest.mark.parametrize(
        "arguments",
        [{"nx": True, "xx": True}, {"gt": True, "lt": True}, {"nx": True, "gt": True}, {"mapping": {}}],
        ids=str,
    )
    def test_contradictions_are_refused_before_anything_happens(
        self, db: Database, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(DataError):
            db.zadd("z", **{"mapping": {"a": 1}, **arguments})
        assert db.dbsize() == 0

    @pytest.mark.parametrize("score", [math.nan, "nan", "", "1 ", b"\x00", "1e999"])
    def test_what_is_no_score_is_refused(self, db: Database, score: Any) -> None:
        with pytest.raises(ResponseError, match="value is not a valid float"):
            db.zadd("z", {"a": score})
        with pytest.raises(ResponseError, match="value is not a valid float"):
            db.zadd("z", {"b": 1, "a": score})
        assert db.dbsize() == 0

    def test_a_score_must_be_a_number_or_a_word(self, db: Database) -> None:
        for score in (True, None, [1]):
            with pytest.raises(DataError):
                db.zadd("z", {"a": score})  # type: ignore[dict-item]

    def test_a_listpack_holds_no_negative_zero(self, db: Database) -> None:
        db.zadd("z", {"a": -0.0})
        assert math.copysign(1, db.zscore("z", "a") or 0.0) == 1
        assert math.copysign(1, db.zincrby("new", -0.0, "a")) == -1  # the reply is the sum itself
        db.zadd("z", {"x" * 65: 1})
        db.zadd("z", {"b": -0.0})
        assert math.copysign(1, db.zscore("z", "b") or 0.0) == 1 or encoding(db, b"z") == "skiplist"
        assert str(db._data[b"z"].scores[b"b"]) == "-0.0"


class TestEncodings:
    def test_a_set_turns_into_a_skiplist_by_number_and_stays_one(self, db: Database) -> None:
        db.zadd("z", {f"m{n}": n for n in range(128)})
        assert encoding(db, b"z") == "listpack"
        db.zadd("z", {"one more": 1})
        assert encoding(db, b"z") == "skiplist"
        db.zrem("z", *[f"m{n}" for n in range(128)])
        assert encoding(db, b"z") == "skiplist"

    def test_a_long_member_makes_a_skiplist_even_where_a_flag_forbids_it(self, db: Database) -> None:
        db.zadd("z", {"a": 1})
        db.zadd("z", {"x" * 65: 1}, xx=True)
        assert encoding(db, b"z") == "skiplist"

    def test_a_stored_result_has_the_encoding_of_its_size(self, db: Database) -> None:
        db.zadd("z", {f"m{n}": n for n in range(129)})
        db.zrangestore("few", "z", 0, 9)
        db.zunionstore("many", ["z"])
        assert (encoding(db, b"few"), encoding(db, b"many")) == ("listpack", "skiplist")


class TestReading:
    def test_ranges_by_rank(self, sized: Database) -> None:
        sized.zadd("z", {"a": 1, "b": 2, "c": 3, "d": 4})
        assert sized.zrange("z", 1, 2) == [b"b", b"c"]
        assert sized.zrange("z", -2, 99) == [b"c", b"d"]
        assert sized.zrange("z", 3, 1) == []
        assert sized.zrange("z", 0, 1, desc=True) == [b"d", b"c"]
        assert sized.zrevrange("z", -1, -1, withscores=True) == [(b"a", 1.0)]

    def test_ranges_by_score(self, sized: Database) -> None:
        sized.zadd("z", {"a": 1, "b": 2, "c": 2, "d": 4})
        assert sized.zrangebyscore("z", 2, 4) == [b"b", b"c", b"d"]
        assert sized.zrangebyscore("z", "(1", "(4", withscores=True) == [(b"b", 2.0), (b"c", 2.0)]
        assert sized.zrangebyscore("z", "-inf", INF, 1, 2) == [b"b", b"c"]
        assert sized.zrevrangebyscore("z", "+inf", "-inf", 1, 2) == [b"c", b"b"]
        assert sized.zrangebyscore("z", "-inf", "inf", -1, 5) == []
        assert sized.zrange("z", 4, "(1", desc=True, byscore=True, offset=0, num=-1) == [b"d", b"c", b"b"]
        assert sized.zcount("z", "(2", "inf") == 1

    def test_infinite_scores_are_inside_infinite_bounds_only(self, sized: Database) -> None:
        sized.zadd("z", {"low": -INF, "mid": 0, "high": INF})
        assert sized.zrangebyscore("z", "-inf", "+inf") == [b"low", b"mid", b"high"]
        assert sized.zrangebyscore("z", "(-inf", "(inf") == [b"mid"]
        assert sized.zrangebyscore("z", "(inf", "inf") == []
        assert sized.zcount("z", INF, INF) == 1

    def test_ranges_by_member(self, sized: Database) -> None:
        sized.zadd("z", dict.fromkeys(["", "a", "aa", "b", "c"], 0))
        assert sized.zrangebylex("z", "-", "+") == [b"", b"a", b"aa", b"b", b"c"]
        assert sized.zrangebylex("z", "[a", "(b") == [b"a", b"aa"]
        assert sized.zrangebylex("z", "(a", "[b") == [b"aa", b"b"]
        assert sized.zrevrangebylex("z", "+", "-", 1, 2) == [b"b", b"aa"]
        assert sized.zrangebylex("z", "+", "-") == []
        assert sized.zlexcount("z", "-", "(aa") == 2

    @pytest.mark.parametrize("bound", ["x", "nan", "((1", "1 ", "0x", b"\xff"])
    def test_what_is_no_score_bound_is_refused_even_without_the_key(self, db: Database, bound: Any) -> None:
        for low, high in ((bound, 1), (1, bound)):
            with pytest.raises(ResponseError, match="min or max is not a float"):
                db.zrangebyscore("nokey", low, high)

    @pytest.mark.parametrize(
        ("bound", "count"), [("", 2), (" 1", 1), ("1e999", 0), ("0x1", 1), ("1\0x", 1), ("(0", 1)]
    )
    def test_odd_score_bounds_are_read_as_the_server_reads_them(
        self, db: Database, bound: str, count: int
    ) -> None:
        db.zadd("z", {"a": 0, "b": 1})
        assert db.zcount("z", bound, "inf") == count

    def test_ranks(self, sized: Database) -> None:
        sized.zadd("z", {"a": 1, "b": 2.5, "c": 3})
        assert (sized.zrank("z", "b"), sized.zrevrank("z", "a"), sized.zrank("z", "x")) == (1, 2, None)
        assert sized.zrank("z", "b", withscore=True) == [1, 2.5]
        assert sized.zrevrank("z", "c", True, str) == [0, "b'3'"]

    def test_score_cast_func_gets_what_goes_over_the_wire(self, db: Database) -> None:
        db.zadd("z", {"a": 2.5, "b": 3})
        assert db.zrange("z", 0, -1, withscores=True, score_cast_func=bytes.decode) == [
            (b"a", "2.5"),
            (b"b", "3"),
        ]
        assert db.zrange("z", 0, -1, withscores=True, score_cast_func=int) == [(b"a", 2), (b"b", 3)]

    def test_another_type_is_refused(self, db: Database) -> None:
        db.set("s", "x")
        calls: list[Callable[[], Any]] = [
            lambda: db.zadd("s", {"a": 1}),
            lambda: db.zincrby("s", 1, "a"),
            lambda: db.zrange("s", 0, 1),
            lambda: db.zpopmin("s", 0),
            lambda: db.zscore("s", "a"),
            lambda: db.zunion(["s"]),
            lambda: db.zrangestore("d", "s", 0, 1),
            lambda: db.zmpop(2, ["none", "s"], min=True),
            lambda: db.zremrangebyrank("s", 0, 1),
        ]
        for call in calls:
            with pytest.raises(WrongTypeError):
                call()


class TestRemoving:
    def test_pops_take_from_the_ends(self, sized: Database) -> None:
        sized.zadd("z", {"a": 1, "b": 2, "c": 3, "d": 4})
        assert sized.zpopmin("z") == [(b"a", 1.0)]
        assert sized.zpopmax("z", 2) == [(b"d", 4.0), (b"c", 3.0)]
        assert sized.zpopmin("z", 0) == []
        assert sized.zpopmin("z", 9) == [(b"b", 2.0)]
        assert sized.exists("z") == 0
        with pytest.raises(ResponseError, match="value is out of range, must be positive"):
            sized.zpopmin("z", -1)

    def test_zmpop_takes_the_first_key_that_is_there(self, sized: Database) -> None:
        sized.zadd("z", {"a": 1, "b": 2.5})
        assert sized.zmpop(2, ["none", "z"], max=True, count=5) == [b"z", [[b"b", b"2.5"], [b"a", b"1"]]]
        assert sized.zmpop(1, ["z"], min=True) is None

    def test_ranges_are_removed(self, sized: Database) -> None:
        sized.zadd("z", {f"m{n}": n for n in range(10)})
        assert sized.zremrangebyrank("z", 0, 1) == 2
        assert sized.zremrangebyscore("z", "(7", "+inf") == 2
        assert sized.zremrangebyscore("z", 100, 200) == 0
        assert sized.zrange("z", 0, -1) == [b"m%d" % n for n in range(2, 8)]
        sized.zadd("lex", dict.fromkeys("abcd", 0))
        assert sized.zremrangebylex("lex", "[b", "(d") == 2
        assert sized.zremrangebylex("lex", "-", "+") == 2
        assert sized.exists("lex") == 0

    def test_a_wait_that_finds_nothing_is_over_at_once_or_refused(self, db: Database) -> None:
        db.zadd("z", {"a": 1, "b": 2})
        assert db.bzpopmin(["none", "z"]) == (b"z", b"a", 1.0)
        assert db.bzpopmax("z", 1) == (b"z", b"b", 2.0)
        assert db.bzpopmin("z", 0.1) is None
        assert db.bzmpop(1, 1, ["z"], min=True) is None
        for call in (lambda: db.bzpopmin("z"), lambda: db.bzmpop(0, 1, ["z"], max=True)):
            with pytest.raises(ResponseError, match="would wait for ever"):
                call()


class TestAlgebra:
    def test_sums_minima_maxima_and_weights(self, sized: Database) -> None:
        sized.zadd("x", {"a": 1, "b": 2})
        sized.zadd("y", {"b": 10, "c": 20})
        assert sized.zunion(["x", "y"], withscores=True) == [(b"a", 1.0), (b"b", 12.0), (b"c", 20.0)]
        assert sized.zunion({"x": 3, "y": -1}, withscores=True) == [(b"c", -20.0), (b"b", -4.0), (b"a", 3.0)]
        assert sized.zinter(["x", "y"], "max", True) == [(b"b", 10.0)]
        assert sized.zinter(["x", "x"], "min", True) == [(b"a", 1.0), (b"b", 2.0)]
        assert sized.zdiff(["x", "y"], True) == [b"a", b"1"]
        assert sized.zintercard(2, ["x", "y"]) == 1
        assert sized.zintercard(2, ["x", "x"], limit=1) == 1

    def test_plain_sets_count_as_one_a_member(self, sized: Database) -> None:
        sized.zadd("z", {"a": 5})
        sized.sadd("s", "a", "b")
        assert sized.zunion({"z": 1, "s": 2}, withscores=True) == [(b"b", 2.0), (b"a", 7.0)]
        assert sized.zinterstore("s", ["s", "z"]) == 1
        assert sized.zrange("s", 0, -1, withscores=True) == [(b"a", 6.0)]

    def test_what_would_be_no_number_counts_as_zero(self, sized: Database) -> None:
        sized.zadd("up", {"a": INF, "b": 0})
        sized.zadd("down", {"a": -INF})
        assert sized.zunion(["up", "down"], withscores=True) == [(b"a", 0.0), (b"b", 0.0)]
        assert sized.zinter(["up", "down"], withscores=True) == [(b"a", 0.0)]
        assert sized.zunion({"up": INF}, withscores=True) == [(b"b", 0.0), (b"a", INF)]

    def test_an_empty_result_deletes_the_destination(self, sized: Database) -> None:
        sized.set("d", "x")
        sized.zadd("z", {"a": 1})
        assert sized.zdiffstore("d", ["z", "z"]) == 0
        assert sized.exists("d") == 0
        assert sized.zunionstore("z", {"z": 2, "none": 1}) == 1
        assert sized.zscore("z", "a") == 2.0

    def test_a_stored_result_has_no_deadline_and_a_copy_its_own_members(self, db: Database) -> None:
        db.zadd("z", {"a": 1})
        db.expire("z", 100)
        db.zunionstore("z", ["z"])
        assert db.ttl("z") == -1
        db.copy("z", "y")
        db.zadd("y", {"b": 2})
        assert db.zcard("z") == 1

    def test_errors_of_the_arguments(self, db: Database) -> None:
        with pytest.raises(ResponseError, match="wrong number of arguments for 'zinter' command"):
            db.zinter([])
        with pytest.raises(ResponseError, match="at least 1 input key is needed for 'zunion' command"):
            db.zunion([], withscores=True)
        with pytest.raises(DataError):
            db.zunion(["z"], aggregate="avg")
        with pytest.raises(ResponseError, match="weight value is not a float"):
            db.zunionstore("d", {"z": math.nan})


class TestDrawingAndScanning:
    def test_counts_of_draws(self, sized: Database) -> None:
        members = {f"m{n}": n for n in range(20)}
        sized.zadd("z", members)
        assert sized.zrandmember("z").decode() in members
        assert len(set(sized.zrandmember("z", 7))) == 7
        assert len(set(sized.zrandmember("z", 18))) == 18
        assert sorted(sized.zrandmember("z", 99)) == sorted(name.encode() for name in members)
        assert len(sized.zrandmember("z", -99)) == 99
        flat = sized.zrandmember("z", 2, withscores=True)
        assert [members[name.decode()] for name in flat[::2]] == [int(score) for score in flat[1::2]]
        assert (sized.zrandmember("none"), sized.zrandmember("none", 2)) == (None, [])

    @pytest.mark.parametrize("count", [None, -5, 3, 40])
    def test_draws_are_uniform(self, db: Database, count: int | None) -> None:
        seed = new_seed()
        db.ctx.random.seed(seed)
        names = [b"m%d" % n for n in range(60)]
        db.zadd("z", {name: n // 7 for n, name in enumerate(names)})
        drawn: Counter[bytes] = Counter()
        while sum(drawn.values()) < 6000:
            drawn.update([db.zrandmember("z")] if count is None else db.zrandmember("z", count))
        check_uniform(drawn, names)

    def test_a_small_set_comes_at_once_and_in_order(self, db: Database) -> None:
        db.zadd("z", {"b": 2, "a": 1})
        assert db.zscan("z", 99, count=1) == (0, [(b"a", 1.0), (b"b", 2.0)])
        assert db.zscan("z", match="b*") == (0, [(b"b", 2.0)])
        assert list(db.zscan_iter("z")) == [(b"a", 1.0), (b"b", 2.0)]

    def test_a_scan_of_a_changing_set_meets_whatever_stays(self, db: Database) -> None:
        rng = random.Random(new_seed())
        db.ctx.limits.zset_max_listpack_entries = 0

        class Subject:
            """The set never gets empty, as its key, and with it all cursors, would be gone."""

            def add(self, element: bytes) -> None:
                db.zadd("z", {element: rng.randrange(9)})

            def remove(self, element: bytes) -> None:
                db.zrem("z", element) if rng.random() < 0.5 else db.zpopmin("z", 0) or db.zrem("z", element)

            def draw(self) -> bytes | None:
                return None

            def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
                following, pairs = db.zscan("z", cursor, count=count)
                return following, [member for member, _ in pairs if member != b"stays"]

            def check(self) -> None:
                db.check()

        for _ in range(20):
            db.delete("z")
            db.zadd("z", {"stays": 0})
            check_guarantee(rng, Subject())


class TestEvents:
    @pytest.fixture
    def heard(self, db: Database) -> Iterator[Recorder]:
        recorder = Recorder()
        db.ctx.listen(recorder)
        yield recorder
        db.check()
        assert digest(replay(recorder.effects)) == digest(db.ctx)

    def names(self, heard: Recorder) -> list[str]:
        found = [name for _, name, _ in heard.events if name not in ("new", "keymiss")]
        heard.events.clear()
        return found

    def test_each_change_has_its_name(self, db: Database, heard: Recorder) -> None:
        db.zadd("z", {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7})
        db.zadd("z", {"a": 1})
        db.zincrby("z", 0, "a")
        assert self.names(heard) == ["zadd"]
        db.zincrby("z", 1, "a")
        db.zrem("z", "a", "none")
        db.zpopmin("z")
        db.zpopmax("z")
        db.zremrangebyrank("z", 0, 0)
        db.zremrangebyscore("z", 4, 4)
        assert self.names(heard) == [
            "zincr", "zrem", "zpopmin", "zpopmax", "zremrangebyrank", "zremrangebyscore",
        ]  # fmt: skip
        db.zunionstore("d", ["z"])
        db.zrangestore("d", "z", 0, 0)
        db.zrangestore("d", "z", 5, 5)
        db.zrangestore("d", "z", 5, 5)
        db.zmpop(1, ["z"], max=True, count=9)
        assert self.names(heard) == ["zunionstore", "zrangestore", "del", "zpopmax", "del"]

    def test_an_effect_carries_only_what_changed(self, db: Database, heard: Recorder) -> None:
        db.zadd("z", {"a": 1, "b": 2})
        db.zadd("z", {"a": 1, "b": 3, "c": "0x10"}, ch=True)
        db.zincrby("z", 0.1, "a")
        assert [effect for _, effect in heard.effects] == [
            (b"ZADD", b"z", b"1", b"a", b"2", b"b"),
            (b"ZADD", b"z", b"3", b"b", b"16", b"c"),
            (b"ZADD", b"z", b"1.1", b"a"),
        ]


# -- beside redis-py -----------------------------------------------------------------------------------

NAMES = [name for name in dir(redis.commands.core.SortedSetCommands) if "z" in name and name[0] != "_"]


@pytest.mark.parametrize("name", [*NAMES, "zscan", "zscan_iter"])
def test_the_signature_is_that_of_redis_py(name: str) -> None:
    theirs = inspect.signature(getattr(redis.Redis, name)).parameters.values()
    ours = inspect.signature(getattr(Database, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def _calls() -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def call(name: str, *args: Any, **kwargs: Any) -> None:
        calls.append((name, args, kwargs))

    def tagged(score: Any) -> Any:
        return "cast", score

    call("zadd", "a", {"x": 1, "y": 2.5, b"z": "3", 4: 1e21})
    call("sadd", "s", "x", "w")
    call("set", "str", "v")
    for flags in (
        {"incr": True},
        {"incr": True, "nx": True},
        {"ch": True, "gt": True},
        {"xx": True, "nx": True},
    ):
        call("zadd", "a", {"x": 7}, **flags)
    for score in (math.nan, "bad", None, True):
        call("zadd", "a", {"x": score})
    call("zadd", "str", {"x": 1})
    call("zincrby", "a", 0.1, "x")
    call("zincrby", "a", "x", "x")
    for withscores in (False, True):
        call("zrange", "a", 0, -1, withscores=withscores)
        call("zrange", "a", 0, -1, True, withscores, int)
        call("zrange", "a", "(1", "+inf", withscores=withscores, byscore=True, offset=0, num=2)
        call("zrange", "a", "-", "+", bylex=True, withscores=withscores)
        call("zrevrange", "a", 0, 1, withscores, tagged)
        call("zrangebyscore", "a", 1, 8, 0, 2, withscores)
        call("zrevrangebyscore", "a", 9, "-inf", withscores=withscores, score_cast_func=tagged)
        call("zdiff", ["a", "s"], withscores)
        call("zinter", ["a", "s"], None, withscores)
        call("zunion", {"a": 2, "s": 0.5}, "MAX", withscores, tagged)
        call("zrank", "a", "y", withscores)
        call("zrevrank", "a", "y", withscores, tagged)
        call("zrank", "a", "none", withscores)
        call("zrandmember", "a", 99, withscores)
        call("zrandmember", "none", 2, withscores)
    call("zrange", "a", 0, 1, offset=1)
    call("zrange", "a", 0, 1, offset=1, num=1)
    call("zrange", "a", 0, 1, byscore=True, bylex=True)
    call("zrange", "a", 0.5, 1)
    call("zrange", "str", 0, 1)
    call("zrangebyscore", "a", 1, 2, 3)
    call("zrangebylex", "a", "bad", "+")
    call("zrangebylex", "a", "-", "+", 1, 1)
    call("zrevrangebylex", "a", "+", "-", 1, 1)
    call("zrangestore", "d", "a", 0, 1, desc=True)
    call("zrangestore", "d", "a", 0, 1, byscore=True, bylex=True)
    call("zrangestore", "d", "a", "-inf", 5, byscore=True, offset=0, num=1)
    for name in ("zunionstore", "zinterstore"):
        call(name, "d", ["a", "s"])
        call(name, "d", {"a": 2, "s": 3}, "min")
        call(name, "d", [])
        call(name, "d", ["a"], "avg")
        call(name, "d", ["str"])
    call("zdiffstore", "d", ["a", "s"])
    call("zdiff", [])
    call("zunion", [], withscores=True)
    call("zinter", ["a", "s"], "COUNT")
    call("zintercard", 2, ["a", "s"])
    call("zintercard", 1, ["a", "s"])
    call("zintercard", 2, ["a", "s"], -1)
    call("zcard", "a")
    call("zcount", "a", 1, "(8")
    call("zlexcount", "d", "-", "+")
    call("zscore", "a", "x")
    call("zscore", "a", "none")
    call("zmscore", "a", ["x", "none"])
    call("zmscore", "a", [])
    call("zscan", "a")
    call("zscan", "a", 0, "x*", 5, tagged)
    call("zscan", "a", "bad")
    call("zscan", "a", 0, None, 0)
    call("zmpop", 2, ["none", "a"], min=True)
    call("zmpop", 1, ["a"])
    call("zmpop", 2, ["a"], max=True)
    call("zmpop", 0, ["a"], max=True)
    call("zmpop", 1, ["a"], max=True, count=0)
    call("bzmpop", 0.01, 1, ["none"], max=True)
    call("bzmpop", 0.01, 1, ["a"], max=True)
    call("bzpopmin", ["none"], 0.01)
    call("bzpopmin", "a")
    call("zadd", "a", {"p": 1, "q": 2, "r": 3, "t": 4})
    call("bzpopmax", ["a"], 1)
    call("zpopmin", "a")
    call("zpopmax", "a", 1)
    call("zpopmin", "a", -1)
    call("zpopmin", "none")
    call("zrem", "a", "none", "x")
    call("zrem", "a")
    call("zremrangebyrank", "a", 0, 0)
    call("zremrangebyscore", "a", "(0", "bad")
    call("zremrangebylex", "a", "-", "(a")
    call("zrange", "a", 0, -1, withscores=True)
    return calls


def test_methods_return_and_raise_what_redis_py_does(valkey_server: Server) -> None:
    theirs = redis.Redis(unix_socket_path=valkey_server.unix)
    theirs.flushall()
    ours = Context(Database).database(0)

    def outcome(of: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
        try:
            return "returned", repr(getattr(of, name)(*args, **kwargs))
        except (redis.DataError, DataError):
            return "raised", DataError
        except (redis.ResponseError, StoreError) as error:
            return "raised", str(error).removeprefix("ERR ").removeprefix("WRONGTYPE ")

    for name, args, kwargs in _calls():
        expected = outcome(theirs, name, args, kwargs)
        assert outcome(ours, name, args, kwargs) == expected, (name, args, kwargs)
    theirs.close()
