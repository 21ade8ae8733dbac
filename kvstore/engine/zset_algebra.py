"""Unions, intersections and differences of sorted sets. Plain sets take part, with the score 1 a member.

Scores of a member that is in several sets are combined in the order of the sets' sizes, smallest first,
as the server does: floating sums depend on the order.

Must not know: argv, replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from kvstore.engine.context import Effect
from kvstore.engine.keyspace import EncodableT, KeyT, to_bytes
from kvstore.engine.types.set import Set
from kvstore.engine.types.zset import ZSet
from kvstore.engine.zset_ranges import Pair, SortedSetRanges, cast_pairs
from kvstore.errors import SYNTAX, DataError, ResponseError, WrongTypeError, err
from kvstore.numbers import as_float, as_int, format_double, format_double17

WEIGHT_NOT_FLOAT: Final = "ERR weight value is not a float"

Scores = dict[bytes, float]
Combine = Callable[[float, float], float]


def _sum(a: float, b: float) -> float:
    total = a + b
    return total if total == total else 0.0  # inf - inf counts as 0


# Written so that a NaN (a weight of infinity on a score of 0) is what loses.
def _min(a: float, b: float) -> float:
    return b if b < a else a


def _max(a: float, b: float) -> float:
    return b if b > a else a


AGGREGATES: Final[dict[bytes, Combine]] = {b"SUM": _sum, b"MIN": _min, b"MAX": _max}


class Input:
    """One of the sets that a command combines."""

    __slots__ = ("members", "scores", "weight")

    def __init__(self, value: Any):
        self.scores: Scores | None = value.scores if type(value) is ZSet else None
        # What to iterate over and to ask for members.
        self.members: Any = value if self.scores is None else self.scores
        self.weight = 1.0

    def weighted(self, members: Iterable[bytes]) -> Iterable[float]:
        """The scores of these members, which must be there, times the weight."""
        weight, scores = self.weight, self.scores
        if scores is None:
            return [weight for _ in members]
        if weight == 1.0:
            return map(scores.__getitem__, members)
        return [scores[member] * weight for member in members]


def union(inputs: list[Input], combine: Combine) -> Scores:
    """Every member of any input. O(total size)."""
    found: Scores = {}
    for each in sorted(inputs, key=_size):
        if not found and each.weight == 1.0 and each.scores is not None:
            found = each.scores.copy()
            continue
        get = found.get
        for member, score in zip(each.members, each.weighted(each.members), strict=True):
            if score != score:
                score = 0.0
            old = get(member)
            found[member] = score if old is None else combine(old, score)
    return found


def intersection(inputs: list[Input], combine: Combine) -> Scores:
    """The members that are in all inputs. O(size of the smallest input * number of inputs)."""
    first, *others = sorted(inputs, key=_size)
    members = list(first.members)
    for each in others:
        container = each.members
        members = [member for member in members if member in container]
    scores = [score if score == score else 0.0 for score in first.weighted(members)]
    for each in others:
        scores = list(map(combine, scores, each.weighted(members)))
    return dict(zip(members, scores, strict=True))


def difference(inputs: list[Input]) -> Scores:
    """The members of the first input that are in no other. O(size of the first * number of inputs)."""
    first, *others = inputs
    members = list(first.members)
    for each in others:
        container = each.members
        members = [member for member in members if member not in container]
    return dict(zip(members, first.weighted(members), strict=True))


def _size(each: Input) -> int:
    return len(each.members)


def in_order(scores: Scores) -> list[bytes]:
    """The members of a result by score, then by their bytes. O(n log n)."""
    members = sorted(scores)
    members.sort(key=scores.__getitem__)
    return members


def pairs_in_order(scores: Scores) -> list[Pair]:
    """The (member, score) pairs of a result, in order."""
    return [(member, scores[member]) for member in in_order(scores)]


def no_input_key(command: str) -> ResponseError:
    return err(f"at least 1 input key is needed for '{command}' command")


class SortedSetAlgebra(SortedSetRanges):
    """The commands on several sorted sets."""

    __slots__ = ()

    def _zinputs(self, keys: Iterable[bytes]) -> list[Input]:
        """The sets at the keys, missing ones empty. Raises WrongTypeError."""
        inputs = []
        for key in keys:
            value = self._unpacked(key, self._read(key))
            if value is None:
                value = frozenset()
            elif type(value) is not ZSet and type(value) is not Set:
                raise WrongTypeError
            inputs.append(Input(value))
        return inputs

    def _zcombine(
        self,
        command: str,
        keys: Sequence[KeyT] | Mapping[Any, float],
        aggregate: str | None = None,
        more_words: bool = False,
        dest: bytes = b"",
    ) -> tuple[Scores, Effect]:
        """What the typed methods share: from redis-py's arguments to the result and the command itself."""
        weights = list(keys.values()) if isinstance(keys, dict) else None
        names = [to_bytes(key) for key in keys]
        if aggregate and aggregate.upper() not in ("SUM", "MIN", "MAX", "COUNT"):
            raise DataError("aggregate can be sum, min, max or count.")
        how = to_bytes(aggregate).upper() if aggregate else b"SUM"
        if not names:
            if aggregate or more_words:
                raise no_input_key(command)
            raise err(f"wrong number of arguments for '{command}' command")
        inputs = self._zinputs(names)
        if weights is not None:
            for each, weight in zip(inputs, weights, strict=True):
                each.weight = as_weight(weight)
        combine = AGGREGATES.get(how)
        if combine is None:
            raise ResponseError(SYNTAX)  # COUNT is newer than the version whose behaviour is kept
        if command.startswith("zdiff"):
            scores = difference(inputs)
        else:
            scores = (union if command.startswith("zunion") else intersection)(inputs, combine)
        return scores, algebra_effect(command, dest, names, inputs, how)

    def _zcombined(self, scores: Scores, withscores: bool, cast: Callable[[Any], Any] = float) -> list[Any]:
        if not withscores:
            return in_order(scores)
        pairs = pairs_in_order(scores)
        return pairs if cast is float else cast_pairs(pairs, cast)

    def _zcombine_into(
        self,
        dest: KeyT,
        command: str,
        keys: Sequence[KeyT] | Mapping[Any, float],
        aggregate: str | None = None,
    ) -> int:
        target = to_bytes(dest)
        scores, effect = self._zcombine(command, keys, aggregate, dest=target)
        return self._zstore(target, scores, effect, command)

    def zunion(
        self,
        keys: Sequence[KeyT] | Mapping[Any, float],
        aggregate: str | None = None,
        withscores: bool = False,
        score_cast_func: Callable[[Any], Any] = float,
    ) -> list[Any]:
        """The members of any of the sets, in order; their scores, times the weight where ``keys`` is a
        dict, are combined by ``aggregate``: sum (the default), min or max.

        O(total size + n log n). Raises WrongTypeError where a key holds neither a sorted set nor a set.
        """
        scores, _ = self._zcombine("zunion", keys, aggregate, withscores)
        return self._zcombined(scores, withscores, score_cast_func)

    def zinter(
        self, keys: Sequence[KeyT], aggregate: str | None = None, withscores: bool = False
    ) -> list[Any]:
        """As ``zunion`` for the members that are in all sets. O(smallest * number of keys + n log n)."""
        scores, _ = self._zcombine("zinter", keys, aggregate, withscores)
        return self._zcombined(scores, withscores)

    def zdiff(self, keys: Sequence[KeyT], withscores: bool = False) -> list[bytes]:
        """The members of the first set that are in no other, in order.

        With scores: a flat list of members and scores, printed with 17 digits as redis-py prints them.
        O(size of the first * number of keys).
        Raises WrongTypeError.
        """
        scores, _ = self._zcombine("zdiff", list(keys), None, withscores)
        if not withscores:
            return in_order(scores)
        return [word for member in in_order(scores) for word in (member, format_double17(scores[member]))]

    def zunionstore(
        self, dest: KeyT, keys: Sequence[KeyT] | Mapping[Any, float], aggregate: str | None = None
    ) -> int:
        """Make ``dest`` what ``zunion`` answers, or delete it; how many members it has."""
        return self._zcombine_into(dest, "zunionstore", keys, aggregate)

    def zinterstore(
        self, dest: KeyT, keys: Sequence[KeyT] | Mapping[Any, float], aggregate: str | None = None
    ) -> int:
        """Make ``dest`` what ``zinter`` answers, or delete it; how many members it has."""
        return self._zcombine_into(dest, "zinterstore", keys, aggregate)

    def zdiffstore(self, dest: KeyT, keys: Sequence[KeyT]) -> int:
        """Make ``dest`` what ``zdiff`` answers, or delete it; how many members it has."""
        return self._zcombine_into(dest, "zdiffstore", list(keys))

    def zintercard(self, numkeys: int, keys: Sequence[KeyT], limit: int = 0) -> int:
        """How many members are in all of the sets; counting stops at ``limit``, unless that is 0.

        O(size of the smallest * number of keys). Raises WrongTypeError, ResponseError.
        """
        names = [to_bytes(key) for key in keys]
        number = as_int(numkeys)
        if number < 1:
            raise no_input_key("zintercard")
        if number != len(names):
            raise ResponseError(SYNTAX)
        inputs = self._zinputs(names)
        most = as_int(limit)
        if most < 0:
            raise err("LIMIT can't be negative")
        return count_common(inputs, most)


def count_common(inputs: list[Input], limit: int) -> int:
    """How many members are in all inputs, at most ``limit`` (0: no limit)."""
    first, *others = sorted(inputs, key=_size)
    containers = [each.members for each in others]
    count = 0
    for member in first.members:
        for container in containers:
            if member not in container:
                break
        else:
            count += 1
            if count == limit:
                break
    return count


def as_weight(weight: EncodableT) -> float:
    return as_float(weight if type(weight) in (int, float) else to_bytes(weight), WEIGHT_NOT_FLOAT)


def algebra_effect(
    command: str, dest: bytes, keys: Sequence[bytes], inputs: Sequence[Input], aggregate: bytes
) -> Effect:
    """The command itself, which is deterministic, with its options spelled out."""
    words = [command.upper().encode(), dest, b"%d" % len(keys), *keys]
    if any(each.weight != 1.0 for each in inputs):
        words += (b"WEIGHTS", *(format_double(each.weight) for each in inputs))
    if aggregate != b"SUM":
        words += (b"AGGREGATE", aggregate)
    return tuple(words)
