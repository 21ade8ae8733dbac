"""The event loop: readiness, timers, and the turn.

In one turn all ready connections are read and their commands run, then ``before_send`` hooks run (an
append-only log makes its writes durable here), then replies are sent, then ``after_turn`` hooks run (a slice
of a snapshot). When a ``before_send`` hook fails, nobody is told what the turn did: who waits for a reply is
closed. Other threads reach the loop
only through ``call_soon_threadsafe``.

Must not know: RESP, commands.
"""

from __future__ import annotations

import os
import select
import selectors
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from kvstore.engine.context import Context
from kvstore.net.log import LOGGER

# Longest wait in seconds with nothing due; a bound so that a clock that jumps is noticed.
MAX_WAIT = 1.0
READ = 1
WRITE = 4


class Stopping(BaseException):
    """Ends a unit that keeps the loop from stopping; no handler of errors is meant to catch it."""


class Handler(Protocol):
    """What is registered for a file descriptor."""

    def ready(self, events: int) -> None:
        """The descriptor is ready for READ, WRITE or both; a hang-up counts as both."""


class Counts(Protocol):
    """What a loop counts: its turns, and about how often something was read and sent."""

    turns: int
    reads: int
    writes: int


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
        self._idle: set[int] = set()  # registered for nothing, which selectors do not know
        self.mechanism = type(self._selector).__name__.removesuffix("Selector").lower()

    @staticmethod
    def _bits(events: int) -> int:
        return (selectors.EVENT_READ if events & READ else 0) | (
            selectors.EVENT_WRITE if events & WRITE else 0
        )

    def register(self, fd: int, events: int) -> None:
        if events:
            self._selector.register(fd, self._bits(events))
        else:
            self._idle.add(fd)

    def modify(self, fd: int, events: int) -> None:
        self.unregister(fd)
        self.register(fd, events)

    def unregister(self, fd: int) -> None:
        if fd in self._idle:
            self._idle.remove(fd)
        else:
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
        counts: Counts,
        portable: bool = False,
    ):
        self._ctx = ctx
        self.counts = counts
        self._next_timer_ms = next_timer_ms
        self._run_timers = run_timers
        self._poller: _Epoll | _Portable = (
            _Epoll() if hasattr(select, "epoll") and not portable else _Portable()
        )
        self._handlers: dict[int, Handler] = {}
        self._soon: deque[Callable[[], object]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.register(self._wake_read, READ)
        self._soonest: int | None = None  # when the next timer is due, as of the end of the last turn
        # Run at the end of every turn, also of one with nothing to send. False: what the turn did is not safe.
        self.before_send: list[Callable[[], bool | None]] = []
        self.after_turn: list[Callable[[], None]] = []
        # Whether ``after_turn`` has so much to do that the next turn should not wait.
        self.is_busy: Callable[[], bool] = lambda: False
        # Called once after the hooks of this turn: whether they all held.
        self.settled: list[Callable[[bool], None]] = []
        self.unsent: list[Any] = []  # what has something to send at the end of the turn; always this list
        # What a turn does with what is ready, and with ``unsent``; a server puts faster ones here.
        self.read: Callable[[list[tuple[int, int]]], None] = self._read
        self.send: Callable[[list[Any]], None] = self._send
        # Runs what has been read in this turn and has yet to run; for ``serve_others``, set by such a reader.
        self.run_rest: Callable[[], None] = lambda: None
        self.now_ms = 0  # the time of this turn
        self.running = False
        self._stopping = False  # ``stop()`` has been called
        self._abandoned = False  # what this turn has done is not whole

    @property
    def mechanism(self) -> str:
        """What the loop waits with, as INFO names it."""
        return "epoll" if isinstance(self._poller, _Epoll) else self._poller.mechanism

    def add(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Watch a descriptor."""
        self._handlers[fd] = handler
        self._poller.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self._poller.modify(fd, events)

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have ``call`` made in the next turn, which does not wait then."""
        self._soon.append(call)

    def call_soon_threadsafe(self, call: Callable[[], object]) -> None:
        """As ``call_soon``, from other threads and from signal handlers."""
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
        """End ``run()`` after the present turn, whose replies are sent still; a command that serves others
        ends at once, unfinished."""
        self.running = False
        self.stop_serving()
        self.wake()

    def stop_serving(self) -> None:
        """Have a command that takes too long, and serves others, end unfinished; safe as ``wake`` is."""
        self._stopping = True

    @property
    def abandoned(self) -> bool:
        """Whether the last turn ended in the middle of a unit."""
        return self._abandoned

    @property
    def is_stopping(self) -> bool:
        """Whether ``stop()`` has been called."""
        return self._stopping

    def go_on_serving(self) -> None:
        """The end that was asked for has failed: take ``stop_serving`` back."""
        self._stopping = False

    def _timeout(self) -> float:
        if self._soon or self.is_busy():
            return 0.0
        if self._soonest is None:
            return MAX_WAIT
        return min(MAX_WAIT, max(0.0, (self._soonest - self._ctx.clock.now_ms()) / 1000))

    def turn(self, most_seconds: float | None = None) -> None:
        """Wait for readiness or a timer (at most ``most_seconds``), and do all that is due."""
        timeout = self._timeout()
        if most_seconds is not None and most_seconds < timeout:
            timeout = most_seconds
        ready = self._poller.poll(timeout)
        ctx = self._ctx
        now = ctx.frozen = self.now_ms = ctx.clock.now_ms()
        counts = self.counts
        counts.turns += 1
        try:
            self.read(ready)
            counts.reads += len(ready)
            for _ in range(len(self._soon)):
                self._soon.popleft()()
            soonest = self._next_timer_ms()
            if soonest is not None and soonest <= now:
                self._run_timers()
                soonest = self._next_timer_ms()
            self._soonest = soonest
        except Stopping:
            LOGGER.warning("Stopping in the middle of a script, which stays unfinished")
        except Exception:  # a bug of ours, which must not end the service of everybody
            LOGGER.exception("internal error in the event loop")
        try:
            self.flush()
            for hook in self.after_turn:
                hook()
        except Exception:
            LOGGER.exception("internal error at the end of a turn")
        finally:
            ctx.frozen = None

    def serve_others(self, but: int) -> None:
        """Within a command that takes too long: one look at the sockets, all but that one's.

        Nothing here changes data: timers wait, and so do the ``before_send`` hooks, as what the command has
        done so far is not whole and must not be logged. Replies that wait for the hooks go on waiting, and
        those made here are sent. Raises Stopping when the loop is to stop: the command ends, nothing of the
        turn is logged and nothing more of it is sent.
        """
        unsent = self.unsent
        logged = bool(self.before_send)
        held = [each for each in unsent if each.fd == but or (logged and each.has_output)]
        self.run_rest()  # first, as the requests of each client run in order
        for fd, events in self._poller.poll(0):
            handler = self._handlers.get(fd)
            if handler is not None and fd != but:
                handler.ready(events)
        waiting = set(held)
        self._send_all([each for each in unsent if each not in waiting])
        unsent[:] = held
        if self._stopping:
            self._abandoned, self.running = True, False
            raise Stopping

    def _read(self, ready: list[tuple[int, int]]) -> None:
        for fd, events in ready:
            self.dispatch(fd, events)

    def dispatch(self, fd: int, events: int) -> None:
        """Let the handler of a descriptor know that it is ready."""
        handler = self._handlers.get(fd)
        if handler is not None:
            handler.ready(events)
        elif fd == self._wake_read:
            self._drain_wakes()

    @staticmethod
    def _send(unsent: list[Any]) -> None:
        for sender in unsent:
            sender.flush()

    def flush(self) -> None:
        """Make the log durable, then send what the turn has produced."""
        unsent = self.unsent
        safe = not self._abandoned
        if safe:
            safe = self._all_hold()
        if self.settled:
            settled, self.settled = self.settled, []
            for call in settled:
                call(safe)
        if unsent:
            if safe:
                self._send_all(unsent)
            elif not self._abandoned:
                for sender in list(unsent):
                    sender.close()
            unsent.clear()

    def _all_hold(self) -> bool:
        """Run the hooks; whether none of them failed."""
        safe = True
        for hook in self.before_send:
            try:
                if hook() is False:
                    safe = False
            except Exception:  # a bug of ours: nobody knows what is on the disk
                LOGGER.exception("internal error in a hook before replies")
                safe = False
        return safe

    def _send_all(self, senders: list[Any]) -> None:
        try:
            self.send(senders)
        except Exception:  # a bug of ours: it costs the client its connection, and nobody else anything
            LOGGER.exception("internal error while sending")
            for sender in senders:
                try:
                    sender.flush()
                except Exception:
                    sender.close()
        self.counts.writes += len(senders)

    def _drain_wakes(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give the descriptors back. May be called twice."""
        if self._wake_read < 0:
            return
        self._poller.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._wake_read = self._wake_write = -1
