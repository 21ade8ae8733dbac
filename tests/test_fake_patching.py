"""``kvstore.fake.patched``: clients that a program makes itself, or has already, reach a fake server."""

from __future__ import annotations

import asyncio
import gc
import threading
import unittest
import weakref
from collections.abc import Callable
from typing import Any

import pytest

redis = pytest.importorskip("redis")

import redis.asyncio as aredis  # noqa: E402
from redis import Redis  # noqa: E402  (as code under test has it)

from kvstore.fake import FakeRedis, FakeServer, patched  # noqa: E402
from kvstore.fake import patching as module  # noqa: E402
from tests.servers import Server  # noqa: E402

NOWHERE: dict[str, Any] = {"host": "127.0.0.1", "port": 1, "retry": None}  # where nobody listens

MAKERS: dict[str, Callable[[], Any]] = {
    "Redis": lambda: Redis(**NOWHERE),
    "StrictRedis": lambda: redis.StrictRedis("kvstore.invalid", 1),
    "from_url": lambda: redis.from_url("redis://kvstore.invalid:1/0"),
    "tls": lambda: Redis.from_url("rediss://kvstore.invalid:1/0"),
    "unix": lambda: Redis(unix_socket_path="/nowhere/socket"),
    "pool": lambda: Redis(connection_pool=redis.ConnectionPool(**NOWHERE)),
    "blocking pool": lambda: Redis(connection_pool=redis.BlockingConnectionPool(**NOWHERE, timeout=5)),
    "single": lambda: Redis(**NOWHERE, single_connection_client=True),
    "resp2": lambda: Redis(**NOWHERE, protocol=2),
    "resp3": lambda: Redis(**NOWHERE, protocol=3),
}


@pytest.mark.parametrize("how", MAKERS)
def test_every_way_to_make_a_client_leads_to_the_server(how: str) -> None:
    with patched() as server:
        client = MAKERS[how]()
        client.rpush("list", "a", "b")
        assert client.blpop("list", timeout=5) in ([b"list", b"a"], (b"list", b"a"))
        assert FakeRedis(server=server).lrange("list", 0, -1) == [b"b"]
        client.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: aredis.Redis(**NOWHERE),
        lambda: aredis.from_url("rediss://kvstore.invalid:1/0"),
        lambda: aredis.Redis(unix_socket_path="/nowhere/socket"),
        lambda: aredis.Redis(connection_pool=aredis.BlockingConnectionPool(**NOWHERE)),
    ],
)
def test_asyncio_clients_lead_to_the_server_from_loop_to_loop(make: Callable[[], Any]) -> None:
    with patched() as server:
        client = make()
        for number in range(2):
            assert asyncio.run(client.incr("counter")) == number + 1
        assert FakeRedis(server=server).get("counter") == b"2"


def test_a_client_that_was_there_before_changes_with_each_patch_and_is_itself_after() -> None:
    client = Redis(**NOWHERE)
    for _ in range(2):
        with patched():
            assert client.get("greeting") is None
            client.set("greeting", "hello")
            assert client.get("greeting") == b"hello"
        with pytest.raises(redis.ConnectionError, match=r"127\.0\.0\.1:1"):
            client.get("greeting")
    aclient = aredis.Redis(**NOWHERE)
    with patched():
        assert asyncio.run(aclient.ping())
    with pytest.raises(redis.ConnectionError, match=r"127\.0\.0\.1:1"):
        asyncio.run(aclient.ping())


@pytest.mark.parametrize("single", [False, True])
def test_a_client_connected_to_a_real_server_sends_it_nothing_while_patched(
    kvstore_server: Server, single: bool
) -> None:
    client = Redis(unix_socket_path=kvstore_server.unix, single_connection_client=single)
    client.set("patched", "real")
    with patched():
        assert client.get("patched") is None
        client.set("patched", "fake")
        client.flushall()
    assert client.get("patched") == b"real"
    client.delete("patched")
    client.close()


def test_an_asyncio_client_connected_to_a_real_server_goes_there_and_back(kvstore_server: Server) -> None:
    async def go() -> None:
        async with aredis.Redis(unix_socket_path=kvstore_server.unix) as client:
            await client.set("patched", "real")
            with patched():
                assert await client.get("patched") is None
            assert await client.get("patched") == b"real"
            await client.delete("patched")

    asyncio.run(go())


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscriptions_move_with_their_connection(kvstore_server: Server, protocol: int) -> None:
    client = Redis(port=kvstore_server.port, protocol=protocol)
    heard: list[Any] = []
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(news=heard.append)
        pubsub.get_message(timeout=5)
        with patched() as server:
            pubsub.ping()
            FakeRedis(server=server).publish("news", "rain")
            for _ in range(3):
                pubsub.get_message(timeout=5)
            assert [each["data"] for each in heard] == [b"rain"]
    client.close()


