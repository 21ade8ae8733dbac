"""A server that keeps its data: stopped, killed and started again, saved under load, loading while clients
ask, its files read by real servers and theirs by it."""

from __future__ import annotations

import mmap
import resource
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import redis

import kvstore
from kvstore.commands.config import Config
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.engine.types import Target
from kvstore.errors import PersistenceError
from kvstore.keeping import Keeper
from kvstore.net import server as net
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.rdb_load import load_rdb
from tests import servers
from tests.conftest import require
from tests.rawclient import RawClient
from tests.servers import Server
from tests.test_persistence_commands import figure, wait_for

SAVING = {"save": "3600 1", "enable-debug-command": "yes"}
LOGGING = {"appendonly": "yes", "enable-debug-command": "yes"}
# A script that goes on for long after it has written.
SLOW = 'redis.call("SET", "half", "1") local i = 0 while i < 1e10 do i = i + 1 end redis.call("SET", "other", "1")'


def fill(server: Server) -> None:
    with server.client() as client:
        client.call("SET", "s", "v")
        client.call("RPUSH", "l", "1", "2", "3")
        client.call("HSET", "h", "f", "1", "g", "2")
        client.call("ZADD", "z", "1.5", "a")
        client.call("SADD", "set", "1", "2")
        client.call("SET", "t", "v", "PXAT", "33177117420000")
        client.call("SELECT", "3")
        client.call("SET", "elsewhere", "1")


def digest(server: Server) -> list[object]:
    """All that ``fill`` made, as the server answers it."""
    with server.client() as client:
        found: list[object] = [
            client.call(*words)
            for words in (
                *(("GET", "s"), ("LRANGE", "l", "0", "-1"), ("HGET", "h", "f"), ("HGET", "h", "g")),
                *(("ZSCORE", "z", "a"), ("SISMEMBER", "set", "2"), ("PEXPIRETIME", "t"), ("DBSIZE",)),
            )
        ]
        client.call("SELECT", "3")
        return [*found, client.call("GET", "elsewhere")]


# -- stopped and started -----------------------------------------------------------------------------------


def test_what_was_there_at_the_end_is_there_at_the_next_start() -> None:
    with servers.running("kvstore", options=SAVING) as server:
        fill(server)
        before = digest(server)
        assert server.stop() == 0
        assert (server.directory / "dump.rdb").exists()
        server.restart()
        assert digest(server) == before
        assert "DB loaded from disk" in server.log()


def test_a_killed_server_with_a_log_has_what_was_acknowledged() -> None:
    with servers.running("kvstore", options={**LOGGING, "appendfsync": "always"}) as server:
        fill(server)
        before = digest(server)
        server.kill()
        server.restart()
        assert digest(server) == before
        with server.client() as client:
            assert client.call("DEBUG", "LOADAOF") == b"+OK\r\n"
        assert digest(server) == before


def test_a_log_turned_on_later_has_what_was_there_before() -> None:
    with servers.running("kvstore") as server:
        fill(server)
        with server.client() as client:
            assert client.call("CONFIG", "SET", "appendonly", "yes") == b"+OK\r\n"
            client.call("SET", "after", "1")
            wait_for(lambda: figure(server, "aof_rewrite_in_progress") == "0")
            assert figure(server, "aof_enabled") == "1"
            assert client.call("WAITAOF", "1", "0", "0") == b"*2\r\n:1\r\n:0\r\n"
        before = digest(server)
        server.kill()
        server.argv += ["--appendonly", "yes"]
        server.restart()
        assert digest(server) == before


def test_flushall_leaves_no_snapshot_that_brings_the_data_back() -> None:
    with servers.running("kvstore", options=SAVING) as server:
        fill(server)
        with server.client() as client:
            client.call("SAVE")
            client.call("FLUSHALL")
        server.kill()
        server.restart()
        with server.client() as client:
            assert client.call("DBSIZE") == b":0\r\n"


def test_a_file_that_cannot_be_read_stops_the_start_and_is_left_alone() -> None:
    with servers.running("kvstore", options=SAVING) as server:
        fill(server)
        server.stop()
        path = server.directory / "dump.rdb"
        broken = path.read_bytes()[:-20]
        path.write_bytes(broken)
        server.restart(wait=False)
        assert server.process.wait(20) == 1
        assert str(path) in server.log() and "at offset" in server.log()
        assert path.read_bytes() == broken


