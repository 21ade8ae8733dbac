"""Sorted sets: a dict from member to score, and beside it the members in order.

Invariants
- ``ranks``, once made, has the members of ``scores``, with the same scores. A set of more than
  ``UNRANKED_MAX`` members always has it; a smaller one makes it when a command first asks for order,
  since most small ones are only added to and looked up.
- ``order``, once made, has one entry a member. Only ZSCAN of a large set needs it.
- ``wide`` is what the server's skiplist encoding is: it comes with a size, and then stays. While it is
  false no score is a negative zero, since a listpack holds whole scores as integers.

Costs: lookup O(1); add, change, remove O(log n); see ``kvstore.engine.ranks``. A member costs about 42
bytes in the dict, 32 for its score and 22 for its place.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import isnan

from kvstore.engine.codec import Reader, length_of, pieces_of, scored_of
from kvstore.engine.context import Effect, Limits
from kvstore.engine.order import ScanOrder
from kvstore.engine.packed import listpack, ziplist
from kvstore.engine.ranks import Ranks
from kvstore.engine.types import Target, ValueType, register
from kvstore.errors import FormatError
from kvstore.numbers import format_double, parse_floats

# Members up to which sorting on first need is cheaper than keeping order from the start.
UNRANKED_MAX = 128
# Members of one command when a set is written as commands, as the server's log rewrite has it.
_REWRITE_BATCH = 64
# The allocator gives out multiples of this many bytes.
_GRAIN = 16
_FLOAT_SIZE = 32
# Pointers to member and score in the ranks, and the slack of their blocks.
_PLACE_SIZE = 22


class ZSet:
    __slots__ = ("order", "ranks", "scores", "wide")

    def __init__(self, scores: dict[bytes, float] | None = None, wide: bool = False):
        self.scores: dict[bytes, float] = {} if scores is None else scores
        self.ranks: Ranks | None = Ranks(self.scores) if len(self.scores) > UNRANKED_MAX else None
        self.order: ScanOrder | None = None
        self.wide = wide

    @classmethod
    def sized(cls, scores: dict[bytes, float], limits: Limits, packed: bool = False) -> ZSet:
        """A set made in one go, with the encoding that its size calls for. O(n log n).

        ``packed``: it comes in a packed encoding, which the servers then keep however long its members are.
        """
        small = len(scores) <= limits.zset_max_listpack_entries and (
            packed or max(map(len, scores), default=0) <= limits.zset_max_listpack_value
        )
        if small and 0.0 in scores.values():  # or -0.0, which a listpack does not have
            scores.update([(member, 0.0) for member, score in scores.items() if not score])
        return cls(scores, not small)

    def __len__(self) -> int:
        return len(self.scores)

    def ranked(self) -> Ranks:
        """The members in order, sorted now if this is the first need."""
        ranks = self.ranks
        if ranks is None:
            ranks = self.ranks = Ranks(self.scores)
        return ranks

    def add(self, member: bytes, score: float) -> None:
        """Take in a new member. O(log n)."""
        scores = self.scores
        scores[member] = score
        if self.ranks is not None:
            self.ranks.add(score, member)
        elif len(scores) > UNRANKED_MAX:
            self.ranks = Ranks(scores)
        if self.order is not None:
            self.order.added(member)

    def change(self, member: bytes, old: float, score: float) -> None:
        """Give a member, which has the score ``old``, another one. O(log n)."""
        self.scores[member] = score
        if self.ranks is not None:
            self.ranks.move(old, score, member)

    def discard(self, member: bytes) -> bool:
        """Drop a member; False if it is not there. O(log n)."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        if self.ranks is not None:
            self.ranks.remove(score, member)
        if self.order is not None:
            self.order.removed(member)
        return True

    def pop(self, highest: bool) -> tuple[bytes, float]:
        """Remove and return the member at one end, and its score; there is one. O(log n)."""
        entry = (self.ranks or self.ranked()).pop(highest)
        del self.scores[entry[0]]
        if self.order is not None:
            self.order.removed(entry[0])
        return entry

    def cut(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        """Remove the members of a range of ranks, which is not empty; them, in order. O(log n + length)."""
        members, gone_scores = self.ranked().cut(start, stop)
        scores, order = self.scores, self.order
        for member in members:
            del scores[member]
        if order is not None:
            for member in members:
                order.removed(member)
        return list(zip(members, gone_scores, strict=True))


def _copy(value: ZSet) -> ZSet:
    twin = ZSet(None, value.wide)
    twin.scores = value.scores.copy()
    twin.ranks = None if value.ranks is None else value.ranks.copy()
    return twin


def _memory(value: ZSet, samples: int) -> int:
    scores = value.scores
    count = len(scores)
    taken = count if samples == 0 else min(samples, count)
    members = sum(-(-sys.getsizeof(member) // _GRAIN) * _GRAIN for member in islice(scores, taken))
    size = sys.getsizeof(value) + sys.getsizeof(scores) + count * _FLOAT_SIZE
    if taken:
        size += members * count // taken
    if value.ranks is not None:
        size += 200 + count * _PLACE_SIZE
    if value.order is not None:
        size += 100 + count * 8
    return size


def _rewrite(key: bytes, value: ZSet) -> Iterator[Effect]:
    pairs = iter(value.scores.items())
    while batch := list(islice(pairs, _REWRITE_BATCH)):
        words = [b"ZADD", key]
        for member, score in batch:
            words += (format_double(score), member)
        yield tuple(words)


def _check(value: ZSet) -> None:
    assert all(type(member) is bytes for member in value.scores)
    # A score is a float, and no NaN.
    assert all(type(score) is float and score == score for score in value.scores.values())
    # A large set has its order.
    assert value.ranks is not None or len(value.scores) <= UNRANKED_MAX
    if value.ranks is not None:
        value.ranks.check(value.scores)
    if value.order is not None:
        value.order.check(set(value.scores))
    # A listpack cannot hold a negative zero.
    assert value.wide or all(score or str(score) == "0.0" for score in value.scores.values())


def _dump(value: ZSet, target: Target, compress: bool = False) -> Iterable[bytes]:
    return pieces_of(length_of(len(value.scores)), value.scores.items(), scored_of, compress)


def _load_with(score_of: Callable[[Reader], float], size: int) -> Callable[[Reader, Limits], ZSet]:
    """The loader of members each followed by a score of at least ``size`` bytes."""

    def load(reader: Reader, limits: Limits) -> ZSet:
        start = reader.pos
        count = reader.count(1 + size)
        string = reader.string
        return _made_of({string(): score_of(reader) for _ in range(count)}, count, limits, start)

    return load


def _load_packed(unpack: Callable[[bytes], list[bytes]]) -> Callable[[Reader, Limits], ZSet]:
    """The loader of members and scores in turn."""

    def load(reader: Reader, limits: Limits) -> ZSet:
        start = reader.pos
        words = reader.packed(unpack)
        scores = parse_floats(words[1::2])
        if len(words) % 2 or None in scores:
            raise FormatError("a member has no score", start)
        pairs = zip(words[::2], scores, strict=True)
        made = {member: score for member, score in pairs if score is not None}
        return _made_of(made, len(scores), limits, start, packed=True)

    return load


def _made_of(
    scores: dict[bytes, float], count: int, limits: Limits, start: int, packed: bool = False
) -> ZSet:
    """The set of ``count`` members that were read from ``start`` on. Raises FormatError."""
    if len(scores) != count:
        raise FormatError("a member comes twice", start)
    if any(map(isnan, scores.values())):
        raise FormatError("a score is not a number", start)
    return ZSet.sized(scores, limits, packed)


register(
    ZSet,
    ValueType(
        name="zset",
        copy=_copy,
        encoding=lambda value, limits: "skiplist" if value.wide else "listpack",
        memory=_memory,
        rewrite=_rewrite,
        digest=lambda value: frozenset(value.scores.items()),
        effort=lambda value: len(value.scores) if value.wide else 1,
        check=_check,
        rdb_type=lambda value, target: 5,
        dump=_dump,
        loaders={
            3: _load_with(Reader.ascii_double, 1),
            5: _load_with(Reader.double, 8),
            12: _load_packed(ziplist),
            17: _load_packed(listpack),
        },
    ),
)
