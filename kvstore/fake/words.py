"""Arguments of a client's command as the words of a request.

Must not know: connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Encode = Callable[[Any], Any]

# What ``encode`` makes of the usual classes, at the speed of C.
_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: str.encode,
    int: b"%d".__mod__,
    float: lambda number: repr(number).encode(),
}


def words_of(args: tuple[Any, ...], encode: Encode) -> list[bytes]:
    """The words of one command, whose name may be several ("CONFIG GET"); ``encode`` makes bytes of what is
    neither bytes nor str, and refuses what is nothing of the kind. O(size)."""
    try:
        words = [arg if arg.__class__ is bytes else _ENCODERS[arg.__class__](arg) for arg in args]
    except KeyError:
        words = [bytes(encode(arg)) for arg in args]
    if b" " in words[0]:
        words[:1] = words[0].split()
    return words


def words_in(args: tuple[Any, ...], encode: Encode) -> list[bytes]:
    """The same where a str has another encoding than UTF-8, which ``encode`` knows."""
    words = [bytes(encode(arg)) for arg in args]
    if b" " in words[0]:
        words[:1] = words[0].split()
    return words
