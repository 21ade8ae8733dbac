"""Real servers, killed under load again and again: what was answered is there after the next start.

Several servers run at once, each with clients that write keys of their own, a few requests ahead of the
replies. A client's requests are numbered and its keys' state after each is known; after a kill the data must be
that after one of the requests between the last that was answered and the last that was sent. Meanwhile logs are
rewritten and snapshots taken. All of it runs in one thread, so that the kernel ends the servers with the tests.
"""

from __future__ import annotations

import contextlib
import errno
import random
import select
import socket
import time
from collections import deque
from collections.abc import Iterator

import pytest

from tests import servers
from tests.conftest import require
from tests.rawclient import RawClient, encode, parse, reply_end
from tests.servers import Server

START_SECONDS = 30.0
CLIENTS = 4
AHEAD = 6  # requests that a client sends before it reads
OPTIONS = {
    "save": "",
    "appendonly": "yes",
    "auto-aof-rewrite-percentage": "50",
    "auto-aof-rewrite-min-size": "4kb",
}

State = dict[bytes, object]


def requests(client: int, number: int) -> list[list[bytes]]:
    """The commands of a client's request of this number: one, or a transaction."""
    own = b"c%d:" % client
    word = b"%d" % number
    kind = number % 6
    if kind == 0:
        return [[b"SET", own + b"string", word * (1 + number % 50)]]
    if kind == 1:
        pair = [[b"SET", own + b"left", word], [b"SET", own + b"right", word]]
        return [[b"MULTI"], *pair, [b"EXEC"]]
    if kind == 2:
        return [[b"RPUSH", own + b"list", word]]
    if kind == 3:
        return [[b"HSET", own + b"hash", b"f%d" % (number % 11), word]]
    if kind == 4:
        return [[b"INCR", own + b"count"]]
    return [[b"MULTI"], [b"LTRIM", own + b"list", b"-5", b"-1"], [b"DEL", own + b"string"], [b"EXEC"]]


def apply(state: State, client: int, number: int) -> None:
    """What a request does to the keys of its client."""
    own, word, kind = b"c%d:" % client, b"%d" % number, number % 6
    if kind == 0:
        state[own + b"string"] = word * (1 + number % 50)
    elif kind == 1:
        state[own + b"left"] = state[own + b"right"] = word
    elif kind == 2:
        state[own + b"list"] = (*_list(state.get(own + b"list")), word)
    elif kind == 3:
        fields = dict(_pairs(state.get(own + b"hash")))
        fields[b"f%d" % (number % 11)] = word
        state[own + b"hash"] = tuple(sorted(fields.items()))
    elif kind == 4:
        count = state.get(own + b"count", b"0")
        assert isinstance(count, bytes)
        state[own + b"count"] = b"%d" % (int(count) + 1)
    else:
        left = _list(state.get(own + b"list"))[-5:]
        if left:
            state[own + b"list"] = left
        state.pop(own + b"string", None)


def _list(value: object) -> tuple[bytes, ...]:
    return value if isinstance(value, tuple) else ()


def _pairs(value: object) -> tuple[tuple[bytes, bytes], ...]:
    return value if isinstance(value, tuple) else ()


class Writer:
    """One client: what it has sent, and what was answered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answered = self.sent = 0
        self.state: State = {}  # after ``answered``
        self.socket: socket.socket | None = None
        self._buffer = b""
        self._expected: deque[int] = deque()  # replies still to come, by request

    def connect(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self._buffer = b""
        self._expected.clear()

    def send(self) -> None:
        """Fill up what is under way."""
        assert self.socket is not None
        data = b""
        while len(self._expected) < AHEAD:
            self.sent += 1
            commands = requests(self.number, self.sent)
            data += b"".join(encode(*command) for command in commands)
            self._expected.append(len(commands))
        if data:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.socket.sendall(data)

    def receive(self) -> bool:
        """Count what was answered; False at the end of the connection."""
        assert self.socket is not None
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError as error:
            assert error.errno == errno.ECONNRESET
            return False
        self._buffer += data
        while (end := reply_end(self._buffer)) >= 0 if self._buffer else False:
            reply, self._buffer = self._buffer[:end], self._buffer[end:]
            assert reply[:1] != b"-", reply
            self._expected[0] -= 1
            if not self._expected[0]:
                self._expected.popleft()
                self.answered += 1
                apply(self.state, self.number, self.answered)
        return bool(data)

    def close(self) -> None:
        """Read what is left of the replies, after the server's end."""
        assert self.socket is not None
        self.socket.setblocking(True)
        self.socket.settimeout(10)
        while self.receive():
            pass
        self.socket.close()
        self.socket = None

    def recognise(self, found: State) -> None:
        """What the data is after a start: that after a request between the last answered and the last sent.
        Work goes on from there."""
        for number in range(self.answered, self.sent + 1):
            if number > self.answered:
                apply(self.state, self.number, number)
            if self.state == found:
                self.answered = self.sent = number
                return
        raise AssertionError(
            f"client {self.number}: {self.answered} answered, {self.sent} sent; after the latter the state is "
            f"{self.state}, and found was {found}"
        )


