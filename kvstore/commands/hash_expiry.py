"""Hash fields that expire, and the hash commands of Redis 8.0: bindings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvstore.commands.hashes import family
from kvstore.commands.kinds import ARRAY, INT
from kvstore.commands.registry import (
    KEY_ACCESS_DELETE,
    KEY_ACCESS_UPDATE,
    KEY_READ,
    KEY_UPDATE,
    Argv,
)
from kvstore.engine.database import Database
from kvstore.engine.hash_expiry import field_deadline
from kvstore.engine.ttl import EXPIRY_OPTIONS
from kvstore.engine.types.hash import Hash
from kvstore.errors import err
from kvstore.numbers import parse_int

if TYPE_CHECKING:
    from kvstore.commands.session import Session

_CONDITIONS = (b"NX", b"XX", b"GT", b"LT")


def fields_from(argv: Argv, at: int, not_positive: str) -> list[bytes]:
    """The fields of ``FIELDS numfields field ...``, which is all there is from ``argv[at]`` on."""
    if argv[at].upper() != b"FIELDS":
        raise err("Mandatory argument FIELDS is missing or not at the right position")
    count = parse_int(argv[at + 1]) if at + 1 < len(argv) else None
    if count is None or count < 1:
        raise err(not_positive)
    if count != len(argv) - at - 2:
        raise err("The `numfields` parameter must match the number of arguments")
    return argv[at + 2 :]


def _bind_expire(name: str, unit_ms: int, relative: bool, method: Callable[..., object]) -> None:
    """HEXPIRE and its kin: the type is checked first, then the time, then the rest."""
    command = name.lower()

    @family.command(name, -6, "write denyoom fast", KEY_UPDATE, kind=ARRAY, since="7.4.0", method=method)
    def body(session: Session, argv: Argv) -> list[int]:
        db = session.db
        found = db._write_as(argv[1], Hash)
        deadline = field_deadline(argv[2], unit_ms, db.ctx.now() if relative else 0, command)
        word = argv[3].upper()
        condition = word if word in _CONDITIONS else None
        at = 3 if condition is None else 4
        fields = fields_from(argv, at, "Parameter `numFields` should be greater than 0")
        return db._hexpire(argv[1], found, deadline, condition, fields)


def _bind_times(name: str, unit_ms: int, left: bool, method: Callable[..., object]) -> None:
    """HTTL and its kin."""

    @family.command(name, -5, "readonly fast", KEY_READ, kind=ARRAY, since="7.4.0", method=method)
    def body(session: Session, argv: Argv) -> list[int]:
        session.db._read_as(argv[1], Hash)
        fields = fields_from(argv, 2, "Number of fields must be a positive integer")
        return session.db._field_times(argv[1], fields, unit_ms, left)


_bind_expire("HEXPIRE", 1000, True, Database.hexpire)
_bind_expire("HPEXPIRE", 1, True, Database.hpexpire)
_bind_expire("HEXPIREAT", 1000, False, Database.hexpireat)
_bind_expire("HPEXPIREAT", 1, False, Database.hpexpireat)
_bind_times("HTTL", 1000, True, Database.httl)
_bind_times("HPTTL", 1, True, Database.hpttl)
_bind_times("HEXPIRETIME", 1000, False, Database.hexpiretime)
_bind_times("HPEXPIRETIME", 1, False, Database.hpexpiretime)


@family.command("HPERSIST", -5, "write fast", KEY_UPDATE, kind=ARRAY, since="7.4.0", method=Database.hpersist)
def hpersist(session: Session, argv: Argv) -> list[int]:
    session.db._write_as(argv[1], Hash)
    fields = fields_from(argv, 2, "Number of fields must be a positive integer")
    return session.db._hpersist(argv[1], fields)


@family.command(
    "HGETDEL", -5, "write fast", KEY_ACCESS_DELETE, kind=ARRAY, since="8.0.0", method=Database.hgetdel
)
def hgetdel(session: Session, argv: Argv) -> list[bytes | None]:
    session.db._write_as(argv[1], Hash)
    fields = fields_from(argv, 2, "Number of fields must be a positive integer")
    return session.db._hgetdel(argv[1], fields)


class _Words:
    """What HGETEX and HSETEX are told: options and the FIELDS block, in any order."""

    __slots__ = ("condition", "expiry", "fields", "plain")

    def __init__(self) -> None:
        self.expiry: tuple[bytes, bytes] | None = None
        self.plain = False  # PERSIST or KEEPTTL, which exclude an expiry
        self.condition = b""
        self.fields: list[bytes] | None = None


def _words(argv: Argv, width: int, plain: bytes, conditions: tuple[bytes, ...]) -> _Words:
    """Parse them; ``width`` words a field, ``plain`` the option that sets no expiry."""
    words = _Words()
    at, count = 2, len(argv)
    while at < count:
        word = argv[at].upper()
        at += 1
        if word == b"FIELDS" and words.fields is None:
            number = parse_int(argv[at]) if at < count else None
            if number is None or number < 1:
                raise err("invalid number of fields")
            at += 1
            if number * width > count - at:
                raise err("wrong number of arguments")
            words.fields = argv[at : at + number * width]
            at += number * width
        elif word == plain or word in EXPIRY_OPTIONS:
            if words.plain or words.expiry is not None:
                allowed = plain.decode()
                raise err(f"Only one of EX, PX, EXAT, PXAT or {allowed} arguments can be specified")
            if word == plain:
                words.plain = True
                continue
            if at >= count:
                raise err("missing expire time")
            words.expiry = word, argv[at]
            at += 1
        elif word in conditions:
            if words.condition:
                raise err("Only one of FXX or FNX arguments can be specified")
            words.condition = word
        else:
            shown = argv[at - 1].decode("utf-8", "surrogateescape")
            raise err(f"unknown argument: {shown}")
    if words.fields is None:
        raise err("missing FIELDS argument")
    return words


@family.command(
    "HGETEX", -5, "write fast", KEY_ACCESS_UPDATE, kind=ARRAY, since="8.0.0", method=Database.hgetex
)
def hgetex(session: Session, argv: Argv) -> list[bytes | None]:
    words = _words(argv, 1, b"PERSIST", ())
    deadline = session.db._field_expiry(words.expiry, "hgetex")
    return session.db._hgetex(argv[1], words.fields or [], deadline, words.plain)


@family.command(
    "HSETEX", -6, "write denyoom fast", KEY_UPDATE, kind=INT, since="8.0.0", method=Database.hsetex
)
def hsetex(session: Session, argv: Argv) -> int:
    words = _words(argv, 2, b"KEEPTTL", (b"FNX", b"FXX"))
    deadline = session.db._field_expiry(words.expiry, "hsetex")
    return session.db._hsetex(argv[1], words.fields or [], deadline, words.plain, words.condition)
