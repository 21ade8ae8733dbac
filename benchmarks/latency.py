"""Latency at half of the maximum rate, and throughput beside many idle connections.

    python -m benchmarks.latency [--size small] [--rounds 3] [--rows latency,get] [--json FILE]

- Latency: GET on 50 connections at a steady rate, whatever the server does (an open loop): the time from when a
  request was due to its reply. The rate is the same for all servers: half of what the slowest of them reaches when each
  connection of the same generator sends its next request once it has the reply to the last.
- Idle connections: redis-benchmark's GET with 50 clients on a server that holds 10,000 more, against one that holds none;
  as many fewer as the limit of open files allows. The goal is about kvstore's own figures; the others' are beside it.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import load
from benchmarks.harness import Row, Run, Samples, main, row, turns
from benchmarks.instances import Instance, request, running
from benchmarks.throughput import KEYSPACE, strings

SPARE_FILES = 300  # that the processes need besides the idle connections
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def measure(run: Run) -> Iterator[Row]:
    if run.wants("latency"):
        yield from latency(run)
    if run.wants("GET beside"):
        yield from idle(run)


def latency(run: Run) -> Iterator[Row]:
    seconds, blocks = run.pick(0.2, 1.0, 5.0), run.pick(500, 20_000, 100_000)
    asked = [request("GET", f"key:{number:012}") for number in range(KEYSPACE)]
    found = Samples()
    with ExitStack() as stack:
        servers = [stack.enter_context(running(kind, run.place(kind), {})) for kind in run.kinds]
        for server in servers:
            client = server.client()
            client.fill(strings(0))
            client.close()
        reached = {
            server.kind: load.closed_loop(server, asked[0], 1, blocks, load.CLIENTS)[0] for server in servers
        }
        rate = min(reached.values()) / 2
        reply = load.reply_bytes(servers[0], asked[0])
        for server in turns(run.rounds, servers):
            times = sorted(load.open_loop(server, asked, reply, rate, seconds))
            at = {
                name: times[min(len(times) - 1, int(len(times) * share))]
                for name, share in PERCENTILES.items()
            }
            found.add(server.kind, **{name: value * 1e6 for name, value in at.items()})
    for name in PERCENTILES:
        goal = "latency" if name == "p99" else None
        yield row("latency of GET", name, "µs", found[name], goal, rate=round(rate))


def connections(wanted: int) -> int:
    """How many idle ones a process may hold; the limit is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < most:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(0, soft - SPARE_FILES) if soft < most else wanted
    return wanted


def hold(server: Instance, count: int, stack: ExitStack) -> None:
    """Connections that have sent one request, and will send no more."""
    ping = request("PING")
    for _ in range(count):
        made = stack.enter_context(load.connected(server))
        made.sendall(ping)
        if not made.recv(64):
            raise ConnectionError("the server takes no more connections")


def idle(run: Run) -> Iterator[Row]:
    requests, wanted = run.pick(500, 30_000, 100_000), run.pick(50, 10_000, 10_000)
    count = connections(wanted)
    if count < wanted:
        print(f"the limit of open files allows {count} idle connections instead of {wanted}", flush=True)
    for kind in run.kinds:
        rates = Samples()
        with ExitStack() as stack:
            options = {"maxclients": str(wanted + 200)}
            alone, crowded = (
                stack.enter_context(running(kind, run.place(kind), options)) for _ in ("alone", "crowded")
            )
            for server in (alone, crowded):
                client = server.client()
                client.fill(strings(0))
                client.close()
            hold(crowded, count, stack)
            for server in (alone, crowded):
                load.redis_benchmark(server, ["-t", "get"], max(100, requests // 5))
            for server in turns(run.rounds, (alone, crowded)):
                rate, cpu = load.redis_benchmark(server, ["-t", "get"], requests)
                rates.add("kvstore" if server is crowded else "none idle", rate=rate, cpu=cpu)
        test = f"GET beside {count:,} idle connections"
        if kind == "kvstore":
            yield row(
                test, "throughput", "requests/s", rates["rate"], "idle", against="none idle", idle=count
            )
            yield row(test, "CPU", "µs a request", rates["cpu"], against="none idle", idle=count)
        else:
            theirs = {"with idle" if who == "kvstore" else who: each for who, each in rates["rate"].items()}
            yield row(f"{test}, {kind}", "throughput", "requests/s", theirs, idle=count)


if __name__ == "__main__":
    main("latency", measure, __doc__)
