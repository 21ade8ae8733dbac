"""Two rate limiters: a window in a Lua script, and a sliding one in a transaction. Time is the test's."""

from secrets import token_hex

import pytest

WINDOW = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return {count <= tonumber(ARGV[1]) and 1 or 0, redis.call('TTL', KEYS[1])}
"""


class Limiter:
    """So many calls in a window of so many seconds."""

    def __init__(self, redis, limit, seconds):
        self.script = redis.register_script(WINDOW)
        self.args = [limit, seconds]

    def allows(self, user):
        """Whether the user may call, and how long the window lasts."""
        allowed, left = self.script(keys=[f"rate:{user}"], args=self.args)
        return bool(allowed), left


class SlidingLimiter:
    """So many calls in any so many seconds; the server's time counts, as callers' clocks differ."""

    def __init__(self, redis, limit, seconds):
        self.redis, self.limit, self.seconds = redis, limit, seconds

    def allows(self, user):
        key = f"calls:{user}"
        seconds, micros = self.redis.time()
        now = seconds + micros / 1_000_000
        with self.redis.pipeline() as pipe:
            pipe.zremrangebyscore(key, 0, now - self.seconds)
            pipe.zadd(key, {token_hex(8): now})
            pipe.zcard(key)
            pipe.expire(key, self.seconds)
            return pipe.execute()[2] <= self.limit


@pytest.fixture
def clock(fake_redis_server):
    fake_redis_server.clock.freeze()
    return fake_redis_server.clock


def test_a_window_ends(fake_redis, clock):
    limiter = Limiter(fake_redis, limit=2, seconds=10)
    assert [limiter.allows("ann") for _ in range(3)] == [(True, 10), (True, 10), (False, 10)]
    assert limiter.allows("bob") == (True, 10)
    clock.advance(seconds=9)
    assert limiter.allows("ann") == (False, 1)
    clock.advance(seconds=1)
    assert limiter.allows("ann") == (True, 10)


def test_it_goes_on_when_the_server_has_forgotten_the_script(fake_redis):
    limiter = Limiter(fake_redis, limit=2, seconds=10)
    limiter.allows("ann")
    fake_redis.script_flush()
    assert limiter.allows("ann")[0]


def test_a_window_slides(fake_redis, clock):
    limiter = SlidingLimiter(fake_redis, limit=2, seconds=10)
    assert limiter.allows("ann")
    clock.advance(seconds=6)
    assert limiter.allows("ann")
    assert not limiter.allows("ann")
    clock.advance(seconds=11)
    assert limiter.allows("ann")


def test_what_nobody_uses_is_forgotten(fake_redis, clock):
    SlidingLimiter(fake_redis, limit=2, seconds=10).allows("ann")
    Limiter(fake_redis, limit=2, seconds=10).allows("ann")
    clock.advance(seconds=10)
    assert fake_redis.keys() == []
