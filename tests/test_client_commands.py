"""CLIENT, HELLO, AUTH, RESET, QUIT: byte for byte as a real server has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.conftest import require
from tests.rawclient import parse
from tests.scenario import compare
from tests.servers import Server

PLAYS = {
    "names": """
        a> CLIENT GETNAME
        a> CLIENT SETNAME bob
        a> CLIENT GETNAME
        a> CLIENT SETNAME "a b"
        a> CLIENT SETNAME "a\\nb"
        a> CLIENT GETNAME
        a> CLIENT SETNAME ""
        a> CLIENT GETNAME
        a3> CLIENT GETNAME
        a> CLIENT SETNAME
        a> CLIENT GETNAME x
    """,
    "no tracking": """
        a> CLIENT GETREDIR
        a> CLIENT TRACKINGINFO
        a3> CLIENT TRACKINGINFO
    """,
    "SETINFO": """
        a> CLIENT SETINFO LIB-NAME redis-py
        a> CLIENT SETINFO lib-ver 1.2.3
        a> CLIENT SETINFO lib-ver ""
        a> CLIENT SETINFO lib-ver "1 2"
        a> CLIENT SETINFO LIB-NAME "a\\rb"
        a> CLIENT SETINFO other x
        a> CLIENT SETINFO LIB-NAME
    """,
    "wrong forms": """
        a> CLIENT
        a> CLIENT NOSUCH
        a> CLIENT NOSUCH x y
        a> CLIENT ID x
        a> CLIENT KILL
        a> CLIENT KILL 1
        a> CLIENT KILL a b
        a> CLIENT KILL ID x
        a> CLIENT KILL ID 0
        a> CLIENT KILL ID -1
        a> CLIENT KILL ID 99999999
        a> CLIENT KILL ID 99999999 ID
        a> CLIENT KILL TYPE nosuch
        a> CLIENT KILL TYPE master
        a> CLIENT KILL TYPE replica SKIPME no
        a> CLIENT KILL USER nosuch
        a> CLIENT KILL USER nosuch ID x
        a> CLIENT KILL SKIPME maybe
        a> CLIENT KILL SKIPME no ADDR 1.2.3.4:5
        a> CLIENT KILL LADDR 1.2.3.4:5 ID
        a> CLIENT LIST TYPE
        a> CLIENT LIST TYPE nosuch
        a> CLIENT LIST TYPE master
        a> CLIENT LIST TYPE normal x
        a> CLIENT LIST ID
        a> CLIENT LIST ID x
        a> CLIENT LIST ID 0 -1
        a> CLIENT LIST ID 1 x
        a> CLIENT LIST NOSUCH x
        a> CLIENT REPLY nosuch
        a> CLIENT REPLY ON
        a> CLIENT NO-EVICT nosuch
        a> CLIENT NO-EVICT on
        a> CLIENT NO-TOUCH nosuch
        a> CLIENT NO-TOUCH ON
        a> CLIENT NO-TOUCH off
        a> CLIENT PAUSE
        a> CLIENT PAUSE x
        a> CLIENT PAUSE -1
        a> CLIENT PAUSE 1 nosuch
        a> CLIENT PAUSE x nosuch
        a> CLIENT PAUSE 1 WRITE x
        a> CLIENT PAUSE 9223372036854775807 WRITE
        a> CLIENT UNPAUSE x
        a> CLIENT UNBLOCK x
        a> CLIENT UNBLOCK 9999999
        a> CLIENT UNBLOCK -1
        a> CLIENT UNBLOCK 1 nosuch
        a> CLIENT UNBLOCK x nosuch
        a> CLIENT UNBLOCK 1 ERROR x
        a> CLIENT HELP x
    """,
    "KILL by number": """
        a> PING
        b> CLIENT KILL ID {a}
        a!
        b> CLIENT KILL ID {b}
        b> CLIENT KILL ID {b} SKIPME no
        b!
    """,
    "KILL by filters together": """
        a> PING
        b> CLIENT KILL ID {a} TYPE pubsub
        a> SUBSCRIBE x
        b> CLIENT KILL ID {a} TYPE normal
        b> CLIENT KILL ID {a} TYPE pubsub USER default
        a!
    """,
    "KILL of oneself runs nothing more": """
        a> PING
        a+ CLIENT KILL ID {a} SKIPME no
        a: SET k v
        a<
        a!
        b> GET k
    """,
    "REPLY": """
        a: CLIENT REPLY OFF
        a: SET k 1
        a: NOSUCH
        a: SUBSCRIBE x
        a<
        a: UNSUBSCRIBE x
        a<
        a> CLIENT REPLY ON
        a: CLIENT REPLY SKIP
        a: INCR k
        a> INCR k
        a: CLIENT REPLY SKIP
        a: CLIENT REPLY SKIP
        a: INCR k
        a> INCR k
        a: CLIENT REPLY OFF
        a: CLIENT REPLY SKIP
        a: INCR k
        a: INCR k
        a> CLIENT REPLY ON
        a: CLIENT REPLY SKIP
        a> CLIENT REPLY ON
        a> PING
    """,
    "messages reach a client that asked for no replies": """
        a3> SUBSCRIBE x
        a3: CLIENT REPLY OFF
        a3: PING
        a3> CLIENT REPLY ON
        b> PUBLISH x 1
        a3<
    """,
    "PAUSE of writes": """
        a> CLIENT PAUSE 100000 WRITE
        a> GET k
        b: SET k v
        blocked 1
        c: PUBLISH x y
        blocked 2
        d: MULTI
        d<
        d> GET k
        d: INCR n
        blocked 3
        e: EVAL "return 1" 0
        blocked 4
        f> EVAL_RO "return 1" 0
        a> CLIENT UNPAUSE
        b<
        c<
        d<
        d> EXEC
        e<
        a> GET k
        blocked 0
    """,
    "PAUSE of everything": """
        a> CLIENT PAUSE 150 ALL
        a> PING
        b> CLIENT PAUSE 150
        b> CLIENT UNPAUSE
        c> GET k
    """,
    "a pause ends by itself, and what waited runs in order": """
        a> CLIENT PAUSE 100 WRITE
        b: SET k 1
        b: INCR k
        b: INCR k
        b<
        b<
        b<
    """,
    "a longer pause stays, a stricter one too": """
        a> CLIENT PAUSE 100000 WRITE
        a> CLIENT PAUSE 1 WRITE
        sleep 0.05
        b: SET k v
        blocked 1
        a> GET k
        a> CLIENT UNPAUSE
        b<
    """,
    "a transaction queued before the pause": """
        a> MULTI
        a> SET k v
        b> CLIENT PAUSE 100000 WRITE
        a: EXEC
        blocked 1
        b> GET k
        b> CLIENT UNPAUSE
        a<
    """,
    "a client that is put off may be killed": """
        b> CLIENT PAUSE 100000 WRITE
        a: SET k v
        blocked 1
        b> CLIENT KILL ID {a}
        a!
        b> CLIENT UNPAUSE
        b> GET k
    """,
    "clients that were blocked before a pause": """
        a: BLPOP k 0
        blocked 1
        b> CLIENT PAUSE 100000 WRITE
        b> CLIENT UNBLOCK {a} ERROR
        a<
        b> CLIENT UNPAUSE
        b> RPUSH k v
        b> LLEN k
    """,
    "HELLO": """
        a> HELLO 1
        a> HELLO 4
        a> HELLO x
        a> HELLO 2 NOSUCH
        a> HELLO 2 SETNAME
        a> HELLO 2 SETNAME "a b"
        a> HELLO 2 AUTH
        a> HELLO 2 AUTH default
        a> HELLO 2 AUTH nosuch x
        a~ HELLO 2 AUTH default x SETNAME bob
        a> CLIENT GETNAME
        a~ HELLO 3
        a> HGETALL h
        a> HELLO 4
        a> HGETALL h
        a~ HELLO
        a> HGETALL h
        a~ HELLO 2
        a> HGETALL h
    """,
    "AUTH without a password": """
        a> AUTH
        a> AUTH x
        a> AUTH default x
        a> AUTH nosuch x
        a> AUTH a b c
    """,
    "RESET": """
        a3> SELECT 4
        a3> CLIENT SETNAME bob
        a3> WATCH k
        a3> MULTI
        a3> RESET
        a3> CLIENT GETNAME
        a3> SET k v
        a3> HGETALL h
        b> GET k
        a> CLIENT REPLY ON
        a> RESET x
    """,
    "QUIT": """
        a+ QUIT
        a: SET k v
        a<
        a!
        b> GET k
        b> QUIT now please
        b!
    """,
    "SELECT": """
        a> SELECT 0
        a> SELECT 15
        a> SELECT 16
        a> SELECT -1
        a> SELECT x
        a> SELECT 1.0
        a> SELECT
        a> SELECT 99999999999999999999
    """,
    "PING and ECHO": """
        a> PING
        a> PING x
        a> PING x y
        a> ECHO x
        a> ECHO
        a3> PING
        a3> PING x
    """,
    "unknown commands": """
        a> NOSUCH
        a> NOSUCH a b
        a> "\\r\\n" x
        a> "a b" "c d"
        a> NOSUCH aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
        a> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        a> ""
    """,
}

# With a password set.
LOCKED_PLAYS = {
    "what a client may do before it has logged in": """
        a> PING
        a> GET
        a> NOSUCH
        a> CLIENT NOSUCH
        a> CLIENT
        a> SELECT 1
        a> HELLO 3
        a> HELLO 2 SETNAME x
        a> MULTI
        a> RESET
        a> AUTH wrong
        a> AUTH default wrong
        a> AUTH nosuch secret
        a> AUTH secret
        a> PING
        a> AUTH wrong
        a> PING
        a> RESET
        a> PING
        a~ HELLO 3 AUTH default secret
        a> PING
        a> QUIT
        a!
    """,
    "QUIT before": """
        a> QUIT
        a!
    """,
    "requests sent together with the login": """
        a+ PING
        a+ AUTH secret
        a+ SELECT 1
        a+ PING
        a: GET k
        a<
        a<
        a<
        a<
        a<
        b+ AUTH secret
        b+ RESET
        b+ PING
        b+ AUTH secret
        b: PING
        b<
        b<
        b<
        b<
        b<
    """,
}


@pytest.mark.parametrize("name", PLAYS)
def test_clients_are_served_as_on_a_real_server(
    name: str, kvstore_server: Server, valkey_server: Server
) -> None:
    compare(kvstore_server, valkey_server, PLAYS[name])


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[Server, Server]]:
    """kvstore and valkey with a password."""
    require("valkey")
    options = {"requirepass": "secret"}
    with (
        servers.running("kvstore", options=options) as ours,
        servers.running("valkey", options=options) as theirs,
    ):
        yield ours, theirs


@pytest.mark.parametrize("name", LOCKED_PLAYS)
def test_a_password_locks_as_on_a_real_server(name: str, locked: tuple[Server, Server]) -> None:
    compare(*locked, LOCKED_PLAYS[name])


# -- what differs from run to run ------------------------------------------------------------------------


def fields(line: bytes) -> dict[str, str]:
    """The fields of a client's line."""
    return dict(part.split("=", 1) for part in line.decode().split())


