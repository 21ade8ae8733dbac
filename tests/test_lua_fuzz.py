"""Random input to the libraries, on valkey and on the interpreter: the same values and the same errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("lupa")

from kvstore.commands.lua import Interpreter
from kvstore.resp import encode2
from tests.rawclient import RawClient
from tests.servers import Server
from tests.test_lua_differential import Forwarding, run


class Pair:
    """The same script on both."""

    def __init__(self, server: Server) -> None:
        self.client: RawClient = server.client()
        self.client.call("SCRIPT", "FLUSH")
        self.interpreter = Interpreter(Forwarding(server))

    def agree(self, body: bytes, *args: bytes) -> None:
        theirs = self.client.call("EVAL", body, "0", *args)
        ours = encode2(run(self.interpreter, body, args))
        assert ours == theirs, (body, args)


@pytest.fixture(scope="module")
def pair(valkey_server: Server) -> Pair:
    return Pair(valkey_server)


def examples(number: int) -> Any:
    return settings(
        max_examples=number,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# Text that is nearly JSON: whole tokens and pieces of them.
PIECES = [
    *'{}[]:,"\\ \t\n0123456789-+.eExX',
    "true",
    "false",
    "null",
    "nan",
    "inf",
    "Infinity",
    '"a"',
    '"b":',
    "tru",
]
PIECES += [
    "\\u00e9",
    "\\ud83d\\ude00",
    "\\ud83d",
    "\\n",
    "1.5",
    "-0",
    "1e5",
    "0x1f",
    "01",
    "\0",
    "\x7f",
    "\u00ff",
    "/",
]
NEARLY_JSON = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=1),
    max_leaves=8,
)


@examples(400)
@given(text=NEARLY_JSON)
def test_cjson_decodes_the_same_and_fails_the_same(pair: Pair, text: str) -> None:
    raw = text.encode("latin-1")
    pair.agree(b"cjson.encode_invalid_numbers(true) return cjson.encode(cjson.decode(ARGV[1]))", raw)
    pair.agree(b"return tostring(select(2, pcall(cjson.decode, ARGV[1]))):gsub('0x%x+', '')", raw)


@examples(150)
@given(text=NEARLY_JSON)
def test_cjson_is_as_strict_about_numbers(pair: Pair, text: str) -> None:
    raw = text.encode("latin-1")
    body = b"""cjson.decode_invalid_numbers(false) local ok, value = pcall(cjson.decode, ARGV[1])
    cjson.decode_invalid_numbers(true) return type(value) == 'table' and cjson.encode(value) or tostring(value)"""
    pair.agree(body, raw)


@examples(200)
@given(value=JSON)
def test_cjson_round_trips_alike(pair: Pair, value: Any) -> None:
    import json

    pair.agree(b"return cjson.encode(cjson.decode(ARGV[1]))", json.dumps(value).encode())
    pair.agree(b"return cmsgpack.pack(cjson.decode(ARGV[1]))", json.dumps(value).encode())
    pair.agree(
        b"return cjson.encode(cmsgpack.unpack(cmsgpack.pack(cjson.decode(ARGV[1]))))",
        json.dumps(value).encode(),
    )


FIRST_BYTES = st.sampled_from([*range(0x80, 0xA5), *range(0xC0, 0xE4), 0, 1, 0x7F])
SHORT_BYTES = st.lists(FIRST_BYTES | st.integers(0, 255) | st.integers(0, 3), max_size=14).map(bytes)


@examples(400)
@given(data=SHORT_BYTES, limit=st.integers(-2, 3), offset=st.integers(-2, 6))
def test_cmsgpack_unpacks_the_same(pair: Pair, data: bytes, limit: int, offset: int) -> None:
    show = b"""local function show(...) local out = {} for i = 1, select('#', ...) do local v = select(i, ...)
    out[i] = type(v) == 'table' and cmsgpack.pack(v) or tostring(v) end return out end """
    pair.agree(show + b"return show(pcall(cmsgpack.unpack, ARGV[1]))", data)
    words = (data, b"%d" % limit, b"%d" % offset)
    pair.agree(show + b"return show(pcall(cmsgpack.unpack_limit, ARGV[1], ARGV[2], ARGV[3]))", *words)
    pair.agree(show + b"return show(pcall(cmsgpack.unpack_one, ARGV[1], ARGV[3]))", *words)


NUMBERS = st.one_of(
    st.integers(-(2**64), 2**64).map(float),
    st.integers(-300, 300).map(float),
    st.floats(allow_nan=False),
    st.integers(0, 66).flatmap(lambda e: st.sampled_from([2.0**e, -(2.0**e), 2.0**e - 1, -(2.0**e) - 1])),
)


@examples(400)
@given(x=NUMBERS)
def test_cmsgpack_packs_numbers_the_same(pair: Pair, x: float) -> None:
    pair.agree(b"return cmsgpack.pack(tonumber(ARGV[1]))", repr(x).encode())
    pair.agree(b"return cjson.encode({tonumber(ARGV[1])})", repr(x).encode()) if abs(x) < 1e308 else None


@examples(300)
@given(
    name=st.sampled_from(["band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "tohex"]),
    x=NUMBERS,
    y=NUMBERS,
)
def test_bit_operations_agree(pair: Pair, name: str, x: float, y: float) -> None:
    body = f"return bit.{name}(tonumber(ARGV[1]), tonumber(ARGV[2]))".encode()
    pair.agree(body, repr(x).encode(), repr(y).encode())
    pair.agree(
        b"local x = tonumber(ARGV[1]) return {bit.tobit(x), bit.bnot(x), bit.bswap(x)}", repr(x).encode()
    )


INTEGER_FORMATS = [
    f"{end}{kind}{size}" for end in "<>" for kind in "iI" for size in (1, 2, 3, 4, 5, 7, 8, 9, 16)
]
FORMATS = st.lists(
    st.sampled_from([*"<>! bBhHlLTfdxsiIc", "!2", "!4", "!8", "c0", "c2", "s", *INTEGER_FORMATS]), max_size=5
).map("".join)


@examples(400)
@given(text=FORMATS, data=st.binary(max_size=24), offset=st.integers(1, 5))
def test_struct_unpacks_the_same(pair: Pair, text: str, data: bytes, offset: int) -> None:
    show = b"""local function show(...) local out = {} for i = 1, select('#', ...) do local v = select(i, ...)
    out[i] = type(v) == 'number' and ('%.17g'):format(v) or tostring(v) end return out end """
    body = show + b"return show(pcall(struct.unpack, ARGV[1], ARGV[2], tonumber(ARGV[3])))"
    pair.agree(body, text.encode(), data, b"%d" % offset)
    pair.agree(show + b"return show(pcall(struct.size, ARGV[1]))", text.encode())


@examples(400)
@given(text=FORMATS, values=st.lists(NUMBERS.map(repr) | st.text("ab0.", max_size=5), min_size=5, max_size=5))
def test_struct_packs_the_same(pair: Pair, text: str, values: list[str]) -> None:
    body = b"return {pcall(struct.pack, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])}"
    pair.agree(body, text.encode(), *(value.encode() for value in values))


@examples(100)
@given(seed=st.integers(-(2**40), 2**40), least=st.integers(-1000, 1000), span=st.integers(0, 10**9))
def test_random_numbers_agree(pair: Pair, seed: int, least: int, span: int) -> None:
    body = b"""math.randomseed(tonumber(ARGV[1])) local a, b = tonumber(ARGV[2]), tonumber(ARGV[3])
    return {tostring(math.random()), math.random(a, b), math.random(b - a + 1), tostring(math.random())}"""
    pair.agree(body, b"%d" % seed, b"%d" % least, b"%d" % (least + span))


@examples(150)
@given(x=st.floats())
def test_numbers_become_the_same_replies_and_arguments(pair: Pair, x: float) -> None:
    pair.agree(b"return {tonumber(ARGV[1]), {tonumber(ARGV[1])}}", repr(x).encode())
    pair.agree(b"return {double = tonumber(ARGV[1])}", repr(x).encode()) if x == x else None
    pair.agree(b"return redis.call('echo', tonumber(ARGV[1]))", repr(x).encode())
