"""Generic key commands, and those on whole databases: bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.help import add_help
from kvstore.commands.kinds import ARRAY, BULK, INT, OK, STATUS, TREE
from kvstore.commands.registry import KEY_LOOK, KEY_READ, KEY_UPDATE, Argv, Family, keys_at
from kvstore.commands.scan import SCANNED, parse_cursor, scan_options
from kvstore.engine.database import Database
from kvstore.engine.expiry_commands import GT, LT, NX, XX
from kvstore.errors import SYNTAX, ResponseError, err
from kvstore.numbers import as_int

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("generic", "keyspace")
server = Family("server", "keyspace")

_ALL_KEYS = keys_at(1, -1, 1, "RO")
_DELETED_KEYS = keys_at(1, -1, 1, "RM DELETE")
_SUM_OF_SHARDS = ("request_policy:multi_shard", "response_policy:agg_sum")
_NONDETERMINISTIC = ("nondeterministic_output",)

family.bind("DEL", -2, "write", _DELETED_KEYS, Database.delete, INT, tips=_SUM_OF_SHARDS)
family.bind(
    "UNLINK", -2, "write fast", _DELETED_KEYS, Database.unlink, INT, since="4.0.0", tips=_SUM_OF_SHARDS
)
family.bind("EXISTS", -2, "readonly fast", _ALL_KEYS, Database.exists, INT, tips=_SUM_OF_SHARDS)
family.bind("TOUCH", -2, "readonly fast", _ALL_KEYS, Database.touch, INT, since="3.2.1", tips=_SUM_OF_SHARDS)
family.bind("TYPE", 2, "readonly fast", KEY_LOOK, Database.type, STATUS)

# -- names -----------------------------------------------------------------------------------------

_RENAMED = keys_at(1, 1, 1, "RW ACCESS DELETE")
family.bind("RENAME", 3, "write", _RENAMED + keys_at(2, 2, 1, "OW UPDATE"), Database.rename, OK)
family.bind("RENAMENX", 3, "write fast", _RENAMED + keys_at(2, 2, 1, "OW INSERT"), Database.renamenx, INT)
family.bind("MOVE", 3, "write fast", keys_at(1, 1, 1, "RW ACCESS UPDATE"), Database.move, INT)


@family.command(
    "COPY",
    -3,
    "write denyoom",
    KEY_READ + keys_at(2, 2, 1, "OW UPDATE"),
    kind=INT,
    since="6.2.0",
    method=Database.copy,
)
def copy(session: Session, argv: Argv) -> bool:
    db = session.db
    index: int | None = None
    replace = False
    words = Args(argv, 3)
    while words:
        if words.take(b"REPLACE"):
            replace = True
        elif words.take(b"DB", more=1):
            index = db._other(words.next()).index
        else:
            raise words.syntax_error()
    return db.copy(argv[1], argv[2], index, replace)


# -- looking around --------------------------------------------------------------------------------

family.bind(
    "KEYS",
    2,
    "readonly",
    (),
    Database.keys,
    ARRAY,
    categories="dangerous",
    tips=("request_policy:all_shards", "nondeterministic_output_order"),
)
family.bind(
    "RANDOMKEY",
    1,
    "readonly",
    (),
    Database.randomkey,
    BULK,
    tips=("request_policy:all_shards", "response_policy:special", "nondeterministic_output"),
)


@family.command(
    "SCAN",
    -2,
    "readonly",
    kind=SCANNED,
    since="2.8.0",
    tips=("nondeterministic_output", "request_policy:special", "response_policy:special"),
    method=Database.scan,
)
def scan(session: Session, argv: Argv) -> tuple[int, list[bytes]]:
    cursor = parse_cursor(argv[1])
    options = scan_options(argv, 2, keyspace=True)
    return session.db._scan(cursor, options.match, options.count, options.type)


_object = family.container("OBJECT", since="2.2.3")
_object.categories = frozenset({"slow"})


def _bind_object(name: str, since: str, summary: str) -> None:
    @family.command(
        f"OBJECT {name}",
        3,
        "readonly",
        keys_at(2, 2, 1, "RO"),
        kind=TREE,
        since=since,
        tips=_NONDETERMINISTIC,
    )
    def object_(session: Session, argv: Argv) -> Any:
        return session.db.object(name, argv[2])

    object_.__doc__ = summary


_bind_object("ENCODING", "2.2.3", "The name of the representation that the value would have in Redis. O(1).")
_bind_object("REFCOUNT", "2.2.3", "1, or Redis's figure for the small integers that it shares. O(1).")
_bind_object("IDLETIME", "2.2.3", "Seconds since the key was last used, or since this is recorded. O(1).")
_bind_object("FREQ", "4.0.0", "The logarithmic counter of the key's uses, under an LFU policy. O(1).")
add_help(family, _object, dict.fromkeys(_object.subcommands, "<key>"), since="6.2.0")

# -- deadlines -------------------------------------------------------------------------------------

_CONDITIONS = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT}


def _bind_expire(name: str, since: str, method: Any) -> None:
    command = name.lower()

    @family.command(name, -3, "write fast", KEY_UPDATE, kind=INT, since=since, method=method)
    def expire(session: Session, argv: Argv) -> bool:
        flags = 0
        for word in argv[3:]:
            flag = _CONDITIONS.get(word.upper())
            if flag is None:
                # A C string ends at its first NUL.
                shown = word.partition(b"\0")[0].decode("utf-8", "surrogateescape")
                raise err(f"Unsupported option {shown}")
            flags |= flag
        return session.db._expire_by(command, argv[1], argv[2], flags)


_bind_expire("EXPIRE", "1.0.0", Database.expire)
_bind_expire("PEXPIRE", "2.6.0", Database.pexpire)
_bind_expire("EXPIREAT", "1.2.0", Database.expireat)
_bind_expire("PEXPIREAT", "2.6.0", Database.pexpireat)
family.bind("TTL", 2, "readonly fast", KEY_READ, Database.ttl, INT, tips=_NONDETERMINISTIC)
family.bind("PTTL", 2, "readonly fast", KEY_READ, Database.pttl, INT, since="2.6.0", tips=_NONDETERMINISTIC)
family.bind("EXPIRETIME", 2, "readonly fast", KEY_READ, Database.expiretime, INT, since="7.0.0")
family.bind("PEXPIRETIME", 2, "readonly fast", KEY_READ, Database.pexpiretime, INT, since="7.0.0")
family.bind("PERSIST", 2, "write fast", KEY_UPDATE, Database.persist, INT, since="2.2.0")

# -- whole databases -------------------------------------------------------------------------------

_ALL_SHARDS = ("request_policy:all_shards", "response_policy:all_succeeded")

server.bind(
    "DBSIZE",
    1,
    "readonly fast",
    (),
    Database.dbsize,
    INT,
    tips=("request_policy:all_shards", "response_policy:agg_sum"),
)
server.bind("SWAPDB", 3, "write fast", (), Database.swapdb, OK, since="4.0.0", categories="dangerous")


def _asynchronous(argv: Argv) -> bool:
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() not in (b"ASYNC", b"SYNC")):
        raise ResponseError(SYNTAX)
    return len(argv) == 2 and argv[1].upper() == b"ASYNC"


@server.command(
    "FLUSHDB", -1, "write", kind=OK, categories="dangerous", tips=_ALL_SHARDS, method=Database.flushdb
)
def flushdb(session: Session, argv: Argv) -> bool:
    return session.db.flushdb(_asynchronous(argv))


@server.command(
    "FLUSHALL", -1, "write", kind=OK, categories="dangerous", tips=_ALL_SHARDS, method=Database.flushall
)
def flushall(session: Session, argv: Argv) -> bool:
    done = session.db.flushall(_asynchronous(argv))
    if session.hub.persistence is not None:
        session.hub.persistence.flushed_all()
    return done


memory = Family("server", "read")
memory.container("MEMORY", since="4.0.0").categories = frozenset({"slow"})


@memory.command(
    "MEMORY USAGE",
    -3,
    "readonly",
    keys_at(2, 2, 1, "RO"),
    kind=INT,
    since="4.0.0",
    method=Database.memory_usage,
)
def memory_usage(session: Session, argv: Argv) -> int | None:
    samples: int | None = None
    words = Args(argv, 3)
    while words:
        if not words.take(b"SAMPLES", more=1):
            raise words.syntax_error()
        samples = as_int(words.next())
        if samples < 0:
            raise words.syntax_error()
    return session.db.memory_usage(argv[2], samples)
