"""A client's state with no socket: database, protocol, MULTI queue, watched keys, subscriptions.

Bytes go in by ``feed()`` and requests by ``call()``; replies gather in ``out`` until whoever owns the
socket takes them. The session's mode is its ``table``; ``retable()`` picks it whenever the mode, the
protocol or the hub's features change.

Invariants
- While ``stopped`` (blocked, postponed by CLIENT PAUSE) nothing runs: later requests wait in
  ``backlog``, in order.
- A reply is in ``out`` before any later request of the same client runs.

Must not know: sockets, the event loop.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

from kvstore.commands.kinds import RESP2, RESP3, TREE2, TREE3, Codec
from kvstore.commands.registry import NO_REPLY, Argv, Block, Command, CommandRejected, Postponed
from kvstore.commands.rows import run_row
from kvstore.commands.tables import MULTI, NOAUTH, NORMAL, SUBSCRIBED, Entry, Table, UnknownCommand
from kvstore.commands.tracking import ends_caching
from kvstore.errors import StoreError
from kvstore.resp import RequestParser

if TYPE_CHECKING:
    from kvstore.commands.acl import User
    from kvstore.commands.hub import Hub
    from kvstore.commands.timers import Timer
    from kvstore.commands.tracking import Tracking
    from kvstore.engine.database import Database


log = logging.getLogger("kvstore")

# Requests that may be one row, at least; and the nanoseconds: while somebody wants to hear of what takes no longer,
# every request is timed by itself.
_LEAST_ROW = 4
_LEAST_SHARED = 1_000_000
# Requests of a pipeline that run before the client's output is looked at.
_PART = 128

# First words of HTTP requests and headers, which no command may have.
_HTTP = (b"post", b"host:")


class Transport(Protocol):
    """What a session needs of the connection that carries it."""

    address: str  # the peer's, as CLIENT LIST has it: "127.0.0.1:1234", or "/path:0" of a Unix socket
    fd: int

    @property
    def local_address(self) -> str:
        """The server's end."""

    @property
    def held(self) -> int:
        """Bytes of replies that the peer has not taken."""

    def wake(self) -> None:
        """``out`` has something to send."""

    def relieve(self) -> None:
        """Much may be in ``out``: send some of it, if that is allowed now."""

    def close(self) -> None:
        """Close now; what is in ``out`` is lost."""


class Waiting:
    """A blocked command: what it waits for, and how to try again."""

    __slots__ = ("argv", "block", "command", "keys", "timer")

    def __init__(self, block: Block, command: Command, argv: Argv, keys: list[tuple[int, bytes]]):
        self.block = block
        self.command = command
        self.argv = argv
        self.keys = keys
        self.timer: Timer | None = None  # when its time is over


