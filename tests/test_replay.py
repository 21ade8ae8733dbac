"""Loading a log: what it runs, where it may end, and what is refused."""

from __future__ import annotations

import errno
import logging
import random
from typing import Any

import pytest

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import FormatError, PersistenceError, ResponseError
from kvstore.persist.aof import AppendLog
from kvstore.persist.aof_base import AofBaseWriter
from kvstore.persist.manifest import parse_manifest
from kvstore.persist.replay import Replayed, load_log
from kvstore.persist.requests import read_commands
from kvstore.persist.worker import InlineWorker
from kvstore.resp import encode_request
from kvstore.tools.scan import Scan, scan
from tests.differential import grammar as grammars
from tests.laws import START_MS, Recorder, digest
from tests.memfs import Crash, MemFS
from tests.seeds import new_seed
from tests.test_laws import FAMILIES, Configuration, run_steps

MULTI, EXEC = encode_request((b"MULTI",)), encode_request((b"EXEC",))


def words(text: str) -> bytes:
    return encode_request(tuple(text.encode().split()))


def disk(*increments: bytes, base: bytes | None = None) -> MemFS:
    """A log of these files."""
    fs = MemFS("/log")
    lines = [b"file a.aof.1.base.aof seq 1 type b\n"] if base is not None else []
    if base is not None:
        fs.put("/log/a.aof.1.base.aof", base)
    for number, content in enumerate(increments, 1):
        lines.append(b"file a.aof.%d.incr.aof seq %d type i\n" % (number, number))
        fs.put(f"/log/a.aof.{number}.incr.aof", content)
    fs.put("/log/a.aof.manifest", b"".join(lines))
    return fs


def store() -> Context:
    return Context(Database, databases=16, clock=ManualClock(START_MS))


def load(
    fs: Any, *, truncated: bool = True, ctx: Context | None = None, single: str | None = None
) -> Context:
    ctx = store() if ctx is None else ctx
    for _ in load_log(ctx, fs, "/log", "a.aof", single=single, load_truncated=truncated):
        pass
    return ctx


def strings(ctx: Context, db: int = 0) -> dict[bytes, Any]:
    return dict(ctx.database(db)._data)


# -- what is run -------------------------------------------------------------------------------------------


def test_files_are_run_in_order_each_beginning_in_database_zero() -> None:
    fs = disk(words("SELECT 2") + words("SET b 2"), words("SET c 3"), base=words("SET a 1"))
    ctx = load(fs)
    assert strings(ctx) == {b"a": b"1", b"c": b"3"}
    assert strings(ctx, 2) == {b"b": b"2"}


def test_comments_and_transactions_and_names_in_any_case() -> None:
    fs = disk(b"#TS:12\r\n" + words("set a 1") + b"#\r\n" + MULTI + words("incr a") + words("INCR a") + EXEC)
    assert strings(load(fs)) == {b"a": b"3"}


def test_nothing_that_is_loaded_is_heard_and_nothing_expires_meanwhile() -> None:
    ctx = store()
    recorder = Recorder()
    ctx.listen(recorder)
    past = START_MS - 5000
    fs = disk(
        words(f"SET a 1 PXAT {past}")
        + words("APPEND a 2")
        + words("PERSIST a")
        + words(f"SET b 1 PXAT {past}")
    )
    load(fs, ctx=ctx)
    assert recorder.commits == 0 and not recorder.events
    assert digest(ctx) == {(0, b"a"): ("string", b"12", None), (0, b"b"): ("string", b"1", past)}
    ctx.database(0).set("c", "1")
    assert recorder.commits == 1
    assert ctx.database(0).get("b") is None


def test_relative_times_of_other_servers_count_from_now() -> None:
    fs = disk(
        words("SET a 1 EX 10")
        + words("SET b 1 px 10 NX")
        + words("SETEX c 10 1")
        + words("PSETEX d 10 1")
        + words("SET e 1")
        + words("EXPIRE e 10")
        + words("SET f 1")
        + words("PEXPIRE f 10")
        + words("SET g 1")
        + words("GETEX g EX 10")
        + words("HSET h f v")
        + words("HPEXPIRE h 10 FIELDS 1 f")
    )
    ctx = load(fs)
    db = ctx.database(0)
    deadlines = {key: at - START_MS for key, at in db._expires.items()}
    assert deadlines == {b"a": 10_000, b"b": 10, b"c": 10_000, b"d": 10, b"e": 10_000, b"f": 10, b"g": 10_000}
    assert db.hpexpiretime("h", "f") == [START_MS + 10]


