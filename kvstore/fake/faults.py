"""What a test's author has arranged to go wrong on a fake server: errors, lost connections, slow replies.

``Faults`` is the guard of the server's hub (see ``commands/tables.py``) while there is something to arrange, and is
not asked at all while there is nothing. What it refuses is refused where a real server would: a command between
MULTI and EXEC when it is queued, so that EXEC fails as well; a command that a script calls within the script.

What goes wrong for commands of any name goes wrong for those that the test's code sends, not for those with which a
library begins a connection; these fail where they are named.

Must not know: client libraries. Their exceptions are told by the names of their classes.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kvstore.commands.registry import COMMANDS, NO_REPLY, Argv, Command, CommandRejected, Run
from kvstore.commands.tables import EXECUTING, LOADING_TEXT, SCRIPT
from kvstore.errors import StoreError

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

_READ_ONLY = "READONLY You can't write against a read only replica."
# What a server says where a client library raises an exception of this name. Libraries take the code away.
_TEXTS = {
    "AskError": "ASK 0 127.0.0.1:6379",
    "AuthenticationError": "WRONGPASS invalid username-password pair or user is disabled.",
    "AuthenticationRequiredError": "NOAUTH Authentication required.",
    "BusyLoadingError": LOADING_TEXT,
    "ClusterCrossSlotError": "CROSSSLOT Keys in request don't hash to the same slot",
    "ClusterDownError": "CLUSTERDOWN The cluster is down",
    "ExecAbortError": "EXECABORT Transaction discarded because of previous errors.",
    "MasterDownError": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MovedError": "MOVED 0 127.0.0.1:6379",
    "NoPermissionError": "NOPERM this user has no permissions to run this command",
    "NoScriptError": "NOSCRIPT No matching script. Please use EVAL.",
    "OutOfMemoryError": "OOM command not allowed when used memory > 'maxmemory'.",
    "ReadOnlyError": _READ_ONLY,
    "TryAgainError": "TRYAGAIN Multiple keys request during rehashing of slot",
}
_ERROR = re.compile(r"[A-Z][A-Z0-9_]*( [^\r\n]*)?")
REPLY, DROP, HANG = "reply", "drop", "hang"

# A command, or any (None).
Target = Command | None


class Fault:
    """Something that ``fail`` or ``fail_next`` has arranged. As a context manager, it ends with the block.

    ``hits``: how often it has been met.
    """

    def __init__(self, faults: Faults, target: Target, error: Any, times: int | None, after: bool):
        self.kind, self.text = _meaning(error)
        if after and self.kind == REPLY:
            raise ValueError("a command that has run answers: only its connection can be lost after it")
        self.target = target
        self.left = times
        self.after = after
        self.hits = 0
        self._faults = faults

    def heal(self) -> None:
        """End it."""
        self._faults.remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *error: object) -> None:
        self.heal()

    def __repr__(self) -> str:
        what = self.text if self.kind == REPLY else self.kind
        return f"<{_name_of(self.target)}: {what}, met {self.hits} times>"


def _meaning(error: Any) -> tuple[str, str]:
    """What an error means for the connection, and the reply that tells it.

    Raises ValueError for a text that is no error reply, TypeError for what is no error.
    """
    if isinstance(error, str):
        if not _ERROR.fullmatch(error):
            raise ValueError(
                f"an error reply is a code in capitals and a line of text, not {error!r}: 'ERR no'"
            )
        return REPLY, error
    cls = error if isinstance(error, type) else type(error)
    if not issubclass(cls, Exception):
        raise TypeError(f"an error is the text of a reply or an exception, not {error!r}")
    text = "" if isinstance(error, type) else str(error)
    if issubclass(cls, StoreError):
        return _meaning(text)
    for name in (each.__name__ for each in cls.__mro__):
        if name in _TEXTS:
            return REPLY, f"{_TEXTS[name].split(' ', 1)[0]} {text}" if text else _TEXTS[name]
        if name == "TimeoutError":
            return HANG, ""
        if name == "ConnectionError":
            return DROP, ""
        if name == "ResponseError":
            return REPLY, text if _ERROR.fullmatch(text) else f"ERR {text or 'failed'}"
    raise TypeError(f"no server can make a client raise {cls.__name__}; give the text of the reply")


class Faults:
    """What goes wrong on one server, and the guard that has it go wrong."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._next: dict[Target, deque[Fault]] = {}
        self._always: dict[Target, Fault] = {}
        self._delays: dict[Command, int] = {}  # ms
        self.latency_ms = 0
        self.read_only = False

    # -- what is arranged --------------------------------------------------------------------------

    def add(self, name: str | None, error: Any, times: int | None, after: bool) -> Fault:
        """Let commands of that name fail, so many times or (None) until that is taken back."""
        fault = Fault(self, target_of(name), error, times, after)
        if times is None:
            self._always[fault.target] = fault
        else:
            self._next.setdefault(fault.target, deque()).append(fault)
        self.update()
        return fault

    def delay(self, name: str, ms: int) -> None:
        """Have its replies come later; 0: no longer."""
        command = target_of(name)
        if command is None:
            raise ValueError("latency is what delays all commands")
        self._delays[command] = ms
        if not ms:
            del self._delays[command]
        self.update()

    def remove(self, fault: Fault) -> None:
        target = fault.target
        if self._always.get(target) is fault:
            del self._always[target]
        queue = self._next.get(target, deque())
        if fault in queue:
            queue.remove(fault)
        if not queue:
            self._next.pop(target, None)
        self.update()

    def heal(self, name: str | None) -> None:
        """Take back what was arranged for that name, or (None) everything but latency."""
        arranged: Any
        for arranged in (self._next, self._always, self._delays):
            if name is None:
                arranged.clear()
            else:
                arranged.pop(target_of(name), None)
        self.update()

    def update(self) -> None:
        """Guard the hub exactly while there is something to arrange."""
        needed = self._next or self._always or self._delays or self.latency_ms or self.read_only
        self._hub.set_guard(self.guard if needed else None)

    # -- what goes wrong ---------------------------------------------------------------------------

    def guard(self, session: Session, command: Command, argv: Argv, mode: str, run: Run) -> Any:
        """Run a request, unless something goes wrong with it."""
        client = self._hub.scripting.caller if mode == SCRIPT else session
        line: Any = None if client is None else client.transport
        if line is None or line.exchange.record is None:
            return run(session, argv)  # the author's own look at the data
        if mode == EXECUTING:
            return run(session, argv)  # what could go wrong has done so when it was queued
        if self.read_only:
            self._check_read_only(session, command, argv, mode)
        greets = line.greets
        ms = self._delay_of(command) + (0 if greets or mode == SCRIPT else self.latency_ms)
        if ms:
            line.delay(ms)
        fault = self._meet(command, greets)
        if fault is None:
            return run(session, argv)
        if fault.kind == REPLY:
            raise CommandRejected(fault.text)
        if fault.after:
            self._run_unheard(session, argv, run)
        if fault.kind == DROP:
            line.drop()
        else:
            line.hang()
        if mode == SCRIPT:
            raise CommandRejected("ERR the connection to the client is lost")
        return NO_REPLY

    def _run_unheard(self, session: Session, argv: Argv, run: Run) -> None:
        try:
            run(session, argv)
        except StoreError:
            pass  # nobody hears of it

    def _meet(self, command: Command, greets: bool) -> Fault | None:
        """The fault that this command meets now, if any; one that was to be met so many times is nearer."""
        targets: list[Target] = [command, command.parent] if command.parent else [command]
        if not greets:
            targets.append(None)
        for target in targets:
            queue = self._next.get(target)
            if queue:
                fault = queue[0]
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
                    if not fault.left:
                        self.remove(fault)
                return fault
        for target in targets:
            if target in self._always:
                self._always[target].hits += 1
                return self._always[target]
        return None

    def _delay_of(self, command: Command) -> int:
        own = self._delays.get(command, 0)
        return own or (self._delays.get(command.parent, 0) if command.parent else 0)

    def _check_read_only(self, session: Session, command: Command, argv: Argv, mode: str) -> None:
        flags = command.flags if mode == SCRIPT else self._hub.flags_of(command, argv)
        if "write" in flags or (command.name == "EXEC" and session.queue_has("write")):
            raise CommandRejected(_READ_ONLY)


def target_of(name: str | None) -> Target:
    """The command of a name such as "get" or "CONFIG GET"; None for None, which is any. Raises ValueError."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a command is named by a str, not {name!r}")
    head, *more = name.upper().replace("|", " ").split() or [""]
    found = COMMANDS.get(head)
    if found is not None and more:
        found = found.subcommands.get(more[0]) if len(more) == 1 else None
    if found is None:
        raise ValueError(f"there is no command {name!r}")
    return found


def commands_named(names: Iterable[str]) -> frozenset[Command]:
    """The commands of these names. Raises ValueError."""
    if isinstance(names, str):
        raise ValueError("give the names of commands as a list or a set, not as one string")
    return frozenset(command for name in names if (command := target_of(name)) is not None)


def _name_of(target: Target) -> str:
    return "any command" if target is None else target.full_name.upper().replace("|", " ")
