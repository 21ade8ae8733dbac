"""The engine's Store: one database of a context of its own, confined to the thread that made it.

Confinement costs the methods no line: a confined class shadows the slot that holds the data with a
property that checks the thread, so that every way to the data is checked. GET and SET, where the property
would be most of the cost, check for themselves. Decoding works by a second class whose public methods wrap those of a raw store.

No command logic here.
"""

from __future__ import annotations

import functools
import random as _random
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

from kvstore.engine.context import Clock, Context
from kvstore.engine.database import Database
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT
from kvstore.engine.strings import Strings
from kvstore.errors import OutOfMemoryError, WrongThreadError

_data_slot = Keyspace.__dict__["_data"]


class Store(Database):
    """A data-structure store in this process, with redis-py's methods.

    ``db``: the number of the database this object is. ``decode_responses``: give ``str`` instead of
    ``bytes``. ``check_same_thread``: refuse calls of other threads (WrongThreadError); when lifted,
    the caller must make sure that only one thread is in the store at a time. ``clock``, ``random``
    (a ``random.Random`` or a seed): injected time and randomness. ``maxmemory`` (bytes; 0: no limit)
    and ``maxmemory_policy``: what is evicted, as the directives of these names have it; a call that
    would grow the data past the limit with nothing to evict raises OutOfMemoryError.
    """

    decode_responses = False
    DECODE_THEMSELVES: frozenset[str] = frozenset()

    def __new__(
        cls,
        *args: Any,
        decode_responses: bool = False,
        check_same_thread: bool = True,
        maxmemory: int = 0,
        **kwargs: Any,
    ) -> Any:
        if decode_responses:
            return object.__new__(_decoding(cls))
        made = _limited(cls) if maxmemory else cls
        return object.__new__(_confined(made) if check_same_thread else made)

    def __init__(
        self,
        *,
        db: int = 0,
        decode_responses: bool = False,
        check_same_thread: bool = True,
        clock: Clock | None = None,
        random: _random.Random | int | str | None = None,
        databases: int = 16,
        maxmemory: int = 0,
        maxmemory_policy: str = "noeviction",
    ):
        if not 0 <= db < databases:
            raise ValueError(f"db must be between 0 and {databases - 1}")
        if random is not None and not isinstance(random, _random.Random):
            random = _random.Random(random)
        ctx = Context(self._sibling, databases=databases, clock=clock, random=random)
        self._adopt(ctx, db)
        ctx.databases[db] = self
        ctx.evictor.configure(maxmemory=maxmemory, policy=maxmemory_policy)

    def _adopt(self, ctx: Context, index: int) -> None:
        """Become database ``index`` of the context."""
        Keyspace.__init__(self, ctx, index)

    def _sibling(self, ctx: Context, index: int) -> Database:
        sibling = object.__new__(type(self))
        sibling._adopt(ctx, index)
        return sibling

    def database(self, index: int) -> Store:
        """Another numbered database of the same store. O(1)."""
        if not 0 <= index < self.ctx.count:
            raise ValueError(f"index must be between 0 and {self.ctx.count - 1}")
        found = self.ctx.database(index)
        assert isinstance(found, Store)
        return found


class _Confined:
    """Mixed in before a Store class: the data is for one thread only."""

    _thread: int  # a slot of Keyspace
    _own = _data_slot  # behind the property

    def _adopt(self, ctx: Context, index: int) -> None:
        self._thread = get_ident()
        super()._adopt(ctx, index)  # type: ignore[misc]

    @property
    def _data(self) -> dict[bytes, Any]:
        if get_ident() == self._thread:
            return self._own  # type: ignore[no-any-return]
        raise WrongThreadError(
            "a Store can only be used in the thread that made it: it was made in thread "
            f"{self._thread} and this is thread {get_ident()}"
        )

    @_data.setter
    def _data(self, data: dict[bytes, Any]) -> None:
        self._own = data


@functools.wraps(Strings.get)
def _get(self: Any, name: KeyT) -> bytes | None:
    if type(name) is bytes and get_ident() == self._thread:
        value = self._own.get(name)
        if type(value) is bytes and name not in self._expires and self._touch is None:
            self._stats.hits += 1
            return value
    return Strings.get(self, name)


@functools.wraps(Strings.set)
def _set(self: Any, name: KeyT, value: EncodableT, *args: Any, **kwargs: Any) -> bool | bytes | None:
    if not args and not kwargs and type(name) is bytes is type(value) and get_ident() == self._thread:
        own = self._own
        if name in own and name not in self._expires and not self._observed:
            own[name] = value
            self.dirty += 1
            return True
    return Strings.set(self, name, value, *args, **kwargs)


