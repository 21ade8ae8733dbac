"""Refuses changes of a store whose log cannot be written, before they are made.

A guard is a tap of every database, around the one that is there already (a snapshot's).

Must not know: files.
"""

from __future__ import annotations

from collections.abc import Callable

from kvstore.engine.context import Context
from kvstore.engine.keyspace import Tap
from kvstore.engine.types import Value


class Guard:
    """Asks ``allow`` before each change, which raises where there must be none."""

    __slots__ = ("_ctx", "allow", "inner")

    def __init__(self, ctx: Context, allow: Callable[[], None], inner: Tap | None):
        self._ctx = ctx
        self.allow = allow
        self.inner = inner

    def __call__(self, key: bytes) -> None:
        self.allow()
        if self.inner is not None:
            self.inner(key)

    def cleared(self, data: dict[bytes, Value], expires: dict[bytes, int]) -> None:
        try:
            self.allow()
        except BaseException:
            # The database has let go of its tap, and still has its data.
            for db in self._ctx.databases.values():
                if db._data is data:
                    db._before_change = self
            raise
        if self.inner is not None:
            self.inner.cleared(data, expires)


def guard_databases(ctx: Context, allow: Callable[[], None]) -> None:
    """Have ``allow`` asked before each change of each database. May be called again."""
    for db in ctx.databases.values():
        if not isinstance(db._before_change, Guard):
            db._before_change = Guard(ctx, allow, db._before_change)
    ctx.new_tap = Guard(ctx, allow, None)


def unguard_databases(ctx: Context) -> None:
    """Let the taps be what they were."""
    for db in ctx.databases.values():
        if isinstance(db._before_change, Guard):
            db._before_change = db._before_change.inner
    ctx.new_tap = None


def drop_inner_taps(ctx: Context) -> None:
    """Once no snapshot is under way: leave no tap but guards.

    A snapshot takes its taps away as it ends, but not those that a guard has around it, or has just put back.
    """
    for db in ctx.databases.values():
        if isinstance(db._before_change, Guard):
            db._before_change.inner = None
        else:
            db._before_change = None
