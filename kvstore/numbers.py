"""Numbers as Redis reads and prints them: strict integers, doubles, and x87 long doubles.

Everything goes between ``bytes`` and plain Python numbers. Reading is exact and strict: what the
server's ``strtod`` or its integer parser would refuse is ``None`` here, and never an exception.

Three printed forms are needed:

- doubles (``ZSCORE``), printed with the fewest digits that read back. The server's algorithm is
  Grisu2, which now and then misses the shortest or the nearest form; ``format_double`` reproduces
  those misses, see ``_grisu_digits``;
- doubles with 17 significant digits, as older servers print them;
- long doubles (``INCRBYFLOAT``): sums are made in 64 bits of mantissa and printed with 17 decimals.
  They are dyadic rationals here, ``mantissa * 2**exponent``, in Python integers: exact on every
  machine, also where C's ``long double`` is something else.

Must not know: keys, replies, the store.
"""

from __future__ import annotations

import re
from math import inf
from typing import Final

from kvstore import errors
from kvstore.errors import ResponseError

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

# ---------------------------------------------------------------------------------- integers


def parse_int(raw: bytes) -> int | None:
    """The int64 that ``raw`` spells, or None: no space, no plus, no leading zero, no ``-0``. O(1)."""
    if len(raw) > 20:
        return None
    try:
        value = int(raw)
    except ValueError:
        return None
    # int() is more lenient than the server; only the canonical spelling survives the round trip.
    if INT64_MIN <= value <= INT64_MAX and b"%d" % value == raw:
        return value
    return None


def as_int(value: object, text: str = errors.NOT_INTEGER) -> int:
    """``value`` as an int64: an int, or bytes or str that spell one strictly.

    Raises ResponseError(text) for anything else (a float too: its spelling has a point).
    """
    if type(value) is int:
        if INT64_MIN <= value <= INT64_MAX:
            return value
        raise ResponseError(text)
    number = parse_int(_as_bytes(value, text))
    if number is None:
        raise ResponseError(text)
    return number


def _as_bytes(value: object, text: str) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value).encode()
    raise ResponseError(text)


# ----------------------------------------------------------------------------- reading doubles

_HEX_FLOAT: Final = re.compile(
    rb"([+-]?)0[xX](?=\.?[0-9a-fA-F])([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?[0-9]+))?"
)


def parse_float(raw: bytes) -> float | None:
    """The double that ``raw`` spells in ``strtod``'s syntax, or None.

    Decimal and hexadecimal, ``inf`` and ``infinity`` in any case. Refused: NaN, spaces around,
    overflow to infinity, and underflow to zero. O(len(raw)).
    """
    try:
        value = float(raw)
    except ValueError:
        return _parse_hex_float(raw)
    # What float() takes and strtod does not: white space around, underscores between digits.
    if raw[0] <= 32 or raw[-1] <= 32 or b"_" in raw or value != value:
        return None
    if not value:
        return value if _mantissa_is_zero(raw) else None
    if value in (inf, -inf) and raw[-1] not in b"fFyY":
        return None
    return value


def _parse_hex_float(raw: bytes) -> float | None:
    match = _HEX_FLOAT.fullmatch(raw)
    if match is None:
        return None
    try:
        value = float.fromhex(raw.decode("ascii"))
    except OverflowError:
        return None
    if not value and (match[2] + (match[3] or b"")).strip(b"0"):
        return None
    return value


def _mantissa_is_zero(raw: bytes) -> bool:
    return not raw.lower().partition(b"e")[0].strip(b"+-0.")


def as_float(value: object, text: str = errors.NOT_FLOAT) -> float:
    """``value`` as a double: a number that is not NaN, or bytes or str that spell one.

    Raises ResponseError(text) for anything else.
    """
    if type(value) is float:
        if value == value:
            return value
        raise ResponseError(text)
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ResponseError(text)
    number = parse_float(_as_bytes(value, text))
    if number is None:
        raise ResponseError(text)
    return number


# ---------------------------------------------------------------------------- printing doubles


def format_double(x: float) -> bytes:
    """``x`` as a double reply: the fewest digits that read back, an exponent only far from 1."""
    if -1e15 < x < 1e15 and x == (n := int(x)) and (n % 100_000_000 or -100_000_000 < n < 100_000_000):
        if n or str(x)[0] != "-":
            return b"%d" % n
        return b"-0"
    return _format_fraction(x)


def _format_fraction(x: float) -> bytes:
    text = repr(x)
    if text in ("inf", "-inf", "nan"):
        return text.encode()
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    scale = (int(exponent) if exponent else 0) - len(fraction)
    stripped = digits.rstrip("0")
    scale += len(digits) - len(stripped)
    return (sign + _emit(stripped, scale)).encode()


def _emit(digits: str, scale: int) -> str:
    """``digits * 10**scale`` spelled out, or with an exponent where the server takes one."""
    size = len(digits)
    exponent = size + scale - 1
    if 0 <= scale < 8:
        return digits + "0" * scale
    if scale < 0 and (scale > -7 or abs(exponent) < 4):
        point = size + scale
        if point <= 0:
            return "0." + "0" * -point + digits
        return digits[:point] + "." + digits[point:]
    head = digits[0] + ("." + digits[1:] if size > 1 else "")
    return f"{head}e{'-' if exponent < 0 else '+'}{abs(exponent)}"


def format_double17(x: float) -> bytes:
    """``x`` with up to 17 significant digits, as servers before 7.2 print a double."""
    return b"%.17g" % x


# -------------------------------------------------------------------------------- long doubles

