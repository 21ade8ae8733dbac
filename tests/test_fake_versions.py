"""The fake's clients are those of every supported version of redis-py, and of the valkey package.

What a client documents of itself (``test_fake_clients``, ``test_fake_pubsub``, ``test_fake_async``) is shown of other
versions in a process each, which imports the version from a directory of its own. Pip fills the directory once and
pytest's cache keeps it. The newest version is what the environment has; ``--heavy`` takes those in the middle, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT

OLDEST = ["redis==5.0.0"]
BETWEEN = ["redis==5.2.1", "redis==6.0.0", "redis==6.4.0", "redis==7.1.0"]
OTHERS = ["valkey==6.*"]
BEHAVIOURS = ["tests/test_fake_clients.py", "tests/test_fake_pubsub.py", "tests/test_fake_async.py"]
INSTALL_SECONDS, RUN_SECONDS = 120, 300


def installed(wanted: str, config: pytest.Config) -> Path:
    """The directory that holds this version; skip where it cannot be had, which under CI is a failure."""
    assert config.cache is not None
    kept = config.cache.mkdir("libraries") / f"{wanted.replace('*', 'x')}-python{sys.version_info[1]}"
    if kept.is_dir():
        return kept
    fresh = kept.with_name(f"{kept.name}.{os.getpid()}")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--target",
        str(fresh),
    ]
    try:
        done = subprocess.run(
            [*command, wanted], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        said, failed = done.stderr, done.returncode != 0
    except subprocess.TimeoutExpired:
        said, failed = f"not done in {INSTALL_SECONDS} s", True
    if failed:
        shutil.rmtree(fresh, ignore_errors=True)
        reason = f"pip could not install {wanted}: {said.strip()[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI must not run without it")
        pytest.skip(reason)
    try:
        fresh.rename(kept)
    except OSError:  # another process was faster
        shutil.rmtree(fresh, ignore_errors=True)
    return kept


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS + 30)
@pytest.mark.parametrize("wanted", [*OLDEST, *OTHERS, *BETWEEN])
def test_fake_clients_behave_with_other_versions(
    wanted: str, heavy: bool, pytestconfig: pytest.Config
) -> None:
    if wanted in BETWEEN and not heavy:
        pytest.skip("--heavy runs the versions between the oldest and the newest")
    directory = installed(wanted, pytestconfig)
    library = wanted.split("=")[0]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {
        "PYTHONPATH": os.pathsep.join((str(directory), str(ROOT))),
        "KVSTORE_TEST_LIBRARY": library,
        "KVSTORE_TEST_ORACLES": "no",  # the environment's version is shown beside a real server
    }
    where = [sys.executable, "-c", f"import {library}; print({library}.__file__)"]
    assert subprocess.check_output(where, env=env, cwd=ROOT, text=True, timeout=60).startswith(str(directory))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not valkey",
        *BEHAVIOURS,
    ]
    done = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
