"""Items in the order of their IDs: the entries of a stream, what is pending of a group.

Times, sequence numbers and items stand side by side in three lists, cut into blocks. There is no object an ID.

Invariants
- IDs ascend through the blocks; ``firsts[b]`` is the first ID of block b.
- No block is empty or longer than ``BLOCK_MAX``; of two neighbours that fit into one block, none is shorter
  than ``BLOCK_MIN`` after something was taken out of it.

Costs: append O(1) amortised; look-up, insertion and removal O(log n) comparisons and a memmove of at most 6 kB,
and one of n / 32 bytes when a block comes or goes; trimming that many blocks O(1) each. An item costs 24 bytes
and the slack of the lists, about 27 in all.

Must not know: what the items are.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, Generic, TypeVar

T = TypeVar("T")

ID = tuple[int, int]  # milliseconds, sequence number: 64 bits each
FIRST_ID: Final[ID] = (0, 0)
LAST_ID: Final[ID] = ((1 << 64) - 1, (1 << 64) - 1)

# Items of a block. Shorter blocks cost more memory, longer ones more to insert and to take out.
BLOCK_MAX: Final = 256
BLOCK_MIN: Final = 64


class _Block(Generic[T]):
    __slots__ = ("items", "sequences", "times")

    def __init__(self, times: array[int], sequences: array[int], items: list[T]):
        self.times = times
        self.sequences = sequences
        self.items = items

    def at(self, time: int, sequence: int) -> int:
        """The index of the first ID that is this one or comes behind it."""
        times = self.times
        at = bisect_left(times, time)
        if at < len(times) and times[at] == time and self.sequences[at] < sequence:
            at = bisect_left(self.sequences, sequence, at, bisect_right(times, time, at))
        return at

    def first(self) -> ID:
        return self.times[0], self.sequences[0]

    def last(self) -> ID:
        return self.times[-1], self.sequences[-1]

    def ids(self, start: int, stop: int) -> Iterator[ID]:
        return zip(self.times[start:stop], self.sequences[start:stop], strict=True)

    def cut(self, start: int, stop: int) -> None:
        del self.times[start:stop], self.sequences[start:stop], self.items[start:stop]


class IdMap(Generic[T]):
    __slots__ = ("_blocks", "_count", "firsts")

    def __init__(self) -> None:
        self._blocks: list[_Block[T]] = []
        self.firsts: list[ID] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    # -- changes -----------------------------------------------------------------------------------

    def append(self, id: ID, item: T) -> None:
        """Take in an item behind all others, where its ID must belong. O(1) amortised."""
        blocks = self._blocks
        self._count += 1
        if blocks and len((block := blocks[-1]).items) < BLOCK_MAX:
            block.times.append(id[0])
            block.sequences.append(id[1])
            block.items.append(item)
        else:
            blocks.append(_Block(array("Q", (id[0],)), array("Q", (id[1],)), [item]))
            self.firsts.append(id)

    def put(self, id: ID, item: T) -> None:
        """Take in an item wherever it belongs, instead of the one that has its ID. O(log n)."""
        last = self.last()
        if last is None or id > last:
            self.append(id, item)
            return
        b = max(0, bisect_right(self.firsts, id) - 1)
        block = self._blocks[b]
        at = block.at(*id)
        if at < len(block.items) and (block.times[at], block.sequences[at]) == id:
            block.items[at] = item
            return
        block.times.insert(at, id[0])
        block.sequences.insert(at, id[1])
        block.items.insert(at, item)
        self._count += 1
        if not at:
            self.firsts[b] = id
        if len(block.items) > BLOCK_MAX:
            half = BLOCK_MAX // 2
            other = _Block(block.times[half:], block.sequences[half:], block.items[half:])
            block.cut(half, BLOCK_MAX + 1)
            self._blocks.insert(b + 1, other)
            self.firsts.insert(b + 1, other.first())

    def pop(self, id: ID) -> T | None:
        """Take out the item that has this ID; None if there is none. O(log n)."""
        b = bisect_right(self.firsts, id) - 1
        if b < 0:
            return None
        block = self._blocks[b]
        at = block.at(*id)
        if at == len(block.items) or (block.times[at], block.sequences[at]) != id:
            return None
        item = block.items[at]
        block.cut(at, at + 1)
        self._count -= 1
        self._shrunk(b)
        return item

    def trim(self, count: int) -> None:
        """Drop the first ``count`` items, of which there are as many. O(count / 256)."""
        self._count -= count
        blocks = self._blocks
        b = 0
        while count and count >= (size := len(blocks[b].items)):
            count -= size
            b += 1
        del blocks[:b], self.firsts[:b]
        if count:
            blocks[0].cut(0, count)
            self._shrunk(0)

    def _shrunk(self, b: int) -> None:
        """Items of block ``b`` were taken out: its first ID may be another one, and it may be too short."""
        blocks, firsts = self._blocks, self.firsts
        block = blocks[b]
        size = len(block.items)
        if not size:
            del blocks[b], firsts[b]
            return
        firsts[b] = block.first()
        if size >= BLOCK_MIN:
            return
        for one in (b - 1, b):  # with the one before, with the one behind
            if one >= 0 and one + 1 < len(blocks):
                first, second = blocks[one], blocks[one + 1]
                if len(first.items) + len(second.items) <= BLOCK_MAX:
                    first.times.extend(second.times)
                    first.sequences.extend(second.sequences)
                    first.items.extend(second.items)
                    del blocks[one + 1], firsts[one + 1]
                    return

    # -- reading -----------------------------------------------------------------------------------

    def get(self, id: ID) -> T | None:
        """The item that has this ID. O(log n)."""
        b = bisect_right(self.firsts, id) - 1
        if b >= 0:
            block = self._blocks[b]
            at = block.at(*id)
            if at < len(block.items) and (block.times[at], block.sequences[at]) == id:
                return block.items[at]
        return None

    def first(self) -> ID | None:
        """The lowest ID. O(1)."""
        return self.firsts[0] if self.firsts else None

    def last(self) -> ID | None:
        """The highest ID. O(1)."""
        return self._blocks[-1].last() if self._blocks else None

    def latest(self) -> T | None:
        """The item with the highest ID. O(1)."""
        return self._blocks[-1].items[-1] if self._blocks else None

    def before(self, id: ID) -> int:
        """How many items have lower IDs. O(log n + n / 256)."""
        b = bisect_right(self.firsts, id) - 1
        if b < 0:
            return 0
        return sum([len(block.items) for block in self._blocks[:b]]) + self._blocks[b].at(*id)

    def items(self, start: ID = FIRST_ID, stop: ID = LAST_ID) -> Iterator[tuple[ID, T]]:
        """IDs and items from ``start`` to ``stop``, both included, while nothing changes. O(log n) to begin."""
        b = max(0, bisect_right(self.firsts, start) - 1)
        for block in self._blocks[b : bisect_right(self.firsts, stop)]:
            at, end = block.at(*start), block.at(stop[0], stop[1] + 1)
            yield from zip(block.ids(at, end), block.items[at:end], strict=True)

    def backward(self, start: ID = FIRST_ID, stop: ID = LAST_ID) -> Iterator[tuple[ID, T]]:
        """As ``items``, from ``stop`` down to ``start``."""
        b = max(0, bisect_right(self.firsts, start) - 1)
        for block in reversed(self._blocks[b : bisect_right(self.firsts, stop)]):
            at, end = block.at(*start), block.at(stop[0], stop[1] + 1)
            yield from reversed(list(zip(block.ids(at, end), block.items[at:end], strict=True)))

    def copy(self, item: Callable[[T], T] | None = None) -> IdMap[T]:
        """An independent copy, of the same items or of what ``item`` makes of them. O(n)."""
        twin: IdMap[T] = IdMap()
        twin._blocks = [
            _Block(
                block.times[:],
                block.sequences[:],
                block.items[:] if item is None else list(map(item, block.items)),
            )
            for block in self._blocks
        ]
        twin.firsts = self.firsts[:]
        twin._count = self._count
        return twin

    def check(self) -> None:
        sizes = [len(block.items) for block in self._blocks]
        # The three lists of a block have the same length, and the items are counted.
        assert sizes == [len(block.times) for block in self._blocks]
        assert sizes == [len(block.sequences) for block in self._blocks]
        assert sum(sizes) == self._count
        # Blocks are neither empty nor too long.
        assert all(0 < size <= BLOCK_MAX for size in sizes)
        assert self.firsts == [block.first() for block in self._blocks]
        # IDs ascend.
        ids = [id for block in self._blocks for id in block.ids(0, BLOCK_MAX)]
        assert all(one < two for one, two in pairwise(ids))
