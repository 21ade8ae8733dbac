"""The laws that every command keeps, as code: what a change owes to those who listen.

1. If the digest of the data changed, ``commit`` was called, and its events name every key that changed
   (or its database was reported cleared or swapped); ``dirty`` went up.
2. Replaying all effects, in order, into an empty store gives the same digest.
3. Who asked by ``_before_change`` was called with every key before its value or deadline changed.

``Recorder``, ``digest`` and ``replay`` serve the tests of a single family; ``Lawful`` runs commands in a
session of its own and checks all three laws, and every ``check()``, after each of them.

Must not know: any command.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, Effect, Event, Listener, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.keyspace import Keyspace
from kvstore.engine.types import TYPES
from kvstore.resp import ErrorReply

Digest = dict[tuple[int, bytes], Any]
LoggedEffect = tuple[int, Effect]

START_MS = 1_700_000_000_000


class Recorder(Listener):
    """Keeps all it hears: effects with their databases, events in order, and the keys they touched."""

    def __init__(self) -> None:
        self.effects: list[LoggedEffect] = []
        self.events: list[tuple[int, str, bytes]] = []
        self.commits = 0
        self.touched: set[tuple[int, bytes]] = set()
        self.whole: set[int] = set()  # databases that were cleared or swapped

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        assert all(type(word) is bytes for word in effect), effect
        self.commits += 1
        if effect:
            self.effects.append((db, effect))
        for name, key in events:
            self.events.append((db, name, key))
            self.touched.add((db, key))

    def on_event(self, db: int, name: str, key: bytes) -> None:
        self.events.append((db, name, key))

    def on_clear(self, db: int, had: Container[bytes]) -> None:
        self.whole.add(db)

    def on_swap(self, db: int, has: Container[bytes], other: int, other_has: Container[bytes]) -> None:
        self.whole |= {db, other}

    def take(self) -> list[LoggedEffect]:
        """The effects since the last call; all other records start anew."""
        taken = self.effects
        self.__init__()  # type: ignore[misc]
        return taken


def effects(recorder: Recorder) -> list[Effect]:
    """The effects it holds, without their databases."""
    return [effect for _, effect in recorder.effects]


def event_names(recorder: Recorder) -> list[str]:
    """The names of the events it holds."""
    return [name for _, name, _ in recorder.events]


def digest_key(db: Keyspace, key: bytes) -> Any:
    """All that a key holds: type, contents, deadline; None when there is none."""
    value = db._data.get(key)
    if value is None:
        return None
    record = TYPES[type(value)]
    return record.name, record.digest(value), db._expires.get(key)


def digest(of: Context | Keyspace) -> Digest:
    """All data of a store or of one database, as it is: nothing expires by being looked at."""
    databases = of.databases.values() if isinstance(of, Context) else (of,)
    return {(db.index, key): digest_key(db, key) for db in databases for key in db._data}


class Replica:
    """A store that only effects have made. Its time stands still, so that nothing expires on its own."""

    def __init__(self, ctx: Context | None = None) -> None:
        self.ctx = Context(Database, clock=ManualClock(START_MS)) if ctx is None else ctx
        self.ctx.active_expire = False
        self.ctx.obeys = True
        self.session = Session(Hub(self.ctx), TREE2)

    def apply(self, effects: Iterable[LoggedEffect]) -> None:
        """Run each effect as a command; each must succeed."""
        for index, effect in effects:
            self.session.db = self.ctx.database(index)
            reply = self.session.call(list(effect))
            assert not isinstance(reply, ErrorReply), (effect, reply)


def replay(effects: Iterable[LoggedEffect]) -> Context:
    """An empty store to which the effects were applied."""
    replica = Replica()
    replica.apply(effects)
    return replica.ctx


class Snapshot:
    """What a store held at a moment, kept by being asked before every change. Checks law 3."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.start = digest(ctx)
        self.kept: Digest = {}
        for index in range(ctx.count):
            ctx.database(index)._before_change = _Tap(self, index)

    def finish(self) -> None:
        """Take what was not changed, stop asking, and compare with what was there."""
        found = {where: value for where, value in self.kept.items() if value is not None}
        for db in self.ctx.databases.values():
            tap, db._before_change = db._before_change, None
            if tap is None:  # the database was cleared
                continue
            assert isinstance(tap, _Tap)
            for key in db._data:
                if (tap.home, key) not in self.kept:
                    found[tap.home, key] = digest_key(db, key)
        assert found == self.start


class _Tap:
    """Asked before a key changes that was in database ``home`` when the snapshot began.

    It goes where the data goes: after a swap another database calls it.
    """

    def __init__(self, snapshot: Snapshot, home: int) -> None:
        self.snapshot = snapshot
        self.home = home

    def __call__(self, key: bytes) -> None:
        if (self.home, key) not in self.snapshot.kept:
            databases = self.snapshot.ctx.databases.values()
            db = next(db for db in databases if db._before_change is self)
            self.snapshot.kept[self.home, key] = digest_key(db, key)

    def cleared(self, data: dict[bytes, Any], expires: dict[bytes, int]) -> None:
        for key, value in data.items():
            if (self.home, key) not in self.snapshot.kept:
                record = TYPES[type(value)]
                self.snapshot.kept[self.home, key] = record.name, record.digest(value), expires.get(key)


class Lawful:
    """A session on a store of its own in which every command is held to the laws."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.hub = Hub(ctx)
        self.session = Session(self.hub, TREE2)
        self.recorder = Recorder()
        ctx.listen(self.recorder)
        self.replica = Replica()
        self.snapshot: Snapshot | None = None

    def run(self, *argv: bytes) -> Any:
        """Run one command; its reply tree."""
        ctx, recorder = self.ctx, self.recorder
        before, dirty = digest(ctx), sum(db.dirty for db in ctx.databases.values())
        ctx.evictor.make_room()
        reply = self.session.call(list(argv))
        assert not (isinstance(reply, ErrorReply) and reply.startswith(b"ERR internal")), (argv, reply)
        after = digest(ctx)
        if after != before:
            changed = {
                where for where in before.keys() | after.keys() if before.get(where) != after.get(where)
            }
            assert recorder.commits, f"{argv}: changed {changed} and committed nothing"
            silent = {where for where in changed - recorder.touched if where[0] not in recorder.whole}
            assert not silent, f"{argv}: no event names {silent}, only {recorder.events}"
            assert sum(db.dirty for db in ctx.databases.values()) > dirty, f"{argv}: dirty stayed"
        effects = recorder.take()
        self.replica.apply(effects)
        assert digest(self.replica.ctx) == after, f"{argv}: its effects {effects} do not repeat it"
        assert self.replica.ctx.libraries == ctx.libraries, f"{argv}: {effects} give other libraries"
        self.check()
        return reply

    def check(self) -> None:
        """Every invariant of every structure."""
        for db in self.ctx.databases.values():
            db.check()
        accountant = self.ctx.evictor._accountant
        if accountant is not None:
            accountant.check()

    def start_snapshot(self) -> None:
        self.snapshot = Snapshot(self.ctx)

    def finish_snapshot(self) -> None:
        if self.snapshot is not None:
            self.snapshot.finish()
            self.snapshot = None
