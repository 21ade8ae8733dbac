"""ACL: the users and what they may do.

Must not know: how rules are read and requests checked.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any

from kvstore.commands.acl.log import Entry
from kvstore.commands.acl.selector import CHANNEL, COMMAND, Selector, every_command
from kvstore.commands.help import add_help
from kvstore.commands.introspection import CATEGORIES
from kvstore.commands.kinds import ARRAY, BULK, INT, OK, TREE
from kvstore.commands.registry import Argv, Command, Family
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int
from kvstore.resp import OK as OK_STATUS
from kvstore.resp import RespSet

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("server", "")

_FLAGS = "noscript loading stale"
_ADMIN = f"admin {_FLAGS}"
_EVERYWHERE = ("request_policy:all_nodes", "response_policy:all_succeeded")
_MOST_BITS = 4096  # of a password that GENPASS makes

container = family.container("ACL", since="6.0.0")


def _wrong_form(argv: Argv) -> ResponseError:
    word = argv[1].decode("utf-8", "surrogateescape")
    return err(f"unknown subcommand or wrong number of arguments for '{word}'. Try ACL HELP.")


def _text(word: bytes) -> str:
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")


# -- users -----------------------------------------------------------------------------------------------


@family.command("ACL SETUSER", -3, _ADMIN, kind=OK, since="6.0.0", tips=_EVERYWHERE)
def acl_setuser(session: Session, argv: Argv) -> bool:
    """Make a user, or change one by rules, all or none. O(n) rules."""
    session.hub.users.set_user(argv[2], *argv[3:])
    return True


@family.command("ACL DELUSER", -3, _ADMIN, kind=INT, since="6.0.0", tips=_EVERYWHERE)
def acl_deluser(session: Session, argv: Argv) -> int:
    """Delete users and disconnect them; how many there were. O(n) connections."""
    return session.hub.users.delete(*argv[2:])


@family.command("ACL GETUSER", 3, _ADMIN, kind=TREE, since="6.0.0")
def acl_getuser(session: Session, argv: Argv) -> dict[bytes, Any] | None:
    """The rules of a user. O(n) rules."""
    user = session.hub.users.get(argv[2])
    if user is None:
        return None
    own, *others = user.selectors
    return {
        b"flags": RespSet(user.flags),
        b"passwords": list(user.passwords),
        **_describe(own),
        b"selectors": [_describe(selector) for selector in others],
    }


def _describe(selector: Selector) -> dict[bytes, Any]:
    return {
        b"commands": selector.commands_text,
        b"keys": selector.keys_text,
        b"channels": selector.channels_text,
    }


@family.command("ACL LIST", 2, _ADMIN, kind=ARRAY, since="6.0.0")
def acl_list(session: Session, argv: Argv) -> list[bytes]:
    """A line for each user, as an aclfile has it. O(n) users."""
    return [b"user " + line for line in session.hub.users.lines()]


@family.command("ACL USERS", 2, _ADMIN, kind=ARRAY, since="6.0.0")
def acl_users(session: Session, argv: Argv) -> list[bytes]:
    """The names of the users. O(n) users."""
    return [user.name for user in session.hub.users]


@family.command("ACL WHOAMI", 2, _FLAGS, kind=BULK, since="6.0.0")
def acl_whoami(session: Session, argv: Argv) -> bytes:
    """The user that this connection is logged in as. O(1)."""
    return session.user.name


@family.command("ACL LOAD", 2, _ADMIN, kind=OK, since="6.0.0")
def acl_load(session: Session, argv: Argv) -> bool:
    """Take the users of the aclfile in place of the present ones. O(n) users."""
    session.hub.users.load()
    return True


@family.command("ACL SAVE", 2, _ADMIN, kind=OK, since="6.0.0", tips=_EVERYWHERE)
def acl_save(session: Session, argv: Argv) -> bool:
    """Write the users to the aclfile. O(n) users."""
    session.hub.users.save()
    return True


# -- what may be done --------------------------------------------------------------------------------------


@family.command("ACL CAT", -2, _FLAGS, kind=ARRAY, since="6.0.0")
def acl_cat(session: Session, argv: Argv) -> list[bytes]:
    """The categories, or the commands in one. O(n) commands."""
    if len(argv) > 3:
        raise _wrong_form(argv)
    if len(argv) == 2:
        return [name.encode() for name in CATEGORIES]
    name = _text(argv[2]).lower()
    if name not in CATEGORIES:
        raise err(f"Unknown category '{_text(argv[2])}'")
    hub = session.hub
    return [
        command.full_name.encode()
        for command in every_command()
        if name in command.categories and hub.is_visible(command)
    ]


@family.command("ACL DRYRUN", -4, _ADMIN, kind=TREE, since="7.0.0")
def acl_dryrun(session: Session, argv: Argv) -> Any:
    """Whether a user may run a command, which does not run. O(n) keys and patterns."""
    user = session.hub.users.get(argv[2])
    if user is None:
        raise err(f"User '{_text(argv[2])}' not found")
    words = argv[3:]
    command = _find(session, words)
    if command is None:
        raise err(f"Command '{_text(words[0])}' not found")
    if not command.arity_ok(len(words)):
        raise err(f"wrong number of arguments for '{command.full_name}' command")
    refusal = user.refusal(command, words)
    if refusal is None:
        return OK_STATUS
    why, at = refusal
    if why == COMMAND:
        what = b"run the '%b' command" % command.full_name.encode()
    else:
        what = b"access the '%b' %b" % (words[at], b"channel" if why == CHANNEL else b"key")
    return b"User %b has no permissions to %b" % (user.name, what)


def _find(session: Session, words: Argv) -> Command | None:
    command = session.hub.find(words[0])
    if command is None or not command.subcommands or len(words) == 1:
        return command
    return session.hub.find_sub(command, words[1])


@family.command("ACL GENPASS", -2, _FLAGS, kind=BULK, since="6.0.0")
def acl_genpass(session: Session, argv: Argv) -> bytes:
    """A password that nobody guesses, of 256 or the given number of bits, in hexadecimal. O(1)."""
    if len(argv) > 3:
        raise _wrong_form(argv)
    bits = as_int(argv[2]) if len(argv) == 3 else 256
    if not 0 < bits <= _MOST_BITS:
        raise err(
            "ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
        )
    digits = math.ceil(bits / 4)
    return secrets.token_hex(digits)[:digits].encode()


# -- LOG -----------------------------------------------------------------------------------------------------


@family.command("ACL LOG", -2, _ADMIN, kind=TREE, since="6.0.0")
def acl_log(session: Session, argv: Argv) -> Any:
    """The newest refusals, ten or the given number; RESET forgets them. O(n) entries."""
    if len(argv) > 3:
        raise _wrong_form(argv)
    log = session.hub.users.log
    if len(argv) == 3 and argv[2].upper() == b"RESET":
        log.clear()
        return OK_STATUS
    count = max(0, as_int(argv[2])) if len(argv) == 3 else 10
    now_ms, with_ids = session.hub.ctx.now(), session.hub.compat_version >= (7, 2)
    return [_tell(entry, now_ms, with_ids) for entry in log.entries[:count]]


def _tell(entry: Entry, now_ms: int, with_ids: bool) -> dict[bytes, Any]:
    parts: dict[bytes, Any] = {
        b"count": entry.count,
        b"reason": entry.reason.encode(),
        b"context": entry.context.encode(),
        b"object": entry.object,
        b"username": entry.username,
        b"age-seconds": (now_ms - entry.updated_ms) / 1000,
        b"client-info": entry.client,
    }
    if with_ids:
        parts |= {
            b"entry-id": entry.number,
            b"timestamp-created": entry.created_ms,
            b"timestamp-last-updated": entry.updated_ms,
        }
    return parts


add_help(
    family,
    container,
    {
        "CAT": "[<category>]",
        "DELUSER": "<username> [<username> ...]",
        "DRYRUN": "<username> <command> [<arg> ...]",
        "GENPASS": "[<bits>]",
        "GETUSER": "<username>",
        "LOG": "[<count> | RESET]",
        "SETUSER": "<username> [<rule> ...]",
    },
    since="6.0.0",
)