class Session:
    """One client of a hub."""

    __slots__ = (
        "__dict__",
        "_closing",
        "_tables",
        "authenticated",
        "backlog",
        "channels",
        "codec",
        "command",
        "db",
        "hub",
        "id",
        "may_block",
        "out",
        "parser",
        "patterns",
        "queue",
        "reply",
        "shard_channels",
        "stopped",
        "table",
        "transport",
        "tx_aborted",
        "tx_dirty",
        "waiting",
        "watched",
    )

    hub: Hub
    id: int
    queue: list[Argv]
    table: Table

    def __init__(self, hub: Hub, codec: Codec = RESP2, transport: Transport | None = None):
        self.hub = hub
        self.codec = codec
        self.transport = transport
        self.db: Database = hub.ctx.database(0)
        self._tables: dict[str, Table] = {}  # those of the modes that it was in, while nothing else changed
        self.parser = RequestParser(hub.ctx.limits.proto_max_bulk_len)
        self.out: list[Any] = []
        self.reply: Callable[[Any], None] = self.out.append
        self.authenticated = not hub.users.needs_login
        self.in_multi = False
        self.queue = []
        self.tx_aborted = False  # a command could not be queued: EXEC answers EXECABORT
        self.tx_dirty = False  # a watched key changed: EXEC answers a null
        self.watched: list[tuple[int, bytes]] = []
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.backlog: deque[Argv] = deque()
        self.stopped = False
        self.waiting: Waiting | None = None
        self.may_block = codec.on_wire
        self._closing = False
        self.command: Command | None = None
        # What CLIENT LIST tells.
        self.name = b""
        self.lib_name = b""
        self.lib_ver = b""
        self.user = hub.users.default
        self.created_ms = self.active_ms = hub.ctx.clock.now_ms()
        self.no_evict = False
        self.no_touch = False
        self.reads_replicas = False  # READONLY
        self.tracking: Tracking | None = None
        hub.attach(self)
        self.check_login()

    # -- modes -------------------------------------------------------------------------------------

    @property
    def protocol(self) -> int:
        return self.codec.protocol

    def set_protocol(self, protocol: int) -> None:
        if self.codec.on_wire:
            self.codec = RESP2 if protocol == 2 else RESP3
        else:
            self.codec = TREE2 if protocol == 2 else TREE3
        self.retable()

    @property
    def mode(self) -> str:
        if self.must_log_in:
            return NOAUTH
        if self.in_multi:
            return MULTI
        if self.codec.protocol == 2 and self.subscriptions:
            return SUBSCRIBED
        return NORMAL

    @property
    def must_log_in(self) -> bool:
        """Whether new clients have to log in, and this one has not."""
        return not self.authenticated and self.hub.users.needs_login

    @property
    def closing(self) -> bool:
        """Close once ``out`` is sent; nothing runs any more."""
        return self._closing

    @closing.setter
    def closing(self, closing: bool) -> None:
        self._closing = closing
        self.stopped = self.stopped or closing

    @property
    def subscriptions(self) -> int:
        return len(self.channels) + len(self.patterns) + len(self.shard_channels)

    def retable(self) -> None:
        """Pick the table of the present mode, anew: what tables depend on has changed."""
        self._tables.clear()
        self.table = self.table_in(self.mode)

    def table_in(self, mode: str) -> Table:
        """The table of a mode, with this client's codec."""
        table = self._tables.get(mode)
        if table is None:
            table = self._tables[mode] = self.table_of(self.codec, mode)
        return table

    def table_of(self, codec: Codec, mode: str) -> Table:
        """The table of a mode for this client: its user may not be allowed everything."""
        tracked = self.tracking is not None and not self.tracking.bcast
        return self.hub.table(codec, mode, self.no_touch, not self.user.unrestricted, tracked)

    def log_in(self, user: User) -> None:
        """Be a user, whose password was given or need not be."""
        self.user = user
        self.authenticated = True
        self.check_login()

    def check_login(self) -> None:
        """Allow what the client may do, as it has logged in, or its user or the default one has changed."""
        self.parser.authenticated = not self.must_log_in
        self.retable()

    # -- requests ----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes from the client: run what they complete, leave the replies in ``out``."""
        parser = self.parser
        if self.stopped:
            parser.hold(data)
            return
        one_at_a_time = not parser.authenticated
        requests = parser.parse(data)
        if len(requests) <= _PART:
            self.run(requests)
        else:
            self._run_in_parts(requests)
        if not parser.idle and (parser.error is not None or one_at_a_time or not parser.authenticated):
            self._parse_on()

    def _run_in_parts(self, requests: list[Argv]) -> None:
        """Run a long pipeline so that its replies do not pile up past the limits, or before any is sent."""
        for at in range(0, len(requests), _PART):
            if self.stopped:
                self.backlog.extend(requests[at:])
                return
            self.run(requests[at : at + _PART])
            if self.transport is not None:
                self.transport.relieve()

    def _parse_on(self) -> None:
        """Go on with bytes that were kept, and with what a login or a stop has put off."""
        parser = self.parser
        while not self.stopped and parser.error is None:
            # One at a time while the client has yet to log in: AUTH may lift the limits.
            requests = parser.parse_buffer() if parser.authenticated else parser.parse_buffer(1)
            if not requests:
                break
            if len(requests) <= _PART:
                self.run(requests)
            else:
                self._run_in_parts(requests)
        if parser.error is not None and not self.stopped:
            self._fail_protocol()

    def _fail_protocol(self) -> None:
        self.reply(self.codec.error(f"ERR Protocol error: {self.parser.error}"))
        self.closing = True

    def run(self, requests: list[Argv]) -> None:
        """Run requests in order until one stops the session; the rest go to the backlog.

        The hot path of clients that pipeline: ``execute()`` inlined, with one look at the clock a command.
        ``run_each`` could serve here, too, at the price of 0.3 µs a chunk and 3 % of a long pipeline.
        """
        hub = self.hub
        hub.current = self
        slow_nanos = hub.slow_nanos
        pending = iter(requests)
        if (
            len(requests) >= _LEAST_ROW
            and slow_nanos >= _LEAST_SHARED
            and requests[0][0] == requests[-1][0]
            and run_row(self, requests, pending)
        ):
            hub.current = None
            return
        started = perf_counter_ns()
        for argv in pending:
            entry: Entry | None = None
            try:
                entry = self.table[argv[0]]
                if entry.queued is not None:
                    entry, following = None, self._queue_all(argv, pending)
                    if following is None:
                        break
                    argv = following
                    started = perf_counter_ns()
                    entry = self.table[argv[0]]
                self.command = entry.command
                run = entry.run  # fetched apart, as CPython is slow to call what a slot holds
                reply = run(self, argv)
            except Exception as error:
                reply = self.failed(error, entry, argv, started)
                started = perf_counter_ns()
            else:
                ended = perf_counter_ns()
                took = ended - started
                started = ended
                stats = entry.stats
                stats.buckets[took.bit_length()] += 1
                stats.nanos += took
                if took >= slow_nanos:
                    hub.was_slow(self, argv, took)
            if reply is not NO_REPLY:
                put = self.reply
                put(reply)
            if hub.pending:
                hub.drain()
            if self.stopped:
                self.backlog.extend(pending)
        hub.current = None

    def _queue_all(self, first: Argv, pending: Iterator[Argv]) -> Argv | None:
        """Queue a request and those that follow, up to one that is to be run, or refused: that, or None."""
        get, queue, reply = self.table.get, self.queue.append, self.reply
        for argv in chain((first,), pending):
            entry = get(argv[0])
            if entry is None or entry.queued is None:
                return argv
            arity = entry.arity
            if len(argv) != arity and (arity > 0 or len(argv) < -arity):
                return argv
            queue(argv)
            self.command = entry.command
            reply(entry.queued)
        return None

    def call(self, argv: Argv) -> Any:
        """Run one request of a client in this process, and all that follows from it; the reply."""
        hub = self.hub
        before, hub.current = hub.current, self
        try:
            reply = self.execute(argv)
            if hub.pending and before is None:
                hub.drain()
        finally:  # a program may be interrupted in the middle of a command, and go on
            hub.current = before
        return reply

    def execute(self, argv: Argv, table: Table | None = None) -> Any:
        """Look the command up, run it, count it; its reply in the session's codec."""
        started = perf_counter_ns()
        entry: Entry | None = None
        try:
            entry = (self.table if table is None else table)[argv[0]]
            self.command = entry.command
            reply = entry.run(self, argv)
        except Exception as error:
            return self.failed(error, entry, argv, started)
        self.count(entry, argv, perf_counter_ns() - started)
        return reply

    def count(self, entry: Entry, argv: Argv, took: int) -> None:
        """Take down that a request has run, for so many nanoseconds."""
        stats = entry.stats
        stats.buckets[took.bit_length()] += 1
        stats.nanos += took
        if took >= self.hub.slow_nanos:
            self.hub.was_slow(self, argv, took)

    def failed(self, error: Exception, entry: Entry | None, argv: Argv, started: int) -> Any:
        """The error reply; counts it, and spoils a transaction that the command should have joined."""
        if not isinstance(error, StoreError):
            return self.hub.crashed(self, argv)
        if isinstance(error, Postponed):
            return NO_REPLY
        if isinstance(error, UnknownCommand) and argv[0].lower() in _HTTP:
            return self.refuse_http()
        text = unknown_command_text(argv) if isinstance(error, UnknownCommand) else str(error)
        if isinstance(error, CommandRejected):
            if entry is not None:
                entry.stats.rejected += 1
            if self.tracking is not None and not self.in_multi:  # CLIENT CACHING was for this command
                self.tracking.caching &= entry is not None and not ends_caching(self.command)
            text = self._spoil(text, entry)
        elif entry is not None:
            entry.stats.failed += 1
            self.count(entry, argv, perf_counter_ns() - started)
        self.hub.count_error(text)
        return self.codec.error(text)

    def _spoil(self, text: str, entry: Entry | None) -> str:
        """Let EXEC refuse the transaction; a refused EXEC ends it at once. The text to answer."""
        if entry is None or entry.command.name != "EXEC":
            self.tx_aborted = self.in_multi
            return text
        self.discard()
        return f"EXECABORT Transaction discarded because of: {text.removeprefix('ERR ')}"

    # -- stopping and going on ---------------------------------------------------------------------

    def wait(self, block: Block, command: Command, argv: Argv) -> Any:
        """Block until a key is ready or the time is over; returns NO_REPLY."""
        self.stopped = True
        self.hub.block(self, block, command, argv)
        return NO_REPLY

    def postpone(self, argv: Argv) -> Postponed:
        """Put this request off until the pause is over; the exception to raise."""
        self.stopped = True
        self.backlog.appendleft(argv)
        self.hub.postponed.append(self)
        return Postponed()

    def is_paused(self, command: Command, argv: Argv) -> bool:
        return self.hub.pauses(self, command, argv)

    def queue_has(self, flag: str) -> bool:
        """Whether the MULTI queue has a command with that flag."""
        hub = self.hub
        return any(
            (found := hub.find(argv[0])) is not None and flag in hub.flags_of(found, argv)
            for argv in self.queue
        )

    def resume(self, reply: Any = NO_REPLY) -> None:
        """End a stop with the reply to the command that stopped; the backlog runs when the hub drains."""
        self.waiting = None
        if reply is not NO_REPLY:
            self.reply(reply)
        self.hub.resumed.append(self)
        self.hub.pending = True
        self.wake()

    def go_on(self) -> None:
        """Run what came in during a stop."""
        self.stopped = self._closing
        if self.backlog and not self.stopped:
            requests = list(self.backlog)
            self.backlog.clear()
            before = self.hub.current
            self.run(requests)
            self.hub.current = before
        if not self.parser.idle and not self.stopped:
            before = self.hub.current
            self._parse_on()
            self.hub.current = before
        self.wake()

    def push(self, message: Any) -> None:
        """An out-of-band message, encoded for this session's codec.

        One that the client's own command causes comes after the reply to that command.
        """
        hub = self.hub
        if hub.current is self:
            hub.own_pushes.append((self, message))
            hub.pending = True
            return
        self.out.append(message)
        self.wake()

    def wake(self) -> None:
        if self.transport is not None and self.hub.current is not self:
            self.transport.wake()

    def discard(self) -> None:
        """Leave MULTI and forget the queue and the watched keys."""
        self.in_multi = False
        self.queue = []
        self.tx_aborted = False
        if self.watched or self.tx_dirty:
            self.hub.unwatch(self)
        self.table = self.table_in(self.mode)

    @property
    def address(self) -> str:
        """Where the client is, as CLIENT LIST has it; a client in this process is nowhere."""
        return "?:0" if self.transport is None else self.transport.address

    @property
    def local_address(self) -> str:
        return "?:0" if self.transport is None else self.transport.local_address

    @property
    def is_unix(self) -> bool:
        return self.transport is not None and self.address.endswith(":0")

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine, as directives with the value "local" ask."""
        return self.transport is None or self.is_unix or self.address.startswith(("127.", "[::1]", "::1:"))

    @property
    def unsent(self) -> int:
        """Bytes of replies that the client has not taken."""
        if self.transport is None or not self.codec.on_wire:
            return 0
        return self.transport.held + sum(map(len, self.out))

    @property
    def held(self) -> int:
        """Bytes of them that it did not take when they were to be sent."""
        return self.transport.held if self.transport is not None and self.codec.on_wire else 0

    @property
    def buffered(self) -> int:
        """Bytes of the client's requests that have yet to run, and of its replies that it has not taken. O(requests)."""
        waiting = sum(len(word) for argv in (*self.backlog, *self.queue) for word in argv)
        return self.parser.buffered + waiting + self.unsent

    @property
    def fd(self) -> int:
        return -1 if self.transport is None else self.transport.fd

    def refuse_http(self) -> Any:
        """A browser was made to talk to us, as by a page that means harm: close, answer nothing."""
        log.warning("Closing %s, which speaks HTTP: somebody may be attacking across protocols", self.address)
        self.close_transport()
        return NO_REPLY

    def close_transport(self) -> None:
        """Close the connection now, if there is one; what is in ``out`` is lost."""
        if self.transport is not None:
            self.transport.close()

    def kill(self) -> None:
        """Close the connection: at once, or after the reply when it is the one that asks."""
        if self.hub.current is self:
            self.closing = True
        else:
            if self.transport is not None:
                self.transport.close()
            self.close()  # now, so that nothing more of the same unit is its; a transport may let go later

    def close(self) -> None:
        """Forget everything about this client."""
        self.closing = True
        self.backlog.clear()
        self.hub.detach(self)


