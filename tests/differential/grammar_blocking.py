"""Blocking commands on six connections: who is woken, in which order, by what, and with which reply."""

from __future__ import annotations

from tests.differential.compare import unordered
from tests.differential.grammar import (
    BAD_INT,
    COUNT,
    KEY,
    NEW_KEY,
    SIDE,
    VALUE,
    Grammar,
    Rng,
    Step,
    command,
    counted,
    macro,
    one_of,
    opt,
    options,
    pick,
    seq,
    some,
    step,
)

# Blocks for good, until pushed to, unblocked, or killed; a short wait is a macro with its own pause.
_TIMEOUT = one_of(
    pick(0),
    pick(100, "100.5"),
    pick(-1, "x", "inf", "nan", "1e400", "0x10", ""),
    BAD_INT,
    weights=(82, 8, 6, 4),
)
_WAITERS = (0, 1, 2, 3, 4)
_WAKER = 5
_ELEMENTS = some(VALUE, 1, 3)
_SCORED = some(seq(pick(1, 2, 3), pick("m1", "m2", "m3", "m4")), 1, 3)
_LIST = pick("a", "b", "c")
_ZSET = pick("c", "d", "e")
_END = one_of("LEFT", "RIGHT")


def _times_out(rng: Rng) -> list[Step]:
    """A wait that ends by its own deadline."""
    on = rng.randrange(5)
    waits: list[tuple[str, ...]] = [
        ("BLPOP", "t1", "t2", "0.01"),
        ("BRPOP", "t1", "0.01"),
        ("BLMOVE", "t1", "t2", "LEFT", "LEFT", "0.01"),
        ("BRPOPLPUSH", "t1", "t2", "0.01"),
        ("BLMPOP", "0.01", "1", "t1", "LEFT"),
        ("BZPOPMIN", "t1", "0.01"),
        ("BZMPOP", "0.01", "1", "t1", "MIN"),
    ]
    return [step(*rng.choice(waits), on=on), step("@PAUSE", 120), step("PING", on=on)]


GRAMMAR = Grammar(
    "blocking",
    [
        command("BLPOP", some(_LIST, 1, 3), _TIMEOUT, weight=4, on=_WAITERS),
        command("BRPOP", some(_LIST, 1, 3), _TIMEOUT, weight=3, on=_WAITERS),
        command("BLMOVE", _LIST, _LIST, SIDE, SIDE, _TIMEOUT, weight=4, on=_WAITERS),
        command("BRPOPLPUSH", _LIST, _LIST, _TIMEOUT, weight=2, on=_WAITERS),
        command(
            "BLMPOP",
            _TIMEOUT,
            counted(_LIST, 1, 3),
            _END,
            options(seq("COUNT", COUNT)),
            weight=3,
            on=_WAITERS,
        ),
        command("BZPOPMIN", some(_ZSET, 1, 3), _TIMEOUT, weight=3, on=_WAITERS),
        command("BZPOPMAX", some(_ZSET, 1, 3), _TIMEOUT, weight=2, on=_WAITERS),
        command(
            "BZMPOP",
            _TIMEOUT,
            counted(_ZSET, 1, 3),
            one_of("MIN", "MAX"),
            options(seq("COUNT", COUNT)),
            weight=3,
            on=_WAITERS,
        ),
        command("BLPOP", KEY, _TIMEOUT, weight=0.5, on=_WAITERS),
        macro("TIMES_OUT", _times_out, weight=0.05),
        # what wakes them, mostly by a connection that never blocks
        command("LPUSH", _LIST, _ELEMENTS, weight=5, on=_WAKER),
        command("RPUSH", _LIST, _ELEMENTS, weight=5, on=_WAKER),
        command("RPUSHX", _LIST, _ELEMENTS, on=_WAKER),
        command("LINSERT", _LIST, one_of("BEFORE", "AFTER"), VALUE, VALUE, on=_WAKER),
        command("LMOVE", _LIST, _LIST, _END, _END, weight=2, on=_WAKER),
        command("ZADD", _ZSET, _SCORED, weight=5, on=_WAKER),
        command("ZUNIONSTORE", _ZSET, 2, _ZSET, _ZSET, on=_WAKER),
        command("ZINCRBY", _ZSET, 1, "m1", on=_WAKER),
        command("RENAME", KEY, NEW_KEY, weight=2, on=_WAKER),
        command("COPY", KEY, NEW_KEY, opt("REPLACE"), weight=2, on=_WAKER),
        command("MOVE", KEY, pick(0, 1), weight=1, on=_WAKER),
        command("SELECT", pick(0, 0, 1), weight=0.3),
        command("SWAPDB", 0, 1, weight=0.5, on=_WAKER),
        command("SET", NEW_KEY, VALUE, weight=1.5, on=_WAKER),
        command("DEL", some(NEW_KEY, 2, 5), weight=12, on=_WAKER),
        command("FLUSHALL", weight=0.1, on=_WAKER),
        command("MULTI", weight=2, on=_WAKER),
        command("EXEC", weight=3, on=_WAKER),
        command("MULTI", weight=0.5),
        command("EXEC", weight=1),
        command("@UNBLOCK", pick(0, 1, 2, 3, 4), opt(pick("TIMEOUT", "ERROR")), weight=2, on=_WAKER),
        command("@KILL", pick(0, 1, 2, 3, 4), weight=0.3, on=_WAKER),
        command("LRANGE", _LIST, 0, -1),
        command("ZRANGE", _ZSET, 0, -1),
        command("KEYS", "*", compare=unordered),
    ],
    connections=6,
    settle=True,
    databases=2,
    references=("valkey",),  # 7.2 runs a woken command again, and serves the woken in another order than 7.0
    common=(),
)
