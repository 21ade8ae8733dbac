"""TIME, ROLE, WAIT, SLOWLOG, LATENCY, MEMORY, DEBUG, SHUTDOWN and what is refused."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from kvstore import ManualClock, Store
from tests import servers
from tests.rawclient import Node, parse
from tests.scenario import compare
from tests.servers import Server
from tests.waiting import until

PLAYS = {
    "roles and replicas": """
        a~ ROLE
        a> ROLE x
        a> REPLICAOF NO ONE
        a> SLAVEOF no one
        a> REPLICAOF host x
        a> REPLICAOF no x
        a> REPLICAOF host 70000
        a> FAILOVER
        a> FAILOVER ABORT
        a> failover abort x
        a> FAILOVER TO a 1 FORCE TIMEOUT 5
        a> FAILOVER TO a
        a> FAILOVER TO a x
        a> FAILOVER TO a 1 TO b 2
        a> FAILOVER TIMEOUT x
        a> FAILOVER TIMEOUT 0
        a> FAILOVER TIMEOUT 1 TIMEOUT 2
        a> FAILOVER FORCE FORCE
        a> FAILOVER NOSUCH
        a> WAIT x 0
        a> WAIT 1 -1
        a> WAIT 1 x
        a> WAIT 0 x
        a> WAITAOF 0 0 0
        a> WAITAOF 1 0 0
        a> WAITAOF 2 0 0
        a> WAITAOF -1 0 0
        a> WAITAOF x 0 0
        a> WAITAOF 0 x 0
        a> WAITAOF 0 -1 0
        a> WAITAOF 0 1 -1
        a> WAITAOF 1 1 x
        a> TIME x
        a> LASTSAVE x
    """,
    "the cluster that is not there": """
        a> CLUSTER
        a> CLUSTER INFO
        a> CLUSTER INFO x
        a> CLUSTER NOSUCH
        a> CLUSTER SLOTS
        a> CLUSTER HELP
        a> ASKING
        a> MODULE LIST
        a> MODULE LIST x
        a> MODULE NOSUCH
        a> MODULE LOAD
        a> MODULE LOAD /x
        a> MODULE LOADEX /x CONFIG a b
        a> MODULE UNLOAD
        a> MODULE UNLOAD x
        a> MULTI
        a> MODULE LOAD /x
        a> EXEC
        a> ACL WHOAMI
        a3> MODULE LIST
    """,
    "SHUTDOWN that is refused": """
        a> SHUTDOWN NOSUCH
        a> SHUTDOWN SAVE NOSAVE
        a> SHUTDOWN NOSAVE NOSUCH
        a> SHUTDOWN ABORT NOW
        a> SHUTDOWN ABORT
        a> EVAL "return redis.call('SHUTDOWN')" 0
    """,
    "wrong forms of SLOWLOG": """
        a> SLOWLOG
        a> SLOWLOG NOSUCH
        a> SLOWLOG RESET
        a> SLOWLOG LEN
        a> SLOWLOG GET
        a> SLOWLOG GET x
        a> SLOWLOG GET -2
        a> SLOWLOG GET -1
        a> SLOWLOG GET 0
        a> SLOWLOG GET 1 2
        a> SLOWLOG LEN x
    """,
    "wrong forms of LATENCY": """
        a> LATENCY
        a> LATENCY NOSUCH
        a> LATENCY LATEST
        a> LATENCY HISTORY nosuch
        a> LATENCY HISTORY
        a> LATENCY RESET
        a> LATENCY RESET nosuch
        a> LATENCY GRAPH nosuch
        a> LATENCY HISTOGRAM nosuch config|nosuch
        a3> LATENCY HISTOGRAM nosuch
    """,
    "DEBUG": """
        a> DEBUG
        a> DEBUG NOSUCH
        a> DEBUG SLEEP
        a> DEBUG SLEEP x
        a> DEBUG SLEEP 0.001
        a> DEBUG SLEEP -1
        a> DEBUG SLEEP 0 1
        a> DEBUG SET-ACTIVE-EXPIRE 0
        a> DEBUG SET-ACTIVE-EXPIRE 1
        a> DEBUG SET-ACTIVE-EXPIRE
        a> DEBUG PAUSE-CRON 1
        a> DEBUG PAUSE-CRON 0
        a> DEBUG LOG hello
        a> DEBUG LOG
        a> DEBUG ERROR "MY error"
        a> DEBUG ERROR
        a> DEBUG QUICKLIST-PACKED-THRESHOLD 100b
        a> DEBUG QUICKLIST-PACKED-THRESHOLD 1mb
        a> DEBUG QUICKLIST-PACKED-THRESHOLD x
        a> DEBUG QUICKLIST-PACKED-THRESHOLD 4gb
        a> DEBUG QUICKLIST-PACKED-THRESHOLD 0
        a> DEBUG HTSTATS x
        a> DEBUG HTSTATS 99
        a> DEBUG HTSTATS 9
        a> DEBUG HTSTATS
        a> DEBUG HTSTATS-KEY nosuch
        a> SET s v
        a> RPUSH l a b
        a> DEBUG HTSTATS-KEY s
        a> DEBUG HTSTATS-KEY l
        a> DEBUG LISTPACK l
        a> DEBUG LISTPACK s
        a> DEBUG LISTPACK nosuch
        a> DEBUG OBJECT nosuch
        a> DEBUG OBJECT
        a> DEBUG OBJECT s fast x
        a> DEBUG DICT-RESIZING 0
        a> DEBUG DICT-RESIZING 1
        a> DEBUG REPLYBUFFER PEAK-RESET-TIME NEVER
        a> DEBUG REPLYBUFFER PEAK-RESET-TIME RESET
        a> DEBUG REPLYBUFFER PEAK-RESET-TIME 100
        a> DEBUG REPLYBUFFER PEAK-RESET-TIME x
        a> DEBUG REPLYBUFFER RESIZING 1
        a> DEBUG REPLYBUFFER nosuch 1
        a> DEBUG SET-DISABLE-DENY-SCRIPTS 0
        a> DEBUG CONFIG-REWRITE-FORCE-ALL
        a> DEBUG MALLCTL nosuch
        a> DEBUG CHANGE-REPL-ID
    """,
    "no memory is left": """
        a> SET big xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        a> RPUSH l 1 2 3
        m> MULTI
        m> SET queued before
        r> MULTI
        r> GET big
        a> CONFIG SET maxmemory 1
        a> SET k v
        a> SET
        a> GET big
        a> LPOP l
        a> LPUSH l 1
        a> INCR n
        a> EXPIRE big 100
        a> DEL nothing
        a> PUBLISH x y
        a> EVAL "return redis.call('SET', 'k', 'v')" 0
        a> EVAL "return redis.call('GET', 'big')" 0
        a> EVAL "return redis.pcall('SET', 'k', 'v')" 0
        a> EVAL "redis.call('LPOP', 'l'); return redis.call('SET', 'k', 'v')" 0
        a> EVAL "redis.call('SET', 'k', 'v')" 0
        a> MULTI
        a> GET big
        a> SET k v
        a> EXEC
        m> EXEC
        r> EXEC
        a> MULTI
        a> LLEN l
        a> EXEC
        a> DEL l
        a> BLPOP l 0.01
        a> CONFIG SET maxmemory 0
        a> SET k v
        a> DEL big
    """,
    "DEBUG POPULATE": """
        a> DEBUG POPULATE 3
        a> DEBUG POPULATE 3 p
        a> DEBUG POPULATE 2 long 12
        a> DEBUG POPULATE 2 short 3
        a> SET key:5 mine
        a> DEBUG POPULATE 6
        a> MGET key:0 key:2 key:5 p:1 long:1 short:0
        a> DBSIZE
        a> DEBUG POPULATE 0
        a> DEBUG POPULATE x
        a> DEBUG POPULATE -1
        a> DEBUG POPULATE 3 p x
        a> DEBUG POPULATE 1 a 2 3
    """,
    "DEBUG DIGEST": """
        a> DEBUG DIGEST
        a> SET a 1
        a> SET b "\\\\x00\\\\xff" PX 1000000
        a> RPUSH l a b c
        a> SADD s x y z
        a> ZADD z 1.5 m 3 n -inf k 0.1 t
        a> HSET h f v g w
        a> SELECT 3
        a> SET q r
        a> DEBUG DIGEST
        a> SELECT 0
        a> DEBUG DIGEST-VALUE a b l s z h nosuch
        a> DEBUG DIGEST-VALUE
        a> DEBUG DIGEST x
        a> DEL a
        a> DEBUG DIGEST
    """,
    "DEBUG PROTOCOL": """
        a> DEBUG PROTOCOL string
        a> DEBUG PROTOCOL integer
        a> DEBUG PROTOCOL double
        a> DEBUG PROTOCOL null
        a> DEBUG PROTOCOL array
        a> DEBUG PROTOCOL set
        a> DEBUG PROTOCOL map
        a> DEBUG PROTOCOL attrib
        a> DEBUG PROTOCOL push
        a> DEBUG PROTOCOL verbatim
        a> DEBUG PROTOCOL true
        a> DEBUG PROTOCOL false
        a> DEBUG PROTOCOL bignum
        a> DEBUG PROTOCOL nosuch
        a> DEBUG PROTOCOL
        a3> DEBUG PROTOCOL string
        a3> DEBUG PROTOCOL integer
        a3> DEBUG PROTOCOL double
        a3> DEBUG PROTOCOL null
        a3> DEBUG PROTOCOL array
        a3> DEBUG PROTOCOL set
        a3> DEBUG PROTOCOL map
        a3> DEBUG PROTOCOL attrib
        a3> DEBUG PROTOCOL push
        a3<
        a3> DEBUG PROTOCOL verbatim
        a3> DEBUG PROTOCOL true
        a3> DEBUG PROTOCOL false
        a3> DEBUG PROTOCOL bignum
    """,
}
# What valkey answers otherwise than Redis, old and new.
OLDER_PLAYS = {
    "modes of clusters": """
        a> READONLY
        a> READWRITE
    """,
}


@pytest.mark.parametrize("name", PLAYS)
def test_answers_are_those_of_a_real_server(name: str, kvstore_server: Server, valkey_server: Server) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name].replace("\\\\", "\\"))


@pytest.mark.parametrize("name", OLDER_PLAYS)
def test_answers_are_those_of_an_older_server(
    name: str, kvstore_server: Server, redis_server: Server
) -> None:
    compare(kvstore_server, redis_server, OLDER_PLAYS[name])


def plain(node: Node) -> Any:
    if node.items is None:
        return int(node.text) if node.mark == b":" else node.text.decode("latin-1")
    items = [plain(item) for item in node.items]
    return dict(zip(items[::2], items[1::2], strict=True)) if node.mark == b"%" else items


def ask(server: Server, *words: str) -> Any:
    with server.client() as client:
        return plain(parse(client.call(*words)))


# -- DEBUG is to be allowed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", ["no", "local", "yes"])
def test_modules_and_debug_are_allowed_as_the_directives_say(allowed: str) -> None:
    options = {"enable-debug-command": allowed, "enable-module-command": allowed}
    plays = []
    for kind in ("kvstore", "valkey"):
        if not servers.available(kind):
            pytest.skip(f"{kind}-server is not installed")
        with servers.running(kind, tcp=True, options=options) as server:
            replies = []
            for tcp in (False, True):
                with server.client(tcp=tcp) as client:
                    replies += [client.call(*words) for words in (("DEBUG", "JUNK"), ("DEBUG",), ("MULTI",))]
                    replies += [client.call(*words) for words in (("DEBUG", "SLEEP", "0"), ("EXEC",))]
                    replies += [client.call("MODULE", "LOAD", "/x"), client.call("MODULE", "UNLOAD", "x")]
                    replies += [client.call("MODULE", "LOADEX", "/x", "ARGS"), client.call("MODULE", "LIST")]
            plays.append(replies)
    assert plays[0] == plays[1]


# -- time ---------------------------------------------------------------------------------------------------


def test_time_is_the_time(any_server: Server) -> None:
    seconds, micros = ask(any_server, "TIME")
    assert abs(int(seconds) - time.time()) < 60
    assert 0 <= int(micros) < 1_000_000


def test_time_is_the_clock_that_a_store_was_given() -> None:
    store = Store(clock=ManualClock(1_700_000_000_123))
    assert store.call("TIME") == [b"1700000000", b"123000"]


def test_the_start_counts_as_a_save(kvstore_server: Server) -> None:
    started = int(re.search(r"rdb_last_save_time:(\d+)", ask(kvstore_server, "INFO", "persistence"))[1])  # type: ignore[index]
    assert ask(kvstore_server, "LASTSAVE") == started


# -- SLOWLOG ------------------------------------------------------------------------------------------------


def logged(server: Server, *commands: tuple[str, ...], after: str = "RESET") -> list[list[str]]:
    """The words of the entries, oldest first, that these commands leave when every command is slow."""
    with server.client() as client:
        client.call("CLIENT", "SETNAME", "bob")
        client.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
        client.call("SLOWLOG", "RESET")
        for words in commands:
            client.call(*words)
        client.call("CONFIG", "SET", "slowlog-log-slower-than", "10000")
        entries = plain(parse(client.call("SLOWLOG", "GET", "-1")))
    for number, at, micros, _, address, name in entries:
        assert number >= 0
        assert abs(at - time.time()) < 60
        assert micros >= 0
        assert (address, name) == (f"{server.unix}:0", "bob")
    return [entry[3] for entry in reversed(entries)]


def test_a_server_is_a_master_without_replicas(any_server: Server) -> None:
    with any_server.client() as client:
        role, offset, replicas = parse(client.call("ROLE")).items or ()
    assert role.text == b"master" and replicas.items == ()
    assert int(offset.text) >= 0  # of a real server by what was written before


def test_slow_commands_are_kept_as_on_a_real_server(kvstore_server: Server, valkey_server: Server) -> None:
    commands: tuple[tuple[str, ...], ...] = (
        ("SET", "k", "v" * 200),
        ("get", "k"),
        ("RPUSH", "l", *map(str, range(50))),
        ("DEL", *map(str, range(31))),
        ("NOSUCH", "x"),
        ("GET",),
        ("LPOP", "k"),
        ("AUTH", "default", "secret"),
        ("HELLO", "2", "AUTH", "default", "secret", "SETNAME", "bob"),
        ("CONFIG", "SET", "requirepass", "", "timeout", "0"),
        ("MULTI",),
        ("INCR", "n"),
        ("EXEC",),
        ("EVAL", "return redis.call('incr', KEYS[1])", "1", "n"),
        ("CLIENT", "ID"),
        ("BLPOP", "nothing", "0.01"),
    )
    assert logged(kvstore_server, *commands) == logged(valkey_server, *commands)


def test_the_slow_log_keeps_no_more_than_it_is_told(kvstore_server: Server) -> None:
    with kvstore_server.client() as client:
        client.call("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "5")
        try:
            for _ in range(20):
                client.call("PING")
            assert client.call("SLOWLOG", "LEN") == b":5\r\n"
            assert len(plain(parse(client.call("SLOWLOG", "GET", "3")))) == 3
            numbers = [entry[0] for entry in plain(parse(client.call("SLOWLOG", "GET", "-1")))]
            assert numbers == sorted(numbers, reverse=True)
            client.call("CONFIG", "SET", "slowlog-max-len", "2")
            assert client.call("SLOWLOG", "LEN") == b":2\r\n"
        finally:
            client.call("CONFIG", "SET", "slowlog-log-slower-than", "10000", "slowlog-max-len", "128")


def test_nothing_is_slow_when_the_log_is_off(kvstore_server: Server) -> None:
    with kvstore_server.client() as client:
        client.call("CONFIG", "SET", "slowlog-log-slower-than", "-1")
        client.call("SLOWLOG", "RESET")
        client.call("DEBUG", "SLEEP", "0.02")
        assert client.call("SLOWLOG", "LEN") == b":0\r\n"
        client.call("CONFIG", "SET", "slowlog-log-slower-than", "10000")
        client.call("DEBUG", "SLEEP", "0.02")
        assert client.call("SLOWLOG", "LEN") == b":1\r\n"


# -- LATENCY ------------------------------------------------------------------------------------------------


def test_slow_events_are_kept_by_cause(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("CONFIG", "SET", "latency-monitor-threshold", "5")
        client.call("LATENCY", "RESET")
        client.call("DEBUG", "SLEEP", "0.02")
        (latest,) = plain(parse(client.call("LATENCY", "LATEST")))
        assert latest[0] == "command"
        assert abs(latest[1] - time.time()) < 60
        assert latest[2] == latest[3] >= 20
        ((at, ms),) = plain(parse(client.call("LATENCY", "HISTORY", "command")))
        assert (at, ms) == tuple(latest[1:3])
        graph = parse(client.call("LATENCY", "GRAPH", "command")).text.decode()
        assert graph.startswith(f"command - high {ms} ms, low {ms} ms (all time high {ms} ms)\n")
        assert parse(client.call("LATENCY", "DOCTOR")).text
        assert client.call("LATENCY", "RESET", "command", "nosuch") == b":1\r\n"
        assert client.call("LATENCY", "LATEST") == b"*0\r\n"
        client.call("CONFIG", "SET", "latency-monitor-threshold", "0")
        client.call("DEBUG", "SLEEP", "0.01")
        assert client.call("LATENCY", "LATEST") == b"*0\r\n"


def test_what_a_server_does_by_itself_is_watched_too() -> None:
    options = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "allkeys-lru"}
    fields = [word for number in range(100_000) for word in (b"field%d" % number, b"value")]
    with servers.running("kvstore", options=options) as server, server.client() as client:

        def watched() -> set[str]:
            return {event[0] for event in plain(parse(client.call("LATENCY", "LATEST")))}

        client.call("CONFIG", "SET", "latency-monitor-threshold", "1")
        client.call("SET", "large", bytes(32 << 20))
        client.call("HSET", "expires", *fields)
        client.call("HSET", "evicted", *fields)
        assert "aof-fsync-always" in watched()
        client.call("PEXPIRE", "expires", "1")
        until(lambda: "expire-cycle" in watched(), "a key has expired")
        client.call("CONFIG", "SET", "maxmemory", "1mb")
        client.call("SET", "k", "v")
        assert {"expire-cycle", "eviction-cycle"} <= watched()
        client.call("CONFIG", "SET", "latency-monitor-threshold", "0")
        client.call("LATENCY", "RESET")
        client.call("SET", "large", bytes(32 << 20))
        assert watched() == set()


def test_histograms_count_every_call(any_server: Server) -> None:
    with any_server.client() as client:
        client.hello3()
        client.call("CONFIG", "RESETSTAT")
        for _ in range(7):
            client.call("ECHO", "x")
        client.call("CLIENT", "ID")
        found = plain(parse(client.call("LATENCY", "HISTOGRAM", "ECHO", "client", "nosuch")))
        assert found.keys() == {"echo", "client|id"}
        assert found["echo"]["calls"] == 7
        counts = list(found["echo"]["histogram_usec"].values())
        assert counts == sorted(set(counts))
        assert counts[-1] == 7
        bounds = list(found["echo"]["histogram_usec"])
        assert bounds == sorted(bounds)


# -- MEMORY -------------------------------------------------------------------------------------------------


def test_memory_stats_have_what_clients_read(any_server: Server) -> None:
    with any_server.client() as client:
        client.hello3()
        client.call("SET", "k", "v")
        stats = plain(parse(client.call("MEMORY", "STATS")))
        assert stats["keys.count"] >= 1
        for name in (
            "peak.allocated",
            "total.allocated",
            "dataset.bytes",
            "keys.bytes-per-key",
            "fragmentation",
        ):
            assert float(stats[name]) >= 0
        assert "db.0" in stats
        assert client.call("MEMORY", "PURGE") == b"+OK\r\n"
        assert parse(client.call("MEMORY", "DOCTOR")).text
        assert parse(client.call("MEMORY", "MALLOC-STATS")).text


# -- HELP ---------------------------------------------------------------------------------------------------

CONTAINERS = "CLIENT COMMAND CONFIG DEBUG LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG ACL".split()


@pytest.mark.parametrize("name", CONTAINERS)
def test_help_names_every_subcommand(name: str, kvstore_server: Server) -> None:
    with kvstore_server.client() as client:
        lines = plain(parse(client.call(name, "HELP")))
        subcommands = {
            part.partition("|")[2].upper()
            for part in plain(parse(client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", f"{name}|*")))
        }
    assert lines[0] == f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    named = {line.split(" ", 1)[0] for line in lines[1:] if not line.startswith(" ")}
    assert subcommands <= named
    assert lines[-2] == "HELP"


# -- DEBUG --------------------------------------------------------------------------------------------------


def test_expired_keys_stay_until_looked_at_without_active_expiry(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("FLUSHALL")
        client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        try:
            client.call("SET", "k", "v", "PX", "1")
            time.sleep(0.05)
            assert b"expired_keys:0" in client.call("CONFIG", "RESETSTAT") + client.call("INFO", "stats")
            assert client.call("GET", "k") == b"$-1\r\n"
            assert b"expired_keys:1" in client.call("INFO", "stats")
        finally:
            client.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_debug_object_tells_the_encoding(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("DEL", "h")
        client.call("HSET", "h", "f", "v")
        assert b"encoding:listpack serializedlength:" in client.call("DEBUG", "OBJECT", "h")
        assert b"serializedlength" not in client.call("DEBUG", "OBJECT", "h", "fast")


# -- SHUTDOWN -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("SHUTDOWN",), ("shutdown", "nosave"), ("SHUTDOWN", "NOW", "FORCE", "NOSAVE")]
)
def test_shutdown_stops_the_server(words: tuple[str, ...]) -> None:
    with servers.running("kvstore") as server:
        with server.client() as client, server.client() as other:
            other.call("PING")
            client.send(*words)
            assert client.at_end()
            assert other.at_end()
        assert server.process.wait(10) == 0


def test_a_store_in_a_program_is_not_shut_down() -> None:
    store = Store()
    with pytest.raises(Exception, match="ERR Errors trying to SHUTDOWN"):
        store.call("SHUTDOWN")
    assert store.call("PING") == b"PONG"


def test_a_server_is_a_master_that_nobody_follows() -> None:
    assert Store().call("ROLE") == [b"master", 0, []]
