"""Every encoding that values have had in files and payloads: read as what it holds, here as by real servers.

The encodings are made by ``tests/legacy.py``. Whatever becomes of one byte of them, the value is refused or
sound.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from kvstore.engine import codec, packed
from kvstore.engine.codec import Reader, crc64
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types import TYPES, Target, Value, load
from kvstore.engine.types.hash import Hash
from kvstore.engine.types.list import List
from kvstore.engine.types.set import Set
from kvstore.engine.types.zset import ZSet
from kvstore.errors import FormatError
from kvstore.persist.rdb_load import Loaded, Record, load_rdb, read_rdb
from tests.conftest import require
from tests.laws import START_MS
from tests.legacy import DEADLINE_MS, Sample, large_samples, samples, string
from tests.rawclient import RawClient, parse
from tests.seeds import new_seed
from tests.servers import Server

SAMPLES = samples()
VALKEY_SINCE = 80
# The newest RDB version that the servers read that are there to ask.
READ_BY = {"redis": 10, "valkey": 11}
VERSIONS = [*range(1, 13), VALKEY_SINCE]
SMALL = [sample for sample in SAMPLES if len(sample.body) <= 100]


def named(some: Iterable[Sample]) -> Any:
    return pytest.mark.parametrize("sample", list(some), ids=lambda sample: sample.name)


def read(sample: Sample, body: bytes | None = None, limits: Limits | None = None) -> Value:
    """The value, made by the loader of its type; it has read all bytes and no more."""
    body = sample.body if body is None else body
    reader = Reader(body + b"tail", 0, len(body))
    value = load(sample.number, reader, limits or Limits(), sample.version >= VALKEY_SINCE)
    assert reader.left() == 0
    TYPES[type(value)].check(value)
    return value


def held(value: Value) -> tuple[str, Any, dict[bytes, int]]:
    """Type, content and deadlines of fields, as a sample has them."""
    kind = TYPES[type(value)].name
    match value:
        case List():
            return kind, list(value), {}
        case Set():
            return kind, set(value), {}
        case Hash():
            return kind, dict(value), dict(value.deadlines or {})
        case ZSet():
            return kind, value.scores, {}
    return kind, value, {}


def holds(sample: Sample) -> tuple[str, Any, dict[bytes, int]]:
    return sample.kind, sample.content, sample.deadlines


def payload(number: int, body: bytes, version: int) -> bytes:
    data = bytes((number,)) + body + struct.pack("<H", version)
    return data + crc64(data).to_bytes(8, "little")


# ------------------------------------------------------------------------- what is well-formed


@named([*SAMPLES, *large_samples()])
def test_every_encoding_is_read_as_what_it_holds(sample: Sample) -> None:
    assert held(read(sample)) == holds(sample)


def test_there_is_a_sample_of_every_loader() -> None:
    known = {number for record in TYPES.values() for number in record.loaders}
    streams = {15, 19, 21}
    sampled = {sample.number | (0x100 if sample.version >= VALKEY_SINCE else 0) for sample in SAMPLES}
    assert known - streams == sampled


@named(sample for sample in SAMPLES if "compressed" in sample.name)
def test_compressed_values_are_read_without_a_library(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_lzf", None)
    assert held(read(sample)) == holds(sample)


@named(SAMPLES)
def test_what_was_read_is_written_for_every_target_and_read_again(sample: Sample) -> None:
    value = read(sample)
    record = TYPES[type(value)]
    for target in Target:
        for compress in (False, True):
            body = b"".join(record.dump(value, target, compress))
            again = load(record.rdb_type(value, target), Reader(body), Limits(), target is Target.VALKEY_9)
            aux = record.aux(value, target)
            if aux is not None:
                record.apply_aux(again, aux)
            assert held(again) == holds(sample)


@named(sample for sample in SAMPLES if sample.kind in ("set", "hash", "zset"))
def test_the_limits_decide_whether_a_value_stays_packed(sample: Sample) -> None:
    small, large = Limits(), Limits()
    for name in (each for each in Limits.__slots__ if "_max_" in each and each[0] != "p"):
        setattr(small, name, 1)
        setattr(large, name, 100_000)
    encoding = TYPES[type(read(sample))].encoding
    if len(sample.content) > 1:
        assert encoding(read(sample, limits=small), small) in ("hashtable", "skiplist")
    assert encoding(read(sample, limits=large), large) in ("listpack", "intset", "listpackex")


# ------------------------------------------------------------------------ as real servers read


def answer(client: RawClient, key: str) -> tuple[str, Any]:
    """Type and content of a key by a real server's own commands."""
    kind = parse(client.call("TYPE", key)).text.decode()
    question = {
        "string": ("GET", key),
        "list": ("LRANGE", key, 0, -1),
        "set": ("SMEMBERS", key),
        "hash": ("HGETALL", key),
        "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
    }[kind]
    reply = parse(client.call(*question))
    words = [item.text for item in reply.items or ()]
    pairs = zip(words[::2], words[1::2], strict=len(words) % 2 == 0)
    match kind:
        case "string":
            return kind, reply.text
        case "list":
            return kind, words
        case "set":
            return kind, set(words)
        case "hash":
            return kind, dict(pairs)
    return kind, {member: float(score) for member, score in pairs}


