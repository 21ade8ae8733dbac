"""Ranges of sorted sets, by rank, by score and by member: reading, storing, counting, removing.

Every range becomes a pair of ranks (start, stop) first; what is done with it is the same for all.

Must not know: argv, replies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvstore.engine.context import Effect
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.ranks import Ranks
from kvstore.engine.types.zset import ZSet
from kvstore.engine.zset_bounds import low_member, low_score, past_high_member, past_high_score
from kvstore.errors import DataError, ResponseError
from kvstore.numbers import as_int, format_double17

# What the ends of a range are.
RANK: Final = 0
SCORE: Final = 1
LEX: Final = 2

LIMIT_WITH_RANK: Final = (
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
)

Pair = tuple[bytes, float]
Bounds = tuple[Any, Any]
# A range asked for: what the ends are, the ends (as ``parse_bounds`` gives them), reversed, offset, limit.
Span = tuple[int, Bounds, bool, int, int]


def parse_bounds(by: int, low: Any, high: Any) -> Bounds:
    """The ends as ``low <= x < high`` (by rank: as they are). Raises ResponseError where one is no bound."""
    if by == RANK:
        return as_int(low), as_int(high)
    if by == SCORE:
        return low_score(low), past_high_score(high)
    return low_member(low), past_high_member(high)


def find_span(zset: ZSet, span: Span) -> tuple[int, int]:
    """The ranks (start, stop) that a range means in this set; empty when start >= stop.

    O(log n); by member also O(n) for a small set of mixed scores.
    """
    by, (low, high), reverse, offset, limit = span
    count = len(zset.scores)
    if by == RANK:
        return _rank_span(count, low, high, reverse)
    ranks = zset.ranked()
    if by == SCORE:
        start = count if low is None else ranks.rank(low, b"")
        stop = count if high is None else ranks.rank(high, b"")
    else:
        if not zset.wide and len(set(ranks.bounds())) > 1:
            return _mixed_lex_span(ranks.range(0, count), span)
        start = count if low is None else ranks.lex_rank(low)
        stop = count if high is None else ranks.lex_rank(high)
    if offset:
        if offset < 0:
            return 0, 0
        if reverse:
            stop -= offset
        else:
            start += offset
    if 0 <= limit < stop - start:
        return (stop - limit, stop) if reverse else (start, start + limit)
    return start, stop


def _rank_span(count: int, low: int, high: int, reverse: bool) -> tuple[int, int]:
    if low < 0:
        low = max(low + count, 0)
    if high < 0:
        high += count
    high = min(high + 1, count)
    return (count - high, count - low) if reverse else (low, high)


def _mixed_lex_span(members: list[bytes], span: Span) -> tuple[int, int]:
    """A range by member where members do not ascend, which has no meaning: what a listpack answers.

    It goes to the first member that is past one end, gives up if that is past the other end too, skips
    the offset, and takes what is not past the other end.
    """
    _, (low, high), reverse, offset, limit = span
    count = len(members)
    if low is None or (high is not None and low >= high):
        return 0, 0
    enough = [member >= low for member in members]
    within = [high is None or member < high for member in members]
    if not enough[-1] or not within[0]:
        return 0, 0
    if reverse:
        enough, within = within[::-1], enough[::-1]
    first = enough.index(True) if True in enough else count
    if first == count or not within[first] or offset < 0:
        return 0, 0
    start = stop = first + offset
    most = count if limit < 0 else min(count, start + limit)
    while stop < most and within[stop]:
        stop += 1
    return (count - stop, count - start) if reverse else (start, stop)


def cast_pairs(pairs: list[Pair], cast: Callable[[Any], Any]) -> list[Any]:
    """The pairs with their scores as ``cast`` (redis-py's ``score_cast_func``) makes them."""
    return [(member, cast_score(score, cast)) for member, score in pairs]


def cast_score(score: float, cast: Callable[[Any], Any], raw: bytes | None = None) -> Any:
    """``cast`` of a printed score, as redis-py hands it on, or of the number where that fails."""
    try:
        return cast(format_double17(score) if raw is None else raw)
    except (ValueError, TypeError):
        return cast(score)


def _start_and_num(start: object, num: object) -> None:
    if (start is None) != (num is None):
        raise DataError("``start`` and ``num`` must both be specified")


class SortedSetRanges(Keyspace):
    """The commands on ranges of one sorted set."""

    __slots__ = ()

    # -- the four things done with a range -----------------------------------------------------------

    def _zrange(self, key: bytes, span: Span, withscores: bool) -> list[Any]:
        """The members, or the (member, score) pairs, of a range. O(log n + length)."""
        zset = self._read_as(key, ZSet)
        if zset is None:
            return []
        start, stop = find_span(zset, span)
        if start >= stop:
            return []
        ranks: Ranks = zset.ranked()
        found: list[Any] = ranks.range_with_scores(start, stop) if withscores else ranks.range(start, stop)
        if span[2]:
            found.reverse()
        return found

    def _zrangestore(self, dest: bytes, key: bytes, span: Span, effect: Effect) -> int:
        """Put a range into ``dest``; its length. O(log n + length log length)."""
        zset = self._read_as(key, ZSet)
        pairs: list[Pair] = []
        if zset is not None:
            start, stop = find_span(zset, span)
            pairs = zset.ranked().range_with_scores(start, stop)
        return self._zstore(dest, dict(pairs), effect, "zrangestore")

    def _zstore(self, dest: bytes, scores: dict[bytes, float], effect: Effect, event: str) -> int:
        """Make ``dest`` a sorted set of these members, or delete it when there are none; how many."""
        old = self._write(dest)
        if scores:
            self._overwrite(dest, ZSet.sized(scores, self.ctx.limits))
        elif old is None:
            return 0
        else:
            self._remove(dest)
            effect, event = (b"DEL", dest), "del"
        self.dirty += 1
        if self._live:
            self.commit(effect, (event, dest))
        return len(scores)

    def _zcount(self, key: bytes, span: Span) -> int:
        zset = self._read_as(key, ZSet)
        if zset is None:
            return 0
        start, stop = find_span(zset, span)
        return max(stop - start, 0)

    def _zremrange(self, key: bytes, span: Span, effect: Effect, event: str) -> int:
        """Remove a range; its length. O(log n + length)."""
        zset = self._write_as(key, ZSet)
        if zset is None:
            return 0
        start, stop = find_span(zset, span)
        if start >= stop:
            return 0
        gone = len(zset.cut(start, stop))
        emptied = self._drop_if_empty(key, zset)
        self.dirty += gone
        if self._live:
            if emptied:
                self.commit((b"DEL", key), (event, key), ("del", key))
            else:
                self.commit(effect, (event, key))
        return gone

    # -- reading -----------------------------------------------------------------------------------

    def zrange(
        self,
        name: KeyT,
        start: EncodableT,
        end: EncodableT,
        desc: bool = False,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
        byscore: bool = False,
        bylex: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> list[Any]:
        """The members from rank ``start`` to ``end``, both included; -1 is the last.

        ``desc``: from the highest score down. ``byscore``, ``bylex``: the ends are scores or members, as
        in ``zrangebyscore`` and ``zrangebylex`` (with ``desc`` the higher end comes first), and ``offset``
        and ``num`` choose a part of the range. ``withscores``: pairs (member, score).
        O(log n + length). Raises ResponseError where an end is malformed, WrongTypeError.
        """
        span = _span(start, end, desc, byscore, bylex, offset, num)
        if bylex and withscores:
            raise DataError("``withscores`` not supported in combination with ``bylex``.")
        found = self._zrange(to_bytes(name), span, withscores)
        if withscores and score_cast_func is not float:
            return cast_pairs(found, score_cast_func)
        return found

    def zrevrange(
        self,
        name: KeyT,
        start: int,
        end: int,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> list[Any]:
        """``zrange`` from the highest score down. O(log n + length)."""
        return self.zrange(name, start, end, True, withscores, score_cast_func)

    def zrangebyscore(
        self,
        name: KeyT,
        min: EncodableT,
        max: EncodableT,
        start: int | None = None,
        num: int | None = None,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> list[Any]:
        """The members whose scores lie between ``min`` and ``max``: numbers, ``"-inf"``, or ``"(5"``
        where 5 itself is left out. ``start`` and ``num`` choose a part of them.

        O(log n + length). Raises ResponseError where an end is malformed, WrongTypeError.
        """
        _start_and_num(start, num)
        return self.zrange(name, min, max, False, withscores, score_cast_func, True, False, start, num)

    def zrevrangebyscore(
        self,
        name: KeyT,
        max: EncodableT,
        min: EncodableT,
        start: int | None = None,
        num: int | None = None,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> list[Any]:
        """``zrangebyscore`` from the highest score down. O(log n + length)."""
        _start_and_num(start, num)
        return self.zrange(name, max, min, True, withscores, score_cast_func, True, False, start, num)

    def zrangebylex(
        self,
        name: KeyT,
        min: EncodableT,
        max: EncodableT,
        start: int | None = None,
        num: int | None = None,
    ) -> list[bytes]:
        """The members between ``min`` and ``max`` in the order of their bytes; all must have one score.

        An end is ``"[m"`` (m included), ``"(m"`` (left out), ``"-"`` or ``"+"``.
        O(log n + length). Raises ResponseError where an end is malformed, WrongTypeError.
        """
        _start_and_num(start, num)
        return self.zrange(name, min, max, bylex=True, offset=start, num=num)

    def zrevrangebylex(
        self,
        name: KeyT,
        max: EncodableT,
        min: EncodableT,
        start: int | None = None,
        num: int | None = None,
    ) -> list[bytes]:
        """``zrangebylex`` from the last member down. O(log n + length)."""
        _start_and_num(start, num)
        return self.zrange(name, max, min, True, bylex=True, offset=start, num=num)

    def zrangestore(
        self,
        dest: KeyT,
        name: KeyT,
        start: EncodableT,
        end: EncodableT,
        byscore: bool = False,
        bylex: bool = False,
        desc: bool = False,
        offset: int | None = None,
        num: int | None = None,
    ) -> int:
        """Make ``dest`` a sorted set of what ``zrange`` would answer; how many members it has.

        O(log n + length log length). Raises ResponseError where an end is malformed, WrongTypeError.
        """
        dest, name = to_bytes(dest), to_bytes(name)
        span = _span(start, end, desc, byscore, bylex, offset, num)
        effect = [b"ZRANGESTORE", dest, name, to_bytes(start), to_bytes(end)]
        effect += [
            word for word, given in ((b"BYSCORE", byscore), (b"BYLEX", bylex), (b"REV", desc)) if given
        ]
        if offset is not None:
            effect += [b"LIMIT", b"%d" % span[3], b"%d" % span[4]]
        return self._zrangestore(dest, name, span, tuple(effect))

    def zcount(self, name: KeyT, min: EncodableT, max: EncodableT) -> int:
        """How many members have scores between ``min`` and ``max`` (see ``zrangebyscore``). O(log n)."""
        span = SCORE, (low_score(min), past_high_score(max)), False, 0, -1
        return self._zcount(to_bytes(name), span)

    def zlexcount(self, name: KeyT, min: EncodableT, max: EncodableT) -> int:
        """How many members lie between ``min`` and ``max`` (see ``zrangebylex``). O(log n)."""
        span = LEX, (low_member(min), past_high_member(max)), False, 0, -1
        return self._zcount(to_bytes(name), span)

    # -- removing ----------------------------------------------------------------------------------

    def zremrangebyrank(self, name: KeyT, min: int, max: int) -> int:
        """Remove the members from rank ``min`` to ``max``, both included; how many. O(log n + length)."""
        return self._zremrangeby(RANK, "zremrangebyrank", name, min, max)

    def zremrangebyscore(self, name: KeyT, min: EncodableT, max: EncodableT) -> int:
        """Remove the members whose scores lie between ``min`` and ``max``; how many. O(log n + length)."""
        return self._zremrangeby(SCORE, "zremrangebyscore", name, min, max)

    def zremrangebylex(self, name: KeyT, min: EncodableT, max: EncodableT) -> int:
        """Remove the members that lie between ``min`` and ``max``; how many. O(log n + length)."""
        return self._zremrangeby(LEX, "zremrangebylex", name, min, max)

    def _zremrangeby(self, by: int, event: str, name: KeyT, low: EncodableT, high: EncodableT) -> int:
        span = by, parse_bounds(by, low, high), False, 0, -1
        key = to_bytes(name)
        effect = (event.upper().encode(), key, to_bytes(low), to_bytes(high)) if self._live else ()
        return self._zremrange(key, span, effect, event)


def _span(
    start: Any, end: Any, desc: bool, byscore: bool, bylex: bool, offset: int | None, num: int | None
) -> Span:
    """The range that redis-py's arguments ask for."""
    if byscore and bylex:
        raise DataError("``byscore`` and ``bylex`` can not be specified together.")
    if (offset is None) != (num is None):
        raise DataError("``offset`` and ``num`` must both be specified.")
    skip, limit = (0, -1) if offset is None else (as_int(offset), as_int(num))
    if not byscore and not bylex:
        if limit != -1:
            raise ResponseError(LIMIT_WITH_RANK)
        return RANK, (as_int(start), as_int(end)), desc, 0, -1
    if desc:
        start, end = end, start
    by = SCORE if byscore else LEX
    return by, parse_bounds(by, start, end), desc, skip, limit
