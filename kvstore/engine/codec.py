"""Primitives of the value encodings that Redis and Valkey keep in files and payloads.

Lengths, strings, doubles and integers as RDB files have them, their checksum (CRC64) and their
compression (LZF). ``Reader`` reads; ``length_of``, ``string_of`` and ``strings_of`` write.

Invariants
- A Reader never reads past its end, and reserves no memory because bytes claim a size: every length is
  compared with what remains first. What does not fit is a FormatError that names the offset.
- What is written here, every Redis since 1.0 reads: strings are stored as they are (never as integers).
  Compression is for those who ask for it.

Costs: a string about 0.15 µs to read or write. CRC64 runs at gigabytes a second with ``anycrc``, at about
20 MB/s without; LZF in C with ``python-neo-lzf``. Without that library compressed strings are read in Python, at
about 20 MB/s of output in the worst case, and none is written.

Must not know: types of values, keys, files.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from mmap import mmap
from struct import Struct
from typing import Any, TypeVar

from kvstore.errors import FormatError
from kvstore.numbers import parse_float

try:
    import lzf as _lzf
except ImportError:
    _lzf = None

Buffer = bytes | mmap
T = TypeVar("T")

# The polynomial of the checksum ("Jones"), reflected.
_POLYNOMIAL = 0x95AC9329AC4BC9B5
# Three bytes of LZF stand for at most this many.
_LZF_LONGEST = 264
# Shorter strings are not worth compressing, and others must become this much shorter; in bytes. Longer ones would
# keep everybody waiting: random bytes take 6 ms a MB.
_LZF_LEAST = 21
_LZF_MOST = 1 << 19
_LZF_GAIN = 4
# Containers up to this many elements are written as one piece; the size of pieces of larger values, in bytes.
PIECE_COUNT = 128
PIECE_BYTES = 1 << 16

_DOUBLE = Struct("<d")
_U32_BE = Struct(">I")
_U64_BE = Struct(">Q")


class EmptyValueError(FormatError):
    """A container without elements. The reader has read it, and stands behind it."""


class Reader:
    """Reads ``data`` (bytes, or a mapped file) from ``pos`` on, never past ``end``.

    Every method moves ``pos`` over what it has read; after an error ``pos`` is anywhere up to the bad place.
    """

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: Buffer, pos: int = 0, end: int | None = None):
        self.data = data
        self.pos = pos
        self.end = len(data) if end is None else end

    def left(self) -> int:
        """How many bytes remain."""
        return self.end - self.pos

    def short(self, wanted: int) -> FormatError:
        """The error of one who wants that many bytes and finds fewer."""
        return FormatError(f"ends too early: {wanted} bytes wanted, {self.left()} left", self.pos)

    def byte(self) -> int:
        """One byte, as a number."""
        pos = self.pos
        if pos >= self.end:
            raise self.short(1)
        self.pos = pos + 1
        return self.data[pos]

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        pos = self.pos
        stop = pos + count
        if stop > self.end:
            raise self.short(count)
        self.pos = stop
        return self.data[pos:stop]

    def skip(self, count: int) -> None:
        """Go on without the next ``count`` bytes."""
        if count > self.end - self.pos:
            raise self.short(count)
        self.pos += count

    # -- lengths and strings -----------------------------------------------------------------------

    def length(self) -> int:
        """A length: 1, 2, 5 or 9 bytes, most significant first."""
        first = self.byte()
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise FormatError(f"no length begins with byte 0x{first:02x}", self.pos - 1)

    def count(self, least: int = 1) -> int:
        """The number of elements that follow, each of at least ``least`` bytes."""
        start = self.pos
        count = self.length()
        if count * least > self.end - self.pos:
            raise FormatError(f"{count} elements cannot be in the {self.left()} bytes left", start)
        return count

    def string(self) -> bytes:
        """A string in any of its forms: as it is, an integer, compressed."""
        pos = self.pos
        if pos >= self.end:
            raise self.short(1)
        first = self.data[pos]
        if first < 0x40:
            pos += 1
            stop = pos + first
        elif first < 0xC0:
            length = self.length()
            pos = self.pos
            stop = pos + length
        else:
            return self._special(first)
        if stop > self.end:
            self.pos = pos
            raise self.short(stop - pos)
        self.pos = stop
        return self.data[pos:stop]

    def _special(self, first: int) -> bytes:
        """A string that is stored as something else."""
        start = self.pos
        self.pos = start + 1
        if first <= 0xC2:
            return b"%d" % int.from_bytes(self.take(1 << (first - 0xC0)), "little", signed=True)
        if first != 0xC3:
            raise FormatError(f"no string begins with byte 0x{first:02x}", start)
        packed_size, size = self.length(), self.length()
        packed = self.take(packed_size)
        try:
            return lzf_decompress(packed, size)
        except FormatError as error:
            raise FormatError(error.text, start)

    def strings(self, count: int) -> list[bytes]:
        """The next ``count`` strings. As ``count`` calls of ``string``, at twice the speed."""
        data, pos, end = self.data, self.pos, self.end
        if count > end - pos:
            raise FormatError(f"{count} strings cannot be in the {end - pos} bytes left", pos)
        found: list[bytes] = []
        append, string = found.append, self.string
        for _ in range(count):
            if pos < end and (first := data[pos]) < 0x40:
                start = pos + 1
                pos = start + first
                append(data[start:pos])  # cut short where it passes the end, which the next look finds
            elif pos > end:
                break
            else:
                self.pos = pos
                append(string())
                pos = self.pos
        self.pos = min(pos, end)
        if pos > end:
            raise FormatError(f"ends too early: a string goes {pos - end} bytes past the end", end)
        return found

    def packed(self, unpack: Callable[[bytes], list[bytes]]) -> list[bytes]:
        """The elements that the next string holds, as ``unpack`` finds them."""
        start = self.pos
        try:
            return unpack(self.string())
        except FormatError as error:
            raise FormatError(error.text, start) from None

    # -- numbers -----------------------------------------------------------------------------------

    def double(self) -> float:
        """Eight bytes, little endian."""
        pos = self.pos
        if pos + 8 > self.end:
            raise self.short(8)
        self.pos = pos + 8
        value: float = _DOUBLE.unpack_from(self.data, pos)[0]
        return value

    def ascii_double(self) -> float:
        """A number in digits with one byte of length before it, as old sorted sets have them."""
        start = self.pos
        length = self.byte()
        if length >= 253:
            return (float("nan"), float("inf"), float("-inf"))[length - 253]
        digits = self.take(length)
        value = parse_float(digits)
        if value is None:
            raise FormatError("a score is no number", start)
        return value

    def u16le(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32le(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64le(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def i64le(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)


# ------------------------------------------------------------------------------------- writing

# The lengths that one or two bytes tell, up to a size at which a call is no longer the most of the cost.
_HEADS = [bytes((n,)) for n in range(0x40)] + [bytes((0x40 | n >> 8, n & 0xFF)) for n in range(0x40, 0x200)]


def length_of(n: int) -> bytes:
    """A length as RDB has it."""
    if n < 0x200:
        return _HEADS[n]
    if n < 0x4000:
        return bytes((0x40 | n >> 8, n & 0xFF))
    if n < 1 << 32:
        return b"\x80" + _U32_BE.pack(n)
    return b"\x81" + _U64_BE.pack(n)


def string_of(b: bytes) -> bytes:
    """A string as RDB has it, as it is."""
    n = len(b)
    return (_HEADS[n] if n < 0x200 else length_of(n)) + b


def compact_string_of(b: bytes) -> bytes:
    """A string as RDB has it, compressed if that makes it shorter."""
    n = len(b)
    if n >= _LZF_LEAST:
        packed = lzf_compress(b)
        if packed is not None:
            return b"".join((b"\xc3", length_of(len(packed)), length_of(n), packed))
    return (_HEADS[n] if n < 0x200 else length_of(n)) + b


# Of strings that are too short to be compressed.
_SHORT_HEADS = _HEADS[:_LZF_LEAST]


def strings_of(words: Iterable[bytes], compress: bool = False) -> bytes:
    """Strings one after the other. ``words`` may be iterated twice, so no iterator."""
    heads = _SHORT_HEADS if compress else _HEADS
    try:
        return b"".join([heads[len(word)] + word for word in words])
    except IndexError:  # one of them is long
        string = compact_string_of if compress else string_of
        return b"".join([string(word) for word in words])


def pairs_of(pairs: Iterable[tuple[bytes, bytes]], compress: bool = False) -> bytes:
    """As ``strings_of``, of two strings at a time."""
    heads = _SHORT_HEADS if compress else _HEADS
    try:
        return b"".join([heads[len(one)] + one + heads[len(two)] + two for one, two in pairs])
    except IndexError:
        string = compact_string_of if compress else string_of
        return b"".join([string(word) for pair in pairs for word in pair])


def scored_of(pairs: Iterable[tuple[bytes, float]], compress: bool = False) -> bytes:
    """As ``pairs_of``, of a string and a double each."""
    heads, double = _SHORT_HEADS if compress else _HEADS, _DOUBLE.pack
    try:
        return b"".join([heads[len(word)] + word + double(score) for word, score in pairs])
    except IndexError:
        string = compact_string_of if compress else string_of
        return b"".join([string(word) + double(score) for word, score in pairs])


def pieces_of(
    head: bytes, elements: Collection[T], encode: Callable[[Collection[T], bool], bytes], compress: bool
) -> Iterable[bytes]:
    """The body of a container in pieces: ``head``, and its elements by ``encode``."""
    if len(elements) <= PIECE_COUNT:
        return (head + encode(elements, compress),)
    return LargePieces(head, elements, encode, compress)


class Pieces(Iterator[bytes]):
    """The body of a large value, of which each step makes a piece."""

    __slots__ = ()

    @abstractmethod
    def go_on_with(self, twin: Iterable[bytes]) -> None:
        """Take what is left from the pieces of an equal value, as this one is about to change."""


class LargePieces(Pieces):
    """The body of a large container, of which each step encodes a piece."""

    __slots__ = ("_compress", "_done", "_each", "_elements", "_encode", "_head", "_taken")

    def __init__(
        self,
        head: bytes,
        elements: Iterable[T],
        encode: Callable[[Collection[T], bool], bytes],
        compress: bool,
    ):
        self._head: bytes | None = head
        self._elements: Iterable[Any] = elements
        self._encode: Callable[[Any, bool], bytes] = encode
        self._compress = compress
        self._each: Iterator[Any] = iter(elements)
        self._done = 0  # elements
        self._taken = PIECE_COUNT  # how many the next piece takes

    def __next__(self) -> bytes:
        head = self._head
        if head is not None:
            self._head = None
            return head
        batch = list(islice(self._each, self._taken))
        if not batch:
            raise StopIteration
        piece = self._encode(batch, self._compress)
        self._done += len(batch)
        # As many as make about one piece, going by the last ones.
        self._taken = max(1, min(self._taken * 8, len(batch) * PIECE_BYTES // (len(piece) or 1)))
        return piece

    def go_on_with(self, twin: Iterable[bytes]) -> None:
        # O(n), as it counts its way to where it was.
        assert isinstance(twin, LargePieces)
        self._elements, self._encode = twin._elements, twin._encode
        self._each = islice(iter(self._elements), self._done, None)


# ------------------------------------------------------------------------------------ checksum


def crc64(data: bytes | memoryview | mmap, crc: int = 0) -> int:
    """The checksum of files and payloads; ``crc`` is that of the bytes before ``data``. O(n)."""
    return (_calculate or _load_crc64())(data, crc)


_calculate: Callable[[bytes | memoryview | mmap, int], int] | None = None
_crc_table: list[int] = []


def _load_crc64() -> Callable[[bytes | memoryview | mmap, int], int]:
    """The library if it is there. Loading it takes as long as a third of the engine, so nobody does it who needs no
    checksum."""
    global _calculate
    try:
        from anycrc import Model

        _calculate = Model("CRC64-REDIS").calc
    except ImportError:
        _calculate = crc64_pure
    return _calculate


def _make_table() -> None:
    """What two bytes at a time do to a checksum: 65,536 entries, about 2.6 MB, made on first need."""
    one = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (_POLYNOMIAL if n & 1 else 0)
        one.append(n)
    _crc_table.extend([one[(n >> 8) ^ (c := one[n & 0xFF]) & 0xFF] ^ c >> 8 for n in range(1 << 16)])


def crc64_pure(data: bytes | memoryview | mmap, crc: int = 0) -> int:
    """``crc64`` in Python alone. O(n), about 20 MB/s."""
    if not _crc_table:
        _make_table()
    table, view = _crc_table, memoryview(data)
    even = len(view) & ~1
    # A part at a time, so that a mapped file is not read into memory whole.
    for at in range(0, even, PIECE_BYTES):
        pairs = array("H", view[at : min(at + PIECE_BYTES, even)].tobytes())
        if sys.byteorder == "big":
            pairs.byteswap()
        for pair in pairs:
            crc = table[(crc ^ pair) & 0xFFFF] ^ crc >> 16
    if even < len(view):
        crc ^= view[even]
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


# --------------------------------------------------------------------------------- compression


def lzf_compress(data: bytes) -> bytes | None:
    """``data`` compressed, or None when there is no library, nothing to gain, or too much to do. O(n)."""
    if _lzf is None or not _LZF_LEAST <= len(data) <= _LZF_MOST:
        return None
    packed: bytes | None = _lzf.compress(data, len(data) - _LZF_GAIN)
    return packed


def lzf_decompress(data: bytes, size: int) -> bytes:
    """What was compressed to ``data`` and was ``size`` bytes long.

    Raises FormatError if ``data`` is not that. O(size), and never more memory than 88 times ``data``.
    """
    if size > len(data) * (_LZF_LONGEST // 3):
        raise FormatError(f"{len(data)} compressed bytes cannot be {size} bytes")
    if _lzf is None or not size:  # which the library has no answer to
        return lzf_decompress_pure(data, size)
    try:
        plain: bytes | None = _lzf.decompress(data, size)
    except ValueError:
        plain = None
    if plain is None or len(plain) != size:
        raise FormatError("compressed bytes are not what they should be")
    return plain


def lzf_decompress_pure(data: bytes, size: int) -> bytes:
    """``lzf_decompress`` in Python alone."""
    plain = bytearray()
    pos, end = 0, len(data)
    try:
        while pos < end:
            control = data[pos]
            pos += 1
            if control < 32:  # so many bytes, and one, as they are
                stop = pos + control + 1
                if stop > end:
                    raise IndexError
                plain += data[pos:stop]
                pos = stop
            else:  # a copy of what came before
                length = control >> 5
                if length == 7:
                    length += data[pos]
                    pos += 1
                length += 2
                start = len(plain) - ((control & 0x1F) << 8 | data[pos]) - 1
                pos += 1
                if start < 0:
                    raise IndexError
                seen = plain[start : start + length]
                if len(seen) < length:  # it runs into itself: a pattern, repeated
                    seen = (seen * (length // len(seen) + 1))[:length]
                plain += seen
            if len(plain) > size:
                raise IndexError
    except IndexError:
        raise FormatError("compressed bytes are not what they should be")
    if len(plain) != size:
        raise FormatError("compressed bytes are not what they should be")
    return bytes(plain)
