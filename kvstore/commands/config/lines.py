"""Words and lines of the configuration format: splitting a line into words, quoting one.

A line is split as an inline request is, see ``kvstore.resp.split_words``.

Must not know: what the words mean.
"""

from __future__ import annotations

from typing import Final

from kvstore.resp import split_words

__all__ = ["quote", "split_words"]

_SPECIAL: Final = {0x5C: b"\\\\", 0x22: b'\\"', 10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 7: b"\\a"}
_QUOTED: Final = [
    _SPECIAL.get(byte) or (bytes((byte,)) if 0x20 <= byte <= 0x7E else b"\\x%02x" % byte)
    for byte in range(256)
]


def quote(word: bytes) -> bytes:
    """The word in double quotes, printable, as ``split_words`` reads it back."""
    return b'"%b"' % b"".join(map(_QUOTED.__getitem__, word))
