"""The primitives of encodings: fast and pure ways agree, bounds hold at every end, nothing is believed unseen."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvstore.engine import codec, packed
from kvstore.engine.codec import (
    Reader,
    compact_string_of,
    crc64,
    crc64_pure,
    length_of,
    lzf_compress,
    lzf_decompress,
    lzf_decompress_pure,
    pairs_of,
    pieces_of,
    scored_of,
    string_of,
    strings_of,
)
from kvstore.errors import FormatError
from tests import legacy
from tests.seeds import new_seed

CHECK = 0xE9C6D914C4B8D9CA  # the checksum of "123456789" by the published parameters
Result = bytes | type[FormatError]


@pytest.fixture
def seed() -> int:
    return new_seed()


@pytest.fixture(params=["fast", "pure"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the libraries and without."""
    name: str = request.param
    if name == "pure":
        monkeypatch.setattr(codec, "_calculate", codec.crc64_pure)
        monkeypatch.setattr(codec, "_lzf", None)
    elif codec._load_crc64() is codec.crc64_pure or codec._lzf is None:
        pytest.skip("the libraries are not installed")
    return name


def outcome(function: Callable[..., bytes], *args: Any) -> Result:
    try:
        return function(*args)
    except FormatError:
        return FormatError


# ------------------------------------------------------------------------------------ checksum


def test_the_checksum_is_the_published_one(both_ways: str) -> None:
    assert crc64(b"123456789") == CHECK
    assert crc64(b"") == 0 and crc64(b"", 77) == 77


@given(data=st.binary(max_size=300), cut=st.integers(0, 300), before=st.integers(0, 2**64 - 1))
def test_the_checksum_of_parts_is_that_of_the_whole(data: bytes, cut: int, before: int) -> None:
    for one in (crc64, crc64_pure):
        assert one(data[cut:], one(data[:cut], before)) == one(data, before)
    assert crc64(data, before) == crc64_pure(data, before)
    assert crc64(memoryview(data)) == crc64_pure(memoryview(data)) == crc64(data)


def test_checksums_agree_on_large_data_and_odd_cuts(seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes((1 << 18) + 3)
    cuts = sorted([0, len(data), *(rng.randrange(len(data)) for _ in range(40))])
    crc = 0
    for start, stop in pairwise(cuts):
        crc = rng.choice((crc64, crc64_pure))(memoryview(data)[start:stop], crc)
    assert crc == crc64(data) == crc64_pure(data)


# --------------------------------------------------------------------------------- compression


def texts(rng: random.Random) -> Iterator[bytes]:
    """Data of all sizes, from what repeats much to what does not at all."""
    for size in (1, 20, 21, 64, 300, 5000, 70_000):
        yield bytes(size)
        yield rng.randbytes(size)
        yield bytes(rng.choices(b"ab", k=size))
        yield b"".join(rng.choices([b"word ", b"other ", rng.randbytes(3)], k=size))[:size]
        at = rng.randrange(size)
        yield (rng.randbytes(at) * 3)[:size]  # copies from as far back as the format goes


def test_both_decompressors_read_what_the_library_writes(seed: int) -> None:
    if codec._lzf is None:
        pytest.skip("the library is not installed")
    compressed = 0
    for text in texts(random.Random(seed)):
        shorter = lzf_compress(text)
        if shorter is not None:
            compressed += 1
            assert len(shorter) <= len(text) - 4
            assert lzf_decompress(shorter, len(text)) == lzf_decompress_pure(shorter, len(text)) == text
    assert compressed > 10


@given(data=st.lists(st.sampled_from([b"a", b"b", b"c" * 5, b"d" * 260, b"xyz"])).map(b"".join))
def test_what_others_compressed_is_read_as_a_string(data: bytes) -> None:
    """Also where they do it worse than any library would."""
    assert Reader(legacy.squeezed(data)).string() == data
    start = len(legacy.length(len(data)))
    assert (
        lzf_decompress_pure(legacy.squeezed(data)[1 + 2 * start :], len(data)) == data
        if len(data) < 1
        else True
    )


def lzf_streams() -> st.SearchStrategy[bytes]:
    """Bytes that are often what compressed data looks like."""
    literal = st.binary(min_size=1, max_size=32).map(lambda b: bytes((len(b) - 1,)) + b)
    short = st.tuples(st.integers(1, 6), st.integers(0, 40)).map(lambda t: bytes((t[0] << 5, t[1])))
    long = st.tuples(st.integers(0, 255), st.integers(0, 40)).map(lambda t: bytes((7 << 5, *t)))
    parts = st.lists(st.one_of(literal, short, long), max_size=8).map(b"".join)
    return st.one_of(parts, st.tuples(literal, parts).map(b"".join), st.binary(max_size=40))


@given(data=lzf_streams(), size=st.integers(0, 3000), cut=st.integers(0, 3))
@example(data=b"\0a", size=0, cut=0)
@example(data=b"", size=0, cut=0)
@example(data=b"\x20\x00", size=3, cut=0)
@example(data=b"\xe0", size=9, cut=0)
def test_decompressors_agree_on_what_is_wrong(data: bytes, size: int, cut: int) -> None:
    data = data[: len(data) - cut]
    # The true size, which chance would not meet, and others.
    for claimed in {size, *(n for n in range(60))}:
        found = outcome(lzf_decompress_pure, data, claimed)
        assert found is FormatError or len(found) == claimed
        if claimed <= 88 * len(data):
            assert outcome(lzf_decompress, data, claimed) == found


def test_bombs_are_refused_before_memory_is_reserved(both_ways: str) -> None:
    zeros = b"\0\0" + b"\xe0\xff\0" * 1000  # a byte, and a thousand times the longest copy
    assert lzf_decompress(zeros, 1 + 264 * 1000) == bytes(1 + 264 * 1000)
    tracemalloc.start()
    for packed_bytes, size in ((b"\0a", 1 << 40), (zeros, 1 << 62), (zeros, len(zeros) * 88 + 1), (b"", 1)):
        with pytest.raises(FormatError):
            lzf_decompress(packed_bytes, size)
        with pytest.raises(FormatError):
            Reader(b"\xc3" + length_of(len(packed_bytes)) + length_of(size) + packed_bytes).string()
    # One that is not as long as it says ends as soon as it is longer.
    with pytest.raises(FormatError):
        lzf_decompress(zeros, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_strings_are_compressed_only_where_that_is_shorter(both_ways: str) -> None:
    for text in (b"", b"a" * 20, random.Random(1).randbytes(300)):
        assert compact_string_of(text) == string_of(text)
    packed_string = compact_string_of(b"a" * 300)
    assert (len(packed_string) < 40) == (both_ways == "fast")
    assert Reader(packed_string).string() == b"a" * 300


# --------------------------------------------------------------------------- lengths and strings


EDGES = [0, 1, 63, 64, 511, 512, 16383, 16384, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]


@given(n=st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 64) - 1)))
def test_a_length_is_read_from_every_form_that_holds_it(n: int) -> None:
    for form, most in ((1, 63), (2, 16383), (5, (1 << 32) - 1), (9, (1 << 64) - 1)):
        if n <= most:
            reader = Reader(legacy.length(n, form) + b"tail")
            assert (reader.length(), reader.left()) == (n, 4)
    # The shortest is written.
    assert length_of(n) == legacy.length(n)


