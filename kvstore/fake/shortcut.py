"""The short way of a command through a library's client, where nothing goes wrong.

A library wraps each command in its retries, and in measurements of its own. A line answers at once, so a client
here sends first; only when there is no reply yet, or one that is no plain value, does the library take over, with a
connection on which the command has been sent already. What makes connections, gives them out, reads replies and
calls back is the library's own, always.

Invariant: nobody can tell which way a command went, but by the time that it took. So a client goes the library's
way whenever somebody has put something of their own in its place, as tracers do.

Must not know: commands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from operator import attrgetter
from types import ModuleType
from typing import Any

# What a library's client does on its way, in the versions that have them.
_STEPS = ("base.execute_command", "_execute_command", "_send_command_parse_response")


def has_short_way(library: ModuleType) -> bool:
    """Whether the library's way is known: not where connections have replies that they were given before."""
    return not hasattr(import_module(f"{library.__name__}.connection").Connection, "_get_from_local_cache")


class ShortCut:
    """Mixed in before a library's client."""

    library: ModuleType
    base: Any  # the library's client
    steps: Callable[[Any], Any]  # of a class: the methods that are not called
    own_steps: Any  # what they are unless somebody has put others there
    own_retry: type
    observer: Callable[[], Any]  # what commands are measured for; None: nothing

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "base" in cls.__dict__:
            cls.steps = attrgetter(*[each for each in _STEPS if hasattr(cls.base, each.rpartition(".")[2])])
            cls.own_steps = cls.steps(cls)
            cls.own_retry = import_module(f"{cls.library.__name__}.retry").Retry
            cls.observer = staticmethod(_observer_of(cls.library))

    def execute_command(self: Any, *args: Any, **options: Any) -> Any:
        """Execute a command and return a parsed response"""
        cls = self.__class__
        if (
            self.connection is not None
            or not args
            or cls.steps(cls) != cls.own_steps
            or cls.observer() is not None
        ):
            return super().execute_command(*args, **options)  # type: ignore[misc]
        pool = self.connection_pool
        conn = pool.get_connection(args[0]) if _takes_name(pool.__class__) else pool.get_connection()
        try:
            if (
                conn.__class__ is self.connection_class
                and conn.retry.__class__ is cls.own_retry
                and conn.send_at_once(args)
            ):
                return self.parse_response(conn, args[0], **options)
            return self._go_on(conn, args, options)
        finally:
            pool.release(conn)

    def _go_on(self: Any, conn: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The library's way, with this connection and no other."""
        cls = self.__class__
        holder = object.__new__(cls)
        holder.__dict__.update(self.__dict__, connection=conn, auto_close_connection_pool=False)
        try:
            return super(ShortCut, holder).execute_command(*args, **options)  # type: ignore[misc]
        finally:
            holder.connection = None  # or it would give the connection back when it goes
            if conn.__class__ is self.connection_class and conn.has_sent:
                conn.has_sent = False
                conn.disconnect()  # the library has not asked for the reply


def _observer_of(library: ModuleType) -> Callable[[], Any]:
    """Where the library's clients look for somebody who wants measurements, in versions that take any."""
    try:
        providers = import_module(f"{library.__name__}.observability.providers")
    except ImportError:
        return lambda: None
    instance = providers.get_observability_instance
    return lambda: instance().get_provider_manager()


@cache
def _takes_name(pool: Any) -> bool:
    """Whether connections of such a pool are asked for with the name of a command, as before redis-py 5.3."""
    name = inspect.signature(pool.get_connection).parameters.get("command_name")
    return name is not None and name.default is inspect.Parameter.empty
