"""Streams: the typed methods that add entries, read them and take them away. Groups have files of their own.

A stream stays when its last entry goes. The effect of an addition has the ID that was chosen, that of trimming
how many entries are left, so that repeating it needs neither a clock nor nodes.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from kvstore.engine.blocking import refuse_for_ever
from kvstore.engine.ids import FIRST_ID, ID, LAST_ID
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.stream_ids import (
    INVALID_ID,
    format_id,
    next_id,
    parse_new_id,
    parse_start,
    parse_stop,
    parse_strict_id,
)
from kvstore.engine.types.stream import Stream
from kvstore.engine.types.stream_layout import MAX_NODE_BYTES
from kvstore.engine.types.stream_nodes import Words
from kvstore.engine.words import pairs_of
from kvstore.errors import NO_SUCH_KEY, SYNTAX, DataError, ResponseError, err
from kvstore.numbers import as_int

StreamIdT = int | KeyT
# An entry as readers get it: None for the fields of one that is pending and was deleted.
Entry = tuple[ID, Words | None]
Entries = list[Entry]
# An ID to be given to an entry; None: its sequence number is to be chosen.
NewID = tuple[int, int | None]

_64_BITS: Final = (1 << 64) - 1
# Entries that trimming with ~ takes at once, where nobody says otherwise: nodes full of them, and the bounds.
_LIMIT_NODES: Final = 100
_LIMIT_UNKNOWN: Final = 10_000
_LIMIT_MOST: Final = 1_000_000
_REF_POLICIES: Final = ("KEEPREF", "DELREF", "ACKED")


class Trimming(NamedTuple):
    """What XADD and XTRIM are to leave: ``maxlen`` entries, or those from ``minid`` on."""

    maxlen: int | None = None
    minid: ID = FIRST_ID
    approximate: bool = False
    limit: int | None = None


class Streams(Keyspace):
    """A family of ``Database``."""

    __slots__ = ()

    def _stream_now(self) -> int:
        """The time in milliseconds; while a log is read, which stands still long ago, that of the clock."""
        ctx = self.ctx
        return ctx.clock.now_ms() if ctx.obeys else ctx.now()

    # -- adding ------------------------------------------------------------------------------------

    def xadd(
        self,
        name: KeyT,
        fields: dict[Any, EncodableT],
        id: StreamIdT = "*",
        maxlen: int | None = None,
        approximate: bool = True,
        nomkstream: bool = False,
        minid: StreamIdT | None = None,
        limit: int | None = None,
        ref_policy: str | None = None,
        idmpauto: str | None = None,
        idmp: tuple[str, bytes] | None = None,
    ) -> bytes | None:
        """Append an entry of ``fields`` and their values; its ID. O(1), and what trimming takes.

        ``id``: ``*`` for one made of the time, ``5-*`` for the next of a millisecond, or one behind all others.
        ``maxlen``, ``minid``, ``approximate``, ``limit``: trim as ``xtrim`` does. ``nomkstream``: None where
        there is no stream. Raises WrongTypeError; ResponseError for an ID that is none or not behind the last.
        """
        if maxlen is not None and minid is not None:
            raise DataError("Only one of ```maxlen``` or ```minid``` may be specified")
        if idmpauto is not None and idmp is not None:
            raise DataError("Only one of ```idmpauto``` or ```idmp``` may be specified")
        if (idmpauto is not None or idmp is not None) and id != "*":
            raise DataError("IDMPAUTO and IDMP can only be used with id='*'")
        if ref_policy is not None and ref_policy not in _REF_POLICIES:
            raise DataError("XADD ref_policy must be one of: KEEPREF, DELREF, ACKED")
        if maxlen is not None and (not isinstance(maxlen, int) or maxlen < 0):
            raise DataError("XADD maxlen must be non-negative integer")
        if not isinstance(fields, dict) or not fields:
            raise DataError("XADD fields must be a non-empty dict")
        if not (ref_policy is None and idmpauto is None and idmp is None):
            raise ResponseError(INVALID_ID)  # words of later versions, which stand where the ID would
        trimming = _trimming(maxlen, approximate, minid, limit)
        word = to_bytes(id)
        new = None if word == b"*" else parse_new_id(word)
        added = self._xadd(to_bytes(name), new, pairs_of(fields), trimming, make=not nomkstream)
        return None if added is None else format_id(added)

    def _xadd(
        self,
        key: bytes,
        new: NewID | None,
        words: Sequence[bytes],
        trimming: Trimming | None = None,
        make: bool = True,
    ) -> ID | None:
        """Append an entry of that ID, or of the next one; None where a stream is not to be made."""
        if new == FIRST_ID:
            raise err("The ID specified in XADD must be greater than 0-0")
        found = self._write_as(key, Stream)
        if found is None and not make:
            return None
        stream = Stream() if found is None else found
        last = stream.last_id
        if new is None:
            now = self._stream_now()
            id = (now, 0) if now > last[0] else next_id(last)
        else:
            id = _given_id(new, last)
        if id <= last:
            if last == LAST_ID:
                raise err("The stream has exhausted the last possible ID, unable to add more items")
            raise err("The ID specified in XADD is equal or smaller than the target stream top item")
        if len(words) > 2 and sum(map(len, words)) > MAX_NODE_BYTES:
            raise err("Elements are too large to be stored")
        if found is None:
            self._create(key, stream)
        limits = self.ctx.limits
        node_limits = stream.layout.limits
        if node_limits[1] != limits.stream_node_max_entries or node_limits[0] != limits.stream_node_max_bytes:
            stream.layout.change_limits(
                stream.entries, (limits.stream_node_max_bytes, limits.stream_node_max_entries)
            )
        stream.add(id, words)
        self.dirty += 1
        if trimming is not None and self._trim(stream, trimming):
            if self._live:
                left = (b"MAXLEN", b"=", b"%d" % len(stream))
                self.commit((b"XADD", key, *left, format_id(id), *words), ("xadd", key), ("xtrim", key))
        elif self._live:
            self.commit((b"XADD", key, b"%d-%d" % id, *words), ("xadd", key))
        return id

    def xsetid(
        self,
        name: KeyT,
        last_id: StreamIdT,
        entries_added: int | None = None,
        max_deleted_id: StreamIdT | None = None,
    ) -> bool:
        """Set the last ID that was given, and what is counted of the stream. O(1).

        redis-py has no method of this name. Raises WrongTypeError; ResponseError for what the entries contradict,
        or where there is no stream.
        """
        id = parse_strict_id(last_id)
        added = None if entries_added is None else entries_added_of(entries_added)
        deleted = FIRST_ID if max_deleted_id is None else deleted_id_of(max_deleted_id, id)
        return self._xsetid(to_bytes(name), id, added, deleted)

    def _xsetid(self, key: bytes, id: ID, entries_added: int | None, max_deleted: ID) -> bool:
        stream = self._write_as(key, Stream)
        if stream is None:
            raise ResponseError(NO_SUCH_KEY)
        if id < stream.max_deleted_id and not self.ctx.obeys:  # 7.0 does not look, and its log tells that
            raise err("The ID specified in XSETID is smaller than current max_deleted_entry_id")
        last = stream.entries.last()
        if last is not None:
            if id < last:
                raise err("The ID specified in XSETID is smaller than the target stream top item")
            if entries_added is not None and len(stream) > entries_added:
                raise err("The entries_added specified in XSETID is smaller than the target stream length")
        if id < stream.last_id:
            stream.layout.step_back(stream.entries, id)
        stream.last_id = id
        if entries_added is not None:
            stream.entries_added = entries_added
        if max_deleted != FIRST_ID:
            stream.max_deleted_id = max_deleted
        self.dirty += 1
        if self._live:
            counted: tuple[bytes, ...] = ()
            if entries_added is not None:
                counted += (b"ENTRIESADDED", b"%d" % entries_added)
            if max_deleted != FIRST_ID:
                counted += (b"MAXDELETEDID", format_id(max_deleted))
            self.commit((b"XSETID", key, format_id(id), *counted), ("xsetid", key))
        return True

    # -- taking away -------------------------------------------------------------------------------

    def xdel(self, name: KeyT, *ids: StreamIdT) -> int:
        """Delete entries; how many were there. O(log n) each. Raises WrongTypeError, ResponseError."""
        if not ids:
            raise err("wrong number of arguments for 'xdel' command")
        key = to_bytes(name)
        stream = self._write_as(key, Stream)
        if stream is None:
            return 0
        gone = [id for id in list(map(parse_strict_id, ids)) if stream.delete(id)]
        if gone:
            self.dirty += len(gone)
            if self._live:
                self.commit((b"XDEL", key, *map(format_id, gone)), ("xdel", key))
        return len(gone)

    def xtrim(
        self,
        name: KeyT,
        maxlen: int | None = None,
        approximate: bool = True,
        minid: StreamIdT | None = None,
        limit: int | None = None,
        ref_policy: str | None = None,
    ) -> int:
        """Drop the oldest entries, all but ``maxlen`` of them or those before ``minid``; how many went.

        ``approximate``: only as many as go as whole nodes of about a hundred, and no more than ``limit``.
        O(entries that go), with a very small constant. Raises WrongTypeError, ResponseError.
        """
        if maxlen is not None and minid is not None:
            raise DataError("Only one of ``maxlen`` or ``minid`` may be specified")
        if ref_policy is not None and ref_policy not in _REF_POLICIES:
            raise DataError("XTRIM ref_policy must be one of: KEEPREF, DELREF, ACKED")
        trimming = _trimming(maxlen, approximate, minid, limit)
        if trimming is None:
            raise DataError("One of ``maxlen`` or ``minid`` must be specified")
        if ref_policy is not None:
            raise ResponseError(SYNTAX)  # a word of later versions
        return self._xtrim(to_bytes(name), trimming)

    def _xtrim(self, key: bytes, trimming: Trimming) -> int:
        stream = self._write_as(key, Stream)
        gone = 0 if stream is None else self._trim(stream, trimming)
        if gone:
            self.dirty += gone
            if self._live:
                self.commit((b"XTRIM", key, b"MAXLEN", b"=", b"%d" % len(stream or ())), ("xtrim", key))
        return gone

    def _trim(self, stream: Stream, trimming: Trimming) -> int:
        limit = trimming.limit or 0
        if trimming.approximate and trimming.limit is None:
            # Bounded, as a command should not take long.
            limit = _LIMIT_NODES * self.ctx.limits.stream_node_max_entries
            limit = min(limit, _LIMIT_MOST) if limit > 0 else _LIMIT_UNKNOWN
        return stream.trim(trimming.maxlen, trimming.minid, approximate=trimming.approximate, limit=limit)

    # -- reading -----------------------------------------------------------------------------------

    def xlen(self, name: KeyT) -> int:
        """How many entries. O(1). Raises WrongTypeError."""
        stream = self._read_as(to_bytes(name), Stream)
        return 0 if stream is None else len(stream)

    def xrange(
        self, name: KeyT, min: StreamIdT = "-", max: StreamIdT = "+", count: int | None = None
    ) -> list[Any]:
        """The entries from one ID to another, both included: [(ID, fields), ...]. O(log n + their number).

        ``min``, ``max``: an ID, its first half alone, ``-`` for the first and ``+`` for the last; behind ``(`` it
        is left out. ``count``: that many at most. Raises WrongTypeError, ResponseError.
        """
        if count is not None and (not isinstance(count, int) or count < 1):
            raise DataError("XRANGE count must be a positive integer")
        start, stop = parse_start(min), parse_stop(max)
        return as_tuples(self._xrange(to_bytes(name), start, stop, count, False) or [])

    def xrevrange(
        self, name: KeyT, max: StreamIdT = "+", min: StreamIdT = "-", count: int | None = None
    ) -> list[Any]:
        """As ``xrange``, the latest first."""
        if count is not None and (not isinstance(count, int) or count < 1):
            raise DataError("XREVRANGE count must be a positive integer")
        start, stop = parse_start(min), parse_stop(max)
        return as_tuples(self._xrange(to_bytes(name), start, stop, count, True) or [])

    def _xrange(self, key: bytes, start: ID, stop: ID, count: int | None, reverse: bool) -> Entries | None:
        """The entries of a range; None where there are none to be had as none are wanted."""
        stream = self._read_as(key, Stream)
        if stream is None:
            return []
        if count is not None and count <= 0:
            return None
        entries = stream.entries
        found = entries.backward(start, stop) if reverse else entries.items(start, stop)
        return list(found if count is None else islice(found, count))

    def xread(
        self,
        streams: dict[KeyT, StreamIdT],
        count: int | None = None,
        block: int | None = None,
        max_count: int | None = None,
        max_size: int | None = None,
    ) -> list[Any]:
        """The entries behind an ID of each stream: [[key, [(ID, fields), ...]], ...]. O(their number).

        ``$``: the last one there is; ``+``: the one before it, so that the last one is read. ``count``: that many at most of each. ``block``: milliseconds to wait for
        one, which is over at once, as nobody can add any meanwhile. Raises WrongTypeError, ResponseError.
        """
        check_reading("XREAD", count, block, max_count, max_size)
        if not isinstance(streams, dict) or not streams:
            raise DataError("XREAD streams must be a non empty dict")
        if max_count is not None or max_size is not None:
            raise ResponseError(SYNTAX)  # words of later versions
        keys, ids = list(map(to_bytes, streams)), list(map(to_bytes, streams.values()))
        found = self._xread(keys, ids, count or 0)
        if not found and block is not None:
            refuse_for_ever(block)
        return as_lists(found)

    def _xread(
        self, keys: Sequence[bytes], ids: list[bytes], count: int, plus: bool = True
    ) -> list[tuple[bytes, Entries]]:
        """Entries behind the IDs; ``$`` (and ``+`` if that is known) is replaced in ``ids`` by what it is now.

        ``count``: 0 for all.
        """
        after = [self._after(key, ids, at, plus) for at, key in enumerate(keys)]
        found: list[tuple[bytes, Entries]] = []
        for key, id in zip(keys, after, strict=True):
            stream = self._read_as(key, Stream)
            if stream is None or (stream.entries.last() or FIRST_ID) <= id:
                continue
            entries = stream.entries.items(next_id(id))
            found.append((key, list(islice(entries, count or None))))
        return found

    def _after(self, key: bytes, ids: list[bytes], at: int, plus: bool) -> ID:
        """The ID that is meant by a word of XREAD, whose turn it is."""
        stream, word = self._read_as(key, Stream), ids[at]
        if word == b"$":
            id = FIRST_ID if stream is None else stream.last_id
        elif word == b"+" and plus:
            last = FIRST_ID if stream is None else stream.entries.last() or FIRST_ID
            id = parse_stop(b"(" + format_id(last)) if last > FIRST_ID else last
        elif word == b">":
            raise err(
                "The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
            )
        else:
            return parse_strict_id(word)
        ids[at] = format_id(id)
        return id


def _given_id(new: NewID, last: ID) -> ID:
    """An ID that was given, with the sequence number that it is to get; ``last`` where there is none."""
    time, sequence = new
    if sequence is not None:
        return time, sequence
    if time != last[0]:
        return time, 0
    return (time, last[1] + 1) if last[1] < _64_BITS else last


def entries_added_of(value: Any) -> int:
    """The ENTRIESADDED of XSETID. Raises ResponseError."""
    added = as_int(value)
    if added < 0:
        raise err("entries_added must be positive")
    return added


def deleted_id_of(word: Any, last_id: ID) -> ID:
    """The MAXDELETEDID of XSETID. Raises ResponseError."""
    id = parse_strict_id(word)
    if last_id < id:
        raise err("The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
    return id


def _trimming(maxlen: Any, approximate: bool, minid: StreamIdT | None, limit: int | None) -> Trimming | None:
    """What the parameters say. Raises ResponseError, as a server does that gets their words."""
    number = None if limit is None else as_int(limit)
    if number is not None and number < 0:
        raise err("The LIMIT argument must be >= 0.")
    if maxlen is None and minid is None:
        if number:
            raise err("syntax error, LIMIT cannot be used without specifying a trimming strategy")
        return None
    if number is not None and not approximate:
        raise err("syntax error, LIMIT cannot be used without the special ~ option")
    if minid is not None:
        return Trimming(None, parse_strict_id(minid), approximate, number)
    most = as_int(maxlen)
    if most < 0:
        raise err("The MAXLEN argument must be >= 0.")
    return Trimming(most, FIRST_ID, approximate, number)


def check_reading(name: str, count: Any, block: Any, max_count: Any, max_size: Any) -> None:
    """What redis-py checks before it sends. Raises DataError."""
    if block is not None and (not isinstance(block, int) or block < 0):
        raise DataError(f"{name} block must be a non-negative integer")
    for what, number in (("count", count), ("max_count", max_count), ("max_size", max_size)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise DataError(f"{name} {what} must be a positive integer")
    if max_count is not None and count is not None and max_count < count:
        raise DataError(f"{name} max_count must be greater than or equal to count")


def as_dict(words: Words | None) -> dict[bytes, bytes]:
    """Fields and values in turn as a mapping, nothing where they were deleted."""
    return {} if words is None else dict(zip(words[::2], words[1::2], strict=True))


def as_tuples(entries: Iterable[Entry]) -> list[Any]:
    """Entries as redis-py returns them."""
    return [(b"%d-%d" % id, as_dict(words)) for id, words in entries]


def as_lists(found: list[tuple[bytes, Entries]]) -> list[Any]:
    """Entries of several streams as redis-py returns them."""
    return [[key, as_tuples(entries)] for key, entries in found]
