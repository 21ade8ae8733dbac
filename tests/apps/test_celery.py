"""Celery over a socket: broker, results, retries, times, chords, and commands to the workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.queues import SQUARES, Application, stopped
from tests.servers import Server

pytest.importorskip("celery")
pytestmark = pytest.mark.timeout(110)

SHOP = "tests.apps.jobs.celery_shop"


def test_every_task_is_done_once_and_its_result_comes_back(server: Server, tmp_path: Path) -> None:
    app = Application(tmp_path, server, server.tcp_url)
    options = ("-A", SHOP, "worker", "--concurrency", "2", "--loglevel", "INFO", "--without-mingle")
    with app.worker("celery", *options) as worker:
        assert app.client(SHOP) == {
            "squares": SQUARES,
            "again": "attempt 2",
            "failed": "LookupError",
            "delayed": "on time",
            "joined": 8,
            "chained": 5,
            "flaky": 2,
            "ttl": True,
            "workers": 1,
            "forgotten": None,
        }
        assert stopped(worker) == 0, worker.output()
    app.check_effects()
    with app.connection() as client:
        assert (client.llen("celery"), client.hlen("unacked"), client.zcard("unacked_index")) == (1, 0, 0)
