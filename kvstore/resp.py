"""RESP2 and RESP3 as pure functions over buffers: requests in, replies out.

A reply is a tree of plain Python values, one class for each RESP type, so that scripts, the
in-process client and the wire all take the same value:

    bytes            bulk string           Status           simple string (+OK)
    int              integer               ErrorReply       error (-ERR ...)
    None             null                  NULL_ARRAY       null array (RESP2 *-1)
    list, tuple      array                 dict             map (RESP2: flat array)
    float            double                bool             boolean (RESP2: 1 or 0)
    RespSet          set (RESP2: array)    Push             push (RESP2: array)
    Verbatim         verbatim string       BigNumber        big number (RESP2: bulk)

Must not know: sockets, sessions, the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvstore.numbers import format_double


class Status(bytes):
    """A simple string."""

    __slots__ = ()


class ErrorReply(bytes):
    """An error; the bytes are the text with its code, without the leading ``-``."""

    __slots__ = ()


class Verbatim(bytes):
    """A verbatim string of format ``txt`` (RESP2: a bulk string)."""

    __slots__ = ()


class BigNumber(int):
    """A big number (RESP2: a bulk string)."""

    __slots__ = ()


class RespSet(list[Any]):
    """A set whose order on the wire is the list's."""

    __slots__ = ()


class Push(list[Any]):
    """An out-of-band message."""

    __slots__ = ()


class _NullArray:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NULL_ARRAY"


NULL_ARRAY: Final = _NullArray()
OK: Final = Status(b"OK")
QUEUED: Final = Status(b"QUEUED")

Encoder = Callable[[Any], bytes]

# Ready replies for the integers that counters and statuses give most often.
_SMALL_INTS: Final = {n: b":%d\r\n" % n for n in range(-2, 1024)}
# Ready bulk headers by length.
BULK_HEADERS: Final = [b"$%d\r\n" % n for n in range(1024)]


def encode_int(value: int) -> bytes:
    return _SMALL_INTS.get(value) or b":%d\r\n" % value


def encode_bulk(value: bytes) -> bytes:
    size = len(value)
    return b"%b%b\r\n" % (BULK_HEADERS[size] if size < 1024 else b"$%d\r\n" % size, value)


def encode_error(text: bytes) -> bytes:
    """An error line; line breaks inside the text become spaces, as the line ends the reply."""
    if b"\r" in text or b"\n" in text:
        text = text.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-%b\r\n" % text


def _bulk_items2(items: Any, out: list[bytes]) -> None:
    for item in items:
        cls = item.__class__
        if cls is bytes:
            size = len(item)
            out.append(b"%b%b\r\n" % (BULK_HEADERS[size] if size < 1024 else b"$%d\r\n" % size, item))
        elif item is None:
            out.append(b"$-1\r\n")
        else:
            _WRITERS2[cls](item, out)


def _bulk_items3(items: Any, out: list[bytes]) -> None:
    for item in items:
        cls = item.__class__
        if cls is bytes:
            size = len(item)
            out.append(b"%b%b\r\n" % (BULK_HEADERS[size] if size < 1024 else b"$%d\r\n" % size, item))
        elif item is None:
            out.append(b"_\r\n")
        else:
            _WRITERS3[cls](item, out)


def _aggregate(mark: bytes, items: Callable[[Any, list[bytes]], None]) -> Callable[[Any, list[bytes]], None]:
    def write(value: Any, out: list[bytes]) -> None:
        out.append(b"%b%d\r\n" % (mark, len(value)))
        items(value, out)

    return write


def _map_writer(
    mark: bytes, factor: int, items: Callable[[Any, list[bytes]], None]
) -> Callable[[Any, list[bytes]], None]:
    def write(value: dict[Any, Any], out: list[bytes]) -> None:
        out.append(b"%b%d\r\n" % (mark, len(value) * factor))
        for pair in value.items():
            items(pair, out)

    return write


def _scalar(encode: Encoder) -> Callable[[Any, list[bytes]], None]:
    return lambda value, out: out.append(encode(value))


def encode_status(value: bytes) -> bytes:
    return b"+%b\r\n" % value


def encode_double2(value: float) -> bytes:
    return encode_bulk(format_double(value))


def encode_double3(value: float) -> bytes:
    return b",%b\r\n" % format_double(value)


def _verbatim3(value: bytes) -> bytes:
    return b"=%d\r\ntxt:%b\r\n" % (len(value) + 4, value)


_WRITERS2: dict[type, Callable[[Any, list[bytes]], None]] = {
    bytes: _scalar(encode_bulk),
    int: _scalar(encode_int),
    type(None): _scalar(lambda _: b"$-1\r\n"),
    _NullArray: _scalar(lambda _: b"*-1\r\n"),
    bool: _scalar(lambda value: b":1\r\n" if value else b":0\r\n"),
    float: _scalar(encode_double2),
    Status: _scalar(encode_status),
    ErrorReply: _scalar(encode_error),
    Verbatim: _scalar(encode_bulk),
    BigNumber: _scalar(lambda value: encode_bulk(b"%d" % value)),
    list: _aggregate(b"*", _bulk_items2),
    tuple: _aggregate(b"*", _bulk_items2),
    RespSet: _aggregate(b"*", _bulk_items2),
    Push: _aggregate(b"*", _bulk_items2),
    dict: _map_writer(b"*", 2, _bulk_items2),
}
_WRITERS3: dict[type, Callable[[Any, list[bytes]], None]] = {
    **_WRITERS2,
    type(None): _scalar(lambda _: b"_\r\n"),
    _NullArray: _scalar(lambda _: b"_\r\n"),
    bool: _scalar(lambda value: b"#t\r\n" if value else b"#f\r\n"),
    float: _scalar(encode_double3),
    Verbatim: _scalar(_verbatim3),
    BigNumber: _scalar(lambda value: b"(%d\r\n" % value),
    list: _aggregate(b"*", _bulk_items3),
    tuple: _aggregate(b"*", _bulk_items3),
    RespSet: _aggregate(b"~", _bulk_items3),
    Push: _aggregate(b">", _bulk_items3),
    dict: _map_writer(b"%", 1, _bulk_items3),
}


def downgrade(tree: Any) -> Any:
    """The tree as RESP2 has it: maps flat, sets and pushes lists, doubles and big numbers bulk strings."""
    cls = tree.__class__
    if cls is bytes or cls is int or tree is None:
        return tree
    if cls is dict:
        return [downgrade(part) for pair in tree.items() for part in pair]
    if isinstance(tree, (list, tuple)):
        return [downgrade(item) for item in tree]
    if cls is float:
        return format_double(tree)
    if cls is bool:
        return int(tree)
    if cls is BigNumber:
        return b"%d" % tree
    if cls is Verbatim:
        return bytes(tree)
    return tree


def encode2(value: Any) -> bytes:
    """The RESP2 bytes of a reply tree."""
    out: list[bytes] = []
    _WRITERS2[value.__class__](value, out)
    return b"".join(out)


def encode3(value: Any) -> bytes:
    """The RESP3 bytes of a reply tree."""
    out: list[bytes] = []
    _WRITERS3[value.__class__](value, out)
    return b"".join(out)
