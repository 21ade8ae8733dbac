"""Fills an empty store from an append-only log, by running its commands.

Invariants
- Nothing of it is logged or told to anybody, and nothing expires meanwhile: time stands still long before
  any deadline, as the log says itself when a key went. Relative times of foreign logs count from now.
- A unit runs whole or not at all. Only the last file that has anything in it may end within a command or a
  unit, or have a hole in one; it is then cut there. Where more than what was unfinished goes by that, it is
  copied to a file beside first. Whatever else is wrong is refused, and nothing on the disk is changed.

Costs: a short command about 2 µs. Memory beside the data: a window of 256 KB, and a large command once more.

Must not know: how logs are written. Alone in this package it knows the command table.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.libraries import FLUSH, sources_in
from kvstore.commands.registry import COMMANDS, Argv, CommandRejected
from kvstore.commands.session import Session
from kvstore.engine.context import Context
from kvstore.errors import FormatError, StoreError
from kvstore.numbers import parse_int
from kvstore.persist.fs import Content, FileSystem, cut_file, failed, keep_tail, read_file
from kvstore.persist.manifest import LogFile, Manifest, read_manifest, write_manifest
from kvstore.persist.rdb_load import library_name, load_rdb
from kvstore.persist.requests import Batch, Torn, look_for_hole, read_commands

log = logging.getLogger("kvstore")

# Before every deadline that a command may name.
_LONG_AGO: Final = -(1 << 63)
# Bytes between two tellings of how far it has come, at least; as commands come in windows, one a window.
_STEP: Final = 1 << 17
_RDB: Final = (b"REDIS", b"VALKEY")

Run = Callable[[Session, Argv], Any]
Steps = Generator[int, None, None]


@dataclass(slots=True)
class Replayed:
    """What was found."""

    commands: int = 0
    units: int = 0
    bytes: int = 0  # of the files that were read
    cut: int = 0  # of them, bytes that were cut off


def load_log(
    ctx: Context, fs: FileSystem, directory: str, name: str, *, single: str | None, load_truncated: bool
) -> Generator[int, None, Replayed]:
    """Read the log ``name`` in ``directory`` into an empty store. Yields bytes done from time to time.

    ``single``: where a log of versions before 7 may be, one file, which is then moved into the directory as
    the base. ``load_truncated``: whether a torn end is cut off, or refused. Raises PersistenceError and
    FormatError, whose texts name file and offset.
    """
    manifest = read_manifest(fs, directory, name) or _adopt(fs, directory, name, single)
    _finish_adoption(fs, directory, name, single, manifest)
    replay = Replay(ctx)
    found = replay.found
    contents = [
        (path, read_file(fs, path))
        for path in (os.path.join(directory, each.name) for each in manifest.files)
    ]
    last = max((at for at, (_, content) in enumerate(contents) if len(content)), default=-1)
    for at, (path, content) in enumerate(contents):
        try:
            yield from replay.file(content, path)
        except Torn as torn:
            if at != last or not load_truncated:
                raise _ends_early(path, torn) from None
            _cut(fs, path, content, torn)
            found.cut = len(content) - torn.offset
        found.bytes += len(content)
    return found


def _ends_early(path: str, torn: Torn) -> FormatError:
    what = "there is a hole of zero bytes in it" if torn.hole else "it is not whole"
    return FormatError(
        f"Unexpected end of file reading the append only file {path}: what begins at offset {torn.offset} is the "
        f"last that can be read, and {what}. 'kvstore check --fix' cuts it off after making a copy; "
        "aof-load-truncated yes cuts it off if it is the last file"
    )


def _cut(fs: FileSystem, path: str, content: Content, torn: Torn) -> None:
    """Cut off what is torn, and have that on the disk before anything is appended."""
    size, kept = len(content) - torn.offset, None
    try:
        if torn.hole:
            kept = keep_tail(fs, path, content, torn.offset)
    except OSError as error:
        raise failed("copy the torn end of", path, error) from error
    if kept is None:
        log.warning(
            "The append only file %s ends within a command or transaction: %d bytes from offset %d on are cut off",
            *(path, size, torn.offset),
        )
    else:
        log.warning(
            "The append only file %s has a hole in the command or transaction at offset %d, as a power cut may "
            "leave it: %d bytes from there on are cut off; they are in %s",
            *(path, torn.offset, size, kept),
        )
    try:
        cut_file(fs, path, torn.offset)
    except OSError as error:
        raise failed("cut", path, error) from error


# -- an old log of one file ------------------------------------------------------------------------------


def _adopt(fs: FileSystem, directory: str, name: str, single: str | None) -> Manifest:
    """Have an old log of one file be the base of a new one; the file is moved when it is named."""
    if single is None or not fs.exists(single):
        return Manifest()
    manifest = Manifest(LogFile(name, 1, "b"))
    write_manifest(fs, directory, name, manifest)
    return manifest


def _finish_adoption(
    fs: FileSystem, directory: str, name: str, single: str | None, manifest: Manifest
) -> None:
    """Move the old log to where its manifest says that it is, also after a crash in between."""
    base = manifest.base
    if base is None or base.name != name or single is None:
        return
    path = os.path.join(directory, name)
    try:
        if fs.exists(path) or not fs.exists(single):
            return
        fs.rename(single, path)
        fs.sync_dir(directory)
        fs.sync_dir(os.path.dirname(single) or ".")
    except OSError as error:
        raise failed("move", single, error) from error
    log.info("The append only file %s is now the base of the log in %s", single, directory)


# -- running ---------------------------------------------------------------------------------------------


class Replay:
    """Runs files of commands against one store."""

    def __init__(self, ctx: Context):
        self.found = Replayed()
        self._ctx = ctx
        self._session = Session(Hub(ctx), TREE2)
        self._runs = _Runs(self)
        self._select = self._runs[b"SELECT"]
        self._unit: list[Argv] | None = None  # between MULTI and EXEC
        self._unit_at = 0
        self._content: Content = b""  # of the file that is run

    def file(self, content: Content, path: str) -> Steps:
        """Run a file: commands, perhaps behind an RDB. Raises Torn, FormatError."""
        start = 0
        done = self.found.bytes
        self._session.db = self._ctx.database(0)
        if content[:5] in _RDB or content[:6] in _RDB:
            loading = load_rdb(self._ctx, content, path=path, now_ms=None)
            while True:
                try:
                    yield done + next(loading)
                except StopIteration as end:
                    start = end.value.end
                    break
        yield from self._commands(content, path, start)

    def _commands(self, content: Content, path: str, start: int) -> Steps:
        """Run commands from an offset on; the store is quiet except between two steps."""
        done, told = self.found.bytes, start
        self._content = content
        quiet = _Quiet(self._ctx)
        quiet.begin()
        try:
            for batch in read_commands(content, start):
                self._run(batch, path)
                if batch.end - told >= _STEP:
                    told = batch.end
                    quiet.end()
                    yield done + told
                    quiet.begin()
            if self._unit is not None:
                raise Torn(self._unit_at)
        except Torn as torn:
            if self._unit is not None:
                raise Torn(self._unit_at, hole=torn.hole) from None
            raise
        except FormatError as error:
            if path in error.text:
                raise
            raise FormatError(
                f"Bad file format reading the append only file {path}: {error.text}", error.offset
            ) from None
        finally:
            self._unit, self._content = None, b""
            quiet.end()

    def _run(self, batch: Batch, path: str) -> None:
        """Run commands, or keep them for the end of their unit."""
        runs, session = self._runs, self._session
        for index, argv in enumerate(batch.commands):
            run = runs[argv[0]]
            if self._unit is not None or run is _multi or run is _exec:
                self._in_unit(run, argv, path, batch, index)
                continue
            try:
                run(session, argv)
            except StoreError as error:
                look_for_hole(self._content, batch, index)
                _answered(error, path, batch.offset(index))
        self.found.commands += len(batch.commands)

    def _in_unit(self, run: Run, argv: Argv, path: str, batch: Batch, index: int) -> None:
        """MULTI, EXEC or what stands between them, whose offsets are told by their unit's."""
        unit = self._unit
        if run is _multi:
            if unit is not None:
                raise FormatError(f"{path}: MULTI within MULTI", batch.offset(index))
            self._unit, self._unit_at = [], batch.offset(index)
        elif run is not _exec:
            assert unit is not None
            if run is _unknown or run is self._select:  # before anything of the unit is run
                look_for_hole(self._content, batch, index)
            unit.append(argv)
        elif unit is None:
            raise FormatError(f"{path}: EXEC without MULTI", batch.offset(index))
        else:
            self._unit = None
            self.found.units += 1
            for words in unit:
                try:
                    self._runs[words[0]](self._session, words)
                except StoreError as error:
                    _answered(error, path, self._unit_at)

    # What follows is called by name, from a log.

    def select(self, session: Session, argv: Argv) -> None:
        number = parse_int(argv[1]) if len(argv) == 2 else None
        if number is None or not 0 <= number < self._ctx.count:
            raise CommandRejected(f"there is no database to SELECT among {self._ctx.count}: {argv[1:]!r}")
        session.db = self._ctx.database(number)

    def function(self, session: Session, argv: Argv) -> None:
        """FUNCTION LOAD, DELETE, FLUSH and RESTORE: libraries are kept as they are, and run when all is read."""
        what = argv[1].upper() if len(argv) > 1 else b""
        libraries = self._ctx.libraries
        if what == b"LOAD":
            libraries[library_name(argv[-1], 0)] = argv[-1]
        elif what == b"DELETE" and len(argv) == 3:
            libraries.pop(argv[2], None)
        elif what == b"FLUSH":
            libraries.clear()
        elif what == b"RESTORE" and len(argv) > 2:
            sources = sources_in(argv[2])
            if argv[-1].upper() == FLUSH:
                libraries.clear()
            for source in sources:
                libraries[library_name(source, 0)] = source
        else:
            raise CommandRejected(f"a log cannot have FUNCTION {what.decode('latin-1')}")


