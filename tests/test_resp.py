"""The protocol: requests parsed whole, in pieces and malformed, as the real servers do; replies encoded."""

from __future__ import annotations

import random
import socket
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import resp
from kvstore.resp import RequestParser, encode2, encode3, split_words
from tests.rawclient import encode
from tests.seeds import new_seed
from tests.servers import Server

Outcome = tuple[list[list[bytes]], str | None]


def careful(data: bytes) -> Outcome:
    """The outcome by the careful parser alone."""
    parser = RequestParser()
    parser.hold(data)
    requests = parser.parse_buffer()
    return requests, str(parser.error) if parser.error else None


def fed(chunks: list[bytes]) -> Outcome:
    """The outcome of feeding these chunks."""
    parser = RequestParser()
    requests = [request for chunk in chunks if chunk for request in parser.parse(chunk)]
    return requests, str(parser.error) if parser.error else None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


words = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"GET", b"\r\n$1\r\n", b"", b"*1\r\n"])),
    min_size=1,
    max_size=6,
)
bare_words = st.lists(st.from_regex(rb"[a-zA-Z0-9:*+-]{1,10}", fullmatch=True), min_size=1, max_size=4)
places = st.lists(st.integers(0, 1 << 16), max_size=6)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[list[bytes]]]:
    """Bytes of some requests, bulk and inline, and what they are."""
    data, expected = b"", []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 4)):
            request = draw(words)
            data += encode(*request)
        else:
            request = draw(bare_words.filter(lambda found: not found[0].startswith(b"*")))
            data += b" ".join(request) + draw(st.sampled_from([b"\n", b"\r\n"]))
        expected.append(request)
        if not draw(st.integers(0, 9)):
            data += draw(st.sampled_from([b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n"]))
    return data, expected


@given(streams(), places)
def test_requests_are_the_same_whole_and_in_any_pieces(
    stream: tuple[bytes, list[list[bytes]]], at: list[int]
) -> None:
    data, expected = stream
    assert fed([data]) == (expected, None)
    assert fed(cut(data, at)) == (expected, None)
    assert fed([data[n : n + 1] for n in range(len(data))]) == (expected, None)


# What stands where a request or a word should be: each is malformed, or at least odd.
odd_lines = st.sampled_from(
    [b"+OK", b"=8", b"txt:abcd", b":1", b"(12", b"~1", b">2", b"%1", b"|1", b"#t", b"_", b",1.5", b"-ERR", b"$-1", b"*-1",
     b"$03", b"$+3", b"$ 3", b"$3 ", b"*+1", b"*01", b"$", b"*", b"$99999999999999999999", b"*2147483648", b"\0", b"\xff",
     b"*1", b"*2", b"*3", b"$0", b"$1", b"$3", b"GET", b"k", b"", b'"a', b"'a'b", b'"\\x4', b"a\0b", b"!3", b"$4", b"PINGxx"]
)  # fmt: skip
malformed = st.lists(
    st.tuples(odd_lines, st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])), max_size=12
).map(lambda lines: b"".join(line + end for line, end in lines))


@settings(max_examples=300)
@given(
    st.one_of(
        malformed,
        st.binary(max_size=200),
        st.builds(bytes.__add__, st.just(b"*2\r\n$3\r\nGET\r\n"), malformed),
    ),
    places,
)
def test_no_bytes_make_the_parser_fail_or_see_more_than_the_careful_one(data: bytes, at: list[int]) -> None:
    expected = careful(data)
    assert fed([data]) == expected
    assert fed(cut(data, at)) == expected


# Words that look like frames, and elements of RESP that servers do not take for words, though parsers of replies do.
_PIECES = [b"\r\n", b"$", b"\n", b"*", b"+", b"~", b"a", b"txt:", b"3", b"\r", b"$3\r\n"]
_NO_BULKS = [
    b"+GET",
    b"=7\r\ntxt:abc",
    b":5",
    b"(123",
    b"_",
    b"-ERR",
    b"*1\r\n$1\r\na",
    b"#t",
    b",1.5",
    b"$-1",
]


def test_what_is_no_bulk_is_refused_however_the_words_beside_it_look(heavy: bool) -> None:
    rng = random.Random(new_seed())

    def element() -> bytes:
        if rng.random() < 0.1:
            return rng.choice(_NO_BULKS) + b"\r\n"
        word = b"".join(rng.choice(_PIECES) for _ in range(rng.randrange(4)))
        return b"$%d\r\n%b\r\n" % (len(word), word)

    def request() -> bytes:
        size = rng.randrange(4)
        mark = rng.choice(b"*" * 60 + b">~")
        return b"%c%d\r\n" % (mark, size) + b"".join(element() for _ in range(size))

    # The bytes of one that was found: what a status lacks of lines, a word has.
    assert fed([b"*2\r\n+GET\r\n$2\r\n\r\n\r\n" * 4]) == ([], "expected '$', got '+'")
    for _ in range(200_000 if heavy else 4000):
        data = b"".join(request() for _ in range(rng.choice((1, 2, 5))))
        assert fed([data]) == careful(data)


def test_large_random_streams_parse_in_any_pieces() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    requests = [
        [rng.randbytes(rng.choice((0, 1, 5, 30, 3000))) for _ in range(rng.randint(1, 5))] for _ in range(400)
    ]
    data = b"".join(encode(*request) for request in requests)
    for size in (100, 1500, 16384, 65536, 1 << 20):
        assert fed([data[at : at + size] for at in range(0, len(data), size)]) == (requests, None)


@pytest.mark.parametrize(
    "data",
    [
        b"*1\r\n$536870912\r\n",
        b"*2147483647\r\n",
        b"*1\r\n*99999999\r\n",
        b"*1\r\n>99999999\r\n",
        b"*1\r\n%99999999\r\n",
        b"*2\r\n$1\r\nA\r\n~99999999\r\n",
        b"*99999999\r\n$1\r\na\r\n",
        b"*1\r\n$4\r\nPING\r\n" * 60 + b"*1\r\n>99999999\r\n",
    ],
)
def test_a_header_that_promises_much_reserves_nothing(data: bytes) -> None:
    parser = RequestParser()
    tracemalloc.start()
    try:
        parser.parse(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_client_that_has_to_log_in_gets_tight_limits() -> None:
    for data, error in (
        (b"*11\r\n", "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    ):
        parser = RequestParser()
        parser.authenticated = False
        assert parser.parse(data) == []
        assert str(parser.error) == error
        assert fed([data])[1] is None


def test_before_a_login_requests_come_one_at_a_time() -> None:
    parser = RequestParser()
    parser.authenticated = False
    assert parser.parse(encode("AUTH", "x") + encode("SET", "k", "v" * 20000)) == [[b"AUTH", b"x"]]
    parser.authenticated = True
    assert parser.parse_buffer() == [[b"SET", b"k", b"v" * 20000]]
    assert parser.idle


def test_buffered_counts_what_is_held() -> None:
    parser = RequestParser()
    parser.parse(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\nabc")
    assert parser.buffered == len(b"SETk") + len(b"abc")
    parser.parse(b"defghij\r\n")
    assert parser.buffered == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", []),
        (b"  a  b ", [b"a", b"b"]),
        (b'a "b c" d', [b"a", b"b c", b"d"]),
        (b'"\\x41\\n\\q\\x4"', [b"A\nqx4"]),
        (b"'it\\'s \\n'", [b"it's \\n"]),
        (b'a"b c"', [b"ab c"]),
        (b'""', [b""]),
        (b'"a"b', None),
        (b'"a', None),
        (b"'a", None),
    ],
)
def test_inline_words_may_be_quoted(line: bytes, expected: list[bytes] | None) -> None:
    assert split_words(line) == expected


# -- against real servers --------------------------------------------------------------------------


def conversation(path: str, chunks: list[bytes]) -> bytes:
    """All that a server answers to these bytes, up to its closing the connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        try:
            for chunk in chunks:
                sock.sendall(chunk)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already
        answer = b""
        try:
            while data := sock.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


ODD = [
    *(b"PING\r\n", b"PING\n", b"PI\0NG\r\nPING\r\n", b"  \r\nPING\r\n", b"PING\r\r\n", b"ECHO a\rb\r\n", b"echo a\vb\n"),
    *(b"echo\va\n", b"ECHO 'a\n", b'ECHO "a"b\n', b'ECHO "\\x41\\x4"\n', b'ECHO ""\n', b"*\r\nPING\r\n", b"*-5\r\nPING\r\n"),
    *(b"*0\r\nPING\r\n", b"*1\0\r\n$4\r\nPING\r\n", b"*1\rX$4\rYPINGzzPING\n", b"*1\r\n\r\n", b"*1\r\n\xff\r\n", b"*1\r\n\0\r\n"),
    *(b"*1\r\n$0\r\n\r\nPING\r\n", b"*2147483648\r\n", b"*2147483647\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$536870913\r\n"),
    *(b"*1\n$4\r\nPING\r\n", b"*01\r\n$4\r\nPING\r\n", b"*1\r\n+PING\r\n", b"*1\r\n=8\r\ntxt:PING\r\n", b"*1\r\n(12\r\n"),
    *(b"*1\r\n$4\r\nPI\r\nPING\r\n", b"*1\r\n$4\r\nPINGabPING\n", b"PING\r\n" * 3 + b"*x\r\nPING\r\n", b"POST / HTTP/1.1\r\nPING\r\n"),
    *(b"Host: a\r\nPING\r\n", b"QUIT\r\n*x\r\n", b"*1\r\n$4\r\nQUIT\r\nPING\r\n", b"A" * 70000, b"*" + b"1" * 70000),
    *(b"*1\r\n$" + b"1" * 70000, b"ECHO " + b"a" * 60000 + b"\r\n", b"*2\r\n$4\r\nECHO\r\n$70000\r\n" + b"a" * 70000 + b"\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ODD)))
def test_odd_and_malformed_requests_are_answered_as_by_real_servers(
    number: int, kvstore_server: Server, redis_server: Server, valkey_server: Server
) -> None:
    data = ODD[number]
    expected = conversation(valkey_server.unix, [data])
    assert expected == conversation(redis_server.unix, [data])
    assert conversation(kvstore_server.unix, [data]) == expected
    if len(data) < 1000:
        assert conversation(kvstore_server.unix, [data[at : at + 1] for at in range(len(data))]) == expected


def mutated(rng: random.Random) -> bytes:
    """Some requests with a few bytes changed, taken out or put in."""
    data = bytearray()
    for _ in range(rng.randint(1, 6)):
        request = rng.choice(
            ([b"PING"], [b"ECHO", b"words"], [b"ECHO", b"a\r\nb"], [b"ECHO", b"*1\r\n$4\r\n"])
        )
        data += encode(*request) if rng.random() < 0.8 else b"PING\r\n"
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at = rng.randrange(len(data))
        kind = rng.randrange(3)
        if kind == 0:
            data[at] = rng.choice(b"\r\n$*:0123459-+ \0a\"'\xff")
        elif kind == 1:
            del data[at : at + rng.randint(1, 3)]
        else:
            data[at:at] = rng.choice((b"\r\n", b"$", b"*1\r\n", b"9", b"-", b"+OK\r\n", b"\0"))
        if not data:
            data += b"\n"
    return bytes(data)


def test_mutated_requests_are_answered_as_by_real_servers(
    kvstore_server: Server, redis_server: Server, valkey_server: Server, heavy: bool
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(5000 if heavy else 400):
        data = mutated(rng)
        chunks = cut(data, [rng.randrange(1 << 16) for _ in range(rng.choice((0, 0, 1, 3)))])
        expected = conversation(valkey_server.unix, [data])
        assert conversation(redis_server.unix, [data]) == expected, data
        assert conversation(kvstore_server.unix, chunks) == expected, (data, chunks)


# -- replies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "resp2", "resp3"),
    [
        (b"a\r\n", b"$3\r\na\r\n\r\n", b"$3\r\na\r\n\r\n"),
        (b"x" * 2000, b"$2000\r\n" + b"x" * 2000 + b"\r\n", b"$2000\r\n" + b"x" * 2000 + b"\r\n"),
        (resp.OK, b"+OK\r\n", b"+OK\r\n"),
        (resp.ErrorReply(b"ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
        (5, b":5\r\n", b":5\r\n"),
        (-(1 << 63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (resp.NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
        ([b"a", None, [1]], b"*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:1\r\n", b"*3\r\n$1\r\na\r\n_\r\n*1\r\n:1\r\n"),
        ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (resp.RespSet([b"a"]), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
        (resp.Push([b"a"]), b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n"),
        (resp.Verbatim(b"a"), b"$1\r\na\r\n", b"=5\r\ntxt:a\r\n"),
        (resp.BigNumber(12), b"$2\r\n12\r\n", b"(12\r\n"),
    ],
)
def test_replies_have_the_shape_of_each_protocol(tree: object, resp2: bytes, resp3: bytes) -> None:
    assert encode2(tree) == resp2
    assert encode3(tree) == resp3
    assert encode2(resp.downgrade(tree)) == resp2


_LENGTHS = st.sampled_from([0, 1, 1, 1, 9, 10, 1023, 1024, 5000])


@given(st.lists(_LENGTHS), st.booleans())
def test_many_bulk_strings_are_encoded_as_one_at_a_time(lengths: list[int], alike: bool) -> None:
    items = [b"x" * (lengths[0] if alike else length) for length in lengths]
    assert resp.encode_bulks(b"*%d" % len(items), items) == encode2(items)


@given(st.lists(_LENGTHS, min_size=1, max_size=5))
def test_a_request_is_encoded_as_the_array_of_its_words(lengths: list[int]) -> None:
    words = [b"x" * length for length in lengths]
    assert resp.encode_request(tuple(words)) == encode2(words)
