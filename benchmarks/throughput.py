"""Throughput and server CPU a command: kvstore and redis-server in turn, in one run.

    python -m benchmarks.throughput [--requests 50000] [--rounds 3] [--tests get,set] [--json FILE]

Each row is run on both servers in every round; the medians are compared. Only the ratios count: machines
are shared and noisy. CPU is user and system time of the server's process, from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Name of the row, arguments of redis-benchmark.
ROWS: dict[str, list[str]] = {
    "get": ["-t", "get"],
    "set": ["-t", "set"],
    "incr": ["-t", "incr"],
    "lpush": ["-t", "lpush"],
    "rpop": ["-t", "rpop"],
    "sadd": ["-t", "sadd"],
    "hset": ["-t", "hset"],
    "spop": ["-t", "spop"],
    "zadd": ["-t", "zadd"],
    "zpopmin": ["-t", "zpopmin"],
    "lrange_100": ["-t", "lrange_100"],
    "mset": ["-t", "mset"],
}
DEPTHS = (1, 16)
CLIENTS = 50
KEYSPACE = 10_000
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@contextmanager
def server(command: list[str], path: str) -> Iterator[int]:
    """A server on a Unix socket, until the block ends; its pid."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not os.path.exists(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.05)
        time.sleep(0.3)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def measure(pid: int, path: str, arguments: list[str], depth: int, requests: int) -> tuple[float, float]:
    """Requests a second, and microseconds of the server's CPU a request."""
    command = ["redis-benchmark", "-s", path, "-c", str(CLIENTS), "-n", str(requests), "-P", str(depth)]
    command += ["-r", str(KEYSPACE), "-q", "--csv", *arguments]
    before, started = cpu_seconds(pid), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    elapsed, used = time.perf_counter() - started, cpu_seconds(pid) - before
    last = done.stdout.strip().splitlines()[-1].split(",")
    try:
        rate = float(last[1].strip('"'))
    except (IndexError, ValueError):
        rate = requests / elapsed
    return rate, used / requests * 1e6


def compare(tests: list[str], requests: int, rounds: int) -> list[dict[str, float | str | int]]:
    """The rows, each measured on both servers in turn."""
    directory = tempfile.mkdtemp(prefix="kvstore-bench-")
    ours, theirs = f"{directory}/kvstore.sock", f"{directory}/redis.sock"
    quiet = ["--port", "0", "--save", "", "--dir", directory]
    rows: list[dict[str, float | str | int]] = []
    try:
        with (
            server([sys.executable, "-m", "kvstore", "serve", "--unix", ours, *quiet], ours) as our_pid,
            server(["redis-server", "--unixsocket", theirs, *quiet], theirs) as their_pid,
        ):
            for depth in DEPTHS:
                for test in tests:
                    row = _row(
                        test,
                        depth,
                        requests * depth // 4 if depth > 4 else requests,
                        rounds,
                        (our_pid, ours),
                        (their_pid, theirs),
                    )
                    rows.append(row)
                    print(_line(row), flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return rows


def _row(
    test: str, depth: int, requests: int, rounds: int, ours: tuple[int, str], theirs: tuple[int, str]
) -> dict[str, float | str | int]:
    samples: dict[str, list[tuple[float, float]]] = {"kvstore": [], "redis": []}
    for _ in range(rounds):
        for name, (pid, path) in (("kvstore", ours), ("redis", theirs)):
            if test in ("rpop", "spop", "zpopmin"):  # something must be there to pop
                filler = {"rpop": "lpush", "spop": "sadd", "zpopmin": "zadd"}[test]
                measure(pid, path, ROWS[filler], 16, KEYSPACE)
            samples[name].append(measure(pid, path, ROWS[test], depth, requests))
    rate = {name: statistics.median(sample[0] for sample in found) for name, found in samples.items()}
    cpu = {name: statistics.median(sample[1] for sample in found) for name, found in samples.items()}
    return {
        "test": test,
        "depth": depth,
        "requests": requests,
        "kvstore_rps": round(rate["kvstore"]),
        "redis_rps": round(rate["redis"]),
        "throughput_ratio": round(rate["kvstore"] / rate["redis"], 3),
        "kvstore_cpu_us": round(cpu["kvstore"], 2),
        "redis_cpu_us": round(cpu["redis"], 2),
        "cpu_ratio": round(cpu["kvstore"] / max(cpu["redis"], 1e-9), 2),
    }


def _line(row: dict[str, float | str | int]) -> str:
    return (
        f"{row['test']:>11} depth {row['depth']:>2}: throughput {row['throughput_ratio']:>5} of redis-server, "
        f"CPU {row['kvstore_cpu_us']:>6} / {row['redis_cpu_us']:>5} µs = {row['cpu_ratio']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tests", default=",".join(ROWS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = compare(options.tests.split(","), options.requests, options.rounds)
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