def _answered(error: StoreError, path: str, at: int) -> None:
    """A command of a log has failed: as with real servers that is no reason not to start, unless nobody knows
    the command or would have let it run."""
    if isinstance(error, CommandRejected):
        raise FormatError(f"{path}: {error}", at) from None
    log.warning("%s: a command at offset %d answers %s", path, at, error)


class _Quiet:
    """Takes the listeners away and stops the time, while commands of a log run; and the cycle collector, which
    would look through all that was loaded again and again."""

    def __init__(self, ctx: Context):
        self._ctx = ctx
        self._listeners: list[Any] = []
        self._frozen: int | None = None
        self._collecting = False

    def begin(self) -> None:
        ctx = self._ctx
        self._collecting = gc.isenabled()
        gc.disable()
        self._listeners, self._frozen = ctx.listeners, ctx.frozen
        for listener in self._listeners:
            ctx.unlisten(listener)
        ctx.frozen, ctx.obeys = _LONG_AGO, True

    def end(self) -> None:
        ctx = self._ctx
        ctx.frozen, ctx.obeys = self._frozen, False
        if self._collecting:
            gc.enable()
        for listener in reversed(self._listeners):
            ctx.listen(listener)
        self._listeners = []


class _Runs(dict[bytes, Run]):
    """What to do for a command's name, however it is spelled; filled on first use of a name."""

    def __init__(self, replay: Replay):
        super().__init__()
        self._now = replay._ctx.clock.now_ms
        self._own: dict[str, Run] = {
            "MULTI": _multi,
            "EXEC": _exec,
            "SET": self._set(),
            "SELECT": replay.select,
            "FUNCTION": replay.function,
        }

    def _set(self) -> Run:
        """SET, which is most of many logs."""
        with_options = self._compiled("SET")

        def set_(session: Session, argv: Argv) -> Any:
            if len(argv) == 3:
                return session.db._put(argv[1], argv[2])
            return with_options(session, argv)

        return set_

    def __missing__(self, name: bytes) -> Run:
        upper = name.upper().decode("latin-1")
        run = self._own.get(upper) or self._compiled(upper)
        self[name] = run
        return run

    def _compiled(self, upper: str) -> Run:
        command = COMMANDS.get(upper)
        if command is None:
            return _unknown
        if command.subcommands and command.arity != -1:
            return _dispatched
        run = command.compile(TREE2)
        absolute = _RELATIVE.get(upper)
        return run if absolute is None else self._absolute(run, absolute)

    def _absolute(self, run: Run, absolute: Callable[[Argv, int], Argv]) -> Run:
        """Run a command whose times may be relative, which count from the time at which it is read."""
        now = self._now

        def run_absolute(session: Session, argv: Argv) -> Any:
            words = absolute(argv, now())
            return (run if words[0] is argv[0] else self[words[0]])(session, words)

        return run_absolute


