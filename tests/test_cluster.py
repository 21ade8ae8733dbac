"""One node that has all slots of a cluster: byte for byte as real servers that were given all slots. Names of
nodes and ports differ, and are compared as such."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from kvstore.commands.slots import slot_of
from tests import servers
from tests.scenario import Play
from tests.servers import Server

NodeOf = Callable[[str], Server]
# The versions that ours keeps beside each real server.
COMPAT = {"redis": "7.0", "valkey": "8.0"}

# ``<me>`` is the node's id.
PLAYS = {
    "what the node is": """
        a> CLUSTER INFO
        a> CLUSTER MYID
        a> CLUSTER NODES
        a> CLUSTER SHARDS
        a> CLUSTER SLOTS
        a> CLUSTER LINKS
        a> CLUSTER REPLICAS <me>
        a> CLUSTER REPLICAS x
        a> CLUSTER SLAVES <me>
        a> CLUSTER SLAVES x
        a> CLUSTER COUNT-FAILURE-REPORTS <me>
        a> CLUSTER COUNT-FAILURE-REPORTS x
        a3> CLUSTER INFO
        a3> CLUSTER NODES
        a3> CLUSTER SHARDS
        a3> CLUSTER SLOTS
        a3> CLUSTER LINKS
        a> CLUSTER
        a> CLUSTER NOSUCH
        a> CLUSTER NODES x
        a> CLUSTER MEET x
        a> INFO cluster
        a> CONFIG GET databases
        a> CONFIG GET cluster-enabled
        a> CONFIG SET cluster-enabled no
        a> ROLE
    """,
    "where the node says it is": """
        a> CONFIG SET cluster-announce-hostname kv.example
        a3> CLUSTER NODES
        a3> CLUSTER SLOTS
        a3> CLUSTER SHARDS
        a> CLUSTER SLOTS
        a> CLUSTER SHARDS
        a> CONFIG SET cluster-announce-ip 10.1.2.3 cluster-announce-port 17 cluster-announce-bus-port 18
        a3> CLUSTER NODES
        a3> CLUSTER SLOTS
        a3> CLUSTER SHARDS
        a> CONFIG SET cluster-preferred-endpoint-type hostname
        a3> CLUSTER NODES
        a3> CLUSTER SLOTS
        a> CLUSTER SLOTS
        a3> CLUSTER SHARDS
        a> CONFIG SET cluster-preferred-endpoint-type unknown-endpoint
        a3> CLUSTER SLOTS
        a> CLUSTER SLOTS
        a3> CLUSTER SHARDS
        a> CONFIG SET cluster-announce-hostname ''
        a3> CLUSTER SLOTS
        a3> CLUSTER SHARDS
        a> CONFIG SET cluster-preferred-endpoint-type hostname
        a3> CLUSTER SLOTS
        a3> CLUSTER SHARDS
        a> CONFIG SET cluster-preferred-endpoint-type ip cluster-announce-ip ''
        a> CONFIG SET cluster-announce-port 0 cluster-announce-bus-port 0
        a> CLUSTER NODES
    """,
    "slots and their keys": r"""
        a> CLUSTER KEYSLOT a
        a> CLUSTER KEYSLOT ''
        a> CLUSTER KEYSLOT {}a
        a> CLUSTER KEYSLOT x{b}y{c}
        a> CLUSTER KEYSLOT x{b
        a> CLUSTER KEYSLOT {{b}}
        a> CLUSTER KEYSLOT "\x00\xff{}"
        a> CLUSTER KEYSLOT
        a> SET {k}1 v
        a> SET k v
        a> SADD other v
        a> CLUSTER COUNTKEYSINSLOT 7629
        a> CLUSTER COUNTKEYSINSLOT 0
        a> CLUSTER COUNTKEYSINSLOT -1
        a> CLUSTER COUNTKEYSINSLOT 16384
        a> CLUSTER COUNTKEYSINSLOT x
        a> CLUSTER GETKEYSINSLOT 7629 0
        a> CLUSTER GETKEYSINSLOT 7629 -1
        a> CLUSTER GETKEYSINSLOT 16384 1
        a> CLUSTER GETKEYSINSLOT x 1
        a> CLUSTER GETKEYSINSLOT 1 x
        a> CLUSTER GETKEYSINSLOT 1 99999999999
        a> DEL k
        a> CLUSTER GETKEYSINSLOT 7629 10
        a> CLUSTER COUNTKEYSINSLOT 7629
    """,
    "slots that all belong to the node": """
        a> CLUSTER ADDSLOTS 0
        a> CLUSTER ADDSLOTS x
        a> CLUSTER ADDSLOTS 16384
        a> CLUSTER ADDSLOTS 5 x
        a> CLUSTER ADDSLOTSRANGE 0 16383
        a> CLUSTER ADDSLOTSRANGE 1 2 3
        a> CLUSTER ADDSLOTSRANGE 5 3
        a> CLUSTER ADDSLOTSRANGE 5 6 3 2
        a> CLUSTER ADDSLOTSRANGE x 6
        a> CLUSTER ADDSLOTSRANGE 5 16384
        a> CLUSTER DELSLOTS x
        a> CLUSTER DELSLOTS 1 1
        a> CLUSTER DELSLOTS 1 1 x
        a> CLUSTER DELSLOTSRANGE 1 2 3
        a> CLUSTER DELSLOTSRANGE 3 1
        a> CLUSTER DELSLOTSRANGE 1 1 1 1 3 x
        a> CLUSTER DELSLOTSRANGE 1 x
        a> CLUSTER SETSLOT 1 STABLE
        a> CLUSTER SETSLOT 1 NODE <me>
        a> CLUSTER SETSLOT 1 NODE x
        a> CLUSTER SETSLOT 1 NODE
        a> CLUSTER SETSLOT 1 MIGRATING x
        a> CLUSTER SETSLOT 1 IMPORTING x
        a> CLUSTER SETSLOT 1 IMPORTING <me>
        a> CLUSTER SETSLOT 1 nosuch x
        a> CLUSTER SETSLOT x STABLE
        a> CLUSTER SETSLOT 16384 STABLE
        a> CLUSTER COUNTKEYSINSLOT
    """,
    "nodes that are not there": """
        a> CLUSTER FORGET x
        a> CLUSTER FORGET <me>
        a> CLUSTER REPLICATE x
        a> CLUSTER REPLICATE <me>
        a> CLUSTER FAILOVER
        a> CLUSTER FAILOVER FORCE
        a> CLUSTER FAILOVER TAKEOVER
        a> CLUSTER FAILOVER nosuch
        a> CLUSTER FAILOVER FORCE x
        a> CLUSTER RESET nosuch
        a> CLUSTER RESET HARD x
        a> SET k v
        a> CLUSTER RESET
        a> CLUSTER RESET HARD
        a> CLUSTER FLUSHSLOTS
        a> CLUSTER SAVECONFIG
        a> REPLICAOF NO ONE
        a> SLAVEOF NO ONE
        a> REPLICAOF localhost 1
        a> FAILOVER
        a> FAILOVER ABORT
    """,
    "one database": """
        a> SELECT 0
        a> SELECT 1
        a> SELECT 99
        a> SELECT x
        a> SELECT
        a> SWAPDB 0 1
        a> SWAPDB 0
        a> MOVE k 1
        a> SET k v
        a> COPY k {k}2 DB 0
        a> COPY k {k}2 DB 99
        a> MULTI
        a> SELECT 1
        a> GET k
        a> EXEC
        a~ HELLO 3
        a> SELECT 1
    """,
    "requests of several slots": """
        a> MSET a 1 b 2
        a> MSET {x}a 1 {x}b 2
        a> MGET {x}a {x}b
        a> MGET a
        a> DEL a b
        a> RENAME a b
        a> COPY a b
        a> BLPOP a b 0
        a> ZUNIONSTORE a 2 b c
        a> ZUNIONSTORE {a}x 2 {a}y {a}z
        a> SINTERCARD 2 a b
        a> SINTERCARD x a b
        a> LMPOP 2 a b LEFT
        a> XREAD STREAMS a b 0 0
        a> XREAD STREAMS {a}b {a} 0 0
        a> XREAD BLOCK 0 COUNT 1 STREAMS a b 0 0
        a. XREAD STREAMS a b 0
        a> XREAD NOSUCH STREAMS a b 0 0
        a> XREADGROUP GROUP g c NOACK STREAMS a b > >
        a> XREADGROUP GROUP STREAMS a STREAMS b c > >
        a> WATCH a b
        a> GETT a b
        a> MSET a
        a> EVAL 'return 1' 2 a b
        a> OBJECT ENCODING a
        a> SORT a BY nosort STORE b
        a> SORT a BY w* GET #
    """,
    "transactions of several slots": """
        a> MULTI
        a> SET a 1
        a> SET b 1
        a> EXEC
        a> EXEC
        a> MULTI
        a> MGET a b
        a> SET a 1
        a> EXEC
        a> WATCH a
        a> MULTI
        a> SET b 1
        a> EXEC
        a> WATCH {x}a
        b> SET {x}a 1
        a> MULTI
        a> SET b 1
        a> SET c 1
        a> EXEC
        a> MULTI
        a> SET {x}a 1
        a> SET {x}b 1
        a> CLUSTER KEYSLOT a
        a> OBJECT ENCODING {x}b
        a> EXEC
        a> MULTI
        a> OBJECT ENCODING a
        a> OBJECT ENCODING b
        a> EXEC
        a> MULTI
        a> PING
        a> EXEC
        a> MULTI
        a> SET a 1
        a> NOSUCH
        a> SET b 1
        a> EXEC
        a> WATCH {x}a
        a> MULTI
        a> SET b 1
        b> SET {x}a 2
        a> SET c 1
        a> EXEC
        a+ MGET a b
        a+ SET a 1
        a> SET b 2
        a<
        a<
    """,
    "shard channels": """
        a> SSUBSCRIBE a b
        a> SSUBSCRIBE {x}a {x}b
        a<
        a> SSUBSCRIBE c
        a> SUNSUBSCRIBE a b
        b> SPUBLISH {x}a hello
        a<
        b> SPUBLISH c hello
        a<
        b> SPUBLISH nobody hello
        b> PUBLISH c hello
        b> PUBSUB SHARDCHANNELS c*
        b> PUBSUB SHARDNUMSUB {x}a {x}b c d
        b> COMMAND GETKEYS SPUBLISH a b
        a> SUNSUBSCRIBE {x}a {x}b
        a<
        b> SPUBLISH {x}a hello
        b> MULTI
        b> SPUBLISH a 1
        b> SPUBLISH b 1
        b> EXEC
        b> MULTI
        b> SPUBLISH a 1
        b> PUBLISH b 1
        b> EXEC
        b> MULTI
        b> SSUBSCRIBE a
        b> SET a 1
        b> EXEC
        a> UNSUBSCRIBE c
    """,
    "shard channels under RESP3": """
        a3> SSUBSCRIBE {x}a {x}b
        a3<
        a3> SSUBSCRIBE c
        a3> MULTI
        a3> SSUBSCRIBE d
        a3> SUNSUBSCRIBE c
        a3> EXEC
        a3> SUNSUBSCRIBE c
        a3> SUNSUBSCRIBE {x}a {x}b
        a3<
    """,
    "scripts": r"""
        a> EVAL "return redis.call('get','a')" 0
        a> EVAL "redis.call('get','a') return redis.call('get','b')" 0
        a> EVAL "return redis.call('get','b')" 1 a
        a> EVAL "#!lua\nredis.call('get','a') return redis.call('get','b')" 0
        a> EVAL "#!lua\nreturn redis.call('get','b')" 1 a
        a> EVAL "#!lua\nreturn redis.call('get','{a}b')" 1 a
        a> EVAL "#!lua flags=no-cluster\nreturn 1" 0
        a> EVAL_RO "#!lua flags=no-cluster,no-writes\nreturn 1" 0
        a> EVAL "#!lua flags=allow-cross-slot-keys\nredis.call('set','a','1') return redis.call('get','b')" 0
        a> EVAL "#!lua flags=allow-cross-slot-keys\nredis.call('set','a','1') return redis.call('get','b')" 2 a b
        a> EVAL "return redis.call('select', '1')" 0
        a> EVAL "return redis.call('cluster','keyslot','a')" 0
        a> EVAL "return redis.call('spublish','a','b')" 0
        a> EVAL "return 1" -1 a b
        a> SCRIPT LOAD "return redis.call('set', KEYS[1], 1)"
        a> EVALSHA 7e53e00be9fea6d2d0ff2ad03ebea7b1b4db1a5e 2 a b
    """,
    "functions": r"""
        a> FUNCTION FLUSH
        a> FUNCTION LOAD "#!lua name=lib\nlocal function get(keys, args) redis.call('get', args[1]) return redis.call('get', args[2]) end\nredis.register_function('get', get)\nredis.register_function{function_name='anywhere', callback=get, flags={'allow-cross-slot-keys'}}\nredis.register_function{function_name='nowhere', callback=get, flags={'no-cluster'}}"
        a> FCALL get 0 a a
        a> FCALL get 0 a b
        a> FCALL get 1 a a {a}b
        a> FCALL get 1 c a a
        a> FCALL get 2 a b a a
        a> FCALL anywhere 1 c a b
        a> FCALL anywhere 2 a b a b
        a> FCALL nowhere 0 a a
        a> FUNCTION FLUSH
    """,
    "users": """
        a> ACL SETUSER u reset on nopass ~a* &a* +@all -acl
        b> AUTH u x
        b. MGET a b
        b> MGET a a2
        b. SPUBLISH b x
        b> SSUBSCRIBE a1 a2
        b. ACL WHOAMI
        b> EVAL "return redis.call('mget','a1','a2')" 1 a1
        a> ACL DELUSER u
    """,
    "modes": """
        a> READONLY
        a> GET k
        a> SET k v
        a> READWRITE
        a> READONLY x
        a> ASKING
        a> GET k
        a> ASKING x
        a> MULTI
        a> READONLY
        a> ASKING
        a> EXEC
    """,
}
# What waits at EXEC is looked at where something of it would run; older servers look in any case.
_NEWER = {
    "transactions that are lost already": """
        a> MULTI
        a> SET a 1
        a> SET b 1
        a> NOSUCH
        a> EXEC
        a> WATCH {x}a
        a> MULTI
        a> SET b 1
        a> SET c 1
        b> SET {x}a 2
        a> EXEC
        a> MULTI
        a> WATCH a b
        a> EXEC
        a> CLUSTER MYSHARDID
    """,
}
# Valkey has other texts.
_OLDER = {
    "other databases and slots": r"""
        a> SET k v
        a> COPY k {k}2 DB 1
        a> EVAL "return redis.call('mget','a','b')" 0
        a> EVAL "#!lua\nreturn redis.call('mget','a','b')" 1 a
        a> RPUSH l 1
        a> SORT l GET {l}w*
        a> SORT l BY {l}w*
        a> CLUSTER SETSLOT 1 STABLE x
        a> CLUSTER MYSHARDID
    """,
}


@pytest.fixture(scope="module")
def node_of() -> Iterator[NodeOf]:
    """A node of a cluster, by kind: redis, valkey, or the version that ours keeps."""
    started: dict[str, Server] = {}

    def node(name: str) -> Server:
        if name not in started:
            if not servers.available(name) and name[0].isalpha():
                pytest.skip(f"{name}-server is not installed")
            ours = not name[0].isalpha()
            started[name] = (
                servers.start_node("kvstore", **{"compat-version": name})
                if ours
                else servers.start_node(name)
            )
        return started[name]

    yield node
    for server in started.values():
        server.remove()


def _with_tags(text: str) -> str:
    """The play with its hash tags quoted, as plays have another use for braces."""
    parts = text.split('"')
    parts[::2] = [re.sub(r"\{(\w*)\}", r"'{'\1}", part) for part in parts[::2]]
    parts[1::2] = [re.sub(r"\{(\w*)\}", r"\\x7b\1}", part) for part in parts[1::2]]
    return '"'.join(parts)


def _alike(what: object, ports: list[str]) -> object:
    """A reply without what is a node's own: its names, its ports."""
    if not isinstance(what, bytes):
        return what
    for port in ports:
        what = what.replace(port.encode(), b"PORT")
    return re.sub(rb"\b[0-9a-f]{40}\b", b"ID", what)


def _played(server: Server, text: str) -> list[tuple[str, object]]:
    with server.client() as client:
        client.call("FLUSHALL")
        me = client.call("CLUSTER", "MYID").split()[1].decode()
    ports = [server.argv[server.argv.index(name) + 1] for name in ("--port", "--cluster-port")]
    steps = Play(server).run(_with_tags(text).replace("<me>", me))
    return [(step.replace(me, "<me>"), _alike(what, ports)) for step, what in steps]


def _compare(node_of: NodeOf, kind: str, text: str) -> None:
    theirs = _played(node_of(kind), text)
    ours = _played(node_of(COMPAT[kind]), text)
    for (step, got), (_, wanted) in zip(ours, theirs, strict=True):
        assert got == wanted, f"{step}\n  ours:   {got!r}\n  theirs: {wanted!r}"


@pytest.mark.parametrize("kind", COMPAT)
@pytest.mark.parametrize("name", PLAYS)
def test_answers_are_those_of_a_real_node(name: str, kind: str, node_of: NodeOf) -> None:
    _compare(node_of, kind, PLAYS[name])


@pytest.mark.parametrize("name", _NEWER)
def test_answers_are_those_of_a_newer_node(name: str, node_of: NodeOf) -> None:
    _compare(node_of, "valkey", _NEWER[name])


@pytest.mark.parametrize("name", _OLDER)
def test_answers_are_those_of_an_older_node(name: str, node_of: NodeOf) -> None:
    _compare(node_of, "redis", _OLDER[name])


# -- what needs other nodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    ["MEET 127.0.0.1 7000", "DELSLOTS 1 2", "DELSLOTSRANGE 1 9", "FLUSHSLOTS", "RESET", "RESET HARD"],
)
def test_what_would_make_a_cluster_of_several_nodes_is_refused(request_: str, node_of: NodeOf) -> None:
    name = request_.split()[0]
    with node_of("7.0").client() as client:
        client.call("FLUSHALL")
        assert (
            client.call("CLUSTER", *request_.split())
            == (
                f"-ERR CLUSTER {name} is not supported: this server is the one node of its cluster, with all slots\r\n"
            ).encode()
        )
        assert b"cluster_slots_ok:16384" in client.call("CLUSTER", "INFO")


