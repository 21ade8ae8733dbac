"""Keeps frames on the stack that Lua's tail calls would drop.

``return redis.call(...)`` is a tail call: the script's frame is gone when the function runs, and with it the
line that the server names in errors (there the function is C, for which Lua makes no tail call). So tail calls
become plain calls, but for those through an upvalue: a local function that ends in a call of itself may do so
for ever.

Knows the bytecode of Lua 5.1, and leaves that of anything else alone.
"""

from __future__ import annotations

import struct

# Version 5.1, official format, little endian, int 4, size_t 8, Instruction 4, lua_Number 8, not integral.
_HEADER = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"
_OP_MOVE, _OP_GETUPVAL, _OP_GETGLOBAL, _OP_GETTABLE, _OP_SELF, _OP_CALL, _OP_TAILCALL = 0, 4, 5, 6, 11, 28, 29
# What can have put a function into the register that is called.
_LOADS = frozenset({_OP_MOVE, _OP_GETUPVAL, _OP_GETGLOBAL, _OP_GETTABLE, _OP_SELF, _OP_CALL})
_NUMBER_BYTES = 8


class _Chunk:
    """A cursor over one dumped function and those inside it."""

    def __init__(self, dump: bytes):
        self.data = bytearray(dump)
        self.at = len(_HEADER)
        self.changed = False

    def _int(self) -> int:
        (value,) = struct.unpack_from("<i", self.data, self.at)
        self.at += 4
        return int(value)

    def _skip_string(self) -> None:
        (size,) = struct.unpack_from("<Q", self.data, self.at)
        self.at += 8 + int(size)

    def _skip_constant(self) -> None:
        kind = self.data[self.at]
        self.at += 1
        if kind == 1:
            self.at += 1
        elif kind == 3:
            self.at += _NUMBER_BYTES
        elif kind == 4:
            self._skip_string()

    def function(self) -> None:
        self._skip_string()  # source
        self.at += 4 + 4 + 4  # first and last line, four counts of a byte each
        size = self._int()
        self._keep_frames(self.at, size)
        self.at += 4 * size
        for _ in range(self._int()):
            self._skip_constant()
        for _ in range(self._int()):
            self.function()
        lines = self._int()
        self.at += 4 * lines
        for _ in range(self._int()):  # local variables
            self._skip_string()
            self.at += 8
        for _ in range(self._int()):  # names of upvalues
            self._skip_string()

    def _keep_frames(self, start: int, size: int) -> None:
        code = struct.unpack_from(f"<{size}I", self.data, start)
        for place, instruction in enumerate(code):
            if instruction & 0x3F == _OP_TAILCALL and _is_no_upvalue(code, place):
                # Both take all results of the call, and a return of all of them follows.
                struct.pack_into("<I", self.data, start + 4 * place, instruction & ~0x3F | _OP_CALL)
                self.changed = True


def _is_no_upvalue(code: tuple[int, ...], place: int) -> bool:
    """Whether the function called at ``place`` is no upvalue."""
    register = code[place] >> 6 & 0xFF
    for instruction in reversed(code[:place]):
        if instruction & 0x3F in _LOADS and instruction >> 6 & 0xFF == register:
            return instruction & 0x3F != _OP_GETUPVAL
    return False


def keep_frames(dump: bytes) -> bytes | None:
    """The dumped function with such calls made plain; None where there are none. O(len(dump))."""
    if not dump.startswith(_HEADER):
        return None
    chunk = _Chunk(dump)
    chunk.function()
    return bytes(chunk.data) if chunk.changed else None
