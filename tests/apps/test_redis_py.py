"""A program's day with redis-py over real sockets, sync and asyncio, RESP2 and RESP3."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.servers import Server

redis = pytest.importorskip("redis")
aio = pytest.importorskip("redis.asyncio")

pytestmark = pytest.mark.timeout(60)

INCREASE_UP_TO = """
local now = tonumber(redis.call('GET', KEYS[1]) or '0')
if now + ARGV[1] > tonumber(ARGV[2]) then
  return redis.error_reply('LIMIT reached at ' .. now)
end
return {redis.call('INCRBY', KEYS[1], ARGV[1]), redis.call('TYPE', KEYS[1]).ok}
"""


@pytest.fixture(params=[("unix", 2), ("unix", 3), ("tcp", 3)], ids=lambda param: f"{param[0]}-resp{param[1]}")
def where(request: pytest.FixtureRequest, server: Server) -> dict[str, Any]:
    """The arguments of ``from_url``: both sockets, both protocols."""
    transport, protocol = request.param
    url = server.unix_url if transport == "unix" else server.tcp_url
    return {"url": url, "protocol": protocol, "decode_responses": True, "socket_timeout": 10}


@pytest.fixture
def client(where: dict[str, Any]) -> Iterator[Any]:
    with redis.Redis.from_url(**where) as connected:
        yield connected


def test_the_five_types(client: Any) -> None:
    assert client.set("s", "v", ex=100) is True
    assert client.set("s", "w", nx=True) is None
    assert 0 < client.ttl("s") <= 100
    assert (client.get("s"), client.get("missing"), client.incrbyfloat("f", 1.1)) == ("v", None, 1.1)
    assert client.rpush("l", *"abc") == 3
    assert (client.lrange("l", 0, -1), client.lmpop(2, "no", "l", direction="LEFT")) == (
        ["a", "b", "c"],
        ["l", ["a"]],
    )
    assert client.sadd("set", "x", "y") == 2
    assert (client.smembers("set"), client.smismember("set", ["x", "z"])) == ({"x", "y"}, [1, 0])
    assert client.hset("h", mapping={"one": 1, "two": 2}) == 2
    assert (client.hgetall("h"), client.hmget("h", "two", "no")) == ({"one": "1", "two": "2"}, ["2", None])
    assert client.zadd("z", {"a": 1, "b": 2.5}) == 2
    assert (client.zscore("z", "b"), client.zrank("z", "b"), client.zincrby("z", 2, "a")) == (2.5, 1, 3.0)
    assert [list(pair) for pair in client.zrange("z", 0, -1, withscores=True)] == [["b", 2.5], ["a", 3.0]]
    assert set(client.scan_iter(count=2)) == {"s", "f", "l", "set", "h", "z"}
    assert dict(client.hscan_iter("h")) == {"one": "1", "two": "2"}
    assert client.info("server")["redis_mode"] == "standalone"
    with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE Operation against a key"):
        client.lpush("s", "x")


def test_a_pipeline_keeps_errors_in_their_place(client: Any) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(500):
            pipe.rpush("l", number)
        pipe.incr("l").llen("l")
        *lengths, error, length = pipe.execute(raise_on_error=False)
    assert lengths == list(range(1, 501))
    assert isinstance(error, redis.ResponseError)
    assert length == 500


def test_a_watched_transaction_runs_again_when_another_client_was_faster(client: Any) -> None:
    client.set("n", 1)
    attempts: list[int] = []

    def double(pipe: Any) -> None:
        value = int(pipe.get("n"))
        if not attempts:
            client.incr("n")  # another connection of the pool
        attempts.append(value)
        pipe.multi()
        pipe.set("n", value * 2)
        pipe.get("n")

    assert client.transaction(double, "n") == [True, "4"]
    assert attempts == [1, 2]


def test_a_script_is_loaded_when_missing_and_its_errors_come_through(client: Any) -> None:
    increase = client.register_script(INCREASE_UP_TO)
    assert increase(keys=["n"], args=[7, 10]) == [7, "string"]
    client.script_flush()
    assert increase(keys=["n"], args=[3, 10]) == [10, "string"]
    with pytest.raises(redis.ResponseError, match="LIMIT reached at 10"):
        increase(keys=["n"], args=[1, 10])
    with client.pipeline() as pipe:
        increase(keys=["m"], args=[1, 10], client=pipe)
        pipe.get("m")
        assert pipe.execute() == [[1, "string"], "1"]
    assert client.eval("return {1, 'two', {3.9, false}, redis.call('HSET', KEYS[1], 'f', 'v')}", 1, "h") == [
        *(1, "two", [3, None], 1)
    ]


def test_a_lock_is_held_by_one_and_expires(client: Any) -> None:
    lock = client.lock("lock", timeout=30)
    assert lock.acquire(blocking=False)
    assert client.lock("lock", timeout=30).acquire(blocking=False) is False
    assert lock.extend(30) and 30 < client.ttl("lock") <= 60
    assert lock.reacquire() and client.ttl("lock") <= 30
    lock.release()
    with pytest.raises(redis.exceptions.LockError):
        lock.release()
    expiring = client.lock("lock", timeout=0.05)
    assert expiring.acquire()
    following = client.lock("lock", timeout=30, sleep=0.01)
    assert following.acquire(blocking_timeout=10)  # waits for the expiry
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        expiring.release()
    following.release()
    assert client.get("lock") is None


def test_threads_share_a_lock_and_lose_no_update(client: Any) -> None:
    def add() -> None:
        for _ in range(10):
            with client.lock("lock", timeout=30, sleep=0.001):
                client.set("n", int(client.get("n") or 0) + 1)

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert client.get("n") == "50"


def next_message(pubsub: Any) -> tuple[Any, ...]:
    message = pubsub.get_message(timeout=10)
    assert message is not None
    return tuple(message[part] for part in ("type", "pattern", "channel", "data"))


def test_published_messages_arrive_in_order(client: Any) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe("news")
        pubsub.psubscribe("n*")
        assert next_message(pubsub) == ("subscribe", None, "news", 1)
        assert next_message(pubsub) == ("psubscribe", None, "n*", 2)
        assert client.pubsub_numsub("news") == [("news", 1)]
        assert [client.publish("news", text) for text in ("one", "two")] == [2, 2]
        for text in ("one", "two"):
            assert next_message(pubsub) == ("message", None, "news", text)
            assert next_message(pubsub) == ("pmessage", "n*", "news", text)
        pubsub.unsubscribe()
        assert next_message(pubsub) == ("unsubscribe", None, "news", 1)
        assert client.publish("news", "three") == 1


def test_a_handler_thread_receives_keyspace_events(client: Any) -> None:
    client.config_set("notify-keyspace-events", "KEA")
    heard: list[tuple[str, str]] = []
    enough = threading.Event()

    def hear(message: dict[str, str]) -> None:
        heard.append((message["channel"], message["data"]))
        if message["data"] == "expired":
            enough.set()

    pubsub = client.pubsub()
    pubsub.psubscribe(**{"__keyspace@0__:*": hear})
    assert pubsub.get_message(timeout=10)["type"] == "psubscribe"
    thread = pubsub.run_in_thread(sleep_time=0.01)
    try:
        client.set("k", "v", px=20)  # nobody reads it again: the active cycle must end it
        assert enough.wait(10)
    finally:
        thread.stop()
        thread.join(10)
        client.config_set("notify-keyspace-events", "")
    assert [data for channel, data in heard if channel == "__keyspace@0__:k"] == ["set", "expire", "expired"]


def in_loop(where: dict[str, Any], program: Callable[[Any], Awaitable[None]]) -> None:
    """Run a coroutine function with an asyncio client."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Any]:
        client = aio.Redis.from_url(**where)
        try:
            yield client
        finally:
            await client.aclose()

    async def main() -> None:
        async with connected() as client, asyncio.timeout(40):
            await program(client)

    asyncio.run(main())


