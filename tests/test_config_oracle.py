"""The configuration beside real servers': names, defaults, every CONFIG SET, rewritten files, fatal errors.

Each known difference stands here with its reason.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.commands.config import Config, ConfigError, parse_args
from kvstore.commands.config.directives import NAMES
from kvstore.errors import ResponseError
from kvstore.resp import encode2, encode_error
from tests import servers
from tests.config_pool import values_for
from tests.conftest import require
from tests.rawclient import RawClient, parse
from tests.servers import Server

OUR_OWN = {"compat-version", "pack-cold-after", "rdb-target"}
# What the test itself gives its servers.
GIVEN = {"dir", "port", "unixsocket"}

# Defaults that Valkey changed after 7.2, whose defaults are ours.
VALKEY_DEFAULTS = {
    "io-threads-do-reads",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
    "replica-lazy-flush",
    "slave-lazy-flush",
    "repl-backlog-size",
    "syslog-ident",
}
# Names that one cannot see here but can see in 7.0: it was hidden later.
HIDDEN_SINCE_7_0 = {"aof-disable-auto-gc"}
# Other names that 7.2 and Valkey gave to old directives; they are always understood.
NEW_ALIASES = {
    "aof-rewrite-cpulist",
    "bgsave-cpulist",
    "bio-cpulist",
    "server-cpulist",
    "primaryauth",
    "primaryuser",
}


@contextlib.contextmanager
def _real(kind: str, **options: str) -> Iterator[Server]:
    require(kind)
    with servers.running(kind, options=options) as server:
        yield server


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    """A server whose configuration these tests may spoil."""
    with _real("valkey", save="3600 1 300 100 60 10000") as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with _real("redis", save="3600 1 300 100 60 10000") as server:
        yield server


def _config_get(client: RawClient, pattern: str) -> dict[str, str]:
    items = parse(client.call("CONFIG", "GET", pattern)).items or ()
    texts = [item.text.decode("utf-8", "surrogateescape") for item in items]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _our_get(config: Config, pattern: bytes = b"*") -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in config.get([pattern]).items()}


def test_names_and_defaults_are_those_of_valkey_8_but_for_the_defaults_it_changed(valkey: Server) -> None:
    with valkey.client() as client:
        theirs = _config_get(client, "*")
    ours = _our_get(Config())
    assert set(ours) - set(theirs) == OUR_OWN
    assert set(theirs) - set(ours) == set()
    different = {name for name in theirs if name not in GIVEN and ours[name] != theirs[name]}
    assert different == VALKEY_DEFAULTS


def test_names_and_defaults_at_compat_version_7_0_are_those_of_redis_7_0(redis: Server) -> None:
    with redis.client() as client:
        theirs = _config_get(client, "*")
    config = Config()
    config.assign("compat-version", "7.0")
    ours = _our_get(config)
    assert set(ours) - set(theirs) == OUR_OWN | NEW_ALIASES
    assert set(theirs) - set(ours) == HIDDEN_SINCE_7_0
    assert {
        name for name in theirs if name in ours and name not in GIVEN and ours[name] != theirs[name]
    } == set()


def test_hidden_directives_answer_to_their_exact_name(valkey: Server) -> None:
    with valkey.client() as client:
        for name, directive in NAMES.items():
            if directive.hidden and name != "lua-enable-deprecated-api":  # Valkey dropped it
                theirs = client.call("CONFIG", "GET", name)
                assert encode2(Config().get([name.encode()])) == theirs, name
                assert _our_get(Config(), f"{name}*".encode()) == _config_get(client, f"{name}*")


@pytest.mark.parametrize(
    "patterns",
    [
        [b"MaxMemory", b"maxmemory", b"MAXMEMORY"],
        [b"Databases", b"*BASES"],
        [b"[d]atabases"],
        [b"nosuch"],
        [b"slaveof", b"slaveof"],
        [b"databases\\*"],
        [b"databases\x00x"],
        [b""],
        [b"daemoni[yz]e"],
        [b"appendonl?"],
    ],
)
def test_config_get_answers_as_valkey(valkey: Server, patterns: list[bytes]) -> None:
    with valkey.client() as client:
        assert encode2(Config().get(patterns)) == client.call("CONFIG", "GET", *patterns)


def _our_set(config: Config, *words: bytes) -> bytes:
    try:
        config.set(words)
    except ResponseError as error:
        return encode_error(str(error).encode("utf-8", "surrogateescape"))
    return b"+OK\r\n"


# Directives that a real server treats differently whatever the value, and why.
OTHERWISE = {
    ("redis", "loglevel"): "7.2 added a level",
    ("valkey", "maxmemory-samples"): "Valkey takes at most 64, 7.2 any number",
    ("valkey", "lua-enable-deprecated-api"): "Valkey dropped it",
}
# (directive, value): why the replies differ.
KNOWN: dict[tuple[str, bytes], str] = {
    ("activedefrag", b"yes"): "accepted, as there is nothing to defragment; Debian's build refuses",
    ("tls-cluster", b"yes"): "accepted and kept; a build asks for certificates at once",
    ("tls-replication", b"yes"): "as tls-cluster",
}
# Directives whose values a real server would act on in earnest, and the ones that harm nobody.
HARMLESS = {
    "port": (b"", b"-1", b"0", b"65536", b"abc"),
    "tls-port": (b"", b"-1", b"0", b"65536", b"abc"),
    "bind": values_for("bind"),  # with port 0 nothing is bound
    "oom-score-adj": (b"no", b"abc", b""),
    "watchdog-period": (b"0", b"-1", b"abc", b""),
    "appendonly": (b"no", b"abc", b"", b"1"),
    "maxclients": (b"", b"abc", b"-1", b"0", b"99", b"100", b"01", b"4294967296"),  # it makes room for all
}


def _mutable() -> list[str]:
    return [
        name
        for name, directive in NAMES.items()
        if not directive.protected and name not in OUR_OWN and directive.since <= (7, 2)
    ]


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_config_set_answers_good_and_bad_values_as_the_real_server(
    kind: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(kind)
    config = Config()
    wrong = []
    with server.client() as client:
        known_there = _config_get(client, "*")
        for name in _mutable():
            if (kind, name) in OTHERWISE or (
                name in OUR_OWN or (kind == "redis" and name not in known_there)
            ):
                continue
            raw = name.encode()
            before, ours_before = client.call("CONFIG", "GET", name), config.get([raw])
            for value in HARMLESS.get(name, values_for(name)):
                if (name, value) in KNOWN:
                    continue
                reply = client.call("CONFIG", "SET", name, value) + client.call("CONFIG", "GET", name)
                ours = _our_set(config, raw, value) + encode2(config.get([raw]))
                if reply != ours and _same_but_for_defaults(name, reply, ours):
                    continue
                if reply != ours:
                    wrong.append((name, value, reply, ours))
            if not NAMES[name].immutable:
                client.call("CONFIG", "SET", name, (parse(before).items or ())[1].text)
                _our_set(config, raw, ours_before[raw])
    assert not wrong, "\n".join(map(repr, wrong[:20]))


def _same_but_for_defaults(name: str, reply: bytes, ours: bytes) -> bool:
    """Refused on both sides with the same words, while the values differ from the start."""
    return (
        (name in VALKEY_DEFAULTS or name in GIVEN)
        and reply.startswith(b"-")
        and reply.split(b"\r\n")[0] == ours.split(b"\r\n")[0]
    )


@pytest.mark.parametrize(
    "words",
    [
        (b"maxmemory", b"1", b"x"),
        (b"maxmemory", b"100mb", b"nosuch", b"1"),
        (b"maxmemory", b"100mb", b"maxmemory", b"200mb"),
        (b"MaxMemory", b"100mb", b"maxMEMORY", b"200mb"),
        (b"slave-priority", b"1", b"replica-priority", b"2"),
        (b"nosuch", b"1", b"daemonize", b"1"),
        (b"daemonize", b"yes", b"nosuch", b"1"),
        (b"DAEMONIZE", b"yes"),
        (b"Dir", b"/tmp"),
        (b"dbfilename", b"x"),
        (b"SLAVE-priority", b"-1"),
        (b"no\r\nsuch", b"1"),
        (b"nosuch\x00name", b"1"),
        (b"maxmemory", b"5mb", b"timeout", b"x", b"hz", b"20"),
        (b"timeout", b"7", b"maxmemory", b"6mb", b"hz", b"30"),
        (b"maxclients", b"0", b"nosuch", b"1"),
    ],
)
def test_config_set_of_several_is_all_or_nothing_as_in_valkey(
    valkey: Server, words: tuple[bytes, ...]
) -> None:
    config = Config()
    names = ("maxmemory", "timeout", "hz", "replica-priority")
    with valkey.client() as client:
        assert client.call("CONFIG", "SET", *words) == _our_set(config, *words)
        for name in names:
            assert client.call("CONFIG", "GET", name) == encode2(config.get([name.encode()])), name
        client.call("CONFIG", "SET", "maxmemory", "0", "timeout", "0", "hz", "10", "replica-priority", "100")


# ------------------------------------------------------------------------------------- rewritten files

LINES = (
    "# a comment",
    "   # an indented comment",
    "",
    "   ",
    "maxmemory 100mb",
    "MAXMEMORY 1048577",
    "  save 900 1",
    "save 300 10 60 1000",
    'save ""',
    "slave-priority 100",
    "replica-priority 7",
    "min-slaves-to-write 0",
    "min-replicas-to-write 3",
    "hash-max-ziplist-entries 512",
    "hash-max-listpack-value 65",
    "client-output-buffer-limit normal 0 0 0",
    "client-output-buffer-limit slave 256mb 64mb 60",
    "client-output-buffer-limit pubsub 1gb 1000 0",
    "list-max-ziplist-entries 512",
    "bind * -::*",
    "bind 127.0.0.1 -::1",
    'bind ""',
    'requirepass ""',
    'requirepass "a \\"b\\" \\x01\\xff"',
    "masterauth secret",
    "loglevel notice",
    "loglevel verbose",
    "appendfilename 'x y.aof'",
    "notify-keyspace-events KEA",
    'notify-keyspace-events ""',
    "latency-tracking-info-percentiles 50 99 99.9",
    'latency-tracking-info-percentiles ""',
    "oom-score-adj-values 1 2 3",
    "maxmemory-clients 5%",
    "unixsocketperm 770",
    "shutdown-on-sigterm save now",
    "shutdown-on-sigint default",
    "tls-cert-file ''",
    "logfile ''",
    "syslog-ident ''",
    "replicaof 127.0.0.1 1",
    "slaveof no one",
    "rename-command DEBUG DBG",
    "proto-max-bulk-len 1gb",
    "timeout 30",
    "timeout 0",
    "repl-backlog-size 3mb",
    "hz 1000",
    "enable-debug-command local",
    "# Generated by CONFIG REWRITE",
)
CHANGES: tuple[tuple[str, str], ...] = (
    ("maxmemory", "123456789"),
    ("maxmemory", "0"),
    ("save", ""),
    ("save", "5 5"),
    ("loglevel", "warning"),
    ("notify-keyspace-events", "Kx"),
    ("repl-backlog-size", "1gb"),
    ("latency-tracking-info-percentiles", "1 2.5"),
    ("client-output-buffer-limit", "pubsub 1mb 0 3"),
    ("shutdown-on-sigterm", "nosave force"),
    ("cluster-announce-ip", 'a"b\n'),
    ("maxmemory-clients", "1024"),
    ("slave-priority", "3"),
)
USER = b"default on nopass sanitize-payload ~* &* +@all"


@contextlib.contextmanager
def _started(program: str, *args: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [program, *args], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)


def _connect(path: Path, process: subprocess.Popen[bytes]) -> RawClient:
    deadline = time.monotonic() + servers.START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return RawClient(str(path))
        time.sleep(0.01)
    raise AssertionError("the server did not start")


def _split_generated(text: bytes) -> tuple[list[bytes], set[bytes]]:
    """The lines that stand where they stood, and those appended, whose order is a hash table's."""
    head, mark, tail = text.partition(b"# Generated by CONFIG REWRITE\n")
    return (head + mark).split(b"\n"), set(tail.split(b"\n"))


