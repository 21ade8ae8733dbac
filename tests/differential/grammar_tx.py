"""Transactions: MULTI, EXEC, DISCARD, WATCH on three connections, around commands of all types."""

from __future__ import annotations

from tests.differential.compare import (
    encoding,
    live_keys,
    near,
    unordered,
    unordered_pairs,
)
from tests.differential.grammar import (
    COUNT,
    DB,
    FIELD,
    INDEX,
    INT,
    KEY,
    MEMBER,
    NEW_KEY,
    OWN_KEYS,
    SCORE,
    TTL_S,
    VALUE,
    Avoid,
    Grammar,
    Rng,
    Step,
    command,
    macro,
    opt,
    options,
    seq,
    some,
    step,
)


def _pops_a_part(argv: tuple[bytes, ...]) -> bool:
    return argv[0].upper() == b"SPOP" and argv[2:] != (b"1000",)


def _watched_key_expires(rng: Rng) -> list[Step]:
    """A watched key whose deadline passes: EXEC refuses, unless the deadline had passed before WATCH."""
    key = rng.choice(OWN_KEYS).decode()
    me = rng.randrange(3)
    start = [step("SET", key, "v0", "PX", 150)]  # long enough for WATCH to come in time on a busy machine
    watch = [step("WATCH", key, on=me)]
    pause = [step("@PAUSE", 170)]
    before = start + pause + watch if rng.random() < 0.5 else start + watch + pause
    inside = [step("MULTI", on=me), step("PING", on=me), step("EXEC", on=me), step("EXISTS", key)]
    return [step("DISCARD"), step("DISCARD", on=me), step("UNWATCH", on=me), *before, *inside]


def _interleaved(rng: Rng) -> list[Step]:
    """WATCH on one connection, a change (or none) by another, then EXEC."""
    key, other = (rng.choice(OWN_KEYS).decode() for _ in range(2))
    me, they = rng.sample(range(3), 2)
    changes = [
        [step("SET", other, "v1", on=they)],
        [step("DEL", other, on=they)],
        [step("EXPIRE", other, 1000, on=they)],
        [step("FLUSHDB", on=they)],
        [step("SWAPDB", 0, 1, on=they)],
        [step("RENAME", "w:list", other, on=they)],
        [step("GET", other, on=they)],
        [step("LPOP", other, on=they)],
        [step("INCR", "w:string", on=me)],
        [],
    ]
    tail = [step("MULTI", on=me), step("RPUSH", "w:list", key, on=me), step("EXEC", on=me)]
    return [step("WATCH", key, on=me), *rng.choice(changes), *tail]


GRAMMAR = Grammar(
    "tx",
    [
        command("MULTI", weight=7),
        command("EXEC", weight=7),
        command("DISCARD", weight=1.5),
        command("WATCH", some(KEY, 1, 3), weight=2.5),
        command("UNWATCH", weight=0.7),
        command("RESET", weight=0.2, on=2),
        macro("WATCHED_KEY_EXPIRES", _watched_key_expires, weight=0.03),
        macro("INTERLEAVED", _interleaved, weight=2),
        command("SELECT", DB, weight=0.5),
        command("SWAPDB", DB, DB, weight=0.2),
        command("FLUSHDB", weight=0.1),
        command("FLUSHALL", weight=0.1),
        command("NOSUCHCOMMAND", weight=0.3),
        command("PING", opt(VALUE)),
        command("DBSIZE", compare=live_keys),
        command("SET", KEY, VALUE, options("NX", "XX", "GET", "KEEPTTL", p=0.1), weight=3),
        command("GET", KEY, weight=2),
        command("INCR", KEY, weight=2),
        command("INCRBY", KEY, INT),
        command("APPEND", KEY, VALUE),
        command("MSET", some(seq(KEY, VALUE), 1, 3)),
        command("RPUSH", KEY, some(VALUE, 1, 3)),
        command("LPOP", KEY, opt(COUNT, p=0.3)),
        command("LRANGE", KEY, INDEX, INDEX),
        command("SADD", KEY, some(MEMBER, 1, 3)),
        command("SMEMBERS", KEY, compare=unordered),
        command("SPOP", KEY, 1000, compare=unordered),
        command("HSET", KEY, some(seq(FIELD, VALUE), 1, 2)),
        command("HGETALL", KEY, compare=unordered_pairs),
        command("ZADD", KEY, some(seq(SCORE, MEMBER), 1, 2)),
        command("ZPOPMIN", KEY),
        command("EXPIRE", KEY, TTL_S),
        command("TTL", KEY, compare=near(2)),
        command("DEL", some(NEW_KEY, 1, 2)),
        command("RENAME", KEY, KEY),
        command("COPY", KEY, KEY, opt("REPLACE")),
        command("MOVE", KEY, DB),
        command("OBJECT ENCODING", KEY, compare=encoding),
    ],
    connections=3,
    databases=3,
    common=(),
    avoid=[
        Avoid(server, "what a random part was can only be judged outside a transaction", _pops_a_part)
        for server in ("valkey", "redis")
    ],
)
