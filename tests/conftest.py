"""Fixtures that all tests share: running servers, started once a test process and stopped at its end."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator

import pytest

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from tests import servers
from tests.laws import START_MS, Recorder
from tests.servers import Server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--heavy", action="store_true", help="the large sizes of the random tests")


@pytest.fixture(scope="session")
def heavy(request: pytest.FixtureRequest) -> bool:
    """Whether the large sizes were asked for."""
    return bool(request.config.getoption("--heavy"))


@pytest.fixture
def db() -> Database:
    """An empty database on a clock that stands still, with fixed luck."""
    return Context(Database, clock=ManualClock(START_MS), random=random.Random(5)).database(0)


@pytest.fixture
def recorder(db: Database) -> Recorder:
    """Hears what happens in ``db``."""
    recorder = Recorder()
    db.ctx.listen(recorder)
    return recorder


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """What claims to be large must not be reserved: the process may not grow by more than 512 MB."""
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (512 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def require(kind: str) -> None:
    """Skip, with the reason, where a real server is not installed; under CI that is a failure.

    KVSTORE_TEST_ORACLES=no leaves out all tests that need one.
    """
    if kind != "kvstore" and os.environ.get("KVSTORE_TEST_ORACLES") == "no":
        pytest.skip("without real servers, as KVSTORE_TEST_ORACLES says")
    if servers.available(kind):
        return
    reason = f"{kind}-server is not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must not run without it")
    pytest.skip(reason)


def _serve(kind: str) -> Iterator[Server]:
    require(kind)
    with servers.running(kind, tcp=True, options={"enable-debug-command": "yes"}) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A redis-server of its own for this test process."""
    yield from _serve("redis")


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """A valkey-server of its own for this test process."""
    yield from _serve("valkey")


@pytest.fixture(scope="session")
def kvstore_server() -> Iterator[Server]:
    """A kvstore server, in a process of its own, for this test process."""
    yield from _serve("kvstore")


@pytest.fixture(scope="session", params=servers.KINDS)
def any_server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn: what a test shows on all of them is behaviour, not accident."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server
