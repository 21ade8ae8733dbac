"""Asyncio clients on a fake, as a client library documents them, and as on a real server beside it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from importlib import import_module
from typing import Any

import pytest

from kvstore.fake import FakeServer
from tests.fake_targets import (
    ASYNCIO,
    LIBRARY,
    PATIENCE,
    VERSION,
    FakeAsyncClient,
    FakeClient,
    Target,
    targets,
)

errors = LIBRARY.exceptions
retries: Any = import_module(f"{LIBRARY.__name__}.asyncio.retry")
backoffs: Any = import_module(f"{LIBRARY.__name__}.backoff")
CLOSE = (
    "aclose" if hasattr(ASYNCIO.Redis if hasattr(ASYNCIO, "Redis") else ASYNCIO.Valkey, "aclose") else "close"
)


@pytest.fixture(params=["fake", "valkey"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    yield from targets(request)


def run(test: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in a loop of its own, at most as long as nothing takes."""
    return asyncio.run(asyncio.wait_for(test(), 3 * PATIENCE))


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[Target], None]:
    """A test that is a coroutine: it takes the target and a client, which is closed after it."""

    def whole(target: Target) -> None:
        async def body() -> None:
            client = target.async_client(client_name="tested")
            try:
                await test(target, client)
            finally:
                await getattr(client, CLOSE)()

        run(body)

    whole.__name__, whole.__doc__ = test.__name__, test.__doc__
    return whole


async def until(is_so: Callable[[], Awaitable[Any]]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not await is_so():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.002)


