"""Differences of whole servers that the comparison accepts, one by one, each with its reason.

The reference is the behaviour of 7.2, which valkey-server 8.0 keeps nearly everywhere. redis-server 7.0 came
before it; valkey's own departures are listed too. A family adds what is its own by ``Grammar.known``.
"""

from __future__ import annotations

from tests.differential.compare import Exchange, Known, both_errors, either_error, same_numbers

# fmt: off
SCORE_COMMANDS = frozenset({
    "ZADD", "ZINCRBY", "ZSCORE", "ZMSCORE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE",
    "ZRANDMEMBER", "ZPOPMIN", "ZPOPMAX", "ZMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP",
    "ZUNION", "ZINTER", "ZDIFF", "ZSCAN", "ZRANK", "ZREVRANK",
})
# fmt: on


def _encodings(exchange: Exchange) -> bool:
    return exchange.argv[1].upper() == b"ENCODING" and not either_error(exchange)


def _help(exchange: Exchange) -> bool:
    return exchange.argv[1:2] != () and exchange.argv[1].upper() == b"HELP" and not either_error(exchange)


def _odd_cursor(exchange: Exchange) -> bool:
    cursor = exchange.argv[1 if exchange.name == b"SCAN" else 2]
    return not cursor.isdigit()


def _unknown_type(exchange: Exchange) -> bool:
    return either_error(exchange) and b"-ERR unknown type name" in exchange.ours + exchange.theirs


def _is_one_byte(exchange: Exchange) -> bool:
    return exchange.argv[1].upper() == b"ENCODING" and exchange.ask_ours(b"STRLEN", exchange.argv[2]) in (
        b":0\r\n",
        b":1\r\n",
    )


KNOWN: list[Known] = [
    Known("valkey", {"OBJECT"}, "a string of one byte is one object, however it was made", _is_one_byte),
    Known("redis", {"OBJECT"}, "7.0 has no listpack sets and one encoding for all lists", _encodings),
    Known("redis", {"*"}, "HELP is in words of our own", _help),
    Known("valkey", {"*"}, "HELP is in words of our own", _help),
    Known("redis", SCORE_COMMANDS, "7.0 prints 17 digits, 7.2 the shortest that read back", same_numbers),
    Known("redis", {"SCAN", "SSCAN", "HSCAN", "ZSCAN"}, "7.0 refuses more odd cursors", _odd_cursor),
    Known(
        "redis",
        {"MULTI", "WATCH"},
        "7.0 refuses them inside MULTI in other words, and does not abort the transaction",
        both_errors,
        repair=(b"DISCARD",),
    ),
    Known("valkey", {"SCAN"}, "valkey refuses unknown type names; 7.2 finds nothing for them", _unknown_type),
]
