"""redis-py's Lock: who holds it, who waits for it, and what becomes of one that is held too long."""

import threading

import pytest
from redis.exceptions import LockError, LockNotOwnedError

from kvstore.fake import FakeRedis


def close_month(redis, month, work):
    """To be run by one process at a time."""
    with redis.lock(f"close:{month}", timeout=60, blocking=False):
        work()


def test_a_second_process_is_refused(fake_redis, fake_redis_server):
    other = FakeRedis(server=fake_redis_server)

    def meanwhile():
        with pytest.raises(LockError):
            close_month(other, "may", work=lambda: None)

    close_month(fake_redis, "may", work=meanwhile)
    close_month(other, "may", work=lambda: None)  # free again


def test_work_that_takes_too_long_is_noticed(fake_redis, fake_redis_server):
    with pytest.raises(LockNotOwnedError):
        close_month(fake_redis, "may", work=lambda: fake_redis_server.clock.advance(seconds=61))


def test_who_waits_gets_the_lock_when_it_is_released(fake_redis):
    first = fake_redis.lock("stock", timeout=60)
    second = fake_redis.lock("stock", timeout=60, sleep=0.01, blocking_timeout=30)
    assert first.acquire()
    waiting = threading.Thread(target=second.acquire)
    waiting.start()
    first.release()
    waiting.join(30)
    assert fake_redis.exists("stock")
    assert not first.owned()
