"""Lua scripts: the interpreter that EVAL and its kin run on."""

from __future__ import annotations

from kvstore.commands.lua.functions import BAD_NAME, Function, FunctionInterpreter
from kvstore.commands.lua.interpreter import (
    Hooks,
    Interpreter,
    Script,
    ScriptKilled,
    available,
    parse_shebang,
)

__all__ = [
    "BAD_NAME",
    "Function",
    "FunctionInterpreter",
    "Hooks",
    "Interpreter",
    "Script",
    "ScriptKilled",
    "available",
    "parse_shebang",
]
