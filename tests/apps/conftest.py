"""The servers that the applications run against: redis-server, which shows that a test asks for what Redis does, and kvstore."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.conftest import require
from tests.servers import Server


@pytest.fixture(scope="module", params=("redis", "kvstore"))
def fresh_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    require(request.param)
    with servers.running(request.param, tcp=True) as running:
        yield running


@pytest.fixture
def server(fresh_server: Server) -> Iterator[Server]:
    """A server, each kind in turn, that holds no keys; the application must leave it alive and without complaint."""
    with fresh_server.client() as client:
        assert client.call("FLUSHALL") == b"+OK\r\n"
    yield fresh_server
    assert fresh_server.alive(), f"the application brought it down:\n{fresh_server.log()[-4000:]}"
    assert "Traceback" not in fresh_server.log(), fresh_server.log()[-8000:]
