"""Keys as lines of JSON: what ``kvstore dump`` prints and ``kvstore load`` reads.

    {"db": 0, "key": "user:7", "type": "hash", "expires_at_ms": 1900000000000, "value": {"name": "Ann"}}

| type | value |
|---|---|
| string | a word |
| list, set | an array of words |
| hash | an object, or an array of [field, value] where a field is no UTF-8; ``field_deadlines`` in the same way, with Unix times in ms |
| zset | an array of [member, score]; a score is a number, "inf" or "-inf" |
| stream | an object: ``entries``, each an array of its ID and its fields and values in turn; ``last_id``, ``max_deleted_id``, ``entries_added``, ``groups`` |

A group has ``name``, ``last_id``, ``entries_read`` (null: nobody knows), ``consumers`` (``name``, ``seen_at_ms``,
``active_at_ms``, null for never) and ``pending``, each an array of an entry's ID, its consumer, the Unix time in ms
of the last delivery, and how many there were. Of a stream only ``entries`` must be there to be read. Any type may
have ``payload`` instead of ``value``: what DUMP gives, in base64.

A word is a string where the bytes are UTF-8, and ``{"base64": "..."}`` otherwise, so that every byte comes
back; a number is written with the digits that give it back exactly. ``{"function": ..., "source": ...}`` is
a library of functions. Keys and members of a set, of a hash and of a zset keep their order.

Costs: O(bytes). A large value is written in pieces; reading one takes its line, its tree and the value.

Must not know: files, where lines come from or go to.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from kvstore.engine.context import Limits
from kvstore.engine.ids import FIRST_ID, ID
from kvstore.engine.types import TYPES, Value
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.payload import is_payload, load_payload
from kvstore.engine.types.set import filled
from kvstore.engine.types.stream import NEVER, UNKNOWN, Consumer, Group, Stream
from kvstore.engine.types.zset import ZSet
from kvstore.errors import FormatError

# Elements of a value that become JSON at once.
_BATCH = 1000
_MAX_DEADLINE_MS = (1 << 63) - 1
# The latest deadline of a field, which the store keeps in 46 bits.
_MAX_FIELD_DEADLINE_MS = (1 << 46) - 1
_64_BITS = (1 << 64) - 1
_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(", ", ": ")).encode


@dataclass(slots=True)
class Key:
    """A key as it stands in a line."""

    db: int
    key: bytes
    value: Value
    deadline_ms: int | None


class Function(NamedTuple):
    """A library of functions."""

    name: bytes
    source: bytes


class _Shape(NamedTuple):
    """How the values of one type are written and read."""

    write: Callable[[Any], Iterator[str]]
    read: Callable[[Any, Limits], Value]


# -- writing -----------------------------------------------------------------------------------------------


def key_line(db: int, key: bytes, value: Value, deadline_ms: int | None) -> Iterator[bytes]:
    """The line of a key, its end included, in pieces. O(size)."""
    name = TYPES[type(value)].name
    head: dict[str, Any] = {"db": db, "key": _word(key), "type": name}
    if deadline_ms is not None:
        head["expires_at_ms"] = deadline_ms
    text = _encode(head)[:-1]
    text += ', "value": '
    for piece in _SHAPES[name].write(value):
        yield (text + piece).encode()
        text = ""
    yield b"}\n"


def function_line(name: bytes, source: bytes) -> bytes:
    """The line of a library of functions, its end included."""
    return _encode({"function": _word(name), "source": _word(source)}).encode() + b"\n"


def _word(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _array(items: Iterable[Any]) -> Iterator[str]:
    """A JSON array, in pieces."""
    rest = iter(items)
    before = "["
    while batch := list(islice(rest, _BATCH)):
        yield before + _encode(batch)[1:-1]
        before = ", "
    yield "]" if before == ", " else "[]"


def _map(items: Iterable[tuple[bytes, Any]]) -> Iterator[str]:
    """A JSON object, in pieces; the keys are UTF-8."""
    rest = iter(items)
    before = "{"
    while batch := {name.decode(): item for name, item in islice(rest, _BATCH)}:
        yield before + _encode(batch)[1:-1]
        before = ", "
    yield "}" if before == ", " else "{}"


def _is_text(words: Iterable[bytes]) -> bool:
    try:
        for word in words:
            word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _named(fields: Iterable[bytes], items: Iterable[tuple[bytes, Any]]) -> Iterator[str]:
    """By field: an object, or pairs where a field is no text."""
    if _is_text(fields):
        return _map(items)
    return _array([_word(name), item] for name, item in items)


def _write_hash(value: Hash) -> Iterator[str]:
    yield from _named(value, ((field, _word(text)) for field, text in value.items()))
    if value.deadlines:
        yield ', "field_deadlines": '
        yield from _named(value.deadlines, value.deadlines.items())


def _write_zset(value: ZSet) -> Iterator[str]:
    return _array([_word(member), _score(score)] for member, score in value.scores.items())


def _score(score: float) -> float | str:
    return str(score) if score in (float("inf"), float("-inf")) else score


def _write_stream(value: Stream) -> Iterator[str]:
    yield '{"entries": '
    yield from _array([_id_text(id), *map(_word, words)] for id, words in value.entries.items())
    counted = {
        "last_id": _id_text(value.last_id),
        "max_deleted_id": _id_text(value.max_deleted_id),
        "entries_added": value.entries_added,
    }
    yield f', {_encode(counted)[1:-1]}, "groups": ['
    comma = ""
    for name, group in value.groups.items():
        head = {
            "name": _word(name),
            "last_id": _id_text(group.last_id),
            "entries_read": None if group.entries_read == UNKNOWN else group.entries_read,
        }
        yield f'{comma}{_encode(head)[:-1]}, "consumers": '
        yield from _array(map(_consumer, group.consumers.values()))
        yield ', "pending": '
        yield from _array(
            [_id_text(id), _word(one.consumer.name), one.delivered_ms, one.count]
            for id, one in group.pending.items()
        )
        yield "}"
        comma = ", "
    yield "]}"


def _consumer(consumer: Consumer) -> dict[str, Any]:
    active = None if consumer.active_ms == NEVER else consumer.active_ms
    return {"name": _word(consumer.name), "seen_at_ms": consumer.seen_ms, "active_at_ms": active}


def _id_text(id: ID) -> str:
    return f"{id[0]}-{id[1]}"


# -- reading -----------------------------------------------------------------------------------------------


def parse_line(line: bytes, limits: Limits) -> Key | Function:
    """What a line says. O(size). Raises FormatError, which says what is wrong with it."""
    try:
        found = _decode(line.decode())
    except FormatError:
        raise
    except json.JSONDecodeError as error:
        raise FormatError(f"no JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"no UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise FormatError("too many brackets in each other") from None
    except ValueError:  # a number of more digits than Python converts
        raise FormatError("a number that is too long") from None
    if type(found) is not dict:
        raise FormatError("not an object")
    taken = _Members(found)
    made = _function(taken) if "function" in found else _key(taken, limits)
    taken.end()
    return made


class _Members:
    """The members of a line's object, taken one by one, so that what nobody took is found."""

    def __init__(self, found: dict[str, Any]):
        self._found = found

    def take(self, name: str) -> Any:
        try:
            return self._found.pop(name)
        except KeyError:
            raise FormatError(f"no member {name!r}") from None

    def optional(self, name: str) -> Any:
        return self._found.pop(name, None)

    def end(self) -> None:
        for name in self._found:
            raise FormatError(f"a member {name!r}, which is unknown here")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FormatError("an object with one name twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise FormatError(f"{name}, which is no JSON")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant).decode


def _function(members: _Members) -> Function:
    return Function(_bytes(members.take("function"), "function"), _bytes(members.take("source"), "source"))


def _key(members: _Members, limits: Limits) -> Key:
    db = _integer(members.take("db"), "db", 0, (1 << 31) - 1)
    key = _bytes(members.take("key"), "key")
    name = members.take("type")
    deadline = members.optional("expires_at_ms")
    if deadline is not None:
        deadline = _integer(deadline, "expires_at_ms", -_MAX_DEADLINE_MS - 1, _MAX_DEADLINE_MS)
    if name not in list(_SHAPES):  # whatever it is: it may not be hashable
        raise FormatError(f"the type {name!r}, which is unknown")
    payload = members.optional("payload")
    if payload is not None:
        value = _payload(payload, name, limits)
    else:
        value = _SHAPES[name].read(members.take("value"), limits)
        if not value and not TYPES[type(value)].may_be_empty:
            raise FormatError(f"a {name} without elements, which no key may hold")
    fields = members.optional("field_deadlines")
    if fields is not None:
        _expire_fields(value, fields)
    return Key(db, key, value, deadline)


def _payload(text: Any, name: str, limits: Limits) -> Value:
    if type(text) is not str:
        raise FormatError("no 'payload' in base64")
    data = _unbase64(text)
    if not is_payload(data):
        raise FormatError("'payload' is damaged, or of a version that is not read")
    value = load_payload(data, limits)
    if TYPES[type(value)].name != name:
        raise FormatError(f"the payload of a {TYPES[type(value)].name}, and not of a {name}")
    return value


def _integer(found: Any, what: str, least: int, most: int) -> int:
    if type(found) is not int or not least <= found <= most:
        raise FormatError(f"{what!r} is no integer from {least} to {most}")
    return found


def _bytes(found: Any, what: str) -> bytes:
    """The bytes of a word."""
    if type(found) is str:
        try:
            return found.encode()
        except UnicodeEncodeError:
            raise FormatError(f"{what!r} has half a surrogate pair") from None
    if type(found) is dict and found.keys() == {"base64"} and type(found["base64"]) is str:
        return _unbase64(found["base64"])
    raise FormatError(f'{what!r} is neither a string nor {{"base64": ...}}')


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"bad base64: {error}") from None


