"""SORT: the elements of a list, set or sorted set in order of themselves, or of what other keys hold for them.

Order
- By number: equal ones in order of their bytes, so the result is the same however the elements came.
- ``alpha``: by bytes, as servers do in the C locale: up to the first NUL, unless the result is stored. Equal ones stay
  as they came; with ``by`` and a part of the result asked for, as the server's partial sort leaves them.
- ``by`` a word without "*": not at all. A sorted set then keeps its order, and so does a list; a set is sorted by
  bytes where the result is stored or goes to a script.

What is logged of a stored result is the list itself, as the keys behind patterns may be others by the next time.

Costs: O(n log n), O(n) where nothing is sorted, and a look-up for each element and pattern.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nlargest, nsmallest
from operator import itemgetter
from typing import Any, Final

from kvstore.engine.keyspace import Keyspace, KeyT, to_bytes
from kvstore.engine.partial_sort import partly_sorted
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List, LongList
from kvstore.engine.types.set import Set
from kvstore.engine.types.zset import ZSet
from kvstore.errors import DataError, WrongTypeError, err
from kvstore.numbers import as_int, parse_float

Lookup = Callable[[bytes], bytes | None]
_SELF: Final = b"#"
# Elements of one RPUSH that stands for a stored result.
_BATCH: Final = 1024
_SPACES: Final = b" \t\n\v\f\r"
_PLAIN_DIGITS: Final = b"0123456789-."
# No number of so few characters overflows or comes near to zero.
_SHORT: Final = 300
_SMALLEST_NORMAL: Final = 2.0**-1022
# Up to what part of the elements, one in so many, a heap of them is quicker than sorting all.
_FEW: Final = 64
_second = itemgetter(1)


class Request:
    """What is asked of a SORT, beside the key."""

    __slots__ = ("alpha", "by", "count", "desc", "get", "start", "store", "unsorted")

    def __init__(self) -> None:
        self.by: bytes | None = None
        self.unsorted = False
        self.get: list[bytes] = []
        self.start = 0
        self.count = -1
        self.desc = False
        self.alpha = False
        self.store: bytes | None = None

    def sort_by(self, pattern: bytes) -> None:
        self.by = pattern
        if not names_keys(pattern):
            self.unsorted = True  # for good, even if another pattern follows

    def limit(self, start: Any, count: Any) -> None:
        """Raises ResponseError."""
        self.start, self.count = as_int(start), as_int(count)

    def bounds(self, length: int) -> tuple[int, int]:
        """The places asked for, of so many: from the first to before the last."""
        start = min(max(self.start, 0), length)
        return start, length if self.count < 0 else min(start + self.count, length)


def names_keys(pattern: bytes) -> bool:
    """Whether BY a pattern looks at other keys; servers look for the sign up to the first NUL."""
    return b"*" in _as_text(pattern)


class Sorting(Keyspace):
    """SORT."""

    __slots__ = ()

    def sort(
        self,
        name: KeyT,
        start: int | None = None,
        num: int | None = None,
        by: str | None = None,
        get: list[str] | None = None,
        desc: bool = False,
        alpha: bool = False,
        store: str | None = None,
        groups: bool | None = False,
    ) -> list[Any] | int:
        """The elements of a list, set or sorted set in order. O(n log n).

        ``start``, ``num``: no more than so many, from a place on. ``by``: compare what is at the key that the
        pattern names, with the element in place of "*", and "key->field" for a field of a hash; a word without
        "*": leave them as they are. ``get``: instead of each element what such patterns name, "#" for itself.
        ``alpha``: compare bytes, not numbers. ``store``: make a list of it at that key; its length.
        ``groups``: a tuple for each element with what was got. Raises WrongTypeError; ResponseError for
        elements that are no numbers; DataError for words that do not go together.
        """
        if (start is None) == (num is None) and groups and not _several(get):
            raise DataError(
                'when using "groups" the "get" argument must be specified and contain at least two keys'
            )
        request = _request(start, num, by, get, desc, alpha)
        if store is not None:
            request.store = to_bytes(store)
        found = self._sort(to_bytes(name), request)
        if not groups or isinstance(found, int):
            return found
        size = len(request.get)
        return list(zip(*(found[at::size] for at in range(size)), strict=True))

    def sort_ro(
        self,
        key: str,
        start: int | None = None,
        num: int | None = None,
        by: str | None = None,
        get: list[str] | None = None,
        desc: bool = False,
        alpha: bool = False,
    ) -> list[Any]:
        """As ``sort``, which cannot store its result."""
        found = self._sort(to_bytes(key), _request(start, num, by, get, desc, alpha))
        assert not isinstance(found, int)  # nothing was stored
        return found

    def _sort(self, key: bytes, request: Request, for_script: bool = False) -> list[Any] | int:
        """The result, or the length of what was stored."""
        value = self._unpacked(key, self._read(key))
        if value is not None and type(value) not in (List, LongList, Set, ZSet):
            raise WrongTypeError
        by, alpha, unsorted = request.by, request.alpha, request.unsorted
        if unsorted and type(value) is Set and (request.store is not None or for_script):
            by, alpha, unsorted = None, True, False
        if type(value) is ZSet:
            value.wide = True  # servers make it a skiplist to sort it
        start, stop = request.bounds(0 if value is None else len(value))
        if value is None:
            found: list[Any] = []
        elif unsorted:
            found = _as_they_are(value, start, stop, request.desc)
        else:
            elements = _elements(value)
            if alpha:
                key_of = bytes if request.store is not None else _as_text
                weights = None if by is None else self._looked_up(by, elements)
                found = _by_bytes(elements, weights, key_of, request.desc, start, stop)
            else:
                words = elements if by is None else self._looked_up(by, elements)
                found = _by_number(elements, words, request.desc, start, stop)
        if request.get:
            lookups = [self._lookup(pattern) for pattern in request.get]
            found = [lookup(element) for element in found for lookup in lookups]
        if request.store is None:
            return found
        return self._store_list(request.store, [element or b"" for element in found])

    def _looked_up(self, pattern: bytes, elements: list[bytes]) -> list[bytes | None]:
        return list(map(self._lookup(pattern), elements))

    def _lookup(self, pattern: bytes) -> Lookup:
        """What gives the value that a pattern names for an element."""
        text = _as_text(pattern)  # servers look for the signs up to the first NUL
        if text == _SELF:
            return lambda element: element
        star = text.find(b"*")
        if star < 0:
            return lambda element: None
        read, opened = self._read, self._unpacked
        prefix, rest = pattern[:star], pattern[star + 1 :]
        arrow = text.find(b"->", star + 1)
        if arrow < 0 or arrow + 2 == len(text):

            def string_at(element: bytes) -> bytes | None:
                value = read(prefix + element + rest)
                return value if type(value) is bytes else None

            return string_at
        rest, field = pattern[star + 1 : arrow], pattern[arrow + 2 :]

        def field_at(element: bytes) -> bytes | None:
            key = prefix + element + rest
            value = opened(key, read(key))
            return value.get(field) if type(value) is Hash else None

        return field_at

    def _store_list(self, target: bytes, elements: list[bytes]) -> int:
        """Put a list at its key, in place of whatever was there, or delete the key; its length."""
        before = self._write(target)
        if not elements:
            if before is not None:
                self._delete(target, "del")
            return 0
        self._overwrite(target, List.sized(elements, self.ctx.limits))
        self.dirty += len(elements)
        if self._live:
            with self.ctx.unit():
                if before is not None:
                    self.commit((b"DEL", target))
                for at in range(0, len(elements), _BATCH):
                    events = [("sortstore", target)] if at == 0 else []
                    self.commit((b"RPUSH", target, *elements[at : at + _BATCH]), *events)
        return len(elements)


def _several(get: Any) -> bool:
    return bool(get) and not isinstance(get, (bytes, str)) and len(get) > 1


def _request(start: Any, num: Any, by: Any, get: Any, desc: bool, alpha: bool) -> Request:
    if (start is None) != (num is None):
        raise DataError("``start`` and ``num`` must both be specified")
    request = Request()
    if by is not None:
        request.sort_by(to_bytes(by))
    if start is not None:
        request.limit(start, num)
    if get is not None:
        request.get = [to_bytes(each) for each in ([get] if isinstance(get, (bytes, str)) else get)]
    request.desc, request.alpha = bool(desc), bool(alpha)
    return request


def _elements(value: Any) -> list[bytes]:
    if type(value) is Set:
        return value.listed()
    return list(value.scores if type(value) is ZSet else value)


def _as_they_are(value: Any, start: int, stop: int, desc: bool) -> list[bytes]:
    """Places of the container's own order. O(stop - start + way there); of a set O(n)."""
    if type(value) is Set:
        return value.listed()[start:stop]
    length = len(value)
    low, high = (length - stop, length - start) if desc else (start, stop)
    found: list[bytes] = value.ranked().range(low, high) if type(value) is ZSet else value.between(low, high)
    if desc:
        found.reverse()
    return found


