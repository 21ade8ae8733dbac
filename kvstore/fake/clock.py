"""The clock of a fake server: real time, until a test moves or stops it.

Real time is asked of ``time.time_ns`` at each call, so that freezegun and time-machine work as well.

Must not know: servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class FakeClock:
    """A clock of the engine. ``moved`` is called when it was moved, from the thread that moved it."""

    def __init__(self, moved: Callable[[], object] = lambda: None):
        self._moved = moved
        self._ahead_ms = 0
        self._stands_at: int | None = None

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        stands_at = self._stands_at
        return time.time_ns() // 1_000_000 + self._ahead_ms if stands_at is None else stands_at

    @property
    def is_frozen(self) -> bool:
        return self._stands_at is not None

    def advance(self, seconds: float = 0, *, ms: int = 0) -> None:
        """Move it forward: keys expire, blocked clients time out. Raises ValueError for a step back."""
        step = round(seconds * 1000) + ms
        if step < 0:
            raise ValueError("a clock cannot be moved back")
        if self._stands_at is None:
            self._ahead_ms += step
        else:
            self._stands_at += step
        self._moved()

    def freeze(self, at: float | None = None) -> None:
        """Stop it, at a Unix time in seconds or (None) now."""
        self._stands_at = self.now_ms() if at is None else round(at * 1000)
        self._moved()

    def unfreeze(self) -> None:
        """Let it run on from where it stands."""
        stands_at, self._stands_at = self._stands_at, None
        if stands_at is not None:
            self._ahead_ms = stands_at - time.time_ns() // 1_000_000
            self._moved()
