"""Strings: the typed methods, their effects and events, and properties against a plain model."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.lcs import lcs_bytes, lcs_length, lcs_runs
from kvstore.engine.xxh3 import xxh3_64
from kvstore.errors import DataError, ResponseError, WrongTypeError
from kvstore.numbers import parse_int
from tests.laws import START_MS, Lawful, Recorder, effects, event_names
from tests.servers import Server


def advance(db: Database, ms: int) -> None:
    clock = db.ctx.clock
    assert isinstance(clock, ManualClock)
    clock.advance(ms=ms)


# --- SET and its kin --------------------------------------------------------------------------------


def test_set_takes_what_redis_py_takes(db: Database) -> None:
    for value, stored in (
        (b"x", b"x"),
        ("é", "é".encode()),
        (5, b"5"),
        (1.5, b"1.5"),
        (bytearray(b"y"), b"y"),
    ):
        assert db.set("k", value) is True  # type: ignore[arg-type]
        assert db.get(b"k") == stored
    with pytest.raises(DataError, match="Invalid input of type: 'NoneType'"):
        db.set("k", None)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Invalid input of type: 'bool'"):
        db.set("k", True)


def test_set_clears_the_deadline_unless_told_to_keep_it(db: Database) -> None:
    db.set("k", "1", ex=10)
    db.set("k", "2", keepttl=True)
    assert db.pttl("k") == 10_000
    db.set("k", "3")
    assert db.pttl("k") == -1


@pytest.mark.parametrize(
    ("options", "deadline"),
    [
        ({"ex": 10}, START_MS + 10_000),
        ({"ex": "10"}, START_MS + 10_000),
        ({"ex": timedelta(seconds=10.9)}, START_MS + 10_000),
        ({"px": 1500}, START_MS + 1500),
        ({"px": timedelta(seconds=1.5)}, START_MS + 1500),
        ({"exat": START_MS // 1000 + 5}, START_MS // 1000 * 1000 + 5000),
        ({"pxat": START_MS + 5}, START_MS + 5),
        ({"pxat": datetime(2030, 1, 1, tzinfo=UTC)}, 1_893_456_000_000),
    ],
)
def test_set_expires_at_the_time_that_the_option_means(
    db: Database, recorder: Recorder, options: dict[str, Any], deadline: int
) -> None:
    db.set("k", "v", **options)
    assert db.pexpiretime("k") == deadline
    assert effects(recorder) == [(b"SET", b"k", b"v", b"PXAT", b"%d" % deadline)]
    assert event_names(recorder) == ["new", "set", "expire"]
    advance(db, deadline - START_MS)
    assert db.get("k") is None


def test_set_in_the_past_deletes_the_key_and_makes_none(db: Database, recorder: Recorder) -> None:
    assert db.set("k", "v", pxat=1) is True
    assert (db.dirty, recorder.take(), event_names(recorder)) == (0, [], [])
    db.set("k", "old")
    recorder.take()
    recorder.events.clear()
    assert db.set("k", "v", pxat=START_MS, get=True) == b"old"
    assert (effects(recorder), event_names(recorder)) == ([(b"DEL", b"k")], ["del"])
    assert db.set("k", "v", pxat=1, xx=True) is None


def test_set_conditions(db: Database) -> None:
    assert db.set("k", "1", xx=True) is None
    assert db.set("k", "1", nx=True) is True
    assert db.set("k", "2", nx=True) is None
    assert db.set("k", "2", nx=True, get=True) == b"1"
    assert db.set("k", "2", xx=True, get=True) == b"1"
    assert db.set("k", "3", ifeq="1") is None
    assert db.set("k", "3", ifeq="2") is True
    assert db.set("k", "4", ifne="3") is None
    assert db.set("k", "4", ifdeq=db.digest("k")) is True  # type: ignore[arg-type]
    assert db.set("k", "5", ifdne="0" * 16, get=True) == b"4"
    assert db.set("missing", "x", ifeq="x") is None
    assert db.set("missing", "x", ifne="y") is True


def test_set_options_that_exclude_each_other_are_refused_as_redis_py_does(db: Database) -> None:
    with pytest.raises(DataError, match="``ex``, ``px``, ``exat``, ``pxat``, and ``keepttl`` are mutually"):
        db.set("k", "v", ex=1, keepttl=True)
    with pytest.raises(DataError, match="``nx``, ``xx``, ``ifeq``"):
        db.set("k", "v", nx=True, xx=True)
    with pytest.raises(DataError, match="ex must be"):
        db.set("k", "v", ex=1.5)  # type: ignore[arg-type]
    with pytest.raises(ResponseError, match=r"^ERR invalid expire time in 'set' command$"):
        db.set("k", "v", ex=0)
    assert db.get("k") is None


def test_set_get_refuses_another_type_and_changes_nothing(db: Database, recorder: Recorder) -> None:
    db.hset("h", "f", "v")
    recorder.take()
    with pytest.raises(WrongTypeError):
        db.set("h", "v", get=True)
    with pytest.raises(WrongTypeError):
        db.set("h", "v", ifeq="x")
    assert not recorder.commits
    assert db.set("h", "v") is True


def test_getex_sets_clears_or_passes_the_deadline(db: Database, recorder: Recorder) -> None:
    db.set("k", "v")
    recorder.take()
    assert db.getex("k") == b"v" and not recorder.commits
    assert db.getex("k", persist=True) == b"v" and not recorder.commits
    assert db.getex("k", ex=5) == b"v" and db.pttl("k") == 5000
    assert db.getex("k", persist=True) == b"v" and db.pttl("k") == -1
    assert db.getex("k", exat=1) == b"v" and db.get("k") is None
    assert effects(recorder) == [
        (b"PEXPIREAT", b"k", b"%d" % (START_MS + 5000)),
        (b"PERSIST", b"k"),
        (b"DEL", b"k"),
    ]
    assert event_names(recorder)[:3] == ["expire", "persist", "del"]
    assert db.getex("missing", ex="5") is None  # type: ignore[arg-type]


def test_getdel_getset_setnx_setex(db: Database, recorder: Recorder) -> None:
    assert db.setnx("k", 1) is True and db.setnx("k", 2) is False
    assert db.getset("k", 3) == b"1"
    assert db.setex("k", timedelta(minutes=1), "v") is True and db.ttl("k") == 60
    assert db.psetex("k", 1500, "v") is True and db.pttl("k") == 1500
    assert db.getdel("k") == b"v" and db.getdel("k") is None
    assert event_names(recorder) == ["new", "set", "set", "set", "expire", "set", "expire", "del", "keymiss"]
    with pytest.raises(ResponseError, match="invalid expire time in 'psetex'"):
        db.psetex("k", 0, "v")


def test_mset_and_mget(db: Database, recorder: Recorder) -> None:
    assert db.mset({"a": 1, b"b": "2"}) is True
    assert effects(recorder) == [(b"MSET", b"a", b"1", b"b", b"2")]
    assert db.msetnx({"b": 3, "c": 4}) is False and db.get("c") is None
    assert db.msetnx({"c": 4, "d": 5}) is True
    db.hset("h", "f", "v")
    assert db.mget("a") == db.mget(memoryview(b"a")) == [b"1"]
    assert db.mget(["a", "h", "x"], "b") == [b"1", None, None, b"2"]
    assert db.mget([]) == []
    with pytest.raises(ResponseError, match="wrong number of arguments for 'mset' command"):
        db.mset({})


def test_comparing_set_is_on_the_wire_only_for_versions_that_have_it(db: Database) -> None:
    hub = Hub(db.ctx)
    session = Session(hub, RESP2)
    db.set("k", "old")
    request = [b"SET", b"k", b"new", b"IFEQ", b"old"]
    assert session.call(request) == b"-ERR syntax error\r\n"
    hub.compat_version = (8, 4, 0)
    assert session.call(request) == b"+OK\r\n"
    assert session.call(request) == b"$-1\r\n"
    assert session.call([*request, b"GET"]) == b"$3\r\nnew\r\n"
    assert session.call([*request, b"XX"]) == b"-ERR syntax error\r\n"


# --- parts, numbers ---------------------------------------------------------------------------------


def test_a_string_that_setrange_makes_shares_nothing_with_its_argument(db: Database) -> None:
    piece = b"foobar"
    db.setrange("made", 0, piece)
    db.set("other", piece)
    assert (db.object("encoding", "made"), db.object("encoding", "other")) == (b"raw", b"embstr")


def test_setrange_pads_with_zero_bytes_and_knows_its_limit(db: Database) -> None:
    assert db.setrange("k", 0, "") == 0 and db.exists("k") == 0
    assert db.setrange("k", 3, "ab") == 5 and db.get("k") == b"\0\0\0ab"
    assert db.setrange("k", 1, "XY") == 5 and db.get("k") == b"\0XYab"
    assert db.setrange("k", 7, "") == 5
    with pytest.raises(ResponseError, match=r"^ERR offset is out of range$"):
        db.setrange("k", -1, "x")
    with pytest.raises(ResponseError, match="string exceeds maximum allowed size"):
        db.setrange("k", 512 * 1024 * 1024, "x")
    db.ctx.limits.proto_max_bulk_len = 6
    assert db.append("k", "c") == 6
    with pytest.raises(ResponseError, match="string exceeds maximum allowed size"):
        db.append("k", "c")


def test_encoding_tells_how_a_string_was_made(db: Database) -> None:
    db.set("k", 10)
    assert db.object("encoding", "k") == b"int"
    db.append("k", "0")
    assert db.object("encoding", "k") == b"raw"
    db.rename("k", "l")
    assert db.object("encoding", "l") == b"raw"
    db.incr("l")
    assert db.object("encoding", "l") == b"int"
    db.incrbyfloat("l", 9)
    assert db.object("encoding", "l") == b"embstr"
    db.set("l", "110")
    assert db.object("encoding", "l") == b"int"
    db.set("l", "x" * 45)
    assert db.object("encoding", "l") == b"raw"


def test_integers_are_64_bits_wide(db: Database) -> None:
    top = (1 << 63) - 1
    assert db.incr("n") == 1
    assert db.incrby("n", top - 1) == top
    with pytest.raises(ResponseError, match=r"^ERR increment or decrement would overflow$"):
        db.incr("n")
    assert db.decrby("n", top) == 0
    assert db.decr("n", 5) == -5
    with pytest.raises(ResponseError, match=r"^ERR decrement would overflow$"):
        db.decrby("n", -(1 << 63))
    with pytest.raises(ResponseError, match=r"^ERR value is not an integer or out of range$"):
        db.incrby("n", 1 << 63)
    for text in ("1.0", " 1", "01", "-0", "", "x", "+1"):
        db.set("n", text)
        with pytest.raises(ResponseError, match=r"^ERR value is not an integer or out of range$"):
            db.incr("n")


def test_sums_of_floats_are_the_servers(db: Database, recorder: Recorder) -> None:
    assert db.incrbyfloat("x", 0.1) == 0.1
    assert db.incrbyfloat("x", 0.2) == 0.3
    assert db.get("x") == b"0.3"
    assert effects(recorder)[-1] == (b"SET", b"x", b"0.3", b"KEEPTTL")
    db.set("x", 5000)
    assert db._incrbyfloat(b"x", b"2.0e3") == b"7000"
    with pytest.raises(ResponseError, match="would produce NaN or Infinity"):
        db.incrbyfloat("x", float("inf"))


# --- longest common subsequence, digests ---------------------------------------------------------------


def slow_lcs(a: bytes, b: bytes) -> list[tuple[int, int]]:
    """The matched places, last first, by the textbook table: up only where up is strictly longer."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            same = a[i - 1] == b[j - 1]
            table[i][j] = table[i - 1][j - 1] + 1 if same else max(table[i - 1][j], table[i][j - 1])
    i, j = len(a), len(b)
    places = []
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            places.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return places


