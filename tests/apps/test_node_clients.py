"""ioredis and node-redis at a program's day: every step of it asks for what real servers reply."""

from __future__ import annotations

import re

import pytest

from tests.apps.nodejs import NODE, environment
from tests.apps.programs import run
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
