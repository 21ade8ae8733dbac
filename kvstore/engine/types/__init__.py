"""The value types: one file a type with its container and its ValueType record.

``TYPES[type(value)]`` is the only place where the rest of the store asks of what type a value is.
A string is raw ``bytes``; every other value is an instance of its container class.

``load`` makes a value of the bytes that files and payloads hold, and ``ValueType.dump`` those bytes of a value:
what RDB calls the object, which begins behind the key and has no end mark of its own.

Must not know: keys, databases, commands, files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kvstore.engine.codec import EmptyValueError, Reader
from kvstore.errors import FormatError

if TYPE_CHECKING:
    from kvstore.engine.context import Effect, Limits

Value = Any  # bytes, or a container registered in TYPES


Loader = Callable[[Reader, "Limits"], Value]

# Added to the numbers of RDB types that mean one thing in Valkey's files and another, or nothing, in Redis's.
VALKEY = 0x100


class Target(Enum):
    """For whom values are written."""

    PORTABLE = "portable"
    """RDB 9, which every server since Redis 5 reads; what it cannot hold goes beside it (``ValueType.aux``)."""
    REDIS_70 = "redis-7.0"
    """RDB 10: Redis from 7.0 on; streams have counters."""
    REDIS_72 = "redis-7.2"
    """RDB 11: Redis from 7.2 on, Valkey; consumers have times at which they were active."""
    REDIS_74 = "redis-7.4"
    """RDB 12: Redis from 7.4 on; fields of hashes have deadlines."""
    VALKEY_9 = "valkey-9"
    """RDB 80: Valkey from 9.0 on; fields of hashes have deadlines."""

    @property
    def version(self) -> int:
        """The RDB version that has all that is written for it."""
        return _VERSIONS[self]


_VERSIONS = {
    Target.PORTABLE: 9,
    Target.REDIS_70: 10,
    Target.REDIS_72: 11,
    Target.REDIS_74: 12,
    Target.VALKEY_9: 80,
}


class Dump(Protocol):
    def __call__(self, value: Value, target: Target, compress: bool = False) -> Iterable[bytes]:
        """The body of a value; with ``compress`` its longer strings are compressed."""


class ValueType(NamedTuple):
    """What the store must be able to do with a value of any type."""

    name: str
    """As TYPE answers."""
    copy: Callable[[Value], Value]
    """An independent copy. O(n)."""
    encoding: Callable[[Value, Limits], str]
    """As OBJECT ENCODING answers."""
    memory: Callable[[Value, int], int]
    """Estimated bytes of the value, by measuring ``samples`` of its elements (0: all of them)."""
    rewrite: Callable[[bytes, Value], Iterator[Effect]]
    """Commands that build the value at the key, which is empty."""
    digest: Callable[[Value], Any]
    """A hashable that is equal for equal data, whatever the order in which it was made."""
    effort: Callable[[Value], int]
    """How many allocations freeing it costs, as UNLINK weighs it."""
    check: Callable[[Value], None]
    """Assert the container's invariants."""
    rdb_type: Callable[[Value, Target], int]
    """The number of the RDB type that ``dump`` writes. O(1)."""
    dump: Dump
    """The body in pieces: one of a small value, pieces of about 64 KB of a large one, so that who writes may
    stop between them, as long as the value does not change. O(n)."""
    loaders: Mapping[int, Loader]
    """By number of RDB type, all encodings ever used for this type; the reader stands at the body.
    Each raises FormatError, and returns a container without elements where the bytes say so."""
    may_be_empty: bool = False
    """Whether a key may hold a value without elements."""
    least: Callable[[Value], Target] = lambda value: Target.PORTABLE
    """The oldest target whose ``dump`` leaves nothing of the value out. Cheap."""
    aux_name: bytes = b""
    """What ``aux`` is called in files."""
    aux: Callable[[Value, Target], bytes | None] = lambda value, target: None
    """What ``dump`` for this target leaves out, or None when that is nothing."""
    apply_aux: Callable[[Value, bytes], None] = lambda value, aux: None
    """Put back into a loaded value what ``aux`` gave. Raises FormatError."""


TYPES: dict[type, ValueType] = {}
# Classes that are a form of a container, by which both are asked for.
FORMS: dict[type, type] = {}
_loaders: dict[int, tuple[Loader, bool]] = {}
# Numbers that once stood for something in a release candidate, and never in a release.
_REFUSED = {
    22: "a hash with field deadlines of a release candidate of Redis 7.4",
    23: "a hash with field deadlines of a release candidate of Redis 7.4",
}


def register(container: type, record: ValueType) -> None:
    TYPES[container] = record
    for number, loader in record.loaders.items():
        _loaders[number] = (loader, record.may_be_empty)


def load(number: int, reader: Reader, limits: Limits, valkey: bool = False) -> Value:
    """The value of RDB type ``number`` whose body comes next. O(n).

    ``valkey``: the bytes are of RDB version 80 or later, whose numbers from 22 on are Valkey's own.
    Raises FormatError for bytes that are no such value and for an unknown number, and EmptyValueError,
    with the value read, for a container that has no elements.
    """
    start = reader.pos
    found = (_loaders.get(number | VALKEY) if valkey else None) or _loaders.get(number)
    if found is None:
        if number in _REFUSED and not valkey:
            raise FormatError(f"type {number} is {_REFUSED[number]}, which is not read", start)
        raise FormatError(f"unknown type {number}", start)
    loader, may_be_empty = found
    value = loader(reader, limits)
    if not may_be_empty and not value:
        raise EmptyValueError("a container without elements", start)
    return value
