"""Bytes that are made in small pieces and handed on in large ones.

Must not know: what the bytes are, where they go.
"""

from __future__ import annotations

from collections.abc import Callable

# So many bytes are handed on at a time.
_CHUNK = 1 << 16


class Gathering:
    """What writers of files have in common: pieces go in by ``_put``, chunks out by ``_hand_on``."""

    def __init__(self, out: Callable[[bytes], None]):
        self._out = out
        self._buffer: list[bytes] = []
        self._size = 0

    def _put(self, piece: bytes) -> None:
        self._buffer.append(piece)
        self._size += len(piece)
        if self._size >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        """Hand on what there is."""
        if self._buffer:
            chunk = b"".join(self._buffer)
            self._buffer.clear()
            self._size = 0
            self._hand_on(chunk)

    def _hand_on(self, chunk: bytes) -> None:
        self._out(chunk)
