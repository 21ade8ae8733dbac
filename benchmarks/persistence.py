"""Files: kvstore and redis-server in turn, in one run, on the same disk.

    python -m benchmarks.persistence [--size small] [--rounds 3] [--rows load,throughput,latency,bound,embedded] [--json FILE]

- load: time to load keys of 16 bytes with values of 14 from an RDB file and from a log, and to SAVE them; both
  servers read the same files.
- throughput: redis-benchmark's SET without a log, with everysec, with always.
- latency: of requests at a steady rate, before and during BGSAVE; how long that takes; memory meanwhile.
- bound: how old the oldest unsynced write ever got with everysec (kvstore only).
- embedded: microseconds a ``set()`` of a store in the program.

Must not know: how files are written.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import kvstore
from benchmarks.harness import Row, Run, Samples, main, row, turns
from benchmarks.instances import Instance, proportional_bytes, request, running
from benchmarks.load import redis_benchmark, uncollected

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


def keys_of(run: Run) -> int:
    return run.pick(2000, 100_000, 1_000_000)


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


def load(run: Run) -> Iterator[Row]:
    keys, directory, samples = keys_of(run), run.place("load"), Samples()
    snapshot = make_snapshot(directory, keys)
    for kind in run.kinds:
        write_log(directory / f"{kind}-aof", keys)
    for kind in turns(run.rounds, run.kinds):
        place = directory / f"{kind}-rdb"
        place.mkdir(exist_ok=True)
        shutil.copy(snapshot, place / "dump.rdb")
        with running(kind, place, {}) as server:
            samples.add(kind, rdb=server.seconds_of("DB loaded from disk"), save=_timed_save(server, keys))
        with running(kind, directory / f"{kind}-aof", {"appendonly": "yes", **STEADY}) as server:
            samples.add(kind, aof=server.seconds_of("DB loaded from append only file"))
    shutil.rmtree(directory)
    for figure, name in {"rdb": "load an RDB file", "aof": "load a log", "save": "save an RDB file"}.items():
        yield row(f"{name}, {keys:,} keys", "time", "s", samples[figure], "files", keys=keys)


def _timed_save(server: Instance, keys: int) -> float:
    client = server.client()
    if client.ask("DBSIZE") != keys:
        raise RuntimeError(f"{server.kind} has not loaded all keys")
    began = time.perf_counter()
    if client.ask("SAVE") != b"OK":
        raise RuntimeError(f"{server.kind} did not save")
    return time.perf_counter() - began


# -- throughput ----------------------------------------------------------------------------------------


def throughput(run: Run) -> Iterator[Row]:
    directory, requests = run.place("throughput"), run.pick(200, 10_000, 60_000)
    with ExitStack() as stack:
        servers = {
            (kind, name): stack.enter_context(
                running(kind, directory / f"{kind}-{name}", {**options, **STEADY})
            )
            for kind in run.kinds
            for name, options in LOGS.items()
        }
        for depth in (1, 16):
            samples = {name: Samples() for name in LOGS}
            for server in servers.values():  # the first time only warms up
                set_rate(server, requests, depth)
            for kind, name in turns(run.rounds, list(servers)):
                rate, cpu = set_rate(servers[kind, name], requests, depth)
                samples[name].add(kind, rate=rate, cpu=cpu)
            for name in LOGS:
                test = f"SET, log {name}, depth {depth}"
                yield row(test, "throughput", "requests/s", samples[name]["rate"], requests=requests)
                yield row(test, "CPU", "µs a request", samples[name]["cpu"], requests=requests)
                # Each round against the same round without a log, as the machine's mood changes between rounds.
                shares = {
                    kind: [
                        mine / base for mine, base in zip(found, samples["none"]["rate"][kind], strict=True)
                    ]
                    for kind, found in samples[name]["rate"].items()
                }
                yield row(test, "share of the throughput without a log", "times", shares)


def set_rate(server: Instance, requests: int, depth: int) -> tuple[float, float]:
    """SETs a second, and microseconds of the server's CPU for each."""
    return redis_benchmark(server, ["-t", "set", "-d", "14"], requests * (1 if depth == 1 else 4), depth)


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
    with uncollected():
        try:
            thread.start()
            load_.run(lambda now: watch.done.is_set())
        finally:
            load_.close()
    thread.join(10)
    if watch.error is not None:
        raise watch.error
    return load_, watch


