"""What a test of a client library's behaviour runs on: a fake, and a real server over a Unix socket, in turn.

A test that holds on both shows that the fake is not told from the server. KVSTORE_TEST_LIBRARY names the library
("redis" or "valkey"); whichever version is imported is the one under test, so that the same tests show others.

Must not know: any behaviour.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from kvstore import fake
from tests.conftest import require
from tests.servers import Server

PATIENCE = 10.0  # seconds that nothing takes
LIBRARY: Any = import_module(os.environ.get("KVSTORE_TEST_LIBRARY", "redis"))
ASYNCIO: Any = import_module(f"{LIBRARY.__name__}.asyncio")
IS_REDIS = LIBRARY.__name__ == "redis"
Client: Any = LIBRARY.Redis if IS_REDIS else LIBRARY.Valkey
AsyncClient: Any = ASYNCIO.Redis if IS_REDIS else ASYNCIO.Valkey
FakeClient: Any = fake.FakeRedis if IS_REDIS else fake.FakeValkey
FakeAsyncClient: Any = fake.FakeAsyncRedis if IS_REDIS else fake.FakeAsyncValkey
VERSION = tuple(int(part) for part in LIBRARY.__version__.split(".")[:2]) if IS_REDIS else (5, 3)


class Target:
    """Something with clients: a fake server, or (``real``) a server that listens on a Unix socket."""

    def __init__(self, real: Server | None = None):
        self.real = real
        self.server = fake.FakeServer()
        self.clients: list[Any] = []

    def client(self, **options: Any) -> Any:
        """A client, closed at the end of the test."""
        made = self.unowned(**options)
        self.clients.append(made)
        return made

    def unowned(self, **options: Any) -> Any:
        """A client that nobody closes but the test."""
        options.setdefault("socket_timeout", PATIENCE)
        if self.real is None:
            return FakeClient(server=self.server, **options)
        return Client(unix_socket_path=self.real.unix, **options)

    def async_client(self, **options: Any) -> Any:
        """An asyncio client; its test closes it, in its own event loop."""
        options.setdefault("socket_timeout", PATIENCE)
        if self.real is None:
            return FakeAsyncClient(server=self.server, **options)
        return AsyncClient(unix_socket_path=self.real.unix, **options)

    def of_pool(self, pool: Any, asyncio: bool = False) -> Any:
        """A client of a pool that the test made by ``pool_options``."""
        if self.real is None:
            return (FakeAsyncClient if asyncio else FakeClient)(connection_pool=pool, server=self.server)
        return (AsyncClient if asyncio else Client)(connection_pool=pool)

    def pool_options(self, asyncio: bool = False) -> dict[str, Any]:
        """What a pool of connections to it takes."""
        if self.real is None:
            return {}
        library = ASYNCIO if asyncio else LIBRARY
        return {"connection_class": library.UnixDomainSocketConnection, "path": self.real.unix}

    def close(self) -> None:
        for client in self.clients:
            client.close()


def targets(request: pytest.FixtureRequest) -> Iterator[Target]:
    """The body of a fixture with the parameters "fake" and "valkey"."""
    real = None
    if request.param != "fake":
        require(request.param)
        real = request.getfixturevalue(f"{request.param}_server")
    target = Target(real)
    with target.unowned() as client:
        client.flushall()
        client.script_flush()
        client.config_resetstat()
    yield target
    target.close()


def wait_until(is_so: Callable[[], Any]) -> None:
    """Wait until something is so, at most as long as nothing takes."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)