def _words(found: Any) -> list[bytes]:
    if type(found) is not list:
        raise FormatError("'value' is no array")
    return [_bytes(word, "value") for word in found]


def _pairs(found: Any, what: str) -> Iterator[tuple[bytes, Any]]:
    """The pairs of an object, or of an array of pairs; no name twice."""
    if type(found) is dict:
        found = list(found.items())
    if type(found) is not list:
        raise FormatError(f"{what!r} is neither an object nor an array of pairs")
    for pair in found:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise FormatError(f"{what!r} has something that is no pair")
        yield _bytes(pair[0], what), pair[1]


def _distinct(pairs: Iterable[tuple[bytes, Any]], what: str) -> dict[bytes, Any]:
    made: dict[bytes, Any] = {}
    for name, item in pairs:
        if name in made:
            raise FormatError(f"{what!r} has {_word(name)!r} twice")
        made[name] = item
    return made


def _read_set(found: Any, limits: Limits) -> Value:
    members = _distinct(((word, None) for word in _words(found)), "value")
    return filled(members, limits)


def _read_hash(found: Any, limits: Limits) -> Value:
    fields = _distinct(_pairs(found, "value"), "value")
    return Hash.sized({field: _bytes(text, "value") for field, text in fields.items()}, limits)


def _read_zset(found: Any, limits: Limits) -> Value:
    if type(found) is not list:
        raise FormatError("'value' is no array of [member, score]")
    members = _distinct(_pairs(found, "value"), "value")
    return ZSet.sized({member: _as_score(score) for member, score in members.items()}, limits)


