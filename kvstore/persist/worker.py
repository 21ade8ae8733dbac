"""What takes long (syncing, deleting large files) goes to a worker, whose results come back to the owner.

A job runs in another thread and touches nothing but files. Its ``done`` runs in the owner's thread, when the
owner calls ``poll()``; so nobody but the owner ever touches the store or the state of the log.

Must not know: what jobs do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

Job = Callable[[], None]
# Called with what the job raised, or None.
Done = Callable[[BaseException | None], None]


class Worker(Protocol):
    """Runs jobs in the order in which they came."""

    def submit(self, job: Job, done: Done) -> None:
        """Have ``job`` run, and then ``done`` when the owner polls."""

    def poll(self) -> None:
        """Call ``done`` of every job that has ended, in the owner's thread."""

    def drain(self) -> None:
        """Wait until every job has ended, and poll."""

    def close(self) -> None:
        """Drain, and end. May be called twice."""


class InlineWorker:
    """Runs each job at once: for what waits anyway, and for tests that want one order of events."""

    __slots__ = ()

    def submit(self, job: Job, done: Done) -> None:
        try:
            job()
        except Exception as error:
            done(error)
        else:
            done(None)

    def poll(self) -> None:
        pass

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


class ThreadWorker:
    """One thread, made for the first job. ``wake`` is called in it when there is something to poll."""

    def __init__(self, wake: Callable[[], object] = lambda: None, name: str = "kvstore-files"):
        self._wake = wake
        self._name = name
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._ended: deque[tuple[Done, BaseException | None]] = deque()
        self._thread: threading.Thread | None = None
        self._open = 0  # jobs submitted and not yet polled
        self._progress = threading.Condition()

    def submit(self, job: Job, done: Done) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._open += 1
        self._jobs.put((job, done))

    def _run(self) -> None:
        while (found := self._jobs.get()) is not None:
            job, done = found
            error: BaseException | None = None
            try:
                job()
            except BaseException as raised:
                error = raised
            with self._progress:
                self._ended.append((done, error))
                self._progress.notify_all()
            self._wake()

    def poll(self) -> None:
        while self._ended:
            done, error = self._ended.popleft()
            self._open -= 1
            done(error)

    def drain(self) -> None:
        self.poll()
        while self._open:
            with self._progress:
                self._progress.wait_for(lambda: self._ended)
            self.poll()

    def close(self) -> None:
        self.drain()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join()
