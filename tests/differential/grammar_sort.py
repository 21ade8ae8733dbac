"""SORT, of containers of all three types and by what other keys hold.

Sets and hashes of the servers have an order of their own where nothing is to be compared, so a set is only sorted
there by what tells its members apart, or as a whole.
"""

from __future__ import annotations

from itertools import pairwise

from tests.differential.compare import Exchange
from tests.differential.grammar import (
    BAD_INT,
    BAD_WORD,
    KEY,
    Grammar,
    Known,
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

_NUMBER = pick(
    *range(-3, 12), "1.5", "-0.5", "1e3", "007", "", "inf", "-inf", "0x10", " 4", "+5", "-0", "1.50"
)
_WORD = pick("a", "b", "B", "ab", "abc", b"\xff", "z", "10", "9")
_NO_NUMBER = pick("x", "1 ", "1_0", "nan", "1.2.3", "-", "infinit")
_ELEMENT = mostly(_NUMBER, one_of(_WORD, _NO_NUMBER), 0.04)
_ANY = one_of(_NUMBER, _WORD, weights=(60, 40))
# Weights are apart from one another, or come from strings, so that a list may keep the order of equal ones.
_BY = seq(
    "BY", mostly(pick("w_*", "w_*", "h_*->f", "h_*->g", "*", "w_*x"), pick("none_*", "h_*->", "#*"), 0.1)
)
_NOSORT = seq("BY", pick("nosort", "w", ""))
_GET = seq("GET", pick("#", "#", "w_*", "h_*->f", "h_*->g", "*", "h_*", "none", "h_*->", "w_**", "w_*->f"))
_PLACE = mostly(pick(0, 0, 1, 2, 3, 5, 100), one_of(pick(-1, -5), BAD_INT), 0.06)
_LIMIT = seq("LIMIT", _PLACE, mostly(pick(0, 1, 2, 3, 5, 100, -1), BAD_INT, 0.03))
_ORDER = one_of("ASC", "DESC")
_LIST = pick("l1", "l2")
_SOURCE = mostly(pick("l1", "l2", "s1", "z1"), KEY, 0.08)
_STORE = seq("STORE", mostly(pick("l1", "l2", "d", "d", "e"), KEY, 0.1))


def _many(rng: Rng) -> list[Step]:
    """Many elements, some of them equal or with equal weights, and parts of the result."""
    count = rng.choice((8, 30, 60, 200))
    key = "big"
    steps = [step("DEL", key), step("RPUSH", key, *(rng.randrange(count) for _ in range(count)))]
    weights: list[str | bytes | int] = []
    for each in range(count):
        if rng.random() < 0.8:
            weights += (f"w_{each}", rng.choice((rng.randrange(count), rng.randrange(4))))
    steps.append(step("MSET", *weights))
    for _ in range(6):
        start, size = rng.randrange(count), rng.randrange(count)
        order = rng.choice(("ASC", "DESC"))
        part = ("LIMIT", start, size, order)
        steps += [
            step("SORT", key, *part),
            step("SORT", key, "BY", "w_*", *part, "GET", "#", "GET", "w_*"),
            step("SORT", key, "ALPHA", "BY", "w_*", *part),
            step("SORT", key, "ALPHA", "BY", "w_*", order),
            step("SORT", key, "ALPHA", *part),
            step("SORT", key, "BY", "nosort", *part, "STORE", "d"),
            step("LRANGE", "d", 0, -1),
        ]
    return steps


def _unsorted_set(exchange: Exchange) -> bool:
    """Words may be lost or replaced, so that a set is asked for as it is."""
    words = [word.upper() for word in exchange.argv]
    patterns = [pattern for word, pattern in pairwise(words) if word == b"BY"]
    return words[1] in (b"S1", b"W:SET") and any(b"*" not in pattern for pattern in patterns)


_KNOWN = [Known("redis", {"SORT", "SORT_RO"}, "7.0 keeps sets in an order of its own", _unsorted_set)]

GRAMMAR = Grammar(
    "sort",
    [
        command("RPUSH", _LIST, some(_ELEMENT, 1, 5), weight=5),
        command("SADD", "s1", some(_ELEMENT, 1, 4), weight=3),
        command("SREM", "s1", _NO_NUMBER, "x", weight=1),
        command("LREM", _LIST, 0, one_of(_NO_NUMBER, _WORD), weight=2),
        command("DEL", pick("l1", "l2", "s1", "z1", "d"), weight=1),
        command("ZADD", "z1", some(seq(pick(0, 1, 2, "1.5", -1), _NUMBER), 1, 4), weight=3),
        command("SET", lambda rng: [b"w_" + _ANY(rng)[0]], _ELEMENT, weight=5),
        command("HSET", lambda rng: [b"h_" + _ANY(rng)[0]], pick("f", "g"), _ELEMENT, weight=4),
        command("EXPIRE", lambda rng: [b"w_" + _ANY(rng)[0]], pick(-1, 100), weight=0.5),
        command("SORT", _SOURCE, options(_LIMIT, _ORDER, p=0.3), weight=5),
        command("SORT", _SOURCE, options(_LIMIT, _ORDER, _STORE, "ALPHA", p=0.3), weight=5),
        command("SORT", _SOURCE, options(_BY, _LIMIT, _ORDER, _GET, _GET, p=0.4), weight=8),
        command("SORT", _SOURCE, options(_BY, _LIMIT, _ORDER, _GET, _GET, _STORE, p=0.4), weight=6),
        command("SORT", _LIST, _BY, "ALPHA", options(_LIMIT, _ORDER, _GET, _STORE, p=0.3), weight=5),
        command("SORT", pick("l1", "z1"), _NOSORT, options(_LIMIT, _ORDER, _GET, _STORE, p=0.3), weight=5),
        command("SORT", "s1", _NOSORT, options(_LIMIT, _ORDER, _GET, p=0.3), _STORE, weight=2),
        command("SORT", _LIST, options(_BY, _NOSORT, _NOSORT, _BY, _ORDER, _ORDER, p=0.4), weight=1),
        command("SORT_RO", _SOURCE, options(_BY, _LIMIT, _ORDER, _GET, p=0.4), opt(_STORE, p=0.05), weight=4),
        command("SORT", _LIST, options("BY", "GET", "LIMIT", "STORE", BAD_WORD, p=0.2), weight=0.6),
        command("LRANGE", pick("d", "e", "l1"), 0, -1, weight=5),
        macro("MANY", _many, weight=0.4),
    ],
    known=_KNOWN,
)
