"""Streams: entries in the order of their IDs, and groups of consumers that read them.

Invariants
- ``last_id`` is at or behind the last entry; entries are only added behind it, and no ID is (0, 0). The first ID
  is that of the first entry.
- ``layout`` has the nodes in which a server would hold the entries; see there.
- An entry is a tuple of fields and values in turn. Most are packed; see ``kvstore.engine.types.stream_pack``.
- What is pending of a consumer is pending of its group, as the same object, and the other way round.
- A stream may be empty: what it counts, and its groups, are kept.

Costs: adding O(1) amortised, an entry by its ID and deletion O(log n), trimming O(entries / 256), a range O(log n +
its length); see ``kvstore.engine.ids``. To add an entry of one field takes about 0.9 µs, to find one of 200,000 by
its ID 2 (and 130 where its block is packed), to delete it 3, to write it 2, to read it from a file 2.3, each in a
range 0.5; to deliver and to acknowledge one 1.5 and 3.5. An entry of one field takes about 5 bytes beside its value,
about 2 more for each further field; what is pending 145.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Final, TypeVar

from kvstore.engine.codec import PIECE_BYTES, PIECE_COUNT, Pieces, Reader, length_of, string_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.ids import FIRST_ID, ID, Block, IdMap
from kvstore.engine.types import Loader, Target, ValueType, register
from kvstore.engine.types.payload import dump_payload
from kvstore.engine.types.stream_layout import Layout, loaded_node
from kvstore.engine.types.stream_nodes import ReadNode, Words, node_of, raw_id, read_node
from kvstore.engine.types.stream_pack import PackedEntries
from kvstore.errors import FormatError
from kvstore.numbers import INT64_MAX

T = TypeVar("T")

# RDB types: of Redis 5; with counters, of 7.0; with times at which consumers were active, of 7.2 and Valkey.
_PLAIN: Final = 15
_COUNTED: Final = 19
_ACTIVE: Final = 21

# How many entries a group has read, when nobody knows; when a consumer was active that never was.
UNKNOWN: Final = -1
NEVER: Final = -1

_64_BITS: Final = (1 << 64) - 1
# Entries that are laid out between two pauses: about 2 ms.
_PAUSE_ENTRIES: Final = 3000
# Entries, or what is pending, that are taken out of the stream at once to be written.
_BATCH: Final = 1000
# Bytes of a node in a file, at least: its name and a listpack.
_NODE_LEAST_BYTES: Final = 17 + 1
# Bytes of what is pending in a file: an ID, a time, a count; of an ID; of a consumer, at least; of a group.
_PENDING_BYTES: Final = 25
_ID_BYTES: Final = 16
_CONSUMER_BYTES: Final = 10
_GROUP_BYTES: Final = 5
# Bytes an entry takes beside its tuple, in memory; of what is pending: its object, its time, two places.
_PLACE_SIZE: Final = 27
_PENDING_SIZE: Final = 56 + 32 + 2 * _PLACE_SIZE
_CONSUMER_SIZE: Final = 500
_GROUP_SIZE: Final = 700


class Pending:
    """An entry that was delivered and not yet acknowledged."""

    __slots__ = ("consumer", "count", "delivered_ms")

    def __init__(self, consumer: Consumer, delivered_ms: int, count: int):
        self.consumer = consumer
        self.delivered_ms = delivered_ms  # Unix time, the last one
        self.count = count  # of deliveries


class Consumer:
    __slots__ = ("active_ms", "name", "pending", "seen_ms")

    def __init__(self, name: bytes, seen_ms: int, active_ms: int):
        self.name = name
        self.seen_ms = seen_ms  # Unix time at which it last asked
        self.active_ms = active_ms  # Unix time at which it last got something, or NEVER
        self.pending: IdMap[Pending] = IdMap()

    def forget(self) -> None:
        """Let nothing be pending: it is gone, or about to go."""
        self.pending = IdMap()


class Group:
    __slots__ = ("consumers", "entries_read", "last_id", "pending")

    def __init__(self, last_id: ID, entries_read: int):
        self.last_id = last_id  # the last that was delivered
        self.entries_read = entries_read  # of all that were ever added, or UNKNOWN
        self.pending: IdMap[Pending] = IdMap()
        self.consumers: dict[bytes, Consumer] = {}

    def __del__(self) -> None:
        # What is pending and its consumer have each other, and would wait for the cycle collector.
        for consumer in self.consumers.values():
            consumer.forget()

    def deliver(self, id: ID, consumer: Consumer, now_ms: int, count: int = 1) -> None:
        """Let an entry be pending of a consumer of the group, and of no other one. O(log n)."""
        pending = self.pending.get(id)
        if pending is None:
            self.pending.put(id, pending := Pending(consumer, now_ms, count))
        else:
            pending.consumer.pending.pop(id)
            pending.consumer, pending.delivered_ms, pending.count = consumer, now_ms, count
        consumer.pending.put(id, pending)

    def deliver_all(self, run: Block[Words], consumer: Consumer, now_ms: int) -> None:
        """``deliver`` for several entries. O(log n) each, or O(1) where they are behind what is pending."""
        last = self.pending.last()
        if last is not None and last >= run.first():
            for id in run.ids(0, len(run)):
                self.deliver(id, consumer, now_ms)
            return
        pending = Block(run.times, run.sequences, [Pending(consumer, now_ms, 1) for _ in run.items])
        self.pending.extend(pending)
        consumer.pending.extend(pending)

    def acknowledge(self, id: ID) -> bool:
        """Let an entry be pending no more; False if it was not. O(log n)."""
        pending = self.pending.pop(id)
        if pending is None:
            return False
        pending.consumer.pending.pop(id)
        return True


class Stream:
    __slots__ = ("entries", "entries_added", "groups", "last_id", "layout", "max_deleted_id")

    def __init__(self) -> None:
        self.entries: IdMap[Words] = IdMap(PackedEntries)
        self.last_id: ID = FIRST_ID  # the last that was ever given
        self.max_deleted_id: ID = FIRST_ID  # the highest that was deleted, other than by trimming
        self.entries_added = 0  # ever
        self.groups: dict[bytes, Group] = {}
        self.layout = Layout()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def first_id(self) -> ID:
        """The ID of the first entry, (0, 0) where there is none. O(1)."""
        return self.entries.first() or FIRST_ID

    def add(self, id: ID, words: Iterable[bytes]) -> None:
        """Append an entry of fields and values in turn, whose ID is behind ``last_id``. O(fields)."""
        self.entries.append(id, tuple(words))
        self.last_id = id
        self.entries_added += 1

    def delete(self, id: ID) -> bool:
        """Delete an entry; False if it is not there. O(log n)."""
        if self.entries.get(id) is None:
            return False
        self.layout.delete(self.entries, id)
        self.entries.pop(id)
        if id > self.max_deleted_id:
            self.max_deleted_id = id
        return True

    def trim(
        self, maxlen: int | None, minid: ID = FIRST_ID, *, approximate: bool = False, limit: int = 0
    ) -> int:
        """Drop the first entries: all but ``maxlen``, or if that is None those before ``minid``; how many went.

        ``approximate``: only whole nodes, and no node that would make it more than ``limit`` (0: no limit).
        O(nodes that go + entries that go / 256), where they are laid out.
        """
        entries, layout = self.entries, self.layout
        size = len(entries)
        if maxlen is not None and size <= maxlen:
            return 0
        gone = at = 0
        while (node := layout.whole(entries, at)) is not None:
            if (maxlen is not None and size - gone <= maxlen) or (limit and gone + node.alive > limit):
                break
            if size - gone - node.alive >= maxlen if maxlen is not None else node.last < minid:
                gone += node.alive
                at += 1
                continue
            if not approximate:
                part = (entries.before(minid) if maxlen is None else size - maxlen) - gone
                node.alive -= part
                node.dead += part
                gone += part
            break
        del layout.nodes[:at]
        if gone:
            entries.trim(gone)
        return gone

    # What follows goes by what servers keep of deletions: how many there were before an ID is unknown.

    def advance(self, group: Group, ids: Sequence[ID]) -> None:
        """Let a group have come to the last of the IDs, which ascend and are the next behind its own. O(IDs)."""
        if group.entries_read != UNKNOWN and not self.has_gap_behind(ids[0]):
            group.entries_read = min(
                group.entries_read + len(ids), INT64_MAX
            )  # nor is there one behind the others
        else:
            for id in ids:
                if group.entries_read != UNKNOWN and not self.has_gap_behind(id):
                    group.entries_read = min(group.entries_read + 1, INT64_MAX)
                elif self.entries_added:
                    group.entries_read = self.count_up_to(id)
        group.last_id = ids[-1]

    def has_gap_behind(self, id: ID) -> bool:
        """Whether an entry behind that ID may have been deleted. O(1)."""
        return bool(len(self.entries)) and FIRST_ID != self.max_deleted_id >= max(id, self.first_id)

    def count_up_to(self, id: ID) -> int:
        """How many entries there ever were up to that ID, or UNKNOWN. O(1)."""
        added, size = self.entries_added, len(self.entries)
        if not added or (not size and id <= self.last_id):
            return added
        if id == self.last_id:
            return added
        first, deleted = self.first_id, self.max_deleted_id
        if id < self.last_id and (deleted == FIRST_ID or deleted < first) and id <= first:
            return added - size + (id == first)
        return UNKNOWN

    def lag(self, group: Group) -> int | None:
        """How many entries a group has yet to read; None where that is unknown. O(1)."""
        if not self.entries_added:
            return 0
        read = group.entries_read
        if read == UNKNOWN or self.has_gap_behind(group.last_id):
            read = self.count_up_to(group.last_id)
        return None if read == UNKNOWN else self.entries_added - read


def _copy(value: Stream) -> Stream:
    twin = Stream()
    twin.entries = value.entries.copy()
    twin.last_id, twin.max_deleted_id = value.last_id, value.max_deleted_id
    twin.entries_added = value.entries_added
    twin.layout = value.layout.copy()
    for name, group in value.groups.items():
        made = twin.groups[name] = Group(group.last_id, group.entries_read)
        for consumer in group.consumers.values():
            made.consumers[consumer.name] = Consumer(consumer.name, consumer.seen_ms, consumer.active_ms)
        for id, pending in group.pending.items():
            consumer = made.consumers[pending.consumer.name]
            made.pending.append(id, again := Pending(consumer, pending.delivered_ms, pending.count))
            consumer.pending.append(id, again)
    return twin


def _memory(value: Stream, samples: int) -> int:
    entries = value.entries
    count = len(entries) - entries.packed_count
    taken = count if samples == 0 else min(samples, count)
    size = sys.getsizeof(value) + entries.packed_size + _PLACE_SIZE * count
    measured = 0
    for words in islice(entries.unpacked_items(), taken):
        measured += sys.getsizeof(words) + sum(map(sys.getsizeof, words))
    if taken:
        size += measured * count // taken
    for group in value.groups.values():
        size += _GROUP_SIZE + len(group.consumers) * _CONSUMER_SIZE + len(group.pending) * _PENDING_SIZE
    return size


def _effort(value: Stream) -> int:
    return len(value) + sum(1 + len(group.pending) for group in value.groups.values()) or 1


def _rewrite(key: bytes, value: Stream) -> Iterator[Effect]:
    # As servers write it. What is pending and was deleted no command gives back: then it is restored as it is.
    if any(
        value.entries.get(id) is None for group in value.groups.values() for id, _ in group.pending.items()
    ):
        yield (b"RESTORE", key, b"0", dump_payload(value), b"REPLACE", b"ABSTTL")
        return
    for id, words in value.entries.items():
        yield (b"XADD", key, _written(id), *words)
    if not value.entries:
        yield (b"XADD", key, b"MAXLEN", b"0", b"0-1", b"", b"")
    counted = (b"ENTRIESADDED", b"%d" % value.entries_added, b"MAXDELETEDID", _written(value.max_deleted_id))
    yield (b"XSETID", key, _written(value.last_id), *counted)
    for name, group in value.groups.items():
        read = (b"ENTRIESREAD", b"%d" % group.entries_read)
        yield (b"XGROUP", b"CREATE", key, name, _written(group.last_id), *read)
        for consumer in group.consumers.values():
            yield (b"XGROUP", b"CREATECONSUMER", key, name, consumer.name)
            yield from _claims(key, name, consumer)


def _written(id: ID) -> bytes:
    return b"%d-%d" % id


def _claims(key: bytes, group: bytes, consumer: Consumer) -> Iterator[Effect]:
    """Commands that make pending of a consumer what is."""
    pending = consumer.pending.items()
    for (time, count), alike in groupby(pending, lambda one: (one[1].delivered_ms, one[1].count)):
        told = (b"TIME", b"%d" % time, b"RETRYCOUNT", b"%d" % count, b"JUSTID", b"FORCE")
        while batch := [_written(id) for id, _ in islice(alike, _BATCH)]:
            yield (b"XCLAIM", key, group, consumer.name, b"0", *batch, *told)


def _digest(value: Stream) -> object:
    # When consumers were last seen is left out: no command repeats that, and a real server's log does not either.
    groups = [
        (
            name,
            group.last_id,
            group.entries_read,
            tuple((id, p.consumer.name, p.delivered_ms, p.count) for id, p in group.pending.items()),
            frozenset(group.consumers),
        )
        for name, group in value.groups.items()
    ]
    counted = (value.last_id, value.max_deleted_id, value.entries_added)
    return tuple(value.entries.items()), counted, frozenset(groups)


def _check(value: Stream) -> None:
    value.entries.check()
    value.layout.check(value.entries)
    # Entries have fields, each with a value.
    for _, words in value.entries.items():
        assert type(words) is tuple and words and not len(words) % 2
        assert all(type(word) is bytes for word in words)
    # IDs were given.
    assert value.first_id > FIRST_ID or not value.entries
    assert (value.entries.last() or FIRST_ID) <= value.last_id
    for group in value.groups.values():
        group.pending.check()
        held = {}
        for name, consumer in group.consumers.items():
            assert consumer.name == name
            consumer.pending.check()
            for id, pending in consumer.pending.items():
                # What a consumer holds says so.
                assert pending.consumer is consumer
                assert id not in held
                held[id] = pending
        # What is pending has one consumer, and is one object.
        assert [held.get(id) for id, _ in group.pending.items()] == [one for _, one in group.pending.items()]
        assert len(held) == len(group.pending)


# ------------------------------------------------------------------------------------------- writing


def _least(value: Stream) -> Target:
    """Whether what older types leave out is what their readers guess."""
    groups = value.groups.values()
    if any(each.active_ms != each.seen_ms for group in groups for each in group.consumers.values()):
        return Target.REDIS_72
    if not value.entries or value.max_deleted_id != FIRST_ID or value.entries_added != len(value):
        return Target.REDIS_70
    if any(group.entries_read != _guessed_read(value, group.last_id) for group in groups):
        return Target.REDIS_70
    return Target.PORTABLE


def _rdb_type(value: Stream, target: Target) -> int:
    return {Target.PORTABLE: _PLAIN, Target.REDIS_70: _COUNTED}.get(target, _ACTIVE)


def _id_of(id: ID) -> bytes:
    return length_of(id[0]) + length_of(id[1])


def _raw_id_of(id: ID) -> bytes:
    return id[0].to_bytes(8, "big") + id[1].to_bytes(8, "big")


def _time_of(ms: int) -> bytes:
    return ms.to_bytes(8, "little", signed=True)


def _dump(value: Stream, target: Target, compress: bool = False) -> Iterable[bytes]:
    pieces = _StreamPieces(value, _rdb_type(value, target), compress)
    count = len(value) + sum(len(group.pending) for group in value.groups.values())
    return (b"".join(pieces),) if count <= PIECE_COUNT else pieces


class _StreamPieces(Pieces):
    """The body of a stream, of which each step encodes a piece of about 64 KB."""

    __slots__ = ("_compress", "_number", "_pieces", "_value")

    def __init__(self, value: Stream, number: int, compress: bool):
        self._value = value  # looked at anew for each batch, as it may have become another one
        self._number = number
        self._compress = compress
        self._pieces = self._gathered()

    def __next__(self) -> bytes:
        return next(self._pieces)

    def go_on_with(self, twin: Iterable[bytes]) -> None:
        assert isinstance(twin, _StreamPieces)
        self._value = twin._value

    def _gathered(self) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for part in self._parts():
            held.append(part)
            size += len(part)
            if size >= PIECE_BYTES or not part:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)

    def _parts(self) -> Iterator[bytes]:
        """The body in small parts; an empty one is a pause."""
        # How many nodes there are stands before the first. They are counted without making them: a large stream
        # neither stops its writer nor is in memory twice.
        while self._value.layout.lay_out(self._value.entries, _PAUSE_ENTRIES):
            yield b""
        sizes = [node.alive for node in self._value.layout.nodes if node.alive]
        yield length_of(len(sizes))
        entries = self._entries()
        for size in sizes:
            yield node_of(islice(entries, size), self._compress)
        value, counted = self._value, b""
        if self._number >= _COUNTED:
            counted = _id_of(value.first_id) + _id_of(value.max_deleted_id) + length_of(value.entries_added)
        yield length_of(len(value)) + _id_of(value.last_id) + counted + length_of(len(value.groups))
        for name in list(value.groups):
            yield from self._group(name)

    def _group(self, name: bytes) -> Iterator[bytes]:
        group = self._value.groups[name]
        read = length_of(group.entries_read & _64_BITS) if self._number >= _COUNTED else b""
        yield string_of(name) + _id_of(group.last_id) + read + length_of(len(group.pending))
        for batch in self._batches(lambda value: value.groups[name].pending):
            parts = [_raw_id_of(id) + _time_of(one.delivered_ms) + length_of(one.count) for id, one in batch]
            yield b"".join(parts)
        consumers = self._value.groups[name].consumers
        yield length_of(len(consumers))
        for consumer in list(consumers):
            yield from self._consumer(name, consumer)

    def _consumer(self, group: bytes, name: bytes) -> Iterator[bytes]:
        consumer = self._value.groups[group].consumers[name]
        active = _time_of(consumer.active_ms) if self._number >= _ACTIVE else b""
        yield string_of(name) + _time_of(consumer.seen_ms) + active + length_of(len(consumer.pending))
        for batch in self._batches(lambda value: value.groups[group].consumers[name].pending):
            yield b"".join([_raw_id_of(id) for id, _ in batch])

    def _entries(self) -> Iterator[tuple[ID, Words]]:
        for batch in self._batches(lambda value: value.entries):
            yield from batch

    def _batches(self, of: Callable[[Stream], IdMap[T]]) -> Iterator[list[tuple[ID, T]]]:
        """The items of one of the stream's maps, some at a time."""
        at = FIRST_ID
        while batch := list(islice(of(self._value).items(at), _BATCH)):
            yield batch
            time, sequence = batch[-1][0]
            at = time, sequence + 1


