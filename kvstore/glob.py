"""Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET match them.

``*`` is any run of bytes, ``?`` any byte, ``[a-z]`` and ``[^a]`` a class, ``\\x`` the byte x itself.
The corner cases (a class that is not closed, a range written backwards, a last backslash, a star
that does not match the empty string) are the server's own.

A pattern compiles once to a plain predicate over bytes. Every token but ``*`` takes exactly one
byte, so what stands between two stars may take its leftmost place and never move again: no
pattern makes a match cost more than O(len(pattern) * len(subject)). Backtracking over the stars,
as a plain translation to ``re`` does it, would be exponential in their number.

Must not know: what the subjects are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], bool]

_CACHEABLE_LENGTH: Final = 256  # bytes of a pattern that the cache may keep alive
_MAX_INNER_STARS: Final = 1000  # with more of them, not counting a last one, the server finds no match

_ALL_BYTES: Final = frozenset(range(256))
# What one step over a pattern meets; a lone backslash at the end is a literal.
_STEP: Final = re.compile(rb"(\*+)|(\?)|(\[)|\\([\x00-\xff])|([^*?\[\\]+|\\\Z)")

# A run of literal bytes, or the set of bytes that one byte of the subject may be.
_Token = bytes | frozenset[int]


def compile_glob(pattern: bytes, nocase: bool = False) -> Matcher:
    """A predicate that tells whether a byte string as a whole matches ``pattern``.

    O(len(pattern)) to make; the patterns used last are remembered. With ``nocase`` ASCII letters
    match in either case. Only the empty pattern matches the empty string.
    """
    if len(pattern) <= _CACHEABLE_LENGTH:
        return _compile_cached(pattern, nocase)
    return _compile(pattern, nocase)


def compile_scan_glob(pattern: bytes) -> Matcher | None:
    """The predicate of KEYS and the SCAN family: None for ``*``, which there takes the empty name too."""
    return None if pattern == b"*" else compile_glob(pattern)


def _compile(pattern: bytes, nocase: bool) -> Matcher:
    pieces = _pieces(pattern, nocase)
    last = len(pieces) - 1
    if last - (not pieces[last]) > _MAX_INNER_STARS:
        return _nothing
    if not all(type(token) is bytes for piece in pieces for token in piece):
        return _regex_matcher(pieces)
    first, *rest = (b"".join(piece) for piece in pieces)  # type: ignore[arg-type]
    if not rest:
        return first.__eq__
    if rest == [b""]:
        return (lambda subject: subject.startswith(first)) if first else bool
    if len(rest) == 2 and not first and not rest[1]:
        infix = rest[0]
        return lambda subject: infix in subject
    return _literal_matcher(first, rest[:-1], rest[-1])


_compile_cached = lru_cache(maxsize=512)(_compile)


def _nothing(subject: bytes) -> bool:
    return False


def _literal_matcher(first: bytes, middle: list[bytes], last: bytes) -> Matcher:
    start = len(first)

    def match(subject: bytes) -> bool:
        if not subject.startswith(first):
            return False
        position = start
        for piece in middle:
            found = subject.find(piece, position)
            if found < 0:
                return False
            position = found + len(piece)
        return subject.endswith(last, position)

    return match


def _regex_matcher(pieces: list[list[_Token]]) -> Matcher:
    """The general case. An atomic group keeps each piece at its leftmost place.

    ``re`` compiles slowly, so it waits for a subject that is long enough to match.
    """
    at_least = sum(len(token) if type(token) is bytes else 1 for piece in pieces for token in piece)
    compiled: Callable[[bytes], object] | None = None

    def match(subject: bytes) -> bool:
        nonlocal compiled
        if len(subject) < at_least:
            return False
        if compiled is None:
            compiled = re.compile(_regex_source(pieces), re.DOTALL).fullmatch
        return compiled(subject) is not None

    return match


def _regex_source(pieces: list[list[_Token]]) -> bytes:
    first, *rest = (b"".join(map(_regex_token, piece)) for piece in pieces)
    if not rest:
        return first
    return b"%b%b.*%b" % (first, b"".join(b"(?>.*?%b)" % piece for piece in rest[:-1]), rest[-1])


def _regex_token(token: _Token) -> bytes:
    if isinstance(token, bytes):
        return re.escape(token)
    if len(token) == 256:
        return b"."
    if not token:
        return b"(?!)"
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(token))


def _pieces(pattern: bytes, nocase: bool) -> list[list[_Token]]:
    """The tokens between the stars: one list more than there are runs of stars."""
    pieces: list[list[_Token]] = [[]]
    position, size = 0, len(pattern)
    while position < size:
        step = _STEP.match(pattern, position)
        assert step is not None
        position = step.end()
        stars, any_byte, bracket, escaped, run = step.groups()
        if stars:
            pieces.append([])
        elif any_byte:
            pieces[-1].append(_ALL_BYTES)
        elif bracket:
            members, position = _class(pattern, position, nocase)
            pieces[-1].append(members)
        elif nocase:
            pieces[-1].extend(map(_either_case, escaped or run))
        else:
            pieces[-1].append(escaped or run)
    return pieces


def _class(pattern: bytes, position: int, nocase: bool) -> tuple[frozenset[int], int]:
    """The bytes of the class whose bracket ends at ``position``, and where the pattern goes on."""
    size = len(pattern)
    negated = pattern[position : position + 1] == b"^"
    position += negated
    members: set[int] = set()
    while position < size:
        byte = pattern[position]
        if byte == 0x5C and position + 1 < size:  # a backslash: the next byte is itself
            members.add(pattern[position + 1])
            position += 2
        elif byte == 0x5D:  # the closing bracket; a class without one ends with the pattern
            position += 1
            break
        elif position + 2 < size and pattern[position + 1] == 0x2D:
            members |= _range(byte, pattern[position + 2], nocase)
            position += 3
        else:
            members |= _either_case(byte) if nocase else {byte}
            position += 1
    return frozenset(_ALL_BYTES - members if negated else members), position


def _range(start: int, end: int, nocase: bool) -> set[int]:
    if start > end:
        start, end = end, start
    if not nocase:
        return set(range(start, end + 1))
    start, end = _lower(start), _lower(end)
    return {byte for byte in range(256) if start <= _lower(byte) <= end}


def _lower(byte: int) -> int:
    return byte + 32 if 0x41 <= byte <= 0x5A else byte


def _either_case(byte: int) -> frozenset[int]:
    return frozenset(bytes((byte,)).lower() + bytes((byte,)).upper())
