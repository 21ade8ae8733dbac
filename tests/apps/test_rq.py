"""RQ over a socket: a worker with its scheduler that forks for each job, and streams of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.queues import SQUARES, Application, stopped
from tests.servers import Server

pytest.importorskip("rq")
pytestmark = pytest.mark.timeout(110)


def test_every_job_is_done_once_and_its_result_comes_back(server: Server, tmp_path: Path) -> None:
    app = Application(tmp_path, server, server.unix_url)
    with app.worker("rq.cli", "worker", "images", "--with-scheduler", "--url", server.unix_url) as worker:
        report = app.client("tests.apps.jobs.rq_images")
        assert stopped(worker) == 0, worker.output()
    assert report == {
        "squares": SQUARES,
        "again": "attempt 2",
        "failed": "LookupError: no such thing: soup",
        "after": 3,
        "delayed": "on time",
    }
    app.check_effects()
    with app.connection() as client:
        kept = {key: client.zcard(f"rq:{key}:images") for key in ("failed", "wip", "scheduled", "deferred")}
        assert kept == {"failed": 1, "wip": 0, "scheduled": 0, "deferred": 0}
        assert client.exists("rq:queue:images", "rq:workers") == 0
