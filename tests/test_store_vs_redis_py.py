"""The same calls on a Store, on its redis-py client, and on redis-py with a real server: the same results.

Results are compared as Python objects, errors by the name of their class and their text.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from kvstore import DataError, Store, StoreError
from tests.servers import Server

Call = tuple[str, tuple[Any, ...], dict[str, Any]]
Rng = random.Random

KEYS = ("a", "b", "c", "d", b"e", 7)
MEMBERS = ("m1", "m2", b"m3", 4, 5, 1.5, "", "é")
SCORES = (0, 1, -1, 1.5, 2, 3.25, float("inf"), 1e17)


def key(rng: Rng) -> Any:
    return rng.choice(KEYS)


def keys(rng: Rng) -> list[Any]:
    return [key(rng) for _ in range(rng.randint(1, 3))]


def member(rng: Rng) -> Any:
    return rng.choice(MEMBERS)


def members(rng: Rng) -> list[Any]:
    return [member(rng) for _ in range(rng.randint(1, 4))]


def integer(rng: Rng) -> Any:
    return rng.choice((0, 1, 2, -1, -2, 5, 100, "3", "x", 1 << 62))


def flags(rng: Rng, *names: str) -> dict[str, bool]:
    return {name: True for name in names if rng.random() < 0.2}


def scored(rng: Rng) -> dict[Any, Any]:
    return {member(rng): rng.choice(SCORES) for _ in range(rng.randint(1, 4))}


def stream_id(rng: Rng) -> Any:
    return rng.choice((0, 3, "5-1", b"-", "+", "$", "x", "(4"))


def stream_ids(rng: Rng) -> list[Any]:
    return [rng.choice((*range(1, 9), "5-1", "x")) for _ in range(rng.randint(1, 3))]


def new_id(rng: Rng) -> Any:
    return rng.choice((*range(1, 9), "5-*", "7-*", b"8-*", "x", "9-*"))


def consumer(rng: Rng) -> Any:
    return rng.choice(("c", "d", b"e"))


def place(rng: Rng) -> tuple[Any, Any]:
    return rng.choice(((2.35, 48.85), (2.36, 48.86), ("13.4", 52.5), (-180, 0), (0, 0), (500, 1), ("x", 1)))


def area(rng: Rng) -> dict[str, Any]:
    lon, lat = place(rng)
    center = member(rng) or "center"  # redis-py takes an empty one for none
    return {
        **rng.choice(({"member": center}, {"longitude": lon, "latitude": lat}, {})),
        **rng.choice(({"radius": 1000}, {"width": 3000, "height": 2000}, {"radius": 2, "width": 1}, {})),
        **rng.choice(({"unit": "km"}, {}, {"unit": "x"})),
        **rng.choice(
            ({"sort": "ASC"}, {"sort": "desc", "count": 2}, {"count": 1, "any": True}, {"any": True})
        ),
    }


def stored(rng: Rng) -> dict[str, Any]:
    return rng.choice(({}, {}, {"store": key(rng)}, {"store_dist": key(rng)}, {"count": 2}))


def sorting(rng: Rng) -> dict[str, Any]:
    # With ALPHA equal weights leave elements as a server's hash table has them: numbers do not.
    by = rng.choice(({}, {}, {"by": "nosort"}, {"by": b"k*"}, {"by": "*->f"}))
    return {
        **by,
        **rng.choice(({}, {"start": 1, "num": 2}, {"start": 0, "num": "x"}, {"start": 1})),
        **rng.choice(({}, {"get": "#"}, {"get": ["#", "*"]}, {"get": ["#", b"k*", "*->f"]})),
        **flags(rng, "desc", *(["alpha"] if by in ({}, {"by": "nosort"}) else [])),
    }


def bit_range(rng: Rng) -> tuple[Any, ...]:
    return rng.choice(
        ((), (), (0, -1), (1, 2), (-1, -1), (3, 12, "BIT"), (0, 1, "BYTE"), (1,), (0, "x"), (0, 1, "x"))
    )


def bit_fields(rng: Rng) -> list[tuple[Any, ...]]:
    """Calls that build a BITFIELD."""
    every: list[tuple[Any, ...]] = [
        ("get", "u8", rng.choice((0, "#1"))),
        ("set", rng.choice(("i8", "u4")), rng.choice((0, 5, "#2")), rng.choice((1, -1, 200))),
        ("incrby", "u4", 2, rng.choice((1, 9, -7))),
        ("incrby", "i3", "#1", 3, rng.choice(("fail", "SAT", "WRAP", None))),
        ("overflow", rng.choice(("FAIL", "wrap"))),
        ("get", "u64", 0),
    ]
    return rng.choices(every, (4, 4, 4, 4, 3, 0.5), k=rng.randint(0, 4))


def ttl(rng: Rng) -> dict[str, Any]:
    return rng.choice(({}, {}, {"ex": 100}, {"px": 100_000}, {"keepttl": True}, {"exat": 4102444800}))


# Each entry makes one call from a random source.
CALLS: dict[str, Callable[[Rng], Call]] = {
    "set": lambda r: ("set", (key(r), member(r)), {**ttl(r), **flags(r, "nx", "xx", "get")}),
    "get": lambda r: ("get", (key(r),), {}),
    "mget": lambda r: ("mget", (keys(r),), {}),
    "mset": lambda r: ("mset", ({key(r): member(r) for _ in range(2)},), {}),
    "append": lambda r: ("append", (key(r), member(r)), {}),
    "incr": lambda r: ("incr", (key(r), integer(r)), {}),
    "decrby": lambda r: ("decrby", (key(r), integer(r)), {}),
    "incrbyfloat": lambda r: ("incrbyfloat", (key(r), r.choice((0.5, 1, "x", 3.0))), {}),
    "getrange": lambda r: ("getrange", (key(r), integer(r), integer(r)), {}),
    "setrange": lambda r: ("setrange", (key(r), r.choice((0, 2, -1)), member(r)), {}),
    "strlen": lambda r: ("strlen", (key(r),), {}),
    "getdel": lambda r: ("getdel", (key(r),), {}),
    "getex": lambda r: ("getex", (key(r),), r.choice(({}, {"ex": 50}, {"persist": True}))),
    "setbit": lambda r: (
        "setbit",
        (key(r), r.choice((0, 7, 8, 30, -1, "x")), r.choice((0, 1, 2, False))),
        {},
    ),
    "getbit": lambda r: ("getbit", (key(r), r.choice((0, 7, 8, 30, -1, "x"))), {}),
    "bitcount": lambda r: ("bitcount", (key(r), *bit_range(r)), {}),
    "bitpos": lambda r: ("bitpos", (key(r), r.choice((0, 1, 1, 2)), *bit_range(r)), {}),
    "bitop": lambda r: ("bitop", (r.choice(("AND", "or", "XOR", "NOT", "x")), key(r), *keys(r)), {}),
    "bitfield": lambda r: (
        "bitfield",
        (key(r), bit_fields(r)),
        r.choice(({}, {"default_overflow": "SAT"})),
    ),
    "bitfield_ro": lambda r: (
        "bitfield_ro",
        (key(r), r.choice(("u8", "i5", "u64")), r.choice((0, "#1", 13, -1))),
        r.choice(({}, {"items": [("u3", 2), ("i64", "#0")]})),
    ),
    "pfadd": lambda r: (
        "pfadd",
        (key(r), *(r.choice(("a", "b", 1, 2.5, b"x")) for _ in range(r.randrange(4)))),
        {},
    ),
    "pfcount": lambda r: ("pfcount", keys(r), {}),
    "pfmerge": lambda r: ("pfmerge", (key(r), *r.choice((keys(r), ()))), {}),
    "rpush": lambda r: ("rpush", (key(r), *members(r)), {}),
    "lpush": lambda r: ("lpush", (key(r), *members(r)), {}),
    "lpop": lambda r: ("lpop", (key(r),), r.choice(({}, {"count": 2}))),
    "lrange": lambda r: ("lrange", (key(r), integer(r), integer(r)), {}),
    "lindex": lambda r: ("lindex", (key(r), integer(r)), {}),
    "linsert": lambda r: ("linsert", (key(r), "before", member(r), member(r)), {}),
    "lrem": lambda r: ("lrem", (key(r), integer(r), member(r)), {}),
    "lset": lambda r: ("lset", (key(r), r.choice((0, -1, 5, "x")), member(r)), {}),
    "ltrim": lambda r: ("ltrim", (key(r), integer(r), integer(r)), {}),
    "lpos": lambda r: ("lpos", (key(r), member(r)), r.choice(({}, {"count": 0}, {"rank": -1}))),
    "lmove": lambda r: ("lmove", (key(r), key(r)), {"src": "LEFT", "dest": "LEFT"}),
    "lmpop": lambda r: ("lmpop", (1, key(r)), {"direction": "LEFT", "count": 2}),
    "blpop": lambda r: ("blpop", (keys(r),), {"timeout": 0.01}),
    "sadd": lambda r: ("sadd", (key(r), *members(r)), {}),
    "srem": lambda r: ("srem", (key(r), *members(r)), {}),
    "smembers": lambda r: ("smembers", (key(r),), {}),
    "sismember": lambda r: ("sismember", (key(r), member(r)), {}),
    "smismember": lambda r: ("smismember", (key(r), members(r)), {}),
    "smove": lambda r: ("smove", (key(r), key(r), member(r)), {}),
    "sinter": lambda r: ("sinter", (keys(r),), {}),
    "sunion": lambda r: ("sunion", (keys(r),), {}),
    "sdiff": lambda r: ("sdiff", (keys(r),), {}),
    "sinterstore": lambda r: ("sinterstore", (key(r), keys(r)), {}),
    "sintercard": lambda r: ("sintercard", (2, [key(r), key(r)]), {"limit": 2}),
    "hset": lambda r: ("hset", (key(r), member(r), member(r)), {}),
    "hset_mapping": lambda r: ("hset", (key(r),), {"mapping": {m: member(r) for m in members(r)}}),
    "hget": lambda r: ("hget", (key(r), member(r)), {}),
    "hgetall": lambda r: ("hgetall", (key(r),), {}),
    "hmget": lambda r: ("hmget", (key(r), members(r)), {}),
    "hdel": lambda r: ("hdel", (key(r), *members(r)), {}),
    "hincrby": lambda r: ("hincrby", (key(r), member(r), integer(r)), {}),
    "hincrbyfloat": lambda r: ("hincrbyfloat", (key(r), member(r), 0.5), {}),
    "hexists": lambda r: ("hexists", (key(r), member(r)), {}),
    "hsetnx": lambda r: ("hsetnx", (key(r), member(r), member(r)), {}),
    "hlen": lambda r: ("hlen", (key(r),), {}),
    "hstrlen": lambda r: ("hstrlen", (key(r), member(r)), {}),
    "zadd": lambda r: ("zadd", (key(r), scored(r)), flags(r, "nx", "xx", "ch", "gt", "lt")),
    "zadd_incr": lambda r: ("zadd", (key(r), {member(r): 1.5}), {"incr": True}),
    "zincrby": lambda r: ("zincrby", (key(r), 0.5, member(r)), {}),
    "zscore": lambda r: ("zscore", (key(r), member(r)), {}),
    "zmscore": lambda r: ("zmscore", (key(r), members(r)), {}),
    "zrank": lambda r: ("zrank", (key(r), member(r)), flags(r, "withscore")),
    "zrange": lambda r: ("zrange", (key(r), 0, -1), flags(r, "withscores", "desc")),
    "zrangebyscore": lambda r: (
        "zrangebyscore",
        (key(r), "-inf", r.choice((1, "(2", "+inf"))),
        flags(r, "withscores"),
    ),
    "zrevrange": lambda r: ("zrevrange", (key(r), 0, 2), flags(r, "withscores")),
    "zrem": lambda r: ("zrem", (key(r), *members(r)), {}),
    "zpopmin": lambda r: ("zpopmin", (key(r),), r.choice(({}, {"count": 2}))),
    "zmpop": lambda r: ("zmpop", (1, [key(r)]), {"min": True, "count": 2}),
    "bzpopmax": lambda r: ("bzpopmax", (keys(r),), {"timeout": 0.01}),
    "zunion": lambda r: ("zunion", (keys(r),), flags(r, "withscores")),
    "zinterstore": lambda r: ("zinterstore", (key(r), keys(r)), {}),
    "zunionstore": lambda r: ("zunionstore", (key(r), {key(r): 2, key(r): 0.5}), {"aggregate": "MAX"}),
    "zcount": lambda r: ("zcount", (key(r), 0, "+inf"), {}),
    # Of all members, as other bounds mean nothing where scores differ.
    "zlexcount": lambda r: ("zlexcount", (key(r), "-", "+"), {}),
    "zremrangebyrank": lambda r: ("zremrangebyrank", (key(r), 0, 1), {}),
    "geoadd": lambda r: (
        "geoadd",
        (key(r), (*place(r), member(r), *place(r), member(r))),
        flags(r, "nx", "xx", "ch"),
    ),
    "geopos": lambda r: ("geopos", (key(r), *members(r)), {}),
    "geohash": lambda r: ("geohash", (key(r), *members(r)), {}),
    "geodist": lambda r: (
        "geodist",
        (key(r), member(r), member(r)),
        r.choice(({}, {"unit": "km"}, {"unit": "x"})),
    ),
    "geosearch": lambda r: (
        "geosearch",
        (key(r),),
        {**area(r), **flags(r, "withcoord", "withdist", "withhash")},
    ),
    "geosearchstore": lambda r: ("geosearchstore", (key(r), key(r)), {**area(r), **flags(r, "storedist")}),
    "georadius": lambda r: (
        "georadius",
        (key(r), *place(r), 5000),
        {"unit": "km", "sort": "ASC", **flags(r, "withcoord", "withdist", "withhash"), **stored(r)},
    ),
    "georadiusbymember": lambda r: (
        "georadiusbymember",
        (key(r), member(r), 5000),
        {"unit": "km", "sort": "DESC", **flags(r, "withcoord", "withdist", "withhash"), **stored(r)},
    ),
    "sort": lambda r: (
        "sort",
        (key(r),),
        {**sorting(r), **r.choice(({}, {"store": key(r)}, {"groups": True}))},
    ),
    "sort_ro": lambda r: ("sort_ro", (key(r),), sorting(r)),
    "xadd": lambda r: (
        "xadd",
        (key(r), {member(r): member(r) for _ in range(2)}),
        {
            "id": new_id(r),
            **r.choice(({}, {"maxlen": 3}, {"maxlen": 2, "approximate": False}, {"minid": 4, "limit": 2})),
            **flags(r, "nomkstream"),
        },
    ),
    "xlen": lambda r: ("xlen", (key(r),), {}),
    "xrange": lambda r: (
        "xrange",
        (key(r), stream_id(r), stream_id(r)),
        r.choice(({}, {"count": 2}, {"count": 0})),
    ),
    "xrevrange": lambda r: ("xrevrange", (key(r),), r.choice(({}, {"count": 2}))),
    "xdel": lambda r: ("xdel", (key(r), *stream_ids(r)), {}),
    "xtrim": lambda r: (
        "xtrim",
        (key(r),),
        r.choice(({"maxlen": 1}, {"maxlen": 3, "approximate": False}, {})),
    ),
    "xread": lambda r: (
        "xread",
        ({key(r): r.choice((0, "3-0", "$", 7)) for _ in range(2)},),
        r.choice(({}, {"count": 1}, {"block": 1})),
    ),
    "xgroup_create": lambda r: ("xgroup_create", (key(r), "g", stream_id(r)), flags(r, "mkstream")),
    "xgroup_setid": lambda r: ("xgroup_setid", (key(r), "g", r.choice(("$", 0, 3))), {}),
    "xgroup_destroy": lambda r: ("xgroup_destroy", (key(r), r.choice(("g", "h"))), {}),
    "xgroup_createconsumer": lambda r: ("xgroup_createconsumer", (key(r), "g", consumer(r)), {}),
    "xgroup_delconsumer": lambda r: ("xgroup_delconsumer", (key(r), "g", consumer(r)), {}),
    "xreadgroup": lambda r: (
        "xreadgroup",
        ("g", consumer(r), {key(r): r.choice((">", ">", ">", 0))}),
        {**r.choice(({}, {"count": 1}, {"block": 1})), **flags(r, "noack")},
    ),
    "xack": lambda r: ("xack", (key(r), "g", *stream_ids(r)), {}),
    "xpending": lambda r: ("xpending", (key(r), "g"), {}),
    "xpending_range": lambda r: (
        "xpending_range",
        (key(r), "g", "-", "+", r.choice((1, 10))),
        r.choice(({}, {"consumername": "c"}, {"idle": 100_000})),
    ),
    "xclaim": lambda r: (
        "xclaim",
        (key(r), "g", consumer(r), r.choice((0, 0, 100_000)), stream_ids(r)),
        {**r.choice(({}, {"retrycount": 3}, {"idle": 100})), **flags(r, "force", "justid")},
    ),
    "xautoclaim": lambda r: (
        "xautoclaim",
        (key(r), "g", consumer(r), 0),
        {**r.choice(({}, {"count": 1}, {"start_id": "3-0"})), **flags(r, "justid")},
    ),
    "xinfo_stream": lambda r: ("xinfo_stream", (key(r),), flags(r, "full")),
    "xinfo_groups": lambda r: ("xinfo_groups", (key(r),), {}),
    "xinfo_consumers": lambda r: ("xinfo_consumers", (key(r), "g"), {}),
    "delete": lambda r: ("delete", tuple(keys(r)), {}),
    "exists": lambda r: ("exists", tuple(keys(r)), {}),
    "expire": lambda r: ("expire", (key(r), 1000), flags(r, "nx", "xx", "gt", "lt")),
    "pexpireat": lambda r: ("pexpireat", (key(r), 4102444800000), {}),
    "expiretime": lambda r: ("expiretime", (key(r),), {}),
    "persist": lambda r: ("persist", (key(r),), {}),
    "type": lambda r: ("type", (key(r),), {}),
    "rename": lambda r: ("rename", (key(r), key(r)), {}),
    "renamenx": lambda r: ("renamenx", (key(r), key(r)), {}),
    "copy": lambda r: ("copy", (key(r), key(r)), flags(r, "replace")),
    "touch": lambda r: ("touch", tuple(keys(r)), {}),
    "dbsize": lambda r: ("dbsize", (), {}),
    "lcs": lambda r: ("lcs", (key(r), key(r)), flags(r, "len")),
}
# Calls whose results have no order of their own.
UNORDERED = {"hkeys", "hvals", "keys"}
# Calls whose results tell of times, and what they call them.
TIMED = {"xpending_range", "xinfo_stream", "xinfo_consumers"}
TIMES = {"time_since_delivered", "idle", "inactive", "seen-time", "active-time", "pending"}
# How kvstore's classes are called in redis-py.
CLASSES = {"WrongTypeError": "ResponseError"}


def outcome(target: Any, call: Call) -> Any:
    """What a call gives: its result, or its error's class and text."""
    name, args, kwargs = call
    try:
        if name == "bitfield":
            operation = target.bitfield(args[0], **kwargs)
            for method, *words in args[1]:
                operation = getattr(operation, method)(*words)
            return operation.execute()
        return getattr(target, name)(*args, **kwargs)
    except UnicodeDecodeError as error:
        return "UnicodeDecodeError", error.reason
    except (StoreError, redis.RedisError) as error:
        if isinstance(error, (DataError, redis.DataError)):
            return "DataError", str(error)
        cls = CLASSES.get(type(error).__name__, type(error).__name__)
        return cls, str(error).removeprefix("ERR ")  # redis-py drops the general code


