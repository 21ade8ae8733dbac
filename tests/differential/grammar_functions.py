"""Libraries of functions, their calls, and scripts: what they may do, and what they are told if they may not.

Code is made of statements drawn one by one. What servers give in an order of their own (sets, libraries, the
functions of one) is compared in any. What ends a server is left out: two functions of a library whose names
differ in case only, and a script that raises a table without a text.
"""

from __future__ import annotations

import re
from hashlib import sha1

from kvstore.commands.libraries import sources_in
from kvstore.engine.codec import crc64, string_of
from kvstore.errors import ResponseError
from tests.differential.compare import Exchange, both_errors
from tests.differential.grammar import (
    BAD_WORD,
    KEY,
    VALUE,
    Avoid,
    Grammar,
    Known,
    Rng,
    Step,
    command,
    counted,
    macro,
    mostly,
    one_of,
    opt,
    options,
    pick,
    seq,
    some,
    step,
)
from tests.rawclient import Node, parse

# -- code; K and A stand for the keys and the arguments ----------------------------------------------------

_CALLS = (
    *("'get', K[1]", "'set', K[1], A[1]", "'set', K[1], A[1], 'get'", "'incr', K[1]"),
    *("'append', K[1], A[1]", "'lpush', K[1], A[1]", "'lrange', K[1], 0, -1", "'lpop', K[1]"),
    *("'llen', K[1]", "'rpoplpush', K[1], K[1]", "'hset', K[1], 'f', A[1]", "'hget', K[1], 'f'"),
    *("'hgetall', K[1]", "'sadd', K[1], A[1]", "'scard', K[1]", "'zadd', K[1], 1.5, A[1]"),
    *("'zscore', K[1], A[1]", "'zrange', K[1], 0, -1, 'withscores'", "'sort', K[1]", "'del', K[1]"),
    *("'type', K[1]", "'exists', K[1], K[2]", "'expire', K[1], 100", "'strlen', K[1]"),
    *("'publish', 'c', 'm'", "'dbsize'", "'echo', A[1]", "'ping'", "'rename', K[1], K[1]"),
    *("'mget', K[1], K[2]", "'nosuch'", "'get'", "'set', K[1]", "'get', K[1], A[1]", "", "{}"),
    *("'get', nil", "'get', K", "'object'", "'object', 'x'", "'multi'", "'eval', 'return 1', 0"),
    *("'fcall', 'f', 0", "'function', 'list'", "'function', 'flush'", "'script', 'load', ''"),
    *("'blpop', 'nokey', 0", "'brpoplpush', K[1], 'b', 0", "'watch', K[1]", "'subscribe', 'c'"),
    *("'acl', 'whoami'", "'wait', 0, 0", "'set', 'x', 1", "unpack(A)", "'select', 0", "'hello', 3"),
    *("'lpush', K[1], unpack(A)", "'incrby', K[1], 2.9", "'setex', K[1], 0, 1"),
)  # fmt: skip
_VALUES = (
    *("1", "-1", "2.9", "'x'", "nil", "true", "false", "K", "A", "K[1]", "#A", "{}", "{1, nil, 2}"),
    *("{1, {2, {'x'}}}", "{a=1}", "{nil, 1}", "redis.status_reply('fine')"),
    *("redis.error_reply('My error')", "redis.error_reply('x')", "{ok='a'}", "{err='b'}", "{err='-ERR x'}"),
    *("{double=3.5}", "{double=1}", "{map={a=1}}", "{map={}}", "{set={a=true}}", "{set={}}"),
    *("{big_number='12'}", "{verbatim_string={string='x', format='txt'}}", "redis.REDIS_VERSION == nil"),
    *("type(redis.REDIS_VERSION_NUM)", "redis.sha1hex('')", "redis.sha1hex()"),
    *("redis.acl_check_cmd('set', 'x', 1)", "redis.acl_check_cmd('nosuch')", "redis.acl_check_cmd()"),
    *("redis.acl_check_cmd({})", "redis.acl_check_cmd('function', 'x')", "redis.acl_check_cmd('get')"),
    *("redis.set_repl(redis.REPL_ALL)", "redis.set_repl(redis.REPL_NONE + 99)"),
    *("redis.set_repl(redis.REPL_AOF)", "redis.set_repl()", "redis.set_repl('x')", "redis.breakpoint()"),
    *("redis.debug('x')", "redis.replicate_commands()", "redis.setresp(4)", "redis.setresp()"),
    *("redis.setresp('3')", "redis.log()", "redis.register_function('g', function() end)"),
    *("redis.register_function", "redis.nosuch", "nosuch", "KEYS", "ARGV", "print", "redis.log(9, 'x')"),
    *("cjson.encode({1, K[1]})", "tonumber(A[1])", "tostring(A[1])", "cmsgpack.unpack(cmsgpack.pack(K))"),
    *("bit.band(7, 2)", "struct.pack('>H', 258)", "string.rep('x', 3)", "math.floor(2.5)"),
    *("table.concat(K, '+')", "select('#', unpack(A))", "K[1] .. A[1]", "#K + A[1]", "type(K)"),
    "unpack(K)",
)  # fmt: skip
_STATEMENTS = (
    *("redis.setresp(3)", "redis.setresp(2)", "redis.log(redis.LOG_DEBUG, 'x')"),
    *("redis.set_repl(redis.REPL_NONE) redis.set_repl(redis.REPL_ALL)", "error('x')"),
    *("error({err='My x'})", "error({err='x'})", "error()", "error('x', 0)", "error(12)"),
    *("local t = nil; t.x = 1", "x = 1", "redis.x = 1", "if #K > 1 then return 'more' end"),
    *("for i, v in ipairs(A) do v = v .. i end", "local ok, e = pcall(error, 'x')", "K[1] = K[1] or 'a'"),
    *("_G.y = 2", "local ok, e = pcall(redis.call, 'get'); if not ok then return e end"),
    *("local ok, e = pcall(redis.call, 'lpush', 'w:string', 1); return e", "local t = {} t.x.y = 1"),
    *("redis.call = nil", "setmetatable(_G, {})", "rawset(_G, 'z', 1)", "local f = loadstring('return 5')"),
    "return loadstring('x = ')",
)  # fmt: skip


