"""Places: bindings.

Distances go out as bulk strings in both protocols, coordinates as doubles under RESP3, with their own digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvstore import errors
from kvstore.commands.args import Args
from kvstore.commands.kinds import ARRAY, BULK, INT, Kind
from kvstore.commands.registry import (
    KEY_OVERWRITE,
    KEY_READ,
    KEY_UPDATE,
    Argv,
    Family,
    KeySpec,
    keys_at,
)
from kvstore.engine.database import Database
from kvstore.engine.geo import (
    ASC,
    DESC,
    Search,
    not_with_store,
    printed_coordinate,
    printed_distance,
    with_details,
)
from kvstore.engine.geocells import Place, place_of, text_of, unit_from
from kvstore.engine.types.zset import ZSet
from kvstore.engine.zsets import CH, NX, XX
from kvstore.errors import ResponseError, err
from kvstore.resp import NULL_ARRAY, encode3, encode_bulk, encode_int

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("geo")


# -- reply kinds -------------------------------------------------------------------------------------


def _place2(place: Place | None) -> Any:
    return NULL_ARRAY if place is None else [printed_coordinate(place[0]), printed_coordinate(place[1])]


def _place3(place: Place | None) -> Any:
    return None if place is None else [float(printed_coordinate(each)) for each in place]


def _place_wire3(place: Place | None) -> bytes:
    if place is None:
        return b"_\r\n"
    return b"*2\r\n,%b\r\n,%b\r\n" % (printed_coordinate(place[0]), printed_coordinate(place[1]))


def _result_tree(place: Callable[[Place | None], Any]) -> Callable[[Any], Any]:
    def tree(value: Any) -> Any:
        if value.__class__ is int:
            return value
        return [
            [place(part) if part.__class__ is tuple else part for part in each]
            if each.__class__ is list
            else each
            for each in value
        ]

    return tree


def _result_wire3(value: Any) -> bytes:
    if value.__class__ is int:
        return encode_int(value)
    items = []
    for each in value:
        if each.__class__ is list:
            parts = [_place_wire3(part) if part.__class__ is tuple else encode3(part) for part in each]
            items.append(b"*%d\r\n%b" % (len(parts), b"".join(parts)))
        else:
            items.append(encode_bulk(each))
    return b"*%d\r\n%b" % (len(items), b"".join(items))


# A list of places or None
PLACES = Kind(
    "places",
    lambda value: list(map(_place2, value)),
    lambda value: list(map(_place3, value)),
    wire3=lambda value: b"*%d\r\n%b" % (len(value), b"".join(map(_place_wire3, value))),
)
# A number, or a list of names or of lists of a name and what was asked for, a place as a tuple
RESULTS = Kind("places found", _result_tree(_place2), _result_tree(_place3), wire3=_result_wire3)


# -- single places -----------------------------------------------------------------------------------

_FLAGS: Final = {b"NX": NX, b"XX": XX, b"CH": CH}


@family.command("GEOADD", -5, "write denyoom", KEY_UPDATE, kind=INT, since="3.2.0", method=Database.geoadd)
def geoadd(session: Session, argv: Argv) -> int:
    flags, at = 0, 2
    while at < len(argv) and (flag := _FLAGS.get(argv[at].upper())):
        flags |= flag
        at += 1
    words = argv[at:]
    if not words or len(words) % 3 or (flags & NX and flags & XX):
        raise ResponseError(errors.SYNTAX)
    return session.db._geoadd(argv[1], words, flags)


@family.command("GEODIST", -4, "readonly", KEY_READ, kind=BULK, since="3.2.0", method=Database.geodist)
def geodist(session: Session, argv: Argv) -> bytes | None:
    if len(argv) > 5:
        raise ResponseError(errors.SYNTAX)
    unit = unit_from(argv[4]) if len(argv) == 5 else 1.0
    found = session.db._geodist(argv[1], argv[2], argv[3], unit)
    return None if found is None else printed_distance(found)


@family.command("GEOHASH", -2, "readonly", KEY_READ, kind=ARRAY, since="3.2.0", method=Database.geohash)
def geohash(session: Session, argv: Argv) -> list[bytes | None]:
    scores = session.db._zmscore(argv[1], argv[2:])
    return [None if score is None else text_of(score) for score in scores]


@family.command("GEOPOS", -2, "readonly", KEY_READ, kind=PLACES, since="3.2.0", method=Database.geopos)
def geopos(session: Session, argv: Argv) -> list[Place | None]:
    scores = session.db._zmscore(argv[1], argv[2:])
    return [None if score is None else place_of(score) for score in scores]


# -- searching ---------------------------------------------------------------------------------------


class _Options:
    """What is asked of a search, beside where it looks."""

    __slots__ = ("dest", "storedist", "withcoord", "withdist", "withhash")

    def __init__(self, dest: bytes | None):
        self.dest = dest
        self.storedist = False
        self.withdist = self.withhash = self.withcoord = False

    @property
    def shown(self) -> tuple[bool, bool, bool]:
        return self.withdist, self.withhash, self.withcoord

    def take(self, search: Search, words: Args) -> bool:
        """An option that all searches have."""
        if words.take(b"WITHDIST"):
            self.withdist = True
        elif words.take(b"WITHHASH"):
            self.withhash = True
        elif words.take(b"WITHCOORD"):
            self.withcoord = True
        elif words.take(b"ANY"):
            search.any = True
        elif words.take(b"ASC"):
            search.order = ASC
        elif words.take(b"DESC"):
            search.order = DESC
        elif words.take(b"COUNT", more=1):
            search.at_most(words.next())
        else:
            return False
        return True

    def check_store(self, what: str) -> None:
        if self.dest is not None and True in self.shown:
            raise err(not_with_store(what))

    def answer(self, session: Session, source: bytes, search: Search, event: str) -> Any:
        if search.any and not search.count:
            raise err("the ANY argument requires COUNT argument")
        if self.dest is not None:
            return session.db._geostore(self.dest, source, search, self.storedist, event)
        return with_details(search.run(), self.shown, printed_distance, place_of)


def _search(session: Session, argv: Argv, source: bytes, at: int, dest: bytes | None) -> Any:
    """GEOSEARCH, whose options begin at ``at``."""
    search = Search(session.db._read_as(source, ZSet))
    options = _Options(dest)
    words = Args(argv, at)
    member = place = circle = box = False
    while words:
        if options.take(search, words):
            continue
        if not place and words.take(b"FROMMEMBER", more=1):
            member = True
            search.from_member(words.next())
        elif not member and words.take(b"FROMLONLAT", more=2):
            place = True
            search.from_place(words.next(), words.next())
        elif not box and words.take(b"BYRADIUS", more=2):
            circle = True
            search.by_radius(words.next(), words.next())
        elif not circle and words.take(b"BYBOX", more=3):
            box = True
            search.by_box(words.next(), words.next(), words.next())
        elif dest is not None and words.take(b"STOREDIST"):
            options.storedist = True
        else:
            raise words.syntax_error()
    options.check_store("GEOSEARCHSTORE")
    search.check(argv[0].decode("utf-8", "surrogateescape"))
    return options.answer(session, source, search, "geosearchstore")


@family.command("GEOSEARCH", -7, "readonly", KEY_READ, kind=RESULTS, since="6.2.0", method=Database.geosearch)
def geosearch(session: Session, argv: Argv) -> Any:
    return _search(session, argv, argv[1], 2, None)


@family.command(
    "GEOSEARCHSTORE",
    -8,
    "write denyoom",
    KEY_OVERWRITE + keys_at(2, 2, 1, "RO ACCESS"),
    kind=INT,
    since="6.2.0",
    method=Database.geosearchstore,
)
def geosearchstore(session: Session, argv: Argv) -> Any:
    return _search(session, argv, argv[2], 3, argv[1])


def _radius(session: Session, argv: Argv, by_member: bool, may_store: bool) -> Any:
    """GEORADIUS and GEORADIUSBYMEMBER."""
    search = Search(session.db._read_as(argv[1], ZSet))
    at = 5 if by_member else 6
    if by_member:
        search.from_member(argv[2])
    else:
        search.from_place(argv[2], argv[3])
    if not by_member or search.zset is not None:  # else the server does not look at them
        search.by_radius(argv[at - 2], argv[at - 1])
    options = _Options(None)
    words = Args(argv, at)
    while words:
        if options.take(search, words):
            continue
        if may_store and words.take(b"STORE", more=1):
            options.dest, options.storedist = words.next(), False
        elif may_store and words.take(b"STOREDIST", more=1):
            options.dest, options.storedist = words.next(), True
        else:
            raise words.syntax_error()
    options.check_store("STORE option in GEORADIUS")
    return options.answer(session, argv[1], search, "georadiusstore")


def _bind_radius(name: str, arity: int, by_member: bool, method: Any) -> None:
    stores = tuple(KeySpec((word, -arity), ("range", 0, 1), "OW UPDATE") for word in ("STORE", "STOREDIST"))

    @family.command(
        name,
        arity,
        "write denyoom movablekeys",
        KEY_READ + stores,
        kind=RESULTS,
        since="3.2.0",
        method=method,
    )
    def both(session: Session, argv: Argv) -> Any:
        return _radius(session, argv, by_member, True)

    @family.command(name + "_RO", arity, "readonly", KEY_READ, kind=RESULTS, since="3.2.10", method=method)
    def read(session: Session, argv: Argv) -> Any:
        return _radius(session, argv, by_member, False)


_bind_radius("GEORADIUS", -6, False, Database.georadius)
_bind_radius("GEORADIUSBYMEMBER", -5, True, Database.georadiusbymember)
