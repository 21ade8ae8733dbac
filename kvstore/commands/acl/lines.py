"""Users in an aclfile: one a line, "user" and what ACL LIST tells of it.

Must not know: sessions, what rules mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from kvstore.commands.acl.selector import RuleError, has_space
from kvstore.commands.acl.user import Unmatched, User, join_selectors
from kvstore.errors import err

_UNCHANGED: Final = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


def read_users(
    path: str, new_user: Callable[[bytes], User], apply: Callable[[User, bytes], None]
) -> dict[bytes, User]:
    """The users of a file, by name. O(length of the file).

    ``apply`` changes a user by one rule and may raise RuleError. Raises ResponseError: the file cannot be read, or
    all that is wrong in it, with line numbers.
    """
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise err(f"Error loading ACLs, opening file '{path}': {reason}") from None
    users: dict[bytes, User] = {}
    errors: list[str] = []
    for number, raw in enumerate(text.split(b"\n"), 1):
        words = raw.strip(b" \t\r\n").split(b" ")
        if words == [b""]:
            continue
        complain = _complainer(errors, f"{path}:{number}")
        if words[0] != b"user" or len(words) < 2:
            complain(" should start with user keyword followed by the username. ")
        elif has_space(words[1]):
            errors.append(f"'{path}:{number}: username '{_shown(words[1])}' contains invalid characters. ")
        elif words[1] in users:
            errors.append(f"WARNING: Duplicate user '{_shown(words[1])}' found on line {number}. ")
        else:
            user = users[words[1]] = new_user(words[1])
            _apply_all(user, words[2:], apply, complain)
    if errors:
        raise err("".join(errors) + _UNCHANGED)
    return users


def _complainer(errors: list[str], place: str) -> Callable[[str], None]:
    return lambda text: errors.append(place + text)


def _apply_all(
    user: User, words: list[bytes], apply: Callable[[User, bytes], None], complain: Callable[[str], None]
) -> None:
    """Apply the rules of a line; all unknown names are told, but of other errors only the first."""
    try:
        rules = join_selectors(words)
    except Unmatched as unmatched:
        complain(f": {unmatched}. ")
        return
    broken = False
    for rule in rules:
        word = rule.strip(b"\t\r\n")
        try:
            apply(user, word)
        except RuleError as error:
            if error.unknown:
                complain(f": Error in applying operation '{_shown(word)}': {error}. ")
            elif not broken:
                complain(f": {error}. ")
                broken = True


def _shown(word: bytes) -> str:
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")
