"""Real client programs as child processes: run to their end, or run beside a test that reads what they print.

A program dies with the test process, as the servers do; what it printed is part of every failure. Waiting
is always for something (a line, an end, a state of the server) and always with a time-out, which only a
failing test reaches.

Must not know: what any program prints, and which server it talks to.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests import servers
from tests.installs import cannot

WAIT_SECONDS = 40.0  # generous: Ruby takes seconds to start on a loaded machine of two cores


def require_program(name: str, package: str) -> None:
    """Skip, with the reason, where a program is not installed; under CI that is a failure."""
    if shutil.which(name) is not None:
        return
    cannot(f"{name} is not installed (Debian's {package})")


def wait_until(what: str, condition: Callable[[], bool], timeout: float = WAIT_SECONDS) -> None:
    """Return as soon as ``condition()`` holds; AssertionError, which says ``what``, when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)


def run(
    *argv: str, stdin: str | bytes = b"", env: dict[str, str] | None = None, timeout: float = WAIT_SECONDS
) -> str:
    """Run a program to its end and return its standard output; AssertionError if it fails or takes too long."""
    try:
        done = subprocess.run(
            argv,
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            preexec_fn=servers.die_with_parent(),
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{argv} did not end in {timeout} s: {late.stdout!r} {late.stderr!r}") from None
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{out}\n{err}"
    return out


class Program:
    """A program that runs beside the test; a ``with`` block stops it.

    ``terminal`` gives it a terminal to print to, for programs that keep back what they print to a file.
    """

    def __init__(
        self, directory: Path, *argv: str, env: dict[str, str] | None = None, terminal: bool = False
    ) -> None:
        self.argv = argv
        self._terminal = -1
        self._read = b""
        self._path = directory / f"{Path(argv[0]).name}-{time.monotonic_ns()}.out"
        if terminal:
            self._terminal, out = pty.openpty()
            os.set_blocking(self._terminal, False)
        else:
            out = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=servers.die_with_parent(),
            )
        finally:
            os.close(out)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # its own children go with it
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT_SECONDS)
        if self._terminal >= 0:
            os.close(self._terminal)

    def output(self) -> str:
        """All that it has printed so far."""
        if self._terminal < 0:
            return self._path.read_text(errors="replace")
        with contextlib.suppress(OSError):  # nothing there, or the other end is gone
            while data := os.read(self._terminal, 1 << 16):
                self._read += data
        return self._read.decode(errors="replace")

    def lines(self) -> list[str]:
        """The whole lines that it has printed so far."""
        return self.output().replace("\r\n", "\n").split("\n")[:-1]

    def wait_for(self, what: str, condition: Callable[[], bool], timeout: float = WAIT_SECONDS) -> None:
        """Wait for a condition that this program brings about; fail at once when it ends before."""
        try:
            wait_until(what, lambda: condition() or self.process.poll() is not None, timeout)
            assert condition(), f"{what}: ended with {self.process.poll()} before"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.argv} printed:\n{self.output()}") from None

    def wait_for_text(self, text: str) -> None:
        self.wait_for(f"{text!r} in the output", lambda: text in self.output())

    def end(self, timeout: float = WAIT_SECONDS) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.argv} did not end in {timeout} s; printed:\n{self.output()}"
            ) from None
