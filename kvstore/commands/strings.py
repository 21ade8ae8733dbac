"""Strings: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.kinds import ARRAY, BULK, INT, OK, TREE, Codec
from kvstore.commands.registry import (
    KEY_ACCESS_DELETE,
    KEY_ACCESS_UPDATE,
    KEY_INSERT,
    KEY_LOOK,
    KEY_OVERWRITE,
    KEY_READ,
    KEY_UPDATE,
    KEYS_READ,
    Argv,
    Command,
    Family,
    Run,
    keys_at,
)
from kvstore.engine.database import Database
from kvstore.engine.lcs import lcs_bytes, lcs_length, lcs_runs
from kvstore.engine.strings import lcs_matches, lcs_total
from kvstore.engine.ttl import EXPIRY_OPTIONS, Expiry
from kvstore.errors import err
from kvstore.numbers import as_int
from kvstore.resp import OK as OK_STATUS
from kvstore.resp import encode_bulks

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("string")
bind = family.bind

_WRITE = "write denyoom"
_WRITE_FAST = "write denyoom fast"


def _get_row(session: Session, requests: list[Argv], codec: Codec) -> list[Any] | None:
    values = session.db._get_all([argv[1] for argv in requests])
    if values is None or not codec.on_wire:
        return values
    return [encode_bulks(b"", values)[2:]]  # without the line end of a head that is none


bind("GET", 2, "readonly fast", KEY_READ, Database.get, BULK, row=(2, _get_row))
bind("STRLEN", 2, "readonly fast", KEY_LOOK, Database.strlen, INT, since="2.2.0")
bind("GETRANGE", 4, "readonly", KEY_READ, Database.getrange, BULK, since="2.4.0")
bind("SUBSTR", 4, "readonly", KEY_READ, Database.substr, BULK)
bind(
    *("MGET", -2, "readonly fast", KEYS_READ, Database._mget, ARRAY),
    tips=("request_policy:multi_shard",),
)
bind("GETSET", 3, _WRITE_FAST, KEY_ACCESS_UPDATE, Database.getset, BULK)
bind("GETDEL", 2, "write fast", KEY_ACCESS_DELETE, Database.getdel, BULK, since="6.2.0")
bind("SETNX", 3, _WRITE_FAST, keys_at(1, 1, 1, "OW INSERT"), Database.setnx, INT)
bind("SETEX", 4, _WRITE, KEY_OVERWRITE, Database.setex, OK, since="2.0.0")
bind("PSETEX", 4, _WRITE, KEY_OVERWRITE, Database.psetex, OK, since="2.6.0")
bind("APPEND", 3, _WRITE_FAST, KEY_INSERT, Database.append, INT, since="2.0.0")
bind("SETRANGE", 4, _WRITE, KEY_UPDATE, Database.setrange, INT, since="2.2.0")
bind("INCR", 2, _WRITE_FAST, KEY_ACCESS_UPDATE, Database.incr, INT)
bind("DECR", 2, _WRITE_FAST, KEY_ACCESS_UPDATE, Database.decr, INT)
bind("INCRBY", 3, _WRITE_FAST, KEY_ACCESS_UPDATE, Database.incrby, INT)
bind("DECRBY", 3, _WRITE_FAST, KEY_ACCESS_UPDATE, Database.decrby, INT)
bind("INCRBYFLOAT", 3, _WRITE_FAST, KEY_ACCESS_UPDATE, Database._incrbyfloat, BULK, since="2.6.0")


COMPARISONS = (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE")


def _set_row(session: Session, requests: list[Argv], codec: Codec) -> list[Any] | None:
    if not session.db._put_all([argv[1] for argv in requests], [argv[2] for argv in requests]):
        return None
    count = len(requests)
    return [codec.ok * count] if codec.on_wire else [codec.ok] * count


def _compile_set(command: Command, codec: Codec) -> Run:
    """SET without options skips the option handler and the encoder."""
    answer = codec.of(TREE)
    ok = codec.ok

    def run(session: Session, argv: Argv) -> Any:
        if len(argv) == 3:
            session.db._put(argv[1], argv[2])
            return ok
        if len(argv) < 3:
            raise command.wrong_arity()
        return answer(command.body(session, argv))

    return run


@family.command(
    "SET",
    -3,
    _WRITE,
    keys_at(1, 1, 1, "RW ACCESS UPDATE VARIABLE_FLAGS"),
    kind=TREE,
    compile_with=_compile_set,
    row=(3, _set_row),
    method=Database.set,
)
def set_(session: Session, argv: Argv) -> Any:
    condition: bytes | None = None
    operand = b""
    expiry: Expiry = None
    get = keep_ttl = False
    at, count = 3, len(argv)
    while at < count:
        word = argv[at].upper()
        at += 1
        if word in EXPIRY_OPTIONS and at < count and not keep_ttl and (expiry is None or expiry[0] == word):
            expiry = word, argv[at]
            at += 1
        elif word in (b"NX", b"XX") and condition in (None, word):
            condition = word
        elif word == b"GET":
            get = True
        elif word == b"KEEPTTL" and expiry is None:
            keep_ttl = True
        elif word in COMPARISONS and at < count and condition is None and _compares(session):
            condition, operand = word, argv[at]
            at += 1
        else:
            raise Args.syntax_error()
    done = session.db._set(argv[1], argv[2], expiry, keep_ttl, condition, operand, get)
    return OK_STATUS if done is True else done


def _compares(session: Session) -> bool:
    return session.hub.compat_version >= (8, 4)


@family.command("GETEX", -2, "write fast", KEY_ACCESS_UPDATE, kind=BULK, since="6.2.0", method=Database.getex)
def getex(session: Session, argv: Argv) -> bytes | None:
    expiry: Expiry = None
    persist = False
    at, count = 2, len(argv)
    while at < count:
        word = argv[at].upper()
        at += 1
        if word in EXPIRY_OPTIONS and at < count and not persist and (expiry is None or expiry[0] == word):
            expiry = word, argv[at]
            at += 1
        elif word == b"PERSIST" and expiry is None:
            persist = True
        else:
            raise Args.syntax_error()
    return session.db._getex(argv[1], expiry, persist)


@family.command(
    "MSET",
    -3,
    _WRITE,
    keys_at(1, -1, 2, "OW UPDATE"),
    kind=OK,
    since="1.0.1",
    tips=("request_policy:multi_shard", "response_policy:all_succeeded"),
    method=Database.mset,
)
def mset(session: Session, argv: Argv) -> bool:
    return session.db._mset(argv[1:])


@family.command(
    "MSETNX", -3, _WRITE, keys_at(1, -1, 2, "OW INSERT"), kind=INT, since="1.0.1", method=Database.msetnx
)
def msetnx(session: Session, argv: Argv) -> bool:
    return session.db._msetnx(argv[1:])


@family.command(
    "LCS", -3, "readonly", keys_at(1, 2, 1, "RO ACCESS"), kind=TREE, since="7.0.0", method=Database.lcs
)
def lcs(session: Session, argv: Argv) -> Any:
    a, b = session.db._lcs_operands(argv[1], argv[2])
    words = Args(argv, 3)
    length = index = with_length = False
    least = 0
    while words:
        if words.take(b"IDX"):
            index = True
        elif words.take(b"LEN"):
            length = True
        elif words.take(b"WITHMATCHLEN"):
            with_length = True
        elif words.take(b"MINMATCHLEN", more=1):
            least = as_int(words.next())
        else:
            raise words.syntax_error()
    if index and length:
        raise err("If you want both the length and indexes, please just use IDX.")
    session.db._check_lcs_size(a, b)
    if length:
        return lcs_length(a, b)
    runs = lcs_runs(a, b)
    if not index:
        return lcs_bytes(a, runs)
    return {b"matches": lcs_matches(runs, least, with_length), b"len": lcs_total(runs)}
