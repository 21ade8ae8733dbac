"""Arguments of a client's command as the words of a request.

Must not know: connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

# The library's own packing of one command, in RESP; it knows what arguments may be, and how to refuse others.
Pack = Callable[..., Iterable[Any]]


def words_of(args: tuple[Any, ...], pack: Pack) -> list[bytes]:
    """The words of one command, whose name may be several ("CONFIG GET"), as ``pack`` would send them. O(size).

    Raises what ``pack`` does for arguments that are nothing of the kind."""
    words: list[bytes] = []
    put = words.append
    for arg in args:  # a loop, as it is quicker than a comprehension that has to choose
        cls = arg.__class__
        if cls is str:
            put(arg.encode())
        elif cls is bytes:
            put(arg)
        elif cls is int:
            put(b"%d" % arg)
        elif cls is float:
            put(repr(arg).encode())
        else:
            return words_in(args, pack)
    if b" " in words[0]:
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