def _as_score(found: Any) -> float:
    if type(found) in (int, float):
        try:
            score = float(found)
        except OverflowError:
            raise FormatError("a score that is too large") from None
        if score in (float("inf"), float("-inf")):  # 1e999 is no way to write it
            raise FormatError("a score that is too large")
        return score
    if found in ("inf", "-inf"):
        return float(found)
    raise FormatError('a score that is neither a number nor "inf" or "-inf"')


def _read_stream(found: Any, limits: Limits) -> Value:
    members = _members(found, "value")
    value = Stream()
    for entry in _list(members.take("entries"), "entries"):
        if type(entry) is not list or len(entry) < 3 or not len(entry) % 2:
            raise FormatError("'entries' has something that is no array of an ID, fields and values")
        id = _as_id(entry[0], "entries")
        if id <= value.last_id:
            raise FormatError(f"the entry {_id_text(id)}, which is not behind the one before it")
        value.add(id, [_bytes(word, "entries") for word in entry[1:]])
    last_id = members.optional("last_id")
    if last_id is not None:
        if (id := _as_id(last_id, "last_id")) < value.last_id:
            raise FormatError("'last_id' is before the last entry")
        value.last_id = id
    deleted, added = members.optional("max_deleted_id"), members.optional("entries_added")
    value.max_deleted_id = FIRST_ID if deleted is None else _as_id(deleted, "max_deleted_id")
    if added is not None:
        value.entries_added = _integer(added, "entries_added", 0, _64_BITS)
    for each in _list(members.optional("groups") or [], "groups"):
        group = _members(each, "groups")
        name = _bytes(group.take("name"), "name")
        if name in value.groups:
            raise FormatError(f"the group {_word(name)!r} twice")
        value.groups[name] = _read_group(group)
        group.end()
    members.end()
    return value


