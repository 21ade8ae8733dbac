"""FastAPI: a dependency that tests override. TestClient runs the application in a loop of its own."""

from typing import Annotated

import pytest
import redis.asyncio as redis
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient

app = FastAPI()


async def get_redis():
    async with redis.from_url("redis://redis.example/0", decode_responses=True) as client:
        yield client


Store = Annotated[redis.Redis, Depends(get_redis)]


@app.post("/links/{name}")
async def add(name: str, url: str, store: Store):
    if not await store.set(f"link:{name}", url, nx=True, ex=3600):
        raise HTTPException(409, "the name is taken")
    return {"expires_in": await store.ttl(f"link:{name}")}


@app.get("/links/{name}")
async def show(name: str, store: Store):
    url = await store.get(f"link:{name}")
    if url is None:
        raise HTTPException(404, "no such link")
    return {"url": url, "visits": await store.incr(f"visits:{name}")}


@pytest.fixture
def api(fake_async_redis):
    app.dependency_overrides[get_redis] = lambda: fake_async_redis
    yield TestClient(app)
    app.dependency_overrides.clear()


@pytest.mark.fake_async_redis(decode_responses=True)
def test_links_are_kept_for_an_hour(api, fake_redis_server):
    assert api.post("/links/a?url=https://a.example").json() == {"expires_in": 3600}
    assert api.post("/links/a?url=https://b.example").status_code == 409
    assert api.get("/links/a").json() == {"url": "https://a.example", "visits": 1}
    fake_redis_server.clock.advance(seconds=3600)
    assert api.get("/links/a").status_code == 404


def test_without_an_override_a_patch_does(patch_redis):
    api = TestClient(app)
    assert api.get("/links/a").status_code == 404
    assert api.post("/links/a?url=https://a.example").json() == {"expires_in": 3600}
    assert api.get("/links/a").json() == {"url": "https://a.example", "visits": 1}
