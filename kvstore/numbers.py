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
from functools import lru_cache
from math import copysign, frexp, inf
from typing import Final

from kvstore import errors
from kvstore.errors import ResponseError

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

# ---------------------------------------------------------------------------------- integers

# Counts, indexes and scores are mostly small: a look-up costs a quarter of parsing.
_SMALL_INTS: Final = {b"%d" % n: n for n in range(-1, 1024)}
_SMALL_FLOATS: Final = {raw: float(n) for raw, n in _SMALL_INTS.items()}


def parse_int(raw: bytes) -> int | None:
    """The int64 that ``raw`` spells, or None: no space, no plus, no leading zero, no ``-0``. O(1)."""
    small = _SMALL_INTS.get(raw)
    if small is not None:
        return small
    if not raw or raw[0] > 0x39:  # a word: three times cheaper than int()'s exception
        return None
    try:
        value = int(raw)
    except ValueError:
        return None
    # int() is more lenient than the server; only the canonical spelling survives the round trip.
    # int() itself refuses more than 4,300 digits, so a long argument costs no more than a short one.
    if -(1 << 63) <= value < 1 << 63 and b"%d" % value == raw:
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
    number = parse_int(value if type(value) is bytes else _as_bytes(value, text))
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


_UNDERSCORE: Final = 0x5F  # a number is found in bytes far sooner than other bytes are


def parse_float(raw: bytes) -> float | None:
    """The double that ``raw`` spells in ``strtod``'s syntax, or None.

    Decimal and hexadecimal, ``inf`` and ``infinity`` in any case. Refused: NaN, spaces around,
    overflow to infinity, and underflow to zero. O(len(raw)).
    """
    small = _SMALL_FLOATS.get(raw)
    if small is not None:
        return small
    if raw.isdigit() and len(raw) < 16:  # a whole number that is exact, and sooner read as one
        return float(int(raw))
    try:
        value = float(raw)
    except ValueError:
        return _parse_hex_float(raw)
    # What float() takes and strtod does not: white space around, underscores between digits.
    if raw[0] <= 32 or raw[-1] <= 32 or _UNDERSCORE in raw:
        return None
    if not value:
        return value if _mantissa_is_zero(raw) else None
    if value - value != 0 and raw[-1] not in b"fFyY":  # NaN, or infinite and not spelled so
        return None
    return value


# What most numbers are written with, and how many such bytes are neither too large nor too small for a double.
_DIGITS: Final = b"0123456789-."
_LONGEST: Final = 300


def parse_floats(words: list[bytes]) -> list[float | None]:
    """As ``parse_float`` of each, at twice the pace where they are digits alone, for which float() is as strict."""
    if words and not b"".join(words).translate(None, _DIGITS) and max(map(len, words)) <= _LONGEST:
        try:
            return list(map(float, words))
        except ValueError:
            pass
    return [parse_float(word) for word in words]


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
    number = parse_float(value if type(value) is bytes else _as_bytes(value, text))
    if number is None:
        raise ResponseError(text)
    return number


# ---------------------------------------------------------------------------- printing doubles


_SMALLEST_NORMAL: Final = 2.0**-1022
_TWO_TO_64: Final = 2.0**64
_PLAIN_LIMIT: Final = 2.0**62  # whole numbers up to here are printed as integers


def format_double(x: float) -> bytes:
    """``x`` as a double reply: the fewest digits that read back, an exponent only far from 1. O(1)."""
    if x.is_integer() and -_PLAIN_LIMIT <= x <= _PLAIN_LIMIT:
        if x or copysign(1.0, x) > 0:
            return b"%d" % x
        return b"-0"
    text = repr(x)
    # Up to three decimals and fifteen digits, repr's digits are Grisu2's (see _grisu_digits): the
    # value is then at least 1/125 of half a unit in the last place away from where they could
    # part. "inf" and "nan" pass here too; an exponent makes the tail longer.
    size = len(text)
    if size <= 16 and size - text.find(".") <= 4:
        return text.encode()
    return _format_long(x)


@lru_cache(maxsize=4096)
def _format_long(x: float) -> bytes:
    """``format_double`` of the numbers that take a few microseconds; a leaderboard prints them often."""
    text = repr(x)
    if x - x != 0:
        return text.encode()
    # repr's digits are the fewest that read back; Grisu2 never finds fewer.
    shortest = text.partition("e")[0].replace(".", "").strip("-0")
    number, scale = _grisu_digits(abs(x), len(shortest))
    emitted = _emit(str(number), scale)
    return b"-" + emitted if x < 0 else emitted