letters = st.binary(max_size=40).map(lambda raw: bytes(b"abc"[byte % 3] for byte in raw))


@given(letters, letters)
def test_bit_vectors_find_the_subsequence_that_the_table_finds(a: bytes, b: bytes) -> None:
    runs = lcs_runs(a, b)
    places = [(i + step, j + step) for i, j, length in runs for step in reversed(range(length))]
    assert places == slow_lcs(a, b)
    assert lcs_length(a, b) == len(places) == len(lcs_bytes(a, runs))


def test_lcs_answers_as_asked(db: Database) -> None:
    db.mset({"a": "ohmytext", "b": "mynewtext"})
    assert db.lcs("a", "b") == b"mytext"
    assert db.lcs("a", "b", len=True) == 6
    assert db.lcs("a", "missing") == b""
    assert db.lcs("a", "b", idx=True) == [b"matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len", 6]
    only_long = db.lcs("a", "b", idx=True, minmatchlen=4, withmatchlen=True)
    assert only_long == [b"matches", [[[4, 7], [5, 8], 4]], b"len", 6]
    db.ctx.limits.proto_max_bulk_len = 9 * 10 * 4 - 1
    with pytest.raises(ResponseError, match="transient memory for LCS exceeds proto-max-bulk-len"):
        db.lcs("a", "b", len=True)


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (0, "2d06800538d394c2"),
        (1, "c44bdff4074eecdb"),
        (4, "60dab036a58211f2"),
        (9, "e9612598145bb9dc"),
        (17, "9ef341a99de37328"),
        (129, "ec7642b431ba3e5a"),
        (241, "02e8cd95421c6d02"),
        (1025, "e95c42288f28186e"),
    ],
)
def test_digest_is_xxh3(size: int, digest: str) -> None:
    assert f"{xxh3_64(bytes(n % 251 for n in range(size))):016x}" == digest


