"""A Store whose data is in a directory: what ``kvstore.open(path)`` gives.

The files are those of a server with ``dir`` at the directory and ``appendonly yes``: ``dump.rdb`` and
``appendonlydir/``, which kvstore, Redis and Valkey servers read. Every change is in the kernel's hands when its
call returns, as one write of the log for each call outside a unit and for each unit.

Invariants
- A store that is open has the lock of its log's directory.
- What takes long, a rewrite of the log, goes on in slices at the start of later calls, never inside of one.
- A closed store has no data: every way to it raises, as what it answered could not be kept.

A process forked while a store is open has no part in it: there the store is closed, with nothing written.

Must not know: what the files hold, commands.
"""

from __future__ import annotations

import atexit
import functools
import os
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.engine.keyspace import Keyspace
from kvstore.errors import PersistenceError, StoreError
from kvstore.persist.files import Files
from kvstore.persist.fs import failed
from kvstore.persist.settings import Settings
from kvstore.store import Store

if TYPE_CHECKING:
    from kvstore.pipeline import Pipeline

POLICIES = ("always", "everysec", "no")
# Nanoseconds between two looks at what is due; while the log is being rewritten, so that no more than a
# third of the program's time goes into it.
_TICK_NS = 100_000_000
_SLICE_EVERY_NS = 3_000_000
_NEVER = 1 << 63

# Methods that a call of gives the files their time: those that change data, or begin what may.
WRITING = frozenset(
    """append bitfield bitop blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin call copy decr
    decrby delete delex delifeq expire expireat flushall flushdb function_delete function_flush
    function_load function_restore geoadd georadius georadiusbymember geosearchstore getdel getex getset
    hdel hexpire hexpireat hgetdel hgetex hincrby hincrbyfloat hmset hpersist hpexpire hpexpireat hset
    hsetex hsetnx incr incrby incrbyfloat increx linsert lmove lmpop lpop lpush lpushx lrem lset ltrim move
    mset msetex msetnx persist pexpire pexpireat pfadd pfcount pfmerge psetex rename renamenx restore rpop
    rpoplpush rpush rpushx sadd sdiffstore set setbit setex setnx setrange sinterstore smove sort spop srem
    sunionstore swapdb unlink xack xadd xautoclaim xclaim xdel xgroup_create xgroup_createconsumer
    xgroup_delconsumer xgroup_destroy xgroup_setid xreadgroup xsetid xtrim zadd zdiffstore zincrby
    zinterstore zmpop zpopmax zpopmin zrangestore zrem zremrangebylex zremrangebyrank zremrangebyscore
    zunionstore""".split()
)

_data_slot: Any = Keyspace.__dict__["_data"]


class Pulse:
    """Gives the files of one store their time: their work runs between calls, a slice now and then."""

    __slots__ = ("files", "next_ns", "why_closed")

    def __init__(self) -> None:
        self.files: Files | None = None
        self.next_ns = _NEVER
        self.why_closed = ""

    def begin(self, files: Files) -> None:
        self.files, self.next_ns = files, 0

    def beat(self, now_ns: int) -> None:
        """What is due. Called between units, in the store's thread."""
        files = self.files
        assert files is not None  # or it never beats
        files.breathe()
        self.next_ns = now_ns + (_SLICE_EVERY_NS if files.jobs.walks else _TICK_NS)

    def end(self, why: str) -> Files | None:
        """No more of it; the files, the first time."""
        files, self.files, self.next_ns = self.files, None, _NEVER
        if files is not None:
            self.why_closed = why
        return files


