"""kvstore: a Redis-compatible data-structure store that lives inside a Python process.

    from kvstore import Store

    store = Store()
    store.set("greeting", "hello", ex=60)
    store.rpush("queue", "a", "b")

``Store`` has redis-py's methods. ``open()`` gives one that keeps its data on disk, or a client by URL;
``serve()`` a server in this process. Nothing here holds logic; what is heavy is imported when it is first named,
so that pytest's start, which imports the plugin of this package, costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvstore.errors import (
    DataError,
    FormatError,
    NoScriptError,
    OutOfMemoryError,
    PersistenceError,
    ResponseError,
    StoreError,
    WatchError,
    WrongThreadError,
    WrongTypeError,
)

if TYPE_CHECKING:
    from kvstore.engine.context import ManualClock
    from kvstore.opening import open
    from kvstore.serving import serve
    from kvstore.store import Store

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "FormatError",
    "ManualClock",
    "NoScriptError",
    "OutOfMemoryError",
    "PersistenceError",
    "ResponseError",
    "Store",
    "StoreError",
    "WatchError",
    "WrongThreadError",
    "WrongTypeError",
    "__version__",
    "open",
    "serve",
]

_LAZY = {
    "ManualClock": "kvstore.engine.context",
    "Store": "kvstore.store",
    "open": "kvstore.opening",
    "serve": "kvstore.serving",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'kvstore' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(module), name)
    return value