def lines(server: Server, *words: str) -> list[dict[str, str]]:
    with server.client() as client:
        reply = client.call("CLIENT", *words)
        return [fields(line) for line in parse(reply).text.splitlines()]


def test_the_list_has_the_fields_of_7_4_in_their_order(kvstore_server: Server) -> None:
    names = [
        "id",
        "addr",
        "laddr",
        "fd",
        "name",
        "age",
        "idle",
        "flags",
        "db",
        "sub",
        "psub",
        "ssub",
        "multi",
        "watch",
        "qbuf",
        "qbuf-free",
        "argv-mem",
        "multi-mem",
        "rbs",
        "rbp",
        "obl",
        "oll",
        "omem",
        "tot-mem",
        "events",
        "cmd",
        "user",
        "redir",
        "resp",
        "lib-name",
        "lib-ver",
    ]
    assert list(lines(kvstore_server, "INFO")[0]) == names
    assert list(lines(kvstore_server, "LIST")[0]) == names


TOLD = (
    "name",
    "flags",
    "db",
    "sub",
    "psub",
    "ssub",
    "multi",
    "cmd",
    "user",
    "redir",
    "resp",
    "lib-name",
    "lib-ver",
)


def described(server: Server, *setup: tuple[str, ...]) -> dict[str, str]:
    """What the list tells of a client after it has sent some commands."""
    with server.client() as client:
        number = client.call("CLIENT", "ID").strip()[1:].decode()
        for words in setup:
            client.send(*words)
        with server.client() as other:
            while True:
                found = [
                    fields(line)
                    for line in parse(other.call("CLIENT", "LIST", "ID", number)).text.splitlines()
                ]
                if found and found[0]["cmd"] == setup[-1][0]:
                    return {name: found[0][name] for name in TOLD}


