"""Strings: the typed methods."""

from __future__ import annotations

from typing import Any

from kvstore.engine.keyspace import EncodableT, KeyT, Keyspace, to_bytes
from kvstore.errors import OVERFLOW, ResponseError, WrongTypeError, err
from kvstore.numbers import as_int


class Strings(Keyspace):
    """Strings."""

    __slots__ = ()

    def get(self, name: KeyT) -> bytes | None:
        """The value of the key, or None. O(1).

        Raises WrongTypeError when the key holds another type.
        """
        if type(name) is not bytes:
            name = to_bytes(name)
        value = self._read(name)
        if value is None or type(value) is bytes:
            return value
        raise WrongTypeError

    def append(self, key: KeyT, value: EncodableT) -> int:
        """Append to the value, made if missing; the new length. O(size of the new value).

        Raises WrongTypeError; ResponseError when the result would exceed ``proto-max-bulk-len``.
        """
        key, tail = to_bytes(key), to_bytes(value)
        old = self._write_as(key, bytes)
        if old is None:
            self._create(key, tail)
            length = len(tail)
        else:
            length = len(old) + len(tail)
            if length > self.ctx.limits.proto_max_bulk_len:
                raise err("string exceeds maximum allowed size (proto-max-bulk-len)")
            self._data[key] = old + tail
        self.dirty += 1
        if self.live:
            self.commit((b"APPEND", key, tail), ("append", key))
        return length

    def incrby(self, name: KeyT, amount: Any = 1) -> int:
        """Add an integer to the key's integer (a missing key counts as 0). O(1).

        Raises ResponseError when a number is no 64-bit integer or the sum overflows, WrongTypeError.
        """
        key = to_bytes(name)
        step = as_int(amount)
        old = self._write_as(key, bytes)
        total = (0 if old is None else as_int(old)) + step
        if not -(1 << 63) <= total < 1 << 63:
            raise ResponseError(OVERFLOW)
        if old is None:
            self._create(key, b"%d" % total)
        else:
            self._data[key] = b"%d" % total
        self.dirty += 1
        if self.live:
            self.commit((b"INCRBY", key, b"%d" % step), ("incrby", key))
        return total

    incr = incrby
