"""Clients of redis-py, and of libraries made from it, on lines instead of sockets.

Only the connection is another one: pools, pipelines, transactions, pub/sub, scripts, locks, retries and
response callbacks are the library's own. So is all that a connection does when it begins, ends or fails; what
each request takes, sending and reading, is short-cut here.

Must not know: commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kvstore.fake.library import (
    CLOSED,
    decoder,
    driver_info,
    habits,
    has_push_handlers,
    push_arguments,
    server_of,
)
from kvstore.fake.replies import Shaper
from kvstore.fake.shortcut import ShortCut, has_short_way
from kvstore.fake.words import Pack, words_in, words_of
from kvstore.resp import Push

if TYPE_CHECKING:
    from kvstore.fake.line import Exchange, Line
    from kvstore.fake.server import FakeServer


_ABOUT_DRIVER = frozenset(("driver_info", "lib_name", "lib_version", "connection_pool"))


class Shaping:
    """What the parsers of both kinds of connections know of their line, and of shapes."""

    library: ModuleType
    line: Line | None = None
    connection: Any = None
    hands_on = False  # whether handlers take what is pushed

    def follow(self: Any, connection: Any, line: Line) -> None:
        """Read from this line, for this connection."""
        self.line, self.connection = line, connection
        encoder = self.encoder = connection.encoder
        pushes = connection.protocol in (3, "3")
        self.hands_on = pushes and has_push_handlers(self.library)
        known = habits(self.library, pushes)
        self.raw = self.shaper = Shaper(self.parse_error, None, *known)
        if encoder.decode_responses:
            self.shaper = Shaper(self.parse_error, decoder(encoder), *known)

    def leave(self) -> None:
        self.line = self.connection = None

    def handle_push(self: Any, response: Any) -> Any:
        if hasattr(self, "push_handler_func"):  # redis-py 5.0
            return self.push_handler_func(response)
        return self.handle_push_response(response, *push_arguments(self.__class__))


class LineParser(Shaping):
    """Mixed in before a library's RESP3 parser: replies come from a line."""

    def on_connect(self, connection: Any) -> None:
        self.follow(connection, connection._sock)

    def on_disconnect(self) -> None:
        self.leave()

    def can_read(self, timeout: float | None) -> bool:
        if self.line is None:
            return False
        try:
            self.line.receive(timeout)
        except TimeoutError:
            return False
        return self.has_read()

    def has_read(self: Any) -> bool:
        """Whether there is a reply, where there is one or the end. Raises the library's ConnectionError at the end."""
        line = self.line  # another thread may have disconnected meanwhile
        if line is not None and line.out:
            return True
        raise self.library.ConnectionError(CLOSED)

    def read_response(
        self: Any, disable_decoding: bool = False, push_request: bool = False, **more: Any
    ) -> Any:
        """The next reply; what the server pushes goes to its handler. Raises TimeoutError."""
        timeout = more.get("timeout", self)
        if timeout is not None and not isinstance(timeout, (int, float)):
            timeout = self.connection.socket_timeout  # the library has a mark for what was not given
        shape = (self.raw if disable_decoding else self.shaper).shape
        while True:
            tree = self._next(timeout)
            response = shape(tree)
            if tree.__class__ is Push and self.hands_on:
                response = self.handle_push(response)
                if push_request:
                    return response
                continue
            if isinstance(response, self.library.ConnectionError):
                raise response
            return response

    def _next(self, timeout: float | None) -> Any:
        line = self.line
        if line is not None and not line.out:
            line.receive(timeout)
        if line is None or not line.out:
            raise self.library.ConnectionError(CLOSED)
        return line.out.popleft()


def placed(line: Line, connection: Any) -> Line:
    """The line. A node of a cluster tells its clients where they came to: that is where they come again."""
    if line.session.hub.node is not None and getattr(connection, "host", None):
        line.local_address = f"{connection.host}:{connection.port}"
    return line


