"""Generic key commands: the typed methods."""

from __future__ import annotations

from kvstore.engine.keyspace import Keyspace


class Generic(Keyspace):
    """Generic key commands."""

    __slots__ = ()
