"""A client's line to a store in the same process: requests in, reply trees out, no bytes in between.

An Exchange is where lines end: a hub, and the lock under which one request at a time runs, whatever thread it
comes from. Whoever waits for a reply waits on a condition of its own, or on a future of its event loop; the
thread that makes the reply wakes it. There is no thread that nobody asked for: timers run in the threads that
wait, and before requests.

Invariants
- The hub and everything behind it are touched only under the exchange's lock.
- A session ends when nothing else is done: what it belongs to may be collected as garbage in the middle of
  anything that allocates, in the thread that does it.

Must not know: client libraries.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.registry import Argv
from kvstore.commands.session import Session
from kvstore.commands.tables import BUSY
from kvstore.fake.forking import holds_another, survive_forks
from kvstore.fake.late import Late

# Ports that clients seem to come from.
_FIRST_PORT = 49152
_PORTS = 1 << 14
_BUSY_SECONDS = 0.001  # that others get, each time that a script which takes too long lets them run


class Exchange:
    """Runs the requests of the lines of one hub, one at a time.

    ``may_block``: whether blocking commands wait; else their time is over at once, as where nobody else could
    end the wait. ``before``: called before requests run. ``record``: takes down what clients send, if somebody
    wants to know.
    """

    record: Callable[[Session, list[Argv]], None] | None = None

    def __init__(self, hub: Hub, *, may_block: bool = True, before: Callable[[], object] | None = None):
        self.hub = hub
        self.may_block = may_block
        self.before = before
        self.lock = threading.RLock()
        self.lines: set[Line] = set()
        self._left: deque[Callable[[], None]] = deque()  # ends of sessions that have yet to end
        self._changed = threading.Condition(self.lock)
        self._script_thread = 0  # of the last script that took too long
        self._running = False  # something is done to the hub, which nothing else may come between
        self._ticked_ms = 0
        self._now_ms = hub.ctx.clock.now_ms
        survive_forks(self)

    def open(self, address: str = "") -> Line:
        """A new line. Raises OSError where there is nobody to answer."""
        with self.alone(while_busy=True):
            line = Line(self, address)
            if not self.may_block:  # of the program that holds the store, which needs no password
                line.session.log_in(self.hub.users.owner)
            self.lines.add(line)
            self.hub.host.connections_received += 1
            return line

    @contextmanager
    def alone(self, while_busy: bool = False) -> Iterator[None]:
        """Do something to the hub or its data as a client's request is done: when nothing else is, after what is
        due, and with what follows from it. May be nested: what follows is done at the end of the outermost.

        ``while_busy``: also in the middle of a script of another thread that takes too long; else that is waited for.
        """
        with self.lock:
            while (
                BUSY in self.hub.features and not while_busy and self._script_thread != threading.get_ident()
            ):
                self._left.append(self._changed.notify_all)
                self._changed.wait(1)
            self.attend()
            running, self._running = self._running, True
            try:
                yield
            finally:
                self._running = running
                self.attend()

    def run(self, line: Line, requests: list[Argv]) -> None:
        """Run requests of a line, in order, under the lock."""
        hub = self.hub
        now = self._now_ms()
        if now != self._ticked_ms:
            self._tick(now)
        if self._left:
            self._sweep()
        session, record = line.session, line.record
        if record is not None:
            record(session, requests)
        if session.stopped:
            session.backlog.extend(requests)
            return
        running, before = self._running, hub.current
        self._running = True
        try:
            session.run(requests)
        finally:  # a program may be interrupted in the middle of a request, and go on
            self._running, hub.current = running, before
        if self._left:
            self._sweep()

    def feed(self, line: Line, data: bytes) -> None:
        """Run what bytes of RESP ask for, which somebody else has packed."""
        with self.alone(while_busy=True):
            line.session.feed(data)

    def attend(self) -> None:
        """Do what is due, and what follows from what was done; nothing in the middle of a request."""
        if self._running:
            return
        now = self._now_ms()
        if now != self._ticked_ms:
            self._tick(now)
        if self.hub.pending:
            self._do(self.hub.settle)
        if self._left:
            self._sweep()

    def _tick(self, now: int) -> None:
        """Do what is due; not in the middle of a request, and at most once in each millisecond."""
        if self._running:
            return
        self._ticked_ms = now
        soonest = self.hub.next_timer_ms()
        if soonest is not None and soonest <= now:
            self._do(self.hub.run_timers)

    def _do(self, call: Callable[[], object]) -> None:
        self._running = True
        try:
            call()
        finally:
            self._running = False

    def serve_others(self, but: int) -> None:
        """Within a script that takes too long: let the requests run that wait for their turn in other threads,
        which are told that the server is busy."""
        self._script_thread = threading.get_ident()
        self._changed.wait(_BUSY_SECONDS)

    def moved(self) -> None:
        """The clock was moved: do what is due, and let those who wait look at it again."""
        with self.lock:
            if self._running:
                return
            self.attend()
            for line in list(self.lines):
                line.wake()

    def let_go(self, end: Callable[[], None]) -> None:
        """End a session by that call, when nothing else is done; from any thread, and from a collection of
        garbage at any time.

        Where that comes in the middle of a request to another server, whose lock a third thread may wait for with
        this one's in its hand, the session is left to whoever comes here next.
        """
        self._left.append(end)
        if self.lock.acquire(blocking=False) or (not holds_another(self) and self.lock.acquire()):
            try:
                self._sweep()
            finally:
                self.lock.release()

    def _sweep(self) -> None:
        if self._running:
            return
        while self._left:
            self._do(self._left.popleft())
            self._do(self.hub.settle)


class Line:
    """One client's line, and the transport of its session."""

    session: Session

    def __init__(self, exchange: Exchange, address: str = ""):
        self.exchange = exchange
        self.session = Session(exchange.hub, TREE2, transport=self)
        self.session.may_block = exchange.may_block
        # Replies, from the left; who reads them needs no lock for that.
        self.out: deque[Any] = deque()
        self.session.out = self.out  # type: ignore[assignment]
        self.session.reply = self.out.append
        self.closed = False
        self.fd = 8 + self.session.id
        self.address = address or f"127.0.0.1:{_FIRST_PORT + self.session.id % _PORTS}"
        self.local_address = "127.0.0.1:6379"
        self.held = 0
        self.record = exchange.record  # None while a library says what it says on each new connection
        self.late: Late | None = None  # what holds replies back, while something does
        self.hung = False  # nothing comes any more, and nobody says so
        self._wakers: list[Callable[[], None]] = []  # of those who wait; more than one is unusual

    # -- what a session asks of its transport ----------------------------------------------------------

    def wake(self) -> None:
        """There may be something to read: let those who wait look."""
        for waker in self._wakers:
            waker()

    def relieve(self) -> None:
        """Nothing is ever sent before its reader asks."""

    def close(self) -> None:
        """End the line, from either side. May be called twice, and at any time."""
        if not self.closed:
            self.closed = True
            self.exchange.let_go(self._end)

    def _end(self) -> None:
        self.exchange.lines.discard(self)
        self.session.close()
        self.wake()

    # -- what may happen to it ----------------------------------------------------------------------

    @property
    def greets(self) -> bool:
        """Whether a library is making the connection."""
        return self.record is None

    def delay(self, ms: int) -> None:
        """Have what is sent from now on be readable that much later, and not before what was sent earlier."""
        if self.late is None:
            self.late = Late(self)
        self.late.due_ms = max(self.late.due_ms, self.exchange.hub.ctx.clock.now_ms() + ms)

    def drop(self) -> None:
        """Lose the connection in the middle of a request: no reply to it, and none of the requests after it runs."""
        self._mute()
        self.session.closing = True
        self.close()

    def hang(self) -> None:
        """Never answer again, from the request that runs on: its reader's time is over as soon as it waits."""
        self._mute()
        self.hung = self.session.stopped = True

    def _mute(self) -> None:
        nowhere: deque[Any] = deque(maxlen=0)
        self.session.out, self.session.reply = nowhere, nowhere.append  # type: ignore[assignment]

    # -- what a client does ------------------------------------------------------------------------

    def send(self, requests: list[Argv] | bytes) -> None:
        """Run requests; ``out`` gets their replies. Raises OSError once the line is closed."""
        exchange = self.exchange
        with exchange.lock:
            if self.closed or self.session._closing:
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")
            if exchange.before is not None:
                exchange.before()
            if requests.__class__ is list:
                exchange.run(self, requests)
            else:
                exchange.feed(self, requests)  # type: ignore[arg-type]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes after what is in ``out``."""
        return self.closed or self.session._closing

    def may_hear(self) -> bool:
        """Do what is due, if that could send something to this client, which has asked for nothing; whether
        there is something to read, or the end."""
        session = self.session
        if (
            session.channels
            or session.patterns
            or session.shard_channels
            or session.backlog
            or session.tracking is not None
        ):
            self.poll()
        return bool(self.out) or self.has_ended

    def sendall(self, requests: list[Argv] | bytes) -> None:
        """``send``, by its name at a socket."""
        self.send(requests)

    def shutdown(self, how: int) -> None:
        """As a socket's."""
        self.close()

    def poll(self) -> None:
        """Do what is due, as there may be something to read then."""
        with self.exchange.lock:
            self.exchange.attend()

    def receive(self, timeout: float | None) -> None:
        """Wait until there is something in ``out``, or the line has ended, at most so many seconds.

        Raises TimeoutError.
        """
        lock = self.exchange.lock
        with lock:
            wait = Wait(self, timeout)
            if wait.is_over():
                return
            if not self.exchange.may_block:
                raise TimeoutError("nothing is there to read, and nobody else can make it")
            condition = threading.Condition(lock)
            self._wakers.append(condition.notify)
            try:
                while not wait.is_over():
                    seconds = wait.seconds()
                    if not condition.wait(seconds):
                        wait.waited(seconds)
            finally:
                self._wakers.remove(condition.notify)

    async def areceive(self, timeout: float | None) -> None:
        """As ``receive``, for a coroutine."""
        lock = self.exchange.lock
        loop = asyncio.get_running_loop()
        with lock:
            wait = Wait(self, timeout)
        while True:
            woken = loop.create_future()

            def wake(woken: asyncio.Future[None] = woken) -> None:
                try:
                    loop.call_soon_threadsafe(_set, woken)
                except RuntimeError:
                    pass  # the loop is closed, and with it whoever waited

            with lock:
                if wait.is_over():
                    return
                seconds = wait.seconds()
                self._wakers.append(wake)
            timer = None if seconds is None else loop.call_later(seconds, _set, woken, True)
            try:
                if await woken:
                    wait.waited(seconds)
            finally:
                if timer is not None:
                    timer.cancel()
                with lock:
                    self._wakers.remove(wake)


