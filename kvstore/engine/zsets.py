"""Sorted sets: the typed methods."""

from __future__ import annotations

from kvstore.engine.keyspace import Keyspace


class SortedSets(Keyspace):
    """Sorted sets."""

    __slots__ = ()
