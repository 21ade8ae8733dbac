"""Sorted sets: adding, removing, looking up, popping, drawing and scanning; with their ranges and algebra.

A score is given as a number, or as the words that spell one.

Must not know: argv, replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from kvstore.engine.blocking import refuse_for_ever
from kvstore.engine.draws import check_draws, draw_count
from kvstore.engine.keyspace import EncodableT, KeyT, to_bytes
from kvstore.engine.order import ScanOrder
from kvstore.engine.types.zset import ZSet
from kvstore.engine.words import scan_count, words_of
from kvstore.engine.zset_algebra import SortedSetAlgebra
from kvstore.engine.zset_ranges import Pair, cast_pairs, cast_score
from kvstore.errors import NOT_POSITIVE, SYNTAX, DataError, ResponseError, err
from kvstore.glob import compile_scan_glob
from kvstore.numbers import as_float, as_int, format_double, format_double17

NAN_SCORE: Final = "ERR resulting score is not a number (NaN)"

# The flags of ZADD.
NX: Final = 1
XX: Final = 2
GT: Final = 4
LT: Final = 8
CH: Final = 16
INCR: Final = 32


def as_score(value: Any) -> float:
    """A score that is to be stored. Raises ResponseError where it is no number."""
    cls = type(value)
    return as_float(value if cls is bytes or cls is float or cls is int else to_bytes(value))


class SortedSets(SortedSetAlgebra):
    """Sorted sets."""

    __slots__ = ()

    # -- adding ------------------------------------------------------------------------------------

    def zadd(
        self,
        name: KeyT,
        mapping: Mapping[Any, EncodableT],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
        incr: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> int | float | None:
        """Add members, or give those that are there another score; how many were added.

        ``nx``: only add; ``xx``: only change; ``gt``, ``lt``: change only to a greater or lesser score;
        ``ch``: count changed members too; ``incr``: add to the score of the one member and return the new
        one, or None where a flag forbade it. O(log n) a member.

        Raises DataError where the flags contradict each other, ResponseError where a score is no number,
        WrongTypeError.
        """
        if not mapping:
            raise DataError("ZADD requires at least one element/score pair")
        if not (nx or xx or ch or incr or gt or lt) and len(mapping) == 1:
            [(member, score)] = mapping.items()
            return self._zadd_one(to_bytes(name), as_score(score), to_bytes(member))
        if nx and xx:
            raise DataError("ZADD allows either 'nx' or 'xx', not both")
        if gt and lt:
            raise DataError("ZADD allows either 'gt' or 'lt', not both")
        if incr and len(mapping) != 1:
            raise DataError("ZADD option 'incr' only works when passing a single element/score pair")
        if nx and (gt or lt):
            raise DataError("Only one of 'nx', 'lt', or 'gr' may be defined.")
        flags = nx * NX | xx * XX | gt * GT | lt * LT | ch * CH | incr * INCR
        pairs = [(to_bytes(member), as_score(score)) for member, score in mapping.items()]
        return self._zadd(to_bytes(name), pairs, flags)

    def zincrby(self, name: KeyT, amount: float, value: EncodableT) -> float:
        """Add ``amount`` to the score of a member, which is added if missing; the new score. O(log n).

        Raises ResponseError where ``amount`` is no number or the result would be none, WrongTypeError.
        """
        total = self._zadd(to_bytes(name), [(to_bytes(value), as_score(amount))], INCR)
        return total  # type: ignore[return-value]  # only a flag makes it None

    def _zadd_one(self, key: bytes, score: float, member: bytes) -> int:
        """ZADD of one member without flags; 1 if it was added. The hot path of ``_zadd``."""
        zset = self._data.get(key)
        if type(zset) is not ZSet or key in self._expires or self._watched:
            zset = self._write_as(key, ZSet)  # else as it does, without the calls
            if zset is None:
                zset = ZSet()
                self._create(key, zset)
        if not zset.wide:
            limits = self.ctx.limits
            if len(member) > limits.zset_max_listpack_value or not limits.zset_max_listpack_entries:
                zset.wide = True
        old = zset.scores.get(member)
        if old is None:
            if not zset.wide:
                if len(zset.scores) >= limits.zset_max_listpack_entries:
                    zset.wide = True
                elif not score:
                    score = 0.0
            zset.add(member, score)
            added = 1
        elif old == score:
            return 0
        else:
            if not score and not zset.wide:
                score = 0.0
            zset.change(member, old, score)
            added = 0
        self.dirty += 1
        if self._live:
            self.commit((b"ZADD", key, format_double(score), member), ("zadd", key))
        return added

    def _zadd(self, key: bytes, pairs: Sequence[Pair], flags: int) -> int | float | None:
        """ZADD with flags: how many members were added (CH: or changed); INCR: the new score or None."""
        zset = self._write_as(key, ZSet)
        if zset is None:
            if flags & XX:
                return None if flags & INCR else 0
            made = dict(pairs)
            if not flags and len(made) == len(pairs):
                return self._zmade(key, made)
            zset = ZSet()
            self._create(key, zset)
        limits = self.ctx.limits
        longest = max([len(member) for member, _ in pairs])
        if len(pairs) > limits.zset_max_listpack_entries or longest > limits.zset_max_listpack_value:
            zset.wide = True
        scores, live = zset.scores, self._live
        added = touched = 0
        score: float | None = None
        effect = [b"ZADD", key]
        for member, given in pairs:
            old = scores.get(member)
            score = _new_score(old, given, flags)
            if score is None or score == old:
                continue
            stored = score
            if not zset.wide:
                if old is None and len(scores) >= limits.zset_max_listpack_entries:
                    zset.wide = True
                elif not score:
                    stored = 0.0  # a listpack has no negative zero
            if old is None:
                zset.add(member, stored)
                added += 1
            else:
                zset.change(member, old, stored)
            touched += 1
            if live:
                effect += (format_double(stored), member)
        if touched:
            self.dirty += touched
            if live:
                self.commit(tuple(effect), ("zincr" if flags & INCR else "zadd", key))
        if flags & INCR:
            return score
        return touched if flags & CH else added

    def _zmade(self, key: bytes, scores: dict[bytes, float]) -> int:
        """ZADD of these members to a key that does not exist; their number."""
        self._create(key, ZSet.sized(scores, self.ctx.limits))
        self.dirty += len(scores)
        if self._live:
            effect = [b"ZADD", key]
            for member, score in scores.items():
                effect += (format_double(score), member)
            self.commit(tuple(effect), ("zadd", key))
        return len(scores)

    # -- removing ----------------------------------------------------------------------------------

    def zrem(self, name: KeyT, *values: EncodableT) -> int:
        """Remove members; how many were there. O(log n) a member. Raises WrongTypeError."""
        if not values:
            raise err("wrong number of arguments for 'zrem' command")
        key = to_bytes(name)
        zset = self._write_as(key, ZSet)
        if zset is None:
            return 0
        gone = [member for member in map(to_bytes, values) if zset.discard(member)]
        if gone:
            self._zremoved(key, zset, (b"ZREM", key, *gone), "zrem", len(gone))
        return len(gone)

    def _zremoved(self, key: bytes, zset: ZSet, effect: tuple[bytes, ...], event: str, count: int) -> None:
        """The end of each removal of members, at least one: drop an emptied set, commit."""
        emptied = self._drop_if_empty(key, zset)
        self.dirty += count
        if self._live:
            if emptied:
                self.commit((b"DEL", key), (event, key), ("del", key))
            else:
                self.commit(effect, (event, key))

    def zpopmin(self, name: KeyT, count: int | None = None) -> list[Pair]:
        """Remove and return the ``count`` members with the lowest scores (default 1). O(log n + count).

        Raises ResponseError for a negative count, WrongTypeError.
        """
        return self._zpop(to_bytes(name), _pop_count(count), False)

    def zpopmax(self, name: KeyT, count: int | None = None) -> list[Pair]:
        """Remove and return the ``count`` members with the highest scores, highest first; see ``zpopmin``."""
        return self._zpop(to_bytes(name), _pop_count(count), True)

    def _zpop(self, key: bytes, count: int, highest: bool) -> list[Pair]:
        zset = self._write_as(key, ZSet)
        return self._zpop_from(key, zset, count, highest) if zset is not None and count else []

    def _zpop_from(self, key: bytes, zset: ZSet, count: int, highest: bool) -> list[Pair]:
        """Remove ``count`` > 0 members, or all, from one end of the set at ``key``."""
        size = len(zset.scores)
        if count == 1:
            popped = [zset.pop(highest)]
        else:
            count = min(count, size)
            popped = zset.cut(size - count, size) if highest else zset.cut(0, count)
            if highest:
                popped.reverse()
        if self._live:
            effect = (b"ZPOPMAX" if highest else b"ZPOPMIN", key, b"%d" % count)
            self._zremoved(key, zset, effect, "zpopmax" if highest else "zpopmin", count)
        else:
            self.dirty += count
            if count == size:
                self._remove(key)
        return popped

    def zmpop(
        self,
        num_keys: int,
        keys: Sequence[KeyT],
        min: bool | None = False,
        max: bool | None = False,
        count: int | None = 1,
    ) -> list[Any] | None:
        """Pop up to ``count`` members, lowest (``min``) or highest (``max``) first, from the first of the
        keys that has any: [key, [[member, printed score], ...]], or None. O(number of keys + log n + count).

        Raises DataError, ResponseError, WrongTypeError.
        """
        if bool(min) == bool(max):
            raise DataError
        names = _counted_keys(num_keys, keys)
        number = as_int(count, "ERR count should be greater than 0")
        if number < 1:
            raise err("count should be greater than 0")
        return _printed(self._zmpop(names, bool(max), number))

    def _zmpop(self, keys: Iterable[bytes], highest: bool, count: int) -> tuple[bytes, list[Pair]] | None:
        """Pop from the first of the keys that is there. Raises WrongTypeError at one of another type."""
        for key in keys:
            zset = self._write_as(key, ZSet)
            if zset is not None:
                return key, self._zpop_from(key, zset, count, highest)
        return None

    # -- blocking commands, which cannot wait here ---------------------------------------------------

    def bzpopmin(self, keys: Any, timeout: float | None = 0) -> tuple[bytes, bytes, float] | None:
        """``zpopmin`` from the first of the keys that has a member: (key, member, score).

        Where none has, nobody could add one while this thread waits: None at once, as when the time is
        over; an error where it would wait for ever. O(number of keys + log n).
        """
        return self._bzpop(keys, timeout, False)

    def bzpopmax(self, keys: Any, timeout: float | None = 0) -> tuple[bytes, bytes, float] | None:
        """``zpopmax`` from the first of the keys that has a member; see ``bzpopmin``."""
        return self._bzpop(keys, timeout, True)

    def _bzpop(self, keys: Any, timeout: float | None, highest: bool) -> tuple[bytes, bytes, float] | None:
        found = self._zmpop(words_of(keys), highest, 1)
        if found is None:
            refuse_for_ever(timeout)
            return None
        key, [(member, score)] = found
        return key, member, score

    def bzmpop(
        self,
        timeout: float,
        numkeys: int,
        keys: Sequence[KeyT],
        min: bool | None = False,
        max: bool | None = False,
        count: int | None = 1,
    ) -> list[Any] | None:
        """``zmpop``, with the timeout that ``bzpopmin`` has."""
        if bool(min) == bool(max):
            raise DataError("Either min or max, but not both must be set")
        found = self.zmpop(numkeys, keys, min, max, count)
        if found is None:
            refuse_for_ever(timeout)
        return found

    # -- looking up --------------------------------------------------------------------------------

    def zcard(self, name: KeyT) -> int:
        """How many members the set has. O(1)."""
        zset = self._read_as(to_bytes(name), ZSet)
        return 0 if zset is None else len(zset.scores)

    def zscore(self, name: KeyT, value: EncodableT) -> float | None:
        """The score of a member, or None. O(1)."""
        zset = self._read_as(to_bytes(name), ZSet)
        return None if zset is None else zset.scores.get(to_bytes(value))

    def zmscore(self, key: KeyT, members: Sequence[EncodableT]) -> list[float | None]:
        """The scores of members, None for those that are not there. O(1) a member."""
        if not members:
            raise DataError("ZMSCORE members must be a non-empty list")
        return self._zmscore(to_bytes(key), [to_bytes(member) for member in members])

    def _zmscore(self, key: bytes, members: Sequence[bytes]) -> list[float | None]:
        zset = self._read_as(key, ZSet)
        if zset is None:
            return [None] * len(members)
        return list(map(zset.scores.get, members))

    def zrank(
        self,
        name: KeyT,
        value: EncodableT,
        withscore: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> int | list[Any] | None:
        """How many members come before this one, or None; ``withscore``: [rank, score]. O(log n)."""
        return self._ranked(name, value, False, withscore, score_cast_func)

    def zrevrank(
        self,
        name: KeyT,
        value: EncodableT,
        withscore: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> int | list[Any] | None:
        """How many members come after this one, or None; ``withscore``: [rank, score]. O(log n)."""
        return self._ranked(name, value, True, withscore, score_cast_func)

    def _ranked(
        self, name: KeyT, value: EncodableT, reverse: bool, withscore: bool, cast: Callable[[Any], Any]
    ) -> int | list[Any] | None:
        found = self._zrank(to_bytes(name), to_bytes(value), reverse)
        if found is None:
            return None
        rank, score = found
        if not withscore:
            return rank
        return [rank, score if cast is float else cast_score(score, cast)]

    def _zrank(self, key: bytes, member: bytes, reverse: bool) -> tuple[int, float] | None:
        """The rank and the score of a member, or None."""
        zset = self._read_as(key, ZSet)
        if zset is None:
            return None
        score = zset.scores.get(member)
        if score is None:
            return None
        rank = zset.ranked().rank(score, member)
        return (len(zset.scores) - 1 - rank if reverse else rank), score

    # -- drawing and scanning ----------------------------------------------------------------------

    def zrandmember(self, key: KeyT, count: int | None = None, withscores: bool = False) -> Any:
        """A member drawn at random, or None; with ``count`` a list of as many different ones, or of
        ``-count`` draws where it is negative; ``withscores``: a flat list with printed scores.

        O(1) a member, or O(n) where most of them are taken. Raises WrongTypeError; ResponseError for a
        ``count`` out of range.
        """
        name = to_bytes(key)
        if count is None:
            if withscores:
                as_int(b"WITHSCORES")  # which stands where the count should be
            found = self._zdraw(name, -1)
            return found[0][0] if found else None
        number = draw_count(count, withscores)
        pairs = self._zdraw(name, number)
        if not withscores:
            return [member for member, _ in pairs]
        return [word for member, score in pairs for word in (member, format_double17(score))]

    def _zdraw(self, key: bytes, count: int) -> list[Pair]:
        """``count`` different members, or ``-count`` draws, with their scores."""
        zset = self._read_as(key, ZSet)
        if zset is None or not count:
            return []
        size, random, ranks = len(zset.scores), self.ctx.random, zset.ranked()
        if count >= size:
            return ranks.range_with_scores(0, size)[::-1]  # highest first, as the server has it
        if count > 0:
            drawn = random.sample(range(size), count)
        elif count == -1:
            drawn = [random.randrange(size)]
        else:
            check_draws(count)
            drawn = random.choices(range(size), k=-count)
        scores = zset.scores
        if len(drawn) * 8 > size:
            every = list(ranks)
            return [(member := every[rank], scores[member]) for rank in drawn]
        return [(member := ranks.at(rank), scores[member]) for rank in drawn]

    def zscan(
        self,
        name: KeyT,
        cursor: int = 0,
        match: EncodableT | None = None,
        count: int | None = None,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> tuple[int, list[Any]]:
        """Some members with their scores, and the cursor to go on with; 0 starts and ends.

        What is there from start to end is returned; a small set comes at once. ``match``: a pattern.
        O(count). Raises ResponseError, WrongTypeError.
        """
        start = as_int(cursor, "ERR invalid cursor")
        pattern = None if match is None else to_bytes(match)
        zset = self._read_as(to_bytes(name), ZSet)
        if zset is None:
            return 0, []
        following, pairs = scan_zset(zset, start, pattern, scan_count(count))
        cast = score_cast_func
        if cast is float:
            return following, pairs
        if zset.wide:  # the server itself prints 17 digits here, and only here
            return following, cast_pairs(pairs, cast)
        return following, [(member, cast_score(score, cast, format_double(score))) for member, score in pairs]


def scan_zset(zset: ZSet, cursor: int, match: bytes | None, count: int) -> tuple[int, list[Pair]]:
    """The next cursor, and the pairs that match. A small set comes at once. O(count)."""
    scores = zset.scores
    if zset.wide:
        if zset.order is None:
            zset.order = ScanOrder(scores)
        following, members = zset.order.scan(cursor, count)
    else:
        following, members = 0, zset.ranked().range(0, len(scores))
    matches = None if match is None else compile_scan_glob(match)
    if matches is not None:
        members = list(filter(matches, members))
    return following, [(member, scores[member]) for member in members]


def _new_score(old: float | None, given: float, flags: int) -> float | None:
    """The score that a member gets, None where a flag forbids. Raises ResponseError for NaN."""
    if old is None:
        return None if flags & XX else given
    if flags & NX:
        return None
    score = given
    if flags & INCR:
        score += old
        if score != score:
            raise ResponseError(NAN_SCORE)
    if (flags & LT and score >= old) or (flags & GT and score <= old):
        return None
    return score


def _pop_count(count: Any) -> int:
    if count is None:
        return 1
    number = as_int(count, NOT_POSITIVE)
    if number < 0:
        raise ResponseError(NOT_POSITIVE)
    return number


def _counted_keys(numkeys: Any, keys: Sequence[KeyT]) -> list[bytes]:
    number = as_int(numkeys, "ERR numkeys should be greater than 0")
    if number < 1:
        raise err("numkeys should be greater than 0")
    if number != len(keys):
        raise ResponseError(SYNTAX)
    return [to_bytes(key) for key in keys]


def _printed(found: tuple[bytes, list[Pair]] | None) -> list[Any] | None:
    """What redis-py returns of ZMPOP."""
    if found is None:
        return None
    return [found[0], [[member, format_double17(score)] for member, score in found[1]]]
