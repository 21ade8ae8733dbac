"""MONITOR: the lines that it shows, and the commands that it leaves out."""

from __future__ import annotations

import re

import pytest

from tests.rawclient import RawClient
from tests.servers import Server

_TIME = re.compile(rb"^\+\d+\.\d{6} ")
_SOCKET = re.compile(rb"unix:[^\]]*|127\.0\.0\.1:\d+")

SEQUENCES: dict[str, list[tuple[bytes | str, ...]]] = {
    "plain commands": [
        ("SET", "k", "v"),
        ("get", "k"),
        ("GET", "nothing"),
        ("INCR", "k"),
        ("Lpush", "k", "x"),
    ],
    "bytes": [("SET", b'\x00\xff"\\ \r\n\t\a\b\x7f~', "é".encode()), ("ECHO", "")],
    "refused commands": [("NOSUCH",), ("GET",), ("CLIENT", "NOSUCH"), ("CLIENT",), ("PING",)],
    "commands of administrators": [
        ("CONFIG", "GET", "port"),
        ("CLIENT", "LIST"),
        ("CLIENT", "ID"),
        ("INFO",),
    ],
    "databases": [("SELECT", "3"), ("SET", "k", "v"), ("SELECT", "0")],
    "a transaction": [("MULTI",), ("SET", "k", "1"), ("INCR", "k"), ("EXEC",), ("PING",)],
    "a transaction that is discarded": [("MULTI",), ("SET", "k", "1"), ("DISCARD",)],
    "a transaction that fails": [("WATCH", "k"), ("UNWATCH",), ("MULTI",), ("NOSUCH",), ("EXEC",), ("EXEC",)],
    "scripts": [
        ("EVAL", "redis.call('set', KEYS[1], ARGV[1]); return redis.call('get', KEYS[1])", "1", "k", "v"),
        ("EVAL", "return redis.pcall('incr', 'k')", "0"),
        ("EVAL", "return 1", "0"),
    ],
    "scripts in a transaction": [("MULTI",), ("EVAL", "return redis.call('ping')", "0"), ("EXEC",)],
    "blocking commands": [("BLPOP", "nothing", "0.01"), ("RPUSH", "l", "1"), ("BLPOP", "l", "0")],
    "messages": [("PUBLISH", "c", "m"), ("SUBSCRIBE", "c"), ("PING",), ("UNSUBSCRIBE", "c")],
    "passwords": [("AUTH", "secret"), ("AUTH", "default", "secret"), ("HELLO", "2", "AUTH", "default", "x")],
    "passwords and more": [
        ("HELLO", "2", "SETNAME", "x", "AUTH", "default", "x", "SETNAME", "y"),
        ("HELLO",),
    ],
    "RESET and QUIT": [("RESET",), ("QUIT",)],
}


def watch(
    monitor: RawClient, server: Server, commands: list[tuple[bytes | str, ...]], *, tcp: bool
) -> list[bytes]:
    """The lines that the monitor shows while a client sends the commands."""
    with server.client(tcp=tcp) as client:
        for words in commands:
            client.call(*words)
    with server.client() as client:
        client.call("ECHO", "the end")
    lines: list[bytes] = []
    while True:
        line = monitor.read_reply_bytes()
        if b"the end" in line:
            return lines
        assert _TIME.match(line), line
        lines.append(_SOCKET.sub(b"client", _TIME.sub(b"", line)))


def shown(server: Server, commands: list[tuple[bytes | str, ...]], *, tcp: bool = False) -> list[bytes]:
    with server.client() as client:
        client.call("FLUSHALL")
    with server.client() as monitor:
        assert monitor.call("MONITOR") == b"+OK\r\n"
        return watch(monitor, server, commands, tcp=tcp)


@pytest.mark.parametrize("name", SEQUENCES)
def test_lines_are_those_of_a_real_server(name: str, kvstore_server: Server, valkey_server: Server) -> None:
    assert shown(kvstore_server, SEQUENCES[name]) == shown(valkey_server, SEQUENCES[name])


def test_lines_name_the_client(any_server: Server) -> None:
    for tcp in (False, True):
        with any_server.client() as monitor, any_server.client(tcp=tcp) as client:
            monitor.call("MONITOR")
            client.call("PING")
            line = monitor.read_reply_bytes()
            if tcp:
                host, port = client.sock.getsockname()
                assert f" [0 {host}:{port}] " in line.decode()
            else:
                assert f" [0 unix:{any_server.unix}] " in line.decode()


def test_a_monitor_sees_itself_and_others_until_reset(kvstore_server: Server, valkey_server: Server) -> None:
    def play(server: Server) -> list[bytes]:
        replies = []
        with server.client() as monitor, server.client() as other:
            replies.append(monitor.call("MONITOR"))
            monitor.send("MONITOR")  # no answer to the second
            replies.append(monitor.call("PING"))
            replies.append(monitor.read_reply_bytes())
            other.call("ECHO", "x")
            replies.append(monitor.read_reply_bytes())
            monitor.send("RESET")
            replies.append(monitor.read_reply_bytes())
            other.call("ECHO", "y")
            replies.append(monitor.call("ECHO", "z"))
        return [_SOCKET.sub(b"client", _TIME.sub(b"", reply)) for reply in replies]

    assert play(kvstore_server) == play(valkey_server)


def test_a_monitor_under_resp3_gets_the_same_lines(kvstore_server: Server, valkey_server: Server) -> None:
    def play(server: Server) -> list[bytes]:
        with server.client() as monitor:
            monitor.hello3()
            monitor.call("MONITOR")
            return watch(
                monitor, server, [("SET", "k", "v"), ("EVAL", "return redis.call('get', 'k')", "0")], tcp=True
            )

    assert play(kvstore_server) == play(valkey_server)


def test_nothing_is_shown_after_the_last_monitor_has_left(kvstore_server: Server) -> None:
    with kvstore_server.client() as monitor:
        monitor.call("MONITOR")
    with kvstore_server.client() as client:
        assert client.call("ECHO", "x") == b"$1\r\nx\r\n"