@pytest.fixture(params=READ_BY)
def server(request: pytest.FixtureRequest) -> Server:
    require(request.param)
    found: Server = request.getfixturevalue(f"{request.param}_server")
    with found.client() as client:
        client.call("FLUSHALL")
        client.call("CONFIG", "SET", "sanitize-dump-payload", "yes")
    return found


def test_real_servers_restore_the_same_from_payloads(server: Server) -> None:
    asked = [
        sample for sample in [*SAMPLES, *large_samples()] if max(sample.version, 6) <= READ_BY[server.kind]
    ]
    assert len(asked) > 45
    with server.client() as client:
        for sample in asked:
            body = payload(sample.number, sample.body, max(sample.version, 6))
            assert client.call("RESTORE", sample.name, 0, body) == b"+OK\r\n", sample.name
            assert answer(client, sample.name) == (sample.kind, sample.content)
            if server.kind == "valkey":  # Redis 7.0 has other names
                value = read(sample)
                encoding = TYPES[type(value)].encoding(value, Limits()).encode()
                assert parse(client.call("OBJECT", "ENCODING", sample.name)).text == encoding, sample.name
        client.call("FLUSHALL")


def test_real_servers_make_the_same_of_damaged_payloads_where_they_take_them(
    server: Server, heavy: bool
) -> None:
    """We refuse more: what reads on into the checksum, numbers with rubbish behind them. Nothing is read otherwise."""
    rng = random.Random(new_seed())
    version = READ_BY[server.kind]
    some = [sample for sample in SAMPLES if sample.version <= version and len(sample.body) < 600]
    agreed = 0
    with server.client() as client:
        for _ in range(100_000 if heavy else 5000):
            sample = rng.choice(some)
            body = bytearray(sample.body)
            at = rng.randrange(len(body))
            match rng.randrange(4):
                case 0:
                    body[at] = rng.randrange(256)
                case 1:
                    body[at] = (body[at] + rng.choice((1, -1, 2))) % 256
                case 2:
                    del body[at]
                case 3:
                    body[at:at] = rng.randbytes(1)
            try:
                ours = held(load(sample.number, Reader(bytes(body)), Limits()))
            except FormatError:
                continue
            reply = client.call("RESTORE", "k", 0, payload(sample.number, bytes(body), version), "REPLACE")
            if reply == b"+OK\r\n":
                assert answer(client, "k") == ours[:2], (sample.name, bytes(body))
                agreed += 1
            else:  # they have no large elements without bytes
                assert sample.number == 18 and b"" in ours[1], (sample.name, bytes(body))
        client.call("FLUSHALL")
    assert agreed > 500


# ---------------------------------------------------------------------------------- whole files


def file_of(version: int, some: Iterable[Sample] = SAMPLES, extra: bytes = b"") -> bytes:
    """A file of that version with all samples that it may have, named by their names."""
    magic = b"VALKEY%03d" if version >= VALKEY_SINCE else b"REDIS%04d"
    body = b"".join(
        bytes((sample.number,)) + string(sample.name.encode()) + sample.body
        for sample in some
        if may_have(version, sample)
    )
    content = magic % version + b"\xfe\x00" + body + extra + b"\xff"
    return content + crc64(content).to_bytes(8, "little") if version >= 5 else content


