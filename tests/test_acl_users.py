"""Users from Python: who is made how, what it costs, and who is not asked."""

from __future__ import annotations

import re

import pytest

import kvstore
from kvstore import Store
from kvstore.commands.acl import User
from kvstore.commands.config import Config
from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import ResponseError
from kvstore.resp import ErrorReply
from tests import servers


@pytest.fixture
def hub() -> Hub:
    return Hub(Context(Database, clock=ManualClock(1_700_000_000_000)))


def session_of(hub: Hub, user: str = "", password: str = "") -> Session:
    session = Session(hub, TREE2)
    if user:
        assert session.call([b"AUTH", user.encode(), password.encode()]) == b"OK"
    return session


def test_rules_are_words_in_text_or_bytes(hub: Hub) -> None:
    hub.users.set_user("ann", "on", ">sécret", b"~app:*", "+@read", "(+set", "~own)")
    assert [user.name for user in hub.users] == [b"ann", b"default"]
    session = session_of(hub, "ann", "sécret")
    assert session.call([b"GET", b"app:1"]) is None
    assert session.call([b"SET", b"own", b"1"]) == b"OK"
    assert session.call([b"SET", b"app:1", b"1"]) == b"NOPERM No permissions to access a key"
    hub.users.set_user("ann", "reset")
    refused = session.call([b"GET", b"app:1"])
    assert refused == b"NOPERM User ann has no permissions to run the 'get' command"
    assert hub.users.delete("ann", "nobody") == 1
    assert session.closing


def test_a_change_is_whole_or_not_at_all(hub: Hub) -> None:
    hub.users.set_user("ann", "on", "+get")
    for rules in (["off", "-get", "foo"], ["off", "(+set"], ["resetpass", "-@all", "#x"]):
        with pytest.raises(ResponseError):
            hub.users.set_user("ann", *rules)
    with pytest.raises(ResponseError, match="Syntax error"):
        hub.users.set_user("new", "foo")
    with pytest.raises(ResponseError, match="spaces or null"):
        hub.users.set_user("a b")
    assert hub.users.get(b"new") is None
    ann = hub.users.get(b"ann")
    assert ann is not None and ann.describe() == b"on sanitize-payload resetchannels -@all +get"


def test_nothing_is_checked_of_a_user_who_may_do_everything(hub: Hub) -> None:
    hub.users.set_user("root", "on", "nopass", "(+@all ~* &*)")
    hub.users.set_user("ann", "on", "nopass", "+@all", "~*")
    default, root, ann = session_of(hub), session_of(hub, "root"), session_of(hub, "ann")
    assert root.table is default.table and ann.table is not default.table
    hub.users.set_user("root", "clearselectors", "+@all", "-flushall", "~*", "&*")
    hub.users.set_user("ann", "&*")
    assert ann.table is default.table and root.table is not default.table
    assert root.call([b"FLUSHALL"]).startswith(b"NOPERM")
    hub.users.set_user("default", "-get")
    assert default.call([b"GET", b"k"]).startswith(b"NOPERM")
    assert session_of(hub).table is default.table
    hub.users.set_user("default", "+get")  # all that there is, if not all that there will be
    assert default.call([b"GET", b"k"]) is None


def test_restrictions_stay_in_every_mode_of_a_session(hub: Hub) -> None:
    hub.users.set_user("ann", "on", "nopass", "+@all", "-set", "~*", "&*")
    ann = session_of(hub, "ann")
    for words in ([b"HELLO", b"3"], [b"CLIENT", b"NO-TOUCH", b"ON"], [b"MULTI"]):
        assert ann.call(words) is not None
        assert (
            ann.call([b"SET", b"k", b"v"]) == b"NOPERM User ann has no permissions to run the 'set' command"
        )
    ann.call([b"DISCARD"])
    hub.set_loading(True)
    assert ann.call([b"SET", b"k", b"v"]).startswith(b"NOPERM")
    hub.set_loading(False)
    ann.call([b"RESET"])
    assert ann.call([b"SET", b"k", b"v"]) == b"OK"


