"""Reads through an append-only file without running it: how far it is whole, and what is wrong behind that.

Invariants
- ``whole`` is where a reader may be cut: behind a command or a comment, and never between MULTI and its EXEC.
- Nothing that a file claims is reserved: a word is looked for in what is there.

Costs: about 2 µs a command.

Must not know: what commands do, where files are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvstore.persist.fs import Content

# A header is a mark, at most this many digits, CR and LF. Redis reads no more into its own buffer.
_HEADER_BYTES = 24
_MOST_WORDS = 1 << 20
_LONGEST_WORD = 512 << 20
# Bytes between two tellings of how far it has come.
_STEP = 1 << 18
# The names that make units have no more bytes.
_NAME_BYTES = 5


@dataclass(slots=True)
class Scan:
    """What has been found so far."""

    whole: int  # the offset up to which the file is whole
    commands: int = 0
    units: int = 0  # of MULTI and EXEC
    offset: int = 0  # where it is wrong
    error: str | None = None  # and why
    is_torn: bool = False  # the file ends within a command or unit, as when the writer died


class _Wrong(Exception):
    """Something at ``offset`` is not as it should be."""

    def __init__(self, offset: int, text: str, is_torn: bool = False):
        super().__init__(text)
        self.offset, self.text, self.is_torn = offset, text, is_torn


def scan(content: Content, found: Scan) -> Iterator[int]:
    """Read on from ``found.whole`` to the end or to what is wrong; yields offsets from time to time."""
    pos, end = found.whole, len(content)
    unit = -1  # where the MULTI is whose EXEC has yet to come
    told = pos
    try:
        while pos < end:
            if content[pos : pos + 1] == b"#":
                pos = _comment(content, pos, end)
            else:
                start = pos
                pos, name = _command(content, pos, end)
                found.commands += 1
                if name == b"MULTI":
                    if unit >= 0:
                        raise _Wrong(start, "MULTI within MULTI")
                    unit = start
                elif name == b"EXEC":
                    if unit < 0:
                        raise _Wrong(start, "EXEC without MULTI")
                    found.units += 1
                    unit = -1
            if unit < 0:
                found.whole = pos
            if pos - told >= _STEP:
                told = pos
                yield pos
        if unit >= 0:
            raise _Wrong(unit, "the file ends before the EXEC of this MULTI", True)
    except _Wrong as wrong:
        found.offset, found.error, found.is_torn = wrong.offset, wrong.text, wrong.is_torn
        if not wrong.is_torn and _only_zeros(content, wrong.offset):
            # The file had grown on the disk before what belongs there was written.
            found.error, found.is_torn = "nothing but zero bytes up to the end", True


def _comment(content: Content, pos: int, end: int) -> int:
    """Behind the line that begins with "#", such as a time stamp."""
    stop = content.find(b"\n", pos)
    if stop < 0:
        raise _Wrong(pos, "the file ends within a comment", True)
    return stop + 1


def _command(content: Content, pos: int, end: int) -> tuple[int, bytes]:
    """Behind a command, and its name if that is short, in capitals."""
    start = pos
    count, pos = _header(content, pos, end, b"*")
    if not 1 <= count <= _MOST_WORDS:
        raise _Wrong(start, f"a command of {count} words")
    name = b""
    for at in range(count):
        start = pos
        length, pos = _header(content, pos, end, b"$")
        if not 0 <= length <= _LONGEST_WORD:
            raise _Wrong(start, f"a word of {length} bytes")
        stop = pos + length
        if stop + 2 > end:
            if content[stop : stop + 2] not in (b"", b"\r"):
                raise _Wrong(stop, "no end of a line behind a word")
            raise _Wrong(start, "the file ends within a command", True)
        if content[stop : stop + 2] != b"\r\n":
            raise _Wrong(stop, "no end of a line behind a word")
        if not at and length <= _NAME_BYTES:
            name = content[pos:stop].upper()
        pos = stop + 2
    return pos, name


def _header(content: Content, pos: int, end: int, mark: bytes) -> tuple[int, int]:
    """The number behind a mark, and the offset behind its line."""
    line = content[pos : pos + _HEADER_BYTES]
    if line[:1] != mark:
        if not line:
            raise _Wrong(pos, "the file ends within a command", True)
        raise _Wrong(pos, f"'{mark.decode()}' is expected and {line[:1]!r} is there")
    digits, ending, _ = line.partition(b"\r\n")
    if digits[1:].isdigit() and ending:
        return int(digits[1:]), pos + len(digits) + 2
    if not ending and len(line) < _HEADER_BYTES and (digits[1:].rstrip(b"\r") or b"0").isdigit():
        raise _Wrong(pos, "the file ends within a command", True)
    raise _Wrong(pos, f"no number behind '{mark.decode()}'")


def _only_zeros(content: Content, pos: int) -> bool:
    """Whether there is nothing else from an offset on, and something."""
    end = len(content)
    return pos < end and all(not content[at : at + _STEP].strip(b"\0") for at in range(pos, end, _STEP))
