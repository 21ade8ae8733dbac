"""A user: passwords, and what they open.

A password is kept as its SHA-256 alone, in hexadecimal, and compared in constant time. Rules are applied to a
copy, which takes the user's place when all of them could be: see ``Users``.

Must not know: sessions, files.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from kvstore.commands.acl.selector import Keys, Lookup, Refusal, RuleError, Selector
from kvstore.commands.registry import Argv, Command
from kvstore.resp import split_words

_HASH: Final = re.compile(rb"[0-9a-f]{64}")
_BAD_HASH: Final = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
)
_NO_PASSWORD: Final = "The password you are trying to remove from the user does not exist"

__all__ = ["RuleError", "Unmatched", "User", "join_selectors"]


class User:
    """One user. At first it is off, has no password and may do nothing.

    ``all_channels``: whether selectors begin with all channels, as acl-pubsub-default says.
    """

    __slots__ = ("enabled", "name", "nopass", "passwords", "sanitizes", "selectors", "unrestricted")

    def __init__(self, name: bytes, all_channels: bool = False):
        self.name = name
        self.enabled = False
        self.nopass = False  # any password will do
        self.sanitizes = True  # payloads of RESTORE, which are always checked here
        self.passwords: list[bytes] = []
        self.selectors = [Selector(all_channels)]  # the first is the user's own, the others are in brackets
        self.unrestricted = False  # may do everything: nothing needs to be checked

    @classmethod
    def almighty(cls, name: bytes) -> User:
        """A user who may do everything and needs no password."""
        user = cls(name)
        user.enabled = user.nopass = True
        own = user.selectors[0]
        for rule in (b"allkeys", b"allchannels", b"allcommands"):
            own.apply(rule, lambda name: None)
        user.unrestricted = True
        return user

    def copy(self) -> User:
        other = User(self.name)
        other.take(self)
        return other

    def take(self, other: User) -> None:
        """Become as another user is, but for the name."""
        for name in ("enabled", "nopass", "sanitizes", "unrestricted"):
            setattr(self, name, getattr(other, name))
        self.passwords = list(other.passwords)
        self.selectors = [selector.copy() for selector in other.selectors]

    # -- rules -------------------------------------------------------------------------------------

    def apply(self, rule: bytes, lookup: Lookup, all_channels: bool = False) -> None:
        """Change the user by one rule. Raises RuleError, and then has changed nothing."""
        if not rule:
            return
        word = rule.partition(b"\0")[0].lower()  # a C string ends at its NUL
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word in (b"nopass", b"resetpass"):
            self.nopass = word == b"nopass"
            self.passwords = []
        elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitizes = word == b"sanitize-payload"
        elif rule.startswith((b">", b"#")):
            password = hashed(rule[1:]) if rule.startswith(b">") else _as_hash(rule[1:])
            if password not in self.passwords:
                self.passwords.append(password)
            self.nopass = False
        elif rule.startswith((b"<", b"!")):
            password = hashed(rule[1:]) if rule.startswith(b"<") else _as_hash(rule[1:])
            if password not in self.passwords:
                raise RuleError(_NO_PASSWORD)
            self.passwords.remove(password)
        elif rule.startswith(b"(") and rule.endswith(b")"):
            self._add_selector(rule[1:-1], lookup, all_channels)
        elif word == b"clearselectors":
            del self.selectors[1:]
        elif word == b"reset":
            self.take(User(self.name, all_channels))
        else:
            self.selectors[0].apply(rule, lookup)
        self.unrestricted = any(selector.allows_all for selector in self.selectors)

    def _add_selector(self, rules: bytes, lookup: Lookup, all_channels: bool) -> None:
        selector = Selector(all_channels)
        for rule in split_words(rules.partition(b"\0")[0]) or ():
            if rule:
                selector.apply(rule, lookup)
            else:
                raise RuleError("Syntax error")
        self.selectors.append(selector)

    def describe(self) -> bytes:
        """The rules that make this user from a new one."""
        own, *others = self.selectors
        return b" ".join(
            (
                *self.flags,
                *(b"#" + password for password in self.passwords),
                own.describe(),
                *(b"(%b)" % selector.describe() for selector in others),
            )
        )

    @property
    def flags(self) -> list[bytes]:
        """The words about the user as a whole."""
        return [
            b"on" if self.enabled else b"off",
            *([b"nopass"] if self.nopass else []),
            b"sanitize-payload" if self.sanitizes else b"skip-sanitize-payload",
        ]

    # -- checks --------------------------------------------------------------------------------------

    def knows(self, password: bytes) -> bool:
        """Whether the password is one of the user's. O(passwords), whichever it is."""
        given = hashed(password)
        found = [hmac.compare_digest(given, known) for known in self.passwords]
        return self.nopass or any(found)

    def refusal(self, command: Command, argv: Argv) -> Refusal | None:
        """Why the user may not make a request, None where it may. O(selectors * keys * patterns).

        Where each selector refuses something else, it is the last key or channel that one of them did not allow.
        """
        keys = Keys(command, argv)
        worst: Refusal = (0, 0)
        for selector in self.selectors:
            refusal = selector.refusal(command, argv, keys)
            if refusal is None:
                return None
            worst = max(worst, refusal)
        return worst

    def reads_all_keys(self, command: Command, argv: Argv) -> bool:
        """Whether a selector that allows the request lets it read every key. O(selectors * keys * patterns)."""
        keys = Keys(command, argv)
        return any(
            selector.reads_all_keys and selector.refusal(command, argv, keys) is None
            for selector in self.selectors
        )

    def allows_channel(self, channel: bytes, is_pattern: bool) -> bool:
        """Whether any selector allows the channel or (literally) the pattern. O(patterns)."""
        return any(selector.allows_channel(channel, is_pattern) for selector in self.selectors)

    @property
    def channel_rules(self) -> set[bytes] | None:
        """The patterns of channels of all selectors; None where one of them has all channels."""
        if any(selector.all_channels for selector in self.selectors):
            return None
        return {pattern for selector in self.selectors for pattern in selector.channels}


def hashed(password: bytes) -> bytes:
    """The SHA-256 of a password, in hexadecimal."""
    return hashlib.sha256(password).hexdigest().encode()


def _as_hash(word: bytes) -> bytes:
    if _HASH.fullmatch(word) is None:
        raise RuleError(_BAD_HASH)
    return word


class Unmatched(ValueError):
    """A bracket that is not closed; ``at`` is the index of the rule that opens it."""

    def __init__(self, at: int):
        super().__init__("Unmatched parenthesis in selector definition")
        self.at = at


def join_selectors(words: Sequence[bytes]) -> list[bytes]:
    """The rules in the words of a line: a selector in brackets may be of several words. Raises Unmatched."""
    rules: list[bytes] = []
    opened: list[bytes] = []
    began = 0
    for at, word in enumerate(words):
        if opened:
            opened.append(word)
        elif word.startswith(b"(") and not word.endswith(b")"):
            opened, began = [word], at
            continue
        if not opened:
            rules.append(word)
        elif word.endswith(b")"):
            rules.append(b" ".join(opened))
            opened = []
    if opened:
        raise Unmatched(began)
    return rules
