"""Sorted sets: bindings.

Scores go out as doubles under RESP3 and as bulk strings under RESP2; a list of members with scores as
pairs under RESP3 and flat under RESP2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from kvstore import errors
from kvstore.commands.args import Args, parse_mpop
from kvstore.commands.kinds import DOUBLES, INT, Kind
from kvstore.commands.registry import (
    KEY_ACCESS_DELETE,
    KEY_ACCESS_UPDATE,
    KEY_DELETE,
    KEY_LOOK,
    KEY_OVERWRITE,
    KEY_READ,
    KEY_UPDATE,
    Argv,
    Block,
    Family,
    keys_at,
    keys_counted,
)
from kvstore.commands.scan import SCANNED, flat, parse_cursor, scan_options
from kvstore.commands.timeout import parse_timeout
from kvstore.engine.database import Database
from kvstore.engine.draws import draw_count
from kvstore.engine.types.zset import ZSet
from kvstore.engine.zset_algebra import (
    AGGREGATES,
    Combine,
    Input,
    algebra_effect,
    as_weight,
    count_common,
    difference,
    in_order,
    intersection,
    no_input_key,
    pairs_in_order,
    union,
)
from kvstore.engine.zset_ranges import LEX, LIMIT_WITH_RANK, RANK, SCORE, Span, parse_bounds
from kvstore.engine.zsets import CH, GT, INCR, LT, NX, XX, scan_zset
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int, format_double, format_double17, parse_float, parse_floats
from kvstore.resp import (
    NULL_ARRAY,
    encode2,
    encode3,
    encode_bulk,
    encode_bulks,
    encode_double2,
    encode_double3,
    encode_int,
)

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("sorted_set", "sortedset")


# -- reply kinds -------------------------------------------------------------------------------------


def _score2(value: float | None) -> bytes:
    cls = value.__class__
    if cls is int:
        return encode_int(value)  # type: ignore[arg-type]
    return b"$-1\r\n" if value is None else encode_double2(value)


def _score3(value: float | None) -> bytes:
    cls = value.__class__
    if cls is int:
        return encode_int(value)  # type: ignore[arg-type]
    return b"_\r\n" if value is None else encode_double3(value)


def _is_pairs(value: Any) -> bool:
    return bool(value) and value[0].__class__ is tuple


def _members2(value: Any) -> Any:
    if _is_pairs(value):
        return flat(value)
    return list(value)


def _members3(value: Any) -> Any:
    if _is_pairs(value):
        return [list(pair) for pair in value]
    return list(value)


def _printed(score: float) -> bytes:
    """As ``format_double``, which it spares the call for plain whole numbers."""
    if -1e15 < score < 1e15:
        whole = int(score)
        if whole == score and whole:
            return b"%d" % whole
    return format_double(score)


def _members_wire2(value: Any) -> bytes:
    if not value:
        return b"*0\r\n"
    if value[0].__class__ is tuple:
        words = [word for member, score in value for word in (member, _printed(score))]
        return encode_bulks(b"*%d" % len(words), words)
    if value.__class__ is tuple:  # one member with its score
        return encode_bulks(b"*2", [value[0], _printed(value[1])])
    return encode_bulks(b"*%d" % len(value), value)


def _members_wire3(value: Any) -> bytes:
    if not value:
        return b"*0\r\n"
    if value[0].__class__ is tuple:
        pairs = [b"*2\r\n%b,%b\r\n" % (encode_bulk(member), _printed(score)) for member, score in value]
        return b"*%d\r\n%b" % (len(pairs), b"".join(pairs))
    if value.__class__ is tuple:
        return b"*2\r\n%b,%b\r\n" % (encode_bulk(value[0]), _printed(value[1]))
    return encode_bulks(b"*%d" % len(value), value)


def _rank_wire(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda value: encode_int(value) if value.__class__ is int else encode(value)


# An int, None, the null array, or [rank, score]
RANKED = Kind("rank", wire2=_rank_wire(encode2), wire3=_rank_wire(encode3))
# A float, an int or None
SCORED = Kind("score", wire2=_score2, wire3=_score3)
# A list of members, a list of (member, score) pairs, or one such pair, which is flat in both protocols
MEMBERS = Kind("members", _members2, _members3, _members_wire2, _members_wire3)
# A reply tree that is the null array for None
POPPED = Kind("popped", lambda value: NULL_ARRAY if value is None else value)


# -- adding and removing -----------------------------------------------------------------------------

_ZADD_FLAGS: Final = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT, b"CH": CH, b"INCR": INCR}


@family.command(
    "ZADD", -4, "write denyoom fast", KEY_UPDATE, kind=SCORED, since="1.2.0", method=Database.zadd
)
def zadd(session: Session, argv: Argv) -> float | None:
    if len(argv) == 4:
        score = parse_float(argv[2])
        if score is not None:
            return session.db._zadd_one(argv[1], score, argv[3])
    return _zadd(session, argv, 0)


@family.command(
    "ZINCRBY", 4, "write denyoom fast", KEY_ACCESS_UPDATE, kind=SCORED, since="1.2.0", method=Database.zincrby
)
def zincrby(session: Session, argv: Argv) -> float | None:
    score = parse_float(argv[2])
    if score is not None:
        return session.db._zadd(argv[1], [(argv[3], score)], INCR)
    return _zadd(session, argv, INCR)  # a flag in its place is still read as one


def _zadd(session: Session, argv: Argv, flags: int) -> float | None:
    at = 2
    while at < len(argv) and (flag := _ZADD_FLAGS.get(argv[at].upper())):
        flags |= flag
        at += 1
    count = len(argv) - at
    if not count or count % 2:
        raise ResponseError(errors.SYNTAX)
    if flags & NX and flags & XX:
        raise err("XX and NX options at the same time are not compatible")
    if (flags & GT and flags & LT) or (flags & NX and flags & (GT | LT)):
        raise err("GT, LT, and/or NX options at the same time are not compatible")
    if flags & INCR and count > 2:
        raise err("INCR option supports a single increment-element pair")
    words = argv[at::2]
    scores = [score for score in parse_floats(words) if score is not None]
    if len(scores) < len(words):
        raise ResponseError(errors.NOT_FLOAT)
    return session.db._zadd(argv[1], list(zip(argv[at + 1 :: 2], scores, strict=True)), flags)


family.bind("ZREM", -3, "write fast", KEY_DELETE, Database.zrem, INT, since="1.2.0")
family.bind("ZREMRANGEBYSCORE", 4, "write", KEY_DELETE, Database.zremrangebyscore, INT, since="1.2.0")
family.bind("ZREMRANGEBYRANK", 4, "write", KEY_DELETE, Database.zremrangebyrank, INT, since="2.0.0")
family.bind("ZREMRANGEBYLEX", 4, "write", KEY_DELETE, Database.zremrangebylex, INT, since="2.8.9")


# -- looking up --------------------------------------------------------------------------------------

family.bind("ZCARD", 2, "readonly fast", KEY_LOOK, Database.zcard, INT, since="1.2.0")
family.bind("ZSCORE", 3, "readonly fast", KEY_READ, Database.zscore, SCORED, since="1.2.0")
family.bind("ZCOUNT", 4, "readonly fast", KEY_READ, Database.zcount, INT, since="2.0.0")
family.bind("ZLEXCOUNT", 4, "readonly fast", KEY_READ, Database.zlexcount, INT, since="2.8.9")


@family.command(
    "ZMSCORE", -3, "readonly fast", KEY_READ, kind=DOUBLES, since="6.2.0", method=Database.zmscore
)
def zmscore(session: Session, argv: Argv) -> list[float | None]:
    return session.db._zmscore(argv[1], argv[2:])


@family.command("ZRANK", -3, "readonly fast", KEY_READ, kind=RANKED, since="2.0.0", method=Database.zrank)
def zrank(session: Session, argv: Argv) -> Any:
    return _rank(session, argv, False)


@family.command(
    "ZREVRANK", -3, "readonly fast", KEY_READ, kind=RANKED, since="2.0.0", method=Database.zrevrank
)
def zrevrank(session: Session, argv: Argv) -> Any:
    return _rank(session, argv, True)


def _rank(session: Session, argv: Argv, reverse: bool) -> Any:
    if len(argv) == 3:
        found = session.db._zrank(argv[1], argv[2], reverse)
        return None if found is None else found[0]
    if len(argv) > 4:
        raise err(f"wrong number of arguments for '{'zrevrank' if reverse else 'zrank'}' command")
    if argv[3].upper() != b"WITHSCORE":
        raise ResponseError(errors.SYNTAX)
    found = session.db._zrank(argv[1], argv[2], reverse)
    return NULL_ARRAY if found is None else list(found)


# -- ranges ------------------------------------------------------------------------------------------


def _parse_range(
    argv: Argv, at: int, by: int | None, reverse: bool | None, store: bool = False
) -> tuple[Span, bool]:
    """The range from ``argv[at]`` on, and whether scores are wanted.

    ``by`` and ``reverse`` are None where options may say so.
    """
    low, high = argv[at], argv[at + 1]
    if not by and len(argv) == at + 2:  # by rank, with no options: what most ask for
        return (RANK, (as_int(low), as_int(high)), bool(reverse), 0, -1), False
    withscores = False
    offset, limit = 0, -1
    may_reverse, may_by = reverse is None, by is None
    at, size = at + 2, len(argv)
    while at < size:
        word = argv[at].upper()
        at += 1
        if word == b"WITHSCORES" and not store:
            withscores = True
        elif word == b"LIMIT" and at + 1 < size:
            offset, limit = as_int(argv[at]), as_int(argv[at + 1])
            at += 2
        elif word == b"REV" and may_reverse:
            reverse, may_reverse = True, False
        elif word == b"BYSCORE" and may_by:
            by, may_by = SCORE, False
        elif word == b"BYLEX" and may_by:
            by, may_by = LEX, False
        else:
            raise ResponseError(errors.SYNTAX)
    if not by:
        if limit != -1:
            raise ResponseError(LIMIT_WITH_RANK)
        return (RANK, (as_int(low), as_int(high)), bool(reverse), 0, -1), withscores
    if withscores and by == LEX:
        raise err("syntax error, WITHSCORES not supported in combination with BYLEX")
    if reverse:
        low, high = high, low
    return (by, parse_bounds(by, low, high), bool(reverse), offset, limit), withscores


def _bind_range(name: str, since: str, method: Any, by: int | None, reverse: bool | None) -> None:
    @family.command(name, -4, "readonly", KEY_READ, kind=MEMBERS, since=since, method=method)
    def read(session: Session, argv: Argv) -> list[Any]:
        span, withscores = _parse_range(argv, 2, by, reverse)
        return session.db._zrange(argv[1], span, withscores)


_bind_range("ZRANGE", "1.2.0", Database.zrange, None, None)
_bind_range("ZREVRANGE", "1.2.0", Database.zrevrange, RANK, True)
_bind_range("ZRANGEBYSCORE", "1.0.5", Database.zrangebyscore, SCORE, False)
_bind_range("ZREVRANGEBYSCORE", "2.2.0", Database.zrevrangebyscore, SCORE, True)
_bind_range("ZRANGEBYLEX", "2.8.9", Database.zrangebylex, LEX, False)
_bind_range("ZREVRANGEBYLEX", "2.8.9", Database.zrevrangebylex, LEX, True)


@family.command(
    "ZRANGESTORE",
    -5,
    "write denyoom",
    KEY_OVERWRITE + keys_at(2, 2, 1, "RO ACCESS"),
    kind=INT,
    since="6.2.0",
    method=Database.zrangestore,
)
def zrangestore(session: Session, argv: Argv) -> int:
    span, _ = _parse_range(argv, 3, None, None, store=True)
    return session.db._zrangestore(argv[1], argv[2], span, (b"ZRANGESTORE", *argv[1:]))


# -- several sets ------------------------------------------------------------------------------------


class _Combination:
    """The words of a command on several sets, from the number of keys on."""

    __slots__ = ("combine", "how", "inputs", "keys", "limit", "withscores")

    def __init__(self, session: Session, command: str, argv: Argv, at: int):
        count = as_int(argv[at])
        if count < 1:
            raise no_input_key(command)
        if count > len(argv) - at - 1:
            raise ResponseError(errors.SYNTAX)
        self.keys = argv[at + 1 : at + 1 + count]
        self.inputs: list[Input] = session.db._zinputs(self.keys)
        self.how = b"SUM"
        self.withscores = False
        self.limit = 0
        words = Args(argv, at + 1 + count)
        weighs = not command.startswith("zdiff") and command != "zintercard"
        while words:
            if weighs and words.take(b"WEIGHTS", more=count):
                for each in self.inputs:
                    each.weight = as_weight(words.next())
            elif weighs and words.take(b"AGGREGATE", more=1):
                self.how = words.next().upper()
                if self.how not in AGGREGATES:
                    raise words.syntax_error()
            elif not command.endswith(("store", "card")) and words.take(b"WITHSCORES"):
                self.withscores = True
            elif command == "zintercard" and words.take(b"LIMIT", more=1):
                self.limit = _limit(words.next())
            else:
                raise words.syntax_error()
        self.combine: Combine = AGGREGATES[self.how]

    def scores(self, operation: str) -> dict[bytes, float]:
        if operation == "zunion":
            return union(self.inputs, self.combine)
        if operation == "zinter":
            return intersection(self.inputs, self.combine)
        return difference(self.inputs)


def _limit(raw: bytes) -> int:
    limit = as_int(raw, "ERR LIMIT can't be negative")
    if limit < 0:
        raise err("LIMIT can't be negative")
    return limit


def _bind_algebra(name: str, since: str, method: Any, store_since: str, store_method: Any) -> None:
    operation, stores = name.lower(), name.lower() + "store"

    @family.command(
        name,
        -3,
        "readonly movablekeys",
        keys_counted(1, "RO ACCESS"),
        kind=MEMBERS,
        since=since,
        method=method,
    )
    def read(session: Session, argv: Argv) -> list[Any]:
        asked = _Combination(session, operation, argv, 1)
        scores = asked.scores(operation)
        return pairs_in_order(scores) if asked.withscores else in_order(scores)

    @family.command(
        name + "STORE",
        -4,
        "write denyoom movablekeys",
        KEY_OVERWRITE + keys_counted(2, "RO ACCESS"),
        kind=INT,
        since=store_since,
        method=store_method,
    )
    def store(session: Session, argv: Argv) -> int:
        asked = _Combination(session, stores, argv, 2)
        effect = algebra_effect(stores, argv[1], asked.keys, asked.inputs, asked.how)
        return session.db._zstore(argv[1], asked.scores(operation), effect, stores)


_bind_algebra("ZUNION", "6.2.0", Database.zunion, "2.0.0", Database.zunionstore)
_bind_algebra("ZINTER", "6.2.0", Database.zinter, "2.0.0", Database.zinterstore)
_bind_algebra("ZDIFF", "6.2.0", Database.zdiff, "6.2.0", Database.zdiffstore)


@family.command(
    "ZINTERCARD",
    -3,
    "readonly movablekeys",
    keys_counted(1, "RO ACCESS"),
    kind=INT,
    since="7.0.0",
    method=Database.zintercard,
)
def zintercard(session: Session, argv: Argv) -> int:
    asked = _Combination(session, "zintercard", argv, 1)
    return count_common(asked.inputs, asked.limit)


# -- popping -----------------------------------------------------------------------------------------


def _bind_pop(name: str, method: Any, highest: bool) -> None:
    @family.command(name, -2, "write fast", KEY_ACCESS_DELETE, kind=MEMBERS, since="5.0.0", method=method)
    def pop(session: Session, argv: Argv) -> Any:
        if len(argv) == 2:
            popped = session.db._zpop(argv[1], 1, highest)
            return popped[0] if popped else popped
        if len(argv) > 3:
            raise ResponseError(errors.SYNTAX)
        count = as_int(argv[2], errors.NOT_POSITIVE)
        if count < 0:
            raise ResponseError(errors.NOT_POSITIVE)
        return session.db._zpop(argv[1], count, highest)


_bind_pop("ZPOPMIN", Database.zpopmin, False)
_bind_pop("ZPOPMAX", Database.zpopmax, True)


def _bind_blocking_pop(name: str, method: Any, highest: bool) -> None:
    @family.command(
        name,
        -3,
        "write blocking fast",
        keys_at(1, -2, 1, "RW ACCESS DELETE"),
        kind=POPPED,
        since="5.0.0",
        method=method,
    )
    def pop(session: Session, argv: Argv) -> Any:
        timeout = parse_timeout(argv[-1], session.db.ctx.now())
        keys = argv[1:-1]
        found = session.db._zmpop(keys, highest, 1)
        if found is None:
            return Block(tuple(keys), timeout, ZSet)
        key, [(member, score)] = found
        return [key, member, score]


_bind_blocking_pop("BZPOPMIN", Database.bzpopmin, False)
_bind_blocking_pop("BZPOPMAX", Database.bzpopmax, True)


def _popped_tree(found: tuple[bytes, Iterable[tuple[bytes, float]]]) -> list[Any]:
    return [found[0], [list(pair) for pair in found[1]]]


@family.command(
    "ZMPOP",
    -4,
    "write movablekeys",
    keys_counted(1, "RW ACCESS DELETE"),
    kind=POPPED,
    since="7.0.0",
    method=Database.zmpop,
)
def zmpop(session: Session, argv: Argv) -> Any:
    found = session.db._zmpop(*parse_mpop(argv, 1, b"MAX", b"MIN"))
    return None if found is None else _popped_tree(found)


@family.command(
    "BZMPOP",
    -5,
    "write blocking movablekeys",
    keys_counted(2, "RW ACCESS DELETE"),
    kind=POPPED,
    since="7.0.0",
    method=Database.bzmpop,
)
def bzmpop(session: Session, argv: Argv) -> Any:
    keys, highest, count = parse_mpop(argv, 2, b"MAX", b"MIN")
    timeout = parse_timeout(argv[1], session.db.ctx.now())
    found = session.db._zmpop(keys, highest, count)
    return Block(tuple(keys), timeout, ZSet) if found is None else _popped_tree(found)


# -- drawing and scanning ----------------------------------------------------------------------------

_NONDETERMINISTIC: Final = ("nondeterministic_output",)

# One member or None, or what MEMBERS has
DRAWN = Kind(
    "drawn",
    lambda value: value if value is None or value.__class__ is bytes else _members2(value),
    lambda value: value if value is None or value.__class__ is bytes else _members3(value),
)


@family.command(
    "ZRANDMEMBER",
    -2,
    "readonly",
    KEY_READ,
    kind=DRAWN,
    since="6.2.0",
    tips=_NONDETERMINISTIC,
    method=Database.zrandmember,
)
def zrandmember(session: Session, argv: Argv) -> Any:
    if len(argv) == 2:
        drawn = session.db._zdraw(argv[1], -1)
        return drawn[0][0] if drawn else None
    draw_count(argv[2], False)
    if len(argv) > 4 or (len(argv) == 4 and argv[3].upper() != b"WITHSCORES"):
        raise ResponseError(errors.SYNTAX)
    pairs = session.db._zdraw(argv[1], draw_count(argv[2], len(argv) == 4))
    return pairs if len(argv) == 4 else [member for member, _ in pairs]


@family.command(
    "ZSCAN",
    -3,
    "readonly",
    KEY_READ,
    kind=SCANNED,
    since="2.8.0",
    tips=_NONDETERMINISTIC,
    method=Database.zscan,
)
def zscan(session: Session, argv: Argv) -> tuple[int, list[bytes]]:
    cursor = parse_cursor(argv[2])
    zset = session.db._read_as(argv[1], ZSet)
    if zset is None:
        return 0, []
    options = scan_options(argv, 3)
    following, pairs = scan_zset(zset, cursor, options.match, options.count)
    # The server prints the scores of a large set with 17 digits here, and only here.
    printed = format_double17 if zset.wide else format_double
    return following, [word for member, score in pairs for word in (member, printed(score))]
