"""Functions among several clients, beside real servers: while one runs, is paused, is watched, or may not be called."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("lupa")

from tests import servers
from tests.rawclient import RawClient
from tests.servers import Server
from tests.test_functions import comparable, library
from tests.test_functions_files import wait_until_busy

LIBRARY = library(
    """
local function call(keys, args) return redis.call(unpack(args)) end
redis.register_function('w', call)
redis.register_function{function_name='r', flags={'no-writes'}, callback=call}
redis.register_function('endless', function() while true do end end)
redis.register_function('caught', function() while true do pcall(function() while true do end end) end end)
redis.register_function{function_name='reading', flags={'no-writes'}, callback=function() while true do end end}
"""
)
KINDS = ("kvstore", "redis", "valkey")
Words = tuple[str, ...]


def answers(kind: str, talk: Callable[[Server, RawClient], list[object]], protocol: int = 2) -> list[object]:
    """What a conversation with a new server gives, where the library is loaded."""
    options = {"busy-reply-threshold": "50"}
    with servers.running(kind, options=options) as server, server.client() as client:
        if protocol == 3:
            client.hello3()
        assert client.call("FUNCTION", "LOAD", LIBRARY) == b"$3\r\nlib\r\n"
        return talk(server, client)


def without_durations(reply: bytes) -> bytes:
    return re.sub(rb"(duration_ms\r\n):\d+", rb"\1:-", reply)


RUNNING: list[Words] = [
    ("FCALL", "ENDLESS", "1", "k", "a"),
    ("FCALL", "caught", "0"),
    ("FCALL_RO", "reading", "2", "k", "l"),
]


@pytest.mark.parametrize("protocol", [2, 3])
def test_whoever_asks_is_told_what_runs_until_somebody_kills_it(protocol: int) -> None:
    def talk(server: Server, client: RawClient) -> list[object]:
        found: list[object] = []
        with server.client() as other:
            if protocol == 3:
                other.hello3()
            for words in RUNNING:
                client.send(*words)
                wait_until_busy(other)
                for asked in (
                    *(("FUNCTION", "STATS"), ("FUNCTION", "DUMP"), ("SCRIPT", "KILL")),
                    *(("MULTI",), ("FUNCTION", "STATS"), ("EXEC",), ("FUNCTION", "KILL")),
                ):
                    found.append(without_durations(comparable(other.call(*asked))))
                found.append(client.read_reply_bytes())
                found.append(client.call("FUNCTION", "STATS"))
        return found

    ours, *theirs = (answers(kind, talk, protocol) for kind in KINDS)
    assert [ours, ours] == theirs


def test_a_function_that_is_killed_in_a_transaction_ends_alone() -> None:
    def talk(server: Server, client: RawClient) -> list[object]:
        for words in (("MULTI",), ("SET", "a", "1"), ("FCALL", "endless", "0"), ("GET", "a")):
            client.call(*words)
        with server.client() as other:
            client.send("EXEC")
            wait_until_busy(other)
            return [other.call("FUNCTION", "KILL"), client.read_reply_bytes(), other.call("GET", "a")]

    ours, *theirs = (answers(kind, talk) for kind in KINDS)
    assert [ours, ours] == theirs


PAUSED: list[Words] = [
    *(("FCALL", "r", "0", "get", "k"), ("FCALL_RO", "r", "0", "get", "k"), ("FUNCTION", "STATS")),
    *(("FUNCTION", "DUMP"), ("FCALL", "w", "0", "get", "k"), ("FCALL", "nosuch", "0")),
    *(("FUNCTION", "DELETE", "nosuch"), ("FUNCTION", "LOAD", "x"), ("FUNCTION", "RESTORE", "x")),
]


def test_a_pause_of_writes_puts_off_what_may_write() -> None:
    def talk(server: Server, client: RawClient) -> list[object]:
        waits: list[object] = []
        with server.client() as paused:
            for words in PAUSED:
                client.call("CLIENT", "PAUSE", "60000", "WRITE")
                paused.send(*words)
                client.call("PING")
                client.call("PING")  # by now the server has had a look at what was sent before the first
                waits.append(not paused.read_available())
                client.call("CLIENT", "UNPAUSE")
                if waits[-1]:
                    paused.read_reply_bytes()
        return waits

    ours, *theirs = (answers(kind, talk) for kind in KINDS)
    assert [ours, ours] == theirs and True in ours and False in ours


def test_monitors_see_calls_and_what_they_call() -> None:
    def talk(server: Server, client: RawClient) -> list[object]:
        with server.client() as monitor:
            monitor.call("MONITOR")
            for words in (
                *(("FCALL", "w", "1", "k", "set", "k", "v"), ("FCALL_RO", "r", "1", "k", "get", "k")),
                *(
                    ("FCALL", "nosuch", "0"),
                    ("FUNCTION", "STATS"),
                    ("FUNCTION", "DELETE", "x"),
                    ("ECHO", "end"),
                ),
            ):
                client.call(*words)
            seen: list[object] = []
            while not seen or b'"end"' not in seen[-1]:  # type: ignore[operator]
                seen.append(re.sub(rb"[\d.]+ \[(\d+) (lua)?.*?\]", rb"[\1 \2]", monitor.read_reply_bytes()))
            return seen

    ours, *theirs = (answers(kind, talk) for kind in KINDS)
    assert [ours, ours] == theirs


def test_keys_that_a_function_reads_for_a_client_are_tracked() -> None:
    def talk(server: Server, client: RawClient) -> list[object]:
        client.call("CLIENT", "TRACKING", "ON")
        found: list[object] = []
        with server.client() as other:
            for words in (("FCALL", "w", "1", "q", "get", "k"), ("FCALL_RO", "r", "1", "k", "get", "k")):
                client.call(*words)
                other.call("SET", "q", "1")
                other.call("SET", "k", "1")
                client.send("PING")
                found.append(client.read_reply_bytes())
                while found[-1] != b"+PONG\r\n":
                    found.append(client.read_reply_bytes())
        return found

    assert answers("kvstore", talk, 3) == answers("valkey", talk, 3)


def test_users_are_refused_and_the_log_tells_why() -> None:
    def talk(server: Server, client: RawClient) -> list[object]:
        client.call("ACL", "SETUSER", "u", "on", "nopass", "+@all", "-config", "~mine*")
        found: list[object] = []
        with server.client() as user:
            user.call("AUTH", "u", "x")
            for words in (
                *(("FCALL", "w", "0", "get", "other"), ("FCALL", "w", "1", "other", "get", "mine")),
                *(("FCALL", "w", "1", "mine", "get", "mine"), ("FCALL", "w", "0", "config", "get", "x")),
                ("FCALL", "nosuch", "1", "other"),
            ):
                found.append(comparable(user.call(*words)))
        log = client.call("ACL", "LOG")
        found += re.findall(rb"(?:count|reason|context|object|username)\r\n(?:\$\d+\r\n)?(.*?)\r\n", log)
        for arguments in (("1", "other"), ("1", "mine"), ("0",), ("x", "other")):
            found.append(client.call("ACL", "DRYRUN", "u", "FCALL", "w", *arguments))
        return found

    assert answers("kvstore", talk) == answers("valkey", talk)
