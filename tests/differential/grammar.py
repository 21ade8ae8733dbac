"""A grammar of commands: what a random generator needs to know of one command family.

How to write a family down: a file ``grammar_<family>.py`` in this directory that defines ``GRAMMAR``:

    from tests.differential.compare import unordered
    from tests.differential.grammar import *

    GRAMMAR = Grammar(
        "sets",
        [
            command("SADD", KEY, some(MEMBER, 1, 4), weight=4),
            command("SMEMBERS", KEY, compare=unordered),
            command("SINTERCARD", counted(KEY, 1, 3), options(seq("LIMIT", COUNT))),
            command("SPOP", KEY, opt(COUNT), compare=popped_members),
            macro("SADD_MANY", lambda rng: [step("SADD", "a", *range(200))], weight=0.1),
        ],
        config={"set-max-intset-entries": "8"},
        known=[Known("redis", {"SADD"}, "why 7.0 differs", accept)],
    )

An argument is a strategy: a function from a random source to the words that it contributes (none, one,
several). A ``str``, ``bytes`` or ``int`` stands for itself (and changes its case now and then, if it is
upper-case letters). They combine by ``seq one_of opt some counted options mostly``. The pools below (KEY,
MEMBER, VALUE, INT, FLOAT, ...) are small, so that commands meet each other's keys and members, and hold
some bad words, so that errors and the order of checks are compared too. ``KEY`` gives a wrong-typed key
now and then: the sequence's prologue makes one of each type (``w:string`` ... ``w:zset``).

``command(name, *args, weight=1, compare=exact)``: one command; ``name`` may be of several words. Arity is
broken now and then by itself. ``compare`` is one of ``compare.py``'s: ``exact`` (bytes; the default),
``unordered``, ``unordered_pairs``, ``near(milliseconds)``, ``same_shape``, ``members_of(...)``, ... An error
reply is always compared exactly. Inside MULTI and EXEC each element is compared by its own command's.

``macro(name, function, weight=1)``: several steps that belong together (shrinking keeps them together).
Pseudo-commands, which the runner carries out itself: ``@PAUSE ms`` waits; ``@SCAN SSCAN key ...`` walks a
whole cursor loop (``@SCAN SCAN ...`` for the keyspace) and compares what was found as a set. With
``settle`` also ``@UNBLOCK n [TIMEOUT|ERROR]`` and ``@KILL n``: CLIENT UNBLOCK and KILL of connection n.

``config``: directives set on both servers for the family (small limits bring all encodings into reach).
``known``: differences that are accepted, each with its server, commands and reason (see ``compare.Known``).
``avoid``: commands that one server cannot run at all, so that states would diverge (``Avoid``).
``connections``: how many clients; ``command(..., on=1)`` (or ``on=(1, 2)``) picks one, else it is random.
``settle``: commands may block or push: the runner then waits until both servers are idle after each step
and compares everything that arrived, on every connection.
``arrivals``: with ``settle``, whether two connections heard the same although the bytes or their number
differ: ``(argv, ours, theirs) -> bool``, for messages whose order is not defined.
``references``: the servers to compare with; leave redis out where 7.0 works differently altogether.
``databases``: how many databases the state comparison reads after each sequence.
``prologue``: steps before each sequence, for what FLUSHALL leaves.

Nothing here may read a clock or any randomness but ``rng``: a seed is the whole sequence.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.differential.compare import Comparison, Known, encoding, exact, live_keys, near

__all__ = [
    "BAD_INT",
    "BAD_WORD",
    "BIT",
    "COUNT",
    "DB",
    "FIELD",
    "FLOAT",
    "FUTURE_MS",
    "FUTURE_S",
    "INDEX",
    "INT",
    "KEY",
    "LEX_BOUND",
    "MEMBER",
    "NEW_KEY",
    "OWN_KEYS",
    "PATTERN",
    "SCORE",
    "SCORE_BOUND",
    "SIDE",
    "TTL_MS",
    "TTL_S",
    "VALUE",
    "Avoid",
    "Grammar",
    "Known",
    "Rng",
    "Step",
    "Strategy",
    "command",
    "counted",
    "families",
    "load",
    "macro",
    "mostly",
    "one_of",
    "opt",
    "options",
    "pick",
    "seq",
    "some",
    "step",
]  # fmt: skip

Rng = random.Random
Strategy = Callable[[Rng], list[bytes]]
Arg = Strategy | str | bytes | int


class Step(NamedTuple):
    """One command on one connection."""

    argv: tuple[bytes, ...]
    on: int = 0


Group = tuple[Step, ...]  # steps that shrinking keeps together; most have one


def step(*argv: str | bytes | int, on: int = 0) -> Step:
    """A fixed step, for macros."""
    return Step(tuple(word if isinstance(word, bytes) else str(word).encode() for word in argv), on)


# --- combining strategies ---------------------------------------------------------------------------


def _strategy(arg: Arg) -> Strategy:
    if callable(arg):
        return arg
    word = arg if isinstance(arg, bytes) else str(arg).encode()
    if not (word.isalpha() and word.isupper()):
        return lambda rng: [word]
    lower, title = word.lower(), word.title()
    return lambda rng: [word if rng.random() < 0.9 else rng.choice((lower, title))]


def seq(*args: Arg) -> Strategy:
    """All of them, in order."""
    parts = [_strategy(arg) for arg in args]
    return lambda rng: [word for part in parts for word in part(rng)]


def one_of(*args: Arg, weights: Sequence[float] | None = None) -> Strategy:
    """Exactly one of them."""
    parts = [_strategy(arg) for arg in args]
    if weights is None:
        return lambda rng: rng.choice(parts)(rng)
    return lambda rng: rng.choices(parts, weights)[0](rng)


def pick(*words: str | bytes | int) -> Strategy:
    """One of these words, as they are."""
    pool = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return lambda rng: [rng.choice(pool)]


def opt(*args: Arg, p: float = 0.5) -> Strategy:
    """The sequence of them, or nothing."""
    inner = seq(*args)
    return lambda rng: inner(rng) if rng.random() < p else []


def mostly(usual: Arg, rare: Arg, p: float = 0.06) -> Strategy:
    """The first, but with probability ``p`` the second."""
    often, seldom = _strategy(usual), _strategy(rare)
    return lambda rng: seldom(rng) if rng.random() < p else often(rng)


def some(arg: Arg, low: int, high: int) -> Strategy:
    """Between ``low`` and ``high`` times."""
    inner = _strategy(arg)
    return lambda rng: [word for _ in range(rng.randint(low, high)) for word in inner(rng)]


def counted(arg: Arg, low: int, high: int) -> Strategy:
    """A count, then that many (``numkeys key [key ...]``); the count is wrong now and then."""
    inner = _strategy(arg)

    def words(rng: Rng) -> list[bytes]:
        items = [inner(rng) for _ in range(rng.randint(low, high))]
        count = [b"%d" % len(items)] if rng.random() > 0.05 else pick(0, -1, 1, 2, 5, "x")(rng)
        return count + [word for item in items for word in item]

    return words


def options(*args: Arg, p: float = 0.3) -> Strategy:
    """Each of them or not, in random order."""
    parts = [_strategy(arg) for arg in args]

    def words(rng: Rng) -> list[bytes]:
        chosen = [part(rng) for part in parts if rng.random() < p]
        rng.shuffle(chosen)
        return [word for item in chosen for word in item]

    return words


# --- pools ------------------------------------------------------------------------------------------

OWN_KEYS = (b"a", b"b", b"c", b"d")
TYPED_KEYS = (b"w:string", b"w:list", b"w:set", b"w:hash", b"w:zset")
NEW_KEY = pick("a", "b", "c", "d", "e")
KEY = one_of(pick(*OWN_KEYS), pick(*TYPED_KEYS), pick("nokey", b"", b"k\x00\r\n"), weights=(92, 5, 3))
LONG = b"0123456789" * 7  # longer than a listpack's value limit of 64 bytes
BAD_WORD = pick(b"", b"x", b"\x00", b" ", b"-", b"nan", b"1", LONG)
BAD_INT = pick(
    *("", " 1", "1 ", "+1", "01", "-0", "1.5", "abc", "0x10", "1e3", "--1", "9223372036854775808"),
    *("-9223372036854775809", "18446744073709551616", "1\x00"),
)
BIG_INT = pick(
    *("9223372036854775807", "-9223372036854775808", "9223372036854775806", "-9223372036854775807"),
    *("4294967296", "2147483648", "-2147483649"),
)
SMALL_INT = pick(*range(-10, 11))
INT = one_of(SMALL_INT, BIG_INT, BAD_INT, weights=(86, 7, 7))
INDEX = one_of(pick(*range(-7, 8)), BIG_INT, BAD_INT, weights=(94, 3, 3))
COUNT = one_of(pick(*range(-4, 9)), BIG_INT, BAD_INT, weights=(92, 3, 5))
DB = one_of(pick(0, 1, 2), pick(15, 16, -1), BAD_INT, weights=(94, 4, 2))
BIT = pick(0, 1, 2, "x")
SIDE = mostly(one_of("LEFT", "RIGHT"), BAD_WORD, 0.03)
GOOD_FLOAT = pick(
    *("0", "1", "-1", "1.5", "-2.25", "3.0", "10", "100", "0.1", "0.2", "3.14159265358979", "1e3", "1e-7"),
    *("17179869184", "9007199254740993", "123456789.125", "-0.000001", ".5", "5.", "1E2"),
)
ODD_FLOAT = pick(
    *("inf", "-inf", "+inf", "Infinity", "-infinity", "1e308", "-1e308", "5e-324", "2e-308", "0x1p3", "+5"),
    *("-0", "-0.0", "1e17", "1e21", "1e-5", "0.30000000000000004", "123456789012345678901234567890"),
)
BAD_FLOAT = pick(
    *("", "nan", "-nan", "abc", " 1", "1 ", "1_0", "1e400", "-1e400", "1e-400", "1.2.3", "0x", "e1", "1\x00")
)
FLOAT = one_of(GOOD_FLOAT, ODD_FLOAT, BAD_FLOAT, weights=(85, 9, 6))
SCORE = one_of(pick(*range(-3, 6)), GOOD_FLOAT, ODD_FLOAT, BAD_FLOAT, weights=(60, 30, 6, 4))


def _exclusive(rng: Rng) -> list[bytes]:
    word = SCORE(rng)[0]
    return [b"(" + word if rng.random() < 0.3 else word]


SCORE_BOUND = one_of(_exclusive, pick("-inf", "+inf", "(inf", "(", "((1"), weights=(75, 25))
LEX_BOUND = one_of(
    pick("-", "+", "[m0", "(m0", "[m3", "(m3", "[m7", "(m9", "[", "(", "[a", "(z", "[1", "(2"),
    pick("m0", "", "+x", "-x", "++"),
    weights=(95, 5),
)
MEMBER = one_of(
    pick(*(f"m{n}" for n in range(10))),
    pick(*range(-2, 12)),
    pick(b"", b"\x00\r\n\xff", LONG, "1.5", "9223372036854775807", "9223372036854775808", "01"),
    weights=(60, 34, 6),
)
FIELD = MEMBER
VALUE = one_of(
    pick("v0", "v1", "v2", "hello world", "foobar"),
    pick(*range(-3, 12)),
    pick("1.5", "-2.25", "1e3", "0.1", "3.0", "10000000000", "9223372036854775807", "-9223372036854775808"),
    pick(b"", b"\x00\r\n\xff", LONG, LONG * 3, "x" * 44, "x" * 45, " 1", "01", "nan", "inf"),
    weights=(45, 25, 18, 12),
)
PATTERN = pick(
    *(
        "*",
        "m*",
        "?",
        "[a-c]",
        "w:*",
        "m[0-4]",
        "*[^0-5]",
        "nomatch",
        "",
        "\\*",
        "[",
        "a",
        "m?",
        "**",
        "[^a]*",
    )
)
# Deadlines are far off, past, or bad: never near, as two servers do not run at the same instant.
TTL_S = one_of(pick(100, 1000, 100000, 1 << 30), pick(0, -1, -1000), BIG_INT, BAD_INT, weights=(84, 8, 4, 4))
TTL_MS = one_of(pick(100000, 1000000, 1 << 40), pick(0, -1, -1000), BIG_INT, BAD_INT, weights=(84, 8, 4, 4))
FUTURE_S = one_of(
    pick(4102444800, 4102444801, 9999999999), pick(0, 1, -1), BIG_INT, BAD_INT, weights=(84, 8, 4, 4)
)
FUTURE_MS = one_of(
    pick(4102444800000, 4102444800001, 9999999999999), pick(0, 1, -1), BIG_INT, BAD_INT, weights=(84, 8, 4, 4)
)


# --- commands and grammars --------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """One command's name, arguments, and how its replies are compared."""

    name: str
    args: Strategy
    weight: float = 1.0
    compare: Comparison = exact
    on: int | Sequence[int] | None = None

    def make(self, rng: Rng, connections: int) -> Group:
        head = [word.encode() for word in self.name.split()]
        words = self.args(rng)
        luck = 1.0 if self.name.startswith("@") else rng.random()
        if luck < 0.02 and words:
            words = words[: rng.randrange(len(words))]
        elif luck < 0.03:
            words = words + BAD_WORD(rng)
        elif luck < 0.045 and words:
            words[rng.randrange(len(words))] = BAD_WORD(rng)[0]
        if not self.name.startswith("@") and rng.random() < 0.1:
            head = [rng.choice((word.lower(), word.title())) for word in head]
        choice = range(connections) if self.on is None else self.on
        on = choice if isinstance(choice, int) else rng.choice(choice) if len(choice) > 1 else choice[0]
        return (Step((*head, *words), on),)


