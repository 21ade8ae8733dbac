"""The pytest plugin, in test suites of their own that users might have."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("redis")
pytest_plugins = ["pytester"]

# What a user's suite has: an application that makes its own client, and settings of pytest.
APP = """
from redis import Redis

client = Redis(host="127.0.0.1", port=1, password="secret", retry=None)

def visit():
    return client.incr("visits")
"""
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


def run(pytester: pytest.Pytester, source: str, *args: str, ini: str = "") -> pytest.RunResult:
    """Run a test file, in a process of its own."""
    pytester.makeini(INI + ini)
    pytester.makepyfile(app=APP)
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *args, timeout=60)


def test_a_first_test_is_as_short_as_can_be(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        def test_greeting(fake_redis):
            fake_redis.set("greeting", "hello")
            assert fake_redis.get("greeting") == b"hello"
        """,
    ).assert_outcomes(passed=1)


def test_fixtures_share_a_server_within_a_test_and_nothing_between_tests(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import asyncio
        import pytest
        import redis
        from kvstore.fake import FakeRedis

        @pytest.mark.parametrize("turn", range(3))
        def test_shared(turn, fake_redis, fake_async_redis, fake_redis_server, patch_redis):
            assert fake_redis.incr("counter") == 1
            assert asyncio.run(fake_async_redis.incr("counter")) == 2
            assert FakeRedis(server=fake_redis_server).incr("counter") == 3
            assert redis.Redis().incr("counter") == 4
            assert patch_redis is fake_redis_server is fake_redis.server
        """,
    ).assert_outcomes(passed=3)


def test_markers_give_keywords_and_the_nearest_counts(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.fake_redis(decode_responses=True, client_name="suite")

        @pytest.mark.fake_redis(client_name="test")
        def test_text(fake_redis):
            fake_redis.set("k", "v")
            assert (fake_redis.get("k"), fake_redis.client_getname()) == ("v", "test")

        @pytest.mark.fake_redis_server(seed=1)
        @pytest.mark.parametrize("turn", range(2))
        def test_luck(turn, fake_redis, drawn=[]):
            fake_redis.sadd("s", *range(1000))
            drawn.append(fake_redis.spop("s", 5))
            assert drawn[0] == drawn[-1]
        """,
        "--strict-markers",
    ).assert_outcomes(passed=3)


def test_a_marker_that_makes_no_sense_is_refused(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.fake_redis(True)
        def test_positional(fake_redis): pass

        @pytest.mark.fake_redis_server(sead=1)
        def test_unknown(fake_redis): pass
        """,
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*takes keywords only*", "*sead*"])


ASYNC = """
import asyncio
import pytest
{mark}

@pytest.mark.parametrize("turn", range(2))
async def test_queue(turn, fake_async_redis):
    waiting = asyncio.create_task(fake_async_redis.blpop("queue", timeout=10))
    await asyncio.sleep(0)
    await fake_async_redis.rpush("queue", "job")
    assert (await waiting)[1] == b"job"
    async with fake_async_redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("news")
        await fake_async_redis.publish("news", "rain")
        async for message in pubsub.listen():
            assert message["data"] == b"rain"
            break
"""
ASYNCIO = "pytestmark = pytest.mark.asyncio"
ANYIO = "pytestmark = pytest.mark.anyio\n\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'"


@pytest.mark.parametrize(
    ("package", "mark", "ini"),
    [
        ("pytest_asyncio", ASYNCIO, "asyncio_mode = strict"),
        ("pytest_asyncio", "", "asyncio_mode = auto"),
        ("anyio", ANYIO, ""),
    ],
    ids=["asyncio strict", "asyncio auto", "anyio"],
)
def test_asyncio_plugins_find_a_client_of_no_loop(
    pytester: pytest.Pytester, package: str, mark: str, ini: str
) -> None:
    pytest.importorskip(package)
    run(pytester, ASYNC.format(mark=mark), ini=ini).assert_outcomes(passed=2)


def test_patching_reaches_a_client_that_a_module_has_made(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import app, pytest, redis

        @pytest.mark.parametrize("turn", range(2))
        def test_visits(turn, patch_redis, fake_redis):
            assert [app.visit(), app.visit()] == [1, 2]
            assert fake_redis.get("visits") == b"2"

        def test_unpatched():
            with pytest.raises(redis.ConnectionError):
                app.visit()
        """,
    ).assert_outcomes(passed=3)


