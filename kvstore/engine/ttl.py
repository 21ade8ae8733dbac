"""The expiry options that commands share (EX, PX, EXAT, PXAT), and the deadline that they mean.

Must not know: keys, databases.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from kvstore.errors import DataError, ResponseError
from kvstore.numbers import INT64_MAX, as_int

# As redis-py takes them.
ExpiryT = int | timedelta
AbsExpiryT = int | datetime
# An option and its word, which is checked only when the server would check it; None for no expiry.
Expiry = tuple[bytes, object] | None

EXPIRY_OPTIONS = (b"EX", b"PX", b"EXAT", b"PXAT")


def expiry_of(
    ex: ExpiryT | str | None, px: ExpiryT | None, exat: AbsExpiryT | None, pxat: AbsExpiryT | None
) -> Expiry:
    """The one of redis-py's expiry parameters that is given. Raises DataError as redis-py does."""
    if ex is not None:
        if isinstance(ex, timedelta):
            return b"EX", int(ex.total_seconds())
        if isinstance(ex, int) or (isinstance(ex, str) and ex.isdigit()):
            return b"EX", int(ex)
        raise DataError("ex must be datetime.timedelta or int")
    if px is not None:
        if isinstance(px, timedelta):
            return b"PX", int(px.total_seconds() * 1000)
        if isinstance(px, int):
            return b"PX", px
        raise DataError("px must be datetime.timedelta or int")
    if exat is not None:
        return b"EXAT", unix_seconds(exat)
    if pxat is not None:
        return b"PXAT", unix_milliseconds(pxat)
    return None


def seconds(time: object) -> object:
    """A duration for a command that takes seconds; what is no timedelta as it is."""
    return int(time.total_seconds()) if isinstance(time, timedelta) else time


def milliseconds(time: object) -> object:
    return int(time.total_seconds() * 1000) if isinstance(time, timedelta) else time


def unix_seconds(when: object) -> object:
    """A moment for a command that takes Unix seconds; what is no datetime as it is."""
    return int(when.timestamp()) if isinstance(when, datetime) else when


def unix_milliseconds(when: object) -> object:
    return int(when.timestamp() * 1000) if isinstance(when, datetime) else when


def deadline_of(option: bytes, word: object, now_ms: int, command: str) -> int:
    """The Unix time in milliseconds that an expiry option means.

    Raises ResponseError when the word is no integer, is not positive, or lies beyond all time.
    """
    amount = as_int(word)
    if amount > 0:
        if option in (b"EX", b"EXAT"):
            amount *= 1000
        if option in (b"EX", b"PX"):
            amount += now_ms
        if amount <= INT64_MAX:
            return amount
    raise ResponseError(f"ERR invalid expire time in '{command}' command")
