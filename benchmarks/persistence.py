"""Files: kvstore and redis-server in turn, in one run, on the same disk.

    python -m benchmarks.persistence [--keys 1000000] [--requests 60000] [--rounds 3] [--json FILE]
                                     [--sections load,throughput,latency,bound,embedded]

- load: time to load keys of 16 bytes with values of 14 from an RDB file and from a log, and to SAVE them; both
  servers read the same files.
- throughput: redis-benchmark's SET without a log, with everysec, with always.
- latency: of requests at a steady rate, before and during BGSAVE; how long that takes; memory meanwhile.
- bound: how old the oldest unsynced write ever got with everysec (kvstore only).
- embedded: microseconds a ``set()`` of a store in the program.

Medians of the rounds are compared. Only the ratios count: machines are shared and noisy.

Must not know: how files are written.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import kvstore
from benchmarks.instances import (
    KINDS,
    Instance,
    cpu_seconds,
    machine,
    proportional_bytes,
    request,
    running,
)

CLIENTS = 50
# Names of the rows of throughput, and the directives of each.
LOGS = {
    "none": {"appendonly": "no"},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "always": {"appendonly": "yes", "appendfsync": "always"},
}
# Rewrites are not what is measured.
STEADY = {"auto-aof-rewrite-percentage": "0"}
RATE = 2000  # requests a second whose latency is measured
CONNECTIONS = 20
QUIET_SECONDS = 2.0  # before the snapshot

Row = dict[str, Any]


def key(number: int) -> bytes:
    return b"key:%012d" % number


def value(number: int) -> bytes:
    return b"value:%08d" % number


# -- load and save -------------------------------------------------------------------------------------


def write_log(directory: Path, keys: int) -> None:
    """A log of one increment with a SET for each key, as either server would have it."""
    log = directory / "appendonlydir"
    log.mkdir(parents=True)
    with open(log / "appendonly.aof.1.incr.aof", "wb", 1 << 20) as file:
        file.write(request("SELECT", "0"))
        for number in range(keys):
            file.write(b"*3\r\n$3\r\nSET\r\n$16\r\n%s\r\n$14\r\n%s\r\n" % (key(number), value(number)))
    (log / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")


def make_snapshot(directory: Path, keys: int) -> Path:
    """An RDB file of redis-server's with all keys."""
    source = directory / "source"
    write_log(source, keys)
    with running("redis", source, {"appendonly": "yes", **STEADY}) as server:
        client = server.client()
        if client.ask("DBSIZE") != keys or client.ask("SAVE") != b"OK":
            raise RuntimeError("redis-server has not saved the keys")
    return source / "dump.rdb"


def load(directory: Path, snapshot: Path, keys: int, rounds: int, kinds: list[str]) -> list[Row]:
    samples: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in kinds} for name in ("load_rdb", "load_aof", "save")
    }
    for kind in kinds:
        write_log(directory / f"{kind}-aof", keys)
    for number in range(rounds):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            place = directory / f"{kind}-rdb"
            place.mkdir(exist_ok=True)
            shutil.copy(snapshot, place / "dump.rdb")
            with running(kind, place, {}) as server:
                samples["load_rdb"][kind].append(server.seconds_of("DB loaded from disk"))
                samples["save"][kind].append(_timed_save(server, keys))
            with running(kind, directory / f"{kind}-aof", {"appendonly": "yes", **STEADY}) as server:
                samples["load_aof"][kind].append(server.seconds_of("DB loaded from append only file"))
    rows = []
    for name, found in samples.items():
        row: Row = {"test": name, "keys": keys}
        row |= {f"{kind}_s": round(statistics.median(times), 3) for kind, times in found.items()}
        rows.append(_with_ratio(row, "s"))
    return rows


def _timed_save(server: Instance, keys: int) -> float:
    client = server.client()
    if client.ask("DBSIZE") != keys:
        raise RuntimeError(f"{server.kind} has not loaded all keys")
    began = time.perf_counter()
    if client.ask("SAVE") != b"OK":
        raise RuntimeError(f"{server.kind} did not save")
    return time.perf_counter() - began


def _with_ratio(row: Row, unit: str) -> Row:
    """With how ours compares, where both were measured."""
    if f"kvstore_{unit}" in row and f"redis_{unit}" in row:
        row["ratio"] = round(row[f"kvstore_{unit}"] / max(row[f"redis_{unit}"], 1e-9), 3)
    return row


