"""Arguments of a client's command as the words of a request.

Must not know: connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Encode = Callable[[Any], Any]


def words_of(args: tuple[Any, ...], encode: Encode) -> list[bytes]:
    """The words of one command, whose name may be several ("CONFIG GET"); ``encode`` makes bytes of what is
    neither bytes nor str, and refuses what is nothing of the kind. O(size)."""
    words = [
        arg if arg.__class__ is bytes else arg.encode() if arg.__class__ is str else bytes(encode(arg))
        for arg in args
    ]
    if b" " in words[0]:
        words[:1] = words[0].split()
    return words


def words_in(args: tuple[Any, ...], encode: Encode) -> list[bytes]:
    """The same where a str has another encoding than UTF-8, which ``encode`` knows."""
    words = [bytes(encode(arg)) for arg in args]
    if b" " in words[0]:
        words[:1] = words[0].split()
    return words
