"""Hashes: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.kinds import ARRAY, BULK, BULKS, INT, OK, TREE, Kind
from kvstore.commands.registry import (
    KEY_ACCESS_UPDATE,
    KEY_DELETE,
    KEY_INSERT,
    KEY_LOOK,
    KEY_READ,
    KEY_UPDATE,
    Argv,
    Family,
)
from kvstore.commands.scan import SCANNED, flat, parse_cursor, scan_options
from kvstore.engine.database import Database
from kvstore.engine.draws import draw_count
from kvstore.engine.hashes import scan_fields
from kvstore.engine.types.hash import Hash
from kvstore.errors import SYNTAX, ResponseError, err
from kvstore.resp import encode_bulks

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("hash")
bind = family.bind

_WRITE_FAST = "write denyoom fast"
_UNORDERED = ("nondeterministic_output_order",)
_RANDOM = ("nondeterministic_output",)


def _fields(head: bytes, found: dict[bytes, bytes]) -> bytes:
    words = [b""] * (2 * len(found))
    words[::2] = found
    words[1::2] = found.values()
    return encode_bulks(head, words)


# a dict of bytes to bytes
_FIELDS = Kind(
    "fields",
    wire2=lambda found: _fields(b"*%d" % (2 * len(found)), found),
    wire3=lambda found: _fields(b"%%%d" % len(found), found),
)

bind("HGET", 3, "readonly fast", KEY_READ, Database.hget, BULK, since="2.0.0")
bind("HMGET", -3, "readonly fast", KEY_READ, Database._hmget, ARRAY, since="2.0.0")
bind("HGETALL", 2, "readonly", KEY_READ, Database.hgetall, _FIELDS, since="2.0.0", tips=_UNORDERED)
bind("HKEYS", 2, "readonly", KEY_READ, Database.hkeys, BULKS, since="2.0.0", tips=_UNORDERED)
bind("HVALS", 2, "readonly", KEY_READ, Database.hvals, BULKS, since="2.0.0", tips=_UNORDERED)
bind("HLEN", 2, "readonly fast", KEY_LOOK, Database.hlen, INT, since="2.0.0")
bind("HEXISTS", 3, "readonly fast", KEY_LOOK, Database.hexists, INT, since="2.0.0")
bind("HSTRLEN", 3, "readonly fast", KEY_LOOK, Database.hstrlen, INT, since="3.2.0")
bind("HSET", -4, _WRITE_FAST, KEY_UPDATE, Database._hset, INT, since="2.0.0")
bind("HSETNX", 4, _WRITE_FAST, KEY_INSERT, Database.hsetnx, INT, since="2.0.0")
bind("HDEL", -3, "write fast", KEY_DELETE, Database.hdel, INT, since="2.0.0")
bind("HINCRBY", 4, _WRITE_FAST, KEY_ACCESS_UPDATE, Database.hincrby, INT, since="2.0.0")
bind("HINCRBYFLOAT", 4, _WRITE_FAST, KEY_ACCESS_UPDATE, Database._hincrbyfloat, BULK, since="2.6.0")


@family.command("HMSET", -4, _WRITE_FAST, KEY_UPDATE, kind=OK, since="2.0.0", method=Database.hmset)
def hmset(session: Session, argv: Argv) -> bool:
    if len(argv) % 2:
        raise err("wrong number of arguments for 'hmset' command")
    session.db._hset(*argv[1:])
    return True


@family.command(
    "HRANDFIELD",
    -2,
    "readonly",
    KEY_READ,
    kind=TREE,
    since="6.2.0",
    tips=_RANDOM,
    method=Database.hrandfield,
)
def hrandfield(session: Session, argv: Argv) -> Any:
    if len(argv) == 2:
        return session.db._hrandfield(argv[1])
    count = draw_count(argv[2])
    with_values = len(argv) > 3
    if with_values and (len(argv) > 4 or argv[3].upper() != b"WITHVALUES"):
        raise ResponseError(SYNTAX)
    pairs = session.db._hrandfields(argv[1], count, with_values)
    if with_values and session.codec.protocol == 3:
        return pairs
    return [word for pair in pairs for word in pair]


@family.command(
    "HSCAN", -3, "readonly", KEY_READ, kind=SCANNED, since="2.8.0", tips=_RANDOM, method=Database.hscan
)
def hscan(session: Session, argv: Argv) -> tuple[int, list[bytes]]:
    cursor = parse_cursor(argv[2])
    found = session.db._read_as(argv[1], Hash)
    if found is None:
        return 0, []
    options = scan_options(argv, 3, fields=True)
    cursor, pairs = scan_fields(found, cursor, options.match, options.count)
    return cursor, [field for field, _ in pairs] if options.no_values else flat(pairs)
