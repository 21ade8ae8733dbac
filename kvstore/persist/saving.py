"""A snapshot into a file, while the store goes on: what is written here, and what a worker does.

The snapshot's walker makes bytes in the owner's thread; the worker writes and syncs them, in order, into a
temporary file in the same directory, and at the end renames it.

Invariants
- The file appears under its name whole and synced, or not at all; the directory is synced before anybody
  is told. Whatever fails, the temporary file is taken away.
- Bytes that wait for the worker are a few MB: the walk waits for it. Commands whose old values are taken
  meanwhile may add to that, up to a limit at which they wait, too.
- After an error, or ``cancel()``, nobody asks before changes any more, and the file is not renamed.

Must not know: formats, when files are written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING, Final
from weakref import ref

from kvstore.engine.context import Context
from kvstore.engine.snapshot import Snapshot
from kvstore.persist.fs import File, FileSystem, write_all
from kvstore.persist.worker import Worker

if TYPE_CHECKING:
    from kvstore.persist.writers import MakeWriter

# Bytes that wait for the worker when the walk pauses, and when commands do.
_WALK_WAITS: Final = 4 << 20
_ALL_WAIT: Final = 64 << 20
# So much is written between two syncs: the last one then takes no longer than any other.
_SYNC_EVERY: Final = 4 << 20
# How long ``run`` walks before it looks whether something went wrong.
_RUN_NS: Final = 100_000_000

# Temporary files of one process have different names.
_numbers = count(1)


class SaveJob:
    """Writes all keys, as they are when this is made, to the file ``name`` in ``directory``.

    ``make``: makes the writer. ``done``: called in the owner's thread, once, with what went wrong or None.
    """

    def __init__(
        self,
        ctx: Context,
        fs: FileSystem,
        worker: Worker,
        directory: str,
        name: str,
        make: MakeWriter,
        *,
        done: Callable[[BaseException | None], None],
    ):
        self.name = name
        self.size = 0  # bytes given to the worker
        self.finished = False
        self.error: BaseException | None = None
        self._fs = fs
        self._worker = worker
        self._directory = directory
        self._temporary = os.path.join(directory, f"temp-{os.getpid()}-{next(_numbers)}.rdb")
        self._done = done
        self._ending = False  # the last job was given to the worker
        # The worker's own: the file, how much of it is not synced. ``_written``, too, only it changes.
        self._file: File | None = None
        self._unsynced = 0
        self._written = 0
        self._broken = False
        self._progress = Condition()
        self._cancelled = False
        # A method would make the job its own, and leave it with all that it has to the cycle collector.
        myself = ref(self)

        def take(data: bytes) -> None:
            job = myself()
            assert job is not None, "whoever has the writer has the job"
            job._take(data)

        self._writer = make(take)
        self.snapshot = Snapshot(ctx, self._writer)
        self._submit(self._create)
        self._writer.begin()

    # -- in the owner's thread ---------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether ``step`` has something to do now."""
        if self._ending:
            return False
        return self.error is not None or self.size - self._written <= _WALK_WAITS

    def step(self, nanos: int) -> None:
        """Walk for about that long, if the worker is not behind."""
        if not self.ready:
            return
        if self.error is not None:
            self.snapshot.cancel()
            self._end(self._take_away)
        elif self.snapshot.step(nanos):
            self._writer.end()
            self._end(self._finish)

    def run(self) -> None:
        """Walk to the end and wait for the file. Raises what went wrong."""
        while not self.finished:
            self.step(_RUN_NS)
            if not self.ready:
                self._worker.drain()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        """Stop; nothing is left of it, and nobody is told. The name has the old file or, if it was about to
        be renamed, already the new one; it does not change after this."""
        if self.finished:
            return
        self.snapshot.cancel()
        with self._progress:
            self._cancelled = self._broken = True
        self.finished = self._ending = True
        self._worker.submit(self._take_away, _ignore)

    def _take(self, data: bytes) -> None:
        """Bytes of the file, in order."""
        self.size += len(data)
        if self.size - self._written > _ALL_WAIT:
            with self._progress:
                self._progress.wait_for(lambda: self.size - self._written <= _ALL_WAIT)
        self._submit(lambda: self._write(data))

    def _submit(self, job: Callable[[], None]) -> None:
        self._worker.submit(job, self._job_done)

    def _job_done(self, error: BaseException | None) -> None:
        # Nothing else here: with some workers this is called in the middle of a step.
        if error is not None and self.error is None:
            self.error = error

    def _end(self, job: Callable[[], None]) -> None:
        self._ending = True
        self._worker.submit(job, self._ended)

    def _ended(self, error: BaseException | None) -> None:
        if self._cancelled:
            return
        self._job_done(error)
        if self.error is not None and self._file is not None:
            # The very end has failed, or what was written before it.
            self._worker.submit(self._take_away, self._ended)
            return
        self.finished = True
        self._done(self.error)

    # -- in the worker -----------------------------------------------------------------------------

    def _create(self) -> None:
        try:
            self._file = self._fs.create(self._temporary)
        except BaseException:
            self._broken = True
            raise

    def _write(self, data: bytes) -> None:
        try:
            if self._broken:
                return
            assert self._file is not None
            write_all(self._file, data)
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_EVERY:
                self._unsynced = 0
                self._file.sync()
        except BaseException:
            self._broken = True
            raise
        finally:
            with self._progress:
                self._written += len(data)
                self._progress.notify_all()

    def _finish(self) -> None:
        if self._broken:
            return
        file = self._file
        assert file is not None
        file.sync()
        file.close()
        with self._progress:
            if self._cancelled:
                return
            self._fs.rename(self._temporary, os.path.join(self._directory, self.name))
        self._fs.sync_dir(self._directory)
        self._file = None

    def _take_away(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            with contextlib.suppress(OSError):
                self._fs.unlink(self._temporary)


def _ignore(error: BaseException | None) -> None:
    """Nobody waits for it."""
