"""Iterators over the elements of one key, by its SCAN command. No logic but the loop.

Must not know: containers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvstore.engine.generic import Generic, walk
from kvstore.engine.hashes import Hashes
from kvstore.engine.keyspace import KeyT
from kvstore.engine.sets import Sets
from kvstore.engine.zsets import SortedSets


class ScanIterators(Sets, Hashes, SortedSets, Generic):
    """What is there from start to end is met, some perhaps twice; elements may come and go meanwhile."""

    __slots__ = ()

    def sscan_iter(self, name: KeyT, match: KeyT | None = None, count: int | None = None) -> Iterator[bytes]:
        """The members of a set, by ``sscan``."""
        yield from walk(lambda cursor: self.sscan(name, cursor, match, count))

    def hscan_iter(
        self,
        name: KeyT,
        match: KeyT | None = None,
        count: int | None = None,
        no_values: bool | None = None,
    ) -> Iterator[Any]:
        """The (field, value) pairs of a hash, by ``hscan``; only the fields with ``no_values``."""

        def page(cursor: int) -> tuple[int, Any]:
            cursor, found = self.hscan(name, cursor, match, count, no_values)
            return cursor, found.items() if isinstance(found, dict) else found

        yield from walk(page)

    def zscan_iter(
        self,
        name: KeyT,
        match: KeyT | None = None,
        count: int | None = None,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> Iterator[tuple[bytes, Any]]:
        """The (member, score) pairs of a sorted set, by ``zscan``."""
        yield from walk(lambda cursor: self.zscan(name, cursor, match, count, score_cast_func))
