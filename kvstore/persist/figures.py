"""What is known of the files of a store, as INFO persistence reports it.

Must not know: how files are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class JobFigures:
    """How the saves of one kind (snapshots, rewrites of the log) have gone."""

    last_ok: bool = True
    last_seconds: int = -1  # how long the last one took, -1: there was none
    begun_ms: int = -1  # when the one under way began, -1: none is
    count: int = 0
    failures: int = 0  # in a row

    def begin(self, now_ms: int) -> None:
        self.begun_ms = now_ms

    def end(self, now_ms: int, ok: bool) -> None:
        self.last_seconds = (now_ms - self.begun_ms) // 1000
        self.begun_ms = -1
        self.last_ok = ok
        self.failures = 0 if ok else self.failures + 1

    def seconds(self, now_ms: int) -> int:
        """How long the one under way has been at it, -1 where none is."""
        return -1 if self.begun_ms < 0 else (now_ms - self.begun_ms) // 1000


@dataclass(slots=True)
class LoadFigures:
    """A load, under way or past."""

    active: bool = False
    begun_ms: int = 0
    total_bytes: int = 0
    done_bytes: int = 0
    keys: int = 0
    expired: int = 0

    def fields(self, now_ms: int) -> Iterator[tuple[str, Any]]:
        """Those that INFO shows while the load is under way."""
        share = self.done_bytes / self.total_bytes if self.total_bytes else 0.0
        passed = (now_ms - self.begun_ms) / 1000
        yield "loading_start_time", self.begun_ms // 1000
        yield "loading_total_bytes", self.total_bytes
        yield "loading_rss_used", 0
        yield "loading_loaded_bytes", self.done_bytes
        yield "loading_loaded_perc", f"{share * 100:.2f}"
        yield "loading_eta_seconds", round(passed / share - passed) if share else 1


@dataclass(slots=True)
class Figures:
    """All of them."""

    save: JobFigures = field(default_factory=JobFigures)
    rewrite: JobFigures = field(default_factory=JobFigures)
    load: LoadFigures = field(default_factory=LoadFigures)
    last_save_ms: int = 0
    job_keys: int = 0  # of the snapshot under way: at its start, and written so far
    job_keys_done: int = 0

    def snapshots(self, now_ms: int, changes: int) -> Iterator[tuple[str, Any]]:
        """The fields about loading and RDB files, in the order of INFO."""
        share = self.job_keys_done * 100 / self.job_keys if self.job_keys else 0.0
        yield "loading", int(self.load.active)
        yield "async_loading", 0
        yield "current_cow_peak", 0
        yield "current_cow_size", 0
        yield "current_cow_size_age", 0
        yield "current_fork_perc", f"{share:.2f}"
        yield "current_save_keys_processed", self.job_keys_done
        yield "current_save_keys_total", self.job_keys
        yield "rdb_changes_since_last_save", changes
        yield "rdb_bgsave_in_progress", int(self.save.begun_ms >= 0)
        yield "rdb_last_save_time", self.last_save_ms // 1000
        yield "rdb_last_bgsave_status", "ok" if self.save.last_ok else "err"
        yield "rdb_last_bgsave_time_sec", self.save.last_seconds
        yield "rdb_current_bgsave_time_sec", self.save.seconds(now_ms)
        yield "rdb_saves", self.save.count
        yield "rdb_last_cow_size", 0
        yield "rdb_last_load_keys_expired", self.load.expired
        yield "rdb_last_load_keys_loaded", self.load.keys

    def rewrites(self, now_ms: int) -> Iterator[tuple[str, Any]]:
        """The fields about rewrites of the log that come after ``aof_rewrite_scheduled``."""
        yield "aof_last_rewrite_time_sec", self.rewrite.last_seconds
        yield "aof_current_rewrite_time_sec", self.rewrite.seconds(now_ms)
        yield "aof_last_bgrewrite_status", "ok" if self.rewrite.last_ok else "err"
        yield "aof_rewrites", self.rewrite.count
        yield "aof_rewrites_consecutive_failures", self.rewrite.failures