def test_an_ini_option_patches_every_test_that_is_not_marked(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import unittest
        import app, pytest, redis

        @pytest.mark.parametrize("turn", range(2))
        def test_visits(turn):
            assert app.visit() == 1

        class Visits(unittest.TestCase):
            def test_visits(self):
                self.assertEqual(app.visit(), 1)

        @pytest.mark.real_redis
        def test_unpatched():
            with pytest.raises(redis.ConnectionError):
                app.visit()

        def test_with_a_real_server_too(kvstore_server):
            for url in (kvstore_server.url, kvstore_server.tcp_url):
                redis.from_url(url).incr("really")
            assert kvstore_server.call(lambda store: store.get("really")) == b"2"
            assert app.client.get("really") is None
        """,
        ini="kvstore_patch_redis = true\n",
    ).assert_outcomes(passed=5)


def test_doctests_are_patched_too(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        '''
        def double(key):
            """
            >>> import app
            >>> app.client.set("n", 2)
            True
            >>> double("n")
            4
            """
            import app
            return app.client.incrby(key, int(app.client.get(key)))
        ''',
        "--doctest-modules",
        ini="kvstore_patch_redis = true\n",
    ).assert_outcomes(passed=1)


SERVER = """
import asyncio, os, threading
import pytest, redis

seen = []

@pytest.mark.parametrize("turn", range(4))
def test_server(turn, kvstore_server):
    seen.append((kvstore_server.path, kvstore_server.port))
    client = kvstore_server.client(decode_responses=True)
    assert client.incr("counter") == 1
    assert redis.from_url(kvstore_server.url).incr("counter") == 2
    assert redis.from_url(kvstore_server.tcp_url).incr("counter") == 3

    async def count():
        async with kvstore_server.async_client() as aclient:
            return await aclient.incr("counter")

    assert asyncio.run(count()) == 4
    assert kvstore_server.call(lambda store: store.get("counter")) == b"4"
    assert kvstore_server.path in repr(kvstore_server)

@pytest.mark.kvstore_server(maxmemory="1mb", maxmemory_policy="allkeys-lru")
def test_directives(kvstore_server):
    assert kvstore_server.client().config_get("maxmemory") == {"maxmemory": "1048576"}

def test_gone():
    assert not [each for each, _ in seen if os.path.exists(os.path.dirname(each))]
    assert not [each for each in threading.enumerate() if each.name == "kvstore-server"]
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_real_server_runs_for_the_time_of_a_test(pytester: pytest.Pytester, workers: str) -> None:
    if workers != "0":
        pytest.importorskip("xdist")
    args = ("-n", workers) if workers != "0" else ()
    # Whoever leaves redis-py's clients open is told so by Python itself, which is not what is tested.
    run(pytester, SERVER, *args, "-W", "ignore::ResourceWarning").assert_outcomes(passed=6)


def test_processes_of_xdist_are_isolated(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    run(
        pytester,
        """
        import app, pytest

        @pytest.mark.parametrize("turn", range(40))
        def test_visits(turn, patch_redis, fake_redis):
            assert app.visit() == 1
            assert fake_redis.dbsize() == 1
        """,
        "-n",
        "2",
    ).assert_outcomes(passed=40)


def test_without_redis_py_only_its_fixtures_fail_and_say_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.modules['redis'] = sys.modules['valkey'] = None")
    result = run(
        pytester,
        """
        def test_client(fake_redis): pass
        def test_async_client(fake_async_redis): pass
        def test_valkey(fake_valkey): pass
        def test_async_valkey(fake_async_valkey): pass
        def test_patch(patch_redis): pass
        def test_server(kvstore_server, fake_redis_server):
            assert kvstore_server.call(lambda store: store.set("k", "v"))
            assert fake_redis_server.clock.now_ms() > 0
        """,
    )
    result.assert_outcomes(passed=1, errors=5)
    for name in ("fake_redis", "fake_async_redis", "patch_redis"):
        result.stdout.fnmatch_lines([f"*fixture {name}*pip install 'kvstore[[]redis]'*"])
    for name in ("fake_valkey", "fake_async_valkey"):
        result.stdout.fnmatch_lines([f"*fixture {name}*pip install valkey*"])


def test_clients_of_valkey_have_fixtures_too(pytester: pytest.Pytester) -> None:
    pytest.importorskip("valkey")
    run(
        pytester,
        """
        import asyncio
        import pytest

        @pytest.mark.fake_valkey(decode_responses=True)
        def test_shared(fake_valkey, fake_async_valkey, fake_redis_server):
            asyncio.run(fake_async_valkey.set("k", "v"))
            assert fake_valkey.get("k") == fake_redis_server.text_store.get("k") == "v"
        """,
    ).assert_outcomes(passed=1)


def test_a_thread_that_waits_at_the_end_of_a_test_is_let_go(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import pytest, redis, threading

        ended = []

        @pytest.mark.fake_redis(retry=None)
        def test_wait(fake_redis, fake_redis_server):
            def wait():
                try:
                    fake_redis.blpop("queue")
                except redis.ConnectionError:
                    ended.append(threading.current_thread())
            threading.Thread(target=wait, daemon=True).start()
            while not fake_redis.info("clients")["blocked_clients"]:
                pass

        def test_after():
            [each.join(10) for each in threading.enumerate() if each.daemon]
            assert len(ended) == 1
        """,
    ).assert_outcomes(passed=2)


def test_the_fixtures_are_listed_with_what_they_are(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "--fixtures")
    for name in ("fake_redis", "fake_async_redis", "fake_redis_server", "kvstore_server", "patch_redis"):
        result.stdout.fnmatch_lines([f"{name} -- *kvstore/pytest_plugin.py*"])
    result.stdout.fnmatch_lines(["*A ``redis.Redis`` whose commands run on*"])


def test_pytest_s_start_imports_nothing_that_is_heavy() -> None:
    code = """if True:
        import sys
        import kvstore.pytest_plugin
        print(sorted(each for each in sys.modules if each.split(".")[0] in ("kvstore", "redis", "asyncio")))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "['kvstore', 'kvstore.errors', 'kvstore.pytest_plugin']"
