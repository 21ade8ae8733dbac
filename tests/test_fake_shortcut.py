"""A command that goes the short way through a client's library does what it does on the library's own.

The same calls are made on two clients of servers that were made alike. One goes the library's way throughout, as a
method of its way has been replaced by one that calls it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import redis
from redis.backoff import NoBackoff
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.retry import Retry

from kvstore.fake import FakeRedis, FakeServer
from kvstore.fake.shortcut import ShortCut
from tests.fake_targets import wait_until
from tests.seeds import new_seed


class Long(FakeRedis):
    """Goes the library's way, and counts how often."""

    times = 0

    def _send_command_parse_response(self, *args: Any, **options: Any) -> Any:
        self.times += 1
        return super()._send_command_parse_response(*args, **options)  # type: ignore[misc]


def short_ways(client: Any) -> Any:
    """Within it: the names of the commands that the library's way was taken for, by this client alone."""
    return mock.patch.object(client.__class__, "_go_on", autospec=True, side_effect=ShortCut._go_on)


def outcome(call: Callable[[Any], Any], client: Any) -> Any:
    try:
        return call(client)
    except Exception as error:
        return type(error), str(error)


def idle(client: Any) -> int:
    """Connections that are not given out."""
    pool = client.connection_pool
    assert not pool._in_use_connections
    return len(pool._available_connections)


CALLS: list[Callable[[Any], Any]] = [
    lambda c: c.set("k", "v"),
    lambda c: c.set("k", "w", get=True),
    lambda c: c.set("k", "w", nx=True),
    lambda c: c.get("k"),
    lambda c: c.get("no"),
    lambda c: c.incr("n"),
    lambda c: c.incr("k"),  # an error reply
    lambda c: c.hset("h", mapping={"f": "1", "g": b"\xff"}),
    lambda c: c.hgetall("h"),
    lambda c: c.hget("h", "g"),  # which cannot be decoded
    lambda c: c.zadd("z", {"a": 1.5, "b": 2}),
    lambda c: c.zrange("z", 0, -1, withscores=True),
    lambda c: c.lpush("k", "x"),  # another type
    lambda c: c.rpush("l", "x", "y"),
    lambda c: c.blpop("l", timeout=0.01),
    lambda c: c.blpop("nothing", timeout=0.01),  # waits
    lambda c: c.execute_command("GET", "k", **{NEVER_DECODE: True}),
    lambda c: c.execute_command("LPUSH", "k", "x", **{EMPTY_RESPONSE: 7}),
    lambda c: c.execute_command("NOSUCH", "x"),
    lambda c: c.execute_command(),
    lambda c: c.execute_command("SET", "k", object()),  # nothing that can be sent
    lambda c: c.execute_command("CONFIG GET", "maxmemory"),
    lambda c: c.execute_command("HIMPORT SET", "k", "f", "v"),
    lambda c: c.info("server")["redis_mode"],
    lambda c: c.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, "n", 5),
    lambda c: c.flushall(),
]
MISHAPS: list[Callable[[FakeServer], Any]] = [
    lambda s: s.fail_next("GET", "LOADING Redis is loading the dataset in memory"),
    lambda s: s.fail_next("SET", ConnectionError),
    lambda s: s.fail_next("INCR", ConnectionError, times=3),
    lambda s: s.fail_next("HGETALL", ConnectionError, after=True),
    lambda s: s.fail_next("INCR", TimeoutError),
    lambda s: setattr(s, "connected", False),
    lambda s: s.clock.advance(1),
]


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
def test_calls_have_the_same_outcome_on_either_way(protocol: int, decode: bool) -> None:
    options: Any = {
        "protocol": protocol,
        "decode_responses": decode,
        "retry": Retry(NoBackoff(), 1),
    }
    short, long = FakeRedis(server=FakeServer(seed=1), **options), Long(server=FakeServer(seed=1), **options)
    luck = random.Random(seed := new_seed())
    for _ in range(600):
        if luck.random() < 0.1:
            mishap = luck.choice(MISHAPS)
            mishap(short.server)
            mishap(long.server)
            continue
        if luck.random() < 0.3:
            short.server.connected = long.server.connected = True
        at = luck.randrange(len(CALLS))
        found = [outcome(CALLS[at], client) for client in (short, long)]
        assert found[0] == found[1], (seed, at)
        assert idle(short) == idle(long), (seed, at)
    assert [each[:2] for each in short.server.commands] == [each[:2] for each in long.server.commands], seed
    assert long.times > 100


