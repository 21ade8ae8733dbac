"""Huey: tasks that return, fail, are tried again, come at their time, in a pipeline, by priority, under a lock."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import huey as hueys

from tests.apps.jobs import effects

# PriorityRedisHuey keeps its queue in a sorted set, RedisHuey in a list. Results are waited for with BLPOP, longer
# than redis-py would.
huey = getattr(hueys, os.environ["HUEY"])(
    "mail",
    url=f"{os.environ['REDIS_URL']}?socket_timeout={effects.WAIT_SECONDS + 20}",
    notify_result=True,
    store_intermediate_errors=False,
)
square = huey.task()(effects.square)
fail = huey.task()(effects.fail)
fail_at_first = huey.task(retries=2)(effects.fail_at_first)
later = huey.task()(effects.later)


@huey.task()
@huey.lock_task("only one")
def add(left: int, right: int) -> int:
    return left + right


def report() -> dict[str, Any]:
    def result(of: Any) -> Any:
        return of.get(blocking=True, timeout=effects.WAIT_SECONDS)

    due = effects.soon()
    delayed = later.schedule(args=(due,), eta=datetime.fromtimestamp(due))
    called_off = square.schedule(args=(-1,), delay=3600)
    called_off.revoke()
    squares = [square(number) for number in range(effects.JOBS)]
    again, failed = fail_at_first("once"), fail("soup")
    seen: dict[str, Any] = {
        "squares": [result(each) for each in squares],
        "again": result(again),
        "delayed": result(delayed),
        "revoked": called_off.is_revoked(),
        "piped": [result(step) for step in huey.enqueue(add.s(1, 2).then(add, 3).then(add, 4))],
    }
    try:
        result(failed)
    except hueys.exceptions.TaskException as error:
        seen["failed"] = error.metadata["error"]
    return seen
