"""CLUSTER, READONLY, READWRITE, ASKING: of a server that is no node, or one node that has all slots.

What would need another node, or leave slots to nobody, is refused.

Must not know: where the node's names are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from kvstore.commands.args import Args
from kvstore.commands.help import help_lines, summary_of
from kvstore.commands.kinds import ARRAY, BULK, INT, OK, STATUS, TREE, Kind
from kvstore.commands.node import Node
from kvstore.commands.registry import COMMANDS, Argv, Body, Family
from kvstore.commands.slots import SLOTS, slot_of
from kvstore.errors import ResponseError, err
from kvstore.numbers import as_int, parse_int
from kvstore.resp import Status, Verbatim

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("cluster", "")
connection = Family("cluster", "connection")

_DISABLED: Final = "This instance has cluster support disabled"
_ADMIN: Final = "admin stale no_async_loading"
_VARYING: Final = ("nondeterministic_output",)
_SLOT: Final = "Invalid or out of range slot"
_SETSLOT: Final = "Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"
# What stands after the subcommands, for HELP.
_WORDS: Final = {
    "ADDSLOTS": "<slot> [<slot> ...]",
    "ADDSLOTSRANGE": "<start slot> <end slot> [<start slot> <end slot> ...]",
    "COUNT-FAILURE-REPORTS": "<node-id>",
    "COUNTKEYSINSLOT": "<slot>",
    "DELSLOTS": "<slot> [<slot> ...]",
    "DELSLOTSRANGE": "<start slot> <end slot> [<start slot> <end slot> ...]",
    "FAILOVER": "[FORCE|TAKEOVER]",
    "FORGET": "<node-id>",
    "GETKEYSINSLOT": "<slot> <count>",
    "KEYSLOT": "<key>",
    "MEET": "<ip> <port> [<bus-port>]",
    "REPLICAS": "<node-id>",
    "REPLICATE": "<node-id>",
    "RESET": "[HARD|SOFT]",
    "SET-CONFIG-EPOCH": "<epoch>",
    "SETSLOT": "<slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "SLAVES": "<node-id>",
}

Handler = Callable[["Session", Node, Argv], Any]


def _of_node(handler: Handler) -> Body:
    """Refuse the command where the server is no node."""

    @wraps(handler)
    def body(session: Session, argv: Argv) -> Any:
        node = session.hub.node
        if node is None:
            raise err(_DISABLED)
        return handler(session, node, argv)

    return body


def _command(
    name: str, arity: int, flags: str, kind: Kind, since: str = "3.0.0", tips: tuple[str, ...] = ()
) -> Callable[[Handler], Handler]:
    """Decorator for the handler of a subcommand."""

    def decorate(handler: Handler) -> Handler:
        family.command(f"CLUSTER {name}", arity, flags, kind=kind, since=since, tips=tips)(_of_node(handler))
        return handler

    return decorate


# -- connections -----------------------------------------------------------------------------------------------


def _readonly(session: Session, node: Node, argv: Argv) -> bool:
    """Read from a replica, which this node is not: changes nothing. O(1)."""
    session.reads_replicas = True
    return True


def _readwrite(session: Session, node: Node, argv: Argv) -> bool:
    """Take READONLY back. O(1)."""
    session.reads_replicas = False
    return True


def _asking(session: Session, node: Node, argv: Argv) -> bool:
    """Ask for a slot that is on its way to this node, which none is: changes nothing. O(1)."""
    return True


_MODE_FLAGS: Final = "loading stale fast"
connection.command("READONLY", 1, _MODE_FLAGS, kind=OK, since="3.0.0")(_of_node(_readonly))
connection.command("READWRITE", 1, _MODE_FLAGS, kind=OK, since="3.0.0")(_of_node(_readwrite))
connection.command("ASKING", 1, "fast", kind=OK, since="3.0.0")(_of_node(_asking))

container = family.container("CLUSTER", since="3.0.0")


# -- what the node is ------------------------------------------------------------------------------------------


@_command("INFO", 2, "loading stale", TREE, tips=_VARYING)
def info(session: Session, node: Node, argv: Argv) -> Verbatim:
    """The state of the cluster, which is well, and its figures. O(1)."""
    return Verbatim(node.figures().encode())


@_command("MYID", 2, "loading stale", BULK)
def myid(session: Session, node: Node, argv: Argv) -> bytes:
    """The id of this node. O(1)."""
    return node.id.encode()


@_command("MYSHARDID", 2, "loading stale", BULK, "7.2.0", _VARYING)
def myshardid(session: Session, node: Node, argv: Argv) -> bytes:
    """The id of this node's shard. O(1)."""
    return node.shard_id.encode()


@_command("NODES", 2, "loading stale", TREE, tips=_VARYING)
def nodes(session: Session, node: Node, argv: Argv) -> Verbatim:
    """The nodes, of which this is the only one, a line each. O(1)."""
    return Verbatim(node.line(session).encode())


