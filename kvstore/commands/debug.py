"""DEBUG: what harnesses and operators ask of a server, while ``enable-debug-command`` lets them.

What is about the insides of another server answers as that server does, and does nothing.

Must not know: sockets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.digest import digest_all, digest_value
from kvstore.commands.help import help_lines
from kvstore.commands.kinds import TREE
from kvstore.commands.persistence import files_of
from kvstore.commands.registry import Argv, Family
from kvstore.engine.packing import pack_all
from kvstore.engine.types import TYPES
from kvstore.engine.types.cold import unpacked
from kvstore.errors import FormatError, PersistenceError, ResponseError, err
from kvstore.glob import compile_glob
from kvstore.numbers import as_int, parse_int
from kvstore.resp import OK, BigNumber, Push, RespSet, Status, Verbatim, encode3

if TYPE_CHECKING:
    from kvstore.commands.session import Session

log = logging.getLogger("kvstore")
family = Family("server", "")

Handler = Callable[["Session", Argv], Any]
# By name: the least and most words after it, the handler, what HELP says.
_HANDLERS: dict[str, tuple[int, int, Handler]] = {}
_USAGE: dict[str, str] = {}
_MAX_PACKED: Final = 4 << 30
_UNITS: Final = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1 << 10,
    b"m": 10**6,
    b"mb": 1 << 20,
    b"g": 10**9,
    b"gb": 1 << 30,
}
# What EXPIRE and KEYS need not wait for: the longest sleep in one go, in seconds.
_LONGEST_SLEEP: Final = 1e9


def _handler(usage: str, least: int, most: int) -> Callable[[Handler], Handler]:
    """Register a subcommand that takes ``least`` to ``most`` words; its docstring is its help."""

    def register(handler: Handler) -> Handler:
        _HANDLERS[usage.split(" ", 1)[0]] = (least, most, handler)
        _USAGE[usage] = (handler.__doc__ or "").strip()
        return handler

    return register


@family.command("DEBUG", -2, "admin noscript loading stale", kind=TREE)
def debug(session: Session, argv: Argv) -> Any:
    """Look into the server and bring about states that tests need. O(1) for most."""
    name = argv[1].upper().decode("latin-1")
    found = _HANDLERS.get(name)
    if found is None or not found[0] <= len(argv) - 2 <= found[1]:
        word = argv[1][:128].decode("utf-8", "surrogateescape")
        raise err(f"unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP.")
    return found[2](session, argv[2:])


@_handler("HELP", 0, 0)
def _help(session: Session, words: Argv) -> Any:
    """Print this help."""
    return help_lines("DEBUG", {usage: text for usage, text in _USAGE.items() if usage != "HELP"})


def _leading_number(word: bytes) -> float:
    """The number that a word begins with, 0 where it begins with none."""
    for end in range(len(word), 0, -1):
        try:
            return float(word[:end])
        except ValueError:
            continue
    return 0.0


def _switch(word: bytes) -> bool:
    return _leading_number(word) != 0


@_handler("SLEEP <seconds>", 1, 1)
def _sleep(session: Session, words: Argv) -> Any:
    """Do nothing for that long; all clients wait."""
    time.sleep(min(max(0.0, _leading_number(words[0])), _LONGEST_SLEEP))
    return OK


@_handler("SET-ACTIVE-EXPIRE <0|1>", 1, 1)
def _set_active_expire(session: Session, words: Argv) -> Any:
    """Whether keys that are due go by themselves, or only when somebody looks."""
    session.hub.ctx.active_expire = _switch(words[0])
    return OK


@_handler("PAUSE-CRON <0|1>", 1, 1)
def _pause_cron(session: Session, words: Argv) -> Any:
    """Whether periodic work rests."""
    session.hub.cron_paused = _switch(words[0])
    return OK


@_handler("STRINGMATCH-LEN <length> <pattern>", 2, 2)
def _stringmatch_len(session: Session, words: Argv) -> Any:
    """Match a glob against that many letters a."""
    compile_glob(words[1])(b"a" * min(max(0, as_int(words[0])), 1 << 20))
    return OK


@_handler("STRINGMATCH-TEST", 0, 0)
def _stringmatch_test(session: Session, words: Argv) -> Any:
    """Nothing: globs are tested elsewhere."""
    return OK


_RELOAD_OPTIONS: Final = frozenset({b"MERGE", b"NOFLUSH", b"NOSAVE"})


@_handler("RELOAD [MERGE] [NOFLUSH] [NOSAVE]", 0, 1 << 31)
def _reload(session: Session, words: Argv) -> Any:
    """Write a snapshot and read it back; MERGE: its keys replace those that are there."""
    options = {word.upper() for word in words}
    if not options <= _RELOAD_OPTIONS:
        raise err("DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    files = files_of(session.hub)
    save, flush, merge = b"NOSAVE" not in options, b"NOFLUSH" not in options, b"MERGE" in options
    try:
        files.reload(save=save, flush=flush, merge=merge)
    except (FormatError, PersistenceError) as error:
        log.warning("%s", error)
        raise err("Error trying to load the RDB dump, check server logs.") from error
    log.warning("DB reloaded by DEBUG RELOAD")
    return OK


@_handler("LOADAOF", 0, 1 << 31)
def _load_log(session: Session, words: Argv) -> Any:
    """Empty the store and read the log back."""
    files = files_of(session.hub)
    try:
        files.load_log()
    except (FormatError, PersistenceError) as error:
        log.warning("%s", error)
        raise err("Error trying to load the AOF files, check server logs.") from error
    log.warning("Append Only File loaded by DEBUG LOADAOF")
    return OK


@_handler("DIGEST", 0, 0)
def _digest(session: Session, words: Argv) -> Any:
    """A fingerprint of all data."""
    return Status(digest_all(session.hub.ctx).hex().encode())


@_handler("DIGEST-VALUE <key> [<key> ...]", 0, 1 << 31)
def _digest_value(session: Session, words: Argv) -> Any:
    """A fingerprint of each value, zeros where there is none."""
    db = session.db
    return [
        Status((digest_value(db, key) if db._peek(key) is not None else bytes(20)).hex().encode())
        for key in words
    ]


@_handler("OBJECT <key> [fast]", 1, 2)
def _object(session: Session, words: Argv) -> Any:
    """What holds the value of a key."""
    db = session.db
    value = db._peek(words[0])
    if value is None:
        raise err("no such key")
    record = TYPES[type(value)]
    seconds = session.hub.ctx.now() // 1000 & 0xFFFFFF
    size = "" if words[1:2] == [b"fast"] else f"serializedlength:{record.memory(value, 0)} "
    return Status(
        f"Value at:0x{id(value):x} refcount:1 encoding:{record.encoding(value, session.hub.ctx.limits)} {size}"
        f"lru:{seconds} lru_seconds_idle:0 lfu_freq:0 lfu_access_time_minutes:0".encode()
    )


@_handler("PACK", 0, 0)
def _pack(session: Session, words: Argv) -> Any:
    """Pack every small value that can be packed; how many."""
    return pack_all(session.hub.ctx)


@_handler("POPULATE <count> [<prefix>] [<size>]", 1, 3)
def _populate(session: Session, words: Argv) -> Any:
    """Make strings prefix:0, prefix:1, ... (key:0, ...) with the values value:0, ... where there are none."""
    numbers = [parse_int(word) for word in (words[0], *words[2:])]
    if any(number is None or number < 0 for number in numbers):
        raise err("value is out of range, must be positive")
    prefix = words[1] if len(words) > 1 else b"key"
    db = session.db
    for number in range(numbers[0] or 0):
        key = b"%b:%d" % (prefix, number)
        if db._peek(key) is None:
            value = b"value:%d" % number
            if len(numbers) > 1:
                value = value[: numbers[1]].ljust(numbers[1] or 0, b"\0")
            db._put(key, value)
    return OK


@_handler("PROTOCOL <type>", 1, 1)
def _protocol(session: Session, words: Argv) -> Any:
    """A reply of that type, to try a client on."""
    kind = words[0].lower()
    if kind == b"push":
        if session.protocol == 2:
            raise err("RESP2 is not supported by this command")
        session.push(session.codec.encode(Push([b"server-cpu-usage", 42])))
        return b"Some real reply following the push reply"
    if kind == b"attrib":
        text = b"Some real reply following the attribute"
        if session.protocol == 3 and session.codec.on_wire:
            session.reply(b"|1\r\n" + encode3(b"key-popularity") + encode3([b"key:123", 90]))
        return text
    if kind not in _REPLIES:
        raise err(
            "Wrong protocol type name. Please use one of the following: "
            "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
        )
    return _REPLIES[kind]


_REPLIES: Final[dict[bytes, Any]] = {
    b"string": b"Hello World",
    b"integer": 12345,
    b"double": 3.141,
    b"bignum": BigNumber(1234567999999999999999999999999999999),
    b"null": None,
    b"array": [0, 1, 2],
    b"set": RespSet([0, 1, 2]),
    b"map": {0: False, 1: True, 2: False},
    b"verbatim": Verbatim(b"This is a verbatim\nstring"),
    b"true": True,
    b"false": False,
}


@_handler("LOG <message>", 1, 1)
def _log(session: Session, words: Argv) -> Any:
    """Write to the server's log."""
    log.warning("DEBUG LOG: %s", words[0].decode("utf-8", "replace"))
    return OK


