"""Streams and their groups, on clients that do not block."""

from __future__ import annotations

from tests.differential.compare import ITS_KEY, Exchange, both_errors, encoding, exact
from tests.differential.grammar import (
    BAD_INT,
    BAD_WORD,
    BIG_INT,
    COUNT,
    KEY,
    NEW_KEY,
    VALUE,
    Grammar,
    Known,
    Rng,
    Step,
    command,
    macro,
    mostly,
    one_of,
    opt,
    options,
    pick,
    seq,
    some,
    step,
)
from tests.rawclient import Node, parse

_LAST = "18446744073709551615"
_ODD_ID = pick(
    *("", "-", "+", "$", ">", "1-", "-1", "1-1-1", "x", "1-x", " 1-1", "+1-1", "01-01", "1--1", "1--01"),
    *("1-1 ", "1\x00-2", "1-2\x00x", "18446744073709551616-0", "0-18446744073709551616", "(1-1", "1" * 130),
    *(
        f"{_LAST}-{_LAST}",
        f"{_LAST}-0",
        f"0-{_LAST}",
        "0-0",
        "-0",
        "1-*",
        "*-1",
        "0-*",
        "1-*x",
        "\t1-1",
        "1-+1",
    ),
)
_SMALL_ID = one_of(
    lambda rng: [b"%d-%d" % (rng.randrange(1, 13), rng.randrange(3))],
    lambda rng: [b"%d" % rng.randrange(13)],
)
_ID = mostly(_SMALL_ID, _ODD_ID, 0.05)
_NEW_ID = one_of(
    lambda rng: [b"%d-*" % rng.randrange(1, 14)],
    lambda rng: [b"%d-%d" % (rng.randrange(1, 16), rng.randrange(4))],
    _ODD_ID,
    weights=(50, 46, 4),
)
_BOUND = one_of(_ID, lambda rng: [b"(" + _ID(rng)[0]], pick("-", "+", "(", "(-", "(+"), weights=(45, 25, 30))
_READ_ID = one_of(_ID, pick("$", "0", "0-0", ">"), weights=(50, 50))
_GROUP_ID = one_of(pick(">"), pick("0", "0-0"), _ID, pick("$"), weights=(60, 20, 18, 2))
_GROUP = pick("g", "g", "g", "h", "no", b"")
_CONSUMER = pick("c", "c", "d", "e\x00x")
_FIELDS = some(seq(pick("f", "g", "m1"), VALUE), 1, 3)
_HOW = one_of(pick("="), pick("~"), lambda rng: [], weights=(30, 30, 40))
_TRIM = one_of(
    seq("MAXLEN", _HOW, one_of(pick(0, 1, 2, 3, 5, 8), BAD_INT, pick(-1), weights=(94, 3, 3))),
    seq("MINID", _HOW, _ID),
)
_LIMIT = seq("LIMIT", one_of(pick(0, 1, 2, 5, 10), BAD_INT, pick(-1), weights=(92, 4, 4)))
_MIN_IDLE = one_of(pick(0), pick(-1, 1 << 40), BAD_INT, weights=(88, 8, 4))
# Servers add to their largest numbers until they are negative; ours stay.
_READ = one_of(pick(*range(-2, 15)), BAD_INT, weights=(95, 5))
_STREAM = mostly(pick("a", "b", "c"), KEY, 0.08)


def _several(*ids: object) -> object:
    """STREAMS with as many IDs as keys, but for a few."""

    def words(rng: Rng) -> list[bytes]:
        count = rng.choice((1, 1, 1, 2, 3))
        found = [b"STREAMS"]
        for _ in range(count):
            found += _STREAM(rng)
        for _ in range(count if rng.random() < 0.97 else rng.randrange(4)):
            found += ids[0](rng)  # type: ignore[operator]
        return found

    return words


def _near(left: Node, right: Node) -> bool:
    """The same tree, where large numbers and idle times are of about the same moment."""
    if left.mark != right.mark:
        return False
    if left.items is not None and right.items is not None:
        return len(left.items) == len(right.items) and all(map(_near, left.items, right.items))
    if left.text == right.text:
        return True
    if left.mark != b":":
        return False
    one, two = int(left.text), int(right.text)
    return one >= 0 and two >= 0 and abs(one - two) < 5000


def about(exchange: Exchange) -> str | None:
    """The same, but for times, which are those of the last seconds."""
    return None if _near(parse(exchange.ours), parse(exchange.theirs)) else "not the same but for times"


