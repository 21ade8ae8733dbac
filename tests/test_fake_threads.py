"""Clients of one fake server in many threads and event loops: who waits, who is woken, who is served first."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from kvstore.fake import FakeAsyncRedis, FakeRedis, FakeServer
from tests.seeds import new_seed
from tests.waiting import PATIENCE, Running, no_threads_left, until, until_blocked


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    with no_threads_left():
        yield


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Any]:
    with FakeRedis(server=server) as client:
        yield client


def new_client(server: FakeServer, **options: Any) -> Any:
    options.setdefault("socket_timeout", None)  # a lock or a queue is waited for as long as it takes
    return FakeRedis(server=server, **options)


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls at once, each in a thread of its own; their results."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        barrier.wait(PATIENCE)
        return call()

    return [each.result() for each in [Running(partial(begin, call)) for call in calls]]


# -- totals ------------------------------------------------------------------------------------------------


def test_totals_are_right_under_contention(server: FakeServer, client: Any, heavy: bool) -> None:
    times = 3000 if heavy else 150

    def count() -> None:  # a client of its own
        with new_client(server) as mine:
            for _ in range(times):
                mine.incr("n")

    def count_by_the_shared_client() -> None:
        for _ in range(times):
            client.incr("n")

    def add(pipe: Any) -> None:
        value = int(pipe.get("watched") or 0)
        pipe.multi()
        pipe.set("watched", value + 1)

    def transact() -> None:
        with new_client(server) as mine:
            for _ in range(times // 3):
                mine.transaction(add, "watched")

    def pipelines() -> None:
        with new_client(server) as mine:
            for _ in range(times // 10):
                mine.pipeline(transaction=True).incrby("n", 5).incrby("n", 5).execute()

    together(*(count, count_by_the_shared_client, transact, pipelines) * 3)
    assert int(client.get("n")) == 3 * (times + times + times // 10 * 10)
    assert int(client.get("watched")) == 3 * (times // 3)


def test_elements_that_go_round_in_a_ring_stay_whole(server: FakeServer, client: Any, heavy: bool) -> None:
    rings, laps = 4, 400 if heavy else 60
    client.rpush("ring0", *range(20))

    def move(ring: int) -> None:
        with new_client(server) as mine:
            for _ in range(20 * laps // rings):
                assert (
                    mine.blmove(f"ring{ring}", f"ring{(ring + 1) % rings}", PATIENCE, "LEFT", "RIGHT")
                    is not None
                )

    together(*[partial(move, ring) for ring in range(rings)])
    found = [int(item) for ring in range(rings) for item in client.lrange(f"ring{ring}", 0, -1)]
    assert sorted(found) == list(range(20))


def test_queues_hand_out_each_job_once(server: FakeServer, heavy: bool) -> None:
    seed = new_seed()
    jobs, workers = 4000 if heavy else 400, 4

    def work() -> list[bytes]:
        done = []
        with new_client(server) as mine:
            while (found := mine.blpop(["urgent", "later"], PATIENCE)[1]) != b"stop":
                done.append(found)
        return done

    def hand_out(at: int) -> None:
        rng = random.Random(seed + at)
        with new_client(server) as mine:
            for number in range(at, jobs, 2):
                mine.rpush(rng.choice(("urgent", "later")), number)

    working = [Running(work) for _ in range(workers)]
    together(lambda: hand_out(0), lambda: hand_out(1))
    until(lambda: server.store.exists("urgent", "later") == 0, "empty queues")
    server.store.rpush("later", *["stop"] * workers)
    done = [job for each in working for job in each.result()]
    assert sorted(map(int, done)) == list(range(jobs))


def test_no_message_is_lost_and_each_channel_keeps_its_order(server: FakeServer, heavy: bool) -> None:
    messages, senders, hearers = 2000 if heavy else 200, 3, 3
    ready = threading.Barrier(senders + hearers)

    def send(at: int) -> None:
        with new_client(server) as mine:
            ready.wait(PATIENCE)
            for number in range(messages):
                assert mine.publish(f"channel{at}", number) == hearers

    def hear() -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        with new_client(server) as mine, mine.pubsub() as subscriber:
            subscriber.psubscribe("channel*")
            assert subscriber.get_message(timeout=PATIENCE)["type"] == "psubscribe"
            ready.wait(PATIENCE)
            while sum(map(len, found.values())) < messages * senders:
                message = subscriber.get_message(timeout=PATIENCE)
                assert message is not None
                found.setdefault(message["channel"], []).append(int(message["data"]))
        return found

    hearing = [Running(hear) for _ in range(hearers)]
    sending = [Running(partial(send, at)) for at in range(senders)]
    for each in sending:
        each.result()
    for each in hearing:
        assert each.result() == {b"channel%d" % at: list(range(messages)) for at in range(senders)}


# -- blocking ----------------------------------------------------------------------------------------------


def test_who_blocked_first_is_served_first(server: FakeServer, client: Any) -> None:
    waiting = []
    for number in range(6):
        mine = new_client(server)
        waiting.append(Running(partial(mine.blpop, "queue", PATIENCE)))
        until_blocked(server, number + 1)
    for number in range(6):
        client.rpush("queue", number)
        assert waiting[number].result() == (b"queue", b"%d" % number)
        assert server.hub.blocked_clients == 5 - number


def test_threads_and_event_loops_wake_each_other(server: FakeServer, client: Any) -> None:
    async def hand_on(source: str, target: str) -> Any:
        mine: Any
        async with FakeAsyncRedis(server=server, socket_timeout=None) as mine:
            return await mine.blmove(source, target, PATIENCE, "LEFT", "RIGHT")

    a_task = Running(lambda: asyncio.run(hand_on("a", "b")))
    a_thread = Running(lambda: new_client(server).blmove("b", "c", PATIENCE, "LEFT", "RIGHT"))
    another_loop = Running(lambda: asyncio.run(hand_on("c", "d")))
    until_blocked(server, 3)
    client.rpush("a", "job")
    assert [each.result() for each in (a_task, a_thread, another_loop)] == [b"job"] * 3
    assert client.lrange("d", 0, -1) == [b"job"]


def test_tasks_of_one_loop_are_served_in_order_with_threads_between(server: FakeServer, client: Any) -> None:
    order: list[str] = []

    def in_a_thread() -> None:
        new_client(server).blpop("queue", PATIENCE)

    async def run() -> None:
        async def wait(name: str) -> None:
            mine: Any
            async with FakeAsyncRedis(server=server, socket_timeout=None) as mine:
                element = (await mine.blpop("queue", PATIENCE))[1]
                order.append(f"{name}{element.decode()}")

        first = asyncio.create_task(wait("first"))
        await asyncio.to_thread(until_blocked, server, 1)
        thread = Running(in_a_thread)
        await asyncio.to_thread(until_blocked, server, 2)
        last = asyncio.create_task(wait("last"))
        await asyncio.to_thread(until_blocked, server, 3)
        client.rpush("queue", 1, 2, 3)
        await asyncio.wait_for(asyncio.gather(first, last), PATIENCE)
        thread.result()

    asyncio.run(run())
    assert sorted(order) == ["first1", "last3"]


def test_disconnecting_a_client_that_is_blocked_ends_its_call(server: FakeServer, client: Any) -> None:
    mine = new_client(server, retry=None, single_connection_client=True)
    waiting = Running(lambda: mine.blpop("queue", 0))
    until_blocked(server)
    mine.connection.disconnect()
    with pytest.raises(redis.ConnectionError):
        waiting.result()
    assert server.hub.blocked_clients == 0
    client.rpush("queue", "job")
    assert client.lrange("queue", 0, -1) == [b"job"]  # nobody who is gone took it
    assert mine.blpop("queue", 0) == (b"queue", b"job")


def test_a_client_that_is_killed_or_unblocked_sees_what_a_real_one_does(
    server: FakeServer, client: Any
) -> None:
    mine = new_client(server, retry=None, single_connection_client=True)
    for how, expected in ((False, None), (True, "UNBLOCKED client unblocked via CLIENT UNBLOCK")):
        number = mine.client_id()
        waiting = Running(lambda: mine.blpop("queue", 0))
        until_blocked(server)
        assert client.client_unblock(number, how)
        if expected is None:
            assert waiting.result() is None
        else:
            with pytest.raises(redis.ResponseError, match=expected):
                waiting.result()
    waiting = Running(lambda: mine.blpop("queue", 0))
    until_blocked(server)
    assert client.client_kill_filter(_id=number) == 1
    with pytest.raises(redis.ConnectionError, match="Connection closed by server"):
        waiting.result()
    assert mine.client_id() != number


def test_a_server_that_disconnects_ends_all_blocked_calls(server: FakeServer) -> None:
    waiting = [Running(lambda: new_client(server, retry=None).blpop("queue", 0)) for _ in range(3)]
    until_blocked(server, 3)
    server.connected = False
    for each in waiting:
        with pytest.raises(redis.ConnectionError):
            each.result()


# -- time --------------------------------------------------------------------------------------------------


def test_the_clock_ends_the_time_of_blocked_clients(server: FakeServer, client: Any) -> None:
    server.freeze_time()
    waiting = {seconds: Running(partial(new_client(server).blpop, "q", seconds)) for seconds in (30, 60)}
    until_blocked(server, 2)
    server.clock.advance(29.9)
    until_blocked(server, 2)
    server.clock.advance(0.1)
    assert waiting[30].result() is None
    until_blocked(server, 1)
    server.clock.advance(3600)
    assert waiting[60].result() is None


def test_a_pause_puts_commands_off_until_the_clock_has_passed_it(server: FakeServer, client: Any) -> None:
    server.freeze_time()
    mine = new_client(server)
    mine.ping()
    client.client_pause(10_000, all=False)
    assert client.get("k") is None  # reads go on
    waiting = Running(lambda: mine.set("k", 1))
    until(lambda: server.hub.postponed, "a command that was put off")
    server.clock.advance(9)
    assert client.get("k") is None and server.hub.postponed
    server.clock.advance(1)
    assert waiting.result() is True
    client.client_pause(10_000)
    waiting = Running(lambda: mine.get("k"))
    until(lambda: server.hub.postponed, "a command that was put off")
    server.clock.advance(10)
    assert waiting.result() == b"1"


def test_events_of_keys_that_expire_reach_a_listener_that_waits(server: FakeServer, client: Any) -> None:
    client.config_set("notify-keyspace-events", "Ex")
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.psubscribe("__keyevent@0__:expired")
    subscriber.get_message()
    client.set("moved", 1, ex=1000)
    waiting = Running(lambda: subscriber.get_message(timeout=PATIENCE)["data"])
    server.clock.advance(1001)
    assert waiting.result() == b"moved"
    client.set("real", 1, px=20)  # nobody but the one who waits looks at the clock
    assert subscriber.get_message(timeout=PATIENCE)["data"] == b"real"
    subscriber.close()


class Counting:
    """How often conditions are waited on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.waits = 0
        wait = threading.Condition.wait

        def counting(condition: threading.Condition, timeout: float | None = None) -> bool:
            self.waits += 1
            return wait(condition, timeout)

        monkeypatch.setattr(threading.Condition, "wait", counting)


