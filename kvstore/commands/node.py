"""The node of a cluster that a server is: its names, where clients reach it, and the line that tells it all.

There is one node, which has all slots and is always well. An address that the configuration does not announce is
the one that the asking client is connected to: that it is there the client knows, where a real server, which learns
its address from other nodes, would tell none.

Must not know: files; who keeps the node's names sets ``keep``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.slots import SLOTS

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

# How much higher the port is that nodes talk to each other on, unless it is configured.
_BUS: Final = 10000
_LAST_PORT: Final = 65535
# Since this version nodes belong to shards that have names, and tell their ports of both kinds.
_SHARDS: Final = (7, 2)


class Node:
    """One for each hub whose server is a node."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.id = os.urandom(20).hex()
        self.shard_id = os.urandom(20).hex()
        self.epoch = 0  # grows when it is asked to
        self.keep: Callable[[], None] = lambda: None  # brings what must last to the disk

    # -- where it is -------------------------------------------------------------------------------

    def _ports(self) -> tuple[int, int]:
        """The ports for clients: of TCP, and of TLS."""
        host, config = self._hub.host, self._hub.config
        return (
            config["cluster-announce-port"] or host.tcp_port or config["port"],
            config["cluster-announce-tls-port"] or host.tls_port or config["tls-port"],
        )

    def _port(self, session: Session | None) -> int:
        """The port for this client: of the kind that it has come by."""
        config, (tcp, tls) = self._hub.config, self._ports()
        came = _host_and_port(session)[1]
        if came and came == self._hub.host.tls_port:
            return config["cluster-announce-tls-port"] or came
        return config["cluster-announce-port"] or came or tcp or tls

    def _bus_port(self) -> int:
        config = self._hub.config
        own = config["port"] or config["tls-port"]
        found: int = config["cluster-announce-bus-port"] or config["cluster-port"] or own + _BUS
        return found if found <= _LAST_PORT else 0

    def _ip(self, session: Session | None) -> str:
        announced: str = self._hub.config["cluster-announce-ip"]
        return announced or _host_and_port(session)[0]

    def _endpoint(self, session: Session) -> str | None:
        """What clients are to connect to; None: what they are connected to."""
        preferred = self._hub.config["cluster-preferred-endpoint-type"]
        if preferred == "ip":
            return self._ip(session)
        return (self._hostname or "?") if preferred == "hostname" else None

    @property
    def _hostname(self) -> str:
        name: str = self._hub.config["cluster-announce-hostname"]
        return name

    # -- what is told of it ------------------------------------------------------------------------

    def line(self, session: Session | None, more: str = "") -> str:
        """The line of CLUSTER NODES. ``more``: what else stands beside the address in a file."""
        name = f",{self._hostname}" if self._hostname or more else ""
        address = f"{self._ip(session)}:{self._port(session)}@{self._bus_port()}{name}{more}"
        return f"{self.id} {address} myself,master - 0 0 {self.epoch} connected 0-{SLOTS - 1}\n"

    def slots(self, session: Session) -> list[Any]:
        """CLUSTER SLOTS."""
        endpoint = self._endpoint(session)
        preferred = self._hub.config["cluster-preferred-endpoint-type"]
        more: dict[bytes, bytes] = {}
        if preferred != "ip":
            more[b"ip"] = self._ip(session).encode()
        if preferred != "hostname" and self._hostname:
            more[b"hostname"] = self._hostname.encode()
        told = None if endpoint is None else endpoint.encode()
        return [[0, SLOTS - 1, [told, self._port(session), self.id.encode(), more]]]

    def shards(self, session: Session) -> list[Any]:
        """CLUSTER SHARDS."""
        endpoint = self._endpoint(session)
        tcp, tls = self._ports()
        found: dict[bytes, Any] = {b"id": self.id.encode()}
        if tcp:
            found[b"port"] = tcp
        if tls and (not tcp or self._hub.compat_version >= _SHARDS):
            found[b"tls-port"] = tls
        found[b"ip"] = self._ip(session).encode()
        found[b"endpoint"] = (endpoint or "").encode()
        if self._hostname:
            found[b"hostname"] = self._hostname.encode()
        found |= {b"role": b"master", b"replication-offset": 0, b"health": b"online"}
        return [{b"slots": [0, SLOTS - 1], b"nodes": [found]}]

    def figures(self) -> str:
        """CLUSTER INFO."""
        counts = {
            "slots_assigned": SLOTS,
            "slots_ok": SLOTS,
            "slots_pfail": 0,
            "slots_fail": 0,
            "known_nodes": 1,
            "size": 1,
            "current_epoch": self.epoch,
            "my_epoch": self.epoch,
            "stats_messages_sent": 0,
            "stats_messages_received": 0,
        }
        lines = [f"cluster_{name}:{count}" for name, count in counts.items()]
        return "\r\n".join(["cluster_state:ok", *lines, "total_cluster_links_buffer_limit_exceeded:0", ""])

    # -- what lasts --------------------------------------------------------------------------------

    def text(self) -> str:
        """What a real server keeps of a node in its ``cluster-config-file``, for it to read."""
        aux = f",tls-port={self._ports()[1]},shard-id={self.shard_id}"
        line = self.line(None, aux if self._hub.compat_version >= _SHARDS else "")
        return f"{line}vars currentEpoch {self.epoch} lastVoteEpoch 0\n"

    def take(self, text: str) -> None:
        """Be the node of such a text. Raises ValueError, with the reason, where it tells of more than one node."""
        lines = [line.split() for line in text.splitlines() if line.strip()]
        nodes = [words for words in lines if words[0] != "vars"]
        if any(len(words) < 8 for words in nodes) or not any("myself" in words[2] for words in nodes):
            raise ValueError("it is no file of a cluster's node")
        if len(nodes) > 1:
            raise ValueError(
                "it tells of other nodes, and this server can only be the one node of its cluster"
            )
        words = nodes[0]
        self.id = words[0]
        for part in words[1].split(","):
            if part.startswith("shard-id="):
                self.shard_id = part.removeprefix("shard-id=")
        if not words[6].isdecimal():
            raise ValueError("it is no file of a cluster's node")
        self.epoch = int(words[6])


def _host_and_port(session: Session | None) -> tuple[str, int]:
    """Where a client is connected to; "" and 0 where that is no place on a network."""
    if session is None or session.transport is None or session.is_unix:
        return "", 0
    host, _, port = session.local_address.rpartition(":")
    return host.strip("[]"), int(port)
