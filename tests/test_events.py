"""Keyspace events are those of a real server: the same names and keys, in the same order, command by command.

The commands are those of the differential grammars, but for those whose outcome is random.
"""

from __future__ import annotations

import random

import pytest

from tests.differential import grammar as grammars
from tests.differential.grammar import PROLOGUE, Grammar
from tests.differential.runner import left_as_it_was
from tests.rawclient import RawClient, parse
from tests.servers import Server

FAMILIES = "generic strings lists sets hashes zsets geo sort bitmaps hyperloglog functions".split()
RANDOM = {b"SPOP", b"RANDOMKEY"}
STEPS = 60


class Side:
    """A server, a client that runs commands, and one that hears of every event."""

    def __init__(self, server: Server, grammar: Grammar) -> None:
        self.client, self.listener = server.client(), server.client()
        for name, value in {**grammar.config, "notify-keyspace-events": "KEA"}.items():
            assert self.client.call("CONFIG", "SET", name, value) == b"+OK\r\n"
        self.client.call("FLUSHALL")
        for step in (*grammar.prologue, *PROLOGUE):
            self.client.call(*step.argv)
        self.listener.call("PSUBSCRIBE", "__keyevent@*")

    def run(self, argv: tuple[bytes, ...]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The reply, and the (channel, key) of each event of the command."""
        reply = self.client.call(*argv)
        return reply, _events_until_pong(self.listener)

    def close(self) -> None:
        self.client.call("CONFIG", "SET", "notify-keyspace-events", "")
        self.client.close()
        self.listener.close()


def _events_until_pong(listener: RawClient) -> list[tuple[bytes, bytes]]:
    events = []
    listener.send("PING")
    while True:
        items = parse(listener.read_reply_bytes()).items or ()
        if items[0].text == b"pong":
            return events
        events.append((items[2].text, items[3].text))


def _steps(grammar: Grammar, rng: random.Random) -> list[tuple[bytes, ...]]:
    """Commands without the groups that wait or scan, and without random ones."""
    found: list[tuple[bytes, ...]] = []
    while len(found) < STEPS:
        group = grammar.group(rng, frozenset(("kvstore", "valkey")))
        if not any(step.argv[0].startswith(b"@") or step.argv[0].upper() in RANDOM for step in group):
            found += [step.argv for step in group]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_events_are_those_of_the_server(
    family: str, kvstore_server: Server, valkey_server: Server, heavy: bool
) -> None:
    grammar = grammars.load(family)
    seed = random.SystemRandom().randrange(1 << 32)
    with left_as_it_was(kvstore_server, grammar), left_as_it_was(valkey_server, grammar):
        for number in range(100 if heavy else 4):
            print(f"seed {seed}:{number}")
            ours, theirs = Side(kvstore_server, grammar), Side(valkey_server, grammar)
            try:
                _compare(ours, theirs, _steps(grammar, random.Random(f"{seed}:{number}")))
            finally:
                ours.close()
                theirs.close()


def _compare(ours: Side, theirs: Side, steps: list[tuple[bytes, ...]]) -> None:
    for argv in steps:
        mine, other = ours.run(argv), theirs.run(argv)
        if any(name.endswith(b":expired") for name, _ in mine[1] + other[1]):
            break  # two servers do not expire a key at the same instant
        if mine[0].startswith(b"-") != other[0].startswith(b"-"):
            break  # a known difference; the differential tests judge replies
        assert mine[1] == other[1], (argv, mine, other)
