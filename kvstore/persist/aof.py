"""The append-only log: a listener that writes every effect to the newest increment of a chain of files.

What is on the disk is a manifest, a base and increments. Effects gather in a buffer and are written in whole
flushes; a unit of several effects stands between MULTI and EXEC, and no part of one is ever written alone.

Invariants
- A crash leaves a chain that can be read, and what is lost of it is an end of the stream: an increment has
  its name on the disk before the manifest names it, and is synced whole before anything is written to the
  next one; a base is synced before the manifest names it; a file goes only when no manifest names it but as
  history.
- What could not be written stays in the buffer, in order.
- Once something is in doubt (a sync failed, a file cannot be cut back to whole flushes) nothing is called
  safe until a new base, made from memory, has replaced what is in doubt: ``needs_rewrite`` asks for that.

Costs: a commit is one encoding and one append to a list, about 0.5 µs.
Must not know: the store, commands, how a base is made.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Final

from kvstore.engine.context import Context, Effect, Event, Listener
from kvstore.errors import PersistenceError
from kvstore.persist.cleaning import delete_files, leftovers
from kvstore.persist.fs import File, FileSystem, failed
from kvstore.persist.guard import guard_databases, unguard_databases
from kvstore.persist.increment import Increment, SecondSync
from kvstore.persist.manifest import (
    Manifest,
    base_name,
    file_of,
    increment_name,
    read_manifest,
    write_manifest,
)
from kvstore.persist.worker import Worker
from kvstore.resp import encode_request

POLICIES: Final = ("always", "everysec", "no")
_MULTI: Final = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"
# A sync of ``everysec`` begins so long after the last one began. With a tick each tenth of a second, what was
# written waits no longer than a second.
_SYNC_EACH_MS: Final = 900


class AppendLog(Listener):
    """The log of one store. Nothing is written before ``begin()`` or ``begin_apart()``.

    ``directory`` is the log's own; ``name`` the directive appendfilename. ``policy``: always, everysec, no.
    ``timestamps``: a line ``#TS:<seconds>`` wherever the second has changed. ``immediate``: there is no loop
    that flushes, so every commit outside a unit, and the end of every unit, writes at once, and syncs under
    always; while that fails, changes of the databases of ``ctx`` are refused before they are made.
    """

    def __init__(
        self,
        fs: FileSystem,
        worker: Worker,
        directory: str,
        name: str,
        *,
        policy: str,
        now_ms: Callable[[], int],
        timestamps: bool = False,
        immediate: bool = False,
        ctx: Context | None = None,
    ):
        self.directory = directory
        self.name = name
        self.policy = policy
        self.manifest = Manifest()
        self.base_size = 0
        self.syncing = False  # the worker is at it
        self._fs = fs
        self._worker = worker
        self._now_ms = now_ms
        self._timestamps = timestamps
        self._immediate = immediate
        self._ctx = ctx
        self._current: Increment | None = None
        self._older: list[Increment] = []  # of the chain, written by this log and complete
        self._older_size = 0  # bytes of all files of the chain but the current increment
        self._apart = False  # the manifest does not name the current increment
        # Why the chain of the manifest is given up, until there is a new base.
        self._broken: str | None = None
        self._failure: str | None = None  # of the last write
        self._behind = False  # memory may be ahead of the log: an error was raised in the middle of a change
        self._safe = 0  # position in the stream up to which all is on the disk, at least
        self._pieces: list[bytes] = []  # to be written; an effect each, with its SELECT
        self._held = False  # the first piece is what could not be written before
        self._unit_at = -1  # where in them the unit under way began
        self._unit_stamp = b""  # the timestamp that belongs before it
        self._db = -1
        self._second = 0
        self._synced_ms = 0
        self._each_second = SecondSync(_current_of(weakref.ref(self))) if immediate else None

    # -- beginning -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Go on with the log that is on the disk, after its last increment. Raises PersistenceError,
        FormatError.

        The increment and the names are synced first: what a killed process has written may be in the system's
        memory only, and was read from there; a manifest too.
        """
        self.manifest = read_manifest(self._fs, self.directory, self.name) or Manifest()
        if self.manifest.increments:
            last = self.manifest.increments[-1]
            file = self._open(self._fs.append, last.name)
            self._current = Increment(last.name, file, self._size(last.name), 0)
            self._current.sync()
            self._sync_names()
        else:
            self._current = self._add_increment(start=0)
        self._measure()
        self.base_size = self.size
        self._clean(temporary=True)

    def begin_apart(self) -> None:
        """Begin a log whose increment no manifest names yet: a chain on the disk, if there is one, stays what
        counts until ``replace_base``. Raises PersistenceError; FormatError where that chain's manifest
        cannot be read."""
        self.manifest = read_manifest(self._fs, self.directory, self.name) or Manifest()
        self._current = self._new_increment(self._free_increment(), start=0)
        self._apart = True

    # -- hearing -------------------------------------------------------------------------------------

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        if effect:
            piece = encode_request(effect)
            if db != self._db or self._timestamps:
                piece = self._prefix(db) + piece
            self._pieces.append(piece)
            if self._immediate and self._unit_at < 0:
                self._write_through()

    def _prefix(self, db: int) -> bytes:
        """What goes before an effect: the second, if it has changed, and the database, if that has."""
        prefix = b""
        if self._timestamps:
            second = self._now_ms() // 1000
            if second != self._second:
                self._second = second
                stamp = b"#TS:%d\r\n" % second
                # Tools that cut a log at a moment do not look for one inside of a transaction.
                if self._unit_at < 0:
                    prefix = stamp
                elif not self._unit_stamp:
                    self._unit_stamp = stamp
        if db != self._db:
            self._db = db
            prefix += encode_request((b"SELECT", b"%d" % db))
        return prefix

    def on_unit(self, begins: bool) -> None:
        if begins:
            self._unit_at = len(self._pieces)
            return
        at, self._unit_at = self._unit_at, -1
        if at < 0:  # it began before the log listened
            return
        pieces = self._pieces
        effects = len(pieces) - at
        if effects > 1:
            pieces.insert(at, self._unit_stamp + _MULTI)
            pieces.append(_EXEC)
        elif effects:
            pieces[at] = self._unit_stamp + pieces[at]
        self._unit_stamp = b""
        if self._immediate and effects:
            self._write_through()

    def _write_through(self) -> None:
        """For a store without a loop: nobody returns from a change before it is written."""
        try:
            self.flush()
        except PersistenceError:
            # Whoever made the change hears of it in the middle of making it.
            self._behind = True
            if self._ctx is not None:
                guard_databases(self._ctx, self._mend)
            raise

    def _mend(self) -> None:
        """Before a change, while the log is broken: try once more. Raises PersistenceError."""
        self.flush()
        if self._ctx is not None:
            unguard_databases(self._ctx)

    # -- what is where -------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Bytes that are yet to be written."""
        return sum(map(len, self._pieces))

    @property
    def appended(self) -> int:
        """Bytes of the stream that the log was given since it began."""
        return self._written + self.buffered

    @property
    def _written(self) -> int:
        return 0 if self._current is None else self._current.end

    @property
    def synced(self) -> int:
        """How many of them are known to be on the disk."""
        current = self._current
        if current is None or self.error_of_files is not None:
            return self._safe
        self._safe = max(self._safe, current.synced)
        return self._safe

    @property
    def size(self) -> int:
        """Bytes of the files of the log."""
        return self._older_size + (0 if self._current is None else self._current.size)

    @property
    def error_of_files(self) -> str | None:
        """Why what was written is in doubt; None when it is not."""
        if self._broken is not None:
            return self._broken
        current = self._current
        if current is not None and current.doubt is not None:
            return current.doubt
        return next((each.doubt for each in self._older if each.doubt is not None), None)

    @property
    def error(self) -> str | None:
        """Why the last write or sync failed; None when all is well."""
        return self._failure or self.error_of_files

    @property
    def needs_rewrite(self) -> bool:
        """Whether only a new base can make the log whole again."""
        return self._apart or self._behind or self.error_of_files is not None

    # -- writing -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is buffered; under always, sync it.

        Raises PersistenceError when that fails, and as long as anything is in doubt. What failed to be
        written stays in the buffer. A unit under way stays there too: it is written when it is whole.
        """
        current = self._current
        if current is None:
            return
        if self._pieces:
            self._write(current)
        doubt = self.error_of_files
        if doubt is not None:
            raise PersistenceError(doubt)
        if current.synced < current.end and self.policy == "always":
            current.sync()

    def _write(self, current: Increment) -> None:
        pieces = self._pieces
        whole = len(pieces) if self._unit_at < 0 else self._unit_at
        if not whole:
            return
        data = pieces[0] if whole == 1 else b"".join(pieces[:whole])
        try:
            current.write(data)
        except PersistenceError as error:
            self._failure = str(error)
            self._shift(whole, data)
            raise
        self._failure = None
        self._shift(whole)
        if self._each_second is not None and self.policy == "everysec":
            self._each_second.written()

    def _shift(self, whole: int, *first: bytes) -> None:
        """Put other pieces in the place of the first ``whole``."""
        self._pieces[:whole] = first
        self._held = bool(first)
        if self._unit_at >= 0:
            self._unit_at = len(first)

    def forget(self) -> None:
        """Never write what was heard since the last flush, as the unit that it is part of stays unfinished."""
        del self._pieces[self._held :]
        self._unit_at = -1
        self._unit_stamp = b""
        self._db = -1  # a SELECT may be among what goes

    def sync(self) -> None:
        """Have what was written on the disk now. Raises PersistenceError."""
        doubt = self.error_of_files
        if doubt is not None:
            raise PersistenceError(doubt)
        if self._current is not None:
            self._current.sync()

    def tick(self) -> None:
        """From time to time, about ten times a second: the sync of everysec, another try at what failed."""
        current = self._current
        if current is None:
            return
        if self._failure is not None or (self.policy == "always" and current.synced < current.end):
            # The latter: what was written while something else was in doubt, and nothing after it.
            try:
                self.flush()
            except PersistenceError:
                return
        if self._immediate and self._ctx is not None and self.error_of_files is not None:
            guard_databases(self._ctx, self._mend)  # a sync has failed in the thread that syncs each second
        if self.policy == "everysec" and current.synced < current.end and not self.syncing:
            passed = self._now_ms() - self._synced_ms
            # A clock that was set back does not put syncs off.
            if (passed >= _SYNC_EACH_MS or passed < 0) and current.lost is None and not self._immediate:
                self._synced_ms = self._now_ms()
                self.syncing = True
                self._worker.submit(current.sync, self._sync_ended)

    def sync_soon(self, done: Callable[[], None]) -> bool:
        """Have the worker sync what was written, and call ``done``; False if there is nothing to sync, or no
        use in it."""
        current = self._current
        if current is None or current.synced == current.end or self.error is not None:
            return False
        self.syncing = True

        def ended(error: BaseException | None) -> None:
            self._sync_ended(error)
            done()

        self._worker.submit(current.sync, ended)
        return True

    def _sync_ended(self, error: BaseException | None) -> None:
        self.syncing = False  # the increment knows of a failure

    # -- rewriting -----------------------------------------------------------------------------------

    def rotate(self) -> None:
        """Begin a new increment, as a rewrite begins: what is committed from now on comes after its snapshot.

        Raises PersistenceError; then the present increment stays the one that is written to.

        The old increment is synced first. If it were not, a crash could take its end and leave what came
        later, or leave it torn where only the last file may be. Where it cannot be made safe any more, the
        new increment stays out of the manifest: the old chain ends with the file that is in doubt, which
        may lose its end, and the new base is going to replace all of it.
        """
        old = self._current
        assert old is not None
        try:
            self.flush()
            old.sync()
        except PersistenceError:
            if self.error_of_files is None:
                raise
            self._rotate_apart(old)
            return
        if self._apart:
            self._rotate_apart(old)
            return
        self._current = self._add_increment(start=old.end)
        self._safe = max(self._safe, old.end)
        self._older.append(old)
        self._older_size += old.size
        self._retire(old)

    def _rotate_apart(self, old: Increment) -> None:
        """Give up what is in doubt: from here to the next base nothing counts but the chain as it is."""
        broken, safe = self.error_of_files, self.synced
        # The new base has what the buffer has.
        made = self._new_increment(self._free_increment(), start=old.end + self.buffered)
        self._broken, self._safe = broken, safe
        self._apart, self._failure = True, None
        self._pieces.clear()
        self._held = False
        self._current = made
        self._retire(old)

    def replace_base(self, base: str) -> None:
        """End a rewrite: the file ``base``, which is on the disk, and the increment since ``rotate`` or
        ``begin_apart`` are the log now. All other files are history, which the worker deletes.

        Raises PersistenceError; the old chain then counts as before, and nothing is deleted.
        """
        current = self._current
        assert current is not None
        new, this = file_of(self.name, base), file_of(self.name, current.name)
        assert new is not None and this is not None
        increment = this if self._apart else self.manifest.increments[-1]
        self._change_manifest(self.manifest.with_base(new, (increment,)))
        self._safe = max(self._safe, current.start)
        self._older.clear()
        self._apart = self._behind = False
        self._broken = None
        self._measure()
        self.base_size = self.size
        self._clean()

    def new_base_name(self, rdb: bool) -> str:
        """A name for the next base, which no file has: ``rdb``, in the format of snapshots."""
        seq = self.manifest.next_base()
        while any(self._is_taken(base_name(self.name, seq, kind)) for kind in (False, True)):
            seq += 1
        return base_name(self.name, seq, rdb)

    def _free_increment(self) -> int:
        """The number of the next increment. A file that is there already and has something in it is not
        overwritten, although no manifest names it."""
        seq = self.manifest.next_increment()
        current = self._current
        while self._is_taken(name := increment_name(self.name, seq)) or (
            current is not None and name == current.name
        ):
            seq += 1
        return seq

    def _is_taken(self, name: str) -> bool:
        path = os.path.join(self.directory, name)
        try:
            return self._fs.exists(path) and self._fs.size(path) > 0
        except OSError as error:
            raise failed("read", path, error) from error

    def _new_increment(self, seq: int, start: int) -> Increment:
        """A new, empty increment, whose name is on the disk; no manifest names it yet."""
        name = increment_name(self.name, seq)
        file = self._open(self._fs.create, name)
        try:
            self._sync_names()
        except PersistenceError:
            file.close()
            raise
        self._db = -1  # whoever reads it begins with no database
        self._second = 0
        return Increment(name, file, 0, start)

    def _sync_names(self) -> None:
        try:
            self._fs.sync_dir(self.directory)
        except OSError as error:
            raise failed("sync", self.directory, error) from error

    def _add_increment(self, start: int) -> Increment:
        """A new increment at the end of the manifest."""
        seq = self._free_increment()
        made = self._new_increment(seq, start)
        try:
            self._change_manifest(self.manifest.with_increment(made.name, seq))
        except PersistenceError:
            made.close()
            raise
        return made

    def _change_manifest(self, changed: Manifest) -> None:
        """Have another manifest count. If that fails the one that counts is still the present one.

        The error may have come after the new one got its name, so the present one is written again. Where
        that fails too either may be found after a crash; both can be read, as the files of both are kept.
        (A new increment that is named too early is empty, and a reader of ours takes the one before it for
        the last.)
        """
        present = self.manifest
        try:
            write_manifest(self._fs, self.directory, self.name, changed)
        except PersistenceError:
            if present.files:
                try:
                    write_manifest(self._fs, self.directory, self.name, present)
                except PersistenceError:
                    pass
            raise
        self.manifest = changed

    def _retire(self, old: Increment) -> None:
        """Close a file that is not written to any more, after a sync of it that may be under way."""
        self._worker.submit(old.close, lambda error: None)

    def _clean(self, temporary: bool = False) -> None:
        """Have the worker delete history and what crashes have left, and then forget the history.

        ``temporary``: temporary files too, which nobody is writing. What fails of it is done again after the
        next rewrite or start.
        """
        manifest = self.manifest
        history = {file.name for file in manifest.history}
        gone = history - {file.name for file in manifest.files}
        gone |= leftovers(self._fs, self.directory, self.name, manifest, temporary=temporary)

        def deleted(error: BaseException | None) -> None:
            # A closed log does not own its directory any more.
            if error is None and history and self._current is not None:
                try:
                    self._change_manifest(self.manifest.without_history(history))
                except PersistenceError:
                    pass

        if gone or history:
            names = sorted(gone)
            self._worker.submit(lambda: delete_files(self._fs, self.directory, names), deleted)

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write and sync what there is, and close the file, whatever happens. May be called twice.
        Raises PersistenceError."""
        current, each_second = self._current, self._each_second
        if current is None:
            return
        try:
            self.flush()
            self.sync()
        finally:
            if each_second is not None:
                each_second.close()
            if self._ctx is not None:
                unguard_databases(self._ctx)
            self._safe = self.synced
            self._current = None
            current.close()

    # -- files ---------------------------------------------------------------------------------------

    def _open(self, how: Callable[[str], File], name: str) -> File:
        path = os.path.join(self.directory, name)
        try:
            return how(path)
        except OSError as error:
            raise failed("open", path, error) from error

    def _size(self, name: str) -> int:
        path = os.path.join(self.directory, name)
        try:
            return self._fs.size(path)
        except OSError as error:
            raise failed("read", path, error) from error

    def _measure(self) -> None:
        """Learn anew how large the files before the current increment are."""
        current = self._current
        names = [file.name for file in self.manifest.files if current is None or file.name != current.name]
        self._older_size = sum(map(self._size, names))


def _current_of(log: weakref.ref[AppendLog]) -> Callable[[], Increment | None]:
    """Asks for the current increment of a log, and does not keep alive a store that nobody has any more."""

    def current() -> Increment | None:
        found = log()
        return None if found is None else found._current

    return current
