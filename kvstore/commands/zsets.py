"""Sorted sets: bindings."""

from __future__ import annotations

from kvstore.commands.registry import Family

family = Family("sorted_set", "sortedset")
