"""The process around a server: background, pid file, limits of the system, signals, the supervisor.

Must not know: sockets of clients, commands.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from kvstore.net.log import LOGGER

# File descriptors that are not clients: listeners, the log, files of the store.
RESERVED_FILES = 32
# Containers that are made between two passes of the cycle collector, each of which looks at all of them and at what
# they hold: 10,000 hashes of two fields take a millisecond or two, however many passes share the work.
YOUNG_OBJECTS = 10_000


def room_for(maxclients: int) -> int:
    """Raise the process's limit of open files for that many clients; how many it then has room for."""
    wanted = maxclients + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return maxclients
    bounded = hard != resource.RLIM_INFINITY and hard < wanted
    attempts = [(wanted, wanted), (hard, hard)] if bounded else [(wanted, hard)]
    for most, new_hard in attempts:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, new_hard))
            soft = most
            break
        except (ValueError, OSError):
            continue
    return min(maxclients, max(1, soft - RESERVED_FILES))


class Background:
    """The way to the background: the parent waits until the child is ready or has failed."""

    def __init__(self, report: int):
        self._report = report

    @classmethod
    def enter(cls) -> Background:
        """Fork; the parent exits, with 0 when the child says that it is ready, and else with 1."""
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fork():
            os.close(write)
            os._exit(0 if os.read(read, 1) == b"1" else 1)
        os.close(read)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        if null > 2:
            os.close(null)
        return cls(write)

    def ready(self) -> None:
        """Let the parent go."""
        try:
            os.write(self._report, b"1")
        except OSError:
            pass
        os.close(self._report)


def write_pid_file(path: str) -> bool:
    """Write the process's id; False, and a line in the log, where that fails."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        LOGGER.warning("Failed to write PID file: %s", os.strerror(error.errno or 0))
        return False
    return True


def notify_supervisor(*states: str) -> None:
    """Tell systemd, where it asked to be told; by its protocol that is a datagram to a Unix socket."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto("\n".join(states).encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            LOGGER.warning("cannot notify the supervisor at %s: %s", address, error)


def is_supervised(choice: str) -> bool:
    """Whether a supervisor is to be told, by the directive ``supervised`` and the environment."""
    return choice == "systemd" or (choice == "auto" and "NOTIFY_SOCKET" in os.environ)


def handle_signals(stop: Callable[[str], None]) -> None:
    """SIGTERM and SIGINT call ``stop`` with their name in lower case, a second SIGINT ends the process at once; SIGHUP is ignored."""
    asked = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal asked
        if number == signal.SIGINT and asked:
            _exit_now()
        asked = True
        LOGGER.warning("Received %s scheduling shutdown...", signal.Signals(number).name)
        stop(signal.Signals(number).name.lower())

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _exit_now() -> NoReturn:
    LOGGER.warning("You insist... exiting now.")
    os._exit(1)


def calm_collector() -> None:
    """Have the cycle collector of this process look at each container once, while it is young.

    Values have no cycles, and neither clients nor jobs leave any behind, so what a pass has left is hardly ever
    garbage: it is frozen, and no later pass looks at it. Otherwise passes would take as long as there are values.
    What does become garbage in a cycle after that waits for ``collect_all``.
    """
    collect_all()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    if _freeze_after_pass not in gc.callbacks:
        gc.callbacks.append(_freeze_after_pass)


def _freeze_after_pass(phase: str, info: object) -> None:
    if phase == "stop":
        gc.freeze()


def collect_all() -> int:
    """Look through all containers, the frozen ones too; how many were garbage. O(n), about a second for five million."""
    gc.unfreeze()
    found = gc.collect()
    gc.freeze()
    return found


@contextmanager
def filling() -> Iterator[None]:
    """Without the collector, for one who makes nothing but values, which are then as frozen as others."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
