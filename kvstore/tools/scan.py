"""Reads through an append-only file without running it: how far it is whole, and what is wrong behind that.

Invariant: ``whole`` is where the file may be cut: behind a command or a comment, and never between MULTI and its
EXEC.

Costs: about 1 µs a command.

Must not know: how commands are written, what they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kvstore.errors import FormatError
from kvstore.persist.fs import Content
from kvstore.persist.requests import Batch, Torn, look_for_hole, read_commands


@dataclass(slots=True)
class Scan:
    """What has been found so far."""

    whole: int  # the offset up to which the file is whole
    commands: int = 0
    units: int = 0  # of MULTI and EXEC
    offset: int = 0  # where it is wrong
    error: str | None = None  # and why
    is_torn: bool = False  # the file ends within a command or unit, as when the writer died
    is_hole: bool = False  # or it has a hole in one and more behind it, as after a power cut
    unit: int = -1  # where the MULTI is whose EXEC has yet to come
    names: Counter[bytes] = field(default_factory=Counter)  # of commands, as they are spelled


def scan(content: Content, found: Scan) -> Iterator[int]:
    """Read on from ``found.whole`` to the end or to what is wrong; yields offsets from time to time."""
    end = found.whole  # behind what has been read
    try:
        for batch in read_commands(content, found.whole):
            _take(content, batch, found)
            end = batch.end
            yield end
        end = len(content)
    except Torn as torn:
        end = torn.offset
        found.offset, found.is_torn, found.is_hole = end, True, torn.hole
        found.error = "there is a hole in what begins" if torn.hole else "the file ends within what begins"
    except FormatError as error:
        found.offset, found.error = error.offset or 0, error.text
    if found.unit >= 0:
        found.whole = found.unit
        if found.error is None:
            found.offset, found.error, found.is_torn = found.unit, "there is no EXEC for the MULTI", True
    elif found.error is None or found.is_torn:
        found.whole = end
    else:
        found.whole = max(found.whole, _behind_comments(content, end, found.offset))


def _take(content: Content, batch: Batch, found: Scan) -> None:
    """Count the commands. Raises FormatError, Torn."""
    for index, words in enumerate(batch.commands):
        if len(words) == 1:
            name = words[0].upper()
            if name == b"MULTI":
                at = batch.offset(index)
                if found.unit >= 0:
                    raise FormatError("MULTI within MULTI", at)
                found.unit = found.whole = at
            elif name == b"EXEC":
                if found.unit < 0:
                    found.whole = batch.offset(index)
                    raise FormatError("EXEC without MULTI", found.whole)
                found.unit = -1
                found.units += 1
        look_for_hole(content, batch, index)
    found.commands += len(batch.commands)
    found.names.update([words[0] for words in batch.commands])


def _behind_comments(content: Content, pos: int, stop: int) -> int:
    """Behind the comments at ``pos``, of which the last ends before ``stop``."""
    while content[pos : pos + 1] == b"#" and 0 < (behind := content.find(b"\n", pos) + 1) <= stop:
        pos = behind
    return pos
