"""A RESP server: listeners, connections, and the loop that they live in.

The configuration says where it listens and whom it admits; what can be changed later follows CONFIG SET.

Must not know: what commands do.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final, Protocol

from kvstore.commands.config import BufferLimits, Config
from kvstore.commands.hub import Hub
from kvstore.commands.tables import LOADING
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.errors import StoreError
from kvstore.net.connection import UNAUTHENTICATED_OUTPUT, Connection
from kvstore.net.hot import make_reader, make_sender
from kvstore.net.listener import Listener, ListenError, bind_tcp, bind_unix, show_address
from kvstore.net.log import LEVELS, LOGGER, verbose
from kvstore.net.loop import Loop
from kvstore.net.packing import Packing
from kvstore.net.process import room_for

_TICK_MS: Final = 1000  # between two looks at idle clients and at soft limits
_NO_LIMIT: Final = 1 << 62
# Bytes; with less for all clients there would be no talking to the server.
_LEAST_CLIENT_MEMORY: Final = 128 << 10
_FULL: Final = b"-ERR max number of clients reached\r\n"
_DENIED: Final = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for "
    b"the default user. In this mode connections are only accepted from the loopback interface. If you want to "
    b"connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable "
    b"protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by "
    b"connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly "
    b"accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively "
    b"you can just disable the protected mode by editing the Redis configuration file, and setting the protected "
    b"mode option to 'no', and then restarting the server. 3) If you started the server manually just for "
    b"testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the "
    b"default user. NOTE: You only need to do one of the above things in order for the server to start accepting "
    b"connections from the outside.\r\n"
)


class Files(Protocol):
    """What keeps the store on disk, as far as the end of the server has to do with it."""

    def close(self, save: bool | None = False, force: bool = False) -> StoreError | None:
        """Bring everything to the disk and let go of the files. Where that fails raises StoreError, and all
        goes on; with ``force`` it ends, and the error is returned."""

    def abandon(self) -> None:
        """Never write what is not yet written: it is part of a unit that stays unfinished."""

    @property
    def keeps_snapshots(self) -> bool:
        """Whether a snapshot is written at the end."""


class Limits:
    """What the directives allow a client to hold, in bytes; each connection keeps a reference."""

    __slots__ = ("input", "output", "outputs")

    def __init__(self) -> None:
        self.input = _NO_LIMIT
        self.output = _NO_LIMIT  # no limit of any class is reached below this
        self.outputs: BufferLimits

    def update(self, config: Config, needs_login: bool) -> None:
        self.input = config["client-query-buffer-limit"]
        self.outputs = config["client-output-buffer-limit"]
        sizes = [size for limit in (self.outputs.normal, self.outputs.pubsub) for size in limit[:2] if size]
        if needs_login:
            sizes.append(UNAUTHENTICATED_OUTPUT)
        self.output = min(sizes, default=_NO_LIMIT)


class Server:
    """Serves one store."""

    def __init__(self, ctx: Context | None = None, config: Config | None = None, *, portable: bool = False):
        self.config = Config() if config is None else config
        self.ctx = Context(Database) if ctx is None else ctx
        self.hub = Hub(self.ctx, self.config)
        self.host = self.hub.host
        self.loop = Loop(
            self.ctx,
            next_timer_ms=self.hub.next_timer_ms,
            run_timers=self.hub.run_timers,
            counts=self.host,
            portable=portable,
        )
        self.host.multiplexing = self.loop.mechanism
        self.host.shut_down = self._shut_down
        self.hub.scripting.serve_others = self.loop.serve_others
        self.hub.tracking.at_end_of_turn = self.loop.call_soon
        self.limits = Limits()
        self.connections: set[Connection] = set()
        self.plain: dict[int, Connection] = {}  # those without TLS, by descriptor
        self.slow: set[Connection] = set()  # over their soft limit
        # All that hold unfinished requests or unread replies, and some others.
        self.heavy: set[Connection] = set()
        self.listeners: dict[str, list[Listener]] = {}  # by "tcp", "unix", "tls"
        self.tls: ssl.SSLContext | None = None
        self._ticking = False
        self.files: Files | None = None  # None: the store is in memory, or its files are closed
        self.unsaved: StoreError | None = None  # why not all is in the files that were closed
        self.loop.read, self.loop.run_rest = make_reader(self)
        self.loop.send = make_sender(self)
        self.packing = Packing(self.hub)
        self._follow()

    # -- configuration -----------------------------------------------------------------------------

    def _follow(self) -> None:
        """Put the directives about clients into effect, now and whenever they change."""
        config = self.config

        def limits() -> None:
            self.limits.update(config, self.hub.users.needs_login)

        def level() -> None:
            LOGGER.setLevel(LEVELS[config["loglevel"]])

        def tick() -> None:
            self._tick_on()

        for names, fn in (
            (("client-query-buffer-limit", "client-output-buffer-limit"), limits),
            (("loglevel",), level),
            (("timeout",), tick),
            (("maxmemory-clients",), self._follow_client_memory),
            (("maxclients",), self._set_maxclients),
            (("port", "bind"), self._relisten_tcp),
            (("tls-port",), self._relisten_tls),
            (_TLS_DIRECTIVES, self._renew_tls),
        ):
            for name in names:
                config.on_change(name, fn)
        self.hub.users.on_change.append(limits)
        limits()
        tick()
        self._follow_client_memory()

    def _follow_client_memory(self) -> None:
        hooks, look = self.loop.after_turn, self._evict_clients
        if look in hooks:
            hooks.remove(look)
        if self.config["maxmemory-clients"]:
            hooks.append(look)

    def _set_maxclients(self) -> str | None:
        wanted = self.config["maxclients"]
        room = room_for(wanted)
        if room < wanted:
            return (
                f"The operating system is not able to handle the specified number of clients, try with {room}"
            )
        return None

    def _renew_tls(self) -> str | None:
        if self.tls is None:
            return None
        return self._try_tls()

    def _try_tls(self) -> str | None:
        from kvstore.net.tls import TlsError, make_context

        try:
            self.tls = make_context(self.config)
        except TlsError as error:
            LOGGER.warning("%s", error)
            return "Unable to update TLS configuration. Check server logs."
        return None

    # -- listening ---------------------------------------------------------------------------------

    def listen(self, skip: str = "") -> None:
        """Listen where the configuration says. Raises ListenError with what the log should say."""
        config = self.config
        for kind, port in (("tcp", config["port"]), ("tls", config["tls-port"])):
            if port and kind != skip:
                self._listen_port(kind, port)
        if config["unixsocket"]:
            self.listen_unix(self.path(config["unixsocket"]))
        if not any(self.listeners.values()):
            raise ListenError("Configured to not listen anywhere, exiting.")

    def path(self, name: str) -> str:
        """A file that a directive names, relative to ``dir``."""
        directory: str = self.config["dir"]
        try:
            here = os.path.realpath(os.getcwd())
        except OSError:
            here = ""
        return name if directory == here else os.path.join(directory, name)

    def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket file."""
        config = self.config
        sock = bind_unix(path, config["tcp-backlog"], config["unixsocketperm"], config["unixsocketgroup"])
        self.listeners["unix"] = [Listener(self.loop, sock, self.accept, path)]
        self._tell_host()

    def listen_tcp(self, address: str, port: int) -> int:
        """Listen on one address; port 0 is any that is free. The port."""
        sock = bind_tcp(address, port, self.config["tcp-backlog"])
        if sock is None:
            raise ListenError(f"{address} is no address of this machine")
        listener = Listener(self.loop, sock, self.accept)
        self.listeners.setdefault("tcp", []).append(listener)
        self._tell_host()
        return listener.port

    def _listen_port(self, kind: str, port: int) -> None:
        if kind == "tls" and self.tls is None and self._try_tls() is not None:
            raise ListenError("Failed to configure TLS. Check logs for more info.")
        accept = self.accept if kind == "tcp" else self.accept_tls
        sockets: list[socket.socket] = []
        try:
            for address in self.config["bind"]:
                sock = bind_tcp(address, port, self.config["tcp-backlog"])
                if sock is not None:
                    sockets.append(sock)
        except ListenError as error:
            for sock in sockets:
                sock.close()
            LOGGER.warning("Warning: %s", error)
            raise ListenError(f"Failed listening on port {port} ({kind}), aborting.") from None
        if not sockets and self.config["bind"]:
            raise ListenError(f"Failed listening on port {port} ({kind}), aborting.")
        self.listeners[kind] = [Listener(self.loop, sock, accept) for sock in sockets]
        self._tell_host()

    def _relisten(self, kind: str, port: int) -> str | None:
        """Listen elsewhere. The old sockets go first, as the new addresses may include theirs."""
        for listener in self.listeners.pop(kind, ()):
            listener.close()
        try:
            if port:
                self._listen_port(kind, port)
        except ListenError:
            return "Unable to listen on this port. Check server logs."
        finally:
            self._tell_host()
        return None

    def _relisten_tcp(self) -> str | None:
        refusal = self._relisten("tcp", self.config["port"])
        return refusal or (self._relisten_tls() if self.listeners.get("tls") else None)

    def _relisten_tls(self) -> str | None:
        if self.config["tls-port"] and self.tls is None and (refusal := self._try_tls()) is not None:
            return refusal
        return self._relisten("tls", self.config["tls-port"])

    def _tell_host(self) -> None:
        """What INFO says of the listeners."""
        host, config = self.host, self.config
        ports = {kind: found[0].port if found else 0 for kind, found in self.listeners.items()}
        host.tcp_port, host.tls_port = ports.get("tcp", 0), ports.get("tls", 0)
        host.listeners = []
        for kind, found in self.listeners.items():
            if kind == "unix":
                host.listeners.append(f"name=unix,bind={found[0].path}")
            elif found:
                binds = "".join(f",bind={address}" for address in config["bind"])
                host.listeners.append(f"name={kind}{binds},port={ports[kind]}")

    # -- clients -----------------------------------------------------------------------------------

    def accept(self, sock: socket.socket, address: str, local: bool) -> None:
        """Take a new connection, or tell it why not."""
        if not self._has_room(sock):
            return
        self._set_up(sock)
        connection = Connection(self, sock, address)
        self._add(connection)
        self.plain[connection.fd] = connection
        self._admit(connection, local)

    def accept_tls(self, sock: socket.socket, address: str, local: bool) -> None:
        """The same for a connection that begins with a TLS handshake."""
        from kvstore.net.tls import TlsConnection

        if not self._has_room(sock):
            return
        self._set_up(sock)
        assert self.tls is not None
        self._add(TlsConnection(self, sock, address, self.tls, lambda made: self._admit(made, local)))

    def _has_room(self, sock: socket.socket) -> bool:
        sock.setblocking(False)
        if len(self.connections) < self.config["maxclients"]:
            return True
        self.host.rejected_connections += 1
        try:
            sock.send(_FULL)
        except OSError:
            pass
        sock.close()
        return False

    def _set_up(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_UNIX:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds = self.config["tcp-keepalive"]
        if seconds:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                ("TCP_KEEPIDLE", seconds),
                ("TCP_KEEPINTVL", max(1, seconds // 3)),
                ("TCP_KEEPCNT", 3),
            ):
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def _add(self, connection: Connection) -> None:
        self.host.connections_received += 1
        self.connections.add(connection)
        self.loop.add(connection.fd, connection)
        verbose("Accepted %s", connection.address)

    def _admit(self, connection: Connection, local: bool) -> bool:
        """Refuse strangers while there is no password: protected mode."""
        if local or not self.config["protected-mode"] or not self.hub.users.default.nopass:
            return True
        self.host.rejected_connections += 1
        try:
            connection.sock.send(_DENIED)
        except OSError:
            pass
        connection.close()
        return False

    def forget(self, connection: Connection) -> None:
        """Called by a connection that closes."""
        self.loop.remove(connection.fd)
        self.plain.pop(connection.fd, None)
        self.connections.discard(connection)
        self.slow.discard(connection)
        self.heavy.discard(connection)

    def _evict_clients(self) -> None:
        """Close those who hold most, until all hold no more than ``maxmemory-clients``. O(n log n) of ``heavy``."""
        limit = self._client_memory() if self.heavy else 0
        if not limit:
            return
        sizes = {connection: connection.session.buffered for connection in self.heavy}
        self.heavy = {connection for connection, size in sizes.items() if size}
        total = sum(sizes.values())
        for connection in sorted(self.heavy, key=sizes.__getitem__, reverse=True):
            if total <= limit:
                return
            session = connection.session
            if not session.no_evict:
                size = sizes[connection]
                total -= size
                self.host.evicted_clients += 1
                LOGGER.info("Evicting client: id=%d addr=%s tot-mem=%d", session.id, connection.address, size)
                connection.close()

    def _client_memory(self) -> int:
        """The most bytes that all clients may hold together; 0: any number."""
        wanted: int = self.config["maxmemory-clients"]
        if wanted < 0:  # percents
            wanted = self.config["maxmemory"] * -wanted // 100
        return max(wanted, _LEAST_CLIENT_MEMORY) if wanted else 0

    # -- once a second -----------------------------------------------------------------------------

    def watch_slow(self, connection: Connection) -> None:
        """Look again, once a second, at a client that is over its soft limit."""
        self.slow.add(connection)
        self._tick_on()

    def _tick_on(self) -> None:
        if not self._ticking and (self.config["timeout"] or self.slow):
            self._ticking = True
            self.hub.call_at(self.ctx.now() + _TICK_MS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        for connection in list(self.slow):
            connection.check_soft_limit()
        seconds = self.config["timeout"]
        if seconds:
            before = self.ctx.now() - seconds * 1000
            for connection in list(self.connections):
                if connection.session.active_ms < before and self._may_be_idle(connection):
                    verbose("Closing idle client %s", connection.address)
                    connection.close()
        self._tick_on()

    def _may_be_idle(self, connection: Connection) -> bool:
        session = connection.session
        waits = session.waiting is not None or session in self.hub.postponed
        return not (waits or session.subscriptions or session in self.hub.monitors)

    # -- running -----------------------------------------------------------------------------------

    @property
    def urls(self) -> list[str]:
        """Where clients reach the server, as redis-py takes it; a Unix socket first."""
        found = [f"unix://{os.path.abspath(each.path or '')}" for each in self.listeners.get("unix", ())]
        schemes = {"tcp": "redis", "tls": "rediss"}
        for kind, scheme in schemes.items():
            for listener in self.listeners.get(kind, ())[:1]:
                address = self.config["bind"][0].removeprefix("-") if self.config["bind"] else "127.0.0.1"
                host = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::*": "::1", "::": "::1"}.get(
                    address, address
                )
                found.append(f"{scheme}://{show_address(host, listener.port)}")
        return found

    def how_to_connect(self) -> str:
        """One line for the log."""
        url = self.urls[0]
        path = url.removeprefix("unix://")
        cli = f"redis-cli -s {path}" if path != url else f"redis-cli -u {url}"
        return f"Connect by: {cli}, or in Python redis.Redis.from_url({url!r})"

    def stop(self, signal: str = "") -> None:
        """End ``run()``, as the directive ``shutdown-on-<signal>`` says. Safe from other threads and from
        signal handlers.

        A script that has taken too long already ends unfinished, and nothing of it is logged; only where a
        snapshot is to be written, which would hold what the script did so far, it is waited for.
        """
        flags = self.config[f"shutdown-on-{signal}"] if signal else ()
        save = True if "save" in flags else False if "nosave" in flags else None
        if not self._saves(save):
            self.loop.stop_serving()
        self.loop.call_soon_threadsafe(lambda: self._stop(save, "force" in flags))

    def _stop(self, save: bool | None, force: bool) -> None:
        if not self._shut_down(save, force):
            LOGGER.warning("A signal asked for the end, but errors stopped that: see the lines above")
            self.loop.go_on_serving()

    def _saves(self, save: bool | None) -> bool:
        """Whether the end, asked for in that way, includes a snapshot."""
        files = self.files
        return files is not None and (save or (save is None and files.keeps_snapshots))

    def _shut_down(self, save: bool | None, force: bool) -> bool:
        """SHUTDOWN; False where the data could not be brought to the disk, and all goes on."""
        LOGGER.info("User requested shutdown...")
        if LOADING in self.hub.features:
            save = False  # what is there is not whole
        if not self.ctx.units and not self._close_files(save, force):
            return False
        self.loop.stop()
        return True

    def _close_files(self, save: bool | None, force: bool) -> bool:
        """Let go of the files. What comes after that could not be kept, so nothing runs any more."""
        files = self.files
        if files is None:
            return True
        try:
            self.unsaved = files.close(save, force)
        except StoreError as error:
            LOGGER.warning("Errors trying to shut down the server: %s", error)
            return False
        self.files = None
        for session in self.hub.sessions.values():
            session.stopped = True
        self.hub.resumed.clear()
        return True

    def run(self) -> None:
        """Serve until the loop is stopped, then close everything."""
        try:
            self.loop.run()
        finally:
            self.close()

    def close(self) -> None:
        """Close listeners, connections and the loop. May be called twice."""
        listeners, self.listeners = self.listeners, {}
        for each in listeners.values():
            for listener in each:
                listener.close()
        for connection in list(self.connections):
            connection.close()
        if self.files is not None and (self.loop.abandoned or LOADING in self.hub.features):
            self.files.abandon()
            self._close_files(False, True)
        self._close_files(None, True)
        self.hub.current = None  # whose unit stayed unfinished
        self.loop.close()


_TLS_DIRECTIVES: Final[tuple[str, ...]] = (
    *("tls-cert-file", "tls-key-file", "tls-key-file-pass", "tls-ca-cert-file", "tls-ca-cert-dir"),
    *("tls-auth-clients", "tls-protocols", "tls-ciphers", "tls-prefer-server-ciphers"),
    *("tls-dh-params-file", "tls-session-caching"),
)
