"""Replies to Lua values and back.

To Lua: what a command answered becomes a value, or a value and its kind (see ``redis.lua``). Under RESP2 a
null is false; under RESP3 it is nil, and the types that only RESP3 has become tables with one field.

From Lua: ``decode`` reads the flat form in which ``run.lua`` hands over what a script returned.

Must not know: sessions, commands.
"""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, isfinite
from typing import Any

from kvstore.numbers import format_double
from kvstore.resp import NULL_ARRAY, BigNumber, ErrorReply, RespSet, Status, Verbatim, downgrade

# Kinds of what a Python function gives to Lua, as redis.lua has them.
STATUS, FAILED, ABORT = 1, 2, 3

_INT64_MIN = -(2**63)
_PLAIN_LIMIT = 2**62  # integers beyond are printed as doubles, as the server does


class NoWord(Exception):
    """What a script gave to redis.call cannot be a word of a command."""


def word_of(value: object) -> bytes:
    """An argument of redis.call as the command gets it. Raises NoWord."""
    cls = value.__class__
    if cls is int:
        whole: int = value  # type: ignore[assignment]
        if -_PLAIN_LIMIT <= whole <= _PLAIN_LIMIT:
            return b"%d" % whole
        return format_double(float(whole))
    if cls is float:
        number: float = value  # type: ignore[assignment]
        if number != number and copysign(1.0, number) < 0:
            return b"-nan"
        return format_double(number)
    if cls is not bytes:
        raise NoWord
    return value  # type: ignore[return-value]


class ToLua:
    """Makes Lua values of reply trees; ``table`` is the runtime's table_from."""

    def __init__(self, table: Callable[..., Any]):
        self._table = table
        self._by_class: dict[type, Callable[[Any], Any]] = {
            dict: lambda tree: table(
                {b"map": table({self._item3(k): self._item3(v) for k, v in tree.items()})}
            ),
            RespSet: lambda tree: table({b"set": table({self._item3(item): True for item in tree})}),
            float: lambda tree: table({b"double": tree}),
            BigNumber: lambda tree: table({b"big_number": b"%d" % tree}),
            Verbatim: lambda tree: table(
                {b"verbatim_string": table({b"format": tree.format, b"string": tree})}
            ),
            Status: lambda tree: table({b"ok": tree}),
            ErrorReply: lambda tree: table({b"err": tree}),
        }

    def forget(self) -> None:
        """Let go of the runtime, which has functions of this object: no more replies."""
        self._by_class.clear()
        del self._table

    def reply2(self, tree: Any) -> Any:
        """A whole reply under RESP2: a value, or (value, kind)."""
        cls = tree.__class__
        if cls is Status:
            return tree, STATUS
        if cls is ErrorReply:
            return tree, FAILED
        return self._item2(tree)

    def reply3(self, tree: Any) -> Any:
        """A whole reply under RESP3: a value, or (value, kind)."""
        cls = tree.__class__
        if cls is Status:
            return tree, STATUS
        if cls is ErrorReply:
            return tree, FAILED
        return self._item3(tree)

    def _item2(self, tree: Any) -> Any:
        cls = tree.__class__
        if cls is bytes or cls is int:
            return tree
        if tree is None or tree is NULL_ARRAY:
            return False
        if isinstance(tree, (list, tuple)):
            return self._table(
                [item if (c := item.__class__) is bytes or c is int else self._item2(item) for item in tree]
            )
        if cls is Status or cls is ErrorReply:
            return self._by_class[cls](tree)
        return self._item2(downgrade(tree))

    def _item3(self, tree: Any) -> Any:
        cls = tree.__class__
        if cls is bytes or cls is int or cls is bool:
            return tree
        if tree is None or tree is NULL_ARRAY:
            return None
        make = self._by_class.get(cls)
        if make is not None:
            return make(tree)
        return self._table(
            [item if (c := item.__class__) is bytes or c is int else self._item3(item) for item in tree]
        )


# -- from Lua ------------------------------------------------------------------------------------------

_ARRAY, _STATUS, _ERROR, _DOUBLE, _MAP, _SET, _BIG_NUMBER, _VERBATIM, _TRUE, _FALSE = range(1, 11)


def integer(value: float) -> int:
    """A Lua number as an integer reply: cut towards zero; what does not fit is the smallest, as C has it."""
    if value.__class__ is int:
        return value
    if isfinite(value):
        whole = int(value)
        if _INT64_MIN <= whole < -_INT64_MIN:
            return whole
    return _INT64_MIN


def _scalar(value: Any) -> Any:
    return value if value.__class__ is bytes else None if value is False else integer(value)


def decode(values: tuple[Any, ...]) -> Any:
    """The reply tree of a flattened reply. O(n)."""
    if values[0] is None and values[1] == _ARRAY and None not in (rest := values[3:]):
        return [value if value.__class__ is bytes else _scalar(value) for value in rest]
    return _Decoder(values).next()


class _Decoder:
    def __init__(self, values: tuple[Any, ...]):
        self._next = iter(values).__next__

    def next(self) -> Any:
        value = self._next()
        if value is not None:
            return _scalar(value)
        tag = self._next()
        if tag in (_TRUE, _FALSE):
            return tag == _TRUE
        value = self._next()
        if tag == _ARRAY:
            return [self.next() for _ in range(value)]
        if tag == _STATUS:
            return Status(_one_line(value))
        if tag == _ERROR:
            return ErrorReply(value)
        if tag == _DOUBLE:
            return float(value)
        if tag == _MAP:
            return {_hashable(self.next()): self.next() for _ in range(value)}
        if tag == _SET:
            return RespSet([self.next() for _ in range(value)])
        if tag == _BIG_NUMBER:
            return _big_number(_one_line(value))
        verbatim = Verbatim(value)
        verbatim.format = self._next()[:3].ljust(3)
        return verbatim


def _hashable(tree: Any) -> Any:
    """A map's key; tables can be keys in Lua."""
    if isinstance(tree, list):
        return tuple(map(_hashable, tree))
    return tuple(tree.items()) if isinstance(tree, dict) else tree


def _one_line(text: bytes) -> bytes:
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def _big_number(text: bytes) -> Any:
    try:
        number = BigNumber(text)
    except ValueError:
        return text
    return number if b"%d" % number == text else text


def status(text: bytes) -> Status:
    """A status that a script returned; a line break would end it."""
    return Status(_one_line(text))
