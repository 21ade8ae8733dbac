"""Bitmaps: the typed methods. A bitmap is a string; its first bit is the highest of the first byte.

Whatever looks at many bits does so by large integers or by what ``bytes`` compare and search at C speed,
a piece at a time that the caches hold. SETBIT and BITFIELD copy the string, which is immutable: some 25 µs
for a megabyte, as APPEND and SETRANGE do (see ``strings.py``).

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.types.string import EMBSTR_MAX, remember_encoding
from kvstore.errors import SYNTAX, DataError, ResponseError, err
from kvstore.numbers import INT64_MAX, as_int

NOT_OFFSET: Final = "ERR bit offset is not an integer or out of range"
NOT_BIT: Final = "ERR bit is not an integer or out of range"
NOT_FIELD: Final = (
    "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)
# BITOP's, and what came with Redis 8.2.
OPERATIONS: Final = frozenset((b"AND", b"OR", b"XOR", b"NOT"))
NEWER_OPERATIONS: Final = frozenset((b"DIFF", b"DIFF1", b"ANDOR", b"ONE"))

# Bytes that are made one integer, at most.
_PIECE: Final = 1 << 14
_INVERTED: Final = bytes(range(255, -1, -1))
# Long strings of the byte that has no bit of the kind that is looked for; and the search for another one.
_BARREN: Final = {byte: (bytes((byte,)) * (1 << 16), bytes((byte,)) * (1 << 10)) for byte in (0, 255)}
_OTHER: Final = {0: re.compile(rb"[^\x00]"), 255: re.compile(rb"[^\xff]")}


class Field(NamedTuple):
    """A part of a BITFIELD: GET, SET or INCRBY of one field. ``operand``: what is set or added."""

    kind: bytes
    signed: bool
    bits: int
    at: int
    operand: int
    overflow: bytes


class BitFieldOperation:
    """Gathers what BITFIELD is to do, as redis-py's class of this name; ``execute()`` does it."""

    def __init__(self, run: Callable[[list[EncodableT]], Any], default_overflow: str | None = None):
        self._run = run
        self._default_overflow = default_overflow
        self.reset()

    def reset(self) -> None:
        """Forget what was gathered. O(1)."""
        self.operations: list[tuple[EncodableT, ...]] = []
        self._last_overflow = "WRAP"
        self.overflow(self._default_overflow or self._last_overflow)

    def overflow(self, overflow: str) -> BitFieldOperation:
        """What happens when a later ``set`` or ``incrby`` overflows: WRAP, SAT or FAIL. O(1)."""
        overflow = overflow.upper()
        if overflow != self._last_overflow:
            self._last_overflow = overflow
            self.operations.append(("OVERFLOW", overflow))
        return self

    def incrby(
        self, fmt: str, offset: int | str, increment: int, overflow: str | None = None
    ) -> BitFieldOperation:
        """Add to the field at ``offset`` (bits, or ``#n``: its n-th field); gives its new value. O(1)."""
        if overflow is not None:
            self.overflow(overflow)
        self.operations.append(("INCRBY", fmt, offset, increment))
        return self

    def get(self, fmt: str, offset: int | str) -> BitFieldOperation:
        """Read the field at ``offset``, of the format ``fmt``: ``u8``, ``i16``, ... O(1)."""
        self.operations.append(("GET", fmt, offset))
        return self

    def set(self, fmt: str, offset: int | str, value: int) -> BitFieldOperation:
        """Write the field at ``offset``; gives its value before. O(1)."""
        self.operations.append(("SET", fmt, offset, value))
        return self

    def execute(self) -> Any:
        """Do it all; a list with an integer for each part but OVERFLOW, None where it failed. O(parts)."""
        words: list[EncodableT] = [word for operation in self.operations for word in operation]
        self.reset()
        return self._run(words)


