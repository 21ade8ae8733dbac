"""When keys fall due: deadlines filed in buckets, so that active expiry is exact and samples nothing.

Invariant: a key with a deadline has an entry in a bucket that comes up no later than the deadline.
An extended deadline leaves its entry where it is, and the entry moves when its bucket comes up; so a
key whose deadline is extended a million times has one entry. A deadline that is taken back takes its
entry with it, unless the deadline was extended: then the entry, which is stale, stays until its bucket
comes up.

Costs: file, drop O(log buckets) amortised; take_due O(1) an entry. A bucket is 128 ms wide: that is how late an
expired key may be deleted physically (it is invisible from its deadline on). Deadlines of many keys are often
spread so thin that a bucket has one of them; it is then the key itself, as a set would take 216 bytes.

Must not know: the data.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

BUCKET_SHIFT = 7  # 2**7 ms
# Numbers of emptied buckets that the heap may hold before it is worth rebuilding.
_SLACK = 64


class DueBuckets:
    __slots__ = ("_buckets", "_heap", "filed")

    def __init__(self) -> None:
        self._buckets: dict[int, bytes | set[bytes]] = {}
        self._heap: list[int] = []
        self.filed = 0  # how often ``file`` was called

    def file(self, key: bytes, deadline_ms: int) -> None:
        """Make sure that ``key`` is met when ``deadline_ms`` has passed."""
        self.filed += 1
        number = deadline_ms >> BUCKET_SHIFT
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = key
            heapq.heappush(self._heap, number)
        elif not isinstance(bucket, bytes):
            bucket.add(key)
        elif bucket != key:
            self._buckets[number] = {bucket, key}

    def drop(self, key: bytes, deadline_ms: int) -> None:
        """Forget ``key``, which had this deadline, if it is filed there."""
        number = deadline_ms >> BUCKET_SHIFT
        bucket = self._buckets.get(number)
        if type(bucket) is set:
            bucket.discard(key)
            if bucket:
                return
        elif bucket != key:  # of another key alone, or not there
            return
        del self._buckets[number]
        if len(self._heap) > 2 * len(self._buckets) + _SLACK:
            self._heap[:] = self._buckets
            heapq.heapify(self._heap)

    def next_ms(self) -> int | None:
        """The end of the earliest bucket, which may be empty by now, or None when nothing is filed."""
        return (self._heap[0] + 1) << BUCKET_SHIFT if self._heap else None

    def take_due(self, now_ms: int, most: int) -> list[bytes]:
        """Remove and return up to ``most`` entries of buckets that have wholly passed."""
        taken: list[bytes] = []
        heap, last_passed = self._heap, (now_ms >> BUCKET_SHIFT) - 1
        while heap and heap[0] <= last_passed and len(taken) < most:
            bucket = self._buckets.get(heap[0])
            if type(bucket) is bytes:
                taken.append(bucket)
            elif type(bucket) is set:
                while bucket and len(taken) < most:
                    taken.append(bucket.pop())
                if bucket:
                    break
            self._buckets.pop(heapq.heappop(heap), None)
        return taken

    def peek_bucket_of(self, now_ms: int) -> list[bytes]:
        """The entries of the bucket that ``now_ms`` lies in; they stay filed."""
        return list(_keys(self._buckets.get(now_ms >> BUCKET_SHIFT, ())))

    def clear(self) -> None:
        self._buckets.clear()
        self._heap.clear()

    def check(self, expires: dict[bytes, int]) -> None:
        # The heap names every bucket, and no bucket is empty.
        assert self._buckets.keys() <= set(self._heap)
        assert all(map(len, map(_keys, self._buckets.values())))
        # Every deadline is met by an entry in time.
        earliest: dict[bytes, int] = {}
        for number, bucket in self._buckets.items():
            for key in _keys(bucket):
                earliest[key] = min(number, earliest.get(key, number))
        for key, deadline in expires.items():
            assert key in earliest and earliest[key] <= deadline >> BUCKET_SHIFT


def _keys(bucket: bytes | Collection[bytes]) -> Collection[bytes]:
    return (bucket,) if isinstance(bucket, bytes) else bucket
