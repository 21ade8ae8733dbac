"""HELP of containers: made of the docstrings of their subcommands, so that it cannot differ from them.

Must not know: sessions, what commands do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from kvstore.commands.kinds import ARRAY
from kvstore.commands.registry import COMMANDS, Command, Family
from kvstore.engine.database import Database
from kvstore.resp import Status


def _doc(command: Command) -> str:
    """The docstring of a command's handler or method; a private method has that of the public one."""
    public = getattr(Database, command.name.lower(), None)
    for source in (command.body, command.method, public):
        if source is not None and source.__doc__:
            return inspect.cleandoc(source.__doc__)
    return ""


def summary_of(command: Command) -> str:
    """The first paragraph of a command's docstring, without its complexity; "" where there is none."""
    line = " ".join(_doc(command).split("\n\n", 1)[0].split())
    return (line[: line.find(" O(")] if " O(" in line else line).replace("``", "")


def complexity_of(command: Command) -> str:
    """What the docstring says of the costs: "O(1)"; "" where it says nothing."""
    doc = " ".join(_doc(command).split())
    found = re.search(r"\bO\(.*?(?=\.\s|\.?$)", doc)
    if found is not None:
        return found[0]
    likened = re.search(r"``(\w+)``", doc)  # "As ``expire``, ..."
    other = COMMANDS.get(likened[1].upper()) if likened is not None else None
    return complexity_of(other) if other is not None and other is not command else ""


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
