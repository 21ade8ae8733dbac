"""Asyncio clients of redis-py, and of libraries made from it, on lines instead of sockets.

As ``kvstore.fake.sync``. Nothing here belongs to an event loop, so a client may be used in one loop after
another. A command lets other tasks run once, as it does over a socket.

Must not know: commands.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kvstore.fake.library import CLOSED
from kvstore.fake.sync import LineClient, Shaping, WordPacking, client_on_lines, greeting, placed
from kvstore.resp import Push

if TYPE_CHECKING:
    from kvstore.fake.line import Line


class LineStream:
    """What a connection asks of its reader and its writer, over a line."""

    def __init__(self, line: Line):
        self.line = line
        self._buffer = line.out  # what a parser looks at to know whether there is something to read

    def writelines(self, items: list[Any]) -> None:
        if self.line.has_ended:
            raise ConnectionResetError("Connection lost")  # as asyncio's streams say it
        for item in items:
            self.line.send(item)

    async def drain(self) -> None:
        """What was written has been taken; others get their turn, as while a socket is waited for."""
        await asyncio.sleep(0)

    def close(self) -> None:
        self.line.close()

    async def wait_closed(self) -> None:
        """It is closed already."""

    def is_closing(self) -> bool:
        return self.line.closed

    def at_eof(self) -> bool:
        self.line.poll()
        return self.line.has_ended

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class AsyncLineParser(Shaping):
    """Mixed in before a library's asyncio RESP3 parser: replies come from a line."""

    def on_connect(self: Any, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[misc]
        self.follow(connection, connection._reader.line)

    def on_disconnect(self: Any) -> None:
        super().on_disconnect()  # type: ignore[misc]
        self.leave()

    async def read_response(
        self: Any, disable_decoding: bool = False, push_request: bool | None = False
    ) -> Any:
        """The next reply; what the server pushes goes to its handler. Raises TimeoutError."""
        shape = (self.raw if disable_decoding else self.shaper).shape
        while True:
            tree = await self._next()
            response = shape(tree)
            if tree.__class__ is Push and self.hands_on:
                response = self.handle_push(response)
                if inspect.isawaitable(response):
                    response = await response
                if push_request:
                    return response
                continue
            if isinstance(response, self.library.ConnectionError):
                raise response
            return response

    async def _next(self: Any) -> Any:
        line, connection = self.line, self.connection
        if line is not None and not line.out:
            await line.areceive(connection.wait_for)
        if line is None or not line.out:
            raise self.library.ConnectionError(CLOSED)
        return line.out.popleft()


class AsyncLineConnection(WordPacking):
    """Mixed in before a library's asyncio connection over TCP: a line in the place of streams."""

    wait_for: float | None = None  # how long the read under way may take, in seconds

    def __del__(self: Any) -> None:
        stream = getattr(self, "_writer", None)
        if stream is not None:
            stream.close()

    async def not_asked(self) -> None:
        """What asking for nothing gives."""

    async def _connect(self: Any) -> None:
        try:
            line = placed(self.exchange.open(), self)
        except ConnectionRefusedError as error:  # asyncio words it in its own way
            address = f"Connect call failed ({self.host!r}, {self.port})"
            raise ConnectionRefusedError(error.errno, address) from None
        self._reader = self._writer = LineStream(line)

    async def on_connect(self: Any) -> None:
        with greeting(self._writer.line):
            await super().on_connect()  # type: ignore[misc]

    async def on_connect_check_health(self: Any, *args: Any, **kwargs: Any) -> None:
        with greeting(self._writer.line):
            await super().on_connect_check_health(*args, **kwargs)  # type: ignore[misc]

    async def connect(self: Any) -> None:
        if self._writer is None:
            await super().connect()  # type: ignore[misc]

    async def can_read_destructive(self: Any) -> bool:
        stream = self._reader
        return stream is not None and (bool(stream.line.out) or stream.at_eof())

    can_read = can_read_destructive

    async def send_command(self: Any, *args: Any, **kwargs: Any) -> None:
        stream = self._writer
        if stream is None or self.health_check_interval:
            await self.send_packed_command(self.pack_command(*args), kwargs.get("check_health", True))
            return
        request = self.words(args, self.packed)
        try:
            stream.line.send([request])
        except OSError:
            await self.send_packed_command([[request]], False)  # which knows how to fail
        else:
            await asyncio.sleep(0)

    async def read_response(
        self: Any, disable_decoding: bool = False, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        stream = self._reader
        if stream is not None and not self.health_check_interval and (out := stream.line.out):
            parser = self._parser
            shape = (parser.raw if disable_decoding else parser.shaper).quick.get(out[0].__class__)
            if shape is not None:
                try:
                    return shape(out.popleft())
                except ValueError:  # what cannot be decoded
                    if kwargs.get("disconnect_on_error", True):
                        await self.disconnect(nowait=True)
                    raise
        self.wait_for = self.socket_timeout if timeout is None else timeout
        if timeout is not None:
            kwargs["timeout"] = timeout
        return await super().read_response(disable_decoding, **kwargs)  # type: ignore[misc]


@cache
def async_client_class(library: ModuleType) -> type:
    """The asyncio client of the library, on lines."""
    where, mixed_in = f"{library.__name__}.asyncio", (LineClient, AsyncLineConnection, AsyncLineParser)
    return client_on_lines(library, where, mixed_in, "_AsyncRESP3Parser", "FakeAsync")
