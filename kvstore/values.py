"""Python objects as values: MessagePack, explicit and typed, never pickle.

    from kvstore import Store, values

    store.set("job", values.pack({"at": datetime.now(UTC), "tags": {"a", "b"}}))
    values.unpack(store.get("job"))

``pack`` takes None, bool, int (64 bits; larger ones too), float, str, bytes, list, tuple, dict, set,
frozenset, datetime (aware), date, timedelta, Decimal and UUID, nested as you like, and gives back equal
values of the same types. Anything else is refused; nothing that is read can run code.

Must not know: stores.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack

from kvstore.errors import DataError

# MessagePack's extension types: the number that stands in the data (never reuse one), the type, how its
# payload is made, and how it is read.
_EXTENSIONS: list[tuple[int, type, Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (1, tuple, lambda value: _packed(list(value)), lambda data: tuple(_unpacked(data))),
    (2, set, lambda value: _packed(_ordered(value)), lambda data: set(_unpacked(data))),
    (3, frozenset, lambda value: _packed(_ordered(value)), lambda data: frozenset(_unpacked(data))),
    (
        4,
        datetime,
        lambda value: _aware(value).isoformat().encode(),
        lambda data: datetime.fromisoformat(data.decode()),
    ),
    (5, date, lambda value: value.isoformat().encode(), lambda data: date.fromisoformat(data.decode())),
    (
        6,
        timedelta,
        lambda value: _packed([value.days, value.seconds, value.microseconds]),
        lambda data: timedelta(*_unpacked(data)),
    ),
    (7, Decimal, lambda value: str(value).encode(), lambda data: Decimal(data.decode())),
    (8, UUID, lambda value: value.bytes, lambda data: UUID(bytes=data)),
    (9, int, lambda value: b"%d" % value, lambda data: int(data)),
]
_BY_TYPE = {cls: (number, make) for number, cls, make, _ in _EXTENSIONS}
_BY_NUMBER = {number: read for number, _, _, read in _EXTENSIONS}


def pack(value: Any) -> bytes:
    """The bytes of a value. O(size). Raises DataError for a type that has no form here."""
    try:
        return _packed(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"cannot pack this value: {error}") from error


def unpack(data: bytes | None) -> Any:
    """The value of the bytes; None for None, so that a missing key reads as None. O(size).

    Raises DataError for bytes that ``pack`` did not make.
    """
    if data is None:
        return None
    try:
        return _unpacked(data)
    except (ValueError, TypeError, ArithmeticError, RecursionError, msgpack.UnpackException) as error:
        raise DataError(f"cannot unpack these {len(data)} bytes: {error}") from error


def _packed(value: Any) -> bytes:
    return msgpack.packb(value, default=_extend, strict_types=True, use_bin_type=True)  # type: ignore[no-any-return]


def _unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=_read, strict_map_key=False, raw=False)


def _extend(value: Any) -> msgpack.ExtType:
    found = _BY_TYPE.get(type(value))
    if found is None:
        raise TypeError(f"{type(value).__name__} has no form in MessagePack here")
    number, make = found
    return msgpack.ExtType(number, make(value))


def _read(number: int, data: bytes) -> Any:
    read = _BY_NUMBER.get(number)
    if read is None:
        raise ValueError(f"extension type {number} is unknown")
    return read(data)


def _ordered(members: set[Any] | frozenset[Any]) -> list[Any]:
    """Members in an order of their own bytes, so that equal sets give equal bytes."""
    return sorted(members, key=_packed)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a datetime without a time zone means another moment on another machine")
    return moment