@pytest.mark.parametrize("frozen", [False, True])
def test_nobody_who_waits_looks_again_and_again(
    server: FakeServer, client: Any, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting client wakes when it is served, or when something is due: a frozen clock makes nothing due."""
    if frozen:
        server.freeze_time()
        server.delay("PING", 0.002)  # whose reply is not due however long one waits
        new_client(server, single_connection_client=True).connection.send_command("PING")
    mine = new_client(server)
    mine.get("k")
    counting = Counting(monkeypatch)
    waiting = Running(lambda: mine.blpop("queue", 0))
    until_blocked(server)
    time.sleep(0.3)  # in which one that polls would look a hundred times
    for number in range(50):
        client.set("other", number)
    client.rpush("queue", "job")
    assert waiting.result() == (b"queue", b"job")
    assert counting.waits <= 4  # those of starting threads are among them


# -- subscribers -------------------------------------------------------------------------------------------


def test_listening_in_a_thread_ends_with_close(server: FakeServer, client: Any) -> None:
    # Over a socket, too, the library connects again, and waits on, where it may try again.
    subscriber = new_client(server, retry=None).pubsub()
    subscriber.subscribe("news")
    found: list[Any] = []

    def listen() -> None:
        for message in subscriber.listen():
            found.append(message["data"])

    listening = Running(listen)
    until(lambda: found == [1], "the subscription")
    client.publish("news", "hello")
    until(lambda: found == [1, b"hello"], "the message")
    subscriber.close()
    with pytest.raises(redis.ConnectionError):
        listening.result()
    assert client.pubsub_channels() == []


def test_a_thread_of_the_library_handles_messages_until_it_is_stopped(
    server: FakeServer, client: Any
) -> None:
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    found: list[bytes] = []
    subscriber.subscribe(news=lambda message: found.append(message["data"]))
    thread = subscriber.run_in_thread(sleep_time=PATIENCE, daemon=True)
    until(lambda: client.publish("news", "x") == 1, "the subscriber")
    until(lambda: found, "the message")
    thread.stop()
    client.publish("news", "last")  # so that it looks
    thread.join(PATIENCE)
    assert not thread.is_alive() and client.pubsub_channels() == []
