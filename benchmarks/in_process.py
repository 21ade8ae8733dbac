"""The loads of ``benchmarks.commits``, run in one process without sockets. Run by path, not as a module, with the
tree to be measured on PYTHONPATH; that may be an older one.

    valgrind --tool=callgrind --dump-before=getloadavg python benchmarks/in_process.py COUNT SHIFT NAMES

Callgrind writes a part, and counts from zero, whenever the marker is called: it stands before and after each load,
so that every second part is one load. The order of the loads that ran is printed as JSON, with the count of each; what
this tree cannot run is left out, with the reason. Names are parted by semicolons.

CPython's cache of attributes is keyed by addresses, and two names that fall on one place cost a method thousands of
instructions a call: luck that moves with every change of the code. SHIFT moves the addresses, so that a tree can be
measured with several layouts.

Must not know: callgrind's files.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Any

marker = os.getloadavg  # calls the function of this name in the C library, which nothing else does


def request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


COUNT = 200  # keys, fields, members
KEYS = [b"key:%012d" % number for number in range(COUNT)]
SHORT = [b"m:%04d" % number for number in range(COUNT)]
VALUE = b"value:12345678"
SCORES = [b"%d" % (number * 7919 % COUNT) for number in range(COUNT)]
ZADDS = [request(b"ZADD", b"zset", score, member) for score, member in zip(SCORES, SHORT, strict=True)]


def pipelines(requests: list[bytes], depth: int = 16) -> list[bytes]:
    return [b"".join(requests[at : at + depth]) for at in range(0, len(requests), depth)]


GETS = [request(b"GET", key) for key in KEYS]
SETS = [request(b"SET", key, VALUE) for key in KEYS]
PUSH_AND_POP = [request(b"LPUSH", b"list", VALUE), request(b"RPOP", b"list")]

# Name: (chunks that a client sends, commands in all of them). They are sent over and over.
CHUNKS: dict[str, tuple[list[bytes], int]] = {
    "GET": (GETS, COUNT),
    "SET": (SETS, COUNT),
    "INCR": ([request(b"INCR", b"number")], 1),
    "LPUSH, RPOP": (PUSH_AND_POP, 2),
    "HSET": ([request(b"HSET", b"hash", member, VALUE) for member in SHORT], COUNT),
    "ZADD": (ZADDS, COUNT),
    "SADD": ([request(b"SADD", b"set", member) for member in SHORT], COUNT),
    "LRANGE 100": ([request(b"LRANGE", b"long", b"0", b"99")], 1),
    "MSET of 10": ([request(b"MSET", *(word for key in KEYS[:10] for word in (key, VALUE)))], 1),
    "GET, pipelines of 16": (pipelines(GETS), COUNT),
    "SET, pipelines of 16": (pipelines(SETS), COUNT),
    "LPUSH, RPOP, pipelines of 16": (pipelines(PUSH_AND_POP * 8), 16),
    "HSET, pipelines of 16": (pipelines([request(b"HSET", b"hash", each, VALUE) for each in SHORT]), COUNT),
    "ZADD, pipelines of 16": (pipelines(ZADDS), COUNT),
}


def session_load(chunks: list[bytes], commands: int, count: int) -> tuple[Callable[[], None], int]:
    """What feeds about so many commands to a session, and how many they are."""
    from kvstore.commands.all import COMMANDS
    from kvstore.commands.hub import Hub
    from kvstore.commands.kinds import RESP2
    from kvstore.commands.session import Session
    from kvstore.engine.context import Context
    from kvstore.engine.database import Database

    assert COMMANDS
    session = Session(Hub(Context(Database)), RESP2)
    feed, out = session.feed, session.out
    feed(b"".join(SETS) + request(b"RPUSH", b"long", *KEYS[:100]))
    times = max(1, count // commands)
    out.clear()

    def once() -> None:
        for chunk in chunks:
            feed(chunk)
            reply = b"".join(out)
            if reply[:1] == b"-":
                raise RuntimeError(reply.decode())
            out.clear()

    once()  # caches are filled by the first commands

    def run() -> None:
        for _ in range(times):
            once()

    return run, times * commands


def store_load(method: str, count: int) -> tuple[Callable[[], None], int]:
    from kvstore import Store

    store = Store()
    for key in KEYS:
        store.set(key, VALUE)
    times = max(1, count // len(KEYS))

    def get() -> None:
        call = store.get
        for _ in range(times):
            for key in KEYS:
                call(key)

    def put() -> None:
        call = store.set
        for _ in range(times):
            for key in KEYS:
                call(key, VALUE)

    return (get if method == "get" else put), times * len(KEYS)


LOADS: dict[str, Callable[[int], tuple[Callable[[], None], int]]] = {
    name: lambda count, chunks=chunks, commands=commands: session_load(chunks, commands, count)  # type: ignore[misc]
    for name, (chunks, commands) in CHUNKS.items()
}
LOADS["Store.get"] = lambda count: store_load("get", count)
LOADS["Store.set"] = lambda count: store_load("set", count)


def main() -> None:
    count, shift, names = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(";")
    # Names of attributes are strings of these sizes, classes' tables come from the same allocator.
    kept = [bytes(size) for size in range(0, 480, 16) for _ in range(shift)]
    ran: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name in names:
        try:
            run, commands = LOADS[name](count)
        except Exception as error:  # an older tree may be laid out otherwise
            left_out[name] = f"{type(error).__name__}: {error}"
            continue
        gc.collect()
        marker()
        run()
        marker()
        ran.append({"name": name, "commands": commands})
    import kvstore

    del kept
    print(json.dumps({"ran": ran, "left_out": left_out, "package": os.path.dirname(kvstore.__file__)}))


if __name__ == "__main__":
    main()
