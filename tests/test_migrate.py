"""MIGRATE: keys go to other servers whole, and stay here where they may not have arrived."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from kvstore import ResponseError, Store
from kvstore.engine.context import ManualClock
from kvstore.engine.types.payload import dump_payload
from kvstore.fake import FakeRedis, FakeServer
from tests.conftest import require
from tests.laws import START_MS, Recorder, digest, effects, event_names
from tests.scenario import compare
from tests.servers import Server, free_port, running
from tests.test_dump_restore import fill

HOST = "127.0.0.1"
READING = "IOERR error or timeout reading to target instance"
WRITING = "IOERR error or timeout writing to target instance"
BUSY = "ERR Target instance replied with error: BUSYKEY Target key name already exists."


# -- as real servers answer --------------------------------------------------------------------------------------

WRONG = """
    a> SET k v
    a> MIGRATE h p k
    a> MIGRATE h p k x 0
    a> MIGRATE h p k 0 x
    a> MIGRATE h p k x 0 FOO
    a> MIGRATE h p k 0 0 KEYS k
    a> MIGRATE h p k 0 x KEYS k
    a> MIGRATE h p "" 0 x KEYS nope
    a> MIGRATE h p "" 0 0 KEYS
    a> MIGRATE h p "" 0 0 KEYS nope
    a> MIGRATE h p nope 0 0
    a> MIGRATE h p nope 0 0 AUTH
    a> MIGRATE h p nope 0 0 AUTH2 u
    a> MIGRATE h p nope 0 0 AUTH p AUTH2 u p copy REPLACE COPY
    a> MIGRATE h p "" 0 0
    a> MIGRATE 127.0.0.1 {closed} k 0 200
    a> MIGRATE 127.0.0.1 0 k 0 200
    a> MIGRATE 127.0.0.1 p k 0 200
    a> MIGRATE 127.0.0.1 99999999 k 0 -1
    a> MIGRATE no..such 1 k 0 200
    a> MULTI
    a> MIGRATE 127.0.0.1 {closed} k 0 200
    a> MIGRATE h p nope 0 200
    a> EXEC
    a> EVAL "return redis.pcall('MIGRATE', 'h', 'p', 'nope', 0, 0)" 0
    a> EVAL "return redis.pcall('MIGRATE', '127.0.0.1', '{closed}', 'k', 0, 100)" 0
    a> GET k
"""

WORDS = """
    a> COMMAND GETKEYS MIGRATE h p k 0 0
    a> COMMAND GETKEYS MIGRATE h p "" 0 0
    a> COMMAND GETKEYS MIGRATE h p "" 0 0 KEYS x y
    a> COMMAND GETKEYS MIGRATE h p k 0 0 KEYS x y
    a> COMMAND GETKEYS MIGRATE h p "" 0 0 AUTH KEYS KEYS y
    a> COMMAND GETKEYS MIGRATE h p "" 0 0 AUTH2 KEYS keys KEYS y
    a> COMMAND GETKEYS MIGRATE h p "" 0 0 COPY keys
    a> COMMAND GETKEYS MIGRATE h p k 0 0 AUTH KEYS
    a> COMMAND GETKEYS MIGRATE h p k 0 0 AUTH2 KEYS x KEYS
    a> COMMAND GETKEYS MIGRATE h p k 0 0 FOO KEYS x
    a> COMMAND GETKEYS MIGRATE h p "" 0 0 KEYS KEYS x KEYS
    a> COMMAND GETKEYSANDFLAGS MIGRATE h p "" 0 0 KEYS x y
"""

USERS = """
    a> ACL SETUSER mover on nopass ~k* +@all
    a> ACL SETUSER reader on nopass %R~k* +@all
    a> ACL DRYRUN mover MIGRATE h p a 0 0
    a> ACL DRYRUN mover MIGRATE h p k 0 0
    a> ACL DRYRUN mover MIGRATE h p "" 0 0 KEYS k1 k2
    a> ACL DRYRUN mover MIGRATE h p "" 0 0 KEYS k1 a2
    a> ACL DRYRUN mover MIGRATE h p k 0 0 KEYS a1 a2
    a> ACL DRYRUN mover MIGRATE h p "" 0 0
    a> ACL DRYRUN reader MIGRATE h p k 0 0
    a> ACL DELUSER mover reader
