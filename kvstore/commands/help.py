"""HELP of containers: made of the docstrings of their subcommands, so that it cannot differ from them.

Must not know: sessions, what commands do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvstore.commands.kinds import ARRAY
from kvstore.commands.registry import Command, Family
from kvstore.resp import Status


def summary_of(command: Command) -> str:
    """The first sentence or two of a command's docstring, without its complexity; "" where it has none."""
    doc = (command.body.__doc__ or (command.method.__doc__ if command.method else None) or "").strip()
    line = " ".join(doc.split("\n\n", 1)[0].split())
    return line[: line.rfind(" O(")] if " O(" in line else line


def complexity_of(command: Command) -> str:
    """What the docstring says of the costs: "O(1)"; "" where it says nothing."""
    doc = (command.body.__doc__ or (command.method.__doc__ if command.method else None) or "").strip()
    line = " ".join(doc.split("\n\n", 1)[0].split())
    return line[line.rfind(" O(") + 1 :].rstrip(".") if " O(" in line else ""


def help_lines(name: str, usage: Mapping[str, str]) -> list[Status]:
    """The lines of a HELP: ``usage`` has for each form ("KILL <address>") what it does."""
    lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for form, text in {**usage, "HELP": "Print this help."}.items():
        lines += [form, f"    {text}"]
    return [Status(line.encode()) for line in lines]


def add_help(
    family: Family,
    container: Command,
    words: Mapping[str, str],
    *,
    flags: str = "loading stale",
    since: str = "5.0.0",
) -> None:
    """Give the container a HELP subcommand. ``words``: for each subcommand its arguments ("<name>")."""

    @family.command(f"{container.name} HELP", 2, flags, kind=ARRAY, since=since)
    def help_(session: Any, argv: Any) -> list[Status]:
        """What the subcommands are. O(1)."""
        usage = {
            f"{name} {words.get(name, '')}".rstrip(): summary_of(command)
            for name, command in sorted(container.subcommands.items())
            if name != "HELP" and session.hub.is_visible(command)
        }
        return help_lines(container.name, usage)
