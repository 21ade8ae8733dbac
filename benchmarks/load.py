"""Generators of load: redis-benchmark, and what it cannot do, with ready-made bytes on raw sockets.

Ours send blocks of requests whose replies always have the same number of bytes, so that counting the bytes received is
counting the replies: a generator must cost little beside the server, or it measures itself.

Must not know: which server answers.
"""

from __future__ import annotations

import gc
import select
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.instances import Instance, cpu_seconds, request

CLIENTS = 50
CHUNK = 1 << 18
STALL_SECONDS = 60.0
_MARK = b"~end of the replies~"


class Stalled(RuntimeError):
    """A server does not answer any more."""


def redis_benchmark(
    server: Instance, words: Sequence[str], requests: int, depth: int = 1, keyspace: int = 10_000
) -> tuple[float, float]:
    """Requests a second of a command line, and microseconds of the server's CPU for each."""
    command = [
        "redis-benchmark",
        "-s",
        server.path,
        "-c",
        str(CLIENTS),
        "-n",
        str(requests),
        "-P",
        str(depth),
    ]
    command += ["-r", str(keyspace), "--csv", *words]
    before, began = cpu_seconds(server.pid), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    took, used = time.perf_counter() - began, cpu_seconds(server.pid) - before
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"redis-benchmark {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-500:]}")
    # The fields are quoted, and the command line in the first may itself hold commas and quotes.
    rate = float(lines[-1].split('","')[1].strip('"'))
    # It counts whole milliseconds: a very short run has no rate.
    return rate if rate < 1e9 else requests / took, used / requests * 1e6


@contextmanager
def uncollected() -> Iterator[None]:
    """The generator's own garbage collector does not run meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def connected(server: Instance) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(STALL_SECONDS)
    made.connect(server.path)
    return made


def reply_bytes(server: Instance, block: bytes) -> int:
    """How many bytes answer a block, once it has been sent before."""
    with connected(server) as to:
        for _ in range(2):
            to.sendall(block + request("ECHO", _MARK))
            found = b""
            while _MARK + b"\r\n" not in found:
                data = to.recv(CHUNK)
                if not data:
                    raise ConnectionError("the server has closed the connection")
                found += data
        if b"-" in {line[:1] for line in found.split(b"\r\n")}:
            raise RuntimeError(found.decode(errors="replace")[:500])
        return len(found) - len(b"$%d\r\n%s\r\n" % (len(_MARK), _MARK))


def closed_loop(
    server: Instance, block: bytes, per_block: int, blocks: int, sockets: int
) -> tuple[float, float]:
    """As ``redis_benchmark``: each socket sends the block anew when the last one is answered."""
    size = reply_bytes(server, block)
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        peers = {}
        for _ in range(sockets):
            made = stack.enter_context(connected(server))
            peers[made.fileno()] = made
            poll.register(made, select.EPOLLIN)
        missing = dict.fromkeys(peers, size)
        stack.enter_context(uncollected())
        before, began = cpu_seconds(server.pid), time.perf_counter()
        for made in peers.values():
            made.sendall(block)
        sent, answered = sockets, 0
        while answered < sent:
            ready = poll.poll(STALL_SECONDS)
            if not ready:
                raise Stalled(server.kind)
            for fd, _ in ready:
                left = missing[fd] - len(peers[fd].recv(CHUNK))
                if left <= 0:
                    answered += 1
                    left = size
                    if sent < blocks:
                        sent += 1
                        peers[fd].sendall(block)
                missing[fd] = left
        took, used = time.perf_counter() - began, cpu_seconds(server.pid) - before
    requests = answered * per_block
    return requests / took, used / requests * 1e6


def publish(server: Instance, subscribers: int, messages: int, depth: int = 16) -> tuple[float, float]:
    """As ``redis_benchmark``, of PUBLISH in pipelines, each message to all subscribers; all are received."""
    block = request("PUBLISH", "channel", "message:12345678") * depth
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        peers = {}
        for _ in range(subscribers):
            made = stack.enter_context(connected(server))
            made.sendall(request("SUBSCRIBE", "channel"))
            if not made.recv(CHUNK):
                raise ConnectionError("the server has closed the connection")
            peers[made.fileno()] = made
            poll.register(made, select.EPOLLIN)
        publisher = stack.enter_context(connected(server))
        each = len(request("message", "channel", "message:12345678")) * depth * subscribers
        stack.enter_context(uncollected())
        before, began = cpu_seconds(server.pid), time.perf_counter()
        blocks = max(1, messages // depth)
        for _ in range(blocks):
            publisher.sendall(block)
            left = each
            while left:
                ready = poll.poll(STALL_SECONDS)
                if not ready:
                    raise Stalled(server.kind)
                for fd, _ in ready:
                    left -= len(peers[fd].recv(CHUNK))
            lines = 0
            while lines < depth:
                lines += publisher.recv(CHUNK).count(b"\n")
        took, used = time.perf_counter() - began, cpu_seconds(server.pid) - before
    return blocks * depth / took, used / (blocks * depth) * 1e6


def open_loop(
    server: Instance,
    requests: Sequence[bytes],
    reply: int,
    rate: float,
    seconds: float,
    sockets: int = CLIENTS,
) -> list[float]:
    """Seconds from when each request was due to its reply, at a steady rate, whatever the server does.

    Each reply has ``reply`` bytes. This waits without sleeping: it takes a core of its own.
    """
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        peers = [stack.enter_context(connected(server)) for _ in range(sockets)]
        waiting: dict[int, deque[float]] = {made.fileno(): deque() for made in peers}
        by_number = {made.fileno(): made for made in peers}
        parts = dict.fromkeys(waiting, 0)
        for made in peers:
            made.setblocking(False)
            poll.register(made, select.EPOLLIN)
        found: list[float] = []
        clock, step, count = time.perf_counter, 1 / rate, len(requests)
        stack.enter_context(uncollected())
        due, number = clock(), 0
        end = due + seconds
        while due < end or any(waiting.values()):
            now = clock()
            while due <= now and due < end:
                to = peers[number % sockets]
                to.send(requests[number % count])
                waiting[to.fileno()].append(due)
                number += 1
                due += step
            if now > end + STALL_SECONDS:
                raise Stalled(server.kind)
            for fd, _ in poll.poll(0):
                answers, parts[fd] = divmod(parts[fd] + len(by_number[fd].recv(CHUNK)), reply)
                now = clock()
                queue = waiting[fd]
                for _ in range(answers):
                    found.append(now - queue.popleft())
    return found