@dataclass(frozen=True)
class Macro:
    """Several steps that belong together."""

    name: str
    function: Callable[[Rng], Sequence[Step]]
    weight: float = 1.0

    def make(self, rng: Rng, connections: int) -> Group:
        return tuple(self.function(rng))


def command(
    name: str,
    *args: Arg,
    weight: float = 1.0,
    compare: Comparison = exact,
    on: int | Sequence[int] | None = None,
) -> Command:
    """A command of a grammar; see the head of this file."""
    return Command(name, seq(*args), weight, compare, on)


def macro(name: str, function: Callable[[Rng], Sequence[Step]], weight: float = 1.0) -> Macro:
    """A fixed or random series of steps of a grammar."""
    return Macro(name, function, weight)


@dataclass(frozen=True)
class Avoid:
    """Commands not sent while ``server`` is one of the two: it cannot run them, and states would part."""

    server: str
    reason: str
    matches: Callable[[tuple[bytes, ...]], bool]


PROLOGUE: tuple[Step, ...] = (
    step("SET", "w:string", "10"),
    step("RPUSH", "w:list", "1", "m1", "v0"),
    step("SADD", "w:set", "1", "2", "m1"),
    step("HSET", "w:hash", "m1", "1", "f", "v0"),
    step("ZADD", "w:zset", "1", "m1", "2", "m2"),
)

