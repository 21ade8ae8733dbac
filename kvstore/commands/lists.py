"""Lists: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args, parse_mpop
from kvstore.commands.kinds import ARRAY_OR_NULL_ARRAY, BULK, BULKS, INT, OK, TREE
from kvstore.commands.registry import (
    KEY_ACCESS_DELETE,
    KEY_DELETE,
    KEY_INSERT,
    KEY_LOOK,
    KEY_READ,
    KEY_UPDATE,
    Argv,
    Block,
    Family,
    keys_at,
    keys_counted,
)
from kvstore.commands.timeout import parse_timeout
from kvstore.engine.database import Database
from kvstore.engine.lists import not_negative, pop_count, position_rank, side
from kvstore.engine.types.list import List
from kvstore.errors import err
from kvstore.resp import NULL_ARRAY

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("list")

_FROM_TO = keys_at(1, 1, 1, "RW ACCESS DELETE") + keys_at(2, 2, 1, "RW INSERT")

family.bind("LPUSH", -3, "write denyoom fast", KEY_INSERT, Database._lpush, INT)
family.bind("RPUSH", -3, "write denyoom fast", KEY_INSERT, Database._rpush, INT)
family.bind("LPUSHX", -3, "write denyoom fast", KEY_INSERT, Database.lpushx, INT, since="2.2.0")
family.bind("RPUSHX", -3, "write denyoom fast", KEY_INSERT, Database.rpushx, INT, since="2.2.0")
family.bind("LLEN", 2, "readonly fast", KEY_LOOK, Database.llen, INT)
family.bind("LINDEX", 3, "readonly", KEY_READ, Database.lindex, BULK)
family.bind("LRANGE", 4, "readonly", KEY_READ, Database.lrange, BULKS)
family.bind("LSET", 4, "write denyoom", KEY_UPDATE, Database.lset, OK)
family.bind("LINSERT", 5, "write denyoom", KEY_INSERT, Database.linsert, INT, since="2.2.0")
family.bind("LREM", 4, "write", KEY_DELETE, Database.lrem, INT)
family.bind("LTRIM", 4, "write", KEY_DELETE, Database.ltrim, OK)
family.bind("LMOVE", 5, "write denyoom", _FROM_TO, Database.lmove, BULK, since="6.2.0")
family.bind("RPOPLPUSH", 3, "write denyoom", _FROM_TO, Database.rpoplpush, BULK, since="1.2.0")


def _pop(session: Session, argv: Argv, left: bool) -> Any:
    if len(argv) == 2:
        return session.db._pop(argv[1], left)
    if len(argv) > 3:
        raise err(f"wrong number of arguments for '{'lpop' if left else 'rpop'}' command")
    elements = session.db._pops(argv[1], left, pop_count(argv[2]))
    return NULL_ARRAY if elements is None else elements


@family.command("LPOP", -2, "write fast", KEY_ACCESS_DELETE, kind=TREE, method=Database.lpop)
def lpop(session: Session, argv: Argv) -> Any:
    return _pop(session, argv, True)


@family.command("RPOP", -2, "write fast", KEY_ACCESS_DELETE, kind=TREE, method=Database.rpop)
def rpop(session: Session, argv: Argv) -> Any:
    return _pop(session, argv, False)


@family.command("LPOS", -3, "readonly", KEY_READ, kind=TREE, since="6.0.6", method=Database.lpos)
def lpos(session: Session, argv: Argv) -> Any:
    options: dict[str, int] = {}
    words = Args(argv, 3)
    while words:
        if words.take(b"RANK", more=1):
            options["rank"] = position_rank(words.next())
        elif words.take(b"COUNT", more=1):
            options["count"] = not_negative(words.next(), "COUNT")
        elif words.take(b"MAXLEN", more=1):
            options["maxlen"] = not_negative(words.next(), "MAXLEN")
        else:
            raise words.syntax_error()
    return session.db.lpos(argv[1], argv[2], **options)


# -- from the first of several lists -------------------------------------------------------------------


@family.command(
    "LMPOP",
    -4,
    "write movablekeys",
    keys_counted(1, "RW ACCESS DELETE"),
    kind=ARRAY_OR_NULL_ARRAY,
    since="7.0.0",
    method=Database.lmpop,
)
def lmpop(session: Session, argv: Argv) -> Any:
    return session.db._mpop(*parse_mpop(argv, 1, b"LEFT", b"RIGHT"))


# -- blocking ------------------------------------------------------------------------------------------


def _blocking_pop(session: Session, argv: Argv, left: bool) -> Any:
    timeout = parse_timeout(argv[-1], session.db.ctx.now())
    keys = argv[1:-1]
    found = session.db._pop_first(keys, left)
    return Block(tuple(keys), timeout, List) if found is None else found


_POPPED = keys_at(1, -2, 1, "RW ACCESS DELETE")


@family.command(
    "BLPOP",
    -3,
    "write blocking",
    _POPPED,
    kind=ARRAY_OR_NULL_ARRAY,
    since="2.0.0",
    method=Database.blpop,
)
def blpop(session: Session, argv: Argv) -> Any:
    return _blocking_pop(session, argv, True)


@family.command(
    "BRPOP",
    -3,
    "write blocking",
    _POPPED,
    kind=ARRAY_OR_NULL_ARRAY,
    since="2.0.0",
    method=Database.brpop,
)
def brpop(session: Session, argv: Argv) -> Any:
    return _blocking_pop(session, argv, False)


def _blocking_move(session: Session, argv: Argv, from_left: bool, to_left: bool) -> Any:
    timeout = parse_timeout(argv[-1], session.db.ctx.now())
    element = session.db._move(argv[1], argv[2], from_left, to_left)
    return Block((argv[1],), timeout, List) if element is None else element


@family.command(
    "BLMOVE", 6, "write denyoom blocking", _FROM_TO, kind=BULK, since="6.2.0", method=Database.blmove
)
def blmove(session: Session, argv: Argv) -> Any:
    return _blocking_move(session, argv, side(argv[3]), side(argv[4]))


@family.command(
    "BRPOPLPUSH", 4, "write denyoom blocking", _FROM_TO, kind=BULK, since="2.2.0", method=Database.brpoplpush
)
def brpoplpush(session: Session, argv: Argv) -> Any:
    return _blocking_move(session, argv, False, True)


@family.command(
    "BLMPOP",
    -5,
    "write blocking movablekeys",
    keys_counted(2, "RW ACCESS DELETE"),
    kind=ARRAY_OR_NULL_ARRAY,
    since="7.0.0",
    method=Database.blmpop,
)
def blmpop(session: Session, argv: Argv) -> Any:
    keys, left, count = parse_mpop(argv, 2, b"LEFT", b"RIGHT")
    timeout = parse_timeout(argv[1], session.db.ctx.now())
    found = session.db._mpop(keys, left, count)
    return Block(tuple(keys), timeout, List) if found is None else found
