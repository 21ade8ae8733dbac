"""The base of a log as commands, those that build each value anew.

Must not know: where the bytes go, how a log goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from kvstore.engine.context import Effect
from kvstore.engine.snapshot import Rest
from kvstore.engine.types import TYPES, Value
from kvstore.persist.gathering import Gathering
from kvstore.resp import encode_request

_END: Final = object()


class AofBaseWriter(Gathering):
    """Takes the keys of a snapshot, gives bytes to ``out``. ``libraries``: sources of functions by name."""

    def __init__(self, out: Callable[[bytes], None], *, libraries: Mapping[bytes, bytes] = {}):
        super().__init__(out)
        self._libraries = libraries
        self._db = -1

    def begin(self) -> None:
        """Write what stands before the keys."""
        for source in self._libraries.values():
            self._put(encode_request((b"FUNCTION", b"LOAD", source)))

    def entry(self, db: int, key: bytes, value: Value, deadline_ms: int | None) -> Rest | None:
        """Write one key. None: it is written. Else it is large, and each step writes a command of it."""
        if db != self._db:
            self._db = db
            self._put(encode_request((b"SELECT", b"%d" % db)))
        effects = TYPES[type(value)].rewrite(key, value)
        self._put(encode_request(next(effects)))
        last = None if deadline_ms is None else (b"PEXPIREAT", key, b"%d" % deadline_ms)
        rest = _Rest(effects, last, self._put)
        # The first command was all of most values.
        return None if next(rest, _END) is _END else rest

    def end(self) -> None:
        """Hand on what is left."""
        self._flush()


class _Rest(Rest):
    """What is left of a value: commands that build it, and one that comes last."""

    def __init__(self, effects: Iterator[Effect], last: Effect | None, put: Callable[[bytes], None]):
        self._effects = effects
        self._last = last
        self._put = put

    def __next__(self) -> None:
        effect = next(self._effects, None)
        if effect is not None:
            self._put(encode_request(effect))
            return
        if self._last is not None:
            self._put(encode_request(self._last))
        raise StopIteration

    def let_go(self, copy: Callable[[], Value]) -> None:
        self._effects = iter(list(self._effects))
