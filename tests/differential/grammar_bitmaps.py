"""The commands on bits of strings."""

from __future__ import annotations

from tests.differential.compare import Exchange, either_error
from tests.differential.grammar import (
    BAD_INT,
    BAD_WORD,
    BIT,
    INDEX,
    INT,
    KEY,
    VALUE,
    Grammar,
    Known,
    Rng,
    Step,
    command,
    macro,
    mostly,
    one_of,
    opt,
    pick,
    seq,
    some,
    step,
)

_ODD_OFFSET = pick(
    *("-1", "4294967295", "4294967296", "9223372036854775807", "-9223372036854775808", "4294967288"),
    *("#", "#-1", "# 1", "#+1", "#01", "#x", "##1", "#4294967296", "#9223372036854775807"),
    *("#288230376151711744", "#576460752303423488", "#1152921504606846976"),
)
_NEAR = pick(*range(20), 23, 24, 31, 32, 63, 64, 100, 200)
_FAR = pick(352, 359, 360, 1000, 8191, 8192, 100000)
# 512 megabytes are not written, to be quick.
_UNWRITTEN = mostly(_ODD_OFFSET, BAD_INT, 0.3)


def _writable(rng: Rng) -> list[bytes]:
    """An odd offset that makes no long string."""
    while (word := _UNWRITTEN(rng)[0]) in (b"4294967295", b"4294967288"):
        pass
    return [word]


_OFFSET = one_of(_NEAR, _FAR, _writable, weights=(80, 12, 8))
_READ_OFFSET = one_of(_NEAR, _FAR, _UNWRITTEN, weights=(80, 12, 8))
_BITS = mostly(pick(0, 1), BIT, 0.1)
_UNIT = mostly(one_of("BIT", "BYTE"), BAD_WORD, 0.04)
_EDGE = one_of(INDEX, pick(*range(-70, 71)), weights=(50, 50))
_RANGE = one_of(seq(_EDGE, _EDGE), seq(_EDGE, _EDGE, _UNIT), weights=(40, 60))
_OPERATION = mostly(
    one_of("AND", "OR", "XOR", "NOT"), one_of(BAD_WORD, pick("DIFF", "DIFF1", "ANDOR", "ONE")), 0.05
)

_TYPE = one_of(
    pick("u1", "u2", "u3", "u4", "u5", "u7", "u8", "u12", "u16", "u31", "u32", "u33", "u62", "u63"),
    pick("i1", "i2", "i3", "i5", "i8", "i13", "i16", "i31", "i32", "i33", "i63", "i64"),
    pick("u0", "u64", "i0", "i65", "i-1", "u", "i", "8", "U8", "I8", "x8", "u08", "u+8", "u8 ", "u1000000000000"),
    weights=(46, 46, 8),
)  # fmt: skip


def _place(offset):  # type: ignore[no-untyped-def]
    field = one_of(pick(*(f"#{n}" for n in range(6))), offset, weights=(35, 65))
    return lambda rng: field(rng)


_NUMBER = one_of(
    INT,
    pick(0, 1, -1, 3, 7, 8, 15, 16, 127, 128, 129, 255, 256, -128, -129, 32767, 32768, 65535, 65536),
    pick("2147483647", "4294967295", "4294967296", "4611686018427387904", "9223372036854775807"),
    pick("-9223372036854775808", "-9223372036854775807", "-4611686018427387905", "-2147483649"),
    weights=(30, 40, 15, 15),
)
_OVERFLOW = seq("OVERFLOW", mostly(one_of("WRAP", "SAT", "FAIL"), BAD_WORD, 0.04))
_GET = seq("GET", _TYPE, _place(_READ_OFFSET))
_SET = seq("SET", _TYPE, _place(_OFFSET), _NUMBER)
_INCRBY = seq("INCRBY", _TYPE, _place(_OFFSET), _NUMBER)
_PART = one_of(_GET, _SET, _INCRBY, seq(_OVERFLOW, _INCRBY), seq(_OVERFLOW, _SET), _OVERFLOW)
_BROKEN = one_of(_PART, BAD_WORD, "GET", "SET", "INCRBY", "OVERFLOW", _TYPE, weights=(60, 8, 8, 8, 8, 4, 4))


