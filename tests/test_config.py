"""Config in process: typed values, changes and their callbacks, and that the documentation is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.config import BufferLimit, Config, ConfigError
from kvstore.commands.config.directives import DIRECTIVES, NAMES
from kvstore.commands.config.document import document
from kvstore.commands.config.values import Refused, format_memory, parse_memory, parse_strtoll
from kvstore.errors import ResponseError
from tests.config_pool import COMMON, SPECIAL, values_for


def refusal(config: Config, *words: bytes, **context: bool) -> str:
    with pytest.raises(ResponseError) as error:
        config.set(words, **context)
    return str(error.value)


# ----------------------------------------------------------------------------------------- the values


def test_values_are_plain_python_values() -> None:
    config = Config()
    config.load_text(
        b"maxmemory 100mb\nappendonly yes\nbind 127.0.0.1 -::1\nsave 900 1\nunixsocketperm 770\n"
        b"notify-keyspace-events AK\nshutdown-on-sigterm now force\nmaxmemory-clients 5%\n"
        b"replicaof host 7\nlatency-tracking-info-percentiles 50 99.9\nrequirepass \xff\n"
        b"client-output-buffer-limit replica 1kb 2 3\n"
    )
    assert config["maxmemory"] == 100 << 20
    assert config["appendonly"] is True
    assert config["bind"] == ("127.0.0.1", "-::1")
    assert config["save"] == ((900, 1),)
    assert config["unixsocketperm"] == 0o770
    assert config["notify-keyspace-events"] == frozenset("Kg$lshzxetd")
    assert config["shutdown-on-sigterm"] == ("now", "force")
    assert config["maxmemory-clients"] == -5
    assert config["replicaof"] == ("host", 7)
    assert config["latency-tracking-info-percentiles"] == (50.0, 99.9)
    assert config["requirepass"].encode("utf-8", "surrogateescape") == b"\xff"
    assert config["client-output-buffer-limit"].replica == BufferLimit(1024, 2, 3)
    assert config["client-output-buffer-limit"].normal == BufferLimit(0, 0, 0)
    assert config["maxmemory-policy"] == "noeviction"


def test_only_canonical_names_index_a_config() -> None:
    config = Config()
    assert config["replica-priority"] == 100
    for name in ("slave-priority", "nosuch"):
        with pytest.raises(KeyError):
            config[name]


def test_every_default_is_what_its_kind_makes_of_its_own_text() -> None:
    for name, directive in DIRECTIVES.items():
        if directive.default in ("", None) and name in ("dir", "replicaof"):
            continue  # the working directory; nobody to follow
        words = _words_of(name, directive.kind.show(directive.default))
        assert directive.kind.parse(words, directive.default) == directive.default, name


def _words_of(name: str, value: bytes) -> list[bytes]:
    """As CONFIG SET passes a value to the directive's kind."""
    if not NAMES[name].kind.multi:
        return [value]
    return value.split(b" ") if value else []


def test_no_name_stands_for_two_directives() -> None:
    assert len(NAMES) == sum(1 + len(directive.aliases) for directive in DIRECTIVES.values())
    assert all(name == name.lower() for name in NAMES)


_NAMES_AND_VALUES = st.sampled_from(sorted(NAMES)).flatmap(
    lambda name: st.tuples(
        st.just(name), st.one_of(st.sampled_from(values_for(name)), st.binary(max_size=20))
    )
)


@settings(max_examples=400, deadline=None)
@given(_NAMES_AND_VALUES)
def test_what_config_get_shows_can_be_set_again_and_changes_nothing(pair: tuple[str, bytes]) -> None:
    name, value = pair
    directive = NAMES[name]
    kind = directive.kind
    try:
        new = kind.parse(_words_of(name, value), directive.default)
    except Refused:
        return
    shown = kind.show(new)
    if name in ("replicaof", "slaveof") and not shown:
        shown, new = b"no one", None
    if name == "notify-keyspace-events":  # shows one flag less than it has
        return
    if name != "latency-tracking-info-percentiles":  # shows six decimals
        assert kind.parse(_words_of(name, shown), directive.default) == new
    assert kind.show(kind.parse(_words_of(name, shown), directive.default)) == kind.show(new)


