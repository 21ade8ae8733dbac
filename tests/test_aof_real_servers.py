"""Logs between us and real servers: they start on ours, we start on theirs, and the data is the same."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.engine.types import Target
from kvstore.persist.aof import AppendLog
from kvstore.persist.files import Files
from kvstore.persist.fs import OsFileSystem
from kvstore.persist.replay import load_log
from kvstore.persist.settings import Settings
from kvstore.persist.worker import InlineWorker
from tests import servers
from tests.conftest import require
from tests.seeds import new_seed

CHECKERS = {"redis": "redis-check-aof", "valkey": "valkey-check-aof"}
DATABASES = (0, 3)


@pytest.fixture(params=["redis", "valkey"])
def kind(request: pytest.FixtureRequest) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, as the paths of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="aof-") as made:
        yield Path(made)


def random_change(rng: random.Random) -> list[str]:
    """A command that all servers have."""
    key, other = (f"k{rng.randrange(40)}" for _ in range(2))
    value = rng.choice(["", "1", "-77", "x" * rng.randrange(100), "a\r\nb", "é"])
    far = int(time.time()) + 100_000
    return rng.choice(
        [
            ["SET", f"s{key}", value],
            ["SET", f"s{key}", value, "EX", "5000"],
            ["APPEND", f"s{key}", value],
            ["SETBIT", f"s{key}", str(rng.randrange(200)), rng.choice("01")],
            ["BITOP", rng.choice(("AND", "OR", "XOR")), f"s{key}", f"s{other}", f"s{key}"],
            ["BITFIELD", f"s{key}", "SET", "i7", "#3", "-9", "OVERFLOW", "SAT", "INCRBY", "u13", "5", "999"],
            ["PFADD", f"p{key}", value, str(rng.randrange(1000))],
            ["PFMERGE", f"p{key}", f"p{other}"],
            ["PFCOUNT", f"p{key}"],
            ["RPUSH", f"l{key}", value, "2", "3"],
            ["LPOP", f"l{key}"],
            ["LINSERT", f"l{key}", "BEFORE", "2", value],
            ["SADD", f"t{key}", value, "1", "2"],
            ["SPOP", f"t{key}"],
            ["HSET", f"h{key}", value, "1", "f", "v"],
            ["HINCRBYFLOAT", f"h{key}", "n", "1.25"],
            ["ZADD", f"z{key}", "1.5", value, "-inf", "low", "3", "m"],
            ["ZPOPMIN", f"z{key}"],
            ["EXPIREAT", f"l{key}", str(far)],
            ["PERSIST", f"l{key}"],
            ["DEL", f"s{key}", f"h{other}"],
            ["RENAME", f"z{key}", f"z{other}"],
            ["COPY", f"t{key}", f"t{other}", "REPLACE"],
        ]
    )


def described(call: Any) -> dict[Any, Any]:
    """All keys of the databases in use with their values and deadlines, by the commands of a client."""
    readers = {
        b"string": lambda key: call("GET", key),
        b"list": lambda key: call("LRANGE", key, "0", "-1"),
        b"set": lambda key: sorted(call("SMEMBERS", key)),
        b"hash": lambda key: sorted((field, call("HGET", key, field)) for field in call("HKEYS", key)),
        b"zset": lambda key: [
            (each, float(call("ZSCORE", key, each))) for each in call("ZRANGE", key, "0", "-1")
        ],
    }
    found = {}
    for db in DATABASES:
        call("SELECT", str(db))
        for key in call("KEYS", "*"):
            kind = bytes(call("TYPE", key))
            found[db, key] = kind, readers[kind](key), call("PEXPIRETIME", key)
    return found


def caller(server: servers.Server) -> Any:
    """Commands on a new connection; the replies parsed."""
    import redis

    client = redis.Redis(unix_socket_path=server.unix, socket_timeout=20, single_connection_client=True)

    def call(*argv: Any) -> Any:
        client.connection.send_command(*argv)  # type: ignore[union-attr]
        return client.connection.read_response()  # type: ignore[union-attr]

    return call


def caller_of(ctx: Context) -> Any:
    """The same, of a store in this process."""
    from kvstore.commands.hub import Hub
    from kvstore.commands.kinds import TREE2
    from kvstore.commands.session import Session

    session = Session(Hub(ctx), TREE2)

    def call(*argv: Any) -> Any:
        return session.call([word if isinstance(word, bytes) else str(word).encode() for word in argv])

    return call


def change(call: Any, rng: random.Random, count: int) -> None:
    import redis

    for number in range(count):
        if number % 50 == 0:
            call("SELECT", str(rng.choice(DATABASES)))
        in_unit = rng.random() < 0.1
        if in_unit:
            call("MULTI")
        for _ in range(rng.randrange(1, 4) if in_unit else 1):
            try:
                call(*random_change(rng))
            except redis.ResponseError:
                pass
        if in_unit:
            call("EXEC")


def seeded() -> tuple[int, random.Random]:
    seed = new_seed()
    return seed, random.Random(seed)


@pytest.mark.parametrize("rdb", [True, False], ids=["rdb", "commands"])
def test_a_real_server_starts_on_our_log(kind: str, rdb: bool, directory: Path) -> None:
    _, rng = seeded()
    ctx = Context(Database)
    settings = Settings(
        dir=str(directory),
        appendonly=True,
        appendfsync="no",
        aof_use_rdb_preamble=rdb,
        aof_timestamp_enabled=True,
        rdb_target=Target.PORTABLE,
    )
    files = Files(ctx, settings, worker=InlineWorker())
    files.load_now()
    call = caller_of(ctx)
    change(call, rng, 300)
    files.flush()
    files.compact()
    change(call, rng, 200)
    assert files.log is not None
    files.log.rotate()  # a rewrite that never ended: several increments
    change(call, rng, 100)
    files.flush()
    mine = described(call)
    files.close()
    manifest = directory / "appendonlydir" / "appendonly.aof.manifest"
    assert manifest.read_text().count("type i") == 2
    checked = subprocess.run([CHECKERS[kind], str(manifest)], capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stdout
    with servers.running(kind, options={"dir": str(directory), "appendonly": "yes"}) as server:
        assert described(caller(server)) == mine


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_we_start_on_the_log_of_a_real_server_and_it_on_what_we_made_of_it(
    kind: str, preamble: str, directory: Path
) -> None:
    _, rng = seeded()
    options = {
        "dir": str(directory),
        "appendonly": "yes",
        "aof-use-rdb-preamble": preamble,
        "aof-timestamp-enabled": "yes",
    }
    with servers.running(kind, options=options) as server:
        call = caller(server)
        change(call, rng, 300)
        call("BGREWRITEAOF")
        change(call, rng, 100)
        deadline = time.monotonic() + 20
        while b"aof_rewrite_in_progress:1" in call("INFO", "persistence"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        change(call, rng, 200)
        theirs = described(call)
    ctx = Context(Database)
    log_dir = str(directory / "appendonlydir")
    fs = OsFileSystem()
    for _ in load_log(ctx, fs, log_dir, "appendonly.aof", single=None, load_truncated=False):
        pass
    call = caller_of(ctx)
    assert described(call) == theirs
    log = AppendLog(fs, InlineWorker(), log_dir, "appendonly.aof", policy="always", now_ms=ctx.clock.now_ms)
    log.begin()
    ctx.listen(log)
    change(call, rng, 100)
    log.close()
    mine = described(call)
    with servers.running(kind, options=options) as server:
        assert described(caller(server)) == mine
