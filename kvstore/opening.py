"""``kvstore.open``: one name for a store in memory, on disk, or on a server.

Must not know: how any of them works.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from kvstore.errors import StoreError
from kvstore.store import Store


def open(url_or_path: str | None = None, **kwargs: Any) -> Any:
    """A Store, or a redis-py client, that answers to the same methods.

    Nothing or ``memory://``: a Store in memory. ``redis://``, ``rediss://``, ``unix://``: a redis-py
    client of that server; ``redis+cluster://``: of that cluster (both need the ``redis`` extra).
    Keyword arguments are the Store's or the client's. Raises StoreError for what cannot be opened.
    """
    if url_or_path is None:
        return Store(**kwargs)
    scheme = urlsplit(url_or_path).scheme
    if scheme == "memory":
        return Store(**kwargs)
    if scheme in ("redis", "rediss", "unix", "redis+cluster"):
        return _client(scheme, url_or_path, kwargs)
    if scheme in ("", "file"):
        raise StoreError(f"cannot open {url_or_path!r}: stores on disk are not part of this version")
    raise StoreError(
        f"cannot open {url_or_path!r}: the scheme {scheme!r} is none of memory, redis, rediss, unix, redis+cluster"
    )


def _client(scheme: str, url: str, kwargs: dict[str, Any]) -> Any:
    try:
        import redis
    except ImportError as error:
        raise StoreError(f"opening {scheme}:// needs redis-py: pip install 'kvstore[redis]'") from error
    if scheme == "redis+cluster":
        return redis.RedisCluster.from_url("redis" + url.removeprefix("redis+cluster"), **kwargs)
    return redis.Redis.from_url(url, **kwargs)
