"""A registered Lua script: a callable that sends the SHA1 and loads the body when it is unknown.

Must not know: Lua.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvstore.engine.keyspace import EncodableT, KeyT, to_bytes
from kvstore.errors import NoScriptError

if TYPE_CHECKING:
    from kvstore.store import Store


class Script:
    """``script(keys=[...], args=[...])`` runs it on the store it was registered with, or on ``client``."""

    def __init__(self, store: Store, script: str | bytes):
        self.registered_client = store
        self.script = script
        self.sha = hashlib.sha1(to_bytes(script)).hexdigest()

    def __call__(
        self,
        keys: Sequence[KeyT] | None = None,
        args: Sequence[EncodableT] | None = None,
        client: Any = None,
    ) -> Any:
        store = self.registered_client if client is None else client
        words = (*(keys or ()), *(args or ()))
        count = len(keys or ())
        try:
            return store.evalsha(self.sha, count, *words)
        except NoScriptError:
            return store.eval(self.script, count, *words)
