"""The process around a hub, as INFO, CLIENT LIST and SHUTDOWN need to know it.

Whoever serves a hub fills this in: where it listens, what went through its sockets, how to stop it. The
defaults are those of a store inside a program, which listens nowhere and cannot be shut down by a client.

Must not know: sockets, sessions.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable


class Host:
    """What serves a hub. Counters only grow, but for ``reset()`` (CONFIG RESETSTAT)."""

    __slots__ = (
        "_thread",
        "collect",
        "connections_received",
        "evicted_clients",
        "executable",
        "input_bytes",
        "input_limit_closes",
        "listeners",
        "multiplexing",
        "output_bytes",
        "output_limit_closes",
        "peak_memory",
        "reads",
        "rejected_connections",
        "replication_id",
        "run_id",
        "shut_down",
        "tcp_port",
        "tls_port",
        "turns",
        "writes",
    )

    def __init__(self) -> None:
        self.run_id = os.urandom(20).hex()
        self.replication_id = os.urandom(20).hex()
        self.executable = sys.executable
        self.multiplexing = "none"  # what the loop waits with: "epoll", ...
        self.tcp_port = 0
        self.tls_port = 0
        self.listeners: list[str] = []  # each as INFO has it: "name=tcp,bind=127.0.0.1,port=6379"
        # Ends the process after the replies of this turn: (save, force), where None saves as configured, and
        # force ends it though that fails. False: it failed, and all goes on. None where a client cannot stop
        # the process.
        self.shut_down: Callable[[bool | None, bool], bool] | None = None
        self.peak_memory = 0
        # Finds garbage that refers to itself, in the whole process.
        self.collect: Callable[[], object] = gc.collect
        self.reset()

    def reset(self) -> None:
        """Start the counters anew."""
        self.connections_received = 0
        self.rejected_connections = 0
        self.reads = 0
        self.writes = 0
        self.input_bytes = 0
        self.output_bytes = 0
        self.input_limit_closes = 0  # clients closed for what they sent
        self.evicted_clients = 0  # closed for what all clients together held
        self.output_limit_closes = 0  # clients closed for what they did not read
        self.turns = 0
        # Where, and after how long, counting began.
        self._thread = threading.get_ident(), time.thread_time_ns()

    @property
    def busy_us(self) -> int:
        """Microseconds that the turns took: what this thread, which is theirs, has used. Clocks in each turn
        would cost some of it."""
        began_in, before = self._thread
        return (
            (time.thread_time_ns() - before * (began_in == threading.get_ident())) // 1000 * bool(self.turns)
        )
