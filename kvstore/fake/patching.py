"""Has the clients that a program makes itself talk to a fake server: redis-py's, and valkey-py's.

No name is replaced, so it does not matter how the code under test came by its client: ``redis.Redis``,
``from redis import Redis``, ``redis.from_url``, a pool, a client that a module made when it was imported. What
changes is the libraries' classes of connections, in the methods through which every use begins: a connection that
is used while a patch is on is *adopted*, which is to say that it gets a line in the place of its socket. When the
patch ends, it is the connection that it was, closed; whoever uses it next connects anew.

Invariants
- While a patch is on, no connection of these libraries sends anything to a network, whenever it was made.
- When it has ended, no connection has a line of its server.

Costs: entering and leaving, a few microseconds and something for each connection that was adopted; the libraries
are imported at the first entering. Must not know: commands.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from kvstore.fake.server import FakeServer

Test = TypeVar("Test", bound=Callable[..., Any])

LIBRARIES = ("redis", "valkey")
# Where every use of a connection begins: pools call the first, clients that hold a connection the others.
_ENTRANCES = ("connect", "connect_check_health", "send_command", "send_packed_command")
_CREDENTIALS = ("username", "password", "credential_provider")
_DEFAULT_PORT = 6379

_lock = threading.RLock()
_active: list[patched] = []  # the last one counts
spared: set[str] = set()  # addresses that patches leave alone, as a test has a server of its own there
_adopted: weakref.WeakSet[Any] = weakref.WeakSet()
_originals: list[tuple[type, str, Any]] = []


class patched:
    """While it is on, every client of redis-py and of valkey-py in this process talks to a fake server.

        with patched() as server:
            code_under_test()                  # makes its own redis.Redis(...), or has one already
            assert server.store.get("greeting") == b"hello"

        @patched()                             # a server of its own for each call; coroutines, too
        def test_greeting(): ...

    ``server``: the one to talk to, by default a new one. All addresses lead to it, and databases are told apart by
    their number. ``servers``: those of single addresses (``"cache.example:6379"``, a path of a socket, or a
    URL), where the code under test talks to several; None: what really is there. A service of sentinels has its name
    for an address. A server on which nobody was given a password
    takes any that a client is configured with. Patches may be nested; the inner one counts. O(connections adopted).

    Raises ImportError where neither library is installed, ValueError for an address that is none, TypeError as
    a decorator of what is no function or coroutine.
    """

    def __init__(
        self, server: FakeServer | None = None, *, servers: Mapping[str, FakeServer | None] | None = None
    ):
        if inspect.isfunction(server) or inspect.isclass(server):
            raise TypeError("patched takes a server: write @patched() with its parentheses")
        self._given = server
        self._servers = {_address(each): one for each, one in (servers or {}).items()}
        self._server: FakeServer | None = None

    def __enter__(self) -> FakeServer:
        from kvstore.fake.server import FakeServer

        with _lock:
            if self in _active:
                raise RuntimeError("this patch is on already")
            if not _active:
                _change_libraries()
            release_all()
            self._server = FakeServer() if self._given is None else self._given
            _active.append(self)
            return self._server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            _active.remove(self)
            release_all()
            self._server = None
            if not _active:
                _restore_libraries()

    @overload
    def __call__(self, test: type) -> Any: ...
    @overload
    def __call__(self, test: Test) -> Test: ...
    def __call__(self, test: Any) -> Any:
        """Decorate a function or a coroutine function."""
        if inspect.isgeneratorfunction(test) or inspect.isasyncgenfunction(test):
            raise TypeError(f"{test.__name__} is a generator: write 'with patched():' in it")
        if not inspect.isroutine(test):
            raise TypeError("patched decorates functions; a TestCase calls self.enterContext(patched())")
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def run(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await test(*args, **kwargs)
        else:

            @functools.wraps(test)
            def run(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return test(*args, **kwargs)

        return run

    @contextmanager
    def _again(self) -> Iterator[FakeServer]:
        """The same patch, on once more."""
        with patched(self._given, servers=self._servers) as server:
            yield server

    def server_for(self, connection: Any) -> FakeServer | None:
        """The server that a connection's address leads to; None if it is not to be adopted."""
        path = getattr(connection, "path", None)
        port = getattr(connection, "port", _DEFAULT_PORT)
        address = path or f"{getattr(connection, 'host', 'localhost')}:{port}"
        return None if address in spared else self._servers.get(address, self._server)


def _address(text: str) -> str:
    """An address in one form: ``host:port``, or the path of a socket. Raises ValueError."""
    if text.startswith("/"):
        return text
    parts = urlsplit(text if "://" in text else f"redis://{text}")
    if parts.scheme == "unix":
        return unquote(parts.path)
    if parts.scheme not in ("redis", "rediss", "valkey", "valkeys") or not parts.hostname:
        raise ValueError(f"an address is host:port, a socket's path or a URL, not {text!r}")
    return f"{parts.hostname}:{parts.port or _DEFAULT_PORT}"


# -- connections -------------------------------------------------------------------------------------------


class _Before:
    """What an adopted connection was, and is to be again."""

    def __init__(self, connection: Any):
        self.cls = connection.__class__
        self.parser = connection._parser
        self.credentials = {name: getattr(connection, name, None) for name in _CREDENTIALS}


