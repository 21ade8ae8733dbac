"""Which packages recipes need. A recipe whose package is missing is left out; test_packages.py tells of it."""

from __future__ import annotations

from importlib.util import find_spec

# The plugin's own server, where the rest of the tests has one with another life.
from kvstore.pytest_plugin import kvstore_server

__all__ = ["kvstore_server"]

NEEDS = {
    "test_celery.py": ["celery"],
    "test_django.py": ["django", "django_redis"],
    "test_fastapi.py": ["fastapi", "httpx"],
    "test_flask_caching.py": ["flask", "flask_caching"],
    "test_leaderboard.py": ["redis"],
    "test_lock.py": ["redis", "lupa"],
    "test_pytest_asyncio.py": ["redis", "pytest_asyncio"],
    "test_rate_limiter.py": ["redis", "lupa"],
    "test_rq.py": ["rq", "lupa"],
    "test_unittest.py": ["redis"],
    "test_worker.py": ["redis"],
}


def missing(recipe: str) -> list[str]:
    """The packages that a recipe needs and that are not installed."""
    return [name for name in NEEDS[recipe] if find_spec(name) is None]


collect_ignore = [recipe for recipe in NEEDS if missing(recipe)]
