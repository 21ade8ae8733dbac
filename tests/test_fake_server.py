"""What a test's author can say of a fake server: its version and limits, its luck, its time, its disk, whether it is
part of a cluster; and what it tells of the commands that clients sent."""

from __future__ import annotations

import datetime
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import redis

from kvstore.commands.config import ConfigError
from kvstore.commands.slots import slot_of
from kvstore.errors import ResponseError
from kvstore.fake import FakeServer
from kvstore.fake.seen import MOST_SEEN
from tests import servers
from tests.conftest import require
from tests.fake_clients import async_client_of, client_of, close, connection_of, says
from tests.seeds import new_seed

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3])


def requests_in(text: str) -> list[list[str]]:
    return [
        [word.replace("\\n", "\n") for word in shlex.split(each)]
        for line in text.splitlines()
        for each in line.split("|")
    ]


# -- what it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "whole", "unknown", "known"),
    [
        ("7.0", "7.0.15", "WAITAOF", "EXPIRETIME"),
        ("7.2", "7.2.4", "HPEXPIRE", "WAITAOF"),
        ("7.4", "7.4.0", "HGETEX", "HPEXPIRE"),
        ("8.0", "8.0.0", "DELEX", "HGETEX"),
        ("8.4", "8.4.0", "DELIFEQ", "DELEX"),
        ("9.0", "9.0.0", "NOSUCH", "DELIFEQ"),
        (None, "7.4.0", "HGETEX", "HPEXPIRE"),
    ],
)
def test_commands_newer_than_the_version_are_unknown(
    version: str | None, whole: str, unknown: str, known: str
) -> None:
    client = client_of(FakeServer(version=version))
    assert client.info("server")["redis_version"] == whole
    with pytest.raises(redis.ResponseError, match=f"unknown command '{unknown}'"):
        client.execute_command(unknown)
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command(known)


@PROTOCOLS
def test_disabled_commands_are_unknown_in_every_place(protocol: int) -> None:
    server = FakeServer(disabled_commands={"keys", "CONFIG SET", "client|kill"})
    client = client_of(server, protocol=protocol)
    with pytest.raises(redis.ResponseError, match="unknown command 'KEYS', with args beginning with: '\\*'"):
        client.keys()
    with pytest.raises(redis.ResponseError, match=r"unknown subcommand 'SET'\. Try CONFIG HELP\."):
        client.config_set("maxmemory", 0)
    assert client.config_get("maxmemory") == {"maxmemory": "0"}
    with pytest.raises(redis.ResponseError, match="Unknown Redis command called from script"):
        client.eval("return redis.call('keys', '*')", 0)
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.pipeline().keys().execute()
    assert says(connection_of(client), "COMMAND", "INFO", "keys") == [None]
    assert client_of(FakeServer()).keys() == []


def test_limits_hold() -> None:
    client = client_of(FakeServer(databases=2, max_memory="1mb", config={"maxmemory_policy": "allkeys-lru"}))
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        client.select(2)
    for at in range(30):
        client.set(f"k{at}", b"x" * 100_000)
    assert 0 < client.dbsize() < 15
    assert client.info("stats")["evicted_keys"] > 15


def test_a_full_memory_refuses_what_would_grow_it() -> None:
    client = client_of(FakeServer(max_memory=200_000))
    client.set("k", b"x" * 300_000)
    with pytest.raises(redis.OutOfMemoryError, match="command not allowed when used memory > 'maxmemory'"):
        client.set("l", "x")
    assert client.delete("k") == 1
    assert client.set("l", "x")


def test_a_password_is_asked_for() -> None:
    server = FakeServer(password="secret")
    with pytest.raises(redis.AuthenticationError):
        client_of(server).ping()
    with pytest.raises(redis.AuthenticationError):
        client_of(server, password="wrong").ping()
    for protocol in (2, 3):
        assert client_of(server, password="secret", protocol=protocol).ping()


def test_what_does_not_exist_is_refused() -> None:
    for kwargs in ({"disabled_commands": ["KEY"]}, {"disabled_commands": "KEYS"}):
        with pytest.raises(ValueError):
            FakeServer(**kwargs)
    for kwargs in (
        {"version": "6.0"},
        {"databases": 0},
        {"max_memory": "much"},
        {"config": {"nosuch": 1}},
        {"config": {"maxmemory-policy": "nosuch"}},
    ):
        with pytest.raises(ConfigError):
            FakeServer(**kwargs)