def test_databases_are_told_apart_by_number_whatever_the_address() -> None:
    with patched():
        Redis("one.invalid", db=2).set("k", "two")
        assert Redis("other.invalid", db=2).get("k") == b"two"
        assert redis.from_url("unix:///nowhere/socket?db=2").get("k") == b"two"
        assert Redis("one.invalid").get("k") is None


def test_addresses_may_have_servers_of_their_own() -> None:
    cache, jobs, local = FakeServer(), FakeServer(), FakeServer()
    servers = {"cache.invalid:6380": cache, "redis://jobs.invalid/3": jobs, "/run/redis.sock": local}
    with patched(servers=servers) as rest:
        for url, server in {
            "redis://cache.invalid:6380": cache,
            "redis://cache.invalid": rest,
            "redis://jobs.invalid": jobs,
            "unix:///run/redis.sock": local,
            "redis://": rest,
        }.items():
            redis.from_url(url).set("came to", url)
            assert FakeRedis(server=server).get("came to") == url.encode()


def test_sentinels_find_each_service_by_its_name() -> None:
    from redis.sentinel import Sentinel

    queue = FakeServer()
    with patched(servers={"queue": queue}) as rest:
        sentinel = Sentinel([("127.0.0.1", 1)], sentinel_kwargs={"retry": None})
        sentinel.master_for("cache", db=1).set("k", "cache")
        assert sentinel.slave_for("cache", db=1).get("k") == b"cache"
        assert FakeRedis(server=rest, db=1).get("k") == b"cache"
        sentinel.master_for("queue").set("k", "queue")
        assert FakeRedis(server=queue).get("k") == b"queue"
        asentinel = aredis.Sentinel([("127.0.0.1", 1)])
        assert asyncio.run(asentinel.master_for("queue").get("k")) == b"queue"
        assert asyncio.run(asentinel.slave_for("queue").get("k")) == b"queue"
    with pytest.raises(redis.ConnectionError):
        sentinel.master_for("queue").get("k")


@pytest.mark.parametrize("server", [FakeServer(), FakeServer(config={"cluster-enabled": "yes"})])
def test_clients_of_a_cluster_find_the_one_node_where_they_look_for_it(server: FakeServer) -> None:
    async def main() -> None:
        async with aredis.RedisCluster(host="cluster.invalid", port=7000) as client:
            assert await client.set("{x}a", "1") and await client.mget("{x}a", "{x}b") == [b"1", None]

    with patched(servers={"cluster.invalid:7000": server}):
        if server.hub.node is None:
            with pytest.raises(redis.exceptions.RedisClusterException, match="Cluster mode is not enabled"):
                redis.RedisCluster(host="cluster.invalid", port=7000)
            return
        client = redis.RedisCluster(host="cluster.invalid", port=7000)
        assert [(node.host, node.port) for node in client.get_nodes()] == [("cluster.invalid", 7000)]
        assert client.pipeline().set("a", "1").set("b", "2").get("a").execute() == [True, True, b"1"]
        asyncio.run(main())


def test_an_address_may_be_left_alone(kvstore_server: Server) -> None:
    client = Redis(unix_socket_path=kvstore_server.unix)
    with patched(servers={kvstore_server.unix: None}):
        client.set("patched", "real")
    assert client.getdel("patched") == b"real"
    client.close()


