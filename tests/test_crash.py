"""Power cuts and kills at every operation of the disk: what was answered is there, and no unit is torn."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.persist.files import Files
from kvstore.persist.settings import Settings
from kvstore.persist.worker import InlineWorker
from tests.crashing import DIRECTORY, SNAPSHOT, NoLock, Way, Work, digest
from tests.laws import START_MS, Digest
from tests.memfs import Crash, MemFS
from tests.seeds import new_seed

ACTIONS = 40
GAPS = "zeros"


def begin(way: Way, seed: int, crash_at: int | None = None) -> Work:
    fs = MemFS(DIRECTORY, seed=seed)
    fs.crash_at(crash_at)
    return Work(fs, way, seed)


def crashes(work: Work, actions: int, start: bool = False) -> bool:
    """Go on; whether the machine stopped meanwhile."""
    try:
        if start:
            work.start()
        work.go_on(actions)
    except Crash:
        return True
    return False


def survive(work: Work, rng: random.Random, killed: bool) -> Work:
    """What is left opens, also when the machine stops while it is being opened; the work goes on there."""
    left = work.fs.kill() if killed else work.fs.crash(rng, GAPS)
    if rng.random() < 0.3:
        left.crash_at(left.operations + rng.randrange(1, 12))
        try:
            again = work.reopen(left, killed=killed)
        except Crash:
            left = left.kill() if killed else left.crash(rng, GAPS)
        else:
            left.crash_at(None)
            return again
    return work.reopen(left, killed=killed)


def operations_of(way: Way, seed: int) -> int:
    work = begin(way, seed)
    assert not crashes(work, ACTIONS, start=True)
    return work.fs.operations


def crash_twice(way: Way, seed: int, at: int, killed: bool) -> None:
    """The machine stops at an operation, and again at some operation of the work after the next start."""
    work = begin(way, seed, at)
    crashes(work, ACTIONS, start=True)
    rng = random.Random(seed + at)
    for _ in range(2):
        work = survive(work, rng, killed)
        work.fs.crash_at(work.fs.operations + rng.randrange(1, 200))
        crashes(work, ACTIONS // 2)
    survive(work, rng, killed and rng.random() < 0.5)


WAYS = [
    Way("always"),
    Way("always", immediate=True),
    Way("always", immediate=True, late=True, rdb_base=False),
    Way("everysec", late=True),
    Way("everysec", immediate=True, late=True),
    Way("no", rdb_base=False, late=True, timestamps=True),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_power_cut_at_any_operation_loses_nothing_that_was_promised(way: Way, heavy: bool) -> None:
    seed = new_seed()
    for number in range(40 if heavy else 1):
        operations = operations_of(way, seed + number)
        for at in range(1, operations + 1, 1 if heavy else max(1, operations // 40)):
            crash_twice(way, seed + number, at, killed=False)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_kill_at_any_operation_loses_nothing_that_was_answered(way: Way, heavy: bool) -> None:
    seed = new_seed()
    operations = operations_of(way, seed)
    for at in range(1, operations + 1, 1 if heavy else max(1, operations // 15)):
        crash_twice(way, seed, at, killed=True)


def test_random_ways_of_use_change_with_each_start(heavy: bool) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    for _ in range(1000 if heavy else 15):
        work = begin(Way.random(rng), rng.randrange(1 << 32), rng.randrange(1, 600))
        crashes(work, 80, start=True)
        for _ in range(4):
            killed = rng.random() < 0.4
            left = work.fs.kill() if killed else work.fs.crash(rng, GAPS)
            work = work.reopen(left, killed=killed, way=Way.random(rng))
            work.fs.crash_at(work.fs.operations + rng.randrange(1, 400))
            crashes(work, 60)


def snapshots_only(fs: MemFS) -> tuple[Context, Files]:
    ctx = Context(Database, clock=ManualClock(START_MS))
    files = Files(ctx, Settings(dir=DIRECTORY), fs=fs, worker=InlineWorker(), lock=NoLock)
    return ctx, files


def test_a_snapshot_is_the_old_or_the_new_one_at_every_operation(heavy: bool) -> None:
    """A store without a log, saved again and again: in the background, while it changes, or at once."""
    seed = new_seed()
    rng = random.Random(seed)
    for at in range(1, 120):
        fs = MemFS(DIRECTORY)
        fs.crash_at(at)
        ctx, files = snapshots_only(fs)
        may_be: list[Digest] = [{}]
        try:
            files.load_now()
            for round_ in range(6):
                for number in range(rng.randrange(1, 60)):
                    ctx.database(number % 3).set(f"k{number}", rng.randbytes(rng.randrange(2000)))
                may_be.append(digest(ctx))
                if round_ % 2:
                    files.save()
                else:
                    files.start_save()
                    ctx.database(0).set("k0", "changed meanwhile")
                    files.jobs.finish()
                del may_be[:-1]
        except Crash:
            pass
        for _ in range(20 if heavy else 4):
            left = fs.crash(rng, GAPS)
            again, files = snapshots_only(left)
            files.load_now()
            assert digest(again) in may_be, at
            # What the crash left behind is not in the way of the next one.
            files.save()
            assert left.exists(SNAPSHOT)


def test_the_promise_of_a_policy_is_the_one_of_its_name() -> None:
    """The checks are worth something: without syncs a power cut does lose what was answered."""
    lost = 0
    for seed in range(30):
        work = begin(Way("no"), seed)
        crashes(work, 10, start=True)
        left = work.fs.crash(random.Random(seed), GAPS)
        work.way = replace(work.way, policy="always")
        try:
            work.reopen(left, killed=False)
        except AssertionError:
            lost += 1
    assert lost
