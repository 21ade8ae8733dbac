"""Lists: a deque of elements, and what the server's encoding of them would be.

Invariants
- ``size``, where it is known (not UNKNOWN), is the number of bytes that the elements would take as a
  listpack. It is known while the list is small enough for the encoding to depend on it.
- ``quick`` is the server's quicklist encoding: it comes when a command would take the listpack past the
  limit of ``list-max-listpack-size``, and goes when half the limit is enough again.

Costs: both ends O(1); an index O(distance to the nearer end / 64).

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from kvstore.engine.codec import Reader, length_of, pieces_of, strings_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.packed import listpack, ziplist
from kvstore.engine.types import Target, ValueType, register
from kvstore.errors import FormatError
from kvstore.numbers import parse_int

UNKNOWN = -1
# What a node of a list may be, in files of Redis from 7 on.
_NODE_PLAIN = 1
_NODE_PACKED = 2
# Bytes of a listpack's head and end.
_LISTPACK_FRAME = 7
# Sizes that list-max-listpack-size -1 to -5 stand for, in bytes.
_SIZE_LIMITS = (4096, 8192, 16384, 32768, 65536)
# With a limit by count, no listpack is larger than this, in bytes.
_SAFE_SIZE = 8192
_MOST_COUNT = 1 << 62
# Elements of one command when a list is written as commands, as the server's log rewrite has it.
_REWRITE_BATCH = 64


def entry_size(element: bytes) -> int:
    """Bytes that an element takes in a listpack: its head, its bytes or integer, and its own length."""
    length = len(element)
    if 0 < length <= 20 and (element[0] <= 57 and (element[0] >= 48 or element[0] == 45)):
        number = parse_int(element)
        if number is not None:
            return _integer_size(number)
    if length < 64:
        return length + 2
    encoded = length + (2 if length < 4096 else 5)
    if encoded <= 127:
        return encoded + 1
    return encoded + (2 if encoded < 16383 else 3 if encoded < 2097151 else 4 if encoded < 268435455 else 5)


def _integer_size(number: int) -> int:
    if 0 <= number <= 127:
        return 2
    if -4096 <= number <= 4095:
        return 3
    magnitude = number if number >= 0 else -number - 1
    return 4 if magnitude < 1 << 15 else 5 if magnitude < 1 << 23 else 6 if magnitude < 1 << 31 else 10


def _limits(limits: Limits) -> tuple[int, int]:
    """The most bytes and the most elements of one listpack."""
    fill = limits.list_max_listpack_size
    if fill >= 0:
        return _SAFE_SIZE, max(fill, 1)
    return _SIZE_LIMITS[min(-fill, len(_SIZE_LIMITS)) - 1], _MOST_COUNT


class List(deque[bytes]):
    __slots__ = ("quick", "size")

    def __init__(self, elements: Iterable[bytes] = ()) -> None:
        super().__init__(elements)
        self.quick = False
        self.size = _LISTPACK_FRAME + sum(map(entry_size, self))

    @classmethod
    def sized(cls, elements: Iterable[bytes], limits: Limits) -> List:
        """A list made in one go, with the encoding that its size calls for. O(n)."""
        made = cls()
        made.extend(elements)
        most_bytes, most = _limits(limits)
        count = len(made)
        if count > most or count * 2 > most_bytes:  # no element takes less than two bytes
            made.quick, made.size = True, UNKNOWN
            return made
        made.size = _LISTPACK_FRAME + sum(map(entry_size, made))
        made.quick = made.size > most_bytes
        return made

    def grow(self, elements: Iterable[bytes], count: int, limits: Limits) -> None:
        """Take the encoding for ``count`` more elements, which are about to be put in."""
        if self.quick:
            return
        most_bytes, most = _limits(limits)
        if self.size + sum(map(len, elements)) > most_bytes or len(self) + count > most:
            self.quick = True

    def counted(self, element: bytes) -> None:
        """An element came."""
        if self.size != UNKNOWN:
            self.size = UNKNOWN if self.quick and self._is_large() else self.size + entry_size(element)

    def uncounted(self, element: bytes) -> None:
        """An element went."""
        if self.size != UNKNOWN:
            self.size -= entry_size(element)

    def _is_large(self) -> bool:
        # Twice what half of the largest limit by size can hold: far from the way back.
        return len(self) * 2 > _SIZE_LIMITS[-1]

    def shrunk(self, limits: Limits) -> None:
        """Take the listpack encoding back when half of the limit is enough."""
        if not self.quick:
            return
        most_bytes, most = _limits(limits)
        if len(self) * 4 > most_bytes or len(self) > most // 2:
            self.size = UNKNOWN
            return
        if self.size == UNKNOWN:
            self.size = _LISTPACK_FRAME + sum(map(entry_size, self))
        if self.size <= most_bytes // 2:
            self.quick = False

    def between(self, start: int, stop: int) -> list[bytes]:
        """The elements from ``start`` to before ``stop``, both within the list. O(stop - start + way there)."""
        length = len(self)
        if length - stop < start:
            found = list(islice(reversed(self), length - stop, length - start))
            found.reverse()
            return found
        return list(islice(self, start, stop))


def _copy(value: List) -> List:
    twin = List()
    twin.extend(value)
    twin.quick, twin.size = value.quick, value.size
    return twin


def _memory(value: List, samples: int) -> int:
    count = len(value)
    taken = count if samples == 0 else min(samples, count)
    words = sum(map(sys.getsizeof, islice(value, taken)))
    return sys.getsizeof(value) + (words * count // taken if taken else 0)


def _rewrite(key: bytes, value: List) -> Iterator[Effect]:
    elements = iter(value)
    while batch := tuple(islice(elements, _REWRITE_BATCH)):
        yield (b"RPUSH", key, *batch)


def _check(value: List) -> None:
    assert all(type(element) is bytes for element in value)
    # The size is that of the elements.
    assert value.size in (UNKNOWN, _LISTPACK_FRAME + sum(map(entry_size, value)))
    # A listpack's size is known.
    assert value.quick or value.size != UNKNOWN


def _dump(value: List, target: Target, compress: bool = False) -> Iterable[bytes]:
    return pieces_of(length_of(len(value)), value, strings_of, compress)


def _load(reader: Reader, limits: Limits) -> List:
    return List.sized(reader.strings(reader.count()), limits)


def _load_ziplist(reader: Reader, limits: Limits) -> List:
    return _linked(reader.packed(ziplist), limits)


def _load_ziplists(reader: Reader, limits: Limits) -> List:
    elements: list[bytes] = []
    for _ in range(reader.count()):
        elements += reader.packed(ziplist)
    return _linked(elements, limits)


def _load_nodes(reader: Reader, limits: Limits) -> List:
    """Nodes that are one large element each, or a listpack."""
    elements: list[bytes] = []
    count = reader.count(2)
    container = 0
    for _ in range(count):
        start = reader.pos
        container = reader.length()
        if container == _NODE_PLAIN:
            elements.append(reader.string())
        elif container == _NODE_PACKED:
            elements += reader.packed(listpack)
        else:
            raise FormatError(f"no node of a list is of kind {container}", start)
    if count == 1 and container == _NODE_PACKED:
        return List.sized(elements, limits)
    return _linked(elements, limits)


def _linked(elements: list[bytes], limits: Limits) -> List:
    """A list of nodes, which is a quicklist however small it is, until it shrinks."""
    made = List.sized(elements, limits)
    made.quick = True
    return made


register(
    List,
    ValueType(
        name="list",
        copy=_copy,
        encoding=lambda value, limits: "quicklist" if value.quick else "listpack",
        memory=_memory,
        rewrite=_rewrite,
        digest=lambda value: tuple(value),
        effort=lambda value: max(1, len(value) // 128) if value.quick else 1,
        check=_check,
        rdb_type=lambda value, target: 1,
        dump=_dump,
        loaders={1: _load, 10: _load_ziplist, 14: _load_ziplists, 18: _load_nodes},
    ),
)
