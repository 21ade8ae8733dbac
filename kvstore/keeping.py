"""Files for a server: what its configuration says of them, and when its loop does what.

In a turn: commands run, the log is written (and synced under ``always``), replies leave, then a slice of a
snapshot. Ten times a second: syncs, save points, rewrites that are due.

Must not know: sockets, how files are laid out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvstore.commands.config import Config
from kvstore.commands.lua import available as has_lua
from kvstore.commands.tables import LOADING
from kvstore.engine.types import Target
from kvstore.errors import PersistenceError, StoreError
from kvstore.net.server import Server
from kvstore.persist.files import Files
from kvstore.persist.node_file import NodeFile
from kvstore.persist.settings import Settings
from kvstore.persist.worker import ThreadWorker

_TICK_MS: Final = 100
_TARGETS: Final = {target.value: target for target in Target}
# Directives that are a field of the settings, by their name.
_FIELDS: Final = (
    *("dir", "dbfilename", "rdbcompression", "rdbchecksum", "stop-writes-on-bgsave-error"),
    *("appendfilename", "appenddirname", "appendfsync", "no-appendfsync-on-rewrite"),
    *("auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size", "aof-load-truncated"),
    *("aof-use-rdb-preamble", "aof-timestamp-enabled"),
)


def keep(server: Server) -> Keeper:
    """Gives a server files, as its configuration has them; they have yet to be loaded."""
    return Keeper(server)


def _take(settings: Settings, config: Config) -> None:
    """Bring the settings up to date."""
    for name in _FIELDS:
        setattr(settings, name.replace("-", "_"), config[name])
    settings.rdb_target = _TARGETS[config["rdb-target"]]
    settings.save = tuple((seconds, changes) for seconds, changes in config["save"])
    settings.version = config["compat-version"]


class Keeper:
    """Drives the files of one server from its loop. It is what the server closes at its end."""

    def __init__(self, server: Server, keeps_node: bool = True):
        """``keeps_node``: who the server is as a node of a cluster is kept too. Raises PersistenceError."""
        self._server = server
        self._config = server.config
        self._node_file = self._keep_node() if keeps_node else None
        self.settings = Settings()
        _take(self.settings, server.config)
        self.settings.appendonly = server.config["appendonly"]
        loop, hub = server.loop, server.hub
        self.files = Files(
            server.ctx,
            self.settings,
            worker=ThreadWorker(wake=self._worker_ended),
            on_refusal=hub.set_refusal,
        )
        hub.persistence = self.files
        server.files = self
        loop.after_turn.append(self._turn)
        loop.is_busy = self._is_busy
        self._closed = False
        self._synced = 0
        for name in (*_FIELDS, "rdb-target", "save"):
            self._config.on_change(name, self._changed)
        self._config.on_change("appendonly", self._switch_log)

    def _keep_node(self) -> NodeFile | None:
        node = self._server.hub.node
        if node is None:
            return None
        file = NodeFile(self._server.path(self._config["cluster-config-file"]), node)
        node.keep = file.write
        return file

    # -- loading -------------------------------------------------------------------------------------

    def load(self) -> Iterator[int]:
        """Fill the store from the files; yields bytes read. Raises PersistenceError, FormatError.

        Clients that are served meanwhile are told so.
        """
        hub = self._server.hub
        hub.set_loading(True)
        yield from self.files.load()
        if has_lua():
            hub.scripting.libraries.catch_up(strict=True)
        if hub.node is not None and any(db._data for index, db in hub.ctx.databases.items() if index):
            raise PersistenceError("a node of a cluster can only have keys in database 0")
        hub.set_loading(False)
        self._follow_log()
        self._tick()

    @property
    def total_bytes(self) -> int:
        """How many bytes ``load`` has to read, about."""
        return self.files.figures.load.total_bytes

    # -- configuration -------------------------------------------------------------------------------

    def _changed(self) -> str | None:
        _take(self.settings, self._config)
        if not self._closed and LOADING not in self._server.hub.features:
            self.files.tick()
        return None

    def _switch_log(self) -> str | None:
        refusal = self.files.set_appendonly(self._config["appendonly"])
        self.settings.appendonly = self._config["appendonly"]
        self._follow_log()
        return refusal

    def _follow_log(self) -> None:
        """Have the log written before replies leave exactly while there is one: without, they need not wait."""
        hooks = self._server.loop.before_send
        if self.files.log is None:
            hooks[:] = [hook for hook in hooks if hook != self._flush]
        elif self._flush not in hooks:
            hooks.append(self._flush)
        self._server.hub.synced()

    # -- in the loop ---------------------------------------------------------------------------------

    def _flush(self) -> bool:
        name = b"aof-fsync-always" if self.settings.appendfsync == "always" else b"aof-write"
        return self._server.hub.latency.measure(name, self.files.flush)

    def _is_busy(self) -> bool:
        return self.files.jobs.busy

    def _turn(self) -> None:
        files = self.files
        if files.jobs.walks:
            files.jobs.turn()
        if files.synced != self._synced:
            self._synced = files.synced
            self._server.hub.synced()

    def _worker_ended(self) -> None:
        """Called in the worker's thread."""
        self._server.loop.call_soon_threadsafe(self._poll)

    def _poll(self) -> None:
        if not self._closed:
            self.files.worker.poll()

    def _tick(self) -> None:
        if self._closed:
            return
        self.files.tick()
        hub = self._server.hub
        hub.call_at(hub.ctx.now() + _TICK_MS, self._tick)

    # -- the end -------------------------------------------------------------------------------------

    @property
    def keeps_snapshots(self) -> bool:
        """Whether a snapshot is written at the end."""
        return bool(self.settings.save)

    def abandon(self) -> None:
        """Never write what is not yet written: it is part of a unit that stays unfinished."""
        self.files.abandon()

    def close(self, save: bool | None = False, force: bool = False) -> StoreError | None:
        """Bring everything to the disk and let go of the files. Where that fails raises StoreError, and all goes
        on; with ``force`` it ends, and the error is returned."""
        if self._closed:
            return None
        failure = self.files.close(save, force)
        self._closed = True
        if self._node_file is not None:
            self._node_file.close()
        self._server.loop.is_busy = _never
        self._server.loop.after_turn.clear()
        self._server.loop.before_send[:] = []
        return failure


def _never() -> bool:
    return False
