"""CLIENT TRACKING: who is told of which keys, when, and in which order, byte for byte as real servers tell it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.cache import CacheConfig

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP3
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.fake import FakeRedis, FakeServer
from tests.rawclient import RawClient
from tests.scenario import compare
from tests.seeds import new_seed
from tests.servers import Server, running
from tests.waiting import until

PLAYS = {
    "one's own changes, after the reply": r"""
        a3> CLIENT TRACKING ON
        a3> GET k
        a3> SET k v
        a3<
        b> SET k w
        a3> GET k
        b> SET k x
        a3<
        a3> GET k
        a3+ MULTI
        a3+ SET k 1
        a3+ PUBLISH c x
        a3+ GET k
        a3: EXEC
        a3<
        a3<
        a3<
        a3<
        a3<
        a3<
    """,
    "one's own messages and changes, in the order in which they happen": r"""
        a3> CLIENT TRACKING ON
        a3> SUBSCRIBE c
        a3> GET k
        a3+ MULTI
        a3+ PUBLISH c x
        a3+ SET k 1
        a3: EXEC
        a3<
        a3<
        a3<
        a3<
        a3<
        a3<
    """,
    "what scripts read and change": r"""
        a3> CLIENT TRACKING ON
        a3> EVAL "redis.call('GET',KEYS[1]); return redis.call('GET','other')" 1 k
        b> SET k 1
        a3<
        b> SET other 1
        a3<
        a3> EVAL_RO "return redis.call('GET',KEYS[1])" 1 k
        b> SET k 1
        a3<
        a3> EVAL "redis.call('GET',KEYS[1]); redis.call('SET',KEYS[1],'x'); return redis.call('GET',KEYS[1])" 1 k
        a3<
        b> SET k 2
        a3<
        a3> EVAL "redis.setresp(3); return redis.call('GET',KEYS[1])" 1 k
        b> SET k 2
        a3<
        a3> EVAL "redis.pcall('HGET',KEYS[1],'x'); redis.pcall('GET'); return 1" 1 k
        b> DEL k
        a3<
        a3> PING
    """,
    "NOLOOP with BCAST: what a script of one's own changes is told": r"""
        a3> CLIENT TRACKING ON BCAST NOLOOP
        a3+ EVAL "redis.call('SET',KEYS[1],'x')" 1 k
        a3: SET j 1
        a3<
        a3<
        a3<
        a3> PING
        b> SET k 3
        a3<
        b> MSET k 1 j 2
        a3<
        a3+ SET z 1
        a3: MSET z 2 y 1
        a3<
        a3<
        a3> PING
    """,
    "a key that one finds expired oneself": r"""
        c> DEBUG SET-ACTIVE-EXPIRE 0
        a3> CLIENT TRACKING ON NOLOOP
        a3> SET k 1 PX 30
        a3> GET k
        sleep 0.1
        a3> GET k
        a3> PING
        c> DEBUG SET-ACTIVE-EXPIRE 1
    """,
    "everything is gone": r"""
        a3> CLIENT TRACKING ON
        b> FLUSHDB
        a3<
        b> FLUSHALL
        a3<
        a3> FLUSHALL
        a3<
        a3> GET k
        b> FLUSHDB
        a3<
        b> SET k 1
        a3> PING
        a3> SET k 1
        a3> GET k
        b> SWAPDB 0 1
        a3> PING
        b> SET k 2
        a3<
        b> SELECT 1
        b> SET k 2
        a3> PING
        b> FLUSHALL ASYNC
        a3<
        a3+ MULTI
        a3+ FLUSHALL
        a3+ GET k
        a3: EXEC
        a3<
        a3<
        a3<
        a3<
        a3<
        b> SET k 1
        a3<
        a3> PING
    """,
    "REDIRECT to a channel of RESP2": r"""
        b> SUBSCRIBE other
        a> CLIENT TRACKING ON REDIRECT {b}
        a> GET k
        c> SET k 1
        b<
        c> FLUSHALL
        b<
        a> GET k
        b> UNSUBSCRIBE other
        c> SET k 1
        b> PING
        a> CLIENT TRACKING OFF
        d3> CLIENT TRACKING ON REDIRECT {b}
        d3~ CLIENT GETREDIR
        b> PSUBSCRIBE *
        d3> GET k
        c> SET k 2
        b<
    """,
    "REDIRECT to RESP3": r"""
        b3> PING
        a> CLIENT TRACKING ON REDIRECT {b3}
        a> GET k
        c> SET k 1
        b3<
        a> GET k
        b3> SET k 2
        b3<
        a3> CLIENT TRACKING ON REDIRECT {a3}
        a3> GET k
        c> SET k 2
        a3<
        a> GET q
        b3+ MULTI
        b3+ SET q 1
        b3+ GET q
        b3: EXEC
        b3<
        b3<
        b3<
        b3<
        b3<
    """,
    "broadcasts of prefixes": r"""
        a3> CLIENT TRACKING ON BCAST PREFIX x PREFIX y
        b+ SET yb 1
        b+ SET ya 1
        b+ SET z 1
        b+ SET x 1
        b: SET xa 1
        a3<
        a3<
        a3+ SET xb 1
        a3: SET xc 1
        a3<
        a3<
        a3<
        a3> CLIENT TRACKINGINFO
        a3> CLIENT TRACKING ON BCAST PREFIX z
        a3> CLIENT TRACKINGINFO
        a3> CLIENT TRACKING ON BCAST PREFIX xx
        a3> CLIENT TRACKING ON BCAST PREFIX a PREFIX ab
        a3> CLIENT TRACKING ON BCAST
        a3> CLIENT TRACKING ON
        a3> CLIENT TRACKING OFF
        a3> CLIENT TRACKING ON BCAST
        b> SET q 1
        a3<
        a3> MSET q 1 r 1 p 1
        a3<
        c> FLUSHALL
        a3<
    """,
    "a client that was blocked": r"""
        a3> CLIENT TRACKING ON
        a3> GET dst
        a3: BLMOVE src dst LEFT RIGHT 0
        blocked 1
        b> RPUSH src 1
        a3<
        a3<
        a3> PING
        b+ MULTI
        b+ GET dst
        b: EXEC
        a3> LLEN l
        a3: BLPOP l 0
        blocked 1
        b> RPUSH l 1
        a3<
        a3<
        a3> PING
    """,
    "OPTIN and CACHING": r"""
        a3> CLIENT CACHING YES
        a3> CLIENT TRACKING ON OPTIN
        a3> CLIENT CACHING NO
        a3> CLIENT CACHING maybe
        a3> GET k
        b> SET k 1
        a3> PING
        a3> CLIENT CACHING YES
        a3> CLIENT TRACKINGINFO
        a3~ CLIENT ID
        a3> GET k
        a3> CLIENT TRACKINGINFO
        a3> GET l
        b> SET k 1
        b> SET l 1
        a3<
        a3> PING
        a3> CLIENT CACHING YES
        a3> MULTI
        a3> GET k
        a3> GET l
        a3> EXEC
        a3> CLIENT TRACKINGINFO
        b> SET k 1
        b> SET l 1
        a3<
        a3<
        a3+ MULTI
        a3+ GET m
        a3+ CLIENT CACHING YES
        a3+ GET k
        a3+ PING
        a3+ GET l
        a3: EXEC
        a3<
        a3<
        a3<
        a3<
        a3<
        a3<
        a3<
        b> SET k 1
        b> SET l 1
        b> SET m 1
        a3<
        a3<
        a3> PING
        a3> CLIENT CACHING YES
        a3> GET
        a3> GET k
        b> SET k 1
        a3> PING
        a3> CLIENT CACHING YES
        a3> NOSUCH
        a3> GET k
        b> SET k 1
        a3> PING
        a3> CLIENT CACHING YES
        a3> EVAL "redis.call('GET','k'); return redis.call('GET','l')" 2 k l
        b> SET k 1
        b> SET l 1
        a3<
        a3<
        a3> PING
        a3> CLIENT CACHING YES
        a3> CLIENT NOSUCH
        a3> CLIENT TRACKINGINFO
        a3> GET k
        b> SET k 1
        a3> PING
        a3> CLIENT CACHING YES
        a3> CLIENT ID x
        a3> GET k
        b> SET k 1
        a3<
        a3> CLIENT CACHING YES
        a3> CONFIG NOSUCH
        a3> GET k
        b> SET k 1
        a3> CLIENT CACHING YES
        a3> MULTI
        a3> DISCARD
        a3> CLIENT TRACKINGINFO
        a3> CLIENT CACHING YES
        a3> HGET k x
        b> SET k 1
        a3<
        a3> PING
    """,
    "OPTOUT and NOLOOP": r"""
        a3> CLIENT TRACKING ON OPTOUT NOLOOP
        a3> CLIENT CACHING YES
        a3> CLIENT CACHING NO
        a3> CLIENT TRACKINGINFO
        a3> GET k
        b> SET k 1
        a3> PING
        a3> GET k
        b> SET k 1
        a3<
        a3> GET k
        a3> SET k 1
        a3> PING
        b> SET k 1
        a3> PING
        a3> CLIENT TRACKING ON OPTIN
        a3> CLIENT TRACKING ON
        a3> CLIENT TRACKINGINFO
        a3> CLIENT TRACKING OFF OPTIN
        a3> CLIENT TRACKINGINFO
        a3> CLIENT CACHING NO
        a3> CLIENT GETREDIR
    """,
    "wrong forms": r"""
        a> CLIENT TRACKING
        a> CLIENT TRACKING maybe
        a> CLIENT TRACKING ON maybe
        a> CLIENT TRACKING ON REDIRECT
        a> CLIENT TRACKING ON REDIRECT x
        a> CLIENT TRACKING ON REDIRECT 0
        a> CLIENT TRACKING ON REDIRECT 999999
        a> CLIENT TRACKING ON REDIRECT {a} REDIRECT {a}
        a> CLIENT TRACKING ON PREFIX x
        a> CLIENT TRACKING ON PREFIX
        a> CLIENT TRACKING ON BCAST OPTIN
        a> CLIENT TRACKING ON BCAST OPTOUT
        a> CLIENT TRACKING ON OPTIN OPTOUT
        a> CLIENT TRACKING ON BCAST PREFIX a PREFIX ab
        a> CLIENT TRACKING ON BCAST PREFIX ab PREFIX a
        a> CLIENT TRACKING ON BCAST PREFIX a PREFIX a
        a> CLIENT TRACKINGINFO
        a> CLIENT GETREDIR
        a> CLIENT CACHING
        a> CLIENT CACHING YES NO
        a> CLIENT TRACKING off REDIRECT x
        a> CLIENT TRACKING off BCAST PREFIX a PREFIX a
        a> CLIENT TRACKING ON
        a> CLIENT TRACKINGINFO
        a> CLIENT CACHING YES
        a> RESET
        a> CLIENT TRACKINGINFO
    """,
    "which commands read keys": r"""
        a3> CLIENT TRACKING ON
        a3> HGETALL h
        a3> MGET a b c
        a3> EXISTS e
        a3> TTL t
        a3> TYPE y
        a3> OBJECT ENCODING o
        a3> ZUNION 2 z1 z2
        a3> WATCH w
        a3> UNWATCH
        a3> TOUCH tt
        a3> GETEX gx
        a3> INCR i
        a3> DUMP d
        a3> SCAN 0
        a3> HSCAN hs 0
        a3> GET h2
        a3> MEMORY USAGE mu
        a3> LLEN wt
        b> SET wt 1
        b> MSET a 1 c 2 z2 3 w 1 tt 1 gx 1 i 1 d 1 hs 1 o 1 mu 1 e 1 t 1 y 1 h 1
    """,
    "RESP2 alone has no way to be told": r"""
        a> CLIENT TRACKING ON
        a> GET k
        b> SET k 1
        a> PING
        a> CLIENT TRACKINGINFO
        a3> CLIENT TRACKING ON
        a3> GET k
        a3~ HELLO 2
        b> SET k 2
        a3> PING
        a3> GET k
        a3~ HELLO 3
        b> SET k 2
        a3<
    """,
    "OFF, and ON again": r"""
        a3> CLIENT TRACKING ON
        a3> GET k
        a3> GET l
        a3> CLIENT TRACKING OFF
        b> SET k 1
        a3> CLIENT TRACKING ON
        b> SET l 1
        a3<
        a3> GET k
        a3> RESET
        a3~ HELLO 3
        b> SET k 2
        a3> PING
        a3> CLIENT TRACKING ON BCAST PREFIX x PREFIX ""
        a3> CLIENT TRACKING ON BCAST PREFIX x
        a3> CLIENT TRACKINGINFO
        a3> CLIENT TRACKING OFF
        b> SET x 1
        a3> PING
    """,
    "two who read the same keys": r"""
        a3> CLIENT TRACKING ON
        b3> CLIENT TRACKING ON NOLOOP
        a3> MGET k l k
        b3> GET k
        b3> SET k 1
        a3<
        b3> PING
        a3> MGET k l
        a3: DEL k l
        a3<
        a3<
        b3> PING
        a3> SELECT 3
        a3> GET k
        b3> SET k 2
        a3<
        a3> GET m
        a3> GET m
        b3> DEL m
        a3> PING
        b3> SET m 1
        a3<
        b3> SET m 2
        a3> PING
        a3> HGETALL m
        b3> RENAME m n
        a3<
        a3> OBJECT ENCODING n
        b3> EXPIRE n 100
        a3<
        a3> TTL n
        b3> PERSIST n
        a3<
        a3> EXISTS n
        b3> COPY n o
        a3> EXISTS o
        b3> COPY n o REPLACE
        a3<
    """,
    "REPLY OFF does not silence it": r"""
        a3> CLIENT TRACKING ON
        a3> GET k
        a3: CLIENT REPLY OFF
        a3: PING
        b> SET k 1
        a3<
        a3: GET k
        a3: SET k 2
        a3<
        a3> CLIENT REPLY ON
        a3: CLIENT REPLY SKIP
        a3: GET k
        a3: SET k 2
        a3<
        a3<
    """,
    "streams": r"""
        a3> CLIENT TRACKING ON
        b> XADD s 1-1 a 1
        a3> XREAD COUNT 1 STREAMS s t 0 0
        b> XADD s 1-2 a 1
        a3<
        b> XADD t 1-1 a 1
        a3<
        a3> XLEN s
        b> XGROUP CREATE s g 0
        a3> PING
        b> XREADGROUP GROUP g c STREAMS s >
        a3> PING
        b> XACK s g 1-1
        a3> PING
        b> XGROUP CREATECONSUMER s g d
        a3> PING
        b> XGROUP DELCONSUMER s g d
        a3> PING
        b> XSETID s 5-5
        a3> PING
        b> XGROUP SETID s g 0
        a3> PING
        b> XGROUP DESTROY s g
        a3> PING
        b> XGROUP CREATE n g 0 MKSTREAM
        a3> XINFO STREAM n
        b> XDEL s 1-1
        a3<
        a3> XRANGE s - +
        b> XTRIM s MAXLEN 0
        a3<
        a3: XREAD BLOCK 0 STREAMS s $
        blocked 1
        b> XADD s 9-9 a 1
        a3<
        a3<
        b> XADD s 9-10 a 1
        a3<
        a3> PING
    """,
}
# Where redis-server 7.0 differs from 7.2, which is kept here: it sends these in the middle of replies, and takes
# what scripts read for what they were given as keys, and forgets who was blocked.
NEWER = {
    "one's own messages and changes, in the order in which they happen",
    "what scripts read and change",
    "REDIRECT to RESP3",
    "streams",
}


@pytest.mark.parametrize("name", PLAYS)
def test_plays_go_as_on_valkey(name: str, kvstore_server: Server, valkey_server: Server) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])


@pytest.mark.parametrize("name", [name for name in PLAYS if name not in NEWER])
def test_plays_go_as_on_redis(name: str, kvstore_server: Server, redis_server: Server) -> None:
    compare(kvstore_server, redis_server, PLAYS[name])


def tracked(client: RawClient) -> list[bytes]:
    """What INFO tells of tracking."""
    found = (client.call("INFO", "clients") + client.call("INFO", "stats")).split(b"\r\n")
    return [line for line in found if line.startswith(b"tracking_")]


def number_of(client: RawClient) -> bytes:
    return client.call("CLIENT", "ID")[1:].strip()


def marks(client: RawClient, number: bytes) -> list[bytes]:
    """Flags and redir of a client in CLIENT LIST; the number of its redirection is not compared."""
    words = client.call("CLIENT", "LIST", "ID", number.decode()).split()
    redirect = next(word for word in words if word.startswith(b"redir="))
    sign = b"redirected" if redirect > b"redir=0" else redirect
    return [next(word for word in words if word.startswith(b"flags=")), sign]


def test_info_and_client_list_tell_of_it(kvstore_server: Server, valkey_server: Server) -> None:
    def play(server: Server) -> list[Any]:
        told: list[Any] = []
        with server.client() as a, server.client() as b, server.client() as c:
            for client in (a, b, c):
                client.hello3()
            first, second = number_of(a), number_of(b)
            a.call("CLIENT", "TRACKING", "ON")
            b.call("CLIENT", "TRACKING", "ON", "NOLOOP")
            c.call("FLUSHALL")
            told += a.read_reply_bytes(), b.read_reply_bytes()
            a.call("MGET", "x", "y")
            b.call("GET", "y")
            told += tracked(c), marks(c, first)
            b.call("CLIENT", "TRACKING", "OFF")
            b.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "p", "PREFIX", "q")
            told += tracked(c), marks(c, second)
            c.call("SET", "y", "1")
            told += tracked(c), a.read_reply_bytes()
            a.call("CLIENT", "TRACKING", "ON", "REDIRECT", second)
            told.append(marks(c, first))
            c.call("CLIENT", "KILL", "ID", second)
            c.call("SET", "x", "1")
            told += tracked(c), marks(c, first)
            told += (
                a.read_reply_bytes().replace(b":%b\r" % second, b"its number"),
                a.call("CLIENT", "TRACKINGINFO")[:60],
            )
            a.call("CLIENT", "TRACKING", "ON")
            told += a.call("CLIENT", "TRACKINGINFO"), a.call("CLIENT", "GETREDIR")
        return told

    assert play(kvstore_server) == play(valkey_server)


def test_expired_and_evicted_keys_are_told(kvstore_server: Server, valkey_server: Server) -> None:
    def play(server: Server) -> list[bytes]:
        with server.client() as a, server.client() as b:
            b.call("FLUSHALL")
            a.hello3()
            a.call("CLIENT", "TRACKING", "ON")
            b.call("SET", "short", "1", "PX", "30")
            a.call("GET", "short")
            told = [a.read_reply_bytes()]
            b.call("SET", "big", "x" * 100_000)
            a.call("GET", "big")
            b.call("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", "1")
            b.call("PING")
            told.append(a.read_reply_bytes())
            b.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
            return told

    assert play(kvstore_server) == play(valkey_server)


def test_a_full_table_forgets_and_tells(kvstore_server: Server, valkey_server: Server) -> None:
    def play(server: Server) -> list[Any]:
        with server.client() as a, server.client() as b:
            a.hello3()
            a.call("CLIENT", "TRACKING", "ON")
            b.call("FLUSHALL")
            a.read_reply_bytes()
            b.call("CONFIG", "SET", "tracking-table-max-keys", "3")
            a.call("MGET", "a", "b", "c", "d", "e")
            b.call("PING")
            told = [len(a.read_reply_bytes()), len(a.read_reply_bytes()), tracked(b)]
            b.call("CONFIG", "SET", "tracking-table-max-keys", "1")
            b.call("PING")
            told += [len(a.read_reply_bytes()), len(a.read_reply_bytes()), tracked(b)]
            b.call("CONFIG", "SET", "tracking-table-max-keys", "1000000")
            return told

    assert play(kvstore_server) == play(valkey_server)


# -- redis-py's cache ------------------------------------------------------------------------------------


@pytest.fixture(params=["socket", "fake"])
def cached(request: pytest.FixtureRequest) -> Iterator[tuple[redis.Redis, redis.Redis]]:
    """A client that caches what it reads, and another one, of the same server."""
    if request.param == "fake":
        fake = FakeServer(version="7.4")
        yield FakeRedis(server=fake, protocol=3, cache_config=CacheConfig()), FakeRedis(server=fake)
        return
    with running("kvstore", tcp=True, options={"compat-version": "7.4"}) as server:
        assert server.port
        with (
            redis.Redis(port=server.port, protocol=3, cache_config=CacheConfig()) as client,
            redis.Redis(port=server.port) as other,
        ):
            yield client, other


def test_the_cache_of_redis_py_answers_until_a_key_changes(
    cached: tuple[redis.Redis, redis.Redis],
) -> None:
    client, other = cached

    def calls() -> int:
        return int(other.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])

    other.set("k", "1")
    assert [client.get("k") for _ in range(5)] == [b"1"] * 5
    assert calls() == 1
    other.set("k", "2")
    other.hset("h", mapping={"a": "1"})
    assert client.get("k") == b"2"
    assert client.hgetall("h") == {b"a": b"1"} == client.hgetall("h")
    assert calls() == 2
    other.hset("h", "a", "2")  # whoever changes a key may have the reply before others are told
    until(lambda: client.hgetall("h") == {b"a": b"2"}, "the hash that has changed")
    other.flushall()
    until(lambda: client.get("k") is None, "the key that has gone")
    client.set("k", "3")
    assert client.get("k") == b"3"
    client.set("k", "4")
    assert client.get("k") == b"4"


def test_the_cache_of_a_fake_client_hears_of_its_clock_and_its_store() -> None:
    server = FakeServer(version="7.4")
    client = FakeRedis(server=server, protocol=3, cache_config=CacheConfig())
    client.set("k", "1", ex=10)
    assert client.get("k") == b"1" == client.get("k")
    server.clock.advance(11)
    assert client.get("k") is None
    server.store.set("k", "2")
    assert client.get("k") == b"2"
    server.store.set("k", "3")
    assert client.get("k") == b"3"


def test_pubsub_of_a_fake_client_is_told_of_what_another_one_reads() -> None:
    server = FakeServer()
    client, listener = FakeRedis(server=server, protocol=2), FakeRedis(server=server, protocol=2)
    pubsub = listener.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("__redis__:invalidate")
    pubsub.get_message()
    number = next(each["id"] for each in client.client_list() if each["sub"] == "1")
    with client.client() as one:
        one.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", number)
        one.get("k")
        listener.set("k", "1")
        message = pubsub.get_message()
        assert message is not None
        assert (message["channel"], message["data"]) == (b"__redis__:invalidate", [b"k"])


# -- its invariants --------------------------------------------------------------------------------------


def hub_and_sessions(count: int) -> tuple[Hub, list[Session]]:
    hub = Hub(Context(Database, clock=ManualClock(1_700_000_000_000)))
    return hub, [Session(hub, RESP3) for _ in range(count)]


def test_nobody_listens_while_nobody_tracks() -> None:
    hub, (a, b) = hub_and_sessions(2)
    plain = b.table
    a.feed(b"CLIENT TRACKING ON\r\nGET k\r\n")
    assert hub.tracking in hub.ctx.listeners
    assert b.table is plain and a.table is not plain
    a.close()
    assert hub.tracking not in hub.ctx.listeners
    assert (hub.tracking.keys, hub.tracking.items) == (0, 0)
    hub.tracking.check()


WRITES = (
    b"SET {0} {2}",
    b"SET {0} {2} PX 20",
    b"DEL {0} {1}",
    b"RENAME {0} {1}",
    b"COPY {0} {1} REPLACE",
    b"APPEND {0} {2}",
    b"MSET {0} {2} {1} {2}",
    b"GETDEL {0}",
    b"PEXPIRE {0} 15",
    b"MULTI\r\nSET {0} {2}\r\nDEL {1}\r\nEXEC",
    b"FLUSHALL",
)


def test_no_change_of_what_was_read_goes_untold(heavy: bool) -> None:
    """A client that keeps what it has read until it is told never keeps what is no longer so."""
    rng = random.Random(new_seed())
    hub, (reader, bcast, writer) = hub_and_sessions(3)
    reader.feed(b"CLIENT TRACKING ON\r\n")
    bcast.feed(b"CLIENT TRACKING ON BCAST\r\n")
    hub.tracking.most = 9
    kept: dict[Session, dict[bytes, bytes]] = {reader: {}, bcast: {}}
    keys = [b"k%d" % number for number in range(12)]
    for session in kept:
        session.out.clear()
    for number in range(20_000 if heavy else 1_500):
        some, other = rng.choice(keys), rng.choice(keys)
        for session, cache in kept.items():
            session.feed(b"GET %b\r\n" % some)
            cache[some] = take(session, cache)
        form = rng.choice(WRITES).decode()
        writer.feed(form.format(some.decode(), other.decode(), number).encode() + b"\r\n")
        if rng.random() < 0.1:
            hub.ctx.clock.advance(ms=rng.randrange(40))  # type: ignore[attr-defined]
            hub.run_timers()
        for cache in kept.values():
            for key in list(cache):
                writer.out.clear()
                writer.feed(b"GET %b\r\n" % key)  # which lets what is due expire, and be told
                now = writer.out[0]
                for each, entries in kept.items():
                    take(each, entries)
                assert cache.get(key, now) == now, (form, key)
        hub.tracking.check()
        assert hub.tracking.keys <= 9


def take(session: Session, cache: dict[bytes, bytes]) -> bytes:
    """Read all that was sent: what was told goes from the cache; the last reply."""
    last = b""
    for message in session.out:
        if not message.startswith(b">"):
            last = message
            continue
        words = message.split(b"\r\n")
        if words[3] == b"_":
            cache.clear()
        for key in words[5::2]:
            cache.pop(key, None)
    session.out.clear()
    return last
