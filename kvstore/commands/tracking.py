"""CLIENT TRACKING: tell clients when what they have read, and may keep a copy of, has changed.

By default the server remembers which keys a client has read, and tells it once when one of them changes; a
client that broadcasts is told of all keys with its prefixes, once a turn of the loop, whatever it has read.
Whoever tracks has a table of its own (TRACKED) that remembers what is read; the store is listened to only
while somebody tracks or keys are remembered.

Invariants
- A session has a ``tracking`` exactly while it is in ``sessions``.
- ``_readers`` has for each remembered key the number of the one client that read it, or the set of several;
  ``items`` is the count of all of these. Numbers of clients that are gone stay until their key changes.
- A prefix is in ``_prefixes`` while a client that broadcasts has it.

Costs: a command that reads O(keys) more for those who track; a change O(clients that read the key) and, where
clients broadcast, O(prefixes). About 150 bytes a remembered key.

Must not know: sockets, the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kvstore.commands.args import Args
from kvstore.commands.introspection import find_keys
from kvstore.commands.notify import UNWATCHED
from kvstore.commands.registry import Argv, Command
from kvstore.engine.context import Effect, Event, Listener
from kvstore.errors import err
from kvstore.numbers import as_int
from kvstore.resp import Push

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

# Where clients of RESP2 are told, on a connection that has subscribed to it.
CHANNEL = b"__redis__:invalidate"
_FLUSHES = (b"FLUSHALL", b"FLUSHDB")
# Events of changes that are nobody's: the key's time was over, or there was no room for it.
_BY_NOBODY = frozenset({"expired", "evicted"})
# Readonly commands that are not themselves reads of their keys: the commands that they call are.
_CALLERS = frozenset({"EVAL_RO", "EVALSHA_RO", "FCALL_RO"})


class Tracking:
    """What one client has asked for."""

    __slots__ = ("bcast", "broken", "caching", "noloop", "optin", "optout", "prefixes", "redirect")

    def __init__(self) -> None:
        self.redirect = 0  # the number of the connection that is told instead; 0: none
        self.bcast = False
        self.optin = False
        self.optout = False
        self.noloop = False
        self.caching = False  # CLIENT CACHING was called, for the command that comes next
        self.broken = False  # the connection to be told instead has gone
        self.prefixes: dict[bytes, None] = {}

    @property
    def remembers(self) -> bool:
        """Whether what the client reads now is to be remembered."""
        return self.caching if self.optin else not (self.optout and self.caching)

    def words(self) -> list[bytes]:
        """The flags, as CLIENT TRACKINGINFO has them."""
        found = (
            (b"on", True),
            (b"bcast", self.bcast),
            (b"optin", self.optin),
            (b"caching-yes", self.optin and self.caching),
            (b"optout", self.optout),
            (b"caching-no", self.optout and self.caching),
            (b"noloop", self.noloop),
            (b"broken_redirect", self.broken),
        )
        return [word for word, holds in found if holds]


class _Prefix:
    """Who is told of the keys with a prefix, and which of them have changed in this turn, by whom first."""

    __slots__ = ("changed", "sessions")

    def __init__(self) -> None:
        self.sessions: dict[Session, None] = {}
        self.changed: dict[bytes, Session | None] = {}


class Tracker(Listener):
    """The tracking of one hub."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.most = 0  # keys to remember; 0: any number
        self.sessions: dict[Session, None] = {}
        self.items = 0
        self._readers: OrderedDict[bytes, int | set[int]] = OrderedDict()  # the longest remembered first
        self._prefixes: dict[bytes, _Prefix] = {}
        self._due = False  # a broadcast is due at the end of the turn
        # Has a call made at the end of the turn. Set by whoever has an event loop; without, a unit is a turn.
        self.at_end_of_turn: Callable[[Callable[[], None]], None] | None = None

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._readers)

    @property
    def prefixes(self) -> int:
        return len(self._prefixes)

    # -- who tracks ----------------------------------------------------------------------------------

    def start(self, session: Session, asked: Tracking) -> None:
        """Track for a client from now on, or in another way; the prefixes it has are added to. O(prefixes)."""
        before = session.tracking
        prefixes = dict(asked.prefixes) or ({b"": None} if asked.bcast else {})
        for prefix in prefixes:
            self._prefixes.setdefault(prefix, _Prefix()).sessions[session] = None
        asked.prefixes = prefixes if before is None else before.prefixes | prefixes
        session.tracking = asked
        self.sessions[session] = None
        self._changed(session)

    def stop(self, session: Session) -> None:
        """Track no longer for a client. What it has read stays remembered, as on real servers."""
        tracking = session.tracking
        if tracking is None:
            return
        for prefix in tracking.prefixes:
            found = self._prefixes[prefix]
            del found.sessions[session]
            if not found.sessions:
                del self._prefixes[prefix]
        session.tracking = None
        del self.sessions[session]
        self._changed(session)

    def forget(self, session: Session) -> None:
        """The client is gone. With the last one goes what is remembered: there is nobody to be told."""
        if session.tracking is not None:
            self.stop(session)
            if not self.sessions:
                self._forget_all()

    def _changed(self, session: Session) -> None:
        session.retable()
        self._relisten()

    def _relisten(self) -> None:
        if self.sessions or self._readers:
            self._hub.ctx.listen(self)
        else:
            self._hub.ctx.unlisten(self)

    def _forget_all(self) -> None:
        self._readers.clear()
        self.items = 0
        self._relisten()

    # -- what is read --------------------------------------------------------------------------------

    def remember(self, session: Session, keys: Iterable[bytes]) -> None:
        """A client has read the keys."""
        tracking = session.tracking
        if tracking is None or tracking.bcast or not tracking.remembers:
            return
        number, readers = session.id, self._readers
        for key in keys:
            found = readers.get(key)
            if found is None:
                readers[key] = number
            elif found.__class__ is int:
                if found == number:
                    continue
                readers[key] = {found, number}
            elif number in found:  # type: ignore[operator]
                continue
            else:
                found.add(number)  # type: ignore[union-attr]
            self.items += 1
        if 0 < self.most < len(readers):
            self._hub.pending = True

    def remember_call(self, session: Session, command: Command, argv: Argv) -> None:
        """A client has called the command."""
        keys_of = reader_of(command)
        if keys_of is not None:
            self.remember(session, keys_of(argv))

    def limit(self) -> None:
        """Forget what was remembered first, where that is too much; its readers are told. O(keys too many)."""
        readers = self._readers
        while 0 < self.most < len(readers):
            self._invalidate(next(iter(readers)))

    # -- what changes --------------------------------------------------------------------------------

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        if not events:
            if effect and effect[0] in _FLUSHES:
                self._flush()
            return
        readers, prefixes, hub = self._readers, self._prefixes, self._hub
        by = hub.current if hub.scripting.caller is None else None  # what a script does is no client's
        for name, key in events:
            if name in UNWATCHED:
                continue
            if key in readers:
                self._invalidate(key)
            if prefixes:
                self._broadcast_later(key, None if name in _BY_NOBODY else by)

    def _invalidate(self, key: bytes) -> None:
        """Tell those who read the key, and forget it."""
        hub = self._hub
        found = self._readers.pop(key)
        numbers = [found] if isinstance(found, int) else sorted(found)
        self.items -= len(numbers)
        for number in numbers:
            session = hub.sessions.get(number)
            tracking = None if session is None else session.tracking
            if session is None or tracking is None or tracking.bcast:
                continue
            if not (tracking.noloop and session is hub.current):
                self._tell(session, [key])
        if not self._readers and not self.sessions:
            self._relisten()

    def _flush(self) -> None:
        """All keys are gone, of one database or all: which are not told apart, here as little as for keys."""
        for session in self.sessions:
            self._tell(session, None)
        self._forget_all()

    def _tell(self, session: Session, keys: list[bytes] | None) -> None:
        """Send what has changed, None for everything, to a client or the one that it has named instead."""
        tracking: Tracking = session.tracking  # type: ignore[assignment]
        to = self._hub.sessions.get(tracking.redirect) if tracking.redirect else session
        if to is None:
            tracking.broken = True
            if session.protocol == 3:
                session.push(session.codec.encode(Push([b"tracking-redir-broken", tracking.redirect])))
        elif to.protocol == 3:
            to.push(to.codec.encode(Push([b"invalidate", keys])))
        elif tracking.redirect and to.subscriptions:
            to.push(to.codec.encode([b"message", CHANNEL, keys]))

    # -- broadcasts ----------------------------------------------------------------------------------

    def _broadcast_later(self, key: bytes, by: Session | None) -> None:
        for prefix, found in self._prefixes.items():
            if key.startswith(prefix):
                found.changed.setdefault(key, by)
                if not self._due:
                    self._due = True
                    if self.at_end_of_turn is None:
                        self._hub.pending = True
                    else:
                        self.at_end_of_turn(self.broadcast)

    def drain(self) -> None:
        """Do what is due at the end of a unit."""
        if 0 < self.most < len(self._readers):
            self.limit()
        if self._due and self.at_end_of_turn is None:
            self.broadcast()

    def broadcast(self) -> None:
        """Tell who broadcasts what has changed, in the order of prefixes and of keys."""
        self._due = False
        for prefix in sorted(self._prefixes):
            found = self._prefixes[prefix]
            if not found.changed:
                continue
            changed, found.changed = found.changed, {}
            keys = sorted(changed)
            for session in list(found.sessions):
                if session.tracking is not None and session.tracking.noloop:
                    others = [key for key in keys if changed[key] is not session]
                    if others:
                        self._tell(session, others)
                else:
                    self._tell(session, keys)

    def check(self) -> None:
        """Assert the invariants."""
        # Who tracks is known, and nobody else.
        assert all(session.tracking is not None for session in self.sessions)
        # Each reader of each key is counted.
        assert self.items == sum(1 if isinstance(each, int) else len(each) for each in self._readers.values())
        # Prefixes belong to clients that broadcast.
        for prefix, found in self._prefixes.items():
            assert found.sessions
            for session in found.sessions:
                assert session.tracking is not None and prefix in session.tracking.prefixes
        # Everybody is heard who must be.
        assert (self in self._hub.ctx.listeners) == bool(self.sessions or self._readers)


