"""SORT and SORT_RO: bindings, and which of their words read keys that nobody declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.args import Args
from kvstore.commands.kinds import TREE
from kvstore.commands.registry import KEY_READ, Argv, Family, keys_unknown
from kvstore.engine.database import Database
from kvstore.engine.sorting import Request, names_keys
from kvstore.errors import err

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("generic", "")

_CATEGORIES: Final = "set sortedset list dangerous"
# Words after which others stand that are no options, where STORE is looked for.
_SKIPPED: Final = {b"LIMIT": 2, b"GET": 1, b"BY": 1}


def _stored(argv: Argv) -> range:
    """Where the key is that the result is stored at: after the last STORE, as servers look for it."""
    found, at = range(0), 2
    while at < len(argv):
        word = argv[at].upper()
        at += 1
        if word in _SKIPPED:
            at += _SKIPPED[word]
        elif word == b"STORE" and at < len(argv):
            found = range(at, at + 1)
    return found


_READ: Final = KEY_READ + keys_unknown("RO ACCESS")


def _parse(argv: Argv, may_store: bool, denied: Callable[[bytes], str | None]) -> Request:
    """The options. ``denied``: why a pattern that names other keys is refused, if it is."""
    request = Request()
    words = Args(argv, 2)
    while words:
        if words.take(b"ASC"):
            request.desc = False
        elif words.take(b"DESC"):
            request.desc = True
        elif words.take(b"ALPHA"):
            request.alpha = True
        elif words.take(b"LIMIT", more=2):
            request.limit(words.next(), words.next())
        elif may_store and words.take(b"STORE", more=1):
            request.store = words.next()
        elif words.take(b"BY", more=1):
            pattern = words.next()
            if names_keys(pattern) and (why := denied(pattern)):
                raise err(f"BY option of SORT denied {why}.")
            request.sort_by(pattern)
        elif words.take(b"GET", more=1):
            pattern = words.next()
            if why := denied(pattern):
                raise err(f"GET option of SORT denied {why}.")
            request.get.append(pattern)
        else:
            raise words.syntax_error()
    return request


def check_patterns(argv: Argv, denied: Callable[[bytes], str | None]) -> None:
    """Refuse a request that has a pattern which is ``denied``, or is wrong before. Raises ResponseError."""
    _parse(argv, argv[0].upper() == b"SORT", denied)


def _sort(session: Session, argv: Argv, may_store: bool) -> Any:
    user = session.user
    denied = None
    if not user.unrestricted:
        command = session.hub.find(argv[0])
        if command is not None and not user.reads_all_keys(command, argv):
            denied = "due to insufficient ACL permissions"
    request = _parse(argv, may_store, lambda pattern: denied)
    return session.db._sort(argv[1], request, session.hub.scripting.runs_in(session))


@family.command(
    "SORT",
    -2,
    "write denyoom",
    _READ + keys_unknown("OW UPDATE", _stored),
    kind=TREE,
    categories=_CATEGORIES,
    method=Database.sort,
)
def sort(session: Session, argv: Argv) -> Any:
    return _sort(session, argv, True)


@family.command(
    "SORT_RO",
    -2,
    "readonly",
    _READ,
    kind=TREE,
    since="7.0.0",
    categories=_CATEGORIES,
    method=Database.sort_ro,
)
def sort_ro(session: Session, argv: Argv) -> Any:
    return _sort(session, argv, False)
