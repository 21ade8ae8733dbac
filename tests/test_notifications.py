"""Keyspace notifications: which events, on which keys, in which order, as a real server has them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.servers import Server

PLAYS = {
    "strings": """
        SET s 1
        SET s 2 EX 100
        SET s 3 KEEPTTL
        SET s 4 NX
        SET s 5 GET
        SETNX s 1
        SETNX s 2
        SETEX s 100 v
        PSETEX s 100000 v
        GETSET s 1
        APPEND s 2
        APPEND new x
        SETRANGE s 1 abc
        SETRANGE s 1 ""
        SETRANGE new2 1 abc
        MSET a 1 s 2 c 3
        MSETNX d 1 e 2
        MSETNX d 1 f 2
        INCR n
        INCRBY n 5
        DECR n
        DECRBY n 2
        INCRBYFLOAT n 1.5
        GET nothing
        MGET a nothing
        GETDEL a
        GETDEL a
        GETEX s EX 100
        GETEX s PERSIST
        GETEX s
        GETEX s PXAT 1
        SET s 1
        SET s 2 PXAT 1
        SET s 3 EXAT 1 GET
        GETRANGE nothing 0 1
        STRLEN nothing
        LCS nothing other
        INCR c
        LPUSH c 1
    """,
    "lists": """
        RPUSH l 1 2 3
        LPUSH l 0
        LPUSHX l x
        LPUSHX nothing x
        RPUSHX l y
        LSET l 0 z
        LINSERT l BEFORE 1 w
        LINSERT l AFTER nothing w
        LREM l 0 w
        LREM l 0 nothing
        LTRIM l 1 3
        LTRIM l 0 -1
        LPOP l
        RPOP l 2
        RPUSH l 1 2 3
        LMOVE l m LEFT RIGHT
        RPOPLPUSH l m
        LMOVE m m LEFT RIGHT
        LMOVE l m LEFT LEFT
        LMPOP 2 l m LEFT COUNT 2
        LMPOP 1 m RIGHT COUNT 10
        LTRIM l 5 1
        LPOP nothing
        RPOP nothing 2
        LRANGE nothing 0 -1
        LLEN nothing
        RPUSH b 1
        BLPOP b 0
        RPUSH b 1 2
        BLMOVE b b2 LEFT LEFT 0
        BRPOPLPUSH b b2 0
        BLMPOP 0 1 b2 LEFT COUNT 5
        LREM nothing 0 x
        LPOS nothing x
        RPUSH r 1
        LREM r 0 1
    """,
    "sets": """
        SADD s a b c
        SADD s a
        SREM s a
        SREM s nothing
        SREM s b c
        SADD s a b c d
        SMOVE s t a
        SMOVE s t nothing
        SMOVE s s b
        SMOVE t u a
        SPOP s
        SPOP s 5
        SPOP nothing
        SADD x a b
        SADD y b c
        SINTERSTORE d x y
        SUNIONSTORE d x y
        SDIFFSTORE d x y
        SDIFFSTORE d x x
        SDIFFSTORE d x x
        SINTERSTORE nothing2 x nothing
        SISMEMBER nothing a
        SMISMEMBER nothing a
        SMEMBERS nothing
        SCARD nothing
        SINTER x nothing
        SINTERCARD 2 x nothing
        SRANDMEMBER nothing
        SRANDMEMBER nothing 2
    """,
    "hashes": """
        HSET h a 1 b 2
        HSET h a 1
        HMSET h a 3
        HSETNX h a 1
        HSETNX h c 1
        HINCRBY h n 1
        HINCRBYFLOAT h n 1.5
        HDEL h a nothing
        HDEL h nothing
        HDEL h b c n
        HDEL nothing a
        HGET nothing a
        HGETALL nothing
        HMGET nothing a
        HLEN nothing
        HRANDFIELD nothing
        HINCRBY new f 1
        HSET h f notanumber
        HINCRBY h f 1
        HSTRLEN nothing f
        HEXISTS nothing f
        HKEYS nothing
        HVALS nothing
    """,
    "sorted sets": """
        ZADD z 1 a 2 b 3 c
        ZADD z 1 a
        ZADD z XX CH 5 a
        ZADD z NX 1 a
        ZADD z INCR 1 a
        ZADD z GT INCR 1 a
        ZINCRBY z 1 b
        ZREM z a nothing
        ZREM z nothing
        ZPOPMIN z
        ZPOPMAX z
        ZPOPMIN z
        ZADD z 1 a 2 b 3 c 4 d 5 e
        ZMPOP 1 z MIN
        ZMPOP 1 z MAX COUNT 2
        ZREMRANGEBYRANK z 0 0
        ZREMRANGEBYSCORE z -inf +inf
        ZREMRANGEBYSCORE z -inf +inf
        ZADD z 0 a 0 b
        ZREMRANGEBYLEX z [a [a
        ZADD y 1 a 2 b
        ZUNIONSTORE d 2 z y
        ZINTERSTORE d 2 z y
        ZDIFFSTORE d 2 y z
        ZDIFFSTORE d 1 nothing
        ZINTERSTORE d 2 z nothing
        ZRANGESTORE d y 0 -1
        ZRANGESTORE d y 5 9
        ZRANGESTORE d y 5 9
        ZSCORE nothing a
        ZRANK nothing a
        ZCARD nothing
        ZRANGE nothing 0 -1
        ZPOPMIN nothing
        ZRANDMEMBER nothing
        BZPOPMIN y 0
        BZPOPMAX y 0
        ZADD y 1 a
        BZMPOP 0 1 y MIN COUNT 3
        ZMSCORE nothing a
        ZCOUNT nothing 0 1
        ZUNION 1 nothing
    """,
    "keys": """
        SET a 1
        DEL a nothing
        SET a 1
        UNLINK a
        MSET a 1 b 2
        RENAME a b
        SET a 1
        RENAMENX a b
        RENAMENX a c
        RENAME b b
        COPY c d
        COPY c d REPLACE
        COPY c e DB 1
        MOVE c 1
        MOVE c 1
        SET k v
        EXPIRE k 100
        PEXPIRE k 100000
        EXPIREAT k 99999999999
        EXPIRE k 1 GT
        PERSIST k
        PERSIST k
        EXPIRE k -1
        SET k v
        PEXPIREAT k 1
        EXPIRE nothing 1
        TOUCH d nothing
        EXISTS d nothing
        TYPE nothing
        TTL nothing
        PERSIST nothing
        OBJECT ENCODING nothing
        DUMPLESS
        SELECT 1
        SET other 1
        SELECT 0
        SWAPDB 0 1
        SWAPDB 0 1
        RANDOMKEY
        SCAN 0
        KEYS *
        FLUSHDB
        FLUSHALL
    """,
    "keys that expire": """
        SET k v PX 100
        wait k
        SET k v PX 100
        wait k
        HSET h f v
        PEXPIRE h 100
        wait h
    """,
    "transactions and scripts": """
        MULTI
        SET a 1
        INCR a
        DEL a
        EXEC
        EVAL "redis.call('set','a',1); redis.call('publish','x','y'); redis.call('incr','a')" 0
        MULTI
        SET a 1
        PUBLISH __key__:x hello
        SET b 1
        EXEC
    """,
}


class Watched:
    """A server whose keyspace events somebody hears."""

    def __init__(self, server: Server, classes: str):
        self.client = server.client()
        self.client.call("FLUSHALL")
        self.client.call("CONFIG", "SET", "notify-keyspace-events", classes)
        self._marker = server.client()
        self._listener = server.client()
        self._listener.call("PSUBSCRIBE", "__key*")

    def run(self, play: str) -> list[tuple[str, list[bytes]]]:
        """Each command and what was heard of it."""
        heard = []
        for line in filter(None, (raw.strip() for raw in play.splitlines())):
            words = shlex.split(line)
            if words[0] == "wait":
                while self.client.call("EXISTS", words[1]) != b":0\r\n":
                    pass
            else:
                self.client.call(*words)
            heard.append((line, self._heard()))
        return heard

    def _heard(self) -> list[bytes]:
        """All messages until the mark."""
        self._marker.call("PUBLISH", "__key: the mark", "x")
        messages = []
        while b"the mark" not in (message := self._listener.read_reply_bytes()):
            messages.append(message.split(b"\r\n", 5)[-1])
        return messages

    def close(self) -> None:
        self.client.call("CONFIG", "SET", "notify-keyspace-events", "")
        for client in (self.client, self._listener, self._marker):
            client.close()


def hear(server: Server, classes: str, play: str) -> Iterator[tuple[str, list[bytes]]]:
    watched = Watched(server, classes)
    try:
        yield from watched.run(play)
    finally:
        watched.close()


@pytest.mark.parametrize("classes", ["KEA", "KEAnm"])
@pytest.mark.parametrize("name", PLAYS)
def test_events_are_those_of_a_real_server(
    name: str, classes: str, kvstore_server: Server, valkey_server: Server
) -> None:
    ours, theirs = (list(hear(server, classes, PLAYS[name])) for server in (kvstore_server, valkey_server))
    differing = [
        f"{line}\n  ours:   {mine}\n  theirs: {real}"
        for (line, mine), (_, real) in zip(ours, theirs, strict=True)
        if mine != real
    ]
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize(
    "classes", ["K$", "El", "Eg", "Kx", "KEs", "Ez", "Kh", "Kn", "Em", "K", "A", "KEd", "Ke"]
)
def test_classes_choose_events(classes: str, kvstore_server: Server, valkey_server: Server) -> None:
    play = """
        SET s 1
        RPUSH l 1
        SADD t 1
        HSET h f 1
        ZADD z 1 m
        GET nothing
        SET s 1 PX 100
        wait s
        DEL l t
    """
    ours, theirs = (list(hear(server, classes, play)) for server in (kvstore_server, valkey_server))
    assert ours == theirs
