"""One increment of a log: a file that grows by whole flushes, and what is known of its being on the disk.

Invariants
- ``size`` is where the last whole flush ended. What lies behind it, after a write that failed, is cut off
  before anything else is written; ``torn`` while that has not worked.
- ``lost`` is set by the first sync that fails and never cleared: the kernel may have dropped what it could
  not write and call the next sync a success, so nothing that such a file holds is known to be there.
- A sync runs under ``_lock``, from whatever thread, so that whoever syncs next hears of its failure.

Must not know: what is written, and when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kvstore.errors import PersistenceError
from kvstore.persist.fs import Data, File, failed, write_all


class Increment:
    """The open file of an increment."""

    __slots__ = ("_closed", "_lock", "end", "file", "lost", "name", "size", "start", "synced", "torn")

    def __init__(self, name: str, file: File, size: int, start: int):
        """``start``: how many bytes of the stream were given to the log before this file began."""
        self.name = name
        self.file = file
        self.size = size
        self.start = start
        self.end = start  # position in the stream up to which it was written
        self.synced = start  # and up to which that is on the disk
        self.torn = False
        self.lost: str | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def doubt(self) -> str | None:
        """Why what was written cannot be relied on; None when it can."""
        if self.torn:
            return f"cannot cut {self.file.path} back to its last whole command"
        return self.lost

    def write(self, data: Data) -> None:
        """Append a whole flush, or nothing. Raises PersistenceError."""
        file = self.file
        if self.torn:
            self._cut()
        try:
            write_all(file, data)
        except OSError as error:
            self.torn = True
            try:
                self._cut()
            except PersistenceError:
                pass  # the next write tries again; until then there is doubt
            raise failed("write", file.path, error) from error
        self.size += len(data)
        self.end += len(data)

    def _cut(self) -> None:
        try:
            self.file.truncate(self.size)
        except OSError as error:
            raise failed("cut back", self.file.path, error) from error
        self.torn = False

    def sync(self) -> None:
        """Have all that was written on the disk. From any thread. Raises PersistenceError."""
        with self._lock:
            end = self.end
            if self.lost is None and not self._closed:  # by the owner, who knew what of it was synced
                try:
                    self.file.sync()
                except OSError as error:
                    self.lost = str(failed("sync", self.file.path, error))
            if self.lost is not None:
                raise PersistenceError(self.lost)
            if not self._closed:
                self.synced = end

    def close(self) -> None:
        """Close the file, once no sync uses it."""
        with self._lock:
            self._closed = True
            self.file.close()


class SecondSync:
    """Syncs within a second of a write, for a store that has no loop: in a thread of its own, which touches
    nothing but the file and its counters."""

    def __init__(self, current: Callable[[], Increment | None]):
        self._current = current
        self._written = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def written(self) -> None:
        """Something was: sync within a second. Cheap."""
        if not self._written.is_set():
            self._written.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kvstore-sync", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            self._written.wait()
            # Most of the second is for more to come; the rest for the thread to wake up.
            if self._closing.wait(0.9):
                return
            self._written.clear()
            increment = self._current()
            if increment is not None and increment.lost is None:
                try:
                    increment.sync()
                except (PersistenceError, ValueError):
                    pass  # ``lost`` says so to the owner, who asks before the next change

    def close(self) -> None:
        """End the thread. May be called twice."""
        thread, self._thread = self._thread, None
        self._closing.set()
        self._written.set()
        if thread is not None:
            thread.join()
