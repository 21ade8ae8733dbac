"""What scripts may call and what they are told, beside real servers: commands that block, change the database,
are renamed, or find no memory; transactions and pauses around scripts.

Must not know: how scripts run.
"""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lupa")

from tests.rawclient import RawClient
from tests.servers import Server, running
from tests.test_lua_differential import comparable
from tests.test_scripting import noscript


def script(body: str, *args: Any) -> tuple[Any, ...]:
    return ("EVAL", body, "0", *args)


def call(line: str) -> tuple[Any, ...]:
    return script("return redis.call(unpack(ARGV))", *line.split())


LIMITED = ("CONFIG", "SET", "maxmemory", "1")
UNLIMITED = ("CONFIG", "SET", "maxmemory", "0")
GROWING = "#!lua\nreturn redis.call('get', 'a')"

CONVERSATIONS: dict[str, list[tuple[Any, ...]]] = {
    "commands that block do not": [
        ("RPUSH", "list", "a", "b"),
        ("SET", "string", "x"),
        *map(
            call,
            [
                *("blpop list 0", "blpop none 0", "blpop none x", "blpop none -1", "brpop none 1"),
                *("blpop string 0", "blpop none string 0", "blpop string none 0", "blpop none list 0"),
                *("blmove none d left right 0", "brpoplpush none d 0", "blmpop 0 1 none left"),
                *("blmpop 0 1 none middle", "bzpopmin none 0", "bzpopmin string 0", "bzmpop 0 1 none min"),
                *("wait 0 0", "wait 1 0", "wait 1 10"),
            ],
        ),
        script("return redis.call('blpop', 'none', 0) == false"),
        script("return type(redis.call('brpoplpush', 'none', 'd', 0))"),
        script("redis.setresp(3) return redis.call('bzpopmin', 'none', 0) == nil"),
        script("redis.setresp(3) return {redis.call('blmpop', 0, 1, 'none', 'left'), 1}"),
    ],
    "the database": [
        *map(call, ["select 1", "select a", "select", "select 16", "select -1", "swapdb 0 99"]),
        script("redis.call('select', 2) return redis.call('dbsize')"),
        script("redis.call('select', 2) redis.call('set', 'q', 1) error('x')"),
        ("EXISTS", "q"),
        ("SELECT", "2"),
        ("EXISTS", "q"),
        script("redis.call('select', 0) return redis.call('exists', 'q')"),
        ("EXISTS", "q"),
        call("swapdb 0 2"),
        ("EXISTS", "q"),
        ("SELECT", "0"),
        ("DEL", "q"),
    ],
    "what is not for scripts": [
        call(line)
        for line in [
            *("multi", "exec", "discard", "watch a", "unwatch", "eval x 0", "evalsha x 0", "eval_ro x 0"),
            *("evalsha_ro x 0", "eval", "script load x", "script kill", "script", "script nosuch"),
            *("subscribe a", "psubscribe a", "unsubscribe", "ssubscribe a", "spublish a b", "publish a b"),
            *("auth x", "hello 3", "reset", "quit", "client id", "client", "client nosuch", "monitor"),
            *(
                "client pause 1",
                "config set x y",
                "config",
                "config resetstat",
                "shutdown",
                "shutdown nosave",
            ),
            *("slowlog nosuch", "latency nosuch", "acl whoami", "module list", "debug", "debug sleep 0"),
            *("memory nosuch", "object", "pubsub nosuch", "replicaof no one", "echo hi", "ping a b"),
        ]
    ],
    "watched keys": [
        ("WATCH", "w"),
        script("return redis.call('get', 'w')"),
        ("MULTI",),
        ("PING",),
        ("EXEC",),
        ("WATCH", "w"),
        script("redis.call('set', 'w', 1) error('x')"),
        ("MULTI",),
        ("PING",),
        ("EXEC",),
        ("WATCH", "w"),
        script("return redis.pcall('unwatch').err ~= nil"),
        script("return redis.call('del', 'nothing')"),
        ("MULTI",),
        script("return redis.call('exec')"),
        script("return redis.call('discard')"),
        script("redis.call('select', 3) return redis.call('set', 't', 1)"),
        ("EXISTS", "t"),
        ("EXEC",),
        ("WATCH", "q"),
        ("SELECT", "3"),
        script("return redis.call('set', 'q', 1)"),
        ("SELECT", "0"),
        ("MULTI",),
        ("PING",),
        ("EXEC",),
        ("WATCH", "q"),
        script("redis.call('set', 'q', 1) redis.call('del', 'q')"),
        ("MULTI",),
        ("PING",),
        ("EXEC",),
    ],
    "queued scripts": [
        ("MULTI",),
        ("EVAL", "return 1"),
        ("EXEC",),
        ("MULTI",),
        script("return +"),
        ("EVAL", "return 1", "x"),
        ("EVALSHA_RO", "x", "0"),
        ("SCRIPT", "LOAD", "return 5"),
        ("SCRIPT", "KILL"),
        ("SCRIPT", "FLUSH"),
        ("EXEC",),
    ],
    "no memory": [
        ("SET", "filler", "x" * 1000),
        ("SET", "string", "x"),
        ("SCRIPT", "LOAD", GROWING),
        LIMITED,
        call("lpush string b"),
        call("set a"),
        script("redis.call('expire', 'none', 1) return redis.call('set', 'a', 'c')"),
        script("redis.call('get', 'none') return redis.call('set', 'a', 'c')"),
        script("redis.pcall('lpush', 'string', 'x') return redis.call('set', 'a', 'c')"),
        script("redis.pcall('expire', 'string', 'x') return redis.call('set', 'a', 'c')"),
        script("redis.pcall('del') return redis.call('set', 'a', 'c')"),
        script("redis.call('publish', 'x', 'y') return redis.call('set', 'a', 'c')"),
        ("MULTI",),
        script("return redis.call('set', 'a', 'b')"),
        ("EXEC",),
        script(GROWING),
        ("EVALSHA", "%(growing)s", "0"),
        ("MULTI",),
        script(GROWING),
        ("EXEC",),
        ("MULTI",),
        ("EVALSHA", "%(growing)s", "0"),
        ("EXEC",),
        ("MULTI",),
        script("#!lua nosuch\nreturn 1"),
        script("#!lua flags=no-writes\nreturn 1"),
        script("#!lua flags=allow-oom\nreturn redis.call('set', 'a', 'b')"),
        ("EXEC",),
        ("EVAL_RO", "#!lua flags=allow-oom\nreturn 1", "0"),
        ("EVAL_RO", GROWING, "0"),
        UNLIMITED,
        ("MULTI",),
        script(GROWING),
        LIMITED,
        UNLIMITED,
        ("EXEC",),
        ("DEL", "a"),
    ],
}


