"""Who packs what nobody has used for a while: a walk over the keys, in slices, once in a while.

Nothing is noted when a value is used: a packed one is unpacked by its next use, and then left alone for some
passes. So what is used all the time costs one packing and one unpacking in some passes, and no command pays.

Invariants
- A pass looks at each key that was there at the last pass already, and at those alone: a value is packed no sooner
  than one pass after its key came.
- What was unpacked stays so for at least ``_REST`` passes.
- Packing changes no data: no commit, no event, no watcher; a snapshot under way may write either form.

Costs: packing a value 2 to 4 µs of ten elements; a pass about 0.1 µs for a key that there is nothing to do for. A
database of few keys, or with no container among those of a sample, is not walked, and needs no scan order for it.

Must not know: clocks, timers, what packed values are made of.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final, TypeVar

from kvstore.engine.keyspace import Cold
from kvstore.engine.types.cold import PACK, UNPACK

if TYPE_CHECKING:
    from kvstore.engine.context import Context
    from kvstore.engine.keyspace import Keyspace
    from kvstore.engine.types import Value

T = TypeVar("T")

# Keys of a database below which packing gains nothing worth a walk.
LEAST_KEYS: Final = 2000
# Keys looked at to tell whether a database has containers at all.
_SAMPLE: Final = 500
# Keys whose types are looked at in one go, by loops in C: about 0.05 ms.
_LOOKED_AT_ONCE: Final = 500
# Values packed between two looks at the clock: some µs each, 25 µs with the most elements.
_PACKED_AT_ONCE: Final = 8
# Bytes of what values became, and of their keys, that are made before what they were is freed: then that is some
# hundred arenas of the allocator, of 1 MB each, and few of them hold a part of what is not yet packed.
_FREED_BYTES: Final = 32 << 20
# Bytes of an object beside its words, and of an entry of ours.
_BESIDE: Final = 100
# Of these, freed between two looks at the clock: 0.3 µs each.
_FREED_AT_ONCE: Final = 200
# Bytes a key that a table has only where it is too large: a table takes 30 to 60.
_LOOSE: Final = 64
# Keys up to which a table is moved to one of its size in one go: a pause of 6 ms, as when a table grows.
_MOST_MOVED: Final = 1 << 18
# Passes, at least, in which what was unpacked is left alone.
_REST: Final = 3


class Packer:
    """Walks over the keys of a store again and again."""

    __slots__ = ("_ctx", "_pass")

    def __init__(self, ctx: Context):
        self._ctx = ctx
        self._pass: Iterator[None] | None = None

    def stop(self) -> None:
        """Leave the pass that is under way. O(what it has yet to free)."""
        self._pass = None

    def step(self, nanos: int) -> bool:
        """Go on with the pass, or begin one, for about that long; True when it is over."""
        if self._pass is None:
            self._pass = self._walk_all()
        end = perf_counter_ns() + nanos
        for _ in self._pass:
            if perf_counter_ns() >= end:
                return False
        self._pass = None
        return True

    def _walk_all(self) -> Iterator[None]:
        for db in list(self._ctx.databases.values()):
            if len(db._data) >= LEAST_KEYS and any(type(value) in PACK for value in _sample(db)):
                yield from self._walk(db)
                yield

    def _walk(self, db: Keyspace) -> Iterator[None]:
        """A pass over one database. What is fetched is used before the next ``yield``: then commands run."""
        order = db._scan_order()
        cold = db._cold
        if cold is None:
            cold = db._cold = Cold()
        at, cold.seen = min(cold.seen, len(order.entries)), len(order.entries)
        cold.passes += 1
        if cold.passes % _REST == 0:
            cold.unpacked, cold.unpacked_before = set(), cold.unpacked
        lots = _Lots(db)
        while at > 0:
            start = max(0, at - _LOOKED_AT_ONCE)
            keys, stop, at = order.entries[start:at], at, start
            if not PACK.keys().isdisjoint(map(type, map(db._data.get, keys))):
                for low in range(start, stop, _PACKED_AT_ONCE):
                    if lots.pack(low, min(low + _PACKED_AT_ONCE, stop), cold):
                        yield
                        if db._cold is not cold:  # cleared or swapped with another
                            yield from lots.let_go()
                            return
            if lots.are_many:
                yield from lots.let_go()
            yield
            if db._cold is not cold:
                break
        yield from lots.let_go()
        if db._cold is cold:
            lots.end()


class _Lots:
    """Packs the values of one database, and moves what is left out of the way of what is freed.

    The allocator gives memory back to the system by the megabyte, where nothing is left in it. So what is packed is
    kept until much of it is freed together, and what stays of it, packed values and keys, is made anew
    meanwhile: else it would be made in the very holes that it should leave.
    """

    __slots__ = ("_bytes", "_db", "_done", "_old", "_trim")

    def __init__(self, db: Keyspace):
        self._trim = _trimmer()  # which imports something that had better not lie where all is freed
        self._db = db
        self._old: list[Value] = []  # values and keys, in the order in which they are to be freed
        self._bytes = 0  # of what has been packed since they were last freed
        self._done = 0

    @property
    def are_many(self) -> bool:
        return self._bytes >= _FREED_BYTES

    def pack(self, start: int, stop: int, cold: Cold | None) -> bool:
        """Pack the values of some entries of the scan order, except those that were unpacked of late; whether there
        were some to try."""
        db = self._db
        data, entries, old = db._data, db._scan_order().entries, self._old
        lot: dict[bytes, Value] = {}
        tried = False
        for key in entries[start:stop]:
            value = data.get(key)
            pack = PACK.get(type(value))
            if pack is None or (cold is not None and (key in cold.unpacked or key in cold.unpacked_before)):
                continue
            tried = True
            packed = pack(value)
            if packed is not None:
                lot[key] = packed
                old.append(value)
                self._bytes += len(packed) + len(key) + _BESIDE
        if lot:
            data.update(lot)
            db.ctx.stats.packed += len(lot)
            self._done += len(lot)
            for key in self._renew(lot, entries, start, stop):
                db.ctx.evictor.weigh_again(db.index, key)
        return tried

    def _renew(self, lot: dict[bytes, Value], entries: list[bytes], start: int, stop: int) -> Iterable[bytes]:
        """Have new objects for the keys of ``lot``, wherever they are kept; them."""
        db = self._db
        if db._volatile is not None and not db._expires.keys().isdisjoint(lot):
            return lot
        renewed = dict(zip(lot, [bytes(memoryview(key)) for key in lot], strict=True))
        entries[start:stop] = [renewed.get(key, key) for key in entries[start:stop]]
        _replace(db._data, renewed)
        if db._expires:
            due = db._due
            for key in _replace(db._expires, renewed):
                deadline = db._expires[key]
                due.drop(key, deadline)
                due.file(key, deadline)
        if db._access is not None:
            _replace(db._access, renewed)
        self._old += renewed
        return renewed.values()

    def let_go(self) -> Iterator[None]:
        """Free what was packed, some at a time."""
        old, self._bytes = self._old, 0
        while old:
            del old[-_FREED_AT_ONCE:]
            yield

    def end(self) -> None:
        """Give back what else can be: the tables of keys have grown while these were replaced, and what the
        system's allocator has is not freed by itself where something is left above."""
        db = self._db
        if self._done < max(LEAST_KEYS, len(db._data) >> 3):  # so little is not worth the pause
            return
        if len(db._data) <= _MOST_MOVED and db._before_change is None:
            if sys.getsizeof(db._data) > len(db._data) * _LOOSE:
                db._data = _tight(db._data)
            if sys.getsizeof(db._expires) > len(db._expires) * _LOOSE:
                db._expires = _tight(db._expires)
        if self._trim is not None:
            self._trim(0)


