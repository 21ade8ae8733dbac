"""Libraries of functions and their calls, beside real servers: replies byte for byte, in both protocols.

Where valkey has other words than redis, ours are those of redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("lupa")

from kvstore.engine.codec import crc64, string_of
from kvstore.engine.store import Store as EngineStore
from kvstore.errors import ResponseError
from kvstore.store import Store
from tests import servers
from tests.rawclient import RawClient, parse
from tests.servers import Server

OPTIONS = {"enable-debug-command": "yes"}
Words = tuple[str | bytes, ...]


def library(body: str, name: str = "lib") -> str:
    return f"#!lua name={name}\n{body}"


def function(body: str) -> str:
    """A library with one function, f."""
    return library(f"redis.register_function('f', function(keys, args) {body} end)")


def payload(*sources: str, opcode: int = 245, version: int = 10) -> bytes:
    data = b"".join(bytes((opcode,)) + string_of(source.encode()) for source in sources)
    data += version.to_bytes(2, "little")
    return data + crc64(data).to_bytes(8, "little")


# What valkey says in other words than redis 7.0.
REWORDED = [
    (b"server.register_function", b"redis.register_function"),
    (b"server.log()", b"redis.log()"),
    (b"Invalid log level", b"Invalid debug level"),
    (b"Unknown command called", b"Unknown Redis command called"),
    (b"args calling command", b"args calling Redis command"),
    (b"BUSY Valkey", b"BUSY Redis"),
    (b"Failed loading engine name", b"Pre-GA function format not supported"),
]


def comparable(reply: bytes) -> bytes:
    for theirs, ours in REWORDED:
        reply = reply.replace(theirs, ours)
    return reply


@pytest.fixture(scope="module")
def trio() -> Iterator[list[Server]]:
    """Ours, and real ones."""
    with (
        servers.running("kvstore", options=OPTIONS) as ours,
        servers.running("redis", options=OPTIONS) as redis,
        servers.running("valkey", options=OPTIONS) as valkey,
    ):
        yield [ours, redis, valkey]


def clients_of(trio: list[Server], protocol: int) -> list[RawClient]:
    clients = [server.client() for server in trio]
    for client in clients:
        if protocol == 3:
            client.hello3()
        client.call("FUNCTION", "FLUSH")
        client.call("FLUSHALL")
        client.call("HSET", "hash", "f", "v")
        client.call("ZADD", "zset", "1.5", "m")
        client.call("SADD", "set", "a")
    return clients


def assert_same(trio: list[Server], protocol: int, conversation: list[Words]) -> None:
    clients = clients_of(trio, protocol)
    try:
        for words in conversation:
            ours, *theirs = (comparable(client.call(*words)) for client in clients)
            assert [ours] * len(theirs) == theirs, words
    finally:
        for client in clients:
            client.close()


both_protocols = pytest.mark.parametrize("protocol", [2, 3])

# -- loading -------------------------------------------------------------------------------------------

METADATA: list[Words] = [
    ("FUNCTION", "LOAD", *words)
    for words in (
        *(
            (),
            ("x",),
            ("",),
            ("#",),
            ("#!",),
            ("#!\n",),
            ("#! \n",),
            ("#!lua",),
            ("#!lua\n",),
            ("#! lua name=a\n",),
        ),
        *(("a", "x"), ("REPLACE",), ("REPLACE", "a", "x"), ("#!lua name=x",), ("#!lua name=x\n",)),
        *(("#!foo name=x\n",), ("#!foo name=x-y\n",), ("#!lua name=x name=y\n",), ("#!lua name=x foo=y\n",)),
        *(("#!lua name='x-y'\n",), ("#!lua name=\n",), ('#!lua "name=x\n',), ("#!lua NAME=x\n",)),
        *(
            ("#!lua flags=no-writes name=x\n",),
            ('#!"lua" name=x\n',),
            ("#!lua\tname=x\n",),
            ("#!lua name=x\r\n",),
        ),
        *(
            ("x\0y", "x"),
            ("#!lua name=x\0\n",),
            ('#!lua name="x"y\n',),
            ("#!\tlua name=x\n",),
            ("#!lua name=" + 300 * "x" + "\n",),
        ),
        *(
            ("#!LUA name=y\nredis.register_function('g', function() end)",),
            ("REPLACE", "rePlace", function("")),
        ),
        ('#!lua "name=z"\nredis.register_function("z", function() end)',),
    )
]

REGISTRATIONS = [
    *("redis.register_function()", "redis.register_function('f')", "redis.register_function('f', 1)"),
    *("redis.register_function(1, function() end)", "redis.register_function({}, function() end)"),
    *("redis.register_function('a-b', function() end)", "redis.register_function('', function() end)"),
    *(
        "redis.register_function('f', function() end, 1)",
        "redis.register_function(1)",
        "redis.register_function{}",
    ),
    *("redis.register_function{function_name='f'}", "redis.register_function{callback=function() end}"),
    "redis.register_function{function_name='f', callback=1}",
    "redis.register_function{function_name=1, callback=function() end}",
    "redis.register_function{function_name={}, callback=function() end}",
    "redis.register_function{function_name='a-b', callback=function() end}",
    "redis.register_function{function_name='f', callback=function() end, description=1}",
    "redis.register_function{function_name='f', callback=function() end, description='what \\0 it does'}",
    "redis.register_function{function_name='f', callback=function() end, description={}}",
    "redis.register_function{function_name='f', callback=function() end, flags=1}",
    "redis.register_function{function_name='f', callback=function() end, flags={'x'}}",
    "redis.register_function{function_name='f', callback=function() end, flags={1}}",
    "redis.register_function{function_name='f', callback=function() end, flags={{}}}",
    "redis.register_function{function_name='f', callback=function() end, flags={a='x'}}",
    "redis.register_function{function_name='f', callback=function() end, flags={'no-writes', nil, 'x'}}",
    "redis.register_function{function_name='f', callback=function() end, flags={'allow-cross-slot-keys',"
    " 'no-cluster', 'allow-stale', 'allow-oom', 'no-writes', 'no-writes'}}",
    *(
        "redis.register_function{function_name='f', callback=function() end, foo=1}",
        "redis.register_function{'f'}",
    ),
    "redis.register_function('f', function() end) redis.register_function('f', function() end)",
    "redis.register_function('f\\0g', function() end)",
    "for i = 1, 3 do redis.register_function('f', function() return i end) end",
    "server.register_function('f', function() return 1 end)",
]

# Code that a library may not run while it is loaded, or may.
LOADING = [
    *("return +", "\n\nerror('x')", "redis.call('get', 'x')", "redis.pcall('get', 'x')", "redis.setresp(3)"),
    *(
        "return redis.error_reply('x')",
        "x = 1",
        "redis.x = 1",
        "redis['call'] = 1",
        "return y",
        "return KEYS",
    ),
    *("return _G", "_G.x = 1", "return _VERSION", "setmetatable(_G, {})", "rawset(_G, 'x', 1)", "pcall(f)"),
    *(
        "for k, v in pairs({}) do end",
        "math.random()",
        "string.rep('x', 1)",
        "local x = nil; x.y = 1",
        "os.clock()",
    ),
    *(
        "redis.log()",
        "redis.log(9, 'x')",
        "redis.log('x', 'y')",
        "redis.sha1hex('')",
        "return",
        "",
        "local x = {}",
    ),
    *(
        "local function f() return f() + 1 end f()",
        "return loadstring('return 1')",
        "\x1bLua",
        "return 1 .. {}",
    ),
    "('x'):rep(3) redis.register_function('f', function() return 1 end) return 5",
    "redis.log(redis.LOG_DEBUG, 'x') redis.register_function('f', function() return 1 end)",
    "local v = redis.LOG_WARNING redis.register_function('f', function() return v end)",
]

# Bodies of functions.
CALLS = [
    *(
        "return 1",
        "return keys",
        "return args",
        "return {keys, args}",
        "return nil",
        "return false",
        "return true",
    ),
    *("return redis.x", "return x", "x = 1", "redis.x = 1", "return KEYS", "return ARGV", "return print"),
    *(
        "error('x')",
        "error({err='x'})",
        "error({err='My x'})",
        "error()",
        "error(nil)",
        "local t = nil; return t.x",
    ),
    *("return redis.call('nosuch')", "\n\n return redis.call('get')", "\n\n return redis.pcall('get')"),
    *("return {err='My error'}", "return redis.error_reply('My error')", "return redis.status_reply('fine')"),
    *("return redis.breakpoint()", "return redis.debug('x')", "return redis.replicate_commands()"),
    *("return redis.set_repl(redis.REPL_ALL)", "return redis.sha1hex('')", "return redis.sha1hex()"),
    *(
        "return redis.setresp(4)",
        "return redis.register_function('g', function() end)",
        "return redis.register_function",
    ),
    *(
        "math.randomseed(7) return math.random(1000)",
        "math.randomseed(7) math.random() return math.random(1000)",
        "return cjson.encode({1, 2})",
    ),
    *(
        "return __redis__err__handler",
        "rawset(_G, 'x', 1)",
        "setmetatable(_G, nil)",
        "return getmetatable(_G)",
    ),
    *("return loadstring('return 1')()", "return loadstring('x = 1')()", "return loadstring('return +')"),
    *(
        "local ok, e = pcall(function() error('x') end) return e",
        "local ok, e = pcall(redis.call, 'incr', 'hash') return e",
    ),
    *(
        "return redis.acl_check_cmd('get', 'x')",
        "return redis.call('set', keys[1], args[1])",
        "return {1, nil, 3}",
    ),
    *(
        "return redis.call('function', 'list')",
        "return redis.call('fcall', 'f', 0)",
        "return redis.call('eval', '', 0)",
    ),
    *("redis.setresp(3) return redis.call('hgetall', 'hash')", "return redis.call('hgetall', 'hash')"),
    *(
        "redis.setresp(3) return redis.call('zscore', 'zset', 'm')",
        "return redis.call('zscore', 'zset', 'm')",
    ),
    *(
        "redis.setresp(3) return redis.call('smembers', 'set')",
        "redis.setresp(3) return redis.call('get', 'nosuch')",
    ),
    *(
        "redis.setresp(3) return true",
        "redis.setresp(3) return false",
        "return {double=3.5}",
        "return {map={a=1}}",
    ),
    *(
        "return {set={a=true}}",
        "return {big_number='123'}",
        "return {verbatim_string={format='txt', string='x'}}",
    ),
    *("local function r() return r() + 1 end return r()", "return redis.call('incr', 'hash')", "return 3.99"),
    *(
        "return type(redis.LOG_WARNING) .. type(redis.REPL_NONE)",
        "return server.call('ping')",
        "return unpack({1, 2})",
    ),
]


def loaded_and_called(body: str) -> list[Words]:
    return [
        *(("FUNCTION", "LOAD", "REPLACE", body), ("FUNCTION", "LIST", "LIBRARYNAME", "lib", "WITHCODE")),
        *(
            ("FUNCTION", "STATS"),
            ("FCALL", "f", "1", "k", "a"),
            ("FCALL_RO", "f", "2", "k", "l"),
            ("FUNCTION", "FLUSH"),
        ),
    ]


@both_protocols
def test_the_first_line_is_read_as_real_servers_do(trio: list[Server], protocol: int) -> None:
    assert_same(trio, protocol, METADATA)


def without_redis_seven(body: str) -> bool:
    return "server." in body  # a name of valkey's


@pytest.mark.parametrize("bodies", [REGISTRATIONS, LOADING], ids=["registrations", "loading"])
@both_protocols
def test_a_library_loads_as_on_real_servers(trio: list[Server], bodies: list[str], protocol: int) -> None:
    for body in bodies:
        shown = [trio[0], trio[2]] if without_redis_seven(body) or "os." in body else trio
        assert_same(shown, protocol, loaded_and_called(library(body)))


@both_protocols
def test_a_function_answers_as_on_real_servers(trio: list[Server], protocol: int) -> None:
    for body in CALLS:
        shown = [trio[0], trio[2]] if without_redis_seven(body) else trio
        assert_same(shown, protocol, loaded_and_called(function(body)))


# -- commands ------------------------------------------------------------------------------------------

FLAGGED = library(
    "redis.register_function{function_name='r', callback=function(keys) return redis.call('get', keys[1]) end,"
    " flags={'no-writes'}}"
)
OTHER = library("redis.register_function('f', function() return 'other' end)", "other")
MORE = library("redis.register_function('g', function() end)", "more")
SAME = library("redis.register_function('f', function() return 'same' end)")

COMMANDS: dict[str, list[Words]] = {
    "arguments": [
        *(
            ("FUNCTION",),
            ("FUNCTION", "NOPE"),
            ("FUNCTION", "LIST", "x"),
            ("FUNCTION", "LIST", "x\0y"),
            ("FUNCTION", "LIST", "LIBRARYNAME"),
        ),
        *(
            ("FUNCTION", "LIST", "LIBRARYNAME", "a", "LIBRARYNAME", "b"),
            ("FUNCTION", "LIST", "withcode", "withcode"),
        ),
        *(("FUNCTION", "FLUSH", "x"), ("FUNCTION", "FLUSH", "SYNC", "x"), ("FUNCTION", "flush", "SYNC", "x")),
        *(
            ("FUNCTION", "FLUSH", "async"),
            ("FUNCTION", "FLUSH", "Sync"),
            ("FUNCTION", "DELETE"),
            ("FUNCTION", "DELETE", "x"),
        ),
        *(("FUNCTION", "STATS", "x"), ("FUNCTION", "KILL", "x"), ("FUNCTION", "KILL"), ("SCRIPT", "KILL")),
        *(
            ("FUNCTION", "DUMP", "x"),
            ("FUNCTION", "RESTORE"),
            ("FUNCTION", "RESTORE", "x"),
            ("FUNCTION", "RESTORE", "x", "y"),
        ),
        *(
            ("FUNCTION", "RESTORE", "x", "FLUSH", "y"),
            ("FCALL", "f"),
            ("FCALL", "f", "x"),
            ("FUNCTION", "LOAD", SAME),
        ),
        *(
            ("FCALL", "f", "x"),
            ("FCALL", "f", "1"),
            ("FCALL", "f", "-1"),
            ("FCALL", "F", "0"),
            ("FCALL", "f", "1x"),
        ),
        *(
            ("FCALL", "f", "0"),
            ("fcall", "f", " 0"),
            ("FCALL_RO", "f", "0"),
            ("FCALL_RO", "f", "1"),
            ("FCALL_RO", "g", "x"),
        ),
    ],
    "libraries": [
        *(
            ("FUNCTION", "LOAD", SAME),
            ("FUNCTION", "LOAD", SAME),
            ("FUNCTION", "LOAD", OTHER),
            ("FCALL", "f", "0"),
        ),
        *(
            ("FUNCTION", "LOAD", "REPLACE", library("error('x')")),
            ("FCALL", "f", "0"),
            ("FUNCTION", "LOAD", "REPLACE", SAME),
        ),
        *(
            ("FUNCTION", "LIST", "LIBRARYNAME", "L?b"),
            ("FUNCTION", "LIST", "LIBRARYNAME", "o*"),
            ("FUNCTION", "STATS"),
        ),
        *(
            ("FUNCTION", "DELETE", "LIB"),
            ("FUNCTION", "DELETE", "lib"),
            ("FCALL", "f", "0"),
            ("FUNCTION", "LOAD", OTHER),
        ),
        *(
            ("FCALL", "f", "0"),
            ("FUNCTION", "LOAD", "REPLACE", SAME),
            ("FUNCTION", "LIST"),
            ("FUNCTION", "FLUSH"),
        ),
        *(
            ("FUNCTION", "LIST"),
            ("FCALL", "f", "0"),
            ("FUNCTION", "LOAD", library("", "x")),
            ("FUNCTION", "LIST"),
        ),
    ],
    "read-only functions": [
        *(
            ("FUNCTION", "LOAD", FLAGGED),
            ("FCALL_RO", "r", "1", "k"),
            ("FCALL", "r", "1", "k"),
            ("SET", "k", "v"),
        ),
        *(
            ("FCALL_RO", "r", "1", "k"),
            ("FUNCTION", "LIST"),
            ("FUNCTION", "FLUSH"),
            ("FUNCTION", "LOAD", SAME),
        ),
        *(("FCALL_RO", "f", "0"), ("COMMAND", "GETKEYS", "FCALL", "f", "2", "k", "l", "m")),
    ],
    "transactions": [
        *(
            ("MULTI",),
            ("FUNCTION", "LOAD", SAME),
            ("FCALL", "f", "0"),
            ("FUNCTION", "LIST"),
            ("FUNCTION", "KILL"),
            ("EXEC",),
        ),
        *(
            ("MULTI",),
            ("FCALL", "f"),
            ("EXEC",),
            ("MULTI",),
            ("FCALL", "x", "0"),
            ("FUNCTION", "STATS"),
            ("EXEC",),
        ),
    ],
    "want of memory": [
        *(("FUNCTION", "LOAD", FLAGGED), ("FUNCTION", "LOAD", OTHER), ("CONFIG", "SET", "maxmemory", "1")),
        *(
            ("FUNCTION", "LOAD", SAME),
            ("FUNCTION", "RESTORE", payload(SAME)),
            ("FCALL", "f", "0"),
            ("FCALL", "r", "1", "k"),
        ),
        *(
            ("FUNCTION", "DELETE", "other"),
            ("FCALL", "f", "0"),
            ("FUNCTION", "FLUSH"),
            ("CONFIG", "SET", "maxmemory", "0"),
        ),
    ],
    "state": [
        (
            "FUNCTION",
            "LOAD",
            library("local n = 0 redis.register_function('f', function() n = n + 1 return n end)"),
        ),
        *(
            ("FCALL", "f", "0"),
            ("FCALL", "f", "0"),
            ("EVAL", "return redis.register_function", "0"),
            ("SCRIPT", "FLUSH"),
        ),
        *(
            ("FCALL", "f", "0"),
            ("EVAL", "return n", "0"),
            ("EVAL", "return redis.call('fcall', 'f', 0)", "0"),
        ),
    ],
    "payloads": [
        ("FUNCTION", "RESTORE", given, *policy)
        for given in (
            *(payload(), payload(SAME), payload(SAME, SAME), payload("x"), payload(library("foo()"))),
            *(
                payload(library("return +")),
                payload(library("")),
                payload("#!foo name=lib\n"),
                payload(OTHER),
            ),
            *(payload(SAME, opcode=250), payload(SAME, version=99), payload(SAME, OTHER), payload(FLAGGED)),
            *(payload(SAME)[:-1], payload(SAME)[1:], payload(SAME) + b"x", b""),
            payload(MORE, FLAGGED),
        )
        for policy in ((), ("APPEND",), ("REPLACE",), ("flush",), ("REPLACE",))
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
@both_protocols
def test_commands_answer_as_on_real_servers(trio: list[Server], name: str, protocol: int) -> None:
    assert_same(trio, protocol, COMMANDS[name])


def test_payloads_go_from_each_server_to_each(trio: list[Server]) -> None:
    clients = clients_of(trio, 2)
    long = library("--" + 500 * "x" + "\nredis.register_function('f', function() return 'long' end)")
    for source in (SAME, long):
        for giver in clients:
            giver.call("FUNCTION", "LOAD", "REPLACE", source)
            given = parse(giver.call("FUNCTION", "DUMP")).text
            giver.call("FUNCTION", "FLUSH")
            for taker in clients:
                if taker is clients[1] and giver is clients[2]:
                    continue  # redis 7.0 reads nothing of newer versions
                assert taker.call("FUNCTION", "RESTORE", given) == b"+OK\r\n"
                assert taker.call("FCALL", "f", "0") in (b"$4\r\nsame\r\n", b"$4\r\nlong\r\n")
                taker.call("FUNCTION", "FLUSH")
    for client in clients:
        client.close()


# -- a store -------------------------------------------------------------------------------------------


def test_what_is_put_into_the_store_can_be_called_and_what_is_taken_cannot() -> None:
    store = Store()
    libraries = store._hub.scripting.libraries
    store.call("FUNCTION", "LOAD", SAME)
    store.ctx.libraries[b"lib"] = library("redis.register_function('g', function() return 2 end)").encode()
    assert store.call("FCALL", "g", 0) == 2
    with pytest.raises(ResponseError, match="Function not found"):
        store.call("FCALL", "f", 0)
    libraries.check()
    store.ctx.libraries.clear()
    with pytest.raises(ResponseError, match="Function not found"):
        store.call("FCALL", "g", 0)
    assert store.call("FUNCTION", "LIST") == []
    libraries.check()


def test_a_library_that_cannot_be_loaded_is_kept_and_tells_why(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.ctx.libraries[b"lib"] = library("foo()").encode()
    assert store.call("FUNCTION", "LIST") == [] == store.call("FUNCTION", "LIST")
    assert [record.getMessage() for record in caplog.records] == [
        "the library of functions 'lib' cannot be loaded: Error registering functions: ERR user_function:2: "
        "Script attempted to access nonexistent global variable 'foo'"
    ]
    store._hub.scripting.libraries.check()
    assert store.call("FUNCTION", "LOAD", "REPLACE", SAME) == b"lib"
    assert store.call("FCALL", "f", 0) == b"same"
    store._hub.scripting.libraries.check()


def test_a_library_that_takes_too_long_is_not_loaded() -> None:
    store = Store()
    with pytest.raises(ResponseError, match=r"^ERR Error registering functions: ERR FUNCTION LOAD timeout$"):
        store.call("FUNCTION", "LOAD", library("while true do end"))
    assert store.call("FUNCTION", "LOAD", SAME) == b"lib"
    assert store.call("FCALL", "f", 0) == b"same"


def test_a_payload_that_collides_changes_nothing() -> None:
    store = Store()
    store.call("FUNCTION", "LOAD", OTHER)
    for policy in ("APPEND", "REPLACE"):
        with pytest.raises(ResponseError, match="Function f already exists"):
            store.call("FUNCTION", "RESTORE", payload(MORE, SAME), policy)
        assert store.call("FUNCTION", "STATS")[3][1] == [b"libraries_count", 1, b"functions_count", 1]
    assert store.call("FCALL", "f", 0) == b"other"
    store._hub.scripting.libraries.check()


class Effects:
    """Keeps what would be logged."""

    def __init__(self) -> None:
        self.found: list[tuple[bytes, ...]] = []

    def on_commit(self, db: int, effect: tuple[bytes, ...], events: Any) -> None:
        self.found.append(effect)

    def on_event(self, db: int, name: str, key: bytes) -> None: ...
    def on_clear(self, db: int, had: Any) -> None: ...
    def on_swap(self, db: int, has: Any, other: int, other_has: Any) -> None: ...
    def on_unit(self, begins: bool) -> None: ...


def test_changes_are_logged_as_what_servers_read_and_count() -> None:
    store, effects = Store(), Effects()
    store.ctx.listen(effects)
    same, other, flagged = SAME.encode(), OTHER.encode(), FLAGGED.encode()
    expected: list[tuple[Words, list[tuple[bytes, ...]]]] = [
        (("LOAD", SAME), [(b"LOAD", same)]),
        (("LOAD", "REPLACE", FLAGGED), [(b"LOAD", b"REPLACE", flagged)]),
        (("RESTORE", payload(OTHER)), [(b"LOAD", other)]),
        (("DELETE", "lib"), [(b"DELETE", b"lib")]),
        (("RESTORE", payload(OTHER), "REPLACE"), [(b"DELETE", b"other"), (b"LOAD", other)]),
        (("RESTORE", payload(SAME), "FLUSH"), [(b"FLUSH",), (b"LOAD", same)]),
        (("FLUSH",), [(b"FLUSH",)]),
        (("RESTORE", payload()), []),
    ]
    for words, effect in expected:
        before = store.dirty
        store.call("FUNCTION", *words)
        assert effects.found == [(b"FUNCTION", *each) for each in effect], words
        assert store.dirty == before + 1
        effects.found.clear()
    assert isinstance(store, EngineStore)


def test_what_a_function_writes_is_logged_whatever_it_asks_for() -> None:
    store, effects = Store(), Effects()
    store.call("FUNCTION", "LOAD", function("redis.set_repl(redis.REPL_NONE) return redis.call('incr', 'k')"))
    store.ctx.listen(effects)
    assert store.fcall("f", 0) == 1
    assert effects.found == [(b"INCRBY", b"k", b"1")]