# What the older types leave out: after the counters of the stream, the groups, each with its counter and its
# consumers, each with its time.


def _aux(value: Stream, target: Target) -> bytes | None:
    number = _rdb_type(value, target)
    if number == _ACTIVE or _rdb_type(value, _least(value)) <= number:
        return None
    parts = [_id_of(value.max_deleted_id), length_of(value.entries_added), length_of(len(value.groups))]
    for name, group in value.groups.items():
        parts += (string_of(name), length_of(group.entries_read & _64_BITS), length_of(len(group.consumers)))
        for consumer in group.consumers.values():
            parts += (string_of(consumer.name), _time_of(consumer.active_ms))
    return b"".join(parts)


def _apply_aux(value: Stream, aux: bytes) -> None:
    reader = Reader(aux)
    value.max_deleted_id, value.entries_added = _id(reader), reader.length()
    for _ in range(reader.count(3)):
        start = reader.pos
        group = value.groups.get(reader.string())
        if group is None:
            raise FormatError("a counter of a group that is not there", start)
        group.entries_read = _read_count(reader)
        for _ in range(reader.count(9)):
            start = reader.pos
            consumer = group.consumers.get(reader.string())
            if consumer is None:
                raise FormatError("a time of a consumer that is not there", start)
            consumer.active_ms = reader.i64le()
    if reader.left():
        raise FormatError("something behind the counters of a stream", reader.pos)