# -- which keys a command reads --------------------------------------------------------------------------


def reader_of(command: Command) -> Callable[[Argv], Iterable[bytes]] | None:
    """What finds the keys that a command reads, or None where none of them counts as read."""
    flags = command.flags
    if "readonly" not in flags or "pubsub" in flags or command.name in _CALLERS:
        return None
    if command.getkeys is None and len(command.keys) == 1:
        spec = command.keys[0]
        last = spec.find[1]
        if isinstance(spec.begin, int) and spec.find[0] == "range" and last >= -1:
            begin, step = spec.begin, spec.find[2]
            places = slice(begin, None if last == -1 else begin + last + 1, step)
            return lambda argv: argv[places]
    if not command.keys and command.getkeys is None:
        return None
    return lambda argv: [argv[at] for at, _ in find_keys(command, argv) or ()]


def ends_caching(command: Command | None) -> bool:
    """Whether CLIENT CACHING is over with the command: not with another one of CLIENT."""
    return command is None or command.parent is None or command.parent.name != "CLIENT"


# -- what CLIENT TRACKING is given -----------------------------------------------------------------------


def parse_tracking(session: Session, argv: Argv) -> Tracking | None:
    """The words of CLIENT TRACKING: what is asked for, None for OFF. Raises ResponseError."""
    asked = Tracking()
    prefixes = _take_options(session, asked, Args(argv, 3))
    word = argv[2].upper()
    if word == b"OFF":
        return None
    if word != b"ON":
        raise Args.syntax_error()
    if prefixes and not asked.bcast:
        raise err("PREFIX option requires BCAST mode to be enabled")
    before = session.tracking
    if before is not None and before.bcast != asked.bcast:
        raise err(
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then "
            "re-enabling it with a different mode."
        )
    if asked.bcast and (asked.optin or asked.optout):
        raise err("OPTIN and OPTOUT are not compatible with BCAST")
    if asked.optin and asked.optout:
        raise err("You can't specify both OPTIN mode and OPTOUT mode")
    if before is not None and ((asked.optin and before.optout) or (asked.optout and before.optin)):
        raise err(
            "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then "
            "re-enabling it with a different mode."
        )
    if prefixes:
        _check_overlaps(prefixes, () if before is None else sorted(before.prefixes))
        asked.prefixes = dict.fromkeys(prefixes)
    return asked


