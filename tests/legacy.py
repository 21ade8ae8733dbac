"""Small encoders of every form in which Redis and Valkey have written values, and a sample of each.

They are made from what is known of the formats, apart from the code that they test. ``samples`` gives the
body of a value, as RDB files and payloads have it, and what it holds.

Must not know: the store's containers, its codec.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Word = bytes | int

# ------------------------------------------------------------------------- lengths and strings


def length(n: int, form: int = 0) -> bytes:
    """A length in the shortest form, or in that of ``form`` bytes (1, 2, 5, 9)."""
    if form == 1 or (not form and n < 1 << 6):
        return bytes((n,))
    if form == 2 or (not form and n < 1 << 14):
        return struct.pack(">H", n | 0x4000)
    if form == 5 or (not form and n < 1 << 32):
        return b"\x80" + struct.pack(">I", n)
    return b"\x81" + struct.pack(">Q", n)


def string(b: bytes) -> bytes:
    return length(len(b)) + b


def integer(n: int, width: int) -> bytes:
    """A string that is an integer of 1, 2 or 4 bytes."""
    return bytes((0xC0 | {1: 0, 2: 1, 4: 2}[width],)) + n.to_bytes(width, "little", signed=True)


def squeezed(b: bytes) -> bytes:
    """A string compressed: runs of a byte become copies, all else stands as it is."""
    packed, at = bytearray(), 0
    while at < len(b):
        run = 1
        while at + run < len(b) and run < 260 and b[at + run] == b[at]:
            run += 1
        if run < 5:
            packed += bytes((0, b[at]))
            at += 1
        else:  # the byte, and a copy of what is one back
            copied = run - 1 - 2
            packed += bytes((0, b[at])) + (
                bytes((copied << 5, 0)) if copied < 7 else bytes((0xE0, copied - 7, 0))
            )
            at += run
    return b"\xc3" + length(len(packed)) + length(len(b)) + bytes(packed)


def ascii_double(digits: bytes | int) -> bytes:
    """A score of old sorted sets: digits, or a code (253 NaN, 254 and 255 the infinities)."""
    return bytes((digits,)) if isinstance(digits, int) else bytes((len(digits),)) + digits


# -------------------------------------------------------------------------- packed encodings


def zipmap(pairs: Sequence[tuple[bytes, bytes]], free: int = 0, count: int | None = None) -> bytes:
    """Of the hashes before 2.6; ``free``: bytes left behind each value."""

    def size(n: int) -> bytes:
        return bytes((n,)) if n < 254 else b"\xfe" + struct.pack("<I", n)

    head = min(len(pairs), 254) if count is None else count
    body = b"".join(
        size(len(name)) + name + size(len(value)) + bytes((free,)) + value + b"?" * free
        for name, value in pairs
    )
    return bytes((head,)) + body + b"\xff"


def ziplist_word(word: Word, width: int = 0) -> bytes:
    """An element without the length before it. ``width``: bytes of an integer, if not the fewest."""
    if isinstance(word, bytes):
        if len(word) < 1 << 6:
            return bytes((len(word),)) + word
        if len(word) < 1 << 14:
            return struct.pack(">H", len(word) | 0x4000) + word
        return b"\x80" + struct.pack(">I", len(word)) + word
    if not width and 0 <= word <= 12:
        return bytes((0xF1 + word,))
    if not width:
        width = next(n for n in (1, 2, 3, 4, 8) if -(1 << 8 * n - 1) <= word < 1 << 8 * n - 1)
    head = {1: 0xFE, 2: 0xC0, 3: 0xF0, 4: 0xD0, 8: 0xE0}[width]
    return bytes((head,)) + word.to_bytes(width, "little", signed=True)


def ziplist(words: Iterable[Word], *, long: bool = False, width: int = 0) -> bytes:
    """``long``: lengths of the previous element take five bytes where one is enough."""
    body, last, before, count = bytearray(), 0, 0, 0
    for word in words:
        last = len(body)
        told = bytes((before,)) if before < 254 and not long else b"\xfe" + struct.pack("<I", before)
        body += told + ziplist_word(word, 0 if isinstance(word, bytes) else width)
        before = len(body) - last
        count += 1
    return struct.pack("<IIH", len(body) + 11, 10 + last, min(count, 65535)) + bytes(body) + b"\xff"


def intset(numbers: Iterable[int], width: int) -> bytes:
    ordered = sorted(numbers)
    body = b"".join(number.to_bytes(width, "little", signed=True) for number in ordered)
    return struct.pack("<II", width, len(ordered)) + body


def listpack_word(word: Word, width: int = 0) -> bytes:
    """An element without its size. ``width``: bytes of an integer, if not the fewest."""
    if isinstance(word, bytes):
        if len(word) < 1 << 6:
            return bytes((0x80 | len(word),)) + word
        if len(word) < 1 << 12:
            return struct.pack(">H", len(word) | 0xE000) + word
        return b"\xf0" + struct.pack("<I", len(word)) + word
    if not width and 0 <= word < 128:
        return bytes((word,))
    if not width and -(1 << 12) <= word < 1 << 12:
        return struct.pack(">H", word & 0x1FFF | 0xC000)
    if not width:
        width = next(n for n in (2, 3, 4, 8) if -(1 << 8 * n - 1) <= word < 1 << 8 * n - 1)
    return bytes(({2: 0xF1, 3: 0xF2, 4: 0xF3, 8: 0xF4}[width],)) + word.to_bytes(width, "little", signed=True)


def back_size(size: int) -> bytes:
    """The size of an element, to be read from its end: seven bits a byte, marked where more come."""
    if size <= 127:
        groups = 1
    else:
        groups = next(n for n in range(2, 6) if n == 5 or size < (1 << 7 * n) - 1)
    return bytes(size >> 7 * (groups - 1 - at) & 0x7F | (0x80 if at else 0) for at in range(groups))


def listpack(words: Iterable[Word], *, width: int = 0, uncounted: bool = False) -> bytes:
    """``uncounted``: the head says that one has to count, as it must from 65,535 elements on."""
    entries = [listpack_word(word, 0 if isinstance(word, bytes) else width) for word in words]
    body = b"".join(entry + back_size(len(entry)) for entry in entries)
    count = 65535 if uncounted else min(len(entries), 65535)
    return struct.pack("<IH", len(body) + 7, count) + body + b"\xff"


# ----------------------------------------------------------------------------------- samples


@dataclass(frozen=True)
class Sample:
    """A value in one encoding."""

    name: str
    number: int  # of the RDB type
    body: bytes
    kind: str  # as TYPE says
    content: Any  # bytes, list, set, dict of fields, or dict of scores
    version: int = 1  # of RDB, from which on it may be read
    deadlines: dict[bytes, int] = field(default_factory=dict)  # of fields, in ms


def digits(word: Word) -> bytes:
    return word if isinstance(word, bytes) else b"%d" % word


# At the limits of every width, and beyond.
INTEGERS: list[int] = sorted(
    {0, 12, 13, -1, 127, 128}
    | {sign * (1 << bits) + by for bits in (7, 12, 15, 23, 31, 63) for sign in (-1, 1) for by in (-1, 0, 1)}
)
INTEGERS = [number for number in INTEGERS if -(1 << 63) <= number < 1 << 63]
# Sizes of strings, and then of whole elements of packed encodings, at which a form ends.
SIZES = [63, 64, 125, 126, 250, 251, 253, 254, 4095, 4096, 16377, 16378, 16383, 16384]
# What only looks like an integer, and strings of all forms.
TEXTS: list[bytes] = [
    b"", b"a", b"\0\xff", b"007", b"-0", b"+1", b"1.0", b"9223372036854775808", b"%d" % -((1 << 63) + 1),
    *(bytes((97 + at,)) * size for at, size in enumerate(SIZES)),
]  # fmt: skip
WORDS: list[Word] = [word for pair in zip(INTEGERS, TEXTS * 3, strict=False) for word in pair]
PAIRS = [(b"field", b"value"), (b"", b"empty"), (b"n", b"17"), (b"none", b"")]
HASH = dict(PAIRS)
SCORES = {b"one": 1.0, b"half": -0.5, b"big": 1e300, b"up": float("inf"), b"down": float("-inf"), b"17": 3.0}
# Far in the future, and exact in a listpack.
DEADLINE_MS = 4_000_000_000_000


def _flat(pairs: Iterable[tuple[Word, Word]]) -> list[Word]:
    return [word for pair in pairs for word in pair]


def _score(score: float) -> Word:
    """As a packed sorted set has it: an integer where it is one."""
    return int(score) if abs(score) < 1e15 and score == int(score) else b"%.17g" % score


def _many(count: int) -> list[Word]:
    return [n if n % 3 else b"w%d" % n for n in range(count)]


def _lists() -> Iterable[Sample]:
    def of(name: str, number: int, body: bytes, words: Iterable[Word], version: int = 1) -> Sample:
        return Sample(f"list-{name}", number, body, "list", [digits(word) for word in words], version)

    short: list[Word] = [b"a", 1, b"bc", -70000, b""]
    yield of("plain", 1, length(5) + b"".join(string(digits(word)) for word in short), short)
    yield of(
        "plain-of-integers",
        1,
        b"\x03" + integer(-5, 1) + integer(300, 2) + integer(-70000, 4),
        [-5, 300, -70000],
    )
    yield of(
        "plain-with-long-lengths", 1, length(2, 9) + length(1, 5) + b"a" + length(2, 2) + b"bc", [b"a", b"bc"]
    )
    yield of("ziplist", 10, string(ziplist(short)), short)
    yield of("ziplist-of-one", 10, string(ziplist([7])), [7])
    yield of("ziplist-of-all", 10, string(ziplist(WORDS)), WORDS)
    yield of("ziplist-with-long-lengths", 10, string(ziplist(short, long=True)), short)
    for width, numbers in (
        (1, [-128, 5, 127]),
        (2, [-300, 5]),
        (3, [1 << 20, -5]),
        (4, [1 << 30, 0]),
        (8, [1 << 60, 1]),
    ):
        yield of(f"ziplist-of-{width}", 10, string(ziplist(numbers, width=width)), numbers)
    yield of("ziplist-compressed", 10, squeezed(ziplist([b"x" * 300, 1])), [b"x" * 300, 1])
    yield of(
        "ziplists",
        14,
        b"\x03" + b"".join(string(ziplist(each)) for each in (short, [1], [b"z" * 300])),
        [*short, 1, b"z" * 300],
        7,
    )
    nodes = (
        b"\x03\x02"
        + string(listpack(short))
        + b"\x01"
        + string(b"large" * 100)
        + b"\x02"
        + string(listpack([5]))
    )
    yield of("nodes", 18, nodes, [*short, b"large" * 100, 5], 10)
    yield of("nodes-of-all", 18, b"\x01\x02" + string(listpack(WORDS)), WORDS, 10)
    for width, numbers in ((2, [5, -300]), (3, [1 << 20, -5]), (4, [1 << 30, 0]), (8, [1 << 60, 1])):
        yield of(f"nodes-of-{width}", 18, b"\x01\x02" + string(listpack(numbers, width=width)), numbers, 10)
    yield of("nodes-uncounted", 18, b"\x01\x02" + string(listpack(short, uncounted=True)), short, 10)
    yield of(
        "nodes-compressed",
        18,
        b"\x02\x01" + squeezed(b"y" * 999) + b"\x02" + squeezed(listpack([b"x" * 99])),
        [b"y" * 999, b"x" * 99],
        10,
    )
    yield of("nodes-plain-integer", 18, b"\x01\x01" + integer(77, 1), [77], 10)


def _sets() -> Iterable[Sample]:
    def of(name: str, number: int, body: bytes, words: Iterable[Word], version: int = 1) -> Sample:
        return Sample(f"set-{name}", number, body, "set", {digits(word) for word in words}, version)

    words: list[Word] = [b"a", 1, b"bc", -70000, b""]
    yield of("plain", 2, length(5) + b"".join(string(digits(word)) for word in words), words)
    for width in (2, 4, 8):
        edge = 1 << 8 * width - 1
        yield of(
            f"intset-{width}",
            11,
            string(intset([-edge, -1, 0, 5, edge - 1], width)),
            [-edge, -1, 0, 5, edge - 1],
        )
    yield of("intset-wider-than-needed", 11, string(intset([1, 2], 8)), [1, 2])
    yield of("listpack", 20, string(listpack(words)), words, 11)
    distinct: list[Word] = [*INTEGERS, *TEXTS]
    yield of("listpack-of-all", 20, string(listpack(distinct)), distinct, 11)


def _hashes() -> Iterable[Sample]:
    def of(name: str, number: int, body: bytes, fields: dict[bytes, bytes], version: int = 1) -> Sample:
        return Sample(f"hash-{name}", number, body, "hash", fields, version)

    words = _flat(PAIRS)
    packed: list[Word] = [17 if word == b"17" else word for word in words]
    yield of("plain", 4, length(4) + b"".join(string(digits(word)) for word in words), HASH)
    yield of("zipmap", 9, string(zipmap(PAIRS)), HASH)
    yield of("zipmap-with-free-bytes", 9, string(zipmap(PAIRS, free=3)), HASH)
    long = [(b"f" * 253, b"v" * 253), (b"g" * 254, b"w" * 254), (b"h" * 255, b"x" * 70000)]
    yield of("zipmap-of-long-words", 9, string(zipmap(long)), dict(long))
    many = [(b"f%d" % n, b"%d" % n) for n in range(300)]
    yield of("zipmap-that-does-not-count", 9, string(zipmap(many)), dict(many))
    yield of("ziplist", 13, string(ziplist(packed)), HASH)
    yield of("ziplist-of-a-long-word", 13, string(ziplist([b"f", b"v" * 99])), {b"f": b"v" * 99})
    yield of("listpack", 16, string(listpack(packed)), HASH, 10)
    yield of("listpack-compressed", 16, squeezed(listpack([b"f", b"v" * 200])), {b"f": b"v" * 200}, 10)


def _timed_hashes() -> Iterable[Sample]:
    """With deadlines of fields: of Redis 7.4 (two forms), of Valkey 9."""

    def of(name: str, number: int, body: bytes, version: int, deadlines: dict[bytes, int]) -> Sample:
        return Sample(f"hash-{name}", number, body, "hash", HASH, version, deadlines)

    deadlines = {b"field": DEADLINE_MS, b"n": DEADLINE_MS + 300}
    soonest = DEADLINE_MS.to_bytes(8, "little")

    def body(before: Callable[[bytes], bytes], behind: Callable[[bytes], bytes]) -> bytes:
        return length(4) + b"".join(
            before(name) + string(name) + string(value) + behind(name) for name, value in PAIRS
        )

    later = body(
        lambda name: length(deadlines[name] - DEADLINE_MS + 1 if name in deadlines else 0), lambda name: b""
    )
    yield of("timed", 24, soonest + later, 12, deadlines)
    untimed = body(lambda name: b"\0", lambda name: b"")
    yield of("timed-without-any", 24, ((1 << 48) - 1).to_bytes(8, "little") + untimed, 12, {})
    triples = [word for name, value in PAIRS for word in (name, value, deadlines.get(name, 0))]
    yield of("timed-listpack", 25, soonest + string(listpack(triples)), 12, deadlines)
    absolute = body(lambda name: b"", lambda name: deadlines.get(name, -1).to_bytes(8, "little", signed=True))
    yield of("timed-valkey", 22, absolute, 80, deadlines)


def _zsets() -> Iterable[Sample]:
    def of(name: str, number: int, body: bytes, scores: dict[bytes, float], version: int = 1) -> Sample:
        return Sample(f"zset-{name}", number, body, "zset", scores, version)

    codes: dict[float, bytes | int] = {float("inf"): 254, float("-inf"): 255}
    old = b"".join(
        string(name) + ascii_double(codes.get(score, b"%.17g" % score)) for name, score in SCORES.items()
    )
    yield of("ascii", 3, length(len(SCORES)) + old, SCORES)
    new = b"".join(string(name) + struct.pack("<d", score) for name, score in SCORES.items())
    yield of("binary", 5, length(len(SCORES)) + new, SCORES, 8)
    ordered = sorted(SCORES.items(), key=lambda pair: pair[1])
    words = _flat((17 if name == b"17" else name, _score(score)) for name, score in ordered)
    yield of("ziplist", 12, string(ziplist(words)), SCORES)
    yield of("listpack", 17, string(listpack(words)), SCORES, 10)
    long: list[Word] = [b"m" * 99, b"0.5"]
    yield of("ziplist-of-a-long-word", 12, string(ziplist(long)), {b"m" * 99: 0.5})
    yield of("listpack-of-a-long-word", 17, string(listpack(long)), {b"m" * 99: 0.5}, 10)


def samples() -> list[Sample]:
    """A value in every encoding of every type, small ones first in each."""
    strings = [
        ("plain", string(b"value"), b"value"),
        ("empty", string(b""), b""),
        ("of-14-bits", string(b"v" * 300), b"v" * 300),
        ("of-32-bits", length(300, 5) + b"v" * 300, b"v" * 300),
        ("of-64-bits", length(3, 9) + b"abc", b"abc"),
        ("integer-1", integer(-128, 1), b"-128"),
        ("integer-2", integer(-32768, 2), b"-32768"),
        ("integer-4", integer(-(1 << 31), 4), b"-2147483648"),
        ("compressed", squeezed(b"ab" + b"c" * 300 + b"d" * 20), b"ab" + b"c" * 300 + b"d" * 20),
    ]
    return [
        *(Sample(f"string-{name}", 0, body, "string", content) for name, body, content in strings),
        *_lists(),
        *_sets(),
        *_hashes(),
        *_timed_hashes(),
        *_zsets(),
    ]


def large_samples() -> list[Sample]:
    """With more elements than the heads of packed encodings count, and longer ones."""
    many = _many(65_535)
    content = [digits(word) for word in many]
    # The last sizes of an element that three bytes tell, and the first that take four.
    long: list[Word] = [b"x" * (size - 5) for size in (2097150, 2097151)]
    return [
        Sample("list-ziplist-of-many", 10, string(ziplist(many)), "list", content),
        Sample("list-nodes-of-many", 18, b"\x01\x02" + string(listpack(many)), "list", content, 10),
        Sample("list-nodes-of-megabytes", 18, b"\x01\x02" + string(listpack(long)), "list", long, 10),
        Sample("set-listpack-of-many", 20, string(listpack(many)), "set", set(content), 11),
    ]
