"""A fingerprint of data, the same that DEBUG DIGEST of Redis gives for the same data.

It does not depend on the order of keys, members and fields, only on that of a list's elements and a stream's
entries. Values are read through the commands that rebuild them, so that nothing here asks what they are made of;
of a stream, which commands may not rebuild, the entries count and its groups do not.

Must not know: other containers, sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha1
from typing import TYPE_CHECKING

from kvstore.engine.types import TYPES
from kvstore.engine.types.stream import Stream
from kvstore.numbers import format_shortest

if TYPE_CHECKING:
    from kvstore.engine.context import Context
    from kvstore.engine.keyspace import Keyspace

_NUMBERS = {"string": 0, "list": 1, "set": 2, "zset": 3, "hash": 4, "stream": 6}
_SIZE = 20


def _xor(digest: bytes, data: bytes) -> bytes:
    """The digest with the data's hash in it: order does not matter."""
    mixed = int.from_bytes(digest) ^ int.from_bytes(sha1(data, usedforsecurity=False).digest())
    return mixed.to_bytes(_SIZE)


def _mix(digest: bytes, data: bytes) -> bytes:
    """As ``_xor``, but order matters."""
    return sha1(_xor(digest, data), usedforsecurity=False).digest()


def _mixed(parts: Iterable[bytes], digest: bytes = bytes(_SIZE)) -> bytes:
    for part in parts:
        digest = _mix(digest, part)
    return digest


def _pairs(words: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    return zip(words[::2], words[1::2], strict=True)


def digest_value(db: Keyspace, key: bytes, digest: bytes = bytes(_SIZE)) -> bytes:
    """The fingerprint of an existing key's value and of whether it has a deadline. O(n) elements."""
    value = db._data[key]
    record = TYPES[type(value)]
    digest = _mix(digest, _NUMBERS.get(record.name, 0).to_bytes(4))
    commands: Iterable[tuple[bytes, ...]] = ()
    if type(value) is Stream:
        for (time, sequence), entry in value.entries.items():
            digest = _mixed(entry, _mix(digest, b"%d.%d" % (time, sequence)))
    else:
        commands = record.rewrite(key, value)
    for name, _, *words in commands:
        if name == b"SET":
            digest = _mix(digest, words[0])
        elif name == b"RPUSH":
            digest = _mixed(words, digest)
        elif name == b"SADD":
            for member in words:
                digest = _xor(digest, member)
        elif name == b"ZADD":
            for score, member in _pairs(tuple(words)):
                digest = _xor(digest, _mixed((member, format_shortest(float(score)))))
        elif name in (b"HSET", b"HMSET"):
            for pair in _pairs(tuple(words)):
                digest = _xor(digest, _mixed(pair))
    return _xor(digest, b"!!expire!!") if key in db._expires else digest


def digest_all(ctx: Context) -> bytes:
    """The fingerprint of all databases. O(n) elements."""
    total = bytes(_SIZE)
    for index, db in sorted(ctx.databases.items()):
        db._expire_all_due()
        if not db._data:
            continue
        total = _mix(total, index.to_bytes(4))
        for key in db._data:
            total = _xor(total, digest_value(db, key, _mixed((key,))))
    return total
