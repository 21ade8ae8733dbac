"""``kvstore.open``: one name for a store in memory, on disk, or on a server.

Must not know: how any of them works.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from kvstore.errors import StoreError
from kvstore.store import Store

_CLIENTS = ("redis", "rediss", "unix", "redis+cluster")


def open(url_or_path: str | os.PathLike[str] | None = None, **kwargs: Any) -> Any:
    """A Store, or a redis-py client, that answers to the same methods.

    Nothing or ``memory://``: a Store in memory. A path or ``file://``: a Store whose data is kept in that
    directory (``DurableStore``), with the keyword ``fsync`` ("everysec", "always" or "no") and the methods
    ``snapshot()`` and ``compact()``; to be closed. ``redis://``, ``rediss://``, ``unix://``: a redis-py client of
    that server; ``redis+cluster://``: of that cluster (both need the ``redis`` extra). Other keyword
    arguments are the Store's or the client's.

    Raises StoreError for what cannot be opened: PersistenceError for a directory that is in use or cannot be
    used, FormatError for files that cannot be read.
    """
    if url_or_path is None:
        return Store(**kwargs)
    name = os.fspath(url_or_path)
    scheme = urlsplit(name).scheme if "://" in name else ""
    if scheme == "memory":
        return Store(**kwargs)
    if scheme in _CLIENTS:
        return _client(scheme, name, kwargs)
    if scheme not in ("", "file"):
        raise StoreError(
            f"cannot open {name!r}: the scheme {scheme!r} is none of memory, file, {', '.join(_CLIENTS)}"
        )
    path = _path_of(name) if scheme else name
    if not path:
        raise StoreError(f"cannot open {name!r}: the path is empty")
    from kvstore.durable import DurableStore  # here, as it brings files and threads along

    return DurableStore(path=path, **kwargs)


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise StoreError(
            f"cannot open {url!r}: a file URL has a path and nothing else, as in file:///var/data"
        )
    return unquote(parts.path)


def _client(scheme: str, url: str, kwargs: dict[str, Any]) -> Any:
    try:
        import redis
    except ImportError as error:
        raise StoreError(f"opening {scheme}:// needs redis-py: pip install 'kvstore[redis]'") from error
    if scheme == "redis+cluster":
        return redis.RedisCluster.from_url("redis" + url.removeprefix("redis+cluster"), **kwargs)
    return redis.Redis.from_url(url, **kwargs)
