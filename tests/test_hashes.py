"""Hashes: the typed methods, their effects and events, and properties against a plain model."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import DataError, ResponseError, WrongTypeError
from tests.laws import START_MS, Recorder, effects, event_names
from tests.servers import Server

# --- setting, reading, deleting -----------------------------------------------------------------------


def test_hset_takes_all_that_redis_py_takes(db: Database, recorder: Recorder) -> None:
    assert db.hset("h", "f", 1) == 1
    assert db.hset("h", mapping={"g": 2.5, b"f": "x"}) == 1
    assert db.hset("h", "i", "1", mapping={"j": 2}, items=["k", 3, "f", 4]) == 3
    assert db.hgetall("h") == {b"f": b"4", b"g": b"2.5", b"k": b"3", b"i": b"1", b"j": b"2"}
    assert effects(recorder)[1:] == [
        (b"HSET", b"h", b"g", b"2.5", b"f", b"x"),
        (b"HSET", b"h", b"k", b"3", b"f", b"4", b"i", b"1", b"j", b"2"),
    ]
    assert event_names(recorder)[:4] == ["new", "hset", "hset", "hset"]


def test_hset_refuses_nothing_to_set_as_redis_py_does(db: Database) -> None:
    with pytest.raises(DataError, match="'hset' with no key value pairs"):
        db.hset("h")
    with pytest.raises(DataError, match="'hmset' with 'mapping' of length 0"):
        db.hmset("h", {})
    with pytest.raises(DataError, match="Invalid input of type: 'NoneType'"):
        db.hset("h", "f")
    with pytest.raises(ResponseError, match="wrong number of arguments for 'hset' command"):
        db.hset("h", items=["f"])


def test_fields_are_read_one_by_one_or_all(db: Database) -> None:
    db.hmset("h", {"a": 1, "b": "", "c": b"\xff\x00"})
    assert db.hget("h", "a") == b"1" and db.hget("h", "x") is None and db.hget("x", "a") is None
    assert db.hmget("h", "a", "x") == [b"1", None] == db.hmget("h", ["a"], "x")
    assert db.hmget("x", ["a", "b"]) == [None, None]
    assert db.hkeys("h") == [b"a", b"b", b"c"] and db.hvals("h") == [b"1", b"", b"\xff\x00"]
    assert db.hlen("h") == 3 and db.hlen("x") == 0
    assert db.hexists("h", "b") is True and db.hexists("h", "x") is False and db.hexists("x", "b") is False
    assert db.hstrlen("h", "c") == 2 and db.hstrlen("h", "x") == 0
    assert db.hgetall("x") == {} and db.hkeys("x") == [] and db.hvals("x") == []


def test_hgetall_is_a_copy(db: Database) -> None:
    db.hset("h", "f", 1)
    db.hgetall("h")[b"f"] = b"2"
    assert db.hget("h", "f") == b"1"


def test_the_last_field_takes_the_key_along(db: Database, recorder: Recorder) -> None:
    db.hset("h", mapping={"a": 1, "b": 2})
    recorder.take()
    assert db.hdel("h", "x") == 0 and not recorder.commits
    assert db.hdel("h", "a", "x", "b", "a") == 2
    assert effects(recorder) == [(b"HDEL", b"h", b"a", b"b")]
    assert event_names(recorder) == ["hdel", "del"]
    assert db.exists("h") == 0


def test_hsetnx_sets_new_fields_only(db: Database, recorder: Recorder) -> None:
    assert db.hsetnx("h", "f", 1) == 1
    recorder.take()
    assert db.hsetnx("h", "f", 2) == 0 and not recorder.commits
    assert db.hget("h", "f") == b"1"


def test_other_types_are_refused(db: Database) -> None:
    db.set("s", 1)
    calls = [
        lambda: db.hset("s", "f", 1),
        lambda: db.hget("s", "f"),
        lambda: db.hgetall("s"),
        lambda: db.hdel("s", "f"),
        lambda: db.hincrby("s", "f"),
        lambda: db.hrandfield("s"),
        lambda: db.hscan("s"),
        lambda: db.hsetnx("s", "f", 1),
    ]
    for call in calls:
        with pytest.raises(WrongTypeError):
            call()


# --- numbers ------------------------------------------------------------------------------------------


def test_hincrby_counts_in_64_bits(db: Database, recorder: Recorder) -> None:
    top = (1 << 63) - 1
    assert db.hincrby("h", "n") == 1
    assert db.hincrby("h", "n", top - 1) == top
    assert effects(recorder)[-1] == (b"HINCRBY", b"h", b"n", b"%d" % (top - 1))
    with pytest.raises(ResponseError, match=r"^ERR increment or decrement would overflow$"):
        db.hincrby("h", "n")
    db.hset("h", "n", "x")
    with pytest.raises(ResponseError, match=r"^ERR hash value is not an integer$"):
        db.hincrby("h", "n")


def test_hincrbyfloat_adds_as_the_server_does(db: Database, recorder: Recorder) -> None:
    assert db.hincrbyfloat("h", "x", 10.5) == 10.5
    assert db.hincrbyfloat("h", "x", 0.1) == 10.6
    assert effects(recorder)[-1] == (b"HSET", b"h", b"x", b"10.6")
    assert event_names(recorder)[-1] == "hincrbyfloat"
    with pytest.raises(ResponseError, match=r"^ERR value is NaN or Infinity$"):
        db.hincrbyfloat("h", "x", float("inf"))
    db.hset("h", "x", "inf")
    with pytest.raises(ResponseError, match=r"^ERR increment would produce NaN or Infinity$"):
        db.hincrbyfloat("h", "x", 1)
    db.hset("h", "x", "y")
    with pytest.raises(ResponseError, match=r"^ERR hash value is not a float$"):
        db.hincrbyfloat("h", "x", 1)


# --- encodings ----------------------------------------------------------------------------------------


def test_encoding_grows_with_number_and_length_and_stays(db: Database) -> None:
    db.hset("h", mapping={n: n for n in range(512)})
    assert db.object("encoding", "h") == b"listpack"
    db.hset("h", "f", 1)
    assert db.object("encoding", "h") == b"hashtable"
    db.hdel("h", *range(512))
    assert db.object("encoding", "h") == b"hashtable"
    for name, change in {
        "value": lambda key: db.hset(key, "f", "v" * 65),
        "field": lambda key: db.hset(key, "f" * 65, "v"),
        "hsetnx": lambda key: db.hsetnx(key, "f", "v" * 65),
        "twins": lambda key: db.hset(key, items=["f", 1] * 513),
    }.items():
        db.hset(name, "g", "v" * 64)
        assert db.object("encoding", name) == b"listpack"
        change(name)
        assert db.object("encoding", name) == b"hashtable", name


# --- draws and scans ----------------------------------------------------------------------------------


def filled(db: Database, size: int) -> dict[bytes, bytes]:
    fields = {b"f%d" % n: b"%d" % n for n in range(size)}
    db.hset("h", mapping=fields)
    return fields


@pytest.mark.parametrize("size", [1, 5, 200, 1000])
def test_hrandfield_answers_by_count(db: Database, size: int) -> None:
    fields = filled(db, size)
    assert db.hrandfield("h") in fields
    for count in (1, 3, size // 2, size, size + 5):
        drawn = db.hrandfield("h", count)
        assert isinstance(drawn, list)
        assert len(drawn) == len(set(drawn)) == min(count, size) and set(drawn) <= fields.keys()
    repeated = db.hrandfield("h", -2 * size - 3)
    assert isinstance(repeated, list) and len(repeated) == 2 * size + 3 and set(repeated) <= fields.keys()
    pairs = db.hrandfield("h", 3, withvalues=True)
    assert isinstance(pairs, list)
    assert all(fields[pairs[at]] == pairs[at + 1] for at in range(0, len(pairs), 2))
    assert db.hrandfield("h", 0) == []
    assert db.hrandfield("x") is None and db.hrandfield("x", 3) == []
    with pytest.raises(ResponseError, match="value is out of range"):
        db.hrandfield("h", 1 << 62, withvalues=True)


@pytest.mark.parametrize("size", [20, 300])
@pytest.mark.parametrize("count", [None, 1, 4, -4])
def test_hrandfield_is_uniform(db: Database, size: int, count: int | None) -> None:
    filled(db, size + 60)
    for n in range(size, size + 60):  # holes in the order of scans
        db.hrandfield("h", -200 if n == size else None)
        db.hdel("h", f"f{n}")
    seen: Counter[bytes] = Counter()
    wanted = 200 * size
    while sum(seen.values()) < wanted:
        drawn = db.hrandfield("h", count)
        seen.update(drawn if isinstance(drawn, list) else [drawn or b""])
    expected = sum(seen.values()) / size
    chi_square = sum((seen[b"f%d" % n] - expected) ** 2 / expected for n in range(size))
    assert abs(chi_square - size) < 6 * (2 * size) ** 0.5  # six standard deviations; the seed is fixed


def test_hscan_of_a_small_hash_is_one_page(db: Database) -> None:
    fields = filled(db, 20)
    assert db.hscan("h", count=1) == (0, fields)
    assert db.hscan("h", 7, match="f1?", no_values=True) == (0, [b"f%d" % n for n in range(10, 20)])
    assert db.hscan("x") == (0, {})
    with pytest.raises(ResponseError, match="syntax error"):
        db.hscan("h", count=0)


@pytest.mark.parametrize("entries", [0, 512])
def test_a_scan_for_any_name_meets_the_empty_one_too(db: Database, entries: int) -> None:
    limits = db.ctx.limits
    limits.hash_max_listpack_entries = limits.set_max_listpack_entries = entries
    limits.zset_max_listpack_entries = entries
    for name in ("", "x"):
        db.set(name, 1)
        db.hset("x1", name, 1)
        db.sadd("x2", name)
        db.zadd("x3", {name: 1})
    for match, empty in (("*", True), ("**", False)):
        assert (b"" in db.hscan("x1", match=match)[1]) is empty
        assert (b"" in db.sscan("x2", match=match)[1]) is empty
        assert (b"" in dict(db.zscan("x3", match=match)[1])) is empty
        assert (b"" in db.scan(match=match)[1]) is (b"" in db.keys(match)) is empty


def test_hscan_pages_through_a_large_hash(db: Database) -> None:
    fields = filled(db, 1000)
    found, cursor, pages = {}, 0, 0
    while True:
        cursor, page = db.hscan("h", cursor, count=50)
        assert isinstance(page, dict) and len(page) <= 50
        found.update(page)
        pages += 1
        if not cursor:
            break
    assert found == fields and pages == 20
    assert dict(db.hscan_iter("h", match="f99*")) == {f: v for f, v in fields.items() if f.startswith(b"f99")}
    assert sorted(db.hscan_iter("h", count=7, no_values=True)) == sorted(fields)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=80), st.integers(1, 9))
def test_hscan_meets_whatever_is_there_from_start_to_end(changes: list[tuple[bool, int]], count: int) -> None:
    db = Context(Database, clock=ManualClock(START_MS)).database(0)
    db.ctx.limits.hash_max_listpack_entries = 4
    db.hset("h", mapping={n: n for n in range(0, 60, 2)})
    steady, found, cursor = {b"%d" % n for n in range(0, 60, 2)}, set(), 0
    todo = iter(changes)
    for _ in range(500):
        cursor, page = db.hscan("h", cursor, count=count)
        found |= set(page)
        if not cursor:
            break
        for add, n in (next(todo, (True, 0)), next(todo, (True, 0))):
            if add:
                db.hset("h", n, n)
            else:
                db.hdel("h", n)
                steady.discard(b"%d" % n)
        db.check()
    assert cursor == 0 and steady <= found


# --- properties ---------------------------------------------------------------------------------------

keys = st.sampled_from([b"a", b"b"])
fields_ = st.sampled_from([b"f", b"g", b"h", b"i" * 20])
values = st.one_of(st.integers(-9, 9).map(lambda n: b"%d" % n), st.just(b"v" * 20))
operations = st.one_of(
    st.tuples(st.just("hset"), keys, fields_, values),
    st.tuples(st.just("hsetnx"), keys, fields_, values),
    st.tuples(st.just("hdel"), keys, fields_, fields_),
    st.tuples(st.just("hget"), keys, fields_),
    st.tuples(st.just("hgetall"), keys),
    st.tuples(st.just("hlen"), keys),
    st.tuples(st.just("hincrby"), keys, fields_, st.integers(-3, 3)),
    st.tuples(st.just("hrandfield"), keys, st.just(-50)),
)


def model_step(model: dict[bytes, dict[bytes, bytes]], name: str, key: bytes, *args: Any) -> Any:
    """What dicts of dicts answer."""
    found = model.get(key, {})
    if name in ("hset", "hsetnx"):
        new = args[0] not in found
        if new or name == "hset":
            model.setdefault(key, {})[args[0]] = args[1]
        return int(new)
    if name == "hdel":
        gone = sum(found.pop(field, None) is not None for field in args)
        if not found:
            model.pop(key, None)
        return gone
    if name == "hincrby":
        total = int(found.get(args[0], b"0")) + args[1]
        model.setdefault(key, {})[args[0]] = b"%d" % total
        return total
    if name == "hget":
        return found.get(args[0])
    return dict(found) if name == "hgetall" else len(found)


@settings(max_examples=150)
@given(st.lists(operations, max_size=30))
def test_hashes_behave_as_dicts_do(steps: list[tuple[Any, ...]]) -> None:
    db = Context(Database, clock=ManualClock(START_MS), random=random.Random(1)).database(0)
    db.ctx.limits.hash_max_listpack_entries = 2
    db.ctx.limits.hash_max_listpack_value = 10
    model: dict[bytes, dict[bytes, bytes]] = {}
    for name, *args in steps:
        if name == "hincrby" and model.get(args[0], {}).get(args[1], b"").startswith(b"v"):
            continue
        answer = getattr(db, name)(*args)
        if name == "hrandfield":
            assert set(answer) <= model.get(args[0], {}).keys()
        else:
            assert answer == model_step(model, name, *args)
        db.check()
    assert {key: dict(value) for key, value in db._data.items()} == model


# --- beside redis-py ----------------------------------------------------------------------------------

CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("hset", ("h", "f", 1), {}),
    ("hset", ("h",), {"mapping": {"a": 1, "b": 2.5}, "items": ["c", "3"]}),
    ("hset", ("h",), {}),
    ("hset", ("h",), {"items": ["odd"]}),
    ("hset", ("s", "f", 1), {}),
    ("hsetnx", ("h", "f", 2), {}),
    ("hsetnx", ("h", "new", 2), {}),
    ("hget", ("h", "f"), {}),
    ("hget", ("h", "nofield"), {}),
    ("hmget", ("h", ["f", "x"]), {}),
    ("hmget", ("h", "f", "a"), {}),
    ("hgetall", ("h",), {}),
    ("hgetall", ("nokey",), {}),
    ("hkeys", ("h",), {}),
    ("hvals", ("h",), {}),
    ("hlen", ("h",), {}),
    ("hexists", ("h", "f"), {}),
    ("hexists", ("h", "nofield"), {}),
    ("hstrlen", ("h", "b"), {}),
    ("hincrby", ("h", "f", 5), {}),
    ("hincrby", ("h", "b"), {}),
    ("hincrbyfloat", ("h", "b", 0.1), {}),
    ("hincrbyfloat", ("h", "b"), {}),
    ("hdel", ("h", "a", "x"), {}),
    ("hdel", ("h",), {}),
    ("hrandfield", ("h", 10), {}),
    ("hrandfield", ("h", 10), {"withvalues": True}),
    ("hrandfield", ("h",), {"withvalues": True}),
    ("hrandfield", ("nokey",), {}),
    ("hrandfield", ("nokey", 3), {"withvalues": True}),
    ("hscan", ("h",), {}),
    ("hscan", ("h", 0), {"match": "f*", "count": 100}),
    ("hscan", ("h", 0), {"no_values": True}),
    ("hscan", ("nokey",), {}),
    ("hmset", ("h", {"x": 1}), {}),
    ("hmset", ("h", {}), {}),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_results_are_those_of_redis_py(db: Database, valkey_server: Server) -> None:
    redis = pytest.importorskip("redis")

    def outcome(target: Any, name: str, args: Any, options: Any) -> Any:
        try:
            return getattr(target, name)(*args, **options)
        except Exception as error:
            code = "" if type(error).__name__ == "DataError" else "ERR "
            return type(error).__name__.replace("WrongType", "Response"), str(error).removeprefix(code)

    client = redis.Redis(unix_socket_path=valkey_server.unix)
    client.flushall()
    for target in (db, client):
        target.set("s", 1)
    for name, args, options in CALLS:
        ours, theirs = outcome(db, name, args, options), outcome(client, name, args, options)
        assert ours == theirs and type(ours) is type(theirs), (name, args, options)
    client.close()
