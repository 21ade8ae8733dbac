"""INFO: the figures of a server, by section.

A section is a function that gives its fields. Figures that have no meaning here (replication, forks) have
the value that a server without such a thing has, as clients read them.

Must not know: sockets; ``Host`` counts what went through them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from kvstore.commands.kinds import TREE
from kvstore.commands.latency import percentile
from kvstore.commands.memory import memory_of_clients, resident_bytes, used_bytes
from kvstore.commands.registry import Argv, Family
from kvstore.engine.packing import count_packed
from kvstore.resp import Verbatim

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.commands.session import Session
    from kvstore.commands.tables import CommandStats

family = Family("server", "")

Fields = Iterator[tuple[str, Any]]
# How often the figures "instantaneous" are taken, and for how long after somebody asked for them.
_SAMPLE_MS = 500
_SAMPLES_AFTER_ASKED = 40
# Deadlines looked at to tell the average time to live of a database.
_TTL_SAMPLES = 100
_LISTENERS = ("tcp", "unix", "tls")


def _human(size: int) -> str:
    if size < 1024:
        return f"{size}B"
    power = min((size.bit_length() - 1) // 10, 5)
    return f"{size / (1 << 10 * power):.2f}{' KMGTP'[power]}"


class Rates:
    """Commands, bytes and turns a second. Sampled only for a while after somebody asked."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._before = (hub.started_ms, 0, 0, 0, 0, 0)
        self._rates = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._left = 0

    def read(self) -> tuple[float, float, float, float, float]:
        """Commands, kilobytes in, kilobytes out and turns a second, and microseconds of a turn: of the last
        sample, or since the one before."""
        self._sample()
        if not self._left:
            self._hub.call_at(self._hub.ctx.now() + _SAMPLE_MS, self._tick)
        self._left = _SAMPLES_AFTER_ASKED
        return self._rates

    def _tick(self) -> None:
        self._sample()
        self._left -= 1
        if self._left:
            self._hub.call_at(self._hub.ctx.now() + _SAMPLE_MS, self._tick)

    def _sample(self) -> None:
        hub = self._hub
        now = hub.ctx.now()
        passed = now - self._before[0]
        if passed < _SAMPLE_MS:
            return
        host = hub.host
        sums = (commands_processed(hub), host.input_bytes, host.output_bytes, host.turns, host.busy_us)
        figures = (now, *sums)
        _, ops, received, sent, turns, busy_us = (
            max(0, new - old) for new, old in zip(figures, self._before, strict=True)
        )
        self._rates = (
            *(ops * 1000 / passed, received / 1.024 / passed, sent / 1.024 / passed),
            *(turns * 1000 / passed, busy_us / max(turns, 1)),
        )
        self._before = figures


def commands_processed(hub: Hub) -> int:
    return sum(stats.calls for stats in hub.stats.values())


# -- sections --------------------------------------------------------------------------------------------


def _server(hub: Hub) -> Fields:
    import platform  # as the only one who needs it, and who may wait

    host, now = hub.host, hub.ctx.now()
    uptime = max(0, now - hub.started_ms) // 1000
    yield "redis_version", hub.version
    yield "kvstore_version", sys.modules["kvstore"].__version__
    yield "redis_git_sha1", "00000000"
    yield "redis_git_dirty", 0
    yield "redis_build_id", 0
    yield "redis_mode", "standalone" if hub.node is None else "cluster"
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "arch_bits", 64
    yield "monotonic_clock", "time.perf_counter_ns"
    yield "multiplexing_api", host.multiplexing
    yield "python_version", platform.python_version()
    yield "process_id", os.getpid()
    yield "process_supervised", "no"
    yield "run_id", host.run_id
    yield "tcp_port", host.tcp_port
    yield "server_time_usec", now * 1000
    yield "uptime_in_seconds", uptime
    yield "uptime_in_days", uptime // 86400
    yield "hz", hub.config["hz"]
    yield "configured_hz", hub.config["hz"]
    yield "lru_clock", now // 1000 & 0xFFFFFF
    yield "executable", host.executable
    yield "config_file", os.path.abspath(hub.config.file) if hub.config.file else ""
    yield "io_threads_active", 0
    for listener in host.listeners:
        kind = listener.removeprefix("name=").split(",", 1)[0]
        yield f"listener{_LISTENERS.index(kind)}", listener


