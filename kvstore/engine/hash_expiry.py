"""Hash fields that expire: the typed methods, and the removal of what is due.

Invariants
- A field whose deadline has passed is gone for every caller: a lookup of its key removes it first and
  commits the removal as HDEL, and as the end of the key where it was the last field.
- ``_timed``, made with the first deadline, names each hash that has one, with a time no later than the
  hash's earliest; what it names beside those (a hash that was overwritten, or whose deadlines were taken
  back) is stale and goes when it is met. It is what lookups ask.

Costs: O(log n) a deadline set or due.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from kvstore.engine.expiry import DueBuckets
from kvstore.engine.hashes import Hashes, field_words
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.ttl import (
    AbsExpiryT,
    Expiry,
    ExpiryT,
    expiry_of,
    milliseconds,
    seconds,
    unix_milliseconds,
    unix_seconds,
)
from kvstore.engine.types import Value
from kvstore.engine.types.hash import MAX_DEADLINE_MS, Hash, expire_effects
from kvstore.errors import DataError, ResponseError, err
from kvstore.numbers import as_int

NO_FIELD = -2
NO_DEADLINE = -1
NOT_SET = 0
DONE = 1
DELETED = 2
# Keys looked at by a command that sets deadlines, so that a store nobody ticks shrinks too.
_DUE_PER_MUTATION = 2


class TimedHashes(dict[bytes, int]):
    """Keys of hashes with deadlines: a time no later than the earliest; and buckets to find them by."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        super().__init__()
        self.due = DueBuckets()

    def put(self, key: bytes, deadline_ms: int) -> None:
        self.remove(key)
        self[key] = deadline_ms
        self.due.file(key, deadline_ms)

    def remove(self, key: bytes) -> None:
        deadline_ms = self.pop(key, None)
        if deadline_ms is not None:
            self.due.drop(key, deadline_ms)


def field_deadline(word: object, unit_ms: int, base_ms: int, command: str) -> int:
    """The Unix time in milliseconds of ``word`` units after ``base_ms``. Raises ResponseError."""
    amount = as_int(word)
    if amount < 0:
        raise err("invalid expire time, must be >= 0")
    deadline = amount * unit_ms + base_ms
    if deadline > MAX_DEADLINE_MS:
        raise err(f"invalid expire time in '{command}' command")
    return deadline


