"""Small containers that nobody has used for a while, packed: one object of bytes each.

A packed value has a class of its own for each type, a kind of ``bytes``, so that it takes no object beside it and
nobody takes it for a string: strings are exactly ``bytes``. Each class has its record in TYPES, as every value.

The words stand behind one another, with a byte between them that is in none of them: it comes first, then a word
that says what the value is beside its elements, then the elements in their order, without what all of them begin
with, which comes before them. Integers of a set, and scores, are the items of an array.

Invariants
- A packed value never changes: copies of a key share it.
- What comes out of ``unpack`` answers everything as what went into ``pack`` did: elements and their order, encoding,
  the size of a list.
- A container with a scan order or deadlines is not packed: cursors and timers refer to them.

Costs, of ten short fields: 5 µs to pack, 3 to unpack; 37 bytes beside the words and one a word.

Must not know: keys, databases, what is packed when.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final

from kvstore.engine.codec import length_of, pairs_of, scored_of, strings_of
from kvstore.engine.types import FORMS, TYPES, Target, Value, register
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.set import INTSET, Set
from kvstore.engine.types.zset import ZSet

# Elements of a container up to which it is packed: with more, unpacking takes longer than commands mostly do.
# What has no more is also written to a file in one piece.
MOST_ELEMENTS: Final = 128
# Bytes of its words up to which it is packed: what is longer gains little, and takes long to copy.
MOST_BYTES: Final = 4096
# What may stand between words: not what begins an array of integers, which is a letter.
_SEPARATORS: Final = [bytes((byte,)) for byte in range(256) if not chr(byte).isalnum()]
# Typecodes of arrays by what they hold at most.
_INTEGERS: Final = (("b", 1 << 7), ("h", 1 << 15), ("i", 1 << 31), ("q", 1 << 63))
_ITEM_SIZES: Final = {code: array(code).itemsize for code in "bhiqfd"}
# Scores beyond which a double is not every integer: none of them is kept as one.
_WHOLE: Final = 1 << 53
# Bytes of a packed sorted set before its scores: the separator, whether it is wide, the typecode, the count.
_HEAD: Final = 4


class PackedHash(bytes):
    __slots__ = ()


class PackedSet(bytes):
    __slots__ = ()


class PackedZSet(bytes):
    __slots__ = ()


class PackedList(bytes):
    __slots__ = ()


def _joined(words: list[bytes]) -> bytes | None:
    """The words with a byte between them that none of them has; None where each has been used."""
    joined = b"\0".join(words)
    if joined.count(b"\0") == len(words) - 1:
        return joined
    found = b"".join(words)
    for separator in _SEPARATORS:
        if separator not in found:
            return separator.join(words)
    return None


def _column(words: list[bytes]) -> list[bytes]:
    """What all words begin with, and the rest of each: one word more."""
    low, high = min(words), max(words)
    size = 0
    for one, other in zip(low, high, strict=False):
        if one != other:
            break
        size += 1
    return [low[:size], *[word[size:] for word in words]] if size else [b"", *words]


def _words(column: list[bytes]) -> list[bytes]:
    """The words of a column."""
    begin = column[0]
    return [begin + word for word in column[1:]] if begin else column[1:]


def _integer_code(numbers: list[int]) -> str:
    most = max(max(numbers), -1 - min(numbers))
    return next(code for code, limit in _INTEGERS if most < limit)


# -- hashes ----------------------------------------------------------------------------------------------


def _pack_hash(value: Hash) -> PackedHash | None:
    if len(value) > MOST_ELEMENTS or value.order is not None or value.deadlines is not None:
        return None
    fields, texts = list(value), list(value.values())
    if sum(map(len, fields)) + sum(map(len, texts)) > MOST_BYTES:
        return None
    joined = _joined([b"", b"w" if value.wide else b"n", *_column(fields), *_column(texts)])
    return None if joined is None else PackedHash(joined)


def _pairs(packed: PackedHash) -> tuple[bytes, list[bytes], list[bytes]]:
    """Whether it is wide, the fields, and their values."""
    words = packed.split(packed[:1])
    half = len(words) // 2 + 1
    return words[1], _words(words[2:half]), _words(words[half:])


def _unpack_hash(packed: PackedHash) -> Hash:
    wide, fields, texts = _pairs(packed)
    made = Hash()
    made.update(zip(fields, texts, strict=True))
    made.wide = wide == b"w"
    return made


def _dump_hash(packed: PackedHash, target: Target, compress: bool = False) -> Iterable[bytes]:
    _, fields, texts = _pairs(packed)
    return (length_of(len(fields)) + pairs_of(list(zip(fields, texts, strict=True)), compress),)


# -- sets ------------------------------------------------------------------------------------------------


def _pack_set(value: Set) -> PackedSet | None:
    if len(value) > MOST_ELEMENTS or value.order is not None:
        return None
    if value.encoding == INTSET:
        numbers = list(map(int, value))
        code = _integer_code(numbers)
        return PackedSet(code.encode() + array(code, numbers).tobytes())
    members = list(value)
    if sum(map(len, members)) > MOST_BYTES:
        return None
    joined = _joined([b"", b"%d" % value.encoding, *_column(members)])
    return None if joined is None else PackedSet(joined)


def _members(packed: PackedSet) -> tuple[int, list[bytes]]:
    """The encoding and the members."""
    separator = packed[:1]
    if separator.isalpha():
        return INTSET, list(map(b"%d".__mod__, array(separator.decode(), packed[1:])))
    words = packed.split(separator)
    return int(words[1]), _words(words[2:])


def _unpack_set(packed: PackedSet) -> Set:
    made = Set()
    made.encoding, members = _members(packed)
    made.update(dict.fromkeys(members))
    return made


def _dump_set(packed: PackedSet, target: Target, compress: bool = False) -> Iterable[bytes]:
    members = _members(packed)[1]
    return (length_of(len(members)) + strings_of(members, compress),)


# -- sorted sets -----------------------------------------------------------------------------------------


def _pack_zset(value: ZSet) -> PackedZSet | None:
    scores = value.scores
    if len(scores) > MOST_ELEMENTS or value.order is not None or sum(map(len, scores)) > MOST_BYTES:
        return None
    joined = _joined([b"", *_column(list(scores))])
    if joined is None:
        return None
    found = list(scores.values())
    head = joined[:1] + (b"w" if value.wide else b"n")
    code, items = _scores(found, value.wide)
    return PackedZSet(head + code.encode() + bytes((len(found),)) + items + joined[1:])


def _scores(scores: list[float], wide: bool) -> tuple[str, bytes]:
    """The smallest array that has these scores exactly, negative zeros of a ``wide`` set too: typecode and bytes."""
    if all(map(float.is_integer, scores)) and min(scores) > -_WHOLE and max(scores) < _WHOLE:
        numbers = list(map(int, scores))
        if not (wide and 0 in numbers):
            code = _integer_code(numbers)
            return code, array(code, numbers).tobytes()
    try:
        short = array("f", scores)
        if short.tolist() == scores:
            return "f", short.tobytes()
    except OverflowError:
        pass
    return "d", array("d", scores).tobytes()


def _scored(packed: PackedZSet) -> list[tuple[bytes, float]]:
    """The members with their scores."""
    code = chr(packed[2])
    end = _HEAD + packed[3] * _ITEM_SIZES[code]
    scores = array(code, packed[_HEAD:end])
    return list(zip(_words(packed[end:].split(packed[:1])), map(float, scores), strict=True))


def _unpack_zset(packed: PackedZSet) -> ZSet:
    return ZSet(dict(_scored(packed)), packed[1] == ord("w"))


def _dump_zset(packed: PackedZSet, target: Target, compress: bool = False) -> Iterable[bytes]:
    pairs = _scored(packed)
    return (length_of(len(pairs)) + scored_of(pairs, compress),)


# -- lists -----------------------------------------------------------------------------------------------


def _pack_list(value: List) -> PackedList | None:
    if len(value) > MOST_ELEMENTS:
        return None
    elements = list(value)
    if sum(map(len, elements)) > MOST_BYTES:
        return None
    joined = _joined([b"", b"%b%d" % (b"q" if value.quick else b"n", value.size), *_column(elements)])
    return None if joined is None else PackedList(joined)


def _unpack_list(packed: PackedList) -> List:
    words = packed.split(packed[:1])
    made = List()
    made.extend(_words(words[2:]))
    made.quick, made.size = words[1][:1] == b"q", int(words[1][1:])
    return made


def _dump_list(packed: PackedList, target: Target, compress: bool = False) -> Iterable[bytes]:
    elements = _words(packed.split(packed[:1])[2:])
    return (length_of(len(elements)) + strings_of(elements, compress),)


# -- the table -------------------------------------------------------------------------------------------

PACK: Final[dict[type, Callable[[Any], Value | None]]] = {
    Hash: _pack_hash,
    Set: _pack_set,
    ZSet: _pack_zset,
    List: _pack_list,
}
"""By class of a container, which is not empty: what makes the packed value of it, or None where it stays as it is."""

UNPACK: Final[dict[type, tuple[type, Callable[[Any], Value]]]] = {
    PackedHash: (Hash, _unpack_hash),
    PackedSet: (Set, _unpack_set),
    PackedZSet: (ZSet, _unpack_zset),
    PackedList: (List, _unpack_list),
}
"""By class of a packed value: the container's class, and what makes the container again."""


