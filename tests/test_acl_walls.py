"""Whatever is asked, nobody gets at keys that no rule opens: random requests of every family, also wrong ones."""

from __future__ import annotations

import random

import pytest

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.resp import ErrorReply
from tests import servers
from tests.conftest import require
from tests.differential.grammar import families, load
from tests.seeds import new_seed

# Commands that touch data without naming keys, which have to be taken away by name.
NAMELESS = ["-@dangerous", "-scan", "-randomkey", "-@pubsub"]
# Requests that name no key and so may be answered: scripts without keys, whose calls are checked one by one.
MAY_ANSWER = {b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO", b"SCRIPT"}


def session_of(hub: Hub, user: str) -> Session:
    session = Session(hub, TREE2)
    session.may_block = False
    assert session.call([b"AUTH", user.encode(), b"x"]) == b"OK"
    return session


def garbled(rng: random.Random, argv: list[bytes]) -> list[bytes]:
    """The request with words lost, doubled or swapped, so that where its keys are is hard to tell."""
    words = list(argv)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(1, len(words)) if len(words) > 1 else 0
        if not at:
            break
        kind = rng.randrange(4)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, words[at])
        elif kind == 2:
            words[at] = rng.choice([b"0", b"1", b"2", b"-1", b"99", b"", b"STORE", b"KEYS", b"x"])
        else:
            words.insert(at, rng.choice([b"1", b"2", b"GET", b"STORE"]))
    return words


def fingerprint(hub: Hub) -> bytes:
    owner = Session(hub, TREE2)
    owner.log_in(hub.users.owner)
    found: bytes = owner.call([b"DEBUG", b"DIGEST"])
    owner.close()
    return found


def test_no_request_reaches_a_key_that_no_rule_opens(heavy: bool) -> None:
    rng = random.Random(new_seed())
    hub = Hub(Context(Database, clock=ManualClock(1_700_000_000_000), random=random.Random(1)))
    hub.config.assign("enable-debug-command", "yes")
    hub.users.set_user("maker", "on", "nopass", "+@all", "~*", "&*")
    hub.users.set_user("reader", "on", "nopass", "+@all", *NAMELESS, "%R~*")
    hub.users.set_user("nobody", "on", "nopass", "+@all", *NAMELESS)
    tried = refused = 0
    for family in families():
        grammar = load(family)
        maker = session_of(hub, "maker")
        for _ in range(60):
            for step in grammar.group(rng):
                maker.call(list(step.argv))
        maker.call([b"DISCARD"])
        maker.call([b"SET", b"there", b"1"])
        before = fingerprint(hub)
        assert len(before) == 40 and before.strip(b"0")
        for name in ("nobody", "reader"):
            session = session_of(hub, name)
            for _ in range(3000 if heavy else 150):
                for step in grammar.group(rng):
                    argv = garbled(rng, list(step.argv))
                    if argv[0].upper() in (b"AUTH", b"HELLO", b"RESET", b"QUIT") or argv[0].startswith(b"@"):
                        continue
                    reply = session.call(argv)
                    tried += 1
                    refused += isinstance(reply, ErrorReply) and reply.startswith(b"NOPERM")
                    if name == "reader" and argv[0].upper() == b"PFCOUNT":
                        before = fingerprint(hub)  # which readers keep their estimate in
                    assert fingerprint(hub) == before, (name, argv, reply)
                    command = hub.find(argv[0])
                    queued = reply == b"QUEUED" or argv[0].upper() in (b"EXEC", *MAY_ANSWER)
                    if name == "nobody" and command is not None and command.keys and not queued:
                        assert isinstance(reply, ErrorReply), (argv, reply)
            session.close()
        maker.close()
    assert refused > tried / 4


def test_write_permission_alone_reads_nothing(heavy: bool) -> None:
    """What is written must not come back either: values hold a mark that no reply may hold."""
    rng = random.Random(new_seed())
    hub = Hub(Context(Database, clock=ManualClock(1_700_000_000_000), random=random.Random(1)))
    hub.users.set_user("writer", "on", "nopass", "+@all", *NAMELESS, "-eval", "-evalsha", "%W~*")
    owner = Session(hub, TREE2)
    owner.log_in(hub.users.owner)
    mark = b"\xf0mark\xf0"

    def plant() -> None:
        owner.call([b"FLUSHALL"])
        for at, key in enumerate((b"k1", b"k2", b"k3", b"k4", b"k5", b"k6")):
            field = mark + b"%d" % at
            owner.call(
                [
                    [b"SET", key, field],
                    [b"RPUSH", key, field, field],
                    [b"SADD", key, field, b"1"],
                    [b"HSET", key, field, field],
                    [b"ZADD", key, b"1", field],
                    [b"SET", key, field],
                ][at]
            )

    keys = [b"k1", b"k2", b"k3", b"k4", b"k5", b"k6"]
    written = 0
    for family in families():
        if family in ("pubsub", "tx"):
            continue
        grammar = load(family)
        session = session_of(hub, "writer")
        plant()
        for turn in range(2000 if heavy else 150):
            if turn % 25 == 0:
                plant()
            for step in grammar.group(rng):
                argv = list(step.argv)
                if argv[0].upper() in (b"AUTH", b"HELLO", b"RESET", b"QUIT") or argv[0].startswith(b"@"):
                    continue
                command = hub.find(argv[0])
                if command is not None and command.keys and len(argv) > 1:
                    argv[1] = rng.choice(keys)
                reply = session.call(argv)
                written += not isinstance(reply, ErrorReply)
                assert "mark" not in repr(reply), (argv, reply)
        session.close()
    assert written > 50


RULES = [
    ["+@all", "%R~*"],
    ["+@all", "-@dangerous", "~a*", "~b*", "(+@read %R~*)"],
    ["+@write", "+multi", "+exec", "+eval", "~*", "(+@read ~a* %R~c*)"],
    ["+@fast", "+@transaction", "%W~*", "%R~k*"],
]
FAMILIES = (
    "bitmaps",
    "functions",
    "generic",
    "geo",
    "hashes",
    "hyperloglog",
    "lists",
    "sets",
    "sort",
    "strings",
    "tx",
    "zsets",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_right_and_wrong_requests_are_refused_as_on_a_real_server(family: str, heavy: bool) -> None:
    require("valkey")
    rng = random.Random(new_seed())
    grammar = load(family)
    refused = 0
    with servers.running("kvstore") as ours, servers.running("valkey") as theirs:
        for rules in RULES:
            clients = [ours.client(), theirs.client()]
            for client in clients:
                client.call("ACL", "SETUSER", "ann", "reset", "on", "nopass", *rules)
                client.call("AUTH", "ann", "x")
            for _ in range(3000 if heavy else 60):
                for step in grammar.group(rng):
                    argv = garbled(rng, list(step.argv))
                    if argv[0].startswith((b"@", b"B", b"b")) or argv[0].upper() in (
                        b"WAIT",
                        b"RESET",
                        b"QUIT",
                    ):
                        continue  # what blocks, and what leaves the user
                    if argv[0].upper() == b"PFMERGE" and len(argv) == 2:
                        continue  # which real servers let anybody do
                    for client in clients:
                        client.send(*argv)
                    got, wanted = (client.read_reply_bytes() for client in clients)
                    if got.startswith(b"-NOPERM") or wanted.startswith(b"-NOPERM"):
                        refused += 1
                        assert got == wanted, (rules, argv)
            for client in clients:
                client.close()
    assert refused > 20
