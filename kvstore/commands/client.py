"""CLIENT: what a client may ask and say about itself and others.

Must not know: sockets; a connection is what ``Transport`` says it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.connection import check_client_name, family
from kvstore.commands.help import add_help
from kvstore.commands.kinds import BULK, INT, OK, TREE
from kvstore.commands.registry import NO_REPLY, Argv, compile_silent
from kvstore.commands.tracking import describe as describe_tracking
from kvstore.commands.tracking import parse_tracking
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int, parse_int
from kvstore.resp import OK as OK_STATUS
from kvstore.resp import RespSet, Verbatim

if TYPE_CHECKING:
    from kvstore.commands.session import Session

_FLAGS = "noscript loading stale"
_ADMIN = f"admin {_FLAGS}"
_ALL_NODES = ("request_policy:all_nodes", "response_policy:all_succeeded")
_VARYING = ("nondeterministic_output",)
# The classes of clients that LIST and KILL know, by the names they take.
_TYPES = {
    b"normal": "normal",
    b"pubsub": "pubsub",
    b"master": "master",
    b"replica": "replica",
    b"slave": "replica",
}
_NEVER_MS = (1 << 63) - 1

container = family.container("CLIENT", since="2.4.0")


# -- what there is to tell of a client -----------------------------------------------------------------


def type_of(session: Session) -> str:
    """The class of a client, as CLIENT LIST TYPE names it."""
    return "pubsub" if session.subscriptions else "normal"


def _marks(session: Session) -> str:
    """The letters of ``flags=``."""
    hub, tracking = session.hub, session.tracking
    found = "".join(
        letter
        for letter, holds in (
            ("O", session in hub.monitors),
            ("P", session.subscriptions),
            ("x", session.in_multi),
            ("b", session.waiting is not None or session in hub.postponed),
            ("t", tracking is not None),
            ("R", tracking is not None and tracking.broken),
            ("B", tracking is not None and tracking.bcast),
            ("d", session.tx_dirty),
            ("c", session.closing),
            ("U", session.is_unix),
            ("r", session.reads_replicas),
            ("e", session.no_evict),
            ("T", session.no_touch),
        )
        if holds
    )
    return found or "N"


def describe(session: Session) -> str:
    """The client's line in CLIENT LIST, without the line end."""
    now = session.hub.ctx.now()
    unsent, held = session.unsent, session.held
    backlog = sum(len(word) for argv in session.backlog for word in argv)
    queued = sum(len(word) for argv in session.queue for word in argv)
    fields: dict[str, Any] = {
        "id": session.id,
        "addr": session.address,
        "laddr": session.local_address,
        "fd": session.fd,
        "name": session.name.decode("latin-1"),
        "age": max(0, now - session.created_ms) // 1000,
        "idle": max(0, now - session.active_ms) // 1000,
        "flags": _marks(session),
        "db": session.db.index,
        "sub": len(session.channels),
        "psub": len(session.patterns),
        "ssub": len(session.shard_channels),
        "multi": len(session.queue) if session.in_multi else -1,
    }
    if session.hub.compat_version >= (7, 4):
        fields["watch"] = len(session.watched)
    fields |= {
        "qbuf": session.parser.buffered + backlog,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": queued,
        "rbs": 0,
        "rbp": 0,
        "obl": unsent - held,
        "oll": int(held > 0),
        "omem": held,
        "tot-mem": session.buffered,
        "events": "rw" if unsent and session is not session.hub.current else "r",
        "cmd": session.command.full_name if session.command is not None else "NULL",
        "user": session.user.name.decode("latin-1"),
        "redir": -1 if session.tracking is None else session.tracking.redirect,
        "resp": session.protocol,
        "lib-name": session.lib_name.decode("latin-1"),
        "lib-ver": session.lib_ver.decode("latin-1"),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items())


