"""What steers the files of a store: the directives of the same names, as Python has them.

Must not know: where they come from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from kvstore.engine.types import Target


@dataclass(slots=True)
class Settings:
    """What the directives of the same names say; they may change at any time."""

    dir: str = "."
    dbfilename: str = "dump.rdb"
    rdbcompression: bool = True
    rdbchecksum: bool = True
    rdb_target: Target = Target.PORTABLE
    save: tuple[tuple[int, int], ...] = ()  # (seconds, changes)
    stop_writes_on_bgsave_error: bool = True
    appendonly: bool = False
    appendfilename: str = "appendonly.aof"
    appenddirname: str = "appendonlydir"
    appendfsync: str = "everysec"
    no_appendfsync_on_rewrite: bool = False
    auto_aof_rewrite_percentage: int = 100
    auto_aof_rewrite_min_size: int = 64 << 20
    aof_load_truncated: bool = True
    aof_use_rdb_preamble: bool = True
    aof_timestamp_enabled: bool = False
    version: str = "7.4.0"  # as AUX fields name it

    @property
    def rdb_path(self) -> str:
        return os.path.join(self.dir, self.dbfilename)

    @property
    def log_dir(self) -> str:
        return os.path.join(self.dir, self.appenddirname)

    @property
    def single_log_path(self) -> str:
        """Where logs of versions before 7 are: one file, beside the snapshot."""
        return os.path.join(self.dir, self.appendfilename)

    def wants_save(self, changes: int, passed_ms: int) -> bool:
        """Whether a save point is reached: so many changes, so long after the last snapshot."""
        return any(changes >= least and passed_ms > seconds * 1000 for seconds, least in self.save)

    def wants_rewrite(self, size: int, base_size: int) -> bool:
        """Whether the log, which had ``base_size`` after its last rewrite, has grown enough for another."""
        percentage = self.auto_aof_rewrite_percentage
        if not percentage or size <= self.auto_aof_rewrite_min_size:
            return False
        base = base_size or 1
        return (size - base) * 100 // base >= percentage
