"""What a test's author can have go wrong on a fake server, seen through the real clients of redis-py."""

from __future__ import annotations

import asyncio
import shlex
import threading
import time
from typing import Any

import pytest
import redis

from kvstore.fake import FakeRedis, FakeServer
from tests import servers
from tests.conftest import require
from tests.fake_clients import async_client_of, client_of, close, connection_of, once, says

LOADING = "LOADING Redis is loading the dataset in memory"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture(params=[2, 3])
def client(server: FakeServer, request: pytest.FixtureRequest) -> FakeRedis:
    return client_of(server, protocol=request.param)


# -- errors ----------------------------------------------------------------------------------------------


def test_the_next_so_many_calls_fail_and_later_ones_do_not(server: FakeServer, client: Any) -> None:
    fault = server.fail_next("lpush", LOADING, times=2)
    for _ in range(2):
        with pytest.raises(redis.BusyLoadingError, match="Redis is loading"):
            client.lpush("l", "a")
    assert client.lpush("l", "b") == 1
    assert fault.hits == 2


def test_a_command_fails_until_it_is_healed_and_no_other_does(server: FakeServer, client: Any) -> None:
    server.fail("GET", LOADING)
    server.fail("EXISTS", "ERR no")
    assert client.set("k", "v")
    for _ in range(3):
        with pytest.raises(redis.BusyLoadingError):
            client.get("k")
    server.heal("get")
    assert client.get("k") == b"v"
    with pytest.raises(redis.ResponseError, match=r"^no$"):
        client.exists("k")
    server.heal()
    assert client.exists("k") == 1


def test_a_failure_ends_with_its_block(server: FakeServer, client: Any) -> None:
    with server.fail("GET", "ERR no") as fault, pytest.raises(redis.ResponseError):
        client.get("k")
    assert fault.hits == 1
    assert client.get("k") is None


def test_failures_of_one_command_wait_for_their_turn(server: FakeServer, client: Any) -> None:
    server.fail("GET", "ERR always")
    server.fail_next("GET", "ERR first")
    server.fail_next("GET", "ERR second")
    texts = []
    for _ in range(3):
        with pytest.raises(redis.ResponseError) as caught:
            client.get("k")
        texts.append(str(caught.value))
    assert texts == ["first", "second", "always"]


def test_any_command_fails_but_those_with_which_the_library_connects(server: FakeServer) -> None:
    server.fail_next(None, LOADING)
    client = client_of(server, db=3, client_name="someone")
    with pytest.raises(redis.BusyLoadingError):
        client.ping()
    assert client.client_info()["name"] == "someone"
    assert client.client_info()["db"] == 3


def test_commands_of_connecting_fail_where_they_are_named(server: FakeServer) -> None:
    server.fail_next("SELECT", "ERR invalid DB index")
    with pytest.raises(redis.ResponseError, match="invalid DB index"):
        client_of(server, db=3).ping()


def test_a_subcommand_fails_by_its_own_name_or_its_parents(server: FakeServer, client: Any) -> None:
    server.fail("CONFIG GET", "ERR get")
    with pytest.raises(redis.ResponseError, match=r"^get$"):
        client.config_get("maxmemory")
    assert client.config_resetstat()
    server.fail("CONFIG", "ERR all")
    with pytest.raises(redis.ResponseError, match=r"^all$"):
        client.config_resetstat()


def test_a_command_that_fails_in_multi_has_the_transaction_fail(server: FakeServer, client: Any) -> None:
    server.fail_next("APPEND", LOADING)
    pipeline = client.pipeline().set("a", 1).append("a", 1)
    with pytest.raises(redis.BusyLoadingError):
        pipeline.execute()
    assert client.exists("a") == 0
    connection = connection_of(client)
    server.fail_next("GET", "ERR no")
    said = [says(connection, *words) for words in (["MULTI"], ["GET", "a"], ["SET", "a", 1], ["EXEC"])]
    assert said[1] == ("ResponseError", "no")
    assert said[3] == ("ExecAbortError", "Transaction discarded because of previous errors.")


def test_an_exec_that_fails_discards_its_transaction(server: FakeServer, client: Any) -> None:
    server.fail_next("EXEC", "ERR no")
    with pytest.raises(redis.exceptions.ExecAbortError):
        client.pipeline().set("a", 1).execute()
    assert client.get("a") is None


