"""Bits of strings: what typed methods give, what is logged, and that all agrees with plain looks at each bit."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kvstore import DataError, ResponseError, Store, WrongTypeError
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.bitmaps import _PIECE
from kvstore.engine.database import Database
from kvstore.errors import OutOfMemoryError
from kvstore.resp import NULL_ARRAY
from tests.laws import Recorder, digest, effects, event_names, replay
from tests.seeds import new_seed
from tests.servers import Server

# Lengths about the limits of pieces and of what is skipped at once, in bytes.
LENGTHS = (1, 2, 7, 8, 9, 1023, 1024, 1025, _PIECE - 1, _PIECE, _PIECE + 1, (1 << 16) + 3)


def bits_of(value: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in value)


def sparse(rng: random.Random, length: int) -> bytes:
    """A string of zeros or ones with a few other bytes."""
    value = bytearray(rng.choice((b"\x00", b"\xff")) * length)
    for _ in range(rng.choice((0, 1, 3))):
        value[rng.randrange(length)] = rng.randrange(256)
    return bytes(value)


# -- one bit -----------------------------------------------------------------------------------------


def test_a_bit_is_set_read_and_cleared(db: Database, recorder: Recorder) -> None:
    assert db.setbit("k", 10, 1) == 0
    assert db.get("k") == b"\x00\x20"
    assert db.getbit("k", 10) == 1
    assert db.getbit("k", 9) == db.getbit("k", 99) == db.getbit("none", 0) == 0
    assert db.setbit("k", 10, 0) == 1
    assert effects(recorder) == [(b"SETBIT", b"k", b"10", b"1"), (b"SETBIT", b"k", b"10", b"0")]
    assert event_names(recorder).count("setbit") == 2


def test_a_bit_that_is_so_already_changes_nothing_unless_the_string_grows(
    db: Database, recorder: Recorder
) -> None:
    db.set("k", b"\x80")
    recorder.take()
    before = db.dirty
    assert db.setbit("k", 0, 1) == 1 and db.setbit("k", 1, 0) == 0
    assert (db.dirty, effects(recorder)) == (before, [])
    assert db.setbit("k", 8, 0) == 0
    assert (db.dirty, db.get("k")) == (before + 1, b"\x80\x00")
    assert effects(recorder) == [(b"SETBIT", b"k", b"8", b"0")]


def test_the_deadline_stays_when_bits_change(db: Database) -> None:
    db.set("k", "x", ex=100)
    db.setbit("k", 1, 0)
    db.bitfield("k").set("u8", 0, 1).execute()
    assert db.ttl("k") == 100
    db.bitop("NOT", "k", "k")
    assert db.ttl("k") == -1


@pytest.mark.parametrize("offset", [-1, "x", "#1", "", "1.0", 1 << 32, 1 << 63])
def test_offsets_out_of_range_are_refused(db: Database, offset: Any) -> None:
    for call in (lambda: db.setbit("k", offset, 1), lambda: db.getbit("k", offset)):
        with pytest.raises(ResponseError, match="bit offset is not an integer or out of range"):
            call()
    assert not db.exists("k")


def test_the_longest_string_limits_offsets(db: Database) -> None:
    db.ctx.limits.proto_max_bulk_len = 1 << 20
    assert db.setbit("k", (1 << 23) - 1, 1) == 0
    assert db.strlen("k") == 1 << 20
    with pytest.raises(ResponseError, match="bit offset"):
        db.setbit("k", 1 << 23, 1)


def test_other_types_are_refused(db: Database) -> None:
    db.rpush("l", "x")
    for call in (
        lambda: db.setbit("l", 0, 1),
        lambda: db.getbit("l", 0),
        lambda: db.bitcount("l"),
        lambda: db.bitpos("l", 1),
        lambda: db.bitop("AND", "d", "l"),
        lambda: db.bitfield("l").get("u8", 0).execute(),
        lambda: db.bitfield("l").set("u8", 0, 1).execute(),
        lambda: db.bitfield_ro("l", "u8", 0),
    ):
        with pytest.raises(WrongTypeError):
            call()


# -- many bits ---------------------------------------------------------------------------------------


def test_counts_and_places_are_those_of_a_look_at_each_bit(db: Database, heavy: bool) -> None:
    rng = random.Random(new_seed())
    for length in LENGTHS * (10 if heavy else 1):
        value = sparse(rng, length)
        db.set("k", value)
        bits, size = bits_of(value), length << 3
        assert db.bitcount("k") == bits.count("1")
        assert db.bitpos("k", 1) == bits.find("1")
        assert db.bitpos("k", 0) == (bits.find("0") if "0" in bits else size)
        for _ in range(20):
            start, end = sorted(rng.randrange(size) for _ in range(2))
            assert db.bitcount("k", start, end, "BIT") == bits.count("1", start, end + 1)
            assert db.bitcount("k", start - size, end - size, "bit") == bits.count("1", start, end + 1)
            for bit in (0, 1):
                assert db.bitpos("k", bit, start, end, "BIT") == bits.find(str(bit), start, end + 1)
            low, high = start >> 3, end >> 3
            assert db.bitcount("k", low, high) == bits.count("1", low << 3, (high + 1) << 3)
            assert db.bitpos("k", 1, low, high, "BYTE") == bits.find("1", low << 3, (high + 1) << 3)


def test_a_zero_is_found_behind_a_string_of_ones_where_the_range_has_no_end(db: Database) -> None:
    db.set("k", b"\xff\xff")
    assert db.bitpos("k", 0) == db.bitpos("k", 0, 1) == 16
    assert db.bitpos("k", 0, 0, -1) == db.bitpos("k", 0, 0, 15, "BIT") == db.bitpos("k", 0, 2) == -1
    assert (db.bitpos("none", 0), db.bitpos("none", 1), db.bitcount("none", 0, -1)) == (0, -1, 0)


def test_ranges_that_are_none_are_refused(db: Database) -> None:
    with pytest.raises(DataError, match="Both start and end"):
        db.bitcount("k", 1)
    with pytest.raises(DataError, match="bit must be 0 or 1"):
        db.bitpos("k", 2)
    with pytest.raises(DataError, match="start argument is not set"):
        db.bitpos("k", 1, end=3)
    with pytest.raises(ResponseError, match="syntax error"):
        db.bitcount("k", 0, 1, "NIBBLE")
    with pytest.raises(ResponseError, match="not an integer"):
        db.bitpos("k", 1, 0, "x")  # type: ignore[arg-type]


def test_operations_are_those_of_integers(db: Database) -> None:
    rng = random.Random(new_seed())
    for _ in range(30):
        values = [sparse(rng, rng.choice(LENGTHS)) for _ in range(rng.randint(2, 4))]
        size = max(map(len, values))
        for at, value in enumerate(values):
            db.set(f"k{at}", value)
        keys = [f"k{at}" for at in range(len(values))]
        first, *others = (int.from_bytes(value.ljust(size, b"\x00"), "big") for value in values)
        either, both, odd = 0, first, first
        for each in others:
            either, both, odd = either | each, both & each, odd ^ each
        ones = [
            bits.count("1") == 1
            for bits in zip(*map(bits_of, [v.ljust(size, b"\0") for v in values]), strict=True)
        ]
        for name, expected in (
            ("AND", both),
            ("or", first | either),
            ("XOR", odd),
            ("DIFF", first & ~either),
            ("DIFF1", either & ~first),
            ("ANDOR", first & either),
            ("ONE", int("".join("01"[one] for one in ones), 2)),
        ):
            assert db.bitop(name, "d", *keys) == size
            assert db.get("d") == expected.to_bytes(size, "big"), name
        assert db.bitop("NOT", "d", "k0") == len(values[0])
        assert db.get("d") == bytes(byte ^ 255 for byte in values[0])


def test_an_empty_result_leaves_no_key(db: Database, recorder: Recorder) -> None:
    db.rpush("d", "x")
    assert db.bitop("AND", "d", "none", "nothing") == 0
    assert not db.exists("d") and effects(recorder)[-1] == (b"DEL", b"d")
    before = db.dirty
    assert db.bitop("NOT", "d", "none") == 0
    assert db.dirty == before


def test_operations_are_refused_with_too_many_or_too_few_keys(db: Database) -> None:
    for operation, keys, complaint in (
        ("NOT", ("a", "b"), "BITOP NOT must be called with a single source key"),
        ("DIFF", ("a",), "BITOP DIFF must be called with at least two source keys"),
        ("AND", (), "wrong number of arguments for 'bitop' command"),
        ("NAND", ("a",), "syntax error"),
    ):
        with pytest.raises(ResponseError, match=complaint):
            db.bitop(operation, "d", *keys)


def test_newer_operations_are_commands_only_of_versions_that_have_them(db: Database) -> None:
    db.mset({"a": b"\x0f", "b": b"\x3c"})
    hub = Hub(db.ctx)
    session = Session(hub, TREE2)
    hub.compat_version = (8, 1, 9)
    assert session.call(b"BITOP ANDOR d a b".split()) == b"ERR syntax error"
    hub.compat_version = (8, 2, 0)
    assert session.call(b"BITOP ANDOR d a b".split()) == 1
    assert db.get("d") == b"\x0c"


# -- fields --------------------------------------------------------------------------------------------


def test_fields_are_read_set_and_added_to_in_order(db: Database) -> None:
    operation = db.bitfield("k").set("i8", "#1", -3).incrby("u4", 4, 9).get("i8", 8).get("u16", 0)
    assert operation.execute() == [0, 9, -3, 0x09FD]
    assert operation.execute() == []
    assert db.bitfield_ro("k", "u8", "#0", items=[("i8", 8), ("u63", 0), ("u8", 1000)]) == [
        9,
        -3,
        0x09FD << 47,
        0,
    ]
    assert db.bitfield("none").get("u8", 0).execute() == [0]
    assert not db.exists("none")


def test_a_field_overflows_as_told(db: Database) -> None:
    added = db.bitfield("k").incrby("u2", 0, 3)
    added.incrby("u2", 0, 2).incrby("u2", 0, 9, "SAT").incrby("u2", 0, 1, "FAIL").incrby("u2", 0, -1)
    assert added.execute() == [3, 1, 3, None, 2]
    assert db.bitfield("k", "FAIL").set("i4", 4, 8).set("i4", 4, 7).execute() == [None, 0]
    assert db.bitfield("k", "sat").set("u3", 8, -1).get("u3", 8).execute() == [0, 7]
    assert db.bitfield("k").set("u3", 8, -2).get("u3", 8).execute() == [7, 6]


def test_fields_of_any_size_and_place_keep_what_is_around_them(db: Database) -> None:
    rng = random.Random(new_seed())
    size = 200
    bits = [rng.choice("01") for _ in range(size)]
    db.set("k", int("".join(bits), 2).to_bytes(size // 8, "big"))
    for _ in range(500):
        signed = rng.random() < 0.5
        width = rng.randint(1, 64 if signed else 63)
        at = rng.randrange(size - width + 1)
        low = -(1 << width - 1) if signed else 0
        number = rng.randrange(low, low + (1 << width))
        before = int("".join(bits[at : at + width]), 2)
        if signed and bits[at] == "1":
            before -= 1 << width
        field = f"{'i' if signed else 'u'}{width}"
        assert db.bitfield("k").set(field, at, number).execute() == [before]
        bits[at : at + width] = f"{number % (1 << width):0{width}b}"
        assert db.get("k") == int("".join(bits), 2).to_bytes(size // 8, "big")


@pytest.mark.parametrize(
    ("field", "offset", "complaint"),
    [
        ("u64", 0, "Invalid bitfield type"),
        ("i65", 0, "Invalid bitfield type"),
        ("f8", 0, "Invalid bitfield type"),
        ("u8", -1, "bit offset"),
        ("u8", "#-1", "bit offset"),
        ("u8", "##1", "bit offset"),
    ],
)
def test_fields_that_are_none_are_refused_before_anything_is_done(
    db: Database, field: str, offset: int | str, complaint: str
) -> None:
    with pytest.raises(ResponseError, match=complaint):
        db.bitfield("k").set("u8", 0, 1).get(field, offset).execute()
    with pytest.raises(ResponseError, match=complaint):
        db.bitfield_ro("k", field, offset)
    assert not db.exists("k")


def test_changes_of_fields_are_counted_and_logged_where_there_are_any(
    db: Database, recorder: Recorder
) -> None:
    db.set("k", b"\x01\x02")
    recorder.take()
    before = db.dirty
    db.bitfield("k").get("u8", 0).set("u8", 0, 1).execute()
    db.bitfield("k", "FAIL").incrby("u8", 0, 255).execute()
    assert (db.dirty, effects(recorder)) == (before, [])
    db.bitfield("k").set("u8", 0, 2).incrby("u8", 8, 1).execute()
    assert db.dirty == before + 2
    words = (b"SET", b"u8", b"0", b"2", b"INCRBY", b"u8", b"8", b"1")
    assert effects(recorder) == [(b"BITFIELD", b"k", *words)]
    assert event_names(recorder) == ["setbit"]


def test_a_string_that_only_grew_is_logged(db: Database, recorder: Recorder) -> None:
    """Servers forget this: their log gives a shorter string."""
    assert db.bitfield("k", "FAIL").incrby("u8", 8, 256).execute() == [None]
    assert db.get("k") == b"\x00\x00"
    assert digest(replay(recorder.take())) == digest(db.ctx)


# -- all of them ---------------------------------------------------------------------------------------


def test_effects_repeat_what_was_done(db: Database, recorder: Recorder) -> None:
    rng = random.Random(new_seed())
    keys = ("a", "b", "c")
    for _ in range(300):
        key = rng.choice(keys)
        kind = rng.randrange(3)
        if kind == 0:
            db.setbit(key, rng.randrange(300), rng.randrange(2))
        elif kind == 1:
            names = ("AND", "OR", "XOR", "DIFF", "DIFF1", "ANDOR", "ONE")
            db.bitop(rng.choice(names), key, *rng.choices((*keys, "none"), k=3))
        else:
            way = rng.choice(("WRAP", "SAT", "FAIL"))
            field, at = f"i{rng.randint(1, 64)}", rng.randrange(200)
            db.bitfield(key, way).incrby(field, at, rng.randrange(1 << 63)).execute()
    taken = recorder.take()
    assert digest(replay(taken)) == digest(db.ctx)
    names = {effect[0] for _, effect in taken}
    assert names <= {b"SETBIT", b"BITOP", b"SET", b"BITFIELD", b"DEL"}
    # Newer operations are logged as what came of them, which older servers read.
    assert {effect[1] for _, effect in taken if effect[0] == b"BITOP"} <= {b"AND", b"OR", b"XOR"}


def test_a_store_that_is_full_takes_no_more_bits() -> None:
    store = Store(maxmemory=1)
    store.getbit("k", 1)
    for call in (
        lambda: store.setbit("k", 1, 1),
        lambda: store.bitop("NOT", "d", "k"),
        lambda: store.bitfield("k"),
    ):
        store.call("CONFIG", "SET", "maxmemory", "0")
        store.set("filler", bytes(1000))
        store.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OutOfMemoryError):
            call()


def test_a_pipeline_gathers_fields_as_redis_py_does() -> None:
    store = Store()
    pipe = store.pipeline()
    fields = pipe.bitfield("k").set("u8", 0, 5).incrby("u8", 0, 1)
    assert fields.execute() is pipe and not store.exists("k")
    assert pipe.bitcount("k").setbit("k", 7, 1).execute() == [[0, 6], 2, 0]


def test_watched_keys_are_touched_by_bits() -> None:
    store = Store()
    other = store.new_session()
    for line in ("SETBIT k 1 1", "BITFIELD k SET u8 8 1", "BITFIELD k OVERFLOW FAIL INCRBY u8 80 256"):
        session = store.new_session()
        session.call([b"WATCH", b"k"])
        other.call(line.encode().split())
        session.call([b"MULTI"])
        assert session.call([b"EXEC"]) is NULL_ARRAY, line
        session.close()
    other.close()


def test_keys_of_bitfield_are_used_as_a_real_server_says(
    kvstore_server: Server, valkey_server: Server
) -> None:
    with kvstore_server.client() as ours, valkey_server.client() as theirs:
        for line in (
            "bitfield k",
            "bitfield k GET u8 0",
            "bitfield k get u8 0 GET u8 8",
            "bitfield k GET u8 0 SET u8 0 1",
            "bitfield k OVERFLOW WRAP GET u8 0",
            "bitfield k OVERFLOW x",
            "bitfield k OVERFLOW",
            "bitfield k OVERFLOW SET SET u8 0 1",
            "bitfield k GET SET u8 SET u8 0 1",
            "bitfield k GET u8 0 SET",
            "bitfield k GET",
            "bitfield k GET u8",
            "bitfield k BAD",
            "bitfield_ro k GET u8 0",
            "bitop and d a b c",
            "bitop not d a",
            "bitop bad d a",
        ):
            asked = ("COMMAND", "GETKEYSANDFLAGS", *line.split())
            assert ours.call(*asked) == theirs.call(*asked), line


RULES = ["%R~k", "%W~k", "~k", "%R~k %W~d", "%W~d %R~k %R~j"]


@pytest.mark.parametrize("rules", RULES)
def test_users_may_do_to_bits_what_a_real_server_lets_them(
    rules: str, kvstore_server: Server, valkey_server: Server
) -> None:
    asked = [
        line.split()
        for line in (
            "SETBIT k 1 1",
            "GETBIT k 1",
            "BITCOUNT k",
            "BITPOS k 1",
            "BITFIELD k GET u8 0",
            "BITFIELD k GET u8 0 GET u4 x",
            "BITFIELD k SET u8 0 1",
            "BITFIELD k GET u8 0 INCRBY u8 0 1",
            "BITFIELD k OVERFLOW FAIL",
            "BITFIELD k",
            "BITFIELD k BAD",
            "BITFIELD k GET u8",
            "BITFIELD_RO k GET u8 0",
            "BITFIELD_RO k SET u8 0 1",
            "BITOP NOT d k",
            "BITOP AND d k j",
            "BITOP BAD d k",
            "BITOP NOT k k",
        )
    ]

    def answers(server: Server) -> list[bytes]:
        with server.client() as client:
            client.call("FLUSHALL")
            client.call("SET", "k", "foobar")
            client.call("ACL", "SETUSER", "u", "reset", "on", ">p", "+@all", *rules.split())
            client.call("AUTH", "u", "p")
            found = [client.call(*each) for each in asked]
            client.call("AUTH", "default", "")
            client.call("ACL", "DELUSER", "u")
            client.call("FLUSHALL")
            return found

    for each, mine, other in zip(asked, answers(kvstore_server), answers(valkey_server), strict=True):
        assert mine == other, each
