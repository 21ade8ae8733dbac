"""Imports every family, which registers its commands."""

from __future__ import annotations

from kvstore.commands import (
    client,
    config_commands,
    connection,
    debug,
    generic,
    hash_expiry,
    hashes,
    info,
    introspection,
    latency,
    lists,
    memory,
    monitor,
    newer_strings,
    pubsub,
    server,
    sets,
    slowlog,
    strings,
    transactions,
    zsets,
)
from kvstore.commands.registry import COMMANDS

__all__ = [
    "COMMANDS",
    "client",
    "config_commands",
    "connection",
    "debug",
    "generic",
    "hash_expiry",
    "hashes",
    "info",
    "introspection",
    "latency",
    "lists",
    "memory",
    "monitor",
    "newer_strings",
    "pubsub",
    "server",
    "sets",
    "slowlog",
    "strings",
    "transactions",
    "zsets",
]
