"""EVAL, EVALSHA, their read-only forms, and SCRIPT.

A script runs as one unit: one time for all its commands, nothing of other clients between them, and the hub
drains after it. Its commands go through a table of their own (SCRIPT) in a session of its own, so that SELECT
and RESP3 stay within the script. What is logged are the effects of those commands, never the script.

A script that runs past ``busy-reply-threshold`` lets whoever serves the hub look after the other clients: they
are told BUSY, and may SCRIPT KILL it as long as it has written nothing.

Must not know: Lua.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.help import add_help
from kvstore.commands.kinds import ARRAY, BULK, OK, TREE, TREE2, TREE3
from kvstore.commands.libraries import Libraries
from kvstore.commands.lua import FunctionInterpreter, Interpreter, ScriptKilled, parse_shebang
from kvstore.commands.registry import Argv, Command, Family, KeySpec
from kvstore.commands.session import Session
from kvstore.commands.tables import BUSY, CLUSTERED, LIMITED, SCRIPT, Table, UnknownCommand
from kvstore.errors import NoScriptError, OutOfMemoryError, ResponseError, err
from kvstore.numbers import as_int
from kvstore.resp import ErrorReply

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub

log = logging.getLogger("kvstore")

_UNKNOWN: Final = "ERR Unknown Redis command called from script"
_WRONG_ARITY: Final = "ERR Wrong number of args calling Redis command from script"
_NOT_ALLOWED: Final = "ERR This Redis command is not allowed from script"
_READ_ONLY: Final = "ERR Write commands are not allowed from read-only scripts."
_NOT_BUSY: Final = "NOTBUSY No scripts in execution right now."
_UNKILLABLE: Final = (
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the"
    " script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)
_LOG_LEVELS: Final = (logging.DEBUG, logging.INFO, logging.INFO, logging.WARNING)
_SHA_LENGTH: Final = 40
# Flags of the commands that the flags of a script stand for.
_WRITE: Final = frozenset({"write"})
_GROW: Final = frozenset({"write", "denyoom"})
_DECLARED: Final = frozenset({"write", "denyoom", "may_replicate"})


class Scripting:
    """The scripts and functions of one hub: the interpreters, and what they need of the hub (their ``Hooks``)."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.interpreter = Interpreter(self, version=hub.compat_version)
        self.functions = FunctionInterpreter(self, version=hub.compat_version)
        self.libraries = Libraries(hub.ctx, self.functions)
        # Serves the other clients once, all but the connection of that descriptor. Set by whoever has an
        # event loop. What it raises ends the script and leaves the unit that the script is part of unfinished.
        self.serve_others: Callable[[int], None] | None = None
        self.caller: Session | None = None  # whose script runs
        self._running: Interpreter = self.interpreter  # what it runs in
        self._argv: Argv = []  # the request that runs it
        self._name = ""  # of the script or function
        self.keys: list[bytes] = []  # that were declared for it
        self.flags: frozenset[str] | None = None  # of its shebang line, if it has one
        self.wrote = False
        self._kill = False
        self._read_only = False
        self._restricted = False  # the caller may not do everything
        self._session: Session | None = None
        self._table: Table | None = None  # RESP2's; that of RESP3 is looked up when a script asks for it
        hub.config.on_change("busy-reply-threshold", self._take_limit)
        self._take_limit()

    def _take_limit(self) -> None:
        limit = self._hub.config["busy-reply-threshold"] / 1000
        self.interpreter.time_limit = self.functions.time_limit = limit

    # -- running -----------------------------------------------------------------------------------

    def run(
        self, caller: Session, interpreter: Interpreter, sha: str, argv: Argv, keys: int, read_only: bool
    ) -> Any:
        """Run a script or function that was loaded for a client; its reply tree.

        Raises ResponseError for an error that the script raised or returned, unless a command of it raised
        it: that one has been counted.
        """
        hub = self._hub
        script = interpreter.scripts[sha]
        flags = script.flags
        if flags is not None:
            if "no-cluster" in flags and CLUSTERED in hub.features and caller.transport is not None:
                raise err("Can not run script on cluster, 'no-cluster' flag is set.")
            read_only = self._take_flags(flags, read_only)
        limited = LIMITED in hub.features
        if limited:
            hub.has_room = (flags is not None and "allow-oom" in flags) or hub.make_room()
            if flags is not None and not hub.has_room and not read_only:
                hub.has_room = True
                raise OutOfMemoryError
        self._read_only, self.wrote, self._kill = read_only, False, False
        session = self._open(caller)
        names = argv[3 : 3 + keys]
        self.caller, self.flags, self.keys = caller, flags, names
        self._running, self._argv, self._name = interpreter, argv, script.sha
        try:
            with hub.ctx.unit():
                reply = interpreter.run(sha, names, argv[3 + keys :])
        finally:
            self.caller, self._argv = None, []
            if limited:
                hub.has_room = True
            if BUSY in hub.features:
                hub.set_feature(BUSY, False)
            session.db = caller.db
        if reply.__class__ is ErrorReply:
            if not interpreter.error_counted:
                raise ResponseError(reply.decode("utf-8", "surrogateescape"))
            if caller.command is not None:
                hub.stats_of(caller.command).failed += 1
        return reply

    def flags_of(self, command: Command, word: bytes) -> frozenset[str]:
        """The flags of a call of a script or function, given by its body, SHA1 or name: its own where it
        declares some."""
        flags = self._declared(command.name, word)
        if flags is None:
            return command.flags
        found = command.flags - _DECLARED
        if "no-writes" in flags:
            return found
        return found | (_WRITE if "allow-oom" in flags else _GROW)

    def _declared(self, name: str, word: bytes) -> frozenset[str] | None:
        if name.startswith("FCALL"):
            function = self.libraries.function(word)
            return None if function is None else function.flags
        if name.startswith("EVALSHA"):
            script = self.interpreter.scripts.get(word.decode("latin-1").lower())
            return None if script is None else script.flags
        try:
            return parse_shebang(word)[0]
        except ResponseError:
            return None  # what is wrong with it is told when it is compiled

    def _take_flags(self, flags: frozenset[str], read_only: bool) -> bool:
        """Whether a script with a shebang line may only read."""
        if "no-writes" in flags:
            return True
        if read_only:
            raise err("Can not execute a script with write flag using *_ro command.")
        return False

    def _open(self, caller: Session) -> Session:
        """The session that scripts run in, as its caller is now."""
        hub, session = self._hub, self._session
        if session is None:
            session = self._session = Session(hub, TREE2)
            del hub.sessions[session.id]  # it is no client: nobody lists or kills it
        session.db = caller.db
        session.user = caller.user
        session.authenticated = True
        self._restricted = not caller.user.unrestricted
        self._table = hub.table(TREE2, SCRIPT, caller.no_touch, tracked=caller.tracking is not None)
        return session

    def runs_in(self, session: Session) -> bool:
        """Whether it is the session that scripts run in."""
        return session is self._session

    # -- hooks of the interpreter ------------------------------------------------------------------

    def call(self, argv: list[bytes], protocol: int) -> Any:
        """Run a command of the script; its reply tree."""
        table: Any = self._table
        if protocol == 3:
            caller: Session = self.caller  # type: ignore[assignment]
            tracked = caller.tracking is not None
            table = self._hub.table(TREE3, SCRIPT, caller.no_touch, tracked=tracked)
        started = perf_counter_ns()
        try:
            entry = table[argv[0]]
        except UnknownCommand:
            return self._refuse(_UNKNOWN)
        arity = entry.arity
        if (
            entry.special
            or self._restricted
            or self._read_only
            or (len(argv) != arity if arity >= 0 else len(argv) < -arity)
        ):
            refusal = self._refusal(entry.command, argv)
            if refusal is not None:
                return refusal
        session: Session = self._session  # type: ignore[assignment]
        session.command = entry.command
        try:  # as Session.execute, without the call
            run = entry.run
            reply = run(session, argv)
        except Exception as error:
            reply = session.failed(error, entry, argv, started)
        else:
            took, stats = perf_counter_ns() - started, entry.stats
            stats.buckets[took.bit_length()] += 1
            stats.nanos += took
            if took >= self._hub.slow_nanos:
                self._hub.was_slow(session, argv, took)
        if not self.wrote and "write" in session.command.flags:
            self._note_write(reply)
        return reply

    def _refusal(self, command: Command, argv: Argv) -> ErrorReply | None:
        """The error where a script, or this one, may not run a command, or not with so many words."""
        if command.subcommands and len(argv) > 1:
            found = self._hub.find_sub(command, argv[1])
            if found is None:
                return self._refuse(_UNKNOWN)
            command = found
        flags = command.flags
        if not command.arity_ok(len(argv)):
            return self._refuse(_WRONG_ARITY)
        if "noscript" in flags:
            return self._refuse(_NOT_ALLOWED)
        if self._restricted:
            refused = self._not_permitted(command, argv)
            if refused is not None:
                return refused
        if self._read_only and ("write" in flags or "may_replicate" in flags):
            return self._refuse(_READ_ONLY)
        return None

    def _not_permitted(self, command: Command, argv: Argv) -> ErrorReply | None:
        """The error where the caller's user may not run the command."""
        caller: Session = self.caller  # type: ignore[assignment]
        refusal = caller.user.refusal(command, argv)
        if refusal is None:
            return None
        text = self._hub.users.refuse(caller, command, argv, refusal, "lua")
        return self._refuse(f"ERR ACL failure in script: {text}")

    def _note_write(self, reply: Any) -> None:
        """From the first write on the script is all or nothing: no kill, and no refusal for want of memory."""
        if reply.__class__ is not ErrorReply or not reply.startswith(b"OOM "):
            self.wrote = True
            self._hub.has_room = True

    def _refuse(self, text: str) -> ErrorReply:
        self._hub.count_error(text)
        return ErrorReply(text.encode())

    def allows(self, argv: list[bytes]) -> bool | None:
        """Whether the caller may run the command; None when there is none."""
        command: Command | None = self._hub.find(argv[0])
        if command is not None and command.subcommands and len(argv) > 1:
            command = self._hub.find_sub(command, argv[1])
        if command is None or self.caller is None:
            return None
        return self.caller.user.refusal(command, argv) is None

    def log(self, level: int, message: bytes) -> None:
        """redis.log."""
        log.log(_LOG_LEVELS[level], "%s", message.decode("utf-8", "backslashreplace"))

    def on_slow(self) -> None:
        """Serve the others; raises ScriptKilled when one of them wants the script to end."""
        hub, caller = self._hub, self.caller
        if self.serve_others is None or caller is None:
            return
        if BUSY not in hub.features:
            log.warning(
                "Slow script detected: still in execution after %d milliseconds. You can try killing the script"
                " using the %s command.",
                hub.config["busy-reply-threshold"],
                self._killer,
            )
            hub.set_feature(BUSY, True)
        with hub.interrupted():
            self.serve_others(caller.fd)
        if self._kill:
            raise ScriptKilled

    # -- while one runs ----------------------------------------------------------------------------

    @property
    def _killer(self) -> str:
        return "SCRIPT KILL" if self._running is self.interpreter else "FUNCTION KILL"

    @property
    def busy_text(self) -> str:
        """What those are told who have to wait for the script or function."""
        return f"BUSY Redis is busy running a script. You can only call {self._killer} or SHUTDOWN NOSAVE."

    def kill(self, *, function: bool = False) -> None:
        """Have the running script, or function, end. Raises NOTBUSY or UNKILLABLE, or BUSY for the other."""
        if self.caller is None:
            raise ResponseError(_NOT_BUSY)
        if self.wrote:
            raise ResponseError(_UNKILLABLE)
        if function is not (self._running is self.functions):
            raise ResponseError(self.busy_text)
        self._kill = True

    def running_function(self) -> tuple[bytes, Argv, int] | None:
        """The name of the function that runs, the request, and for how many milliseconds it has run by now.

        Raises BUSY while a script runs."""
        if self.caller is None:
            return None
        if self._running is not self.functions:
            raise ResponseError(self.busy_text)
        return self._name.encode(), self._argv, int((time.monotonic() - self.functions.started) * 1000)