def test_function_libraries_are_kept_as_they_are() -> None:
    source = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    load_it = encode_request((b"FUNCTION", b"LOAD", b"REPLACE", source))
    ctx = load(disk(load_it))
    assert ctx.libraries == {b"lib": source}
    assert load(disk(load_it + words("FUNCTION DELETE lib"))).libraries == {}


def test_what_only_earlier_servers_let_happen_is_done_as_they_did() -> None:
    """Redis 7.0 lets XSETID go back behind an entry that was deleted."""
    commands = ("XADD s 9-0 f 1", "XADD s 10-0 f 1", "XDEL s 9-0 10-0", "XSETID s 7-0", "XADD s 8-0 f 2")
    ctx = load(disk(b"".join(words(each) for each in commands)))
    db = ctx.database(0)
    assert db.xrange("s") == [(b"8-0", {b"f": b"2"})]
    with pytest.raises(ResponseError, match="max_deleted_entry_id"):
        db.xsetid("s", "8-0")


def test_a_command_that_answers_an_error_is_passed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    first = words("SET a x")
    with caplog.at_level(logging.WARNING, "kvstore"):
        ctx = load(disk(first + words("INCR a") + words("SET b 1")))
    assert strings(ctx) == {b"a": b"x", b"b": b"1"}
    assert f"offset {len(first)}" in caplog.text and "not an integer" in caplog.text


# -- where it ends -----------------------------------------------------------------------------------------


def units(rng: random.Random) -> list[bytes]:
    """Commands and transactions, each of which changes the data."""
    made = [words("SELECT 0")]
    for number in range(12):
        one = [encode_request((b"APPEND", b"k", b"%d\r\n" % number)), words(f"SET k{number} v")]
        made.append(rng.choice([one[0], MULTI + one[0] + one[1] + EXEC, b"#TS:1\r\n" + one[1]]))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_a_log_cut_at_any_byte_loads_whole_units_and_goes_on_from_there(seed: int) -> None:
    made = units(random.Random(seed))
    whole = b"".join(made)
    states = {
        len(b"".join(made[:count])): digest(load(disk(b"".join(made[:count]))))
        for count in range(len(made) + 1)
    }
    for cut in range(len(whole) + 1):
        fs = disk(whole[:cut])
        found = digest(load(fs))
        best = max(size for size in states if size <= cut)
        assert found == states[best], cut
        left = fs.size("/log/a.aof.1.incr.aof")
        # A comment that stands before what is cut may stay.
        assert whole[:left].removesuffix(b"#TS:1\r\n") == whole[:best], cut
        if left < cut:
            with pytest.raises(
                (FormatError, PersistenceError), match=f"Unexpected end of file.*/log/.*{left}"
            ):
                load(disk(whole[:cut]), truncated=False)
        assert digest(load(fs, truncated=False)) == found


def test_what_is_refused_leaves_the_disk_as_it_is() -> None:
    torn = words("SET a 1") + words("SET b 2")[:-3]
    for fs, truncated in (
        (disk(torn, words("SET c 3")), True),  # not the last file
        (disk(torn), False),
        (disk(words("SET a 1"), base=torn), True),
        (disk(words("SET a 1") + b"SET b 2\r\n" + words("SET c 3")), True),  # inline
        (disk(words("NOSUCH a 1")), True),
        (disk(EXEC), True),
        (disk(MULTI + words("SET a 1") + MULTI + words("SET a 1") + EXEC), True),
        (disk(words("SELECT 99") + words("SET a 1")), True),
    ):
        before = fs.snapshot()
        with pytest.raises((FormatError, PersistenceError), match=r"/log/a\.aof\.1\..*offset \d+"):
            load(fs, truncated=truncated)
        assert fs.snapshot() == before


