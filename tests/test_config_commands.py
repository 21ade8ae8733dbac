"""CONFIG in a session: replies as a real server's, and what changes when a directive does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.commands.config import Config, ConfigError, parse_args
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2, RESP3, Codec
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from tests import servers
from tests.conftest import require
from tests.rawclient import encode, parse
from tests.servers import Server


def make_hub(*lines: str, clock: ManualClock | None = None) -> Hub:
    config = Config()
    config.load_text("\n".join(lines).encode())
    return Hub(Context(Database, databases=config["databases"], clock=clock), config)


class Client:
    """A session in this process that answers with the bytes of the wire."""

    def __init__(self, hub: Hub, codec: Codec = RESP2):
        self.session = Session(hub, codec)

    def __call__(self, *argv: bytes | str) -> bytes:
        self.session.feed(encode(*argv))
        out = b"".join(self.session.out)
        self.session.out.clear()
        return out


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    require("valkey")
    with servers.running("valkey") as server:
        yield server


@pytest.mark.parametrize("protocol", [2, 3])
def test_config_answers_as_valkey(protocol: int, valkey: Server) -> None:
    ours = Client(make_hub(), RESP2 if protocol == 2 else RESP3)
    with valkey.client() as theirs:
        if protocol == 3:
            theirs.hello3()
        for argv in (
            ("CONFIG",),
            ("CONFIG", "GET"),
            ("CONFIG", "SET"),
            ("CONFIG", "SET", "maxmemory"),
            ("CONFIG", "SET", "maxmemory", "1", "x"),
            ("CONFIG", "SET", "timeout", "7", "tcp-keepalive", "8"),
            ("CONFIG", "SET", "timeout", "0", "tcp-keepalive", "-8"),
            ("CONFIG", "SET", "no\r\nsuch", "1"),
            ("CONFIG", "GET", "timeout"),
            ("config", "get", "Time*"),
            ("CONFIG", "GET", "nosuch"),
            ("CONFIG", "FOO"),
            ("CONFIG", "HELP", "x"),
            ("CONFIG", "RESETSTAT"),
            ("CONFIG", "RESETSTAT", "x"),
            ("CONFIG", "REWRITE"),
            ("CONFIG", "REWRITE", "x"),
        ):
            assert ours(*argv) == theirs.call(*argv), argv
        theirs.call("CONFIG", "SET", "timeout", "0", "tcp-keepalive", "300")


def test_limits_of_the_engine_follow_their_directives() -> None:
    hub = make_hub("set-max-intset-entries 2")
    limits = hub.ctx.limits
    assert (limits.set_max_intset_entries, limits.hash_max_listpack_entries) == (2, 512)
    Client(hub)("CONFIG", "SET", "set-max-intset-entries", "5", "list-max-ziplist-size", "-1")
    assert (limits.set_max_intset_entries, limits.list_max_listpack_size) == (5, -1)


def test_maxmemory_refuses_writes_once_it_is_set_and_no_longer_when_it_is_lifted() -> None:
    client = Client(make_hub())
    assert client("SET", "k", "v" * 1000) == b"+OK\r\n"
    assert client("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"
    assert client("SET", "k", "v").startswith(b"-OOM ")
    assert client("CONFIG", "SET", "maxmemory", "0") == b"+OK\r\n"
    assert client("SET", "k", "v") == b"+OK\r\n"


def test_a_password_is_asked_of_new_clients() -> None:
    hub = make_hub()
    before = Client(hub)
    assert before("CONFIG", "SET", "requirepass", "s\x00x") == b"+OK\r\n"
    assert before("PING") == b"+PONG\r\n"
    after = Client(hub)
    assert after("PING").startswith(b"-NOAUTH")
    assert after("AUTH", "s").startswith(b"-WRONGPASS")
    assert after("AUTH", "s\x00x") == b"+OK\r\n"
    before("CONFIG", "SET", "requirepass", "")
    assert Client(hub)("PING") == b"+PONG\r\n"


def test_keyspace_notifications_follow_the_directive() -> None:
    hub = make_hub()
    listener, writer = Client(hub), Client(hub)
    listener("PSUBSCRIBE", "*")
    writer("SET", "k", "v")
    assert listener.session.out == []
    writer("CONFIG", "SET", "notify-keyspace-events", "K$")
    writer("SET", "k", "v")
    assert b"__keyspace@0__:k" in b"".join(listener.session.out)


def test_the_longest_argument_follows_the_directive_in_clients_that_are_there() -> None:
    client = Client(make_hub())
    client("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    client.session.feed(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
    assert b"invalid bulk length" in b"".join(client.session.out)


def test_resetstat_starts_the_counters_anew_and_goes_on_counting() -> None:
    hub = make_hub()
    client = Client(hub)
    client("GET", "missing")
    client("nosuch")
    assert hub.total_errors and hub.errors and hub.ctx.stats.misses
    client("CONFIG", "RESETSTAT")
    assert (hub.total_errors, hub.errors, hub.ctx.stats.misses) == (0, {}, 0)
    client("GET", "missing")
    calls = {command.full_name: stats.calls for command, stats in hub.stats.items() if stats.calls}
    assert calls == {"get": 1, "config|resetstat": 1}


def test_renamed_commands_answer_to_the_new_name_alone() -> None:
    hub = make_hub('rename-command SET ""', "rename-command get fetch")
    client = Client(hub)
    assert client("SET", "k", "v").startswith(b"-ERR unknown command")
    assert client("GET", "k").startswith(b"-ERR unknown command")
    assert client("FETCH", "k") == b"$-1\r\n"


def test_passwords_stay_hidden_when_commands_are_renamed() -> None:
    hub = make_hub("rename-command auth login", "rename-command config c", "slowlog-log-slower-than 0")
    client = Client(hub)
    client("C", "SET", "requirepass", "secret")
    client("LOGIN", "secret")
    assert [entry.words for entry in hub.slowlog.entries] == [
        [b"LOGIN", b"(redacted)"],
        [b"C", b"SET", b"requirepass", b"(redacted)"],
    ]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["rename-command nosuch x"], "at line 1\n>>> 'rename-command nosuch x'\nNo such command in"),
        (["rename-command get set"], "Target command name already exists"),
        (["rename-command get ''", "rename-command get x"], "at line 2\n"),
    ],
)
def test_a_rename_that_cannot_be_stops_the_start(lines: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_hub(*lines)
    assert text in str(error.value)


def test_databases_and_compat_version_are_those_of_the_file() -> None:
    client = Client(make_hub("databases 3"))
    assert client("SELECT", "2") == b"+OK\r\n"
    assert client("SELECT", "3").startswith(b"-ERR DB index")
    assert make_hub("compat-version 7.0").compat_version == (7, 0, 15)


def test_a_store_without_a_configuration_shows_what_it_was_made_with() -> None:
    ctx = Context(Database, databases=4)
    ctx.evictor.configure(maxmemory=1 << 20, policy="allkeys-lru")
    ctx.limits.hash_max_listpack_entries = 7
    client = Client(Hub(ctx))
    assert ctx.evictor.maxmemory == 1 << 20
    reply = parse(
        client("CONFIG", "GET", "maxmemory", "maxmemory-policy", "databases", "hash-max-listpack-entries")
    )
    shown = [item.text for item in reply.items or ()]
    assert dict(zip(shown[::2], shown[1::2], strict=True)) == {
        b"maxmemory": b"1048576",
        b"maxmemory-policy": b"allkeys-lru",
        b"databases": b"4",
        b"hash-max-listpack-entries": b"7",
    }


def test_rewrite_writes_what_config_set_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("# mine\nmaxmemory 1mb\n")
    config = Config()
    config.load(parse_args([str(path)]))
    client = Client(Hub(Context(Database), config))
    client("CONFIG", "SET", "maxmemory", "2mb", "slowlog-log-slower-than", "-1")
    assert client("CONFIG", "REWRITE") == b"+OK\r\n"
    assert path.read_text().startswith("# mine\nmaxmemory 2mb\n")
    assert "\nslowlog-log-slower-than -1\n" in path.read_text()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("replicaof 127.0.0.1 6379", "'replicaof': this version has no replication"),
    ],
)
def test_what_is_not_there_stops_the_start_rather_than_being_promised(line: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_hub(line)


def test_a_store_in_memory_cannot_turn_on_a_log() -> None:
    client = Client(make_hub())
    assert client("CONFIG", "SET", "appendonly", "yes") == (
        b"-ERR CONFIG SET failed (possibly related to argument 'appendonly') - a store in memory has no files\r\n"
    )
    assert client("CONFIG", "GET", "appendonly") == b"*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"
    assert client("CONFIG", "SET", "appendonly", "no") == b"+OK\r\n"