# -- commands ------------------------------------------------------------------------------------------

family = Family("scripting")
FLAGS = "noscript stale skip_monitor no_mandatory_keys"
KEYS = (KeySpec(2, ("keynum", 0, 1, 1), "RW ACCESS UPDATE"),)
KEYS_READ = (KeySpec(2, ("keynum", 0, 1, 1), "RO ACCESS"),)


def _key_count(argv: Argv) -> int:
    count = as_int(argv[2])
    if count > len(argv) - 3:
        raise err("Number of keys can't be greater than number of args")
    if count < 0:
        raise err("Number of keys can't be negative")
    return count


def _eval(session: Session, argv: Argv, read_only: bool) -> Any:
    keys = _key_count(argv)
    scripting = session.hub.scripting
    sha = scripting.interpreter.load_in_passing(argv[1])
    return scripting.run(session, scripting.interpreter, sha, argv, keys, read_only)


def _evalsha(session: Session, argv: Argv, read_only: bool) -> Any:
    if len(argv[1]) != _SHA_LENGTH:
        raise NoScriptError
    keys = _key_count(argv)
    scripting = session.hub.scripting
    sha = argv[1].decode("latin-1").lower()
    if sha not in scripting.interpreter:
        raise NoScriptError
    return scripting.run(session, scripting.interpreter, sha, argv, keys, read_only)


