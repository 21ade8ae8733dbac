"""What the jobs of all queues do.

Every finished job leaves one line in the file that EFFECTS names, outside the server that the test judges, and
counts itself in a hash inside it, on a connection of its own.

Must not know: any queue.
"""

from __future__ import annotations

import math
import os
import time

import redis

JOBS = 60
WAIT_SECONDS = 40  # only a failing test waits that long


def _server() -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"])


def leave(line: str) -> None:
    """Say that a job has finished."""
    out = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(out, f"{line}\n".encode())
    finally:
        os.close(out)
    with _server() as client:
        client.hincrby("effects", line, 1)


def square(number: int) -> int:
    leave(f"square {number}")
    return number * number


def fail_at_first(name: str) -> str:
    with _server() as client:
        attempt = client.incr(f"attempts:{name}")
    if attempt == 1:
        raise ConnectionError("the first attempt fails")
    leave(f"retried {name}")
    return f"attempt {attempt}"


def fail(name: str) -> None:
    leave(f"failed {name}")
    raise LookupError(f"no such thing: {name}")


def soon() -> int:
    """A time for ``later``: at a whole second, as some queues keep no fractions."""
    return math.ceil(time.time() + 0.5)


def later(due: float) -> str:
    line = "on time" if time.time() >= due - 0.01 else "too early"  # milliseconds are rounded, too
    leave(line)
    return line
