"""``kvstore serve`` as a process: its log, its exit codes, signals, files, the background, supervisors."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kvstore
from tests.rawclient import RawClient
from tests.servers import ROOT, binary, free_port

PATIENCE = 30.0  # seconds that a test waits for what must happen
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}


def finished(*args: object, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command line that ends by itself."""
    command = [sys.executable, "-m", "kvstore", *map(str, args)]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd, timeout=PATIENCE
    )


class Process:
    """A running ``kvstore serve`` in a directory."""

    def __init__(self, directory: Path, *args: object, environment: dict[str, str] | None = None):
        self.path = str(directory / "s")
        self.output = directory / "output"
        with open(self.output, "wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "kvstore", "serve", *map(str, args)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**ENVIRONMENT, **(environment or {})},
                cwd=directory,
            )

    @property
    def log(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.log, lambda: f"no {text!r} in:\n{self.log}")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ended(self) -> int:
        return self.popen.wait(PATIENCE)


def until(
    holds: Callable[[], object], why: Callable[[], str] = lambda: "it did not come about in time"
) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


@contextlib.contextmanager
def started(directory: Path, *args: object, environment: dict[str, str] | None = None) -> Iterator[Process]:
    process = Process(directory, *args, environment=environment)
    try:
        process.wait_for("Ready to accept connections")
        yield process
    finally:
        process.popen.kill()
        process.popen.wait(PATIENCE)


def test_version_and_help() -> None:
    assert finished("--version").stdout == f"kvstore {kvstore.__version__}\n"
    for args in (("--help",), ("serve", "--help")):
        shown = finished(*args)
        assert shown.returncode == 0 and "kvstore serve" in shown.stdout
    for args in ((), ("nonsense",)):
        shown = finished(*args)
        assert shown.returncode == 2 and "usage:" in shown.stderr and not shown.stdout


def test_the_log_has_the_lines_that_supervisors_wait_for(tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, "--unix", "s", "--port", port) as process:
        process.wait_for("Connect by:")
        log = process.log
        # What a harness that knows redis-server's log looks for.
        assert re.search(rf" PID: {process.popen.pid}.*Server initialized", log, re.DOTALL)
        assert re.search(
            r"\* Ready to accept connections tcp\n(.*\n)*.*\* Ready to accept connections unix\n", log
        )
        pattern = rf"{process.popen.pid}:M \d\d \w\w\w \d\d\d\d \d\d:\d\d:\d\d\.\d\d\d [.*#-] "
        assert all(re.match(pattern, line) for line in log.splitlines())
        assert f"redis-cli -s {tmp_path}/s" in log
        for address in (process.path, ("127.0.0.1", port)):
            with RawClient(address) as client:
                assert client.call("PING") == b"+PONG\r\n"
        process.signal(signal.SIGTERM)
        assert process.ended() == 0
        assert "Received SIGTERM scheduling shutdown..." in process.log
        assert "bye bye" in process.log.splitlines()[-1]
        assert not os.path.exists(process.path)


def test_unix_alone_opens_no_port_and_the_file_and_options_count(tmp_path: Path) -> None:
    (tmp_path / "kv.conf").write_text("maxmemory 10mb\nmaxclients 50\ntimeout 7\n")
    with (
        started(tmp_path, "kv.conf", "--unix", "s", "--maxclients", 60, "--save", "") as process,
        RawClient(process.path) as client,
    ):
        for name, value in (
            ("maxmemory", b"10485760"),
            ("maxclients", b"60"),
            ("timeout", b"7"),
            ("port", b"0"),
        ):
            assert client.call("CONFIG", "GET", name).endswith(b"\r\n%b\r\n" % value)
        assert client.call("CONFIG", "SET", "timeout", 9) == b"+OK\r\n"
        assert client.call("CONFIG", "REWRITE") == b"+OK\r\n"
        assert "timeout 9" in (tmp_path / "kv.conf").read_text()


def test_configuration_may_come_from_standard_input(tmp_path: Path) -> None:
    shown = finished("serve", "-", "--port", 0, stdin="no-such-directive 1\n", cwd=tmp_path)
    assert shown.returncode == 1
    assert ">>> 'no-such-directive 1'\nBad directive or wrong number of arguments" in shown.stderr


