"""Imports every family, which registers its commands."""

from __future__ import annotations

from kvstore.commands import generic, hashes, lists, sets, strings, zsets
from kvstore.commands.registry import COMMANDS

__all__ = ["COMMANDS", "generic", "hashes", "lists", "sets", "strings", "zsets"]
