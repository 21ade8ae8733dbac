"""The file that keeps who the node of a cluster is: its id lasts as long as the file, whatever becomes of the data.

One process has the file, by a lock of the system on it, so that no two nodes of the same id are there at once; the
system gives the lock back when the process dies. The text is written in one piece to where it was: what a crash of
the machine leaves of it is either whole or refused at the next start.

Must not know: what the text says, how nodes differ.
"""

from __future__ import annotations

import os
from typing import Protocol

from kvstore.errors import PersistenceError
from kvstore.persist.fs import failed
from kvstore.persist.lock import take_lock

# More than the text of one node has.
_MOST_BYTES = 1 << 20


class Keepable(Protocol):
    """What is kept."""

    def text(self) -> str: ...

    def take(self, text: str) -> None:
        """Be what the text says. Raises ValueError, with the reason."""


class NodeFile:
    """Held from its construction to ``close()``, or to the death of the process."""

    def __init__(self, path: str, node: Keepable):
        """Take the node's names from the file, or write them to a new one. O(1).

        Raises PersistenceError where another process has the file, or it is not a file of this kind of node.
        """
        self.path = path
        self._node = node
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise failed("open", path, error) from None
        try:
            take_lock(self._fd, path, lambda: f"{path} is in use by another node")
            text = self._read()
            if text.strip():
                self._take(text)
            else:
                self.write()
        except BaseException:
            self.close()
            raise

    def _read(self) -> str:
        try:
            return os.pread(self._fd, _MOST_BYTES, 0).decode("utf-8", "surrogateescape")
        except OSError as error:
            raise failed("read", self.path, error) from None

    def _take(self, text: str) -> None:
        try:
            self._node.take(text)
        except ValueError as error:
            raise PersistenceError(f"cannot use {self.path}: {error}") from None

    def write(self) -> None:
        """Bring the node's names to the disk. Raises PersistenceError."""
        data = self._node.text().encode("utf-8", "surrogateescape")
        try:
            os.pwrite(self._fd, data, 0)
            os.ftruncate(self._fd, len(data))
            os.fsync(self._fd)
        except OSError as error:
            raise failed("write", self.path, error) from None

    def close(self) -> None:
        """Let another process have the file. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
