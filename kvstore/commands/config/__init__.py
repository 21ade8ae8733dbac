"""The configuration of a server: one value for each directive, read, changed and written back.

``config["maxmemory"]`` is the value as Python has it (see ``values``), always under the canonical name. On
hot paths keep what you need and register ``on_change``.

Invariants: ``values`` has exactly the names of ``DIRECTIVES``, each value as its kind makes it; a change
through ``set`` happens whole or not at all.

Must not know: sockets, sessions, the registry of commands.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kvstore.commands.config.directives import DIRECTIVES, NAMES, Directive
from kvstore.commands.config.file import CommandLine, ConfigError, Line, Loader, assign, parse_args
from kvstore.commands.config.rewrite import replace_file, rewritten
from kvstore.commands.config.values import BufferLimit, BufferLimits, Refused, to_bytes, to_text
from kvstore.errors import SYNTAX, ResponseError, err
from kvstore.glob import compile_glob

__all__ = [
    "BufferLimit",
    "BufferLimits",
    "CommandLine",
    "Config",
    "ConfigError",
    "Line",
    "parse_args",
    "to_bytes",
]

# Called after a change; a text refuses it, and the reply carries the text.
OnChange = Callable[[], str | None]

_LOADING: Final = "LOADING Redis is loading the dataset in memory"
_GLOB_CHARS: Final = frozenset(b"*?[")
_DEFAULTS: Final[dict[str, Any]] = {name: directive.default for name, directive in DIRECTIVES.items()}


class Config:
    """All directives, at first with their defaults."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = _DEFAULTS.copy()
        self.values["dir"] = _working_directory()
        self.file: str | None = None  # the file that was read and that ``rewrite`` writes
        self.users: list[Line] = []  # lines for access control
        self.renames: list[Line] = []  # rename-command lines
        self._on_change: dict[str, list[OnChange]] = {}

    def __getitem__(self, name: str) -> Any:
        """The value of a directive by its canonical name. O(1). KeyError for others."""
        return self.values[name]

    @property
    def compat(self) -> tuple[int, int]:
        """The version whose behaviour is kept: (7, 4)."""
        major, minor = self.values["compat-version"].split(".")[:2]
        return int(major), int(minor)

    # ------------------------------------------------------------------------------ reading

    def load(self, line: CommandLine, stdin: Callable[[], bytes] = lambda: b"") -> None:
        """Reads the file, standard input and options of a command line; the last value wins.

        Raises ConfigError; the configuration is then not to be used.
        """
        more = stdin() if line.stdin else b""
        if line.options:
            more += b"\n" + line.options
        loader = Loader(self)
        if line.file is not None:
            self.file = line.file
            loader.load_file(line.file, more)
        else:
            loader.load_text(more)
        if line.unix_only and "port" not in loader.given:
            self.values["port"] = 0

    def load_text(self, text: bytes) -> None:
        """Reads lines in the format of redis.conf. Raises ConfigError."""
        Loader(self).load_text(text)

    def assign(self, name: str, value: object) -> None:
        """Gives one directive its value before a server starts, also one that CONFIG SET may not change.

        ``value`` is what a file would say, or a Python value (bool, int, path), or a list of words; the name
        may have underscores. Raises ConfigError.
        """
        assign(self, name, value)

    # ------------------------------------------------------------------------------ CONFIG GET

    def _known(self, name: str) -> Directive | None:
        directive = NAMES.get(name)
        return directive if directive is not None and directive.since <= self.compat else None

    def get(self, patterns: Iterable[bytes]) -> dict[bytes, bytes]:
        """What CONFIG GET answers: name and value of all directives that one of the globs matches.

        A plain name is answered as it was spelled, hidden directives too. O(patterns * directives).
        """
        found: dict[bytes, bytes] = {}
        seen: set[str] = set()
        compat = self.compat
        for pattern in patterns:
            if _GLOB_CHARS.isdisjoint(pattern):
                name = to_text(pattern).lower()
                directive = self._known(name)
                if directive is not None and name not in seen:
                    seen.add(name)
                    found[pattern] = directive.kind.show(self.values[directive.name])
                continue
            match = compile_glob(pattern, nocase=True)
            for name, directive in NAMES.items():
                if directive.hidden or directive.since > compat or name in seen:
                    continue
                if match(name.encode()):
                    seen.add(name)
                    found[name.encode()] = directive.kind.show(self.values[directive.name])
        return found

    def is_sensitive(self, name: bytes) -> bool:
        """Whether the value after this word of a CONFIG SET is to be kept out of logs."""
        directive = NAMES.get(to_text(name).lower())
        return directive is not None and directive.sensitive

    # ------------------------------------------------------------------------------ CONFIG SET

    def on_change(self, name: str, fn: OnChange) -> None:
        """Calls ``fn`` after ``set`` changed the directive: once, though it is registered for several.

        It reads the new values here. If it returns a text, the change is refused with that text: the old
        values are put back, and all that were called are called again.
        """
        if name not in DIRECTIVES:
            raise KeyError(name)
        self._on_change.setdefault(name, []).append(fn)

    def set(self, words: Sequence[bytes], *, local: bool = False, loading: bool = False) -> None:
        """CONFIG SET of several directives at once: name, value, name, value. All or nothing.

        ``local``: the client is on this machine, as enable-protected-configs asks. ``loading``: a file is
        being loaded. Raises ResponseError with the server's texts. O(words).
        """
        if len(words) % 2:
            raise ResponseError(SYNTAX)
        chosen = self._choose(words, local, loading)
        before = dict(self.values)
        changed: list[tuple[str, Directive]] = []
        for (name, directive), value in zip(chosen.items(), words[1::2], strict=True):
            old = self.values[directive.name]
            try:
                new = directive.kind.parse(_split(directive, value), old)
            except Refused as refusal:
                self.values.update(before)
                raise _failed(name, str(refusal)) from None
            self.values[directive.name] = new
            if new != old or directive.volatile:
                changed.append((name, directive))
        self._apply(changed, before)

    def _choose(self, words: Sequence[bytes], local: bool, loading: bool) -> dict[str, Directive]:
        """The directives to set, by the names given. The first obstacle from the left is the error."""
        chosen: dict[str, Directive] = {}
        allowed = self.values["enable-protected-configs"]
        for raw in words[::2]:
            name = to_text(raw).lower()
            directive = self._known(name)
            if directive is None:
                raise err(f"Unknown option or number of arguments for CONFIG SET - '{_shown(raw)}'")
            if directive.immutable:
                raise _failed(_shown(raw), "can't set immutable config")
            if directive.protected and allowed != "yes" and not (allowed == "local" and local):
                raise _failed(_shown(raw), "can't set protected config")
            if loading and directive.deny_loading:
                raise ResponseError(_LOADING)
            if name in chosen:
                raise _failed(_shown(raw), "duplicate parameter")
            chosen[name] = directive
        return chosen

    def _apply(self, changed: list[tuple[str, Directive]], before: dict[str, Any]) -> None:
        called: list[OnChange] = []
        for name, directive in changed:
            for fn in self._on_change.get(directive.name, ()):
                if fn in called:
                    continue
                called.append(fn)
                refusal = fn()
                if refusal is not None:
                    self.values.update(before)
                    for again in called:
                        again()
                    raise _failed(name, refusal)

    # ------------------------------------------------------------------------------ CONFIG REWRITE

    def rewrite(self, users: Sequence[bytes] | None = None) -> None:
        """Brings the configuration file up to date.

        ``users``: a line for each user of access control, from the name on; None leaves the file's.
        Raises ResponseError: without a file, or when it cannot be read or written.
        """
        if self.file is None:
            raise err("The server is running without a config file")
        try:
            try:
                with open(self.file, "rb") as file:
                    old = file.read()
            except FileNotFoundError:
                old = b""
            replace_file(self.file, rewritten(old, self.values, users))
        except OSError as error:
            raise err(f"Rewriting config file: {os.strerror(error.errno or 0)}") from None


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted, which is no reason not to keep data in memory
        return os.sep


def _split(directive: Directive, value: bytes) -> list[bytes]:
    if not directive.kind.multi:
        return [value]
    return value.split(b" ") if value else []


def _shown(raw: bytes) -> str:
    return to_text(raw.partition(b"\0")[0])


def _failed(name: str, reason: str) -> ResponseError:
    return err(f"CONFIG SET failed (possibly related to argument '{name}') - {reason}")
