"""Access control lists: every answer, refusal and disconnection is a real server's."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests import servers
from tests.conftest import require
from tests.rawclient import RawClient, parse
from tests.scenario import compare
from tests.servers import Server
from tests.test_command_table import plain

PLAYS = {
    "users by rules": """
        a> ACL LIST
        a> ACL SETUSER ann
        a> ACL GETUSER ann
        a3> ACL GETUSER ann
        a> ACL SETUSER ann on >secret +get -set +config|get +select|0 +@read -@fast ~a* %R~b* %W~c* %RW~d* &x
        a> ACL SETUSER ann "(+set ~z*)" "(%R~k" "+get)"
        a> ACL LIST
        a> ACL USERS
        a> ACL GETUSER ann
        a3> ACL GETUSER ann
        a> ACL SETUSER ann clearselectors resetkeys resetchannels resetpass off
        a> ACL GETUSER ann
        a> ACL SETUSER ann reset
        a> ACL GETUSER ann
        a> ACL SETUSER ann ALLKEYS ALLCHANNELS ALLCOMMANDS ON NOPASS
        a> ACL LIST
        a> ACL SETUSER ann nocommands
        a> ACL LIST
        a> ACL SETUSER ann skip-sanitize-payload
        a> ACL LIST
        a> ACL SETUSER ann sanitize-payload >p >p <p nopass
        a> ACL LIST
        a> ACL SETUSER ""
        a> ACL LIST
        a> ACL DELUSER ann nobody "" ann
        a> ACL GETUSER ann
        a3> ACL GETUSER ann
        a> ACL WHOAMI
        a> ACL DELUSER default
        a> ACL DELUSER ann default
    """,
    "rules of commands in their order": """
        a> ACL SETUSER ann +@all -@dangerous +keys
        a> ACL LIST
        a> ACL SETUSER ann -keys +KEYS -@DANGEROUS
        a> ACL LIST
        a> ACL SETUSER ann reset +config|get +CONFIG|set -config
        a> ACL LIST
        a> ACL SETUSER ann +config -config|get +config|get
        a> ACL LIST
        a> ACL SETUSER ann reset +select|0 +select|1 +select|A +select|a
        a> ACL LIST
        a> ACL SETUSER ann +select
        a> ACL LIST
        a> ACL SETUSER ann -select
        a> ACL LIST
        a> ACL SETUSER ann reset +select +select|0
        a> ACL LIST
        a> ACL DRYRUN ann select 5
        a> ACL SETUSER ann reset %wr~x %r~y %w~y %R
        a> ACL LIST
        a> ACL SETUSER ann "+get\\x00x" "on\\x00x" "(~a\\x00b)" () "( )" "(+get" "~x" ")"
        a> ACL LIST
        a> ACL DELUSER ann
    """,
    "rules that cannot be": """
        a> ACL SETUSER ann on
        a> ACL SETUSER "b b"
        a> ACL SETUSER "b\\x00"
        a> ACL SETUSER ann (+get
        a> ACL SETUSER ann "(+get" ~x
        a> ACL SETUSER ann +nosuch
        a> ACL SETUSER ann -nosuch
        a> ACL SETUSER ann -get|x
        a> ACL SETUSER ann +get|
        a> ACL SETUSER ann +config|get|x
        a> ACL SETUSER ann +config|nosuch
        a> ACL SETUSER ann +config|
        a> ACL SETUSER ann -config|
        a> ACL SETUSER ann +nosuch|x
        a> ACL SETUSER ann +@nosuch
        a> ACL SETUSER ann -@nosuch
        a> ACL SETUSER ann +@
        a> ACL SETUSER ann +
        a> ACL SETUSER ann foo
        a> ACL SETUSER ann )
        a> ACL SETUSER ann allkeys ~x
        a> ACL SETUSER ann allchannels &x
        a> ACL SETUSER ann <nopw
        a> ACL SETUSER ann !nopw
        a> ACL SETUSER ann #abc
        a> ACL SETUSER ann #2BD806C97F0E00AF1A1FC3328FA763A9269723C8DB8FAC4F93AF71DB186D6E90
        a> ACL SETUSER ann !2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90
        a> ACL SETUSER ann %X~k
        a> ACL SETUSER ann %~k
        a> ACL SETUSER ann %RR~k
        a> ACL SETUSER ann "~a b"
        a> ACL SETUSER ann "~a\\x00b"
        a> ACL SETUSER ann "&a b"
        a> ACL SETUSER ann (foo)
        a> ACL SETUSER ann (on)
        a> ACL SETUSER ann (reset)
        a> ACL SETUSER ann "(+nosuch)"
        a> ACL SETUSER ann "((+get))"
        a> ACL SETUSER ann +get ~k foo
        a> ACL GETUSER ann
        a> ACL DELUSER ann
    """,
    "words of subcommands": """
        a> ACL
        a> ACL FOO
        a> ACL CAT
        a> ACL CAT nosuch
        a> ACL CAT @read
        a> ACL CAT a b
        a> ACL CAT admin x
        a> ACL GETUSER
        a> ACL GETUSER a b
        a> ACL LIST x
        a> ACL WHOAMI x
        a> ACL GENPASS 0
        a> ACL GENPASS -1
        a> ACL GENPASS 4097
        a> ACL GENPASS x
        a> ACL GENPASS 1 2
        a> ACL LOG RESET
        a> ACL LOG
        a> ACL LOG x
        a> ACL LOG -1
        a> ACL LOG 1 2
        a> ACL DRYRUN nobody get x
        a> ACL DRYRUN default nosuch x
        a> ACL DRYRUN default
        a> ACL DRYRUN default get
        a> ACL DRYRUN default get k
        a> ACL DRYRUN default config|get k
        a> ACL DRYRUN default config
        a> ACL DRYRUN default config nosuch
        a> ACL SETUSER
    """,
    "what a user may run": """
        a> ACL SETUSER ann on >secret ~k* %R~r* %W~w* &n* +get +set +mget +del +select|1 +config|get +publish +subscribe +psubscribe
        b> AUTH ann wrong
        b> AUTH nobody secret
        b> AUTH ann secret
        b> ACL WHOAMI
        b> GET k
        b> GET r
        b> GET w
        b> GET x
        b> SET k v
        b> SET w v
        b> SET r v
        b> SET k v GET
        b> SET w v GET
        b> MGET k r w
        b> DEL k x
        b> INCR k
        b> GETX
        b> GET
        b> SELECT 0
        b> SELECT 1
        b> CONFIG
        b> CONFIG FOO
        b> CONFIG SET a b
        b> CONFIG GET port x
        b. CONFIG GET maxclients
        b> PUBLISH x y
        b> PUBLISH news y
        b> PSUBSCRIBE n?
        b> SUBSCRIBE news x
        b> AUTH ann
        b> AUTH x y z
        b> PSUBSCRIBE n*
        b> GET k
        b> QUIT
        a> ACL DELUSER ann
    """,
    "what is refused first": """
        a> ACL SETUSER ann on nopass +@all -get -debug -set ~k &n
        b> AUTH ann x
        b> DEBUG SLEEP 0
        b> SUBSCRIBE n
        b> GET k
        b> GET
        b> LPUSH k v
        b> SUBSCRIBE x
        b> PING
        b> RESET
        b> AUTH ann x
        a> CLIENT PAUSE 300 ALL
        b> GET k
        b> LPUSH x v
        b> MULTI
        b> SUBSCRIBE x
        b> MULTI
        b> DEBUG SLEEP 0
        b> WATCH x
        b> EXEC
        c> DEBUG SLEEP 0
        c> MULTI
        c> DEBUG SLEEP 0
        c> EXEC
        a> ACL DELUSER ann
    """,
    "selectors": """
        a> ACL SETUSER ann on nopass +get ~a* (+set ~b*) (+get ~b*) (+@all ~c* -del)
        b> AUTH ann x
        b> GET a
        b> SET a v
        b> SET b v
        b> GET b
        b> DEL c
        b> MGET c a
        b> RENAME c b
        b> RENAME a c
        a> ACL DRYRUN ann rename c b
        a> ACL DRYRUN ann mset c 1 b 1
        a> ACL DRYRUN ann mset b 1 c 1 d 1
        a> ACL DRYRUN ann del c
        a> ACL DRYRUN ann publish c m
        a> ACL DRYRUN ann get "x\\x00y"
        b-
        a> ACL DELUSER ann
    """,
    "transactions": """
        a> ACL SETUSER ann on nopass +multi +exec +get +set +watch +discard ~k*
        b> AUTH ann x
        b> MULTI
        b> GET x
        b> EXEC
        b> MULTI
        b> DEL k
        b> SET k v
        b> EXEC
        b> MULTI
        b> WATCH k
        b> EXEC
        b> MULTI
        b> SET k v
        b> GET k
        a> ACL SETUSER ann -set
        b> EXEC
        b> MULTI
        b> GET k
        a> ACL SETUSER ann resetkeys
        b> EXEC
        a> ACL SETUSER ann ~k* +publish
        b> MULTI
        a> ACL SETUSER ann -exec
        b> EXEC
        b> GET k
        b> DISCARD
        a> ACL SETUSER ann +exec &n
        b> MULTI
        b> PUBLISH n x
        a> ACL SETUSER ann resetchannels
        b> EXEC
        b> MULTI
        b> AUTH nobody x
        b> AUTH default x
        b> DISCARD
        b> AUTH ann z
        b-
        a> ACL DELUSER ann
    """,
    "scripts": """
        a> ACL SETUSER ann on nopass +eval +eval_ro +get +set ~k* &n
        b> AUTH ann x
        b> EVAL "return redis.call('get','k')" 0
        b> EVAL "return redis.call('get','x')" 0
        b> EVAL "return redis.call('del','x')" 0
        b> EVAL "return redis.pcall('get','x')['err']" 0
        b> EVAL "return redis.pcall('publish','x','y')['err']" 0
        a> ACL SETUSER ann +publish +config|get
        b> EVAL "return redis.pcall('publish','x','y')['err']" 0
        b> EVAL "return redis.call('publish','n','y')" 0
        b> EVAL "return redis.pcall('config','get','x')['err']" 0
        b> EVAL "return {redis.acl_check_cmd('get','x') or 0, redis.acl_check_cmd('get','k'), redis.acl_check_cmd('get')}" 0
        b> EVAL "return {redis.acl_check_cmd('config','set','x','y') or 0, redis.acl_check_cmd('config','get','x')}" 0
        b> EVAL "return redis.call('get',KEYS[1])" 1 x
        b> EVAL_RO "return redis.call('set','x','y')" 0
        b> EVAL_RO "return redis.call('set','k','y')" 0
        b> EVALSHA 0000000000000000000000000000000000000000 0
        a> EVAL "return redis.acl_check_cmd('get','x')" 0
        b-
        a> ACL DELUSER ann
    """,
    "blocked while permissions change": """
        a> ACL SETUSER ann on nopass +blpop +bzpopmin ~k*
        b> AUTH ann x
        c> AUTH ann x
        d> AUTH ann x
        b: BLPOP k 0
        c: BLPOP k2 0
        d: BLPOP k3 0
        blocked 3
        a> LPUSH k2 v
        c<
        c: BLPOP k2 0
        blocked 3
        a> ACL SETUSER ann -blpop
        a> LPUSH k v
        b<
        a> LLEN k
        a> ACL SETUSER ann +blpop resetkeys ~k3
        a> RPUSH k2 v
        c<
        a> RPUSH k3 v
        d<
        b-
        c-
        d-
        a> ACL DELUSER ann
    """,
    "subscribers that may no longer listen": """
        a> ACL SETUSER ann on nopass +subscribe +psubscribe +ssubscribe +ping &a &b* &c
        b> AUTH ann x
        b> SUBSCRIBE a
        c> AUTH ann x
        c> PSUBSCRIBE b*
        d> AUTH ann x
        d> SSUBSCRIBE c
        e> AUTH ann x
        e> PING
        a> ACL SETUSER ann &d
        a> PUBLISH a m
        b<
        a> ACL SETUSER ann resetchannels &b* &c
        b!
        c> PING
        a> ACL SETUSER ann resetchannels &b &c
        c!
        d> PING
        a> ACL SETUSER ann resetchannels
        d!
        e> PING
        a> ACL SETUSER ann &a
        f> AUTH ann x
        f> SUBSCRIBE a
        a> ACL SETUSER ann allchannels
        f> PING
        a> ACL SETUSER ann resetchannels (&a)
        f> PING
        a> ACL SETUSER ann clearselectors
        f!
        a> ACL DELUSER ann
        e!
    """,
    "users who go": """
        a> ACL SETUSER ann on nopass +@all ~* &*
        a> ACL SETUSER bob on nopass +@all ~* &*
        b> AUTH ann x
        c> AUTH bob x
        d> AUTH bob x
        c: BLPOP k 0
        blocked 1
        b> ACL DELUSER bob
        c!
        d!
        b> ACL DELUSER ann
        b!
        a> ACL USERS
        a> ACL SETUSER ann on nopass +@all
        e> AUTH ann x
        a> ACL SETUSER ann off
        e> PING
        e> AUTH ann x
        e> RESET
        e> ACL WHOAMI
        e3> HELLO 3 AUTH ann x
        a> ACL SETUSER ann on >p
        e3~ HELLO 3 AUTH ann p
        e3> ACL WHOAMI
        e3> CLIENT KILL USER nobody
        a> CLIENT KILL USER ann
        e3!
        a> ACL DELUSER ann
    """,
    "the default user restricted": """
        a> ACL SETUSER ann on nopass +@all ~* &*
        a> AUTH ann x
        b> SET k v
        a> ACL SETUSER default -set resetkeys ~x
        b> SET k v
        b> GET k
        b> GET x
        c> GET k
        b3> GET k
        b> MULTI
        b> GET k
        b> EXEC
        a> ACL SETUSER default +set allkeys
        b> SET k v
        a> ACL SETUSER default reset +@all ~* &* on nopass
        a> ACL SETUSER default +@all
        b> SET k v
        b> DISCARD
        a> AUTH default x
        a> ACL DELUSER ann
    """,
}


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with servers.running("kvstore") as server:
        yield server


@pytest.fixture(scope="module")
def theirs() -> Iterator[Server]:
    require("valkey")
    with servers.running("valkey") as server:
        yield server


@pytest.mark.parametrize("name", PLAYS)
def test_users_are_those_of_a_real_server(name: str, ours: Server, theirs: Server) -> None:
    compare(ours, theirs, PLAYS[name])


PASSWORDS = """
    b> PING
    b> DEBUG SLEEP 0
    b> NOSUCH
    b> GET
    a: AUTH secret
    a<
    c> AUTH
    c> PING
    c> ACL WHOAMI
    c> HELLO 3
    c> HELLO 3 AUTH default wrong
    c. HELLO 3 AUTH default secret
    c> CONFIG GET requirepass
    a> ACL SETUSER default >other
    a> CONFIG GET requirepass
    d> AUTH other
    d> AUTH default secret
    a> CONFIG SET requirepass third
    a> ACL GETUSER default
    d> AUTH other
    d> PING
    d> RESET
    d> PING
    d> AUTH third
    a> ACL SETUSER default off
    d> PING
    e> PING
    e> AUTH third
    e> AUTH default third
    a> ACL SETUSER default on nopass
    e> PING
    e> AUTH anything
    a> ACL SETUSER default resetpass
    f> PING
    f> AUTH x
    a> CONFIG SET requirepass ""
    f> PING
    a> ACL GETUSER default