"""

# REPLACE comes first, as both servers send to the same target.
MOVES = """
    a> SET k v
    a> MIGRATE 127.0.0.1 {port} k 0 5000 COPY REPLACE
    a> MIGRATE 127.0.0.1 {port} k 0 5000 COPY
    a> MIGRATE 127.0.0.1 {port} k 0 5000
    a> EXISTS k
    a> MSET x 1 y 2 z 3
    a> MIGRATE 127.0.0.1 {port} "" 0 5000 REPLACE KEYS x nope y
    a> MSET x 1 y 2
    a> MIGRATE 127.0.0.1 {port} z 0 5000 REPLACE COPY
    a> MIGRATE 127.0.0.1 {port} "" 0 5000 KEYS x y z
    a> EXISTS x y z
    a> CONFIG SET notify-keyspace-events KEA
    b> PSUBSCRIBE __key*
    c> WATCH k x
    c> MULTI
    c> PING
    a> MIGRATE 127.0.0.1 {port} "" 0 5000 REPLACE KEYS x k
    c> EXEC
    a> CONFIG SET notify-keyspace-events ""
    a> SET k v
    c> WATCH k
    c> MULTI
    c> PING
    a> MIGRATE 127.0.0.1 {port} k 0 5000 REPLACE COPY
    c> EXEC
    a> SET d 1
    a> MIGRATE 127.0.0.1 {port} "" 0 5000 REPLACE KEYS d d
    a> SET d 1
    a> EVAL "return redis.call('MIGRATE', '127.0.0.1', '{port}', 'd', 0, 5000)" 0
    a> EVAL "return redis.call('MIGRATE', '127.0.0.1', '{port}', 'd', 0, 5000, 'REPLACE')" 0
    a> MIGRATE 127.0.0.1 {port} k 99 5000 AUTH2 default any
    a> EXISTS k d
