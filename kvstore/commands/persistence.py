"""SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE, WAITAOF: what clients ask of the files.

A hub whose store has files has a ``Persistence``; a store in memory has none, and refuses to be saved.

Must not know: files, how they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from kvstore.commands.args import Args
from kvstore.commands.kinds import INT, OK, TREE, Kind
from kvstore.commands.registry import Argv, Block, Family
from kvstore.errors import err
from kvstore.numbers import as_int, parse_int
from kvstore.resp import Status

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

_ALL_SHARDS = ("request_policy:all_shards", "response_policy:agg_min")


class Persistence(Protocol):
    """The files of a hub's store. Its methods raise ResponseError with the text for the client."""

    def save(self) -> None:
        """Write a snapshot now."""

    def start_save(self, schedule: bool = False) -> str:
        """Begin a snapshot; what to tell the client."""

    def start_rewrite(self) -> str:
        """Begin to write the log anew; what to tell the client."""

    def last_save_ms(self) -> int:
        """When the data was last saved."""

    def fields(self) -> Iterator[tuple[str, Any]]:
        """INFO persistence, in its order."""

    def reload(self, *, save: bool, flush: bool, merge: bool) -> None:
        """Write a snapshot (``save``) and read it back, into the emptied store (``flush``) or another."""

    def load_log(self) -> None:
        """Empty the store and read the log back."""

    def flushed_all(self) -> None:
        """All data was deleted: the snapshot must not bring it back."""

    @property
    def aof_enabled(self) -> bool:
        """Whether there is a log."""

    @property
    def appended(self) -> int:
        """Bytes given to the log since the start."""

    @property
    def synced(self) -> int:
        """How many of them are on the disk."""


def files_of(hub: Hub) -> Persistence:
    """The files of the hub's store. Raises ResponseError for a store in memory."""
    if hub.persistence is None:
        raise err("This store is in memory only: it has no files to save to")
    return hub.persistence


family = Family("server", "")
generic = Family("generic", "connection")


@family.command("SAVE", 1, "admin noscript no_async_loading no_multi", kind=OK)
def save(session: Session, argv: Argv) -> bool:
    """Write a snapshot now; all clients wait. O(n) keys."""
    files_of(session.hub).save()
    return True


@family.command("BGSAVE", -1, "admin noscript no_async_loading", kind=TREE)
def bgsave(session: Session, argv: Argv) -> Status:
    """Begin a snapshot, which is written between commands. O(1)."""
    scheduled = len(argv) == 2 and argv[1].upper() == b"SCHEDULE"
    if len(argv) > 1 and not scheduled:
        raise Args.syntax_error()
    return Status(files_of(session.hub).start_save(scheduled).encode())


@family.command("BGREWRITEAOF", 1, "admin noscript no_async_loading", kind=TREE)
def bgrewriteaof(session: Session, argv: Argv) -> Status:
    """Begin to write the log anew, between commands. O(1)."""
    return Status(files_of(session.hub).start_rewrite().encode())


@family.command(
    *("LASTSAVE", 1, "loading stale fast"),
    kind=INT,
    categories="admin dangerous",
    tips=("nondeterministic_output",),
)
def lastsave(session: Session, argv: Argv) -> int:
    """When the data was last saved, in seconds since the Unix epoch; the start counts as a save. O(1)."""
    return session.hub.last_save_ms // 1000


class UntilSynced(Block):
    """WAITAOF: blocks until the log is on the disk up to a position."""

    __slots__ = ("_hub", "position")

    def __init__(self, hub: Hub, position: int, timeout: float):
        super().__init__((), timeout)
        self._hub = hub
        self.position = position

    def at_end(self) -> list[int]:
        return [int(self.is_reached), 0]

    @property
    def is_reached(self) -> bool:
        files = self._hub.persistence
        return files is not None and files.aof_enabled and files.synced >= self.position


@generic.command(
    *("WAITAOF", 4, "blocking"),
    kind=Kind("logs", tree2=lambda value: value or [0, 0], plain=True),
    since="7.2.0",
    tips=_ALL_SHARDS,
)
def waitaof(session: Session, argv: Argv) -> list[int] | Block:
    """Wait until all that has been written so far is on disk here, and on so many replicas. O(1)."""
    here = as_int(argv[1])
    if not 0 <= here <= 1:
        raise err("value is out of range, value must between 0 and 1")
    replicas = parse_int(argv[2])
    if replicas is None or replicas < 0:
        raise err("value is out of range, must be positive")
    timeout = timeout_ms(argv[3])
    hub, waiting = session.hub, session.waiting
    files = hub.persistence
    if here and not (files is not None and files.aof_enabled):
        raise err("WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
    if waiting is not None and isinstance(waiting.block, UntilSynced):
        block = waiting.block
    else:
        block = UntilSynced(hub, 0 if files is None else files.appended, timeout / 1000)
    if replicas or (here and not block.is_reached):
        return block
    return block.at_end()


def timeout_ms(word: bytes) -> int:
    """The time-out of WAIT and WAITAOF."""
    milliseconds = as_int(word, "ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        raise err("timeout is negative")
    return milliseconds
