"""The command line: ``kvstore serve``."""

from __future__ import annotations

import argparse
import signal

from kvstore.net.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(prog="kvstore")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--unix")
    serve.add_argument("--port", type=int)
    options = parser.parse_args()
    server = Server()
    if options.unix:
        server.listen_unix(options.unix)
    if options.port is not None:
        server.listen_tcp("127.0.0.1", options.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.loop.stop())
    print("Ready to accept connections", flush=True)
    server.run()