@pytest.mark.parametrize("address", ["", "http://cache:80", "fake://name"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="an address is"):
        patched(servers={address: FakeServer()})


def test_credentials_of_the_configuration_count_where_the_server_has_a_password() -> None:
    client = Redis(**NOWHERE, username="default", password="secret")
    with patched():
        assert client.ping()
    assert client.connection_pool.connection_kwargs["password"] == "secret"
    locked = FakeServer()
    FakeRedis(server=locked).config_set("requirepass", "secret")
    with patched(locked):
        assert client.ping()
        with pytest.raises(redis.AuthenticationError):
            Redis(**NOWHERE, password="wrong").ping()


def test_names_of_users_count_where_the_server_has_users() -> None:
    server = FakeServer()
    FakeRedis(server=server).acl_setuser(
        "ann", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"]
    )
    with patched(server):
        assert Redis(**NOWHERE, username="ann", password="secret").acl_whoami() == "ann"
        with pytest.raises(redis.AuthenticationError):
            Redis(**NOWHERE, username="bob", password="secret").ping()


def test_the_inner_of_nested_patches_counts() -> None:
    client = Redis(**NOWHERE)
    with patched() as outer:
        client.set("k", "outer")
        with patched() as inner:
            assert client.get("k") is None
            assert inner is not outer
        assert client.get("k") == b"outer"


def test_fake_clients_keep_their_server() -> None:
    mine = FakeRedis()
    with patched():
        mine.set("k", "mine")
        Redis(**NOWHERE).flushall()
    assert mine.get("k") == b"mine"


def test_a_given_server_keeps_its_data_from_patch_to_patch() -> None:
    server = FakeServer()
    client = Redis(**NOWHERE)
    with patched(server) as same:
        assert same is server
        client.set("k", "v")
    with patched(server):
        assert client.get("k") == b"v"


def test_one_who_waits_at_the_end_of_a_patch_gets_a_connection_error() -> None:
    errors: list[BaseException] = []
    client = Redis(**NOWHERE)

    def wait() -> None:
        try:
            client.blpop("queue", timeout=0)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    with patched() as server:
        thread.start()
        other = FakeRedis(server=server)
        while not other.info("clients")["blocked_clients"]:
            pass
    thread.join(20)
    assert not thread.is_alive()
    assert isinstance(errors[0], redis.ConnectionError)


def test_a_patch_leaves_nothing_behind() -> None:
    methods = {
        (base, name): vars(base).get(name)
        for base in (redis.connection.AbstractConnection, aredis.connection.AbstractConnection)
        for name in module._ENTRANCES
    }
    methods |= {
        (sentinel, name): vars(sentinel)[name]
        for sentinel in (redis.Sentinel, aredis.Sentinel)
        for name in ("discover_master", "discover_slaves")
    }
    client, aclient = Redis(**NOWHERE), aredis.Redis(**NOWHERE)
    with pytest.raises(KeyError), patched() as server:
        client.ping()
        asyncio.run(aclient.ping())
        gone = weakref.ref(server)
        raise KeyError
    del server
    gc.collect()
    assert gone() is None
    assert {(base, name): vars(base).get(name) for base, name in methods} == methods
    for pool in (client.connection_pool, aclient.connection_pool):
        [connection] = pool._available_connections
        assert type(connection) is pool.connection_class
        assert not {"exchange", "words", "before_patch"} & vars(connection).keys()


def test_a_connection_that_is_dropped_while_patched_frees_its_session() -> None:
    with patched() as server:
        client = Redis(**NOWHERE)
        client.ping()
        assert len(server.lines) == 1
        del client
        gc.collect()
        assert not FakeRedis(server=server).client_list()[1:]


# -- decorators --------------------------------------------------------------------------------------------


def test_a_decorated_function_gets_a_server_of_its_own_at_each_call() -> None:
    @patched()
    def count(by: int) -> int:
        """Counts."""
        return int(Redis(**NOWHERE).incr("counter", by))

    assert (count.__name__, count.__doc__) == ("count", "Counts.")
    assert [count(2), count(by=3)] == [2, 3]


def test_a_decorated_coroutine_is_patched_until_it_is_done() -> None:
    @patched()
    async def count() -> int:
        await asyncio.sleep(0)
        return int(await aredis.Redis(**NOWHERE).incr("counter"))

    assert [asyncio.run(count()), asyncio.run(count())] == [1, 1]


def test_what_cannot_be_decorated_is_refused() -> None:
    def generator() -> Any:
        yield

    with pytest.raises(TypeError, match="with patched"):
        patched()(generator)
    with pytest.raises(TypeError, match="enterContext"):
        patched()(unittest.TestCase)
    with pytest.raises(TypeError, match="parentheses"):
        patched(generator)  # type: ignore[arg-type]


def test_a_patch_that_is_on_cannot_be_entered_again() -> None:
    patch = patched()
    with patch, pytest.raises(RuntimeError, match="on already"):
        patch.__enter__()
    with patch:
        assert Redis(**NOWHERE).ping()


def test_unittest_enters_it_as_a_context() -> None:
    class Greeting(unittest.TestCase):
        def setUp(self) -> None:
            self.server = self.enterContext(patched())

        def test_is_there(self) -> None:
            Redis(**NOWHERE).set("greeting", "hello")
            self.assertEqual(FakeRedis(server=self.server).get("greeting"), b"hello")

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Greeting).run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
    with pytest.raises(redis.ConnectionError):
        Redis(**NOWHERE).ping()


def test_clients_of_valkey_are_patched_as_well() -> None:
    valkey = pytest.importorskip("valkey")
    client = valkey.Valkey("127.0.0.1", 1, password="secret")
    with patched() as server:
        client.set("k", "v")
        assert Redis(**NOWHERE).get("k") == b"v"
        assert asyncio.run(valkey.asyncio.from_url("valkeys://nowhere.invalid").get("k")) == b"v"
        assert FakeRedis(server=server).get("k") == b"v"
    with pytest.raises(valkey.ConnectionError):
        client.get("k")
