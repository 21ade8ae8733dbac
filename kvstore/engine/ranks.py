"""The members of a sorted set in order: by score, members of one score by their bytes.

Two lists side by side, members and scores, cut into blocks. There is no object an entry: an entry
costs two pointers, and a range of members is a slice, ready to be answered.

Invariants
- ``members[b][i]`` has the score ``scores[b][i]``; (score, member) ascends through the blocks.
- No block is longer than ``BLOCK_MAX``. While there are several, none is shorter than ``BLOCK_MIN``,
  and ``tops[b]`` and ``names[b]`` are the last score and member of block b; with one block both are empty.
- ``counts``, once made, has the number of entries of each run of ``RUN`` blocks. It is dropped when
  blocks are split, merged or cut, which happens once in hundreds of changes, and made again on need.

A position is a rank: the number of entries before it. Costs: add, remove, move O(log n) comparisons and
two moves of at most 4 kB; rank and position O(log n + n / 16,384); a range O(that + its length).

Must not know: keys, what scores mean.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, chain, pairwise
from typing import TypeVar

T = TypeVar("T")

# Entries of a block. Shorter blocks insert faster and cost more memory and more blocks to count.
BLOCK_MAX = 512
BLOCK_MIN = 64
# Blocks that are counted together.
RUN = 32


class Ranks:
    __slots__ = ("counts", "members", "names", "scores", "tops")

    def __init__(self, scores: dict[bytes, float]):
        # Two sorts by one key each compare bytes and floats directly: no tuples are made. O(n log n).
        members = sorted(scores)
        members.sort(key=scores.__getitem__)
        self._fill(members, [scores[member] for member in members])

    def _fill(self, members: list[bytes], scores: list[float]) -> None:
        """Take over entries that are in order."""
        self.counts: list[int] | None = None
        self.tops: list[float] = []  # apart from the members, as floats are compared far sooner than pairs
        self.names: list[bytes] = []
        if len(members) <= BLOCK_MAX:
            self.members, self.scores = [members], [scores]
            return
        # Blocks of even length, three quarters full, so that none is too short.
        number = -(-len(members) * 4 // (3 * BLOCK_MAX))
        cuts = [len(members) * b // number for b in range(number + 1)]
        self.members = [members[start:stop] for start, stop in pairwise(cuts)]
        self.scores = [scores[start:stop] for start, stop in pairwise(cuts)]
        self.tops = [scores[stop - 1] for stop in cuts[1:]]
        self.names = [members[stop - 1] for stop in cuts[1:]]

    def _block(self, score: float, member: bytes) -> int:
        """Which of several blocks (score, member) belongs in; behind all of them, how many there are."""
        tops = self.tops
        b = bisect_left(tops, score)
        if b < len(tops) and tops[b] == score:
            b = bisect_left(self.names, member, b, bisect_right(tops, score, b))
        return b

    # -- changes -----------------------------------------------------------------------------------

    def add(self, score: float, member: bytes) -> None:
        """Take in a member that is not there."""
        tops = self.tops
        b = 0
        if tops:
            b = bisect_left(tops, score)  # _block, without the call
            if b == len(tops):
                b -= 1
                tops[b], self.names[b] = score, member
            elif tops[b] == score:
                b = bisect_left(self.names, member, b, bisect_right(tops, score, b))
                if b == len(tops):
                    b -= 1
                    self.names[b] = member
            if self.counts is not None:
                self.counts[b // RUN] += 1
        members, scores = self.members[b], self.scores[b]
        at = bisect_left(scores, score)
        if at < len(scores) and scores[at] == score:
            at = bisect_left(members, member, at, bisect_right(scores, score, at))
        scores.insert(at, score)
        members.insert(at, member)
        if len(members) > BLOCK_MAX:
            self._split(b)

    def remove(self, score: float, member: bytes) -> None:
        """Drop a member that has this score."""
        b = self._block(score, member) if self.tops else 0
        members, scores = self.members[b], self.scores[b]
        at = bisect_left(scores, score)
        if members[at] != member:
            at = bisect_left(members, member, at, bisect_right(scores, score, at))
        del members[at], scores[at]
        if self.tops:
            self._shrunk(b, 1)

    def move(self, old: float, score: float, member: bytes) -> None:
        """Give a member that has the score ``old`` another one."""
        b = self._block(old, member) if self.tops else 0
        members, scores = self.members[b], self.scores[b]
        at = bisect_left(scores, old)
        if members[at] != member:
            at = bisect_left(members, member, at, bisect_right(scores, old, at))
        # Most updates are small steps: the neighbours stay the neighbours.
        if 0 < at < len(scores) - 1 and scores[at - 1] < score < scores[at + 1]:
            scores[at] = score
            return
        del members[at], scores[at]
        if self.tops:
            size = len(members)
            if at == size or size < BLOCK_MIN:
                self._shrunk(b, 1)
            elif self.counts is not None:
                self.counts[b // RUN] -= 1
        self.add(score, member)

    def pop(self, last: bool) -> tuple[bytes, float]:
        """Remove the first or the last entry, which is there, and return it."""
        end = -1 if last else 0
        members = self.members[end]
        entry = members.pop(end), self.scores[end].pop(end)
        if self.tops:
            if last or len(members) < BLOCK_MIN:
                self._shrunk(len(self.tops) - 1 if last else 0, 1)
            elif self.counts is not None:
                self.counts[0] -= 1
        return entry

    def cut(self, start: int, stop: int) -> tuple[list[bytes], list[float]]:
        """Remove the entries of a range of ranks, which is not empty, and return them."""
        first, at = self._locate(start)
        members, scores = self.members[first], self.scores[first]
        end = at + stop - start
        if end <= len(members):
            gone = members[at:end], scores[at:end]
            del members[at:end], scores[at:end]
            if self.tops:
                self._shrunk(first, stop - start)
            return gone
        last = first
        while end > len(self.members[last]):
            end -= len(self.members[last])
            last += 1
        gone = _take(self.members, first, at, stop - start), _take(self.scores, first, at, stop - start)
        left = slice(first, last + 1)
        self.members[left] = [members[:at] + self.members[last][end:]]
        self.scores[left] = [scores[:at] + self.scores[last][end:]]
        self.tops[left], self.names[left] = [0.0], [b""]
        self.counts = None
        self._settle(first)
        return gone

    def _split(self, b: int) -> None:
        """Cut a block in two."""
        members, scores = self.members[b], self.scores[b]
        half = len(members) >> 1
        self.members.insert(b + 1, members[half:])
        self.scores.insert(b + 1, scores[half:])
        del members[half:], scores[half:]
        if not self.tops:
            self.tops.append(self.scores[1][-1])
            self.names.append(self.members[1][-1])
        self.tops.insert(b, scores[-1])
        self.names.insert(b, members[-1])
        self.counts = None

    def _shrunk(self, b: int, by: int) -> None:
        """Entries of block ``b`` were removed; there are several blocks."""
        members = self.members[b]
        if len(members) < BLOCK_MIN:
            self._settle(b)
            return
        self.tops[b], self.names[b] = self.scores[b][-1], members[-1]
        if self.counts is not None:
            self.counts[b // RUN] -= by

    def _settle(self, b: int) -> None:
        """Block ``b`` may be too short, too long, empty, and its top may be wrong: put that right."""
        self.counts = None
        if len(self.members[b]) < BLOCK_MIN and len(self.members) > 1:
            if b == len(self.members) - 1:
                b -= 1
            self.members[b] += self.members.pop(b + 1)
            self.scores[b] += self.scores.pop(b + 1)
            del self.tops[b], self.names[b]
        if len(self.members) == 1:
            self.tops.clear()
            self.names.clear()
        else:
            self.tops[b], self.names[b] = self.scores[b][-1], self.members[b][-1]
        if len(self.members[b]) > BLOCK_MAX:
            self._split(b)

    # -- positions ---------------------------------------------------------------------------------

    def rank(self, score: float, member: bytes) -> int:
        """How many entries come before (score, member), which need not be there."""
        b = 0
        if self.tops:
            b = self._block(score, member)
            if b == len(self.tops):
                b -= 1
        members, scores = self.members[b], self.scores[b]
        at = bisect_left(scores, score)
        if member and at < len(scores) and members[at] != member and scores[at] == score:
            at = bisect_left(members, member, at, bisect_right(scores, score, at))
        return at + self._before(b) if b else at

    def lex_rank(self, member: bytes) -> int:
        """How many members come before ``member`` when all have one score; else an arbitrary rank."""
        b = 0
        if self.tops:
            b = bisect_left(self.names, member)
            if b == len(self.tops):
                b -= 1
        at = bisect_left(self.members[b], member)
        return at + self._before(b) if b else at

    def _before(self, b: int) -> int:
        """How many entries the blocks before ``b`` have."""
        run = b // RUN
        return sum(self._counted()[:run]) + sum(map(len, self.members[run * RUN : b]))

    def _counted(self) -> list[int]:
        counts = self.counts
        if counts is None:
            blocks = self.members
            counts = [sum(map(len, blocks[at : at + RUN])) for at in range(0, len(blocks), RUN)]
            self.counts = counts
        return counts

    def _locate(self, rank: int) -> tuple[int, int]:
        """The block and the index in it of an entry that is there."""
        blocks = self.members
        if rank < len(blocks[0]):
            return 0, rank
        b = 0
        if len(blocks) > RUN:
            until = list(accumulate(self._counted()))
            run = bisect_right(until, rank)
            if run:
                b = run * RUN
                rank -= until[run - 1]
        while rank >= len(blocks[b]):
            rank -= len(blocks[b])
            b += 1
        return b, rank

    # -- reading -----------------------------------------------------------------------------------

    def at(self, rank: int) -> bytes:
        """The member at a rank that is there."""
        b, at = self._locate(rank)
        return self.members[b][at]

    def range(self, start: int, stop: int) -> list[bytes]:
        """The members of a range of ranks, as a list of the caller's own."""
        if start >= stop:
            return []
        b, at = self._locate(start)
        return _take(self.members, b, at, stop - start)

    def range_with_scores(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        """The (member, score) pairs of a range of ranks."""
        if start >= stop:
            return []
        b, at = self._locate(start)
        count = stop - start
        return list(zip(_take(self.members, b, at, count), _take(self.scores, b, at, count), strict=True))

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.members)

    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest score; there is an entry."""
        return self.scores[0][0], self.scores[-1][-1]

    def copy(self) -> Ranks:
        """An independent copy. O(n)."""
        twin = Ranks.__new__(Ranks)
        twin.members = [block[:] for block in self.members]
        twin.scores = [block[:] for block in self.scores]
        twin.tops, twin.names = self.tops[:], self.names[:]
        twin.counts = None
        return twin

    def check(self, scores: dict[bytes, float]) -> None:
        sizes = [len(block) for block in self.members]
        # The two lists have the same shape, and there is always a block.
        assert sizes and sizes == [len(block) for block in self.scores]
        # Blocks are neither too long nor, where they could be merged, too short.
        assert max(sizes) <= BLOCK_MAX
        assert len(sizes) == 1 or min(sizes) >= BLOCK_MIN
        # The entries are the members with their scores, in order.
        entries = list(zip(chain.from_iterable(self.scores), chain.from_iterable(self.members), strict=True))
        assert entries == sorted((score, member) for member, score in scores.items())
        # Tops are the last entries of their blocks.
        several = len(sizes) > 1
        assert self.tops == ([block[-1] for block in self.scores] if several else [])
        assert self.names == ([block[-1] for block in self.members] if several else [])
        # Counts are up to date.
        assert self.counts is None or self.counts == [
            sum(sizes[at : at + RUN]) for at in range(0, len(sizes), RUN)
        ]


def _take(blocks: list[list[T]], b: int, at: int, count: int) -> list[T]:
    """``count`` entries from a place on, or those that are there."""
    taken = blocks[b][at : at + count]
    while len(taken) < count and b + 1 < len(blocks):
        b += 1
        taken += blocks[b][: count - len(taken)]
    return taken
