"""What the databases of one store share: clock, random source, limits, listeners.

Invariants
- ``live`` is true exactly while some listener wants commits; every database carries a copy of it,
  so that a mutation asks one attribute of its own.
- Time only comes from ``now()``. While a unit (EXEC, a script, a loop turn) runs, ``frozen`` holds
  its time, so that a key cannot expire between two commands of one unit.

Must not know: commands, sessions, files, sockets.
"""

from __future__ import annotations

import random as _random
import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Protocol

from kvstore.engine.eviction import Evictor

if TYPE_CHECKING:
    from kvstore.engine.database import Database
    from kvstore.engine.keyspace import Tap

Effect = tuple[bytes, ...]
Event = tuple[str, bytes]


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""


class SystemClock:
    """Real time."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """Time that moves only when told to. Starts at ``now_ms`` (default: the real time, once)."""

    def __init__(self, now_ms: int | None = None):
        self._now = time.time_ns() // 1_000_000 if now_ms is None else now_ms

    def now_ms(self) -> int:
        return self._now

    def advance(self, seconds: float = 0, *, ms: int = 0) -> None:
        """Move forward; a negative step is refused, as real clocks are expected not to go back."""
        step = round(seconds * 1000) + ms
        if step < 0:
            raise ValueError("a clock cannot be moved back")
        self._now += step


class Listener(Protocol):
    """Hears of every mutation. Only buffers: it never calls the store.

    Subclass it to inherit the methods that one has no use for.
    """

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        """``effect`` is the deterministic command that repeats the change; ``events`` are (name, key).

        An empty effect: what changed in this database is part of the effect just committed in another
        one (MOVE, COPY with DB). There is nothing to log, only keys that were touched.
        """
        return None

    def on_event(self, db: int, name: str, key: bytes) -> None:
        """Something worth a notification that changed no data: a key missed, a key made."""
        return None

    def on_clear(self, db: int, had: Container[bytes]) -> None:
        """The database lost all its keys, which were ``had``. The commit of the effect follows."""
        return None

    def on_swap(self, db: int, has: Container[bytes], other: int, other_has: Container[bytes]) -> None:
        """Two databases swapped their data: ``db`` now has the keys ``has``, and ``other`` has
        ``other_has``. A key in either was touched in both. The commit of the effect follows."""
        return None

    def on_unit(self, begins: bool) -> None:
        """What is committed from here to the end of the unit happens as one thing, or not at all."""
        return None


class Limits:
    """The sizes at which a value changes its reported encoding, and the largest string.

    Defaults are those of Redis 7.4; each is the directive of the same name.
    """

    __slots__ = (
        "hash_max_listpack_entries",
        "hash_max_listpack_value",
        "hll_sparse_max_bytes",
        "list_max_listpack_size",
        "proto_max_bulk_len",
        "set_max_intset_entries",
        "set_max_listpack_entries",
        "set_max_listpack_value",
        "stream_node_max_bytes",
        "stream_node_max_entries",
        "zset_max_listpack_entries",
        "zset_max_listpack_value",
    )

    # No dataclass, here and elsewhere in the engine: that module alone takes a fifth of the time of
    # ``from kvstore import Store``.
    def __init__(self, **others: int) -> None:
        """``others``: sizes that are not the default, by name."""
        self.proto_max_bulk_len = 512 * 1024 * 1024
        self.hash_max_listpack_entries = 512
        self.hash_max_listpack_value = 64
        self.set_max_intset_entries = 512
        self.set_max_listpack_entries = 128
        self.set_max_listpack_value = 64
        self.zset_max_listpack_entries = 128
        self.zset_max_listpack_value = 64
        self.list_max_listpack_size = -2
        self.hll_sparse_max_bytes = 3000
        self.stream_node_max_bytes = 4096
        self.stream_node_max_entries = 100
        for name, size in others.items():
            setattr(self, name, size)


class Stats:
    """Counters of the keyspace since start (or CONFIG RESETSTAT)."""

    __slots__ = ("evicted", "expired", "expired_fields", "hits", "misses", "packed", "unpacked")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hits = 0
        self.misses = 0
        self.expired = 0
        self.evicted = 0
        self.expired_fields = 0
        self.packed = 0
        self.unpacked = 0


class Unit:
    """What ``Context.unit`` returns; a class, as a generator would cost three times as much."""

    __slots__ = ("_before", "_ctx", "_outermost")

    def __init__(self, ctx: Context):
        self._ctx = ctx

    def __enter__(self) -> None:
        ctx = self._ctx
        before = self._before = ctx.frozen
        if before is None:
            ctx.frozen = ctx.clock.now_ms()
        units = ctx.units
        self._outermost = not units
        ctx.units = units + 1
        if not units and ctx.listeners:
            for listener in ctx.listeners:
                listener.on_unit(True)

    def __exit__(self, *error: object) -> None:
        ctx = self._ctx
        ctx.units -= 1
        ctx.frozen = self._before
        if self._outermost and ctx.listeners:
            for listener in ctx.listeners:
                listener.on_unit(False)


class Context:
    """Shared by the databases of one store."""

    __slots__ = (
        "_make",
        "active_expire",
        "clock",
        "count",
        "databases",
        "evictor",
        "frozen",
        "keeps_order",
        "libraries",
        "limits",
        "listeners",
        "live",
        "new_tap",
        "obeys",
        "random",
        "stats",
        "units",
    )

    def __init__(
        self,
        make: Callable[[Context, int], Database],
        *,
        databases: int = 16,
        clock: Clock | None = None,
        random: _random.Random | None = None,
    ):
        self._make = make
        self.count = databases
        self.databases: dict[int, Database] = {}
        self.clock: Clock = SystemClock() if clock is None else clock
        self.random = _random.Random() if random is None else random
        self.limits = Limits()
        self.stats = Stats()
        self.listeners: list[Listener] = []
        self.live = False
        self.frozen: int | None = None
        self.keeps_order = False
        self.new_tap: Tap | None = None  # of databases that are yet to be made
        self.units = 0  # how deep units are nested now
        # Sources of function libraries by name, as they were read: kept, to be written again.
        self.libraries: dict[bytes, bytes] = {}
        self.active_expire = True
        self.obeys = False  # what runs now are effects of a log: what they say of times is taken as it is
        self.evictor = Evictor(self)

    def now(self) -> int:
        """The time of this unit in milliseconds since the Unix epoch."""
        frozen = self.frozen
        return self.clock.now_ms() if frozen is None else frozen

    def unit(self) -> Unit:
        """A unit of several changes, for ``with``: its time stands still, and whoever listens takes them as one."""
        return Unit(self)

    def randbelow(self, n: int) -> int:
        """A random index below ``n``."""
        return int(self.random.random() * n)

    def database(self, index: int) -> Database:
        """The numbered database, made on first use. The caller has checked 0 <= index < count."""
        found = self.databases.get(index)
        if found is None:
            found = self.databases[index] = self._make(self, index)
            found.live = self.live
            found._before_change = self.new_tap
            if self.keeps_order:
                found._scan_order()
            self.evictor.attach(found)
        return found

    def keep_order(self) -> None:
        """Have every database keep the order list of its keys from now on: a snapshot begins with it, and
        then need not make it in one go. O(keys), so for a store that is empty still."""
        self.keeps_order = True
        for database in self.databases.values():
            database._scan_order()

    def listen(self, listener: Listener) -> None:
        """Add a listener, which from now on hears of every commit.

        The newest hears first: a log, which is there from the start and whose disk may fail, comes last.
        """
        if listener not in self.listeners:
            self.listeners = [listener, *self.listeners]
            self._relive()

    def unlisten(self, listener: Listener) -> None:
        if listener in self.listeners:
            self.listeners = [each for each in self.listeners if each is not listener]
            self._relive()

    def _relive(self) -> None:
        self.live = bool(self.listeners)
        for database in self.databases.values():
            database.live = self.live
