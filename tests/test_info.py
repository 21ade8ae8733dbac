"""INFO: its sections, the fields that clients and operators read, and that their figures are true."""

from __future__ import annotations

import time

import pytest

from kvstore import ManualClock, ResponseError, Store
from tests.rawclient import encode, parse
from tests.servers import Server
from tests.waiting import until

SECTIONS = (
    "Server Clients Memory Persistence Stats Replication CPU Modules Commandstats Errorstats Latencystats "
    "Cluster Keyspace"
).split()
# Fields of 7.2 that say nothing here: replication links, forks, the other allocator, and their like.
ELSEWHERE = {"gcc_version", "atomicvar_api", "server_mode", "server_name"}


def sections(server: Server, *words: str) -> dict[str, dict[str, str]]:
    """The fields by section."""
    with server.client() as client:
        return _sections(parse(client.call("INFO", *words)).text.decode())


def _sections(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for part in text.split("\r\n\r\n"):
        title, *lines = part.strip().split("\r\n")
        if title:
            found[title.removeprefix("# ")] = dict(line.split(":", 1) for line in lines)
    return found


def fields(server: Server, *words: str) -> dict[str, str]:
    return {name: value for section in sections(server, *words).values() for name, value in section.items()}


@pytest.mark.parametrize(
    "words",
    [(), ("all",), ("everything",), ("default",), ("SERVER",), ("clients", "cluster"), ("nosuch",), ("nosuch", "cpu"),
     ("default", "commandstats"), ("keyspace", "modules", "errorstats")],
    ids=lambda words: " ".join(words) or "nothing",
)  # fmt: skip
def test_the_same_sections_are_told_as_on_a_real_server(
    words: tuple[str, ...], kvstore_server: Server, valkey_server: Server
) -> None:
    assert list(sections(kvstore_server, *words)) == list(sections(valkey_server, *words))


def test_every_section_there_is_can_be_asked_for(kvstore_server: Server) -> None:
    assert list(sections(kvstore_server, "everything")) == SECTIONS
    for name in SECTIONS:
        assert list(sections(kvstore_server, name.lower())) == [name]


def test_every_field_of_an_older_server_is_there(kvstore_server: Server, redis_server: Server) -> None:
    ours, theirs = sections(kvstore_server, "default"), sections(redis_server, "default")
    for title, wanted in theirs.items():
        if title not in ("Errorstats", "Keyspace"):
            assert wanted.keys() - ours[title].keys() - ELSEWHERE == set(), title


def test_numbers_have_the_form_that_they_have_on_a_real_server(
    kvstore_server: Server, redis_server: Server
) -> None:
    def form(value: str) -> str:
        """What a program can make of it."""
        for kind in (int, float):
            try:
                kind(value)
            except ValueError:
                continue
            return kind.__name__
        return "percent" if value.endswith("%") else "text"

    ours, theirs = fields(kvstore_server, "default"), fields(redis_server, "default")
    both = ours.keys() & theirs.keys() - {"redis_build_id", "redis_git_sha1"}
    assert {name: form(ours[name]) for name in both} == {name: form(theirs[name]) for name in both}


def test_it_is_a_verbatim_string_under_resp3(any_server: Server) -> None:
    with any_server.client() as client:
        client.hello3()
        assert client.call("INFO", "server").startswith(b"=")


def test_clients_find_what_they_read_at_their_start(kvstore_server: Server) -> None:
    found = fields(kvstore_server)
    assert found["redis_version"].startswith("7.4.")
    assert found["redis_mode"] == "standalone"
    assert found["arch_bits"] == "64"
    assert found["cluster_enabled"] == "0"
    assert found["maxmemory_policy"] == "noeviction"
    assert found["role"] == "master"
    assert found["loading"] == "0"
    assert found["tcp_port"] == str(kvstore_server.port)
    assert found["process_id"] == str(kvstore_server.process.pid)
    assert "kvstore_version" in found
    assert len(found["run_id"]) == 40
    assert abs(int(found["server_time_usec"]) / 1e6 - time.time()) < 60


# What monitoring agents read, beside the fields that redis-server 7.0 has: those that 7.2 added.
OF_7_2 = {
    "Server": "io_threads_active",
    "Clients": "pubsub_clients watching_clients total_watched_keys total_blocking_keys total_blocking_keys_on_nokey",
    "Persistence": "rdb_saves aof_rewrites",
    "Stats": "eventloop_cycles eventloop_duration_sum eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec"
    " instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd acl_access_denied_key"
    " acl_access_denied_channel evicted_clients client_query_buffer_limit_disconnections"
    " client_output_buffer_limit_disconnections",
}


def test_agents_find_what_they_read_of_7_2(kvstore_server: Server) -> None:
    found = sections(kvstore_server, "all")
    for section, names in OF_7_2.items():
        for name in names.split():
            assert float(found[section][name]) >= 0, name


def test_the_loop_says_how_long_it_is_at_work(kvstore_server: Server) -> None:
    names = ("eventloop_cycles", "eventloop_duration_sum", "eventloop_duration_cmd_sum")
    with kvstore_server.client() as client:
        client.call("CONFIG", "RESETSTAT")
        before = fields(kvstore_server, "stats")
        for _ in range(200):
            client.call("KEYS", "*")
        after = fields(kvstore_server, "stats")
    for name in names:
        assert int(after[name]) > int(before[name]), name
    assert int(after["eventloop_duration_sum"]) < 20_000_000


def test_waits_that_end_with_their_key_are_counted_apart(kvstore_server: Server) -> None:
    with kvstore_server.client() as asks, kvstore_server.client() as one, kvstore_server.client() as other:
        asks.call("XGROUP", "CREATE", "stream", "group", "$", "MKSTREAM")
        one.send_bytes(encode("BLPOP", "list", "0"))
        other.send_bytes(encode("XREADGROUP", "GROUP", "group", "me", "BLOCK", "0", "STREAMS", "stream", ">"))
        until(lambda: fields(kvstore_server, "clients")["blocked_clients"] == "2", "two wait")
        found = fields(kvstore_server, "clients")
        assert (found["total_blocking_keys"], found["total_blocking_keys_on_nokey"]) == ("2", "1")


def test_the_keyspace_is_counted(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("FLUSHALL")
        client.call("MSET", "a", "1", "b", "2", "c", "3")
        client.call("PEXPIRE", "a", "1000000")
        client.call("SELECT", "3")
        client.call("SET", "d", "4")
    found = sections(any_server, "keyspace")["Keyspace"]
    assert found.keys() == {"db0", "db3"}
    assert found["db0"].startswith("keys=3,expires=1,avg_ttl=")
    assert found["db3"].startswith("keys=1,expires=0,avg_ttl=0")


def test_the_average_time_to_live_is_that_of_the_deadlines() -> None:
    store = Store(clock=ManualClock())
    store.set("a", "1", px=1000)
    store.set("b", "1", px=3000)
    store.set("c", "1")
    assert b"db0:keys=3,expires=2,avg_ttl=2000,subexpiry=0\r\n" in store.call("INFO", "keyspace")
    for key in ("h", "i"):
        store.hset(key, mapping={"f": 1, "g": 1})
        store.hexpire(key, 10, "f", "g")
    assert b"db0:keys=5,expires=2,avg_ttl=2000,subexpiry=2\r\n" in store.call("INFO", "keyspace")


def test_commands_are_counted(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("CONFIG", "RESETSTAT")
        client.call("SET", "k", "v")
        for _ in range(5):
            client.call("get", "k")
        client.call("LPOP", "k")  # fails
        client.call("GET")  # is rejected
        client.call("CLIENT", "ID")
        client.call("NOSUCH")
        client.call("MULTI")
        client.call("ECHO", "x")
        client.call("GET", "a", "b")  # is rejected
        client.call("EXEC")
        client.call("MULTI")
        client.call("ECHO", "x")
        client.call("ECHO", "x")
        client.call("EXEC")
        client.call("EVAL", "redis.call('append', KEYS[1], 'x')", "1", "k")
        client.call("BLPOP", "nothing", "0.01")
    found = sections(any_server, "commandstats")["Commandstats"]

    def counts(name: str) -> tuple[str, ...]:
        parts = dict(part.split("=") for part in found[f"cmdstat_{name}"].split(","))
        assert list(parts) == ["calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"]
        return parts["calls"], parts["rejected_calls"], parts["failed_calls"]

    assert counts("set") == ("1", "0", "0")
    assert counts("get") == ("5", "2", "0")
    assert counts("lpop") == ("1", "0", "1")
    assert counts("client|id") == ("1", "0", "0")
    assert counts("echo") == ("2", "0", "0")
    assert counts("multi") == ("2", "0", "0")
    assert counts("exec") == ("2", "0", "1")
    assert counts("append") == ("1", "0", "0")
    assert counts("eval") == ("1", "0", "0")
    assert counts("blpop") == ("1", "0", "0")
    assert not any("nosuch" in name for name in found)


def test_errors_are_counted_by_code(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("CONFIG", "RESETSTAT")
        client.call("SET", "k", "v")
        client.call("LPOP", "k")
        client.call("LPOP", "k")
        client.call("NOSUCH")
        client.call("INCR", "k")
        client.call("AUTH", "nosuch", "x")
        client.call("MULTI")
        client.call("GET")
        client.call("EXEC")
        client.call("EVALSHA", "0" * 40, "0")
    found = fields(any_server, "errorstats", "stats")
    errors = {name: value for name, value in found.items() if name.startswith("errorstat_")}
    assert errors == {
        "errorstat_WRONGTYPE": "count=2",
        "errorstat_ERR": "count=3",
        "errorstat_WRONGPASS": "count=1",
        "errorstat_EXECABORT": "count=1",
        "errorstat_NOSCRIPT": "count=1",
    }
    assert found["total_error_replies"] == "8"


def test_latencies_are_told_by_percentile(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("CONFIG", "RESETSTAT")
        for _ in range(20):
            client.call("ECHO", "x")
        client.call("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99.9")
        found = fields(any_server, "latencystats")["latency_percentiles_usec_echo"]
        client.call("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9")
    median, most = (part.split("=") for part in found.split(","))
    assert (median[0], most[0]) == ("p50", "p99.9")
    assert 0 < float(median[1]) <= float(most[1])


def test_clients_are_counted(any_server: Server) -> None:
    before = fields(any_server, "clients", "stats")
    with any_server.client() as one, any_server.client() as two, any_server.client() as three:
        one.send("BLPOP", "nothing", "0")
        two.call("SUBSCRIBE", "x")
        two.call("PSUBSCRIBE", "p")
        three.call("WATCH", "k", "l")
        while (found := fields(any_server, "clients", "stats"))["blocked_clients"] == before[
            "blocked_clients"
        ]:
            pass
        assert int(found["connected_clients"]) == int(before["connected_clients"]) + 3
        assert int(found["total_connections_received"]) >= int(before["total_connections_received"]) + 4
        assert (found["pubsub_channels"], found["pubsub_patterns"]) == ("1", "1")
        if any_server.kind != "redis":
            assert (found["pubsub_clients"], found["watching_clients"]) == ("1", "1")
            assert (found["total_watched_keys"], found["total_blocking_keys"]) == ("2", "1")


def test_hits_misses_and_expired_keys_are_counted(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("FLUSHALL")
        client.call("CONFIG", "RESETSTAT")
        client.call("SET", "k", "v")
        client.call("GET", "k")
        client.call("GET", "nothing")
        client.call("HGET", "nothing", "f")
        client.call("SET", "e", "v", "PX", "1")
        while client.call("EXISTS", "e") != b":0\r\n":
            pass
    found = fields(any_server, "stats")
    assert found["expired_keys"] == "1"
    assert int(found["keyspace_hits"]) >= 1
    assert int(found["keyspace_misses"]) >= 3


def test_bytes_and_calls_grow(any_server: Server) -> None:
    before = fields(any_server, "stats")
    with any_server.client() as client:
        client.call("ECHO", "x" * 10000)
    after = fields(any_server, "stats")
    assert int(after["total_net_input_bytes"]) >= int(before["total_net_input_bytes"]) + 10000
    assert int(after["total_net_output_bytes"]) >= int(before["total_net_output_bytes"]) + 10000
    assert int(after["total_commands_processed"]) >= int(before["total_commands_processed"]) + 2


def test_memory_grows_with_the_data(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("FLUSHALL")
        before = fields(any_server, "memory")
        client.call("SET", "big", "x" * 5_000_000)
        after = fields(any_server, "memory")
        client.call("DEL", "big")
    assert int(after["used_memory"]) >= int(before["used_memory"]) + 5_000_000
    assert int(after["used_memory_peak"]) >= int(after["used_memory"])
    assert after["used_memory_human"].endswith("M")
    assert int(after["used_memory_rss"]) > 0


def test_rates_are_sampled_while_somebody_asks() -> None:
    clock = ManualClock()
    store = Store(clock=clock)
    for _ in range(100):
        store.call("ECHO", "x")
    clock.advance(2)
    first = _sections(store.call("INFO", "stats").decode())["Stats"]
    assert first["instantaneous_ops_per_sec"] == "50"
    for _ in range(30):
        store.call("ECHO", "x")
    clock.advance(1)
    second = _sections(store.call("INFO", "stats").decode())["Stats"]
    assert second["instantaneous_ops_per_sec"] == "31"  # and the first INFO


def test_resetstat_starts_the_counters_anew(any_server: Server) -> None:
    with any_server.client() as client:
        client.call("GET", "nothing")
        client.call("NOSUCH")
        client.call("CONFIG", "RESETSTAT")
        found = _sections(parse(client.call("INFO", "stats", "errorstats", "commandstats")).text.decode())
    assert found["Stats"]["keyspace_misses"] == "0"
    assert found["Stats"]["total_error_replies"] == "0"
    assert found["Stats"]["total_commands_processed"] == "1"
    assert found["Errorstats"] == {}
    assert list(found["Commandstats"]) == ["cmdstat_config|resetstat"]


def test_the_version_kept_is_the_version_told() -> None:
    from tests import servers

    with servers.running("kvstore", options={"compat-version": "7.0"}) as server:
        assert fields(server, "server")["redis_version"].startswith("7.0.")
        with server.client() as client:
            assert client.call("CLIENT", "NO-TOUCH", "on").startswith(b"-ERR unknown subcommand")


def test_codes_that_scripts_make_up_do_not_pile_up() -> None:
    store = Store()
    for number in range(300):
        with pytest.raises(ResponseError):
            store.eval(f"return redis.error_reply('MADE{number} up')", 0)
    assert len(store._hub.errors) <= 128 and store._hub.total_errors == 300