def test_a_block_that_was_never_written_is_a_torn_end_and_other_zeros_are_damage() -> None:
    first, value = words("SET a 1"), "x" * 600
    whole = first + words(f"SET b {value}") + words(f"SET c {value}") + words("SET d 1")
    third = len(first + words(f"SET b {value}"))
    for begin in range(third, third + 6):  # within the header, its line end, and that of the word after it
        hole = bytearray(whole)
        hole[begin:1024] = bytes(1024 - begin)
        fs = disk(bytes(hole))
        assert strings(load(fs)).keys() == {b"a", b"b"}, begin
        assert fs.size("/log/a.aof.1.incr.aof") == third
        damaged = bytearray(whole)
        damaged[begin] = 0
        fs = disk(bytes(damaged))
        with pytest.raises(FormatError, match=f"offset {third}|offset {begin}|offset {third + 4}"):
            load(fs)
        assert fs.read("/log/a.aof.1.incr.aof") == damaged


# -- holes -------------------------------------------------------------------------------------------------

BLOCK = 512
INCREMENT = "/log/a.aof.1.incr.aof"


def with_hole(data: bytes, begin: int, end: int) -> bytes:
    return data[:begin] + bytes(end - begin) + data[end:]


def kept_in(fs: MemFS) -> dict[str, bytes]:
    """The copies of tails that were cut."""
    return {path: data for path, data in fs.snapshot().items() if path.endswith(".torn")}


class Layout:
    """A log, and what each of its bytes is part of."""

    def __init__(self) -> None:
        self.data = b""
        self.units = [0]  # where units and comments begin
        self.told: list[int] = []  # bytes that cannot be zero unnoticed

    def add(self, *commands: tuple[bytes, ...]) -> None:
        """A unit of these commands."""
        self.units.append(len(self.data))
        for argv in commands if len(commands) == 1 else ((b"MULTI",), *commands, (b"EXEC",)):
            words_at = []
            start = len(self.data)
            self.data += b"*%d\r\n" % len(argv)
            for index, word in enumerate(argv):
                self.data += b"$%d\r\n" % len(word)
                if index and argv[0] != b"SELECT":
                    words_at.append(range(len(self.data), len(self.data) + len(word)))
                self.data += word + b"\r\n"
            silent = {at for each in words_at for at in each}
            self.told += [at for at in range(start, len(self.data)) if at not in silent]

    def comment(self, text: bytes) -> None:
        self.units.append(len(self.data))
        self.told += range(len(self.data), len(self.data) + len(text))
        self.data += text


def layout(rng: random.Random) -> Layout:
    made = Layout()
    for number in range(24):
        value = rng.choice(
            (b"%d" % number, b"line\r\n" * rng.randrange(9), bytes(rng.randrange(1, 40)), rng.randbytes(700))
        )
        append, put = (b"APPEND", b"k", b"%d;" % number), (b"SET", b"k%d" % number, value)
        how = rng.randrange(5)
        if how == 0:
            made.comment(b"#TS:17%08d\r\n" % number)
        elif how == 1:
            made.add((b"SELECT", b"%d" % rng.randrange(3)))
        elif how == 2:
            made.add(append, put, append)
        else:
            made.add(append)
            made.add(put)
    made.add((b"APPEND", b"k", b"end"))
    return made


