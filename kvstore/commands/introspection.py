"""COMMAND: what the commands are, where their keys stand, what they are for.

Everything comes from the table of commands, from docstrings and, what arguments there are, from
``kvstore.commands.syntax``; nothing is written twice.

Must not know: what commands do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.help import add_help, complexity_of, summary_of
from kvstore.commands.kinds import INT, TREE
from kvstore.commands.registry import COMMANDS, UNKNOWN_PLACE, Argv, Command, Family, KeySpec
from kvstore.errors import err
from kvstore.glob import compile_glob
from kvstore.numbers import INT64_MAX, INT64_MIN, parse_int
from kvstore.resp import RespSet, Status

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session
    from kvstore.commands.syntax import Argument

_DIGITS = re.compile(rb"[ \t\n\v\f\r]*([+-]?\d+)")
# Flags and categories in the order in which they are told.
_FLAGS = [
    "write",
    "readonly",
    "denyoom",
    "module",
    "admin",
    "pubsub",
    "noscript",
    "blocking",
    "loading",
    "stale",
    "skip_monitor",
    "skip_slowlog",
    "asking",
    "fast",
    "no_auth",
    "no_mandatory_keys",
    "no_async_loading",
    "no_multi",
    "movablekeys",
    "allow_busy",
]
CATEGORIES = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
]
_KEY_FLAGS = [
    "RO",
    "RW",
    "OW",
    "RM",
    "ACCESS",
    "UPDATE",
    "INSERT",
    "DELETE",
    "NOT_KEY",
    "INCOMPLETE",
    "VARIABLE_FLAGS",
]
_ARGUMENT_FLAGS = ["optional", "multiple", "multiple_token"]
_NOT_FOUND = "ERR Invalid command specified"

family = Family("server", "connection")


# -- COMMAND INFO ----------------------------------------------------------------------------------------


def describe(hub: Hub, command: Command) -> list[Any]:
    """The ten parts of a command's description."""
    subcommands = [sub for sub in command.subcommands.values() if hub.is_visible(sub)]
    return [
        command.full_name.encode(),
        command.arity,
        RespSet(Status(flag.encode()) for flag in _FLAGS if flag in _flags_of(command)),
        *key_range(command.keys),
        RespSet(Status(b"@" + name.encode()) for name in CATEGORIES if name in command.categories),
        RespSet(tip.encode() for tip in command.tips),
        RespSet(_describe_keys(spec) for spec in command.keys),
        RespSet(describe(hub, sub) for sub in subcommands),
    ]


def _flags_of(command: Command) -> frozenset[str]:
    """The flags; with movablekeys where the first and last key do not tell it all."""
    if any(not _is_range(spec) or "INCOMPLETE" in spec.flags for spec in command.keys):
        return command.flags | {"movablekeys"}
    return command.flags


def _is_range(spec: KeySpec) -> bool:
    return isinstance(spec.begin, int) and spec.find[0] == "range"


def key_range(specs: tuple[KeySpec, ...]) -> tuple[int, int, int]:
    """First key, last key and step, as far as these say it: those of the ranges from the first key on."""
    ranges = [spec for spec in specs if _is_range(spec)]
    if not ranges:
        return 0, 0, 0
    first, last, step = _absolute(ranges[0])
    for spec in ranges[1:]:
        begin, end, _ = _absolute(spec)
        if step != 1 or last < 0 or begin != last + 1:
            break
        last = end
    return first, last, step


def _absolute(spec: KeySpec) -> tuple[int, int, int]:
    assert isinstance(spec.begin, int)
    last, step = spec.find[1], spec.find[2]
    return spec.begin, last if last < 0 else spec.begin + last, step


def _key_flags(flags: str) -> RespSet:
    words = flags.split()
    return RespSet(
        Status((flag if len(flag) == 2 else flag.lower()).encode()) for flag in _KEY_FLAGS if flag in words
    )


