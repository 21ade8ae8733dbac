"""Arguments of a client's command as the words of a request.

Must not know: connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

# The library's own packing of one command, in RESP; it knows what arguments may be, and how to refuse others.
Pack = Callable[..., Iterable[Any]]

_SPACE = 0x20  # a number is found in bytes in a seventh of the time of other bytes

# What makes a word of an argument, by its class; others are left to the library.
_WORD: dict[type, Callable[[Any], bytes]] = {
    str: str.encode,
    bytes: bytes,
    int: b"%d".__mod__,
    float: lambda number: repr(number).encode(),
}


def words_of(args: tuple[Any, ...], pack: Pack) -> list[bytes]:
    """The words of one command, whose name may be several ("CONFIG GET"), as ``pack`` would send them. O(size).

    Raises what ``pack`` does for arguments that are nothing of the kind."""
    try:
        words = [_WORD[arg.__class__](arg) for arg in args]
    except KeyError:
        return words_in(args, pack)
    if _SPACE in words[0]:
        words[:1] = words[0].split()
    return words


def words_in(args: tuple[Any, ...], pack: Pack) -> list[bytes]:
    """The same for all that ``pack`` may do, as where a str has another encoding than UTF-8."""
    data = b"".join(pack(*args))
    at = data.index(b"\r\n") + 2
    words = []
    while at < len(data):
        end = data.index(b"\r\n", at)
        begin, at = end + 2, end + 4 + int(data[at + 1 : end])
        words.append(data[begin : at - 2])
    return words
