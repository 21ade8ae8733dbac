"""Items in the order of their IDs: the entries of a stream, what is pending of a group.

Times, sequence numbers and items stand side by side in three lists, cut into blocks. There is no object an ID.

Invariants
- IDs ascend through the blocks; ``firsts[b]`` is the first ID of block b.
- With ``pack``, a block that is full and behind which another one begins is packed: it has neither lists nor items.
  One that is looked at is unpacked, and packed again when ``LOOSE_MOST`` others were looked at since; its ``packed``
  is what it was, as long as it has not been changed.
- No block is empty or longer than ``BLOCK_MAX``; of two neighbours that fit into one block, none is shorter
  than ``BLOCK_MIN`` after something was taken out of it.

Costs: append O(1) amortised; look-up, insertion and removal O(log n) comparisons and a memmove of at most 6 kB,
and one of n / 32 bytes when a block comes or goes; trimming that many blocks O(1) each. An item costs 24 bytes
and the slack of the lists, about 27 in all; packed, what ``pack`` makes of it.

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


# Blocks that were packed and are not now, but the last: what readers of one stream may look at in turn.
LOOSE_MOST: Final = 8


class Packed(Generic[T]):
    """A block as it is kept while nobody looks at it."""

    __slots__ = ("count", "first_id", "last_id", "size")

    def __init__(self, first: ID, last: ID, count: int):
        self.first_id = first
        self.last_id = last
        self.count = count
        self.size = 0  # bytes in memory

    def __len__(self) -> int:
        return self.count

    def first(self) -> ID:
        return self.first_id

    def last(self) -> ID:
        return self.last_id

    def unpack(self) -> Block[T]:
        raise NotImplementedError


class Block(Generic[T]):
    __slots__ = ("items", "packed", "sequences", "times")

    def __init__(
        self, times: array[int], sequences: array[int], items: list[T], packed: Packed[T] | None = None
    ):
        self.times = times
        self.sequences = sequences
        self.items = items
        self.packed = packed

    def __len__(self) -> int:
        return len(self.items)

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

    def taken(self, start: int, stop: int) -> Block[T]:
        """A block of its own with what is between two indexes."""
        return Block(self.times[start:stop], self.sequences[start:stop], self.items[start:stop])

    def extend(self, other: Block[T]) -> None:
        """Take in what another one has, whose IDs are behind all of this one."""
        self.times.extend(other.times)
        self.sequences.extend(other.sequences)
        self.items.extend(other.items)
        self.packed = None

    def cut(self, start: int, stop: int) -> None:
        self.packed = None
        del self.times[start:stop], self.sequences[start:stop], self.items[start:stop]


class IdMap(Generic[T]):
    __slots__ = ("_blocks", "_count", "_loose", "_pack", "firsts", "packed_count", "packed_size")

    def __init__(self, pack: Callable[[Block[T]], Packed[T]] | None = None) -> None:
        self._blocks: list[Block[T] | Packed[T]] = []
        self.firsts: list[ID] = []
        self._count = 0
        self._pack = pack
        self._loose: list[Block[T]] = []  # blocks to be packed again, the one that waits longest first
        self.packed_count = 0  # items in packed blocks
        self.packed_size = 0  # bytes of packed blocks in memory

    def __len__(self) -> int:
        return self._count

    # -- changes -----------------------------------------------------------------------------------

    def append(self, id: ID, item: T) -> None:
        """Take in an item behind all others, where its ID must belong. O(1) amortised."""
        blocks = self._blocks
        self._count += 1
        if blocks and len(block := blocks[-1]) < BLOCK_MAX:
            if type(block) is not Block:
                block = self._open(len(blocks) - 1)
            block.times.append(id[0])
            block.sequences.append(id[1])
            block.items.append(item)
            block.packed = None
        else:
            if blocks:
                self._close(len(blocks) - 1)
            blocks.append(Block(array("Q", (id[0],)), array("Q", (id[1],)), [item]))
            self.firsts.append(id)

    def extend(self, run: Block[T]) -> None:
        """``append`` for all that a block of any length has. O(items)."""
        blocks, at, count = self._blocks, 0, len(run)
        self._count += count
        while at < count:
            room = BLOCK_MAX - len(blocks[-1]) if blocks else 0
            if room > 0:
                part = run if not at and count <= room else run.taken(at, at + room)
                self._open(len(blocks) - 1).extend(part)
                at += room
                continue
            if blocks:
                self._close(len(blocks) - 1)
            blocks.append(run.taken(at, at + BLOCK_MAX))
            self.firsts.append((run.times[at], run.sequences[at]))
            at += BLOCK_MAX

    def put(self, id: ID, item: T) -> None:
        """Take in an item wherever it belongs, instead of the one that has its ID. O(log n)."""
        last = self.last()
        if last is None or id > last:
            self.append(id, item)
            return
        b = max(0, bisect_right(self.firsts, id) - 1)
        block = self._open(b)
        block.packed = None
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
            other = block.taken(half, BLOCK_MAX + 1)
            block.cut(half, BLOCK_MAX + 1)
            self._blocks.insert(b + 1, other)
            self.firsts.insert(b + 1, other.first())

    def pop(self, id: ID) -> T | None:
        """Take out the item that has this ID; None if there is none. O(log n)."""
        b = bisect_right(self.firsts, id) - 1
        if b < 0:
            return None
        block = self._open(b)
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
        while count and count >= (size := len(block := blocks[b])):
            count -= size
            b += 1
            if isinstance(block, Packed):
                self.packed_count -= size
                self.packed_size -= block.size
        del blocks[:b], self.firsts[:b]
        if count:
            self._open(0).cut(0, count)
            self._shrunk(0)

    def _shrunk(self, b: int) -> None:
        """Items of block ``b`` were taken out: its first ID may be another one, and it may be too short."""
        blocks, firsts = self._blocks, self.firsts
        block = blocks[b]
        size = len(block)
        if not size:
            del blocks[b], firsts[b]
            return
        firsts[b] = block.first()
        if size >= BLOCK_MIN:
            return
        for one in (b - 1, b):  # with the one before, with the one behind
            pair = blocks[max(0, one) : one + 2]
            if one >= 0 and len(pair) == 2 and sum(map(len, pair)) <= BLOCK_MAX:
                for each in (one, one + 1):
                    self._open(each)
                first, second = self._open(one), self._open(one + 1)  # to open one may have packed the other
                first.extend(second)
                del blocks[one + 1], firsts[one + 1]
                return

    # -- packing -----------------------------------------------------------------------------------

    def _open(self, b: int) -> Block[T]:
        """Block ``b``, unpacked."""
        block = self._blocks[b]
        if not isinstance(block, Packed):
            return block
        self.packed_count -= block.count
        self.packed_size -= block.size
        opened = self._blocks[b] = block.unpack()
        opened.packed = block
        self._loose.append(opened)
        if len(self._loose) > LOOSE_MOST:
            old = self._loose.pop(0)
            if len(old):  # where it still is one of ours
                place = bisect_right(self.firsts, old.first()) - 1
                if 0 <= place < len(self._blocks) - 1 and self._blocks[place] is old:
                    self._close(place)
        return opened

    def _close(self, b: int) -> None:
        """Pack block ``b``."""
        block = self._blocks[b]
        if self._pack is not None and not isinstance(block, Packed):
            packed = self._blocks[b] = block.packed or self._pack(block)
            self.packed_count += packed.count
            self.packed_size += packed.size

    def unpacked_items(self) -> Iterator[T]:
        """Items that are in no packed block, the latest first."""
        for block in reversed(self._blocks):
            if not isinstance(block, Packed):
                yield from reversed(block.items)

    # -- reading -----------------------------------------------------------------------------------

    def get(self, id: ID) -> T | None:
        """The item that has this ID. O(log n)."""
        b = bisect_right(self.firsts, id) - 1
        if b >= 0:
            block = self._open(b)
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
        return self._open(len(self._blocks) - 1).items[-1] if self._blocks else None

    def before(self, id: ID) -> int:
        """How many items have lower IDs. O(log n + n / 256)."""
        b = bisect_right(self.firsts, id) - 1
        if b < 0:
            return 0
        return sum(map(len, self._blocks[:b])) + self._open(b).at(*id)

    def behind(self, id: ID, count: int) -> Block[T]:
        """Up to ``count`` items (0: all) behind an ID, and their IDs. O(log n + items)."""
        blocks, most = self._blocks, count or self._count
        b = max(0, bisect_right(self.firsts, id) - 1)
        if b == len(blocks):
            return Block(array("Q"), array("Q"), [])
        block = self._open(b)
        at = block.at(id[0], id[1] + 1)
        run = block.taken(at, at + most)
        # What comes next stays unpacked, as the next reader goes on in it.
        while len(run) < most and (b := b + 1) < len(blocks):
            run.extend(self._open(b).taken(0, most - len(run)))
        return run

    def items(self, start: ID = FIRST_ID, stop: ID = LAST_ID) -> Iterator[tuple[ID, T]]:
        """IDs and items from ``start`` to ``stop``, both included, while nothing changes. O(log n) to begin."""
        for block in self._between(start, stop, False):
            at, end = block.at(*start), block.at(stop[0], stop[1] + 1)
            yield from zip(block.ids(at, end), block.items[at:end], strict=True)

    def backward(self, start: ID = FIRST_ID, stop: ID = LAST_ID) -> Iterator[tuple[ID, T]]:
        """As ``items``, from ``stop`` down to ``start``."""
        for block in self._between(start, stop, True):
            at, end = block.at(*start), block.at(stop[0], stop[1] + 1)
            yield from reversed(list(zip(block.ids(at, end), block.items[at:end], strict=True)))

    def _between(self, start: ID, stop: ID, reverse: bool) -> Iterator[Block[T]]:
        """The blocks that may have items of a range. The one that is met first stays unpacked: the next
        reader often goes on in it."""
        begin, end = max(0, bisect_right(self.firsts, start) - 1), bisect_right(self.firsts, stop)
        if begin >= end:
            return
        opened = self._open(end - 1 if reverse else begin)
        found = self._blocks[begin:end]
        if reverse:
            found.reverse()
        yield opened
        for block in found[1:]:
            yield block.unpack() if isinstance(block, Packed) else block

    def copy(self, item: Callable[[T], T] | None = None) -> IdMap[T]:
        """An independent copy, of the same items or of what ``item`` makes of them. O(n)."""
        twin: IdMap[T] = IdMap(self._pack)
        twin.packed_count, twin.packed_size = self.packed_count, self.packed_size
        twin._blocks = [
            block
            if isinstance(block, Packed)
            else Block(
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
        packed = [block for block in self._blocks if isinstance(block, Packed)]
        blocks = [block.unpack() if isinstance(block, Packed) else block for block in self._blocks]
        # What is packed is counted.
        assert (self.packed_count, self.packed_size) == (
            sum(map(len, packed)),
            sum(one.size for one in packed),
        )
        assert len(self._loose) <= LOOSE_MOST
        assert [block.first() for block in blocks] == [block.first() for block in self._blocks]
        assert [block.last() for block in blocks] == [block.last() for block in self._blocks]
        sizes = [len(block) for block in self._blocks]
        assert sizes == [len(block.items) for block in blocks]
        # What a block was unpacked from is what it is.
        for block in self._blocks:
            if not isinstance(block, Packed) and block.packed is not None:
                was = block.packed.unpack()
                assert (was.times, was.sequences) == (block.times, block.sequences)
                assert was.items == block.items
        # The three lists of a block have the same length, and the items are counted.
        assert sizes == [len(block.times) for block in blocks]
        assert sizes == [len(block.sequences) for block in blocks]
        assert sum(sizes) == self._count
        # Blocks are neither empty nor too long.
        assert all(0 < size <= BLOCK_MAX for size in sizes)
        assert self.firsts == [block.first() for block in blocks]
        # IDs ascend.
        ids = [id for block in blocks for id in block.ids(0, BLOCK_MAX)]
        assert all(one < two for one, two in pairwise(ids))
