"""``kvstore load``: lines of JSON become an RDB file, or a directory with a log.

Invariants
- The file, or the log's manifest, appears when all is written and on the disk; whatever happens before,
  nothing is left behind.
- What is there already is not overwritten.

Costs: one line, and the names of all keys, are in memory.

Must not know: what a line looks like, how an RDB file is laid out.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from kvstore.engine.context import Limits
from kvstore.engine.types import Target
from kvstore.errors import FormatError, PersistenceError
from kvstore.persist.fs import File, FileSystem, OsFileSystem, failed, write_all
from kvstore.persist.lock import DirectoryLock
from kvstore.persist.manifest import LogFile, Manifest, base_name, increment_name, write_manifest
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.settings import Settings
from kvstore.tools.lines import Function, Key, parse_line
from kvstore.tools.progress import Progress, counted


def load(lines: str, path: str) -> int:
    """Make ``path`` of the lines in a file, or of standard input ("-"); the exit code.

    Raises PersistenceError for files that cannot be read or made, FormatError for a line.
    """
    fs = OsFileSystem()
    if path.endswith(".rdb"):
        target: _Target = _RdbFile(fs, path)
    else:
        target = _Directory(fs, path)
    with _opened(lines) as (name, file, size), Progress(f"loading {name}", size) as progress, target:
        reading = _Reading(name, file, progress)
        reading.write_to(target)
        target.finish()
    print(f"{counted(reading.keys, 'key')} in {path}", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _opened(lines: str) -> Iterator[tuple[str, BinaryIO, int]]:
    """The lines: their name for messages, the file, how large it is (0: nobody knows)."""
    if lines == "-":
        yield "standard input", sys.stdin.buffer, 0
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(lines, "rb"))
        except OSError as error:
            raise failed("read", lines, error) from None
        yield lines, file, os.fstat(file.fileno()).st_size


class _Target(Protocol):
    """Where the RDB file goes, for the time of a ``with`` block."""

    is_base: bool  # of a log

    def __enter__(self) -> _Target: ...

    def __exit__(self, *exc_info: object) -> None:
        """Take away what ``finish`` has not made whole."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """All is written: let it be seen."""


def _refuse_if_there(path: str) -> None:
    if os.path.lexists(path):
        raise PersistenceError(f"{path} is there already, and is not overwritten")


class _RdbFile:
    """An RDB file by itself."""

    is_base = False

    def __init__(self, fs: FileSystem, path: str):
        self._fs, self._path = fs, path
        self._temporary = os.path.join(os.path.dirname(path) or ".", f"temp-{os.getpid()}.rdb")
        self._file: File | None = None

    def __enter__(self) -> _RdbFile:
        _refuse_if_there(self._path)
        try:
            self._file = self._fs.create(self._temporary)
        except OSError as error:
            raise failed("write", self._path, error) from None
        return self

    def write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            write_all(self._file, data)
        except OSError as error:
            raise failed("write", self._path, error) from None

    def finish(self) -> None:
        assert self._file is not None
        try:
            self._file.sync()
            # A link, as a rename would replace what has appeared at the name meanwhile.
            os.link(self._temporary, self._path)
            self._fs.sync_dir(os.path.dirname(self._path) or ".")
        except FileExistsError:
            _refuse_if_there(self._path)
        except OSError as error:
            raise failed("write", self._path, error) from None

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._fs.unlink(self._temporary)


class _Directory:
    """A new directory, with a log whose base the RDB file is."""

    is_base = True

    def __init__(self, fs: FileSystem, path: str):
        self._fs, self._path = fs, path
        settings = Settings(dir=path)
        self._log_dir, self._name = settings.log_dir, settings.appendfilename
        self._base = LogFile(base_name(self._name, 1, rdb=True), 1, "b")
        self._made: list[str] = []  # directories
        self._lock: DirectoryLock | None = None
        self._file: File | None = None
        self._finished = False

    def __enter__(self) -> _Directory:
        if os.path.lexists(self._path) and not (os.path.isdir(self._path) and not os.listdir(self._path)):
            _refuse_if_there(self._path)
        try:
            self._make(self._path)
            self._make(self._log_dir)
            self._lock = DirectoryLock(self._log_dir)
            self._file = self._fs.create(os.path.join(self._log_dir, self._base.name))
        except OSError as error:
            self.__exit__()
            raise failed("make", self._path, error) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self, path: str) -> None:
        if not os.path.isdir(path):
            self._fs.mkdir(path)
            self._made.append(path)

    def write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            write_all(self._file, data)
        except OSError as error:
            raise failed("write", self._file.path, error) from None

    def finish(self) -> None:
        assert self._file is not None
        increment = increment_name(self._name, 1)
        try:
            self._file.sync()
            self._fs.create(os.path.join(self._log_dir, increment)).close()
            self._fs.sync_dir(self._log_dir)
            manifest = Manifest(self._base).with_increment(increment, 1)
            write_manifest(self._fs, self._log_dir, self._name, manifest)
            self._fs.sync_dir(self._path)
            self._fs.sync_dir(os.path.dirname(os.path.abspath(self._path)))
        except OSError as error:
            raise failed("write", self._path, error) from None
        self._finished = True

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
        if not self._finished:
            self._take_back()
        if self._lock is not None:
            self._lock.release()

    def _take_back(self) -> None:
        if self._lock is not None:  # all that is in the log's directory is ours: it is new
            with contextlib.suppress(OSError):
                for name in self._fs.listdir(self._log_dir):
                    self._fs.unlink(os.path.join(self._log_dir, name))
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(path)


class _Reading:
    """The lines on their way into an RDB file."""

    def __init__(self, name: str, file: BinaryIO, progress: Progress):
        self.name = name
        self.keys = 0
        self._file = file
        self._progress = progress
        self._seen: dict[int, set[bytes]] = {}
        self._libraries: dict[bytes, bytes] = {}

    def write_to(self, target: _Target) -> None:
        limits = Limits()
        writer: RdbWriter | None = None
        done = number = 0
        for number, line in enumerate(self._file, 1):
            done += len(line)
            if not line.strip():
                continue
            try:
                found = parse_line(line, limits)
                if isinstance(found, Function):
                    self._take_library(found, begun=writer is not None)
                    continue
                self._take_key(found)
            except FormatError as error:
                raise FormatError(f"{self.name}, line {number}: {error.text}") from None
            if writer is None:
                writer = self._begin(target)
            pieces = writer.entry(found.db, found.key, found.value, found.deadline_ms)
            if pieces is not None:
                for _ in pieces:
                    pass
            self.keys += 1
            self._progress.update(done, self.keys)
        if writer is None:
            writer = self._begin(target)
        writer.end()

    def _begin(self, target: _Target) -> RdbWriter:
        aux = {
            b"redis-ver": Settings().version.encode(),
            b"redis-bits": b"64",
            b"ctime": b"%d" % time.time(),
            b"aof-base": b"%d" % target.is_base,
        }
        writer = RdbWriter(
            target.write,
            target=Target.PORTABLE,
            compress=True,
            checksum=True,
            aux=aux,
            libraries=self._libraries,
        )
        writer.begin()
        return writer

    def _take_library(self, found: Function, begun: bool) -> None:
        if begun:
            raise FormatError("a library of functions behind keys, where a file has no place for it")
        if found.name in self._libraries:
            raise FormatError("a library of functions that was there before")
        self._libraries[found.name] = found.source

    def _take_key(self, found: Key) -> None:
        seen = self._seen.setdefault(found.db, set())
        if found.key in seen:
            raise FormatError("a key that was there before")
        seen.add(found.key)