@_command("SHARDS", 2, "loading stale", TREE, "7.0.0", _VARYING)
def shards(session: Session, node: Node, argv: Argv) -> list[Any]:
    """The shards, of which there is one: its slots and its node. O(1)."""
    return node.shards(session)


@_command("SLOTS", 2, "loading stale", TREE, tips=_VARYING)
def slots(session: Session, node: Node, argv: Argv) -> list[Any]:
    """Ranges of slots and who has them: this node has all. O(1)."""
    return node.slots(session)


@_command("LINKS", 2, "stale", ARRAY, "7.0.0", _VARYING)
def links(session: Session, node: Node, argv: Argv) -> list[Any]:
    """The connections to other nodes, of which there are none. O(1)."""
    return []


def _replicas(session: Session, node: Node, argv: Argv) -> list[Any]:
    """The replicas of a node, of which there are none. O(1)."""
    _check_known(node, argv[2])
    return []


_command("REPLICAS", 3, "admin stale", ARRAY, "5.0.0", _VARYING)(_replicas)
_command("SLAVES", 3, "admin stale", ARRAY, "3.0.0", _VARYING)(_replicas)


@_command("COUNT-FAILURE-REPORTS", 3, "admin stale", INT, tips=_VARYING)
def count_failure_reports(session: Session, node: Node, argv: Argv) -> int:
    """How many nodes say that a node has failed: none. O(1)."""
    _check_known(node, argv[2])
    return 0


def _check_known(node: Node, name: bytes, text: str = "Unknown node ") -> None:
    if name != node.id.encode():
        raise err(text + name.decode("utf-8", "surrogateescape"))


# -- slots and their keys ----------------------------------------------------------------------------------------


@_command("KEYSLOT", 3, "stale", INT)
def keyslot(session: Session, node: Node, argv: Argv) -> int:
    """The slot of a key. O(n) in the length of the key."""
    return slot_of(argv[2])


@_command("COUNTKEYSINSLOT", 3, "stale", INT)
def countkeysinslot(session: Session, node: Node, argv: Argv) -> int:
    """How many keys a slot has. O(n) keys of the database: there is no list of keys by slot."""
    slot = as_int(argv[2])
    if not 0 <= slot < SLOTS:
        raise err("Invalid slot")
    return sum(1 for key in session.db._data if slot_of(key) == slot)


