"""Hashes: the typed methods. Fields that expire are in ``hash_expiry``.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kvstore.engine.draws import draw_count, draw_one, draw_several
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.types.hash import Hash, expire_effects
from kvstore.engine.words import pairs_of, scan_count, words_of
from kvstore.errors import NAN_OR_INFINITY, NOT_FLOAT, OVERFLOW, DataError, ResponseError, err
from kvstore.glob import compile_scan_glob
from kvstore.numbers import (
    INT64_MAX,
    INT64_MIN,
    LongDouble,
    add_long_doubles,
    as_int,
    parse_int,
    parse_long_double,
)


class Hashes(Keyspace):
    """Hashes."""

    __slots__ = ()

    # -- reading -----------------------------------------------------------------------------------

    def hget(self, name: KeyT, key: KeyT) -> bytes | None:
        """The value of a field, or None. O(1). Raises WrongTypeError."""
        name = name if type(name) is bytes else to_bytes(name)
        found = self._data.get(name)
        if (
            type(found) is Hash
            and name not in self._expires
            and self._touch is None
            and found.deadlines is None
        ):
            self._stats.hits += 1  # as _read does, without the call
        else:
            found = self._read_as(name, Hash)
            if found is None:
                return None
        return found.get(key if type(key) is bytes else to_bytes(key))

    def hmget(self, name: KeyT, keys: KeyT | Iterable[KeyT], *args: KeyT) -> list[bytes | None]:
        """The values of fields, None for a missing one. O(fields). Raises WrongTypeError."""
        return self._hmget(to_bytes(name), *words_of(keys, args))

    def _hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        found = self._read_as(key, Hash)
        return [None] * len(fields) if found is None else list(map(found.get, fields))

    def hgetall(self, name: KeyT) -> dict[bytes, bytes]:
        """All fields and their values. O(n). Raises WrongTypeError."""
        return dict(self._read_as(to_bytes(name), Hash) or ())

    def hkeys(self, name: KeyT) -> list[bytes]:
        """All fields. O(n). Raises WrongTypeError."""
        return list(self._read_as(to_bytes(name), Hash) or ())

    def hvals(self, name: KeyT) -> list[bytes]:
        """All values. O(n). Raises WrongTypeError."""
        found = self._read_as(to_bytes(name), Hash)
        return [] if found is None else list(found.values())

    def hlen(self, name: KeyT) -> int:
        """How many fields there are. O(1). Raises WrongTypeError."""
        return len(self._read_as(to_bytes(name), Hash) or ())

    def hexists(self, name: KeyT, key: KeyT) -> bool:
        """Whether the hash has the field. O(1). Raises WrongTypeError."""
        return to_bytes(key) in (self._read_as(to_bytes(name), Hash) or ())

    def hstrlen(self, name: KeyT, key: KeyT) -> int:
        """The length of a field's value in bytes, 0 for a missing one. O(1). Raises WrongTypeError."""
        found = self._read_as(to_bytes(name), Hash)
        return 0 if found is None else len(found.get(to_bytes(key), b""))

    # -- setting and deleting ----------------------------------------------------------------------

    def hset(
        self,
        name: KeyT,
        key: KeyT | None = None,
        value: EncodableT | None = None,
        mapping: Mapping[Any, EncodableT] | None = None,
        items: Sequence[EncodableT] | None = None,
    ) -> int:
        """Set fields, which then do not expire; how many are new. O(1) a field.

        One as ``key`` and ``value``; several as a ``mapping``, or as ``items``, fields and values in turn.
        Raises DataError when there is nothing to set, WrongTypeError.
        """
        if mapping is None and items is None and key is not None:
            name = name if type(name) is bytes else to_bytes(name)
            return self._hset(name, to_bytes(key), to_bytes(value))
        if key is None and not mapping and not items:
            raise DataError("'hset' with no key value pairs")
        return self._hset(to_bytes(name), *field_words(key, value, mapping, items))

    def _hset(self, key: bytes, *words: bytes) -> int:
        # HSET of fields and values in turn.
        size = len(words)
        if size % 2 or not size:
            raise err("wrong number of arguments for 'hset' command")
        found = self._data.get(key)
        if type(found) is not Hash or found.deadlines is not None or key in self._expires or self._watched:
            found = self._write_as(key, Hash)
            if found is None:
                found = Hash()
                self._create(key, found)
        before = len(found)
        if not found.wide:
            limits = self.ctx.limits
            longest = limits.hash_max_listpack_value
            if size == 2:
                found.wide = len(words[0]) > longest or len(words[1]) > longest
            else:
                found.wide = size > 2 * limits.hash_max_listpack_entries or max(map(len, words)) > longest
        if found.order is None and found.deadlines is None:
            if size == 2:
                found[words[0]] = words[1]
            else:
                found.update(zip(words[::2], words[1::2], strict=True))
        else:
            for at in range(0, size, 2):
                found.put(words[at], words[at + 1])
        after = len(found)
        if not found.wide:
            found.wide = after > self.ctx.limits.hash_max_listpack_entries
        self.dirty += size // 2
        if self._live:
            self.commit((b"HSET", key, *words), ("hset", key))
        return after - before

    def hmset(self, name: KeyT, mapping: Mapping[Any, EncodableT]) -> bool:
        """As ``hset`` of a mapping, under its old name; True. O(1) a field."""
        if not mapping:
            raise DataError("'hmset' with 'mapping' of length 0")
        self._hset(to_bytes(name), *pairs_of(mapping))
        return True

    def hsetnx(self, name: KeyT, key: KeyT, value: EncodableT) -> int:
        """Set a field if the hash does not have it; 1 if it was set, else 0. O(1). Raises WrongTypeError."""
        name, field, text = to_bytes(name), to_bytes(key), to_bytes(value)
        found = self._write_as(name, Hash)
        if found is not None and field in found:
            return 0
        self._put_field(name, found, field, text)
        self.dirty += 1
        if self._live:
            self.commit((b"HSET", name, field, text), ("hset", name))
        return 1

    def _put_field(self, key: bytes, found: Hash | None, field: bytes, value: bytes) -> None:
        """Set a field, whose deadline stays, in the hash at the key, made if missing. The caller commits."""
        if found is None:
            found = Hash()
            self._create(key, found)
        if found.order is not None and field not in found:
            found.order.added(field)
        found[field] = value
        if not found.wide:
            limits = self.ctx.limits
            longest = limits.hash_max_listpack_value
            if len(found) > limits.hash_max_listpack_entries or len(field) > longest or len(value) > longest:
                found.wide = True

    def hdel(self, name: KeyT, *keys: KeyT) -> int:
        """Delete fields; how many there were. O(1) a field. Raises WrongTypeError.

        Raises ResponseError when no field is named.
        """
        if not keys:
            raise err("wrong number of arguments for 'hdel' command")
        key = to_bytes(name)
        found = self._write_as(key, Hash)
        if found is None:
            return 0
        gone = [field for field in map(to_bytes, keys) if found.discard(field) is not None]
        self._fields_gone(key, found, gone)
        return len(gone)

    def _fields_gone(self, key: bytes, found: Hash, gone: list[bytes], event: str = "hdel") -> bool:
        """Count and commit the removal of fields, and remove the key if that were all; True if so."""
        if not gone:
            return False
        self.dirty += len(gone)
        dropped = self._drop_if_empty(key, found)
        if self._live:
            events = ((event, key), ("del", key)) if dropped else ((event, key),)
            self.commit((b"HDEL", key, *gone), *events)
        return dropped

    # -- numbers -----------------------------------------------------------------------------------

    def hincrby(self, name: KeyT, key: KeyT, amount: int = 1) -> int:
        """Add an integer to a field's integer (a missing field counts as 0); the sum. O(1).

        Raises ResponseError when a number is no 64-bit integer or the sum overflows, WrongTypeError.
        """
        step = as_int(amount)
        name, field = to_bytes(name), to_bytes(key)
        found = self._write_as(name, Hash)
        old = None if found is None else found.get(field)
        number = 0 if old is None else parse_int(old)
        if number is None:
            raise err("hash value is not an integer")
        total = number + step
        if not INT64_MIN <= total <= INT64_MAX:
            raise ResponseError(OVERFLOW)
        self._put_field(name, found, field, b"%d" % total)
        self.dirty += 1
        if self._live:
            self.commit((b"HINCRBY", name, field, b"%d" % step), ("hincrby", name))
        return total

    def hincrbyfloat(self, name: KeyT, key: KeyT, amount: float = 1.0) -> float:
        """Add a number to a field's number (a missing field counts as 0); the sum. O(1).

        Sums are made and printed as the server does: with 64 bits of mantissa and 17 decimals.
        Raises ResponseError when one is no number or the sum is not finite, WrongTypeError.
        """
        return float(self._hincrbyfloat(to_bytes(name), to_bytes(key), to_bytes(amount)))

    def _hincrbyfloat(self, key: bytes, field: bytes, amount: bytes) -> bytes:
        step = parse_long_double(amount)
        if step is None:
            raise ResponseError(NOT_FLOAT)
        if isinstance(step, float):
            raise err("value is NaN or Infinity")
        found = self._write_as(key, Hash)
        old = None if found is None else found.get(field)
        number: LongDouble | None = (0, 0) if old is None else parse_long_double(old)
        if number is None:
            raise err("hash value is not a float")
        if isinstance(number, float):
            raise ResponseError(NAN_OR_INFINITY)
        total = add_long_doubles(number, step)
        self._put_field(key, found, field, total)
        self.dirty += 1
        if self._live:
            deadline = None if found is None else found.deadline(field)
            with self.ctx.unit():
                self.commit((b"HSET", key, field, total), ("hincrbyfloat", key))
                if deadline is not None:
                    for effect in expire_effects(key, {field: deadline}):
                        self.commit(effect)
        return total

    # -- draws and scans ---------------------------------------------------------------------------

    def hrandfield(
        self, key: KeyT, count: int | None = None, withvalues: bool = False
    ) -> bytes | list[bytes] | None:
        """A random field, or None; with ``count`` that many different ones. O(1) a field.

        A negative ``count`` draws each time from all fields. ``withvalues``: each followed by its value.
        Raises WrongTypeError; ResponseError for a ``count`` out of range.
        """
        if count is None:
            if withvalues:
                raise ResponseError("ERR value is not an integer or out of range")
            return self._hrandfield(to_bytes(key))
        return [word for pair in self._hrandfields(to_bytes(key), count, withvalues) for word in pair]

    def _hrandfield(self, key: bytes) -> bytes | None:
        found = self._read_as(key, Hash)
        return None if found is None else draw_one(found, self.ctx)

    def _hrandfields(self, key: bytes, count: Any, with_values: bool) -> list[tuple[bytes, ...]]:
        """HRANDFIELD with a count: tuples of a field, or of a field and its value."""
        most = draw_count(count, with_values)
        found = self._read_as(key, Hash)
        if found is None or not most:
            return []
        fields = list(found) if most >= len(found) else draw_several(found, most, self.ctx)
        return [(field, found[field]) for field in fields] if with_values else [(field,) for field in fields]

    def hscan(
        self,
        name: KeyT,
        cursor: int = 0,
        match: KeyT | None = None,
        count: int | None = None,
        no_values: bool | None = None,
    ) -> tuple[int, dict[bytes, bytes] | list[bytes]]:
        """Some of the fields, and the cursor to go on with, which is 0 at the end. O(``count``).

        A field that is there from the first call to the last is met. ``match``: a glob pattern that fields
        must match; ``no_values``: fields only. Raises WrongTypeError; ResponseError for a bad ``count``.
        """
        next_cursor, pairs = self._hscan(to_bytes(name), cursor, match, count)
        if no_values:
            return next_cursor, [field for field, _ in pairs]
        return next_cursor, dict(pairs)

    def _hscan(
        self, key: bytes, cursor: Any, match: KeyT | None, count: Any
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        at = as_int(cursor, "ERR invalid cursor")
        found = self._read_as(key, Hash)
        if found is None:
            return 0, []
        return scan_fields(found, at, None if match is None else to_bytes(match), scan_count(count))


def field_words(
    key: KeyT | None, value: Any, mapping: Mapping[Any, Any] | None, items: Sequence[Any] | None
) -> list[bytes]:
    """The fields and values of a redis-py method, in the order in which redis-py sends them."""
    words = [to_bytes(word) for word in items or ()]
    if key is not None:
        words += [to_bytes(key), to_bytes(value)]
    return words + pairs_of(mapping or {})


def scan_fields(
    found: Hash, cursor: int, match: bytes | None, count: int
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """A page of HSCAN. A small hash is one page, as the server's listpack is."""
    if found.wide:
        cursor, fields = found.scan_order().scan(cursor, count)
        pairs = [(field, found[field]) for field in fields]
    else:
        cursor, pairs = 0, list(found.items())
    matches = None if match is None else compile_scan_glob(match)
    return cursor, pairs if matches is None else [pair for pair in pairs if matches(pair[0])]