# ------------------------------------------------------------------------------------------- reading


def _id(reader: Reader) -> ID:
    """An ID as two lengths."""
    return reader.length(), reader.length()


def _read_count(reader: Reader) -> int:
    """How many entries a group has read."""
    start = reader.pos
    count = reader.length()
    if count == UNKNOWN & _64_BITS:
        return UNKNOWN
    if count > INT64_MAX:
        raise FormatError("a group has read fewer entries than none", start)
    return count


def _guessed_read(value: Stream, last_id: ID) -> int:
    """How many entries a group has read that stands there, as servers guess where a file does not say.

    They take the entries that are there for all that there ever were. O(1).
    """
    size, first = len(value), value.first_id
    if not size or last_id == value.last_id:
        return size
    return int(last_id == first) if last_id <= first else UNKNOWN


def _adopt_nodes(value: Stream, nodes: list[ReadNode]) -> None:
    """Let the entries stand in the nodes that were read, unless an ID is before the name of its node."""
    last = FIRST_ID
    laid_out = []
    for node in nodes:
        if node.alive + node.dead:
            if not last < node.first <= node.last:
                return
            last = node.last
            laid_out.append(loaded_node(*node))
    value.layout.nodes, value.layout.done = laid_out, last


def _load_with(number: int) -> Loader:
    """The loader of one of the three types."""

    def load(reader: Reader, limits: Limits) -> Stream:
        value = Stream()
        last = FIRST_ID
        nodes: list[ReadNode] = []
        for _ in range(reader.count(_NODE_LEAST_BYTES)):
            nodes.append(read_node(reader, value.entries, last))
            last = nodes[-1].last
        _adopt_nodes(value, nodes)
        start = reader.pos
        if reader.length() != len(value):
            raise FormatError("a stream has not as many entries as it says", start)
        start = reader.pos
        value.last_id = _id(reader)
        if last > value.last_id:
            raise FormatError("an entry of a stream comes behind its last ID", start)
        value.entries_added = len(value)
        if number >= _COUNTED:
            _id(reader)  # the first one, which is that of the first entry
            value.max_deleted_id = _id(reader)
            value.entries_added = reader.length()
        for _ in range(reader.count(_GROUP_BYTES)):
            start = reader.pos
            name = reader.string()
            if name in value.groups:
                raise FormatError("a group of a stream comes twice", start)
            value.groups[name] = _load_group(reader, value, number)
        return value

    return load


