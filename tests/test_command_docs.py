"""COMMAND DOCS: the arguments of every command are those that its handler takes and a real server tells."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

import kvstore.commands.all  # noqa: F401  registers the commands
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.registry import COMMANDS, Command
from kvstore.commands.session import Session
from kvstore.commands.syntax import Argument, arguments_of, names, parse
from kvstore.engine.database import Database
from kvstore.errors import StoreError
from kvstore.resp import ErrorReply
from tests.servers import Server
from tests.test_command_table import table

NEWEST = (99, 0, 0)
EVERY = {each.full_name: each for one in COMMANDS.values() for each in (one, *one.subcommands.values())}

# What Valkey 8 has of its own, or what came after the version whose behaviour is kept.
NEWER_THERE = {
    ("zscan", "NOSCORES"),
    ("client|kill", "PRIMARY"),
    ("cluster|setslot", "TIMEOUT"),
}
# Called integers there, though any number will do: hints would vanish at the decimal point.
ANY_NUMBER = {
    ("zincrby", "increment"),
    *((name, "weight") for name in ("zinter", "zinterstore", "zunion", "zunionstore")),
}
# Ours are made by rules, theirs by hand. The texts to be shown are the same.
NAMES = {
    ("acl|log", "operation"): "count-reset",
    ("bitfield", "get-block"): "get",
    ("bitfield", "operation"): "get-overflow-set-incrby",
    ("bitfield", "write"): "overflow-set-incrby",
    ("bitfield", "overflow-block"): "overflow",
    ("bitfield", "write-operation"): "set-incrby",
    ("bitfield", "set-block"): "set",
    ("bitfield", "incrby-block"): "incrby",
    ("bitfield_ro", "get-block"): "get",
    ("bitpos", "range"): "options",
    ("bitpos", "end-unit-block"): "options",
    ("blmove", "wherefrom"): "where",
    ("blmove", "whereto"): "where-2",
    ("client|kill", "addr"): "ip:port",
    ("client|kill", "client-type"): "type",
    ("client|kill", "old-format"): "ip:port",
    ("client|list", "client-type"): "type",
    ("client|reply", "action"): "enabled",
    ("client|tracking", "status"): "enabled",
    ("failover", "target"): "to",
    ("cluster|addslotsrange", "range"): "data",
    ("cluster|delslotsrange", "range"): "data",
    ("cluster|setslot", "importing"): "node-id",
    ("geoadd", "change"): "ch",
    **{
        (command, name): ours
        for command in ("georadius", "georadiusbymember")
        for name, ours in (("storekey", "key"), ("storedistkey", "storedist"))
    },
    **{
        (command, "count-block"): "options"
        for command in ("georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro")
    },
    **{
        (command, name): ours
        for command in ("geosearch", "geosearchstore")
        for name, ours in (
            ("box", "width-height-unit"),
            ("circle", "radius-unit"),
            ("count-block", "options"),
        )
    },
    ("hello", "arguments"): "options",
    ("lmove", "wherefrom"): "where",
    ("lmove", "whereto"): "where-2",
    ("migrate", "auth"): "password",
    ("migrate", "authentication"): "password-auth2",
    ("migrate", "keys"): "key",
    ("module|loadex", "configs"): "config",
    **{
        (command, name): ours
        for command in ("sort", "sort_ro")
        for name, ours in (("by-pattern", "pattern"), ("get-pattern", "get"), ("sorting", "alpha"))
    },
    ("shutdown", "save-selector-block"): "save-selector-now-force",
    ("xadd", "trim"): "options",
    ("xgroup|create", "entriesread"): "entries-read",
    ("xgroup|setid", "entriesread"): "entries-read",
    ("xinfo|stream", "full-block"): "options",
    ("xpending", "filters"): "options",
    ("xreadgroup", "group-block"): "group",
    ("xtrim", "trim"): "strategy-operator-threshold-count",
    ("zadd", "change"): "ch",
    ("zadd", "increment"): "incr",
}
# Described here alone: there one must know the words to be told what they do.
OURS_ALONE = {"debug"}
# Described otherwise there: Valkey 8 lets the end of a range of BITCOUNT be left out, Redis does not.
OTHERWISE_THERE = {"bitcount"}


def documents(server: Server) -> dict[str, list[Any]]:
    """The arguments of all commands and subcommands."""
    found: dict[str, list[Any]] = {}
    for name, parts in table(server, "DOCS").items():
        for full_name, each in {name: parts, **parts.get("subcommands", {})}.items():
            found[full_name] = each.get("arguments", [])
    return found


def shaped(command: str, argument: dict[str, Any]) -> dict[str, Any]:
    """An argument of theirs, with what is known to differ as we have it."""
    shape = dict(argument)
    shape["name"] = NAMES.get((command, shape["name"]), shape["name"])
    if (command, argument["name"]) in ANY_NUMBER:
        assert shape["type"] == "integer"
        shape["type"] = "double"
    if shape["type"] == "pure-token":
        shape["display_text"] = shape["name"]
    if (command, argument.get("token")) == ("client|kill", "MAXAGE"):  # which Valkey says of its own version
        assert shape["since"] == "8.0.0"
        shape["since"] = "7.4.0"
    if "flags" in shape:
        shape["flags"] = sorted(shape["flags"])
    if "arguments" in shape:
        shape["arguments"] = [
            shaped(command, each)
            for each in shape["arguments"]
            if (command, each.get("token")) not in NEWER_THERE
        ]
    return shape


def test_arguments_are_those_of_a_real_server(kvstore_server: Server, valkey_server: Server) -> None:
    ours, theirs = documents(kvstore_server), documents(valkey_server)
    both = ours.keys() & theirs.keys()
    assert len(both) > 250
    for command in sorted(both - OURS_ALONE - OTHERWISE_THERE):
        expected = shaped(command, {"name": "", "type": "", "arguments": theirs[command]})["arguments"]
        got = [shaped("", each) for each in ours[command]]
        assert got == expected, command


def test_the_differences_are_real(valkey_server: Server) -> None:
    theirs = documents(valkey_server)

    def everything(arguments: list[Any]) -> Iterator[Any]:
        for each in arguments:
            yield each
            yield from everything(each.get("arguments", []))

    told = [(command, each) for command in theirs for each in everything(theirs[command])]
    assert {(command, each.get("token")) for command, each in told} >= NEWER_THERE
    assert {(command, each["name"]) for command, each in told} >= ANY_NUMBER | NAMES.keys()


# -- arity -----------------------------------------------------------------------------------------------


def fewest(argument: Argument) -> int:
    """How many words the argument takes at least."""
    if argument.optional:
        return 0
    words = int(bool(argument.token))
    if argument.type == "pure-token":
        return words
    inner = [fewest(each) for each in argument.arguments]
    return words + {"oneof": min, "block": sum}.get(argument.type, lambda _: 1)(inner)


def is_fixed(argument: Argument) -> bool:
    """Whether it takes the same number of words whatever is chosen."""
    counts = {fewest(each) for each in argument.arguments}
    return (
        not argument.optional
        and not argument.multiple
        and all(map(is_fixed, argument.arguments))
        and (argument.type != "oneof" or len(counts) == 1)
    )


# Whose arity differs from its syntax: words behind QUIT are ignored, and a filter of CLIENT KILL, which
# is described as optional, is not.
OWN_ARITY = {"quit": -1, "client|kill": -3}
PLAIN = [each for each in EVERY.values() if not each.subcommands]


@pytest.mark.parametrize("command", PLAIN, ids=lambda command: command.full_name)
def test_the_syntax_takes_as_many_words_as_the_arity_says(command: Command) -> None:
    arguments = arguments_of(command.full_name, NEWEST)
    least = command.full_name.count("|") + 1 + sum(map(fewest, arguments))
    arity = least if all(map(is_fixed, arguments)) else -least
    assert command.arity == OWN_ARITY.get(command.full_name, arity)


def test_only_commands_that_there_are_have_a_syntax() -> None:
    assert names() <= EVERY.keys()


def test_keys_are_told_where_there_are_keys() -> None:
    def keys(arguments: tuple[Argument, ...]) -> int:
        return sum((each.type == "key") + keys(each.arguments) for each in arguments)

    for name, command in EVERY.items():
        assert bool(keys(arguments_of(name, NEWEST))) == any(
            "NOT_KEY" not in spec.flags for spec in command.keys
        ), name


# -- handlers take what the syntax says ------------------------------------------------------------------

WORDS = {
    "cursor": "0",
    "min": "[a",  # of ZRANGEBYLEX; those by score are doubles
    "max": "[b",
    "start": "0",
    "stop": "1",
    "protover": "3",
    "type": "hash",
    "sha1": "0" * 40,
    "script": "return 1",
    "digest": "0" * 16,
    "threshold": "5",
}
WORDS_OF_TYPES = {"integer": "1", "double": "1", "unix-time": "99999999999", "key": "k"}
TRIMMING = {"xadd", "xtrim"}  # whose LIMIT stands only beside ~
RANKS = {"zrangestore"}  # whose min and max are ranks, unless BYSCORE or BYLEX say otherwise

# What stands only beside another option.
COMPANIONS = {
    "zrange": ("LIMIT", "BYSCORE"),
    "zrangestore": ("LIMIT", "BYSCORE"),
    "increx": ("ENX", "EX 10"),
}


def sentences(argument: Argument) -> list[list[str]]:
    """The argument's words: the plainest first, then each with one thing chosen otherwise."""
    token = [argument.token] if argument.token else []
    if argument.type == "pure-token":
        forms = [token]
    elif argument.type == "oneof":
        forms = [token + words for each in argument.arguments for words in sentences(each)]
    elif argument.type == "block":
        forms = [token + words for words in in_a_row(argument.arguments)]
    else:
        forms = [[*token, WORDS.get(argument.shown) or WORDS_OF_TYPES.get(argument.type, "v")]]
    return [[], *forms] if argument.optional else forms


