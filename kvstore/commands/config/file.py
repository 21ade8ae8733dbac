"""Reading a configuration: redis.conf files with what they include, standard input, the command line.

Options of the command line become lines of a file, read after the file and standard input, so the last
word wins. Every complaint is a ConfigError whose text is what the server prints before it gives up.

Costs: O(length of the text). Must not know: the sessions, the registry of commands. Lines about those
(``user``, ``rename-command``) are kept for whoever does.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvstore.commands.config.directives import DEPRECATED, NAMES, Directive
from kvstore.commands.config.values import WRONG_COUNT, Refused, to_bytes, to_text
from kvstore.errors import StoreError
from kvstore.resp import quote_word, split_words

if TYPE_CHECKING:
    from kvstore.commands.config import Config

_BLANK: Final = b" \t\r\n"
_BAD_DIRECTIVE: Final = "Bad directive or wrong number of arguments"
_NO_MODULES: Final = "kvstore has no modules: take the loadmodule lines and the modules' settings out"
_NO_SENTINEL: Final = "kvstore has no sentinel mode"
# A NUL byte ends what the server reads of a line, its end included.
_NUL: Final = re.compile(rb"\0[^\n]*\n?")
_DEEPEST_INCLUDE: Final = 64


class ConfigError(StoreError):
    """A configuration that cannot be used; ``str()`` is what to print before giving up."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank and not a comment. ``words`` is None where quotes do not match."""

    number: int
    text: bytes
    words: list[bytes] | None

    def refuse(self, reason: str, version: str) -> ConfigError:
        """The error that stops the start because of this line."""
        return ConfigError(
            f"*** FATAL CONFIG FILE ERROR (Redis {version}) ***\n"
            f"Reading the configuration file, at line {self.number}\n"
            f">>> '{to_text(self.text)}'\n{reason}"
        )


def read_lines(text: bytes) -> Iterator[Line]:
    """The lines of a file that say something, numbered from 1."""
    for number, raw in enumerate(_NUL.sub(b"", text).split(b"\n"), 1):
        stripped = raw.strip(_BLANK)
        if not stripped or stripped.startswith(b"#"):
            continue
        words = split_words(stripped)
        if words is None or words:
            yield Line(number, stripped, words)


