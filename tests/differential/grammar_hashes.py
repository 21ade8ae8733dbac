"""The hash commands. Fields that expire came after the reference servers: tests/test_hash_expiry.py."""

from __future__ import annotations

import random

from tests.differential.compare import Exchange, members_of, pairs, some_page, unordered, unordered_pairs
from tests.differential.grammar import (
    BAD_INT,
    COUNT,
    FIELD,
    FLOAT,
    INT,
    KEY,
    LONG,
    PATTERN,
    VALUE,
    Grammar,
    Known,
    Step,
    command,
    macro,
    one_of,
    opt,
    options,
    pick,
    seq,
    some,
    step,
)
from tests.rawclient import parse

_PAIR = seq(FIELD, VALUE)
# Not as many draws as a negative count of this size asks for.
_DRAWS = one_of(
    pick(*range(-9, 12)), pick("4611686018427387904", "9223372036854775807"), BAD_INT, weights=(92, 4, 4)
)
_RANDOM_FIELDS = members_of(b"HGETALL", pairs_of=True)


def _grown(rng: random.Random) -> list[Step]:
    """A hash beyond the size of the small encoding, then some of it gone again."""
    fields = [f"f{n}" for n in range(rng.randint(6, 30))]
    words = [word for field in fields for word in (field, "v")]
    return [step("HSET", "a", *words), step("HDEL", "a", *fields[: rng.randint(0, len(fields))])]


def _widened(rng: random.Random) -> list[Step]:
    """A hash that one long word made large, which it stays when the word is gone."""
    long = LONG.decode()
    pair = ("m0", long) if rng.random() < 0.5 else (long, "m0")
    return [step("HSET", "b", "m1", "v"), step("HSET", "b", *pair), step("HDEL", "b", pair[0])]


def _scanned(rng: random.Random) -> list[Step]:
    return [step("@SCAN", "HSCAN", "a", "COUNT", rng.choice((1, 3, 10)))]


def _whole_page(exchange: Exchange) -> str | None:
    """HSCAN with a COUNT beyond the size: the same cursor and the same pairs (or fields) in any order."""
    ours, theirs = parse(exchange.ours), parse(exchange.theirs)
    if exchange.argv[2] != b"0":
        return some_page(exchange)
    if ours.items and theirs.items and ours.items[0] == theirs.items[0]:
        left, right = ours.items[1], theirs.items[1]
        alone = b"NOVALUES" in [word.upper() for word in exchange.argv]
        same = (
            set(left.items or ()) == set(right.items or ())
            if alone
            else sorted(pairs(left)) == sorted(pairs(right))
        )
        if same and len(left.items or ()) == len(right.items or ()):
            return None
    return "the pages differ"


def _fields_only(exchange: Exchange) -> bool:
    return b"NOVALUES" in [word.upper() for word in exchange.argv]


GRAMMAR = Grammar(
    "hashes",
    [
        command("HSET", KEY, some(_PAIR, 1, 3), weight=6),
        command("HSET", KEY, some(FIELD, 1, 5), weight=0.5),
        command("HMSET", KEY, some(_PAIR, 1, 3)),
        command("HSETNX", KEY, FIELD, VALUE, weight=2),
        command("HGET", KEY, FIELD, weight=3),
        command("HMGET", KEY, some(FIELD, 1, 4)),
        command("HGETALL", KEY, compare=unordered_pairs, weight=2),
        command("HKEYS", KEY, compare=unordered),
        command("HVALS", KEY, compare=unordered),
        command("HLEN", KEY),
        command("HEXISTS", KEY, FIELD),
        command("HSTRLEN", KEY, FIELD),
        command("HDEL", KEY, some(FIELD, 1, 4), weight=3),
        command("HINCRBY", KEY, FIELD, INT, weight=3),
        command("HINCRBYFLOAT", KEY, FIELD, FLOAT, weight=4),
        command("HRANDFIELD", KEY, opt(_DRAWS, opt(pick("WITHVALUES", "withvalues", "x"))), compare=_RANDOM_FIELDS),
        command("HSCAN", KEY, pick(0, 0, 0, 5, "x"), options(seq("MATCH", PATTERN), "NOVALUES", p=0.4), "COUNT", 1000,
                compare=_whole_page),
        command("HSCAN", KEY, pick(0, "-1", "+0", ""), options(seq("MATCH", PATTERN), seq("COUNT", COUNT)),
                weight=0.3, compare=some_page),
        macro("GROWN", _grown, weight=0.3),
        macro("WIDENED", _widened, weight=0.3),
        macro("SCANNED", _scanned, weight=0.5),
    ],
    config={"hash-max-listpack-entries": "8"},
    known=[Known("redis", {"HSCAN"}, "7.0 has no NOVALUES", _fields_only)],
)  # fmt: skip