def _percentiles(found: list[float]) -> dict[str, float]:
    ordered = sorted(found)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    return {"median": at(0.5), "99th percentile": at(0.99), "99.9th percentile": at(0.999), "maximum": at(1)}


def latency(run: Run) -> Iterator[Row]:
    directory, keys = run.place("latency"), keys_of(run)
    snapshot = make_snapshot(directory, keys)
    phases = {"quiet": Samples(), "during BGSAVE": Samples()}
    took = Samples()
    for kind in turns(run.rounds, run.kinds):
        place = directory / f"{kind}-latency"
        place.mkdir(exist_ok=True)
        shutil.copy(snapshot, place / "dump.rdb")
        with running(kind, place, {}) as server:
            found, watch = _watched(server, keys, memory=False)
            took.add(kind, seconds=watch.ended - watch.began)
            quiet = [each for due, each in found.found if due < watch.began]
            during = [each for due, each in found.found if watch.began - 0.005 <= due <= watch.ended]
            phases["quiet"].add(kind, **_percentiles(quiet))
            phases["during BGSAVE"].add(kind, **_percentiles(during))
    for kind in run.kinds:
        # Sampling disturbs, so it has a run of its own; in a process of its own, as what the first snapshot has
        # used is there for the second.
        with running(kind, directory / f"{kind}-latency", {}) as server:
            _, watch = _watched(server, keys, memory=True)
            took.add(kind, memory=watch.peak / watch.before)
    shutil.rmtree(directory)
    for phase, samples in phases.items():
        for figure, each in samples.found.items():
            yield row(f"latency {phase}", figure, "ms", each, keys=keys, rate=RATE)
    yield row("BGSAVE under load", "time", "s", took["seconds"], keys=keys)
    yield row("BGSAVE under load", "peak of memory to what it was", "times", took["memory"], keys=keys)


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


def bound(run: Run) -> Iterator[Row]:
    place = run.place("bound")
    notes = place / "notes.json"
    os.environ["KVSTORE_BENCH_NOTES"] = str(notes)
    code = "from benchmarks.persistence import serve_and_record as main; main()"
    command = [sys.executable, "-c", code, "serve", "--unix", str(place / "s")]
    options = {**LOGS["everysec"], **STEADY}
    with running("kvstore", place, options, command) as server:
        deadline = time.monotonic() + run.pick(0.1, 3.0, 10.0)
        while time.monotonic() < deadline:
            set_rate(server, 30_000, 1)
    oldest, longest = oldest_unsynced(json.loads(notes.read_text()))
    beyond = max(0.0, oldest - 1 - longest)
    for figure, seconds in {
        "age of the oldest unsynced write": oldest,
        "longest sync": longest,
        "age beyond one second and the longest sync": beyond,
    }.items():
        yield row("appendfsync everysec", figure, "s", {"kvstore": [seconds]}, against=None)


# -- embedded ------------------------------------------------------------------------------------------


@contextmanager
def _opened(directory: Path, policy: str) -> Iterator[Any]:
    if policy == "memory":
        yield kvstore.open()
        return
    with kvstore.open(directory / f"embedded-{policy}", fsync=policy) as store:
        yield store


def embedded(run: Run) -> Iterator[Row]:
    directory, calls, samples = run.place("embedded"), run.pick(500, 10_000, 60_000), Samples()
    with ExitStack() as stack:
        stores = {
            policy: stack.enter_context(_opened(directory, policy))
            for policy in ("memory", "no", "everysec", "always")
        }
        names = [f"key:{number:012d}" for number in range(10_000)]
        for policy in turns(run.rounds, list(stores)):
            put = stores[policy].set
            count = calls if policy != "always" else max(calls // 50, 100)
            began = time.perf_counter()
            for number in range(count):
                put(names[number % 10_000], b"value:12345678")
            samples.add(policy, us=(time.perf_counter() - began) / count * 1e6)
    found = samples["us"]
    for policy in ("no", "everysec", "always"):
        both = {"kvstore": found[policy], "memory": found["memory"]}
        yield row(f"embedded set(), fsync {policy}", "time", "µs", both, against="memory")


# -- all of it --------------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[Run], Iterator[Row]]] = {
    "load": load,
    "throughput": throughput,
    "latency": latency,
    "bound": bound,
    "embedded": embedded,
}


def measure(run: Run) -> Iterator[Row]:
    """The rows of each section, as they come."""
    for name, section in SECTIONS.items():
        if run.wants(name):
            yield from section(run)


if __name__ == "__main__":
    main("persistence", measure, __doc__)
