"""FUNCTION, FCALL and FCALL_RO: functions that the store keeps, of libraries in Lua.

What is logged of a library are LOAD, DELETE and FLUSH, also of a payload that was restored: a log is read by
servers that may be older than the one that made the payload. Of a function it is what its commands have done.

Must not know: Lua, how libraries are kept.
"""

from __future__ import annotations

from typing import Any, Final

from kvstore.commands.help import add_help
from kvstore.commands.kinds import BULK, OK, TREE
from kvstore.commands.libraries import APPEND, ENGINE, FLUSH, POLICIES, Library
from kvstore.commands.registry import Argv, Family
from kvstore.commands.scripting import FLAGS, KEYS, KEYS_READ
from kvstore.commands.session import Session
from kvstore.engine.context import Effect
from kvstore.errors import err
from kvstore.glob import compile_glob
from kvstore.numbers import parse_int
from kvstore.resp import RespSet, Status

family = Family("scripting")
_ON_ALL: Final = ("request_policy:all_shards", "response_policy:all_succeeded")


# -- calling -------------------------------------------------------------------------------------------


def _call(session: Session, argv: Argv, read_only: bool) -> Any:
    scripting = session.hub.scripting
    function = scripting.libraries.function(argv[1])
    if function is None:
        raise err("Function not found")
    count = parse_int(argv[2])
    if count is None:
        raise err("Bad number of keys provided")
    if count > len(argv) - 3:
        raise err("Number of keys can't be greater than number of args")
    if count < 0:
        raise err("Number of keys can't be negative")
    return scripting.run(session, scripting.functions, function.key, argv, count, read_only)


@family.command("FCALL", -3, f"{FLAGS} may_replicate", KEYS, kind=TREE, since="7.0.0")
def fcall(session: Session, argv: Argv) -> Any:
    """Call a function. Depends on the function."""
    return _call(session, argv, False)


@family.command("FCALL_RO", -3, f"{FLAGS} readonly", KEYS_READ, kind=TREE, since="7.0.0")
def fcall_ro(session: Session, argv: Argv) -> Any:
    """Call a function that only reads. Depends on the function."""
    return _call(session, argv, True)


def _shown(word: bytes) -> str:
    """As it stands in an error: a C string ends at its NUL."""
    return word.partition(b"\0")[0].decode("utf-8", "surrogateescape")


# -- libraries -----------------------------------------------------------------------------------------

container = family.container("FUNCTION", since="7.0.0")


def _changed(session: Session, *effects: Effect) -> None:
    db = session.db
    db.dirty += 1
    if db.live:
        for effect in effects:
            db.commit(effect)


@family.command("FUNCTION LOAD", -3, "write denyoom noscript", kind=BULK, since="7.0.0", tips=_ON_ALL)
def function_load(session: Session, argv: Argv) -> bytes:
    """Add a library of functions; its name. O(1), and what its code does."""
    for word in argv[2:-1]:
        if word.upper() != b"REPLACE":
            raise err(f"Unknown option given: {_shown(word)}")
    source = argv[-1]
    name, replaced = session.hub.scripting.libraries.load(source, replace=len(argv) > 3)
    _changed(session, (b"FUNCTION", b"LOAD", *((b"REPLACE",) if replaced else ()), source))
    return name


@family.command("FUNCTION DELETE", 3, "write noscript", kind=OK, since="7.0.0", tips=_ON_ALL)
def function_delete(session: Session, argv: Argv) -> bool:
    """Remove a library and its functions. O(n) functions."""
    session.hub.scripting.libraries.delete(argv[2])
    _changed(session, (b"FUNCTION", b"DELETE", argv[2]))
    return True


@family.command("FUNCTION FLUSH", -2, "write noscript", kind=OK, since="7.0.0", tips=_ON_ALL)
def function_flush(session: Session, argv: Argv) -> bool:
    """Remove all libraries. O(n) functions."""
    if len(argv) > 3:
        raise _wrong_count(argv)
    if len(argv) == 3 and argv[2].upper() not in (b"SYNC", b"ASYNC"):
        raise err("FUNCTION FLUSH only supports SYNC|ASYNC option")
    session.hub.scripting.libraries.flush()
    _changed(session, (b"FUNCTION", b"FLUSH"))
    return True


