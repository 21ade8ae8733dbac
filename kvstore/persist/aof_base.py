"""The base of a log as commands, those that build each value anew.

Must not know: where the bytes go, how a log goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kvstore.engine.types import TYPES, Value
from kvstore.persist.gathering import Gathering
from kvstore.resp import encode_request


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

    def entry(self, db: int, key: bytes, value: Value, deadline_ms: int | None) -> Iterator[object] | None:
        """Write one key. None: it is written. An iterator: it is large, and each step writes a command of it."""
        if db != self._db:
            self._db = db
            self._put(encode_request((b"SELECT", b"%d" % db)))
        effects = TYPES[type(value)].rewrite(key, value)
        self._put(encode_request(next(effects)))
        rest = self._rest(key, effects, deadline_ms)
        # The first command was all of most values.
        for _ in rest:
            return rest
        return None

    def _rest(
        self, key: bytes, effects: Iterator[tuple[bytes, ...]], deadline_ms: int | None
    ) -> Iterator[None]:
        for effect in effects:
            self._put(encode_request(effect))
            yield
        if deadline_ms is not None:
            self._put(encode_request((b"PEXPIREAT", key, b"%d" % deadline_ms)))

    def end(self) -> None:
        """Hand on what is left."""
        self._flush()
