"""Reply kinds: how a typed method's Python value becomes a reply, for each way of answering.

A Codec is a way of answering: RESP2 or RESP3 bytes for a socket, or the reply tree itself (see
``kvstore.resp``) for scripts and for clients in this process. A Kind says which tree a value has
under RESP2 and RESP3, and, where it pays, the direct encoders for the wire.

Must not know: sessions, commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvstore import resp
from kvstore.resp import BULK_HEADERS, QUEUED, ErrorReply, Integers, RespSet, encode2, encode3, encode_bulks
from kvstore.resp import OK as OK_STATUS

Shape = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


class Kind:
    """How a typed value is answered.

    ``tree2`` and ``tree3`` give the reply tree; ``wire2`` and ``wire3`` the bytes (by default the
    generic encoding of the tree).
    """

    __slots__ = ("name", "plain", "tree2", "tree3", "wire2", "wire3")

    def __init__(
        self,
        name: str,
        tree2: Shape = _same,
        tree3: Shape | None = None,
        wire2: Callable[[Any], bytes] | None = None,
        wire3: Callable[[Any], bytes] | None = None,
        plain: bool = False,
    ):
        self.name = name
        self.plain = plain  # the RESP2 tree never holds a type that only RESP3 has
        self.tree2 = tree2
        self.tree3 = tree3 = tree2 if tree3 is None else tree3
        self.wire2 = wire2 or (encode2 if tree2 is _same else lambda value: encode2(tree2(value)))
        self.wire3 = wire3 or (encode3 if tree3 is _same else lambda value: encode3(tree3(value)))


class Codec:
    """A way of answering. ``protocol`` is 2 or 3; ``on_wire`` tells bytes from trees."""

    __slots__ = ("nothing", "null_array", "ok", "on_wire", "protocol", "queued")

    def __init__(self, protocol: int, on_wire: bool):
        self.protocol = protocol
        self.on_wire = on_wire
        self.ok: Any = self.encode(OK_STATUS)
        self.queued: Any = self.encode(QUEUED)
        self.nothing: Any = b"" if on_wire else None  # for a command of a transaction that answers nothing
        self.null_array: Any = self.encode(resp.NULL_ARRAY)

    def encode(self, tree: Any) -> Any:
        """A reply tree in this way of answering."""
        if not self.on_wire:
            return tree if self.protocol == 3 else resp.downgrade(tree)
        return encode2(tree) if self.protocol == 2 else encode3(tree)

    def of(self, kind: Kind) -> Callable[[Any], Any]:
        """The function that answers a typed value of that kind."""
        if self.on_wire:
            return kind.wire2 if self.protocol == 2 else kind.wire3
        if self.protocol == 3:
            return kind.tree3
        if kind.plain:
            return kind.tree2
        tree2 = kind.tree2
        return lambda value: resp.downgrade(tree2(value))

    def error(self, text: str | bytes) -> Any:
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        return resp.encode_error(raw) if self.on_wire else ErrorReply(raw)

    def array(self, replies: Sequence[Any]) -> Any:
        """Replies that were already answered, as one array (EXEC). An element may be several replies."""
        if self.on_wire:
            return b"*%d\r\n%b" % (len(replies), b"".join(replies))
        return list(replies)


RESP2 = Codec(2, True)
RESP3 = Codec(3, True)
TREE2 = Codec(2, False)
TREE3 = Codec(3, False)


# -- wire encoders of the kinds that hot commands use ------------------------------------------------


def _bulk2(value: bytes | None) -> bytes:
    if value is None:
        return b"$-1\r\n"
    size = len(value)
    if size < 1024:
        return BULK_HEADERS[size] + value + b"\r\n"  # for short values faster than a format
    return b"$%d\r\n%b\r\n" % (size, value)


def _bulk3(value: bytes | None) -> bytes:
    if value is None:
        return b"_\r\n"
    size = len(value)
    if size < 1024:
        return BULK_HEADERS[size] + value + b"\r\n"
    return b"$%d\r\n%b\r\n" % (size, value)


def _ok2(value: Any) -> bytes:
    return b"+OK\r\n" if value else b"$-1\r\n"


def _ok3(value: Any) -> bytes:
    return b"+OK\r\n" if value else b"_\r\n"


def _flat_pairs(pairs: Any) -> list[Any]:
    return [part for pair in pairs for part in pair]


def _none_or(shape: Shape) -> Shape:
    return lambda value: None if value is None else shape(value)


class _Whole(dict[Any, Any]):
    """The tree of an integer or None, by value; True is 1. As ``Integers``: asking is no Python call."""

    __slots__ = ()

    def __missing__(self, value: int) -> int:
        return int(value)


# bytes or None (redis-py: bytes | None)
BULK = Kind("bulk", wire2=_bulk2, wire3=_bulk3, plain=True)
# int, bool or None (redis-py: int or bool); None is a null
INT = Kind(
    "int",
    tree2=_Whole([(None, None), *((n, n) for n in range(-2, 1024))]).__getitem__,
    wire2=Integers(b"$-1\r\n").__getitem__,
    wire3=Integers(b"_\r\n").__getitem__,
    plain=True,
)
# truthy: +OK; falsy: null (redis-py: True | None)
OK = Kind("ok", tree2=lambda value: OK_STATUS if value else None, wire2=_ok2, wire3=_ok3, plain=True)
# a str or bytes as simple string
STATUS = Kind(
    "status",
    tree2=lambda value: resp.Status(value if isinstance(value, bytes) else value.encode()),
    plain=True,
)
# a list of bytes, ints, None, nested lists; None is a null
ARRAY = Kind("array", plain=True)
# a list of nothing but bytes
BULKS = Kind(
    "bulks",
    wire2=lambda items: encode_bulks(b"*%d" % len(items), items),
    wire3=lambda items: encode_bulks(b"*%d" % len(items), items),
    plain=True,
)
# as ARRAY, but None is the null array of RESP2
ARRAY_OR_NULL_ARRAY = Kind(
    "array_or_null_array", tree2=lambda value: resp.NULL_ARRAY if value is None else value, plain=True
)
# a list of bytes: a set under RESP3
SET = Kind(
    "set",
    tree2=list,
    tree3=RespSet,
    wire2=lambda items: encode_bulks(b"*%d" % len(items), items),
    wire3=lambda items: encode_bulks(b"~%d" % len(items), items),
)
# a dict: a map under RESP3
MAP = Kind("map", tree2=_none_or(dict))
# a float or None: a double under RESP3
DOUBLE = Kind("double")
# a list of floats or None
DOUBLES = Kind("doubles", tree2=list)
# a list of (bytes, float) pairs: flat under RESP2, pairs under RESP3
PAIRS = Kind("pairs", tree2=_none_or(_flat_pairs), tree3=_none_or(lambda pairs: [list(p) for p in pairs]))
# whatever the handler made, already a reply tree
TREE = Kind("tree")
