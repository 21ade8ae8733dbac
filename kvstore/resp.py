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
from collections.abc import Callable, Sequence
from itertools import chain
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


class Integers(dict[int | None, bytes]):
    """Integer replies by value: those that counters and statuses give most often are ready, and asking for one
    is no Python call. ``null`` answers None."""

    __slots__ = ()

    def __init__(self, null: bytes) -> None:
        super().__init__({n: b":%d\r\n" % n for n in range(-2, 1024)})
        self[None] = null

    def __missing__(self, value: int) -> bytes:
        return b":%d\r\n" % value


# Ready bulk headers by length, and the same without their line ends.
BULK_HEADERS: Final = [b"$%d\r\n" % n for n in range(1024)]
_SIZES: Final = [header[:-2] for header in BULK_HEADERS]
# And with the end of the line before.
BULK_LINES: Final = [b"\r\n" + header for header in BULK_HEADERS]

encode_int: Final[Callable[[int], bytes]] = Integers(b"$-1\r\n").__getitem__


def encode_bulk(value: bytes) -> bytes:
    size = len(value)
    if size < 1024:
        return BULK_HEADERS[size] + value + b"\r\n"  # for short values faster than a format
    return b"$%d\r\n%b\r\n" % (size, value)


def encode_bulks(head: bytes, items: Sequence[bytes]) -> bytes:
    """An aggregate of nothing but bulk strings, of exactly ``bytes``. ``head``: as ``b"*2"``, without line end.

    A third of the cost of an item at a time; a sixth where all are equally long. O(n).
    """
    if not items:
        return head + b"\r\n"
    if len(items[0]) == len(items[-1]):
        sizes = set(map(len, items))
        if len(sizes) == 1:
            size = b"$%d\r\n" % sizes.pop()
            return b"%b\r\n%b%b\r\n" % (head, size, (b"\r\n" + size).join(items))
    parts = [b""] * (2 * len(items) + 2)
    parts[0] = head
    parts[2:-1:2] = items
    try:
        parts[1:-1:2] = map(_SIZES.__getitem__, map(len, items))
    except IndexError:  # a long one is among them
        parts[1:-1:2] = [b"$%d" % len(item) for item in items]
    return b"\r\n".join(parts)


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
    if value.__class__ is bytes:
        return encode_bulk(value)
    out: list[bytes] = []
    _WRITERS2[value.__class__](value, out)
    return b"".join(out)


def encode3(value: Any) -> bytes:
    """The RESP3 bytes of a reply tree."""
    if value.__class__ is bytes:
        return encode_bulk(value)
    out: list[bytes] = []
    _WRITERS3[value.__class__](value, out)
    return b"".join(out)


# -- requests ------------------------------------------------------------------------------------------

INLINE_MAX_SIZE = 64 * 1024  # bytes of an inline request, or of a header line, without a line end
SHORT_CHUNK = 512  # bytes; shorter single requests are split, which costs less than asking hiredis
_FAST_CHUNK = 256 * 1024  # bytes; larger chunks carry large values, which the careful parser moves less
_WORTH_CUTTING = 1024  # bytes of a chunk, all but the last request of which may go to hiredis
_MAX_WORDS = 2**31 - 1
# A count that hiredis would reserve memory for; requests of that many words take the careful parser.
_LARGE_COUNT = re.compile(rb"\n[*~>%|][0-9]{6}").search
_UNAUTHENTICATED_WORDS = 10
_UNAUTHENTICATED_BULK = 16384
_ONLY_LISTS = {list}
_LINE_FEED: Final = 0x0A  # a number is found in bytes far sooner than other bytes are
_DOLLAR: Final = 0x24
_TILDE: Final = 0x7E
_COUNTS: Final = [b"*%d" % n for n in range(SHORT_CHUNK)]

