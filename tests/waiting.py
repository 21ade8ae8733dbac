"""Threads of tests that wait for each other, never without an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kvstore.fake import FakeServer

PATIENCE = 30.0  # seconds until a test that waits has failed


def until(condition: Callable[[], object], what: str) -> None:
    """Look again and again until it is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited for {what} in vain")
        time.sleep(0.001)


def until_blocked(server: FakeServer, clients: int = 1) -> None:
    """Wait until so many clients are in blocking commands, and their threads, or tasks, wait for the reply."""

    def wait() -> bool:
        with server.lock:
            waiting = [line for line in server.lines if line.session.waiting is not None]
            return len(waiting) == clients and all(line._wakers for line in waiting)

    until(wait, f"{clients} blocked clients")


class Running:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]):
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the call has not ended"
        if self._error is not None:
            raise self._error
        return self._result


@contextmanager
def no_threads_left() -> Iterator[None]:
    """Whoever starts threads ends them."""
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before, "the end of threads")
