"""Fake Redis for unit tests: the clients of redis-py (and of valkey-py), whose commands run on a store in this process.

    client = FakeRedis()                       # a server of its own
    other = FakeRedis(server=client.server)    # the same data

Clients that were given the same ``FakeServer`` share its data. A client that was given none gets a server of its
own; one from ``from_url("fake://name/0")`` gets the server of that name. A server goes with the last who holds it.
``patched`` has the clients that the code under test makes itself talk to such a server.
Needs the ``redis`` extra, or ``valkey``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvstore.fake.server import FakeServer

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    class FakeRedis(redis.Redis):
        server: FakeServer

        def __init__(self, *args: Any, server: FakeServer | None = None, **kwargs: Any): ...

    class FakeAsyncRedis(redis.asyncio.Redis):
        server: FakeServer

        def __init__(self, *args: Any, server: FakeServer | None = None, **kwargs: Any): ...

    from kvstore.fake.patching import patched

    FakeStrictRedis = FakeRedis
    FakeValkey: Any
    FakeAsyncValkey: Any

__all__ = [
    "FakeAsyncRedis",
    "FakeAsyncValkey",
    "FakeRedis",
    "FakeServer",
    "FakeStrictRedis",
    "FakeValkey",
    "patched",
]

_SYNC = {"FakeRedis": "redis", "FakeStrictRedis": "redis", "FakeValkey": "valkey"}
_ASYNC = {"FakeAsyncRedis": "redis", "FakeAsyncValkey": "valkey"}


def __getattr__(name: str) -> Any:
    """The client classes, made when they are first asked for: their libraries need not all be there."""
    made: Any
    if name in _SYNC:
        from kvstore.fake.sync import client_class

        made = client_class(import_module(_SYNC[name]))
    elif name in _ASYNC:
        from kvstore.fake.aio import async_client_class

        made = async_client_class(import_module(_ASYNC[name]))
    elif name == "patched":
        from kvstore.fake.patching import patched as made
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made