def _wrong_count(argv: Argv) -> Exception:
    return err(
        f"unknown subcommand or wrong number of arguments for '{_shown(argv[1][:128])}'. Try FUNCTION HELP."
    )


@family.command("FUNCTION DUMP", 2, "noscript", kind=BULK, since="7.0.0")
def function_dump(session: Session, argv: Argv) -> bytes:
    """All libraries as one payload, for FUNCTION RESTORE. O(n) bytes of libraries."""
    return session.hub.scripting.libraries.dump()


@family.command("FUNCTION RESTORE", -3, "write denyoom noscript", kind=OK, since="7.0.0", tips=_ON_ALL)
def function_restore(session: Session, argv: Argv) -> bool:
    """Add the libraries of a payload that FUNCTION DUMP gave. O(n) bytes of libraries, and what their code does."""
    if len(argv) > 4:
        raise _wrong_count(argv)
    policy = argv[3].upper() if len(argv) == 4 else APPEND
    if policy not in POLICIES:
        raise err("Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    gone, sources = session.hub.scripting.libraries.restore(argv[2], policy)
    first: list[Effect] = (
        [(b"FUNCTION", b"FLUSH")] if policy == FLUSH else [(b"FUNCTION", b"DELETE", name) for name in gone]
    )
    with session.hub.ctx.unit():
        _changed(session, *first, *[(b"FUNCTION", b"LOAD", source) for source in sources])
    return True


@family.command(
    "FUNCTION LIST", -2, "noscript", kind=TREE, since="7.0.0", tips=("nondeterministic_output_order",)
)
def function_list(session: Session, argv: Argv) -> list[dict[bytes, Any]]:
    """The libraries and their functions. O(n) functions."""
    pattern: bytes | None = None
    with_code = False
    words = iter(argv[2:])
    for word in words:
        option = word.upper()
        if option == b"WITHCODE" and not with_code:
            with_code = True
        elif option == b"LIBRARYNAME" and pattern is None:
            pattern = next(words, None)
            if pattern is None:
                raise err("library name argument was not given")
        else:
            raise err(f"Unknown argument {_shown(word)}")
    found = session.hub.scripting.libraries.all()
    if pattern is not None:
        matches = compile_glob(pattern, nocase=True)
        found = [library for library in found if matches(library.name)]
    return [_described(library, with_code) for library in found]


def _described(library: Library, with_code: bool) -> dict[bytes, Any]:
    described: dict[bytes, Any] = {
        b"library_name": library.name,
        b"engine": ENGINE,
        b"functions": [
            {
                b"name": function.sha.encode(),
                b"description": function.description,
                b"flags": RespSet(Status(flag.encode()) for flag in function.listed_flags),
            }
            for function in library.functions
        ],
    }
    if with_code:
        described[b"library_code"] = library.source
    return described


# -- a function that runs ------------------------------------------------------------------------------


@family.command(
    "FUNCTION STATS",
    2,
    "noscript allow_busy",
    kind=TREE,
    since="7.0.0",
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
)
def function_stats(session: Session, argv: Argv) -> dict[bytes, Any]:
    """The function that runs now, and how many there are. O(1)."""
    scripting = session.hub.scripting
    running = scripting.running_function()
    libraries, functions = scripting.libraries.counts()
    return {
        b"running_script": running
        and {b"name": running[0], b"command": running[1], b"duration_ms": running[2]},
        b"engines": {ENGINE: {b"libraries_count": libraries, b"functions_count": functions}},
    }


@family.command(
    "FUNCTION KILL",
    2,
    "noscript allow_busy",
    kind=OK,
    since="7.0.0",
    tips=("request_policy:all_shards", "response_policy:one_succeeded"),
)
def function_kill(session: Session, argv: Argv) -> bool:
    """End the function that is running, if it has not written. O(1)."""
    session.hub.scripting.kill(function=True)
    return True


add_help(
    family,
    container,
    {
        "DELETE": "<library>",
        "FLUSH": "[ASYNC|SYNC]",
        "LIST": "[LIBRARYNAME <pattern>] [WITHCODE]",
        "LOAD": "[REPLACE] <code>",
        "RESTORE": "<payload> [FLUSH|APPEND|REPLACE]",
    },
    since="7.0.0",
)
