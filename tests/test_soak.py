"""Many clients at once, none of them polite: every request gets its reply, and nothing stays behind.

Each player is a thread with luck of its own (its seed follows from the printed one). It opens connections,
plays one scene after another on them (pipelines in pieces, transactions, blocked commands, messages, slow
reading, kills, pauses, garbage, sudden ends), and knows what each request must answer, in order.

After each round the server is asked, in its own thread, what is left of the players: nothing may be.
``--heavy`` plays longer.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import random
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvstore
from kvstore.keeping import Keeper
from kvstore.net.server import Server
from kvstore.serving import ServerThread
from tests.rawclient import RawClient, Word, encode

PATIENCE = 20.0  # seconds within which every reply must come; a loaded machine needs some
PLAYERS = 16
SHARED = [b"shared:%d" % n for n in range(4)]  # queues and watched keys that all players use
CHANNELS = ["news", "jazz", "__keyevent@0__:expired"]

Address = str | tuple[str, int]
Check = Callable[[bytes], bool]


def exactly(reply: bytes) -> Check:
    return lambda got: got == reply


def begins(*marks: bytes) -> Check:
    return lambda got: got.startswith(marks)


def bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


class Player:
    """One thread's clients. ``errors`` has what went wrong."""

    def __init__(self, name: str, seed: str, addresses: list[Address]):
        self.name = name
        self.luck = random.Random(seed)
        self.addresses = addresses
        self.client: RawClient
        self.counter = 0
        self.model: dict[bytes, bytes] = {}  # what this player's own keys hold, by its own requests
        self.scene = ""

    # -- helpers -------------------------------------------------------------------------------------

    def connect(self) -> RawClient:
        return RawClient(self.luck.choice(self.addresses), timeout=PATIENCE)

    def token(self) -> bytes:
        """A word that nobody else sends."""
        self.counter += 1
        return f"{self.name}:{self.counter}".encode()

    def key(self) -> bytes:
        return f"{self.name}:k{self.luck.randrange(8)}".encode()

    def request(self) -> tuple[bytes, Check]:
        """One request and what its reply must be."""
        luck, key, token = self.luck, self.key(), self.token()
        match luck.randrange(12):
            case 0 | 1 | 2:
                return encode("ECHO", token), exactly(bulk(token))
            case 3 | 4:
                value = token * luck.choice([1, 1, 1, 40, 4000])
                self.model[key] = value
                return encode("SET", key, value), exactly(b"+OK\r\n")
            case 5 | 6:
                held = self.model.get(key)
                return encode("GET", key), begins(b"$-1\r\n", b"_\r\n") if held is None else exactly(
                    bulk(held)
                )
            case 7:
                brief = b"%b:brief:%d" % (key, luck.randrange(3))
                if luck.random() < 0.5:
                    return encode("SET", brief, token, "PX", luck.randint(1, 30)), exactly(b"+OK\r\n")
                return encode("GET", brief), begins(b"$", b"_")
            case 8:
                return encode("NOSUCH", token), begins(b"-ERR unknown command")
            case 9:
                return encode("RPUSH", luck.choice(SHARED), token), begins(b":")
            case 10:
                return encode("PUBLISH", luck.choice(CHANNELS[:2]), token), begins(b":")
            case _:
                return b"ECHO %b\r\n" % token, exactly(bulk(token))  # inline

    def send_in_pieces(self, data: bytes) -> None:
        while data:
            size = self.luck.choice([1, 3, 17, 200, 5000, len(data), len(data)])
            self.client.send_bytes(data[:size])
            data = data[size:]
            if self.luck.random() < 0.1:
                time.sleep(0.001)

    def expect(self, check: Check) -> None:
        reply = self.client.read_reply_bytes()
        assert check(reply), f"unexpected reply {reply[:200]!r}"

    def play(self, requests: list[tuple[bytes, Check]]) -> None:
        """Send them together and see that each is answered, in order."""
        self.send_in_pieces(b"".join(data for data, _ in requests))
        for _, check in requests:
            self.expect(check)

    def some(self, most: int) -> list[tuple[bytes, Check]]:
        return [self.request() for _ in range(self.luck.randint(1, most))]

    def end_suddenly(self) -> None:
        """Close, half of the time by a reset."""
        if self.luck.random() < 0.5:
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()

    # -- scenes --------------------------------------------------------------------------------------

    def singles(self) -> None:
        for _ in range(self.luck.randint(5, 40)):
            data, check = self.request()
            self.client.send_bytes(data)
            self.expect(check)

    def pipelines(self) -> None:
        for most in (5, 30, 400):
            self.play(self.some(most))

    def transaction(self) -> None:
        requests = [(encode("WATCH", *self.luck.sample(SHARED, 2)), exactly(b"+OK\r\n"))]
        requests += [(encode("MULTI"), exactly(b"+OK\r\n"))]
        words = [self.token() for _ in range(self.luck.randint(0, 5))]
        requests += [(encode("ECHO", word), exactly(b"+QUEUED\r\n")) for word in words]
        requests += [(encode("RPUSH", SHARED[0], "x"), exactly(b"+QUEUED\r\n"))]
        if self.luck.random() < 0.3:
            requests.append((encode("DISCARD"), exactly(b"+OK\r\n")))
        else:
            whole = b"*%d\r\n%b:" % (len(words) + 1, b"".join(map(bulk, words)))
            requests.append((encode("EXEC"), begins(whole, b"*-1\r\n")))
        self.play([*requests, *self.some(5)])

    def blocked(self) -> None:
        """A blocked command, and behind it what has to wait for its end."""
        timeout = self.luck.choice(["0.001", "0.01", "0.05"])
        queue = self.luck.choice([*SHARED, self.token()])
        blocked: list[tuple[Word, ...]] = [
            ("BLPOP", queue, self.luck.choice(SHARED), timeout),
            ("BRPOP", queue, timeout),
            ("BLMOVE", queue, self.luck.choice(SHARED), "LEFT", "RIGHT", timeout),
            ("BZPOPMIN", self.token(), timeout),
            ("BLMPOP", timeout, 2, queue, SHARED[0], "LEFT"),
        ]
        requests = [(encode(*self.luck.choice(blocked)), begins(b"*", b"$")) for _ in range(2)]
        self.play([*requests, *self.some(10)])

    def unblocked_by_another(self) -> None:
        own = self.token()
        self.client.send("CLIENT", "ID")
        number = int(self.client.read_reply_bytes()[1:])
        self.client.send("BLPOP", own, 0)
        self.client.send("ECHO", own)  # may come in the very turn in which the first is served
        with self.connect() as other:
            how = self.luck.randrange(3)
            if how == 0:
                assert other.call("RPUSH", own, "v") == b":1\r\n"
                self.expect(exactly(b"*2\r\n%b%b" % (bulk(own), bulk(b"v"))))
            elif how == 1:
                replies = other.pipeline(("MULTI",), ("RPUSH", own, "v"), ("DEL", own), ("EXEC",))
                assert replies[-1] == b"*2\r\n:1\r\n:1\r\n"
                other.pipeline(("RPUSH", own, "w"), ("ECHO", "x"))
                self.expect(exactly(b"*2\r\n%b%b" % (bulk(own), bulk(b"w"))))
            else:
                deadline = time.monotonic() + PATIENCE
                while other.call("CLIENT", "UNBLOCK", number, "ERROR") != b":1\r\n":
                    assert time.monotonic() < deadline
                self.expect(begins(b"-UNBLOCKED"))
        self.expect(exactly(bulk(own)))

    def messages(self) -> None:
        """Between messages of others, the confirmations and PONGs come in order."""
        resp3 = self.luck.random() < 0.5
        if resp3:
            self.client.hello3()
        own = self.token()
        words: list[tuple[Word, ...]] = [("SUBSCRIBE", *CHANNELS), ("PSUBSCRIBE", "__keyspace@*", "j*")]
        words += [("SUBSCRIBE", own), ("PING", own)]
        self.send_in_pieces(b"".join(encode(*argv) for argv in words))
        with self.connect() as other:
            self.answered(6)
            assert other.call("PUBLISH", own, "hello").startswith(b":")
            while b"hello" not in self.client.read_reply_bytes():
                pass
        self.send_in_pieces(
            b"".join(encode(word) for word in ("UNSUBSCRIBE", "PUNSUBSCRIBE")) + encode("PING")
        )
        self.answered(6)
        self.play(self.some(5))

    def answered(self, confirmations: int) -> None:
        """So many confirmations of subscriptions and a PONG come, whatever messages are between them."""
        while True:
            reply = self.client.read_reply_bytes()
            if re.match(rb"[*>]\d+\r\n\$\d+\r\np?message\r\n", reply):
                continue
            if re.match(rb"[*>]3\r\n\$\d+\r\np?(un)?subscribe\r\n", reply):
                confirmations -= 1
                continue
            assert confirmations == 0, f"a reply too soon: {reply!r}"
            return

    def monitor(self) -> None:
        self.play([(encode("MONITOR"), exactly(b"+OK\r\n"))])
        self.client.read_reply_bytes()  # somebody does something
        self.end_suddenly()

    def kill(self) -> None:
        with self.connect() as other:
            number = int(other.call("CLIENT", "ID")[1:])
            other.send_bytes(
                self.luck.choice([b"", encode("BLPOP", self.token(), 0), b"*2\r\n$4", encode("MULTI")])
            )
            self.play([(encode("CLIENT", "KILL", "ID", number), exactly(b":1\r\n")), *self.some(3)])
            while not other.at_end():
                other.read_reply_bytes()
        if self.luck.random() < 0.5:
            number = int(self.client.call("CLIENT", "ID")[1:])
            self.client.send_bytes(
                encode("CLIENT", "KILL", "ID", number, "SKIPME", "no") + encode("ECHO", "never")
            )
            self.expect(exactly(b":1\r\n"))
            assert self.client.at_end()

    def pause(self) -> None:
        mode = self.luck.choice(["ALL", "WRITE"])
        requests = [(encode("CLIENT", "PAUSE", self.luck.randint(1, 20), mode), exactly(b"+OK\r\n"))]
        self.play([*requests, *self.some(20)])
        if self.luck.random() < 0.5:
            self.play([(encode("CLIENT", "UNPAUSE"), exactly(b"+OK\r\n"))])

    def slow_reader(self) -> None:
        big, count = self.luck.randbytes(300_000), self.luck.randint(1, 30)
        key = self.token()
        self.play([(encode("SET", key, big, "PX", 60_000), exactly(b"+OK\r\n"))])
        self.client.send_bytes(encode("GET", key) * count)
        time.sleep(0.02)
        if self.luck.random() < 0.3:
            self.end_suddenly()
        else:
            self.play([*[(b"", exactly(bulk(big)))] * count, *self.some(5)])
        with self.connect() as other:
            other.call("DEL", key)

    def quit(self) -> None:
        requests = self.some(20)
        self.send_in_pieces(b"".join(data for data, _ in requests))
        self.client.send_bytes(encode("QUIT"))
        for _, check in requests:
            self.expect(check)
        self.expect(exactly(b"+OK\r\n"))
        assert self.client.at_end()

    def half_close(self) -> None:
        """The peer sends no more, but what it has asked for is answered, unless a pause puts it off."""
        words = [self.token() for _ in range(self.luck.randint(1, 300))]
        self.client.send_bytes(b"".join(encode("ECHO", word) for word in words))
        self.client.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(EOFError, ConnectionResetError):
            for word in words:
                assert self.client.read_reply_bytes() == bulk(word)

    def garbage(self) -> None:
        luck = self.luck
        wrong = luck.choice(
            [
                luck.randbytes(luck.randint(1, 2000)),
                b"*1\r\n$-5\r\n",
                b"*99999999999\r\n",
                b"*2\r\n$3\r\nGET\r\nx\r\n",
                b'ECHO "unbalanced\r\n',
                b"*1\r\n$4\r\nPING",
                b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
                b"\0" * 70_000 + b"\r\n",
            ]
        )
        requests = self.some(4)
        self.send_in_pieces(b"".join(data for data, _ in requests))
        for _, check in requests:
            self.expect(check)
        with contextlib.suppress(OSError):
            self.send_in_pieces(wrong)
            self.client.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if not self.client.sock.recv(65536):
                    return
            except ConnectionError:
                return
        raise AssertionError("the server keeps a connection that has ended")

    def vanish(self) -> None:
        """Go away in the middle of something."""
        own = self.token()
        for data in self.luck.choice(
            [
                [b"*3\r\n$3\r\nSET\r\n$1"],
                [encode("MULTI"), encode("SET", own, "x")],
                [encode("WATCH", *SHARED, own)],
                [encode("BLPOP", own, SHARED[0], 0)],
                [encode("BLPOP", own, 3600), encode("ECHO", "x") * 50],
                [encode("SUBSCRIBE", own, *CHANNELS), encode("PSUBSCRIBE", "*")],
                [encode("SSUBSCRIBE", own)],
                [encode("CLIENT", "PAUSE", "5"), encode("SET", own + b":brief", "x", "PX", "20")],
                [encode("MONITOR")],
                [encode("BLPOP", own, 0, "x") * 3000],
            ]
        ):
            self.client.send_bytes(data)
        self.end_suddenly()

    # -- playing -------------------------------------------------------------------------------------

    def scenes(self) -> list[Callable[[], None]]:
        return [
            *[self.singles] * 3,
            *[self.pipelines] * 3,
            *[self.blocked] * 3,
            *[self.transaction] * 2,
            *[self.messages] * 2,
            *[self.vanish] * 3,
            *(self.unblocked_by_another, self.monitor, self.kill, self.pause, self.slow_reader),
            *(self.quit, self.half_close, self.garbage),
        ]

    def run(self, scenes: int) -> None:
        for _ in range(scenes):
            scene = self.luck.choice(self.scenes())
            self.scene = scene.__name__
            with self.connect() as self.client:
                if self.luck.random() < 0.2:
                    self.play(self.some(3))
                scene()