@pytest.mark.parametrize("case", range(2))
def test_a_hole_anywhere_is_cut_at_the_unit_it_begins_in(case: int, heavy: bool) -> None:
    """All that is not within a value is told; a hole within one reads as that value, and nothing is refused."""
    rng = random.Random(new_seed())
    made = layout(rng)
    data = made.data
    boundaries = [*range(BLOCK, len(data), BLOCK), len(data)]
    cut = silent = 0
    for begin in range(0, len(data), 1 if heavy else 3):
        ends = [end for end in boundaries if end > begin]
        for end in ends if heavy else {ends[0], rng.choice(ends)}:
            holed = with_hole(data, begin, end)
            if not any(begin <= at < end and data[at] for at in made.told):
                fs = disk(holed)
                load(fs)
                assert fs.read(INCREMENT) == holed and not kept_in(fs), (begin, end)
                silent += 1
                continue
            fs = disk(holed)
            unit = max(at for at in made.units if at <= begin)
            scanned = Scan(0)
            for _ in scan(holed, scanned):
                pass
            assert scanned.is_torn and scanned.whole == unit, (begin, end, scanned)
            found = digest(load(fs))
            assert fs.read(INCREMENT) == holed[:unit], (begin, end, fs.size(INCREMENT))
            assert found == digest(load(disk(data[:unit]))), (begin, end)
            # What has nothing behind it but zeros needs no copy.
            behind = holed[end:].strip(b"\0")
            assert scanned.is_hole or not behind, (begin, end)
            copies = {f"{INCREMENT}.{unit}.torn": holed[unit:]} if scanned.is_hole else {}
            assert kept_in(fs) == copies, (begin, end)
            with pytest.raises(FormatError, match=f"Unexpected end of file.*offset {unit}"):
                load(disk(holed), truncated=False)
            cut += 1
    assert cut > 100


BEFORE = encode_request((b"SET", b"a", b"1"))
AFTER = encode_request((b"SET", b"z", b"1"))


def long_set(key: bytes, size: int) -> bytes:
    return encode_request((b"SET", key, b"x" * size))


@pytest.mark.parametrize(
    ("data", "begin", "end"),
    [
        (BEFORE + long_set(b"b", 600) + AFTER, len(BEFORE) + 2, 512),  # in a header
        (BEFORE + long_set(b"b", 600) * 2 + AFTER, len(BEFORE) + 300, 1024),  # a value and what is behind it
        (BEFORE + MULTI + long_set(b"b", 500) + long_set(b"c", 500) + EXEC + AFTER, 550, 1024),  # in a unit
        (BEFORE + MULTI + long_set(b"b", 432) + EXEC + AFTER, 510, 512),  # the name of EXEC
        (
            BEFORE + b"".join(long_set(b"b%d" % n, 20) for n in range(90)),
            len(BEFORE) + 7,
            2048,
        ),  # many commands
        (BEFORE + b"#" + b"1" * 600 + b"\r\n" + AFTER, len(BEFORE) + 5, 512),  # in a comment
    ],
    ids=["header", "value", "unit", "name", "commands", "comment"],
)
def test_a_store_goes_on_before_a_hole_and_keeps_what_was_behind(data: bytes, begin: int, end: int) -> None:
    fs = disk(with_hole(data, begin, end))
    before = fs.read(INCREMENT)
    assert strings(load(fs)) == {b"a": b"1"}
    assert fs.read(INCREMENT) == BEFORE
    path = f"{INCREMENT}.{len(BEFORE)}.torn"
    assert kept_in(fs) == {path: before[len(BEFORE) :]}
    # All of it is on the disk before anything is appended, and no part of the log.
    for seed in range(20):
        left = fs.crash(random.Random(seed), "zeros")
        assert left.snapshot() == fs.snapshot()
    log = AppendLog(fs, InlineWorker(), "/log", "a.aof", policy="always", now_ms=lambda: START_MS)
    log.begin()
    ctx = load(fs)
    ctx.listen(log)
    ctx.database(0).set("c", "3")
    log.close()
    assert strings(load(fs, truncated=False)) == {b"a": b"1", b"c": b"3"}
    assert kept_in(fs) == {path: before[len(BEFORE) :]}


def test_zeros_to_the_end_are_cut_without_a_copy() -> None:
    for tail in (
        bytes(3),
        bytes(5000),
        MULTI + bytes(700),
        b"*3\r\n$3\r\nS" + bytes(700),
        b"#TS:1" + bytes(700),
    ):
        fs = disk(BEFORE + tail)
        assert strings(load(fs)) == {b"a": b"1"}
        assert fs.read(INCREMENT) == BEFORE and not kept_in(fs)


def test_a_hole_in_a_file_that_is_not_the_last_is_refused() -> None:
    fs = disk(with_hole(BEFORE + long_set(b"b", 600) + AFTER, 40, 512), AFTER)
    before = fs.snapshot()
    with pytest.raises(FormatError, match=r"a\.aof\.1\.incr\.aof.*offset 27.*hole"):
        load(fs)
    assert fs.snapshot() == before


