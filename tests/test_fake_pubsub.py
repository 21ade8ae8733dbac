"""Publish and subscribe on a fake, as a client library documents it, and as on a real server beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kvstore.fake.library import has_push_handlers
from tests.fake_targets import IS_REDIS, LIBRARY, PATIENCE, VERSION, Target, targets, wait_until

errors = LIBRARY.exceptions


@pytest.fixture(params=["fake", "valkey"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    yield from targets(request)


@pytest.fixture(params=[2, 3])
def client(target: Target, request: pytest.FixtureRequest) -> Any:
    if target.real is not None and request.param == 3 and VERSION[0] == 7:
        pytest.skip("redis-py 7 does not speak RESP3 over Unix sockets")
    return target.client(protocol=request.param, client_name="listener")


@pytest.fixture
def pubsub(client: Any) -> Iterator[Any]:
    with client.pubsub() as made:
        yield made


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def message(kind: str, channel: Any, data: Any, pattern: Any = None) -> dict[str, Any]:
    return {"type": kind, "pattern": pattern, "channel": channel, "data": data}


def taken_for() -> tuple[str, ...]:
    """What a pool wants to be told when a connection is taken out of it."""
    return () if IS_REDIS and VERSION >= (5, 3) else ("_",)


def heard(pubsub: Any, count: int = 1) -> list[Any]:
    """The next messages; each is waited for."""
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < deadline:
        if (one := pubsub.get_message(timeout=PATIENCE)) is not None:
            found.append(one)
    return found


def test_what_is_published_is_heard(client: Any, pubsub: Any) -> None:
    pubsub.subscribe("a", "b")
    pubsub.psubscribe("p*")
    assert heard(pubsub, 3) == [
        message("subscribe", b"a", 1),
        message("subscribe", b"b", 2),
        message("psubscribe", b"p*", 3),
    ]
    assert (client.publish("a", "x"), client.publish("pq", b"\xff"), client.publish("c", "y")) == (1, 1, 0)
    assert heard(pubsub, 2) == [message("message", b"a", b"x"), message("pmessage", b"pq", b"\xff", b"p*")]
    pubsub.unsubscribe("a")
    assert heard(pubsub) == [message("unsubscribe", b"a", 2)]
    pubsub.unsubscribe()
    pubsub.punsubscribe()
    assert heard(pubsub, 2) == [message("unsubscribe", b"b", 1), message("punsubscribe", b"p*", 0)]
    assert not pubsub.subscribed


def test_messages_are_decoded_where_that_is_asked_for(target: Target) -> None:
    client = target.client(decode_responses=True)
    with client.pubsub() as pubsub:
        pubsub.subscribe("ä")
        client.publish("ä", "ö")
        assert heard(pubsub, 2) == [message("subscribe", "ä", 1), message("message", "ä", "ö")]


def test_handlers_take_messages_out_of_the_way(client: Any, pubsub: Any) -> None:
    taken: list[Any] = []
    pubsub.subscribe(a=taken.append)
    pubsub.psubscribe(**{"p*": taken.append})
    assert [one["type"] for one in heard(pubsub, 2)] == ["subscribe", "psubscribe"]
    client.publish("a", 1)
    client.publish("pq", 2)
    wait_until(lambda: (pubsub.get_message(), len(taken) == 2)[1])
    assert taken == [message("message", b"a", b"1"), message("pmessage", b"pq", b"2", b"p*")]


def test_confirmations_may_be_left_out(client: Any) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe("a")
        client.publish("a", 1)
        assert heard(pubsub) == [message("message", b"a", b"1")]
    with client.pubsub() as pubsub:
        pubsub.subscribe("a")
        assert pubsub.get_message(ignore_subscribe_messages=True, timeout=PATIENCE) is None


def test_nothing_comes_when_nothing_was_published(pubsub: Any) -> None:
    pubsub.subscribe("a")
    assert len(heard(pubsub)) == 1
    assert pubsub.get_message() is None
    began = time.monotonic()
    assert pubsub.get_message(timeout=0.05) is None
    assert time.monotonic() - began >= 0.04


def test_a_message_ends_the_wait_for_it(client: Any, pubsub: Any, threads: ThreadPoolExecutor) -> None:
    pubsub.subscribe("a")
    heard(pubsub)
    for timeout in (PATIENCE, None):
        waiting = threads.submit(pubsub.get_message, timeout=timeout)
        time.sleep(0.02)
        assert not waiting.done()
        client.publish("a", 1)
        assert waiting.result(PATIENCE) == message("message", b"a", b"1")


def test_nobody_can_listen_before_they_subscribe(pubsub: Any) -> None:
    assert pubsub.get_message(timeout=0.01) is None
    with pytest.raises(RuntimeError, match="connection not set"):
        pubsub.parse_response()


def test_listening_goes_on_until_all_is_unsubscribed(client: Any, pubsub: Any) -> None:
    pubsub.subscribe("a")
    client.publish("a", 1)
    client.publish("a", "stop")
    kinds = []
    for each in pubsub.listen():
        kinds.append(each["type"])
        if each["data"] == b"stop":
            pubsub.unsubscribe()
    assert kinds == ["subscribe", "message", "message", "unsubscribe"]


def test_a_thread_runs_handlers_until_it_is_stopped(client: Any, pubsub: Any) -> None:
    taken: list[Any] = []
    pubsub.subscribe(a=taken.append)
    thread = pubsub.run_in_thread(sleep_time=0.01, daemon=True)
    wait_until(lambda: client.publish("a", 1))
    wait_until(lambda: taken)
    thread.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert taken[0]["data"] == b"1"
    wait_until(lambda: client.publish("a", 1) == 0)


def test_a_thread_needs_handlers_for_all_channels(pubsub: Any) -> None:
    pubsub.subscribe("a")
    with pytest.raises(errors.PubSubError, match="has no handler registered"):
        pubsub.run_in_thread()


def test_a_thread_hands_errors_to_who_takes_them(client: Any, pubsub: Any) -> None:
    def fail(message: Any) -> None:
        raise ValueError("in the handler")

    caught: list[Any] = []

    def handle(error: Exception, pubsub: Any, thread: Any) -> None:
        caught.append(str(error))
        thread.stop()

    pubsub.subscribe(a=fail)
    thread = pubsub.run_in_thread(sleep_time=0.01, daemon=True, exception_handler=handle)
    wait_until(lambda: client.publish("a", 1))
    thread.join(PATIENCE)
    assert caught == ["in the handler"]


@pytest.mark.skipif(VERSION < (6, 0), reason="earlier versions raise what they do not retry by themselves")
@pytest.mark.parametrize("waits", [False, True])
def test_a_dropped_subscriber_connects_and_subscribes_anew(
    target: Target, client: Any, pubsub: Any, threads: ThreadPoolExecutor, waits: bool
) -> None:
    pubsub.subscribe("a")
    pubsub.psubscribe("p*")
    heard(pubsub, 2)
    waiting = threads.submit(heard, pubsub, 2) if waits else None
    admin = target.client()
    for entry in admin.client_list(_type="pubsub"):
        admin.client_kill_filter(_id=entry["id"])
    found = waiting.result(PATIENCE) if waiting is not None else heard(pubsub, 2)
    assert sorted(one["type"] for one in found) == ["psubscribe", "subscribe"]
    assert admin.publish("a", 1) == 1
    assert heard(pubsub) == [message("message", b"a", b"1")]


@pytest.mark.skipif(VERSION < (5, 0), reason="sharded channels came with redis-py 5")
def test_sharded_channels_are_their_own(client: Any, pubsub: Any) -> None:
    if not hasattr(pubsub, "ssubscribe"):
        pytest.skip("this library knows no sharded channels")
    pubsub.ssubscribe("a")
    assert heard(pubsub) == [message("ssubscribe", b"a", 1)]
    assert client.publish("a", 1) == 0
    assert client.spublish("a", 2) == 1
    assert heard(pubsub) == [message("smessage", b"a", b"2")]
    assert client.pubsub_shardchannels() == [b"a"]
    pubsub.sunsubscribe("a")
    assert heard(pubsub) == [message("sunsubscribe", b"a", 0)]


def test_the_server_tells_who_listens(client: Any, pubsub: Any) -> None:
    pubsub.subscribe("a", "b")
    pubsub.psubscribe("p*")
    heard(pubsub, 3)
    assert sorted(client.pubsub_channels()) == [b"a", b"b"]
    assert client.pubsub_channels("a*") == [b"a"]
    assert client.pubsub_numsub("a", "c") == [(b"a", 1), (b"c", 0)]
    assert client.pubsub_numpat() == 1


def test_a_subscriber_pings(pubsub: Any) -> None:
    pubsub.subscribe("a")
    heard(pubsub)
    pubsub.ping("hello")
    assert heard(pubsub) == [message("pong", None, b"hello")]


def test_an_idle_subscriber_is_checked(target: Target) -> None:
    client = target.client(health_check_interval=1000)
    with client.pubsub() as pubsub:
        pubsub.subscribe("a")
        heard(pubsub)
        pubsub.connection.next_health_check = 1  # long ago
        pubsub.check_health()
        assert pubsub.get_message(timeout=0.05) is None  # the answer is nobody's message
        client.publish("a", 1)
        assert heard(pubsub) == [message("message", b"a", b"1")]


def test_a_closed_subscriber_hears_no_more(client: Any) -> None:
    pubsub = client.pubsub()
    pubsub.subscribe("a")
    heard(pubsub)
    pubsub.close()
    wait_until(lambda: client.publish("a", 1) == 0)
    pubsub.subscribe("b")
    assert heard(pubsub) == [message("subscribe", b"b", 1)]
    pubsub.close()


def test_pushes_go_to_a_handler_of_ones_own(target: Target) -> None:
    if target.real is not None and VERSION[0] == 7:
        pytest.skip("redis-py 7 does not speak RESP3 over Unix sockets")
    if not has_push_handlers(LIBRARY):
        pytest.skip("this version gives pushes like replies")
    pushed: list[Any] = []
    client = target.client(protocol=3)
    with client.pubsub(push_handler_func=lambda push: (pushed.append(push), push)[1]) as pubsub:
        pubsub.subscribe("a")
        client.publish("a", 1)
        wait_until(lambda: (pubsub.get_message(timeout=0.05), len(pushed) == 2)[1])
    assert pushed == [[b"subscribe", b"a", 1], [b"message", b"a", b"1"]]


def test_expired_keys_are_told_of(target: Target, client: Any, pubsub: Any) -> None:
    admin = target.client()
    admin.config_set("notify-keyspace-events", "Ex")
    try:
        pubsub.psubscribe("__keyevent@*__:expired")
        heard(pubsub)
        client.set("a", 1, px=10)
        assert heard(pubsub)[0]["data"] == b"a"
    finally:
        admin.config_set("notify-keyspace-events", "")


def test_many_messages_come_in_order(client: Any, pubsub: Any, threads: ThreadPoolExecutor) -> None:
    pubsub.subscribe("a")
    heard(pubsub)
    publishing = threads.submit(lambda: [client.publish("a", number) for number in range(500)])
    assert [int(one["data"]) for one in heard(pubsub, 500)] == list(range(500))
    assert publishing.result(PATIENCE) == [1] * 500


def test_a_timed_wait_that_another_thread_disconnects_ends_with_a_connection_error(
    threads: ThreadPoolExecutor,
) -> None:
    target = Target()
    pubsub = target.client(retry=None).pubsub()
    pubsub.subscribe("news")
    heard(pubsub)
    line = pubsub.connection._sock
    waiting = threads.submit(pubsub.get_message, timeout=PATIENCE)
    wait_until(lambda: line._wakers)
    pubsub.connection.disconnect()
    with pytest.raises(errors.ConnectionError):
        waiting.result(PATIENCE)


def test_subscribing_in_a_transaction_answers_among_its_results(target: Target) -> None:
    connection = target.client(protocol=2).connection_pool.get_connection(*taken_for())
    for words in (("MULTI",), ("SUBSCRIBE", "a", "b"), ("PUBLISH", "a", "x")):
        connection.send_command(*words)
        connection.read_response()
    connection.send_command("EXEC")
    confirmed = [[b"subscribe", b"a", 1], [b"subscribe", b"b", 2]]
    assert connection.read_response() == confirmed  # as many as there were commands
    assert connection.read_response() == 1
    assert connection.read_response() == [b"message", b"a", b"x"]
    connection.disconnect()
