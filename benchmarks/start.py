"""How long ``from kvstore import Store`` takes, in fresh processes, beside an interpreter that does nothing.

    python -m benchmarks.start [--size small] [--rounds 15] [--json FILE]

The clock is read in this process, around the whole of the other. What is judged is the median of the differences; that of the CPU,
which moves less with the load of the machine, is beside it. Modules are compiled before.
"""

from __future__ import annotations

import os
import resource
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


def milliseconds(program: str) -> tuple[float, float]:
    """By the clock, and of CPU."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took * 1000, used * 1000


def measure(run: Run) -> Iterator[Row]:
    samples = Samples()
    rounds = max(run.rounds, run.pick(1, 11, 41))
    for program in PROGRAMS.values():
        milliseconds(program)
    for name, program in turns(rounds, list(PROGRAMS.items())):
        took, used = milliseconds(program)
        samples.add(name, time=took, CPU=used)
    for figure, goal in (("time", "import"), ("CPU", None)):
        found = samples[figure]
        for name in ("import kvstore", "from kvstore import Store"):
            more = [took - least for took, least in zip(found[name], found["pass"], strict=True)]
            yield row(name, figure, "ms", {"kvstore": more}, goal, against=None)
        yield row("an interpreter that does nothing", figure, "ms", {"python": found["pass"]})


if __name__ == "__main__":
    main("start", measure, __doc__)
