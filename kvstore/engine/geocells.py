"""Places on the earth as cells of 52 bits, distances, and the cells that an area touches.

A place is (longitude, latitude) in degrees. A cell halves the range of either in turn, longitude first: of its
bits the odd ones are the longitude, the even ones the latitude. Latitudes end at 85.05°, as on Mercator's maps.
A cell of ``step`` bits a side is one range of the scores that its members have: ``cell_scores``.

The arithmetic is the server's, in its order of operations, so that scores and distances are equal to the last
bit. C's functions give NaN where Python's raise; those here give NaN.

Must not know: sorted sets, keys, commands.
"""

from __future__ import annotations

from functools import cache
from math import asin, cos, isfinite, nan, pi, sin, sqrt
from typing import Final, NamedTuple

from kvstore.errors import err
from kvstore.numbers import as_float

# Bits of each coordinate in a score.
STEPS: Final = 26
LON_MAX: Final = 180.0
LAT_MAX: Final = 85.05112878
# Metres; the server's own figure.
EARTH_RADIUS: Final = 6372797.560856
# Half of the map's width, in metres.
MERCATOR_MAX: Final = 20037726.37
RADIAN: Final = pi / 180.0
# Metres in each unit.
UNITS: Final = {b"m": 1.0, b"km": 1000.0, b"ft": 0.3048, b"mi": 1609.34}
_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
_EVEN: Final = 0x5555555555555555
_ODD: Final = 0xAAAAAAAAAAAAAAAA
_WORD: Final = (1 << 64) - 1

Place = tuple[float, float]
# West, south, east, north, in degrees.
Bounds = tuple[float, float, float, float]


class Cell(NamedTuple):
    bits: int
    step: int


class Shape(NamedTuple):
    """A circle of a radius around a place, or a box of a width and a height, in units of ``unit`` metres."""

    lon: float
    lat: float
    unit: float
    radius: float | None
    width: float = 0.0
    height: float = 0.0


# -- cells -------------------------------------------------------------------------------------------


@cache
def _spread_bytes() -> list[int]:
    """Each byte with its bits at even places."""
    return [sum((byte >> bit & 1) << 2 * bit for bit in range(8)) for byte in range(256)]


@cache
def _halves() -> list[int]:
    """Of each 16 bits the even ones, and above 8 bits the odd ones."""
    low = [sum((byte >> 2 * bit & 1) << bit | (byte >> 2 * bit + 1 & 1) << bit + 8 for bit in range(4))
           for byte in range(256)]  # fmt: skip
    return [above << 4 | below for above in low for below in low]


def _spread(number: int) -> int:
    table = _spread_bytes()
    return (
        table[number & 255]
        | table[number >> 8 & 255] << 16
        | table[number >> 16 & 255] << 32
        | table[number >> 24 & 255] << 48
    )


def encode(lon: float, lat: float, step: int = STEPS, lat_max: float = LAT_MAX) -> int:
    """The bits of the cell that a place within the ranges is in."""
    east = (lon + LON_MAX) / (LON_MAX + LON_MAX)
    north = (lat + lat_max) / (lat_max + lat_max)
    cells = 1 << step
    return _spread(int(north * cells)) | _spread(int(east * cells)) << 1


def _split(bits: int) -> tuple[int, int]:
    """The longitude's and the latitude's bits, 32 each."""
    table = _halves()
    a, b, c, d = table[bits & 65535], table[bits >> 16 & 65535], table[bits >> 32 & 65535], table[bits >> 48]
    lat = a & 255 | (b & 255) << 8 | (c & 255) << 16 | (d & 255) << 24
    return a >> 8 | b & 0xFF00 | c << 8 & 0xFF0000 | (d & 0xFF00) << 16, lat


def cell_bounds(cell: Cell) -> Bounds:
    """What a cell covers."""
    east, north = _split(cell.bits)
    cells = 1 << cell.step
    lon_scale, lat_scale = LON_MAX + LON_MAX, LAT_MAX + LAT_MAX
    return (
        -LON_MAX + east * 1.0 / cells * lon_scale,
        -LAT_MAX + north * 1.0 / cells * lat_scale,
        -LON_MAX + (east + 1) * 1.0 / cells * lon_scale,
        -LAT_MAX + (north + 1) * 1.0 / cells * lat_scale,
    )


def place_of(score: float) -> Place:
    """The middle of the cell that a score means, which may be any number: as C turns it into 64 bits."""
    if 0.0 <= score < 4503599627370496.0:
        bits = int(score)
    else:
        bits = _as_word(score)
    west, south, east, north = cell_bounds(Cell(bits, STEPS))
    lon, lat = (west + east) / 2, (south + north) / 2
    return min(max(lon, -LON_MAX), LON_MAX), min(max(lat, -LAT_MAX), LAT_MAX)


def _as_word(score: float) -> int:
    """A double as 64 bits without a sign, as x86-64 converts it where C leaves that open."""
    if score < 9223372036854775808.0:
        return int(score) & _WORD if score >= -9223372036854775808.0 else 1 << 63
    return int(score) if score < 18446744073709551616.0 else 0


def cell_scores(cell: Cell) -> tuple[float, float]:
    """The scores of a cell's members: from the first, to before the second."""
    shift = 52 - 2 * cell.step
    return float(cell.bits << shift & _WORD), float((cell.bits + 1) << shift & _WORD)


def text_of(score: float) -> bytes:
    """The eleven letters of the geohash that other programs know, whose latitudes go to 90°."""
    lon, lat = place_of(score)
    bits = encode(lon, lat, STEPS, 90.0)
    # 52 bits make ten letters; the server fills the eleventh with 0.
    return bytes([_ALPHABET[bits >> shift & 31] for shift in range(47, 0, -5)]) + b"0"


