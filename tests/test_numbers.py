"""Numbers are read and printed as the real servers do, digit for digit.

Examples that need no server come first; below them the same functions are compared with running
servers over random values. A random test prints its seed; KVSTORE_TEST_SEED repeats it.
"""

from __future__ import annotations

import math
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore import errors, numbers
from kvstore.errors import ResponseError
from tests.rawclient import RawClient
from tests.servers import Server

Command = tuple[bytes, ...]


def seeded() -> random.Random:
    """A fresh random source whose seed is in the test's output."""
    seed = int(os.environ.get("KVSTORE_TEST_SEED") or random.randrange(1 << 32))
    print("KVSTORE_TEST_SEED =", seed)
    return random.Random(seed)


# ------------------------------------------------------------------------------ integers


@given(st.integers(numbers.INT64_MIN, numbers.INT64_MAX))
def test_every_int64_reads_back(value: int) -> None:
    assert numbers.parse_int(b"%d" % value) == value
    assert numbers.as_int(value) == numbers.as_int(str(value)) == numbers.as_int(b"%d" % value) == value


NOT_INTEGERS = [
    *(b"", b"-", b"+1", b" 1", b"1 ", b"\t1", b"1\n", b"01", b"-01", b"-0", b"00", b"1_000", b"1.0", b"1e3"),
    *(
        b"0x10",
        b"abc",
        b"--1",
        b"1\x00",
        b"\xff",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"9" * 5000,
    ),
]


@pytest.mark.parametrize("raw", NOT_INTEGERS, ids=lambda raw: repr(raw[:24]))
def test_what_is_not_the_canonical_spelling_of_an_int64_is_refused(raw: bytes) -> None:
    assert numbers.parse_int(raw) is None


@given(st.binary(max_size=6) | st.text("0123456789+-_ .", max_size=22).map(str.encode))
def test_an_integer_is_exactly_what_prints_back_the_same(raw: bytes) -> None:
    value = numbers.parse_int(raw)
    if value is not None:
        assert b"%d" % value == raw


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, "1.0", b"x", 1.5, 2.0, True, None, [1]])
def test_as_int_refuses_with_the_text_that_was_asked_for(value: object) -> None:
    with pytest.raises(ResponseError, match=r"^ERR value is not an integer or out of range$"):
        numbers.as_int(value)
    with pytest.raises(ResponseError, match=r"^ERR other$"):
        numbers.as_int(value, "ERR other")


# ------------------------------------------------------------------------------- doubles

FLOATS = [
    *[(b"5", 5.0), (b"+5", 5.0), (b"-5", -5.0), (b".5", 0.5), (b"5.", 5.0), (b"0012", 12.0), (b"1E+5", 1e5)],
    *[
        (b"inf", math.inf),
        (b"+INF", math.inf),
        (b"-Infinity", -math.inf),
        (b"5e-324", 5e-324),
        (b"0e9999", 0.0),
    ],
    *[(b"0x1p3", 8.0), (b"0X.8", 0.5), (b"-0x1.8P-1", -0.75), (b"0x10", 16.0), (b"0x1p-1074", 5e-324)],
    (b"0x0p-99999999999999999999", 0.0),
]
NOT_FLOATS = [
    *(
        b"",
        b" 1",
        b"1 ",
        b"\x0b1",
        b"\x001",
        b"1\x00",
        b".",
        b"e5",
        b"1e",
        b"1e+",
        b"--1",
        b"1,5",
        b"1_0",
        b"1f",
    ),
    *(
        b"nan",
        b"-NaN",
        b"nan(1)",
        b"infin",
        b"0x",
        b"0x.p1",
        b"0x1p",
        b"0x1_1",
        b" 0x1",
        b"abc",
        b"\xff",
        b"\xd9\xa1",
    ),
    *(b"1e400", b"-1e400", b"1e-400", b"2e-324", b"0x1p1024", b"0x1p-1075", b"0x1p99999999999999999999"),
]


@pytest.mark.parametrize(("raw", "value"), FLOATS)
def test_a_double_is_read_in_the_syntax_of_strtod(raw: bytes, value: float) -> None:
    assert numbers.parse_float(raw) == value
    assert numbers.as_float(raw) == numbers.as_float(raw.decode()) == value