@pytest.mark.parametrize(
    "setup",
    [
        [("ping",)],
        [("SELECT", "3"), ("CLIENT", "SETNAME", "bob"), ("CLIENT", "SETINFO", "LIB-NAME", "x"), ("get", "k")],
        [("HELLO", "3"), ("SUBSCRIBE", "a", "b"), ("PSUBSCRIBE", "p"), ("SSUBSCRIBE", "s"), ("ping",)],
        [("SUBSCRIBE", "a"), ("psubscribe", "b")],
        [("MULTI",), ("SET", "k", "v"), ("get", "k")],
        [("blpop", "nothing", "0")],
        [("monitor",)],
        [("CLIENT", "NO-EVICT", "on"), ("CLIENT", "NO-TOUCH", "on"), ("get", "k")],
    ],
    ids=lambda setup: " ".join(setup[-1]) + f" after {len(setup) - 1}",
)
def test_the_list_describes_clients_as_a_real_server_does(
    setup: list[tuple[str, ...]], kvstore_server: Server, valkey_server: Server
) -> None:
    assert described(kvstore_server, *setup) == described(valkey_server, *setup)


def test_the_list_is_a_verbatim_string_under_resp3(any_server: Server) -> None:
    with any_server.client() as client:
        client.hello3()
        assert client.call("CLIENT", "LIST").startswith(b"=")
        assert client.call("CLIENT", "INFO").startswith(b"=")


