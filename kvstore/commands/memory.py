"""MEMORY: what the data takes, as far as a Python process can tell.

Must not know: how values are weighed.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from kvstore.commands import generic
from kvstore.commands.help import add_help
from kvstore.commands.kinds import OK, TREE
from kvstore.commands.registry import COMMANDS, Argv, Family
from kvstore.resp import Verbatim

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session

__all__ = ["family", "generic"]

family = Family("server", "")
_TIPS = ("nondeterministic_output", "request_policy:all_shards", "response_policy:special")
# What DOCTOR takes for a store worth a word, in bytes of data.
_LITTLE = 5 << 20


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; where the system does not say, the most there was, or 0."""
    try:
        import resource  # there is none on Windows
    except ImportError:
        return 0
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def used_bytes(hub: Hub) -> int:
    """What the data takes, as ``maxmemory`` counts it; remembers the most there was when asked."""
    used = hub.ctx.evictor.used_memory()
    hub.host.peak_memory = max(hub.host.peak_memory, used)
    return used


def memory_of_clients(hub: Hub) -> int:
    """Bytes of requests and replies on their way. O(clients)."""
    return sum(session.buffered for session in hub.sessions.values())


@family.command("MEMORY STATS", 2, "", kind=TREE, since="4.0.0", tips=_TIPS)
def memory_stats(session: Session, argv: Argv) -> dict[bytes, Any]:
    """What takes how much memory. O(clients), or O(what was written since) under a memory limit."""
    hub = session.hub
    used, resident = used_bytes(hub), resident_bytes()
    keys = sum(len(db._data) for db in hub.ctx.databases.values())
    peak = hub.host.peak_memory
    figures: dict[str, Any] = {
        "peak.allocated": peak,
        "total.allocated": used,
        "startup.allocated": 0,
        "replication.backlog": 0,
        "clients.slaves": 0,
        "clients.normal": memory_of_clients(hub),
        "cluster.links": 0,
        "aof.buffer": 0,
        "lua.caches": hub.scripting.interpreter.memory_of_bodies(),
        "functions.caches": hub.scripting.libraries.memory_of_sources(),
    }
    for index, db in sorted(hub.ctx.databases.items()):
        if db._data:
            figures[f"db.{index}"] = {
                b"overhead.hashtable.main": sys.getsizeof(db._data),
                b"overhead.hashtable.expires": sys.getsizeof(db._expires),
            }
    figures |= {
        "overhead.db.hashtable.lut": 0,
        "overhead.db.hashtable.rehashing": 0,
        "overhead.total": 0,
        "db.dict.rehashing.count": 0,
        "keys.count": keys,
        "keys.bytes-per-key": used // keys if keys else 0,
        "dataset.bytes": used,
        "dataset.percentage": 100.0 if used else 0.0,
        "peak.percentage": used * 100 / peak if peak else 100.0,
        "allocator.allocated": used,
        "allocator.active": resident,
        "allocator.resident": resident,
        "allocator.muzzy": 0,
        "allocator-fragmentation.ratio": 1.0,
        "allocator-fragmentation.bytes": 0,
        "allocator-rss.ratio": 1.0,
        "allocator-rss.bytes": 0,
        "rss-overhead.ratio": 1.0,
        "rss-overhead.bytes": 0,
        "fragmentation": resident / used if used else 1.0,
        "fragmentation.bytes": max(0, resident - used),
    }
    return {name.encode(): figure for name, figure in figures.items()}


@family.command("MEMORY DOCTOR", 2, "", kind=TREE, since="4.0.0", tips=_TIPS)
def memory_doctor(session: Session, argv: Argv) -> Verbatim:
    """What is worth knowing about the memory, in words. O(1)."""
    hub = session.hub
    used, resident = used_bytes(hub), resident_bytes()
    if used < _LITTLE:
        return Verbatim(b"There is too little data here to say anything about its memory.\n")
    lines = [f"The data takes about {used >> 20} MB of the {resident >> 20} MB of this process.\n"]
    if resident > 3 * used:
        lines.append(
            "Most of the process is not data: the interpreter, clients' buffers, or freed objects.\n"
        )
    if hub.host.peak_memory > used * 3 // 2:
        lines.append("It was much more once; an allocator seldom gives such memory back to the system.\n")
    return Verbatim("".join(lines).encode())


@family.command("MEMORY MALLOC-STATS", 2, "", kind=TREE, since="4.0.0", tips=_TIPS)
def memory_malloc_stats(session: Session, argv: Argv) -> Verbatim:
    """What the allocator has: blocks and collector generations. O(1)."""
    lines = [f"Blocks allocated by the interpreter: {sys.getallocatedblocks()}\n"]
    for number, generation in enumerate(gc.get_stats()):
        lines.append(f"Collector generation {number}: {generation['collections']} collections\n")
    return Verbatim("".join(lines).encode())


@family.command(
    "MEMORY PURGE",
    *(2, ""),
    kind=OK,
    since="4.0.0",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def memory_purge(session: Session, argv: Argv) -> bool:
    """Collect garbage that refers to itself. O(n) objects."""
    session.hub.host.collect()
    return True


add_help(family, COMMANDS["MEMORY"], {"USAGE": "<key> [SAMPLES <count>]"}, since="4.0.0")
