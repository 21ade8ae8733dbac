"""Random elements of a hash, a set or a sorted set: what a count asks for, and the draws.

Small containers are listed for a draw; large ones draw from their scan order, O(1) an element.

Must not know: keys, databases, commands.
"""

from __future__ import annotations

from typing import Any

from kvstore.engine.context import Context
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.set import Set
from kvstore.engine.words import symmetric
from kvstore.errors import OUT_OF_RANGE, ResponseError
from kvstore.numbers import INT64_MAX

# Up to this size a draw lists the elements instead of keeping an order of them.
_FEW = 128
# Independent draws of one call. The server has no such limit: it goes on until its reply fills the client's
# output buffer, or the memory.
MOST_DRAWS = 1 << 24


def draw_count(word: Any, in_pairs: bool = False) -> int:
    """The count of a draw, of elements with what belongs to them if ``in_pairs``. Raises ResponseError."""
    count = symmetric(word)
    if in_pairs and abs(count) > INT64_MAX // 2:
        raise ResponseError(OUT_OF_RANGE)
    return count


def check_draws(count: int) -> None:
    """Refuse to draw ``-count`` times where that would fill the memory. Raises ResponseError."""
    if count < -MOST_DRAWS:
        raise ResponseError(OUT_OF_RANGE)


def draw_one(found: Hash | Set, ctx: Context) -> bytes:
    """A random element."""
    if len(found) <= _FEW and found.order is None:
        return ctx.random.choice(list(found))
    return found.scan_order().draw(ctx.randbelow)


def draw_several(found: Hash | Set, count: int, ctx: Context) -> list[bytes]:
    """``count`` different random elements, fewer than there are, or ``-count`` independent draws.

    Raises ResponseError for too many draws.
    """
    size = len(found)
    if count < 0:
        check_draws(count)
        if size <= _FEW:
            return ctx.random.choices(list(found), k=-count)
        draw, below = found.scan_order().draw, ctx.randbelow
        return [draw(below) for _ in range(-count)]
    if size <= _FEW or count > size // 3:
        return ctx.random.sample(list(found), count)
    draw, below = found.scan_order().draw, ctx.randbelow
    drawn: dict[bytes, None] = {}
    while len(drawn) < count:
        drawn[draw(below)] = None
    return list(drawn)
