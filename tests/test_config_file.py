"""Configuration files and command lines: reading, including, complaining, rewriting."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.config import CommandLine, Config, ConfigError, parse_args
from kvstore.commands.config.rewrite import rewritten
from kvstore.errors import ResponseError
from kvstore.resp import quote_word, split_words
from tests.config_pool import COMMON


def complaint(text: bytes) -> str:
    with pytest.raises(ConfigError) as error:
        Config().load_text(text)
    return str(error.value)


# ----------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  a\tb  c ", [b"a", b"b", b"c"]),
        (b"\"a b\" 'c d'", [b"a b", b"c d"]),
        (rb'"\x41\n\"\q\\"', [b'A\n"q\\']),
        (rb"'it\'s' '\n\\ '", [b"it's", b"\\n\\\\ "]),
        (rb"'\\'", None),
        (b'key"word"', [b"keyword"]),
        (b'""', [b""]),
        (b'"a', None),
        (b"'a", None),
        (b'"a"b', None),
        (b'a"', None),
        (b'"a\\"', None),
    ],
)
def test_lines_split_into_words(line: bytes, words: list[bytes] | None) -> None:
    assert split_words(line) == words


@given(st.lists(st.binary()))
def test_quoted_words_split_back(words: list[bytes]) -> None:
    line = b" ".join(map(quote_word, words))
    assert split_words(line) == words
    assert line.isascii() and line.decode().isprintable()


@given(st.binary())
def test_splitting_takes_any_bytes(line: bytes) -> None:
    words = split_words(line)
    assert words is None or sum(map(len, words)) <= len(line)


# ----------------------------------------------------------------------------------------------- files


def test_a_fatal_error_shows_where_it_is() -> None:
    assert complaint(b"# x\n\n  foo bar  \n") == (
        "*** FATAL CONFIG FILE ERROR (Redis 7.4.0) ***\n"
        "Reading the configuration file, at line 3\n"
        ">>> 'foo bar'\n"
        "Bad directive or wrong number of arguments"
    )


def test_modules_and_sentinel_are_refused_clearly() -> None:
    for line in (b"loadmodule /x.so a b", b"search.maxdoc 7", b"search.maxdoc"):
        assert "kvstore has no modules" in complaint(line)
    assert "no sentinel mode" in complaint(b"sentinel")


def test_users_and_renamed_commands_are_kept_for_later() -> None:
    config = Config()
    config.load_text(b'user alice on >"a b"\nport 1\nrename-command FLUSHALL ""\n')
    assert [line.words for line in config.users] == [[b"user", b"alice", b"on", b">a b"]]
    assert [line.words for line in config.renames] == [[b"rename-command", b"FLUSHALL", b""]]
    error = config.renames[0].refuse("No such command in rename-command", config["compat-version"])
    assert str(error).endswith(
        "at line 3\n>>> 'rename-command FLUSHALL \"\"'\nNo such command in rename-command"
    )


def test_save_lines_add_up_and_an_empty_one_starts_over() -> None:
    config = Config()
    config.load_text(b"save 900 1\nsave 300 10 60 5\nsave\n")
    assert config["save"] == ((900, 1), (300, 10), (60, 5))
    config.load_text(b'save 9 9\nsave ""\nsave 5 5\n')
    assert config["save"] == ((5, 5),)


def test_files_include_others_where_they_say_so(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.conf").write_text("timeout 1\ninclude b/*.conf\ninclude b/none*.conf\ninclude last.conf\n")
    (tmp_path / "b" / "1.conf").write_text("timeout 2\nmaxmemory 1\n")
    (tmp_path / "b" / "2.conf").write_text("timeout 3")
    (tmp_path / "last.conf").write_text("hz 20")
    config = Config()
    config.values["dir"] = str(tmp_path)
    config.load(parse_args([str(tmp_path / "a.conf"), "--hz", "30"]))
    assert (config["timeout"], config["maxmemory"], config["hz"]) == (3, 1, 30)


def test_a_missing_include_and_a_circle_of_includes_are_config_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text(f"include {tmp_path}/none.conf")
    with pytest.raises(
        ConfigError, match=r"^Fatal error, can't open config file '.*none.conf': No such file"
    ):
        Config().load(parse_args([str(path)]))
    path.write_text(f"include {path}")
    with pytest.raises(ConfigError, match="too many files include each other"):
        Config().load(parse_args([str(path)]))
    with pytest.raises(ConfigError, match="can't open"):
        Config().load(parse_args([str(tmp_path)]))


_WORDS = st.one_of(
    st.sampled_from(
        ["port", "save", "bind", "user", "rename-command", "loadmodule", "sentinel", "#", "dir", '"', "'"]
    ),
    st.sampled_from(
        ["compat-version", "client-output-buffer-limit", "replicaof", "oom-score-adj-values", "a.b"]
    ),
    st.text(max_size=8),
).map(lambda text: text.encode("utf-8", "surrogateescape"))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(),
        st.lists(st.lists(st.one_of(_WORDS, st.sampled_from(COMMON)))).map(
            lambda lines: b"\n".join(b" ".join(line) for line in lines)
        ),
    )
)
def test_only_config_errors_escape_the_reader(text: bytes) -> None:
    try:
        Config().load_text(text)
    except ConfigError as error:
        assert str(error)


# ---------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], CommandLine()),
        (["-"], CommandLine(stdin=True)),
        (["/a.conf"], CommandLine(file="/a.conf")),
        (["/a.conf", "-"], CommandLine(file="/a.conf", stdin=True)),
        (["--port", "1", "--bind", "a", "b"], CommandLine(options=b'port "1" \nbind "a" "b" ')),
        (["--port 1", "--hz", "2"], CommandLine(options=b'port 1 \nhz "2" ')),
        (["--save", "--hz", "2"], CommandLine(options=b'save ""\nhz "2" ')),
        (["--masterauth", "--secret"], CommandLine(options=b'masterauth "--secret" ')),
        (["--unix", "/s"], CommandLine(options=b'unixsocket "/s" ', unix_only=True)),
        (["--unix /s", "--port", "1"], CommandLine(options=b'unixsocket /s \nport "1" ', unix_only=True)),
    ],
)
def test_arguments_become_lines(args: list[str], expected: CommandLine) -> None:
    def lines(line: CommandLine) -> list[bytes]:
        return [option.strip() for option in line.options.split(b"\n")]

    parsed = parse_args(args)
    assert lines(parsed) == lines(expected)
    assert replace(parsed, options=b"") == replace(expected, options=b"")


def test_a_relative_file_becomes_absolute() -> None:
    assert parse_args(["x/../a.conf"]).file == str(Path.cwd() / "a.conf")


def test_options_count_more_than_standard_input_and_that_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("hz 1\ntimeout 1\ntcp-keepalive 1")
    config = Config()
    config.load(parse_args([str(path), "--hz", "3", "-"]), lambda: b"hz 2\ntimeout 2")
    assert (config["hz"], config["timeout"], config["tcp-keepalive"]) == (3, 2, 1)
    assert config.file == str(path)


def test_unix_alone_listens_on_no_port(tmp_path: Path) -> None:
    for args, port in (
        (["--unix", "/s"], 0),
        (["--unix", "/s", "--port", "7"], 7),
        (["--unixsocket", "/s"], 6379),
    ):
        config = Config()
        config.load(parse_args(args))
        assert (config["unixsocket"], config["port"]) == ("/s", port)


def _is_no_stdin(word: str) -> bool:
    """The last word "-" stands for more of the configuration on standard input."""
    return word != "-"


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10).filter(_is_no_stdin))
)
def test_any_option_values_arrive_as_they_are(values: list[str]) -> None:
    args = [word for value in values for word in ("--masterauth", value)]
    config = Config()
    config.load(parse_args(args))
    assert config["masterauth"] == (values[-1] if values else "")


# -------------------------------------------------------------------------------------------- rewriting


def test_rewriting_without_a_file_is_refused() -> None:
    with pytest.raises(ResponseError, match=r"^ERR The server is running without a config file$"):
        Config().rewrite()


def test_rewriting_keeps_what_people_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text(
        "# mine\nslave-priority 5\n\n\nmaxmemory 1mb\nmaxmemory 2mb\nuser bob on\nlist-max-ziplist-value 1"
    )
    path.chmod(0o600)
    config = Config()
    config.load(parse_args([str(path), "--dir", str(tmp_path)]))
    config.set([b"maxmemory", b"3mb", b"timeout", b"9"])
    config.rewrite()
    kept, _, appended = path.read_text().partition("# Generated by CONFIG REWRITE\n")
    assert kept == (
        "# mine\nreplica-priority 5\n\nmaxmemory 3mb\n\nuser bob on\n# ??? list-max-ziplist-value 1\n"
    )
    assert set(appended.splitlines()) == {
        "timeout 9",
        f'dir "{tmp_path}"',
        "latency-tracking-info-percentiles 50 99 99.9",
        "save 3600 1 300 100 60 10000",
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.conf"]


def test_a_rewritten_file_loads_to_the_same_values_and_rewrites_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("requirepass 'x \"y'\nsave ''\nbind ''\nproto-max-bulk-len 3000000\nunixsocketperm 7\n")
    config = Config()
    config.load(parse_args([str(path)]))
    config.set([b"maxmemory-clients", b"7%", b"notify-keyspace-events", b"KEx"])
    config.rewrite()
    again = Config()
    again.load(parse_args([str(path)]))
    assert again.values == config.values
    assert rewritten(path.read_bytes(), again.values, None).rstrip() == path.read_bytes().rstrip()


def test_users_of_access_control_replace_those_of_the_file() -> None:
    old = b"user a on\nuser b on\nport 1\nuser a off\n"
    new = rewritten(old, Config().values, [b"a on nopass", b"c off"])
    assert new.startswith(b"user a on nopass\n\nport 6379\n\n# Generated")
    assert b"\nuser c off\n" in new


def test_a_file_that_is_gone_is_made_again_and_one_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "d" / "a.conf"
    path.parent.mkdir()
    path.write_text("timeout 5\n")
    config = Config()
    config.load(parse_args([str(path)]))
    path.unlink()
    config.rewrite()
    assert b"timeout 5\n" in path.read_bytes()
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(ResponseError, match=r"^ERR Rewriting config file: No such file or directory$"):
        config.rewrite()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_rewriting_takes_any_file(old: bytes) -> None:
    values = Config().values
    new = rewritten(old, values, None)
    assert b"\n\n\n" not in new.replace(b"\r", b"")
    again = rewritten(new, values, None)
    assert rewritten(again, values, None) == again
