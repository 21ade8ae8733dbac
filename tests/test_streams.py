"""The container of streams, by models: the map of IDs, and a stream with what its groups know."""

from __future__ import annotations

import random
from array import array
from itertools import islice
from typing import Any

import pytest

from kvstore.engine.context import Limits
from kvstore.engine.ids import ID, Block, IdMap
from kvstore.engine.types import TYPES
from kvstore.engine.types.payload import dump_payload, load_payload
from kvstore.engine.types.stream import Consumer, Group, Stream
from kvstore.engine.types.stream_pack import PackedEntries
from tests.laws import START_MS
from tests.seeds import new_seed

RECORD = TYPES[Stream]
LIMITS = Limits()


@pytest.mark.parametrize("packs", [False, True], ids=["plain", "packed"])
def test_the_ordered_map_is_a_sorted_dict(packs: bool, heavy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.engine.ids.LOOSE_MOST", 2)  # so that blocks are packed again
    rng = random.Random(new_seed())

    def item(step: int) -> Any:
        if not packs:
            return step
        odd = (b"g", b"x" * rng.choice((0, 3, 300))) if step // 600 % 2 and rng.random() < 0.1 else ()
        return (b"f", b"%d" % step, *odd)

    for _ in range(20 if heavy else 3):
        found: IdMap[Any] = IdMap(PackedEntries if packs else None)
        model: dict[ID, Any] = {}
        spread = rng.choice((30, 3000, 1 << 40))
        weights = rng.choice(((8, 1, 2, 2, 1), (2, 1, 8, 2, 1), (3, 1, 3, 10, 1)))
        for step in range(3000):
            ids = sorted(model)
            what = rng.choices(("append", "extend", "put", "pop", "trim"), weights)[0]
            if what == "append":
                last = ids[-1] if ids else (0, 0)
                id = rng.choice(
                    (
                        (last[0], last[1] + 1 + rng.randrange(3)),
                        (last[0] + 1 + rng.randrange(3), rng.randrange(5)),
                    )
                )
                found.append(id, made := item(step))
                model[id] = made
            elif what == "extend":
                time = (ids[-1][0] if ids else 0) + 1
                several = {
                    (time + at // 3, at): item(step)
                    for at in range(rng.choice((0, 1, 9, rng.randrange(700))))
                }
                times, sequences = (array("Q", [id[part] for id in several]) for part in (0, 1))
                found.extend(Block(times, sequences, list(several.values())))
                model |= several
            elif what == "put":
                id = (rng.randrange(spread), rng.randrange(4))
                found.put(id, made := item(step))
                model[id] = made
            elif what == "pop":
                id = rng.choice(ids) if ids and rng.random() < 0.9 else (rng.randrange(spread), 1)
                assert found.pop(id) == model.pop(id, None)
            elif ids:
                count = min(len(ids), rng.choice((1, 1, 2, rng.randrange(len(ids) + 1))))
                found.trim(count)
                for id in ids[:count]:
                    del model[id]
            if step % 10 == 0:
                compare(found, model, rng, spread)


def compare(found: IdMap[Any], model: dict[ID, Any], rng: random.Random, spread: int) -> None:
    found.check()
    pairs = sorted(model.items())
    assert list(found.items()) == pairs and list(found.copy().items()) == pairs
    assert len(found) == len(pairs)
    assert len(list(found.unpacked_items())) == len(pairs) - found.packed_count
    assert (found.first(), found.last()) == ((pairs[0][0], pairs[-1][0]) if pairs else (None, None))
    assert found.latest() == (pairs[-1][1] if pairs else None)
    for _ in range(3):
        start, stop = (
            rng.choice(pairs)[0]
            if pairs and rng.random() < 0.5
            else (rng.randrange(spread), rng.randrange(5))
            for _ in range(2)
        )
        wanted = [pair for pair in pairs if start <= pair[0] <= stop]
        assert list(found.items(start, stop)) == wanted
        assert list(found.backward(start, stop)) == wanted[::-1]
        assert list(islice(found.items(start), 2)) == [pair for pair in pairs if start <= pair[0]][:2]
        count = rng.choice((0, 1, 2, 300))
        run = found.behind(start, count)
        assert (
            list(zip(run.ids(0, len(run)), run.items, strict=True))
            == [pair for pair in pairs if start < pair[0]][: count or None]
        )
        assert found.get(start) == model.get(start)
        assert found.before(start) == sum(id < start for id in model)


def test_a_stream_through_random_changes_stays_sound_and_is_written_whole(heavy: bool) -> None:
    rng = random.Random(new_seed())
    value, model = Stream(), {}
    added = time = 0
    for step in range(20_000 if heavy else 3000):
        if rng.random() < 0.7:
            time += rng.randrange(1, 3)
            words = tuple(rng.choice((b"f", b"g", b"%d" % step)) for _ in range(2 * rng.randrange(1, 3)))
            value.add((time, 0), words)
            model[time, 0] = words
            added += 1
        elif model and rng.random() < 0.98:
            id = rng.choice(list(model)) if rng.random() < 0.5 else (rng.randrange(1, time + 2), 0)
            assert value.delete(id) == (model.pop(id, None) is not None)
        elif model:
            count = rng.randrange(len(model) // 10 + 2)
            value.trim(max(0, len(model) - count))
            for id in sorted(model)[:count]:
                del model[id]
        group = value.groups.setdefault(rng.choice((b"g", b"h")), Group((0, 0), 0))
        name = rng.choice((b"one", b"two", b"three"))
        consumer = group.consumers.setdefault(name, Consumer(name, step, step))
        if model:
            id = rng.choice(list(islice(model, 50)))
            if rng.random() < 0.5:
                group.deliver(id, consumer, step)
            else:
                held = group.pending.get(id) is not None
                assert group.acknowledge(id) is held
        if step % 200 == 0:
            RECORD.check(value)
            assert list(value.entries.items()) == sorted(model.items())
            assert (value.entries_added, value.last_id) == (added, (time, 0))
            assert RECORD.digest(load_payload(dump_payload(value), LIMITS)) == RECORD.digest(value)


def test_entries_that_nobody_reads_take_little_memory_and_are_counted() -> None:
    value = Stream()
    for number in range(10_000):
        value.add((START_MS + 2 * number, 0), (b"field", b"value:%05d" % number))
    assert value.entries.packed_count > 9_000
    assert 11 < RECORD.memory(value, 5) / 10_000 < 25
    assert [words for _, words in value.entries.items((START_MS + 3, 0), (START_MS + 6, 0))] == [
        (b"field", b"value:00002"),
        (b"field", b"value:00003"),
    ]
    for number in range(0, 10_000, 100):  # all over the stream: few blocks stay open
        assert value.entries.get((START_MS + 2 * number, 0)) == (b"field", b"value:%05d" % number)
    assert 11 < RECORD.memory(value, 0) / 10_000 < 50
    RECORD.check(value)
    value.trim(0)
    assert (value.entries.packed_count, value.entries.packed_size) == (0, 0)
