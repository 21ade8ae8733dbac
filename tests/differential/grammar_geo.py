"""The commands on places."""

from __future__ import annotations

from tests.differential.grammar import (
    BAD_FLOAT,
    BAD_INT,
    BAD_WORD,
    COUNT,
    KEY,
    Grammar,
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

_SCORES_OF_ANY_KIND = (0, -1, "1.5", "4503599627370496", "9007199254740993", "1e300", "-inf", "inf")
_NAME = mostly(
    pick("p1", "p2", "p3", "p4", "p5", "p6", "odd", "k3", "k17"), pick("", "none", b"\xff\x00"), 0.1
)
_EDGES = pick("180 85.05112878", "-180 -85.05112878", "180 0", "-180 0", "0 85.05112878", "0 0", "-0.0 -0.0")
_OFF = pick(
    "181 0", "0 86", "-180.0001 1", "0 85.05112879", "inf 0", "nan 0", "x 1", "1 x", "1e400 1", "0x10 0x1p1"
)


def _near(rng: Rng) -> list[bytes]:
    """A place in one town, so that small radii find several."""
    return [b"%.6f" % (2.35 + rng.uniform(-0.05, 0.05)), b"%.6f" % (48.85 + rng.uniform(-0.05, 0.05))]


def _far(rng: Rng) -> list[bytes]:
    return [b"%.4f" % rng.uniform(-180, 180), b"%.4f" % rng.uniform(-85, 85)]


def _polar(rng: Rng) -> list[bytes]:
    return [
        b"%.3f" % rng.choice((-179.99, 179.99, rng.uniform(-180, 180))),
        rng.choice((b"84.9", b"-84.9", b"81")),
    ]


def _words(strategy):  # type: ignore[no-untyped-def]
    return lambda rng: strategy(rng)[0].split()


_PLACE = one_of(_near, _far, _polar, _words(_EDGES), _words(_OFF), weights=(50, 25, 12, 9, 4))
_UNIT = mostly(one_of("M", "KM", "FT", "MI", "m", "km"), BAD_WORD, 0.03)
_LENGTH = mostly(
    pick(0, 1, 100, 1000, 3000, "5000.5", 10000, 30000, 200000, 1000000, 5000000, 20000000, "1e9", "0.0001"),
    one_of(pick("inf", -1, "-inf", "1e400"), BAD_FLOAT),
    0.05,
)
_COUNT = seq("COUNT", mostly(pick(1, 2, 3, 5, 50), one_of(pick(0, -1), BAD_INT), 0.06), opt("ANY", p=0.3))
_ORDER = one_of("ASC", "DESC")
_WITH = options("WITHDIST", "WITHHASH", "WITHCOORD", p=0.35)
_FROM = one_of(seq("FROMMEMBER", _NAME), seq("FROMLONLAT", _PLACE), weights=(40, 60))
_BY = one_of(seq("BYRADIUS", _LENGTH, _UNIT), seq("BYBOX", _LENGTH, _LENGTH, _UNIT))
_STORE = one_of(seq("STORE", KEY), seq("STOREDIST", KEY))


def _many(rng: Rng) -> list[Step]:
    """Several hundred places, some of them the same, and searches of all sizes."""
    key = rng.choice(("a", "b"))
    count = rng.choice((20, 60, 300))
    words: list[str | bytes | int] = []
    spots = [_far(rng) if rng.random() < 0.3 else _near(rng) for _ in range(count // 2)]
    for number in range(count):
        words += (*rng.choice(spots), f"k{number}")
    steps = [step("DEL", key), step("GEOADD", key, *words)]
    for _ in range(8):
        radius = rng.choice(("500", "2000", "5000", "100000", "3000000", "20000000"))
        start = (
            ("FROMMEMBER", f"k{rng.randrange(count)}") if rng.random() < 0.5 else ("FROMLONLAT", *_near(rng))
        )
        steps += [
            step("GEOSEARCH", key, *start, "BYRADIUS", radius, "m", "WITHDIST", rng.choice(("ASC", "DESC"))),
            step("GEOSEARCH", key, *start, "BYBOX", radius, radius, "m", "COUNT", rng.randrange(1, 30)),
            step("GEOSEARCH", key, *start, "BYRADIUS", radius, "m", "COUNT", rng.randrange(1, 30), "ANY"),
            step("GEOSEARCH", key, *start, "BYBOX", radius, "900", "m", "WITHCOORD"),
            step("GEOSEARCHSTORE", "c", key, *start, "BYRADIUS", radius, "m", "COUNT", rng.randrange(1, 200)),
            step("ZRANGE", "c", 0, -1, "WITHSCORES"),
        ]
    return steps


GRAMMAR = Grammar(
    "geo",
    [
        command("GEOADD", KEY, some(seq(_PLACE, _NAME), 1, 4), weight=8),
        command("GEOADD", KEY, options("NX", "XX", "CH", p=0.3), some(seq(_PLACE, _NAME), 1, 3), weight=4),
        command("ZADD", KEY, pick(*_SCORES_OF_ANY_KIND), pick("odd", "p6"), weight=0.7),
        command("ZREM", KEY, _NAME),
        command("GEOPOS", KEY, some(_NAME, 0, 3), weight=3),
        command("GEOHASH", KEY, some(_NAME, 0, 3), weight=2),
        command("GEODIST", KEY, _NAME, _NAME, opt(_UNIT), opt(BAD_WORD, p=0.02), weight=4),
        command("GEOSEARCH", KEY, _FROM, _BY, options(_ORDER, _COUNT, p=0.4), _WITH, weight=10),
        command("GEOSEARCH", KEY, options(_FROM, _FROM, _BY, _BY, _COUNT, "ANY", _ORDER, p=0.5), weight=1),
        command(
            "GEOSEARCHSTORE", KEY, KEY, _FROM, _BY, options(_ORDER, _COUNT, "STOREDIST", p=0.4), weight=4
        ),
        command("GEOSEARCHSTORE", KEY, KEY, _FROM, _BY, _WITH, weight=0.5),
        command("GEORADIUS", KEY, _PLACE, _LENGTH, _UNIT, options(_ORDER, _COUNT, p=0.4), _WITH, weight=3),
        command(
            "GEORADIUS",
            KEY,
            _PLACE,
            _LENGTH,
            _UNIT,
            options(_ORDER, _COUNT, "WITHDIST", p=0.2),
            _STORE,
            weight=2,
        ),
        command("GEORADIUS_RO", KEY, _PLACE, _LENGTH, _UNIT, _WITH, opt(_STORE, p=0.05)),
        command(
            "GEORADIUSBYMEMBER", KEY, _NAME, _LENGTH, _UNIT, options(_ORDER, _COUNT, p=0.4), _WITH, weight=3
        ),
        command("GEORADIUSBYMEMBER", KEY, _NAME, _LENGTH, _UNIT, options(_COUNT, p=0.2), _STORE, weight=2),
        command("GEORADIUSBYMEMBER_RO", KEY, _NAME, _LENGTH, _UNIT, _WITH, opt(_STORE, p=0.05)),
        command("ZRANGE", KEY, 0, -1, "WITHSCORES", weight=3),
        command("ZPOPMIN", KEY, opt(COUNT), weight=0.3),
        macro("MANY", _many, weight=0.5),
    ],
    config={"zset-max-listpack-entries": "16"},
)