def test_every_subcommand_is_refused_where_the_server_is_no_node(kvstore_server: Server) -> None:
    with kvstore_server.client() as client:
        for words in ("INFO", "SLOTS", "KEYSLOT a", "MYID", "HELP", "MEET a 1", "ADDSLOTS 1"):
            assert client.call("CLUSTER", *words.split()) == (
                b"-ERR This instance has cluster support disabled\r\n"
            )
        client.call("MULTI")
        assert client.call("MSET", "a", "1", "b", "2") == b"+QUEUED\r\n"
        client.call("DISCARD")


def test_help_names_every_subcommand(node_of: NodeOf) -> None:
    with node_of("8.0").client() as client:
        text = client.call("CLUSTER", "HELP").decode()
    assert "+CLUSTER <subcommand>" in text
    for form in (
        "KEYSLOT <key>",
        "GETKEYSINSLOT <slot> <count>",
        "SETSLOT <slot> (IMPORTING",
        "SHARDS",
        "HELP",
    ):
        assert f"\r\n+{form}" in text


def test_keys_are_found_by_their_slot(node_of: NodeOf) -> None:
    with node_of("7.0").client() as client:
        client.call("FLUSHALL")
        for number in range(50):
            client.call("SET", f"{{user}}{number}", "v")
            client.call("SET", f"other{number}", "v")
        slot = slot_of(b"user")
        there = 50 + sum(slot_of(b"other%d" % number) == slot for number in range(50))
        assert client.call("CLUSTER", "COUNTKEYSINSLOT", slot) == b":%d\r\n" % there
        assert client.call("CLUSTER", "GETKEYSINSLOT", slot, 7).count(b"{user}") == 7
        assert client.call("CLUSTER", "GETKEYSINSLOT", slot, 1000).count(b"{user}") == 50


def test_a_client_that_only_reads_is_marked(node_of: NodeOf) -> None:
    with node_of("7.0").client(tcp=True) as client:
        for request_, mark in (("READONLY", b"r"), ("READWRITE", b"N"), ("READONLY", b"r"), ("RESET", b"N")):
            client.call(request_)
            assert b" flags=" + mark + b" " in client.call("CLIENT", "INFO")


# -- addresses -------------------------------------------------------------------------------------------------


def test_clients_are_told_the_address_that_they_came_to(node_of: NodeOf) -> None:
    server = node_of("7.0")
    with server.client(tcp=True) as client:
        assert b"$9\r\n127.0.0.1\r\n:%d\r\n" % server.port in client.call("CLUSTER", "SLOTS")
        assert b" 127.0.0.1:%d@" % server.port in client.call("CLUSTER", "NODES")
    with server.client() as client:  # a Unix socket has none
        assert b"$0\r\n\r\n:%d\r\n" % server.port in client.call("CLUSTER", "SLOTS")
