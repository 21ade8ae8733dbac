"""Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET match them.

``*`` any run of bytes, ``?`` any byte, ``[a-z]`` ``[^a]`` a class, ``\\x`` the byte x itself. The
corner cases (a class that is not closed, a range written backwards, a last backslash) are the
server's own.

A pattern compiles once to a plain predicate over bytes. Every token but ``*`` takes exactly one
byte, so what stands between two stars may take its leftmost place and never move again: the
translation to ``re`` wraps each such piece in an atomic group, and no pattern can make the match
take more than O(len(pattern) * len(subject)).

Must not know: what the subjects are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], bool]

_CACHEABLE_LENGTH: Final = 256  # bytes of a pattern that the cache may keep alive
_MAX_STARS: Final = 1000  # the server gives up on a deeper nesting of stars

_STAR: Final = None
# One byte of the subject: the set of bytes it may be. None is a star.
_Token = frozenset[int] | None
_ANY: Final = frozenset(range(256))


def compile_glob(pattern: bytes, nocase: bool = False) -> Matcher:
    """A predicate that tells whether a byte string matches ``pattern`` as a whole.

    O(len(pattern)) to make, remembered for the patterns used last. With ``nocase`` ASCII letters
    match in either case.
    """
    if len(pattern) <= _CACHEABLE_LENGTH:
        return _compile_cached(pattern, nocase)
    return _compile(pattern, nocase)


def _compile(pattern: bytes, nocase: bool) -> Matcher:
    tokens = _tokens(pattern, nocase)
    stars = tokens.count(_STAR)
    literal = _literal(tokens)
    if literal is not None:
        if not stars:
            return literal.__eq__
        if stars == 1 and tokens[-1] is _STAR:
            return _prefix_matcher(literal)
        if stars == 1 and tokens[0] is _STAR:
            return _suffix_matcher(literal)
    return _regex_matcher(tokens)


_compile_cached = lru_cache(maxsize=512)(_compile)


def _prefix_matcher(prefix: bytes) -> Matcher:
    if not prefix:
        return lambda subject: True
    return lambda subject: subject.startswith(prefix)


def _suffix_matcher(suffix: bytes) -> Matcher:
    return lambda subject: subject.endswith(suffix)


def _literal(tokens: list[_Token]) -> bytes | None:
    """The bytes that the tokens other than stars stand for, or None if one allows several bytes."""
    out = bytearray()
    for token in tokens:
        if token is not None:
            if len(token) != 1:
                return None
            out.extend(token)
    return bytes(out)


def _tokens(pattern: bytes, nocase: bool) -> list[_Token]:
    tokens: list[_Token] = []
    position, size = 0, len(pattern)
    while position < size:
        byte = pattern[position]
        if byte == 0x2A:  # *
            if not tokens or tokens[-1] is not _STAR:
                tokens.append(_STAR)
        elif byte == 0x3F:  # ?
            tokens.append(_ANY)
        elif byte == 0x5B:  # [
            token, position = _class(pattern, position + 1, nocase)
            tokens.append(token)
        else:
            if byte == 0x5C and position + 1 < size:  # \
                position += 1
                byte = pattern[position]
            tokens.append(_folded(byte) if nocase else frozenset((byte,)))
        position += 1
    return tokens


def _class(pattern: bytes, position: int, nocase: bool) -> tuple[frozenset[int], int]:
    """The bytes of the class that opens before ``position``, and where its last byte is."""
    size = len(pattern)
    negated = position < size and pattern[position] == 0x5E  # ^
    if negated:
        position += 1
    members: set[int] = set()
    while position < size:
        byte = pattern[position]
        if byte == 0x5C and position + 1 < size:
            position += 1
            members.add(pattern[position])
        elif byte == 0x5D:  # ]
            break
        elif position + 2 < size and pattern[position + 1] == 0x2D:  # -
            members |= _range(byte, pattern[position + 2], nocase)
            position += 2
        else:
            members |= _folded(byte) if nocase else {byte}
        position += 1
    return frozenset(_ANY - members if negated else members), min(position, size - 1)


def _range(start: int, end: int, nocase: bool) -> set[int]:
    if start > end:
        start, end = end, start
    if not nocase:
        return set(range(start, end + 1))
    start, end = _lower(start), _lower(end)
    return {byte for byte in range(256) if start <= _lower(byte) <= end}


def _lower(byte: int) -> int:
    return byte + 32 if 0x41 <= byte <= 0x5A else byte


def _folded(byte: int) -> frozenset[int]:
    lower = _lower(byte)
    return frozenset(b for b in (lower, lower - 32) if _lower(b) == lower)


def _regex_matcher(tokens: list[_Token]) -> Matcher:
    pieces: list[list[bytes]] = [[]]
    for token in tokens:
        if token is None:
            pieces.append([])
        else:
            pieces[-1].append(_regex_of(token))
    first, *rest = (b"".join(piece) for piece in pieces)
    if rest:
        *middle, last = rest
        source = first + b"".join(b"(?>.*?%b)" % piece for piece in middle) + b".*" + last
    else:
        source = first
    match = re.compile(source, re.DOTALL).fullmatch
    return lambda subject: match(subject) is not None


def _regex_of(token: frozenset[int]) -> bytes:
    if len(token) == 256:
        return b"."
    if len(token) == 1:
        return re.escape(bytes(token))
    if not token:
        return b"(?!)"
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(token))