def test_asyncio_tasks_share_a_server(where: dict[str, Any]) -> None:
    async def program(client: Any) -> None:
        async def count(_: int) -> int:
            return int(await client.incr("n"))

        assert sorted(await asyncio.gather(*map(count, range(40)))) == list(range(1, 41))
        async with client.pipeline(transaction=True) as pipe:
            assert await pipe.set("a", 1).incr("a").hset("h", "f", "v").execute() == [True, 2, 1]
        assert {key async for key in client.scan_iter("?")} == {"n", "a", "h"}
        script = client.register_script(INCREASE_UP_TO)
        assert await script(keys=["a"], args=[1, 10]) == [3, "string"]
        async with client.lock("lock", timeout=30):
            assert await client.lock("lock").acquire(blocking=False) is False

    in_loop(where, program)


def test_asyncio_waits_for_elements_and_messages(where: dict[str, Any]) -> None:
    async def program(client: Any) -> None:
        poppers = [asyncio.create_task(client.blpop("queue", timeout=20)) for _ in range(3)]
        while (await client.info("clients"))["blocked_clients"] < 3:
            await asyncio.sleep(0.01)
        await client.rpush("queue", "a", "b", "c")
        assert sorted(pair[1] for pair in await asyncio.gather(*poppers)) == ["a", "b", "c"]
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"
            assert await client.publish("news", "hello") == 1
            assert (await pubsub.get_message(timeout=10))["data"] == "hello"

    in_loop(where, program)


def test_a_client_connects_again_after_the_server_closed_its_connection(
    client: Any, where: dict[str, Any]
) -> None:
    before = client.client_id()
    with redis.Redis.from_url(**where) as operator:
        assert before in [int(entry["id"]) for entry in operator.client_list()]
        assert operator.client_kill_filter(_id=before) == 1
        assert before not in [int(entry["id"]) for entry in operator.client_list()]
    assert client.set("k", "v") is True
    assert client.client_id() > before


def test_connection_options_are_seen_by_the_server(where: dict[str, Any]) -> None:
    with redis.Redis.from_url(**where, db=3, client_name="tester", single_connection_client=True) as client:
        client.set("k", "v")
        mine = client.client_info()
        assert (mine["name"], str(mine["db"]), str(mine["resp"])) == ("tester", "3", str(where["protocol"]))
    with redis.Redis.from_url(**where) as client:
        assert (client.exists("k"), client.swapdb(0, 3), client.get("k")) == (0, True, "v")
