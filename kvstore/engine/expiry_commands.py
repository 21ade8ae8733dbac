"""Deadlines of keys: the typed methods.

A deadline is Unix time in milliseconds. One that has passed deletes the key at once.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from kvstore.engine import ttl
from kvstore.engine.keyspace import Keyspace, KeyT, to_bytes
from kvstore.engine.ttl import AbsExpiryT, ExpiryT
from kvstore.errors import err
from kvstore.numbers import INT64_MAX, INT64_MIN, as_int

NX, XX, GT, LT = 1, 2, 4, 8  # when a new deadline is taken
# What the time of a command means: its unit in milliseconds, and whether it counts from now.
_TIMES = {"expire": (1000, True), "pexpire": (1, True), "expireat": (1000, False), "pexpireat": (1, False)}


class Deadlines(Keyspace):
    """EXPIRE, TTL, PERSIST and their kin."""

    __slots__ = ()

    def expire(
        self,
        name: KeyT,
        time: ExpiryT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool:
        """Let the key expire in ``time`` seconds; whether it will. O(1).

        ``nx``: only if it has no deadline; ``xx``: only if it has one; ``gt``, ``lt``: only if the new one
        is later, earlier (no deadline counts as never). A time that is not in the future deletes the key.
        Raises ResponseError for a bad time or flags that exclude each other.
        """
        return self._expire_by("expire", to_bytes(name), ttl.seconds(time), _flags(nx, xx, gt, lt))

    def pexpire(
        self,
        name: KeyT,
        time: ExpiryT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool:
        """As ``expire``, in milliseconds."""
        return self._expire_by("pexpire", to_bytes(name), ttl.milliseconds(time), _flags(nx, xx, gt, lt))

    def expireat(
        self,
        name: KeyT,
        when: AbsExpiryT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool:
        """As ``expire``, at a Unix time in seconds."""
        return self._expire_by("expireat", to_bytes(name), ttl.unix_seconds(when), _flags(nx, xx, gt, lt))

    def pexpireat(
        self,
        name: KeyT,
        when: AbsExpiryT,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> bool:
        """As ``expire``, at a Unix time in milliseconds."""
        return self._expire_by(
            "pexpireat", to_bytes(name), ttl.unix_milliseconds(when), _flags(nx, xx, gt, lt)
        )

    def _expire_by(self, command: str, key: bytes, time: object, flags: int) -> bool:
        """The work of the four: ``command`` says what the time means."""
        if flags & NX and flags & (XX | GT | LT):
            raise err("NX and XX, GT or LT options at the same time are not compatible")
        if flags & GT and flags & LT:
            raise err("GT and LT options at the same time are not compatible")
        unit_ms, relative = _TIMES[command]
        now = self.ctx.now()
        deadline = as_int(time) * unit_ms
        if not INT64_MIN <= deadline <= INT64_MAX - (now if relative else 0):
            raise err(f"invalid expire time in '{command}' command")
        if relative:
            deadline += now
        if self._write(key) is None:
            return False
        if flags and not _wanted(flags, self._expires.get(key), deadline):
            return False
        if deadline <= now:
            self._delete(key, "del")
        else:
            self._set_deadline(key, deadline)
            self.dirty += 1
            if self._live:
                self.commit((b"PEXPIREAT", key, b"%d" % deadline), ("expire", key))
        return True

    def ttl(self, name: KeyT) -> int:
        """Seconds until the key expires, rounded; -1: it does not, -2: there is none. O(1)."""
        left = self._time_left(to_bytes(name))
        return (left + 500) // 1000 if left >= 0 else left

    def pttl(self, name: KeyT) -> int:
        """As ``ttl``, in milliseconds."""
        return self._time_left(to_bytes(name))

    def expiretime(self, key: KeyT) -> int:
        """The Unix time in seconds at which the key expires; -1: it does not, -2: there is none. O(1)."""
        deadline = self._deadline_of(to_bytes(key))
        return (deadline + 500) // 1000 if deadline >= 0 else deadline

    def pexpiretime(self, key: KeyT) -> int:
        """As ``expiretime``, in milliseconds."""
        return self._deadline_of(to_bytes(key))

    def _deadline_of(self, key: bytes) -> int:
        return -2 if self._look(key) is None else self._expires.get(key, -1)

    def _time_left(self, key: bytes) -> int:
        if self._look(key) is None:
            return -2
        deadline = self._expires.get(key)
        return -1 if deadline is None else max(0, deadline - self.ctx.now())

    def persist(self, name: KeyT) -> bool:
        """Take the key's deadline away; whether it had one. O(1)."""
        key = to_bytes(name)
        if self._write(key) is None or not self._clear_deadline(key):
            return False
        self.dirty += 1
        if self._live:
            self.commit((b"PERSIST", key), ("persist", key))
        return True


def _flags(nx: bool, xx: bool, gt: bool, lt: bool) -> int:
    return (NX if nx else 0) | (XX if xx else 0) | (GT if gt else 0) | (LT if lt else 0)


def _wanted(flags: int, now: int | None, deadline: int) -> bool:
    """Whether the flags let ``deadline`` take the place of the present one (None: never expires)."""
    if now is None:
        return not flags & (XX | GT)
    if flags & NX:
        return False
    return not (flags & GT and deadline <= now) and not (flags & LT and deadline >= now)
