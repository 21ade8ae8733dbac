"""One database: keys, deadlines, lookup, lazy expiry, scan order, and the one exit of mutations.

Invariants
- ``_expires`` has only keys of ``_data``; a key whose deadline has passed is gone for every caller:
  each lookup removes it first and commits the removal as DEL.
- No empty container stays: whoever takes the last element removes the key (``_drop_if_empty``).
- Every change of the data ends in ``dirty += 1`` and, while ``live``, one ``commit()`` with the
  deterministic effect and the (event, key) pairs it touched.
- ``_order``, once made, has one entry for each key; ``_volatile`` one for each key with a deadline.
- What belongs to the data (``_contents``) moves as one when two databases are swapped; a tap thus
  follows its data.
- Every mutation looks its key up by ``_write`` (or calls ``_before_change``), so that whoever needs
  the old value (a snapshot under way) is asked first.
- A container may stand packed in ``_data`` (``types/cold.py``); ``_read_as`` and ``_write_as`` unpack it,
  who looks up without a type does so by ``_as`` or ``_unpacked``. It is the same data: no change, no commit.

Costs: lookup O(1). Must not know: argv, replies, sessions, what a value is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from kvstore.engine.context import Context, Effect, Event
from kvstore.engine.expiry import DueBuckets
from kvstore.engine.order import ScanOrder
from kvstore.engine.types import FORMS, TYPES, Value
from kvstore.engine.types.cold import UNPACK
from kvstore.errors import DataError, WrongTypeError

KeyT = bytes | str | int | float | memoryview
EncodableT = KeyT
T = TypeVar("T")

# Every eighth deadline that is filed handles twice as many due entries, so that a store nobody ticks
# shrinks too.
_FILED_MASK = 7
_DUE_AT_ONCE = 16


def to_bytes(value: Any) -> bytes:
    """What redis-py would send for a key or value: bytes as they are, str as UTF-8, numbers by repr."""
    cls = type(value)
    if cls is bytes:
        return value  # type: ignore[no-any-return]
    if cls is str:
        return value.encode()  # type: ignore[no-any-return]
    if isinstance(value, bool):
        raise _data_error(value)
    if isinstance(value, (int, float)):
        return repr(value).encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    raise _data_error(value)


def _data_error(value: Any) -> DataError:
    return DataError(
        f"Invalid input of type: '{type(value).__name__}'. Convert to a bytes, string, int or float first."
    )


class Tap(Protocol):
    """Asked before the data changes: by a snapshot under way, which takes the old value first."""

    def __call__(self, key: bytes) -> None:
        """``key`` is about to be created, changed or deleted."""

    def cleared(self, data: dict[bytes, Value], expires: dict[bytes, int]) -> None:
        """All keys went at once. The dicts are the tap's now, nobody changes them any more; the database
        has lost its tap."""


class Cold:
    """What the packer remembers of the data of one database."""

    __slots__ = ("passes", "seen", "unpacked", "unpacked_before")

    def __init__(self) -> None:
        self.passes = 0
        # Entries of the scan order at the last pass: the keys behind them came later.
        self.seen = 0
        # Keys that were unpacked of late, which stay so for some passes.
        self.unpacked: set[bytes] = set()
        self.unpacked_before: set[bytes] = set()


class Keyspace:
    """The untyped ground that the command families stand on."""

    __slots__ = (
        "__dict__",
        "_access",
        "_cold",
        "_data",
        "_due",
        "_expires",
        "_live",
        "_observed",
        "_order",
        "_stats",
        "_tap",
        "_thread",
        "_timed",
        "_touch",
        "_volatile",
        "_watched",
        "ctx",
        "dirty",
        "index",
    )

    _data: dict[bytes, Value]

    # The attributes that SWAPDB swaps. A family that keeps more beside the data adds its own.
    _contents: ClassVar[tuple[str, ...]] = (
        "_access",
        "_before_change",
        "_cold",
        "_data",
        "_due",
        "_expires",
        "_on_access",
        "_order",
        "_volatile",
    )

    def __init__(self, ctx: Context, index: int):
        self.ctx = ctx
        self._stats = ctx.stats
        self.index = index
        self._data = {}
        self._expires: dict[bytes, int] = {}
        self._due = DueBuckets()
        self._order: ScanOrder | None = None
        self._volatile: ScanOrder | None = None
        # Keys whose value has parts that expire (hash fields); None while there is none.
        self._timed: dict[bytes, int] | None = None
        # What the packer remembers of this data; None while it has not come by.
        self._cold: Cold | None = None
        # When keys were last used, as the evictor writes it; None while nobody asks.
        self._access: dict[bytes, int] | None = None
        self._tap: Tap | None = None
        self._touch: Callable[[bytes], None] | None = None
        self._watched = False  # whether there is one of these two
        self._live = False
        self._observed = False  # whether any of the three is so
        self.dirty = 0

    @property
    def live(self) -> bool:
        """Whether somebody wants commits."""
        return self._live

    @live.setter
    def live(self, live: bool) -> None:
        self._live = live
        self._observed = live or self._watched

    @property
    def _before_change(self) -> Tap | None:
        """Called with a key about to be created, changed or deleted; None when nobody asks."""
        return self._tap

    @_before_change.setter
    def _before_change(self, tap: Tap | None) -> None:
        self._tap = tap
        self._watched = tap is not None or self._touch is not None
        self._observed = self._live or self._watched

    @property
    def _on_access(self) -> Callable[[bytes], None] | None:
        """Called with a key that a command reads, writes or made (LRU and LFU); None when nobody asks."""
        return self._touch

    @_on_access.setter
    def _on_access(self, touch: Callable[[bytes], None] | None) -> None:
        self._touch = touch
        self._watched = touch is not None or self._tap is not None
        self._observed = self._live or self._watched

    # -- lookups -----------------------------------------------------------------------------------

    def _read(self, key: bytes) -> Value | None:
        """The live value for a reading command, or None; counts the hit or miss. O(1)."""
        value = self._data.get(key)
        if (
            value is None
            or (key in self._expires and self._expire_if_due(key))
            or (self._timed is not None and key in self._timed and self._expire_parts(key))
        ):
            self._missed(key)
            return None
        if self._touch is not None:
            self._touch(key)
        self._stats.hits += 1
        return value

    def _missed(self, key: bytes) -> None:
        self._stats.misses += 1
        if self._live:
            self._event("keymiss", key)

    def _read_as(self, key: bytes, container: type[T]) -> T | None:
        """As ``_read``; a value of another type is refused with WRONGTYPE."""
        value = self._read(key)
        if value is None or type(value) is container:
            return value
        return self._as(key, value, container)

    def _as(self, key: bytes, value: Value, container: type[T]) -> T:
        """The value just found at the key, unpacked; a value of another type is refused with WRONGTYPE."""
        if type(value) is container or FORMS.get(type(value)) is container:
            return value  # type: ignore[no-any-return]
        found = UNPACK.get(type(value))
        if found is None or found[0] is not container:
            raise WrongTypeError
        return self._unpacked(key, value)  # type: ignore[no-any-return]

    def _unpacked(self, key: bytes, value: Value) -> Value:
        """The value just found at the key, unpacked, whatever it is. O(1), or O(n) of a packed one."""
        found = UNPACK.get(type(value))
        if found is None:
            return value
        made = self._data[key] = found[1](value)
        if self._cold is not None:
            self._cold.unpacked.add(key)
        self._stats.unpacked += 1
        self.ctx.evictor.weigh_again(self.index, key)
        return made

    def _look(self, key: bytes) -> Value | None:
        """As ``_read``, but this is no use of the key: its access time stays (TTL, TYPE, EXISTS)."""
        value = self._peek(key)
        if value is None:
            self._missed(key)
        else:
            self._stats.hits += 1
        return value

    def _peek(self, key: bytes) -> Value | None:
        """The live value with no trace left: no hit, no miss, no access time (MEMORY USAGE)."""
        value = self._data.get(key)
        if (
            value is None
            or (key in self._expires and self._expire_if_due(key))
            or (self._timed is not None and key in self._timed and self._expire_parts(key))
        ):
            return None
        return value

    def _write(self, key: bytes) -> Value | None:
        """The live value for a command that is about to change the key, or None. O(1)."""
        value = self._data.get(key)
        if value is not None:
            if (key in self._expires and self._expire_if_due(key)) or (
                self._timed is not None and key in self._timed and self._expire_parts(key)
            ):
                value = None
            elif self._touch is not None:
                self._touch(key)
        if self._tap is not None:
            self._tap(key)
        return value

    def _write_as(self, key: bytes, container: type[T]) -> T | None:
        """As ``_write``; a value of another type is refused with WRONGTYPE."""
        value = self._write(key)
        if value is None or type(value) is container:
            return value
        return self._as(key, value, container)

    # -- changes of the key itself -----------------------------------------------------------------

    def _create(self, key: bytes, value: Value) -> None:
        """Put a value at a key that does not exist (a ``_write`` has just said so)."""
        self._data[key] = value
        if self._order is not None:
            self._order.added(key)
        if self._touch is not None:
            self._touch(key)
        if self._live:
            self._event("new", key)

    def _place(self, key: bytes, value: Value, deadline_ms: int | None) -> None:
        """Put a ready-made value at a key that does not exist: renamed, copied, moved, restored."""
        self._create(key, value)
        if deadline_ms is not None:
            self._set_deadline(key, deadline_ms)
        self._watch_parts(key, value)

    def _overwrite(self, key: bytes, value: Value, *, keep_ttl: bool = False) -> None:
        """Put a value at a key whatever was there (after a ``_write``); the deadline goes unless kept."""
        if key in self._data:
            self._data[key] = value
            if not keep_ttl and key in self._expires:
                self._clear_deadline(key)
        else:
            self._create(key, value)

    def _remove(self, key: bytes) -> None:
        """Take away an existing key and its deadline (after a ``_write``)."""
        del self._data[key]
        if key in self._expires:
            self._clear_deadline(key)
        if self._timed is not None and key in self._timed:
            self._forget_parts(key)
        if self._order is not None:
            self._order.removed(key)
        if self._access is not None:
            self._access.pop(key, None)

    def _delete(self, key: bytes, event: str) -> None:
        """Delete an existing key and commit that."""
        if self._tap is not None:
            self._tap(key)
        self._remove(key)
        self.dirty += 1
        if self._live:
            self.commit((b"DEL", key), (event, key))

    def _drop_if_empty(self, key: bytes, value: Any) -> bool:
        """Remove the key when its container has become empty; True if so. The caller commits."""
        if value:
            return False
        self._remove(key)
        return True

    # -- deadlines ---------------------------------------------------------------------------------

    def _set_deadline(self, key: bytes, deadline_ms: int) -> None:
        """Let an existing key expire at ``deadline_ms`` (Unix time). The caller commits."""
        before = self._expires.get(key)
        self._expires[key] = deadline_ms
        if before is None or deadline_ms < before:
            due = self._due
            if before is not None:
                due.drop(key, before)
            due.file(key, deadline_ms)
            if before is None and self._volatile is not None:
                self._volatile.added(key)
            if not due.filed & _FILED_MASK:
                self.expire_due(_DUE_AT_ONCE)

    def _clear_deadline(self, key: bytes) -> bool:
        """Let a key live on; True if it had a deadline. The caller commits."""
        deadline = self._expires.pop(key, None)
        if deadline is None:
            return False
        self._due.drop(key, deadline)
        if self._volatile is not None:
            self._volatile.removed(key)
        return True

    def _expire_if_due(self, key: bytes) -> bool:
        """Delete ``key``, which has a deadline, if the deadline has passed; True if so."""
        if self._expires[key] > self.ctx.now():
            return False
        self._expire(key)
        return True

    def _expire_parts(self, key: bytes) -> bool:
        """Remove the due parts of the value at ``key``, which is in ``_timed``; True if the key went too."""
        raise NotImplementedError  # by the family that fills _timed

    def _watch_parts(self, key: bytes, value: Value) -> None:
        """Have what expires of a ready-made value at ``key`` removed in time."""
        raise NotImplementedError  # by the family that fills _timed

    def _forget_parts(self, key: bytes) -> None:
        """Take ``key`` out of ``_timed``: its value, or what expired of it, is gone."""
        raise NotImplementedError  # by the family that fills _timed

    def _expire(self, key: bytes) -> None:
        self._delete(key, "expired")
        self._stats.expired += 1

    def _evict(self, key: bytes) -> None:
        """Delete an existing key to make room."""
        self._delete(key, "evicted")
        self._stats.evicted += 1

    def next_due_ms(self) -> int | None:
        """When ``expire_due`` has something to look at, or None. O(1)."""
        return self._due.next_ms()

    def expire_due(self, most: int = 1 << 62) -> int:
        """Delete up to ``most`` keys whose bucket has passed; how many entries were looked at."""
        if not self.ctx.active_expire:
            return 0
        now = self.ctx.now()
        due = self._due.take_due(now, most)
        for key in due:
            deadline = self._expires.get(key)
            if deadline is None:
                continue
            if deadline <= now:
                self._expire(key)
            else:
                self._due.file(key, deadline)
        return len(due)

    def _expire_all_due(self) -> None:
        """Delete every key whose deadline has passed, to the millisecond: for DBSIZE, SCAN, RANDOMKEY."""
        if self._expires and self.ctx.active_expire:
            self.expire_due()
            now = self.ctx.now()
            for key in self._due.peek_bucket_of(now):
                if self._expires.get(key, now + 1) <= now:
                    self._expire(key)

    # -- whole database ----------------------------------------------------------------------------

    def _scan_order(self) -> ScanOrder:
        """The order list of the keys, made now if this is the first need. First O(n), then O(1)."""
        order = self._order
        if order is None:
            order = self._order = ScanOrder(self._data)
        return order

    def _volatile_order(self) -> ScanOrder:
        """The order list of the keys that have a deadline, made now if this is the first need."""
        order = self._volatile
        if order is None:
            order = self._volatile = ScanOrder(self._expires)
        return order

    def _clear(self) -> int:
        """Empty the database; how many keys went. The caller commits."""
        had = self._data
        tap = self._tap
        if tap is not None:
            self._before_change = None
            tap.cleared(had, self._expires)
        self._data = {}
        self._expires = {}
        self._due.clear()
        self._order = ScanOrder(()) if self.ctx.keeps_order else None
        self._volatile = None
        self._cold = None
        if self._access is not None:
            self._access.clear()
        if self._live:
            for listener in self.ctx.listeners:
                listener.on_clear(self.index, had)
        return len(had)

    def _swap(self, other: Keyspace) -> None:
        """Swap all data with another database. The caller commits. O(1)."""
        for name in self._contents:
            mine = getattr(self, name)
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)
        if self._live:
            for listener in self.ctx.listeners:
                listener.on_swap(self.index, self._data, other.index, other._data)

    # -- the exit ----------------------------------------------------------------------------------

    def commit(self, effect: Effect, *events: Event) -> None:
        """Tell the listeners of a change: THE exit of every mutation."""
        for listener in self.ctx.listeners:
            listener.on_commit(self.index, effect, events)

    def _commit_to(
        self, to: Keyspace, effect: Effect, events: tuple[Event, ...], to_events: tuple[Event, ...]
    ) -> None:
        """As ``commit``, of an effect that also touches another database."""
        if to is self:
            self.commit(effect, *events, *to_events)
        else:
            self.commit(effect, *events)
            to.commit((), *to_events)

    def _event(self, name: str, key: bytes) -> None:
        for listener in self.ctx.listeners:
            listener.on_event(self.index, name, key)

    def check(self) -> None:
        """Assert the invariants, of every value too."""
        # Deadlines belong to keys.
        assert self._expires.keys() <= self._data.keys()
        self._due.check(self._expires)
        if self._order is not None:
            self._order.check(set(self._data))
        if self._volatile is not None:
            self._volatile.check(set(self._expires))
        # Nobody remembers the use of a key that is gone.
        assert self._access is None or self._access.keys() <= self._data.keys()
        for key, value in self._data.items():
            assert type(key) is bytes
            record = TYPES[type(value)]
            # Only strings and streams may be empty.
            assert record.may_be_empty or len(value) > 0
            record.check(value)
