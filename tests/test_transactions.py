"""MULTI, EXEC, DISCARD, WATCH: byte for byte as a real server has them."""

from __future__ import annotations

import pytest

from tests.scenario import compare
from tests.servers import Server

PLAYS = {
    "queued commands run as one": """
        a> MULTI
        a> SET k 1
        a> INCR k
        a> GET nothing
        a> LRANGE k 0 -1
        a> EXEC
        a> GET k
    """,
    "an empty transaction": """
        a> MULTI
        a> EXEC
        b3> MULTI
        b3> EXEC
    """,
    "nested MULTI and stray EXEC and DISCARD": """
        a> EXEC
        a> DISCARD
        a> MULTI
        a> MULTI
        a> SET k 1
        a> EXEC
        a> GET k
        a> DISCARD
    """,
    "a pause or a limit that begins in a transaction is for what follows": """
        a> MULTI
        a> CLIENT PAUSE 50
        a> SET k 1
        a> EXEC
        a> GET k
        a> CONFIG SET maxmemory-policy noeviction
        a> MULTI
        a> CONFIG SET maxmemory 1
        a> SET k 2
        a> EXEC
        a> SET k 3
        a> GET k
        a> CONFIG SET maxmemory 0
    """,
    "DISCARD forgets": """
        a> MULTI
        a> SET k 1
        a> DISCARD
        a> GET k
        a> EXEC
    """,
    "an unknown command aborts": """
        a> MULTI
        a> NOSUCH a b c
        a> SET k 1
        a> EXEC
        a> GET k
    """,
    "a wrong number of words aborts": """
        a> MULTI
        a> GET
        a> EXEC
        a> MULTI
        a> CLIENT
        a> EXEC
        a> MULTI
        a> CLIENT NOSUCH
        a> EXEC
        a> MULTI
        a> EXEC foo
        a> EXEC
    """,
    "WATCH inside MULTI is refused": """
        a> MULTI
        a> WATCH k
        a> SET k 1
        a> EXEC
        a> GET k
    """,
    "an error while running does not stop the others": """
        a> MULTI
        a> SET k v
        a> INCR k
        a> LPOP k
        a> SET l w
        a> EXEC
        a> GET l
    """,
    "a watched key that changed": """
        a> WATCH k
        b> SET k 1
        a> MULTI
        a> GET k
        a> EXEC
        a> MULTI
        a> GET k
        a> EXEC
        c3> WATCH k
        b> SET k 2
        c3> MULTI
        c3> EXEC
    """,
    "a watched key changed by the watcher itself": """
        a> WATCH k
        a> SET k 1
        a> MULTI
        a> GET k
        a> EXEC
    """,
    "a watched key that was written with the same value, and one that was only read": """
        a> SET k 1
        a> WATCH k
        b> GET k
        a> MULTI
        a> EXEC
        a> WATCH k
        b> SET k 1
        a> MULTI
        a> EXEC
        a> WATCH k
        b> DEL nothing
        b> SETNX k 5
        a> MULTI
        a> EXEC
    """,
    "UNWATCH, DISCARD and EXEC end watching": """
        a> WATCH k
        b> SET k 1
        a> UNWATCH
        a> MULTI
        a> GET k
        a> EXEC
        a> WATCH k
        b> SET k 2
        a> MULTI
        a> DISCARD
        a> MULTI
        a> GET k
        a> EXEC
        a> MULTI
        a> UNWATCH
        a> EXEC
    """,
    "a watched key expires": """
        a> SET k 1 PX 30
        a> WATCH k
        sleep 0.06
        a> MULTI
        a> PING
        a> EXEC
    """,
    "a key that had expired before it was watched": """
        a> DEBUG SET-ACTIVE-EXPIRE 0
        a> SET k 1 PX 10
        sleep 0.03
        a> WATCH k
        a> MULTI
        a> PING
        a> EXEC
        a> DEBUG SET-ACTIVE-EXPIRE 1
    """,
    "FLUSHALL and FLUSHDB touch the keys that were there": """
        a> SET k 1
        a> WATCH k
        b> FLUSHALL
        a> MULTI
        a> EXEC
        a> WATCH k
        b> FLUSHALL
        a> MULTI
        a> EXEC
        a> SET k 1
        a> WATCH k other
        b> FLUSHDB
        a> MULTI
        a> EXEC
        a> SET k 1
        a> WATCH k
        b> SELECT 5
        b> FLUSHDB
        a> MULTI
        a> EXEC
    """,
    "SWAPDB touches keys of both databases": """
        a> SET k 1
        a> WATCH k
        b> SWAPDB 0 3
        a> MULTI
        a> EXEC
        a> WATCH k
        b> SWAPDB 0 3
        a> MULTI
        a> EXEC
        a> WATCH nothing
        b> SWAPDB 0 3
        a> MULTI
        a> EXEC
        b> SWAPDB 0 3
    """,
    "renaming, moving and expiring touch": """
        a> SET k 1
        a> WATCH l
        b> RENAME k l
        a> MULTI
        a> EXEC
        a> WATCH l
        b> EXPIRE l 100
        a> MULTI
        a> EXEC
        a> WATCH l
        b> MOVE l 2
        a> MULTI
        a> EXEC
        a> WATCH l
        b> COPY k l
        a> MULTI
        a> EXEC
    """,
    "SELECT inside counts from there on": """
        a> MULTI
        a> SELECT 4
        a> SET k 4
        a> EXEC
        a> GET k
        a> SELECT 0
        a> GET k
    """,
    "blocking commands do not block inside": """
        a> MULTI
        a> BLPOP k 0
        a> BLMOVE k l LEFT RIGHT 0
        a> BZPOPMIN z 0
        a> BLMPOP 0 1 k LEFT
        a> EXEC
        b3> MULTI
        b3> BLPOP k 0
        b3> BRPOPLPUSH k l 0
        b3> BZMPOP 0 1 k MIN
        b3> EXEC
    """,
    "what may not be queued": """
        a> MULTI
        a> SHUTDOWN
        a> EXEC
        a> MULTI
        a> MONITOR
        a> EXEC
    """,
    "RESET inside": """
        a> MULTI
        a> SET k 1
        a> RESET
        a> EXEC
        a> GET k
    """,
    "QUIT inside": """
        a> MULTI
        a> SET k 1
        a> QUIT
        a!
        b> GET k
    """,
    "HELLO inside": """
        a> MULTI
        a> HELLO foo
        a> EXEC
        a> MULTI
        a> HGETALL h
        a> EXEC
    """,
    "several commands in one transaction wait for none": """
        a> MULTI
        a> RPUSH l a b
        a> LPOP l
        a> DEL l
        a> EXISTS l
        a> EXEC
    """,
    "the keys of a wrong type": """
        a> SET s v
        a> MULTI
        a> LPUSH s x
        a> HGETALL s
        a> EXEC
        a> WATCH s
        b> LPUSH s x
        a> MULTI
        a> EXEC
    """,
    "WATCH of many and twice": """
        a> WATCH a b c a
        a> WATCH b
        b> MSET x 1 c 2
        a> MULTI
        a> EXEC
        a> WATCH
    """,
    "a transaction of a client that left": """
        a> MULTI
        a> SET k 1
        a-
        b> GET k
        c> WATCH k
        c-
        b> SET k 2
    """,
}


@pytest.mark.parametrize("name", PLAYS)
def test_transactions_go_as_on_a_real_server(
    name: str, kvstore_server: Server, valkey_server: Server
) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])