def blocked(client: Any, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether so many clients are blocked."""

    async def is_so() -> bool:
        return bool((await client.info("clients"))["blocked_clients"] == count)

    return is_so


@in_loop
async def test_commands_and_pipelines_give_results(target: Target, client: Any) -> None:
    assert await client.set("a", 1) is True
    assert await client.get("a") == b"1"
    async with client.pipeline(transaction=True) as pipe:
        assert await pipe.incr("a").hgetall("none").execute() == [2, {}]
    async with client.pipeline(transaction=False) as pipe:
        found = await pipe.lpush("a", 1).get("a").execute(raise_on_error=False)
    assert type(found[0]) is errors.ResponseError
    assert found[1] == b"2"
    with pytest.raises(errors.ResponseError, match="WRONGTYPE"):
        await client.lpush("a", 1)


@in_loop
async def test_a_transaction_fails_when_what_it_watches_was_changed(target: Target, client: Any) -> None:
    async with client.pipeline() as pipe:
        await pipe.watch("a")
        assert await pipe.get("a") is None
        await client.set("a", 2)
        pipe.multi()
        pipe.set("a", 3)
        with pytest.raises(errors.WatchError):
            await pipe.execute()

    async def work(pipe: Any) -> None:
        value = int(await pipe.get("a"))
        pipe.multi()
        pipe.set("a", value + 1)

    assert await client.transaction(work, "a") == [True]
    assert await client.get("a") == b"3"


@in_loop
async def test_scripts_and_locks_work(target: Target, client: Any) -> None:
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    assert await script(keys=["a"], args=[1]) == [b"a", b"1"]
    await client.script_flush()
    assert await script(keys=["a"], args=[1]) == [b"a", b"1"]
    lock, other = client.lock("lock", timeout=10), client.lock("lock", sleep=0.005)
    assert await lock.acquire(blocking=False)
    assert not await other.acquire(blocking=False)
    waiting = asyncio.create_task(other.acquire(blocking_timeout=PATIENCE))
    assert await lock.extend(5)
    await lock.release()
    assert await waiting
    await other.release()
    with pytest.raises(errors.LockError):
        await other.release()
    async with client.lock("lock"):
        assert await client.exists("lock")


@in_loop
async def test_a_blocked_call_gets_what_another_task_pushes(target: Target, client: Any) -> None:
    tasks = []
    for number in range(3):
        tasks.append(asyncio.create_task(client.blpop("l", PATIENCE)))
        await until(blocked(client, number + 1))
    await client.rpush("l", 0, 1, 2)
    assert [int(found[1]) for found in await asyncio.gather(*tasks)] == [
        0,
        1,
        2,
    ]  # the first was served first


@in_loop
async def test_a_blocked_call_ends_when_its_time_is_over(target: Target, client: Any) -> None:
    assert await client.blpop("none", 0.02) is None
    assert await client.bzpopmin("none", 0.02) is None


@in_loop
async def test_a_cancelled_call_takes_no_element_with_it(target: Target, client: Any) -> None:
    for _ in range(3):
        task = asyncio.create_task(client.blpop("l", PATIENCE))
        await until(blocked(client, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(blocked(client, 0))
    await client.rpush("l", "a")
    assert await client.lrange("l", 0, -1) == [b"a"]
    assert await client.get("a") is None
    assert await client.ping() is True


@in_loop
async def test_a_call_that_waits_too_long_leaves_the_client_usable(target: Target, client: Any) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.blpop("l", 0), 0.03)
    assert await client.set("a", 1)
    impatient = target.async_client(socket_timeout=0.03, retry=retries.Retry(backoffs.NoBackoff(), 0))
    with pytest.raises(errors.TimeoutError):
        await impatient.blpop("l", 0)
    assert await impatient.get("a") == b"1"
    await getattr(impatient, CLOSE)()
    await until(blocked(client, 0))


@in_loop
async def test_many_tasks_share_a_client(target: Target, client: Any) -> None:
    async def work(number: int) -> list[Any]:
        found = []
        for turn in range(20):
            await client.rpush(f"l{number}", turn)
            found.append(await client.incr("n"))
        return found

    results = await asyncio.gather(*(work(number) for number in range(30)))
    assert sorted(each for found in results for each in found) == list(range(1, 601))
    assert await client.lrange("l7", 0, -1) == [b"%d" % turn for turn in range(20)]


@in_loop
async def test_messages_are_heard(target: Target, client: Any) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("a")
        await pubsub.psubscribe("p*")
        kinds = [(await pubsub.get_message(timeout=PATIENCE))["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert await pubsub.get_message(timeout=0.02) is None
        waiting = asyncio.create_task(pubsub.get_message(timeout=PATIENCE))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert await client.publish("a", 1) == 1
        found = await waiting
        assert (found["type"], found["channel"], found["data"]) == ("message", b"a", b"1")


@in_loop
async def test_messages_can_be_iterated_over(target: Target, client: Any) -> None:
    found = []
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("a")

        async def publish() -> None:
            for number in range(5):
                await client.publish("a", number)
                await asyncio.sleep(0)

        publishing = asyncio.create_task(publish())
        async for message in pubsub.listen():
            found.append(int(message["data"]))
            if len(found) == 5:
                break
        await publishing
    assert found == list(range(5))


@in_loop
async def test_handlers_may_be_coroutines(target: Target, client: Any) -> None:
    taken = []

    async def take(message: Any) -> None:
        taken.append(message["data"])

    async with client.pubsub() as pubsub:
        await pubsub.subscribe(a=take)
        running = asyncio.create_task(pubsub.run())

        async def is_heard() -> bool:
            await client.publish("a", 1)
            return bool(taken)

        await until(is_heard)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert taken[0] == b"1"


@in_loop
async def test_a_cancelled_wait_for_a_message_loses_none(target: Target, client: Any) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("a")
        await pubsub.get_message(timeout=PATIENCE)
        for number in range(5):
            waiting = asyncio.create_task(pubsub.get_message(timeout=PATIENCE))
            await asyncio.sleep(0.005)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await client.publish("a", number)
            assert (await pubsub.get_message(timeout=PATIENCE))["data"] == b"%d" % number


@pytest.mark.skipif(VERSION < (6, 0), reason="earlier versions raise what they do not retry by themselves")
@in_loop
async def test_a_dropped_subscriber_subscribes_anew(target: Target, client: Any) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("a")
        await pubsub.get_message(timeout=PATIENCE)
        for entry in await client.client_list(_type="pubsub"):
            await client.client_kill_filter(_id=entry["id"])
        assert (await pubsub.get_message(timeout=PATIENCE))["type"] == "subscribe"
        assert await client.publish("a", 1) == 1
        assert (await pubsub.get_message(timeout=PATIENCE))["data"] == b"1"


@in_loop
async def test_a_client_connects_anew_after_its_connection_was_dropped(target: Target, client: Any) -> None:
    admin = target.async_client()
    for _ in range(3):
        await client.set("a", 1)
        for entry in await admin.client_list():
            if entry["name"] == "tested":
                await admin.client_kill_filter(_id=entry["id"])
        await asyncio.sleep(0.02)  # for its end to arrive
        assert await client.get("a") == b"1"
    await getattr(admin, CLOSE)()


@in_loop
async def test_a_pool_that_is_used_up_says_so(target: Target, client: Any) -> None:
    pool = ASYNCIO.ConnectionPool(max_connections=1, **target.pool_options(asyncio=True))
    one = target.of_pool(pool, asyncio=True)
    waiting = asyncio.create_task(one.blpop("l", PATIENCE))
    await until(blocked(client, 1))
    with pytest.raises(errors.ConnectionError, match="Too many connections"):
        await one.ping()
    await client.rpush("l", 1)
    await waiting
    assert await one.ping()
    await pool.disconnect()
    pool = ASYNCIO.BlockingConnectionPool(
        max_connections=1, timeout=0.05, **target.pool_options(asyncio=True)
    )
    one = target.of_pool(pool, asyncio=True)
    waiting = asyncio.create_task(one.blpop("l", PATIENCE))
    await until(blocked(client, 1))
    with pytest.raises(errors.ConnectionError, match="No connection available"):
        await one.ping()
    await client.rpush("l", 1)
    await waiting
    assert await asyncio.gather(*(one.ping() for _ in range(5))) == [True] * 5
    await pool.disconnect()


@in_loop
async def test_one_connection_serves_many_tasks_in_turn(target: Target, client: Any) -> None:
    single = target.async_client(single_connection_client=True)
    ids = await asyncio.gather(*(single.client_id() for _ in range(10)))
    assert len(set(ids)) == 1
    await getattr(single, CLOSE)()


@in_loop
async def test_monitor_tells_what_others_do(target: Target, client: Any) -> None:
    other = target.async_client(db=1)
    await other.ping()
    async with client.monitor() as monitor:
        await other.set("a", 1)
        found = await asyncio.wait_for(monitor.next_command(), PATIENCE)
        assert (found["command"], found["db"]) == ("SET a 1", 1)
    await getattr(other, CLOSE)()


@in_loop
async def test_iterators_meet_everything_once(target: Target, client: Any) -> None:
    await client.mset({f"k{number}": number for number in range(100)})
    assert len({key async for key in client.scan_iter(count=7)}) == 100


@in_loop
async def test_other_tasks_get_their_turn(target: Target, client: Any) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    for _ in range(50):
        await client.incr("n")
    counting.cancel()
    assert turns >= 50


def test_a_thread_wakes_a_task_and_a_task_a_thread(target: Target) -> None:
    sync = target.client()
    found: list[Any] = []

    async def body() -> None:
        client = target.async_client()
        thread = threading.Thread(target=lambda: found.append(sync.blpop("to thread", PATIENCE)))
        thread.start()
        await until(blocked(client, 1))
        await client.rpush("to thread", 1)
        await asyncio.to_thread(thread.join, PATIENCE)
        waiting = asyncio.create_task(client.blpop("to task", PATIENCE))
        await until(blocked(client, 1))
        await asyncio.to_thread(sync.rpush, "to task", 2)
        found.append(await waiting)
        await getattr(client, CLOSE)()

    run(body)
    assert [tuple(each) for each in found] == [(b"to thread", b"1"), (b"to task", b"2")]


# -- what only a fake can do ---------------------------------------------------------------------------------------


def test_a_client_is_bound_to_no_event_loop() -> None:
    client = FakeAsyncClient()
    pubsub = client.pubsub()

    async def first() -> None:
        await client.rpush("l", 1)
        await pubsub.subscribe("a")
        await pubsub.get_message(timeout=PATIENCE)

    async def second() -> Any:
        await client.publish("a", 1)
        return await client.blpop("l", PATIENCE), await pubsub.get_message(timeout=PATIENCE)

    run(first)
    popped, message = run(second)
    assert tuple(popped) == (b"l", b"1")
    assert message["data"] == b"1"
    run(client.connection_pool.disconnect)


def test_loops_in_several_threads_share_a_server() -> None:
    server = FakeServer()
    found: list[int] = []

    async def work() -> None:
        client = FakeAsyncClient(server=server)
        for _ in range(50):
            await client.incr("n")
        found.append(int(await client.blpop("l", PATIENCE) is not None))
        await getattr(client, CLOSE)()

    loops = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
    for thread in loops:
        thread.start()
    with FakeClient(server=server) as client:
        client.rpush("l", *range(4))
        for thread in loops:
            thread.join(PATIENCE)
        assert client.get("n") == b"200"
    assert found == [1] * 4


def test_a_call_blocked_in_a_loop_that_has_ended_takes_nothing() -> None:
    server = FakeServer()
    client = FakeAsyncClient(server=server)

    async def leave() -> None:
        asyncio.create_task(client.blpop("l", 0))  # noqa: RUF006
        await asyncio.sleep(0.01)

    run(leave)  # which cancels what is left of its tasks
    with FakeClient(server=server) as sync:
        sync.rpush("l", 1)
        assert sync.lrange("l", 0, -1) == [b"1"]


def test_the_clock_ends_waits_of_tasks() -> None:
    server = FakeServer()

    async def body() -> Any:
        client = FakeAsyncClient(server=server)
        waiting = asyncio.create_task(client.blpop("l", 5000))
        await until(blocked(client, 1))
        server.clock.advance(seconds=5001)
        found = await asyncio.wait_for(waiting, PATIENCE)
        await getattr(client, CLOSE)()
        return found

    assert run(body) is None


def test_nothing_runs_while_a_task_waits() -> None:
    """A wait is no polling: the loop turns as often as something happens, not as time passes."""
    turns = 0

    class Counting(asyncio.SelectorEventLoop):
        def _run_once(self) -> None:
            nonlocal turns
            turns += 1
            super()._run_once()  # type: ignore[misc]

    async def body() -> None:
        client = FakeAsyncClient()
        pubsub = client.pubsub()
        await pubsub.subscribe("a")
        await pubsub.get_message(timeout=PATIENCE)
        before = turns
        await asyncio.gather(client.blpop("l", 0.3), pubsub.get_message(timeout=0.3))
        assert turns - before < 40
        await pubsub.close() if CLOSE == "close" else await pubsub.aclose()
        await getattr(client, CLOSE)()

    loop = Counting()
    try:
        loop.run_until_complete(asyncio.wait_for(body(), PATIENCE))
    finally:
        loop.close()


def test_a_client_that_nobody_holds_is_gone_with_its_server() -> None:
    async def body() -> weakref.ref[Any]:
        client = FakeAsyncClient()
        await client.set("a", 1)
        await client.connection_pool.disconnect()
        return weakref.ref(client.server)

    server = run(body)
    gc.collect()
    assert server() is None


@pytest.mark.parametrize(
    "url", ["fake://somewhere/3", "unix:///run/s?db=3", f"{LIBRARY.__name__}://localhost/3"]
)
def test_urls_say_what_a_client_is_of(url: str) -> None:
    async def body() -> None:
        client = FakeAsyncClient.from_url(url, decode_responses=True)
        await client.set("a", "ä")
        assert await client.get("a") == "ä"
        if VERSION >= (5, 0):
            assert (await client.client_info())["db"] == 3
        await getattr(client, CLOSE)()

    run(body)
