"""The public Store: the engine's, plus the methods that need the command layer.

The command layer (a hub and one session) is made on first need, so a script that only calls typed
methods never loads it. Methods that redis-py has and that are about a server rather than about data
(``info``, ``config_get``, ``client_list``, ...) are redis-py's own, run by ``client()``.

No command logic here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvstore import errors
from kvstore.engine.keyspace import EncodableT, KeyT, to_bytes
from kvstore.engine.store import Store as EngineStore

if TYPE_CHECKING:
    import redis

    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session
    from kvstore.pipeline import Pipeline
    from kvstore.pubsub import PubSub
    from kvstore.scripts import Script


# What redis-py's client has that is about servers and connections, or a command that no method here is for.
_OF_CLIENT = """acl_cat acl_deluser acl_dryrun acl_genpass acl_getuser acl_help acl_list acl_load acl_log acl_log_reset
    acl_save acl_setuser acl_users acl_whoami auth auto_close_connection_pool bgrewriteaof bgsave client_getname
    client_getredir client_id client_info client_kill client_kill_filter client_list client_no_evict client_no_touch
    client_pause client_reply client_setinfo client_setname client_tracking client_tracking_off client_tracking_on
    client_trackinginfo client_unblock client_unpause cluster command command_count command_docs command_getkeys
    command_getkeysandflags command_info command_list config_get config_resetstat config_rewrite config_set connection
    connection_pool debug_object debug_segfault failover from_pool from_url get_cache get_connection_kwargs get_encoder
    get_retry hello info keyspace_notifications lastsave latency_doctor latency_graph latency_histogram latency_history
    latency_latest latency_reset load_external_module lolwut memory_doctor memory_help memory_malloc_stats
    memory_purge memory_stats migrate module_list module_load module_loadex module_unload monitor parse_response psync
    pubsub_channels pubsub_numpat pubsub_numsub pubsub_shardchannels pubsub_shardnumsub quit readonly readwrite
    replicaof reset response_callbacks role save script_debug script_kill select set_response_callback set_retry
    shutdown single_connection_lock slaveof slowlog_get slowlog_len slowlog_reset sync unwatch wait waitaof
    watch""".split()


class _OfClient:
    """A name of ``client()``, which is asked for it at each use.

    Not by ``__getattr__``: the interpreter is slow at every attribute of an object whose class has one, which
    doubled the time of a GET.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str):
        self._name = name

    def __get__(self, store: Store | None, owner: type) -> Any:
        if store is None:
            return self
        try:
            return getattr(store.client(), self._name)
        except errors.StoreError as error:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self._name!r} ({error})"
            ) from None


