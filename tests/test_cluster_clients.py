"""Programs and one node that has all slots of a cluster: redis-py's cluster clients, and the program's own store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from redis.cluster import RedisCluster

import kvstore
from kvstore.commands.slots import slot_of
from kvstore.serving import ServerThread

_SECONDS = 30.0


@pytest.fixture(scope="module")
def node() -> Iterator[ServerThread]:
    with kvstore.serve(port=0, cluster_enabled=True) as server:
        yield server


def test_a_programs_own_calls_have_no_slots() -> None:
    with kvstore.serve(port=0, cluster_enabled=True) as server:
        server.call(lambda store: store.mset({"a": 1, "b": 2}))
        assert server.call(lambda store: store.call("MGET", "a", "b")) == [b"1", b"2"]
        script = "#!lua\nreturn redis.call('get', 'a') .. redis.call('get', 'b')"
        assert server.call(lambda store: store.eval(script, 0)) == b"12"


def test_a_log_of_several_slots_is_read_by_a_node(tmp_path: Path) -> None:
    with kvstore.serve(port=0, dir=str(tmp_path), appendonly=True) as server:
        redis.Redis.from_url(server.url).pipeline().mset({"a": 1, "b": 2}).rename("a", "c").execute()
    with kvstore.serve(port=0, dir=str(tmp_path), appendonly=True, cluster_enabled=True) as server:
        assert RedisCluster.from_url(server.url).mget_nonatomic("a", "b", "c") == [None, b"2", b"1"]


@pytest.fixture
def cluster(node: ServerThread) -> Iterator[RedisCluster]:
    """redis-py's client of the node."""
    with RedisCluster(host="127.0.0.1", port=node.port, decode_responses=True) as client:
        client.flushall()
        yield client


def test_a_cluster_client_finds_the_node(cluster: RedisCluster, node: ServerThread) -> None:
    (found,) = cluster.get_nodes()
    assert (found.host, found.port, found.server_type) == ("127.0.0.1", node.port, "primary")
    assert cluster.cluster_info(target_nodes=found)["cluster_state"] == "ok"
    (described,) = cluster.cluster_nodes().values()
    assert described["slots"] == [["0", "16383"]]
    assert cluster.cluster_keyslot("{user}a") == cluster.keyslot("user") == slot_of(b"user")
    assert cluster.cluster_countkeysinslot(slot_of(b"user")) == 0


def test_a_cluster_client_runs_commands(cluster: RedisCluster) -> None:
    assert cluster.set("greeting", "hello", ex=100) and cluster.get("greeting") == "hello"
    assert cluster.mset_nonatomic({f"k{number}": number for number in range(30)})
    assert cluster.mget_nonatomic(*(f"k{number}" for number in range(30))) == [
        str(number) for number in range(30)
    ]
    assert cluster.zadd("{z}a", {"x": 1, "y": 2}) == 2
    assert cluster.zunionstore("{z}b", ["{z}a", "{z}none"]) == 2
    assert cluster.xadd("stream", {"field": "value"})
    assert cluster.dbsize() == 34
    assert len(cluster.keys("k*")) == len(list(cluster.scan_iter("k*"))) == 30
    assert cluster.eval("return redis.call('get', KEYS[1])", 1, "greeting") == "hello"
    assert cluster.cluster_get_keys_in_slot(slot_of(b"greeting"), 10) == ["greeting"]
    assert cluster.delete(*(f"k{number}" for number in range(30))) == 30
    with cluster.lock("a lock", timeout=10):
        assert cluster.exists("a lock")
    with pytest.raises(redis.ResponseError, match="hash to the same slot"):
        cluster.execute_command("MSET", "a", "1", "b", "2", target_nodes=cluster.get_default_node())


def test_a_cluster_client_pipelines(cluster: RedisCluster) -> None:
    with cluster.pipeline() as pipe:
        for number in range(100):
            pipe.incrby(f"k{number}", number)
        assert pipe.execute() == list(range(100))
    with cluster.pipeline(transaction=True) as pipe:
        pipe.set("{t}a", "1").incr("{t}a").get("{t}a")
        assert pipe.execute()[1:] == [2, "2"]


def _awaited(read: Callable[..., object]) -> dict[str, object]:
    """The next message that a subscriber reads."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        message = read(timeout=1)
        if message is not None:
            assert isinstance(message, dict)
            return message
    raise TimeoutError


def test_a_cluster_client_publishes_and_listens(cluster: RedisCluster) -> None:
    with cluster.pubsub() as listener:
        listener.subscribe("news")
        assert _awaited(listener.get_message)["type"] == "subscribe"
        assert cluster.publish("news", "hello") == 1
        assert _awaited(listener.get_message)["data"] == "hello"


def test_a_cluster_client_uses_shard_channels(cluster: RedisCluster) -> None:
    with cluster.pubsub() as listener:
        for channel in ("orders", "users"):  # of two slots
            listener.ssubscribe(channel)
            assert _awaited(listener.get_sharded_message)["type"] == "ssubscribe"
        for channel in ("orders", "users"):
            assert cluster.spublish(channel, f"for {channel}") == 1
            message = _awaited(listener.get_sharded_message)
            assert (message["type"], message["data"]) == ("smessage", f"for {channel}")
        assert sorted(cluster.pubsub_shardchannels(target_nodes=RedisCluster.PRIMARIES)) == [
            "orders",
            "users",
        ]


def test_a_cluster_is_opened_by_its_url(node: ServerThread) -> None:
    client = kvstore.open(node.url.replace("redis://", "redis+cluster://"))
    assert isinstance(client, RedisCluster)
    assert client.set("greeting", "hello") and client.get("greeting") == b"hello"
    client.close()


def test_a_cluster_client_of_asyncio_works(node: ServerThread) -> None:
    async def main() -> None:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=node.port)
        async with client:
            await client.flushall()
            assert await client.set("greeting", "hello") and await client.get("greeting") == b"hello"
            pipe = client.pipeline()
            for number in range(20):
                pipe.set(f"k{number}", number)
            assert await pipe.execute() == [True] * 20
            assert await client.mget_nonatomic("k1", "k2") == [b"1", b"2"]

    asyncio.run(main())
