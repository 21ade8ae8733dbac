"""The set commands."""

from __future__ import annotations

import random

from tests.differential.compare import members_of, popped_members, some_page, unordered
from tests.differential.grammar import (
    BAD_WORD,
    COUNT,
    KEY,
    MEMBER,
    NEW_KEY,
    PATTERN,
    Grammar,
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

_KEYS = some(KEY, 1, 4)
_INTEGERS = some(pick(*range(-2, 12)), 1, 6)


def _encodings(rng: random.Random) -> list[Step]:
    """Sets that cross the limits of the encodings, alone and as results."""
    steps = []
    for key in ("a", "b"):
        steps.append(step("DEL", key))
        count = rng.choice((3, 7, 8, 9, 12, 20))
        members = [str(n) for n in range(count)]
        if rng.random() < 0.5:
            members[rng.randrange(count)] = rng.choice(("x", "y" * 70, "1.5"))
        if rng.random() < 0.5:
            steps.append(step("SADD", key, *members))
        else:
            steps += [step("SADD", key, member) for member in members]
        steps.append(step("OBJECT", "ENCODING", key))
    store = rng.choice(("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"))
    steps += [step(store, "c", "a", "b"), step("OBJECT", "ENCODING", "c")]
    return steps


def _scans(rng: random.Random) -> list[Step]:
    return [
        step("DEL", "d"),
        step("SADD", "d", *(f"m{n}" for n in range(rng.choice((3, 40, 200))))),
        step("@SCAN", "SSCAN", "d", *rng.choice(([], ["COUNT", "3"], ["MATCH", "m*1"], ["COUNT", "100"]))),
    ]


GRAMMAR = Grammar(
    "sets",
    [
        command("SADD", KEY, some(MEMBER, 1, 4), weight=5),
        command("SADD", KEY, _INTEGERS, weight=3),
        command("SREM", KEY, some(MEMBER, 1, 4), weight=2),
        command("SCARD", KEY),
        command("SISMEMBER", KEY, MEMBER),
        command("SMISMEMBER", KEY, some(MEMBER, 1, 4)),
        command("SMEMBERS", KEY, weight=2, compare=unordered),
        command("SMOVE", KEY, KEY, MEMBER, weight=2),
        command("SPOP", KEY, opt(COUNT), weight=2, compare=popped_members),
        command("SPOP", KEY, COUNT, BAD_WORD, weight=0.1, compare=popped_members),
        command("SRANDMEMBER", KEY, weight=1, compare=members_of(b"SMEMBERS")),
        command(
            "SRANDMEMBER",
            KEY,
            pick(*range(-6, 20), "x", "-9223372036854775808", "1.5", ""),
            compare=members_of(b"SMEMBERS"),
        ),
        command("SINTER", _KEYS, compare=unordered, weight=2),
        command("SUNION", _KEYS, compare=unordered, weight=2),
        command("SDIFF", _KEYS, compare=unordered, weight=2),
        command("SINTERSTORE", KEY, _KEYS),
        command("SUNIONSTORE", KEY, _KEYS),
        command("SDIFFSTORE", KEY, _KEYS),
        command("SINTERCARD", counted(KEY, 1, 3), options(seq("LIMIT", COUNT), p=0.5), weight=2),
        command("SINTERCARD", counted(KEY, 1, 2), some(BAD_WORD, 1, 2), weight=0.3),
        command(
            "SSCAN",
            KEY,
            one_of(pick(0), pick(0, "x", "-1", ""), weights=(9, 1)),
            options(seq("MATCH", PATTERN), seq("COUNT", COUNT)),
            compare=some_page,
        ),
        command("DEL", NEW_KEY, weight=0.7),
        macro("ENCODINGS", _encodings, weight=0.3),
        macro("SCANS", _scans, weight=0.1),
    ],
    # More integers than members of a listpack, as by default: otherwise the encoding of a result depends
    # on the order in which a hash table gives its members.
    config={"set-max-intset-entries": "12", "set-max-listpack-entries": "8"},
)
