"""arq: coroutines that return, fail, are tried again, come at their time, are called off, and run by a calendar."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

from arq import Retry, create_pool, cron
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job

from tests.apps.jobs import effects

SETTINGS = RedisSettings.from_dsn(os.environ["REDIS_URL"])
SETTINGS.conn_timeout = 20


async def square(ctx: dict[str, Any], number: int) -> int:
    return await asyncio.to_thread(effects.square, number)


async def fail(ctx: dict[str, Any], name: str) -> None:
    await asyncio.to_thread(effects.fail, name)


async def fail_at_first(ctx: dict[str, Any], name: str) -> str:
    try:
        return await asyncio.to_thread(effects.fail_at_first, name)
    except ConnectionError:
        raise Retry(defer=0.05) from None


async def later(ctx: dict[str, Any], due: float) -> str:
    return await asyncio.to_thread(effects.later, due)


async def endless(ctx: dict[str, Any]) -> None:
    await ctx["redis"].set("endless", "runs")
    await asyncio.sleep(3600)


async def tick(ctx: dict[str, Any]) -> None:
    await ctx["redis"].incr("ticks")


class WorkerSettings:
    """What ``arq`` reads."""

    functions = [square, fail, fail_at_first, later, endless]
    cron_jobs = [cron(tick, second=set(range(60)))]
    redis_settings = SETTINGS
    allow_abort_jobs = True
    poll_delay = 0.05


async def until(pool: ArqRedis, key: str) -> None:
    while not await pool.exists(key):
        await asyncio.sleep(0.02)


async def write() -> dict[str, Any]:
    pool = await create_pool(SETTINGS)

    async def put(name: str, *args: Any, **options: Any) -> Job:
        job = await pool.enqueue_job(name, *args, **options)
        assert job is not None
        return job

    async def result(job: Job) -> Any:
        return await job.result(timeout=effects.WAIT_SECONDS, poll_delay=0.05)

    async with asyncio.timeout(effects.WAIT_SECONDS):
        due = effects.soon()
        delayed = await put("later", due, _defer_until=datetime.fromtimestamp(due, UTC))
        squares = [await put("square", number) for number in range(effects.JOBS)]
        again, failed = await put("fail_at_first", "once"), await put("fail", "soup")
        unique = await put("square", 0, _job_id="unique", _defer_by=3600)
        endless = await put("endless")
        await until(pool, "endless")
        seen: dict[str, Any] = {
            "squares": await asyncio.gather(*map(result, squares)),
            "again": await result(again),
            "delayed": await result(delayed),
            "twice": await pool.enqueue_job("square", 0, _job_id="unique"),
            "unique": await unique.status(),
            "aborted": await endless.abort(timeout=effects.WAIT_SECONDS, poll_delay=0.05),
        }
        failure = await asyncio.gather(result(failed), return_exceptions=True)
        seen["failed"] = [repr(error) for error in failure]
        await until(pool, "ticks")
    await pool.aclose()
    return seen


def report() -> dict[str, Any]:
    return asyncio.run(write())
