"""Entries of streams as files have them: nodes, which are listpacks named by the ID of their first entry.

A node begins with how many entries it has, how many of them are deleted, and the names of the fields of its first
entry. Then each entry: flags, how far its ID is from the node's, its fields and values (or its values alone,
where the fields are those of the first), and how many elements that were.

Invariants
- What is read is in order, as deleted entries are that are left out, and agrees with the node's own counts.

Costs: reading about 2.3 µs for an entry of one field, 0.7 µs for each further one; writing 2 and 0.5.

Must not know: streams, groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from struct import Struct
from typing import Final, NamedTuple

from kvstore.engine.codec import Reader, compact_string_of, string_of
from kvstore.engine.ids import ID, IdMap
from kvstore.engine.packed import listpack
from kvstore.errors import FormatError
from kvstore.numbers import parse_int

# A field and its value in turn.
Words = tuple[bytes, ...]

# Flags of an entry: it is deleted, its fields are those of the node's first entry.
_DELETED: Final = 1
_SAME: Final = 2
# Elements that stand before the fields or values of an entry.
_BEFORE: Final = 3
# When a node is full, where nobody says otherwise: entries, and bytes.
NODE_ENTRIES: Final = 100
NODE_BYTES: Final = 4096

_ID: Final = Struct(">QQ")
_LISTPACK_HEAD: Final = Struct("<IH")
_LISTPACK_FRAME: Final = 7
_UNCOUNTED: Final = 0xFFFF
_64_BITS: Final = (1 << 64) - 1

# ------------------------------------------------------------------------------------------- reading


def raw_id(reader: Reader) -> ID:
    """An ID as 16 bytes."""
    time, sequence = _ID.unpack(reader.take(_ID.size))
    return time, sequence


class ReadNode(NamedTuple):
    """What a node was that was read."""

    first: ID  # its name
    last: ID  # of its last entry, were it deleted, or what was the last before it
    names: Words
    size: int  # bytes of its listpack
    alive: int
    dead: int


def read_node(reader: Reader, entries: IdMap[Words], last: ID) -> ReadNode:
    """Append the entries of a node, which all come behind ``last``. Raises FormatError."""
    start = reader.pos
    name = reader.string()
    if len(name) != _ID.size:
        raise FormatError(f"a node of a stream is named by {len(name)} bytes", start)
    start = reader.pos
    packed = reader.string()
    try:
        return _take_entries(listpack(packed), len(packed), _ID.unpack(name), entries, last)
    except IndexError:
        raise FormatError("a node of a stream ends within what begins", start) from None
    except FormatError as error:
        raise FormatError(error.text, start) from None


def _number(word: bytes) -> int:
    number = parse_int(word)
    if number is None:
        raise FormatError("a node of a stream has a word where a number must be")
    return number


def _take_entries(words: list[bytes], size: int, first: ID, entries: IdMap[Words], last: ID) -> ReadNode:
    if len(words) <= _BEFORE:
        raise FormatError("a node of a stream has no counts")
    alive, dead, width = map(_number, words[:_BEFORE])
    at = _BEFORE + width
    if width < 0 or words[at] != b"0":
        raise FormatError("a node of a stream has not as many fields as it says")
    names = tuple(words[_BEFORE:at])
    node = (alive, dead)
    at += 1
    first_time, first_sequence = first
    alive_now, end = len(entries) + alive, len(words)
    number, append = parse_int, entries.append
    while at < end:
        flags, later, higher = number(words[at]), number(words[at + 1]), number(words[at + 2])
        if flags is None or later is None or higher is None:
            raise FormatError("a node of a stream has a word where a number must be")
        if not 0 <= flags <= _DELETED | _SAME:
            raise FormatError("an entry of a stream has unknown flags")
        start = at
        if flags & _SAME:
            at += _BEFORE
            count = width
            values = words[at : at + count]
            at += count
            held = (
                (names[0], values[0])
                if count == 1
                else tuple(chain.from_iterable(zip(names, values, strict=False)))
            )
        else:
            count = _number(words[at + _BEFORE])
            if count < 0:
                raise FormatError("an entry of a stream has fewer fields than none")
            at += _BEFORE + 1
            held = tuple(words[at : at + 2 * count])
            at += 2 * count
        if words[at] != b"%d" % (at - start):
            raise FormatError("an entry of a stream has not as many elements as it says")
        if not count:
            raise FormatError("an entry of a stream has no fields")
        at += 1
        id = (first_time + later & _64_BITS, first_sequence + higher & _64_BITS)
        if id <= last:
            raise FormatError("the entries of a stream are not in order")
        last = id
        if flags & _DELETED:
            dead -= 1
        else:
            append(id, held)
    if dead or len(entries) != alive_now:
        raise FormatError("a node of a stream has not as many entries as it says")
    return ReadNode(first, last, names, size, *node)


# ------------------------------------------------------------------------------------------- writing

# Behind an element stands its size: these are all of the short ones, whole.
_SMALL: Final = [bytes((n, 1)) for n in range(128)]
_HEADS: Final = [bytes((0x80 | n,)) for n in range(64)]
_TAILS: Final = [bytes((n + 1,)) for n in range(64)]
# An ID that stands 64 bits behind another one is written as standing so much before it.
_HALF: Final = 1 << 63


def _behind(element: bytes) -> bytes:
    """An element, and its size in groups of 7 bits, the last group first."""
    size = len(element)
    if size < 128:
        return element + bytes((size,))
    groups = []
    while size:
        groups.append(size & 0x7F | 0x80)
        size >>= 7
    groups[-1] &= 0x7F
    return element + bytes(reversed(groups))


def _integer(n: int) -> bytes:
    """An integer of 64 bits as an element."""
    if 0 <= n < 128:
        return _SMALL[n]
    if -4096 <= n < 4096:
        n &= 0x1FFF
        return bytes((0xC0 | n >> 8, n & 0xFF, 2))
    for code, width in ((0xF1, 2), (0xF2, 3), (0xF3, 4)):
        if -1 << 8 * width - 1 <= n < 1 << 8 * width - 1:
            return bytes((code, *n.to_bytes(width, "little", signed=True), width + 1))
    return bytes((0xF4, *n.to_bytes(8, "little", signed=True), 9))


def _element(word: bytes) -> bytes:
    size = len(word)
    # Integers, whose last character is a digit, become such.
    if 0 < size <= 20 and 48 <= word[-1] <= 57 and (number := parse_int(word)) is not None:
        return _integer(number)
    if size < 64:
        return _HEADS[size] + word + _TAILS[size]
    if size < 4096:
        return _behind(bytes((0xE0 | size >> 8, size & 0xFF)) + word)
    return _behind(b"\xf0" + size.to_bytes(4, "little") + word)


def _distance(n: int) -> bytes:
    """How far one number of 64 bits is behind another, with 64 bits and a sign."""
    if 0 <= n < 128:
        return _SMALL[n]
    n &= _64_BITS
    return _integer(n if n < _HALF else n - 2 * _HALF)


def node_of(entries: Iterable[tuple[ID, Words]], compress: bool) -> bytes:
    """The node of these entries, of which there is one: its name and its listpack."""
    element, distance = _element, _distance
    parts: list[bytes] = []
    count = width = 0
    names: Words = ()
    first = time, sequence = 0, 0
    for id, words in entries:
        if not count:
            first = time, sequence = id
            names = words[::2]
            width = len(names)
            parts += (_integer(width), *map(element, names), _SMALL[0])
        later, higher = distance(id[0] - time), distance(id[1] - sequence)
        if words[::2] == names:
            parts += (_SMALL[_SAME], later, higher, *map(element, words[1::2]), _integer(_BEFORE + width))
        else:
            fields = _integer(len(words) // 2)
            parts += (
                _SMALL[0],
                later,
                higher,
                fields,
                *map(element, words),
                _integer(_BEFORE + 1 + len(words)),
            )
        count += 1
    string = compact_string_of if compress else string_of
    return string_of(_ID.pack(*first)) + string(_listpack(count, parts))


def _listpack(entries: int, parts: list[bytes]) -> bytes:
    """A node of that many entries, made of the elements that stand behind its counts."""
    elements = min(2 + len(parts), _UNCOUNTED)
    body = _integer(entries) + _SMALL[0] + b"".join(parts)
    return _LISTPACK_HEAD.pack(_LISTPACK_FRAME + len(body), elements) + body + b"\xff"
