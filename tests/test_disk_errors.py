"""Disks that are full, that break and that come back: nothing that was answered is lost, nothing is answered
that was not written, and the store recovers by itself."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from kvstore.errors import FormatError, PersistenceError, StoreError
from tests.crashing import DIRECTORY, SNAPSHOT, Way, Work, digest
from tests.memfs import GROWING, MUTATIONS, MemFS
from tests.seeds import new_seed

Trouble = Callable[[MemFS, random.Random], None]


def _full(fs: MemFS, rng: random.Random) -> None:
    fs.fail_at(fs.operations + rng.randrange(1, 30), errno.ENOSPC, short=True, lasting=True, kinds=GROWING)


def _one_fails(fs: MemFS, rng: random.Random) -> None:
    fs.fail_at(fs.operations + rng.randrange(1, 60), errno.EIO, short=rng.random() < 0.3)


def _nothing_works(fs: MemFS, rng: random.Random) -> None:
    fs.fail_at(fs.operations + rng.randrange(1, 60), errno.EIO, lasting=True)


def _syncs_fail(fs: MemFS, rng: random.Random) -> None:
    kinds = rng.choice((["sync"], ["sync_dir"], ["sync", "sync_dir"]))
    fs.fail_at(fs.operations + rng.randrange(1, 30), errno.EIO, lasting=rng.random() < 0.5, kinds=kinds)


def _writes_cannot_be_taken_back(fs: MemFS, rng: random.Random) -> None:
    at = fs.operations + rng.randrange(1, 20)
    fs.fail_at(at, errno.ENOSPC, short=True, lasting=True, kinds=["write", "truncate"])


def _names_stay(fs: MemFS, rng: random.Random) -> None:
    kinds = rng.choice((["rename"], ["unlink"], ["create"], ["append"], ["rename", "unlink", "create"]))
    fs.fail_at(fs.operations + 1, errno.EIO, lasting=rng.random() < 0.5, kinds=kinds)


def _one_kind_of_file(fs: MemFS, rng: random.Random) -> None:
    fs.fail_at(
        fs.operations + 1, errno.EIO, lasting=True, under=rng.choice((".manifest", ".rdb", ".incr", ".base"))
    )


TROUBLES: list[Trouble] = [
    _full,
    _one_fails,
    _nothing_works,
    _syncs_fail,
    _writes_cannot_be_taken_back,
    _names_stay,
    _one_kind_of_file,
]


def endure(trouble: Trouble, way: Way, seed: int) -> None:
    """Work, trouble, and the end of it, some times; power cuts in the middle and at the end."""
    rng = random.Random(seed)
    work = Work(MemFS(DIRECTORY, seed=seed), way, seed)
    work.start()
    work.go_on(10)
    for _ in range(3):
        fs = work.fs
        trouble(fs, rng)
        work.go_on(rng.randrange(3, 25))
        # Whatever the state of it, another start would find all that was answered.
        killed = rng.random() < 0.5
        work.reopen(fs.kill() if killed else fs.crash(rng, "zeros"), killed=killed)
        work.go_on(rng.randrange(8))
        fs.heal()
        work.settle()
        log = work.files.log
        assert log is not None and log.error is None, f"{way}: still {log and log.error}"
        assert work.refused is None
        assert way.policy == "no" or log.synced == log.appended, (way, log.buffered, log.needs_rewrite)
        before = work.unsure
        work.go_on(5)
        assert work.unsure == before, "writes are refused although the disk is well again"
    killed = rng.random() < 0.3
    work.reopen(work.fs.kill() if killed else work.fs.crash(rng, "zeros"), killed=killed)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__.strip("_"))
def test_trouble_with_the_disk_loses_nothing_that_was_answered(trouble: Trouble, heavy: bool) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    for number in range(400 if heavy else 8):
        way = Way.random(rng, ("always", "everysec", "always", "no")[number % 4])
        endure(trouble, way, rng.randrange(1 << 32))


@pytest.mark.parametrize("immediate", [False, True])
def test_what_is_refused_is_answered_with_the_reason(immediate: bool) -> None:
    work = Work(MemFS(DIRECTORY), Way("always", immediate=immediate), 1)
    work.start()
    work.command([b"SET", b"before", b"1"])
    work.fs.fail_at(0, errno.ENOSPC, lasting=True, kinds=["write"])
    before = work.answers
    work.session.call([b"SET", b"a", b"1"])
    if immediate:
        for _ in range(3):
            assert b"No space left" in work.session.call([b"SET", b"a", b"2"])
        assert work.session.call([b"GET", b"w:nothing"]) is None
    else:
        assert not work.files.flush()
        assert work.refused is not None and "MISCONF" in work.refused and "No space left" in work.refused
    assert work.answers == before
    work.fs.heal()
    work.settle(2000)
    assert work.refused is None


def test_a_snapshot_that_fails_leaves_the_old_one_and_no_litter() -> None:
    for at in range(1, 12):
        work = Work(MemFS(DIRECTORY), Way("always"), 5)
        work.start()
        work.files.save()
        old, names = work.fs.read(SNAPSHOT), work.fs.listdir(DIRECTORY)
        work.command([b"SET", b"new", b"1"])
        kinds = MUTATIONS - {"unlink"}
        work.fs.fail_at(work.fs.operations + at, errno.ENOSPC, lasting=True, kinds=kinds)
        left = None
        try:
            work.files.save()
        except StoreError:
            work.fs.heal()
            left = work.fs.read(SNAPSHOT)
            assert work.fs.listdir(DIRECTORY) == names or at > 1
        work.fs.heal()
        work.files.save()
        new = work.fs.read(SNAPSHOT)
        assert new != old
        assert left in (None, old, new)  # the last: it has its name, but nobody knows whether for good
        assert [name for name in work.fs.listdir(DIRECTORY) if name.startswith("temp")] == []


def test_a_snapshot_that_ends_while_writes_are_refused_is_not_in_the_way_of_the_next() -> None:
    for mended_before_the_end in (True, False):
        work = Work(MemFS(DIRECTORY), Way("always", immediate=True), 6)
        work.start()
        for number in range(3):
            work.command([b"SET", b"a%d" % number, b"1"])
        work.files.start_save()
        work.fs.fail_at(0, errno.ENOSPC, lasting=True, kinds=["write"], under=".incr")
        for _ in range(2):  # the first finds out, the second is refused
            assert b"No space left" in work.session.call([b"SET", b"a0", b"2"])
        if mended_before_the_end:
            work.fs.heal()
            work.command([b"SET", b"a1", b"2"])
        work.files.jobs.finish()
        work.fs.heal()
        work.command([b"SET", b"a2", b"2"])
        assert all(db._before_change is None for db in work.ctx.databases.values())
        work.files.start_save()
        work.files.jobs.finish()
        assert work.files.figures.save.count == 2


def filled(way: Way) -> Work:
    """A store with a base, an increment and a snapshot, closed."""
    work = Work(MemFS(DIRECTORY), way, 7)
    work.start()
    work.go_on(20)
    work.files.jobs.finish()
    work.files.compact()
    work.go_on(5)
    work.files.jobs.finish()
    work.saves.append(digest(work.ctx))
    work.files.close(save=True)
    return work


@pytest.mark.parametrize("rdb_base", [True, False])
def test_files_that_cannot_be_read_stop_the_start_and_stay_as_they_are(rdb_base: bool) -> None:
    work = filled(Way("always", rdb_base=rdb_base))
    files = [path for path in work.fs.snapshot() if path != SNAPSHOT]
    assert len(files) >= 3
    for path in files:
        fs = work.fs.kill()
        before = fs.snapshot()
        fs.make_unreadable(path)
        with pytest.raises((PersistenceError, FormatError), match=path.rpartition("/")[2]):
            Work(fs, work.way, 1).open()
        assert fs.snapshot() == before
        fs.heal()
        work.reopen(fs, killed=True)


@pytest.mark.parametrize("kinds", [MUTATIONS, GROWING, {"sync", "sync_dir"}], ids=["all", "full", "sync"])
def test_a_start_that_fails_can_be_tried_again(kinds: frozenset[str]) -> None:
    for closed in (True, False):
        work = filled(Way("always"))
        for at in range(1, 20):
            fs = work.fs.kill()
            if not closed:  # something to cut, and something to clear away
                name = next(path for path in fs.snapshot() if ".incr." in path)
                fs.put(name, fs.read(name) + b"*3\r\n$3\r\nSE")
            fs.fail_at(fs.operations + at, errno.EIO, lasting=True, kinds=kinds)
            try:
                Work(fs, work.way, 1).open()
            except (PersistenceError, FormatError):
                pass
            fs.heal()
            work.reopen(fs, killed=True)


def test_a_start_from_nothing_that_fails_can_be_tried_again() -> None:
    for at in range(1, 20):
        fs = MemFS(DIRECTORY)
        fs.fail_at(at, errno.ENOSPC, lasting=True)
        work = Work(fs, Way("always", immediate=bool(at % 2)), 3)
        try:
            work.open()
        except PersistenceError:
            fs.heal()
            work = Work(fs, Way("always"), 3)
            assert not work.open()
        fs.heal()
        work.settle(1000)
        work.command([b"SET", b"a", b"1"])
        work.end_turn(0) if not work.way.immediate else None
        work.reopen(fs.kill(), killed=True)
