"""Dramatiq over a socket: its queues live in one script, its results and rate limits in others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.apps.queues import EVERYTHING, SQUARES, Application, stopped
from tests.servers import Server

pytest.importorskip("dramatiq")
pytestmark = pytest.mark.timeout(110)

PRESS = "tests.apps.jobs.dramatiq_press"


def test_every_message_is_processed_once_and_its_result_comes_back(server: Server, tmp_path: Path) -> None:
    app = Application(tmp_path, server, server.tcp_url)
    app.env["dramatiq_worker_timeout"] = "100"  # a stop waits for it, which is a second otherwise
    with app.worker("dramatiq", PRESS, "--processes", "2", "--threads", "4") as worker:
        assert app.client(PRESS) == {
            "squares": SQUARES,
            "again": "attempt 2",
            "failed": "actor raised LookupError: no such thing: soup",
            "delayed": "on time",
            "limited": [1, 2, 3, 4, 5],
            "piped": 10,
        }
        assert stopped(worker) == 0, worker.output()
    app.check_effects(EVERYTHING + Counter(["group done"]))
    with app.connection() as client:
        assert client.exists("dramatiq:default", "dramatiq:default.msgs", "dramatiq:default.DQ") == 0
        assert client.zcard("dramatiq:default.XQ") == 1  # the message that failed
