"""The state of a fake server as plain data: what is dumped, what is loaded, and what that causes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.plain import word_of
from kvstore.fake import FakeRedis, FakeServer
from tests.waiting import Running, until_blocked

NOW = 1_800_000_000
raw = st.one_of(st.binary(max_size=12), st.text(max_size=6).map(lambda text: text.encode("utf-8", "ignore")))
words = raw.map(word_of)
scores = st.floats(allow_nan=False).map(lambda score: str(score) if abs(score) == float("inf") else score)
ids = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), max_size=5, unique=True).map(sorted)
later = st.integers(NOW * 1000 + 1, (1 << 46) - 1)


@st.composite
def streams(draw: st.DrawFn) -> dict[str, Any]:
    entries = [[f"{time}-{step}", draw(words), draw(words)] for time, step in draw(ids)]
    group = {
        "name": draw(words),
        "last_id": "3-0",
        "entries_read": draw(st.none() | st.integers(0, 9)),
        "consumers": [{"name": "me", "seen_at_ms": draw(later), "active_at_ms": draw(st.none() | later)}],
        "pending": [[entry[0], "me", draw(later), 1] for entry in entries[:2]],
    }
    return {"entries": entries, "groups": [group] if draw(st.booleans()) else []}


@st.composite
def hashes(draw: st.DrawFn) -> dict[str, Any]:
    fields = draw(st.dictionaries(raw, words, min_size=1, max_size=6))
    found: dict[str, Any] = {
        "type": "hash",
        "value": [[word_of(name), item] for name, item in fields.items()],
    }
    if draw(st.booleans()):
        found["field_deadlines"] = [[word_of(min(fields)), draw(later)]]
    return found


def typed(name: str, found: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return found.map(lambda value: {"type": name, "value": value})


values = st.one_of(
    typed("string", words),
    typed("list", st.lists(words, min_size=1, max_size=6)),
    typed(
        "set", st.lists(raw, min_size=1, max_size=6, unique=True).map(lambda found: list(map(word_of, found)))
    ),
    typed(
        "zset",
        st.dictionaries(raw, scores, min_size=1, max_size=6).map(
            lambda found: [[word_of(member), score] for member, score in found.items()]
        ),
    ),
    typed("stream", streams()),
    hashes(),
)


@st.composite
def databases(draw: st.DrawFn) -> list[Any]:
    keys = draw(st.dictionaries(raw, values, max_size=5))
    for found in keys.values():
        if draw(st.booleans()):
            found["expires_at_ms"] = draw(later)
    return [[word_of(key), found] for key, found in keys.items()]


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.integers(0, 15).map("db{}".format), databases(), max_size=3))
def test_what_was_dumped_and_loaded_is_dumped_again(written: dict[str, Any]) -> None:
    server, other = FakeServer(), FakeServer()
    for each in (server, other):
        each.freeze_time(at=NOW)
    given_as = copy.deepcopy(written)
    server.load(written)
    assert written == given_as  # what was given stays as it was
    state = server.dump()
    assert {name: len(keys) for name, keys in state.items()} == {
        name: len(keys) for name, keys in written.items() if keys
    }
    other.load(json.loads(json.dumps(state)))
    assert other.dump() == state
    for index in range(16):
        server.store.database(index).check()
        other.store.database(index).check()
    other.load(state, replace=False)
    assert other.dump() == state
    server.flush()
    assert server.dump() == {}


def test_a_state_reads_as_one_would_write_it() -> None:
    server = FakeServer()
    server.freeze_time(at=NOW)
    client = FakeRedis(server=server)
    assert server.dump() == {}
    client.set("greeting", "hello")
    client.set("session", b"\xff", ex=60)
    client.rpush("queue", "b", "a")
    client.hset("user:7", mapping={"name": "Ann", "age": 30})
    client.sadd("tags", "red", "new")
    client.zadd("board", {"Bob": 3, "Ann": 1.5, "Zoe": float("inf")})
    FakeRedis(server=server, db=1).set("other", 1)
    state = server.dump()
    assert state == {
        "db0": {
            "greeting": "hello",
            "session": {
                "type": "string",
                "value": {"base64": "/w=="},
                "expires_at_ms": (NOW + 60) * 1000,
            },
            "queue": ["b", "a"],
            "user:7": {"type": "hash", "value": {"name": "Ann", "age": "30"}},
            "tags": {"type": "set", "value": ["new", "red"]},
            "board": {"type": "zset", "value": [["Ann", 1.5], ["Bob", 3.0], ["Zoe", "inf"]]},
        },
        "db1": {"other": "1"},
    }
    server.clock.advance(61)
    assert "session" not in server.dump()["db0"]


def test_a_state_may_be_written_by_hand() -> None:
    server = FakeServer()
    server.freeze_time(at=NOW)
    written = {
        "db0": {
            "count": 3,
            b"\xff": b"\xfe",
            "queue": ["a", 1, b"c"],
            "user:7": {"type": "hash", "value": {"name": "Ann", "age": 30, b"\x80": b"\x81"}},
            "board": {"type": "zset", "value": {"Ann": 1, "Bob": float("-inf")}},
            "session": {"type": "string", "value": "x", "expires_in": 1.5},
            "gone": {"type": "string", "value": "x", "expires_at_ms": 1},
        },
        "functions": {"lib": "#!lua name=lib\n"},
    }
    server.load(written)
    store = server.store
    assert store.mget("count", b"\xff", "gone") == [b"3", b"\xfe", None]
    assert store.lrange("queue", 0, -1) == [b"a", b"1", b"c"]
    assert store.hgetall("user:7") == {b"name": b"Ann", b"age": b"30", b"\x80": b"\x81"}
    assert store.zrange("board", 0, -1, withscores=True) == [(b"Bob", float("-inf")), (b"Ann", 1.0)]
    assert store.pttl("session") == 1500
    assert server.dump()["functions"] == {"lib": "#!lua name=lib\n"}


REFUSED: list[tuple[Any, str]] = [
    (1, "a state is a dict of databases"),
    ({"db16": {}}, "db16: the server has 16 databases"),
    ({"database": {}}, "'database' names no database"),
    ({"db01": {}}, "'db01' names no database"),
    ({0: {}}, "0 names no database"),
    ({"db0": 3}, "'db0' is neither a dict nor"),
    ({"db0": {"k": None}}, "db0, key 'k': 'value' is neither a string"),
    ({"db0": {"k": True}}, "db0, key 'k': 'value' is neither a string"),
    ({"db0": {"k": 1.5}}, "db0, key 'k': 'value' is neither a string"),
    ({"db0": {"k": {"name": "Ann"}}}, "db0, key 'k': a dict without \"type\""),
    ({"db0": {"k": {"type": "hash"}}}, "db0, key 'k': no member 'value'"),
    ({"db0": {"k": {"type": "hush", "value": {}}}}, "db0, key 'k': the type 'hush', which is unknown"),
    ({"db0": {"k": {"type": ["hash"], "value": {}}}}, "db0, key 'k': the type \\['hash'\\]"),
    ({"db0": {"k": {"type": "hash", "value": {}}}}, "db0, key 'k': a hash without elements"),
    ({"db0": {"k": {"type": "hash", "value": {"a": "1"}, "ttl": 5}}}, "db0, key 'k': a member 'ttl'"),
    ({"db0": {"k": {"type": "hash", "value": {1: "a", "1": "b"}}}}, "db0, key 'k': 'value' has '1' twice"),
    ({"db0": {"k": {"type": "zset", "value": {"a": "high"}}}}, "db0, key 'k': a score that is neither"),
    ({"db0": {"k": {"type": "zset", "value": [[]]}}}, "db0, key 'k': 'value' has something that is no pair"),
    ({"db0": {"k": {"type": "string", "value": "", "expires_in": 0}}}, "db0, key 'k': 'expires_in' is no number"),
    (
        {"db0": {"k": {"type": "string", "value": "", "expires_in": 1, "expires_at_ms": 1}}},
        "'expires_in' beside 'expires_at_ms'",
    ),
    ({"db0": {"k": []}}, "db0, key 'k': a list without elements"),
    ({"db0": [["k", "1"], ["k", "2"]]}, "db0, key 'k': the key is there twice"),
    ({"db0": {1: "a", "1": "b"}}, "db0, key '1': the key is there twice"),
    ({"db0": {"k": "\ud800"}}, "db0, key 'k': 'value' has half a surrogate pair"),
    ({"functions": {"lib": None}}, "functions: 'functions' is neither a string"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_a_state_that_is_not_right_is_refused_whole(state: Any, why: str) -> None:
    server = FakeServer()
    server.load({"db0": {"old": "1"}, "db1": {"old": "1"}})
    if isinstance(state, dict):
        state = {"db1": {"new": "1"}, **state}
    for replace in (True, False):
        with pytest.raises(ValueError, match=why):
            server.load(state, replace=replace)
    assert server.dump() == {"db0": {"old": "1"}, "db1": {"old": "1"}}


def test_nested_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="db0, key 'k'"):
        FakeServer().load({"db0": {"k": endless}})


def test_loading_over_what_is_there_keeps_other_names() -> None:
    server = FakeServer()
    server.load(
        {"db0": {"a": {"type": "string", "value": "1", "expires_in": 50}, "b": "1"}, "db1": {"c": "1"}}
    )
    server.load({"db0": {"a": ["2"]}}, replace=False)
    assert server.dump() == {"db0": {"b": "1", "a": ["2"]}, "db1": {"c": "1"}}
    server.load({"db0": {"a": "3"}})
    assert server.dump() == {"db0": {"a": "3"}}


def test_loading_sends_no_events_and_spoils_transactions_of_what_it_touches() -> None:
    server = FakeServer(config={"notify-keyspace-events": "KEAnm"})
    client: Any = FakeRedis(server=server)
    client.set("k", 1)
    with client.pubsub(ignore_subscribe_messages=True) as events:
        events.psubscribe("__key*")
        events.get_message()
        server.load({"db0": {"k": "2", "gone": {"type": "string", "value": "", "expires_at_ms": 1}}})
        server.flush()
        assert events.get_message() is None
        server.store.set("k", 3)
        assert events.get_message() is not None
    for touched, spoiled in (("k", True), ("new", True), ("other", False)):
        server.load({"db0": {"k": "1"}})
        with client.pipeline() as pipe:
            pipe.watch(touched)
            server.load({"db0": {"new": "1"}})
            pipe.multi()
            pipe.ping()
            if spoiled:
                with pytest.raises(Exception, match="Watched variable changed"):
                    pipe.execute()
            else:
                assert pipe.execute() == [True]


@pytest.mark.parametrize("replace", [True, False])
def test_loading_serves_who_is_blocked(replace: bool) -> None:
    server = FakeServer()
    client = FakeRedis(server=server)
    waiting = Running(lambda: client.blpop("queue", 20))
    until_blocked(server)
    server.load({"db0": {"queue": ["job", "next"]}}, replace=replace)
    assert waiting.result() == (b"queue", b"job")
    assert server.dump() == {"db0": {"queue": ["next"]}}
