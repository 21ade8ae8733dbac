"""One database with all its typed methods: the families, assembled. No logic."""

from __future__ import annotations

import kvstore.engine.types.string  # noqa: F401
from kvstore.engine.expiry_commands import Deadlines
from kvstore.engine.generic import Generic
from kvstore.engine.hashes import Hashes
from kvstore.engine.lists import Lists
from kvstore.engine.scan_iterators import ScanIterators
from kvstore.engine.sets import Sets
from kvstore.engine.strings import Strings
from kvstore.engine.zsets import SortedSets


class Database(ScanIterators, Strings, Lists, Sets, Hashes, SortedSets, Generic, Deadlines):
    """A numbered database of a store, as sessions use it."""

    __slots__ = ()