def may_have(version: int, sample: Sample) -> bool:
    """Valkey's own version has nothing of what only Redis has."""
    return sample.version <= version and not (version >= VALKEY_SINCE and 12 <= sample.version < VALKEY_SINCE)


def loaded(content: bytes) -> Database:
    ctx = Context(Database, clock=ManualClock(START_MS))
    steps = load_rdb(ctx, content, path="x.rdb", now_ms=START_MS)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            assert isinstance(end.value, Loaded) and end.value.end == len(content)
            break
    ctx.database(0).check()
    return ctx.database(0)


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_every_version_are_read(version: int) -> None:
    content = file_of(version)
    expected = {sample.name.encode(): holds(sample) for sample in SAMPLES if may_have(version, sample)}
    db = loaded(content)
    assert {key: held(value) for key, value in db._data.items()} == expected
    records = [each for each in read_rdb(content, Limits()) if isinstance(each, Record)]
    assert {each.key: held(each.value) for each in records} == expected


# In 2033: in seconds, as old files have it; in milliseconds; how it was used.
OLD_TIME = b"\xfd" + struct.pack("<i", 2_000_000_000) + b"\x00\x03old\x01v"
NEW_TIME = b"\xfc" + struct.pack("<q", 2_000_000_000_123) + b"\x00\x03new\x01v"
USED = b"\xf8\x43\xe8" + b"\x00\x04idle\x01v"
HINTS = b"\xfb\x05\x02"


def test_real_servers_read_files_of_every_version_the_same(server: Server) -> None:
    """What they and we make of the same bytes."""
    path = Path(server.directory) / "dump.rdb"
    with server.client() as client:
        client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        for version in range(1, READ_BY[server.kind] + 1):
            extra = OLD_TIME + NEW_TIME + (HINTS if version >= 7 else b"") + (USED if version >= 9 else b"")
            content = file_of(version, extra=extra)
            path.write_bytes(content)
            assert client.call("DEBUG", "RELOAD", "NOSAVE") == b"+OK\r\n", version
            db = loaded(content)
            assert parse(client.call("DBSIZE")).text == b"%d" % len(db._data)
            if version >= 9:
                idle = [each.idle_s for each in read_rdb(content, Limits()) if isinstance(each, Record)]
                assert idle[-1] == 1000
                assert 1000 <= int(parse(client.call("OBJECT", "IDLETIME", "idle")).text) < 1060
            for key, value in db._data.items():
                assert answer(client, key.decode()) == held(value)[:2], (version, key)
                deadline = client.call("PEXPIRETIME", key)
                assert parse(deadline).text == b"%d" % db._expires.get(key, -1), (version, key)
        client.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        client.call("FLUSHALL")
        path.unlink()


# ------------------------------------------------------------------------------ what is damaged


def framed(body: bytes, magic: bytes = b"REDIS0009") -> bytes:
    content = magic + body + b"\xff"
    return content + crc64(content).to_bytes(8, "little")


NAMED = {
    "is of the module 'AAAAAAAAA', which is not there": framed(b"\x06\x01k\x01" + b"\0"),
    "type 22 is a hash with field deadlines of a release candidate": framed(b"\x16\x01k\0", b"REDIS0012"),
    "type 23 is a hash with field deadlines of a release candidate": framed(b"\x17\x01k\0", b"REDIS0012"),
    "unknown type 8": framed(b"\x08\x01k\x01v"),
    "unknown type 23": framed(b"\x17\x01k\x01v", b"VALKEY080"),
    "unknown type 26": framed(b"\x1a\x01k\x01v", b"REDIS0012"),
    "no item of a module is of kind 9": framed(b"\xf7\x01\x02\x01\x09"),
}


@pytest.mark.parametrize("text", NAMED)
def test_what_nobody_else_can_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(FormatError, match=text):
        loaded(NAMED[text])


