"""``kvstore check``, ``dump`` and ``load``: what they say, what they leave alone, and that they agree with others."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvstore import cli
from kvstore.engine.context import Limits
from kvstore.engine.types import Target
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.set import filled
from kvstore.engine.types.zset import ZSet
from kvstore.errors import StoreError
from kvstore.opening import open as open_store
from kvstore.persist.lock import DirectoryLock
from kvstore.persist.rdb import RdbWriter
from kvstore.tools.scan import Scan, scan
from tests.conftest import require
from tests.servers import ROOT, running

PATIENCE = 30.0
LIMITS = Limits()


def commands(*lines: str) -> bytes:
    """An append-only file."""
    made = b""
    for line in lines:
        if line.startswith("#"):
            made += line.encode() + b"\r\n"
            continue
        words = [word.encode() for word in line.split()]
        made += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return made


LOG = commands(
    "SELECT 0",
    "SET k v",
    "#TS:1700000000",
    "MULTI",
    "INCR n",
    "RPUSH l 1 2 3",
    "EXEC",
    "SET long " + "x" * 300,
    "DEL k",
)


def scanned(data: bytes) -> Scan:
    found = Scan(0)
    for _ in scan(data, found):
        pass
    return found


# -- reading through a log ---------------------------------------------------------------------------------


def test_a_whole_log_is_whole() -> None:
    found = scanned(LOG)
    assert (found.whole, found.commands, found.units, found.error) == (len(LOG), 8, 1, None)
    assert scanned(b"") == Scan(0)


def test_a_log_cut_anywhere_is_whole_up_to_a_unit() -> None:
    ends = [0]  # where it may be cut
    at = 0
    for piece in re.findall(rb"\*.*?(?=\*|#|\Z)|#[^\n]*\n", LOG, re.S):
        at += len(piece)
        ends.append(at)
    multi, execute = LOG.index(b"*1\r\n$5\r\nMULTI"), LOG.index(b"*1\r\n$4\r\nEXEC") + 14
    ends = [end for end in ends if not multi < end < execute]
    for cut in range(len(LOG)):
        found = scanned(LOG[:cut])
        assert found.whole == max(end for end in ends if end <= cut)
        assert (found.error is None) == (cut in ends)
        assert found.is_torn == (cut not in ends)


@pytest.mark.parametrize(
    ("data", "offset", "why"),
    [
        (b"hello", 0, "* and a number are expected, and b'hello' is there"),
        (LOG + b"+OK\r\n", len(LOG), "* and a number are expected"),
        (b"*x\r\n", 0, "* and a number are expected"),
        (b"*-1\r\n", 0, "* and a number are expected"),
        (b"*0\r\n", 0, "a command of 0 words"),
        (b"*99999999\r\n$1\r\na\r\n", 0, "a command of 99999999 words"),
        (b"*1\r\n$99999999999\r\n", 18, "a word of 99999999999 bytes"),
        (b"*1\r\n$" + b"9" * 5000, 4, "$ and a number are expected"),
        (b"*1\r\n$1\r\nab\r\n", 9, "no line end behind a word"),
        (b"*2\r\n$1\r\na\r\n*1\r\n", 11, "$ and a number are expected"),
        (commands("MULTI", "MULTI"), 15, "MULTI within MULTI"),
        (commands("EXEC"), 0, "EXEC without MULTI"),
        (b"*1\n$1\na\n", 0, "* and a number are expected"),
    ],
)
def test_what_is_wrong_is_told_with_its_offset(data: bytes, offset: int, why: str) -> None:
    found = scanned(data)
    assert found.error is not None and why in found.error
    assert (found.offset, found.is_torn) == (offset, False)


@pytest.mark.parametrize("cut", [len(LOG), len(LOG) - 3, 8, 10])
def test_zeros_at_the_end_are_a_torn_tail(cut: int) -> None:
    found = scanned(LOG[:cut] + bytes(5000))
    assert found.is_torn and found.whole == scanned(LOG[:cut]).whole


def check_aof(path: Path) -> tuple[bool, int]:
    """What redis-check-aof says: whether the file is valid, and up to where."""
    done = subprocess.run(
        ["redis-check-aof", str(path)], capture_output=True, encoding="latin-1", timeout=PATIENCE
    )
    told = re.search(r"ok_up_to=(\d+)", done.stdout)
    assert told is not None, done.stdout
    return done.returncode == 0, int(told[1])


@pytest.mark.parametrize("seed", range(2))
def test_the_verdict_is_that_of_redis_check_aof(tmp_path: Path, seed: int, heavy: bool) -> None:
    require("redis")
    if shutil.which("redis-check-aof") is None:
        pytest.skip("redis-check-aof is not installed")
    rng = random.Random(seed)
    path = tmp_path / "appendonly.aof"
    for _ in range(2000 if heavy else 150):
        data = bytearray(LOG)
        if rng.random() < 0.5:
            del data[rng.randrange(1, len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        found = scanned(bytes(data))
        if found.is_torn and data[found.offset : found.offset + 1] == b"#":
            continue  # it passes there, and spoils what is appended to it later
        if found.error is not None and "a command of 0 words" in found.error:
            continue  # it passes there, and servers do not start with it
        valid, whole = check_aof(path)
        assert (found.error is None, found.whole) == (valid, whole), bytes(data)


# -- the commands ------------------------------------------------------------------------------------------


def kvstore(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command line, in this process."""
    words = list(map(str, args))
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = cli.run(words)
    results = [each.buffer.getvalue() for each in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, *results)


