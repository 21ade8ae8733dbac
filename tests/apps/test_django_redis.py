"""django-redis over a socket: caches, locks, patterns, and a session that lasts from one process to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.queues import Application
from tests.servers import Server

pytest.importorskip("django")
pytest.importorskip("django_redis")
pytestmark = pytest.mark.timeout(110)

SITE = "tests.apps.jobs.django_site"
EVERY_CACHE = {
    "many": {"price": {"eur": 12}, "stock": 3},
    "long": 5000,
    "incr": [4, 9, 8],
    "add": [False, True],
    "made": [1, 1],
    "touch": [True, False],
    "delete": [True, False, False],
}
BEYOND = {
    "keys": [300, 300],
    "nx": False,
    "ttl": [60, 0, True, 30],
    "persist": [True, None],
    "deleted": [300, 0],
    "locked": False,
    "unlocked": True,
    "raw": ["1", 1],
}


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_caches_and_sessions_of_a_site(server: Server, tmp_path: Path, transport: str) -> None:
    site = Application(tmp_path, server, server.unix_url if transport == "unix" else server.tcp_url)
    site.env["ITEM"] = "tea"
    first = site.client(SITE)
    for alias in ("default", "sessions", "plain"):
        assert {name: first[alias][name] for name in EVERY_CACHE} == EVERY_CACHE, alias
        assert first[alias]["version"][1:] == [2, "old"], alias
    assert first["beyond"] == BEYOND
    assert first["cart"] == "tea"
    # Another process, as after a restart of the site: it is the same session.
    site.env |= {"ITEM": "cake", "SESSION": first["cookie"]}
    again = site.client(SITE)
    assert (again["cart"], again["cookie"]) == ("tea, cake", first["cookie"])
    with site.connection() as client:
        client.select(2)
        assert 0 < client.ttl(f"site:1:django.contrib.sessions.cache{first['cookie']}") <= 1209600