def test_damage_behind_zeros_that_belong_there_is_refused() -> None:
    """Zeros of a value reach the end of a block; a wrong byte behind them is no hole, wherever it is."""
    value = encode_request((b"SET", b"b", bytes(2000)))
    data = BEFORE + value + AFTER + AFTER
    assert len(strings(load(disk(data)))) == 3
    end = len(BEFORE + value)
    for at in (end - 2, end - 1, end, end + 1, end + 2, end + 4, end + 5):
        for flip in (1, 4, 64):
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            fs = disk(changed)
            if not changed[at : at + 1].isdigit():
                with pytest.raises(FormatError, match="offset"):
                    load(fs)
                assert fs.read(INCREMENT) == changed and not kept_in(fs)


def test_a_name_that_nobody_knows_is_no_hole_unless_its_zeros_are() -> None:
    value = encode_request((b"SET", b"b", bytes(2000)))
    for odd in (words("NOSUCH a"), encode_request((b"SE\0", b"a", b"1")), words("SELECT 99"), EXEC):
        fs = disk(BEFORE + value + odd + AFTER)
        before = fs.snapshot()
        with pytest.raises(FormatError, match="offset"):
            load(fs)
        assert fs.snapshot() == before


def test_copies_of_tails_are_never_overwritten_but_by_the_whole_of_a_part() -> None:
    holed = with_hole(BEFORE + long_set(b"b", 600) + AFTER, 40, 512)
    path = f"{INCREMENT}.{len(BEFORE)}"
    tail = holed[len(BEFORE) :]
    for there, kept in (
        (b"other", {f"{path}.torn": b"other", f"{path}-2.torn": tail}),
        (tail[:100], {f"{path}.torn": tail}),
        (tail, {f"{path}.torn": tail}),
        (tail + b"more", {f"{path}.torn": tail + b"more", f"{path}-2.torn": tail}),
    ):
        fs = disk(holed)
        fs.put(f"{path}.torn", there)
        load(fs)
        assert kept_in(fs) == kept


def test_what_was_behind_a_hole_is_kept_whenever_the_machine_stops_or_the_disk_fails() -> None:
    holed = with_hole(BEFORE + long_set(b"b", 3000) + AFTER, 40, 1024)
    tail = holed[len(BEFORE) :]
    for at in range(1, 12):
        for seed in range(6):
            fs = disk(holed)
            fs.crash_at(at)
            try:
                load(fs)
            except Crash:
                pass
            left = fs.crash(random.Random(seed), "zeros")
            assert strings(load(left)) == {b"a": b"1"}
            assert left.read(INCREMENT) == BEFORE and tail in kept_in(left).values(), (at, seed)
        fs = disk(holed)
        fs.fail_at(at, errno.ENOSPC, lasting=True)
        try:
            load(fs)
        except PersistenceError as error:
            assert INCREMENT in str(error)
            assert fs.read(INCREMENT) == holed or tail in kept_in(fs).values()
        fs.heal()
        assert strings(load(fs)) == {b"a": b"1"}
        assert tail in kept_in(fs).values()


def test_a_torn_file_before_empty_ones_is_the_last() -> None:
    fs = disk(words("SET a 1") + words("SET b 2")[:-3], b"")
    assert strings(load(fs)) == {b"a": b"1"}


def test_a_file_that_is_missing_or_cannot_be_read_is_named() -> None:
    fs = disk(words("SET a 1"))
    fs.make_unreadable("/log/a.aof.1.incr.aof")
    with pytest.raises(PersistenceError, match=r"cannot read /log/a\.aof\.1\.incr\.aof"):
        load(fs)
    fs.heal()
    fs.unlink("/log/a.aof.1.incr.aof")
    with pytest.raises(PersistenceError, match=r"/log/a\.aof\.1\.incr\.aof"):
        load(fs)