@pytest.mark.parametrize("seed", range(6))
def test_rewritten_files_are_valkeys(seed: int, tmp_path: Path) -> None:
    require("valkey")
    print("seed", seed)
    rng = random.Random(seed)
    lines = [
        "port 0",
        "repl-backlog-size 2mb",
        'locale-collate "C"',
        "io-threads-do-reads yes",
        "unixsocket s",
    ]
    lines += [f"{name} yes" for name in VALKEY_DEFAULTS if name.startswith("lazyfree")]
    lines += ["slave-lazy-flush yes", "syslog-ident us"]
    body = rng.choices(LINES, k=25)
    once = "rename-command DEBUG DBG"  # a second time there is no such command
    body = [line for at, line in enumerate(body) if line != once or once not in body[:at]]
    rng.shuffle(lines)
    text = "\n".join(lines[:5] + body + lines[5:]) + rng.choice(["", "\n", "\n\n"])
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for directory in (theirs, ours):
        directory.mkdir()
        (directory / "t.conf").write_text(text)
    changes = rng.sample(CHANGES, k=rng.randrange(5))
    config = Config()
    config.values["dir"] = str(ours)
    config.load(parse_args([str(ours / "t.conf")]))
    program = servers.binary("valkey")
    assert program is not None
    with _started(program, "t.conf", cwd=theirs) as process, _connect(theirs / "s", process) as client:
        password = config["requirepass"]
        if password:
            client.call("AUTH", password.encode("utf-8", "surrogateescape"))
        for _ in range(2):
            assert client.call("CONFIG", "REWRITE") == b"+OK\r\n"
            config.rewrite([_user_line(config)])
            expected = (theirs / "t.conf").read_bytes().replace(bytes(theirs), bytes(ours))
            expected = expected.replace(
                b"primaryauth", b"masterauth"
            )  # Valkey's name; Redis knows only the other
            assert _split_generated((ours / "t.conf").read_bytes()) == _split_generated(expected)
            for name, value in changes:
                reply = client.call("CONFIG", "SET", name, value)
                assert reply == _our_set(config, name.encode(), value.encode())


