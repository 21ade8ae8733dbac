"""Scripts that take too long: what is served meanwhile, what waits, and how the server stops.

In the tests on a loop of this process, what ``Meanwhile`` does happens in the middle of a script, at an
instant that the test knows.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lupa")

from kvstore.commands.config import Config
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.net.server import Server
from tests import servers
from tests.rawclient import RawClient
from tests.test_scripting import Recorder, wait_until_busy

BUSY = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
READING = "while true do end"
WRITING = "redis.call('set', 'k', 'v') while true do end"
# Writes, takes long enough to be interrupted, and writes again.
SLOW = "redis.call('rpush', 'list', 'a') for i = 1, 3e6 do end redis.call('set', 'k', 1) return 'done'"
OPTIONS = {"lua-time-limit": "50"}


# -- processes, beside real ones -------------------------------------------------------------------------


@pytest.mark.parametrize("body", [READING, WRITING], ids=["reading", "writing"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_a_busy_server(body: str, number: signal.Signals) -> None:
    with servers.running("kvstore", options=OPTIONS) as server:
        with server.client() as slow, server.client() as other:
            slow.send("EVAL", body, "0")
            wait_until_busy(other)
            server.process.send_signal(number)
            assert slow.at_end() and other.at_end()
        assert server.process.wait(10) == 0
        assert not Path(server.unix).exists()


def test_a_signal_before_a_script_is_busy_stops_the_server_too() -> None:
    with servers.running("kvstore", options={"lua-time-limit": "300"}) as server:
        with server.client() as slow:
            slow.call("EVAL", "return 1", "0")
            slow.send("EVAL", READING, "0")
            server.process.send_signal(signal.SIGTERM)
            assert slow.at_end()
        assert server.process.wait(10) == 0


def test_shutdown_of_a_busy_server_asks_for_nosave() -> None:
    conversation = [
        *(("SHUTDOWN",), ("SHUTDOWN", "SAVE"), ("SHUTDOWN", "NOW"), ("SHUTDOWN", "FORCE", "NOW")),
        *(("SHUTDOWN", "ABORT"), ("SHUTDOWN", "x"), ("SHUTDOWN", "NOSAVE", "SAVE")),
        *(("SHUTDOWN", "NOSAVE", "ABORT"), ("PING",)),
    ]
    replies = []
    for kind in ("kvstore", "redis"):
        with servers.running(kind, options=OPTIONS) as server:
            with server.client() as slow, server.client() as other:
                slow.send("EVAL", WRITING, "0")
                wait_until_busy(other)
                got: list[Any] = [other.call(*argv) for argv in conversation]
                other.send("SHUTDOWN", "NOSAVE", "NOW")
                got += [other.at_end(), slow.at_end()]
            replies.append([*got, server.process.wait(10)])
    for argv, ours, theirs in zip([*conversation, "end", "end", "exit"], *replies, strict=True):
        assert ours == theirs, argv


def test_info_tells_of_scripts(kvstore_server: servers.Server) -> None:
    def figures(client: RawClient) -> tuple[int, ...]:
        lines = dict(
            line.split(b":") for line in client.call("INFO", "memory").split(b"\r\n") if b":" in line
        )
        names = (
            b"number_of_cached_scripts",
            b"used_memory_lua",
            b"used_memory_vm_eval",
            b"used_memory_scripts",
        )
        return tuple(int(lines[name]) for name in names)

    with kvstore_server.client() as client:
        client.call("FUNCTION", "FLUSH")
        client.call("SCRIPT", "FLUSH")
        assert figures(client) == (0, 0, 0, 0)
        client.call("EVAL", "return 1", "0")
        client.call("SCRIPT", "LOAD", f"return '{'x' * 10000}'")
        scripts, lua, vm, bodies = figures(client)
        assert scripts == 2 and lua > 10000 and vm > 10000 and bodies > 10000
        client.call("SCRIPT", "FLUSH")
        assert figures(client) == (0, 0, 0, 0)


# -- in this process, turn by turn -----------------------------------------------------------------------


class Turning:
    """A server that turns when told to, with a clock that moves when told to."""

    def __init__(self, path: str):
        self.clock = ManualClock(1_700_000_000_000)
        config = Config()
        config.assign("busy-reply-threshold", "1")
        self.server = Server(Context(Database, clock=self.clock), config)
        self.server.listen_unix(path)
        self.path = path
        self.log: list[Any] = []
        self.recorder = Recorder()
        self._serve_others = self.server.loop.serve_others
        self.server.hub.scripting.serve_others = self._interrupt
        self._meanwhile: list[Callable[[], None]] = []

    def client(self) -> RawClient:
        client = RawClient(self.path)
        self.turn()
        return client

    def turn(self, *meanwhile: Callable[[], None]) -> None:
        """One turn. What is given is done one by one, each before a look at the others in a slow script."""
        self._meanwhile = list(meanwhile)
        self.server.loop.turn(0)
        assert not self._meanwhile, "the script was not slow"

    def _interrupt(self, but: int) -> None:
        if self._meanwhile:
            self._meanwhile.pop(0)()
            self._serve_others(but)
            self.log.append("served")

    def record(self) -> None:
        """Log every run of the hooks with the effects that are for it."""
        self.server.ctx.listen(self.recorder)

        def hook() -> None:
            if self.recorder.effects:
                self.log.append([effect[1] for _, effect in self.recorder.effects])
                self.recorder.effects.clear()

        self.server.loop.before_send.append(hook)


@pytest.fixture
def turning(tmp_path: Path) -> Iterator[Turning]:
    made = Turning(str(tmp_path / "s"))
    with contextlib.closing(made.server):
        yield made


def unread(client: RawClient) -> bytes:
    client.sock.setblocking(False)
    try:
        return client.sock.recv(65536)
    except BlockingIOError:
        return b""


def nothing() -> None:
    pass


def test_hooks_wait_for_the_whole_script_and_busy_replies_do_not(turning: Turning) -> None:
    turning.record()
    before, slow, other = turning.client(), turning.client(), turning.client()
    before.send("SET", "early", "1")
    slow.send("EVAL", SLOW, "0")
    seen: list[bytes] = []
    turning.turn(
        lambda: other.send("GET", "k"),
        lambda: seen.extend([unread(other), unread(before), unread(slow)]),
    )
    assert seen == [BUSY, b"", b""]
    assert turning.log == ["served", "served", [b"early", b"list", b"k"]]
    assert [unread(before), unread(slow), unread(other)] == [b"+OK\r\n", b"$4\r\ndone\r\n", b""]


def test_a_client_whose_write_has_yet_to_be_logged_gets_its_replies_in_order(turning: Turning) -> None:
    turning.record()
    before, slow = turning.client(), turning.client()
    before.send("SET", "early", "1")
    slow.send("EVAL", SLOW, "0")
    turning.turn(lambda: before.send("GET", "k"), nothing)
    assert unread(before) == b"+OK\r\n" + BUSY
    assert unread(slow) == b"$4\r\ndone\r\n"


def test_without_hooks_earlier_replies_do_not_wait_for_a_slow_script(turning: Turning) -> None:
    before, slow = turning.client(), turning.client()
    before.send("SET", "early", "1")
    slow.send("EVAL", SLOW, "0")
    seen: list[bytes] = []
    turning.turn(nothing, lambda: seen.append(unread(before)))
    assert seen == [b"+OK\r\n"]
    assert unread(slow) == b"$4\r\ndone\r\n"


@pytest.mark.parametrize("padding", [0, 1000], ids=["short", "long"])
def test_requests_that_came_with_a_slow_script_are_told_busy_in_order(turning: Turning, padding: int) -> None:
    slow, other = turning.client(), turning.client()
    slow.send("EVAL", SLOW + " " * padding, "0")
    other.send("ECHO", "1")
    turning.turn(lambda: other.send("PING"), nothing)
    assert unread(other) == BUSY * 2
    other.send("ECHO", "2")
    turning.turn()
    assert unread(other) == b"$1\r\n2\r\n"
    assert unread(slow) == b"$4\r\ndone\r\n"


def test_nobody_is_served_and_nothing_expires_in_the_middle_of_a_script(turning: Turning) -> None:
    slow, blocked, timed, paused, other = (turning.client() for _ in range(5))
    data = turning.server.ctx.database(0)._data
    for client, argv in (
        (other, ("SET", "mortal", "v", "PX", "10")),
        (blocked, ("BLPOP", "list", "0")),
        (timed, ("BLPOP", "nothing", "1")),
    ):
        client.send(*argv)
        turning.turn()
    other.send("CLIENT", "PAUSE", "50", "WRITE")
    slow.send("EVAL", "#!lua flags=no-writes\nfor i = 1, 3e6 do end return 'done'", "0")
    paused.send("SET", "put off", "1")
    unread(other)

    def go_on() -> None:
        turning.clock.advance(ms=5000)
        other.send("WATCH", "mortal")

    turning.clock.advance(ms=20)  # the key is due
    turning.turn(go_on, lambda: turning.log.append(sorted(data)))
    assert turning.log == ["served", [b"mortal"], "served"]
    assert unread(timed) == unread(blocked) == b""
    slow.send("EVAL", SLOW, "0")
    other.send("MULTI")
    turning.turn(lambda: other.send("DISCARD"), lambda: turning.log.append(unread(blocked)))
    assert turning.log[3:] == ["served", b"", "served"]
    turning.turn()
    assert unread(blocked) == b"*2\r\n$4\r\nlist\r\n$1\r\na\r\n"
    assert unread(timed) == b"*-1\r\n"
    assert b"mortal" not in data


def test_nothing_is_evicted_for_others_in_the_middle_of_a_script(turning: Turning) -> None:
    slow, other = turning.client(), turning.client()
    for argv in (
        ("SET", "filler", "x" * 1000),
        ("CONFIG", "SET", "maxmemory-policy", "allkeys-random"),
        ("CONFIG", "SET", "maxmemory", "1000000"),
    ):
        other.send(*argv)
        turning.turn()
        assert unread(other) == b"+OK\r\n"
    evictor = turning.server.ctx.evictor
    slow.send("EVAL", SLOW, "0")

    def grow() -> None:
        evictor.maxmemory = 1  # as if the script had written that much
        other.send("MULTI")

    turning.turn(grow, nothing)
    assert unread(other) == b"+OK\r\n"
    assert turning.server.ctx.stats.evicted == 0
    other.send("DISCARD")
    turning.turn()
    assert turning.server.ctx.stats.evicted > 0


def test_a_script_that_a_stop_ends_leaves_no_half_of_its_unit_to_the_hooks(turning: Turning) -> None:
    turning.record()
    before, slow, other = turning.client(), turning.client(), turning.client()
    for argv in (("MULTI",), ("SET", "a", "1"), ("EVAL", SLOW, "0"), ("SET", "b", "1")):
        slow.send(*argv)
        turning.turn()
        assert unread(slow)
    turning.turn()  # nothing is ready any more: what comes first is read first
    turning.log.clear()
    before.send("SET", "early", "1")
    slow.send("EXEC")
    turning.turn(lambda: other.send("SHUTDOWN", "NOSAVE"))
    turning.server.close()
    assert turning.log == []
    assert turning.server.ctx.database(0).get("b") is None
    assert slow.at_end() and other.at_end() and before.at_end()
    assert not turning.server.loop.running and turning.server.hub.current is None