"""


def with_ports(text: str, target: Server) -> str:
    return text.replace("{closed}", str(free_port())).replace("{port}", str(target.port))


@pytest.mark.parametrize("text", [WRONG, WORDS, USERS, MOVES], ids=["wrong", "words", "users", "moves"])
def test_migrate_answers_as_on_a_real_server(
    text: str, kvstore_server: Server, valkey_server: Server
) -> None:
    require("valkey")
    with running("valkey", tcp=True) as target:
        compare(kvstore_server, valkey_server, with_ports(text, target))


# -- all that a key holds ----------------------------------------------------------------------------------------


def everything(client: Any) -> None:
    fill(client)
    client.execute_command("XADD", "stream", "1-1", "field", "value")
    client.execute_command("XADD", "stream", "1-2", "field", "other")
    client.execute_command("XGROUP", "CREATE", "stream", "group", "0")
    client.execute_command("XREADGROUP", "GROUP", "group", "somebody", "COUNT", "1", "STREAMS", "stream", ">")
    client.execute_command("GEOADD", "places", "13.36", "38.11", "Palermo")
    client.execute_command("SETBIT", "bits", "70", "1")


def held(client: Any) -> dict[bytes, Any]:
    """What the keys of a server hold, as a store here reads it."""
    store = Store()
    for key in client.keys("*"):
        store.restore(key, 0, client.dump(key))
    return {key: value for (_, key), value in digest(store).items()}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("kvstore", "redis"),
        ("kvstore", "valkey"),
        ("redis", "kvstore"),
        ("valkey", "kvstore"),
        ("kvstore", "kvstore"),
    ],
)
def test_values_of_all_types_arrive_whole_and_with_their_deadlines(source: str, target: str) -> None:
    redis = pytest.importorskip("redis")
    require(source)
    require(target)
    with running(source) as one, running(target, tcp=True, options={"requirepass": "secret"}) as other:
        here = redis.Redis(unix_socket_path=one.unix, db=3)
        there = redis.Redis(unix_socket_path=other.unix, db=5, password="secret")
        everything(here)
        before = held(here)
        here.pexpire("string", 100_000_000)
        login = ("AUTH2", "default", "secret")
        answer = here.execute_command("MIGRATE", HOST, other.port, "", 5, 5000, *login, "KEYS", *before)
        assert answer == b"OK"
        assert here.dbsize() == 0
        assert held(there) == before
        assert 90_000_000 < there.pttl("string") <= 100_000_000
        assert {there.ttl(key) for key in before} - {there.ttl("string")} == {-1}
        assert there.info("keyspace").keys() == {"db5"}
        here.close()
        there.close()


# -- targets that fail -------------------------------------------------------------------------------------------


@contextmanager
def target_that_says(answers: bytes, *, hangs: bool = False) -> Iterator[int]:
    """The port of a target that answers this to whatever it is sent, and then is at its end, or silent."""
    with socket.create_server((HOST, 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            listener.settimeout(20)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                connection.sendall(answers)
                if hangs:
                    over.wait(20)
                    return
                connection.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    while connection.recv(1 << 16):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            over.set()
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(clock=ManualClock(START_MS)) as store:
        store.mset({"a": 1, "b": 2, "c": 3, "d": 4})
        yield store


def migrate(store: Store, port: int, *options: str, timeout: int = 5000) -> Any:
    return store.call("MIGRATE", HOST, port, "", 0, timeout, *options, "KEYS", "a", "b", "c", "d")


def keys(store: Store) -> list[bytes]:
    return sorted(store.keys("*"))


@pytest.mark.parametrize(
    ("answers", "error", "left"),
    [
        (b"", READING, b"abcd"),
        (b"+OK\r\n", READING, b"abcd"),
        (b"+OK\r\n" * 3, READING, b"cd"),
        (b"+OK\r\n" * 4 + b"+OK", READING, b"d"),
        (b"+OK\r\n" * 2 + b"-BUSYKEY Target key name already exists.\r\n" + b"+OK\r\n" * 2, BUSY, b"b"),
        (b"+OK\r\n" + b"-ERR a\r\n-ERR b\r\n" + b"+OK\r\n" * 2, "replied with error: ERR a", b"ab"),
        (b"-NOAUTH log in.\r\n" + b"+OK\r\n" * 4, "replied with error: NOAUTH log in.", b"abcd"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", READING, b"abcd"),
        (b"+OK\r\n" + b"+QUEUED\r\n" * 4, READING, b"abcd"),
        (b"-" + b"x" * 100_000, READING, b"abcd"),
    ],
)
def test_what_may_not_have_arrived_stays(store: Store, answers: bytes, error: str, left: bytes) -> None:
    recorder = Recorder()
    store.ctx.listen(recorder)
    with target_that_says(answers) as port, pytest.raises(ResponseError, match=re.escape(error)):
        migrate(store, port)
    assert b"".join(keys(store)) == left
    gone = [b"%c" % key for key in b"abcd" if key not in left]
    assert effects(recorder) == ([(b"DEL", *gone)] if gone else [])
    assert event_names(recorder) == ["del"] * len(gone)


def test_a_target_that_falls_silent_is_waited_for_as_long_as_was_said(store: Store) -> None:
    with target_that_says(b"+OK\r\n" * 2, hangs=True) as port, pytest.raises(ResponseError, match=READING):
        migrate(store, port, timeout=1000)
    assert keys(store) == [b"b", b"c", b"d"]


def test_a_target_that_reads_nothing_is_given_up(store: Store) -> None:
    store.set("a", bytes(32 << 20))
    with target_that_says(b"+OK\r\n", hangs=True) as port, pytest.raises(ResponseError, match=WRITING):
        migrate(store, port, timeout=1000)
    assert keys(store) == [b"a", b"b", b"c", b"d"]


def test_copies_that_arrived_stay_here_too(store: Store) -> None:
    recorder = Recorder()
    store.ctx.listen(recorder)
    with target_that_says(b"+OK\r\n" * 5) as port:
        assert migrate(store, port, "COPY") == b"OK"
    assert len(keys(store)) == 4
    assert not recorder.commits


def test_many_keys_go_in_parts(store: Store) -> None:
    names = [f"key{number}" for number in range(5000)]
    store.mset({name: name * 100 for name in names})
    recorder = Recorder()
    store.ctx.listen(recorder)
    with target_that_says(b"+OK\r\n" * 5001) as port:
        assert store.call("MIGRATE", HOST, port, "", 0, 5000, "KEYS", *names) == b"OK"
    parts = effects(recorder)
    assert len(parts) > 2
    assert [word.decode() for part in parts for word in part[1:]] == names


def test_what_is_sent_is_the_login_the_database_and_the_keys_with_the_time_they_have_left() -> None:
    store = Store(clock=ManualClock(START_MS))
    store.set("k", "v", px=1500)
    payload = dump_payload(b"v")
    sent = []
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            listener.settimeout(20)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                for _ in range(3):
                    sent.append(connection.recv(1 << 16))
                    connection.sendall(b"+OK\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        words = ("MIGRATE", HOST, port, "k", 7, 5000, "REPLACE", "AUTH2", "user", "word")
        assert store.call(*words) == b"OK"
        thread.join(20)
    assert sent == [
        b"*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$4\r\nword\r\n",
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n",
        b"*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$4\r\n1500\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n"
        % (len(payload), payload),
    ]


def test_nothing_is_lost_where_the_target_is_killed() -> None:
    redis = pytest.importorskip("redis")
    require("valkey")
    kept = {"appendonly": "yes", "appendfsync": "always"}
    with running("valkey", tcp=True, options=kept) as target, running("kvstore") as source:
        here = redis.Redis(unix_socket_path=source.unix)
        names = [b"key%05d" % number for number in range(60_000)]
        here.mset({name: name * 20 for name in names})
        there = redis.Redis(unix_socket_path=target.unix)
        watching = threading.Event()

        def kill() -> None:
            watching.set()
            while not there.dbsize():
                pass
            target.kill()

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        watching.wait(20)
        with pytest.raises(redis.ResponseError, match="IOERR"):
            here.execute_command("MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *names)
        killer.join(20)
        target.restart()
        left, arrived = set(here.keys("*")), set(there.keys("*"))
        assert left | arrived == set(names)
        assert left
        here.close()
        there.close()


# -- in process --------------------------------------------------------------------------------------------------


def test_a_store_in_process_sends_its_keys_to_a_server(kvstore_server: Server) -> None:
    pytest.importorskip("redis")
    with running("kvstore", tcp=True) as target, Store() as store:
        store.mset({"a": 1, "b": 2})
        assert store.migrate(HOST, target.port, ["a", "none"], 0, 5000, copy=True)
        assert store.exists("a") == 1
        with pytest.raises(ResponseError, match="BUSYKEY"):
            store.call("MIGRATE", HOST, target.port, "a", 0, 5000)
        assert store.migrate(HOST, target.port, ["a", "b"], 0, 5000, replace=True)
        assert store.dbsize() == 0
        assert store.migrate(HOST, target.port, "a", 0, 5000) == b"NOKEY"
        with target.client() as client:
            assert client.call("MGET", "a", "b") == b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n"


def test_a_node_of_a_fake_cluster_moves_keys_of_one_slot() -> None:
    redis = pytest.importorskip("redis")
    client = FakeRedis(server=FakeServer(strict_cluster=True))
    client.set("{slot}a", 1)
    client.set("{slot}b", 1)
    with target_that_says(b"+OK\r\n" * 3) as port:
        assert client.migrate(HOST, port, ["{slot}a", "{slot}b"], 0, 5000)
    assert client.dbsize() == 0
    with pytest.raises(redis.ResponseError, match="hash to the same slot"):
        client.migrate(HOST, 1, ["a", "b"], 0, 5000)
