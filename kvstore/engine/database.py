"""One database with all its typed methods: the families, assembled. No logic."""

from __future__ import annotations

import kvstore.engine.types.string
from kvstore.engine.generic import Generic
from kvstore.engine.hashes import Hashes
from kvstore.engine.lists import Lists
from kvstore.engine.sets import Sets
from kvstore.engine.strings import Strings
from kvstore.engine.zsets import SortedSets


class Database(Strings, Lists, Sets, Hashes, SortedSets, Generic):
    """A numbered database of a store, as sessions use it."""

    __slots__ = ()
