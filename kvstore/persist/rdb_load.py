"""Reads RDB files of every version up to 12, and Valkey's 80: into a store, or record by record for tools.

Invariants
- Nothing is taken on trust: what does not fit in the file, is unknown or comes twice is a FormatError that
  names file and offset, and no memory is reserved because a file claims a size.
- What a loader leaves out it counts: keys that had expired, containers without elements.
- The data behind the end of the RDB (of a log with such a base) is left alone.

Costs: a short string about 0.4 µs, another value what its type takes and 1 µs. Memory beside the data: a
window of 1 MB, and a large value's bytes once more.

Must not know: commands, where files are.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from kvstore.engine.codec import EmptyValueError, Reader, crc64
from kvstore.engine.context import Context, Limits
from kvstore.engine.database import Database
from kvstore.engine.types import TYPES, Value, load
from kvstore.errors import FormatError
from kvstore.persist.fs import Content
from kvstore.persist.rdb import (
    AUX,
    EOF,
    EXPIRETIME,
    EXPIRETIME_MS,
    FREQ,
    FUNCTION2,
    FUNCTION_PRE_GA,
    IDLE,
    MODULE_AUX,
    RESIZEDB,
    SELECTDB,
    SLOT_INFO,
)
from kvstore.resp import split_words

_REDIS: Final = b"REDIS"
_VALKEY: Final = b"VALKEY"
_MAGIC_BYTES: Final = 9
_NEWEST: Final = 12
_VALKEY_VERSIONS: Final = range(80, 81)
# The first version with a checksum behind the end.
_CHECKSUM_SINCE: Final = 5
_CHECKSUM_BYTES: Final = 8
# Bytes between from here on are opcodes; types of values are below.
_FIRST_OPCODE: Final = 242
# What newer servers have in records that say nothing without them, by opcode: of Redis, of Valkey.
_REFUSED: Final = {
    242: ("a template of hashes (Redis 8.10)", "a command within a snapshot (Valkey 9.2)"),
    243: ("metadata of modules (Redis 8.6)", "a slot import (Valkey 9.0)"),
    FUNCTION_PRE_GA: ("a function of a release candidate of 7.0", "a function of a release candidate of 7.0"),
}
_MODULE_PRE_GA: Final = 6
_MODULE_2: Final = 7
_MODULE_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Bytes read at a time from a mapped file, and how near to the end of them a fast reading may begin.
_WINDOW: Final = 1 << 20
_LONGEST_FAST: Final = 1 << 8
# Loaders tell how far they are after about so many bytes.
_TELL_EVERY: Final = 1 << 18
# AUX fields that belong to the key that comes next.
_AUX_NAMES: Final = frozenset(record.aux_name for record in TYPES.values() if record.aux_name)
# Types of strings, and of containers in all forms but the oldest and those with deadlines.
_COMMON: Final = frozenset({0, 1, 2, 4, 5, 10, 11, 12, 13, 14, 16, 17, 18, 20})


@dataclass(slots=True)
class Record:
    """A key as a file has it."""

    db: int
    key: bytes
    value: Value
    deadline_ms: int | None = None
    idle_s: int | None = None
    frequency: int | None = None
    offset: int = 0  # where its type stands


@dataclass(slots=True)
class Note:
    """What a file has beside keys."""

    kind: str
    """"aux", "function", "module" (a value that was skipped), "module-aux", "empty" (a key of a container without
    elements), "version" (the first), "end" (the last; ``offset`` is behind the RDB)."""
    name: bytes
    value: bytes
    offset: int


@dataclass(slots=True)
class Loaded:
    """What a loader has done."""

    version: int = 0
    keys: int = 0  # that are in the store now
    expired: int = 0  # that had expired and were left out
    empty: int = 0  # that had containers without elements, and were left out
    end: int = 0  # the offset behind the RDB
    aux: dict[bytes, bytes] = field(default_factory=dict)


class _Frame:
    """What stands around the values of a file, and what has been read of it for the next key."""

    __slots__ = (
        "aux",
        "content",
        "db",
        "deadline_ms",
        "frequency",
        "idle_s",
        "limits",
        "skip_modules",
        "start",
        "valkey",
        "version",
    )

    def __init__(self, content: Content, limits: Limits, start: int, skip_modules: bool):
        self.content = content
        self.limits = limits
        self.start = start
        self.skip_modules = skip_modules
        self.db = 0
        self.version, self.valkey = _version_of(content, start)
        self.forget()

    def forget(self) -> None:
        """A new key begins: nothing is known of it."""
        self.deadline_ms: int | None = None
        self.idle_s: int | None = None
        self.frequency: int | None = None
        self.aux: dict[bytes, bytes] = {}  # that belong to it, by name

    def opcode(self, reader: Reader, opcode: int) -> Note | None:
        """Read what belongs to an opcode other than EOF, behind which the reader stands."""
        at = reader.pos - 1
        if opcode == EXPIRETIME_MS:
            self.deadline_ms = reader.i64le()
        elif opcode == SELECTDB:
            self.db = reader.length()
        elif opcode == IDLE:
            self.idle_s = reader.length()
        elif opcode == FREQ:
            self.frequency = reader.byte()
        elif opcode == AUX:
            name, value = reader.string(), reader.string()
            if name not in _AUX_NAMES:
                return Note("aux", name, value, at)
            self.aux[name] = value
        elif opcode == RESIZEDB:
            reader.length()
            reader.length()
        elif opcode == EXPIRETIME:
            seconds = int.from_bytes(reader.take(4), "little", signed=True)
            self.deadline_ms = seconds * 1000
        elif opcode == FUNCTION2:
            source = reader.string()
            return Note("function", library_name(source, at), source, at)
        elif opcode == MODULE_AUX:
            return self._module_aux(reader, at)
        elif opcode == SLOT_INFO and not self.valkey:
            for _ in range(3):
                reader.length()
        else:
            _refuse_opcode(opcode, self.valkey, at)
        return None

    def _module_aux(self, reader: Reader, at: int) -> Note:
        name = _module_name(reader.length())
        reader.length()  # the kind of the number that comes next
        reader.length()  # whether this is before or behind the keys
        _skip_module(reader)
        return Note("module-aux", name, b"", at)

    def record(self, reader: Reader, number: int) -> Record | Note:
        """Read key and value of that type; the reader stands at the key."""
        at = reader.pos - 1
        key = reader.string()
        if number in (_MODULE_PRE_GA, _MODULE_2):
            return self._module(reader, number, key, at)
        try:
            value = load(number, reader, self.limits, self.valkey)
        except EmptyValueError:
            self.forget()
            return Note("empty", key, b"", at)
        if self.aux:
            record = TYPES[type(value)]
            aux = self.aux.get(record.aux_name)
            try:
                if aux is not None:
                    record.apply_aux(value, aux)
            except FormatError as error:
                raise FormatError(error.text, at)
        found = Record(self.db, key, value, self.deadline_ms, self.idle_s, self.frequency, at)
        self.forget()
        return found

    def _module(self, reader: Reader, number: int, key: bytes, at: int) -> Note:
        name = _module_name(reader.length())
        if number == _MODULE_PRE_GA or not self.skip_modules:
            text = f"the value of key {key[:64]!r} is of the module {name.decode()!r}, which is not there"
            raise FormatError(text, at)
        _skip_module(reader)
        self.forget()
        return Note("module", key, name, at)


# --------------------------------------------------------------------------- parts of the format


def _version_of(content: Content, start: int) -> tuple[int, bool]:
    """The version that a file begins with, and whether it is one of Valkey's own."""
    magic = content[start : start + _MAGIC_BYTES]
    valkey = magic.startswith(_VALKEY)
    digits = magic[len(_VALKEY if valkey else _REDIS) :]
    if len(magic) < _MAGIC_BYTES:
        raise FormatError(f"{len(magic)} bytes are no RDB file", start)
    if not (valkey or magic.startswith(_REDIS)) or not digits.isdigit():
        raise FormatError(f"no RDB file begins with {magic!r}", start)
    version = int(digits)
    if version not in (_VALKEY_VERSIONS if valkey else range(1, _NEWEST + 1)):
        of = "Valkey's " if valkey else ""
        raise FormatError(f"{of}RDB version {version} is not read", start)
    return version, valkey