LISTPACK = b"\x0b\0\0\0\x02\0\x01\x01\x02\x01\xff"
ZIPLIST = b"\x0f\0\0\0\x0c\0\0\0\x02\0\0\xf2\x02\xf3\xff"
ZIPMAP = b"\x01\x01f\x01\0v\xff"
LIES = [
    # unpacker, bytes, what they say wrong
    (packed.listpack, b"", "a listpack is too short"),
    (packed.listpack, LISTPACK[:6], "a listpack is too short"),
    (packed.listpack, b"\x0c" + LISTPACK[1:], "a listpack is not as long as it says"),
    (packed.listpack, LISTPACK[:-1] + b"\xfe", "a listpack is not as long as it says"),
    (packed.listpack, LISTPACK[:4] + b"\x03" + LISTPACK[5:], "has not as many elements as it says"),
    (packed.listpack, LISTPACK[:9] + b"\x02\xff", "an element of a listpack is not as long as it says"),
    (packed.listpack, LISTPACK[:8] + b"\xf5\x01\xff", "no element of a listpack begins with byte 0xf5"),
    (packed.listpack, LISTPACK[:8] + b"\xff\x01\xff", "no element of a listpack begins with byte 0xff"),
    (packed.listpack, LISTPACK[:8] + b"\xf1\x01\xff", "an element of a listpack goes past its end"),
    (packed.listpack, LISTPACK[:8] + b"\x82\x01\xff", "an element of a listpack goes past its end"),
    (
        packed.listpack,
        b"\x0c\0\0\0\x01\0\xf0\xff\xff\xff\xff\xff",
        "an element of a listpack goes past its end",
    ),
    (packed.listpack, b"\x0a\0\0\0\x01\0\xf0\x01\0\xff", "an element of a listpack goes past its end"),
    (packed.ziplist, ZIPLIST[:10], "a ziplist is too short"),
    (packed.ziplist, b"\x10" + ZIPLIST[1:], "a ziplist is not as long as it says"),
    (packed.ziplist, ZIPLIST[:-1] + b"\0", "a ziplist is not as long as it says"),
    (packed.ziplist, ZIPLIST[:8] + b"\x01" + ZIPLIST[9:], "has not as many elements as it says"),
    (packed.ziplist, ZIPLIST[:4] + b"\x0a" + ZIPLIST[5:], "does not say where its last element is"),
    (packed.ziplist, ZIPLIST[:12] + b"\x03" + ZIPLIST[13:], "does not say how long the one before it is"),
    (packed.ziplist, ZIPLIST[:12] + b"\xfe\xf3\xff", "does not say how long the one before it is"),
    (packed.ziplist, ZIPLIST[:13] + b"\xff\xff", "no element of a ziplist begins with byte 0xff"),
    (packed.ziplist, ZIPLIST[:13] + b"\xc0\xff", "an element of a ziplist goes past its end"),
    (packed.ziplist, ZIPLIST[:13] + b"\x02\xff", "an element of a ziplist goes past its end"),
    (packed.ziplist, ZIPLIST[:13] + b"\x80\xff", "an element of a ziplist goes past its end"),
    (packed.intset, bytes(7), "an intset is too short"),
    (packed.intset, b"\x03\0\0\0\x01\0\0\0abc", "an intset has integers of 3 bytes"),
    (packed.intset, b"\x02\0\0\0\x02\0\0\0ab", "an intset is not as long as it says"),
    (packed.intset, b"\x02\0\0\0\xff\xff\xff\xffab", "an intset is not as long as it says"),
    (packed.intset, b"\x02\0\0\0\x02\0\0\0\x02\0\x01\0", "are not in order"),
    (packed.intset, b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0", "are not in order"),
    (packed.zipmap, b"", "a zipmap has no end"),
    (packed.zipmap, ZIPMAP[:-1], "a zipmap has no end"),
    (packed.zipmap, b"\x02" + ZIPMAP[1:], "a zipmap has not as many elements as it says"),
    (packed.zipmap, b"\xff" + ZIPMAP[1:], "a zipmap has not as many elements as it says"),
    (packed.zipmap, ZIPMAP[:4] + b"\x01v\xff", "an element of a zipmap goes past its end"),
    (packed.zipmap, ZIPMAP[:3] + b"\x09\0v\xff", "an element of a zipmap goes past its end"),
    (packed.zipmap, ZIPMAP[:3] + b"\xff\0v\xff", "an element of a zipmap goes past its end"),
    (packed.zipmap, ZIPMAP[:3] + b"\xfe\x01\0\0\xff", "an element of a zipmap goes past its end"),
    (packed.zipmap, ZIPMAP[:3] + b"\xff", "an element of a zipmap goes past its end"),
]


@pytest.mark.parametrize(("unpack", "data", "text"), LIES)
def test_what_a_packed_encoding_says_wrong_is_named(unpack: Any, data: bytes, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        unpack(data)


def test_what_the_lies_are_made_from_is_true() -> None:
    assert packed.listpack(LISTPACK) == packed.ziplist(ZIPLIST) == [b"1", b"2"]
    assert packed.zipmap(ZIPMAP) == [b"f", b"v"]


# Well-formed as strings and numbers, and no values.
NO_VALUES = [
    (4, b"\x02\x01f\x01v\x01f\x01w", "a field comes twice"),
    (
        16,
        string(b"\x0b\0\0\0\x02\0\x01\x01\x02\x01\xff")[:0] + string(b"\x09\0\0\0\x01\0\x01\x01\xff"),
        "no value",
    ),
    (2, b"\x02\x01a\x01a", "a member comes twice"),
    (20, string(b"\x0b\0\0\0\x02\0\x01\x01\x01\x01\xff"), "a member comes twice"),
    (3, b"\x01\x01m\xfd", "a score is not a number"),
    (5, b"\x01\x01m" + struct.pack("<d", float("nan")), "a score is not a number"),
    (5, b"\x02\x01m" + bytes(8) + b"\x01m" + bytes(8), "a member comes twice"),
    (17, string(b"\x09\0\0\0\x01\0\x01\x01\xff"), "a member has no score"),
    (17, string(b"\x0c\0\0\0\x02\0\x01\x01\x81x\x02\xff"), "a member has no score"),
    (18, b"\x01\x03\x01x", "no node of a list is of kind 3"),
    (24, b"\xff" * 8 + b"\x01\x01\x01f\x01v", "the deadline of a field is out of range"),
    (24, bytes(8) + b"\x01\x81" + b"\xff" * 8 + b"\x01f\x01v", "the deadline of a field is out of range"),
    (25, bytes(8) + string(b"\x0b\0\0\0\x02\0\x01\x01\x02\x01\xff"), "a field has no value or no deadline"),
    (25, bytes(8) + string(b"\x0e\0\0\0\x03\0\x01\x01\x02\x01\x81x\x02\xff"), "is not a number"),
]


@pytest.mark.parametrize(("number", "body", "text"), NO_VALUES)
def test_what_is_no_value_is_refused(number: int, body: bytes, text: str) -> None:
    with pytest.raises(FormatError, match=text):
        load(number, Reader(body), Limits())


def test_an_infinite_score_and_a_deadline_at_the_limit_are_values() -> None:
    last = (1 << 46) - 1
    value = load(24, Reader(last.to_bytes(8, "little") + b"\x01\x01\x01f\x01v"), Limits())
    assert held(value) == ("hash", {b"f": b"v"}, {b"f": last})
    assert last > DEADLINE_MS


@named(SMALL)
def test_a_value_cut_anywhere_is_refused(sample: Sample) -> None:
    for size in range(len(sample.body)):
        with pytest.raises(FormatError) as caught:
            load(sample.number, Reader(sample.body, 0, size), Limits(), sample.version >= VALKEY_SINCE)
        assert caught.value.offset is not None and 0 <= caught.value.offset <= size


@named(SMALL)
def test_any_changed_byte_is_refused_or_makes_a_sound_value(sample: Sample, heavy: bool) -> None:
    rng = random.Random(sample.name)
    refused = 0
    for at in range(len(sample.body)):
        for byte in range(256) if heavy else (0, 1, 0x7F, 0x80, 0xC3, 0xFE, 0xFF, *rng.randbytes(20)):
            body = bytearray(sample.body)
            body[at] = byte
            try:
                value = load(sample.number, Reader(bytes(body)), Limits(), sample.version >= VALKEY_SINCE)
            except FormatError as error:
                assert error.offset is not None and 0 <= error.offset <= len(body)
                refused += 1
            else:
                TYPES[type(value)].check(value)
    assert refused
