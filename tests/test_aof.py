"""The append-only log on a file system in memory: what it writes when, and what it does when that fails."""

from __future__ import annotations

import errno
import random
import time
from pathlib import Path
from typing import Any

import pytest

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import PersistenceError
from kvstore.persist.aof import AppendLog
from kvstore.persist.fs import OsFileSystem
from kvstore.persist.manifest import read_manifest
from kvstore.persist.replay import load_log
from kvstore.persist.worker import InlineWorker, ThreadWorker
from kvstore.resp import encode_request
from tests.laws import START_MS, Digest, digest
from tests.memfs import MemFS

MULTI, EXEC = encode_request((b"MULTI",)), encode_request((b"EXEC",))
FIRST = "/log/a.aof.1.incr.aof"


def words(text: str) -> bytes:
    return encode_request(tuple(text.encode().split()))


class Kept:
    """A store and its log."""

    def __init__(self, fs: MemFS | None = None, policy: str = "always", **more: Any) -> None:
        self.fs = MemFS("/log") if fs is None else fs
        self.clock = ManualClock(START_MS)
        self.ctx = Context(Database, clock=self.clock, random=random.Random(1))
        self.db = self.ctx.database(0)
        self.log = AppendLog(
            self.fs,
            InlineWorker(),
            "/log",
            "a.aof",
            policy=policy,
            now_ms=self.clock.now_ms,
            ctx=self.ctx,
            **more,
        )
        self.log.begin()
        self.ctx.listen(self.log)

    def file(self, name: str = FIRST) -> bytes:
        return bytes(self.fs.read(name))

    def compact(self) -> None:
        """A rewrite, whose base is commands."""
        self.log.rotate()
        base = self.log.new_base_name(False)
        commands = [words(f"SET {key.decode()} {value.decode()}") for key, value in self.db._data.items()]
        file = self.fs.create(f"/log/{base}")
        file.write(words("SELECT 0") + b"".join(commands))
        file.sync()
        file.close()
        self.fs.sync_dir("/log")
        self.log.replace_base(base)


def loaded(fs: Any, directory: str = "/log") -> Digest:
    """What a start would find."""
    ctx = Context(Database, clock=ManualClock(START_MS))
    for _ in load_log(ctx, fs, directory, "a.aof", single=None, load_truncated=True):
        pass
    return digest(ctx)


# -- what is written ---------------------------------------------------------------------------------------


def test_effects_are_written_with_their_database_at_the_flush() -> None:
    kept = Kept()
    kept.db.set("a", "1")
    kept.ctx.database(3).set("b", "2")
    assert kept.file() == b"" and kept.log.buffered > 0
    kept.log.flush()
    assert kept.file() == words("SELECT 0") + words("SET a 1") + words("SELECT 3") + words("SET b 2")
    assert kept.log.appended == kept.log.synced == kept.log.size == len(kept.file())


def test_a_unit_of_several_effects_is_one_transaction_and_one_effect_stays_bare() -> None:
    kept = Kept()
    with kept.ctx.unit():
        kept.db.set("a", "1")
    with kept.ctx.unit():
        kept.db.set("a", "2")
        with kept.ctx.unit():
            kept.db.set("b", "3")
    with kept.ctx.unit():
        pass
    kept.log.flush()
    assert (
        kept.file()
        == words("SELECT 0") + words("SET a 1") + MULTI + words("SET a 2") + words("SET b 3") + EXEC
    )


def test_no_part_of_a_unit_is_written_before_its_end() -> None:
    kept = Kept()
    kept.db.set("before", "1")
    with kept.ctx.unit():
        kept.db.set("a", "2")
        kept.log.flush()
        assert kept.file() == words("SELECT 0") + words("SET before 1")
        kept.db.set("b", "3")
        kept.log.flush()
    kept.log.flush()
    assert kept.file().endswith(words("SET before 1") + MULTI + words("SET a 2") + words("SET b 3") + EXEC)


def test_an_unfinished_unit_can_be_forgotten_and_its_select_with_it() -> None:
    kept = Kept()
    with kept.ctx.unit():
        kept.ctx.database(2).set("a", "1")
        kept.log.forget()
    kept.ctx.database(2).set("b", "1")
    kept.log.flush()
    assert kept.file() == words("SELECT 2") + words("SET b 1")


