"""A selector: one set of commands, keys and channels that go together.

A request is allowed if its command, all its keys and all its channels are, each by the same selector. Rules change
a selector one by one, in the order in which they are given, as "+@all -@dangerous +keys".

Invariants
- ``first_args`` has only commands that are not in ``commands``.
- ``rules`` lead from "-@all" (or, with ``future``, from "+@all") to the same permissions.

Costs: a check is a set lookup, and for each key and channel one match a pattern. Must not know: users, sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final

from kvstore.commands.introspection import CATEGORIES, find_keys
from kvstore.commands.registry import COMMANDS, Argv, Command
from kvstore.glob import Matcher, compile_glob

READ: Final = 1
WRITE: Final = 2

# Why a request is refused; where selectors differ, the highest counts.
COMMAND: Final = 1
KEY: Final = 2
CHANNEL: Final = 3
REASONS: Final = {COMMAND: "command", KEY: "key", CHANNEL: "channel"}

# (why, index of the word that is refused: of a key or channel; 0 for the command)
Refusal = tuple[int, int]
# The command of a name such as "get" or "config|get", None where there is none.
Lookup = Callable[[bytes], Command | None]

_SYNTAX: Final = "Syntax error"
_UNKNOWN: Final = "Unknown command or category name in ACL"
_AFTER_ALL: Final = (
    "Adding a pattern after the * pattern (or the '{0}' flag) is not valid and does not have any effect."
    " Try '{1}' to start with an empty list of {2}"
)
_SPACES: Final = frozenset(b" \t\n\v\f\r\0")


class RuleError(ValueError):
    """A rule that cannot be applied; ``str()`` says why. ``unknown``: it names no command or category."""

    def __init__(self, reason: str, *, unknown: bool = False):
        super().__init__(reason)
        self.unknown = unknown


def has_space(word: bytes) -> bool:
    """Whether the word could not be read back from a line: it has a blank or a NUL byte."""
    return not _SPACES.isdisjoint(word)


def every_command() -> Iterator[Command]:
    """All commands and subcommands."""
    for command in COMMANDS.values():
        yield command
        yield from command.subcommands.values()


@cache
def _all_commands() -> frozenset[Command]:
    """The same, as one set for all who may run them; asked for once the table is whole."""
    return frozenset(every_command())


class Selector:
    """What one part of a user's rules allows. Nothing, at first."""

    __slots__ = (
        "all_channels",
        "all_commands",
        "all_keys",
        "channels",
        "commands",
        "first_args",
        "future",
        "patterns",
        "rules",
    )

    def __init__(self, all_channels: bool = False):
        self.all_keys = False
        self.all_channels = all_channels
        self.all_commands = False  # nothing was taken away since +@all
        self.future = False  # +@all came after -@all: what no rule speaks of is allowed
        self.commands: frozenset[Command] = frozenset()
        self.first_args: dict[Command, tuple[bytes, ...]] = {}  # lower case
        self.rules: list[bytes] = []  # those of commands: b"+get", b"-@write"
        self.patterns: dict[bytes, tuple[int, Matcher]] = {}  # of keys: what they allow
        self.channels: dict[bytes, Matcher] = {}

    def copy(self) -> Selector:
        other = Selector()
        for name in Selector.__slots__:
            value = getattr(self, name)
            setattr(other, name, value.copy() if isinstance(value, (dict, list)) else value)
        return other

    @property
    def allows_all(self) -> bool:
        return self.all_commands and self.all_keys and self.all_channels

    @property
    def reads_all_keys(self) -> bool:
        return self.all_keys or (b"*" in self.patterns and bool(self.patterns[b"*"][0] & READ))

    # -- rules -------------------------------------------------------------------------------------

    def apply(self, rule: bytes, lookup: Lookup) -> None:
        """Change what is allowed by one rule, not empty. Raises RuleError. O(commands) for categories."""
        word = rule.partition(b"\0")[0]  # a C string ends at its NUL
        lower = word.lower()
        if lower in (b"allkeys", b"~*"):
            self.all_keys = True
            self.patterns = {}
        elif lower == b"resetkeys":
            self.all_keys = False
            self.patterns = {}
        elif lower in (b"allchannels", b"&*"):
            self.all_channels = True
            self.channels = {}
        elif lower == b"resetchannels":
            self.all_channels = False
            self.channels = {}
        elif lower in (b"allcommands", b"+@all"):
            self._reset_commands(True)
        elif lower in (b"nocommands", b"-@all"):
            self._reset_commands(False)
        elif rule.startswith((b"~", b"%")):
            self._add_pattern(rule)
        elif rule.startswith(b"&"):
            self._add_channel(rule[1:])
        elif lower.startswith((b"+@", b"-@")):
            self._apply_category(lower)
        elif lower.startswith(b"+") and b"|" in lower:
            self._add_narrowed(lower[1:], lookup)
        elif lower.startswith((b"+", b"-")):
            command = _known(lookup(lower[1:]))
            self._permit([command], lower.startswith(b"+"))
            self._note_rule(lower[:1], command.full_name.encode())
        else:
            raise RuleError(_SYNTAX)

    def _reset_commands(self, allowed: bool) -> None:
        self.all_commands = self.future = allowed
        self.commands = _all_commands() if allowed else frozenset()
        self.first_args = {}
        self.rules = []

    def _add_pattern(self, rule: bytes) -> None:
        if self.all_keys:
            raise RuleError(_AFTER_ALL.format("allkeys", "resetkeys", "patterns"))
        allowed, at = READ | WRITE, 1
        if rule.startswith(b"%"):
            head, tilde, _ = rule.partition(b"~")
            letters = head[1:].upper()
            if letters not in (b"R", b"W", b"RW", b"WR"):
                raise RuleError(_SYNTAX)
            allowed = (READ if b"R" in letters else 0) | (WRITE if b"W" in letters else 0)
            at = len(head) + len(tilde)
        pattern = rule[at:]
        if has_space(pattern):
            raise RuleError(_SYNTAX)
        before = self.patterns.get(pattern, (0, None))[0]
        self.patterns[pattern] = (before | allowed, compile_glob(pattern))

    def _add_channel(self, pattern: bytes) -> None:
        if self.all_channels:
            raise RuleError(_AFTER_ALL.format("allchannels", "resetchannels", "channels"))
        if has_space(pattern):
            raise RuleError(_SYNTAX)
        self.channels[pattern] = compile_glob(pattern)

    def _apply_category(self, rule: bytes) -> None:
        name = rule[2:].decode("latin-1")
        if name not in CATEGORIES:
            raise RuleError(_UNKNOWN, unknown=True)
        found = [command for command in every_command() if name in command.categories]
        self._permit(found, rule.startswith(b"+"))
        self._note_rule(rule[:1], rule[1:])

    def _add_narrowed(self, name: bytes, lookup: Lookup) -> None:
        """A subcommand; or, of a command that has none, the calls with that first argument."""
        head, _, tail = name.rpartition(b"|")
        command = _known(lookup(head))
        if command.parent is not None:
            raise RuleError("Allowing first-arg of a subcommand is not supported")
        if not tail or has_space(tail):
            raise RuleError(_SYNTAX)
        if command.subcommands:
            self._permit([_known(lookup(name))], True)
        elif command not in self.commands:
            self.first_args[command] = (*self.first_args.get(command, ()), tail)
        self._note_rule(b"+", name)

    def _permit(self, commands: Iterable[Command], allowed: bool) -> None:
        """Allow or refuse commands with all their subcommands."""
        chosen = {each for command in commands for each in (command, *command.subcommands.values())}
        self.commands = self.commands | chosen if allowed else self.commands - chosen
        self.all_commands = self.all_commands and allowed
        for command in self.first_args.keys() & chosen:
            del self.first_args[command]

    def _note_rule(self, sign: bytes, name: bytes) -> None:
        """Keep the rule in words, without earlier ones that it makes void."""
        self.rules = [
            rule for rule in self.rules if rule[1:] != name and not rule[1:].startswith(name + b"|")
        ]
        self.rules.append(sign + name)

    # -- in words ------------------------------------------------------------------------------------

    @property
    def commands_text(self) -> bytes:
        return b" ".join([b"+@all" if self.future else b"-@all", *self.rules])

    @property
    def keys_text(self) -> bytes:
        if self.all_keys:
            return b"~*"
        marks = {READ: b"%R~", WRITE: b"%W~", READ | WRITE: b"~"}
        return b" ".join(marks[allowed] + pattern for pattern, (allowed, _) in self.patterns.items())

    @property
    def channels_text(self) -> bytes:
        return b"&*" if self.all_channels else b" ".join(b"&" + pattern for pattern in self.channels)

    def describe(self) -> bytes:
        """The rules that make this selector from nothing."""
        channels = self.channels_text
        if not self.all_channels:
            channels = b"resetchannels %b" % channels if channels else b"resetchannels"
        return b" ".join(filter(None, (self.keys_text, channels, self.commands_text)))

    # -- checks --------------------------------------------------------------------------------------

    def refusal(self, command: Command, argv: Argv, keys: Keys) -> Refusal | None:
        """Why a request is refused, None where it is not. O(keys * patterns)."""
        if not self._has_command(command, argv):
            return COMMAND, 0
        if not self.all_keys and (command.keys or command.getkeys is not None):
            for at, needed in keys.found:
                if not self.allows_key(argv[at], needed):
                    return KEY, at
        if not self.all_channels and command.parent is None:
            channels = _CHANNELS.get(command.name)
            if channels is not None:
                last, is_pattern = channels
                for at in range(1, len(argv) if last is None else last + 1):
                    if not self.allows_channel(argv[at], is_pattern):
                        return CHANNEL, at
        return None

    def _has_command(self, command: Command, argv: Argv) -> bool:
        if command in self.commands or "no_auth" in command.flags:
            return True
        return command in self.first_args and len(argv) > 1 and argv[1].lower() in self.first_args[command]

    def allows_key(self, key: bytes, needed: int) -> bool:
        """Whether one pattern allows all that is ``needed`` of the key. O(patterns)."""
        if self.all_keys:
            return True
        return any(allowed & needed == needed and matches(key) for allowed, matches in self.patterns.values())

    def allows_channel(self, channel: bytes, is_pattern: bool) -> bool:
        """Whether a channel is allowed; a pattern is only where a rule has it literally. O(patterns)."""
        if self.all_channels:
            return True
        if is_pattern:
            return channel in self.channels
        return any(matches(channel) for matches in self.channels.values())


