"""Draws the plots and writes the tables of docs/performance.md, both from the files of results.

    pip install '.[benchmarks]' && python -m benchmarks.plot [--tables-only]

The page is written by hand but for what stands between ``<!-- figures: NAME -->`` and ``<!-- end -->``, which is made here; a test
compares. Nothing depends on the time or on chance, so that the same results give the same files.

Must not know: how anything was measured.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.goals import GOALS
from benchmarks.harness import RESULTS, Row
from benchmarks.instances import ROOT

PAGE = ROOT / "docs" / "performance.md"
_BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
# Names of the plots, titles, and the goals whose rows they show.
PLOTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "throughput": (
        "Throughput, redis-server = 1 (longer is better)",
        ("single", "pipelined", "bulk", "compound"),
    ),
    "cost": (
        "CPU, latency, memory, time, redis-server = 1 (shorter is better)",
        ("cpu", "large-zset", "latency", "memory-keys", "memory-small", "memory-large", "files"),
    ),
}
MET = {"dream": "yes, and the dream", "yes": "yes", "no": "**no**"}
Results = dict[str, dict[str, Any]]


def read(directory: Path = RESULTS) -> Results:
    """All files of results, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}


def judged(results: Results) -> list[Row]:
    """All rows that have a goal, in the order of the goals."""
    rows = [row for told in results.values() for row in told["rows"] if "goal" in row]
    return sorted(rows, key=lambda row: list(GOALS).index(row["goal"]))


# -- the page ----------------------------------------------------------------------------------------------


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _medians(row: Row) -> str:
    return ", ".join(f"{who} {number(value)}" for who, value in row["medians"].items())


def _result(row: Row) -> str:
    if "result" not in row:
        return ""
    low, high = row["spread"]
    return f"{number(row['result'])} ({number(low)} to {number(high)})"


def goal_table(results: Results, goal: str) -> str:
    """The rows of a goal."""
    rows = [row for row in judged(results) if row["goal"] == goal]
    if not rows:
        return "Not measured yet.\n"
    others = list(dict.fromkeys(who for row in rows for who in row["medians"] if who != "kvstore"))
    head = ["What", "Unit", "kvstore", *others]
    head += ["Ratio (spread)" if rows[0]["against"] else "Spread", "Goal", "Dream", "Reached"]
    lines = []
    for row in rows:
        medians = [
            number(row["medians"][who]) if who in row["medians"] else "" for who in ("kvstore", *others)
        ]
        aims = [f"{row['reach']:g}", f"{row['dream']:g}", MET[row["met"]]]
        lines.append([row["test"], row["unit"], *medians, _result(row), *aims])
    aim = GOALS[goal]
    return f"{aim.what}: {aim.told()}.\n\n" + _table(head, lines)


def file_table(results: Results, name: str) -> str:
    """The rows of a file that have no goal."""
    rows = [row for row in results.get(name, {"rows": []})["rows"] if "goal" not in row]
    if not rows:
        return "Not measured yet.\n"
    lines = [[row["test"], f"{row['figure']}, {row['unit']}", _medians(row), _result(row)] for row in rows]
    return _table(["What", "Figure", "Medians", "Ratio (spread)"], lines)


def verdict(results: Results) -> str:
    """How many goals are reached, by goal."""
    lines = []
    for goal, aim in GOALS.items():
        rows = [row for row in judged(results) if row["goal"] == goal]
        if rows:
            found = [row["result"] for row in rows]
            reached = sum(row["met"] != "no" for row in rows)
            dreams = sum(row["met"] == "dream" for row in rows)
            worst, best = (min(found), max(found)) if aim.more else (max(found), min(found))
            cells = [f"{aim.told()}; dream {aim.dream:g}", number(worst), number(best)]
            lines.append([aim.what, *cells, f"{reached} of {len(rows)}", f"{dreams} of {len(rows)}"])
    return _table(["What", "Goal", "Worst row", "Best row", "Rows that reach it", "The dream"], lines)


