"""Fifty connections blocked in BRPOP: each push wakes the one that has waited longest, and only that one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.apps.programs import Program, wait_until
from tests.rawclient import RawClient, encode
from tests.servers import Server

pytestmark = pytest.mark.timeout(60)

CLIENTS = 50


def blocked_clients(observer: RawClient) -> int:
    info = observer.call("INFO", "clients").decode()
    return int(info.split("blocked_clients:")[1].split()[0])


def are_blocked(observer: RawClient, count: int) -> bool:
    return blocked_clients(observer) == count


def woken_with(key: str, element: str) -> bytes:
    return encode(key, element)  # a reply of two bulk strings looks like a request


@pytest.fixture
def observer(server: Server) -> Iterator[RawClient]:
    with server.client() as client:
        yield client


@pytest.fixture(params=("unix", "tcp"))
def waiting(request: pytest.FixtureRequest, server: Server, observer: RawClient) -> Iterator[list[RawClient]]:
    """Connections blocked on one list, in the order in which they blocked."""
    with ExitStack() as stack:
        clients = []
        for number in range(1, CLIENTS + 1):
            client = stack.enter_context(server.client(tcp=request.param == "tcp"))
            client.send("BRPOP", "another", "queue", 0)
            wait_until(f"{number} clients are blocked", partial(are_blocked, observer, number))
            clients.append(client)
        yield clients


def test_each_push_wakes_the_one_that_has_waited_longest(
    waiting: list[RawClient], observer: RawClient
) -> None:
    for number, client in enumerate(waiting):
        observer.call("LPUSH", "queue", number)
        assert client.read_reply_bytes() == woken_with("queue", str(number))
        assert blocked_clients(observer) == CLIENTS - number - 1
        assert not [reply for other in waiting for reply in other.read_available()]
    assert observer.call("EXISTS", "queue") == b":0\r\n"


def test_one_push_of_many_elements_serves_all_in_their_order(
    waiting: list[RawClient], observer: RawClient
) -> None:
    assert observer.call("LPUSH", "queue", *range(CLIENTS + 2)) == b":%d\r\n" % (CLIENTS + 2)
    assert [client.read_reply_bytes() for client in waiting] == [
        woken_with("queue", str(number)) for number in range(CLIENTS)
    ]
    assert blocked_clients(observer) == 0
    assert observer.call("LRANGE", "queue", 0, -1) == encode(str(CLIENTS + 1), str(CLIENTS))


def test_pushes_in_a_pipeline_of_several_clients_serve_all_in_their_order(
    waiting: list[RawClient], server: Server
) -> None:
    with server.client() as one, server.client() as other:
        for producer, key in ((one, "queue"), (other, "another")):
            half = range(CLIENTS // 2)
            producer.pipeline(*(("LPUSH", key, f"{key} {number}") for number in half))
    for number, client in enumerate(waiting):
        key = "queue" if number < CLIENTS // 2 else "another"
        assert client.read_reply_bytes() == woken_with(key, f"{key} {number % (CLIENTS // 2)}")


def test_those_who_left_are_passed_over(waiting: list[RawClient], observer: RawClient) -> None:
    for client in waiting[::2]:
        client.close()
    wait_until("the server has seen them go", lambda: blocked_clients(observer) == CLIENTS // 2)
    observer.call("LPUSH", "queue", *range(CLIENTS // 2))
    replies = [client.read_reply_bytes() for client in waiting[1::2]]
    assert replies == [woken_with("queue", str(number)) for number in range(CLIENTS // 2)]


BLOCKING_POP = """
import sys, redis
client = redis.Redis.from_url(sys.argv[1], protocol=int(sys.argv[2]), socket_timeout=30)
print("waits", flush=True)
print("popped", client.blpop(["first", "second"], timeout=20), flush=True)
print("moved", client.blmove("first", "third", 20, "LEFT", "RIGHT"), flush=True)
print("lowest", client.bzpopmin("zset", timeout=20), flush=True)
print("nothing", client.blpop("never", timeout=0.05), flush=True)
"""


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_in_another_process_waits_for_what_this_one_pushes(
    server: Server, observer: RawClient, tmp_path: Path, protocol: int
) -> None:
    pytest.importorskip("redis")
    url = server.unix_url if protocol == 2 else server.tcp_url
    with Program(tmp_path, sys.executable, "-c", BLOCKING_POP, url, str(protocol)) as child:
        child.wait_for("it is blocked in BLPOP", lambda: blocked_clients(observer) == 1)
        observer.call("RPUSH", "second", "a")
        child.wait_for_text("popped")
        child.wait_for("it is blocked in BLMOVE", lambda: blocked_clients(observer) == 1)
        observer.call("RPUSH", "first", "b")
        child.wait_for_text("moved")
        child.wait_for("it is blocked in BZPOPMIN", lambda: blocked_clients(observer) == 1)
        observer.call("ZADD", "zset", 1.5, "c")
        assert child.end() == 0, child.output()
        pair = "(b'second', b'a')" if protocol == 2 else "[b'second', b'a']"
        lowest = "(b'zset', b'c', 1.5)" if protocol == 2 else "[b'zset', b'c', 1.5]"
        assert child.lines() == ["waits", f"popped {pair}", "moved b'b'", f"lowest {lowest}", "nothing None"]
    assert observer.call("LRANGE", "third", 0, -1) == encode("b")


def test_a_killed_process_leaves_no_blocked_client_that_eats_elements(
    server: Server, observer: RawClient, tmp_path: Path
) -> None:
    pytest.importorskip("redis")
    argv = (sys.executable, "-c", BLOCKING_POP, server.unix_url, "2")
    with Program(tmp_path, *argv) as child:
        child.wait_for("it is blocked", lambda: blocked_clients(observer) == 1)
        child.process.kill()
        child.process.wait(10)
        wait_until("the server has seen it go", lambda: blocked_clients(observer) == 0)
    assert observer.call("RPUSH", "second", "kept") == b":1\r\n"
    assert observer.call("LLEN", "second") == b":1\r\n"