def _expression(rng: Rng) -> str:
    luck = rng.random()
    if luck < 0.45:
        return f"redis.call({rng.choice(_CALLS)})"
    if luck < 0.6:
        return f"redis.pcall({rng.choice(_CALLS)})"
    if luck < 0.68:
        return f"{{{_expression(rng)}, {_expression(rng)}}}"
    return rng.choice(_VALUES)


def _code(rng: Rng, keys: str, args: str) -> str:
    """Some statements, on lines of their own or not."""
    lines = []
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        luck = rng.random()
        lines.append(
            f"redis.call({rng.choice(_CALLS)})"
            if luck < 0.35
            else f"redis.pcall({rng.choice(_CALLS)})"
            if luck < 0.55
            else f"do {rng.choice(_STATEMENTS)} end"
        )
    lines.append(f"return {_expression(rng)}" if rng.random() < 0.95 else "")
    code = rng.choice(("\n", " ", "\n\n ")).join(lines)
    if rng.random() < 0.02:
        code += rng.choice((" return +", " end", " 'x", "\x00", "\n)"))
    code = re.sub(r"\bK\b", keys, code)
    return re.sub(r"\bA\b", args, code)


# -- scripts -----------------------------------------------------------------------------------------------

_FLAGS = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
# A second word for the flags of a script, or another engine; most are refused.
_SHEBANGS = (
    *("#!lua", "#!lua flags=", "#!lua flags=x", "#!lua x=y", "#!foo", "#!", "#!lua flags=no-writes,x"),
    *("#!lua  flags=allow-oom ", "#!LUA", "#! lua", "#!lua flags=no-writes flags=allow-oom"),
    *("#!lua name=x", "#!lua FLAGS=no-writes", "#!lua 'flags=no-writes'"),
)  # fmt: skip


def _script(rng: Rng) -> bytes:
    code = _code(rng, "KEYS", "ARGV")
    luck = rng.random()
    if luck < 0.25:
        flags = ",".join(rng.sample(_FLAGS, rng.randint(0, 3)))
        code = f"#!lua flags={flags}\n{code}"
    elif luck < 0.3:
        code = f"{rng.choice(_SHEBANGS)}{rng.choice((chr(10), chr(10), ''))}{code}"
    return code.encode()


# Mostly enough of both.
_ARGUMENTS = mostly(
    seq(counted(KEY, 1, 2), some(VALUE, 1, 2)), seq(counted(KEY, 0, 2), some(VALUE, 0, 2)), 0.2
)


