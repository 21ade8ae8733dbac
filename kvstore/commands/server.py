"""The server as one: TIME, ROLE, WAIT, SHUTDOWN and the like.

Must not know: sockets, processes; ``Host`` does for it what a process must do.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.help import add_help
from kvstore.commands.kinds import ARRAY, OK, TREE, Kind
from kvstore.commands.persistence import timeout_ms
from kvstore.commands.registry import NO_REPLY, Argv, Block, Family, compile_silent
from kvstore.commands.tables import BUSY
from kvstore.engine.context import SystemClock
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int, parse_int
from kvstore.resp import Verbatim

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

log = logging.getLogger("kvstore")

family = Family("server", "")
generic = Family("generic", "connection")

_ALL_SHARDS = ("request_policy:all_shards", "response_policy:agg_min")


@family.command("TIME", 1, "loading stale fast", kind=ARRAY, since="2.6.0", tips=("nondeterministic_output",))
def time_(session: Session, argv: Argv) -> list[bytes]:
    """Seconds since the Unix epoch, and microseconds. O(1)."""
    seconds, micros = divmod(_micros(session.hub), 1_000_000)
    return [b"%d" % seconds, b"%d" % micros]


def _micros(hub: Hub) -> int:
    """The time in microseconds: the clock's, but for real time, which is known better."""
    if isinstance(hub.ctx.clock, SystemClock):
        return time.time_ns() // 1000
    return hub.ctx.now() * 1000


@family.command(
    "ROLE", 1, "noscript loading stale fast", kind=ARRAY, since="2.8.12", categories="admin dangerous"
)
def role(session: Session, argv: Argv) -> list[Any]:
    """That this is a master, how much it has replicated, and its replicas. O(1)."""
    return [b"master", 0, []]


@family.command("LOLWUT", -1, "readonly fast", kind=TREE, since="5.0.0")
def lolwut(session: Session, argv: Argv) -> Verbatim:
    """The version, with no picture. O(1)."""
    if len(argv) > 2 and argv[1].upper() == b"VERSION":
        as_int(argv[2])
    return Verbatim(f"Redis ver. {session.hub.version}\n".encode())


# -- replicas, of which there are none -------------------------------------------------------------------


def _replica_of(session: Session, argv: Argv) -> bool:
    """NO ONE: be a master, which this server always is. O(1)."""
    if session.hub.node is not None:
        raise err("REPLICAOF not allowed in cluster mode.")
    if argv[1].upper() == b"NO" and argv[2].upper() == b"ONE":
        return True
    port = parse_int(argv[2])
    if port is None or not 0 <= port <= 65535:
        raise err("Invalid master port")
    raise err("This server cannot be a replica")


for _name, _since in (("REPLICAOF", "5.0.0"), ("SLAVEOF", "1.0.0")):
    family.command(_name, 3, "admin noscript stale no_async_loading", kind=OK, since=_since)(_replica_of)


@family.command("FAILOVER", -1, "admin noscript stale", kind=OK, since="6.2.0")
def failover(session: Session, argv: Argv) -> bool:
    """Hand over to a replica, of which this server has none: always refused. O(1)."""
    if session.hub.node is not None:
        raise err("FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.")
    if len(argv) == 2 and argv[1].upper() == b"ABORT":
        raise err("No failover in progress.")
    words = Args(argv, 1)
    seen: set[bytes] = set()
    while words:
        option = words.next().upper()
        if option in seen:
            raise Args.syntax_error()
        seen.add(option)
        if option == b"TIMEOUT" and words:
            if as_int(words.next()) <= 0:
                raise err("FAILOVER timeout must be greater than 0")
        elif option == b"TO" and words.left >= 2:
            words.next()
            as_int(words.next())
        elif option != b"FORCE":
            raise Args.syntax_error()
    raise err("FAILOVER requires connected replicas.")


@generic.command(
    *("WAIT", 3, "blocking"),
    kind=Kind("replicas", tree2=lambda value: value or 0, plain=True),
    since="3.0.0",
    tips=_ALL_SHARDS,
)
def wait(session: Session, argv: Argv) -> int | Block:
    """Wait until so many replicas have what this client wrote; how many have it. O(1)."""
    replicas = as_int(argv[1])
    timeout = timeout_ms(argv[2])
    return Block((), timeout / 1000) if replicas > 0 else 0


# -- SHUTDOWN ------------------------------------------------------------------------------------------------


@family.command(
    *("SHUTDOWN", -1, "admin noscript loading stale no_multi allow_busy"),
    kind=OK,
    compile_with=compile_silent,
)
def shutdown(session: Session, argv: Argv) -> Any:
    """Stop the server. O(n) keys where a snapshot is written: by SAVE, or where there are save points."""
    options = [word.upper() for word in argv[1:]]
    if not {*options} <= {b"SAVE", b"NOSAVE", b"NOW", b"FORCE", b"ABORT"}:
        raise Args.syntax_error()
    if (b"ABORT" in options and len(options) > 1) or {b"SAVE", b"NOSAVE"} <= {*options}:
        raise Args.syntax_error()
    if options == [b"ABORT"]:
        raise err("No shutdown in progress.")
    if b"NOSAVE" not in options and BUSY in session.hub.features:
        raise ResponseError(session.hub.scripting.busy_text)
    stop = session.hub.host.shut_down
    save = True if b"SAVE" in options else False if b"NOSAVE" in options else None
    if stop is None or not stop(save, b"FORCE" in options):
        raise err("Errors trying to SHUTDOWN. Check logs.")
    session.closing = True
    return NO_REPLY


# -- what is not there -----------------------------------------------------------------------------------------

modules = family.container("MODULE", since="4.0.0")


@family.command(
    *("MODULE LIST", 2, "admin noscript"),
    kind=ARRAY,
    since="4.0.0",
    tips=("nondeterministic_output_order",),
)
def module_list(session: Session, argv: Argv) -> list[Any]:
    """The modules, of which there are none. O(1)."""
    return []


def _no_module(session: Session, argv: Argv) -> Any:
    """Refused: what is built for Redis cannot be loaded here. O(1)."""
    log.warning("Module %s failed to load: there are no modules", argv[2].decode(errors="replace"))
    raise err("Error loading the extension. Please check the server logs.")


for _name, _since in (("LOAD", "4.0.0"), ("LOADEX", "7.0.0")):
    family.command(f"MODULE {_name}", -3, "admin noscript no_async_loading", kind=OK, since=_since)(
        _no_module
    )


@family.command("MODULE UNLOAD", 3, "admin noscript no_async_loading", kind=OK, since="4.0.0")
def module_unload(session: Session, argv: Argv) -> Any:
    """Refused: nothing was loaded. O(1)."""
    raise err("Error unloading module: no such module with that name")


add_help(
    family,
    modules,
    {
        "LOAD": "<path> [<arg> ...]",
        "LOADEX": "<path> [CONFIG <name> <value> ...] [ARGS <arg> ...]",
        "UNLOAD": "<name>",
    },
)
