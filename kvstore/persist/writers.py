"""Makes the writers of a store's files, as its settings have them.

A writer takes the entries of a snapshot and gives bytes to ``out``, between ``begin()`` and ``end()``.

Must not know: where the bytes go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvstore.engine.context import Context
from kvstore.engine.snapshot import Entries
from kvstore.persist.aof_base import AofBaseWriter
from kvstore.persist.rdb import RdbWriter
from kvstore.persist.settings import Settings


class Writer(Entries, Protocol):
    def begin(self) -> None: ...

    def end(self) -> None: ...


MakeWriter = Callable[[Callable[[bytes], None]], Writer]


def snapshot_writer(ctx: Context, settings: Settings, of_log: bool = False) -> MakeWriter:
    """Makes a writer of RDB files; ``of_log``: the file is the base of a log."""
    aux = {
        b"redis-ver": settings.version.encode(),
        b"redis-bits": b"64",
        b"ctime": b"%d" % (ctx.now() // 1000),
        b"used-mem": b"%d" % ctx.evictor.used_memory(),
        b"aof-base": b"%d" % of_log,
    }
    sizes = {index: (len(db._data), len(db._expires)) for index, db in ctx.databases.items()}
    return lambda out: RdbWriter(
        out,
        target=settings.rdb_target,
        compress=settings.rdbcompression,
        checksum=settings.rdbchecksum,
        aux=aux,
        libraries=ctx.libraries,
        sizes=sizes,
    )


def base_writer(ctx: Context, settings: Settings) -> MakeWriter:
    """Makes a writer of the base of a log, as RDB or as commands."""
    if settings.aof_use_rdb_preamble:
        return snapshot_writer(ctx, settings, of_log=True)
    return lambda out: AofBaseWriter(out, libraries=ctx.libraries)
