"""The manifest of an append-only log: which files it is made of, in their order.

A line a file, of pairs of a key and a value: ``file NAME seq N type b|i|h``, where b is the base, i an
increment that is replayed after it, h a file of history, which nobody needs any more. Keys that are unknown
are left out; lines that begin with # are comments.

Invariants
- A Manifest never changes; what changes is which one counts, and that only by ``write_manifest``.
- The sequence numbers of the increments rise. The name of a file is one of its directory.
- A manifest that cannot be read is never written over.

Must not know: what the files hold.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final, Literal

from kvstore.errors import FormatError
from kvstore.persist.fs import FileSystem, failed, write_all
from kvstore.resp import quote_word, split_words

Kind = Literal["b", "i", "h"]

MAX_LINE: Final = 1024  # bytes, with its line end: what the servers read
TEMPORARY: Final = "temp-"  # what names of files begin with that are not whole yet
_BASE_SUFFIXES: Final = (".base.rdb", ".base.aof")
_INCREMENT_SUFFIX: Final = ".incr.aof"


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of a log."""

    name: str
    seq: int
    kind: Kind

    def line(self) -> bytes:
        return b"file %b seq %d type %b\n" % (_quote(os.fsencode(self.name)), self.seq, self.kind.encode())


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a log: first the base, then the increments in order."""

    base: LogFile | None = None
    increments: tuple[LogFile, ...] = ()
    history: tuple[LogFile, ...] = ()

    @property
    def files(self) -> tuple[LogFile, ...]:
        """Those that make the data, in the order in which they are read."""
        return self.increments if self.base is None else (self.base, *self.increments)

    def names(self) -> set[str]:
        """The names of all files, those of history too."""
        return {file.name for file in (*self.files, *self.history)}

    def text(self) -> bytes:
        """The file's bytes."""
        base = () if self.base is None else (self.base,)
        return b"".join(file.line() for file in (*base, *self.history, *self.increments))

    def next_base(self) -> int:
        """The sequence number of the next base."""
        bases = [file.seq for file in self.history if not file.name.endswith(_INCREMENT_SUFFIX)]
        return max([*bases, 0 if self.base is None else self.base.seq]) + 1

    def next_increment(self) -> int:
        """The sequence number of the next increment."""
        gone = [file.seq for file in self.history if file.name.endswith(_INCREMENT_SUFFIX)]
        return max([*gone, *(file.seq for file in self.increments), 0]) + 1

    def with_increment(self, name: str, seq: int) -> Manifest:
        """With one more increment at the end."""
        return replace(self, increments=(*self.increments, LogFile(name, seq, "i")))

    def with_base(self, base: LogFile, increments: tuple[LogFile, ...]) -> Manifest:
        """With this base and these increments; all other files become history."""
        kept = {base.name, *(file.name for file in increments)}
        gone = [replace(file, kind="h") for file in self.files if file.name not in kept]
        return Manifest(base, increments, (*self.history, *gone))

    def without_history(self, names: set[str]) -> Manifest:
        """Without the files of history that have these names."""
        return replace(self, history=tuple(file for file in self.history if file.name not in names))


def manifest_name(appendfilename: str) -> str:
    """The name of the manifest of a log."""
    return appendfilename + ".manifest"


def base_name(appendfilename: str, seq: int, rdb: bool) -> str:
    """The name of a base: in the format of snapshots, or as commands."""
    return f"{appendfilename}.{seq}.base.{'rdb' if rdb else 'aof'}"


def increment_name(appendfilename: str, seq: int) -> str:
    """The name of an increment."""
    return f"{appendfilename}.{seq}{_INCREMENT_SUFFIX}"


def file_of(appendfilename: str, name: str) -> LogFile | None:
    """What a name says of a file, if it is one that a log of this name gives to its bases and increments."""
    if not name.startswith(appendfilename + "."):
        return None
    rest = name[len(appendfilename) + 1 :]
    number = rest.partition(".")[0]
    if not (number.isascii() and number.isdigit()) or number.startswith("0"):
        return None
    suffix = rest[len(number) :]
    if suffix == _INCREMENT_SUFFIX:
        return LogFile(name, int(number), "i")
    return LogFile(name, int(number), "b") if suffix in _BASE_SUFFIXES else None


def _quote(name: bytes) -> bytes:
    if name and all(0x20 < code < 0x7F and code not in b"\"'\\" for code in name):
        return name
    return quote_word(name)


def parse_manifest(data: bytes, path: str = "") -> Manifest:
    """What a manifest says. Raises FormatError, whose text names the file and the line. O(len(data))."""
    if not data:
        raise FormatError(f"{path}: the manifest is empty")
    base: LogFile | None = None
    increments: list[LogFile] = []
    history: list[LogFile] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        where = f"{path}: line {number} of the manifest"
        if number > data.count(b"\n"):
            if line:
                raise FormatError(f"{where} does not end")
            break
        if len(line) >= MAX_LINE:
            raise FormatError(f"{where} is longer than {MAX_LINE} bytes")
        if line.startswith(b"#"):
            continue
        file = _parse_line(line, where)
        if file.kind == "h":
            history.append(file)
        elif file.kind == "i":
            if increments and file.seq <= increments[-1].seq:
                raise FormatError(f"{where}: the sequence numbers of increments must rise")
            increments.append(file)
        elif base is not None:
            raise FormatError(f"{where} names a second base")
        else:
            base = file
    return Manifest(base, tuple(increments), tuple(history))


def _parse_line(line: bytes, where: str) -> LogFile:
    words = None if b"\0" in line else split_words(line)
    if not words or len(words) % 2:
        raise FormatError(f"{where} is no list of keys and values")
    found = {key.lower(): value for key, value in zip(words[::2], words[1::2], strict=True)}
    name, seq, kind = found.get(b"file", b""), found.get(b"seq", b""), found.get(b"type", b"")
    if not name or not seq or not kind:
        raise FormatError(f"{where} has no name, no sequence number or no type")
    if b"/" in name or name in (b".", b"..") or b"\0" in name:
        raise FormatError(f"{where}: the name of a file must have no path")
    if not seq.isdigit() or len(seq) > 18 or int(seq) < 1:
        raise FormatError(f"{where}: the sequence number is not a positive number")
    if kind not in (b"b", b"i", b"h"):
        raise FormatError(f"{where}: unknown type of file")
    return LogFile(os.fsdecode(name), int(seq), kind.decode())  # type: ignore[arg-type]


def read_manifest(fs: FileSystem, directory: str, appendfilename: str) -> Manifest | None:
    """The manifest of a log, None where there is none. Raises FormatError, PersistenceError."""
    path = os.path.join(directory, manifest_name(appendfilename))
    try:
        if not fs.exists(path):
            return None
        data = fs.read(path)
    except OSError as error:
        raise failed("read", path, error) from error
    return parse_manifest(data[:], path)


def write_manifest(fs: FileSystem, directory: str, appendfilename: str, manifest: Manifest) -> None:
    """Have this manifest count from now on, for good.

    Raises PersistenceError. The old one is then whole still, but which of the two a crash would leave may
    not be known, as the error may have come after the new one got its name.
    """
    name = manifest_name(appendfilename)
    temporary = os.path.join(directory, TEMPORARY + name)
    path = os.path.join(directory, name)
    try:
        file = fs.create(temporary)
        try:
            write_all(file, manifest.text())
            file.sync()
        finally:
            file.close()
        fs.rename(temporary, path)
        fs.sync_dir(directory)
    except OSError as error:
        raise failed("write", path, error) from error
