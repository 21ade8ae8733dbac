"""Loading a log: what it runs, where it may end, and what is refused."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import FormatError, PersistenceError
from kvstore.persist.aof import AppendLog
from kvstore.persist.aof_base import AofBaseWriter
from kvstore.persist.manifest import parse_manifest
from kvstore.persist.replay import Replayed, load_log
from kvstore.persist.requests import read_commands
from kvstore.persist.worker import InlineWorker
from kvstore.resp import encode_request
from tests.differential import grammar as grammars
from tests.laws import START_MS, Recorder, digest
from tests.memfs import Crash, MemFS
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
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
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
        assert digest(load(fs, truncated=False)) == kept
        assert digest(load(disk(base=base_of(lawful.ctx)), truncated=False)) == kept