@given(st.integers(0, (1 << 64) - 1))
def test_memory_is_written_so_that_it_reads_back(size: int) -> None:
    assert parse_memory(format_memory(size)) == size


@pytest.mark.parametrize(
    ("word", "value"),
    [(b"", 0), (b" 7", 7), (b"+7", 7), (b"-0", 0), (b"7 ", None), (b"0x7", None), (b"9" * 30, (1 << 63) - 1)],
)
def test_lenient_integers_read_as_c_reads_them(word: bytes, value: int | None) -> None:
    assert parse_strtoll(word) == value


# ----------------------------------------------------------------------------------------- CONFIG GET


def test_get_answers_by_globs_in_any_case_and_leaves_hidden_ones_out() -> None:
    config = Config()
    assert config.get([b"MAXMEMORY-S*"]) == {b"maxmemory-samples": b"5"}
    assert config.get([b"slave-prio*", b"*priority"]) == {
        b"slave-priority": b"100",
        b"replica-priority": b"100",
    }
    assert config.get([b"watchdog-*"]) == {}
    assert config.get([b"watchdog-period"]) == {b"watchdog-period": b"0"}


def test_an_older_compat_version_hides_what_is_newer() -> None:
    config = Config()
    config.assign("compat-version", "7.0")
    assert config.compat == (7, 0)
    assert config["compat-version"] == "7.0.15"
    assert config.get([b"set-max-listpack*"]) == {}
    assert "Unknown option" in refusal(config, b"set-max-listpack-entries", b"1")
    config.load_text(b"set-max-listpack-entries 1")  # a file may say it all the same


def test_a_newer_compat_version_shows_what_is_newer() -> None:
    config = Config()
    assert config.get([b"repl-rdb-channel"]) == {}
    config.assign("compat_version", "8.0")
    assert config.get([b"repl-rdb-channel"]) == {b"repl-rdb-channel": b"no"}
    assert config.get([b"compat-version"]) == {b"compat-version": b"8.0.0"}


@pytest.mark.parametrize("version", ["6.2", "7", "7.1", "7.2.x", "9.9", "", "7.2.4.1"])
def test_an_unknown_compat_version_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=r"compat-version: argument must be one of the versions 7.0, 7.2"):
        Config().assign("compat-version", version)


# ----------------------------------------------------------------------------------------- CONFIG SET


def test_set_changes_all_or_nothing() -> None:
    config = Config()
    before = dict(config.values)
    text = refusal(config, b"maxmemory", b"1mb", b"timeout", b"x")
    assert text == (
        "ERR CONFIG SET failed (possibly related to argument 'timeout') - "
        "argument couldn't be parsed into an integer"
    )
    assert config.values == before
    config.set([b"maxmemory", b"1mb", b"timeout", b"7"])
    assert (config["maxmemory"], config["timeout"]) == (1 << 20, 7)


def test_protected_directives_need_leave() -> None:
    config = Config()
    assert refusal(config, b"dbfilename", b"x", local=True).endswith("can't set protected config")
    config.assign("enable-protected-configs", "local")
    assert refusal(config, b"dbfilename", b"x").endswith("can't set protected config")
    config.set([b"dbfilename", b"x"], local=True)
    config.assign("enable-protected-configs", True)
    config.set([b"dbfilename", b"y"])
    assert config["dbfilename"] == "y"


def test_some_directives_cannot_change_while_a_file_is_loaded() -> None:
    config = Config()
    assert refusal(config, b"appendonly", b"yes", loading=True).startswith("LOADING ")
    config.set([b"timeout", b"1"], loading=True)
    assert refusal(config, b"nosuch", b"1", b"appendonly", b"yes", loading=True).startswith("ERR Unknown")


