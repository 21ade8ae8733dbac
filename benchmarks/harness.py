"""Rounds, medians, ratios, spread, and the files of results: what all benchmarks share.

A benchmark is a function that yields rows, ``measure(run)``. A row has the figures of each competitor, one for each
round, in which all took their turn; the medians are compared. Ratios from one run are what counts: machines are shared and
noisy. The spread of a ratio is its least and its greatest in any round.

Must not know: what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.goals import GOALS
from benchmarks.instances import KINDS, ROOT, available

Row = dict[str, Any]
T = TypeVar("T")
RESULTS = ROOT / "benchmarks" / "results"
SIZES = ("tiny", "small", "full")  # tiny shows that a benchmark runs, small that it measures
ROUNDS = {"tiny": 1, "small": 3, "full": 5}


@dataclass
class Run:
    """How much is to be measured, against which servers, and where files may be written meanwhile."""

    size: str
    rounds: int
    kinds: tuple[str, ...]
    directory: Path
    rows: tuple[str, ...] = ()  # beginnings of the names of the rows wanted; none: all

    def pick(self, tiny: T, small: T, full: T) -> T:
        """What goes with the size."""
        return {"tiny": tiny, "small": small, "full": full}[self.size]

    def wants(self, name: str) -> bool:
        return not self.rows or any(name.lower().startswith(row.lower()) for row in self.rows)

    def place(self, name: str) -> Path:
        """An empty directory."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))


Measure = Callable[[Run], Iterator[Row]]


@dataclass
class Samples:
    """What each competitor's turns gave, figure by figure."""

    found: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, who: str, **figures: float) -> None:
        for figure, value in figures.items():
            self.found.setdefault(figure, {}).setdefault(who, []).append(value)

    def __getitem__(self, figure: str) -> dict[str, list[float]]:
        return self.found[figure]


def turns(rounds: int, competitors: Sequence[T]) -> Iterator[T]:
    """Each competitor once a round, in turn; every other round the other way round."""
    for number in range(rounds):
        yield from competitors if number % 2 == 0 else competitors[::-1]


def row(
    test: str,
    figure: str,
    unit: str,
    samples: Mapping[str, Sequence[float]],
    goal: str | None = None,
    *,
    against: str | None = "redis",
    inverse: bool = False,
    **more: Any,
) -> Row:
    """The row of a table: medians, the ratio of kvstore's to that of ``against``, its spread, and whether the goal is met.

    ``inverse``: the ratio is that of the other to ours. ``against`` None: the figure itself is judged.
    """
    made: Row = {"test": test, "figure": figure, "unit": unit, **more}
    made["medians"] = {who: rounded(statistics.median(found)) for who, found in samples.items()}
    made["rounds"] = max(map(len, samples.values()))
    ours = samples.get("kvstore")
    theirs = [1.0] * len(ours or ()) if against is None else samples.get(against)
    if ours is None or theirs is None or (against and min(*ours, *theirs) <= 0):
        return made  # there is no ratio
    made["against"] = against
    made["result"] = rounded(_quotient(statistics.median(ours), statistics.median(theirs), inverse))
    each = [_quotient(mine, other, inverse) for mine, other in zip(ours, theirs, strict=False)]
    made["spread"] = [rounded(min(each)), rounded(max(each))]
    if goal is not None:
        aim = GOALS[goal]
        made |= {"goal": goal, "reach": aim.reach, "dream": aim.dream, "met": aim.met(made["result"])}
    return made


def _quotient(ours: float, theirs: float, inverse: bool) -> float:
    return theirs / ours if inverse else ours / theirs


def rounded(value: float) -> float:
    """Four figures that count, and whole numbers above: more is noise."""
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def line(made: Row) -> str:
    """A row as it is printed."""
    figures = " / ".join(f"{who} {value:,g}" for who, value in made["medians"].items())
    text = f"{made['test']:>30}  {made['figure']}: {figures} {made['unit']}"
    if "result" in made:
        low, high = made["spread"]
        text += (
            f" = {made['result']:g} ({low:g} to {high:g})" if made["against"] else f" ({low:g} to {high:g})"
        )
    if "goal" in made:
        text += f"  {GOALS[made['goal']].told()}: {made['met']}, dream {made['dream']:g}"
    return text


# -- the machine and the files ----------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "optimized_build": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
    }
    for program in ("redis", "valkey"):
        if shutil.which(f"{program}-server"):
            told = _output(f"{program}-server", "--version").split("v=")
            found[program] = told[1].split()[0] if len(told) > 1 else "unknown"
    for package in ("hiredis", "redis", "fakeredis", "lupa"):
        try:
            found["redis-py" if package == "redis" else package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [each.split(":", 1)[1].strip() for each in lines if each.startswith("model name")]
    return names[0] if names else "unknown"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def commit() -> str:
    """Of the tree; with a plus where files of the package differ from it."""
    changed = _output("git", "status", "--porcelain", "--", "kvstore")
    return (_output("git", "rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def write(name: str, size: str, rounds: int, rows: list[Row], path: Path) -> None:
    """The results of a benchmark as a file."""
    told = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "size": size,
        "rounds": rounds,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": name, **told, "machine": machine(), "rows": rows}, indent=1) + "\n")


@contextmanager
def run_of(
    size: str,
    rounds: int | None = None,
    kinds: Sequence[str] = KINDS,
    directory: Path | None = None,
    rows: Sequence[str] = (),
) -> Iterator[Run]:
    """A run whose files are gone at its end. Servers that are not installed are left out."""
    place = Path(tempfile.mkdtemp(prefix="kvstore-bench-", dir=directory))
    there = tuple(kind for kind in kinds if available(kind))
    try:
        yield Run(size, rounds or ROUNDS[size], there, place, tuple(rows))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def gather(run: Run, measure: Measure) -> list[Row]:
    """All rows of a benchmark, printed as they come."""
    rows = []
    for made in measure(run):
        print(line(made), flush=True)
        rows.append(made)
    return rows


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--servers", default=",".join(KINDS))
    parser.add_argument("--rows", default="", help="beginnings of the names of rows: get,set")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    return parser


def options_to_run(options: argparse.Namespace) -> Any:
    """The context of a run as the options have it."""
    rows = [each for each in options.rows.split(",") if each]
    return run_of(options.size, options.rounds, options.servers.split(","), options.directory, rows)


def main(name: str, measure: Measure, doc: str | None) -> None:
    """One benchmark as a program."""
    parser = options_of(doc)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    with options_to_run(options) as run:
        rows = gather(run, measure)
        if options.json:
            write(name, run.size, run.rounds, rows, options.json)
    if not rows:
        sys.exit("no rows")
