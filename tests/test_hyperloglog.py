"""HyperLogLogs: their strings are those of real servers, byte for byte, and so is what is counted from them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
import redis

from kvstore import ResponseError, Store, WrongTypeError
from kvstore.engine import hll
from kvstore.engine.database import Database
from kvstore.engine.hyperloglog import self_test
from kvstore.errors import OutOfMemoryError
from kvstore.resp import NULL_ARRAY
from tests.laws import Recorder, digest, effects, event_names, replay
from tests.seeds import new_seed
from tests.servers import Server

HEAD = b"HYLL\x01" + bytes(10) + b"\x80"
CORRUPTED = "INVALIDOBJ Corrupted HLL object detected"


@pytest.fixture(params=["redis", "valkey"])
def real(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    with redis.Redis.from_url(server.unix_url) as client:
        client.flushall()
        yield client
        client.config_set("hll-sparse-max-bytes", 3000)
        client.flushall()


def elements(rng: random.Random, count: int) -> list[bytes]:
    return [rng.randbytes(rng.randrange(40)) for _ in range(count)]


def string_of(db: Database, key: str = "k") -> bytes:
    value = db.get(key)
    assert value is not None
    return value


# -- beside real servers -----------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 18, 100, 3000, 10_000])
def test_strings_and_counts_are_those_of_a_real_server_at_every_size(
    most: int, db: Database, real: redis.Redis, heavy: bool
) -> None:
    rng = random.Random(new_seed())
    db.ctx.limits.hll_sparse_max_bytes = most
    real.config_set("hll-sparse-max-bytes", most)
    rounds = 400 if heavy else 60
    for _ in range(rounds):
        some = elements(rng, rng.choice((0, 1, 1, 5, 100)))
        assert db.pfadd("k", *some) == real.pfadd("k", *some)
        assert string_of(db) == real.get("k")
        if rng.random() < 0.3:
            assert db.pfcount("k") == real.pfcount("k")
            assert string_of(db) == real.get("k")  # with the estimate in it
    assert hll.is_dense(string_of(db)) or most >= 3000


def test_a_value_is_dense_from_the_same_element_on(db: Database, real: redis.Redis) -> None:
    rng = random.Random(new_seed())
    for most in (40, 400, 3000):
        db.ctx.limits.hll_sparse_max_bytes = most
        real.config_set("hll-sparse-max-bytes", most)
        db.delete("k")
        real.delete("k")
        longest = 0
        while not (db.exists("k") and hll.is_dense(string_of(db))):
            longest = max(longest, db.strlen("k"))
            (element,) = elements(rng, 1)
            assert db.pfadd("k", element) == real.pfadd("k", element)
            assert string_of(db) == real.get("k")
        assert most - 4 < longest <= most


def test_unions_are_those_of_a_real_server(db: Database, real: redis.Redis) -> None:
    rng = random.Random(new_seed())
    keys = ("a", "b", "c", "d")
    db.ctx.limits.hll_sparse_max_bytes = 600
    real.config_set("hll-sparse-max-bytes", 600)
    for _ in range(60):
        key = rng.choice(keys)
        some = elements(rng, rng.choice((1, 10, 100)))
        assert db.pfadd(key, *some) == real.pfadd(key, *some)
        chosen = rng.choices((*keys, "none"), k=rng.randint(1, 4))
        assert db.pfcount(*chosen) == real.pfcount(*chosen)
        if rng.random() < 0.3:
            assert db.pfmerge(*chosen) == real.pfmerge(*chosen)
            assert string_of(db, chosen[0]) == real.get(chosen[0])
            if rng.random() < 0.5:
                db.delete(chosen[0])
                real.delete(chosen[0])


@pytest.mark.parametrize("count", [0, 3, 500, 5000])
def test_a_value_goes_on_where_a_real_server_left_off_and_back(
    count: int, real: redis.Redis, kvstore_server: Server
) -> None:
    rng = random.Random(new_seed())
    with redis.Redis.from_url(kvstore_server.unix_url) as ours:
        ours.flushall()
        real.pfadd("k", *elements(rng, count))
        ours.set("set", real.get("k"))
        ours.restore("restored", 0, real.dump("k"))
        more = elements(rng, count + 10)
        real.pfadd("k", *more)
        value, counted = real.get("k"), real.pfcount("k")
        for key in ("set", "restored"):
            ours.pfadd(key, *more)
            assert ours.get(key) == value
            assert ours.pfcount(key) == counted
        again = elements(rng, 100)
        real.restore("back", 0, ours.dump("set"))
        assert real.pfadd("back", *again) == ours.pfadd("set", *again)
        assert real.pfcount("back") == ours.pfcount("set")
        assert real.get("back") == ours.get("set")
        ours.flushall()


def test_registers_are_described_as_by_a_real_server(real: redis.Redis) -> None:
    store = Store()
    store.pfadd("k", *range(200))
    real.pfadd("k", *range(200))
    for words in ("ENCODING k", "decode k", "GETREG k", "ENCODING k", "TODENSE k", "GETREG k"):
        assert store.call("PFDEBUG", *words.split()) == real.execute_command("PFDEBUG", *words.split()), words
    real.pfadd("j", "x")
    store.pfadd("j", "x")
    assert store.call("PFDEBUG", "TODENSE", "j") == real.execute_command("PFDEBUG", "TODENSE", "j") == 1
    assert store.get("j") == real.get("j")


# -- layouts -----------------------------------------------------------------------------------------


def test_both_layouts_hold_the_same_registers() -> None:
    rng = random.Random(new_seed())
    for count in (0, 1, 10, 300, 3000):
        some = elements(rng, count)
        sparse = hll.add(hll.EMPTY, some, 1 << 20).value
        dense = hll.add(hll.to_dense(hll.EMPTY), some, 0).value
        registers = hll.registers_of(sparse)
        assert not hll.is_dense(sparse) and hll.is_dense(dense)
        assert registers == hll.registers_of(dense)
        assert hll.to_dense(sparse) == dense
        wanted = bytearray(hll.REGISTERS)
        for index, least in map(hll.place_of, some):
            wanted[index] = max(wanted[index], least)
        assert registers == wanted


def test_registers_are_packed_and_unpacked_and_the_greater_chosen() -> None:
    rng = random.Random(new_seed())
    a, b = (bytes(rng.randrange(64) for _ in range(hll.REGISTERS)) for _ in range(2))
    packed = hll.pack(a)
    assert len(packed) == hll.DENSE - hll.HEAD and hll.unpack(packed) == a
    bits = int.from_bytes(packed, "little")
    assert all(bits >> 6 * at & 63 == a[at] for at in range(0, hll.REGISTERS, 97))
    assert hll.greatest(a, b) == bytes(map(max, a, b))


def test_estimates_are_near() -> None:
    self_test()
    store = Store()
    for count in (10, 1000, 50_000):
        store.pfadd("k", *range(count))
        assert abs(store.pfcount("k") - count) <= count * 0.03


def test_registers_that_no_elements_make_are_beyond_counting(db: Database, real: redis.Redis) -> None:
    value = b"HYLL" + bytes(11) + b"\x80" + b"\xff" * 12288
    db.set("k", value)
    real.set("k", value)
    assert db.pfcount("k") == db.pfcount("k", "k") == real.pfcount("k") == -(1 << 63)
    assert db.get("k") == real.get("k")


# -- what is kept, logged and told -------------------------------------------------------------------


def test_the_estimate_is_kept_in_the_value_until_it_changes(db: Database) -> None:
    db.pfadd("k", "a", "b")
    assert hll.cached(string_of(db)) is None
    assert db.pfcount("k") == 2
    assert hll.cached(string_of(db)) == 2
    db.pfadd("k", "a")
    assert hll.cached(string_of(db)) == 2
    db.pfadd("k", "c")
    assert hll.cached(string_of(db)) is None
    db.set("told", HEAD[:8] + (77).to_bytes(8, "little") + b"\x7f\xff")
    assert db.pfcount("told") == 77 and db.pfcount("told", "none") == 0


def test_what_changes_is_logged_and_told(db: Database, recorder: Recorder) -> None:
    assert db.pfadd("k") == 1 and db.pfadd("k") == 0
    assert db.pfadd("k", "a", "b") == 1 and db.pfadd("k", "b") == 0
    assert effects(recorder) == [(b"PFADD", b"k"), (b"PFADD", b"k", b"a", b"b")]
    assert event_names(recorder).count("pfadd") == 2
    recorder.take()
    before = db.dirty
    assert db.pfcount("k") == db.pfcount("k") == 2
    assert (db.dirty, effects(recorder)) == (before + 1, [(b"PFCOUNT", b"k")])
    recorder.take()
    assert db.pfcount("k", "none") == 2
    assert effects(recorder) == []
    assert db.pfmerge("d", "k") is True
    assert effects(recorder) == [(b"PFMERGE", b"d", b"k")]


def test_effects_repeat_what_was_done(db: Database, recorder: Recorder) -> None:
    rng = random.Random(new_seed())
    keys = ("a", "b", "c")
    for _ in range(200):
        key = rng.choice(keys)
        kind = rng.randrange(6)
        if kind == 0:
            db.pfcount(key)
        elif kind == 1:
            db.pfmerge(key, *rng.choices(keys, k=2))
        elif kind == 2:
            db.delete(key)
        else:
            db.pfadd(key, *elements(rng, rng.choice((1, 20, 500))))
    assert digest(replay(recorder.take())) == digest(db.ctx)


def test_the_deadline_stays(db: Database) -> None:
    db.pfadd("k", "a")
    db.expire("k", 100)
    db.pfadd("k", "b")
    db.pfcount("k")
    db.pfmerge("k", "none")
    assert db.ttl("k") == 100


def test_counting_touches_watched_keys_where_the_estimate_is_new() -> None:
    store = Store()
    store.pfadd("k", "a")
    other = store.new_session()
    for expected in (NULL_ARRAY, []):
        session = store.new_session()
        session.call([b"WATCH", b"k"])
        other.call([b"PFCOUNT", b"k"])
        session.call([b"MULTI"])
        assert session.call([b"EXEC"]) == expected
        session.close()
    other.close()


def test_a_string_that_another_key_has_too_is_not_changed_nor_its_encoding() -> None:
    store = Store()
    store.set("a", hll.EMPTY)
    store.copy("a", "b")
    store.pfcount("b")
    assert (store.object("ENCODING", "a"), store.object("ENCODING", "b")) == (b"embstr", b"raw")
    store.set("c", hll.EMPTY)
    assert store.object("ENCODING", "c") == b"embstr"


def test_a_store_that_is_full_takes_no_more_but_counts() -> None:
    store = Store(maxmemory=1)
    store.call("CONFIG", "SET", "maxmemory", "0")
    store.set("filler", bytes(1000))
    store.pfadd("k", "a")
    store.call("CONFIG", "SET", "maxmemory", "1")
    for call in (lambda: store.pfadd("k", "b"), lambda: store.pfmerge("d", "k")):
        with pytest.raises(OutOfMemoryError):
            call()
    assert store.pfcount("k") == 1


# -- what is refused ---------------------------------------------------------------------------------

CALLS: list[Callable[[Database], object]] = [
    lambda db: db.pfadd("k", "x"),
    lambda db: db.pfcount("k"),
    lambda db: db.pfcount("none", "k"),
    lambda db: db.pfmerge("k", "none"),
    lambda db: db.pfmerge("d", "k"),
]


@pytest.mark.parametrize(
    "value",
    [b"", b"12", b"HYLL", b"HYLL\x01" + bytes(10), b"HYLL\x02" + bytes(12_299), b"HYLL" + bytes(12_299)],
)
def test_strings_that_are_none_are_refused(value: bytes, db: Database) -> None:
    db.set("k", value)
    for call in CALLS:
        with pytest.raises(WrongTypeError, match="Key is not a valid HyperLogLog string value"):
            call(db)
    assert db.get("k") == value and not db.exists("d")


def test_other_types_are_refused(db: Database) -> None:
    db.rpush("k", "x")
    for call in CALLS:
        with pytest.raises(WrongTypeError, match="wrong kind of value"):
            call(db)


@pytest.mark.parametrize(
    "runs", [b"", b"\x7f\xfe", b"\x00", b"\x7f\xff\x00", b"\x7f\xff\x80", b"\x7f\xfe\x40", b"\x7f\xfe\x83"]
)
def test_corrupted_values_are_refused(runs: bytes, db: Database) -> None:
    db.set("k", HEAD + runs)
    for call in CALLS[1:]:
        with pytest.raises(ResponseError, match=CORRUPTED):
            call(db)
    assert db.get("k") == HEAD + runs and not db.exists("d")


def test_elements_before_the_one_that_met_corruption_stay_and_are_logged(
    db: Database, recorder: Recorder, real: redis.Redis
) -> None:
    many = sorted((b"%d" % number for number in range(200)), key=hll.place_of)
    value = HEAD[:8] + (1).to_bytes(8, "little") + b"\x6f\xff"  # 12288 registers
    for store in (db, real):
        store.set("k", value, ex=1000)
        with pytest.raises((ResponseError, redis.ResponseError), match=CORRUPTED):
            store.pfadd("k", *many)
    assert string_of(db) == real.get("k") != value
    assert hll.cached(string_of(db)) is None
    assert digest(replay(recorder.take())) == digest(db.ctx)
    assert db.ttl("k") == 1000


def test_counting_nothing_is_refused(db: Database) -> None:
    with pytest.raises(ResponseError, match="wrong number of arguments for 'pfcount' command"):
        db.pfcount()


def test_errors_are_those_of_a_real_server(kvstore_server: Server, any_server: Server) -> None:
    with kvstore_server.client() as ours, any_server.client() as theirs:
        for client in (ours, theirs):
            client.call("FLUSHALL")
            client.call("RPUSH", "l", "x")
            client.call("SET", "n", "12")
            client.call("SET", "bad", HEAD + b"\x7f\xfe")
            client.call("PFADD", "k", "a")
        for line in (
            *("PFADD", "PFADD l", "PFADD n a", "PFCOUNT", "PFCOUNT l n", "PFCOUNT n l", "PFCOUNT k bad"),
            *("PFMERGE", "PFMERGE l k", "PFMERGE d n l", "PFMERGE d l n", "PFMERGE d bad", "PFMERGE n bad"),
            *("PFDEBUG", "PFDEBUG ENCODING", "PFDEBUG ENCODING none", "PFDEBUG NO none", "PFDEBUG NO k"),
            *(
                "PFDEBUG NO l",
                "PFDEBUG NO n",
                "PFDEBUG GETREG bad",
                "PFDEBUG TODENSE bad",
                "PFDEBUG DECODE bad",
            ),
            *("PFDEBUG ENCODING k", "PFDEBUG ENCODING k x", "PFSELFTEST", "PFSELFTEST x"),
            "EVAL_RO return{redis.pcall('PFCOUNT','k')} 0",
        ):
            assert ours.call(*line.split()) == theirs.call(*line.split()), line
        for client in (ours, theirs):
            client.call("FLUSHALL")


RULES = ["%R~k", "%W~k", "~k", "%R~k %W~d", "%W~d %R~k %R~j", "~d %R~k", "%R~d %W~d %R~k"]


@pytest.mark.parametrize("rules", RULES)
def test_users_may_do_what_a_real_server_lets_them(
    rules: str, kvstore_server: Server, valkey_server: Server
) -> None:
    lines = (
        "PFADD k a",
        "PFCOUNT k",
        "PFCOUNT k j",
        "PFMERGE d k",
        "PFMERGE d k j",
        "PFMERGE k k",
        "PFMERGE d d",
    )
    lines += ("PFDEBUG ENCODING k", "PFDEBUG ENCODING d", "PFDEBUG BAD k", "PFSELFTEST")

    def answers(server: Server) -> list[bytes]:
        with server.client() as client:
            client.call("FLUSHALL")
            client.call("ACL", "SETUSER", "u", "reset", "on", ">p", "+@all", *rules.split())
            client.call("AUTH", "u", "p")
            found = [client.call(*line.split()) for line in lines]
            client.call("AUTH", "default", "")
            client.call("ACL", "DELUSER", "u")
            client.call("FLUSHALL")
            return found

    for line, mine, other in zip(lines, answers(kvstore_server), answers(valkey_server), strict=True):
        assert mine == other, line


def test_a_key_alone_is_merged_by_those_who_may_change_it(
    kvstore_server: Server, valkey_server: Server
) -> None:
    """Real servers do not see the key, and let anybody."""

    def answer(server: Server, rule: str) -> bytes:
        with server.client() as client:
            client.call("ACL", "SETUSER", "u", "reset", "on", ">p", "+@all", rule)
            client.call("AUTH", "u", "p")
            found = client.call("PFMERGE", "d")
            client.call("AUTH", "default", "")
            client.call("ACL", "DELUSER", "u")
            client.call("DEL", "d")
            return found

    assert answer(kvstore_server, "~d") == b"+OK\r\n"
    for rule in ("~k", "%W~d", "%R~d"):
        assert answer(kvstore_server, rule) == b"-NOPERM No permissions to access a key\r\n"
        assert answer(valkey_server, rule) == b"+OK\r\n"
