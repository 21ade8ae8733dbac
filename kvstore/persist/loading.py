"""Filling an empty store from its files: the log where there is one, else the snapshot.

Must not know: when files are written.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.persist.figures import LoadFigures
from kvstore.persist.fs import FileSystem, read_file
from kvstore.persist.manifest import manifest_name
from kvstore.persist.rdb_load import load_rdb, merge_rdb
from kvstore.persist.replay import load_log
from kvstore.persist.settings import Settings

log = logging.getLogger("kvstore")


class Loader:
    """Reads the files of one store. What cannot be read is left as it is.

    Its methods raise PersistenceError or FormatError, whose texts name file and offset.
    """

    def __init__(self, ctx: Context, settings: Settings, fs: FileSystem, figures: LoadFigures):
        self.ctx = ctx
        self.settings = settings
        self.fs = fs
        self.figures = figures

    def load(self) -> Iterator[int]:
        """Read what there is; yields bytes done from time to time."""
        figures, settings = self.figures, self.settings
        figures.begun_ms, figures.done_bytes, figures.active = self.ctx.clock.now_ms(), 0, True
        try:
            if settings.appendonly and self.has_log():
                yield from self._read_log()
            elif self.fs.exists(settings.rdb_path):
                yield from self._read_snapshot()
        finally:
            figures.active = False

    def load_snapshot(self) -> None:
        """Read the snapshot, in one go."""
        for _ in self._read_snapshot():
            pass

    def load_log(self) -> None:
        """Read the log, in one go."""
        for _ in self._read_log():
            pass

    def try_snapshot(self) -> None:
        """Read the snapshot as ``load_snapshot`` does, into a store that is thrown away."""
        self._elsewhere().load_snapshot()

    def try_log(self) -> None:
        """The same, of the log."""
        self._elsewhere().load_log()

    def _elsewhere(self) -> Loader:
        ctx = self.ctx
        scratch = Context(Database, databases=ctx.count, clock=ctx.clock)
        scratch.limits = ctx.limits
        return Loader(scratch, self.settings, self.fs, LoadFigures())

    def merge_snapshot(self, *, replace: bool) -> None:
        """Read the snapshot into a store that is not empty; its keys replace those that are there, or are
        refused."""
        path = self.settings.rdb_path
        merge_rdb(self.ctx, read_file(self.fs, path), path=path, replace=replace)

    def has_log(self) -> bool:
        """Whether there is a log, or an old one of a single file."""
        settings, exists = self.settings, self.fs.exists
        manifest = os.path.join(settings.log_dir, manifest_name(settings.appendfilename))
        return exists(manifest) or exists(settings.single_log_path)

    def _read_log(self) -> Iterator[int]:
        settings, figures = self.settings, self.figures
        started = time.perf_counter()
        figures.total_bytes = self._log_size()
        yield from self._counted(
            load_log(
                self.ctx,
                self.fs,
                settings.log_dir,
                settings.appendfilename,
                single=settings.single_log_path,
                load_truncated=settings.aof_load_truncated,
            )
        )
        figures.keys, figures.expired = sum(len(db._data) for db in self.ctx.databases.values()), 0
        log.info("DB loaded from append only file: %.3f seconds", time.perf_counter() - started)

    def _log_size(self) -> int:
        """About how many bytes there are to read."""
        directory = self.settings.log_dir
        paths = [os.path.join(directory, name) for name in self.fs.listdir(directory)]
        return sum(self.fs.size(path) for path in paths if path.endswith((".rdb", ".aof")))

    def _read_snapshot(self) -> Iterator[int]:
        path, figures = self.settings.rdb_path, self.figures
        started = time.perf_counter()
        content = read_file(self.fs, path)
        figures.total_bytes = len(content)
        found = yield from self._counted(load_rdb(self.ctx, content, path=path, now_ms=self.ctx.now()))
        figures.keys, figures.expired = found.keys, found.expired
        log.info("DB loaded from disk: %.3f seconds", time.perf_counter() - started)

    def _counted(self, steps: Iterator[int]) -> Any:
        """The steps, counted for INFO; what their generator returns."""
        while True:
            try:
                done = next(steps)
            except StopIteration as end:
                return end.value
            self.figures.done_bytes = done
            yield done
