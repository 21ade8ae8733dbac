"""RDB files between kvstore and real servers, both ways: the same DEBUG DIGEST, and their own checkers agree."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.commands.digest import digest_all
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, Limits, SystemClock
from kvstore.engine.database import Database
from kvstore.engine.snapshot import Snapshot
from kvstore.engine.types import Target
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.rdb_load import Record, load_rdb, read_rdb
from tests import servers
from tests.conftest import require
from tests.differential import grammar as grammars
from tests.seeds import new_seed
from tests.test_laws import FAMILIES
from tests.test_rdb import write

REAL = ("redis", "valkey")
YEAR_MS = 365 * 86_400_000
LIBRARY = b"#!lua name=lib\nredis.register_function('f', function(keys, args) return 1 end)"
# Directives that bring other encodings into files; names that both servers have.
THRESHOLDS = {
    "small": {
        "hash-max-listpack-entries": "3",
        "set-max-intset-entries": "3",
        "zset-max-listpack-entries": "3",
        "list-max-listpack-size": "2",
    },
    "large": {
        "hash-max-listpack-entries": "5000",
        "hash-max-listpack-value": "5000",
        "set-max-intset-entries": "5000",
        "zset-max-listpack-entries": "5000",
        "zset-max-listpack-value": "5000",
        "list-compress-depth": "1",
    },
}


@pytest.fixture(params=REAL)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    require(name)
    if name == "redis":  # 7.0 prints scores with all their digits when it digests them
        monkeypatch.setattr("kvstore.commands.digest.format_shortest", lambda score: b"%.17g" % score)
    return name


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="rdb-"))
    yield made
    shutil.rmtree(made)


def random_commands(rng: random.Random, count: int) -> list[tuple[bytes, ...]]:
    """Commands of all families that write; what has to do with time is left to others."""
    families = [grammars.load(name) for name in FAMILIES]
    found: list[tuple[bytes, ...]] = [step.argv for step in grammars.PROLOGUE]
    while len(found) < count:
        found += [
            step.argv
            for step in rng.choice(families).group(rng)
            if not step.argv[0].startswith(b"@") and b"FLUSH" not in step.argv[0].upper()
        ]
    return found


def bulk(rng: random.Random) -> Iterator[tuple[object, ...]]:
    """Values of all types and sizes, in several databases."""
    for db in (0, 3, 15):
        yield "SELECT", db
        for size in (1, 5, 100, 1000):
            words = list(
                {rng.choice((rng.randbytes(rng.randrange(1, 90)), b"%d" % n, b"w" * n)) for n in range(size)}
            )
            numbers = [rng.randrange(-(1 << rng.choice((7, 15, 31, 63))), 1 << 31) for _ in range(size)]
            yield "SET", f"s{size}", rng.randbytes(size)
            yield "SET", f"z{size}", "a" * size * 20
            yield "SET", f"n{size}", numbers[0]
            yield "SET", f"t{size}", "v", "PXAT", 4_000_000_000_000 + size
            yield "RPUSH", f"l{size}", *words, *numbers
            yield "SADD", f"S{size}", *words
            yield "SADD", f"i{size}", *numbers
            yield "HSET", f"h{size}", *(word for each in words for word in (each, each))
            scores = ["inf", "-inf", "1e300", "0.1", *numbers]
            yield "ZADD", f"Z{size}", *(each for word in words for each in (rng.choice(scores), word))
            yield "PEXPIREAT", f"h{size}", 4_100_000_000_000 + size


def filled(seed: int) -> Context:
    rng = random.Random(seed)
    ctx = Context(Database, clock=SystemClock(), random=random.Random(seed))
    session = Session(Hub(ctx), TREE2)
    for argv in random_commands(rng, 600):
        session.call(list(argv))
    for words in bulk(rng):
        session.call([word if isinstance(word, bytes) else str(word).encode() for word in words])
    return ctx


def check_file(kind: str, path: Path) -> None:
    program = shutil.which(f"{kind}-check-rdb")
    assert program, f"{kind}-check-rdb"
    done = subprocess.run([program, str(path)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def keep_only_lasting(ctx: Context) -> None:
    """Nothing in it expires while it is compared."""
    soon = ctx.now() + YEAR_MS
    for db in ctx.databases.values():
        for key in [key for key, deadline in db._expires.items() if deadline < soon]:
            db.delete(key)


def start_on(kind: str, content: bytes, directory: Path, **options: str) -> servers.Server:
    (directory / "dump.rdb").write_bytes(content)
    return servers.start(kind, options={"dir": str(directory), "enable-debug-command": "yes", **options})


@pytest.mark.parametrize("compress", [True, False])
def test_real_servers_load_what_is_written(kind: str, compress: bool, directory: Path) -> None:
    ctx = filled(new_seed())
    keep_only_lasting(ctx)
    content = write(ctx, compress=compress, checksum=compress)
    server = start_on(kind, content, directory)
    try:
        check_file(kind, directory / "dump.rdb")
        with server.client() as client:
            theirs = client.call("DEBUG", "DIGEST")
    finally:
        server.remove()
    assert theirs == b"+" + digest_all(ctx).hex().encode() + b"\r\n"


def test_real_servers_load_field_deadlines_functions_and_mixed_databases(kind: str, directory: Path) -> None:
    """As a file is in which a snapshot's early writes go back and forth between databases."""
    ctx = Context(Database)
    for index in (0, 1, 2):
        for number in range(3000):
            ctx.database(index).set(f"k{number}", index)
        ctx.database(index).hset("h", mapping={"a": 1, "b": 2})
        ctx.database(index).hpexpireat("h", 4_000_000_000_000, "a")
    ctx.libraries[b"lib"] = LIBRARY
    before = digest_all(ctx)
    file: list[bytes] = []
    writer = RdbWriter(
        file.append,
        target=Target.PORTABLE,
        compress=True,
        checksum=True,
        aux={b"redis-ver": b"7.2.4", b"redis-bits": b"64", b"aof-base": b"0"},
        libraries=ctx.libraries,
        sizes=dict.fromkeys((0, 1, 2), (3001, 0)),
    )
    writer.begin()
    snapshot = Snapshot(ctx, writer)
    rng, steps = random.Random(1), 0
    while not snapshot.step(0):
        steps += 1
        for _ in range(50):
            ctx.database(rng.randrange(3)).set(f"k{rng.randrange(4000)}", "changed")
    writer.end()
    content = b"".join(file)
    assert content.count(b"\xfe\x00\x00") > 3
    server = start_on(kind, content, directory)
    try:
        check_file(kind, directory / "dump.rdb")
        with server.client() as client:
            assert client.call("DEBUG", "DIGEST") == b"+" + before.hex().encode() + b"\r\n"
            assert client.call("FCALL", "f", "0") == b":1\r\n"
    finally:
        server.remove()


