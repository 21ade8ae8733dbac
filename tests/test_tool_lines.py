"""Keys as lines of JSON, and the bar that shows progress."""

from __future__ import annotations

import base64
import io
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.engine.context import Limits
from kvstore.engine.types import TYPES
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.payload import dump_payload
from kvstore.engine.types.set import filled
from kvstore.engine.types.zset import ZSet
from kvstore.errors import FormatError
from kvstore.tools.lines import Function, Key, function_line, key_line, parse_line
from kvstore.tools.progress import Progress, count_of, size_of

LIMITS = Limits()
words = st.one_of(
    st.binary(max_size=30), st.text(max_size=10).map(lambda text: text.encode("utf-8", "ignore"))
)
scores = st.floats(allow_nan=False)
deadlines = st.integers(0, (1 << 46) - 1)


@st.composite
def hashes(draw: st.DrawFn) -> Hash:
    fields = draw(st.dictionaries(words, words, min_size=1, max_size=8))
    made = Hash.sized(fields, LIMITS)
    for field in draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)):
        made.expire(field, draw(deadlines))
    return made


values = st.one_of(
    words,
    st.lists(words, min_size=1, max_size=8).map(lambda elements: List.sized(elements, LIMITS)),
    st.lists(words, min_size=1, max_size=8, unique=True).map(lambda members: filled(members, LIMITS)),
    st.dictionaries(words, scores, min_size=1, max_size=8).map(lambda members: ZSet.sized(members, LIMITS)),
    hashes(),
)


def line_of(value: Any, db: int = 0, key: bytes = b"k", deadline_ms: int | None = None) -> bytes:
    line = b"".join(key_line(db, key, value, deadline_ms))
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return line


@settings(max_examples=400, deadline=None)
@given(values, st.integers(0, 15), words, st.none() | st.integers(-(1 << 63), (1 << 63) - 1))
def test_what_is_written_reads_back_as_it_was(value: Any, db: int, key: bytes, deadline: int | None) -> None:
    line = line_of(value, db, key, deadline)
    found = parse_line(line, LIMITS)
    assert isinstance(found, Key)
    assert (found.db, found.key, found.deadline_ms) == (db, key, deadline)
    record = TYPES[type(value)]
    assert type(found.value) is type(value) and record.digest(found.value) == record.digest(value)
    assert record.encoding(found.value, LIMITS) == record.encoding(value, LIMITS)
    record.check(found.value)
    # In the same order, and with the same digits and signs.
    assert line_of(found.value, db, key, deadline) == line


def test_lines_are_for_people_and_other_programs() -> None:
    made = Hash.sized({b"name": b"Ann", b"mail": "ä@b".encode()}, LIMITS)
    made.expire(b"mail", 1900000000000)
    assert line_of(made, 3, b"user:7", 1900000000001).decode() == (
        '{"db": 3, "key": "user:7", "type": "hash", "expires_at_ms": 1900000000001, "value": {"name": "Ann", "mail": '
        '"ä@b"}, "field_deadlines": {"mail": 1900000000000}}\n'
    )
    assert json.loads(line_of(Hash.sized({b"\xff": b"1"}, LIMITS)))["value"] == [[{"base64": "/w=="}, "1"]]
    zset = ZSet.sized({b"a": 1.1, b"b": math.inf, b"c": -math.inf, b"d": 5e-324, b"e": 3.0}, LIMITS)
    found = json.loads(line_of(zset))["value"]
    assert found == [["a", 1.1], ["b", "inf"], ["c", "-inf"], ["d", 5e-324], ["e", 3.0]]
    assert json.loads(line_of(b"\x80\n"))["value"] == {"base64": "gAo="}


def test_large_values_are_written_in_pieces() -> None:
    large = Hash.sized({b"%d" % number: b"x" for number in range(3500)}, LIMITS)
    pieces = list(key_line(0, b"k", large, None))
    assert 4 <= len(pieces) <= 6
    found = parse_line(b"".join(pieces), LIMITS)
    assert isinstance(found, Key) and found.value == large


def test_libraries_of_functions_have_lines_too() -> None:
    source = b"#!lua name=lib\nredis.register_function('f', function() return '\xff' end)"
    line = function_line(b"lib", source)
    assert parse_line(line, LIMITS) == Function(b"lib", source)
    assert line.count(b"\n") == 1


