"""Eviction: what goes when the data has reached ``maxmemory``, and who was used when.

Candidates are drawn at random, ``samples`` from each database, and the best of them stay in a small pool
from one eviction to the next. A candidate's rank is looked up again before it goes, so a key that was
used after it was drawn is spared. volatile-ttl samples too, although the deadlines are filed in order:
taking exactly the earliest one would evict each new key with a short time to live before it is read once.

Invariants
- A key's use is recorded (``_access`` and ``_on_access`` of each database) exactly while somebody needs
  it: an LFU policy, an LRU policy with a limit, or OBJECT IDLETIME once it has been asked.
- Under LRU a record is the time of the last use in ms; under LFU the low 8 bits are the logarithmic
  counter and the rest is that time.
- Evictions are commits like any other: DEL, with the event "evicted".

Costs: an eviction O(samples) draws; a recorded use one dict store.

Must not know: what values are made of, commands.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvstore.engine.memory import Accountant, guess
from kvstore.errors import err

if TYPE_CHECKING:
    from kvstore.engine.context import Context
    from kvstore.engine.keyspace import Keyspace
    from kvstore.engine.order import ScanOrder

POLICIES = (
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
)
# Candidates kept from one eviction to the next. A deadline is a weaker hint of what is needed no more than
# disuse is: fewer candidates, of less extreme deadlines, hit more (docs/decisions/0004).
_POOL = 16
_POOL_BY_DEADLINE = 4
# Keys evicted in one go; what is left over the limit goes before the next commands.
_EVICTIONS_AT_ONCE = 512
# A new key's counter: not so low that it goes before it had a chance to be used again.
_LFU_NEW = 5
_LFU_MAX = 255
_MINUTE = 60_000  # ms, the unit of lfu-decay-time

Candidate = tuple[int, int, bytes]  # rank (the highest goes first), database, key


class Evictor:
    """Holds a store to its memory limit. One for each Context."""

    __slots__ = (
        "_accountant",
        "_asked_idle",
        "_ctx",
        "_pool",
        "_since",
        "_tracking",
        "lfu_decay_time",
        "lfu_log_factor",
        "maxmemory",
        "policy",
        "samples",
    )

    def __init__(self, ctx: Context):
        self._ctx = ctx
        self.maxmemory = 0
        self.policy = "noeviction"
        self.samples = 5
        self.lfu_log_factor = 10
        self.lfu_decay_time = 1
        self._accountant: Accountant | None = None
        self._pool: list[Candidate] = []
        self._tracking: str | None = None
        self._since = 0
        self._asked_idle = False

    def configure(
        self,
        *,
        maxmemory: int | None = None,
        policy: str | None = None,
        samples: int | None = None,
        lfu_log_factor: int | None = None,
        lfu_decay_time: int | None = None,
    ) -> None:
        """Set some of the directives. O(keys) when a limit is set where there was none.

        Raises ValueError for an unknown policy.
        """
        if policy is not None:
            if policy not in POLICIES:
                raise ValueError(f"unknown eviction policy {policy!r}")
            self.policy = policy
            self._pool.clear()
        if samples is not None:
            self.samples = samples
        if lfu_log_factor is not None:
            self.lfu_log_factor = lfu_log_factor
        if lfu_decay_time is not None:
            self.lfu_decay_time = lfu_decay_time
        if maxmemory is not None:
            self.maxmemory = maxmemory
            self._account(maxmemory > 0)
        self._track()

    # -- memory ------------------------------------------------------------------------------------

    def used_memory(self) -> int:
        """Bytes that the data takes: the sum of the estimates while a limit is set, else a guess. O(1)."""
        if self._accountant is not None:
            return self._accountant.used()
        return sum(guess(db) for db in self._ctx.databases.values())

    def _account(self, on: bool) -> None:
        if on and self._accountant is None:
            self._accountant = Accountant(self._ctx)
            self._ctx.listen(self._accountant)
        elif not on and self._accountant is not None:
            self._ctx.unlisten(self._accountant)
            self._accountant = None
            self._pool.clear()

    def recount(self) -> None:
        """Weigh all data anew, after it was put in place without commits (loaded from a file). O(keys)."""
        self._account(False)
        self._account(self.maxmemory > 0)

    def weigh_again(self, db: int, key: bytes) -> None:
        """The same data at this key takes more memory now, or less. O(1)."""
        if self._accountant is not None:
            self._accountant.touch(db, key)

    def make_room(self) -> bool:
        """Evict until the data is within the limit; False when it is not and nothing may be evicted.

        Called between commands, as any key may go. O(1) while there is room. When much must go, it goes
        in slices: True says that it is on its way.
        """
        accountant = self._accountant
        if accountant is None or accountant.used() <= self.maxmemory:
            return True
        choose = self._chooser()
        for _ in range(_EVICTIONS_AT_ONCE):
            victim = choose()
            if victim is None:
                return False
            db, key = victim
            db._evict(key)
            if accountant.used() <= self.maxmemory:
                break
        return True

    # -- who goes ----------------------------------------------------------------------------------

    def _chooser(self) -> Callable[[], tuple[Keyspace, bytes] | None]:
        policy = self.policy
        if policy == "noeviction":
            return lambda: None
        return self._at_random if policy.endswith("random") else self._best_candidate

    def _at_random(self) -> tuple[Keyspace, bytes] | None:
        """Any key (or any with a deadline), each with the same chance."""
        volatile = self.policy.startswith("volatile")
        databases = self._populated(volatile)
        if not databases:
            return None
        db = databases[0]
        if len(databases) > 1:
            weights = [len(each._expires if volatile else each._data) for each in databases]
            db = self._ctx.random.choices(databases, weights)[0]
        return db, self._order(db, volatile).draw(self._ctx.randbelow)

    def _best_candidate(self) -> tuple[Keyspace, bytes] | None:
        """The best of the pool, after new keys were drawn for it."""
        volatile = self.policy.startswith("volatile")
        pool, ctx = self._pool, self._ctx
        databases = self._populated(volatile)
        if not databases:
            pool.clear()
            return None
        while True:
            for db in databases:
                self._sample(db, volatile)
            while pool:
                rank, index, key = pool.pop()
                db = ctx.database(index)
                if key not in (db._expires if volatile else db._data):
                    continue
                now = self._rank(db, key)
                if now < rank and pool and now < pool[-1][0]:
                    insort(pool, (now, index, key))
                    continue
                return db, key

    def _populated(self, volatile: bool) -> list[Keyspace]:
        return [db for db in self._ctx.databases.values() if (db._expires if volatile else db._data)]

    @staticmethod
    def _order(db: Keyspace, volatile: bool) -> ScanOrder:
        return db._volatile_order() if volatile else db._scan_order()

    def _sample(self, db: Keyspace, volatile: bool) -> None:
        """Draw keys of the database; the best of them and of the pool are the new pool."""
        pool, index, rank_of = self._pool, db.index, self._rank
        draw, randbelow = self._order(db, volatile).draw, self._ctx.randbelow
        most = _POOL_BY_DEADLINE if self.policy == "volatile-ttl" else _POOL
        known = {key for _, where, key in pool if where == index}
        for _ in range(self.samples):
            key = draw(randbelow)
            if key in known:
                continue
            rank = rank_of(db, key)
            if len(pool) < most or rank > pool[0][0]:
                known.add(key)
                insort(pool, (rank, index, key))
                if len(pool) > most:
                    del pool[0]

    def _rank(self, db: Keyspace, key: bytes) -> int:
        """How much a key deserves to go: by its deadline, by idle time, or by disuse and then idle time."""
        if self.policy == "volatile-ttl":
            return -db._expires[key]
        access = db._access
        assert access is not None
        if self._tracking == "lru":
            return -access.get(key, self._since)
        record = access.get(key, self._since << 8 | _LFU_NEW)
        return (_LFU_MAX - self._decayed(record, self._ctx.now()) << 48) - (record >> 8)

    # -- who was used when -------------------------------------------------------------------------

    def attach(self, db: Keyspace) -> None:
        """Take in a database that was just made."""
        if self._tracking is not None:
            self._install(db)

    def _track(self) -> None:
        """Record uses the way the directives need, or stop."""
        wanted = "lru" if self._asked_idle else None
        if self.policy.endswith("lfu"):
            wanted = "lfu"
        elif self.policy.endswith("lru") and self.maxmemory > 0:
            wanted = "lru"
        if wanted != self._tracking:
            self._tracking = wanted
            self._since = self._ctx.now()
            self._pool.clear()
            for db in self._ctx.databases.values():
                self._install(db)

    def _install(self, db: Keyspace) -> None:
        if self._tracking is None:
            db._access = db._on_access = None
            return
        access: dict[bytes, int] = {}
        db._access = access
        db._on_access = self._lru_tap(access) if self._tracking == "lru" else self._lfu_tap(access)

    def _lru_tap(self, access: dict[bytes, int]) -> Callable[[bytes], None]:
        now = self._ctx.now

        def used(key: bytes) -> None:
            access[key] = now()

        return used

    def _lfu_tap(self, access: dict[bytes, int]) -> Callable[[bytes], None]:
        now, random = self._ctx.now, self._ctx.random.random

        def used(key: bytes) -> None:
            time = now()
            record = access.get(key)
            if record is None:
                access[key] = time << 8 | _LFU_NEW
                return
            counter = record & _LFU_MAX
            if time // _MINUTE != (record >> 8) // _MINUTE:
                counter = self._decayed(record, time)
            if counter < _LFU_MAX:
                above = counter - _LFU_NEW
                if above <= 0 or random() * (above * self.lfu_log_factor + 1) < 1:
                    counter += 1
            access[key] = time << 8 | counter

        return used

    def _decayed(self, record: int, now: int) -> int:
        """The counter of a record: it loses one for each ``lfu-decay-time`` minutes without use."""
        counter = record & _LFU_MAX
        if not self.lfu_decay_time:
            return counter
        idle = (now // _MINUTE - (record >> 8) // _MINUTE) // self.lfu_decay_time
        return max(0, counter - idle) if idle > 0 else counter

    def frequency(self, db: Keyspace, key: bytes) -> int:
        """The counter of an existing key. Raises ResponseError unless the policy is an LFU one."""
        access = db._access
        if access is None or self._tracking != "lfu":
            raise err(
                "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
                "when switching between policies at runtime LRU and LFU data will take some time to adjust."
            )
        return self._decayed(access.get(key, self._since << 8 | _LFU_NEW), self._ctx.now())

    def idle_ms(self, db: Keyspace, key: bytes) -> int:
        """Time since an existing key was last used, or since uses are recorded: from the first question
        on, unless the policy records them anyway. Raises ResponseError under an LFU policy."""
        if self._tracking == "lfu":
            raise err(
                "An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
                "switching between policies at runtime LRU and LFU data will take some time to adjust."
            )
        if not self._asked_idle:
            self._asked_idle = True
            self._track()
        assert db._access is not None
        return max(0, self._ctx.now() - db._access.get(key, self._since))

    # -- uses in files -----------------------------------------------------------------------------

    def records_uses(self) -> bool:
        """Whether uses are recorded because the policy goes by them."""
        return self._tracking is not None and self.policy.endswith(("lru", "lfu"))

    def use_of(self, access: dict[bytes, int] | None, key: bytes) -> tuple[int | None, int | None]:
        """Of a key of a database whose records are ``access``: seconds without use, or the counter of uses;
        whichever is recorded."""
        record = None if access is None else access.get(key)
        if self._tracking == "lru":
            last = self._since if record is None else record
            return max(0, self._ctx.now() - last) // 1000, None
        if self._tracking == "lfu":
            return None, self._decayed(
                self._since << 8 | _LFU_NEW if record is None else record, self._ctx.now()
            )
        return None, None

    def set_use(self, db: Keyspace, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        """Record how an existing key was used elsewhere, if that is what is recorded here. O(1)."""
        if db._access is None:
            return
        now = self._ctx.now()
        if self._tracking == "lru" and idle_s is not None:
            db._access[key] = now - idle_s * 1000
        elif self._tracking == "lfu" and frequency is not None:
            db._access[key] = now << 8 | min(frequency, _LFU_MAX)
