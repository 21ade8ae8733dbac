"""HyperLogLog: the typed methods. A HyperLogLog is a string, which ``hll.py`` reads and makes.

Must not know: argv, replies, sessions, how registers are laid out.
"""

from __future__ import annotations

from kvstore.engine import hll
from kvstore.engine.keyspace import EncodableT, Keyspace, KeyT, to_bytes
from kvstore.engine.types.string import EMBSTR_MAX, remember_encoding
from kvstore.errors import ResponseError, WrongTypeError, err

_TESTED = 4096  # elements of PFSELFTEST


def _checked(value: bytes | None) -> bytes | None:
    """The value, which must be a HyperLogLog or missing."""
    if value is None or hll.is_hll(value):
        return value
    raise WrongTypeError("WRONGTYPE Key is not a valid HyperLogLog string value.")


class HyperLogLogs(Keyspace):
    """HyperLogLog."""

    __slots__ = ()

    def pfadd(self, name: KeyT, *values: EncodableT) -> int:
        """Add elements to the HyperLogLog, made if missing; 1 if its estimate may have changed, or 0.

        O(elements). Raises WrongTypeError, also for a string that is none; ResponseError for one that is
        corrupted, which elements before the first that met with this may have changed.
        """
        key = to_bytes(name)
        elements = [value if type(value) is bytes else to_bytes(value) for value in values]
        old = _checked(self._write_as(key, bytes))
        if old is not None:
            self._make_raw(key, old)
        value, changed, whole = hll.add(old or hll.EMPTY, elements, self.ctx.limits.hll_sparse_max_bytes)
        if not whole:
            if changed:  # which stays, though the log of a server has nothing of it
                value = hll.stale(value)
                self._store_hll(key, value)
                self.dirty += changed
                if self._live:
                    self.commit((b"SET", key, value, b"KEEPTTL"), ("touched", key))
            raise hll.corrupted()
        if old is None:
            changed += 1
        if not changed:
            return 0
        self._store_hll(key, hll.stale(value), new=old is None)
        self.dirty += changed
        if self._live:
            self.commit((b"PFADD", key, *elements), ("pfadd", key))
        return 1

    def _store_hll(self, key: bytes, value: bytes, *, new: bool = False) -> None:
        if len(value) <= EMBSTR_MAX:
            value = b"".join((value[:1], value[1:]))  # others may hold the object that was given
            remember_encoding(value, "raw")
        if new:
            self._create(key, value)
        else:
            self._data[key] = value

    def _make_raw(self, key: bytes, value: bytes) -> None:
        """Commands that may change the string have it in a form that can be changed, even where they do not."""
        if len(value) <= EMBSTR_MAX:
            self._store_hll(key, value)

    def pfcount(self, *sources: KeyT) -> int:
        """The estimated number of different elements of all the HyperLogLogs together.

        O(keys); for one key the estimate is kept within the value, and O(1) until it changes.
        Raises WrongTypeError, also for a string that is none; ResponseError for one that is corrupted.
        """
        if not sources:
            raise err("wrong number of arguments for 'pfcount' command")
        keys = [to_bytes(source) for source in sources]
        if len(keys) > 1:
            return hll.cardinality(self._union_of(keys)[0])
        key = keys[0]
        value = _checked(self._read_as(key, bytes))
        if value is None:
            return 0
        self._make_raw(key, value)
        count = hll.cached(value)
        if count is None:
            count = hll.cardinality(hll.registers_of(value))
            if self._tap is not None:
                self._tap(key)
            self._store_hll(key, hll.with_cached(value, count))
            self.dirty += 1
            if self._live:
                self.commit((b"PFCOUNT", key), ("touched", key))
        return count

    def _union_of(self, keys: list[bytes]) -> tuple[bytes, bool]:
        """The greatest registers of several keys, and whether one of those is dense."""
        registers, dense = bytes(hll.REGISTERS), False
        for key in keys:
            value = _checked(self._read_as(key, bytes))
            if value is not None:
                registers = hll.greatest(registers, hll.registers_of(value))
                dense = dense or hll.is_dense(value)
        return registers, dense

    def pfmerge(self, dest: KeyT, *sources: KeyT) -> bool:
        """Merge the HyperLogLogs into that at ``dest``, made if missing; True. O(keys).

        Raises WrongTypeError, also for a string that is none; ResponseError for one that is corrupted.
        """
        keys = [to_bytes(name) for name in (dest, *sources)]
        key = keys[0]
        registers, dense = self._union_of(keys)
        old = self._write_as(key, bytes)
        value = old or hll.EMPTY
        if dense and not hll.is_dense(value):
            value = hll.to_dense(value)
        value = hll.raised(value, registers, self.ctx.limits.hll_sparse_max_bytes)
        self._store_hll(key, hll.stale(value), new=old is None)
        self.dirty += 1
        if self._live:
            self.commit((b"PFMERGE", *keys), ("pfadd", key))
        return True

    # -- for those who look inside -----------------------------------------------------------------

    def _pfdebug(self, subcommand: bytes, key: bytes) -> int | str | bytes | list[int]:
        """GETREG, DECODE, ENCODING or TODENSE; the first and the last make the value dense. O(16384)."""
        value = self._write_as(key, bytes)
        if value is None:
            raise err("The specified key does not exist")
        _checked(value)
        self._make_raw(key, value)
        dense, asked = hll.is_dense(value), subcommand.upper()
        if asked == b"ENCODING":
            return "dense" if dense else "sparse"
        if asked == b"DECODE":
            if dense:
                raise err("HLL encoding is not sparse")
            return hll.described(value)
        if asked not in (b"GETREG", b"TODENSE"):
            unknown = subcommand.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            raise ResponseError(f"ERR Unknown PFDEBUG subcommand '{unknown}'")
        if not dense:
            value = hll.to_dense(value)
            self._store_hll(key, value)
            self.dirty += 1
            if self._live:
                self.commit((b"PFDEBUG", b"TODENSE", key), ("touched", key))
        return int(not dense) if asked == b"TODENSE" else list(hll.registers_of(value))


def self_test() -> None:
    """That the two layouts agree, and that the estimate is near. Raises ResponseError where not."""
    elements = [b"ele:%d" % number for number in range(_TESTED)]
    sparse = hll.add(hll.EMPTY, elements, 1 << 20).value
    dense = hll.add(hll.to_dense(hll.EMPTY), elements, 0).value
    if hll.to_dense(sparse) != dense or hll.pack(hll.registers_of(dense)) != dense[hll.HEAD :]:
        raise ResponseError("TESTFAILED sparse and dense registers differ")
    count = hll.cardinality(hll.registers_of(dense))
    if abs(count - _TESTED) > _TESTED * 0.03:
        raise ResponseError(f"TESTFAILED {count} of {_TESTED} elements counted")
