"""A bar for what takes long: how much is done, how fast it goes, how long it will take.

It is drawn on a terminal alone, ten times a second at most, and only once the work has taken longer than a
blink; where standard error is a file or a pipe an update is one comparison.

Must not know: what the work is.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

# Seconds before the bar is drawn first, and between two drawings.
PATIENCE = 0.5
INTERVAL = 0.1
_BAR = 24  # characters
_UNITS = ("B", "KB", "MB", "GB", "TB")


def size_of(count: float) -> str:
    """A number of bytes, for people: "1.4 GB"."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 99.95 else f"{count:.1f} {_UNITS[unit]}"


def count_of(count: int) -> str:
    """A number, for people: "1,234,567"."""
    return f"{count:,}"


def counted(count: int, one: str, several: str = "") -> str:
    """A number of things, for people: "1 key", "2,000 keys"."""
    return f"{count_of(count)} {one if count == 1 else several or one + 's'}"


class Progress:
    """Shows how far the work on ``total`` bytes (0: nobody knows how many) has come; ``hidden``: to nobody.

    with Progress("loading dump.rdb", size) as progress:
        for done in work:
            progress.update(done)
    """

    def __init__(
        self,
        label: str,
        total: int = 0,
        *,
        unit: str = "keys",
        hidden: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = sys.stderr if stream is None else stream
        self._label, self._total, self._unit = label, total, unit
        self._clock = clock
        self._began = clock()
        self._drawn = 0  # characters on the line
        try:
            shown = not hidden and self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            shown = False
        self._next = self._began + PATIENCE if shown else float("inf")

    @property
    def shown(self) -> bool:
        """Whether there is anybody to show it to; if not, it need not be updated."""
        return self._next != float("inf")

    def update(self, done: int, count: int = 0) -> None:
        """``done`` bytes are done, with so many keys (or whatever ``unit`` says) in them; 0: not counted."""
        if self._next == float("inf"):
            return
        now = self._clock()
        if now >= self._next:
            self._next = now + INTERVAL
            self._draw(self._line(done, count, now - self._began))

    def _line(self, done: int, count: int, seconds: float) -> str:
        rate = done / seconds if seconds > 0 else 0.0
        words = []
        if self._total:
            part = min(done / self._total, 1.0)
            full = int(part * _BAR)
            words += [f"[{'#' * full}{'.' * (_BAR - full)}]", f"{part * 100:3.0f}%"]
            words.append(f"{size_of(done)} of {size_of(self._total)}")
        else:
            words.append(size_of(done))
        if count:
            words.append(f"{count_of(count)} {self._unit}")
        words.append(f"{size_of(rate)}/s")
        if self._total and rate:
            words.append(f"{max(self._total - done, 0) / rate:.0f} s left")
        return f"{self._label}  " + "  ".join(words)

    def _draw(self, line: str) -> None:
        # One short of the width: in the last column some terminals go to the next line.
        line = line[: max(shutil.get_terminal_size().columns - 1, 10)]
        self._stream.write("\r" + line + " " * (self._drawn - len(line)))
        self._stream.flush()
        self._drawn = len(line)

    def close(self) -> None:
        """Take the bar away. May be called twice."""
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0
        self._next = float("inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
