"""Store methods beside the dict operation that does the same, and beside redis-py on a local redis-server, in one run.

    python -m benchmarks.store_vs_dict [--size small] [--rounds 5] [--json FILE]

All take their turn in each round; only the ratios count. The server listens on a Unix socket, which is the fastest way to it.
"""

from __future__ import annotations

import timeit
from collections import deque
from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Row, Run, Samples, main, row, turns
from benchmarks.instances import running
from kvstore import Store

# Row, the Store's statement, the plain statement, the goal.
ROWS: list[tuple[str, str, str, str | None]] = [
    ("get", "store.get(b'k')", "plain.get(b'k')", "store-get"),
    ("set", "store.set(b'k', b'v')", "plain[b'k'] = b'v'", "store-set"),
    ("incr", "store.incr(b'n')", "plain[b'n'] += 1", None),
    ("rpush+lpop", "store.rpush(b'l', b'v'); store.lpop(b'l')", "queue.append(b'v'); queue.popleft()", None),
    ("hset", "store.hset(b'h', b'f', b'v')", "inner[b'f'] = b'v'", None),
    ("hget", "store.hget(b'h', b'f')", "inner.get(b'f')", None),
    ("sadd", "store.sadd(b's', b'm')", "members.add(b'm')", None),
    ("sismember", "store.sismember(b's', b'm')", "b'm' in members", None),
    ("zscore", "store.zscore(b'z', b'm')", "inner.get(b'm')", None),
]
# Rows for which redis-py is asked the same.
CALLS = ("get", "set", "incr", "hset", "hget", "sadd", "sismember", "zscore")


def filled(store: Any) -> Any:
    store.set(b"k", b"v")
    store.zadd(b"z", {b"m": 1})
    return store


def measure(run: Run) -> Iterator[Row]:
    number = run.pick(100, 20_000, 200_000)
    names: dict[str, Any] = {
        "store": filled(Store()),
        "plain": {b"k": b"v", b"n": 0},
        "queue": deque([b"x"]),
        "inner": {b"f": b"v", b"m": 1.0},
        "members": {b"m"},
    }

    def nanoseconds(statement: str, scope: dict[str, Any], count: int) -> float:
        return timeit.timeit(statement, globals=scope, number=count) / count * 1e9

    for name, ours, plain, goal in ROWS:
        if run.wants(name):
            samples = Samples()
            for who, statement in turns(run.rounds, (("kvstore", ours), ("dict", plain))):
                samples.add(who, ns=nanoseconds(statement, names, number))
            yield row(f"Store.{name}", "time", "ns", samples["ns"], goal, against="dict")
    if "redis" in run.kinds:
        yield from beside_redis_py(run, names, nanoseconds, number)


def beside_redis_py(run: Run, names: dict[str, Any], nanoseconds: Any, number: int) -> Iterator[Row]:
    import redis

    with running("redis", run.place("redis"), {}) as server:
        client = filled(redis.Redis(unix_socket_path=server.path))
        other = {"store": client}
        for name, statement, _, _ in ROWS:
            if name in CALLS and run.wants(name):
                samples = Samples()
                for who, scope in turns(run.rounds, (("kvstore", names), ("redis-py", other))):
                    count = number if who == "kvstore" else max(20, number // 50)
                    samples.add(who, ns=nanoseconds(statement, scope, count))
                test = f"Store.{name} and redis-py"
                yield row(test, "time", "ns", samples["ns"], "redis-py", against="redis-py", inverse=True)
        client.close()


if __name__ == "__main__":
    main("store_vs_dict", measure, __doc__)
