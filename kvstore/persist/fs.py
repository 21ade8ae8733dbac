"""The file system, as the rest of this package uses it: few operations, so that a test can stand in for it.

What was written is safe from a crash of the machine only after ``File.sync()``; a name that was made, moved
or taken away only after ``sync_dir()`` of its directory. Every method raises OSError as the system does.

Must not know: what files hold.
"""

from __future__ import annotations

import mmap
import os
from typing import Protocol

from kvstore.errors import PersistenceError

Data = bytes | bytearray | memoryview
# What reading a whole file gives: indexing gives integers, slicing bytes.
Content = bytes | mmap.mmap

# Files up to this size are read into memory; larger ones are mapped, so that the system may drop what was read.
_READ_UP_TO = 1 << 20
# Bytes copied at a time.
_COPY_BYTES = 1 << 20


class File(Protocol):
    """An open file that is written to its end."""

    path: str

    def write(self, data: Data) -> int:
        """Append; how many bytes went in, which may be fewer than given."""

    def sync(self) -> None:
        """Have what was written on the disk. May be called from another thread while this one writes."""

    def truncate(self, size: int) -> None:
        """Cut the file; the next write goes to its end."""

    def close(self) -> None:
        """Give the descriptor back, without a sync. May be called twice."""


class FileSystem(Protocol):
    """Where files are. Paths are absolute, or relative to the working directory."""

    def create(self, path: str) -> File:
        """A new, empty file; what was there is gone."""

    def append(self, path: str) -> File:
        """A file opened at its end; made where there is none."""

    def read(self, path: str) -> Content:
        """All that is in a file. Whoever has read it may ``close()`` a map."""

    def size(self, path: str) -> int: ...

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, without paths, sorted."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, over whatever had that name."""

    def unlink(self, path: str) -> None: ...

    def mkdir(self, path: str) -> None:
        """Make a directory, if it is not there. Its parent must be."""

    def sync_dir(self, path: str) -> None:
        """Have the names in a directory on the disk."""


class OsFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str, flags: int):
        self.path = path
        self._fd = os.open(path, flags | os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, data: Data) -> int:
        return os.write(self._fd, data)

    def sync(self) -> None:
        # Sizes are part of what fdatasync writes; times are not, and nobody needs them.
        fdatasync = getattr(os, "fdatasync", os.fsync)
        fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OsFileSystem:
    """The operating system's."""

    __slots__ = ()

    def create(self, path: str) -> File:
        return OsFile(path, os.O_TRUNC)

    def append(self, path: str) -> File:
        return OsFile(path, 0)

    def read(self, path: str) -> Content:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size <= _READ_UP_TO:
                return file.read()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_all(file: File, data: Data) -> None:
    """Append all of it, however many writes that takes. Raises OSError."""
    done = file.write(data)
    if done < len(data):
        rest = memoryview(data)
        while done < len(data):
            done += file.write(rest[done:])


def read_file(fs: FileSystem, path: str) -> Content:
    """All that is in a file. Raises PersistenceError."""
    try:
        return fs.read(path)
    except OSError as error:
        raise failed("read", path, error) from error


def keep_tail(fs: FileSystem, path: str, content: Content, start: int) -> str:
    """Copy what a file holds from ``start`` on to a file beside it, for good; that file's path. Raises OSError.

    A copy that is there already is never overwritten, but by a longer one that begins with it: of the same
    tail, of which a crash has left a part.
    """
    count = 1
    while not _may_hold(fs, kept := f"{path}.{start}{f'-{count}' if count > 1 else ''}.torn", content, start):
        count += 1
    file = fs.create(kept)
    try:
        for at in range(start, len(content), _COPY_BYTES):
            write_all(file, content[at : at + _COPY_BYTES])
        file.sync()
    finally:
        file.close()
    fs.sync_dir(os.path.dirname(kept) or ".")
    return kept


def _may_hold(fs: FileSystem, path: str, content: Content, start: int) -> bool:
    """Whether nothing would be lost by writing to a file what ``content`` holds from ``start`` on."""
    if not fs.exists(path):
        return True
    there = fs.read(path)
    return len(there) <= len(content) - start and all(
        there[at : at + _COPY_BYTES] == content[start + at : start + min(at + _COPY_BYTES, len(there))]
        for at in range(0, len(there), _COPY_BYTES)
    )


def cut_file(fs: FileSystem, path: str, size: int) -> None:
    """Cut a file to that many bytes, for good. Raises OSError."""
    file = fs.append(path)
    try:
        file.truncate(size)
        file.sync()
    finally:
        file.close()


def failed(action: str, path: str, error: OSError) -> PersistenceError:
    """The error that tells the user what could not be done to which file: "cannot write x: No space left"."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return PersistenceError(f"cannot {action} {path}: {reason}")
