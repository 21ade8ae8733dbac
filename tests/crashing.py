"""A store on a disk that crashes: random work on it, and what must be there after the next start.

``Work`` drives a store and its files (the coordinator of ``kvstore.persist``) as a server does, with commands
in turns and the log written before anything is answered, or as a durable store of a program does, where each
call returns when its change is written. A ``Journal`` hears the effects before the log does and cuts them into
units; so the state after each unit is known, and ``verify`` says of a store that was opened again

- that its data is that after some unit, none torn,
- that no unit is missing that was answered, as far as the policy and the kind of crash promise,
- that nothing is there that was never begun.

Time stands still but for what the work says, jobs of the worker run when it says, so a seed is the whole story
(but for where slices of snapshots end).

Must not know: how files are laid out.
"""

from __future__ import annotations

import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import TREE2
from kvstore.commands.registry import COMMANDS
from kvstore.commands.session import Session
from kvstore.engine.context import Context, Effect, Event, Listener, ManualClock
from kvstore.engine.database import Database
from kvstore.errors import PersistenceError, ResponseError, StoreError
from kvstore.persist.aof import AppendLog
from kvstore.persist.files import Files
from kvstore.persist.rdb_load import load_rdb
from kvstore.persist.settings import Settings
from kvstore.persist.worker import Done, InlineWorker, Job, Worker
from kvstore.resp import ErrorReply
from tests.differential import grammar as grammars
from tests.laws import START_MS, Digest, Replica
from tests.laws import digest as digest_of_data
from tests.memfs import MemFS

DIRECTORY = "/data"
SNAPSHOT = f"{DIRECTORY}/dump.rdb"
DATABASES = 4
# HyperLogLogs are longer than a block of the disk, and a hole that lies wholly within a value reads as that value.
FAMILIES = [name for name in grammars.families() if name not in {"tx", "blocking", "pubsub", "hyperloglog"}]
_BLOCK = 512  # bytes
GRAMMARS = [grammars.load(name) for name in FAMILIES]
# What a key loses by itself is a unit of its own, before the command that looked at it.
_BY_ITSELF = {"expired", "evicted", "hexpired"}
# A policy that syncs each second may be late by a tick.
TICK_MS = 100
SECOND_MS = 1000

_SCRIPTS = (
    b"redis.call('SET', KEYS[1], ARGV[1]) redis.call('APPEND', KEYS[1], ARGV[2]) return 1",
    b"redis.call('DEL', KEYS[1]) for i = 1, 5 do redis.call('RPUSH', KEYS[1], ARGV[1], i) end",
    b"redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[1], 'f', ARGV[1]) return redis.call('NOPE')",
)

Unit = list[tuple[int, Effect]]


class NoLock:
    """There is no other process on a disk of the tests' own."""

    def __init__(self, directory: str) -> None:
        pass

    def release(self) -> None:
        pass


class LateWorker:
    """Runs its jobs in order, in this thread, when the test says so."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._ended: list[tuple[Done, BaseException | None]] = []

    @property
    def idle(self) -> bool:
        return not self._jobs and not self._ended

    def run(self, jobs: int) -> None:
        """Run so many of the jobs that wait."""
        for _ in range(min(jobs, len(self._jobs))):
            job, done = self._jobs.popleft()
            try:
                job()
            except Exception as error:
                self._ended.append((done, error))
            else:
                self._ended.append((done, None))

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.append((job, done))

    def poll(self) -> None:
        while self._ended:
            done, error = self._ended.pop(0)
            done(error)

    def drain(self) -> None:
        while not self.idle:
            self.run(len(self._jobs))
            self.poll()

    def close(self) -> None:
        self.drain()


class SecondTimer:
    """In the place of the thread that syncs for a store without a loop: the same, when the test says so."""

    def __init__(self, log: AppendLog, clock: ManualClock) -> None:
        self._log = log
        self._clock = clock
        self._due: int | None = None

    def written(self) -> None:
        if self._due is None:
            self._due = self._clock.now_ms() + 900

    def run(self) -> None:
        if self._due is not None and self._clock.now_ms() >= self._due:
            self._due = None
            increment = self._log._current
            if increment is not None and increment.lost is None:
                with suppress(PersistenceError):  # the increment knows
                    increment.sync()

    def close(self) -> None:
        pass


class Journal(Listener):
    """The units of what happens, in order; listens before the log."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.commands = 0  # units that are not what keys lost by themselves
        self._gathered: Unit | None = None

    def on_commit(self, db: int, effect: Effect, events: tuple[Event, ...]) -> None:
        if not effect:
            return
        if self._gathered is not None:
            self._gathered.append((db, effect))
            return
        self.units.append([(db, effect)])
        self.commands += not any(name in _BY_ITSELF for name, _ in events)

    def on_unit(self, begins: bool) -> None:
        if begins:
            self._gathered = []
        elif self._gathered is not None:
            if self._gathered:
                self.units.append(self._gathered)
                self.commands += 1
            self._gathered = None