@pytest.mark.parametrize("raw", NOT_FLOATS)
def test_what_strtod_or_the_range_refuses_is_no_double(raw: bytes) -> None:
    assert numbers.parse_float(raw) is None
    with pytest.raises(ResponseError, match=r"^ERR value is not a valid float$"):
        numbers.as_float(raw)


def test_as_float_takes_numbers_but_no_nan() -> None:
    assert numbers.as_float(3) == 3.0
    assert type(numbers.as_float(3)) is float
    assert numbers.as_float(math.inf) == math.inf
    for bad in (math.nan, 10**400, True, None):
        with pytest.raises(ResponseError, match=r"^ERR min or max is not a float$"):
            numbers.as_float(bad, "ERR min or max is not a float")


def test_a_negative_zero_keeps_its_sign() -> None:
    assert math.copysign(1, numbers.as_float(b"-0")) == -1
    assert numbers.format_double(-0.0) == b"-0"
    assert numbers.format_double(0.0) == b"0"


PRINTED = [
    *[
        (3.0, b"3"),
        (0.1, b"0.1"),
        (-2.5, b"-2.5"),
        (math.inf, b"inf"),
        (-math.inf, b"-inf"),
        (math.nan, b"nan"),
    ],
    *[(1e8, b"100000000"), (1e17, b"100000000000000000"), (2.0**62, b"4611686018427387904")],
    *[(2.0**63, b"9223372036854776000"), (1e20, b"1e+20"), (1e21, b"1e+21"), (1.5e300, b"1.5e+300")],
    *[(0.001, b"0.001"), (1e-6, b"0.000001"), (1e-7, b"1e-7"), (5e-324, b"5e-324"), (-1e-9, b"-1e-9")],
    *[(17000000.12345678, b"1.700000012345678e+7"), (1700000000.123456, b"1700000000.123456")],
]


@pytest.mark.parametrize(("value", "text"), PRINTED)
def test_a_double_prints_shortest_with_an_exponent_only_far_from_one(value: float, text: bytes) -> None:
    assert numbers.format_double(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.327159299783259, b"0.32715929978325903"),  # two digits more than needed
        (858.579916696363, b"858.5799166963629"),
        (344.9752364484211, b"344.97523644842107"),
    ],
)
def test_a_double_prints_the_server_s_digits_where_they_are_not_the_shortest(
    value: float, text: bytes
) -> None:
    assert numbers.format_double(value) == text


@given(st.floats(allow_nan=False))
def test_every_printed_double_reads_back(value: float) -> None:
    for printed in (numbers.format_double(value), numbers.format_double17(value)):
        back = numbers.parse_float(printed)
        assert back is not None
        assert (back, math.copysign(1, back)) == (value, math.copysign(1, value))


@given(st.integers(-(10**15), 10**15), st.integers(1, 3))
def test_the_short_way_for_few_decimals_prints_what_the_long_way_does(number: int, decimals: int) -> None:
    value = number / 10**decimals
    if not value.is_integer():
        assert numbers.format_double(value) == numbers._format_long.__wrapped__(value)


def test_older_servers_print_seventeen_digits() -> None:
    assert numbers.format_double17(0.1) == b"0.10000000000000001"
    assert numbers.format_double17(1e17) == b"1e+17"
    assert numbers.format_double17(3.0) == b"3"
    assert numbers.format_double17(-math.inf) == b"-inf"


# -------------------------------------------------------------------------- long doubles


@pytest.mark.parametrize(
    ("current", "increment", "total"),
    [
        *[(b"10.5", b"0.1", b"10.6"), (b"0", b"3", b"3"), (b"5.0e3", b"2.0e2", b"5200"), (b"1", b"-1", b"0")],
        *[(b"0", b"-1e-30", b"0"), (b"-0", b"0", b"0"), (b"3", b"-1.5", b"1.5"), (b"0x10", b".5", b"16.5")],
        (b"0", b"1.23456789012345678", b"1.23456789012345678"),
        (b"18446744073709551615", b"1", b"18446744073709551616"),
        (b"18446744073709551616", b"1", b"18446744073709551616"),  # 65 bits: the tie goes to even
        (b"18446744073709551616", b"3", b"18446744073709551620"),
    ],
)
def test_a_float_increment_adds_in_64_bits_of_mantissa(
    current: bytes, increment: bytes, total: bytes
) -> None:
    assert numbers.incr_long_double(current, increment) == total