def test_a_log_that_begins_within_a_unit_hears_its_end() -> None:
    kept = Kept()
    kept.ctx.unlisten(kept.log)
    with kept.ctx.unit():
        kept.ctx.listen(kept.log)
        kept.db.set("a", "1")
    kept.log.flush()
    assert kept.file() == words("SELECT 0") + words("SET a 1")


def test_timestamps_stand_before_what_follows_and_never_within_a_transaction() -> None:
    kept = Kept(timestamps=True)
    second = START_MS // 1000
    kept.db.set("a", "1")
    kept.db.set("a", "2")
    kept.clock.advance(seconds=1)
    with kept.ctx.unit():
        kept.db.set("a", "3")
        kept.db.set("a", "4")
    kept.log.flush()
    assert kept.file() == (
        b"#TS:%d\r\n" % second
        + words("SELECT 0")
        + words("SET a 1")
        + words("SET a 2")
        + b"#TS:%d\r\n" % (second + 1)
        + MULTI
        + words("SET a 3")
        + words("SET a 4")
        + EXEC
    )


def syncs(fs: MemFS) -> int:
    return sum(kind == "sync" and path.endswith(".incr.aof") for kind, path in fs.trace)


def test_always_syncs_once_a_flush_and_not_without_need() -> None:
    kept = Kept()
    before = syncs(kept.fs)
    for number in range(10):
        kept.db.set("a", str(number))
    kept.log.flush()
    kept.log.flush()
    assert syncs(kept.fs) == before + 1


def test_everysec_syncs_by_ticks_about_once_a_second_and_only_what_is_new() -> None:
    kept = Kept(policy="everysec")
    kept.db.set("a", "1")
    kept.log.flush()
    assert kept.log.synced == 0
    kept.log.tick()
    assert kept.log.synced == kept.log.appended
    kept.db.set("a", "2")
    kept.log.flush()
    longest = 0
    while kept.log.synced < kept.log.appended:
        kept.clock.advance(ms=100)
        longest += 100
        kept.log.tick()
    assert 500 < longest <= 1000
    done = syncs(kept.fs)
    for _ in range(50):
        kept.clock.advance(ms=100)
        kept.log.tick()
    assert syncs(kept.fs) == done


def test_no_syncs_only_at_the_end_and_a_policy_may_change() -> None:
    kept = Kept(policy="no")
    done = syncs(kept.fs)
    kept.db.set("a", "1")
    kept.log.flush()
    kept.clock.advance(seconds=100)
    kept.log.tick()
    assert syncs(kept.fs) == done
    kept.log.policy = "always"
    kept.log.flush()
    assert kept.log.synced == kept.log.appended
    kept.log.policy = "no"
    kept.db.set("a", "2")
    kept.log.close()
    assert kept.log.synced == len(kept.file())
    assert kept.fs.open_files == 0


def test_it_goes_on_in_the_last_increment() -> None:
    kept = Kept()
    kept.ctx.database(1).set("a", "1")
    kept.log.close()
    again = Kept(kept.fs)
    again.ctx.database(1).set("a", "2")
    again.log.flush()
    assert again.file() == words("SELECT 1") + words("SET a 1") + words("SELECT 1") + words("SET a 2")


# -- rewriting ---------------------------------------------------------------------------------------------


def test_a_rewrite_leaves_a_base_an_increment_and_nothing_of_the_old_files() -> None:
    kept = Kept()
    for number in range(100):
        kept.db.set("a", str(number))
    kept.log.flush()
    kept.compact()
    kept.db.set("b", "1")
    kept.log.flush()
    assert sorted(kept.fs.listdir("/log")) == ["a.aof.1.base.aof", "a.aof.2.incr.aof", "a.aof.manifest"]
    assert b" h\n" not in kept.file("/log/a.aof.manifest")
    assert kept.log.size == sum(kept.fs.size(f"/log/{name}") for name in kept.fs.listdir("/log")[:2])
    assert kept.log.base_size == kept.fs.size("/log/a.aof.1.base.aof")
    assert loaded(kept.fs) == digest(kept.ctx)


