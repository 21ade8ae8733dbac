"""One client's socket: bytes into its session, its replies out.

Invariants
- At most one flush of a connection is due in a turn.
- While the peer is slow, what is not yet sent waits in ``chunks`` and the socket is watched for WRITE;
  nothing else is sent meanwhile, so replies keep their order. ``_held`` is the number of those bytes.
- A client is always read, however much output it leaves unread, as real clients send a long pipeline
  before they read: what bounds the memory is ``client-output-buffer-limit``.

Must not know: commands.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvstore.commands.session import Session
from kvstore.net.listener import show_address
from kvstore.net.log import LOGGER
from kvstore.net.loop import READ, WRITE

if TYPE_CHECKING:
    from kvstore.net.server import Server

# Bytes asked of a socket in one readiness: as many as make no more than a small object, and from a client
# that had that many, as pipelines and large values do, more.
USUAL_SIZE = 470
LARGE_SIZE = 64 * 1024
SEND_SIZE = 256 * 1024  # bytes joined for one send to a slow peer
# Output that a client that has yet to log in may leave unread, in bytes: enough for every error.
UNAUTHENTICATED_OUTPUT = 1024
_SHOWN_INPUT = 64  # bytes of a client's input that the log shows


class Connection:
    """A handler of the loop and the transport of its session."""

    __slots__ = (
        "_counted",
        "_ended",
        "_held",
        "_host",
        "_limits",
        "_queue",
        "_queue_size",
        "_server",
        "_soft_since",
        "address",
        "chunks",
        "due",
        "fd",
        "is_plain",
        "recv",
        "send",
        "session",
        "size",
        "sock",
    )

    def __init__(self, server: Server, sock: socket.socket, address: str):
        self._server = server
        self._limits = server.limits
        self._host = server.hub.host
        self._ended = False  # the peer sends no more
        self.chunks: deque[bytes | memoryview] = deque()
        self.due = False
        self._held = 0
        self._soft_since = 0  # when the soft limit was passed, in ms; 0: it is not
        self._queue: list[list[bytes]] | None = None  # the MULTI queue that _queue_size is of
        self._counted = 0
        self._queue_size = 0
        self.sock = sock
        self.fd = sock.fileno()
        self.address = address
        self.is_plain = True  # bytes go to the socket as they are
        self.recv: Callable[[int], bytes] = sock.recv
        self.send: Callable[[Any], int] = sock.send
        self.size = USUAL_SIZE
        self.session = Session(server.hub, transport=self)

    @property
    def local_address(self) -> str:
        """The server's end, as CLIENT LIST has it."""
        if self.fd < 0 or self.sock.family == socket.AF_UNIX:
            return self.address
        host, port = self.sock.getsockname()[:2]
        return show_address(host, port)

    @property
    def has_output(self) -> bool:
        """Whether there are replies that nobody has tried to send."""
        return bool(self.session.out)

    @property
    def held(self) -> int:
        """Bytes of replies that the peer has not taken."""
        return self._held

    # -- in ----------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """The loop's slow path: everything but a plain READ."""
        if events & WRITE and self.chunks:
            self._send_held()
        if events & ~WRITE and self.fd >= 0:
            if self._ended:
                self.close()  # it had sent its last before: this is a hang-up
            else:
                self.receive()

    def receive(self) -> None:
        """Take what there is, run it, and have the replies sent."""
        try:
            data = self.recv(self.size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self.take(data)

    def take(self, data: bytes) -> None:
        """Run what has been received."""
        if not data:
            self.peer_ended()
            return
        taken = len(data)
        if taken == USUAL_SIZE == self.size:
            data = self._take_more(data)
            taken = len(data)
        elif taken < USUAL_SIZE // 2:
            self.size = USUAL_SIZE
        self._host.input_bytes += taken
        session = self.session
        session.active_ms = self._server.loop.now_ms
        try:
            session.feed(data)
        except Exception:  # a bug of ours: it costs the client its connection, and nobody else anything
            LOGGER.exception("internal error while serving a client")
            session.hub.current = None
            self.close()
            return
        if not self.due and (session.out or session.closing):
            self.wake()
        if not session.parser.idle or session.queue:
            self.check_input()

    def _take_more(self, data: bytes) -> bytes:
        """The rest of a chunk that is larger than usual; the next is expected to be so, too."""
        self.size = LARGE_SIZE
        try:
            return data + self.recv(LARGE_SIZE)
        except OSError:
            return data  # there is no more; or an error, which the next readiness meets again

    def peer_ended(self) -> None:
        """The peer sends no more. What it has asked for is sent still; a blocked command is given up."""
        self._ended = True
        if not self._held and not self.session.out:
            self.close()
            return
        self.session.closing = True
        if self._held:
            self._server.loop.modify(self.fd, WRITE)
        else:
            self._server.loop.modify(self.fd, 0)
            self.wake()

    def check_input(self) -> None:
        """Close the client if it keeps too much of a request unfinished."""
        session = self.session
        self._server.heavy.add(self)
        size = session.parser.buffered + self._queued()
        if self.fd >= 0 and size > self._limits.input:
            self._host.input_limit_closes += 1
            shown = session.parser.peek(_SHOWN_INPUT)
            LOGGER.warning(
                "Closing client that reached max query buffer length: id=%d addr=%s qbuf=%d (it begins with %r)",
                session.id,
                self.address,
                size,
                shown,
            )
            self.close()

    def _queued(self) -> int:
        """Bytes of the commands queued in MULTI; counts each once."""
        queue = self.session.queue
        if queue is not self._queue:
            self._queue, self._counted, self._queue_size = queue, 0, 0
        for argv in queue[self._counted :]:
            self._queue_size += sum(map(len, argv))
        self._counted = len(queue)
        return self._queue_size

    # -- out ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have ``out`` sent at the end of the turn."""
        if not self.due:
            self.due = True
            self._server.loop.unsent.append(self)

    def flush(self) -> None:
        """Send what the session has produced."""
        self.due = False
        session = self.session
        out = session.out
        if self.chunks:
            self._hold_all(out)
            return
        if not out:
            if session.closing:
                self.close()
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if len(data) > self._limits.output and self._over_limit(len(data)):
            return
        try:
            sent = self.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        self._host.output_bytes += sent
        if sent < len(data):
            self.keep(data, sent)
        elif session.closing:
            self.close()

    def relieve(self) -> None:
        """In the middle of a long pipeline: send what there is, or at least see that it keeps the limits."""
        size = sum(map(len, self.session.out))
        if size > SEND_SIZE:
            if self._server.loop.before_send:
                self._over_limit(self._held + size)
            else:
                self.flush()

    def keep(self, data: bytes, sent: int) -> None:
        """Keep what the peer does not take now, until it does."""
        self._hold(memoryview(data)[sent:], len(data) - sent)

    def _hold(self, rest: memoryview, size: int) -> None:
        if self.fd < 0 or self._over_limit(size):
            return
        self.chunks.append(rest)
        self._held = size
        self._server.heavy.add(self)
        self._server.loop.modify(self.fd, WRITE if self._ended else READ | WRITE)

    def _hold_all(self, out: list[bytes]) -> None:
        if self.fd < 0:
            return
        self.chunks.extend(out)
        self._held += sum(map(len, out))
        out.clear()
        self._over_limit(self._held)

    def _send_held(self) -> None:
        chunks = self.chunks
        data: Any = chunks[0]
        taken = 1
        if len(chunks) > 1 and len(data) < SEND_SIZE:
            size = taken = 0
            for chunk in chunks:
                size += len(chunk)
                taken += 1
                if size >= SEND_SIZE:
                    break
            data = b"".join([chunks[at] for at in range(taken)])
        try:
            sent = self.send(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._host.output_bytes += sent
        self._held -= sent
        for _ in range(taken):
            chunks.popleft()
        if sent < len(data):
            chunks.appendleft(memoryview(data)[sent:])
        self.session.active_ms = self._server.ctx.now()
        if not chunks:
            self._all_sent()

    def _all_sent(self) -> None:
        self._soft_since = 0
        self._server.slow.discard(self)
        self._server.loop.modify(self.fd, READ)
        if self.session.closing or self._ended:
            self.close()

    # -- limits of the output -----------------------------------------------------------------------

    def _over_limit(self, size: int) -> bool:
        """Close the client if it leaves too much unread, now or (soft limit) for too long."""
        session = self.session
        if session.must_log_in:
            reached = size > UNAUTHENTICATED_OUTPUT
        else:
            limit = self._limits.outputs.pubsub if session.subscriptions else self._limits.outputs.normal
            reached = 0 < limit.hard < size or self._soft_reached(size, limit.soft, limit.seconds)
        if reached:
            self._host.output_limit_closes += 1
            LOGGER.warning(
                "Client id=%d addr=%s closed for overcoming of output buffer limits: %d bytes unread.",
                session.id,
                self.address,
                size,
            )
            self.close()
        return reached

    def _soft_reached(self, size: int, soft: int, seconds: int) -> bool:
        if not 0 < soft < size:
            self._soft_since = 0
            return False
        now = self._server.ctx.now()
        if self._soft_since == 0:
            self._soft_since = now
            self._server.watch_slow(self)
        return now - self._soft_since > seconds * 1000

    def check_soft_limit(self) -> None:
        """Look again at a client that was over its soft limit."""
        if not self._over_limit(self._held) and self._soft_since == 0:
            self._server.slow.discard(self)

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close now; what is not sent is lost."""
        if self.fd < 0:
            return
        self._server.forget(self)
        self.fd = -1
        self.chunks.clear()
        self._held = 0
        self.sock.close()
        session = self.session
        session.close()
        session.out.clear()
        # Each has the other: without this they, and the socket's buffers, would wait for the cycle collector.
        session.transport = None
