"""The server of fake clients: the data, and what a test may want of it.

Must not know: client libraries.
"""

from __future__ import annotations

import random
import weakref

from kvstore.commands.config import Config
from kvstore.commands.hub import Hub
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.fake.clock import FakeClock
from kvstore.fake.line import Exchange

_NAMED: weakref.WeakValueDictionary[str, FakeServer] = weakref.WeakValueDictionary()


class FakeServer(Exchange):
    """A Redis that lives as long as somebody holds it, or one of its clients."""

    def __init__(self, *, seed: int | None = None):
        self.clock = FakeClock(self.moved)
        config = Config()
        ctx = Context(Database, databases=config["databases"], clock=self.clock, random=random.Random(seed))
        super().__init__(Hub(ctx, config))
        self._connected = True

    @classmethod
    def named(cls, name: str) -> FakeServer:
        """The server of that name, made for the first who asks; it dies with the last who holds it."""
        found = _NAMED.get(name)
        if found is None:
            found = _NAMED[name] = cls()
        return found
