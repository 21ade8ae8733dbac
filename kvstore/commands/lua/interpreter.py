"""Runs scripts: a Lua 5.1 with the server's libraries and nothing else.

The runtime is made on the first use and lives until ``flush``; scripts are compiled once and kept by their
SHA1. What a script may touch is decided in ``sandbox.lua``.

Invariants
- No Python exception passes through Lua: whatever a callback raises is kept, the script is killed, and ``run``
  raises it.
- One script runs at a time, as scripts cannot run scripts.

Costs: a script that does nothing takes some microseconds, each call of a command one or two more than the command.

Must not know: sessions, the store. It calls commands through its hooks.
"""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import dataclass
from math import copysign, inf
from pathlib import Path
from sys import getsizeof
from typing import Any, ClassVar, Final, Protocol

from kvstore.commands.lua.bytecode import keep_frames
from kvstore.commands.lua.convert import (
    ABORT,
    FAILED,
    NoWord,
    ToLua,
    decode,
    integer,
    status,
    word_of,
)
from kvstore.errors import NoScriptError, err
from kvstore.resp import ErrorReply, split_words

LIBRARIES = ("sandbox", "random", "redis", "bit", "struct", "cmsgpack", "cjson")
_MOST_DIRECT = 64  # keys and arguments that are passed as they are; more go as tables
_FETCH = 4000  # values taken from Lua in one call
_MOST_PASSING = 500  # as the servers have it
_MEMORY = 1 << 30  # bytes that scripts may hold

_NO_ARGUMENTS = "Please specify at least one argument for this redis lib call"
_BAD_ARGUMENT = b"ERR Lua redis lib command arguments must be strings or integers"
_BAD_CHECK = b"Invalid command passed to redis.acl_check_cmd()"
_KILLED = b"ERR Script killed by user with SCRIPT KILL..."
# The server names its library in these.
TEXTS: Final = {
    b"no_arguments": _NO_ARGUMENTS.encode(),
    b"log_arguments": b"redis.log() requires two arguments or more.",
    b"log_level": b"Invalid debug level.",
    b"setresp_arguments": b"redis.setresp() requires one argument.",
    b"set_repl_arguments": b"redis.set_repl() requires two arguments.",
}


class ScriptKilled(Exception):
    """What ``Hooks.on_slow`` raises to end the script."""


class Hooks(Protocol):
    """What the interpreter needs of the server that it runs in."""

    def call(self, argv: list[bytes], protocol: int) -> Any:
        """Run a command for the script; its reply tree, an error as an ErrorReply."""

    def allows(self, argv: list[bytes]) -> bool | None:
        """Whether the user may run the command; None when there is no such command."""

    def log(self, level: int, message: bytes) -> None:
        """redis.log, level 0 (debug) to 3 (warning)."""

    def on_slow(self) -> None:
        """Called again and again once the script has run past its time. May raise ScriptKilled."""


@dataclass(frozen=True, slots=True)
class Script:
    """A compiled script."""

    sha: str
    body: bytes
    flags: frozenset[str] | None  # of a shebang line; None where there is none
    function: Any


FLAGS = frozenset({"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"})


def available() -> bool:
    """Whether lupa, which brings Lua, is installed."""
    try:
        import lupa.lua51  # noqa: F401
    except ImportError:
        return False
    return True


