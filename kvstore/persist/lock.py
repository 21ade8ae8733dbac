"""A directory of files that belongs to one process, and in it to one store.

The owner holds a lock of the system on the file ``kvstore.lock`` in the directory, which has the owner's pid
inside, for people and for the error that the next one gets. The system gives the lock back when the owner
dies, however it dies, so there is no stale lock; the file stays, as taking it away could take it from under
somebody who has just opened it. Redis and Valkey neither read nor mind it.

A process that is forked from the owner has no part in the lock: it closes its copy at once.

Where the system has no such locks (no ``fcntl``, or a file system without them) there is no protection:
without ``fcntl`` the file is written all the same and nobody is refused; a file system that refuses to lock
is an error that says so.

Must not know: what else is in the directory.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress

from kvstore.errors import PersistenceError
from kvstore.persist.fs import failed

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

NAME = "kvstore.lock"
# More than any pid has digits.
_PID_BYTES = 32

_held: weakref.WeakSet[DirectoryLock]


def take_lock(fd: int, path: str, taken: Callable[[], str]) -> None:
    """Lock an open file for this process. Raises PersistenceError, in the words of ``taken`` where another has it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PersistenceError(taken()) from None
    except OSError as error:
        raise failed("lock", path, error) from None


class DirectoryLock:
    """Held from its construction to ``release()``, or to the death of the process."""

    def __init__(self, directory: str):
        """Take the lock of a directory that exists. O(1).

        Raises PersistenceError, which names the directory and the owner's pid, when somebody has it: another
        process, or this one by another object.
        """
        self.directory = directory
        path = os.path.join(directory, NAME)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise failed("open the lock", path, error) from None
        try:
            take_lock(self._fd, path, lambda: f"{self.directory} is in use by {self._owner()}")
            # The pid is for people: a disk that is too full for it is no reason not to open the data.
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(self._fd)
            raise
        _held.add(self)

    def _owner(self) -> str:
        pid = os.pread(self._fd, _PID_BYTES, 0).strip()
        if not pid.isdigit():  # the owner has the lock, and has not written yet
            return "another process"
        if int(pid) == os.getpid():
            return f"this process (pid {os.getpid()}), which has opened it already"
        return f"the process with pid {int(pid)}"

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        """Let the next one have the directory. May be called twice."""
        fd, self._fd = self._fd, -1
        _held.discard(self)
        if fd >= 0:
            if fcntl is not None:
                # Said outright: a forked process that has not yet run may have a copy of the descriptor.
                with suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _forked(self) -> None:
        """In a child: the copy goes, and the lock stays where it is."""
        fd, self._fd = self._fd, -1
        os.close(fd)


_held = weakref.WeakSet()


def _close_copies() -> None:
    for lock in list(_held):
        lock._forked()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_copies)
