"""How much memory the data takes: estimates by type, and a running total while a limit is set.

The accountant listens to commits and only remembers which keys they touched; ``used()`` weighs those
keys anew and corrects the total. Nothing is kept, and nothing is asked for, while there is no limit.

Invariant: after ``used()`` the total is the sum of what ``weigh_key`` says of each key, as of the last
commit that touched it. What is counted is the data, as this process holds it: not the interpreter, not
clients' buffers.

Costs: a commit one set insertion a key; ``used()`` O(samples) a touched key; installing O(keys).

Must not know: policies, commands.
"""

from __future__ import annotations

import sys
from collections.abc import Container
from itertools import islice
from typing import TYPE_CHECKING

from kvstore.engine.types import TYPES

if TYPE_CHECKING:
    from kvstore.engine.context import Context, Effect, Event
    from kvstore.engine.keyspace import Keyspace

# Elements of a value that are measured when nobody says otherwise, as MEMORY USAGE has it.
SAMPLES = 5
# Bytes a key takes in a dict: its entry and its share of the index, between 36 and 100 as the dict fills.
_ENTRY = 64
# Bytes that a deadline takes: an entry in the deadlines, its number, its place in a bucket.
_DEADLINE = 160
# Keys weighed, at either end of a database, to guess at the rest when nobody accounts.
_GUESS_FROM = 500


def weigh_key(db: Keyspace, key: bytes, samples: int = SAMPLES) -> int:
    """Bytes that an existing key and its value take, by measuring ``samples`` elements (0: all)."""
    value = db._data[key]
    size = _ENTRY + sys.getsizeof(key) + TYPES[type(value)].memory(value, samples)
    return size + _DEADLINE if key in db._expires else size


def guess(db: Keyspace) -> int:
    """About how much a database takes: exact while it is small, then by weighing keys at both ends. O(1)."""
    data = db._data
    count = len(data)
    if count <= 2 * _GUESS_FROM:
        return sum(weigh_key(db, key) for key in data)
    sample = [*islice(data, _GUESS_FROM), *islice(reversed(data), _GUESS_FROM)]
    return sum(weigh_key(db, key) for key in sample) * count // len(sample)


class Accountant:
    """Keeps the total size of the data of all databases. A listener."""

    __slots__ = ("_ctx", "_sizes", "_total", "_touched")

    def __init__(self, ctx: Context):
        self._ctx = ctx
        # Sizes are kept in units of 16 bytes, so that most are small integers that Python shares.
        self._sizes: dict[int, dict[bytes, int]] = {}
        self._touched: dict[int, set[bytes]] = {}
        self._total = 0
        for index, db in ctx.databases.items():
            sizes = self._sizes[index] = {key: _units(db, key) for key in db._data}
            self._total += sum(sizes.values())

    def used(self) -> int:
        """Bytes of data as of now. O(1), and what touched keys cost to weigh."""
        if self._touched:
            self._settle()
        return self._total << 4

    def _settle(self) -> None:
        touched, self._touched = self._touched, {}
        for index, keys in touched.items():
            db = self._ctx.databases[index]
            sizes = self._sizes.setdefault(index, {})
            for key in keys:
                before = sizes.get(key, 0)
                if key in db._data:
                    size = sizes[key] = _units(db, key)
                    self._total += size - before
                elif before:
                    del sizes[key]
                    self._total -= before

    def touch(self, db: int, key: bytes) -> None:
        """Weigh a key anew, whose value was packed or unpacked; keep this object of the key. O(1)."""
        sizes = self._sizes.get(db)
        if sizes is not None and key in sizes:
            sizes[key] = sizes.pop(key)
        self._touched.setdefault(db, set()).add(key)

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        touched = self._touched.get(db)
        if touched is None:
            touched = self._touched[db] = set()
        for _, key in events:
            touched.add(key)

    def on_event(self, db: int, name: str, key: bytes) -> None:
        pass

    def on_clear(self, db: int, had: Container[bytes]) -> None:
        self._total -= sum(self._sizes.pop(db, {}).values())
        self._touched.pop(db, None)

    def on_swap(self, db: int, has: Container[bytes], other: int, other_has: Container[bytes]) -> None:
        for tables in (self._sizes, self._touched):
            mine, theirs = tables.pop(db, None), tables.pop(other, None)
            if theirs is not None:
                tables[db] = theirs  # type: ignore[assignment]
            if mine is not None:
                tables[other] = mine  # type: ignore[assignment]

    def on_unit(self, begins: bool) -> None:
        pass

    def check(self) -> None:
        self.used()
        # The total is the sum of the sizes, and nothing that is gone is counted.
        assert self._total == sum(sum(sizes.values()) for sizes in self._sizes.values())
        for index, db in self._ctx.databases.items():
            assert self._sizes.get(index, {}).keys() == db._data.keys()


def _units(db: Keyspace, key: bytes) -> int:
    return (weigh_key(db, key) + 15) >> 4
