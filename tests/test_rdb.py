"""RDB files: what is written byte by byte, what is read and refused, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import mmap
import random
from pathlib import Path

import pytest

from kvstore.engine.codec import crc64, length_of, string_of
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.snapshot import Snapshot
from kvstore.engine.types import Target
from kvstore.errors import FormatError
from kvstore.persist.fs import Content
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.rdb_load import Loaded, Note, Record, load_rdb, merge_rdb, read_rdb
from kvstore.persist.saving import SaveJob
from kvstore.persist.worker import InlineWorker, ThreadWorker
from tests.laws import START_MS, digest
from tests.memfs import MemFS

FIELD_TTL = START_MS + 60_000


def empty(databases: int = 16) -> Context:
    return Context(Database, databases=databases, clock=ManualClock(START_MS), random=random.Random(3))


def filled() -> Context:
    """All types, small and large, in several databases, with deadlines of keys and of a field."""
    ctx = empty()
    db = ctx.database(0)
    for number in range(700):
        db.set(f"string:{number}", "v" * number)
        if number % 3 == 0:
            db.expire(f"string:{number}", number + 10)
    db.set("int", -12345)
    db.set(b"k" * 600, "long key")
    for count in (1, 200, 20_000):
        words = [f"word {number}" for number in range(count)]
        ctx.database(2).rpush(f"list:{count}", *words)
        ctx.database(2).sadd(f"set:{count}", *words)
        ctx.database(2).sadd(f"ints:{count}", *range(count))
        ctx.database(9).hset(f"hash:{count}", mapping=dict(zip(words, words, strict=True)))
        ctx.database(9).zadd(f"zset:{count}", {word: len(word) / 3 for word in words})
    db.hset("timed", mapping={"a": 1, "b": 2})
    db.hpexpireat("timed", FIELD_TTL, "a")
    return ctx


def write(
    ctx: Context,
    target: Target = Target.PORTABLE,
    *,
    compress: bool = True,
    checksum: bool = True,
    aux: dict[bytes, bytes] | None = None,
) -> bytes:
    file: list[bytes] = []
    writer = RdbWriter(
        file.append,
        target=target,
        compress=compress,
        checksum=checksum,
        aux=aux or {},
        libraries=ctx.libraries,
        sizes={index: (len(db._data), len(db._expires)) for index, db in ctx.databases.items()},
    )
    writer.begin()
    Snapshot(ctx, writer).finish()
    writer.end()
    return b"".join(file)


def load(
    content: Content, ctx: Context | None = None, now_ms: int | None = None, start: int = 0
) -> tuple[Context, Loaded]:
    ctx = empty() if ctx is None else ctx
    steps = load_rdb(ctx, content, path="x.rdb", now_ms=now_ms, start=start)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            for db in ctx.databases.values():
                db.check()
            assert isinstance(end.value, Loaded)
            return ctx, end.value


def framed(body: bytes, magic: bytes = b"REDIS0009") -> bytes:
    """A file with that between its beginning and its end."""
    content = magic + body + b"\xff"
    return content + crc64(content).to_bytes(8, "little")


def mapped(content: bytes, path: Path) -> mmap.mmap:
    path.write_bytes(content)
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


# ------------------------------------------------------------------------------------- writing


def test_a_small_file_byte_by_byte() -> None:
    ctx = empty()
    ctx.database(3).set("k", "v", pxat=START_MS + 1)
    expected = framed(
        b"\xfa\x09redis-ver\x057.2.4"
        b"\xfe\x03\xfb\x01\x01"
        b"\xfc" + (START_MS + 1).to_bytes(8, "little") + b"\x00\x01k\x01v"
    )
    assert write(ctx, aux={b"redis-ver": b"7.2.4"}) == expected


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    ctx = filled()
    for compress in (False, True):
        content = write(ctx, compress=compress)
        found, loaded = load(content)
        assert digest(found) == digest(ctx)
        assert loaded.keys == len(digest(ctx)) and loaded.end == len(content)
        assert digest(load(mapped(content, tmp_path / "x.rdb"))[0]) == digest(ctx)


@pytest.mark.parametrize(
    ("target", "magic"),
    [(Target.PORTABLE, b"REDIS0009"), (Target.REDIS_74, b"REDIS0012"), (Target.VALKEY_9, b"VALKEY080")],
)
def test_every_target_has_its_version_and_keeps_the_deadlines_of_fields(target: Target, magic: bytes) -> None:
    ctx = filled()
    content = write(ctx, target)
    assert content.startswith(magic)
    assert digest(load(content)[0]) == digest(ctx)
    assert load(content)[0].database(0).hpexpiretime("timed", "a", "b") == [FIELD_TTL, -1]


def test_fields_that_expire_do_so_after_loading() -> None:
    ctx, _ = load(write(filled()))
    clock = ctx.clock
    assert isinstance(clock, ManualClock)
    clock.advance(60)
    assert ctx.database(0).hgetall("timed") == {b"b": b"2"}


def test_libraries_are_kept_and_raise_the_version() -> None:
    ctx = filled()
    ctx.libraries[b"lib"] = b"#!lua name=lib\nredis.register_function('f', function() end)"
    content = write(ctx)
    assert content.startswith(b"REDIS0010")
    assert load(content)[0].libraries == ctx.libraries


def test_uses_are_written_and_read_while_the_policy_goes_by_them() -> None:
    for policy, question, expected in (("allkeys-lru", "idletime", 100), ("allkeys-lfu", "freq", 5)):
        ctx = empty()
        ctx.evictor.configure(policy=policy, maxmemory=1 << 30)
        ctx.database(0).set("k", "v")
        clock = ctx.clock
        assert isinstance(clock, ManualClock)
        clock.advance(100)
        content = write(ctx)
        again = Context(Database, clock=clock)
        again.evictor.configure(policy=policy, maxmemory=1 << 30)
        load(content, again)
        assert ctx.database(0).object(question, "k") == expected if policy.endswith("lru") else True
        assert again.database(0).object(question, "k") == ctx.database(0).object(question, "k")
        # Who records nothing reads over it.
        assert load(content)[0].database(0).get("k") == b"v"


def test_a_file_without_a_checksum_says_so_with_zeros() -> None:
    content = write(filled(), checksum=False)
    assert content.endswith(bytes(8))
    assert digest(load(content)[0]) == digest(filled())


# ------------------------------------------------------------------------------------- reading


def test_records_and_notes_come_in_the_order_of_the_file() -> None:
    content = framed(
        b"\xfa\x01a\x01b"
        + (b"\xf5" + string_of(b"#!lua name=lib\n"))
        + (b"\xfe\x02\xfb\x05\x00")
        + (b"\xf8\x40\x64" + b"\xfd" + (77).to_bytes(4, "little") + b"\x00\x01k\xc0\x05")
        + b"\xf9\x09\x00\x01l\x01v"
    )
    notes = list(read_rdb(content, Limits()))
    assert notes == [
        Note("version", b"redis", b"9", 0),
        Note("aux", b"a", b"b", 9),
        Note("function", b"lib", b"#!lua name=lib\n", 14),
        Record(2, b"k", b"5", 77_000, 100, None, 44),
        Record(2, b"l", b"v", None, None, 9, 51),
        Note("end", b"", b"", len(content)),
    ]


def test_keys_past_their_deadline_are_left_out_of_snapshots_and_kept_in_bases_of_logs() -> None:
    ctx = empty()
    ctx.database(0).set("short", "v", pxat=START_MS + 10)
    ctx.database(0).set("long", "v", pxat=START_MS + 11)
    content = write(ctx)
    found, loaded = load(content, now_ms=START_MS + 10)
    assert (set(found.database(0)._data), loaded.keys, loaded.expired) == ({b"long"}, 1, 1)
    found, loaded = load(content)
    assert (len(found.database(0)._data), loaded.expired) == (2, 0)


def test_the_limits_decide_the_encodings() -> None:
    ctx = empty()
    ctx.database(0).hset("h", mapping={"a": 1, "b": 2})
    small = empty()
    small.limits.hash_max_listpack_entries = 1
    assert load(write(ctx))[0].database(0).object("encoding", "h") == b"listpack"
    assert load(write(ctx), small)[0].database(0).object("encoding", "h") == b"hashtable"


def test_what_follows_the_end_is_left_alone(tmp_path: Path) -> None:
    ctx = filled()
    content = write(ctx)
    tail = b"*1\r\n$4\r\nPING\r\n" * 100
    for whole in (content + tail, mapped(content + tail, tmp_path / "x")):
        found, loaded = load(whole)
        assert digest(found) == digest(ctx) and loaded.end == len(content)
    found, loaded = load(tail + content, start=len(tail))
    assert digest(found) == digest(ctx) and loaded.end == len(tail + content)


def test_values_larger_than_the_window_and_across_its_end(tmp_path: Path) -> None:
    ctx = empty()
    rng = random.Random(7)
    for number in range(12):
        size = rng.choice((10, 1000, 500_000, 1_500_000))
        ctx.database(0).set(f"k{number}", rng.randbytes(size))
        ctx.database(0).rpush(f"l{number}", *(rng.randbytes(size // 5) for _ in range(5)))
    for number in range(5000):
        ctx.database(0).set(f"n{number}", "v" * (number % 90))
    content = write(ctx)
    assert digest(load(mapped(content, tmp_path / "x"))[0]) == digest(ctx)


def test_a_scan_order_that_was_kept_has_the_keys(tmp_path: Path) -> None:
    ctx = empty()
    ctx.keep_order()
    ctx.database(0).set("before", "v")
    ctx.database(0)._volatile_order()
    ctx.database(0).delete("before")
    load(write(filled()), ctx)
    assert sorted(ctx.database(0).scan_iter()) == sorted(ctx.database(0)._data)


KEY = b"\x00\x01k\x01v"
BAD = {
    "no RDB file begins with b'RADIS0009' at offset 0": framed(KEY, b"RADIS0009"),
    "RDB version 13 is not read at offset 0": framed(KEY, b"REDIS0013"),
    "RDB version 0 is not read at offset 0": framed(KEY, b"REDIS0000"),
    "Valkey's RDB version 81 is not read at offset 0": framed(KEY, b"VALKEY081"),
    "4 bytes are no RDB file at offset 0": b"REDI",
    "ends too early: 1 bytes wanted, 0 left at offset 14": b"REDIS0009" + KEY,
    "unknown type 99 at offset": framed(b"\x63\x01k\x01v"),
    "key b'k' is there already at offset 14": framed(KEY + KEY),
    "a key is in database 16, and there are 16 at offset": framed(b"\xfe\x10" + KEY),
    "opcode 243 is metadata of modules (Redis 8.6), which is not read at offset 9": framed(b"\xf3\x01" + KEY),
    "opcode 243 is a slot import (Valkey 9.0)": framed(b"\xf3\x01" + KEY, b"VALKEY080"),
    "opcode 242 is a template of hashes (Redis 8.10)": framed(b"\xf2\x01" + KEY, b"REDIS0012"),
    "unknown opcode 244 at offset 9": framed(b"\xf4\x01\x02\x03" + KEY, b"VALKEY080"),
    "opcode 246 is a function of a release candidate": framed(b"\xf6\x01a\x01b" + KEY),
    "a library of functions without a name": framed(b"\xf5\x03#!x" + KEY),
    "the checksum is ": framed(KEY)[:-1] + b"\x77",
    "a deadline of a field that is not there": framed(
        b"\xfa" + string_of(b"kvstore-field-deadlines") + b"\x0a\x01f" + bytes(8) + b"\x04\x01k\x01\x01g\x01v"
    ),
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_refused_with_path_and_offset(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        load(BAD[text])
    assert str(caught.value).startswith(f"x.rdb: {text}")
    assert caught.value.offset is not None


def test_offsets_are_those_of_the_file_beyond_the_first_window(tmp_path: Path) -> None:
    many = b"".join(b"\x00" + string_of(b"key %d" % n) + b"\x05value" for n in range(100_000))
    body = many + b"\x63\x01k\x01v"
    with pytest.raises(FormatError, match=f"unknown type 99 at offset {9 + len(many) + 3}"):
        load(mapped(framed(body), tmp_path / "x"))


def test_other_things_of_newer_and_older_servers_are_read_over() -> None:
    assert load(framed(b"\xf4\x01\x02\x03" + KEY, b"REDIS0012"))[1].keys == 1
    # A version without a checksum ends with the end.
    assert load(b"REDIS0004" + KEY + b"\xff")[0].database(0).get("k") == b"v"
    # Servers leave out keys whose container is empty.
    found, loaded = load(framed(b"\x01\x01e\x00" + KEY))
    assert (loaded.keys, loaded.empty, found.database(0).exists("e")) == (1, 1, 0)


def module_number(name: str, version: int) -> int:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in name:
        number = number << 6 | letters.index(letter)
    return number << 10 | version


def test_values_of_modules_are_refused_by_name_or_skipped_where_that_is_asked_for() -> None:
    number = length_of(module_number("ReJSON-RL", 3))
    items = b"\x01\x05\x02\x06\x03abcd\x04abcdefgh\x05\x02hi\x00"
    content = framed(b"\xf7" + number + b"\x02\x01" + items + b"\x07\x01m" + number + items + KEY)
    with pytest.raises(FormatError, match="the value of key b'm' is of the module 'ReJSON-RL'"):
        load(content)
    found = list(read_rdb(content, Limits(), skip_modules=True))
    kinds = [each.kind if isinstance(each, Note) else each.key for each in found]
    assert kinds == ["version", "module-aux", "module", b"k", "end"]
    assert isinstance(found[2], Note) and (found[2].name, found[2].value) == (b"m", b"ReJSON-RL")


def test_merging_replaces_keys_or_refuses_them() -> None:
    ctx, other = empty(), empty()
    ctx.database(0).set("k", "mine")
    other.database(0).set("k", "theirs", pxat=START_MS + 5000)
    other.database(1).sadd("s", 1)
    other.database(1).set("gone", "v", pxat=START_MS + 5)
    content = write(other)
    clock = ctx.clock
    assert isinstance(clock, ManualClock)
    clock.advance(ms=5)
    with pytest.raises(FormatError, match=r"x\.rdb: key b'k' is there already"):
        merge_rdb(ctx, content, path="x.rdb", replace=False)
    merge_rdb(ctx, content, path="x.rdb", replace=True)
    del other.database(1)._data[b"gone"]
    assert ctx.database(0).get("k") == b"theirs" and ctx.database(0).pttl("k") == 4995
    assert digest(ctx).keys() == digest(other).keys()


# -------------------------------------------------------------------------------------- saving


def job(ctx: Context, fs: MemFS, worker: InlineWorker | ThreadWorker, told: list[object]) -> SaveJob:
    return SaveJob(
        ctx,
        fs,
        worker,
        "/d",
        "dump.rdb",
        lambda out: RdbWriter(out, target=Target.PORTABLE, compress=False, checksum=True),
        done=told.append,
    )


def test_a_file_is_written_synced_renamed_and_its_directory_synced() -> None:
    ctx, fs, told = filled(), MemFS("/d"), []
    saving = job(ctx, fs, InlineWorker(), told)
    saving.run()
    assert told == [None] and saving.finished and saving.error is None
    assert fs.listdir("/d") == ["dump.rdb"] and fs.size("/d/dump.rdb") == saving.size
    assert digest(load(bytes(fs.read("/d/dump.rdb")))[0]) == digest(ctx)
    kinds = [kind for kind, _ in fs.trace]
    assert kinds[0] == "create" and kinds[-3:] == ["sync", "rename", "sync_dir"]
    assert fs.open_files == 0


def test_a_large_file_is_synced_in_between_and_by_another_thread() -> None:
    ctx, fs, told = empty(), MemFS("/d"), []
    ctx.database(0).set("large", random.Random(1).randbytes(10 << 20))
    worker = ThreadWorker()
    job(ctx, fs, worker, told).run()
    worker.close()
    assert told == [None]
    assert [kind for kind, _ in fs.trace].count("sync") == 3
    assert digest(load(bytes(fs.read("/d/dump.rdb")))[0]) == digest(ctx)


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_dir"])
@pytest.mark.parametrize("threaded", [False, True])
def test_whatever_fails_nothing_is_left_and_the_old_file_stays(kind: str, threaded: bool) -> None:
    ctx, fs = filled(), MemFS("/d")
    job(ctx, fs, InlineWorker(), []).run()
    old = bytes(fs.read("/d/dump.rdb"))
    ctx.database(0).set("more", "v")
    numbers = [number for number, (each, _) in enumerate(fs.trace, 1) if each == kind]
    told: list[object] = []
    fs.fail_at(fs.operations + numbers[-1], errno.EIO)
    worker: InlineWorker | ThreadWorker = ThreadWorker() if threaded else InlineWorker()
    with pytest.raises(OSError):
        job(ctx, fs, worker, told).run()
    worker.close()
    assert len(told) == 1 and isinstance(told[0], OSError)
    assert fs.listdir("/d") == ["dump.rdb"] and fs.open_files == 0
    if kind != "sync_dir":  # by then it has its name
        assert bytes(fs.read("/d/dump.rdb")) == old
    assert all(db._before_change is None for db in ctx.databases.values())


def test_a_cancelled_save_leaves_nothing_and_tells_nobody() -> None:
    ctx, fs, told = filled(), MemFS("/d"), []
    worker = ThreadWorker()
    for steps in (0, 5, 10_000):
        saving = job(ctx, fs, worker, told)
        for _ in range(steps):
            saving.step(10_000)
        saving.cancel()
        before = fs.exists("/d/dump.rdb")
        worker.drain()
        assert saving.finished and told == []
        assert [name for name in fs.listdir("/d") if name.startswith("temp")] == []
        assert fs.exists("/d/dump.rdb") == before
        assert all(db._before_change is None for db in ctx.databases.values())
    worker.close()
    assert fs.open_files == 0
