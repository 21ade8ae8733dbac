"""The command table: what each command is, and how it is compiled for a way of answering.

A plain command is a typed Store method and one ``bind`` line. A command with optional tokens is a
typed method and a short handler over argv. ``Command.compile(codec)`` gives the function that runs
it: arity check, body and encoder in one call, made once for each (command, codec).

    family = Family("string")
    family.bind("GET", 2, "readonly fast", KEY_RO, Database.get, BULK)

    @family.command("SET", -3, "write denyoom", KEY_RW, kind=OK)
    def set_(session, argv): ...

Must not know: sockets; what the hub does with entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.kinds import BULK, INT, OK, Codec, Kind
from kvstore.errors import ResponseError
from kvstore.resp import BULK_HEADERS

if TYPE_CHECKING:
    from kvstore.commands.session import Session

Argv = list[bytes]
Body = Callable[["Session", Argv], Any]
Run = Callable[["Session", Argv], Any]
# Runs several requests of one command, of as many words each as it was registered with, of which nobody but a log
# hears: the replies, perhaps several in one element. None: nothing has been done, run each.
Row = Callable[["Session", list[Argv], Codec], list[Any] | None]


class _NoReply:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_REPLY"


# What a command's run returns when nothing is to be sent now: it blocked, or it pushed its answers.
NO_REPLY: Any = _NoReply()


class CommandRejected(ResponseError):
    """Refused before it ran (unknown, arity, OOM, auth): counts as rejected and aborts a MULTI."""


class Postponed(CommandRejected):
    """Put off by CLIENT PAUSE: nothing happened yet."""


class Block:
    """What a blocking command's body returns when nothing is there to serve it.

    ``keys``: the keys to wait for. ``timeout``: seconds, 0 for ever. ``container``: the class that a
    key's value must have to be worth another try. The same body runs again when a key is ready; when
    the time is over the command answers None. ``expects``: the body found such a value at every key, and
    runs again too when one is gone.
    """

    __slots__ = ("container", "expects", "keys", "timeout")

    def __init__(
        self, keys: tuple[bytes, ...], timeout: float, container: type | None = None, *, expects: bool = False
    ):
        self.expects = expects
        self.keys = keys
        self.timeout = timeout
        self.container = container

    def at_end(self) -> Any:
        """What the command answers when its time is over, or where it may not block."""
        return None


@dataclass(frozen=True, slots=True)
class KeySpec:
    """Where a command's keys are.

    ``begin``: index of the first key, or a keyword after which keys stand. ``find``: ("range", last,
    step) with last relative to begin (negative: from the end), or ("keynum", index of the count, first
    key, step), both relative to begin, as COMMAND INFO reports them.
    ``flags``: as COMMAND INFO reports them, such as "RW ACCESS UPDATE". ``look``: what finds the indexes of the
    keys where the command must be asked; clients are told that they are unknown.
    """

    begin: int | tuple[str, int]
    find: tuple[str, int, int] | tuple[str, int, int, int]
    flags: str
    look: Callable[[Argv], range] | None = None


def keys_at(first: int, last: int, step: int, flags: str) -> tuple[KeySpec, ...]:
    """Keys from ``first`` to ``last`` (absolute; negative counts from the end) every ``step``."""
    relative = last if last < 0 else last - first
    return (KeySpec(first, ("range", relative, step), flags),)


def keys_counted(at: int, flags: str) -> tuple[KeySpec, ...]:
    """A count of keys at index ``at``, then the keys."""
    return (KeySpec(at, ("keynum", 0, 1, 1), flags),)


# Where keys begin that clients are not told how to find, as COMMAND INFO reports it.
UNKNOWN_PLACE: Final = ("unknown", 0)


def keys_unknown(flags: str, look: Callable[[Argv], range] | None = None) -> tuple[KeySpec, ...]:
    """Keys that clients cannot find; here ``look`` does, or nothing."""
    return (KeySpec(UNKNOWN_PLACE, ("unknown", 0, 0), flags, look),)


NO_KEYS: tuple[KeySpec, ...] = ()
KEY_READ = keys_at(1, 1, 1, "RO ACCESS")
KEY_LOOK = keys_at(1, 1, 1, "RO")
KEY_INSERT = keys_at(1, 1, 1, "RW INSERT")
KEY_UPDATE = keys_at(1, 1, 1, "RW UPDATE")
KEY_ACCESS_UPDATE = keys_at(1, 1, 1, "RW ACCESS UPDATE")
KEY_ACCESS_DELETE = keys_at(1, 1, 1, "RW ACCESS DELETE")
KEY_DELETE = keys_at(1, 1, 1, "RW DELETE")
KEY_OVERWRITE = keys_at(1, 1, 1, "OW UPDATE")
KEYS_READ = keys_at(1, -1, 1, "RO ACCESS")


@dataclass(slots=True, eq=False)
class Command:
    """One command or subcommand, as the table has it. Shared by all servers of the process."""

    name: str  # upper case; a subcommand's own name only
    arity: int  # counts every word; negative: at least
    flags: frozenset[str]
    keys: tuple[KeySpec, ...]
    body: Body
    kind: Kind
    group: str
    since: str = "1.0.0"
    categories: frozenset[str] = frozenset()
    parent: Command | None = None
    subcommands: dict[str, Command] = field(default_factory=dict)
    method: Callable[..., Any] | None = None
    getkeys: Callable[[Argv], list[int]] | None = None  # indexes of the keys where specs do not say
    tips: tuple[str, ...] = ()
    compile_with: Callable[[Command, Codec], Run] | None = None
    row: tuple[int, Row] | None = None  # the number of words, and what runs several of so many
    _runs: dict[Codec, Run] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """As COMMAND and INFO name it: ``config|get``, in lower case."""
        own = self.name.lower()
        return f"{self.parent.full_name}|{own}" if self.parent else own

    def arity_ok(self, count: int) -> bool:
        return count == self.arity if self.arity >= 0 else count >= -self.arity

    def wrong_arity(self) -> CommandRejected:
        return CommandRejected(f"ERR wrong number of arguments for '{self.full_name}' command")

    def compile(self, codec: Codec) -> Run:
        """The function that checks the arity, runs the command and answers in the codec's way: one for all
        hubs of the process."""
        run = self._runs.get(codec)
        if run is None:
            run = self._runs[codec] = self._compile(codec)
        return run

    def _compile(self, codec: Codec) -> Run:
        if self.compile_with is not None:
            return self.compile_with(self, codec)
        if "blocking" in self.flags:
            return _compile_blocking(self, self.body, codec.of(self.kind))
        if self.kind is BULK and codec.on_wire and self.method is not None and self.arity in (2, 3):
            return _compile_bulk_method(self, self.method, codec.of(BULK))
        if self.method is not None:
            return _compile_method(self, self.method, codec.of(self.kind))
        return _compile_body(self, self.body, codec.of(self.kind))


def _compile_body(command: Command, body: Body, answer: Callable[[Any], Any]) -> Run:
    arity = command.arity
    if arity >= 0:

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) != arity:
                raise command.wrong_arity()
            return answer(body(session, argv))

    else:
        least = -arity

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) < least:
                raise command.wrong_arity()
            return answer(body(session, argv))

    return run


def _compile_blocking(command: Command, body: Body, answer: Callable[[Any], Any]) -> Run:
    def run(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        value = body(session, argv)
        if isinstance(value, Block):
            if session.may_block:
                return session.wait(value, command, argv)
            value = value.at_end()
        return answer(value)

    return run


def _compile_method(command: Command, method: Callable[..., Any], answer: Callable[[Any], Any]) -> Run:
    """As ``_compile_body``, with the call of the method inside: one Python call less a command."""
    arity = command.arity
    if arity == 2:

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) != 2:
                raise command.wrong_arity()
            return answer(method(session.db, argv[1]))

    elif arity == 3:

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) != 3:
                raise command.wrong_arity()
            return answer(method(session.db, argv[1], argv[2]))

    elif arity >= 0:

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) != arity:
                raise command.wrong_arity()
            return answer(method(session.db, *argv[1:]))

    else:
        least = -arity

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) < least:
                raise command.wrong_arity()
            return answer(method(session.db, *argv[1:]))

    return run


def _compile_bulk_method(
    command: Command, method: Callable[..., bytes | None], answer: Callable[[Any], Any]
) -> Run:
    """As ``_compile_method`` for two or three words and a bulk string on the wire, which is encoded here if it is
    short: again one Python call less."""
    headers, short = BULK_HEADERS, len(BULK_HEADERS)
    if command.arity == 2:

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) != 2:
                raise command.wrong_arity()
            value = method(session.db, argv[1])
            if value is None or (size := len(value)) >= short:
                return answer(value)
            return headers[size] + value + b"\r\n"

    else:

        def run(session: Session, argv: Argv) -> Any:
            if len(argv) != 3:
                raise command.wrong_arity()
            value = method(session.db, argv[1], argv[2])
            if value is None or (size := len(value)) >= short:
                return answer(value)
            return headers[size] + value + b"\r\n"

    return run


def compile_silent(command: Command, codec: Codec) -> Run:
    """For commands that may answer nothing: their body may return NO_REPLY."""
    answer = codec.of(command.kind)

    def run(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        value = command.body(session, argv)
        return value if value is NO_REPLY else answer(value)

    return run


COMMANDS: dict[str, Command] = {}


def _method_body(method: Callable[..., Any]) -> Body:
    return lambda session, argv: method(session.db, *argv[1:])


class Family:
    """Registers the commands of one group. ``bind`` for plain ones, ``command`` for handlers."""

    def __init__(self, group: str, category: str | None = None):
        self.group = group
        self.category = group.replace("_", "").replace("-", "") if category is None else category

    def bind(
        self,
        name: str,
        arity: int,
        flags: str,
        keys: tuple[KeySpec, ...],
        method: Callable[..., Any],
        kind: Kind,
        *,
        since: str = "1.0.0",
        categories: str = "",
        tips: tuple[str, ...] = (),
        row: tuple[int, Row] | None = None,
    ) -> Command:
        """Bind a command whose words after the name are the method's positional arguments."""
        command = self._add(name, arity, flags, keys, _method_body(method), kind, since, categories, tips)
        command.method, command.row = method, row
        return command

    def command(
        self,
        name: str,
        arity: int,
        flags: str,
        keys: tuple[KeySpec, ...] = NO_KEYS,
        *,
        kind: Kind,
        since: str = "1.0.0",
        categories: str = "",
        getkeys: Callable[[Argv], list[int]] | None = None,
        tips: tuple[str, ...] = (),
        method: Callable[..., Any] | None = None,
        compile_with: Callable[[Command, Codec], Run] | None = None,
        row: tuple[int, Row] | None = None,
    ) -> Callable[[Body], Body]:
        """Decorator for a handler ``(session, argv) -> value of the kind``.

        ``name`` may be "CONFIG GET" for a subcommand. ``method``: the typed method whose docstring
        documents the command, when there is one.
        """

        def decorate(body: Body) -> Body:
            command = self._add(name, arity, flags, keys, body, kind, since, categories, tips)
            command.getkeys = getkeys
            command.compile_with = compile_with
            command.row = row
            if method is not None and body.__doc__ is None:
                body.__doc__ = method.__doc__
            return body

        return decorate

    def container(self, name: str, flags: str = "", *, since: str = "1.0.0", categories: str = "") -> Command:
        """A command that is only the head of its subcommands."""
        command = self._add(name, -2, flags, NO_KEYS, _no_body, OK, since, categories, ())
        command.categories = frozenset({"slow", *categories.split()})
        return command

    def _add(
        self,
        name: str,
        arity: int,
        flags: str,
        keys: tuple[KeySpec, ...],
        body: Body,
        kind: Kind,
        since: str,
        categories: str,
        tips: tuple[str, ...],
    ) -> Command:
        own_flags = frozenset(flags.split())
        command = Command(name.split()[-1], arity, own_flags, keys, body, kind, self.group, since, tips=tips)
        command.categories = _categories(own_flags, self.category, categories)
        words = name.split()
        if len(words) == 2:
            command.parent = COMMANDS[words[0]]
            command.parent.subcommands[words[1]] = command
        else:
            COMMANDS[name] = command
        return command


def _no_body(session: Session, argv: Argv) -> Any:
    raise AssertionError("a container command is dispatched to its subcommand")


def _categories(flags: frozenset[str], group: str, extra: str) -> frozenset[str]:
    """ACL categories: those that follow from flags, the group's, and the named ones."""
    found = {group, *extra.split()}
    if "write" in flags:
        found.add("write")
    if "readonly" in flags and "scripting" not in found:
        found.add("read")
    if "admin" in flags:
        found |= {"admin", "dangerous"}
    if "pubsub" in flags:
        found.add("pubsub")
    if "blocking" in flags:
        found.add("blocking")
    found.add("fast" if "fast" in flags else "slow")
    found.discard("")
    return frozenset(found)


__all__ = ["BULK", "COMMANDS", "INT", "OK", "Command", "CommandRejected", "Family", "KeySpec"]
