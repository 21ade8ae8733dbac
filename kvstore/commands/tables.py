"""Dispatch tables: what a word means to a session in its present mode.

A session's mode is its table: names to entries whose ``run`` is compiled for the session's codec and
wrapped by whatever the mode and the hub's features ask for (queueing under MULTI, the memory limit,
MONITOR, ...). Nothing on the hot path asks about modes. A table fills itself on first use of a name.

Must not know: sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kvstore.commands.acl.selector import REASONS
from kvstore.commands.kinds import Codec
from kvstore.commands.registry import Argv, Command, CommandRejected, Row, Run
from kvstore.commands.slots import checking_slots, keeping_to_node
from kvstore.commands.tracking import ends_caching, reader_of
from kvstore.errors import OutOfMemoryError, StoreError, err

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

# A session's modes.
NORMAL = "normal"
MULTI = "multi"  # between MULTI and EXEC
SUBSCRIBED = "subscribed"  # RESP2 client with subscriptions
NOAUTH = "noauth"  # has yet to log in
EXECUTING = "executing"  # the queued commands of an EXEC
SCRIPT = "script"  # the calls of a running script

# Features of a hub that change what commands do; each is in ``Hub.features`` while it is needed.
MONITORED = "monitored"
LIMITED = "limited"  # maxmemory is set
PAUSED_ALL = "paused-all"
PAUSED_WRITES = "paused-writes"
BUSY = "busy"  # a script has run past its time
LOADING = "loading"  # the store is being filled from its files
LOADING_TEXT = "LOADING Redis is loading the dataset in memory"
DENIED = "denied"  # what is written could not be kept: the hub has the text
GUARDED = "guarded"  # whoever serves the hub looks at each request first
CLUSTERED = "clustered"  # the server is a node of a cluster
# Features of a session.
UNTOUCHING = "untouching"  # CLIENT NO-TOUCH
RESTRICTED = "restricted"  # its user may not do everything
TRACKED = "tracked"  # what it reads is remembered for CLIENT TRACKING

# Spellings of command names that a table keeps; others are resolved at each call.
_MOST_SPELLINGS = 2048
# Commands that run a script or function, which may declare flags of its own.
RUN_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
RUN_IN_MULTI = frozenset({"EXEC", "DISCARD", "QUIT", "RESET"})
_RUN_SUBSCRIBED = frozenset(
    {"SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE"}
    | {"PING", "QUIT", "RESET"}
)
# Commands of O(1) or O(log n) a word, by the number of words up to which a request takes next to no time: where a
# client may ask for a count of elements, without it.
_BRIEF = {
    **dict.fromkeys(
        """APPEND DECR DECRBY ECHO EXISTS EXPIRE EXPIREAT GET GETBIT GETEX GETSET HEXISTS HGET HINCRBY HLEN HMGET
        HMSET HSET HSETNX HSTRLEN INCR INCRBY LLEN LPUSH MGET MSET PERSIST PEXPIRE PEXPIREAT PING PSETEX PTTL RPUSH
        SADD SCARD SET SETEX SETNX SISMEMBER SMISMEMBER SREM STRLEN TTL TYPE ZADD ZCARD ZINCRBY ZRANK ZREM ZREVRANK
        ZSCORE""".split(),
        8,
    ),
    **dict.fromkeys("LPOP RPOP SPOP SRANDMEMBER ZPOPMAX ZPOPMIN".split(), 2),
}
# Commands that a directive must allow.
_PROTECTED = {
    "debug": "enable-debug-command",
    **dict.fromkeys(("module|load", "module|loadex", "module|unload"), "enable-module-command"),
}
# Powers of two of nanoseconds that a command's duration is counted in.
HISTOGRAM_BUCKETS = 64


# Runs a request in the place of its command, which it may do, or refuses it by an exception. It is told the
# mode: one of MULTI is yet to be queued, unless it is of RUN_IN_MULTI; the session of SCRIPT is the script's own.
Guard = Callable[["Session", Command, Argv, str, Run], Any]


class UnknownCommand(CommandRejected):
    """No such command; the session words the error, as it has argv."""


class CommandStats:
    """Counters of one command on one hub."""

    __slots__ = ("buckets", "failed", "nanos", "rejected")

    def __init__(self) -> None:
        self.buckets = [0] * HISTOGRAM_BUCKETS  # by bit length of the nanoseconds a call took
        self.nanos = 0
        self.rejected = 0
        self.failed = 0

    @property
    def calls(self) -> int:
        return sum(self.buckets)


def _no_row(session: Session, requests: list[Argv], codec: Codec) -> None:
    return None


class QueuedStats(CommandStats):
    """For a command that is only queued: that is no call, but a refusal counts."""

    __slots__ = ("_real",)

    def __init__(self, real: CommandStats):
        self._real = real
        self.buckets = [0] * HISTOGRAM_BUCKETS
        self.nanos = self.failed = 0

    @property
    def rejected(self) -> int:
        return self._real.rejected

    @rejected.setter
    def rejected(self, count: int) -> None:
        self._real.rejected = count


class Entry:
    """A command in a table: how to run it there, and where its statistics are kept.

    ``brief``: a request of up to that many words cannot take long, whatever the data. ``queued``: what is answered
    to a request that has the right number of words, and only has to be queued; None: run it. ``row``: runs several
    requests of one of the sizes at once. ``special``: a script has to ask whether it may run it.
    """

    __slots__ = ("arity", "brief", "command", "queued", "row", "row_sizes", "run", "special", "stats")

    def __init__(self, command: Command, run: Run, stats: CommandStats):
        self.command = command
        self.arity = command.arity
        self.queued: Any = None
        self.row: Row = _no_row
        self.row_sizes: set[int] = set()
        self.special = bool(command.subcommands) or "noscript" in command.flags
        self.brief = _BRIEF.get(command.name, 0)
        self.run = run
        self.stats = stats


class Table(dict[bytes, Entry]):
    """Entries by name as the client spells it."""

    __slots__ = ("_entries", "codec", "features", "hub", "mode")

    def __init__(self, hub: Hub, codec: Codec, mode: str, features: frozenset[str]):
        super().__init__()
        self.hub = hub
        self.codec = codec
        self.mode = mode
        self.features = features
        self._entries: dict[Command, Entry] = {}  # not by name, which may be renamed away

    def __missing__(self, name: bytes) -> Entry:
        command = self.hub.find(name)
        if command is None:
            raise UnknownCommand("")
        entry = self._entries.get(command)
        if entry is None:
            entry = self._entries[command] = self.entry(command)
        if len(self) < _MOST_SPELLINGS:
            self[name] = entry
        return entry

    def entry(self, command: Command) -> Entry:
        """A new entry for the command (or subcommand), with the wrappers of this table."""
        stats = self.hub.stats_of(command)
        if self.mode == MULTI and command.name not in RUN_IN_MULTI:
            stats = QueuedStats(stats)
        entry = Entry(command, command.body, stats)
        if command.subcommands and command.arity != -1:
            entry.run = _dispatch(self, entry)
        elif command.subcommands:
            entry.run = _dispatch_or_self(self, entry, self._wrapped(command))
        else:
            entry.run = self._wrapped(command)
            if command.row is not None and entry.run is command.compile(self.codec):
                size, entry.row = command.row
                entry.row_sizes = {size}
            if isinstance(entry.run, Queueing) and "no_multi" not in command.flags:
                entry.queued = self.codec.queued
        return entry

    def _wrapped(self, command: Command) -> Run:
        """The command's run under this mode and these features; the last wrapper is asked first."""
        run = command.compile(self.codec)
        if self.mode == EXECUTING and command.name == "SSUBSCRIBE":
            run = _never_in_exec
        flags, features = command.flags, self.features
        if CLUSTERED in features:
            run = keeping_to_node(self.hub, command, run, self.mode == SCRIPT)
        if UNTOUCHING in features and not flags & {"write"} and command.name != "TOUCH":
            run = _untouching(run)
        if TRACKED in features:
            run = _tracked(self.hub, command, run, self.mode)
        if MONITORED in features and "skip_monitor" in flags:
            run = _monitored_first(self.hub, command, run)
        elif MONITORED in features and "admin" not in flags:
            run = _monitored(self.hub, run, self.mode == SCRIPT)
        if self.mode == SCRIPT:
            if LIMITED in features:
                run = _limited(self.hub, command, run, evict=False)
            if DENIED in features and command.name != "PING":
                run = _denying(self.hub, command, run)
            return _guarded(self.hub, self.mode, command, run) if GUARDED in features else run
        if self.mode == MULTI and command.name not in RUN_IN_MULTI:
            run = Queueing(self.codec, command)
        if GUARDED in features and self.mode == EXECUTING:
            run = _guarded(self.hub, self.mode, command, run)
        if self.mode == EXECUTING:  # EXEC has been asked already, and is one unit: nothing of it waits
            return _still_permitted(self.hub, command, run) if RESTRICTED in features else run
        if PAUSED_ALL in features or PAUSED_WRITES in features:
            run = _pausing(command, run, PAUSED_ALL in features)
        if BUSY in features and "allow_busy" not in flags:
            run = _refusing(command, lambda: self.hub.scripting.busy_text)
        if LOADING in features and "loading" not in flags:
            run = _refusing(command, LOADING_TEXT)
        if self.mode == SUBSCRIBED and command.name not in _RUN_SUBSCRIBED:
            run = _refusing(
                command,
                f"ERR Can't execute '{command.full_name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            )
        if DENIED in features:
            run = _denying(self.hub, command, run)
        if LIMITED in features and BUSY not in features:  # nothing is evicted in the middle of a script
            run = _limited(self.hub, command, run)
        if CLUSTERED in features and not (self.mode == MULTI and "no_multi" in flags):
            run = checking_slots(self.hub, command, run)
        if GUARDED in features:
            run = _guarded(self.hub, self.mode, command, run)
        if RESTRICTED in features and "no_auth" not in flags:
            run = _permitted(self.hub, command, run, self.mode == MULTI)
        if self.mode == NOAUTH and "no_auth" not in flags:
            run = _refusing(command, "NOAUTH Authentication required.")
        if command.full_name in _PROTECTED:
            run = _protected(self.hub, command, run, _PROTECTED[command.full_name])
        return run


def _dispatch(table: Table, entry: Entry) -> Run:
    """A container's run: find the subcommand, run it, and let the caller count it as its own."""
    subentries: dict[bytes, Entry] = {}
    command = entry.command

    def run(session: Session, argv: Argv) -> Any:
        if len(argv) < 2:
            raise command.wrong_arity()
        sub = subentries.get(argv[1])
        if sub is None:
            found = table.hub.find_sub(command, argv[1])
            if found is None:
                word = argv[1][:128].partition(b"\0")[0].decode("utf-8", "surrogateescape")
                raise CommandRejected(f"ERR unknown subcommand '{word}'. Try {command.name} HELP.")
            sub = table.entry(found)
            if len(subentries) < _MOST_SPELLINGS:
                subentries[argv[1]] = sub
        entry.stats = sub.stats
        session.command = sub.command
        return sub.run(session, argv)

    return run


def _dispatch_or_self(table: Table, entry: Entry, own: Run) -> Run:
    """For COMMAND, which is a command of its own when it stands alone."""
    dispatch, stats = _dispatch(table, entry), entry.stats

    def run(session: Session, argv: Argv) -> Any:
        if len(argv) > 1:
            return dispatch(session, argv)
        entry.stats = stats
        return own(session, argv)

    return run


def _protected(hub: Hub, command: Command, run: Run, directive: str) -> Run:
    """Refuse the command unless the directive lets this client call it."""
    name = (command.parent or command).name

    def run_protected(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        allowed = hub.config[directive]
        if allowed == "yes" or (allowed == "local" and session.is_local):
            return run(session, argv)
        raise CommandRejected(
            f'ERR {name} command not allowed. If the {directive} option is set to "local", you can run it '
            "from a local connection, otherwise you need to set this option in the configuration file, and "
            "then restart the server."
        )

    return run_protected


def _refusing(command: Command, text: str | Callable[[], str]) -> Run:
    def run(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        raise CommandRejected(text if isinstance(text, str) else text())

    return run


def _never_in_exec(session: Session, argv: Argv) -> Any:
    raise err("SSUBSCRIBE isn't allowed for a DENY BLOCKING client")


def check_permission(
    hub: Hub, session: Session, command: Command, argv: Argv, context: str = "toplevel"
) -> None:
    """Raise NOPERM, and log it, where the session's user may not make the request."""
    refusal = session.user.refusal(command, argv)
    if refusal is not None:
        raise CommandRejected(f"NOPERM {hub.users.refuse(session, command, argv, refusal, context)}")


def _permitted(hub: Hub, command: Command, run: Run, queued: bool) -> Run:
    """Refuse what the session's user may not do."""
    context = "multi" if queued else "toplevel"
    refused_first = queued and "no_multi" in command.flags

    def run_permitted(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        if not refused_first:
            check_permission(hub, session, command, argv, context)
        return run(session, argv)

    return run_permitted


# Why a command is refused that was allowed when it was queued, by what is refused of it.
_NO_LONGER = {
    "command": "no permission to execute the command or subcommand",
    "key": "no permission to touch the specified keys",
    "channel": "no permission to access one of the channels used as arguments",
}


def _still_permitted(hub: Hub, command: Command, run: Run) -> Run:
    """For a command of a transaction: its user may have changed since it was queued."""

    def run_permitted(session: Session, argv: Argv) -> Any:
        refusal = session.user.refusal(command, argv)
        if refusal is None:
            return run(session, argv)
        hub.users.refuse(session, command, argv, refusal, "multi")
        raise CommandRejected(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
            f"This command is no longer allowed for the following reason: {_NO_LONGER[REASONS[refusal[0]]]}"
        )

    return run_permitted


def _guarded(hub: Hub, mode: str, command: Command, run: Run) -> Run:
    """Let the hub's guard decide."""

    def run_guarded(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        guard = hub.guard
        return run(session, argv) if guard is None else guard(session, command, argv, mode, run)

    return run_guarded


class Queueing:
    """The run of a command between MULTI and EXEC."""

    __slots__ = ("_command", "_queued")

    def __init__(self, codec: Codec, command: Command):
        self._command = command
        self._queued = codec.queued

    def __call__(self, session: Session, argv: Argv) -> Any:
        command = self._command
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        if "no_multi" in command.flags:
            raise CommandRejected("ERR Command not allowed inside a transaction")
        session.queue.append(argv)
        return self._queued


def _limited(hub: Hub, command: Command, run: Run, evict: bool = True) -> Run:
    """Make room first; refuse what would grow the data when there is none."""
    denied = "denyoom" in command.flags
    runs_script = evict and command.name in RUN_SCRIPTS

    def run_limited(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        has_room = hub.make_room() if evict else hub.has_room
        if not has_room and (
            denied
            or (command.name == "EXEC" and session.queue_has("denyoom"))
            or (runs_script and "denyoom" in hub.flags_of(command, argv))
        ):
            raise _Oom()
        return run(session, argv)

    return run_limited


def _denying(hub: Hub, command: Command, run: Run) -> Run:
    """Refuse what writes, and PING, so that who watches the server notices."""
    if not ("write" in command.flags or command.name in ("PING", "EXEC", *RUN_SCRIPTS)):
        return run

    def run_denied(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        if (
            command.name == "PING"
            or "write" in hub.flags_of(command, argv)
            or (command.name == "EXEC" and session.queue_has("write"))
        ):
            raise CommandRejected(hub.refusal or "MISCONF")
        return run(session, argv)

    return run_denied


class _Oom(OutOfMemoryError, CommandRejected):
    pass


def _monitored(hub: Hub, run: Run, by_script: bool) -> Run:
    """Show the command to the monitors once it has run; not one that was refused."""

    def run_monitored(session: Session, argv: Argv) -> Any:
        try:
            reply = run(session, argv)
        except CommandRejected:
            raise
        except StoreError:
            hub.feed_monitors(session, argv, by_script)
            raise
        hub.feed_monitors(session, argv, by_script)
        return reply

    return run_monitored


def _monitored_first(hub: Hub, command: Command, run: Run) -> Run:
    """Show a script to the monitors before the commands that it calls."""

    def run_monitored(session: Session, argv: Argv) -> Any:
        if command.arity_ok(len(argv)):
            hub.feed_monitors(session, argv)
        return run(session, argv)

    return run_monitored


def _untouching(run: Run) -> Run:
    """Let the command's look-ups go unrecorded. Only for what reads: a key made without a record of its
    first use would be the next to be evicted."""

    def run_untouching(session: Session, argv: Argv) -> Any:
        db = session.db
        tap, db._on_access = db._on_access, None
        try:
            return run(session, argv)
        finally:
            db._on_access = tap

    return run_untouching


def _tracked(hub: Hub, command: Command, run: Run, mode: str) -> Run:
    """Remember which keys the command has read, whether it succeeds or not; CLIENT CACHING is over after it."""
    keys_of = reader_of(command)
    if mode in (SCRIPT, EXECUTING):
        return run if keys_of is None else _remembering(hub, keys_of, run, mode == SCRIPT)
    if not ends_caching(command):
        return run
    if keys_of is not None:
        run = _remembering(hub, keys_of, run, by_script=False)

    def run_tracked(session: Session, argv: Argv) -> Any:
        try:
            return run(session, argv)
        finally:
            tracking = session.tracking
            if tracking is not None and not session.in_multi:
                tracking.caching = False

    return run_tracked


def _remembering(hub: Hub, keys_of: Callable[[Argv], Iterable[bytes]], run: Run, by_script: bool) -> Run:
    tracker = hub.tracking

    def run_remembering(session: Session, argv: Argv) -> Any:
        try:
            reply = run(session, argv)
        except CommandRejected:
            raise
        except StoreError:
            tracker.remember(hub.scripting.caller or session if by_script else session, keys_of(argv))
            raise
        tracker.remember(hub.scripting.caller or session if by_script else session, keys_of(argv))
        return reply

    return run_remembering


def _pausing(command: Command, run: Run, everything: bool) -> Run:
    """Put the command off until CLIENT PAUSE is over."""
    flags = command.flags
    waits = everything or "write" in flags or "may_replicate" in flags
    if not waits and command.name not in ("EXEC", *RUN_SCRIPTS):
        return run

    def run_paused(session: Session, argv: Argv) -> Any:
        if session.is_paused(command, argv):
            raise session.postpone(argv)
        return run(session, argv)

    return run_paused
