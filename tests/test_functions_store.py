"""Libraries of functions by the methods of a Store: the same results as redis-py's with a real server."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

pytest.importorskip("lupa")

import kvstore
from kvstore import OutOfMemoryError, Store
from kvstore.fake import FakeServer
from tests.seeds import new_seed
from tests.servers import Server
from tests.test_functions import payload
from tests.test_store_vs_redis_py import Call, Rng, outcome

NAMES = ("one", "two", "three")
BODIES = (
    *("return 1", "return keys", "return args", "return nil", "return {1, 'x', {2}}", "return 'é'"),
    *("return redis.call('get', keys[1])", "return redis.call('set', keys[1], args[1])", "return 3.7"),
    *("return redis.call('lpush', keys[1], 1)", "error('x')", "return redis.status_reply('fine')"),
)


def library(rng: Rng) -> str:
    """Of one or two functions; names and functions meet those of others."""
    made = "\n".join(
        f"redis.register_function{{function_name='{rng.choice('fgh')}', description='does',"
        f" flags={{{rng.choice(('', chr(39) + 'no-writes' + chr(39)))}}},"
        f" callback=function(keys, args) {rng.choice(BODIES)} end}}"
        for _ in range(rng.randint(1, 2))
    )
    return f"#!lua name={rng.choice(NAMES)}\n{made if rng.random() < 0.9 else 'return +'}"


def call_of(rng: Rng) -> tuple[Any, ...]:
    return (rng.choice("fgh"), 1, rng.choice("ab"), rng.choice(("v", 7, 1.5, "ü")))


CALLS: list[Callable[[Rng], Call]] = [
    lambda r: ("function_load", (library(r),), r.choice(({}, {"replace": True}))),
    lambda r: ("function_load", (library(r), True), {}),
    lambda r: ("fcall", call_of(r), {}),
    lambda r: ("fcall", call_of(r), {}),
    lambda r: ("fcall_ro", call_of(r), {}),
    lambda r: ("function_delete", (r.choice(NAMES),), {}),
    lambda r: ("function_list", r.choice(((), ("*", True), ("t*",), (b"one",))), {}),
    lambda r: ("function_list", (), {"withcode": True}),
    lambda r: (
        "function_restore",
        (payload(*(library(r) for _ in range(r.randint(0, 2)))),),
        r.choice(({}, {"policy": "REPLACE"}, {"policy": "FLUSH"}, {"policy": "x"})),
    ),
    lambda r: ("function_stats", (), {}),
    lambda r: ("function_kill", (), {}),
    lambda r: ("function_flush", (), r.choice(({}, {"mode": "ASYNC"}, {"mode": "x"}))),
]


def comparable(name: str, result: Any) -> Any:
    """Servers have libraries, and the functions of each, in an order of their own, and look at them in that."""
    if isinstance(result, bytes):
        return bytes(result)  # a status is a kind of bytes here
    if isinstance(result, tuple):
        return re.sub(r"(Function|Library) \w+ already", r"\1 … already", repr(result))
    if name != "function_list":
        return result
    for each in result:
        each[5] = sorted(each[5])
    return sorted(result)


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "str"])
@pytest.mark.parametrize("facade", ["store", "client"])
def test_random_calls_give_what_redis_py_gives(
    valkey_server: Server, facade: str, decode: bool, heavy: bool
) -> None:
    rng = random.Random(new_seed())
    with redis.Redis(unix_socket_path=valkey_server.unix, decode_responses=decode) as theirs:
        theirs.flushall()
        theirs.function_flush()
        store = Store(decode_responses=decode)
        ours: Any = store if facade == "store" else store.client()
        made: list[Call] = []
        for _ in range(5_000 if heavy else 600):
            call = rng.choice(CALLS)(rng)
            made.append(call)
            expected, found = (comparable(call[0], outcome(target, call)) for target in (theirs, ours))
            assert (found, type(found)) == (expected, type(expected)), (call, made[-12:])
        theirs.function_flush()


SOURCE = (
    "#!lua name=lib\nredis.register_function('f', function(keys, args) return redis.call(unpack(args)) end)"
)


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "str"])
def test_a_payload_is_bytes_and_goes_into_another_store(decode: bool) -> None:
    first, second = Store(decode_responses=decode), Store(decode_responses=decode)
    first.function_load(SOURCE)
    given = first.function_dump()
    assert type(given) is bytes and second.function_restore(given)
    assert second.fcall("f", 0, "echo", "x") == ("x" if decode else b"x")
    first.set("k", b"\xff")
    assert type(first.dump("k")) is bytes


def test_pipelines_and_databases_have_the_same_functions() -> None:
    store = Store()
    results = store.pipeline().function_load(SOURCE).fcall("f", 0, "set", "k", 1).get("k").execute()
    assert results == [b"lib", b"OK", b"1"]
    other = store.database(1)
    assert other.fcall("f", 0, "get", "k") is None
    assert other.function_delete("lib") is True and store.function_list() == []


def test_the_store_of_a_fake_server_has_its_functions() -> None:
    server = FakeServer()
    assert server.text_store.function_load(SOURCE) == "lib"
    assert server.store.fcall("f", 0, "incr", "k") == 1
    assert server.text_store.function_stats()["engines"]["LUA"]["functions_count"] == 1
    assert type(server.text_store.function_dump()) is bytes


def flagged(name: str, flag: str) -> str:
    return (
        f"#!lua name={name}\nredis.register_function{{function_name='{name}', flags={{{flag}}},"
        f" callback=function(keys, args) return redis.call(unpack(args)) end}}"
    )


def test_without_memory_only_functions_that_may_do_without_are_called() -> None:
    store = Store(maxmemory=3000)
    for source in (flagged("plain", ""), flagged("reads", "'no-writes'"), flagged("allowed", "'allow-oom'")):
        store.function_load(source)
    given = store.function_dump()
    with pytest.raises(OutOfMemoryError):
        while True:
            store.rpush("list", "x" * 100)
    refused: list[Callable[[], Any]] = [
        lambda: store.function_load(SOURCE),
        lambda: store.function_restore(given, "REPLACE"),
        lambda: store.fcall("plain", 0, "llen", "list"),
    ]
    for call in refused:
        with pytest.raises(OutOfMemoryError):
            call()
    before = store.llen("list")
    assert store.fcall("reads", 0, "llen", "list") == store.fcall_ro("reads", 0, "llen", "list") == before
    assert store.fcall("allowed", 0, "rpush", "list", "x") == before + 1
    assert store.function_delete("plain") and store.function_flush("ASYNC")


def test_an_open_store_keeps_its_functions(tmp_path: Path) -> None:
    with kvstore.open(tmp_path) as store:
        store.function_load("#!lua name=gone\nredis.register_function('g', function() end)")
        store.function_load(SOURCE)
        store.function_delete("gone")
        assert store.fcall("f", 0, "incr", "k") == 1
    with kvstore.open(tmp_path) as store:
        assert store.fcall("f", 0, "incr", "k") == 2
        assert [each[1] for each in store.function_list()] == [b"lib"]
        store.compact()
        store.function_flush()
    with kvstore.open(tmp_path) as store:
        assert store.function_list() == [] and store.get("k") == b"2"