def _set(future: asyncio.Future[Any], value: Any = None) -> None:
    if not future.done():
        future.set_result(value)


class Wait:
    """A wait for a reply, of which the exchange's clock or real time sees the end, whichever is first.

    The clock may be moved on, and ends waits early then; one that stands still, as nobody moves it, lets a wait
    last as long as it was asked to, and not for ever. All methods are called under the lock.
    """

    def __init__(self, line: Line, timeout: float | None):
        self._line = line
        self._hub = line.exchange.hub
        self._timeout = timeout
        self._began_ms = self._looked_ms = self._hub.ctx.clock.now_ms()
        self._waited = 0.0
        self._stands = False  # the clock has not moved in real time: nothing falls due by waiting

    def waited(self, seconds: float | None) -> None:
        """So much real time has passed."""
        self._waited += seconds or 0.0
        self._stands = self._hub.ctx.clock.now_ms() == self._looked_ms

    def is_over(self) -> bool:
        """Do what is due; whether there is something to read. Raises TimeoutError."""
        line = self._line
        line.exchange.attend()
        if line.out or line.has_ended:
            return True
        if line.hung:
            raise TimeoutError("timed out")
        waiting = line.session.waiting
        if waiting is not None and waiting.timer is not None and self._is_due(waiting.timer.at_ms):
            with line.exchange.alone():
                self._hub.unblock(line.session, None)
            return True
        if self._timeout is not None and self._is_due(self._began_ms + self._timeout * 1000):
            raise TimeoutError("timed out")
        return False

    def _is_due(self, at_ms: float) -> bool:
        return self._left(at_ms) <= 0 or self._began_ms + self._waited * 1000 >= at_ms

    def _left(self, at_ms: float) -> float:
        return at_ms - self._hub.ctx.clock.now_ms()

    def seconds(self) -> float | None:
        """How long to wait, at most, until something is due."""
        found: list[float] = []
        self._looked_ms = self._hub.ctx.clock.now_ms()
        waiting = self._line.session.waiting
        if waiting is not None and waiting.timer is not None:
            found.append(self._left(waiting.timer.at_ms))
        if self._timeout is not None:
            found.append(self._left(self._began_ms + self._timeout * 1000))
        soonest = self._hub.next_timer_ms()
        if soonest is not None and not self._stands:
            found.append(self._left(soonest))
        return max(0.001, min(found) / 1000) if found else None


def drop_all(lines: Iterable[Line]) -> None:
    """Close lines from the server's side."""
    for line in list(lines):
        line.close()
