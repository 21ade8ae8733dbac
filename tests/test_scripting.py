"""EVAL, EVALSHA and SCRIPT: beside real servers, as units, and when they take too long."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("lupa")

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2, RESP3
from kvstore.commands.session import Session
from kvstore.engine.context import Context, Listener, ManualClock
from kvstore.engine.database import Database
from tests.rawclient import RawClient
from tests.servers import Server, running
from tests.test_lua_differential import comparable

MISSING = "0" * 40
ONE = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"  # of "return 1"
LIMITED = ("CONFIG", "SET", "maxmemory", "1")
UNLIMITED = ("CONFIG", "SET", "maxmemory", "0")

CONVERSATIONS: dict[str, list[tuple[Any, ...]]] = {
    "arguments": [
        ("EVAL",),
        ("EVAL", "return 1"),
        ("EVAL", "return 1", "x"),
        ("EVAL", "return 1", "-1"),
        ("EVAL", "return 1", "1"),
        ("EVAL", "return 1", "9999999999999999999"),
        ("EVAL", "return {#KEYS, #ARGV}", "1", "a", "b"),
        ("EVAL", "return +", "x"),
        ("EVAL", "return +", "5"),
        ("EVAL", "return +", "0"),
        ("EVALSHA",),
        ("EVALSHA", "abc"),
        ("EVALSHA", "abc", "0"),
        ("EVALSHA", "abc", "x"),
        ("EVALSHA", MISSING, "x"),
        ("EVALSHA", MISSING, "5"),
        ("EVALSHA", MISSING, "-1"),
        ("EVALSHA", MISSING, "0"),
        ("EVAL_RO", "return 1"),
        ("EVALSHA_RO", "x", "0"),
        ("EVAL", b"return '\xff\0\r\n' .. ARGV[1]", "0", b"\xfe"),
    ],
    "cache": [
        ("EVALSHA", ONE, "0"),
        ("EVAL", "return 1", "0"),
        ("EVALSHA", ONE.upper(), "0"),
        ("EVALSHA", ONE, "5"),
        ("EVALSHA_RO", ONE, "0"),
        ("SCRIPT", "LOAD", "return 2"),
        ("SCRIPT", "LOAD", "return +"),
        ("SCRIPT", "EXISTS", ONE, "x", ONE.upper(), MISSING),
        ("EVALSHA", "7f923f79fe76194c868d7e1d0820de36700eb649", "0"),
        ("SCRIPT", "FLUSH", "x"),
        ("SCRIPT", "FLUSH", "SYNC", "x"),
        ("SCRIPT", "FLUSH", "sync"),
        ("SCRIPT", "EXISTS", ONE),
        ("SCRIPT", "FLUSH", "ASYNC"),
        ("SCRIPT", "FLUSH"),
    ],
    "script": [
        ("SCRIPT",),
        ("SCRIPT", "LOAD"),
        ("SCRIPT", "LOAD", "return 2", "x"),
        ("SCRIPT", "EXISTS"),
        ("SCRIPT", "KILL"),
        ("SCRIPT", "KILL", "x"),
        ("SCRIPT", "DEBUG"),
        ("SCRIPT", "DEBUG", "no"),
        ("SCRIPT", "DEBUG", "x"),
        ("SCRIPT", "HELP", "x"),
        ("SCRIPT", "NOSUCH"),
    ],
    "commands": [
        ("EVAL", "return redis.call('set', KEYS[1], ARGV[1])", "1", "k", "v"),
        ("GET", "k"),
        ("EVAL", "return redis.call('GeT', KEYS[1])", "1", "k"),
        ("EVAL", "return redis.call('incr', 'k')", "0"),
        ("EVAL", "return redis.pcall('incr', 'k')", "0"),
        (
            "EVAL",
            "return {redis.call('mget', 'k', 'none'), redis.call('ping'), redis.call('exists', 'k')}",
            "0",
        ),
        ("EVAL", "return redis.call('nosuch')", "0"),
        ("EVAL", "return redis.call('', 'x')", "0"),
        ("EVAL", "return redis.call('get')", "0"),
        ("EVAL", "return redis.call('object', 'nosuch')", "0"),
        ("EVAL", "return redis.call('object', 'encoding')", "0"),
        ("EVAL", "return redis.call('object')", "0"),
        ("EVAL", "return redis.call('object', 'refcount', 'none')", "0"),
        ("EVAL", "return redis.call('config', 'get', 'maxmemory')", "0"),
        ("EVAL", "return redis.call('multi')", "0"),
        ("EVAL", "return redis.call('watch', 'a')", "0"),
        ("EVAL", "return redis.call('subscribe', 'a')", "0"),
        ("EVAL", "return redis.call('eval', 'return 1', 0)", "0"),
        ("EVAL", "return redis.call('auth', 'x')", "0"),
        ("EVAL", "return redis.call('client', 'id')", "0"),
        ("EVAL", "return redis.call('script', 'exists', 'x')", "0"),
        ("EVAL", "return redis.call('blpop', 'none', 0)", "0"),
        ("EVAL", "return redis.call('publish', 'nobody', 'x')", "0"),
        ("EVAL", "redis.call('select', 3) return redis.call('set', 'three', '1')", "0"),
        ("EXISTS", "three"),
        ("EVAL", "redis.call('select', 3) return redis.call('del', 'three')", "0"),
        ("EVAL", "return redis.call('select', 99)", "0"),
        ("EVAL", "return redis.call('del', 'k')", "0"),
    ],
    "read only": [
        ("SET", "a", "1"),
        ("EVAL_RO", "return redis.call('set', 'a', 'b')", "0"),
        ("EVAL_RO", "return redis.pcall('set', 'a', 'b')", "0"),
        ("EVAL_RO", "return redis.call('get', 'a')", "0"),
        ("EVAL_RO", "return redis.call('publish', 'a', 'b')", "0"),
        ("EVAL_RO", "return redis.call('set', 'a')", "0"),
        ("EVAL_RO", "#!lua\nreturn 1", "0"),
        ("EVAL_RO", "#!lua flags=no-writes\nreturn 1", "0"),
        ("EVAL", "return redis.call('set', 'a', '2')", "0"),
        ("DEL", "a"),
    ],
    "shebang": [
        ("EVAL", "#!lua\nreturn redis.call('set', 'a', 'b')", "0"),
        ("EVAL", "#!lua flags=no-writes\nreturn redis.call('set', 'a', 'b')", "0"),
        ("EVAL", "#!lua flags=no-writes\nreturn redis.call('get', 'a')", "0"),
        ("EVAL", "#!lua flags=no-writes,no-writes , ,\nreturn 1", "0"),
        ("EVAL", "#!lua flags=\nreturn 1", "0"),
        ("EVAL", "#!lua flags=nosuch\nreturn 1", "0"),
        ("EVAL", "#!lua name=x\nreturn 1", "0"),
        ("EVAL", "#!lua x\nreturn 1", "0"),
        ("EVAL", "#!luax\nreturn 1", "0"),
        ("EVAL", "#! lua\nreturn 1", "0"),
        ("EVAL", "#!\nreturn 1", "0"),
        ("EVAL", "#!LUA\nreturn 1", "0"),
        ("EVAL", "#!lua", "0"),
        ("EVAL", "#!lua 'flags=x\nreturn 1", "0"),
        ("EVAL", "#!lua flags=allow-oom flags=no-writes\nreturn redis.call('set', 'a', 'b')", "0"),
        ("EVAL", "#!lua flags=allow-stale,allow-cross-slot-keys,no-cluster\nreturn 1", "0"),
        ("EVAL", "#!lua\n\nreturn foo", "0"),
        ("EVAL", "#!lua\nreturn +", "0"),
        ("DEL", "a"),
    ],
    "out of memory": [
        ("SET", "filler", "x" * 1000),
        LIMITED,
        ("EVAL", "return redis.call('set', 'a', 'b')", "0"),
        ("EVAL", "return redis.pcall('set', 'a', 'b')", "0"),
        ("EVAL", "return redis.call('get', 'a')", "0"),
        ("EVAL", "redis.call('del', 'a') return redis.call('set', 'a', 'b')", "0"),
        (
            "EVAL",
            "redis.pcall('set', 'a', 'b') redis.call('del', 'a') return redis.call('set', 'a', 'b')",
            "0",
        ),
        ("EVAL", "return redis.call('set', 'a', 'b')", "0"),
        ("EVAL", "#!lua\nreturn 1", "0"),
        ("EVAL", "#!lua flags=allow-oom\nreturn redis.call('set', 'a', 'c')", "0"),
        ("EVAL", "#!lua flags=no-writes\nreturn redis.call('get', 'a')", "0"),
        ("EVAL", "#!lua flags=no-writes\nreturn redis.call('set', 'a', 'b')", "0"),
        ("EVAL_RO", "return redis.call('get', 'a')", "0"),
        ("EVAL_RO", "return redis.call('set', 'a', 'b')", "0"),
        ("SET", "a", "x"),
        UNLIMITED,
        ("GET", "a"),
        ("DEL", "a"),
    ],
    "transactions": [
        ("MULTI",),
        ("EVAL", "return redis.call('incr', 'n')", "0"),
        ("EVAL", "return redis.call('incr', 'n') + redis.call('incr', 'n')", "0"),
        ("EVAL", "return redis.call('nosuch')", "0"),
        ("EVALSHA", MISSING, "0"),
        ("EXEC",),
        ("WATCH", "n"),
        ("EVAL", "return redis.call('incr', 'n')", "0"),
        ("MULTI",),
        ("PING",),
        ("EXEC",),
        ("DEL", "n"),
    ],
}


@pytest.fixture(scope="module")
def servers(kvstore_server: Server, valkey_server: Server, redis_server: Server) -> dict[str, Server]:
    return {"kvstore": kvstore_server, "valkey": valkey_server, "redis": redis_server}


def answers(server: Server, conversation: list[tuple[Any, ...]], protocol: int) -> list[bytes]:
    with server.client() as client:
        if protocol == 3:
            client.hello3()
        client.call("FLUSHALL")
        client.call("SCRIPT", "FLUSH")
        return [comparable(client.call(*argv)) for argv in conversation]


def noscript(reply: bytes) -> bytes:
    """7.2 tells what to do about it; valkey no longer does."""
    return reply.replace(b"No matching script. Please use EVAL.", b"No matching script.")


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_go_as_on_valkey(servers: dict[str, Server], name: str, protocol: int) -> None:
    conversation = CONVERSATIONS[name]
    ours = answers(servers["kvstore"], conversation, protocol)
    theirs = answers(servers["valkey"], conversation, protocol)
    for argv, one, other in zip(conversation, ours, theirs, strict=True):
        assert noscript(one) == noscript(other), argv


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_go_as_on_redis(servers: dict[str, Server], name: str) -> None:
    conversation = CONVERSATIONS[name]
    ours = answers(servers["kvstore"], conversation, 2)
    theirs = answers(servers["redis"], conversation, 2)
    for argv, one, other in zip(conversation, ours, theirs, strict=True):
        if "blpop" in str(argv):
            continue  # 7.0 did not allow it
        assert one == other, argv


def test_scripts_that_eval_brought_go_when_there_are_many(servers: dict[str, Server]) -> None:
    """What ran longest ago first; never what was loaded."""

    def kept(server: Server) -> list[Any]:
        bodies = [f"return {n}" for n in range(530)]
        shas = [hashlib.sha1(body.encode()).hexdigest() for body in bodies]
        with server.client() as client:
            client.call("SCRIPT", "FLUSH")
            client.call("CONFIG", "RESETSTAT")
            for body in bodies[:500]:
                client.call("EVAL", body, "0")
            client.call("EVALSHA", shas[0], "0")
            client.call("EVAL_RO", bodies[1], "0")
            client.call("SCRIPT", "LOAD", bodies[2])
            found = []
            for body in bodies[500:]:
                words = ("SCRIPT", "LOAD", body) if body.endswith("7") else ("EVAL", body, "0")
                client.call(*words)
                found.append(client.call("SCRIPT", "EXISTS", *shas))
            client.call("EVAL", "return +", "0")
            told = client.call("INFO", "everything").decode()
            client.call("SCRIPT", "FLUSH")
        return [*found, *re.findall(r"(?:evicted|number_of_cached)_scripts:\d+", told)]

    assert kept(servers["kvstore"]) == kept(servers["valkey"])


def test_errors_are_counted_once(servers: dict[str, Server]) -> None:
    bodies = [
        "return redis.call('nosuch')",
        "return redis.pcall('nosuch')",
        "redis.pcall('nosuch') return 1",
        "return redis.error_reply('MY x')",
        "error({err='MYB x'})",
        "error('x')",
        "return redis.call('lpush', 'string', 'x')",
        "local e = redis.pcall('lpush', 'string', 'x') return {err=e.err}",
        "return {err='TOP x'}",
        "return +",
    ]
    counts = []
    for kind in ("kvstore", "valkey"):
        with servers[kind].client() as client:
            client.call("SET", "string", "x")
            client.call("CONFIG", "RESETSTAT")
            for body in bodies:
                client.call("EVAL", body, "0")
            errors = client.call("INFO", "errorstats")
            commands = client.call("INFO", "commandstats")
            counts.append(
                (
                    sorted(re.findall(rb"errorstat_(\w+):count=(\d+)", errors)),
                    re.findall(rb"cmdstat_eval:calls=(\d+).*failed_calls=(\d+)", commands),
                    re.findall(rb"cmdstat_lpush:calls=(\d+).*failed_calls=(\d+)", commands),
                )
            )
    assert counts[0] == counts[1]


# -- scripts that take too long --------------------------------------------------------------------------


@pytest.fixture
def busy_servers() -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        options = {"lua-time-limit": "50"}
        yield [stack.enter_context(running(kind, options=options)) for kind in ("kvstore", "redis")]


def wait_until_busy(client: RawClient) -> None:
    deadline = time.monotonic() + 10
    while not client.call("GET", "x").startswith(b"-BUSY"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_others_are_told_busy_and_may_kill(busy_servers: list[Server]) -> None:
    conversation: list[tuple[str, ...]] = [
        ("GET", "x"),
        ("PING",),
        ("INFO",),
        ("SCRIPT", "EXISTS", "x"),
        ("SCRIPT", "FLUSH"),
        ("SCRIPT", "FOO"),
        ("EVAL", "return 1", "0"),
        ("MULTI",),
        ("GET", "x"),
        ("DISCARD",),
        ("WATCH", "a"),
        ("UNWATCH",),
        ("NOSUCH",),
        ("GET",),
        ("CONFIG", "GET", "port"),
        ("RESET",),
        ("SCRIPT", "KILL", "x"),
        ("SCRIPT", "KILL"),
    ]
    replies = []
    for server in busy_servers:
        with server.client() as slow, server.client() as other:
            slow.send("EVAL", "while true do pcall(function() while true do end end) end", "0")
            wait_until_busy(other)
            got = [other.call(*argv) for argv in conversation]
            got.append(slow.read_reply_bytes())
            got.append(other.call("PING"))
            got.append(slow.call("PING"))
            replies.append(got)
    for argv, ours, theirs in zip([*conversation, "slow", "ping", "ping"], *replies, strict=True):
        assert ours == theirs, argv


def test_a_script_that_has_written_cannot_be_killed(busy_servers: list[Server]) -> None:
    replies = []
    for server in busy_servers:
        with server.client() as slow, server.client() as other:
            body = "redis.call('set', 'k', 'v') local n = 0 while not n ~= n do n = n + 1 if n > %s then break end end return n > 0"
            slow.send("EVAL", body % "4e7", "0")
            wait_until_busy(other)
            replies.append((other.call("SCRIPT", "KILL"), slow.read_reply_bytes(30), other.call("GET", "k")))
    assert replies[0] == replies[1]
    assert replies[0][0].startswith(b"-UNKILLABLE")


def test_shutdown_nosave_ends_a_busy_server(busy_servers: list[Server]) -> None:
    server = busy_servers[0]
    with server.client() as slow, server.client() as other:
        slow.send("EVAL", "redis.call('set', 'k', 'v') while true do end", "0")
        wait_until_busy(other)
        other.send("SHUTDOWN", "NOSAVE")
        assert other.at_end()
    assert server.process.wait(10) == 0


def test_requests_after_a_slow_script_are_answered_in_order(busy_servers: list[Server]) -> None:
    server = busy_servers[0]
    with server.client() as slow, server.client() as other:
        slow.send("EVAL", "while true do end", "0")
        slow.send("ECHO", "1")
        wait_until_busy(other)
        slow.send("ECHO", "2")
        slow.send("ECHO", "3")
        assert other.call("SCRIPT", "KILL") == b"+OK\r\n"
        assert slow.read_reply_bytes().startswith(b"-ERR Script killed")
        assert [slow.read_reply_bytes() for _ in range(3)] == [b"$1\r\n%d\r\n" % n for n in (1, 2, 3)]


def test_the_limit_can_be_set_while_running(busy_servers: list[Server]) -> None:
    server = busy_servers[0]
    with server.client() as slow, server.client() as other:
        other.call("CONFIG", "SET", "busy-reply-threshold", "0")
        body = "local n = 0 for i = 1, 3e7 do n = n + 1 end return n"
        slow.send("EVAL", body, "0")
        assert other.call("PING") == b"+PONG\r\n"
        assert slow.read_reply_bytes(30) == b":30000000\r\n"


# -- units, in this process ------------------------------------------------------------------------------


class Recorder(Listener):
    """Hears what is logged."""

    def __init__(self) -> None:
        self.effects: list[tuple[int, tuple[bytes, ...]]] = []

    def on_commit(self, db: int, effect: tuple[bytes, ...], events: Any) -> None:
        self.effects.append((db, effect))

    def on_event(self, db: int, name: str, key: bytes) -> None:
        pass

    def on_clear(self, db: int, had: Any) -> None:
        pass

    def on_swap(self, db: int, has: Any, other: int, other_has: Any) -> None:
        pass


class Client:
    def __init__(self, hub: Hub, codec: Any = RESP2) -> None:
        self.session = Session(hub, codec)

    def __call__(self, *argv: Any) -> bytes:
        words = [word if isinstance(word, bytes) else str(word).encode() for word in argv]
        self.session.run([words])
        reply = b"".join(self.session.out)
        self.session.out.clear()
        return reply


@pytest.fixture
def hub() -> Hub:
    return Hub(Context(Database, clock=ManualClock(1_700_000_000_000)))


def test_the_log_has_effects_and_no_scripts(hub: Hub) -> None:
    recorder = Recorder()
    hub.ctx.listen(recorder)
    client = Client(hub)
    client(
        "EVAL", "redis.call('set', KEYS[1], ARGV[1], 'EX', 10) return redis.call('incr', 'n')", 1, "k", "v"
    )
    client("EVAL", "redis.call('select', 2) redis.call('set', 'm', 1)", 0)
    assert recorder.effects == [
        (0, (b"SET", b"k", b"v", b"PXAT", b"1700000010000")),
        (0, (b"INCRBY", b"n", b"1")),
        (2, (b"SET", b"m", b"1")),
    ]


def test_a_random_choice_of_a_script_is_logged_as_what_was_chosen(hub: Hub) -> None:
    recorder = Recorder()
    client = Client(hub)
    client("SADD", "s", "a", "b", "c")
    hub.ctx.listen(recorder)
    member = client("EVAL", "return redis.call('spop', 's')", 0).split(b"\r\n")[1]
    assert recorder.effects == [(0, (b"SREM", b"s", member))]


def test_blocked_clients_are_served_after_the_script(hub: Hub) -> None:
    client, blocked = Client(hub), Client(hub)
    assert blocked("BLPOP", "list", 0) == b""
    body = "redis.call('rpush', 'list', 'a', 'b') return redis.call('llen', 'list')"
    assert client("EVAL", body, 0) == b":2\r\n"
    assert b"".join(blocked.session.out) == b"*2\r\n$4\r\nlist\r\n$1\r\na\r\n"
    assert client("LLEN", "list") == b":1\r\n"


def test_time_stands_still_in_a_script(hub: Hub) -> None:
    clock: Any = hub.ctx.clock
    client = Client(hub)
    client("SET", "k", "v", "PX", 10)
    original = Database.get

    def slow_get(self: Database, key: Any) -> Any:
        clock.advance(ms=20)
        return original(self, key)

    body = "local t = redis.call('pttl', 'k') redis.call('echo', 'x') return {t, redis.call('exists', 'k')}"
    hub.ctx.database(0).get = slow_get.__get__(hub.ctx.database(0))  # type: ignore[method-assign]
    assert client("EVAL", body, 0) == b"*2\r\n:10\r\n:1\r\n"
    clock.advance(ms=20)
    assert client("EXISTS", "k") == b":0\r\n"


def test_watchers_see_what_a_script_writes(hub: Hub) -> None:
    one, other = Client(hub), Client(hub)
    one("WATCH", "k")
    other("EVAL", "redis.call('set', 'k', 1)", 0)
    one("MULTI")
    one("PING")
    assert one("EXEC") == b"*-1\r\n"


def test_notifications_come_after_the_script(hub: Hub) -> None:
    client, listener = Client(hub), Client(hub, RESP3)
    client("CONFIG", "SET", "notify-keyspace-events", "KA")
    listener("PSUBSCRIBE", "*")
    body = "redis.call('set', 'a', 1) redis.call('publish', 'c', 'm') redis.call('set', 'b', 1) return 'done'"
    assert client("EVAL", body, 0) == b"$4\r\ndone\r\n"
    heard = b"".join(listener.session.out)
    assert heard.count(b"pmessage") == 3


def test_resp3_of_a_script_is_its_own_matter(hub: Hub) -> None:
    client = Client(hub)
    client("HSET", "h", "f", "v")
    assert client("EVAL", "redis.setresp(3) return redis.call('hgetall', 'h').map.f", 0) == b"$1\r\nv\r\n"
    assert client("EVAL", "return redis.call('hgetall', 'h')[1]", 0) == b"$1\r\nf\r\n"
    assert Client(hub, RESP3)("EVAL", "redis.setresp(3) return redis.call('hgetall', 'h')", 0) == (
        b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n"
    )


def test_the_session_of_scripts_is_no_client(hub: Hub) -> None:
    client = Client(hub)
    client("EVAL", "return redis.call('ping')", 0)
    assert list(hub.sessions.values()) == [client.session]
    assert client("CLIENT", "LIST").count(b"id=") == 1


def test_a_slow_script_with_nobody_to_serve_goes_on(hub: Hub) -> None:
    client = Client(hub)
    client("CONFIG", "SET", "lua-time-limit", 1)
    assert client("EVAL", "local n = 0 for i = 1, 3e6 do n = n + 1 end return n", 0) == b":3000000\r\n"


def test_log_lines_reach_the_log(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    Client(hub)("EVAL", "redis.log(redis.LOG_WARNING, 'from a script')", 0)
    assert "from a script" in caplog.text


def test_without_lupa_the_extra_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lupa", None)
    assert Client(hub)("EVAL", "return 1", 0) == b"-ERR scripts need Lua: install kvstore[lua]\r\n"
