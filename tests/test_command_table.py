"""COMMAND: every command that we have is described as a real server describes it."""

from __future__ import annotations

from typing import Any

import pytest

from tests import commands_page, servers
from tests.rawclient import Node, parse
from tests.scenario import compare
from tests.servers import ROOT, Server

PLAYS = {
    "keys among words": """
        a> COMMAND GETKEYS
        a> COMMAND GETKEYS get
        a> COMMAND GETKEYS get a
        a> COMMAND GETKEYS GET a b
        a> COMMAND GETKEYS nosuch a
        a> COMMAND GETKEYS ping
        a> COMMAND GETKEYS ping a
        a> COMMAND GETKEYS mset a 1 b 2
        a> COMMAND GETKEYS mset a 1 b
        a> COMMAND GETKEYS del a b c
        a> COMMAND GETKEYS eval return 2 a b c
        a> COMMAND GETKEYS eval return 5 a b c
        a> COMMAND GETKEYS eval return 0 a b c
        a> COMMAND GETKEYS eval return x a b c
        a> COMMAND GETKEYS eval return -1 a b c
        a> COMMAND GETKEYS eval return 01 a b c
        a> COMMAND GETKEYS fcall f +2x a b c
        a> COMMAND GETKEYS fcall f 4294967297 a b c
        a> COMMAND GETKEYS fcall_ro f 2 a b c
        a> COMMAND GETKEYS zunionstore d 2 a b
        a> COMMAND GETKEYS zunionstore d 3 a b
        a> COMMAND GETKEYS zunionstore d 0 a b
        a> COMMAND GETKEYS zunionstore d x a b
        a> COMMAND GETKEYS zinter 2 a b
        a> COMMAND GETKEYS zinter 1.5 a b
        a> COMMAND GETKEYS lmpop 2 a b LEFT
        a> COMMAND GETKEYS blmpop 0 2 a b LEFT
        a> COMMAND GETKEYS sintercard 1 a
        a> COMMAND GETKEYS blpop a b 0
        a> COMMAND GETKEYS lmove a b LEFT RIGHT
        a> COMMAND GETKEYS rename a b
        a> COMMAND GETKEYS sdiffstore a b c
        a> COMMAND GETKEYS client id
        a> COMMAND GETKEYS client nosuch
        a> COMMAND GETKEYS client
        a> COMMAND GETKEYS memory usage a
        a> COMMAND GETKEYS memory usage
        a> COMMAND GETKEYS memory nosuch a
        a> COMMAND GETKEYS object encoding a
        a> COMMAND GETKEYS subscribe a
        a> COMMAND GETKEYS ssubscribe a b
        a> COMMAND GETKEYS watch a b
        a> COMMAND GETKEYS copy a b REPLACE
    """,
    "what is done to keys": """
        a> COMMAND GETKEYSANDFLAGS eval return 01 a
        a> COMMAND GETKEYSANDFLAGS fcall f 1 a
        a> COMMAND GETKEYSANDFLAGS zunionstore d 1x a
        a> COMMAND GETKEYSANDFLAGS set a b
        a> COMMAND GETKEYSANDFLAGS set a b GET
        a> COMMAND GETKEYSANDFLAGS set a b EX 10 get
        a> COMMAND GETKEYSANDFLAGS ssubscribe a b
        a> COMMAND GETKEYSANDFLAGS lmove a b left right
        a> COMMAND GETKEYSANDFLAGS del a
        a> COMMAND GETKEYSANDFLAGS eval return 1 a
        a> COMMAND GETKEYSANDFLAGS eval_ro return 1 a
        a> COMMAND GETKEYSANDFLAGS zunionstore d 2 a b
        a> COMMAND GETKEYSANDFLAGS nosuch
        a3> COMMAND GETKEYSANDFLAGS set a b
        a3> COMMAND GETKEYSANDFLAGS mset a b c d
    """,
    "names": """
        a> COMMAND NOSUCH
        a> COMMAND COUNT x
        a> COMMAND LIST FILTERBY
        a> COMMAND LIST FILTERBY nosuch bar
        a> COMMAND LIST FILTERBY module
        a> COMMAND LIST FILTERBY module bar
        a> COMMAND LIST FILTERBY aclcat nosuch
        a> COMMAND LIST FILTERBY aclcat @string
        a> COMMAND LIST FILTERBY pattern getex
        a> COMMAND LIST FILTERBY PATTERN GETEX
        a> COMMAND LIST FILTERBY pattern client|id
        a> COMMAND LIST NOSUCH
        a> COMMAND LIST FILTERBY aclcat a b
        a> COMMAND INFO nosuch client|nosuch get|x
        a3> COMMAND INFO nosuch get
        a3> COMMAND INFO lmove client|id CLIENT|ID
        a> COMMAND INFO zunionstore getdel exec
        a> COMMAND DOCS nosuch
        a3> COMMAND DOCS nosuch
    """,
}

# What Redis 7.4 brought and Valkey 8 has not.
OF_7_4 = {
    *(
        "hexpire",
        "hexpireat",
        "hexpiretime",
        "hpersist",
        "hpexpire",
        "hpexpireat",
        "hpexpiretime",
        "hpttl",
        "httl",
    )
}