"""


def _talk(server: Server, text: str) -> list[tuple[str, object]]:
    """As a play, without what a play asks of each client before its first word."""
    clients: dict[str, RawClient] = {}
    heard: list[tuple[str, object]] = []
    try:
        for line in filter(None, map(str.strip, text.splitlines())):
            name, sign, words = line[0], line[1], shlex.split(line[2:])
            if name not in clients:
                clients[name] = server.client()
            if sign != "<":
                clients[name].send(*words)
            if sign != ":":
                reply = clients[name].read_reply_bytes()
                heard.append((line, reply if sign != "." else reply.split(b"\r\n")[0]))
    finally:
        for client in clients.values():
            client.close()
    return heard


def test_requirepass_is_the_password_of_the_default_user() -> None:
    require("valkey")
    heard = []
    for kind in ("kvstore", "valkey"):
        with servers.running(kind) as server:
            admin = server.client()
            admin.call("CONFIG", "SET", "requirepass", "secret")
            heard.append(_talk(server, PASSWORDS))
            admin.close()
    for (step, got), (_, wanted) in zip(*heard, strict=True):
        assert got == wanted, f"{step}\n  ours:   {got!r}\n  theirs: {wanted!r}"


# -- ACL LOG ---------------------------------------------------------------------------------------------

REFUSED = """
    a> ACL SETUSER ann on >p +get +eval +multi +exec +@connection +subscribe ~k*
    b> AUTH ann wrong
    b> AUTH ann wrong
    b> auth nobody wrong
    b> HELLO 3 AUTH nobody x
    b> AUTH ann p
    b> GET x
    b> GET y
    b> GET x
    b> SET k v
    b> CONFIG GET x
    b> SUBSCRIBE n
    b> EVAL "return(redis.call('set','k',1))" 0
    b> EVAL "return(redis.call('get','z'))" 0
    b> MULTI
    b> GET x
    b> SET k v
    b> EXEC
    b> MULTI
    b> GET k
    a> ACL SETUSER ann resetkeys
    b> EXEC