def adopt(connection: Any, line_class: type) -> bool:
    """Put a connection on a line to the server of its address, and close its socket; whether it was done."""
    from kvstore.fake.sync import words_for

    with _lock:
        server = _active[-1].server_for(connection) if _active else None
        if server is None:
            return False
        before = _Before(connection)
        _close(connection)
        connection.__class__ = line_class
        connection.set_parser(connection.parser)
        _give_handlers(before.parser, connection._parser)
        connection.words = words_for(connection)
        connection.exchange = server
        connection.before_patch = before
        if _is_open(server):
            for name in _CREDENTIALS:
                setattr(connection, name, None)
        _adopted.add(connection)
        return True


def _is_open(server: FakeServer) -> bool:
    """Whether nobody was given a password, nor a name."""
    users = server.hub.users
    return users.default.nopass and len(list(users)) == 1


def release_all() -> None:
    """Make all connections that were adopted what they were."""
    with _lock:
        for connection in list(_adopted):
            before = connection.before_patch
            _close(connection)
            connection.__class__ = before.cls
            connection._parser = before.parser
            vars(connection).update(before.credentials)
            for name in ("words", "exchange", "before_patch"):
                del connection.__dict__[name]
        _adopted.clear()


def _close(connection: Any) -> None:
    """Close a socket or line, at once; an asyncio connection's loop may be another one, or gone."""
    if not hasattr(connection, "_writer"):
        connection.disconnect()
        return
    connection._parser.on_disconnect()
    writer = connection._writer
    connection._reader = connection._writer = None
    if writer is not None:
        with suppress(OSError, RuntimeError):
            writer.close()


def _give_handlers(old: Any, new: Any) -> None:
    """Have the new parser tell what is pushed to those whom the old one told."""
    for name, handler in vars(old).items():
        if name.endswith("_handler_func") and getattr(handler, "__self__", old) is not old:
            setattr(new, name, handler)


# -- libraries ---------------------------------------------------------------------------------------------


def _change_libraries() -> None:
    """Have all uses of connections begin here, and sentinels find what they look for. Raises ImportError."""
    found = [name for name in LIBRARIES if find_spec(name)]
    if not found:
        raise ImportError("patching needs redis-py or valkey-py: pip install 'kvstore[redis]'")
    for name in found:
        for line_class, base in _connection_classes(import_module(name)):
            for entrance in _ENTRANCES:
                if entrance in vars(base):
                    _replace(base, entrance, _entrance(vars(base)[entrance], line_class))
        for inner, master, replicas in (
            ("sentinel", _find_master, _find_replicas),
            ("asyncio.sentinel", _afind_master, _afind_replicas),
        ):
            sentinel = import_module(f"{name}.{inner}").Sentinel
            _replace(sentinel, "discover_master", master)
            _replace(sentinel, "discover_slaves", replicas)


def _replace(cls: type, name: str, method: Any) -> None:
    _originals.append((cls, name, vars(cls)[name]))
    setattr(cls, name, method)


def _restore_libraries() -> None:
    while _originals:
        cls, name, original = _originals.pop()
        setattr(cls, name, original)


# A service of sentinels is found at its own name.


def _find_master(sentinel: Any, service_name: str) -> tuple[str, int]:
    return service_name, _DEFAULT_PORT


def _find_replicas(sentinel: Any, service_name: str) -> list[tuple[str, int]]:
    return [(service_name, _DEFAULT_PORT)]


async def _afind_master(sentinel: Any, service_name: str) -> tuple[str, int]:
    return service_name, _DEFAULT_PORT


async def _afind_replicas(sentinel: Any, service_name: str) -> list[tuple[str, int]]:
    return [(service_name, _DEFAULT_PORT)]


def _entrance(original: Any, line_class: Callable[[type], type]) -> Any:
    """A method that adopts first what has no line."""
    from kvstore.fake.sync import WordPacking

    sends = original.__name__ == "send_command"  # which a connection with a line has a way of its own for

    @functools.wraps(original)
    def enter(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, WordPacking) and adopt(self, line_class(self.__class__)) and sends:
            return self.send_command(*args, **kwargs)
        return original(self, *args, **kwargs)

    return enter


@functools.cache
def _connection_classes(library: ModuleType) -> list[tuple[Callable[[type], type], type]]:
    """The library's sync and asyncio base class of connections, each with what makes a class of its lines."""
    from kvstore.fake.aio import AsyncLineConnection, async_client_class
    from kvstore.fake.sync import LineConnection, client_class

    def lines(mixin: type, client: Any) -> Callable[[type], type]:
        parser = client.connection_class.parser

        @functools.cache
        def line_class(cls: type) -> type:
            names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "parser": parser}
            return type(cls.__name__, (mixin, cls), names)

        return line_class

    name = library.__name__
    return [
        (
            lines(LineConnection, client_class(library)),
            import_module(f"{name}.connection").AbstractConnection,
        ),
        (
            lines(AsyncLineConnection, async_client_class(library)),
            import_module(f"{name}.asyncio.connection").AbstractConnection,
        ),
    ]