class Store(EngineStore):
    __doc__ = EngineStore.__doc__

    # These build on public methods, and so decode when those do.
    DECODE_THEMSELVES = frozenset({"pipeline", "transaction", "pubsub", "client", "lock", "register_script"})

    # Whether the data is a server's already, which other threads are in.
    is_served = False

    _hub_made: Hub | None = None
    _session_made: Session | None = None
    _client_made: redis.Redis | None = None

    @property
    def _hub(self) -> Hub:
        """The hub of this store's context, shared by its databases."""
        hub = self._hub_made
        if hub is None:
            from kvstore.commands.hub import Hub

            hub = Hub(self.ctx)
            for database in (self, *self.ctx.databases.values()):
                if isinstance(database, Store):
                    database._hub_made = hub
        return hub

    @property
    def _session(self) -> Session:
        """The session in which this database's own commands run."""
        session = self._session_made
        if session is None:
            session = self._session_made = self.new_session()
        return session

    def new_session(self) -> Session:
        """A session on this database whose replies are trees, for the facades of this package."""
        from kvstore.commands.kinds import TREE2
        from kvstore.commands.session import Session

        session = Session(self._hub, TREE2)
        session.db = self
        session.log_in(self._hub.users.owner)  # whoever has the Store needs no password
        return session

    def join(self, hub: Hub | None) -> None:
        """Be among the clients of a server of this store: its subscribers get what is published here.

        None: the server is gone.
        """
        for database in (self, *self.ctx.databases.values()):
            if isinstance(database, Store):
                database._close_clients()
                if database._hub_made is not None:
                    self.ctx.unlisten(database._hub_made)
                database._hub_made = hub

    def _adopt(self, ctx: Any, index: int) -> None:
        super()._adopt(ctx, index)
        for database in ctx.databases.values():
            if isinstance(database, Store) and database._hub_made is not None:
                self._hub_made = database._hub_made
                break

    # -- as a mapping of strings -------------------------------------------------------------------

    def __getitem__(self, name: KeyT) -> bytes:
        """The value of a key. Raises KeyError when there is none."""
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: KeyT, value: EncodableT) -> None:
        """Set a key's value."""
        self.set(name, value)

    # -- memory ------------------------------------------------------------------------------------

    def pack(self) -> int:
        """Pack the small hashes, lists, sets and sorted sets of all databases; how many. O(n).

        A packed value takes a fraction of the memory, and is unpacked by its next use. A server does this by
        itself with what is not used for a while; a Store does it when it is told to.
        """
        from kvstore.engine.packing import pack_all

        self._data  # noqa: B018 - refuses other threads
        return pack_all(self.ctx)

    # -- raw commands ------------------------------------------------------------------------------

    def call(self, *words: EncodableT) -> Any:
        """Run any command by its words; the reply as RESP2 has it: bytes, int, list or None.

        Raises the error reply as a ResponseError. ``call("SET", "k", 1)`` is ``b"OK"``.
        """
        from kvstore.resp import ErrorReply  # here, as it brings the parser along

        reply = self._session.call([to_bytes(word) for word in words])
        if isinstance(reply, ErrorReply):
            raise _as_exception(reply.decode("utf-8", "surrogateescape"))
        return reply

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run any command by its words, with the result that redis-py gives (needs ``redis``)."""
        return self.client().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def ping(self, **kwargs: Any) -> bool:
        """True: the store is there. O(1)."""
        return bool(self.call("PING") == b"PONG")

    def echo(self, value: EncodableT, **kwargs: Any) -> bytes:
        """The value given. O(1)."""
        return to_bytes(value)

    def time(self, **kwargs: Any) -> tuple[int, int]:
        """Seconds since the Unix epoch, and microseconds, by the store's clock. O(1)."""
        seconds, ms = divmod(self.ctx.now(), 1000)
        return seconds, ms * 1000

    # -- scripts -----------------------------------------------------------------------------------

    def eval(self, script: str | bytes, numkeys: int, *keys_and_args: EncodableT) -> Any:
        """Run a Lua script as one unit (needs ``lua``). Raises ResponseError on a script's error."""
        return self.call("EVAL", script, numkeys, *keys_and_args)

    def eval_ro(self, script: str | bytes, numkeys: int, *keys_and_args: EncodableT) -> Any:
        """As ``eval``, for a script that only reads."""
        return self.call("EVAL_RO", script, numkeys, *keys_and_args)

    def evalsha(self, sha: str | bytes, numkeys: int, *keys_and_args: EncodableT) -> Any:
        """Run a cached script by its SHA1. Raises NoScriptError when it is not cached."""
        return self.call("EVALSHA", sha, numkeys, *keys_and_args)

    def evalsha_ro(self, sha: str | bytes, numkeys: int, *keys_and_args: EncodableT) -> Any:
        """As ``evalsha``, for a script that only reads."""
        return self.call("EVALSHA_RO", sha, numkeys, *keys_and_args)

    def script_load(self, script: str | bytes) -> bytes:
        """Cache a script; its SHA1 in hexadecimal."""
        return bytes(self.call("SCRIPT", "LOAD", script))

    def script_exists(self, *args: str | bytes) -> list[bool]:
        """Whether each script, named by its SHA1, is cached."""
        return [bool(found) for found in self.call("SCRIPT", "EXISTS", *args)]

    def script_flush(self, sync_type: str | None = None) -> bool:
        """Forget all cached scripts."""
        words = [] if sync_type is None else [sync_type]
        return bool(self.call("SCRIPT", "FLUSH", *words) == b"OK")

    def register_script(self, script: str | bytes) -> Script:
        """A callable for the script: ``script(keys=[...], args=[...])``."""
        from kvstore.scripts import Script

        return Script(self, script)

    # -- libraries of functions ----------------------------------------------------------------------

    def fcall(self, function: KeyT, numkeys: int, *keys_and_args: EncodableT) -> Any:
        """Call a function of a library as one unit (needs ``lua``). Raises ResponseError on its error."""
        return self.call("FCALL", function, numkeys, *keys_and_args)

    def fcall_ro(self, function: KeyT, numkeys: int, *keys_and_args: EncodableT) -> Any:
        """As ``fcall``, for a function that only reads."""
        return self.call("FCALL_RO", function, numkeys, *keys_and_args)

    def function_load(self, code: str | bytes, replace: bool | None = False) -> bytes:
        """Add a library of functions, or ``replace`` one; its name. O(1), and what its code does."""
        words = ["REPLACE"] if replace else []
        return bytes(self.call("FUNCTION", "LOAD", *words, code))

    def function_delete(self, library: KeyT) -> bool:
        """Remove a library and its functions. O(n) functions."""
        return bool(self.call("FUNCTION", "DELETE", library) == b"OK")

    def function_flush(self, mode: str = "SYNC") -> bool:
        """Remove all libraries. O(n) functions."""
        return bool(self.call("FUNCTION", "FLUSH", mode) == b"OK")

    def function_list(self, library: KeyT | None = "*", withcode: bool | None = False) -> list[Any]:
        """The libraries whose names match a pattern, with their functions. O(n) functions."""
        words = ["WITHCODE"] if withcode else []
        pattern = "*" if library is None else library
        return list(self.call("FUNCTION", "LIST", "LIBRARYNAME", pattern, *words))

    def function_dump(self) -> bytes:
        """All libraries as one payload, for ``function_restore``. O(n) bytes of libraries."""
        return bytes(self.call("FUNCTION", "DUMP"))

    def function_restore(self, payload: bytes, policy: str | None = "APPEND") -> bool:
        """Add the libraries of a payload: to what is there (``APPEND``), in the place of those of the same name
        (``REPLACE``) or of all (``FLUSH``). O(n) bytes of libraries, and what their code does."""
        words = [] if policy is None else [policy]
        return bool(self.call("FUNCTION", "RESTORE", payload, *words) == b"OK")

    def function_stats(self) -> dict[bytes, Any]:
        """How many libraries and functions there are, and the function that runs now, if any. O(1)."""
        _, running, _, engines = self.call("FUNCTION", "STATS")
        return {
            b"running_script": running and _as_dict(running),
            b"engines": {name: _as_dict(counts) for name, counts in _as_dict(engines).items()},
        }

    def function_kill(self) -> bytes:
        """End the function that is running, if it has not written. Raises ResponseError if there is none. O(1)."""
        return bytes(self.call("FUNCTION", "KILL"))

    # -- messages, transactions, clients -------------------------------------------------------------

    def publish(self, channel: KeyT, message: EncodableT, **kwargs: Any) -> int:
        """Send a message to a channel; how many subscribers got it. O(subscribers + patterns)."""
        return int(self.call("PUBLISH", channel, message))

    def spublish(self, shard_channel: KeyT, message: EncodableT) -> int:
        """Send a message to a shard channel; how many subscribers got it. O(subscribers)."""
        return int(self.call("SPUBLISH", shard_channel, message))

    def pubsub(self, **kwargs: Any) -> PubSub:
        """A subscriber to channels of this store."""
        from kvstore.pubsub import PubSub

        return PubSub(self, **kwargs)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Gather calls and run them at once by ``execute()``; one unit, as nothing runs in between."""
        from kvstore.pipeline import Pipeline

        return Pipeline(self, transaction, shard_hint)

    def transaction(
        self,
        func: Callable[[Pipeline], Any],
        *watches: KeyT,
        shard_hint: str | None = None,
        value_from_callable: bool = False,
        watch_delay: float | None = None,
    ) -> Any:
        """Run ``func`` with a pipeline that watches the keys, until it went through unchanged."""
        from kvstore.pipeline import run_transaction

        return run_transaction(self, func, watches, shard_hint, value_from_callable, watch_delay)

    def client(self, **kwargs: Any) -> redis.Redis:
        """A redis-py client on the same data, for use in the same thread (needs ``redis``).

        Keyword arguments are redis-py's (``decode_responses``, ``protocol``, ...).
        """
        kwargs.setdefault("decode_responses", self.decode_responses)
        if len(kwargs) > 1 or kwargs["decode_responses"] != self.decode_responses:
            return self._new_client(**kwargs)
        if self._client_made is None:
            self._client_made = self._new_client(**kwargs)
        return self._client_made

    def _new_client(self, *, before: Callable[[], object] | None = None, **kwargs: Any) -> redis.Redis:
        """``before``: called before requests run."""
        try:
            import redis
        except ImportError as error:
            raise errors.StoreError("redis-py is not installed: pip install 'kvstore[redis]'") from error
        from kvstore.fake.line import Exchange
        from kvstore.fake.sync import client_class

        kwargs.setdefault("db", self.index)
        # Nobody else can end a wait: this is the store of one thread.
        exchange = Exchange(self._hub, may_block=False, before=before)
        client: redis.Redis = client_class(redis)(server=exchange, **kwargs)
        return client

    def lock(self, name: KeyT, *args: Any, **kwargs: Any) -> Any:
        """redis-py's Lock on this store (needs ``redis`` and ``lua``)."""
        return self.client().lock(name, *args, **kwargs)  # type: ignore[arg-type]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Those of ``_OF_CLIENT``."""

    def close(self) -> None:
        """Close the clients and subscriptions that this object made."""
        self._close_clients()

    def _close_clients(self) -> None:
        if self._client_made is not None:
            self._client_made.close()
            self._client_made.connection_pool.disconnect()  # redis-py leaves a pool that it was given
            self._client_made = None
        if self._session_made is not None:
            self._session_made.close()
            self._session_made = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


_CLASSES: dict[str, type[errors.ResponseError]] = {
    "WRONGTYPE": errors.WrongTypeError,
    "OOM": errors.OutOfMemoryError,
    "NOSCRIPT": errors.NoScriptError,
}


def _as_dict(words: list[Any]) -> dict[bytes, Any]:
    """Names and values that follow one another, as a dict."""
    return dict(zip(words[::2], words[1::2], strict=True))


def _as_exception(text: str) -> errors.ResponseError:
    """The exception of an error reply, by its code."""
    return _CLASSES.get(text.split(" ", 1)[0], errors.ResponseError)(text)


for _name in _OF_CLIENT:
    setattr(Store, _name, _OfClient(_name))
