"""Pipelines of a Store: calls gathered and run at once, with redis-py's rules.

A Store belongs to one thread, so the calls of ``execute()`` are one unit with no further ado: nothing
runs in between, and one time holds for all of them. ``watch()`` guards against what other clients of
the store, or this thread itself, changed since.

Must not know: what the calls do.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvstore.engine.bitmaps import BitFieldOperation
from kvstore.engine.keyspace import KeyT, to_bytes
from kvstore.errors import StoreError, WatchError

if TYPE_CHECKING:
    from kvstore.store import Store

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class Pipeline:
    """Every method of the Store is a method of the pipeline that queues the call and returns it.

    After ``watch()`` calls run at once, until ``multi()``.
    """

    def __init__(self, store: Store, transaction: bool = True, shard_hint: str | None = None):
        self._store = store
        self._calls: list[Call] = []
        self._session: Any = None  # made by the first watch()
        self._transaction = transaction
        self.explicit_transaction = False
        self.watching = False
        self.shard_hint = shard_hint

    def __getattr__(self, name: str) -> Any:
        method = None if name.startswith("_") else getattr(self._store, name)
        if not callable(method):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self.watching and not self.explicit_transaction:
            return getattr(self._store, name)(*args, **kwargs)
        self._calls.append((name, args, kwargs))
        return self

    def bitfield(self, key: KeyT, default_overflow: str | None = None) -> BitFieldOperation:
        """As the Store's; ``execute()`` of what it returns queues what was gathered."""
        return BitFieldOperation(lambda words: self._call("call", "BITFIELD", key, *words), default_overflow)

    def __len__(self) -> int:
        return len(self._calls)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.reset()

    def watch(self, *names: KeyT) -> bool:
        """Let ``execute()`` fail if one of the keys changes before it; calls run at once from now on."""
        if self.explicit_transaction:
            raise StoreError("Cannot issue a WATCH after a MULTI")
        if self._session is None:
            self._session = self._store.new_session()
        self._session.hub.watch(self._session, [to_bytes(name) for name in names])
        self.watching = True
        return True

    def unwatch(self) -> bool:
        """Forget the watched keys; calls are queued again."""
        if self._session is not None:
            self._session.hub.unwatch(self._session)
        self.watching = False
        return True

    def multi(self) -> None:
        """Queue calls from now on, after ``watch()``."""
        if self.explicit_transaction:
            raise StoreError("Cannot issue nested calls to MULTI")
        if self._calls:
            raise StoreError("Commands without an initial WATCH have already been issued")
        self.explicit_transaction = True

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run the queued calls; their results in order.

        Raises WatchError when a watched key changed; the first error of a call, with its place in the
        pipeline, after all calls have run (``raise_on_error=False``: errors stand in the results).
        """
        try:
            if self._session is not None and self.watching and self._changed():
                raise WatchError("Watched variable changed.")
            results = self._run()
        finally:
            self.reset()
        if raise_on_error:
            for result in results:
                if isinstance(result, StoreError):
                    raise result
        return results

    def _changed(self) -> bool:
        session = self._session
        for db, key in session.watched:
            session.hub.ctx.database(db)._peek(key)  # one that has just expired counts as changed
        return bool(session.tx_dirty)

    def _run(self) -> list[Any]:
        results: list[Any] = []
        with self._store.ctx.unit():
            for place, (name, args, kwargs) in enumerate(self._calls, 1):
                try:
                    results.append(getattr(self._store, name)(*args, **kwargs))
                except StoreError as error:
                    words = " ".join([name.upper(), *map(str, args)])
                    error.args = (f"Command # {place} ({words}) of pipeline caused error: {error}",)
                    results.append(error)
        return results

    def reset(self) -> None:
        """Forget the queue and the watched keys."""
        self._calls = []
        self.explicit_transaction = False
        self.watching = False
        if self._session is not None:
            self._session.close()
            self._session = None

    close = reset
    discard = reset

    def __del__(self) -> None:
        if self.__dict__.get("_session") is not None:
            self.reset()


def run_transaction(
    store: Store,
    func: Callable[[Pipeline], Any],
    watches: Sequence[KeyT],
    shard_hint: str | None,
    value_from_callable: bool,
    watch_delay: float | None,
) -> Any:
    """Run ``func`` with a watching pipeline until its EXEC goes through."""
    with store.pipeline(True, shard_hint) as pipe:
        while True:
            try:
                if watches:
                    pipe.watch(*watches)
                value = func(pipe)
                results = pipe.execute()
                return value if value_from_callable else results
            except WatchError:
                if watch_delay is not None and watch_delay > 0:
                    time.sleep(watch_delay)
