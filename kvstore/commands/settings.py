"""Puts the configuration into effect: what a hub and its store do differently when a directive changes.

What belongs to sockets and files registers itself the same way, by ``Config.on_change``.

Must not know: how directives are read and written.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from kvstore.commands.config import Config, ConfigError, Line, to_bytes
from kvstore.commands.node import Node
from kvstore.commands.tables import CLUSTERED

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub
    from kvstore.engine.context import Context

# Directives that are a limit of the engine: the field has the same name.
_LIMITS: Final = (
    "proto-max-bulk-len",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "list-max-listpack-size",
    "hll-sparse-max-bytes",
    "stream-node-max-bytes",
    "stream-node-max-entries",
)
# Directives of eviction, and the evictor's names for them.
_EVICTION: Final = {
    "maxmemory": "maxmemory",
    "maxmemory-policy": "policy",
    "maxmemory-samples": "samples",
    "lfu-log-factor": "lfu_log_factor",
    "lfu-decay-time": "lfu_decay_time",
}
_NEVER: Final = 1 << 63  # ns
# Since this version a node of a cluster says that it has one database, which is all that it ever had.
_ONE_DATABASE: Final = (8, 0)


# Directives that ask for what this version does not have, unless they are empty or off.
_MISSING = {
    "replicaof": "replication",
}


def adopt(config: Config, ctx: Context) -> None:
    """Takes over what a store was made with, for a configuration that nobody wrote."""
    for name in _LIMITS:
        config.values[name] = getattr(ctx.limits, name.replace("-", "_"))
    for name, field in _EVICTION.items():
        config.values[name] = getattr(ctx.evictor, field)
    config.values["databases"] = ctx.count


def connect(hub: Hub) -> None:
    """Puts the hub's configuration into effect, now and whenever it changes.

    Raises ConfigError for rename-command lines and users that cannot be followed, and for what asks for a part
    of Redis that is not there: somebody who relies on it must not find out later.
    """
    config, ctx = hub.config, hub.ctx
    _refuse_the_missing(config)

    def limits() -> None:
        for name in _LIMITS:
            setattr(ctx.limits, name.replace("-", "_"), config[name])
        for session in hub.sessions.values():
            session.parser.max_bulk = config["proto-max-bulk-len"]

    def eviction() -> None:
        ctx.evictor.configure(**{field: config[name] for name, field in _EVICTION.items()})
        limited()

    def limited() -> None:
        make_room = ctx.evictor.make_room
        if config["latency-monitor-threshold"]:  # a call more before each command
            make_room = partial(hub.latency.measure, b"eviction-cycle", make_room)
        hub.set_limited(make_room if config["maxmemory"] else None)

    def notifications() -> None:
        hub.notifications.configure("".join(config["notify-keyspace-events"]))

    def password() -> None:
        hub.users.set_default_password(to_bytes(config["requirepass"]))

    def acl_log_length() -> None:
        hub.users.log.most = config["acllog-max-len"]  # which counts from the next entry on

    def slow() -> None:
        micros, ms = config["slowlog-log-slower-than"], config["latency-monitor-threshold"]
        hub.slow_nanos = min(micros * 1000 if micros >= 0 else _NEVER, ms * 1_000_000 or _NEVER)

    def tracked_keys() -> None:
        hub.tracking.most = config["tracking-table-max-keys"]
        hub.tracking.limit()

    def slowlog_length() -> None:
        hub.slowlog.trim()

    for names, fn in (
        (_LIMITS, limits),
        (_EVICTION, eviction),
        (("notify-keyspace-events",), notifications),
        (("requirepass",), password),
        (("acllog-max-len",), acl_log_length),
        (("slowlog-log-slower-than", "latency-monitor-threshold"), slow),
        (("latency-monitor-threshold",), limited),
        (("slowlog-max-len",), slowlog_length),
        (("tracking-table-max-keys",), tracked_keys),
    ):
        for name in names:
            config.on_change(name, fn)
        fn()
    config.on_change(
        "appendonly",
        lambda: (
            "a store in memory has no files" if config["appendonly"] and hub.persistence is None else None
        ),
    )
    major, minor, patch = map(int, config["compat-version"].split("."))
    hub.compat_version = (major, minor, patch)
    if config["cluster-enabled"]:
        hub.node = Node(hub)
        hub.set_feature(CLUSTERED, True)
        if hub.compat_version >= _ONE_DATABASE:
            config.values["databases"] = 1
    ctx.count = config["databases"]
    hub.users.start(config.users)
    for line in config.renames:
        _rename(hub, line)
    hub.reset_tables()


def _refuse_the_missing(config: Config) -> None:
    for name, what in _MISSING.items():
        if config[name]:
            raise ConfigError(f"Cannot start with '{name}': this version has no {what}")


def _rename(hub: Hub, line: Line) -> None:
    """Follows one rename-command line; an empty name takes the command away."""
    _, old, new = line.words or []
    command = hub.find(old)
    version = hub.config["compat-version"]
    if command is None:
        raise line.refuse("No such command in rename-command", version)
    if new and hub.find(new) is not None:
        raise line.refuse("Target command name already exists", version)
    hub.renamed[command.name] = new.upper().decode("latin-1") or None
