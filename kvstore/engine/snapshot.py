"""A snapshot without a copy: all keys as they were at one moment, written while the data goes on changing.

A walker goes through the keys in slices between commands. Whoever is about to create, change or delete a key
first calls the tap of its database, which writes the key as it is if the walker has not come to it yet.

Invariants
- Every key that was there when the snapshot was made is written once, with the value and the deadline that
  it had then, under the number that its database had then; nothing else is written.
- Keys are sorted into buckets by hash, and buckets are walked in turn. So "already written" is told by the
  number of the bucket; only what was touched ahead of the walker is remembered by key (``done``).
- The walk over the scan order goes down, as entries only ever move to lower places: what was there is met,
  perhaps twice, and then stands twice in the same bucket, which is walked as a set.
- A tap follows its data: the dicts stay the same objects when databases are swapped or cleared.
- An entry that has been begun is finished before another one is written. What is touched meanwhile is kept
  as it is now and written next, and so is a large value that is touched.

Costs: O(1) to make, once the scan order is there (``Context.keep_order``); about 0.2 µs a key, and what writing it
takes; 10 bytes a key for the buckets, which go as they are walked, and about 35 for a key touched ahead of the
walker. A command pays for writing the keys that it touches first, or for copying a container that is large: 20 to 60 ms
for a million elements, a fifth of what writing them takes.

Rejected: a set of all that was written, which for small keys is half the size of the data.

Must not know: how entries are written, files, commands.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import NamedTuple, Protocol, runtime_checkable

from kvstore.engine.context import Context
from kvstore.engine.keyspace import Keyspace
from kvstore.engine.order import ScanOrder
from kvstore.engine.types import TYPES, Value

# Keys that a bucket has at most, on average: what is written between two looks at the clock, 0.1 ms.
_BUCKET_KEYS = 256
# Keys sorted between two looks at the clock: less than 0.1 ms.
_SORTED_AT_ONCE = 500
# Strings up to this size, in bytes, are written many at a time.
SHORT_STRING = 511
_ONLY_BYTES = {bytes}
# Containers of up to so many bytes, as estimated from so many elements, are written at once when they are
# about to change; larger ones are copied, and written later.
_SMALL = 1 << 17
_SAMPLES = 5


class Rest(Iterator[None]):
    """What is left of an entry that has been begun; each step writes a part of it."""

    @abstractmethod
    def let_go(self, copy: Callable[[], Value]) -> None:
        """The value is about to change: do not look at it again. ``copy`` makes one of what it is now."""


class Entries(Protocol):
    """Takes the keys of a snapshot, in any order, databases mixed."""

    def entry(self, db: int, key: bytes, value: Value, deadline_ms: int | None) -> Rest | None:
        """Write one key. None: it is written. Else it is large, and has been begun."""


@runtime_checkable
class FastEntries(Entries, Protocol):
    """As Entries, and takes at once what most stores are full of."""

    def strings(
        self, db: int, keys: list[bytes], values: list[bytes], deadlines_ms: list[int | None] | None
    ) -> None:
        """Write keys whose values are strings of at most ``SHORT_STRING`` bytes. ``deadlines_ms``: None
        where no key has one."""


@runtime_checkable
class UsedEntries(Entries, Protocol):
    """As Entries, and wants to know when keys were used, as far as that is recorded."""

    def used(self, idle_s: int | None, frequency: int | None) -> None:
        """For how long the key of the next entry was not used, or its counter of uses."""


class Snapshot:
    """All keys of a store as they were when this was made, on their way to ``out``."""

    def __init__(self, ctx: Context, out: Entries):
        self._ctx = ctx
        self._out = out
        self._strings = out.strings if isinstance(out, FastEntries) else None
        recording = ctx.evictor.records_uses()
        self._used = out.used if recording and isinstance(out, UsedEntries) else None
        self._rest: Rest | None = None  # of the entry that was begun
        self._rest_of: tuple[_Part, bytes] | None = None  # whose value it is, while it looks at that
        self._kept: deque[_Kept] = deque()  # to be written before the walk goes on
        self.total = 0
        self.written = 0
        self._parts: list[_Part] = []  # the current one is the last
        for _, db in sorted(ctx.databases.items(), reverse=True):
            if db._data:
                assert db._before_change is None, "another snapshot is under way"
                self.total += len(db._data)
                part = _Part(self, db)
                self._parts.append(part)
                db._before_change = part

    def step(self, nanos: int) -> bool:
        """Walk for about that long; True when all is written."""
        end = perf_counter_ns() + nanos
        while True:
            if self._rest is not None and not self._go_on(end):
                return False
            if self._kept:
                self._write_kept()
                if perf_counter_ns() >= end:
                    return False
                continue
            if not self._parts:
                return True
            if self._parts[-1].walk(end):
                self._end_part()
            elif self._rest is None or perf_counter_ns() >= end:
                return False

    def finish(self) -> None:
        """Walk to the end. O(n)."""
        while not self.step(1 << 62):
            pass

    def cancel(self) -> None:
        """Stop, and have nobody ask any more. O(databases)."""
        self._rest = self._rest_of = None
        self._kept.clear()
        while self._parts:
            self._end_part()

    def _end_part(self) -> None:
        part = self._parts.pop()
        for db in self._ctx.databases.values():
            if db._before_change is part:
                db._before_change = None

    # -- writing -----------------------------------------------------------------------------------

    def write(self, part: _Part, key: bytes, value: Value) -> None:
        """Write a key, or begin to."""
        if self._used is not None:
            self._used(*self._ctx.evictor.use_of(part.access, key))
        self._rest = self._out.entry(part.number, key, value, part.expires.get(key))
        if self._rest is None:
            self.written += 1
        else:
            self._rest_of = part, key

    def _write_kept(self) -> None:
        """Write what was kept first, or begin to."""
        kept = self._kept.popleft()
        if kept.use is not None and self._used is not None:
            self._used(*kept.use)
        self._rest = self._out.entry(kept.db, kept.key, kept.value, kept.deadline_ms)
        if self._rest is None:
            self.written += 1

    def _go_on(self, end: int) -> bool:
        """Write some more of the entry that was begun; True if that was the rest."""
        assert self._rest is not None
        for _ in self._rest:
            if perf_counter_ns() >= end:
                return False
        self._rest = self._rest_of = None
        self.written += 1
        return True

    def write_before(self, part: _Part, key: bytes) -> None:
        """Write a key, if it is there, that is about to change; or keep it as it is."""
        value = part.data.get(key)
        if value is None:
            return
        if self._rest is None and _is_small(value):
            self.write(part, key, value)
            self.before_change(part, key)
            return
        use = None if self._used is None else self._ctx.evictor.use_of(part.access, key)
        twin = TYPES[type(value)].copy(value)
        self._kept.append(_Kept(part.number, key, twin, part.expires.get(key), use))

    def before_change(self, part: _Part, key: bytes) -> None:
        """A key is about to change, whose entry may have been begun."""
        if self._rest_of is not None and self._rest_of == (part, key):
            assert self._rest is not None
            value = part.data[key]
            self._rest.let_go(lambda: TYPES[type(value)].copy(value))
            self._rest_of = None

    def write_strings(self, part: _Part, left: set[bytes]) -> None:
        """Write all keys of ``left`` that hold short strings; ``left`` loses them, and those that are gone.

        Keys of a bucket lie all over the memory. So this is a few loops in C, in which the machine waits for
        many of them at a time, and not one loop in Python: that takes twice as long.
        """
        if self._strings is None or self._used is not None:
            return
        keys = list(left)
        values: list[Value] = list(map(part.data.get, keys))
        if set(map(type, values)) == _ONLY_BYTES and max(map(len, values)) <= SHORT_STRING:
            left.clear()
        else:
            found = list(zip(keys, values, strict=True))
            left.difference_update([key for key, value in found if value is None])
            found = [each for each in found if type(each[1]) is bytes and len(each[1]) <= SHORT_STRING]
            if not found:
                return
            keys, values = [key for key, _ in found], [value for _, value in found]
            left.difference_update(keys)
        expires = part.expires
        if not expires or expires.keys().isdisjoint(keys):
            self._strings(part.number, keys, values, None)
        else:
            self._strings(part.number, keys, values, list(map(expires.get, keys)))
        self.written += len(keys)

    def write_some(self, part: _Part, left: set[bytes], end: int) -> bool:
        """Write keys of ``left``, which loses them, until it is empty (True) or it is time to stop.

        An entry that has been begun is a reason to stop too."""
        get, pop = part.data.get, left.pop
        while left:
            key = pop()
            value = get(key)
            if value is not None:
                self.write(part, key, value)
            if self._rest is not None or perf_counter_ns() >= end:
                return False
        return True


class _Kept(NamedTuple):
    """A key as it was before it changed."""

    db: int
    key: bytes
    value: Value
    deadline_ms: int | None
    use: tuple[int | None, int | None] | None


def _is_small(value: Value) -> bool:
    """Whether writing a value takes a fraction of a millisecond, by a few of its elements."""
    if type(value) is bytes:
        return len(value) <= _SMALL
    return TYPES[type(value)].memory(value, _SAMPLES) <= _SMALL


class _Part:
    """One database of a snapshot, wherever its data goes; and the tap that goes with it."""

    __slots__ = (
        "_at",
        "_buckets",
        "_current",
        "_done",
        "_left",
        "_mask",
        "_order",
        "_snapshot",
        "access",
        "data",
        "expires",
        "number",
    )

    def __init__(self, snapshot: Snapshot, db: Keyspace):
        self._snapshot = snapshot
        self.number = db.index
        self.data = db._data
        self.expires = db._expires
        self.access = db._access
        self._order: ScanOrder | None = db._scan_order()
        self._at = len(self._order.entries)  # what is from here on has been sorted
        count = 1 << max(0, (len(db._data) - 1) // _BUCKET_KEYS).bit_length()
        self._mask = count - 1
        self._buckets: list[list[bytes]] = []
        # Keys touched ahead of the walker, by bucket.
        self._done: dict[int, set[bytes]] = {}
        self._current = -1  # the bucket that is being written
        self._left: set[bytes] = set()  # what of it is not written

    def __call__(self, key: bytes) -> None:
        """Before a key changes: see Tap."""
        number = hash(key) & self._mask
        if number > self._current:
            done = self._done.get(number)
            if done is None:
                done = self._done[number] = set()
            elif key in done:
                return
            done.add(key)
            self._snapshot.write_before(self, key)
        elif number == self._current and key in self._left:
            self._left.discard(key)
            self._snapshot.write_before(self, key)
        else:
            self._snapshot.before_change(self, key)

    def cleared(self, data: dict[bytes, Value], expires: dict[bytes, int]) -> None:
        """The walk goes on over the dicts and the scan order, which have no other user now."""

    def walk(self, end: int) -> bool:
        """Go on until all is written (True), an entry has been begun or it is time to stop."""
        if self._order is not None and not self._sort(self._order, end):
            return False
        snapshot = self._snapshot
        while True:
            if not snapshot.write_some(self, self._left, end):
                return False
            self._current += 1
            if self._current > self._mask:
                return True
            self._left = set(self._buckets[self._current])
            self._buckets[self._current] = []
            touched = self._done.pop(self._current, None)
            if touched:
                self._left -= touched
            snapshot.write_strings(self, self._left)
            if perf_counter_ns() >= end:
                return False

    def _sort(self, order: ScanOrder, end: int) -> bool:
        """Put keys into buckets, the last entry first, until all are there (True) or it is time to stop."""
        entries, mask = order.entries, self._mask
        if not self._buckets:
            self._buckets = [[] for _ in range(mask + 1)]
        buckets = self._buckets
        at = min(self._at, len(entries))
        while at:
            start = max(0, at - _SORTED_AT_ONCE)
            for key in entries[start:at]:
                buckets[hash(key) & mask].append(key)
            at = start
            if perf_counter_ns() >= end:
                break
        self._at = at
        if at:
            return False
        self._order = None
        return True
