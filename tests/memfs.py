"""A file system in memory that crashes: what a power cut may leave of files, and disks that fail.

It keeps for each file what was synced and what was not, and for each directory which names were. Every
mutating call is an operation, numbered from 1; a test has one of them crash the machine (``crash_at``) or
fail (``fail_at``), and then looks at what the disk may hold (``crash``, ``kill``).

What a power cut may do, in the strictest reading of POSIX:
- What was synced is whole. Of what was written since then: all of it is there, or none, or a beginning, or
  each block of 512 or 4096 bytes in any of its states since the last sync, where the size of the file is one
  of any of those moments too and what was never written is zeros or garbage.
- A name (made, moved or taken away) is safe only once its directory was synced; a synced file whose name
  was not is gone. Unsynced changes of names happened up to some moment (as on a file system with a journal)
  or each on its own. A rename within a directory happens whole or not at all.
- After a sync that failed, what it was to bring to the disk may be lost for good, although later syncs
  succeed: Linux takes the pages for clean.

Not thread-safe: workers of tests run in the thread of the test.
"""

from __future__ import annotations

import errno as errors
import os
import posixpath
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kvstore.persist.fs import Data

MUTATIONS = frozenset(
    ("create", "append", "write", "sync", "truncate", "rename", "unlink", "mkdir", "sync_dir")
)
# What fails when a disk is full.
GROWING = frozenset(("create", "append", "write", "mkdir"))
# At how many moments since the last sync a torn file is looked at.
_MOMENTS = 6


class Crash(BaseException):
    """The machine stops here; the process sees nothing of it."""


class Worn(Exception):
    """The test asked for something that is no part of the file system's promises."""


@dataclass(slots=True)
class _Op:
    """A change of a file: bytes at an offset, or (``data`` is None) a new size."""

    at: int
    data: bytes | None
    sure: bool = False  # it was synced
    doubtful: bool = False  # a sync of it failed: no later one makes it sure

    def apply(self, content: bytearray, length: int | None = None) -> None:
        if self.data is None:
            del content[self.at :]
            content.extend(bytes(self.at - len(content)))
            return
        data = self.data if length is None else self.data[:length]
        if data:
            content.extend(bytes(max(0, self.at - len(content))))
            content[self.at : self.at + len(data)] = data


Names = dict[str, "_Node | _Dir"]


class _Node:
    """A file: what it holds for those who read it, what is on the disk for sure, and how it got from there."""

    __slots__ = ("content", "ops", "stable")

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self.content = bytearray(content)
        self.stable = bytearray(content)
        self.ops: list[_Op] = []

    def copy(self) -> _Node:
        made = _Node(self.content)
        made.stable = bytearray(self.stable)
        made.ops = [replace(op) for op in self.ops]
        return made

    def change(self, op: _Op) -> None:
        op.apply(self.content)
        self.ops.append(op)

    def synced(self) -> None:
        for op in self.ops:
            op.sure = not op.doubtful
        # Those before which nothing is in doubt are no history any more.
        done = 0
        while done < len(self.ops) and self.ops[done].sure:
            self.ops[done].apply(self.stable)
            done += 1
        del self.ops[:done]

    def sync_failed(self) -> None:
        for op in self.ops:
            op.doubtful = not op.sure

    def after_crash(self, rng: random.Random, mode: str, garbage: bool) -> bytes:
        """What the disk may hold; ``mode``: whole, lost, prefix or torn, with garbage in the gaps or zeros."""
        if mode == "whole":
            return bytes(self.content)
        open_ops = [index for index, op in enumerate(self.ops) if not op.sure]
        if mode == "lost" or not open_ops:
            return bytes(self._at(0))
        if mode == "prefix":
            last = rng.choice(open_ops)
            data = self.ops[last].data
            return bytes(self._at(last, rng.randrange(len(data) + 1) if data else None))
        return self._torn(rng, garbage)

    def _at(self, moment: int, length: int | None = None) -> bytearray:
        """With all that is sure, and of the rest what came before ``moment`` (with ``length``: and so much
        of that operation too)."""
        content = bytearray(self.stable)
        for index, op in enumerate(self.ops):
            if op.sure or index < moment:
                op.apply(content)
            elif index == moment and length is not None:
                op.apply(content, length)
        return content

    def _torn(self, rng: random.Random, garbage: bool) -> bytes:
        moments = [self._at(rng.randrange(len(self.ops) + 1)) for _ in range(_MOMENTS)]
        # A block never goes back behind a sync, and neither does the size.
        moments += [self._at(0), self._at(len(self.ops))]
        block = rng.choice((512, 4096))
        size = len(rng.choice(moments))
        fill = rng.randbytes(block) if garbage and rng.random() < 0.5 else bytes(block)
        result = bytearray()
        while len(result) < size:
            at = len(result)
            piece = rng.choice(moments)[at : at + block]
            result += piece + fill[len(piece) :]
        del result[size:]
        # What was synced and never touched since is whole, in whatever block it is.
        safe = self._safe_size()
        result[:safe] = self.stable[:safe]
        return bytes(result)

    def _safe_size(self) -> int:
        """Up to where the file is as it was when it was last known to be on the disk."""
        return min([len(self.stable), *(op.at for op in self.ops)])


