"""A RESP client that shows the exact bytes of every reply.

It knows where a reply ends, in RESP2 and RESP3, and nothing else: tests compare bytes, so nothing is
decoded on the way. ``parse`` turns reply bytes into a small tree for the comparisons that have to look
inside (a reply whose order is not defined).

Must not know: any command.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple

Word = bytes | str | int | float

_ONE_LINE = b"+-:_,#("
_BULK = b"$=!"
_AGGREGATE = {b"*"[0]: 1, b"~"[0]: 1, b">"[0]: 1, b"%"[0]: 2, b"|"[0]: 2}
_ATTRIBUTE = b"|"[0]


class Node(NamedTuple):
    """A parsed reply: its type byte, its payload, and its items where it is an aggregate.

    A map's items are its keys and values in turn. ``items`` is None for scalars and null arrays.
    """

    mark: bytes
    text: bytes
    items: tuple[Node, ...] | None = None


def encode(*argv: Word) -> bytes:
    """A request as an array of bulk strings."""
    words = [to_bytes(word) for word in argv]
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def to_bytes(word: Word) -> bytes:
    if isinstance(word, bytes):
        return word
    return (word if isinstance(word, str) else repr(word)).encode()


def reply_end(buf: bytes | bytearray, pos: int = 0) -> int:
    """Where the reply at ``pos`` ends, its attributes included; -1 while it is incomplete."""
    open_items = 1
    size = len(buf)
    while open_items:
        line_end = buf.find(b"\r\n", pos)
        if line_end < 0:
            return -1
        mark = buf[pos]
        if mark in _ONE_LINE:
            pos = line_end + 2
        elif mark in _BULK:
            length = int(buf[pos + 1 : line_end])
            pos = line_end + 2 + (length + 2 if length >= 0 else 0)
            if pos > size:
                return -1
        elif mark in _AGGREGATE:
            count = int(buf[pos + 1 : line_end])
            pos = line_end + 2
            if count > 0:
                open_items += count * _AGGREGATE[mark]
            if mark == _ATTRIBUTE:
                open_items += 1  # it stands before a reply, it is none
        else:
            raise ValueError(f"not RESP at {pos}: {bytes(buf[pos : pos + 40])!r}")
        open_items -= 1
    return pos


def parse(data: bytes) -> Node:
    """The tree of exactly one reply; attributes are left out."""
    node, end = _parse(data, 0)
    if end != len(data):
        raise ValueError(f"bytes after the reply: {data[end : end + 40]!r}")
    return node


def _parse(data: bytes, pos: int) -> tuple[Node, int]:
    line_end = data.index(b"\r\n", pos)
    mark, text, after = data[pos : pos + 1], data[pos + 1 : line_end], line_end + 2
    if mark[0] in _BULK and int(text) >= 0:
        end = after + int(text)
        return Node(mark, data[after:end]), end + 2
    if mark[0] in _BULK:
        return Node(mark + b"-1", b""), after
    if mark[0] in _AGGREGATE and int(text) >= 0:
        items = []
        for _ in range(int(text) * _AGGREGATE[mark[0]]):
            node, after = _parse(data, after)
            items.append(node)
        if mark[0] == _ATTRIBUTE:
            return _parse(data, after)
        return Node(mark, text, tuple(items)), after
    return Node(mark, text), after


class RawClient:
    """One connection. Requests go out as arrays of bulk strings, replies come back as their exact bytes."""

    def __init__(self, address: str | tuple[str, int], *, timeout: float = 10.0) -> None:
        """Connect to a Unix socket's path or a (host, port)."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.timeout = timeout
        self.number = 0  # the id that the server gave this connection, where somebody asked
        self.sock.settimeout(timeout)
        self._buf = bytearray()
        try:
            self.sock.connect(address)
            if family == socket.AF_INET:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are: inline commands, broken requests, pieces."""
        self.sock.settimeout(self.timeout)
        self.sock.sendall(data)

    def send(self, *argv: Word) -> None:
        """Send one request without waiting."""
        self.send_bytes(encode(*argv))

    def read_reply_bytes(self, timeout: float | None = None) -> bytes:
        """The exact bytes of the next whole reply (or push).

        Raises TimeoutError when it is not there in time, EOFError when the peer closed.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while (end := reply_end(self._buf)) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no whole reply in time; have {bytes(self._buf[:200])!r}")
            self.sock.settimeout(left)
            self._receive()
        return self._take(end)

    def _receive(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError(f"closed by the peer; have {bytes(self._buf[:200])!r}")
        self._buf += data

    def _take(self, end: int) -> bytes:
        reply = bytes(self._buf[:end])
        del self._buf[:end]
        return reply

    def read_available(self) -> list[bytes]:
        """All whole replies that have arrived, without waiting. Raises EOFError when the peer closed."""
        self.sock.setblocking(False)
        closed = False
        try:
            while True:
                self._receive()
        except BlockingIOError:
            pass
        except (EOFError, ConnectionResetError):
            closed = True
        replies = []
        while self._buf and (end := reply_end(self._buf)) >= 0:
            replies.append(self._take(end))
        if closed and not replies:
            raise EOFError("closed by the peer")
        return replies

    def call(self, *argv: Word, timeout: float | None = None) -> bytes:
        """One request, one reply."""
        self.send(*argv)
        return self.read_reply_bytes(timeout)

    def pipeline(self, *commands: tuple[Word, ...]) -> list[bytes]:
        """Many requests in one write; their replies in order."""
        self.send_bytes(b"".join(encode(*argv) for argv in commands))
        return [self.read_reply_bytes() for _ in commands]

    def hello3(self) -> bytes:
        """Switch the connection to RESP3; the reply's bytes (they differ from server to server)."""
        reply = self.call("HELLO", "3")
        if not reply.startswith(b"%"):
            raise ValueError(f"no RESP3: {reply!r}")
        return reply

    def at_end(self, timeout: float | None = None) -> bool:
        """Whether the peer closes the connection, with nothing more to read, in time."""
        self.sock.settimeout(self.timeout if timeout is None else timeout)
        if self._buf:
            return False
        try:
            self._receive()
        except (EOFError, ConnectionResetError):
            return True
        except TimeoutError:
            return False
        return False