# A finite long double is (mantissa, exponent): mantissa * 2**exponent, at most 64 bits. An infinity
# is the float.
LongDouble = tuple[int, int] | float

_DECIMAL: Final = re.compile(rb"([+-]?)(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_INFINITY: Final = re.compile(rb"([+-]?)inf(?:inity)?", re.IGNORECASE)

_MAX_LONG_DOUBLE_CHARS: Final = 5 * 1024  # the server's buffer for one printed long double
_MANTISSA_BITS: Final = 64
_MIN_EXPONENT: Final = -16445  # of the smallest subnormal
_MAX_EXPONENT: Final = 16384  # 2**16384 is infinite
_DIGITS_AT_ONCE: Final = 4000  # int() and str() refuse more than 4300


def parse_long_double(raw: bytes) -> LongDouble | None:
    """The long double that ``raw`` spells in ``strtold``'s syntax, or None.

    Infinities are read; NaN, overflow to infinity and underflow to zero are not.
    """
    if len(raw) >= _MAX_LONG_DOUBLE_CHARS:
        return None
    match = _DECIMAL.fullmatch(raw)
    if match is not None:
        base, power = 10, 10
    else:
        match = _HEX_FLOAT.fullmatch(raw)
        if match is None:
            infinite = _INFINITY.fullmatch(raw)
            return None if infinite is None else (-inf if infinite[1] == b"-" else inf)
        base, power = 16, 2
    sign, whole, fraction, exponent_text = match.groups(b"")
    mantissa = _read_digits(whole + fraction, base)
    if not mantissa:
        return (0, 0)
    digits = exponent_text.lstrip(b"+-0")
    if len(digits) > 6:  # far out of range whatever the mantissa, which is under 5,120 digits
        return None
    exponent = int(exponent_text or b"0") - len(fraction) * (4 if base == 16 else 1)
    if exponent >= 0:
        value = _round(mantissa * power**exponent, 1)
    else:
        value = _round(mantissa, power**-exponent)
    if value is None or not value[0]:
        return None
    return (-value[0], value[1]) if sign == b"-" else value


def _read_digits(digits: bytes, base: int) -> int:
    digits = digits.lstrip(b"0")
    if base == 16 or len(digits) <= _DIGITS_AT_ONCE:
        return int(digits or b"0", base)
    head, tail = digits[:-_DIGITS_AT_ONCE], digits[-_DIGITS_AT_ONCE:]
    return int(head) * 10**_DIGITS_AT_ONCE + int(tail)


def _round(numerator: int, denominator: int) -> tuple[int, int] | None:
    """A positive ratio to the nearest long double, ties to even; None when it overflows."""
    exponent = numerator.bit_length() - denominator.bit_length() - _MANTISSA_BITS
    exponent = max(exponent, _MIN_EXPONENT)
    while True:
        if exponent > 0:
            scaled = denominator << exponent
            quotient, rest = divmod(numerator, scaled)
        else:
            scaled = denominator
            quotient, rest = divmod(numerator << -exponent, scaled)
        if quotient.bit_length() <= _MANTISSA_BITS:
            break
        exponent += 1
    rest <<= 1
    if rest > scaled or (rest == scaled and quotient & 1):
        quotient += 1
    if quotient.bit_length() + exponent > _MAX_EXPONENT:
        return None
    return quotient, exponent


def format_long_double(value: tuple[int, int]) -> bytes:
    """A finite long double with 17 decimals, trailing zeros and point dropped."""
    mantissa, exponent = value
    sign = b"-" if mantissa < 0 else b""
    magnitude = abs(mantissa)
    if exponent >= 0:
        return sign + _write_digits(magnitude << exponent)
    scaled = magnitude * 10**17
    quotient = scaled >> -exponent
    rest = scaled - (quotient << -exponent)
    half = 1 << (-exponent - 1)
    if rest > half or (rest == half and quotient & 1):
        quotient += 1
    whole, decimals = divmod(quotient, 10**17)
    if decimals:
        return b"%b%b.%b" % (sign, _write_digits(whole), (b"%017d" % decimals).rstrip(b"0"))
    return sign + _write_digits(whole) if whole else b"0"


def _write_digits(n: int) -> bytes:
    if n < 10**_DIGITS_AT_ONCE:
        return b"%d" % n
    head, tail = divmod(n, 10**_DIGITS_AT_ONCE)
    return b"%d" % head + b"%0*d" % (_DIGITS_AT_ONCE, tail)


def add_long_doubles(a: LongDouble, b: LongDouble) -> bytes:
    """The printed sum. Raises ResponseError(NAN_OR_INFINITY) when it is not finite."""
    if isinstance(a, float) or isinstance(b, float):
        raise ResponseError(errors.NAN_OR_INFINITY)
    exponent = min(a[1], b[1])
    total = (a[0] << (a[1] - exponent)) + (b[0] << (b[1] - exponent))
    if not total:
        return b"0"
    if exponent >= 0:
        rounded = _round(abs(total) << exponent, 1)
    else:
        rounded = _round(abs(total), 1 << -exponent)
    if rounded is None:
        raise ResponseError(errors.NAN_OR_INFINITY)
    return format_long_double(rounded if total > 0 else (-rounded[0], rounded[1]))


def incr_long_double(current: bytes, increment: bytes) -> bytes:
    """``current + increment`` as INCRBYFLOAT stores and replies it.

    Raises ResponseError: NOT_FLOAT when either does not parse, NAN_OR_INFINITY when the sum is not finite.
    """
    a = parse_long_double(current)
    b = parse_long_double(increment)
    if a is None or b is None:
        raise ResponseError(errors.NOT_FLOAT)
    return add_long_doubles(a, b)
