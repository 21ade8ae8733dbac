"""Writes RDB files: the frame around the values, which their types encode.

Invariants
- Entries come in any order; a file names the database of each where it changes. Servers take a database
  that is named again.
- An entry that was begun is finished before the next one is.
- What older servers cannot hold stands in an AUX field right before its key: they read over it.

Costs: about 0.4 µs for a short string in a batch, 1 µs for any other key, and the encoding of its value.
Bytes go out in chunks of about 64 KB, or as large as the largest piece of a value.

Must not know: where the bytes go, where the keys come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, repeat
from struct import Struct
from typing import Final

from kvstore.engine.codec import Pieces, compact_string_of, crc64, length_of, string_of
from kvstore.engine.snapshot import Rest
from kvstore.engine.types import TYPES, Target, Value
from kvstore.persist.gathering import Gathering

# Opcodes: bytes where the type of a value could be.
SLOT_INFO: Final = 244
FUNCTION2: Final = 245
FUNCTION_PRE_GA: Final = 246
MODULE_AUX: Final = 247
IDLE: Final = 248
FREQ: Final = 249
AUX: Final = 250
RESIZEDB: Final = 251
EXPIRETIME_MS: Final = 252
EXPIRETIME: Final = 253
SELECTDB: Final = 254
EOF: Final = 255

# The first version that has functions.
_FUNCTIONS_SINCE: Final = Target.REDIS_70
# Strings up to this size are not compressed, as in the servers; in bytes.
_NOT_COMPRESSED: Final = 20
# What a string begins with, by its length, alone and behind the type of a string's value.
_HEADS: Final = [length_of(n) for n in range(512)]
_STRING_HEADS: Final = [b"\0" + head for head in _HEADS]
_CHECKSUM_BYTES: Final = 8
# An opcode and a time.
_DEADLINE: Final = Struct("<Bq")


class RdbWriter(Gathering):
    """Makes an RDB file of entries. Takes them from a snapshot, or from anybody.

    ``compress``: longer strings are compressed where a library for that is installed. ``aux``: fields at the
    beginning. ``libraries``: sources of functions by name. ``sizes``: by database, how many keys and how many
    deadlines to expect: a hint that lets servers load faster.
    """

    def __init__(
        self,
        out: Callable[[bytes], None],
        *,
        target: Target,
        compress: bool,
        checksum: bool,
        aux: Mapping[bytes, bytes] = {},
        libraries: Mapping[bytes, bytes] = {},
        sizes: Mapping[int, tuple[int, int]] = {},
    ):
        super().__init__(out)
        self._target = target
        self._compress = compress
        self._checksum = checksum
        self._aux = aux
        self._libraries = libraries
        self._sizes = dict(sizes)
        self._db = -1
        self._use = b""
        self._crc = 0

    def begin(self) -> None:
        """Write what stands before the keys."""
        portable = self._target is Target.PORTABLE
        target = _FUNCTIONS_SINCE if portable and self._libraries else self._target
        head = [
            b"VALKEY%03d" % target.version if target is Target.VALKEY_9 else b"REDIS%04d" % target.version
        ]
        for name, value in self._aux.items():
            head += (bytes((AUX,)), string_of(name), string_of(value))
        for source in self._libraries.values():
            head += (bytes((FUNCTION2,)), self._string(source))
        self._put(b"".join(head))

    def used(self, idle_s: int | None, frequency: int | None) -> None:
        """How the key of the next entry was used: seconds since then, or the counter of uses."""
        if idle_s is not None:
            self._use = bytes((IDLE,)) + length_of(idle_s)
        elif frequency is not None:
            self._use = bytes((FREQ, frequency))

    def strings(
        self, db: int, keys: list[bytes], values: list[bytes], deadlines_ms: list[int | None] | None
    ) -> None:
        """Write keys whose values are short strings. As ``entry`` of each, but faster: loops in C."""
        if db != self._db:
            self._select(db)
        try:
            key_heads = map(_STRING_HEADS.__getitem__, map(len, keys))
            if self._compress and max(map(len, values)) > _NOT_COMPRESSED:
                bodies = [
                    compact_string_of(value) if len(value) > _NOT_COMPRESSED else _HEADS[len(value)] + value
                    for value in values
                ]
                parts: list[Iterable[bytes]] = [key_heads, keys, bodies]
            else:
                parts = [key_heads, keys, map(_HEADS.__getitem__, map(len, values)), values]
            if deadlines_ms is not None:
                pack = _DEADLINE.pack
                parts.insert(0, [b"" if each is None else pack(EXPIRETIME_MS, each) for each in deadlines_ms])
            self._put(b"".join(chain.from_iterable(zip(*parts, strict=True))))
        except IndexError:  # one of the keys is long
            for key, value, deadline in zip(keys, values, deadlines_ms or repeat(None), strict=False):
                self.entry(db, key, value, deadline)

    def entry(self, db: int, key: bytes, value: Value, deadline_ms: int | None) -> Rest | None:
        """Write one key. None: it is written. Else the value is large, and each step writes a part.

        ``deadline_ms``: Unix time in milliseconds at which the key expires.
        """
        if db != self._db:
            self._select(db)
        target, record = self._target, TYPES[type(value)]
        head = b""
        aux = record.aux(value, target)
        if aux is not None:
            head = bytes((AUX,)) + string_of(record.aux_name) + string_of(aux)
        if deadline_ms is not None:
            head += _DEADLINE.pack(EXPIRETIME_MS, deadline_ms)
        if self._use:
            head += self._use
            self._use = b""
        head += bytes((record.rdb_type(value, target),)) + string_of(key)
        body = record.dump(value, target, self._compress)
        if type(body) is tuple:
            for piece in body:
                head += piece
            self._put(head)
            return None
        self._put(head)
        return _Rest(body, self._put, lambda twin: record.dump(twin, target, self._compress))

    def end(self) -> None:
        """Write what stands behind the keys, and hand on all that is left."""
        self._put(bytes((EOF,)))
        self._flush()
        self._out(self._crc.to_bytes(_CHECKSUM_BYTES, "little"))

    def _select(self, db: int) -> None:
        self._db = db
        head = bytes((SELECTDB,)) + length_of(db)
        size = self._sizes.pop(db, None)
        if size is not None:
            head += bytes((RESIZEDB,)) + length_of(size[0]) + length_of(size[1])
        self._put(head)

    def _string(self, word: bytes) -> bytes:
        return compact_string_of(word) if self._compress else string_of(word)

    def _hand_on(self, chunk: bytes) -> None:
        if self._checksum:
            self._crc = crc64(chunk, self._crc)
        self._out(chunk)


class _Rest(Rest):
    """What is left of a large value: pieces of its body."""

    def __init__(
        self, body: Iterable[bytes], put: Callable[[bytes], None], dump: Callable[[Value], Iterable[bytes]]
    ):
        self._body = iter(body)
        self._put = put
        self._dump = dump

    def __next__(self) -> None:
        self._put(next(self._body))

    def let_go(self, copy: Callable[[], Value]) -> None:
        if isinstance(self._body, Pieces):  # of a container: a string never changes
            self._body.go_on_with(self._dump(copy()))
