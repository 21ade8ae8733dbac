"""Sets: a dict whose keys are the members, in the order in which they came.

Invariants
- ``encoding`` is what the server would report: it only ever grows from INTSET to LISTPACK to HASHTABLE,
  by the sizes in ``Limits``.
- ``order``, once made, has one entry a member. Only SSCAN of and draws from a large set need it.

A dict rather than a set: members come back in a fixed order, which a seed can then repeat.

Costs: those of a dict; about 100 bytes a member beside its bytes.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from kvstore.engine.codec import Reader, length_of, pieces_of, strings_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.order import ScanOrder
from kvstore.engine.packed import intset, listpack
from kvstore.engine.types import Loader, Target, ValueType, register
from kvstore.errors import FormatError
from kvstore.numbers import parse_int

INTSET, LISTPACK, HASHTABLE = range(3)
_NAMES = ("intset", "listpack", "hashtable")
# Members of one command when a set is written as commands, as the server's log rewrite has it.
_REWRITE_BATCH = 64


class Set(dict[bytes, None]):
    __slots__ = ("encoding", "order")

    def __init__(self) -> None:
        self.encoding = INTSET
        self.order: ScanOrder | None = None

    @classmethod
    def expecting(cls, member: bytes, count: int, limits: Limits) -> Set:
        """An empty set with the encoding for ``count`` members of which the first is ``member``."""
        made = cls()
        if parse_int(member) is None or count > limits.set_max_intset_entries:
            made.encoding = LISTPACK if count <= limits.set_max_listpack_entries else HASHTABLE
        return made

    def expect(self, count: int, limits: Limits) -> None:
        """Take the encoding for ``count`` more members at once."""
        if (self.encoding == INTSET and count > limits.set_max_intset_entries) or (
            self.encoding == LISTPACK and count > limits.set_max_listpack_entries
        ):
            self.encoding = HASHTABLE

    def put(self, member: bytes, limits: Limits) -> bool:
        """Add a member; False if it was there. O(1)."""
        if member in self:
            return False
        if self.encoding != HASHTABLE:
            self._grow(member, limits)
        self[member] = None
        if self.order is not None:
            self.order.added(member)
        return True

    def _grow(self, member: bytes, limits: Limits) -> None:
        """The encoding with one more member."""
        count, longest = len(self), limits.set_max_listpack_value
        if self.encoding == LISTPACK:
            if count >= limits.set_max_listpack_entries or len(member) > longest:
                self.encoding = HASHTABLE
        elif parse_int(member) is not None:
            if count >= limits.set_max_intset_entries:
                self.encoding = HASHTABLE
        elif (
            count < limits.set_max_listpack_entries
            and len(member) <= longest
            and max(map(len, self), default=0) <= longest
        ):
            self.encoding = LISTPACK
            members = sorted(self, key=int)  # the order in which an intset has them stays
            self.clear()
            self.update(dict.fromkeys(members))
        else:
            self.encoding = HASHTABLE

    def drop(self, member: bytes) -> bool:
        """Take a member away; False if it was not there. O(1)."""
        if member not in self:
            return False
        del self[member]
        if self.order is not None:
            self.order.removed(member)
        return True

    def settle(self, limits: Limits) -> None:
        """Take the intset encoding back if a listpack made by a command holds only integers."""
        if (
            self.encoding == LISTPACK
            and len(self) <= limits.set_max_intset_entries
            and all(parse_int(member) is not None for member in self)
        ):
            self.encoding = INTSET

    def listed(self) -> list[bytes]:
        """The members as the server lists them: integers by size, others as they came."""
        return sorted(self, key=int) if self.encoding == INTSET else list(self)

    def scan_order(self) -> ScanOrder:
        """The order list of the members, made now if this is the first need. First O(n), then O(1)."""
        order = self.order
        if order is None:
            order = self.order = ScanOrder(self)
        return order


def filled(members: Iterable[bytes], limits: Limits, encoding: int = INTSET) -> Set:
    """A set of these members, grown from an encoding as the server grows it. O(n)."""
    made = Set()
    made.encoding = encoding
    for member in members:
        made.put(member, limits)
    return made


def _copy(value: Set) -> Set:
    twin = Set()
    twin.update(value)
    twin.encoding = value.encoding
    return twin


def _memory(value: Set, samples: int) -> int:
    count = len(value)
    taken = count if samples == 0 else min(samples, count)
    words = sum(map(sys.getsizeof, islice(value, taken)))
    size = sys.getsizeof(value) + (words * count // taken if taken else 0)
    return size if value.order is None else size + sys.getsizeof(value.order.entries)


def _rewrite(key: bytes, value: Set) -> Iterator[Effect]:
    members = iter(value)
    while batch := tuple(islice(members, _REWRITE_BATCH)):
        yield (b"SADD", key, *batch)


def _check(value: Set) -> None:
    assert all(type(member) is bytes and nothing is None for member, nothing in value.items())
    # An intset holds integers.
    assert value.encoding != INTSET or all(parse_int(member) is not None for member in value)
    if value.order is not None:
        value.order.check(set(value))


def _dump(value: Set, target: Target, compress: bool = False) -> Iterable[bytes]:
    return pieces_of(length_of(len(value)), value, strings_of, compress)


def _holding(members: list[bytes], encoding: int) -> Set:
    made = Set()
    made.update(dict.fromkeys(members))
    made.encoding = encoding
    return made


def _load(reader: Reader, limits: Limits) -> Set:
    start = reader.pos
    members = reader.strings(reader.count())
    if len(members) > limits.set_max_intset_entries:
        made = _holding(members, HASHTABLE)
    elif members and parse_int(members[0]) is None:
        # Never an intset: no need to see it grow.
        small = (
            len(members) <= limits.set_max_listpack_entries
            and max(map(len, members)) <= limits.set_max_listpack_value
        )
        made = _holding(members, LISTPACK if small else HASHTABLE)
    else:
        made = filled(members, limits)
    if len(made) != len(members):
        raise FormatError("a member comes twice", start)
    return made


def _load_packed(unpack: Callable[[bytes], list[bytes]], encoding: int) -> Loader:
    """The loader of a packed set, which keeps the encoding that it has in the file while it has few enough
    members, however long they are."""

    def load(reader: Reader, limits: Limits) -> Set:
        start = reader.pos
        members = reader.packed(unpack)
        most = limits.set_max_intset_entries if encoding == INTSET else limits.set_max_listpack_entries
        made = _holding(members, encoding if len(members) <= most else HASHTABLE)
        if len(made) != len(members):
            raise FormatError("a member comes twice", start)
        return made

    return load


register(
    Set,
    ValueType(
        name="set",
        copy=_copy,
        encoding=lambda value, limits: _NAMES[value.encoding],
        memory=_memory,
        rewrite=_rewrite,
        digest=lambda value: frozenset(value),
        effort=lambda value: len(value) if value.encoding == HASHTABLE else 1,
        check=_check,
        rdb_type=lambda value, target: 2,
        dump=_dump,
        loaders={2: _load, 11: _load_packed(intset, INTSET), 20: _load_packed(listpack, LISTPACK)},
    ),
)