def _load_group(reader: Reader, value: Stream, number: int) -> Group:
    last_id = _id(reader)
    group = Group(last_id, _read_count(reader) if number >= _COUNTED else _guessed_read(value, last_id))
    start = reader.pos
    count = reader.count(_PENDING_BYTES)
    # Whose they are stands behind them.
    nobody = Consumer(b"", 0, NEVER)
    held = {raw_id(reader): Pending(nobody, reader.i64le(), reader.length()) for _ in range(count)}
    if len(held) != count:
        raise FormatError("an entry is pending of a group twice", start)
    for _ in range(reader.count(_CONSUMER_BYTES)):
        start = reader.pos
        name, seen_ms = reader.string(), reader.i64le()
        if name in group.consumers:
            raise FormatError("a consumer of a group comes twice", start)
        active_ms = reader.i64le() if number >= _ACTIVE else seen_ms
        consumer = group.consumers[name] = Consumer(name, seen_ms, active_ms)
        start = reader.pos
        for _ in range(reader.count(_ID_BYTES)):
            id = raw_id(reader)
            pending = held.get(id)
            if pending is None or pending.consumer is not nobody:
                raise FormatError(
                    "an entry is pending of a consumer, and not of its group or of another one too", start
                )
            pending.consumer = consumer
            consumer.pending.put(id, pending)
            count -= 1
    if count:
        raise FormatError("an entry is pending of a group, and of none of its consumers", start)
    for id in sorted(held):
        group.pending.append(id, held[id])
    return group


register(
    Stream,
    ValueType(
        name="stream",
        copy=_copy,
        encoding=lambda value, limits: "stream",
        memory=_memory,
        rewrite=_rewrite,
        digest=_digest,
        effort=_effort,
        check=_check,
        rdb_type=_rdb_type,
        dump=_dump,
        loaders={number: _load_with(number) for number in (_PLAIN, _COUNTED, _ACTIVE)},
        may_be_empty=True,
        least=_least,
        aux_name=b"kvstore-stream-counters",
        aux=_aux,
        apply_aux=_apply_aux,
    ),
)