def in_a_row(arguments: tuple[Argument, ...]) -> list[list[str]]:
    every = [sentences(each) for each in arguments]
    plainest = [forms[0] for forms in every]
    rows = [plainest]
    for at, forms in enumerate(every):
        rows += [[*plainest[:at], form, *plainest[at + 1 :]] for form in forms[1:]]
    return [list(chain.from_iterable(row)) for row in rows]


GROUPS_OF_DATA = {
    "string",
    "hash",
    "list",
    "set",
    "sorted_set",
    "generic",
    "stream",
    "geo",
    "bitmap",
    "hyperloglog",
}
OF_DATA = [each for each in PLAIN if each.group in GROUPS_OF_DATA]


@pytest.mark.parametrize("command", OF_DATA, ids=lambda command: command.full_name)
def test_handlers_take_every_option_of_the_syntax(command: Command, db: Database) -> None:
    hub = Hub(db.ctx)
    hub.compat_version = NEWEST
    for words in in_a_row(arguments_of(command.full_name, NEWEST)):
        token, companion = COMPANIONS.get(command.full_name, ("", ""))
        if token in words:
            words = [*words, *companion.split()]
        if command.full_name in TRIMMING and "LIMIT" in words:
            at = words.index("5")
            words = [*words[:at], "~", *words[at:]]
        if command.full_name in RANKS and "BYLEX" not in words:
            words = ["1" if word[0] == "[" else word for word in words]
        line = [word.encode() for word in (*command.full_name.split("|"), *words)]
        try:
            reply = Session(hub, TREE2).call(line)
        except StoreError as error:
            reply = error
        if isinstance(reply, (StoreError, ErrorReply)):
            for complaint in ("syntax", "wrong number", "nknown", "FIELDS", "not an integer", "not a valid"):
                assert complaint not in str(reply), line