@family.command("EVAL", -3, f"{FLAGS} may_replicate", KEYS, kind=TREE, since="2.6.0")
def eval_(session: Session, argv: Argv) -> Any:
    """Run a Lua script. Depends on the script."""
    return _eval(session, argv, False)


@family.command("EVAL_RO", -3, f"{FLAGS} readonly", KEYS_READ, kind=TREE, since="7.0.0")
def eval_ro(session: Session, argv: Argv) -> Any:
    """Run a Lua script that may only read. Depends on the script."""
    return _eval(session, argv, True)


@family.command("EVALSHA", -3, f"{FLAGS} may_replicate", KEYS, kind=TREE, since="2.6.0")
def evalsha(session: Session, argv: Argv) -> Any:
    """Run a loaded Lua script, named by its SHA1. Depends on the script."""
    return _evalsha(session, argv, False)


@family.command("EVALSHA_RO", -3, f"{FLAGS} readonly", KEYS_READ, kind=TREE, since="7.0.0")
def evalsha_ro(session: Session, argv: Argv) -> Any:
    """Run a loaded Lua script, named by its SHA1, that may only read. Depends on the script."""
    return _evalsha(session, argv, True)


container = family.container("SCRIPT", since="2.6.0")
_ON_ALL = ("request_policy:all_nodes", "response_policy:all_succeeded")