def test_the_library_is_not_asked_where_the_reply_is_there_at_once() -> None:
    client = FakeRedis()
    with mock.patch.object(redis.Redis, "_close_connection") as closes, short_ways(client) as goes_on:
        assert client.set("k", "1")
        assert client.incr("k") == 2
        assert not goes_on.called and not closes.called
        with pytest.raises(redis.ResponseError):
            client.lpush("k", "x")
        assert goes_on.call_count == 1


@pytest.mark.parametrize("step", ["execute_command", "_execute_command", "_send_command_parse_response"])
def test_who_follows_a_step_of_the_library_sees_every_command(step: str) -> None:
    client = FakeRedis()
    client.set("k", "0")
    seen = []
    original = getattr(redis.Redis, step)

    def traced(self: Any, *args: Any, **options: Any) -> Any:
        seen.append(args[-2:])
        return original(self, *args, **options)

    with mock.patch.object(redis.Redis, step, traced):
        client.set("k", "1")
        client.get("k")
    client.get("k")
    assert seen == [("k", "1"), ("GET", "k")]


def test_a_retry_of_ones_own_is_asked_for_every_command() -> None:
    class Counting(Retry):
        calls = 0

        def call_with_retry(self, *args: Any, **kwargs: Any) -> Any:
            Counting.calls += 1
            return super().call_with_retry(*args, **kwargs)

    client = FakeRedis(retry=Counting(NoBackoff(), 1))
    client.ping()
    before = Counting.calls
    client.set("k", "1")
    assert Counting.calls == before + 1


def test_measurements_are_taken_of_every_command_when_somebody_wants_them() -> None:
    client = FakeRedis()
    client.ping()
    with (
        mock.patch("redis.observability.providers.ObservabilityInstance.get_provider_manager") as manager,
        mock.patch("redis.client.record_operation_duration") as record,
    ):
        manager.return_value.config.enabled_telemetry = []
        client.set("k", "1")
    assert [call.kwargs["command_name"] for call in record.call_args_list] == ["SET"]


def test_a_subclass_parses_its_replies_itself() -> None:
    class Shouting(FakeRedis):
        def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            return super().parse_response(connection, command_name, **options).upper()

    client = Shouting()
    client.server.store.set("k", "loud")
    assert client.get("k") == b"LOUD"


def test_a_blocked_command_waits_on_its_connection_and_others_have_others() -> None:
    client = FakeRedis()
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(client.blpop("queue", timeout=20)))
    waiter.start()
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
    assert client.rpush("queue", "job") == 1
    waiter.join(20)
    assert found == [(b"queue", b"job")]
    assert idle(client) == 2
    assert [each.name for each in client.server.commands if each.name != "INFO"] == ["BLPOP", "RPUSH"]


def test_a_single_connection_client_goes_the_library_s_way() -> None:
    client = FakeRedis(single_connection_client=True)
    with short_ways(client) as goes_on:
        assert client.set("k", "1") and client.get("k") == b"1"
        assert not goes_on.called


def test_a_client_side_cache_is_asked_first() -> None:
    from redis.cache import CacheConfig

    client = FakeRedis(protocol=3, cache_config=CacheConfig())
    client.set("k", "1")
    assert [client.get("k"), client.get("k")] == [b"1", b"1"]
    assert client.server.commands.names.count("GET") == 1