_EVAL = seq(lambda rng: [_script(rng)], _ARGUMENTS)


def _by_sha(rng: Rng) -> list[Step]:
    """A script that is loaded, then run by its SHA1."""
    body = _script(rng)
    name = rng.choice(("EVALSHA", "EVALSHA", "EVALSHA_RO"))
    digest = sha1(body).hexdigest().encode()
    if rng.random() < 0.1:
        digest = digest.upper()
    calls = [Step((name.encode(), digest, *_ARGUMENTS(rng))) for _ in range(rng.randint(1, 3))]
    return [Step((b"SCRIPT", b"LOAD", body)), *calls, Step((b"SCRIPT", b"EXISTS", digest))]


# -- libraries ---------------------------------------------------------------------------------------------

# Libraries and the functions that each mostly has; now and then one has a name of another's.
_OWN = {"lib": ("f", "g"), "two": ("h", "i"), "l_3": ("j",)}
_LIBRARIES = tuple(_OWN)
_FUNCTIONS = tuple(name for names in _OWN.values() for name in names)
_BAD_REGISTRATIONS = (
    *("redis.register_function()", "redis.register_function('f')"),
    *("redis.register_function(1, function() end)", "redis.register_function{}"),
    *("redis.register_function('a-b', function() end)", "redis.register_function({function_name='f'})"),
    "redis.register_function('f', 1, 2)",
    "redis.register_function{function_name='f', callback=function() end, flags={'x'}}",
    "redis.register_function('', function() end)",
    "redis.register_function{function_name='f', callback=function() end, flags='no-writes'}",
    "redis.register_function{callback=function() end}",
    *("redis.register_function{function_name='f', callback=function() end, more=1}", "error('x')"),
    *("return +", "redis.call('ping')", "x = 1"),
    *("redis.register_function{function_name='f', callback='g'}", "redis.setresp(3)", "nosuch()"),
    *("return redis.nosuch", "redis.register_function(1)"),
)  # fmt: skip
_METADATA = (
    *("#!lua", "#!lua name=", "#!lua name=a-b", "#!foo name=lib", "#!lua name=lib name=two"),
    *("#!lua name=lib x=y", "", "#!", "lua name=lib", "#!lua flags=no-writes name=lib", "#! lua name=lib"),
    *('#!lua "name=lib', "#!LUA name=two", '#!lua "name=l_3"'),
)  # fmt: skip


def _registration(rng: Rng, name: str) -> str:
    code = _code(rng, "keys", "args")
    callback = f"function(keys, args){rng.choice((' ', chr(10)))}{code} end"
    if rng.random() < 0.4:
        return f"redis.register_function('{name}', {callback})"
    flags = ", ".join(f"'{flag}'" for flag in rng.sample(_FLAGS, rng.choice((0, 0, 1, 1, 2))))
    parts = [f"function_name='{name}'", f"callback={callback}"]
    if flags or rng.random() < 0.3:
        parts.append(f"flags={{{flags}}}")
    if rng.random() < 0.3:
        parts.append("description='what it does'")
    rng.shuffle(parts)
    return f"redis.register_function{{{', '.join(parts)}}}"


def _library(rng: Rng) -> bytes:
    library = rng.choice(_LIBRARIES)
    head = f"#!lua name={library}" if rng.random() > 0.05 else rng.choice(_METADATA)
    names = list(_OWN[library] if rng.random() < 0.8 else _OWN[library][:1])
    if rng.random() < 0.07:
        names.append(rng.choice(_FUNCTIONS))
    parts = [_registration(rng, name) for name in names]
    if rng.random() < 0.06:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(_BAD_REGISTRATIONS))
    if rng.random() < 0.1:
        parts.insert(0, "local shared = 0")
    return f"{head}\n{chr(10).join(parts)}".encode()


def _payload(rng: Rng) -> list[bytes]:
    """What FUNCTION DUMP would have given of some libraries."""
    data = b"".join(b"\xf5" + string_of(_library(rng)) for _ in range(rng.choice((0, 1, 1, 2))))
    data += b"\x0a\x00"
    data += crc64(data).to_bytes(8, "little")
    if rng.random() < 0.05:
        at = rng.randrange(len(data))
        data = data[:at] + b"\x00" + data[at + 1 :]
    return [data]


