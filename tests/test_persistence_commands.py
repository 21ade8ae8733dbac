"""SAVE, BGSAVE, BGREWRITEAOF, WAITAOF, SHUTDOWN and what is refused while data cannot be kept, as real servers
have it: plays that run on both, and states that a real server is brought into the same way."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore import Store
from kvstore.errors import StoreError
from tests import servers
from tests.conftest import require
from tests.scenario import compare
from tests.servers import Server

PLAYS = {
    "arguments": """
        a> SAVE x
        a> BGSAVE x
        a> BGSAVE SCHEDULE x
        a> BGREWRITEAOF x
        a> LASTSAVE x
        a> WAITAOF 2 0 0
        a> WAITAOF x 0 0
        a> WAITAOF 0 -1 0
        a> WAITAOF 0 0 -1
        a> WAITAOF 1 0 0
        a> WAITAOF 0 0 0
        a> DEBUG RELOAD X
        a> SHUTDOWN ABORT
        a> SHUTDOWN ABORT NOW
        a> SHUTDOWN SAVE NOSAVE
        a> SHUTDOWN NOW x
    """,
    "in transactions and scripts": """
        a> MULTI
        a> SAVE
        a> BGSAVE
        a> EXEC
        a> MULTI
        a> BGSAVE
        a> BGREWRITEAOF
        a> EXEC
        a> EVAL 'return redis.pcall("SAVE")' 0
        a> EVAL 'return redis.pcall("BGSAVE")' 0
        a> EVAL 'return redis.pcall("BGREWRITEAOF")' 0
        a. EVAL 'return type(redis.pcall("LASTSAVE"))' 0
        sleep 0.5
    """,
    "saving and reloading": """
        a> SET a 1
        a> RPUSH l 1 2 3
        a> PEXPIREAT a 33177117420000
        a> SAVE
        a> SET a 2
        a> DEBUG RELOAD NOSAVE
        a> GET a
        a> PEXPIRETIME a
        a> DEBUG RELOAD
        a> LRANGE l 0 -1
        a> SET b 1
        a> DEBUG RELOAD NOSAVE NOFLUSH MERGE
        a> DBSIZE
    """,
}


@pytest.mark.parametrize("play", PLAYS)
def test_files_go_as_on_a_real_server(kvstore_server: Server, valkey_server: Server, play: str) -> None:
    compare(kvstore_server, valkey_server, PLAYS[play])


# -- when data cannot be kept ------------------------------------------------------------------------------

LIBRARY = """#!lua name=lib
redis.register_function('w', function(keys, args) return redis.call(unpack(args)) end)
redis.register_function{function_name='r', flags={'no-writes'}, callback=function(keys, args)
return redis.call(unpack(args)) end}"""
# Run, in order, after a snapshot has failed where there are save points.
REFUSED = [
    *(("SET", "a", "1"), ("SET", "a"), ("GET", "a"), ("PING",), ("PING", "x"), ("DEL", "no"), ("NOPE",)),
    ("EVAL", 'return redis.call("set", "a", "1")', "0"),
    ("EVAL", 'return redis.pcall("set", "a", "1")', "0"),
    *(("EVAL", "return 1", "0"), ("EVAL", "#!lua\nreturn 1", "0")),
    ("EVAL", 'return {redis.call("ping"), redis.pcall("get", "a")}', "0"),
    *(
        ("FCALL", "w", "0", "get", "a"),
        ("FCALL", "r", "0", "get", "a"),
        ("FCALL_RO", "r", "0", "set", "a", "1"),
    ),
    *(("FUNCTION", "LOAD", "REPLACE", LIBRARY), ("FUNCTION", "DELETE", "lib"), ("FUNCTION", "DUMP", "x")),
    ("EVAL", "#!lua flags=no-writes\nreturn 1", "0"),
    *(("EVAL_RO", "return 1", "0"), ("PUBLISH", "a", "b"), ("FLUSHALL",), ("EXPIRE", "a", "-1")),
    *(("SUBSCRIBE", "a"), ("PING",), ("UNSUBSCRIBE", "a")),
    *(("MULTI",), ("SET", "a", "1"), ("GET", "a"), ("EXEC",)),
    *(("MULTI",), ("GET", "a"), ("EXEC",), ("MULTI",), ("PING",), ("EXEC",)),
    *(("SCRIPT", "LOAD", "return 1"), ("BLPOP", "x", "0.1"), ("SWAPDB", "0", "1"), ("SAVE",)),
    *(("SHUTDOWN",), ("SHUTDOWN", "SAVE"), ("DEBUG", "RELOAD"), ("DEBUG", "RELOAD", "NOSAVE")),
    *(("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"), ("SET", "a", "1")),
    *(("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"), ("SET", "a", "1")),
    *(("CONFIG", "SET", "save", ""), ("SET", "a", "1"), ("PING",)),
    *(("CONFIG", "SET", "appendonly", "yes"), ("CONFIG", "GET", "appendonly"), ("BGREWRITEAOF",)),
]


def _without_a_place(kind: str) -> tuple[list[bytes], str]:
    """What a server answers whose directory is gone, and its INFO persistence and errorstats."""
    require(kind)
    options = {"enable-debug-command": "yes", "enable-protected-configs": "yes"}
    with servers.running(kind, options=options) as server, server.client() as client:
        gone = server.directory / "gone"
        gone.mkdir()
        assert client.call("FUNCTION", "LOAD", LIBRARY) == b"$3\r\nlib\r\n"
        assert client.call("CONFIG", "SET", "dir", str(server.directory / "no")).startswith(b"-ERR")
        assert client.call("CONFIG", "SET", "dir", str(gone)) == b"+OK\r\n"
        shutil.rmtree(gone)
        assert client.call("BGSAVE") == b"+Background saving started\r\n"
        wait_for(lambda: figure(server, "rdb_last_bgsave_status") == "err")
        assert client.call("SET", "a", "1") == b"+OK\r\n"  # there are no save points
        assert client.call("CONFIG", "SET", "save", "3600 1") == b"+OK\r\n"
        replies = [client.call(*words) for words in REFUSED]
        return replies, client.call("INFO", "errorstats").decode()


def figure(server: Server, name: str) -> str:
    with server.client() as client:
        found = re.search(rf"^{name}:(.*?)\r$", client.call("INFO", "persistence").decode(), re.M)
    return found[1] if found else ""


def wait_for(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def test_writes_are_refused_after_a_failed_snapshot_as_on_a_real_server() -> None:
    ours, our_errors = _without_a_place("kvstore")
    theirs, their_errors = _without_a_place("valkey")
    for words, got, wanted in zip(REFUSED, ours, theirs, strict=True):
        assert got == wanted.replace(b"Valkey", b"Redis"), words
    assert sorted(our_errors.splitlines()) == sorted(their_errors.splitlines())


def test_writes_are_taken_again_once_a_snapshot_succeeds() -> None:
    options = {"enable-protected-configs": "yes", "save": "3600 1"}
    with servers.running("kvstore", options=options) as server, server.client() as client:
        gone = server.directory / "gone"
        gone.mkdir()
        client.call("CONFIG", "SET", "dir", str(gone))
        shutil.rmtree(gone)
        client.call("BGSAVE")
        wait_for(lambda: client.call("SET", "a", "1").startswith(b"-MISCONF"))
        gone.mkdir()
        assert client.call("BGSAVE") == b"+Background saving started\r\n"
        wait_for(lambda: client.call("SET", "a", "1") == b"+OK\r\n")
        assert (gone / "dump.rdb").exists()


# -- stores without files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["SAVE", "BGSAVE", "BGREWRITEAOF"])
def test_a_store_in_memory_has_nothing_to_save_to(command: str) -> None:
    with pytest.raises(StoreError, match="in memory"):
        Store().call(command)


# -- WAITAOF -------------------------------------------------------------------------------------------------


@pytest.fixture
def logging_server() -> Iterator[Server]:
    with servers.running("kvstore", options={"appendonly": "yes"}) as server:
        yield server


def test_waitaof_waits_until_what_was_written_is_on_the_disk(logging_server: Server) -> None:
    with logging_server.client() as client, logging_server.client() as other:
        assert client.call("SET", "a", "1") == b"+OK\r\n"
        assert client.call("WAITAOF", "1", "0", "0") == b"*2\r\n:1\r\n:0\r\n"
        assert other.call("WAITAOF", "1", "0", "5000") == b"*2\r\n:1\r\n:0\r\n"
        client.send("WAITAOF", "1", "1", "500")  # for a replica in vain
        wait_for(lambda: b"blocked_clients:1\r\n" in other.call("INFO", "clients"))
        assert client.read_reply_bytes() == b"*2\r\n:1\r\n:0\r\n"


def test_waitaof_waits_no_longer_when_the_log_ends(logging_server: Server) -> None:
    with logging_server.client() as client, logging_server.client() as other:
        client.send("WAITAOF", "1", "1", "0")
        time.sleep(0.05)
        assert other.call("CONFIG", "SET", "appendonly", "no") == b"+OK\r\n"
        assert client.read_reply_bytes().startswith(b"-ERR WAITAOF cannot be used")


def test_waitaof_under_always_need_not_wait() -> None:
    options = {"appendonly": "yes", "appendfsync": "always"}
    with servers.running("kvstore", options=options) as server, server.client() as client:
        assert client.call("SET", "a", "1") == b"+OK\r\n"
        client.call("MULTI")  # in which nothing can wait
        client.call("WAITAOF", "1", "0", "0")
        assert client.call("EXEC") == b"*1\r\n*2\r\n:1\r\n:0\r\n"


def test_a_store_is_in_memory_until_its_directory_is_named(tmp_path: Path) -> None:
    import kvstore

    with kvstore.serve(unix=tmp_path / "s", dir=tmp_path) as server:
        server.call(lambda store: store.set("a", "1"))
        assert server.call(lambda store: store.call("CONFIG", "GET", "save")) == [b"save", b""]
    assert not list(tmp_path.glob("*.rdb"))
