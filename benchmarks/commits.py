"""Instructions a command: this tree beside an earlier commit.

    python -m benchmarks.commits [BASE] [--size small|full] [--only GET,SET] [--json FILE]

BASE is a commit (the last one unless told). Each tree runs the same loads (`benchmarks/in_process.py`, of this tree) once
under valgrind's callgrind, which counts instructions: these hardly change from run to run and with whatever else the
machine does. Start-up is not counted, and of several layouts of memory the best one counts. A load that takes a tenth more than before gets a warning; the exit
code stays 0, as a figure alone fails nothing.

Where there is nothing to compare with (a clone of depth 1, no repository), or no valgrind, this says so.

Must not know: what the loads do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.in_process import LOADS

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).with_name("in_process.py")
WARN = 0.1  # of the instructions before
COUNTS = {"small": 400, "full": 5000}  # commands of each load
SHIFTS = (0, 7, 23)  # layouts of memory
RUN_SECONDS = 1200.0
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.M)


class NothingToCompare(Exception):
    """Why there is no comparison."""


@dataclass(frozen=True)
class Comparison:
    """Instructions a command of one load, before and now."""

    name: str
    before: float
    now: float

    @property
    def change(self) -> float:
        """0.1 is a tenth more than before."""
        return self.now / self.before - 1

    @property
    def warns(self) -> bool:
        return self.change >= WARN


def instructions(tree: Path, names: Iterable[str], count: int) -> tuple[dict[str, float], dict[str, str]]:
    """Instructions a command of each load in a tree; why other loads were left out."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # The first run compiles the modules: that would be most of the work under callgrind.
    told = _run([sys.executable, str(SCRIPT), "1", "0", ";".join(names)], environment)
    if Path(told["package"]).resolve() != (tree / "kvstore").resolve():
        raise RuntimeError(f"measured {told['package']} instead of {tree}")
    found: dict[str, float] = {}
    for shift in SHIFTS:
        command = [sys.executable, str(SCRIPT), str(count), str(shift), ";".join(names)]
        for name, figure in _counted(command, environment).items():
            found[name] = min(figure, found.get(name, figure))
    return found, told["left_out"]


def _counted(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Instructions a command of each load, in one run."""
    with tempfile.TemporaryDirectory(prefix="kvstore-callgrind-") as directory:
        grind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
        grind += ["--dump-line=no", "--dump-before=getloadavg"]
        told = _run([*grind, *command], environment)
        found = {}
        for at, load in enumerate(told["ran"]):
            part = Path(directory, f"out.{2 * at + 2}")  # part 1 is what led to the first load
            total = _TOTAL.search(part.read_text(errors="replace"))
            if total is None:
                raise RuntimeError("callgrind has written no total")
            found[load["name"]] = int(total[1]) / load["commands"]
    return found


def _run(command: list[str], environment: dict[str, str]) -> Any:
    """What the program printed, as JSON."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)


def compare(before: Path, now: Path, names: list[str], count: int) -> tuple[list[Comparison], dict[str, str]]:
    """All loads that both trees can run, and why others are left out. Both run at once: nothing is timed."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(instructions, tree, names, count) for tree in (before, now)]
        (old, old_out), (new, new_out) = (job.result() for job in jobs)
    both = [Comparison(name, old[name], new[name]) for name in names if name in old and name in new]
    left_out = {name: f"before: {why}" for name, why in old_out.items()}
    return both, left_out | {name: f"now: {why}" for name, why in new_out.items()}


def table(rows: list[Comparison], left_out: dict[str, str]) -> str:
    """What is printed of a comparison."""
    width = max((len(row.name) for row in rows), default=4)
    lines = [f"{'load':{width}}  {'before':>9} {'now':>9} {'change':>8}   (instructions a command)"]
    for row in rows:
        warning = "   WARNING: a tenth more, or worse" if row.warns else ""
        lines.append(f"{row.name:{width}}  {row.before:9.0f} {row.now:9.0f} {row.change:+8.1%}{warning}")
    lines += [f"{name}: not compared ({why})" for name, why in left_out.items()]
    return "\n".join(lines)


def checkout(base: str, directory: Path, root: Path = ROOT) -> str:
    """The package as a commit has it, in a directory; the commit's full name. The repository is only read."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}").decode().strip()
    archive = _git(root, "archive", "--format=tar", commit, "kvstore")
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True, timeout=120)
    return commit


def _git(root: Path, *words: str) -> bytes:
    if shutil.which("git") is None:
        raise NothingToCompare("there is no git")
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, timeout=120)
    if done.returncode != 0:
        why = (
            done.stderr.decode(errors="replace").strip()
            or "there is no such commit, as in a clone of depth 1"
        )
        raise NothingToCompare(why.splitlines()[-1])
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", nargs="?", default="HEAD~1")
    parser.add_argument("--size", choices=COUNTS, default="full")
    parser.add_argument("--only", help="names of loads, with semicolons: GET;SET")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    names = options.only.split(";") if options.only else list(LOADS)
    if unknown := [name for name in names if name not in LOADS]:
        parser.error(f"no load {unknown[0]!r}; there are {'; '.join(LOADS)}")
    with tempfile.TemporaryDirectory(prefix="kvstore-commit-") as directory:
        try:
            if shutil.which("valgrind") is None:
                raise NothingToCompare("there is no valgrind")
            commit = checkout(options.base, Path(directory))
        except NothingToCompare as why:
            print(f"nothing to compare: {options.base}: {why}")
            return 0
        print(f"this tree beside {options.base} ({commit[:10]})", flush=True)
        rows, left_out = compare(Path(directory), ROOT, names, COUNTS[options.size])
    print(table(rows, left_out))
    if options.json:
        found = [{"load": row.name, "before": round(row.before), "now": round(row.now)} for row in rows]
        options.json.write_text(json.dumps({"base": commit, "rows": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
