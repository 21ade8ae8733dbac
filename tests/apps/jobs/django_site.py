"""A site made with Django: sessions and caches of django-redis, with serializers, compressors and pools of its own choice.

Must not know: the fake; the recipe's view is on real sockets here.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import django
from django.conf import settings

URL = os.environ["REDIS_URL"]


def cache(db: int, **options: str) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{URL}?db={db}",
        "KEY_PREFIX": "site",
        "OPTIONS": options,
    }


settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for tests",
    ROOT_URLCONF="tests.recipes.test_django",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SESSION_CACHE_ALIAS="sessions",
    CACHES={
        "default": cache(
            1,
            SERIALIZER="django_redis.serializers.json.JSONSerializer",
            COMPRESSOR="django_redis.compressors.zlib.ZlibCompressor",
        ),
        "sessions": cache(2),
        "plain": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{URL}?db=3"},
    },
)
django.setup()

# Django wants its settings first.
from django.core.cache import caches  # noqa: E402
from django.test import Client  # noqa: E402


def visit(cookie: str, item: str) -> tuple[str, str]:
    """Put one item into the cart of the session that ``cookie`` names; what is in the cart, and the cookie."""
    browser = Client()
    if cookie:
        browser.cookies[settings.SESSION_COOKIE_NAME] = cookie
    text = browser.get(f"/add/{item}").content.decode()
    return text, browser.cookies[settings.SESSION_COOKIE_NAME].value


def stored(alias: str) -> dict[str, Any]:
    """What every cache of Django can do."""
    store = caches[alias]
    made = count(1)
    store.set_many({"price": {"eur": 12}, "long": "x" * 5000, "stock": 3}, timeout=300)
    return {
        "many": store.get_many(["price", "stock", "none"]),
        "long": len(store.get("long")),
        "incr": [store.incr("stock"), store.incr("stock", 5), store.decr("stock")],
        "add": [store.add("stock", 0), store.add("new", 1)],
        "made": [store.get_or_set("made", lambda: next(made)) for _ in range(2)],
        "touch": [store.touch("price", 600), store.touch("none", 600)],
        "version": [store.set("v", "old", version=1), store.incr_version("v"), store.get("v", version=2)],
        "delete": [store.delete("price"), store.delete("price"), store.has_key("price")],
        "delete_many": store.delete_many(["long", "new", "none"]),
    }


def beyond() -> dict[str, Any]:
    """What django-redis has beyond Django."""
    store = caches["default"]
    store.clear()
    store.set_many({f"user:{number}": number for number in range(300)}, timeout=60)
    store.set("once", 1, timeout=50, nx=True)
    seen: dict[str, Any] = {
        "keys": [len(store.keys("user:*")), len(set(store.iter_keys("user:*", itersize=20)))],
        "nx": store.set("once", 2, nx=True),
        "ttl": [store.ttl("user:1"), store.ttl("none"), store.expire("user:1", 30), store.ttl("user:1")],
        "persist": [store.persist("user:1"), store.ttl("user:1")],
        "deleted": [store.delete_pattern("user:*", itersize=20), store.delete_pattern("user:*")],
    }
    with store.lock("lock", timeout=30):
        seen["locked"] = store.lock("lock", timeout=30).acquire(blocking=False)
    seen["unlocked"] = store.lock("lock", timeout=30).acquire(blocking=False)
    client = store.client.get_client(write=True)
    seen["raw"] = [
        client.get(store.make_key("once")).decode(),
        client.connection_pool.connection_kwargs["db"],
    ]
    return seen


def report() -> dict[str, Any]:
    seen = {alias: stored(alias) for alias in ("default", "sessions", "plain")}
    cart, cookie = visit(os.environ.get("SESSION", ""), os.environ["ITEM"])
    return seen | {"beyond": beyond(), "cart": cart, "cookie": cookie}
