"""What parameters come to: several keys in one of redis-py's, mappings, counts.

Must not know: values, databases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvstore.engine.keyspace import to_bytes
from kvstore.errors import SYNTAX, ResponseError, err
from kvstore.numbers import INT64_MAX, INT64_MIN, as_int

# Elements that a scan looks at when nobody says otherwise.
_SCAN_COUNT = 10


def words_of(first: Any, more: Iterable[Any] = ()) -> list[bytes]:
    """The keys, fields or members of a parameter that takes one of them or a collection; and more."""
    if isinstance(first, (bytes, str, bytearray, memoryview)) or not hasattr(first, "__iter__"):
        words = [to_bytes(first)]
    else:
        words = [word if type(word) is bytes else to_bytes(word) for word in first]
    words.extend([to_bytes(word) for word in more])
    return words


def pairs_of(mapping: Mapping[Any, Any]) -> list[bytes]:
    """A mapping as flat words."""
    return [to_bytes(word) for pair in mapping.items() for word in pair]


def symmetric(number: Any) -> int:
    """An integer whose negation is one too. Raises ResponseError."""
    found = as_int(number)
    if found == INT64_MIN:
        raise err(f"value is out of range, value must between {-INT64_MAX} and {INT64_MAX}")
    return found


def scan_count(count: Any) -> int:
    """The COUNT of a scan. Raises ResponseError."""
    number = _SCAN_COUNT if count is None else as_int(count)
    if number < 1:
        raise ResponseError(SYNTAX)
    return number
