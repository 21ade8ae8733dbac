"""asyncio under pytest-asyncio: the client belongs to no loop."""

import asyncio

import pytest


async def first_of(redis, *queues):
    found = await redis.blpop(queues, timeout=30)
    return found and found[1]


@pytest.mark.asyncio
async def test_a_job_wakes_who_waits(fake_async_redis):
    waiting = asyncio.create_task(first_of(fake_async_redis, "urgent", "normal"))
    await asyncio.sleep(0)
    await fake_async_redis.rpush("normal", "job")
    assert await waiting == b"job"


@pytest.mark.asyncio
async def test_time_is_up_when_the_test_says_so(fake_async_redis, fake_redis_server):
    waiting = asyncio.create_task(first_of(fake_async_redis, "queue"))
    while not (await fake_async_redis.info("clients"))["blocked_clients"]:
        pass
    fake_redis_server.clock.advance(seconds=30)
    assert await waiting is None


@pytest.mark.asyncio
async def test_a_task_that_is_cancelled_takes_nothing(fake_async_redis):
    waiting = asyncio.create_task(first_of(fake_async_redis, "queue"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    await fake_async_redis.rpush("queue", "job")
    assert await fake_async_redis.lrange("queue", 0, -1) == [b"job"]