def _clients(hub: Hub) -> Fields:
    sessions = hub.sessions.values()
    connected = [session for session in sessions if session.transport is not None]
    yield "connected_clients", len(connected)
    yield "cluster_connections", 0
    yield "maxclients", hub.config["maxclients"]
    yield "client_recent_max_input_buffer", max((each.parser.buffered for each in connected), default=0)
    yield "client_recent_max_output_buffer", max((each.unsent for each in connected), default=0)
    yield "blocked_clients", hub.blocked_clients
    yield "tracking_clients", len(hub.tracking.sessions)
    yield "pubsub_clients", sum(1 for session in sessions if session.subscriptions)
    yield "watching_clients", sum(1 for session in sessions if session.watched)
    yield (
        "clients_in_timeout_table",
        sum(1 for session in sessions if session.waiting is not None and session.waiting.block.timeout),
    )
    yield "total_watched_keys", hub.watched_keys
    yield "total_blocking_keys", hub.blocking_keys
    expecting = [each.waiting for each in sessions if each.waiting is not None and each.waiting.block.expects]
    yield "total_blocking_keys_on_nokey", len({key for waiting in expecting for key in waiting.keys})


def _memory(hub: Hub) -> Fields:
    used, resident = used_bytes(hub), resident_bytes()
    peak, limit = hub.host.peak_memory, hub.config["maxmemory"]
    system = _system_bytes()
    yield "used_memory", used
    yield "used_memory_human", _human(used)
    yield "used_memory_rss", resident
    yield "used_memory_rss_human", _human(resident)
    yield "used_memory_peak", peak
    yield "used_memory_peak_human", _human(peak)
    yield "used_memory_peak_perc", f"{used * 100 / peak if peak else 100:.2f}%"
    yield "used_memory_overhead", 0
    yield "used_memory_startup", 0
    yield "used_memory_dataset", used
    yield "used_memory_dataset_perc", "100.00%"
    yield "allocator_allocated", used
    yield "allocator_active", resident
    yield "allocator_resident", resident
    yield "allocator_muzzy", 0
    yield "total_system_memory", system
    yield "total_system_memory_human", _human(system)
    yield from _memory_of_scripts(hub)
    yield "maxmemory", limit
    yield "maxmemory_human", _human(limit)
    yield "maxmemory_policy", hub.config["maxmemory-policy"]
    yield "allocator_frag_ratio", "1.00"
    yield "allocator_frag_bytes", 0
    yield "allocator_rss_ratio", "1.00"
    yield "allocator_rss_bytes", 0
    yield "rss_overhead_ratio", "1.00"
    yield "rss_overhead_bytes", 0
    yield "mem_fragmentation_ratio", f"{resident / used if used else 1:.2f}"
    yield "mem_fragmentation_bytes", max(0, resident - used)
    for name in [
        "mem_not_counted_for_evict",
        "mem_replication_backlog",
        "mem_total_replication_buffers",
        "mem_clients_slaves",
    ]:
        yield name, 0
    yield "mem_clients_normal", memory_of_clients(hub)
    yield "mem_cluster_links", 0
    yield "mem_aof_buffer", 0
    yield "mem_allocator", "pymalloc"
    yield "mem_packed_values", count_packed(hub.ctx)
    yield "mem_overhead_db_hashtable_rehashing", 0
    yield "active_defrag_running", 0
    yield "lazyfree_pending_objects", 0
    yield "lazyfreed_objects", 0


def _memory_of_scripts(hub: Hub) -> Fields:
    scripting = hub.scripting
    interpreter, libraries = scripting.interpreter, scripting.libraries
    held, bodies = interpreter.memory_used(), interpreter.memory_of_bodies()
    by_functions, sources = scripting.functions.memory_used(), libraries.memory_of_sources()
    of_libraries, of_functions = libraries.counts()
    yield "used_memory_lua", held
    yield "used_memory_vm_eval", held
    yield "used_memory_lua_human", _human(held)
    yield "used_memory_scripts_eval", bodies
    yield "number_of_cached_scripts", len(interpreter)
    yield "number_of_functions", of_functions
    yield "number_of_libraries", of_libraries
    yield "used_memory_vm_functions", by_functions
    yield "used_memory_vm_total", held + by_functions
    yield "used_memory_vm_total_human", _human(held + by_functions)
    yield "used_memory_functions", sources
    yield "used_memory_scripts", bodies + sources
    yield "used_memory_scripts_human", _human(bodies + sources)


def _system_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _persistence(hub: Hub) -> Fields:
    if hub.persistence is not None:
        return hub.persistence.fields()
    return fields_without_files(hub)


