"""The ends of ranges of sorted sets: by score (``5``, ``(5``, ``-inf``), by member (``[a``, ``(a``, ``-``).

Whatever a bound says is put as ``low <= x < past_high``, so that nobody else meets exclusive bounds; None
stands for what is above everything. For members this works since no byte string lies between ``m`` and
``m + b"\\0"``, for scores since none lies between a double and the next one.

Scores are read as C's ``strtod`` reads, more leniently than where they are to be stored: leading white
space, overflow to infinity and the empty word (zero) are taken, and a NUL byte ends the word.

Must not know: sorted sets.
"""

from __future__ import annotations

import re
from math import inf, nextafter
from typing import Any, Final

from kvstore.engine.keyspace import to_bytes
from kvstore.errors import ResponseError

NOT_A_SCORE_RANGE: Final = "ERR min or max is not a float"
NOT_A_LEX_RANGE: Final = "ERR min or max not valid string range item"

# What float() reads as strtod does: the common bounds.
_PLAIN: Final = b"0123456789.-"
_INFINITIES: Final = frozenset((b"-inf", b"+inf", b"inf"))
_STRTOD: Final = re.compile(
    rb"[ \t-\r]*(?:([+-]?inf(?:inity)?|[+-]?(?=\.?[0-9])[0-9]*(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)"
    rb"|([+-]?0x(?=\.?[0-9a-f])[0-9a-f]*(?:\.[0-9a-f]*)?(?:p[+-]?[0-9]+)?))",
    re.IGNORECASE,
)


def low_score(bound: Any) -> float | None:
    """The lowest score that a lower bound lets in; None when it lets in none."""
    word = bound if type(bound) is bytes else to_bytes(bound)
    if word[:1] == b"(":
        return _next(_strtod(word[1:]))
    return _strtod(word)


def past_high_score(bound: Any) -> float | None:
    """The lowest score that an upper bound keeps out; None when it keeps out none."""
    word = bound if type(bound) is bytes else to_bytes(bound)
    if word[:1] == b"(":
        return _strtod(word[1:])
    return _next(_strtod(word))


def _next(score: float) -> float | None:
    return None if score == inf else nextafter(score, inf)


def _strtod(raw: bytes) -> float:
    if not raw.translate(None, _PLAIN) or raw in _INFINITIES:
        try:
            return float(raw)
        except ValueError:
            pass
    if b"\0" in raw:
        raw = raw[: raw.index(0)]
    if not raw:
        return 0.0
    match = _STRTOD.fullmatch(raw)
    if match is None:
        raise ResponseError(NOT_A_SCORE_RANGE)
    if match[1]:
        return float(match[1])
    try:
        return float.fromhex(match[2].decode())
    except OverflowError:
        return -inf if match[2][0] == 0x2D else inf


def low_member(bound: Any) -> bytes | None:
    """The lowest member that a lower bound lets in; None when it lets in none."""
    return _member_bound(bound, b"(")


def past_high_member(bound: Any) -> bytes | None:
    """The lowest member that an upper bound keeps out; None when it keeps out none."""
    return _member_bound(bound, b"[")


def _member_bound(bound: Any, after: bytes) -> bytes | None:
    """``after``: the mark of the bounds that lie behind their member."""
    word = bound if type(bound) is bytes else to_bytes(bound)
    mark = word[:1]
    if mark == b"(" or mark == b"[":
        return word[1:] + b"\0" if mark == after else word[1:]
    if word == b"-" or word[:2] == b"-\0":
        return b""
    if word == b"+" or word[:2] == b"+\0":
        return None
    raise ResponseError(NOT_A_LEX_RANGE)