def test_any_value_may_be_given_as_dump_gives_it() -> None:
    made = Hash.sized({b"a": b"\xff", b"b": b"2"}, LIMITS)
    made.expire(b"a", 1900000000000)
    for value, name in ((made, "hash"), (List.sized([b"x", b"y"], LIMITS), "list"), (b"text", "string")):
        payload = base64.b64encode(dump_payload(value)).decode()
        line = {"db": 0, "key": "k", "type": name, "payload": payload}
        found = parse_line(json.dumps(line).encode(), LIMITS)
        assert isinstance(found, Key)
        assert TYPES[type(value)].digest(found.value) == TYPES[type(value)].digest(value)
        for wrong, why in (
            ({**line, "type": "zset"}, f"the payload of a {name}, and not of a zset"),
            ({**line, "payload": "zz" + payload[2:]}, "is damaged"),
            ({**line, "payload": ""}, "is damaged"),
            ({**line, "payload": 7}, "no 'payload' in base64"),
            ({**line, "value": "v"}, "a member 'value'"),
        ):
            with pytest.raises(FormatError, match=why):
                parse_line(json.dumps(wrong).encode(), LIMITS)


BAD = {
    "{": "no JSON",
    "[]": "not an object",
    '{"db": 0}': "no member 'key'",
    '{"key": "k", "type": "string", "value": "v"}': "no member 'db'",
    '{"db": 0, "key": "k", "type": "string"}': "no member 'value'",
    '{"db": 0, "key": "k", "type": "strong", "value": "v"}': "the type 'strong', which is unknown",
    '{"db": 0, "key": "k", "type": ["string"], "value": "v"}': "which is unknown",
    '{"db": true, "key": "k", "type": "string", "value": "v"}': "'db' is no integer",
    '{"db": -1, "key": "k", "type": "string", "value": "v"}': "'db' is no integer",
    '{"db": 0, "key": 7, "type": "string", "value": "v"}': "'key' is neither a string",
    '{"db": 0, "key": "\\ud800", "type": "string", "value": "v"}': "half a surrogate pair",
    '{"db": 0, "key": {"base64": "*"}, "type": "string", "value": "v"}': "bad base64",
    '{"db": 0, "key": {"base64": "é"}, "type": "string", "value": "v"}': "bad base64",
    '{"db": 0, "key": "k", "type": "string", "value": 1}': "'value' is neither a string",
    '{"db": 0, "key": "k", "type": "string", "value": "v", "ttl": 5}': "a member 'ttl', which is unknown",
    '{"db": 0, "key": "k", "key": "l", "type": "string", "value": "v"}': "one name twice",
    '{"db": 0, "key": "k", "type": "string", "value": "v", "expires_at_ms": 1.5}': "'expires_at_ms' is no integer",
    '{"db": 0, "key": "k", "type": "string", "value": "v", "field_deadlines": {}}': "of what is no hash",
    '{"db": 0, "key": "k", "type": "list", "value": []}': "a list without elements",
    '{"db": 0, "key": "k", "type": "list", "value": "v"}': "'value' is no array",
    '{"db": 0, "key": "k", "type": "set", "value": ["a", {"base64": "YQ=="}]}': "has 'a' twice",
    '{"db": 0, "key": "k", "type": "hash", "value": {"a": "1", "a": "2"}}': "one name twice",
    '{"db": 0, "key": "k", "type": "hash", "value": [["a", "1"], ["a", "2"]]}': "has 'a' twice",
    '{"db": 0, "key": "k", "type": "hash", "value": [["a"]]}': "no pair",
    '{"db": 0, "key": "k", "type": "hash", "value": {"a": "1"}, "field_deadlines": {"b": 1}}': "not there",
    '{"db": 0, "key": "k", "type": "hash", "value": {"a": "1"}, "field_deadlines": {"a": -1}}': "no integer",
    '{"db": 0, "key": "k", "type": "zset", "value": {"a": 1}}': "no array of",
    '{"db": 0, "key": "k", "type": "zset", "value": [["a", NaN]]}': "no JSON",
    '{"db": 0, "key": "k", "type": "zset", "value": [["a", "nan"]]}': "a score that is neither",
    '{"db": 0, "key": "k", "type": "zset", "value": [["a", null]]}': "a score that is neither",
    '{"db": 0, "key": "k", "type": "zset", "value": [["a", 1e999]]}': "too large",
    '{"db": 0, "key": "k", "type": "zset", "value": [["a", 1%s]]}' % ("0" * 400): "too large",
    '{"db": 0, "key": "k", "type": "zset", "value": [["a", 1%s]]}' % ("0" * 5000): "too long",
    '{"function": "f"}': "no member 'source'",
    '{"function": "f", "source": "s", "db": 1}': "a member 'db'",
    "[" * 100_000: "too many brackets",
}  # fmt: skip