# What every family runs now and then beside its own: keys that vanish, expire, move, or change type.
COMMON: tuple[Command | Macro, ...] = (
    command("DEL", KEY, weight=2),
    command("EXISTS", KEY),
    command("TYPE", KEY),
    command("EXPIRE", KEY, TTL_S),
    command("PERSIST", KEY),
    command("PTTL", KEY, compare=near(2000)),
    command("OBJECT ENCODING", KEY, compare=encoding, weight=2),
    command("RENAME", KEY, KEY, weight=0.5),
    command("COPY", KEY, KEY, opt("REPLACE"), weight=0.5),
    command("SET", KEY, VALUE, weight=0.25),
    command("DBSIZE", weight=0.25, compare=live_keys),
    macro("EXPIRED", lambda rng: _expire_at_once(rng), weight=0.1),
)
COMMON_SHARE = 0.12


def _expire_at_once(rng: Rng) -> list[Step]:
    """A key whose deadline passes before anybody looks: the only use of a near deadline."""
    key = rng.choice(OWN_KEYS)
    return [Step((b"PEXPIRE", key, b"1")), step("@PAUSE", 5), Step((b"EXISTS", key))]


@dataclass(frozen=True)
class Grammar:
    """A family's commands; ``groups`` draws from them."""

    family: str
    commands: Sequence[Command | Macro]
    known: Sequence[Known] = ()
    avoid: Sequence[Avoid] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    connections: int = 1
    settle: bool = False
    databases: int = 1
    references: tuple[str, ...] = ("valkey", "redis")
    arrivals: Callable[[tuple[bytes, ...], list[bytes], list[bytes]], bool] | None = None
    common: Sequence[Command | Macro] = COMMON
    prologue: Sequence[Step] = ()

    def group(self, rng: Rng, servers: frozenset[str] = frozenset()) -> Group:
        """The next steps; none that one of the named servers cannot run."""
        while True:
            source = self.common if self.common and rng.random() < COMMON_SHARE else self.commands
            weights = [entry.weight for entry in source]
            group = rng.choices(source, weights)[0].make(rng, self.connections)
            if not any(
                entry.server in servers and entry.matches(part.argv) for entry in self.avoid for part in group
            ):
                return group

    def comparison(self, argv: tuple[bytes, ...]) -> Comparison:
        """How this command's replies are compared."""
        table = _comparisons(self)
        name = argv[0].upper()
        return table.get(name + b" " + argv[1].upper() if len(argv) > 1 else name) or table.get(name) or exact


_tables: dict[str, dict[bytes, Comparison]] = {}


def _comparisons(grammar: Grammar) -> dict[bytes, Comparison]:
    table = _tables.get(grammar.family)
    if table is None:
        entries = (*grammar.common, *grammar.commands)
        table = _tables[grammar.family] = {
            entry.name.upper().encode(): entry.compare for entry in entries if isinstance(entry, Command)
        }
    return table


def families() -> list[str]:
    """The names of all families that have a grammar."""
    return sorted(path.stem.removeprefix("grammar_") for path in Path(__file__).parent.glob("grammar_*.py"))


def load(family: str) -> Grammar:
    """The grammar of a family."""
    grammar = importlib.import_module(f"tests.differential.grammar_{family}").GRAMMAR
    assert isinstance(grammar, Grammar) and grammar.family == family
    return grammar
