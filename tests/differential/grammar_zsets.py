"""The sorted set commands.

Ranges by member have a meaning only where all scores are the same, so most run on keys of their own
(``la``, ``lb``), to which only such members are added; ``lm`` has mixed scores but stays a listpack,
which answers such ranges in one certain way (a skiplist's answer depends on its random levels).
"""

from __future__ import annotations

from tests.differential.compare import (
    Exchange,
    Known,
    as_number,
    either_error,
    members_of,
    pairs,
    same_shape,
    some_page,
)
from tests.differential.grammar import (
    BAD_FLOAT,
    BAD_INT,
    BAD_WORD,
    COUNT,
    FLOAT,
    GOOD_FLOAT,
    INDEX,
    KEY,
    LEX_BOUND,
    LONG,
    MEMBER,
    NEW_KEY,
    PATTERN,
    SCORE,
    SCORE_BOUND,
    TTL_S,
    Avoid,
    Grammar,
    Rng,
    Step,
    command,
    counted,
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
from tests.rawclient import parse

_LEX_KEY = one_of(pick("la", "lb"), pick("lm"), pick("w:string", "w:set", "nokey"), weights=(70, 20, 10))
_LEX_MEMBER = one_of(MEMBER, pick("m0", "m1", "m10", "m", "a", "z", b"m0\x00"), weights=(60, 40))
_LIMIT = seq("LIMIT", INDEX, INDEX)
_WEIRD_BOUND = pick(
    " 1", "1e400", "-1e400", "0x2", "2\x00x", "\t3", "(0x1p1", "( 2", "1e-400", "+3", "(-inf", "nan"
)
_BOUND = mostly(SCORE_BOUND, _WEIRD_BOUND, 0.05)
_CONDITION = options("NX", "XX", "GT", "LT", p=0.12)
_AGGREGATE = seq("AGGREGATE", mostly(one_of("SUM", "MIN", "MAX"), pick("COUNT", "", "avg"), 0.05))
_WEIGHT = one_of(
    pick(1, 2, -1, 0, "0.5", "-2.5"), pick("inf", "-inf", "1e308"), BAD_FLOAT, weights=(85, 12, 3)
)
_SET_KEY = one_of(KEY, pick("s1", "s2", "w:set", "w:zset"), weights=(75, 25))
# No large negative counts: a server takes them at their word.
_DRAWS = one_of(
    pick(*range(-9, 9)), pick("9223372036854775807", "-9223372036854775808"), BAD_INT, weights=(94, 3, 3)
)
_END = mostly(one_of("MIN", "MAX"), BAD_WORD, 0.04)
_RANGE_BY_RANK = seq(INDEX, INDEX)
_RANGE_BY_SCORE = seq(_BOUND, _BOUND)
_STORED_BY = one_of(
    seq(_RANGE_BY_RANK, options("REV", p=0.4)),
    seq(_RANGE_BY_SCORE, "BYSCORE", options("REV", _LIMIT, p=0.4)),
    seq(_RANGE_BY_SCORE, options("BYSCORE", "BYLEX", "REV", _LIMIT, "WITHSCORES", p=0.3)),
    weights=(4, 5, 1),
)


def _weights(rng: Rng) -> list[bytes]:
    """A count, keys, and mostly as many weights."""
    words = counted(_SET_KEY, 1, 3)(rng)
    if rng.random() < 0.4:
        words.append(b"WEIGHTS")
        count = len(words) - 2 if rng.random() < 0.95 else rng.randint(0, 4)
        words += [word for _ in range(count) for word in _WEIGHT(rng)]
    return words


def _many(rng: Rng) -> list[Step]:
    """A set of several hundred members, then whole scans and ranges of it while it changes a little."""
    key = rng.choice(("a", "b"))
    count = rng.choice((9, 40, 300))
    words: list[str | int] = []
    for number in rng.sample(range(count), count):
        words += (rng.choice((number, number // 7, -number, "0.1")), f"k{number}")
    steps = [step("DEL", key), step("ZADD", key, *words), step("@SCAN", "ZSCAN", key)]
    for _ in range(6):
        low = rng.randrange(-count, count)
        steps += [
            step("ZREM", key, f"k{rng.randrange(count)}", f"k{rng.randrange(count)}"),
            step("ZRANGE", key, low, low + rng.randrange(count), "WITHSCORES"),
            step("ZCOUNT", key, low, f"({low + 20}"),
            step("ZRANK", key, f"k{rng.randrange(count)}"),
            step("ZADD", key, low, f"k{rng.randrange(count)}", rng.randrange(9), "new"),
            step("ZREVRANGEBYSCORE", key, low + 30, low, "LIMIT", rng.randrange(5), rng.randrange(9)),
        ]
    return [*steps, step("ZREMRANGEBYRANK", key, rng.randrange(count), -1), step("@SCAN", "ZSCAN", key)]


def _same_score(rng: Rng) -> list[Step]:
    """Many members of one score: ranges by member of a skiplist."""
    members = [f"{rng.randrange(1000):03}" for _ in range(rng.choice((20, 200)))]
    words = [word for member in members for word in ("0", member)]
    steps = [step("DEL", "la"), step("ZADD", "la", *words)]
    for _ in range(6):
        low, high = rng.randrange(1000), rng.randrange(1000)
        ends = (f"{rng.choice('[(')}{low:03}", f"{rng.choice('[(')}{high:03}")
        steps += [
            step("ZRANGEBYLEX", "la", *ends, "LIMIT", rng.randrange(4), rng.randrange(-1, 9)),
            step("ZREVRANGEBYLEX", "la", *reversed(ends)),
            step("ZLEXCOUNT", "la", *ends),
        ]
    return [
        *steps,
        step("ZREMRANGEBYLEX", "la", "[2", "(7"),
        step("ZCARD", "la"),
        step("ZRANGE", "la", 0, -1),
    ]


def _drawn(exchange: Exchange) -> bool:
    """Draws WITHSCORES: the same shape, members of the other server's set with equal scores."""
    if either_error(exchange) or same_shape(exchange) is not None:
        return False
    everything = parse(exchange.ask_theirs("ZRANGE", exchange.argv[1], "0", "-1", "WITHSCORES"))
    scores = {member.text: as_number(score.text) for member, score in pairs(everything)}
    return all(scores[member.text] == as_number(score.text) for member, score in pairs(parse(exchange.ours)))


def _negative_offset(argv: tuple[bytes, ...]) -> bool:
    """LIMIT with a negative offset."""
    words = [word.upper() for word in argv]
    return any(word == b"LIMIT" and words[at + 1][:1] == b"-" for at, word in enumerate(words[:-1]))


def _stored_from_negative_offset(argv: tuple[bytes, ...]) -> bool:
    return argv[0].upper() == b"ZRANGESTORE" and _negative_offset(argv)


def _with_score(exchange: Exchange) -> bool:
    return len(exchange.argv) == 4 and either_error(exchange)


def _timeout(exchange: Exchange) -> bool:
    return b"timeout is" in exchange.ours and b"timeout is" in exchange.theirs


_RANGES_WITH_LIMIT = {
    "ZRANGESTORE",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREVRANGEBYSCORE",
    "ZRANGEBYLEX",
    "ZREVRANGEBYLEX",
}
# redis up to 7.2, and valkey itself where the set is small, find nothing there.
_FROM_THE_OTHER_END = "valkey counts a negative offset from the other end"
_KNOWN = [
    Known(
        "valkey", _RANGES_WITH_LIMIT, _FROM_THE_OTHER_END, lambda exchange: _negative_offset(exchange.argv)
    ),
    Known("redis", {"ZRANK", "ZREVRANK"}, "7.0 has no WITHSCORE", _with_score),
    Known("redis", {"BZPOPMIN", "BZPOPMAX", "BZMPOP"}, "7.0 words odd timeouts differently", _timeout),
    Known("redis", {"ZRANDMEMBER"}, "7.0 prints 17 digits", _drawn),
]

GRAMMAR = Grammar(
    "zsets",
    [
        # adding
        command("ZADD", KEY, some(seq(SCORE, MEMBER), 1, 4), weight=8),
        command("ZADD", KEY, _CONDITION, options("CH", p=0.3), some(seq(SCORE, MEMBER), 1, 3), weight=6),
        command("ZADD", KEY, _CONDITION, "INCR", seq(FLOAT, MEMBER), opt(FLOAT, MEMBER, p=0.05), weight=3),
        command("ZADD", NEW_KEY, SCORE, LONG, weight=0.4),
        command("ZINCRBY", KEY, FLOAT, MEMBER, weight=4),
        command("ZADD", pick("la", "lb"), some(seq(0, _LEX_MEMBER), 1, 5), weight=3),
        command("ZADD", "lm", some(seq(GOOD_FLOAT, pick("m1", "m3", "a", "c", "e", "z")), 1, 2), weight=2),
        command("SADD", pick("s1", "s2"), some(MEMBER, 1, 4), weight=2),
        macro("MANY", _many, weight=0.3),
        macro("SAME_SCORE", _same_score, weight=0.2),
        # removing
        command("ZREM", KEY, some(MEMBER, 1, 3), weight=3),
        command("ZREM", pick("la", "lb", "lm"), some(MEMBER, 1, 2)),
        command("ZPOPMIN", KEY, opt(COUNT), weight=2),
        command("ZPOPMAX", KEY, opt(COUNT), weight=2),
        command("ZMPOP", counted(KEY, 1, 3), _END, options(seq("COUNT", COUNT)), weight=2),
        command("ZREMRANGEBYRANK", KEY, INDEX, INDEX),
        command("ZREMRANGEBYSCORE", KEY, _BOUND, _BOUND),
        command("ZREMRANGEBYLEX", _LEX_KEY, LEX_BOUND, LEX_BOUND),
        command("EXPIRE", KEY, TTL_S, weight=0.5),
        # looking up
        command("ZSCORE", KEY, MEMBER, weight=2),
        command("ZMSCORE", KEY, some(MEMBER, 1, 3)),
        command("ZCARD", KEY),
        command("ZRANK", KEY, MEMBER, opt(mostly("WITHSCORE", BAD_WORD), p=0.3), weight=2),
        command("ZREVRANK", KEY, MEMBER, opt(mostly("WITHSCORE", BAD_WORD), p=0.3)),
        command("ZCOUNT", KEY, _BOUND, _BOUND, weight=2),
        command("ZLEXCOUNT", _LEX_KEY, LEX_BOUND, LEX_BOUND, weight=2),
        # ranges
        command("ZRANGE", KEY, _RANGE_BY_RANK, options("WITHSCORES", "REV", p=0.4), weight=3),
        command(
            "ZRANGE",
            KEY,
            _RANGE_BY_SCORE,
            options("BYSCORE", p=0.9),
            options("WITHSCORES", "REV", _LIMIT),
            weight=3,
        ),
        command("ZRANGE", _LEX_KEY, LEX_BOUND, LEX_BOUND, "BYLEX", options("REV", _LIMIT), weight=2),
        command(
            "ZRANGE",
            KEY,
            one_of(INDEX, _BOUND),
            INDEX,
            options("WITHSCORES", "REV", "BYSCORE", _LIMIT, BAD_WORD),
        ),
        command("ZREVRANGE", KEY, _RANGE_BY_RANK, options("WITHSCORES", _LIMIT, p=0.2)),
        command("ZRANGEBYSCORE", KEY, _RANGE_BY_SCORE, options("WITHSCORES", _LIMIT), weight=3),
        command("ZREVRANGEBYSCORE", KEY, _RANGE_BY_SCORE, options("WITHSCORES", _LIMIT), weight=2),
        command("ZRANGEBYLEX", _LEX_KEY, LEX_BOUND, LEX_BOUND, options(_LIMIT, p=0.5), weight=3),
        command(
            "ZREVRANGEBYLEX", _LEX_KEY, LEX_BOUND, LEX_BOUND, options(_LIMIT, "WITHSCORES", p=0.3), weight=2
        ),
        command("ZRANGESTORE", KEY, KEY, _STORED_BY, weight=3),
        command("ZRANGESTORE", "lb", "la", LEX_BOUND, LEX_BOUND, "BYLEX", options("REV", _LIMIT)),
        # several sets
        command("ZUNION", _weights, options(_AGGREGATE, "WITHSCORES", p=0.5), weight=2),
        command("ZINTER", _weights, options(_AGGREGATE, "WITHSCORES", p=0.5), weight=2),
        command("ZDIFF", counted(_SET_KEY, 1, 3), options("WITHSCORES", p=0.5), weight=2),
        command("ZUNIONSTORE", KEY, _weights, options(_AGGREGATE, p=0.5), weight=2),
        command("ZINTERSTORE", KEY, _weights, options(_AGGREGATE, p=0.5), weight=2),
        command("ZDIFFSTORE", KEY, counted(_SET_KEY, 1, 3), options("WITHSCORES", p=0.05)),
        command("ZINTERCARD", counted(_SET_KEY, 1, 3), options(seq("LIMIT", COUNT), p=0.5), weight=2),
        # random and scanned
        command(
            "ZRANDMEMBER",
            KEY,
            opt(_DRAWS, opt(mostly("WITHSCORES", BAD_WORD), p=0.4)),
            compare=members_of(b"ZRANGE", pairs_of=True),
            weight=2,
        ),
        command(
            "ZSCAN",
            KEY,
            mostly(pick(0), pick("x", "1", "-1", "")),
            options(seq("MATCH", PATTERN), seq("COUNT", COUNT)),
            compare=some_page,
        ),
        macro(
            "SCAN_ALL", lambda rng: [step("@SCAN", "ZSCAN", rng.choice(("a", "b", "c", "la")))], weight=0.5
        ),
        # what does not block because something is there, or because the words are wrong
        command(
            "BZPOPMIN",
            "w:zset",
            pick("0.01", "1e-2", "x", "-1", "nan", "inf", "1e400", "9223372036854775807"),
            weight=0.4,
        ),
        command("BZPOPMAX", KEY, pick("0.01", "0.001", "x"), weight=0.2),
        command("BZMPOP", "0.01", counted(KEY, 1, 2), _END, options(seq("COUNT", COUNT)), weight=0.4),
    ],
    config={"zset-max-listpack-entries": "8", "zset-max-listpack-value": "32"},
    known=_KNOWN,
    avoid=[Avoid("valkey", _FROM_THE_OTHER_END, _stored_from_negative_offset)],
)