# What 7.2 tells otherwise than 7.0, by (name, part): blocking commands run in scripts, for one.
SINCE_7_2 = {
    *((name, "flags") for name in "blmove blpop brpop brpoplpush bzpopmax bzpopmin multi wait watch".split()),
    *((f"cluster|{name}", "flags") for name in "info myid nodes shards slots".split()),
    *((f"acl|{name}", "tips") for name in "deluser save setuser".split()),
    *((f"config|{name}", "tips") for name in "resetstat rewrite".split()),
    *((name, "tips") for name in "client|setname latency|reset msetnx randomkey scan".split()),
    *((name, "arity") for name in "command|getkeys command|getkeysandflags zrank zrevrank".split()),
    ("sinterstore", "keys"),
    ("wait", "categories"),
}


@pytest.mark.parametrize("name", PLAYS)
def test_command_answers_as_on_a_real_server(
    name: str, kvstore_server: Server, valkey_server: Server
) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])


def plain(node: Node) -> Any:
    """A reply as Python values; the items of sets and maps lose their order."""
    if node.items is None:
        return int(node.text) if node.mark == b":" else node.text.decode()
    items = [plain(item) for item in node.items]
    if node.mark == b"%":
        return dict(zip(items[::2], items[1::2], strict=True))
    return items


def table(server: Server, *words: str) -> Any:
    with server.client() as client:
        client.hello3()
        return plain(parse(client.call("COMMAND", *words)))


def described(server: Server) -> dict[str, dict[str, Any]]:
    """All commands and subcommands by name."""
    found: dict[str, dict[str, Any]] = {}

    def add(parts: list[Any]) -> None:
        name, arity, flags, first, last, step, categories, tips, keys, subcommands = parts
        for spec in keys:
            spec.pop("notes", None)  # remarks for people, which we leave to them
        found[name] = {
            "arity": arity,
            "flags": flags,
            "range": (first, last, step),
            "categories": categories,
            "tips": tips,
            "keys": keys,
        }
        for sub in subcommands:
            add(sub)

    for parts in table(server):
        add(parts)
    return found


def test_every_command_is_described_as_on_a_real_server(
    kvstore_server: Server, valkey_server: Server
) -> None:
    ours, theirs = described(kvstore_server), described(valkey_server)
    assert ours.keys() - theirs.keys() == OF_7_4
    assert {name: parts for name, parts in theirs.items() if name in ours} == {
        name: parts for name, parts in ours.items() if name not in OF_7_4
    }


def test_an_older_version_describes_commands_as_redis_7_0_but_for_what_7_2_changed(
    redis_server: Server,
) -> None:
    with servers.running("kvstore", options={"compat-version": "7.0"}) as server:
        ours = described(server)
    theirs = described(redis_server)
    assert theirs.keys() - ours.keys() == {"psync", "replconf", "sync"} and ours.keys() <= theirs.keys()
    differing = {
        (name, part) for name, parts in ours.items() for part in parts if parts[part] != theirs[name][part]
    }
    assert differing == SINCE_7_2


def test_what_real_servers_have_and_we_have_not_is_on_the_page_of_commands(
    kvstore_server: Server, valkey_server: Server, redis_server: Server
) -> None:
    theirs = described(valkey_server).keys() | described(redis_server).keys()
    assert theirs - described(kvstore_server).keys() == {
        name for _, names, _ in commands_page.MISSING for name in names
    }


def test_the_page_of_commands_is_made_of_the_table() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert page == commands_page.page(), "python -m tests.commands_page > docs/commands.md"
    for command in commands_page.all_commands():
        assert command.name == "HELP" or f"\n| `{command.full_name.upper().replace('|', ' ')}` |" in page


def test_the_documents_agree_on_what_programs_read(kvstore_server: Server, valkey_server: Server) -> None:
    def facts(docs: dict[str, Any]) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for name, parts in docs.items():
            found[name] = (parts["since"], parts["group"])
            found |= facts(parts.get("subcommands", {}))
        return found

    ours, theirs = facts(table(kvstore_server, "DOCS")), facts(table(valkey_server, "DOCS"))
    assert {name: theirs[name] for name in ours.keys() - OF_7_4} == {
        name: parts for name, parts in ours.items() if name not in OF_7_4
    }


def test_every_command_says_what_it_is_for(kvstore_server: Server) -> None:
    docs = table(kvstore_server, "DOCS")
    for name, parts in docs.items():
        for full_name, each in {name: parts, **parts.get("subcommands", {})}.items():
            assert "subcommands" in each or each["summary"], full_name


def test_a_plain_command_has_its_arguments_documented(kvstore_server: Server) -> None:
    docs = table(kvstore_server, "DOCS", "getrange")["getrange"]
    assert [(each["name"], each["type"]) for each in docs["arguments"]] == [
        ("key", "key"),
        ("start", "integer"),
        ("end", "integer"),
    ]
    assert docs["complexity"].startswith("O(")


def test_the_counts_agree(kvstore_server: Server) -> None:
    assert table(kvstore_server, "COUNT") == len(table(kvstore_server)) == len(table(kvstore_server, "LIST"))
