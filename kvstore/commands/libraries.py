"""Libraries of functions: the sources that a store has, and the functions that they make.

What a store has are sources by name (``Context.libraries``): files are written from them and read into them, and
whoever fills a store changes them. The functions follow when they are next asked for, so that nobody else has to
know of Lua.

Invariants
- A function is called only while the store has the source that made it, that very object.
- A change is made whole or not at all: what is new is loaded beside what is there, then takes its place.

Costs: a look-up of a function is two of dicts; loading runs the code of a library.

Must not know: sessions, argv.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kvstore.commands.lua import BAD_NAME, Function, FunctionInterpreter, available
from kvstore.engine.codec import Reader, crc64, string_of
from kvstore.engine.context import Context
from kvstore.engine.types.payload import is_payload
from kvstore.errors import FormatError, ResponseError, err
from kvstore.resp import split_words

log = logging.getLogger("kvstore")

ENGINE: Final = b"LUA"
FLUSH, APPEND, REPLACE = b"FLUSH", b"APPEND", b"REPLACE"
POLICIES: Final = frozenset({FLUSH, APPEND, REPLACE})
# In payloads: what stands before each source, as in RDB files; before a library of a release candidate of 7.0.
_FUNCTION: Final = 245
_BEFORE_RELEASE: Final = 246
# The first version of RDB that has functions.
_VERSION: Final = 10
_FOOTER_BYTES: Final = 10
_NAME: Final = re.compile(rb"[A-Za-z0-9_]+\Z")


@dataclass(frozen=True, slots=True)
class Library:
    """A library whose functions can be called."""

    name: bytes
    source: bytes
    functions: tuple[Function, ...]


def parse_metadata(source: bytes) -> tuple[bytes, bytes]:
    """The name that the first line gives (``#!lua name=mylib``), and the code. Raises the server's error."""
    if not source.startswith(b"#!"):
        raise err("Missing library metadata")
    end = source.find(b"\n")
    words = None if end < 0 or b"\0" in source[:end] else split_words(source[2:end])
    if words is None:
        raise err("Invalid library metadata")
    # The engine's name is what stands right behind the mark; there may be a space instead.
    engine = words.pop(0) if words and source[2:3] not in b" \t" else b""
    name: bytes | None = None
    for word in words:
        if word[:5].lower() != b"name=":
            raise err(f"Invalid metadata value given: {_text(word)}")
        if name is not None:
            raise err("Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise err("Library name was not given")
    if not _NAME.match(name):
        raise err(BAD_NAME)
    if engine.upper() != ENGINE:
        raise err(f"Engine '{_text(engine)}' not found")
    return name, source[end:]


def _text(word: bytes) -> str:
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")  # a C string ends at its NUL


class Libraries:
    """The libraries of one store, as its hub runs them."""

    def __init__(self, ctx: Context, interpreter: FunctionInterpreter):
        self._ctx = ctx
        self._interpreter = interpreter
        self._loaded: dict[bytes, Library] = {}
        self._broken: dict[bytes, bytes] = {}  # sources that cannot be loaded, by name; they have been logged

    # -- asking ------------------------------------------------------------------------------------

    def function(self, name: bytes) -> Function | None:
        """The function of that name. O(1); loads what somebody has put into the store meanwhile."""
        word = name.decode("latin-1").lower()
        scripts = self._interpreter.scripts
        found = scripts.get(word)
        if found is None or self._ctx.libraries.get(found.library) is not found.body:  # type: ignore[attr-defined]
            self.catch_up()
            found = scripts.get(word)
        return found  # type: ignore[return-value]

    def all(self) -> list[Library]:
        """In the order in which they were loaded. O(n)."""
        self.catch_up()
        return list(self._loaded.values())

    def counts(self) -> tuple[int, int]:
        """How many libraries, and how many functions, without loading any. O(n)."""
        return len(self._ctx.libraries), len(self._interpreter.scripts)

    def memory_of_sources(self) -> int:
        """Bytes of the sources. O(n)."""
        return sum(map(len, self._ctx.libraries.values()))

    # -- what others have put into the store -----------------------------------------------------------

    def catch_up(self, *, strict: bool = False) -> None:
        """Load what the store has and drop what it has not. O(n) libraries where nothing changed.

        A library that cannot be loaded stays in the store and has no functions: the log says why, or with
        ``strict`` a FormatError does.
        """
        sources = self._ctx.libraries
        if len(sources) == len(self._loaded) and all(
            sources.get(name) is library.source for name, library in self._loaded.items()
        ):
            return
        for library in list(self._loaded.values()):
            if sources.get(library.name) is not library.source:
                self._drop(library)
        for name, source in sources.items():
            if name in self._loaded or (self._broken.get(name) is source and not strict):
                continue
            try:
                self._add(self._load(source, [], frozenset()))
            except ResponseError as error:
                text = f"the library of functions {_text(name)!r} cannot be loaded: {str(error).removeprefix('ERR ')}"
                if not available():
                    raise
                if strict:
                    raise FormatError(text) from None
                log.warning("%s", text)
                self._broken[name] = source

    # -- changing ----------------------------------------------------------------------------------

    def load(self, source: bytes, *, replace: bool = False) -> tuple[bytes, bool]:
        """Add a library; its name, and whether one of that name was replaced. Raises ResponseError."""
        self.catch_up()
        name, _ = parse_metadata(source)
        if name in self._ctx.libraries and not replace:
            raise err(f"Library '{_text(name)}' already exists")
        replaced = name in self._ctx.libraries
        made = self._load(source, [], frozenset({name}))
        self._take(made)
        return name, replaced

    def delete(self, name: bytes) -> None:
        """Remove a library. Raises ResponseError where there is none."""
        self.catch_up()
        if name not in self._ctx.libraries:
            raise err("Library not found")
        self._remove(name)

    def flush(self) -> None:
        """Remove all, and what their code has left behind."""
        self._ctx.libraries.clear()
        self._loaded.clear()
        self._broken.clear()
        self._interpreter.flush()

    def dump(self) -> bytes:
        """All libraries as a payload that ``restore`` takes, here and on real servers since 7.0. O(n)."""
        data = b"".join(
            [bytes((_FUNCTION,)) + string_of(source) for source in self._ctx.libraries.values()]
            + [_VERSION.to_bytes(2, "little")]
        )
        return data + crc64(data).to_bytes(8, "little")

    def restore(self, payload: bytes, policy: bytes) -> tuple[list[bytes], list[bytes]]:
        """Add the libraries of a payload: the names of those that it replaced, and the sources that it had.

        ``policy``: what is there is removed first (FLUSH), stays (APPEND), or gives way to what has its name
        (REPLACE). Raises ResponseError; nothing is changed then.
        """
        sources = sources_in(payload)
        self.catch_up()
        found: list[Library] = []
        gone = frozenset(self._ctx.libraries) if policy == FLUSH else frozenset()
        for source in sources:
            name, _ = parse_metadata(source)
            if any(each.name == name for each in found):
                raise err(f"Library '{_text(name)}' already exists")
            # What is to be replaced, and all that may be, is looked at when all of the payload is known.
            found.append(self._load(source, found, frozenset(self._ctx.libraries)))
        if policy == REPLACE:
            gone = frozenset(each.name for each in found if each.name in self._ctx.libraries)
        for library in found:
            if library.name in self._ctx.libraries and library.name not in gone:
                raise err(f"Library {_text(library.name)} already exists")
        for library in found:
            self._refuse_double(library.functions, [], gone)
        if policy == FLUSH:
            for name in gone:
                self._remove(name)
        for library in found:
            self._take(library)
        return sorted(gone), [library.source for library in found]

    # -- loading -----------------------------------------------------------------------------------

    def _load(self, source: bytes, beside: Iterable[Library], without: frozenset[bytes]) -> Library:
        """Run a library, whose functions nobody can call yet. ``beside``: libraries that will be there with it;
        ``without``: names of those that will not."""
        name, code = parse_metadata(source)
        functions = tuple(self._interpreter.load_library(name, source, code))
        if not functions:
            raise err("No functions registered")
        self._refuse_double(functions, beside, without)
        return Library(name, source, functions)

    def _refuse_double(
        self, functions: tuple[Function, ...], beside: Iterable[Library], without: frozenset[bytes]
    ) -> None:
        others = {each.key for library in beside for each in library.functions}
        scripts = self._interpreter.scripts
        for function in functions:
            other = scripts.get(function.key)
            if function.key in others or (other is not None and other.library not in without):  # type: ignore[attr-defined]
                raise err(f"Function {function.sha} already exists")

    def _take(self, library: Library) -> None:
        """Have the store own it, in the place of what has its name."""
        if library.name in self._ctx.libraries:
            self._remove(library.name)
        self._ctx.libraries[library.name] = library.source
        self._add(library)

    def _add(self, library: Library) -> None:
        self._loaded[library.name] = library
        self._broken.pop(library.name, None)
        for function in library.functions:
            self._interpreter.scripts[function.key] = function

    def _remove(self, name: bytes) -> None:
        del self._ctx.libraries[name]
        self._broken.pop(name, None)
        library = self._loaded.get(name)
        if library is not None:
            self._drop(library)

    def _drop(self, library: Library) -> None:
        del self._loaded[library.name]
        for function in library.functions:
            if self._interpreter.scripts.get(function.key) is function:
                del self._interpreter.scripts[function.key]

    def check(self) -> None:
        """Assert what holds between the sources and the functions, once they have caught up."""
        sources, scripts = self._ctx.libraries, self._interpreter.scripts
        # Each library that was loaded has the store's own source, and each of the store is loaded or broken.
        assert all(sources.get(name) is library.source for name, library in self._loaded.items())
        assert sources.keys() == self._loaded.keys() | (self._broken.keys() & sources.keys())
        # The functions that can be called are those of the libraries, each of one.
        functions = [each for library in self._loaded.values() for each in library.functions]
        assert {each.key: each for each in functions} == scripts and len(functions) == len(scripts)


def sources_in(payload: bytes) -> list[bytes]:
    """The sources in a payload of FUNCTION DUMP. Raises ResponseError."""
    if not is_payload(payload):
        raise err("DUMP payload version or checksum are wrong")
    reader = Reader(payload, 0, len(payload) - _FOOTER_BYTES)
    found = []
    while reader.left():
        kind = reader.byte()
        if kind == _BEFORE_RELEASE:
            raise err("Pre-GA function format not supported")
        if kind != _FUNCTION:
            raise err("given type is not a function")
        try:
            found.append(reader.string())
        except FormatError:
            raise err("Failed loading library data") from None
    return found
