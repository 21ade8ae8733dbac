"""Celery: the recipe's application and tasks, with more of them, a broker and a result backend."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from celery import chain, chord, group, shared_task

from tests.apps.jobs import effects
from tests.recipes.test_celery import create_app, flaky, price, total

app = create_app(os.environ["REDIS_URL"])
app.conf.update(worker_hijack_root_logger=False, task_acks_late=True)
square = shared_task(effects.square, name="square")
fail = shared_task(effects.fail, name="fail")
later = shared_task(effects.later, name="later")


@shared_task(bind=True, max_retries=3, default_retry_delay=0, name="fail_at_first")
def fail_at_first(self: Any, name: str) -> str:
    try:
        return effects.fail_at_first(name)
    except ConnectionError as error:
        raise self.retry(exc=error) from None


def report() -> dict[str, Any]:
    wait = {"timeout": effects.WAIT_SECONDS}
    due = effects.soon()
    delayed = later.apply_async((due,), eta=datetime.fromtimestamp(due, UTC))
    squares = group(square.s(number) for number in range(effects.JOBS)).apply_async()
    again, failed = fail_at_first.delay("once"), fail.delay("soup")
    square.apply_async((-1,), countdown=3600)  # the worker has taken it, and puts it back when it stops
    joined = chord([price.s("tea"), price.s("cake")])(total.s())
    chained = chain(price.s("tea"), price.signature(immutable=True, args=("cake",)))()
    seen: dict[str, Any] = {
        "squares": squares.get(**wait),
        "again": again.get(**wait),
        "failed": type(failed.get(**wait, propagate=False)).__name__,
        "delayed": delayed.get(**wait),
        "joined": joined.get(**wait),
        "chained": chained.get(**wait),
        "flaky": flaky.delay().get(**wait),
        "ttl": app.backend.client.ttl(app.backend.get_key_for_task(again.id)) > 3000,
    }
    # Commands to all workers and their answers: by pub/sub, and by lists that expire.
    seen["workers"] = len(app.control.ping(timeout=effects.WAIT_SECONDS, limit=1))
    seen["forgotten"] = again.forget()
    return seen
