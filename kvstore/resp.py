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

import re
from collections.abc import Callable
from typing import Any, Final

import hiredis

from kvstore.errors import ProtocolError
from kvstore.numbers import format_double, parse_int


class Status(bytes):
    """A simple string."""

    __slots__ = ()


class ErrorReply(bytes):
    """An error; the bytes are the text with its code, without the leading ``-``."""

    __slots__ = ()


class Verbatim(bytes):
    """A verbatim string, of format ``txt`` unless its ``format`` says otherwise (RESP2: a bulk string)."""

    format = b"txt"


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


def _verbatim3(value: Verbatim) -> bytes:
    return b"=%d\r\n%b:%b\r\n" % (len(value) + 4, value.format, value)


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


# -- requests ------------------------------------------------------------------------------------------

INLINE_MAX_SIZE = 64 * 1024  # bytes of an inline request, or of a header line, without a line end
_FAST_CHUNK = 256 * 1024  # bytes; larger chunks carry large values, which the careful parser moves less
_MAX_WORDS = 2**31 - 1
# A count that hiredis would reserve memory for; requests of that many words take the careful parser.
_LARGE_COUNT = re.compile(rb"\*[0-9]{6}").search
_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}  # n r t b a
_SPACE = b" \t\n\v\f\r\0"
_UNAUTHENTICATED_WORDS = 10
_UNAUTHENTICATED_BULK = 16384


def split_args(line: bytes) -> list[bytes] | None:
    """Split an inline request (or a line of redis.conf) into words; None when quotes do not match.

    Double quotes know \\xHH and the escapes of C; single quotes know only \\'. A closing quote must be
    followed by a space or the end.
    """
    words: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _SPACE:
            at += 1
        if at >= end:
            return words
        word = bytearray()
        quote = 0
        while at < end:
            char = line[at]
            if quote:
                if char == 0x5C and quote == 0x22 and at + 1 < end:  # backslash in double quotes
                    hexa = line[at + 2 : at + 4]
                    if line[at + 1] == 0x78 and re.fullmatch(rb"[0-9a-fA-F]{2}", hexa):
                        word.append(int(hexa, 16))
                        at += 4
                        continue
                    at += 1
                    word.append(_ESCAPES.get(line[at], line[at]))
                elif char == 0x5C and quote == 0x27 and line[at + 1 : at + 2] == b"'":
                    at += 1
                    word.append(0x27)
                elif char == quote:
                    if at + 1 < end and line[at + 1] not in _SPACE:
                        return None
                    at += 1
                    quote = 0
                    break
                else:
                    word.append(char)
            elif char in _SPACE:
                break
            elif char in b"\"'":
                quote = char
            else:
                word.append(char)
            at += 1
        if quote:
            return None
        words.append(bytes(word))