def _moved(cell: Cell, east: int, north: int) -> Cell:
    """The cell next to one, around the edges of the map."""
    bits, step = cell
    x, y = bits & _ODD, bits & _EVEN
    odd, even = _ODD >> 64 - 2 * step, _EVEN >> 64 - 2 * step
    if east:
        x = (x + even + 1 if east > 0 else (x | even) - (even + 1)) & odd
    if north:
        y = (y + odd + 1 if north > 0 else (y | odd) - (odd + 1)) & even
    return Cell(x | y, step)


# -- distances ---------------------------------------------------------------------------------------


def lat_distance(lat1: float, lat2: float) -> float:
    """Metres between two latitudes."""
    return EARTH_RADIUS * abs(lat2 * RADIAN - lat1 * RADIAN)


def distance(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Metres between two places, by haversines."""
    v = sin((lon2 * RADIAN - lon1 * RADIAN) / 2)
    if v == 0.0:
        return lat_distance(lat1, lat2)
    lat1r, lat2r = lat1 * RADIAN, lat2 * RADIAN
    u = sin((lat2r - lat1r) / 2)
    a = u * u + cos(lat1r) * cos(lat2r) * v * v
    return 2.0 * EARTH_RADIUS * asin(sqrt(a)) if a <= 1.0 else nan


def distance_within(shape: Shape, lon: float, lat: float) -> float | None:
    """How many metres a place is from the middle of a shape; None where it is outside."""
    if shape.radius is not None:
        metres = distance(shape.lon, shape.lat, lon, lat)
        return None if metres > shape.radius * shape.unit else metres
    if lat_distance(lat, shape.lat) > shape.height * shape.unit / 2:
        return None
    if distance(lon, lat, shape.lon, lat) > shape.width * shape.unit / 2:
        return None
    return distance(shape.lon, shape.lat, lon, lat)


# -- areas -------------------------------------------------------------------------------------------


def _cos(angle: float) -> float:
    return cos(angle) if isfinite(angle) else nan


def _bounds_of(shape: Shape) -> Bounds:
    """The box around a shape."""
    lon, lat = shape.lon, shape.lat
    if shape.radius is not None:
        height = width = shape.unit * shape.radius
    else:
        height, width = shape.unit * (shape.height / 2), shape.unit * (shape.width / 2)
    lat_delta = height / EARTH_RADIUS / RADIAN
    # The side that is nearer to a pole is the wider one, in degrees.
    far = lat - lat_delta if lat < 0 else lat + lat_delta
    lon_delta = width / EARTH_RADIUS / _cos(far * RADIAN) / RADIAN
    return lon - lon_delta, lat - lat_delta, lon + lon_delta, lat + lat_delta


def _estimated_step(metres: float, lat: float) -> int:
    """How small cells may be so that nine of them cover a circle."""
    if metres == 0:
        return STEPS
    step = 1
    while metres < MERCATOR_MAX:
        metres *= 2
        step += 1
    step -= 2  # so that the circle is covered in most of the base cases
    if lat > 66 or lat < -66:  # where cells are narrow
        step -= 2 if lat > 80 or lat < -80 else 1
    return min(max(step, 1), STEPS)


def cells_of(shape: Shape) -> list[Cell]:
    """The cells that a shape may touch, at most nine, in the order in which the server goes through them."""
    west, south, east, north = _bounds_of(shape)
    reach = shape.radius
    if reach is None:
        reach = sqrt(shape.width / 2 * (shape.width / 2) + shape.height / 2 * (shape.height / 2))
    step = _estimated_step(reach * shape.unit, shape.lat)
    middle = Cell(encode(shape.lon, shape.lat, step), step)
    if step > 1 and (
        cell_bounds(_moved(middle, 0, 1))[3] < north
        or cell_bounds(_moved(middle, 0, -1))[1] > south
        or cell_bounds(_moved(middle, 1, 0))[2] < east
        or cell_bounds(_moved(middle, -1, 0))[0] > west
    ):
        step -= 1
        middle = Cell(encode(shape.lon, shape.lat, step), step)
    here = cell_bounds(middle)
    # Which sides the shape cannot reach.
    no_west, no_south = here[0] < west, here[1] < south
    no_east, no_north = here[2] > east, here[3] > north
    cells = [middle]
    for dx, dy in _AROUND:
        if step >= 2 and (
            (dx < 0 and no_west) or (dx > 0 and no_east) or (dy < 0 and no_south) or (dy > 0 and no_north)
        ):
            continue
        cell = _moved(middle, dx, dy)
        if len(cells) > 1 and cell == cells[-1]:
            continue  # on a map of few cells one may be the neighbour on both sides; servers do not look at the middle
        cells.append(cell)
    return cells


# North, south, east, west, and the corners.
_AROUND: Final = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


# -- words -------------------------------------------------------------------------------------------


def place_from(lon: object, lat: object) -> Place:
    """A place that words name. Raises ResponseError where it is none."""
    x = as_float(lon)
    y = as_float(lat)
    if not (-LON_MAX <= x <= LON_MAX and -LAT_MAX <= y <= LAT_MAX):
        raise err(f"invalid longitude,latitude pair {x:f},{y:f}")
    return x, y


def unit_from(word: bytes) -> float:
    """The metres of a unit. Raises ResponseError."""
    metres = UNITS.get(word.lower())
    if metres is None:
        raise err("unsupported unit provided. please use M, KM, FT, MI")
    return metres


def length_from(word: object, name: str) -> float:
    """The radius, width or height that a word says, of either sign. Raises ResponseError."""
    return as_float(word, f"ERR need numeric {name}")
