"""Longest common subsequence of two byte strings, and the server's choice among those of equal length.

Rows of the length table are kept as bit vectors: bit j of row i is clear where the length grows from
column j to j + 1. A row follows from the one above by three operations on whole integers, so the table
costs O(len(a) * len(b) / 64) word operations, and an eighth of a byte a cell where the way back is asked for.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

from collections.abc import Iterator

# A piece that both strings have: (first in a, first in b, length).
Run = tuple[int, int, int]


def _rows(a: bytes, b: bytes) -> Iterator[int]:
    """The rows of the length table, from that of the empty prefix of ``a`` on."""
    full = (1 << len(b)) - 1
    places: dict[int, int] = {}
    for at, byte in enumerate(b):
        places[byte] = places.get(byte, 0) | 1 << at
    row = full
    yield row
    for byte in a:
        hits = places.get(byte)
        if hits is not None:
            kept = row & hits
            row = (row + kept | row ^ kept) & full
        yield row


def lcs_length(a: bytes, b: bytes) -> int:
    """How long the longest common subsequence is."""
    last = 0
    for row in _rows(a, b):
        last = row
    return len(b) - last.bit_count()


def lcs_runs(a: bytes, b: bytes) -> list[Run]:
    """The longest common subsequence as maximal runs, the last one first.

    The way back through the table goes up only where that alone keeps the length, as the server's does.
    """
    width = (len(b) + 7) // 8
    rows = [row.to_bytes(width, "little") for row in _rows(a, b)]
    runs: list[Run] = []
    length = 0  # of the run that (i, j) is the start of
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i -= 1
            j -= 1
            length += 1
            continue
        if length:
            runs.append((i, j, length))
            length = 0
        if rows[i][j - 1 >> 3] >> (j - 1 & 7) & 1:
            j -= 1
        else:
            i -= 1
    if length:
        runs.append((i, j, length))
    return runs


def lcs_bytes(a: bytes, runs: list[Run]) -> bytes:
    """The subsequence itself, from its runs in ``a``."""
    return b"".join(a[start : start + length] for start, _, length in reversed(runs))
