"""Small plays with several connections, run on two servers and compared byte for byte.

A play is a text, a line a step:

    a> SET k v        a sends it and its reply is read
    a: BLPOP k 0      a sends it; nothing is read
    a+ PING           a sends it together with the next
    a<                a reads one reply (or push)
    a~ CLIENT ID      a sends it; the reply is read and not compared
    a. GET k          as ``>``, with only the first word of the reply compared
    a!                the server closes a's connection
    a-                a closes its connection
    blocked 2         wait until so many clients are blocked, or put off by a pause
    sleep 0.2         let time pass

A name that ends in 3 speaks RESP3. ``{a}`` stands for the number of a's connection. Words are quoted as in a
shell; ``\\x00`` and the like are bytes. At the end, what has arrived and nobody has read is compared too.

Must not know: any command.
"""

from __future__ import annotations

import re
import shlex
import time

from tests.rawclient import RawClient, encode
from tests.servers import Server

SECONDS = 10.0
_LINE = re.compile(r"(\w+)([>:+<~.!-])\s*(.*)")

Transcript = list[tuple[str, object]]


class Play:
    """One run of a play on one server."""

    def __init__(self, server: Server):
        self._server = server
        self._control = server.client(timeout=SECONDS)
        self._clients: dict[str, RawClient] = {}
        self._numbers: dict[str, str] = {}
        self._held: dict[str, bytes] = {}
        self.transcript: Transcript = []

    def run(self, text: str) -> Transcript:
        try:
            for line in filter(None, (raw.strip() for raw in text.splitlines())):
                self._step(line)
            self._control.call("PING")
            for name, client in self._clients.items():
                try:
                    self._note(f"{name} has unread", client.read_available())
                except EOFError:
                    self._note(name, "closed")
        finally:
            for client in (*self._clients.values(), self._control):
                client.close()
        return self.transcript

    def _note(self, step: str, what: object) -> None:
        self.transcript.append((step, what))

    def _client(self, name: str) -> RawClient:
        if name not in self._clients:
            client = self._clients[name] = self._server.client(timeout=SECONDS)
            if name.endswith("3"):
                client.hello3()
            self._numbers[name] = client.call("CLIENT", "ID").strip()[1:].decode()
        return self._clients[name]

    def _words(self, text: str) -> list[bytes]:
        for name in re.findall(r"\{(\w+)\}", text):
            self._client(name)
            text = text.replace(f"{{{name}}}", self._numbers[name])
        return [word.encode().decode("unicode_escape").encode("latin-1") for word in shlex.split(text)]

    def _step(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "blocked":
            self._await_blocked(int(rest))
            return
        if word == "sleep":
            time.sleep(float(rest))
            return
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"not a step: {line!r}")
        name, sign, text = found.groups()
        client = self._client(name)
        if sign == "!":
            self._note(line, client.at_end())
            return
        if sign == "-":
            client.close()
            del self._clients[name]
            return
        if sign != "<":
            request = self._held.pop(name, b"") + encode(*self._words(text))
            if sign == "+":
                self._held[name] = request
                return
            client.send_bytes(request)
        if sign == ":":
            return
        reply = client.read_reply_bytes()
        if sign != "~":
            self._note(line, reply if sign != "." else reply.split(b" ", 1)[0])

    def _await_blocked(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if len(re.findall(rb" flags=\w*b", self._control.call("CLIENT", "LIST"))) == count:
                return
            time.sleep(0.005)
        raise TimeoutError(f"not {count} clients blocked")


def compare(ours: Server, theirs: Server, text: str) -> None:
    """Run the play on both, from empty databases, and assert that every step went the same way."""
    transcripts = []
    for server in (ours, theirs):
        with server.client(timeout=SECONDS) as control:
            control.call("FLUSHALL")
        transcripts.append(Play(server).run(text))
    mine, real = transcripts
    for (step, got), (_, wanted) in zip(mine, real, strict=True):
        assert got == wanted, f"{step}\n  ours:   {got!r}\n  theirs: {wanted!r}"
