"""Lists: a deque of elements, and what the server's encoding of them would be.

A long list keeps only its ends so; between them its elements stand in packed blocks, which take a third of the
memory. It is the same object whose class is another one (``LongList``), so whoever has it goes on.

Invariants
- ``size``, where it is known (not UNKNOWN), is the number of bytes that the elements would take as a
  listpack. It is known while the list is small enough for the encoding to depend on it.
- ``quick`` is the server's quicklist encoding: it comes when a command would take the listpack past the
  limit of ``list-max-listpack-size``, and goes when half the limit is enough again.

- A long list's elements are those of the deque itself, then those of its blocks, then those of its tail. No block
  is empty; ``sizes`` is None while each has ``BLOCK`` elements. It is short again once it is a listpack.

Costs: both ends O(1); an index O(distance to the nearer end / 64). Of a long list: an index or a change in the middle
O(n / 8,000), and O(n / 128) once elements were inserted or removed there; a block is packed or unpacked for each 128
pushes or pops, in about 3 us.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice, repeat
from marshal import dumps, loads
from typing import SupportsIndex

from kvstore.engine.codec import Reader, length_of, pieces_of, strings_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.packed import listpack, ziplist
from kvstore.engine.types import FORMS, TYPES, Target, ValueType, register
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
_USUAL_LIMITS = (_SIZE_LIMITS[1], _MOST_COUNT)
# Elements of a block of a long list; how many make a list long.
BLOCK = 128
LONG = 2048
# Elements from which no limit by size or by count calls for a single listpack.
FAR = 16384
# A block that takes more bytes is not packed: its elements are so long that little would be gained.
_PACKED_MOST = 64 * BLOCK
# How blocks are packed: the first version that writes nothing but the elements and their lengths.
_VERSION = 2
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
    if fill == -2:  # unless it has been set
        return _USUAL_LIMITS
    if fill >= 0:
        return _SAFE_SIZE, max(fill, 1)
    return _SIZE_LIMITS[min(-fill, len(_SIZE_LIMITS)) - 1], _MOST_COUNT


class List(deque[bytes]):
    __slots__ = ("quick", "rest", "size")

    rest: Rest  # of a long list alone

    def __init__(self, elements: Iterable[bytes] = ()) -> None:
        super().__init__(elements)
        self.quick = False
        self.size = _LISTPACK_FRAME + sum(map(entry_size, self)) if self else _LISTPACK_FRAME

    @classmethod
    def sized(cls, elements: Iterable[bytes], limits: Limits) -> List:
        """A list made in one go, with the encoding that its size calls for. O(n)."""
        made = cls()
        made.extend(elements)
        most_bytes, most = _limits(limits)
        count = len(made)
        if count > LONG:
            made.lengthen()
        if count > most or count * 2 > most_bytes:  # no element takes less than two bytes
            made.quick, made.size = True, UNKNOWN
            return made
        made.size = _LISTPACK_FRAME + sum(map(entry_size, made))
        made.quick = made.size > most_bytes
        return made

    def lengthen(self) -> None:
        """Become a long list, which must have come to more than ``LONG`` elements. O(n)."""
        elements = list(self)
        self.clear()
        self.rest = Rest()
        self.__class__ = LongList
        self.extend(elements)

    def grow(self, elements: Iterable[bytes], count: int, limits: Limits) -> None:
        """Take the encoding for ``count`` more elements, which are about to be put in."""
        if self.quick:
            return
        most_bytes, most = _limits(limits)
        if self.size + sum(map(len, elements)) > most_bytes or len(self) + count > most:
            self.quick = True

    def push(self, elements: tuple[bytes, ...], left: bool, limits: Limits) -> int:
        """Put elements at a side, one after the other; the new length. O(elements)."""
        if not self.quick:
            self.grow(elements, len(elements), limits)
        if left:
            self.extendleft(elements)
        else:
            self.extend(elements)
        if self.size != UNKNOWN:
            self.size = (
                UNKNOWN if self.quick and self._is_far(limits) else self.size + sum(map(entry_size, elements))
            )
        return len(self)

    def counted(self, element: bytes, limits: Limits) -> None:
        """An element came."""
        if self.size != UNKNOWN:
            self.size = UNKNOWN if self.quick and self._is_far(limits) else self.size + entry_size(element)

    def uncounted(self, element: bytes) -> None:
        """An element went."""
        if self.size != UNKNOWN:
            self.size -= entry_size(element)

    def _is_far(self, limits: Limits) -> bool:
        # Twice as many as ``shrunk`` would count the bytes of, so that it does not do that time and again.
        return len(self) * 2 > _limits(limits)[0]

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


Block = bytes | tuple[bytes, ...]

_length = deque.__len__


def _pack(elements: tuple[bytes, ...]) -> Block:
    packed = dumps(elements, _VERSION)
    return packed if len(packed) <= _PACKED_MOST else elements


def _open(block: Block) -> tuple[bytes, ...]:
    return block if type(block) is tuple else loads(block)  # type: ignore[arg-type]


def _backwards(block: Block) -> Iterator[bytes]:
    return reversed(_open(block))


def _may_have(block: Block, element: bytes) -> bool:
    return type(block) is tuple or element in block


class Rest:
    """What a long list has behind its head: blocks, and the tail."""

    __slots__ = ("blocks", "count", "sizes", "tail")

    def __init__(self) -> None:
        self.blocks: deque[Block] = deque()
        self.sizes: deque[int] | None = None
        self.count = 0  # elements of the blocks
        self.tail: deque[bytes] = deque()

    def copy(self) -> Rest:
        """An independent copy, with the same blocks. O(n / 128)."""
        twin = Rest()
        twin.blocks, twin.count, twin.tail = self.blocks.copy(), self.count, self.tail.copy()
        twin.sizes = None if self.sizes is None else self.sizes.copy()
        return twin

    def add(self, elements: tuple[bytes, ...], left: bool) -> None:
        """Take ``BLOCK`` elements in as the first or last block."""
        block = _pack(elements)
        if left:
            self.blocks.appendleft(block)
        else:
            self.blocks.append(block)
        if self.sizes is not None:
            if left:
                self.sizes.appendleft(BLOCK)
            else:
                self.sizes.append(BLOCK)
        self.count += BLOCK

    def take(self, left: bool) -> tuple[bytes, ...]:
        """The elements of the first or last block, which goes; there is one."""
        blocks, sizes = self.blocks, self.sizes
        elements = _open(blocks.popleft() if left else blocks.pop())
        if sizes is not None:
            if left:
                sizes.popleft()
            else:
                sizes.pop()
            if not blocks:
                self.sizes = None
        self.count -= len(elements)
        return elements

    def sized(self) -> Iterable[tuple[Block, int]]:
        """The blocks and their numbers of elements."""
        return zip(self.blocks, repeat(BLOCK) if self.sizes is None else self.sizes, strict=False)

    def find(self, at: int) -> tuple[int, int]:
        """The block of an element of the blocks, and where it is in that."""
        sizes = self.sizes
        if sizes is None:
            return divmod(at, BLOCK)
        ends = list(accumulate(sizes))
        b = bisect_right(ends, at)
        return b, at - (ends[b - 1] if b else 0)

    def change(self, b: int, before: int, elements: tuple[bytes, ...]) -> None:
        """Let a block, which had ``before`` elements, have these, fewer or more by one, or as many."""
        self.count += len(elements) - before
        if len(elements) != BLOCK and self.sizes is None:
            self.sizes = deque(repeat(BLOCK, len(self.blocks)))
        sizes = self.sizes
        if not elements:
            del self.blocks[b]
            if sizes is not None:
                del sizes[b]
        elif len(elements) <= 2 * BLOCK or sizes is None:
            self.blocks[b] = _pack(elements)
            if sizes is not None:
                sizes[b] = len(elements)
        else:
            self.blocks[b], sizes[b] = _pack(elements[:BLOCK]), BLOCK
            self.blocks.insert(b + 1, _pack(elements[BLOCK:]))
            sizes.insert(b + 1, len(elements) - BLOCK)


class LongList(List):
    """A list of which only the ends are as they are in a ``List``. Made by ``lengthen()`` alone."""

    __slots__ = ()

    def __len__(self) -> int:
        rest = self.rest
        return _length(self) + rest.count + len(rest.tail)

    def __iter__(self) -> Iterator[bytes]:
        rest = self.rest
        return chain(super().__iter__(), chain.from_iterable(map(_open, rest.blocks)), rest.tail)

    def __reversed__(self) -> Iterator[bytes]:
        rest = self.rest
        middle = chain.from_iterable(map(_backwards, reversed(rest.blocks)))
        return chain(reversed(rest.tail), middle, super().__reversed__())

    def __contains__(self, element: object) -> bool:
        return isinstance(element, bytes) and self.count(element) > 0

    # -- the ends ----------------------------------------------------------------------------------

    def push(self, elements: tuple[bytes, ...], left: bool, limits: Limits) -> int:
        if not self.quick or self.size != UNKNOWN:
            return super().push(elements, left, limits)
        rest = self.rest
        tail = rest.tail
        if left:
            deque.extendleft(self, elements)
        else:
            tail.extend(elements)
        if len(tail) >= 2 * BLOCK or _length(self) >= 2 * BLOCK:
            self._fold()
        return _length(self) + rest.count + len(tail)

    def append(self, element: bytes) -> None:
        tail = self.rest.tail
        tail.append(element)
        if len(tail) >= 2 * BLOCK:
            self._fold()

    def appendleft(self, element: bytes) -> None:
        deque.appendleft(self, element)  # not by super(), which costs as much again
        if _length(self) >= 2 * BLOCK:
            self._fold()

    def extend(self, elements: Iterable[bytes]) -> None:
        tail = self.rest.tail
        tail.extend(elements)
        if len(tail) >= 2 * BLOCK:
            self._fold()

    def extendleft(self, elements: Iterable[bytes]) -> None:
        deque.extendleft(self, elements)
        if _length(self) >= 2 * BLOCK:
            self._fold()

    def _fold(self) -> None:
        """Pack what the ends have too much."""
        rest = self.rest
        tail, pop = rest.tail, super().pop
        while len(tail) >= 2 * BLOCK:
            rest.add(tuple([tail.popleft() for _ in range(BLOCK)]), left=False)
        while _length(self) >= 2 * BLOCK:
            last = [pop() for _ in range(BLOCK)]
            last.reverse()
            rest.add(tuple(last), left=True)

    def pop(self) -> bytes:  # type: ignore[override]
        rest = self.rest
        if not rest.tail:
            if not rest.blocks:
                return deque.pop(self)
            rest.tail.extend(rest.take(left=False))
        return rest.tail.pop()

    def popleft(self) -> bytes:
        if not _length(self):
            rest = self.rest
            if not rest.blocks:
                return rest.tail.popleft()
            deque.extend(self, rest.take(left=True))
        return deque.popleft(self)

    def clear(self) -> None:
        super().clear()
        self.rest = Rest()

    def shrunk(self, limits: Limits) -> None:
        super().shrunk(limits)
        if not self.quick or len(self) <= BLOCK:
            elements = list(self)
            super().clear()
            del self.rest
            self.__class__ = List  # type: ignore[assignment]
            self.extend(elements)

    # -- by index ----------------------------------------------------------------------------------

    def __getitem__(self, at: SupportsIndex) -> bytes:  # type: ignore[override]
        index = self._index(at)
        head, rest = _length(self), self.rest
        if index < head:
            return super().__getitem__(index)
        if index - head >= rest.count:
            return rest.tail[index - head - rest.count]
        b, place = rest.find(index - head)
        return _open(rest.blocks[b])[place]

    def __setitem__(self, at: SupportsIndex, element: bytes) -> None:  # type: ignore[override]
        self._put(self._index(at), 1, (element,))

    def __delitem__(self, at: SupportsIndex) -> None:  # type: ignore[override]
        self._put(self._index(at), 1, ())

    def insert(self, at: int, element: bytes) -> None:
        self._put(at, 0, (element,))
        self._fold()

    def _index(self, at: SupportsIndex) -> int:
        index, length = int(at), len(self)
        if index < 0:
            index += length
        if not 0 <= index < length:
            raise IndexError("list index out of range")
        return index

    def _put(self, at: int, gone: int, elements: tuple[bytes, ...]) -> None:
        """Have these, none or one, at an index in place of so many, none or one."""
        head, rest = _length(self), self.rest
        if head <= at < head + rest.count:
            b, place = rest.find(at - head)
            found = _open(rest.blocks[b])
            rest.change(b, len(found), found[:place] + elements + found[place + gone :])
            return
        if at < head:
            window: deque[bytes] = super()  # type: ignore[assignment]
        else:
            window, at = rest.tail, at - head - rest.count
        if gone and elements:
            window.__setitem__(at, elements[0])
        elif gone:
            window.__delitem__(at)
        else:
            window.insert(at, elements[0])

    def between(self, start: int, stop: int) -> list[bytes]:
        """The elements from ``start`` to before ``stop``, both within the list. O(stop - start + n / 8,000)."""
        head, rest = _length(self), self.rest
        found = list(islice(super().__iter__(), start, min(stop, head))) if start < head else []
        low, high = max(start - head, 0), min(stop - head, rest.count)
        if low < high:
            b, place = rest.find(low)
            middle: list[bytes] = []
            while len(middle) < place + high - low:
                middle += _open(rest.blocks[b])
                b += 1
            found += middle[place : place + high - low]
        low, high = max(start - head - rest.count, 0), stop - head - rest.count
        if low < high:
            found += islice(rest.tail, low, high)
        return found

    # -- by value ----------------------------------------------------------------------------------

    def index(self, element: bytes) -> int:  # type: ignore[override]
        if super().count(element):
            return super().index(element)
        rest, at = self.rest, _length(self)
        for block, size in rest.sized():
            if _may_have(block, element) and element in (found := _open(block)):
                return at + found.index(element)
            at += size
        return at + rest.tail.index(element)

    def count(self, element: bytes) -> int:
        rest = self.rest
        middle = sum(_open(block).count(element) for block in rest.blocks if _may_have(block, element))
        return super().count(element) + middle + rest.tail.count(element)

    def remove(self, element: bytes) -> None:
        del self[self.index(element)]

    def check(self) -> None:
        rest = self.rest
        sizes = [len(_open(block)) for block in rest.blocks]
        # Blocks have elements, as many as is said.
        assert 0 not in sizes and rest.count == sum(sizes)
        assert sizes == ([BLOCK] * len(sizes) if rest.sizes is None else list(rest.sizes))
        # The ends are short.
        assert max(_length(self), len(rest.tail)) <= 2 * BLOCK


def _copy(value: List) -> List:
    twin = List()
    if isinstance(value, LongList):
        twin.extend(super(List, value).__iter__())
        twin.rest = value.rest.copy()
        twin.__class__ = LongList
    else:
        twin.extend(value)
    twin.quick, twin.size = value.quick, value.size
    return twin


def _memory(value: List, samples: int) -> int:
    count = len(value)
    taken = count if samples == 0 else min(samples, count)
    words = sum(map(sys.getsizeof, islice(value, taken)))
    if isinstance(value, LongList):
        rest = value.rest
        blocks = list(rest.blocks if samples == 0 else islice(rest.blocks, samples))
        size = sum(
            sys.getsizeof(block) + (sum(map(sys.getsizeof, block)) if type(block) is tuple else 0)
            for block in blocks
        )
        if blocks:
            size = size * len(rest.blocks) // len(blocks)
        size += sys.getsizeof(value) + sum(map(sys.getsizeof, (rest, rest.blocks, rest.tail, rest.sizes)))
        return size + (words * (count - rest.count) // taken if taken else 0)
    return sys.getsizeof(value) + (words * count // taken if taken else 0)


def _rewrite(key: bytes, value: List) -> Iterator[Effect]:
    elements = iter(value)
    while batch := tuple(islice(elements, _REWRITE_BATCH)):
        yield (b"RPUSH", key, *batch)


def _check(value: List) -> None:
    assert all(type(element) is bytes for element in value)
    # The size is that of the elements.
    assert value.size in (UNKNOWN, _LISTPACK_FRAME + sum(map(entry_size, value)))
    if isinstance(value, LongList):
        value.check()
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
TYPES[LongList] = TYPES[List]
FORMS[LongList] = List
