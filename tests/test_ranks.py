"""The order of a sorted set's members, against a sorted list, with blocks small enough to split and merge."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine import ranks as ranks_module
from kvstore.engine.ranks import Ranks
from tests.seeds import new_seed

SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False), st.sampled_from([0.0, -0.0]))
MEMBERS = st.one_of(st.binary(max_size=2), st.integers(0, 60).map(lambda n: b"m%d" % n))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks_module, "BLOCK_MAX", 8)
    monkeypatch.setattr(ranks_module, "BLOCK_MIN", 3)
    monkeypatch.setattr(ranks_module, "RUN", 2)


class Model:
    """Ranks beside a dict; every answer is compared with a sort."""

    def __init__(self, scores: dict[bytes, float]) -> None:
        self.scores = dict(scores)
        self.ranks = Ranks(self.scores)

    def put(self, member: bytes, score: float) -> None:
        old = self.scores.get(member)
        self.scores[member] = score
        if old is None:
            self.ranks.add(score, member)
        elif old != score:
            self.ranks.move(old, score, member)

    def drop(self, member: bytes) -> None:
        if member in self.scores:
            self.ranks.remove(self.scores.pop(member), member)

    def pop(self, last: bool) -> None:
        if self.scores:
            score, member = self.order()[-1 if last else 0]
            assert self.ranks.pop(last) == (member, score)
            del self.scores[member]

    def cut(self, start: int, stop: int) -> None:
        order = self.order()
        start, stop = sorted((start % (len(order) + 1), stop % (len(order) + 1)))
        if start < stop:
            members, scores = self.ranks.cut(start, stop)
            assert list(zip(scores, members, strict=True)) == order[start:stop]
            for member in members:
                del self.scores[member]

    def order(self) -> list[tuple[float, bytes]]:
        return sorted((score, member) for member, score in self.scores.items())

    def check(self, rng: random.Random) -> None:
        self.ranks.check(self.scores)
        order = self.order()
        size = len(order)
        assert list(self.ranks) == [member for _, member in order]
        for _ in range(4):
            start, stop = sorted((rng.randrange(size + 1), rng.randrange(size + 1)))
            assert self.ranks.range(start, stop) == [member for _, member in order[start:stop]]
            pairs = [(member, score) for score, member in order[start:stop]]
            assert self.ranks.range_with_scores(start, stop) == pairs
            score, member = (
                rng.choice(order) if order and rng.random() < 0.7 else (float(rng.randrange(-4, 5)), b"m")
            )
            assert self.ranks.rank(score, member) == bisect_left(order, (score, member))
            assert self.ranks.rank(score, b"") == bisect_left(order, (score, b""))
            if order:
                at = rng.randrange(size)
                assert self.ranks.at(at) == order[at][1]
        if order:
            assert self.ranks.bounds() == (order[0][0], order[-1][0])
        assert list(self.ranks.copy()) == list(self.ranks)


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), MEMBERS, SCORES),
        st.tuples(st.just("drop"), MEMBERS),
        st.tuples(st.just("pop"), st.booleans()),
        st.tuples(st.just("cut"), st.integers(0, 200), st.integers(0, 200)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(MEMBERS, SCORES, max_size=70), CHANGES, st.integers(0, 1 << 32))
def test_it_answers_as_a_sorted_list_does(
    start: dict[bytes, float], changes: list[tuple[Any, ...]], seed: int
) -> None:
    rng = random.Random(seed)
    model = Model(start)
    model.check(rng)
    for name, *args in changes:
        getattr(model, name)(*args)
        model.check(rng)


def test_long_random_lives_of_many_blocks(heavy: bool) -> None:
    rng = random.Random(new_seed())
    for _ in range(20 if heavy else 3):
        model = Model({})
        growth = rng.uniform(0.3, 0.8)
        for _ in range(400):
            member = b"m%d" % rng.randrange(200)
            if rng.random() < growth:
                model.put(member, float(rng.randrange(rng.choice((1, 10, 1000)))))
            elif rng.random() < 0.9:
                model.drop(member)
            else:
                at = rng.randrange(200)
                model.cut(at, at + rng.randrange(1, 40))
            if rng.random() < 0.2:
                model.check(rng)
        model.check(rng)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.binary(max_size=3), min_size=1, max_size=60), st.binary(max_size=3))
def test_ranks_by_member_where_all_scores_are_one(members: set[bytes], member: bytes) -> None:
    ranks = Ranks(dict.fromkeys(members, 5.0))
    assert ranks.lex_rank(member) == bisect_left(sorted(members), member)


def test_ascending_and_descending_input() -> None:
    for numbers in (range(100), range(100, 0, -1)):
        model = Model({})
        for number in numbers:
            model.put(b"%d" % number, float(number))
        model.check(random.Random(1))
        while model.scores:
            model.cut(0, 1)
        model.check(random.Random(1))
