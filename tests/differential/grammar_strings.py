"""The string commands."""

from __future__ import annotations

import random

from tests.differential.grammar import (
    BAD_WORD,
    FLOAT,
    FUTURE_MS,
    FUTURE_S,
    INDEX,
    INT,
    KEY,
    NEW_KEY,
    TTL_MS,
    TTL_S,
    VALUE,
    Avoid,
    Grammar,
    Step,
    command,
    macro,
    one_of,
    options,
    pick,
    seq,
    some,
    step,
)

_TTL_OPTION = one_of(
    seq("EX", TTL_S), seq("PX", TTL_MS), seq("EXAT", FUTURE_S), seq("PXAT", FUTURE_MS), weights=(3, 3, 1, 1)
)
_OFFSET = one_of(pick(0, 1, 2, 5, 10, 100, -1), INDEX, pick(536870912), weights=(85, 12, 3))


def _common_subsequences(rng: random.Random) -> list[Step]:
    """Longer texts of few letters, so that LCS has many ways back to choose from."""
    texts = ["".join(rng.choices("abc", k=rng.randint(1, 60))) for _ in range(2)]
    options: list[list[str]] = [[], ["LEN"], ["IDX"], ["IDX", "WITHMATCHLEN"], ["IDX", "MINMATCHLEN", "3"]]
    return [
        step("MSET", "a", texts[0], "b", texts[1]),
        *(step("LCS", "a", "b", *option) for option in options),
    ]


def _counted_up(rng: random.Random) -> list[Step]:
    """Sums of many floats, which show every rounding."""
    amounts = [rng.choice(("0.1", "1e-17", "123456789.1", "-0.3", "3", "1e15", "-1e15")) for _ in range(12)]
    return [step("DEL", "a"), *(step("INCRBYFLOAT", "a", amount) for amount in amounts)]


def _soon(argv: tuple[bytes, ...]) -> bool:
    words = [word.upper() for word in argv]
    return b"1" in words and bool({b"PX", b"EX", b"PSETEX", b"SETEX", b"EXPIRE"} & set(words))


GRAMMAR = Grammar(
    "strings",
    [
        command(
            "SET",
            KEY,
            VALUE,
            options(one_of("NX", "XX"), "GET", _TTL_OPTION, "KEEPTTL", p=0.2),
            weight=5,
        ),
        command("SET", KEY, VALUE, weight=4),
        command("SET", KEY, VALUE, some(one_of("NX", "XX", "GET", "KEEPTTL", _TTL_OPTION, BAD_WORD), 1, 4)),
        command("GET", KEY, weight=4),
        command("GETSET", KEY, VALUE),
        command("GETDEL", KEY),
        command("GETEX", KEY, options(_TTL_OPTION, "PERSIST", p=0.45), weight=2),
        command("SETNX", KEY, VALUE),
        command("SETEX", KEY, TTL_S, VALUE),
        command("PSETEX", KEY, TTL_MS, VALUE),
        command("MGET", some(KEY, 1, 4)),
        command("MSET", some(seq(KEY, VALUE), 1, 3)),
        command("MSETNX", some(seq(NEW_KEY, VALUE), 1, 3)),
        command("APPEND", KEY, VALUE, weight=2),
        command("STRLEN", KEY),
        command("GETRANGE", KEY, INDEX, INDEX, weight=2),
        command("SUBSTR", KEY, INDEX, INDEX),
        command("SETRANGE", KEY, _OFFSET, VALUE, weight=2),
        command("INCR", KEY),
        command("DECR", KEY),
        command("INCRBY", KEY, INT, weight=2),
        command("DECRBY", KEY, INT, weight=2),
        command("INCRBYFLOAT", KEY, FLOAT, weight=4),
        command("LCS", KEY, KEY, options("LEN", "IDX", seq("MINMATCHLEN", INT), "WITHMATCHLEN"), weight=2),
        macro("COMMON_SUBSEQUENCES", _common_subsequences, weight=0.2),
        macro("COUNTED_UP", _counted_up, weight=0.1),
    ],
    avoid=[
        Avoid(server, "a deadline this near passes while the sequence runs", _soon)
        for server in ("valkey", "redis")
    ],
)