def fields_without_files(hub: Hub) -> Fields:
    """INFO persistence of a server that has saved nothing."""
    yield "loading", 0
    yield "async_loading", 0
    yield "current_cow_peak", 0
    yield "current_cow_size", 0
    yield "current_cow_size_age", 0
    yield "current_fork_perc", "0.00"
    yield "current_save_keys_processed", 0
    yield "current_save_keys_total", 0
    yield "rdb_changes_since_last_save", sum(db.dirty for db in hub.ctx.databases.values())
    yield "rdb_bgsave_in_progress", 0
    yield "rdb_last_save_time", hub.last_save_ms // 1000
    yield "rdb_last_bgsave_status", "ok"
    yield "rdb_last_bgsave_time_sec", -1
    yield "rdb_current_bgsave_time_sec", -1
    yield "rdb_saves", 0
    yield "rdb_last_cow_size", 0
    yield "rdb_last_load_keys_expired", 0
    yield "rdb_last_load_keys_loaded", 0
    yield "aof_enabled", 0
    yield "aof_rewrite_in_progress", 0
    yield "aof_rewrite_scheduled", 0
    yield "aof_last_rewrite_time_sec", -1
    yield "aof_current_rewrite_time_sec", -1
    yield "aof_last_bgrewrite_status", "ok"
    yield "aof_rewrites", 0
    yield "aof_rewrites_consecutive_failures", 0
    yield "aof_last_write_status", "ok"
    yield "aof_last_cow_size", 0
    yield "module_fork_in_progress", 0
    yield "module_fork_last_cow_size", 0


def _stats(hub: Hub) -> Fields:
    host, stats, channels = hub.host, hub.ctx.stats, hub.channels
    ops, received, sent, turns, turn_us = hub.rates.read()
    yield "total_connections_received", host.connections_received
    yield "total_commands_processed", commands_processed(hub)
    yield "instantaneous_ops_per_sec", round(ops)
    yield "total_net_input_bytes", host.input_bytes
    yield "total_net_output_bytes", host.output_bytes
    yield "total_net_repl_input_bytes", 0
    yield "total_net_repl_output_bytes", 0
    yield "instantaneous_input_kbps", f"{received:.2f}"
    yield "instantaneous_output_kbps", f"{sent:.2f}"
    yield "instantaneous_input_repl_kbps", "0.00"
    yield "instantaneous_output_repl_kbps", "0.00"
    yield "rejected_connections", host.rejected_connections
    for name in ["sync_full", "sync_partial_ok", "sync_partial_err"]:
        yield name, 0
    yield "expired_subkeys", stats.expired_fields
    yield "expired_keys", stats.expired
    yield "expired_stale_perc", "0.00"
    yield "expired_time_cap_reached_count", 0
    yield "expire_cycle_cpu_milliseconds", 0
    yield "total_packed_values", stats.packed
    yield "total_unpacked_values", stats.unpacked
    yield "evicted_keys", stats.evicted
    yield "evicted_clients", host.evicted_clients
    yield "evicted_scripts", hub.scripting.interpreter.evicted
    yield "total_eviction_exceeded_time", 0
    yield "current_eviction_exceeded_time", 0
    yield "keyspace_hits", stats.hits
    yield "keyspace_misses", stats.misses
    yield "pubsub_channels", len(channels.plain)
    yield "pubsub_patterns", len(channels.patterns)
    yield "pubsubshard_channels", len(channels.sharded)
    for name in [
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
    ]:
        yield name, 0
    yield "tracking_total_keys", hub.tracking.keys
    yield "tracking_total_items", hub.tracking.items
    yield "tracking_total_prefixes", hub.tracking.prefixes
    yield "unexpected_error_replies", 0
    yield "total_error_replies", hub.total_errors
    yield "dump_payload_sanitizations", 0
    yield "total_reads_processed", host.reads
    yield "total_writes_processed", host.writes
    yield "io_threaded_reads_processed", 0
    yield "io_threaded_writes_processed", 0
    yield "client_query_buffer_limit_disconnections", host.input_limit_closes
    yield "client_output_buffer_limit_disconnections", host.output_limit_closes
    yield "reply_buffer_shrinks", 0
    yield "reply_buffer_expands", 0
    yield "eventloop_cycles", host.turns
    yield "eventloop_duration_sum", host.busy_us
    yield "eventloop_duration_cmd_sum", sum(stats.nanos for stats in hub.stats.values()) // 1000
    yield "instantaneous_eventloop_cycles_per_sec", round(turns)
    yield "instantaneous_eventloop_duration_usec", round(turn_us)
    for reason, count in hub.users.log.counts.items():
        yield f"acl_access_denied_{'cmd' if reason == 'command' else reason}", count


