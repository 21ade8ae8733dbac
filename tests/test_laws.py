"""The two laws (and that of snapshots) over random commands of every family, in many configurations."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.eviction import POLICIES
from tests.differential import grammar as grammars
from tests.differential.grammar import Grammar, Step
from tests.laws import START_MS, Lawful, Recorder, digest, replay
from tests.seeds import new_seed

# Grammars of what has no part in the laws: connections, not data.
NOT_DATA = {"tx", "blocking", "stream_blocking", "pubsub"}
FAMILIES = [name for name in grammars.families() if name not in NOT_DATA]
LIMITS_OF: dict[str, int] = {
    "hash_max_listpack_entries": 4,
    "hash_max_listpack_value": 16,
    "set_max_intset_entries": 4,
    "set_max_listpack_entries": 6,
    "set_max_listpack_value": 16,
    "zset_max_listpack_entries": 4,
    "zset_max_listpack_value": 16,
    "list_max_listpack_size": 4,
}


@dataclass(frozen=True)
class Configuration:
    small_limits: bool
    policy: str
    maxmemory: int
    ordered: bool  # scan orders are made at the start
    active_expire: bool
    step_ms: int  # time between two commands

    def make(self, seed: int) -> Lawful:
        ctx = Context(Database, databases=4, clock=ManualClock(START_MS), random=random.Random(seed))
        ctx.active_expire = self.active_expire
        if self.small_limits:
            for name, value in LIMITS_OF.items():
                setattr(ctx.limits, name, value)
        ctx.evictor.configure(policy=self.policy, maxmemory=self.maxmemory)
        if self.ordered:
            for index in range(ctx.count):
                ctx.database(index)._scan_order()
                ctx.database(index)._volatile_order()
        return Lawful(ctx)


configurations = st.builds(
    Configuration,
    small_limits=st.booleans(),
    policy=st.sampled_from(POLICIES),
    maxmemory=st.sampled_from([0, 0, 1500, 4000]),
    ordered=st.booleans(),
    active_expire=st.booleans(),
    step_ms=st.sampled_from([0, 1, 40, 200_000]),
)


def run_steps(lawful: Lawful, grammar: Grammar, rng: random.Random, steps: int, step_ms: int) -> None:
    """Random steps of a grammar, a snapshot over the middle third of them."""
    clock = lawful.ctx.clock
    assert isinstance(clock, ManualClock)
    for number in range(steps):
        if number == steps // 3:
            lawful.start_snapshot()
        if number == 2 * steps // 3:
            lawful.finish_snapshot()
        for step in grammar.group(rng):
            run_step(lawful, step, clock)
        clock.advance(ms=step_ms)
        if number % 8 == 7:
            for db in list(lawful.ctx.databases.values()):
                db.expire_due(rng.randrange(1, 4))


def run_step(lawful: Lawful, step: Step, clock: ManualClock) -> None:
    name = step.argv[0].upper()
    if name == b"@PAUSE":
        clock.advance(ms=int(step.argv[1]))
    elif name == b"@SCAN":
        scan_all(lawful, step.argv[1:])
    else:
        lawful.run(*step.argv)


def scan_all(lawful: Lawful, argv: tuple[bytes, ...]) -> None:
    head = argv[:1] if argv[0].upper() == b"SCAN" else argv[:2]
    cursor: Any = b"0"
    for _ in range(1000):
        reply = lawful.run(*head, cursor, *argv[len(head) :])
        if not isinstance(reply, list) or reply[0] == b"0":
            return
        cursor = reply[0]
    raise AssertionError("the scan does not end")


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(configuration=configurations, seed=st.integers(0, 1 << 32))
def test_every_change_is_committed_and_its_effects_repeat_it(
    family: str, configuration: Configuration, seed: int
) -> None:
    grammar = grammars.load(family)
    lawful = configuration.make(seed)
    for step in grammars.PROLOGUE:
        lawful.run(*step.argv)
    run_steps(lawful, grammar, random.Random(seed), 60, configuration.step_ms)


def test_all_families_together(heavy: bool) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    everything = [grammars.load(name) for name in FAMILIES]
    for _ in range(200 if heavy else 10):
        configuration = Configuration(
            small_limits=rng.random() < 0.7,
            policy=rng.choice(POLICIES),
            maxmemory=rng.choice((0, 3000, 10_000)),
            ordered=rng.random() < 0.5,
            active_expire=rng.random() < 0.5,
            step_ms=rng.choice((0, 1, 50, 100_000)),
        )
        lawful = configuration.make(seed)
        for _ in range(20):
            run_steps(lawful, rng.choice(everything), rng, 12, configuration.step_ms)


def test_replay_of_recorded_effects_gives_the_same_data() -> None:
    ctx = Context(Database, clock=ManualClock(START_MS))
    recorder = Recorder()
    ctx.listen(recorder)
    db = ctx.database(0)
    db.append("a", "1")
    db.expire("a", 100)
    db.copy("a", "b", 1)
    db.move("a", 2)
    db.swapdb(0, 1)
    assert digest(replay(recorder.effects)) == digest(ctx)
    assert digest(ctx) == {
        (0, b"b"): ("string", b"1", START_MS + 100_000),
        (2, b"a"): ("string", b"1", START_MS + 100_000),
    }
