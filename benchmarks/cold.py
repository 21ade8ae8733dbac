"""Memory of many small values that nobody uses, beside redis-server, and what packing and unpacking them costs.

    python -m benchmarks.cold [--keys 100000] [--after 60] [--rounds 1] [--json FILE]

Each row is a new server that is filled by pipelines with hashes, sets, sorted sets or lists of ten short elements,
and then left alone for ``pack-cold-after`` seconds. Printed: bytes a key, by the growth of the resident memory, of
redis-server and of kvstore before and after packing, the ratio; CPU of packing one value, of reading one that is
packed (which unpacks it), and of reading it again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.instances import Client, Instance, cpu_seconds, machine, proportional_bytes, request, running

_BATCH = 500
# Seconds that packing may take longer than it should, before the benchmark gives up on it.
_PATIENCE = 120


def _words(kind: str, number: int) -> list[bytes]:
    """The command that makes a value of ten elements."""
    key = b"%b:%012d" % (kind.encode(), number)
    ten = range(10)
    if kind == "hash":
        return [
            b"HSET",
            key,
            *(word for at in ten for word in (b"field:%d" % at, b"value:%d" % (number + at))),
        ]
    if kind == "zset":
        return [b"ZADD", key, *(word for at in ten for word in (b"%d" % (at * 10), b"m:%d" % (number + at)))]
    if kind == "intset":
        return [b"SADD", key, *(b"%d" % (number + at) for at in ten)]
    return [b"SADD" if kind == "set" else b"RPUSH", key, *(b"m:%d" % (number + at) for at in ten)]


_LOOKUPS: dict[str, Callable[[bytes], bytes]] = {
    "hash": lambda key: request(b"HLEN", key),
    "set": lambda key: request(b"SCARD", key),
    "intset": lambda key: request(b"SCARD", key),
    "zset": lambda key: request(b"ZCARD", key),
    "list": lambda key: request(b"LLEN", key),
}


def _fill(client: Client, kind: str, keys: int) -> None:
    for start in range(0, keys, _BATCH):
        count = min(_BATCH, keys - start)
        client.pipeline(b"".join(request(*_words(kind, start + at)) for at in range(count)), count)


def _read(instance: Instance, client: Client, kind: str, keys: int) -> float:
    """Seconds of the server's CPU for one lookup of a key, all keys in turn."""
    before = cpu_seconds(instance.pid)
    for start in range(0, keys, _BATCH):
        count = min(_BATCH, keys - start)
        lookups = [_LOOKUPS[kind](_words(kind, start + at)[1]) for at in range(count)]
        client.pipeline(b"".join(lookups), count)
    return (cpu_seconds(instance.pid) - before) / keys


def _wait_packed(client: Client, keys: int, after: int) -> float:
    """Seconds until all are packed."""
    began = time.monotonic()
    while time.monotonic() - began < after + _PATIENCE:
        if int(client.info("stats")["total_packed_values"]) >= keys:
            break
        time.sleep(0.5)
    took = time.monotonic() - began
    time.sleep(5)  # in which what was packed is freed
    return took


def measure_one(server: str, kind: str, keys: int, after: int, directory: Path) -> dict[str, float]:
    """Figures of one server that holds values of one kind."""
    options = {"pack-cold-after": str(after)} if server == "kvstore" else {}
    with running(server, directory, options) as instance:
        client = instance.client()
        base = proportional_bytes(instance.pid)
        _fill(client, kind, keys)
        found = {"bytes": (proportional_bytes(instance.pid) - base) / keys}
        if server == "kvstore":
            cpu = cpu_seconds(instance.pid)
            found["seconds_until_packed"] = _wait_packed(client, keys, after)
            found["pack_us"] = (cpu_seconds(instance.pid) - cpu) / keys * 1e6
            found["packed_bytes"] = (proportional_bytes(instance.pid) - base) / keys
            found["first_read_us"] = _read(instance, client, kind, keys) * 1e6
            found["next_read_us"] = _read(instance, client, kind, keys) * 1e6
        client.close()
        return found


def measure(keys: int, after: int, rounds: int, directory: Path) -> Iterator[dict[str, Any]]:
    """A row for each kind of value: medians of the rounds."""
    for kind in _LOOKUPS:
        taken: list[dict[str, float]] = []
        for number in range(rounds):
            theirs = measure_one("redis", kind, keys, after, directory / f"redis-{kind}-{number}")
            ours = measure_one("kvstore", kind, keys, after, directory / f"kvstore-{kind}-{number}")
            taken.append({"redis_bytes": theirs["bytes"], **ours})
        row = {name: statistics.median(each[name] for each in taken) for name in taken[0]}
        yield {"test": f"cold_{kind}", **row, "ratio": row["packed_bytes"] / row["redis_bytes"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--after", type=int, default=60, help="seconds (pack-cold-after)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"{args.keys} values of ten elements each; bytes a key")
    print(
        f"{'':12} {'redis':>7} {'kvstore':>8} {'packed':>7} {'ratio':>6} {'until':>6} {'CPU µs: pack':>13} read again"
    )
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for row in measure(args.keys, args.after, args.rounds, Path(directory)):
            rows.append(row)
            print(
                f"{row['test']:12} {row['redis_bytes']:7.0f} {row['bytes']:8.0f} {row['packed_bytes']:7.0f} "
                f"{row['ratio']:6.2f} {row['seconds_until_packed']:5.0f}s {row['pack_us']:13.1f} "
                f"{row['first_read_us']:4.1f} {row['next_read_us']:5.1f}",
                flush=True,
            )
    if args.json:
        args.json.write_text(
            json.dumps({"machine": machine(), "keys": args.keys, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