@pytest.mark.parametrize(("current", "increment"), [(b"inf", b"1"), (b"1", b"-inf"), (b"1e4932", b"1e4932")])
def test_an_infinite_sum_is_refused(current: bytes, increment: bytes) -> None:
    with pytest.raises(ResponseError, match=f"^{errors.NAN_OR_INFINITY}$"):
        numbers.incr_long_double(current, increment)


@pytest.mark.parametrize("raw", [b"", b"nan", b"1e4933", b"1e-4952", b"1 ", b"1e999999999999", b"0" * 5120])
def test_what_is_no_long_double_is_refused(raw: bytes) -> None:
    assert numbers.parse_long_double(raw) is None
    for pair in ((raw, b"1"), (b"1", raw)):
        with pytest.raises(ResponseError, match=f"^{errors.NOT_FLOAT}$"):
            numbers.incr_long_double(*pair)


def test_the_largest_long_double_prints_in_full() -> None:
    largest = (2**64 - 1) << (16384 - 64)
    printed = numbers.incr_long_double(b"0x1.fffffffffffffffep16383", b"0")
    assert len(printed) == 4933
    assert int(printed[:2000]) == largest // 10**2933


@given(st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63))
def test_whole_numbers_of_64_bits_add_exactly(a: int, b: int) -> None:
    assert numbers.incr_long_double(b"%d" % a, b"%d" % b) == b"%d" % (a + b)


# -------------------------------------------------------------- compared with the servers


@pytest.fixture
def server(any_real_server: Server) -> Iterator[RawClient]:
    """A connection on a database of its own, whose sorted sets keep every bit of a score."""
    with any_real_server.client() as client:
        client.call("SELECT", "11")
        setting = "zset-max-listpack-entries"  # packed, a sorted set forgets the sign of zero
        before = client.call("CONFIG", "GET", setting).split(b"\r\n")[4]
        client.call("CONFIG", "SET", setting, "0")
        yield client
        client.call("CONFIG", "SET", setting, before)
        client.call("FLUSHDB")


@pytest.fixture(params=["redis", "valkey"])
def any_real_server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def printed(request: pytest.FixtureRequest) -> Callable[[float], bytes]:
    """How the server under test prints a double."""
    return numbers.format_double17 if "redis" in request.node.name else numbers.format_double


def replies(client: RawClient, commands: Sequence[Command]) -> list[bytes]:
    out: list[bytes] = []
    for start in range(0, len(commands), 200):
        out += client.pipeline(*commands[start : start + 200])
    return out


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def differences(
    cases: Sequence[object], ours: Sequence[bytes], theirs: Sequence[bytes]
) -> list[tuple[str, bytes, bytes]]:
    """The first few cases that differ, cut short."""
    together = zip(cases, ours, theirs, strict=True)
    return [(str(case)[:90], a[:90], b[:90]) for case, a, b in together if a != b][:8]


def random_doubles(rnd: random.Random, count: int) -> Iterator[float]:
    makers: list[Callable[[], float]] = [
        lambda: struct.unpack("<d", rnd.randbytes(8))[0],
        lambda: rnd.uniform(-1e6, 1e6),
        rnd.random,
        lambda: round(rnd.uniform(-1e6, 1e6), rnd.randint(0, 12)),
        lambda: float(rnd.getrandbits(63) >> rnd.randint(0, 62)),
        lambda: rnd.randint(1, 2000) * 10.0 ** rnd.randint(0, 22),
        lambda: 2.0 ** rnd.randint(-1074, 1023),
        lambda: math.nextafter(2.0 ** rnd.randint(-1074, 1023), rnd.choice([0, math.inf])),
        lambda: 5e-324 * rnd.randint(1, 10 ** rnd.randint(1, 16)),
        lambda: float(f"{rnd.randint(-99, 99)}e{rnd.randint(-330, 306)}"),
    ]
    while count:
        value = rnd.choice(makers)()
        if value == value and value:
            yield value
            count -= 1