_SPACES: Final = re.compile(rb"[ \t-\r]*")
# Bare text, then perhaps one quoted part. The alternatives exclude each other, so a match is linear.
_WORD: Final = re.compile(
    rb"""([^ \t\n\r"']*)(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\'|\\(?!'))*)')?(?=[ \t-\r]|\Z)""",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


_pack: Final[Callable[[tuple[bytes, ...]], bytes]] = hiredis.pack_command  # type: ignore[assignment]


def encode_request(words: tuple[bytes, ...]) -> bytes:
    """A request of its words, as clients send it and logs have it. Three short words take two thirds of the time."""
    if len(words) == 3:
        one, two, three = words
        try:
            return b"".join(
                (
                    b"*3",
                    BULK_LINES[len(one)],
                    one,
                    BULK_LINES[len(two)],
                    two,
                    BULK_LINES[len(three)],
                    three,
                    b"\r\n",
                )
            )
        except IndexError:  # a long one
            pass
    return _pack(words)


def split_words(line: bytes) -> list[bytes] | None:
    """The words of an inline request, or of a line of a configuration file. O(len(line)).

    A word may be bare, in double quotes with the escapes ``\\n \\r \\t \\b \\a \\xHH``, or in single quotes
    where only ``\\'`` is one. A quote may open in the middle of a word; where it closes the word must end.
    None where a quote is not closed or does not end a word.
    """
    words: list[bytes] = []
    at = 0
    while True:
        spaces = _SPACES.match(line, at)
        at = spaces.end() if spaces else at
        if at == len(line):
            return words
        match = _WORD.match(line, at)
        if match is None:
            return None
        bare, double, single = match.groups(b"")
        words.append(bare + _ESCAPE.sub(_unescape, double) + single.replace(b"\\'", b"'"))
        at = match.end()


_NAMED: Final = {0x5C: b"\\\\", 0x22: b'\\"', 10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 7: b"\\a"}
_NOT_PLAIN: Final = re.compile(rb"[^ !#-\[\]-~]")
_SHOWN: Final = [_NAMED.get(byte, b"\\x%02x" % byte) for byte in range(256)]


def quote_word(word: bytes) -> bytes:
    """The word in double quotes, printable, as ``split_words`` reads it back. O(len(word))."""
    return b'"%b"' % _NOT_PLAIN.sub(lambda found: _SHOWN[found[0][0]], word)


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return _ESCAPES.get(match[2], match[2])


def split_request(data: bytes) -> list[bytes] | None:
    """The one request that a chunk shorter than SHORT_CHUNK is, if its words have no line ends; else None.

    The commonest shapes, of two and of three words, are spelled out: this runs for nearly every request
    of clients that do not pipeline.
    """
    parts = data.split(b"\r\n")
    count = len(parts)
    if count == 6:
        head, size, name, size1, word1, rest = parts
        if head == b"*2" and size == _SIZES[len(name)] and size1 == _SIZES[len(word1)] and not rest:
            return [name, word1]
    elif count == 8:
        head, size, name, size1, word1, size2, word2, rest = parts
        if (
            head == b"*3"
            and size == _SIZES[len(name)]
            and size1 == _SIZES[len(word1)]
            and size2 == _SIZES[len(word2)]
            and not rest
        ):
            return [name, word1, word2]
    elif count > 2 and count % 2 == 0:
        words = parts[2:-1:2]
        if (
            parts[0] == _COUNTS[len(words)]
            and parts[1:-1:2] == [_SIZES[len(word)] for word in words]
            and not parts[-1]
        ):
            return words
    return None


def _has_only_bulks(data: bytes, words: list[bytes], requests: int) -> bool:
    """Whether the bytes are so many requests of bulks, and nothing else, which a parser of replies made words of. O(data).

    Other kinds of elements become bytes, too. A bulk has two line ends, others have one or two; a request has one
    more. And a bulk is all that puts a ``$`` at the beginning of a line. What words have of either is taken off: as
    words may begin with it, each is looked at behind a line end. A set is a list like a request, so that a line that
    could begin one is refused. Raises TypeError for a word that is none.
    """
    if data.find(_TILDE) >= 0 and data.find(b"\n~") >= 0:
        return False
    joined = b"".join(words)
    lines, marks = 2 * len(words) + requests, len(words)
    if joined.find(_LINE_FEED) >= 0 or joined.find(_DOLLAR) >= 0:
        joined = b"\n" + b"\n".join(words)
        lines += joined.count(b"\n") - len(words)
        marks += joined.count(b"\n$")
    return data.count(b"\n") == lines and data.count(b"\n$") == marks


class RequestParser:
    """Bytes of one client in, requests (lists of words) out.

    ``error`` is set once the bytes are no RESP: the requests before it are still given, nothing after.
    Nothing is reserved for what a header promises. Two ways to the same result: hiredis for chunks
    that hold whole, plain requests (for a short one, split and compare), and a careful parser for
    everything else.
    """

    __slots__ = (
        "_authenticated",
        "_buffer",
        "_bulk",
        "_reader",
        "_words",
        "_words_left",
        "_words_size",
        "error",
        "idle",
        "max_bulk",
    )

    def __init__(self, max_bulk: int = 512 * 1024 * 1024):
        self.max_bulk = max_bulk
        self._authenticated = True
        self.idle = True  # between requests, and trusted: chunks may go to hiredis
        self.error: ProtocolError | None = None
        self._reader: Any = None
        self._buffer = bytearray()
        self._words: list[bytes] = []
        self._words_left = 0
        self._words_size = 0
        self._bulk = -1

    @property
    def authenticated(self) -> bool:
        """False: the tighter limits for clients that have yet to log in, and one request at a time."""
        return self._authenticated

    @authenticated.setter
    def authenticated(self, authenticated: bool) -> None:
        self._authenticated = authenticated
        self._settle()

    @property
    def buffered(self) -> int:
        """Bytes held for requests that are not complete, or not yet asked for."""
        return len(self._buffer) + self._words_size

    def peek(self, size: int) -> bytes:
        """The first bytes of what is held."""
        return bytes(self._buffer[:size])

    def hold(self, data: bytes) -> None:
        """Keep bytes for a later ``parse_buffer()``: the client is stopped."""
        self._buffer += data
        self.idle = False

    def parse(self, data: bytes) -> list[list[bytes]]:
        """The requests that ``data`` completes. O(len(data)), whatever the number of calls."""
        if self.idle and data[-1] == 0x0A and data[0] == 0x2A:
            if len(data) < SHORT_CHUNK and data.find(b"\n*") < 0:
                request = split_request(data)
                if request is not None:
                    return [request]
            elif 2 < len(data) <= _FAST_CHUNK:
                requests = self._parse_fast(data)
                if requests is not None:
                    return requests
        elif len(data) >= _WORTH_CUTTING and self._may_cut():
            requests = self._parse_most(data)
            if requests is not None:
                return requests
        self.idle = False
        self._buffer += data
        return self.parse_buffer() if self._authenticated else self.parse_buffer(1)

    def _parse_fast(self, data: bytes) -> list[list[bytes]] | None:
        """By hiredis; None when the chunk is not whole requests of bulks. Large counts are refused before hiredis
        sees them, as it reserves what they promise."""
        if (data[2] != 0x0D and data.find(b"\r", 3, 7) < 0) or _LARGE_COUNT(data) is not None:
            return None
        reader = self._reader
        if reader is None:
            reader = self._reader = hiredis.Reader()
        try:
            reader.feed(data)
            words = reader.gets()
            if words and not reader.has_data():
                if _has_only_bulks(data, words, 1):
                    return [words]
            elif words is not False:
                requests = [words, *iter(reader.gets, False)]
                words = list(chain.from_iterable(requests))
                if set(map(type, requests)) == _ONLY_LISTS and _has_only_bulks(data, words, len(requests)):
                    return requests if all(requests) else [words for words in requests if words]
        except (hiredis.ProtocolError, TypeError, MemoryError):
            pass
        self._reader = None
        return None

    def _may_cut(self) -> bool:
        return (
            self._authenticated
            and not self._words_left
            and self.error is None
            and len(self._buffer) < INLINE_MAX_SIZE
        )

    def _parse_most(self, data: bytes) -> list[list[bytes]] | None:
        """All but the last request by hiredis, which would keep an incomplete one to itself."""
        if self._buffer:
            data = bytes(self._buffer) + data
        cut = data.rfind(b"\r\n*") + 2
        if data[0] != 0x2A or not 2 < cut <= _FAST_CHUNK:
            return None
        requests = self._parse_fast(data[:cut])
        if requests is not None:
            self._buffer[:] = data[cut:]
            requests += self.parse_buffer()
        return requests

    def parse_buffer(self, most: int = 1 << 62) -> list[list[bytes]]:
        """Up to ``most`` requests of what is buffered, by the careful parser."""
        requests: list[list[bytes]] = []
        buffer = self._buffer
        at = 0
        try:
            while self.error is None and at < len(buffer) and len(requests) < most:
                before = at
                if self._words_left:
                    at = self._parse_word(at)
                    if not self._words_left:
                        requests.append(self._words)
                        self._words, self._words_size = [], 0
                elif buffer[at] == 0x2A:
                    at = self._parse_count(at)
                else:
                    at = self._parse_inline(at, requests)
                if at == before:
                    break
        except ProtocolError as error:
            self.error = error
        del buffer[:at]
        self._settle()
        return requests

    def _settle(self) -> None:
        self.idle = self._authenticated and not self._buffer and not self._words_left and self.error is None

    def _line_end(self, mark: bytes, at: int, what: str) -> int:
        """Where the line at ``at`` ends; -1 while it does not. A NUL hides what follows, as it does in C."""
        buffer = self._buffer
        end = buffer.find(mark, at)
        if end < 0 or buffer.find(0, at, end) >= 0:
            if len(buffer) - at > INLINE_MAX_SIZE:
                raise ProtocolError(f"too big {what}")
            return -1
        return end

    def _parse_inline(self, at: int, requests: list[list[bytes]]) -> int:
        """Take the line at ``at``; where to go on (``at``: it is not all there)."""
        line_end = self._line_end(b"\n", at, "inline request")
        if line_end < 0:
            return at
        words = split_words(bytes(self._buffer[at:line_end]).removesuffix(b"\r"))
        if words is None:
            raise ProtocolError("unbalanced quotes in request")
        if words:
            requests.append(words)
        return line_end + 1

    def _parse_count(self, at: int) -> int:
        """Take the header of a request at ``at``; where to go on (``at``: it is not all there)."""
        line_end = self._line_end(b"\r", at, "mbulk count string")
        if line_end < 0 or line_end + 1 >= len(self._buffer):
            return at
        count = parse_int(bytes(self._buffer[at + 1 : line_end]))
        if count is None or count > _MAX_WORDS:
            raise ProtocolError("invalid multibulk length")
        if count > _UNAUTHENTICATED_WORDS and not self._authenticated:
            raise ProtocolError("unauthenticated multibulk length")
        self._words_left = max(count, 0)
        return line_end + 2

    def _parse_word(self, at: int) -> int:
        """Take the next word at ``at``, or its header; where to go on (``at``: it is not all there)."""
        buffer = self._buffer
        size = self._bulk
        if size < 0:
            line_end = self._line_end(b"\r", at, "bulk count string")
            if line_end < 0 or line_end + 1 >= len(buffer):
                return at
            if buffer[at] != 0x24:
                shown = bytes(buffer[at : at + 1]).decode("utf-8", "surrogateescape")
                raise ProtocolError(f"expected '$', got '{shown}'")
            parsed = parse_int(bytes(buffer[at + 1 : line_end]))
            if parsed is None or not 0 <= parsed <= self.max_bulk:
                raise ProtocolError("invalid bulk length")
            if parsed > _UNAUTHENTICATED_BULK and not self._authenticated:
                raise ProtocolError("unauthenticated bulk length")
            self._bulk = parsed
            return line_end + 2
        if len(buffer) - at < size + 2:
            return at
        self._words.append(bytes(memoryview(buffer)[at : at + size]))
        self._words_size += size
        self._words_left -= 1
        self._bulk = -1
        return at + size + 2
