"""What importing costs is what it loads: these name what nobody must pay for who does not use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What starts none of these needs none of these.
HEAVY = {
    "anycrc",
    "anyio",
    "asyncio",
    "dataclasses",
    "hiredis",
    "hypothesis",
    "inspect",
    "json",
    "logging",
    "lupa",
    "msgpack",
    "pytest",
    "redis",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "valkey",
}
# Rooms of the package.
ENGINE = {"engine"}
OTHERS = {"commands", "fake", "net", "persist", "resp", "serving", "tools"}


def loaded_by(code: str) -> set[str]:
    """The modules, and the packages that they are in, that a fresh interpreter loads for it and not without it."""
    program = f"import sys\nbefore = {{*sys.modules}}\n{code}\nprint(*({{*sys.modules}} - before))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    return {name[: at or len(name)] for name in found for at in (0, *_dots(name))}


def _dots(name: str) -> list[int]:
    return [at for at, letter in enumerate(name) if letter == "."]


def rooms(loaded: set[str]) -> set[str]:
    return {name.split(".")[1] for name in loaded if name.startswith("kvstore.")}


def test_importing_the_package_loads_the_errors_alone() -> None:
    loaded = loaded_by("import kvstore")
    assert rooms(loaded) == {"errors"}
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "code",
    [
        "from kvstore import Store",
        "from kvstore import Store; store = Store(); store.set('a', 'b', ex=10); store.zadd('z', {'a': 1})",
        "import kvstore; kvstore.Store().hset('h', mapping={'a': 1})",
    ],
)
def test_a_store_in_memory_loads_the_engine_alone(code: str) -> None:
    loaded = loaded_by(code)
    assert "kvstore.store" in loaded and rooms(loaded) >= ENGINE
    assert not rooms(loaded) & OTHERS
    assert not loaded & HEAVY


def test_a_server_has_loaded_what_common_commands_need_before_they_come() -> None:
    program = """
import socket, sys
import kvstore

with kvstore.serve(port=0) as server, socket.create_connection(("127.0.0.1", server.port), 10) as client:
    before = {*sys.modules}
    for command in ("SET a b", "GET a", "DUMP a", "HSET h f v", "ZADD z 1 m", "LPUSH l e", "XADD s * f v", "EXPIRE a 9"):
        client.sendall(command.encode() + b"\\r\\n")
        assert client.recv(4096)[:1] in b"+:$", command
    print(*({*sys.modules} - before))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.split() == []
