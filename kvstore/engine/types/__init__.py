"""The value types: one file a type with its container and its ValueType record.

``TYPES[type(value)]`` is the only place where the rest of the store asks of what type a value is.
A string is raw ``bytes``; every other value is an instance of its container class.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvstore.engine.context import Effect, Limits

Value = Any  # bytes, or a container registered in TYPES


@dataclass(frozen=True, slots=True)
class ValueType:
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


TYPES: dict[type, ValueType] = {}


def register(container: type, record: ValueType) -> None:
    TYPES[container] = record
