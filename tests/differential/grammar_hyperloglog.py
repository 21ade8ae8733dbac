"""The commands on HyperLogLogs: their strings are compared byte by byte, as GET and the state show them."""

from __future__ import annotations

from tests.differential.grammar import (
    KEY,
    MEMBER,
    VALUE,
    Grammar,
    Rng,
    Step,
    command,
    macro,
    mostly,
    one_of,
    pick,
    seq,
    some,
    step,
)

_HEAD = b"HYLL\x01" + bytes(3)
_EMPTY = _HEAD + bytes(8) + b"\x7f\xff"
_DENSE = b"HYLL" + bytes(11) + b"\x80"
# Some of them are no HyperLogLogs; some are, and have too few registers, too many, or such as no element makes.
_STRINGS = pick(
    *(_EMPTY, _HEAD + bytes(8), _HEAD + bytes(7), _HEAD + bytes(7) + b"\x80\x7f\xff"),
    *(_HEAD + bytes(7) + b"\x80\x7f\xfe", _HEAD + bytes(7) + b"\x80\x7f\xff\x00"),
    _HEAD + bytes(7) + b"\x80\x84\x84\x84\x84\x7f\xf3",
    *(b"HYLL" + bytes(12), b"HYLL" + bytes(12300), b"HYLL\x02" + bytes(12299), b"HYLL", b"HYLM" + _EMPTY[4:]),
    *(_DENSE + b"\x41\x10\x04" * 4096, _DENSE + b"\xff" * 12288, _DENSE + b"\x33" + b"\xff" * 12287),
    _DENSE + b"\xff" * 9000 + bytes(3288),
)


def _number(rng: Rng) -> list[bytes]:
    return [b"e%d" % rng.randrange(rng.choice((20, 300, 100_000)))]


_ELEMENT = one_of(MEMBER, VALUE, _number, weights=(20, 20, 60))


def _grown(rng: Rng) -> list[Step]:
    """Enough elements for each size of a sparse value, and for a dense one."""
    key = rng.choice(("a", "b", "c"))
    steps: list[Step] = []
    count = rng.choice((50, 300, 1500, 4000))
    prefix = rng.choice(("", "x", "y" * 9))
    for at in range(0, count, 250):
        steps.append(step("PFADD", key, *(f"{prefix}{number}" for number in range(at, at + 250))))
        if rng.random() < 0.3:
            steps += [step("PFCOUNT", key), step("PFDEBUG", "ENCODING", key), step("GET", key)]
    return [*steps, step("PFCOUNT", key), step("GET", key)]


GRAMMAR = Grammar(
    "hyperloglog",
    [
        command("PFADD", KEY, some(_ELEMENT, 0, 6), weight=10),
        command("PFADD", KEY, some(_number, 20, 60), weight=2),
        command("PFCOUNT", KEY, weight=5),
        command("PFCOUNT", some(KEY, 1, 4), weight=3),
        command("PFMERGE", KEY, some(KEY, 0, 3), weight=4),
        command("PFDEBUG", mostly(one_of("ENCODING", "DECODE"), pick("x", ""), 0.05), KEY, weight=2),
        command("PFDEBUG", one_of("GETREG", "TODENSE"), KEY, weight=0.7),
        command("PFSELFTEST", weight=0.02),
        command("SET", KEY, _STRINGS, weight=1.5),
        command("GET", KEY, weight=3),
        command("STRLEN", KEY),
        command("OBJECT ENCODING", KEY),
        command("APPEND", KEY, "\x00", weight=0.2),
        command("SETRANGE", KEY, seq(pick(4, 8, 15, 16, 20), pick(b"\x00", b"\x80", b"\xff")), weight=0.5),
        command("DEL", KEY, weight=0.5),
        command("COPY", KEY, KEY, "REPLACE", weight=0.5),
        macro("GROWN", _grown, weight=0.3),
    ],
    config={"hll-sparse-max-bytes": "400"},
)
