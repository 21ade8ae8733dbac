"""Generic key commands: bindings."""

from __future__ import annotations

from kvstore.commands.registry import Family

family = Family("generic", "keyspace")
