"""HyperLogLog: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.commands.kinds import INT, OK, Kind
from kvstore.commands.registry import KEY_INSERT, NO_KEYS, Argv, Family, keys_at
from kvstore.engine.database import Database
from kvstore.engine.hyperloglog import self_test
from kvstore.resp import Status

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("hyperloglog")
bind = family.bind

# A word is a simple string.
_TOLD = Kind("pfdebug", lambda value: Status(value.encode()) if type(value) is str else value)

bind("PFADD", -2, "write denyoom fast", KEY_INSERT, Database.pfadd, INT, since="2.8.9")
bind(
    *("PFCOUNT", -2, "readonly may_replicate", keys_at(1, -1, 1, "RW ACCESS"), Database.pfcount, INT),
    since="2.8.9",
)
bind(
    *("PFMERGE", -2, "write denyoom"),
    keys_at(1, 1, 1, "RW ACCESS INSERT") + keys_at(2, -1, 1, "RO ACCESS"),
    *(Database.pfmerge, OK),
    since="2.8.9",
)
bind(
    *("PFDEBUG", 3, "write denyoom admin", keys_at(2, 2, 1, "RW ACCESS"), Database._pfdebug, _TOLD),
    since="2.8.9",
)


@family.command("PFSELFTEST", 1, "admin", NO_KEYS, kind=OK, since="2.8.9")
def pfselftest(session: Session, argv: Argv) -> bool:
    """Check that the layouts of HyperLogLogs agree, and that estimates are near. O(1)."""
    self_test()
    return True