@contextmanager
def greeting(line: Line) -> Iterator[None]:
    """What the library sends meanwhile is its own, and not of the code that uses it."""
    record, line.record = line.record, None
    try:
        yield
    finally:
        line.record = record


def words_for(connection: Any) -> Callable[[tuple[Any, ...], Pack], list[bytes]]:
    """What makes words of a connection's commands. Packers in C take every str as UTF-8, others ask the encoder."""
    packer, encoder = getattr(connection, "_command_packer", None), connection.encoder
    if packer is not None and not hasattr(packer, "encode"):
        own = f"{connection.parser.library.__name__}.connection"
        return words_of if packer.__class__.__module__ == own else words_in
    plain = encoder.encoding.lower() in ("utf-8", "utf8") and encoder.encoding_errors == "strict"
    return words_of if plain else words_in


class WordPacking:
    """What both kinds of connections do to requests, and to arguments that only sockets have."""

    parser: type
    exchange: Exchange

    def __init__(self: Any, *, exchange: Exchange, **kwargs: Any):
        self.exchange = exchange
        for name in [each for each in kwargs if each == "path" or each.startswith("ssl_")]:
            del kwargs[name]
        kwargs["parser_class"] = self.parser
        super().__init__(**kwargs)
        self.words = words_for(self)

    def packed(self: Any, *args: Any) -> Any:
        """A command as the library packs it."""
        return super().pack_command(*args)  # type: ignore[misc]

    def activate_maint_notifications_handling_if_enabled(self: Any, *args: Any, **kwargs: Any) -> Any:
        """redis-py 7 and later ask a server for notices of its maintenance, and go on where it has none, as is
        the case here; unless that is insisted on, they need not ask, nor look the host's address up for that."""
        if self.maint_notifications_config and self.maint_notifications_config.enabled is True:
            return super().activate_maint_notifications_handling_if_enabled(*args, **kwargs)  # type: ignore[misc]
        return self.not_asked()

    def pack_command(self: Any, *args: Any) -> list[Any]:
        return [[self.words(args, self.packed)]]

    def pack_commands(self: Any, commands: Any) -> list[Any]:
        words, packed = self.words, self.packed
        return [[words(tuple(args), packed) for args in commands]]


