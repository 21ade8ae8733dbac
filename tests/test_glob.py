"""Globs match what the real servers' globs match, corner cases included, and never hang.

A random test prints its seed; KVSTORE_TEST_SEED repeats it.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.glob import compile_glob, compile_scan_glob
from tests.rawclient import Node, RawClient, parse
from tests.servers import Server


def seeded() -> random.Random:
    """A fresh random source whose seed is in the test's output."""
    seed = int(os.environ.get("KVSTORE_TEST_SEED") or random.randrange(1 << 32))
    print("KVSTORE_TEST_SEED =", seed)
    return random.Random(seed)


EXAMPLES: list[tuple[bytes, list[bytes], list[bytes]]] = [  # pattern, what it matches, what not
    (b"", [b""], [b"a"]),
    (b"abc", [b"abc"], [b"", b"ab", b"abcd", b"ABC"]),
    (b"*", [b"a", b"\n", b"a\x00b"], [b""]),
    (b"**", [b"a"], [b""]),
    (b"user:*", [b"user:", b"user:1"], [b"user", b"xuser:"]),
    (b"*:1", [b":1", b"a:1"], [b"1", b":1a"]),
    (b"*mid*", [b"mid", b"amidb"], [b"mi", b""]),
    (b"a*a", [b"aa", b"aba"], [b"a", b"ab"]),
    (b"a*b*c", [b"abc", b"axbxbc"], [b"acb", b"ac"]),
    (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
    (b"[ab]", [b"a", b"b"], [b"c", b"", b"ab"]),
    (b"[^ab]", [b"c", b"^"], [b"a", b""]),
    (b"[a-c]x", [b"ax", b"cx"], [b"dx", b"-x"]),
    (b"[c-a]", [b"a", b"b"], [b"d", b"-"]),
    (b"[a-]", [b"a", b"]", b"^"], [b"-", b"b"]),  # a range up to the bracket, and no end
    (b"[]", [], [b"", b"]", b"[]"]),
    (b"[^]", [b"]", b"a"], [b""]),
    (b"[\\]a]", [b"]", b"a"], [b"\\"]),
    (b"[ab", [b"a", b"b"], [b"[ab", b"["]),
    (b"[", [], [b"[", b""]),
    (b"\\*", [b"*"], [b"a", b"\\*"]),
    (b"a\\", [b"a\\"], [b"a"]),
    (b"[\\", [b"\\"], [b"["]),
    (b"\x00*[\xff]", [b"\x00\xff", b"\x00a\xff"], [b"\xff"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), EXAMPLES)
def test_a_glob_matches_whole_byte_strings(
    pattern: bytes, matching: list[bytes], others: list[bytes]
) -> None:
    matches = compile_glob(pattern)
    assert [subject for subject in matching + others if matches(subject)] == matching


def test_without_case_letters_match_both_ways_but_escaped_members_of_a_class_only_themselves() -> None:
    assert compile_glob(b"MAXmemory*", nocase=True)(b"maxmemory-POLICY")
    assert compile_glob(b"[A-C]?", nocase=True)(b"bX")
    assert compile_glob(b"\\A", nocase=True)(b"a")
    assert not compile_glob(b"[\\A]", nocase=True)(b"a")
    assert not compile_glob(b"@", nocase=True)(b"`")


def test_of_keys_and_scans_a_lone_star_takes_every_name() -> None:
    assert compile_scan_glob(b"*") is None
    two_stars = compile_scan_glob(b"**")
    assert two_stars is not None
    assert not two_stars(b"")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern",
    [b"a*" * 500 + b"b", b"*?" * 500 + b"b", b"*a" * 500 + b"[bc]", b"[ab]*" * 300 + b"b", b"*[^b]a[ab]a*b"],
    ids=["literals", "any", "class last", "classes", "mixed"],
)
def test_a_pattern_of_many_stars_does_not_hang(pattern: bytes) -> None:
    assert not compile_glob(pattern)(b"a" * 5000)
    assert compile_glob(pattern)(b"a" * 5000 + b"b")


@pytest.mark.timeout(20)
def test_a_huge_pattern_costs_little_where_no_subject_is_as_long() -> None:
    for pattern in (b"?" * 300_000, b"\\a" * 300_000, b"[" + b"a-z" * 100_000, b"[a]" * 100_000):
        assert not compile_glob(pattern + b"[^a]bb")(b"a")


@given(st.text("ab*?", max_size=10).map(str.encode), st.lists(st.text("abc", max_size=8).map(str.encode)))
def test_stars_and_question_marks_match_as_a_plain_regular_expression_does(
    pattern: bytes, subjects: list[bytes]
) -> None:
    plain = re.compile(pattern.replace(b"*", b".*").replace(b"?", b"."), re.DOTALL)
    matches = compile_glob(pattern)
    for subject in subjects:
        if subject:  # the empty string is the servers' own affair
            assert matches(subject) == (plain.fullmatch(subject) is not None)


@given(st.binary(max_size=12), st.binary(max_size=12), st.booleans())
def test_any_bytes_are_a_pattern(pattern: bytes, subject: bytes, nocase: bool) -> None:
    assert compile_glob(pattern, nocase)(subject) in (True, False)


@given(st.binary(max_size=20))
def test_an_escaped_string_matches_itself_alone(subject: bytes) -> None:
    matches = compile_glob(b"".join(b"\\%c" % byte for byte in subject))
    assert matches(subject)
    assert not matches(subject + b"x")


# -------------------------------------------------------------- compared with the servers


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RawClient]:
    found: Server = request.getfixturevalue(f"{request.param}_server")
    with found.client() as client:
        client.call("SELECT", "12")
        yield client
    with found.client() as client:  # a new one: the test may have left the other subscribed
        client.pipeline(("SELECT", "12"), ("FLUSHDB",))


