"""Huey over a socket, with its queue in a list and in a sorted set."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.apps.queues import SQUARES, Application, stopped
from tests.servers import Server

pytest.importorskip("huey")
pytestmark = pytest.mark.timeout(110)

MAIL = "tests.apps.jobs.huey_mail"


@pytest.mark.parametrize("kind", ["RedisHuey", "PriorityRedisHuey"])
def test_every_task_is_done_once_and_its_result_comes_back(server: Server, tmp_path: Path, kind: str) -> None:
    app = Application(tmp_path, server, server.tcp_url if kind == "RedisHuey" else server.unix_url)
    app.env["HUEY"] = kind
    with app.worker("huey.bin.huey_consumer", f"{MAIL}.huey", "-w", "4", "-s", "1") as worker:
        assert app.client(MAIL) == {
            "squares": SQUARES,
            "again": "attempt 2",
            "failed": "LookupError('no such thing: soup')",
            "delayed": "on time",
            "revoked": True,
            "piped": [3, 6, 10],
        }
        assert stopped(worker, signal.SIGINT) == 0, worker.output()
    app.check_effects()
    with app.connection() as client:
        assert client.exists("huey.redis.mail", "huey.lock.only one") == 0
        assert client.zcard("huey.schedule.mail") == 1  # what was called off, until its time
