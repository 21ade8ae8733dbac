"""SORT by its typed methods and in sessions: order, patterns, what is stored and logged, who may use patterns."""

from __future__ import annotations

import random

import pytest

from kvstore import DataError, ResponseError, Store, WrongTypeError
from kvstore.engine.database import Database
from tests.laws import Recorder, digest, effects, event_names, replay
from tests.seeds import new_seed
from tests.servers import Server


@pytest.fixture
def filled(db: Database) -> Database:
    db.rpush("l", 3, 1, 2, 10)
    db.mset({"w_1": 5, "w_2": 4, "w_3": "4", "name_1": "one", "name_2": "two"})
    db.hset("h_1", "f", "2")
    db.hset("h_2", "f", "7")
    return db


# -- order -------------------------------------------------------------------------------------------


def test_elements_come_in_order_of_their_numbers(filled: Database) -> None:
    assert filled.sort("l") == [b"1", b"2", b"3", b"10"]
    assert filled.sort("l", desc=True) == [b"10", b"3", b"2", b"1"]
    assert filled.sort("l", start=1, num=2) == filled.sort_ro("l", start=1, num=2) == [b"2", b"3"]
    assert filled.sort("l", alpha=True) == [b"1", b"10", b"2", b"3"]
    assert filled.sort("none") == filled.sort_ro("none") == []


def test_equal_numbers_come_in_order_of_their_bytes(db: Database) -> None:
    db.rpush("l", "1.0", "1", "01", "1e0", "0x1", "", "-0", "0")
    assert db.sort("l") == [b"", b"-0", b"0", b"01", b"0x1", b"1", b"1.0", b"1e0"]


@pytest.mark.parametrize(
    "word",
    ["x", "1 ", " ", "nan", "1e400", "-1e400", "1e-400", "1e-310", "1_0", "1.2.3", "-", "0x", "\u0661"],
)
def test_what_is_no_number_is_refused(db: Database, word: str) -> None:
    db.rpush("l", 5, word, 7)
    with pytest.raises(ResponseError, match="One or more scores can't be converted into double"):
        db.sort("l", store="d")
    assert not db.exists("d")


@pytest.mark.parametrize(
    ("word", "number"), [("", 0), (" 4", 4), ("4\0x", 4), ("\0", 0), ("inf", 1e308), ("+4", 4), ("0x10", 16)]
)
def test_numbers_are_read_as_servers_read_them(db: Database, word: str, number: float) -> None:
    db.rpush("l", number - 0.5, word, number + 0.5 if number < 100 else 17)
    found = db.sort("l")
    assert isinstance(found, list)
    assert found.index(word.encode()) == (2 if word == "inf" else 1)


def test_bytes_are_compared_up_to_a_nul_unless_the_result_is_stored(db: Database) -> None:
    came = [b"a\0c", b"a\0b", b"b", b"a\0a", b"a"]
    db.rpush("l", *came)
    assert db.sort("l", alpha=True) == [b"a\0c", b"a\0b", b"a\0a", b"a", b"b"]
    db.sort("l", alpha=True, store="d")
    assert db.lrange("d", 0, -1) == sorted(came)


def test_a_pattern_without_a_star_leaves_lists_and_sorted_sets_as_they_are(filled: Database) -> None:
    filled.zadd("z", {"c": 1, "a": 2, "b": 3})
    assert filled.sort("l", by="nosort") == [b"3", b"1", b"2", b"10"]
    assert filled.sort("l", by="nosort", desc=True, start=1, num=2) == [b"2", b"1"]
    assert filled.sort("z", by="nosort", start=1, num=9) == [b"a", b"b"]
    assert filled.sort("z", by="nosort", desc=True, start=0, num=2) == [b"b", b"a"]


def test_an_unsorted_set_is_sorted_where_its_order_would_be_kept(db: Database) -> None:
    db.sadd("s", "c", "a", "b")
    assert db.sort("s", by="nosort", desc=True, start=0, num=2, store="d") == 2
    assert db.lrange("d", 0, -1) == [b"c", b"b"]
    store = Store()
    store.sadd("s", "c", "a", "b")
    assert store.eval("return redis.call('SORT', 's', 'BY', 'nosort')", 0) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("desc", [False, True])
def test_any_part_of_any_list_is_what_sorting_all_of_it_gives(db: Database, desc: bool) -> None:
    rng = random.Random(new_seed())
    for _ in range(50):
        numbers = [rng.choice((rng.randrange(20), rng.uniform(-5, 5))) for _ in range(rng.randrange(1, 60))]
        db.delete("l")
        db.rpush("l", *numbers)
        expected = sorted(((float(each), repr(each).encode()) for each in numbers), reverse=desc)
        start, count = rng.randrange(60), rng.randrange(60)
        found = db.sort("l", start=start, num=count, desc=desc)
        assert found == [element for _, element in expected[start : start + count]]


# -- patterns ----------------------------------------------------------------------------------------


def test_other_keys_give_the_order_and_the_result(filled: Database) -> None:
    assert filled.sort("l", by="w_*") == [b"10", b"2", b"3", b"1"]  # w_10 is not there: 0
    assert filled.sort("l", by="h_*->f", get=["#", "h_*->f"]) == [
        *(b"10", None, b"3", None),
        *(b"1", b"2", b"2", b"7"),
    ]
    assert filled.sort("l", get="name_*") == [b"one", b"two", None, None]
    assert filled.sort("l", by="w_*", alpha=True) == [b"10", b"3", b"2", b"1"]


