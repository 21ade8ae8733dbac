"""``kvstore check``: what files hold, whether they are whole, and what is wrong with them.

Nothing is changed, but by ``--fix``: it cuts a torn tail, which only the last file of a log can have, or one with a
hole, back to its last whole unit, after making a copy of the file. Whatever else is wrong is told and left alone.

Costs: one value at a time is in memory, and the names of an RDB file's keys.

Must not know: how files are laid out.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter

from kvstore.commands.all import COMMANDS
from kvstore.engine.context import Limits
from kvstore.engine.types import TYPES, Target
from kvstore.errors import FormatError, StoreError
from kvstore.persist.fs import Content, OsFileSystem, cut_file, failed
from kvstore.persist.lock import DirectoryLock
from kvstore.persist.rdb_load import Note, Record, read_rdb
from kvstore.tools.progress import Progress, count_of, counted, size_of
from kvstore.tools.scan import Scan, scan
from kvstore.tools.sources import Log, find, is_rdb, logs_in, parts_of

_HEAD_BYTES = 9


def check(path: str, *, fix: bool) -> int:
    """Check what is at a path and print what is found; the exit code.

    Raises PersistenceError when there is nothing to check, or it is in use and to be fixed.
    """
    checking = _Checking(fix)
    for source in find(checking.fs, path):
        if isinstance(source, Log):
            checking.check_log(source)
        else:
            checking.check_file(source.path, is_last=checking.may_be_torn(source.path))
    return 1 if checking.problems else 0


class _Checking:
    """One run of the command."""

    def __init__(self, fix: bool):
        self.fs = OsFileSystem()
        self.problems = 0
        self._fix = fix
        self._limits = Limits()

    def _wrong(self, text: str) -> None:
        self.problems += 1
        print(f"  WRONG: {text}")

    # -- logs --------------------------------------------------------------------------------------

    def check_log(self, log: Log) -> None:
        """The manifest, and every file that it names."""
        print(f"{log.path}: manifest of an append-only log")
        try:
            names = parts_of(self.fs, log)
        except StoreError as error:
            self._wrong(str(error))
            return
        print(f"  names {', '.join(names) or 'no file'}")
        for name in names:
            self.check_file(os.path.join(log.directory, name), is_last=name == names[-1])

    def may_be_torn(self, path: str) -> bool:
        """Whether a file that was given by itself is the last of its log, as far as anybody knows."""
        directory, name = os.path.split(path)
        for log in logs_in(self.fs, directory or "."):
            try:
                names = parts_of(self.fs, log)
            except StoreError:
                return False  # nobody knows
            if name in names:
                return name == names[-1]
        return True

    # -- files -------------------------------------------------------------------------------------

    def check_file(self, path: str, *, is_last: bool) -> None:
        """One file. ``is_last``: nothing comes after it, so that its tail may be torn."""
        try:
            content = self.fs.read(path)
        except OSError as error:
            print(f"{path}:")
            self._wrong(str(failed("read", path, error)))
            return
        start = 0
        is_log = True
        if is_rdb(content[:_HEAD_BYTES]) or path.endswith(".rdb"):
            end = self._check_rdb(path, content)
            if end is None:
                return
            start = end
            is_log = start < len(content)
        if is_log:
            self._check_commands(path, content, start, is_last)

    def _check_rdb(self, path: str, content: Content) -> int | None:
        """The offset behind the RDB, None where there is no end to it."""
        print(f"{path}: RDB file, {size_of(len(content))}")
        summary = _Summary()
        try:
            with Progress(f"checking {path}", len(content)) as progress:
                for found in read_rdb(content, self._limits, path=path, skip_modules=True):
                    summary.take(found, path)
                    progress.update(found.offset, summary.keys)
        except FormatError as error:
            summary.show()
            self._wrong(str(error))
            return None
        summary.show()
        return summary.end

    def _check_commands(self, path: str, content: Content, start: int, is_last: bool) -> None:
        behind = f", behind the RDB of {size_of(start)}" if start else ""
        print(f"{path}: append-only file, {size_of(len(content) - start)}{behind}")
        found = Scan(start)
        with Progress(f"checking {path}", len(content), unit="commands") as progress:
            for done in scan(content, found):
                progress.update(done, found.commands)
        units = f", {counted(found.units, 'unit')} of several" if found.units else ""
        print(f"  {counted(found.commands, 'command')}{units}")
        unknown = {_text(name) for name in found.names if name.upper().decode("latin-1") not in COMMANDS}
        if unknown:
            print(
                f"  commands that are not known here, so that the log cannot be loaded: {', '.join(sorted(unknown))}"
            )
        if found.error is None:
            print(f"  whole up to its end at offset {len(content)}")
            return
        print(f"  whole up to offset {found.whole}, {len(content) - found.whole} bytes before its end")
        self._wrong(f"{path}: {found.error} at offset {found.offset}")
        if not found.is_torn:
            print("  this is no torn tail, and is not to be fixed by cutting")
        elif not is_last:
            print("  more of the log comes behind this file, so its tail cannot be cut")
        elif self._fix:
            self._cut(path, found.whole)
        elif found.is_hole:
            print(
                "  a torn tail with more behind the hole, as a power cut may leave it: stores and servers of "
                "kvstore copy it and cut it off when they start, and --fix now"
            )
        else:
            print("  a torn tail, which servers and stores cut off when they start, and --fix now")

    def _cut(self, path: str, size: int) -> None:
        """Cut a file, after making a copy of it. Raises PersistenceError."""
        directory = os.path.dirname(path) or "."
        # Only where a store or server that runs would have it.
        lock = DirectoryLock(directory) if logs_in(self.fs, directory) else None
        copy = f"{path}.{time.strftime('%Y%m%d-%H%M%S')}.bak"
        try:
            with open(path, "rb") as source, open(copy, "xb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            self.fs.sync_dir(directory)
            cut_file(self.fs, path, size)
        except OSError as error:
            raise failed("cut", path, error) from None
        finally:
            if lock is not None:
                lock.release()
        self.problems -= 1
        print(f"  FIXED: cut to {size} bytes; as it was it is in {copy}")


class _Summary:
    """What an RDB file holds."""

    def __init__(self) -> None:
        self.keys = 0
        self.end = 0
        self._types: Counter[str] = Counter()
        self._databases: Counter[int] = Counter()
        self._deadlines = self._past = self._empty = 0
        self._beyond: Counter[str] = Counter()  # of values that RDB 9 does not hold whole, by type
        self._modules: Counter[str] = Counter()
        self._libraries: list[str] = []
        self._aux: dict[str, str] = {}
        self._version = ""
        self._now_ms = time.time_ns() // 1_000_000
        self._seen: dict[int, set[bytes]] = {}

    def take(self, found: Record | Note, path: str) -> None:
        """Count it. Raises FormatError for a key that comes twice."""
        if isinstance(found, Record):
            self._take_key(found, path)
        elif found.kind == "version":
            self._version = f"version {found.value.decode()} of {found.name.decode().capitalize()}"
        elif found.kind == "aux":
            self._aux[_text(found.name)] = _text(found.value)
        elif found.kind == "function":
            self._libraries.append(_text(found.name))
        elif found.kind == "module":
            self._modules[_text(found.value)] += 1
        elif found.kind == "module-aux":
            self._modules[_text(found.name)] += 0
        elif found.kind == "empty":
            self._empty += 1
        elif found.kind == "end":
            self.end = found.offset

    def _take_key(self, found: Record, path: str) -> None:
        seen = self._seen.setdefault(found.db, set())
        if found.key in seen:
            raise FormatError(f"{path}: the key {_text(found.key)!r} comes twice", found.offset)
        seen.add(found.key)
        self.keys += 1
        record = TYPES[type(found.value)]
        self._types[record.name] += 1
        self._databases[found.db] += 1
        if found.deadline_ms is not None:
            self._deadlines += 1
            self._past += found.deadline_ms <= self._now_ms
        if record.least(found.value) is not Target.PORTABLE:
            self._beyond[record.name] += 1

    def show(self) -> None:
        """Print it."""
        of = [f"{name} {value}" for name, value in self._aux.items()]
        print(f"  {self._version or 'no version'}{': ' if of else ''}{', '.join(of)}")
        kinds = ", ".join(f"{count_of(count)} {name}" for name, count in sorted(self._types.items()))
        print(f"  {counted(self.keys, 'key')}{': ' if kinds else ''}{kinds}")
        if len(self._databases) > 1 or (self._databases and 0 not in self._databases):
            print(
                f"  by database: {', '.join(f'{db}: {count_of(n)}' for db, n in sorted(self._databases.items()))}"
            )
        if self._deadlines:
            print(
                f"  {counted(self._deadlines, 'key')} with a deadline, {count_of(self._past)} of them past it"
            )
        if self._beyond["hash"]:
            print(f"  {counted(self._beyond['hash'], 'hash', 'hashes')} with fields that expire")
        if self._beyond["stream"]:
            print(f"  {counted(self._beyond['stream'], 'stream')} with counters that RDB 9 has no place for")
        if self._libraries:
            print(f"  libraries of functions: {', '.join(self._libraries)}")
        if self._empty:
            print(f"  {counted(self._empty, 'key')} without elements, not to be loaded")
        for name, count in self._modules.items():
            print(f"  {counted(count, 'key')} of the module {name}, which is not read")
        if self.end:
            print(f"  whole up to its end at offset {self.end}")


def _text(word: bytes) -> str:
    """A word for people."""
    return word.decode("utf-8", "backslashreplace")
