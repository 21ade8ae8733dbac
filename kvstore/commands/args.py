"""A cursor over the optional words of a command; the words that LMPOP and ZMPOP share.

    words = Args(argv, 3)
    while words:
        if words.take(b"EX"): seconds = words.next()
        elif ...
        else: raise words.syntax_error()

Must not know: commands, sessions.
"""

from __future__ import annotations

from typing import Final

from kvstore import errors
from kvstore.errors import ResponseError
from kvstore.numbers import as_int

_NO_NUMKEYS: Final = "ERR numkeys should be greater than 0"
_NO_COUNT: Final = "ERR count should be greater than 0"


class Args:
    __slots__ = ("argv", "at")

    def __init__(self, argv: list[bytes], at: int):
        self.argv = argv
        self.at = at

    def __bool__(self) -> bool:
        return self.at < len(self.argv)

    @property
    def left(self) -> int:
        """How many words are left."""
        return len(self.argv) - self.at

    def take(self, *tokens: bytes, more: int = 0) -> bool:
        """Step over the next word if it is the token (any case) and at least ``more`` words follow it.

        Several tokens are a phrase of which any one may stand.
        """
        at = self.at
        if at + more < len(self.argv) and self.argv[at].upper() in tokens:
            self.at = at + 1
            return True
        return False

    def next(self) -> bytes:
        """The next word; a syntax error where there is none."""
        at = self.at
        if at >= len(self.argv):
            raise self.syntax_error()
        self.at = at + 1
        return self.argv[at]

    def rest(self) -> list[bytes]:
        """All words left."""
        words = self.argv[self.at :]
        self.at = len(self.argv)
        return words

    @staticmethod
    def syntax_error() -> ResponseError:
        return ResponseError(errors.SYNTAX)


def parse_mpop(argv: list[bytes], at: int, this: bytes, other: bytes) -> tuple[list[bytes], bool, int]:
    """The words of LMPOP and ZMPOP from the number of keys at ``at`` on: the keys, whether the end to pop from
    is ``this`` one rather than the ``other``, and how many to pop.
    """
    numkeys = as_int(argv[at], _NO_NUMKEYS)
    if numkeys < 1:
        raise ResponseError(_NO_NUMKEYS)
    words = Args(argv, at + 1 + numkeys)
    is_this = words.take(this)
    if not is_this and not words.take(other):
        raise words.syntax_error()
    count = 0
    while words:
        if count or not words.take(b"COUNT", more=1):
            raise words.syntax_error()
        count = as_int(words.next(), _NO_COUNT)
        if count < 1:
            raise ResponseError(_NO_COUNT)
    return argv[at + 1 : at + 1 + numkeys], is_this, count or 1
