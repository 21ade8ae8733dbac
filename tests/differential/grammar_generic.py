"""The commands on keys of any type: expiry, renaming and copying, databases, scans, OBJECT."""

from __future__ import annotations

from tests.differential.compare import encoding, live_keys, near, random_key, same_shape, some_page, unordered
from tests.differential.grammar import (
    COUNT,
    DB,
    FIELD,
    FUTURE_MS,
    FUTURE_S,
    KEY,
    MEMBER,
    NEW_KEY,
    OWN_KEYS,
    PATTERN,
    SCORE,
    TTL_MS,
    TTL_S,
    VALUE,
    Grammar,
    Rng,
    Step,
    command,
    macro,
    mostly,
    one_of,
    opt,
    options,
    pick,
    seq,
    some,
    step,
)

# Where GT or LT compares deadlines, equal times to live would leave the answer to the milliseconds between.
_LATER_S = mostly(lambda rng: [b"%d" % rng.randrange(200, 10**6)], TTL_S, 0.15)
_LATER_MS = mostly(lambda rng: [b"%d" % rng.randrange(200_000, 10**9)], TTL_MS, 0.15)
_CONDITION = options("NX", "XX", "GT", "LT", p=0.2)
_TYPE = mostly(one_of("string", "list", "set", "hash", "zset", "stream", "STRING"), "nope", 0.05)
_SCAN_OPTIONS = options(seq("MATCH", PATTERN), seq("COUNT", COUNT), seq("TYPE", _TYPE), p=0.4)
_BAD_CURSOR = pick("x", "-1", "", "1e3", "99999999999999999999", " 0")


def _expire_seen_by(rng: Rng) -> list[Step]:
    """A deadline that passes, and then one of the commands that must not see the key."""
    key = rng.choice(OWN_KEYS).decode()
    looks: list[tuple[str, ...]] = [
        ("EXISTS", key),
        ("TTL", key),
        ("TYPE", key),
        ("RENAME", key, "e"),
        ("RENAMENX", "w:list", key),
        ("COPY", "w:list", key),
        ("MOVE", key, "1"),
        ("TOUCH", key),
        ("UNLINK", key),
        ("PERSIST", key),
        ("SET", key, "v0", "XX"),
        ("SET", key, "v0", "NX", "GET"),
        ("OBJECT", "ENCODING", key),
        ("KEYS", key),
    ]
    look = step(*rng.choice(looks))
    return [step("PEXPIRE", key, rng.choice((1, 2, 3))), step("@PAUSE", 8), look, step("EXISTS", key)]


GRAMMAR = Grammar(
    "generic",
    [
        # something to work on, of every type
        command("SET", KEY, VALUE, opt("KEEPTTL", p=0.2), weight=3),
        command("RPUSH", NEW_KEY, some(VALUE, 1, 4), weight=2),
        command("SADD", NEW_KEY, some(MEMBER, 1, 4), weight=2),
        command("HSET", NEW_KEY, some(seq(FIELD, VALUE), 1, 3), weight=2),
        command("ZADD", NEW_KEY, some(seq(SCORE, MEMBER), 1, 3), weight=2),
        # expiry
        command("EXPIRE", KEY, _LATER_S, _CONDITION, weight=3),
        command("PEXPIRE", KEY, _LATER_MS, _CONDITION, weight=2),
        command("EXPIREAT", KEY, FUTURE_S, _CONDITION, weight=2),
        command("PEXPIREAT", KEY, FUTURE_MS, _CONDITION, weight=2),
        command("TTL", KEY, weight=2, compare=near(2)),
        command("PTTL", KEY, weight=2, compare=near(2000)),
        command("EXPIRETIME", KEY, weight=2, compare=near(2)),
        command("PEXPIRETIME", KEY, weight=2, compare=near(2000)),
        command("PERSIST", KEY),
        macro("EXPIRED", _expire_seen_by, weight=0.3),
        # whole keys
        command("DEL", some(KEY, 1, 3), weight=2),
        command("UNLINK", some(KEY, 1, 3), weight=2),
        command("EXISTS", some(KEY, 1, 3)),
        command("TOUCH", some(KEY, 1, 3)),
        command("TYPE", KEY),
        command("RENAME", KEY, KEY, weight=2),
        command("RENAMENX", KEY, KEY, weight=2),
        command("COPY", KEY, KEY, options(seq("DB", DB), "REPLACE", p=0.4), weight=3),
        command("MOVE", KEY, DB, weight=2),
        command("SELECT", DB, weight=0.7),
        command("SWAPDB", DB, DB, weight=0.7),
        command("DBSIZE", compare=live_keys),
        command("FLUSHDB", opt(one_of("ASYNC", "SYNC"), p=0.3), weight=0.1),
        command("FLUSHALL", opt(one_of("ASYNC", "SYNC"), p=0.3), weight=0.05),
        # looking around
        command("KEYS", PATTERN, compare=unordered),
        command("RANDOMKEY", compare=random_key),
        macro("SCAN", lambda rng: [Step((b"@SCAN", b"SCAN", *_SCAN_OPTIONS(rng)))], weight=3),
        command("SCAN", _BAD_CURSOR, _SCAN_OPTIONS, compare=some_page),
        command("OBJECT ENCODING", KEY, compare=encoding, weight=2),
        command("OBJECT REFCOUNT", KEY, compare=same_shape),
        command("OBJECT IDLETIME", KEY, compare=same_shape),
        command("OBJECT FREQ", KEY),
        command("OBJECT", pick("HELP", "NOPE", "")),
        command("PING", opt(VALUE)),
        command("ECHO", VALUE),
        command("NOSUCHCOMMAND", some(VALUE, 0, 3), weight=0.3),
    ],
    databases=3,
)
