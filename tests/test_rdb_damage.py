"""Damaged RDB files: cut and flipped at every byte, they are refused by name and place, or load, and nothing else."""

from __future__ import annotations

import random
import time

import pytest

from kvstore.engine.codec import crc64
from kvstore.engine.context import Context, Limits, ManualClock
from kvstore.engine.database import Database
from kvstore.engine.types import Target
from kvstore.errors import FormatError
from kvstore.persist.rdb_load import load_rdb, read_rdb
from tests.laws import START_MS
from tests.seeds import new_seed
from tests.test_rdb import write

SECONDS = 2.0  # for one small file; a hang, not a slow machine


def small(target: Target, checksum: bool) -> bytes:
    """A file of some hundred bytes, with something of everything."""
    ctx = Context(Database, clock=ManualClock(START_MS))
    db = ctx.database(0)
    db.set("string", "value", px=1000)
    db.set("long", "compressed " * 20)
    db.rpush("list", "a", "b", 1, 2, 3)
    db.sadd("set", "a", "b", 7)
    ctx.database(3).hset("hash", mapping={"f": "v", "g": "w"})
    ctx.database(3).hpexpireat("hash", START_MS + 5000, "f")
    ctx.database(3).zadd("zset", {"m": 1.5, "n": 2})
    ctx.libraries[b"lib"] = b"#!lua name=lib\n"
    return write(ctx, target, checksum=checksum, aux={b"redis-ver": b"7.2.4"})


def attempt(content: bytes) -> bool:
    """Load it both ways; whether that succeeded. Any other exception than FormatError escapes."""
    ctx = Context(Database, clock=ManualClock(START_MS))
    started = time.monotonic()
    outcomes = []
    for reading in (
        lambda: list(load_rdb(ctx, content, path="x.rdb", now_ms=None)),
        lambda: list(read_rdb(content, Limits(), path="x.rdb", skip_modules=True)),
    ):
        try:
            reading()
            outcomes.append(True)
        except FormatError as error:
            assert str(error).startswith("x.rdb: ") and error.offset is not None
            assert 0 <= error.offset <= len(content)
            outcomes.append(False)
    for db in ctx.databases.values():
        db.check()
    assert time.monotonic() - started < SECONDS
    return outcomes[0]


def resealed(content: bytes) -> bytes:
    """With the checksum that its bytes now have, so that the damage is met where it is."""
    return content[:-8] + crc64(content[:-8]).to_bytes(8, "little")


@pytest.mark.parametrize("target", Target)
def test_a_file_cut_anywhere_is_refused(target: Target, bounded_memory: None) -> None:
    content = small(target, True)
    assert attempt(content)
    for length in range(len(content)):
        assert not attempt(content[:length]), length


@pytest.mark.parametrize("target", Target)
def test_a_flipped_byte_never_goes_unnoticed(target: Target, heavy: bool, bounded_memory: None) -> None:
    content = small(target, True)
    rng = random.Random(4)
    for at in range(len(content)):
        for bits in range(1, 256) if heavy else rng.sample(range(1, 256), 3):
            damaged = bytearray(content)
            damaged[at] ^= bits
            # A version below 5 has no checksum, and one of 5 to 9 the same.
            if not 4 < at < 9:
                assert not attempt(bytes(damaged)), (at, bits)
            else:
                attempt(bytes(damaged))


@pytest.mark.parametrize("target", Target)
def test_without_a_checksum_damage_is_an_error_or_other_data(
    target: Target, heavy: bool, bounded_memory: None
) -> None:
    content = small(target, False)
    rng = random.Random(5)
    for at in range(len(content)):
        for bits in range(1, 256) if heavy else rng.sample(range(1, 256), 3):
            damaged = bytearray(content)
            damaged[at] ^= bits
            attempt(bytes(damaged))


def test_random_damage_under_a_right_checksum(heavy: bool, bounded_memory: None) -> None:
    """Several bytes changed, taken out, put in, or repeated."""
    rng = random.Random(new_seed())
    files = [small(target, True) for target in Target]
    for _ in range(100_000 if heavy else 3000):
        damaged = bytearray(rng.choice(files))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(damaged) - 8)
            kind = rng.randrange(4)
            if kind == 0:
                damaged[at] = rng.choice((0, 1, 0x40, 0x80, 0x81, 0xC0, 0xC3, 0xFF, rng.randrange(256)))
            elif kind == 1:
                del damaged[at : at + rng.randrange(1, 9)]
            elif kind == 2:
                damaged[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                damaged[at:at] = damaged[at : at + rng.randrange(1, 60)]
        attempt(resealed(bytes(damaged)))


def test_lengths_that_promise_too_much_reserve_nothing(bounded_memory: None) -> None:
    huge = b"\x81" + (1 << 60).to_bytes(8, "big")
    large = b"\x80\xff\xff\xff\xff"
    for size in (huge, large, b"\x81" + b"\xff" * 8):
        for body in (
            b"\x00\x01k" + size,
            b"\x00" + size,
            b"\x00\x01k\xc3\x03" + size + b"abc",
            b"\x00\x01k\xc3" + size + size,
            b"\x01\x01k" + size,
            b"\x02\x01k" + size,
            b"\x04\x01k" + size,
            b"\x05\x01k" + size,
            b"\x0e\x01k" + size,
            b"\x12\x01k" + size,
            b"\xfe" + size + b"\x00\x01k\x01v",
            b"\xfa" + size,
            b"\xf5" + size,
        ):
            assert not attempt(resealed(b"REDIS0010" + body + b"\xff" + bytes(8)))
        # A hint is only that.
        assert attempt(resealed(b"REDIS0010\xfb" + size + size + b"\x00\x01k\x01v\xff" + bytes(8)))
