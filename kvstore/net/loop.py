"""The event loop: readiness, timers, and the turn.

In one turn all ready connections are read and their commands run, then ``before_send`` hooks run (an
append-only log makes its writes durable here), then replies are sent. Other threads reach the loop
only through ``call_soon_threadsafe``.

Must not know: RESP, commands.
"""

from __future__ import annotations

import os
import select
import selectors
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kvstore.engine.context import Context

# Longest wait in seconds with nothing due; a bound so that a clock that jumps is noticed.
MAX_WAIT = 1.0
READ = 1
WRITE = 4


class Handler(Protocol):
    """What is registered for a file descriptor."""

    def ready(self, events: int) -> None:
        """The descriptor is ready for READ, WRITE or both; a hang-up counts as both."""


class _Epoll:
    """select.epoll with this module's event bits (which are epoll's own)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.close = self._epoll.close

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        return self._epoll.poll(timeout, 512)


class _Portable:
    """The same by ``selectors``, where there is no epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    @staticmethod
    def _bits(events: int) -> int:
        return (selectors.EVENT_READ if events & READ else 0) | (
            selectors.EVENT_WRITE if events & WRITE else 0
        )

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, self._bits(events) or selectors.EVENT_READ)

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, self._bits(events) or selectors.EVENT_READ)

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def close(self) -> None:
        self._selector.close()

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        found = self._selector.select(timeout)
        return [
            (
                key.fd,
                (READ if mask & selectors.EVENT_READ else 0) | (WRITE if mask & selectors.EVENT_WRITE else 0),
            )
            for key, mask in found
        ]


class Loop:
    """One thread's loop over sockets and timers."""

    def __init__(
        self,
        ctx: Context,
        *,
        next_timer_ms: Callable[[], int | None],
        run_timers: Callable[[], None],
        portable: bool = False,
    ):
        self._ctx = ctx
        self._next_timer_ms = next_timer_ms
        self._run_timers = run_timers
        self._poller: _Epoll | _Portable = (
            _Epoll() if hasattr(select, "epoll") and not portable else _Portable()
        )
        self._handlers: dict[int, Handler] = {}
        self._soon: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.register(self._wake_read, READ)
        self.before_send: list[Callable[[], None]] = []
        self.unsent: list[Callable[[], None]] = []  # flushes to make at the end of the turn
        self.running = False

    def add(self, fd: int, handler: Handler, events: int = READ) -> None:
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self._poller.modify(fd, events)

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def call_soon_threadsafe(self, call: Callable[[], None]) -> None:
        """Have ``call`` made in the loop's thread, at the start of the next turn."""
        self._soon.append(call)
        self.wake()

    def wake(self) -> None:
        """End the present wait; safe from other threads and from signal handlers."""
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            pass

    def run(self) -> None:
        """Turn until ``stop()``."""
        self.running = True
        while self.running:
            self.turn()

    def stop(self) -> None:
        self.running = False
        self.wake()

    def _timeout(self) -> float:
        soonest = self._next_timer_ms()
        if soonest is None:
            return MAX_WAIT
        return min(MAX_WAIT, max(0.0, (soonest - self._ctx.clock.now_ms()) / 1000))

    def turn(self, most_seconds: float | None = None) -> None:
        """Wait for readiness or a timer (at most ``most_seconds``), and do all that is due."""
        timeout = self._timeout()
        if most_seconds is not None and most_seconds < timeout:
            timeout = most_seconds
        ready = self._poller.poll(timeout)
        ctx = self._ctx
        ctx.frozen = ctx.clock.now_ms()
        try:
            handlers = self._handlers
            for fd, events in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    handler.ready(events)
                elif fd == self._wake_read:
                    self._drain_wakes()
            while self._soon:
                self._soon.popleft()()
            soonest = self._next_timer_ms()
            if soonest is not None and soonest <= ctx.frozen:
                self._run_timers()
            self.flush()
        finally:
            ctx.frozen = None

    def flush(self) -> None:
        """Make the log durable, then send what the turn has produced."""
        if self.unsent:
            for hook in self.before_send:
                hook()
            unsent, self.unsent = self.unsent, []
            for send in unsent:
                send()

    def _drain_wakes(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._poller.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