# -- what is left ------------------------------------------------------------------------------------------


def what_is_left(server: ServerThread) -> dict[str, str]:
    """What the server still has of clients that are gone: nothing, when all is well. Runs in its thread."""
    inner = server._server
    hub, loop = inner.hub, inner.loop
    keeper = inner.files  # whose timer is for as long as the server is
    assert isinstance(keeper, Keeper)
    found: dict[str, Any] = {
        "sessions": [each for each in hub.sessions.values() if each.transport is not None],
        "more than the store's own session": len(hub.sessions) > 1,
        "current": hub.current,
        "blocked": hub._blocked,
        "watchers": hub._watchers,
        "ready": hub._ready,
        "resumed": hub.resumed,
        "postponed": hub.postponed,
        "monitors": hub.monitors,
        "own pushes": hub.own_pushes,
        "notifications": hub.notifications.queue,
        "channels": hub.channels.plain,
        "shard channels": hub.channels.sharded,
        "patterns": hub.channels.patterns,
        "features": hub.features,
        "pending": hub.pending,
        "draining": hub._draining,
        "timers": [
            timer
            for timer in hub._timers._heap
            if timer.call not in (None, keeper._tick) and timer.call.__module__ != "kvstore.net.packing"
        ],
        "connections": inner.connections,
        "plain connections": inner.plain,
        "slow connections": inner.slow,
        "unsent": loop.unsent,
        "due calls": list(loop._soon),
        "handlers": len(loop._handlers) - sum(map(len, inner.listeners.values())),
    }
    return {what: repr(value)[:300] for what, value in found.items() if value}


