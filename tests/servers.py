"""Start and stop the servers that tests talk to: redis-server, valkey-server and kvstore's own.

Every server gets a directory of its own, listens on a Unix socket in it (and on a free TCP port of
127.0.0.1 where asked), persists nothing unless told to, and dies with the test process: a context
manager stops it, ``atexit`` stops it where that was left out, and on Linux the kernel stops it when the
test process is killed.

Must not know: any command's meaning.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.rawclient import RawClient

START_SECONDS = 20.0  # generous: a loaded machine of two cores starts a Python server in a few seconds
STOP_SECONDS = 5.0
KINDS = ("redis", "valkey", "kvstore")
ROOT = Path(__file__).resolve().parent.parent


class ServerError(RuntimeError):
    """A server did not start; the text holds its log."""


class Server:
    """One running server process: where it listens, its log, and how to stop it."""

    def __init__(
        self,
        kind: str,
        directory: Path,
        process: subprocess.Popen[bytes],
        port: int | None,
        argv: list[str],
    ) -> None:
        self.kind = kind
        self.argv = argv
        self.directory = directory
        self.process = process
        self.port = port
        self.unix = str(directory / "s")
        self.log_path = directory / "log"

    def __repr__(self) -> str:
        return f"<{self.kind} server, pid {self.process.pid}, {self.unix}>"

    @property
    def name(self) -> str:
        return self.kind

    @property
    def unix_url(self) -> str:
        return f"unix://{self.unix}"

    @property
    def tcp_url(self) -> str:
        if self.port is None:
            raise ValueError("started without TCP")
        return f"redis://127.0.0.1:{self.port}"

    def client(self, *, tcp: bool = False, timeout: float = 10.0) -> RawClient:
        """A new raw connection."""
        return RawClient(("127.0.0.1", self.port) if tcp and self.port else self.unix, timeout=timeout)

    def log(self) -> str:
        """What the server has written so far."""
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End the process without a word of warning (SIGKILL)."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def restart(self, wait: bool = True) -> None:
        """Start it again, in the same directory, after it has ended. ``wait``: until it answers."""
        self.process = _spawn(self.argv, self.directory)
        _running.add(self)
        if wait:
            _wait_ready(self)

    def stop(self) -> int | None:
        """Stop the process (SIGTERM, then SIGKILL) and return its exit code; may be called twice."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS)
        _running.discard(self)
        return self.process.returncode

    def remove(self) -> None:
        """Stop and delete the directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


_running: set[Server] = set()


@atexit.register
def _stop_all() -> None:
    for server in list(_running):
        with contextlib.suppress(Exception):
            server.remove()


def binary(kind: str) -> str | None:
    """Where the program of a real server is; None where it is not installed."""
    return shutil.which(f"{kind}-server")


def available(kind: str) -> bool:
    """Whether a server of this kind can be started here."""
    return kind == "kvstore" or binary(kind) is not None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def die_with_parent() -> Callable[[], None] | None:
    """A pre-exec hook that has the kernel kill the child when this process dies (Linux).

    The kernel ties the signal to the thread that forked, so a helper thread must not ask for it.
    """
    if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_pdeathsig = 1
    return lambda: prctl(set_pdeathsig, signal.SIGKILL)


def _argv(
    kind: str, directory: Path, port: int | None, options: dict[str, str], file: Path | None
) -> list[str]:
    directives = {"dir": str(directory), "port": str(port or 0), "save": "", "appendonly": "no", **options}
    config = [] if file is None else [str(file)]
    if kind == "kvstore":
        head = [sys.executable, "-m", "kvstore", "serve", *config, "--unix", str(directory / "s")]
    else:
        program = binary(kind)
        if program is None:
            raise ServerError(f"{kind}-server is not installed")
        head = [program, *config, "--unixsocket", str(directory / "s")]
    if kind != "kvstore" and port:
        directives.setdefault("bind", "127.0.0.1")
    return head + [word for name, value in directives.items() for word in (f"--{name}", value)]


def _spawn(argv: list[str], directory: Path) -> subprocess.Popen[bytes]:
    with open(directory / "log", "ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            preexec_fn=die_with_parent(),
        )


def start(
    kind: str, *, tcp: bool = False, options: dict[str, str] | None = None, file: Path | None = None
) -> Server:
    """Start a server and wait until it answers PING.

    ``options`` are directives (``{"maxmemory": "10mb"}``), ``file`` a configuration that is read before them. Raises ServerError, with the log, when the
    server ends or does not answer in time.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    port = free_port() if tcp else None
    server = None
    try:
        argv = _argv(kind, directory, port, options or {}, file)
        server = Server(kind, directory, _spawn(argv, directory), port, argv)
        _running.add(server)
        _wait_ready(server)
    except BaseException:
        if server is not None:
            server.remove()
        else:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    return server


def _wait_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not server.alive():
            raise ServerError(f"{server.kind} ended with {server.process.returncode}:\n{server.log()}")
        with contextlib.suppress(OSError, EOFError), server.client(timeout=START_SECONDS) as client:
            # A server with a password answers NOAUTH: it is up all the same. One that loads is not.
            if not client.call("PING").startswith(b"-LOADING"):
                return
        time.sleep(0.02)
    raise ServerError(f"{server.kind} did not answer in {START_SECONDS} s:\n{server.log()}")


def start_node(kind: str, **options: str) -> Server:
    """Start a node of a cluster, which has all slots; on TCP, as clients of clusters want it."""
    server = start(
        kind,
        tcp=True,
        options={"cluster-enabled": "yes", "cluster-port": str(free_port()), **options},
    )
    if kind != "kvstore":
        with server.client() as client:
            client.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            deadline = time.monotonic() + START_SECONDS
            while b"cluster_state:ok" not in client.call("CLUSTER", "INFO"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
    return server


@contextlib.contextmanager
def running(kind: str, *, tcp: bool = False, options: dict[str, str] | None = None) -> Iterator[Server]:
    """A server for the time of a ``with`` block; its log is printed when the block fails."""
    server = start(kind, tcp=tcp, options=options)
    try:
        yield server
    except BaseException:
        print(f"--- log of {server!r}\n{server.log()[-8000:]}", file=sys.stderr)
        raise
    finally:
        server.remove()
