"""DUMP and RESTORE: values that move between stores and real servers, and what is refused, in the same words."""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from kvstore import ResponseError, Store
from kvstore.engine.codec import crc64
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types import TYPES, Target
from kvstore.engine.types.payload import dump_payload, load_payload
from kvstore.persist.rdb_load import Record, read_rdb
from tests.conftest import require
from tests.laws import START_MS, Recorder, digest, replay
from tests.legacy import samples
from tests.seeds import new_seed
from tests.servers import Server, running


def payload(body: bytes, version: int = 9) -> bytes:
    data = body + struct.pack("<H", version)
    return data + crc64(data).to_bytes(8, "little")


STRING = payload(b"\0\x03abc")


def fill(store: Any) -> list[str]:
    """A key of every type and size, by redis-py's methods; their names."""
    store.set("string", b"\0\xff" * 40)
    store.set("number", -12345)
    store.set("empty", "")
    for size in (1, 30, 700):
        words = [f"{number:05}" * (1 + number % 3) for number in range(size)]
        store.rpush(f"list{size}", *words)
        store.sadd(f"set{size}", *words)
        store.sadd(f"intset{size}", *range(-size, size * 1000, 1000))
        store.hset(f"hash{size}", mapping={word: word[::-1] for word in words})
        store.zadd(f"zset{size}", {word: at / 3 for at, word in enumerate(words)})
    return sorted(key.decode() for key in store.keys("*"))


def test_what_is_dumped_is_restored_equal() -> None:
    store, other = Store(), Store()
    for name in fill(store):
        assert other.restore(name, 0, store.dump(name)) is True
    assert digest(other) == digest(store)
    other.check()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_real_servers_take_our_payloads_and_we_theirs(kind: str) -> None:
    redis = pytest.importorskip("redis")
    require(kind)
    with running(kind) as server:  # of its own: encodings depend on its limits
        _exchange_payloads(kind, redis.Redis(unix_socket_path=server.unix))


def _exchange_payloads(kind: str, client: Any) -> None:
    store, back = Store(), Store()
    names = fill(store)
    for name in names:
        client.restore(name, 0, store.dump(name))
        back.restore(name, 0, client.dump(name))
    assert digest(back) == digest(store)
    for name in names:
        assert client.type(name) == store.type(name)
        if kind == "valkey":
            assert client.object("encoding", name) == back.object("encoding", name), name
    client.close()


def test_errors_and_their_order_are_those_of_a_real_server(valkey_server: Server) -> None:
    # A payload that ends within its value is left out: a real server reads on into the checksum.
    requests: list[tuple[bytes, ...]] = [
        (b"DUMP", b"k"),
        (b"RESTORE", b"k", b"0", STRING),
        (b"RESTORE", b"k", b"0", STRING),
        (b"RESTORE", b"k", b"x", b"bad"),
        (b"RESTORE", b"n", b"x", b"bad"),
        (b"RESTORE", b"n", b"-1", b"bad"),
        (b"RESTORE", b"n", b"0", b"bad"),
        (b"RESTORE", b"n", b"0", b""),
        (b"RESTORE", b"n", b"0", STRING[:-1] + b"x"),
        (b"RESTORE", b"n", b"0", payload(b"\0\x03abc more")),
        (b"GET", b"n"),
        (b"RESTORE", b"m", b"0", payload(b"\x63\x03abc")),
        (b"RESTORE", b"m", b"0", payload(b"\x02\x02\x01a\x01a")),
        (b"RESTORE", b"m", b"0", payload(b"\x01\x00")),
        (b"RESTORE", b"m", b"0", payload(b"\0\x03abc", 0)),
        (b"RESTORE", b"o", b"0", payload(b"\0\x03abc", 79)),
        (b"RESTORE", b"o", b"0", STRING, b"IDLETIME", b"-1"),
        (b"RESTORE", b"o", b"0", STRING, b"IDLETIME"),
        (b"RESTORE", b"o", b"0", STRING, b"FREQ", b"256"),
        (b"RESTORE", b"o", b"0", STRING, b"FREQ", b"x"),
        (b"RESTORE", b"o", b"0", STRING, b"FREQ", b"3", b"IDLETIME", b"3"),
        (b"RESTORE", b"o", b"0", STRING, b"FOO"),
        (b"RESTORE", b"k", b"1", STRING, b"ABSTTL"),
        (b"RESTORE", b"k", b"1", STRING, b"ABSTTL", b"REPLACE"),
        (b"EXISTS", b"k"),
        (b"RESTORE", b"k", b"100000", STRING, b"IDLETIME", b"5", b"REPLACE"),
        (b"TTL", b"k"),
        (b"RESTORE-ASKING", b"k", b"0", STRING, b"REPLACE"),
        (b"RESTORE", b"k"),
    ]
    with running("kvstore") as ours, ours.client() as client, valkey_server.client() as oracle:
        oracle.call("FLUSHALL")
        for request in requests:
            assert client.call(*request) == oracle.call(*request), request