def _replication(hub: Hub) -> Fields:
    yield "role", "master"
    yield "connected_slaves", 0
    yield "master_failover_state", "no-failover"
    yield "master_replid", hub.host.replication_id
    yield "master_replid2", "0" * 40
    yield "master_repl_offset", 0
    yield "second_repl_offset", -1
    yield "repl_backlog_active", 0
    yield "repl_backlog_size", hub.config["repl-backlog-size"]
    yield "repl_backlog_first_byte_offset", 0
    yield "repl_backlog_histlen", 0


def _cpu(hub: Hub) -> Fields:
    own = os.times()
    yield "used_cpu_sys", f"{own.system:.6f}"
    yield "used_cpu_user", f"{own.user:.6f}"
    yield "used_cpu_sys_children", f"{own.children_system:.6f}"
    yield "used_cpu_user_children", f"{own.children_user:.6f}"
    yield "used_cpu_sys_main_thread", f"{own.system:.6f}"
    yield "used_cpu_user_main_thread", f"{own.user:.6f}"


def _modules(hub: Hub) -> Fields:
    return iter(())


def _counted(hub: Hub) -> Iterator[tuple[str, CommandStats]]:
    return ((command.full_name, stats) for command, stats in list(hub.stats.items()))


def _commandstats(hub: Hub) -> Fields:
    for name, stats in _counted(hub):
        calls, micros = stats.calls, stats.nanos // 1000
        if calls or stats.rejected or stats.failed:
            yield (
                f"cmdstat_{name}",
                f"calls={calls},usec={micros},usec_per_call={micros / calls if calls else 0:.2f},"
                f"rejected_calls={stats.rejected},failed_calls={stats.failed}",
            )


def _errorstats(hub: Hub) -> Fields:
    for code, count in hub.errors.items():
        yield f"errorstat_{code}", f"count={count}"


def _latencystats(hub: Hub) -> Fields:
    if not hub.config["latency-tracking"]:
        return
    percents = hub.config["latency-tracking-info-percentiles"]
    for name, stats in _counted(hub):
        if stats.calls:
            figures = ",".join(f"p{percent:.15g}={percentile(stats, percent):.3f}" for percent in percents)
            yield f"latency_percentiles_usec_{name}", figures


def _cluster(hub: Hub) -> Fields:
    yield "cluster_enabled", int(hub.node is not None)


def _keyspace(hub: Hub) -> Fields:
    now = hub.ctx.now()
    for index, db in sorted(hub.ctx.databases.items()):
        if db._data:
            left = [max(0, deadline - now) for deadline in islice(db._expires.values(), _TTL_SAMPLES)]
            average = sum(left) // len(left) if left else 0
            told = f"keys={len(db._data)},expires={len(db._expires)},avg_ttl={average}"
            if hub.compat_version >= (7, 4):
                told += f",subexpiry={len(db._timed or ())}"
            yield f"db{index}", told


_SECTIONS: dict[str, tuple[str, Callable[[Hub], Fields]]] = {
    "server": ("Server", _server),
    "clients": ("Clients", _clients),
    "memory": ("Memory", _memory),
    "persistence": ("Persistence", _persistence),
    "stats": ("Stats", _stats),
    "replication": ("Replication", _replication),
    "cpu": ("CPU", _cpu),
    "modules": ("Modules", _modules),
    "commandstats": ("Commandstats", _commandstats),
    "errorstats": ("Errorstats", _errorstats),
    "latencystats": ("Latencystats", _latencystats),
    "cluster": ("Cluster", _cluster),
    "keyspace": ("Keyspace", _keyspace),
}
_DEFAULT = [name for name in _SECTIONS if name not in ("commandstats", "latencystats")]


@family.command(
    *("INFO", -1, "loading stale"),
    kind=TREE,
    categories="dangerous",
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
)
def info(session: Session, argv: Argv) -> Verbatim:
    """The figures of the server, of all sections or of the named ones. O(1)."""
    wanted: set[str] = set()
    for word in argv[1:] or [b"default"]:
        name = word.decode("latin-1").lower()
        if name in ("all", "everything"):
            wanted |= _SECTIONS.keys()
        elif name == "default":
            wanted.update(_DEFAULT)
        else:
            wanted.add(name)
    texts = []
    for name, (title, fields) in _SECTIONS.items():
        if name in wanted:
            lines = "".join(f"{field}:{value}\r\n" for field, value in fields(session.hub))
            texts.append(f"# {title}\r\n{lines}")
    return Verbatim("\r\n".join(texts).encode("utf-8", "surrogateescape"))
