"""What is pending of groups: the typed methods that look at it and hand it on to other consumers.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from kvstore.engine.ids import FIRST_ID, ID
from kvstore.engine.keyspace import KeyT, to_bytes
from kvstore.engine.stream_groups import ConsumerT, GroupT, StreamGroups, as_c_text, no_such_group
from kvstore.engine.stream_ids import INVALID_ID, format_id, parse_start, parse_stop, parse_strict_id
from kvstore.engine.streams import Entries, StreamIdT, as_tuples
from kvstore.engine.types.stream import Consumer, Group, Pending, Stream
from kvstore.errors import DataError, ResponseError, err
from kvstore.numbers import as_int

_NO_GROUP: Final = "No such key '{}' or consumer group '{}'"
_NO_COUNT: Final = "ERR COUNT must be > 0"
# Entries that XAUTOCLAIM claims where nobody says otherwise; for each, how many it looks at.
_AUTOCLAIMED: Final = 100
_ATTEMPTS: Final = 10
# A larger COUNT would overflow a real server's memory.
_MOST: Final = ((1 << 63) - 1) // 16

# ID, consumer, milliseconds since it was delivered, how many times it was
PendingRow = tuple[ID, bytes, int, int]
Claimed = tuple[ID, Pending]


class Claim:
    """The options of XCLAIM."""

    __slots__ = ("force", "idle", "just_id", "last_id", "retry_count", "time")

    def __init__(
        self,
        idle: int | None = None,
        time: int | None = None,
        retry_count: int | None = None,
        force: bool = False,
        just_id: bool = False,
    ):
        self.idle = idle
        self.time = time
        self.retry_count = retry_count
        self.force = force
        self.just_id = just_id
        self.last_id: ID = FIRST_ID


class StreamClaims(StreamGroups):
    """A family of ``Database``."""

    __slots__ = ()

    def _required_group(self, key: bytes, name: bytes, *, to_change: bool) -> tuple[Stream, Group]:
        stream = self._read_as(key, Stream)
        group = None if stream is None else stream.groups.get(name)
        if stream is None or group is None:
            raise no_such_group(_NO_GROUP, key, name)
        if to_change and self._tap is not None:
            self._tap(key)
        return stream, group

    # -- looking -----------------------------------------------------------------------------------

    def xpending(self, name: KeyT, groupname: GroupT) -> dict[str, Any]:
        """How much is pending of a group, the first and the last ID, and how much of which consumers.

        O(consumers). Raises WrongTypeError; ResponseError for no such group.
        """
        count, first, last, consumers = self._xpending(to_bytes(name), to_bytes(groupname))
        held = [{"name": consumer, "pending": number} for consumer, number in consumers]
        ids = [None if id is None else format_id(id) for id in (first, last)]
        return {"pending": count, "min": ids[0], "max": ids[1], "consumers": held}

    def _xpending(
        self, key: bytes, group_name: bytes
    ) -> tuple[int, ID | None, ID | None, list[tuple[bytes, int]]]:
        group = self._required_group(key, group_name, to_change=False)[1]
        held = [(name, len(each.pending)) for name, each in sorted(group.consumers.items()) if each.pending]
        return len(group.pending), group.pending.first(), group.pending.last(), held

    def xpending_range(
        self,
        name: KeyT,
        groupname: GroupT,
        min: StreamIdT,
        max: StreamIdT,
        count: int,
        consumername: ConsumerT | None = None,
        idle: int | None = None,
    ) -> list[dict[str, Any]]:
        """What is pending of a group, or of one consumer, from one ID to another; ``count`` of it at most.

        ``idle``: what was not delivered for so many milliseconds. O(log n + what is looked at).
        Raises WrongTypeError; ResponseError for no such group.
        """
        if {min, max, count} == {None}:
            if idle is not None or consumername is not None:
                raise DataError("if XPENDING is provided with idle time or consumername, it must be provided "
                                "with min, max and count parameters")  # fmt: skip
            raise TypeError("XPENDING takes min, max and count")
        if min is None or max is None or count is None:
            raise DataError("XPENDING must be provided with min, max and count parameters, or none of them.")
        if idle is not None and (not isinstance(idle, int) or idle < 0):
            raise DataError("XPENDING idle must be a integer >= 0")
        if not isinstance(count, int) or count < -1:
            raise DataError("XPENDING count must be a integer >= -1")
        rows = self._xpending_range(
            to_bytes(name),
            to_bytes(groupname),
            parse_start(min),
            parse_stop(max),
            count,
            None if consumername is None else to_bytes(consumername),
            idle or 0,
        )
        names = ("message_id", "consumer", "time_since_delivered", "times_delivered")
        return [dict(zip(names, (format_id(id), *more), strict=True)) for id, *more in rows]

    def _xpending_range(
        self,
        key: bytes,
        group_name: bytes,
        start: ID,
        stop: ID,
        count: int,
        consumer_name: bytes | None,
        min_idle: int,
    ) -> list[PendingRow]:
        group = self._required_group(key, group_name, to_change=False)[1]
        pending = group.pending
        if consumer_name is not None:
            consumer = group.consumers.get(consumer_name)
            if consumer is None:
                return []
            pending = consumer.pending
        now = self._stream_now()
        rows = (
            (id, one.consumer.name, max(0, now - one.delivered_ms), one.count)
            for id, one in pending.items(start, stop)
            if not min_idle or now - one.delivered_ms >= min_idle
        )
        return list(islice(rows, max(0, count)))

    # -- handing on --------------------------------------------------------------------------------

    def xclaim(
        self,
        name: KeyT,
        groupname: GroupT,
        consumername: ConsumerT,
        min_idle_time: int,
        message_ids: list[StreamIdT] | tuple[StreamIdT],
        idle: int | None = None,
        time: int | None = None,
        retrycount: int | None = None,
        force: bool = False,
        justid: bool = False,
    ) -> list[Any]:
        """Hand what is pending on to a consumer, if it was not delivered for ``min_idle_time`` milliseconds.

        [(ID, fields), ...] of what it got. ``idle``, ``time``: when that is taken to be delivered; ``retrycount``:
        how often it was; ``force``: what is pending of nobody too; ``justid``: the IDs alone, and do not count.
        O(log n) an entry. Raises WrongTypeError; ResponseError for no such group.
        """
        if not isinstance(min_idle_time, int) or min_idle_time < 0:
            raise DataError("XCLAIM min_idle_time must be a non negative integer")
        if not isinstance(message_ids, (list, tuple)) or not message_ids:
            raise DataError("XCLAIM message_ids must be a non empty list or tuple of message IDs to claim")
        for what, number in (("idle", idle), ("time", time), ("retrycount", retrycount)):
            if number is not None and not isinstance(number, int):
                raise DataError(f"XCLAIM {what} must be an integer")
        for what, flag in (("force", force), ("justid", justid)):
            if not isinstance(flag, bool):
                raise DataError(f"XCLAIM {what} must be a boolean")
        key, group = to_bytes(name), to_bytes(groupname)
        self._required_group(key, group, to_change=False)
        words = list(map(to_bytes, message_ids))
        ids = parse_leading_ids(words)
        if len(ids) < len(words):
            raise unknown_option(words[len(ids)])
        claim = Claim(idle, time, retrycount, force, justid)
        stream, claimed = self._xclaim(key, group, to_bytes(consumername), min_idle_time, ids, claim)
        if justid:
            return [format_id(id) for id, _ in claimed]
        return as_tuples(entries_of(stream, claimed))

    def _xclaim(
        self,
        key: bytes,
        group_name: bytes,
        consumer_name: bytes,
        min_idle: int,
        ids: Sequence[ID],
        claim: Claim,
    ) -> tuple[Stream, list[Claimed]]:
        """Hand on what is pending; the stream, and what was handed on."""
        stream, group = self._required_group(key, group_name, to_change=True)
        with self.ctx.unit():
            now = self._stream_now()
            moved = claim.last_id > group.last_id
            if moved:
                group.last_id = claim.last_id
            time = now - claim.idle if claim.idle is not None else claim.time
            if time is None or ((time < 0 or time > now) and not self.ctx.obeys):
                time = now
            consumer = self._consumer(key, group_name, group, consumer_name, now)
            claimed: list[Claimed] = []
            gone: list[ID] = []
            for id in ids:
                pending = group.pending.get(id)
                if stream.entries.get(id) is None:
                    if pending is not None:
                        group.acknowledge(id)
                        gone.append(id)
                    continue
                if pending is None:
                    if not claim.force:
                        continue
                    group.deliver(id, consumer, time)
                    pending = group.pending.get(id)
                    assert pending is not None
                elif min_idle > 0 and now - pending.delivered_ms < min_idle:
                    continue
                if claim.retry_count is not None and claim.retry_count >= 0:
                    count = claim.retry_count
                else:
                    count = pending.count + (not claim.just_id)
                _hand_on(group, id, pending, consumer, time, count)
                claimed.append((id, pending))
            self._commit_handed_on(key, group_name, group, consumer, claimed, gone, now)
            if moved:
                self.dirty += 1
                if not claimed:
                    self._commit_position(key, group_name, group, "")
            return stream, claimed

    def _commit_handed_on(
        self,
        key: bytes,
        group_name: bytes,
        group: Group,
        consumer: Consumer,
        claimed: list[Claimed],
        gone: list[ID],
        now: int,
    ) -> None:
        if claimed:
            consumer.active_ms = now
        self.dirty += len(claimed) + len(gone)
        self._commit_claims(key, group_name, group, consumer, claimed)
        self._commit_gone(key, group_name, gone)

    def xautoclaim(
        self,
        name: KeyT,
        groupname: GroupT,
        consumername: ConsumerT,
        min_idle_time: int,
        start_id: StreamIdT = "0-0",
        count: int | None = None,
        justid: bool = False,
    ) -> list[Any]:
        """Hand what is pending from an ID on over to a consumer, if it was not delivered for ``min_idle_time``.

        [the ID to go on with, [(ID, fields), ...], IDs of deleted entries]; ``justid``: the IDs that were handed
        on alone, and do not count. ``count``: that many at most (default 100). O(count * log n).
        Raises WrongTypeError; ResponseError for no such group.
        """
        if not isinstance(min_idle_time, int) or min_idle_time < 0:
            raise DataError("XAUTOCLAIM min_idle_time must be a nonnegative integer")
        if count is not None and (not isinstance(count, int) or count < 0):
            raise DataError("XPENDING count must be a integer >= 0")
        start = parse_start(start_id)
        most = autoclaim_count(count)
        key, group, consumer = to_bytes(name), to_bytes(groupname), to_bytes(consumername)
        stream, following, claimed, gone = self._xautoclaim(
            key, group, consumer, min_idle_time, start, most, just_id=justid
        )
        if justid:
            return [format_id(id) for id, _ in claimed]
        return [format_id(following), as_tuples(entries_of(stream, claimed)), list(map(format_id, gone))]

    def _xautoclaim(
        self,
        key: bytes,
        group_name: bytes,
        consumer_name: bytes,
        min_idle: int,
        start: ID,
        count: int,
        *,
        just_id: bool,
    ) -> tuple[Stream, ID, list[Claimed], list[ID]]:
        """The stream, where to go on, what was handed on, what was deleted and is pending no more."""
        stream, group = self._required_group(key, group_name, to_change=True)
        with self.ctx.unit():
            now = self._stream_now()
            consumer = self._consumer(key, group_name, group, consumer_name, now)
            claimed: list[Claimed] = []
            gone: list[ID] = []
            following, attempts = FIRST_ID, count * _ATTEMPTS
            # Looked at before anything changes: one more, to go on with.
            seen = list(islice(group.pending.items(start), min(attempts, len(group.pending)) + 1))
            for at, (id, pending) in enumerate(seen):
                if at == attempts or len(claimed) + len(gone) == count:
                    following = id
                    break
                if stream.entries.get(id) is None:
                    group.acknowledge(id)
                    gone.append(id)
                elif min_idle <= 0 or now - pending.delivered_ms >= min_idle:
                    _hand_on(group, id, pending, consumer, now, pending.count + (not just_id))
                    claimed.append((id, pending))
            self._commit_handed_on(key, group_name, group, consumer, claimed, gone, now)
            return stream, following, claimed, gone


def _hand_on(group: Group, id: ID, pending: Pending, consumer: Consumer, time: int, count: int) -> None:
    if pending.consumer is consumer:
        pending.delivered_ms, pending.count = time, count
    else:
        group.deliver(id, consumer, time, count)


def entries_of(stream: Stream, claimed: list[Claimed]) -> Entries:
    """The entries of what was handed on."""
    return [(id, stream.entries.get(id)) for id, _ in claimed]


def autoclaim_count(value: Any) -> int:
    """The COUNT of XAUTOCLAIM, or what it is where nobody says. Raises ResponseError."""
    if value is None:
        return _AUTOCLAIMED
    count = as_int(value, _NO_COUNT)
    if not 1 <= count <= _MOST:
        raise ResponseError(_NO_COUNT)
    return count


def unknown_option(word: bytes) -> ResponseError:
    """What XCLAIM says of a word that is neither an ID nor an option."""
    return err(f"Unrecognized XCLAIM option '{as_c_text(word)}'")


def parse_leading_ids(words: Sequence[bytes]) -> list[ID]:
    """The IDs that stand at the front of words. O(their number)."""
    ids: list[ID] = []
    for word in words:
        try:
            ids.append(parse_strict_id(word))
        except ResponseError as error:
            if str(error) != INVALID_ID:
                raise
            break
    return ids