def test_a_score_prints_as_the_server_prints_it(
    server: RawClient, printed: Callable[[float], bytes], heavy: bool
) -> None:
    rnd = seeded()
    values = [-0.0, math.inf, -math.inf, *random_doubles(rnd, 100_000 if heavy else 4000)]
    commands = [c for x in values for c in ((b"ZADD", b"z", repr(x).encode(), b"m"), (b"ZSCORE", b"z", b"m"))]
    theirs = replies(server, commands)[1::2]
    assert differences(values, [bulk(printed(x)) for x in values], theirs) == []


def test_a_double_of_resp3_prints_as_the_server_prints_it(
    server: RawClient, printed: Callable[[float], bytes]
) -> None:
    values = [math.inf, *random_doubles(seeded(), 500)]
    server.hello3()
    commands = [c for x in values for c in ((b"ZADD", b"z", repr(x).encode(), b"m"), (b"ZSCORE", b"z", b"m"))]
    theirs = replies(server, commands)[1::2]
    assert differences(values, [b",%b\r\n" % printed(x) for x in values], theirs) == []


def random_spelling(rnd: random.Random) -> bytes:
    """A number, or nearly one, in one of the ways that the servers' parsers must tell apart."""
    sign = rnd.choice([b"", b"", b"-", b"+"])
    makers: list[Callable[[], bytes]] = [
        lambda: b"%d" % rnd.randint(-(2**64), 2**64),
        lambda: b"%d" % (rnd.choice([1, -1]) * 2**63 + rnd.randint(-3, 3)),
        lambda: repr(round(rnd.uniform(-1e6, 1e6), rnd.randint(0, 17))).encode(),
        lambda: b"%.*g" % (rnd.randint(1, 17), struct.unpack("<d", rnd.randbytes(8))[0]),
        lambda: b"%b%d.%0*de%d" % (sign, rnd.randrange(10), 25, rnd.randrange(10**25), rnd.randint(-30, 30)),
        lambda: b"%b%d.%de%d" % (sign, rnd.randrange(10), rnd.randrange(10**20), rnd.randint(-4960, 4940)),
        lambda: b"%b0x%x.%xp%d" % (sign, rnd.getrandbits(70), rnd.getrandbits(40), rnd.randint(-80, 80)),
        lambda: b"%b0x%x.%xp%d" % (sign, rnd.getrandbits(70), rnd.getrandbits(9), rnd.randint(-16520, 16400)),
        lambda: b"%b0x%xp%d" % (sign, rnd.getrandbits(55), rnd.randint(-1140, 1000)),
        lambda: b"%d.%d" % (rnd.randint(-9, 9), rnd.randrange(1000)),
        # Halfway between two numbers of 64 bits, of 17 decimals.
        lambda: (
            b"%d"
            % ((((rnd.getrandbits(64) | 1 << 63) * 2 + 1) << rnd.randint(0, 90)) + rnd.choice([0, 0, 1]))
        ),
        lambda: b"%d.%020d" % (rnd.randrange(100), rnd.randrange(2**20) * 5**20),
        lambda: bytes(rnd.choices(b"0123456789.eE+-xXpPabcinf", k=rnd.randint(0, 8))),
    ]
    return rnd.choice(makers)()


EDGES: list[bytes] = [
    *NOT_INTEGERS,
    *NOT_FLOATS,
    *(raw for raw, _ in FLOATS),
    *(b"1e4932", b"-1.1e4932", b"1.189731495357231765e4932", b"1.19e4932", b"0x1p16383", b"0x1p16384"),
    *(b"0x1.fffffffffffffffep16383", b"0x1.ffffffffffffffffp16383", b"-0x1.fffffffffffffffefffp16383"),
    *(b"1e-4950", b"1e-4951", b"2e-4951", b"0x1p-16445", b"0x1p-16446", b"0x1.1p-16446", b"0", b"-0"),
    *(b"1e%b5" % (b"0" * 30), b"0e%b" % (b"9" * 30), b"1e-%b" % (b"9" * 30), b"0x1p-%b" % (b"9" * 30)),
    *(b"1" * 4932, b"1" * 4933, b"1" * 5119, b"0" * 5118 + b"1", b"0" * 5120, b"." + b"7" * 5000),
    *(b"0.%b1e5000" % (b"0" * 4990), b"0." + b"0" * 5116 + b"1", b"1" * 4500 + b"e-4500"),
    *(b"0x" + b"f" * 4000, b"0x" + b"f" * 5000 + b"p-16000", b"0x." + b"0" * 4000 + b"1p16000"),
]


