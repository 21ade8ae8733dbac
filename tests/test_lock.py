"""A directory belongs to one process, and in it to one store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.errors import PersistenceError
from kvstore.persist.lock import NAME, DirectoryLock
from tests.servers import ROOT

PATIENCE = 30.0
HOLDER = """
import sys
from kvstore.persist.lock import DirectoryLock
lock = DirectoryLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    """Another process that has the lock and keeps it while its input is open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        try:
            with pytest.raises(PersistenceError) as refused:
                DirectoryLock(str(tmp_path))
            assert str(tmp_path) in str(refused.value) and f"pid {process.pid}" in str(refused.value)
            process.communicate("", PATIENCE)
            DirectoryLock(str(tmp_path)).release()
        finally:
            process.kill()


def test_death_gives_the_lock_back(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
    lock = DirectoryLock(str(tmp_path))
    assert (tmp_path / NAME).read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_second_owner_in_one_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    lock = DirectoryLock(str(tmp_path))
    with pytest.raises(PersistenceError, match=rf"this process \(pid {os.getpid()}\)"):
        DirectoryLock(str(tmp_path))
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held
    with_no_pid_yet = DirectoryLock(str(tmp_path))
    (tmp_path / NAME).write_text("")
    with pytest.raises(PersistenceError, match="in use by another process"):
        DirectoryLock(str(tmp_path))
    with_no_pid_yet.release()


def test_directories_have_locks_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = DirectoryLock(str(tmp_path)), DirectoryLock(str(tmp_path / "a"))
    first.release()
    second.release()


def test_a_refused_owner_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    lock = DirectoryLock(str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(PersistenceError):
            DirectoryLock(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before
    lock.release()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PersistenceError, match=f"cannot open the lock {tmp_path}/no/{NAME}: No such file"):
        DirectoryLock(str(tmp_path / "no"))


FORKING = """
import os, sys
from kvstore.persist.lock import DirectoryLock
lock = DirectoryLock(sys.argv[1])
if os.fork() == 0:
    assert not lock.held
    lock.release()
    os.write(1, b"forked\\n")  # here, as the copy of the lock is held until this process has run
    os.read(int(sys.argv[2]), 1)  # lives on until the test has seen enough
    os._exit(0)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""


def test_a_forked_process_neither_frees_nor_keeps_the_lock(tmp_path: Path) -> None:
    wait, go_on = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path), str(wait)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=[wait],
    )
    try:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "forked\n"
        with pytest.raises(PersistenceError, match=f"pid {process.pid}"):
            DirectoryLock(str(tmp_path))
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE) == -signal.SIGKILL
        # The child is still there.
        DirectoryLock(str(tmp_path)).release()
    finally:
        process.kill()
        os.close(go_on)
        os.close(wait)
        process.communicate()
