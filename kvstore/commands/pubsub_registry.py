"""Who is subscribed to what: channels, patterns, shard channels.

Invariant: a session is in a channel's subscribers exactly while the channel is in its own
``channels`` (``patterns``, ``shard_channels``); no channel stays without subscribers.

Must not know: commands, sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvstore.glob import compile_glob
from kvstore.resp import Push

if TYPE_CHECKING:
    from kvstore.commands.kinds import Codec
    from kvstore.commands.session import Session

Subscribers = dict["Session", None]


class Channels:
    def __init__(self) -> None:
        self.plain: dict[bytes, Subscribers] = {}
        self.sharded: dict[bytes, Subscribers] = {}
        self.patterns: dict[bytes, tuple[Callable[[bytes], bool], Subscribers]] = {}

    def subscribe(self, session: Session, channel: bytes) -> None:
        session.channels[channel] = None
        self.plain.setdefault(channel, {})[session] = None

    def unsubscribe(self, session: Session, channel: bytes) -> None:
        if session.channels.pop(channel, 0) is None:
            _leave(self.plain, channel, session)

    def subscribe_shard(self, session: Session, channel: bytes) -> None:
        session.shard_channels[channel] = None
        self.sharded.setdefault(channel, {})[session] = None

    def unsubscribe_shard(self, session: Session, channel: bytes) -> None:
        if session.shard_channels.pop(channel, 0) is None:
            _leave(self.sharded, channel, session)

    def subscribe_pattern(self, session: Session, pattern: bytes) -> None:
        session.patterns[pattern] = None
        if pattern not in self.patterns:
            self.patterns[pattern] = (compile_glob(pattern), {})
        self.patterns[pattern][1][session] = None

    def unsubscribe_pattern(self, session: Session, pattern: bytes) -> None:
        if session.patterns.pop(pattern, 0) is None:
            subscribers = self.patterns[pattern][1]
            del subscribers[session]
            if not subscribers:
                del self.patterns[pattern]

    def forget(self, session: Session) -> None:
        for channel in list(session.channels):
            self.unsubscribe(session, channel)
        for channel in list(session.shard_channels):
            self.unsubscribe_shard(session, channel)
        for pattern in list(session.patterns):
            self.unsubscribe_pattern(session, pattern)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send to the channel's subscribers and to matching patterns; how many got it.

        O(subscribers + patterns); each message is encoded once for each protocol.
        """
        count = 0
        subscribers = self.plain.get(channel)
        if subscribers:
            count = _send(subscribers, [b"message", channel, message])
        for pattern, (matches, pattern_subscribers) in list(self.patterns.items()):
            if matches(channel):
                count += _send(pattern_subscribers, [b"pmessage", pattern, channel, message])
        return count

    def publish_shard(self, channel: bytes, message: bytes) -> int:
        subscribers = self.sharded.get(channel)
        return _send(subscribers, [b"smessage", channel, message]) if subscribers else 0


def _leave(channels: dict[bytes, Subscribers], channel: bytes, session: Session) -> None:
    subscribers = channels[channel]
    del subscribers[session]
    if not subscribers:
        del channels[channel]


def _send(subscribers: Subscribers, words: list[bytes]) -> int:
    encoded: dict[Codec, Any] = {}
    for session in subscribers:
        codec = session.codec
        message = encoded.get(codec)
        if message is None:
            message = encoded[codec] = codec.encode(Push(words))
        session.push(message)
    return len(subscribers)
