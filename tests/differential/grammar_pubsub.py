"""Publish and subscribe on six connections: who hears what, in which form and order, and what subscribers may do."""

from __future__ import annotations

import itertools

from tests.differential.compare import Exchange, unordered, unordered_pairs
from tests.differential.grammar import (
    VALUE,
    Grammar,
    Known,
    command,
    mostly,
    one_of,
    opt,
    pick,
    some,
)
from tests.rawclient import parse

_CHANNEL = mostly(pick("news", "noise", "n1", "__keyspace@0__:a"), pick("", b"\x00\r\n", "n*"), 0.08)
_PATTERN = mostly(pick("n*", "no?se", "n[a-z]ws", "*", "__key*__:*"), pick("", "[", "\\"), 0.05)
_SHARD = pick("s1", "s2")
_READER = (0, 1, 2)
_WRITER = (3, 4)
_BOTH = 5  # hears and publishes in one transaction; asks for nothing whose order is not defined


_NOT_SUBSCRIBED = b"-NOSUB "


def _same_news(argv: tuple[bytes, ...], ours: list[bytes], theirs: list[bytes]) -> bool:
    """The same, where the order of several patterns' messages, or of all channels left at once, is a table's."""
    if any(reply.startswith(_NOT_SUBSCRIBED) for reply in theirs):
        return True
    if argv[0].upper().endswith(b"UNSUBSCRIBE") and len(argv) == 1:
        return len(ours) == len(theirs) and sorted(map(_name, ours)) == sorted(map(_name, theirs))
    return _by_message(ours) == _by_message(theirs)


def _by_message(replies: list[bytes]) -> list[list[bytes]]:
    """The replies in order, where one message's copies for several patterns are in no order."""
    runs = itertools.groupby(
        replies, key=lambda reply: [item.text for item in (parse(reply).items or ())[-2:]]
    )
    return [sorted(run) for _, run in runs]


def _name(reply: bytes) -> bytes:
    """The channel that was left, without the count of those that are left over."""
    return reply[: reply.rindex(b":")]


def _not_subscribed(exchange: Exchange) -> bool:
    return exchange.theirs.startswith(_NOT_SUBSCRIBED)


GRAMMAR = Grammar(
    "pubsub",
    [
        command("SUBSCRIBE", some(_CHANNEL, 1, 2), weight=4, on=_READER),
        command("PSUBSCRIBE", _PATTERN, weight=3, on=_READER),
        command("SSUBSCRIBE", some(_SHARD, 1, 2), weight=2, on=_READER),
        # Of all at once, where there are several, the order is not defined: name them.
        command("UNSUBSCRIBE", some(_CHANNEL, 1, 2), weight=2, on=_READER),
        command("PUNSUBSCRIBE", _PATTERN, weight=2, on=_READER),
        command("SUNSUBSCRIBE", _SHARD, weight=1.5, on=_READER),
        command("PUBLISH", _CHANNEL, VALUE, weight=8, on=_WRITER),
        command("PUBLISH", _CHANNEL, VALUE, on=_READER),
        command("SPUBLISH", _SHARD, VALUE, weight=3, on=_WRITER),
        command("PUBSUB CHANNELS", opt(_PATTERN), compare=unordered, on=_WRITER),
        command("PUBSUB SHARDCHANNELS", opt(_PATTERN), compare=unordered, on=_WRITER),
        command("PUBSUB NUMSUB", some(_CHANNEL, 0, 2), compare=unordered_pairs, on=_WRITER),
        command("PUBSUB SHARDNUMSUB", some(_SHARD, 0, 2), on=_WRITER),
        command("PUBSUB NUMPAT", on=_WRITER),
        command("PUBSUB", pick("NOPE", "")),
        command("CONFIG SET", "notify-keyspace-events", pick("KEA", "", "E$", "Kg"), weight=0.5, on=_WRITER),
        command("SET", pick("a", "b"), VALUE, weight=2, on=_WRITER),
        command("DEL", pick("a", "b"), on=_WRITER),
        command("MULTI", on=_WRITER),
        command("EXEC", weight=2, on=_WRITER),
        command("MULTI", weight=1.5, on=_BOTH),
        command("EXEC", weight=2, on=_BOTH),
        command("SUBSCRIBE", _CHANNEL, weight=0.5, on=_BOTH),
        command("PSUBSCRIBE", _PATTERN, weight=0.3, on=_BOTH),
        command("PUBLISH", _CHANNEL, VALUE, weight=2, on=_BOTH),
        command("SPUBLISH", _SHARD, VALUE, on=_BOTH),
        command("SET", pick("a", "b"), VALUE, on=_BOTH),
        command("CONFIG SET", "notify-keyspace-events", pick("KEA", "KEA", ""), weight=0.3, on=_BOTH),
        command("@KILL", _BOTH, weight=0.2, on=_WRITER),
        command("PING", opt(VALUE), weight=2, on=_READER),
        command("GET", pick("a", "b"), weight=1.5, on=_READER),
        command("ECHO", VALUE, on=_READER),
        command("RESET", weight=0.5, on=_READER),
        command("QUIT", weight=0.2, on=_READER),
        command("@KILL", one_of(0, 1, 2), weight=0.3, on=_WRITER),
    ],
    connections=6,
    settle=True,
    common=(),
    config={"notify-keyspace-events": ""},
    references=("valkey",),  # 7.0 answers a publisher that hears itself after its own message
    arrivals=_same_news,
    known=[
        Known(
            "valkey",
            {"UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"},
            "valkey 8 refuses to leave what was not joined; 7.2 answers",
            _not_subscribed,
        )
    ],
)
