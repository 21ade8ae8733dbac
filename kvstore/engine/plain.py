"""Values as plain data that JSON holds: what files of lines and dumps of a fake server are written in.

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
back; a number is one that gives its digits back exactly. Members of a set, of a hash and of a zset keep their order.

Costs: O(size). Written, a large value is a tree whose long parts are made while they are read.

Must not know: keys, databases, text of JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from kvstore.engine.context import Limits
from kvstore.engine.ids import FIRST_ID, ID
from kvstore.engine.types import TYPES, Value
from kvstore.engine.types.cold import unpacked
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.payload import is_payload, load_payload
from kvstore.engine.types.set import filled
from kvstore.engine.types.stream import NEVER, UNKNOWN, Consumer, Group, Stream
from kvstore.engine.types.zset import ZSet
from kvstore.errors import FormatError

_MAX_DEADLINE_MS = (1 << 63) - 1
# The latest deadline of a field, which the store keeps in 46 bits.
_MAX_FIELD_DEADLINE_MS = (1 << 46) - 1
_64_BITS = (1 << 64) - 1
_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)


class Named(NamedTuple):
    """An object of a tree whose members are made while they are read; an iterator is such an array."""

    items: Iterator[tuple[str, Any]]


class _Shape(NamedTuple):
    """How the values of one type are written and read."""

    write: Callable[[Any], Any]
    read: Callable[[Any, Limits], Value]


# -- writing -----------------------------------------------------------------------------------------------


def type_name(value: Value) -> str:
    """As TYPE answers. O(1)."""
    return TYPES[type(value)].name


def parts_of(value: Value) -> Iterator[tuple[str, Any]]:
    """The members that say what a value is: ``value``, and ``field_deadlines`` where there are some; as trees."""
    value = unpacked(value)
    yield "value", _SHAPES[type_name(value)].write(value)
    if type(value) is Hash and value.deadlines:
        yield "field_deadlines", _named(value.deadlines, value.deadlines.items())


def built(tree: Any) -> Any:
    """A tree as lists and dicts, all of it. O(size)."""
    if isinstance(tree, Named):
        return dict(tree.items)
    if isinstance(tree, Iterator):
        return list(tree)
    if type(tree) is dict:
        return {name: built(item) for name, item in tree.items()}
    if type(tree) is list:
        return list(map(built, tree))
    return tree


def word_of(data: bytes) -> Any:
    """Bytes as a word."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def is_text(words: Iterable[bytes]) -> bool:
    """Whether all are UTF-8, and so may name the members of an object."""
    try:
        for word in words:
            word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _named(fields: Iterable[bytes], items: Iterable[tuple[bytes, Any]]) -> Any:
    """By field: an object, or pairs where a field is no text."""
    if is_text(fields):
        return Named((name.decode(), item) for name, item in items)
    return ([word_of(name), item] for name, item in items)


def _write_hash(value: Hash) -> Any:
    return _named(value, ((field, word_of(text)) for field, text in value.items()))


def _write_zset(value: ZSet) -> Any:
    return ([word_of(member), _score(score)] for member, score in value.scores.items())


def _score(score: float) -> float | str:
    return str(score) if score in (float("inf"), float("-inf")) else score


def _write_stream(value: Stream) -> Any:
    return {
        "entries": ([_id_text(id), *map(word_of, words)] for id, words in value.entries.items()),
        "last_id": _id_text(value.last_id),
        "max_deleted_id": _id_text(value.max_deleted_id),
        "entries_added": value.entries_added,
        "groups": [_write_group(name, group) for name, group in value.groups.items()],
    }


def _write_group(name: bytes, group: Group) -> Any:
    return {
        "name": word_of(name),
        "last_id": _id_text(group.last_id),
        "entries_read": None if group.entries_read == UNKNOWN else group.entries_read,
        "consumers": map(_consumer, group.consumers.values()),
        "pending": (
            [_id_text(id), word_of(one.consumer.name), one.delivered_ms, one.count]
            for id, one in group.pending.items()
        ),
    }


def _consumer(consumer: Consumer) -> dict[str, Any]:
    active = None if consumer.active_ms == NEVER else consumer.active_ms
    return {"name": word_of(consumer.name), "seen_at_ms": consumer.seen_ms, "active_at_ms": active}


def _id_text(id: ID) -> str:
    return f"{id[0]}-{id[1]}"


# -- reading -----------------------------------------------------------------------------------------------


class Members:
    """The members of an object, taken one by one, so that what nobody took is found."""

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


def read_value(members: Members, name: Any, limits: Limits) -> Value:
    """The value of the type of that name that members say. O(size). Raises FormatError, which tells what is wrong."""
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
    return value


def read_deadline(members: Members) -> int | None:
    """When a key expires, as ``expires_at_ms`` tells, or None. Raises FormatError."""
    found = members.optional("expires_at_ms")
    return None if found is None else _time(found, "expires_at_ms")


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


def integer(found: Any, what: str, least: int, most: int) -> int:
    """An integer within these limits. Raises FormatError."""
    if type(found) is not int or not least <= found <= most:
        raise FormatError(f"{what!r} is no integer from {least} to {most}")
    return found


def read_word(found: Any, what: str) -> bytes:
    """The bytes of a word. Raises FormatError."""
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
    return [read_word(word, "value") for word in found]


