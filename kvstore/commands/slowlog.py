"""SLOWLOG: the commands that took longest.

Must not know: when a command counts as slow before the hub says so; sockets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from kvstore.commands.help import add_help
from kvstore.commands.kinds import ARRAY, INT, OK
from kvstore.commands.monitor import redacted
from kvstore.commands.registry import Argv, Command, Family
from kvstore.errors import err
from kvstore.numbers import parse_int

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

# What an entry keeps of a command: words, and bytes of a word.
_MOST_WORDS = 32
_MOST_BYTES = 128


@dataclass(slots=True)
class Entry:
    """One slow command."""

    number: int
    time: int  # seconds since the Unix epoch
    micros: int
    words: Argv
    address: bytes
    name: bytes


class SlowLog:
    """The last slow commands of a hub, the newest first. At most ``slowlog-max-len``."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.entries: deque[Entry] = deque()
        self._next = 0

    def was_slow(self, session: Session, command: Command, argv: Argv, nanos: int) -> None:
        """Keep the command, if it took as long as ``slowlog-log-slower-than`` says. O(1)."""
        config = self._hub.config
        threshold = config["slowlog-log-slower-than"]
        micros = nanos // 1000
        if threshold < 0 or micros < threshold or "skip_slowlog" in command.flags:
            return
        time = self._hub.ctx.now() // 1000
        words = _shortened(redacted(session, argv))
        self.entries.appendleft(
            Entry(self._next, time, micros, words, session.address.encode(), session.name)
        )
        self._next += 1
        self.trim()

    def trim(self) -> None:
        longest = self._hub.config["slowlog-max-len"]
        while len(self.entries) > longest:
            self.entries.pop()


def _shortened(argv: Argv) -> Argv:
    kept = argv if len(argv) <= _MOST_WORDS else argv[: _MOST_WORDS - 1]
    words = [
        word
        if len(word) <= _MOST_BYTES
        else word[:_MOST_BYTES] + b"... (%d more bytes)" % (len(word) - _MOST_BYTES)
        for word in kept
    ]
    if len(argv) > len(kept):
        words.append(b"... (%d more arguments)" % (len(argv) - len(kept)))
    return words


family = Family("server", "")
container = family.container("SLOWLOG", since="2.2.12")
_FLAGS = "admin loading stale"


@family.command(
    "SLOWLOG GET",
    -2,
    _FLAGS,
    kind=ARRAY,
    since="2.2.12",
    tips=("request_policy:all_nodes", "nondeterministic_output"),
)
def slowlog_get(session: Session, argv: Argv) -> list[list[object]]:
    """The newest slow commands: number, time, microseconds, words, client. O(n) entries."""
    if len(argv) > 3:
        word = argv[1].decode("utf-8", "surrogateescape")
        raise err(f"unknown subcommand or wrong number of arguments for '{word}'. Try SLOWLOG HELP.")
    count: int | None = 10
    if len(argv) == 3:
        count = parse_int(argv[2])
        if count is None or count < -1:
            raise err("count should be greater than or equal to -1")
        if count == -1:
            count = None
    return [
        [each.number, each.time, each.micros, each.words, each.address, each.name]
        for each in islice(session.hub.slowlog.entries, count)
    ]


@family.command(
    "SLOWLOG LEN",
    2,
    _FLAGS,
    kind=INT,
    since="2.2.12",
    tips=("request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"),
)
def slowlog_len(session: Session, argv: Argv) -> int:
    """How many slow commands are kept. O(1)."""
    return len(session.hub.slowlog.entries)


@family.command(
    "SLOWLOG RESET",
    2,
    _FLAGS,
    kind=OK,
    since="2.2.12",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def slowlog_reset(session: Session, argv: Argv) -> bool:
    """Forget the slow commands. O(n) entries."""
    session.hub.slowlog.entries.clear()
    return True


add_help(family, container, {"GET": "[<count>]"}, since="6.2.0")
