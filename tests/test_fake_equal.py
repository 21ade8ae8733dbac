"""A fake client gives what the same client gives over a socket: equal objects of the same types, and the same errors.

Every command, with the requests of ``fake_requests``, is asked of a kvstore server over a Unix socket and of a
fake, through the client's methods (with response callbacks) and on its bare connection (without), in both RESP
versions, decoded and not, with both of redis-py's parsers, sync and asyncio.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis._parsers import _AsyncHiredisParser, _AsyncRESP2Parser, _HiredisParser, _RESP2Parser
from redis.backoff import NoBackoff

from kvstore.fake import FakeAsyncRedis, FakeRedis, FakeServer
from kvstore.fake.library import habits
from tests.fake_requests import BLOCKS, PROLOGUE, Request, commands, requests, words
from tests.servers import Server, running

PATIENCE = 10.0
DIRECTIVES = {"enable-debug-command": "yes", "compat-version": "9.0"}  # which has all commands
PARSERS = {"hiredis": (_HiredisParser, _AsyncHiredisParser), "python": (_RESP2Parser, _AsyncRESP2Parser)}
CONTAINERS = {name.split("|")[0].upper().encode() for name in commands() if "|" in name} & {
    *b"ACL CLIENT CLUSTER COMMAND CONFIG FUNCTION LATENCY MEMORY MODULE PUBSUB SCRIPT SLOWLOG XGROUP XINFO".split()
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A kvstore server whose configuration is the fake's."""
    with running("kvstore", options=DIRECTIVES) as server:
        yield server


class Side:
    """One client, sync: its calls, and what goes over its bare connection."""

    def __init__(self, client: Any):
        self.client = client
        self.connection = client.connection_pool.get_connection()

    def call(self, *args: Any) -> Any:
        return self.client.execute_command(*args)

    def exchange(self, argvs: tuple[tuple[bytes, ...], ...]) -> Any:
        for argv in argvs:
            self.connection.send_command(*argv)
        return self.connection.read_response(push_request=True)

    def close(self) -> None:
        self.connection.disconnect()
        self.client.connection_pool.disconnect()


class AsyncSide:
    """One asyncio client, and an event loop to run it in."""

    def __init__(self, client: Any):
        self.client = client
        self.loop = asyncio.new_event_loop()
        self.connection = self._run(client.connection_pool.get_connection())

    def _run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def call(self, *args: Any) -> Any:
        return self._run(self.client.execute_command(*args))

    def exchange(self, argvs: tuple[tuple[bytes, ...], ...]) -> Any:
        async def both() -> Any:
            for argv in argvs:
                await self.connection.send_command(*argv)
            return await self.connection.read_response(push_request=True)

        return self._run(both())

    def close(self) -> None:
        self._run(self.connection.disconnect())
        self._run(self.client.connection_pool.disconnect())
        self.loop.close()


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The parser that the library would take by itself, with hiredis and without."""
    sync, _ = PARSERS[request.param]
    monkeypatch.setattr("redis.connection.DefaultParser", sync)
    habits.cache_clear()
    yield request.param
    habits.cache_clear()


def both(server: Server, kind: str, parser: str, **options: Any) -> list[Side | AsyncSide]:
    """A fake client's side, and a real one's."""
    sync, by_task = PARSERS[parser]
    library: Any = redis if kind == "sync" else redis.asyncio
    retry = (redis.retry if kind == "sync" else redis.asyncio.retry).Retry(NoBackoff(), 0)
    pool = library.ConnectionPool(
        connection_class=library.UnixDomainSocketConnection,
        path=server.unix,
        parser_class=sync if kind == "sync" else by_task,
        socket_timeout=PATIENCE,
        retry=retry,
        **options,
    )
    real = library.Redis(connection_pool=pool)
    fake_class: Any = FakeRedis if kind == "sync" else FakeAsyncRedis
    fake = fake_class(server=FakeServer(config=DIRECTIVES), socket_timeout=PATIENCE, retry=retry, **options)
    side: Any = Side if kind == "sync" else AsyncSide
    return [side(fake), side(real)]


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (redis.RedisError, UnicodeDecodeError, ValueError, TypeError, IndexError, AttributeError) as error:
        return Raised(error)


class Raised:
    """An error that was raised, not given."""

    def __init__(self, error: Exception):
        self.error = error


def told(value: Any) -> Any:
    """A value with all its types, nested ones too, so that equal means alike."""
    if isinstance(value, Raised):
        return "raised", told(value.error)
    if type(value) is redis.ConnectionError:
        return type(value)  # over a socket its text depends on who notices the end first
    if isinstance(value, BaseException):
        seen = {name: each for name, each in vars(value).items() if not name.startswith("__")}
        return type(value), [str(each) for each in value.args], told(seen)
    if isinstance(value, dict):
        return type(value), [(told(key), told(each)) for key, each in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(told, value), key=repr)
    if isinstance(value, (list, tuple)):
        return type(value), [told(each) for each in value]
    return type(value), repr(value)


def unordered(value: Any) -> Any:
    """A value whose items have no order."""
    if isinstance(value, (list, tuple)):
        return type(value), sorted((unordered(each) for each in value), key=repr)
    return told(value)


def shape(value: Any) -> Any:
    """What is left of a value that nobody can foretell."""
    if isinstance(value, dict):
        return type(value), sorted((repr(key), shape(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), sorted({repr(shape(each)) for each in value})
    return type(value)


COMPARED = {"~": shape, "?": unordered}


def send(side: Side | AsyncSide, request: Request) -> list[Any]:
    """What a side gives: by its client's call, then on the bare connection."""
    found = []
    if request.mark != "!":
        argv = list(request.argvs[0])
        if argv[0] in CONTAINERS and len(argv) > 1:
            argv[:2] = [argv[0] + b" " + argv[1]]
        found.append(outcome(lambda: side.call(argv[0].decode("latin-1"), *argv[1:])))
    found.append(outcome(lambda: side.exchange(request.argvs)))
    return found


def prepare(side: Side | AsyncSide) -> None:
    for line in ("FLUSHALL", "SCRIPT FLUSH", "CONFIG RESETSTAT", "ACL DELUSER u", "ACL LOG RESET"):
        side.exchange((words(line),))
    for request in requests(PROLOGUE):
        side.exchange(request.argvs)


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "str"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("block", BLOCKS)
def test_every_command_gives_what_it_gives_over_a_socket(
    server: Server, block: str, kind: str, protocol: int, decode: bool, parser: str
) -> None:
    sides = both(server, kind, parser, protocol=protocol, decode_responses=decode)
    try:
        for side in sides:
            prepare(side)
        for request in requests(BLOCKS[block]):
            compared = COMPARED.get(request.mark, told)
            fake, real = ([compared(each) for each in send(side, request)] for side in sides)
            assert fake == real, str(request)
    finally:
        for side in sides:
            side.close()


def test_every_command_has_a_request() -> None:
    with FakeRedis(server=FakeServer(config=DIRECTIVES)) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("COMMAND")
        listed = connection.read_response()
        client.connection_pool.release(connection)
    ours = set(itertools.chain.from_iterable([entry[0], *(sub[0] for sub in entry[9])] for entry in listed))
    assert len(ours) > 200
    assert {name.decode() for name in ours} - commands() == set(), "commands that no line above asks for"
