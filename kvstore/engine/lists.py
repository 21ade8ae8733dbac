"""Lists: the typed methods."""

from __future__ import annotations

from kvstore.engine.keyspace import Keyspace


class Lists(Keyspace):
    """Lists."""

    __slots__ = ()
