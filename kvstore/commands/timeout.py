"""The timeout of a blocking command: a word in seconds, fractions allowed, 0 for ever.

Must not know: sessions, which command blocks.
"""

from __future__ import annotations

from typing import Final

from kvstore.errors import err
from kvstore.numbers import INT64_MAX, parse_long_double

_NEGATIVE: Final = "timeout is negative"
_OUT_OF_RANGE: Final = "timeout is out of range"


def parse_timeout(raw: bytes, now_ms: int) -> float:
    """Seconds, in whole milliseconds rounded up; ``now_ms`` plus them must be a time that a deadline can hold.

    Raises ResponseError.
    """
    if raw.isdigit() and len(raw) < 9:
        return float(raw)
    value = parse_long_double(raw)
    if value is None:
        raise err("timeout is not a float or out of range")
    if isinstance(value, float):
        raise err(_NEGATIVE if value < 0 else _OUT_OF_RANGE)
    mantissa, exponent = value
    if exponent >= 0:
        millis = mantissa * 1000 << exponent
    else:
        millis = -(-mantissa * 1000 >> -exponent)
    if millis < 0:
        raise err(_NEGATIVE)
    if millis > INT64_MAX - now_ms:
        raise err(_OUT_OF_RANGE)
    return millis / 1000
