"""Functions of libraries: an interpreter of their own, whose scripts are functions by name.

The code of a library runs once, when it is loaded, and registers functions; what they share are its locals.
All libraries live in one Lua, which scripts do not see.

Costs: as of scripts; loading a library runs its code, for half a second at most.

Must not know: sessions, the store, where libraries come from.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from kvstore.commands.lua.interpreter import FLAGS, LIBRARIES, TEXTS, Interpreter, Script
from kvstore.errors import err

BAD_NAME: Final = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
# As lists of them show them.
FLAGS_IN_ORDER: Final = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
_LOAD_LIMIT: Final = 0.5  # seconds
_NAME = b"redis.register_function"
_ARGUMENT = b"argument given to " + _NAME + b" must be a "
# The server names its library in these.
_TEXTS: Final = {
    **TEXTS,
    b"register_count": b"wrong number of arguments to " + _NAME,
    b"register_late": _NAME + b" can only be called on FUNCTION LOAD command",
    b"register_single": b"calling "
    + _NAME
    + b" with a single argument is only applicable to Lua table (representing named arguments).",
    b"register_first": b"first argument to " + _NAME + b" must be a string",
    b"register_second": b"second argument to " + _NAME + b" must be a function",
    b"register_no_name": _NAME + b" must get a function name argument",
    b"register_no_callback": _NAME + b" must get a callback argument",
    b"register_unknown": b"unknown argument given to " + _NAME,
    b"register_name_type": b"function_name " + _ARGUMENT + b"string",
    b"register_description_type": b"description " + _ARGUMENT + b"string",
    b"register_callback_type": b"callback " + _ARGUMENT + b"function",
    b"register_bad_name": BAD_NAME.encode(),
    b"register_flags_type": b"flags argument to " + _NAME + b" must be a table representing function flags",
}


@dataclass(frozen=True, slots=True)
class Function(Script):
    """A function of a library. Its ``sha`` is its name, its ``body`` the source of the library."""

    library: bytes
    description: bytes | None
    listed_flags: tuple[str, ...]  # in the order of FLAGS_IN_ORDER

    @property
    def key(self) -> str:
        """What it is found by: case does not tell functions apart."""
        return self.sha.lower()


class FunctionInterpreter(Interpreter):
    """The functions of one store. ``scripts`` has those that can be called, by their keys."""

    SOURCE = b"@user_function"
    CHUNKS = (*LIBRARIES, "functions", "run")
    TEXTS = _TEXTS

    _loading = False

    def load_library(self, name: bytes, source: bytes, code: bytes) -> list[Function]:
        """Run the code of a library; the functions that it registers, which nobody can call yet.

        Raises the server's error where it cannot be compiled, raises an error, or takes too long.
        """
        function = self._function_of(code, "Error compiling function")
        self._loading, self.started = True, time.monotonic()
        try:
            found = self._load(function)
        except self._lua_error as error:
            raise err(f"Error registering functions: ERR {error}") from None
        finally:
            self._loading = False
        if found.__class__ is tuple:
            _, killed, problem = found
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            text = "ERR FUNCTION LOAD timeout" if killed else problem.decode("utf-8", "surrogateescape")
            raise err(f"Error registering functions: {text}")
        return [self._made(name, source, *self._taken(i)) for i in range(1, found + 1)]

    def _made(
        self,
        library: bytes,
        source: bytes,
        name: bytes,
        callback: Any,
        description: bytes | None,
        joined: bytes,
    ) -> Function:
        flags = tuple(flag for flag in FLAGS_IN_ORDER if f",{flag},".encode() in joined)
        return Function(
            name.decode(), source, frozenset(flags), callback, library, description, listed_flags=flags
        )

    def _natives(self, table: Any) -> dict[str, Any]:
        return super()._natives(table) | {"is_flag": lambda text: text.decode("latin-1") in FLAGS}

    def _started(self, kv: Any) -> None:
        self._load, self._taken = kv[b"load"], kv[b"taken"]

    def _stop(self) -> None:
        super()._stop()
        self._load = self._taken = None

    def _tick(self) -> bool:
        if self._loading:
            return time.monotonic() - self.started > _LOAD_LIMIT
        return super()._tick()