@pytest.mark.parametrize("line", BAD, ids=[f"{at}-{why}" for at, why in enumerate(BAD.values())])
def test_a_bad_line_is_refused_with_the_reason(line: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_line(line.encode(), LIMITS)
    assert BAD[line] in str(refused.value)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(FormatError, match="no UTF-8"):
        parse_line(b'{"db": 0, "key": "\xff", "type": "string", "value": ""}', LIMITS)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_lines_raise_nothing_but_the_error_of_their_format(seed: int) -> None:
    rng = random.Random(seed)
    lines = [
        line_of(b"text"),
        line_of(Hash.sized({b"a": b"\xff", b"\xfe": b"2"}, LIMITS), deadline_ms=5),
        line_of(ZSet.sized({b"a": 1.5, b"b": math.inf}, LIMITS)),
        function_line(b"f", b"s"),
    ]
    read = 0
    for _ in range(3000):
        line = bytearray(rng.choice(lines))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(line))
            how = rng.random()
            if how < 0.4:
                line[at] = rng.randrange(256)
            elif how < 0.7:
                del line[at : at + rng.randint(1, 4)]
            else:
                line[at:at] = rng.choice((b"{", b"[", b'"', b"9", b",", b"null", b"true", b"\\", b"1e5"))
        try:
            parse_line(bytes(line), LIMITS)
            read += 1
        except FormatError:
            pass
    assert 0 < read < 1500


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_how_much_how_fast_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    now = 0.0
    terminal = Terminal()
    with Progress("loading dump.rdb", 400 << 20, stream=terminal, clock=lambda: now) as progress:
        assert progress.shown
        progress.update(1 << 20)
        assert terminal.getvalue() == ""  # what is over in a blink shows nothing
        now = 1.0
        progress.update(100 << 20, 1_234_567)
        assert terminal.getvalue() == (
            "\rloading dump.rdb  [######..................]   25%  100 MB of 400 MB  1,234,567 keys  100 MB/s  3 s left"
        )
        now = 1.05
        progress.update(120 << 20, 1_300_000)
        assert terminal.getvalue().count("\r") == 1  # not as often as it is told
        now = 4.0
        progress.update(400 << 20)
        assert (
            terminal.getvalue()
            .split("\r")[-1]
            .startswith("loading dump.rdb  [########################]  100%")
        )
    assert terminal.getvalue().endswith(" \r")  # and is gone


def test_the_bar_fits_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ticks = iter([0.0, 9.0])
    terminal = Terminal()
    progress = Progress("x" * 100, 10, stream=terminal, clock=lambda: next(ticks))
    progress.update(5)
    assert len(terminal.getvalue()) == 40
    progress.close()
    progress.close()


def test_nothing_is_shown_where_there_is_no_terminal() -> None:
    for stream in (io.StringIO(), Terminal()):
        if isinstance(stream, Terminal):
            stream.close()
        progress = Progress("x", 10, stream=stream, clock=lambda: 1e9)
        progress.update(5)
        progress.close()
        assert not progress.shown
        assert stream.closed or stream.getvalue() == ""


def test_sizes_and_counts_for_people() -> None:
    shown = [
        size_of(count) for count in (0, 999, 1000, 1023, 1536, 99 << 10, 150 << 20, 1_400_000_000, 9 << 50)
    ]
    assert shown == ["0 B", "999 B", "1.0 KB", "1.0 KB", "1.5 KB", "99.0 KB", "150 MB", "1.3 GB", "9216 TB"]
    assert count_of(1234567) == "1,234,567"
