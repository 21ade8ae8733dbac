"""Flask-Caching: the extension makes its own client, so redis-py is patched."""

import pytest
from flask import Flask
from flask_caching import Cache

cache = Cache()


def create_app():
    app = Flask(__name__)
    app.config.update(
        CACHE_TYPE="RedisCache", CACHE_REDIS_URL="redis://cache.example/1", CACHE_KEY_PREFIX="web:"
    )
    cache.init_app(app)
    app.rendered = 0

    @app.get("/report/<name>")
    @cache.cached(timeout=60)
    def report(name):
        app.rendered += 1
        return f"{name}, rendered {app.rendered} times"

    return app


@pytest.fixture
def app(patch_redis):
    return create_app()


def test_a_page_is_rendered_once_a_minute(app, fake_redis_server):
    web = app.test_client()
    assert web.get("/report/may").text == "may, rendered 1 times"
    assert web.get("/report/may").text == "may, rendered 1 times"
    fake_redis_server.clock.advance(seconds=60)
    assert web.get("/report/may").text == "may, rendered 2 times"


@pytest.mark.fake_redis(db=1)
def test_the_cache_is_where_the_settings_say(app, fake_redis):
    app.test_client().get("/report/may")
    assert fake_redis.keys() == [b"web:view//report/may"]
    assert 0 < fake_redis.ttl("web:view//report/may") <= 60
    with app.app_context():
        cache.clear()
    assert fake_redis.keys() == []
