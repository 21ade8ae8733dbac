"""What the sessions of one store share: tables, watchers, channels, blocked clients, statistics.

The hub listens to the store only while somebody wants to hear (watched keys, blocked clients,
notifications), buffers what it hears, and acts in ``drain()``, after the unit: a command, an EXEC, a
script. ``pending`` says that there is something to drain.

Order of a drain: what the command pushed to its own client, notifications, ready keys (clients blocked on
a key in the order in which they blocked), and when no key is ready any more what clients sent while they
were stopped; until nothing is pending.

Must not know: sockets, the event loop. Time comes from the store's context.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kvstore.commands import settings
from kvstore.commands.acl import Users
from kvstore.commands.all import COMMANDS
from kvstore.commands.config import Config
from kvstore.commands.host import Host
from kvstore.commands.info import Rates
from kvstore.commands.kinds import Codec
from kvstore.commands.latency import LatencyMonitor
from kvstore.commands.monitor import monitor_line
from kvstore.commands.node import Node
from kvstore.commands.notify import UNWATCHED, Notifications
from kvstore.commands.persistence import Persistence, UntilSynced
from kvstore.commands.pubsub_registry import Channels
from kvstore.commands.registry import Argv, Block, Command
from kvstore.commands.scripting import Scripting
from kvstore.commands.session import Session, Waiting
from kvstore.commands.slowlog import SlowLog
from kvstore.commands.tables import (
    BUSY,
    DENIED,
    GUARDED,
    LIMITED,
    LOADING,
    MONITORED,
    PAUSED_ALL,
    PAUSED_WRITES,
    RESTRICTED,
    RUN_SCRIPTS,
    TRACKED,
    UNTOUCHING,
    CommandStats,
    Guard,
    Table,
    check_permission,
)
from kvstore.commands.timers import Timer, Timers
from kvstore.commands.tracking import Tracker
from kvstore.engine.context import Context, Effect, Event
from kvstore.engine.types.cold import container_of
from kvstore.errors import StoreError
from kvstore.resp import Status

if TYPE_CHECKING:
    from kvstore.engine.database import Database

log = logging.getLogger("kvstore")

# The version whose behaviour is kept, as INFO reports it.
COMPAT_VERSION = (7, 4, 0)
# What CLIENT PAUSE WRITE puts off.
_WRITES = frozenset({"write", "may_replicate"})
# Events of what may serve clients that are blocked on a key that was there before.
_SERVING = frozenset({"xadd", "xgroup-destroy"})
# Codes of errors that are counted apart, as scripts can make up any number of them.
_MOST_ERROR_CODES = 128


class Hub:
    """One for each store that has sessions."""

    channels: Channels

    def __init__(self, ctx: Context, config: Config | None = None):
        self.ctx = ctx
        self.config = Config() if config is None else config
        self.host = Host()
        self.started_ms = ctx.clock.now_ms()
        self.persistence: Persistence | None = None  # the files of the store, if it has any
        self.refusal: str | None = None  # why writes are refused now
        self.guard: Guard | None = None  # looks at each request before it runs
        self.node: Node | None = None  # of a cluster, if the server is one
        self.disabled: frozenset[Command] = frozenset()  # commands and subcommands that nobody knows here
        self._unsynced: dict[Session, None] = {}  # those that wait for the log to be on the disk
        self.sessions: dict[int, Session] = {}
        self.current: Session | None = None
        self.features: frozenset[str] = frozenset()
        self.compat_version = COMPAT_VERSION
        self.renamed: dict[str, str | None] = {}
        self._next_id = 1
        self._tables: dict[tuple[Codec, str, frozenset[str]], Table] = {}
        self._stats: dict[Command, CommandStats] = {}
        self.errors: dict[str, int] = {}
        self.total_errors = 0
        # commands at least this long go to was_slow()
        self.slow_nanos = 10_000_000
        self.users = Users(self)
        self.rates = Rates(self)
        self.slowlog = SlowLog(self)
        self.latency = LatencyMonitor(self)
        # buffered by the listener, handled by drain()
        self.pending = False
        self.channels = Channels()
        self.notifications = Notifications(self)
        self.tracking = Tracker(self)
        self.own_pushes: list[
            tuple[Session, Any]
        ] = []  # what the current session's command pushes to its own client
        self.resumed: list[Session] = []  # their stop is over, their backlog has yet to run
        # Keys that may serve who is blocked on them; False: only those who must know that a value is gone.
        self._ready: dict[tuple[int, bytes], bool] = {}
        self._expecting: Counter[tuple[int, bytes]] = Counter()  # how many of the blocked must know that
        self._watchers: dict[tuple[int, bytes], set[Session]] = {}
        self._blocked: dict[tuple[int, bytes], OrderedDict[Session, None]] = {}
        self._draining = False
        self._timers = Timers()
        # CLIENT PAUSE
        self.postponed: list[Session] = []
        self.cron_paused = False  # DEBUG PAUSE-CRON: no active expiry
        self.pause_until_ms = 0
        self.monitors: dict[Session, None] = {}
        self.make_room: Callable[[], bool] = lambda: True
        self.has_room = True
        if config is None:
            settings.adopt(self.config, ctx)
        settings.connect(self)
        self.scripting = Scripting(self)

    # -- sessions and tables -----------------------------------------------------------------------

    def attach(self, session: Session) -> None:
        session.id = self._next_id
        self._next_id += 1
        self.sessions[session.id] = session

    def detach(self, session: Session) -> None:
        if self.sessions.pop(session.id, None) is None:
            return
        self.unwatch(session)
        self._unblock(session)
        self.channels.forget(session)
        self.tracking.forget(session)
        if session in self.monitors:
            self.set_monitor(session, False)
        if session in self.postponed:
            self.postponed.remove(session)
        session.stopped = True

    def table(
        self,
        codec: Codec,
        mode: str,
        untouching: bool = False,
        restricted: bool = False,
        tracked: bool = False,
    ) -> Table:
        features = self.features | {UNTOUCHING} if untouching else self.features
        if restricted:
            features |= {RESTRICTED}
        if tracked:
            features |= {TRACKED}
        key = (codec, mode, features)
        found = self._tables.get(key)
        if found is None:
            found = self._tables[key] = Table(self, codec, mode, features)
        return found

    @property
    def last_save_ms(self) -> int:
        """When the data was last saved; for a store in memory, the start."""
        return self.started_ms if self.persistence is None else self.persistence.last_save_ms()

    def set_refusal(self, text: str | None) -> None:
        """Answer writes with that error from now on, or (None) no longer."""
        self.refusal = text
        self.set_feature(DENIED, text is not None)

    def set_guard(self, guard: Guard | None) -> None:
        """Let it run or refuse each request from now on, or (None) nobody any longer."""
        self.guard = guard
        self.set_feature(GUARDED, guard is not None)

    def set_loading(self, on: bool) -> None:
        """Let commands wait, but for those that need no data, while the store is filled."""
        self.set_feature(LOADING, on)

    def set_feature(self, feature: str, on: bool) -> None:
        """Change what every session's table does; O(sessions)."""
        features = self.features | {feature} if on else self.features - {feature}
        if features != self.features:
            self.features = features
            for session in self.sessions.values():
                session.retable()

    def reset_tables(self) -> None:
        """Forget compiled tables, after names or versions changed."""
        self._tables.clear()
        for session in self.sessions.values():
            session.retable()

    def find(self, name: bytes) -> Command | None:
        """The command of that name in any case, unless it is hidden or renamed away."""
        upper = name.upper().decode("latin-1")
        if self.renamed:
            if upper in self.renamed.values():
                upper = next(real for real, alias in self.renamed.items() if alias == upper)
            elif upper in self.renamed:
                return None
        command = COMMANDS.get(upper)
        return command if command is not None and self.is_visible(command) else None

    def find_sub(self, parent: Command, name: bytes) -> Command | None:
        command = parent.subcommands.get(name.upper().decode("latin-1"))
        return command if command is not None and self.is_visible(command) else None

    def flags_of(self, command: Command, argv: Argv) -> frozenset[str]:
        """The flags of a request: the command's, but those of its script where that declares some."""
        if command.name in RUN_SCRIPTS and len(argv) > 1:
            return self.scripting.flags_of(command, argv[1])
        return command.flags

    @property
    def version(self) -> str:
        """The version whose behaviour is kept: "7.4.0"."""
        return ".".join(map(str, self.compat_version))

    def is_visible(self, command: Command) -> bool:
        """Whether the version whose behaviour is kept has the command, and nobody has disabled it."""
        return (
            command not in self.disabled and tuple(map(int, command.since.split("."))) <= self.compat_version
        )

    # -- statistics --------------------------------------------------------------------------------

    def stats_of(self, command: Command) -> CommandStats:
        found = self._stats.get(command)
        if found is None:
            found = self._stats[command] = CommandStats()
        return found

    @property
    def stats(self) -> dict[Command, CommandStats]:
        return self._stats

    def count_error(self, text: str) -> None:
        code = text.split(" ", 1)[0]
        if code in self.errors or len(self.errors) < _MOST_ERROR_CODES:
            self.errors[code] = self.errors.get(code, 0) + 1
        self.total_errors += 1

    def crashed(self, session: Session, argv: Argv) -> Any:
        """A bug of ours: the client is told, nobody else notices, the log has the traceback."""
        name = argv[0][:64].decode("utf-8", "replace")
        log.exception("internal error in command %r", name)
        self.count_error("ERR")
        return session.codec.error(
            f"ERR internal error in command '{name}'; the server's log has the details"
        )

    def was_slow(self, session: Session, argv: Argv, nanos: int) -> None:
        command = session.command
        queued = bool(session.queue) and session.queue[-1] is argv
        if command is None or queued:
            return  # queueing it is no call
        client = session if session.id in self.sessions else self.current or session  # a script's caller
        self.slowlog.was_slow(client, command, argv, nanos)
        self.latency.was_slow(command, nanos)

    # -- listening to the store ----------------------------------------------------------------------

    @property
    def hears(self) -> bool:
        """Whether changes are told to anybody but a log."""
        listeners = self.ctx.listeners
        return bool(listeners) and (self in listeners or self.tracking in listeners)

    def relisten(self) -> None:
        """Listen exactly while somebody wants to hear."""
        if self._watchers or self._blocked or self.notifications.wanted:
            self.ctx.listen(self)
        else:
            self.ctx.unlisten(self)

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        for name, key in events:
            where = (db, key)
            if where in self._blocked:
                if name in _SERVING:
                    self._is_ready(where)
                elif self._expecting and where in self._expecting:
                    self._ready.setdefault(where, False)
                    self.pending = True
            if where in self._watchers and name not in UNWATCHED:
                for session in self._watchers[where]:
                    session.tx_dirty = True
            if self.notifications.wanted:
                self.notifications.add(db, name, key)

    def on_event(self, db: int, name: str, key: bytes) -> None:
        # A key is ready when it is made. One that was there held a value that served nobody, and a command
        # that overwrites such a value wakes nobody on a real server either.
        if name == "new" and (db, key) in self._blocked:
            self._is_ready((db, key))
        if self.notifications.wanted:
            self.notifications.add(db, name, key)

    def _is_ready(self, where: tuple[int, bytes], made: bool = True) -> None:
        self._ready[where] = made or self._ready.get(where, False)
        self.pending = True

    def on_clear(self, db: int, had: Container[bytes]) -> None:
        for where, key in self._expecting:
            if where == db and key in had:
                self._is_ready((where, key), made=False)
        for (where, key), sessions in self._watchers.items():
            if where == db and key in had:
                for session in sessions:
                    session.tx_dirty = True

    def on_swap(self, db: int, has: Container[bytes], other: int, other_has: Container[bytes]) -> None:
        for (where, key), sessions in self._watchers.items():
            if where in (db, other) and (key in has or key in other_has):
                for session in sessions:
                    session.tx_dirty = True
        for where, key in self._blocked:
            if key in (has if where == db else other_has if where == other else ()):
                self._is_ready((where, key))
        for where, key in self._expecting:
            if where in (db, other):
                self._is_ready((where, key), made=False)

    def on_unit(self, begins: bool) -> None:
        """A unit's end is seen by ``drain()``, which waits for it."""

    def drain(self) -> None:
        """Act on what the unit that just ended has caused, and on what follows from that."""
        current = self.current
        self._push_own()
        if self._draining:
            return
        self._draining = True
        self.current = None
        try:
            while self.pending:
                self.pending = False
                self.notifications.send()
                self.tracking.drain()
                ready, self._ready = self._ready, {}
                for (db, key), made in ready.items():
                    self._serve(db, key, made)
                if not self._ready:
                    resumed, self.resumed = self.resumed, []
                    for session in resumed:
                        self._go_on(session)
        finally:
            self._draining = False
            self.current = current

    def _push_own(self) -> None:
        """Send what a command has pushed to its own client, whose reply has been given."""
        if self.own_pushes:
            pushes, self.own_pushes = self.own_pushes, []
            for session, message in pushes:
                session.out.append(message)

    def _go_on(self, session: Session) -> None:
        """Run what came in during a stop. A bug costs this client its connection, and nobody else anything."""
        try:
            session.go_on()
        except Exception:
            log.exception("internal error while serving a client")
            self.current = None
            session.close_transport()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Serve other clients in the middle of a unit: what it has caused so far stays for its end.

        Its time stands still meanwhile, and nothing is drained: nobody who waits for what it made is served,
        no notification is sent.
        """
        ctx = self.ctx
        frozen, current, pushes, draining = ctx.frozen, self.current, self.own_pushes, self._draining
        self.own_pushes, self._draining = [], True
        try:
            yield
        finally:
            ctx.frozen, self.current, self.own_pushes, self._draining = frozen, current, pushes, draining

    def settle(self) -> None:
        """``drain()`` after what was done to the store by no session: calls of its own methods."""
        if self.pending and self.current is None:
            self.drain()

    # -- WATCH -------------------------------------------------------------------------------------

    def watch(self, session: Session, keys: list[bytes]) -> None:
        for key in keys:
            where = (session.db.index, key)
            if BUSY not in self.features:  # in the middle of a script nothing changes
                session.db._peek(key)  # a key that is already past its deadline is watched as missing
            watchers = self._watchers.setdefault(where, set())
            if session not in watchers:
                watchers.add(session)
                session.watched.append(where)
        self.relisten()

    def unwatch(self, session: Session) -> None:
        session.tx_dirty = False
        if not session.watched:
            return
        for where in session.watched:
            watchers = self._watchers.get(where)
            if watchers is not None:
                watchers.discard(session)
                if not watchers:
                    del self._watchers[where]
        session.watched = []
        self.relisten()

    # -- blocked clients -----------------------------------------------------------------------------

    def block(self, session: Session, block: Block, command: Command, argv: Argv) -> None:
        now = self.ctx.now()
        index = session.db.index
        waiting = Waiting(block, command, argv, [(index, key) for key in dict.fromkeys(block.keys)])
        session.waiting = waiting
        if isinstance(block, UntilSynced):
            self._unsynced[session] = None
        for where in waiting.keys:
            self._blocked.setdefault(where, OrderedDict())[session] = None
            if block.expects:
                self._expecting[where] += 1
        if block.timeout > 0:
            deadline = now + max(1, round(block.timeout * 1000))
            waiting.timer = self.call_at(deadline, lambda: self.unblock(session, None))
        self.relisten()

    def _unblock(self, session: Session) -> Waiting | None:
        """Take the session out of the queues of blocked clients."""
        waiting, session.waiting = session.waiting, None
        if waiting is None:
            return None
        if waiting.timer is not None:
            self._timers.cancel(waiting.timer)
        self._unsynced.pop(session, None)
        for where in waiting.keys:
            queue = self._blocked.get(where)
            if queue is not None:
                queue.pop(session, None)
                if not queue:
                    del self._blocked[where]
            if waiting.block.expects:
                self._expecting[where] -= 1
                if not self._expecting[where]:
                    del self._expecting[where]
        self.relisten()
        return waiting

    def unblock(self, session: Session, error: str | None) -> None:
        """End a blocked command: with the error, or (None) as when its time is over."""
        waiting = self._unblock(session)
        if waiting is None:
            return
        if error is not None:
            self.count_error(error)
            session.resume(session.codec.error(error))
        else:
            nothing = session.codec.of(waiting.command.kind)(waiting.block.at_end())
            session.resume(session.codec.null_array if waiting.keys else nothing)
        if self.current is None:
            self.drain()

    @property
    def blocked_clients(self) -> int:
        return sum(1 for session in self.sessions.values() if session.waiting is not None)

    @property
    def watched_keys(self) -> int:
        return len(self._watchers)

    @property
    def blocking_keys(self) -> int:
        return len(self._blocked)

    def _serve(self, db: int, key: bytes, made: bool) -> None:
        """Let the clients blocked on a key try again, in the order in which they blocked.

        ``made``: there may be something for them; else only for those who expect a value that is gone.
        """
        queue = self._blocked.get((db, key))
        if queue is None:
            return
        database = self.ctx.database(db)
        for session in list(queue):
            waiting = session.waiting
            value = database._peek(key)
            if waiting is None or (db, key) not in self._blocked:
                continue
            container = waiting.block.container
            if container is not None and container_of(value) is not container:
                if not waiting.block.expects:
                    continue
            elif not made:
                continue
            self._try_again(session, waiting)

    def synced(self) -> None:
        """The log may have reached the disk further than before: serve those who wait for that."""
        if not self._unsynced:
            return
        for session in list(self._unsynced):
            waiting = session.waiting
            if waiting is not None:
                self._try_again(session, waiting)
        self.settle()

    def _try_again(self, session: Session, waiting: Waiting) -> None:
        before, self.current = self.current, session
        try:
            if not session.user.unrestricted:  # the user may have changed meanwhile
                check_permission(self, session, waiting.command, waiting.argv)
            value = waiting.command.body(session, waiting.argv)
            if session.tracking is not None:
                self.tracking.remember_call(session, waiting.command, waiting.argv)
            if isinstance(value, Block):
                return
            reply = session.codec.of(waiting.command.kind)(value)
        except StoreError as error:
            self.count_error(str(error))
            self.stats_of(waiting.command).failed += 1
            reply = session.codec.error(str(error))
        except Exception:  # a bug of ours: neither who blocked next nor who made the key pays for it
            reply = self.crashed(session, waiting.argv)
        finally:
            self.current = before
        self._unblock(session)
        session.resume(reply)
        self._push_own()

    # -- CLIENT PAUSE --------------------------------------------------------------------------------

    def pauses(self, session: Session, command: Command, argv: Argv) -> bool:
        """Whether a pause puts this command off now. A client in this process could not wait for its end."""
        if not session.may_block:
            return False
        if self.ctx.now() >= self.pause_until_ms:
            self.unpause()  # where nobody runs the timers
            return False
        if PAUSED_ALL in self.features:
            return True
        if command.name == "EXEC":
            return any(
                (found := self.find(queued[0])) is not None and bool(self.flags_of(found, queued) & _WRITES)
                for queued in session.queue
            )
        return bool(self.flags_of(command, argv) & _WRITES)

    def pause(self, until_ms: int, writes_only: bool) -> None:
        """Put commands off until then; a longer or stricter pause under way stays."""
        self.pause_until_ms = max(self.pause_until_ms, until_ms)
        self.set_feature(PAUSED_WRITES if writes_only else PAUSED_ALL, True)
        self.call_at(self.pause_until_ms, self._pause_over)

    def _pause_over(self) -> None:
        if self.ctx.now() >= self.pause_until_ms:
            self.unpause()

    def unpause(self) -> None:
        self.pause_until_ms = 0
        self.set_feature(PAUSED_ALL, False)
        self.set_feature(PAUSED_WRITES, False)
        postponed, self.postponed = self.postponed, []
        for session in postponed:
            session.resume()
        if self.current is None:
            self.drain()

    # -- MONITOR -------------------------------------------------------------------------------------

    def set_monitor(self, session: Session, on: bool) -> None:
        if on:
            self.monitors[session] = None
        else:
            self.monitors.pop(session, None)
        self.set_feature(MONITORED, bool(self.monitors))

    def feed_monitors(self, session: Session, argv: Argv, by_script: bool = False) -> None:
        """Show a command to the clients that called MONITOR. O(monitors)."""
        line = Status(monitor_line(session, argv, by_script))
        for monitor in self.monitors:
            monitor.push(monitor.codec.encode(line))

    # -- limits and timers -----------------------------------------------------------------------------

    def set_limited(self, make_room: Callable[[], bool] | None) -> None:
        """Call ``make_room`` before each command from now on (maxmemory), or no longer (None)."""
        self.make_room = make_room or (lambda: True)
        self.set_feature(LIMITED, make_room is not None)

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Timer:
        """Call at that time of the store's clock, from ``run_timers``. O(log n)."""
        return self._timers.add(at_ms, call)

    def next_timer_ms(self) -> int | None:
        """When ``run_timers`` has something to do, or None."""
        soonest = self._timers.next_ms()
        if self._expires_actively:
            for database in self.ctx.databases.values():
                due = database.next_due_ms()
                if due is not None and (soonest is None or due < soonest):
                    soonest = due
        return soonest

    @property
    def _expires_actively(self) -> bool:
        """Keys do not go by themselves while clients are paused, so that the data stands still."""
        paused = (
            self.cron_paused
            or LOADING in self.features
            or PAUSED_ALL in self.features
            or PAUSED_WRITES in self.features
        )
        return self.ctx.active_expire and not paused

    def run_timers(self) -> None:
        """Make the calls whose time has come; expire a slice of what is due."""
        self._timers.run(self.ctx.now())
        if self._expires_actively:
            self.latency.measure(b"expire-cycle", self._expire)
        if self.pending:
            self.drain()

    def _expire(self) -> None:
        for database in list(self.ctx.databases.values()):
            database.expire_due(EXPIRE_SLICE)

    def find_database(self, index: int) -> Database:
        return self.ctx.database(index)


# Entries of due buckets handled between two looks at the sockets; about a millisecond.
EXPIRE_SLICE = 1000
