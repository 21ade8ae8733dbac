"""Clients of fake servers as tests of what goes wrong need them: each failure is seen once, not tried again."""

from __future__ import annotations

from typing import Any

import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvstore.fake import FakeAsyncRedis, FakeRedis, FakeServer


def once() -> Retry:
    """Tries once."""
    return Retry(NoBackoff(), 0)  # type: ignore[no-untyped-call]


def client_of(server: FakeServer, **kwargs: Any) -> FakeRedis:
    """A client that tries everything once."""
    return FakeRedis(server=server, retry=once(), **kwargs)


def async_client_of(server: FakeServer, **kwargs: Any) -> FakeAsyncRedis:
    """The same for asyncio."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)  # type: ignore[no-untyped-call]
    return FakeAsyncRedis(server=server, retry=retry, **kwargs)


async def close(client: Any) -> None:
    """Close a client for asyncio, of any version."""
    await getattr(client, "aclose", client.close)()


def connection_of(client: Any) -> Any:
    """A new connection of the client's pool, connected."""
    connection = client.connection_pool.make_connection()
    connection.connect()
    return connection


def says(connection: Any, *words: Any) -> Any:
    """What a connection of redis-py answers to a request: the reply, or the class and the text of its error."""
    connection.send_command(*words)
    try:
        reply = connection.read_response()
    except redis.ConnectionError as error:
        if error.__class__ is redis.ConnectionError:
            return "closed"
        reply = error
    except redis.RedisError as error:
        reply = error
    return _plain(reply)


def _plain(reply: Any) -> Any:
    if isinstance(reply, Exception):
        return type(reply).__name__, str(reply)
    return [_plain(item) for item in reply] if isinstance(reply, list) else reply
