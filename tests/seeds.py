"""Seeds of random tests, which say what they were."""

from __future__ import annotations

import random


def new_seed() -> int:
    """A seed that no run had before; printed, so that a failure can be replayed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return seed