# 10**k as (k, mantissa of 64 bits, exponent) by the binary exponent that it is to cancel; made on demand.
_CACHED_POWERS: Final[dict[int, tuple[int, int, int]]] = {}


def _cached_power(exponent: int) -> tuple[int, int, int]:
    """The power of ten, of those eight apart from -348, that brings ``exponent`` near -60..-32.

    Where two would do, the choice follows the server's: it estimates an index and walks from there.
    """
    index = int((int(-(exponent + 87) * 0.30102999566398114) + 348) / 8)
    while True:
        k = index * 8 - 348
        power = _power_of_ten(k)
        if exponent + power[1] + 64 < -60:
            index += 1
        elif exponent + power[1] + 64 > -32:
            index -= 1
        else:
            found = _CACHED_POWERS[exponent] = (k, *power)
            return found


def _power_of_ten(k: int) -> tuple[int, int]:
    """10**k rounded to 64 bits: (mantissa, exponent)."""
    numerator, denominator = (10**k, 1) if k >= 0 else (1, 10**-k)
    exponent = numerator.bit_length() - denominator.bit_length() - 64
    while True:
        up, down = max(-exponent, 0), max(exponent, 0)
        mantissa = ((numerator << up + 1) // (denominator << down) + 1) >> 1
        if mantissa >> 64 == 0:
            return mantissa, exponent
        exponent += 1


def _grisu_digits(x: float, at_least: int) -> tuple[int, int]:
    """The digits that Grisu2 finds for a positive ``x``: (number, scale), for number * 10**scale.

    Grisu2 scales the value and the borders of what reads back as it by a power of ten, in 64 bits,
    and keeps one unit away from each border because of rounding. So once in a few hundred values
    it takes a digit more than needed, or a last digit that is not the nearest. To print what the server
    prints, the same is computed here; it can start at ``at_least`` digits, the true minimum.
    """
    fraction, exponent = frexp(x)
    middle = int(fraction * _TWO_TO_64)
    exponent -= 64
    # Half the distance to the neighbours; below the normal numbers it does not shrink with the value.
    half_gap = 1 << (10 if exponent >= -1085 else -1075 - exponent)
    high = middle + half_gap
    if middle == 1 << 63 and x >= _SMALLEST_NORMAL:
        half_gap >>= 1  # the neighbour below a power of two is nearer
    low = middle - half_gap
    k, power, power_exponent = _CACHED_POWERS.get(exponent) or _cached_power(exponent)
    half = 1 << 63
    middle = middle * power + half >> 64
    low = (low * power + half >> 64) + 1
    high = (high * power + half >> 64) - 1
    shift = -(exponent + power_exponent + 64)
    delta, gap = high - low, high - middle
    kappa = len(str(high >> shift)) - at_least  # the place of the last digit
    while True:
        if kappa >= 0:
            unit = 10**kappa << shift
            number, rest = divmod(high, unit)
            if rest <= delta:
                break
        else:
            unit = 1 << shift
            factor = 10**-kappa
            number, rest = divmod(high * factor, unit)
            if rest < delta * factor:
                delta *= factor
                gap *= factor
                break
        kappa -= 1
    while rest < gap and delta - rest >= unit and (rest + unit < gap or gap - rest > rest + unit - gap):
        number -= 1
        rest += unit
    return number, kappa - k


def _emit(number: str, scale: int) -> bytes:
    """``number * 10**scale`` spelled out, or with an exponent where the server takes one."""
    size = len(number)
    exponent = size + scale - 1
    if 0 <= scale < 8:
        return (number + "0" * scale).encode()
    if scale < 0 and (scale > -7 or -4 < exponent < 4):
        if exponent >= 0:
            return f"{number[: exponent + 1]}.{number[exponent + 1 :]}".encode()
        return f"0.{'0' * (-exponent - 1)}{number}".encode()
    point = "." if size > 1 else ""
    return f"{number[0]}{point}{number[1:]}e{'-' if exponent < 0 else '+'}{abs(exponent)}".encode()


def format_shortest(x: float) -> bytes:
    """As ``format_double``, but a whole number has an exponent, too, where that is shorter. O(1)."""
    return _format_long(x) if x else format_double(x)


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
_MIN_EXPONENT: Final = -16445  # of the smallest subnormal
_MAX_EXPONENT: Final = 16384  # 2**16384 is infinite
_DIGITS_AT_ONCE: Final = 4000  # int() and str() refuse more than 4300
_AT_ONCE: Final = 10**_DIGITS_AT_ONCE


def parse_long_double(raw: bytes) -> LongDouble | None:
    """The long double that ``raw`` spells in ``strtold``'s syntax, or None.

    Infinities are read; NaN, overflow to infinity and underflow to zero are not.
    """
    if len(raw) >= _MAX_LONG_DOUBLE_CHARS:
        return None
    match = _DECIMAL.fullmatch(raw)
    if match is None:
        return _parse_hex_long_double(raw)
    sign, whole, fraction, exponent_text = match.groups(b"")
    digits = (whole + fraction).lstrip(b"0")
    if not digits:
        return (0, 0)
    exponent = _exponent(exponent_text) - len(fraction)
    # Decide what is far out of range before making a power of ten of it.
    if not -5000 < len(digits) + exponent < 5000:
        return None
    mantissa = _read_digits(digits)
    if exponent >= 0:
        return _signed(sign, _fit(mantissa * 10**exponent, 0))
    return _signed(sign, _divide(mantissa, 10**-exponent))


def _parse_hex_long_double(raw: bytes) -> LongDouble | None:
    match = _HEX_FLOAT.fullmatch(raw)
    if match is None:
        infinite = _INFINITY.fullmatch(raw)
        return None if infinite is None else (-inf if infinite[1] == b"-" else inf)
    sign, whole, fraction, exponent_text = match.groups(b"")
    mantissa = int(whole + fraction, 16)
    if not mantissa:
        return (0, 0)
    exponent = _exponent(exponent_text) - 4 * len(fraction)
    if not -20000 < mantissa.bit_length() + exponent < 20000:
        return None
    return _signed(sign, _fit(mantissa, exponent))


def _exponent(text: bytes) -> int:
    """The exponent that is written; for one of very many digits, one that is as far out of range."""
    digits = text.lstrip(b"+-0")
    if not digits:
        return 0
    exponent = int(digits[:9])
    return -exponent if text[0] == 0x2D else exponent


def _signed(sign: bytes, value: tuple[int, int] | None) -> tuple[int, int] | None:
    """The parsed value with its sign; None when it is out of range at either end."""
    if value is None or not value[0]:
        return None
    return (-value[0], value[1]) if sign == b"-" else value


def _read_digits(digits: bytes) -> int:
    if len(digits) <= _DIGITS_AT_ONCE:
        return int(digits)
    # The caller's limit keeps the head under _DIGITS_AT_ONCE too.
    head, tail = digits[:-_DIGITS_AT_ONCE], digits[-_DIGITS_AT_ONCE:]
    return int(head) * _AT_ONCE + int(tail)


def _divide(numerator: int, denominator: int) -> tuple[int, int] | None:
    """A positive ratio to the nearest long double; None when it overflows."""
    # At least 65 bits of quotient, so that the one behind the last place is among them.
    exponent = numerator.bit_length() - denominator.bit_length() - 65
    if exponent > 0:
        quotient, rest = divmod(numerator, denominator << exponent)
    else:
        quotient, rest = divmod(numerator << -exponent, denominator)
    return _fit(quotient << 1 | (rest != 0), exponent - 1)


def _fit(mantissa: int, exponent: int) -> tuple[int, int] | None:
    """A positive dyadic rational to the nearest long double, ties to even; None when it overflows."""
    excess = max(mantissa.bit_length() - 64, _MIN_EXPONENT - exponent)
    if excess > 0:
        below = mantissa & ((1 << excess) - 1)
        mantissa >>= excess
        exponent += excess
        half = 1 << (excess - 1)
        if below > half or (below == half and mantissa & 1):
            mantissa += 1
    if mantissa.bit_length() + exponent > _MAX_EXPONENT:
        return None
    return mantissa, exponent


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
    if n < _AT_ONCE:
        return b"%d" % n
    head, tail = divmod(n, _AT_ONCE)
    return b"%d" % head + b"%0*d" % (_DIGITS_AT_ONCE, tail)


def add_long_doubles(a: LongDouble, b: LongDouble) -> bytes:
    """The printed sum. Raises ResponseError(NAN_OR_INFINITY) when it is not finite."""
    if isinstance(a, float) or isinstance(b, float):
        raise ResponseError(errors.NAN_OR_INFINITY)
    exponent = min(a[1], b[1])
    total = (a[0] << (a[1] - exponent)) + (b[0] << (b[1] - exponent))
    if not total:
        return b"0"
    rounded = _fit(abs(total), exponent)
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