def test_no_other_byte_begins_a_length() -> None:
    for first in range(0x82, 0x100):
        with pytest.raises(FormatError, match=f"no length begins with byte 0x{first:02x} at offset 0"):
            Reader(bytes((first,)) + bytes(9)).length()
    for first in range(0xC4, 0x100):
        with pytest.raises(FormatError, match=f"no string begins with byte 0x{first:02x} at offset 0"):
            Reader(bytes((first,)) + bytes(9)).string()


@given(n=st.integers(-(1 << 31), (1 << 31) - 1))
def test_strings_that_are_integers_are_their_digits(n: int) -> None:
    for width in (1, 2, 4):
        if -(1 << 8 * width - 1) <= n < 1 << 8 * width - 1:
            assert Reader(legacy.integer(n, width)).string() == b"%d" % n


words = st.lists(
    st.one_of(st.binary(max_size=5), st.sampled_from([b"x" * n for n in (63, 64, 511, 512, 16384)]))
)


@given(words=words)
def test_strings_one_by_one_and_together_are_the_same(words: list[bytes]) -> None:
    data = b"".join(legacy.string(word) for word in words)
    assert strings_of(words) == data == b"".join(map(string_of, words))
    assert Reader(data).strings(len(words)) == words
    reader = Reader(data)
    assert [reader.string() for _ in words] == words and reader.left() == 0
    assert Reader(strings_of(words, compress=True)).strings(len(words)) == words
    pairs = list(zip(words, reversed(words), strict=True))
    flat = [word for pair in pairs for word in pair]
    for compress in (False, True):
        assert Reader(pairs_of(pairs, compress)).strings(len(flat)) == flat
        reader = Reader(scored_of([(word, 1.5) for word in words], compress))
        assert [(reader.string(), reader.double()) for _ in words] == [(word, 1.5) for word in words]


@pytest.mark.parametrize("size", [1, 128, 129, 5000])
def test_large_values_are_written_in_pieces_of_about_one_size(size: int) -> None:
    rng = random.Random(size)
    elements = [rng.randbytes(rng.randrange(200)) for _ in range(size)]
    pieces = list(pieces_of(length_of(size), elements, strings_of, False))
    assert b"".join(pieces) == length_of(size) + strings_of(elements)
    assert max(map(len, pieces)) < 2 * codec.PIECE_BYTES
    assert len(pieces) == 1 or size > codec.PIECE_COUNT


