"""The kinds of configuration values: how each is read, shown by CONFIG GET and written to a file.

A kind turns the words after a directive's name into a plain Python value and back. What it refuses
it refuses with the server's own text. Values are immutable, so that keeping the old one is a rollback.

    YesNo     bool                         Integer, Memory, Octal   int
    Enum      str                          Flags                    tuple of str
    Text      str (see ``to_text``)        the special ones         tuples and named tuples, see each

Words come from C: outside integers and passwords a NUL byte ends a word.

Must not know: directives, files, who reads the values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kvstore.numbers import INT64_MAX, INT64_MIN, parse_float, parse_int
from kvstore.resp import quote_word

INT_MAX: Final = (1 << 31) - 1
UINT_MAX: Final = (1 << 32) - 1
ULONG_MAX: Final = (1 << 64) - 1

Words = list[bytes]
# What to write after a directive's name, and whether to write it where the file has no such line.
Written = list[tuple[bytes, bool]]

WRONG_COUNT: Final = "wrong number of arguments"


class Refused(Exception):
    """A value that a kind does not take; ``str()`` is the reason as the server words it."""


def to_text(raw: bytes) -> str:
    """Bytes as text; what is not UTF-8 survives the way back through ``to_bytes``."""
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def c_string(word: bytes) -> bytes:
    return word.partition(b"\0")[0]


_WHOLE: Final = re.compile(rb"[ \t-\r]*([+-]?)0*([0-9]+)")


def parse_strtoll(word: bytes) -> int | None:
    """An integer as ``strtoll`` reads it when the whole word must be one: saturated to 64 bits.

    White space and a plus may stand in front; nothing at all is 0.
    """
    word = c_string(word)
    if not word:
        return 0
    match = _WHOLE.fullmatch(word)
    if match is None:
        return None
    value = int(match[2]) if len(match[2]) < 20 else INT64_MAX + 1
    if match[1] == b"-":
        return max(-value, INT64_MIN)
    return min(value, INT64_MAX)


def int32(value: int) -> int:
    """What is left of a value that C keeps in an int."""
    return ((value + (1 << 31)) & UINT_MAX) - (1 << 31)


_MEMORY: Final = re.compile(rb"([0-9]{0,127})([a-z]*)", re.IGNORECASE)
_UNITS: Final = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1 << 10,
    b"m": 10**6,
    b"mb": 1 << 20,
    b"g": 10**9,
    b"gb": 1 << 30,
}


def parse_memory(word: bytes) -> int | None:
    """A number of bytes with an optional unit, modulo 2**64; no digits are 0."""
    match = _MEMORY.fullmatch(c_string(word))
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        return None
    return (min(int(match[1] or b"0"), ULONG_MAX) * unit) & ULONG_MAX


def format_memory(size: int) -> bytes:
    """The shortest spelling with a unit that is exact."""
    for shift, unit in ((30, b"gb"), (20, b"mb"), (10, b"kb")):
        if size and not size & ((1 << shift) - 1):
            return b"%d%b" % (size >> shift, unit)
    return b"%d" % size


class Kind:
    """A kind of value. ``multi``: it takes any number of words, from CONFIG SET split at spaces."""

    multi = False

    def parse(self, words: Words, old: Any) -> Any:
        """The value of the words. ``old``, the value before, is for kinds that change in parts."""
        raise NotImplementedError

    def show(self, value: Any) -> bytes:
        """As CONFIG GET answers it."""
        raise NotImplementedError

    def write(self, value: Any, default: Any) -> Written:
        """As CONFIG REWRITE puts it into the file; no lines where the directive must not be there."""
        return [(self.show(value), value != default)]

    def describe(self) -> str:
        """What a value may be, for the documentation."""
        raise NotImplementedError


class YesNo(Kind):
    def parse(self, words: Words, old: bool) -> bool:
        word = c_string(words[0]).lower()
        if word in (b"yes", b"no"):
            return word == b"yes"
        raise Refused("argument must be 'yes' or 'no'")

    def show(self, value: bool) -> bytes:
        return b"yes" if value else b"no"

    def describe(self) -> str:
        return "yes, no"


class Integer(Kind):
    """An integer from ``low`` to ``high``, then adjusted where the server adjusts it silently."""

    def __init__(self, low: int, high: int, adjust: Callable[[int], int] | None = None):
        self.low = low
        self.high = high
        self.adjust = adjust

    def parse(self, words: Words, old: int) -> int:
        value = parse_int(words[0])
        if value is None:
            raise Refused("argument couldn't be parsed into an integer")
        if not self.low <= value <= self.high:
            raise Refused(f"argument must be between {self.low} and {self.high} inclusive")
        return self.adjust(value) if self.adjust else value

    def show(self, value: int) -> bytes:
        return b"%d" % value

    def describe(self) -> str:
        return _range(self.low, self.high)


def _range(low: int, high: int) -> str:
    names = {INT_MAX: "2³¹-1", UINT_MAX: "2³²-1", INT64_MAX: "2⁶³-1", ULONG_MAX: "2⁶⁴-1"}
    names |= {INT64_MIN: "-2⁶³", -INT_MAX - 1: "-2³¹"}
    return f"{names.get(low, low)} … {names.get(high, high)}"


class Memory(Kind):
    """A number of bytes, with a unit. With ``percent`` also ``5%``, kept as -5."""

    def __init__(
        self,
        low: int = 0,
        high: int = INT64_MAX,
        percent: bool = False,
        adjust: Callable[[int], int] | None = None,
    ):
        self.low = low
        self.high = high
        self.percent = percent
        self.adjust = adjust

    def parse(self, words: Words, old: int) -> int:
        value = parse_memory(words[0])
        if value is None and self.percent:
            value = self._parse_percent(words[0])
        if value is None:
            raise Refused(f"argument must be a memory {'or percent ' if self.percent else ''}value")
        if self.percent and value > INT64_MAX:
            value -= 1 << 64  # the server's variable is signed: so large a size counts as a percentage
        if value < 0:
            if value < -100:
                raise Refused("percentage argument must be less or equal to 100")
        elif not self.low <= value <= self.high:
            raise Refused(f"argument must be between {self.low} and {self.high} inclusive")
        return self.adjust(value) if self.adjust else value

    @staticmethod
    def _parse_percent(word: bytes) -> int | None:
        number = parse_int(word[:-1]) if word.endswith(b"%") else None
        return None if number is None or number < 0 else -number

    def show(self, value: int) -> bytes:
        return b"%d" % value if value >= 0 else b"%d%%" % -value

    def write(self, value: int, default: int) -> Written:
        return [(format_memory(value) if value >= 0 else self.show(value), value != default)]

    def describe(self) -> str:
        what = f"bytes, {_range(self.low, self.high)}"
        return f"{what}, or 0% … 100%" if self.percent else what


_OCTAL: Final = re.compile(rb"[ \t-\r]*([+-]?[0-7]+)")


class Octal(Kind):
    """File permissions, 0 to 777."""

    def parse(self, words: Words, old: int) -> int:
        word = c_string(words[0])
        match = _OCTAL.fullmatch(word)
        value = int(match[1], 8) if match else 0
        if (match is None and word) or not INT64_MIN <= value <= INT64_MAX:
            raise Refused("argument couldn't be parsed as an octal number")
        if not 0 <= value <= 0o777:
            raise Refused("argument must be between 0 and 777 inclusive")
        return value

    def show(self, value: int) -> bytes:
        return b"%o" % value

    def describe(self) -> str:
        return "octal, 0 … 777"


def _one_of(names: tuple[str, ...]) -> Refused:
    return Refused(f"argument(s) must be one of the following: {', '.join(names)}")


class Enum(Kind):
    """One of some names. ``same``: names that are read as another one."""

    def __init__(self, *names: str, same: dict[str, str] | None = None):
        self.names = names
        self.same = same or {}

    def parse(self, words: Words, old: str) -> str:
        word = to_text(c_string(words[0])).lower()
        if word not in self.names:
            raise _one_of(self.names)
        return self.same.get(word, word)

    def show(self, value: str) -> bytes:
        return value.encode()

    def describe(self) -> str:
        return ", ".join(self.names)


class Flags(Kind):
    """Any of some names; the first name stands for none of the others. A tuple of the others."""

    multi = True

    def __init__(self, *names: str, check: Callable[[tuple[str, ...]], str | None]):
        self.names = names
        self.check = check

    def parse(self, words: Words, old: tuple[str, ...]) -> tuple[str, ...]:
        given = {to_text(c_string(word)).lower() for word in words}
        if not given or not given.issubset(self.names):
            raise _one_of(self.names)
        value = tuple(name for name in self.names[1:] if name in given)
        if (refusal := self.check(value)) is not None:
            raise Refused(refusal)
        return value

    def show(self, value: tuple[str, ...]) -> bytes:
        return " ".join(value or self.names[:1]).encode()

    def describe(self) -> str:
        return f"{self.names[0]}, or any of {', '.join(self.names[1:])}"


class Text(Kind):
    """Free text, decoded by ``to_text``.

    ``keep_empty``: an empty value is a value, which stays in a rewritten file; otherwise it means
    "not set". ``binary``: NUL bytes are part of the value.
    """

    def __init__(
        self,
        check: Callable[[str], str | None] | None = None,
        *,
        keep_empty: bool = False,
        binary: bool = False,
    ):
        self.check = check
        self.keep_empty = keep_empty
        self.binary = binary

    def parse(self, words: Words, old: str) -> str:
        value = to_text(words[0] if self.binary else c_string(words[0]))
        if self.check is not None and (refusal := self.check(value)) is not None:
            raise Refused(refusal)
        return value

    def show(self, value: str) -> bytes:
        return to_bytes(value)

    def write(self, value: str, default: str) -> Written:
        if not value and not self.keep_empty:
            return []
        return [(quote_word(to_bytes(value)), value != default)]

    def describe(self) -> str:
        return "text"


class Directory(Kind):
    """A directory that exists, as an absolute path. A relative one starts from the value before.

    A server of one process would change its working directory; a store inside another program must not.
    """

    def parse(self, words: Words, old: str) -> str:
        word = c_string(words[0])
        if not word:
            raise Refused("dir can't be empty")
        path = os.path.realpath(os.path.join(old, to_text(word)))
        try:
            os.stat(os.path.join(path, "."))
        except OSError as error:
            raise Refused(os.strerror(error.errno or 0)) from None
        return path

    def show(self, value: str) -> bytes:
        return to_bytes(value)

    def write(self, value: str, default: str) -> Written:
        return [(quote_word(to_bytes(value)), True)]

    def describe(self) -> str:
        return "a directory"


class SavePoints(Kind):
    """Pairs of (seconds, changes), each a reason to take a snapshot."""

    multi = True

    def parse(self, words: Words, old: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if words == [b""]:
            return ()
        numbers = [parse_strtoll(word) for word in words]
        for at, number in enumerate(numbers):
            if number is None or number < (0 if at & 1 else 1):
                raise Refused("Invalid save parameters")
        if len(numbers) & 1:
            raise Refused("Invalid save parameters")
        points = [number for number in numbers if number is not None]
        return tuple(zip(points[::2], map(int32, points[1::2]), strict=True))

    def show(self, value: tuple[tuple[int, int], ...]) -> bytes:
        return b" ".join(b"%d %d" % point for point in value)

    def write(self, value: tuple[tuple[int, int], ...], default: object) -> Written:
        return [(self.show(value) or b'""', True)]

    def describe(self) -> str:
        return "pairs of seconds and changes"


class BufferLimit(NamedTuple):
    """A client is closed at ``hard`` bytes of output, or at ``soft`` bytes for ``seconds``; 0: never."""

    hard: int
    soft: int
    seconds: int


class BufferLimits(NamedTuple):
    normal: BufferLimit
    replica: BufferLimit
    pubsub: BufferLimit


class OutputBufferLimits(Kind):
    """A BufferLimits. Classes that are not named keep the limits they have."""

    multi = True
    _CLASSES: Final = {b"normal": "normal", b"slave": "replica", b"replica": "replica", b"pubsub": "pubsub"}

    def parse(self, words: Words, old: BufferLimits) -> BufferLimits:
        if len(words) % 4:
            raise Refused("Wrong number of arguments in buffer limit configuration.")
        limits = {}
        for at in range(0, len(words), 4):
            name = self._CLASSES.get(c_string(words[at]).lower())
            if name is None:
                raise Refused("Invalid client class specified in buffer limit configuration.")
            limits[name] = self._limit(*words[at + 1 : at + 4])
        return old._replace(**limits)

    @staticmethod
    def _limit(hard: bytes, soft: bytes, seconds: bytes) -> BufferLimit:
        most, long, span = parse_memory(hard), parse_memory(soft), parse_strtoll(seconds)
        if most is None or long is None or span is None or int32(span) < 0:
            raise Refused("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
        return BufferLimit(most, long, int32(span))

    def show(self, value: BufferLimits) -> bytes:
        names = (b"normal", b"slave", b"pubsub")
        return b" ".join(b"%b %d %d %d" % (name, *limit) for name, limit in zip(names, value, strict=True))

    def write(self, value: BufferLimits, default: BufferLimits) -> Written:
        return [
            (
                b"%b %b %b %d" % (name.encode(), format_memory(hard), format_memory(soft), seconds),
                (hard, soft, seconds) != usual,
            )
            for name, (hard, soft, seconds), usual in zip(value._fields, value, default, strict=True)
        ]

    def describe(self) -> str:
        return "groups of: normal, replica or pubsub; hard bytes; soft bytes; soft seconds"


class KeyspaceEvents(Kind):
    """A frozenset of event class characters, ``A`` spelled out."""

    _ALL: Final = "g$lshzxetd"

    def parse(self, words: Words, old: frozenset[str]) -> frozenset[str]:
        classes = frozenset(to_text(c_string(words[0])).replace("A", self._ALL))
        if not classes <= frozenset(self._ALL + "KEmn"):
            raise Refused("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        return classes

    def show(self, value: frozenset[str]) -> bytes:
        # Once A stands for the others the server leaves out n too, though it is not part of A.
        names = "A" if value.issuperset(self._ALL) else "".join(c for c in self._ALL + "n" if c in value)
        return (names + "".join(c for c in "KEm" if c in value)).encode()

    def write(self, value: frozenset[str], default: frozenset[str]) -> Written:
        return [(quote_word(self.show(value)), value != default)]

    def describe(self) -> str:
        return "characters of Ag$lshzxeKEtmdn"


class Addresses(Kind):
    """A tuple of addresses to listen on. A leading minus: go on where the machine has no such address."""

    multi = True
    _MOST: Final = 16

    def parse(self, words: Words, old: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) > self._MOST:
            raise Refused("Too many bind addresses specified.")
        return () if words == [b""] else tuple(to_text(c_string(word)) for word in words)

    def show(self, value: tuple[str, ...]) -> bytes:
        return to_bytes(" ".join(value))

    def write(self, value: tuple[str, ...], default: tuple[str, ...]) -> Written:
        return [] if value == default else [(self.show(value) or b'""', True)]

    def describe(self) -> str:
        return f"up to {self._MOST} addresses"


class OomScores(Kind):
    """Three scores for the kernel's out-of-memory killer."""

    multi = True

    def parse(self, words: Words, old: tuple[int, ...]) -> tuple[int, ...]:
        if len(words) != 3:
            raise Refused(WRONG_COUNT)
        scores = tuple(parse_strtoll(word) for word in words)
        found = tuple(score for score in scores if score is not None and -2000 <= score <= 2000)
        if len(found) != 3:
            raise Refused("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
        return found

    def show(self, value: tuple[int, ...]) -> bytes:
        return b" ".join(b"%d" % score for score in value)

    def describe(self) -> str:
        return "three of -2000 … 2000"


class Percentiles(Kind):
    """A tuple of floats from 0 to 100."""

    multi = True

    def parse(self, words: Words, old: tuple[float, ...]) -> tuple[float, ...]:
        if words == [b""]:
            return ()
        found = []
        for word in words:
            value = parse_float(word)
            if value is None:
                raise Refused("Invalid latency-tracking-info-percentiles parameters")
            if not 0.0 <= value <= 100.0:
                raise Refused("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
            found.append(value)
        return tuple(found)

    def show(self, value: tuple[float, ...]) -> bytes:
        return b" ".join((b"%f" % number).rstrip(b"0").rstrip(b".") for number in value)

    def write(self, value: tuple[float, ...], default: tuple[float, ...]) -> Written:
        return [(self.show(value) or b'""', True)]

    def describe(self) -> str:
        return "numbers 0 … 100"


class ReplicaOf(Kind):
    """(host, port) of the server to follow, or None."""

    multi = True

    def parse(self, words: Words, old: tuple[str, int] | None) -> tuple[str, int] | None:
        if len(words) != 2:
            raise Refused(WRONG_COUNT)
        host, port_word = (c_string(word) for word in words)
        if host.lower() == b"no" and port_word.lower() == b"one":
            return None
        port = parse_strtoll(port_word)
        if port is None or not 0 <= port <= 65535:
            raise Refused("Invalid master port")
        return to_text(host), port

    def show(self, value: tuple[str, int] | None) -> bytes:
        return b"" if value is None else to_bytes(f"{value[0]} {value[1]}")

    def write(self, value: tuple[str, int] | None, default: None) -> Written:
        return [] if value is None else [(self.show(value), True)]

    def describe(self) -> str:
        return "host and port, or no one"


class Version(Kind):
    """The version whose behaviour is kept, in full: a short form stands for that line's release."""

    def __init__(self, *releases: str):
        self.releases = {release.rpartition(".")[0]: release for release in releases}

    def parse(self, words: Words, old: str) -> str:
        word = to_text(c_string(words[0]))
        line = ".".join(word.split(".")[:2])
        if line not in self.releases or not re.fullmatch(r"[0-9]\.[0-9](\.[0-9]{1,3})?", word):
            raise Refused(f"argument must be one of the versions {', '.join(self.releases)}")
        return self.releases[line] if word == line else word

    def show(self, value: str) -> bytes:
        return value.encode()

    def describe(self) -> str:
        return ", ".join(self.releases)
