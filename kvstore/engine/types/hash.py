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
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, islice

from kvstore.engine.codec import Reader, compact_string_of, length_of, pairs_of, pieces_of, string_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.order import ScanOrder
from kvstore.engine.packed import listpack, ziplist, zipmap
from kvstore.engine.types import VALKEY, Loader, Target, ValueType, register
from kvstore.errors import FormatError
from kvstore.numbers import parse_int

# RDB types: fields and values; with deadlines, of Redis 7.4, and of Valkey 9 (by Valkey's numbers).
_PLAIN = 4
_TIMED = 24
_TIMED_VALKEY = 22
# Who knows deadlines of fields, and by which type.
_TIMED_TYPES = {Target.REDIS_74: _TIMED, Target.VALKEY_9: _TIMED_VALKEY}

# Fields of one command when a hash is written as commands, as the server's log rewrite has it.
_REWRITE_BATCH = 64
# Stale entries that a heap of deadlines may hold before it is worth rebuilding.
_SLACK = 16
# Bytes a deadline takes: a dict entry, a heap entry (a tuple and its place), the number.
_DEADLINE_SIZE = 64 + 64 + 32
# The latest deadline that a field may have, as the servers keep it in 46 bits.
MAX_DEADLINE_MS = (1 << 46) - 1


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
    def sized(cls, fields: dict[bytes, bytes], limits: Limits, packed: bool = False) -> Hash:
        """A hash made in one go, with the encoding that its size calls for. O(n).

        ``packed``: it comes in a packed encoding, which the servers then keep however long its words are.
        """
        made = cls()
        made.update(fields)
        longest = limits.hash_max_listpack_value
        made.wide = len(fields) > limits.hash_max_listpack_entries or (
            not packed
            and (
                max(map(len, fields), default=0) > longest
                or max(map(len, fields.values()), default=0) > longest
            )
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
    pairs = iter(value.items())
    while batch := list(islice(pairs, _REWRITE_BATCH)):
        yield (b"HSET", key, *chain.from_iterable(batch))
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


def _rdb_type(value: Hash, target: Target) -> int:
    return _TIMED_TYPES.get(target, _PLAIN) if value.deadlines else _PLAIN


def _dump(value: Hash, target: Target, compress: bool = False) -> Iterable[bytes]:
    head = length_of(len(value))
    deadlines = value.deadlines
    if not deadlines or target not in _TIMED_TYPES:
        return pieces_of(head, value.items(), pairs_of, compress)
    string = compact_string_of if compress else string_of
    if target is Target.VALKEY_9:

        def timed(pairs: Collection[tuple[bytes, bytes]], compress: bool) -> bytes:
            return b"".join(
                [
                    string(field) + string(text) + deadlines.get(field, -1).to_bytes(8, "little", signed=True)
                    for field, text in pairs
                ]
            )

    else:
        soonest = min(deadlines.values())
        head = soonest.to_bytes(8, "little") + head

        def timed(pairs: Collection[tuple[bytes, bytes]], compress: bool) -> bytes:
            # How much later than the soonest, and one; 0 for a field that does not expire.
            return b"".join(
                [
                    length_of(deadlines[field] - soonest + 1 if field in deadlines else 0)
                    + string(field)
                    + string(text)
                    for field, text in pairs
                ]
            )

    return pieces_of(head, value.items(), timed, compress)


def _load(reader: Reader, limits: Limits) -> Hash:
    start = reader.pos
    count = reader.count(2)
    return _of_words(reader.strings(2 * count), limits, start)


def _of_words(words: list[bytes], limits: Limits, start: int, packed: bool = False) -> Hash:
    """The hash of fields and values in turn, which were read from ``start`` on. Raises FormatError."""
    if len(words) % 2:
        raise FormatError("a field has no value", start)
    fields = dict(zip(words[::2], words[1::2], strict=True))
    if 2 * len(fields) != len(words):
        raise FormatError("a field comes twice", start)
    return Hash.sized(fields, limits, packed)


def _load_packed(unpack: Callable[[bytes], list[bytes]]) -> Loader:
    def load(reader: Reader, limits: Limits) -> Hash:
        start = reader.pos
        # The servers make a zipmap anew, as what its words call for.
        return _of_words(reader.packed(unpack), limits, start, packed=unpack is not zipmap)

    return load


def _load_timed(reader: Reader, limits: Limits) -> Hash:
    """Of Redis 7.4: the soonest deadline; how much later a field expires, the field and its value."""
    soonest = reader.i64le()
    start = reader.pos
    words: list[bytes] = []
    deadlines: dict[bytes, int] = {}
    for _ in range(reader.count(3)):
        later = reader.length()
        field = reader.string()
        words += (field, reader.string())
        if later:
            deadlines[field] = soonest + later - 1
    return _timed(_of_words(words, limits, start), deadlines, start)


def _load_timed_packed(reader: Reader, limits: Limits) -> Hash:
    """Of Redis 7.4: the soonest deadline; a listpack of field, value and deadline, which is 0 for none."""
    reader.i64le()
    start = reader.pos
    found = reader.packed(listpack)
    if len(found) % 3:
        raise FormatError("a field has no value or no deadline", start)
    words = [word for at in range(0, len(found), 3) for word in found[at : at + 2]]
    deadlines: dict[bytes, int] = {}
    for field, word in zip(found[::3], found[2::3], strict=True):
        deadline = parse_int(word)
        if deadline is None:
            raise FormatError("the deadline of a field is not a number", start)
        if deadline:
            deadlines[field] = deadline
    return _timed(_of_words(words, limits, start, packed=True), deadlines, start)


def _load_timed_valkey(reader: Reader, limits: Limits) -> Hash:
    """Of Valkey 9: field, value and deadline, which is -1 for none."""
    start = reader.pos
    words: list[bytes] = []
    deadlines: dict[bytes, int] = {}
    for _ in range(reader.count(10)):
        field = reader.string()
        words += (field, reader.string())
        deadline = reader.i64le()
        if deadline != -1:
            deadlines[field] = deadline
    return _timed(_of_words(words, limits, start), deadlines, start)


def _timed(value: Hash, deadlines: dict[bytes, int], start: int) -> Hash:
    for field, deadline in deadlines.items():
        if not 0 <= deadline <= MAX_DEADLINE_MS:
            raise FormatError("the deadline of a field is out of range", start)
        value.expire(field, deadline)
    return value


def _aux(value: Hash, target: Target) -> bytes | None:
    """The deadlines, where the type that is written has no place for them."""
    if not value.deadlines or target in _TIMED_TYPES:
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
        _timed(value, {field: deadline}, start)


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
        rdb_type=_rdb_type,
        dump=_dump,
        loaders={
            _PLAIN: _load,
            9: _load_packed(zipmap),
            13: _load_packed(ziplist),
            16: _load_packed(listpack),
            _TIMED: _load_timed,
            25: _load_timed_packed,
            _TIMED_VALKEY | VALKEY: _load_timed_valkey,
        },
        least=lambda value: Target.REDIS_74 if value.deadlines else Target.PORTABLE,
        aux_name=b"kvstore-field-deadlines",
        aux=_aux,
        apply_aux=_apply_aux,
    ),
)
