"""The same random commands to a fake and to real servers, through a client library: the same objects.

What ``test_differential`` does with bytes is done here with what redis-py's connections give, sync and asyncio. A
failing sequence is shrunk and printed as redis-cli lines; KVSTORE_TEST_SEED repeats a run, ``--heavy`` takes the
large sizes.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import pytest

from tests.differential.compare import Exchange, Known
from tests.differential.grammar import Grammar
from tests.differential.objects import ObjectServer
from tests.differential.runner import minimal, report
from tests.test_differential import LENGTH, PAIRS, compared, reference_server

COMMANDS, HEAVY_COMMANDS = 400, 20_000


def names_a_stream_twice(exchange: Exchange) -> bool:
    words = [word.upper() for word in exchange.argv]
    after = exchange.argv[words.index(b"STREAMS") + 1 :] if b"STREAMS" in words else ()
    keys = after[: len(after) // 2]
    return len(set(keys)) < len(keys)


def read_by_hiredis(reference: str) -> Known:
    """hiredis gives the value of a key that a map has twice to another key; a fake, as other parsers, keeps the last."""
    return Known(reference, {"XREAD", "XREADGROUP"}, "a map that has a key twice", names_a_stream_twice)


def until_the_end(grammar: Grammar) -> Grammar:
    """A server that kills a client loses what the same transaction has sent to it before; a fake has given it."""
    judge = grammar.arrivals or (lambda argv, ours, theirs: False)

    def arrivals(argv: tuple[bytes, ...], ours: list[bytes], theirs: list[bytes]) -> bool:
        if ours[-1:] == theirs[-1:] == [b"(connection closed)"]:
            return ours[: len(theirs) - 1] == theirs[:-1]
        return judge(argv, ours, theirs)

    return replace(grammar, arrivals=arrivals)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(("family", "reference"), PAIRS)
def test_random_commands_give_the_same_objects(
    family: str, reference: str, protocol: int, kind: str, heavy: bool, request: pytest.FixtureRequest
) -> None:
    theirs: Any = ObjectServer(reference_server(reference, request), asyncio=kind == "asyncio")
    ours: Any = ObjectServer(None, asyncio=kind == "asyncio")
    seed = int(os.environ.get("KVSTORE_TEST_SEED") or random.randrange(1_000_000))
    print("KVSTORE_TEST_SEED =", seed)
    with compared(ours, theirs, family, protocol) as pair:
        pair.grammar = until_the_end(pair.grammar)
        pair.known.append(read_by_hiredis(reference))
        for number in range((HEAVY_COMMANDS if heavy else COMMANDS) // LENGTH):
            groups = pair.sequence(f"{seed}:{number}", LENGTH)
            mismatch = pair.run(groups)
            if mismatch is not None:
                pytest.fail(report(pair, *minimal(pair, groups, mismatch)))


def test_a_difference_between_a_fake_and_a_server_is_found(request: pytest.FixtureRequest) -> None:
    """The comparison can fail: another limit of listpacks shows."""
    theirs: Any = ObjectServer(reference_server("valkey", request))
    ours: Any = ObjectServer(None)
    with compared(ours, theirs, "hashes", 3) as pair:
        with ours.client() as client:
            client.call("CONFIG", "SET", "hash-max-listpack-entries", "1")
        assert any(pair.run(pair.sequence(f"5:{number}", LENGTH)) for number in range(20))