@dataclass(frozen=True)
class Way:
    """How a store is used."""

    policy: str = "always"
    immediate: bool = False  # as in a program, not in a server
    late: bool = False  # jobs of the worker run at some later time
    rdb_base: bool = True
    timestamps: bool = False

    @staticmethod
    def random(rng: random.Random, policy: str = "") -> Way:
        return Way(
            policy=policy or rng.choice(("always", "everysec", "no")),
            immediate=rng.random() < 0.5,
            late=rng.random() < 0.6,
            rdb_base=rng.random() < 0.6,
            timestamps=rng.random() < 0.2,
        )


class Answer(NamedTuple):
    """A moment at which somebody was told that all so far is well."""

    units: int
    appended: int  # bytes of the log's stream
    when: int
    written: bool = True  # the system has all of it


def digest(ctx: Context) -> Digest:
    """All that files keep of a store: data, and libraries in place of a database with the index -1."""
    return digest_of_data(ctx) | {(-1, name): source for name, source in ctx.libraries.items()}


class Work:
    """A store, its files and what is known of both."""

    def __init__(
        self,
        fs: MemFS,
        way: Way,
        seed: int,
        *,
        clock: ManualClock | None = None,
    ) -> None:
        self.fs = fs
        self.way = way
        self.rng = random.Random(seed)
        self.clock = ManualClock(START_MS) if clock is None else clock
        self.late = LateWorker()
        self.refused: str | None = None
        self.ctx = Context(
            Database, databases=DATABASES, clock=self.clock, random=random.Random(self.rng.randrange(1 << 32))
        )
        worker: Worker = self.late if way.late else InlineWorker()
        self.files = Files(
            self.ctx,
            Settings(
                dir=DIRECTORY,
                appendonly=True,
                appendfsync=way.policy,
                auto_aof_rewrite_min_size=600,
                auto_aof_rewrite_percentage=100,
                aof_use_rdb_preamble=way.rdb_base,
                aof_timestamp_enabled=way.timestamps,
            ),
            fs=fs,
            worker=worker,
            lock=NoLock,
            immediate=way.immediate,
            on_refusal=self._refuse,
        )
        self.journal = Journal()
        self.answered = [Answer(0, 0, self.clock.now_ms())]
        self.saves: list[Digest] = []  # states that the snapshot on disk may have
        self._saved = 0  # snapshots that have come to their end
        self.answers = 0  # commands that were answered, changes or not
        self.unsure = 0  # commands that were refused or whose turn was not written

    def open(self) -> Digest:
        """Open the files; what was found in them, before anything in it may expire."""
        self.files.load_now()
        found = digest(self.ctx)
        log = self.files.log
        assert log is not None
        self.timer = SecondTimer(log, self.clock)
        if self.way.immediate:
            log._each_second = self.timer  # type: ignore[assignment]
        self.ctx.listen(self.journal)
        self.hub = Hub(self.ctx)
        self.session = Session(self.hub, TREE2)
        return found

    def start(self) -> None:
        """Begin with nothing on the disk."""
        assert not self.open()
        for step in grammars.PROLOGUE:
            self.command(list(step.argv))

    def _refuse(self, text: str | None) -> None:
        self.refused = text

    # -- work ----------------------------------------------------------------------------------------

    def go_on(self, actions: int) -> None:
        for _ in range(actions):
            self.act()

    def act(self) -> None:
        """Something at random."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.70:
            self.turn()
        elif chance < 0.86:
            self.pass_time(rng.choice((1, 30, 100, 100, 300, 1000)))
        elif chance < 0.92:
            self.late.run(rng.randrange(1, 4))
            self.let_files_work()
        elif chance < 0.95:
            self.save()
        elif chance < 0.98:
            if not self.files.jobs.any:
                with suppress(ResponseError):
                    self.files.start_rewrite()
        else:
            self.let_files_work()

    def turn(self) -> None:
        """What clients of a server have sent since the last turn, or one call of a program."""
        if self.way.immediate:
            self.group()
            return
        before = self.answers
        for _ in range(self.rng.randrange(1, 5)):
            self.group()
        self.end_turn(before)

    def end_turn(self, before: int) -> None:
        if self.files.flush():
            self._answer()
        else:
            self.unsure += self.answers - before
            self.answers = before
        self.files.jobs.turn()

    def _answer(self) -> None:
        log = self.files.log
        assert log is not None
        written = not log.buffered and log.error is None
        if written or not self.way.immediate:  # a call that changes nothing says nothing of one that failed
            self.answered.append(Answer(len(self.journal.units), log.appended, self.clock.now_ms(), written))

    def group(self) -> None:
        """A command, a transaction or a script."""
        rng = self.rng
        chance = rng.random()
        key = b"k%d" % rng.randrange(6)
        if chance < 0.10:
            self.command([b"MULTI"])
            for _ in range(rng.randrange(1, 5)):
                for step in rng.choice(GRAMMARS).group(rng):
                    self.command(list(step.argv))
            self.command([b"EXEC"])
        elif chance < 0.16:
            value = b"%d" % rng.randrange(100)
            self.command([b"EVAL", rng.choice(_SCRIPTS), b"1", key, value, value * 3])
        elif chance < 0.18:
            self.command([b"SWAPDB", b"0", b"%d" % rng.randrange(DATABASES)])
        elif chance < 0.19:
            self.command([rng.choice((b"FLUSHALL", b"FLUSHDB"))])
        elif chance < 0.26:
            self.command([b"SET", key, rng.randbytes(rng.choice((3, 40, 300)))])
        else:
            for step in rng.choice(GRAMMARS).group(rng):
                self.command(list(step.argv))

    def command(self, argv: list[bytes]) -> None:
        name = argv[0].upper()
        if name == b"@PAUSE":
            self.clock.advance(ms=int(argv[1]))
            return
        if name.startswith(b"@") or max(map(len, argv)) >= _BLOCK:
            return
        if self.way.immediate:
            try:
                self.files.breathe()
            except PersistenceError:
                self.unsure += 1
                return
        elif self.refused is not None and self._is_write(name):
            self.unsure += 1  # as a server with this refusal answers
            return
        before = self.journal.commands
        reply = self.session.call(argv)
        failed = isinstance(reply, ErrorReply)
        assert not (failed and reply.startswith(b"ERR internal")), (argv, reply)
        assert self.journal.commands - before <= 1, f"{argv} was several units: {self.journal.units[-4:]}"
        if self.way.immediate:
            # What could not be done to a file, whose name is part of the error.
            if failed and (DIRECTORY.encode() in reply or b"MISCONF" in reply):
                self.unsure += 1
                return
            self._answer()
        self.answers += 1

    def _is_write(self, name: bytes) -> bool:
        return name in {b"MULTI", b"EXEC", b"EVAL"} or name in _WRITES

    def pass_time(self, ms: int) -> None:
        """Time passes, and what is due is done as a server does it."""
        while ms > 0:
            step = min(ms, TICK_MS)
            self.clock.advance(ms=step)
            ms -= step
            if self.way.immediate:
                self.let_files_work()
                self.timer.run()
                self.check_bound()
                continue
            if self.rng.random() < 0.5:
                for db in list(self.ctx.databases.values()):
                    db.expire_due(4)
            self.files.tick()
            self.end_turn(self.answers)
            self.check_bound()

    def let_files_work(self) -> None:
        try:
            self.files.breathe()
        except PersistenceError:
            assert self.way.immediate
        if not self.way.immediate:
            self.end_turn(self.answers)

    def save(self) -> None:
        """A snapshot, at once or in the background; what the file may then hold is noted."""
        if self.files.jobs.any:
            return
        self._forget_saves()
        self.saves.append(digest(self.ctx))
        try:
            if self.rng.random() < 0.3:
                self.files.save()
            else:
                self.files.start_save()
        except StoreError:
            pass  # it could not begin, or has failed

    def _forget_saves(self) -> None:
        """A snapshot that has come to its end replaces all before it."""
        count = self.files.figures.save.count
        if count > self._saved:
            self._saved = count
            self.saves = self.saves[-1:]

    def check_snapshot(self, fs: MemFS) -> list[Digest]:
        """The snapshot on a disk is whole: the last that came to its end, or one begun after it. What it holds."""
        self._forget_saves()
        if not fs.exists(SNAPSHOT):
            assert not self._saved, "a snapshot that had come to its end is gone"
            return []
        ctx = Context(Database, databases=DATABASES, clock=ManualClock(START_MS))
        for _ in load_rdb(ctx, fs.read(SNAPSHOT), path=SNAPSHOT, now_ms=None):
            pass
        found = digest(ctx)
        assert found in self.saves, "the snapshot is of no moment at which one was taken"
        return [found]

    def settle(self, ms: int = 15_000) -> None:
        """Time in which all that waits, and all that is to be tried again, can be done."""
        for _ in range(ms // TICK_MS):
            self.late.run(100)
            self.clock.advance(ms=TICK_MS)
            if self.way.immediate:
                self.timer.run()
                self.command([b"GET", b"k0"])
            else:
                self.files.tick()
                self.end_turn(self.answers)

    # -- what must be ----------------------------------------------------------------------------------

    def check_bound(self) -> None:
        """Nothing that was answered waits for its sync for more than a second, but for one under way."""
        log = self.files.log
        if self.way.policy != "everysec" or log is None or log.error is not None or log.syncing:
            return
        if self.files.jobs.any or not self.late.idle:
            return  # the worker is at something else
        now = self.clock.now_ms()
        waiting = [answer.when for answer in self.answered[-200:] if answer.appended > log.synced]
        assert not waiting or now - waiting[0] <= SECOND_MS + TICK_MS, (now - waiting[0], log.synced)

    def least(self, killed: bool) -> int:
        """How many units must be there after the process was killed, or else the machine stopped."""
        log = self.files.log
        if log is None:
            return self.answered[-1].units
        if killed or self.way.policy == "always":
            # A server answers those who read although the disk is full; it takes no more writes then.
            return max(answer.units for answer in self.answered if answer.written)
        return max(answer.units for answer in self.answered if answer.appended <= log.synced)

    def reopen(self, fs: MemFS, *, killed: bool, way: Way | None = None) -> Work:
        """The next start, on what is left of the disk: checked, and ready to work on."""
        least = self.least(killed)
        opened = Work(fs, way or self.way, self.rng.randrange(1 << 32), clock=self.clock)
        opened.journal.units = matching(
            self.journal.units, opened.open(), least, f"{self.way} killed={killed}"
        )
        # Whatever was found has been synced before anybody can see it.
        opened.answered = [Answer(len(opened.journal.units), 0, self.clock.now_ms())]
        opened.saves = self.check_snapshot(fs)
        return opened


def matching(units: list[Unit], found: Digest, least: int, where: str) -> list[Unit]:
    """The units that made what was found: at least so many, and in order. Fails where there are none."""
    replica = Replica(Context(Database, databases=DATABASES, clock=ManualClock(START_MS)))
    for unit in units[:least]:
        replica.apply(unit)
    state = digest(replica.ctx)
    if state == found:
        return units[:least]
    for number in range(least, len(units)):
        replica.apply(units[number])
        if digest(replica.ctx) == found:
            return units[: number + 1]
    raise AssertionError(f"{where}: {_lost(units, found, least)}")


def _lost(units: list[Unit], found: Digest, least: int) -> str:
    """What is wrong with what was found."""
    replica = Replica(Context(Database, databases=DATABASES, clock=ManualClock(START_MS)))
    best, at = 1 << 30, 0
    for number in range(len(units) + 1):
        state = digest(replica.ctx)
        wrong = {
            where: (state.get(where), found.get(where))
            for where in state.keys() | found.keys()
            if state.get(where) != found.get(where)
        }
        if not wrong:
            return f"{least - number} units are lost of {least}: {units[number:least]}"
        if len(wrong) < best:
            best, at, differences = len(wrong), number, wrong
        if number < len(units):
            replica.apply(units[number])
    return (
        f"no state fits; nearest that after {at} of {len(units)} units ({least} answered), which are "
        f"{units[max(0, at - 2) : at]} | {units[at : at + 3]}; key: (then, found) {differences}"
    )


_WRITES = frozenset(name.encode() for name, each in COMMANDS.items() if "write" in each.flags)
