"""Groups of consumers of streams: bindings, and what XINFO tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.args import Args
from kvstore.commands.help import add_help
from kvstore.commands.kinds import INT, OK, TREE, Kind
from kvstore.commands.registry import (
    KEY_DELETE,
    KEY_READ,
    KEY_UPDATE,
    Argv,
    Family,
    KeySpec,
    keys_at,
)
from kvstore.commands.streams import PLUS, STREAMS, Reading, entries_tree, read_keys
from kvstore.engine.database import Database
from kvstore.engine.stream_claims import (
    Claim,
    Claimed,
    autoclaim_count,
    entries_of,
    parse_leading_ids,
    unknown_option,
)
from kvstore.engine.stream_groups import entries_read_of
from kvstore.engine.stream_ids import format_id, parse_start, parse_stop, parse_strict_id
from kvstore.engine.stream_info import FULL_COUNT
from kvstore.engine.types.stream import Stream
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int
from kvstore.resp import NULL_ARRAY

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("stream")

_xgroup = family.container("XGROUP", since="5.0.0")
_xinfo = family.container("XINFO", since="5.0.0")


def _second(flags: str) -> tuple[KeySpec, ...]:
    """The key of a subcommand."""
    return keys_at(2, 2, 1, flags)


def _no_such_form(argv: Argv) -> ResponseError:
    word = argv[1][:128].decode("utf-8", "surrogateescape")
    container = argv[0].upper().decode("latin-1")
    return err(f"unknown subcommand or wrong number of arguments for '{word}'. Try {container} HELP.")


# -- groups ------------------------------------------------------------------------------------------


@family.command(
    "XGROUP CREATE",
    -5,
    "write denyoom",
    _second("RW INSERT"),
    kind=OK,
    since="5.0.0",
    method=Database.xgroup_create,
)
def xgroup_create(session: Session, argv: Argv) -> bool:
    make, read = False, None
    words = Args(argv, 5)
    while words:
        if words.take(b"MKSTREAM"):
            make = True
        elif words.take(b"ENTRIESREAD", more=1):
            read = entries_read_of(words.next())
        else:
            raise _no_such_form(argv)
    if len(argv) > 8:
        session.db._check_group(argv[2], argv[3], make)
        raise _no_such_form(argv)
    return session.db.xgroup_create(argv[2], argv[3], argv[4], make, read)


@family.command(
    "XGROUP SETID", -5, "write", _second("RW UPDATE"), kind=OK, since="5.0.0", method=Database.xgroup_setid
)
def xgroup_setid(session: Session, argv: Argv) -> bool:
    read = None
    words = Args(argv, 5)
    while words:
        if not words.take(b"ENTRIESREAD", more=1):
            raise _no_such_form(argv)
        read = entries_read_of(words.next())
    if len(argv) > 7:
        session.db._group_to_change(argv[2], argv[3])
        raise _no_such_form(argv)
    return session.db.xgroup_setid(argv[2], argv[3], argv[4], read)


@family.command(
    "XGROUP CREATECONSUMER",
    5,
    "write denyoom",
    _second("RW INSERT"),
    kind=INT,
    since="6.2.0",
    method=Database.xgroup_createconsumer,
)
def xgroup_createconsumer(session: Session, argv: Argv) -> int:
    return session.db.xgroup_createconsumer(*argv[2:])


@family.command(
    "XGROUP DELCONSUMER",
    5,
    "write",
    _second("RW DELETE"),
    kind=INT,
    since="5.0.0",
    method=Database.xgroup_delconsumer,
)
def xgroup_delconsumer(session: Session, argv: Argv) -> int:
    return session.db.xgroup_delconsumer(*argv[2:])


@family.command(
    "XGROUP DESTROY",
    4,
    "write",
    _second("RW DELETE"),
    kind=INT,
    since="5.0.0",
    method=Database.xgroup_destroy,
)
def xgroup_destroy(session: Session, argv: Argv) -> bool:
    return session.db.xgroup_destroy(*argv[2:])


add_help(
    family,
    _xgroup,
    {
        "CREATE": "<key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <entries>]",
        "CREATECONSUMER": "<key> <groupname> <consumer>",
        "DELCONSUMER": "<key> <groupname> <consumer>",
        "DESTROY": "<key> <groupname>",
        "SETID": "<key> <groupname> <id|$> [ENTRIESREAD <entries>]",
    },
)


@family.command(
    "XREADGROUP",
    -7,
    "write blocking",
    read_keys(4),
    kind=STREAMS,
    since="5.0.0",
    method=Database.xreadgroup,
)
def xreadgroup(session: Session, argv: Argv) -> Any:
    db = session.db
    reading = Reading(argv, "XREADGROUP", db.ctx.now())
    found = db._xreadgroup(
        *(reading.group, reading.consumer, reading.keys, reading.ids, reading.count),
        noack=reading.noack,
        plus=session.hub.compat_version >= PLUS,
    )
    return found or reading.blocking(expects=True)


family.bind("XACK", -4, "write fast", KEY_UPDATE, Database.xack, INT, since="5.0.0")


# -- what is pending ---------------------------------------------------------------------------------

_PENDING = ("nondeterministic_output",)


@family.command(
    "XPENDING", -3, "readonly", KEY_READ, kind=TREE, since="5.0.0", tips=_PENDING, method=Database.xpending
)
def xpending(session: Session, argv: Argv) -> list[Any]:
    db, count = session.db, len(argv)
    if count == 3:
        number, first, last, consumers = db._xpending(argv[1], argv[2])
        if first is None or last is None:
            return [number, None, None, NULL_ARRAY]
        held = [[name, b"%d" % each] for name, each in consumers]
        return [number, format_id(first), format_id(last), held]
    if not 6 <= count <= 9:
        raise Args.syntax_error()
    idle, at = 0, 3
    if argv[3].upper() == b"IDLE":
        idle, at = as_int(argv[4]), 5
        if count < 8:
            raise Args.syntax_error()
    most = as_int(argv[at + 2])
    start, stop = parse_start(argv[at]), parse_stop(argv[at + 1])
    consumer = argv[at + 3] if at + 3 < count else None
    rows = db._xpending_range(argv[1], argv[2], start, stop, most, consumer, idle)
    return [[format_id(id), *more] for id, *more in rows]


_NUMBERS: Final = {b"IDLE": "idle", b"TIME": "time", b"RETRYCOUNT": "retry_count"}


@family.command(
    "XCLAIM",
    -6,
    "write fast",
    KEY_UPDATE,
    kind=TREE,
    since="5.0.0",
    tips=_PENDING,
    method=Database.xclaim,
)
def xclaim(session: Session, argv: Argv) -> list[Any]:
    db = session.db
    db._required_group(argv[1], argv[2], to_change=False)
    min_idle = as_int(argv[4], "ERR Invalid min-idle-time argument for XCLAIM")
    ids = parse_leading_ids(argv[5:])
    claim = Claim()
    words = Args(argv, 5 + len(ids))
    now = db._stream_now()
    while words:
        option = words.next()
        name = option.upper()
        if name == b"FORCE":
            claim.force = True
        elif name == b"JUSTID":
            claim.just_id = True
        elif name in _NUMBERS and words:
            number = as_int(words.next(), f"ERR Invalid {name.decode()} option argument for XCLAIM")
            if name == b"IDLE":
                claim.time = now - number
            elif name == b"TIME":
                claim.time = number
            else:
                claim.retry_count = number
        elif name == b"LASTID" and words:
            claim.last_id = parse_strict_id(words.next())
        else:
            raise unknown_option(option)
    return _claimed_tree(*db._xclaim(argv[1], argv[2], argv[3], min_idle, ids, claim), claim.just_id)


def _claimed_tree(stream: Stream, claimed: list[Claimed], just_id: bool) -> list[Any]:
    if just_id:
        return [format_id(id) for id, _ in claimed]
    return entries_tree(entries_of(stream, claimed))


@family.command(
    "XAUTOCLAIM",
    -6,
    "write fast",
    KEY_DELETE,
    kind=TREE,
    since="6.2.0",
    tips=_PENDING,
    method=Database.xautoclaim,
)
def xautoclaim(session: Session, argv: Argv) -> list[Any]:
    min_idle = as_int(argv[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM")
    start = parse_start(argv[5])
    count, just_id = autoclaim_count(None), False
    words = Args(argv, 6)
    while words:
        if words.take(b"COUNT", more=1):
            count = autoclaim_count(words.next())
        elif words.take(b"JUSTID"):
            just_id = True
        else:
            raise words.syntax_error()
    stream, following, claimed, gone = session.db._xautoclaim(
        argv[1], argv[2], argv[3], min_idle, start, count, just_id=just_id
    )
    return [format_id(following), _claimed_tree(stream, claimed, just_id), list(map(format_id, gone))]


# -- XINFO -------------------------------------------------------------------------------------------

# A dict, or a list of such: maps under RESP3.
FACTS = Kind("facts")


@family.command(
    "XINFO STREAM",
    -3,
    "readonly",
    _second("RO ACCESS"),
    kind=FACTS,
    since="5.0.0",
    method=Database.xinfo_stream,
)
def xinfo_stream(session: Session, argv: Argv) -> Any:
    db, full = session.db, None
    if len(argv) > 3:
        db._existing_stream(argv[2])
        if argv[3].upper() != b"FULL" or (len(argv) != 4 and len(argv) != 6):
            raise _no_such_form(argv)
        full = FULL_COUNT
        if len(argv) == 6:
            if argv[4].upper() != b"COUNT":
                raise _no_such_form(argv)
            full = as_int(argv[5])
            full = full if full >= 0 else FULL_COUNT
    return db._xinfo_stream(argv[2], full)


@family.command(
    "XINFO GROUPS",
    3,
    "readonly",
    _second("RO ACCESS"),
    kind=FACTS,
    since="5.0.0",
    method=Database.xinfo_groups,
)
def xinfo_groups(session: Session, argv: Argv) -> Any:
    return session.db._xinfo_groups(argv[2])


@family.command(
    "XINFO CONSUMERS",
    4,
    "readonly",
    _second("RO ACCESS"),
    kind=FACTS,
    since="5.0.0",
    tips=_PENDING,
    method=Database.xinfo_consumers,
)
def xinfo_consumers(session: Session, argv: Argv) -> Any:
    return session.db._xinfo_consumers(argv[2], argv[3])


add_help(
    family,
    _xinfo,
    {"CONSUMERS": "<key> <groupname>", "GROUPS": "<key>", "STREAM": "<key> [FULL [COUNT <count>]]"},
)
