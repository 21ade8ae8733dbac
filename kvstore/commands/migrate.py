"""MIGRATE: keys go to another server, and are deleted here once that server has said that it has them.

Invariants
- A key is deleted after the target has said that it has it, so that it may be in both places where the connection
  breaks, and is never in none.
- Nothing is sent before the target has taken the login and the database: it would go where it does not belong.

The keys of one request go in batches of about a megabyte, so that neither side gathers more than that. Everybody
waits meanwhile: the time-out bounds each wait for the network.

Must not know: what payloads are made of.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from kvstore import errors
from kvstore.commands.args import Args
from kvstore.commands.kinds import TREE
from kvstore.commands.registry import Argv, Family, KeySpec
from kvstore.errors import ResponseError, err
from kvstore.numbers import parse_int
from kvstore.resp import Status

if TYPE_CHECKING:
    from kvstore.commands.session import Session
    from kvstore.engine.database import Database

family = Family("generic", "keyspace")

_BATCH: Final = 1 << 20  # bytes of keys, payloads and replies, at least
_REPLY: Final = 100  # bytes of a reply, about
_LINE_LIMIT: Final = 1 << 16  # bytes of a reply
_CHUNK: Final = 1 << 16  # bytes that are sent within one time-out
_KEYS: Final = (
    KeySpec(3, ("range", 0, 1), "RW ACCESS DELETE"),
    KeySpec(("KEYS", -2), ("range", -1, 1), "RW ACCESS DELETE INCOMPLETE"),
)


def _getkeys(argv: Argv) -> list[int]:
    """The key, or what follows KEYS, which is no option where it is a password or a user's name."""
    at = 6
    while at < len(argv):
        word = argv[at].upper()
        if word == b"KEYS":
            if argv[3]:
                raise ValueError("both a key and KEYS")
            return list(range(at + 1, len(argv))) or [3]
        at += 2 if word == b"AUTH" else 3 if word == b"AUTH2" else 1
    return [3]


@family.command(
    "MIGRATE",
    -6,
    "write movablekeys",
    _KEYS,
    kind=TREE,
    since="2.6.0",
    categories="dangerous",
    getkeys=_getkeys,
    tips=("nondeterministic_output",),
)
def migrate(session: Session, argv: Argv) -> Status:
    """Move keys to another server, or COPY them. O(n) bytes of the values, and the network."""
    copy = replace = False
    login: list[bytes] = []
    keys = [argv[3]]
    words = Args(argv, 6)
    while words:
        if words.take(b"COPY"):
            copy = True
        elif words.take(b"REPLACE"):
            replace = True
        elif words.take(b"AUTH", more=1):
            login = [b"AUTH", words.next()]
        elif words.take(b"AUTH2", more=2):
            login = [b"AUTH", words.next(), words.next()]
        elif words.take(b"KEYS"):
            if argv[3]:
                raise err("When using MIGRATE KEYS option, the key argument must be set to the empty string")
            keys = list(words.rest())
            break
        else:
            raise words.syntax_error()
    timeout_ms, index = parse_int(argv[5]), parse_int(argv[4])
    if timeout_ms is None or index is None:
        raise ResponseError(errors.NOT_INTEGER)
    db = session.db
    keys = [key for key in keys if db.exists(key)]
    if not keys:
        return Status(b"NOKEY")
    with _Target(argv[1], argv[2], timeout_ms / 1000 if timeout_ms > 0 else 1.0) as target:
        if login:
            target.send([login])
            target.confirmed()
        target.send([[b"SELECT", b"%d" % index]])
        target.confirmed()
        _move(db, keys, target, copy, replace)
    return Status(b"OK")


def _move(db: Database, keys: list[bytes], target: _Target, copy: bool, replace: bool) -> None:
    """Raises what the target refused first, when all have been answered and those that arrived are deleted."""
    refused: ResponseError | None = None
    for batch in _batches(db, keys):
        arrived: list[bytes] = []
        try:
            options = [b"REPLACE"] if replace else []
            target.send([b"RESTORE", *entry, *options] for entry in batch)
            for key, _, _ in batch:
                try:
                    target.confirmed()
                    arrived.append(key)
                except _Refused as error:
                    refused = refused or error
        finally:
            if arrived and not copy:
                db.delete(*arrived)
    if refused is not None:
        raise refused


def _batches(db: Database, keys: list[bytes]) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """(key, milliseconds to live, payload) of each key."""
    batch: list[tuple[bytes, bytes, bytes]] = []
    size = 0
    for key in keys:
        parcel = db._parcel(key)
        if parcel is None:
            continue
        payload, left_ms = parcel
        batch.append((key, b"%d" % left_ms, payload))
        size += len(key) + len(payload) + _REPLY
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Refused(ResponseError):
    """The target answered with an error."""


class _Target:
    """A connection to the server where keys go. Errors of the network are raised as replies."""

    def __init__(self, host: bytes, port: bytes, timeout_s: float):
        try:
            address = host.decode("utf-8", "surrogateescape"), (parse_int(port) or 0) & 0xFFFF
            self._socket = socket.create_connection(address, timeout_s)
        except (TimeoutError, socket.gaierror, UnicodeError):
            raise _network("connecting to the client") from None
        except OSError:
            raise _network("writing to target instance") from None
        self._replies = self._socket.makefile("rb")

    def __enter__(self) -> _Target:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._socket.close()

    def send(self, requests: Iterable[list[bytes]]) -> None:
        parts: list[bytes] = []
        for words in requests:
            parts.append(b"*%d\r\n" % len(words))
            for word in words:
                parts += b"$%d\r\n" % len(word), word, b"\r\n"
        data = memoryview(b"".join(parts))
        try:
            for at in range(0, len(data), _CHUNK):
                self._socket.sendall(data[at : at + _CHUNK])
        except OSError:
            raise _network("writing to target instance") from None

    def confirmed(self) -> None:
        """Read a reply; raises _Refused if it is an error. What is neither that nor OK, no such server has said."""
        try:
            line = self._replies.readline(_LINE_LIMIT)
        except OSError:
            line = b""
        if line.startswith(b"-") and line.endswith(b"\n"):
            text = line[1:].rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            raise _Refused(f"ERR Target instance replied with error: {text}")
        if line != b"+OK\r\n":
            raise _network("reading to target instance")


def _network(what: str) -> ResponseError:
    return ResponseError(f"IOERR error or timeout {what}")