def _grown(rng: Rng) -> list[Step]:
    """A stream of several nodes, whose entries have the same fields or not, shortened in several ways."""
    key = rng.choice("abc")
    steps = [step("DEL", key)]
    number = 0
    for _ in range(rng.randint(10, 60)):
        number += rng.choice((1, 1, 1, 300, 70_000))
        words = [key, f"{number}-{rng.choice((0, 0, 5, 1 << 40))}"]
        for _ in range(rng.choice((1, 1, 2))):
            words += [
                rng.choice(("f", "f", "g")),
                rng.choice(("v", "17", "x" * rng.randrange(200), "-5000", "01")),
            ]
        steps.append(step("XADD", *words))
    for _ in range(rng.randint(1, 8)):
        low = rng.randrange(number + 1)
        steps.append(
            rng.choice(
                (
                    step("XTRIM", key, "MAXLEN", "~", rng.randrange(40)),
                    step("XTRIM", key, "MAXLEN", rng.randrange(60)),
                    step("XTRIM", key, "MINID", "~", low),
                    step("XTRIM", key, "MINID", low),
                    step("XTRIM", key, "MAXLEN", "~", rng.randrange(20), "LIMIT", rng.randrange(30)),
                    step(
                        "XADD", key, "MAXLEN", "~", rng.randrange(20), f"{(number := number + 1)}-0", "f", "v"
                    ),
                )
            )
        )
        steps.append(step("XINFO", "STREAM", key))
    return steps


def _delete_some(rng: Rng) -> list[Step]:
    """Entries deleted all over a stream, so that nodes go and the last one may be one that was full."""
    key = rng.choice("abc")
    steps = [step("DEL", key)]
    count = rng.randint(8, 30)
    steps += [step("XADD", key, f"{n}-1", "f", "v" * rng.randrange(30)) for n in range(1, count)]
    for _ in range(rng.randint(3, 25)):
        steps.append(step("XDEL", key, f"{rng.randrange(1, count)}-1"))
    steps += [step("XADD", key, f"{count + n}-1", "f", "v") for n in range(rng.randint(1, 6))]
    steps += [step("XTRIM", key, "MAXLEN", "~", rng.randrange(count)), step("XINFO", "STREAM", key)]
    return steps


def _consumers(exchange: Exchange) -> bool:
    """XINFO of consumers: 7.0 does not tell when they were active, and makes them when they first get something."""
    what = exchange.argv[1].upper()
    if what == b"GROUPS":
        return _without_consumers(parse(exchange.ours)) == _without_consumers(parse(exchange.theirs))
    return what == b"CONSUMERS" or (what == b"STREAM" and len(exchange.argv) > 3)


def _without_consumers(groups: Node) -> list[list[Node]]:
    return [[each for at, each in enumerate(group.items or ()) if at != 3] for group in groups.items or ()]


def _made_now(exchange: Exchange) -> bool:
    return exchange.argv[1].upper() == b"CREATECONSUMER" and exchange.theirs == b":1\r\n"


def _unbalanced(exchange: Exchange) -> bool:
    return both_errors(exchange) and b"Unbalanced" in exchange.theirs


