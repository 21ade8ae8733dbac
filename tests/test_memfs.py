"""The file system that crashes, by itself: what it promises to keep, and what it may lose."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.persist.fs import FileSystem, OsFileSystem, write_all
from tests.memfs import GROWING, Crash, MemFS

TRIES = 300


def outcomes(fs: MemFS, look: Callable[[MemFS], object], gaps: str = "any") -> set[object]:
    """All that ``look`` finds after many power cuts."""
    return {look(fs.crash(random.Random(seed), gaps)) for seed in range(TRIES)}


def content(path: str) -> Callable[[MemFS], bytes | None]:
    return lambda fs: fs.read(path) if fs.exists(path) else None


def made(fs: MemFS, path: str, data: bytes, *, sync: bool = True) -> None:
    """A file that is safe, name and all, unless ``sync`` is false."""
    file = fs.create(path)
    file.write(data)
    if sync:
        file.sync()
        fs.sync_dir(path.rpartition("/")[0] or "/")
    file.close()


@pytest.fixture(params=["memory", "system"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, str]:
    """Each file system, and a directory in it."""
    if request.param == "system":
        return OsFileSystem(), str(tmp_path)
    return MemFS("/d"), "/d"


def test_it_does_what_the_system_does(place: tuple[FileSystem, str]) -> None:
    fs, root = place
    file = fs.create(f"{root}/a")
    assert file.write(b"hello") == 5
    file.truncate(2)
    write_all(file, b"y!")
    file.sync()
    assert fs.read(f"{root}/a") == b"hey!"
    file.close()
    file.close()
    with pytest.raises(OSError):
        file.write(b"x")
    more = fs.append(f"{root}/a")
    more.write(b"?")
    more.close()
    assert fs.size(f"{root}/a") == 5
    fs.mkdir(f"{root}/sub")
    fs.mkdir(f"{root}/sub")
    fs.rename(f"{root}/a", f"{root}/sub/b")
    fs.append(f"{root}/c").close()
    assert fs.listdir(root) == ["c", "sub"]
    assert fs.read(f"{root}/sub/b") == b"hey!?"
    fs.create(f"{root}/sub/b").close()
    assert fs.read(f"{root}/sub/b") == b""
    fs.sync_dir(root)
    fs.unlink(f"{root}/c")
    assert not fs.exists(f"{root}/c")
    assert fs.exists(f"{root}/sub")
    for attempt in (
        lambda: fs.unlink(f"{root}/c"),
        lambda: fs.read(f"{root}/c"),
        lambda: fs.size(f"{root}/c"),
        lambda: fs.rename(f"{root}/c", f"{root}/d"),
        lambda: fs.create(f"{root}/none/x"),
        lambda: fs.listdir(f"{root}/none"),
        lambda: fs.mkdir(f"{root}/none/x"),
        lambda: fs.sync_dir(f"{root}/none"),
    ):
        with pytest.raises(FileNotFoundError):
            attempt()


def test_what_was_synced_stays_whole() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"kept")
    assert outcomes(fs, content("/d/a")) == {b"kept"}


def test_an_unsynced_write_may_be_lost_cut_or_there_but_never_touches_what_was_synced() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"kept")
    file = fs.append("/d/a")
    file.write(b"12345678")
    file.write(b"9")
    found = outcomes(fs, content("/d/a"), gaps="none")
    assert {b"kept", b"kept12345678", b"kept123456789", b"kept123"} <= found
    assert all(isinstance(each, bytes) and b"kept123456789".startswith(each) for each in found)


def test_blocks_of_unsynced_writes_may_come_in_any_order() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"")
    file = fs.append("/d/a")
    for letter in b"abcd":
        file.write(bytes([letter]) * 512)
    found = outcomes(fs, content("/d/a"), gaps="zeros")
    assert any(isinstance(each, bytes) and bytes(512) + b"b" * 512 in each for each in found)
    garbage = outcomes(fs, content("/d/a"))
    assert any(isinstance(each, bytes) and set(each) - set(b"abcd\0") for each in garbage)


def test_an_unsynced_truncation_may_be_undone() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"kept")
    fs.append("/d/a").truncate(1)
    assert outcomes(fs, content("/d/a"), gaps="none") == {b"kept", b"k"}
    fs = MemFS("/d")
    made(fs, "/d/a", b"kept")
    fs.create("/d/a")
    assert outcomes(fs, content("/d/a"), gaps="none") == {b"kept", b""}


def test_a_synced_file_without_a_synced_name_may_be_gone() -> None:
    fs = MemFS("/d")
    file = fs.create("/d/a")
    file.write(b"data")
    file.sync()
    assert outcomes(fs, content("/d/a")) == {None, b"data"}
    fs.sync_dir("/d")
    assert outcomes(fs, content("/d/a")) == {b"data"}


def test_a_directory_that_was_not_synced_takes_all_in_it_along() -> None:
    fs = MemFS("/d")
    fs.mkdir("/d/sub")
    made(fs, "/d/sub/a", b"data")
    assert outcomes(fs, content("/d/sub/a")) == {None, b"data"}
    fs.sync_dir("/d")
    assert outcomes(fs, content("/d/sub/a")) == {b"data"}


def test_a_rename_happens_whole_or_not_at_all() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"old")
    made(fs, "/d/new", b"new")
    fs.rename("/d/new", "/d/a")
    seen = outcomes(fs, lambda left: tuple(sorted(left.snapshot().items())))
    assert seen == {(("/d/a", b"old"), ("/d/new", b"new")), (("/d/a", b"new"),)}
    fs.sync_dir("/d")
    assert outcomes(fs, lambda left: len(left.snapshot())) == {1}


def test_a_rename_of_what_was_not_synced_may_leave_an_empty_file() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"old")
    file = fs.create("/d/new")
    file.write(b"new")
    fs.rename("/d/new", "/d/a")
    fs.sync_dir("/d")
    assert b"" in outcomes(fs, content("/d/a"))


def test_a_rename_between_directories_may_lose_the_file_when_only_the_old_one_is_synced() -> None:
    fs = MemFS("/d", "/e")
    made(fs, "/d/a", b"x")
    fs.rename("/d/a", "/e/a")
    fs.sync_dir("/d")
    assert () in outcomes(fs, lambda left: tuple(left.snapshot()))
    fs.sync_dir("/e")
    assert outcomes(fs, lambda left: tuple(left.snapshot())) == {("/e/a",)}


def test_changes_of_names_may_come_in_any_order() -> None:
    fs = MemFS("/d")
    for name in "ab":
        made(fs, f"/d/{name}", b"")
        fs.unlink(f"/d/{name}")
        made(fs, f"/d/{name}", b"", sync=False)
    made(fs, "/d/x", b"")
    fs.unlink("/d/a")
    fs.unlink("/d/b")
    assert outcomes(fs, lambda left: tuple(left.listdir("/d"))) == {
        ("a", "b", "x"),
        ("a", "x"),
        ("b", "x"),
        ("x",),
    }


def test_a_sync_that_failed_leaves_doubt_that_no_later_one_takes_away() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"kept")
    file = fs.append("/d/a")
    file.write(b"lost?")
    fs.fail_at(fs.operations + 1, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.sync()  # says that all is well
    file.write(b"later")
    file.sync()
    found = outcomes(fs, content("/d/a"))
    assert b"keptlost?later" in found
    assert b"kept" + bytes(5) + b"later" in found
    assert fs.read("/d/a") == b"keptlost?later"
    assert all(isinstance(each, bytes) and each[:4] == b"kept" and each[9:] == b"later" for each in found)


def test_killing_the_process_loses_nothing_that_was_written() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"data", sync=False)
    fs.rename("/d/a", "/d/b")
    left = fs.kill()
    assert left.snapshot() == {"/d/b": b"data"}
    # and makes nothing safer than it was
    assert {(), (("/d/b", b"data"),)} <= outcomes(left, lambda left: tuple(left.snapshot().items()))
    left.append("/d/b").sync()
    left.sync_dir("/d")
    assert outcomes(left, content("/d/b")) == {b"data"}
    assert outcomes(fs, content("/d/b")) != {b"data"}  # the one that was killed is another


def test_after_a_crash_nothing_works_until_the_next_start() -> None:
    fs = MemFS("/d")
    file = fs.create("/d/a")
    fs.crash_at(fs.operations + 2)
    file.write(b"1")
    with pytest.raises(Crash):
        file.write(b"2")
    for attempt in (lambda: file.write(b"3"), file.sync, file.close, lambda: fs.read("/d/a")):
        with pytest.raises(Crash):
            attempt()
    assert fs.kill().read("/d/a") == b"12"  # the operation that it stopped at had begun
    left = fs.kill()
    made(left, "/d/a", b"again")
    assert outcomes(left, content("/d/a")) == {b"again"}


def test_the_sync_at_which_the_machine_stops_makes_nothing_safe() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"")
    file = fs.append("/d/a")
    file.write(b"x")
    fs.crash_at(fs.operations + 1)
    with pytest.raises(Crash):
        file.sync()
    assert outcomes(fs, content("/d/a"), gaps="none") == {b"", b"x"}


def test_an_operation_fails_when_it_is_told_to_once_or_until_healed() -> None:
    fs = MemFS("/d")
    file = fs.create("/d/a")
    fs.fail_at(fs.operations + 2, errno.EIO, kinds=["write"])
    file.write(b"1")
    with pytest.raises(OSError) as caught:
        file.write(b"2")
    assert caught.value.errno == errno.EIO
    file.write(b"3")
    fs.fail_at(0, errno.ENOSPC, lasting=True, kinds=GROWING)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            file.write(b"4")
    file.truncate(1)
    file.sync()
    with pytest.raises(OSError, match="No space"):
        fs.create("/d/b")
    assert fs.failures == 4
    fs.heal()
    write_all(file, b"567")
    assert fs.read("/d/a") == b"1567"
    assert not fs.exists("/d/b")


def test_a_full_disk_takes_a_part_first() -> None:
    fs = MemFS("/d")
    file = fs.create("/d/a")
    fs.fail_at(0, errno.ENOSPC, short=True, lasting=True, kinds=["write"])
    taken = file.write(b"0123456789")
    assert 0 < taken < 10
    with pytest.raises(OSError):
        file.write(b"x")
    assert fs.read("/d/a") == b"0123456789"[:taken]


def test_a_fault_may_be_that_of_one_file_only() -> None:
    fs = MemFS("/d")
    fs.fail_at(0, errno.EIO, lasting=True, under=".rdb")
    made(fs, "/d/a.aof", b"x")
    with pytest.raises(OSError):
        fs.create("/d/a.rdb")


def test_an_unreadable_file_is_there_and_cannot_be_read() -> None:
    fs = MemFS("/d")
    made(fs, "/d/a", b"x")
    fs.make_unreadable("/d/a")
    assert fs.exists("/d/a")
    with pytest.raises(OSError, match="Input/output"):
        fs.read("/d/a")
    fs.heal()
    assert fs.read("/d/a") == b"x"
