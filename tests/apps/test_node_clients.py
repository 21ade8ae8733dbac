"""ioredis and node-redis at a program's day, and as clients of a cluster: every step asks for what real servers reply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.apps.nodejs import NODE, environment
from tests.apps.programs import run
from tests.conftest import require
from tests.installs import INSTALL_SECONDS
from tests.servers import Server

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 60)


def steps(name: str) -> list[str]:
    """The steps of a program, in their order."""
    return re.findall(r"^    async (\w+)\(", (NODE / name).read_text(), re.M)


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_day_with_ioredis(server: Server, pytestconfig: pytest.Config, transport: str) -> None:
    env = environment(pytestconfig, server, tcp=transport == "tcp")
    passed = run("node", str(NODE / "ioredis_day.js"), env=env).splitlines()
    assert passed == steps("ioredis_day.js") and len(passed) == 10


@pytest.mark.parametrize(
    ("transport", "protocol"), [("unix", 3), ("tcp", 3), ("unix", 2)], ids=lambda value: str(value)
)
def test_a_day_with_node_redis(
    server: Server, pytestconfig: pytest.Config, transport: str, protocol: int
) -> None:
    env = environment(pytestconfig, server, tcp=transport == "tcp") | {"PROTOCOL": str(protocol)}
    passed = run("node", str(NODE / "node_redis_day.js"), env=env).splitlines()
    assert passed == steps("node_redis_day.js") and len(passed) == 10


@pytest.fixture(params=["redis", "kvstore"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A node of a cluster; a real one tells the address only if it is told itself."""
    kind = str(request.param)
    require(kind)
    server = servers.start_node(kind, **{"dir": str(tmp_path), "cluster-announce-ip": "127.0.0.1"})
    yield server
    server.remove()


@pytest.mark.parametrize("client", ["ioredis", "node-redis"])
def test_a_day_in_a_cluster_of_one_node(node: Server, pytestconfig: pytest.Config, client: str) -> None:
    env = environment(pytestconfig, node, tcp=True) | {"CLIENT": client}
    passed = run("node", str(NODE / "cluster_day.js"), env=env).splitlines()
    assert passed == steps("cluster_day.js") and len(passed) == 4
