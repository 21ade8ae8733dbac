"""The server's log: lines with process id, time and a mark for the level, to a file, standard output or syslog.

    4711:M 23 Nov 2026 04:16:23.123 * Ready to accept connections unix

The marks are those that readers of Redis's logs know: ``.`` debug, ``-`` verbose, ``*`` notice, ``#`` warning.

Must not know: what is logged.
"""

from __future__ import annotations

import logging
import os
import sys
import syslog
import time
from typing import Final

LOGGER: Final = logging.getLogger("kvstore")
VERBOSE: Final = 15  # between DEBUG and INFO, which is "notice"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "verbose": VERBOSE,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL + 1,
}


def verbose(text: str, *args: object) -> None:
    """Log what only somebody who asked for much wants to read."""
    LOGGER.log(VERBOSE, text, *args)


def _mark(level: int) -> str:
    if level >= logging.WARNING:
        return "#"
    if level >= logging.INFO:
        return "*"
    return "-" if level >= VERBOSE else "."


class LineFormatter(logging.Formatter):
    """One line a record; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%d %b %Y %H:%M:%S", time.localtime(record.created))
        line = f"{os.getpid()}:M {when}.{int(record.msecs):03d} {_mark(record.levelno)} {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _StreamHandler(logging.Handler):
    """To standard output, at once, so that whoever waits for a line sees it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError, RuntimeError):
            pass  # nobody reads any more, or a signal came in the middle of a line: no reason to stop


class _FileHandler(logging.Handler):
    """To a file that is opened for each line, so that it may be moved away at any time."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self._append(b"")  # a file that cannot be written is an error now, not later

    def _append(self, data: bytes) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if data:
                os.write(fd, data)
        finally:
            os.close(fd)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._append((self.format(record) + "\n").encode("utf-8", "replace"))
        except OSError:
            pass


class _SyslogHandler(logging.Handler):
    """To the system's log, which adds the time itself."""

    def __init__(self, ident: str, facility: str):
        super().__init__()
        number = getattr(syslog, f"LOG_{facility.upper()}")
        syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY | syslog.LOG_NOWAIT, number)

    def emit(self, record: logging.LogRecord) -> None:
        priorities = {"#": syslog.LOG_WARNING, "*": syslog.LOG_NOTICE, "-": syslog.LOG_INFO}
        syslog.syslog(priorities.get(_mark(record.levelno), syslog.LOG_DEBUG), record.getMessage())


def start_logging(
    path: str = "", level: str = "notice", *, syslog_ident: str | None = None, syslog_facility: str = "local0"
) -> None:
    """Send the program's log to a file (or, without a path, to standard output), and to syslog if asked.

    Raises OSError where the file cannot be written.
    """
    handlers: list[logging.Handler] = [_FileHandler(path) if path else _StreamHandler()]
    if syslog_ident is not None:
        handlers.append(_SyslogHandler(syslog_ident, syslog_facility))
    for handler in LOGGER.handlers[:]:
        LOGGER.removeHandler(handler)
    for handler in handlers:
        handler.setFormatter(LineFormatter())
        LOGGER.addHandler(handler)
    LOGGER.propagate = False
    LOGGER.setLevel(LEVELS[level])
