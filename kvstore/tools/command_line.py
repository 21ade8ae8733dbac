"""The command lines of ``kvstore check``, ``kvstore dump`` and ``kvstore load``.

Exit codes: 0 all is well, 1 something is wrong with a file, 2 a wrong command line.

Must not know: what is in files.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kvstore.errors import StoreError

_CHECK = """\
Say what a file or directory holds, whether it is whole, and if not, what is wrong, in which file, at which
offset. PATH: an RDB file, an append-only file, a manifest, the directory of a log, or the directory of a store or
server, in which every such file is checked. Nothing is changed without --fix. The exit code is 1 when something
is wrong."""
_FIX = """\
cut a torn tail off: what was being written to the end of a log when the machine or the process died. The file
is copied to FILE.<time>.bak before. Nothing else is ever changed"""
_DUMP = """\
Print every key of a file as a line of JSON: db, key, type, expires_at_ms (Unix time, only if it expires) and value.
Bytes that are no UTF-8 stand as {"base64": "..."}. An RDB file is read key by key; of a log the state after
all its commands is printed, for which it is loaded into memory."""
_LOAD = """\
Make a file of the lines of JSON that 'kvstore dump' prints: an RDB file, if PATH ends in .rdb, else a new
directory with a log, for 'kvstore serve --dir PATH --appendonly yes', kvstore.open(PATH), Redis and Valkey. What is
there is not overwritten. Lines are read one by one; only the names of keys are kept in memory, to find one that
comes twice."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kvstore")
    tools = parser.add_subparsers(dest="tool", required=True)
    check = tools.add_parser("check", description=_CHECK)
    check.add_argument("path", metavar="PATH")
    check.add_argument("--fix", action="store_true", help=_FIX)
    dump = tools.add_parser("dump", description=_DUMP)
    dump.add_argument("path", metavar="PATH")
    dump.add_argument(
        "out", metavar="FILE", nargs="?", default="-", help="a new file; by default standard output"
    )
    load = tools.add_parser("load", description=_LOAD)
    load.add_argument("lines", metavar="FILE", help="the lines; - for standard input")
    load.add_argument("path", metavar="PATH", help="what to make")
    return parser


def run(args: Sequence[str]) -> int:
    """Run ``check``, ``dump`` or ``load``, the first of ``args``; the exit code."""
    try:
        given = _parser().parse_args(args)
    except SystemExit as end:  # argparse has told why
        return end.code if isinstance(end.code, int) else 2
    try:
        return _run(given)
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except StoreError as error:
        print(f"kvstore {given.tool}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as shells have it for a process that SIGINT ended


def _run(given: argparse.Namespace) -> int:
    # Each brings only what it needs along.
    if given.tool == "check":
        from kvstore.tools.check import check

        return check(given.path, fix=given.fix)
    if given.tool == "dump":
        from kvstore.tools.dump import dump

        return dump(given.path, given.out)
    from kvstore.tools.load import load

    return load(given.lines, given.path)
