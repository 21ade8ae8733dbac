"""Programs for Node.js: what they import is installed once, as the lock file says, and kept by pytest's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.programs import require_program
from tests.installs import node_packages
from tests.servers import Server

NODE = Path(__file__).resolve().parent / "node"


def environment(config: pytest.Config, server: Server, *, tcp: bool) -> dict[str, str]:
    """What a program needs to find its packages and the server; skip, or fail under CI, where it cannot be had."""
    require_program("node", "nodejs")
    require_program("npm", "npm")
    packages = node_packages(NODE / "package-lock.json", config) / "node_modules"
    where = {"PORT": str(server.port), "SOCKET": ""} if tcp else {"SOCKET": server.unix}
    return {"NODE_PATH": str(packages), **where}
