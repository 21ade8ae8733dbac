"""LATENCY: when the server was slow, and how long commands take.

Must not know: sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeVar

from kvstore.commands.help import add_help
from kvstore.commands.kinds import ARRAY, INT, TREE
from kvstore.commands.registry import Argv, Command, Family
from kvstore.commands.tables import CommandStats
from kvstore.errors import err
from kvstore.resp import Verbatim

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

_T = TypeVar("_T")

_SAMPLES = 160  # samples kept of each event
_GRAPH_ROWS = 4
# The bit length of the nanoseconds under which calls count as one microsecond.
_FIRST_BITS = 10


class Event:
    """The samples (second, milliseconds) of one cause of slowness; one sample a second, the worst."""

    __slots__ = ("highest", "samples")

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)
        self.highest = 0

    def add(self, second: int, ms: int) -> None:
        self.highest = max(self.highest, ms)
        if self.samples and self.samples[-1][0] == second:
            ms = max(ms, self.samples.pop()[1])
        self.samples.append((second, ms))


class LatencyMonitor:
    """The events of a hub that took ``latency-monitor-threshold`` milliseconds or more."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.events: dict[bytes, Event] = {}

    def was_slow(self, command: Command, nanos: int) -> None:
        self.add(b"fast-command" if "fast" in command.flags else b"command", nanos // 1_000_000)

    def add(self, name: bytes, ms: int) -> None:
        """Note that something took so long, if that is long. O(1)."""
        threshold = self._hub.config["latency-monitor-threshold"]
        if threshold and ms >= threshold:
            self.events.setdefault(name, Event()).add(self._hub.ctx.now() // 1000, ms)

    def measure(self, name: bytes, work: Callable[[], _T]) -> _T:
        """Do the work, and note how long it took. O(1) beside it."""
        if not self._hub.config["latency-monitor-threshold"]:
            return work()
        started = perf_counter_ns()
        done = work()
        self.add(name, (perf_counter_ns() - started) // 1_000_000)
        return done


# -- how long calls take ---------------------------------------------------------------------------------


def histogram(stats: CommandStats) -> Iterator[tuple[int, int]]:
    """(microseconds, calls that took at most that long), where the count grows.

    The bounds are powers of two of 1,024 ns as a histogram with two significant digits prints them.
    """
    total = below = 0
    for bits, count in enumerate(stats.buckets):
        total += count
        if bits < _FIRST_BITS or total == below:
            continue
        below = total
        yield ((1 << bits) + (1 << bits - 7) - 1) // 1000, total


def percentile(stats: CommandStats, percent: float) -> float:
    """About how many microseconds that share of the calls took at most, by the power of two it fell into."""
    wanted = stats.calls * percent / 100
    total = 0
    for bits, count in enumerate(stats.buckets):
        if count and total + count >= wanted:
            low = (1 << bits) >> 1
            return (low + low * max(0.0, wanted - total) / count) / 1000
        total += count
    return 0.0


# -- commands --------------------------------------------------------------------------------------------

family = Family("server", "")
container = family.container("LATENCY", since="2.8.13")
_FLAGS = "admin noscript loading stale"
_TIPS = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")


@family.command("LATENCY LATEST", 2, _FLAGS, kind=ARRAY, since="2.8.13", tips=_TIPS)
def latency_latest(session: Session, argv: Argv) -> list[list[object]]:
    """Each event: its name, the second and milliseconds of its last sample, the worst ever. O(n) events."""
    events = session.hub.latency.events
    return [[name, *event.samples[-1], event.highest] for name, event in events.items()]


@family.command("LATENCY HISTORY", 3, _FLAGS, kind=ARRAY, since="2.8.13", tips=_TIPS)
def latency_history(session: Session, argv: Argv) -> list[list[int]]:
    """The samples of an event: seconds and milliseconds. O(n) samples."""
    event = session.hub.latency.events.get(argv[2])
    return [list(sample) for sample in event.samples] if event else []


@family.command(
    "LATENCY RESET",
    -2,
    _FLAGS,
    kind=INT,
    since="2.8.13",
    tips=("request_policy:all_nodes", "response_policy:agg_sum"),
)
def latency_reset(session: Session, argv: Argv) -> int:
    """Forget the samples of some events, or of all; how many events went. O(n) events."""
    events = session.hub.latency.events
    names = argv[2:] or list(events)
    return sum(events.pop(name, None) is not None for name in names)


@family.command("LATENCY GRAPH", 3, _FLAGS, kind=TREE, since="2.8.13", tips=_TIPS)
def latency_graph(session: Session, argv: Argv) -> Verbatim:
    """A drawing of an event's samples. O(n) samples."""
    name = argv[2].decode("utf-8", "surrogateescape")
    event = session.hub.latency.events.get(argv[2])
    if event is None:
        raise err(f"No samples available for event '{name}'")
    values = [ms for _, ms in event.samples][-80:]
    low, high = min(values), max(values)
    head = f"{name} - high {high} ms, low {low} ms (all time high {event.highest} ms)\n{'-' * 80}\n"
    return Verbatim((head + _drawing(values, low, high)).encode("utf-8", "surrogateescape"))


def _drawing(values: list[int], low: int, high: int) -> str:
    """A column a sample, the higher the longer it took."""
    span = max(1, high - low)
    heights = [1 + (value - low) * (_GRAPH_ROWS - 1) // span for value in values]
    rows = range(_GRAPH_ROWS, 0, -1)
    return "".join(
        "".join("#" if height >= row else " " for height in heights).rstrip() + "\n" for row in rows
    )


@family.command("LATENCY DOCTOR", 2, _FLAGS, kind=TREE, since="2.8.13", tips=_TIPS)
def latency_doctor(session: Session, argv: Argv) -> Verbatim:
    """What the samples say, in words. O(n) samples."""
    hub = session.hub
    if not hub.config["latency-monitor-threshold"]:
        return Verbatim(
            b"Latency monitoring is off. It is switched on by "
            b'"CONFIG SET latency-monitor-threshold <milliseconds>".\n'
        )
    if not hub.latency.events:
        return Verbatim(b"Nothing has taken as long as the threshold says. All is well.\n")
    lines = []
    for name, event in hub.latency.events.items():
        values = [ms for _, ms in event.samples]
        lines.append(
            f"{name.decode()}: {len(values)} samples, {sum(values) / len(values):.2f} ms on average, "
            f"{event.highest} ms at worst.\n"
        )
    if b"command" in hub.latency.events:
        lines.append("Slow commands hold up all clients; SLOWLOG GET says which they were.\n")
    return Verbatim("".join(lines).encode())


@family.command("LATENCY HISTOGRAM", -2, _FLAGS, kind=TREE, since="7.0.0", tips=_TIPS)
def latency_histogram(session: Session, argv: Argv) -> dict[bytes, Any]:
    """How long the calls of commands took, cumulative by powers of two of microseconds. O(n) commands."""
    hub = session.hub
    if not hub.config["latency-tracking"]:
        return {}
    chosen: list[Command] = list(hub.stats)
    if len(argv) > 2:
        chosen = [command for word in argv[2:] for command in _named(hub, word)]
    found: dict[bytes, Any] = {}
    for command in chosen:
        stats = hub.stats.get(command)
        if stats is not None and stats.calls:
            found[command.full_name.encode()] = {
                b"calls": stats.calls,
                b"histogram_usec": dict(histogram(stats)),
            }
    return found


def _named(hub: Hub, word: bytes) -> list[Command]:
    """The command of that name, with its subcommands, or the one subcommand ("config|get")."""
    head, bar, tail = word.partition(b"|")
    command = hub.find(head)
    if command is None:
        return []
    if bar:
        sub = hub.find_sub(command, tail)
        return [sub] if sub is not None else []
    return [command, *command.subcommands.values()]


add_help(
    family,
    container,
    {"GRAPH": "<event>", "HISTOGRAM": "[<command> ...]", "HISTORY": "<event>", "RESET": "[<event> ...]"},
    since="2.8.13",
)