def library_name(source: bytes, at: int) -> bytes:
    """The name of a library of functions, from its first line: ``#!lua name=mylib``."""
    first = source.split(b"\n", 1)[0]
    if first.startswith(b"#!"):
        for word in (split_words(first) or ())[1:]:
            if word[:5].lower() == b"name=":
                return word[5:]
    raise FormatError("a library of functions without a name", at)


def _module_name(number: int) -> bytes:
    """The nine letters in the upper 54 bits of a module's number."""
    return "".join([_MODULE_LETTERS[number >> shift & 63] for shift in range(58, 4, -6)]).encode()


def _skip_module(reader: Reader) -> None:
    """Read over the items of a module, each of which begins with its kind."""
    while True:
        at = reader.pos
        kind = reader.length()
        if kind == 0:
            return
        if kind in (1, 2):
            reader.length()
        elif kind == 3:
            reader.skip(4)
        elif kind == 4:
            reader.skip(8)
        elif kind == 5:
            reader.string()
        else:
            raise FormatError(f"no item of a module is of kind {kind}", at)


def _refuse_opcode(opcode: int, valkey: bool, at: int) -> None:
    names = _REFUSED.get(opcode)
    if names is None:
        raise FormatError(f"unknown opcode {opcode}", at)
    raise FormatError(f"opcode {opcode} is {names[valkey]}, which is not read", at)