"""


def _entries(server: Server, *words: str) -> list[dict[str, object]]:
    with server.client() as client:
        client.hello3()
        found = plain(parse(client.call("ACL", "LOG", *words)))
    for entry in found:
        fields = dict(part.split("=", 1) for part in entry.pop("client-info").split(" "))
        entry["client"] = {name: fields[name] for name in ("db", "multi", "cmd", "user", "resp")}
        if fields["cmd"] == "exec":  # here it is the command that EXEC runs, and MULTI is over
            entry["client"] |= {"cmd": "get", "multi": "-1"}
        assert 0 <= float(entry.pop("age-seconds")) < 60
        assert entry.pop("timestamp-created") <= entry.pop("timestamp-last-updated")
    return found  # type: ignore[no-any-return]


def test_refusals_are_logged_counted_and_grouped_as_on_a_real_server() -> None:
    require("valkey")
    found = []
    for kind in ("kvstore", "valkey"):
        with servers.running(kind) as server:
            _talk(server, REFUSED)
            first, two, everything = _entries(server), _entries(server, "2"), _entries(server, "100")
            with server.client() as client:
                info = client.call("INFO", "stats").split(b"\r\n")
                counts = [line for line in info if line.startswith(b"acl_access_denied")]
                client.call("CONFIG", "SET", "acllog-max-len", "3")
                client.call("ACL", "DELUSER", "ann")
            shortened = _entries(server, "100")
            with server.client() as client:
                client.call("AUTH", "x", "y")
                assert len(_entries(server, "100")) == 3
                assert client.call("ACL", "LOG", "RESET") == b"+OK\r\n"
                client.call("AUTH", "x", "z")
                after = _entries(server)
                client.call("CONFIG", "SET", "acllog-max-len", "0")
                client.call("AUTH", "x", "y")
                none = _entries(server)
                client.call("CONFIG", "RESETSTAT")
                counts += [line for line in client.call("INFO", "stats").split(b"\r\n") if b"acl_" in line]
            found.append((first, two, everything, counts, shortened, after, none))
    ours, theirs = found
    assert len(ours[2]) > 10
    for got, wanted in zip(ours, theirs, strict=True):
        assert got == wanted