def test_a_restored_key_is_logged_so_that_replay_gives_the_same(db: Database, recorder: Recorder) -> None:
    db.sadd("set", "a", "b")
    db.restore("copy", 5000, db.dump("set"))
    db.restore("set", 0, STRING, replace=True)
    db.restore("gone", START_MS - 1, STRING, absttl=True)
    assert digest(replay(recorder.effects)) == digest(db.ctx)
    assert ("restore", b"copy") in [(name, key) for _, name, key in recorder.events]
    assert db.pttl("copy") == 5000


def test_deadlines_of_fields_travel_with_a_hash() -> None:
    clock = ManualClock(START_MS)
    store, other = Store(clock=clock), Store(clock=clock)
    store.hset("hash", mapping={"a": 1, "b": 2, "c": 3})
    store.hexpire("hash", 100, "b")
    store.hpexpire("hash", 12345, "c")
    other.restore("hash", 0, store.dump("hash"))
    assert other.hpttl("hash", "a", "b", "c") == [-1, 100_000, 12345]
    clock.advance(50)
    assert other.hgetall("hash") == {b"a": b"1", b"b": b"2"}


def bodies() -> list[bytes]:
    """Types and bodies of values of every type, size and encoding, old and new, compressed and not."""
    store = Store()
    found = [store.dump(name)[:-10] for name in fill(store)]
    found += [bytes((each.number,)) + each.body for each in samples() if len(each.body) < 4096]
    for path in (Path(__file__).parent / "data").glob("*-streams.rdb"):
        values = [each.value for each in read_rdb(path.read_bytes(), Limits()) if isinstance(each, Record)]
        for value, target, compress in product(values, Target, (False, True)):
            record = TYPES[type(value)]
            head = bytes((record.rdb_type(value, target),))
            found.append(head + b"".join(record.dump(value, target, compress)))
    return found


def damaged(rng: random.Random, body: bytes, other: bytes) -> bytes:
    """A body with up to three places changed, taken out, put in, repeated, or come from another one."""
    made = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(made))
        match rng.randrange(7):
            case 0:
                made[at] = rng.randrange(256)
            case 1:
                made[at] ^= 1 << rng.randrange(8)
            case 2:
                del made[at : at + rng.randrange(1, 9)]
            case 3:
                made[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                made[at:at] = made[at : at + rng.randrange(1, 40)]
            case 5:  # what begins a length of the largest kind, or ends something
                made[at] = rng.choice((0, 0x40, 0x7F, 0x80, 0x81, 0xC3, 0xF0, 0xFE, 0xFF))
            case 6:
                start = rng.randrange(len(other))
                made[at : at + rng.randrange(20)] = other[start : start + rng.randrange(1, 20)]
        made = made or bytearray(b"\0")
    return bytes(made)


def test_damaged_payloads_are_refused_or_make_a_sound_value(heavy: bool, bounded_memory: None) -> None:
    rng = random.Random(new_seed())
    whole = bodies()
    of_type = [
        [body for body in whole if body[0] == number] for number in sorted({body[0] for body in whole})
    ]
    numbers = bytes([each[0][0] for each in of_type] + [6, 7, 23, 26])
    target = Context(Database, clock=ManualClock(START_MS)).database(0)
    made: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    slowest = 0.0
    for _ in range(200_000 if heavy else 10_000):
        body = damaged(rng, rng.choice(rng.choice(of_type)), rng.choice(whole))
        # Also as another type, so that every loader meets what is not its own.
        if rng.random() < 0.2:
            body = bytes((rng.choice(numbers),)) + body[1:]
        version = 80 if body[0] == 22 else rng.choice((6, 9, 12, 80))
        started = time.perf_counter()
        try:
            target.restore("k", 0, payload(body, version), replace=True)
        except ResponseError as error:
            assert str(error) == "ERR Bad data format"
            refused[body[0]] += 1
        else:
            made[body[0]] += 1
            value = target._data[b"k"]
            record = TYPES[type(value)]
            record.check(value)
            # Sound enough to come back from what is written of it.
            again = load_payload(dump_payload(value), target.ctx.limits)
            assert record.digest(again) == record.digest(value), body
        slowest = max(slowest, time.perf_counter() - started)
    loaders = {number & 0xFF for record in TYPES.values() for number in record.loaders}
    by_type = {number: (made[number], refused[number]) for number in sorted(loaders)}
    print(f"made and refused: {by_type}, slowest {slowest:.3f} s")
    # Every loader has met both what it took and what it did not.
    assert all(map(all, by_type.values()))
    assert slowest < 2
