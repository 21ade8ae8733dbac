"""The disk of a fake server: there is none, but clients may ask for snapshots and for a log, and it may be full.

A snapshot is done as soon as it is asked for. What a real server says and counts then, it says and counts: a SAVE
that fails is an error, a BGSAVE that fails shows in INFO and, where there are save points and
``stop-writes-on-bgsave-error`` is on, has writes refused until one succeeds.

Must not know: client libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kvstore.commands.info import fields_without_files
from kvstore.errors import MISCONF, ResponseError, err

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub


class FakeDisk:
    """What SAVE, BGSAVE and the like go to. ``full``: whether they fail, which a test may say at any time."""

    def __init__(self, hub: Hub):
        self.full = False
        self._hub = hub
        self._saved_ms = hub.started_ms
        self._saved_changes = 0
        self._saves = self._rewrites = 0
        self._bgsave_ok = self._rewrite_ok = True
        self._bgsaved = False
        hub.persistence = self
        for name in ("save", "stop-writes-on-bgsave-error"):
            hub.config.on_change(name, self._tell_refusal)

    def _changes(self) -> int:
        return sum(db.dirty for db in self._hub.ctx.databases.values())

    def _write(self) -> bool:
        self._saves += 1
        if not self.full:
            self._saved_ms, self._saved_changes = self._hub.ctx.now(), self._changes()
        return not self.full

    def _tell_refusal(self) -> None:
        config = self._hub.config
        refuses = not self._bgsave_ok and config["save"] and config["stop-writes-on-bgsave-error"]
        text = MISCONF if refuses else None
        if text != self._hub.refusal:
            self._hub.set_refusal(text)

    def save(self) -> None:
        """SAVE. Raises ResponseError with the bare code, as a server does, when the disk is full."""
        if not self._write():
            raise ResponseError("ERR ")
        self._bgsave_ok = True
        self._tell_refusal()

    def start_save(self, schedule: bool = False) -> str:
        """BGSAVE, which is over at once; that it failed is not told to who asks."""
        self._bgsave_ok, self._bgsaved = self._write(), True
        self._tell_refusal()
        return f"Background saving {self._begun()}"

    def _begun(self) -> str:
        """What a server says of a job: one asked for in a transaction begins after it."""
        return "scheduled" if self._hub.ctx.units else "started"

    def start_rewrite(self) -> str:
        """BGREWRITEAOF, over at once. Raises ResponseError when the disk is full."""
        self._rewrite_ok = not self.full
        self._rewrites += self._rewrite_ok
        if self.full and not self._hub.ctx.units:
            raise err(
                "Can't execute an AOF background rewriting. Please check the server logs for more information."
            )
        return f"Background append only file rewriting {self._begun()}"

    def last_save_ms(self) -> int:
        """When the last snapshot was written; the start counts."""
        return self._saved_ms

    def fields(self) -> Iterator[tuple[str, Any]]:
        """INFO persistence, in its order."""
        known = {
            "rdb_changes_since_last_save": max(0, self._changes() - self._saved_changes),
            "rdb_last_save_time": self._saved_ms // 1000,
            "rdb_last_bgsave_status": "ok" if self._bgsave_ok else "err",
            "rdb_last_bgsave_time_sec": 0 if self._bgsaved else -1,
            "rdb_saves": self._saves,
            "aof_enabled": int(self.aof_enabled),
            "aof_last_rewrite_time_sec": 0 if self._rewrites else -1,
            "aof_last_bgrewrite_status": "ok" if self._rewrite_ok else "err",
            "aof_rewrites": self._rewrites,
        }
        for name, value in fields_without_files(self._hub):
            yield name, known.get(name, value)

    def reload(self, *, save: bool, flush: bool, merge: bool) -> None:
        """DEBUG RELOAD: what was saved is what is there. Raises ResponseError when it cannot be saved."""
        if save:
            self.save()

    def load_log(self) -> None:
        """DEBUG LOADAOF. Raises ResponseError without a log."""
        if not self.aof_enabled:
            raise err("Error trying to load the AOF files, check server logs.")

    def flushed_all(self) -> None:
        """FLUSHALL writes a snapshot where there are save points, and does not tell whether it could."""
        if self._hub.config["save"]:
            self._write()

    @property
    def aof_enabled(self) -> bool:
        """Whether the configuration asks for a log."""
        return bool(self._hub.config["appendonly"])

    appended = synced = 0  # bytes of a log: all of them are on the disk
