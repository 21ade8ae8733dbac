"""Hit ratios of the eviction policies, beside redis-server's at the same number of resident keys.

    python -m benchmarks.eviction [--size small] [--rows allkeys-lru] [--json FILE]

The trace is cache-aside: GET, and SET on a miss. Keys are drawn by Zipf's law; a second trace moves the
popularity along, as caches see it. redis-server runs first, held by its maxmemory; kvstore then gets the
limit at which as many keys fit, and a clock that moves at the pace of redis-server's run, so that both
see the same idle times. The figures are hit ratios after the warm-up.
"""

from __future__ import annotations

import bisect
import itertools
import random
import time
from collections.abc import Iterator

from benchmarks.harness import Row, Run, main, row
from benchmarks.instances import Client, running
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.eviction import POLICIES
from kvstore.engine.memory import weigh_key

VALUE = b"v" * 100
TTL_MS = 10_000_000
WARM_UP = 0.4  # share of the requests that is not counted


def zipf(rng: random.Random, keys: int, exponent: float) -> Iterator[int]:
    """Ranks by Zipf's law: 0 is the most popular."""
    weights = itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(keys))
    table = list(weights)
    while True:
        yield bisect.bisect_left(table, rng.random() * table[-1])


def trace(seed: int, requests: int, keys: int, drift: bool) -> list[bytes]:
    """The keys asked for, in order."""
    rng = random.Random(seed)
    names = [b"key:%08d" % n for n in rng.sample(range(10**8), keys)]
    ranks = zipf(rng, keys, 0.9)
    step = keys / requests if drift else 0.0
    return [names[(next(ranks) + int(at * step)) % keys] for at in range(requests)]


def lives(seed: int) -> Iterator[int]:
    """Milliseconds to live, one for each SET."""
    rng = random.Random(seed)
    while True:
        yield TTL_MS + rng.randrange(TTL_MS)


def run_redis(run: Run, policy: str, requests: list[bytes], resident: int) -> tuple[float, int, float]:
    """Hit ratio, mean number of resident keys, seconds."""
    options = {"maxmemory-policy": policy, "maxmemory-samples": "5"}
    with running("redis", run.place("redis"), options) as server:
        client = server.client()
        volatile = policy.startswith("volatile")
        # The limit at which about that many keys fit, by trial: fill, and see what they take.
        before = _used(client)
        for n in range(resident):
            client.ask("SET", b"key:%08d" % n, VALUE, *(("PX", str(TTL_MS)) if volatile else ()))
        limit = _used(client)
        assert limit > before
        client.ask("FLUSHALL")
        client.ask("CONFIG", "SET", "maxmemory", str(limit))
        hits, sizes, ttls = 0, [], lives(7)
        start = int(len(requests) * WARM_UP)
        began = time.monotonic()
        for at, key in enumerate(requests):
            if client.ask("GET", key) is not None:
                hits += at >= start
            else:
                ttl = ("PX", str(next(ttls))) if volatile else ()
                client.ask("SET", key, VALUE, *ttl)
            if at >= start and at % 1000 == 0:
                sizes.append(client.ask("DBSIZE"))
        took = time.monotonic() - began
    return hits / (len(requests) - start), round(sum(sizes) / len(sizes)), took


def _used(client: Client) -> int:
    return int(client.info("memory")["used_memory"])


def run_kvstore(
    policy: str, requests: list[bytes], resident: int, seconds: float
) -> tuple[float, int, float]:
    """As ``run_redis``, in this process."""
    clock = ManualClock(1_700_000_000_000)
    ctx = Context(Database, clock=clock, random=random.Random(1))
    db = ctx.database(0)
    volatile = policy.startswith("volatile")
    db.set(requests[0], VALUE, px=TTL_MS if volatile else None)
    weight = (weigh_key(db, requests[0]) + 15) // 16 * 16
    db.flushall()
    ctx.evictor.configure(maxmemory=weight * resident, policy=policy)
    make_room, get, put = ctx.evictor.make_room, db.get, db.set
    start = int(len(requests) * WARM_UP)
    pace, elapsed = seconds * 1000 / len(requests), 0.0
    hits, sizes, ttls = 0, [], lives(7)
    began = time.monotonic()
    for at, key in enumerate(requests):
        elapsed += pace
        if elapsed >= 1:
            clock.advance(ms=int(elapsed))
            elapsed -= int(elapsed)
        make_room()
        if get(key) is not None:
            hits += at >= start
        else:
            put(key, VALUE, px=next(ttls) if volatile else None)
        if at >= start and at % 1000 == 0:
            sizes.append(len(db._data))
    took = time.monotonic() - began
    return hits / (len(requests) - start), round(sum(sizes) / len(sizes)), took


def measure(run: Run) -> Iterator[Row]:
    if "redis" not in run.kinds:
        return
    count, keys, resident = (
        run.pick(4000, 30_000, 150_000),
        run.pick(4000, 20_000, 20_000),
        run.pick(1500, 2000, 2000),
    )
    for policy in POLICIES[1:]:
        for drift in (False, True):
            if run.wants(policy):
                requests = trace(1, count, keys, drift)
                theirs, held, seconds = run_redis(run, policy, requests, resident)
                ours, kept, _ = run_kvstore(policy, requests, held, seconds)
                name = f"{policy}, {'drifting' if drift else 'fixed'} popularity"
                found = {"kvstore": [ours], "redis": [theirs]}
                yield row(name, "hits", "of all requests", found, keys_redis=held, keys_kvstore=kept)


if __name__ == "__main__":
    main("eviction", measure, __doc__)