@pytest.mark.parametrize(
    "args", [("--no-such", "1"), ("--port", "x"), ("--port",), ("--maxmemory-policy", "never")]
)
def test_a_wrong_directive_stops_the_start_as_it_stops_a_real_server(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    shown = finished("serve", *args, cwd=tmp_path)
    assert shown.returncode == 1
    assert (
        "*** FATAL CONFIG FILE ERROR (Redis 7.4.0) ***\nReading the configuration file, at line 2\n>>> '"
        in shown.stderr
    )
    if binary("redis"):
        real = subprocess.run(
            ["redis-server", *args], capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE
        )
        assert real.returncode == 1
        assert re.sub(r"\(Redis .*\)", "", shown.stderr.strip()) == re.sub(
            r"\(Redis .*\)", "", real.stderr.strip()
        )


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    shown = finished("serve", "missing.conf", cwd=tmp_path)
    assert shown.returncode == 1
    assert (
        f"Fatal error, can't open config file '{tmp_path}/missing.conf': No such file or directory"
        in shown.stderr
    )


def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = finished("serve", "--port", port, "--bind", "127.0.0.1", cwd=tmp_path)
    assert shown.returncode == 1
    assert f"# Failed listening on port {port} (tcp), aborting.\n" in shown.stdout
    assert f"127.0.0.1:{port}: " in shown.stdout and "Address already in use" in shown.stdout


def test_a_live_socket_is_refused_and_a_stale_one_replaced(tmp_path: Path) -> None:
    with started(tmp_path, "--unix", "s") as process:
        shown = finished("serve", "--unix", process.path)
        assert shown.returncode == 1 and "another server is listening on it" in shown.stdout
        with RawClient(process.path) as client:
            assert client.call("PING") == b"+PONG\r\n"
        process.signal(signal.SIGKILL)
        process.ended()
        assert os.path.exists(process.path)
    with (
        started(tmp_path, "--unix", "s", "--unixsocketperm", "700") as process,
        RawClient(process.path) as client,
    ):
        assert client.call("PING") == b"+PONG\r\n"
        assert stat.S_IMODE(os.stat(process.path).st_mode) == 0o700


def test_listening_nowhere_stops_the_start(tmp_path: Path) -> None:
    shown = finished("serve", "--port", 0, cwd=tmp_path)
    assert shown.returncode == 1
    assert "Configured to not listen anywhere, exiting." in shown.stdout


def test_sigint_stops_cleanly_and_sighup_is_ignored(tmp_path: Path) -> None:
    with started(tmp_path, "--unix", "s") as process:
        process.signal(signal.SIGHUP)
        with RawClient(process.path) as client:
            assert client.call("PING") == b"+PONG\r\n"
        process.signal(signal.SIGINT)
        assert process.ended() == 0


def test_a_second_sigint_ends_the_process_at_once(tmp_path: Path) -> None:
    with (
        started(tmp_path, "--unix", "s", "--enable-debug-command", "yes") as process,
        RawClient(process.path) as client,
    ):
        client.send("DEBUG", "SLEEP", 60)
        time.sleep(0.2)
        process.signal(signal.SIGINT)
        process.wait_for("Received SIGINT")
        process.signal(signal.SIGINT)
        assert process.ended() == 1
        assert "You insist" in process.log


def test_a_client_may_stop_it_by_shutdown(tmp_path: Path) -> None:
    with started(tmp_path, "--unix", "s") as process, RawClient(process.path) as client:
        client.send("SHUTDOWN", "NOSAVE")
        assert client.at_end()
        assert process.ended() == 0
        assert "User requested shutdown..." in process.log


def test_the_log_goes_to_a_file_that_may_be_moved_away(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    process = Process(
        tmp_path, "--unix", tmp_path / "s", "--dir", "data", "--logfile", "kv.log", "--loglevel", "verbose"
    )
    log = tmp_path / "data" / "kv.log"
    try:
        until(lambda: log.exists() and "Ready to accept connections unix" in log.read_text())
        log.rename(tmp_path / "old.log")
        with RawClient(process.path) as client:
            client.call("PING")
            until(lambda: log.exists() and "- Accepted" in log.read_text())
            assert client.call("CONFIG", "SET", "loglevel", "nothing") == b"+OK\r\n"
            before = log.read_text()
            RawClient(process.path).close()
            client.call("PING")
            assert log.read_text() == before
        assert process.log == ""
    finally:
        process.popen.kill()
        process.ended()


def test_a_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    shown = finished("serve", "--unix", "s", "--logfile", tmp_path / "no" / "log", cwd=tmp_path)
    assert shown.returncode == 1 and "Can't open the log file" in shown.stderr


def test_in_the_background_the_parent_waits_until_clients_are_served(tmp_path: Path) -> None:
    args = (
        "--unix",
        tmp_path / "s",
        "--daemonize",
        "yes",
        "--pidfile",
        "kv.pid",
        "--logfile",
        "kv.log",
        "--dir",
        tmp_path,
    )
    shown = finished("serve", *args)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")
    pid = int((tmp_path / "kv.pid").read_text())
    try:
        with RawClient(str(tmp_path / "s")) as client:
            assert b"process_id:%d\r\n" % pid in client.call("INFO", "server")
            assert os.getsid(pid) != os.getsid(0)
            again = finished("serve", *args[:4], "--logfile", tmp_path / "again.log")
            assert again.returncode == 1 and "another server" in (tmp_path / "again.log").read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not (tmp_path / "kv.pid").exists())
    until(lambda: "bye bye" in (tmp_path / "kv.log").read_text())


def test_systemd_is_told_when_the_server_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        args = ("--unix", "s", "--supervised", "auto", "--daemonize", "yes")
        with started(tmp_path, *args, environment=environment) as process:
            assert "READY=1" in supervisor.recv(4096).decode().splitlines()
            assert process.popen.poll() is None, "a supervised server stays in the foreground"
            process.signal(signal.SIGTERM)
            assert supervisor.recv(4096) == b"STOPPING=1"
            assert process.ended() == 0


def test_a_renamed_command_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    shown = finished("serve", "--unix", "s", "--rename-command", "nonsense", "x", cwd=tmp_path)
    assert shown.returncode == 1
    assert "FATAL CONFIG FILE ERROR" in shown.stderr and "No such command in rename-command" in shown.stderr
