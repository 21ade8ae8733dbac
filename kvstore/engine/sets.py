"""Sets: the typed methods."""

from __future__ import annotations

from kvstore.engine.keyspace import Keyspace


class Sets(Keyspace):
    """Sets."""

    __slots__ = ()