def _describe_keys(spec: KeySpec) -> dict[bytes, Any]:
    begin: dict[bytes, Any]
    if spec.begin == UNKNOWN_PLACE:
        begin = {b"type": b"unknown", b"spec": {}}
    elif isinstance(spec.begin, int):
        begin = {b"type": b"index", b"spec": {b"index": spec.begin}}
    else:
        begin = {
            b"type": b"keyword",
            b"spec": {b"keyword": spec.begin[0].encode(), b"startfrom": spec.begin[1]},
        }
    kind, *numbers = spec.find
    names = {
        "range": (b"lastkey", b"keystep", b"limit"),
        "keynum": (b"keynumidx", b"firstkey", b"keystep"),
        "unknown": (),
    }[kind]
    values = [*numbers, 0][: len(names)]
    find = {b"type": kind.encode(), b"spec": dict(zip(names, values, strict=True))}
    return {b"flags": _key_flags(spec.flags), b"begin_search": begin, b"find_keys": find}


def _by_full_name(hub: Hub, name: bytes) -> Command | None:
    """The command of that name, or the subcommand ("config|get")."""
    head, bar, tail = name.partition(b"|")
    command = hub.find(head)
    if command is None or not bar:
        return command
    return hub.find_sub(command, tail)


def _visible(hub: Hub) -> Iterator[Command]:
    return (command for command in COMMANDS.values() if hub.find(command.name.encode()) is command)


@family.command(
    "COMMAND", -1, "loading stale", kind=TREE, since="2.8.13", tips=("nondeterministic_output_order",)
)
def command_(session: Session, argv: Argv) -> list[Any]:
    """All commands: arity, flags, keys, categories. O(n) commands."""
    return [describe(session.hub, command) for command in _visible(session.hub)]


@family.command("COMMAND COUNT", 2, "loading stale", kind=INT, since="2.8.13")
def command_count(session: Session, argv: Argv) -> int:
    """How many commands there are. O(n) commands."""
    return sum(1 for _ in _visible(session.hub))


@family.command(
    *("COMMAND INFO", -2, "loading stale"),
    kind=TREE,
    since="2.8.13",
    tips=("nondeterministic_output_order",),
)
def command_info(session: Session, argv: Argv) -> list[Any]:
    """The named commands, or all: arity, flags, keys, categories. O(n) commands."""
    if len(argv) == 2:
        return [describe(session.hub, command) for command in _visible(session.hub)]
    found = [_by_full_name(session.hub, name) for name in argv[2:]]
    return [None if command is None else describe(session.hub, command) for command in found]


@family.command(
    *("COMMAND LIST", -2, "loading stale"),
    kind=TREE,
    since="7.0.0",
    tips=("nondeterministic_output_order",),
)
def command_list(session: Session, argv: Argv) -> list[bytes]:
    """Names of all commands, or of those in a category, from a module, or that match a glob. O(n) commands."""
    hub = session.hub
    if len(argv) == 2:
        return [command.full_name.encode() for command in _visible(hub)]
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise Args.syntax_error()
    test = _list_filter(argv[3].upper(), argv[4])
    everything = (each for command in _visible(hub) for each in (command, *command.subcommands.values()))
    return [each.full_name.encode() for each in everything if hub.is_visible(each) and test(each)]


def _list_filter(kind: bytes, value: bytes) -> Callable[[Command], bool]:
    if kind == b"MODULE":
        return lambda command: False
    if kind == b"ACLCAT":
        category = value.decode("latin-1").lower()
        return lambda command: category in command.categories
    if kind == b"PATTERN":
        matches = compile_glob(value, nocase=True)
        return lambda command: matches(command.full_name.encode())
    raise Args.syntax_error()


# -- COMMAND GETKEYS -------------------------------------------------------------------------------------


def find_keys(command: Command, argv: Argv) -> list[tuple[int, str]] | None:
    """(index, flags) of each key in the words, None where the words are wrong. O(n) words."""
    if command.getkeys is not None:
        try:
            flags = command.keys[0].flags if command.keys else "RW ACCESS UPDATE"
            return [(at, flags) for at in command.getkeys(argv)]
        except (ValueError, IndexError):
            return None
    found: list[tuple[int, str]] = []
    for spec in command.keys:
        if "NOT_KEY" in spec.flags:
            continue
        indexes = _keys_of_spec(spec, argv, -command.arity)
        if indexes is None:
            return _keys_by_bad_count(command, argv)
        flags = _flags_in_use(command, argv) or spec.flags
        found += [(at, flags) for at in indexes]
    return found


