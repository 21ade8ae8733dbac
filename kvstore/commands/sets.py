"""Sets: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.kinds import ARRAY, INT, SET, TREE
from kvstore.commands.registry import (
    KEY_ACCESS_DELETE,
    KEY_DELETE,
    KEY_INSERT,
    KEY_LOOK,
    KEY_READ,
    KEYS_READ,
    Argv,
    Family,
    keys_at,
    keys_counted,
)
from kvstore.commands.scan import SCANNED, parse_cursor, scan_options
from kvstore.engine.database import Database
from kvstore.engine.sets import scan_members
from kvstore.engine.types.set import Set
from kvstore.errors import SYNTAX, ResponseError, err
from kvstore.numbers import as_int
from kvstore.resp import RespSet

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("set")

_STORE = keys_at(1, 1, 1, "OW UPDATE") + keys_at(2, -1, 1, "RO ACCESS")
_ANY_ORDER = ("nondeterministic_output_order",)
_RANDOM = ("nondeterministic_output",)

family.bind("SADD", -3, "write denyoom fast", KEY_INSERT, Database.sadd, INT)
family.bind("SREM", -3, "write fast", KEY_DELETE, Database.srem, INT)
family.bind("SCARD", 2, "readonly fast", KEY_LOOK, Database.scard, INT)
family.bind("SISMEMBER", 3, "readonly fast", KEY_LOOK, Database.sismember, INT)
family.bind("SMISMEMBER", -3, "readonly fast", KEY_READ, Database.smismember, ARRAY, since="6.2.0")
family.bind(
    "SMOVE",
    4,
    "write fast",
    keys_at(1, 1, 1, "RW ACCESS DELETE") + keys_at(2, 2, 1, "RW INSERT"),
    Database.smove,
    INT,
)
family.bind("SINTERSTORE", -3, "write denyoom", _STORE, Database.sinterstore, INT)
family.bind("SUNIONSTORE", -3, "write denyoom", _STORE, Database.sunionstore, INT)
family.bind("SDIFFSTORE", -3, "write denyoom", _STORE, Database.sdiffstore, INT)


@family.command("SMEMBERS", 2, "readonly", KEY_READ, kind=SET, tips=_ANY_ORDER, method=Database.smembers)
def smembers(session: Session, argv: Argv) -> list[bytes]:
    return session.db._smembers(argv[1])


@family.command("SINTER", -2, "readonly", KEYS_READ, kind=SET, tips=_ANY_ORDER, method=Database.sinter)
def sinter(session: Session, argv: Argv) -> list[bytes]:
    return session.db._sinter(argv[1:])


@family.command("SUNION", -2, "readonly", KEYS_READ, kind=SET, tips=_ANY_ORDER, method=Database.sunion)
def sunion(session: Session, argv: Argv) -> list[bytes]:
    return session.db._sunion(argv[1:])


@family.command("SDIFF", -2, "readonly", KEYS_READ, kind=SET, tips=_ANY_ORDER, method=Database.sdiff)
def sdiff(session: Session, argv: Argv) -> list[bytes]:
    return session.db._sdiff(argv[1:])


@family.command(
    "SINTERCARD",
    -3,
    "readonly movablekeys",
    keys_counted(1, "RO ACCESS"),
    kind=INT,
    since="7.0.0",
    method=Database.sintercard,
)
def sintercard(session: Session, argv: Argv) -> int:
    count = as_int(argv[1], "ERR numkeys should be greater than 0")
    if count < 1:
        raise err("numkeys should be greater than 0")
    if count > len(argv) - 2:
        raise err("Number of keys can't be greater than number of args")
    words = Args(argv, 2 + count)
    limit = 0
    while words:
        if not words.take(b"LIMIT", more=1):
            raise words.syntax_error()
        limit = as_int(words.next(), "ERR LIMIT can't be negative")
        if limit < 0:
            raise err("LIMIT can't be negative")
    return session.db.sintercard(count, argv[2 : 2 + count], limit)


@family.command("SPOP", -2, "write fast", KEY_ACCESS_DELETE, kind=TREE, tips=_RANDOM, method=Database.spop)
def spop(session: Session, argv: Argv) -> Any:
    if len(argv) == 2:
        return session.db.spop(argv[1])
    if len(argv) > 3:
        raise ResponseError(SYNTAX)
    gone = session.db.spop(argv[1], argv[2])  # type: ignore[arg-type]
    return RespSet(gone)  # type: ignore[arg-type]


@family.command("SRANDMEMBER", -2, "readonly", KEY_READ, kind=TREE, tips=_RANDOM, method=Database.srandmember)
def srandmember(session: Session, argv: Argv) -> Any:
    if len(argv) == 2:
        return session.db.srandmember(argv[1])
    if len(argv) > 3:
        raise ResponseError(SYNTAX)
    return session.db.srandmember(argv[1], argv[2])  # type: ignore[arg-type]


@family.command(
    "SSCAN", -3, "readonly", KEY_READ, kind=SCANNED, since="2.8.0", tips=_RANDOM, method=Database.sscan
)
def sscan(session: Session, argv: Argv) -> tuple[int, list[bytes]]:
    cursor = parse_cursor(argv[2])
    found = session.db._read_as(argv[1], Set)
    if found is None:
        return 0, []
    options = scan_options(argv, 3)
    return scan_members(found, cursor, options.match, options.count)
