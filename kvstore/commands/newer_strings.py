"""Strings, what came with Redis 8.4 and 8.8, and with Valkey 9: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.commands.args import Args
from kvstore.commands.kinds import BULK, INT, TREE
from kvstore.commands.registry import (
    KEY_ACCESS_UPDATE,
    KEY_DELETE,
    KEY_READ,
    Argv,
    CommandRejected,
    KeySpec,
)
from kvstore.commands.strings import COMPARISONS, family
from kvstore.engine.database import Database
from kvstore.engine.newer_strings import Bounds
from kvstore.engine.ttl import EXPIRY_OPTIONS, Expiry
from kvstore.errors import err
from kvstore.numbers import parse_int

if TYPE_CHECKING:
    from kvstore.commands.session import Session

_MOST_KEYS = (1 << 31) - 1

family.bind("DIGEST", 2, "readonly fast", KEY_READ, Database.digest, BULK, since="8.4.0")
family.bind("DELIFEQ", 3, "write fast", KEY_DELETE, Database._delifeq, INT, since="9.0.0")


@family.command("DELEX", -2, "write fast", KEY_DELETE, kind=INT, since="8.4.0", method=Database.delex)
def delex(session: Session, argv: Argv) -> int:
    if len(argv) == 2:
        return session.db._delex(argv[1], None, b"")
    if len(argv) != 4:
        raise CommandRejected("ERR wrong number of arguments for 'delex' command")
    condition = argv[2].upper()
    if condition not in COMPARISONS:
        raise Args.syntax_error()
    return session.db._delex(argv[1], condition, argv[3])


@family.command(
    "MSETEX",
    -4,
    "write denyoom movablekeys",
    (KeySpec(1, ("keynum", 0, 1, 2), "OW UPDATE"),),
    kind=INT,
    since="8.4.0",
    method=Database.msetex,
)
def msetex(session: Session, argv: Argv) -> int:
    keys = parse_int(argv[1])
    if keys is None or not 0 < keys <= _MOST_KEYS:
        raise err("invalid numkeys value")
    at, count = 2 + 2 * keys, len(argv)
    if at > count:
        raise err("wrong number of key-value pairs")
    words = argv[2:at]
    condition, keep_ttl = b"", False
    expiry: Expiry = None
    while at < count:
        word = argv[at].upper()
        at += 1
        if word in EXPIRY_OPTIONS and at < count and not keep_ttl and expiry is None:
            expiry = word, argv[at]
            at += 1
        elif word in (b"NX", b"XX") and condition in (b"", word):
            condition = word
        elif word == b"KEEPTTL" and expiry is None:
            keep_ttl = True
        else:
            raise Args.syntax_error()
    return session.db._msetex(words, condition, expiry, keep_ttl)


@family.command(
    "INCREX",
    -2,
    "write denyoom fast",
    KEY_ACCESS_UPDATE,
    kind=TREE,
    since="8.8.0",
    method=Database.increx,
)
def increx(session: Session, argv: Argv) -> list[int] | list[bytes] | list[float]:
    given: dict[bytes, bytes] = {}
    at, count = 2, len(argv)
    while at < count:
        option = argv[at].upper()
        at += 1
        if option not in _EXCLUDES or option in given or not _EXCLUDES[option].isdisjoint(given):
            raise Args.syntax_error()
        if option in _BARE:
            given[option] = b""
        elif at < count:
            given[option] = argv[at]
            at += 1
        else:
            raise Args.syntax_error()
    expiry: Expiry = next(((option, given[option]) for option in EXPIRY_OPTIONS if option in given), None)
    if b"ENX" in given and expiry is None:
        raise err("ENX flag requires an expiration")
    is_float = b"BYFLOAT" in given
    amount = given.get(b"BYFLOAT", given.get(b"BYINT", b"1"))
    bounds = Bounds(given.get(b"LBOUND"), given.get(b"UBOUND"), b"SATURATE" in given)
    done = session.db._increx(argv[1], is_float, amount, bounds, expiry, b"PERSIST" in given, b"ENX" in given)
    if not is_float:
        return list(map(int, done))
    return list(map(float, done)) if session.codec.protocol == 3 else list(done)


_BARE = {b"SATURATE", b"PERSIST", b"ENX"}
_TIMES = {*EXPIRY_OPTIONS, b"PERSIST"}
# The options of INCREX, each with those that may not stand beside it.
_EXCLUDES: dict[bytes, set[bytes]] = {
    b"BYINT": {b"BYFLOAT"},
    b"BYFLOAT": {b"BYINT"},
    b"LBOUND": set(),
    b"UBOUND": set(),
    b"SATURATE": set(),
    b"ENX": {b"PERSIST"},
    b"PERSIST": {*EXPIRY_OPTIONS, b"ENX"},
    **dict.fromkeys(EXPIRY_OPTIONS, _TIMES),
}
