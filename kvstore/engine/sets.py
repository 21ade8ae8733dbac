"""Sets: the typed methods.

The algebra goes through the smallest set where it can, and members come out in a fixed order.

Must not know: argv, replies, sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvstore.engine.draws import draw_count, draw_one, draw_several
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.types.set import HASHTABLE, INTSET, LISTPACK, Set, filled
from kvstore.engine.words import scan_count, words_of
from kvstore.errors import NOT_POSITIVE, SYNTAX, ResponseError, err
from kvstore.glob import compile_scan_glob
from kvstore.numbers import as_int

# An SPOP that takes this many times the members that stay moves those, rather than the others.
_KEEP_FEW = 5
# Members of one SREM that stands for an SPOP, as the server's log has it.
_SREM_BATCH = 1024


class Sets(Keyspace):
    """Sets."""

    __slots__ = ()

    # -- members -----------------------------------------------------------------------------------

    def sadd(self, name: KeyT, *values: EncodableT) -> int:
        """Add members; how many were new. O(1) a member. Raises WrongTypeError."""
        key = name if type(name) is bytes else to_bytes(name)
        limits = self.ctx.limits
        found = self._data.get(key)
        if type(found) is not Set or key in self._expires or self._watched:
            found = self._write_as(key, Set)  # else as it does, without the calls
        if len(values) == 1:
            member = values[0] if type(values[0]) is bytes else to_bytes(values[0])
            if found is None:
                found = Set.expecting(member, 1, limits)
                self._create(key, found)
            if not found.put(member, limits):
                return 0
            self.dirty += 1
            if self._live:
                self.commit((b"SADD", key, member), ("sadd", key))
            return 1
        return self._sadd(key, [to_bytes(value) for value in values], found)

    def _sadd(self, key: bytes, members: list[bytes], found: Set | None) -> int:
        if not members:
            raise err("wrong number of arguments for 'sadd' command")
        limits = self.ctx.limits
        if found is None:
            found = Set.expecting(members[0], len(members), limits)
            self._create(key, found)
        else:
            found.expect(len(members), limits)
        new = [member for member in members if found.put(member, limits)]
        if new:
            self.dirty += len(new)
            if self._live:
                self.commit((b"SADD", key, *new), ("sadd", key))
        return len(new)

    def srem(self, name: KeyT, *values: EncodableT) -> int:
        """Take members away; how many were there. O(1) a member. Raises WrongTypeError."""
        key = to_bytes(name)
        members = [to_bytes(value) for value in values]
        found = self._write_as(key, Set)
        if found is None:
            return 0
        gone = [member for member in members if found.drop(member)]
        if gone:
            self._commit_removal(key, found, "srem", gone)
        return len(gone)

    def _commit_removal(self, key: bytes, found: Set, event: str, gone: Sequence[bytes]) -> None:
        """The end of every command that took these members: the key goes with the last one."""
        emptied = self._drop_if_empty(key, found)
        self.dirty += len(gone)
        if not self._live:
            return
        with self.ctx.unit():
            for at in range(0, len(gone), _SREM_BATCH):
                events = [(event, key)] if at == 0 else []
                if emptied and at + _SREM_BATCH >= len(gone):
                    events.append(("del", key))
                self.commit((b"SREM", key, *gone[at : at + _SREM_BATCH]), *events)

    def scard(self, name: KeyT) -> int:
        """How many members. O(1). Raises WrongTypeError."""
        found = self._read_as(to_bytes(name), Set)
        return 0 if found is None else len(found)

    def sismember(self, name: KeyT, value: EncodableT) -> int:
        """1 if the value is a member, else 0. O(1). Raises WrongTypeError."""
        found = self._read_as(to_bytes(name), Set)
        return 1 if found is not None and to_bytes(value) in found else 0

    def smismember(self, name: KeyT, values: Any, *args: EncodableT) -> list[int]:
        """1 or 0 for each value, by whether it is a member. O(1) a value. Raises WrongTypeError."""
        members = words_of(values, args)
        found = self._read_as(to_bytes(name), Set)
        return [0] * len(members) if found is None else [int(member in found) for member in members]

    def smembers(self, name: KeyT) -> set[bytes]:
        """All members. O(n). Raises WrongTypeError."""
        return set(self._smembers(to_bytes(name)))

    def _smembers(self, key: bytes) -> list[bytes]:
        found = self._read_as(key, Set)
        return [] if found is None else found.listed()

    def smove(self, src: KeyT, dst: KeyT, value: EncodableT) -> bool:
        """Move a member to another set; False if it was not in the first. O(1). Raises WrongTypeError."""
        source, target, member = to_bytes(src), to_bytes(dst), to_bytes(value)
        found = self._write(source)
        other = self._write(target)
        if found is None:
            return False
        found = self._as(source, found, Set)
        if source == target:
            other = found
        elif other is not None:
            other = self._as(target, other, Set)
        if found is other:
            return member in found
        if not found.drop(member):
            return False
        emptied = self._drop_if_empty(source, found)
        self.dirty += 1
        if self._live:
            gone = [("srem", source), ("del", source)] if emptied else [("srem", source)]
            self.commit((b"SMOVE", source, target, member), *gone)
        if other is None:
            other = Set.expecting(member, 1, self.ctx.limits)
            self._create(target, other)
        if other.put(member, self.ctx.limits):
            self.dirty += 1
            if self._live:
                # The other half of the effect above.
                self.commit((), ("sadd", target))
        return True

    # -- draws and scans ---------------------------------------------------------------------------

    def spop(self, name: KeyT, count: int | None = None) -> bytes | list[bytes] | None:
        """Take a random member away, or ``count`` of them. O(1) a member.

        Raises WrongTypeError; ResponseError for a negative ``count``.
        """
        key = to_bytes(name)
        if count is None:
            found = self._write_as(key, Set)
            if found is None:
                return None
            member = draw_one(found, self.ctx)
            found.drop(member)
            self._commit_removal(key, found, "spop", (member,))
            return member
        most = as_int(count, NOT_POSITIVE)
        if most < 0:
            raise ResponseError(NOT_POSITIVE)
        found = self._write_as(key, Set)
        if found is None or most == 0:
            return []
        if most < len(found):
            gone = draw_several(found, most, self.ctx)
            for member in gone:
                found.drop(member)
            if found.encoding == HASHTABLE and len(found) * _KEEP_FEW <= most:
                # The server moves the few that stay to a new set, which begins as a small one.
                order = found.order
                self._data[key] = found = filled(found, self.ctx.limits, LISTPACK)
                found.order = order  # so that a scan under way goes on
            self._commit_removal(key, found, "spop", gone)
            return gone
        gone = found.listed()
        self._remove(key)
        self.dirty += len(gone)
        if self._live:
            self.commit((b"DEL", key), ("spop", key), ("del", key))
        return gone

    def srandmember(self, name: KeyT, number: int | None = None) -> bytes | list[bytes] | None:
        """A random member, or None; with ``number`` that many different ones. O(1) a member.

        A negative ``number`` draws each time from all members.
        Raises WrongTypeError; ResponseError for a ``number`` out of range.
        """
        if number is None:
            found = self._read_as(to_bytes(name), Set)
            return None if found is None else draw_one(found, self.ctx)
        most = draw_count(number)
        found = self._read_as(to_bytes(name), Set)
        if found is None or most == 0:
            return []
        return found.listed() if most >= len(found) else draw_several(found, most, self.ctx)

    def sscan(
        self, name: KeyT, cursor: int = 0, match: KeyT | None = None, count: int | None = None
    ) -> tuple[int, list[bytes]]:
        """Some of the members, and the cursor to go on with, which is 0 at the end. O(``count``).

        A member that is there from the first call to the last is met. ``match``: a glob pattern that
        members must match. Raises WrongTypeError; ResponseError for a bad ``count``.
        """
        at = as_int(cursor, "ERR invalid cursor")
        found = self._read_as(to_bytes(name), Set)
        if found is None:
            return 0, []
        return scan_members(found, at, None if match is None else to_bytes(match), scan_count(count))

    # -- algebra -----------------------------------------------------------------------------------

    def sinter(self, keys: Any, *args: KeyT) -> set[bytes]:
        """The members that all sets have. O(smallest set x sets). Raises WrongTypeError."""
        return set(self._sinter(words_of(keys, args)))

    def sinterstore(self, dest: KeyT, keys: Any, *args: KeyT) -> int:
        """Store the intersection at ``dest``; its size. Costs and errors as ``sinter``."""
        names = words_of(keys, args)
        return self._store(b"SINTERSTORE", to_bytes(dest), names, self._intersection(names))

    def sintercard(self, numkeys: int, keys: Any, limit: int = 0) -> int:
        """How many members all sets have, counting up to ``limit`` (0: no limit). Costs as ``sinter``."""
        names = words_of(keys)
        count = as_int(numkeys, "ERR numkeys should be greater than 0")
        if count < 1:
            raise err("numkeys should be greater than 0")
        if count > len(names):
            raise err("Number of keys can't be greater than number of args")
        if count < len(names):
            raise ResponseError(SYNTAX)
        most = as_int(limit, "ERR LIMIT can't be negative")
        if most < 0:
            raise err("LIMIT can't be negative")
        found = self._sources(names)
        if found is None:
            return 0
        smallest, others = found[0], found[1:]
        total = 0
        for member in smallest:
            if all(member in other for other in others):
                total += 1
                if total == most:
                    break
        return total

    def sunion(self, keys: Any, *args: KeyT) -> set[bytes]:
        """The members that any of the sets has. O(all members). Raises WrongTypeError."""
        return set(self._sunion(words_of(keys, args)))

    def sunionstore(self, dest: KeyT, keys: Any, *args: KeyT) -> int:
        """Store the union at ``dest``; its size. Costs and errors as ``sunion``."""
        names = words_of(keys, args)
        union = filled(self._sunion(names), self.ctx.limits)
        return self._store(b"SUNIONSTORE", to_bytes(dest), names, union)

    def sdiff(self, keys: Any, *args: KeyT) -> set[bytes]:
        """The members of the first set that no other has. O(all members). Raises WrongTypeError."""
        return set(self._sdiff(words_of(keys, args)))

    def sdiffstore(self, dest: KeyT, keys: Any, *args: KeyT) -> int:
        """Store the difference at ``dest``; its size. Costs and errors as ``sdiff``."""
        names = words_of(keys, args)
        first, others, by_removal = self._difference(names)
        made = filled(first, self.ctx.limits) if by_removal else Set()
        if by_removal:
            for member in [member for member in made if any(member in other for other in others)]:
                made.drop(member)
        else:
            for member in first:
                if not any(member in other for other in others):
                    made.put(member, self.ctx.limits)
        return self._store(b"SDIFFSTORE", to_bytes(dest), names, made)

    def _sources(self, names: list[bytes]) -> list[Set] | None:
        """The sets, the smallest first; None when one is missing."""
        found = [self._read_as(name, Set) for name in names]
        there = [each for each in found if each is not None]
        return sorted(there, key=len) if len(there) == len(found) else None

    def _sinter(self, names: list[bytes]) -> list[bytes]:
        found = self._sources(names)
        if found is None:
            return []
        smallest, others = found[0], found[1:]
        return [member for member in smallest.listed() if all(member in other for other in others)]

    def _intersection(self, names: list[bytes]) -> Set:
        """The intersection with the encoding that the server gives it."""
        found = self._sources(names)
        if found is None:
            return Set()
        smallest, others = found[0], found[1:]
        members = (member for member in smallest if all(member in other for other in others))
        made = filled(members, self.ctx.limits, LISTPACK if smallest.encoding == LISTPACK else INTSET)
        made.settle(self.ctx.limits)
        return made

    def _sunion(self, names: list[bytes]) -> list[bytes]:
        union: dict[bytes, None] = {}
        for found in [self._read_as(name, Set) for name in names]:
            if found is not None:
                union.update(found)
        return list(union)

    def _sdiff(self, names: list[bytes]) -> list[bytes]:
        first, others, _ = self._difference(names)
        return [member for member in first.listed() if not any(member in other for other in others)]

    def _difference(self, names: list[bytes]) -> tuple[Set, list[Set], bool]:
        """The first set, the others, and whether the server would copy the first and remove from it.

        It shows: a set that is removed from keeps the encoding of the copy.
        """
        found = [self._read_as(name, Set) for name in names]
        first = found[0]
        if first is None:
            return Set(), [], False
        others = [each for each in found[1:] if each is not None]
        if any(other is first for other in others):
            return Set(), [], False
        looking_up = len(first) * (len(others) + 1) // 2
        removing = len(first) + sum(map(len, others))
        return first, others, looking_up > removing

    def _store(self, command: bytes, target: bytes, names: list[bytes], made: Set) -> int:
        """Put a result at its key, in place of whatever was there; its size."""
        before = self._write(target)
        if made:
            self._overwrite(target, made)
            event = command.decode().lower()
        elif before is not None:
            self._remove(target)
            event = "del"
        else:
            return 0
        self.dirty += 1
        if self._live:
            self.commit((command, target, *names), (event, target))
        return len(made)


def scan_members(found: Set, cursor: int, match: bytes | None, count: int) -> tuple[int, list[bytes]]:
    """A page of SSCAN. A small set is one page, as the server's packed sets are."""
    if found.encoding in (INTSET, LISTPACK):
        cursor, members = 0, found.listed()
    else:
        cursor, members = found.scan_order().scan(cursor, count)
    matches = None if match is None else compile_scan_glob(match)
    return cursor, members if matches is None else [member for member in members if matches(member)]