def _multi(session: Session, argv: Argv) -> None:
    raise AssertionError("handled by Replay")


def _exec(session: Session, argv: Argv) -> None:
    raise AssertionError("handled by Replay")


def _unknown(session: Session, argv: Argv) -> None:
    raise CommandRejected(
        f"Unknown command '{argv[0][:64].decode('utf-8', 'replace')}' reading the append only file"
    )


def _dispatched(session: Session, argv: Argv) -> Any:
    """A command with subcommands, such as SCRIPT."""
    command = COMMANDS[argv[0].upper().decode("latin-1")]
    found = command.subcommands.get(argv[1].upper().decode("latin-1")) if len(argv) > 1 else None
    if found is None:
        return _unknown(session, argv)
    return found.compile(TREE2)(session, argv)


# -- relative times of foreign logs ------------------------------------------------------------------------


def _expire(to: bytes, unit_ms: int) -> Callable[[Argv, int], Argv]:
    """EXPIRE and its kin: the time is the third word."""

    def absolute(argv: Argv, now: int) -> Argv:
        amount = parse_int(argv[2]) if len(argv) > 2 else None
        if amount is None:
            return argv
        return [to, argv[1], b"%d" % (now + amount * unit_ms), *argv[3:]]

    return absolute


def _setex(unit_ms: int) -> Callable[[Argv, int], Argv]:
    def absolute(argv: Argv, now: int) -> Argv:
        amount = parse_int(argv[2]) if len(argv) == 4 else None
        if amount is None:
            return argv
        return [b"SET", argv[1], argv[3], b"PXAT", b"%d" % (now + amount * unit_ms)]

    return absolute