def converse(client: RawClient, conversation: list[tuple[Any, ...]]) -> list[bytes]:
    names = {"growing": sha1(GROWING.encode()).hexdigest()}
    return [
        noscript(comparable(client.call(*(word % names if "%(" in word else word for word in argv))))
        for argv in conversation
    ]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_calls_go_as_on_valkey(
    kvstore_server: Server, valkey_server: Server, name: str, protocol: int
) -> None:
    replies = []
    for server in (kvstore_server, valkey_server):
        with server.client() as client:
            if protocol == 3:
                client.hello3()
            client.call("FLUSHALL")
            client.call("SCRIPT", "FLUSH")
            replies.append(converse(client, CONVERSATIONS[name]))
    for argv, ours, theirs in zip(CONVERSATIONS[name], *replies, strict=True):
        assert ours == theirs, argv


def test_scripts_know_commands_by_the_names_they_were_given(tmp_path: Path) -> None:
    renames = tmp_path / "renames.conf"
    renames.write_text('rename-command GET fetch\nrename-command SET ""\n')
    conversation = [
        ("FETCH", "k"),
        ("GET", "k"),
        script("return redis.call('fetch', 'k')"),
        script("return redis.call('get', 'k')"),
        script("return redis.call('GET', 'k')"),
        script("return redis.pcall('set', 'k', 'v')"),
        script("return redis.call('SET', 'k', 'v')"),
    ]
    replies = []
    for kind in ("kvstore", "redis"):
        with running(kind, options={"include": str(renames)}) as server, server.client() as client:
            replies.append(converse(client, conversation))
    for argv, ours, theirs in zip(conversation, *replies, strict=True):
        assert ours == theirs, argv


def test_a_pause_of_writes_puts_off_scripts_that_may_write(
    kvstore_server: Server, valkey_server: Server
) -> None:
    replies = []
    for server in (kvstore_server, valkey_server):
        with server.client() as control, server.client() as reader, server.client() as writer:
            sha = control.call("SCRIPT", "LOAD", "#!lua flags=no-writes\nreturn 1").split()[1]
            control.call("CLIENT", "PAUSE", "60000", "WRITE")
            try:
                got = [
                    reader.call("EVAL", "#!lua flags=no-writes\nreturn 1", "0"),
                    reader.call("EVALSHA", sha, "0"),
                    reader.call("EVAL_RO", "return 1", "0"),
                    reader.call("MULTI"),
                    reader.call("EVAL", "#!lua flags=no-writes\nreturn 2", "0"),
                    reader.call("EXEC"),
                ]
                writer.send("EVAL", "#!lua\nreturn 3", "0")
                reader.send("EVAL", "return 4", "0")
                got += [control.call("PING"), *(each.read_available() for each in (writer, reader))]
            finally:
                control.call("CLIENT", "UNPAUSE")
            replies.append([*got, writer.read_reply_bytes(), reader.read_reply_bytes()])
    assert replies[0] == replies[1]
