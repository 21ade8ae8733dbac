"""TLS: the context that the directives describe, and connections that speak it.

Must not know: commands.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.config import Config
from kvstore.errors import StoreError
from kvstore.net.connection import LARGE_SIZE, Connection
from kvstore.net.log import verbose
from kvstore.net.loop import READ, WRITE

if TYPE_CHECKING:
    from kvstore.net.server import Server

_VERSIONS: Final = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}
_WITHOUT: Final = {
    ssl.TLSVersion.TLSv1: ssl.OP_NO_TLSv1,
    ssl.TLSVersion.TLSv1_1: ssl.OP_NO_TLSv1_1,
    ssl.TLSVersion.TLSv1_2: ssl.OP_NO_TLSv1_2,
    ssl.TLSVersion.TLSv1_3: ssl.OP_NO_TLSv1_3,
}
# Records read in one readiness (of at most 16 KiB each), so that one client does not starve others.
_RECORDS_PER_TURN: Final = 8


class TlsError(StoreError):
    """The directives give no working TLS; ``str()`` says why."""


def make_context(config: Config) -> ssl.SSLContext:
    """A context as the ``tls-…`` directives describe it. Raises TlsError."""
    if not config["tls-cert-file"]:
        raise TlsError("No tls-cert-file configured!")
    if not config["tls-key-file"]:
        raise TlsError("No tls-key-file configured!")
    asks_clients = config["tls-auth-clients"] != "no"
    if asks_clients and not config["tls-ca-cert-file"] and not config["tls-ca-cert-dir"]:
        raise TlsError(
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-auth-clients is enabled!"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.check_hostname = False
    context.verify_mode = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}[
        config["tls-auth-clients"]
    ]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if config["tls-prefer-server-ciphers"]:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if not config["tls-session-caching"]:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    _choose_versions(context, config["tls-protocols"])
    _load_files(context, config)
    return context


def _choose_versions(context: ssl.SSLContext, names: str) -> None:
    versions = []
    for name in names.split() or ("TLSv1.2", "TLSv1.3"):
        version = _VERSIONS.get(name.lower())
        if version is None:
            raise TlsError("Invalid tls-protocols specified. Use a combination of TLSv1 … TLSv1.3")
        versions.append(version)
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    for version, option in _WITHOUT.items():
        if min(versions) < version < max(versions) and version not in versions:
            context.options |= option


def _load_files(context: ssl.SSLContext, config: Config) -> None:
    what = "certificate or key"
    try:
        password = config["tls-key-file-pass"] or ""
        context.load_cert_chain(config["tls-cert-file"], config["tls-key-file"], password=lambda: password)
        if config["tls-ca-cert-file"] or config["tls-ca-cert-dir"]:
            what = "CA certificates"
            context.load_verify_locations(
                config["tls-ca-cert-file"] or None, config["tls-ca-cert-dir"] or None
            )
        if config["tls-dh-params-file"]:
            what = "DH params file"
            context.load_dh_params(config["tls-dh-params-file"])
        if config["tls-ciphers"]:
            what = "ciphers"
            context.set_ciphers(config["tls-ciphers"])
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise TlsError(f"Failed to load {what}: {error}") from None


class TlsConnection(Connection):
    """A connection whose bytes are TLS records. It is admitted when the handshake is over."""

    __slots__ = ("_admit", "_handshaking", "_tls")

    def __init__(
        self,
        server: Server,
        sock: socket.socket,
        address: str,
        context: ssl.SSLContext,
        admit: Callable[[Connection], bool],
    ):
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._handshaking = True
        self._admit = admit
        super().__init__(server, self._tls, address)
        self.is_plain = False
        self.send = self._send_record

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._server.loop.modify(self.fd, READ)
            return
        except ssl.SSLWantWriteError:
            self._server.loop.modify(self.fd, READ | WRITE)
            return
        except (OSError, ValueError) as error:
            verbose("Error accepting a client connection: %s (addr=%s)", error, self.address)
            self.close()
            return
        self._handshaking = False
        self._server.loop.modify(self.fd, READ)
        if self._admit(self):
            self.receive()

    def ready(self, events: int) -> None:
        if self._handshaking:
            self._shake_hands()
        else:
            super().ready(events)

    def receive(self) -> None:
        if self._handshaking:
            self._shake_hands()
            return
        if self.chunks:
            self._send_held()  # it may have waited for something to read
        for _ in range(_RECORDS_PER_TURN):
            if self.fd < 0:
                return
            try:
                data = self._tls.recv(LARGE_SIZE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except (OSError, ValueError):
                self.close()
                return
            self.take(data)
            if not data:
                return
        if self.fd >= 0 and self._tls.pending():
            self._server.loop.call_soon(self.receive)

    def _send_record(self, data: Any) -> int:
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ValueError as error:
            raise OSError(str(error)) from None
