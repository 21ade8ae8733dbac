"""Reads the commands of an append-only file, and where each begins.

Invariant: nothing is reserved because the file claims a size; what ends within a command or comment, or has
a hole where a part of one should be, is ``Torn``, as files are after a crash; all else that is wrong is a
FormatError.

Holes. After a power cut a later block of what was not synced may be on the disk and an earlier one not: zeros
stand there, from anywhere to where a block or the file ends, with good commands behind. As all bytes outside
of a hole are right, whoever reads from the front meets it in one of three ways: it has a byte of the frame
(a count, a length, a line end), which is then a zero; or it lies in a comment, which then has zeros, and
would have no end before a line end somewhere behind the hole; or it lies within words, which are as long as
they should be, so that nothing is wrong with any frame. The first two are Torn here. The third is told only
where the word is one that can have no zeros (``look_for_hole``); else it reads as that value, as nothing but a
checksum could tell. So a frame that is wrong in any other way is never a hole, however many zeros came before.

Costs: about 1 µs a short command, 2 to 3 µs one whose words hold line ends.

Must not know: what commands do, where files are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kvstore.errors import FormatError
from kvstore.persist.fs import Content
from kvstore.resp import encode_request

# Bytes read at a time.
_WINDOW: Final = 1 << 18
# Words of a command and bytes of a word that a real server takes.
_MOST_WORDS: Final = 1 << 20
_LONGEST_WORD: Final = 512 << 20
# A header is a mark, digits and a line end; longer ones are none.
_HEADER_BYTES: Final = 24
# A hole, perhaps after the beginning of a header or line end.
_HOLE: Final = re.compile(rb"(?:[*$][0-9]{0,20})?\r?(\0+)")
# What disks write whole; a hole ends where such a block does, or with the file.
_BLOCK: Final = 512
# Headers that are recognised at a glance.
_COUNTS: Final = {b"*%d" % count: count for count in range(1, 257)}
_SIZES: Final = [b"$%d" % size for size in range(4096)]


class Torn(Exception):
    """The file ends within what begins at ``offset``; ``hole``: or it has a hole there, and more behind it."""

    def __init__(self, offset: int, *, hole: bool = False):
        where = "there is a hole in" if hole else "the file ends within"
        super().__init__(f"{where} what begins at offset {offset}")
        self.offset = offset
        self.hole = hole


@dataclass(slots=True)
class Batch:
    """Commands that follow each other without a comment in between."""

    start: int  # offset of the first
    commands: list[list[bytes]]
    end: int  # offset behind the last
    # A command whose offset was asked for, and that offset: the next is looked for from there.
    _index: int = 0
    _offset: int = -1

    def offset(self, index: int) -> int:
        """Where a command begins. O(commands since the one that was asked for before), so that asking for
        many, in order, is O(n)."""
        if self._offset < 0 or index < self._index:
            self._index, self._offset = 0, self.start
        between = self.commands[self._index : index]
        self._offset += sum([len(encode_request(tuple(words))) for words in between])
        self._index = index
        return self._offset


def read_commands(content: Content, start: int) -> Iterator[Batch]:
    """All commands from ``start`` on, in order. Raises Torn, FormatError. O(n)."""
    pos, end, window = start, len(content), _WINDOW
    while pos < end:
        data = content[pos : pos + window]
        before = pos
        try:
            for batch in _in_window(data, before):
                pos = batch.end
                if batch.commands:
                    yield batch
        except FormatError as error:
            hole = -1 if error.offset is None else _hole_end(content, error.offset)
            if hole >= 0:
                raise Torn(pos, hole=hole < end) from None
            raise
        if pos > before:
            window = _WINDOW
        elif before + len(data) >= end:
            raise Torn(pos)
        else:  # what is first in the window is larger than it
            window *= 2


def look_for_hole(content: Content, batch: Batch, index: int) -> None:
    """Raises Torn where a whole command is what a power cut has left of another: it has zeros where no writer puts
    them, in its name or in the number of a SELECT, and zeros end where a block does. O(blocks of the command)."""
    words = batch.commands[index]
    if b"\0" in words[0] or (len(words) == 2 and b"\0" in words[1] and words[0].upper() == b"SELECT"):
        at = batch.offset(index)
        if 0 in content[at // _BLOCK * _BLOCK + _BLOCK - 1 : batch.offset(index + 1) : _BLOCK]:
            raise Torn(at, hole=True)


def _hole_end(content: Content, at: int) -> int:
    """Where the hole ends that begins at an offset, or behind the start of a header there; -1 when there is none.
    Zero bytes that do not reach the end of a block are damage of what was written."""
    found = _HOLE.match(content, at)
    if found is None:
        return -1
    begin, end = found.span(1)
    return end if end == len(content) or begin // _BLOCK < end // _BLOCK else -1


def _in_window(data: bytes, base: int) -> Iterator[Batch]:
    """The whole commands in a window that begins at the offset ``base`` of the file. A comment is a batch
    without any, and a command of which only a careful look tells where it ends is a batch of its own."""
    batch = _plain(data, base)
    yield batch
    pos = batch.end - base
    while pos < len(data):
        found = _one(data, pos, base)
        if found is None:
            return
        start, (pos, words) = base + pos, found
        yield Batch(start, [words] if words else [], base + pos)


def _plain(data: bytes, base: int) -> Batch:
    """The commands at the beginning of a window whose words have no line ends, by splitting it into lines."""
    lines = data.split(b"\r\n")
    last, at = len(lines) - 1, 0
    counts, sizes = _COUNTS, _SIZES
    commands: list[list[bytes]] = []
    try:
        while at < last:
            stop = at + 1 + 2 * counts[lines[at]]
            if stop > last:
                break
            words = lines[at + 2 : stop : 2]
            if lines[at + 1 : stop : 2] != [sizes[len(word)] for word in words]:
                break
            commands.append(words)
            at = stop
    except (KeyError, IndexError):  # a comment, something wrong; a word longer than the table of sizes
        pass
    return Batch(base, commands, base + sum(map(len, lines[:at])) + 2 * at)


def _one(data: bytes, pos: int, base: int) -> tuple[int, list[bytes]] | None:
    """The command or comment at ``pos``, behind the position where it ends; None: the window ends first."""
    start = pos
    if data[pos : pos + 1] == b"#":
        stop = data.find(b"\n", pos) + 1
        zero = data.find(b"\0", pos, stop or len(data))
        if zero >= 0:
            raise FormatError("a zero byte in a comment", base + zero)
        return (stop, []) if stop else None
    count, pos = _number(data, pos, b"*", base)
    if count is None:
        return None
    if not 1 <= count <= _MOST_WORDS:
        raise FormatError(f"a command of {count} words", base + start)
    words: list[bytes] = []
    for _ in range(count):
        size, pos = _number(data, pos, b"$", base)
        if size is None:
            return None
        if not 0 <= size <= _LONGEST_WORD:
            raise FormatError(f"a word of {size} bytes", base + pos)
        stop = pos + size
        if data[stop : stop + 2] != b"\r\n":
            if stop + 2 <= len(data):
                raise FormatError("no line end behind a word", base + stop)
            return None
        words.append(data[pos:stop])
        pos = stop + 2
    return pos, words


def _number(data: bytes, pos: int, mark: bytes, base: int) -> tuple[int | None, int]:
    """The number of a header and the position behind it; None where the window ends within the header."""
    head = data[pos : pos + _HEADER_BYTES]
    line, ending, _ = head.partition(b"\r\n")
    if line[:1] == mark and line[1:].isdigit() and ending:
        return int(line[1:]), pos + len(line) + 2
    short = len(head) < _HEADER_BYTES and not ending
    if short and (not line or (line[:1] == mark and (line[1:].rstrip(b"\r") or b"0").isdigit())):
        return None, pos
    raise FormatError(f"{mark.decode()} and a number are expected, and {head[:8]!r} is there", base + pos)
