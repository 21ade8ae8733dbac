"""What a path given on a command line is: an RDB file, an append-only log, or a directory with both.

Must not know: what is in the files, beyond their first bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.errors import PersistenceError
from kvstore.persist.fs import FileSystem, failed
from kvstore.persist.manifest import manifest_name, read_manifest

_MANIFEST = manifest_name("")
# What names of files begin with that are not whole yet.
_TEMPORARY = "temp-"
_MAGIC_BYTES = 9


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An RDB file."""

    path: str


@dataclass(frozen=True, slots=True)
class SingleLog:
    """An append-only file by itself: of a server before version 7, or one file of a log."""

    path: str


@dataclass(frozen=True, slots=True)
class Log:
    """A log of several files, and the manifest that names them."""

    directory: str
    name: str

    @property
    def path(self) -> str:
        return os.path.join(self.directory, manifest_name(self.name))


Source = Snapshot | SingleLog | Log


def find(fs: FileSystem, path: str) -> list[Source]:
    """What is at a path, logs first. Raises PersistenceError when there is nothing to read."""
    found: Sequence[Source]
    try:
        if not os.path.isdir(path):
            return [_of_file(path)]
        found = logs_in(fs, path) or _of_store(fs, path)
    except OSError as error:
        raise failed("read", path, error) from None
    if not found:
        raise PersistenceError(f"{path} has neither an RDB file nor an append-only log in it")
    return list(found)


def is_rdb(head: bytes) -> bool:
    """Whether a file that begins so is an RDB file, if it is anything."""
    return head.startswith((b"REDIS", b"VALKEY"))


def head_of(path: str) -> bytes:
    """The first bytes of a file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(_MAGIC_BYTES)


def _of_file(path: str) -> Source:
    if path.endswith(_MANIFEST):
        directory, name = os.path.split(path)
        return Log(directory or ".", name.removesuffix(_MANIFEST))
    return _of_content(path)


def _of_content(path: str) -> Source:
    head = head_of(path)
    if head[:1] in (b"*", b"#") or path.endswith(".aof"):  # one of one file may have an RDB in front
        return SingleLog(path)
    if is_rdb(head) or path.endswith(".rdb"):
        return Snapshot(path)
    raise PersistenceError(f"{path} is neither an RDB file nor an append-only file")


def logs_in(fs: FileSystem, directory: str) -> list[Log]:
    """The logs whose files are in the directory itself."""
    names = [
        name for name in fs.listdir(directory) if name.endswith(_MANIFEST) and not name.startswith(_TEMPORARY)
    ]
    return [Log(directory, name.removesuffix(_MANIFEST)) for name in names]


def _of_store(fs: FileSystem, directory: str) -> list[Source]:
    """What the directory of a store or server holds."""
    logs: list[Source] = []
    files: list[Source] = []
    for name in fs.listdir(directory):
        path = os.path.join(directory, name)
        if name.startswith(_TEMPORARY):
            continue  # of a save that did not come to its end
        if os.path.isdir(path):
            logs += logs_in(fs, path)
        elif name.endswith((".rdb", ".aof")):
            files.append(_of_content(path))
    return (
        logs
        + [each for each in files if isinstance(each, SingleLog)]
        + [each for each in files if isinstance(each, Snapshot)]
    )


def parts_of(fs: FileSystem, log: Log) -> list[str]:
    """The names of a log's files, the base first. Raises PersistenceError or FormatError."""
    found = read_manifest(fs, log.directory, log.name)
    if found is None:
        raise PersistenceError(f"cannot read {log.path}: it is not there")
    return [file.name for file in found.files]
