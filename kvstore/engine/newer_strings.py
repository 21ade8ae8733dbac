"""Strings: the typed methods of commands that came with Redis 8.4 and 8.8, and with Valkey 9.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kvstore.engine.keyspace import EncodableT, KeyT, to_bytes
from kvstore.engine.strings import Strings
from kvstore.engine.ttl import AbsExpiryT, Expiry, ExpiryT, deadline_of, expiry_of
from kvstore.engine.words import pairs_of
from kvstore.engine.xxh3 import xxh3_64
from kvstore.errors import NAN_OR_INFINITY, NOT_FLOAT, NOT_INTEGER, OVERFLOW, DataError, ResponseError, err
from kvstore.numbers import (
    INT64_MAX,
    INT64_MIN,
    add_long_doubles,
    as_int,
    format_long_double,
    parse_int,
    parse_long_double,
)

if TYPE_CHECKING:
    from fractions import Fraction


class Bounds(NamedTuple):
    """What INCREX is told of the result: the words of LBOUND and UBOUND, and whether it saturates."""

    lower: object = None
    upper: object = None
    saturate: bool = False


class Increment(NamedTuple):
    """What INCREX would do: the number stored, the part that counts, and whether it is within bounds."""

    total: bytes
    applied: bytes
    allowed: bool


class NewerStrings(Strings):
    """Strings, with what Redis has learnt since 8.4."""

    __slots__ = ()

    def digest(self, name: KeyT) -> bytes | None:
        """The XXH3 hash of the value as 16 hexadecimal digits, or None. O(length). Raises WrongTypeError."""
        value = self._read_as(to_bytes(name), bytes)
        return None if value is None else b"%016x" % xxh3_64(value)

    def delex(
        self,
        name: KeyT,
        ifeq: bytes | str | None = None,
        ifne: bytes | str | None = None,
        ifdeq: str | None = None,
        ifdne: str | None = None,
    ) -> int:
        """Delete the key if its value is (``ifne``: is not) this; 1 or 0. O(length).

        ``ifdeq`` and ``ifdne`` compare with its ``digest()``. With no condition any type is deleted.
        Raises ValueError for several conditions, WrongTypeError.
        """
        given = [
            (option, to_bytes(operand))
            for option, operand in ((b"IFEQ", ifeq), (b"IFNE", ifne), (b"IFDEQ", ifdeq), (b"IFDNE", ifdne))
            if operand is not None
        ]
        if len(given) > 1:
            raise ValueError("Only one of IFEQ/IFNE/IFDEQ/IFDNE may be specified")
        return self._delex(to_bytes(name), *given[0] if given else (None, b""))

    def delifeq(self, name: KeyT, value: EncodableT) -> int:
        """Delete the key if it has this value; 1 or 0. O(length). Valkey's name of ``delex(ifeq=…)``, which
        redis-py does not have. Raises WrongTypeError."""
        return self._delifeq(to_bytes(name), to_bytes(value))

    def _delifeq(self, key: bytes, value: bytes) -> int:
        return self._delex(key, b"IFEQ", value)

    def _delex(self, key: bytes, condition: bytes | None, operand: bytes) -> int:
        found = self._write(key)
        if condition is not None and not self._holds(condition, operand, found):
            return 0
        if found is None:
            return 0
        self._delete(key, "del")
        return 1

    def msetex(
        self,
        mapping: Mapping[Any, EncodableT],
        data_persist_option: Any = None,
        ex: ExpiryT | None = None,
        px: ExpiryT | None = None,
        exat: AbsExpiryT | None = None,
        pxat: AbsExpiryT | None = None,
        keepttl: bool = False,
    ) -> int:
        """Set keys and when they expire; 1, or 0 where the condition does not hold. O(n).

        A time that is past deletes the keys. ``keepttl``: as before. ``data_persist_option``: "NX", only
        where none of the keys exists; "XX", only where all do. Raises DataError for options that exclude each other, ResponseError for a bad
        time and for an empty mapping.
        """
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + keepttl > 1:
            raise DataError("``ex``, ``px``, ``exat``, ``pxat``, and ``keepttl`` are mutually exclusive.")
        if not mapping:
            raise err("invalid numkeys value")
        condition = getattr(data_persist_option, "value", data_persist_option)
        expiry = expiry_of(ex, px, exat, pxat)
        return self._msetex(pairs_of(mapping), to_bytes(condition or b"").upper(), expiry, keepttl)

    def _msetex(self, words: list[bytes], condition: bytes, expiry: Expiry, keep_ttl: bool) -> int:
        """MSETEX of keys and values in turn; ``condition`` is NX, XX or empty."""
        now, deadline = self.ctx.now(), None
        if expiry is not None:
            deadline = deadline_of(*expiry, now, "msetex")
        if condition:
            for key in words[::2]:
                if (self._write(key) is None) is (condition == b"XX"):
                    return 0
        for at in range(0, len(words), 2):
            key, value = words[at], words[at + 1]
            self._write(key)
            self._finish_set(key, value, deadline, keep_ttl, now)
        return 1

    def increx(
        self,
        name: KeyT,
        *,
        byfloat: EncodableT | None = None,
        byint: EncodableT | None = None,
        lbound: EncodableT | None = None,
        ubound: EncodableT | None = None,
        saturate: bool = False,
        ex: ExpiryT | None = None,
        px: ExpiryT | None = None,
        exat: AbsExpiryT | None = None,
        pxat: AbsExpiryT | None = None,
        persist: bool = False,
        enx: bool = False,
    ) -> list[int | float]:
        """Add a number to the key's (1 unless told), within bounds, and set when it expires. O(1).

        The new number and what was added. A result beyond ``lbound`` or ``ubound`` changes nothing, or
        with ``saturate`` becomes the bound. Without an expiry it stays as it was; ``enx``: only a key that
        does not expire gets one. Raises DataError for options that exclude each other, ResponseError when
        something is no number, WrongTypeError.
        """
        if byfloat is not None and byint is not None:
            raise DataError("``byfloat`` and ``byint`` are mutually exclusive.")
        expiry = expiry_of(ex, px, exat, pxat)
        if (ex is not None) + (px is not None) + (exat is not None) + (pxat is not None) + persist > 1:
            raise DataError("``ex``, ``px``, ``exat``, ``pxat``, and ``persist`` are mutually exclusive.")
        if enx and expiry is None:
            raise DataError("``enx`` requires one of ``ex``, ``px``, ``exat``, or ``pxat``.")
        is_float = byfloat is not None
        amount = byfloat if is_float else 1 if byint is None else byint
        bounds = Bounds(lbound, ubound, saturate)
        done = self._increx(to_bytes(name), is_float, amount, bounds, expiry, persist, enx)
        return [float(word) if is_float else int(word) for word in done]

    def _increx(
        self,
        key: bytes,
        is_float: bool,
        amount: object,
        bounds: Bounds,
        expiry: Expiry = None,
        persist: bool = False,
        enx: bool = False,
    ) -> tuple[bytes, bytes]:
        """INCREX: the number as it is stored now, and what was added to it."""
        increase = _add_float if is_float else _add_int
        increase(b"0", amount, bounds)  # so that bad words are refused before the key is looked at
        now = self.ctx.now()
        deadline = None if expiry is None else deadline_of(*expiry, now, "increx")
        old = self._write_as(key, bytes)
        found = increase(b"0" if old is None else old, amount, bounds)
        if not found.allowed:
            return found.total, found.applied
        if enx and key in self._expires:
            deadline = None
        event = "incrbyfloat" if is_float else "incrby"
        self._overwrite(key, found.total, keep_ttl=not persist)
        self.dirty += 1
        if deadline is not None and deadline <= now:
            self._remove(key)
            if self._live:
                self.commit((b"DEL", key), (event, key), ("del", key))
        elif deadline is not None:
            if self._live:
                timed = (b"SET", key, found.total, b"PXAT", b"%d" % deadline)
                self.commit(timed, (event, key), ("expire", key))
            self._set_deadline(key, deadline)
        elif self._live:
            kept = () if persist else (b"KEEPTTL",)
            self.commit((b"SET", key, found.total, *kept), (event, key))
        return found.total, found.applied


def _add_int(old: bytes, amount: object, bounds: Bounds) -> Increment:
    step = as_int(amount, "ERR Increment is not an integer or out of range")
    low, high = INT64_MIN, INT64_MAX
    if bounds.lower is not None:
        low = as_int(bounds.lower, "ERR LBOUND is not an integer or out of range")
    if bounds.upper is not None:
        high = as_int(bounds.upper, "ERR UBOUND is not an integer or out of range")
    if low > high:
        raise err("LBOUND can't be greater than UBOUND")
    number = parse_int(old)
    if number is None:
        raise ResponseError(NOT_INTEGER)
    total = number + step
    if not low <= total <= high:
        if not bounds.saturate:
            return Increment(old, b"0", False)
        total = min(max(total, low), high)
    if not INT64_MIN <= total - number <= INT64_MAX:
        raise ResponseError(OVERFLOW)
    return Increment(b"%d" % total, b"%d" % (total - number), True)


def _add_float(old: bytes, amount: object, bounds: Bounds) -> Increment:
    step = _long_double(amount, "ERR Increment is not a valid float")
    if isinstance(step, float):
        raise ResponseError(NAN_OR_INFINITY)
    low = high = None
    if bounds.lower is not None:
        low = _long_double(bounds.lower, "ERR LBOUND is not a valid float")
    if bounds.upper is not None:
        high = _long_double(bounds.upper, "ERR UBOUND is not a valid float")
    if low is not None and high is not None and _exact(low) > _exact(high):
        raise err("LBOUND can't be greater than UBOUND")
    number = _long_double(old, NOT_FLOAT)
    if isinstance(number, float):
        raise ResponseError(NAN_OR_INFINITY)
    total = add_long_doubles(number, step)
    exact = _exact(_long_double(total, NOT_FLOAT))
    crossed = None
    if low is not None and exact < _exact(low):
        crossed = low
    elif high is not None and exact > _exact(high):
        crossed = high
    if crossed is not None:
        if not bounds.saturate:
            return Increment(old, b"0", False)
        if isinstance(crossed, float):
            raise ResponseError(NAN_OR_INFINITY)
        total = format_long_double(crossed)
    applied = add_long_doubles(_long_double(total, NOT_FLOAT), (-number[0], number[1]))
    return Increment(total, applied, True)


def _long_double(word: object, text: str) -> tuple[int, int] | float:
    number = parse_long_double(to_bytes(word))
    if number is None:
        raise ResponseError(text)
    return number


def _exact(number: tuple[int, int] | float) -> Fraction | float:
    if isinstance(number, float):
        return number
    from fractions import Fraction  # here, as it brings decimals along, which takes 2 ms

    mantissa, exponent = number
    return Fraction(mantissa) * Fraction(2) ** exponent
