"""Every error a store can raise: its code and its exact text.

A command's failure is an exception whose ``str()`` is the error reply as it goes over the wire,
without the leading ``-``: ``"ERR no such key"``, ``"WRONGTYPE Operation against ..."``. The first
word is the code. The class names follow redis-py's, so that code reads alike on both.

Imports nothing.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error of kvstore."""


class DataError(StoreError):
    """The caller's arguments make no sense together (redis-py raises its DataError client-side)."""


class WatchError(StoreError):
    """A watched key changed before EXEC (what redis-py's pipeline raises)."""


class WrongThreadError(StoreError):
    """A Store was used by a thread that did not make it."""


class ResponseError(StoreError):
    """A command was refused; ``str(error)`` is the reply, its first word the code."""

    @property
    def code(self) -> str:
        return str(self).split(" ", 1)[0]


class WrongTypeError(ResponseError):
    """The key holds a value of another type."""

    def __init__(self, text: str = "WRONGTYPE Operation against a key holding the wrong kind of value"):
        super().__init__(text)


class OutOfMemoryError(ResponseError):
    """The command would grow the data past ``maxmemory`` and nothing can be evicted."""

    def __init__(self, text: str = "OOM command not allowed when used memory > 'maxmemory'."):
        super().__init__(text)


class NoScriptError(ResponseError):
    """EVALSHA named a script that is not cached."""

    def __init__(self, text: str = "NOSCRIPT No matching script. Please use EVAL."):
        super().__init__(text)


class FormatError(StoreError):
    """The bytes of a file or of a payload are not what their format allows.

    ``text`` says what is wrong, ``offset`` (where it is known) at which byte of what was read.
    """

    def __init__(self, text: str, offset: int | None = None):
        super().__init__(text if offset is None else f"{text} at offset {offset}")
        self.text = text
        self.offset = offset


class PersistenceError(StoreError):
    """A file could not be read, written or locked; the text names it."""


class ProtocolError(StoreError):
    """The peer's bytes are not RESP; ``str(error)`` is the reply before the connection closes."""


def err(text: str) -> ResponseError:
    """A ResponseError with the general code ``ERR``."""
    return ResponseError("ERR " + text)


# Texts that more than one command family uses. Each is the whole reply, code included.
SYNTAX = "ERR syntax error"
NOT_INTEGER = "ERR value is not an integer or out of range"
NOT_FLOAT = "ERR value is not a valid float"
OUT_OF_RANGE = "ERR value is out of range"
NOT_POSITIVE = "ERR value is out of range, must be positive"
NO_SUCH_KEY = "ERR no such key"
INDEX_RANGE = "ERR index out of range"
OVERFLOW = "ERR increment or decrement would overflow"
NAN_OR_INFINITY = "ERR increment would produce NaN or Infinity"
# Why writes are refused after a snapshot failed, where the configuration asks for that.
MISCONF = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that "
    "may modify the data set are disabled, because this instance is configured to report errors during writes if RDB "
    "snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    "error."
)
