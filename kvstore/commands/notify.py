"""Keyspace notifications: what happened to keys, published on channels.

Events gather while a unit runs and are published when it ends. Must not know: sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.commands.hub import Hub

# The class letter of each event of notify-keyspace-events; events that are not here are generic ("g").
_CLASSES: dict[str, str] = {
    **dict.fromkeys(
        ("set", "setrange", "append", "incrby", "decrby", "incrbyfloat", "getset", "setbit"), "$"
    ),
    **dict.fromkeys(
        ("lpush", "rpush", "lpop", "rpop", "linsert", "lset", "lrem", "ltrim", "sortstore", "lmove"), "l"
    ),
    **dict.fromkeys(("sadd", "srem", "spop", "sinterstore", "sunionstore", "sdiffstore"), "s"),
    **dict.fromkeys(("hset", "hincrby", "hincrbyfloat", "hdel", "hexpire", "hexpired", "hpersist"), "h"),
    **dict.fromkeys(
        [
            "zadd",
            "zincr",
            "zrem",
            "zremrangebyscore",
            "zremrangebyrank",
            "zremrangebylex",
            "zdiffstore",
            "zinterstore",
            "zunionstore",
            "zrangestore",
            "zpopmin",
            "zpopmax",
            "geosearchstore",
            "georadiusstore",
        ],
        "z",
    ),
    **dict.fromkeys(("xadd", "xdel", "xtrim", "xsetid"), "t"),
    **dict.fromkeys(
        ("xgroup-create", "xgroup-createconsumer", "xgroup-delconsumer", "xgroup-destroy", "xgroup-setid"),
        "t",
    ),
    **dict.fromkeys(("", "touched"), "no letter"),  # changes of which no server tells
    "expired": "x",
    "evicted": "e",
    "new": "n",
    "keymiss": "m",
}
# Events of what does not count as a change of the key, neither for WATCH nor for tracking: groups of streams.
UNWATCHED = frozenset(
    "xsetid xgroup-create xgroup-createconsumer xgroup-delconsumer xgroup-destroy xgroup-setid".split()
) | {""}
ALL_CLASSES = frozenset("g$lshzxetd")


class Notifications:
    """Buffers (database, event, key) and publishes what ``notify-keyspace-events`` asks for."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._classes: frozenset[str] = frozenset()
        self._keyspace = False
        self._keyevent = False
        self.queue: list[tuple[int, str, bytes]] = []
        self.wanted = False

    def configure(self, flags: str) -> None:
        """Take the letters of ``notify-keyspace-events``, which have been checked."""
        letters = set(flags)
        if "A" in letters:
            letters |= ALL_CLASSES
        self._keyspace, self._keyevent = "K" in letters, "E" in letters
        self._classes = frozenset(letters - set("AKE"))
        self.wanted = bool(self._classes) and (self._keyspace or self._keyevent)
        self._hub.relisten()

    def add(self, db: int, event: str, key: bytes) -> None:
        if _CLASSES.get(event, "g") in self._classes:
            self.queue.append((db, event, key))
            self._hub.pending = True

    def send(self) -> None:
        queue, self.queue = self.queue, []
        publish = self._hub.channels.publish
        for db, event, key in queue:
            name = event.encode()
            if self._keyspace:
                publish(b"__keyspace@%d__:%b" % (db, key), name)
            if self._keyevent:
                publish(b"__keyevent@%d__:%b" % (db, name), key)
