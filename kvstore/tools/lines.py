"""Keys as lines of JSON: what ``kvstore dump`` prints and ``kvstore load`` reads.

    {"db": 0, "key": "user:7", "type": "hash", "expires_at_ms": 1900000000000, "value": {"name": "Ann"}}

Words, such as keys, and values are as ``kvstore.engine.plain`` says. ``{"function": ..., "source": ...}`` is a
library of functions. Keys keep their order.

Costs: O(bytes). A large value is written in pieces; reading one takes its line, its tree and the value.

Must not know: files, where lines come from or go to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, NoReturn

from kvstore.engine.context import Limits
from kvstore.engine.plain import (
    Members,
    Named,
    integer,
    parts_of,
    read_deadline,
    read_value,
    read_word,
    type_name,
    word_of,
)
from kvstore.engine.types import Value
from kvstore.errors import FormatError

# Elements of a value that become JSON at once.
_BATCH = 1000

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


# -- writing -----------------------------------------------------------------------------------------------


def key_line(db: int, key: bytes, value: Value, deadline_ms: int | None) -> Iterator[bytes]:
    """The line of a key, its end included, in pieces. O(size)."""
    head: dict[str, Any] = {"db": db, "key": word_of(key), "type": type_name(value)}
    if deadline_ms is not None:
        head["expires_at_ms"] = deadline_ms
    text = _encode(head)[:-1]
    for name, tree in parts_of(value):
        text += f', "{name}": '
        for piece in _pieces(tree):
            yield (text + piece).encode()
            text = ""
    yield b"}\n"


def function_line(name: bytes, source: bytes) -> bytes:
    """The line of a library of functions, its end included."""
    return _encode({"function": word_of(name), "source": word_of(source)}).encode() + b"\n"


def _pieces(tree: Any) -> Iterator[str]:
    """A tree as JSON."""
    if isinstance(tree, Named):
        yield from _map(tree.items)
    elif isinstance(tree, Iterator):
        yield from _array(tree)
    elif type(tree) is dict:
        before = "{"
        for name, item in tree.items():
            yield f"{before}{_encode(name)}: "
            yield from _pieces(item)
            before = ", "
        yield "}"
    elif type(tree) is list:
        before = "["
        for item in tree:
            yield before
            yield from _pieces(item)
            before = ", "
        yield "]" if tree else "[]"
    else:
        yield _encode(tree)


def _array(items: Iterable[Any]) -> Iterator[str]:
    """A JSON array, in pieces."""
    rest = iter(items)
    before = "["
    while batch := list(islice(rest, _BATCH)):
        yield before + _encode(batch)[1:-1]
        before = ", "
    yield "]" if before == ", " else "[]"


def _map(items: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """A JSON object, in pieces."""
    rest = iter(items)
    before = "{"
    while batch := dict(islice(rest, _BATCH)):
        yield before + _encode(batch)[1:-1]
        before = ", "
    yield "}" if before == ", " else "{}"


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
    taken = Members(found)
    made = _function(taken) if "function" in found else _key(taken, limits)
    taken.end()
    return made


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FormatError("an object with one name twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise FormatError(f"{name}, which is no JSON")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant).decode


def _function(members: Members) -> Function:
    return Function(
        read_word(members.take("function"), "function"), read_word(members.take("source"), "source")
    )


def _key(members: Members, limits: Limits) -> Key:
    db = integer(members.take("db"), "db", 0, (1 << 31) - 1)
    key = read_word(members.take("key"), "key")
    name = members.take("type")
    deadline = read_deadline(members)
    return Key(db, key, read_value(members, name, limits), deadline)