def test_a_new_log_leaves_the_old_chain_alone_until_its_base_is_there() -> None:
    kept = Kept()
    kept.db.set("a", "old")
    kept.log.close()
    manifest = kept.file("/log/a.aof.manifest")
    log = AppendLog(kept.fs, InlineWorker(), "/log", "a.aof", policy="always", now_ms=kept.clock.now_ms)
    log.begin_apart()
    log.on_commit(0, (b"SET", b"b", b"new"), ())
    log.flush()
    assert kept.file("/log/a.aof.manifest") == manifest
    base = log.new_base_name(True)
    kept.fs.put(f"/log/{base}", words("SELECT 0") + words("SET a base"))
    log.replace_base(base)
    assert loaded(kept.fs) == {
        (0, b"a"): ("string", b"base", None),
        (0, b"b"): ("string", b"new", None),
    }
    assert len(kept.fs.listdir("/log")) == 3


def test_only_older_files_of_its_own_names_are_cleaned_away() -> None:
    kept = Kept()
    for _ in range(2):
        kept.compact()
    kept.log.close()
    mine = {"a.aof.1.base.rdb", "a.aof.1.incr.aof", "temp-77.rdb", "temp-a.aof.manifest"}
    others = {"a.aof.9.incr.aof", "a.aof.9.base.rdb", "b.aof.1.incr.aof", "notes.txt", "temp-b.manifest"}
    for name in mine | others:
        kept.fs.put(f"/log/{name}", b"x")
    Kept(kept.fs)
    names = set(kept.fs.listdir("/log"))
    assert not names & mine
    assert others <= names


def test_a_file_that_no_manifest_names_is_not_written_over() -> None:
    kept = Kept()
    kept.fs.put("/log/a.aof.2.incr.aof", b"of somebody")
    kept.fs.put("/log/a.aof.1.base.rdb", b"of somebody")
    assert kept.log.new_base_name(False) == "a.aof.2.base.aof"
    kept.log.rotate()
    assert kept.log.manifest.increments[-1].name == "a.aof.3.incr.aof"
    assert kept.file("/log/a.aof.2.incr.aof") == b"of somebody"


def test_a_manifest_that_cannot_be_read_is_left_as_it_is() -> None:
    for begin in ("begin", "begin_apart"):
        fs = MemFS("/log")
        fs.put("/log/a.aof.manifest", b"file broken\n")
        log = AppendLog(fs, InlineWorker(), "/log", "a.aof", policy="no", now_ms=lambda: 0)
        with pytest.raises(Exception, match="line 1"):
            getattr(log, begin)()
        assert fs.snapshot() == {"/log/a.aof.manifest": b"file broken\n"}


# -- when it fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", [False, True])
def test_a_failed_write_leaves_whole_commands_and_is_made_up_for(short: bool) -> None:
    kept = Kept()
    kept.db.set("a", "1")
    kept.log.flush()
    whole = kept.file()
    kept.fs.fail_at(kept.fs.operations + 1, errno.ENOSPC, short=short, lasting=True, kinds=["write"])
    kept.db.set("b", "2")
    for _ in range(3):
        with pytest.raises(PersistenceError, match=f"cannot write {FIRST}: No space left"):
            kept.log.flush()
        assert kept.file() == whole
        assert kept.log.error is not None and not kept.log.needs_rewrite
    kept.fs.heal()
    kept.db.set("c", "3")
    kept.log.tick()
    assert kept.log.error is None
    assert kept.file() == whole + words("SET b 2") + words("SET c 3")
    assert kept.log.synced == kept.log.appended == len(kept.file())


def test_what_failed_before_stays_when_a_later_unit_is_forgotten() -> None:
    kept = Kept()
    kept.fs.fail_at(kept.fs.operations + 1, errno.ENOSPC, kinds=["write"])
    kept.db.set("a", "1")
    with pytest.raises(PersistenceError):
        kept.log.flush()
    kept.db.set("b", "1")
    kept.log.forget()
    kept.log.flush()
    assert kept.file() == words("SELECT 0") + words("SET a 1")


def test_after_a_failed_sync_only_a_new_base_is_trusted() -> None:
    kept = Kept()
    kept.db.set("a", "1")
    kept.log.flush()
    safe = kept.log.synced
    kept.fs.fail_at(kept.fs.operations + 1, errno.EIO, kinds=["sync"])
    kept.db.set("b", "2")
    for _ in range(3):  # later syncs would succeed, and lie
        with pytest.raises(PersistenceError, match="cannot sync"):
            kept.log.flush()
    assert kept.log.needs_rewrite and kept.log.error and kept.log.synced == safe
    kept.db.set("c", "3")
    kept.compact()
    assert not kept.log.needs_rewrite and kept.log.error is None
    kept.db.set("d", "4")
    kept.log.flush()
    assert kept.log.synced == kept.log.appended
    assert loaded(kept.fs.crash(random.Random(1))) == digest(kept.ctx)


