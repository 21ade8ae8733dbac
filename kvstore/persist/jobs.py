"""The job that walks the data: a snapshot, or a rewrite of the log; one at a time.

Invariant: a rewrite is under way from ``prepare``, which comes before its walk, to its end.

Must not know: when jobs are due, what becomes of the files that they write.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from kvstore.engine.context import Context
from kvstore.persist.aof import AppendLog
from kvstore.persist.figures import Figures, JobFigures
from kvstore.persist.fs import FileSystem, failed
from kvstore.persist.guard import drop_inner_taps, unguard_databases
from kvstore.persist.saving import SaveJob
from kvstore.persist.worker import InlineWorker, Worker
from kvstore.persist.writers import MakeWriter

# How long a job walks in one turn, about: what each command that comes meanwhile is delayed by it. A turn costs some
# 20 us besides, so shorter ones would make a job longer.
SLICE_NS: Final = 250_000


class Jobs:
    """What is under way for the files of one store."""

    def __init__(self, ctx: Context, fs: FileSystem, worker: Worker, figures: Figures):
        self._ctx = ctx
        self._fs = fs
        self._worker = worker
        self._figures = figures
        self._job: SaveJob | None = None
        self.rewritten: AppendLog | None = None  # whose base is being written

    # -- what is under way ---------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        return self._job is not None or self.rewritten is not None

    @property
    def is_snapshot(self) -> bool:
        return self._job is not None and self.rewritten is None

    @property
    def walks(self) -> bool:
        """Whether the data is being walked, so that ``turn`` has something to do from time to time."""
        return self._job is not None

    @property
    def busy(self) -> bool:
        """Whether ``turn`` has something to do at once."""
        return self._job is not None and self._job.ready

    # -- beginning and end ---------------------------------------------------------------------------

    def prepare(self, written: AppendLog) -> None:
        """A rewrite of this log is under way; its walk begins later."""
        self.rewritten = written

    def begin(
        self,
        directory: str,
        name: str,
        make: MakeWriter,
        done: Callable[[str, BaseException | None], None],
        *,
        rewritten: AppendLog | None = None,
    ) -> None:
        """Begin to walk, between units. ``done`` is told the name, and what went wrong or None.
        ``rewritten``: the log whose base is written; else it is a snapshot."""
        # A snapshot and a guard cannot both be asked. The next write that fails brings the guard back.
        unguard_databases(self._ctx)

        def ended(error: BaseException | None) -> None:
            done(name, error)

        job = SaveJob(self._ctx, self._fs, self._worker, directory, name, make, done=ended)
        self._job, self.rewritten = job, rewritten
        self._kind().begin(self._ctx.now())
        self._figures.job_keys, self._figures.job_keys_done = job.snapshot.total, 0

    def end(self, error: BaseException | None) -> None:
        """The job has ended; or the rewrite, before it began to walk."""
        self._kind().end(self._ctx.now(), error is None)
        self._job = self.rewritten = None
        drop_inner_taps(self._ctx)

    def cancel(self) -> None:
        """Stop what is under way; nothing is left of it."""
        if self._job is not None:
            self._job.cancel()
            self.end(None)
        self.rewritten = None

    def _kind(self) -> JobFigures:
        return self._figures.save if self.rewritten is None else self._figures.rewrite

    # -- the walk ------------------------------------------------------------------------------------

    def turn(self) -> None:
        """A slice of the job, and what the worker has ended."""
        self._worker.poll()
        job = self._job
        if job is not None:
            job.step(SLICE_NS)
            self._figures.job_keys_done = job.snapshot.written

    def finish(self) -> None:
        """Let what is under way come to its end, and whatever the worker has to do."""
        while self.any:
            if self.busy:
                self.turn()
            else:
                self._worker.drain()
        self._worker.drain()

    def write_now(self, directory: str, name: str, make: MakeWriter) -> None:
        """Write all data to a file, at once, whatever is under way. Raises PersistenceError."""
        taps = [(db, db._before_change) for db in self._ctx.databases.values()]
        for db, _ in taps:
            db._before_change = None  # of a job under way, which sees no change meanwhile
        try:
            SaveJob(self._ctx, self._fs, InlineWorker(), directory, name, make, done=_ignore).run()
        except OSError as error:
            raise failed("write", os.path.join(directory, name), error) from error
        finally:
            for db, tap in taps:
                db._before_change = tap


def _ignore(error: BaseException | None) -> None:
    """For a job that raises its error itself."""