class _Checksum:
    """The checksum of a file, taken as the reading goes on."""

    __slots__ = ("_content", "_crc", "_pos", "_wanted")

    def __init__(self, content: Content, start: int, version: int):
        self._content = content
        self._pos = start
        self._crc = 0
        # A file that ends in zeros was written without one: there is nothing to compare with.
        self._wanted = version >= _CHECKSUM_SINCE and content[-_CHECKSUM_BYTES:] != bytes(_CHECKSUM_BYTES)

    def advance(self, pos: int) -> None:
        """Take in the bytes up to ``pos``."""
        if not self._wanted:
            self._pos = pos
            return
        content = self._content
        while self._pos < pos:
            stop = min(pos, self._pos + _WINDOW)
            self._crc = crc64(content[self._pos : stop], self._crc)
            self._pos = stop

    def end(self, reader: Reader, version: int) -> int:
        """Compare with what stands behind the EOF, where the reader is; the offset behind that."""
        if version < _CHECKSUM_SINCE:
            return reader.pos
        self.advance(reader.pos)
        at = reader.pos
        found = reader.u64le()
        if self._wanted and found and found != self._crc:
            raise FormatError(f"the checksum is {found:016x}, and {self._crc:016x} is that of the data", at)
        return reader.pos


def _named(path: str, error: FormatError) -> FormatError:
    return FormatError(f"{path}: {error.text}", error.offset) if path else error


# ---------------------------------------------------------------------------- record by record


def read_rdb(
    content: Content, limits: Limits, *, path: str = "", start: int = 0, skip_modules: bool = False
) -> Iterator[Record | Note]:
    """All that is in an RDB file that begins at ``start``, in its order; the last is Note("end").

    Keys that come twice are not noticed. ``skip_modules``: values of modules become notes, and are no errors.
    Raises FormatError, which names ``path`` and offset. O(n).
    """
    try:
        frame = _Frame(content, limits, start, skip_modules)
        yield Note("version", b"valkey" if frame.valkey else b"redis", b"%d" % frame.version, start)
        checksum = _Checksum(content, start, frame.version)
        reader = Reader(content, start + _MAGIC_BYTES)
        while (opcode := reader.byte()) != EOF:
            if opcode < _FIRST_OPCODE:
                yield frame.record(reader, opcode)
            elif (note := frame.opcode(reader, opcode)) is not None:
                yield note
            checksum.advance(reader.pos)
        yield Note("end", b"", b"", checksum.end(reader, frame.version))
    except FormatError as error:
        raise _named(path, error) from None


