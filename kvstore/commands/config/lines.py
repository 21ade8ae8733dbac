"""Words and lines of the configuration format: splitting a line into words, quoting one.

A word may be bare, in double quotes with the escapes ``\\n \\r \\t \\b \\a \\xHH``, or in single quotes
where only ``\\'`` is one. A quote may open in the middle of a word; where it closes the word must end.

Must not know: what the words mean.
"""

from __future__ import annotations

import re
from typing import Final

_SPACES: Final = re.compile(rb"[ \t-\r]*")
# Bare text, then perhaps one quoted part. The alternatives exclude each other, so a match is linear.
_WORD: Final = re.compile(
    rb"""([^ \t\n\r"']*)(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\'|\\(?!'))*)')?(?=[ \t-\r]|\Z)""",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_SPECIAL: Final = {0x5C: b"\\\\", 0x22: b'\\"', 10: b"\\n", 13: b"\\r", 9: b"\\t", 8: b"\\b", 7: b"\\a"}
_QUOTED: Final = [
    _SPECIAL.get(byte) or (bytes((byte,)) if 0x20 <= byte <= 0x7E else b"\\x%02x" % byte)
    for byte in range(256)
]


def split_words(line: bytes) -> list[bytes] | None:
    """The words of a line, or None where a quote is not closed or does not end a word. O(len(line))."""
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


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode())
    return _ESCAPES.get(match[2], match[2])


def quote(word: bytes) -> bytes:
    """The word in double quotes, printable, as ``split_words`` reads it back."""
    return b'"%b"' % b"".join(map(_QUOTED.__getitem__, word))
