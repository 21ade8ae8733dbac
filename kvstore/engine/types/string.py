"""Strings: raw ``bytes``, no container.

The server's encoding of a string tells how it was made, not only what it is: APPEND leaves ``raw`` what
SET would have made ``int``. Bytes have no place for that, so the last results of such commands are
remembered by identity, for as long as nobody sets the key anew; after some more of them they are
reported by content.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from kvstore.engine.codec import PIECE_BYTES, Reader, compact_string_of, length_of, string_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.types import Target, ValueType, register
from kvstore.numbers import parse_int

# The longest string that Redis embeds in its object header, in bytes.
EMBSTR_MAX = 44
# Results remembered with an encoding that their content does not have.
_MOST_REMEMBERED = 1024
# By id() the value, which is thus kept from being reused for another, and its encoding.
_remembered: OrderedDict[int, tuple[bytes, str]] = OrderedDict()


def remember_encoding(value: bytes, encoding: str) -> None:
    """Report the encoding of this very object from now on."""
    if 1 < len(value) <= EMBSTR_MAX:  # longer ones are raw; shorter ones are one object each
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.popitem(last=False)
        _remembered[id(value)] = (value, encoding)


def _encoding(value: bytes, limits: Limits) -> str:
    remembered = _remembered.get(id(value))
    if remembered is not None:
        return remembered[1]
    if len(value) <= 20 and parse_int(value) is not None:
        return "int"
    return "embstr" if len(value) <= EMBSTR_MAX else "raw"


def _rewrite(key: bytes, value: bytes) -> Iterator[Effect]:
    yield (b"SET", key, value)


def _dump(value: bytes, target: Target, compress: bool = False) -> Iterable[bytes]:
    if compress:
        body = compact_string_of(value)
        return (body,) if len(body) <= PIECE_BYTES else _pieces(body)
    if len(value) <= PIECE_BYTES:
        return (string_of(value),)
    return _pieces(value, length_of(len(value)))


def _pieces(body: bytes, head: bytes = b"") -> Iterator[bytes]:
    if head:
        yield head
    for at in range(0, len(body), PIECE_BYTES):
        yield body[at : at + PIECE_BYTES]


def _load(reader: Reader, limits: Limits) -> bytes:
    return reader.string()


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
        rdb_type=lambda value, target: 0,
        dump=_dump,
        loaders={0: _load},
        may_be_empty=True,
    ),
)
