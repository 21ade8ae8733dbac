"""Scans meet whatever stays, random keys are uniform: ScanOrder itself, and the keyspace through it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvstore.commands.scan import parse_cursor, scan_options
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.order import ScanOrder
from kvstore.errors import ResponseError
from tests.laws import START_MS
from tests.scanning import check_guarantee, check_uniform, chi_square

elements = st.integers(0, 25).map(lambda n: b"%d" % n)


class OrderMachine(RuleBasedStateMachine):
    """A ScanOrder beside a set, with several scans under way at once."""

    @initialize(start=st.sets(elements))
    def make(self, start: set[bytes]) -> None:
        self.live = set(start)
        self.order = ScanOrder(sorted(start))
        # Of each scan under way: its cursor, what has been there all the time, what it has met.
        self.scans: list[tuple[int, set[bytes], set[bytes]]] = []

    @rule(element=elements)
    def toggle(self, element: bytes) -> None:
        if element in self.live:
            self.live.discard(element)
            self.order.removed(element)
            for _, stayed, _ in self.scans:
                stayed.discard(element)
        else:
            self.live.add(element)
            self.order.added(element)

    @rule(of=st.integers(0, 1 << 30))
    def draw(self, of: int) -> None:
        if self.live:
            assert self.order.draw(lambda n: of % n) in self.live

    @rule(count=st.integers(1, 9))
    def start_scan(self, count: int) -> None:
        cursor, page = self.order.scan(0, count)
        self._went_on(cursor, set(self.live), set(page))

    @rule(which=st.integers(0, 7), count=st.integers(1, 9))
    def go_on(self, which: int, count: int) -> None:
        if self.scans:
            cursor, stayed, met = self.scans.pop(which % len(self.scans))
            cursor, page = self.order.scan(cursor, count)
            assert set(page) <= self.live
            self._went_on(cursor, stayed, met | set(page))

    def _went_on(self, cursor: int, stayed: set[bytes], met: set[bytes]) -> None:
        if cursor:
            self.scans.append((cursor, stayed, met))
        else:
            assert stayed <= met

    @invariant()
    def sound(self) -> None:
        self.order.check(self.live)
        assert len(self.order) == len(self.live)


OrderMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestOrder = OrderMachine.TestCase


class KeyspaceSubject:
    """The keyspace, by SET, DEL, RANDOMKEY and SCAN; a part of the keys expires instead of being deleted."""

    def __init__(self, seed: int, expiring: bool) -> None:
        self.clock = ManualClock(START_MS)
        self.db = Context(Database, clock=self.clock, random=random.Random(seed)).database(0)
        self.expiring = expiring

    def add(self, element: bytes) -> None:
        self.db.append(element, "v")

    def remove(self, element: bytes) -> None:
        if self.expiring and element[-1] % 2:
            self.db.pexpire(element, 1)
            self.clock.advance(ms=1)
        else:
            self.db.delete(element)

    def draw(self) -> bytes | None:
        return self.db.randomkey()

    def scan(self, cursor: int, count: int) -> tuple[int, Iterable[bytes]]:
        return self.db.scan(cursor, count=count)

    def check(self) -> None:
        self.db.check()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.booleans())
def test_scan_meets_every_key_that_stays(seed: int, expiring: bool) -> None:
    check_guarantee(random.Random(seed), KeyspaceSubject(seed, expiring))


def test_scan_leaves_out_what_does_not_match() -> None:
    db = Context(Database).database(0)
    for n in range(100):
        db.append(f"k{n}", "v")
    assert set(db.scan_iter(match="k1*", count=7)) == {b"k1", *(b"k%d" % n for n in range(10, 20))}
    assert set(db.scan_iter(_type="list")) == set()
    assert len(set(db.scan_iter(_type="STRING"))) == 100


def test_dead_entries_do_not_pile_up() -> None:
    order = ScanOrder(b"%d" % n for n in range(10_000))
    for n in range(9_990):
        order.removed(b"%d" % n)
    assert len(order.entries) < 100
    for n in range(100_000, 200_000):
        order.added(b"%d" % n)
        order.removed(b"%d" % n)
    assert len(order.entries) < 100
    order.check({b"%d" % n for n in range(9_990, 10_000)})


class TestUniformity:
    def test_random_keys_after_churn(self) -> None:
        rng = random.Random(20)
        db = Context(Database, random=random.Random(21)).database(0)
        keys = [b"%d" % n for n in range(200)]
        db.randomkey()
        for key in keys:
            db.append(key, "v")
        for _ in range(2000):
            key = rng.choice(keys)
            if not db.delete(key):
                db.append(key, "v")
            if rng.random() < 0.1:
                db.randomkey()
        live = db.keys()
        counts = Counter(db.randomkey() or b"" for _ in range(40 * len(live)))
        check_uniform(counts, live)

    def test_the_check_itself_finds_a_skew(self) -> None:
        rng = random.Random(22)
        keys = [b"%d" % n for n in range(100)]
        counts = Counter(keys[min(rng.randrange(100), rng.randrange(110))] for _ in range(4000))
        found, limit = chi_square(counts, keys)
        assert found > limit


class TestCursors:
    def test_what_the_server_reads_as_a_cursor(self) -> None:
        assert [parse_cursor(raw) for raw in (b"0", b"17", b"+1", b"01", b" 5", b"\t5", b"-0")] == [
            0,
            17,
            1,
            1,
            5,
            5,
            0,
        ]
        assert parse_cursor(b"18446744073709551615") == (1 << 64) - 1
        assert parse_cursor(b"-01") == (1 << 64) - 1

    def test_what_it_refuses(self) -> None:
        for raw in (b"", b"x", b"-1", b"-%d" % (1 << 63), b"1 ", b"+-1", b"1.0", b"%d" % (1 << 64), b"0x1"):
            try:
                parse_cursor(raw)
            except ResponseError as error:
                assert str(error) == "ERR invalid cursor"
            else:
                raise AssertionError(raw)

    def test_a_cursor_from_nowhere_gives_a_page(self) -> None:
        db = Context(Database).database(0)
        db.append("a", "1")
        assert db.scan((1 << 63) - 1) == (0, [b"a"])

    def test_options_in_any_order_and_case(self) -> None:
        options = scan_options([b"count", b"7", b"Type", b"list", b"MATCH", b"a*"], 0, keyspace=True)
        assert (options.match, options.count, options.type) == (b"a*", 7, b"list")
