"""A task queue at its day's work: a worker process, a client process, and what came of the jobs.

Must not know: how any queue keeps its jobs.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from tests.apps.jobs.effects import JOBS
from tests.apps.programs import Program, run
from tests.servers import ROOT, Server

SQUARES = [number * number for number in range(JOBS)]
# Every job once, and the job that fails at first once more than it finishes.
EVERYTHING = Counter({f"square {number}": 1 for number in range(JOBS)}) + Counter(
    ["retried once", "failed soup", "on time"]
)


class Application:
    """One application in a directory of its own: how to start its programs, and where its effects are."""

    def __init__(self, directory: Path, server: Server, url: str, libraries: Path | None = None) -> None:
        self.directory = directory
        self.server = server
        path = f"{libraries}:{ROOT}" if libraries else str(ROOT)
        self.env = {"REDIS_URL": url, "EFFECTS": str(directory / "effects"), "PYTHONPATH": path}
        self.env |= {"PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}

    def worker(self, module: str, *argv: str) -> Program:
        """Start a worker beside the test: ``python -m module argv``."""
        return Program(self.directory, sys.executable, "-m", module, *argv, env=self.env)

    def client(self, module: str) -> dict[str, Any]:
        """Run a client to its end; what ``module.report()`` returns there."""
        # Imported and not run, so that its tasks have the names that the worker knows them by.
        out = run(
            *(sys.executable, "-c", f"import json, {module} as m; print(json.dumps(m.report()))"),
            env=self.env,
        )
        report: dict[str, Any] = json.loads(out.splitlines()[-1])
        return report

    def effects(self) -> Counter[str]:
        """How often each job finished, by the file that the jobs write."""
        path = Path(self.env["EFFECTS"])
        return Counter(path.read_text().splitlines() if path.exists() else [])

    def counted(self) -> Counter[str]:
        """How often each job finished, by the hash in the server."""
        with self.connection() as client:
            return Counter({line: int(count) for line, count in client.hgetall("effects").items()})

    def connection(self) -> Any:
        return redis.Redis(unix_socket_path=self.server.unix, decode_responses=True)

    def check_effects(self, wanted: Counter[str] = EVERYTHING) -> None:
        """Every job has finished as often as it should, by both accounts, and failed as often as it should."""
        assert self.effects() == wanted
        assert self.counted() == wanted
        with self.connection() as client:
            assert client.get("attempts:once") == "2"


def stopped(worker: Program, how: signal.Signals = signal.SIGTERM) -> int:
    """Stop a worker as an operator does; its exit code."""
    worker.process.send_signal(how)
    return worker.end()