def wait_until_nothing_is_left(server: ServerThread) -> None:
    """Ends that are under way, and keys and pauses that are nearly over, are given some time."""
    deadline = time.monotonic() + PATIENCE
    while left := server.call(lambda store: what_is_left(server), timeout=PATIENCE):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


def expect_nothing_left(server: ServerThread) -> None:
    wait_until_nothing_is_left(server)
    server.call(check_databases)
    with RawClient(server.url.removeprefix("unix://"), timeout=PATIENCE) as client:
        info = client.call("INFO", "clients")
    for figure in ("connected_clients:1", "blocked_clients:0", "watching_clients:0", "pubsub_clients:0"):
        name = figure.partition(":")[0]
        found = re.search(rf"{name}:\d+", info.decode())
        assert found and found[0] == figure, f"{found} instead of {figure}"
    wait_until_nothing_is_left(server)


def check_databases(store: kvstore.Store) -> None:
    for database in store.ctx.databases.values():
        database.check()


class Complaints(logging.Handler):
    """Keeps the log's errors: tracebacks are bugs."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.texts.append(logging.Formatter().format(record))


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    handler = Complaints()
    logger = logging.getLogger("kvstore")
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)


def feed(store: kvstore.Store) -> None:
    """What the program does with its store while it is served: it wakes clients, too."""
    store.rpush(SHARED[0], "from the program")
    store.publish(CHANNELS[0], "from the program")
    store.set("brief", "x", px=5)


def play_round(seed: int, number: int, server: ServerThread, addresses: list[Address], scenes: int) -> None:
    players = [Player(f"p{n}", f"{seed}:{number}:{n}", addresses) for n in range(PLAYERS)]
    errors: list[str] = []

    def run(player: Player) -> None:
        try:
            player.run(scenes)
        except Exception as error:
            errors.append(f"{player.name}, {player.scene}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(player,), daemon=True) for player in players]
    for thread in threads:
        thread.start()
    with RawClient(addresses[0], timeout=PATIENCE) as ticker:  # so that a monitor has something to see
        while any(thread.is_alive() for thread in threads):
            ticker.call("PING")
            server.call(feed, timeout=PATIENCE)
            time.sleep(0.005)
    assert not errors, f"seed {seed}, round {number}:\n" + "\n".join(errors)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of memory that this process, and so the server, takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def objects(server: ServerThread) -> int:
    """How many objects the collector sees once the data is gone, and with it all that can fall due."""
    server.call(lambda store: store.flushall())
    assert not server.call(lambda store: what_is_left(server))
    assert server.call(lambda store: store.next_due_ms()) is None
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the process in /proc")
@pytest.mark.parametrize("portable", [False, True], ids=["epoll", "selectors"])
def test_many_rude_clients_get_every_reply_and_leave_nothing_behind(
    tmp_path: Path, heavy: bool, complaints: list[str], portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("KVSTORE_TEST_SEED", 0)) or random.randrange(1 << 32)
    rounds, scenes = (30, 60) if heavy else (4, 12)
    print("seed", seed)
    monkeypatch.setattr("kvstore.serving.Server", functools.partial(Server, portable=portable))
    with kvstore.serve(
        unix=tmp_path / "s",
        port=0,
        notify_keyspace_events="AKE",
        client_output_buffer_limit="normal 0 0 0 replica 0 0 0 pubsub 0 0 0",
    ) as server:
        addresses: list[Address] = [str(tmp_path / "s"), ("127.0.0.1", server.port)]
        files, found, memory = [], [], []
        for number in range(rounds):
            play_round(seed, number, server, addresses, scenes)
            expect_nothing_left(server)
            assert not complaints, "\n".join(complaints)
            files.append(open_files())
            found.append(objects(server))
            memory.append(resident())
        assert files[-1] <= files[0], f"seed {seed}: open files {files}"
        # The first round fills tables; a later one leaves at most what counters and caches take.
        assert found[-1] < found[1] + 2000, f"seed {seed}: objects {found}"
        assert memory[-1] < memory[1] + (64 << 20), f"seed {seed}: bytes of memory {memory}"