def test_delex_deletes_on_condition(db: Database) -> None:
    db.set("k", "Hello world")
    assert db.digest("k") == b"b6acb9d84a38ff74"
    assert db.delex("k", ifeq="x") == 0
    assert db.delex("k", ifne="Hello world") == 0
    assert db.delex("k", ifdeq="B6ACB9D84A38FF74") == 1
    assert db.delex("k") == 0
    db.hset("h", "f", "v")
    with pytest.raises(WrongTypeError):
        db.delex("h", ifeq="x")
    with pytest.raises(ResponseError, match="must be exactly 16 hexadecimal characters"):
        db.delex("h", ifdeq="x")
    with pytest.raises(WrongTypeError):
        db.delifeq("h", "x")
    assert db.delex("h") == 1
    db.set("k", "x")
    assert (db.delifeq("k", "y"), db.delifeq("k", "x"), db.delifeq("k", "x")) == (0, 1, 0)


def test_msetex_sets_all_or_nothing(db: Database) -> None:
    assert db.msetex({"a": 1, "b": 2}, ex=10, data_persist_option="NX") == 1
    assert (db.ttl("a"), db.ttl("b")) == (10, 10)
    assert db.msetex({"b": 3, "c": 4}, data_persist_option="NX") == 0
    assert db.msetex({"b": 3, "c": 4}, data_persist_option="XX") == 0
    assert db.msetex({"a": 5, "b": 6}, keepttl=True) == 1
    assert db.mget("a", "b", "c") == [b"5", b"6", None] and db.ttl("a") == 10