def _read_group(members: _Members) -> Group:
    last_id, read = _as_id(members.take("last_id"), "last_id"), members.optional("entries_read")
    group = Group(last_id, UNKNOWN if read is None else _integer(read, "entries_read", 0, _MAX_DEADLINE_MS))
    for each in _list(members.optional("consumers") or [], "consumers"):
        consumer = _members(each, "consumers")
        name = _bytes(consumer.take("name"), "name")
        if name in group.consumers:
            raise FormatError(f"the consumer {_word(name)!r} twice")
        seen, active = consumer.take("seen_at_ms"), consumer.optional("active_at_ms")
        group.consumers[name] = Consumer(
            name, _time(seen, "seen_at_ms"), NEVER if active is None else _time(active, "active_at_ms")
        )
        consumer.end()
    for each in _list(members.optional("pending") or [], "pending"):
        if type(each) is not list or len(each) != 4:
            raise FormatError(
                "'pending' has something that is no array of an ID, a consumer, a time and a count"
            )
        id, name = _as_id(each[0], "pending"), _bytes(each[1], "pending")
        holder = group.consumers.get(name)
        if holder is None:
            raise FormatError(f"an entry is pending of {_word(name)!r}, which is no consumer of the group")
        if group.pending.get(id) is not None:
            raise FormatError(f"the entry {_id_text(id)} is pending twice")
        group.deliver(id, holder, _time(each[2], "pending"), _integer(each[3], "pending", 0, _64_BITS))
    return group


def _members(found: Any, what: str) -> _Members:
    if type(found) is not dict:
        raise FormatError(f"{what!r} is no object, or has something that is none")
    return _Members(found)


def _list(found: Any, what: str) -> list[Any]:
    if type(found) is not list:
        raise FormatError(f"{what!r} is no array")
    return found


def _time(found: Any, what: str) -> int:
    return _integer(found, what, -_MAX_DEADLINE_MS - 1, _MAX_DEADLINE_MS)


def _as_id(found: Any, what: str) -> ID:
    match = _ID.fullmatch(found) if type(found) is str else None
    id = (int(match[1]), int(match[2])) if match else (0, _64_BITS + 1)
    if max(id) > _64_BITS:
        raise FormatError(f'{what!r} has no ID such as "1700000000000-0" where one must be')
    return id


def _expire_fields(value: Value, found: Any) -> None:
    if type(value) is not Hash:
        raise FormatError("'field_deadlines' of what is no hash")
    for field, deadline in _distinct(_pairs(found, "field_deadlines"), "field_deadlines").items():
        if field not in value:
            raise FormatError(f"a deadline of the field {_word(field)!r}, which is not there")
        value.expire(field, _integer(deadline, "field_deadlines", 0, _MAX_FIELD_DEADLINE_MS))


_SHAPES: dict[str, _Shape] = {
    "string": _Shape(
        lambda value: iter((_encode(_word(value)),)), lambda found, limits: _bytes(found, "value")
    ),
    "list": _Shape(
        lambda value: _array(map(_word, value)), lambda found, limits: List.sized(_words(found), limits)
    ),
    "set": _Shape(lambda value: _array(map(_word, value)), _read_set),
    "hash": _Shape(_write_hash, _read_hash),
    "zset": _Shape(_write_zset, _read_zset),
    "stream": _Shape(_write_stream, _read_stream),
}
