"""CONFIG: GET, SET, RESETSTAT, REWRITE, HELP.

Must not know: what the directives do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.commands.help import add_help
from kvstore.commands.kinds import MAP, OK
from kvstore.commands.registry import COMMANDS, Argv, Family
from kvstore.commands.tables import LOADING

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

family = Family("server", "admin")

_FLAGS = "admin noscript loading stale"
_EVERYWHERE = ("request_policy:all_nodes", "response_policy:all_succeeded")

family.container("CONFIG", since="2.0.0").categories = frozenset({"slow"})


@family.command("CONFIG GET", -3, _FLAGS, kind=MAP, since="2.0.0")
def config_get(session: Session, argv: Argv) -> dict[bytes, bytes]:
    """Names and values of the directives that any of the globs matches. O(globs * directives)."""
    return session.hub.config.get(argv[2:])


@family.command("CONFIG SET", -4, _FLAGS, kind=OK, since="2.0.0", tips=_EVERYWHERE)
def config_set(session: Session, argv: Argv) -> bool:
    """Change directives, all or none. O(directives named)."""
    session.hub.config.set(argv[2:], local=session.transport is None, loading=LOADING in session.hub.features)
    return True


@family.command("CONFIG RESETSTAT", 2, _FLAGS, kind=OK, since="2.0.0", tips=_EVERYWHERE)
def config_resetstat(session: Session, argv: Argv) -> bool:
    """Start the counters of INFO anew. O(commands)."""
    reset_statistics(session.hub)
    return True


@family.command("CONFIG REWRITE", 2, _FLAGS, kind=OK, since="2.8.0", tips=_EVERYWHERE)
def config_rewrite(session: Session, argv: Argv) -> bool:
    """Bring the configuration file up to date. O(length of the file)."""
    session.hub.config.rewrite(session.hub.users.lines_for_config())
    return True


add_help(family, COMMANDS["CONFIG"], {"GET": "<pattern>", "SET": "<directive> <value>"})
COMMANDS["CONFIG"].subcommands["HELP"].categories = frozenset({"slow"})


def reset_statistics(hub: Hub) -> None:
    """Zero what the hub and the store have counted. The objects stay, as tables hold on to them."""
    for stats in hub.stats.values():
        stats.buckets = [0] * len(stats.buckets)
        stats.nanos = stats.rejected = stats.failed = 0
    hub.errors.clear()
    hub.total_errors = 0
    hub.host.reset()
    hub.scripting.interpreter.evicted = 0
    hub.ctx.stats.reset()
