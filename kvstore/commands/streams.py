"""Streams: bindings of what adds, reads and takes away entries; those of groups have a file of their own.

An entry goes out as [ID, [field, value, ...]], with a null for the fields of one that was deleted; entries of
several streams as pairs of key and entries under RESP2 and as a map under RESP3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.args import Args
from kvstore.commands.kinds import BULK, INT, OK, Kind
from kvstore.commands.persistence import timeout_ms
from kvstore.commands.registry import (
    KEY_DELETE,
    KEY_LOOK,
    KEY_READ,
    KEY_UPDATE,
    Argv,
    Block,
    Family,
    KeySpec,
)
from kvstore.engine.database import Database
from kvstore.engine.ids import FIRST_ID, ID
from kvstore.engine.stream_ids import format_id, parse_new_id, parse_start, parse_stop, parse_strict_id
from kvstore.engine.streams import Entries, NewID, Trimming, deleted_id_of, entries_added_of
from kvstore.engine.types.stream import Stream
from kvstore.errors import ResponseError, err
from kvstore.numbers import INT64_MAX, as_int, parse_int
from kvstore.resp import BULK_LINES, NULL_ARRAY, encode_bulk

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("stream")

# Since which version XREAD knows + as the last entry that there is.
PLUS: Final = (7, 4, 0)


# -- reply kinds -------------------------------------------------------------------------------------


def _entries_wire(entries: Entries, null: bytes) -> bytes:
    """The bytes of entries; ``null`` stands for the fields of what was deleted."""
    lines = BULK_LINES
    parts = [b"*%d" % len(entries)]
    try:
        for id, words in entries:
            name = b"%d-%d" % id
            if words is None:
                parts += (b"\r\n*2", lines[len(name)], name, b"\r\n", null)
                continue
            parts += (b"\r\n*2", lines[len(name)], name, b"\r\n*%d" % len(words))
            for word in words:
                parts += (lines[len(word)], word)
    except IndexError:  # a long one
        return b"*%d\r\n%b" % (len(entries), b"".join([_entry_wire(*entry, null) for entry in entries]))
    parts.append(b"\r\n")
    return b"".join(parts)


def _entry_wire(id: ID, words: tuple[bytes, ...] | None, null: bytes) -> bytes:
    fields = (
        null + b"\r\n" if words is None else b"*%d\r\n%b" % (len(words), b"".join(map(encode_bulk, words)))
    )
    return b"*2\r\n%b%b" % (encode_bulk(b"%d-%d" % id), fields)


def _streams_wire2(found: list[tuple[bytes, Entries]] | None) -> bytes:
    if not found:
        return b"*-1\r\n"
    parts = [b"*2\r\n%b%b" % (encode_bulk(key), _entries_wire(entries, b"*-1")) for key, entries in found]
    return b"*%d\r\n%b" % (len(found), b"".join(parts))


def _streams_wire3(found: list[tuple[bytes, Entries]] | None) -> bytes:
    if not found:
        return b"_\r\n"
    parts = [encode_bulk(key) + _entries_wire(entries, b"_") for key, entries in found]
    return b"%%%d\r\n%b" % (len(found), b"".join(parts))


def entries_tree(entries: Entries) -> list[Any]:
    """Entries as a reply tree."""
    return [[format_id(id), NULL_ARRAY if words is None else list(words)] for id, words in entries]


# Entries of one stream; None is the null array.
ENTRIES = Kind(
    "entries",
    tree2=lambda entries: NULL_ARRAY if entries is None else entries_tree(entries),
    wire2=lambda entries: b"*-1\r\n" if entries is None else _entries_wire(entries, b"*-1"),
    wire3=lambda entries: b"_\r\n" if entries is None else _entries_wire(entries, b"_"),
    plain=True,
)
# (key, entries) of several streams; the null array where there are none.
STREAMS = Kind(
    "streams",
    lambda found: [[key, entries_tree(entries)] for key, entries in found] if found else NULL_ARRAY,
    lambda found: {key: entries_tree(entries) for key, entries in found} if found else NULL_ARRAY,
    _streams_wire2,
    _streams_wire3,
)


# -- adding ------------------------------------------------------------------------------------------


@family.command(
    "XADD",
    -5,
    "write denyoom fast",
    KEY_UPDATE,
    kind=BULK,
    since="5.0.0",
    tips=("nondeterministic_output",),
    method=Database.xadd,
)
def xadd(session: Session, argv: Argv) -> bytes | None:
    if argv[2] == b"*" and len(argv) & 1:
        id = session.db._xadd(argv[1], None, argv[3:])
        return None if id is None else b"%d-%d" % id
    if len(argv) > 7 and argv[5] == b"*" and argv[3] == b"~" and argv[2].upper() == b"MAXLEN":
        # So are most streams kept short; what is wrong with the words is told below.
        most = parse_int(argv[4])
        if most is not None and most >= 0 and not len(argv) & 1:
            id = session.db._xadd(argv[1], None, argv[6:], Trimming(most, approximate=True))
            return None if id is None else b"%d-%d" % id
    return _xadd(session, argv)


def _xadd(session: Session, argv: Argv) -> bytes | None:
    words = Args(argv, 2)
    options = _Options(words)
    new: NewID | None = None
    make = True
    while words:
        if words.argv[words.at] == b"*":
            break
        if options.take():
            continue
        if words.take(b"NOMKSTREAM"):
            make = False
        else:
            new = parse_new_id(words.argv[words.at])
            break
    trimming = options.trimming(session)
    words.at += 1
    fields = words.rest()
    if not fields or len(fields) % 2:
        raise err("wrong number of arguments for 'xadd' command")
    id = session.db._xadd(argv[1], new, fields, trimming, make)
    return None if id is None else format_id(id)


class _Options:
    """The words of XADD and XTRIM that say what to drop."""

    def __init__(self, words: Args):
        self._words = words
        self._found: Trimming | None = None
        self._limit: int | None = None

    def take(self) -> bool:
        """Step over one of them with what belongs to it, if one is next. Raises ResponseError."""
        words = self._words
        if words.take(b"MAXLEN", more=1):
            approximate = self._begin()
            most = as_int(words.next())
            if most < 0:
                raise err("The MAXLEN argument must be >= 0.")
            self._found = Trimming(most, approximate=approximate)
        elif words.take(b"MINID", more=1):
            approximate = self._begin()
            self._found = Trimming(None, parse_strict_id(words.next()), approximate)
        elif words.take(b"LIMIT", more=1):
            self._limit = as_int(words.next())
            if self._limit < 0:
                raise err("The LIMIT argument must be >= 0.")
        else:
            return False
        return True

    def _begin(self) -> bool:
        """Whether what follows is meant about."""
        if self._found is not None:
            raise err("syntax error, MAXLEN and MINID options at the same time are not compatible")
        words = self._words
        if words.left > 1 and words.argv[words.at] in (b"~", b"="):
            return words.next() == b"~"
        return False

    def trimming(self, session: Session, required: bool = False) -> Trimming | None:
        """What they say together. Raises ResponseError."""
        found = self._found
        if found is None:
            if self._limit:
                raise err("syntax error, LIMIT cannot be used without specifying a trimming strategy")
            if required:
                raise err("syntax error, XTRIM must be called with a trimming strategy")
        if session.db.ctx.obeys:
            self._limit = 0 if found is not None and found.approximate else None
        elif self._limit is not None and (found is None or not found.approximate):
            raise err("syntax error, LIMIT cannot be used without the special ~ option")
        return None if found is None else found._replace(limit=self._limit)


@family.command(
    "XSETID", -3, "write denyoom fast", KEY_UPDATE, kind=OK, since="5.0.0", method=Database.xsetid
)
def xsetid(session: Session, argv: Argv) -> bool:
    id = parse_strict_id(argv[2])
    added, deleted = None, FIRST_ID
    words = Args(argv, 3)
    while words:
        if words.take(b"ENTRIESADDED", more=1):
            added = entries_added_of(words.next())
        elif words.take(b"MAXDELETEDID", more=1):
            deleted = deleted_id_of(words.next(), id)
        else:
            raise words.syntax_error()
    return session.db._xsetid(argv[1], id, added, deleted)


# -- taking away -------------------------------------------------------------------------------------

family.bind("XDEL", -3, "write fast", KEY_DELETE, Database.xdel, INT, since="5.0.0")


@family.command(
    "XTRIM",
    -4,
    "write",
    KEY_DELETE,
    kind=INT,
    since="5.0.0",
    tips=("nondeterministic_output",),
    method=Database.xtrim,
)
def xtrim(session: Session, argv: Argv) -> int:
    words = Args(argv, 2)
    options = _Options(words)
    while words:
        if not options.take():
            raise words.syntax_error()
    trimming = options.trimming(session, required=True)
    assert trimming is not None
    return session.db._xtrim(argv[1], trimming)


# -- reading -----------------------------------------------------------------------------------------

family.bind("XLEN", 2, "readonly fast", KEY_LOOK, Database.xlen, INT, since="5.0.0")


@family.command("XRANGE", -4, "readonly", KEY_READ, kind=ENTRIES, since="5.0.0", method=Database.xrange)
def xrange(session: Session, argv: Argv) -> Entries | None:
    return _range(session, argv, argv[2], argv[3], False)


@family.command("XREVRANGE", -4, "readonly", KEY_READ, kind=ENTRIES, since="5.0.0", method=Database.xrevrange)
def xrevrange(session: Session, argv: Argv) -> Entries | None:
    return _range(session, argv, argv[3], argv[2], True)


def _range(session: Session, argv: Argv, first: bytes, last: bytes, reverse: bool) -> Entries | None:
    start, stop = parse_start(first), parse_stop(last)
    count = None
    words = Args(argv, 4)
    while words:
        if not words.take(b"COUNT", more=1):
            raise words.syntax_error()
        count = max(0, as_int(words.next()))
    return session.db._xrange(argv[1], start, stop, count, reverse)


class Reading:
    """The words of XREAD and XREADGROUP."""

    __slots__ = ("at", "block", "consumer", "count", "group", "ids", "keys", "noack")

    def __init__(self, argv: Argv, name: str, now_ms: int):
        self.block: int | None = None  # milliseconds; 0: for ever
        self.count = 0
        self.group = self.consumer = b""
        self.noack = False
        in_group = name == "XREADGROUP"
        has_group = False
        at, size = 1, len(argv)
        while at < size:
            word, left = argv[at].upper(), size - at - 1  # how many words follow
            at += 1
            if word == b"STREAMS" and left:
                break
            if word == b"BLOCK" and left:
                self.block = timeout_ms(argv[at])
                if self.block > INT64_MAX - now_ms:
                    raise err("timeout is out of range")
                at += 1
            elif word == b"COUNT" and left:
                self.count = max(0, as_int(argv[at]))
                at += 1
            elif word == b"GROUP" and left > 1:
                if not in_group:
                    raise _only_groups("GROUP")
                self.group, self.consumer = argv[at : at + 2]
                has_group = True
                at += 2
            elif word == b"NOACK":
                if not in_group:
                    raise _only_groups("NOACK")
                self.noack = True
            else:
                raise Args.syntax_error()
        else:
            raise Args.syntax_error()  # no streams
        count, odd = divmod(size - at, 2)
        if odd:
            symbol = ">" if in_group else "$"
            raise err(
                f"Unbalanced '{name.lower()}' list of streams: for each stream key an ID or '{symbol}' must be "
                "specified."
            )
        if in_group and not has_group:
            raise err("Missing GROUP option for XREADGROUP")
        self.at = at + count  # where the IDs begin
        self.keys, self.ids = argv[at : self.at], argv[self.at :]

    def blocking(self, *, expects: bool) -> Block | None:
        """What the command answers where there is nothing to read."""
        if self.block is None:
            return None
        return Block(tuple(self.keys), self.block / 1000, Stream, expects=expects)


def _only_groups(option: str) -> ResponseError:
    return err(f"The {option} option is only supported by XREADGROUP. You called XREAD instead.")


def read_keys(start: int) -> tuple[KeySpec, ...]:
    """The keys of XREAD and XREADGROUP: the first half of what stands behind STREAMS."""
    return (KeySpec(("STREAMS", start), ("range", -1, 1, 2), "RO ACCESS"),)


@family.command(
    "XREAD",
    -4,
    "readonly blocking",
    read_keys(1),
    kind=STREAMS,
    since="5.0.0",
    method=Database.xread,
)
def xread(session: Session, argv: Argv) -> Any:
    db = session.db
    reading = Reading(argv, "XREAD", db.ctx.now())
    found = db._xread(reading.keys, reading.ids, reading.count, session.hub.compat_version >= PLUS)
    if found:
        return found
    if reading.block is not None and session.may_block:
        argv[reading.at :] = reading.ids  # what $ is now is meant when the command runs again
    return reading.blocking(expects=False)
