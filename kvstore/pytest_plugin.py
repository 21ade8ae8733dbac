"""Fixtures for pytest: fake Redis clients, a fake server, a real one on a socket, and patches.

pytest loads this plugin by itself wherever kvstore is installed (``-p no:kvstore`` leaves it out). Each fixture is
made anew for each test, and closed after it; nothing is shared between tests, nor between the processes of
pytest-xdist.

Costs: pytest imports this file at every start, so it imports nothing but pytest until a fixture is used.
Must not know: how fakes work.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    from kvstore.fake import FakeAsyncRedis, FakeRedis, FakeServer
    from kvstore.serving import ServerThread

_MARKERS = {
    "fake_redis_server(**keywords)": "keywords of kvstore.fake.FakeServer for the fixture of that name",
    "fake_redis(**keywords)": "keywords of redis.Redis for the fixture of that name (decode_responses=True)",
    "fake_async_redis(**keywords)": "keywords of redis.asyncio.Redis for the fixture of that name",
    "fake_valkey(**keywords)": "keywords of valkey.Valkey for the fixture of that name",
    "fake_async_valkey(**keywords)": "keywords of valkey.asyncio.Valkey for the fixture of that name",
    "kvstore_server(**directives)": "directives of the server of the fixture of that name (maxmemory='1mb')",
    "real_redis": "a test for which kvstore_patch_redis does not hold",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "kvstore_patch_redis",
        "run every test with patch_redis: no client of redis-py or valkey-py reaches a real server",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, what in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    if config.getini("kvstore_patch_redis"):
        config.pluginmanager.register(_PatchAlways(), "kvstore-patch-redis")


class _PatchAlways:
    """What ``kvstore_patch_redis = true`` adds."""

    @pytest.fixture(autouse=True)
    def _kvstore_patch_redis(self, request: pytest.FixtureRequest) -> None:
        if request.node.get_closest_marker("real_redis") is None:
            request.getfixturevalue("patch_redis")


def _keywords(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    """The keywords that markers of that name have; the one nearest to the test counts most."""
    found: dict[str, Any] = {}
    for marker in request.node.iter_markers(name):
        if marker.args:
            raise pytest.UsageError(f"@pytest.mark.{name} takes keywords only")
        found = {**marker.kwargs, **found}
    return found


def _fake_client(request: pytest.FixtureRequest, server: FakeServer, client: str) -> Any:
    """A client of this class for the fixture; a failure that says what to install without its library."""
    import kvstore.fake

    name = str(request.fixturename)
    try:
        cls = getattr(kvstore.fake, client)
    except ImportError as error:
        what = (
            "valkey-py: pip install valkey" if "valkey" in name else "redis-py: pip install 'kvstore[redis]'"
        )
        pytest.fail(f"the fixture {name} needs {what} ({error})", pytrace=False)
    return cls(server=server, **_keywords(request, name))


# -- fakes -------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_redis_server(request: pytest.FixtureRequest) -> Iterator[FakeServer]:
    """A ``FakeServer`` of the test's own: its data, its clock, its faults.

    ``@pytest.mark.fake_redis_server(seed=1)`` gives it keywords. After the test it is no longer connected, so that
    a thread that still waits for it ends with a ConnectionError.
    """
    from kvstore.fake import FakeServer

    server = FakeServer(**_keywords(request, "fake_redis_server"))
    yield server
    server.connected = False


@pytest.fixture
def fake_redis(request: pytest.FixtureRequest, fake_redis_server: FakeServer) -> Iterator[FakeRedis]:
    """A ``redis.Redis`` whose commands run on ``fake_redis_server``.

    ``@pytest.mark.fake_redis(decode_responses=True)`` gives it keywords of ``redis.Redis``.
    """
    client = _fake_client(request, fake_redis_server, "FakeRedis")
    yield client
    client.close()


@pytest.fixture
def fake_async_redis(request: pytest.FixtureRequest, fake_redis_server: FakeServer) -> FakeAsyncRedis:
    """A ``redis.asyncio.Redis`` whose commands run on ``fake_redis_server``.

    It belongs to no event loop: use it under pytest-asyncio, anyio's plugin or ``asyncio.run``. The server closes
    its connections after the test, so there is nothing to await.
    """
    client: FakeAsyncRedis = _fake_client(request, fake_redis_server, "FakeAsyncRedis")
    return client


@pytest.fixture
def fake_valkey(request: pytest.FixtureRequest, fake_redis_server: FakeServer) -> Iterator[Any]:
    """As ``fake_redis``, a ``valkey.Valkey`` of valkey-py."""
    client = _fake_client(request, fake_redis_server, "FakeValkey")
    yield client
    client.close()


@pytest.fixture
def fake_async_valkey(request: pytest.FixtureRequest, fake_redis_server: FakeServer) -> Any:
    """As ``fake_async_redis``, a ``valkey.asyncio.Valkey`` of valkey-py."""
    return _fake_client(request, fake_redis_server, "FakeAsyncValkey")


@pytest.fixture
def patch_redis(fake_redis_server: FakeServer) -> Iterator[FakeServer]:
    """Every client of redis-py and valkey-py that the test's code makes, or has, talks to ``fake_redis_server``.

    See ``kvstore.fake.patched``. With ``kvstore_patch_redis = true`` in pytest's configuration it holds for every
    test but those marked ``@pytest.mark.real_redis``.
    """
    from kvstore.fake import patched

    try:
        patch = patched(fake_redis_server)
        patch.__enter__()
    except ImportError as error:
        pytest.fail(f"the fixture patch_redis: {error}", pytrace=False)
    try:
        yield fake_redis_server
    finally:
        patch.__exit__(None, None, None)


# -- a real server -----------------------------------------------------------------------------------------


class RunningServer:
    """A real server in this process, on sockets: for code that must have one, or another language.

    ``path``: its Unix socket. ``url``: the URL of that, for redis-py. ``port``, ``tcp_url``: the same server on
    127.0.0.1. ``thread``: what ``kvstore.serve`` gave, whose ``call(lambda store: …)`` reaches the data.
    """

    def __init__(self, thread: ServerThread, path: Path):
        self.thread = thread
        self.path = str(path)
        self.url = f"unix://{path}"
        self.port = thread.port
        self.tcp_url = f"redis://127.0.0.1:{thread.port}/0"
        self.call = thread.call
        self._clients: list[redis.Redis] = []

    def __repr__(self) -> str:
        return f"<kvstore server on {self.path} and port {self.port}>"

    def client(self, **keywords: Any) -> redis.Redis:
        """A new ``redis.Redis`` over the Unix socket, with keywords of its; closed after the test."""
        import redis

        client = redis.Redis(unix_socket_path=self.path, **keywords)
        self._clients.append(client)
        return client

    def async_client(self, **keywords: Any) -> redis.asyncio.Redis:
        """A new ``redis.asyncio.Redis`` over the Unix socket; to be closed in its loop, best by ``async with``."""
        import redis.asyncio

        return redis.asyncio.Redis(unix_socket_path=self.path, **keywords)

    def close(self) -> None:
        """Close its clients, and stop it."""
        for client in self._clients:
            client.close()
        self.thread.close()


@pytest.fixture
def kvstore_server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A real server on a Unix socket and a free port, stopped after the test; see ``RunningServer``.

    ``@pytest.mark.kvstore_server(maxmemory="1mb")`` gives it directives. Patches leave its addresses alone.
    """
    import kvstore
    from kvstore.fake import patching

    # Not pytest's own directory for the test: the path of a socket has room for about a hundred characters.
    directory = Path(tempfile.mkdtemp(prefix="kv-"))
    try:
        keywords = {"dir": str(directory), **_keywords(request, "kvstore_server")}
        with kvstore.serve(unix=directory / "s", port=0, **keywords) as thread:
            server = RunningServer(thread, directory / "s")
            addresses = {server.path, f"127.0.0.1:{server.port}", f"localhost:{server.port}"}
            patching.spared |= addresses
            try:
                yield server
            finally:
                patching.spared -= addresses
                server.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
