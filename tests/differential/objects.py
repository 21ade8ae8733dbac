"""Servers as a client library's users see them: replies are Python objects, of a fake and of a real server alike.

An ``ObjectServer`` stands in the place of a ``Server`` in a ``Pair``. Its clients are connections of redis-py, sync or
asyncio; each object that they give is written down as RESP, in one way for each type and value, so that the same
comparisons, and the same printing and shrinking, say where two of them differ.

Must not know: any command's meaning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff

from kvstore.fake import FakeAsyncRedis, FakeRedis, FakeServer
from tests.rawclient import Word, parse, to_bytes
from tests.servers import Server

# What servers say as a status, which clients give like any string; the runner knows them by that.
_STATUSES = frozenset(b"OK QUEUED PONG RESET string list set hash zset stream none".split())


class ObjectServer:
    """A real server, or (None) a fake one, whose clients are redis-py's: ``asyncio``, or those that block."""

    def __init__(self, real: Server | None, *, asyncio: bool = False):
        self.real = real
        self.asyncio = asyncio
        self.kind = "kvstore" if real is None else real.kind
        self.fake = FakeServer(config={"enable-debug-command": "yes"}) if real is None else None

    def client(self, timeout: float = 10.0) -> ObjectClient:
        """A new connection."""
        return (AsyncObjectClient if self.asyncio else ObjectClient)(self, timeout)

    def pool(self, **options: Any) -> Any:
        """A pool of connections to it."""
        library: Any = redis.asyncio if self.asyncio else redis
        retry = (redis.asyncio.retry if self.asyncio else redis.retry).Retry(NoBackoff(), 0)
        if self.real is None:
            client: Any = FakeAsyncRedis if self.asyncio else FakeRedis
            return client(server=self.fake, retry=retry, **options).connection_pool
        return library.ConnectionPool(
            connection_class=library.UnixDomainSocketConnection, path=self.real.unix, retry=retry, **options
        )

    def alive(self) -> bool:
        return self.real is None or self.real.alive()

    def log(self) -> str:
        return "" if self.real is None else self.real.log()


class ObjectClient:
    """One connection of the library; what a ``RawClient`` does, with objects written down as RESP."""

    def __init__(self, server: ObjectServer, timeout: float):
        self.server = server
        self.timeout = timeout
        self.number = 0
        self._open(2)

    def __enter__(self) -> ObjectClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, protocol: int) -> None:
        self._pool = self.server.pool(protocol=protocol, socket_timeout=self.timeout)
        self.connection = self._pool.get_connection()

    def close(self) -> None:
        self.connection.disconnect()

    def hello3(self) -> bytes:
        """Begin anew in RESP3, which a library's connection speaks from its beginning or never."""
        self.close()
        self._open(3)
        self.number = int(parse(self.call("CLIENT", "ID")).text)
        return b"%0\r\n"

    def send(self, *argv: Word) -> None:
        words = [to_bytes(word) for word in argv]
        _translated(lambda: self._send(words))

    def _send(self, words: list[bytes]) -> None:
        self.connection.send_command(*words)

    def _read(self) -> Any:
        return self.connection.read_response(push_request=True)

    def _has_reply(self) -> bool:
        return bool(self.connection.can_read(0))

    def read_reply_bytes(self, timeout: float | None = None) -> bytes:
        return _translated(lambda: written(self._read()))

    def call(self, *argv: Word, timeout: float | None = None) -> bytes:
        """One request, one reply."""
        self.send(*argv)
        return self.read_reply_bytes()

    def pipeline(self, *commands: tuple[Word, ...]) -> list[bytes]:
        return [self.call(*argv) for argv in commands]

    def read_available(self) -> list[bytes]:
        """All replies that have arrived, without waiting. Raises EOFError when the server closed."""
        replies: list[bytes] = []
        try:
            while _translated(self._has_reply):
                replies.append(self.read_reply_bytes())
        except EOFError:
            if not replies:
                raise
        return replies


class AsyncObjectClient(ObjectClient):
    """One asyncio connection, and the event loop that it is used in."""

    def _open(self, protocol: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._pool = self.server.pool(protocol=protocol, socket_timeout=self.timeout)
        self.connection = self._loop.run_until_complete(self._pool.get_connection())

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.run_until_complete(self.connection.disconnect())
            self._loop.close()

    def _send(self, words: list[bytes]) -> None:
        self._loop.run_until_complete(self.connection.send_command(*words))

    def _read(self) -> Any:
        return self._loop.run_until_complete(self.connection.read_response(push_request=True))

    def _has_reply(self) -> bool:
        async def has_reply() -> bool:
            for _ in range(3):  # for a stream to take what has arrived
                await asyncio.sleep(0)
            if self.connection._reader is None:
                raise redis.ConnectionError("closed")
            return bool(await self.connection.can_read())

        return self._loop.run_until_complete(has_reply())


def _translated(act: Callable[[], Any]) -> Any:
    """With the errors that a ``RawClient`` raises."""
    try:
        return act()
    except redis.TimeoutError as error:
        raise TimeoutError(str(error)) from error
    except redis.ConnectionError as error:
        raise EOFError(str(error)) from error
    except redis.ResponseError as error:
        return written(error)


def written(value: Any) -> bytes:
    """An object as RESP: equal for equal objects of the same types, and for no others."""
    if isinstance(value, bytes):
        return b"+%b\r\n" % value if value in _STATUSES else b"$%d\r\n%b\r\n" % (len(value), value)
    if value is None:
        return b"_\r\n"
    if isinstance(value, bool):
        return b"#t\r\n" if value else b"#f\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, float):
        return b",%b\r\n" % repr(value).encode()
    if isinstance(value, (list, tuple)):
        mark = b"*" if type(value) is list else b">"
        return b"%b%d\r\n" % (mark, len(value)) + b"".join(map(written, value))
    if isinstance(value, (set, frozenset)):
        return b"~%d\r\n" % len(value) + b"".join(sorted(map(written, value)))
    if isinstance(value, dict):
        return b"%%%d\r\n" % len(value) + b"".join(written(each) for pair in value.items() for each in pair)
    if isinstance(value, Exception):
        code = getattr(value, "status_code", None) or "ERR"
        text = f"{value} ({type(value).__name__})"
        return f"-{text if text.split(' ')[0].isupper() else f'{code} {text}'}\r\n".encode()
    raise TypeError(f"no reply is a {type(value)}")
