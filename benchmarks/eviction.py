"""Hit ratios of the eviction policies, beside redis-server's at the same number of resident keys.

    python -m benchmarks.eviction [--requests 150000] [--keys 20000] [--policy allkeys-lru]

The trace is cache-aside: GET, and SET on a miss. Keys are drawn by Zipf's law; a second trace moves the
popularity along, as caches see it. redis-server runs first, held by its maxmemory; kvstore then gets the
limit at which as many keys fit, and a clock that moves at the pace of redis-server's run, so that both
see the same idle times. Printed: hit ratios after the warm-up, and their quotient.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.eviction import POLICIES
from kvstore.engine.memory import weigh_key
from tests import servers
from tests.rawclient import encode, parse

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


def run_redis(policy: str, requests: list[bytes], resident: int) -> tuple[float, int, float]:
    """Hit ratio, mean number of resident keys, seconds."""
    options = {"maxmemory-policy": policy, "maxmemory-samples": "5"}
    with servers.running("redis", options=options) as server, server.client() as client:
        volatile = policy.startswith("volatile")
        # The limit at which about that many keys fit, by trial: fill, and see what they take.
        before = _used(client)
        for n in range(resident):
            client.call("SET", b"key:%08d" % n, VALUE, *(("PX", TTL_MS) if volatile else ()))
        limit = _used(client)
        assert limit > before
        client.call("FLUSHALL")
        client.call("CONFIG", "SET", "maxmemory", limit)
        hits, sizes, ttls = 0, [], lives(7)
        start = int(len(requests) * WARM_UP)
        began = time.monotonic()
        for at, key in enumerate(requests):
            client.sock.sendall(encode("GET", key))
            if client.read_reply_bytes()[:2] != b"$-":
                hits += at >= start
            else:
                ttl = ("PX", next(ttls)) if volatile else ()
                client.call("SET", key, VALUE, *ttl)
            if at >= start and at % 1000 == 0:
                sizes.append(int(parse(client.call("DBSIZE")).text))
        took = time.monotonic() - began
    return hits / (len(requests) - start), round(sum(sizes) / len(sizes)), took


def _used(client) -> int:  # type: ignore[no-untyped-def]
    info = parse(client.call("INFO", "memory")).text.decode()
    return int(info.split("used_memory:")[1].split()[0])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=150_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--resident", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", choices=POLICIES[1:], action="append")
    args = parser.parse_args()
    print(f"{args.requests} requests over {args.keys} keys, about {args.resident} of them resident")
    print(f"{'policy':16} {'trace':8} {'redis':>7} {'kvstore':>8} {'quotient':>9} {'keys':>11}")
    for policy in args.policy or POLICIES[1:]:
        for drift in (False, True):
            requests = trace(args.seed, args.requests, args.keys, drift)
            theirs, resident, seconds = run_redis(policy, requests, args.resident)
            ours, kept, took = run_kvstore(policy, requests, resident, seconds)
            name = "drifting" if drift else "fixed"
            print(
                f"{policy:16} {name:8} {theirs:7.4f} {ours:8.4f} {ours / theirs:9.3f} {resident:5}/{kept:5}"
                f"   redis {seconds:.1f} s, kvstore {took:.1f} s in process",
                flush=True,
            )


if __name__ == "__main__":
    main()
