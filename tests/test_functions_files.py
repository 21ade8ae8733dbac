"""Libraries of functions in files that go from server to server, and functions that take too long.

The logs and snapshots are written by processes, stopped, and read by other processes from the same directory.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("lupa")

from tests import servers
from tests.rawclient import RawClient
from tests.servers import Server
from tests.test_functions import FLAGGED, MORE, OTHER, SAME, comparable, library, payload

LOGGED = {"appendonly": "yes", "appendfsync": "always", "save": ""}
SNAPSHOT = {"save": "3600 1"}
QUOTED = '#!lua "name=quoted"\nredis.register_function("q", function() return "quoted" end)'


def change(client: RawClient) -> None:
    """Leaves libraries lib, more and quoted, by every command that changes some."""
    for words in (
        *(("LOAD", SAME), ("FLUSH",), ("LOAD", OTHER), ("LOAD", QUOTED), ("LOAD", MORE), ("DELETE", "other")),
        *(("RESTORE", payload(SAME, OTHER.replace("'f'", "'o'"))), ("RESTORE", payload(MORE), "REPLACE")),
        *(("LOAD", "REPLACE", FLAGGED), ("DELETE", "other"), ("LOAD", "REPLACE", SAME)),
    ):
        assert not client.call("FUNCTION", *words).startswith(b"-"), words
    client.call("FCALL", "f", "0")


def assert_changed(client: RawClient) -> None:
    assert client.call("FCALL", "f", "0") == b"$4\r\nsame\r\n"
    assert client.call("FCALL", "q", "0") == b"$6\r\nquoted\r\n"
    assert client.call("FCALL", "o", "0") == b"-ERR Function not found\r\n"
    assert b":3\r\n" in client.call("FUNCTION", "STATS")


def handed_on(writer: str, reader: str, options: dict[str, str], *, rewrite: bool = False) -> None:
    with servers.running(writer, options=options) as giver:
        with giver.client() as client:
            change(client)
            if rewrite:
                client.call("BGREWRITEAOF")
                deadline = time.monotonic() + 20
                while b"aof_rewrite_in_progress:0" not in client.call("INFO", "persistence"):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            if "appendonly" not in options:
                assert client.call("SAVE") == b"+OK\r\n"
        giver.kill()
        with servers.running(reader, options=options) as taker:
            taker.kill()
            for name in ("appendonlydir", "dump.rdb"):
                there = taker.directory / name
                if there.is_dir():
                    shutil.rmtree(there)
                if (giver.directory / name).is_dir():
                    shutil.copytree(giver.directory / name, there)
                elif (giver.directory / name).exists():
                    shutil.copy(giver.directory / name, there)
            taker.restart()
            with taker.client() as client:
                assert_changed(client)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("kvstore", "redis"),
        ("kvstore", "valkey"),
        ("redis", "kvstore"),
        ("valkey", "kvstore"),
        ("kvstore", "kvstore"),
    ],
)
@pytest.mark.parametrize("rewrite", [False, True], ids=["as it grew", "rewritten"])
def test_logs_of_libraries_go_both_ways(writer: str, reader: str, rewrite: bool) -> None:
    handed_on(writer, reader, LOGGED, rewrite=rewrite)


@pytest.mark.parametrize(
    ("writer", "reader"), [("kvstore", "redis"), ("redis", "kvstore"), ("valkey", "kvstore")]
)
def test_snapshots_of_libraries_go_both_ways(writer: str, reader: str) -> None:
    handed_on(writer, reader, SNAPSHOT)


def test_a_library_that_cannot_be_loaded_ends_the_start(tmp_path: Path) -> None:
    with servers.running("kvstore", options=LOGGED) as server:
        with server.client() as client:
            client.call("FUNCTION", "LOAD", SAME)
        server.kill()
        (log,) = (server.directory / "appendonlydir").glob("*.incr.aof")
        # The same length, so that the log stays whole.
        found = log.read_bytes()
        assert b"redis.register" in found
        log.write_bytes(found.replace(b"redis.register", b"nosuc.register"))
        server.restart(wait=False)
        assert server.process.wait(20) != 0
        assert "the library of functions 'lib' cannot be loaded" in server.log()


# -- functions that take too long --------------------------------------------------------------------------

SLOW = library(
    "redis.register_function('endless', function() while true do end end)"
    " redis.register_function('writes', function() redis.call('set', 'k', 1)"
    " local n = redis.call('time')[1] + 2 while tonumber(redis.call('time')[1]) < n do end return 5 end)"
)


def wait_until_busy(client: RawClient) -> None:
    deadline = time.monotonic() + 10
    while not client.call("GET", "x").startswith(b"-BUSY"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def while_busy(server: Server, request: tuple[str, ...], conversation: list[tuple[str, ...]]) -> list[bytes]:
    with server.client() as slow, server.client() as other:
        slow.call("FUNCTION", "LOAD", "REPLACE", SLOW)
        slow.send(*request)
        wait_until_busy(other)
        found = [comparable(other.call(*words)) for words in conversation]
        return [*found, comparable(slow.read_reply_bytes())]


def test_others_are_told_which_function_runs_and_may_kill_it() -> None:
    look = [("GET", "x"), ("FUNCTION", "LIST"), ("FUNCTION", "HELP"), ("SHUTDOWN",)]
    cases: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        (("FCALL", "endless", "0"), [*look, ("SCRIPT", "KILL"), ("FUNCTION", "KILL")]),
        (
            ("EVAL", "while true do end", "0"),
            [*look, ("FUNCTION", "STATS"), ("FUNCTION", "KILL"), ("SCRIPT", "KILL")],
        ),
        (("FCALL", "writes", "0"), [*look, ("SCRIPT", "KILL"), ("FUNCTION", "KILL")]),
    ]
    found = []
    for kind in ("kvstore", "redis", "valkey"):
        with servers.running(kind, options={"busy-reply-threshold": "50"}) as server:
            found.append([while_busy(server, *case) for case in cases])
    assert found[0] == found[1] == found[2]
