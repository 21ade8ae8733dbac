"""Commands on keys of any type, on whole databases, and the iterators over scans: the typed methods.

What a value is made of is asked of its ValueType only.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvstore.engine.keyspace import Keyspace, KeyT, to_bytes
from kvstore.engine.memory import SAMPLES, weigh_key
from kvstore.engine.types import TYPES, Value
from kvstore.engine.words import scan_count
from kvstore.errors import NO_SUCH_KEY, SYNTAX, ResponseError, err
from kvstore.glob import compile_scan_glob
from kvstore.numbers import as_int, parse_int

# Integers below this are shared objects in Redis, whose count of references is this:
_SHARED_INTEGERS = 10000
_SHARED_REFCOUNT = 2147483647
_SAME_OBJECT = "source and destination objects are the same"
_INT32 = 1 << 31


class Generic(Keyspace):
    """Generic key commands."""

    __slots__ = ()

    # -- is it there, what is it -------------------------------------------------------------------

    def exists(self, *names: KeyT) -> int:
        """How many of the keys exist; a key named twice counts twice. O(names)."""
        look = self._look
        return sum(1 for name in names if look(to_bytes(name)) is not None)

    def __contains__(self, name: KeyT) -> bool:
        return self._look(to_bytes(name)) is not None

    def touch(self, *args: KeyT) -> int:
        """How many of the keys exist; each counts as used now. O(keys)."""
        read = self._read
        return sum(1 for name in args if read(to_bytes(name)) is not None)

    def type(self, name: KeyT) -> bytes:
        """``string``, ``list``, ``set``, ``hash``, ``zset``, or ``none`` when there is no key. O(1)."""
        value = self._look(to_bytes(name))
        return b"none" if value is None else TYPES[type(value)].name.encode()

    def object(self, infotype: bytes | str, key: KeyT, **kwargs: Any) -> Any:
        """What is known of the key beside its value, or None when there is no key. O(1).

        ``encoding``: the name of the representation that Redis would choose. ``refcount``: 1, or Redis's
        number for its shared small integers. ``idletime``: seconds since the last use; uses are recorded
        from the first such question on (or as long as an LRU policy asks for it). ``freq``: the
        logarithmic counter of uses.
        Raises ResponseError for ``freq`` without an LFU policy and for ``idletime`` under one.
        """
        question = _OBJECT.get(to_bytes(infotype).lower())
        if question is None:
            word = to_bytes(infotype)[:128].decode("utf-8", "surrogateescape")
            raise err(f"unknown subcommand '{word}'. Try OBJECT HELP.")
        name = to_bytes(key)
        value = self._peek(name)
        if value is None:
            self._stats.misses += 1
            return None
        self._stats.hits += 1
        return question(self, name, value)

    def memory_usage(self, key: KeyT, samples: Any = None, **kwargs: Any) -> int | None:
        """About how many bytes the key and its value take here, or None when there is no key.

        ``samples``: how many elements of a container are measured (default 5, 0 for all). O(samples).
        """
        count = SAMPLES if samples is None else as_int(samples)
        if count < 0:
            raise ResponseError(SYNTAX)
        name = to_bytes(key)
        return None if self._peek(name) is None else weigh_key(self, name, count)

    # -- deleting ----------------------------------------------------------------------------------

    def delete(self, *names: KeyT) -> int:
        """Delete the keys; how many there were. O(names), and what the values take to free."""
        data, expires, timed = self._data, self._expires, self._timed
        gone: list[bytes] = []
        for name in names:
            key = name if type(name) is bytes else to_bytes(name)
            if key not in data or ((key in expires or timed) and self._peek(key) is None):
                continue
            if self._tap is not None:
                self._tap(key)
            self._remove(key)
            gone.append(key)
        if gone:
            self.dirty += len(gone)
            if self._live:
                self.commit((b"DEL", *gone), *[("del", key) for key in gone])
        return len(gone)

    unlink = delete

    def __delitem__(self, name: KeyT) -> None:
        self.delete(name)

    # -- renaming, copying, moving -----------------------------------------------------------------

    def rename(self, src: KeyT, dst: KeyT) -> bool:
        """Give the key another name, over whatever had that name before. O(1).

        Raises ResponseError when there is no ``src``.
        """
        self._rename(to_bytes(src), to_bytes(dst), b"RENAME")
        return True

    def renamenx(self, src: KeyT, dst: KeyT) -> bool:
        """As ``rename``, but only if no key has the new name; whether it was done. O(1)."""
        return self._rename(to_bytes(src), to_bytes(dst), b"RENAMENX")

    def _rename(self, src: bytes, dst: bytes, command: bytes) -> bool:
        value = self._write(src)
        if value is None:
            raise ResponseError(NO_SUCH_KEY)
        if src == dst:
            return False
        if self._write(dst) is not None:
            if command == b"RENAMENX":
                return False
            self._remove(dst)
        deadline = self._expires.get(src)
        used = None if self._access is None else self._access.get(src)
        self._remove(src)
        self._place(dst, value, deadline)
        if used is not None and self._access is not None:
            self._access[dst] = used
        self.dirty += 1
        if self._live:
            self.commit((command, src, dst), ("rename_from", src), ("rename_to", dst))
        return True

    def copy(
        self, source: KeyT, destination: KeyT, destination_db: Any = None, replace: bool = False
    ) -> bool:
        """Copy value and deadline to another key, in this database or another. O(elements).

        False when there is no ``source``, or when ``destination`` exists and ``replace`` is not given.
        Raises ResponseError for a bad ``destination_db``, and when source and destination are the same.
        """
        to = self if destination_db is None else self._other(destination_db)
        src, dst = to_bytes(source), to_bytes(destination)
        if to is self and src == dst:
            raise err(_SAME_OBJECT)
        value = self._read(src)
        if value is None:
            return False
        if to._write(dst) is not None:
            if not replace:
                return False
            to._remove(dst)
        to._place(dst, TYPES[type(value)].copy(value), self._expires.get(src))
        self.dirty += 1
        if self._live:
            where = () if to is self else (b"DB", b"%d" % to.index)
            effect = (b"COPY", src, dst, *where, *((b"REPLACE",) if replace else ()))
            self._commit_to(to, effect, (), (("copy_to", dst),))
        return True

    def move(self, name: KeyT, db: Any) -> bool:
        """Move the key to another database; False when it is not here, or already there. O(1).

        Raises ResponseError for a bad ``db``, and when it is this one.
        """
        to = self._other(db)
        if to is self:
            raise err(_SAME_OBJECT)
        key = to_bytes(name)
        value = self._write(key)
        if value is None or to._write(key) is not None:
            return False
        deadline = self._expires.get(key)
        self._remove(key)
        to._place(key, value, deadline)
        self.dirty += 1
        if self._live:
            effect = (b"MOVE", key, b"%d" % to.index)
            self._commit_to(to, effect, (("move_from", key),), (("move_to", key),))
        return True

    def _other(self, db: Any) -> Keyspace:
        """The database of that number. Raises ResponseError as MOVE and COPY do."""
        index = as_int(db)
        if not -_INT32 <= index < _INT32:
            raise err("value is out of range, value must between -2147483648 and 2147483647")
        if not 0 <= index < self.ctx.count:
            raise err("DB index is out of range")
        return self.ctx.database(index)

    # -- looking around ----------------------------------------------------------------------------

    def keys(self, pattern: KeyT = "*", **kwargs: Any) -> list[bytes]:
        """All keys that match the glob. O(all keys)."""
        match = compile_scan_glob(to_bytes(pattern))
        data, expires, timed = self._data, self._expires, self._timed
        found = list(data) if match is None else [key for key in data if match(key)]
        if expires:
            now = self.ctx.now()
            deadline, never = expires.get, now + 1
            found = [key for key in found if deadline(key, never) > now]
        if timed:
            peek = self._peek
            found = [key for key in found if key not in timed or peek(key) is not None]
        return found

    def randomkey(self, **kwargs: Any) -> bytes | None:
        """A key, each with the same chance, or None when there is none. O(1) after the first call."""
        while self._data:
            key = self._scan_order().draw(self.ctx.randbelow)
            if self._peek(key) is not None:
                return key
        return None

    def dbsize(self, **kwargs: Any) -> int:
        """How many keys there are. O(1)."""
        self._expire_all_due()
        return len(self._data)

    def scan(
        self,
        cursor: int = 0,
        match: KeyT | None = None,
        count: int | None = None,
        _type: KeyT | None = None,
        **kwargs: Any,
    ) -> tuple[int, list[bytes]]:
        """A few keys, and the cursor that goes on from there: 0 starts, 0 ends. O(count).

        A key that is there from the start of a scan to its end is returned, whatever else happens; a key
        may be returned twice. ``match`` (a glob) and ``_type`` leave keys out; ``count`` (default 10) is
        how many are looked at.
        """
        number = scan_count(count)
        pattern = None if match is None else to_bytes(match)
        return self._scan(as_int(cursor), pattern, number, None if _type is None else to_bytes(_type))

    def _scan(
        self, cursor: int, match: bytes | None, count: int, type_name: bytes | None
    ) -> tuple[int, list[bytes]]:
        cursor, found = self._scan_order().scan(cursor, count)
        matches = None if match is None else compile_scan_glob(match)
        if matches is not None:
            found = list(filter(matches, found))
        if type_name is not None:
            name, data = type_name.lower().decode("latin-1"), self._data
            found = [key for key in found if TYPES[type(data[key])].name == name]
        if self._expires or self._timed:
            peek = self._peek
            found = [key for key in found if peek(key) is not None]
        return cursor, found

    def scan_iter(
        self,
        match: KeyT | None = None,
        count: int | None = None,
        _type: KeyT | None = None,
        **kwargs: Any,
    ) -> Iterator[bytes]:
        """All keys by ``scan``, some perhaps twice; keys may come and go meanwhile."""
        yield from walk(lambda cursor: self.scan(cursor, match, count, _type))

    # -- whole databases ---------------------------------------------------------------------------

    def flushdb(self, asynchronous: bool = False, **kwargs: Any) -> bool:
        """Delete all keys of this database. O(keys)."""
        self.dirty += self._clear()
        if self._live:
            self.commit((b"FLUSHDB",))
        return True

    def flushall(self, asynchronous: bool = False, **kwargs: Any) -> bool:
        """Delete all keys of all databases. O(keys)."""
        for db in list(self.ctx.databases.values()):
            self.dirty += db._clear()
        if self._live:
            self.commit((b"FLUSHALL",))
        return True

    def swapdb(self, first: Any, second: Any, **kwargs: Any) -> bool:
        """Swap the data of two databases. O(1)."""
        one, two = _swap_index(first, "first"), _swap_index(second, "second")
        if not (0 <= one < self.ctx.count and 0 <= two < self.ctx.count):
            raise err("DB index is out of range")
        if one != two:
            self.ctx.database(one)._swap(self.ctx.database(two))
        self.dirty += 1
        if self._live:
            self.commit((b"SWAPDB", b"%d" % one, b"%d" % two))
        return True


def _swap_index(word: Any, which: str) -> int:
    text = f"ERR invalid {which} DB index"
    index = as_int(word, text)
    if not -_INT32 <= index < _INT32:
        raise ResponseError(text)
    return index


def _encoding(db: Generic, key: bytes, value: Value) -> bytes:
    return TYPES[type(value)].encoding(value, db.ctx.limits).encode()


def _refcount(db: Generic, key: bytes, value: Value) -> int:
    number = parse_int(value) if type(value) is bytes else None
    return _SHARED_REFCOUNT if number is not None and 0 <= number < _SHARED_INTEGERS else 1


_OBJECT: dict[bytes, Callable[[Generic, bytes, Value], Any]] = {
    b"encoding": _encoding,
    b"refcount": _refcount,
    b"idletime": lambda db, key, value: db.ctx.evictor.idle_ms(db, key) // 1000,
    b"freq": lambda db, key, value: db.ctx.evictor.frequency(db, key),
}


def walk(page: Callable[[int], tuple[int, Any]]) -> Iterator[Any]:
    """What all pages of a scan hold, one after the other."""
    cursor, items = page(0)
    yield from items
    while cursor:
        cursor, items = page(cursor)
        yield from items