def run_each(hub: Hub, jobs: Iterator[tuple[Session, Argv]]) -> None:
    """Run one request of each of several clients, in order: a turn's work for clients that do not pipeline.

    As ``Session.run``, without the calls in between. A session that has been stopped by one of the
    requests before its own keeps it for later.
    """
    slow_nanos = hub.slow_nanos
    started = perf_counter_ns()
    for session, argv in jobs:
        if session.stopped:
            session.backlog.append(argv)
            continue
        hub.current = session
        entry: Entry | None = None
        try:
            entry = session.table[argv[0]]
            session.command = entry.command
            run = entry.run
            reply = run(session, argv)
        except Exception as error:
            reply = session.failed(error, entry, argv, started)
            started = perf_counter_ns()
        else:
            ended = perf_counter_ns()
            took = ended - started
            started = ended
            stats = entry.stats
            stats.buckets[took.bit_length()] += 1
            stats.nanos += took
            if took >= slow_nanos:
                hub.was_slow(session, argv, took)
        if reply is not NO_REPLY:
            put = session.reply
            put(reply)
        if hub.pending:
            hub.drain()
    hub.current = None


def unknown_command_text(argv: Argv) -> str:
    args = b""
    for word in argv[1:]:
        if len(args) >= 128:
            break
        args += b"'%b' " % word[: 128 - len(args)].partition(b"\0")[0]  # a C string ends at its NUL
    return "ERR unknown command '{}', with args beginning with: {}".format(
        argv[0][:128].partition(b"\0")[0].decode("utf-8", "surrogateescape"),
        args.decode("utf-8", "surrogateescape"),
    )
