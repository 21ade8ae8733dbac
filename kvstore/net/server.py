"""A RESP server: listeners, connections, and the loop that they live in.

Must not know: what commands do.
"""

from __future__ import annotations

import os
import socket

from kvstore.commands.hub import Hub
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.net.connection import Connection
from kvstore.net.loop import Loop

# Connections taken in one readiness of a listener, so that a flood does not starve clients.
ACCEPTS_PER_TURN = 100


class Listener:
    """A listening socket."""

    def __init__(self, server: Server, sock: socket.socket, path: str | None = None):
        self._server = server
        self._sock = sock
        self.path = path
        sock.setblocking(False)
        server.loop.add(sock.fileno(), self)

    def ready(self, events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return
            self._server.accepted(sock, f"{self.path}:0" if self.path else f"{peer[0]}:{peer[1]}")

    def close(self) -> None:
        self._server.loop.remove(self._sock.fileno())
        self._sock.close()
        if self.path is not None:
            try:
                os.unlink(self.path)
            except OSError:
                pass


class Server:
    """Serves one store."""

    def __init__(self, ctx: Context | None = None):
        self.ctx = Context(Database) if ctx is None else ctx
        self.hub = Hub(self.ctx)
        self.loop = Loop(self.ctx, next_timer_ms=self.hub.next_timer_ms, run_timers=self.hub.run_timers)
        self.connections: set[Connection] = set()
        self.listeners: list[Listener] = []

    def listen_unix(self, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.exists(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(511)
        self.listeners.append(Listener(self, sock, path))

    def listen_tcp(self, host: str, port: int) -> int:
        sock = socket.create_server((host, port), backlog=511)
        self.listeners.append(Listener(self, sock))
        return int(sock.getsockname()[1])

    def accepted(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, sock, address)
        self.connections.add(connection)
        self.loop.add(connection.fd, connection)

    def run(self) -> None:
        try:
            self.loop.run()
        finally:
            self.close()

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        self.listeners = []
        for connection in list(self.connections):
            connection.close()
        self.loop.close()