def test_what_a_script_calls_fails_within_the_script(server: FakeServer, client: Any) -> None:
    server.fail("GET", LOADING)
    with pytest.raises(redis.BusyLoadingError, match=r"script: [0-9a-f]{40}, on @user_script:1"):
        client.eval("return redis.call('get', 'a')", 0)
    assert client.eval("return redis.pcall('get', 'a').err", 0) == LOADING.encode()
    assert client.eval("redis.call('set', 'a', '1') return 5", 0) == 5


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (redis.ReadOnlyError, "You can't write against a read only replica."),
        (redis.BusyLoadingError("not yet"), "not yet"),
        (redis.OutOfMemoryError, "command not allowed when used memory > 'maxmemory'."),
        (redis.exceptions.NoScriptError, "No matching script. Please use EVAL."),
        (redis.exceptions.NoPermissionError("not you"), "not you"),
        (redis.ResponseError("boom"), "boom"),
        (redis.ResponseError("WRONGTYPE of value"), "WRONGTYPE of value"),
    ],
)
def test_an_exception_is_what_the_client_raises(
    server: FakeServer, client: Any, error: Any, text: str
) -> None:
    server.fail("GET", error)
    with pytest.raises(redis.RedisError) as caught:
        client.get("k")
    assert type(caught.value) is (error if isinstance(error, type) else type(error))
    assert str(caught.value) == text


@pytest.mark.parametrize("error", [ValueError, KeyError("k"), redis.WatchError, 5, object(), BaseException])
def test_what_no_server_can_cause_is_refused(server: FakeServer, error: Any) -> None:
    with pytest.raises(TypeError):
        server.fail("GET", error)


@pytest.mark.parametrize("text", ["", "boom", "-ERR no", "ERR two\nlines", "Err no"])
def test_a_text_that_is_no_error_reply_is_refused(server: FakeServer, text: str) -> None:
    with pytest.raises(ValueError, match="an error reply is a code in capitals"):
        server.fail("GET", text)


def test_bad_arguments_are_refused(server: FakeServer) -> None:
    for call in (
        lambda: server.fail("GTE", "ERR no"),
        lambda: server.fail("CONFIG GTE", "ERR no"),
        lambda: server.heal("GTE"),
        lambda: server.fail_next("GET", "ERR no", times=0),
        lambda: server.fail_next("GET", "ERR no", after=True),
        lambda: server.delay("GTE", 1),
        lambda: server.delay("GET", -1),
        lambda: setattr(server, "latency", -0.1),
    ):
        with pytest.raises(ValueError):
            call()


# -- connections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectionError, ConnectionResetError("x"), redis.ConnectionError("gone")])
def test_a_lost_connection_is_one_for_the_client(server: FakeServer, client: Any, error: Any) -> None:
    server.fail_next("GET", error)
    client.set("k", "v")
    with pytest.raises(redis.ConnectionError) as caught:
        client.get("k")
    assert str(caught.value) == "Connection closed by server."
    assert client.get("k") == b"v"
    assert len(client.client_list()) == 1


def test_a_client_that_tries_again_gets_over_a_lost_connection(server: FakeServer) -> None:
    server.fail_next("LPUSH", ConnectionError)
    again = [redis.ConnectionError]  # what redis-py 5 had to be told
    patient = FakeRedis(
        server=server, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1), retry_on_error=again
    )
    assert patient.lpush("k", "a") == 1
    assert server.commands.names == ["LPUSH", "LPUSH"]


def test_the_connection_is_lost_in_the_middle_of_a_pipeline(server: FakeServer, client: Any) -> None:
    server.fail_next("GET", ConnectionError)
    pipeline = client.pipeline(transaction=False).set("a", 1).get("a").set("b", 1)
    with pytest.raises(redis.ConnectionError):
        pipeline.execute()
    assert client.keys() == [b"a"]


def test_a_reply_that_is_lost_leaves_the_work_done(server: FakeServer, client: Any) -> None:
    for error, seen in ((ConnectionError, redis.ConnectionError), (TimeoutError, redis.TimeoutError)):
        server.fail_next("RPUSH", error, after=True)
        with pytest.raises(seen):
            client.rpush("l", "a")
    assert client.llen("l") == 2


@pytest.mark.parametrize("error", [TimeoutError, redis.TimeoutError("late")])
def test_a_reply_that_never_comes_is_a_timeout_at_once(server: FakeServer, client: Any, error: Any) -> None:
    server.fail_next("GET", error)
    pipeline = client.pipeline(transaction=False).set("a", 1).get("a").set("b", 1)
    with pytest.raises(redis.TimeoutError):
        pipeline.execute()
    assert client.keys() == [b"a"]
    assert len(client.client_list()) == 1


