"""The same random commands to kvstore and to real servers: the same bytes back.

Each family's grammar (tests/differential/) is run two ways: as seeded sequences, which are shrunk and
printed as redis-cli lines when they fail, and as a state machine whose steps hypothesis chooses and shrinks.
``--heavy`` takes the large sizes; KVSTORE_TEST_SEED repeats a run, and so does
``python -m tests.differential --family F --seed S``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.conftest import require
from tests.differential import grammar as grammars
from tests.differential.runner import Pair, _Run, left_as_it_was, minimal, report
from tests.servers import Server

COMMANDS, HEAVY_COMMANDS = 1_500, 50_000
EXAMPLES, HEAVY_EXAMPLES = 6, 150
LENGTH = 100  # commands in a sequence


PAIRS = [
    (family, reference) for family in grammars.families() for reference in grammars.load(family).references
]


def reference_server(name: str, request: pytest.FixtureRequest) -> Server:
    require(name)
    server = request.getfixturevalue(f"{name}_server")
    assert isinstance(server, Server)
    return server


@contextmanager
def compared(ours: Server, theirs: Server, family: str, protocol: int) -> Iterator[Pair]:
    """The pair under the family's configuration, which is taken back afterwards."""
    grammar = grammars.load(family)
    with left_as_it_was(ours, grammar), left_as_it_was(theirs, grammar):
        yield Pair(ours, theirs, grammar, protocol)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(("family", "reference"), PAIRS)
def test_random_commands_get_the_same_bytes(
    family: str,
    reference: str,
    protocol: int,
    kvstore_server: Server,
    heavy: bool,
    request: pytest.FixtureRequest,
) -> None:
    theirs = reference_server(reference, request)
    seed = int(os.environ.get("KVSTORE_TEST_SEED") or random.randrange(1_000_000))
    print("KVSTORE_TEST_SEED =", seed)
    with compared(kvstore_server, theirs, family, protocol) as pair:
        for number in range((HEAVY_COMMANDS if heavy else COMMANDS) // LENGTH):
            groups = pair.sequence(f"{seed}:{number}", LENGTH)
            mismatch = pair.run(groups)
            if mismatch is not None:
                pytest.fail(report(pair, *minimal(pair, groups, mismatch)))


class Commands(RuleBasedStateMachine):
    """Steps of a grammar, drawn by hypothesis; both servers' data are compared at the end."""

    pair: Pair

    def __init__(self) -> None:
        super().__init__()
        self.run = _Run(self.pair)
        self.at = 0

    @rule(seed=st.integers(0, 1 << 32))
    def commands(self, seed: int) -> None:
        for step in self.pair.grammar.group(random.Random(seed), self.pair.names):
            mismatch = self.run.step(self.at, step)
            assert mismatch is None, (step, mismatch)
            self.at += 1

    def teardown(self) -> None:
        try:
            mismatch = self.run.compare_data()
        finally:
            self.run.close()
        assert mismatch is None, mismatch


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("family", grammars.families())
def test_commands_chosen_by_hypothesis_get_the_same_bytes(
    family: str, valkey_server: Server, kvstore_server: Server, heavy: bool
) -> None:
    with compared(kvstore_server, valkey_server, family, random.choice((2, 3))) as pair:
        machine = type("FamilyCommands", (Commands,), {"pair": pair})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=HEAVY_EXAMPLES if heavy else EXAMPLES,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