class Bitmaps(Keyspace):
    """Bitmaps."""

    __slots__ = ()

    # -- one bit -----------------------------------------------------------------------------------

    def _bit_offset(self, offset: object, bits: int = 0) -> int:
        """The place of a bit; with ``bits`` also ``#n``, the place of the n-th field of that many bits."""
        if bits and type(offset) is bytes and offset.startswith(b"#"):
            at = as_int(offset[1:], NOT_OFFSET) * bits
            at = (at + (1 << 63)) % (1 << 64) - (1 << 63)  # the product is 64 bits long on the servers
        else:
            at = as_int(offset, NOT_OFFSET)
        if not 0 <= at < self.ctx.limits.proto_max_bulk_len << 3:
            raise ResponseError(NOT_OFFSET)
        return at

    def setbit(self, name: KeyT, offset: int, value: int) -> int:
        """Set (or for a ``value`` of 0 clear) the bit at ``offset``; what it was. O(length).

        The string is padded with zero bytes up to there. Raises ResponseError for a negative offset and one
        beyond ``proto-max-bulk-len``, WrongTypeError.
        """
        return self._setbit(to_bytes(name), offset, 1 if value else 0)

    def _setbit(self, key: bytes, offset: object, value: object) -> int:
        at = self._bit_offset(offset)
        bit = as_int(value, NOT_BIT)
        if bit not in (0, 1):
            raise ResponseError(NOT_BIT)
        old = self._write_as(key, bytes)
        place, mask = at >> 3, 0x80 >> (at & 7)
        if old is None or place >= len(old):
            before, length = 0, len(old or b"")
            new = b"%b%b%c" % (old or b"", bytes(place - length), mask if bit else 0)
        else:
            byte = old[place]
            before = 1 if byte & mask else 0
            if before == bit:
                if len(old) <= EMBSTR_MAX:  # the servers make it raw nevertheless
                    self._store_string(key, b"".join((old[:1], old[1:])))
                return bit
            view = memoryview(old)
            new = b"".join((view[:place], bytes((byte ^ mask,)), view[place + 1 :]))
        self._store_string(key, new, new=old is None)
        self.dirty += 1
        if self._live:
            self.commit((b"SETBIT", key, b"%d" % at, b"%d" % bit), ("setbit", key))
        return before

    def _store_string(self, key: bytes, value: bytes, *, new: bool = False) -> None:
        remember_encoding(value, "raw")
        if new:
            self._create(key, value)
        else:
            self._data[key] = value

    def getbit(self, name: KeyT, offset: int) -> int:
        """The bit at ``offset``; 0 beyond the end. O(1).

        Raises ResponseError for a negative offset and one beyond ``proto-max-bulk-len``, WrongTypeError.
        """
        at = self._bit_offset(offset)
        value = self._read_as(to_bytes(name), bytes)
        if value is None or at >> 3 >= len(value):
            return 0
        return value[at >> 3] >> (7 - (at & 7)) & 1

    # -- many bits ---------------------------------------------------------------------------------

    def bitcount(
        self, key: KeyT, start: int | None = None, end: int | None = None, mode: str | None = None
    ) -> int:
        """How many bits are set, from ``start`` to ``end``, both included, negative from the end. O(length).

        They count bytes, or with the ``mode`` "BIT" bits. Raises DataError where only one of them is given,
        ResponseError for a range that is none, WrongTypeError.
        """
        if (start is None) != (end is None):
            raise DataError("Both start and end must be specified")
        given: list[object] = [] if start is None else [start, end]
        return self._bitcount(to_bytes(key), *given, *([] if mode is None else [mode]))

    def _bitcount(self, key: bytes, *words: object) -> int:
        if len(words) not in (0, 2, 3):
            raise ResponseError(SYNTAX)
        start = as_int(words[0]) if words else 0
        by_bits = len(words) == 3 and _counts_bits(words[2])
        end = as_int(words[1]) if words else -1
        value = self._read_as(key, bytes)
        if not value or (start < 0 and end < 0 and start > end):
            return 0
        first, last = _within(start, end, len(value), by_bits)
        return _ones(value, first, last) if first <= last else 0

    def bitpos(
        self,
        key: KeyT,
        bit: int,
        start: int | None = None,
        end: int | None = None,
        mode: str | None = None,
    ) -> int:
        """The place of the first bit that is ``bit``, or -1. O(length).

        From ``start`` to ``end``, both included, negative from the end, in bytes or with the ``mode`` "BIT"
        in bits. A string of ones with no ``end`` has its first 0 behind its last byte. Raises DataError for
        another bit and an end without a start, ResponseError for a range that is none, WrongTypeError.
        """
        if bit not in (0, 1):
            raise DataError("bit must be 0 or 1")
        if start is None and end is not None:
            raise DataError("start argument is not set, when end is specified")
        given = [word for word in (start, end, mode) if word is not None]
        return self._bitpos(to_bytes(key), bit, *given)

    def _bitpos(self, key: bytes, bit: object, *words: object) -> int:
        wanted = as_int(bit)
        if wanted not in (0, 1):
            raise err("The bit argument must be 1 or 0.")
        if len(words) > 3:
            raise ResponseError(SYNTAX)
        start = as_int(words[0]) if words else 0
        by_bits = len(words) == 3 and _counts_bits(words[2])
        end = as_int(words[1]) if len(words) > 1 else -1
        value = self._read_as(key, bytes)
        if value is None:
            return -1 if wanted else 0
        first, last = _within(start, end, len(value), by_bits)
        if first > last:
            return -1
        found = _first(value, wanted, first, last)
        return len(value) << 3 if found < 0 and not wanted and len(words) < 2 else found

    def bitop(self, operation: str, dest: KeyT, *keys: KeyT) -> int:
        """Combine strings bit by bit and keep the result at ``dest``; its length. O(length of all).

        AND, OR, XOR; NOT of one. DIFF: the bits of the first that no other has; DIFF1: those of the others
        that the first has not; ANDOR: those of the first that another has; ONE: those of just one. Shorter
        strings are padded with zero bytes; of an empty result no key is left. Raises ResponseError for
        another operation and a wrong number of keys, WrongTypeError.
        """
        if not keys:
            raise err("wrong number of arguments for 'bitop' command")
        return self._bitop(to_bytes(operation), to_bytes(dest), [to_bytes(key) for key in keys])

    def _bitop(self, word: bytes, target: bytes, keys: list[bytes], newer: bool = True) -> int:
        name = word.upper()
        if name not in OPERATIONS and not (newer and name in NEWER_OPERATIONS):
            raise ResponseError(SYNTAX)
        if name == b"NOT" and len(keys) != 1:
            raise err("BITOP NOT must be called with a single source key.")
        if name in (b"DIFF", b"DIFF1", b"ANDOR") and len(keys) < 2:
            raise err(f"BITOP {name.decode()} must be called with at least two source keys.")
        values = [self._read_as(key, bytes) or b"" for key in keys]
        size = max(map(len, values))
        if not size:
            if self._write(target) is not None:
                self._delete(target, "del")
            return 0
        result = values[0].translate(_INVERTED) if name == b"NOT" else _combined(_WAYS[name], values, size)
        remember_encoding(result, "raw")
        self._write(target)
        self._overwrite(target, result)
        self.dirty += 1
        if self._live:
            # Older servers read the log too.
            effect = (b"BITOP", name, target, *keys) if name in OPERATIONS else (b"SET", target, result)
            self.commit(effect, ("set", target))
        return size

    # -- fields of integers ------------------------------------------------------------------------

    def bitfield(self, key: KeyT, default_overflow: str | None = None) -> BitFieldOperation:
        """What reads and writes integers of any number of bits at once: ``get``, ``set``, ``incrby`` and
        ``overflow`` of what is returned gather, ``execute()`` gives a list of integers.

        O(length) for a change, O(1) otherwise. Raises, at the end, ResponseError for a bad field, offset or
        value, WrongTypeError.
        """
        name = to_bytes(key)
        return BitFieldOperation(
            lambda words: self._bitfield(name, *[to_bytes(word) for word in words]), default_overflow
        )

    def bitfield_ro(
        self,
        key: KeyT,
        encoding: str,
        offset: int | str,
        items: list[tuple[str, int | str]] | None = None,
    ) -> list[int]:
        """Integers of so many bits: that at ``offset``, and that of each format and offset in ``items``.

        O(fields). Raises ResponseError for a bad field or offset, WrongTypeError.
        """
        words: list[bytes] = []
        for fmt, at in [(encoding, offset), *(items or [])]:
            words += (b"GET", to_bytes(fmt), to_bytes(at))
        return self._bitfield_ro(to_bytes(key), *words)

    def _bitfield_ro(self, key: bytes, *words: bytes) -> list[int]:
        fields = self._fields(words)
        if any(field.kind != b"GET" for field in fields):
            raise err("BITFIELD_RO only supports the GET subcommand")
        value = self._read_as(key, bytes) or b""
        return [_get(value, field) for field in fields]

    def _bitfield(self, key: bytes, *words: bytes) -> list[int | None]:
        fields = self._fields(words)
        ends = [field.at + field.bits for field in fields if field.kind != b"GET"]
        if not ends:
            return [*self._bitfield_ro(key, *words)]
        old = self._write_as(key, bytes)
        held, size = old or b"", max(ends) + 7 >> 3
        grown = size - len(held)
        # Only what the fields span is copied more than once.
        low = min(field.at for field in fields) >> 3
        high = max(field.at + field.bits for field in fields) + 7 >> 3
        span = bytearray(held[low:high].ljust(size - low, b"\0"))
        results: list[int | None] = []
        changes = 0
        for each in fields:
            field = each._replace(at=each.at - (low << 3))
            before = _get(span, field)
            if field.kind == b"GET":
                results.append(before)
                continue
            after = _fitted(field.operand if field.kind == b"SET" else before + field.operand, field)
            if after is not None:
                changes += grown > 0 or after != before
                _put(span, field, after)
            results.append(None if after is None else before if field.kind == b"SET" else after)
        if grown > 0 or changes or len(held) <= EMBSTR_MAX:
            view = memoryview(held)
            parts = (view[:low], bytes(max(0, low - len(held))), span, view[low + len(span) :])
            self._store_string(key, b"".join(parts), new=old is None)
        if grown > 0 or changes:
            # Where all fields overflowed, a server tells nobody that the string has grown. Here it counts.
            self.dirty += changes or 1
            if self._live:
                self.commit((b"BITFIELD", key, *words), ("setbit" if changes else "touched", key))
        return results

    def _fields(self, words: Sequence[bytes]) -> list[Field]:
        """The parts of a BITFIELD. Raises ResponseError for what is none."""
        fields: list[Field] = []
        overflow, at, count = b"WRAP", 0, len(words)
        while at < count:
            kind, left = words[at].upper(), count - at - 1
            if kind == b"OVERFLOW" and left:
                overflow = words[at + 1].upper()
                if overflow not in (b"WRAP", b"SAT", b"FAIL"):
                    raise err("Invalid OVERFLOW type specified")
                at += 2
                continue
            if kind not in _FIELD_WORDS or left < _FIELD_WORDS[kind]:
                raise ResponseError(SYNTAX)
            signed, bits = _format(words[at + 1])
            place = self._bit_offset(words[at + 2], bits)
            operand = 0 if kind == b"GET" else as_int(words[at + 3])
            fields.append(Field(kind, signed, bits, place, operand, overflow))
            at += 1 + _FIELD_WORDS[kind]
        return fields