def test_a_connection_can_be_lost_in_a_script_and_the_caller_sees_it(server: FakeServer, client: Any) -> None:
    script = "redis.call('set', 'a', '1') redis.call('get', 'a') redis.call('set', 'b', '1')"
    for error, seen in ((ConnectionError, redis.ConnectionError), (TimeoutError, redis.TimeoutError)):
        server.fail_next("GET", error)
        with pytest.raises(seen):
            client.eval(script, 0)
    assert client.keys() == [b"a"]


def test_asyncio_clients_see_faults_alike(server: FakeServer) -> None:
    async def run() -> None:
        client = async_client_of(server, protocol=3)
        await client.set("k", "v")
        for error, seen in (
            (LOADING, redis.BusyLoadingError),
            (ConnectionError, redis.ConnectionError),
            (TimeoutError, redis.TimeoutError),
        ):
            server.fail_next("GET", error)
            with pytest.raises(seen):
                await client.get("k")
        assert await client.get("k") == b"v"
        server.latency = 30
        server.freeze_time()
        reading = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0.02)
        assert not reading.done()
        server.clock.advance(30)
        assert await asyncio.wait_for(reading, 10) == b"v"
        server.latency = 0
        server.connected = False
        with pytest.raises(redis.ConnectionError):
            await client.get("k")
        await close(client)

    asyncio.run(run())


# -- the server is away ------------------------------------------------------------------------------------


def refusal(client: Any) -> str:
    with pytest.raises(redis.ConnectionError) as caught:
        client.ping()
    return str(caught.value)


def test_a_server_that_is_away_refuses_as_a_port_where_nobody_listens(server: FakeServer) -> None:
    port = servers.free_port()
    real = redis.Redis(host="127.0.0.1", port=port, retry=once())
    fake = client_of(server, host="127.0.0.1", port=port)
    fake.ping()
    server.connected = False
    assert refusal(fake) == refusal(real)
    server.connected = True
    assert fake.ping()

    async def both() -> list[str]:
        texts = []
        retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
        for client in (
            redis.asyncio.Redis(host="127.0.0.1", port=port, retry=retry),
            async_client_of(server, host="127.0.0.1", port=port),
        ):
            with pytest.raises(redis.ConnectionError) as caught:
                await client.ping()
            texts.append(str(caught.value))
        return texts

    server.connected = False
    there, here = asyncio.run(both())
    assert here == there


def test_the_data_outlives_a_server_that_is_away(server: FakeServer, client: Any) -> None:
    client.set("k", "v")
    server.connected = False
    assert not server.connected
    server.connected = True
    assert client.get("k") == b"v"


def test_asyncio_clients_come_back_when_the_server_does(server: FakeServer) -> None:
    async def run() -> None:
        # With RESP3, redis-py 8 does not look for the end of a connection before it uses it: it fails once.
        client = async_client_of(server, protocol=2)
        await client.set("k", "v")
        server.connected = False
        server.connected = True
        assert await client.get("k") == b"v"
        await close(client)

    asyncio.run(run())


def test_a_blocked_client_is_closed_when_the_server_goes_away(server: FakeServer, client: Any) -> None:
    failures: list[Exception] = []

    def wait() -> None:
        try:
            client.blpop("l", timeout=30)
        except redis.ConnectionError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not server.hub.blocked_clients:
        time.sleep(0.001)
    server.connected = False
    thread.join(10)
    assert not thread.is_alive()
    assert str(failures[0]) == "Connection closed by server."


# -- slow replies --------------------------------------------------------------------------------------------


def test_a_slow_command_is_over_when_the_clock_has_moved(server: FakeServer, client: Any) -> None:
    client.ping()
    server.freeze_time()
    server.delay("GET", 0.5)
    connection = connection_of(client)
    connection.send_command("SET", "k", "v")
    connection.send_command("GET", "k")
    connection.send_command("SET", "k", "w")
    assert connection.read_response() == b"OK"
    assert not connection.can_read(0)
    server.clock.advance(0.499)
    assert not connection.can_read(0)
    server.clock.advance(ms=1)
    assert connection.can_read(0.0)
    assert [connection.read_response() for _ in range(2)] == [b"v", b"OK"]
    connection.send_command("SET", "k", "v")
    assert connection.read_response() == b"OK"