def test_a_directory_is_absolute_and_the_process_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    here = Path.cwd()
    config = Config()
    assert config["dir"] == str(here.resolve())
    config.load_text(b"dir %b\ndir sub" % str(tmp_path).encode())
    assert config["dir"] == str((tmp_path / "sub").resolve())
    assert Path.cwd() == here


def test_callbacks_run_once_after_all_values_are_set() -> None:
    config = Config()
    seen: list[tuple[int, int]] = []

    def changed() -> None:
        seen.append((config["timeout"], config["tcp-keepalive"]))

    config.on_change("timeout", changed)
    config.on_change("tcp-keepalive", changed)
    config.set([b"timeout", b"7", b"tcp-keepalive", b"8"])
    config.set([b"timeout", b"7"])  # nothing changed
    config.set([b"maxmemory", b"8"])  # not about them
    assert seen == [(7, 8)]


def test_a_certificate_set_to_the_same_path_counts_as_a_change() -> None:
    config = Config()
    calls: list[str] = []
    config.on_change("tls-cert-file", lambda: calls.append("loaded"))
    config.set([b"tls-cert-file", b"a"])
    config.set([b"tls-cert-file", b"a"])
    assert calls == ["loaded", "loaded"]


def test_a_callback_that_refuses_has_the_old_values_back_everywhere() -> None:
    config = Config()
    seen: list[int] = []

    def follows() -> None:
        seen.append(config["timeout"])

    config.on_change("timeout", follows)
    config.on_change("port", lambda: "Unable to listen on this port." if config["port"] == 1 else None)
    text = refusal(config, b"timeout", b"5", b"port", b"1")
    assert text == (
        "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port."
    )
    assert (config["timeout"], config["port"]) == (0, 6379)
    assert seen == [5, 0]


def test_a_callback_under_an_alias_or_an_unknown_name_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Config().on_change("slave-priority", lambda: None)


def test_passwords_are_known_as_sensitive() -> None:
    config = Config()
    assert config.is_sensitive(b"RequirePass") and config.is_sensitive(b"primaryauth")
    assert not config.is_sensitive(b"maxmemory") and not config.is_sensitive(b"\xff")


# ---------------------------------------------------------------------------------------- from Python


def test_assign_takes_python_values_and_may_set_what_is_fixed(tmp_path: Path) -> None:
    config = Config()
    config.assign("databases", 4)
    config.assign("appendonly", True)
    config.assign("unixsocket", tmp_path / "s")
    config.assign("maxmemory", "10mb")
    config.assign("bind", ["127.0.0.1", "-::1"])
    config.assign("save", "")
    config.assign("server_cpulist", "0-1")
    config.assign("slave_priority", b"7")
    assert (config["databases"], config["appendonly"], config["unixsocket"]) == (4, True, str(tmp_path / "s"))
    assert (config["maxmemory"], config["bind"], config["save"]) == (10 << 20, ("127.0.0.1", "-::1"), ())
    assert (config["server_cpulist"], config["replica-priority"]) == ("0-1", 7)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("nosuch", 1, "unknown directive 'nosuch'"),
        ("databases", 0, "databases: argument must be between 1 and 2147483647 inclusive"),
        ("port", [1, 2], "port: wrong number of arguments"),
    ],
)
def test_assign_says_what_is_wrong(name: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config().assign(name, value)
    assert str(error.value) == text


# --------------------------------------------------------------------------------------- documentation


def test_the_configuration_page_is_generated_from_the_table() -> None:
    page = Path(__file__).parent.parent / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == document(), (
        "run: python -m kvstore.commands.config.document > docs/configuration.md"
    )


def test_the_pool_of_values_names_real_directives() -> None:
    assert set(SPECIAL) <= set(NAMES) and COMMON