@family.command("SCRIPT LOAD", 3, "noscript stale", kind=BULK, since="2.6.0", tips=_ON_ALL)
def script_load(session: Session, argv: Argv) -> bytes:
    """Compile a script and keep it for EVALSHA; its SHA1. O(n) in the length of the script."""
    return session.hub.scripting.interpreter.load(argv[2]).encode()


@family.command(
    "SCRIPT EXISTS",
    -3,
    "noscript",
    kind=ARRAY,
    since="2.6.0",
    tips=("request_policy:all_shards", "response_policy:agg_logical_and"),
)
def script_exists(session: Session, argv: Argv) -> list[int]:
    """Which of the scripts are there, by their SHA1. O(n) scripts asked for."""
    interpreter = session.hub.scripting.interpreter
    return [int(word.decode("latin-1").lower() in interpreter) for word in argv[2:]]


@family.command("SCRIPT FLUSH", -2, "noscript", kind=OK, since="2.6.0", tips=_ON_ALL)
def script_flush(session: Session, argv: Argv) -> bool:
    """Forget all scripts. O(n) scripts."""
    if len(argv) > 3 or (len(argv) == 3 and argv[2].upper() not in (b"SYNC", b"ASYNC")):
        raise err("SCRIPT FLUSH only support SYNC|ASYNC option")
    session.hub.scripting.interpreter.flush()
    return True


@family.command(
    "SCRIPT KILL",
    2,
    "noscript allow_busy",
    kind=OK,
    since="2.6.0",
    tips=("request_policy:all_shards", "response_policy:one_succeeded"),
)
def script_kill(session: Session, argv: Argv) -> bool:
    """End the script that is running, if it has not written. O(1)."""
    session.hub.scripting.kill()
    return True


@family.command("SCRIPT DEBUG", 3, "noscript", kind=OK, since="3.2.0")
def script_debug(session: Session, argv: Argv) -> bool:
    """Turn the debugger of scripts off; there is none to turn on. O(1)."""
    mode = argv[2].upper()
    if mode not in (b"YES", b"SYNC", b"NO"):
        raise err("Use SCRIPT DEBUG YES/SYNC/NO")
    if mode != b"NO":
        raise err("scripts have no debugger here")
    return True


add_help(
    family,
    container,
    {
        "DEBUG": "YES|SYNC|NO",
        "EXISTS": "<sha1> [<sha1> ...]",
        "FLUSH": "[ASYNC|SYNC]",
        "LOAD": "<script>",
    },
)
