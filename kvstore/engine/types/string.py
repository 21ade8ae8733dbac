"""Strings: raw ``bytes``, no container.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from kvstore.engine.context import Effect, Limits
from kvstore.engine.types import ValueType, register
from kvstore.numbers import parse_int

# The longest string that Redis embeds in its object header, in bytes.
EMBSTR_MAX = 44


def _encoding(value: bytes, limits: Limits) -> str:
    if len(value) <= 20 and parse_int(value) is not None:
        return "int"
    return "embstr" if len(value) <= EMBSTR_MAX else "raw"


def _rewrite(key: bytes, value: bytes) -> Iterator[Effect]:
    yield (b"SET", key, value)


register(
    bytes,
    ValueType(
        name="string",
        copy=lambda value: value,
        encoding=_encoding,
        memory=lambda value, samples: sys.getsizeof(value),
        rewrite=_rewrite,
        digest=lambda value: value,
        effort=lambda value: 1,
        check=lambda value: None,
    ),
)
