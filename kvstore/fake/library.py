"""What there is to know of a client library, redis-py or one that was made from it.

Must not know: stores, servers.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CLOSED = "Connection closed by server."


def decoder(encoder: Any) -> Callable[[bytes], str]:
    """Makes a str of bytes, as the connection's encoder does."""
    encoding, errors = encoder.encoding, encoder.encoding_errors
    if encoding.lower() in ("utf-8", "utf8") and errors == "strict":
        return bytes.decode
    return lambda raw: raw.decode(encoding, errors)


class Habits(NamedTuple):
    """What the parser that a library takes makes of replies that parsers differ in."""

    as_set: Callable[[list[Any]], Any]
    numbers: bool  # whether a big number is an int, or stays text
    as_push: Callable[[list[Any]], Any]


@cache
def habits(library: ModuleType, pushes: bool) -> Habits:
    """What the library's parser makes of sets, big numbers and pushes, which versions differ in, and hiredis and
    the library's own; asked of it once. ``pushes``: in RESP3, where they are told apart."""
    parsers = import_module(f"{library.__name__}._parsers")
    default = import_module(f"{library.__name__}.connection").DefaultParser
    as_push = (
        getattr(import_module("hiredis"), "PushNotification", list)
        if pushes and "Hiredis" in default.__name__
        else list
    )
    parser = (parsers._RESP3Parser if default is parsers._RESP2Parser else default)(socket_read_size=64)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        encoder = parsers.Encoder("utf-8", "strict", False)
        parser.on_connect(SimpleNamespace(_sock=ours, socket_timeout=5, encoder=encoder))
        theirs.sendall(b"~1\r\n+a\r\n(1\r\n")
        return Habits(type(parser.read_response()), isinstance(parser.read_response(), int), as_push)


@cache
def has_push_handlers(library: ModuleType) -> bool:
    """Whether the library's parser hands pushes to handlers; parsers on hiredis do since redis-py 6, and give them
    like replies before."""
    default = import_module(f"{library.__name__}.connection").DefaultParser
    return "RESP" in default.__name__ or hasattr(default, "handle_push_response")


@cache
def push_arguments(parser: type) -> tuple[Any, ...]:
    """What a parser's own handler of pushes takes beside the push: nothing or, in some versions, whether to leave
    it as bytes, and that nothing more is to be read."""
    handler = getattr(parser, "handle_push_response", None)
    return (False, True) if handler and "push_request" in inspect.signature(handler).parameters else ()


@cache
def driver_info(library: ModuleType) -> Any:
    """What a client of the library says of itself if it is not told otherwise; None in versions that do not ask.

    redis-py 8 reads the metadata of its package for each client that it makes, which takes 0.4 ms."""
    try:
        found = import_module(f"{library.__name__}.driver_info")
    except ImportError:
        return None
    return found.DriverInfo()


def server_of(url: str, server: Any, scheme: str) -> tuple[Any, str]:
    """The server that a URL is of, and the URL as the library understands it, whose own ``scheme`` is given."""
    parts = urlsplit(url)
    if parts.scheme != "fake":
        return server, url
    if server is None:
        from kvstore.fake.server import FakeServer

        server = FakeServer.named(parts.hostname or "")
    rest = url[url.index(":") + 1 :]
    return server, f"{scheme}:{rest if rest.startswith('//') else '//' + rest}"
