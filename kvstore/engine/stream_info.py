"""What XINFO tells of streams, their groups and consumers.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from kvstore.engine.ids import ID
from kvstore.engine.keyspace import KeyT, to_bytes
from kvstore.engine.stream_claims import StreamClaims
from kvstore.engine.stream_groups import GroupT, no_such_group
from kvstore.engine.stream_ids import format_id
from kvstore.engine.streams import as_dict
from kvstore.engine.types.stream import NEVER, UNKNOWN, Group, Stream
from kvstore.engine.types.stream_layout import radix_nodes
from kvstore.errors import NO_SUCH_KEY, ResponseError

# How many entries, and how much of what is pending, XINFO STREAM FULL shows where nobody says otherwise.
FULL_COUNT: Final = 10

Facts = dict[bytes, Any]


class StreamInfo(StreamClaims):
    """A family of ``Database``."""

    __slots__ = ()

    def _existing_stream(self, key: bytes) -> Stream:
        stream = self._read_as(key, Stream)
        if stream is None:
            raise ResponseError(NO_SUCH_KEY)
        return stream

    def xinfo_stream(self, name: KeyT, full: bool = False) -> dict[str, Any]:
        """What is known of a stream; ``full``: its first entries, and all groups and consumers. O(n / 100).

        Raises WrongTypeError; ResponseError where there is no stream.
        """
        facts = _named(self._xinfo_stream(to_bytes(name), FULL_COUNT if full else None))
        if full:
            facts["entries"] = {id: as_dict(words) for id, words in facts["entries"]}
            facts["groups"] = list(map(_named, facts["groups"]))
            return facts
        for which in ("first-entry", "last-entry"):
            if facts[which] is not None:
                facts[which] = (facts[which][0], as_dict(facts[which][1]))
        return facts

    def _xinfo_stream(self, key: bytes, full: int | None) -> Facts:
        """``full``: None for the short form, else how many entries it shows; 0 for all."""
        stream = self._existing_stream(key)
        entries = stream.entries
        nodes = stream.layout.settle(entries)
        keys = [node.first[0].to_bytes(8, "big") + node.first[1].to_bytes(8, "big") for node in nodes]
        facts: Facts = {
            b"length": len(stream),
            b"radix-tree-keys": len(keys),
            b"radix-tree-nodes": radix_nodes(keys),
            b"last-generated-id": format_id(stream.last_id),
            b"max-deleted-entry-id": format_id(stream.max_deleted_id),
            b"entries-added": stream.entries_added,
            b"recorded-first-entry-id": format_id(stream.first_id),
        }
        if full is None:
            first, last = next(entries.items(), None), next(entries.backward(), None)
            facts[b"groups"] = len(stream.groups)
            facts[b"first-entry"] = None if first is None else _entry(*first)
            facts[b"last-entry"] = None if last is None else _entry(*last)
            return facts
        most = full or None
        facts[b"entries"] = [_entry(id, words) for id, words in islice(entries.items(), most)]
        facts[b"groups"] = [_full_group(stream, name, group, most) for name, group in _in_order(stream)]
        return facts

    def xinfo_groups(self, name: KeyT) -> list[dict[str, Any]]:
        """What is known of each group of a stream. O(groups).

        Raises WrongTypeError; ResponseError where there is no stream.
        """
        return list(map(_named, self._xinfo_groups(to_bytes(name))))

    def _xinfo_groups(self, key: bytes) -> list[Facts]:
        stream = self._existing_stream(key)
        return [
            {
                b"name": name,
                b"consumers": len(group.consumers),
                b"pending": len(group.pending),
                **_position(stream, group),
            }
            for name, group in _in_order(stream)
        ]

    def xinfo_consumers(self, name: KeyT, groupname: GroupT) -> list[dict[str, Any]]:
        """What is known of each consumer of a group. O(consumers).

        Raises WrongTypeError; ResponseError where there is no stream or no such group.
        """
        return list(map(_named, self._xinfo_consumers(to_bytes(name), to_bytes(groupname))))

    def _xinfo_consumers(self, key: bytes, group_name: bytes) -> list[Facts]:
        group = self._existing_stream(key).groups.get(group_name)
        if group is None:
            raise no_such_group("No such consumer group '{}' for key name '{}'", group_name, key)
        now = self._stream_now()
        return [
            {
                b"name": name,
                b"pending": len(consumer.pending),
                b"idle": max(0, now - consumer.seen_ms),
                b"inactive": NEVER if consumer.active_ms == NEVER else max(0, now - consumer.active_ms),
            }
            for name, consumer in sorted(group.consumers.items())
        ]


def _in_order(stream: Stream) -> list[tuple[bytes, Group]]:
    return sorted(stream.groups.items())


def _entry(id: ID, words: tuple[bytes, ...]) -> list[Any]:
    return [format_id(id), list(words)]


def _position(stream: Stream, group: Group) -> Facts:
    """How far a group has come."""
    return {
        b"last-delivered-id": format_id(group.last_id),
        b"entries-read": None if group.entries_read == UNKNOWN else group.entries_read,
        b"lag": stream.lag(group),
    }


def _full_group(stream: Stream, name: bytes, group: Group, most: int | None) -> Facts:
    return {
        b"name": name,
        **_position(stream, group),
        b"pel-count": len(group.pending),
        b"pending": [
            [format_id(id), one.consumer.name, one.delivered_ms, one.count]
            for id, one in islice(group.pending.items(), most)
        ],
        b"consumers": [
            {
                b"name": each,
                b"seen-time": consumer.seen_ms,
                b"active-time": consumer.active_ms,
                b"pel-count": len(consumer.pending),
                b"pending": [
                    [format_id(id), one.delivered_ms, one.count]
                    for id, one in islice(consumer.pending.items(), most)
                ],
            }
            for each, consumer in sorted(group.consumers.items())
        ],
    }


def _named(facts: Facts) -> dict[str, Any]:
    """As redis-py returns it."""
    return {name.decode(): value for name, value in facts.items()}