def test_increx_keeps_within_bounds(db: Database, recorder: Recorder) -> None:
    assert db.increx("n", ex=60, enx=True) == [1, 1]
    advance(db, 10_000)
    assert db.increx("n", ex=60, enx=True) == [2, 1] and db.ttl("n") == 50
    recorder.take()
    assert db.increx("n", byint=5, ubound=6) == [2, 0] and not recorder.commits
    assert db.increx("n", byint=5, ubound=6, saturate=True) == [6, 4]
    assert db.increx("n", byfloat=0.5) == [6.5, 0.5]
    assert db.increx("n", byfloat=-9, lbound=0, saturate=True) == [0.0, -6.5]
    assert db.increx("n", persist=True) == [1, 1] and db.ttl("n") == -1
    assert db.increx("n", exat=1) == [2, 1] and db.exists("n") == 0
    with pytest.raises(ResponseError, match="LBOUND can't be greater than UBOUND"):
        db.increx("n", lbound=2, ubound=1)
    with pytest.raises(ResponseError, match="ERR LBOUND is not an integer or out of range"):
        db.increx("n", lbound="x")


# --- properties -------------------------------------------------------------------------------------

keys = st.sampled_from([b"a", b"b", b"c"])
values = st.one_of(st.binary(max_size=6), st.integers(-50, 50).map(lambda n: b"%d" % n))
operations = st.one_of(
    st.tuples(st.just("set"), keys, values),
    st.tuples(st.just("append"), keys, values),
    st.tuples(st.just("setrange"), keys, st.integers(0, 9), values),
    st.tuples(st.just("getrange"), keys, st.integers(-9, 9), st.integers(-9, 9)),
    st.tuples(st.just("incrby"), keys, st.integers(-9, 9)),
    st.tuples(st.just("getdel"), keys),
    st.tuples(st.just("setnx"), keys, values),
    st.tuples(st.just("strlen"), keys),
    st.tuples(st.just("get"), keys),
)