# -- SHUTDOWN ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options", "saved"),
    [
        (("SHUTDOWN",), SAVING, True),
        (("SHUTDOWN", "NOSAVE"), SAVING, False),
        (("SHUTDOWN",), {}, False),
        (("SHUTDOWN", "SAVE"), {}, True),
    ],
)
def test_shutdown_saves_as_it_is_told_to(
    words: tuple[str, ...], options: dict[str, str], saved: bool
) -> None:
    with servers.running("kvstore", options=options) as server, server.client() as client:
        client.call("SET", "a", "1")
        client.send(*words)
        assert client.at_end()
        assert server.process.wait(10) == 0
        assert (server.directory / "dump.rdb").exists() == saved


def test_force_ends_a_server_that_cannot_save() -> None:
    options = {**SAVING, "enable-protected-configs": "yes"}
    with servers.running("kvstore", options=options) as server, server.client() as client:
        gone = server.directory / "gone"
        gone.mkdir()
        client.call("CONFIG", "SET", "dir", str(gone))
        shutil.rmtree(gone)
        assert client.call("SHUTDOWN") == b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
        server.process.terminate()
        time.sleep(0.3)
        assert client.call("GET", "a") == b"$-1\r\n"
        client.send("SHUTDOWN", "FORCE")
        assert client.at_end()
        assert server.process.wait(10) == 0


def test_signals_end_the_server_as_the_directives_say() -> None:
    with servers.running("kvstore", options={**SAVING, "shutdown-on-sigterm": "nosave"}) as server:
        fill(server)
        assert server.stop() == 0
        assert not (server.directory / "dump.rdb").exists()
        server.argv += ["--shutdown-on-sigint", "save", "--save", ""]
        server.restart()
        fill(server)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
        assert (server.directory / "dump.rdb").exists()


def _busy(server: Server) -> socket.socket:
    client = server.client()
    client.send("EVAL", SLOW, "0")
    wait_for(lambda: server.client().call("PING").startswith(b"-BUSY"))
    return client.sock


def test_half_a_script_is_not_logged_when_the_server_ends() -> None:
    options = {**LOGGING, "appendfsync": "always", "busy-reply-threshold": "50"}
    with servers.running("kvstore", options=options) as server:
        with server.client() as client:
            client.call("SET", "before", "1")
        sock = _busy(server)
        assert server.stop() == 0
        sock.close()
        server.restart()
        with server.client() as client:
            assert client.call("KEYS", "*") == b"*1\r\n$6\r\nbefore\r\n"


def test_half_a_script_is_not_saved_by_shutdown_nosave() -> None:
    with servers.running("kvstore", options={**SAVING, "busy-reply-threshold": "50"}) as server:
        sock = _busy(server)
        with server.client() as client:
            assert client.call("SHUTDOWN").startswith(b"-BUSY")
            client.send("SHUTDOWN", "NOSAVE")
            assert client.at_end()
        assert server.process.wait(10) == 0
        sock.close()
        assert not (server.directory / "dump.rdb").exists()


# -- under load ----------------------------------------------------------------------------------------------


def test_a_snapshot_under_load_has_the_data_of_its_beginning() -> None:
    with (
        servers.running("kvstore", options={"enable-debug-command": "yes"}) as server,
        server.client() as client,
    ):
        client.call("DEBUG", "POPULATE", "100000")
        assert client.call("BGSAVE") == b"+Background saving started\r\n"
        assert figure(server, "rdb_bgsave_in_progress") == "1"
        assert figure(server, "current_save_keys_total") == "100000"
        assert client.call("BGSAVE") == b"-ERR Background save already in progress\r\n"
        assert client.call("BGREWRITEAOF") == b"+Background append only file rewriting scheduled\r\n"
        changed = 0
        while figure(server, "rdb_bgsave_in_progress") == "1":
            client.call("SET", f"key:{changed}", "changed")
            changed += 1
        assert changed > 10  # served in the middle of it
        assert figure(server, "rdb_last_bgsave_status") == "ok"
        wait_for(lambda: figure(server, "aof_rewrites") == "1")
        server.kill()
        server.restart()
        assert client_call(server, "DBSIZE") == b":100000\r\n"
        assert client_call(server, "GET", "key:0") == b"$7\r\nvalue:0\r\n"


def client_call(server: Server, *words: str) -> bytes:
    with server.client() as client:
        return client.call(*words)


def test_a_save_point_that_is_reached_begins_a_snapshot() -> None:
    with servers.running("kvstore", options={"save": "1 3"}) as server, server.client() as client:
        for number in range(3):
            client.call("SET", str(number), "v")
        wait_for(lambda: (server.directory / "dump.rdb").exists())
        wait_for(lambda: figure(server, "rdb_changes_since_last_save") == "0")


