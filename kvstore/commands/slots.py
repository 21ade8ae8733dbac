"""What a node of a cluster refuses: keys of several slots in one request, transaction or script, other databases.

The node has all slots, so it sends nobody elsewhere; what a request has no two keys of is never looked at. These
rules are part of a session's table while the server is a node (see ``commands/tables.py``), and cost nothing else
anything. They are for clients: a program's own calls of its Store, and the log when it is read, have no slots.

Must not know: who the node is, sockets.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.introspection import find_keys
from kvstore.commands.registry import Argv, Command, CommandRejected, Run
from kvstore.commands.sort import check_patterns
from kvstore.errors import ResponseError, err
from kvstore.numbers import parse_int

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

SLOTS: Final = 16384
_CROSS_SLOT: Final = "CROSSSLOT Keys in request don't hash to the same slot"
_FOREIGN: Final = "Script attempted to access a non local key in a cluster node"
_SCATTERED: Final = "Script attempted to access keys that do not hash to the same slot"
# Commands whose channels have slots.
_SHARDED: Final = frozenset({"SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH"})
# Commands that name databases, and those whose patterns name keys.
_OF_DATABASES: Final = frozenset({"SELECT", "SWAPDB", "MOVE", "COPY"})
_OF_PATTERNS: Final = frozenset({"SORT", "SORT_RO"})
_OF_STREAMS: Final = frozenset({"XREAD", "XREADGROUP"})
# Words before STREAMS, and how far the next one is.
_STREAM_WORDS: Final = {b"BLOCK": 2, b"COUNT": 2, b"GROUP": 3, b"NOACK": 1}
# From this version on a script is told which of its commands it was, and SORT may use patterns of one slot.
_NEWER: Final = (7, 4)


# -- slots ---------------------------------------------------------------------------------------------------


def slot_of(key: bytes) -> int:
    """The slot of a key: of what stands between its first braces, if anything does. O(length)."""
    if 0x7B in key:  # "{"
        begin, end = _tag(key)
        key = key[begin:end]
    return crc_hqx(key, 0) % SLOTS


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


def _keys_of(command: Command, argv: Argv) -> list[bytes]:
    """The keys of a request, and the channels that have a slot; none where the words are wrong."""
    if command.name in _SHARDED:
        return argv[1:2] if command.name == "SPUBLISH" else argv[1:]
    if command.name in _OF_STREAMS:
        return _streams_of(argv)
    found = find_keys(command, argv)
    return [argv[at] for at, _ in found] if found else []


def _streams_of(argv: Argv) -> list[bytes]:
    """The keys of XREAD and XREADGROUP; unlike those that ACL rules are asked for, none where other words are wrong."""
    at, count = 1, len(argv)
    while at < count and (word := argv[at].upper()) != b"STREAMS":
        if word not in _STREAM_WORDS:
            return []
        at += _STREAM_WORDS[word]
    keys, odd = divmod(count - at - 1, 2)
    return [] if odd or keys < 1 else argv[at + 1 : at + 1 + keys]


def _scattered(keys: Iterable[bytes]) -> bool:
    return len({slot_of(key) for key in keys}) > 1


def _may_scatter(command: Command) -> bool:
    """Whether a request may have keys of several slots; not where it has one key at most."""
    if command.getkeys is not None or command.name in _SHARDED:
        return command.name != "SPUBLISH"
    specs = [spec for spec in command.keys if "NOT_KEY" not in spec.flags]
    return len(specs) > 1 or any(spec.find[0] != "range" or spec.find[1] != 0 for spec in specs)


# -- requests of clients ---------------------------------------------------------------------------------------


def checking_slots(hub: Hub, command: Command, run: Run) -> Run:
    """Refuse a request, or a transaction at its EXEC, that has keys of several slots."""
    if command.name == "EXEC":
        return _checking_transaction(hub, command, run)
    if not _may_scatter(command):
        return run

    def run_checked(session: Session, argv: Argv) -> Any:
        if not command.arity_ok(len(argv)):
            raise command.wrong_arity()
        if session.transport is not None:
            keys = _keys_of(command, argv)
            if len(keys) > 1 and _scattered(keys):
                raise CommandRejected(_CROSS_SLOT)
        return run(session, argv)

    return run_checked


def _checking_transaction(hub: Hub, exec_: Command, run: Run) -> Run:
    def keys_of(argv: Argv) -> list[bytes]:
        command = hub.find(argv[0])
        if command is not None and command.subcommands and len(argv) > 1:
            command = hub.find_sub(command, argv[1])
        return [] if command is None else _keys_of(command, argv)

    def run_checked(session: Session, argv: Argv) -> Any:
        if not exec_.arity_ok(len(argv)):
            raise exec_.wrong_arity()
        lost = session.tx_aborted or session.tx_dirty  # which is told first
        bound = session.in_multi and not lost and session.transport is not None
        if bound and _scattered(key for queued in session.queue for key in keys_of(queued)):
            session.discard()
            raise ResponseError(_CROSS_SLOT)
        return run(session, argv)

    return run_checked


# -- what commands refuse when they run --------------------------------------------------------------------------


def keeping_to_node(hub: Hub, command: Command, run: Run, by_script: bool) -> Run:
    """Refuse what names another database, and patterns of keys; for a script also keys of several slots."""
    if command.name in _OF_DATABASES:
        run = _in_one_database(hub, command, run)
    elif command.name in _OF_PATTERNS:
        run = _without_patterns(hub, run)
    if by_script and (command.keys or command.getkeys is not None):
        run = _checking_script(hub, command, run)
    return run


def _is_bound(hub: Hub, session: Session) -> bool:
    """Whether it is a client's request, or of a client's script."""
    scripting = hub.scripting
    client = scripting.caller if scripting.runs_in(session) else session
    return client is not None and client.transport is not None


def _in_one_database(hub: Hub, command: Command, run: Run) -> Run:
    name = command.name

    def names_another(argv: Argv) -> bool:
        if name == "SELECT":
            return len(argv) == 2 and bool(parse_int(argv[1]))
        if name == "COPY":  # a database that does not exist is told otherwise
            return any(
                word.upper() == b"DB" and 0 < (parse_int(index) or 0) < hub.ctx.count
                for word, index in pairwise(argv[3:])
            )
        return command.arity_ok(len(argv))

    def run_in_one(session: Session, argv: Argv) -> Any:
        if _is_bound(hub, session) and names_another(argv):
            what = "Copying to another database" if name == "COPY" else name
            raise err(f"{what} is not allowed in cluster mode")
        return run(session, argv)

    return run_in_one


def _without_patterns(hub: Hub, run: Run) -> Run:
    newer = hub.compat_version >= _NEWER

    def run_without(session: Session, argv: Argv) -> Any:
        def denied(pattern: bytes) -> str | None:
            if not newer:
                return "in Cluster mode"
            if _slot_of_pattern(pattern) == slot_of(argv[1]):
                return None
            return "in Cluster mode when keys formed by the pattern may be in different slots"

        if len(argv) > 2 and _is_bound(hub, session):
            check_patterns(argv, denied)
        return run(session, argv)

    return run_without


def _checking_script(hub: Hub, command: Command, run: Run) -> Run:
    def run_checked(session: Session, argv: Argv) -> Any:
        if _is_bound(hub, session):
            _check_in_script(hub, command, argv)
        return run(session, argv)

    return run_checked


def _check_in_script(hub: Hub, command: Command, argv: Argv) -> None:
    scripting = hub.scripting
    keys = _keys_of(command, argv)
    if len(keys) > 1 and _scattered(keys):
        if hub.compat_version < _NEWER:
            raise err(_FOREIGN)
        name = command.full_name
        raise err(f"Command '{name}' in script attempted to access keys that don't hash to the same slot")
    flags = scripting.flags
    if not keys or flags is None or "allow-cross-slot-keys" in flags:
        return
    if not scripting.keys:  # the first key that it uses counts as declared
        scripting.keys.append(keys[0])
    if slot_of(scripting.keys[0]) != slot_of(keys[0]):
        raise err(_SCATTERED)
