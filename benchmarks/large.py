"""CPU a command on a sorted set of a million members: servers in turn, in one run.

    python -m benchmarks.large [--size small] [--rounds 3] [--json FILE]

redis-benchmark with 50 clients and no pipeline; members and scores are drawn from all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import load
from benchmarks.harness import Row, Run, Samples, main, row, turns
from benchmarks.instances import running

COMMANDS = {
    "ZADD": "ZADD large __rand_int__ member:__rand_int__",
    "ZRANK": "ZRANK large member:__rand_int__",
    "ZRANGEBYSCORE LIMIT 10": "ZRANGEBYSCORE large __rand_int__ +inf LIMIT 0 10",
}


def members(count: int, batch: int = 100) -> Iterator[tuple[str, ...]]:
    for at in range(0, count, batch):
        numbers = range(at, min(at + batch, count))
        yield (
            "ZADD",
            "large",
            *(word for n in numbers for word in (str(n * 7919 % count), f"member:{n:012}")),
        )


def measure(run: Run) -> Iterator[Row]:
    count, requests = run.pick(1000, 200_000, 1_000_000), run.pick(200, 20_000, 100_000)
    with ExitStack() as stack:
        servers = [stack.enter_context(running(kind, run.place(kind), {})) for kind in run.kinds]
        for server in servers:
            client = server.client()
            client.fill(members(count))
            client.close()
        for name, words in COMMANDS.items():
            test = f"{name}, {count:,} members"
            if not run.wants(name):
                continue
            samples = Samples()
            for server in servers:
                load.redis_benchmark(server, words.split(), requests // 5, keyspace=count)
            for server in turns(run.rounds, servers):
                rate, cpu = load.redis_benchmark(server, words.split(), requests, keyspace=count)
                samples.add(server.kind, rate=rate, cpu=cpu)
            yield row(test, "CPU", "µs a request", samples["cpu"], "large-zset", members=count)
            yield row(test, "throughput", "requests/s", samples["rate"], members=count)


if __name__ == "__main__":
    main("large", measure, __doc__)
