"""Places: cells, distances, and searches, which must find what a look at every member finds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kvstore import DataError, ResponseError, Store, WrongTypeError
from kvstore.engine.database import Database
from kvstore.engine.geocells import (
    EARTH_RADIUS,
    LAT_MAX,
    STEPS,
    Cell,
    Shape,
    cell_bounds,
    cell_scores,
    cells_of,
    distance_within,
    encode,
    place_of,
)
from kvstore.engine.partial_sort import partly_sorted
from kvstore.engine.types.zset import ZSet
from tests.laws import Recorder, digest, effects, event_names, replay
from tests.seeds import new_seed
from tests.servers import Server

SICILY = (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")


@pytest.fixture
def sicily(db: Database) -> Database:
    db.geoadd("g", SICILY)
    return db


# -- cells -------------------------------------------------------------------------------------------


def test_the_score_of_a_place_is_the_servers() -> None:
    assert encode(13.361389, 38.115556) == 3479099956230698
    assert place_of(3479099956230698.0) == (13.361389338970184, 38.1155563954963)


def test_a_cell_holds_the_places_that_are_encoded_to_it() -> None:
    rng = random.Random(new_seed())
    for _ in range(500):
        lon, lat = rng.uniform(-180, 180), rng.uniform(-LAT_MAX, LAT_MAX)
        step = rng.randint(1, STEPS)
        cell = Cell(encode(lon, lat, step), step)
        west, south, east, north = cell_bounds(cell)
        assert west <= lon <= east and south <= lat <= north
        low, high = cell_scores(cell)
        assert low <= encode(lon, lat) < high


@pytest.mark.parametrize(
    "score", [-1.0, -1.5, 1e300, -1e300, float("inf"), float("-inf"), 2.0**63, 2.0**64, 2.0**52, 0.5]
)
def test_any_score_is_a_place_on_the_map(score: float) -> None:
    lon, lat = place_of(score)
    assert -180 <= lon <= 180 and -LAT_MAX <= lat <= LAT_MAX


def test_a_search_finds_what_a_look_at_every_member_finds(db: Database) -> None:
    rng = random.Random(new_seed())
    places: list[Any] = []
    for number in range(1000):
        spread = rng.choice((0.01, 1.0, 20.0))
        places += (10 + rng.uniform(-spread, spread), 50 + rng.uniform(-spread, spread), f"p{number}")
    db.geoadd("g", places)
    zset = db._data[b"g"]
    assert isinstance(zset, ZSet)
    for _ in range(60):
        lon, lat = 10 + rng.uniform(-2, 2), 50 + rng.uniform(-2, 2)
        size = 10 ** rng.uniform(1, 6)
        shape = rng.choice(
            (Shape(lon, lat, 1.0, size), Shape(lon, lat, 1.0, None, size, size * rng.random()))
        )
        by = {"radius": size} if shape.radius else {"width": shape.width, "height": shape.height}
        expected = {
            member
            for member, score in zset.scores.items()
            if distance_within(shape, *place_of(score)) is not None
        }
        found = db.geosearch("g", longitude=lon, latitude=lat, **by)  # type: ignore[arg-type]
        assert set(found) == expected and len(found) == len(expected)


def test_a_small_search_looks_at_few_members(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(new_seed())
    places: list[Any] = []
    for number in range(5000):
        places += (rng.uniform(-180, 180), rng.uniform(-80, 80), f"p{number}")
    db.geoadd("g", places)
    looked = 0

    def counted(score: float) -> Any:
        nonlocal looked
        looked += 1
        return place_of(score)

    monkeypatch.setattr("kvstore.engine.geo.place_of", counted)
    db.geosearch("g", longitude=10, latitude=20, radius=100, unit="km")
    assert looked < 50


def test_cells_are_at_most_nine_and_none_comes_twice_nearby() -> None:
    rng = random.Random(new_seed())
    for _ in range(500):
        shape = Shape(rng.uniform(-180, 180), rng.uniform(-85, 85), 1.0, 10 ** rng.uniform(0, 5))
        cells = cells_of(shape)
        assert 1 <= len(cells) == len(set(cells)) <= 9


# -- sorting in part -----------------------------------------------------------------------------------


def test_a_range_of_places_is_sorted_whatever_is_equal() -> None:
    rng = random.Random(new_seed())
    for _ in range(300):
        items = [(rng.randrange(rng.choice((2, 9, 1000))), at) for at in range(rng.randrange(120))]
        start = rng.randrange(len(items) + 1)
        stop = rng.randint(start, len(items))
        reverse = rng.random() < 0.5
        found = partly_sorted(items, lambda item: item[0], reverse, start, stop)
        expected = sorted(items, key=lambda item: item[0], reverse=reverse)[start:stop]
        assert [key for key, _ in found] == [key for key, _ in expected]
        assert len(set(found)) == len(found) and set(found) <= set(items)


# -- typed methods -------------------------------------------------------------------------------------


def test_places_are_added_moved_and_counted_as_told(db: Database, recorder: Recorder) -> None:
    assert db.geoadd("g", SICILY) == 2
    assert db.geoadd("g", (13, 38, "Palermo")) == 0
    assert db.geoadd("g", (14, 38, "Palermo"), ch=True) == 1
    assert db.geoadd("g", (15, 38, "Palermo", 1, 2, "new"), nx=True) == 1
    assert db.geoadd("g", (15, 38, "newer"), xx=True) == 0
    assert db.zcard("g") == 3
    assert event_names(recorder).count("zadd") == 4
    assert {effect[0] for effect in effects(recorder)} == {b"ZADD"}


def test_malformed_places_are_refused(db: Database) -> None:
    with pytest.raises(DataError, match="lon, lat and name"):
        db.geoadd("g", (1, 2))
    with pytest.raises(ResponseError, match=r"invalid longitude,latitude pair 200\.000000,2\.000000"):
        db.geoadd("g", (1, 2, "a", 200, 2, "b"))
    with pytest.raises(ResponseError, match="not a valid float"):
        db.geoadd("g", ("x", 2, "a"))
    assert not db.exists("g")
    db.set("s", "x")
    with pytest.raises(WrongTypeError):
        db.geoadd("s", (1, 2, "a"))


def test_positions_distances_and_hashes_of_members(sicily: Database) -> None:
    assert sicily.geopos("g", "Palermo", "none") == [(13.361389338970184, 38.1155563954963), None]
    assert sicily.geodist("g", "Palermo", "Catania") == 166274.1516
    assert sicily.geodist("g", "Palermo", "Catania", "km") == 166.2742
    assert sicily.geodist("g", "Palermo", "none") is None
    assert sicily.geohash("g", "Palermo", "none") == ["sqc8b49rny0", None]
    assert sicily.geopos("none", "a") == [None]
    with pytest.raises(DataError):
        sicily.geodist("g", "Palermo", "Catania", "parsec")


def test_searches_answer_what_is_asked_for(sicily: Database) -> None:
    around: dict[str, Any] = {"longitude": 15, "latitude": 37, "radius": 200, "unit": "km"}
    assert sicily.geosearch("g", sort="DESC", **around) == [b"Palermo", b"Catania"]
    assert sicily.geosearch("g", count=1, **around) == [b"Catania"]
    assert sicily.geosearch("g", member="Palermo", width=400, height=400, unit="km", sort="asc") == [
        b"Palermo",
        b"Catania",
    ]
    assert sicily.georadius("g", 15, 37, 100, "km", withdist=True, withhash=True, withcoord=True) == [
        [b"Catania", 56.4413, 3479447370796909, (15.087267458438873, 37.50266842333162)]
    ]
    assert sicily.georadiusbymember("g", "Palermo", 10) == [b"Palermo"]
    assert sicily.geosearch("none", member="x", radius=1) == []
    with pytest.raises(ResponseError, match="could not decode requested zset member"):
        sicily.geosearch("g", member="x", radius=1)
    with pytest.raises(DataError):
        sicily.geosearch("g", member="Palermo")


def test_results_are_stored_with_scores_or_distances(sicily: Database, recorder: Recorder) -> None:
    around: dict[str, Any] = {"longitude": 15, "latitude": 37, "radius": 200, "unit": "km"}
    before = sicily.dirty
    assert sicily.geosearchstore("d", "g", **around) == 2
    assert sicily.dirty == before + 2
    assert sicily.zscore("d", "Palermo") == 3479099956230698
    assert sicily.georadius("g", 15, 37, 200, "km", store_dist="e") == 2
    assert sicily.zscore("e", "Catania") == pytest.approx(56.4413, abs=1e-4)
    assert sicily.georadiusbymember("none", "x", 1, store="d") == 0
    assert not sicily.exists("d")
    assert [name for name in event_names(recorder) if name not in ("new", "keymiss")] == [
        "geosearchstore",
        "georadiusstore",
        "del",
    ]
    with pytest.raises(ResponseError, match="STORE option in GEORADIUS is not compatible"):
        sicily.georadius("g", 15, 37, 200, "km", store="d", withdist=True)


def test_effects_of_stored_searches_repeat_them(db: Database, recorder: Recorder) -> None:
    rng = random.Random(new_seed())
    places: list[Any] = []
    for number in range(200):
        places += (rng.uniform(2, 3), rng.uniform(48, 49), f"p{number}")
    db.geoadd("g", places)
    db.geosearchstore("a", "g", member="p3", radius=20, unit="km", count=9, any=True)
    db.geosearchstore("b", "g", longitude=2.5, latitude=48.5, width=30, height=9, unit="mi", storedist=True)
    db.georadius("g", 2.5, 48.5, 30, "km", count=5, sort="DESC", store="c")
    assert digest(replay(recorder.take())) == digest(db.ctx)


def test_a_decoding_store_gives_text(db: Database) -> None:
    store = Store(decode_responses=True)
    store.geoadd("g", SICILY)
    assert store.geosearch("g", member="Palermo", radius=1, withdist=True) == [["Palermo", 0.0]]
    assert store.geohash("g", "Palermo") == ["sqc8b49rny0"]


def test_places_at_the_ends_of_the_map_can_be_searched(db: Database) -> None:
    db.geoadd("g", (180, LAT_MAX, "ne", -180, -LAT_MAX, "sw", 0, 0, "middle"))
    for radius in ("0", "1e-9", "1e9", "inf"):
        for member in (b"ne", b"sw", b"middle"):
            assert member in db.geosearch("g", member=member, width=radius, height=radius)  # type: ignore[arg-type]
    # The north-east corner is one cell off the map, where servers look only from nearby.
    assert db.geosearch("g", longitude=0, latitude=0, radius=EARTH_RADIUS * 4) == [b"middle", b"sw"]


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_order_of_many_equal_distances_is_that_of_a_real_server(
    kind: str, kvstore_server: Server, request: pytest.FixtureRequest
) -> None:
    real: Server = request.getfixturevalue(f"{kind}_server")
    rng = random.Random(new_seed())
    spots = [(rng.uniform(2, 3), rng.uniform(48, 49)) for _ in range(12)]
    words = [str(word) for at in range(400) for word in (*rng.choice(spots), f"p{at}")]
    with kvstore_server.client() as ours, real.client() as theirs:
        for client in (ours, theirs):
            client.call("FLUSHALL")
            client.call("GEOADD", "g", *words)
        for _ in range(40):
            asked = ("GEOSEARCH", "g", "FROMMEMBER", f"p{rng.randrange(400)}", "BYRADIUS", "40", "km")
            more = ("COUNT", str(rng.randrange(1, 400)), *rng.choice(((), ("DESC",), ("ANY",))))
            assert ours.call(*asked, *more) == theirs.call(*asked, *more), more