def beside_redis(results: Results, slower: bool) -> str:
    """What takes more than redis-server does, worst first; or what takes no more, best first."""
    found = []
    for row in judged(results):
        if row["against"] == "redis":
            times = 1 / row["result"] if GOALS[row["goal"]].more and row["result"] else row["result"]
            if (times > 1) == slower:
                found.append((times, row))
    found.sort(key=lambda each: (-each[0] if slower else each[0], each[1]["test"], each[1]["figure"]))
    if not found:
        return "Nothing.\n"
    return _table(
        ["What", "Figure", "Times what redis-server takes"],
        [[row["test"], row["figure"], number(times)] for times, row in found],
    )


def machine(results: Results) -> str:
    """What the figures are from, file by file where they differ."""
    lines: dict[str, list[str]] = {}
    for name, told in results.items():
        where = dict(told["machine"])
        build = "with" if where.pop("optimized_build") else "without"
        python = f"CPython {where.pop('python')} (built {build} `--enable-optimizations`)"
        parts = [f"{where.pop('cores')} cores of {where.pop('cpu')}", where.pop("kernel"), python]
        parts += [f"{what} {version}" for what, version in where.items() if what != "architecture"]
        text = (
            f"size *{told['size']}*, {told['rounds']} rounds, {told['date']}, commit {told['commit']}; "
            + ", ".join(parts)
        )
        lines.setdefault(text, []).append(name)
    return "".join(f"- {', '.join(names)}: {text}\n" for text, names in lines.items())


BLOCKS: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "verdict": verdict,
    "slower": lambda results: beside_redis(results, True),
    "faster": lambda results: beside_redis(results, False),
    **{f"goal-{goal}": lambda results, goal=goal: goal_table(results, goal) for goal in GOALS},  # type: ignore[misc]
    **{
        f"file-{name}": lambda results, name=name: file_table(results, name)  # type: ignore[misc]
        for name in ("throughput", "latency", "start", "large", "memory", "persistence", "fake", "eviction")
    },
}


def page(text: str, results: Results) -> str:
    """The page with its blocks made anew."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{BLOCKS[found[2]](results)}\n{found[3]}"

    return _BLOCK.sub(made, text)


# -- the plots ---------------------------------------------------------------------------------------------


def draw(results: Results, name: str, path: Path) -> None:
    """One plot, as SVG: a bar for each row, its goal as a mark, redis-server as a line."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    title, goals = PLOTS[name]
    rows = [row for row in judged(results) if row["goal"] in goals][::-1]
    colours = dict(
        zip(
            goals, ("#33658a", "#86bbd8", "#758e4f", "#f6ae2d", "#a4508b", "#7d8597", "#5f0a87"), strict=False
        )
    )
    look = {"svg.hashsalt": "kvstore", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    with pyplot.rc_context(look):
        figure, axes = pyplot.subplots(figsize=(9, 1.3 + 0.24 * max(1, len(rows))))
        places = range(len(rows))
        axes.barh(
            places, [row["result"] for row in rows], color=[colours[row["goal"]] for row in rows], height=0.7
        )
        for place, row in zip(places, rows, strict=True):
            low, high = row["spread"]
            axes.plot([low, high], [place, place], color="#222222", linewidth=0.8)
            goal = row["reach"]
            axes.plot([goal, goal], [place - 0.45, place + 0.45], color="#d00000", linewidth=1.8)
        axes.axvline(1, color="#222222", linewidth=0.8, linestyle=":")
        axes.set_yticks(list(places), [f"{row['test']}: {row['figure']}" for row in rows])
        axes.set_xlim(0, min(8.0, max([1.5, *(row["result"] * 1.1 for row in rows)])))
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("red: the goal; thin line: the spread; dotted: redis-server")
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    # Lines that end in blanks would be changed by editors.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables-only", action="store_true", help="no plots, which need matplotlib")
    options = parser.parse_args()
    results = read()
    PAGE.write_text(page(PAGE.read_text(), results))
    if not options.tables_only:
        for name in PLOTS:
            draw(results, name, PAGE.parent / f"performance-{name}.svg")


if __name__ == "__main__":
    main()
