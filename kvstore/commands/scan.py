"""What the SCAN commands share: the cursor, the options, the reply.

Redis checks the cursor first, then (for the commands on one key) that the key is there and of the right
type, and only then the options; so these are separate steps.

Must not know: what is scanned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kvstore.commands.args import Args
from kvstore.commands.kinds import Kind
from kvstore.errors import SYNTAX, ResponseError, err
from kvstore.numbers import as_int, parse_int

# Elements looked at by a call that has no COUNT.
DEFAULT_COUNT = 10
_CURSORS = 1 << 64
# As strtoull reads: white space, a sign, digits, and nothing more before a NUL.
_ODD_CURSOR = re.compile(rb"[ \t-\r]*([+-]?)([0-9]+)(?:\0.*)?", re.DOTALL)

# (cursor, items): the cursor is a bulk string, the items an array in both protocols.
SCANNED = Kind("scanned", tree2=lambda found: [b"%d" % found[0], found[1]], plain=True)


def parse_cursor(raw: bytes) -> int:
    """The cursor, as the server reads it. Raises ResponseError."""
    if raw.isdigit() and len(raw) < 20:
        return int(raw)
    number = parse_int(raw)  # a negative one is refused, unless it is too long for 64 bits: that wraps around
    found = _ODD_CURSOR.fullmatch(raw)
    if found is None or (number is not None and number < 0):
        raise err("invalid cursor")
    cursor = int(found[2])
    if cursor >= _CURSORS:
        raise err("invalid cursor")
    return (_CURSORS - cursor) % _CURSORS if found[1] == b"-" else cursor


@dataclass(slots=True)
class ScanOptions:
    match: bytes | None
    count: int
    type: bytes | None
    no_values: bool


def scan_options(argv: list[bytes], at: int, *, keyspace: bool = False, fields: bool = False) -> ScanOptions:
    """The options from ``argv[at]`` on: MATCH, COUNT, for the keyspace TYPE, for hashes NOVALUES.

    Raises ResponseError.
    """
    match: bytes | None = None
    count = DEFAULT_COUNT
    type_name: bytes | None = None
    no_values = False
    words = Args(argv, at)
    while words:
        if words.take(b"COUNT", more=1):
            count = as_int(words.next())
            if count < 1:
                raise ResponseError(SYNTAX)
        elif words.take(b"MATCH", more=1):
            match = words.next()
        elif keyspace and words.take(b"TYPE", more=1):
            type_name = words.next()
        elif words.take(b"NOVALUES"):
            if not fields:
                raise err("NOVALUES option can only be used in HSCAN")
            no_values = True
        else:
            raise words.syntax_error()
    return ScanOptions(match, count, type_name, no_values)


def flat(pairs: list[tuple[Any, Any]]) -> list[Any]:
    """Fields and values (or members and scores) one after the other, as the reply has them."""
    return [part for pair in pairs for part in pair]