# Commands whose words are channels: the index of the last (None: all), and whether they are patterns.
_CHANNELS: Final[dict[str, tuple[int | None, bool]]] = {
    "SUBSCRIBE": (None, False),
    "SSUBSCRIBE": (None, False),
    "PSUBSCRIBE": (None, True),
    "PUBLISH": (1, False),
    "SPUBLISH": (1, False),
}


class Keys:
    """The keys of one request and what it needs of each, looked for once if at all."""

    __slots__ = ("_argv", "_command", "_found")

    def __init__(self, command: Command, argv: Argv):
        self._command = command
        self._argv = argv
        self._found: list[tuple[int, int]] | None = None

    @property
    def found(self) -> list[tuple[int, int]]:
        """(index, READ and WRITE) of each key; none where the words are wrong, which the command will tell."""
        found = self._found
        if found is None:
            command, argv = self._command, self._argv
            if command.arity_ok(len(argv)):  # scripts may ask about fewer words
                found = _fixed_keys(command)
            if found is None:
                found = [(at, _needed(flags)) for at, flags in find_keys(command, argv) or ()]
            self._found = found
        return found


# Commands whose words say whether they read their key, or change it.
_TOLD_BY_WORDS: Final = frozenset(("SET", "BITFIELD"))


@cache
def _fixed_keys(command: Command) -> list[tuple[int, int]] | None:
    """The keys of a command that has them at the same places whatever its words; most have one key."""
    if command.getkeys is not None or command.name in _TOLD_BY_WORDS:
        return None
    found: list[tuple[int, int]] = []
    for spec in command.keys:
        last = spec.find[1]
        if not isinstance(spec.begin, int) or spec.find[0] != "range" or last < 0 or "NOT_KEY" in spec.flags:
            return None
        found += [(at, _needed(spec.flags)) for at in range(spec.begin, spec.begin + last + 1, spec.find[2])]
    return found if all(at < abs(command.arity) for at, _ in found) else None


@cache
def _needed(flags: str) -> int:
    words = set(flags.split())
    return (READ if "ACCESS" in words else 0) | (WRITE if words & {"INSERT", "UPDATE", "DELETE"} else 0)


def _known(command: Command | None) -> Command:
    if command is None:
        raise RuleError(_UNKNOWN, unknown=True)
    return command