# -- luck ------------------------------------------------------------------------------------------------------

LUCK = """
import sys
from kvstore.fake.server import FakeServer

server = FakeServer(seed=sys.argv[1])
server.freeze_time(1_700_000_000)
line = server.open()

def ask(*words):
    line.send([[str(word).encode() for word in words]])
    reply = line.out.popleft()
    print(words[0], reply)

names = [f"n{i}" for i in range(300)]
for name in names:
    ask("SET", name, 1)
ask("DEL", *names[::3])
ask("SADD", "s", *names)
ask("SADD", "s2", *names[::2])
ask("SADD", "few", *names[:20])
ask("HSET", "h", *[word for name in names for word in (name, 1)])
ask("ZADD", "z", *[word for name in names for word in (1, name)])
for words in (
    "SPOP s 5", "SPOP s", "SPOP few 3", "SRANDMEMBER s -4", "SRANDMEMBER s 4", "SRANDMEMBER few", "RANDOMKEY",
    "HRANDFIELD h 5", "ZRANDMEMBER z 5", "SCAN 0 COUNT 50", "SSCAN s 0 COUNT 300", "HSCAN h 0", "SMEMBERS few",
    "SINTER s s2", "SUNION s s2", "SDIFF s s2", "KEYS *", "CLIENT ID",
):
    ask(*words.split())
if sys.argv[2] == "lua":
    ask("EVAL", "return math.random(1000000)", 0)
    ask("EVAL", "local t, o = {}, {} for i = 1, 50 do t['k' .. i] = i end for k in pairs(t) do o[#o + 1] = k end return o", 0)
print("ids", [server.hub.host.run_id, server.hub.host.replication_id])
ask("CONFIG", "SET", "maxmemory", 1, "maxmemory-policy", "allkeys-random", "maxmemory-samples", 3)
ask("KEYS", "*")
"""


def played(seed: str, hash_seed: str) -> str:
    lua = "lua" if importlib.util.find_spec("lupa") else "none"
    done = subprocess.run(
        [sys.executable, "-c", LUCK, seed, lua],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout.decode()


def test_a_seed_fixes_all_luck_in_every_process() -> None:
    seed = str(new_seed())
    first = played(seed, "1")
    assert played(seed, "2") == first
    other = played(seed + "0", "1")
    assert [line.split(" ", 1)[0] for line in other.splitlines()] == [
        line.split(" ", 1)[0] for line in first.splitlines()
    ]
    assert other != first


def test_without_a_seed_servers_differ() -> None:
    one, other = (client_of(FakeServer()) for _ in range(2))
    assert one.info("server")["run_id"] != other.info("server")["run_id"]
    for client in (one, other):
        client.sadd("s", *range(100))
    assert one.srandmember("s", 20) != other.srandmember("s", 20)


# -- time ----------------------------------------------------------------------------------------------------


@PROTOCOLS
def test_the_clock_that_moves_on_ends_what_had_an_end(protocol: int) -> None:
    server = FakeServer(config={"notify_keyspace_events": "Ex"})
    client = client_of(server, protocol=protocol)
    events = client.pubsub()
    events.subscribe("__keyevent@0__:expired")
    client.set("k", "v", ex=60)
    popped: list[Any] = []
    thread = threading.Thread(target=lambda: popped.append(client_of(server).blpop("l", timeout=3600)))
    thread.start()
    while not server.hub.blocked_clients:
        time.sleep(0.001)
    server.clock.advance(seconds=59)
    assert client.exists("k")
    server.clock.advance(seconds=1)
    assert not client.exists("k")
    assert [events.get_message()["data"] for _ in range(2)] == [1, b"k"]
    server.clock.advance(seconds=3600)
    thread.join(10)
    assert popped == [None]


def test_time_can_be_frozen_for_a_while_or_for_good() -> None:
    server = FakeServer()
    client = client_of(server)
    with server.freeze_time(at=1_000_000) as clock:
        assert client.time() == (1_000_000, 0)
        clock.advance(seconds=5)
        assert client.time() == (1_000_005, 0)
        with server.freeze_time():
            pass
        assert clock.is_frozen
    assert not server.clock.is_frozen
    server.freeze_time(at=datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.UTC))
    assert client.time() == (1_000_000_000, 0)
    client.set("k", "v", px=5)
    server.clock.advance(ms=5)
    assert client.get("k") is None


