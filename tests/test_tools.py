"""``kvstore check``, ``dump`` and ``load``: what they say, what they leave alone, and that they agree with others."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kvstore.tools.scan import Scan, scan
from tests.conftest import require

PATIENCE = 30.0


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
        (b"hello", 0, "'*' is expected"),
        (LOG + b"+OK\r\n", len(LOG), "'*' is expected"),
        (b"*x\r\n", 0, "no number behind '*'"),
        (b"*-1\r\n", 0, "no number"),
        (b"*0\r\n", 0, "a command of 0 words"),
        (b"*99999999\r\n$1\r\na\r\n", 0, "a command of 99999999 words"),
        (b"*1\r\n$99999999999\r\n", 4, "a word of 99999999999 bytes"),
        (b"*1\r\n$" + b"9" * 5000, 4, "no number behind '$'"),
        (b"*1\r\n$1\r\nab\r\n", 9, "no end of a line"),
        (b"*2\r\n$1\r\na\r\n*1\r\n", 11, "'$' is expected"),
        (commands("MULTI", "MULTI"), 15, "MULTI within MULTI"),
        (commands("EXEC"), 0, "EXEC without MULTI"),
        (b"*1\n$1\na\n", 0, "no number"),
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
    assert not scanned(LOG[:cut] + bytes(5000) + b"x").is_torn


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
    for _ in range(5000 if heavy else 150):
        data = bytearray(LOG)
        if rng.random() < 0.5:
            del data[rng.randrange(1, len(data)) :]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        found = scanned(bytes(data))
        if found.error is not None and "within a comment" in found.error:
            continue  # it passes there, and spoils what is appended to it later
        if found.error is not None and "a command of 0 words" in found.error:
            continue  # it passes there, and servers do not start with it
        valid, whole = check_aof(path)
        assert (found.error is None, found.whole) == (valid, whole), bytes(data)
