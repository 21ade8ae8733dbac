"""Bindings of DUMP and RESTORE. Must not know: what payloads are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.commands.args import Args
from kvstore.commands.kinds import BULK, OK
from kvstore.commands.registry import KEY_OVERWRITE, KEY_READ, Argv, Family
from kvstore.engine.codec import crc64
from kvstore.engine.database import Database
from kvstore.engine.serial import check_use

if TYPE_CHECKING:
    from kvstore.commands.session import Session

# The library behind it is loaded now, with a server, and not by the first DUMP.
crc64(b"")

family = Family("generic", "keyspace")
cluster = Family("server", "keyspace")

family.bind(
    "DUMP", 2, "readonly", KEY_READ, Database.dump, BULK, since="2.6.0", tips=("nondeterministic_output",)
)


def restore(session: Session, argv: Argv) -> bool:
    words = Args(argv, 4)
    replace = absttl = False
    idle: bytes | None = None
    frequency: bytes | None = None
    while words:
        if words.take(b"REPLACE"):
            replace = True
        elif words.take(b"ABSTTL"):
            absttl = True
        elif frequency is None and words.take(b"IDLETIME", more=1):
            idle = words.next()
            check_use(idle, None)
        elif idle is None and words.take(b"FREQ", more=1):
            frequency = words.next()
            check_use(None, frequency)
        else:
            raise words.syntax_error()
    return session.db.restore(argv[1], argv[2], argv[3], replace, absttl, idle, frequency)


for _family, _name, _flags, _since in (
    (family, "RESTORE", "write denyoom", "2.6.0"),
    (cluster, "RESTORE-ASKING", "write denyoom asking", "3.0.0"),
):
    _family.command(
        _name,
        -4,
        _flags,
        KEY_OVERWRITE,
        kind=OK,
        since=_since,
        categories="dangerous",
        method=Database.restore,
    )(restore)
