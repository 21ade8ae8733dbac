"""More than one fake server's lock in one thread: forks, and garbage that is collected in the middle of a request.

Forks, while other threads use fake servers: a child gets whole copies of them, and locks that it can take. The
thread that forks waits for the requests that run, and holds all locks meanwhile. What a child does to its copy, its
parent does not see: a fake has no process of its own, as a server would.

Invariant: nobody but the thread that forks waits for a lock while it holds another.

Must not know: hubs, sessions.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvstore.fake.line import Exchange

_exchanges: weakref.WeakSet[Exchange] = weakref.WeakSet()
_held: list[Exchange] = []  # what the fork under way has locked


def survive_forks(exchange: Exchange) -> None:
    """Take its lock for the time of each fork. O(1)."""
    _exchanges.add(exchange)


def holds_another(exchange: Exchange) -> bool:
    """Whether this thread holds another lock than its. O(exchanges)."""
    return any(each is not exchange and each.lock._is_owned() for each in _all())  # type: ignore[attr-defined]


def _all() -> list[Exchange]:
    while True:
        try:
            return list(_exchanges)
        except RuntimeError:  # another thread made one meanwhile
            continue


def _hold() -> None:
    found = _all()
    for exchange in found:
        exchange.lock.acquire()
    _held.extend(found)


def _let_go() -> None:
    while _held:
        _held.pop().lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