class Loader:
    """Puts the lines of files into a Config. One for each start: it remembers what was given."""

    def __init__(self, config: Config):
        self.config = config
        self.given: set[str] = set()
        self.depth = 0

    def load_file(self, path: str, more: bytes = b"") -> None:
        """Reads the file, then ``more`` as if it stood at its end."""
        try:
            with open(path, "rb") as file:
                text = file.read()
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            raise ConfigError(f"Fatal error, can't open config file '{path}': {reason}") from None
        if text and more and not text.endswith(b"\n"):
            text += b"\n"
        self.load_text(text + more)

    def load_text(self, text: bytes) -> None:
        for line in read_lines(text):
            if line.words is None:
                raise self._refuse(line, "Unbalanced quotes in configuration line")
            name = to_text(line.words[0]).lower()
            directive = NAMES.get(name)
            try:
                if directive is not None:
                    self.assign(directive, line.words[1:])
                else:
                    self._special(line, name, line.words)
            except Refused as refusal:
                raise self._refuse(line, str(refusal)) from None

    def assign(self, directive: Directive, words: list[bytes]) -> None:
        """Gives a directive the value of the words; it may be one that CONFIG SET may not change."""
        kind = directive.kind
        if kind.multi:
            if len(words) == 1 and words[0]:
                words = split_words(words[0]) or []
        elif len(words) != 1:
            raise Refused(WRONG_COUNT)
        values = self.config.values
        value = kind.parse(words, values[directive.name])
        if directive.accumulates and directive.name in self.given and words != [b""]:
            value = values[directive.name] + value
        values[directive.name] = value
        self.given.add(directive.name)

    def _special(self, line: Line, name: str, words: list[bytes]) -> None:
        """A line that is not about a directive."""
        count = len(words)
        if name in DEPRECATED and count == 2:
            return
        if name == "include" and count == 2:
            self._include(to_text(words[1]))
        elif name == "user" and count > 1:
            self.config.users.append(line)
        elif name == "rename-command" and count == 3:
            self.config.renames.append(line)
        elif (name == "loadmodule" and count > 1) or "." in name:
            raise Refused(_NO_MODULES)
        elif name == "sentinel":
            raise Refused("sentinel directive while not in sentinel mode" if count > 1 else _NO_SENTINEL)
        else:
            raise Refused(_BAD_DIRECTIVE)

    def _include(self, pattern: str) -> None:
        """Reads other files here. A pattern may match none; a plain name must be there."""
        path = os.path.join(self.config["dir"], pattern)
        found = sorted(glob.glob(path)) if re.search(r"[*?\[]", pattern) else [path]
        if self.depth == _DEEPEST_INCLUDE:
            raise Refused("too many files include each other")
        self.depth += 1
        for name in found:
            self.load_file(name)
        self.depth -= 1

    def _refuse(self, line: Line, reason: str) -> ConfigError:
        return line.refuse(reason, self.config["compat-version"])


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the arguments of ``kvstore serve`` say."""

    file: str | None = None  # absolute path
    stdin: bool = False  # read more configuration from standard input
    options: bytes = b""  # lines made of the options
    unix_only: bool = False  # ``--unix`` was given: unless a port is set too, listen on no port


def parse_args(args: Sequence[str]) -> CommandLine:
    """The command line, by the server's rules. O(length). Never fails: mistakes show when it is loaded.

    The first argument may be a file. ``--name`` starts a directive whose words are the arguments up to the
    next ``--name``; the first word after a name is always its value, whatever it looks like. ``-`` as
    the first or last argument stands for standard input. ``--unix PATH`` is short for ``--unixsocket``.
    """
    words = [os.fsencode(arg) for arg in args]
    file = None
    if words and not words[0].startswith(b"-"):
        file = os.path.abspath(args[0])
        words[0] = b""
    stdin = unix = False
    options: list[bytes] = []
    has_value = True  # the directive before has its first word
    for at in range(0 if file is None else 1, len(words)):
        word, last = words[at], at == len(words) - 1
        if word == b"-" and (at == 0 or last):
            stdin = True
        elif has_value and word.startswith(b"--"):
            inside = split_words(word) or []
            has_value = len(inside) != 1  # "--port 6380" in one argument
            if inside[:1] == [b"--unix"]:
                unix = True
                word = b"--unixsocket" + word[len("--unix") :]
            option = word[2:] + b" "
            if not has_value and (last or words[at + 1].startswith(b"--")):
                # Written by programs from lists that may be empty.
                if word.lower() == b"--save":
                    option += b'""'
                    has_value = True
                elif word.lower() == b"--sentinel":
                    has_value = True
            options.append(b"\n" + option if options else option)
        else:
            options.append(quote_word(word) + b" ")
            has_value = True
    return CommandLine(file, stdin, b"".join(options), unix)


def assign(config: Config, name: str, value: object) -> None:
    """Gives a directive a value from Python, as a line of a file would: see ``Config.assign``."""
    directive = NAMES.get(name.replace("_", "-").lower()) or NAMES.get(name.lower())
    if directive is None:
        raise ConfigError(f"unknown directive '{name}'")
    if isinstance(value, (list, tuple)):
        words = [_word(item) for item in value]
    else:
        words = [_word(value)]
    try:
        Loader(config).assign(directive, words)
    except Refused as refusal:
        raise ConfigError(f"{directive.name}: {refusal}") from None


def _word(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"yes" if value else b"no"
    return to_bytes(os.fspath(value) if isinstance(value, os.PathLike) else str(value))
