"""Memory: how much the resident memory of a server grows for each key or member, beside redis-server's.

    python -m benchmarks.memory [--size small] [--rows strings,hashes] [--json FILE]

Each figure is of a fresh process, filled over its socket. Small values are measured once they have not been touched for a
minute, or as soon as the server can be told to take them for that (``settle``). One turn is enough: the figures hardly differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from benchmarks.harness import Row, Run, Samples, main, row
from benchmarks.instances import Instance, resident_bytes, running

Words = tuple[bytes | str, ...]
BATCH = 100  # elements a command of a large value
# The directive that says after how many seconds small values are packed; without it, nothing is packed.
PACKING = "pack-cold-after"
SETTLE_SECONDS = 90.0


def strings(count: int) -> Iterator[Words]:
    """Keys of 16 bytes, values of 14."""
    for number in range(count):
        yield "SET", f"key:{number:012}", f"value:{number:08}"


def small(count: int, *head: str, before: str = "") -> Iterator[Words]:
    """Values of ten short elements."""
    for key in range(count):
        words: list[str] = []
        for n in range(10):
            words += {"": [], "score": [str(n)], "field": [f"field:{n}"]}[before]
            words.append(f"value:{(key * 10 + n) % 100_000}")
        yield (*head, f"key:{key:012}", *words)


def large(count: int, *head: str, before: str = "") -> Iterator[Words]:
    """One value of many elements."""
    for at in range(0, count, BATCH):
        words: list[str] = []
        for n in range(at, min(at + BATCH, count)):
            words += {"": [], "score": [str(n * 7919 % count)], "field": [f"field:{n:08}"]}[before]
            words.append(f"member:{n:08}")
        yield (*head, "large", *words)


def settle(server: Instance) -> None:
    """Small values become as small as they do when nobody touches them for a minute: wait for that if need be."""
    client = server.client()
    try:
        if server.kind != "kvstore" or not client.ask("CONFIG", "GET", PACKING):
            return  # redis-server keeps small values packed at all times
        client.ask("CONFIG", "SET", PACKING, "1")
        began, last = time.monotonic(), -1
        while time.monotonic() < began + SETTLE_SECONDS:
            time.sleep(4)
            now = resident_bytes(server.pid)
            if abs(now - last) < 1 << 16 and time.monotonic() > began + 12:
                return
            last = now
    finally:
        client.close()


Rows = dict[str, tuple[Callable[[int], Iterable[Words]], tuple[int, int, int], str, str]]
SMALL, LARGE = (100, 20_000, 100_000), (1000, 200_000, 1_000_000)
# Name: (what fills a server with so many, how many for each size, unit, goal).
ROWS: Rows = {
    "strings": (strings, LARGE, "bytes a key", "memory-keys"),
    "hashes of ten": (lambda n: small(n, "HSET", before="field"), SMALL, "bytes a key", "memory-small"),
    "sets of ten": (lambda n: small(n, "SADD"), SMALL, "bytes a key", "memory-small"),
    "sorted sets of ten": (lambda n: small(n, "ZADD", before="score"), SMALL, "bytes a key", "memory-small"),
    "lists of ten": (lambda n: small(n, "RPUSH"), SMALL, "bytes a key", "memory-small"),
    "large sorted set": (lambda n: large(n, "ZADD", before="score"), LARGE, "bytes a member", "memory-large"),
    "large hash": (lambda n: large(n, "HSET", before="field"), LARGE, "bytes a field", "memory-large"),
    "large set": (lambda n: large(n, "SADD"), LARGE, "bytes a member", "memory-large"),
    "large list": (lambda n: large(n, "RPUSH"), LARGE, "bytes an element", "memory-large"),
}


def growth(run: Run, kind: str, fill: Iterable[Words], cold: bool) -> tuple[int, int]:
    """Bytes by which the resident memory of a fresh server grows, and its own ``used_memory``."""
    with running(kind, run.place(kind), {}) as server:
        client = server.client()
        client.fill([("SET", "warm", "up"), ("DEL", "warm")])
        own, before = int(client.info("memory")["used_memory"]), resident_bytes(server.pid)
        client.fill(fill)
        if cold:
            settle(server)
        after = resident_bytes(server.pid)
        own = int(client.info("memory")["used_memory"]) - own
        client.close()
    return after - before, own


def measure(run: Run) -> Iterator[Row]:
    for name, (fill, counts, unit, goal) in ROWS.items():
        if run.wants(name):
            count, samples = run.pick(*counts), Samples()
            for kind in run.kinds:
                resident, own = growth(run, kind, fill(count), goal == "memory-small")
                samples.add(kind, resident=resident / count, own=own / count)
            test = f"{name}, {count:,}"
            yield row(test, "resident memory", unit, samples["resident"], goal, count=count)
            yield row(test, "used_memory", unit, samples["own"], count=count)


if __name__ == "__main__":
    main("memory", measure, __doc__)
