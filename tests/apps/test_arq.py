"""arq over a socket. It wants a redis-py of before version 6, and so has it in a directory of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.queues import SQUARES, Application, stopped
from tests.installs import INSTALL_SECONDS, python_packages
from tests.servers import Server

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 110)

LETTERS = "tests.apps.jobs.arq_letters"


def test_every_job_is_done_once_and_its_result_comes_back(
    server: Server, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    libraries = python_packages("arq==0.28.*", pytestconfig)
    app = Application(tmp_path, server, server.unix_url, libraries)
    with app.worker("arq", f"{LETTERS}.WorkerSettings") as worker:
        assert app.client(LETTERS) == {
            "squares": SQUARES,
            "again": "attempt 2",
            "failed": ["LookupError('no such thing: soup')"],
            "delayed": "on time",
            "twice": None,
            "unique": "deferred",
            "aborted": True,
        }
        stopped(worker)
        assert "shutdown on SIGTERM" in worker.output()
    app.check_effects()
    with app.connection() as client:
        assert client.zrange("arq:queue", 0, -1)[-1] == "unique"
        assert not client.keys("arq:in-progress:[^c]*")  # those of the calendar expire
