"""Places: sorted sets whose scores are cells of the earth's surface (see ``kvstore.engine.geocells``).

A search goes through the members of the at most nine cells that its area may touch, by their scores: it costs
as many looks as there are members nearby, whatever the size of the set.

Must not know: argv, replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import asin, cos, sin, sqrt
from operator import itemgetter
from typing import Any, Final

from kvstore.engine.geocells import (
    EARTH_RADIUS,
    RADIAN,
    Place,
    Shape,
    cell_scores,
    cells_of,
    distance,
    distance_within,
    encode,
    length_from,
    place_from,
    place_of,
    text_of,
    unit_from,
)
from kvstore.engine.keyspace import EncodableT, KeyT, to_bytes
from kvstore.engine.partial_sort import partly_sorted
from kvstore.engine.types.zset import ZSet
from kvstore.engine.zsets import CH, NX, XX, SortedSets
from kvstore.errors import SYNTAX, DataError, ResponseError, err
from kvstore.numbers import as_int

# Members that are read at once where a search may end early.
_CHUNK: Final = 64
# A search's results in order of distance, or as they are found.
UNORDERED: Final = 0
ASC: Final = 1
DESC: Final = 2

# A member, how far away it is (in the unit asked for), and its score.
Found = tuple[bytes, float, float]


class Search:
    """What is looked for, word by word: each method takes an option and keeps it as the log has it.

    ``zset``: where; None where there is no such key, which only later ends the search.
    """

    __slots__ = ("any", "count", "lengths", "order", "place", "unit", "words", "zset")

    def __init__(self, zset: ZSet | None):
        self.zset = zset
        self.place: Place | None = None
        # A radius, or a width and a height, in units of so many metres.
        self.lengths: tuple[float, ...] = ()
        self.unit = 1.0
        self.order = UNORDERED
        self.count = 0
        self.any = False
        self.words: list[bytes] = []

    def from_place(self, lon: EncodableT, lat: EncodableT) -> None:
        x, y = to_bytes(lon), to_bytes(lat)
        self.place = place_from(x, y)
        self.words += (b"FROMLONLAT", x, y)

    def from_member(self, member: bytes) -> None:
        if self.zset is not None:
            score = self.zset.scores.get(member)
            if score is None:
                raise err("could not decode requested zset member")
            self.place = place_of(score)
        else:
            self.place = 0.0, 0.0  # never used
        self.words += (b"FROMMEMBER", member)

    def by_radius(self, radius: EncodableT, unit: EncodableT) -> None:
        words = to_bytes(radius), to_bytes(unit)
        length = length_from(words[0], "radius")
        if length < 0:
            raise err("radius cannot be negative")
        self.unit = unit_from(words[1])
        self.lengths = (length,)
        self.words += (b"BYRADIUS", *words)

    def by_box(self, width: EncodableT, height: EncodableT, unit: EncodableT) -> None:
        words = to_bytes(width), to_bytes(height), to_bytes(unit)
        lengths = length_from(words[0], "width"), length_from(words[1], "height")
        if min(lengths) < 0:
            raise err("height or width cannot be negative")
        self.unit = unit_from(words[2])
        self.lengths = lengths
        self.words += (b"BYBOX", *words)

    def at_most(self, count: object) -> None:
        self.count = as_int(count)
        if self.count <= 0:
            raise err("COUNT must be > 0")

    def check(self, command: str) -> None:
        """What GEOSEARCH and GEOSEARCHSTORE cannot do without."""
        if self.place is None:
            raise err(f"exactly one of FROMMEMBER or FROMLONLAT can be specified for {command}")
        if not self.lengths:
            raise err(f"exactly one of BYRADIUS and BYBOX can be specified for {command}")

    def effect(self, dest: bytes, source: bytes, storedist: bool) -> tuple[bytes, ...]:
        """The command that stores the same again."""
        words = [b"GEOSEARCHSTORE", dest, source, *self.words]
        if self.order:
            words.append(b"ASC" if self.order == ASC else b"DESC")
        if self.count:
            words += (b"COUNT", b"%d" % self.count)
            if self.any:
                words.append(b"ANY")
        if storedist:
            words.append(b"STOREDIST")
        return tuple(words)

    def run(self) -> list[Found]:
        """What is found. O(members of the cells nearby + found log found)."""
        if self.zset is None:
            return []
        assert self.place is not None
        lon, lat = self.place
        if len(self.lengths) == 1:
            shape = Shape(lon, lat, self.unit, self.lengths[0])
        else:
            shape = Shape(lon, lat, self.unit, None, *self.lengths)
        found: list[tuple[float, bytes, float]] = []
        limit = self.count if self.any else 0
        for pairs in _nearby(self.zset, shape, bool(limit)):
            (_take_circle if shape.radius is not None else _take_box)(shape, pairs, found)
            if limit and len(found) >= limit:
                del found[limit:]
                break
        order = self.order or (ASC if self.count and not self.any else UNORDERED)
        count = min(self.count, len(found)) if self.count else len(found)
        if order:
            found = partly_sorted(found, itemgetter(0), order == DESC, 0, count)
        unit = self.unit
        return [(member, metres / unit, score) for metres, member, score in found[:count]]


def _nearby(zset: ZSet, shape: Shape, in_chunks: bool) -> Iterator[list[tuple[bytes, float]]]:
    """The members, with their scores, of the cells that a shape may touch."""
    ranks = zset.ranked()
    for cell in cells_of(shape):
        low, high = cell_scores(cell)
        start, stop = ranks.rank(low, b""), ranks.rank(high, b"")
        step = _CHUNK if in_chunks else max(stop - start, 1)
        for at in range(start, stop, step):
            yield ranks.range_with_scores(at, min(at + step, stop))


def _take_circle(
    shape: Shape, pairs: list[tuple[bytes, float]], found: list[tuple[float, bytes, float]]
) -> None:
    """Keep those within a circle: ``distance_within``, with what is the same for all done once."""
    assert shape.radius is not None
    most = shape.radius * shape.unit
    lon_from, lat_from = shape.lon * RADIAN, shape.lat * RADIAN
    cos_from, twice = cos(lat_from), 2.0 * EARTH_RADIUS
    for member, score in pairs:
        lon, lat = place_of(score)
        v = sin((lon * RADIAN - lon_from) / 2)
        lat_to = lat * RADIAN
        if v == 0.0:
            metres = EARTH_RADIUS * abs(lat_to - lat_from)
        else:
            u = sin((lat_to - lat_from) / 2)
            a = u * u + cos_from * cos(lat_to) * v * v
            metres = twice * asin(sqrt(a)) if a <= 1.0 else distance(shape.lon, shape.lat, lon, lat)
        if not metres > most:
            found.append((metres, member, score))


def _take_box(
    shape: Shape, pairs: list[tuple[bytes, float]], found: list[tuple[float, bytes, float]]
) -> None:
    """Keep those within a box."""
    for member, score in pairs:
        metres = distance_within(shape, *place_of(score))
        if metres is not None:
            found.append((metres, member, score))


def printed_distance(length: float) -> bytes:
    """A distance with four decimals."""
    return b"%d.%04d" % divmod(round(length * 10000), 10000)


def printed_coordinate(degrees: float) -> bytes:
    """A coordinate with up to 17 decimals."""
    return (f"{degrees:.17f}".rstrip("0").rstrip(".") or "0").encode()


class Geo(SortedSets):
    """Places."""

    __slots__ = ()

    def geoadd(
        self,
        name: KeyT,
        values: Sequence[EncodableT],
        nx: bool = False,
        xx: bool = False,
        ch: bool = False,
    ) -> int:
        """Add places, given as longitude, latitude and name in turn; how many are new.

        ``nx``: only add; ``xx``: only move; ``ch``: count those moved too. O(log n) a place.
        Raises DataError; ResponseError where a coordinate is no number or off the map; WrongTypeError.
        """
        if nx and xx:
            raise DataError("GEOADD allows either 'nx' or 'xx', not both")
        if len(values) % 3 != 0:
            raise DataError("GEOADD requires places with lon, lat and name values")
        if not values:
            if nx or xx or ch:
                raise ResponseError(SYNTAX)
            raise err("wrong number of arguments for 'geoadd' command")
        return self._geoadd(to_bytes(name), list(map(to_bytes, values)), nx * NX | xx * XX | ch * CH)

    def _geoadd(self, key: bytes, words: list[bytes], flags: int) -> int:
        places = [place_from(words[at], words[at + 1]) for at in range(0, len(words), 3)]
        pairs = [
            (member, float(encode(lon, lat))) for member, (lon, lat) in zip(words[2::3], places, strict=True)
        ]
        return self._zadd(key, pairs, flags)  # type: ignore[return-value]  # without INCR an int

    def geodist(self, name: KeyT, place1: KeyT, place2: KeyT, unit: str | None = None) -> float | None:
        """How far two places are from each other, in ``unit`` (m, km, ft, mi; default m), to four decimals; None
        where one is missing. O(1). Raises DataError, WrongTypeError.
        """
        if unit and unit not in ("m", "km", "mi", "ft"):
            raise DataError("GEODIST invalid unit")
        metres = unit_from(to_bytes(unit or "m"))
        found = self._geodist(to_bytes(name), to_bytes(place1), to_bytes(place2), metres)
        return None if found is None else _number_of(found)

    def _geodist(self, key: bytes, place1: bytes, place2: bytes, unit: float) -> float | None:
        zset = self._read_as(key, ZSet)
        if zset is None:
            return None
        scores = zset.scores.get(place1), zset.scores.get(place2)
        if scores[0] is None or scores[1] is None:
            return None
        return distance(*place_of(scores[0]), *place_of(scores[1])) / unit

    def geohash(self, name: KeyT, *values: KeyT) -> list[str | None]:
        """The geohashes of places, eleven letters each, as other programs know them; None for those that are
        missing. O(1) a place. Raises WrongTypeError.
        """
        scores = self._zmscore(to_bytes(name), [to_bytes(value) for value in values])
        # redis-py makes strings of all that is answered.
        return [None if score is None else text_of(score).decode() for score in scores]

    def geopos(self, name: KeyT, *values: KeyT) -> list[tuple[float, float] | None]:
        """(longitude, latitude) of places, None for those that are missing. O(1) a place.

        They are the middles of the cells, so a little off what was added. Raises WrongTypeError.
        """
        scores = self._zmscore(to_bytes(name), [to_bytes(value) for value in values])
        return [None if score is None else _as_printed(score) for score in scores]

    # -- searching ---------------------------------------------------------------------------------

    def geosearch(
        self,
        name: KeyT,
        member: KeyT | None = None,
        longitude: float | None = None,
        latitude: float | None = None,
        unit: str = "m",
        radius: float | None = None,
        width: float | None = None,
        height: float | None = None,
        sort: str | None = None,
        count: int | None = None,
        any: bool = False,
        withcoord: bool = False,
        withdist: bool = False,
        withhash: bool = False,
    ) -> list[Any]:
        """The places in an area: around ``member``, or ``longitude`` and ``latitude``; within ``radius``, or a
        box of ``width`` and ``height``, in ``unit`` (m, km, ft, mi).

        ``sort``: "ASC", from near to far, or "DESC". ``count``: no more than so many, the nearest; with ``any``
        those that are found first. With ``withdist``, ``withhash``, ``withcoord``: lists of the place, its
        distance, its score, and (longitude, latitude).
        O(n log n) for n places in the cells around. Raises DataError, ResponseError, WrongTypeError.
        """
        search = self._searched(
            to_bytes(name), member, longitude, latitude, unit, radius, width, height, sort, count, any
        )
        return with_details(search.run(), (withdist, withhash, withcoord), _number_of, _as_printed)

    def geosearchstore(
        self,
        dest: KeyT,
        name: KeyT,
        member: KeyT | None = None,
        longitude: float | None = None,
        latitude: float | None = None,
        unit: str = "m",
        radius: float | None = None,
        width: float | None = None,
        height: float | None = None,
        sort: str | None = None,
        count: int | None = None,
        any: bool = False,
        storedist: bool = False,
    ) -> int:
        """Make ``dest`` a set of the places that ``geosearch`` would answer, or delete it; how many.

        ``storedist``: with their distances as scores. Costs and errors as ``geosearch``.
        """
        source = to_bytes(name)
        search = self._searched(
            source, member, longitude, latitude, unit, radius, width, height, sort, count, any
        )
        return self._geostore(to_bytes(dest), source, search, storedist, "geosearchstore")

    def _searched(
        self,
        key: bytes,
        member: KeyT | None,
        longitude: float | None,
        latitude: float | None,
        unit: str,
        radius: float | None,
        width: float | None,
        height: float | None,
        sort: str | None,
        count: int | None,
        any: bool,
    ) -> Search:
        """The search that redis-py's arguments ask for, checked as redis-py checks them; an empty member is one."""
        if member is None and (longitude is None or latitude is None):
            raise DataError("GEOSEARCH must have member or longitude and latitude")
        if member is not None and (longitude or latitude):
            raise DataError("GEOSEARCH member and longitude or latitude can't be set together")
        if radius is None and (width is None or height is None):
            raise DataError("GEOSEARCH must have radius or width and height")
        if unit is None:
            raise DataError("GEOSEARCH must have unit")
        if unit.lower() not in ("m", "km", "mi", "ft"):
            raise DataError("GEOSEARCH invalid unit")
        if radius and (width or height):
            raise DataError("GEOSEARCH radius and width or height can't be set together")
        if sort and sort.upper() not in ("ASC", "DESC"):
            raise DataError("GEOSEARCH invalid sort")
        if any and not count:
            raise DataError("GEOSEARCH ``any`` can't be provided without count")
        search = Search(self._read_as(key, ZSet))
        if member is not None:
            search.from_member(to_bytes(member))
        if longitude is not None and latitude is not None:
            if member is not None:
                raise ResponseError(SYNTAX)
            search.from_place(longitude, latitude)
        if radius:
            search.by_radius(radius, unit)
        if width and height:
            search.by_box(width, height, unit)
        _ordered(search, sort.upper() if sort else None, count or None, any)
        search.check("GEOSEARCH")
        return search

    def georadius(
        self,
        name: KeyT,
        longitude: float,
        latitude: float,
        radius: float,
        unit: str | None = None,
        withdist: bool = False,
        withcoord: bool = False,
        withhash: bool = False,
        count: int | None = None,
        sort: str | None = None,
        store: KeyT | None = None,
        store_dist: KeyT | None = None,
        any: bool = False,
    ) -> list[Any] | int:
        """``geosearch`` by radius around a place, as older versions have it; ``store`` and ``store_dist``: as
        ``geosearchstore``, with scores or distances.
        """
        shown = withdist, withhash, withcoord
        place = longitude, latitude
        return self._georadius(name, place, None, radius, unit, shown, count, sort, store, store_dist, any)

    def georadiusbymember(
        self,
        name: KeyT,
        member: KeyT,
        radius: float,
        unit: str | None = None,
        withdist: bool = False,
        withcoord: bool = False,
        withhash: bool = False,
        count: int | None = None,
        sort: str | None = None,
        store: KeyT | None = None,
        store_dist: KeyT | None = None,
        any: bool = False,
    ) -> list[Any] | int:
        """As ``georadius``, around a member."""
        shown = withdist, withhash, withcoord
        return self._georadius(name, None, member, radius, unit, shown, count, sort, store, store_dist, any)

    def _georadius(
        self,
        name: KeyT,
        place: Place | None,
        member: KeyT | None,
        radius: float,
        unit: str | None,
        shown: tuple[bool, bool, bool],
        count: int | None,
        sort: str | None,
        store: KeyT | None,
        store_dist: KeyT | None,
        any: bool,
    ) -> list[Any] | int:
        """Around a place or else a member, checked as redis-py checks it; ``shown``: as for ``with_details``."""
        source = to_bytes(name)
        if unit and unit not in ("m", "km", "mi", "ft"):
            raise DataError("GEORADIUS invalid unit")
        if any and count is None:
            raise DataError("``any`` can't be provided without ``count``")
        if sort and sort not in ("ASC", "DESC"):
            raise DataError("GEORADIUS invalid sort")
        if store and store_dist:
            raise DataError("GEORADIUS store and store_dist can't be set together")
        search = Search(self._read_as(source, ZSet))
        if place is not None:
            search.from_place(*place)
        elif member is not None:
            search.from_member(to_bytes(member))
        if place is not None or search.zset is not None:  # else the server does not look at them
            search.by_radius(radius, unit or "m")
        _ordered(search, sort, count, any)
        dest = store_dist or store
        if not dest:
            return with_details(search.run(), shown, _number_of, _as_printed)
        if True in map(bool, shown):
            raise err(not_with_store("STORE option in GEORADIUS"))
        return self._geostore(to_bytes(dest), source, search, bool(store_dist), "georadiusstore")

    def _geostore(self, dest: bytes, source: bytes, search: Search, storedist: bool, event: str) -> int:
        """Store what is found, or delete ``dest``; how many."""
        scores = {member: far if storedist else score for member, far, score in search.run()}
        count = self._zstore(dest, scores, search.effect(dest, source, storedist) if scores else (), event)
        if count:
            self.dirty += count - 1
        return count


def not_with_store(what: str) -> str:
    return f"{what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"


def _ordered(search: Search, sort: str | None, count: object, any: bool) -> None:
    """Options that both ways of searching have."""
    if sort:
        search.order = ASC if sort == "ASC" else DESC
    if count is not None:
        search.at_most(count)
        search.any = bool(any)


def _number_of(length: float) -> float:
    return float(printed_distance(length))


def _as_printed(score: float) -> Place:
    lon, lat = place_of(score)
    return float(printed_coordinate(lon)), float(printed_coordinate(lat))


def with_details(
    found: list[Found],
    shown: tuple[bool, bool, bool],
    distance_as: Callable[[float], object],
    place_as: Callable[[float], object],
) -> list[Any]:
    """The members found, or lists of a member and what is ``shown`` of it: its distance, score and place, made of
    the distance and of the score.
    """
    withdist, withhash, withcoord = shown
    if not (withdist or withhash or withcoord):
        return [member for member, _, _ in found]
    results: list[Any] = []
    for member, far, score in found:
        result: list[Any] = [member]
        if withdist:
            result.append(distance_as(far))
        if withhash:
            result.append(int(score))
        if withcoord:
            result.append(place_as(score))
        results.append(result)
    return results
