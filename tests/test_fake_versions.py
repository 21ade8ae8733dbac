"""The fake's clients are those of every supported version of redis-py, and of the valkey package.

What a client documents of itself (``test_fake_clients``, ``test_fake_pubsub``, ``test_fake_async``) is shown of other
versions in a process each, which imports the version from a directory of its own. Pip fills the directory once and
pytest's cache keeps it. The newest version is what the environment has; ``--heavy`` takes those in the middle, too.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.installs import INSTALL_SECONDS, python_packages
from tests.servers import ROOT

OLDEST = ["redis==5.0.0"]
BETWEEN = ["redis==5.2.1", "redis==6.0.0", "redis==6.4.0", "redis==7.1.0"]
OTHERS = ["valkey==6.*"]
BEHAVIOURS = ["tests/test_fake_clients.py", "tests/test_fake_pubsub.py", "tests/test_fake_async.py"]
RUN_SECONDS = 300


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS + 30)
@pytest.mark.parametrize("wanted", [*OLDEST, *OTHERS, *BETWEEN])
def test_fake_clients_behave_with_other_versions(
    wanted: str, heavy: bool, pytestconfig: pytest.Config
) -> None:
    if wanted in BETWEEN and not heavy:
        pytest.skip("--heavy runs the versions between the oldest and the newest")
    directory = python_packages(wanted, pytestconfig)
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
