"""The fake client beside fakeredis, and beside two floors: the library on a stub connection that answers a
constant (nothing can be faster through redis-py), and on a real redis-server over a Unix socket.

    pip install fakeredis && python -m benchmarks.fake [--size small] [--json benchmarks/results/fake.json]

Times are microseconds of CPU of this process for each call, the best of several rounds in which all take their turn;
for the real server they are of the clock. The ratio is that to fakeredis; only the ratios count.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks.harness import Row, Run, main, row
from benchmarks.instances import running
from kvstore.fake import FakeRedis

Call = Callable[[Any], object]


class Stub(redis.Connection):
    """Answers a constant."""

    answer: Any = b"OK"

    def connect(self) -> None:
        self._sock: Any = self

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        self._sock = None

    def can_read(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        pass

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        pass

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        return Stub.answer


def stub() -> redis.Redis:
    client = redis.Redis()
    client.connection_pool.connection_class = Stub
    return client


def push_and_pop(client: Any) -> None:
    client.lpush("list", "v")
    client.rpop("list")


def pipeline(client: Any) -> None:
    with client.pipeline(transaction=False) as pipe:
        for _ in range(100):
            pipe.set("k", "v")
        pipe.execute()


def transaction(client: Any) -> None:
    with client.pipeline() as pipe:
        for _ in range(100):
            pipe.set("k", "v")
        pipe.execute()


FIELDS = {f"field:{n}": f"value:{n}" for n in range(10)}
MEMBERS = {f"member:{n}": n for n in range(100)}
# Row: what is called, and what the stub answers to it (what a server would).
ROWS: dict[str, tuple[Call, Any]] = {
    "SET": (lambda client: client.set("k", "v"), b"OK"),
    "GET": (lambda client: client.get("k"), b"v"),
    "INCR": (lambda client: client.incr("n"), 1),
    "LPUSH, RPOP": (push_and_pop, 1),
    "HSET": (lambda client: client.hset("h", "f", "v"), 0),
    "HGETALL of 10": (
        lambda client: client.hgetall("hash"),
        {f.encode(): v.encode() for f, v in FIELDS.items()},
    ),
    "ZADD": (lambda client: client.zadd("z", {"m": 1}), 0),
    "ZRANGE 0 9": (lambda client: client.zrange("zset", 0, 9), [b"member:%d" % n for n in range(10)]),
    "pipeline of 100 SET": (pipeline, b"OK"),
    "transaction of 100 SET": (transaction, [b"OK"] * 100),
}


def calls_of_large(many: int) -> dict[str, Call]:
    """Row: what is called on values of so many elements."""
    return {
        "SCAN page": lambda client: client.scan(0),
        "SSCAN page": lambda client: client.sscan("large set", 0),
        "HSCAN page": lambda client: client.hscan("large hash", 0),
        "ZSCAN page": lambda client: client.zscan("large zset", 0),
        "ZPOPMIN": lambda client: client.zpopmin("large zset"),
        "ZRANK": lambda client: client.zrank("large zset", f"member:{many // 2}"),
        "LINDEX in the middle": lambda client: client.lindex("large list", many // 2),
        "SRANDMEMBER": lambda client: client.srandmember("large set"),
    }


def fill(client: Any) -> None:
    client.hset("hash", mapping=FIELDS)
    client.zadd("zset", MEMBERS)


def fill_large(client: Any, many: int) -> None:
    step = 1000
    for at in range(0, many, step):
        numbers = range(at, at + step)
        client.sadd("large set", *(f"member:{n}" for n in numbers))
        client.hset("large hash", mapping={f"field:{n}": n for n in numbers})
        client.zadd("large zset", {f"member:{n}": n for n in numbers})
        client.rpush("large list", *numbers)
        client.mset({f"key:{n}": n for n in numbers})


def micros(call: Call, client: Any, seconds: float, clock: Callable[[], int]) -> float:
    """Of one call: the mean over about so many seconds."""
    call(client)
    count = 1
    while True:
        began = clock()
        for _ in range(count):
            call(client)
        took = clock() - began
        if took >= seconds * 1e9 or count >= 1_000_000:
            return took / count / 1000
        count = max(count + 1, int(count * min(10.0, 1.2 * seconds * 1e9 / max(took, 1))))


def beside(
    call: Call, clients: dict[str, Any], seconds: float, rounds: int, answer: Any = b"OK"
) -> dict[str, float]:
    """The best of some rounds for each client."""
    Stub.answer = answer
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, client in clients.items():
            clock = time.perf_counter_ns if name == "server" else time.process_time_ns
            took = micros(call, client, seconds, clock)
            best[name] = min(took, best.get(name, took))
    return best


def new_client(make: Callable[[], Any]) -> Call:
    def call(_: Any) -> None:
        client = make()
        client.set("k", "v")
        client.close()

    return call


def bytes_of_server(make: Callable[[], Any], count: int) -> float:
    """Memory of a server with one client that has sent a command, in bytes."""
    make().set("warm", "up")
    gc.collect()
    tracemalloc.start()
    kept = [make() for _ in range(count)]
    for client in kept:
        client.set("k", "v")
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / count


def milliseconds_to_first_command(module: str, rounds: int) -> float:
    """From the start of an interpreter that has redis-py loaded to the end of the first command."""
    program = (
        f"import redis, time; began = time.process_time_ns(); from {module} import FakeRedis; "
        "FakeRedis().set('k', 'v'); print((time.process_time_ns() - began) / 1e6)"
    )
    runs = []
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once
        for _ in range(rounds + 1):
            command = [sys.executable, "-c", program]
            runs.append(
                subprocess.run(
                    command, capture_output=True, text=True, timeout=60, check=True, env=environment
                )
            )
    return min(float(run.stdout) for run in runs)


def beside_others(test: str, found: dict[str, float], figure: str = "time", unit: str = "µs") -> Row:
    return row(test, figure, unit, {who: [value] for who, value in found.items()}, against="fakeredis")


def measure(run: Run) -> Iterator[Row]:
    import fakeredis

    seconds, rounds, many = run.pick(0.001, 0.05, 0.3), run.rounds, run.pick(1000, 20_000, 100_000)
    with ExitStack() as stack:
        server = stack.enter_context(running("redis", run.place("fake"), {}))
        clients: dict[str, Any] = {
            "kvstore": FakeRedis(),
            "fakeredis": fakeredis.FakeRedis(),
            "stub": stub(),
            "server": redis.Redis(unix_socket_path=server.path),
        }
        for name in ("kvstore", "fakeredis", "server"):
            fill(clients[name])
        for test, (call, answer) in ROWS.items():
            yield beside_others(test, beside(call, clients, seconds, rounds, answer))
        makers: dict[str, Any] = {"kvstore": FakeRedis, "fakeredis": fakeredis.FakeRedis, "stub": stub}
        made = {
            name: beside(new_client(make), {name: None}, seconds, rounds)[name]
            for name, make in makers.items()
        }
        yield beside_others("new client, SET, close", made)
        large = {name: clients[name] for name in ("kvstore", "fakeredis", "server")}
        for client in large.values():
            fill_large(client, many)
        for test, call in calls_of_large(many).items():
            yield beside_others(f"{test}, {many} elements", beside(call, large, seconds, rounds))
    fakes: dict[str, Any] = {"kvstore": FakeRedis, "fakeredis": fakeredis.FakeRedis}
    sizes = {name: bytes_of_server(make, run.pick(5, 200, 200)) for name, make in fakes.items()}
    yield beside_others("new server", sizes, "memory", "bytes")
    modules = {"kvstore": "kvstore.fake", "fakeredis": "fakeredis"}
    starts = {name: milliseconds_to_first_command(module, min(rounds, 5)) for name, module in modules.items()}
    yield beside_others("import to first SET", starts, "time", "ms")


if __name__ == "__main__":
    main("fake", measure, __doc__)