_FIELD_WORDS: Final = {b"GET": 2, b"SET": 3, b"INCRBY": 3}  # words that follow


def _counts_bits(word: object) -> bool:
    """Whether a range is in bits rather than in bytes."""
    unit = to_bytes(word).upper()
    if unit not in (b"BIT", b"BYTE"):
        raise ResponseError(SYNTAX)
    return unit == b"BIT"


def _within(start: int, end: int, length: int, by_bits: bool) -> tuple[int, int]:
    """The first and the last bit of a range; the last is before the first where there is none."""
    size = length << 3 if by_bits else length
    if start < 0:
        start = max(start + size, 0)
    if end < 0:
        end = max(end + size, 0)
    end = min(end, size - 1)
    return (start, end) if by_bits else (start << 3, (end << 3) + 7)


def _ones(value: bytes, first: int, last: int) -> int:
    """How many bits are set from ``first`` to ``last``."""
    at, end = first >> 3, (last >> 3) + 1
    count = (
        -(value[at] >> (8 - (first & 7))).bit_count() - (value[end - 1] & (0x7F >> (last & 7))).bit_count()
    )
    view = memoryview(value)
    for piece in range(at, end, _PIECE):
        count += int.from_bytes(view[piece : min(piece + _PIECE, end)], "little").bit_count()
    return count


