"""docs/performance.md says what the files of results say, and results are judged by the goals."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from benchmarks import plot
from benchmarks.goals import GOALS
from benchmarks.harness import rounded, row, turns


def test_the_page_is_the_one_that_the_results_give() -> None:
    text = plot.PAGE.read_text()
    assert text == plot.page(text, plot.read()), "run python -m benchmarks.plot"


def test_every_block_of_the_page_is_known_and_each_is_used_once() -> None:
    names = re.findall(r"<!-- figures: (.*?) -->", plot.PAGE.read_text())
    assert sorted(names) == sorted(plot.BLOCKS)
    assert plot.PAGE.read_text().count("<!-- end -->") == len(names)


def test_a_changed_result_changes_the_page() -> None:
    results = copy.deepcopy(plot.read())
    judged = plot.judged(results)[0]
    judged["medians"]["kvstore"] = 123456
    text = plot.PAGE.read_text()
    assert "123,456" in plot.page(text, results) and "123,456" not in text


def test_every_row_is_judged_as_its_goal_says() -> None:
    for each in plot.judged(plot.read()):
        goal = GOALS[each["goal"]]
        assert (each["reach"], each["dream"]) == (goal.reach, goal.dream), each["test"]
        assert each["met"] == goal.met(each["result"])


def test_every_goal_has_a_row_in_the_results() -> None:
    assert {each["goal"] for each in plot.judged(plot.read())} == set(GOALS)


def test_plots_are_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in plot.PLOTS:
        for copy_ in ("one", "two"):
            plot.draw(plot.read(), name, tmp_path / copy_)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# -- what the harness makes of samples -------------------------------------------------------------------------


def test_a_row_has_medians_their_ratio_and_its_spread() -> None:
    made = row(
        "GET", "throughput", "requests/s", {"kvstore": [90, 100, 80], "redis": [100, 100, 100]}, "single"
    )
    assert made["medians"] == {"kvstore": 90, "redis": 100}
    assert (made["result"], made["spread"], made["met"]) == (0.9, [0.8, 1.0], "yes")


def test_less_is_better_where_the_goal_says_so() -> None:
    times = {"kvstore": [1.0], "redis": [1.0]}
    assert row("GET", "CPU", "µs", times, "cpu")["met"] == "dream"
    assert row("GET", "CPU", "µs", {"kvstore": [1.6], "redis": [1.0]}, "cpu")["met"] == "no"


def test_how_many_times_faster_is_the_inverse() -> None:
    found = {"kvstore": [0.5], "redis-py": [75.0]}
    made = row("get", "time", "µs", found, "redis-py", against="redis-py", inverse=True)
    assert (made["result"], made["met"]) == (150, "yes")


def test_there_is_no_ratio_without_the_other() -> None:
    assert "result" not in row("GET", "CPU", "µs", {"kvstore": [1.0]}, "cpu")
    assert "result" not in row("GET", "CPU", "µs", {"kvstore": [1.0], "redis": [0.0]}, "cpu")


def test_a_figure_of_our_own_is_judged_itself() -> None:
    made = row("import", "time", "ms", {"kvstore": [30.0, 20.0, 50.0]}, "import", against=None)
    assert (made["result"], made["met"]) == (30, "yes")


def test_competitors_take_turns_in_either_order() -> None:
    assert "".join(turns(3, "ab")) == "abbaab"


def test_figures_are_rounded_to_what_counts() -> None:
    assert [rounded(value) for value in (0.123456, 12.3456, 123456.7)] == [0.1235, 12.35, 123457]
