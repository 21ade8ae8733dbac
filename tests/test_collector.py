"""What is left for the collector of cycles: nothing, of clients and jobs; and how it is set up in a server's process."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvstore
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2, RESP3
from kvstore.commands.session import Session
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.resp import encode_request
from kvstore.serving import ServerThread
from tests.differential import grammar as grammars
from tests.rawclient import RawClient
from tests.seeds import new_seed
from tests.waiting import until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerThread]:
    with kvstore.serve(unix=tmp_path / "s", dir=str(tmp_path), appendonly=True) as server:
        yield server


def garbage(server: ServerThread, scene: Callable[[], None]) -> list[Any]:
    """Objects of this package that a scene, at its second time, leaves in cycles once its clients are gone."""
    for again in (False, True):
        gc.collect()
        if again:
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            scene()
            until(lambda: not server._server.connections, "the clients are gone")
            gc.collect()
            found = [each for each in gc.garbage if type(each).__module__.startswith("kvstore.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    return found


SCENES: dict[str, list[list[tuple[str, ...]]]] = {
    # Each is what one client sends, or several clients one after the other.
    "calls": [[("SET", "k", "v"), ("GET", "k"), ("LPUSH", "k", "x"), ("NOSUCH",)]],
    "a quit": [[("QUIT",)]],
    "subscriptions": [[("SUBSCRIBE", "a"), ("PSUBSCRIBE", "a*")], [("PUBLISH", "a", "m")]],
    "a transaction": [[("WATCH", "k"), ("MULTI",), ("SET", "k", "v"), ("EXEC",)]],
    "a transaction left open": [[("WATCH", "k"), ("MULTI",), ("SET", "k", "v")]],
    "tracking": [[("HELLO", "3"), ("CLIENT", "TRACKING", "ON"), ("GET", "k")]],
    "MONITOR": [[("MONITOR",)]],
    "a log in": [[("ACL", "SETUSER", "u", "on", ">p"), ("AUTH", "u", "p")], [("ACL", "DELUSER", "u")]],
    "values": [
        [
            ("HSET", "h", "f", "v"),
            ("HPEXPIRE", "h", "100000", "FIELDS", "1", "f"),
            ("ZADD", "z", "1", "m"),
            ("RPUSH", "l", "e"),
            ("SADD", "s", "m"),
            ("DEL", "h", "z", "l", "s"),
        ]
    ],
    "a stream that is deleted": [
        [
            ("XADD", "x", "1-1", "f", "v"),
            ("XGROUP", "CREATE", "x", "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"),
            ("DEL", "x"),
        ]
    ],
    "a consumer and a group that are deleted": [
        [
            ("FLUSHALL",),
            ("XADD", "x", "1-1", "f", "v"),
            ("XGROUP", "CREATE", "x", "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"),
            ("XGROUP", "DELCONSUMER", "x", "g", "c"),
            ("XGROUP", "SETID", "x", "g", "0"),
            ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"),
            ("XGROUP", "DESTROY", "x", "g"),
        ]
    ],
    "SAVE": [[("SET", "k", "v"), ("SAVE",)]],
}


@pytest.mark.parametrize("name", SCENES)
def test_clients_and_values_that_go_leave_nothing_to_the_collector(server: ServerThread, name: str) -> None:
    def scene() -> None:
        for requests in SCENES[name]:
            with RawClient(str(server.urls[0]).removeprefix("unix://")) as client:
                for request in requests:
                    client.call(*request)

    assert garbage(server, scene) == []


def test_clients_that_leave_in_the_middle_leave_nothing_to_the_collector(server: ServerThread) -> None:
    path = server.url.removeprefix("unix://")

    def scene() -> None:
        with (
            RawClient(path) as blocked,
            RawClient(path) as torn,
            RawClient(path) as killed,
            RawClient(path) as other,
        ):
            blocked.send("BLPOP", "nothing", "0")
            until(lambda: b"blocked_clients:1" in other.call("INFO", "clients"), "it waits")
            torn.sock.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nab")
            number = killed.call("CLIENT", "ID")[1:-2]
            assert other.call("CLIENT", "KILL", "ID", number) == b":1\r\n"

    assert garbage(server, scene) == []


@pytest.mark.parametrize("command", ["BGSAVE", "BGREWRITEAOF"])
def test_jobs_that_end_leave_nothing_to_the_collector(server: ServerThread, command: str) -> None:
    path = server.url.removeprefix("unix://")

    def scene() -> None:
        with RawClient(path) as client:
            client.call("SET", "k", "v")
            assert client.call(command)[:1] == b"+"
            quiet = (b"rdb_bgsave_in_progress:0", b"aof_rewrite_in_progress:0")
            until(lambda: all(each in client.call("INFO", "persistence") for each in quiet), "it has ended")

    assert garbage(server, scene) == []


def test_a_program_keeps_its_collector_as_it_is(tmp_path: Path) -> None:
    def state() -> object:
        return gc.isenabled(), gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()

    before = state()
    store = kvstore.Store()
    store.set("k", "v")
    with kvstore.open(tmp_path / "data") as kept:
        kept.set("k", "v")
    with kvstore.open(tmp_path / "data") as kept:
        assert kept.get("k") == b"v"
        with kvstore.serve(unix=tmp_path / "s") as server, RawClient(str(tmp_path / "s")) as client:
            client.call("MEMORY", "PURGE")
            server.call(lambda store: store.set("k", "v"))
            assert state() == before
    assert state() == before


PROGRAM = """
import gc
from kvstore.net import process

process.calm_collector()
passes = []
gc.callbacks.append(lambda phase, info: phase == "stop" and passes.append(len(gc.get_objects())))
values = [{"field": [number]} for number in range(10 * process.YOUNG_OBJECTS)]
assert len(passes) >= 10, passes
# A pass has only new objects to look at, however many there are, and leaves none to the next one.
assert max(passes) < 2 * process.YOUNG_OBJECTS, passes
# Dropped, they are gone without it.
ring = []
ring.append(ring)
gc.freeze()
del ring, values
assert gc.collect() == 0
before = gc.get_freeze_count()
assert process.collect_all() == 1
assert gc.get_freeze_count() <= before
with process.filling():
    assert not gc.isenabled()
    more = [[] for number in range(2 * process.YOUNG_OBJECTS)]
assert gc.isenabled() and len(gc.get_objects()) < process.YOUNG_OBJECTS
"""


def test_the_collector_of_a_server_looks_at_each_object_once_and_at_all_when_told() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, timeout=60, check=True)


@pytest.mark.parametrize("family", grammars.families())
def test_no_request_leaves_a_cycle(family: str) -> None:
    rng, grammar = random.Random(new_seed()), grammars.load(family)
    hub = Hub(Context(Database))
    clients: list[Session] = []

    def serve(groups: int) -> None:
        for _ in range(groups):
            for part in grammar.group(rng):
                if any(client.stopped for client in clients) or not clients:
                    for client in clients:
                        client.close()
                    clients[:] = [Session(hub, RESP2), Session(hub, RESP3)]
                client = clients[part.on % 2]
                client.feed(encode_request(tuple(part.argv)))
                client.out.clear()

    serve(50)  # and what is made once
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        serve(300)
        gc.collect()
        left = [each for each in gc.garbage if type(each).__module__.startswith(("kvstore.", "lupa."))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left
