"""Strings: the typed methods.

A string is raw ``bytes`` in the dict, so APPEND and SETRANGE copy the value: one memcpy, some 25 µs for a
megabyte. A buffer that grows in place would make every reader ask which of two types it holds; who
appends to many megabytes a piece at a time has lists.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

from kvstore.engine.context import Event
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.lcs import Run, lcs_bytes, lcs_length, lcs_runs
from kvstore.engine.ttl import (
    AbsExpiryT,
    Expiry,
    ExpiryT,
    deadline_of,
    expiry_of,
    milliseconds,
    seconds,
)
from kvstore.engine.types.string import remember_encoding
from kvstore.engine.words import pairs_of, words_of
from kvstore.engine.xxh3 import xxh3_64
from kvstore.errors import NOT_INTEGER, OVERFLOW, DataError, ResponseError, WrongTypeError, err
from kvstore.numbers import INT64_MAX, INT64_MIN, as_int, incr_long_double, parse_int

TOO_LONG = "string exceeds maximum allowed size (proto-max-bulk-len)"
_ZERO = ord("0")
_STRINGS = {bytes}
_CELL_BYTES = 4  # of the server's table for LCS, whose size it limits


def _condition_of(nx: bool, xx: bool, *operands: bytes | str | None) -> tuple[bytes, bytes]:
    """The one condition of a SET that is given, and what it compares with."""
    given = [(b"NX", b"")] * bool(nx) + [(b"XX", b"")] * bool(xx)
    for option, operand in zip((b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"), operands, strict=True):
        if operand is not None:
            given.append((option, to_bytes(operand)))
    if len(given) > 1:
        raise DataError("``nx``, ``xx``, ``ifeq``, ``ifne``, ``ifdeq``, ``ifdne`` are mutually exclusive.")
    return given[0]


class Strings(Keyspace):
    """Strings."""

    __slots__ = ()

    # -- one value ---------------------------------------------------------------------------------

    def get(self, name: KeyT) -> bytes | None:
        """The value of the key, or None. O(1).

        Raises WrongTypeError when the key holds another type.
        """
        key = name if type(name) is bytes else to_bytes(name)
        value = self._data.get(key)
        if type(value) is bytes and key not in self._expires and self._touch is None:
            self._stats.hits += 1  # as _read does, without the call
            return value
        return self._read_as(key, bytes)

    def set(
        self,
        name: KeyT,
        value: EncodableT,
        ex: ExpiryT | None = None,
        px: ExpiryT | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
        get: bool = False,
        exat: AbsExpiryT | None = None,
        pxat: AbsExpiryT | None = None,
        ifeq: bytes | str | None = None,
        ifne: bytes | str | None = None,
        ifdeq: str | None = None,
        ifdne: str | None = None,
    ) -> bool | bytes | None:
        """Set the key to a string, whatever it held. O(1).

        ``ex`` seconds, ``px`` milliseconds, ``exat`` and ``pxat`` Unix time: when it expires (a time that is
        past deletes the key); ``keepttl``: as before. ``nx``: only a new key; ``xx``: only an existing one; ``ifeq``, ``ifne``: only where the
        value is (is not) this; ``ifdeq``, ``ifdne``: only where its ``digest()`` is (is not) this.
        True, or None where the condition does not hold; with ``get`` the old value or None instead.

        Raises DataError for options that exclude each other, ResponseError for an expiry that is not
        positive, WrongTypeError when ``get`` or a comparison meets another type.
        """
        key = name if type(name) is bytes else to_bytes(name)
        if type(value) is not bytes:
            value = to_bytes(value)
        if (
            ex is None
            and px is None
            and exat is None
            and pxat is None
            and ifeq is None
            and ifne is None
            and ifdeq is None
            and ifdne is None
            and not (nx or xx or keepttl or get)
        ):
            # _put, without the call.
            if key in self._data and key not in self._expires and not self._observed:
                self._data[key] = value
                self.dirty += 1
                return True
            return self._put(key, value)
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + keepttl > 1:
            raise DataError("``ex``, ``px``, ``exat``, ``pxat``, and ``keepttl`` are mutually exclusive.")
        condition, operand = b"NX" if nx else b"XX" if xx else None, b""
        if ifeq is not None or ifne is not None or ifdeq is not None or ifdne is not None or (nx and xx):
            condition, operand = _condition_of(nx, xx, ifeq, ifne, ifdeq, ifdne)
        return self._set(key, value, expiry_of(ex, px, exat, pxat), keepttl, condition, operand, get)

    def _put(self, key: bytes, value: bytes) -> bool:
        """SET without options; True."""
        data = self._data
        if key in self._expires or self._watched:
            self._write(key)
            self._clear_deadline(key)
        if key in data:
            data[key] = value
        else:
            self._create(key, value)
        self.dirty += 1
        if self._live:
            self.commit((b"SET", key, value), ("set", key))
        return True

    def _set(
        self,
        key: bytes,
        value: bytes,
        expiry: Expiry = None,
        keep_ttl: bool = False,
        condition: bytes | None = None,
        operand: bytes = b"",
        get: bool = False,
        command: str = "set",
    ) -> bool | bytes | None:
        """SET with all its options; ``condition`` is NX, XX, IFEQ, IFNE, IFDEQ or IFDNE."""
        now, deadline = 0, None
        if expiry is not None:
            now = self.ctx.now()
            deadline = deadline_of(*expiry, now, command)
        before = self._read_as(key, bytes) if get else None
        found = self._write(key)
        if condition is not None and not self._holds(condition, operand, found):
            return before
        self._finish_set(key, value, deadline, keep_ttl, now)
        return before if get else True

    def _finish_set(self, key: bytes, value: bytes, deadline: int | None, keep_ttl: bool, now: int) -> None:
        """The end of a SET with options, after a ``_write``. A deadline that is past deletes the key."""
        if deadline is None:
            self._overwrite(key, value, keep_ttl=keep_ttl)
            self.dirty += 1
            if self._live:
                effect = (b"SET", key, value, b"KEEPTTL") if keep_ttl else (b"SET", key, value)
                self.commit(effect, ("set", key))
        elif deadline > now:
            self._overwrite(key, value, keep_ttl=True)
            self._set_deadline(key, deadline)
            self.dirty += 1
            if self._live:
                timed = (b"SET", key, value, b"PXAT", b"%d" % deadline)
                self.commit(timed, ("set", key), ("expire", key))
        elif key in self._data:
            self._delete(key, "del")

    def _holds(self, condition: bytes, operand: bytes, found: Any) -> bool:
        """Whether the condition of a SET or DELEX holds for what the key has now."""
        if condition == b"NX":
            return found is None
        if condition == b"XX":
            return found is not None
        if condition in (b"IFDEQ", b"IFDNE") and len(operand) != 16:
            raise err("must be exactly 16 hexadecimal characters")
        if found is None:
            return condition in (b"IFNE", b"IFDNE")
        if type(found) is not bytes:
            raise WrongTypeError
        if condition in (b"IFEQ", b"IFNE"):
            return (found == operand) is (condition == b"IFEQ")
        return (b"%016x" % xxh3_64(found) == operand.lower()) is (condition == b"IFDEQ")

    def setex(self, name: KeyT, time: ExpiryT, value: EncodableT) -> bool:
        """Set the key to a string that expires in ``time`` seconds; True. O(1).

        Raises ResponseError for a time that is no integer or not positive.
        """
        expiry = (b"EX", seconds(time))
        return self._set(to_bytes(name), to_bytes(value), expiry, command="setex") is True

    def psetex(self, name: KeyT, time_ms: ExpiryT, value: EncodableT) -> bool:
        """As ``setex``, in milliseconds. O(1)."""
        expiry = (b"PX", milliseconds(time_ms))
        return self._set(to_bytes(name), to_bytes(value), expiry, command="psetex") is True

    def setnx(self, name: KeyT, value: EncodableT) -> bool:
        """Set the key if it does not exist; whether it was set. O(1)."""
        return self._set(to_bytes(name), to_bytes(value), condition=b"NX") is True

    def getset(self, name: KeyT, value: EncodableT) -> bytes | None:
        """Set the key and return what it held, or None. O(1). Raises WrongTypeError."""
        before = self._set(to_bytes(name), to_bytes(value), get=True)
        return before if type(before) is bytes else None

    def getdel(self, name: KeyT) -> bytes | None:
        """The value of the key, which is deleted, or None. O(1). Raises WrongTypeError."""
        key = to_bytes(name)
        value = self._read_as(key, bytes)
        if value is not None:
            self._delete(key, "del")
        return value

    def getex(
        self,
        name: KeyT,
        ex: ExpiryT | None = None,
        px: ExpiryT | None = None,
        exat: AbsExpiryT | None = None,
        pxat: AbsExpiryT | None = None,
        persist: bool = False,
    ) -> bytes | None:
        """The value of the key, or None, and a new expiry (``persist``: none at all). O(1).

        Raises DataError for options that exclude each other, ResponseError for an expiry that is not
        positive, WrongTypeError.
        """
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + persist > 1:
            raise DataError("``ex``, ``px``, ``exat``, ``pxat``, and ``persist`` are mutually exclusive.")
        return self._getex(to_bytes(name), expiry_of(ex, px, exat, pxat), persist)

    def _getex(self, key: bytes, expiry: Expiry, persist: bool) -> bytes | None:
        value = self._read_as(key, bytes)
        if value is None:
            return None
        if expiry is not None:
            now = self.ctx.now()
            deadline = deadline_of(*expiry, now, "getex")
            if deadline <= now:
                self._delete(key, "del")
                return value
            if self._tap is not None:
                self._tap(key)
            self._set_deadline(key, deadline)
            self.dirty += 1
            if self._live:
                self.commit((b"PEXPIREAT", key, b"%d" % deadline), ("expire", key))
        elif persist and key in self._expires:
            if self._tap is not None:
                self._tap(key)
            self._clear_deadline(key)
            self.dirty += 1
            if self._live:
                self.commit((b"PERSIST", key), ("persist", key))
        return value

    # -- several values ----------------------------------------------------------------------------

    def mget(self, keys: KeyT | Iterable[KeyT], *args: KeyT) -> list[bytes | None]:
        """The values of the keys, None for a missing key and for one of another type. O(n)."""
        return self._mget(*words_of(keys, args))

    def _mget(self, *keys: bytes) -> list[bytes | None]:
        data, expires, read = self._data, self._expires, self._read
        plain = self._touch is None
        values: list[bytes | None] = []
        for key in keys:
            value = data.get(key)
            if type(value) is bytes and plain and key not in expires:
                self._stats.hits += 1  # as in get()
            else:
                value = read(key)
                if type(value) is not bytes:
                    value = None
            values.append(value)
        return values

    def mset(self, mapping: Mapping[Any, EncodableT]) -> bool:
        """Set each key of the mapping to its value; True. O(n).

        Raises ResponseError for an empty mapping.
        """
        return self._mset(pairs_of(mapping))

    def _mset(self, words: list[bytes]) -> bool:
        """MSET of keys and values in turn; True."""
        if not words or len(words) % 2:
            raise err("wrong number of arguments for 'mset' command")
        self._set_many(words)
        return True

    def msetnx(self, mapping: Mapping[Any, EncodableT]) -> bool:
        """Set each key of the mapping if none of the keys exists; whether they were set. O(n)."""
        return self._msetnx(pairs_of(mapping))

    def _msetnx(self, words: list[bytes]) -> bool:
        if not words or len(words) % 2:
            raise err("wrong number of arguments for 'msetnx' command")
        for key in words[::2]:
            if self._write(key) is not None:
                return False
        self._set_many(words)
        return True

    def _get_all(self, keys: list[bytes]) -> list[bytes] | None:
        """The values of the keys, where all of them are there and nobody has to be asked or told. O(n)."""
        if self._touch is not None or (self._expires and not self._expires.keys().isdisjoint(keys)):
            return None
        values = list(map(self._data.get, keys))
        if set(map(type, values)) != _STRINGS:
            return None
        self._stats.hits += len(values)
        return values  # type: ignore[return-value]

    def _put_all(self, keys: list[bytes], values: list[bytes]) -> bool:
        """Set each key to its value, as one change, if nobody has to be asked. O(n)."""
        if not self._may_put(keys):
            return False
        data, order = self._data, self._order
        events = self._events_of_sets(keys) if self._live else ()
        if order is None:
            data.update(zip(keys, values, strict=True))
        else:
            for key, value in zip(keys, values, strict=True):
                if key not in data:
                    order.added(key)
                data[key] = value
        self.dirty += len(keys)
        if events:
            words = [b""] * (2 * len(keys))
            words[::2], words[1::2] = keys, values
            self.commit((b"MSET", *words), *events)
        return True

    def _events_of_sets(self, keys: list[bytes]) -> list[Event]:
        """What to tell of keys that are about to be set, one after the other."""
        new = set(keys).difference(self._data)
        if not new:
            return list(zip(repeat("set"), keys, strict=False))
        events: list[Event] = []
        for key in keys:
            if key in new:
                new.discard(key)
                events.append(("new", key))
            events.append(("set", key))
        return events

    def _set_many(self, words: list[bytes]) -> None:
        keys = words[::2]
        if self._put_all(keys, words[1::2]):
            return
        for key in keys:
            self._write(key)
        events: list[tuple[str, bytes]] = []
        live, self.live = self._live, False  # "new" is told below, in its place among the others
        for key, value in zip(keys, words[1::2], strict=True):
            if live:
                events += (("set", key),) if key in self._data else (("new", key), ("set", key))
            self._overwrite(key, value)
        self.live = live
        self.dirty += len(keys)
        if live:
            self.commit((b"MSET", *words), *events)

    def _may_put(self, keys: list[bytes]) -> bool:
        """Whether nobody has to be asked when these keys get values, and none has a deadline."""
        return (
            not self._watched
            and (not self._expires or self._expires.keys().isdisjoint(keys))
            and (self._timed is None or self._timed.keys().isdisjoint(keys))
        )

    # -- parts of a value --------------------------------------------------------------------------

    def append(self, key: KeyT, value: EncodableT) -> int:
        """Append to the value, made if missing; the new length. O(length).

        Raises WrongTypeError; ResponseError when the result would exceed ``proto-max-bulk-len``.
        """
        key, tail = to_bytes(key), to_bytes(value)
        old = self._write_as(key, bytes)
        if old is None:
            self._create(key, tail)
            length = len(tail)
        else:
            length = len(old) + len(tail)
            if length > self.ctx.limits.proto_max_bulk_len:
                raise err(TOO_LONG)
            self._data[key] = new = b"".join((old, tail))  # a new object even where the tail is empty
            remember_encoding(new, "raw")
        self.dirty += 1
        if self._live:
            self.commit((b"APPEND", key, tail), ("append", key))
        return length

    def strlen(self, name: KeyT) -> int:
        """The length of the value in bytes, 0 for a missing key. O(1). Raises WrongTypeError."""
        value = self._read_as(to_bytes(name), bytes)
        return 0 if value is None else len(value)

    def getrange(self, key: KeyT, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end``, both included, negative from the end. O(length of the reply).

        Raises ResponseError when an offset is no integer, WrongTypeError.
        """
        first, last = as_int(start), as_int(end)
        value = self._read_as(to_bytes(key), bytes)
        if not value or (first < 0 and last < 0 and first > last):
            return b""
        size = len(value)
        if first < 0:
            first = max(first + size, 0)
        if last < 0:
            last = max(last + size, 0)
        return value[first : last + 1]

    def substr(self, name: KeyT, start: int, end: int = -1) -> bytes:
        """As ``getrange``, under its old name."""
        return Strings.getrange(self, name, start, end)

    def setrange(self, name: KeyT, offset: int, value: EncodableT) -> int:
        """Overwrite the value from ``offset`` on, padded with zero bytes up to there; its length. O(length).

        Raises ResponseError when the offset is negative or the result would exceed
        ``proto-max-bulk-len``, WrongTypeError.
        """
        key, piece = to_bytes(name), to_bytes(value)
        at = as_int(offset)
        if at < 0:
            raise err("offset is out of range")
        old = self._write_as(key, bytes)
        if not piece:
            return 0 if old is None else len(old)
        end = at + len(piece)
        if end > self.ctx.limits.proto_max_bulk_len:
            raise err(TOO_LONG)
        if old is None:
            new = b"".join((bytes(at), piece))  # a new object even where it begins at 0
            self._create(key, new)
        else:
            new = b"".join((old[:at], bytes(max(0, at - len(old))), piece, old[end:]))
            self._data[key] = new
        remember_encoding(new, "raw")
        self.dirty += 1
        if self._live:
            self.commit((b"SETRANGE", key, b"%d" % at, piece), ("setrange", key))
        return len(new)

    # -- numbers -----------------------------------------------------------------------------------

    def incrby(self, name: KeyT, amount: int = 1) -> int:
        """Add an integer to the key's integer (a missing key counts as 0); the sum. O(1).

        Raises ResponseError when a number is no 64-bit integer or the sum overflows, WrongTypeError.
        """
        key = name if type(name) is bytes else to_bytes(name)
        return self._add(key, 1 if type(amount) is int and amount == 1 else as_int(amount))

    incr = incrby

    def decrby(self, name: KeyT, amount: int = 1) -> int:
        """Subtract an integer from the key's integer (a missing key counts as 0); the difference. O(1).

        Raises ResponseError when a number is no 64-bit integer or the difference overflows, WrongTypeError.
        """
        step = as_int(amount)
        if step == INT64_MIN:
            raise err("decrement would overflow")
        return self._add(to_bytes(name), -step)

    decr = decrby

    def _add(self, key: bytes, step: int) -> int:
        data = self._data  # once: it may be a property that looks at the thread
        old = data.get(key)
        if type(old) is not bytes or key in self._expires or self._watched:
            old = self._write(key)
        if old is None:
            total = step
            self._create(key, b"%d" % total)
        elif type(old) is bytes:
            if old.isdigit() and old[0] != _ZERO and len(old) < 19:
                total = int(old) + step  # what parse_int would find, for the numbers that counters have
            else:
                number = parse_int(old)
                if number is None:
                    raise ResponseError(NOT_INTEGER)
                total = number + step
            if not INT64_MIN <= total <= INT64_MAX:
                raise ResponseError(OVERFLOW)
            data[key] = b"%d" % total
        else:
            raise WrongTypeError
        self.dirty += 1
        if self._live:
            self.commit((b"INCRBY", key, b"%d" % step), ("incrby", key))
        return total

    def incrbyfloat(self, name: KeyT, amount: float = 1.0) -> float:
        """Add a number to the key's number (a missing key counts as 0); the sum. O(1).

        Sums are made and printed as the server does: with 64 bits of mantissa and 17 decimals.
        Raises ResponseError when one is no number or the sum is not finite, WrongTypeError.
        """
        return float(self._incrbyfloat(to_bytes(name), to_bytes(amount)))

    def _incrbyfloat(self, key: bytes, amount: bytes) -> bytes:
        old = self._write_as(key, bytes)
        total = incr_long_double(b"0" if old is None else old, amount)
        if old is None:
            self._create(key, total)
        else:
            self._data[key] = total
        remember_encoding(total, "embstr")
        self.dirty += 1
        if self._live:
            self.commit((b"SET", key, total, b"KEEPTTL"), ("incrbyfloat", key))
        return total

    # -- common subsequences -----------------------------------------------------------------------

    def lcs(
        self,
        key1: KeyT,
        key2: KeyT,
        len: bool | None = False,
        idx: bool | None = False,
        minmatchlen: int | None = 0,
        withmatchlen: bool | None = False,
    ) -> bytes | int | list[Any]:
        """The longest common subsequence of two values (a missing key counts as empty). O(n * m / 64).

        ``len``: its length. ``idx``: ``[b"matches", [[[from, to], [from, to]], ...], b"len", length]``,
        the places in both values, those of at least ``minmatchlen`` bytes, last one first, each with its
        length if ``withmatchlen``.

        Raises ResponseError when a key holds another type, when the options exclude each other, or when
        the values are too long for ``proto-max-bulk-len``.
        """
        a, b = self._lcs_operands(to_bytes(key1), to_bytes(key2))
        if len and idx:
            raise err("If you want both the length and indexes, please just use IDX.")
        self._check_lcs_size(a, b)
        if len:
            return lcs_length(a, b)
        runs = lcs_runs(a, b)
        if not idx:
            return lcs_bytes(a, runs)
        least = as_int(minmatchlen or 0)
        return [b"matches", lcs_matches(runs, least, bool(withmatchlen)), b"len", lcs_total(runs)]

    def _lcs_operands(self, key1: bytes, key2: bytes) -> tuple[bytes, bytes]:
        found = self._read(key1), self._read(key2)
        for value in found:
            if value is not None and type(value) is not bytes:
                raise err("The specified keys must contain string values")
        return found[0] or b"", found[1] or b""

    def _check_lcs_size(self, a: bytes, b: bytes) -> None:
        if (len(a) + 1) * (len(b) + 1) * _CELL_BYTES > self.ctx.limits.proto_max_bulk_len:
            raise err("Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")


def lcs_total(runs: list[Run]) -> int:
    return sum(run[2] for run in runs)


def lcs_matches(runs: list[Run], least: int, with_length: bool) -> list[list[Any]]:
    """The runs of at least that length as LCS IDX answers them."""
    matches: list[list[Any]] = []
    for i, j, length in runs:
        if length >= least:
            match: list[Any] = [[i, i + length - 1], [j, j + length - 1]]
            if with_length:
                match.append(length)
            matches.append(match)
    return matches
