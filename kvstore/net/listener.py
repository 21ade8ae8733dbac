"""Listening sockets: the addresses of ``bind``, Unix socket files, and taking connections from them.

Must not know: sessions, commands.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvstore.errors import StoreError

if TYPE_CHECKING:
    from kvstore.net.loop import Loop

# Connections taken in one readiness of a listener, so that a flood does not starve clients.
ACCEPTS_PER_TURN = 100
# What an address may fail with that is marked optional by a leading "-".
_NOT_HERE = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EPFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.ENOPROTOOPT,
    }
)
_LIVE_PROBE_SECONDS = 1.0

# Called with a new connection, the peer's address, and whether the peer is on this machine.
Accept = Callable[[socket.socket, str, bool], None]


class ListenError(StoreError):
    """An address cannot be listened on; ``str()`` says which and why."""


def show_address(host: str, port: int) -> str:
    """As CLIENT LIST has it; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener:
    """A listening socket in the loop."""

    def __init__(self, loop: Loop, sock: socket.socket, accept: Accept, path: str | None = None):
        self._loop = loop
        self._sock = sock
        self._accept = accept
        self.path = path
        self._inode = os.stat(path).st_ino if path is not None else 0
        sock.setblocking(False)
        loop.add(sock.fileno(), self)

    @property
    def port(self) -> int:
        """The TCP port, also where the system chose it."""
        return 0 if self.path is not None else int(self._sock.getsockname()[1])

    def ready(self, events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, peer = self._sock.accept()
            except OSError:  # nobody is left, or went away, or no file is left: the backlog keeps the rest
                return
            try:
                self._take(sock, peer)
            except OSError:  # it is gone already
                sock.close()

    def _take(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        if self.path is not None:
            self._accept(sock, f"{self.path}:0", True)
        else:
            host = peer[0].removeprefix("::ffff:")
            local = host.startswith("127.") or host == "::1"
            self._accept(sock, show_address(host, peer[1]), local)

    def close(self) -> None:
        """Stop listening; a socket file goes, unless it is another server's by now."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        if self.path is not None:
            try:
                if os.stat(self.path).st_ino == self._inode:
                    os.unlink(self.path)
            except OSError:
                pass


def bind_tcp(address: str, port: int, backlog: int) -> socket.socket | None:
    """A socket listening on an address of ``bind``; None where an optional one is not there.

    ``*`` is every IPv4 address, ``::*`` every IPv6 address; a leading ``-`` marks it optional.
    Raises ListenError.
    """
    optional = address.startswith("-")
    host = address.removeprefix("-")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(({"*": "0.0.0.0", "::*": "::"}.get(host, host), port))
        sock.listen(backlog)
        return sock
    except (OSError, OverflowError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        number = error.errno if isinstance(error, OSError) else None
        if optional and number in _NOT_HERE:
            return None
        reason = os.strerror(number) if number is not None and number > 0 else str(error)
        raise ListenError(f"Could not create server TCP listening socket {host}:{port}: {reason}") from None


def is_live(path: str) -> bool:
    """Whether somebody answers on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_LIVE_PROBE_SECONDS)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its backlog is full
        except TimeoutError:
            return True
        except OSError:
            return False
        return True


def bind_unix(path: str, backlog: int, mode: int = 0, group: str = "") -> socket.socket:
    """A socket listening on a Unix socket file. A stale file is replaced; raises ListenError for a live one.

    ``mode``: its permissions, 0 for those of the umask. ``group``: its group, by name.
    """
    failed = f"Failed opening Unix socket {path}: "
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            if is_live(path):
                raise ListenError(failed + "another server is listening on it")
            os.unlink(path)
        else:
            raise ListenError(failed + "a file of that name is there, and it is no socket")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ListenError(failed + os.strerror(error.errno or 0)) from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(backlog)
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        if mode:
            os.chmod(path, mode)
        return sock
    except (OSError, KeyError) as error:
        sock.close()
        reason = str(error) if isinstance(error, KeyError) else error.strerror or str(error)
        raise ListenError(failed + reason) from None
