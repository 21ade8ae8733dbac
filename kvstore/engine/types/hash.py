"""Hashes: a dict from field to value, and beside it, where needed, deadlines and a scan order.

Invariants
- ``deadlines``, once made, has only fields of the hash; its heap has an entry for each deadline, and at
  most about twice as many in all: entries of deadlines that changed are dropped when they come up, or
  all at once when they are the most.
- ``order``, once made, has one entry a field. Only HSCAN and draws from a large hash need it.
- ``wide`` is what the server's hashtable encoding is: it comes with a size, and then stays.

Costs: those of a dict; a deadline O(log n). A field costs about 100 bytes in the dict beside its words.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice

from kvstore.engine.codec import Reader, length_of, pairs_of, pieces_of, string_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.order import ScanOrder
from kvstore.engine.types import Target, ValueType, register
from kvstore.errors import FormatError

# Fields of one command when a hash is written as commands, as the server's log rewrite has it.
_REWRITE_BATCH = 64
# Stale entries that a heap of deadlines may hold before it is worth rebuilding.
_SLACK = 16
# Bytes a deadline takes: a dict entry, a heap entry (a tuple and its place), the number.
_DEADLINE_SIZE = 64 + 64 + 32


class FieldDeadlines(dict[bytes, int]):
    """Unix times in milliseconds at which fields expire, and the order in which they do."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[int, bytes]] = []

    def put(self, field: bytes, deadline_ms: int) -> None:
        """Let a field expire then. O(log n) amortised."""
        self[field] = deadline_ms
        heap = self._heap
        if len(heap) > 2 * len(self) + _SLACK:
            heap[:] = [(deadline, name) for name, deadline in self.items()]
            heapify(heap)
        else:
            heappush(heap, (deadline_ms, field))

    def soonest(self) -> int | None:
        """The earliest deadline. O(1) amortised."""
        heap = self._heap
        while heap:
            deadline, field = heap[0]
            if self.get(field) == deadline:
                return deadline
            heappop(heap)
        return None

    def take_due(self, now_ms: int) -> list[bytes]:
        """Forget the deadlines that have passed; their fields, earliest first. O(log n) a field."""
        heap = self._heap
        due: list[bytes] = []
        while heap and heap[0][0] <= now_ms:
            deadline, field = heappop(heap)
            if self.get(field) == deadline:
                del self[field]
                due.append(field)
        return due

    def twin(self) -> FieldDeadlines:
        twin = FieldDeadlines()
        twin.update(self)
        twin._heap = self._heap.copy()
        return twin

    def check(self) -> None:
        heap = self._heap
        # A heap's order.
        assert all(heap[(at - 1) // 2] <= heap[at] for at in range(1, len(heap)))
        # Every deadline is met when it comes.
        assert {(deadline, field) for field, deadline in self.items()} <= set(heap)


class Hash(dict[bytes, bytes]):
    __slots__ = ("deadlines", "order", "wide")

    def __init__(self) -> None:
        self.deadlines: FieldDeadlines | None = None
        self.order: ScanOrder | None = None
        self.wide = False

    @classmethod
    def sized(cls, fields: dict[bytes, bytes], limits: Limits) -> Hash:
        """A hash made in one go, with the encoding that its size calls for. O(n)."""
        made = cls()
        made.update(fields)
        longest = limits.hash_max_listpack_value
        made.wide = len(fields) > limits.hash_max_listpack_entries or any(
            len(field) > longest or len(value) > longest for field, value in fields.items()
        )
        return made

    def put(self, field: bytes, value: bytes) -> None:
        """Set a field, which from now on does not expire."""
        if self.order is not None and field not in self:
            self.order.added(field)
        self[field] = value
        if self.deadlines:
            self.deadlines.pop(field, None)

    def discard(self, field: bytes) -> bytes | None:
        """Drop a field; its value, or None if it is not there."""
        value = self.pop(field, None)
        if value is not None:
            if self.order is not None:
                self.order.removed(field)
            if self.deadlines:
                self.deadlines.pop(field, None)
        return value

    def deadline(self, field: bytes) -> int | None:
        """When an existing field expires, if it does."""
        deadlines = self.deadlines
        return None if deadlines is None else deadlines.get(field)

    def expire(self, field: bytes, deadline_ms: int) -> None:
        """Let an existing field expire then."""
        if self.deadlines is None:
            self.deadlines = FieldDeadlines()
        self.deadlines.put(field, deadline_ms)

    def scan_order(self) -> ScanOrder:
        """The order list of the fields, made now if this is the first need. First O(n), then O(1)."""
        order = self.order
        if order is None:
            order = self.order = ScanOrder(self)
        return order


def _copy(value: Hash) -> Hash:
    twin = Hash()
    twin.update(value)
    twin.wide = value.wide
    if value.deadlines is not None:
        twin.deadlines = value.deadlines.twin()
    return twin


def _encoding(value: Hash, limits: Limits) -> str:
    if value.wide:
        return "hashtable"
    return "listpack" if value.deadlines is None else "listpackex"


def _memory(value: Hash, samples: int) -> int:
    count = len(value)
    taken = count if samples == 0 else min(samples, count)
    words = sum(sys.getsizeof(field) + sys.getsizeof(text) for field, text in islice(value.items(), taken))
    size = sys.getsizeof(value) + (words * count // taken if taken else 0)
    if value.deadlines is not None:
        size += sys.getsizeof({}) + len(value.deadlines) * _DEADLINE_SIZE
    if value.order is not None:
        size += sys.getsizeof(value.order.entries)
    return size


def _rewrite(key: bytes, value: Hash) -> Iterator[Effect]:
    fields = list(value)
    for at in range(0, len(fields), _REWRITE_BATCH):
        batch = fields[at : at + _REWRITE_BATCH]
        yield (b"HSET", key, *[word for field in batch for word in (field, value[field])])
    if value.deadlines:
        yield from expire_effects(key, value.deadlines)


def expire_effects(key: bytes, deadlines: dict[bytes, int]) -> Iterator[Effect]:
    """Commands that give fields these deadlines."""
    together: dict[int, list[bytes]] = {}
    for field, deadline in deadlines.items():
        together.setdefault(deadline, []).append(field)
    for deadline, fields in together.items():
        yield (b"HPEXPIREAT", key, b"%d" % deadline, b"FIELDS", b"%d" % len(fields), *fields)


def _check(value: Hash) -> None:
    assert all(type(field) is bytes and type(text) is bytes for field, text in value.items())
    if value.order is not None:
        value.order.check(set(value))
    if value.deadlines is not None:
        # Deadlines belong to fields.
        assert value.deadlines.keys() <= value.keys()
        value.deadlines.check()


def _dump(value: Hash, target: Target, compress: bool = False) -> Iterable[bytes]:
    return pieces_of(length_of(len(value)), value.items(), pairs_of, compress)


def _load(reader: Reader, limits: Limits) -> Hash:
    start = reader.pos
    count = reader.count(2)
    words = reader.strings(2 * count)
    fields = dict(zip(words[::2], words[1::2], strict=True))
    if len(fields) != count:
        raise FormatError("a field comes twice", start)
    return Hash.sized(fields, limits)


def _aux(value: Hash, target: Target) -> bytes | None:
    """The deadlines, where the type that is written has no place for them."""
    if not value.deadlines or target is not Target.PORTABLE:
        return None
    return b"".join(
        [string_of(field) + deadline.to_bytes(8, "little") for field, deadline in value.deadlines.items()]
    )


def _apply_aux(value: Hash, aux: bytes) -> None:
    reader = Reader(aux)
    while reader.left():
        start = reader.pos
        field, deadline = reader.string(), reader.u64le()
        if field not in value:
            raise FormatError("a deadline of a field that is not there", start)
        value.expire(field, deadline)


register(
    Hash,
    ValueType(
        name="hash",
        copy=_copy,
        encoding=_encoding,
        memory=_memory,
        rewrite=_rewrite,
        digest=lambda value: (frozenset(value.items()), frozenset((value.deadlines or {}).items())),
        effort=lambda value: len(value) if value.wide else 1,
        check=_check,
        rdb_type=lambda value, target: 4,
        dump=_dump,
        loaders={4: _load},
        aux=_aux,
        apply_aux=_apply_aux,
    ),
)