def _first(value: bytes, bit: int, first: int, last: int) -> int:
    """The first bit that is ``bit``, from ``first`` to ``last``, or -1."""
    at, end = first >> 3, (last >> 3) + 1
    barren = 0 if bit else 255
    byte = (value[at] ^ barren) & (0xFF >> (first & 7))
    if not byte:
        at += 1
        for block in _BARREN[barren]:
            while at + len(block) <= end and value.startswith(block, at):
                at += len(block)
        found = _OTHER[barren].search(value, at, end)
        if found is None:
            return -1
        at = found.start()
        byte = value[at] ^ barren
    place = (at << 3) + 8 - byte.bit_length()
    return place if place <= last else -1


def _and(values: list[int]) -> int:
    result = values[0]
    for value in values:
        result &= value
    return result


def _or(values: list[int]) -> int:
    result = 0
    for value in values:
        result |= value
    return result


def _xor(values: list[int]) -> int:
    result = 0
    for value in values:
        result ^= value
    return result


def _one(values: list[int]) -> int:
    some = several = 0
    for value in values:
        several |= some & value
        some |= value
    return some ^ several


# The operations of BITOP but NOT, on pieces of the strings as integers.
_WAYS: Final[dict[bytes, Callable[[list[int]], int]]] = {
    b"AND": _and,
    b"OR": _or,
    b"XOR": _xor,
    b"DIFF": lambda values: values[0] & ~_or(values[1:]),
    b"DIFF1": lambda values: ~values[0] & _or(values[1:]),
    b"ANDOR": lambda values: values[0] & _or(values[1:]),
    b"ONE": _one,
}


