"""Blocking commands: who is served when, byte for byte as a real server has it."""

from __future__ import annotations

import pytest

from kvstore.commands.hub import Hub
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from tests.scenario import compare
from tests.servers import Server

PLAYS = {
    "a push serves the blocked client": """
        a: BLPOP k 0
        blocked 1
        b> RPUSH k 1 2
        a<
        b> LRANGE k 0 -1
    """,
    "there is something already": """
        a> RPUSH k 1 2 3
        a> BLPOP k 0
        a> BRPOP nothing k 0
        a> BLMOVE k l LEFT RIGHT 0
        a> BRPOPLPUSH l k 0
    """,
    "first blocked, first served": """
        a: BLPOP k 0
        blocked 1
        b: BRPOP k 0
        blocked 2
        c: BLPOP k 0
        blocked 3
        d> RPUSH k 1 2
        a<
        b<
        d> LLEN k
        d> RPUSH k 3
        c<
    """,
    "the keys are looked at in the order given": """
        a: BLPOP x y z 0
        blocked 1
        b> MULTI
        b> RPUSH z 1
        b> RPUSH y 2
        b> EXEC
        a<
        b> KEYS *
    """,
    "a time that is over": """
        a> BLPOP k 0.05
        a> BRPOP k 0.01
        a> BLMOVE k l LEFT LEFT 0.01
        a> BRPOPLPUSH k l 0.01
        a> BLMPOP 0.01 1 k LEFT
        a> BZPOPMIN z 0.01
        a> BZPOPMAX z 0.01
        a> BZMPOP 0.01 1 z MIN
        a3> BLPOP k 0.01
        a3> BLMOVE k l LEFT LEFT 0.01
        a3> BLMPOP 0.01 1 k LEFT
        a3> BZMPOP 0.01 1 z MIN
    """,
    "times that are refused": """
        a> BLPOP k x
        a> BLPOP k -1
        a> BLPOP k 1e300
        a> BLPOP k nan
        a> BLPOP k inf
        a> BLPOP k 9223372036854775807
        a> BLPOP k
        a> BLPOP k 0.0001x
    """,
    "a chain of moves": """
        a: BLMOVE x y LEFT RIGHT 0
        blocked 1
        b: BLMOVE y z LEFT RIGHT 0
        blocked 2
        c: BLPOP z 0
        blocked 3
        d> RPUSH x v
        a<
        b<
        c<
        d> KEYS *
    """,
    "a move onto itself": """
        a: BLMOVE k k LEFT RIGHT 0
        blocked 1
        b> RPUSH k 1 2
        a<
        b> LRANGE k 0 -1
    """,
    "a move to a key of another type": """
        a> SET s v
        b: BLMOVE k s LEFT RIGHT 0
        blocked 1
        a> RPUSH k 1
        b<
        a> LRANGE k 0 -1
    """,
    "a blocked move whose target is wrong lets the next one have it": """
        a> SET s v
        b: BRPOPLPUSH k s 0
        blocked 1
        c: BLPOP k 0
        blocked 2
        a> RPUSH k 1
        b<
        c<
    """,
    "push and delete in one transaction serve nobody": """
        a: BLPOP k 0
        blocked 1
        b> MULTI
        b> RPUSH k 1
        b> DEL k
        b> EXEC
        b> RPUSH k 2
        a<
    """,
    "delete and push in one transaction": """
        a: BLPOP k 0
        blocked 1
        b> MULTI
        b> SET k x
        b> DEL k
        b> RPUSH k 1
        b> EXEC
        a<
    """,
    "a value of another type does not wake": """
        a: BLPOP k 0
        blocked 1
        b> SET k v
        b> DEL k
        b> ZADD k 1 m
        b> DEL k
        b> RPUSH k 1
        a<
    """,
    "clients of different types blocked on one key": """
        a: BLPOP k 0
        blocked 1
        b: BZPOPMIN k 0
        blocked 2
        c> ZADD k 1 m 2 n
        b<
        c> DEL k
        c> RPUSH k v
        a<
    """,
    "lists made by other commands": """
        a> RPUSH src 1 2
        b: BLPOP k 0
        blocked 1
        a> RENAME src k
        b<
        b: BLPOP k2 0
        blocked 1
        a> COPY k k2
        b<
        b: BLPOP k3 0
        blocked 1
        a> LMOVE k k3 LEFT LEFT
        b<
        b: BLPOP k4 0
        blocked 1
        a> RPUSHX k4 1
        a> LPUSH k4 1
        b<
    """,
    "a value that takes the place of another wakes nobody": """
        a: BZPOPMIN k 0
        blocked 1
        b> RPUSH k 1
        b> ZADD src 1 m
        b> ZUNIONSTORE k 1 src
        b> ZRANGE k 0 -1
        b> ZADD k 2 n
        b> DEL k
        b> RPUSH k 1
        b> RENAME src k
        a<
        a: BLPOP k 0
        blocked 1
        b> ZADD k 1 m
        b> RPUSH src 1 2
        b> COPY src k
        b> COPY src k REPLACE
        a<
    """,
    "MOVE and SWAPDB wake": """
        a: BLPOP k 0
        blocked 1
        b> SELECT 3
        b> RPUSH k 1
        b> MOVE k 0
        a<
        a: BLPOP k 0
        blocked 1
        b> RPUSH k 2
        b> SWAPDB 0 3
        a<
    """,
    "sorted sets": """
        a: BZPOPMIN x y 0
        blocked 1
        b: BZPOPMAX y 0
        blocked 2
        c> ZADD y 1 one 2 two 3 three
        a<
        b<
        a: BZMPOP 0 2 x z MAX COUNT 2
        blocked 1
        c> ZADD z 1 one 2 two 3 three
        a<
        a3: BZPOPMIN q 0
        blocked 1
        c> ZADD q 1.5 m
        a3<
        a3: BZMPOP 0 1 q MIN
        blocked 1
        c> ZADD q inf m
        a3<
        a: BZPOPMIN dst 0
        blocked 1
        c> ZUNIONSTORE dst 1 z
        a<
    """,
    "BLMPOP": """
        a: BLMPOP 0 2 x y RIGHT COUNT 2
        blocked 1
        b> RPUSH y 1 2 3
        a<
        a> BLMPOP 0 0 x LEFT
        a> BLMPOP 0 1 x NOWHERE
        a> BLMPOP 0 1 x LEFT COUNT 0
        a> BLMPOP -1 1 x LEFT
    """,
    "scripts do not block": """
        a> EVAL "return redis.call('BLPOP', 'k', 0)" 0
        a> EVAL "return redis.call('BLMOVE', 'k', 'l', 'LEFT', 'LEFT', 0)" 0
        a> EVAL "redis.call('RPUSH', 'k', 1); return redis.call('BLPOP', 'k', 0)" 0
    """,
    "scripts wake": """
        a: BLPOP k 0
        blocked 1
        b> EVAL "redis.call('RPUSH', 'k', 1, 2, 3); return redis.call('LLEN', 'k')" 0
        a<
        b> LLEN k
    """,
    "what a blocked client has sent waits": """
        a: BLPOP k 0
        a: SET x 1
        a: GET x
        blocked 1
        b> GET x
        b> RPUSH k v
        a<
        a<
        a<
    """,
    "what blocked clients have sent runs after all were served": """
        a: BLPOP k 0
        a: RPUSH out first
        blocked 1
        b: BLPOP k 0
        b: RPUSH out second
        blocked 2
        c> RPUSH k 1 2
        a<
        b<
        a<
        b<
        c> LRANGE out 0 -1
    """,
    "one that blocks again at once": """
        a: BLPOP k 0
        a: BLPOP k 0
        blocked 1
        b> RPUSH k 1 2
        a<
        a<
    """,
    "a client that leaves while blocked": """
        a: BLPOP k 0
        blocked 1
        a-
        blocked 0
        b> RPUSH k 1
        b> LLEN k
    """,
    "UNBLOCK": """
        a: BLPOP k 0
        blocked 1
        b> CLIENT UNBLOCK {a}
        a<
        a: BLPOP k 0
        blocked 1
        b> CLIENT UNBLOCK {a} TIMEOUT
        a<
        a: BLMOVE k l LEFT LEFT 0
        a: PING
        blocked 1
        b> CLIENT UNBLOCK {a} ERROR
        a<
        a<
        b> CLIENT UNBLOCK {a}
        b> CLIENT UNBLOCK {b}
        b> RPUSH k 1
        b> LLEN k
    """,
    "UNBLOCK inside a transaction": """
        a: BLPOP k 0
        a: INCR n
        blocked 1
        b> MULTI
        b> CLIENT UNBLOCK {a}
        b> INCR n
        b> EXEC
        a<
        a<
    """,
    "KILL while blocked": """
        a: BLPOP k 0
        blocked 1
        b> CLIENT KILL ID {a}
        a!
        b> RPUSH k 1
        b> LLEN k
    """,
    "WAIT": """
        a> WAIT 0 0
        a> WAIT 1 20
        a> WAIT -1 0
        a: WAIT 2 0
        blocked 1
        b> CLIENT UNBLOCK {a}
        a<
        a> MULTI
        a> WAIT 1 0
        a> EXEC
        a> WAITAOF 0 1 20
        a: WAITAOF 0 1 0
        blocked 1
        b> CLIENT UNBLOCK {a} ERROR
        a<
    """,
    "a key that is ready twice": """
        a: BLPOP k 0
        blocked 1
        b: BLPOP k 0
        blocked 2
        c> MULTI
        c> RPUSH k 1
        c> RPUSH k 2
        c> EXEC
        a<
        b<
        c> EXISTS k
    """,
    "a key named twice": """
        a: BLPOP k k 0
        blocked 1
        b> RPUSH k 1 2
        a<
        b> LLEN k
    """,
    "wrong types at once": """
        a> SET s v
        a> BLPOP s 0
        a> BLPOP nothing s 0
        a> RPUSH l 1
        a> BLPOP l s 0
        a> RPUSH l 1
        a> BZPOPMIN l 0
        a> BLMOVE l s LEFT LEFT 0
        a> BLMPOP 0 2 nothing s LEFT
    """,
    "expiry of what was pushed": """
        a: BLPOP k 0
        blocked 1
        b> MULTI
        b> RPUSH k 1
        b> PEXPIRE k -1
        b> EXEC
        b> RPUSH k 2
        a<
    """,
    "another database": """
        a> SELECT 2
        a: BLPOP k 0
        blocked 1
        b> RPUSH k 0
        b> SELECT 2
        b> RPUSH k 2
        a<
    """,
}


@pytest.mark.parametrize("name", PLAYS)
def test_blocking_goes_as_on_a_real_server(name: str, kvstore_server: Server, valkey_server: Server) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])


def test_a_client_that_is_served_in_time_leaves_no_timer_behind() -> None:
    hub = Hub(Context(Database, clock=ManualClock()))
    worker, other = Session(hub), Session(hub)
    for _ in range(1000):
        worker.feed(b"BLPOP q 3600\r\n")
        other.feed(b"RPUSH q x\r\n")
    assert len(worker.out) == 1000
    assert len(hub._timers._heap) < 200
    worker.feed(b"BLPOP q 0.5\r\n")
    hub.ctx.clock.advance(1)
    hub.run_timers()
    assert worker.out[-1] == b"*-1\r\n"