def _long(rng: Rng) -> list[Step]:
    """Strings of several thousand bytes, mostly of zeros or ones, and what looks at many bits at once."""
    steps = [step("DEL", "a", "b", "c")]
    for key in ("a", "b", "c"):
        size = rng.choice((0, 1, 7, 8, 31, 32, 33, 1000, 1024, 5000, 16384, 16385, 70000))
        value = bytearray(rng.choice((b"\x00", b"\xff", b"\x55")) * size)
        for _ in range(rng.choice((0, 1, 5))):
            if value:
                value[rng.randrange(size)] = rng.randrange(256)
        steps.append(Step((b"SET", key.encode(), bytes(value))))
        bits = size << 3
        for _ in range(4):
            edges = [rng.choice((0, 1, -1, rng.randint(-bits, bits))) for _ in range(2)]
            for bit in (0, 1):
                steps += [step("BITPOS", key, bit, *edges, "BIT"), step("BITPOS", key, bit, edges[0])]
            steps += [step("BITCOUNT", key, *edges, "BIT"), step("BITCOUNT", key, *edges)]
        steps += [step("BITPOS", key, 0), step("BITPOS", key, 1), step("BITCOUNT", key)]
    for operation in ("AND", "OR", "XOR"):
        keys = [rng.choice(("a", "b", "c", "nokey")) for _ in range(rng.randint(1, 5))]
        steps += [step("BITOP", operation, "d", *keys), step("GET", "d")]
    return [*steps, step("BITOP", "NOT", "d", rng.choice("abc")), step("GET", "d")]


def _counters(rng: Rng) -> list[Step]:
    """One counter that comes to both of its ends, in every way of overflowing."""
    sign, bits = rng.choice("ui"), rng.randint(1, 63)
    field, at = f"{sign}{bits}", rng.randrange(20)
    steps = [step("DEL", "a")]
    for _ in range(8):
        amount = rng.choice((1, -1, 1 << bits - 1, -(1 << bits - 1), rng.randint(-(1 << bits), 1 << bits)))
        amount = max(min(amount, (1 << 63) - 1), -(1 << 63))
        way = rng.choice(("WRAP", "SAT", "FAIL"))
        kind = rng.choice(("INCRBY", "INCRBY", "SET"))
        steps.append(step("BITFIELD", "a", "OVERFLOW", way, kind, field, at, amount, "GET", field, at))
    return steps


def _without_end(exchange: Exchange) -> bool:
    return len(exchange.argv) == 3


GRAMMAR = Grammar(
    "bitmaps",
    [
        command("SETBIT", KEY, _OFFSET, _BITS, weight=8),
        command("GETBIT", KEY, _READ_OFFSET, weight=4),
        command("BITCOUNT", KEY, opt(_RANGE, p=0.8), weight=5),
        command("BITCOUNT", KEY, some(one_of(_EDGE, _UNIT), 0, 4), weight=0.5),
        command("BITPOS", KEY, _BITS, opt(one_of(_EDGE, _RANGE, weights=(25, 75)), p=0.85), weight=8),
        command("BITPOS", KEY, _BITS, some(one_of(_EDGE, _UNIT), 0, 4), weight=0.5),
        command("BITOP", _OPERATION, KEY, some(KEY, 1, 4), weight=6),
        command("BITOP", "NOT", KEY, KEY, weight=2),
        command("BITFIELD", KEY, some(_PART, 0, 4), weight=9),
        command("BITFIELD", KEY, some(_GET, 1, 3), weight=2),
        command("BITFIELD", KEY, some(_BROKEN, 1, 5), weight=1),
        command("BITFIELD_RO", KEY, some(_GET, 0, 3), weight=3),
        command("BITFIELD_RO", KEY, some(_BROKEN, 1, 4), weight=1),
        command("SET", KEY, VALUE, weight=2),
        command("SET", KEY, pick(b"\xff", b"\xff\xff", b"\x00", b"\x00\x00\x00", b"\x00\xff\xf0", b"\xff" * 9)),
        command("APPEND", KEY, VALUE),
        command("GET", KEY, weight=4),
        command("STRLEN", KEY),
        macro("LONG", _long, weight=0.4),
        macro("COUNTERS", _counters, weight=1),
    ],
    known=[
        Known("valkey", {"BITCOUNT"}, "Valkey 8 lets the end of the range be left out", _without_end),
        Known("redis", {"BITCOUNT", "BITPOS"}, "7.0 looks for the key before it checks the words", either_error),
    ],
)  # fmt: skip
