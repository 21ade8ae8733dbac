"""The benchmarks, very small: they must run when they are needed. Figures mean nothing at this size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness import Run
from benchmarks.persistence import SECTIONS, measure, oldest_unsynced
from tests.conftest import require

KINDS = ("kvstore", "redis")


def tiny(tmp_path: Path, *rows: str) -> Run:
    return Run("tiny", 1, KINDS, tmp_path, rows)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_gives_its_rows(section: str, tmp_path: Path) -> None:
    require("redis")
    names = {row["test"] for row in measure(tiny(tmp_path, section))}
    assert (
        names
        == {
            "load": {"load an RDB file", "load a log", "save an RDB file"},
            "throughput": {
                f"SET, log {name}, depth {n}" for name in ("none", "everysec", "always") for n in (1, 16)
            },
            "latency": {"latency quiet", "latency during BGSAVE", "BGSAVE under load"},
            "bound": {"appendfsync everysec"},
            "embedded": {f"embedded set(), fsync {name}" for name in ("no", "everysec", "always")},
        }[section]
    )


def test_the_age_of_what_is_not_synced_is_that_of_the_oldest() -> None:
    writes = [("write", at / 10, at / 10) for at in range(30)]  # up to 2.9
    syncs = [("sync", 1.05, 1.25), ("sync", 2.05, 2.15), ("sync", 3.0, 3.1)]
    # 0.0 waits to 1.25; 1.1 to 2.15; 2.1 to 3.1
    oldest, longest = oldest_unsynced(writes + syncs)
    assert oldest == 1.25 and longest == pytest.approx(0.2)
