"""Servers that a benchmark starts, a small client for them, and what the system knows of their processes.

A server runs in a directory of its own with the directives given, on a Unix socket; it is stopped at the end
of its ``with`` block. The client speaks just enough RESP2 to send requests and to wait for whole replies.

Must not know: what is measured.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KINDS = ("kvstore", "redis", "valkey")
ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0  # a load of a million keys on a busy machine is part of it
STOP_SECONDS = 30.0


class Client:
    """One connection. ``ask`` waits for the reply, ``send`` does not."""

    def __init__(self, path: str, timeout: float = 120.0):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self._buffer = b""

    def ask(self, *argv: bytes | str) -> Any:
        """The reply: bytes, int, None, a list, or an Exception for an error."""
        self.socket.sendall(request(*argv))
        return self._reply()

    def fill(self, requests: Iterable[Sequence[bytes | str]], batch: int = 500) -> None:
        """Send many requests in batches, each when the one before is answered; an error reply is raised."""
        pending: list[bytes] = []
        for words in requests:
            pending.append(request(*words))
            if len(pending) == batch:
                self._answered(pending)
                pending = []
        self._answered(pending)

    def _answered(self, requests: list[bytes]) -> None:
        self.socket.sendall(b"".join(requests))
        for _ in requests:
            reply = self._reply()
            if isinstance(reply, Exception):
                raise reply

    def pipeline(self, requests: bytes, replies: int) -> None:
        """Send what is ready-made and wait for as many one-line replies."""
        self.socket.sendall(requests)
        while replies:
            if not self._buffer:
                self._fill()
            replies -= self._buffer.count(b"\n")
            self._buffer = b""

    def _fill(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._buffer += data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _reply(self) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        size = int(rest)
        if size < 0:
            return None
        while len(self._buffer) < size + 2:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return data

    def info(self, section: str) -> dict[str, str]:
        text: bytes = self.ask("INFO", section)
        return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)

    def close(self) -> None:
        self.socket.close()


def request(*argv: bytes | str) -> bytes:
    words = [word.encode() if isinstance(word, str) else word for word in argv]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Instance:
    """A running server."""

    def __init__(self, kind: str, directory: Path, process: subprocess.Popen[bytes]):
        self.kind = kind
        self.directory = directory
        self.process = process
        self.path = str(directory / "s")

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def client(self) -> Client:
        return Client(self.path)

    def seconds_of(self, words: str) -> float:
        """The last figure that the log has behind these words: "DB loaded from disk: 0.123 seconds"."""
        found = re.findall(re.escape(words) + r": ([0-9.]+) seconds", self.log())
        if not found:
            raise RuntimeError(f"{self.kind} did not say {words!r}:\n{self.log()[-2000:]}")
        return float(found[-1])


@contextmanager
def running(
    kind: str, directory: Path, options: Mapping[str, str], command: Sequence[str] | None = None
) -> Iterator[Instance]:
    """A server in a directory, from when it answers (it has loaded then) to the end of the block.

    ``command`` replaces the program and its first words."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "s"
    path.unlink(missing_ok=True)
    head = {
        "kvstore": [sys.executable, "-m", "kvstore", "serve", "--unix", str(path)],
        "redis": ["redis-server", "--unixsocket", str(path)],
        "valkey": ["valkey-server", "--unixsocket", str(path)],
    }[kind]
    directives = {"port": "0", "save": "", "dir": str(directory), **options}
    words = [word for name, value in directives.items() for word in (f"--{name}", value)]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [*(command or head), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
    instance = Instance(kind, directory, process)
    try:
        _wait_ready(instance)
        yield instance
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def _wait_ready(instance: Instance) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if instance.process.poll() is not None:
            break
        try:
            client = instance.client()
        except OSError:
            time.sleep(0.01)
            continue
        try:
            if client.ask("PING") == b"PONG":
                return
        except OSError:
            pass
        finally:
            client.close()
        time.sleep(0.02)
    raise RuntimeError(f"{instance.kind} did not start:\n{instance.log()[-2000:]}")


def family(pid: int) -> list[int]:
    """A process and its children, which a snapshot by fork has."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *map(int, children)]


def proportional_bytes(pid: int) -> int:
    """Resident memory of a process and its children, pages that they share counted once."""
    total = 0
    for each in family(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        total += 1024 * int(re.findall(r"^Pss: +(\d+)", text, re.M)[0])
    return total


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used: in nanoseconds where the kernel counts them, else in ticks."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        nanos = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    except (OSError, IndexError):
        nanos = 0
    if nanos:
        return nanos / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def available(kind: str) -> bool:
    """Whether such a server can be started here."""
    return kind == "kvstore" or shutil.which(f"{kind}-server") is not None
