"""RQ: jobs that return, fail, are tried again, wait for others, and come at their time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Any

import redis
from rq import Queue, Retry
from rq.job import Dependency, Job

from tests.apps.jobs import effects


def report() -> dict[str, Any]:
    queue = Queue("images", connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
    due = effects.soon()
    delayed = queue.enqueue_at(datetime.fromtimestamp(due, UTC), effects.later, due)
    squares = [queue.enqueue(effects.square, number) for number in range(effects.JOBS // 2)]
    rest = [
        Queue.prepare_data(effects.square, (number,)) for number in range(effects.JOBS // 2, effects.JOBS)
    ]
    squares += queue.enqueue_many(rest)
    again = queue.enqueue(effects.fail_at_first, "once", retry=Retry(max=2))
    failed = queue.enqueue(effects.fail, "soup", result_ttl=600)
    after = queue.enqueue(sum, (1, 2), depends_on=Dependency([again, failed], allow_failure=True))

    def result(job: Job) -> Any:
        """What it returned or raised: a read of its stream of results that waits."""
        deadline = time.monotonic() + effects.WAIT_SECONDS
        while job.get_status() not in ("finished", "failed"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job!r} is {job.get_status()}")
            job.latest_result(timeout=1)
        last = job.latest_result(timeout=effects.WAIT_SECONDS)
        assert last is not None
        return last.exc_string.splitlines()[-1] if last.exc_string else last.return_value

    return {
        "squares": [result(job) for job in squares],
        "again": result(again),
        "failed": result(failed),
        "after": result(after),
        "delayed": result(delayed),
    }