def comparable(name: str, result: Any) -> Any:
    """redis-py prints the scores of ZMPOP itself, in digits of its own and always as bytes."""
    if name == "zmpop" and isinstance(result, list):
        return [result[0], [[member, float(score)] for member, score in result[1]]]
    if name in TIMED:
        return without_times(result)
    return sorted(result) if name in UNORDERED and isinstance(result, list) else result


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: name in TIMES or without_times(item) for name, item in value.items()}
    return list(map(without_times, value)) if isinstance(value, list) else value


def seed() -> int:
    return int(os.environ.get("KVSTORE_TEST_SEED", "0")) or random.randrange(1 << 32)


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "str"])
@pytest.mark.parametrize("facade", ["store", "client"])
def test_random_calls_give_what_redis_py_gives(
    valkey_server: Server, facade: str, decode: bool, heavy: bool
) -> None:
    number = seed()
    print(f"KVSTORE_TEST_SEED = {number}")
    rng = random.Random(number)
    with redis.Redis(unix_socket_path=valkey_server.unix, decode_responses=decode) as theirs:
        theirs.flushall()
        store = Store(decode_responses=decode)
        ours: Any = store if facade == "store" else store.client()
        made: list[Call] = []
        for _ in range(20_000 if heavy else 2_500):
            call = CALLS[rng.choice(list(CALLS))](rng)
            made.append(call)
            expected, found = (comparable(call[0], outcome(target, call)) for target in (theirs, ours))
            assert (found, type(found)) == (expected, type(expected)), (call, made[-12:])
            if rng.random() < 0.01:
                theirs.flushall()
                ours.flushall()


def test_every_call_of_the_list_is_a_method_of_both() -> None:
    rng = random.Random(1)
    for make in CALLS.values():
        name = make(rng)[0]
        assert callable(getattr(Store, name)) and callable(getattr(redis.Redis, name))