def container_of(value: Value) -> type:
    """The class of the value as commands see it. O(1)."""
    found = UNPACK.get(type(value))
    return FORMS.get(type(value), type(value)) if found is None else found[0]


def unpacked(value: Value) -> Value:
    """The value as commands see it. O(n) of a packed one."""
    found = UNPACK.get(type(value))
    return value if found is None else found[1](value)


def _register(packed: type, dump: Callable[..., Iterable[bytes]]) -> None:
    container, unpack = UNPACK[packed]
    record = TYPES[container]
    register(
        packed,
        record._replace(
            copy=lambda value: value,
            encoding=lambda value, limits: record.encoding(unpack(value), limits),
            memory=lambda value, samples: sys.getsizeof(value),
            rewrite=lambda key, value: record.rewrite(key, unpack(value)),
            digest=lambda value: record.digest(unpack(value)),
            effort=lambda value: 1,
            check=lambda value: record.check(unpack(value)),
            rdb_type=lambda value, target: record.rdb_type(unpack(value), target),
            dump=dump,
            loaders={},
            least=lambda value: Target.PORTABLE,
            aux=lambda value, target: None,
            apply_aux=lambda value, aux: record.apply_aux(unpack(value), aux),
        ),
    )


for _packed, _dump in (
    (PackedHash, _dump_hash),
    (PackedSet, _dump_set),
    (PackedZSet, _dump_zset),
    (PackedList, _dump_list),
):
    _register(_packed, _dump)
