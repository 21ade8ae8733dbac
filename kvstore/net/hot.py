"""The hot path of every plain socket, in two loops: read and run what is ready, then send.

Most requests are short, alone in their chunk, and have two or three words; they are parsed and run here
without a call in between that could be spared, which takes a quarter off the cost of a command. Whatever
is out of the ordinary goes to the methods of ``Connection``, which do all of this, too.

Must not know: what commands do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvstore.commands.session import Session, run_each
from kvstore.net.connection import Connection
from kvstore.net.log import LOGGER
from kvstore.net.loop import READ
from kvstore.resp import SHORT_CHUNK, split_request

if TYPE_CHECKING:
    from kvstore.net.server import Server


def make_reader(server: Server) -> tuple[Callable[[list[tuple[int, int]]], None], Callable[[], None]]:
    """The function that a loop calls with what is ready, and one that runs what it has yet to run."""
    plain_get = server.plain.get
    hub, loop, host = server.hub, server.loop, server.hub.host
    unsent = loop.unsent
    pending: Iterator[tuple[Session, list[bytes]]] = iter(())

    def run_rest() -> None:
        while True:
            try:
                run_each(hub, pending)
                return
            except Exception:  # a bug of ours: it costs the client its connection, and nobody else anything
                LOGGER.exception("internal error while serving a client")
                if hub.current is not None:
                    hub.current.close_transport()
                    hub.current = None

    def read(ready: list[tuple[int, int]]) -> None:
        nonlocal pending
        now = loop.now_ms
        received = 0
        jobs: list[tuple[Session, list[bytes]]] = []
        for fd, events in ready:
            connection = plain_get(fd)
            if connection is None or events != READ:
                if jobs:
                    pending, jobs = iter(jobs), []
                    run_rest()
                loop.dispatch(fd, events)
                continue
            try:
                data = os.read(fd, connection.size)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                connection.close()
                continue
            session = connection.session
            if len(data) < SHORT_CHUNK and session.parser.idle and not (session.stopped or session.queue):
                argv = split_request(data)
                if argv is not None:
                    received += len(data)
                    session.active_ms = now
                    jobs.append((session, argv))
                    if not connection.due:
                        connection.due = True
                        unsent.append(connection)
                    continue
            if jobs:
                pending, jobs = iter(jobs), []
                run_rest()
            connection.take(data)
        host.input_bytes += received
        pending = iter(jobs)
        run_rest()

    return read, run_rest


def make_sender(server: Server) -> Callable[[list[Connection]], None]:
    """The function that a loop calls with what has something to send."""
    host, limits = server.hub.host, server.limits

    def send(unsent: list[Connection]) -> None:
        sent_bytes = 0
        for connection in unsent:
            session = connection.session
            out = session.out
            if (
                len(out) != 1
                or connection.chunks
                or session.stopped
                or not connection.is_plain
                or len(out[0]) > limits.output
            ):
                connection.flush()
                continue
            connection.due = False
            data = out.pop()
            try:
                sent = os.write(connection.fd, data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                connection.close()
                continue
            sent_bytes += sent
            if sent != len(data):
                connection.keep(data, sent)
        host.output_bytes += sent_bytes

    return send
