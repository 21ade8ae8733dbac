"""Packages that the environment does not have or has in another version, installed once into directories of their own.

Pytest's cache keeps the directories. Where a package cannot be had, the test that wants it is skipped; under CI
it fails.

Must not know: what a package is for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

INSTALL_SECONDS = 120


def cannot(reason: str) -> None:
    """Skip for a reason that is none under CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must not run without it")
    pytest.skip(reason)


def _kept(directory: Path, what: str, command: Callable[[Path], list[str]]) -> Path:
    """``directory``, filled by ``command(directory)`` where it is not there yet."""
    if directory.is_dir():
        return directory
    fresh = directory.with_name(f"{directory.name}.{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        done = subprocess.run(
            command(fresh), capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, cwd=fresh
        )
        said, failed = done.stderr, done.returncode != 0
    except subprocess.TimeoutExpired:
        said, failed = f"not done in {INSTALL_SECONDS} s", True
    if failed:
        shutil.rmtree(fresh, ignore_errors=True)
        cannot(f"could not install {what}: {said.strip()[-300:]}")
    try:
        fresh.rename(directory)
    except OSError:  # another process was faster
        shutil.rmtree(fresh, ignore_errors=True)
    return directory


def python_packages(wanted: str, config: pytest.Config) -> Path:
    """A directory for PYTHONPATH that holds a package, in the version that is ``wanted``, and what it needs."""
    assert config.cache is not None
    name = f"{wanted.replace('*', 'x')}-python{sys.version_info[1]}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    return _kept(
        config.cache.mkdir("libraries") / name, wanted, lambda fresh: [*pip, "--target", str(fresh), wanted]
    )


def node_packages(lock: Path, config: pytest.Config) -> Path:
    """A directory whose ``node_modules`` holds what the lock file, and package.json beside it, ask for."""
    assert config.cache is not None
    name = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]

    def npm(fresh: Path) -> list[str]:
        for each in (lock, lock.with_name("package.json")):
            shutil.copy(each, fresh)
        return [
            "npm",
            "ci",
            "--ignore-scripts",
            "--omit=optional",
            "--no-audit",
            "--no-fund",
            "--no-progress",
        ]

    return _kept(config.cache.mkdir("node") / name, "the packages for Node.js", npm)