def _user_line(config: Config) -> bytes:
    """What access control would say of the default user with this password."""
    import hashlib

    password = config["requirepass"].encode("utf-8", "surrogateescape")
    if not password:
        return USER
    return (
        USER.replace(b"nopass", b"")
        .replace(b"on ", b"on")
        .replace(b"sanitize-payload", b"sanitize-payload #" + hashlib.sha256(password).hexdigest().encode())
    )


# ---------------------------------------------------------------------------------------- fatal errors

FILES = (
    "zzz 1",
    'foo "bar',
    "port 1 2",
    "port",
    "port ''",
    "''",
    "notify-keyspace-events",
    "shutdown-on-sigterm",
    "shutdown-on-sigterm '  '",
    "oom-score-adj-values",
    "oom-score-adj-values '  1   2 3 '\nzzz",
    "client-output-buffer-limit ''",
    "client-output-buffer-limit ' '\nzzz",
    "replicaof 1.1.1.1",
    "save '' ''",
    "save 5 5 ''",
    "save '900  1'\nsave '\"'\nsave\nzzz",
    "unixsocketperm 1000",
    "unixsocketperm 8",
    "unixsocketperm ' 7'\nunixsocketperm +7\nunixsocketperm 0777\nzzz",
    "sentinel a",
    "include",
    "include a b",
    "include /nonexistent/*.conf\nzzz",
    "rename-command",
    "list-max-ziplist-value",
    "list-max-ziplist-value 1\nlua-replicate-commands no\nlist-max-ziplist-entries 1 2",
    "user",
    "loadmodule",
    "port 6379\x00\nmore",
    "maxmemory 1 \x00x\nzzz",
    "dir ''",
    "dir /nonexistent",
    "dir /etc/passwd",
    "dbfilename a/b",
    "dbfilename ''",
    "appenddirname a/b",
    "cluster-config-file ''",
    "io-threads 129",
    "databases 0",
    "supervised x",
    "syslog-facility local8",
    "enable-debug-command maybe",
    "latency-tracking-info-percentiles '1 \"2'\nlatency-tracking-info-percentiles 101",
    "\tport\t7\t\r\n\v\nzzz",
    "port\v7",
    'port "7"x',
    "port '7'\"\"",
    'port 6"3"\nport \'6\'\nloglevel no"tice"\nzzz \'a\\\'b\\n\' "\\x41\\q\\"" c',
    "port 7 # no comment here",
)
COMMAND_LINES: tuple[tuple[str, ...], ...] = (
    ("--port", "0", "--zzz", "1"),
    ("--port", "0", "--save", "--zzz", "1"),
    ("--port", "0", "--zzz", "1", "--save"),
    ("--save", "900", "1", "--zzz"),
    ("--save", "900 1", "--zzz"),
    ("--save", "", "--zzz"),
    ("--SAVE", "--zzz"),
    ("--port", "--zzz", "1"),
    ("--port", "0", "-x", "--zzz", "1"),
    ("--port 0", "--zzz"),
    ("--port 0", "5", "--zzz"),
    ("--port '", "--zzz"),
    ("--PORT", "x"),
    ("--requirepass", "--zzz", "1", "--yyy"),
    ("--slaveof", "no", "one", "--zzz"),
    ("--notify-keyspace-events", "", "--zzz"),
    ("--port", "0", "--zzz", 'a"b\\\n'),
    ("--", "--zzz", "x", "--yyy"),
    ("--bind", "1.1.1.1", "-", "--zzz"),
    ("-x",),
    ("--zzz", "\udcff"),
    ("--include", "nonexistent.conf"),
    ("--unixsocket", "s", "--unixsocketperm", "9"),
    ("ok.conf", "b", "--zzz"),
    ("ok.conf", "--zzz"),
    ("ok.conf", "--zzz", "1", "-"),
    ("nonexistent.conf", "--zzz"),
)