class DurableStore(Store):
    """A Store whose data is kept in the files of a directory.

    ``path``: the directory, made where there is none (its parent must be there). ``fsync``: when a change is
    safe from a crash of the machine: ``"always"``, before its call returns; ``"everysec"``, within about a second;
    ``"no"``, when the system likes. A crash of the process loses nothing that was returned. Other keywords are
    the Store's. Leave its ``with`` block, or ``close()`` it.

    Raises PersistenceError for a directory that cannot be used or that is in use, FormatError for files that
    cannot be read, which are left as they are; ValueError for another ``fsync``.
    """

    _pulse: Pulse

    def __init__(self, *, path: str, fsync: str = "everysec", **kwargs: Any):
        if fsync not in POLICIES:
            raise ValueError(f"fsync must be one of {', '.join(POLICIES)}")
        self._pulse = Pulse()
        super().__init__(**kwargs)
        directory = os.path.abspath(path)
        _make_directory(directory)
        settings = Settings(dir=directory, appendonly=True, appendfsync=fsync)
        files = Files(self.ctx, settings, immediate=True)
        try:
            files.load_now()
            # What ends a job refers to this store, and would keep it alive until somebody asks for it.
            files.worker.drain()
        except BaseException:
            files.close(force=True)
            raise
        self._pulse.begin(files)
        self._opened, self._opener = True, get_ident()
        _open_stores.add(self)

    _opened = False  # this is the object that close() is to be called of
    _opener = 0  # the thread that made it

    def _sibling(self, ctx: Context, index: int) -> Database:
        if self._pulse.why_closed:
            raise PersistenceError(self._pulse.why_closed)
        sibling = super()._sibling(ctx, index)
        assert isinstance(sibling, DurableStore)
        sibling._pulse = self._pulse
        return sibling

    def _files(self) -> Files:
        """The files, for a call of the thread to which the store belongs."""
        files = self._pulse.files
        if files is None:
            raise PersistenceError(self._pulse.why_closed)
        self._data  # noqa: B018 - refuses other threads
        return files

    def _give_time(self) -> None:
        """Let the files have theirs, before a call; refuses other threads before anything happens in them."""
        now_ns = monotonic_ns()
        pulse = self._pulse
        if now_ns >= pulse.next_ns:
            self._data  # noqa: B018
            pulse.beat(now_ns)

    # These run on a decoding Store too, whose data and files are those of its raw one.

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Gather calls and run them at once by ``execute()``; one unit, kept whole or not at all."""
        _raw(self)._give_time()
        return super().pipeline(transaction, shard_hint)

    def _new_client(self, **kwargs: Any) -> Any:
        return super()._new_client(before=_raw(self)._give_time, **kwargs)

    def snapshot(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write all data, as it is now, to an RDB file: by default ``dump.rdb`` in the directory. O(n).

        The file appears whole or not at all. Raises PersistenceError if it cannot be written.
        """
        files = self._files()
        files.save_to(files.settings.rdb_path if path is None else os.path.abspath(path))

    def compact(self) -> None:
        """Write the log anew, now and in one go, as short as the data is. O(n).

        It happens by itself, in slices of later calls, when the log is twice as long as after the last time
        and has 64 MB. Raises PersistenceError if it cannot be done; then the log goes on as it was.
        """
        files = self._files()
        if self.ctx.units:
            raise StoreError("compact() in a unit, whose end the log has yet to see")
        files.jobs.finish()  # one that has begun lacks what came since
        files.compact()

    def close(self) -> None:
        """Bring everything to the disk and let go of the directory; close clients and subscriptions too.

        After that every call raises PersistenceError. May be called twice. Of the object of another
        ``database()``: closes the clients and subscriptions that this object made, and nothing else.
        Raises PersistenceError if something could not be written; then the store is still open.
        """
        self._close_clients()
        if not self._opened or self._pulse.files is None:
            return
        directory = self._pulse.files.settings.dir
        self._files().close()
        self._end(f"the store in {directory} is closed")

    def _end(self, why: str, free: bool = True) -> None:
        """Have every way to the data raise. ``free`` it, or only hide it."""
        self._pulse.end(why)
        _open_stores.discard(self)
        for database in self.ctx.databases.values():
            if not free:
                database.__dict__["_hidden"] = _data_slot.__get__(database)
            elif database is not self and isinstance(database, Store):
                database._close_clients()
            _data_slot.__delete__(database)
            database.__class__ = _closed(type(database))

    def _abandon(self) -> None:
        """This process was forked from the one that has the files."""
        files = self._pulse.files
        if files is not None:
            why = f"the store in {files.settings.dir} was opened by the process that this one was forked from"
            # Freeing the data would copy the pages that the two processes share.
            self._end(why, free=False)

    def _close_forgotten(self) -> None:
        """Nobody will close it any more: bring to the disk what can be brought there, in whatever thread."""
        files = self._pulse.end("the program ends")
        if files is not None:
            try:
                files.close(force=True)
            except (StoreError, OSError) as error:
                warnings.warn(f"closing a store: {error}", ResourceWarning, stacklevel=2)

    def __del__(self) -> None:
        if not self.__dict__.get("_opened") or self._pulse.files is None:
            return
        if get_ident() == self._opener:
            self._close_forgotten()
        else:
            # The collector runs wherever it likes, also in the thread that syncs this store's file.
            Thread(target=self._close_forgotten, name="kvstore-close").start()


class _Closed:
    """Mixed in before the class of a store that is closed: nothing leads to its data any more."""

    _pulse: Pulse

    @property
    def _data(self) -> Any:
        raise PersistenceError(self._pulse.why_closed)

    _own = _data


_CLOSED: dict[type, type] = {}


def _closed(cls: type) -> type:
    """The closed variant of a class. Its objects become this, as ``__getattr__`` would slow down those that are open."""
    if cls not in _CLOSED:
        _CLOSED[cls] = type(
            cls.__name__, (_Closed, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__}
        )
    return _CLOSED[cls]


def _raw(store: DurableStore) -> DurableStore:
    """The store itself, of one that decodes."""
    raw: DurableStore = store.__dict__.get("_raw", store)
    return raw


def _giving_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if monotonic_ns() >= self._pulse.next_ns:
            self._give_time()
        return method(self, *args, **kwargs)

    return call


for _name in WRITING:
    setattr(DurableStore, _name, _giving_time(getattr(Store, _name)))

_open_stores: weakref.WeakSet[DurableStore] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for store in list(_open_stores):
        store._close_forgotten()


def _abandon_all() -> None:
    for store in list(_open_stores):
        store._abandon()


with suppress(AttributeError):  # where nothing is ever forked
    os.register_at_fork(after_in_child=_abandon_all)


def _make_directory(path: str) -> None:
    """Make a directory, if it is not there. Raises PersistenceError."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise PersistenceError(f"cannot open {path}: it is a file, and a store is a directory") from None
    except OSError as error:
        raise failed("make the directory", path, error) from None
