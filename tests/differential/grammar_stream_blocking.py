"""Blocking reads of streams on six connections: who is woken, by what, and with which reply or error."""

from __future__ import annotations

from tests.differential.compare import unordered
from tests.differential.grammar import (
    BAD_INT,
    KEY,
    NEW_KEY,
    VALUE,
    Avoid,
    Grammar,
    Rng,
    Step,
    command,
    macro,
    one_of,
    opt,
    options,
    pick,
    seq,
    some,
    step,
)
from tests.differential.grammar_streams import about

# For good, until something comes; or a word that is no time.
_BLOCK = seq("BLOCK", one_of(pick(0), pick(-1, "x", "1.5"), BAD_INT, weights=(96, 2, 2)))
_WAITERS = (0, 1, 2, 3, 4)
_WAKER = 5
_STREAM = pick("a", "b", "c")
_GROUP = pick("g", "g", "h")
_CONSUMER = pick("c", "d")


def _add(rng: Rng) -> list[bytes]:
    """The key and the ID of an entry behind most others."""
    return [rng.choice((b"a", b"b", b"c")), b"%d-*" % rng.randrange(1, 30)]


def _one_or_two(*ids: str) -> object:
    def words(rng: Rng) -> list[bytes]:
        keys = rng.sample((b"a", b"b", b"c"), rng.choice((1, 1, 2)))
        return [b"STREAMS", *keys, *(rng.choice(ids).encode() for _ in keys)]

    return words


def _times_out(rng: Rng) -> list[Step]:
    on = rng.randrange(5)
    return [
        step("XGROUP", "CREATE", "t1", "g", "$", "MKSTREAM", on=_WAKER),
        step(*rng.choice((
            ("XREAD", "BLOCK", "10", "STREAMS", "t1", "$"),
            ("XREADGROUP", "GROUP", "g", "c", "BLOCK", "10", "STREAMS", "t1", ">"),
        )), on=on),
        step("@PAUSE", 120),
        step("PING", on=on),
    ]  # fmt: skip


def _is_short(argv: tuple[bytes, ...]) -> bool:
    """Whether a word was broken so that the wait is of a millisecond."""
    upper = [word.upper() for word in argv]
    return b"BLOCK" in upper[:-1] and upper[upper.index(b"BLOCK") + 1] == b"1"


GRAMMAR = Grammar(
    "stream_blocking",
    [
        command(
            "XREAD", opt("COUNT", pick(1, 2)), _BLOCK, _one_or_two("$", "$", "0", "15"), weight=5, on=_WAITERS
        ),  # type: ignore[arg-type]
        command(
            "XREADGROUP GROUP",
            _GROUP,
            _CONSUMER,
            options(seq("COUNT", pick(1, 2)), "NOACK"),
            _BLOCK,
            _one_or_two(">", ">", ">", ">", "0"),  # type: ignore[arg-type]
            weight=9,
            on=_WAITERS,
        ),
        macro("TIMES_OUT", _times_out, weight=0.05),
        # what wakes them, mostly by a connection that never blocks
        command("XADD", _add, some(seq("f", VALUE), 1, 2), weight=7, on=_WAKER),
        command(
            "XADD", _STREAM, "MAXLEN", pick(0, 1, 2), pick("20-*", "29-*"), "f", "v", weight=1, on=_WAKER
        ),
        command("XDEL", _STREAM, pick("1-0", "5-0", "20-0"), on=_WAKER),
        command("XTRIM", _STREAM, "MAXLEN", pick(0, 1), on=_WAKER),
        command("XSETID", _STREAM, pick("30-0", "40-0"), weight=0.3, on=_WAKER),
        command("XGROUP CREATE", _STREAM, _GROUP, pick("$", "$", "0"), "MKSTREAM", weight=7, on=_WAKER),
        command("XGROUP SETID", _STREAM, _GROUP, pick("$", "0", "10"), weight=1, on=_WAKER),
        command("XGROUP DESTROY", _STREAM, _GROUP, weight=1.5, on=_WAKER),
        command("XGROUP DELCONSUMER", _STREAM, _GROUP, _CONSUMER, weight=0.5, on=_WAKER),
        command("XACK", _STREAM, _GROUP, pick("1-0", "20-0"), on=_WAKER),
        command("RENAME", KEY, NEW_KEY, weight=2, on=_WAKER),
        command("COPY", KEY, NEW_KEY, opt("REPLACE"), weight=1.5, on=_WAKER),
        command("MOVE", KEY, pick(0, 1), weight=0.7, on=_WAKER),
        command("SELECT", pick(0, 0, 1), weight=0.2),
        command("SWAPDB", 0, 1, weight=0.5, on=_WAKER),
        command("SET", NEW_KEY, VALUE, weight=1, on=_WAKER),
        command("RPUSH", NEW_KEY, VALUE, weight=0.5, on=_WAKER),
        command("DEL", some(NEW_KEY, 1, 3), weight=5, on=_WAKER),
        command("FLUSHALL", weight=0.2, on=_WAKER),
        command("FLUSHDB", weight=0.2, on=_WAKER),
        command("PEXPIREAT", NEW_KEY, 1, weight=0.5, on=_WAKER),
        command("MULTI", weight=2, on=_WAKER),
        command("EXEC", weight=3, on=_WAKER),
        command("MULTI", weight=0.3),
        command("EXEC", weight=1),
        command("@UNBLOCK", pick(0, 1, 2, 3, 4), opt(pick("TIMEOUT", "ERROR")), weight=1.5, on=_WAKER),
        command("@KILL", pick(0, 1, 2, 3, 4), weight=0.3, on=_WAKER),
        command("XRANGE", _STREAM, "-", "+"),
        command("XPENDING", _STREAM, _GROUP),
        command("XINFO CONSUMERS", _STREAM, _GROUP, compare=about),
        command("KEYS", "*", compare=unordered),
    ],
    connections=6,
    settle=True,
    databases=2,
    references=(
        "valkey",
    ),  # 7.2 runs a woken command again, and tells of what is gone in other words than 7.0
    common=(),
    avoid=[Avoid("valkey", "a short wait ends in the middle of what follows", _is_short)],
)