# -- throughput ----------------------------------------------------------------------------------------


def throughput(directory: Path, requests: int, rounds: int, kinds: list[str]) -> list[Row]:
    rows: list[Row] = []
    with ExitStack() as stack:
        servers = {
            (kind, name): stack.enter_context(
                running(kind, directory / f"{kind}-{name}", {**options, **STEADY})
            )
            for kind in kinds
            for name, options in LOGS.items()
        }
        for depth in (1, 16):
            rates: dict[tuple[str, str], list[float]] = {place: [] for place in servers}
            used: dict[tuple[str, str], list[float]] = {place: [] for place in servers}
            for number in range(rounds + 1):
                for place in servers:
                    rate, cpu = _set_rate(servers[place], requests, depth)
                    if number:  # the first round only warms up
                        rates[place].append(rate)
                        used[place].append(cpu)
            rows += _throughput_rows(rates, used, depth, kinds)
    return rows


def _set_rate(server: Instance, requests: int, depth: int) -> tuple[float, float]:
    """SETs a second, and microseconds of the server's CPU for each."""
    requests *= 1 if depth == 1 else 4
    command = ["redis-benchmark", "-s", server.path, "-t", "set", "-c", str(CLIENTS), "-n", str(requests)]
    command += ["-P", str(depth), "-r", "10000", "-d", "14", "--csv"]
    before = cpu_seconds(server.pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    cpu = (cpu_seconds(server.pid) - before) / requests * 1e6
    return float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"')), cpu


def _throughput_rows(
    rates: dict[tuple[str, str], list[float]],
    used: dict[tuple[str, str], list[float]],
    depth: int,
    kinds: list[str],
) -> Iterator[Row]:
    for name in LOGS:
        row: Row = {"test": f"set_{name}", "depth": depth}
        for kind in kinds:
            row[f"{kind}_rps"] = round(statistics.median(rates[kind, name]))
            row[f"{kind}_cpu_us"] = round(statistics.median(used[kind, name]), 2)
            # Each round against the same round without a log, as the machine's mood changes between rounds.
            shares = [mine / base for mine, base in zip(rates[kind, name], rates[kind, "none"], strict=True)]
            row[f"{kind}_of_no_log"] = round(statistics.median(shares), 3)
        yield _with_ratio(row, "rps")


# -- latency during a snapshot ----------------------------------------------------------------------------


class Load:
    """Requests at a steady rate, half GET and half SET, on several connections; when each was answered.

    The latency of a request counts from when it was due, so that what waits behind a stall counts too.
    """

    def __init__(self, server: Instance, keys: int):
        self._clients = [server.client() for _ in range(CONNECTIONS)]
        self._keys = keys
        self.found: list[tuple[float, float]] = []  # (when it was due, seconds to its reply)

    def run(self, until: Callable[[float], bool]) -> None:
        """Go on until told, with the time."""
        sockets = [client.socket for client in self._clients]
        waiting: dict[int, deque[float]] = {id(each): deque() for each in sockets}
        for each in sockets:
            each.setblocking(False)
        clock, found, number = time.perf_counter, self.found, 0
        due = clock()
        while not until(due):
            # select() waits for microseconds, epoll and poll for whole milliseconds.
            for ready in select.select(sockets, (), (), max(0.0, due - clock()))[0]:
                data = ready.recv(65536)
                now, queue = clock(), waiting[id(ready)]
                for _ in range(data.count(b"value:") + data.count(b"+OK")):
                    began = queue.popleft()
                    found.append((began, now - began))
            if clock() >= due:
                chosen = key(number * 7919 % self._keys)
                words = ("GET", chosen) if number & 1 else ("SET", chosen, value(number))
                to = sockets[number % CONNECTIONS]
                to.send(request(*words))
                waiting[id(to)].append(due)
                number += 1
                due += 1 / RATE

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Watch:
    """In a thread: begins a snapshot after a quiet while, and sees when it ends; the peak of memory, if asked."""

    def __init__(self, server: Instance, memory: bool, quiet: float):
        self._server = server
        self._quiet = quiet
        self._memory = memory
        self.began = self.ended = 0.0
        self.before = self.peak = 0
        self.done = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()

    def _run(self) -> None:
        client = self._server.client()
        time.sleep(self._quiet)
        if self._memory:
            self.before = self.peak = proportional_bytes(self._server.pid)
        self.began = time.perf_counter()
        reply = client.ask("BGSAVE")
        if isinstance(reply, Exception):
            raise reply
        deadline = self.began + 120
        while True:
            time.sleep(0.03)
            if self._memory:
                self.peak = max(self.peak, proportional_bytes(self._server.pid))
            info = client.info("persistence")
            if info["rdb_bgsave_in_progress"] == "0":
                break
            if time.perf_counter() > deadline:
                raise TimeoutError("the snapshot does not end")
        self.ended = time.perf_counter()
        if info["rdb_last_bgsave_status"] != "ok":
            raise RuntimeError("the snapshot failed")
        client.close()
        time.sleep(0.3)


def _watched(server: Instance, keys: int, memory: bool) -> tuple[Load, Watch]:
    quiet = min(QUIET_SECONDS, 0.3 + keys / 100_000)
    load_, watch = Load(server, keys), Watch(server, memory, quiet)
    thread = threading.Thread(target=watch.run, daemon=True)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        thread.start()
        load_.run(lambda now: watch.done.is_set())
    finally:
        gc.enable()
        gc.unfreeze()
        load_.close()
    thread.join(10)
    if watch.error is not None:
        raise watch.error
    return load_, watch


def _percentiles(found: list[float]) -> Row:
    ordered = sorted(found)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)

    return {"p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1)}


def latency(directory: Path, snapshot: Path, keys: int, rounds: int, kinds: list[str]) -> list[Row]:
    """One row a server and phase."""
    phases: dict[tuple[str, str], list[Row]] = {}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    memory: dict[str, tuple[int, int]] = {}
    for number in range(rounds):
        for kind in kinds if number % 2 == 0 else kinds[::-1]:
            place = directory / f"{kind}-latency"
            place.mkdir(exist_ok=True)
            shutil.copy(snapshot, place / "dump.rdb")
            with running(kind, place, {}) as server:
                found, watch = _watched(server, keys, memory=False)
                seconds[kind].append(watch.ended - watch.began)
                quiet = [took for due, took in found.found if due < watch.began]
                during = [took for due, took in found.found if watch.began - 0.005 <= due <= watch.ended]
                phases.setdefault((kind, "quiet"), []).append(_percentiles(quiet))
                phases.setdefault((kind, "snapshot"), []).append(_percentiles(during))
    for kind in kinds:
        # Sampling disturbs, so it has a run of its own; in a process of its own, as what the first snapshot has
        # used is there for the second.
        with running(kind, directory / f"{kind}-latency", {}) as server:
            _, watch = _watched(server, keys, memory=True)
            memory[kind] = watch.before, watch.peak
    rows = []
    for (kind, phase), found_rows in phases.items():
        row: Row = {"test": f"latency_{phase}", "server": kind, "keys": keys, "rate": RATE}
        row |= {
            name: round(statistics.median(each[name] for each in found_rows), 2) for name in found_rows[0]
        }
        if phase == "snapshot":
            before, peak = memory[kind]
            row |= {
                "seconds": round(statistics.median(seconds[kind]), 2),
                "memory_before_mb": round(before / 1e6, 1),
                "memory_peak_mb": round(peak / 1e6, 1),
                "memory_ratio": round(peak / before, 3),
            }
        rows.append(row)
    return rows


# -- the bound of everysec ---------------------------------------------------------------------------------


def serve_and_record() -> None:
    """``kvstore serve`` whose log files note, in a file given by the environment, when they were written and
    synced. Run in a process of its own."""
    from kvstore.cli import main
    from kvstore.persist import fs

    notes: list[tuple[str, float, float]] = []
    clock, write, sync = time.perf_counter, fs.OsFile.write, fs.OsFile.sync

    def noted_write(self: fs.OsFile, data: fs.Data) -> int:
        written = write(self, data)
        if self.path.endswith(".incr.aof"):
            now = clock()
            notes.append(("write", now, now))
        return written

    def noted_sync(self: fs.OsFile) -> None:
        began = clock()
        sync(self)
        if self.path.endswith(".incr.aof"):
            notes.append(("sync", began, clock()))

    fs.OsFile.write = noted_write  # type: ignore[method-assign]
    fs.OsFile.sync = noted_sync  # type: ignore[method-assign]
    try:
        main(sys.argv[1:])
    finally:
        Path(os.environ["KVSTORE_BENCH_NOTES"]).write_text(json.dumps(notes))


def oldest_unsynced(notes: list[tuple[str, float, float]]) -> tuple[float, float]:
    """(the largest age that a written and unsynced byte reached, the longest sync), in seconds."""
    writes = [at for kind, at, _ in notes if kind == "write"]
    oldest = longest = 0.0
    index = 0
    for began, ended in sorted((began, ended) for kind, began, ended in notes if kind == "sync"):
        longest = max(longest, ended - began)
        if index < len(writes) and writes[index] <= began:
            oldest = max(oldest, ended - writes[index])
        while index < len(writes) and writes[index] <= began:
            index += 1
    return oldest, longest


def bound(directory: Path, seconds: float) -> list[Row]:
    place = directory / "bound"
    notes = directory / "notes.json"
    os.environ["KVSTORE_BENCH_NOTES"] = str(notes)
    code = "from benchmarks.persistence import serve_and_record as main; main()"
    command = [sys.executable, "-c", code, "serve", "--unix", str(place / "s")]
    options = {**LOGS["everysec"], **STEADY}
    with running("kvstore", place, options, command) as server:
        rate = 0.0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rate, _ = _set_rate(server, 30_000, 1)
    oldest, longest = oldest_unsynced(json.loads(notes.read_text()))
    return [
        {
            "test": "everysec_bound",
            "oldest_unsynced_s": round(oldest, 3),
            "longest_sync_s": round(longest, 3),
            "beyond_one_second_and_the_sync_s": round(max(0.0, oldest - 1 - longest), 3),
            "rps": round(rate),
        }
    ]


# -- embedded ------------------------------------------------------------------------------------------


@contextmanager
def _opened(directory: Path, policy: str) -> Iterator[Any]:
    if policy == "memory":
        yield kvstore.open()
        return
    with kvstore.open(directory / f"embedded-{policy}", fsync=policy) as store:
        yield store


def embedded(directory: Path, calls: int, rounds: int) -> list[Row]:
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        stores = {
            policy: stack.enter_context(_opened(directory, policy))
            for policy in ("memory", "no", "everysec", "always")
        }
        names = [f"key:{number:012d}" for number in range(10_000)]
        for _ in range(rounds):
            for policy, store in stores.items():
                count = calls if policy != "always" else max(calls // 50, 100)
                began = time.perf_counter()
                for number in range(count):
                    store.set(names[number % 10_000], b"value:12345678")
                samples.setdefault(policy, []).append((time.perf_counter() - began) / count)
    return [
        {"test": f"embedded_set_{policy}", "us": round(statistics.median(found) * 1e6, 2)}
        for policy, found in samples.items()
    ]


# -- all of it --------------------------------------------------------------------------------------------

SECTIONS = ("load", "throughput", "latency", "bound", "embedded")


def measure(
    sections: list[str], keys: int, requests: int, rounds: int, kinds: list[str], directory: Path
) -> Iterator[Row]:
    """The rows of each section, as they come."""
    snapshot = make_snapshot(directory, keys) if {"load", "latency"} & set(sections) else Path()
    for section in sections:
        place = directory / section
        place.mkdir()
        if section == "load":
            yield from load(place, snapshot, keys, rounds, kinds)
        elif section == "throughput":
            yield from throughput(place, requests, rounds, kinds)
        elif section == "latency":
            yield from latency(place, snapshot, keys, rounds, kinds)
        elif section == "bound" and "kvstore" in kinds:
            yield from bound(place, min(10.0, requests / 5000))
        elif section == "embedded" and "kvstore" in kinds:
            yield from embedded(place, requests, rounds)
        shutil.rmtree(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--servers", default=",".join(KINDS))
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kvstore-files-", dir=options.directory))
    rows: list[Row] = []
    try:
        sections, kinds = options.sections.split(","), options.servers.split(",")
        for row in measure(sections, options.keys, options.requests, options.rounds, kinds, directory):
            rows.append(row)
            print("  ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
