"""What was refused: ACL LOG, and the counters of INFO.

Refusals that differ in nothing but when they happened are one entry for a minute after the last of them. The newest
entries come first.

Must not know: why something is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

GROUPING_MS: Final = 60_000  # between refusals that are told as one
_LOOK_BACK: Final = 10  # entries among which a like one is looked for

REASONS: Final = ("auth", "command", "key", "channel")


@dataclass(slots=True)
class Entry:
    """Like refusals: how many, and the client of the last."""

    reason: str
    context: str  # "toplevel", "multi" or "lua"
    object: bytes  # the command, key or channel; for a login the command's name as it was given
    username: bytes
    client: bytes  # as CLIENT LIST has it
    number: int
    created_ms: int
    updated_ms: int
    count: int = 1

    def is_like(self, other: Entry) -> bool:
        return (
            (self.reason, self.context, self.object, self.username)
            == (other.reason, other.context, other.object, other.username)
        ) and other.updated_ms - self.updated_ms <= GROUPING_MS


class AclLog:
    """The refusals of one hub. ``most``: how many entries are kept."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []  # newest first
        self.most = 128
        self.counts = dict.fromkeys(REASONS, 0)  # never reset
        self._next = 0

    def add(
        self, reason: str, context: str, what: bytes, username: bytes, client: bytes, now_ms: int
    ) -> None:
        """Count a refusal and keep it. O(entries), as the newest are first."""
        self.counts[reason] += 1
        if not self.most:
            self.trim()
            return
        entry = Entry(reason, context, what, username, client, self._next, now_ms, now_ms)
        like = next((old for old in islice(self.entries, _LOOK_BACK) if old.is_like(entry)), None)
        if like is None:
            self._next += 1
        else:
            self.entries.remove(like)
            like.client, like.updated_ms = client, now_ms
            like.count += 1
            entry = like
        self.entries.insert(0, entry)
        self.trim()

    def trim(self) -> None:
        """Forget the oldest entries beyond the limit."""
        del self.entries[self.most :]

    def clear(self) -> None:
        """Forget all entries; their numbers are not given again."""
        self.entries.clear()
