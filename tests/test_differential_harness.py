"""The differential tests can be trusted: they find a difference, shrink it, and print what replays it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import servers
from tests.differential import grammar as grammars
from tests.differential.grammar import Step, step
from tests.differential.runner import Pair, minimal, parse_line, redis_cli_line, report, shrink
from tests.rawclient import encode, parse, reply_end
from tests.servers import Server

REPLIES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":-12\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n:1\r\n*1\r\n$1\r\nx\r\n_\r\n",
    b"%2\r\n+a\r\n,1.5\r\n+b\r\n~2\r\n#t\r\n#f\r\n",
    b">2\r\n+message\r\n=8\r\ntxt:a\r\nb\r\n",
    b"|1\r\n+ttl\r\n:3600\r\n*2\r\n(12345678901234567890\r\n+x\r\n",
]


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_ends_where_it_ends_and_not_before(reply: bytes) -> None:
    assert [reply_end(reply[:size]) for size in range(len(reply))] == [-1] * len(reply)
    assert reply_end(reply + b"+next\r\n") == len(reply)
    parse(reply)


def test_an_attribute_is_read_with_its_reply_and_left_out_of_the_tree() -> None:
    assert [node.text for node in parse(REPLIES[-1]).items or ()] == [b"12345678901234567890", b"x"]


@given(st.lists(st.binary(max_size=20), min_size=1), st.integers(0, 9))
def test_a_printed_step_reads_back(words: list[bytes], on: int) -> None:
    assert parse_line(redis_cli_line(Step(tuple(words), on))) == Step(tuple(words), on)


@given(st.lists(st.binary(max_size=40)))
def test_a_request_is_one_array(words: list[bytes]) -> None:
    assert [node.text for node in parse(encode(*words)).items or ()] == words


@given(st.sets(st.integers(0, 99), min_size=1, max_size=4))
def test_shrinking_leaves_only_what_is_needed(needed: set[int]) -> None:
    groups = [(step("SET", "key", number),) for number in range(100)]
    wanted = {groups[number] for number in needed}
    assert set(shrink(groups, lambda some: wanted <= set(some))) == wanted


def test_a_seed_is_the_whole_sequence() -> None:
    for family in grammars.families():
        grammar = grammars.load(family)
        first, again = (random.Random(7) for _ in range(2))
        for _ in range(200):
            assert grammar.group(first) == grammar.group(again)


def test_a_difference_is_found_shrunk_and_replayed(valkey_server: Server) -> None:
    with servers.running("valkey", options={"databases": "1"}) as odd:
        pair = Pair(odd, valkey_server, grammars.load("generic"), 2)
        groups = next(groups for n in range(20) if pair.run(groups := pair.sequence(f"5:{n}", 100)))
        found = pair.run(groups)
        assert found is not None
        shrunk, mismatch = minimal(pair, groups, found)
        assert len(shrunk) <= 3
        assert mismatch.signature == found.signature
        lines = [
            line.strip() for line in report(pair, shrunk, mismatch).splitlines() if line.startswith("  ")
        ]
        replayed = pair.run([(parse_line(line),) for line in lines])
        assert replayed is not None
        assert replayed.signature == found.signature
        agreeing = Pair(odd, valkey_server, grammars.load("strings"), 3)
        assert agreeing.run([(step("SET", "a", "1"),), (step("GET", "a"),)]) is None