@dataclass(slots=True)
class _Change:
    """A change of a directory: name -> what it is from then on (None: nothing). ``moved``: the name in the
    same directory that it had before."""

    name: str
    node: _Node | _Dir | None
    moved: str | None = None

    def apply(self, names: Names) -> None:
        if self.moved is not None:
            names.pop(self.moved, None)
        if self.node is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.node


@dataclass(slots=True)
class _Dir:
    names: Names = field(default_factory=dict)
    stable: Names = field(default_factory=dict)
    # (number of the operation, change): unsynced, in order.
    changes: list[tuple[int, _Change]] = field(default_factory=list)

    def change(self, number: int, change: _Change) -> None:
        change.apply(self.names)
        self.changes.append((number, change))

    def synced(self) -> None:
        self.stable = dict(self.names)
        self.changes.clear()

    def after_crash(self, until: int | None, rng: random.Random) -> Names:
        """The names there may be: those up to an operation, or each on its own."""
        names = dict(self.stable)
        for number, change in self.changes:
            if number <= until if until is not None else rng.random() < 0.5:
                change.apply(names)
        return names


@dataclass(slots=True)
class _Fault:
    at: int
    errno: int
    short: bool
    lasting: bool
    kinds: frozenset[str]
    under: str
    hits: int = 0

    def meets(self, number: int, kind: str, path: str) -> bool:
        if number < self.at or kind not in self.kinds or self.under not in path:
            return False
        return self.lasting or not self.hits


class MemFile:
    """A file of a MemFS, open for appending."""

    def __init__(self, fs: MemFS, path: str, node: _Node) -> None:
        self.path = path
        self._fs = fs
        self._node = node
        self._open = True

    def _check(self) -> None:
        if not self._open:
            raise OSError(errors.EBADF, os.strerror(errors.EBADF), self.path)

    def write(self, data: Data) -> int:
        self._check()
        fault = self._fs._operation("write", self.path)
        taken = bytes(data)
        if fault is not None:
            # The first time a part may go in, as on a disk with a little room left.
            if not fault.short or fault.hits > 1 or len(taken) < 2:
                raise self._fs._error(fault, self.path)
            taken = taken[: self._fs.rng.randrange(1, len(taken))]
        self._node.change(_Op(len(self._node.content), taken))
        self._fs._stop()
        return len(taken)

    def sync(self) -> None:
        self._check()
        fault = self._fs._operation("sync", self.path)
        self._fs._stop()
        if fault is not None:
            self._node.sync_failed()
            raise self._fs._error(fault, self.path)
        self._node.synced()

    def truncate(self, size: int) -> None:
        self._check()
        self._fs._perform("truncate", self.path)
        self._node.change(_Op(size, None))
        self._fs._stop()

    def close(self) -> None:
        if self._fs.crashed:
            raise Crash
        if self._open:
            self._open = False
            self._fs.open_files -= 1


