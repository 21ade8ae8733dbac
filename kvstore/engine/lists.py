"""Lists: the typed methods.

Must not know: argv, sessions. A blocking method of a bare store answers at once, as nothing can come
while it waits; sessions try the same methods again when a key is ready.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvstore.engine.blocking import refuse_for_ever
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.types.list import FAR, LONG, UNKNOWN, List
from kvstore.engine.words import symmetric, words_of
from kvstore.errors import INDEX_RANGE, NO_SUCH_KEY, NOT_POSITIVE, SYNTAX, ResponseError, err
from kvstore.numbers import as_int

# The word of a side of a list, and whether it is the left one.
SIDES = {b"LEFT": True, b"RIGHT": False}
_SIDE_WORDS = (b"RIGHT", b"LEFT")
_POP_WORDS = (b"RPOP", b"LPOP")
_POP_EVENTS = ("rpop", "lpop")
_PUSH_EVENTS = ("rpush", "lpush")
_NO_NUMKEYS = "ERR numkeys should be greater than 0"
_NO_COUNT = "ERR count should be greater than 0"
# An LREM looks for so few elements one by one; for more it goes once through the list.
_FEW = 4


def side(word: Any) -> bool:
    """Whether a word names the left side. Raises ResponseError."""
    left = SIDES.get(to_bytes(word).upper())
    if left is None:
        raise ResponseError(SYNTAX)
    return left


def pop_count(count: Any) -> int:
    """The count of LPOP and RPOP. Raises ResponseError."""
    most = as_int(count, NOT_POSITIVE)
    if most < 0:
        raise ResponseError(NOT_POSITIVE)
    return most


class Lists(Keyspace):
    """Lists."""

    __slots__ = ()

    # -- pushes and pops ---------------------------------------------------------------------------

    def lpush(self, name: KeyT, *values: EncodableT) -> int:
        """Put values before the head, one after the other; the new length. O(1) a value.

        Raises WrongTypeError.
        """
        return self._push(to_bytes(name), tuple(map(to_bytes, values)), True, False)

    def rpush(self, name: KeyT, *values: EncodableT) -> int:
        """Put values after the tail; the new length. O(1) a value. Raises WrongTypeError."""
        return self._push(to_bytes(name), tuple(map(to_bytes, values)), False, False)

    def lpushx(self, name: KeyT, *values: EncodableT) -> int:
        """As ``lpush``, only if the list exists (else 0)."""
        return self._push(to_bytes(name), tuple(map(to_bytes, values)), True, True)

    def rpushx(self, name: KeyT, *values: EncodableT) -> int:
        """As ``rpush``, only if the list exists (else 0)."""
        return self._push(to_bytes(name), tuple(map(to_bytes, values)), False, True)

    def _lpush(self, key: bytes, *elements: bytes) -> int:
        return self._push(key, elements, True, False)

    def _rpush(self, key: bytes, *elements: bytes) -> int:
        return self._push(key, elements, False, False)

    def _push(self, key: bytes, elements: tuple[bytes, ...], left: bool, only_existing: bool) -> int:
        if not elements:
            raise err(
                "wrong number of arguments for 'lpush' command"
                if left
                else "wrong number of arguments for 'rpush' command"
            )
        found = self._data.get(key)
        if not isinstance(found, List) or key in self._expires or self._watched:
            found = self._write_as(key, List)  # else as it does, without the calls
        if found is None:
            if only_existing:
                return 0
            found = List()
            self._create(key, found)
        length = found.push(elements, left, self.ctx.limits)
        self.dirty += len(elements)
        if self._live:
            self.commit((b"LPUSH" if left else b"RPUSH", key, *elements), (_PUSH_EVENTS[left], key))
        if length > LONG and type(found) is List:
            found.lengthen()
        return length

    def lpop(self, name: KeyT, count: int | None = None) -> bytes | list[bytes] | None:
        """Take the head away, or up to ``count`` elements; None when the list is missing. O(1) each.

        Raises WrongTypeError; ResponseError for a negative ``count``.
        """
        key = to_bytes(name)
        return self._pop(key, True) if count is None else self._pops(key, True, pop_count(count))

    def rpop(self, name: KeyT, count: int | None = None) -> bytes | list[bytes] | None:
        """As ``lpop``, from the tail."""
        key = to_bytes(name)
        return self._pop(key, False) if count is None else self._pops(key, False, pop_count(count))

    def _pop(self, key: bytes, left: bool) -> bytes | None:
        found = self._data.get(key)
        if not isinstance(found, List) or key in self._expires or self._watched:
            found = self._write_as(key, List)  # else as it does, without the calls
        if found is None:
            return None
        element = found.popleft() if left else found.pop()
        if found.size != UNKNOWN:
            found.uncounted(element)
        self._commit_pop(key, found, left, 1)
        return element

    def _pops(self, key: bytes, left: bool, count: int) -> list[bytes] | None:
        found = self._write_as(key, List)
        if found is None:
            return None
        if count == 0:
            return []
        take = found.popleft if left else found.pop
        elements = [take() for _ in range(min(count, len(found)))]
        for element in elements:
            found.uncounted(element)
        self._commit_pop(key, found, left, len(elements))
        return elements

    def _commit_pop(self, key: bytes, found: List, left: bool, count: int) -> None:
        """The end of every pop: the key goes with the last element."""
        length = len(found)
        emptied = not length
        if emptied:
            self._remove(key)
        elif found.quick and (length <= FAR or found.size != UNKNOWN):
            found.shrunk(self.ctx.limits)
        self.dirty += count
        if self._live:
            word = _POP_WORDS[left]
            effect = (word, key) if count == 1 else (word, key, b"%d" % count)
            event = (_POP_EVENTS[left], key)
            if emptied:
                self.commit(effect, event, ("del", key))
            else:
                self.commit(effect, event)

    # -- looking -----------------------------------------------------------------------------------

    def llen(self, name: KeyT) -> int:
        """How many elements. O(1). Raises WrongTypeError."""
        found = self._read_as(to_bytes(name), List)
        return 0 if found is None else len(found)

    def lindex(self, name: KeyT, index: int) -> bytes | None:
        """The element at ``index`` (negative: from the tail), or None. O(distance to the nearer end).

        Raises WrongTypeError.
        """
        found = self._read_as(to_bytes(name), List)
        if found is None:
            return None
        at = as_int(index)
        return found[at] if -len(found) <= at < len(found) else None

    def lrange(self, name: KeyT, start: int, end: int) -> list[bytes]:
        """The elements from ``start`` to ``end``, both included (negative: from the tail). O(their number
        and the way there). Raises WrongTypeError.
        """
        first, last = as_int(start), as_int(end)
        found = self._read_as(to_bytes(name), List)
        if found is None:
            return []
        first, stop = _bounds(first, last, len(found))
        return found.between(first, stop)

    def lpos(
        self,
        name: KeyT,
        value: EncodableT,
        rank: int | None = None,
        count: int | None = None,
        maxlen: int | None = None,
    ) -> int | list[int] | None:
        """Where the value stands: the first index, or with ``count`` a list of up to that many (0: all).

        ``rank``: begin with that match; negative: from the tail. ``maxlen``: compare at most that many
        elements. O(n). Raises WrongTypeError; ResponseError for numbers out of range.
        """
        first = 1 if rank is None else position_rank(rank)
        most = None if count is None else not_negative(count, "COUNT")
        compared = 0 if maxlen is None else not_negative(maxlen, "MAXLEN")
        found = self._read_as(to_bytes(name), List)
        if found is None:
            return None if most is None else []
        matches = _matches(found, to_bytes(value), first, 1 if most is None else most, compared)
        if most is None:
            return matches[0] if matches else None
        return matches

    # -- changing in place -------------------------------------------------------------------------

    def lset(self, name: KeyT, index: int, value: EncodableT) -> bool:
        """Replace the element at ``index``. O(distance to the nearer end).

        Raises WrongTypeError; ResponseError when there is no such key or index.
        """
        key, element = to_bytes(name), to_bytes(value)
        found = self._write_as(key, List)
        if found is None:
            raise ResponseError(NO_SUCH_KEY)
        at = as_int(index)
        found.grow((element,), 0, self.ctx.limits)
        if not -len(found) <= at < len(found):
            raise ResponseError(INDEX_RANGE)
        found.uncounted(found[at])
        found[at] = element
        found.counted(element, self.ctx.limits)
        found.shrunk(self.ctx.limits)
        self.dirty += 1
        if self._live:
            self.commit((b"LSET", key, b"%d" % at, element), ("lset", key))
        return True

    def linsert(self, name: KeyT, where: str, refvalue: EncodableT, value: EncodableT) -> int:
        """Put a value "before" or "after" the first element equal to ``refvalue``. O(n).

        The new length; -1 when ``refvalue`` is not there, 0 when the list is not. Raises WrongTypeError.
        """
        key, place = to_bytes(name), to_bytes(where).upper()
        if place not in (b"BEFORE", b"AFTER"):
            raise ResponseError(SYNTAX)
        pivot, element = to_bytes(refvalue), to_bytes(value)
        found = self._write_as(key, List)
        if found is None:
            return 0
        found.grow((element,), 1, self.ctx.limits)
        try:
            at = found.index(pivot) + (place == b"AFTER")
        except ValueError:
            return -1
        found.insert(at, element)
        found.counted(element, self.ctx.limits)
        self.dirty += 1
        if self._live:
            self.commit((b"LINSERT", key, place, pivot, element), ("linsert", key))
        return len(found)

    def lrem(self, name: KeyT, count: int, value: EncodableT) -> int:
        """Take away ``count`` elements equal to the value, from the head (negative: from the tail; 0: all).

        How many went. O(n). Raises WrongTypeError.
        """
        key, most, element = to_bytes(name), symmetric(count), to_bytes(value)
        found = self._write_as(key, List)
        if found is None:
            return 0
        gone = _remove(found, element, most)
        if not gone:
            return 0
        for _ in range(gone):
            found.uncounted(element)
        emptied = self._drop_if_empty(key, found)
        if not emptied:
            found.shrunk(self.ctx.limits)
        self.dirty += gone
        if self._live:
            events = [("lrem", key), ("del", key)] if emptied else [("lrem", key)]
            self.commit((b"LREM", key, b"%d" % most, element), *events)
        return gone

    def ltrim(self, name: KeyT, start: int, end: int) -> bool:
        """Keep only the elements from ``start`` to ``end``, both included. O(elements that go).

        Raises WrongTypeError.
        """
        key, first, last = to_bytes(name), as_int(start), as_int(end)
        found = self._write_as(key, List)
        if found is None:
            return True
        length = len(found)
        low, stop = _bounds(first, last, length)
        if low >= stop:
            low = stop = length
        for _ in range(length - stop):
            found.uncounted(found.pop())
        for _ in range(low):
            found.uncounted(found.popleft())
        gone = length - len(found)
        emptied = self._drop_if_empty(key, found)
        if not emptied:
            found.shrunk(self.ctx.limits)
        self.dirty += gone
        if self._live:
            # Nothing to repeat when nothing went, but the key counts as touched.
            effect = (b"LTRIM", key, b"%d" % first, b"%d" % last) if gone else ()
            events = [("ltrim", key), ("del", key)] if emptied else [("ltrim", key)]
            self.commit(effect, *events)
        return True

    # -- between lists -----------------------------------------------------------------------------

    def lmove(
        self, first_list: KeyT, second_list: KeyT, src: str = "LEFT", dest: str = "RIGHT"
    ) -> bytes | None:
        """Move an element from a side of one list to a side of another, or of the same. O(1).

        The element; None when the first list is missing. Raises WrongTypeError.
        """
        return self._move(to_bytes(first_list), to_bytes(second_list), side(src), side(dest))

    def rpoplpush(self, src: KeyT, dst: KeyT) -> bytes | None:
        """Move the tail of one list to the head of another. O(1). Raises WrongTypeError."""
        return self._move(to_bytes(src), to_bytes(dst), False, True)

    def _move(self, source: bytes, target: bytes, from_left: bool, to_left: bool) -> bytes | None:
        found = self._write_as(source, List)
        if found is None:
            return None
        other = self._write_as(target, List)
        element = found.popleft() if from_left else found.pop()
        found.uncounted(element)
        if other is None:
            other = List()
            self._create(target, other)
        other.grow((element,), 1, self.ctx.limits)
        if to_left:
            other.appendleft(element)
        else:
            other.append(element)
        other.counted(element, self.ctx.limits)
        if len(other) > LONG and type(other) is List:
            other.lengthen()
        events = [(_PUSH_EVENTS[to_left], target), (_POP_EVENTS[from_left], source)]
        if self._drop_if_empty(source, found):
            events.append(("del", source))
        else:
            found.shrunk(self.ctx.limits)
        self.dirty += 1
        if self._live:
            self.commit((b"LMOVE", source, target, _SIDE_WORDS[from_left], _SIDE_WORDS[to_left]), *events)
        return element

    def lmpop(self, num_keys: int, *args: KeyT, direction: str, count: int | None = 1) -> list[Any] | None:
        """Take up to ``count`` elements from a side ("LEFT", "RIGHT") of the first list that exists.

        The key and the elements, or None. O(keys + elements). Raises WrongTypeError; ResponseError.
        """
        keys = words_of(args)
        if as_int(num_keys, _NO_NUMKEYS) < 1:
            raise ResponseError(_NO_NUMKEYS)
        if as_int(num_keys) != len(keys):
            raise ResponseError(SYNTAX)
        return self._mpop(keys, side(direction), 1 if count is None else mpop_count(count))

    def _mpop(self, keys: Iterable[bytes], left: bool, count: int) -> list[Any] | None:
        for key in keys:
            elements = self._pops(key, left, count)
            if elements is not None:
                return [key, elements]
        return None

    # -- blocking ----------------------------------------------------------------------------------

    def blpop(self, keys: Any, timeout: float | None = 0) -> tuple[bytes, bytes] | None:
        """Take the head of the first list that exists: the key and the element. O(keys).

        When there is none: None at once if a ``timeout`` (seconds) was given, as nothing can come while
        the only thread waits; else a ResponseError. Raises WrongTypeError.
        """
        return self._bpop(keys, timeout, True)

    def brpop(self, keys: Any, timeout: float | None = 0) -> tuple[bytes, bytes] | None:
        """As ``blpop``, from the tail."""
        return self._bpop(keys, timeout, False)

    def _bpop(self, keys: Any, timeout: float | None, left: bool) -> tuple[bytes, bytes] | None:
        found = self._pop_first(words_of(keys), left)
        if found is None:
            refuse_for_ever(timeout)
        return found

    def _pop_first(self, keys: Iterable[bytes], left: bool) -> tuple[bytes, bytes] | None:
        """A pop from the first list that exists; its key too."""
        for key in keys:
            element = self._pop(key, left)
            if element is not None:
                return key, element
        return None

    def blmove(
        self, first_list: KeyT, second_list: KeyT, timeout: float, src: str = "LEFT", dest: str = "RIGHT"
    ) -> bytes | None:
        """As ``lmove``, with the timeout that ``blpop`` has."""
        element = self._move(to_bytes(first_list), to_bytes(second_list), side(src), side(dest))
        if element is None:
            refuse_for_ever(timeout)
        return element

    def brpoplpush(self, src: KeyT, dst: KeyT, timeout: float | None = 0) -> bytes | None:
        """As ``rpoplpush``, with the timeout that ``blpop`` has."""
        element = self._move(to_bytes(src), to_bytes(dst), False, True)
        if element is None:
            refuse_for_ever(timeout)
        return element

    def blmpop(
        self, timeout: float, numkeys: int, *args: KeyT, direction: str, count: int | None = 1
    ) -> list[Any] | None:
        """As ``lmpop``, with the timeout that ``blpop`` has."""
        found = self.lmpop(numkeys, *args, direction=direction, count=count)
        if found is None:
            refuse_for_ever(timeout)
        return found


def mpop_count(count: Any) -> int:
    """The COUNT of LMPOP. Raises ResponseError."""
    most = as_int(count, _NO_COUNT)
    if most < 1:
        raise ResponseError(_NO_COUNT)
    return most


def _bounds(first: int, last: int, length: int) -> tuple[int, int]:
    """First and last index, both included and from either end, as a half-open range in the list."""
    if first < 0:
        first = max(0, first + length)
    if last < 0:
        last += length
    stop = min(last + 1, length)
    return (first, stop) if first < stop else (0, 0)


def position_rank(rank: Any) -> int:
    """The RANK of LPOS. Raises ResponseError."""
    first = symmetric(rank)
    if first == 0:
        raise err(
            "RANK can't be zero: use 1 to start from the first match, 2 from the second ... "
            "or use negative to start from the end of the list"
        )
    return first


def not_negative(number: Any, name: str) -> int:
    """The COUNT or MAXLEN of LPOS. Raises ResponseError."""
    text = f"ERR {name} can't be negative"
    found = as_int(number, text)
    if found < 0:
        raise ResponseError(text)
    return found


def _matches(found: List, element: bytes, rank: int, most: int, compared: int) -> list[int]:
    """Indexes of matches from the ``rank``-th on (negative: from the tail), up to ``most`` (0: all)."""
    length = len(found)
    skip = abs(rank) - 1
    elements = found if rank > 0 else reversed(found)
    matches: list[int] = []
    for at, each in enumerate(elements):
        if compared and at >= compared:
            break
        if each == element:
            if skip:
                skip -= 1
                continue
            matches.append(at if rank > 0 else length - 1 - at)
            if len(matches) == most:
                break
    return matches


def _remove(found: List, element: bytes, count: int) -> int:
    """Take away up to ``abs(count)`` matches (0: all), from the tail when negative; how many went. O(n)."""
    matches = found.count(element)
    most = min(matches, abs(count)) if count else matches
    if not most:
        return 0
    if most <= _FEW:
        for _ in range(most):
            if count < 0:
                del found[_last(found, element)]
            else:
                found.remove(element)
    else:
        left, kept = most, []
        for each in reversed(found) if count < 0 else found:
            if left and each == element:
                left -= 1
            else:
                kept.append(each)
        if count < 0:
            kept.reverse()
        found.clear()
        found.extend(kept)
    return most


def _last(found: List, element: bytes) -> int:
    """Where an element stands for the last time; it is there. O(distance to the tail)."""
    at = len(found)
    for each in reversed(found):
        at -= 1
        if each == element:
            break
    return at
