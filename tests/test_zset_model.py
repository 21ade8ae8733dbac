"""Sorted sets against plain dicts: random operations on both, with blocks small enough to split and merge."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvstore.engine import ranks as ranks_module
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types import TYPES
from kvstore.engine.types import zset as zset_module
from kvstore.engine.types.zset import ZSet
from tests.laws import Recorder, digest, replay

INF = math.inf

MEMBERS = st.sampled_from([b"m%d" % n for n in range(25)])
SCORES = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, INF, -INF, 1e300, -0.0]), st.floats(allow_nan=False)
)
INDEX = st.integers(-30, 30)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("zadd"), st.dictionaries(MEMBERS, SCORES, min_size=1, max_size=6)),
        st.tuples(st.just("zrem"), st.lists(MEMBERS, min_size=1, max_size=4)),
        st.tuples(st.just("zpop"), st.booleans(), st.integers(1, 4)),
        st.tuples(st.just("zremrange"), INDEX, INDEX),
        st.tuples(st.just("by_rank"), INDEX, INDEX, st.booleans()),
        st.tuples(st.just("by_score"), SCORES, SCORES, st.booleans(), st.booleans(), st.integers(0, 4)),
        st.tuples(st.just("scan")),
    ),
    max_size=40,
)


class Model:
    """A database beside a dict: each operation is done to both and compared."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.scores: dict[bytes, float] = {}

    def order(self) -> list[tuple[bytes, float]]:
        return sorted(self.scores.items(), key=lambda pair: (pair[1], pair[0]))

    def zadd(self, mapping: dict[bytes, float]) -> None:
        assert self.db.zadd("z", mapping) == len(mapping.keys() - self.scores.keys())
        self.scores.update((member, float(score)) for member, score in mapping.items())

    def zrem(self, members: list[bytes]) -> None:
        gone = {member for member in members if self.scores.pop(member, None) is not None}
        assert self.db.zrem("z", *members) == len(gone)

    def zpop(self, highest: bool, count: int) -> None:
        expected = (self.order()[::-1] if highest else self.order())[:count]
        assert (self.db.zpopmax if highest else self.db.zpopmin)("z", count) == expected
        for member, _ in expected:
            del self.scores[member]

    def between(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        order = self.order()
        start = max(start + len(order), 0) if start < 0 else start
        stop = stop + len(order) if stop < 0 else stop
        return order[start : stop + 1] if stop >= 0 else []

    def zremrange(self, start: int, stop: int) -> None:
        gone = self.between(start, stop)
        assert self.db.zremrangebyrank("z", start, stop) == len(gone)
        for member, _ in gone:
            del self.scores[member]

    def by_rank(self, start: int, stop: int, reverse: bool) -> None:
        expected = self.between(start, stop)
        if reverse:
            start, stop = -1 - stop, -1 - start
            expected = expected[::-1] if -len(self.scores) <= min(start, stop) else self.reversed(start, stop)
        assert self.db.zrange("z", start, stop, desc=reverse, withscores=True) == expected

    def reversed(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        order = self.order()[::-1]
        start = max(start + len(order), 0) if start < 0 else start
        stop = stop + len(order) if stop < 0 else stop
        return order[start : stop + 1] if stop >= 0 else []

    def by_score(self, low: float, high: float, open_low: bool, open_high: bool, offset: int) -> None:
        expected = [
            member
            for member, score in self.order()
            if (low < score if open_low else low <= score) and (score < high if open_high else score <= high)
        ]
        ends: list[Any] = [f"({x!r}" if is_open else x for x, is_open in ((low, open_low), (high, open_high))]
        lowest, highest = ends
        assert self.db.zcount("z", lowest, highest) == len(expected)
        assert self.db.zrangebyscore("z", lowest, highest) == expected
        part = self.db.zrangebyscore("z", lowest, highest, offset, 3)
        assert part == expected[offset : offset + 3]
        part = self.db.zrevrangebyscore("z", highest, lowest, offset, 3)
        assert part == expected[::-1][offset : offset + 3]

    def scan(self) -> None:
        assert dict(self.db.zscan_iter("z", count=3)) == self.scores

    def check(self) -> None:
        self.db.check()
        assert self.db.zcard("z") == len(self.scores) == len(self.db.zrange("z", 0, -1))
        assert self.db.exists("z") == bool(self.scores)
        for rank, (member, score) in enumerate(self.order()):
            assert self.db.zrank("z", member, withscore=True) == [rank, score]


@pytest.fixture
def small_structures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "BLOCK_MAX", 6)
    monkeypatch.setattr(ranks_module, "BLOCK_MIN", 2)
    monkeypatch.setattr(ranks_module, "RUN", 2)
    monkeypatch.setattr(zset_module, "UNRANKED_MAX", 5)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, entries=st.sampled_from([0, 4, 128]))
def test_it_behaves_as_a_dict_that_is_sorted(
    small_structures: None, operations: list[tuple[Any, ...]], entries: int
) -> None:
    ctx = Context(Database, clock=ManualClock(), random=random.Random(1))
    ctx.limits.zset_max_listpack_entries = entries
    recorder = Recorder()
    ctx.listen(recorder)
    model = Model(ctx.database(0))
    for name, *args in operations:
        getattr(model, name)(*args)
        model.check()
    assert digest(replay(recorder.effects)) == digest(ctx)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.dictionaries(MEMBERS, st.floats(allow_nan=False), max_size=8), min_size=1, max_size=4),
    st.sampled_from(["sum", "min", "max"]),
)
def test_unions_and_intersections_are_those_of_dicts(
    inputs: list[dict[bytes, float]], aggregate: str
) -> None:
    db = Context(Database).database(0)
    keys = [f"k{n}" for n in range(len(inputs))]
    for key, scores in zip(keys, inputs, strict=True):
        if scores:
            db.zadd(key, scores)

    def combine(a: float, b: float) -> float:
        total = {"sum": a + b, "min": min(a, b), "max": max(a, b)}[aggregate]
        return 0.0 if math.isnan(total) else total

    found: dict[bytes, float] = {}
    for scores in sorted(inputs, key=len):
        for member, score in scores.items():
            found[member] = combine(found[member], score) if member in found else score
    common = set(inputs[0]).intersection(*inputs)
    assert dict(db.zunion(keys, aggregate, True)) == found
    assert dict(db.zinter(keys, aggregate, True)) == {member: found[member] for member in common}
    assert set(db.zdiff(keys)) == set(inputs[0]).difference(*inputs[1:])
    assert db.zintercard(len(keys), keys) == len(common)


def test_a_value_can_be_copied_and_written_as_commands() -> None:
    ctx = Context(Database)
    db = ctx.database(0)
    db.zadd("z", {f"m{n}": n / 3 for n in range(300)})
    value = db._data[b"z"]
    record = TYPES[ZSet]
    twin = record.copy(value)
    record.check(twin)
    assert record.digest(twin) == record.digest(value)
    assert digest(replay((0, effect) for effect in record.rewrite(b"z", value))) == digest(ctx)
    everything, sampled = record.memory(value, 0), record.memory(value, 5)
    assert abs(everything - sampled) < everything / 10
