"""Publish and subscribe: byte for byte as a real server has them, the order of pushes and replies too."""

from __future__ import annotations

import pytest

from tests.scenario import compare
from tests.servers import Server

PLAYS = {
    "channels": """
        a> SUBSCRIBE x y
        a<
        b> PUBLISH x hello
        a<
        b> PUBLISH nobody hello
        a> UNSUBSCRIBE x
        b> PUBLISH x again
        b> PUBLISH y last
        a<
        a> UNSUBSCRIBE
        a> GET k
    """,
    "channels under RESP3": """
        a3> SUBSCRIBE x y
        a3<
        b> PUBLISH x hello
        a3<
        a3> GET k
        a3> PING
        a3> PING word
        a3> UNSUBSCRIBE y x
        a3<
    """,
    "patterns": """
        a> PSUBSCRIBE h?llo n*
        a<
        a> SUBSCRIBE hello
        b> PUBLISH hello 1
        a<
        a<
        b> PUBLISH news 2
        a<
        b> PUBLISH other 3
        a> PUNSUBSCRIBE nosuch
        a> PUNSUBSCRIBE n* h?llo
        a<
        a> UNSUBSCRIBE
    """,
    "patterns under RESP3": """
        a3> PSUBSCRIBE h*
        b> PUBLISH hello 1
        a3<
        a3> PSUBSCRIBE h*
        b> PUBLISH hello 1
        a3<
    """,
    "shard channels": """
        a> SSUBSCRIBE s t
        a<
        b> SPUBLISH s 1
        a<
        b> PUBLISH s 1
        a> SUBSCRIBE s
        b> SPUBLISH s 2
        a<
        b> PUBSUB SHARDCHANNELS s*
        b> PUBSUB SHARDNUMSUB s t u
        a> SUNSUBSCRIBE s
        a> SUNSUBSCRIBE
        a> UNSUBSCRIBE
        b3> SSUBSCRIBE s
        b> SPUBLISH s 3
        b3<
    """,
    "PUBSUB": """
        a> SUBSCRIBE one two
        a<
        b> SUBSCRIBE two
        b> PSUBSCRIBE p*
        c> PUBSUB NUMPAT
        c> PUBSUB NUMSUB one two three
        c> PUBSUB NUMSUB
        c> PUBSUB CHANNELS t*
        c> PUBSUB CHANNELS nosuch
        c> PUBSUB CHANNELS a b
        c> PUBSUB NUMPAT x
        c> PUBSUB NOSUCH
        c> PUBSUB SHARDCHANNELS a b
        c> PUBSUB
        c3> PUBSUB NUMSUB one two three
    """,
    "what a subscribed client may do under RESP2": """
        a> SUBSCRIBE x
        a> GET k
        a> SET k
        a> NOSUCH
        a> PING
        a> PING word
        a> PING a b
        a> CLIENT ID
        a> CLIENT NOSUCH
        a> MULTI
        a> EXEC
        a> HELLO 3
        a> PUBLISH x y
        a> RESET
        a> GET k
        a> PING
    """,
    "QUIT while subscribed": """
        a> SUBSCRIBE x
        a> QUIT
        a!
        b> PUBLISH x y
    """,
    "RESET ends subscriptions": """
        a3> SUBSCRIBE x
        a3> PSUBSCRIBE y
        a3> SSUBSCRIBE z
        a3> RESET
        a3> PING
        b> PUBLISH x y
        b> PUBSUB NUMPAT
        b> PUBSUB CHANNELS
    """,
    "subscribing twice": """
        a> SUBSCRIBE x x
        a<
        a> SUBSCRIBE x
        b> PUBLISH x 1
        a<
    """,
    "SUBSCRIBE inside MULTI": """
        a> MULTI
        a> SUBSCRIBE x
        a> PSUBSCRIBE p*
        a> EXEC
        b> PUBLISH x 1
        a<
        a> GET k
        a> UNSUBSCRIBE
    """,
    "SUBSCRIBE inside MULTI under RESP3": """
        a3> MULTI
        a3> SUBSCRIBE x y
        a3> SET k v
        a3> EXEC
        a3> GET k
    """,
    "a message to oneself comes after the reply": """
        a3> SUBSCRIBE x
        a3> PUBLISH x me
        a3<
        a3> PUBLISH x again
        a3<
    """,
    "messages to oneself from a transaction come after its reply": """
        a3> SUBSCRIBE x
        a3> PSUBSCRIBE *
        a3> MULTI
        a3> PUBLISH x one
        a3> SET k v
        a3> PUBLISH x two
        a3> EXEC
        a3<
        a3<
        a3<
        a3<
    """,
    "a script that publishes to its own client": """
        a3> SUBSCRIBE x
        a3> EVAL "redis.call('PUBLISH', 'x', '1'); return redis.call('PUBLISH', 'x', '2')" 0
        a3<
        a3<
    """,
    "SUBSCRIBE again while a message is due": """
        a3> SUBSCRIBE x
        a3> MULTI
        a3> PUBLISH x 1
        a3> SUBSCRIBE y
        a3> EXEC
        a3<
    """,
    "the client list counts subscriptions": """
        a> SUBSCRIBE x y
        a<
        b> CLIENT KILL TYPE pubsub
        a!
        b> PUBLISH x 1
    """,
    "words are bytes": """
        a> SUBSCRIBE "\\x00\\xff" ""
        a<
        b> PUBLISH "\\x00\\xff" "\\r\\n"
        a<
        b> PUBLISH "" ""
        a<
    """,
    "wrong numbers of words": """
        a> SUBSCRIBE
        a> PUBLISH x
        a> SPUBLISH x
        a> PSUBSCRIBE
        a> SSUBSCRIBE
    """,
    "a client that left is no subscriber": """
        a> SUBSCRIBE x
        b> PUBLISH x 1
        a-
        sleep 0.05
        b> PUBLISH x 1
        b> PUBSUB CHANNELS
    """,
}

# valkey refuses to unsubscribe a client that is not subscribed; Redis 7.2 answers as 7.0 does.
OLDER_PLAYS = {
    "unsubscribing without subscriptions": """
        a> UNSUBSCRIBE
        a> UNSUBSCRIBE x
        a> PUNSUBSCRIBE
        a> PUNSUBSCRIBE x y
        a<
        a> SUNSUBSCRIBE
        a> SUNSUBSCRIBE x
        b3> UNSUBSCRIBE
        b3> PUNSUBSCRIBE x
        a> MULTI
        a> UNSUBSCRIBE
        a> SUBSCRIBE x
        a> UNSUBSCRIBE x
        a> EXEC
        a> GET k
    """,
}


@pytest.mark.parametrize("name", PLAYS)
def test_messages_go_as_on_a_real_server(name: str, kvstore_server: Server, valkey_server: Server) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])


@pytest.mark.parametrize("name", OLDER_PLAYS)
def test_unsubscribing_goes_as_before_valkey(name: str, kvstore_server: Server, redis_server: Server) -> None:
    compare(kvstore_server, redis_server, OLDER_PLAYS[name])
