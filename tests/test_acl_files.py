"""Users in files: an aclfile or the configuration, read and written by real servers and by ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvstore.commands.config import Config, ConfigError
from kvstore.commands.hub import Hub
from kvstore.engine.context import Context
from kvstore.engine.database import Database
from kvstore.errors import ResponseError
from tests import servers
from tests.conftest import require
from tests.rawclient import RawClient, parse
from tests.servers import Server
from tests.test_command_table import plain

SECRET = b"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
USERS = (
    b"""\
user default on nopass ~* &* +@all
user ann on #%b ~app:* %%R~shared:* &news -@all +@read +config|get +select|0

  user bob off resetchannels %%W~log (+get ~a) (%%R~b +mget)\r
user eve on  nopass  ~* +@all -@dangerous
"""
    % SECRET
)


def listed(server: Server, user: str = "default", password: str = "x") -> list[str]:
    with server.client() as client:
        client.call("AUTH", user, password)
        found: list[str] = plain(parse(client.call("ACL", "LIST")))
        return found


def running_with(kind: str, path: Path, text: bytes, **options: str) -> Server:
    path.write_bytes(text)
    return servers.start(kind, options={"aclfile": str(path), **options})


def test_an_aclfile_is_read_as_by_a_real_server_and_each_reads_what_the_other_saved(tmp_path: Path) -> None:
    require("valkey")
    found, saved = [], []
    for kind in ("kvstore", "valkey"):
        path = tmp_path / f"{kind}.acl"
        server = running_with(kind, path, USERS)
        try:
            with server.client() as client:
                assert client.call("ACL", "SETUSER", "new", "on", ">p", "&x") == b"+OK\r\n"
                assert client.call("ACL", "DELUSER", "eve") == b":1\r\n"
                assert client.call("ACL", "SAVE") == b"+OK\r\n"
            found.append(listed(server))
            saved.append(path.read_bytes())
        finally:
            server.remove()
    assert found[0] == found[1] and len(found[0]) == 4
    assert saved[0] == saved[1]
    for kind in ("kvstore", "valkey", "redis"):
        require(kind)
        text = saved[0] if kind != "redis" else saved[1]
        server = running_with(kind, tmp_path / f"{kind}.again", text)
        try:
            with server.client() as client:
                assert client.call("AUTH", "new", "p") == b"+OK\r\n"
            again = listed(server)
            if kind == "redis":  # 7.0 words the commands otherwise
                assert [line.partition(" -@all")[0] for line in again][1] == found[0][1].partition(" -@all")[
                    0
                ]
            else:
                assert again == found[0]
        finally:
            server.remove()


BAD = {
    "word": b"usr ann on\n",
    "no name": b"user default on nopass ~* +@all\nuser\n",
    "twice": b"user ann on\nuser ann off\n",
    "rules": b"user ann on +nosuch ~a foo bar +nosuch2\nuser bob #abc\n",
    "name": b"user a\tb on\n",
    "all at once": b"user ann on\nuser ann off\nfoo\nuser bob foo +nosuch\n",
    "unmatched quotes": b"user ann on >'abc\nuser bob foo'x\n",
}


def test_what_is_wrong_with_an_aclfile_is_told_and_nothing_of_it_taken(tmp_path: Path) -> None:
    require("valkey")
    path = tmp_path / "users.acl"
    told = []
    for kind in ("kvstore", "valkey"):
        server = running_with(kind, path, USERS)
        before = listed(server)
        try:
            with server.client() as client:
                answers = []
                for text in BAD.values():
                    path.write_bytes(text)
                    answers.append(client.call("ACL", "LOAD"))
                path.unlink()
                answers.append(client.call("ACL", "LOAD"))
                answers.append(client.call("PING"))
            told.append(answers)
            assert listed(server) == before
        finally:
            server.remove()
    for name, got, wanted in zip([*BAD, "gone", "ping"], *told, strict=True):
        assert got == wanted, name


def test_loading_an_aclfile_disconnects_who_is_gone_or_may_no_longer_listen(tmp_path: Path) -> None:
    require("valkey")
    path = tmp_path / "users.acl"
    seen = []
    for kind in ("kvstore", "valkey"):
        all_ = b"+@all ~* nopass on"
        first = b"user ann &a %b\nuser bob &a &b %b\nuser cid &a %b\n" % (all_, all_, all_)
        server = running_with(kind, path, first)
        clients: dict[str, RawClient] = {}
        try:
            for name, user in (
                ("ann", "ann"),
                ("bob", "bob"),
                ("bob2", "bob"),
                ("cid", "cid"),
                ("sub", "default"),
            ):
                clients[name] = server.client()
                clients[name].call("AUTH", user, "x")
            for name in ("bob", "cid", "sub"):
                clients[name].call("SUBSCRIBE", "a")
            path.write_bytes(b"user bob &b %b\nuser cid &* %b\n" % (all_, all_))
            with server.client() as control:
                answer = control.call("ACL", "LOAD")
            state = {}
            for name, client in clients.items():
                try:
                    state[name] = client.call("PING")
                except (EOFError, OSError):
                    state[name] = b"closed"
            seen.append((answer, state, listed(server)))
        finally:
            for client in clients.values():
                client.close()
            server.remove()
    assert seen[0] == seen[1]
    assert list(seen[0][1].values()).count(b"closed") == 2


def test_a_real_server_reads_the_configuration_that_is_rewritten_here(tmp_path: Path) -> None:
    require("valkey")
    files = []
    for kind in ("kvstore", "valkey"):
        path = tmp_path / f"{kind}.conf"
        path.write_bytes(
            b"# mine\n"
            b"user ann on >secret ~a* +@read\n# between\nuser bob on nopass +@all ~*\nrequirepass old\n"
        )
        server = servers.start(kind, file=path)
        try:
            with server.client() as client:
                assert client.call("AUTH", "old") == b"+OK\r\n"
                client.call("ACL", "SETUSER", "ann", "-get", "(+set", "~b)")
                client.call("ACL", "SETUSER", "cid", "on", ">x")
                client.call("ACL", "DELUSER", "bob")
                assert client.call("CONFIG", "REWRITE") == b"+OK\r\n"
        finally:
            server.remove()
        files.append(path)
    lines = [
        [line for line in path.read_bytes().split(b"\n") if line.startswith((b"user ", b"#", b"requirepass"))]
        for path in files
    ]
    assert set(lines[0]) == set(lines[1])  # a line stays with its user here; theirs move up
    for kind in ("kvstore", "valkey", "redis"):
        require(kind)
        text = files[0].read_bytes()
        files[0].write_bytes(b"".join(line for line in text.splitlines(True) if not line.startswith(b"dir ")))
        server = servers.start(kind, file=files[0])
        try:
            with server.client() as client:
                assert client.call("AUTH", "cid", "x") == b"+OK\r\n"
                assert client.call("AUTH", "bob", "x").startswith(b"-WRONGPASS")
                assert client.call("AUTH", "ann", "secret") == b"+OK\r\n"
                assert client.call("AUTH", "old") == b"+OK\r\n"
        finally:
            server.remove()


# -- in this process ------------------------------------------------------------------------------------


def hub_with(text: bytes) -> Hub:
    config = Config()
    config.load_text(text)
    return Hub(Context(Database), config)


def test_user_lines_make_users_and_go_before_requirepass() -> None:
    hub = hub_with(b'requirepass a\nuser default on >b ~* &* +@all\nuser ann on nopass (+get "~x" ) +set\n')
    assert not hub.users.default.knows(b"a") and hub.users.default.knows(b"b")
    ann = hub.users.get(b"ann")
    assert ann is not None
    assert (
        ann.describe() == b"on nopass sanitize-payload resetchannels -@all +set (~x resetchannels -@all +get)"
    )


def test_an_aclfile_goes_before_requirepass_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users.acl"
    for text, nopass in ((b"user ann on\n", True), (b"user default on >b ~* &* +@all\n", False)):
        path.write_bytes(text)
        caplog.clear()
        hub = hub_with(b"requirepass a\naclfile %b\n" % os.fsencode(path))
        assert hub.users.default.nopass == nopass
        assert ("requirepass is void" in caplog.text) == nopass


def test_channels_of_new_users_follow_acl_pubsub_default() -> None:
    hub = hub_with(b"acl-pubsub-default allchannels\nuser ann on (+get)\n")
    hub.users.set_user("bob", "reset")
    for name in (b"ann", b"bob"):
        user = hub.users.get(name)
        assert user is not None and user.allows_channel(b"any", False)
        assert all(selector.all_channels for selector in user.selectors)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            b"user ann on +nosuch\n",
            "at line 1\n>>> 'user ann on \\+nosuch'\nError in user declaration '\\+nosuch': Unknown",
        ),
        (b"port 1\nuser ann foo\n", "at line 2\n.*\nError in user declaration 'foo': Syntax error"),
        (b"user ann on (+get\n", "Error in user declaration '\\(\\+get': Unmatched"),
        (
            b"user ann on\nuser ann off\n",
            "at line 2\n.*\nError in user declaration 'ann': Duplicate user found",
        ),
        (b'user "a b" on\n', "Spaces not allowed in ACL usernames"),
        (
            b"aclfile nosuch.acl\n",
            "Aborting startup because of ACL errors: Error loading ACLs, opening file '.*nosuch.acl'",
        ),
        (b"aclfile users.acl\nuser ann on\n", "in one of the two"),
    ],
)
def test_users_that_cannot_be_stop_the_start(text: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        hub_with(text)


def test_an_aclfile_is_relative_to_dir_and_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_bytes(b"user ann on nopass\n")
    os.chmod(tmp_path / "users.acl", 0o600)
    hub = hub_with(b"dir %b\naclfile users.acl\n" % os.fsencode(tmp_path))
    hub.users.set_user("bob", "on")
    hub.users.save()
    assert [line.split(b" ")[1] for line in (tmp_path / "users.acl").read_bytes().splitlines()] == [
        *(b"ann", b"bob", b"default")
    ]
    assert os.stat(tmp_path / "users.acl").st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["users.acl"]
    assert hub.users.lines_for_config() == []


def test_a_bracket_that_is_not_closed_is_told(tmp_path: Path) -> None:
    """Real servers crash on it."""
    path = tmp_path / "users.acl"
    path.write_bytes(b"user default on nopass +@all ~* &*\nuser ann on (+get ~x\n")
    with pytest.raises(ConfigError, match=r"users\.acl:2: Unmatched parenthesis in selector definition"):
        hub_with(b"aclfile %b\n" % os.fsencode(path))


def test_a_file_that_cannot_be_written_is_told_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    (folder / "users.acl").write_bytes(b"user ann on nopass\n")
    hub = hub_with(b"aclfile %b\n" % os.fsencode(folder / "users.acl"))
    (folder / "users.acl").unlink()
    folder.rmdir()
    with pytest.raises(ResponseError, match="There was an error trying to save the ACLs"):
        hub.users.save()
