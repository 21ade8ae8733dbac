"""Dramatiq: actors that return, fail, are tried again and come at their time, in groups, under a rate limit."""

from __future__ import annotations

import os
from time import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import RedisBackend

from tests.apps.jobs import effects
from tests.servers import die_with_parent

# Dramatiq's processes would outlive the one that made them when that is killed.
if (hook := die_with_parent()) is not None:
    hook()

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(client=broker.client), store_results=True))
broker.add_middleware(dramatiq.middleware.GroupCallbacks(LimitsBackend(client=broker.client)))
dramatiq.set_broker(broker)
limiter = ConcurrentRateLimiter(LimitsBackend(client=broker.client), "press", limit=1)

square = dramatiq.actor(effects.square)
fail = dramatiq.actor(max_retries=0)(effects.fail)
fail_at_first = dramatiq.actor(max_retries=3, min_backoff=10)(effects.fail_at_first)
later = dramatiq.actor(effects.later)


@dramatiq.actor(max_retries=1000, min_backoff=1, max_backoff=20)
def alone(left: int, right: int) -> int:
    with limiter.acquire():
        return left + right


@dramatiq.actor
def all_done() -> None:
    effects.leave("group done")


def report() -> dict[str, Any]:
    wait = {"block": True, "timeout": effects.WAIT_SECONDS * 1000}
    due = effects.soon()
    delayed = later.send_with_options(args=(due,), delay=int((due - time()) * 1000) + 1)
    squares = dramatiq.group(square.message(number) for number in range(effects.JOBS))
    squares.add_completion_callback(all_done.message())
    squares.run()
    again, failed = fail_at_first.send("once"), fail.send("soup")
    limited = dramatiq.group(alone.message(number, 1) for number in range(5)).run()
    piped = dramatiq.pipeline([alone.message(1, 2), alone.message(3), alone.message(4)]).run()
    seen: dict[str, Any] = {
        "squares": list(squares.get_results(**wait)),
        "again": again.get_result(**wait),
        "delayed": delayed.get_result(**wait),
        "limited": list(limited.get_results(**wait)),
        "piped": piped.get_result(**wait),
    }
    try:
        failed.get_result(**wait)
    except ResultFailure as error:
        seen["failed"] = str(error)
    for queue in broker.get_declared_queues():
        broker.join(queue, timeout=effects.WAIT_SECONDS * 1000)
    return seen
