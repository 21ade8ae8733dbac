"""A redis-py connection with no socket: the bytes go to a session in this process and come back.

redis-py keeps all of its own work (packing, parsing, callbacks, pools); only the wire is replaced.
Everything runs in the caller's thread, so a blocking command that finds nothing answers at once as if
its time were over.

Must not know: how commands work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis import ConnectionPool, Redis
from redis.connection import AbstractConnection

from kvstore.commands.session import Session

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub


class LoopbackSocket:
    """What redis-py asks of a socket, over a session. ``before``: called before requests run."""

    def __init__(self, session: Session, before: Callable[[], object] | None = None):
        self._session = session
        self._before = before
        self._unread = memoryview(b"")
        self._open = True

    def sendall(self, data: bytes) -> None:
        if not self._open or self._session.closing:
            raise BrokenPipeError("the connection is closed")
        if self._before is not None:
            self._before()
        hub = self._session.hub
        before = hub.current
        try:
            self._session.feed(data)
        finally:  # a program may be interrupted in the middle of a command, and go on
            hub.current = before

    @property
    def readable(self) -> bool:
        """Whether ``recv`` has something to give."""
        self._session.hub.settle()  # events of the Store's own methods
        return bool(self._unread or self._session.out) or not self._open or self._session.closing

    def _take(self) -> None:
        out = self._session.out
        if out:
            self._unread = memoryview(b"".join([self._unread, *out]))
            out.clear()

    def recv(self, size: int) -> bytes:
        self._take()
        if not self._unread:
            if not self._open or self._session.closing:
                return b""
            raise TimeoutError("timed out")
        data, self._unread = self._unread[:size], self._unread[size:]
        return bytes(data)

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def settimeout(self, seconds: float | None) -> None:
        """Nothing is ever waited for."""

    def setblocking(self, flag: bool) -> None:
        """Nothing is ever waited for."""

    def gettimeout(self) -> float:
        return 0.0

    def shutdown(self, how: int) -> None:
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._session.close()


class LoopbackConnection(AbstractConnection):
    """A redis-py connection onto a hub of this process."""

    def __init__(self, hub: Hub, before: Callable[[], object] | None = None, **kwargs: Any):
        self._hub = hub
        self._before = before
        super().__init__(**kwargs)

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("db", self.db)]

    def _connect(self) -> LoopbackSocket:
        session = Session(self._hub)
        session.may_block = False
        return LoopbackSocket(session, self._before)

    def can_read(self, timeout: float | None = 0, **kwargs: Any) -> bool:
        """Whether a reply or push is there; nothing that is not there now would come by waiting."""
        if self._sock is None:
            self.connect()  # type: ignore[no-untyped-call]
        sock: Any = self._sock
        reader = getattr(self._parser, "_reader", None)
        return bool(sock.readable or (reader is not None and reader.has_data()))

    def _host_error(self) -> str:
        return "the store in this process"


def loopback_client(hub: Hub, db: int, **kwargs: Any) -> Redis:
    """A redis-py client whose connections are sessions of the hub."""
    kwargs.setdefault("db", db)
    pool = ConnectionPool(connection_class=LoopbackConnection, hub=hub, **kwargs)
    return Redis(connection_pool=pool)
