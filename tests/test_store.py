"""The public Store: confinement, decoding, pipelines, subscriptions, clients, opening."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
import threading
from typing import Any

import pytest
import redis

import kvstore
from kvstore import (
    ManualClock,
    OutOfMemoryError,
    ResponseError,
    Store,
    StoreError,
    WatchError,
    WrongThreadError,
    WrongTypeError,
)


def in_other_thread(call: Any) -> Any:
    """What ``call`` returns or raises in a thread of its own."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return result[0]


class TestConfinement:
    def test_another_thread_is_refused_and_this_one_is_not(self) -> None:
        store = Store()
        store.set("k", "v")
        assert isinstance(in_other_thread(lambda: store.get("k")), WrongThreadError)
        assert store.get("k") == b"v"

    def test_every_data_method_is_refused_before_it_changes_anything(self) -> None:
        store = Store()
        calls: dict[str, Any] = {
            "get": lambda: store.get("k"),
            "set": lambda: store.set("k", 1),
            "incr": lambda: store.incr("k"),
            "lpush": lambda: store.lpush("k", 1),
            "sadd": lambda: store.sadd("k", 1),
            "hset": lambda: store.hset("k", "f", 1),
            "zadd": lambda: store.zadd("k", {"m": 1}),
            "delete": lambda: store.delete("k"),
            "expire": lambda: store.expire("k", 1),
            "ttl": lambda: store.ttl("k"),
            "keys": lambda: store.keys(),
            "scan": lambda: store.scan(),
            "dbsize": lambda: store.dbsize(),
            "flushdb": lambda: store.flushdb(),
            "randomkey": lambda: store.randomkey(),
            "rename": lambda: store.rename("k", "l"),
            "client": lambda: store.client().get("k"),
            "pipeline": lambda: store.pipeline().set("k", 1).execute(),
        }
        for name, call in calls.items():
            outcome = in_other_thread(call)
            assert "thread" in str(outcome), (name, outcome)
        assert store.dbsize() == 0

    def test_the_check_can_be_lifted(self) -> None:
        store = Store(check_same_thread=False)
        in_other_thread(lambda: store.set("k", "v"))
        assert store.get("k") == b"v"

    def test_the_other_databases_of_a_store_are_confined_too(self) -> None:
        other = Store().database(3)
        assert isinstance(in_other_thread(lambda: other.get("k")), WrongThreadError)

    def test_a_subclass_is_confined_and_keeps_its_methods(self) -> None:
        class Mine(Store):
            def twice(self, name: str) -> bytes | None:
                value = self.get(name)
                return None if value is None else value * 2

        store = Mine()
        store.set("k", "v")
        assert store.twice("k") == b"vv"
        assert isinstance(in_other_thread(lambda: store.twice("k")), WrongThreadError)

    def test_a_subclass_may_have_its_own_get_and_set(self) -> None:
        class Mine(Store):
            def get(self, name: Any) -> bytes | None:
                return b"mine"

            def set(self, name: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
                return super().set(name, b"<%b>" % value, *args, **kwargs)

        store = Mine()
        for _ in range(2):
            store.set(b"k", b"v")
            assert (store.get(b"k"), store.getrange(b"k", 0, -1)) == (b"mine", b"<v>")

    def test_get_and_set_of_bytes_are_those_of_a_store_that_is_not_confined(self) -> None:
        clock, counts = ManualClock(1_700_000_000_000), []
        for store in (Store(clock=clock), Store(clock=clock, check_same_thread=False)):
            assert store.get(b"k") is None
            for value in (b"v", b"w"):
                assert store.set(b"k", value) is True
                assert store.get(b"k") == value
            store.set(b"k", b"x", ex=10)
            assert store.set(b"k", b"y", nx=True) is None and store.ttl(b"k") == 10
            assert store.set(b"k", b"z") is True and store.ttl(b"k") == -1
            store.set(name=b"k", value=b"x", px=10)
            clock.advance(0.011)
            assert store.get(b"k") is None
            store.rpush(b"k", b"e")
            with pytest.raises(WrongTypeError):
                store.get(b"k")
            assert store.set(b"k", b"v") is True and store.type(b"k") == b"string"
            counts.append((store.ctx.stats.hits, store.ctx.stats.misses))
            with store.pubsub() as heard:
                store.config_set("notify-keyspace-events", "KEA")
                heard.psubscribe("__keyevent@0__:*")
                heard.get_message()
                store.set(b"k", b"v")
                assert heard.get_message()["channel"] == b"__keyevent@0__:set"
        assert counts[0] == counts[1]

    def test_no_object_pays_for_a_getattr(self, tmp_path: Any) -> None:
        # A class that has one makes the interpreter look up every attribute the slow way.
        with kvstore.open(tmp_path) as durable:
            for store in (Store(), Store(maxmemory=1 << 20), durable, durable.database(1)):
                assert not hasattr(type(store), "__getattr__")


class TestDatabases:
    def test_databases_share_nothing_but_the_context(self) -> None:
        store = Store()
        store.set("k", "zero")
        store.database(1).set("k", "one")
        assert (store.get("k"), store.database(1).get("k")) == (b"zero", b"one")
        assert store.database(0) is store

    @pytest.mark.parametrize("index", [-1, 16])
    def test_a_number_out_of_range_is_refused(self, index: int) -> None:
        with pytest.raises(ValueError):
            Store().database(index)
        with pytest.raises(ValueError):
            Store(db=index)


class TestDecoding:
    def test_bytes_become_str_however_deep(self) -> None:
        store = Store(decode_responses=True)
        store.set("k", "é")
        store.rpush("l", "a", "b")
        store.hset("h", mapping={"f": "v"})
        store.sadd("s", "m")
        store.zadd("z", {"m": 1.5})
        assert store.get("k") == "é"
        assert store.lrange("l", 0, -1) == ["a", "b"]
        assert store.hgetall("h") == {"f": "v"}
        assert store.smembers("s") == {"m"}
        assert store.zrange("z", 0, -1, withscores=True) == [("m", 1.5)]
        assert store.mget("k", "missing") == ["é", None]
        assert sorted(store.scan_iter()) == ["h", "k", "l", "s", "z"]

    def test_it_is_a_store_and_its_facades_decode(self) -> None:
        store = Store(decode_responses=True)
        assert isinstance(store, Store)
        assert store.pipeline().set("k", "v").get("k").execute() == [True, "v"]
        assert store.client().get("k") == "v"
        assert store.database(0).get("k") == "v"
        with store.pubsub(ignore_subscribe_messages=True) as subscriber:
            subscriber.subscribe("c")
            store.publish("c", "hi")
            assert [message["data"] for message in subscriber.listen()] == ["hi"]

    def test_bytes_that_are_no_utf8_raise_as_in_redis_py(self) -> None:
        store = Store(decode_responses=True)
        store.set("k", b"\xff")
        with pytest.raises(UnicodeDecodeError):
            store.get("k")

    def test_another_thread_is_refused_here_too(self) -> None:
        store = Store(decode_responses=True)
        assert isinstance(in_other_thread(lambda: store.get("k")), WrongThreadError)


class TestPipeline:
    def test_results_come_in_order(self) -> None:
        store = Store()
        with store.pipeline() as pipe:
            pipe.set("a", 1).incr("a").rpush("l", "x")
            assert len(pipe) == 3
            assert pipe.execute() == [True, 2, 1]
            assert len(pipe) == 0

    def test_the_first_error_is_raised_after_all_calls_ran(self) -> None:
        store = Store()
        store.set("a", "x")
        pipe = store.pipeline().rpush("a", 1).set("b", 2)
        with pytest.raises(
            WrongTypeError, match=r"Command # 1 \(RPUSH a 1\) of pipeline caused error: WRONGTYPE"
        ):
            pipe.execute()
        assert store.get("b") == b"2"

    def test_errors_can_stand_in_the_results(self) -> None:
        store = Store()
        store.set("a", "x")
        results = store.pipeline().incr("a").get("a").execute(raise_on_error=False)
        assert isinstance(results[0], ResponseError)
        assert results[1] == b"x"

    def test_calls_run_at_once_while_watching_until_multi(self) -> None:
        store = Store()
        store.set("a", 1)
        with store.pipeline() as pipe:
            pipe.watch("a")
            assert pipe.get("a") == b"1"
            pipe.multi()
            pipe.incr("a")
            assert pipe.execute() == [2]

    def test_a_watched_key_that_changed_stops_execute(self) -> None:
        store = Store()
        with store.pipeline() as pipe:
            pipe.watch("a")
            store.set("a", "changed")
            pipe.multi()
            pipe.set("a", "mine")
            with pytest.raises(WatchError):
                pipe.execute()
        assert store.get("a") == b"changed"

    def test_a_watched_key_that_expired_stops_execute(self) -> None:
        clock = ManualClock()
        store = Store(clock=clock)
        store.set("a", 1, px=5)
        with store.pipeline() as pipe:
            pipe.watch("a")
            clock.advance(ms=6)
            pipe.multi()
            pipe.set("b", 1)
            with pytest.raises(WatchError):
                pipe.execute()

    def test_a_transaction_tries_again_until_it_goes_through(self) -> None:
        store = Store()
        tries = []

        def work(pipe: Any) -> str:
            tries.append(1)
            value = int(pipe.get("a") or 0)
            if len(tries) == 1:
                store.set("a", 41)
            pipe.multi()
            pipe.set("a", value + 1)
            return "done"

        assert store.transaction(work, "a", value_from_callable=True) == "done"
        assert (len(tries), store.get("a")) == (2, b"42")

    def test_time_stands_still_while_it_runs(self) -> None:
        class Ticking:
            now = 1_000_000

            def now_ms(self) -> int:
                self.now += 10
                return self.now

        store = Store(clock=Ticking())
        assert store.pipeline().set("a", 1, px=5).get("a").pttl("a").execute() == [True, b"1", 5]


class TestPubSub:
    def test_messages_have_redis_py_s_shape(self) -> None:
        store = Store()
        subscriber = store.pubsub()
        subscriber.subscribe("c")
        subscriber.psubscribe("c*")
        assert store.publish("c", "hi") == 2
        assert list(subscriber.listen()) == [
            {"type": "subscribe", "pattern": None, "channel": b"c", "data": 1},
            {"type": "psubscribe", "pattern": None, "channel": b"c*", "data": 2},
            {"type": "message", "pattern": None, "channel": b"c", "data": b"hi"},
            {"type": "pmessage", "pattern": b"c*", "channel": b"c", "data": b"hi"},
        ]
        assert subscriber.get_message() is None

    def test_handlers_take_their_messages(self) -> None:
        store = Store()
        seen: list[Any] = []
        subscriber = store.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(news=seen.append)
        store.publish("news", "x")
        assert list(subscriber.listen()) == []
        assert [message["data"] for message in seen] == [b"x"]

    @pytest.mark.parametrize("facade", ["store", "client"])
    def test_keyspace_events_of_the_store_s_own_methods_arrive(self, facade: str) -> None:
        clock = ManualClock()
        store = Store(clock=clock)
        store.call("CONFIG", "SET", "notify-keyspace-events", "Ex")
        subscriber: Any = (store if facade == "store" else store.client()).pubsub(
            ignore_subscribe_messages=True
        )
        subscriber.psubscribe("__keyevent@*")
        assert subscriber.get_message() is None
        store.set("k", "v", ex=1)
        clock.advance(1)
        assert store.get("k") is None
        assert subscriber.get_message()["channel"] == b"__keyevent@0__:expired"

    def test_closing_unsubscribes(self) -> None:
        store = Store()
        with store.pubsub() as subscriber:
            subscriber.subscribe("c")
        assert store.publish("c", "x") == 0


class TestClient:
    def test_it_is_redis_py_on_the_same_data(self) -> None:
        store = Store()
        client = store.client()
        assert isinstance(client, redis.Redis)
        client.set("k", "v", ex=100)
        assert store.get("k") == b"v"
        assert client.ttl("k") == 100
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.lpush("k", 1)

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_pipelines_and_subscriptions_work_in_both_protocols(self, protocol: int) -> None:
        store = Store()
        client = store.client(protocol=protocol)
        assert client.pipeline().set("a", 1).incr("a").execute() == [True, 2]
        subscriber = client.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe("c")
        assert subscriber.get_message(timeout=0) is None
        store.publish("c", "hi")
        assert subscriber.get_message(timeout=0)["data"] == b"hi"

    def test_a_blocking_call_that_finds_nothing_answers_at_once(self) -> None:
        client = Store().client()
        assert client.blpop("l", timeout=5) is None

    def test_methods_about_servers_are_redis_py_s(self) -> None:
        store = Store()
        assert store.client_setname("me") is True
        assert store.info("server")["redis_version"].startswith("7.4")

    def test_lost_watches_raise_redis_py_s_error(self) -> None:
        store = Store()
        client = store.client()
        pipe = client.pipeline()
        pipe.watch("a")
        store.set("a", 1)
        pipe.multi()
        pipe.set("a", 2)
        with pytest.raises(redis.WatchError):
            pipe.execute()


class TestRawCalls:
    def test_call_gives_the_reply_tree(self) -> None:
        store = Store()
        assert store.call("SET", "k", 1) == b"OK"
        assert store.call("GET", "k") == b"1"
        assert store.call("HSET", "h", "f", "v") == 1
        assert store.call("HGETALL", "h") == [b"f", b"v"]
        with pytest.raises(WrongTypeError):
            store.call("LPUSH", "k", "x")
        with pytest.raises(ResponseError, match="unknown command 'NOPE'"):
            store.call("NOPE")

    def test_execute_command_gives_redis_py_s_result(self) -> None:
        store = Store()
        assert store.execute_command("SET", "k", 1) is True
        assert store.execute_command("GET", "k") == b"1"


class TestSeams:
    def test_a_seed_fixes_everything_random(self) -> None:
        def draws(seed: int) -> list[Any]:
            store = Store(random=seed)
            store.sadd("s", *range(1000))
            return [store.spop("s") for _ in range(20)]

        assert draws(7) == draws(7) != draws(8)
        assert Store(random=random.Random(1)).randomkey() is None

    def test_a_manual_clock_moves_only_when_told(self) -> None:
        clock = ManualClock(1_700_000_000_000)
        store = Store(clock=clock)
        store.set("k", "v", ex=10)
        clock.advance(9.999)
        assert store.ttl("k") >= 0 and store.get("k") == b"v"
        clock.advance(ms=1)
        assert store.get("k") is None
        with pytest.raises(ValueError):
            clock.advance(-1)

    def test_what_cannot_be_a_key_or_value_is_refused_as_by_redis_py(self) -> None:
        store = Store()
        for bad in (None, True, [], object()):
            with pytest.raises(kvstore.DataError, match="Invalid input of type"):
                store.set("k", bad)  # type: ignore[arg-type]
        assert store.exists("k") == 0


class TestMemoryLimit:
    def test_calls_that_grow_the_data_evict_by_the_policy(self) -> None:
        store = Store(maxmemory=200_000, maxmemory_policy="allkeys-random")
        for number in range(3000):
            store.set(f"k{number}", "x" * 100)
        assert 100 < store.dbsize() < 2000
        assert store.ctx.stats.evicted == 3000 - store.dbsize()

    def test_without_a_policy_they_are_refused_and_reads_and_deletes_are_not(self) -> None:
        store = Store(maxmemory=200_000)
        with pytest.raises(OutOfMemoryError, match="OOM command not allowed"):
            for number in range(3000):
                store.rpush("l", f"{number}" + "x" * 100)
        length = store.llen("l")
        with pytest.raises(OutOfMemoryError):
            store["k"] = 1
        with pytest.raises(redis.OutOfMemoryError):
            store.client().set("k", 1)
        assert store.llen("l") == length and store.lrange("l", 0, 0)
        store.ltrim("l", 0, 9)
        store["k"] = 1
        store.client().set("k", 2)

    def test_decoding_stores_have_limits_too(self) -> None:
        store = Store(maxmemory=100_000, maxmemory_policy="allkeys-lru", decode_responses=True)
        for number in range(2000):
            store.set(f"k{number}", "x" * 100)
        assert store.dbsize() < 1000 and store.get("k1999") == "x" * 100

    def test_the_methods_that_may_grow_the_data_are_those_that_redis_refuses(self) -> None:
        from kvstore.commands.all import COMMANDS
        from kvstore.engine.store import GROWING

        every = [each for one in COMMANDS.values() for each in (one, *one.subcommands.values())]
        denied = {each.full_name.replace("|", "_") for each in every if "denyoom" in each.flags}
        methods = {name for name in denied if name in dir(Store)}
        assert methods == GROWING


class TestOpen:
    @pytest.mark.parametrize("url", [None, "memory://"])
    def test_memory(self, url: str | None) -> None:
        store = kvstore.open(url, decode_responses=True)
        store.set("k", "v")
        assert store.get("k") == "v"

    def test_servers_by_url(self) -> None:
        client = kvstore.open("unix:///nowhere.sock?db=2")
        assert isinstance(client, redis.Redis)
        assert client.connection_pool.connection_kwargs["db"] == 2
        assert isinstance(kvstore.open("redis://127.0.0.1:1/0"), redis.Redis)

    @pytest.mark.parametrize(
        "url", ["", "file://", "file://host/path", "file:///path?x=1", "http://example.org"]
    )
    def test_what_cannot_be_opened_is_refused_by_name(self, url: str) -> None:
        with pytest.raises(StoreError, match="cannot open"):
            kvstore.open(url)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'redis', 'asyncio', 'ssl', 'lupa', 'hiredis', 'logging', 'socket'}"
    code = f"import sys, kvstore; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_interrupted_command_leaves_nothing_behind() -> None:
    store = Store()
    store.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
    with store.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("__keyevent@0__:set")
        subscriber.get_message()
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:

            def interrupt(session: object, argv: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(store._session.table[b"ECHO"], "run", interrupt)
            store.call("ECHO", "x")
        store.call("SET", "k", "v")
        assert subscriber.get_message() is not None


def test_what_nobody_keeps_leaves_no_session_behind() -> None:
    store = Store()
    sessions = store._hub.sessions
    subscriber, pipe = store.pubsub(), store.pipeline()
    subscriber.subscribe("news")
    pipe.watch("k")
    store.client().ping()
    store.ping()
    assert len(sessions) == 4
    del subscriber, pipe
    assert store.publish("news", "x") == 0
    store.close()
    assert not sessions


def test_an_interrupted_command_of_a_client_leaves_nothing_behind() -> None:
    store = Store()
    client = store.client()
    client.ping()
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:

        def interrupt(*args: object) -> None:
            raise KeyboardInterrupt

        (session,) = store._hub.sessions.values()
        patch.setattr(session.table[b"GET"], "run", interrupt)
        client.get("k")
    assert store._hub.current is None
    client.config_set("notify-keyspace-events", "KEA")
    with store.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("__keyevent@0__:set")
        subscriber.get_message()
        store.set("k", "v")
        assert subscriber.get_message() is not None


def test_a_pipeline_has_no_private_attributes_of_its_store() -> None:
    pipe = Store().pipeline()
    with pytest.raises(AttributeError, match="_session_made"):
        _ = pipe._session_made
    assert not copy.copy(pipe)._calls


def test_a_client_without_a_socket_does_not_wait_for_the_end_of_a_pause() -> None:
    client = Store().client()
    assert client.client_pause(60_000)
    assert client.set("k", "v")
