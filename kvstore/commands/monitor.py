"""MONITOR, and the text that shows a command to people: quoted words, secrets left out.

Must not know: who is watching.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.commands.kinds import OK, Codec
from kvstore.commands.registry import NO_REPLY, Argv, Command, Family, Run
from kvstore.errors import err
from kvstore.resp import quote_word

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("server", "admin")

_REDACTED = b"(redacted)"
# Subcommands of ACL that name users and say what opens them.
_ABOUT_USERS = frozenset({b"SETUSER", b"GETUSER", b"DELUSER"})


def redacted(session: Session, argv: Argv) -> Argv:
    """The words without secrets: those of AUTH, HELLO AUTH, of ACL about users, and values of secret directives."""
    command = session.hub.find(argv[0])  # which may be renamed
    name = "" if command is None else command.name
    if name == "AUTH":
        return [argv[0], *[_REDACTED] * (len(argv) - 1)]
    if name == "HELLO":
        upper = [word.upper() for word in argv]
        if b"AUTH" in upper[2:]:
            at = upper.index(b"AUTH", 2)
            return [*argv[: at + 1], *[_REDACTED] * len(argv[at + 1 : at + 3]), *argv[at + 3 :]]
    if name == "ACL" and len(argv) > 2 and argv[1].upper() in _ABOUT_USERS:
        return [*argv[:2], *[_REDACTED] * (len(argv) - 2)]
    if name == "CONFIG" and len(argv) > 3 and argv[1].upper() == b"SET":
        shown = list(argv)
        for at in range(3, len(argv), 2):
            if session.hub.config.is_sensitive(argv[at - 1]):
                shown[at] = _REDACTED
        return shown
    return argv


def monitor_line(session: Session, argv: Argv, by_script: bool) -> bytes:
    """A command as MONITOR shows it: time, database, client, words. O(n) bytes."""
    seconds, ms = divmod(session.hub.ctx.now(), 1000)
    if by_script:
        client = "lua"
    elif session.is_unix:
        client = f"unix:{session.address.removesuffix(':0')}"
    else:
        client = session.address
    head = b"%d.%06d [%d %b] " % (seconds, ms * 1000, session.db.index, client.encode())
    return head + b" ".join(map(quote_word, redacted(session, argv)))


def _compile_monitor(command: Command, codec: Codec) -> Run:
    def run(session: Session, argv: Argv) -> Any:
        if len(argv) != 1:
            raise command.wrong_arity()
        if not session.may_block and codec.on_wire:
            raise err("MONITOR isn't allowed for DENY BLOCKING client")
        if session in session.hub.monitors:
            return NO_REPLY  # as a real server, which takes it for a replica's
        session.hub.set_monitor(session, True)
        return codec.ok

    return run


@family.command("MONITOR", 1, "admin noscript loading stale", kind=OK, compile_with=_compile_monitor)
def monitor(session: Session, argv: Argv) -> bool:
    """See every command that the server runs from now on. O(1), and O(1) a command."""
    session.hub.set_monitor(session, True)
    return True
