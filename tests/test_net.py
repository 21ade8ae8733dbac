"""The server over real sockets: addresses, limits, slow and half-closed peers, timers, clean ends."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import re
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import kvstore
from kvstore.commands.config import Config, ConfigError
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.net.listener import ListenError, bind_tcp, bind_unix
from kvstore.net.server import Server
from kvstore.serving import ServerThread, serve
from tests import servers
from tests.rawclient import RawClient, encode

PATIENCE = 10.0  # seconds that a test waits for what must happen


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; fail when it does not in good time."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture(params=[False, True], ids=["epoll", "selectors"])
def portable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@contextlib.contextmanager
def looping(server: Server) -> Iterator[Server]:
    """The server's loop on a thread."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextlib.contextmanager
def running(path: str, *, portable: bool = False, **directives: object) -> Iterator[Server]:
    config = Config()
    config.assign("port", 0)
    config.assign("unixsocket", path)
    for name, value in directives.items():
        config.assign(name, value)
    server = Server(config=config, portable=portable)
    server.listen()
    with looping(server):
        yield server


def on_loop(server: Server, fn: Callable[[], object]) -> object:
    """The result of a call made in the loop's thread."""
    done = threading.Event()
    result: list[object] = []
    server.loop.call_soon_threadsafe(lambda: (result.append(fn()), done.set()))
    assert done.wait(PATIENCE)
    return result[0]


# -- the loop ----------------------------------------------------------------------------------------


def test_many_clients_pipelines_and_large_values(path: str, portable: bool) -> None:
    with running(path, portable=portable) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(path)) for _ in range(50)]
        for number, client in enumerate(clients):
            client.send_bytes(
                b"".join(encode("SET", f"k{number}", n) + encode("GET", f"k{number}") for n in range(20))
            )
        for client in clients:
            for n in range(20):
                assert client.read_reply_bytes() == b"+OK\r\n"
                assert client.read_reply_bytes() == b"$%d\r\n%d\r\n" % (len(str(n)), n)
        large = random.randbytes(5_000_000)
        assert clients[0].call("SET", "large", large) == b"+OK\r\n"
        assert clients[1].call("GET", "large") == b"$5000000\r\n%b\r\n" % large
        until(lambda: server.host.reads and server.host.input_bytes > 5_000_000 < server.host.output_bytes)


def test_a_client_may_send_a_long_pipeline_before_it_reads(path: str, portable: bool) -> None:
    with running(path, portable=portable), RawClient(path) as client:
        client.call("SET", "k", "v" * 10_000)
        client.send_bytes(encode("GET", "k") * 2000)  # 20 MB of replies that nobody reads yet
        expected = b"$10000\r\n" + b"v" * 10_000 + b"\r\n"
        assert all(client.read_reply_bytes() == expected for _ in range(2000))
        assert client.call("PING") == b"+PONG\r\n"


def test_timers_and_blocked_clients_are_served_in_time(path: str, portable: bool) -> None:
    with running(path, portable=portable), RawClient(path) as one, RawClient(path) as other:
        assert one.call("BLPOP", "q", "0.05") == b"*-1\r\n"
        one.send("BLPOP", "q", "0")
        other.call("RPUSH", "q", "x")
        assert one.read_reply_bytes() == b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n"
        other.call("SET", "k", "v", "PX", 30)
        until(lambda: other.call("DBSIZE") == b":0\r\n")


def test_other_threads_reach_the_loop(path: str, portable: bool) -> None:
    with running(path, portable=portable) as server:
        thread = on_loop(server, threading.get_ident)
        assert thread != threading.get_ident()
        assert on_loop(server, threading.get_ident) == thread


def test_a_bug_in_a_command_costs_nobody_else_anything(path: str, portable: bool) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug, made for this test")

    with running(path, portable=portable) as server, RawClient(path) as good:
        with RawClient(path) as one, RawClient(path) as other:
            one.call("PING")
            other.call("PING")
            for session in list(server.hub.sessions.values())[1:]:
                session.reply = broken
            one.send("PING")
            other.send_bytes(encode("PING") * 2)
            assert one.at_end() and other.at_end()
        assert good.call("PING") == b"+PONG\r\n"
        assert len(server.connections) == 1 and server.hub.current is None


