"""IDs of stream entries as words: ``1526919030474-55``, and the short forms that commands take.

Numbers are read as a server's C library reads them: zeros and white space may stand before, a plus too, and
what comes behind a zero byte is not looked at.

Must not know: streams, keys.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kvstore.engine.ids import FIRST_ID, ID, LAST_ID
from kvstore.engine.keyspace import to_bytes
from kvstore.errors import ResponseError, err

INVALID_ID: Final = "ERR Invalid stream ID specified as stream command argument"

_64_BITS: Final = (1 << 64) - 1
_LONGEST: Final = 127
_UNSIGNED: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)([0-9]{1,127})")
_CANONICAL: Final = re.compile(rb"-[1-9][0-9]*")


def format_id(id: ID) -> bytes:
    return b"%d-%d" % id


def next_id(id: ID) -> ID:
    """The one behind, which comes to the first behind the last."""
    time, sequence = id
    if sequence < _64_BITS:
        return time, sequence + 1
    return (time + 1, 0) if time < _64_BITS else FIRST_ID


def parse_id(word: Any, missing: int = 0) -> ID:
    """An ID, of which ``-`` is the first and ``+`` the last; ``missing`` stands for a sequence number that does.

    Raises ResponseError.
    """
    raw = to_bytes(word)
    if raw == b"-":
        return FIRST_ID
    if raw == b"+":
        return LAST_ID
    return parse_strict_id(raw, missing)


def parse_strict_id(word: Any, missing: int = 0) -> ID:
    """As ``parse_id``, but neither ``-`` nor ``+``."""
    raw = to_bytes(word)
    time, dash, sequence = raw.partition(b"-")
    if dash and time.isdigit() and sequence.isdigit() and len(raw) <= 20:
        return int(time), int(sequence)
    if len(raw) > _LONGEST:
        raise ResponseError(INVALID_ID)
    time, dash, sequence = raw.partition(b"\0")[0].partition(b"-")
    return _number(time), (_number(sequence) if dash else missing)


def parse_new_id(word: bytes) -> tuple[int, int | None]:
    """The ID of an entry to be added; None for a sequence number that is to be chosen: ``5-*``."""
    time, dash, sequence = word.partition(b"-")
    if dash and sequence.partition(b"\0")[0] == b"*" and len(word) <= _LONGEST and b"\0" not in time:
        return _number(time), None
    return parse_strict_id(word)


def parse_start(word: Any) -> ID:
    """Where a range begins; behind ``(`` it begins with the next ID. Raises ResponseError."""
    raw = to_bytes(word)
    if raw[:1] != b"(" or len(raw) < 2:
        return parse_id(raw)
    id = parse_strict_id(raw[1:])
    if id == LAST_ID:
        raise err("invalid start ID for the interval")
    return next_id(id)


def parse_stop(word: Any) -> ID:
    """Where a range ends; behind ``(`` it ends with the ID before. Raises ResponseError."""
    raw = to_bytes(word)
    if raw[:1] != b"(" or len(raw) < 2:
        return parse_id(raw, _64_BITS)
    time, sequence = parse_strict_id(raw[1:], _64_BITS)
    if sequence:
        return time, sequence - 1
    if not time:
        raise err("invalid end ID for the interval")
    return time - 1, _64_BITS


def _number(word: bytes) -> int:
    match = _UNSIGNED.fullmatch(word)
    if match is None or _CANONICAL.fullmatch(word):
        raise ResponseError(INVALID_ID)
    number = int(match[2])
    if number > _64_BITS:
        raise ResponseError(INVALID_ID)
    return -number & _64_BITS if match[1] == b"-" else number
