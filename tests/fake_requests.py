r"""Requests for every command, which clients of all kinds are asked, and should give the same objects for.

They are in ``data/requests.txt``, in blocks that begin with a ``[name]``. Each block is run in order on new data
(the first block, ``prologue``) and one connection, a request a line. Words are quoted as in a shell; ``\xNN`` is
a byte. What may stand before a request:

    ~   only the shape of the reply is compared: types, and keys of maps
    ?   the order of the reply's items is not compared
    !   is not called through the client, but sent and read on its connection

``;`` stands between requests that are sent together, where one reply comes.

Must not know: servers, clients.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

_TEXT = (Path(__file__).parent / "data" / "requests.txt").read_text()
BLOCKS: dict[str, str] = dict(re.findall(r"^\[(.+)\]\n((?:[^\[\n].*\n|\n)*)", _TEXT, re.MULTILINE))
PROLOGUE = BLOCKS.pop("prologue")


class Request(NamedTuple):
    """A line: how it is compared, and its requests."""

    mark: str
    argvs: tuple[tuple[bytes, ...], ...]

    def __str__(self) -> str:
        return " ; ".join(str(list(argv)) for argv in self.argvs)


def words(text: str) -> tuple[bytes, ...]:
    r"""The words of a request; escapes (``\xff``, ``\r``) are bytes, quoted or not."""
    parts = shlex.split(text.replace("\\", "\\\\"), posix=True)
    return tuple(
        part.replace("\\\\", "\\").encode().decode("unicode_escape").encode("latin-1") for part in parts
    )


def requests(text: str) -> list[Request]:
    """The requests of a block."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        mark, rest = (line[0], line[1:]) if line[0] in "~?!" else ("", line)
        found.append(Request(mark, tuple(words(part) for part in rest.split(" ; "))))
    return found


def commands() -> set[str]:
    """The commands that there is a request for, as COMMAND names them, subcommands with their container."""
    found = set()
    for text in BLOCKS.values():
        for request in requests(text):
            for argv in request.argvs:
                name = argv[0].decode().lower()
                found.add(name)
                if len(argv) > 1:
                    found.add(f"{name}|{argv[1].decode('latin-1').lower()}")
    return found
