"""The server of fake clients: the data, and what a test may want of it.

Everything that a test's author can arrange is here: what the server is (its version, its limits, its luck), what
time it is, what goes wrong, and what clients have sent. Nothing of it costs a command anything while it is not used,
but for the list of what was sent.

Must not know: client libraries.
"""

from __future__ import annotations

import errno
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kvstore.commands.config import Config
from kvstore.commands.hub import Hub
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.fake.clock import FakeClock
from kvstore.fake.disk import FakeDisk
from kvstore.fake.faults import Fault, Faults, commands_named
from kvstore.fake.line import Exchange, Line, drop_all
from kvstore.fake.seen import Commands

if TYPE_CHECKING:
    from kvstore.store import Store

_NAMING = threading.Lock()
_NAMED: weakref.WeakValueDictionary[str, FakeServer] = weakref.WeakValueDictionary()


class FakeServer(Exchange):
    """A Redis that lives as long as somebody holds it, or one of its clients.

    ``version``: the version of Redis whose behaviour is kept, "7.4" unless told otherwise: commands that are newer
    are unknown. ``seed``: fixes all that is random, so that two servers of one seed that were sent the same answer
    the same. ``databases``: how many. ``max_memory``: bytes, or a text such as "100mb"; what happens then is up to
    ``maxmemory-policy``. ``disabled_commands``: names, in any case, of commands and subcommands ("CONFIG SET") that
    the server is not to know. ``strict_cluster``: be a node that has all slots of a cluster, as with ``cluster-enabled yes``. ``password``: of the
    default user. ``users``: further ones, and what each may do, by rules as ACL SETUSER takes them:
    ``{"ann": "on >secret ~app:* +@all"}``. ``config``: further directives by their names, with hyphens or underscores, as redis.conf has them.
    Raises ValueError for the name of no command, ConfigError for a directive or a value that does not exist,
    ResponseError for a rule that is none.

    ``clock``: the server's clock. ``commands``: what clients have sent. ``disk``: what SAVE and BGSAVE write to.
    """

    def __init__(
        self,
        *,
        version: str | None = None,
        seed: int | str | bytes | None = None,
        databases: int = 16,
        max_memory: int | str | None = None,
        disabled_commands: Iterable[str] = (),
        strict_cluster: bool = False,
        password: str | bytes | None = None,
        users: Mapping[str, str | Iterable[str]] | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        self.clock = FakeClock(_weakly(self.moved))
        directives = Config()
        given = {"compat-version": version, "maxmemory": max_memory, "requirepass": password}
        if databases != 16:
            given["databases"] = databases
        if strict_cluster:
            given["cluster-enabled"] = True
        for name, value in (*given.items(), *(config or {}).items()):
            if value is not None:
                directives.assign(name, value)
        luck = random.Random(seed)
        ctx = Context(Database, databases=directives["databases"], clock=self.clock, random=luck)
        hub = Hub(ctx, directives)
        super().__init__(hub)
        self.commands = Commands(self.lock)
        self.record = self.commands.record
        self.disk = FakeDisk(hub)
        self._connected = True
        self._faults = Faults(hub)
        hub.host.shut_down = _weakly(self._shut_down)
        hub.scripting.serve_others = _weakly(self.serve_others)
        if seed is not None:
            hub.host.run_id, hub.host.replication_id = (f"{luck.getrandbits(160):040x}" for _ in range(2))
            if hub.node is not None:
                hub.node.id, hub.node.shard_id = (f"{luck.getrandbits(160):040x}" for _ in range(2))
        for name, rules in (users or {}).items():
            hub.users.set_user(name, *(rules.split() if isinstance(rules, str) else rules))
        if disabled_commands:
            hub.disabled = commands_named(disabled_commands)

    @classmethod
    def named(cls, name: str) -> FakeServer:
        """The server of that name, made for the first who asks; it dies with the last who holds it."""
        with _NAMING:
            found = _NAMED.get(name)
            if found is None:
                found = _NAMED[name] = cls()
            return found

    # -- looking inside ----------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """Database 0 as a ``kvstore.Store``, for any thread: to arrange data, and to look at what clients made.

            server.store.hset("user:7", mapping={"name": "Ann"})
            assert server.store.lrange("queue", 0, -1) == [b"job"]
            assert server.store.database(1).dbsize() == 0

        Calls and the clients' commands run one at a time; blocked clients are served, and events sent, before a
        call returns. Faults and the list of commands are for clients. O(1).
        """
        from kvstore.fake.shared_store import shared_store

        return shared_store(self, 0)

    @property
    def text_store(self) -> Any:
        """The same with str for bytes: ``assert server.text_store.get("greeting") == "hello"``. O(1)."""
        from kvstore.fake.shared_store import shared_store

        return shared_store(self, 0, decode_responses=True)

    def dump(self) -> dict[str, Any]:
        """All data of all databases as plain Python data, which ``json.dumps`` takes. O(size).

            assert server.dump() == {"db0": {"greeting": "hello", "queue": ["a", "b"]}}
            path.write_text(json.dumps(server.dump(), indent=4))

        ``kvstore.fake.state`` says how keys, values and deadlines stand there.
        """
        from kvstore.fake.state import state_of

        with self.alone():
            return state_of(self.hub.ctx)

    def load(self, state: Mapping[str, Any], *, replace: bool = True) -> None:
        """Take what ``dump`` gave, or what was written by hand, as the data from now on. O(size).

            server.load({"db0": {"greeting": "hello", "user:7": {"type": "hash", "value": {"name": "Ann"}}}})
            server.load(json.loads(path.read_text()))

        ``replace``: all that is there goes first; without it, keys of other names stay. What is past its deadline
        is left out, as when a real server starts. No event of it is sent; who watches a key that was there or is
        finds it changed, and clients blocked on a key that is there now are served.
        Raises ValueError, which names the place, for a state that is not right in all its parts; nothing has
        changed then.
        """
        from kvstore.fake.state import State

        with self.alone():
            State(state, self.hub.ctx).put_into(self.hub, replace=replace)

    def flush(self) -> None:
        """Forget all data, and send no event of it. O(keys)."""
        self.load({})

    # -- time --------------------------------------------------------------------------------------

    def freeze_time(self, at: float | datetime | None = None) -> Frozen:
        """Stop the clock, at a Unix time in seconds, at a datetime, or (None) now.

            server.freeze_time()               # until server.clock.unfreeze()
            with server.freeze_time(at=0): ... # for a while

        ``clock.advance`` moves a clock that stands, too.
        """
        before = self.clock.is_frozen
        self.clock.freeze(at.timestamp() if isinstance(at, datetime) else at)
        return Frozen(self.clock, before)

    # -- what goes wrong ---------------------------------------------------------------------------

    def open(self, address: str = "") -> Line:
        """A new line. Raises ConnectionRefusedError while the server is not connected."""
        if not self._connected:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return super().open(address)

    @property
    def connected(self) -> bool:
        """Whether clients can reach the server. False closes their connections and refuses new ones; the data
        stays. A client's SHUTDOWN sets it."""
        return self._connected

    @connected.setter
    def connected(self, connected: bool) -> None:
        with self.lock:
            self._connected = bool(connected)
            if not connected:
                drop_all(self.lines)

    def _shut_down(self, save: bool | None, force: bool) -> bool:
        """SHUTDOWN, with a snapshot or (None) where there are save points; whether it may go on."""
        if (save or (save is None and self.hub.config["save"])) and self.disk.full and not force:
            return False
        self.connected = False
        return True

    def fail(
        self, command: str | None, error: str | Exception | type[Exception], *, after: bool = False
    ) -> Fault:
        """Let a command fail until ``heal()``, or to the end of the ``with`` block where it is used in one.

            server.fail("GET", "LOADING Redis is loading the dataset in memory")
            with server.fail(None, ConnectionError): ...

        ``command``: its name, in any case ("get", "CONFIG SET"), or None for every command, apart from those with
        which a library begins a connection. ``error``: the server's reply, a text that begins with its code; or an
        exception, the one that the client is to raise. For ConnectionError the connection is lost at that point: in
        a pipeline, what comes before the command has run, what comes after it has not. For TimeoutError no reply
        comes any more, and the client's time is over as soon as it waits for one, without a real wait. Python's own
        two, those of a client library, and all for which a server has a reply, such as ReadOnlyError, will do.
        ``after``: the connection is lost after the command has run, so that only its reply is.

        A command fails where a real server refuses it: within MULTI when it is queued, so that EXEC fails, too; in
        a script at the call. Raises ValueError for the name of no command and for a text that is no error reply,
        TypeError for an exception that no server can cause.
        """
        with self.lock:
            return self._faults.add(command, error, None, after)

    def fail_next(
        self,
        command: str | None,
        error: str | Exception | type[Exception],
        times: int = 1,
        *,
        after: bool = False,
    ) -> Fault:
        """As ``fail``, for the next so many times that the command comes. Several wait for their turn in order.

        redis-py tries a command again whose connection was lost, as often as its ``retry`` says: by default a
        single ConnectionError goes unnoticed.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ValueError(f"times is how often it fails, at least once, not {times!r}")
        with self.lock:
            return self._faults.add(command, error, times, after)

    def heal(self, command: str | None = None) -> None:
        """Take back ``fail``, ``fail_next`` and ``delay`` of a command, or (None) of all."""
        with self.lock:
            self._faults.heal(command)

    @property
    def latency(self) -> float:
        """Seconds of the server's clock until the reply to a command can be read, 0 by default.

        A client whose ``socket_timeout`` is shorter raises TimeoutError. A clock that is frozen must be advanced.
        """
        return self._faults.latency_ms / 1000

    @latency.setter
    def latency(self, seconds: float) -> None:
        with self.lock:
            self._faults.latency_ms = _milliseconds(seconds)
            self._faults.update()

    def delay(self, command: str, seconds: float) -> None:
        """The same for one command, beside ``latency``; 0 takes it back. Replies stay in their order."""
        with self.lock:
            self._faults.delay(command, _milliseconds(seconds))

    @property
    def read_only(self) -> bool:
        """Whether writes are refused as by a replica (READONLY), also in MULTI and in scripts."""
        return self._faults.read_only

    @read_only.setter
    def read_only(self, read_only: bool) -> None:
        with self.lock:
            self._faults.read_only = bool(read_only)
            self._faults.update()


class Frozen:
    """A clock that was stopped. As a context manager, it runs on when the block ends, unless it stood before."""

    def __init__(self, clock: FakeClock, before: bool):
        self._clock = clock
        self._before = before

    def __enter__(self) -> FakeClock:
        return self._clock

    def __exit__(self, *error: object) -> None:
        if not self._before:
            self._clock.unfreeze()


def _weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method for somebody who belongs to its object, which is to go with the last who holds it from outside."""
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        found = reference()
        return None if found is None else found(*args)

    return call


def _milliseconds(seconds: float) -> int:
    if not 0 <= seconds < 1e9:
        raise ValueError(f"a delay is a number of seconds, 0 or more, not {seconds!r}")
    return round(seconds * 1000)