# The methods of a confined class that check the thread themselves, if the class it is made of has the usual ones.
_CHECKING: dict[str, Callable[..., Any]] = {"get": _get, "set": _set}


# Methods that may grow the data: those of the commands that Redis refuses when memory is short.
GROWING = frozenset(
    """append bitfield bitop blmove brpoplpush copy decr decrby function_load function_restore geoadd
    georadius georadiusbymember geosearchstore getset hexpire hexpireat hincrby hincrbyfloat hmset hpexpire
    hpexpireat hset hsetex hsetnx incr incrby incrbyfloat increx linsert lmove lpush lpushx lset mset msetex
    msetnx pfadd pfmerge psetex restore rpoplpush rpush rpushx sadd sdiffstore set setbit setex setnx
    setrange sinterstore sort sunionstore xadd xgroup_create xgroup_createconsumer xsetid zadd zdiffstore
    zincrby zinterstore zrangestore zunionstore""".split()
)

# Methods whose results are never decoded.
PAYLOADS = frozenset({"dump", "function_dump"})


def _making_room(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.ctx.evictor.make_room():
            raise OutOfMemoryError
        return method(self, *args, **kwargs)

    return call


# The variants made so far, by the class they are of.
_LIMITED: dict[type, type[Store]] = {}
_CONFINED: dict[type, type] = {}
_DECODING: dict[type, type] = {}


def _limited(cls: type[Store]) -> type[Store]:
    """The variant of a Store class whose growing methods make room first."""
    if cls not in _LIMITED:
        # Libraries of functions need the command layer, so that the engine's own class has no methods for them.
        has = [name for name in GROWING if hasattr(cls, name)]
        methods: dict[str, Any] = {name: _making_room(getattr(cls, name)) for name in has}
        _LIMITED[cls] = type(
            cls.__name__, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__, **methods}
        )
    return _LIMITED[cls]


def _confined(cls: type[Store]) -> type:
    """The confined variant of a Store class."""
    if issubclass(cls, _Confined):
        return cls
    if cls not in _CONFINED:
        _CONFINED[cls] = _confine(cls)
    return _CONFINED[cls]


def _confine(cls: type[Store]) -> type:
    usual = {name: own for name, own in _CHECKING.items() if getattr(cls, name) is getattr(Strings, name)}
    return type(
        cls.__name__, (_Confined, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__, **usual}
    )


def decode(value: Any) -> Any:
    """``str`` for every ``bytes`` in a result, however deep."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {decode(key): decode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(map(decode, value))
    if isinstance(value, Store):
        return decoding_view(value)
    if isinstance(value, Iterator):
        return map(decode, value)
    return value


class _Decoding:
    """Mixed in before a Store class: public methods are those of ``_raw``, their results decoded.

    Payloads stay bytes, as they are no text. Methods named in ``DECODE_THEMSELVES`` run on this object, as they build on its public methods.
    """

    decode_responses = True
    _raw: Store

    def __init__(self, **kwargs: Any):
        kwargs.pop("decode_responses", None)
        _view(self, type(self).__mro__[2](**kwargs))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._raw, name)


def _view(decoding: Any, raw: Store) -> Any:
    decoding._raw = raw
    decoding.ctx, decoding.index = raw.ctx, raw.index
    return decoding


def decoding_view(raw: Store) -> Any:
    """A Store on the same data that gives ``str``."""
    cls = _decoding(type(raw))
    return _view(object.__new__(cls), raw)


def _decoded(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    if name in PAYLOADS:

        @functools.wraps(method)
        def raw_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(self._raw, name)(*args, **kwargs)

        return raw_call

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return decode(getattr(self._raw, name)(*args, **kwargs))

    return call


def _decoding(cls: type[Store]) -> type:
    """The decoding variant of a Store class."""
    if cls not in _DECODING:
        _DECODING[cls] = _make_decoding(cls)
    return _DECODING[cls]


def _make_decoding(cls: type[Store]) -> type:
    wrapped: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    for name in dir(cls):
        method = getattr(cls, name)
        public = not name.startswith("_") or name in (
            "__getitem__",
            "__contains__",
            "__setitem__",
            "__delitem__",
        )
        if public and name not in cls.DECODE_THEMSELVES and callable(method):
            wrapped[name] = _decoded(name, method)
    return type(cls.__name__, (_Decoding, cls), wrapped)