@_handler("ERROR <text>", 1, 1)
def _error(session: Session, words: Argv) -> Any:
    """An error with that text."""
    raise ResponseError(words[0].decode("utf-8", "surrogateescape"))


@_handler("QUICKLIST-PACKED-THRESHOLD <size>", 1, 1)
def _packed_threshold(session: Session, words: Argv) -> Any:
    """Nothing: lists have no nodes."""
    digits = len(words[0]) - len(words[0].lstrip(b"0123456789"))
    unit = _UNITS.get(words[0][digits:].lower())
    if not digits or unit is None or int(words[0][:digits]) * unit >= _MAX_PACKED:
        raise err("argument must be a memory value bigger than 1 and smaller than 4gb")
    return OK


@_handler("LISTPACK <key>", 1, 1)
def _listpack(session: Session, words: Argv) -> Any:
    """Nothing, for values that another server would keep in a listpack."""
    if _encoding(session, words[0]) != "listpack":
        raise err("Not a listpack encoded object.")
    return Status(b"Listpack structure printed on stdout")


def _encoding(session: Session, key: bytes) -> str:
    value = session.db._peek(key)
    if value is None:
        raise err("no such key")
    return TYPES[type(value)].encoding(value, session.hub.ctx.limits)


@_handler("HTSTATS <db> [full]", 1, 2)
def _htstats(session: Session, words: Argv) -> Any:
    """How many keys and deadlines a database has."""
    index = as_int(words[0])
    ctx = session.hub.ctx
    if not 0 <= index < ctx.count:
        raise err("Out of range database")
    db = ctx.database(index)
    text = f"[Dictionary HT]\n{_table_stats(len(db._data))}[Expires HT]\n{_table_stats(len(db._expires))}"
    return Verbatim(text.encode())