def _flags_in_use(command: Command, argv: Argv) -> str | None:
    """What SET does to its key depends on GET; what BITFIELD does, on there being more than that."""
    if command.name == "BITFIELD":
        return _flags_of_bitfield(argv)
    if command.name != "SET":
        return None
    return "RW ACCESS UPDATE" if b"GET" in [word.upper() for word in argv[3:]] else "OW UPDATE"


def _flags_of_bitfield(argv: Argv) -> str:
    at, count = 2, len(argv)
    while at < count:
        word = argv[at].upper()
        at += 3 if word == b"GET" else 2 if word == b"OVERFLOW" else count
    return "RO ACCESS" if at == count else "RW ACCESS UPDATE"


def _keys_of_spec(spec: KeySpec, argv: Argv, least: int = 0) -> range | None:
    """The indexes of its keys, None where the words are wrong. ``least``: how many words the command has at least."""
    begin = spec.begin
    if begin == UNKNOWN_PLACE:
        return range(0) if spec.look is None else spec.look(argv)
    if not isinstance(begin, int):
        at = _keyword_index(begin, argv)
        if at is None:
            return range(0)
        begin = at
    count = len(argv)
    if begin >= count:
        # Further keys may be none. Servers then take the words for wrong, and let anybody have PFMERGE make a key.
        return range(0) if begin == least else None
    kind, first, second, *more = spec.find
    if kind == "range":
        limit = more[0] if more else 0
        last = begin + first if first >= 0 else count + first
        if first < 0 and limit > 1:
            last = begin + (count - begin) // limit + first
        return range(begin, last + 1, second) if last < count else None
    numkeys_at, first_key, step = begin + first, begin + second, more[0]
    if numkeys_at >= count:
        return None
    numkeys = parse_int(argv[numkeys_at])
    if numkeys is None or numkeys < 1:
        return None
    last = first_key + (numkeys - 1) * step
    return range(first_key, last + 1, step) if last < count else None


def _keys_by_bad_count(command: Command, argv: Argv) -> list[tuple[int, str]] | None:
    """Where the count of keys is none, servers read it as C's atoi does, and know the keys but not what for.

    The command will refuse it, but whoever may not touch the keys is told that first.
    """
    found: list[tuple[int, str]] = []
    for spec in command.keys:
        if spec.find[0] == "keynum" and isinstance(spec.begin, int) and spec.begin < len(argv):
            digits = _DIGITS.match(argv[spec.begin], 0, 4000)  # int() takes no more
            value = max(min(int(digits[1]), INT64_MAX), INT64_MIN) if digits else 0
            numkeys = (value + (1 << 31)) % (1 << 32) - (1 << 31)
            if 0 < numkeys < len(argv) - spec.begin:
                found = [(spec.begin + 1 + at, "") for at in range(numkeys)]
    if not found:
        return None
    return found + [
        (at, "") for spec in command.keys if spec.find[0] == "range" for at in _keys_of_spec(spec, argv) or ()
    ]


def _keyword_index(begin: tuple[str, int], argv: Argv) -> int | None:
    """The index after the keyword, from an index on (from the end, where negative), unless it is the last word."""
    word, start = begin[0].upper().encode(), begin[1]
    places = range(start, len(argv) - 1) if start >= 0 else range(len(argv) + start, 0, -1)
    return next((at + 1 for at in places if argv[at].upper() == word), None)


def _keys_in(session: Session, words: Argv) -> list[tuple[bytes, str]]:
    hub = session.hub
    command = hub.find(words[0])
    if command is not None and command.subcommands and len(words) > 1:
        command = hub.find_sub(command, words[1])
    if command is None:
        raise err(_NOT_FOUND.removeprefix("ERR "))
    if command.getkeys is None and all("NOT_KEY" in spec.flags for spec in command.keys):
        raise err("The command has no key arguments")
    if not command.arity_ok(len(words)):
        raise err("Invalid number of arguments specified for command")
    found = find_keys(command, words)
    if not found and "no_mandatory_keys" not in command.flags:
        raise err("Invalid arguments specified for command")
    return [(words[at], flags) for at, flags in found or ()]