def merge_rdb(ctx: Context, content: Content, *, path: str, replace: bool) -> None:
    """Read an RDB file into a store that is not empty. O(n).

    A key that is there already is replaced, or refused unless ``replace``. Keys that have expired are left
    out. Nobody hears of it as of a change. Raises FormatError, as ``load_rdb`` does.
    """
    now = ctx.now()
    for found in read_rdb(content, ctx.limits, path=path):
        if isinstance(found, Note):
            if found.kind == "function":
                ctx.libraries[found.name] = found.value
            continue
        if found.deadline_ms is not None and found.deadline_ms <= now:
            continue
        try:
            db = _database(ctx, found.db, found.offset)
            if db._before_change is not None:
                db._before_change(found.key)
            if found.key in db._data:
                if not replace:
                    raise _twice(found.key, found.offset)
                db._remove(found.key)
        except FormatError as error:
            raise _named(path, error) from None
        db._place(found.key, found.value, found.deadline_ms)
        ctx.evictor.set_use(db, found.key, found.idle_s, found.frequency)


def _database(ctx: Context, number: int, at: int) -> Database:
    if number >= ctx.count:
        raise FormatError(f"a key is in database {number}, and there are {ctx.count}", at)
    return ctx.database(number)


def _twice(key: bytes, at: int) -> FormatError:
    return FormatError(f"key {key[:64]!r} is there already", at)


# ------------------------------------------------------------------------------- into a store


def load_rdb(
    ctx: Context, content: Content, *, path: str, now_ms: int | None, start: int = 0
) -> Generator[int, None, Loaded]:
    """Read an RDB file that begins at ``start`` into the empty databases of a store. O(n).

    Yields offsets from time to time; the generator's value is a ``Loaded``. ``now_ms``: keys whose deadline has
    passed then are left out; None keeps them. Nobody hears of it, and nothing expires meanwhile.
    Raises FormatError, which names ``path`` and offset; what was read before stays in the store.
    """
    loading = _Loading(ctx, content, now_ms, start)
    try:
        frame = loading.begin()
        yield from loading.steps(frame)
    except FormatError as error:
        raise _named(path, error) from None
    finally:
        loading.keep_orders()
    return loading.loaded


