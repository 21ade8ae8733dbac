"""docs/testing.md: its test files pass, and its excerpts of recipes are in the recipes."""

from __future__ import annotations

import textwrap

import pytest

from tests.test_docs import ROOT, _blocks

PAGE = ROOT / "docs" / "testing.md"
pytest_plugins = ["pytester"]


def _files() -> dict[str, list[str]]:
    """The blocks that are of files: by name, what follows the line with the name."""
    found: dict[str, list[str]] = {}
    for line, source in _blocks(PAGE, "py"):
        head, _, body = source.partition("\n")
        assert head.startswith("# ") and head.endswith(".py"), f"line {line} does not name a file: {head}"
        found.setdefault(head[2:], []).append(body)
    return found


FILES = _files()
EXCERPTS = [name for name in FILES if name.startswith("tests/")]


@pytest.mark.parametrize("name", EXCERPTS)
def test_an_excerpt_is_in_its_file(name: str) -> None:
    text = (ROOT / name).read_text()
    for block in FILES[name]:
        at = 0
        for part in block.split("...\n"):
            at = text.find(part, at)
            assert at >= 0, f"not in {name}, or not in this order:\n{part}"


def test_every_recipe_is_linked() -> None:
    page = PAGE.read_text()
    for recipe in (ROOT / "tests" / "recipes").glob("test_*.py"):
        assert recipe.name == "test_packages.py" or f"tests/recipes/{recipe.name}" in page, recipe.name


@pytest.mark.parametrize("name", [name for name in FILES if name not in EXCERPTS])
def test_a_test_file_of_the_page_passes(pytester: pytest.Pytester, name: str) -> None:
    pytest.importorskip("redis")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    for block in FILES[name]:
        pytester.makepyfile(**{name.removesuffix(".py"): textwrap.dedent(block)})
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=60)
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    assert outcomes.keys() <= {"passed", "skipped"}


def test_the_first_test_has_ten_lines() -> None:
    [source] = FILES["test_greeting.py"]
    assert len([line for line in source.splitlines() if line]) <= 10
