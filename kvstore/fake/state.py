"""The whole state of a fake server as plain Python data, which ``json.dumps`` takes: for fixtures and snapshots.

    {
        "db0": {
            "greeting": "hello",
            "queue": ["first", "second"],
            "user:7": {"type": "hash", "value": {"name": "Ann"}, "expires_at_ms": 1900000000000},
            "tags": {"type": "set", "value": ["new", "red"]},
            "board": {"type": "zset", "value": [["Ann", 1.5], ["Bob", 3.0]]}
        },
        "db1": {...},
        "functions": {"mylib": "#!lua name=mylib ..."}
    }

A string or a list stands by itself where it has no deadline; everything else names its type, with ``value``,
``expires_at_ms`` and ``field_deadlines`` (Unix times in ms) as ``kvstore.engine.plain`` says, which has the shape of
each type, streams too. Bytes that are no UTF-8 are ``{"base64": "..."}``; a database with such a key is an array of
[key, value]. Sets are sorted, and sorted sets by score and member, so that equal data gives equal states. Databases
without keys are left out: the state of an empty server is ``{}``.

Written by hand, a state may have more: integers and Python's bytes where a word may be, ``{"Ann": 1.5}`` for a sorted
set, and ``expires_in``, seconds from now on by the server's clock, instead of ``expires_at_ms``.

Users, configuration, the cache of scripts and what clients are about are no data, and not in it.

Costs: O(size) of what is there, and of what is loaded.

Must not know: types of values, client libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kvstore.engine import plain
from kvstore.errors import FormatError, StoreError

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.engine.context import Context
    from kvstore.engine.database import Database

_SIMPLE = ("string", "list")
_WORDY = ("string", "list", "set", "hash")
_INFINITE = (float("inf"), float("-inf"))
# A thousand years, in seconds.
_LONGEST = 1000 * 366 * 86400


class _Key(NamedTuple):
    """A key that is to be placed."""

    key: bytes
    value: Any
    deadline_ms: int | None


# -- writing -----------------------------------------------------------------------------------------------


def state_of(ctx: Context) -> dict[str, Any]:
    """The state of all databases. What is past its deadline goes first."""
    state: dict[str, Any] = {}
    for index, database in sorted(ctx.databases.items()):
        keys = {key: _described(database, key) for key in list(database._data) if _is_there(database, key)}
        if not keys:
            continue
        if plain.is_text(keys):
            state[f"db{index}"] = {key.decode(): found for key, found in keys.items()}
        else:
            state[f"db{index}"] = [[plain.word_of(key), found] for key, found in sorted(keys.items())]
    if ctx.libraries:
        state["functions"] = {
            name.decode(): plain.word_of(source) for name, source in sorted(ctx.libraries.items())
        }
    return state


def _is_there(database: Database, key: bytes) -> bool:
    return database._peek(key) is not None


def _described(database: Database, key: bytes) -> Any:
    value, deadline = database._data[key], database._expires.get(key)
    name = plain.type_name(value)
    parts = {part: _in_order(name, plain.built(tree)) for part, tree in plain.parts_of(value)}
    if deadline is None and name in _SIMPLE:
        return parts["value"]
    return {"type": name, **parts, **({} if deadline is None else {"expires_at_ms": deadline})}


def _in_order(name: str, found: Any) -> Any:
    """Members whose order means nothing, in one that depends on nothing else, so that equal data looks equal."""
    if name == "set":
        return sorted(found, key=_raw)
    if name == "zset":
        return sorted(found, key=lambda pair: (float(pair[1]), _raw(pair[0])))
    if name == "hash" and type(found) is list:
        return sorted(found, key=lambda pair: _raw(pair[0]))
    return found


def _raw(word: Any) -> bytes:
    return plain.read_word(word, "word")


# -- reading -----------------------------------------------------------------------------------------------


class State:
    """A state that was found to be whole and right, and has yet to be put into a store.

    Raises ValueError, which names the place, for what is no state.
    """

    def __init__(self, found: Any, ctx: Context):
        self._databases: dict[int, list[_Key]] = {}
        self._libraries: dict[bytes, bytes] = {}
        if not isinstance(found, Mapping):
            raise ValueError(f"a state is a dict of databases, not {found!r:.60}")
        now_ms = ctx.now()
        for name, content in found.items():
            if name == "functions":
                self._libraries = dict(_libraries(content))
            else:
                index = _index(name, ctx.count)
                self._databases[index] = list(_keys(name, content, ctx, now_ms))

    def put_into(self, hub: Hub, *, replace: bool) -> None:
        """Make it the state of the hub's store; with ``replace`` all that was there goes first.

        No event of it is sent. Watched keys count as changed that were there or are, and who is blocked on a
        key that is there then is served when the hub settles.
        """
        ctx = hub.ctx
        ctx.unlisten(hub)
        try:
            if replace:
                ctx.libraries.clear()
            ctx.libraries.update(self._libraries)
            for index in sorted({*self._databases, *(ctx.databases if replace else ())}):
                self._fill(hub, index, replace)
        finally:
            hub.relisten()

    def _fill(self, hub: Hub, index: int, replace: bool) -> None:
        database, keys = hub.ctx.database(index), self._databases.get(index, [])
        before: dict[bytes, Any] = {}
        if replace:
            before = database._data
            database._clear()
        for key, value, deadline_ms in keys:
            if database._write(key) is not None:  # replaced; none of them is where all have gone
                before[key] = None
                database._remove(key)
            database._place(key, value, deadline_ms)
            database._peek(key)  # which takes away what is past its deadline
        database.dirty += 1
        # As of two databases that were swapped: one of what is there now, the other of what has gone.
        hub.on_swap(index, {key for key, _, _ in keys if key in database._data}, index, before)


def _index(name: Any, count: int) -> int:
    digits = name[2:] if isinstance(name, str) and name.startswith("db") else ""
    if not (digits.isascii() and digits.isdigit()) or str(int(digits)) != digits:
        raise ValueError(f'{name!r} names no database: they are "db0", "db1" and so on')
    if int(digits) >= count:
        raise ValueError(f"{name}: the server has {count} databases")
    return int(digits)


def _libraries(found: Any) -> Iterator[tuple[bytes, bytes]]:
    try:
        for name, source in _items(found, "functions"):
            yield plain.read_word(_word(name), "functions"), plain.read_word(_word(source), "functions")
    except FormatError as error:
        raise ValueError(f"functions: {error}") from None


def _items(found: Any, what: str) -> Iterable[tuple[Any, Any]]:
    if isinstance(found, Mapping):
        return found.items()
    if not isinstance(found, list) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in found
    ):
        raise FormatError(f"{what!r} is neither a dict nor an array of pairs")
    return found


def _keys(name: str, content: Any, ctx: Context, now_ms: int) -> Iterator[_Key]:
    """The keys of a database. Raises ValueError, also for one that is there twice."""
    seen: set[bytes] = set()
    try:
        pairs = _items(content, name)
    except FormatError as error:
        raise ValueError(str(error)) from None
    for word, found in pairs:
        try:
            key = plain.read_word(_word(word), "key")
            if key in seen:
                raise FormatError("the key is there twice")
            seen.add(key)
            yield _key(key, found, ctx, now_ms)
        except (StoreError, RecursionError) as error:
            raise ValueError(f"{name}, key {word!r:.60}: {error}") from None


def _key(key: bytes, found: Any, ctx: Context, now_ms: int) -> _Key:
    if not isinstance(found, Mapping) or found.keys() == {"base64"}:
        found = {"type": "list" if isinstance(found, (list, tuple)) else "string", "value": found}
    elif "type" not in found:
        raise FormatError('a dict without "type": a hash is {"type": "hash", "value": {...}}')
    members = plain.Members(dict(found))
    name = members.take("type")
    deadline_ms = _deadline(members, now_ms)
    value = plain.read_value(_Relaxed(members, name), name, ctx.limits)
    members.end()
    return _Key(key, value, deadline_ms)


def _deadline(members: plain.Members, now_ms: int) -> int | None:
    deadline_ms, seconds = plain.read_deadline(members), members.optional("expires_in")
    if seconds is None:
        return deadline_ms
    if deadline_ms is not None:
        raise FormatError("'expires_in' beside 'expires_at_ms'")
    if type(seconds) not in (int, float) or not 0 < seconds <= _LONGEST:
        raise FormatError(f"'expires_in' is no number of seconds above 0, but {seconds!r:.60}")
    wait_ms: int = round(seconds * 1000)
    return now_ms + wait_ms


# -- what is written by hand ---------------------------------------------------------------------------


class _Relaxed(plain.Members):
    """The members of a value that may be written by hand, as they are to be; what was given stays as it is."""

    def __init__(self, members: plain.Members, name: Any):
        self._members = members
        self._name = name

    def take(self, name: str) -> Any:
        return self._shaped(name, self._members.take(name))

    def optional(self, name: str) -> Any:
        return self._shaped(name, self._members.optional(name))

    def _shaped(self, name: str, found: Any) -> Any:
        if name != "value":
            return _shaped(found)
        if self._name == "zset":
            pairs = found.items() if isinstance(found, Mapping) else found
            if isinstance(found, (Mapping, list)):
                return [_scored(pair) if isinstance(pair, (list, tuple)) else pair for pair in pairs]
        return _shaped(found, numbers=self._name in _WORDY)


def _scored(pair: Any) -> list[Any]:
    return [_word(pair[0]), *(str(each) if each in _INFINITE else each for each in pair[1:])] if pair else []


def _word(found: Any) -> Any:
    """A word of what one may write for it."""
    if isinstance(found, (bytes, bytearray, memoryview)):
        return plain.word_of(bytes(found))
    return str(found) if type(found) is int else found


def _shaped(found: Any, *, numbers: bool = False) -> Any:
    """The same with words for bytes and, if so told, for integers; an object whose names are no text as pairs."""
    if isinstance(found, Mapping):
        if all(type(name) is str for name in found):
            return {name: _shaped(item, numbers=numbers) for name, item in found.items()}
        return [[_word(name), _shaped(item, numbers=numbers)] for name, item in found.items()]
    if isinstance(found, (list, tuple)):
        return [_shaped(item, numbers=numbers) for item in found]
    return found if type(found) is int and not numbers else _word(found)