def read_pairs(found: Any, what: str) -> Iterator[tuple[bytes, Any]]:
    """The pairs of an object, or of an array of pairs; no name twice."""
    if type(found) is dict:
        found = list(found.items())
    if type(found) is not list:
        raise FormatError(f"{what!r} is neither an object nor an array of pairs")
    for pair in found:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise FormatError(f"{what!r} has something that is no pair")
        yield read_word(pair[0], what), pair[1]


def _distinct(pairs: Iterable[tuple[bytes, Any]], what: str) -> dict[bytes, Any]:
    made: dict[bytes, Any] = {}
    for name, item in pairs:
        if name in made:
            raise FormatError(f"{what!r} has {word_of(name)!r} twice")
        made[name] = item
    return made


def _read_set(found: Any, limits: Limits) -> Value:
    members = _distinct(((word, None) for word in _words(found)), "value")
    return filled(members, limits)


def _read_hash(found: Any, limits: Limits) -> Value:
    fields = _distinct(read_pairs(found, "value"), "value")
    return Hash.sized({field: read_word(text, "value") for field, text in fields.items()}, limits)


def _read_zset(found: Any, limits: Limits) -> Value:
    if type(found) is not list:
        raise FormatError("'value' is no array of [member, score]")
    members = _distinct(read_pairs(found, "value"), "value")
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
    members = _object(found, "value")
    value = Stream()
    for entry in _list(members.take("entries"), "entries"):
        if type(entry) is not list or len(entry) < 3 or not len(entry) % 2:
            raise FormatError("'entries' has something that is no array of an ID, fields and values")
        id = _as_id(entry[0], "entries")
        if id <= value.last_id:
            raise FormatError(f"the entry {_id_text(id)}, which is not behind the one before it")
        value.add(id, [read_word(word, "entries") for word in entry[1:]])
    last_id = members.optional("last_id")
    if last_id is not None:
        if (id := _as_id(last_id, "last_id")) < value.last_id:
            raise FormatError("'last_id' is before the last entry")
        value.last_id = id
    deleted, added = members.optional("max_deleted_id"), members.optional("entries_added")
    value.max_deleted_id = FIRST_ID if deleted is None else _as_id(deleted, "max_deleted_id")
    if added is not None:
        value.entries_added = integer(added, "entries_added", 0, _64_BITS)
    for each in _list(members.optional("groups") or [], "groups"):
        group = _object(each, "groups")
        name = read_word(group.take("name"), "name")
        if name in value.groups:
            raise FormatError(f"the group {word_of(name)!r} twice")
        value.groups[name] = _read_group(group)
        group.end()
    members.end()
    return value


def _read_group(members: Members) -> Group:
    last_id, read = _as_id(members.take("last_id"), "last_id"), members.optional("entries_read")
    group = Group(last_id, UNKNOWN if read is None else integer(read, "entries_read", 0, _MAX_DEADLINE_MS))
    for each in _list(members.optional("consumers") or [], "consumers"):
        consumer = _object(each, "consumers")
        name = read_word(consumer.take("name"), "name")
        if name in group.consumers:
            raise FormatError(f"the consumer {word_of(name)!r} twice")
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
        id, name = _as_id(each[0], "pending"), read_word(each[1], "pending")
        holder = group.consumers.get(name)
        if holder is None:
            raise FormatError(f"an entry is pending of {word_of(name)!r}, which is no consumer of the group")
        if group.pending.get(id) is not None:
            raise FormatError(f"the entry {_id_text(id)} is pending twice")
        group.deliver(id, holder, _time(each[2], "pending"), integer(each[3], "pending", 0, _64_BITS))
    return group


def _object(found: Any, what: str) -> Members:
    if type(found) is not dict:
        raise FormatError(f"{what!r} is no object, or has something that is none")
    return Members(found)


def _list(found: Any, what: str) -> list[Any]:
    if type(found) is not list:
        raise FormatError(f"{what!r} is no array")
    return found


def _time(found: Any, what: str) -> int:
    return integer(found, what, -_MAX_DEADLINE_MS - 1, _MAX_DEADLINE_MS)


def _as_id(found: Any, what: str) -> ID:
    match = _ID.fullmatch(found) if type(found) is str else None
    id = (int(match[1]), int(match[2])) if match else (0, _64_BITS + 1)
    if max(id) > _64_BITS:
        raise FormatError(f'{what!r} has no ID such as "1700000000000-0" where one must be')
    return id


def _expire_fields(value: Value, found: Any) -> None:
    if type(value) is not Hash:
        raise FormatError("'field_deadlines' of what is no hash")
    for field, deadline in _distinct(read_pairs(found, "field_deadlines"), "field_deadlines").items():
        if field not in value:
            raise FormatError(f"a deadline of the field {word_of(field)!r}, which is not there")
        value.expire(field, integer(deadline, "field_deadlines", 0, _MAX_FIELD_DEADLINE_MS))


_SHAPES: dict[str, _Shape] = {
    "string": _Shape(word_of, lambda found, limits: read_word(found, "value")),
    "list": _Shape(
        lambda value: map(word_of, value), lambda found, limits: List.sized(_words(found), limits)
    ),
    "set": _Shape(lambda value: map(word_of, value), _read_set),
    "hash": _Shape(_write_hash, _read_hash),
    "zset": _Shape(_write_zset, _read_zset),
    "stream": _Shape(_write_stream, _read_stream),
}
