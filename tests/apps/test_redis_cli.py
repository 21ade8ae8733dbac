"""redis-cli and valkey-cli in the modes that operators use: they print of kvstore what they print of a Redis."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apps.programs import Program, require_program, run
from tests.rawclient import encode
from tests.servers import Server

pytestmark = pytest.mark.timeout(60)

Cli = Callable[..., str]


def program(name: str) -> str:
    require_program(name, "valkey-tools" if name == "valkey-cli" else "redis-tools")
    return name


def cli_of(name: str, server: Server) -> Cli:
    """A function that runs the program over the server's Unix socket and returns what it prints."""
    argv = (program(name), "-s", server.unix)

    def cli(*words: str, stdin: str | bytes = b"") -> str:
        return run(*argv, *words, stdin=stdin)

    return cli


@pytest.fixture
def redis_cli(server: Server) -> Cli:
    return cli_of("redis-cli", server)


@pytest.fixture
def data(server: Server) -> None:
    """A few keys of each type, among them a biggest one, which is larger in memory, too."""
    commands: list[tuple[str | int, ...]] = []
    for number in range(30):
        commands.append(("SET", f"str:{number}", "x" * number))
        commands.append(("RPUSH", f"list:{number}", *range(number + 1)))
    commands.append(("SET", "str:biggest", "x" * 5000))
    commands.append(("RPUSH", "list:longest", *range(1000)))
    commands.append(("SADD", "set:small", "a"))
    commands.append(("SADD", "set:largest", *(f"member {number}" for number in range(500))))
    commands.append(("HSET", "hash:small", "f", "v"))
    commands.append(("HSET", "hash:largest", *(f"word {number}" for number in range(800))))
    commands.append(("ZADD", "zset:small", 1, "a"))
    commands.append(("ZADD", "zset:largest", *(f"{number}" for number in range(600))))
    with server.client() as client:
        replies = client.pipeline(*commands)
    assert not [reply for reply in replies if reply.startswith(b"-")]


BIGGEST = {
    "string": ("str:biggest", "5000 bytes"),
    "list": ("list:longest", "1000 items"),
    "set": ("set:largest", "500 members"),
    "hash": ("hash:largest", "400 fields"),
    "zset": ("zset:largest", "300 members"),
}
KEY_COUNT = 68


@pytest.mark.usefixtures("data")
def test_bigkeys_names_the_biggest_key_of_each_type_and_sums_up(redis_cli: Cli) -> None:
    out = redis_cli("--bigkeys")
    for kind, (key, size) in BIGGEST.items():
        assert re.search(rf"Biggest +{kind} found \S*{key}\S* has {size}\n", out), out
    assert f"Sampled {KEY_COUNT} keys in the keyspace!" in out
    assert "31 strings with 5435 bytes (45.59% of keys, avg size 175.32)" in out
    assert "31 lists with 1465 items (45.59% of keys, avg size 47.26)" in out
    assert "2 sets with 501 members (02.94% of keys, avg size 250.50)" in out
    assert "2 hashs with 401 fields (02.94% of keys, avg size 200.50)" in out
    assert "2 zsets with 301 members (02.94% of keys, avg size 150.50)" in out
    assert "0 streams with 0 entries (00.00% of keys, avg size 0.00)" in out


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("options", [("--memkeys",), ("--memkeys-samples", "0")])
def test_memkeys_names_the_key_of_each_type_that_takes_most_memory(
    redis_cli: Cli, options: tuple[str, ...]
) -> None:
    out = redis_cli(*options)
    for kind, (key, _) in BIGGEST.items():
        found = re.search(rf"Biggest +{kind} found \S*{key}\S* has (\d+) bytes\n", out)
        assert found and int(found[1]) > 1000, out
    assert f"Sampled {KEY_COUNT} keys in the keyspace!" in out


def test_hotkeys_names_keys_by_their_use_under_an_lfu_policy(redis_cli: Cli) -> None:
    assert redis_cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu") == "OK\n"
    try:
        redis_cli("MSET", "hot", "1", "cold", "1")
        redis_cli("-r", "500", "GET", "hot")
        out = redis_cli("--hotkeys")
    finally:
        redis_cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "Sampled 2 keys in the keyspace!" in out
    assert re.search(r"hot key found with counter: \d+\tkeyname: \S*hot", out), out


@pytest.mark.usefixtures("data")
def test_scan_prints_every_key_once_and_a_pattern_narrows_it(redis_cli: Cli) -> None:
    everything = redis_cli("--scan").split()
    assert len(everything) == KEY_COUNT
    assert len(set(everything)) == KEY_COUNT
    lists = redis_cli("--scan", "--pattern", "list:1?").split()
    assert sorted(lists) == sorted(f"list:1{digit}" for digit in range(10))
    assert redis_cli("--scan", "--pattern", "nothing*") == ""