def test_a_file_that_cannot_be_cut_back_is_given_up_for_a_new_base() -> None:
    kept = Kept()
    kept.db.set("a", "1")
    kept.log.flush()
    kept.fs.fail_at(
        kept.fs.operations + 1,
        errno.EIO,
        short=True,
        lasting=True,
        kinds=["write", "truncate"],
        under="1.incr",
    )
    kept.db.set("b", "22222")
    with pytest.raises(PersistenceError):
        kept.log.flush()
    assert kept.log.needs_rewrite
    kept.compact()
    assert kept.log.error is None
    kept.db.set("c", "3")
    kept.log.flush()
    assert loaded(kept.fs) == digest(kept.ctx)


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
def test_whatever_fails_of_a_rewrite_loses_nothing(kind: str) -> None:
    for number in range(1, 20):
        kept = Kept()
        kept.db.set("a", "1")
        kept.log.flush()
        kept.fs.fail_at(kept.fs.operations + number, errno.EIO, kinds=[kind])
        try:
            kept.compact()
        except (PersistenceError, OSError):
            pass
        kept.fs.heal()
        kept.db.set("b", "2")
        try:
            kept.log.flush()
        except PersistenceError:
            assert kept.log.needs_rewrite
            kept.compact()
            kept.log.flush()
        for seed in range(4):
            assert loaded(kept.fs.crash(random.Random(seed))) == digest(kept.ctx), (kind, number, seed)


# -- a store without a loop --------------------------------------------------------------------------------


def test_immediate_writes_each_change_and_each_unit_before_it_returns() -> None:
    kept = Kept(immediate=True)
    kept.db.set("a", "1")
    assert kept.file() == words("SELECT 0") + words("SET a 1")
    with kept.ctx.unit():
        kept.db.set("a", "2")
        kept.db.set("a", "3")
        assert kept.log.buffered
    assert kept.file().endswith(MULTI + words("SET a 2") + words("SET a 3") + EXEC)
    assert kept.log.synced == kept.log.appended


def test_immediate_refuses_changes_before_they_are_made_while_the_log_is_broken() -> None:
    kept = Kept(immediate=True)
    kept.db.set("a", "1")
    kept.fs.fail_at(kept.fs.operations + 1, errno.ENOSPC, lasting=True, kinds=["write"])
    with pytest.raises(PersistenceError):
        kept.db.set("a", "2")  # found out in the middle
    there = digest(kept.ctx)
    for change in (
        lambda: kept.db.set("b", "1"),
        lambda: kept.db.delete("a"),
        lambda: kept.db.rpush("l", "1"),
        kept.db.flushdb,
        kept.db.flushdb,
        lambda: kept.ctx.database(7).set("b", "1"),  # which was not there when the log broke
    ):
        with pytest.raises(PersistenceError, match="No space left"):
            change()
        assert digest(kept.ctx) == there
    assert kept.db.get("a") == b"2"
    kept.fs.heal()
    kept.db.set("b", "1")
    assert kept.db._before_change is None
    assert loaded(kept.fs) == digest(kept.ctx)
    assert kept.log.needs_rewrite  # as an error came in the middle of a change
    kept.compact()
    assert not kept.log.needs_rewrite


def test_immediate_everysec_syncs_by_itself_within_a_second(tmp_path: Path) -> None:
    ctx = Context(Database)
    worker = ThreadWorker()
    log = AppendLog(
        OsFileSystem(),
        worker,
        str(tmp_path),
        "a.aof",
        policy="everysec",
        now_ms=ctx.clock.now_ms,
        immediate=True,
        ctx=ctx,
    )
    log.begin()
    ctx.listen(log)
    try:
        for number in range(3):
            ctx.database(0).set("a", str(number))
            deadline = ctx.clock.now_ms() + 1000
            while log.synced < log.appended and ctx.clock.now_ms() < deadline + 2000:
                time.sleep(0.01)
            assert log.synced == log.appended
    finally:
        log.close()
        worker.close()
    found = read_manifest(OsFileSystem(), str(tmp_path), "a.aof")
    assert found is not None and len(found.increments) == 1
    assert loaded(OsFileSystem(), str(tmp_path)) == digest(ctx)
