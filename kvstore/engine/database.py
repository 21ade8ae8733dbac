"""One database with all its typed methods: the families, assembled. No logic."""

from __future__ import annotations

import kvstore.engine.types.string  # noqa: F401
from kvstore.engine.bitmaps import Bitmaps
from kvstore.engine.expiry_commands import Deadlines
from kvstore.engine.generic import Generic
from kvstore.engine.geo import Geo
from kvstore.engine.hash_expiry import HashExpiry
from kvstore.engine.hyperloglog import HyperLogLogs
from kvstore.engine.lists import Lists
from kvstore.engine.newer_strings import NewerStrings
from kvstore.engine.scan_iterators import ScanIterators
from kvstore.engine.serial import Serial
from kvstore.engine.sets import Sets
from kvstore.engine.sorting import Sorting
from kvstore.engine.stream_info import StreamInfo


class Database(
    ScanIterators,
    NewerStrings,
    Bitmaps,
    Lists,
    Sets,
    HashExpiry,
    Geo,
    HyperLogLogs,
    StreamInfo,
    Serial,
    Sorting,
    Generic,
    Deadlines,
):
    """A numbered database of a store, as sessions use it."""

    __slots__ = ()
