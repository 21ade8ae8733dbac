"""Values as payloads: what DUMP gives and RESTORE takes.

The number of the RDB type, the body, the version of RDB (two bytes), and the checksum of all that (eight
bytes). There is no magic, so the version alone tells Redis's numbers of types from Valkey's.

Must not know: keys, commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvstore.engine.codec import Reader, crc64
from kvstore.engine.types import TYPES, Value, load
from kvstore.errors import FormatError

if TYPE_CHECKING:
    from kvstore.engine.context import Limits

_FOOTER_BYTES: Final = 10
# The newest versions that are read: of Redis, and of Valkey from where its numbers are its own.
_NEWEST: Final = 12
_VALKEY: Final = 80


def dump_payload(value: Value) -> bytes:
    """A value as a payload, of the oldest version that has all of it. O(n).

    That is what every server since Redis 5 takes; for a stream that counts more than its entries Redis from 7.0
    or 7.2 on and Valkey; for a hash whose fields have deadlines Redis from 7.4 on.
    """
    record = TYPES[type(value)]
    target = record.least(value)
    number = record.rdb_type(value, target)
    data = b"".join([bytes((number,)), *record.dump(value, target), target.version.to_bytes(2, "little")])
    return data + crc64(data).to_bytes(8, "little")


def is_payload(data: bytes) -> bool:
    """Whether these bytes are a payload of a version that is read, and whole. O(n)."""
    if len(data) < _FOOTER_BYTES:
        return False
    version = int.from_bytes(data[-10:-8], "little")
    known = version <= _NEWEST or version == _VALKEY
    return known and crc64(memoryview(data)[:-8]) == int.from_bytes(data[-8:], "little")


def load_payload(data: bytes, limits: Limits) -> Value:
    """The value of a payload that ``is_payload``. O(n). Raises FormatError for a body that is no value.

    Bytes between the body and the version are left alone, as real servers do.
    """
    end = len(data) - _FOOTER_BYTES
    if end < 1:
        raise FormatError("a payload without a type", 0)
    valkey = int.from_bytes(data[-10:-8], "little") >= _VALKEY
    return load(data[0], Reader(data, 1, end), limits, valkey)