def _full(rng: Rng) -> list[Step]:
    """Calls while there is no memory."""
    steps = [Step((b"FUNCTION", b"LOAD", b"REPLACE", _library(rng))), step("CONFIG", "SET", "maxmemory", "1")]
    for _ in range(rng.randint(1, 6)):
        name = rng.choice((b"FCALL", b"FCALL", b"FCALL_RO"))
        steps.append(Step((name, _FUNCTION(rng)[0], *_ARGUMENTS(rng))))
        name = rng.choice((b"EVAL", b"EVAL", b"EVAL_RO"))
        steps.append(Step((name, _script(rng), *_ARGUMENTS(rng))))
        steps += [Step((b"FUNCTION", b"LOAD", _library(rng)))] * (rng.random() < 0.1)
        steps += [Step((b"FUNCTION", b"RESTORE", *_payload(rng)))] * (rng.random() < 0.1)
    return [*steps, step("CONFIG", "SET", "maxmemory", "0")]


def _transaction(rng: Rng) -> list[Step]:
    """Calls, and changes of libraries between them, in one unit."""
    steps = [step("MULTI")]
    for _ in range(rng.randint(1, 4)):
        steps.append(
            rng.choice(
                (
                    Step((b"FCALL", _FUNCTION(rng)[0], *_ARGUMENTS(rng))),
                    Step((b"FCALL_RO", _FUNCTION(rng)[0], *_ARGUMENTS(rng))),
                    Step((b"FUNCTION", b"LOAD", b"REPLACE", _library(rng))),
                    Step((b"EVAL", _script(rng), *_ARGUMENTS(rng))),
                    Step((b"FUNCTION", b"DELETE", rng.choice(_LIBRARIES).encode())),
                    step("FUNCTION", "STATS"),
                )
            )
        )
    return [*steps, step(rng.choice(("EXEC", "EXEC", "EXEC", "DISCARD")))]


_FUNCTION = mostly(pick(*_FUNCTIONS, "F"), pick("nosuch", ""), 0.05)
_NAME = mostly(pick(*_LIBRARIES), pick("nosuch", "", "LIB"), 0.1)
_SOURCE = seq(lambda rng: [_library(rng)])
_PATTERN = seq("LIBRARYNAME", pick("*", "t*", "L?b", "nosuch", "[lt]*", "L*"))
_LIST_WORD = one_of("WITHCODE", "LIBRARYNAME", BAD_WORD)
_POLICY = mostly(one_of("APPEND", "REPLACE", "FLUSH", weights=(4, 5, 1)), BAD_WORD, 0.05)


# -- comparing ---------------------------------------------------------------------------------------------


def _sorted_libraries(node: Node) -> object:
    """Without the order of libraries, and of the functions of each."""
    libraries = []
    for library in node.items or ():
        items = list(library.items or ())
        libraries.append([item.text or sorted(item.items or ()) for item in items])
    return node.mark, sorted(map(repr, libraries))


def _listing(exchange: Exchange) -> str | None:
    same = _sorted_libraries(parse(exchange.ours)) == _sorted_libraries(parse(exchange.theirs))
    return None if same else "the libraries differ, in whatever order"


def _dumped(exchange: Exchange) -> str | None:
    """The same sources; how they are compressed, and in what order they stand, is a server's own matter."""
    try:
        ours, theirs = (sorted(sources_in(parse(each).text)) for each in (exchange.ours, exchange.theirs))
    except ResponseError as error:
        return f"not a payload: {error}"
    return None if ours == theirs else "the payloads have other libraries"


# What valkey says in other words than redis, whose words we keep.
_REWORDED = [
    (b"server.register_function", b"redis.register_function"),
    (b"server.log()", b"redis.log()"),
    (b"server.setresp()", b"redis.setresp()"),
    (b"server.set_repl() requires one argument.", b"redis.set_repl() requires two arguments."),
    (b"Invalid log level", b"Invalid debug level"),
    (b"Unknown command called", b"Unknown Redis command called"),
    (b"args calling command", b"args calling Redis command"),
    (b"ERR Command arguments must be", b"ERR Lua redis lib command arguments must be"),
    (b"at least one argument for this call", b"at least one argument for this redis lib call"),
    (b"server.acl_check_cmd()", b"redis.acl_check_cmd()"),
    (b"No matching script.", b"No matching script. Please use EVAL."),
]


