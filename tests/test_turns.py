"""What meets in one turn of the loop: ends, new clients, wake-ups, calls of other threads.

Each test holds the loop back until everything it wants in one turn is there.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvstore
from kvstore.net.server import Server
from tests.rawclient import RawClient, encode
from tests.test_net import PATIENCE, on_loop, running, until


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture(params=[False, True], ids=["epoll", "selectors"])
def portable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@contextlib.contextmanager
def in_one_turn(server: Server) -> Iterator[None]:
    """What the block sends is met by the loop at once."""
    waits, go_on = threading.Event(), threading.Event()
    server.loop.call_soon_threadsafe(lambda: (waits.set(), go_on.wait(PATIENCE)))
    assert waits.wait(PATIENCE)
    try:
        yield
    finally:
        go_on.set()


@pytest.mark.parametrize("tail", [b"", b"*1", encode("PING"), encode("PING") * 2])
def test_a_descriptor_closed_and_taken_again(path: str, portable: bool, tail: bytes) -> None:
    with running(path, portable=portable) as server, RawClient(path) as killer, RawClient(path) as victim:
        number = int(victim.call("CLIENT", "ID")[1:])
        with in_one_turn(server):
            killer.send_bytes(encode("PING") + encode("CLIENT", "KILL", "ID", number))
            late = RawClient(path)
            late.send("ECHO", "late")
            victim.send_bytes(tail)
            victim.sock.shutdown(socket.SHUT_WR)
        with late:
            assert killer.read_reply_bytes() == b"+PONG\r\n"
            assert killer.read_reply_bytes() == b":1\r\n"
            assert late.read_reply_bytes() == b"$4\r\nlate\r\n"
            assert late.call("PING") == b"+PONG\r\n"
            until(lambda: len(server.connections) == 2)
            assert on_loop(server, lambda: len(server.hub.sessions)) == 2


def test_a_client_killed_before_its_request_runs(path: str, portable: bool) -> None:
    with running(path, portable=portable) as server, RawClient(path) as killer, RawClient(path) as victim:
        number = int(victim.call("CLIENT", "ID")[1:])
        with in_one_turn(server):
            killer.send("CLIENT", "KILL", "ID", number)
            victim.send("BLPOP", "q", 0)
        assert killer.read_reply_bytes() == b":1\r\n"
        assert victim.at_end()
        assert on_loop(server, lambda: (server.hub.blocked_clients, len(server.hub.sessions))) == (0, 1)
        assert killer.call("RPUSH", "q", "x") == killer.call("LLEN", "q") == b":1\r\n"


@pytest.mark.parametrize("first", ["waiter", "pusher"])
@pytest.mark.parametrize("more", [encode("ECHO", "x"), encode("ECHO", "x") * 300, b"ECHO x\r\n"])
def test_a_client_that_goes_on_sending_as_it_is_served(
    path: str, portable: bool, first: str, more: bytes
) -> None:
    with running(path, portable=portable) as server, RawClient(path) as waiter, RawClient(path) as pusher:
        waiter.send("BLPOP", "q", 0)
        until(lambda: on_loop(server, lambda: server.hub.blocked_clients) == 1)
        with in_one_turn(server):
            if first == "waiter":
                waiter.send_bytes(more)
            pusher.send("RPUSH", "q", "v")
            if first == "pusher":
                waiter.send_bytes(more)
        assert pusher.read_reply_bytes() == b":1\r\n"
        assert waiter.read_reply_bytes() == b"*2\r\n$1\r\nq\r\n$1\r\nv\r\n"
        for _ in range(more.count(b"ECHO")):
            assert waiter.read_reply_bytes() == b"$1\r\nx\r\n"
        assert waiter.call("PING") == b"+PONG\r\n"


def test_requests_of_clients_that_a_pause_of_the_same_turn_meets(path: str, portable: bool) -> None:
    with running(path, portable=portable) as server, RawClient(path) as pauser, RawClient(path) as other:
        for how in (b"", encode("PING")):  # alone in its chunk, or in a pipeline
            with in_one_turn(server):
                pauser.send_bytes(encode("CLIENT", "PAUSE", 50) + how)
                other.send("ECHO", "x")
            with in_one_turn(server):
                other.send_bytes(encode("ECHO", "y") + b"*1\r\n$4\r\nPI")
            other.send_bytes(b"NG\r\n")
            assert pauser.read_reply_bytes() == b"+OK\r\n"
            if how:
                assert pauser.read_reply_bytes() == b"+PONG\r\n"
            replies = [other.read_reply_bytes() for _ in range(3)]
            assert replies == [b"$1\r\nx\r\n", b"$1\r\ny\r\n", b"+PONG\r\n"]


def test_calls_of_many_threads_serve_those_who_wait(path: str) -> None:
    with kvstore.serve(unix=path) as server, RawClient(path) as waiter, RawClient(path) as reader:
        reader.call("SUBSCRIBE", "news")
        waiter.send_bytes(encode("BLPOP", "q", 0) * 400)
        results: list[int] = []

        def push() -> None:
            for _ in range(100):
                results.append(server.call(lambda store: store.rpush("q", "v"), timeout=PATIENCE))
                server.call(lambda store: store.publish("news", "x"), timeout=PATIENCE)

        threads = [threading.Thread(target=push) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(400):
            assert waiter.read_reply_bytes() == b"*2\r\n$1\r\nq\r\n$1\r\nv\r\n"
            assert reader.read_reply_bytes() == b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"
        for thread in threads:
            thread.join()
        assert results == [1] * 400
