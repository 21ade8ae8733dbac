"""The files of one store: what its snapshot and its append-only log do, and when.

A server drives it from its loop: ``flush()`` before replies leave, ``jobs.turn()`` in every turn while those
are busy, ``tick()`` about ten times a second. A durable store in a program drives it by ``breathe()``, at the start of
calls that may grow the data.

Invariants
- At most one job, a snapshot or a rewrite of the log, walks the data at a time. It begins between units.
- A job begins where the log stands: the log's new increment has exactly what came after the snapshot.
- The data is read from files only into an empty store, and nothing that was loaded is logged.

Must not know: sockets, sessions, configuration files, how bytes are laid out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from kvstore.engine.context import Context
from kvstore.errors import MISCONF, FormatError, PersistenceError, ResponseError, StoreError, err
from kvstore.persist.aof import AppendLog
from kvstore.persist.figures import Figures
from kvstore.persist.fs import FileSystem, OsFileSystem, failed
from kvstore.persist.jobs import Jobs
from kvstore.persist.loading import Loader
from kvstore.persist.lock import DirectoryLock
from kvstore.persist.settings import Settings
from kvstore.persist.worker import ThreadWorker, Worker
from kvstore.persist.writers import base_writer, snapshot_writer

log = logging.getLogger("kvstore")

# After a snapshot by a save point failed, the next is not tried before that.
_RETRY_SAVE_MS: Final = 5000
# After so many failed rewrites in a row they are put off, for minutes that double up to the most.
_REWRITE_FAILURES: Final = 3
_MOST_RETRY_MINUTES: Final = 60
_TICK_MS: Final = 100
_MISCONF_LOG: Final = "MISCONF Errors writing to the AOF file: {}"


class Lock(Protocol):
    def release(self) -> None: ...


class Files:
    """Snapshots and log of the store of one context."""

    def __init__(
        self,
        ctx: Context,
        settings: Settings,
        *,
        fs: FileSystem | None = None,
        worker: Worker | None = None,
        lock: Callable[[str], Lock] = DirectoryLock,
        immediate: bool = False,
        on_refusal: Callable[[str | None], None] = lambda text: None,
    ):
        """``immediate``: each change is written before its call returns, as there is no loop to do it.
        ``on_refusal``: told why writes are to be refused from now on, or (None) that they are not."""
        self.ctx = ctx
        self.settings = settings
        self.fs: FileSystem = OsFileSystem() if fs is None else fs
        self.worker: Worker = ThreadWorker() if worker is None else worker
        self.figures = Figures(last_save_ms=ctx.now())
        self.jobs = Jobs(ctx, self.fs, self.worker, self.figures)
        self.log: AppendLog | None = None
        self._loader = Loader(ctx, settings, self.fs, self.figures.load)
        self._take_lock = lock
        self._immediate = immediate
        self._on_refusal = on_refusal
        self._refusal: str | None = None
        self._failed_at = -1  # how much the log had heard when it was last not written
        self._lock: Lock | None = None
        self._save_scheduled = self._rewrite_scheduled = False
        self._saved_changes = 0  # of all databases together, at the last snapshot
        self._job_changes = 0  # the same when the one under way began
        self._tried_save_ms = 0
        self._tried_rewrite_ms = 0
        self._rewrite_error = ""
        self._ticked_ms = 0
        ctx.keep_order()

    # -- loading -----------------------------------------------------------------------------------

    def load(self) -> Iterator[int]:
        """Fill the empty store from the files, then keep the log if there is to be one. Yields bytes read.

        The log counts where there is one; else the snapshot is read, and begins the log. Raises
        PersistenceError or FormatError for what cannot be read, which is left as it is.
        """
        if self.settings.appendonly:
            self._own_log_dir()
        yield from self._loader.load()
        self._loaded(weigh=self.figures.load.keys > 0)
        if self.settings.appendonly:
            self._open_log()

    def load_now(self) -> None:
        """As ``load``, in one go."""
        for _ in self.load():
            pass

    def _loaded(self, weigh: bool = True) -> None:
        if weigh:
            self.ctx.evictor.recount()
        self._saved_changes = self._changes()
        self.figures.last_save_ms = self.ctx.now()

    def _own_log_dir(self) -> None:
        path = self.settings.log_dir
        try:
            self.fs.mkdir(path)
            self.fs.sync_dir(self.settings.dir)  # or a crash could take it, and all that was synced in it
        except OSError as error:
            raise failed("make the directory", path, error) from error
        if self._lock is None:
            self._lock = self._take_lock(path)

    def reload(self, *, save: bool, flush: bool, merge: bool) -> None:
        """DEBUG RELOAD: write a snapshot and read it back. ``save``, ``flush``: whether to write, and to
        empty the store first; ``merge``: keys that are there already are replaced, else they are an error.

        Raises ResponseError, PersistenceError or FormatError; where the file cannot be read, the store is as
        it was, as it would be written over that file some time."""
        if save:
            self.save()
        if flush:
            if not save:
                self._loader.try_snapshot()
            self._empty()
            self._loader.load_snapshot()
        else:
            self._loader.merge_snapshot(replace=merge)
        self._loaded()

    def load_log(self) -> None:
        """DEBUG LOADAOF: empty the store and read the log back. Raises ResponseError without a log, and
        PersistenceError or FormatError where it cannot be read; the store is then as it was."""
        if self.log is None:
            raise err("Error trying to load the AOF files, check server logs.")
        self.log.flush()
        self._loader.try_log()
        self._empty()
        self._loader.load_log()
        self._loaded()

    def _empty(self) -> None:
        for db in self.ctx.databases.values():
            db._clear()

    # -- snapshots ---------------------------------------------------------------------------------

    def save(self) -> None:
        """SAVE: write a snapshot now. Raises ResponseError while one is under way, or if it fails."""
        if self.jobs.is_snapshot:
            raise err("Background save already in progress")
        try:
            self.save_to(self.settings.rdb_path)
        except (StoreError, OSError) as error:
            log.warning("%s", error)  # to nobody but the client: what INFO and refusals tell is of BGSAVE
            raise ResponseError("ERR") from error  # as the servers word it
        self._job_changes = self._changes()
        self._end_save(True)
        log.info("DB saved on disk")

    def save_to(self, path: str) -> None:
        """Write a snapshot to a file, whole or not at all. Raises PersistenceError."""
        directory, name = os.path.split(path)
        self.jobs.write_now(directory or ".", name, snapshot_writer(self.ctx, self.settings))

    def start_save(self, schedule: bool = False) -> str:
        """BGSAVE: begin a snapshot; what to tell the client. ``schedule``: later, if a rewrite is under way.

        Raises ResponseError."""
        if self.jobs.is_snapshot:
            raise err("Background save already in progress")
        if self.ctx.units or (self.jobs.any and schedule):
            self._save_scheduled = True
            return "Background saving scheduled"
        if self.jobs.any:
            raise err(
                "Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to "
                "schedule a BGSAVE whenever possible."
            )
        self._begin_save()
        return "Background saving started"

    def _begin_save(self) -> None:
        settings = self.settings
        self._save_scheduled = False
        self._job_changes, self._tried_save_ms = self._changes(), self.ctx.now()
        self.jobs.begin(settings.dir, settings.dbfilename, snapshot_writer(self.ctx, settings), self._saved)
        log.info("Background saving started")

    def _saved(self, name: str, error: BaseException | None) -> None:
        self.jobs.end(error)
        self._end_save(error is None)
        if error is None:
            log.info("Background saving terminated with success")
        else:
            log.warning("Background saving error: cannot write %s: %s", self.settings.rdb_path, error)

    def _end_save(self, ok: bool) -> None:
        figures = self.figures
        figures.save.last_ok = ok
        if ok:
            figures.save.count += 1
            figures.last_save_ms = self.ctx.now()
            self._saved_changes = self._job_changes
        self._tell_refusal()

    def flushed_all(self) -> None:
        """FLUSHALL: the snapshot on disk must not bring back what went, where there are save points."""
        if self.jobs.is_snapshot:
            self.jobs.cancel()
        if self.settings.save:
            try:
                self.save()
            except StoreError:
                pass  # the log has it, and the figures

    # -- the log -----------------------------------------------------------------------------------

    def _new_log(self) -> AppendLog:
        settings = self.settings
        return AppendLog(
            self.fs,
            self.worker,
            settings.log_dir,
            settings.appendfilename,
            policy=settings.appendfsync,
            now_ms=self.ctx.clock.now_ms,
            timestamps=settings.aof_timestamp_enabled,
            immediate=self._immediate,
            ctx=self.ctx,
        )

    def _open_log(self) -> None:
        """Keep the log from now on, which has all that is in the store; a new one begins with that."""
        fresh = not self._loader.has_log()
        made = self._new_log()
        if fresh:
            made.begin_apart()
            base = made.new_base_name(self.settings.aof_use_rdb_preamble)
            log.info("Creating AOF base file %s on server start", base)
            self.jobs.write_now(made.directory, base, base_writer(self.ctx, self.settings))
            made.replace_base(base)
        else:
            made.begin()
        self._listen(made)

    def _listen(self, made: AppendLog) -> None:
        self.log = made
        self.ctx.listen(made)

    def set_appendonly(self, on: bool) -> str | None:
        """CONFIG SET appendonly; a text where it cannot be done. The new log counts once its base is there."""
        if on == (self.log is not None):
            return None
        if not on:
            self._close_log()
            return None
        self._cancel_jobs()
        try:
            self._own_log_dir()
            made = self._new_log()
            made.begin_apart()
            self._listen(made)
            self._begin_rewrite(made)
        except (StoreError, OSError) as error:
            log.warning("%s", error)
            self._drop_log()
            return "Unable to turn on AOF. Check server logs."
        return None

    def _close_log(self) -> None:
        if self.jobs.rewritten is not None:
            self._cancel_jobs()
        closing = self.log
        if closing is not None:
            self.ctx.unlisten(closing)
            self.log = None
            closing.close()
        self._drop_log()

    def _drop_log(self) -> None:
        if self.log is not None:
            self.ctx.unlisten(self.log)
            self.log = None
        self._release_lock()
        self._tell_refusal()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def start_rewrite(self) -> str:
        """BGREWRITEAOF: begin to write the log anew; what to tell the client. Raises ResponseError."""
        if self.jobs.rewritten is not None:
            raise err("Background append only file rewriting already in progress")
        if self.jobs.any or self.ctx.units:
            self._rewrite_scheduled = True
            return "Background append only file rewriting scheduled"
        if not self._try_rewrite():
            raise err(
                "Can't execute an AOF background rewriting. Please check the server logs for more information."
            )
        return "Background append only file rewriting started"

    def compact(self) -> None:
        """Write the log anew, in one go. Raises PersistenceError; the log then goes on as it was."""
        if self.jobs.rewritten is None:
            self.jobs.finish()
            self._try_rewrite()
        self.jobs.finish()
        if not self.figures.rewrite.last_ok:
            raise PersistenceError(f"cannot write the log anew: {self._rewrite_error}")

    def _try_rewrite(self) -> bool:
        """Begin a rewrite; False, and a line in the log, where that fails."""
        self._rewrite_scheduled = False
        self._tried_rewrite_ms = self.ctx.now()
        written = self.log
        if written is not None and not self._immediate:
            # The increment is synced before another one begins. Most of that is done by the worker first.
            self.jobs.prepare(written)
            if written.sync_soon(lambda: self._synced_for_rewrite(written)):
                return True
        return self._rotate_and_begin(written)

    def _synced_for_rewrite(self, written: AppendLog) -> None:
        # Unless it was cancelled meanwhile, or its turn came in the middle of a unit.
        if self.jobs.rewritten is written and not self.jobs.walks:
            if self.ctx.units:
                self.jobs.cancel()
                self._rewrite_scheduled = True
            else:
                self._rotate_and_begin(written)

    def _rotate_and_begin(self, written: AppendLog | None) -> bool:
        try:
            if written is None:  # nobody keeps a log: the base is all there will be
                self._own_log_dir()
                written = self._new_log()
                written.begin_apart()
            else:
                written.rotate()
            self._begin_rewrite(written)
        except (StoreError, OSError) as error:
            log.warning("Can't rewrite append only file: %s", error)
            self._cancel_jobs()
            self._rewrite_error = str(error)
            self.figures.rewrite.last_ok = False
            self.figures.rewrite.failures += 1
            return False
        return True

    def _begin_rewrite(self, written: AppendLog) -> None:
        base = written.new_base_name(self.settings.aof_use_rdb_preamble)
        make = base_writer(self.ctx, self.settings)
        self.jobs.begin(written.directory, base, make, self._rewritten, rewritten=written)
        log.info("Background append only file rewriting started")

    def _rewritten(self, name: str, error: BaseException | None) -> None:
        written = self.jobs.rewritten
        assert written is not None
        if error is None:
            try:
                written.replace_base(name)
            except (StoreError, OSError) as failure:
                error = failure
        self.jobs.end(error)
        self._let_go(written)
        if error is None:
            self.figures.rewrite.count += 1
            log.info("Background AOF rewrite finished successfully")
        else:
            self._rewrite_error = str(error)
            log.warning("Background AOF rewrite failed: %s", error)
        self._tell_refusal()

    def _cancel_jobs(self) -> None:
        rewritten = self.jobs.rewritten
        self.jobs.cancel()
        self._let_go(rewritten)

    def _let_go(self, written: AppendLog | None) -> None:
        """No job needs this log any more, which may be one that nobody keeps."""
        if written is not None and written is not self.log:
            written.close()
        if self.log is None:
            self._release_lock()

    # -- from time to time -------------------------------------------------------------------------

    def tick(self) -> None:
        """What is due: the sync of each second, save points, rewrites. About ten times a second."""
        now = self._ticked_ms = self.ctx.now()
        self.worker.poll()
        written = self.log
        if written is not None:
            written.policy = self._policy()
            written.tick()
        if not (self.jobs.any or self.ctx.units):
            self._begin_due(now)
        self._tell_refusal()

    def _policy(self) -> str:
        """How the log is synced now: not beside a job that syncs much, where that is asked for."""
        settings = self.settings
        if settings.no_appendfsync_on_rewrite and self.jobs.walks:
            return "no"
        return settings.appendfsync

    def _begin_due(self, now: int) -> None:
        written = self.log
        if written is not None and written.needs_rewrite:
            if now - self._tried_rewrite_ms >= 1000:
                self._try_rewrite()
        elif self._rewrite_scheduled:
            self._try_rewrite()
        elif self._save_scheduled or self._is_save_due(now):
            self._begin_save()
        elif (
            written is not None
            and self.settings.wants_rewrite(written.size, written.base_size)
            and self._may_rewrite(now)
        ):
            log.info("Starting automatic rewriting of AOF")
            self._try_rewrite()

    def _is_save_due(self, now: int) -> bool:
        figures = self.figures
        passed = now - figures.last_save_ms
        if not self.settings.wants_save(self._changes() - self._saved_changes, passed):
            return False
        return figures.save.last_ok or now - self._tried_save_ms > _RETRY_SAVE_MS

    def _may_rewrite(self, now: int) -> bool:
        beyond = self.figures.rewrite.failures - _REWRITE_FAILURES
        if beyond < 0:
            return True
        minutes = min(1 << min(beyond, 10), _MOST_RETRY_MINUTES)
        return now - self._tried_rewrite_ms >= minutes * 60_000

    def _changes(self) -> int:
        """Changes since the store was made."""
        return sum(db.dirty for db in self.ctx.databases.values())

    def breathe(self) -> None:
        """What a loop would do in between, at the start of a call on a store that has none."""
        if self.ctx.units:
            return
        if self.jobs.walks:
            self.jobs.turn()
        now = self.ctx.now()
        if now - self._ticked_ms >= _TICK_MS:
            self.tick()

    # -- writing before answering --------------------------------------------------------------------

    def flush(self) -> bool:
        """Write what the turn has logged. False: it is not on the disk, and must be, so nobody may be told."""
        written = self.log
        if written is None:
            return True
        try:
            written.flush()
        except PersistenceError as error:
            if self._refusal is None:
                log.warning("%s", error)
            self._tell_refusal()
            heard, self._failed_at = self._failed_at, written.appended
            # What was refused or only read needs no disk: nobody has to be kept from its answer.
            return written.policy != "always" or heard == written.appended
        if self._refusal is not None:
            self._tell_refusal()
        return True

    def refusal(self) -> str | None:
        """Why writes are refused now: the last snapshot, or the last write of the log, failed."""
        written, settings = self.log, self.settings
        if written is not None and written.error is not None:
            return _MISCONF_LOG.format(written.error.rpartition(": ")[2])  # clients are told no paths
        if settings.stop_writes_on_bgsave_error and settings.save and not self.figures.save.last_ok:
            return MISCONF
        return None

    def _tell_refusal(self) -> None:
        text = self.refusal()
        if text != self._refusal:
            self._refusal = text
            self._on_refusal(text)

    # -- what INFO and others ask --------------------------------------------------------------------

    def last_save_ms(self) -> int:
        """When the data was last saved; the start counts."""
        return self.figures.last_save_ms

    @property
    def aof_enabled(self) -> bool:
        return self.log is not None

    @property
    def appended(self) -> int:
        """Bytes given to the log since the start."""
        return 0 if self.log is None else self.log.appended

    @property
    def synced(self) -> int:
        """How many of them are known to be on the disk."""
        return 0 if self.log is None else self.log.synced

    def fields(self) -> Iterator[tuple[str, Any]]:
        """INFO persistence, in its order."""
        now, figures, written = self.ctx.now(), self.figures, self.log
        yield from figures.snapshots(now, self._changes() - self._saved_changes)
        yield "aof_enabled", int(written is not None)
        yield "aof_rewrite_in_progress", int(self.jobs.rewritten is not None)
        yield "aof_rewrite_scheduled", int(self._rewrite_scheduled)
        yield from figures.rewrites(now)
        yield "aof_last_write_status", "err" if written is not None and written.error is not None else "ok"
        yield "aof_last_cow_size", 0
        yield "module_fork_in_progress", 0
        yield "module_fork_last_cow_size", 0
        if written is not None:
            yield "aof_current_size", written.size
            yield "aof_base_size", written.base_size
            yield "aof_pending_rewrite", int(self._rewrite_scheduled)
            yield "aof_buffer_length", written.buffered
            yield "aof_pending_bio_fsync", int(written.syncing)
            yield "aof_delayed_fsync", 0
        if figures.load.active:
            yield from figures.load.fields(now)

    # -- the end -----------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Never write what has been heard and is not yet written: it is part of a unit that stays unfinished."""
        if self.log is not None:
            self.log.forget()

    def close(self, save: bool | None = False, force: bool = False) -> StoreError | None:
        """Bring everything to the disk and let go of the files. May be called twice.

        ``save``: write a snapshot; None: where there are save points. When something could not be written,
        raises PersistenceError, and then everything goes on; with ``force`` it ends, and that is returned.
        """
        failure: StoreError | None = None
        self._cancel_jobs()
        try:
            if self.log is not None:
                self.log.flush()
                self.log.sync()
            if save or (save is None and self.settings.save):
                log.info("Saving the final RDB snapshot before exiting.")
                self.save_to(self.settings.rdb_path)
                log.info("DB saved on disk")
        except (PersistenceError, FormatError) as error:
            log.warning("Error trying to save the DB: %s", error)
            if not force:
                raise
            failure = error
        try:
            self._close_log()
        except PersistenceError as error:
            if not force:
                raise
            failure = failure or error
        self.worker.close()
        return failure
