"""The commands that clients sent to a fake server, for assertions.

What is kept in passing is the request itself; a ``Seen`` is made of it when somebody looks. Only the last
``MOST_SEEN`` commands are kept, or a long run would hold all that it ever sent.

Costs: 0.1 µs a request; reading is O(commands kept).

Must not know: lines, client libraries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from kvstore.commands.registry import Argv

if TYPE_CHECKING:
    from kvstore.commands.session import Session

MOST_SEEN = 10_000  # commands


class Seen(NamedTuple):
    """A command that a client sent: its name in capitals, the words after it, the client's id, its database.

    Equal to a plain tuple of these four, or of the first two or three, and to the words as one would type them:
    ``("SET", (b"k", b"v"))`` and ``("SET", "k", "v")`` both are a SET of any client.
    """

    name: str
    args: tuple[bytes, ...]
    client: int
    db: int

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple):
            return NotImplemented
        if isinstance(other, Seen):
            return tuple.__eq__(self, other)
        if len(other) > 1 and isinstance(other[1], (tuple, list)):
            name, args, *rest = other
            return self._is_said_as((name, *args)) and rest == list(self[2 : 2 + len(rest)])
        return self._is_said_as(other)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def _is_said_as(self, words: Iterable[Any]) -> bool:
        name, *args = words
        if not isinstance(name, (str, bytes)):
            return False
        head, *more = _raw(name).split() or [b""]
        said = (*more, *map(_raw, args))
        return head.upper() == self.name.encode("utf-8", "surrogateescape") and said == self.args


def _raw(word: Any) -> Any:
    """A word as a client would send it."""
    if isinstance(word, str):
        return word.encode("utf-8", "surrogateescape")
    if isinstance(word, float):
        return repr(word).encode()
    return b"%d" % word if isinstance(word, int) else word


class Commands(Sequence[Seen]):
    """The commands that a server has seen, oldest first, as a list that fills itself: the last ``MOST_SEEN``.

        assert ("SET", "greeting", "hello") in server.commands
        assert server.commands.names == ["SET", "EXPIRE"]
        assert server.commands == [("SET", "greeting", "hello"), ("EXPIRE", "greeting", 60)]
        assert len(server.commands.of("GET")) == 1

    What clients sent counts, whether it was refused or not: MULTI and EXEC are there, what a script called is not,
    nor is what a library says while it connects.
    """

    def __init__(self, lock: AbstractContextManager[Any]):
        self._lock = lock
        self._kept: deque[tuple[Argv, int, int]] = deque(maxlen=MOST_SEEN)
        self._keep = self._kept.append

    def record(self, session: Session, requests: list[Argv]) -> None:
        """Take down what a client sends, under the lock. O(requests)."""
        keep, client, db = self._keep, session.id, session.db.index
        if len(requests) == 1:
            keep((requests[0], client, db))
            return
        if 2 not in map(len, requests):
            self._kept.extend(zip(requests, repeat(client), repeat(db), strict=False))
            return
        for argv in requests:
            keep((argv, client, db))
            if len(argv) == 2 and argv[0].upper() == b"SELECT" and argv[1].isdigit():
                db = int(argv[1])

    def clear(self) -> None:
        """Forget what was seen so far."""
        with self._lock:
            self._kept.clear()

    @property
    def names(self) -> list[str]:
        """The names of the commands, in capitals: ``["SET", "GET"]``."""
        return [each.name for each in self]

    def of(self, *names: str) -> list[Seen]:
        """The commands of these names, in any case; "CONFIG GET" is one, too."""
        wanted = [name.upper().encode().split() for name in names]
        return [each for each in self if any(_begins(each, words) for words in wanted)]

    def by(self, client: int) -> list[Seen]:
        """The commands of the client with this id, as CLIENT ID has it."""
        return [each for each in self if each.client == client]

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, at: int) -> Seen: ...
    @overload
    def __getitem__(self, at: slice) -> list[Seen]: ...
    def __getitem__(self, at: int | slice) -> Seen | list[Seen]:
        with self._lock:
            if isinstance(at, slice):
                return [_seen(*each) for each in list(self._kept)[at]]
            return _seen(*self._kept[at])

    def __iter__(self) -> Iterator[Seen]:
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, Commands)):
            return NotImplemented
        return self[:] == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self[:])


def _begins(seen: Seen, words: list[bytes]) -> bool:
    said = [seen.name.encode(), *(arg.upper() for arg in seen.args[: len(words) - 1])]
    return said == words


def _seen(argv: Argv, client: int, db: int) -> Seen:
    return Seen(argv[0].upper().decode("utf-8", "surrogateescape"), tuple(argv[1:]), client, db)
