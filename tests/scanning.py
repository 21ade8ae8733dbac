"""What every scan and every random draw promises, as checks that any container's tests can use.

``check_guarantee(rng, subject)`` runs a scan while elements come and go; ``check_uniform(counts)`` tells
whether draws were uniform. A subject is whatever has the five methods of ``Scannable``.

Must not know: what is scanned.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from typing import Protocol


class Scannable(Protocol):
    """Something with elements, by its commands."""

    def add(self, element: bytes) -> None:
        """Put in an element that is not there."""

    def remove(self, element: bytes) -> None:
        """Take out an element that is there."""

    def draw(self) -> bytes | None:
        """Any element, which stays, or None when there is none; pass when it cannot."""

    def scan(self, cursor: int, count: int) -> tuple[int, Iterable[bytes]]:
        """A page, and the next cursor."""

    def check(self) -> None:
        """Assert the invariants."""


def check_guarantee(rng: random.Random, subject: Scannable, pool: int = 60, most_pages: int = 10_000) -> None:
    """Fill the (empty) subject, scan it while elements come, go, come back and are drawn.

    What was there all the time must be met, what was never there must not, and the scan must end.
    """
    elements = [b"e%d" % n for n in range(pool)]
    inside = set(rng.sample(elements, rng.randrange(pool)))
    for element in inside:
        subject.add(element)
    for _ in range(rng.randrange(2 * pool)):  # what a life before the scan leaves behind
        _change(rng, subject, elements, inside)
    stayed, ever, met = set(inside), set(inside), set()
    busy = rng.random() * 6
    cursor = 0
    for _ in range(most_pages):
        cursor, page = subject.scan(cursor, rng.randrange(1, 8))
        met |= set(page)
        if cursor == 0:
            break
        for _ in range(int(rng.expovariate(1 / busy)) if busy > 0.5 else 0):
            _change(rng, subject, elements, inside)
            stayed &= inside
            ever |= inside
        subject.check()
    else:
        raise AssertionError("the scan does not end")
    assert stayed <= met, f"never met: {sorted(stayed - met)}"
    assert met <= ever, f"never there: {sorted(met - ever)}"


def _change(rng: random.Random, subject: Scannable, elements: list[bytes], inside: set[bytes]) -> None:
    """One element comes or goes, or one is drawn."""
    luck = rng.random()
    if luck < 0.2:
        drawn = subject.draw()
        assert drawn is None or drawn in inside
        return
    element = rng.choice(elements)
    if element in inside:
        inside.discard(element)
        subject.remove(element)
    elif luck < 0.7:
        inside.add(element)
        subject.add(element)


def chi_square(counts: Mapping[bytes, int], elements: Iterable[bytes]) -> tuple[float, float]:
    """How far the counts of draws are from uniform, and the value that chance exceeds once in 10**6 times."""
    all_elements = list(elements)
    freedom = len(all_elements) - 1
    expected = sum(counts.values()) / len(all_elements)
    found = sum((counts.get(element, 0) - expected) ** 2 / expected for element in all_elements)
    # Wilson and Hilferty's approximation of the quantile; 4.75 is the normal distribution's.
    ninth = 2 / (9 * freedom)
    return found, freedom * (1 - ninth + 4.75 * math.sqrt(ninth)) ** 3


def check_uniform(counts: Mapping[bytes, int], elements: Iterable[bytes]) -> None:
    """Each element has been drawn about equally often; give at least ten draws an element."""
    all_elements = set(elements)
    assert counts.keys() <= all_elements
    found, limit = chi_square(counts, all_elements)
    assert found < limit, f"chi-square {found:.1f}, more than {limit:.1f}"
