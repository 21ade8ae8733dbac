"""The benchmarks, very small: they must run when they are needed. Figures mean nothing at this size."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks import load
from benchmarks.__main__ import SUITES
from benchmarks.goals import GOALS
from benchmarks.harness import Run
from benchmarks.instances import ROOT, request, running
from benchmarks.persistence import SECTIONS, measure, oldest_unsynced
from tests.conftest import require

KINDS = ("kvstore", "redis")

# Rows that stand for all of a benchmark, where the others are the same again.
SOME = {"memory": ("strings", "hashes", "large set"), "eviction": ("allkeys-lru",)}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: it has Unix sockets in directories below, whose names may not be long."""
    with TemporaryDirectory(prefix="kv-") as directory:
        yield Path(directory)


def tiny(tmp_path: Path, *rows: str) -> Run:
    return Run("tiny", 1, KINDS, tmp_path, rows)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_gives_its_rows(section: str, tmp_path: Path) -> None:
    require("redis")
    names = {row["test"] for row in measure(tiny(tmp_path, section))}
    assert (
        names
        == {
            "load": {
                f"{what}, 2,000 keys" for what in ("load an RDB file", "load a log", "save an RDB file")
            },
            "throughput": {
                f"SET, log {name}, depth {n}" for name in ("none", "everysec", "always") for n in (1, 16)
            },
            "latency": {"latency quiet", "latency during BGSAVE", "BGSAVE under load"},
            "bound": {"appendfsync everysec"},
            "embedded": {f"embedded set(), fsync {name}" for name in ("no", "everysec", "always")},
        }[section]
    )


@pytest.mark.parametrize("name", [name for name in SUITES if name != "persistence"])
def test_every_benchmark_gives_rows(name: str, tmp_path: Path) -> None:
    require("redis")
    if SUITES[name]:
        pytest.importorskip(SUITES[name] or "")
    rows = list(importlib.import_module(f"benchmarks.{name}").measure(tiny(tmp_path, *SOME.get(name, ()))))
    assert rows and json.loads(json.dumps(rows)) == rows
    assert len({(row["test"], row["figure"]) for row in rows}) == len(rows)
    assert {row["goal"] for row in rows if "goal" in row} <= set(GOALS)


def test_one_command_measures_and_writes_what_it_found(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--only",
        "start",
        "--size",
        "tiny",
        "--results",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "start.json").read_text())
    assert (told["name"], told["size"], told["rounds"]) == ("start", "tiny", 1)
    assert {"python", "optimized_build", "cpu", "cores", "kernel", "hiredis"} <= set(told["machine"])
    assert told["date"] and told["commit"]
    assert next(row["test"] for row in told["rows"]) == "import kvstore"


def test_a_load_whose_requests_fail_is_no_load(tmp_path: Path) -> None:
    with running("kvstore", tmp_path, {}) as server:
        assert load.reply_bytes(server, request("GET", "key") * 3) == len(b"$-1\r\n") * 3
        with pytest.raises(RuntimeError, match="wrong number of arguments"):
            load.reply_bytes(server, request("GET"))


def test_an_open_loop_has_a_time_for_each_request(tmp_path: Path) -> None:
    with running("kvstore", tmp_path, {}) as server:
        asked = [request("GET", "key")]
        times = load.open_loop(
            server, asked, load.reply_bytes(server, asked[0]), rate=1000, seconds=0.2, sockets=3
        )
        assert 195 <= len(times) <= 205 and min(times) > 0


def test_the_age_of_what_is_not_synced_is_that_of_the_oldest() -> None:
    writes = [("write", at / 10, at / 10) for at in range(30)]  # up to 2.9
    syncs = [("sync", 1.05, 1.25), ("sync", 2.05, 2.15), ("sync", 3.0, 3.1)]
    # 0.0 waits to 1.25; 1.1 to 2.15; 2.1 to 3.1
    oldest, longest = oldest_unsynced(writes + syncs)
    assert oldest == 1.25 and longest == pytest.approx(0.2)