class _Loading:
    """One run of ``load_rdb``."""

    def __init__(self, ctx: Context, content: Content, now_ms: int | None, start: int):
        self.ctx = ctx
        self.loaded = Loaded()
        self._content = content
        self._start = start
        self._keep_from = -(1 << 63) if now_ms is None else now_ms + 1
        self._recording = ctx.evictor.records_uses()
        self._filled: list[Database] = []

    def begin(self) -> _Frame:
        frame = _Frame(self._content, self.ctx.limits, self._start, skip_modules=False)
        self.loaded.version = frame.version
        return frame

    def keep_orders(self) -> None:
        """Tell the order lists of what was put into the databases behind their back."""
        for db in self._filled:
            if db._order is not None:
                db._order.fill(db._data)
            if db._volatile is not None:
                db._volatile.fill(db._expires)
        self.loaded.keys = sum(len(db._data) for db in self._filled)

    def steps(self, frame: _Frame) -> Iterator[int]:
        """Read to the end, a step at a time."""
        content = self._content
        size = len(content)
        checksum = _Checksum(content, self._start, frame.version)
        pos = self._start + _MAGIC_BYTES
        # A small file is its only window.
        window, base = (content, 0) if isinstance(content, bytes) else (b"", pos)
        ended = False
        while not ended:
            if pos >= size:
                raise Reader(content, pos).short(1)
            if base + len(window) - pos <= _LONGEST_FAST and base + len(window) < size:
                window, base = content[pos : pos + _WINDOW], pos
            was_on = gc.isenabled()
            gc.disable()  # nothing here is garbage, and looking for it in all that is new takes long
            try:
                at, ended = self._step(frame, window, base, pos - base)
            finally:
                if was_on:
                    gc.enable()
            pos = base + at
            checksum.advance(pos)
            yield pos
        self.loaded.end = checksum.end(Reader(content, pos), frame.version)

    def _step(self, frame: _Frame, window: bytes, base: int, at: int) -> tuple[int, bool]:
        """Read records that begin in the window from ``at`` on; where it stopped, and whether at the end.

        Keys with short strings, and containers in their common forms, are read here; near the end of the window
        and wherever something is the matter, ``_record`` does it.
        """
        fast = len(window) - _LONGEST_FAST
        stop = min(at + _TELL_EVERY, len(window) if base + len(window) == len(self._content) else fast)
        fast = min(fast, stop)
        keep_from, index, limits = self._keep_from, -1, frame.limits
        reader = Reader(window)
        if self._recording:
            fast = -1  # the uses of keys are for ``_record``
        while True:
            if frame.db != index:
                index = frame.db
                db = self._select(index, base + at)
                data, expires, file = db._data, db._expires, db._due.file
            while at < fast:
                first = at
                deadline = None
                if window[at] == EXPIRETIME_MS:
                    deadline = int.from_bytes(window[at + 1 : at + 9], "little", signed=True)
                    at += 9
                number, size = window[at], window[at + 1]
                if size > 63 or number not in _COMMON:
                    at = first
                    break
                at += 2
                key = window[at : at + size]
                at += size
                if number:
                    reader.pos = at
                    try:
                        value = load(number, reader, limits)
                    except FormatError:
                        at = first
                        break
                    at = reader.pos
                elif (length := window[at]) > 63:
                    at = first
                    break
                else:
                    at += 1
                    value = window[at : at + length]
                    at += length
                if key in data:
                    raise _twice(key, base + first)
                if deadline is None:
                    data[key] = value
                elif deadline >= keep_from:
                    data[key] = value
                    expires[key] = deadline
                    file(key, deadline)
                else:
                    self.loaded.expired += 1
            if at >= stop:
                return at, False
            at, ended = self._record(frame, window, base, at)
            if ended:
                return at, True

    def _select(self, number: int, at: int) -> Database:
        db = _database(self.ctx, number, at)
        if db not in self._filled:
            assert not db._data
            self._filled.append(db)
        return db

    def _record(self, frame: _Frame, window: bytes, base: int, at: int) -> tuple[int, bool]:
        """Read what begins at ``at``, up to the end of a key; where that is, and whether the file ends."""
        reader = Reader(window, at)
        try:
            ended = self._read(frame, reader, base)
        except FormatError:
            if base == 0 and len(window) == len(self._content):
                raise
            # It goes beyond the window; or it is wrong, and then this gives the true offset.
            reader = Reader(self._content, base + at)
            ended = self._read(frame, reader, 0)
            return reader.pos - base, ended
        return reader.pos, ended

    def _read(self, frame: _Frame, reader: Reader, base: int) -> bool:
        """Read opcodes, which may be read twice, and the key behind them; whether the file ends instead."""
        frame.forget()
        loaded = self.loaded
        while (opcode := reader.byte()) >= _FIRST_OPCODE:
            if opcode == EOF:
                return True
            note = frame.opcode(reader, opcode)
            if note is None:
                continue
            if note.kind == "aux":
                loaded.aux[note.name] = note.value
            elif note.kind == "function":
                self.ctx.libraries[note.name] = note.value
        found = frame.record(reader, opcode)
        if isinstance(found, Note):
            loaded.empty += 1
        elif found.deadline_ms is not None and found.deadline_ms < self._keep_from:
            loaded.expired += 1
        else:
            self._place(found, base + found.offset)
        return False

    def _place(self, found: Record, at: int) -> None:
        """As ``Keyspace._place``, but nobody hears of it and nothing expires meanwhile."""
        db, key = self._select(found.db, at), found.key
        if key in db._data:
            raise _twice(key, at)
        db._data[key] = found.value
        if found.deadline_ms is not None:
            db._expires[key] = found.deadline_ms
            db._due.file(key, found.deadline_ms)
        db._watch_parts(key, found.value)
        if self._recording:
            self.ctx.evictor.set_use(db, key, found.idle_s, found.frequency)
