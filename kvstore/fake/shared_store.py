"""The data of a fake server as a Store: for tests that look at it, or arrange it, past any client.

Each call runs alone among the clients' commands, whatever thread it comes from, and what it causes is done before it
returns: blocked clients are served, keyspace events sent. Iterators take a page at a time in this way. This wraps
the databases of the server, which stay what they are: as Stores, whose attributes are looked up in more ways, they
would cost each command a quarter more.

Faults, latency and users of the server are for clients, and the list of commands does not have these calls; what
needs a client (``client()``, ``pubsub()``, ``lock()``, redis-py's methods about servers) is one.

Must not know: lines, what the methods do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kvstore.engine.database import Database
from kvstore.engine.keyspace import EncodableT, KeyT
from kvstore.engine.store import decoding_view
from kvstore.errors import StoreError
from kvstore.pipeline import Pipeline
from kvstore.store import Store

if TYPE_CHECKING:
    import redis

    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session
    from kvstore.fake.server import FakeServer


def shared_store(server: FakeServer, index: int, decode_responses: bool = False) -> Store:
    """A numbered database of the server, for any thread. O(1)."""
    with server.alone():
        shared: Store = SharedStore.of(server, server.hub.ctx.database(index))
    return decoding_view(shared) if decode_responses else shared


class SharedStore(Store):
    """A Store on the data of a fake server, which any thread may call while clients are served."""

    DECODE_THEMSELVES = Store.DECODE_THEMSELVES | {"close", "join", "new_session", "of"}
    _raw: Any  # the database, or, of a view that decodes, the SharedStore
    is_served = True

    @classmethod
    def of(cls, server: FakeServer, raw: Database) -> SharedStore:
        """What the server's database ``raw`` is to others. O(1)."""
        made = object.__new__(cls)
        made._raw, made._server = raw, server
        made.ctx, made.index = raw.ctx, raw.index
        return made

    @property
    def _server(self) -> FakeServer:
        own: FakeServer | None = self.__dict__.get("server")
        return self._raw._server if own is None else own

    @_server.setter
    def _server(self, server: FakeServer) -> None:
        self.__dict__["server"] = server

    def database(self, index: int) -> Store:
        """Another numbered database of the server, for any thread as well. O(1)."""
        count = self.ctx.count
        if not 0 <= index < count:
            raise ValueError(f"index must be between 0 and {count - 1}")
        with self._server.alone():
            return SharedStore.of(self._server, self.ctx.database(index))

    def call(self, *words: EncodableT) -> Any:
        with self._server.alone():
            return super().call(*words)

    @property
    def _hub(self) -> Hub:
        return self._server.hub

    def new_session(self) -> Session:
        with self._server.alone():
            session = super().new_session()
            session.db = self.ctx.database(self.index)
            return session

    def join(self, hub: Hub | None) -> None:
        """Refused: the data is a fake server's already."""
        raise StoreError("the store of a FakeServer has a server already: nobody else can serve it")

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Gather calls and run them at once by ``execute()``, with no client's command in between."""
        return SharedPipeline(self, transaction, shard_hint)

    def pubsub(self, **kwargs: Any) -> Any:
        """redis-py's subscriber, of a client of the server: it may wait for messages."""
        client = self._new_client(decode_responses=self.decode_responses)
        subscriber = client.pubsub(**kwargs)  # type: ignore[no-untyped-call]
        subscriber.client = client  # which closes its connections when it goes
        return subscriber

    def _new_client(self, *, before: Callable[[], object] | None = None, **kwargs: Any) -> redis.Redis:
        """A client of the server, on this database."""
        try:
            import redis
        except ImportError as error:
            raise StoreError("redis-py is not installed: pip install 'kvstore[redis]'") from error
        from kvstore.fake.sync import client_class

        kwargs.setdefault("db", self.index)
        client: redis.Redis = client_class(redis)(server=self._server, **kwargs)
        return client

    def _close_clients(self) -> None:
        made, self._client_made = self._client_made, None
        if made is not None:
            made.close()
        session, self._session_made = self._session_made, None
        if session is not None:
            self._server.let_go(session.close)

    def __del__(self) -> None:
        session = self.__dict__.get("_session_made")
        if session is not None:
            self._server.let_go(session.close)


class SharedPipeline(Pipeline):
    """A pipeline whose calls and watched keys are looked at while nothing else is done."""

    def __init__(self, store: SharedStore, transaction: bool, shard_hint: str | None):
        super().__init__(store, transaction, shard_hint)
        self._server = store._server

    def watch(self, *names: KeyT) -> bool:
        with self._server.alone():
            return super().watch(*names)

    def unwatch(self) -> bool:
        with self._server.alone():
            return super().unwatch()

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with self._server.alone():
            return super().execute(raise_on_error)

    def reset(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._server.let_go(session.close)
        super().reset()

    close = reset
    discard = reset


def _alone(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        server = self._server
        with server.alone():
            result = getattr(self._raw, name)(*args, **kwargs)
        return _pages(server, result) if isinstance(result, Iterator) else result

    return call


def _pages(server: FakeServer, found: Iterator[Any]) -> Iterator[Any]:
    """Each step of an iterator alone."""
    done = object()
    while True:
        with server.alone():
            item = next(found, done)
        if item is done:
            return
        yield item


# What is about data runs in the server's database; what Store itself adds builds on that.
for _name in dir(Database):
    _method = getattr(Database, _name)
    _is_public = not _name.startswith("_") or _name in ("__contains__", "__delitem__")
    if _is_public and callable(_method) and getattr(Store, _name) is _method:
        setattr(SharedStore, _name, _alone(_name, _method))
