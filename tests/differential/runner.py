"""Send one sequence of steps to two servers, compare every reply and the data at the end, shrink what failed.

A sequence starts from empty databases, new connections and the same prologue, so that its steps alone
decide the outcome: a failing sequence is replayed with fewer and fewer groups of steps until none can be
left out, and printed as lines for redis-cli.

Must not know: any family's commands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.differential.compare import (
    Ask,
    Comparison,
    Exchange,
    Known,
    exact,
    judge,
    near,
    unordered,
    unordered_pairs,
)
from tests.differential.grammar import PROLOGUE, Grammar, Group, Step
from tests.differential.known import KNOWN
from tests.rawclient import RawClient, Word, parse, reply_end
from tests.servers import Server

REPLY_SECONDS = 10.0
SHRINK_SECONDS = 60.0
Steps = Sequence[Group]


@dataclass(frozen=True)
class Mismatch:
    """Where the two servers parted: the step (None: the data at the end), both replies, and why."""

    at: int | None
    step: Step | None
    ours: bytes
    theirs: bytes
    why: str

    @property
    def signature(self) -> str:
        """What makes two mismatches the same one, roughly: the command and the reason."""
        name = self.step.argv[0].decode("latin-1").upper() if self.step else "data at the end"
        return f"{name}: {self.why}"


@contextmanager
def left_as_it_was(server: Server, grammar: Grammar) -> Iterator[None]:
    """Take back what sequences of the grammar leave on a server, but for data: others use the server, too."""
    with server.client() as client:
        words = [b"CONFIG", b"GET", *(name.encode() for name in grammar.config)]
        told = [item.text for item in parse(client.call(*words)).items or ()] if grammar.config else []
        try:
            yield
        finally:
            for name, value in zip(told[::2], told[1::2], strict=True):
                client.call("CONFIG", "SET", name, value)
            for step in grammar.prologue:
                client.call(*step.argv)


class _Side:
    """One server's connections during one sequence."""

    def __init__(self, server: Server, connections: int, resp: int) -> None:
        self.server = server
        self.control = server.client(timeout=REPLY_SECONDS)
        self.resp = resp
        self.clients = [self._connect() for _ in range(connections)]

    def _connect(self) -> RawClient:
        client = self.server.client(timeout=REPLY_SECONDS)
        client.number = int(parse(client.call("CLIENT", "ID")).text)
        if self.resp == 3:
            client.hello3()
        return client

    def reconnect(self, on: int) -> None:
        self.clients[on].close()
        self.clients[on] = self._connect()

    def translated(self, step: Step) -> tuple[Word, ...] | None:
        """The command to send: pseudo-commands name a connection, the server its own number for it."""
        name, *rest = step.argv
        if name == b"@PAUSE":
            return None
        if name == b"@UNBLOCK":
            return ("CLIENT", "UNBLOCK", self.clients[int(rest[0])].number, *rest[1:])
        if name == b"@KILL":
            return ("CLIENT", "KILL", "ID", self.clients[int(rest[0])].number)
        return step.argv

    def close(self) -> None:
        for client in (self.control, *self.clients):
            client.close()

    def call(self, step: Step) -> bytes:
        """The reply; a closed connection or a missing reply is an outcome like any other."""
        return self._guarded(lambda: self.clients[step.on].call(*step.argv))

    def _guarded(self, call: Callable[[], bytes]) -> bytes:
        try:
            return call()
        except TimeoutError:
            return b"(no reply in time)"
        except (EOFError, ConnectionError):
            return b"(connection closed)" if self.server.alive() else b"(SERVER DIED)"

    def settle(self) -> None:
        """Wait until the server is idle: the second round trip starts after all that came before."""
        self.control.call("PING")
        self.control.call("PING")

    def arrived(self) -> list[list[bytes]]:
        """What has come, connection by connection; a closed connection shows as such once."""
        result = []
        for on, client in enumerate(self.clients):
            replies: list[bytes] = []
            try:
                while more := client.read_available():
                    replies += more
            except (EOFError, ConnectionError):
                replies.append(b"(connection closed)")
                self.reconnect(on)
            result.append(replies)
        return result


