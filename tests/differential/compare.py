"""How the replies of two servers are compared where their bytes may rightly differ.

A comparison takes an ``Exchange`` and gives None (the replies agree) or what is wrong. It is asked only
when the bytes differ and neither reply is an error; it may ask either server (to check that a random
member is one) and may repair ours (to put a popped member back), so that both hold the same data afterwards.

Must not know: how commands are generated or sent.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Protocol

from tests.rawclient import Node, Word, parse


class Ask(Protocol):
    def __call__(self, *argv: Word) -> bytes: ...


@dataclass(frozen=True)
class Exchange:
    """One command and its two replies; ``ask_ours`` and ``ask_theirs`` run more commands beside it."""

    argv: tuple[bytes, ...]
    ours: bytes
    theirs: bytes
    ask_ours: Ask
    ask_theirs: Ask

    @property
    def name(self) -> bytes:
        return self.argv[0].upper()


Comparison = Callable[[Exchange], str | None]


def exact(exchange: Exchange) -> str | None:
    """The same bytes."""
    return None if exchange.ours == exchange.theirs else "the bytes differ"


def _sorted(node: Node) -> list[Node]:
    return sorted(node.items or ())


def unordered(exchange: Exchange) -> str | None:
    """The same items in any order (of the same type of aggregate)."""
    ours, theirs = parse(exchange.ours), parse(exchange.theirs)
    if ours.mark == theirs.mark and _sorted(ours) == _sorted(theirs):
        return None
    return "the items differ, in whatever order"


def pairs(node: Node) -> list[tuple[Node, ...]]:
    """The items two by two; pairs that are arrays of their own (RESP3) are taken as they are."""
    items = node.items or ()
    if items and all(item.items is not None and len(item.items) == 2 for item in items):
        return [item.items or () for item in items]
    return [tuple(items[n : n + 2]) for n in range(0, len(items), 2)]


def unordered_pairs(exchange: Exchange) -> str | None:
    """The same (field, value) pairs in any order."""
    ours, theirs = parse(exchange.ours), parse(exchange.theirs)
    if (ours.mark, ours.text) == (theirs.mark, theirs.text) and sorted(pairs(ours)) == sorted(pairs(theirs)):
        return None
    return "the pairs differ, in whatever order"


def near(tolerance: int) -> Comparison:
    """Integers at most ``tolerance`` apart, both negative or both not: what is left of a time to live."""

    def compare(exchange: Exchange) -> str | None:
        ours, theirs = parse(exchange.ours), parse(exchange.theirs)
        if ours.mark == theirs.mark == b":":
            left, right = int(ours.text), int(theirs.text)
            if left >= 0 and right >= 0 and abs(left - right) <= tolerance:
                return None
        return f"not within {tolerance} of each other"

    return compare


def _shape(node: Node) -> object:
    return node.mark, None if node.items is None else [_shape(item) for item in node.items]


def same_shape(exchange: Exchange) -> str | None:
    """The same types and lengths, whatever the contents."""
    if _shape(parse(exchange.ours)) == _shape(parse(exchange.theirs)):
        return None
    return "the shapes differ"


def members_of(*probe: bytes, pairs_of: bool = False) -> Comparison:
    """The same shape, and every item of ours is among what ``probe key`` answers on the other server.

    ``pairs_of``: the probe answers pairs, and so does the command where its last word says so (WITHVALUES,
    WITHSCORES); otherwise only the first of each pair counts.
    """

    def compare(exchange: Exchange) -> str | None:
        if (wrong := same_shape(exchange)) is not None:
            return wrong
        answer = parse(exchange.ask_theirs(*probe, exchange.argv[1], *_everything(probe)))
        found = parse(exchange.ours)
        if pairs_of and exchange.argv[-1].upper().startswith(b"WITH"):
            allowed = {tuple(item.text for item in pair) for pair in pairs(answer)}
            given = [tuple(item.text for item in pair) for pair in pairs(found)]
        else:
            allowed = (
                {(pair[0].text,) for pair in pairs(answer)}
                if pairs_of
                else {(item.text,) for item in answer.items or ()}
            )
            given = [(item.text,) for item in (found.items if found.items is not None else (found,))]
        counts = exchange.argv[2:3]
        if counts and not counts[0].startswith(b"-") and len(set(given)) != len(given):
            return "a member came twice"
        return None if set(given) <= allowed else f"not members: {sorted(set(given) - allowed)}"

    return compare


def _everything(probe: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (b"0", b"-1", b"WITHSCORES") if probe[0] == b"ZRANGE" else ()


def popped_members(exchange: Exchange) -> str | None:
    """SPOP: as many distinct members, all once there; ours is then made to hold what theirs holds."""
    if (wrong := same_shape(exchange)) is not None:
        return wrong
    key = exchange.argv[1]
    ours, theirs = _texts(exchange.ours), _texts(exchange.theirs)
    rest = _texts(exchange.ask_theirs(b"SMEMBERS", key))
    if len(set(ours)) != len(ours) or not set(ours) <= set(theirs) | set(rest):
        return "popped what was not there"
    back, gone = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    if back:
        exchange.ask_ours(b"SADD", key, *back)
    if gone:
        exchange.ask_ours(b"SREM", key, *gone)
    return None


def _texts(reply: bytes) -> list[bytes]:
    node = parse(reply)
    return [item.text for item in (node.items if node.items is not None else (node,))]


def random_key(exchange: Exchange) -> str | None:
    """RANDOMKEY: some key of theirs, or null on both."""
    found = parse(exchange.ours)
    if found.mark == b"$" and parse(exchange.ask_theirs("EXISTS", found.text)).text == b"1":
        return None
    return "no key of the other server"


def some_page(exchange: Exchange) -> str | None:
    """SCAN and its kin from any one cursor: a cursor and an array; ``@SCAN`` compares contents."""
    pages = parse(exchange.ours), parse(exchange.theirs)
    if all(page.items and len(page.items) == 2 and page.items[1].items is not None for page in pages):
        return None
    return "not both are pages"


def live_keys(exchange: Exchange) -> str | None:
    """DBSIZE: as many keys that are not expired; whether expired ones are counted depends on the instant."""
    counts = [len(parse(ask("KEYS", "*")).items or ()) for ask in (exchange.ask_ours, exchange.ask_theirs)]
    return None if counts[0] == counts[1] else f"{counts[0]} and {counts[1]} live keys"


def encoding(exchange: Exchange) -> str | None:
    """OBJECT ENCODING; ``known`` lists what may differ."""
    return "the encodings differ"


def as_number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def same_numbers(exchange: Exchange) -> bool:
    """The same trees, where texts that are numbers count as equal when the numbers are."""
    return _same_numbers(parse(exchange.ours), parse(exchange.theirs))


def _same_numbers(left: Node, right: Node) -> bool:
    if left.mark != right.mark:
        return False
    if left.items is not None and right.items is not None:
        return len(left.items) == len(right.items) and all(map(_same_numbers, left.items, right.items))
    if left.items is not None or right.items is not None:
        return False
    number = as_number(left.text)
    return left.text == right.text or (number is not None and number == as_number(right.text))


# In a repair: the key of the command whose replies differ.
ITS_KEY = b"<its key>"


@dataclass(frozen=True)
class Known:
    """A difference that is accepted while ``server`` is one of the two.

    ``commands``: upper-case names, or {"*"} for all. ``accept`` says whether this exchange is that
    difference; without it any two non-identical replies of these commands are. ``repair`` is sent to both
    afterwards, on the same connection, where the difference would leave them in different states; ITS_KEY in
    it stands for the command's first word behind its name.
    """

    server: str
    commands: Set[str]
    reason: str
    accept: Callable[[Exchange], bool] = lambda exchange: True
    repair: tuple[bytes, ...] = ()

    def covers(self, exchange: Exchange) -> bool:
        named = "*" in self.commands or exchange.name.decode("latin-1") in self.commands
        return named and self.accept(exchange)


def either_error(exchange: Exchange) -> bool:
    """Whether one of the replies is an error."""
    return exchange.ours.startswith(b"-") or exchange.theirs.startswith(b"-")


def both_errors(exchange: Exchange) -> bool:
    """Whether both are: the texts differ, the outcome does not."""
    return exchange.ours.startswith(b"-") and exchange.theirs.startswith(b"-")


def judge(exchange: Exchange, comparison: Comparison, known: list[Known]) -> str | None:
    """None when the replies agree, by bytes, by the command's comparison, or by a known difference."""
    if exchange.ours == exchange.theirs:
        return None
    wrong = "one is an error" if either_error(exchange) else comparison(exchange)
    if wrong is None:
        return None
    for entry in known:
        if entry.covers(exchange):
            if entry.repair:
                words = [exchange.argv[1] if word is ITS_KEY else word for word in entry.repair]
                exchange.ask_ours(*words)
                exchange.ask_theirs(*words)
            return None
    return wrong