def test_replies_are_sent_after_the_hooks_of_the_turn(path: str) -> None:
    with running(path) as server, RawClient(path) as client:
        seen: list[bytes] = []
        on_loop(
            server,
            lambda: server.loop.before_send.append(
                lambda: seen.extend(filter(None, [server.ctx.database(0).get("k")]))
            ),
        )
        assert client.call("SET", "k", "v") == b"+OK\r\n"
        assert seen[:1] == [b"v"]


# -- ends of connections -----------------------------------------------------------------------------


def test_a_half_closed_client_gets_its_replies(any_server: servers.Server) -> None:
    with RawClient(any_server.unix) as client:
        client.send_bytes(encode("ECHO", "a" * 1000) * 10)
        client.sock.shutdown(socket.SHUT_WR)
        for _ in range(10):
            assert client.read_reply_bytes() == b"$1000\r\n" + b"a" * 1000 + b"\r\n"
        assert client.at_end()


def test_a_half_closed_client_gets_even_what_it_reads_late(path: str, portable: bool) -> None:
    with running(path, portable=portable), RawClient(path) as client:
        client.call("SET", "k", "v" * 3_000_000)
        client.send("GET", "k")
        client.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
        assert client.read_reply_bytes() == b"$3000000\r\n" + b"v" * 3_000_000 + b"\r\n"
        assert client.at_end()


def test_a_blocked_client_that_closes_its_side_is_closed(any_server: servers.Server) -> None:
    with RawClient(any_server.unix) as client:
        client.send("BLPOP", "nothing", "0")
        time.sleep(0.02)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.at_end()


def test_nothing_is_left_of_clients_that_are_gone(path: str, portable: bool) -> None:
    with running(path, portable=portable) as server:
        for request in (
            ("PING",),
            ("SUBSCRIBE", "c"),
            ("BLPOP", "k", "0"),
            ("MONITOR",),
            ("WATCH", "k"),
            ("GET",),
        ):
            with RawClient(path) as client:
                client.send(*request)
                time.sleep(0.01)
        until(lambda: not server.connections)
        assert not server.hub.sessions and not server.ctx.live
        with RawClient(path) as client:
            client.send_bytes(b"*1\r\n$100\r\nabc")
        with RawClient(path) as client:
            client.call("SET", "k", "v" * 1_000_000)
            client.send("GET", "k")
        until(lambda: not server.connections)


def test_a_reset_of_the_connection_harms_nobody(path: str) -> None:
    with running(path, port=0) as server, RawClient(path) as good:
        port = int(str(on_loop(server, lambda: server.listen_tcp("127.0.0.1", 0))))
        for _ in range(20):
            bad = RawClient(("127.0.0.1", port))
            bad.send_bytes(encode("SET", "k", "v" * 100_000) + encode("GET", "k") * 20)
            bad.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            bad.close()
        assert good.call("PING") == b"+PONG\r\n"
        until(lambda: len(server.connections) == 1)


