"""Looking into a fake server by a Store, and what is left of servers and clients that are gone."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvstore
from kvstore.commands.hub import Hub
from kvstore.commands.session import Session
from kvstore.fake import FakeAsyncRedis, FakeRedis, FakeServer
from kvstore.fake.line import Line
from tests.waiting import PATIENCE, Running, until_blocked


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Any]:
    with FakeRedis(server=server) as client:
        yield client


def test_the_store_is_one_on_the_data_of_the_clients(server: FakeServer, client: Any) -> None:
    store = server.store
    assert isinstance(store, kvstore.Store)
    store.hset("user:7", mapping={"name": "Ann"})
    assert client.hget("user:7", "name") == b"Ann"
    client.rpush("queue", "job")
    assert store.lrange("queue", 0, -1) == [b"job"]
    assert "queue" in store and "other" not in store
    store["greeting"] = "hello"
    assert store["greeting"] == client.get("greeting") == b"hello"
    del store["greeting"]
    assert not client.exists("greeting")
    with pytest.raises(kvstore.WrongTypeError):
        store.get("queue")


def test_each_database_has_a_store(server: FakeServer, client: Any) -> None:
    first = server.store.database(1)
    first.set("k", 1)
    assert FakeRedis(server=server, db=1).get("k") == b"1" and client.get("k") is None
    client.swapdb(0, 1)
    assert server.store.get("k") == b"1" and first.get("k") is None
    assert server.text_store.database(0).get("k") == "1"
    assert isinstance(first, kvstore.Store) and first.client().connection_pool.connection_kwargs["db"] == 1
    with pytest.raises(ValueError, match="between 0 and 15"):
        server.store.database(16)


def test_text_is_given_where_it_was_asked_for(server: FakeServer) -> None:
    store = server.text_store
    store.hset("h", mapping={"a": "ä"})
    assert store.hgetall("h") == {"a": "ä"}
    assert list(store.scan_iter()) == ["h"] and list(store.hscan_iter("h")) == [("a", "ä")]
    assert store.pipeline().hget("h", "a").execute() == ["ä"]
    assert store.client().hget("h", "a") == "ä"
    assert store.eval("return redis.call('HGET', KEYS[1], 'a')", 1, "h") == "ä"
    assert server.store.hgetall("h") == {b"a": "ä".encode()}


def test_what_a_call_causes_has_happened_when_it_returns(server: FakeServer, client: Any) -> None:
    client.config_set("notify-keyspace-events", "KA")
    with client.pubsub(ignore_subscribe_messages=True) as events:
        events.psubscribe("__keyspace@0__:*")
        events.get_message()
        blocked = FakeRedis(server=server)
        waiting = Running(lambda: blocked.blpop("queue", 20))
        until_blocked(server)
        server.store.rpush("queue", "job")
        with server.lock:
            assert server.hub.blocked_clients == 0
        assert waiting.result() == (b"queue", b"job")
        found: list[Any] = [events.get_message() for _ in range(3)]
        assert [each["data"] for each in found] == [b"rpush", b"lpop", b"del"]


def test_commands_and_scripts_run_by_the_store(server: FakeServer, client: Any) -> None:
    store = server.store
    assert store.call("SET", "k", 1) == b"OK" and store.execute_command("GET", "k") == b"1"
    double = store.register_script("return redis.call('INCRBY', KEYS[1], redis.call('GET', KEYS[1]))")
    assert double(keys=["k"]) == 2 and double(keys=["k"]) == 4
    assert client.get("k") == b"4"
    assert store.info("server")["redis_version"] == client.info("server")["redis_version"]
    assert client.script_exists(double.sha) == [True]


def test_messages_pass_between_the_store_and_clients(server: FakeServer, client: Any) -> None:
    mine: Any = server.store.pubsub(ignore_subscribe_messages=True)
    theirs = client.pubsub(ignore_subscribe_messages=True)
    for subscriber in (mine, theirs):
        subscriber.subscribe("news")
        subscriber.get_message()
    gc.collect()  # nobody but the subscriber holds its client
    assert server.store.publish("news", "from inside") == 2
    assert client.publish("news", "from outside") == 2
    for subscriber in (mine, theirs):
        found = [subscriber.get_message(timeout=20)["data"] for _ in range(2)]
        assert found == [b"from inside", b"from outside"]
        subscriber.close()


def test_a_pipeline_is_one_unit_and_watches(server: FakeServer, client: Any) -> None:
    store = server.store
    with store.pipeline() as pipe:
        pipe.watch("k")
        client.set("k", 1)
        pipe.multi()
        pipe.set("k", 2)
        with pytest.raises(kvstore.WatchError):
            pipe.execute()

    def increase(pipe: Any) -> None:
        pipe.multi()
        pipe.incr("k")

    assert store.transaction(increase, "k") == [2]
    assert store.pipeline().rpush("l", 1).incr("k").execute() == [1, 3]
    with pytest.raises(kvstore.WrongTypeError, match="Command # 1"):
        store.pipeline().incr("l").set("k", 9).execute()
    assert client.get("k") == b"9"

    def add(pipe: Any) -> None:
        value = int(pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", value + 1)

    def add_often() -> None:
        for _ in range(50):
            store.transaction(add, "n")

    running = [Running(add_often) for _ in range(4)]
    for each in running:
        each.result()
    assert client.get("n") == b"200"
    assert server.hub.watched_keys == 0
    abandoned = store.pipeline()
    abandoned.watch("k")
    assert server.hub.watched_keys == 1
    del abandoned
    gc.collect()
    assert server.hub.watched_keys == 0


def test_any_thread_may_call_it_while_clients_are_served(server: FakeServer) -> None:
    store, times = server.store, 300

    def by_store() -> None:
        for _ in range(times):
            store.incr("n")

    def by_client() -> None:
        with FakeRedis(server=server) as client:
            for _ in range(times):
                client.incr("n")

    def by_iterator() -> None:
        for _ in range(times // 10):
            assert {b"k%d" % number for number in range(50)} <= set(store.scan_iter(count=7))
            store.delete("gone")
            store.set("gone", 1)

    store.mset({f"k{number}": "v" for number in range(50)})
    running = [Running(call) for call in (by_store, by_client, by_iterator) * 2]
    for each in running:
        each.result()
    assert store.get("n") == b"%d" % (4 * times)
    store.check()


def test_a_lock_of_the_store_is_one_for_clients(server: FakeServer, client: Any) -> None:
    with server.store.lock("resource"):
        assert client.lock("resource").acquire(blocking=False) is False
    assert client.lock("resource").acquire(blocking=False) is True


def test_nobody_else_can_serve_the_data(server: FakeServer) -> None:
    with pytest.raises(kvstore.StoreError, match="a server already"):
        kvstore.serve(store=server.store)
    with pytest.raises(kvstore.StoreError, match="a server already"):
        server.store.join(None)


def test_faults_and_the_list_of_commands_are_for_clients(server: FakeServer, client: Any) -> None:
    server.fail(None, "LOADING not yet")
    server.read_only = True
    server.store.set("k", 1)
    server.connected = False
    assert server.store.get("k") == b"1" and server.commands == []


def test_the_store_is_not_imported_before_a_server_is_made() -> None:
    code = "import sys, kvstore.fake; print('kvstore.store' in sys.modules, 'kvstore.fake.shared_store' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.split() == ["False", "False"]


# -- what is left ------------------------------------------------------------------------------------------


def counted() -> dict[type, int]:
    gc.collect()
    kinds = (FakeServer, Hub, Session, Line)
    found: dict[type, int] = dict.fromkeys(kinds, 0)
    for each in gc.get_objects():
        if type(each) in found:
            found[type(each)] += 1
    return found


def use_and_forget() -> None:
    client = FakeRedis()
    client.set("k", 1)
    client.server.store.get("k")


def use_and_close() -> None:
    with FakeRedis() as client, client.pubsub() as subscriber, client.pipeline() as pipe:
        subscriber.subscribe("news")
        pipe.watch("k")
        client.server.dump()


def use_in_a_loop() -> None:
    async def use() -> None:
        async with FakeAsyncRedis() as client:
            await client.set("k", 1)

    asyncio.run(use())


@pytest.mark.parametrize("use", [use_and_forget, use_and_close, use_in_a_loop])
def test_many_servers_and_clients_leave_nothing_behind(use: Callable[[], None]) -> None:
    use()
    before, threads, files = counted(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(200 if use is use_in_a_loop else 1000):
        use()
    assert all(count <= before[kind] for kind, count in counted().items())  # some may be others' garbage
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


def test_a_named_server_lives_as_long_as_one_of_its_clients() -> None:
    first: Any = FakeRedis.from_url("fake://lasting/0")
    first.set("k", 1)
    second: Any = FakeRedis.from_url("fake://lasting/1")
    assert second.server is first.server
    gone = weakref.ref(first.server)
    del first
    gc.collect()
    assert gone() is not None and FakeRedis.from_url("fake://lasting/0").get("k") == b"1"
    del second
    gc.collect()
    assert gone() is None
    assert FakeRedis.from_url("fake://lasting/0").get("k") is None


def test_a_name_is_one_server_whoever_asks_first() -> None:
    barrier = threading.Barrier(8)

    def ask() -> FakeServer:
        barrier.wait(30)
        return FakeServer.named("raced")

    assert len({each.result() for each in [Running(ask) for _ in range(8)]}) == 1


def lost_clients(server: FakeServer) -> list[Any]:
    """Clients that only a collection of garbage frees: subscribed to everything, with a watched key."""
    found = []
    for _ in range(3):
        lost: Any = FakeRedis(server=server)
        subscriber = lost.pubsub()
        subscriber.psubscribe("*")
        pipe = server.store.pipeline()
        pipe.watch("k")
        lost.ring = [lost, subscriber, pipe]
        found.append(lost)
    return found


def by_a_command(server: FakeServer, client: Any) -> None:
    client.set("k", 1)


def by_the_store(server: FakeServer, client: Any) -> None:
    server.store.publish("news", "x")
    server.store.set("k", 1)


def by_the_clock(server: FakeServer, client: Any) -> None:
    server.clock.advance(2)


@pytest.mark.parametrize("act", [by_a_command, by_the_store, by_the_clock])
def test_a_client_that_is_collected_as_garbage_in_the_middle_of_anything_frees_its_session(
    server: FakeServer, client: Any, act: Callable[[FakeServer, Any], None]
) -> None:
    """The collection begins after one more new object in each round, until it would come after the action."""
    client.config_set("notify-keyspace-events", "KEA")
    before = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        for objects in range(1, 120):
            client.set("k", objects, px=5)
            client.rpush("l", objects)
            lost = lost_clients(server)
            gc.collect(0)  # nothing of it is young any more, so the count begins anew
            del lost
            gc.set_threshold(objects, 0, 1_000_000)
            gc.enable()
            act(server, client)
            gc.disable()
            gc.collect(1)
            assert len(server.lines) == 1  # and of sessions, the one of the store's own commands
            assert len([each for each in client.client_list() if each["addr"] != "?:0"]) == 1
            assert client.pubsub_numpat() == 0 and server.hub.watched_keys == 0
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert client.llen("l") == 119


def test_a_client_that_goes_in_the_middle_of_a_request_to_another_server_waits_for_nobody() -> None:
    """Else two threads could each hold what the other wants, or one that forks all of it."""
    first, second = FakeServer(), FakeServer()
    lost: Any = FakeRedis(server=second)
    lost.ping()
    within, held = threading.Event(), threading.Event()

    def work() -> None:
        with first.alone():
            within.set()
            assert held.wait(PATIENCE)
            lost.close()

    working = Running(work)
    assert within.wait(PATIENCE)
    with second.alone():
        held.set()
        working.result()
        assert len(second.lines) == 1
    other: Any = FakeRedis(server=second)
    assert len(other.client_list()) == 1 and len(second.lines) == 1