# -- the notation ----------------------------------------------------------------------------------------


def told(line: str) -> list[Any]:
    """A compact picture of what a syntax is parsed into."""

    def picture(each: Argument) -> Any:
        flags = [flag for flag in ("optional", "multiple", "multiple_token") if getattr(each, flag)]
        return (
            " ".join([each.type, *([each.token] if each.token else []), *flags]),
            each.name,
            *map(picture, each.arguments),
        )

    return [picture(each) for each in parse(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("key", [("key", "key")]),
        ("key [key ...]", [("key multiple", "key")]),
        ("[key [key ...]]", [("key optional multiple", "key")]),
        ("[NX]", [("pure-token NX optional", "nx")]),
        ("[COUNT count]", [("integer COUNT optional", "count")]),
        ("WEIGHTS weight [weight ...]", [("double WEIGHTS multiple", "weight")]),
        ("[GET pattern [GET pattern ...]]", [("pattern GET optional multiple multiple_token", "pattern")]),
        ("<a | B>", [("oneof", "a-b", ("string", "a"), ("pure-token B", "b"))]),
        ("[T <A | B>]", [("oneof T optional", "t", ("pure-token A", "a"), ("pure-token B", "b"))]),
        ("a b [a b ...]", [("block multiple", "data", ("string", "a"), ("string", "b"))]),
        ("[LIMIT offset count]", [
            ("block LIMIT optional", "limit", ("integer", "offset"), ("integer", "count")),
        ]),
        ("<a | [B c]> ...", [("oneof", "a-c", ("string", "a"), ("string B optional", "c"))]),
        ("min:double ip:port", [("double", "min"), ("string", "ip:port")]),
    ],
)  # fmt: skip
def test_the_notation_is_parsed(line: str, expected: list[Any]) -> None:
    if line.endswith("> ..."):
        assert parse(line)[0].multiple
        expected = [("oneof multiple", *expected[0][1:])]
    assert told(line) == expected


def test_versions_belong_to_what_is_before_them() -> None:
    first, second, third = parse("[A@1.0.0 | b@2.0.0]@3.0.0 c@-4.0.0 [X y [y ...]]@5.0.0")
    assert [first.since, *(each.since for each in first.arguments)] == ["3.0.0", "1.0.0", "2.0.0"]
    assert (second.since, second.until) == ("", "4.0.0")
    assert (third.name, third.since, third.multiple) == ("y", "5.0.0", True)


@pytest.mark.parametrize("line", ["[a", "a]", "[]", "<a | >", "a [b ...]", "a | b", "... a"])
def test_what_is_no_syntax_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"unexpected|brackets|repeats"):
        parse(line)


def test_options_newer_than_the_version_are_not_told() -> None:
    def tokens(name: str, *version: int) -> set[str]:
        def all_of(arguments: tuple[Argument, ...]) -> Iterator[str]:
            for each in arguments:
                yield each.token
                yield from all_of(each.arguments)

        return set(all_of(arguments_of(name, version)))

    assert tokens("set", 8, 4, 0) - tokens("set", 7, 2, 4) == {"IFEQ", "IFNE", "IFDEQ", "IFDNE"}
    assert tokens("client|kill", 7, 4, 0) - tokens("client|kill", 7, 2, 4) == {"MAXAGE"}