class HashExpiry(Hashes):
    """Hashes whose fields expire."""

    __slots__ = ()

    _contents: ClassVar[tuple[str, ...]] = (*Keyspace._contents, "_timed")
    _timed: TimedHashes | None

    # -- what is due -------------------------------------------------------------------------------

    def _expire_parts(self, key: bytes) -> bool:
        """Remove the due fields of the key, which ``_timed`` names; True if the key went with them."""
        timed = self._timed
        assert timed is not None
        now = self.ctx.now()
        if timed[key] > now:
            return False
        found = self._data.get(key)
        deadlines = found.deadlines if type(found) is Hash else None
        soonest = None if deadlines is None else deadlines.soonest()
        if type(found) is not Hash or deadlines is None or soonest is None:
            self._forget_parts(key)
            return False
        if soonest > now:
            timed.put(key, soonest)
            return False
        if self._tap is not None:
            self._tap(key)
        gone = deadlines.take_due(now)
        for field in gone:
            found.discard(field)
        self._stats.expired_fields += len(gone)
        soonest = deadlines.soonest()
        if soonest is None:
            self._forget_parts(key)
        else:
            timed.put(key, soonest)
        return self._fields_gone(key, found, gone, "hexpired")

    def _forget_parts(self, key: bytes) -> None:
        if self._timed is not None:
            self._timed.remove(key)

    def next_due_ms(self) -> int | None:
        """As for keys, and for hashes with due fields."""
        keys = super().next_due_ms()
        fields = self._timed.due.next_ms() if self._timed else None
        return keys if fields is None else fields if keys is None else min(keys, fields)

    def expire_due(self, most: int = 1 << 62) -> int:
        """As for keys, and for hashes with due fields."""
        looked = super().expire_due(most)
        timed = self._timed
        if timed and looked < most and self.ctx.active_expire:
            due = timed.due.take_due(self.ctx.now(), most - looked)
            for key in due:
                if key in timed:
                    timed.due.file(key, timed[key])
                    self._expire_parts(key)
            looked += len(due)
        return looked

    def _expire_all_due(self) -> None:
        super()._expire_all_due()
        timed = self._timed
        if timed and self.ctx.active_expire:
            self.expire_due()
            for key in timed.due.peek_bucket_of(self.ctx.now()):
                if key in timed:
                    self._expire_parts(key)

    def _watch_parts(self, key: bytes, value: Value) -> None:
        if type(value) is Hash and value.deadlines:
            self._watch_fields(key, value)

    def _watch_fields(self, key: bytes, found: Hash) -> None:
        """Have the fields of the hash at the key removed in time."""
        assert found.deadlines is not None
        soonest = found.deadlines.soonest()
        if soonest is None:
            return
        timed = self._timed
        if timed is None:
            timed = self._timed = TimedHashes()
        if soonest < timed.get(key, soonest + 1):
            timed.put(key, soonest)

    def _clear(self) -> int:
        count = super()._clear()
        self._timed = None
        return count

    def check(self) -> None:
        super().check()
        timed = TimedHashes() if self._timed is None else self._timed
        timed.due.check(timed)
        for key, value in self._data.items():
            if type(value) is Hash and value.deadlines:
                # Every hash with deadlines is met no later than the first of them.
                assert timed[key] <= min(value.deadlines.values())

    # -- setting deadlines -------------------------------------------------------------------------

    def hexpire(
        self,
        name: KeyT,
        seconds: ExpiryT,
        *fields: KeyT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> list[int]:
        """Let fields expire in that many seconds. O(log n) a field.

        ``nx``: only a field that does not expire; ``xx``: that does; ``gt``: that expires sooner; ``lt``:
        later or never. For each field 1, 0 where the condition does not hold, 2 where it was deleted as
        the time is past, -2 where there is none.

        Raises ResponseError for a bad time or no field, ValueError for several conditions, WrongTypeError.
        """
        time = (_seconds(seconds), 1000, True)
        return self._hexpire_words("hexpire", name, time, fields, nx, xx, gt, lt)

    def hpexpire(
        self,
        name: KeyT,
        milliseconds: ExpiryT,
        *fields: KeyT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> list[int]:
        """As ``hexpire``, in milliseconds."""
        time = (_milliseconds(milliseconds), 1, True)
        return self._hexpire_words("hpexpire", name, time, fields, nx, xx, gt, lt)

    def hexpireat(
        self,
        name: KeyT,
        unix_time_seconds: AbsExpiryT,
        *fields: KeyT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> list[int]:
        """As ``hexpire``, at a Unix time in seconds."""
        time = (unix_seconds(unix_time_seconds), 1000, False)
        return self._hexpire_words("hexpireat", name, time, fields, nx, xx, gt, lt)

    def hpexpireat(
        self,
        name: KeyT,
        unix_time_milliseconds: AbsExpiryT,
        *fields: KeyT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> list[int]:
        """As ``hexpire``, at a Unix time in milliseconds."""
        time = (unix_milliseconds(unix_time_milliseconds), 1, False)
        return self._hexpire_words("hpexpireat", name, time, fields, nx, xx, gt, lt)

    def _hexpire_words(
        self,
        command: str,
        name: KeyT,
        time: tuple[object, int, bool],
        fields: Iterable[KeyT],
        *conditions: bool,
    ) -> list[int]:
        if sum(conditions) > 1:
            raise ValueError("Only one of 'nx', 'xx', 'gt', 'lt' can be specified.")
        named = [word for word, given in zip((b"NX", b"XX", b"GT", b"LT"), conditions, strict=True) if given]
        key, words = to_bytes(name), [to_bytes(field) for field in fields]
        found = self._write_as(key, Hash)
        word, unit_ms, relative = time
        deadline = field_deadline(word, unit_ms, self.ctx.now() if relative else 0, command)
        if not words:
            raise err("Parameter `numFields` should be greater than 0")
        return self._hexpire(key, found, deadline, named[0] if named else None, words)

    def _hexpire(
        self, key: bytes, found: Hash | None, deadline: int, condition: bytes | None, fields: list[bytes]
    ) -> list[int]:
        """HEXPIRE and its kin on the hash that a ``_write`` has just found."""
        if found is None:
            return [NO_FIELD] * len(fields)
        now = self.ctx.now()
        replies: list[int] = []
        changed: list[bytes] = []
        for field in fields:
            if field not in found:
                replies.append(NO_FIELD)
            elif condition is not None and not _allows(condition, found.deadline(field), deadline):
                replies.append(NOT_SET)
            else:
                changed.append(field)
                if deadline <= now:
                    found.discard(field)
                else:
                    found.expire(field, deadline)
                replies.append(DELETED if deadline <= now else DONE)
        if deadline <= now:
            self._fields_gone(key, found, changed)
        else:
            self._fields_timed(key, found, changed, deadline)
        return replies

    def _fields_timed(self, key: bytes, found: Hash, fields: list[bytes], deadline: int) -> None:
        """Count and commit that fields of the hash expire then."""
        if not fields:
            return
        self._watch_fields(key, found)
        self.dirty += len(fields)
        if self._live:
            count = b"%d" % len(fields)
            self.commit((b"HPEXPIREAT", key, b"%d" % deadline, b"FIELDS", count, *fields), ("hexpire", key))
        self.expire_due(_DUE_PER_MUTATION)

    def hpersist(self, name: KeyT, *fields: KeyT) -> list[int]:
        """Let fields live on. O(1) a field.

        For each 1, -1 where it does not expire, -2 where there is none. Raises ResponseError when no field
        is named, WrongTypeError.
        """
        return self._hpersist(to_bytes(name), _some(fields))

    def _hpersist(self, key: bytes, fields: list[bytes]) -> list[int]:
        found = self._write_as(key, Hash)
        if found is None:
            return [NO_FIELD] * len(fields)
        deadlines = found.deadlines
        replies: list[int] = []
        for field in fields:
            if field not in found:
                replies.append(NO_FIELD)
            elif deadlines is None or deadlines.pop(field, None) is None:
                replies.append(NO_DEADLINE)
            else:
                replies.append(DONE)
        kept = [field for field, reply in zip(fields, replies, strict=True) if reply == DONE]
        self._fields_kept(key, kept)
        return replies

    def _fields_kept(self, key: bytes, fields: list[bytes]) -> None:
        """Count and commit that fields no longer expire."""
        if fields:
            self.dirty += len(fields)
            if self._live:
                self.commit((b"HPERSIST", key, b"FIELDS", b"%d" % len(fields), *fields), ("hpersist", key))

    # -- asking for deadlines ----------------------------------------------------------------------

    def httl(self, key: KeyT, *fields: KeyT) -> list[int]:
        """How many seconds fields have left. O(1) a field.

        For each -1 where it does not expire, -2 where there is none. Raises ResponseError when no field is
        named, WrongTypeError.
        """
        return self._field_times(to_bytes(key), _some(fields), 1000, True)

    def hpttl(self, key: KeyT, *fields: KeyT) -> list[int]:
        """As ``httl``, in milliseconds."""
        return self._field_times(to_bytes(key), _some(fields), 1, True)

    def hexpiretime(self, key: KeyT, *fields: KeyT) -> list[int]:
        """As ``httl``, but the Unix time in seconds at which fields expire."""
        return self._field_times(to_bytes(key), _some(fields), 1000, False)

    def hpexpiretime(self, key: KeyT, *fields: KeyT) -> list[int]:
        """As ``hexpiretime``, in milliseconds."""
        return self._field_times(to_bytes(key), _some(fields), 1, False)

    def _field_times(self, key: bytes, fields: list[bytes], unit_ms: int, left: bool) -> list[int]:
        found = self._read_as(key, Hash)
        if found is None:
            return [NO_FIELD] * len(fields)
        base = self.ctx.now() if left else 0
        times: list[int] = []
        for field in fields:
            deadline = found.deadline(field)
            if deadline is not None:
                times.append((deadline - base + unit_ms - 1) // unit_ms)
            else:
                times.append(NO_DEADLINE if field in found else NO_FIELD)
        return times

    # -- values and deadlines together -------------------------------------------------------------

    def hgetdel(self, name: KeyT, *keys: KeyT) -> list[bytes | None]:
        """Delete fields; their values, None for a missing one. O(1) a field.

        Raises DataError when no field is named, WrongTypeError.
        """
        if not keys:
            raise DataError("'hgetdel' should have at least one key provided")
        return self._hgetdel(to_bytes(name), [to_bytes(field) for field in keys])

    def _hgetdel(self, key: bytes, fields: list[bytes]) -> list[bytes | None]:
        found = self._write_as(key, Hash)
        if found is None:
            return [None] * len(fields)
        values = [found.discard(field) for field in fields]
        gone = [field for field, value in zip(fields, values, strict=True) if value is not None]
        self._fields_gone(key, found, gone)
        return values

    def hgetex(
        self,
        name: KeyT,
        *keys: KeyT,
        ex: ExpiryT | None = None,
        px: ExpiryT | None = None,
        exat: AbsExpiryT | None = None,
        pxat: AbsExpiryT | None = None,
        persist: bool = False,
    ) -> list[bytes | None]:
        """The values of fields, None for a missing one, and a new expiry for them. O(log n) a field.

        ``persist``: none at all. Raises DataError when no field is named and for options that exclude each
        other, ResponseError for a bad time, WrongTypeError.
        """
        if not keys:
            raise DataError("'hgetex' should have at least one key provided")
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + persist > 1:
            raise DataError("``ex``, ``px``, ``exat``, ``pxat``, and ``persist`` are mutually exclusive.")
        deadline = self._field_expiry(expiry_of(ex, px, exat, pxat), "hgetex")
        return self._hgetex(to_bytes(name), [to_bytes(field) for field in keys], deadline, persist)

    def _field_expiry(self, expiry: Expiry, command: str) -> int | None:
        """The deadline that an expiry option means for fields. Raises ResponseError."""
        if expiry is None:
            return None
        option, word = expiry
        unit_ms = 1000 if option in (b"EX", b"EXAT") else 1
        base_ms = self.ctx.now() if option in (b"EX", b"PX") else 0
        return field_deadline(word, unit_ms, base_ms, command)

    def _hgetex(
        self, key: bytes, fields: list[bytes], deadline: int | None, persist: bool
    ) -> list[bytes | None]:
        found = self._write_as(key, Hash)
        if found is None:
            return [None] * len(fields)
        values = [found.get(field) for field in fields]
        if persist:
            self._hpersist(key, fields)
        elif deadline is not None:
            self._hexpire(key, found, deadline, None, fields)
        return values

    def hsetex(
        self,
        name: KeyT,
        key: KeyT | None = None,
        value: EncodableT | None = None,
        mapping: Mapping[Any, EncodableT] | None = None,
        items: Sequence[EncodableT] | None = None,
        ex: ExpiryT | None = None,
        px: ExpiryT | None = None,
        exat: AbsExpiryT | None = None,
        pxat: AbsExpiryT | None = None,
        data_persist_option: Any = None,
        keepttl: bool = False,
    ) -> int:
        """Set fields and when they expire; 1, or 0 where the condition does not hold. O(log n) a field.

        ``keepttl``: as before. ``data_persist_option``: "FNX", only where the hash has none of the fields;
        "FXX", only where it has all of them. Raises DataError when there is nothing to set and for options
        that exclude each other, ResponseError for a bad time, WrongTypeError.
        """
        if key is None and not mapping and not items:
            raise DataError("'hsetex' with no key value pairs")
        if items and len(items) % 2:
            raise DataError(
                "'hsetex' with odd number of items. 'items' must contain a list of key/value pairs."
            )
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + keepttl > 1:
            raise DataError("``ex``, ``px``, ``exat``, ``pxat``, and ``keepttl`` are mutually exclusive.")
        condition = getattr(data_persist_option, "value", data_persist_option)
        deadline = self._field_expiry(expiry_of(ex, px, exat, pxat), "hsetex")
        words = field_words(key, value, mapping, items)
        return self._hsetex(to_bytes(name), words, deadline, keepttl, to_bytes(condition or b"").upper())

    def _hsetex(
        self, key: bytes, words: list[bytes], deadline: int | None, keep_ttl: bool, condition: bytes
    ) -> int:
        """HSETEX of fields and values in turn; ``condition`` is FNX, FXX or empty."""
        found = self._write_as(key, Hash)
        fields = list(dict.fromkeys(words[::2]))
        there = [] if found is None else [field for field in fields if field in found]
        if (condition == b"FNX" and there) or (condition == b"FXX" and len(there) < len(fields)):
            return 0
        if deadline is not None and deadline <= self.ctx.now():
            if found is not None:
                for field in there:
                    found.discard(field)
                self._fields_gone(key, found, there)
            return 1
        before = found.deadlines if found is not None and keep_ttl else None
        kept = {field: before[field] for field in there if field in before} if before else {}
        with self.ctx.unit():
            self._set_timed(key, words, fields, deadline, kept)
        return 1

    def _set_timed(
        self,
        key: bytes,
        words: list[bytes],
        fields: list[bytes],
        deadline: int | None,
        kept: dict[bytes, int],
    ) -> None:
        """Set the fields, then their common deadline or those that were kept."""
        self._hset(key, *words)
        found = self._data[key]
        if deadline is not None:
            for field in fields:
                found.expire(field, deadline)
            self._fields_timed(key, found, fields, deadline)
        elif kept:
            for field, moment in kept.items():
                found.expire(field, moment)
            self._watch_fields(key, found)
            if self._live:
                for effect in expire_effects(key, kept):
                    self.commit(effect)


# Under these names where a parameter hides them.
_seconds, _milliseconds = seconds, milliseconds


def _some(fields: Iterable[KeyT]) -> list[bytes]:
    words = [to_bytes(field) for field in fields]
    if not words:
        raise ResponseError("ERR Number of fields must be a positive integer")
    return words


def _allows(condition: bytes, present: int | None, deadline: int) -> bool:
    """Whether NX, XX, GT or LT lets a field's deadline change; never expiring counts as the latest."""
    if condition == b"NX":
        return present is None
    if condition == b"XX":
        return present is not None
    if condition == b"GT":
        return present is not None and deadline > present
    return present is None or deadline < present