def _report(sessions: Iterable[Session]) -> Verbatim:
    return Verbatim("".join(describe(session) + "\n" for session in sessions).encode("latin-1", "replace"))


@family.command("CLIENT ID", 2, _FLAGS, kind=INT, since="5.0.0")
def client_id(session: Session, argv: Argv) -> int:
    """The number of this connection; later ones have higher numbers. O(1)."""
    return session.id


@family.command("CLIENT INFO", 2, _FLAGS, kind=TREE, since="6.2.0", tips=_VARYING)
def client_info(session: Session, argv: Argv) -> Verbatim:
    """What CLIENT LIST tells, of this connection alone. O(1)."""
    return _report([session])


@family.command("CLIENT LIST", -2, _ADMIN, kind=TREE, since="2.4.0", tips=_VARYING)
def client_list(session: Session, argv: Argv) -> Verbatim:
    """A line for each connection, or for those of a type or with given numbers. O(n) connections."""
    sessions = session.hub.sessions
    if len(argv) == 2:
        return _report(sessions.values())
    option = argv[2].upper()
    if option == b"TYPE" and len(argv) == 4:
        kind = _client_type(argv[3])
        return _report(each for each in sessions.values() if type_of(each) == kind)
    if option == b"ID" and len(argv) > 3:
        numbers = [as_int(word, "ERR Invalid client ID") for word in argv[3:]]
        return _report(sessions[number] for number in numbers if number in sessions)
    raise Args.syntax_error()


def _client_type(word: bytes) -> str:
    kind = _TYPES.get(word.lower())
    if kind is None:
        raise err(f"Unknown client type '{word.decode('utf-8', 'surrogateescape')}'")
    return kind


@family.command("CLIENT GETREDIR", 2, _FLAGS, kind=INT, since="6.0.0")
def client_getredir(session: Session, argv: Argv) -> int:
    """The connection that is told of changes in the place of this one: 0 for none, -1 if it tracks nothing. O(1)."""
    return -1 if session.tracking is None else session.tracking.redirect


@family.command("CLIENT TRACKINGINFO", 2, _FLAGS, kind=TREE, since="6.2.0")
def client_trackinginfo(session: Session, argv: Argv) -> dict[bytes, Any]:
    """How this connection tracks keys, if it does. O(1)."""
    parts = describe_tracking(session)
    return {**parts, b"flags": RespSet(parts[b"flags"])}


@family.command("CLIENT TRACKING", -3, _FLAGS, kind=OK, since="6.0.0")
def client_tracking(session: Session, argv: Argv) -> bool:
    """Be told when keys change that this connection has read (ON), or all with given prefixes (BCAST). O(1)."""
    asked = parse_tracking(session, argv)
    if asked is None:
        session.hub.tracking.stop(session)
    else:
        session.hub.tracking.start(session, asked)
    return True