def model_step(model: dict[bytes, bytes], name: str, key: bytes, *args: Any) -> Any:
    """What a plain dict answers."""
    old = model.get(key)
    if name == "set":
        model[key] = args[0]
        return True
    if name == "append":
        model[key] = (old or b"") + args[0]
        return len(model[key])
    if name == "setrange":
        at, piece = args
        if not piece:
            return len(old or b"")
        padded = (old or b"").ljust(at, b"\0")
        model[key] = padded[:at] + piece + padded[at + len(piece) :]
        return len(model[key])
    if name == "getrange":
        start, end = args
        text = old or b""
        if start < 0 and end < 0 and start > end:
            return b""
        start = max(start + len(text), 0) if start < 0 else start
        end = max(end + len(text), 0) if end < 0 else end
        return text[start : end + 1]
    if name == "incrby":
        number = int(old) if old else 0
        model[key] = b"%d" % (number + args[0])
        return number + args[0]
    if name == "getdel":
        return model.pop(key, None)
    if name == "setnx":
        return old is None and model.setdefault(key, args[0]) is args[0]
    return len(old or b"") if name == "strlen" else old


@settings(max_examples=150)
@given(st.lists(operations, max_size=25))
def test_strings_behave_as_a_dict_does(steps: list[tuple[Any, ...]]) -> None:
    db = Context(Database, clock=ManualClock(START_MS)).database(0)
    model: dict[bytes, bytes] = {}
    for name, *args in steps:
        if name == "incrby" and parse_int(model.get(args[0], b"0")) is None:
            continue
        assert getattr(db, name)(*args) == model_step(model, name, *args)
        db.check()
    assert db._data == model


