"""DUMP and RESTORE: values as bytes that other stores and servers take.

Must not know: argv, replies, sessions, what a value is made of.
"""

from __future__ import annotations

from typing import Any, Final

from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.types.payload import dump_payload, is_payload, load_payload
from kvstore.errors import FormatError, ResponseError, err
from kvstore.numbers import INT64_MAX, as_int

_BUSY: Final = "BUSYKEY Target key name already exists."
_MAX_FREQUENCY: Final = 255


class Serial(Keyspace):
    """Values as payloads."""

    __slots__ = ()

    def dump(self, name: KeyT) -> bytes | None:
        """The value of the key as ``restore`` takes it, here and on real servers; None when there is no key.

        What it gives is in RDB's version 9, which Redis from 5 on and Valkey take; a hash whose fields have
        deadlines is for Redis from 7.4 on. The key's own deadline is not part of it. O(n).
        """
        value = self._read(to_bytes(name))
        return None if value is None else dump_payload(value)

    def _parcel(self, key: bytes) -> tuple[bytes, int] | None:
        """What ``dump`` gives, and the milliseconds to live, 0 for ever; this is no use of the key. O(n)."""
        value = self._peek(key)
        if value is None:
            return None
        deadline = self._expires.get(key)
        return dump_payload(value), 0 if deadline is None else max(deadline - self.ctx.now(), 1)

    def restore(
        self,
        name: KeyT,
        ttl: Any,
        value: EncodableT,
        replace: bool = False,
        absttl: bool = False,
        idletime: Any = None,
        frequency: Any = None,
    ) -> bool:
        """Make the key from what ``dump`` gave, here or on a real server. O(n). True.

        ``ttl``: milliseconds for which it lives, 0 for ever; with ``absttl`` the Unix time in milliseconds at
        which it expires. ``replace``: over what the key holds. ``idletime`` (seconds), ``frequency`` (0 to
        255): how it was used before, where the eviction policy records such a thing.
        Raises ResponseError for an existing key without ``replace``, for a bad time or number, and for a
        payload that is damaged, of a version that is too new, or no value.
        """
        key = to_bytes(name)
        idle, counter = check_use(idletime, frequency)
        if not replace and self._peek(key) is not None:
            raise ResponseError(_BUSY)
        lives = as_int(ttl)
        if lives < 0:
            raise err("Invalid TTL value, must be >= 0")
        payload = to_bytes(value)
        if not is_payload(payload):
            raise err("DUMP payload version or checksum are wrong")
        try:
            made = load_payload(payload, self.ctx.limits)
        except FormatError:
            raise err("Bad data format") from None
        now = self.ctx.now()
        deadline = None if not lives else lives if absttl else min(now + lives, INT64_MAX)
        existed = self._write(key) is not None
        if deadline is not None and deadline <= now:
            if existed:
                self._delete(key, "del")
            return True
        if existed:
            self._remove(key)
        self._place(key, made, deadline)
        self.ctx.evictor.set_use(self, key, idle, counter)
        self.dirty += 1
        if self._live:
            words = (b"RESTORE", key, b"%d" % (deadline or 0), payload, b"REPLACE", b"ABSTTL")
            self.commit(words, ("restore", key))
        return True


def check_use(idletime: Any, frequency: Any) -> tuple[int | None, int | None]:
    """IDLETIME and FREQ as numbers. Raises ResponseError."""
    idle = None if idletime is None else as_int(idletime)
    if idle is not None and idle < 0:
        raise err("Invalid IDLETIME value, must be >= 0")
    counter = None if frequency is None else as_int(frequency)
    if counter is not None and not 0 <= counter <= _MAX_FREQUENCY:
        raise err("Invalid FREQ value, must be >= 0 and <= 255")
    return idle, counter