def test_a_hidden_command_is_unknown_to_rules_until_its_version_is_kept() -> None:
    hub = Hub(Context(Database))
    with pytest.raises(ResponseError, match="Unknown command or category"):
        hub.users.set_user("ann", "+hgetex")
    config = Config()
    config.load_text(b"compat-version 8.0\nuser ann on nopass +hgetex ~*\n")
    newer = Hub(Context(Database), config)
    reply = session_of(newer, "ann").call([b"HGETEX", b"k", b"FIELDS", b"1", b"f"])
    assert not isinstance(reply, ErrorReply)


def test_a_renamed_command_is_allowed_by_its_own_name() -> None:
    config = Config()
    config.load_text(b"rename-command GET FETCH\nuser ann on nopass +get ~a\n")
    ann = session_of(Hub(Context(Database), config), "ann")
    assert ann.call([b"FETCH", b"a"]) is None
    assert ann.call([b"FETCH", b"b"]) == b"NOPERM No permissions to access a key"
    assert (
        ann.call([b"ACL", b"WHOAMI"]) == b"NOPERM User ann has no permissions to run the 'acl|whoami' command"
    )


def test_refusals_are_one_entry_for_a_minute(hub: Hub) -> None:
    hub.users.set_user("ann", "on", "nopass")
    ann, clock = session_of(hub, "ann"), hub.ctx.clock
    assert isinstance(clock, ManualClock)
    for seconds in (0, 60, 60, 61):
        clock.advance(seconds)
        ann.call([b"GET", b"k"])
    assert [(entry.count, entry.number) for entry in hub.users.log.entries] == [(1, 1), (3, 0)]
    assert hub.users.log.counts["command"] == 4


def test_the_program_that_holds_the_store_is_not_asked() -> None:
    with kvstore.serve(requirepass="secret") as server:
        server.call(lambda store: store.call("ACL", "SETUSER", "default", "-@all"))
        assert server.call(lambda store: store.call("SET", "k", "v")) == b"OK"
        assert server.call(lambda store: store.client().get("k")) == b"v"
        assert server.call(lambda store: store.call("ACL", "WHOAMI")) == b"default"
        assert server.call(lambda store: store.call("ACL", "DELUSER", "nobody")) == 0


def test_a_store_of_its_own_has_users_too() -> None:
    store = Store()
    store.call("ACL", "SETUSER", "ann", "+get", "~a")
    assert store.call("ACL", "DRYRUN", "ann", "GET", "a") == b"OK"
    assert (
        store.call("ACL", "DRYRUN", "ann", "GET", "b") == b"User ann has no permissions to access the 'b' key"
    )


def test_passwords_are_random_and_as_long_as_asked() -> None:
    store = Store()
    made = {store.call("ACL", "GENPASS") for _ in range(100)}
    assert len(made) == 100 and all(re.fullmatch(rb"[0-9a-f]{64}", word) for word in made)
    assert [len(store.call("ACL", "GENPASS", bits)) for bits in (1, 4, 5, 8, 4096)] == [1, 1, 2, 2, 1024]


def test_no_password_is_kept_or_shown() -> None:
    user = User(b"ann")
    user.apply(b">secret", lambda name: None)
    assert b"secret" not in user.describe() and user.knows(b"secret")
    assert not user.knows(b"Secret") and not user.knows(user.passwords[0])
    with servers.running("kvstore") as server, server.client() as client:
        client.call("CONFIG", "SET", "slowlog-log-slower-than", "0")
        client.call("ACL", "SETUSER", "ann", ">secret")
        client.call("acl", "deluser", "ann")
        shown = client.call("SLOWLOG", "GET")
        assert b"SETUSER" in shown and b"(redacted)" in shown
        assert b"secret" not in shown and b"ann" not in shown


def test_a_server_without_a_password_for_strangers_stays_closed_to_them_however_it_is_said() -> None:
    with servers.running("kvstore", tcp=True) as server, server.client() as control:
        control.call("ACL", "SETUSER", "default", ">x")
        with server.client(tcp=True) as client:
            assert client.call("PING") == b"-NOAUTH Authentication required.\r\n"
            assert client.call("AUTH", "x") == b"+OK\r\n"