class Pair:
    """Two servers under comparison: ours (the subject) and theirs (the reference)."""

    def __init__(self, ours: Server, theirs: Server, grammar: Grammar, resp: int) -> None:
        self.ours = ours
        self.theirs = theirs
        self.grammar = grammar
        self.resp = resp
        self.names = frozenset((ours.kind, theirs.kind))
        # What ours is asked between all steps, which nobody should notice.
        self.between: tuple[Word, ...] = ()
        self.known: list[Known] = [entry for entry in (*KNOWN, *grammar.known) if entry.server in self.names]
        self._configure()

    def _configure(self) -> None:
        for server in (self.ours, self.theirs):
            with server.client() as client:
                for name, value in self.grammar.config.items():
                    reply = client.call("CONFIG", "SET", name, value)
                    newer = server.kind == "redis" and b"Unknown option" in reply  # than 7.0
                    if reply != b"+OK\r\n" and not newer:
                        raise RuntimeError(f"{server.kind}: CONFIG SET {name} {value}: {reply!r}")

    def run(self, groups: Steps) -> Mismatch | None:
        """Run the steps from empty databases; the first mismatch, or None."""
        run = _Run(self)
        try:
            steps = [step for group in groups for step in group]
            for at, step in enumerate(steps):
                if (mismatch := run.step(at, step)) is not None:
                    return mismatch
            return run.compare_data()
        finally:
            run.close()

    def sequence(self, seed: object, length: int) -> list[Group]:
        """The groups of a seed, about ``length`` steps."""
        rng = random.Random(f"{self.grammar.family}:{seed}")
        groups: list[Group] = []
        count = 0
        while count < length:
            groups.append(self.grammar.group(rng, self.names))
            count += len(groups[-1])
        return groups