@pytest.mark.parametrize("seed", range(4))
def test_newer_commands_keep_the_laws(seed: int) -> None:
    rng = random.Random(seed)
    lawful = Lawful(Context(Database, databases=1, clock=ManualClock(START_MS), random=random.Random(seed)))
    lawful.hub.compat_version = lawful.replica.session.hub.compat_version = (99, 0, 0)
    times = [[], ["EX", "100"], ["PXAT", "1"], ["EXAT", "99999999999"], ["KEEPTTL"], ["PERSIST"]]
    for _ in range(150):
        key, value = rng.choice("abc"), rng.choice(("1", "2", "x"))
        words = rng.choice(
            [
                ["SET", key, value, rng.choice(("IFEQ", "IFNE")), rng.choice(("1", "x")), *rng.choice(times[:5])],
                ["DELEX", key, rng.choice(("IFEQ", "IFNE")), value],
                ["DELEX", key],
                ["DIGEST", key],
                ["MSETEX", "2", key, value, "d", "1", *rng.choice(([], ["NX"], ["XX"])), *rng.choice(times[:5])],
                ["INCREX", key, "BYINT", "3", "UBOUND", "9", *rng.choice(([], ["SATURATE"])), *times[rng.choice((0, 1, 2, 3, 5))]],
                ["INCREX", key, "BYFLOAT", "0.5", *rng.choice(([], ["EX", "5", "ENX"]))],
            ]
        )  # fmt: skip
        lawful.run(*(word.encode() for word in words))


# --- beside redis-py ----------------------------------------------------------------------------------

CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("set", ("a", "ohmytext"), {}),
    ("set", ("a", "x"), {"nx": True}),
    ("set", ("a", "ohmytext"), {"get": True}),
    ("set", ("b", "mynewtext"), {"get": True, "ex": 100}),
    ("set", ("a", "x"), {"ex": 0}),
    ("get", ("a",), {}),
    ("get", ("nokey",), {}),
    ("lcs", ("a", "b"), {}),
    ("lcs", ("a", "b"), {"len": True}),
    ("lcs", ("a", "b"), {"idx": True}),
    ("lcs", ("a", "b"), {"idx": True, "minmatchlen": 3, "withmatchlen": True}),
    ("lcs", ("a", "b"), {"idx": True, "len": True}),
    ("append", ("a", 5), {}),
    ("strlen", ("a",), {}),
    ("getrange", ("a", 1, -2), {}),
    ("substr", ("a", 2), {}),
    ("setrange", ("a", 3, "zz"), {}),
    ("incr", ("n",), {}),
    ("incrby", ("n", 5), {}),
    ("decr", ("n", 3), {}),
    ("incrbyfloat", ("n", 0.1), {}),
    ("incr", ("n",), {}),
    ("mset", ({"m": 1, "n": 2},), {}),
    ("msetnx", ({"m": 1, "z": 2},), {}),
    ("msetnx", ({"y": 1, "z": 2},), {}),
    ("mset", ({},), {}),
    ("mget", (["m", "z"], "nokey"), {}),
    ("mget", ([],), {}),
    ("setnx", ("m", 1), {}),
    ("getset", ("m", 9), {}),
    ("getset", ("nokey", 9), {}),
    ("getdel", ("m",), {}),
    ("getex", ("n",), {"ex": 5, "px": 5}),
    ("getex", ("n",), {"ex": 50}),
    ("getex", ("n",), {"persist": True}),
    ("set", ("a", "b"), {"ex": 1, "px": 1}),
    ("set", ("a", "b"), {"nx": True, "ifeq": "x"}),
    ("set", ("a", "b"), {"px": 1.5}),
]


def test_results_are_those_of_redis_py(db: Database, valkey_server: Server) -> None:
    redis = pytest.importorskip("redis")

    def outcome(target: Any, name: str, args: Any, options: Any) -> Any:
        try:
            return getattr(target, name)(*args, **options)
        except Exception as error:
            code = "" if type(error).__name__ == "DataError" else "ERR "
            return type(error).__name__, str(error).removeprefix(code)

    client = redis.Redis(unix_socket_path=valkey_server.unix)
    client.flushall()
    for name, args, options in CALLS:
        ours, theirs = outcome(db, name, args, options), outcome(client, name, args, options)
        assert ours == theirs and type(ours) is type(theirs), (name, args, options)
    client.close()
