"""One client's socket: bytes into its session, its replies out, with back-pressure.

Invariants
- At most one flush of a connection is due in a turn (``_due``).
- While the peer is slow the rest of a reply waits in ``_rest`` and the socket is watched for WRITE;
  nothing else is sent meanwhile, so replies keep their order.

Must not know: commands.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from kvstore.commands.session import Session
from kvstore.net.loop import READ, WRITE

if TYPE_CHECKING:
    from kvstore.net.server import Server

RECEIVE_SIZE = 64 * 1024  # bytes taken from a socket in one readiness


class Connection:
    """A handler of the loop and the transport of its session."""

    __slots__ = ("_due", "_rest", "_server", "address", "fd", "session", "sock")

    def __init__(self, server: Server, sock: socket.socket, address: str):
        self._server = server
        self._due = False
        self._rest: memoryview | None = None
        self.sock = sock
        self.fd = sock.fileno()
        self.address = address
        self.session = Session(server.hub, transport=self)

    def ready(self, events: int) -> None:
        if events & WRITE and self._rest is not None:
            self._send_rest()
        if events & ~WRITE:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        session = self.session
        session.feed(data)
        if session.out or session.closing:
            self.wake()

    def wake(self) -> None:
        """Have ``out`` sent at the end of the turn."""
        if not self._due:
            self._due = True
            self._server.loop.unsent.append(self._flush)

    def _flush(self) -> None:
        self._due = False
        if self.fd < 0:
            return
        out = self.session.out
        if self._rest is not None or not out:
            if not out and self._rest is None and self.session.closing:
                self.close()
            return
        data = b"".join(out) if len(out) > 1 else out[0]
        out.clear()
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(data):
            self._rest = memoryview(data)[sent:]
            self._server.loop.modify(self.fd, READ | WRITE)
        elif self.session.closing:
            self.close()

    def _send_rest(self) -> None:
        assert self._rest is not None
        try:
            sent = self.sock.send(self._rest)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if sent < len(self._rest):
            self._rest = self._rest[sent:]
            return
        self._rest = None
        self._server.loop.modify(self.fd, READ)
        self._flush()

    def close(self) -> None:
        if self.fd < 0:
            return
        self._server.loop.remove(self.fd)
        self.fd = -1
        self.sock.close()
        self.session.close()
        self._server.connections.discard(self)
