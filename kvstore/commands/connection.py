"""The connection itself: PING, ECHO, SELECT, HELLO, AUTH, QUIT, RESET."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.kinds import BULK, OK, STATUS, TREE, Codec
from kvstore.commands.registry import Argv, Command, Family, Run
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int, parse_int
from kvstore.resp import Status

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("connection")

_LOGIN_FLAGS = "noscript loading stale fast no_auth allow_busy"


def _compile_ping(command: Command, codec: Codec) -> Run:
    pong = codec.encode(Status(b"PONG"))

    def run(session: Session, argv: Argv) -> Any:
        if len(argv) > 2:
            raise command.wrong_arity()
        if session.subscriptions and codec.protocol == 2:
            return codec.encode([b"pong", argv[1] if len(argv) == 2 else b""])
        return codec.encode(argv[1]) if len(argv) == 2 else pong

    return run


@family.command(
    *("PING", -1, "fast"),
    kind=TREE,
    compile_with=_compile_ping,
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def ping(session: Session, argv: Argv) -> Any:
    """PONG, or the message given. O(1)."""
    return argv[1] if len(argv) == 2 else Status(b"PONG")


@family.command("ECHO", 2, "loading stale fast", kind=BULK)
def echo(session: Session, argv: Argv) -> bytes:
    """The message given. O(1)."""
    return argv[1]


@family.command("SELECT", 2, "loading stale fast", kind=OK)
def select(session: Session, argv: Argv) -> bool:
    """Change the session's database. O(1)."""
    index = as_int(argv[1])
    if not 0 <= index < session.hub.ctx.count:
        raise err("DB index is out of range")
    session.db = session.hub.ctx.database(index)
    return True


@family.command("AUTH", -2, _LOGIN_FLAGS, kind=OK)
def auth(session: Session, argv: Argv) -> bool:
    """Log in by password, or by user and password. O(1)."""
    if len(argv) > 3:
        raise Args.syntax_error()
    users = session.hub.users
    if len(argv) == 2:
        if users.default.nopass:
            raise err(
                "AUTH <password> called without any password configured for the default user. "
                "Are you sure your configuration is correct?"
            )
        users.log_in(session, users.default.name, argv[1], argv[0])
    else:
        users.log_in(session, argv[1], argv[2], argv[0])
    return True


def _compile_in_new_protocol(command: Command, codec: Codec) -> Run:
    """For commands that change the protocol: the answer is already in the new one."""

    def run(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        value = command.body(session, argv)
        return session.codec.of(command.kind)(value)

    return run


@family.command("HELLO", -1, _LOGIN_FLAGS, kind=TREE, since="6.0.0", compile_with=_compile_in_new_protocol)
def hello(session: Session, argv: Argv) -> dict[bytes, Any]:
    """Change the protocol, log in and set the name in one go; what server this is. O(1)."""
    words = Args(argv, 1)
    protocol = session.protocol
    if words:
        asked = parse_int(words.next())
        if asked is None:
            raise err("Protocol version is not an integer or out of range")
        if asked not in (2, 3):
            raise ResponseError("NOPROTO unsupported protocol version")
        protocol = asked
    login: tuple[bytes, bytes] | None = None
    name: bytes | None = None
    while words:
        option = words.next()
        if option.upper() == b"AUTH" and words.left >= 2:
            login = (words.next(), words.next())
        elif option.upper() == b"SETNAME" and words:
            name = words.next()
            check_client_name(name)
        else:
            raise err(f"Syntax error in HELLO option '{option.decode('utf-8', 'surrogateescape')}'")
    if login is not None:
        session.hub.users.log_in(session, *login, argv[0])
    if session.must_log_in:
        raise ResponseError(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
            "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
        )
    if name is not None:
        session.name = name
    if protocol != session.protocol:
        session.set_protocol(protocol)
    hub = session.hub
    return {
        b"server": b"redis",
        b"version": ".".join(map(str, hub.compat_version)).encode(),
        b"proto": session.protocol,
        b"id": session.id,
        b"mode": b"standalone" if hub.node is None else b"cluster",
        b"role": b"master",
        b"modules": [],
    }


def check_client_name(name: bytes) -> None:
    """Names stand in CLIENT LIST, so they have no spaces, line breaks or control characters."""
    if any(not 0x21 <= char <= 0x7E for char in name):
        raise err("Client names cannot contain spaces, newlines or special characters.")


@family.command("QUIT", -1, _LOGIN_FLAGS, kind=OK)
def quit_(session: Session, argv: Argv) -> bool:
    """Close the connection after the answer. O(1)."""
    session.closing = True
    return True


@family.command("RESET", 1, _LOGIN_FLAGS, kind=STATUS, since="6.2.0", compile_with=_compile_in_new_protocol)
def reset(session: Session, argv: Argv) -> str:
    """Bring the connection back to the state of a new one. O(1)."""
    hub = session.hub
    session.discard()
    hub.channels.forget(session)
    if session in hub.monitors:
        hub.set_monitor(session, False)
    hub.tracking.stop(session)
    session.db = hub.ctx.database(0)
    session.name = b""
    session.no_evict = session.no_touch = session.reads_replicas = False
    session.reply = session.out.append
    session.authenticated = not hub.users.needs_login
    session.user = hub.users.default
    session.set_protocol(2)
    session.check_login()
    return "RESET"
