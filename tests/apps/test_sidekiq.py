"""Sidekiq's own worker and client, in Ruby, at their day's work: jobs, a retry, a scheduled job, stops."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.apps.programs import Program, require_program, run
from tests.servers import Server

pytestmark = pytest.mark.timeout(110)

HERE = Path(__file__).resolve().parent
RUBY_JOBS, PYTHON_JOBS = 150, 50


class Sidekiq:
    """One application: where its effects are, and how to start its programs."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.env = {"REDIS_URL": url, "EFFECTS": str(directory / "effects"), "LANG": "C.UTF-8"}

    def client(self, *argv: str) -> dict[str, Any]:
        """Run the Ruby client; what Sidekiq's API reports at its end."""
        out = run("ruby", str(HERE / "sidekiq_client.rb"), *argv, env=self.env)
        report: dict[str, Any] = json.loads(out.splitlines()[-1])
        return report

    def worker(self, *, patience: int = 20) -> Program:
        """Start a worker process of ten threads; it gives running jobs ``patience`` seconds at its stop."""
        jobs = str(HERE / "sidekiq_jobs.rb")
        options = ("-r", jobs, "-c", "10", "-q", "default", "-g", "acceptance", "-t", str(patience), "-v")
        return Program(self.directory, "sidekiq", *options, env=self.env)

    def effects(self) -> Counter[str]:
        """How often each job finished, by the file that the jobs write."""
        path = Path(self.env["EFFECTS"])
        return Counter(path.read_text().splitlines() if path.exists() else [])


@pytest.fixture(params=("unix", "tcp"))
def sidekiq(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Sidekiq:
    require_program("sidekiq", "ruby-sidekiq")
    return Sidekiq(tmp_path, server.unix_url if request.param == "unix" else server.tcp_url)


def push_from_python(server: Server, numbers: range) -> None:
    """Sidekiq's documented job format, pushed by a client that is not Ruby."""
    with redis.Redis(unix_socket_path=server.unix) as client, client.pipeline() as pipe:
        pipe.sadd("queues", "default")
        for number in numbers:
            job = {"class": "CountJob", "args": [number], "jid": f"{number:024x}", "queue": "default"}
            pipe.lpush("queue:default", json.dumps({**job, "created_at": 1.5, "enqueued_at": 1.5}))
        pipe.execute()


def stopped(worker: Program, how: signal.Signals) -> int:
    worker.process.send_signal(how)
    return worker.end()


def counted(server: Server) -> Callable[[], int]:
    """How many different jobs have finished, by the hash in the server."""
    client = redis.Redis(unix_socket_path=server.unix)
    return lambda: int(client.hlen("effects"))


def test_every_job_is_done_once_the_failed_one_again_and_the_scheduled_one_at_its_time(
    sidekiq: Sidekiq, server: Server
) -> None:
    before = sidekiq.client("push", str(RUBY_JOBS))
    push_from_python(server, range(RUBY_JOBS, RUBY_JOBS + PYTHON_JOBS))
    assert before["queues"] == {"default": RUBY_JOBS + 1}
    assert (before["scheduled"], before["later"], before["processed"]) == (1, ["LaterJob"], 0)

    everything = Counter({f"count {number}": 1 for number in range(RUBY_JOBS + PYTHON_JOBS)})
    everything.update(["retried once", "on time"])
    with sidekiq.worker() as worker:
        done = counted(server)
        worker.wait_for("all jobs are done", lambda: done() >= len(everything))
        assert stopped(worker, signal.SIGTERM) == 0, worker.output()
        assert "Bye!" in worker.output()
        assert worker.output().count("RuntimeError: the first attempt fails") >= 1

    assert sidekiq.effects() == everything
    with redis.Redis(unix_socket_path=server.unix, decode_responses=True) as client:
        assert client.hgetall("effects") == dict.fromkeys(everything, "1")
        assert client.get("attempts:once") == "2"
    after = sidekiq.client("report")
    # Each attempt counts as processed, the failed one too.
    assert (after["processed"], after["failed"]) == (len(everything) + 1, 1)
    assert after["processed_today"] <= after["processed"]
    empty = ("enqueued", "scheduled", "retries", "dead")
    assert [after[what] for what in empty] == [0, 0, 0, 0]
    assert (after["processes"], after["busy"], after["waiting"]) == ([], [], [])


def test_a_quiet_worker_fetches_nothing_more_and_its_unfinished_job_goes_back_to_the_queue(
    sidekiq: Sidekiq, server: Server
) -> None:
    assert sidekiq.client("endless")["waiting"] == ["EndlessJob"]
    with sidekiq.worker(patience=1) as worker, redis.Redis(unix_socket_path=server.unix) as client:
        worker.wait_for("the job runs", lambda: client.get("attempts:endless") == b"1")
        worker.process.send_signal(signal.SIGTSTP)
        worker.wait_for_text("no longer accepting new work")
        # A fetch that was blocked in BRPOP when the signal came would still take what arrives.
        worker.wait_for("no fetch waits", lambda: client.info("clients")["blocked_clients"] == 0)
        push_from_python(server, range(3))
        report = sidekiq.client("report")
        assert (report["processes"], report["waiting"]) == (["acceptance"], ["CountJob"] * 3)
        assert stopped(worker, signal.SIGTERM) == 0, worker.output()
    report = sidekiq.client("report")
    # Put back at the end that is fetched next.
    assert report["waiting"] == ["CountJob"] * 3 + ["EndlessJob"]
    assert (report["processes"], report["busy"]) == ([], [])
    assert sidekiq.effects() == Counter()