def _take_options(session: Session, asked: Tracking, words: Args) -> list[bytes]:
    """Read the options; the prefixes."""
    prefixes = []
    while words:
        option = words.next().upper()
        if option == b"REDIRECT" and words:
            if asked.redirect:
                raise err("A client can only redirect to a single other client")
            asked.redirect = as_int(words.next())
            if asked.redirect not in session.hub.sessions:
                raise err("The client ID you want redirect to does not exist")
        elif option == b"PREFIX" and words:
            prefixes.append(words.next())
        elif option in (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
            setattr(asked, option.decode().lower(), True)
        else:
            raise Args.syntax_error()
    return prefixes


def _check_overlaps(prefixes: list[bytes], existing: Iterable[bytes]) -> None:
    """Refuse prefixes of which one begins with another, as their keys would be told of twice."""
    for at, prefix in enumerate(prefixes):
        for kind, others in (
            ("an existing prefix", existing),
            ("another provided prefix", prefixes[at + 1 :]),
        ):
            for other in others:
                if prefix.startswith(other) or other.startswith(prefix):
                    mine, theirs = (each.decode("utf-8", "surrogateescape") for each in (prefix, other))
                    raise err(
                        f"Prefix '{mine}' overlaps with {kind} '{theirs}'. "
                        "Prefixes for a single client must not overlap."
                    )


def describe(session: Session) -> dict[bytes, Any]:
    """The parts of CLIENT TRACKINGINFO; its flags are a set under RESP3."""
    tracking = session.tracking
    if tracking is None:
        return {b"flags": [b"off"], b"redirect": -1, b"prefixes": []}
    return {
        b"flags": tracking.words(),
        b"redirect": tracking.redirect,
        b"prefixes": sorted(tracking.prefixes),
    }