def test_numbers_grow_and_choose(kvstore_server: Server) -> None:
    with kvstore_server.client() as one, kvstore_server.client() as two:
        first, second = (int(client.call("CLIENT", "ID")[1:]) for client in (one, two))
        assert second > first
        chosen = [
            fields(line)["id"]
            for line in parse(one.call("CLIENT", "LIST", "ID", second, 10**9, first)).text.splitlines()
        ]
        assert chosen == [str(second), str(first)]


def test_addresses_of_tcp_clients_choose_whom_to_close(any_server: Server) -> None:
    with (
        any_server.client(tcp=True) as victim,
        any_server.client(tcp=True) as other,
        any_server.client() as third,
    ):
        host, port = victim.sock.getsockname()
        found = fields(parse(victim.call("CLIENT", "INFO")).text)
        assert found["addr"] == f"{host}:{port}"
        assert found["laddr"] == f"127.0.0.1:{any_server.port}"
        assert third.call("CLIENT", "KILL", f"{host}:{port}") == b"+OK\r\n"
        assert victim.at_end()
        other_port = other.sock.getsockname()[1]
        assert third.call("CLIENT", "KILL", "ADDR", f"127.0.0.1:{other_port}") == b":1\r\n"
        assert other.at_end()


def test_a_client_that_does_not_touch_leaves_no_trace(kvstore_server: Server) -> None:
    with kvstore_server.client() as reader, kvstore_server.client() as other:
        other.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu", "lfu-log-factor", "0")
        try:
            other.call("SET", "touched", "v")
            before = other.call("OBJECT", "FREQ", "touched")
            reader.call("CLIENT", "NO-TOUCH", "on")
            for _ in range(5):
                reader.call("GET", "touched")
            assert other.call("OBJECT", "FREQ", "touched") == before
            reader.call("TOUCH", "touched")
            assert other.call("OBJECT", "FREQ", "touched") != before
        finally:
            other.call("CONFIG", "SET", "maxmemory-policy", "noeviction", "lfu-log-factor", "10")