def _as_text(word: bytes) -> bytes:
    """As C's functions see it."""
    return word.partition(b"\0")[0] if b"\0" in word else word


def _by_bytes(
    elements: list[bytes],
    weights: list[bytes | None] | None,
    key_of: Callable[[bytes], bytes],
    desc: bool,
    start: int,
    stop: int,
) -> list[bytes]:
    """Sorted by their bytes, or by those of their weights, of which a missing one is the least."""
    if weights is None:
        return sorted(elements, key=key_of, reverse=desc)[start:stop]
    pairs = [
        ((0, b"") if weight is None else (1, key_of(weight)), element)
        for weight, element in zip(weights, elements, strict=True)
    ]
    return [element for _, element in partly_sorted(pairs, itemgetter(0), desc, start, stop)]


def _by_number(elements: list[bytes], words: list[Any], desc: bool, start: int, stop: int) -> list[bytes]:
    """Sorted by the numbers that the words are; one that is missing is 0. Raises ResponseError."""
    pairs = zip(_numbers(words), elements, strict=True)
    if stop * _FEW < len(elements):
        found = (nlargest if desc else nsmallest)(stop, pairs)
    else:
        found = sorted(pairs, reverse=desc)
    return list(map(_second, found[start:stop]))


def _numbers(words: list[Any]) -> Iterable[float]:
    if None not in words and not b"".join(words).translate(None, _PLAIN_DIGITS):
        # Digits alone, which float() reads as servers do, at a fifth of the cost.
        try:
            if max(map(len, words), default=0) < _SHORT:
                return list(map(float, words))
        except ValueError:
            pass
    return [0.0 if word is None else _number(word) for word in words]


def _number(word: bytes) -> float:
    """What servers read of a word: up to the first NUL, after white space; nothing is 0."""
    text = _as_text(word)
    if not text:
        return 0.0
    number = parse_float(text.lstrip(_SPACES))
    if number is None or 0 < abs(number) < _SMALLEST_NORMAL:
        raise err("One or more scores can't be converted into double")
    return number