def _complaint(text: str) -> str:
    """What was written of a fatal error, without the version, the process id and the time."""
    lines = [line for line in text.splitlines() if line.strip() and "Reading config from stdin" not in line]
    if lines and "Fatal error" in lines[-1]:
        return lines[-1][lines[-1].index("Fatal error") :]
    return "\n".join(lines[1:]) if lines and "FATAL" in lines[0] else text


def _their_complaint(program: str, args: tuple[str, ...], cwd: Path) -> str:
    done = subprocess.run(
        [program, *args], cwd=cwd, capture_output=True, timeout=30, input=b"timeout 5\nyyy 6"
    )
    output = (done.stderr or done.stdout).decode("utf-8", "surrogateescape")
    return _complaint(output).replace("primary port", "master port")


def _our_complaint(args: tuple[str, ...], cwd: Path) -> str:
    config = Config()
    config.values["dir"] = str(cwd)
    line = parse_args([str(cwd / args[0]) if not args[0].startswith("-") else args[0], *args[1:]])
    with pytest.raises(ConfigError) as error:
        config.load(line, lambda: b"timeout 5\nyyy 6")
    return _complaint(str(error.value)).replace(f"'{cwd}/nonexistent.conf'", "'nonexistent.conf'")


@pytest.mark.parametrize("text", FILES)
def test_a_bad_file_is_fatal_with_valkeys_words(text: str, tmp_path: Path) -> None:
    require("valkey")
    program = servers.binary("valkey")
    assert program is not None
    (tmp_path / "x.conf").write_text("# first line\n" + text + "\nlast-line\n")
    assert _our_complaint(("x.conf",), tmp_path) == _their_complaint(program, ("x.conf",), tmp_path)


@pytest.mark.parametrize("args", COMMAND_LINES)
def test_a_bad_command_line_is_fatal_with_valkeys_words(args: tuple[str, ...], tmp_path: Path) -> None:
    require("valkey")
    program = servers.binary("valkey")
    assert program is not None
    (tmp_path / "ok.conf").write_text("port 0\n")
    theirs = _their_complaint(program, args, tmp_path).replace(
        f"'{tmp_path}/nonexistent.conf'", "'nonexistent.conf'"
    )
    assert _our_complaint(args, tmp_path) == theirs


def test_random_lines_are_split_as_valkey_splits_them(tmp_path: Path) -> None:
    """A wrong number of words shows how many the server saw: fewer, more, or unbalanced quotes."""
    require("valkey")
    program = servers.binary("valkey")
    assert program is not None
    seed = int(os.environ.get("CONFIG_SEED", "1"))
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(60):
        words = "".join(rng.choices("""ab"'\\ \tx41n\v""", k=rng.randrange(1, 12)))
        (tmp_path / "x.conf").write_text(f"proc-title-template {words}\nreplica-announce-ip {words}\nzzz\n")
        assert _our_complaint(("x.conf",), tmp_path) == _their_complaint(program, ("x.conf",), tmp_path), (
            words
        )
