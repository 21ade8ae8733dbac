"""Imports every family, which registers its commands."""

from __future__ import annotations

from kvstore.commands import (
    config_commands,
    connection,
    generic,
    hash_expiry,
    hashes,
    lists,
    newer_strings,
    pubsub,
    sets,
    strings,
    transactions,
    zsets,
)
from kvstore.commands.registry import COMMANDS

__all__ = [
    "COMMANDS",
    "config_commands",
    "connection",
    "generic",
    "hash_expiry",
    "hashes",
    "lists",
    "newer_strings",
    "pubsub",
    "sets",
    "strings",
    "transactions",
    "zsets",
]
