"""Lists: bindings."""

from __future__ import annotations

from kvstore.commands.registry import Family

family = Family("list")