def module(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed, and CI must not run without it")
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


def test_freezegun_stops_and_moves_a_server() -> None:
    freezegun = module("freezegun")
    client = client_of(FakeServer())
    with freezegun.freeze_time("2030-01-01") as frozen:
        assert client.time()[0] == 1893456000
        client.set("k", "v", ex=10)
        frozen.tick(9)
        assert client.ttl("k") == 1
        frozen.tick(1)
        assert client.get("k") is None


def test_time_machine_stops_and_moves_a_server() -> None:
    time_machine = module("time_machine")
    client = client_of(FakeServer())
    with time_machine.travel(1893456000, tick=False) as traveller:
        assert client.time()[0] == 1893456000
        client.set("k", "v", ex=10)
        traveller.shift(9)
        assert client.ttl("k") == 1
        traveller.shift(1)
        assert client.get("k") is None


# -- what clients sent -------------------------------------------------------------------------------------------


@PROTOCOLS
def test_what_clients_sent_reads_as_it_was_written(protocol: int) -> None:
    server = FakeServer(password="secret")
    client = client_of(server, protocol=protocol, password="secret", db=1, client_name="me")
    client.set("greeting", "hello", ex=60)
    client.incrbyfloat("n", 1.5)
    client.config_get("maxmemory")
    commands = server.commands
    assert commands == [
        ("SET", "greeting", "hello", "EX", 60),
        ("INCRBYFLOAT", "n", 1.5),
        ("CONFIG GET", "maxmemory"),
    ]
    assert ("set", "greeting", b"hello", "EX", "60") in commands
    assert ("SET", (b"greeting", b"hello", b"EX", b"60")) in commands
    assert ("SET", "greeting") not in commands
    assert ("GET", "greeting") not in commands
    assert commands.names == ["SET", "INCRBYFLOAT", "CONFIG"]
    assert commands.of("config get") == commands.of("Config") == [("CONFIG", "GET", "maxmemory")]
    assert commands.of("CONFIG SET") == []
    first = commands[0]
    assert first == ("SET", (b"greeting", b"hello", b"EX", b"60"), client.client_id(), 1)
    assert first != ("SET", (b"greeting", b"hello", b"EX", b"60"), client.client_id(), 0)
    name, args, client_id, db = first
    assert (name, args[0], client_id, db) == ("SET", b"greeting", first.client, 1)
    assert commands.by(first.client)[-1] == ("CLIENT", "ID")
    commands.clear()
    assert commands == [] and len(commands) == 0


@PROTOCOLS
def test_transactions_scripts_and_refusals_are_seen_as_they_were_sent(protocol: int) -> None:
    server = FakeServer()
    client = client_of(server, protocol=protocol)
    client.pipeline().set("a", 1).get("a").execute()
    client.eval("return redis.call('get', 'a')", 0)
    with pytest.raises(redis.ResponseError):
        client.execute_command("nosuch")
    server.fail_next("GET", "ERR no")
    with pytest.raises(redis.ResponseError):
        client.get("a")
    assert server.commands.names == ["MULTI", "SET", "GET", "EXEC", "EVAL", "NOSUCH", "GET"]


def test_a_pipeline_that_selects_is_seen_in_its_databases() -> None:
    server = FakeServer()
    connection = connection_of(client_of(server))
    connection.send_packed_command(
        connection.pack_commands([("SET", "a", 1), ("SELECT", 3), ("SET", "b", 1), ("GET", "b")])
    )
    assert [(each.name, each.db) for each in server.commands] == [
        ("SET", 0),
        ("SELECT", 0),
        ("SET", 3),
        ("GET", 3),
    ]


def test_the_commands_of_an_asyncio_client_are_seen() -> None:
    import asyncio

    server = FakeServer()

    async def run() -> None:
        client = async_client_of(server, protocol=3, db=2)
        await client.set("a", 1)
        await client.pipeline(transaction=False).get("a").get("b").execute()
        await close(client)

    asyncio.run(run())
    assert server.commands == [("SET", "a", 1), ("GET", "a"), ("GET", "b")]
    assert {each.db for each in server.commands} == {2}


def test_only_the_last_commands_are_kept() -> None:
    server = FakeServer()
    client = client_of(server)
    client.set("first", 1)
    pipeline = client.pipeline(transaction=False)
    for at in range(MOST_SEEN):
        pipeline.get(at)
    pipeline.execute()
    assert len(server.commands) == MOST_SEEN
    assert server.commands[0] == ("GET", 0)
    assert server.commands[-1] == ("GET", MOST_SEEN - 1)


# -- a disk that may be full ---------------------------------------------------------------------------------------

# What a fake server and a real one count alike.
COUNTED = (
    "rdb_changes_since_last_save rdb_last_bgsave_status rdb_saves aof_enabled "
    "aof_last_bgrewrite_status aof_rewrites aof_rewrites_consecutive_failures"
).split()
ON_A_DISK = (
    "SET a 1|SAVE|SET a 2|SAVE x|BGSAVE|BGSAVE SCHEDULE|BGSAVE x|BGREWRITEAOF|MULTI|BGSAVE|EXEC|LASTSAVE x"
)
ON_A_FULL_DISK = """SET b 1|SAVE|SET b 1|BGSAVE|SET b 1|PING|GET b|PUBLISH a b|MULTI|SET b 1|EXEC|MULTI|GET b|EXEC
EVAL "return redis.call('set', 'b', '1')" 0|EVAL "#!lua\\nreturn 1" 0|EVAL "return 1" 0|SHUTDOWN|SHUTDOWN SAVE
CONFIG SET stop-writes-on-bgsave-error no|SET b 2|CONFIG SET stop-writes-on-bgsave-error yes|SET b 3
CONFIG SET save ""|SET b 4|CONFIG SET save "3600 1"|FLUSHALL|BGREWRITEAOF"""


def counted(client: Any) -> dict[str, Any]:
    """What INFO counts, once the real server's children have ended."""
    deadline = time.monotonic() + 20
    while True:
        info = client.info("persistence")
        if not info["rdb_bgsave_in_progress"] and not info["aof_rewrite_in_progress"]:
            return {name: info[name] for name in COUNTED}
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def real(kind: str, protocol: int, **options: str) -> Iterator[tuple[servers.Server, Any]]:
    require(kind)
    with servers.running(kind, tcp=True, options=options) as server:
        client = redis.Redis(port=server.port, protocol=protocol)
        yield server, client
        client.close()


@PROTOCOLS
def test_a_full_disk_shows_where_it_shows_on_a_real_server(protocol: int) -> None:
    fake_server = FakeServer(version="7.0", config={"save": "3600 1"})
    with real("redis", protocol, **{"save": "3600 1", "enable-protected-configs": "yes"}) as (_, there):
        here = client_of(fake_server, protocol=protocol)
        fake, true = connection_of(here), connection_of(there)
        directory = there.config_get("dir")["dir"]
        for text in (ON_A_DISK, ON_A_FULL_DISK):
            for words in requests_in(text):
                assert says(fake, *words) == says(true, *words), words
                known = counted(there)
                if words[0] != "EXEC":  # what it has scheduled begins some time later
                    assert {**counted(here), "rdb_saves": 0} == {**known, "rdb_saves": 0}, words
            if not fake_server.disk.full:
                wait_for_scheduled(there)
                fake_server.disk.full = True
                shutil.rmtree(directory)
        os.makedirs(directory)
        there.config_set("dir", directory)
        fake_server.disk.full = False
        for words in (["BGSAVE"], ["SET", "b", "5"], ["SHUTDOWN"]):
            assert says(fake, *words) == says(true, *words), words
            if words[0] == "BGSAVE":
                assert counted(here)["rdb_last_bgsave_status"] == counted(there)["rdb_last_bgsave_status"]
        true.disconnect()
    assert not fake_server.connected


def wait_for_scheduled(client: Any) -> None:
    """Until the save that was asked for in a transaction has begun and ended: it is the fourth."""
    deadline = time.monotonic() + 20
    while client.info("persistence")["rdb_saves"] < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    counted(client)


def test_lastsave_is_when_the_data_was_saved() -> None:
    server = FakeServer()
    client = client_of(server)
    server.freeze_time(at=2_000_000_000)
    client.save()
    server.clock.advance(seconds=100)
    assert client.lastsave().timestamp() == 2_000_000_000
    server.disk.full = True
    with pytest.raises(redis.ResponseError):
        client.save()
    assert client.bgsave()
    assert client.lastsave().timestamp() == 2_000_000_000
    server.disk.full = False
    client.bgsave()
    assert client.lastsave().timestamp() == 2_000_000_100


def test_a_shutdown_leaves_a_server_that_nobody_reaches() -> None:
    server = FakeServer()
    client, other = client_of(server), client_of(server)
    other.set("k", "v")
    client.shutdown()
    for each in (client, other):
        with pytest.raises(redis.ConnectionError, match="Connection refused"):
            each.ping()
    server.connected = True
    assert other.get("k") == b"v"


# -- one node of a cluster -------------------------------------------------------------------------------------------

IN_A_CLUSTER = r"""SELECT 0|SELECT 1|SELECT x|SELECT|SWAPDB 0 1|MOVE a 1|SET a 1|COPY a b|COPY a {a}b|COPY a {a}b DB 1
COPY a {a}b DB 0|MSET a 1 b 2|MGET a b|MGET {x}a {x}b|MGET a|DEL|DEL a b|RENAME {a}b zz|OBJECT ENCODING a
MULTI|SET a 1|SET b 1|EXEC|EXEC|MULTI|MGET a b|SET a 1|EXEC|MULTI|SELECT 1|GET a|EXEC|WATCH a b|WATCH a|MULTI|GET b|EXEC
MULTI|SET {a}1 1|SET {a}2 1|EXEC|MULTI|MGET a b|SET a 1|SET b 1|EXEC|READONLY|READWRITE|ASKING|CLUSTER KEYSLOT a
CLUSTER KEYSLOT {}a|CLUSTER KEYSLOT a{b}c{d}|CLUSTER KEYSLOT {a|CLUSTER KEYSLOT ""|BLPOP a b 0
ZUNIONSTORE a 2 b c|SINTERCARD 2 a b|SINTERCARD x a b|SPUBLISH a x|PUBLISH a b|LMPOP 2 a b LEFT|GETT a b
EVAL "return 1" 2 a b|EVAL "return redis.call('get','a')" 0|EVAL "return 1" -1 a b|EVAL "return 1" 9 a b
EVAL "redis.call('get','a') return redis.call('get','b')" 0|EVAL "return redis.call('get',KEYS[1])" 1 a
EVAL "return redis.call('get','b')" 1 a|EVAL "return redis.call('mget','a','b')" 0
EVAL "return redis.call('mget','a','b')" 1 a|EVAL "return redis.pcall('mget','a','b').err" 1 a
EVAL "#!lua\nredis.call('get','a') return redis.call('get','b')" 0|EVAL "#!lua\nreturn redis.call('get','b')" 1 a
EVAL "#!lua\nreturn redis.call('get','{a}b')" 1 a|EVAL "return redis.call('select', '1')" 0
EVAL "#!lua flags=allow-cross-slot-keys\nredis.call('set','a','1') return redis.call('get','b')" 0
EVAL "#!lua flags=allow-cross-slot-keys\nredis.call('set','a','1') return redis.call('get','b')" 2 a b
EVAL "#!lua flags=allow-cross-slot-keys\nreturn redis.call('mget','a','b')" 0|RANDOMKEY x|FLUSHALL|SSUBSCRIBE a b
RPUSH l 1|SORT l BY w*|SORT l BY w|SORT l BY {l}w*|SORT l GET #|SORT l GET l|SORT l GET {l}*->f|SORT l GET *{l}
SORT l GET {l*}|SORT l BAD GET #|SORT l GET # BAD|SORT l LIMIT x y GET a|SORT_RO l GET a|SORT nokey GET a
SORT l BY nosort STORE b|SORT l BY a* STORE b|SORT l BY nosort STORE {l}b|MULTI|SORT l GET #|EXEC
SORT {l} GET {l?}|SORT l GET ?{l}|SORT l GET [{l}|SORT {} GET {}|SORT {a GET {a|SORT {}a GET {}a|SORT {}a GET {}a{x}
EVAL "return redis.pcall('sort','l','get','#').err" 1 l"""


@PROTOCOLS
@pytest.mark.parametrize(("kind", "version"), [("redis", "7.0"), ("valkey", "7.4")])
def test_a_strict_cluster_answers_as_a_node_that_has_all_slots(
    kind: str, version: str, protocol: int
) -> None:
    fake = connection_of(client_of(FakeServer(version=version, strict_cluster=True), protocol=protocol))
    options = {"cluster-enabled": "yes", "cluster-port": str(servers.free_port())}
    with real(kind, protocol, **options) as (_, client):
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        deadline = time.monotonic() + 30
        while "'cluster_state': 'ok'" not in str(client.execute_command("CLUSTER INFO")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        true = connection_of(client)
        for words in requests_in(IN_A_CLUSTER):
            if kind == "valkey" and words == ["COPY", "a", "{a}b", "DB", "1"]:
                continue  # it has but one database, and no word for that
            assert says(fake, *words) == says(true, *words), words
        true.disconnect()


def test_a_client_meets_the_cluster_where_it_mixes_slots() -> None:
    client = client_of(FakeServer(strict_cluster=True))
    client.mset({"{user1}name": "a", "{user1}age": 3})
    with pytest.raises(redis.ResponseError, match="Keys in request don't hash to the same slot"):
        client.mset({"user1": "a", "user2": "b"})
    with pytest.raises(redis.ResponseError, match="don't hash to the same slot"):
        client.pipeline().set("user1", "a").set("user2", "b").execute()
    assert client.pipeline(transaction=False).set("user1", "a").set("user2", "b").execute() == [True, True]


def test_slots_are_those_of_the_keys_hash_tags() -> None:
    assert slot_of(b"123456789") == 0x31C3  # the check value of this CRC16
    assert slot_of(b"{user1}.a") == slot_of(b"{user1}.b") == slot_of(b"user1")
    assert slot_of(b"a{}b") != slot_of(b"")


# -- users, and scripts that take too long ---------------------------------------------------------------------


@PROTOCOLS
def test_users_may_do_what_their_rules_say(protocol: int) -> None:
    rules = {"ann": "on >secret ~app:* +@read", "ben": ["on", ">two words", "~*", "+@all"]}
    server = FakeServer(users=rules)
    ann = client_of(server, protocol=protocol, username="ann", password="secret")
    ben = client_of(server, protocol=protocol, username="ben", password="two words")
    assert ben.set("app:greeting", "hello") and ann.get("app:greeting") == b"hello"
    with pytest.raises(redis.exceptions.NoPermissionError, match="No permissions to access a key"):
        ann.get("other")
    with pytest.raises(redis.exceptions.NoPermissionError, match="'set' command"):
        ann.set("app:greeting", "bye")
    with pytest.raises(redis.AuthenticationError, match="invalid username-password pair"):
        client_of(server, protocol=protocol, username="ann", password="wrong").ping()
    with pytest.raises(ResponseError, match="Unknown command or category"):
        FakeServer(users={"eve": "+@nonsense"})


def test_a_script_that_takes_too_long_can_be_killed_from_another_thread() -> None:
    server = FakeServer(config={"busy-reply-threshold": 20})
    failures: list[str] = []

    def run() -> None:
        with pytest.raises(redis.ResponseError) as raised:
            client_of(server).eval("while true do end", 0)
        failures.append(str(raised.value))

    thread = threading.Thread(target=run)
    thread.start()
    other = client_of(server)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # until the script has begun, and has taken too long
        try:
            other.get("k")
        except redis.ResponseError as error:
            assert str(error).startswith("BUSY Redis is busy running a script")
            break
    found: list[bytes | None] = []
    looking = threading.Thread(target=lambda: found.append(server.store.get("k")))
    looking.start()  # which is not to happen in the middle of the script
    looking.join(0.1)
    assert looking.is_alive()
    assert other.script_kill()
    thread.join(30)
    looking.join(30)
    assert found == [None]
    assert not thread.is_alive() and failures[0].startswith("Script killed by user with SCRIPT KILL")
    assert other.set("k", "v") and other.get("k") == b"v"