class LineConnection(WordPacking):
    """Mixed in before a library's connection over TCP: a line in the place of a socket."""

    has_sent = False  # the next command was sent already, and its reply is what is to be read

    def not_asked(self) -> None:
        """What asking for nothing gives."""

    def _connect(self) -> Line:
        return placed(self.exchange.open(), self)

    def on_connect(self: Any) -> None:
        with greeting(self._sock):
            super().on_connect()  # type: ignore[misc]

    def on_connect_check_health(self: Any, *args: Any, **kwargs: Any) -> None:
        with greeting(self._sock):
            super().on_connect_check_health(*args, **kwargs)  # type: ignore[misc]

    def connect(self: Any) -> None:
        if self._sock is None:
            super().connect()  # type: ignore[misc]

    def can_read(self: Any, timeout: float | None = 0, **more: Any) -> bool:
        line = self._sock
        if line is None or timeout != 0:
            return bool(super().can_read(timeout, **more))  # type: ignore[misc]
        return line.may_hear() and self._parser.has_read()  # type: ignore[no-any-return]

    def send_at_once(self: Any, args: tuple[Any, ...]) -> bool:
        """Send a command; whether its reply is there, and only has to be handed out. If not, ``has_sent`` says
        whether it was sent."""
        line = self._sock
        if line is None or self.health_check_interval:
            return False
        request = self.words(args, self.packed)
        try:
            line.send([request])
        except OSError:
            return False
        out = line.out
        if out and out[0].__class__ in self._parser.shaper.quick:
            return True
        self.has_sent = True
        return False

    def send_command(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.has_sent:
            self.has_sent = False
            return
        line = self._sock
        if line is None or self.health_check_interval:
            self.send_packed_command(self.pack_command(*args), kwargs.get("check_health", True))
            return
        request = self.words(args, self.packed)
        try:
            line.send([request])
        except OSError:
            self.send_packed_command([[request]], False)  # which knows how to fail

    def read_response(self: Any, disable_decoding: bool = False, **kwargs: Any) -> Any:
        line = self._sock
        if line is not None and not self.health_check_interval and (out := line.out):
            parser = self._parser
            shape = (parser.raw if disable_decoding else parser.shaper).quick.get(out[0].__class__)
            if shape is not None:
                try:
                    return shape(out.popleft())
                except ValueError:  # what cannot be decoded
                    if kwargs.get("disconnect_on_error", True):
                        self.disconnect()
                    raise
        return super().read_response(disable_decoding, **kwargs)  # type: ignore[misc]


class _Placed:
    """An attribute that puts each pool of connections on the client's server when it is set.

    It has no ``__get__``, so reading finds what is in the client itself, at no cost.
    """

    def __set__(self, client: Any, pool: Any) -> None:
        client.__dict__["connection_pool"] = pool
        kwargs = pool.connection_kwargs
        if client.server is None:
            client.server = kwargs.get("exchange") or client.new_server()
        pool.connection_class = client.connection_class
        kwargs["exchange"] = client.server


class LineClient:
    """Mixed in before a library's client: its connections are lines to ``server``."""

    library: ModuleType
    connection_class: type
    connection_pool = _Placed()

    def __init__(self: Any, *args: Any, server: FakeServer | None = None, **kwargs: Any):
        self.server = server
        if not kwargs.keys() & _ABOUT_DRIVER and (driver := driver_info(self.library)) is not None:
            kwargs["driver_info"] = driver
        super().__init__(*args, **kwargs)

    def new_server(self) -> FakeServer:
        from kvstore.fake.server import FakeServer

        return FakeServer()

    @classmethod
    def from_url(cls: Any, url: str, *, server: FakeServer | None = None, **kwargs: Any) -> Any:
        """A client of the server that a ``fake://name/db`` has the name of; of ``server``, or of one of its own,
        where the URL is another that the library knows."""
        single = kwargs.pop("single_connection_client", False)
        server, url = server_of(url, server, cls.library.__name__)
        pool = cls.pool_class.from_url(url, **kwargs)
        client = cls(connection_pool=pool, server=server, single_connection_client=single)
        client.auto_close_connection_pool = True
        return client


def client_on_lines(
    library: ModuleType, where: str, mixed_in: tuple[type, type, type], parser: str, name: str
) -> type:
    """The client of the library's package ``where`` that has the first mixed in, with a connection and a parser
    that have the others; ``parser`` is the one of RESP3 there, and ``name`` what the connection is called."""
    outer, inner = import_module(where), import_module(f"{where}.connection")
    parsers = import_module(f"{library.__name__}._parsers")
    client = getattr(outer, "Redis", None) or outer.Valkey
    of_client, of_connection, of_parser = mixed_in
    made = type("LineParser", (of_parser, getattr(parsers, parser)), {"library": library})
    return type(
        f"{name}{client.__name__}",
        (of_client, client),
        {
            "__module__": "kvstore.fake",
            "__doc__": client.__doc__,
            "library": library,
            "base": client,
            "connection_class": type(
                f"{name}Connection", (of_connection, inner.Connection), {"parser": made}
            ),
            "pool_class": inner.ConnectionPool,
        },
    )


class QuickClient(ShortCut, LineClient):
    """The same, and its commands go the short way where there is nothing to do on the long one."""


@cache
def client_class(library: ModuleType) -> type:
    """The client of the library, on lines."""
    name = library.__name__
    of_client = QuickClient if has_short_way(library) else LineClient
    return client_on_lines(library, name, (of_client, LineConnection, LineParser), "_RESP3Parser", "Fake")