def check_uses(ctx: Context, path: Path) -> None:
    """The store has the records of uses that the file has."""
    for found in read_rdb(path.read_bytes(), Limits()):
        if isinstance(found, Record):
            db = ctx.database(found.db)
            if found.frequency is not None:
                # It may have become one less, as a minute has gone by.
                assert max(0, found.frequency - 1) <= db.object("freq", found.key) <= found.frequency
            else:
                assert found.idle_s is not None
                assert found.idle_s <= db.object("idletime", found.key) < found.idle_s + 60


@pytest.mark.parametrize("thresholds", THRESHOLDS)
@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "allkeys-lfu"])
def test_what_real_servers_write_is_loaded(kind: str, thresholds: str, policy: str, directory: Path) -> None:
    rng = random.Random(new_seed())
    options = {
        **THRESHOLDS[thresholds],
        "dir": str(directory),
        "enable-debug-command": "yes",
        "maxmemory-policy": policy,
        "rdbcompression": "yes" if policy == "noeviction" else "no",
        "rdbchecksum": "no" if policy == "allkeys-lfu" else "yes",
    }
    server = servers.start(kind, options=options)
    try:
        with server.client() as client:
            for words in bulk(rng):
                assert not client.call(*words).startswith(b"-"), words
            client.call("FUNCTION", "LOAD", LIBRARY)
            assert client.call("SAVE") == b"+OK\r\n"
            theirs = client.call("DEBUG", "DIGEST")
            asked = ["h5", "h100", "Z5", "i5", "s1", "n5"]
            if kind == "valkey":  # Redis 7.0 has no listpacks of these
                asked += ["l1", "l5", "S5"]
            encodings = {key: client.call("OBJECT", "ENCODING", key) for key in asked}
    finally:
        server.stop()
    ctx = Context(Database)
    for name, value in THRESHOLDS[thresholds].items():
        if hasattr(ctx.limits, name.replace("-", "_")):
            setattr(ctx.limits, name.replace("-", "_"), int(value))
    ctx.evictor.configure(policy=policy, maxmemory=1 << 32)
    for _ in load_rdb(ctx, (directory / "dump.rdb").read_bytes(), path="dump.rdb", now_ms=ctx.now()):
        pass
    assert theirs == b"+" + digest_all(ctx).hex().encode() + b"\r\n"
    assert ctx.libraries == {b"lib": LIBRARY}
    for db in ctx.databases.values():
        db.check()
    last = ctx.database(15)
    for key, reply in encodings.items():
        name = last.object("encoding", key)
        assert reply == b"$%d\r\n%b\r\n" % (len(name), name), key
    if policy != "noeviction":
        check_uses(ctx, directory / "dump.rdb")
    server.remove()
