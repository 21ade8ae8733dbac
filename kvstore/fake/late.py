"""Replies that come late: slow commands and slow networks, on the clock of the server.

Must not know: client libraries, why something is late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvstore.fake.line import Line


class Late:
    """The server's end of a line whose replies are readable after a while: in their order, each when its time
    has come and no earlier one is left."""

    def __init__(self, line: Line):
        self._line = line
        self._held: deque[tuple[int, Any]] = deque()
        self.due_ms = 0  # of what comes next
        session: Any = line.session
        session.out = self
        if session.reply == line.out.append:
            session.reply = self.append

    def append(self, tree: Any) -> None:
        """Take a reply."""
        line = self._line
        if not self._held and self.due_ms <= line.exchange.hub.ctx.clock.now_ms():
            line.out.append(tree)
            self._end()
            return
        self._held.append((self.due_ms, tree))
        if len(self._held) == 1:
            self._wait()

    def extend(self, trees: Iterable[Any]) -> None:
        """Take several."""
        for tree in trees:
            self.append(tree)

    def _wait(self) -> None:
        line = self._line
        line.exchange.hub.call_at(self._held[0][0], self._arrive)

    def _arrive(self) -> None:
        line, held = self._line, self._held
        if line.closed or line.late is not self:
            return
        now = line.exchange.hub.ctx.clock.now_ms()
        while held and held[0][0] <= now:
            line.out.append(held.popleft()[1])
        if held:
            self._wait()
        elif self.due_ms <= now:
            self._end()
        line.wake()

    def _end(self) -> None:
        """Replies are readable at once again."""
        line = self._line
        session: Any = line.session
        line.late, session.out = None, line.out
        if session.reply == self.append:
            session.reply = line.out.append
