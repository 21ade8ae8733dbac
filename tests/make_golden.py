"""Makes the files of tests/data: what real servers wrote, and beside it what they say that it holds.

    python -m tests.make_golden

It needs redis-server and valkey-server; the tests that read the files need neither. ``NAME.rdb`` or the
directory of a log, ``NAME``, has its content in ``NAME.json``: the server's version, the sizes at which its
encodings change, libraries of functions, and all keys, as the server gave them after it had loaded the file.
Bytes are texts there, a character for each byte.

Must not know: the store under test.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests import legacy, servers
from tests.rawclient import Node, RawClient, Word, encode, parse

DATA = Path(__file__).parent / "data"
DATABASES = (0, 3, 15)
LIBRARY = b"#!lua name=golden\nredis.register_function('f', function(keys, args) return 'golden' end)"
SECONDS = 30.0
# Unix times in ms after which keys expire: beyond the life of any test.
FAR_MS = 4_000_000_000_000

LIMITS = [
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "list-max-listpack-size",
]
THRESHOLDS: dict[str, dict[str, str]] = {
    "default": {},
    "small": {**dict.fromkeys(LIMITS, "3"), "list-max-listpack-size": "2"},
    "large": {**dict.fromkeys(LIMITS, "5000"), "list-max-listpack-size": "-5"},
}
# Name of the file, thresholds, other directives.
RDB = [
    ("default", "default", {}),
    ("small-lru", "small", {"maxmemory-policy": "allkeys-lru", "rdbcompression": "no"}),
    ("large-lfu", "large", {"maxmemory-policy": "allkeys-lfu", "rdbchecksum": "no", "list-compress-depth": "1"}),
]  # fmt: skip

Command = tuple[Word, ...]


def run(client: RawClient, *command: Word) -> Node:
    reply = parse(client.call(*command))
    assert not reply.mark.startswith(b"-"), (command, reply.text)
    return reply


# ----------------------------------------------------------------------------------------- content


def commands(rng: random.Random) -> Iterator[Command]:
    """Values of all types and forms, in several databases."""
    for number, n in enumerate((0, -1, 127, -129, 40_000, 1 << 31, (1 << 63) - 1)):
        yield "SET", f"int:{number}", n
    yield "SET", "empty", ""
    yield "SET", "long", "compressed " * 60
    yield "SET", "embstr", "e" * 44
    yield "SET", "raw", rng.randbytes(45)
    yield "SET", b"key \0\xff", b"\0\r\n\xff"
    yield "SET", "timed", "v", "PXAT", FAR_MS
    for db in DATABASES:
        yield "SELECT", db
        for size in (1, 3, 12, 130) if db == 3 else (2, 5):
            words = [b"word %d" % n if n % 2 else b"%d" % rng.randrange(-9999, 9999) for n in range(size)]
            words = list(dict.fromkeys(words))
            bits = rng.choice((15, 31, 63))
            numbers = {rng.randrange(-(1 << bits), 1 << bits) for _ in range(size)}
            yield "RPUSH", f"list:{size}", *words, b"x" * 70
            yield "SADD", f"set:{size}", *words
            yield "SADD", f"ints:{size}", *numbers
            yield "HSET", f"hash:{size}", *(each for word in words for each in (word, word[::-1]))
            yield "HSET", f"hash-of-long:{size}", "f", b"z" * 70
            scores: list[Word] = [rng.choice((n, n / 3, "inf", "-inf", 1e300)) for n in range(len(words))]
            yield (
                "ZADD",
                f"zset:{size}",
                *(each for score, word in zip(scores, words, strict=True) for each in (score, word)),
            )
            yield "PEXPIREAT", f"hash:{size}", FAR_MS + size


def streams() -> Iterator[Command]:
    """Streams of several nodes, with gaps, groups, consumers and what is pending."""
    for n in range(130):
        yield "XADD", "large", f"{1000 + n // 3}-{n % 3 + 1}", "n", n, "text", "t" * (n % 7)
    for n in (1000, 1003, 1040):
        yield "XDEL", "large", f"{n}-1"
    yield "XTRIM", "large", "MAXLEN", 120
    for n in range(6):
        fields = ["a", n, "b", -n] if n % 2 else ["c", 1 << 40, "d", "", "e", b"\0\xff"]
        yield "XADD", "mixed", f"{n + 1}-{n}", *fields
    yield "XADD", "last", "18446744073709551615-18446744073709551615", "f", "v"
    yield "XADD", "emptied", "5-5", "f", "v"
    yield "XDEL", "emptied", "5-5"
    yield "XGROUP", "CREATE", "only-a-group", "g", "0", "MKSTREAM"
    yield "XSETID", "mixed", "99-9", "ENTRIESADDED", 1000, "MAXDELETEDID", "98-7"
    yield "XGROUP", "CREATE", "large", "readers", "0", "ENTRIESREAD", 4
    yield "XGROUP", "CREATE", "large", "idle", "$"
    yield "XGROUP", "CREATE", "mixed", "readers", "2-1"
    yield "XGROUP", "CREATECONSUMER", "large", "readers", "nobody"
    yield "XREADGROUP", "GROUP", "readers", "one", "COUNT", 5, "STREAMS", "large", ">"
    yield "XREADGROUP", "GROUP", "readers", "two", "COUNT", 40, "STREAMS", "large", ">"
    yield "XREADGROUP", "GROUP", "readers", "one", "COUNT", 9, "STREAMS", "mixed", ">"
    yield "XACK", "large", "readers", "1005-1", "1006-2"
    yield (
        "XCLAIM",
        "large",
        "readers",
        "two",
        0,
        "1004-1",
        "1004-2",
        "TIME",
        1_700_000_000_000,
        "RETRYCOUNT",
        7,
    )
    yield "XDEL", "large", "1007-1"  # stays pending
    yield "PEXPIREAT", "mixed", FAR_MS


def fill(client: RawClient, some: Iterable[Command]) -> None:
    for command in some:
        run(client, *command)
    run(client, "SELECT", 0)


# -------------------------------------------------------------------------- what the server says


def text(word: bytes) -> str:
    return word.decode("latin-1")


def tree(node: Node) -> Any:
    """Integers and texts; an array of names and values is an object."""
    if node.items is None:
        return int(node.text) if node.mark == b":" else None if b"-1" in node.mark else text(node.text)
    return [tree(item) for item in node.items]


def named(flat: list[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def stream(client: RawClient, key: bytes) -> dict[str, Any]:
    info = named(tree(run(client, "XINFO", "STREAM", key, "FULL", "COUNT", 0)))
    info["groups"] = [named(group) for group in info["groups"]]
    for group in info["groups"]:
        group["consumers"] = [named(consumer) for consumer in group["consumers"]]
    info["entries"] = tree(run(client, "XRANGE", key, "-", "+"))
    # These are of the server's own tree.
    return {name: value for name, value in info.items() if not name.startswith("radix")}


def value(client: RawClient, kind: str, key: bytes) -> Any:
    match kind:
        case "string":
            return tree(run(client, "GET", key))
        case "list":
            return tree(run(client, "LRANGE", key, 0, -1))
        case "set":
            return sorted(tree(run(client, "SMEMBERS", key)))
        case "hash":
            return dict(sorted(named(tree(run(client, "HGETALL", key))).items()))
        case "zset":
            return named(tree(run(client, "ZRANGE", key, 0, -1, "WITHSCORES")))
        case "stream":
            return stream(client, key)
    raise AssertionError(kind)


def described(client: RawClient, use: str | None) -> Iterator[dict[str, Any]]:
    """All keys. ``use``: what is recorded of uses, "idletime" or "freq"."""
    for db in DATABASES:
        run(client, "SELECT", db)
        for key in sorted(item.text for item in run(client, "KEYS", "*").items or ()):
            found: dict[str, Any] = {"db": db, "key": text(key)}
            if use is not None:  # before anything else uses it
                found[use] = tree(run(client, "OBJECT", use, key))
            found["type"] = tree(run(client, "TYPE", key))
            found["encoding"] = tree(run(client, "OBJECT", "ENCODING", key))
            deadline = tree(run(client, "PEXPIRETIME", key))
            found["deadline_ms"] = None if deadline == -1 else deadline
            found["value"] = value(client, found["type"], key)
            yield found
    run(client, "SELECT", 0)


def write(name: str, client: RawClient, **more: Any) -> None:
    """The description that goes with the files of that name: a key a line."""
    info = text(run(client, "INFO", "server").text)
    # Valkey says both: the last one is its own.
    version = [line for line in info.splitlines() if line.startswith(("valkey_version", "redis_version"))][-1]
    limits = {each: named(tree(run(client, "CONFIG", "GET", each))).get(each) for each in LIMITS}
    libraries = [named(each) for each in tree(run(client, "FUNCTION", "LIST", "WITHCODE"))]
    policy = named(tree(run(client, "CONFIG", "GET", "maxmemory-policy")))["maxmemory-policy"]
    use = "freq" if policy.endswith("lfu") else "idletime" if policy.endswith("lru") else None
    head = {
        "server": version,
        "limits": {each.replace("-", "_"): int(size) for each, size in limits.items() if size is not None},
        "policy": policy,
        "libraries": {each["library_name"]: each["library_code"] for each in libraries},
        "made_ms": int(time.time() * 1000),
        **more,
    }
    lines = ",\n".join(json.dumps(each) for each in described(client, use))
    content = json.dumps(head, indent=1)[:-2] + ',\n "keys": [\n' + lines + "\n]}\n"
    (DATA / f"{name}.json").write_text(content)


# ------------------------------------------------------------------------------------------- files


def configure(client: RawClient, directives: dict[str, str]) -> None:
    for name, word in directives.items():
        reply = client.call("CONFIG", "SET", name, word)
        # Redis 7.0 has no listpacks of sets.
        assert reply == b"+OK\r\n" or name.startswith("set-max-listpack"), (name, reply)


def make_rdb(kind: str, name: str, thresholds: str, directives: dict[str, str]) -> None:
    options = {"enable-debug-command": "yes", **directives}
    with servers.running(kind, options=options) as server, server.client() as client:
        configure(client, THRESHOLDS[thresholds])
        if thresholds == "small":  # elements of that size are nodes of their own
            run(client, "DEBUG", "QUICKLIST-PACKED-THRESHOLD", "60B")
        fill(client, commands(random.Random(name)))
        run(client, "FUNCTION", "LOAD", LIBRARY)
        for key, use in (("int:1", "IDLETIME"), ("int:2", "FREQ")):
            run(client, "RESTORE", f"used:{use}", 0, run(client, "DUMP", key).text, use, 200)
        run(client, "DEBUG", "SET-ACTIVE-EXPIRE", 0)
        run(client, "SET", "gone", "v", "PX", 1)
        time.sleep(0.01)
        finish_rdb(client, server, f"{kind}-{name}", expired=1)


def finish_rdb(client: RawClient, server: servers.Server, name: str, **more: Any) -> None:
    run(client, "SAVE")
    run(client, "DEBUG", "RELOAD", "NOSAVE")
    shutil.copy(server.directory / "dump.rdb", DATA / f"{name}.rdb")
    write(name, client, **more)


def make_streams(kind: str) -> None:
    with servers.running(kind, options={"enable-debug-command": "yes"}) as server, server.client() as client:
        fill(client, streams())
        finish_rdb(client, server, f"{kind}-streams", expired=0)


def rewrite(client: RawClient) -> None:
    run(client, "BGREWRITEAOF")
    end = time.monotonic() + SECONDS
    while b"aof_rewrite_in_progress:1" in (info := run(client, "INFO", "persistence").text) or (
        b"aof_rewrite_scheduled:1" in info
    ):
        assert time.monotonic() < end, info
        time.sleep(0.02)
    assert b"aof_last_bgrewrite_status:ok" in info


def changes() -> Iterator[Command]:
    """What comes after the base."""
    yield "APPEND", "embstr", "!"
    yield "INCRBYFLOAT", "float", "0.1"
    yield "DEL", "raw"
    yield "SET", "expiring", "v", "EX", 4_000_000
    yield "GETEX", "int:1", "PXAT", FAR_MS + 1
    yield "PERSIST", "timed"
    yield "SELECT", 3
    for command in (
        ["MULTI"],
        ["LPOP", "list:12", "2"],
        ["HINCRBY", "counts", "f", "7"],
        ["SPOP", "set:12"],
        ["EXEC"],
    ):
        yield tuple(command)
    yield "ZPOPMAX", "zset:130", 10
    yield "SPOP", "set:130", 100
    yield "LMOVE", "list:3", "list:1", "LEFT", "RIGHT"
    yield "COPY", "hash:12", "copied", "DB", 15
    yield "EVAL", "redis.call('SET', KEYS[1], ARGV[1]) redis.call('INCR', KEYS[2])", 2, "k", "n", "by script"
    yield "MOVE", "hash:3", 15
    yield "SELECT", 15
    yield "RENAME", "ints:5", "renamed"


def make_log(kind: str, preamble: str) -> None:
    name = f"{kind}-aof-{'rdb' if preamble == 'yes' else 'plain'}"
    options = {
        "appendonly": "yes",
        "aof-use-rdb-preamble": preamble,
        "aof-timestamp-enabled": "yes" if preamble == "yes" else "no",
    }
    with servers.running(kind, options=options) as server:
        with server.client() as client:
            fill(client, commands(random.Random(name)))
            run(client, "FUNCTION", "LOAD", LIBRARY)
            rewrite(client)
            fill(client, changes())
            write(name, client)
        server.stop()
        shutil.copytree(server.directory / "appendonlydir", DATA / name)


# As servers before 7 wrote their log: one file, relative times made absolute, SELECT where it changes.
OLD: list[Command] = [
    ("SELECT", 0),
    ("SET", "string", "value"),
    ("SET", "counter", 10),
    ("INCR", "counter"),
    ("SET", "session", "abc"),
    ("PEXPIREAT", "session", FAR_MS),
    ("SETEX", "relative", 4_000_000, "older still"),
    ("RPUSH", "queue", "a", "b", "c"),
    ("RPOPLPUSH", "queue", "done"),
    ("SELECT", 3),
    ("MULTI",),
    ("HMSET", "hash", "f", "v", "g", "w"),
    ("SADD", "set", 1, 2, 3),
    ("EXEC",),
    ("SREM", "set", 2),
    ("ZADD", "zset", 1, "one", "0.5", "half"),
    ("ZINCRBY", "zset", "2.5", "one"),
    ("SELECT", 0),
    ("DEL", "string"),
    ("RENAME", "done", "finished"),
]


def make_old(name: str, head: bytes, tail: list[Command]) -> None:
    """A log of one file, made by hand; a real server says what it holds."""
    directory = Path(tempfile.mkdtemp(prefix="old-"))
    content = head + b"".join(encode(*command) for command in tail)
    (directory / "appendonly.aof").write_bytes(content)
    server = servers.start("redis", options={"appendonly": "yes", "dir": str(directory)})
    try:
        with server.client() as client:
            write(name, client)
        (DATA / name).mkdir()
        (DATA / name / "appendonly.aof").write_bytes(content)
    finally:
        server.remove()
        shutil.rmtree(directory)


def old_preamble() -> bytes:
    """An RDB as Redis 4 to 6 have it, with the encodings of their time and before."""
    body = b"".join(
        bytes((sample.number,)) + legacy.string(sample.name.encode()) + sample.body
        for sample in legacy.samples()
        if sample.version <= 8 and len(sample.body) < 400
    )
    timed = b"\xfc" + struct.pack("<q", FAR_MS) + b"\x00\x04both\x01v"
    return b"REDIS0008\xfa\x0caof-preamble\xc0\x01\xfe\x00" + body + timed + b"\xff" + bytes(8)


def main() -> None:
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir()
    for kind in ("redis", "valkey"):
        for name, thresholds, directives in RDB:
            make_rdb(kind, name, thresholds, directives)
        make_streams(kind)
        for preamble in ("yes", "no"):
            make_log(kind, preamble)
    make_old("old-aof", b"", OLD)
    make_old("old-aof-preamble", old_preamble(), OLD)
    for path in sorted(DATA.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:8} {path.relative_to(DATA)}")


if __name__ == "__main__":
    main()