def test_a_long_load_is_told_to_clients() -> None:
    options = {**SAVING, "requirepass": ""}
    with servers.running("kvstore", options=options) as server:
        with server.client() as client:
            client.call("DEBUG", "POPULATE", "300000")
        server.stop()
        (server.directory / "s").unlink(missing_ok=True)
        server.restart(wait=False)
        seen: list[bytes] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                with server.client() as client:
                    seen.append(client.call("PING"))
                    if seen[-1].startswith(b"-LOADING"):
                        assert client.call("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
                        assert client.call("CONFIG", "SET", "appendonly", "yes").startswith(
                            (b"-LOADING", b"+OK")
                        )
                        assert b"loading:" in client.call("INFO", "persistence")
                        assert client.call("MULTI") == b"+OK\r\n"
            except OSError:
                time.sleep(0.002)
            if seen and seen[-1] == b"+PONG\r\n":
                break
        assert seen[0] == b"-LOADING Redis is loading the dataset in memory\r\n"
        assert client_call(server, "DBSIZE") == b":300000\r\n"


# One pipeline to a server that loads.
WHILE_LOADING = [
    *(("PING",), ("GET", "a"), ("GET",), ("NOPE",), ("SUBSCRIBE", "a"), ("UNSUBSCRIBE", "a"), ("WATCH", "a")),
    *(
        ("MULTI",),
        ("GET", "a"),
        ("EXEC",),
        ("MULTI",),
        ("LASTSAVE", "x"),
        ("EXEC",),
        ("MULTI",),
        ("DISCARD",),
    ),
    *(("EVAL", "return 1", "0"), ("SCRIPT", "KILL"), ("SAVE",), ("BGSAVE",), ("BGREWRITEAOF",)),
    *(("CONFIG", "SET", "appendonly", "yes"), ("CONFIG", "SET", "dir", "/"), ("CONFIG", "GET", "maxmemory")),
    *(("SELECT", "1"), ("COMMAND", "DOCS", "x"), ("WAIT", "0", "0"), ("PUBLISH", "a", "b")),
    *(("CONFIG", "SET", "maxmemory", "0"), ("ROLE",), ("FLUSHALL",), ("SHUTDOWN", "ABORT")),
]


def _while_loading(kind: str, keys: int, options: dict[str, str]) -> list[bytes]:
    require(kind)
    with servers.running(kind, options={**SAVING, **options}) as server:
        assert client_call(server, "DEBUG", "POPULATE", str(keys)) == b"+OK\r\n"
        assert client_call(server, "SAVE") == b"+OK\r\n"
        server.kill()
        (server.directory / "s").unlink(missing_ok=True)
        server.restart(wait=False)
        wait_for(lambda: (server.directory / "s").exists())
        while True:
            try:
                with server.client() as client:
                    return client.pipeline(*WHILE_LOADING)
            except OSError:
                time.sleep(0.002)


def test_commands_are_refused_while_loading_as_on_a_real_server() -> None:
    slowly = {"key-load-delay": "100", "loading-process-events-interval-bytes": "1024"}
    ours = _while_loading("kvstore", 300_000, {})
    theirs = _while_loading("valkey", 30_000, slowly)
    for words, got, wanted in zip(WHILE_LOADING, ours, theirs, strict=True):
        assert got == wanted.replace(b"Valkey", b"Redis"), words


def test_a_load_goes_on_wherever_its_windows_end(tmp_path: Path) -> None:
    path = tmp_path / "big.rdb"
    for shift in range(24):  # a record takes as many bytes
        written: list[bytes] = []
        writer = RdbWriter(
            written.append, target=Target.PORTABLE, compress=False, checksum=True, aux={b"x": b"x" * shift}
        )
        writer.begin()
        for number in range(60_000):
            writer.entry(0, b"k%08d" % number, b"v" * 10, None)
        writer.end()
        path.write_bytes(b"".join(written))
        ctx, before = Context(Database), -1
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for offset in load_rdb(ctx, content, path=str(path), now_ms=None):
                assert offset > before
                before = offset
        assert len(ctx.database(0)._data) == 60_000


def test_a_server_may_be_stopped_while_it_loads() -> None:
    with servers.running("kvstore", options=SAVING) as server:
        with server.client() as client:
            client.call("DEBUG", "POPULATE", "300000")
        server.stop()
        size = (server.directory / "dump.rdb").stat().st_size
        (server.directory / "s").unlink(missing_ok=True)
        server.restart(wait=False)
        wait_for(lambda: (server.directory / "s").exists())
        assert server.stop() == 0
        assert (server.directory / "dump.rdb").stat().st_size == size


# -- a disk that is full -------------------------------------------------------------------------------------


def _limit_files(server: Server, size: int) -> None:
    """Let no file of the server grow beyond that."""
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _increment(server: Server) -> int:
    return sum(path.stat().st_size for path in (server.directory / "appendonlydir").glob("*.incr.aof"))


def test_writes_are_refused_while_the_log_cannot_be_written_and_lost_none() -> None:
    with servers.running("kvstore", options=LOGGING) as server, server.client() as client:
        client.call("SET", "before", "1")
        wait_for(lambda: _increment(server) > 0)
        _limit_files(server, _increment(server))
        assert client.call("SET", "meanwhile", "1") == b"+OK\r\n"  # everysec: it may be lost for a second
        wait_for(
            lambda: client.call("SET", "x", "1").startswith(
                b"-MISCONF Errors writing to the AOF file: File too large\r\n"
            )
        )
        assert client.call("PING").startswith(b"-MISCONF")
        assert client.call("GET", "before") == b"$1\r\n1\r\n"
        assert figure(server, "aof_last_write_status") == "err"
        _limit_files(server, resource.RLIM_INFINITY)
        wait_for(lambda: client.call("SET", "after", "1") == b"+OK\r\n")
        assert figure(server, "aof_last_write_status") == "ok"
        assert client.call("WAITAOF", "1", "0", "0") == b"*2\r\n:1\r\n:0\r\n"
        server.kill()
        server.restart()
        assert client_call(server, "MGET", "before", "meanwhile", "after") == b"*3\r\n" + b"$1\r\n1\r\n" * 3


def test_under_always_nobody_is_told_what_is_not_on_the_disk() -> None:
    options = {**LOGGING, "appendfsync": "always"}
    with servers.running("kvstore", options=options) as server, server.client() as other:
        other.call("SET", "before", "1")
        _limit_files(server, _increment(server))
        with server.client() as client:
            client.send("SET", "lost", "1")
            assert client.at_end()
        assert other.call("SET", "x", "1").startswith(
            b"-MISCONF Errors writing to the AOF file: File too large\r\n"
        )
        _limit_files(server, resource.RLIM_INFINITY)
        wait_for(lambda: other.call("SET", "after", "1") == b"+OK\r\n")
        server.kill()
        server.restart()
        assert client_call(server, "MGET", "before", "after") == b"*2\r\n" + b"$1\r\n1\r\n" * 2


def test_a_call_of_a_program_hears_that_its_write_is_not_logged(tmp_path: Path) -> None:
    with kvstore.serve(unix=tmp_path / "s", dir=tmp_path, appendonly=True, appendfsync="always") as server:
        assert server.call(lambda store: store.set("before", "1"))
        hooks = server._server.loop.before_send
        server._server.loop.call_soon_threadsafe(lambda: hooks.append(lambda: False))
        with pytest.raises(PersistenceError):
            server.call(lambda store: store.set("a", "1"))


# -- real servers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"save": "3600 1"}, {"appendonly": "yes", "appendfsync": "always"}])
@pytest.mark.parametrize(("ours_first", "kind"), [(True, "redis"), (False, "redis"), (True, "valkey")])
def test_files_go_to_real_servers_and_back(options: dict[str, str], ours_first: bool, kind: str) -> None:
    require(kind)
    first, second = ("kvstore", kind) if ours_first else (kind, "kvstore")
    with servers.running(first, options=options) as one:
        fill(one)
        before = digest(one)
        one.stop()
        with servers.running(second, options=options) as other:
            other.stop()
            for name in ("dump.rdb", "appendonlydir"):
                _replace(one.directory / name, other.directory / name)
            other.restart()
            assert digest(other) == before


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        shutil.copy(source, target)


@pytest.mark.parametrize("how", ["RELOAD NOSAVE", "LOADAOF"])
def test_a_file_that_cannot_be_read_back_leaves_the_data_as_it_was(how: str) -> None:
    options = {**SAVING, **LOGGING} if how == "LOADAOF" else SAVING
    with servers.running("kvstore", options=options) as server, server.client() as client:
        fill(server)
        before = digest(server)
        assert client.call("SAVE") == b"+OK\r\n"
        if how == "LOADAOF":
            path = max((server.directory / "appendonlydir").glob("*.incr.aof"))
            wait_for(lambda: path.stat().st_size > 200)
            damaged = path.read_bytes().replace(b"RPUSH", b"RPOSH")
        else:
            path = server.directory / "dump.rdb"
            damaged = path.read_bytes()[:-20] + bytes(20)
        path.write_bytes(damaged)
        assert client.call("DEBUG", *how.split()).startswith(b"-ERR ")
        assert digest(server) == before
        assert path.read_bytes() == damaged


def test_a_log_written_once_by_a_server_that_keeps_none_is_free_for_others() -> None:
    with servers.running("kvstore", options=SAVING) as server, server.client() as client:
        fill(server)
        assert client.call("BGREWRITEAOF").startswith(b"+Background append only file rewriting started")
        wait_for(lambda: figure(server, "aof_rewrites") == "1")
        with kvstore.open(server.directory) as store:
            assert store.get("s") == b"v"
            assert store.database(3).get("elsewhere") == b"1"


def test_a_rewrite_is_under_way_while_what_came_before_it_is_synced() -> None:
    with servers.running("kvstore", options=LOGGING) as server, server.client() as client:
        for number in range(20):
            client.call("SET", "before", str(number))
            assert client.call("BGREWRITEAOF").startswith(b"+Background append only file rewriting started")
            client.call("SET", "after", str(number))
            assert client.call("BGREWRITEAOF") in (
                b"-ERR Background append only file rewriting already in progress\r\n",
                b"+Background append only file rewriting started\r\n",
            )
            wait_for(lambda: figure(server, "aof_rewrite_in_progress") == "0")
            assert figure(server, "aof_last_bgrewrite_status") == "ok"
            assert figure(server, "aof_rewrite_scheduled") == "0"
        server.kill()
        server.restart()
        assert client_call(server, "MGET", "before", "after") == b"*2\r\n" + b"$2\r\n19\r\n" * 2


# -- in a program ----------------------------------------------------------------------------------------------


def test_a_server_in_a_program_keeps_its_data_where_it_is_told_to(tmp_path: Path) -> None:
    for run in range(3):
        with kvstore.serve(
            unix=tmp_path / "s", dir=tmp_path, appendonly=True, appendfsync="always"
        ) as server:
            assert server.call(lambda store: store.incr("runs")) == run + 1
            with redis.Redis.from_url(server.url) as client:
                assert client.get("runs") == b"%d" % (run + 1)


def test_a_server_in_a_program_says_that_it_could_not_save_at_its_end(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    server = kvstore.serve(unix=tmp_path / "s", dir=place, save="3600 1").start()
    server.call(lambda store: store.set("a", "1"))
    place.rename(tmp_path / "elsewhere")
    with pytest.raises(PersistenceError, match=r"dump\.rdb"):
        server.close()
    assert not server.is_running
    server.close()
    assert server.store.get("a") == b"1"


def test_two_servers_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        kvstore.serve(unix=tmp_path / "s", dir=tmp_path, appendonly=True),
        pytest.raises(PersistenceError, match="pid"),
    ):
        kvstore.serve(unix=tmp_path / "t", dir=tmp_path, appendonly=True)


def test_a_store_with_data_is_not_mixed_with_files(tmp_path: Path) -> None:
    with kvstore.serve(unix=tmp_path / "s", dir=tmp_path, save="3600 1") as server:
        server.call(lambda store: store.set("a", "1"))
    store = kvstore.Store(check_same_thread=False)
    store.set("b", "1")
    with pytest.raises(kvstore.StoreError, match="has data already"):
        kvstore.serve(unix=tmp_path / "s", dir=tmp_path, save="3600 1", store=store)


def test_what_comes_in_one_turn_with_shutdown_is_kept_or_not_acknowledged(tmp_path: Path) -> None:
    for always in (False, True):
        config = Config()
        config.assign("dir", tmp_path)
        config.assign("save", "" if always else "3600 1")
        config.assign("appendonly", always)
        config.assign("appendfsync", "always")
        server = net.Server(config=config)
        for _ in Keeper(server).load():
            pass
        server.listen_unix(str(tmp_path / "s"))
        clients = [RawClient(str(tmp_path / "s")) for _ in range(6)]
        for _ in range(3):
            server.loop.turn(0.01)
        for number, client in enumerate(clients):
            client.send("SHUTDOWN") if number == 3 else client.send("SET", f"{always}:{number}", "1")
        server.loop.turn(1)
        server.close()
        told = []
        for number, client in enumerate(clients):
            try:
                assert client.read_reply_bytes() == b"+OK\r\n"
            except OSError:
                continue
            except EOFError:
                continue
            told.append(f"{always}:{number}".encode())
        again = Keeper(net.Server(config=config))
        for _ in again.load():
            pass
        data = again.files.ctx.database(0)._data
        again.close(False)
        assert told and all(key in data for key in told)
        assert len(told) < 6
