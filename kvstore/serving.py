"""``kvstore.serve``: a server inside a program, on a thread of its own or on this one.

The store belongs to the loop's thread while the server runs; other threads reach it by ``call``.

Must not know: how the server works.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from kvstore.commands import settings
from kvstore.commands.config import Config
from kvstore.errors import PersistenceError, StoreError
from kvstore.keeping import Keeper
from kvstore.net.server import Server
from kvstore.persist.settings import Settings
from kvstore.store import Store

if TYPE_CHECKING:
    from types import TracebackType

Result = TypeVar("Result")


class ServerThread:
    """A running server. Made by ``serve()``; leave its ``with`` block, or ``close()`` it, to stop it."""

    def __init__(self, config: Config, store: Store, free_port: bool, keeps_node: bool):
        self.store = store
        self._server = Server(store.ctx, config)
        keeper = Keeper(self._server, keeps_node)
        store.join(self._server.hub)
        self._thread: threading.Thread | None = None
        self._thread_id: int | None = None
        self._begun = threading.Event()  # _thread_id is known, or never will be
        self._done = threading.Event()  # nothing is asked of the loop any more
        self._closed = threading.Event()  # and nothing of the server is left
        self._lock = threading.Lock()  # between close() and call(): nothing is asked of a loop that is gone
        self._asked: set[Future[Any]] = set()
        try:
            _refuse_mixture(store, keeper.settings)
            for _ in keeper.load():
                pass
            if free_port:
                config.values["port"] = self._server.listen_tcp(config["bind"][0], 0)
            if not free_port or config["unixsocket"] or config["tls-port"]:
                self._server.listen(skip="tcp" if free_port else "")
        except BaseException:
            self._server.close()
            raise

    @property
    def urls(self) -> list[str]:
        """Where clients reach the server, as redis-py takes it; a Unix socket first."""
        return self._server.urls

    @property
    def url(self) -> str:
        """The first of ``urls``."""
        return self._server.urls[0]

    @property
    def port(self) -> int:
        """The TCP port, 0 without one."""
        return self._server.host.tcp_port

    @property
    def is_running(self) -> bool:
        """Whether the loop runs, on whatever thread."""
        return self._thread_id is not None and not self._done.is_set()

    # -- running -----------------------------------------------------------------------------------

    def start(self) -> ServerThread:
        """Run on a thread of its own. Entering the ``with`` block does it."""
        if self._thread is None and not self._done.is_set():
            self._thread = threading.Thread(target=self.run, name="kvstore-server", daemon=True)
            self._thread.start()
            self._begun.wait()  # until then call() and close() would take it for one that does not run
        return self

    def run(self) -> None:
        """Serve on this thread, until another thread calls ``close()`` or a client sends SHUTDOWN.

        Raises PersistenceError if the data could not be brought to the disk at the end."""
        with self._lock:
            if self._thread_id is not None or self._done.is_set():
                raise StoreError("the server has been started before")
            self._thread_id = threading.get_ident()
        self._begun.set()
        try:
            self._server.loop.run()
        finally:
            self._finish()
        if self._thread is None:
            self._tell_unsaved()

    def _tell_unsaved(self) -> None:
        unsaved, self._server.unsaved = self._server.unsaved, None
        if unsaved is not None:
            raise PersistenceError(str(unsaved))

    def _finish(self) -> None:
        with self._lock:
            self._done.set()
            self._begun.set()
            asked, self._asked = self._asked, set()
        for future in list(asked):
            future.cancel()
        try:
            self._server.close()
            self.store.join(None)
        finally:
            self._closed.set()

    def close(self) -> None:
        """Stop the server and close its connections. May be called twice, and from any thread.

        Raises PersistenceError if the data could not be brought to the disk, after all else is done: the
        store still has it."""
        with self._lock:
            running = self._thread_id is not None and not self._done.is_set()
            if running:
                self._server.loop.stop()
        if not running:
            if not self._done.is_set():
                self._finish()
        elif self._thread_id != threading.get_ident():
            self._closed.wait()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._closed.is_set():
            self._tell_unsaved()

    def __enter__(self) -> ServerThread:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the store ---------------------------------------------------------------------------------

    def call(self, fn: Callable[[Store], Result], timeout: float | None = None) -> Result:
        """Run ``fn(store)`` in the server's thread, between commands; its result, or its exception.

        Clients that wait for what it changes are served. Before the server is started and in its own
        thread it runs at once. Raises StoreError once the server is stopped, TimeoutError after
        ``timeout`` seconds (the call is then still made, if it has begun).
        """
        future: Future[Result] = Future()

        def unit() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = self._run_unit(fn)
            except BaseException as error:
                future.set_exception(error)
            else:
                self._server.loop.settled.append(lambda safe: _settle(future, result, safe))

        with self._lock:
            if self._done.is_set():
                raise StoreError("the server is stopped")
            here = self._thread_id is None or self._thread_id == threading.get_ident()
            if not here:
                self._asked.add(future)
                future.add_done_callback(self._asked.discard)
                self._server.loop.call_soon_threadsafe(unit)
        if here:
            return self._run_unit(fn)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise
        except CancelledError:
            raise StoreError("the server was stopped before the call was made") from None

    def _run_unit(self, fn: Callable[[Store], Result]) -> Result:
        try:
            return fn(self.store)
        finally:
            self._server.hub.settle()


def _settle(future: Future[Result], result: Result, safe: bool) -> None:
    """Give a result away, once what the call wrote is as safe as it is to be."""
    if safe:
        future.set_result(result)
    else:
        future.set_exception(PersistenceError("what the call wrote could not be logged"))


def _refuse_mixture(store: Store, settings: Settings) -> None:
    """A store that has data already cannot be filled from files. Raises StoreError."""
    found = [path for path in (settings.rdb_path, settings.log_dir) if os.path.exists(path)]
    keeps = settings.save or settings.appendonly
    if keeps and found and any(db._data for db in store.ctx.databases.values()):
        raise StoreError(f"the store has data already, and so has {found[0]}: one of them would be lost")


def serve(
    unix: str | os.PathLike[str] | None = None,
    port: int | None = None,
    *,
    store: Store | None = None,
    **directives: Any,
) -> ServerThread:
    """A server for this program's data.

        with kvstore.serve(unix="/tmp/kv.sock") as server:
            client = redis.Redis.from_url(server.url)
            server.call(lambda store: store.set("greeting", "hello"))

    ``unix``: path of a Unix socket. ``port``: a TCP port, 0 for any that is free; without both, a free
    one. It listens on 127.0.0.1 unless ``bind`` says otherwise. ``store``: one made with
    ``check_same_thread=False``, whose limits hold on; by default a new one. Other keywords are directives of the
    configuration, with underscores for hyphens: ``maxmemory="100mb"``. It serves from ``start()``, from
    the start of a ``with`` block, or in ``run()``; clients may connect before.
    Raises ConfigError for a directive and ListenError for an address that cannot be used.
    """
    config = Config()
    if store is not None:
        if store.is_served:
            raise StoreError("the store has a server already: nobody else can serve it")
        settings.adopt(config, store.ctx)
    config.assign("bind", "127.0.0.1")
    config.assign("save", "")  # a program's working directory is not ours to write to, unless it says so
    for name, value in directives.items():
        config.assign(name, value)
    free_port = port == 0 or (port is None and unix is None and "port" not in directives)
    if unix is not None:
        config.assign("unixsocket", os.path.abspath(unix))
    if free_port or port is not None or "port" not in directives:
        config.assign("port", port or 0)
    if store is None:
        store = Store(check_same_thread=False, databases=config["databases"])
    return ServerThread(
        config, store, free_port, keeps_node=bool({"dir", "cluster_config_file"} & {*directives})
    )