def items(reply: bytes) -> list[bytes]:
    nodes: tuple[Node, ...] = parse(reply).items or ()
    return [node.text for node in nodes]


def subjects_of_a_small_alphabet(rnd: random.Random) -> list[bytes]:
    short = itertools.product(b"abcC-]^\\*[?\x00", repeat=2)
    found = {b"", *(bytes(pair) for pair in short), *(b"%c" % byte for byte in b"abcC-]^\\*[?\x00")}
    while len(found) < 500:
        found.add(bytes(rnd.choices(b"aabbc-]^\\*[", k=rnd.randint(3, 7))))
    return sorted(found)


def test_random_patterns_match_the_keys_that_they_match_on_a_server(server: RawClient, heavy: bool) -> None:
    rnd = seeded()
    subjects = subjects_of_a_small_alphabet(rnd)
    server.pipeline(*((b"SET", subject, b"") for subject in subjects))
    patterns = [
        bytes(rnd.choices(b"aabbc--]]^[[[\\\\**?", k=rnd.randint(0, 9)))
        for _ in range(5000 if heavy else 600)
    ]
    patterns += [
        b"*",
        b"**",
        b"[",
        b"[^",
        b"[^]",
        b"[\\",
        b"\\",
        b"*\\",
        b"[--a]",
        b"[z-a]",
        b"a\x00",
        b"[^\x00]*",
    ]
    for pattern in patterns:
        matches = compile_scan_glob(pattern)
        ours = [subject for subject in subjects if matches is None or matches(subject)]
        assert (pattern, ours) == (pattern, sorted(items(server.call("KEYS", pattern))))


def test_the_examples_above_are_what_a_server_does(server: RawClient) -> None:
    for pattern, matching, others in EXAMPLES:
        server.call("FLUSHDB")
        server.pipeline(*((b"SET", subject, b"") for subject in matching + others))
        theirs = set(items(server.call("KEYS", pattern)))
        if pattern == b"*":  # KEYS means by it every key
            theirs.discard(b"")
        assert (pattern, theirs) == (pattern, set(matching))


@pytest.mark.parametrize("stars", [999, 1000, 1001, 1002, 1500])
def test_beyond_a_thousand_stars_nothing_matches_on_either_side(server: RawClient, stars: int) -> None:
    subject = b"a" * 2000
    server.call("SET", subject, b"")
    for pattern in (b"a*" * stars, b"*a" * stars, b"?*" * stars, b"a**" * stars, b"[a]*" * stars):
        ours = compile_glob(pattern)(subject)
        assert (pattern[:8], ours) == (pattern[:8], items(server.call("KEYS", pattern)) == [subject])


def test_a_channel_of_no_name_is_not_matched_by_a_star(server: RawClient) -> None:
    server.call("PSUBSCRIBE", b"*")
    with RawClient(server.sock.getpeername()) as other:
        assert other.call("PUBLISH", b"", b"x") == b":0\r\n"
        assert other.call("PUBLISH", b"a", b"x") == b":1\r\n"
    assert [compile_glob(b"*")(channel) for channel in (b"", b"a")] == [False, True]


def random_member(rnd: random.Random) -> bytes:
    low, high = rnd.choice(b"abcmnzABCMNZ@[`{_-|^19"), rnd.choice(b"abcmnzABCMNZ@[`{_-|^19")
    return rnd.choice([b"%c" % low, b"\\%c" % low, b"%c-%c" % (low, high)])


def random_variation(rnd: random.Random, name: bytes) -> bytes:
    """``name`` with some bytes written in another case, or as a class, escaped, or left to a star."""
    out = bytearray()
    for byte in name:
        letter = b"%c" % byte
        either = rnd.choice([letter, letter.upper()])
        members = b"".join(random_member(rnd) for _ in range(rnd.randint(0, 2)))
        out += rnd.choices(
            [
                letter,
                letter.swapcase(),
                b"\\" + either,
                b"?",
                b"[%b%b]" % (members, either),
                b"[^%b]" % members,
                b"*",
            ],
            [6, 3, 1, 1, 2, 1, 1],
        )[0]
    return bytes(out) + rnd.choice([b"", b"*", b"[", b"\\"])


def test_random_patterns_without_case_match_the_command_names_that_they_match_on_a_server(
    server: RawClient, heavy: bool
) -> None:
    rnd = seeded()
    names = items(server.call("COMMAND", "LIST"))
    for _ in range(5000 if heavy else 500):
        pattern = random_variation(rnd, rnd.choice(names))
        matches = compile_glob(pattern, nocase=True)
        theirs = items(server.call("COMMAND", "LIST", "FILTERBY", "PATTERN", pattern))
        assert (pattern, sorted(filter(matches, names))) == (pattern, sorted(theirs))
