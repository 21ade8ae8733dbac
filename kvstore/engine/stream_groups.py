"""Groups of consumers: the typed methods that make them, deliver entries to them, and acknowledge.

The effect of a delivery is that of real servers: XCLAIM, which makes entries pending of a consumer at a given time
and with a given count, and XGROUP SETID, which says how far the group has come. When consumers were last seen is
no effect. What is pending is known by its ID alone, and stays when its entry goes.

Changes of a group do not count as changes of the key for those who watch it; those that are no event either
are committed with one that has no name.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from kvstore.engine.blocking import refuse_for_ever
from kvstore.engine.ids import FIRST_ID, ID, LAST_ID
from kvstore.engine.keyspace import KeyT, to_bytes
from kvstore.engine.stream_ids import format_id, next_id, parse_id, parse_strict_id
from kvstore.engine.streams import Entries, StreamIdT, Streams, as_lists, check_reading
from kvstore.engine.types.stream import NEVER, UNKNOWN, Consumer, Group, Pending, Stream
from kvstore.errors import SYNTAX, DataError, ResponseError, err
from kvstore.numbers import as_int

GroupT = KeyT
ConsumerT = KeyT

_NO_KEY: Final = (
    "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option "
    "to create an empty stream automatically."
)
_MEANINGLESS: Final = (
    "The {0} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by "
    "specifying a proper ID, or use the > ID to get new messages. The {0} ID would just return an empty result set."
)


def as_c_text(word: bytes) -> str:
    """A word as C prints it: up to a zero byte."""
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def no_such_group(text: str, *names: bytes) -> ResponseError:
    """NOGROUP, whose text names the key and the group."""
    return ResponseError("NOGROUP " + text.format(*map(as_c_text, names)))


class StreamGroups(Streams):
    """A family of ``Database``."""

    __slots__ = ()

    # -- making and removing -----------------------------------------------------------------------

    def xgroup_create(
        self,
        name: KeyT,
        groupname: GroupT,
        id: StreamIdT = "$",
        mkstream: bool = False,
        entries_read: int | None = None,
    ) -> bool:
        """Make a group that begins behind an ID, ``$`` for the last one. O(1).

        ``mkstream``: make an empty stream if there is none. ``entries_read``: how many entries there ever were up
        to that ID. Raises WrongTypeError; ResponseError where there is no stream, or the group is there already.
        """
        key, group = to_bytes(name), to_bytes(groupname)
        read = UNKNOWN if entries_read is None else entries_read_of(entries_read)
        stream = self._write_as(key, Stream)
        if stream is None and not mkstream:
            raise err(_NO_KEY)
        word = to_bytes(id)
        if word == b"$":
            start = FIRST_ID if stream is None else stream.last_id
        else:
            start = parse_strict_id(word)
        if stream is None:
            stream = Stream()
            self._create(key, stream)
            if self._live:
                self.commit((), ("touched", key))
        elif group in stream.groups:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        stream.groups[group] = Group(start, read)
        self.dirty += 1
        if self._live:
            counted = () if read == UNKNOWN else (b"ENTRIESREAD", b"%d" % read)
            made = (b"XGROUP", b"CREATE", key, group, format_id(start), b"MKSTREAM", *counted)
            self.commit(made, ("xgroup-create", key))
        return True

    def xgroup_setid(
        self, name: KeyT, groupname: GroupT, id: StreamIdT, entries_read: int | None = None
    ) -> bool:
        """Let a group go on behind an ID, ``$`` for the last one. O(1).

        ``entries_read`` as ``xgroup_create`` has it. Raises WrongTypeError; ResponseError for no such group.
        """
        key = to_bytes(name)
        read = UNKNOWN if entries_read is None else entries_read_of(entries_read)
        stream, group = self._group_to_change(key, to_bytes(groupname))
        word = to_bytes(id)
        group.last_id = stream.last_id if word == b"$" else parse_id(word)
        group.entries_read = read
        self.dirty += 1
        self._commit_position(key, to_bytes(groupname), group, "xgroup-setid")
        return True

    def _commit_position(self, key: bytes, name: bytes, group: Group, event: str) -> None:
        """Tell how far a group has come."""
        if self._live:
            at = (format_id(group.last_id), b"ENTRIESREAD", b"%d" % group.entries_read)
            self.commit((b"XGROUP", b"SETID", key, name, *at), (event, key))

    def xgroup_destroy(self, name: KeyT, groupname: GroupT) -> bool:
        """Remove a group and what is pending of it; whether it was there. O(what is pending).

        Raises WrongTypeError; ResponseError where there is no stream.
        """
        key, group = to_bytes(name), to_bytes(groupname)
        stream = self._stream_to_change(key)
        if stream.groups.pop(group, None) is None:
            return False
        self.dirty += 1
        if self._live:
            self.commit((b"XGROUP", b"DESTROY", key, group), ("xgroup-destroy", key))
        return True

    def xgroup_createconsumer(self, name: KeyT, groupname: GroupT, consumername: ConsumerT) -> int:
        """Make a consumer of a group; 1, or 0 if it was there. O(1). Raises as ``xgroup_setid``."""
        key, group_name, consumer = to_bytes(name), to_bytes(groupname), to_bytes(consumername)
        group = self._group_to_change(key, group_name)[1]
        if consumer in group.consumers:
            return 0
        self._consumer(key, group_name, group, consumer, self._stream_now())
        return 1

    def xgroup_delconsumer(self, name: KeyT, groupname: GroupT, consumername: ConsumerT) -> int:
        """Remove a consumer and what is pending of it; how much that was. O(what is pending).

        Raises as ``xgroup_setid``.
        """
        key, group_name, name_of = to_bytes(name), to_bytes(groupname), to_bytes(consumername)
        group = self._group_to_change(key, group_name)[1]
        consumer = group.consumers.pop(name_of, None)
        if consumer is None:
            return 0
        for id, _ in consumer.pending.items():
            group.pending.pop(id)
        count = len(consumer.pending)
        consumer.forget()
        self.dirty += 1
        if self._live:
            self.commit((b"XGROUP", b"DELCONSUMER", key, group_name, name_of), ("xgroup-delconsumer", key))
        return count

    def _check_group(self, key: bytes, group: bytes, make: bool) -> None:
        """What a form of XGROUP CREATE with too many words is refused for before."""
        if self._write_as(key, Stream) is None and not make:
            raise err(_NO_KEY)

    def _stream_to_change(self, key: bytes) -> Stream:
        stream = self._write_as(key, Stream)
        if stream is None:
            raise err(_NO_KEY)
        return stream

    def _group_to_change(self, key: bytes, name: bytes) -> tuple[Stream, Group]:
        stream = self._stream_to_change(key)
        group = stream.groups.get(name)
        if group is None:
            raise no_such_group("No such consumer group '{}' for key name '{}'", name, key)
        return stream, group

    def _find_group(self, key: bytes, name: bytes) -> tuple[Stream, Group] | None:
        """The stream and its group for a command that reads the key and may change the group."""
        stream = self._read_as(key, Stream)
        group = None if stream is None else stream.groups.get(name)
        if stream is None or group is None:
            return None
        if self._tap is not None:
            self._tap(key)
        return stream, group

    def _consumer(self, key: bytes, group_name: bytes, group: Group, name: bytes, now: int) -> Consumer:
        """The consumer of that name, made where it is missing, which is seen now."""
        consumer = group.consumers.get(name)
        if consumer is not None:
            consumer.seen_ms = now
            return consumer
        consumer = group.consumers[name] = Consumer(name, now, NEVER)
        self.dirty += 1
        if self._live:
            made = (b"XGROUP", b"CREATECONSUMER", key, group_name, name)
            self.commit(made, ("xgroup-createconsumer", key))
        return consumer

    # -- delivering --------------------------------------------------------------------------------

    def xreadgroup(
        self,
        groupname: str,
        consumername: str,
        streams: dict[KeyT, StreamIdT],
        count: int | None = None,
        block: int | None = None,
        noack: bool = False,
        claim_min_idle_time: int | None = None,
        max_count: int | None = None,
        max_size: int | None = None,
    ) -> list[Any]:
        """The next entries of each stream for a consumer of a group: [[key, [(ID, fields), ...]], ...].

        ``>`` as ID: those that no consumer got yet, which are pending of this one from now on, unless ``noack``.
        Another ID: what is pending of it behind that ID. ``count``, ``block`` as ``xread`` has them.
        O(log n) an entry. Raises WrongTypeError; ResponseError for no such stream or group.
        """
        check_reading("XREADGROUP", count, block, max_count, max_size)
        if claim_min_idle_time is not None and (
            not isinstance(claim_min_idle_time, int) or claim_min_idle_time < 0
        ):
            raise DataError("XREADGROUP claim_min_idle_time must be a non-negative integer")
        if not isinstance(streams, dict) or not streams:
            raise DataError("XREADGROUP streams must be a non empty dict")
        if not (max_count is None and max_size is None and claim_min_idle_time is None):
            raise ResponseError(SYNTAX)  # words of later versions
        keys, ids = list(map(to_bytes, streams)), list(map(to_bytes, streams.values()))
        found = self._xreadgroup(
            to_bytes(groupname), to_bytes(consumername), keys, ids, count or 0, noack=noack
        )
        if not found and block is not None:
            refuse_for_ever(block)
        return as_lists(found)

    def _xreadgroup(
        self,
        group_name: bytes,
        consumer_name: bytes,
        keys: Sequence[bytes],
        ids: Sequence[bytes],
        count: int,
        *,
        noack: bool,
        plus: bool = True,
    ) -> list[tuple[bytes, Entries]]:
        """What there is for a consumer; ``count``: 0 for all. ``plus``: whether ``+`` is known."""
        wanted: list[tuple[bytes, ID]] = []
        for key, word in zip(keys, ids, strict=True):
            stream = self._read_as(key, Stream)
            if stream is None or group_name not in stream.groups:
                raise no_such_group(
                    "No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option", key, group_name
                )
            if word == b"$" or (word == b"+" and plus):
                raise err(_MEANINGLESS.format(word.decode()))
            # As on a real server the very last ID says the same as >: nothing can be pending behind it.
            wanted.append((key, LAST_ID if word == b">" else parse_strict_id(word)))
        found: list[tuple[bytes, Entries]] = []
        with self.ctx.unit():
            now = self._stream_now()
            for key, after in wanted:
                pair = self._find_group(key, group_name)
                if pair is None:
                    continue  # it has just expired
                stream, group = pair
                consumer = self._consumer(key, group_name, group, consumer_name, now)
                if after != LAST_ID:
                    entries = self._history(key, group_name, stream, consumer, after, count, now)
                elif (stream.entries.last() or FIRST_ID) > group.last_id:
                    entries = self._deliver(key, group_name, group, stream, consumer, count, now, noack=noack)
                else:
                    continue
                found.append((key, entries))
                self.dirty += 1
            return found

    def _deliver(
        self,
        key: bytes,
        group_name: bytes,
        group: Group,
        stream: Stream,
        consumer: Consumer,
        count: int,
        now: int,
        *,
        noack: bool,
    ) -> Entries:
        """Entries that no consumer of the group has got, for this one."""
        run = stream.entries.behind(group.last_id, count)
        ids = list(run.ids(0, len(run)))
        if ids:
            stream.advance(group, ids)
        if ids and not noack:
            group.deliver_all(run, consumer, now)
            consumer.active_ms = now
            self._commit_claim(key, group_name, group, consumer, ids, now, 1)
        self._commit_position(key, group_name, group, "")
        return list(zip(ids, run.items, strict=True))

    def _history(
        self,
        key: bytes,
        group_name: bytes,
        stream: Stream,
        consumer: Consumer,
        after: ID,
        count: int,
        now: int,
    ) -> Entries:
        """What is pending of a consumer, delivered once more; None for the fields of what was deleted."""
        entries: Entries = []
        delivered: list[tuple[ID, Pending]] = []
        for id, pending in islice(consumer.pending.items(next_id(after)), count or None):
            words = stream.entries.get(id)
            entries.append((id, words))
            if words is not None:
                pending.delivered_ms = now
                pending.count += 1
                delivered.append((id, pending))
        self._commit_claims(key, group_name, stream.groups[group_name], consumer, delivered)
        return entries

    def _commit_claims(
        self,
        key: bytes,
        group_name: bytes,
        group: Group,
        consumer: Consumer,
        claimed: Iterable[tuple[ID, Pending]],
    ) -> None:
        """Tell what is pending of a consumer from now on: a command for each time and count."""
        if not self._live:
            return
        alike: dict[tuple[int, int], list[ID]] = {}
        for id, pending in claimed:
            alike.setdefault((pending.delivered_ms, pending.count), []).append(id)
        for (time, count), ids in alike.items():
            self._commit_claim(key, group_name, group, consumer, ids, time, count)

    def _commit_claim(
        self,
        key: bytes,
        group_name: bytes,
        group: Group,
        consumer: Consumer,
        ids: list[ID],
        time: int,
        count: int,
    ) -> None:
        if self._live:
            counted = (b"TIME", b"%d" % time, b"RETRYCOUNT", b"%d" % count, b"FORCE", b"JUSTID")
            words = (*map(format_id, ids), *counted, b"LASTID", format_id(group.last_id))
            self.commit((b"XCLAIM", key, group_name, consumer.name, b"0", *words), ("", key))

    # -- acknowledging -----------------------------------------------------------------------------

    def xack(self, name: KeyT, groupname: GroupT, *ids: StreamIdT) -> int:
        """Let entries be pending of the group no more; how many were. O(log n) each.

        Raises WrongTypeError, ResponseError.
        """
        if not ids:
            raise err("wrong number of arguments for 'xack' command")
        key, group_name = to_bytes(name), to_bytes(groupname)
        pair = self._find_group(key, group_name)
        if pair is None:
            return 0
        gone = [id for id in list(map(parse_strict_id, ids)) if pair[1].acknowledge(id)]
        self.dirty += len(gone)
        self._commit_gone(key, group_name, gone)
        return len(gone)

    def _commit_gone(self, key: bytes, group_name: bytes, gone: Sequence[ID]) -> None:
        """Tell what is pending no more."""
        if gone and self._live:
            self.commit((b"XACK", key, group_name, *map(format_id, gone)), ("", key))


def entries_read_of(value: Any) -> int:
    """The ENTRIESREAD of XGROUP. Raises ResponseError."""
    read = as_int(value)
    if read < 0 and read != UNKNOWN:
        raise err("value for ENTRIESREAD must be positive or -1")
    return read
