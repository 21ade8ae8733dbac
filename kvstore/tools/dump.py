"""``kvstore dump``: the keys of a file as lines of JSON.

An RDB file is read key by key. A log is loaded into a store in memory, and its files are only read: a torn tail is
left where it is.

Must not know: what a line looks like, how files are laid out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from kvstore.engine.context import Context, Limits
from kvstore.engine.database import Database
from kvstore.errors import FormatError, PersistenceError
from kvstore.persist.fs import Content, Data, File, OsFileSystem, failed, read_file
from kvstore.persist.manifest import LogFile, Manifest
from kvstore.persist.rdb_load import Record, read_rdb
from kvstore.persist.replay import load_log
from kvstore.tools.lines import function_line, key_line
from kvstore.tools.progress import Progress, counted
from kvstore.tools.sources import Log, SingleLog, Snapshot, Source, find, parts_of

# More than any server has, as a log does not say how many its own had.
_MOST_DATABASES = 1 << 31


def dump(path: str, out: str) -> int:
    """Print the keys at a path to a new file, or to standard output ("-"); the exit code.

    It is 1 when something was left out: the values of modules. Raises PersistenceError for files that cannot be
    read or made, FormatError for what is in them.
    """
    fs = OsFileSystem()
    source = _the_one(path, find(fs, path))
    with _made(out) as file:
        if isinstance(source, Snapshot):
            return _dump_rdb(fs, source.path, file)
        return _dump_log(source, file)


def _the_one(path: str, found: list[Source]) -> Source:
    """What counts of what is in a directory: the log where there is one, as when a store is opened."""
    logs = [each for each in found if isinstance(each, (Log, SingleLog))]
    candidates = logs or found
    if len(candidates) > 1:
        names = ", ".join(each.path for each in candidates)
        raise PersistenceError(f"{path} has several files of data, of which one must be named: {names}")
    return candidates[0]


@contextlib.contextmanager
def _made(out: str) -> Iterator[BinaryIO]:
    """The file to print to, which is taken away again when that fails."""
    if out == "-":
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise failed("write", "standard output", error) from None
        return
    try:
        file = open(out, "xb")  # noqa: SIM115
    except FileExistsError:
        raise PersistenceError(f"{out} is there already, and is not overwritten") from None
    except OSError as error:
        raise failed("make", out, error) from None
    try:
        with file:
            yield file
    except BaseException as error:
        os.unlink(out)
        if isinstance(error, OSError):
            raise failed("write", out, error) from None
        raise


def _is_terminal(out: BinaryIO) -> bool:
    """Whether the lines themselves go where the bar would be."""
    return out is sys.stdout.buffer and sys.stdout.isatty()


def _dump_rdb(fs: OsFileSystem, path: str, out: BinaryIO) -> int:
    content = read_file(fs, path)
    keys = 0
    left_out: dict[bytes, int] = {}
    with Progress(f"dumping {path}", len(content), hidden=_is_terminal(out)) as progress:
        for found in read_rdb(content, Limits(), path=path, skip_modules=True):
            if isinstance(found, Record):
                keys += 1
                out.writelines(key_line(found.db, found.key, found.value, found.deadline_ms))
                progress.update(found.offset, keys)
            elif found.kind == "function":
                out.write(function_line(found.name, found.value))
            elif found.kind == "end" and found.offset < len(content):
                raise FormatError(f"{path}: something behind the end of the RDB", found.offset)
            elif found.kind == "module":
                left_out[found.value] = left_out.get(found.value, 0) + 1
    for name, count in left_out.items():
        print(f"{path}: left out {counted(count, 'key')} of the module {name.decode()}", file=sys.stderr)
    return 1 if left_out else 0


class _ReadingOnly(OsFileSystem):
    """The system's files, which whoever loads a log here may read, and cut and copy without any effect.

    ``manifests``: files that are not there, and what they would hold.
    """

    __slots__ = ("_manifests",)

    def __init__(self, manifests: dict[str, bytes]):
        self._manifests = manifests

    def exists(self, path: str) -> bool:
        return path in self._manifests or super().exists(path)

    def read(self, path: str) -> Content:
        found = self._manifests.get(path)
        return super().read(path) if found is None else found

    def append(self, path: str) -> File:
        return _Unchanged(path)

    def create(self, path: str) -> File:
        return _Unwritten(path)

    def sync_dir(self, path: str) -> None:
        pass


class _Unchanged:
    """A file that stays as it is."""

    __slots__ = ("path",)

    def __init__(self, path: str):
        self.path = path

    def write(self, data: Data) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def sync(self) -> None:
        pass

    def truncate(self, size: int) -> None:
        text = (
            f"{self.path}: the torn tail from offset {size} on is left out here, and left where it is there"
        )
        print(text, file=sys.stderr)

    def close(self) -> None:
        pass


class _Unwritten(_Unchanged):
    """The copy of what would be cut off."""

    __slots__ = ()

    def write(self, data: Data) -> int:
        return len(data)


def _dump_log(source: Log | SingleLog, out: BinaryIO) -> int:
    manifests: dict[str, bytes] = {}
    if isinstance(source, SingleLog):
        # As a server takes one over: as the base of a log that has nothing else yet.
        directory, name = os.path.split(source.path)
        source = Log(directory or ".", name)
        manifests[source.path] = Manifest(LogFile(name, 1, "b")).text()
    fs = _ReadingOnly(manifests)
    paths = [os.path.join(source.directory, name) for name in parts_of(fs, source)]
    total = sum(fs.size(path) for path in paths if fs.exists(path))
    ctx = Context(Database, databases=_MOST_DATABASES)
    with Progress(f"loading {source.path}", total) as progress:
        for done in load_log(ctx, fs, source.directory, source.name, single=None, load_truncated=True):
            progress.update(done)
    for library, text in ctx.libraries.items():
        out.write(function_line(library, text))
    for index, db in sorted(ctx.databases.items()):
        for key, value in db._data.items():
            out.writelines(key_line(index, key, value, db._expires.get(key)))
    return 0
