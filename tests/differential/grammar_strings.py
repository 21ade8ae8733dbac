"""The string commands."""

from __future__ import annotations

from tests.differential.grammar import (
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
    Grammar,
    command,
    one_of,
    options,
    pick,
    seq,
    some,
)

_TTL_OPTION = one_of(
    seq("EX", TTL_S), seq("PX", TTL_MS), seq("EXAT", FUTURE_S), seq("PXAT", FUTURE_MS), weights=(3, 3, 1, 1)
)
_OFFSET = one_of(pick(0, 1, 2, 5, 10, 100, -1), INDEX, pick(536870912), weights=(85, 12, 3))


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
    ],
)