def _in_other_words(exchange: Exchange) -> bool:
    theirs = exchange.theirs
    for valkey, redis in _REWORDED:
        theirs = theirs.replace(valkey, redis)
    return theirs != exchange.theirs and _without_lengths(exchange.ours) == _without_lengths(theirs)


def _without_lengths(reply: bytes) -> bytes:
    return re.sub(rb"\$\d+", b"$", reply)


_COLLISION = re.compile(rb"(Function|Library) '?\w+'? already exists")


def _collides(exchange: Exchange) -> bool:
    """Of several that collide, which one is told is a matter of a server's order."""
    ours, theirs = (_COLLISION.sub(b"collision", each) for each in (exchange.ours, exchange.theirs))
    return ours == theirs and b"collision" in ours


def _source_of(argv: tuple[bytes, ...]) -> bytes:
    """All code in a request."""
    if [word.upper() for word in argv[:2]] == [b"FUNCTION", b"RESTORE"] and len(argv) > 2:
        try:
            return b" ".join(sources_in(argv[2]))
        except ResponseError:
            return b""
    return b" ".join(argv)


def _waits(argv: tuple[bytes, ...]) -> bool:
    return re.search(rb"'(blpop|brpoplpush|wait)'", _source_of(argv)) is not None


GRAMMAR = Grammar(
    "functions",
    [
        command("FUNCTION LOAD", opt("REPLACE", p=0.8), _SOURCE, weight=14),
        command("FUNCTION LOAD", some(one_of("REPLACE", BAD_WORD), 0, 2), _SOURCE, weight=0.3),
        command("FCALL", _FUNCTION, _ARGUMENTS, weight=22),
        command("FCALL_RO", _FUNCTION, _ARGUMENTS, weight=6),
        command("FCALL", _FUNCTION, some(one_of(KEY, pick(0, 1, "x", "-1", " 1", "01")), 0, 3), weight=1),
        command("FUNCTION DELETE", _NAME, weight=1),
        command("FUNCTION FLUSH", opt(one_of("SYNC", "ASYNC", BAD_WORD), p=0.3), weight=0.3),
        command("FUNCTION LIST", options("WITHCODE", _PATTERN, p=0.4), compare=_listing, weight=4),
        command("FUNCTION LIST", some(_LIST_WORD, 1, 3), compare=_listing, weight=0.5),
        command("FUNCTION DUMP", compare=_dumped, weight=2),
        command("FUNCTION RESTORE", _payload, opt(_POLICY, p=0.8), weight=3),
        command("FUNCTION STATS", weight=2),
        command("FUNCTION KILL", weight=0.2),
        command("FUNCTION", pick("x", "", "LOAD", "DUMP"), weight=0.1),
        command("EVAL", _EVAL, weight=10),
        command("EVAL_RO", _EVAL, weight=4),
        macro("BY SHA", _by_sha, weight=3),
        command("EVALSHA", pick("0" * 40, "x", ""), _ARGUMENTS, weight=0.3),
        command("SCRIPT EXISTS", some(pick("0" * 40, "x"), 0, 2), weight=0.2),
        command("SCRIPT FLUSH", opt(one_of("SYNC", "ASYNC", BAD_WORD)), weight=0.1),
        command("SCRIPT KILL", weight=0.2),
        command("COMMAND GETKEYS", one_of("FCALL", "FCALL_RO", "EVAL"), _FUNCTION, _ARGUMENTS, weight=0.5),
        macro("FULL", _full, weight=0.7),
        macro("TRANSACTION", _transaction, weight=1),
    ],
    avoid=[Avoid("redis", "scripts of 7.0 may not call what blocks", _waits)],
    known=[
        Known("valkey", {"*"}, "what scripts are told, in words without Redis's name", _in_other_words),
        Known("valkey", {"FUNCTION"}, "which of several collisions is told", _collides),
        Known("redis", {"COMMAND"}, "7.0 wants more words of GETKEYS", both_errors),
        Known("redis", {"FUNCTION"}, "which of several collisions is told", _collides),
    ],
    prologue=(step("CONFIG", "SET", "maxmemory", "0"), step("FUNCTION", "FLUSH"), step("SCRIPT", "FLUSH")),
)  # fmt: skip