def told(done: subprocess.CompletedProcess[bytes], code: int = 0) -> str:
    """What a command printed, after it has ended as it should."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert b"Traceback" not in done.stderr
    return (done.stdout + done.stderr).decode()


def random_word(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return b"%d" % rng.randrange(-(1 << rng.randrange(63)), 1 << rng.randrange(63))
    if kind < 0.6:
        return rng.randbytes(rng.randrange(12))
    return "".join(rng.choices('abcé\n\t"\\€𝄞 ', k=rng.randrange(20))).encode()


def random_value(rng: random.Random) -> Any:
    words = list(dict.fromkeys(random_word(rng) for _ in range(rng.choice((1, 3, 10, 200)))))
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice((random_word(rng), b"x" * rng.choice((0, 100, 70_000))))
    if kind == 1:
        return List.sized(words + words[:3], LIMITS)
    if kind == 2:
        return filled(words, LIMITS)
    if kind == 3:
        scores = (0.1, -0.0, 1e308, 5e-324, float("inf"), float("-inf"), rng.random(), rng.randrange(1 << 53))
        return ZSet.sized({word: float(rng.choice(scores)) for word in words}, LIMITS)
    made = Hash.sized({word: random_word(rng) for word in words}, LIMITS)
    for field in rng.sample(words, rng.randrange(min(3, len(words) + 1))):
        made.expire(field, rng.randrange(1 << 46))
    return made


def write_rdb(path: Path, rng: random.Random, keys: int) -> None:
    """A file of random keys of all types in several databases."""
    with open(path, "wb") as file:
        writer = RdbWriter(
            file.write,
            target=Target.PORTABLE,
            compress=True,
            checksum=True,
            libraries={b"lib": b"#!lua name=lib\nredis.register_function('f', function() return 1 end)\n"},
        )
        writer.begin()
        for number in range(keys):
            key = b"%d:" % number + random_word(rng)
            deadline = rng.choice((None, None, rng.randrange(1 << 45)))
            for _ in writer.entry(rng.randrange(4), key, random_value(rng), deadline) or ():
                pass
        writer.end()


@pytest.mark.parametrize("seed", range(2))
def test_dump_and_load_and_dump_are_the_same(tmp_path: Path, seed: int, heavy: bool) -> None:
    rng = random.Random(seed)
    write_rdb(tmp_path / "a.rdb", rng, 3000 if heavy else 150)
    lines = kvstore("dump", tmp_path / "a.rdb").stdout
    assert len(lines.splitlines()) == (3001 if heavy else 151)
    assert "keys in" in told(kvstore("load", "-", tmp_path / "b.rdb", stdin=lines))
    assert kvstore("dump", tmp_path / "b.rdb").stdout == lines
    told(kvstore("dump", tmp_path / "b.rdb", tmp_path / "lines"))
    assert (tmp_path / "lines").read_bytes() == lines
    # And through a directory with a log.
    told(kvstore("load", tmp_path / "lines", tmp_path / "data"))
    assert sorted(kvstore("dump", tmp_path / "data").stdout.splitlines()) == sorted(lines.splitlines())
    for path in ("a.rdb", "b.rdb", "data"):
        shown = told(kvstore("check", tmp_path / path))
        assert f"{'3,000' if heavy else '150'} keys: " in shown and "libraries of functions: lib" in shown


def test_load_overwrites_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    good = b'{"db": 0, "key": "k", "type": "string", "value": "v"}\n'
    (tmp_path / "there.rdb").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_bytes(b"mine")
    for target in ("there.rdb", "full", "full/file"):
        assert "is there already, and is not overwritten" in told(
            kvstore("load", "-", tmp_path / target, stdin=good), 1
        )
    before = sorted(tmp_path.rglob("*"))
    bad = good + b"\n" + good.replace(b'"k"', b'"l"') + b'{"db": 0}\n'
    for target in ("new.rdb", "new"):
        shown = told(kvstore("load", "-", tmp_path / target, stdin=bad), 1)
        assert shown == "kvstore load: standard input, line 4: no member 'key'\n"
    (tmp_path / "lines").write_bytes(good + good)
    shown = told(kvstore("load", tmp_path / "lines", tmp_path / "new.rdb"), 1)
    assert shown == f"kvstore load: {tmp_path}/lines, line 2: a key that was there before\n"
    assert "cannot read" in told(kvstore("load", tmp_path / "no", tmp_path / "new.rdb"), 1)
    assert "cannot write" in told(kvstore("load", "-", tmp_path / "no" / "new.rdb", stdin=good), 1)
    assert "cannot make" in told(kvstore("load", "-", tmp_path / "no" / "new", stdin=good), 1)
    (tmp_path / "lines").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    told(kvstore("load", "-", tmp_path / "empty", stdin=good))
    assert kvstore("dump", tmp_path / "empty").stdout == good


def test_dump_overwrites_nothing_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    write_rdb(tmp_path / "a.rdb", random.Random(1), 20)
    (tmp_path / "mine").write_bytes(b"mine")
    assert "is not overwritten" in told(kvstore("dump", tmp_path / "a.rdb", tmp_path / "mine"), 1)
    data = (tmp_path / "a.rdb").read_bytes()
    (tmp_path / "a.rdb").write_bytes(data[:-20])
    shown = told(kvstore("dump", tmp_path / "a.rdb", tmp_path / "new"), 1)
    assert f"{tmp_path}/a.rdb: " in shown and "offset" in shown
    assert not (tmp_path / "new").exists() and (tmp_path / "mine").read_bytes() == b"mine"


def test_the_commands_are_those_of_the_program(tmp_path: Path) -> None:
    write_rdb(tmp_path / "a.rdb", random.Random(1), 5)
    done = subprocess.run(
        [sys.executable, "-m", "kvstore", "check", str(tmp_path)],
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
    )
    assert "5 keys" in told(done)


def test_whoever_reads_the_lines_may_stop(tmp_path: Path) -> None:
    write_rdb(tmp_path / "a.rdb", random.Random(1), 500)
    process = subprocess.Popen(
        [sys.executable, "-m", "kvstore", "dump", str(tmp_path / "a.rdb")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize("tool", ["check", "dump", "load"])
def test_wrong_command_lines_end_with_2_and_a_path_with_nothing_with_1(tmp_path: Path, tool: str) -> None:
    assert f"usage: kvstore {tool}" in told(kvstore(tool, "--help"))
    assert "usage" in told(kvstore(tool), 2)
    assert "usage" in told(kvstore(tool, "a", "b", "c", "--no"), 2)
    if tool != "load":
        assert f"cannot read {tmp_path}/no: No such file" in told(kvstore(tool, tmp_path / "no"), 1)
        assert "has neither an RDB file nor" in told(kvstore(tool, tmp_path), 1)
        (tmp_path / "other").write_bytes(b"hello")
        assert "is neither an RDB file nor" in told(kvstore(tool, tmp_path / "other"), 1)


# -- check -------------------------------------------------------------------------------------------------


def test_a_damaged_rdb_file_is_told_from_a_whole_one_as_by_redis_check_rdb(
    tmp_path: Path, heavy: bool
) -> None:
    require("redis")
    if shutil.which("redis-check-rdb") is None:
        pytest.skip("redis-check-rdb is not installed")
    rng = random.Random(7)
    path = tmp_path / "a.rdb"
    write_rdb(path, rng, 5)
    whole = path.read_bytes()
    for case in range(400 if heavy else 25):
        data = bytearray(whole)
        if case % 3 == 1:
            del data[rng.randrange(1, len(data)) :]
        elif case:
            data[rng.randrange(9, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        theirs = subprocess.run(["redis-check-rdb", str(path)], capture_output=True, timeout=PATIENCE)
        shown = told(kvstore("check", path), theirs.returncode)
        assert (theirs.returncode == 0) == (case == 0)
        assert case == 0 or re.search(rf"WRONG: {path}: .* at offset \d+\n", shown)
    assert sorted(tmp_path.iterdir()) == [path]


def make_log(directory: Path, *increments: bytes, base: bytes | None = None) -> Path:
    """A directory of a server with a log of these files."""
    log = directory / "appendonlydir"
    log.mkdir(parents=True)
    manifest = ""
    if base is None:
        write_rdb(log / "appendonly.aof.1.base.rdb", random.Random(3), 5)
    else:
        (log / "appendonly.aof.1.base.rdb").write_bytes(base)
    manifest += "file appendonly.aof.1.base.rdb seq 1 type b\n"
    for number, data in enumerate(increments, 1):
        (log / f"appendonly.aof.{number}.incr.aof").write_bytes(data)
        manifest += f"file appendonly.aof.{number}.incr.aof seq {number} type i\n"
    (log / "appendonly.aof.manifest").write_text(manifest)
    return log


def state_of(directory: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock"
    }


def test_check_tells_what_a_directory_holds(tmp_path: Path) -> None:
    log = make_log(tmp_path, LOG, commands("SELECT 0", "SET a b"))
    write_rdb(tmp_path / "dump.rdb", random.Random(4), 7)
    (tmp_path / "temp-1.rdb").write_bytes(b"half")
    before = state_of(tmp_path)
    for path in (tmp_path, log, log / "appendonly.aof.manifest"):
        shown = told(kvstore("check", path))
        assert "  8 commands, 1 unit of several\n" in shown and "  2 commands\n" in shown
        assert "  5 keys: " in shown and ("  7 keys: " in shown) == (path == tmp_path)
        assert "WRONG" not in shown and "temp-1" not in shown
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("by", ["directory", "manifest", "file"])
def test_fix_cuts_a_torn_tail_and_keeps_a_copy(tmp_path: Path, by: str) -> None:
    log = make_log(tmp_path, LOG, LOG + b"*3\r\n$3\r\nSET\r\n$5\r\nab")
    last = log / "appendonly.aof.2.incr.aof"
    path = {"directory": tmp_path, "manifest": log / "appendonly.aof.manifest", "file": last}[by]
    before = state_of(tmp_path)
    shown = told(kvstore("check", path), 1)
    assert f"WRONG: {last}: the file ends within what begins at offset {len(LOG)}\n" in shown
    assert f"whole up to offset {len(LOG)}, 19 bytes before its end" in shown
    assert state_of(tmp_path) == before
    shown = told(kvstore("check", path, "--fix"))
    [copy] = log.glob("*.bak")
    assert f"FIXED: cut to {len(LOG)} bytes; as it was it is in {copy}\n" in shown
    assert re.fullmatch(r"appendonly\.aof\.2\.incr\.aof\.\d{8}-\d{6}\.bak", copy.name)
    assert state_of(tmp_path) == {**before, last: LOG, copy: before[last]}
    assert "WRONG" not in told(kvstore("check", path, "--fix"))


def test_nothing_but_a_torn_tail_is_fixed(tmp_path: Path) -> None:
    torn, wrong = LOG + b"*1\r\n$3\r\nab", LOG + b"*1\r\n$x\r\nab\r\n" + LOG
    base = make_log(tmp_path / "whole", LOG).joinpath("appendonly.aof.1.base.rdb").read_bytes()
    cases = {
        "earlier": ((torn, LOG), None, "more of the log comes behind this file"),
        "middle": ((wrong,), None, "is no torn tail"),
        "base": ((LOG,), base[:-3], "ends too early"),
        "tail": ((LOG,), base + torn, "more of the log comes behind this file"),
    }
    for name, (increments, rdb, why) in cases.items():
        make_log(tmp_path / name, *increments, base=rdb)
        before = state_of(tmp_path / name)
        shown = told(kvstore("check", tmp_path / name, "--fix"), 1)
        assert why in shown and shown.count("WRONG") == 1, shown
        assert state_of(tmp_path / name) == before
    earlier = tmp_path / "earlier" / "appendonlydir" / "appendonly.aof.1.incr.aof"
    assert "more of the log" in told(kvstore("check", earlier, "--fix"), 1)
    assert earlier.read_bytes() == torn


def test_what_is_in_use_is_not_fixed(tmp_path: Path) -> None:
    log = make_log(tmp_path, LOG[:-3])
    lock = DirectoryLock(str(log))
    shown = told(kvstore("check", tmp_path, "--fix"), 1)
    lock.release()
    assert f"in use by this process (pid {os.getpid()})" in shown
    assert not list(log.glob("*.bak")) and (log / "appendonly.aof.1.incr.aof").read_bytes() == LOG[:-3]


def test_a_manifest_that_is_wrong_or_names_what_is_not_there(tmp_path: Path) -> None:
    log = make_log(tmp_path, LOG)
    (log / "appendonly.aof.1.incr.aof").unlink()
    assert f"WRONG: cannot read {log}/appendonly.aof.1.incr.aof: No such file" in told(
        kvstore("check", tmp_path), 1
    )
    manifest = log / "appendonly.aof.manifest"
    manifest.write_text("file a seq 1 type b\nfile b seq 2 type b\n")
    assert f"WRONG: {manifest}: line 2 " in told(kvstore("check", tmp_path), 1)
    shown = told(kvstore("check", log / "other.manifest"), 1)
    assert f"WRONG: cannot read {log}/other.manifest: it is not there" in shown


def test_logs_of_one_file_with_and_without_an_rdb_in_front(tmp_path: Path) -> None:
    old = tmp_path / "appendonly.aof"
    old.write_bytes(LOG)
    assert "8 commands" in told(kvstore("check", old)) and "8 commands" in told(kvstore("check", tmp_path))
    write_rdb(old, random.Random(1), 5)
    size = old.stat().st_size
    old.write_bytes(old.read_bytes() + LOG + b"*1\r\n")
    shown = told(kvstore("check", old), 1)
    assert "5 keys" in shown and "8 commands" in shown and f"whole up to offset {size + len(LOG)}" in shown
    told(kvstore("check", old, "--fix"))
    assert old.stat().st_size == size + len(LOG)
    assert (
        sorted(path.name for path in tmp_path.iterdir())[0] == "appendonly.aof"
        and len(list(tmp_path.iterdir())) == 2
    )


def test_real_servers_say_the_same_of_a_log(tmp_path: Path) -> None:
    require("redis")
    rng = random.Random(11)
    log = make_log(tmp_path, LOG, LOG + LOG)
    files = sorted(path for path in log.iterdir() if path.suffix != ".manifest")
    whole = {path: path.read_bytes() for path in files}
    for case in range(25):
        path = rng.choice(files)
        data = bytearray(whole[path])
        if case % 2:
            del data[rng.randrange(1, len(data)) :]
        elif case:
            data[rng.randrange(9, len(data))] ^= 4
        path.write_bytes(data)
        theirs = subprocess.run(
            ["redis-check-aof", str(log / "appendonly.aof.manifest")], capture_output=True, timeout=PATIENCE
        )
        told(kvstore("check", tmp_path), theirs.returncode)
        path.write_bytes(whole[path])


# -- dumps of logs, and other people's files ---------------------------------------------------------------


def lines_of(*args: object) -> list[Any]:
    done = kvstore("dump", *args)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_log_is_dumped_as_it_is_after_its_commands(tmp_path: Path) -> None:
    torn = commands("SELECT 3", "SADD s a b", "SREM s a") + b"*1\r\n$3\r\nab"
    log = make_log(tmp_path, LOG, torn)
    write_rdb(log / "appendonly.aof.1.base.rdb", random.Random(1), 0)
    write_rdb(tmp_path / "dump.rdb", random.Random(1), 5)  # the log counts
    before = state_of(tmp_path)
    expected = [
        {"db": 0, "key": "n", "type": "string", "value": "1"},
        {"db": 0, "key": "l", "type": "list", "value": ["1", "2", "3"]},
        {"db": 0, "key": "long", "type": "string", "value": "x" * 300},
        {"db": 3, "key": "s", "type": "set", "value": ["b"]},
    ]
    for path in (tmp_path, log, log / "appendonly.aof.manifest"):
        assert lines_of(path)[1:] == expected
        shown = kvstore("dump", path)
        assert shown.returncode == 0 and b"the torn tail from offset" in shown.stderr
    assert lines_of(log / "appendonly.aof.1.incr.aof") == expected[:3]
    assert state_of(tmp_path) == before
    (log / "appendonly.aof.1.incr.aof").unlink()
    assert "appendonly.aof.1.incr.aof" in told(kvstore("dump", log), 1)


def test_logs_of_one_file_are_dumped(tmp_path: Path) -> None:
    old = tmp_path / "appendonly.aof"
    old.write_bytes(LOG)
    assert [line["key"] for line in lines_of(tmp_path)] == ["n", "l", "long"]
    write_rdb(old, random.Random(1), 5)
    old.write_bytes(old.read_bytes() + LOG)
    before = state_of(tmp_path)
    assert len(lines_of(old)) == 1 + 5 + 3
    assert state_of(tmp_path) == before


def test_a_directory_with_several_files_needs_a_name(tmp_path: Path) -> None:
    for name in ("a.rdb", "b.rdb"):
        write_rdb(tmp_path / name, random.Random(1), 3)
    assert "of which one must be named" in told(kvstore("dump", tmp_path), 1)
    assert "3 keys" in told(kvstore("check", tmp_path))


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    write_rdb(tmp_path / "a.rdb", random.Random(1), 200)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kvstore", "dump", str(tmp_path / "a.rdb")],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 1
    assert done.stderr == b"kvstore dump: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_servers_have_the_same_data_after_dump_and_load(tmp_path: Path, kind: str) -> None:
    require(kind)
    (tmp_path / "given").mkdir()
    write_rdb(tmp_path / "given" / "dump.rdb", random.Random(5), 100)
    told(kvstore("dump", tmp_path / "given", tmp_path / "lines"))
    told(kvstore("load", tmp_path / "lines", tmp_path / "made"))
    digests = []
    options: dict[str, str]
    for name, options in (("given", {}), ("made", {"appendonly": "yes"})):
        options |= {"dir": str(tmp_path / name), "enable-debug-command": "yes"}
        with running(kind, options=options) as server, server.client() as client:
            digests.append(client.call("DEBUG", "DIGEST"))
            assert client.call("SAVE") == b"+OK\r\n"
    assert digests[0] == digests[1] != b"+" + b"0" * 40 + b"\r\n"
    # What they have written has the same in it (they leave out what has expired).
    ours = {
        str(line["key"]): line for line in map(json.loads, (tmp_path / "lines").open("rb")) if "key" in line
    }
    theirs = [line for line in lines_of(tmp_path / "given" / "dump.rdb") if "key" in line]
    assert len(theirs) > 50
    for line in theirs:
        own = ours[str(line["key"])]
        assert {name: line.get(name) for name in ("db", "type", "expires_at_ms")} == {
            name: own.get(name) for name in ("db", "type", "expires_at_ms")
        }
        if line["type"] in ("string", "list"):
            assert line == own


@pytest.mark.parametrize("seed", range(2))
def test_a_store_opens_what_check_calls_whole_and_cuts_what_check_would_cut(
    tmp_path: Path, seed: int, heavy: bool
) -> None:
    rng = random.Random(seed)
    outcomes = set()
    for case in range(500 if heavy else 40):
        data = bytearray(LOG)
        how = rng.randrange(3)
        if how == 0:
            del data[rng.randrange(len(data)) :]
        elif how == 1:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            data[rng.randrange(len(data)) :] = bytes(rng.randrange(1, 100))
        directory = tmp_path / str(case)
        log = make_log(directory, bytes(data)) / "appendonly.aof.1.incr.aof"
        done = kvstore("check", directory)
        try:
            opened = open_store(directory, databases=4)
        except StoreError:
            # Wrong, or whole with words that are no command, or no argument of it, here.
            assert log.read_bytes() == data
            outcomes.add("refused")
            continue
        opened.close()
        if done.returncode:
            assert b"a torn tail" in done.stdout
            [whole] = re.findall(rb"whole up to offset (\d+), ", done.stdout)
            assert log.read_bytes() == data[: int(whole)]
            outcomes.add("torn")
        else:
            assert log.read_bytes() == data
            outcomes.add("whole")
        shutil.rmtree(directory)
    assert outcomes == {"refused", "torn", "whole"}


def test_commands_that_nobody_knows_here_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.aof").write_bytes(LOG + commands("BF.ADD f x", "function LOAD x", "bf.add f y"))
    shown = told(kvstore("check", tmp_path / "a.aof"))
    assert "commands that are not known here, so that the log cannot be loaded: BF.ADD, bf.add\n" in shown