@pytest.mark.parametrize(
    "pattern", ["none", "h_*", "w_*->f", "h_*->g", "h_*->", "w_**", "#*", "w\0_*", "w_*\0"]
)
def test_a_pattern_that_names_nothing_gives_nothing(filled: Database, pattern: str) -> None:
    assert filled.sort("l", get=pattern) == [None] * 4
    assert filled.sort("l", get=pattern, store="d") == 4
    assert filled.lrange("d", 0, -1) == [b""] * 4


def test_groups_are_a_tuple_for_each_element(filled: Database) -> None:
    assert filled.sort("l", get=["#", "name_*"], groups=True, start=0, num=2) == [
        (b"1", b"one"),
        (b"2", b"two"),
    ]
    for get in (None, [], "#", ["#"]):
        with pytest.raises(DataError, match="at least two keys"):
            filled.sort("l", get=get, groups=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="must both be specified"):
        filled.sort("l", start=1)


def test_expired_keys_are_not_seen(filled: Database) -> None:
    filled.pexpireat("w_1", 1)
    assert filled.sort("l", by="w_*") == [b"1", b"10", b"2", b"3"]


# -- storing -----------------------------------------------------------------------------------------


def test_a_stored_result_replaces_what_was_there_and_is_logged_as_it_is(
    filled: Database, recorder: Recorder
) -> None:
    filled.set("d", "x", ex=100)
    recorder.take()
    before = filled.dirty
    assert filled.sort("l", store="d") == 4
    assert filled.dirty == before + 4
    assert filled.ttl("d") == -1
    assert filled.sort("l", get="w_*", store="e") == 4
    assert effects(recorder) == [
        (b"DEL", b"d"),
        (b"RPUSH", b"d", b"1", b"2", b"3", b"10"),
        (b"RPUSH", b"e", b"5", b"4", b"4", b""),
    ]
    filled.check()


def test_an_empty_result_deletes_the_key(filled: Database, recorder: Recorder) -> None:
    filled.rpush("d", 1)
    recorder.take()
    before = filled.dirty
    assert filled.sort("none", store="d") == filled.sort("l", start=9, num=9, store="d") == 0
    assert not filled.exists("d")
    assert filled.dirty == before + 1
    assert [name for name in event_names(recorder) if name not in ("new", "keymiss")] == ["del"]


def test_effects_of_a_long_result_repeat_it(db: Database, recorder: Recorder) -> None:
    rng = random.Random(new_seed())
    db.sadd("s", *rng.sample(range(100_000), 3000))
    assert db.sort("s", store="d") == 3000
    assert event_names(recorder).count("sortstore") == 1
    assert digest(replay(recorder.take())) == digest(db.ctx)
    assert db.lrange("d", 0, -1) == sorted(db.smembers("s"), key=int)


def test_a_list_can_be_sorted_in_place(filled: Database) -> None:
    assert filled.sort("l", store="l") == 4
    assert filled.lrange("l", 0, -1) == [b"1", b"2", b"3", b"10"]


def test_other_types_are_refused(filled: Database) -> None:
    for key in ("w_1", "h_1"):
        with pytest.raises(WrongTypeError):
            filled.sort(key)


# -- beside real servers -----------------------------------------------------------------------------

RULES = [
    "~*",
    "%R~*",
    "%RW~*",
    "%R~l %W~d",
    "%W~* %R~l",
    "%R~l %R~d",
    "%R~**",
    "~l ~d (%R~* +get)",
    "~l (%R~* +sort)",
]


@pytest.mark.parametrize("rules", RULES)
def test_users_may_use_patterns_where_a_real_server_lets_them(
    rules: str, kvstore_server: Server, valkey_server: Server
) -> None:
    asked: list[tuple[str, ...]] = [
        ("SORT", "l", "BY", "w_*"),
        ("SORT", "l", "BY", "nosort"),
        ("SORT", "l", "GET", "#"),
        ("SORT", "l", "STORE", "d"),
        ("SORT", "l", "STORE", "d", "STORE", "e"),
        ("SORT", "l", "BY", "STORE", "STORE", "d"),
        ("SORT", "l", "GET", "#", "BAD"),
        ("SORT", "l", "BAD", "GET", "#"),
        ("SORT_RO", "l", "GET", "#"),
        ("SORT", "other", "GET", "#"),
        ("EVAL", "return redis.pcall('SORT', 'l', 'GET', '#')", "0"),
    ]

    def answers(server: Server) -> list[bytes]:
        with server.client() as client:
            client.call("RPUSH", "l", "3", "1", "2")
            parts = rules.replace(" (", "|(").split("|")
            client.call("ACL", "SETUSER", "u", "reset", "on", ">p", "+@all", *parts[0].split(), *parts[1:])
            client.call("AUTH", "u", "p")
            found = [client.call(*each) for each in asked]
            client.call("AUTH", "default", "")
            client.call("ACL", "DELUSER", "u")
            client.call("FLUSHALL")
            return found

    assert answers(kvstore_server) == answers(valkey_server)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_the_keys_are_found_where_a_real_server_finds_them(
    kind: str, kvstore_server: Server, request: pytest.FixtureRequest
) -> None:
    real: Server = request.getfixturevalue(f"{kind}_server")
    with kvstore_server.client() as ours, real.client() as theirs:
        for line in (
            "SORT l",
            "SORT l BY unknown",
            "SORT l BY w* GET x STORE a STORE b",
            "SORT l LIMIT STORE 2 store b",
            "SORT l GET STORE STORE b",
            "SORT l STORE",
            "SORT l STORE BY c",
            "SORT l bad STORE c",
            "SORT l STORE STORE c",
            "SORT l LIMIT",
            "SORT_RO l STORE c",
        ):
            asked = ("COMMAND", "GETKEYSANDFLAGS", *line.split())
            assert ours.call(*asked) == theirs.call(*asked), line
