"""Long lists, whose middle is packed: beside a plain Python list, with blocks so small that short histories meet all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kvstore
from kvstore import Store
from kvstore.engine.types import TYPES
from kvstore.engine.types import list as lists
from kvstore.engine.types.list import LONG, List, LongList
from tests.rawclient import RawClient
from tests.seeds import new_seed


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "BLOCK", 4)
    monkeypatch.setattr(lists, "LONG", 12)
    monkeypatch.setattr("kvstore.engine.lists.LONG", 12)
    monkeypatch.setattr(lists, "_PACKED_MOST", 4 * 12)  # so that some blocks are not packed


def words(rng: random.Random, most: int) -> list[bytes]:
    return [b"%d" % rng.randrange(9) * rng.choice((1, 1, 1, 20)) for _ in range(rng.randint(1, most))]


class Both:
    """A list of a Store, and what it is to be."""

    def __init__(self) -> None:
        self.store = Store()
        self.model: list[bytes] = []

    def step(self, rng: random.Random) -> None:
        store, model = self.store, self.model
        length = len(model)
        match rng.choice(
            ("push", "push", "pop", "pops", "set", "insert", "remove", "trim", "move", "look", "copy")
        ):
            case "push":
                new = words(rng, 12)
                if rng.random() < 0.5:
                    model[:0] = new[::-1]
                    assert store.lpush("k", *new) == len(model)
                else:
                    model += new
                    assert store.rpush("k", *new) == len(model)
            case "pop" if model:
                left = rng.random() < 0.5
                assert (store.lpop if left else store.rpop)("k") == model.pop(0 if left else -1)
            case "pops" if model:
                count = rng.randint(1, 12)
                if rng.random() < 0.5:
                    assert store.lpop("k", count) == model[:count]
                    del model[:count]
                else:
                    assert store.rpop("k", count) == model[-count:][::-1]
                    del model[-count:]
            case "set" if model:
                at, new = rng.randrange(-length, length), words(rng, 1)[0]
                model[at] = new
                store.lset("k", at, new)
            case "insert" if model:
                pivot, new, after = rng.choice(model), words(rng, 1)[0], rng.random() < 0.5
                model.insert(model.index(pivot) + after, new)
                assert store.linsert("k", "after" if after else "before", pivot, new) == len(model)
            case "remove" if model:
                element, count = rng.choice(model), rng.randint(-6, 6)
                self.remove(element, count)
            case "trim" if model and rng.random() < 0.3:
                low, high = sorted(rng.randrange(length) for _ in range(2))
                store.ltrim("k", low, high)
                del model[high + 1 :]
                del model[:low]
            case "move" if model:
                model.insert(0, model.pop())
                assert store.rpoplpush("k", "k") == model[0]
            case "look":
                self.look(rng)
            case "copy":
                self.copy(rng)

    def remove(self, element: bytes, count: int) -> None:
        places = [at for at, each in enumerate(self.model) if each == element]
        gone = places if count == 0 else places[:count] if count > 0 else places[count:]
        for at in reversed(gone):
            del self.model[at]
        assert self.store.lrem("k", count, element) == len(gone)

    def look(self, rng: random.Random) -> None:
        store, model = self.store, self.model
        length = len(model)
        assert store.llen("k") == length
        low, high = rng.randint(-length - 1, length + 1), rng.randint(-1, length + 1)
        first = max(0, low + length) if low < 0 else low
        assert store.lrange("k", low, high) == model[first : high + 1 if high >= 0 else length]
        if model:
            at = rng.randrange(-length, length)
            assert store.lindex("k", at) == model[at]
            element = rng.choice(model)
            places = [at for at, each in enumerate(model) if each == element]
            assert store.lpos("k", element, count=0) == places
            assert store.lpos("k", element, rank=-1) == places[-1]
            assert store.sort("k", by="nosort") == model

    def copy(self, rng: random.Random) -> None:
        """Copied, dumped and restored, it is the same; and the copy is another one."""
        store = self.store
        if not self.model:
            return
        store.copy("k", "other", replace=True)
        store.rpush("other", "more")
        if rng.random() < 0.5:
            payload = store.dump("k")
            assert payload is not None
            store.restore("k", 0, payload, replace=True)
        assert store.lrange("other", 0, -1) == [*self.model, b"more"]
        store.delete("other")

    def check(self) -> None:
        assert self.store.lrange("k", 0, -1) == self.model
        found = self.store._data.get(b"k")
        assert (found is None) == (not self.model)
        if found is not None:
            assert len(found) == len(self.model)
            assert list(found) == self.model and list(reversed(found)) == self.model[::-1]
            assert TYPES[type(found)].digest(found) == tuple(self.model)
            assert TYPES[type(found)].memory(found, 0) > 0 < TYPES[type(found)].memory(found, 5)
        self.store.check()


def test_long_lists_do_what_lists_do(small: None, heavy: bool) -> None:
    rng = random.Random(new_seed())
    kinds = set()
    for _ in range(400 if heavy else 40):
        both = Both()
        for _ in range(60):
            both.step(rng)
            both.check()
            kinds.add(type(both.store._data.get(b"k")))
    assert kinds == {List, LongList, type(None)}


def test_a_list_is_long_while_it_has_many_elements() -> None:
    store = Store()
    numbers = [b"number:%08d" % number for number in range(LONG + 1)]
    store.rpush("k", *numbers[:-1])
    assert type(store._data[b"k"]) is List
    store.rpush("k", numbers[-1])
    assert type(store._data[b"k"]) is LongList
    assert store.lrange("k", 0, -1) == numbers
    while store.llen("k") > 100:
        store.lpop("k")
    assert type(store._data[b"k"]) is List
    assert store.lrange("k", 0, -1) == numbers[-100:]


def test_a_long_list_takes_much_less_memory_than_its_elements_alone() -> None:
    elements = [b"element:%08d" % number for number in range(10_000)]
    store = Store()
    store.rpush("k", *elements)
    assert store.memory_usage("k", samples=0) * 2 < sum(map(bytes.__sizeof__, elements))
    assert store.memory_usage("k") == pytest.approx(store.memory_usage("k", samples=0), rel=0.1)


def test_whoever_waits_for_a_list_is_served_by_one_that_is_long_at_once(tmp_path: Path) -> None:
    with kvstore.serve(unix=tmp_path / "s") as server, RawClient(str(tmp_path / "s")) as waits:
        waits.send("BLPOP", "k", "0")
        with RawClient(str(tmp_path / "s")) as client:
            while b"blocked_clients:1" not in client.call("INFO", "clients"):
                pass
            client.call("RPUSH", "k", *range(LONG + 2))
        assert waits.read_reply_bytes() == b"*2\r\n$1\r\nk\r\n$1\r\n0\r\n"
        assert server.call(lambda store: type(store._data[b"k"])) is LongList


CHANGES: list[Callable[[Store], Any]] = [
    lambda store: store.rpush("k", *range(400)),
    lambda store: store.lpop("k", LONG),
    lambda store: store.lset("k", LONG // 2, "new"),
    lambda store: store.linsert("k", "before", str(LONG // 2), "new"),
    lambda store: store.lrem("k", 1, str(LONG // 2)),
    lambda store: store.lrem("k", 0, str(LONG // 2)),
    lambda store: store.delete("k"),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_a_long_list_is_kept_in_snapshots_and_logs_with_what_changes_it(
    tmp_path: Path, change: Callable[[Store], Any]
) -> None:
    store = Store()
    store.rpush("k", *(b"%d" % number for number in range(4 * LONG)))
    before = store.dump("k")
    with kvstore.open(tmp_path / "data") as kept:
        kept.rpush("k", *(b"%d" % number for number in range(4 * LONG)))
        kept.snapshot()
    with kvstore.open(tmp_path / "data") as kept:
        assert type(kept._data[b"k"]) is LongList
        assert kept.dump("k") == before
        change(kept)
        change(store)
        assert kept.dump("k") == store.dump("k")
    with kvstore.open(tmp_path / "data") as kept:
        assert kept.dump("k") == store.dump("k")
