"""redis-benchmark with all its default tests: every one runs to its end, without an error reply."""

from __future__ import annotations

import re

import pytest

from tests.apps.programs import require_program, run
from tests.servers import Server

pytestmark = pytest.mark.timeout(100)

DEFAULT_TESTS = (
    *("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET"),
    *("SPOP", "ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)"),
    *("LRANGE_300 (first 300 elements)", "LRANGE_500 (first 500 elements)"),
    *("LRANGE_600 (first 600 elements)", "MSET (10 keys)"),
)


def check(name: str, package: str, *argv: str) -> None:
    require_program(name, package)
    out = run(name, "-q", *argv, timeout=90)
    reported = re.findall(
        r"^ *([^:\r\n]+): [\d.]+ requests per second", out.replace("\r", "\n"), re.MULTILINE
    )
    assert tuple(reported) == DEFAULT_TESTS, out
    assert "rror" not in out and "WARNING" not in out, out


@pytest.mark.parametrize("depth", [1, 16])
def test_every_default_test_runs_with_fifty_clients(server: Server, depth: int) -> None:
    # With random keys (-r), too: of a thousand, so that commands meet keys that are there and that are not.
    options = ("-s", server.unix, "-n", "2000", "-c", "50", "-P", str(depth), "-r", "1000")
    check("redis-benchmark", "redis-tools", *options)


def test_every_default_test_runs_over_tcp(server: Server) -> None:
    check("redis-benchmark", "redis-tools", "-p", str(server.port), "-n", "1000")


def test_every_default_test_runs_in_resp3(server: Server) -> None:
    check("redis-benchmark", "redis-tools", "-s", server.unix, "-n", "1000", "-3")