def spellings(rnd: random.Random, heavy: bool) -> list[bytes]:
    return EDGES + [random_spelling(rnd) for _ in range(50_000 if heavy else 2500)]


def error(text: str) -> bytes:
    return b"-%b\r\n" % text.encode()


def test_the_same_integers_are_read(server: RawClient, heavy: bool) -> None:
    cases = spellings(seeded(), heavy)
    theirs = replies(server, [(b"GETRANGE", b"none", raw, b"0") for raw in cases])
    ours = [bulk(b"") if numbers.parse_int(raw) is not None else error(errors.NOT_INTEGER) for raw in cases]
    assert differences(cases, ours, theirs) == []


def test_the_same_doubles_are_read(server: RawClient, printed: Callable[[float], bytes], heavy: bool) -> None:
    def read(raw: bytes) -> bytes:
        value = numbers.parse_float(raw)
        return error(errors.NOT_FLOAT) if value is None else bulk(printed(value))

    # Options of ZADD are no numbers, but are taken before the score is read.
    cases = [raw for raw in spellings(seeded(), heavy) if raw.lower() not in (b"nx", b"xx", b"ch")]
    commands = [
        command
        for raw in cases
        for command in ((b"DEL", b"z"), (b"ZADD", b"z", raw, b"m"), (b"ZSCORE", b"z", b"m"))
    ]
    got = replies(server, commands)
    theirs = [add if add.startswith(b"-") else score for add, score in zip(got[1::3], got[2::3], strict=True)]
    assert differences(cases, [read(raw) for raw in cases], theirs) == []


def outcome(function: Callable[..., bytes], *args: object) -> bytes:
    try:
        return bulk(function(*args))
    except ResponseError as failure:
        return error(str(failure))


def random_pairs(heavy: bool) -> list[tuple[bytes, bytes]]:
    rnd = seeded()
    cases = spellings(rnd, heavy)
    return [*((b"0", raw) for raw in EDGES), *((raw, b"1") for raw in EDGES)] + [
        (rnd.choice(cases), raw) for raw in cases
    ]


def test_float_increments_of_strings_give_the_server_s_digits(server: RawClient, heavy: bool) -> None:
    pairs = random_pairs(heavy)
    commands = [c for a, b in pairs for c in ((b"SET", b"s", a), (b"INCRBYFLOAT", b"s", b))]
    theirs = replies(server, commands)[1::2]
    assert differences(pairs, [outcome(numbers.incr_long_double, a, b) for a, b in pairs], theirs) == []


def test_float_increments_of_fields_give_the_server_s_digits(server: RawClient, heavy: bool) -> None:
    def increment(current: bytes, raw: bytes) -> bytes:
        b = numbers.parse_long_double(raw)
        if b is None:
            raise ResponseError(errors.NOT_FLOAT)
        if isinstance(b, float):
            raise ResponseError("ERR value is NaN or Infinity")
        a = numbers.parse_long_double(current)
        if a is None:
            raise ResponseError("ERR hash value is not a float")
        return numbers.add_long_doubles(a, b)

    pairs = random_pairs(heavy)
    commands = [c for a, b in pairs for c in ((b"HSET", b"h", b"f", a), (b"HINCRBYFLOAT", b"h", b"f", b))]
    theirs = replies(server, commands)[1::2]
    assert differences(pairs, [outcome(increment, a, b) for a, b in pairs], theirs) == []


def test_several_numbers_are_read_as_each_alone() -> None:
    words = [
        b"1",
        b"-2.5",
        b"007",
        b"1.",
        b".5",
        b"-0",
        b"1234567890123456789012",
        b"",
        b"-",
        b".",
        b"1-2",
        b"1 ",
        b"1_0",
    ]
    words += [b"inf", b"nan", b"1e3", b"0x1p3", b"9" * 400, b"0." + b"0" * 400 + b"1", b"\xff", b"--1"]
    for one in words:
        for found, expected in (
            (numbers.parse_floats([b"3", one]), [3.0, numbers.parse_float(one)]),
            (numbers.parse_floats([one]), [numbers.parse_float(one)]),
        ):
            assert repr(found) == repr(expected)
    assert numbers.parse_floats([]) == []
