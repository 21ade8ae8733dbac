"""BullMQ over a socket: 200 jobs, delayed ones, ones that are tried again, flows, schedulers; all of it in scripts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import redis

from tests.apps.nodejs import NODE, environment
from tests.apps.programs import Program, run
from tests.installs import INSTALL_SECONDS
from tests.servers import Server

pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 110)

JOBS = 200


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_every_job_is_done_once_and_its_result_comes_back(
    server: Server, tmp_path: Path, pytestconfig: pytest.Config, transport: str
) -> None:
    env = environment(pytestconfig, server, tcp=transport == "tcp") | {"EFFECTS": str(tmp_path / "effects")}
    with Program(tmp_path, "node", str(NODE / "bullmq_worker.js"), env=env) as worker:
        worker.wait_for_text("ready")
        out = run("node", str(NODE / "bullmq_client.js"), str(JOBS), env=env)
        worker.process.terminate()
        assert worker.end() == 0, worker.output()
        assert worker.lines() == ["ready", "closed"]  # and no error
    numbers = range(JOBS)
    assert json.loads(out.splitlines()[-1]) == {
        "squares": [number * number for number in numbers],
        "again": "attempt 3",
        "attempts": 3,
        "failed": "no such thing: soup",
        "delayed": "on time",
        "told": "all of it",
        "progress": {"percent": 50},
        "log": ["half way"],
        "flow": 1000**2 + 1001**2,
        "once": 1,
        "still": "delayed",
        "counts": {"wait": 0, "paused": 0, "prioritized": 0, "active": 0, "delayed": 1, "failed": 1},
        "completed": JOBS + 9,  # retried, delayed, told, a sum and its two parts, three ticks
        "paused": [True, "waiting"],
        "cleaned": JOBS + 9,
        "left": [],
    }
    effects = Counter([*(f"square {number}" for number in (*numbers, 1000, 1001)), "sum", "on time"])
    effects += Counter(["retried once", "failed soup"])
    assert Counter((tmp_path / "effects").read_text().splitlines()) == effects
    with redis.Redis(unix_socket_path=server.unix, decode_responses=True) as client:
        assert Counter({line: int(count) for line, count in client.hgetall("effects").items()}) == effects
        assert (client.get("attempts:once"), client.get("ticks")) == ("3", "3")