def _option(first: int) -> Callable[[Argv, int], Argv]:
    """SET and GETEX: EX or PX somewhere from the word ``first`` on."""

    def absolute(argv: Argv, now: int) -> Argv:
        for at in range(first, len(argv) - 1):
            unit_ms = _UNITS.get(argv[at].upper())
            if unit_ms and (amount := parse_int(argv[at + 1])) is not None:
                return [*argv[:at], b"PXAT", b"%d" % (now + amount * unit_ms), *argv[at + 2 :]]
        return argv

    return absolute


def _restore(argv: Argv, now: int) -> Argv:
    amount = parse_int(argv[2]) if len(argv) > 3 else None
    if not amount or any(word.upper() == b"ABSTTL" for word in argv[4:]):
        return argv
    return [*argv[:2], b"%d" % (now + amount), *argv[3:], b"ABSTTL"]


_UNITS: Final = {b"EX": 1000, b"PX": 1}
_RELATIVE: Final[dict[str, Callable[[Argv, int], Argv]]] = {
    "EXPIRE": _expire(b"PEXPIREAT", 1000),
    "PEXPIRE": _expire(b"PEXPIREAT", 1),
    "HEXPIRE": _expire(b"HPEXPIREAT", 1000),
    "HPEXPIRE": _expire(b"HPEXPIREAT", 1),
    "SETEX": _setex(1000),
    "PSETEX": _setex(1),
    "SET": _option(3),
    "GETEX": _option(2),
    "RESTORE": _restore,
}
