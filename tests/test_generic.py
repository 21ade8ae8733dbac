"""Generic key commands: the typed methods, their commits, and their bindings."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import ResponseError
from tests.laws import START_MS, Lawful, Recorder, digest


@pytest.fixture
def ctx() -> Context:
    return Context(Database, clock=ManualClock(START_MS), random=random.Random(1))


@pytest.fixture
def db(ctx: Context) -> Database:
    return ctx.database(0)


def put(db: Database, **values: str) -> None:
    for key, value in values.items():
        db.set(key, value)


def clock(db: Database) -> ManualClock:
    assert isinstance(db.ctx.clock, ManualClock)
    return db.ctx.clock


class TestExistence:
    def test_exists_counts_each_mention(self, db: Database) -> None:
        put(db, a="1")
        assert db.exists("a", "nope", "a") == 2
        assert "a" in db
        assert "nope" not in db

    def test_type_names_the_value(self, db: Database) -> None:
        put(db, a="1")
        assert db.type("a") == b"string"
        assert db.type("nope") == b"none"

    def test_touch_counts_and_records_a_use(self, db: Database) -> None:
        put(db, a="1")
        assert db.object("idletime", "a") == 0
        clock(db).advance(7)
        assert db.object("idletime", "a") == 7
        assert db.touch("a", "nope") == 1
        assert db.object("idletime", "a") == 0

    def test_looking_counts_hits_and_misses_but_no_use(self, db: Database) -> None:
        put(db, a="1")
        db.object("idletime", "a")
        hits, misses = db.ctx.stats.hits, db.ctx.stats.misses
        clock(db).advance(7)
        db.exists("a", "nope")
        db.type("a")
        db.ttl("a")
        db.ttl("nope")
        assert (db.ctx.stats.hits - hits, db.ctx.stats.misses - misses) == (3, 2)
        assert db.object("idletime", "a") == 7


class TestDelete:
    def test_delete_counts_what_was_there(self, db: Database) -> None:
        put(db, a="1", b="2")
        assert db.delete("a", "nope", "a", "b") == 2
        assert db.unlink("a") == 0
        assert db.dbsize() == 0

    def test_an_expired_key_is_not_deleted_but_expires(self, db: Database) -> None:
        recorder = Recorder()
        db.ctx.listen(recorder)
        db.set("a", "1", px=5)
        clock(db).advance(ms=5)
        assert db.delete("a") == 0
        assert recorder.events[-1] == (0, "expired", b"a")

    def test_one_commit_names_the_keys_that_were_there(self, db: Database) -> None:
        put(db, a="1", b="2")
        recorder = Recorder()
        db.ctx.listen(recorder)
        db.delete("b", "nope", "a")
        assert recorder.effects == [(0, (b"DEL", b"b", b"a"))]
        assert recorder.events == [(0, "del", b"b"), (0, "del", b"a")]
        db.delete("nope")
        assert recorder.commits == 1


class TestNames:
    def test_rename_takes_value_and_deadline_along(self, db: Database) -> None:
        put(db, a="1", b="2")
        db.expire("a", 100)
        assert db.rename("a", "b") is True
        assert (db.get("b"), db.ttl("b"), db.exists("a")) == (b"1", 100, 0)

    def test_the_deadline_of_what_was_overwritten_is_gone(self, db: Database) -> None:
        put(db, a="1", b="2")
        db.expire("b", 100)
        db.rename("a", "b")
        assert db.ttl("b") == -1

    def test_rename_onto_itself_changes_nothing(self, db: Database) -> None:
        put(db, a="1")
        recorder = Recorder()
        db.ctx.listen(recorder)
        assert db.rename("a", "a") is True
        assert db.renamenx("a", "a") is False
        assert recorder.commits == 0

    def test_renamenx_leaves_an_existing_key(self, db: Database) -> None:
        put(db, a="1", b="2")
        assert db.renamenx("a", "b") is False
        assert db.renamenx("a", "c") is True
        assert (db.get("b"), db.get("c")) == (b"2", b"1")

    @pytest.mark.parametrize("method", ["rename", "renamenx"])
    def test_a_missing_source_is_an_error_even_onto_itself(self, db: Database, method: str) -> None:
        with pytest.raises(ResponseError, match=r"^ERR no such key$"):
            getattr(db, method)("nope", "nope")

    def test_rename_events_come_in_order(self, db: Database) -> None:
        put(db, a="1")
        recorder = Recorder()
        db.ctx.listen(recorder)
        db.rename("a", "b")
        assert recorder.events == [(0, "new", b"b"), (0, "rename_from", b"a"), (0, "rename_to", b"b")]

    def test_a_renamed_key_keeps_the_time_of_its_use(self, db: Database) -> None:
        put(db, a="1")
        db.object("idletime", "a")
        clock(db).advance(3)
        db.touch("a")
        clock(db).advance(5)
        used = dict(db._access or {})
        db.rename("a", "b")
        # RENAME itself uses the key, as in Redis
        assert db._access is not None and db._access[b"b"] >= used[b"a"]
        assert b"a" not in db._access


class TestCopyAndMove:
    def test_copies_are_independent(self, db: Database) -> None:
        put(db, a="1")
        db.expire("a", 50)
        assert db.copy("a", "b") is True
        db.append("a", "x")
        assert (db.get("b"), db.ttl("b")) == (b"1", 50)

    def test_copy_replaces_only_when_told(self, db: Database) -> None:
        put(db, a="1", b="2")
        assert db.copy("a", "b") is False
        assert db.copy("a", "b", replace=True) is True
        assert db.get("b") == b"1"
        assert db.copy("nope", "b", replace=True) is False

    def test_copy_to_another_database(self, db: Database) -> None:
        put(db, a="1")
        recorder = Recorder()
        db.ctx.listen(recorder)
        assert db.copy("a", "a", 3) is True
        assert db.ctx.database(3).get("a") == b"1"
        assert recorder.effects == [(0, (b"COPY", b"a", b"a", b"DB", b"3"))]
        assert recorder.events == [(3, "new", b"a"), (3, "copy_to", b"a")]

    def test_move_takes_the_deadline_along(self, db: Database) -> None:
        put(db, a="1")
        db.expire("a", 50)
        recorder = Recorder()
        db.ctx.listen(recorder)
        assert db.move("a", 3) is True
        other = db.ctx.database(3)
        assert (db.exists("a"), other.get("a"), other.ttl("a")) == (0, b"1", 50)
        assert recorder.effects == [(0, (b"MOVE", b"a", b"3"))]
        assert [event for event in recorder.events if event[1].startswith("move")] == [
            (0, "move_from", b"a"),
            (3, "move_to", b"a"),
        ]

    def test_move_does_not_overwrite(self, db: Database) -> None:
        put(db, a="1")
        put(db.ctx.database(1), a="2")
        assert db.move("a", 1) is False
        assert db.move("nope", 1) is False

    @pytest.mark.parametrize(
        ("index", "text"),
        [
            ("x", "ERR value is not an integer or out of range"),
            (16, "ERR DB index is out of range"),
            (-1, "ERR DB index is out of range"),
            (0, "ERR source and destination objects are the same"),
            (1 << 32, "ERR value is out of range, value must between -2147483648 and 2147483647"),
        ],
    )
    def test_bad_databases_are_refused_before_the_key_is_looked_at(
        self, db: Database, index: Any, text: str
    ) -> None:
        with pytest.raises(ResponseError) as caught:
            db.move("nope", index)
        assert str(caught.value) == text
        with pytest.raises(ResponseError) as caught:
            db.copy("nope", "nope", index)
        assert str(caught.value) == text


class TestDatabases:
    def test_flushdb_empties_one_database(self, db: Database) -> None:
        put(db, a="1", b="2")
        put(db.ctx.database(1), c="3")
        before = db.dirty
        assert db.flushdb() is True
        assert (db.dbsize(), db.ctx.database(1).dbsize(), db.dirty - before) == (0, 1, 2)

    def test_flushall_empties_all_with_one_effect(self, db: Database) -> None:
        put(db, a="1")
        put(db.ctx.database(1), c="3")
        recorder = Recorder()
        db.ctx.listen(recorder)
        db.flushall()
        assert digest(db.ctx) == {}
        assert recorder.effects == [(0, (b"FLUSHALL",))]
        assert recorder.whole >= {0, 1}

    def test_listeners_hear_which_keys_a_flush_took(self, db: Database) -> None:
        heard: list[tuple[int, bool, bool]] = []

        class Watching(Recorder):
            def on_clear(self, db: int, had: Any) -> None:
                heard.append((db, b"a" in had, b"b" in had))

        put(db, a="1")
        db.ctx.listen(Watching())
        db.flushdb()
        assert heard == [(0, True, False)]

    def test_swapdb_swaps_everything_at_once(self, db: Database) -> None:
        other = db.ctx.database(1)
        put(db, a="1")
        put(other, b="2", c="3")
        other.expire("b", 100)
        other.randomkey()
        assert db.swapdb(0, 1) is True
        assert (sorted(db.keys()), other.keys(), db.ttl("b")) == ([b"b", b"c"], [b"a"], 100)
        db.check()
        other.check()
        put(db, d="4")
        assert set(db.scan_iter()) == {b"b", b"c", b"d"}

    def test_listeners_hear_what_a_swap_brings(self, db: Database) -> None:
        heard: list[Any] = []

        class Watching(Recorder):
            def on_swap(self, db: int, has: Any, other: int, other_has: Any) -> None:
                heard.append((db, set(has), other, set(other_has)))

        put(db, a="1")
        put(db.ctx.database(1), b="1")
        db.ctx.listen(Watching())
        db.swapdb(0, 1)
        assert heard == [(0, {b"b"}, 1, {b"a"})]

    @pytest.mark.parametrize(
        ("pair", "text"),
        [
            (("x", "99"), "ERR invalid first DB index"),
            (("99", "x"), "ERR invalid second DB index"),
            (("0", "99"), "ERR DB index is out of range"),
            (("-1", "0"), "ERR DB index is out of range"),
            (("4294967296", "x"), "ERR invalid first DB index"),
        ],
    )
    def test_bad_indexes(self, db: Database, pair: tuple[str, str], text: str) -> None:
        with pytest.raises(ResponseError) as caught:
            db.swapdb(*pair)
        assert str(caught.value) == text


class TestLookingAround:
    def test_keys_matches_the_glob(self, db: Database) -> None:
        put(db, one="1", two="2", three="3")
        assert sorted(db.keys("t*")) == [b"three", b"two"]
        assert len(db.keys()) == 3

    def test_randomkey_of_nothing(self, db: Database) -> None:
        assert db.randomkey() is None

    def test_randomkey_skips_expired_keys(self, db: Database) -> None:
        for n in range(50):
            db.set(f"k{n}", "v", px=1)
        put(db, lives="1")
        clock(db).advance(ms=1)
        assert {db.randomkey() for _ in range(50)} == {b"lives"}
        for n in range(50):
            db.set(f"k{n}", "v", px=1)
        db.delete("lives")
        clock(db).advance(ms=1)
        assert db.randomkey() is None

    def test_object_of_a_missing_key_is_none_whatever_the_policy(self, db: Database) -> None:
        for question in ("encoding", "refcount", "idletime", "freq"):
            assert db.object(question, "nope") is None

    def test_object_refcount_is_large_for_small_integers(self, db: Database) -> None:
        put(db, a="5", b="text", c="10000")
        assert [db.object("REFCOUNT", key) for key in "abc"] == [2147483647, 1, 1]

    def test_object_refuses_what_it_does_not_know(self, db: Database) -> None:
        with pytest.raises(ResponseError, match=r"^ERR unknown subcommand 'nope'\. Try OBJECT HELP\.$"):
            db.object("nope", "a")

    def test_memory_usage_grows_with_the_value(self, db: Database) -> None:
        put(db, a="1", b="1" * 1000)
        small, large = db.memory_usage("a"), db.memory_usage("b", samples=0)
        assert small is not None and large is not None and large - small > 900
        assert db.memory_usage("nope") is None
        with pytest.raises(ResponseError, match=r"^ERR syntax error$"):
            db.memory_usage("nope", samples=-1)


class TestBindings:
    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            ("SCAN x", b"-ERR invalid cursor\r\n"),
            ("SCAN -1", b"-ERR invalid cursor\r\n"),
            ("SCAN 18446744073709551616", b"-ERR invalid cursor\r\n"),
            ("SCAN +1", b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n"),
            ("SCAN 0 COUNT 0", b"-ERR syntax error\r\n"),
            ("SCAN 0 COUNT x", b"-ERR value is not an integer or out of range\r\n"),
            ("SCAN 0 MATCH", b"-ERR syntax error\r\n"),
            ("SCAN 0 TYPE LIST", b"*2\r\n$1\r\n0\r\n*0\r\n"),
            ("SCAN 0 TYPE String MATCH ?", b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n"),
            ("COPY a b DB", b"-ERR syntax error\r\n"),
            ("COPY a b DB 0 DB x", b"-ERR value is not an integer or out of range\r\n"),
            ("COPY a a DB 0", b"-ERR source and destination objects are the same\r\n"),
            ("COPY a b REPLACE db 0 replace", b":1\r\n"),
            ("FLUSHALL SYNC x", b"-ERR syntax error\r\n"),
            ("FLUSHDB LATER", b"-ERR syntax error\r\n"),
            ("FLUSHDB async", b"+OK\r\n"),
            ("MEMORY USAGE a SAMPLES", b"-ERR syntax error\r\n"),
            ("MEMORY USAGE a SAMPLES -1", b"-ERR syntax error\r\n"),
            ("MEMORY USAGE nope", b"$-1\r\n"),
            ("OBJECT ENCODING", b"-ERR wrong number of arguments for 'object|encoding' command\r\n"),
            ("OBJECT NOPE a", b"-ERR unknown subcommand 'NOPE'. Try OBJECT HELP.\r\n"),
            ("RENAME a b", b"+OK\r\n"),
            ("RENAMENX a b", b":1\r\n"),
            ("TYPE nope", b"+none\r\n"),
            ("RANDOMKEY", b"$1\r\na\r\n"),
            ("DBSIZE", b":1\r\n"),
        ],
    )
    def test_replies(self, ctx: Context, line: str, reply: bytes) -> None:
        session = Session(Hub(ctx), RESP2)
        session.db.append("a", "1")
        assert session.call([word.encode() for word in line.split()]) == reply


# -- against a model -------------------------------------------------------------------------------

names = st.sampled_from([b"a", b"b", b"c", b"d"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), names, st.integers(0, 9)),
        st.tuples(st.just("delete"), names, names),
        st.tuples(st.just("rename"), names, names),
        st.tuples(st.just("renamenx"), names, names),
        st.tuples(st.just("copy"), names, names, st.integers(0, 2), st.booleans()),
        st.tuples(st.just("move"), names, st.integers(0, 2)),
        st.tuples(st.just("swapdb"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("flushdb")),
        st.tuples(st.just("select"), st.integers(0, 2)),
    ),
    max_size=40,
)


class Model:
    """The same commands over plain dicts."""

    def __init__(self) -> None:
        self.dbs: list[dict[bytes, bytes]] = [{}, {}, {}]
        self.at = 0

    def run(self, name: str, *args: Any) -> Any:
        here = self.dbs[self.at]
        match name, args:
            case "set", (key, value):
                here[key] = b"%d" % value
                return True
            case "delete", keys:
                return sum(1 for key in keys if here.pop(key, None) is not None)
            case "rename" | "renamenx", (src, dst):
                if src not in here:
                    return "error"
                if name == "renamenx" and dst in here:
                    return False
                here[dst] = here.pop(src)
                return True
            case "copy", (src, dst, to, replace):
                if to == self.at and src == dst:
                    return "error"
                if src not in here or (dst in self.dbs[to] and not replace):
                    return False
                self.dbs[to][dst] = here[src]
                return True
            case "move", (key, to):
                if to == self.at:
                    return "error"
                if key not in here or key in self.dbs[to]:
                    return False
                self.dbs[to][key] = here.pop(key)
                return True
            case "swapdb", (one, two):
                self.dbs[one], self.dbs[two] = self.dbs[two], self.dbs[one]
                return True
            case _:
                here.clear()
                return True


@settings(max_examples=150, deadline=None)
@given(steps)
def test_commands_on_keys_agree_with_a_model(steps: list[tuple[Any, ...]]) -> None:
    lawful = Lawful(Context(Database, clock=ManualClock(START_MS)))
    ctx, model = lawful.ctx, Model()
    for name, *args in steps:
        if name == "select":
            model.at = args[0]
            continue
        expected = model.run(name, *args)
        try:
            found = getattr(ctx.database(model.at), name)(*args)
        except ResponseError:
            found = "error"
        assert found == expected, (name, args)
        for index, data in enumerate(model.dbs):
            db = ctx.database(index)
            assert {key: db.get(key) for key in db.scan_iter()} == data
            assert db.dbsize() == len(data)
        lawful.replica.apply(lawful.recorder.take())
        assert digest(lawful.replica.ctx) == digest(ctx)
        lawful.check()


def test_no_family_shadows_another() -> None:
    """The families are mixed into one class: a name that two of them have by accident breaks one."""
    owners: dict[str, list[type]] = {}
    for family in Database.__mro__[1:-1]:
        for name in vars(family):
            if not name.startswith("__"):
                owners.setdefault(name, []).append(family)
    for name, families in owners.items():
        # Overriding what one's own base has is no accident.
        for family, shadowed in itertools.pairwise(families):
            assert issubclass(family, shadowed), f"{name} of {shadowed} is hidden by {family}"