# ------------------------------------------------------------------------------------- numbers


def test_old_scores_are_digits_or_codes() -> None:
    for digits in (b"0", b"-0.5", b"17", b"1.7976931348623157e+308", b"4.9406564584124654e-324", b"0.1"):
        assert Reader(legacy.ascii_double(digits)).ascii_double() == float(digits)
    assert Reader(b"\xfe").ascii_double() == float("inf")
    assert Reader(b"\xff").ascii_double() == float("-inf")
    not_a_number = Reader(b"\xfd").ascii_double()
    assert not_a_number != not_a_number
    for bad in (b"", b"x", b"1 ", b" 1", b"1_0", b"nan", b"1,5"):
        with pytest.raises(FormatError, match="a score is no number at offset 0"):
            Reader(legacy.ascii_double(bad)).ascii_double()


# ---------------------------------------------------------------------------------------- bounds

READS: dict[str, tuple[Callable[[Reader], Any], list[bytes]]] = {
    "byte": (Reader.byte, [b"x"]),
    "take": (lambda reader: reader.take(3), [b"abc"]),
    "skip": (lambda reader: reader.skip(3), [b"abc"]),
    "length": (Reader.length, [legacy.length(9, form) for form in (1, 2, 5, 9)]),
    "string": (
        Reader.string,
        [
            *(legacy.length(9, form) + b"123456789" for form in (1, 2, 5, 9)),
            *(legacy.integer(-5, width) for width in (1, 2, 4)),
            legacy.squeezed(b"a" * 40),
        ],
    ),
    "strings": (
        lambda reader: reader.strings(3),
        [b"\1a\0\2bc", b"\1a\0" + legacy.integer(7, 2), legacy.squeezed(b"a" * 40) * 3],
    ),
    "count": (lambda reader: reader.take(reader.count(2) * 2), [b"\3aabbcc", b"\x40\3aabbcc"]),
    "packed": (lambda reader: reader.packed(packed.listpack), [legacy.string(legacy.listpack([1, b"ab"]))]),
    "double": (Reader.double, [bytes(8)]),
    "ascii_double": (Reader.ascii_double, [b"\x030.5"]),
    "u16le": (Reader.u16le, [bytes(2)]),
    "u32le": (Reader.u32le, [bytes(4)]),
    "u64le": (Reader.u64le, [bytes(8)]),
    "i64le": (Reader.i64le, [bytes(8)]),
}


@pytest.mark.parametrize("name", READS)
def test_nothing_is_read_past_the_end(name: str) -> None:
    """Neither that of the data nor one before it, with more bytes there that would fit."""
    read, wholes = READS[name]
    for whole in wholes:
        reader = Reader(b"?" + whole + whole, 1, 1 + len(whole))
        read(reader)
        assert reader.pos == 1 + len(whole)
        for end in range(len(whole)):
            for data in (whole[:end], whole + whole):
                reader = Reader(b"?" + data, 1, 1 + end)
                with pytest.raises(FormatError) as caught:
                    read(reader)
                assert caught.value.offset is not None and 1 <= caught.value.offset <= 1 + end
                assert 1 <= reader.pos <= 1 + end


def test_every_method_that_reads_has_its_bounds_tested() -> None:
    methods = {name for name, each in vars(Reader).items() if callable(each) and not name.startswith("_")}
    assert methods - READS.keys() == {"left", "short"}


@given(data=st.binary(max_size=40), start=st.integers(0, 40), end=st.integers(0, 40))
def test_any_bytes_are_read_within_bounds_or_refused(data: bytes, start: int, end: int) -> None:
    end = min(end, len(data))
    start = min(start, end)
    for read, _ in READS.values():
        reader = Reader(data, start, end)
        try:
            read(reader)
        except FormatError as error:
            assert error.offset is not None and start <= error.offset <= end
        assert start <= reader.pos <= end


@given(count=st.integers(0, (1 << 64) - 1), least=st.integers(1, 100), tail=st.integers(0, 300))
def test_a_count_is_compared_with_what_is_left(count: int, least: int, tail: int) -> None:
    reader = Reader(legacy.length(count) + bytes(tail))
    if count * least <= tail:
        assert reader.count(least) == count
    else:
        with pytest.raises(FormatError, match="at offset 0"):
            reader.count(least)


def test_many_strings_are_not_believed_unseen() -> None:
    with pytest.raises(FormatError, match="cannot be in the 3 bytes left"):
        Reader(bytes(3)).strings(1 << 60)
