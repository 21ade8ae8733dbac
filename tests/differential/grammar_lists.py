"""The list commands, but for the blocking ones."""

from __future__ import annotations

import random

from tests.differential.compare import ITS_KEY, Exchange
from tests.differential.grammar import (
    BAD_WORD,
    COUNT,
    INDEX,
    INT,
    KEY,
    NEW_KEY,
    SIDE,
    VALUE,
    Grammar,
    Known,
    Step,
    command,
    counted,
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

_PLACE = mostly(one_of("BEFORE", "AFTER"), BAD_WORD, 0.04)
_ELEMENT = one_of(VALUE, pick("a", "b", "c", "x" * 300, "-129", "4096", "70000", "2147483648"))


def _grows_and_shrinks(rng: random.Random) -> list[Step]:
    """A list past the limit of a listpack and back, with its encoding on the way."""
    element = rng.choice(("x" * rng.randint(1, 400), str(rng.randint(-(10**6), 10**6))))
    count = rng.choice((30, 60, 120))
    steps = [step("DEL", "a"), step(rng.choice(("RPUSH", "LPUSH")), "a", *[element] * count)]
    steps.append(step("OBJECT", "ENCODING", "a"))
    for _ in range(6):
        steps.append(step(rng.choice(("LPOP", "RPOP")), "a", rng.randint(1, 20)))
        steps.append(step("OBJECT", "ENCODING", "a"))
    return steps


def _positions(rng: random.Random) -> list[Step]:
    """LPOS over a list with many matches."""
    elements = rng.choices("abc", k=rng.randint(1, 20))
    steps = [step("DEL", "b"), step("RPUSH", "b", *elements)]
    for _ in range(5):
        words = ["LPOS", "b", rng.choice("abcd")]
        for option, low, high in (("RANK", -4, 4), ("COUNT", 0, 4), ("MAXLEN", 0, 12)):
            if rng.random() < 0.5:
                words += [option, str(rng.randint(low, high))]
        steps.append(step(*words))
    return steps


def _wide_index(exchange: Exchange) -> bool:
    """LSET with an index that is no 32-bit integer, which the servers cut down to one."""
    index = exchange.argv[2] if len(exchange.argv) == 4 else b""
    return index.lstrip(b"-").isdigit() and not -(1 << 31) <= int(index) < 1 << 31


def _lowest_count(exchange: Exchange) -> bool:
    return b"-9223372036854775808" in exchange.argv


def _either_encoding(exchange: Exchange) -> bool:
    return {exchange.ours, exchange.theirs} == {b"$8\r\nlistpack\r\n", b"$9\r\nquicklist\r\n"}


GRAMMAR = Grammar(
    "lists",
    [
        command("LPUSH", KEY, some(_ELEMENT, 1, 4), weight=4),
        command("RPUSH", KEY, some(_ELEMENT, 1, 6), weight=5),
        command("LPUSHX", KEY, some(_ELEMENT, 1, 3)),
        command("RPUSHX", KEY, some(_ELEMENT, 1, 3)),
        command("LPOP", KEY, opt(COUNT), weight=2),
        command("RPOP", KEY, opt(COUNT), weight=2),
        command("LPOP", KEY, COUNT, BAD_WORD, weight=0.1),
        command("LLEN", KEY),
        command("LINDEX", KEY, INDEX, weight=2),
        command("LRANGE", KEY, INDEX, INDEX, weight=3),
        command("LSET", KEY, INDEX, _ELEMENT, weight=2),
        command("LINSERT", KEY, _PLACE, _ELEMENT, _ELEMENT, weight=2),
        command("LREM", KEY, INT, _ELEMENT, weight=2),
        command("LTRIM", KEY, INDEX, INDEX),
        command(
            "LPOS",
            KEY,
            _ELEMENT,
            options(seq("RANK", INT), seq("COUNT", COUNT), seq("MAXLEN", COUNT), p=0.4),
            weight=2,
        ),
        command("LPOS", KEY, _ELEMENT, some(BAD_WORD, 1, 2), weight=0.3),
        command("LMOVE", KEY, KEY, SIDE, SIDE, weight=3),
        command("RPOPLPUSH", KEY, KEY, weight=2),
        command("LMPOP", counted(KEY, 1, 3), SIDE, options(seq("COUNT", COUNT)), weight=2),
        command("LMPOP", counted(KEY, 1, 2), SIDE, some(BAD_WORD, 1, 2), weight=0.3),
        command("DEL", NEW_KEY, weight=0.7),
        macro("GROW_AND_SHRINK", _grows_and_shrinks, weight=0.15),
        macro("POSITIONS", _positions, weight=0.2),
    ],
    known=[
        Known(
            "valkey",
            {"OBJECT"},
            "how soon a quicklist is a listpack again depends on its nodes",
            _either_encoding,
        ),
        Known(
            "redis",
            {"LREM", "LPOS"},
            "7.0 takes the lowest integer as a count",
            _lowest_count,
            repair=(b"DEL", ITS_KEY),
        ),
        Known("valkey", {"LSET"}, "valkey cuts the index to 32 bits", _wide_index, repair=(b"DEL", ITS_KEY)),
    ],
)