class Rig:
    """A server that is killed at random moments, and its clients."""

    def __init__(self, kind: str, policy: str, rng: random.Random, options: dict[str, str]) -> None:
        self.rng = rng
        self.kills = self.answers = 0
        self.writers = [Writer(number) for number in range(CLIENTS)]
        self.server: Server = servers.start(kind, options={**OPTIONS, "appendfsync": policy, **options})
        self._begin()

    def _begin(self) -> None:
        """The server answers: look at the data, and let the clients go on."""
        with self.server.client() as client:
            for writer in self.writers:
                writer.recognise(self._found(client, writer.number))
            assert client.call("PING") == b"+PONG\r\n"
            if self.rng.random() < 0.3:
                client.call("BGSAVE")
        for writer in self.writers:
            writer.connect(self.server.unix)
            writer.send()
        self.running = True
        self.until = time.monotonic() + self.rng.choice((0.0, 0.01, 0.05, 0.1, 0.2)) * (
            0.5 + self.rng.random()
        )

    def _found(self, client: RawClient, number: int) -> State:
        """All that there is of one client's keys."""
        own = b"c%d:" % number
        found: State = {}
        for node in parse(client.call("KEYS", own + b"*")).items or ():
            key = node.text
            kind = key.removeprefix(own)
            command = {b"list": ("LRANGE", key, 0, -1), b"hash": ("HGETALL", key)}.get(kind, ("GET", key))
            reply = parse(client.call(*command))
            items = tuple(each.text for each in reply.items or ())
            if kind == b"hash":
                found[key] = tuple(sorted(zip(items[::2], items[1::2], strict=True)))
            else:
                found[key] = items if kind == b"list" else reply.text
        return found

    def step(self, ready: set[int], may_kill: bool) -> None:
        """Go on with what is to be done now."""
        if not self.running:
            if time.monotonic() > self.until:
                raise AssertionError(f"the server does not start:\n{self.server.log()[-4000:]}")
            assert self.server.alive(), f"the server has ended:\n{self.server.log()[-4000:]}"
            with contextlib.suppress(OSError, EOFError):
                with self.server.client() as client:
                    if client.call("PING") != b"+PONG\r\n":
                        return
                self._begin()
            return
        for writer in self.writers:
            if writer.socket is not None and writer.socket.fileno() in ready:
                assert writer.receive(), f"the server hung up:\n{self.server.log()[-4000:]}"
                writer.send()
        if may_kill and time.monotonic() >= self.until:
            self.kill()

    def kill(self) -> None:
        before = sum(writer.answered for writer in self.writers)
        self.server.kill()
        for writer in self.writers:
            writer.close()
        self.kills += 1
        self.answers = max(self.answers, before)
        self.running = False
        self.server.restart(wait=False)
        self.until = time.monotonic() + START_SECONDS

    def fds(self) -> Iterator[int]:
        if self.running:
            for writer in self.writers:
                if writer.socket is not None:
                    yield writer.socket.fileno()

    def close(self) -> None:
        for writer in self.writers:
            if writer.socket is not None:
                writer.socket.close()
        self.server.remove()


def kill_often(
    policies: list[str], kills: int, options: dict[str, str] | None = None, kind: str = "kvstore"
) -> list[Rig]:
    """Servers, one for each policy, killed so many times together; then all of them come up a last time."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed} (of the moments, not of what is under way then)")
    rng = random.Random(seed)
    rigs: list[Rig] = []
    try:
        for policy in policies:
            rigs.append(Rig(kind, policy, random.Random(rng.random()), options or {}))
        while (going_on := sum(rig.kills for rig in rigs) < kills) or not all(rig.running for rig in rigs):
            fds = [fd for rig in rigs for fd in rig.fds()]
            ready = set(select.select(fds, (), (), 0.005)[0])
            for rig in rigs:
                rig.step(ready, going_on)
        return rigs
    finally:
        for rig in rigs:
            rig.close()


@pytest.mark.timeout(1800)
def test_nothing_that_was_answered_is_lost_by_kills_under_always(heavy: bool) -> None:
    rigs = kill_often(["always"] * 3, 5000 if heavy else 200)
    assert sum(rig.answers for rig in rigs) > 1000


@pytest.mark.timeout(1800)
def test_a_kill_loses_nothing_that_was_answered_under_other_policies_either(heavy: bool) -> None:
    rigs = kill_often(["everysec", "no"], 1000 if heavy else 20, {"aof-use-rdb-preamble": "no"})
    assert sum(rig.answers for rig in rigs) > 100


def test_the_clients_of_these_tests_know_what_a_real_server_keeps() -> None:
    require("redis")
    rigs = kill_often(["always"], 10, kind="redis")
    assert sum(rig.answers for rig in rigs) > 100