def _combined(way: Callable[[list[int]], int], values: list[bytes], size: int) -> bytes:
    """All pieces of the strings, combined. Little-endian, a shorter one is padded by itself."""
    views = [memoryview(value) for value in values]
    read = int.from_bytes
    return b"".join(
        way([read(view[at : at + _PIECE], "little") for view in views]).to_bytes(
            min(_PIECE, size - at), "little"
        )
        for at in range(0, size, _PIECE)
    )


def _format(word: bytes) -> tuple[bool, int]:
    """Whether a field is signed, and its bits."""
    signed = word[:1] == b"i"
    if not signed and word[:1] != b"u":
        raise err(NOT_FIELD)
    bits = as_int(word[1:], "ERR " + NOT_FIELD)
    if not 1 <= bits <= (64 if signed else 63):
        raise err(NOT_FIELD)
    return signed, bits


def _get(value: bytes | bytearray, field: Field) -> int:
    """The field's number; what is beyond the end is zero."""
    first, end = field.at >> 3, field.at + field.bits + 7 >> 3
    piece = value[first:end]
    bits = int.from_bytes(piece, "big") << (end - first - len(piece) << 3)
    number = bits >> ((end << 3) - field.at - field.bits) & ((1 << field.bits) - 1)
    return number - (1 << field.bits) if field.signed and number >> (field.bits - 1) else number


def _put(buffer: bytearray, field: Field, number: int) -> None:
    """Write the number, which fits, into the field, which is there."""
    first, end = field.at >> 3, field.at + field.bits + 7 >> 3
    shift, mask = (end << 3) - field.at - field.bits, (1 << field.bits) - 1
    bits = int.from_bytes(buffer[first:end], "big") & ~(mask << shift) | (number & mask) << shift
    buffer[first:end] = bits.to_bytes(end - first, "big")


def _fitted(number: int, field: Field) -> int | None:
    """The number as the field can have it, or None where it may not overflow."""
    low, high = 0, (1 << field.bits) - 1
    if field.signed:
        low, high = -(1 << (field.bits - 1)), high >> 1
    if low <= number <= high:
        return number
    if field.overflow == b"FAIL":
        return None
    if field.overflow == b"SAT":
        # An unsigned field takes what is set as unsigned: a negative number is a large one. So is, on the
        # servers, one so far below the field that its distance from the top has no place in 64 bits.
        is_small = field.kind == b"INCRBY" or (field.signed and high - number <= INT64_MAX)
        is_large = number > high or not is_small
        return high if is_large else low
    return (number - low) % (1 << field.bits) + low