def _replace(table: dict[bytes, T], renewed: dict[bytes, bytes]) -> list[bytes]:
    """Put new objects in the place of equal keys, of those that the table has; them. The order changes."""
    found = {new: table[key] for key, new in renewed.items() if key in table}
    try:
        for key in found:
            del table[key]
    finally:  # whatever breaks in, no key is lost
        table.update(found)
    return list(found)


def _tight(table: dict[bytes, T]) -> dict[bytes, T]:
    """The same in a table of the size that it needs. O(n), about 25 ns an entry."""
    made: dict[bytes, T] = {}
    made.update(table)
    return made


def _trimmer() -> Callable[[int], object] | None:
    """What has the C library give free memory back to the system, where it can."""
    try:
        from ctypes import CDLL

        return CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError, TypeError):
        return None  # not glibc


def pack_all(ctx: Context) -> int:
    """Pack every small container, in one go; how many were packed. O(n)."""
    before = ctx.stats.packed
    for db in list(ctx.databases.values()):
        lots = _Lots(db)
        at = len(db._scan_order().entries)
        while at > 0:
            start = max(0, at - _LOOKED_AT_ONCE)
            lots.pack(start, at, None)
            at = start
            if lots.are_many:
                deque(lots.let_go(), 0)
        deque(lots.let_go(), 0)
        lots.end()
    return ctx.stats.packed - before


def count_packed(ctx: Context) -> int:
    """About how many values are packed: by a sample of each database, all keys of a small one. O(databases)."""
    total = 0
    for db in ctx.databases.values():
        found = [type(value) in UNPACK for value in _sample(db)]
        if found:
            total += len(db._data) * sum(found) // len(found)
    return total


def _sample(db: Keyspace) -> list[object]:
    """Values of some keys: of all where there are few, spread over the scan order where there is one, else of both
    ends."""
    data, order = db._data, db._order
    if len(data) <= 2 * _SAMPLE:
        return list(data.values())
    if order is not None:
        keys = order.entries[:: len(order.entries) // _SAMPLE]
        return [data[key] for key in keys if key in data]
    values = data.values()
    return [*islice(values, _SAMPLE), *islice(reversed(values), _SAMPLE)]