GRAMMAR = Grammar(
    "streams",
    [
        command("XADD", _STREAM, _NEW_ID, _FIELDS, weight=8),
        command("XADD", _STREAM, options("NOMKSTREAM", _TRIM, _LIMIT, p=0.4), _NEW_ID, _FIELDS, weight=3),
        command("XADD", _STREAM, some(BAD_WORD, 1, 4), weight=0.3),
        command("XLEN", _STREAM),
        command("XRANGE", _STREAM, _BOUND, _BOUND, opt("COUNT", COUNT), weight=3),
        command("XREVRANGE", _STREAM, _BOUND, _BOUND, opt("COUNT", COUNT), weight=2),
        command("XREAD", options(seq("COUNT", COUNT), p=0.4), _several(_READ_ID), weight=3),  # type: ignore[arg-type]
        command(
            "XREAD",
            options(seq("COUNT", COUNT), seq("BLOCK", one_of(pick(-1, 5), BAD_INT)), "NOACK", BAD_WORD),
            _STREAM,
            weight=0.3,
        ),
        command("XDEL", _STREAM, some(_ID, 1, 3), weight=2),
        command("XTRIM", _STREAM, _TRIM, opt(_LIMIT, p=0.3), weight=2),
        command("XTRIM", _STREAM, options(_TRIM, _TRIM, _LIMIT, BAD_WORD, p=0.5), weight=0.3),
        command(
            "XSETID",
            _STREAM,
            _ID,
            options(seq("ENTRIESADDED", _READ), seq("MAXDELETEDID", _ID), BAD_WORD, p=0.25),
            weight=0.7,
        ),
        command(
            "XGROUP CREATE",
            _STREAM,
            _GROUP,
            one_of(pick("$", "0"), _ID),
            options("MKSTREAM", seq("ENTRIESREAD", _READ), p=0.35),
            weight=4,
        ),
        command("XGROUP CREATE", _STREAM, _GROUP, _ID, some(BAD_WORD, 1, 4), weight=0.2),
        command(
            "XGROUP SETID", _STREAM, _GROUP, one_of(pick("$", "0", "-", "+"), _ID), opt("ENTRIESREAD", _READ)
        ),
        command("XGROUP SETID", _STREAM, _GROUP, _ID, some(BAD_WORD, 1, 3), weight=0.1),
        command("XGROUP CREATECONSUMER", _STREAM, _GROUP, _CONSUMER),
        command("XGROUP DELCONSUMER", _STREAM, _GROUP, _CONSUMER, weight=0.7),
        command("XGROUP DESTROY", _STREAM, _GROUP, weight=0.3),
        command("XGROUP", pick("NOPE", "CREATE", ""), some(BAD_WORD, 0, 3), weight=0.2),
        command(
            "XREADGROUP GROUP",
            _GROUP,
            _CONSUMER,
            options(seq("COUNT", COUNT), "NOACK", p=0.35),
            _several(_GROUP_ID),  # type: ignore[arg-type]
            weight=8,
        ),
        command("XACK", _STREAM, _GROUP, some(_ID, 1, 4), weight=2),
        command("XPENDING", _STREAM, _GROUP, weight=2),
        command(
            "XPENDING",
            _STREAM,
            _GROUP,
            opt("IDLE", _MIN_IDLE, p=0.2),
            _BOUND,
            _BOUND,
            COUNT,
            opt(_CONSUMER),
            compare=about,
            weight=2,
        ),
        command(
            "XCLAIM",
            _STREAM,
            _GROUP,
            _CONSUMER,
            _MIN_IDLE,
            some(_ID, 1, 4),
            options(
                seq("IDLE", mostly(pick(0, 1000, -5), BAD_INT)),
                seq("TIME", mostly(pick(0, 1000, -1, 1 << 50), BAD_INT)),
                seq("RETRYCOUNT", mostly(pick(0, 1, 7, -1), BAD_INT)),
                "FORCE",
                "JUSTID",
                seq("LASTID", _ID),
                mostly("FORCE", BAD_WORD, 0.4),
                p=0.2,
            ),
            weight=3,
        ),
        command(
            "XAUTOCLAIM",
            _STREAM,
            _GROUP,
            _CONSUMER,
            _MIN_IDLE,
            one_of(pick("0", "-", "0-0"), _BOUND),
            options(seq("COUNT", one_of(COUNT, BIG_INT)), "JUSTID", mostly("JUSTID", BAD_WORD, 0.2), p=0.3),
            weight=2,
        ),
        command("XINFO STREAM", _STREAM, compare=about, weight=2),
        command("XINFO STREAM", _STREAM, "FULL", opt("COUNT", COUNT), compare=about, weight=2),
        command("XINFO STREAM", _STREAM, some(BAD_WORD, 1, 3), compare=about, weight=0.2),
        command("XINFO GROUPS", _STREAM, weight=2),
        command("XINFO CONSUMERS", _STREAM, _GROUP, compare=about, weight=2),
        command("XINFO", pick("NOPE", "STREAM", ""), some(BAD_WORD, 0, 3), weight=0.2),
        command("OBJECT ENCODING", _STREAM, compare=encoding, weight=0.3),
        command("COPY", _STREAM, NEW_KEY, opt("REPLACE"), compare=exact, weight=0.5),
        command("DEL", NEW_KEY, weight=0.5),
        macro("GROWN", _grown, weight=0.5),
        macro("DELETE_SOME", _delete_some, weight=0.4),
    ],
    config={"stream-node-max-entries": "5", "stream-node-max-bytes": "400"},
    known=[
        Known(
            "valkey",
            {"XREAD"},
            "valkey 8 has nothing at + once the last ID is deleted or moved on, as Redis before 8.0",
            lambda exchange: b"+" in exchange.argv,
        ),
        Known(
            "redis", {"XREAD", "XREADGROUP"}, "7.0 does not know +", lambda exchange: b"+" in exchange.argv
        ),
        Known("redis", {"XINFO"}, "7.0 knows less of consumers, and makes them later", _consumers),
        Known("redis", {"XGROUP"}, "7.0 makes consumers later", _made_now),
        Known("redis", {"XREAD", "XREADGROUP"}, "7.0 names the wrong command", _unbalanced),
        Known(
            "redis",
            {"XSETID"},
            "7.0 does not look at what was deleted",
            lambda exchange: b"max_deleted_entry_id" in exchange.ours,
            repair=(b"DEL", ITS_KEY),
        ),
    ],
)
