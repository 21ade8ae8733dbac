"""The comparison of commits finds what became slower, and says so where there is nothing to compare with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import commits
from benchmarks.commits import ROOT, Comparison, NothingToCompare, checkout, compare, table

SLOWER = """
_get = Store.get


def _slower(self, name):
    sum(range(10_000))
    return _get(self, name)


Store.get = _slower
"""


def git(directory: Path, *words: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(directory), *who, *words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with two commits of a package."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "repository"
    (root / "kvstore").mkdir(parents=True)
    git(root, "init", "-q")
    for text in ("first", "second"):
        (root / "kvstore" / "__init__.py").write_text(f'"""{text}"""\n')
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", text)
    return root


def test_a_tenth_more_is_warned_of_and_less_is_not() -> None:
    rows = [
        Comparison("worse", 1000, 1100),
        Comparison("a little", 1000, 1099),
        Comparison("better", 1000, 500),
    ]
    worse, little, better, left = table(rows, {"new": "before: ImportError"}).splitlines()[1:]
    assert "+10.0%" in worse and "WARNING" in worse
    assert "+9.9%" in little and "WARNING" not in little
    assert "-50.0%" in better and "WARNING" not in better
    assert left == "new: not compared (before: ImportError)"


def test_the_base_is_the_package_of_that_commit(repository: Path, tmp_path: Path) -> None:
    place = tmp_path / "base"
    place.mkdir()
    assert len(checkout("HEAD~1", place, repository)) == 40
    assert (place / "kvstore" / "__init__.py").read_text() == '"""first"""\n'
    assert (repository / "kvstore" / "__init__.py").read_text() == '"""second"""\n'


def test_a_clone_of_depth_1_has_nothing_to_compare_with(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", str(clone))
    with pytest.raises(NothingToCompare, match="depth 1"):
        checkout("HEAD~1", tmp_path, clone)
    (tmp_path / "none").mkdir()
    with pytest.raises(NothingToCompare):
        checkout("HEAD~1", tmp_path, tmp_path / "none")
    monkeypatch.setattr(commits, "checkout", lambda base, place: checkout(base, place, clone))
    monkeypatch.setattr(commits.shutil, "which", lambda name: name)
    assert commits.main(["--size", "small"]) == 0
    assert "nothing to compare" in capsys.readouterr().out


def test_a_method_that_does_more_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    monkeypatch.setattr(commits, "SHIFTS", (0,))
    before, now = tmp_path / "before", tmp_path / "now"
    for tree in (before, now):
        shutil.copytree(ROOT / "kvstore", tree / "kvstore", ignore=shutil.ignore_patterns("__pycache__"))
    with open(now / "kvstore" / "store.py", "a") as source:
        source.write(SLOWER)
    (row,), left_out = compare(before, now, ["Store.get"], 200)
    assert row.name == "Store.get" and row.warns and not left_out
