"""Runs all benchmarks, or some, and writes their results.

    python -m benchmarks [--only throughput,memory] [--size small|full] [--rounds N] [--results DIR]

Each also runs alone: ``python -m benchmarks.NAME``. ``python -m benchmarks.plot`` draws the plots and writes the page from
the results; ``python -m benchmarks.commits`` compares commits, which this does not.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from pathlib import Path

from benchmarks.harness import RESULTS, gather, options_of, options_to_run, write

# In the order in which they run; what each needs besides servers.
SUITES: dict[str, str | None] = {
    "start": None,
    "store_vs_dict": "redis",
    "throughput": None,
    "latency": None,
    "large": None,
    "memory": None,
    "persistence": None,
    "fake": "fakeredis",
    "eviction": None,
}


def main() -> int:
    parser = options_of(__doc__)
    parser.add_argument("--only", default=",".join(SUITES), help="names, with commas")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files go")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in SUITES]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(SUITES)}")
    failed = []
    for name in names:
        needs = SUITES[name]
        if needs and importlib.util.find_spec(needs) is None:
            print(f"== {name}: left out, as {needs} is not installed", flush=True)
            continue
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            with options_to_run(options) as run:
                rows = gather(run, importlib.import_module(f"benchmarks.{name}").measure)
                write(name, run.size, run.rounds, rows, options.results / f"{name}.json")
        except Exception as error:  # the others can still be measured
            failed.append(name)
            print(f"== {name} failed: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"== {name}: {len(rows)} rows in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