class _Run:
    """The state of one replay: both sides, what each connection has queued, and who is blocked."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.grammar = pair.grammar
        connections = pair.grammar.connections
        self.sides: list[_Side] = []
        for server in (pair.ours, pair.theirs):
            with server.client(timeout=REPLY_SECONDS) as client:
                client.call("FLUSHALL")
                client.pipeline(*(step.argv for step in (*pair.grammar.prologue, *PROLOGUE)))
            self.sides.append(_Side(server, connections, pair.resp))
        self.queued: list[list[tuple[bytes, ...]]] = [[] for _ in range(connections)]
        self.blocked = [False] * connections

    def close(self) -> None:
        for side in self.sides:
            side.close()

    def step(self, at: int, step: Step) -> Mismatch | None:
        """One step on both; its mismatch, if any."""
        if self.pair.between:
            self.sides[0].control.call(*self.pair.between)
        name = step.argv[0].upper()
        if name == b"@PAUSE":
            time.sleep(int(step.argv[1]) / 1000)
            return self._settled_step(at, step) if self.grammar.settle else None
        if self.blocked[step.on]:
            return None  # its client waits, on both servers, and would not read this command
        if name == b"@SCAN":
            ours, theirs = (_scan_all(side, step) for side in self.sides)
            wrong = self._judge(_scan_argv(step, b"0"), step.on, ours, theirs, exact)
            return None if wrong is None else Mismatch(at, step, ours, theirs, wrong)
        if self.grammar.settle:
            return self._settled_step(at, step)
        ours, theirs = (side.call(step) for side in self.sides)
        return self._compare(at, step, ours, theirs)

    def _settled_step(self, at: int, step: Step) -> Mismatch | None:
        arrived = []
        for side in self.sides:
            if (argv := side.translated(step)) is not None:
                side.clients[step.on].send(*argv)
            side.settle()
            arrived.append(side.arrived())
        mine, other = arrived
        same = self.grammar.arrivals or (lambda argv, left, right: False)
        for on, (left, right) in enumerate(zip(mine, other, strict=True)):
            mismatch = None
            if on == step.on and len(left) == len(right) == 1:
                mismatch = self._compare(at, step, left[0], right[0])
            elif left != right and not same(step.argv, left, right):
                why = "the bytes differ" if len(left) == len(right) else "not the same number of replies"
                mismatch = Mismatch(at, step, _shown(mine), _shown(other), why)
            if mismatch is not None:
                return mismatch
            if left:
                self.blocked[on] = False
            elif on == step.on and step.argv[0].upper() != b"@PAUSE":
                self.blocked[on] = True
        return None

    def _compare(self, at: int, step: Step, ours: bytes, theirs: bytes) -> Mismatch | None:
        argv, on = step.argv, step.on
        if ours == theirs == b"(connection closed)":
            for side in self.sides:
                side.reconnect(on)
            self.queued[on].clear()
            return None
        name = argv[0].upper()
        if ours == theirs == b"+QUEUED\r\n":
            self.queued[on].append(argv)
            return None
        queued = self.queued[on]
        if name == b"EXEC" and queued and ours != theirs:
            mismatch = self._compare_exec(at, step, queued, ours, theirs)
        else:
            wrong = self._judge(argv, on, ours, theirs)
            mismatch = None if wrong is None else Mismatch(at, step, ours, theirs, wrong)
        if name in (b"EXEC", b"DISCARD", b"RESET") or (name == b"MULTI" and ours == b"+OK\r\n"):
            queued.clear()
        return mismatch

    def _judge(
        self, argv: tuple[bytes, ...], on: int, ours: bytes, theirs: bytes, by: Comparison | None = None
    ) -> str | None:
        if ours.startswith(b"(") or theirs.startswith(b"("):
            return None if ours == theirs else "one did not answer"
        mine, other = (side.clients[on].call for side in self.sides)
        exchange = Exchange(argv, ours, theirs, mine, other)
        return judge(exchange, by or self.grammar.comparison(argv), self.pair.known)

    def _compare_exec(
        self, at: int, step: Step, queued: list[tuple[bytes, ...]], ours: bytes, theirs: bytes
    ) -> Mismatch | None:
        """Each element of an EXEC's reply, by its own command's comparison."""
        mine, other = _elements(ours), _elements(theirs)
        if mine is None or other is None or not len(mine) == len(other) == len(queued):
            return Mismatch(at, step, ours, theirs, "the transactions differ")
        for argv, left, right in zip(queued, mine, other, strict=True):
            if (wrong := self._judge(argv, step.on, left, right)) is not None:
                return Mismatch(at, Step(argv, step.on), left, right, f"inside EXEC: {wrong}")
        return None

    def compare_data(self) -> Mismatch | None:
        """All data of all compared databases, and the encodings."""
        if self.pair.between:
            self.sides[0].control.call(*self.pair.between)
        for database in range(self.grammar.databases):
            asks = []
            for side in self.sides:
                side.control.call("SELECT", database)
                asks.append(side.control.call)
            ours, theirs = asks
            keys = sorted(item.text for item in parse(ours("KEYS", "*")).items or ())
            others = sorted(item.text for item in parse(theirs("KEYS", "*")).items or ())
            if keys != others:
                why = f"the keys of database {database} differ"
                return Mismatch(None, None, repr(keys).encode(), repr(others).encode(), why)
            for key in keys:
                if (mismatch := self._compare_key(key, ours, theirs)) is not None:
                    return mismatch
        return None

    def _compare_key(self, key: bytes, ours: Ask, theirs: Ask) -> Mismatch | None:
        kind = theirs("TYPE", key)
        probes = [(b"TYPE", key), (b"PTTL", key), *_contents(kind, key), (b"OBJECT", b"ENCODING", key)]
        for argv in probes:
            left, right = ours(*argv), theirs(*argv)
            comparison = _PROBES.get(argv[0], exact)
            exchange = Exchange(argv, left, right, ours, theirs)
            if (wrong := judge(exchange, comparison, self.pair.known)) is not None:
                line = redis_cli_line(Step(argv))
                return Mismatch(None, None, left, right, f"{line}: {wrong}")
        return None


def _contents(kind: bytes, key: bytes) -> list[tuple[bytes, ...]]:
    """The command that shows all of a key of this type."""
    probes: dict[bytes, list[tuple[bytes, ...]]] = {
        b"+string\r\n": [(b"GET", key)],
        b"+list\r\n": [(b"LRANGE", key, b"0", b"-1")],
        b"+set\r\n": [(b"SMEMBERS", key)],
        b"+hash\r\n": [(b"HGETALL", key)],
        b"+zset\r\n": [(b"ZRANGE", key, b"0", b"-1", b"WITHSCORES")],
        b"+stream\r\n": [
            (b"XRANGE", key, b"-", b"+"),
            (b"XINFO", b"STREAM", key),
            (b"XINFO", b"GROUPS", key),
        ],
    }
    return probes.get(kind, [])


_PROBES: dict[bytes, Comparison] = {
    b"PTTL": near(2000),
    b"SMEMBERS": unordered,
    b"HGETALL": unordered_pairs,
}


def _elements(reply: bytes) -> list[bytes] | None:
    """The exact bytes of each element of an array."""
    if not reply.startswith(b"*") or reply.startswith(b"*-1"):
        return None
    pos = reply.index(b"\r\n") + 2
    items = []
    while pos < len(reply):
        end = reply_end(reply, pos)
        items.append(reply[pos:end])
        pos = end
    return items


def _shown(arrived: list[list[bytes]]) -> bytes:
    return b" ".join(b"[%d] %b" % (on, b"".join(replies)) for on, replies in enumerate(arrived) if replies)


def _scan_argv(step: Step, cursor: bytes) -> tuple[bytes, ...]:
    """One command of ``@SCAN name [key] options``."""
    at = 2 if step.argv[1].upper() == b"SCAN" else 3
    return (*step.argv[1:at], cursor, *step.argv[at:])


def _scan_all(side: _Side, step: Step) -> bytes:
    """A whole cursor loop; what it found, sorted and each once, as a reply; or the first reply that is no page."""
    name = step.argv[1]
    client = side.clients[step.on]
    cursor = b"0"
    found: set[tuple[bytes, ...]] = set()
    for _ in range(10_000):
        reply = client.call(*_scan_argv(step, cursor))
        if reply.startswith((b"-", b"+")):
            return reply
        page = parse(reply).items or ()
        cursor = page[0].text
        items = [item.text for item in page[1].items or ()]
        width = 2 if name.upper() in (b"HSCAN", b"ZSCAN") else 1
        found.update(tuple(items[n : n + width]) for n in range(0, len(items), width))
        if cursor == b"0":
            words = [word for item in sorted(found) for word in item]
            return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)
    return b"(the scan does not end)"


def shrink(groups: Steps, fails: Callable[[Steps], bool], seconds: float = SHRINK_SECONDS) -> list[Group]:
    """A subsequence that still fails and needs all it has: delta debugging, in bounded time."""
    best = list(groups)
    deadline = time.monotonic() + seconds
    size = max(1, len(best) // 2)
    while time.monotonic() < deadline:
        start, shorter = 0, False
        while start < len(best) and time.monotonic() < deadline:
            candidate = best[:start] + best[start + size :]
            if len(candidate) < len(best) and fails(candidate):
                best, shorter = candidate, True
            else:
                start += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return best


def minimal(pair: Pair, groups: Steps, mismatch: Mismatch) -> tuple[list[Group], Mismatch]:
    """The shrunk sequence and its mismatch; it fails at the same command for the same reason."""
    last = mismatch

    def fails(candidate: Steps) -> bool:
        nonlocal last
        found = pair.run(candidate)
        if found is None or found.signature != mismatch.signature:
            return False
        last = found
        return True

    if mismatch.at is not None:  # what comes after the failing step does not matter
        groups = _up_to(groups, mismatch.at)
    shrunk = shrink(groups, fails)
    return shrunk, last


def _up_to(groups: Steps, at: int) -> list[Group]:
    result, count = [], 0
    for group in groups:
        result.append(group)
        count += len(group)
        if count > at:
            break
    return result


# --- printing and reading sequences -------------------------------------------------------------------


def redis_cli_line(step: Step) -> str:
    """The step as redis-cli takes it, connection first where it is not the first one."""
    prefix = f"[{step.on}] " if step.on else ""
    return prefix + " ".join(_quoted(word) for word in step.argv)


def _quoted(word: bytes) -> str:
    if word and all(33 <= byte < 127 and byte not in b"\"'\\[]" for byte in word):
        return word.decode()
    shown = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word
    )
    return f'"{shown}"'


def parse_line(line: str) -> Step:
    """The reverse of ``redis_cli_line``."""
    on = 0
    if line.startswith("[") and "] " in line:
        head, line = line[1:].split("] ", 1)
        on = int(head)
    words, pos = [], 0
    while pos < len(line):
        if line[pos].isspace():
            pos += 1
        elif line[pos] == '"':
            end = pos + 1
            while line[end] != '"':
                end += 2 if line[end] == "\\" else 1
            body = line[pos + 1 : end].encode("latin-1").decode("unicode_escape")
            words.append(body.encode("latin-1"))
            pos = end + 1
        else:
            end = pos
            while end < len(line) and not line[end].isspace():
                end += 1
            words.append(line[pos:end].encode())
            pos = end
    return Step(tuple(words), on)


def report(pair: Pair, groups: Iterable[Group], mismatch: Mismatch) -> str:
    """A failing sequence as text: its steps, both replies, and what is wrong."""
    names = f"{pair.ours.kind} (ours) against {pair.theirs.kind} (theirs)"
    lines = [f"RESP{pair.resp}, {names}: {mismatch.signature}"]
    lines += [f"  {redis_cli_line(step)}" for group in groups for step in group]
    if mismatch.step is not None:
        lines.append(f"differs at: {redis_cli_line(mismatch.step)}")
    lines += [f"ours:   {mismatch.ours!r}", f"theirs: {mismatch.theirs!r}"]
    return "\n".join(lines)
