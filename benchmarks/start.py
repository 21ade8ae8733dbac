"""How long ``from kvstore import Store`` takes, in fresh processes, beside an interpreter that does nothing.

    python -m benchmarks.start [--size small] [--rounds 15] [--json FILE]

The clock is read in this process, around the whole of the other. What is judged is the median of the differences. Modules are
compiled before. ``python -S -E`` would be faster, and is not what programs do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.harness import Row, Run, Samples, main, row, turns
from benchmarks.instances import ROOT

PROGRAMS = {
    "pass": "pass",
    "import kvstore": "import kvstore",
    "from kvstore import Store": "from kvstore import Store",
}


def milliseconds(program: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)
    return (time.perf_counter() - began) * 1000


def measure(run: Run) -> Iterator[Row]:
    samples = Samples()
    rounds = max(run.rounds, run.pick(1, 11, 41))
    for program in PROGRAMS.values():
        milliseconds(program)
    for name, program in turns(rounds, list(PROGRAMS.items())):
        samples.add(name, ms=milliseconds(program))
    found = samples["ms"]
    for name in ("import kvstore", "from kvstore import Store"):
        more = [took - least for took, least in zip(found[name], found["pass"], strict=True)]
        yield row(name, "time", "ms", {"kvstore": more}, "import", against=None)
    yield row("an interpreter that does nothing", "time", "ms", {"python": found["pass"]})


if __name__ == "__main__":
    main("start", measure, __doc__)
