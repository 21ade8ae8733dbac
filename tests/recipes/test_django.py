"""Django: its own cache for Redis, django-redis, and sessions in a cache. The settings stay as they are."""

import django
import pytest
from django.conf import settings
from django.core.cache import cache, caches
from django.http import HttpResponse
from django.test import Client
from django.urls import path

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="for tests",
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        SESSION_CACHE_ALIAS="sessions",
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": "redis://:secret@cache.example:6379/1",
            },
            "sessions": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": "redis://cache.example:6379/2",
                "KEY_PREFIX": "shop",
            },
        },
    )
    django.setup()


def add_to_cart(request, item):
    cart = request.session.setdefault("cart", [])
    cart.append(item)
    request.session.modified = True
    return HttpResponse(", ".join(cart))


urlpatterns = [path("add/<item>", add_to_cart)]


@pytest.fixture(autouse=True)
def server(patch_redis):
    return patch_redis


@pytest.mark.parametrize("alias", ["default", "sessions"])
def test_caches_keep_objects_for_their_time(alias, server):
    store = caches[alias]
    assert store.get("price") is None
    store.set_many({"price": {"eur": 12}, "stock": 3}, timeout=300)
    assert store.get_many(["price", "stock", "none"]) == {"price": {"eur": 12}, "stock": 3}
    assert store.incr("stock") == 4
    assert not store.add("stock", 0)
    server.clock.advance(seconds=300)
    assert store.get("price") is None


@pytest.mark.fake_redis(db=1)
def test_keys_are_where_the_settings_say(fake_redis):
    cache.set("price", 12, timeout=300)
    assert fake_redis.get(":1:price") == b"12"
    assert 0 < fake_redis.ttl(":1:price") <= 300


def test_what_django_redis_has_beyond_django():
    store = caches["sessions"]
    store.set_many({"user:1": "ann", "user:2": "bob", "other": "x"}, timeout=60)
    assert sorted(store.keys("user:*")) == ["user:1", "user:2"]
    assert store.ttl("user:1") == 60
    assert store.delete_pattern("user:*") == 2
    with store.lock("stock", timeout=10):
        assert store.get("other") == "x"


@pytest.mark.fake_redis(db=2)
def test_a_session_lasts_from_request_to_request(fake_redis, server):
    browser, stranger = Client(), Client()
    assert browser.get("/add/tea").content == b"tea"
    assert browser.get("/add/cake").content == b"tea, cake"
    assert stranger.get("/add/milk").content == b"milk"
    assert fake_redis.dbsize() == 2
    server.clock.advance(seconds=settings.SESSION_COOKIE_AGE)
    assert browser.get("/add/jam").content == b"jam"
