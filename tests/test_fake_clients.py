"""What a client library documents of itself holds on a fake, as it does on a real server beside it.

Commands, pipelines, scripts, locks, pools, retries. Publish and subscribe are in ``test_fake_pubsub``, asyncio in
``test_fake_async``.
"""

from __future__ import annotations

import decimal
import enum
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

from tests.fake_targets import IS_REDIS, LIBRARY, PATIENCE, VERSION, FakeClient, Target, targets, wait_until

errors = LIBRARY.exceptions
retries: Any = import_module(f"{LIBRARY.__name__}.retry")
backoffs: Any = import_module(f"{LIBRARY.__name__}.backoff")
URL = "redis" if IS_REDIS else "valkey"


@pytest.fixture(params=["fake", "valkey"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    yield from targets(request)


@pytest.fixture
def client(target: Target) -> Any:
    return target.client()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def drop(target: Target, client: Any) -> None:
    """Have the server close all connections of a client that has a name of its own."""
    name = client.connection_pool.connection_kwargs["client_name"]
    admin = target.client()
    for entry in admin.client_list():
        if entry["name"] == name:
            admin.client_kill_filter(_id=entry["id"])


def taken(pool: Any) -> Any:
    """A connection out of a pool."""
    return pool.get_connection(*(("_",) if VERSION < (5, 3) or not IS_REDIS else ()))


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or the class and the text of its error."""
    try:
        return call()
    except (errors.DataError, errors.ConnectionError, ValueError) as error:
        return type(error), str(error)


def calls(client: Any, command: str) -> int:
    """How often a command ran."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


# -- pipelines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_returns_the_results_of_its_commands_in_order(client: Any, transaction: bool) -> None:
    with client.pipeline(transaction=transaction) as pipe:
        assert pipe.set("a", 1).incr("a").lpush("l", "x", "y").hgetall("none") is pipe
        assert len(pipe) == 4
        assert pipe.execute() == [True, 2, 2, {}]
        assert len(pipe) == 0
        assert pipe.execute() == []
    assert client.get("a") == b"2"


def test_an_empty_pipeline_is_true(client: Any) -> None:
    assert client.pipeline()


@pytest.mark.parametrize("transaction", [True, False])
def test_an_error_in_the_middle_of_a_pipeline_is_raised_after_all_ran(client: Any, transaction: bool) -> None:
    client.set("a", "x")
    pipe = client.pipeline(transaction=transaction)
    pipe.set("b", 1).lpush("a", 1).set("c", 2)
    with pytest.raises(errors.ResponseError) as caught:
        pipe.execute()
    assert str(caught.value).startswith("Command # 2 (LPUSH a 1) of pipeline caused error: ")
    assert (client.get("b"), client.get("c")) == (b"1", b"2")
    assert pipe.set("d", 4).execute() == [True]


@pytest.mark.parametrize("transaction", [True, False])
def test_errors_are_among_the_results_where_they_are_not_raised(client: Any, transaction: bool) -> None:
    client.set("a", "x")
    found = (
        client.pipeline(transaction=transaction).set("b", 1).incr("a").get("b").execute(raise_on_error=False)
    )
    assert (found[0], found[2]) == (True, b"1")
    assert type(found[1]) is errors.ResponseError
    assert str(found[1]).endswith("value is not an integer or out of range")


def test_a_command_that_the_server_refuses_to_queue_aborts_the_transaction(client: Any) -> None:
    pipe = client.pipeline()
    pipe.set("a", 1).execute_command("NOSUCH").set("b", 1)
    with pytest.raises(
        errors.ResponseError, match=r"Command # 2 .NOSUCH. of pipeline caused error: unknown command"
    ):
        pipe.execute()
    assert client.exists("a", "b") == 0
    assert pipe.set("c", 1).execute() == [True]


def test_a_transaction_fails_when_what_it_watches_was_changed(target: Target, client: Any) -> None:
    client.set("a", 1)
    with client.pipeline() as pipe:
        pipe.watch("a")
        assert pipe.get("a") == b"1"  # at once, while it watches
        target.client().set("a", 2)
        pipe.multi()
        pipe.set("a", 3)
        with pytest.raises(errors.WatchError, match=r"Watched variable changed\."):
            pipe.execute()
        assert not pipe.watching
        assert pipe.set("a", 4).execute() == [True]


def test_unwatch_and_reset_end_watching(target: Target, client: Any) -> None:
    other = target.client()
    client.set("a", 1)
    with client.pipeline() as pipe:
        pipe.watch("a")
        other.set("a", 2)
        pipe.unwatch()
        assert not pipe.watching
        assert pipe.get("a") is pipe
        assert pipe.execute() == [b"2"]
        pipe.watch("a")
        other.set("a", 3)
        pipe.reset()
        assert pipe.get("a").execute() == [b"3"]


def test_multi_in_a_pipeline_has_its_rules(client: Any) -> None:
    pipe = client.pipeline()
    pipe.set("a", 1)
    error = errors.RedisError if IS_REDIS else errors.ValkeyError
    with pytest.raises(error, match=r"Cannot issue|Commands without an initial WATCH"):
        pipe.multi()
    pipe.reset()
    pipe.watch("a")
    pipe.multi()
    with pytest.raises(error, match="Cannot issue nested calls to MULTI"):
        pipe.multi()
    with pytest.raises(error, match="Cannot issue a WATCH after a MULTI"):
        pipe.watch("b")
    pipe.reset()


def test_a_transaction_function_is_tried_until_nobody_interferes(target: Target, client: Any) -> None:
    other = target.client()
    client.mset({"a": 1, "b": 2})
    tries = []

    def work(pipe: Any) -> str:
        tries.append(pipe.get("a"))
        if len(tries) == 1:
            other.set("a", 10)
        pipe.multi()
        pipe.set("c", int(tries[-1]) + int(pipe.connection and 0))
        return "done"

    assert client.transaction(work, "a", "b") == [True]
    assert tries == [b"1", b"10"]
    assert client.get("c") == b"10"
    assert client.transaction(work, "a", value_from_callable=True) == "done"


def test_a_pipeline_that_watches_is_told_when_its_connection_is_lost(target: Target) -> None:
    client = target.client(client_name="watching")
    client.set("a", 1)
    pipe = client.pipeline()
    pipe.watch("a")
    drop(target, client)
    pipe.multi()
    pipe.set("a", 2)
    with pytest.raises((errors.ConnectionError, errors.WatchError)):
        pipe.execute()
    assert client.get("a") == b"1"
    assert pipe.set("a", 3).execute() == [True]


def test_many_commands_go_through_one_pipeline(client: Any) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(2000):
        pipe.set(f"k{number}", "v" * 100)
    assert pipe.execute() == [True] * 2000
    assert client.dbsize() == 2000


# -- scripts ---------------------------------------------------------------------------------------------------


def test_a_registered_script_is_loaded_when_the_server_does_not_have_it(client: Any) -> None:
    script = client.register_script("return {KEYS[1], ARGV[1], redis.call('incr', KEYS[1])}")
    assert script(keys=["a"], args=["x"]) == [b"a", b"x", 1]
    assert client.script_exists(script.sha) == [True]
    client.script_flush()
    assert script(keys=["a"], args=["x"]) == [b"a", b"x", 2]


def test_a_registered_script_runs_in_pipelines(client: Any) -> None:
    script = client.register_script("return tonumber(redis.call('get', KEYS[1])) * ARGV[1]")
    for _ in range(2):
        client.script_flush()
        pipe = client.pipeline()
        pipe.set("a", 2)
        script(keys=["a"], args=[21], client=pipe)
        assert pipe.execute() == [True, 42]


def test_a_script_runs_at_once_where_a_pipeline_watches(client: Any) -> None:
    script = client.register_script("return redis.call('get', KEYS[1])")
    client.set("a", 1)
    with client.pipeline() as pipe:
        pipe.watch("a")
        assert script(keys=["a"], client=pipe) == b"1"
        pipe.multi()
        script(keys=["a"], client=pipe)
        assert pipe.execute() == [b"1"]


def test_what_a_script_raises_is_an_error_of_the_client(client: Any) -> None:
    with pytest.raises(errors.NoScriptError, match="No matching script"):
        client.evalsha("0" * 40, 0)
    with pytest.raises(errors.ResponseError, match=r"^my mistake"):
        client.eval("return redis.error_reply('my mistake')", 0)


# -- locks -----------------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one_at_a_time(target: Target, client: Any) -> None:
    first, second = client.lock("lock"), target.client().lock("lock")
    assert first.acquire(blocking=False)
    assert first.locked() and first.owned() and not second.owned()
    assert not second.acquire(blocking=False)
    assert not second.acquire(blocking=True, blocking_timeout=0.02)
    first.release()
    assert client.get("lock") is None
    assert second.acquire(blocking=False)
    second.release()


def test_a_lock_waits_until_another_thread_lets_go(client: Any, threads: ThreadPoolExecutor) -> None:
    first = client.lock("lock", sleep=0.005)
    first.acquire()
    waiting = threads.submit(client.lock("lock", sleep=0.005).acquire, blocking_timeout=PATIENCE)
    assert not waiting.done()
    first.release()
    assert waiting.result(PATIENCE)


def test_a_lock_has_a_time_that_can_be_extended_and_begun_anew(client: Any) -> None:
    lock = client.lock("lock", timeout=10)
    assert lock.acquire(blocking=False)
    assert 8000 < client.pttl("lock") <= 10_000
    assert lock.extend(10)
    assert 16_000 < client.pttl("lock") <= 20_000
    assert lock.extend(5, replace_ttl=True)
    assert client.pttl("lock") <= 5000
    assert lock.reacquire()
    assert 8000 < client.pttl("lock") <= 10_000
    lock.release()


def test_a_lock_that_somebody_else_holds_cannot_be_let_go_of(client: Any) -> None:
    lock = client.lock("lock", timeout=10)
    lock.acquire(blocking=False)
    client.set("lock", "somebody else")
    for act in (lock.release, lambda: lock.extend(10), lock.reacquire):
        lock.local.token = lock.local.token or b"mine"
        with pytest.raises(errors.LockNotOwnedError):
            act()
    assert client.get("lock") == b"somebody else"


def test_a_lock_that_is_not_held_has_nothing_to_do(client: Any) -> None:
    lock = client.lock("lock")
    with pytest.raises(errors.LockError, match="Cannot release"):
        lock.release()
    with pytest.raises(errors.LockError, match="Cannot extend an unlocked lock"):
        lock.extend(10)
    lock.acquire()
    with pytest.raises(errors.LockError, match="Cannot extend a lock with no timeout"):
        lock.extend(10)
    with pytest.raises(errors.LockError, match="Cannot reacquire a lock with no timeout"):
        lock.reacquire()


def test_the_token_of_a_lock_is_its_threads_own_unless_it_is_shared(
    client: Any, threads: ThreadPoolExecutor
) -> None:
    own, shared = client.lock("own"), client.lock("shared", thread_local=False)
    assert own.acquire() and shared.acquire()
    assert threads.submit(shared.owned).result(PATIENCE) is True
    with pytest.raises((errors.LockError, AttributeError)):  # versions differ in that
        threads.submit(own.release).result(PATIENCE)
    assert own.owned()
    threads.submit(shared.release).result(PATIENCE)


def test_a_lock_is_a_context_manager(client: Any) -> None:
    with client.lock("lock", timeout=10):
        assert client.exists("lock")
        with pytest.raises(errors.LockError), client.lock("lock", blocking_timeout=0.01):
            pass
    assert not client.exists("lock")


# -- connections that are lost -----------------------------------------------------------------------------------


def test_a_client_connects_anew_after_its_connection_was_dropped(target: Target) -> None:
    client = target.client(client_name="dropped", decode_responses=True)
    client.set("a", 1)
    for _ in range(3):
        before = client.client_id()
        drop(target, client)
        assert client.get("a") == "1"
        assert client.client_id() != before
    assert client.client_getname() == "dropped"


@pytest.mark.skipif(VERSION < (6, 0), reason="earlier versions do not connect such a client anew")
def test_a_connection_of_its_own_is_tried_again_as_often_as_it_was_said(target: Target) -> None:
    failed = []
    retry = retries.Retry(backoffs.ConstantBackoff(0.001), 3)
    client = target.client(single_connection_client=True, client_name="single", retry=retry)
    assert client.connection.retry is not None
    assert client.client_id() == client.client_id()
    drop(target, client)
    failed.append(client.ping())
    assert failed == [True]


def test_a_read_that_takes_too_long_is_an_error(target: Target) -> None:
    client = target.client(socket_timeout=0.05, retry=retries.Retry(backoffs.NoBackoff(), 0))
    with pytest.raises(errors.TimeoutError, match="Timeout reading from"):
        client.blpop("none", timeout=0)
    client.set("a", 1)
    assert client.get("a") == b"1"
    assert target.client().client_list()  # and nobody is left blocked
    wait_until(lambda: target.client().info("clients")["blocked_clients"] == 0)


def test_time_outs_are_tried_again_where_that_is_asked_for(target: Target) -> None:
    tries = []

    class Counted(backoffs.NoBackoff):  # type: ignore[misc, name-defined]
        def compute(self, failures: int) -> float:
            tries.append(failures)
            return 0

    client = target.client(
        socket_timeout=0.02, retry=retries.Retry(Counted(), 2), retry_on_error=[errors.TimeoutError]
    )
    with pytest.raises(errors.TimeoutError):
        client.blpop("none", timeout=0)
    assert tries == [1, 2]


def test_an_error_of_the_server_is_tried_again_where_that_is_asked_for(target: Target) -> None:
    admin = target.client()
    admin.set("a", "x")
    tries = []

    class Mending(backoffs.NoBackoff):  # type: ignore[misc, name-defined]
        def compute(self, failures: int) -> float:
            tries.append(failures)
            admin.set("a", 1)
            return 0

    client = target.client(retry=retries.Retry(Mending(), 2), retry_on_error=[errors.ResponseError])
    assert client.incr("a") == 2
    assert tries == [1]


def test_an_idle_connection_is_checked_before_it_is_used(target: Target) -> None:
    client = target.client(health_check_interval=1000, single_connection_client=True)
    client.set("a", 1)
    before = calls(client, "ping")
    for _ in range(3):
        client.get("a")
    assert calls(client, "ping") == before
    client.connection.next_health_check = 1  # long ago
    assert client.get("a") == b"1"
    assert calls(client, "ping") == before + 1


@pytest.mark.skipif(VERSION < (6, 0), reason="earlier versions do not connect such a client anew")
def test_a_dropped_connection_is_found_by_its_check(target: Target) -> None:
    client = target.client(health_check_interval=1000, client_name="checked", single_connection_client=True)
    client.set("a", 1)
    drop(target, client)
    client.connection.next_health_check = 1
    assert client.get("a") == b"1"


# -- pools -----------------------------------------------------------------------------------------------------


def test_a_client_with_one_connection_keeps_it(target: Target) -> None:
    client = target.client(single_connection_client=True)
    assert len({client.client_id() for _ in range(5)}) == 1
    with client.client() as other:
        assert other.client_id() != client.client_id()


def test_a_pool_that_is_used_up_says_so(target: Target) -> None:
    pool = LIBRARY.ConnectionPool(max_connections=2, **target.pool_options())
    client = target.of_pool(pool)
    held = [taken(pool), taken(pool)]
    with pytest.raises(errors.ConnectionError, match="Too many connections"):
        client.ping()
    pool.release(held.pop())
    assert client.ping()
    pool.release(held.pop())
    pool.disconnect()


def test_a_blocking_pool_waits_for_a_connection(target: Target, threads: ThreadPoolExecutor) -> None:
    pool = LIBRARY.BlockingConnectionPool(max_connections=1, timeout=0.05, **target.pool_options())
    client = target.of_pool(pool)
    held = taken(pool)
    with pytest.raises(errors.ConnectionError, match="No connection available"):
        client.ping()
    pool.timeout = PATIENCE
    waiting = threads.submit(client.ping)
    pool.release(held)
    assert waiting.result(PATIENCE) is True
    pool.disconnect()


def test_clients_share_a_pool_and_its_connections(target: Target) -> None:
    pool = LIBRARY.ConnectionPool(**target.pool_options())
    first, second = target.of_pool(pool), target.of_pool(pool)
    first.set("a", 1)
    assert second.get("a") == b"1"
    assert first.client_id() == second.client_id()
    pool.disconnect()
    assert second.get("a") == b"1"
    pool.disconnect()


def test_a_pool_gives_each_thread_a_connection(client: Any, threads: ThreadPoolExecutor) -> None:
    barrier = threading.Barrier(4)

    def work(number: int) -> int:
        barrier.wait(PATIENCE)
        for _ in range(100):
            client.incr("n")
            client.rpush(f"l{number}", number)
        return int(client.llen(f"l{number}"))

    assert list(threads.map(work, range(4), timeout=PATIENCE)) == [100] * 4
    assert client.get("n") == b"400"


def test_a_closed_client_can_be_used_again(target: Target) -> None:
    with target.unowned(client_name="closing") as client:
        client.set("a", 1)
    if VERSION > (5, 0):  # which lets its pool go on
        wait_until(lambda: "closing" not in {entry["name"] for entry in target.client().client_list()})
    assert client.get("a") == b"1"
    client.close()
    client.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_takes_a_connection_of_its_own(client: Any) -> None:
    client.set("a", 1)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, client.get("a"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"1"
    os.waitpid(child, 0)
    assert client.get("a") == b"1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_what_other_threads_do(threads: ThreadPoolExecutor) -> None:
    """Only for a fake, whose locks a child inherits. The threads have clients of their own, as redis-py's pools
    have a lock that is not made for this."""
    client = FakeClient()
    stopped = threading.Event()

    def work() -> None:
        other = FakeClient(server=client.server)
        while not stopped.is_set():
            other.pipeline().mset({"a": 1, "b": 1}).incr("n").execute()

    working = [threads.submit(work) for _ in range(2)]
    wait_until(lambda: client.exists("n"))
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(10)  # which ends a child that hangs
                with suppress(BaseException):
                    os._exit(0 if client.incr("n") and client.mget("a", "b") == [b"1", b"1"] else 1)
                os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stopped.set()
        for each in working:
            each.result(PATIENCE)


# -- what a client is told when it is made -----------------------------------------------------------------------


def test_databases_are_told_apart(target: Target) -> None:
    zero, three = target.client(), target.client(db=3)
    three.set("a", 3)
    assert zero.get("a") is None
    assert three.get("a") == b"3"
    with pytest.raises(errors.ResponseError, match="DB index is out of range"):
        target.client(db=99).ping()


@pytest.mark.parametrize("protocol", [2, 3])
def test_texts_are_decoded_where_that_is_asked_for(target: Target, protocol: int) -> None:
    client = target.client(decode_responses=True, protocol=protocol)
    client.hset("h", "ä", "ö")
    client.zadd("z", {"ü": 1.5})
    assert client.hgetall("h") == {"ä": "ö"}
    assert client.zrange("z", 0, -1, withscores=True)[0][0] == "ü"
    assert target.client().hget("h", "ä") == "ö".encode()
    target.client().set("b", b"\xff")
    with pytest.raises(UnicodeDecodeError):
        client.get("b")
    assert client.hget("h", "ä") == "ö"


def test_texts_have_the_encoding_that_was_asked_for(target: Target) -> None:
    target.client().set("a", "ö".encode("latin-1"))
    client = target.client(encoding="latin-1", decode_responses=True)
    assert client.get("a") == "ö"
    lenient = target.client(encoding_errors="replace", decode_responses=True)
    assert lenient.get("a") == "�"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_arguments_are_sent_as_the_library_packs_them_for_a_socket(target: Target, encoding: str) -> None:
    """Which it does in C, where hiredis is there, and then differently; asked of the library itself."""

    class Number(int):
        pass

    class Text(str):
        pass

    class Level(enum.IntEnum):
        HIGH = 3

    class Name(enum.StrEnum):
        MINE = "mine"

    client = target.client(encoding=encoding)
    library_connection = LIBRARY.Connection(encoding=encoding)
    given = [
        None,
        True,
        object(),
        [1],
        {},
        Number(5),
        Text("t"),
        Level.HIGH,
        Name.MINE,
        decimal.Decimal("1.5"),
    ]
    given += [
        1.5,
        1e300,
        float("inf"),
        -(10**30),
        b"\xff",
        "ö",
        "",
        memoryview(b"m"),
        bytearray(b"b"),
        "\ud800",
    ]
    for value in given:
        sent = outcome(lambda: b"".join(library_connection.pack_command("SET", "a", value)))  # noqa: B023
        client.delete("a")
        stored = outcome(lambda: client.set("a", value))  # noqa: B023
        if stored is True:
            raw = taken(client.connection_pool)
            raw.send_command("GET", "a")
            found = raw.read_response(disable_decoding=True)
            client.connection_pool.release(raw)
            assert sent.endswith(b"\r\n$%d\r\n%b\r\n" % (len(found), found)), value
        else:
            assert stored == sent, value
            assert not client.exists("a")


def test_a_client_has_its_name_and_says_what_library_it_is(target: Target) -> None:
    client = target.client(client_name="me")
    assert client.client_getname() in ("me", b"me")
    entry = next(each for each in client.client_list() if each["name"] == "me")
    assert entry["lib-ver"] == LIBRARY.__version__
    assert LIBRARY.__name__ in entry["lib-name"]


def test_a_password_is_asked_for(target: Target) -> None:
    admin = target.client(single_connection_client=True)
    admin.ping()
    admin.config_set("requirepass", "secret")
    try:
        with pytest.raises(
            errors.AuthenticationError, match=r"Authentication required|client already authenticated"
        ):
            target.client().ping()
        with pytest.raises(errors.AuthenticationError, match="invalid username-password pair"):
            target.client(password="wrong").ping()
        assert target.client(password="secret").ping()
        assert target.client(username="default", password="secret", protocol=3).ping()
        provider = import_module(f"{LIBRARY.__name__}.credentials").UsernamePasswordCredentialProvider
        assert target.client(credential_provider=provider("default", "secret")).ping()
    finally:
        admin.config_set("requirepass", "")


def test_a_function_of_ones_own_greets_each_new_connection(target: Target) -> None:
    greeted = []

    def greet(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", "greeted")
        greeted.append(connection.read_response())

    option = "redis_connect_func" if IS_REDIS else "valkey_connect_func"
    client = target.client(**{option: greet})
    assert client.client_getname() in ("greeted", b"greeted")
    assert greeted == [b"OK"]


def test_the_server_counts_connections(target: Target, client: Any) -> None:
    before = client.info("stats")["total_connections_received"]
    target.client().ping()
    target.client().ping()
    assert client.info("stats")["total_connections_received"] == before + 2


def test_response_callbacks_can_be_set(client: Any) -> None:
    client.set_response_callback("GET", lambda reply, **options: ("mine", reply))
    client.set("a", 1)
    assert client.get("a") == ("mine", b"1")


# -- the rest ----------------------------------------------------------------------------------------------------


def test_monitor_tells_what_others_do(target: Target) -> None:
    watcher, client = target.client(), target.client(db=2)
    client.ping()
    with watcher.monitor() as monitor:
        client.set("a b", "x\r\n")
        client.eval("return redis.call('get', KEYS[1])", 1, "a b")
        seen = [monitor.next_command() for _ in range(3)]
        assert [each["command"] for each in seen][::2] == ["SET a b x\\r\\n", "get a b"]
        assert {each["db"] for each in seen} == {2}
        assert [each["client_type"] for each in seen][2] == "lua"
        assert all(isinstance(each["time"], float) for each in seen)
        client.set("c", 1)
        assert next(iter(monitor.listen()))["command"] == "SET c 1"


@pytest.mark.parametrize("protocol", [2, 3])
def test_iterators_meet_everything_once(target: Target, protocol: int) -> None:
    client = target.client(protocol=protocol)
    client.mset({f"k{number}": number for number in range(300)})
    client.hset("hash", mapping={f"f{number}": number for number in range(300)})
    client.sadd("set", *range(300))
    client.zadd("zset", {f"m{number}": number for number in range(300)})
    assert sorted(client.scan_iter(match="k*", count=17)) == sorted(b"k%d" % number for number in range(300))
    assert dict(client.hscan_iter("hash")) == {b"f%d" % number: b"%d" % number for number in range(300)}
    assert set(client.sscan_iter("set", count=7)) == {b"%d" % number for number in range(300)}
    assert dict(client.zscan_iter("zset")) == {b"m%d" % number: float(number) for number in range(300)}


def test_a_blocked_call_gets_what_another_thread_pushes(client: Any, threads: ThreadPoolExecutor) -> None:
    first = threads.submit(client.blpop, "l", PATIENCE)
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
    second = threads.submit(client.blpop, "l", PATIENCE)
    wait_until(lambda: client.info("clients")["blocked_clients"] == 2)
    client.rpush("l", "a")
    assert tuple(first.result(PATIENCE)) == (b"l", b"a")
    client.rpush("l", "b")
    assert tuple(second.result(PATIENCE)) == (b"l", b"b")


def test_a_killed_client_is_not_served_by_the_transaction_that_killed_it(
    target: Target, client: Any, threads: ThreadPoolExecutor
) -> None:
    waiting = target.client(single_connection_client=True, retry=retries.Retry(backoffs.NoBackoff(), 0))
    number = waiting.client_id()
    blocked = threads.submit(outcome, lambda: waiting.blpop("l", PATIENCE))
    wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
    pipe = client.pipeline()
    pipe.execute_command("CLIENT KILL", "ID", number)
    pipe.rpush("l", "a")
    assert pipe.execute() == [1, 1]
    assert blocked.result(PATIENCE)[0] is errors.ConnectionError
    assert client.lrange("l", 0, -1) == [b"a"]


def test_a_blocked_call_ends_when_its_time_is_over(client: Any) -> None:
    assert client.blpop("none", 0.02) is None
    assert client.brpoplpush("none", "other", 1 if VERSION < (4, 0) else 0.02) is None


def test_errors_have_the_librarys_classes(client: Any) -> None:
    client.lpush("l", 1)
    with pytest.raises(errors.ResponseError, match=r"^WRONGTYPE Operation against a key"):
        client.get("l")
    with pytest.raises(errors.ResponseError, match=r"^unknown command 'NOSUCH'"):
        client.execute_command("NOSUCH")
    with pytest.raises(errors.ResponseError, match=r"^wrong number of arguments for 'get' command"):
        client.execute_command("GET")
    with pytest.raises(errors.DataError, match="ZADD requires at least one element"):
        client.zadd("z", {})


# -- addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "db"),
    [
        (f"{URL}://", {}, 0),
        (f"{URL}://localhost", {}, 0),
        (f"{URL}://localhost:6380/2", {}, 2),
        (f"{URL}s://cache.example:6380/3", {}, 3),
        ("unix:///run/some.sock", {}, 0),
        ("unix:///run/some.sock?db=4", {}, 4),
        (f"{URL}://localhost?db=5", {}, 5),
        (f"{URL}://localhost/1", {"db": 6}, 1),
        ("fake://somewhere", {}, 0),
        ("fake://somewhere/7", {}, 7),
        ("fake:///7", {}, 7),
    ],
)
def test_a_url_says_what_a_client_is_of(url: str, options: dict[str, Any], db: int) -> None:
    with FakeClient.from_url(url, decode_responses=True, client_name="me", **options) as client:
        client.set("a", "ä")
        assert client.get("a") == "ä"
        assert client.client_info()["db"] == db
        assert client.client_info()["name"] == "me"
    with FakeClient.from_url(
        f"{url}{'&' if '?' in url else '?'}decode_responses=True&socket_timeout=5"
    ) as client:
        client.set("a", "ä")
        assert client.get("a") == "ä"


def test_a_url_holds_a_password() -> None:
    with FakeClient() as admin:
        admin.config_set("requirepass", "p@ss")
        for url in (
            f"{URL}://:p%40ss@localhost",
            f"{URL}://default:p%40ss@localhost/1",
            "unix://:p%40ss@/run/s",
        ):
            with FakeClient.from_url(url, server=admin.server) as client:
                assert client.ping()
        with pytest.raises(errors.AuthenticationError):
            FakeClient.from_url(f"{URL}://localhost", server=admin.server).ping()


def test_a_url_of_no_kind_that_is_known_is_refused() -> None:
    with pytest.raises(ValueError, match="URL must specify one of the following schemes"):
        FakeClient.from_url("http://localhost")
    with pytest.raises(ValueError):
        FakeClient.from_url(f"{URL}://localhost:port")


def test_urls_share_a_server_by_its_name_and_else_have_one_each() -> None:
    first, second = (FakeClient.from_url("fake://shared/0") for _ in range(2))
    third, fourth = FakeClient.from_url("fake://other/0"), FakeClient.from_url(f"{URL}://localhost")
    first.set("a", 1)
    assert [client.get("a") for client in (second, third, fourth)] == [b"1", None, None]


def test_a_url_may_ask_for_one_connection() -> None:
    with FakeClient.from_url("fake://one", single_connection_client=True) as client:
        assert len({client.client_id() for _ in range(3)}) == 1