@family.command("CLIENT CACHING", 3, _FLAGS, kind=OK, since="6.0.0")
def client_caching(session: Session, argv: Argv) -> bool:
    """Whether to track the keys of the next command, where that is asked for each time (OPTIN, OPTOUT). O(1)."""
    tracking = session.tracking
    if tracking is None:
        raise err(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
        )
    word = argv[2].upper()
    if word == b"YES" and not tracking.optin:
        raise err("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    if word == b"NO" and not tracking.optout:
        raise err("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    if word not in (b"YES", b"NO"):
        raise Args.syntax_error()
    tracking.caching = True
    return True


# -- names -----------------------------------------------------------------------------------------------


@family.command("CLIENT GETNAME", 2, _FLAGS, kind=BULK, since="2.6.9")
def client_getname(session: Session, argv: Argv) -> bytes | None:
    """The name given to this connection. O(1)."""
    return session.name or None


@family.command("CLIENT SETNAME", 3, _FLAGS, kind=OK, since="2.6.9", tips=_ALL_NODES)
def client_setname(session: Session, argv: Argv) -> bool:
    """Name this connection; an empty name takes the name away. O(1)."""
    check_client_name(argv[2])
    session.name = argv[2]
    return True


@family.command("CLIENT SETINFO", 4, _FLAGS, kind=OK, since="7.2.0", tips=_ALL_NODES)
def client_setinfo(session: Session, argv: Argv) -> bool:
    """Say which client library this connection uses (LIB-NAME, LIB-VER). O(1)."""
    option = argv[2].upper()
    if option not in (b"LIB-NAME", b"LIB-VER"):
        raise err(f"Unrecognized option '{argv[2].decode('utf-8', 'surrogateescape')}'")
    if any(not 0x21 <= char <= 0x7E for char in argv[3]):
        raise err(f"{argv[2].decode()} cannot contain spaces, newlines or special characters.")
    if option == b"LIB-NAME":
        session.lib_name = argv[3]
    else:
        session.lib_ver = argv[3]
    return True


# -- KILL ------------------------------------------------------------------------------------------------

Test = Callable[["Session"], bool]


@family.command("CLIENT KILL", -3, _ADMIN, kind=TREE, since="2.4.0", compile_with=compile_silent)
def client_kill(session: Session, argv: Argv) -> Any:
    """Close connections: the one from an address, or all that pass every filter. O(n) connections."""
    if len(argv) == 3:
        victims = [each for each in session.hub.sessions.values() if each.address.encode() == argv[2]]
        if not victims:
            raise err("No such client")
    else:
        tests, skip_me = _kill_filters(session, Args(argv, 2))
        victims = [each for each in session.hub.sessions.values() if all(test(each) for test in tests)]
        if skip_me and session in victims:
            victims.remove(session)
    for victim in victims:
        victim.kill()
    return len(victims) if len(argv) > 3 else OK_STATUS


def _kill_filters(session: Session, words: Args) -> tuple[list[Test], bool]:
    """The tests that a client to be closed must pass, and whether the asking one is spared."""
    tests: list[Test] = []
    skip_me = True
    while words:
        option = words.next().upper()
        value = words.next()
        if option == b"SKIPME" and value.upper() in (b"YES", b"NO"):
            skip_me = value.upper() == b"YES"
        else:
            tests.append(_kill_filter(session, option, value))
    return tests, skip_me


def _kill_filter(session: Session, option: bytes, value: bytes) -> Test:
    if option == b"ID":
        number = parse_int(value) or 0
        if number <= 0:
            raise err("client-id should be greater than 0")
        return lambda each: each.id == number
    if option == b"TYPE":
        kind = _client_type(value)
        return lambda each: type_of(each) == kind
    if option == b"USER":
        user = session.hub.users.get(value)
        if user is None:
            raise err(f"No such user '{value.decode('utf-8', 'surrogateescape')}'")
        return lambda each: each.user.name == user.name
    if option in (b"ADDR", b"LADDR"):
        at = value.decode("utf-8", "surrogateescape")
        return lambda each: (each.address if option == b"ADDR" else each.local_address) == at
    if option == b"MAXAGE" and session.hub.compat_version >= (7, 4):
        age = as_int(value, "ERR maxage is not an integer or out of range")
        if age <= 0:
            raise err("maxage should be greater than 0")
        newest = session.hub.ctx.now() - age * 1000
        return lambda each: each.created_ms <= newest
    raise Args.syntax_error()


# -- switches --------------------------------------------------------------------------------------------


@family.command("CLIENT REPLY", 3, _FLAGS, kind=OK, since="3.2.0", compile_with=compile_silent)
def client_reply(session: Session, argv: Argv) -> Any:
    """Send replies (ON), none from now on (OFF), or none to the next command (SKIP). O(1)."""
    mode = argv[2].upper()
    if mode == b"ON":
        session.reply = session.out.append
        return True
    if mode == b"OFF":
        session.reply = _drop
    elif mode == b"SKIP":
        if session.reply != _drop:
            session.reply = _drop_one(session)
    else:
        raise Args.syntax_error()
    return NO_REPLY


def _drop(reply: Any) -> None:
    pass


def _drop_one(session: Session) -> Callable[[Any], None]:
    def drop(reply: Any) -> None:
        session.reply = session.out.append

    return drop


def _switch(argv: Argv) -> bool:
    word = argv[2].upper()
    if word not in (b"ON", b"OFF"):
        raise Args.syntax_error()
    return word == b"ON"


@family.command("CLIENT NO-EVICT", 3, _ADMIN, kind=OK, since="7.0.0")
def client_no_evict(session: Session, argv: Argv) -> bool:
    """Mark this connection as one not to be closed for its memory. O(1)."""
    session.no_evict = _switch(argv)
    return True


@family.command("CLIENT NO-TOUCH", 3, _FLAGS, kind=OK, since="7.2.0")
def client_no_touch(session: Session, argv: Argv) -> bool:
    """Let the reads of this connection (but for TOUCH) not count as uses of keys. O(1)."""
    session.no_touch = _switch(argv)
    session.retable()
    return True


# -- PAUSE and UNBLOCK -------------------------------------------------------------------------------------


def _wrong_form(argv: Argv) -> ResponseError:
    word = argv[1].decode("utf-8", "surrogateescape")
    return err(f"unknown subcommand or wrong number of arguments for '{word}'. Try CLIENT HELP.")


@family.command("CLIENT PAUSE", -3, _ADMIN, kind=OK, since="3.0.0")
def client_pause(session: Session, argv: Argv) -> bool:
    """Put off all commands (ALL), or those that write (WRITE), for some milliseconds. O(1)."""
    if len(argv) > 4:
        raise _wrong_form(argv)
    mode = argv[3].upper() if len(argv) == 4 else b"ALL"
    if mode not in (b"ALL", b"WRITE"):
        raise err("CLIENT PAUSE mode must be WRITE or ALL")
    milliseconds = as_int(argv[2], "ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        raise err("timeout is negative")
    until = session.hub.ctx.now() + milliseconds
    if until > _NEVER_MS:
        raise err("timeout is out of range")
    session.hub.pause(until, writes_only=mode == b"WRITE")
    return True


@family.command("CLIENT UNPAUSE", 2, _ADMIN, kind=OK, since="6.2.0")
def client_unpause(session: Session, argv: Argv) -> bool:
    """End a pause; what was put off runs now. O(n) connections."""
    session.hub.unpause()
    return True


@family.command("CLIENT UNBLOCK", -3, _ADMIN, kind=INT, since="5.0.0")
def client_unblock(session: Session, argv: Argv) -> bool:
    """End another connection's blocking command, as when its time is over or (ERROR) by an error. O(log n)."""
    if len(argv) > 4:
        raise _wrong_form(argv)
    reason = argv[3].upper() if len(argv) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise err("CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    other = session.hub.sessions.get(as_int(argv[2]))
    if other is None or other.waiting is None:
        return False
    error = "UNBLOCKED client unblocked via CLIENT UNBLOCK" if reason == b"ERROR" else None
    session.hub.unblock(other, error)
    return True


add_help(
    family,
    container,
    {
        "CACHING": "(YES|NO)",
        "KILL": "<address> | <filter> <value> [<filter> <value> ...]",
        "LIST": "[TYPE <type> | ID <id> [<id> ...]]",
        "NO-EVICT": "(ON|OFF)",
        "NO-TOUCH": "(ON|OFF)",
        "PAUSE": "<milliseconds> [WRITE|ALL]",
        "REPLY": "(ON|OFF|SKIP)",
        "SETINFO": "(LIB-NAME|LIB-VER) <value>",
        "SETNAME": "<name>",
        "TRACKING": "(ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
        "UNBLOCK": "<id> [TIMEOUT|ERROR]",
    },
)