class RequestParser:
    """Bytes of one client in, requests (lists of words) out.

    ``error`` is set once the bytes are no RESP: the requests before it are still given, nothing after.
    Nothing is reserved for what a header promises. Two ways to the same result: hiredis for chunks
    that hold whole, plain requests, and a careful parser for everything else.
    """

    __slots__ = (
        "_authenticated",
        "_buffer",
        "_bulk",
        "_plain",
        "_reader",
        "_words",
        "_words_left",
        "error",
        "max_bulk",
    )

    def __init__(self, max_bulk: int = 512 * 1024 * 1024):
        self.max_bulk = max_bulk
        self._authenticated = True
        self._plain = True  # between requests, and trusted: chunks may go to hiredis
        self.error: ProtocolError | None = None
        self._reader: Any = None
        self._buffer = bytearray()
        self._words: list[bytes] = []
        self._words_left = 0
        self._bulk = -1

    @property
    def authenticated(self) -> bool:
        """False: the tighter limits for clients that have yet to log in."""
        return self._authenticated

    @authenticated.setter
    def authenticated(self, authenticated: bool) -> None:
        self._authenticated = authenticated
        self._plain = authenticated and not self._buffer and not self._words_left

    @property
    def buffered(self) -> int:
        """Bytes held for a request that is not complete."""
        return len(self._buffer) + sum(map(len, self._words))

    def parse(self, data: bytes) -> list[list[bytes]]:
        """The requests that ``data`` completes. O(len(data)), whatever the number of calls."""
        if self._plain and data[-1] == 0x0A and data[0] == 0x2A and 2 < len(data) <= _FAST_CHUNK:
            requests = self._parse_fast(data)
            if requests is not None:
                return requests
        self._plain = False
        self._buffer += data
        return self.parse_buffer()

    def _parse_fast(self, data: bytes) -> list[list[bytes]] | None:
        """By hiredis; None when the chunk is not whole requests of plain bulks without line ends.

        Large counts are refused before hiredis sees them, as it reserves what they promise. Each word of
        a request takes two line ends and its count one, so that equal numbers prove that everything was
        used up and nothing but bulks was there; a single request proves it by leaving nothing behind.
        """
        if (data.find(b"*", 1) > 0 or data[2] != 0x0D) and _LARGE_COUNT(data):
            return None
        reader = self._reader
        if reader is None:
            reader = self._reader = hiredis.Reader()
        try:
            reader.feed(data)
            words = reader.gets()
            if words and words is not False and not reader.has_data():
                for word in words:
                    if word.__class__ is not bytes:
                        raise TypeError
                return [words]
            return self._finish_fast(reader, words, data.count(b"\r\n"))
        except (hiredis.ProtocolError, TypeError):
            self._reader = None
            return None

    def _finish_fast(self, reader: Any, words: Any, line_ends: int) -> list[list[bytes]] | None:
        """The rest of a chunk of several requests, of which hiredis has given the first."""
        requests: list[list[bytes]] = []
        lines = 0
        while words is not False:
            for word in words:
                if word.__class__ is not bytes:
                    raise TypeError
            lines += 1 + 2 * len(words)
            requests.append(words)
            words = reader.gets()
        if lines == line_ends:
            return requests if all(requests) else [words for words in requests if words]
        self._reader = None
        return None

    def parse_buffer(self, most: int = 1 << 62) -> list[list[bytes]]:
        """Up to ``most`` requests of what is buffered, by the careful parser."""
        requests: list[list[bytes]] = []
        buffer = self._buffer
        at = 0
        try:
            while self.error is None and at < len(buffer) and len(requests) < most:
                if self._words_left:
                    moved = self._parse_bulk(at)
                    if moved == at:
                        break
                    at = moved
                    if not self._words_left:
                        requests.append(self._words)
                        self._words = []
                    continue
                line_end = buffer.find(b"\n", at)
                if line_end < 0:
                    if len(buffer) - at > INLINE_MAX_SIZE:
                        multi = buffer[at] == 0x2A
                        raise ProtocolError("too big mbulk count string" if multi else "too big inline request")
                    break
                if buffer[at] == 0x2A:
                    self._words_left = self._count(bytes(buffer[at + 1 : line_end - 1]))
                else:
                    words = split_args(bytes(buffer[at:line_end].removesuffix(b"\r")))
                    if words is None:
                        raise ProtocolError("unbalanced quotes in request")
                    if words:
                        requests.append(words)
                at = line_end + 1
        except ProtocolError as error:
            self.error = error
        del buffer[:at]
        self._plain = not buffer and not self._words_left and self.authenticated and self.error is None
        return requests

    def _count(self, raw: bytes) -> int:
        count = parse_int(raw)
        if count is None or count > _MAX_WORDS:
            raise ProtocolError("invalid multibulk length")
        if count > _UNAUTHENTICATED_WORDS and not self.authenticated:
            raise ProtocolError("unauthenticated multibulk length")
        return max(count, 0)

    def _parse_bulk(self, at: int) -> int:
        """Take the next word at ``at`` when it is all there; where to go on (``at``: nothing taken)."""
        buffer = self._buffer
        size = self._bulk
        if size < 0:
            line_end = buffer.find(b"\r", at)
            if line_end < 0 or line_end + 1 >= len(buffer):
                if len(buffer) - at > INLINE_MAX_SIZE:
                    raise ProtocolError("too big bulk count string")
                return at
            if buffer[at] != 0x24:
                raise ProtocolError(f"expected '$', got '{chr(buffer[at])}'")
            parsed = parse_int(bytes(buffer[at + 1 : line_end]))
            if parsed is None or not 0 <= parsed <= self.max_bulk:
                raise ProtocolError("invalid bulk length")
            if parsed > _UNAUTHENTICATED_BULK and not self.authenticated:
                raise ProtocolError("unauthenticated bulk length")
            size = self._bulk = parsed
            return line_end + 2
        if len(buffer) - at < size + 2:
            return at
        self._words.append(bytes(memoryview(buffer)[at : at + size]))
        self._words_left -= 1
        self._bulk = -1
        return at + size + 2
