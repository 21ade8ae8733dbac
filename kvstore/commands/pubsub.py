"""SUBSCRIBE and its forms, PUBLISH, PUBSUB.

A subscription is answered by one push for each channel. On the wire these pushes together are the reply, so
that they stand where they belong inside the answer to EXEC; a client in this process finds them in ``out``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvstore.commands.help import add_help
from kvstore.commands.kinds import INT, TREE, Codec
from kvstore.commands.registry import NO_REPLY, Argv, Command, Family, Run, keys_at
from kvstore.errors import err
from kvstore.glob import compile_glob
from kvstore.resp import Push

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.pubsub_registry import Channels
    from kvstore.commands.session import Session

family = Family("pubsub")

_FLAGS = "pubsub noscript loading stale"
_SHARD_CHANNELS = keys_at(1, -1, 1, "NOT_KEY")
_SHARD_CHANNEL = keys_at(1, 1, 1, "NOT_KEY")

Subscribe = Callable[["Session", bytes], None]


def _answer(session: Session, pushes: list[Push]) -> Any:
    codec = session.codec
    if not codec.on_wire:
        session.out.extend(map(codec.encode, pushes))
        return NO_REPLY
    answer = b"".join(map(codec.encode, pushes))
    if session.reply != session.out.append and session.may_block:
        session.out.append(answer)  # CLIENT REPLY OFF and SKIP do not silence pushes
        session.reply(b"")
        return NO_REPLY
    return answer


def _counter(sharded: bool) -> Callable[[Session], int]:
    if sharded:
        return lambda session: len(session.shard_channels)
    return lambda session: len(session.channels) + len(session.patterns)


def _subscribing(word: bytes, subscribe: Callable[[Session, bytes], None], sharded: bool = False) -> Any:
    count = _counter(sharded)

    def compile_with(command: Command, codec: Codec) -> Run:
        def run(session: Session, argv: Argv) -> Any:
            if len(argv) < 2:
                raise command.wrong_arity()
            pushes = []
            for channel in argv[1:]:
                subscribe(session, channel)
                pushes.append(Push([word, channel, count(session)]))
            session.retable()
            return _answer(session, pushes)

        return run

    return compile_with


def _unsubscribing(
    word: bytes,
    unsubscribe: Callable[[Session, bytes], None],
    mine: Callable[[Session], dict[bytes, None]],
    sharded: bool = False,
) -> Any:
    count = _counter(sharded)

    def compile_with(command: Command, codec: Codec) -> Run:
        def run(session: Session, argv: Argv) -> Any:
            pushes = []
            for channel in argv[1:] or list(mine(session)):
                unsubscribe(session, channel)
                pushes.append(Push([word, channel, count(session)]))
            session.retable()
            return _answer(session, pushes or [Push([word, None, count(session)])])

        return run

    return compile_with


def _no_body(session: Session, argv: Argv) -> Any:
    raise AssertionError("subscriptions run by their compiled form")


def _bind(name: str, arity: int, since: str, compile_with: Any, doc: str, sharded: bool = False) -> None:
    def body(session: Session, argv: Argv) -> Any:
        return _no_body(session, argv)

    body.__doc__ = doc
    family.command(
        name,
        arity,
        _FLAGS,
        _SHARD_CHANNELS if sharded else (),
        kind=TREE,
        since=since,
        compile_with=compile_with,
    )(body)


_bind(
    "SUBSCRIBE",
    -2,
    "2.0.0",
    _subscribing(b"subscribe", lambda s, channel: s.hub.channels.subscribe(s, channel)),
    "Listen to channels. O(n) channels.",
)
_bind(
    "UNSUBSCRIBE",
    -1,
    "2.0.0",
    _unsubscribing(
        b"unsubscribe", lambda s, channel: s.hub.channels.unsubscribe(s, channel), lambda s: s.channels
    ),
    "Stop listening to channels, or to all. O(n) channels.",
)
_bind(
    "PSUBSCRIBE",
    -2,
    "2.0.0",
    _subscribing(b"psubscribe", lambda s, pattern: s.hub.channels.subscribe_pattern(s, pattern)),
    "Listen to the channels that match glob patterns. O(n) patterns.",
)
_bind(
    "PUNSUBSCRIBE",
    -1,
    "2.0.0",
    _unsubscribing(
        b"punsubscribe",
        lambda s, pattern: s.hub.channels.unsubscribe_pattern(s, pattern),
        lambda s: s.patterns,
    ),
    "Stop listening to patterns, or to all. O(n) patterns.",
)
_bind(
    "SSUBSCRIBE",
    -2,
    "7.0.0",
    _subscribing(b"ssubscribe", lambda s, channel: s.hub.channels.subscribe_shard(s, channel), sharded=True),
    "Listen to shard channels. O(n) channels.",
    sharded=True,
)
_bind(
    "SUNSUBSCRIBE",
    -1,
    "7.0.0",
    _unsubscribing(
        b"sunsubscribe",
        lambda s, channel: s.hub.channels.unsubscribe_shard(s, channel),
        lambda s: s.shard_channels,
        sharded=True,
    ),
    "Stop listening to shard channels, or to all. O(n) channels.",
    sharded=True,
)


def _after_notifications(hub: Hub) -> Channels:
    """The channels, once they carried what earlier commands of this unit caused."""
    if hub.notifications.queue:
        hub.notifications.send()
    return hub.channels


@family.command("PUBLISH", 3, "pubsub loading stale fast may_replicate", kind=INT, since="2.0.0")
def publish(session: Session, argv: Argv) -> int:
    """Send a message to a channel; how many clients got it. O(subscribers + patterns)."""
    return _after_notifications(session.hub).publish(argv[1], argv[2])


@family.command(
    "SPUBLISH", 3, "pubsub loading stale fast may_replicate", _SHARD_CHANNEL, kind=INT, since="7.0.0"
)
def spublish(session: Session, argv: Argv) -> int:
    """Send a message to a shard channel; how many clients got it. O(subscribers)."""
    return _after_notifications(session.hub).publish_shard(argv[1], argv[2])


container = family.container("PUBSUB", since="2.8.0")


def _matching(names: Any, argv: Argv) -> list[bytes]:
    if len(argv) > 3:
        word = argv[1].decode("utf-8", "surrogateescape")
        raise err(f"unknown subcommand or wrong number of arguments for '{word}'. Try PUBSUB HELP.")
    if len(argv) < 3:
        return list(names)
    matches = compile_glob(argv[2])
    return [name for name in names if matches(name)]


@family.command("PUBSUB CHANNELS", -2, "pubsub loading stale", kind=TREE, since="2.8.0")
def pubsub_channels(session: Session, argv: Argv) -> list[bytes]:
    """Channels that have subscribers, optionally those that match a pattern. O(n) channels."""
    return _matching(session.hub.channels.plain, argv)


@family.command("PUBSUB SHARDCHANNELS", -2, "pubsub loading stale", kind=TREE, since="7.0.0")
def pubsub_shardchannels(session: Session, argv: Argv) -> list[bytes]:
    """Shard channels that have subscribers, optionally those that match a pattern. O(n) channels."""
    return _matching(session.hub.channels.sharded, argv)


@family.command("PUBSUB NUMPAT", 2, "pubsub loading stale", kind=INT, since="2.8.0")
def pubsub_numpat(session: Session, argv: Argv) -> int:
    """How many patterns have subscribers. O(1)."""
    return len(session.hub.channels.patterns)


def _numsub(channels: dict[bytes, Any], names: list[bytes]) -> list[Any]:
    return [part for name in names for part in (name, len(channels.get(name, ())))]


@family.command("PUBSUB NUMSUB", -2, "pubsub loading stale", kind=TREE, since="2.8.0")
def pubsub_numsub(session: Session, argv: Argv) -> list[Any]:
    """Each named channel and how many subscribers it has. O(n) channels."""
    return _numsub(session.hub.channels.plain, argv[2:])


@family.command("PUBSUB SHARDNUMSUB", -2, "pubsub loading stale", kind=TREE, since="7.0.0")
def pubsub_shardnumsub(session: Session, argv: Argv) -> list[Any]:
    """Each named shard channel and how many subscribers it has. O(n) channels."""
    return _numsub(session.hub.channels.sharded, argv[2:])


add_help(
    Family("pubsub", ""),
    container,
    {
        "CHANNELS": "[<pattern>]",
        "NUMSUB": "[<channel> ...]",
        "SHARDCHANNELS": "[<pattern>]",
        "SHARDNUMSUB": "[<channel> ...]",
    },
    since="6.2.0",
)
