"""A list of elements that can be scanned by cursor and drawn from at random.

Made on first need beside a dict or set (a keyspace, a hash, a set, a sorted set) and then told of
every element that comes and goes.

Invariants
- Every live element has exactly one entry. A removed element keeps its entry and stands in ``dead``
  until the entry is reused: by the element itself when it comes back, or by the last entry, which
  is moved down into its place.
- An entry only ever moves to a lower index. A cursor is an index that walks down to 0, so whatever
  is there from the start of a scan to its end is met, whatever else comes, goes or is compacted;
  cursors need no state here.

Costs: added, removed O(1) amortised; draw O(1) expected; scan O(count). 8 bytes an entry.

Must not know: what the elements mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

# Entries looked at for each one that comes or goes while more than half of the list is dead.
_SWEEP_STEP = 4


class ScanOrder:
    __slots__ = ("_swept", "dead", "entries")

    def __init__(self, elements: Iterable[bytes]):
        self.entries: list[bytes] = list(elements)
        self.dead: set[bytes] = set()
        self._swept = 0

    def __len__(self) -> int:
        return len(self.entries) - len(self.dead)

    def added(self, element: bytes) -> None:
        """``element`` was not live and now is."""
        dead = self.dead
        if dead:
            if element in dead:
                dead.discard(element)
                return
            if len(dead) * 2 > len(self.entries):
                self._sweep()
        self.entries.append(element)

    def fill(self, elements: Iterable[bytes]) -> None:
        """None of ``elements`` was live, and now all are. O(elements)."""
        if self.dead:
            for element in elements:
                self.added(element)
        else:
            self.entries.extend(elements)

    def removed(self, element: bytes) -> None:
        """``element`` was live and now is not."""
        dead = self.dead
        dead.add(element)
        if len(dead) * 2 > len(self.entries):
            self._sweep()

    def _sweep(self) -> None:
        """Free a few dead entries, walking down so that a freed place is refilled from above."""
        at = self._swept
        for _ in range(_SWEEP_STEP):
            if not self.dead:
                break
            if at <= 0 or at > len(self.entries):
                at = len(self.entries)
            at -= 1
            if self.entries[at] in self.dead:
                self._free(at)
        self._swept = at

    def _free(self, at: int) -> None:
        """Drop the dead entry at ``at``; the last live entry takes its place."""
        entries, dead = self.entries, self.dead
        dead.discard(entries[at])
        while len(entries) - 1 > at and entries[-1] in dead:
            dead.discard(entries.pop())
        last = entries.pop()
        if at < len(entries):
            entries[at] = last

    def draw(self, randbelow: Callable[[int], int]) -> bytes:
        """A live element, each with the same chance. The order must not be empty."""
        entries, dead = self.entries, self.dead
        while True:
            at = randbelow(len(entries))
            element = entries[at]
            if element not in dead:
                return element
            self._free(at)

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Up to ``count`` live elements below ``cursor`` (0 starts), and the next cursor (0 ends)."""
        entries, dead = self.entries, self.dead
        at = len(entries) if cursor <= 0 or cursor > len(entries) else cursor
        stop = max(0, at - count)
        found = entries[stop:at]
        found.reverse()
        if dead:
            found = [element for element in found if element not in dead]
        return stop, found

    def check(self, live: set[bytes]) -> None:
        entries = self.entries
        # One entry an element, no entry twice.
        assert len(set(entries)) == len(entries)
        # Dead entries are entries.
        assert self.dead <= set(entries)
        # The live entries are the container's elements.
        assert set(entries) - self.dead == live