def test_pipe_inserts_tens_of_thousands_of_commands(redis_cli: Cli) -> None:
    count = 40_000
    requests = b"".join(
        encode("SET", f"key:{number}", f"value {number}")
        if number % 2
        else encode("RPUSH", f"list:{number % 10}", number)
        for number in range(count)
    )
    out = run_pipe(redis_cli, requests)
    assert f"errors: 0, replies: {count}\n" in out
    assert redis_cli("DBSIZE").strip() == str(count // 2 + 5)
    assert redis_cli("GET", "key:39999") == "value 39999\n"
    assert redis_cli("LLEN", "list:4") == "4000\n"


def run_pipe(redis_cli: Cli, requests: bytes) -> str:
    return redis_cli("--pipe", "--pipe-timeout", "20", stdin=requests)


def test_pipe_takes_inline_commands_and_a_large_value(redis_cli: Cli) -> None:
    large = "y" * 3_000_000
    out = run_pipe(redis_cli, b'SET inline "a b"\r\n' * 2000 + encode("SET", "large", large))
    assert "errors: 0, replies: 2001\n" in out
    assert redis_cli("GET", "inline") == "a b\n"
    assert redis_cli("STRLEN", "large") == "3000000\n"


def test_pipe_counts_and_shows_errors(server: Server) -> None:
    requests = encode("SET", "s", "v") + encode("LPUSH", "s", "v") * 3 + encode("SET", "t", "v")
    argv = (program("redis-cli"), "-s", server.unix, "--pipe")
    with pytest.raises(AssertionError, match="errors: 3, replies: 5"):  # it ends with 1
        run(*argv, stdin=requests)


@pytest.mark.usefixtures("data")
def test_stat_prints_a_line_of_figures_at_each_interval(server: Server, tmp_path: Path) -> None:
    argv = (program("redis-cli"), "-s", server.unix, "--stat", "-i", "0.1")
    with Program(tmp_path, *argv, terminal=True) as stat:
        stat.wait_for("a header and four lines of figures", lambda: len(stat.lines()) >= 6)
        header, columns, *rows = stat.lines()
    assert "data" in header and "load" in header
    assert columns.split() == ["keys", "mem", "clients", "blocked", "requests", "connections"]
    figures = [row.split() for row in rows]
    assert {row[0] for row in figures} == {str(KEY_COUNT)}
    assert all(re.fullmatch(r"[\d.]+[BKMG]", row[1]) and row[1] != "0B" for row in figures)
    assert {(row[2], row[3]) for row in figures} == {("1", "0")}
    requests = [int(row[4]) for row in figures]
    assert requests == sorted(set(requests)), "each INFO is a request more"


def test_monitor_shows_what_another_client_sends(server: Server, redis_cli: Cli, tmp_path: Path) -> None:
    with Program(tmp_path, program("redis-cli"), "-s", server.unix, "MONITOR") as monitor:
        monitor.wait_for_text("OK")
        redis_cli("SET", "key", 'a "quoted" value')
        redis_cli("-n", "3", "INCR", "counter")
        redis_cli("EVAL", "return redis.call('GET', KEYS[1])", "1", "key")
        monitor.wait_for_text('lua] "GET" "key"')
        lines = monitor.lines()
    here = f"unix:{server.unix}"
    expected = [
        f"[0 {here}] " + r'"SET" "key" "a \"quoted\" value"',
        f'[3 {here}] "INCR" "counter"',
        f"[0 {here}] " + r'''"EVAL" "return redis.call('GET', KEYS[1])" "1" "key"''',
        '[0 lua] "GET" "key"',
    ]
    assert lines[0] == "OK"
    assert all(re.match(r"\d+\.\d{6} \[", line) for line in lines[1:]), lines
    # redis-cli itself asks for the database by SELECT.
    shown = [line.split(" ", 1)[1] for line in lines[1:] if '"select"' not in line.lower()]
    assert shown == expected


def test_subscribe_prints_messages_as_they_come(server: Server, redis_cli: Cli, tmp_path: Path) -> None:
    argv = (program("redis-cli"), "-s", server.unix, "PSUBSCRIBE", "news.*")
    with Program(tmp_path, *argv) as subscriber:
        subscriber.wait_for_text("psubscribe\nnews.*\n1\n")
        assert redis_cli("PUBLISH", "news.today", "hello") == "1\n"
        subscriber.wait_for_text("pmessage\nnews.*\nnews.today\nhello\n")


def test_resp3_replies_are_shown_with_their_types(redis_cli: Cli) -> None:
    def resp3(*words: str) -> str:
        return redis_cli("-3", "--no-raw", *words)

    redis_cli("HSET", "hash", "field", "value")
    redis_cli("ZADD", "zset", "1.5", "a", "inf", "b")
    redis_cli("SADD", "set", "only")
    assert resp3("HGETALL", "hash") == '1# "field" => "value"\n'
    assert resp3("SMEMBERS", "set") == '1~ "only"\n'
    assert (
        resp3("ZRANGE", "zset", "0", "-1", "WITHSCORES")
        == '1) 1) "a"\n   2) (double) 1.5\n2) 1) "b"\n   2) (double) inf\n'
    )
    assert resp3("ZSCORE", "zset", "a") == "(double) 1.5\n"
    assert resp3("GET", "missing") == "(nil)\n"
    assert resp3("EVAL", "redis.setresp(3); return true", "0") == "(true)\n"
    assert redis_cli("--json", "HGETALL", "hash") == '{"field":"value"}\n'
    assert redis_cli("-2", "--no-raw", "HGETALL", "hash") == '1) "field"\n2) "value"\n'


def test_latency_samples_pings(redis_cli: Cli) -> None:
    low, high, average, count = redis_cli("--latency", "--raw", "-i", "0.3").split()
    assert int(count) > 0
    assert int(low) <= float(average) <= int(high)


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[\d+m|\r", "", text)


# What the programs' help shows behind a command's name.
SYNTAX = {
    "SET": "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds"
    "|PXAT unix-time-milliseconds|KEEPTTL]",
    "GETEX": "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]",
    "HSET": "key field value [field value ...]",
    "ZADD": "key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]",
    "BLMPOP": "timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]",
    "ZRANGE": "key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
    "CLIENT LIST": "[TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID client-id [client-id ...]]",
    "SHUTDOWN": "[[NOSAVE|SAVE] [NOW] [FORCE]|ABORT]",
    "DEBUG": "subcommand [arg [arg ...]]",
}


@pytest.mark.parametrize("name", ["redis-cli", "valkey-cli"])
def test_help_is_made_of_the_servers_own_command_docs(server: Server, name: str) -> None:
    cli = cli_of(name, server)
    out = _without_colours(cli(stdin="".join(f"help {command}\n" for command in SYNTAX)))
    if server.kind == "kvstore":
        assert re.findall(r"^  ([A-Z ]+) (.*)\n  summary: \w", out, re.M) == list(SYNTAX.items())
    out = _without_colours(cli(stdin="help getex\nhelp @sorted-set\n"))
    assert re.search(r"GETEX key .*\n  summary: \w.*\n  since: 6\.2\.0\n  group: string\n", out), out
    assert re.search(r"ZUNIONSTORE destination .*\n  summary: \w.*\n  since: 2\.0\.0\n", out), out


def test_everyday_forms(redis_cli: Cli, tmp_path: Path) -> None:
    assert redis_cli("PING") == "PONG\n"
    assert redis_cli("-x", "SET", "from stdin", stdin="piped in") == "OK\n"
    assert redis_cli("--no-raw", "GET", "from stdin") == '"piped in"\n'
    assert redis_cli("-r", "3", "INCR", "counter") == "1\n2\n3\n"
    assert redis_cli("-n", "5", "DBSIZE") == "0\n"
    assert redis_cli("--csv", "MGET", "counter", "missing") == '"3",NULL\n'
    script = tmp_path / "add.lua"
    script.write_text("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert redis_cli("--eval", str(script), "counter", ",", "39") == "42\n"
    assert redis_cli(stdin="MULTI\nSET a 1\nINCR a\nEXEC\n") == "OK\nQUEUED\nQUEUED\nOK\n2\n"
    assert "WRONGTYPE Operation against a key" in redis_cli("LPUSH", "counter", "x")


def test_valkey_cli_works_too(server: Server, tmp_path: Path) -> None:
    cli = cli_of("valkey-cli", server)
    assert cli("HSET", "hash", "field", "value") == "1\n"
    assert cli("-3", "--no-raw", "HGETALL", "hash") == '1# "field" => "value"\n'
    assert cli("--scan", "--pattern", "h*") == "hash\n"
    assert "Sampled 1 keys in the keyspace!" in cli("--bigkeys")
    assert "Sampled 1 keys in the keyspace!" in cli("--memkeys")
    assert "errors: 0, replies: 500\n" in cli("--pipe", stdin=encode("INCR", "counter") * 500)
    assert "BLMOVE" in cli(stdin="help @list\n")
    with Program(tmp_path, "valkey-cli", "-s", server.unix, "MONITOR") as monitor:
        monitor.wait_for_text("OK")
        cli("GET", "counter")
        monitor.wait_for_text('"GET" "counter"')


def test_over_tcp_by_url(server: Server) -> None:
    name = program("redis-cli")
    assert run(name, "-u", f"{server.tcp_url}/2", "SET", "key", "value") == "OK\n"
    assert run(name, "-p", str(server.port), "-n", "2", "GET", "key") == "value\n"