class Interpreter:
    """The scripts of one store."""

    # What is run goes by that name in errors.
    SOURCE: ClassVar[bytes] = b"@user_script"
    # What the world of scripts is made of, in that order; the last one closes it.
    CHUNKS: ClassVar[tuple[str, ...]] = (*LIBRARIES, "run")
    TEXTS: ClassVar[dict[bytes, bytes]] = TEXTS

    def __init__(self, hooks: Hooks, *, version: tuple[int, int, int] = (7, 4, 0), memory: int = _MEMORY):
        self._hooks = hooks
        self._version = version
        self._memory = memory
        self._lua: Any = None
        self._by_body: dict[bytes, Script] = {}
        self.scripts: dict[str, Script] = {}
        # Of these, since 7.4, what EVAL brought and nobody loaded: few, and what ran longest ago goes first.
        self._passing: dict[str, None] = {}
        self._most_passing = _MOST_PASSING if version >= (7, 4) else 0
        self.evicted = 0
        self.time_limit = 5.0  # seconds until on_slow is called; 0 for never
        self.started = 0.0
        # Whether the last run's ErrorReply came from a command, whose failure was counted then.
        self.error_counted = False
        self._failure: BaseException | None = None
        self._protocol = 2

    # -- scripts -----------------------------------------------------------------------------------

    def load(self, body: bytes) -> str:
        """Compile a script and keep it; its SHA1 in hexadecimal. Raises the server's error if it cannot be.

        O(len(body)) the first time, a dict lookup from then on.
        """
        script = self._by_body.get(body) or self._compile(body)
        self._passing.pop(script.sha, None)
        return script.sha

    def load_in_passing(self, body: bytes) -> str:
        """As ``load``, for a script that is run as it comes."""
        script = self._by_body.get(body)
        if script is None:
            script = self._compile(body)
            if self._most_passing:
                self._keep_in_passing(script.sha)
        return script.sha

    def _keep_in_passing(self, sha: str) -> None:
        passing = self._passing
        if len(passing) >= self._most_passing:
            oldest = next(iter(passing))
            del passing[oldest], self._by_body[self.scripts.pop(oldest).body]
            self.evicted += 1
        passing[sha] = None

    def __contains__(self, sha: str) -> bool:
        return sha in self.scripts

    def __len__(self) -> int:
        return len(self.scripts)

    def flush(self) -> None:
        """Forget all scripts, and what they left in the libraries' settings."""
        self._by_body.clear()
        self.scripts.clear()
        self._passing.clear()
        if self._lua is not None:
            self._stop()

    def memory_used(self) -> int:
        """Bytes that Lua holds, compiled scripts included."""
        return 0 if self._lua is None else int(self._count() * 1024)

    def memory_of_bodies(self) -> int:
        """Bytes of the scripts as they were sent, and of their names. O(n) scripts."""
        return sum(getsizeof(script.body) + getsizeof(script.sha) for script in self.scripts.values())

    def _compile(self, body: bytes) -> Script:
        flags, code = parse_shebang(body)
        compiled = self._function_of(code, "Error compiling script (new function)")
        sha = hashlib.sha1(body).hexdigest()
        script = Script(sha, body, flags, compiled)
        self.scripts[sha] = self._by_body[body] = script
        return script

    def _function_of(self, code: bytes, failed: str) -> Any:
        if self._lua is None:
            self._start()
        compiled = self._compile_lua(code, self.SOURCE)
        if compiled.__class__ is tuple:
            raise err(f"{failed}: " + compiled[1].decode("utf-8", "surrogateescape"))
        return compiled

    def run(self, sha: str, keys: list[bytes], args: list[bytes]) -> Any:
        """Run a script that was loaded; its reply tree, an error it raised as an ErrorReply.

        Raises NoScriptError, and what the hooks raised.
        """
        script = self.scripts.get(sha)
        if script is None:
            raise NoScriptError
        sha = script.sha
        passing = self._passing
        if sha in passing:
            passing[sha] = passing.pop(sha)
        self._protocol = 2
        self.error_counted = False
        self.started = time.monotonic()
        count = len(keys)
        try:
            if count + len(args) <= _MOST_DIRECT:
                result = self._run(script.function, count, *keys, *args)
            else:
                result = self._run_with(script.function, self._table(keys), self._table(args))
        except self._lua_error as error:
            if self._failure is None:
                return ErrorReply(b"ERR %b script: %b" % (str(error).encode(), sha.encode()))
            result = (-1, self.SOURCE, 1)
        if result.__class__ is bytes:
            return result
        return self._reply(result, sha)

    def _reply(self, result: Any, sha: str) -> Any:
        if result.__class__ is not tuple:
            return None if result is None else integer(result)
        code = result[0]
        if code == 1:
            return decode(result[1:])
        if code == 2:
            return decode(self._fetch_all(result[1]))
        if code == 3:
            return status(result[1])
        if code == 4:
            self.error_counted = result[2] == 1
            return ErrorReply(result[1])
        failure, self._failure = self._failure, None
        text = _KILLED
        if code == 0:
            text = result[3]
            self.error_counted = result[4] == 1
        elif failure is not None and not isinstance(failure, ScriptKilled):
            raise failure
        return ErrorReply(b"%b script: %b, on %b:%d." % (text, sha.encode(), result[1], result[2]))

    def _fetch_all(self, count: int) -> tuple[Any, ...]:
        values: list[Any] = []
        for first in range(1, count + 1, _FETCH):
            last = min(first + _FETCH - 1, count)
            got = self._fetch(first, last)
            values.extend(got if last > first else (got,))
        return tuple(values)

    # -- the runtime -------------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            from lupa import lua51
        except ImportError:
            raise err("scripts need Lua: install kvstore[lua]") from None
        self._lua_error = lua51.LuaError
        lua = lua51.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_no_attributes,
        )
        table = lua.table_from
        load_chunk = lua.eval(b"loadstring")
        kv: Any = table({name.encode(): value for name, value in self._natives(table).items()})
        for name in self.CHUNKS:
            chunk = load_chunk(Path(__file__).with_name(f"{name}.lua").read_bytes(), b"=kv")
            kv = chunk(kv) or kv
        self._lua, self._table = lua, table
        self._compile_lua = kv[b"compile"]
        self._run, self._run_with, self._fetch = kv[b"run"], kv[b"run_with"], kv[b"fetch"]
        self._count = kv[b"kilobytes"]
        self._started(kv)

    def _stop(self) -> None:
        """Let go of the runtime, and so that it goes now: it and what it calls of Python have each other."""
        self._to_lua.forget()
        self._lua = self._table = self._compile_lua = self._run = self._run_with = self._fetch = (
            self._count
        ) = None

    def _started(self, kv: Any) -> None:
        """Take what else is needed of the runtime."""

    def _natives(self, table: Any) -> dict[str, Any]:
        """What Lua calls of Python. None of them raises."""
        major, minor, patch = self._version
        self._to_lua = to_lua = ToLua(table)
        return {
            "call": self._make_call(to_lua),
            "call_table": self._make_call_table(to_lua),
            "allows": self._allows,
            "log": self._log,
            "tick": self._tick,
            "set_protocol": self._set_protocol,
            "keep_frames": keep_frames,
            "sha1": lambda text: hashlib.sha1(text).hexdigest().encode(),
            "pack_double": lambda value: struct.pack(">d", value),
            "pack_float": _pack_float,
            "pack_number": _pack_number,
            "unpack_double": lambda raw: float(struct.unpack(">d", raw)[0]),
            "unpack_float": lambda raw: float(struct.unpack(">f", raw)[0]),
            "most_kilobytes": self._memory // 1024,
            "version": b"%d.%d.%d" % self._version,
            "version_number": major << 16 | minor << 8 | patch,
            "texts": table(self.TEXTS),
            "source": self.SOURCE,
        }

    def _make_call(self, to_lua: ToLua) -> Any:
        run, reply2, reply3 = self._hooks.call, to_lua.reply2, to_lua.reply3

        def call(*words: Any) -> Any:
            try:
                argv = [word if word.__class__ is bytes else word_of(word) for word in words]
                protocol = self._protocol
                reply = run(argv, protocol)
                cls = reply.__class__
                if cls is bytes or cls is int:
                    return reply
                return reply2(reply) if protocol == 2 else reply3(reply)
            except NoWord:
                return _BAD_ARGUMENT, FAILED
            except BaseException as failure:
                self._failure = failure
                return None, ABORT

        return call

    def _make_call_table(self, to_lua: ToLua) -> Any:
        call = self._make_call(to_lua)

        def call_table(words: Any, count: int) -> Any:
            values = list(words.values())
            if len(values) != count:  # a nil among them
                return _BAD_ARGUMENT, FAILED
            return call(*values)

        return call_table

    def _allows(self, words: Any, count: int) -> Any:
        try:
            argv = [word_of(word) for word in words.values()]
            if len(argv) != count:
                raise NoWord
            allowed = self._hooks.allows(argv)
            return (_BAD_CHECK, FAILED) if allowed is None else allowed
        except NoWord:
            return _BAD_ARGUMENT.removeprefix(b"ERR "), FAILED
        except BaseException as failure:
            self._failure = failure
            return None, ABORT

    def _log(self, level: int, message: bytes) -> None:
        try:
            self._hooks.log(level, message)
        except BaseException as failure:
            self._failure = failure

    def _tick(self) -> bool:
        """Called by Lua now and then; whether to kill the script."""
        try:
            limit = self.time_limit
            if limit > 0 and time.monotonic() - self.started > limit:
                self._hooks.on_slow()
        except BaseException as failure:
            self._failure = failure
        return self._failure is not None

    def _set_protocol(self, protocol: int) -> None:
        self._protocol = protocol


