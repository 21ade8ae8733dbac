"""Scripts on real servers and on the interpreter, whose commands go to the same servers: replies byte for byte.

The scripts are in ``tests/lua``, one a line; those of a file run in order, as some leave settings behind. The
reference is valkey 8.0 (the behaviour of 7.2), with the words of redis where valkey dropped the name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lupa")

from kvstore.commands.lua import Interpreter
from kvstore.errors import ResponseError
from kvstore.resp import NULL_ARRAY, BigNumber, ErrorReply, RespSet, Status, Verbatim, encode2, encode3
from tests.rawclient import Node, parse
from tests.servers import Server

DIRECTORY = Path(__file__).parent / "lua"
GROUPS = sorted(path.stem for path in DIRECTORY.glob("*.txt"))

MORE = {
    "errors": [
        "\n\nlocal t = nil; return t.x",
        "\n\nreturn redis.call('nosuch')",
        "local f = function()\n return redis.call('nosuch')\nend\n\nreturn f()",
        "local f = function()\n local x = cjson.decode('{') return x\nend\n\nreturn f()",
        "\x1bLua",
        "local a = 1\nreturn +",
        "",
    ],
}
# What valkey says in other words than redis, whose words we keep.
REWORDED = [
    (b"Unknown command called from script", b"Unknown Redis command called from script"),
    (
        b"Wrong number of args calling command from script",
        b"Wrong number of args calling Redis command from script",
    ),
    (b"ERR Command arguments must be", b"ERR Lua redis lib command arguments must be"),
    (b"at least one argument for this call", b"at least one argument for this redis lib call"),
    (b"server.setresp()", b"redis.setresp()"),
    (b"server.log()", b"redis.log()"),
    (b"server.set_repl() requires one argument.", b"redis.set_repl() requires two arguments."),
    (b"Invalid log level.", b"Invalid debug level."),
]


def reply_tree(node: Node) -> Any:
    """A parsed reply as the tree that a command of ours would have given."""
    mark, text, items = node
    if items is not None:
        values = [reply_tree(item) for item in items]
        if mark == b"%":
            return dict(zip(values[::2], values[1::2], strict=True))
        return RespSet(values) if mark == b"~" else values
    scalars: dict[bytes, Any] = {
        b"+": Status,
        b"-": ErrorReply,
        b":": int,
        b"$": bytes,
        b",": float,
        b"(": BigNumber,
        b"#": lambda raw: raw == b"t",
        b"=": lambda raw: Verbatim(raw[4:]),
        b"*": lambda raw: NULL_ARRAY,
    }
    return scalars[mark](text) if mark in scalars else None


class Forwarding:
    """Hooks that send the commands of a script to a real server."""

    def __init__(self, server: Server) -> None:
        self.clients = {2: server.client(), 3: server.client()}
        self.clients[3].hello3()

    def call(self, argv: list[bytes], protocol: int) -> Any:
        tree = reply_tree(parse(self.clients[protocol].call(*argv)))
        if isinstance(tree, ErrorReply):
            # The command layer words these for scripts.
            if tree.startswith(b"ERR unknown command"):
                return ErrorReply(b"ERR Unknown Redis command called from script")
            if tree.startswith(b"ERR wrong number of arguments"):
                return ErrorReply(b"ERR Wrong number of args calling Redis command from script")
        return tree

    def allows(self, argv: list[bytes]) -> bool | None:
        return True

    def log(self, level: int, message: bytes) -> None:
        pass

    def on_slow(self) -> None:
        pass


def run(interpreter: Interpreter, body: bytes, args: tuple[bytes, ...] = ()) -> Any:
    """What EVAL does."""
    try:
        return interpreter.run(interpreter.load(body), [], list(args))
    except ResponseError as error:
        return ErrorReply(str(error).encode("utf-8", "surrogateescape"))


def comparable(reply: bytes) -> bytes:
    for theirs, ours in REWORDED:
        reply = reply.replace(theirs, ours)
        if ours in reply:
            reply = re.sub(rb"\$\d+", b"$<length>", reply)
    return re.sub(rb"0x[0-9a-f]{6,}", b"<address>", reply)


def scripts_of(group: str) -> list[bytes]:
    lines = (DIRECTORY / f"{group}.txt").read_text().splitlines()
    return [script.encode() for script in (*lines, *MORE.get(group, []))]


def differences(server: Server, group: str, protocol: int) -> list[tuple[bytes, bytes, bytes]]:
    encode = encode2 if protocol == 2 else encode3
    interpreter = Interpreter(Forwarding(server))
    with server.client() as client:
        if protocol == 3:
            client.hello3()
        client.call("SCRIPT", "FLUSH")
        client.call("EVAL", "math.randomseed(0)", "0")
        run(interpreter, b"math.randomseed(0)")
        found = []
        for body in scripts_of(group):
            theirs = comparable(client.call("EVAL", body, "0"))
            ours = comparable(encode(run(interpreter, body)))
            if theirs != ours:
                found.append((body, theirs, ours))
        return found


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("group", GROUPS)
def test_scripts_answer_as_on_valkey(valkey_server: Server, group: str, protocol: int) -> None:
    assert differences(valkey_server, group, protocol) == []


# What redis 7.0 answers otherwise than 7.2: it prints doubles with 17 digits and has no table "os".
OLDER = re.compile(rb"1e300|0\.1\)|1e17|2\^6[23]|-0\.0\)|double=0/0|\bos\b")


@pytest.mark.parametrize("group", GROUPS)
def test_scripts_answer_as_on_redis(redis_server: Server, group: str) -> None:
    found = differences(redis_server, group, 2)
    assert [each for each in found if not OLDER.search(each[0])] == []


def test_the_globals_are_those_of_the_servers(redis_server: Server, valkey_server: Server) -> None:
    names = b"local t={} for k,v in pairs(_G) do t[#t+1]=k..':'..type(v) end table.sort(t) return t"
    ours = set(run(Interpreter(Forwarding(redis_server)), names))
    redis, valkey = (
        {item.text for item in parse(server.client().call("EVAL", names, "0")).items or ()}
        for server in (redis_server, valkey_server)
    )
    # Servers with the security fixes of 2025 no longer give these to scripts unless told to.
    deprecated = {b"getfenv:function", b"setfenv:function", b"newproxy:function"}
    assert ours == valkey - deprecated
    assert ours - redis <= {b"os:table", b"server:table"}


LIBRARIES = ["string", "table", "math", "coroutine", "cjson", "cmsgpack", "struct", "bit", "os", "redis"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_has_what_it_has_on_valkey(valkey_server: Server, library: str) -> None:
    names = (
        b"local t={} for k,v in pairs(%b) do t[#t+1]=k..':'..type(v) end table.sort(t) return t"
        % library.encode()
    )
    with valkey_server.client() as client:
        theirs = {item.text for item in parse(client.call("EVAL", names, "0")).items or ()}
    theirs = {name for name in theirs if not name.startswith((b"SERVER_NAME", b"VALKEY_VERSION"))}
    assert set(run(Interpreter(Forwarding(valkey_server)), names)) == theirs


def test_random_numbers_of_a_fresh_server() -> None:
    # As "redis-cli EVAL" shows them right after a start of redis-server or valkey-server.
    class Nothing:
        def call(self, argv: list[bytes], protocol: int) -> Any:
            raise AssertionError

        allows = log = on_slow = call

    interpreter = Interpreter(Nothing())  # type: ignore[arg-type]
    draw = b"return {math.random(100),math.random(100),math.random(100)}"
    assert run(interpreter, draw) == [40, 85, 36]
    assert run(interpreter, b"return tostring(math.random())") == b"0.44658343468168"
