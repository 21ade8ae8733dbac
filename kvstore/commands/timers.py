"""Calls to be made at a time.

Must not know: clocks; who wants to be called.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

# Timers that may be kept although they were cancelled.
_MOST_CANCELLED = 64


class Timer:
    """A call at a time; none where it was cancelled."""

    __slots__ = ("at_ms", "call")

    def __init__(self, at_ms: int, call: Callable[[], None]):
        self.at_ms = at_ms
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return self.at_ms < other.at_ms


class Timers:
    """A heap of them, soonest first."""

    __slots__ = ("_cancelled", "_heap")

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._cancelled = 0  # about how many of them are

    def add(self, at_ms: int, call: Callable[[], None]) -> Timer:
        """Have ``call`` made when ``run`` is called with that time or a later one. O(log n)."""
        timer = Timer(at_ms, call)
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Do not make that call. O(1) on average: a worker that is served before its time cancels for each job."""
        timer.call = None
        self._cancelled += 1
        if self._cancelled > _MOST_CANCELLED and self._cancelled > len(self._heap) // 2:
            self._heap = [each for each in self._heap if each.call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_ms(self) -> int | None:
        """When ``run`` has something to do, or None."""
        heap = self._heap
        while heap and heap[0].call is None:
            heapq.heappop(heap)
        return heap[0].at_ms if heap else None

    def run(self, now_ms: int) -> None:
        """Make the calls whose time has come."""
        while self._heap and self._heap[0].at_ms <= now_ms:
            call = heapq.heappop(self._heap).call
            if call is not None:
                call()
