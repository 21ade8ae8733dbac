"""Subscriptions of a Store, with redis-py's interface, in the thread of the store.

Messages arrive while other calls of the same thread publish; ``get_message()`` never waits, as
nothing could arrive meanwhile, and ``listen()`` ends when there is nothing left.

Must not know: how channels are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kvstore.engine.keyspace import KeyT, to_bytes
from kvstore.resp import Push

if TYPE_CHECKING:
    from kvstore.store import Store

Handler = Callable[[dict[str, Any]], None]
_CONFIRMATIONS = ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe")


class PubSub:
    """Channels and patterns with their handlers, and the messages that came."""

    def __init__(self, store: Store, ignore_subscribe_messages: bool = False, **kwargs: Any):
        self._session = store.new_session()
        self._session.set_protocol(3)  # where pushes are told from replies
        self._decode = bool(getattr(store, "decode_responses", False))
        self.ignore_subscribe_messages = ignore_subscribe_messages
        self.channels: dict[bytes, Handler | None] = {}
        self.patterns: dict[bytes, Handler | None] = {}
        self.shard_channels: dict[bytes, Handler | None] = {}

    @property
    def subscribed(self) -> bool:
        """Whether any channel or pattern is subscribed."""
        return bool(self._session.subscriptions)

    def subscribe(self, *args: KeyT, **kwargs: Handler) -> None:
        """Listen to channels; keywords give a handler for each message."""
        self._join(b"SUBSCRIBE", self.channels, args, kwargs)

    def psubscribe(self, *args: KeyT, **kwargs: Handler) -> None:
        """Listen to patterns of channels."""
        self._join(b"PSUBSCRIBE", self.patterns, args, kwargs)

    def ssubscribe(self, *args: KeyT, **kwargs: Handler) -> None:
        """Listen to shard channels."""
        self._join(b"SSUBSCRIBE", self.shard_channels, args, kwargs)

    def unsubscribe(self, *args: KeyT) -> None:
        """Stop listening to channels, or to all."""
        self._leave(b"UNSUBSCRIBE", self.channels, args)

    def punsubscribe(self, *args: KeyT) -> None:
        """Stop listening to patterns, or to all."""
        self._leave(b"PUNSUBSCRIBE", self.patterns, args)

    def sunsubscribe(self, *args: KeyT) -> None:
        """Stop listening to shard channels, or to all."""
        self._leave(b"SUNSUBSCRIBE", self.shard_channels, args)

    def _join(
        self,
        command: bytes,
        mine: dict[bytes, Handler | None],
        names: tuple[KeyT, ...],
        handlers: dict[str, Handler],
    ) -> None:
        flat = [name for group in names for name in (group if isinstance(group, (list, tuple)) else (group,))]
        wanted: dict[bytes, Handler | None] = {to_bytes(name): None for name in flat}
        wanted.update({name.encode(): handler for name, handler in handlers.items()})
        mine.update(wanted)
        self._session.call([command, *wanted])

    def _leave(self, command: bytes, mine: dict[bytes, Handler | None], names: tuple[KeyT, ...]) -> None:
        self._session.call([command, *map(to_bytes, names)])

    def get_message(
        self, ignore_subscribe_messages: bool = False, timeout: float | None = 0.0
    ) -> dict[str, Any] | None:
        """The next message as redis-py has it, or None. Messages with a handler go to it, and give None."""
        self._session.hub.settle()  # events of the Store's own methods
        out = self._session.out
        while out:
            message = out.pop(0)
            if isinstance(message, Push):
                return self._handle(message, ignore_subscribe_messages)
        return None

    def listen(self) -> Iterator[dict[str, Any]]:
        """The messages that have come, while something is subscribed."""
        self._session.hub.settle()  # events of the Store's own methods
        while self._session.out:
            message = self.get_message()
            if message is not None:
                yield message

    def _handle(self, push: Push, ignore_subscribe_messages: bool) -> dict[str, Any] | None:
        kind = push[0].decode()
        pattern = push[1] if kind == "pmessage" else None
        channel, data = push[-2], push[-1]
        message = {"type": kind, "pattern": pattern, "channel": channel, "data": data}
        if self._decode:
            message = {
                name: value.decode() if isinstance(value, bytes) else value for name, value in message.items()
            }
        if kind in _CONFIRMATIONS:
            if kind.endswith("unsubscribe") and channel is not None:
                self._handlers_of(kind).pop(channel, None)
            ignored = ignore_subscribe_messages or self.ignore_subscribe_messages
            return None if ignored else message
        handler = self._handlers_of(kind).get(pattern if pattern is not None else channel)
        if handler is None:
            return message
        handler(message)
        return None

    def _handlers_of(self, kind: str) -> dict[bytes, Handler | None]:
        return {"p": self.patterns, "s": self.shard_channels}.get(
            kind[0] if kind[1:] in ("message", "subscribe", "unsubscribe") else "", self.channels
        )

    def ping(self, message: KeyT = "") -> bool:
        """True: the subscriber is there."""
        return True

    def reset(self) -> None:
        """Leave all channels and patterns, and drop what has come."""
        for leave in (self.unsubscribe, self.punsubscribe, self.sunsubscribe):
            leave()
        self._session.out.clear()
        self.channels, self.patterns, self.shard_channels = {}, {}, {}

    def close(self) -> None:
        """Leave everything for good."""
        self._session.close()

    def __del__(self) -> None:
        if hasattr(self, "_session"):
            self.close()  # or messages would go on gathering

    def __enter__(self) -> PubSub:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
