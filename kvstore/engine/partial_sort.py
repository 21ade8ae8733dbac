"""Sorting a range of places of a list as the server does it, ties included.

The server sorts no more than it needs to give some places of the result: by the quicksort of Bentley and
McIlroy ("Engineering a sort function", 1993), which leaves alone those parts that no wanted place falls into.
That sort is not stable, so which of several equal items come first can be told only by doing the same swaps. Where no two
are equal, any sort will do, and Python's does.

Costs: O(n log n) comparisons of keys; with equal keys they are made one by one in Python.

Must not know: what is sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")
# Up to this many items are sorted by insertion.
_FEW: Final = 6
# From this many on, the pivot is the median of three medians.
_MANY: Final = 40


def partly_sorted(items: list[T], key: Callable[[T], Any], reverse: bool, start: int, stop: int) -> list[T]:
    """The items of the places from ``start`` to before ``stop``, of the list in order of their keys."""
    keys = list(map(key, items))
    if stop - start == len(items) or len(set(keys)) == len(keys):
        return sorted(items, key=key, reverse=reverse)[start:stop]
    entries = list(zip(keys, items, strict=True))
    sort = _Sort(entries, reverse)
    pending = [(0, len(entries))]
    while pending:
        low, high = pending.pop()
        if high - low > 1 and low < stop and high > start:
            pending += sort.part(low, high)
    return [item for _, item in entries[start:stop]]


class _Sort:
    """The steps of the quicksort, on (key, item) pairs in place."""

    __slots__ = ("entries", "reverse")

    def __init__(self, entries: list[tuple[Any, Any]], reverse: bool):
        self.entries = entries
        self.reverse = reverse

    def _compare(self, a: int, b: int) -> int:
        """Negative, zero or positive, as the entry at ``a`` comes before, with or after that at ``b``."""
        one, other = self.entries[a][0], self.entries[b][0]
        if self.reverse:
            one, other = other, one
        return int(one > other) - int(one < other)

    def _swap(self, a: int, b: int, count: int = 1) -> None:
        entries = self.entries
        for at in range(count):
            entries[a + at], entries[b + at] = entries[b + at], entries[a + at]

    def _median(self, a: int, b: int, c: int) -> int:
        compare = self._compare
        if compare(a, b) < 0:
            return b if compare(b, c) < 0 else c if compare(a, c) < 0 else a
        return b if compare(b, c) > 0 else a if compare(a, c) < 0 else c

    def _pivot(self, low: int, high: int) -> int:
        count = high - low
        middle = low + count // 2
        if count == _FEW + 1:
            return middle
        first, last = low, high - 1
        if count > _MANY:
            apart = count // 8
            first = self._median(first, first + apart, first + 2 * apart)
            middle = self._median(middle - apart, middle, middle + apart)
            last = self._median(last - 2 * apart, last - apart, last)
        return self._median(first, middle, last)

    def part(self, low: int, high: int) -> list[tuple[int, int]]:
        """Put the range's lesser entries before the pivot, greater ones after it, equal ones between; the two
        ranges that are left to sort. A short range is sorted at once.
        """
        compare, swap = self._compare, self._swap
        if high - low <= _FEW:
            for start in range(low + 1, high):
                at = start
                while at > low and compare(at - 1, at) > 0:
                    swap(at, at - 1)
                    at -= 1
            return []
        swap(low, self._pivot(low, high))
        # Equal entries gather at both ends: before ``equal_low`` and after ``equal_high``.
        equal_low = left = low + 1
        equal_high = right = high - 1
        while True:
            while left <= right and (order := compare(left, low)) <= 0:
                if order == 0:
                    swap(equal_low, left)
                    equal_low += 1
                left += 1
            while left <= right and (order := compare(right, low)) >= 0:
                if order == 0:
                    swap(right, equal_high)
                    equal_high -= 1
                right -= 1
            if left > right:
                break
            swap(left, right)
            left += 1
            right -= 1
        count = min(equal_low - low, left - equal_low)
        swap(low, left - count, count)
        count = min(equal_high - right, high - 1 - equal_high)
        swap(left, high - count, count)
        return [(low, low + left - equal_low), (high - (equal_high - right), high)]
