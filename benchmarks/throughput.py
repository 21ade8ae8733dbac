"""Throughput and server CPU a command: kvstore, redis-server and valkey-server in turn, in one run.

    python -m benchmarks.throughput [--size small] [--rounds 3] [--rows get,set] [--json FILE]

Most rows are redis-benchmark's, with 50 clients; what it cannot send (transactions, messages to many subscribers) comes
from `benchmarks/load.py`. Before each turn the server is emptied and filled with what the commands find, which is
not measured. CPU is user and system time of the server's process, from /proc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks import load
from benchmarks.harness import Row, Run, Samples, main, row, turns
from benchmarks.instances import Instance, request, running

KEYSPACE = 10_000
Words = tuple[bytes | str, ...]
Fill = Callable[[int], Iterable[Words]]  # what is there before a load of so many requests


def strings(_: int) -> Iterator[Words]:
    for number in range(KEYSPACE):
        yield "SET", f"key:{number:012}", "VXK"


def nothing(_: int) -> Iterator[Words]:
    return iter(())


def many(*words: str, scores: bool = False, batch: int = 50) -> Fill:
    """As many members as requests, in commands of many."""

    def fill(requests: int) -> Iterator[Words]:
        for at in range(0, requests, batch):
            members = [f"element:{number:012}" for number in range(at, min(at + batch, requests))]
            yield (
                *words,
                *(word for each in members for word in ([str(len(each) + at), each] if scores else [each])),
            )

    return fill


def container(*words: str, pairs: str = "") -> Fill:
    """One value of as many elements as ``words`` says last."""
    *head, count = words

    def fill(_: int) -> Iterator[Words]:
        for number in range(int(count)):
            before = {"": (), "score": (str(number),), "field": (f"field:{number:04}",)}[pairs]
            yield (*head, *before, f"element:{number:04}")

    return fill


def entries(requests: int) -> Iterator[Words]:
    """A stream with ten entries for each request, and a group that has yet to read them."""
    yield "XGROUP", "CREATE", "stream", "group", "0", "MKSTREAM"
    for number in range(requests * 10):
        yield "XADD", "stream", "*", "field", f"value:{number:08}"


SCRIPT = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('INCR', KEYS[2]) return redis.call('GET', KEYS[1])"
READ_GROUP = "XREADGROUP GROUP group consumer COUNT 10 STREAMS stream >".split()
MSET = ["MSET", *(word for n in range(10) for word in (f"key:{n}:__rand_int__", "VXK"))]


@dataclass(frozen=True)
class Load:
    """What is sent, and to what: words of redis-benchmark, or a generator of ours."""

    words: tuple[str, ...] = ()
    fill: Fill = nothing
    share: float = 1.0  # of the requests of GET: slow commands need fewer
    run: Callable[[Instance, int], tuple[float, float]] | None = None

    def turn(self, server: Instance, requests: int, depth: int) -> tuple[float, float]:
        with_client(server, self.fill(requests))
        if self.run is not None:
            return self.run(server, requests)
        return load.redis_benchmark(server, self.words, requests, depth, KEYSPACE)


def with_client(server: Instance, fill: Iterable[Words]) -> None:
    client = server.client()
    client.ask("FLUSHALL")
    client.fill(fill)
    client.close()


def transactions(server: Instance, requests: int) -> tuple[float, float]:
    commands = ("SET key value", "GET key", "HSET hash field value", "SADD set member", "ZADD zset 1 member")
    words = ["MULTI", *commands, "EXEC"]
    block = b"".join(request(*each.split()) for each in words)
    return load.closed_loop(server, block * 4, 4, requests // 4, 8)


SINGLE: dict[str, Load] = {
    "GET": Load(("-t", "get"), strings),
    "SET": Load(("-t", "set")),
    "INCR": Load(("-t", "incr")),
    "LPUSH": Load(("-t", "lpush")),
    "RPOP": Load(("-t", "rpop"), many("RPUSH", "mylist")),
    "SADD": Load(("-t", "sadd")),
    "HSET": Load(("-t", "hset")),
    "ZADD": Load(("-t", "zadd")),
    "SPOP": Load(("-t", "spop"), many("SADD", "myset")),
    "ZPOPMIN": Load(("-t", "zpopmin"), many("ZADD", "myzset", scores=True)),
}
BULK: dict[str, Load] = {
    "MSET of 10": Load(tuple(MSET), share=0.5),
    "LRANGE 100": Load(("LRANGE", "list", "0", "99"), container("RPUSH", "list", "600"), 0.3),
    "LRANGE 300": Load(("LRANGE", "list", "0", "299"), container("RPUSH", "list", "600"), 0.15),
    "LRANGE 600": Load(("LRANGE", "list", "0", "599"), container("RPUSH", "list", "600"), 0.1),
    "HGETALL of 100": Load(("HGETALL", "hash"), container("HSET", "hash", "100", pairs="field"), 0.2),
    "ZRANGE of 100": Load(
        ("ZRANGE", "zset", "0", "-1"), container("ZADD", "zset", "100", pairs="score"), 0.3
    ),
    "SMEMBERS of 100": Load(("SMEMBERS", "set"), container("SADD", "set", "100"), 0.3),
}
COMPOUND: dict[str, Load] = {
    "EVAL of three commands": Load(("EVAL", SCRIPT, "2", "key", "number", "value"), share=0.3),
    "MULTI of 5": Load(run=transactions, share=0.3),
    "PUBLISH to 100": Load(run=lambda server, requests: load.publish(server, 100, requests), share=0.05),
    "XADD": Load(("XADD", "stream", "*", "field", "value"), share=0.6),
    "XREADGROUP of 10": Load(tuple(READ_GROUP), entries, 0.1),
}
# (loads, depth, goal of the throughput, goal of the CPU)
SECTIONS = (
    (SINGLE, 1, "single", "cpu"),
    (SINGLE, 16, "pipelined", None),
    (BULK, 1, "bulk", None),
    (COMPOUND, 1, "compound", None),
)


def measure(run: Run) -> Iterator[Row]:
    """Two rows a load: throughput and CPU. The first turn of each only warms up."""
    requests = run.pick(200, 20_000, 100_000)
    with ExitStack() as stack:
        servers = [stack.enter_context(running(kind, run.place(kind), {})) for kind in run.kinds]
        for loads, depth, goal, cpu_goal in SECTIONS:
            for name, each in loads.items():
                test = f"{name}, depth {depth}" if loads is SINGLE else name
                if run.wants(test):
                    count = max(16, int(requests * each.share * (3 if depth > 1 else 1)))
                    samples = _samples(each, servers, count, depth, run.rounds)
                    more: dict[str, Any] = {"depth": depth, "requests": count}
                    yield row(test, "throughput", "requests/s", samples["rate"], goal, **more)
                    yield row(test, "CPU", "µs a request", samples["cpu"], cpu_goal, **more)


def _samples(each: Load, servers: list[Instance], count: int, depth: int, rounds: int) -> Samples:
    samples = Samples()
    for server in servers:
        each.turn(server, max(16, count // 10), depth)
    for server in turns(rounds, servers):
        rate, cpu = each.turn(server, count, depth)
        samples.add(server.kind, rate=rate, cpu=cpu)
    return samples


if __name__ == "__main__":
    main("throughput", measure, __doc__)