def test_every_byte_flipped_is_a_clear_error_or_a_load(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "kvstore")
    whole = b"".join(units(random.Random(4)))
    for at in range(len(whole)):
        for bit in (0, 3, 7):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            fs = disk(bytes(changed))
            try:
                load(fs, truncated=False)
            except (FormatError, PersistenceError) as error:
                assert "/log/a.aof.1.incr.aof" in str(error)


def test_a_count_that_promises_much_reserves_nothing() -> None:
    for head in (b"*999999999\r\n", b"*1000000\r\n$3\r\nSET\r\n", b"*3\r\n$3\r\nSET\r\n$536870000\r\nabc"):
        with pytest.raises((FormatError, PersistenceError)):
            load(disk(head), truncated=False)


def test_an_old_log_of_one_file_becomes_the_base_whenever_the_process_is_killed() -> None:
    for stop in (None, *range(1, 12)):
        fs = MemFS("/log", "/dir")
        fs.put("/dir/a.aof", words("SET a 1") + words("SET b 2")[:-1])
        fs.crash_at(stop)
        try:
            load(fs, single="/dir/a.aof")
        except Crash:
            pass
        left = fs.kill()
        assert strings(load(left, single="/dir/a.aof")) == {b"a": b"1"}, stop
        assert not left.exists("/dir/a.aof")
        base = parse_manifest(left.read("/log/a.aof.manifest")).base
        assert base is not None and base.name == "a.aof"


def test_a_log_of_many_transactions_loads_in_linear_time() -> None:
    # About a second; where each looked at those before it, it would not end before the time-out.
    unit = MULTI + words("INCR a") + words("INCR b") + EXEC
    assert strings(load(disk(unit * 60_000))) == {b"a": b"60000", b"b": b"60000"}


def test_offsets_are_told_in_any_order() -> None:
    requests = [words("SET a 1"), words("INCR counter"), words("PING"), words("SET b 2")]
    (batch,) = read_commands(b"".join(requests), 0)
    offsets = [sum(map(len, requests[:index])) for index in range(4)]
    for index in (2, 0, 3, 3, 1):
        assert batch.offset(index) == offsets[index]


def test_progress_is_told_and_what_was_found_at_the_end() -> None:
    value = "x" * 1000
    fs = disk(b"".join(words(f"SET k{number} {value}") for number in range(2000)))
    steps = load_log(store(), fs, "/log", "a.aof", single=None, load_truncated=True)
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            found = end.value
            break
    assert isinstance(found, Replayed)
    assert found.commands == 2000 and found.bytes == fs.size("/log/a.aof.1.incr.aof")
    assert told == sorted(told) and 6 <= len(told) <= 9


# -- there and back ----------------------------------------------------------------------------------------


def base_of(ctx: Context) -> bytes:
    """All data, as the commands of a base."""
    out: list[bytes] = []
    writer = AofBaseWriter(out.append, libraries=ctx.libraries)
    writer.begin()
    for index, db in ctx.databases.items():
        for key, value in db._data.items():
            for _ in writer.entry(index, key, value, db._expires.get(key)) or ():
                pass
    writer.end()
    return b"".join(out)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_commands_are_the_same_after_loading(family: str, heavy: bool) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    grammar = grammars.load(family)
    for _ in range(40 if heavy else 4):
        configuration = Configuration(
            small_limits=rng.random() < 0.5,
            policy=rng.choice(("noeviction", "allkeys-lru")),
            maxmemory=rng.choice((0, 4000)),
            ordered=True,
            active_expire=True,
            step_ms=rng.choice((0, 40, 200_000)),
        )
        lawful = configuration.make(seed)
        fs = MemFS("/log")
        log = AppendLog(
            fs, InlineWorker(), "/log", "a.aof", policy="no", now_ms=lawful.ctx.clock.now_ms, timestamps=True
        )
        log.begin()
        lawful.ctx.listen(log)
        for step in grammars.PROLOGUE:
            lawful.run(*step.argv)
        run_steps(lawful, grammar, rng, 40, configuration.step_ms)
        log.flush()
        kept = digest(lawful.ctx)
        for loaded in (
            load(fs, truncated=False),
            load(disk(base=base_of(lawful.ctx)), truncated=False),
        ):
            assert digest(loaded) == kept and loaded.libraries == lawful.ctx.libraries
