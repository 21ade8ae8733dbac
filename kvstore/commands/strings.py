"""Strings: bindings."""

from __future__ import annotations

from kvstore.commands.kinds import BULK, INT
from kvstore.commands.registry import KEY_ACCESS_UPDATE, KEY_INSERT, KEY_READ, Family
from kvstore.engine.database import Database

family = Family("string")

family.bind("GET", 2, "readonly fast", KEY_READ, Database.get, BULK)
family.bind("APPEND", 3, "write denyoom fast", KEY_INSERT, Database.append, INT, since="2.0.0")
family.bind("INCR", 2, "write denyoom fast", KEY_ACCESS_UPDATE, Database.incr, INT)