def test_quit_and_protocol_errors_are_answered_before_the_end(any_server: servers.Server) -> None:
    for request, reply in (
        (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
        (b"PING\r\n*x\r\n", b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
    ):
        with RawClient(any_server.unix) as client:
            client.send_bytes(request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while data := client.sock.recv(4096):
                    answer += data
            assert answer == reply


def test_no_file_is_left_open_and_no_warning_given(path: str) -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect()
    before = files()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            with running(path), contextlib.ExitStack() as stack:
                for _ in range(5):
                    stack.enter_context(RawClient(path)).call("SET", "k", "v")
            with serve() as server, RawClient(("127.0.0.1", server.port)) as client:
                client.call("PING")
        gc.collect()
    assert files() == before
    assert not caught
    assert not os.path.exists(path)


# -- limits ------------------------------------------------------------------------------------------


def test_more_clients_than_allowed_are_told_so(path: str) -> None:
    with running(path, maxclients=2) as server, RawClient(path) as one, RawClient(path) as two:
        assert one.call("PING") == two.call("PING") == b"+PONG\r\n"
        with RawClient(path) as three:
            assert three.read_reply_bytes() == b"-ERR max number of clients reached\r\n"
            assert three.at_end()
        assert server.host.rejected_connections == 1
        assert one.call("CONFIG", "SET", "maxclients", 3) == b"+OK\r\n"
        with RawClient(path) as three:
            assert three.call("PING") == b"+PONG\r\n"


def test_more_clients_than_the_system_allows_are_refused_by_config_set(path: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > 4_000_000 or os.geteuid() == 0:
        limit = None  # the superuser may raise any limit
    else:
        limit = hard
    with running(path) as server, RawClient(path) as client:
        wanted = (limit or 2000) + 1
        reply = client.call("CONFIG", "SET", "maxclients", wanted)
        if limit is None:
            assert reply == b"+OK\r\n"
        else:
            assert (
                b"The operating system is not able to handle the specified number of clients, try with"
                in reply
            )
            assert server.config["maxclients"] == 10000
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_idle_clients_are_closed_but_not_those_that_wait(path: str) -> None:
    clock = ManualClock()
    config = Config()
    for name, value in (("port", 0), ("unixsocket", path), ("timeout", 10)):
        config.assign(name, value)
    server = Server(Context(Database, clock=clock), config)
    server.listen()
    with looping(server), contextlib.ExitStack() as stack:
        idle, busy, blocked, subscribed, monitor = (stack.enter_context(RawClient(path)) for _ in range(5))
        idle.call("PING")
        busy.call("PING")
        blocked.send("BLPOP", "k", "0")
        subscribed.call("SUBSCRIBE", "c")
        monitor.call("MONITOR")
        until(lambda: len(server.connections) == 5)
        clock.advance(9)
        busy.call("PING")
        clock.advance(3)
        busy.call("PING")
        until(idle.at_end)
        busy.call("RPUSH", "k", "x")
        assert blocked.read_reply_bytes() == b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n"
        assert len(server.connections) == 4


def test_an_unfinished_request_past_the_query_buffer_limit_closes_the_client(path: str) -> None:
    with running(path, client_query_buffer_limit="1mb") as server, RawClient(path) as good:
        words = b"*2000\r\n" + b"$1000\r\n%b\r\n" % (b"a" * 1000) * 1500
        for data in (b"*2\r\n$4\r\nECHO\r\n$100000000\r\n" + b"x" * 2_000_000, words):
            with RawClient(path) as client, contextlib.suppress(OSError):
                client.send_bytes(data)
                assert client.at_end()
        until(lambda: server.host.input_limit_closes == 2)
        assert good.call("PING") == b"+PONG\r\n"


def test_queued_commands_count_for_the_query_buffer_limit(path: str) -> None:
    with running(path, client_query_buffer_limit="1mb") as server, RawClient(path) as client:
        client.call("MULTI")
        with contextlib.suppress(OSError, EOFError):
            for _ in range(300):
                assert client.call("SET", "k", "v" * 10_000) == b"+QUEUED\r\n"
        until(lambda: server.host.input_limit_closes == 1)


def test_what_a_blocked_client_sends_waits_and_counts(path: str) -> None:
    with (
        running(path, client_query_buffer_limit="1mb") as server,
        RawClient(path) as client,
        RawClient(path) as other,
    ):
        client.send("BLPOP", "k", "0")
        client.send_bytes(encode("PING") * 100)
        time.sleep(0.02)
        other.call("RPUSH", "k", "x")
        assert client.read_reply_bytes() == b"*2\r\n$1\r\nk\r\n$1\r\nx\r\n"
        assert all(client.read_reply_bytes() == b"+PONG\r\n" for _ in range(100))
        client.send("BLPOP", "k", "0")
        with contextlib.suppress(OSError):
            client.send_bytes(encode("PING") * 200_000)
        until(lambda: server.host.input_limit_closes == 1)


def test_the_hard_output_limit_closes_a_client_at_once(path: str) -> None:
    with (
        running(path, client_output_buffer_limit="normal 1mb 0 0") as server,
        RawClient(path) as client,
        RawClient(path) as good,
    ):
        client.call("SET", "k", "v" * 100_000)
        assert len(client.call("GET", "k")) > 100_000
        with contextlib.suppress(OSError):
            client.send_bytes(encode("GET", "k") * 100)
        until(lambda: server.host.output_limit_closes == 1)
        assert good.call("PING") == b"+PONG\r\n"


def test_a_long_pipeline_does_not_pile_up_more_than_the_limit(path: str) -> None:
    with running(path, client_output_buffer_limit="normal 20mb 0 0") as server, RawClient(path) as client:
        client.call("SET", "k", "v" * 1_000_000)
        most = 0

        def watch(*_: object) -> None:
            nonlocal most
            most = max(
                most,
                *(
                    connection.held + sum(map(len, connection.session.out))
                    for connection in server.connections
                ),
            )

        on_loop(server, lambda: setattr(server.hub, "was_slow", watch))
        client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
        with contextlib.suppress(OSError):
            client.send_bytes(encode("GET", "k") * 2500)  # in one read: replies of 2.5 GB
        until(lambda: server.host.output_limit_closes == 1)
        assert 20_000_000 < most < 200_000_000


def test_a_subscriber_that_does_not_read_is_closed_and_the_publisher_is_not(path: str) -> None:
    with (
        running(path, client_output_buffer_limit="pubsub 1mb 0 0") as server,
        RawClient(path) as slow,
        RawClient(path) as fast,
    ):
        slow.call("SUBSCRIBE", "c")
        for _ in range(300):
            fast.call("PUBLISH", "c", "m" * 10_000)
        assert server.host.output_limit_closes == 1
        assert fast.call("PUBLISH", "c", "m") == b":0\r\n"
        # A client of another class may leave as much unread.
        fast.call("SET", "k", "v" * 100_000)
        fast.send_bytes(encode("GET", "k") * 100)
        assert all(len(fast.read_reply_bytes()) > 100_000 for _ in range(100))


def test_the_soft_output_limit_closes_a_client_after_its_time(path: str) -> None:
    clock = ManualClock()
    config = Config()
    for name, value in (
        ("port", 0),
        ("unixsocket", path),
        ("client-output-buffer-limit", "pubsub 0 100kb 5"),
    ):
        config.assign(name, value)
    server = Server(Context(Database, clock=clock), config)
    server.listen()
    with looping(server), RawClient(path) as slow, RawClient(path) as recovers, RawClient(path) as fast:
        slow.call("SUBSCRIBE", "c")
        recovers.call("SUBSCRIBE", "c")
        for _ in range(100):
            fast.call("PUBLISH", "c", "m" * 10_000)
        until(lambda: len(server.slow) == 2)
        clock.advance(3)
        for _ in range(100):
            recovers.read_reply_bytes()
        until(lambda: len(server.slow) == 1)
        clock.advance(3)
        fast.call("PING")
        until(lambda: server.host.output_limit_closes == 1)
        assert fast.call("PUBLISH", "c", "x") == b":1\r\n"
        assert b"message" in recovers.read_reply_bytes()


def held(client: RawClient, name: str) -> int:
    """What the client of a name holds, as CLIENT LIST tells."""
    found = re.search(rb" name=%b .* tot-mem=(\d+)" % name.encode(), client.call("CLIENT", "LIST"))
    return int(found[1]) if found else -1


@pytest.mark.parametrize("limit", ["2mb", "20%"])
def test_the_clients_that_hold_most_are_closed_until_all_keep_the_limit(path: str, limit: str) -> None:
    with running(path, maxmemory="10mb") as server, ExitStack() as stack:
        asks, *others = (stack.enter_context(RawClient(path)) for _ in range(5))
        small, large, kept, sends = others
        for name, client in (("small", small), ("large", large), ("kept", kept), ("sends", sends)):
            client.call("CLIENT", "SETNAME", name)
        asks.call("SET", "k", bytes(200_000))
        small.send_bytes(encode("GET", "k") * 10)
        large.send_bytes(encode("GET", "k") * 40)
        assert kept.call("CLIENT", "NO-EVICT", "on") == b"+OK\r\n"
        kept.send_bytes(encode("GET", "k") * 10)
        sends.send_bytes(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n" + bytes(2_500_000))
        until(lambda: held(asks, "small") > 1_000_000 and held(asks, "large") > 7_000_000)
        until(lambda: held(asks, "kept") > 1_000_000 and held(asks, "sends") >= 2_500_000)
        sums = [asks.call("INFO", "memory"), asks.call("MEMORY", "STATS")]
        told = [int(re.search(rb"clients.normal\W*:(\d+)", each)[1]) for each in sums]
        assert told == [sum(held(asks, name) for name in ("small", "large", "kept", "sends"))] * 2
        assert asks.call("CONFIG", "SET", "maxmemory-clients", limit) == b"+OK\r\n"
        until(lambda: server.host.evicted_clients == 3)
        assert b"evicted_clients:3" in asks.call("INFO", "stats")
        assert [held(asks, name) for name in ("small", "large", "sends")] == [-1, -1, -1]
        for _ in range(10):
            kept.read_reply_bytes()
        assert kept.call("PING") == asks.call("PING") == b"+PONG\r\n"


def test_a_client_that_has_to_log_in_may_not_pile_up_output(path: str) -> None:
    with running(path, requirepass="secret") as server, RawClient(path) as client:
        assert client.call("PING") == b"-NOAUTH Authentication required.\r\n"
        client.send_bytes(encode("PING") * 500)
        until(lambda: server.host.output_limit_closes == 1)


def test_limits_of_requests_follow_proto_max_bulk_len(path: str) -> None:
    with running(path, proto_max_bulk_len="1mb"), RawClient(path) as client:
        client.send_bytes(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
        assert client.read_reply_bytes() == b"-ERR Protocol error: invalid bulk length\r\n"
        assert client.at_end()


# -- addresses ---------------------------------------------------------------------------------------


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_on_several_addresses_of_both_families(tmp_path: Path) -> None:
    port = servers.free_port()
    config = Config()
    for name, value in (("port", port), ("bind", ["127.0.0.1", "-::1", "-192.0.2.77"])):
        config.assign(name, value)
    server = Server(config=config)
    server.listen()
    with looping(server), RawClient(("127.0.0.1", port)) as client:
        assert client.call("PING") == b"+PONG\r\n"
        with socket.create_connection(("::1", port)) as sock:
            sock.sendall(b"CLIENT LIST\r\n")
            time.sleep(0.05)
            listing = sock.recv(4096).decode()
            assert f"addr=[::1]:{sock.getsockname()[1]} laddr=[::1]:{port} " in listing
            assert f"addr=127.0.0.1:{client.sock.getsockname()[1]} laddr=127.0.0.1:{port} " in listing
        assert client.call("CONFIG", "SET", "port", "0") == b"+OK\r\n"
        with pytest.raises(ConnectionRefusedError):
            RawClient(("127.0.0.1", port))
        assert client.call("CONFIG", "SET", "port", port, "bind", "127.0.0.1") == b"+OK\r\n"
        RawClient(("127.0.0.1", port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", port))


def test_an_address_in_use_is_refused_and_an_optional_one_passed_over() -> None:
    taken = bind_tcp("127.0.0.1", 0, 10)
    assert taken is not None
    with taken, pytest.raises(ListenError, match="Address already in use"):
        bind_tcp("127.0.0.1", taken.getsockname()[1], 10)
    with pytest.raises(ListenError, match="192\\.0\\.2\\.77"):
        bind_tcp("192.0.2.77", 0, 10)
    assert bind_tcp("-192.0.2.77", 0, 10) is None


def test_the_options_of_tcp_sockets_are_set() -> None:
    with serve(port=0, tcp_keepalive=120) as server, RawClient(("127.0.0.1", server.port)) as client:
        client.call("PING")

        def options(store: object) -> list[int]:
            (connection,) = server._server.connections
            get = connection.sock.getsockopt
            return [
                get(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                get(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                *(
                    get(socket.IPPROTO_TCP, getattr(socket, name))
                    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
                    if hasattr(socket, name)
                ),
            ]

        assert server.call(options) == [1, 1, 120, 40, 3]


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(path: str) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    with running(path, unixsocketperm="700") as server, RawClient(path) as client:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        with pytest.raises(ListenError, match="another server"):
            bind_unix(path, 10)
        assert client.call("PING") == b"+PONG\r\n"
        assert server.urls == [f"unix://{path}"]
    Path(path).write_text("precious")
    with pytest.raises(ListenError, match="no socket"):
        bind_unix(path, 10)
    assert Path(path).read_text() == "precious"


def test_a_socket_file_that_another_server_has_put_there_stays(path: str) -> None:
    with running(path):
        os.unlink(path)
        other = bind_unix(path, 10)
    assert os.path.exists(path)
    other.close()


def own_address() -> str | None:
    """An address of this machine that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
            address = str(sock.getsockname()[0])
        except OSError:
            return None
    return None if address.startswith("127.") else address


@pytest.mark.skipif(own_address() is None, reason="this machine has only a loopback address")
def test_strangers_are_refused_while_there_is_no_password(redis_server: servers.Server) -> None:
    address = own_address()
    assert address is not None
    with serve(port=0, bind="0.0.0.0") as server, RawClient(("127.0.0.1", server.port)) as local:
        with RawClient((address, server.port)) as stranger:
            denied = stranger.read_reply_bytes()
            assert stranger.at_end()
        assert denied.startswith(
            b"-DENIED Redis is running in protected mode because protected mode is enabled and no password"
        )
        local.call("CONFIG", "SET", "protected-mode", "no")
        with RawClient((address, server.port)) as stranger:
            assert stranger.call("PING") == b"+PONG\r\n"
        local.call("CONFIG", "SET", "protected-mode", "yes", "requirepass", "secret")
        with RawClient((address, server.port)) as stranger:
            assert stranger.call("AUTH", "secret") == b"+OK\r\n"


# -- in a program --------------------------------------------------------------------------------------


def test_a_program_shares_its_store_with_clients(path: str) -> None:
    with kvstore.serve(unix=path, maxmemory="10mb") as server, RawClient(path) as client:
        assert server.url == f"unix://{path}"
        assert server.call(lambda store: store.set("k", "v")) is True
        assert client.call("GET", "k") == b"$1\r\nv\r\n"
        assert client.call("CONFIG", "GET", "maxmemory") == b"*2\r\n$9\r\nmaxmemory\r\n$8\r\n10485760\r\n"
        with pytest.raises(kvstore.WrongTypeError):
            server.call(lambda store: store.lpush("k", "x"))
        client.send("BLPOP", "q", "0")
        until(lambda: server.call(lambda store: server._server.hub.blocked_clients))
        server.call(lambda store: store.rpush("q", "x"))
        assert client.read_reply_bytes() == b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n"
        assert server.call(lambda store: server.call(lambda again: again.get("k"))) == b"v"
    assert not server.is_running
    with pytest.raises(kvstore.StoreError, match="stopped"):
        server.call(lambda store: None)
    server.close()


def test_without_an_address_it_listens_on_a_free_local_port() -> None:
    with serve() as one, serve(port=0) as two:
        assert one.port != two.port and one.url == f"redis://127.0.0.1:{one.port}"
        with RawClient(("127.0.0.1", one.port)) as client:
            assert client.call("CONFIG", "GET", "port").endswith(b"\r\n%d\r\n" % one.port)


def test_it_runs_on_this_thread_until_another_closes_it(path: str) -> None:
    server = serve(unix=path)
    timer = threading.Timer(0.05, server.close)
    timer.start()
    server.run()
    timer.join()
    assert not server.is_running
    with pytest.raises(kvstore.StoreError):
        server.run()


def test_a_client_may_shut_it_down(path: str) -> None:
    with serve(unix=path) as server, RawClient(path) as client:
        client.send("SHUTDOWN", "NOSAVE")
        assert client.at_end()
        until(lambda: not server.is_running)


def test_a_wrong_directive_or_address_raises_and_leaves_nothing_open(path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match="unknown directive"):
        serve(unix=path, max_memory_limit=1)
    with pytest.raises(ListenError):
        serve(unix=os.path.join(path, "no", "such", "place"))
    with serve(port=0) as server, pytest.raises(ListenError):
        serve(port=server.port)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_started_server_runs_on_its_own_thread_however_late_that_begins(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LateThread(threading.Thread):
        def run(self) -> None:
            time.sleep(0.1)
            super().run()

    monkeypatch.setattr("kvstore.serving.threading.Thread", LateThread)
    with serve(unix=path) as server:
        assert server.is_running
        assert server.call(lambda store: threading.get_ident()) != threading.get_ident()
    with serve(unix=path):
        pass  # closed at once, with nothing left to run


def test_a_call_that_is_too_late_is_refused_not_lost(path: str) -> None:
    server = serve(unix=path).start()
    results: list[object] = []
    errors: list[BaseException] = []

    def caller() -> None:
        try:
            while True:
                results.append(server.call(lambda store: store.incr("n")))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(results) > 20)
    server.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(errors) == 4 and all(isinstance(error, kvstore.StoreError) for error in errors)


def test_a_crash_in_a_call_does_not_stop_the_server(path: str) -> None:
    with ServerThread.start(serve(unix=path)) as server, RawClient(path) as client:
        with pytest.raises(ZeroDivisionError):
            server.call(lambda store: 1 // 0)
        assert client.call("PING") == b"+PONG\r\n"


def test_the_package_is_light_to_import() -> None:
    code = "import kvstore, sys; print([m for m in ('ssl', 'redis', 'asyncio', 'lupa', 'kvstore.net.server') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=servers.ROOT, check=True, timeout=60
    )
    assert found.stdout == "[]\n"


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (servers.ROOT / "docs" / "server.md").read_text()
    example, *_ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "server.md", "exec"), {})
    assert "clients connect to redis://127.0.0.1:" in capsys.readouterr().out


def test_client_list_tells_what_a_slow_client_has_not_taken(path: str) -> None:
    with running(path), RawClient(path) as slow, RawClient(path) as client:
        slow.call("SET", "k", "v" * 3_000_000)
        slow.send("GET", "k")
        until(lambda: int(re.findall(rb"omem=(\d+)", client.call("CLIENT", "LIST"))[0]) > 1_000_000)


def test_what_is_read_in_one_turn_with_a_slow_script_is_answered_in_order(path: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(path, busy_reply_threshold="20"))
        clients = [stack.enter_context(RawClient(path)) for _ in range(3)]
        scripts = [clients[1], stack.enter_context(RawClient(path))]
        waits, go_on = threading.Event(), threading.Event()
        server.loop.call_soon_threadsafe(lambda: (waits.set(), go_on.wait(PATIENCE)))
        assert waits.wait(PATIENCE)
        clients[0].send("GET", "k")
        for script in scripts:  # one whose request is alone in its chunk, and one that pipelines
            script.send("EVAL", "local n = 0 while n < 3e6 do n = n + 1 end return 1", "0")
        scripts[1].send("ECHO", "x")
        clients[2].send("ECHO", "first")
        go_on.set()
        clients[2].send("GET", "k")
        busy = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
        assert clients[0].read_reply_bytes() == b"$-1\r\n"
        for script in scripts:
            assert script.read_reply_bytes() in (b":1\r\n", busy)
        assert scripts[1].read_reply_bytes() in (b"$1\r\nx\r\n", busy)
        assert clients[2].read_reply_bytes() in (b"$5\r\nfirst\r\n", busy)
        assert clients[2].read_reply_bytes() in (b"$-1\r\n", busy)


def test_a_bug_while_sending_costs_one_client_not_the_server(path: str) -> None:
    with running(path) as server, RawClient(path) as broken, RawClient(path) as other:
        number = int(broken.call("CLIENT", "ID")[1:-2])
        waits, go_on = threading.Event(), threading.Event()
        server.loop.call_soon_threadsafe(lambda: (waits.set(), go_on.wait(PATIENCE)))
        assert waits.wait(PATIENCE)
        server.loop.call_soon_threadsafe(lambda: server.hub.sessions[number].push(object()))
        broken.send("PING")
        other.send("PING")
        go_on.set()
        assert other.read_reply_bytes() == b"+PONG\r\n"
        with pytest.raises((ConnectionError, EOFError)):
            broken.read_reply_bytes()
        assert other.call("PING") == b"+PONG\r\n"


def test_a_peer_that_is_gone_at_once_does_not_keep_others_from_being_accepted(path: str) -> None:
    with running(path) as server:
        refused: list[object] = []

        def refuse(sock: socket.socket, address: str, local: bool) -> None:
            refused.append(sock)
            if len(refused) == 1:
                raise ConnectionResetError
            server.accept(sock, address, local)

        server.listeners["unix"][0]._accept = refuse
        waits, go_on = threading.Event(), threading.Event()
        server.loop.call_soon_threadsafe(lambda: (waits.set(), go_on.wait(PATIENCE)))
        assert waits.wait(PATIENCE)
        with RawClient(path) as gone, RawClient(path) as other:
            other.send("PING")
            go_on.set()
            assert other.read_reply_bytes() == b"+PONG\r\n"
            with pytest.raises((ConnectionError, EOFError)):
                gone.call("PING")


def test_a_store_that_is_served_keeps_its_limits_and_reaches_subscribers(path: str) -> None:
    store = kvstore.Store(check_same_thread=False, maxmemory=5_000_000, databases=3)
    before = store.client()
    before.ping()
    with kvstore.serve(unix=path, store=store, requirepass="secret") as server, RawClient(path) as client:
        assert client.call("AUTH", "secret") == b"+OK\r\n"
        assert b"5000000" in client.call("CONFIG", "GET", "maxmemory")
        assert client.call("SELECT", "3").startswith(b"-ERR DB index")
        client.call("SUBSCRIBE", "news")
        for database in (0, 1):
            assert server.call(lambda store, at=database: store.database(at).publish("news", at)) == 1
            assert b"message" in client.read_reply_bytes()
    assert store.ctx.evictor.maxmemory == 5_000_000


def test_clients_need_not_log_in_any_more_once_there_is_no_password(path: str) -> None:
    with running(path, requirepass="secret") as server, RawClient(path) as client:
        with RawClient(path) as admin:
            assert client.call("PING").startswith(b"-NOAUTH")
            assert admin.call("AUTH", "secret") == b"+OK\r\n"
            assert admin.call("CONFIG", "SET", "requirepass", "") == b"+OK\r\n"
            assert client.call("PING") == b"+PONG\r\n"
            assert client.call("ECHO", "x" * 100_000).startswith(b"$100000\r\n")
            assert admin.call("CONFIG", "SET", "requirepass", "other") == b"+OK\r\n"
            assert admin.call("PING") == b"+PONG\r\n"
            assert client.call("PING").startswith(b"-NOAUTH")
            assert client.call("AUTH", "other") == b"+OK\r\n"
            assert client.call("PING") == b"+PONG\r\n"
        assert server.limits.output == 1024


def test_a_bug_in_what_a_blocked_client_sent_next_costs_nobody_else(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, broken_ids = Session.go_on, set()

    def go_on_or_break(session: Session) -> None:
        if session.id in broken_ids:
            raise RuntimeError("a bug")
        go_on(session)

    monkeypatch.setattr(Session, "go_on", go_on_or_break)
    with (
        running(path) as server,
        RawClient(path) as broken,
        RawClient(path) as next_,
        RawClient(path) as pusher,
    ):
        broken_ids.add(int(broken.call("CLIENT", "ID")[1:]))
        for number, client in enumerate([broken, next_], start=1):
            client.send("BLPOP", "q", 0)
            client.send("ECHO", "x")
            until(lambda count=number: on_loop(server, lambda: server.hub.blocked_clients) == count)
        assert pusher.call("RPUSH", "q", "1", "2") == b":2\r\n"
        assert next_.read_reply_bytes() == b"*2\r\n$1\r\nq\r\n$1\r\n2\r\n"
        assert next_.read_reply_bytes() == b"$1\r\nx\r\n"
        with pytest.raises((ConnectionError, EOFError)):
            for _ in range(3):
                broken.read_reply_bytes()


def test_a_bug_in_serving_a_blocked_client_costs_nobody_else(path: str) -> None:
    with (
        running(path) as server,
        RawClient(path) as broken,
        RawClient(path) as next_,
        RawClient(path) as pusher,
    ):
        for number, client in enumerate([broken, next_], start=1):
            client.send("BLPOP", "q", 0)
            until(lambda count=number: on_loop(server, lambda: server.hub.blocked_clients) == count)

        def spoil() -> None:
            session = min(
                (each for each in server.hub.sessions.values() if each.waiting), key=lambda each: each.id
            )
            assert session.waiting is not None
            session.waiting.argv = [b"BLPOP", None, None]  # type: ignore[list-item]

        on_loop(server, spoil)
        assert pusher.call("RPUSH", "q", "1") == b":1\r\n"
        assert broken.read_reply_bytes().startswith(b"-ERR internal error in command 'BLPOP'")
        assert next_.read_reply_bytes() == b"*2\r\n$1\r\nq\r\n$1\r\n1\r\n"
        assert broken.call("PING") == next_.call("PING") == b"+PONG\r\n"


def test_a_store_goes_on_when_its_server_has_ended(path: str) -> None:
    store = kvstore.Store(check_same_thread=False, maxmemory=5_000_000)
    listeners = store.ctx.listeners
    with kvstore.serve(unix=path, store=store, busy_reply_threshold="1", notify_keyspace_events="KEA"):
        store_of_one = store.database(1)
    assert store.ctx.listeners == listeners
    assert store_of_one.publish("news", "x") == 0
    store.config_set("busy-reply-threshold", 1)
    assert store.eval("local n = 0 while n < 1e6 do n = n + 1 end return 1", 0) == 1
    assert store.config_get("maxmemory") == {"maxmemory": "5000000"}
