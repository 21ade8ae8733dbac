"""A node that has all slots of a cluster, as far as single commands can tell: no keys of several slots in one.

What it refuses, and how it words that, is what a real node does. There is no topology: INFO and CLUSTER speak of
a server that is not in a cluster, all but CLUSTER KEYSLOT.

Must not know: lines, client libraries.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kvstore.commands.introspection import find_keys
from kvstore.commands.kinds import INT, OK
from kvstore.commands.registry import Argv, Command, CommandRejected
from kvstore.commands.sort import check_patterns
from kvstore.commands.tables import EXECUTING, MULTI, RUN_IN_MULTI, SCRIPT
from kvstore.errors import ResponseError, err
from kvstore.numbers import parse_int

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

SLOTS = 16384
_CROSS_SLOT = "CROSSSLOT Keys in request don't hash to the same slot"
_FOREIGN = "Script attempted to access a non local key in a cluster node"
_SCATTERED = "Script attempted to access keys that do not hash to the same slot"
_MODES = frozenset({"READONLY", "READWRITE", "ASKING"})
# From this version on a script is told which of its commands it was.
_NEWER = (7, 4)


def slot_of(key: bytes) -> int:
    """The slot of a key: of what stands between its first braces, if anything does. O(length)."""
    begin, end = _tag(key)
    return crc_hqx(key[begin:end], 0) % SLOTS


def _tag(key: bytes) -> tuple[int, int]:
    """From where to where a key tells its slot."""
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin) if begin else -1
    return (begin, end) if end > begin else (0, len(key))


def _slot_of_pattern(pattern: bytes) -> int | None:
    """The slot of all keys that a pattern gives, None where there may be several: where its braces, or all of it
    if it has none, are not plain. O(length)."""
    told = pattern[: _tag(pattern)[1]]
    return None if any(sign in told for sign in b"*?[\\") else slot_of(pattern)


class StrictCluster:
    """Refuses what a node of a cluster would."""

    def __init__(self, hub: Hub):
        self._hub = hub

    def check(self, session: Session, command: Command, argv: Argv, mode: str) -> Any:
        """Raise ResponseError for a request that is refused; the reply of one that is answered otherwise than
        by a server alone, or None for all others. O(keys)."""
        if mode == SCRIPT:
            self._check_in_script(command, argv)
        elif command.name == "EXEC":
            if session.in_multi and not session.tx_aborted:
                self._check_transaction(session)
        elif mode != EXECUTING and len(set(map(slot_of, _keys_of(command, argv)))) > 1:
            raise CommandRejected(_CROSS_SLOT)
        if mode == MULTI and command.name not in RUN_IN_MULTI:
            return None  # it is only queued
        if command.full_name == "cluster|keyslot":
            return session.codec.of(INT)(slot_of(argv[2]))
        if command.name in _MODES:
            return session.codec.of(OK)(True)
        self._check_databases(command, argv)
        if command.name in ("SORT", "SORT_RO"):
            check_patterns(argv, lambda pattern: self._pattern_denied(argv[1], pattern))
        return None

    def _check_transaction(self, session: Session) -> None:
        keys: list[bytes] = []
        for argv in session.queue:
            command = self._hub.find(argv[0])
            if command is not None and command.subcommands and len(argv) > 1:
                command = self._hub.find_sub(command, argv[1])
            if command is not None:
                keys += _keys_of(command, argv)
        if len(set(map(slot_of, keys))) > 1:
            session.discard()
            raise ResponseError(_CROSS_SLOT)

    def _check_in_script(self, command: Command, argv: Argv) -> None:
        scripting = self._hub.scripting
        slots = set(map(slot_of, _keys_of(command, argv)))
        if len(slots) > 1:
            if self._hub.compat_version < _NEWER:
                raise err(_FOREIGN)
            name = command.full_name
            raise err(f"Command '{name}' in script attempted to access keys that don't hash to the same slot")
        flags = scripting.flags
        if not slots or flags is None or "allow-cross-slot-keys" in flags:
            return
        if not scripting.keys:  # the first key that it uses counts as declared
            scripting.keys.append(next(iter(_keys_of(command, argv))))
        if slot_of(scripting.keys[0]) not in slots:
            raise err(_SCATTERED)

    def _pattern_denied(self, key: bytes, pattern: bytes) -> str | None:
        """Why a pattern of SORT is refused; newer nodes take those that give keys of the sorted one's slot."""
        if self._hub.compat_version < _NEWER:
            return "in Cluster mode"
        if _slot_of_pattern(pattern) == slot_of(key):
            return None
        return "in Cluster mode when keys formed by the pattern may be in different slots"

    def _check_databases(self, command: Command, argv: Argv) -> None:
        """There is one database."""
        name = command.name
        if name in ("SWAPDB", "MOVE") or (name == "SELECT" and parse_int(argv[1])):
            raise err(f"{name} is not allowed in cluster mode")
        if name == "COPY" and any(
            word.upper() == b"DB" and parse_int(index) for word, index in pairwise(argv[3:])
        ):
            raise err("Copying to another database is not allowed in cluster mode")


def _keys_of(command: Command, argv: Argv) -> Iterable[bytes]:
    """The keys of a request, and the channels that have a slot; none where the words are wrong."""
    if command.name in ("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH"):
        return argv[1:2] if command.name == "SPUBLISH" else argv[1:]
    found = find_keys(command, argv)
    return [argv[at] for at, _ in found] if found else ()
