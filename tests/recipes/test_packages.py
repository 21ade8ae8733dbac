"""Whether all recipes could run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.recipes.conftest import NEEDS, missing


@pytest.mark.parametrize("recipe", NEEDS)
def test_the_packages_of_the_recipe_are_installed(recipe: str) -> None:
    lacking = ", ".join(missing(recipe))
    if lacking and os.environ.get("CI"):
        pytest.fail(f"not installed, and CI must not run without: {lacking}")
    if lacking:
        pytest.skip(f"not installed: {lacking}")


def test_all_recipes_are_named() -> None:
    here = Path(__file__)
    assert {each.name for each in here.parent.glob("test_*.py")} - {here.name} == NEEDS.keys()
