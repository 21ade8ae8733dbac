"""Store methods beside the dict operation that does the same, in one run.

    python -m benchmarks.store_vs_dict [--number 100000]

The best of several repeats of each; only the ratio counts.
"""

from __future__ import annotations

import argparse
import timeit
from collections import deque
from typing import Any

from kvstore import Store


def best(statement: str, names: dict[str, Any], number: int) -> float:
    """Nanoseconds a run of the statement."""
    return min(timeit.repeat(statement, globals=names, number=number, repeat=7)) / number * 1e9


# Row, the Store's statement, the plain statement.
ROWS = [
    ("get", "store.get(b'k')", "plain.get(b'k')"),
    ("set", "store.set(b'k', b'v')", "plain[b'k'] = b'v'"),
    ("incr", "store.incr(b'n')", "plain[b'n'] += 1"),
    ("rpush+lpop", "store.rpush(b'l', b'v'); store.lpop(b'l')", "queue.append(b'v'); queue.popleft()"),
    ("hset", "store.hset(b'h', b'f', b'v')", "inner[b'f'] = b'v'"),
    ("hget", "store.hget(b'h', b'f')", "inner.get(b'f')"),
    ("sadd", "store.sadd(b's', b'm')", "members.add(b'm')"),
    ("sismember", "store.sismember(b's', b'm')", "b'm' in members"),
    ("zscore", "store.zscore(b'z', b'm')", "inner.get(b'm')"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=100_000)
    number = parser.parse_args().number
    store = Store()
    store.set(b"k", b"v")
    store.zadd(b"z", {b"m": 1})
    names: dict[str, Any] = {
        "store": store,
        "plain": {b"k": b"v", b"n": 0},
        "queue": deque([b"x"]),
        "inner": {b"f": b"v", b"m": 1.0},
        "members": {b"m"},
    }
    for row, ours, plain in ROWS:
        mine, theirs = best(ours, names, number), best(plain, names, number)
        print(f"{row:>11}: {mine:7.0f} ns, plain {theirs:6.0f} ns, {mine / theirs:5.1f} times")


if __name__ == "__main__":
    main()