def _no_attributes(obj: object, name: object, setting: bool) -> Any:
    raise AttributeError("scripts have no access to Python")


def _pack_float(value: float) -> bytes:
    try:
        return struct.pack(">f", value)
    except OverflowError:
        return struct.pack(">f", copysign(inf, value))


def _pack_number(value: float) -> bytes:
    """A double in MessagePack: as float32 where that is exact."""
    single = _pack_float(value)
    if struct.unpack(">f", single)[0] == value:
        return b"\xca" + single
    return b"\xcb" + struct.pack(">d", value)


def parse_shebang(body: bytes) -> tuple[frozenset[str] | None, bytes]:
    """The flags of a ``#!lua flags=…`` line (None: no such line), and the code after it."""
    if not body.startswith(b"#!"):
        return None, body
    end = body.find(b"\n")
    if end < 0:
        raise err("Invalid script shebang")
    parts = split_words(body[:end])
    if not parts:
        raise err("Invalid engine in script shebang")
    engine, *options = [part.decode("utf-8", "surrogateescape") for part in parts]
    if engine != "#!lua":
        raise err(f"Unexpected engine in script shebang: {engine}")
    flags: set[str] = set()
    for option in options:
        if not option.startswith("flags="):
            raise err(f"Unknown lua shebang option: {option}")
        for flag in filter(None, option[len("flags=") :].split(",")):
            if flag not in FLAGS:
                raise err(f"Unexpected flag in script shebang: {flag}")
            flags.add(flag)
    return frozenset(flags), body[end:]
