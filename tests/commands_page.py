"""Writes docs/commands.md, the table of all commands, from the table that runs them.

    python -m tests.commands_page > docs/commands.md

A test compares the page with what this makes, and what it says is missing with real servers.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvstore import Store
from kvstore.commands.all import COMMANDS
from kvstore.commands.hub import COMPAT_VERSION
from kvstore.commands.introspection import complexity_of
from kvstore.commands.registry import Command

HEAD = """# Commands

All commands that kvstore has, by group, as `COMMAND` tells them: the methods of a `Store` that do the same, the version of
Redis that brought the command (in bold where clients see it only with a higher [`compat-version`](configuration.md); a `Store`
always has it), and what it costs. `COMMAND DOCS` has the arguments. What stands in the last column departs from Redis;
[differences.md](differences.md) has the rest of that, with reasons. This page is made by `python -m tests.commands_page`.
"""

GROUPS = {
    "string": "Strings",
    "bitmap": "Bitmaps",
    "hyperloglog": "HyperLogLog",
    "list": "Lists",
    "set": "Sets",
    "sorted_set": "Sorted sets",
    "hash": "Hashes",
    "stream": "Streams",
    "geo": "Places",
    "generic": "Keys",
    "transactions": "Transactions",
    "scripting": "Scripts and functions",
    "pubsub": "Publish and subscribe",
    "connection": "Connections",
    "server": "Server",
    "cluster": "Cluster",
}

# Methods with another name than the command has.
METHODS = {
    "del": "delete",
    "discard": "pipeline",
    "exec": "pipeline",
    "georadius_ro": "georadius",
    "georadiusbymember_ro": "georadiusbymember",
    "multi": "pipeline",
    "psubscribe": "pubsub",
    "punsubscribe": "pubsub",
    "ssubscribe": "pubsub",
    "subscribe": "pubsub",
    "sunsubscribe": "pubsub",
    "unsubscribe": "pubsub",
    "unwatch": "pipeline",
    "watch": "pipeline",
}

REMARKS = {
    "config|set": "`appendonly` needs files; `port`, `unixsocket` and the like are told at the start",
    "debug": "what test harnesses use",
    "failover": "there is never a replica",
    "lolwut": "draws nothing",
    "memory|usage": "an estimate of what Python takes",
    "module|list": "there are none",
    "module|load": "refused: modules are C libraries",
    "module|loadex": "refused: modules are C libraries",
    "module|unload": "refused: modules are C libraries",
    "replicaof": "`NO ONE` alone",
    "slaveof": "`NO ONE` alone",
    "wait": "there are no replicas to wait for",
}

# What real servers have and kvstore has not: (what, names, why).
MISSING = (
    ("Replication", ("psync", "replconf", "sync"), "a store is always a master without replicas"),
    (
        "Valkey's own",
        ("client|capa", "cluster|slot-stats", "script|show"),
        "Valkey added them; kvstore is a Redis 7.4",
    ),
)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for group, title in GROUPS.items():
        rows = list(_rows(group))
        if rows:
            parts.append(f"## {title}\n")
            parts.append(
                "| Command | Methods of a `Store` | Since | Complexity | Departs |\n|---|---|---|---|---|"
            )
            parts[-1] += "".join(f"\n| {' | '.join(row)} |" for row in rows) + "\n"
    parts.append("## Not there\n\n| What | Commands | Why |\n|---|---|---|")
    for what, names, why in MISSING:
        parts[-1] += f"\n| {what} | {' '.join(f'`{_shown(name)}`' for name in names)} | {why} |"
    return "\n".join(parts) + "\n"


def all_commands() -> Iterator[Command]:
    """Commands and subcommands; not what only holds subcommands."""
    for command in COMMANDS.values():
        if command.subcommands:
            yield from command.subcommands.values()
        else:
            yield command


def _rows(group: str) -> Iterator[tuple[str, ...]]:
    for command in sorted(all_commands(), key=lambda each: each.full_name):
        if command.group == group and command.name != "HELP":
            name = command.full_name
            yield (
                f"`{_shown(name)}`",
                " ".join(f"`{method}`" for method in _methods(command)) or "",
                _since(command.since),
                complexity_of(command).replace("|", "\\|"),
                REMARKS.get(name, ""),
            )


def _methods(command: Command) -> list[str]:
    named = command.full_name
    names = [METHODS.get(named, named.replace("|", "_").replace("-", "_"))]
    if command.method is not None:
        names.append(command.method.__name__.lstrip("_"))
    return [name for name in dict.fromkeys(names) if callable(getattr(Store, name, None))]


def _since(version: str) -> str:
    newer = tuple(map(int, version.split("."))) > COMPAT_VERSION
    return f"**{version}**" if newer else version


def _shown(full_name: str) -> str:
    return full_name.upper().replace("|", " ")


if __name__ == "__main__":
    print(page(), end="")
