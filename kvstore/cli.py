"""The command line: ``kvstore serve``, and the tools for files.

Exit codes: 0 after a clean stop, 1 where the server could not start or work, or a file is not as it should be, 2 for
a wrong command line.

Must not know: commands of clients, sockets.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from kvstore import __version__

if TYPE_CHECKING:
    from kvstore.commands.config import Config
    from kvstore.net.server import Server

# How often clients are answered while the store is being filled.
_SERVE_EACH_S = 0.01
USAGE = """\
usage: kvstore serve [FILE] [--directive VALUE ...] [--unix PATH] [--port N] [-]
       kvstore check PATH [--fix]
       kvstore dump PATH [FILE]
       kvstore load FILE|- PATH
       kvstore --version | --help

'kvstore serve' starts a server that Redis clients talk to.

  FILE                  a configuration file in the format of redis.conf
  --directive VALUE     any directive of it, such as --maxmemory 100mb --requirepass secret
  --unix PATH           listen on a Unix socket; without --port, on no TCP port
  --port N              listen on a TCP port (6379)
  -                     read more configuration from standard input

It logs to standard output (or to --logfile) and stops on SIGTERM and SIGINT.

'kvstore check' says what RDB files and append-only logs hold and whether they are whole, 'kvstore dump' prints them
as lines of JSON, and 'kvstore load' makes such files of these lines; each has a --help of its own.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line (by default the process's) and exit."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """The exit code of a command line."""
    if args and args[0] in ("--version", "-v", "-V", "version"):
        print(f"kvstore {__version__}")
        return 0
    if args and args[0] in ("--help", "-h", "help"):
        sys.stdout.write(USAGE)
        return 0
    if args and args[0] == "serve":
        if args[1:2] in (["--help"], ["-h"]):
            sys.stdout.write(USAGE)
            return 0
        return serve(args[1:])
    if args and args[0] in ("check", "dump", "load"):
        from kvstore.tools import command_line

        return command_line.run(args)
    if args:
        print(f"kvstore: there is no command {args[0]!r}", file=sys.stderr)
    sys.stderr.write(USAGE)
    return 2


def serve(args: Sequence[str]) -> int:
    """``kvstore serve``: load the configuration, go to the background if told to, serve."""
    from kvstore.commands.config import Config, ConfigError, parse_args

    config = Config()
    try:
        config.load(parse_args(args), lambda: sys.stdin.buffer.read())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    from kvstore.net.process import Background, is_supervised

    background = None
    if config["daemonize"] and not is_supervised(config["supervised"]):
        background = Background.enter()
    return _serve(config, background)


def _serve(config: Config, background: object) -> int:
    from kvstore.commands.config import ConfigError
    from kvstore.errors import StoreError
    from kvstore.net import process
    from kvstore.net.listener import ListenError
    from kvstore.net.log import LOGGER, start_logging
    from kvstore.net.server import Server

    logfile = config["logfile"] and os.path.join(config["dir"], config["logfile"])
    ident = config["syslog-ident"] if config["syslog-enabled"] else None
    try:
        start_logging(
            logfile, config["loglevel"], syslog_ident=ident, syslog_facility=config["syslog-facility"]
        )
    except OSError as error:
        print(f"Can't open the log file: {error.strerror}: {logfile}", file=sys.stderr)
        return 1
    LOGGER.info(
        "kvstore version=%s, as Redis %s, just started, PID: %d",
        *(__version__, config["compat-version"], os.getpid()),
    )
    pid_file = config["pidfile"] and os.path.join(config["dir"], config["pidfile"])
    has_pid_file = bool(pid_file) and process.write_pid_file(pid_file)
    try:
        server = Server(config=config)
        _make_room(server)
        mode = "standalone" if server.hub.node is None else "cluster"
        LOGGER.info("Running mode=%s, port=%d.", mode, config["port"])
        server.listen()
    except (ListenError, ConfigError) as error:
        LOGGER.warning("%s", error)
        print(error, file=sys.stderr)
        return 1
    process.handle_signals(server.stop)
    process.calm_collector()
    server.host.collect = process.collect_all
    try:
        with process.filling():
            _load(server)
    except (StoreError, OSError) as error:
        LOGGER.warning("Fatal: %s. It is left as it is, and the server does not start.", error)
        print(error, file=sys.stderr)
        server.close()
        return 1
    _run(server, background)
    if has_pid_file:
        LOGGER.info("Removing the pid file.")
        with contextlib.suppress(OSError):  # somebody else took it away
            os.unlink(pid_file)
    LOGGER.info("kvstore is now ready to exit, bye bye...")
    return 0


def _load(server: Server) -> None:
    """Fill the store from its files, and tell clients meanwhile that it is being done."""
    import time

    from kvstore.keeping import Keeper
    from kvstore.tools.progress import Progress

    keeper = Keeper(server)
    turned = time.monotonic()
    steps = keeper.load()
    first = next(steps, 0)  # from then on it is known how much there is
    with Progress("loading", keeper.total_bytes) as progress:
        for done in chain([first], steps):
            progress.update(done)
            now = time.monotonic()
            if now - turned > _SERVE_EACH_S:
                server.loop.turn(0)
                turned = time.monotonic()
                if server.loop.is_stopping:
                    return


def _make_room(server: Server) -> None:
    from kvstore.net.log import LOGGER
    from kvstore.net.process import room_for

    wanted = server.config["maxclients"]
    room = room_for(wanted)
    if room < wanted:
        server.config.values["maxclients"] = room
        LOGGER.warning(
            "The system allows too few open files for maxclients %d, which is now %d. "
            "Raise it by 'ulimit -n' to allow more.",
            *(wanted, room),
        )


def _run(server: Server, background: object) -> None:
    """Say that the server is ready, and serve until it is stopped."""
    from kvstore.net import process
    from kvstore.net.log import LOGGER

    LOGGER.info("Server initialized")
    for kind in server.listeners:
        LOGGER.info("Ready to accept connections %s", kind)
    LOGGER.info("%s", server.how_to_connect())
    supervised = process.is_supervised(server.config["supervised"])
    if supervised:
        process.notify_supervisor("STATUS=Ready to accept connections", "READY=1")
    if isinstance(background, process.Background):
        background.ready()
    try:
        if server.loop.is_stopping:  # it was told to while it loaded
            server.close()
        else:
            server.run()
    finally:
        if supervised:
            process.notify_supervisor("STOPPING=1")