class MemFS:
    """Files in memory. ``/`` is there; ``directories`` are made, and safe, at the start."""

    def __init__(self, *directories: str, seed: int = 0) -> None:
        self.rng = random.Random(seed)  # of short writes
        self.operations = 0
        self.open_files = 0
        self.crashed = False
        self.trace: list[tuple[str, str]] = []  # what every operation was: (kind, path)
        self._root = _Dir()
        self._crash_at: int | None = None
        self._faults: list[_Fault] = []
        self._unreadable: set[str] = set()
        for path in directories:
            self._add(path, _Dir())

    # -- what happens --------------------------------------------------------------------------------

    def crash_at(self, number: int | None) -> None:
        """The operation of this number, counted from the start, and all that follow raise Crash. The
        operation itself may still take effect, except that a sync brings nothing to the disk for sure."""
        self._crash_at = number

    def fail_at(
        self,
        number: int,
        errno: int,
        *,
        short: bool = False,
        lasting: bool = False,
        kinds: Iterable[str] = MUTATIONS,
        under: str = "",
    ) -> None:
        """The first operation from this number on that is one of ``kinds``, on a path that contains
        ``under``, raises OSError(errno); ``short``: if it is a write, a part of it goes in and no error is
        raised; ``lasting``: and so do all after it (which raise), until ``heal()``."""
        unknown = frozenset(kinds) - MUTATIONS
        if unknown:
            raise Worn(f"no such operations: {sorted(unknown)}")
        self._faults.append(_Fault(number, errno, short, lasting, frozenset(kinds), under))

    def heal(self) -> None:
        """Nothing fails any more. What failed syncs left behind stays in doubt."""
        self._faults.clear()
        self._unreadable.clear()

    def make_unreadable(self, path: str) -> None:
        """Reading the file fails with EIO, until ``heal()``."""
        self._unreadable.add(posixpath.normpath(path))

    @property
    def failures(self) -> int:
        """How many operations have failed, or written less than asked, since the last ``heal()``."""
        return sum(fault.hits for fault in self._faults)

    # -- what is left --------------------------------------------------------------------------------

    def kill(self) -> MemFS:
        """After the death of the process: all that was written is there, and is as safe as it was."""
        copied: dict[int, _Node | _Dir] = {}

        def copy(entry: _Node | _Dir) -> _Node | _Dir:
            found = copied.get(id(entry))
            if found is None:
                if isinstance(entry, _Node):
                    found = copied[id(entry)] = entry.copy()
                else:
                    found = copied[id(entry)] = _Dir()
                    found.names = {name: copy(inner) for name, inner in entry.names.items()}
                    found.stable = {name: copy(inner) for name, inner in entry.stable.items()}
                    found.changes = [
                        (number, _Change(each.name, each.node and copy(each.node), each.moved))
                        for number, each in entry.changes
                    ]
            return found

        made = MemFS(seed=self.rng.randrange(1 << 32))
        made.operations = self.operations
        root = copy(self._root)
        assert isinstance(root, _Dir)
        made._root = root
        return made

    def crash(self, rng: random.Random, gaps: str = "any") -> MemFS:
        """After a power cut: one of the states that the disk may be in.

        ``gaps``: what may stand in a file where later blocks have reached the disk and earlier ones not:
        "any" (garbage or zeros), "zeros" (as file systems do that keep track of what was never written),
        or "none": what was written since the last sync is there up to some byte.
        """
        modes = ("whole", "lost", "prefix", *(("torn",) if gaps != "none" else ()))
        style = rng.random()  # one for all files, or one for each
        general = rng.choice(modes)
        until = rng.randrange(self.operations + 1) if rng.random() < 0.3 else None
        if until is None and rng.random() < 0.4:
            # Names most often reach the disk up to a late moment.
            until = rng.randrange(max(0, self.operations - 12), self.operations + 1)

        def content(node: _Node) -> bytes:
            return node.after_crash(rng, general if style < 0.5 else rng.choice(modes), gaps == "any")

        def remain(directory: _Dir) -> _Dir:
            names: Names = {}
            for name, entry in directory.after_crash(until, rng).items():
                if id(entry) not in left:
                    left[id(entry)] = remain(entry) if isinstance(entry, _Dir) else _Node(content(entry))
                names[name] = left[id(entry)]
            return _Dir(names, dict(names))

        left: dict[int, _Node | _Dir] = {}
        made = MemFS(seed=self.rng.randrange(1 << 32))
        made._root = remain(self._root)
        return made

    def snapshot(self) -> dict[str, bytes]:
        """All files by path, as a process sees them."""
        found: dict[str, bytes] = {}

        def walk(path: str, directory: _Dir) -> None:
            for name, entry in directory.names.items():
                inner = posixpath.join(path, name)
                if isinstance(entry, _Dir):
                    walk(inner, entry)
                else:
                    found[inner] = bytes(entry.content)

        walk("/", self._root)
        return found

    def put(self, path: str, content: bytes) -> None:
        """A file that is there, and safe, without an operation."""
        self._add(path, _Node(content))

    def _add(self, path: str, entry: _Node | _Dir) -> None:
        directory = self._root
        *parents, name = [part for part in path.split("/") if part]
        for part in parents:
            inner = directory.names.get(part)
            if inner is None:
                inner = directory.names[part] = directory.stable[part] = _Dir()
            assert isinstance(inner, _Dir), path
            directory = inner
        directory.names[name] = directory.stable[name] = entry

    # -- the FileSystem ------------------------------------------------------------------------------

    def create(self, path: str) -> MemFile:
        directory, name = self._place(path)
        self._perform("create", path)
        node = directory.names.get(name)
        if isinstance(node, _Dir):
            raise _os_error(errors.EISDIR, path)
        if node is None:
            node = _Node()
            directory.change(self.operations, _Change(name, node))
        else:
            node.change(_Op(0, None))
        return self._opened(path, node)

    def append(self, path: str) -> MemFile:
        directory, name = self._place(path)
        node = directory.names.get(name)
        if isinstance(node, _Dir):
            raise _os_error(errors.EISDIR, path)
        self._perform("append", path)
        if node is None:
            node = _Node()
            directory.change(self.operations, _Change(name, node))
        return self._opened(path, node)

    def _opened(self, path: str, node: _Node) -> MemFile:
        self._stop()
        self.open_files += 1
        return MemFile(self, path, node)

    def read(self, path: str) -> bytes:
        node = self._find(path)
        if isinstance(node, _Dir):
            raise _os_error(errors.EISDIR, path)
        if posixpath.normpath(path) in self._unreadable:
            raise _os_error(errors.EIO, path)
        return bytes(node.content)

    def size(self, path: str) -> int:
        node = self._find(path)
        return len(node.content) if isinstance(node, _Node) else 0

    def exists(self, path: str) -> bool:
        try:
            self._find(path)
        except OSError:
            return False
        return True

    def listdir(self, path: str) -> list[str]:
        directory = self._find(path)
        if isinstance(directory, _Node):
            raise _os_error(errors.ENOTDIR, path)
        return sorted(directory.names)

    def rename(self, old: str, new: str) -> None:
        from_dir, from_name = self._place(old)
        to_dir, to_name = self._place(new)
        node = from_dir.names.get(from_name)
        if node is None:
            raise _os_error(errors.ENOENT, old)
        if isinstance(node, _Dir) or isinstance(to_dir.names.get(to_name), _Dir):
            raise Worn("directories are not renamed")
        self._perform("rename", new)
        if from_dir is to_dir:
            if from_name != to_name:
                to_dir.change(self.operations, _Change(to_name, node, moved=from_name))
        else:  # of two directories either may reach the disk first
            to_dir.change(self.operations, _Change(to_name, node))
            from_dir.change(self.operations, _Change(from_name, None))
        self._stop()

    def unlink(self, path: str) -> None:
        directory, name = self._place(path)
        node = directory.names.get(name)
        if node is None:
            raise _os_error(errors.ENOENT, path)
        if isinstance(node, _Dir):
            raise _os_error(errors.EISDIR, path)
        self._perform("unlink", path)
        directory.change(self.operations, _Change(name, None))
        self._stop()

    def mkdir(self, path: str) -> None:
        directory, name = self._place(path)
        found = directory.names.get(name)
        if isinstance(found, _Dir):
            return
        if found is not None:
            raise _os_error(errors.EEXIST, path)
        self._perform("mkdir", path)
        directory.change(self.operations, _Change(name, _Dir()))
        self._stop()

    def sync_dir(self, path: str) -> None:
        directory = self._find(path)
        if isinstance(directory, _Node):
            raise _os_error(errors.ENOTDIR, path)
        self._perform("sync_dir", path)
        self._stop()
        directory.synced()

    # -- the way of every operation ------------------------------------------------------------------

    def _perform(self, kind: str, path: str) -> None:
        """As ``_operation``, of one that fails or happens whole."""
        fault = self._operation(kind, path)
        if fault is not None:
            raise self._error(fault, path)

    def _operation(self, kind: str, path: str) -> _Fault | None:
        """Count it; the fault that meets it. One that the machine stops at may still take effect."""
        if self.crashed:
            raise Crash
        self.operations += 1
        self.trace.append((kind, path))
        if self._crash_at is not None and self.operations >= self._crash_at:
            self.crashed = True
            return None
        for fault in self._faults:
            if fault.meets(self.operations, kind, path):
                fault.hits += 1
                return fault
        return None

    def _stop(self) -> None:
        """The end of an operation, which the process hears of unless the machine has stopped."""
        if self.crashed:
            raise Crash

    @staticmethod
    def _error(fault: _Fault, path: str) -> OSError:
        return _os_error(fault.errno, path)

    def _parts(self, path: str) -> list[str]:
        if self.crashed:
            raise Crash
        return [part for part in posixpath.normpath("/" + path).split("/") if part]

    def _find(self, path: str) -> _Node | _Dir:
        entry: _Node | _Dir = self._root
        for part in self._parts(path):
            if isinstance(entry, _Node):
                raise _os_error(errors.ENOTDIR, path)
            found = entry.names.get(part)
            if found is None:
                raise _os_error(errors.ENOENT, path)
            entry = found
        return entry

    def _place(self, path: str) -> tuple[_Dir, str]:
        """The directory of a path, which is there, and the name in it."""
        *parents, name = self._parts(path)
        directory = self._find("/".join(parents))
        if isinstance(directory, _Node):
            raise _os_error(errors.ENOTDIR, path)
        return directory, name


def _os_error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
