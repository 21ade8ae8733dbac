"""Memory: how much the resident memory of a server grows for each key or member, beside redis-server's; and what CPU it
costs to pack small values and to unpack them again.

    python -m benchmarks.memory [--size small] [--rows strings,hashes] [--json FILE]

Each figure is of a fresh process, filled over its socket. Small values are measured once they are packed, which is told to
happen after a second instead of a minute (``settle``). CPU is that of the server for one value: to pack it, which is to look
for it, to pack it and to free what it was; to look it up in a pipeline, which unpacks it; and to look it up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from benchmarks.harness import Row, Run, Samples, main, row
from benchmarks.instances import Instance, cpu_seconds, resident_bytes, running

Words = tuple[bytes | str, ...]
BATCH = 100  # elements a command of a large value
# The directive that says after how many seconds small values are packed; without it, nothing is packed.
PACKING = "pack-cold-after"
SETTLE_SECONDS = 90.0


def strings(count: int) -> Iterator[Words]:
    """Keys of 16 bytes, values of 14."""
    for number in range(count):
        yield "SET", f"key:{number:012}", f"value:{number:08}"


def small(count: int, *head: str, before: str = "", form: str = "value:{}") -> Iterator[Words]:
    """Values of ten short elements."""
    for key in range(count):
        words: list[str] = []
        for n in range(10):
            words += {"": [], "score": [str(n)], "field": [f"field:{n}"]}[before]
            words.append(form.format((key * 10 + n) % 100_000))
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
    "sets of ten integers": (lambda n: small(n, "SADD", form="{}"), SMALL, "bytes a key", "memory-small"),
    "sorted sets of ten": (lambda n: small(n, "ZADD", before="score"), SMALL, "bytes a key", "memory-small"),
    "lists of ten": (lambda n: small(n, "RPUSH"), SMALL, "bytes a key", "memory-small"),
    "large sorted set": (lambda n: large(n, "ZADD", before="score"), LARGE, "bytes a member", "memory-large"),
    "large hash": (lambda n: large(n, "HSET", before="field"), LARGE, "bytes a field", "memory-large"),
    "large set": (lambda n: large(n, "SADD"), LARGE, "bytes a member", "memory-large"),
    "large list": (lambda n: large(n, "RPUSH"), LARGE, "bytes an element", "memory-large"),
}


# What looks a value up without its elements.
LENGTHS = {"HSET": "HLEN", "SADD": "SCARD", "ZADD": "ZCARD", "RPUSH": "LLEN"}


def growth(run: Run, kind: str, fill: Iterable[Words], count: int) -> dict[str, float]:
    """Bytes by which the resident memory of a fresh server, and its own ``used_memory``, grow, over ``count``."""
    with running(kind, run.place(kind), {}) as server:
        client = server.client()
        client.fill([("SET", "warm", "up"), ("DEL", "warm")])
        own, before = int(client.info("memory")["used_memory"]), resident_bytes(server.pid)
        client.fill(fill)
        after = resident_bytes(server.pid)
        own = int(client.info("memory")["used_memory"]) - own
        client.close()
    return {"resident": (after - before) / count, "own": own / count}


def cold_growth(run: Run, kind: str, fill: Callable[[int], Iterable[Words]], count: int) -> dict[str, float]:
    """As ``growth``, of values that nobody uses; of kvstore also microseconds of CPU a value."""
    with running(kind, run.place(kind), {}) as server:
        client = server.client()
        client.fill([("SET", "warm", "up"), ("DEL", "warm")])
        own, before = int(client.info("memory")["used_memory"]), resident_bytes(server.pid)
        client.fill(fill(count))
        filled = cpu_seconds(server.pid)
        settle(server)
        cpu = {"packing": cpu_seconds(server.pid) - filled}
        found = {"resident": (resident_bytes(server.pid) - before) / count}
        found["own"] = (int(client.info("memory")["used_memory"]) - own) / count
        for use in ("first use", "next use"):
            began = cpu_seconds(server.pid)
            client.fill((LENGTHS[str(words[0])], words[1]) for words in fill(count))
            cpu[use] = cpu_seconds(server.pid) - began
        client.close()
    return found | ({name: used / count * 1e6 for name, used in cpu.items()} if kind == "kvstore" else {})


def measure(run: Run) -> Iterator[Row]:
    for name, (fill, counts, unit, goal) in ROWS.items():
        if run.wants(name):
            count, samples = run.pick(*counts), Samples()
            for kind in run.kinds:
                if goal == "memory-small":
                    samples.add(kind, **cold_growth(run, kind, fill, count))
                else:
                    samples.add(kind, **growth(run, kind, fill(count), count))
            test = f"{name}, {count:,}"
            yield row(test, "resident memory", unit, samples["resident"], goal, count=count)
            yield row(test, "used_memory", unit, samples["own"], count=count)
            for cost in ("packing", "first use", "next use"):
                if cost in samples.found:
                    yield row(test, f"CPU of {cost}", "µs", samples[cost], against=None, count=count)


if __name__ == "__main__":
    main("memory", measure, __doc__)