@family.command("COMMAND GETKEYS", -3, "loading stale", kind=TREE, since="2.8.13")
def command_getkeys(session: Session, argv: Argv) -> list[bytes]:
    """The keys among the words of a command. O(n) words."""
    return [key for key, _ in _keys_in(session, argv[2:])]


@family.command("COMMAND GETKEYSANDFLAGS", -3, "loading stale", kind=TREE, since="7.0.0")
def command_getkeysandflags(session: Session, argv: Argv) -> list[Any]:
    """The keys among the words of a command, and what it does to each. O(n) words."""
    return [
        [key, _key_flags(flags.replace(" VARIABLE_FLAGS", ""))] for key, flags in _keys_in(session, argv[2:])
    ]


# -- COMMAND DOCS ----------------------------------------------------------------------------------------


@family.command(
    *("COMMAND DOCS", -2, "loading stale"),
    kind=TREE,
    since="7.0.0",
    tips=("nondeterministic_output_order",),
)
def command_docs(session: Session, argv: Argv) -> dict[bytes, Any]:
    """What the named commands, or all, are for. O(n) commands."""
    hub = session.hub
    chosen = [_by_full_name(hub, name) for name in argv[2:]] if len(argv) > 2 else list(_visible(hub))
    return {each.full_name.encode(): _document(hub, each) for each in chosen if each is not None}


def _document(hub: Hub, command: Command) -> dict[bytes, Any]:
    parts: dict[bytes, Any] = {
        b"summary": summary_of(command).encode(),
        b"since": command.since.encode(),
        b"group": command.group.replace("_", "-").encode(),
    }
    complexity = complexity_of(command)
    if complexity:
        parts[b"complexity"] = complexity.encode()
    arguments = _arguments(hub, command)
    if arguments:
        parts[b"arguments"] = arguments
    subcommands = [sub for sub in command.subcommands.values() if hub.is_visible(sub)]
    if subcommands:
        parts[b"subcommands"] = {sub.full_name.encode(): _document(hub, sub) for sub in subcommands}
    return parts


def _arguments(hub: Hub, command: Command) -> list[dict[bytes, Any]]:
    """The arguments that the version whose behaviour is kept knows."""
    from kvstore.commands.syntax import arguments_of  # its table is for this alone

    known = arguments_of(command.full_name, hub.compat_version)
    return [_describe_argument(each, len(command.keys) - 1) for each in known]


def _describe_argument(argument: Argument, last_spec: int) -> dict[bytes, Any]:
    described: dict[bytes, Any] = {b"name": argument.name.encode(), b"type": argument.type.encode()}
    if not argument.arguments:
        described[b"display_text"] = argument.shown.encode()
    if argument.type == "key" or argument.key_index:
        described[b"key_spec_index"] = min(argument.key_index, last_spec)
    texts = {b"token": argument.token, b"since": argument.since, b"deprecated_since": argument.until}
    # An empty word is written as two quotes.
    described |= {part: text.encode().strip(b'"') for part, text in texts.items() if text}
    flags = [flag for flag in _ARGUMENT_FLAGS if getattr(argument, flag)]
    if flags:
        described[b"flags"] = RespSet(Status(flag.encode()) for flag in flags)
    if argument.arguments:
        described[b"arguments"] = [_describe_argument(each, last_spec) for each in argument.arguments]
    return described


add_help(
    family,
    COMMANDS["COMMAND"],
    {
        "DOCS": "[<command> ...]",
        "GETKEYS": "<command> [<arg> ...]",
        "GETKEYSANDFLAGS": "<command> [<arg> ...]",
        "INFO": "[<command> ...]",
        "LIST": "[FILTERBY (MODULE <module> | ACLCAT <category> | PATTERN <glob>)]",
    },
)
