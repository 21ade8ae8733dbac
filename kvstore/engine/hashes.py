"""Hashes: the typed methods."""

from __future__ import annotations

from kvstore.engine.keyspace import Keyspace


class Hashes(Keyspace):
    """Hashes."""

    __slots__ = ()
