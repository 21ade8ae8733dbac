"""Bitmaps: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.commands.kinds import ARRAY, INT
from kvstore.commands.registry import (
    KEY_ACCESS_UPDATE,
    KEY_READ,
    Argv,
    Family,
    keys_at,
)
from kvstore.engine.database import Database

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("bitmap")
bind = family.bind

_WRITE = "write denyoom"
_NEWER_BITOP = (8, 2)

bind("SETBIT", 4, _WRITE, KEY_ACCESS_UPDATE, Database._setbit, INT, since="2.2.0")
bind("GETBIT", 3, "readonly fast", KEY_READ, Database.getbit, INT, since="2.2.0")
bind("BITCOUNT", -2, "readonly", KEY_READ, Database._bitcount, INT, since="2.6.0")
bind("BITPOS", -3, "readonly", KEY_READ, Database._bitpos, INT, since="2.8.7")
bind(
    *("BITFIELD", -2, _WRITE, keys_at(1, 1, 1, "RW ACCESS UPDATE VARIABLE_FLAGS")),
    *(Database._bitfield, ARRAY),
    since="3.2.0",
)
bind("BITFIELD_RO", -2, "readonly fast", KEY_READ, Database._bitfield_ro, ARRAY, since="6.0.0")


@family.command(
    "BITOP",
    -4,
    _WRITE,
    keys_at(2, 2, 1, "OW UPDATE") + keys_at(3, -1, 1, "RO ACCESS"),
    kind=INT,
    since="2.6.0",
    method=Database.bitop,
)
def bitop(session: Session, argv: Argv) -> int:
    return session.db._bitop(argv[1], argv[2], argv[3:], session.hub.compat_version >= _NEWER_BITOP)
