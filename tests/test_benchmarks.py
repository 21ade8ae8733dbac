"""The benchmark of files, very small: it must run when it is needed. Figures mean nothing at this size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.persistence import SECTIONS, measure, oldest_unsynced
from tests.conftest import require

KINDS = ["kvstore", "redis"]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_gives_its_rows(section: str, tmp_path: Path) -> None:
    require("redis")
    rows = list(measure([section], keys=2000, requests=500, rounds=1, kinds=KINDS, directory=tmp_path))
    names = {row["test"] for row in rows}
    assert (
        names
        == {
            "load": {"load_rdb", "load_aof", "save"},
            "throughput": {"set_none", "set_everysec", "set_always"},
            "latency": {"latency_quiet", "latency_snapshot"},
            "bound": {"everysec_bound"},
            "embedded": {f"embedded_set_{name}" for name in ("memory", "no", "everysec", "always")},
        }[section]
    )


def test_the_age_of_what_is_not_synced_is_that_of_the_oldest() -> None:
    writes = [("write", at / 10, at / 10) for at in range(30)]  # up to 2.9
    syncs = [("sync", 1.05, 1.25), ("sync", 2.05, 2.15), ("sync", 3.0, 3.1)]
    # 0.0 waits to 1.25; 1.1 to 2.15; 2.1 to 3.1
    oldest, longest = oldest_unsynced(writes + syncs)
    assert oldest == 1.25 and longest == pytest.approx(0.2)