@_command("GETKEYSINSLOT", 4, "stale", ARRAY, tips=_VARYING)
def getkeysinslot(session: Session, node: Node, argv: Argv) -> list[bytes]:
    """At most so many keys of a slot. O(n) keys of the database: there is no list of keys by slot."""
    slot, count = as_int(argv[2]), as_int(argv[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise err("Invalid slot or number of keys")
    found: list[bytes] = []
    for key in session.db._data if count else ():
        if slot_of(key) == slot:
            found.append(key)
            if len(found) == count:
                break
    return found


def _slots_in(words: list[bytes]) -> list[int]:
    """Raises ResponseError."""
    found = [parse_int(word) for word in words]
    if any(slot is None or not 0 <= slot < SLOTS for slot in found):
        raise err(_SLOT)
    return [slot for slot in found if slot is not None]


def _ranges_in(argv: Argv, name: str) -> Iterator[range]:
    """The ranges of slots, each when it is asked for, as what is wrong with one is told first. Raises ResponseError."""
    if len(argv) % 2:
        raise err(f"wrong number of arguments for 'cluster|{name}' command")
    for at in range(2, len(argv), 2):
        first, last = _slots_in(argv[at : at + 2])
        if first > last:
            raise err(f"start slot number {first} is greater than end slot number {last}")
        yield range(first, last + 1)


@_command("ADDSLOTS", -3, _ADMIN, OK)
def addslots(session: Session, node: Node, argv: Argv) -> bool:
    """Take slots: always refused, as this node has all. O(n) slots."""
    raise err(f"Slot {_slots_in(argv[2:])[0]} is already busy")


@_command("ADDSLOTSRANGE", -4, _ADMIN, OK, "7.0.0")
def addslotsrange(session: Session, node: Node, argv: Argv) -> bool:
    """Take ranges of slots: always refused, as this node has all. O(1)."""
    raise err(f"Slot {next(_ranges_in(argv, 'addslotsrange'))[0]} is already busy")


@_command("SETSLOT", -4, _ADMIN, OK)
def setslot(session: Session, node: Node, argv: Argv) -> bool:
    """Say to whom a slot belongs or moves: nobody but this node has one. O(1)."""
    slot = _slots_in(argv[2:3])[0]
    action, count = argv[3].upper(), len(argv)
    if action == b"MIGRATING" and count == 5:
        _check_known(node, argv[4], "I don't know about node ")
    elif action == b"IMPORTING" and count == 5:
        raise err(f"I'm already the owner of hash slot {slot}")
    elif action == b"NODE" and count == 5:
        _check_known(node, argv[4])
    elif action != b"STABLE" or count != 4:
        raise err(_SETSLOT)
    return True


# -- epochs and the file -------------------------------------------------------------------------------------------


@_command("BUMPEPOCH", 2, _ADMIN, STATUS, tips=_VARYING)
def bumpepoch(session: Session, node: Node, argv: Argv) -> bytes:
    """Give this node an epoch above those of all others; it needs one only once. O(1)."""
    if node.epoch:
        return b"STILL %d" % node.epoch
    node.epoch = 1
    node.keep()
    return b"BUMPED 1"


@_command("SET-CONFIG-EPOCH", 3, _ADMIN, OK)
def set_config_epoch(session: Session, node: Node, argv: Argv) -> bool:
    """Give this node its first epoch. O(1)."""
    epoch = as_int(argv[2])
    if epoch < 0:
        raise err(f"Invalid config epoch specified: {epoch}")
    if node.epoch:
        raise err("Node config epoch is already non-zero")
    node.epoch = epoch
    node.keep()
    return True


@_command("SAVECONFIG", 2, _ADMIN, OK)
def saveconfig(session: Session, node: Node, argv: Argv) -> bool:
    """Write the file of the node's names, where it has one. O(1)."""
    node.keep()
    return True


# -- what needs other nodes ----------------------------------------------------------------------------------------


@_command("FORGET", 3, _ADMIN, OK)
def forget(session: Session, node: Node, argv: Argv) -> bool:
    """Forget another node, of which there is none: always refused. O(1)."""
    _check_known(node, argv[2])
    raise err("I tried hard but I can't forget myself...")


@_command("REPLICATE", 3, _ADMIN, OK)
def replicate(session: Session, node: Node, argv: Argv) -> bool:
    """Be the replica of another node, of which there is none: always refused. O(1)."""
    _check_known(node, argv[2])
    raise err("Can't replicate myself")


@_command("FAILOVER", -2, _ADMIN, OK)
def failover(session: Session, node: Node, argv: Argv) -> bool:
    """Take over from the master of a replica, which this node is not: always refused. O(1)."""
    _check_option(argv, b"FORCE", b"TAKEOVER")
    raise err("You should send CLUSTER FAILOVER to a replica")


@_command("MEET", -4, _ADMIN, OK)
def meet(session: Session, node: Node, argv: Argv) -> bool:
    """Make a cluster with another node: always refused. O(1)."""
    raise _alone("MEET")


@_command("DELSLOTS", -3, _ADMIN, OK)
def delslots(session: Session, node: Node, argv: Argv) -> bool:
    """Give slots up: always refused, as nobody else could have them. O(n) slots."""
    _check_once(_slots_in(argv[2:]))
    raise _alone("DELSLOTS")


@_command("DELSLOTSRANGE", -4, _ADMIN, OK, "7.0.0")
def delslotsrange(session: Session, node: Node, argv: Argv) -> bool:
    """Give ranges of slots up: always refused, as nobody else could have them. O(n) slots."""
    _check_once(chain.from_iterable(_ranges_in(argv, "delslotsrange")))
    raise _alone("DELSLOTSRANGE")


@_command("FLUSHSLOTS", 2, _ADMIN, OK)
def flushslots(session: Session, node: Node, argv: Argv) -> bool:
    """Give all slots up: always refused, as nobody else could have them. O(1)."""
    if session.db._data:
        raise err("DB must be empty to perform CLUSTER FLUSHSLOTS.")
    raise _alone("FLUSHSLOTS")


@_command("RESET", -2, "admin noscript stale", OK)
def reset(session: Session, node: Node, argv: Argv) -> bool:
    """Leave the cluster and give all slots up: always refused. O(1)."""
    _check_option(argv, b"HARD", b"SOFT")
    if session.db._data:
        raise err("CLUSTER RESET can't be called with master nodes containing keys")
    raise _alone("RESET")


def _alone(name: str) -> ResponseError:
    return err(f"CLUSTER {name} is not supported: this server is the one node of its cluster, with all slots")


def _check_once(slots: Iterable[int]) -> None:
    seen: set[int] = set()
    for slot in slots:
        if slot in seen:
            raise err(f"Slot {slot} specified multiple times")
        seen.add(slot)


def _check_option(argv: Argv, *options: bytes) -> None:
    if len(argv) > 3:
        word = argv[1].decode("utf-8", "surrogateescape")
        raise err(f"unknown subcommand or wrong number of arguments for '{word}'. Try CLUSTER HELP.")
    if len(argv) == 3 and argv[2].upper() not in options:
        raise Args.syntax_error()


@_command("HELP", 2, "loading stale", ARRAY, "5.0.0")
def help_(session: Session, node: Node, argv: Argv) -> list[Status]:
    """What the subcommands are. O(1)."""
    usage = {
        f"{name} {_WORDS.get(name, '')}".rstrip(): summary_of(command)
        for name, command in sorted(COMMANDS["CLUSTER"].subcommands.items())
        if name != "HELP" and session.hub.is_visible(command)
    }
    return help_lines("CLUSTER", usage)