@_handler("HTSTATS-KEY <key> [full]", 1, 2)
def _htstats_key(session: Session, words: Argv) -> Any:
    """How many elements a hash table of a value has."""
    if _encoding(session, words[0]) not in ("hashtable", "skiplist"):
        raise err("The value stored at the specified key is not represented using an hash table")
    return Verbatim(_table_stats(len(unpacked(session.db._data[words[0]]))).encode())


def _table_stats(count: int) -> str:
    if not count:
        return ""
    size = max(4, 1 << (count - 1).bit_length())
    return f"Hash table 0 stats (main hash table):\n table size: {size}\n number of elements: {count}\n"


@_handler("REPLYBUFFER <PEAK-RESET-TIME|RESIZING> <value>", 2, 2)
def _replybuffer(session: Session, words: Argv) -> Any:
    """Nothing: replies are joined once, in a buffer of their size."""
    option = words[0].upper()
    if option == b"PEAK-RESET-TIME" and words[1].upper() not in (b"NEVER", b"RESET"):
        as_int(words[1])
    elif option not in (b"PEAK-RESET-TIME", b"RESIZING"):
        raise err("unknown subcommand or wrong number of arguments for 'REPLYBUFFER'. Try DEBUG HELP.")
    return OK


@_handler("CONFIG-REWRITE-FORCE-ALL", 0, 0)
def _rewrite_config(session: Session, words: Argv) -> Any:
    """Write the configuration file."""
    if session.hub.config.file is None:
        raise err("CONFIG-REWRITE-FORCE-ALL failed: Bad address")
    session.hub.config.rewrite()
    return OK


@_handler("MALLCTL <key> [<value>]", 1, 2)
def _mallctl(session: Session, words: Argv) -> Any:
    """Nothing: there is another allocator."""
    raise err("No such file or directory")


_HANDLERS["MALLCTL-STR"] = _HANDLERS["MALLCTL"]


def _nothing(reason: str) -> Handler:
    def handler(session: Session, words: Argv) -> Any:
        return OK

    handler.__doc__ = f"Nothing: {reason}."
    return handler


for _form, _least, _most, _reason in (
    ("AOF-FLUSH-SLEEP <microseconds>", 1, 1, "the log is written by the loop"),
    ("CHANGE-REPL-ID", 0, 0, "nobody replicates from here"),
    ("CLIENT-EVICTION", 0, 0, "clients are not closed for their memory"),
    ("DICT-RESIZING <0|1>", 1, 1, "a dict grows by itself"),
    ("JMAP", 0, 0, "there is no such map"),
    ("LEAK <text>", 1, 1, "what nobody refers to is freed"),
    ("SET-DISABLE-DENY-SCRIPTS <0|1>", 1, 1, "what scripts may not call stays so"),
    ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", 1, 1, "checksums are always checked"),
):
    _handler(_form, _least, _most)(_nothing(_reason))