def test_latency_holds_every_reply_back_in_order(server: FakeServer, client: Any) -> None:
    server.latency = 0.02
    began = time.monotonic()
    assert client.pipeline(transaction=False).set("a", 1).get("a").set("b", 1).execute() == [True, b"1", True]
    assert time.monotonic() - began >= 0.019
    server.latency = 0
    assert client.get("a") == b"1"


def test_a_reply_later_than_the_client_waits_is_a_timeout(server: FakeServer, client: Any) -> None:
    impatient = client_of(server, socket_timeout=0.02)
    server.delay("GET", 60)
    with pytest.raises(redis.TimeoutError):
        impatient.get("k")
    assert impatient.set("k", "v")
    server.heal()
    assert impatient.get("k") == b"v"


def test_a_subscriber_hears_late_but_in_order(server: FakeServer, client: Any) -> None:
    server.freeze_time()
    server.delay("SUBSCRIBE", 1)
    hearing = client.pubsub()
    hearing.subscribe("c")
    client.publish("c", "hello")
    assert hearing.get_message() is None
    server.clock.advance(1)
    assert [hearing.get_message()["type"] for _ in range(2)] == ["subscribe", "message"]


# -- replicas --------------------------------------------------------------------------------------------------

ON_A_REPLICA = """SET a 1|SET a|GET a|MULTI|GET a|SET a 1|EXEC|MULTI|GET a|EXEC|MULTI|EXEC
EVAL "return redis.call('set','a','1')" 1 a
EVAL "return redis.pcall('set','a','1')" 1 a
EVAL "#!lua\\nreturn 1" 0|EVAL "#!lua flags=no-writes\\nreturn 1" 0|EVAL "return 1" 0
EVAL_RO "return redis.call('set','a','1')" 1 a|PUBLISH a b|FLUSHALL|BLPOP a 0|DEL|DEL a|EXPIRE a 1|GETEX a
SCRIPT LOAD "return 1"|SWAPDB 0 1|UNLINK a|WATCH a|UNWATCH|LPUSH a|SPUBLISH a b|ZADD z 1 a
MULTI|EVAL "return redis.call('set','a','1')" 1 a|EXEC"""


def requests_in(text: str) -> list[list[str]]:
    return [
        [word.replace("\\n", "\n") for word in shlex.split(each)]
        for line in text.splitlines()
        for each in line.split("|")
    ]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_read_only_server_answers_as_a_replica_does(protocol: int) -> None:
    require("redis")
    server = FakeServer(version="7.0")
    server.read_only = True
    fake = connection_of(client_of(server, protocol=protocol))
    with servers.running("redis", tcp=True) as real_server:
        client = redis.Redis(port=real_server.port, protocol=protocol)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        real = connection_of(client)
        for words in requests_in(ON_A_REPLICA):
            assert says(fake, *words) == says(real, *words), words
        real.disconnect()
        client.close()
    server.read_only = False
    assert client_of(server).set("a", 1)


def test_a_client_over_a_replica_raises_its_error(server: FakeServer, client: Any) -> None:
    server.read_only = True
    with pytest.raises(redis.ReadOnlyError, match=r"You can't write against a read only replica."):
        client.set("k", "v")
    with pytest.raises(redis.ReadOnlyError):
        client.pipeline().get("k").set("k", "v").execute()
    assert client.get("k") is None


def test_a_script_is_loaded_again_after_a_flush(client: Any) -> None:
    script = client.register_script("return KEYS[1]")
    assert script(keys=["k"]) == b"k"
    client.script_flush()
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha(script.sha, 0)
    assert script(keys=["k"]) == b"k"


# -- where nothing is arranged -----------------------------------------------------------------------------------


def test_nothing_looks_at_commands_while_nothing_is_arranged(server: FakeServer, client: Any) -> None:
    client.get("k")
    assert server.hub.guard is None
    server.fail_next("GET", "ERR no")
    assert server.hub.guard is not None
    with pytest.raises(redis.ResponseError):
        client.get("k")
    assert server.hub.guard is None
    for name, value in (("latency", 1), ("read_only", True)):
        setattr(server, name, value)
        assert server.hub.guard is not None
        setattr(server, name, 0)
        assert server.hub.guard is None


def test_the_authors_own_look_at_the_data_meets_no_fault(server: FakeServer, client: Any) -> None:
    server.fail(None, LOADING)
    server.latency = 30
    server.read_only = True
    store = server.store
    assert store.set("k", "v")
    assert store.get("k") == b"v"
    assert store.eval("return redis.call('incr', 'n')", 0) == 1
    server.heal()
    server.latency = 0
    assert client.get("k") == b"v"
    assert server.commands == [("GET", "k")]
