"""The interpreter by itself: what scripts cannot do, kills, caches, bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

pytest.importorskip("lupa")

from kvstore.commands.lua import Interpreter, ScriptKilled
from kvstore.commands.lua.bytecode import keep_frames
from kvstore.errors import NoScriptError, ResponseError
from kvstore.resp import ErrorReply, RespSet, Status, Verbatim

KILLED = b"ERR Script killed by user with SCRIPT KILL... script: %b, on @user_script:%d."


class Echo:
    """Hooks whose commands answer from a table, and which kill as soon as they are asked."""

    def __init__(self, replies: dict[bytes, Any] | None = None) -> None:
        self.replies = replies or {}
        self.calls: list[tuple[list[bytes], int]] = []
        self.logged: list[tuple[int, bytes]] = []
        self.slow = 0

    def call(self, argv: list[bytes], protocol: int) -> Any:
        self.calls.append((argv, protocol))
        reply = self.replies.get(argv[0], argv[1:])
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def allows(self, argv: list[bytes]) -> bool | None:
        return {b"get": True, b"set": False}.get(argv[0])

    def log(self, level: int, message: bytes) -> None:
        self.logged.append((level, message))

    def on_slow(self) -> None:
        self.slow += 1
        raise ScriptKilled


@pytest.fixture
def hooks() -> Echo:
    return Echo()


@pytest.fixture
def interpreter(hooks: Echo) -> Interpreter:
    return Interpreter(hooks)


@pytest.fixture
def impatient(interpreter: Interpreter) -> Interpreter:
    interpreter.time_limit = 0.001
    return interpreter


def run(interpreter: Interpreter, body: str | bytes, keys: Any = (), args: Any = ()) -> Any:
    return interpreter.run(
        interpreter.load(body.encode() if isinstance(body, str) else body), list(keys), list(args)
    )


# -- scripts and their cache -----------------------------------------------------------------------------


def test_load_gives_the_sha1_of_the_body(interpreter: Interpreter) -> None:
    body = b"return 1"
    sha = interpreter.load(body)
    assert sha == hashlib.sha1(body).hexdigest()
    assert interpreter.load(body) == sha
    assert sha in interpreter
    assert len(interpreter) == 1


def test_run_of_an_unknown_script_is_noscript(interpreter: Interpreter) -> None:
    with pytest.raises(NoScriptError):
        interpreter.run("0" * 40, [], [])


def test_flush_forgets_scripts_and_settings(interpreter: Interpreter) -> None:
    run(interpreter, "cjson.encode_max_depth(3)")
    sha = interpreter.load(b"return 1")
    interpreter.flush()
    assert sha not in interpreter
    assert run(interpreter, "return cjson.encode_max_depth()") == 1000


def test_a_script_that_does_not_compile_is_not_kept(interpreter: Interpreter) -> None:
    with pytest.raises(ResponseError, match="ERR Error compiling script"):
        interpreter.load(b"return +")
    assert len(interpreter) == 0


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000, 9000])
def test_any_number_of_keys_and_arguments(interpreter: Interpreter, count: int) -> None:
    words = [b"%d" % i for i in range(count)]
    body = "return {#KEYS, #ARGV, KEYS[#KEYS] or false, ARGV[1] or false}"
    last, first = (words[-1], words[0]) if words else (None, None)
    assert run(interpreter, body, words, []) == [count, 0, last, None]
    assert run(interpreter, body, [], words) == [0, count, None, first]
    assert run(interpreter, body, words, words) == [count, count, last, first]


def test_keys_and_arguments_of_a_run_are_gone_in_the_next(interpreter: Interpreter) -> None:
    run(interpreter, "KEYS[5] = 'x' ARGV.name = 'y'", [b"k"], [b"a"])
    assert run(interpreter, "return {#KEYS, #ARGV, KEYS[5] or 0, ARGV.name or 0}") == [0, 0, 0, 0]


def test_shebang_lines_name_the_engine_and_flags(interpreter: Interpreter) -> None:
    sha = interpreter.load(b"#!lua flags=no-writes,allow-stale\nreturn 1")
    assert interpreter.scripts[sha].flags == {"no-writes", "allow-stale"}
    assert interpreter.scripts[interpreter.load(b"return 1")].flags is None
    assert run(interpreter, "#!lua\nreturn nosuch").endswith(b"on @user_script:2.")


@pytest.mark.parametrize("size", [32, 33, 1000, 7990])
def test_commands_take_any_number_of_arguments(interpreter: Interpreter, hooks: Echo, size: int) -> None:
    hooks.replies[b"c"] = b"done"
    words = [b"%d" % i for i in range(size)]
    assert run(interpreter, "return redis.call('c', unpack(ARGV))", [], words) == b"done"
    assert hooks.calls == [([b"c", *words], 2)]
    refused = run(interpreter, "return redis.pcall('c', unpack(ARGV, 1, #ARGV), nil, 'x')", [], words)
    assert refused == b"ERR Lua redis lib command arguments must be strings or integers"


# -- values ----------------------------------------------------------------------------------------------


def test_strings_are_bytes_both_ways(interpreter: Interpreter) -> None:
    every = bytes(range(256))
    assert run(interpreter, "return {KEYS[1], ARGV[1], #ARGV[1], 'a\\0b'}", [every], [b"\0\xff"]) == [
        every,
        b"\0\xff",
        2,
        b"a\0b",
    ]
    assert run(interpreter, b"return 'caf\xe9 \xff'") == b"caf\xe9 \xff"


def test_long_and_nested_replies(interpreter: Interpreter) -> None:
    assert run(interpreter, "local t = {} for i = 1, 20000 do t[i] = i end return t") == list(range(1, 20001))
    assert run(interpreter, "local t = {} for i = 1, 5000 do t[i] = {i, false} end return t") == [
        [i, None] for i in range(1, 5001)
    ]


def test_a_reply_within_itself_ends_in_an_error(interpreter: Interpreter) -> None:
    reply = run(interpreter, "local t = {} t[1] = t return t")
    depth = 0
    while isinstance(reply, list):
        (reply,) = reply
        depth += 1
    assert reply == ErrorReply(b"ERR reached lua stack limit")
    assert depth == 300


def test_replies_of_every_type_reach_the_script(interpreter: Interpreter, hooks: Echo) -> None:
    hooks.replies = {
        b"list": [b"a", 1, None, [b"b"], Status(b"OK"), ErrorReply(b"ERR x")],
        b"map": {b"k": b"v", b"n": 1.5},
        b"set": RespSet([b"m"]),
        b"bool": True,
        b"text": Verbatim(b"words"),
    }
    body = "local r = redis.call('list') return {r[1], r[2], tostring(r[3]), r[4][1], r[5].ok, r[6].err, #r}"
    assert run(interpreter, body) == [b"a", 1, b"false", b"b", b"OK", b"ERR x", 6]
    assert run(interpreter, "return redis.call('map')") == [b"k", b"v", b"n", b"1.5"]
    assert run(interpreter, "return redis.call('bool')") == 1
    three = "redis.setresp(3) local r = redis.call(ARGV[1]) return "
    assert run(interpreter, three + "{r.map.k, tostring(r.map.n.double)}", [], [b"map"]) == [b"v", b"1.5"]
    assert run(interpreter, three + "tostring(r.set.m)", [], [b"set"]) == b"true"
    assert run(interpreter, three + "tostring(r)", [], [b"bool"]) == b"true"
    assert run(interpreter, three + "r.verbatim_string.format", [], [b"text"]) == b"txt"
    assert run(interpreter, three + "r", [], [b"map"]) == {b"k": b"v", b"n": 1.5}
    assert [protocol for _, protocol in hooks.calls] == [2, 2, 2, 3, 3, 3, 3, 3]


def test_a_line_break_in_an_error_table_stays_within_the_reply(interpreter: Interpreter) -> None:
    reply = run(interpreter, "error({err='a\\nb'})")
    assert isinstance(reply, ErrorReply)
    assert reply.startswith(b"a\nb script: ")


# -- what the hooks hear ---------------------------------------------------------------------------------


def test_log_messages_are_joined(interpreter: Interpreter, hooks: Echo) -> None:
    run(interpreter, "redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b')")
    assert hooks.logged == [(3, b"a 1 b")]


def test_acl_check_asks_the_hooks(interpreter: Interpreter) -> None:
    body = "return {redis.acl_check_cmd('get', 'k'), redis.acl_check_cmd('set', 'k', 1)}"
    assert run(interpreter, body) == [1, None]
    assert run(interpreter, "return redis.acl_check_cmd('nosuch')").startswith(
        b"ERR Invalid command passed to redis.acl_check_cmd() script: "
    )


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("x"), SystemExit()])
def test_an_exception_of_a_command_ends_the_script_whatever_it_catches(
    interpreter: Interpreter, hooks: Echo, failure: BaseException
) -> None:
    hooks.replies = {b"bad": failure, b"good": 1}
    for body in (
        "redis.call('bad')",
        "while true do pcall(redis.pcall, 'bad') end",
        "pcall(redis.pcall, 'bad') redis.call('good')",
        "coroutine.resume(coroutine.create(function() redis.call('bad') end)) redis.call('good')",
    ):
        with pytest.raises(type(failure)):
            run(interpreter, body)
    assert [argv for argv, _ in hooks.calls] == [[b"bad"]] * 4
    assert run(interpreter, "return 1") == 1


# -- kills -----------------------------------------------------------------------------------------------

ENDLESS = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "while true do xpcall(error, function() while true do end end) end",
    "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "local co = coroutine.wrap(function() while true do pcall(coroutine.yield) end end) while true do co() end",
    "while true do pcall(redis.call, 'x') end",
    "while true do redis.pcall({}) end",
    "local function f() return f() end f()",
    "local t = setmetatable({}, {__index = function(t, k) while true do end end}) return pcall(function() return t.x end)",
    "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
    "table.sort({1, 2, 3, 4}, function() while true do end end)",
    "string.gsub(string.rep('x', 100), '.', function() while true do end end)",
    "while true do load(function() while true do end end) end",
    "while true do loadstring('while true do end')() end",
    "while true do pcall(cjson.decode, '[1') end",
    "local t = {} t[1] = t while true do pcall(cjson.encode, t) end",
    "while true do cmsgpack.unpack(cmsgpack.pack({1, 2, {3}})) end",
    "local s = string.rep('[', 900) .. string.rep(']', 900) while true do pcall(cjson.decode, s) end",
    "pcall(pcall, pcall, function() while true do end end) while true do end",
    "local function f() pcall(f) pcall(f) end while true do f() end",
    "for i = 1, 1e18 do end",
    "repeat until pcall(error) == 1",
]


@pytest.mark.parametrize("body", ENDLESS)
def test_a_script_that_never_ends_can_be_killed(impatient: Interpreter, hooks: Echo, body: str) -> None:
    interpreter = impatient
    reply = run(interpreter, body)
    place = b"@user_script" if "loadstring" not in body else b"while true do end"
    expected = KILLED % (interpreter.load(body.encode()).encode(), 1)
    assert reply == expected.replace(b"@user_script", place)
    assert isinstance(reply, ErrorReply)
    assert hooks.slow == 1
    assert run(interpreter, "return 1") == 1


def test_the_place_of_a_kill_is_where_the_script_was(impatient: Interpreter) -> None:
    interpreter = impatient
    body = "local n = 0\nwhile true do\n n = n + 1 end"
    reply = run(interpreter, body)
    assert reply in [KILLED % (interpreter.load(body.encode()).encode(), line) for line in (2, 3)]


def test_a_long_reply_can_be_killed_too(interpreter: Interpreter, hooks: Echo) -> None:
    interpreter.time_limit = 0.05
    body = "local t = {} for i = 1, 100 do local u = {} for j = 1, 1000 do u[j] = t[i - 1] end t[i] = u end return t"
    assert run(interpreter, body).startswith(b"ERR Script killed")
    assert run(interpreter, "return 1") == 1


def test_hooks_may_let_a_slow_script_go_on() -> None:
    class Patient(Echo):
        def on_slow(self) -> None:
            self.slow += 1

    patient = Patient()
    interpreter = Interpreter(patient)
    interpreter.time_limit = 0.001
    assert run(interpreter, "local n = 0 for i = 1, 2000000 do n = n + i end return n") == 2000001000000
    assert patient.slow > 0


def test_no_limit_asks_nobody(interpreter: Interpreter, hooks: Echo) -> None:
    interpreter.time_limit = 0
    assert run(interpreter, "for i = 1, 2000000 do end return 1") == 1
    assert hooks.slow == 0


def test_memory_is_bounded(hooks: Echo) -> None:
    interpreter = Interpreter(hooks, memory=32 << 20)
    interpreter.time_limit = 0
    assert b"not enough memory" in run(interpreter, "local t = {} for i = 1, 1e9 do t[i] = {i} end")
    assert b"resulting string too large" in run(interpreter, "return #string.rep('x', 1e9)")
    large = "local t = {} for i = 1, 100 do t[i] = string.rep(string.char(i), 2^23) end"
    assert b"not enough memory" in run(interpreter, large)
    assert run(interpreter, "local t = {} for i = 1, 3e6 do t[1] = {i} end return 1") == 1


def test_nothing_is_repeated_in_no_time(interpreter: Interpreter) -> None:
    assert run(interpreter, "return {#string.rep('', 1e18), #string.rep('x', -5), #string.rep('x', 0)}") == [
        0,
        0,
        0,
    ]


# -- the sandbox -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "python",
        "io",
        "debug",
        "package",
        "require",
        "module",
        "dofile",
        "loadfile",
        "print",
        "getfenv",
        "setfenv",
        "newproxy",
        "jit",
        "kv",
        "native",
    ],
)
def test_there_is_no_global(interpreter: Interpreter, name: str) -> None:
    reply = run(interpreter, f"return {name}")
    assert f"attempted to access nonexistent global variable '{name}'".encode() in reply
    assert run(interpreter, f"return rawget(_G, '{name}')") is None


def test_only_the_clock_of_os_is_there(interpreter: Interpreter) -> None:
    assert run(interpreter, "local t = {} for k in pairs(os) do t[#t + 1] = k end return t") == [b"clock"]


# Every value that a script can reach by indexing, iterating and asking for metatables.
REACHABLE = """
local seen, found = {}, {}
local function visit(value, path)
  local kind = type(value)
  if kind == 'userdata' and value ~= cjson.null then
    found[#found + 1] = path
  end
  if seen[value] or kind ~= 'table' and kind ~= 'userdata' and kind ~= 'string' then
    return
  end
  seen[value] = true
  visit(getmetatable(value), path .. '.<metatable>')
  if kind == 'table' then
    for key, item in pairs(value) do
      visit(key, path .. '.<key>')
      visit(item, path .. '.' .. tostring(key))
    end
  end
end
visit(_G, '_G')
for _, f in pairs({redis.call, pairs(_G), next, string.format}) do visit({pcall(f)}, 'error') end
return found
"""


def test_no_python_object_can_be_reached(interpreter: Interpreter) -> None:
    assert run(interpreter, REACHABLE) == []


def test_errors_of_python_are_no_values_of_lua(interpreter: Interpreter, hooks: Echo) -> None:
    hooks.replies[b"bad"] = ValueError("secret")
    with pytest.raises(ValueError, match="secret"):
        run(interpreter, "local ok, e = pcall(redis.call, 'bad') return type(e)")


@pytest.mark.parametrize(
    "body",
    [
        "x = 1",
        "_G.x = 1",
        "_G.redis = nil",
        "redis.call = nil",
        "string.format = nil",
        "rawset(_G, 'x', 1)",
        "rawset(redis, 'call', 1)",
        "setmetatable(_G, {})",
        "setmetatable(string, {})",
        "getmetatable('').__index = {}",
        "getmetatable(_G).__index = nil",
        "rawset(getmetatable(''), '__add', 1)",
        "table.insert(string, 1)",
        "table.insert(_G, 1, 1)",
        "function f() end",
        "cjson.encode = 1",
        "local _, t = pairs(_G) t.x = 1",
        "local _, t = pairs(string) rawset(t, 'x', 1)",
    ],
)
def test_shared_tables_are_readonly(interpreter: Interpreter, body: str) -> None:
    assert b"Attempt to modify a readonly table" in run(interpreter, body)
    assert run(interpreter, "return {type(redis.call), ('%d'):format(5), #string, #_G}") == [
        b"function",
        b"5",
        0,
        0,
    ]


def test_iterating_over_shared_tables_shows_what_is_in_them(interpreter: Interpreter) -> None:
    body = "local n = 0 for k, v in pairs(%s) do n = n + 1 end local m, k = 0 repeat k = next(%s, k) if k then m = m + 1 end until not k return {n, m}"
    for name in ("_G", "string", "redis", "getmetatable('')"):
        by_pairs, by_next = run(interpreter, body % (name, name))
        assert by_pairs == by_next > 0


def test_bytecode_cannot_be_loaded(interpreter: Interpreter) -> None:
    refused = b"unexpected symbol near 'char(27)'"
    assert refused in run(interpreter, "return select(2, loadstring(string.dump(function() return 1 end)))")
    assert refused in run(
        interpreter,
        "local s = string.dump(function() end) return select(2, load(function() local r = s s = nil return r end))",
    )
    pieces = "local s = {'\\27', 'Lua'} return select(2, load(function() return table.remove(s, 1) end))"
    assert refused in run(interpreter, pieces)
    with pytest.raises(ResponseError, match="unexpected symbol"):
        interpreter.load(b"\x1bLuaQ\0\1\4\10\4\10\0")


def test_loaded_code_is_in_the_same_world(interpreter: Interpreter) -> None:
    assert b"nonexistent global" in run(interpreter, "return loadstring('return python')()")
    assert b"readonly" in run(interpreter, "loadstring('x = 1')()")


@pytest.mark.parametrize(
    "body",
    [
        "local function f() return 1 + f() end f()",
        "local function f(x) return {f(x)} end f(1)",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k + 1] end return t[1]",
        "local s = {} for i = 1, 300 do s[i] = '(' end return loadstring('return ' .. table.concat(s))()",
        "local function f() return pcall(f) end local function g() return g(f()) end return g()",
    ],
)
def test_endless_recursion_is_an_error(interpreter: Interpreter, body: str) -> None:
    assert isinstance(run(interpreter, body), ErrorReply)
    assert run(interpreter, "return 1") == 1


def test_the_collector_cannot_be_tuned_for_those_who_come_after(interpreter: Interpreter) -> None:
    assert run(interpreter, "return {collectgarbage('stop'), collectgarbage('setpause', 10000)}") == [0, 200]
    assert (
        run(interpreter, "local t for i = 1, 1e6 do t = {i} end return collectgarbage('count') < 100000") == 1
    )


# -- tail calls ------------------------------------------------------------------------------------------


def test_a_tail_call_of_a_library_keeps_its_line(interpreter: Interpreter) -> None:
    for body in (
        "local x = 1\nreturn cjson.decode('[')",
        "local decode = cjson.decode\nreturn decode('[')",
        "local s = '['\nreturn (cjson).decode(s)",
        "local function f()\n return cjson.decode('[')\nend return f()",
    ):
        reply = run(interpreter, body)
        assert reply.startswith(b"ERR user_script:2: Expected value")
        assert reply.endswith(b"on @user_script:2.")


def test_a_local_function_may_end_in_a_call_of_itself_without_end(interpreter: Interpreter) -> None:
    interpreter.time_limit = 0
    body = "local function f(n) if n == 0 then return 'done' end return f(n - 1) end return f(300000)"
    assert run(interpreter, body) == b"done"


def test_bytecode_of_another_kind_is_left_alone() -> None:
    assert keep_frames(b"\x1bLuaR\0\1\4\10\4\10\0") is None
    assert keep_frames(b"") is None
