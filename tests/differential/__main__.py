"""The long-run mode of the differential tests.

    python -m tests.differential --family lists --seed 7 --commands 2000 --against valkey
    python -m tests.differential --family all --resp both --against both --keep-going
    python -m tests.differential --family sets --replay steps.txt

Prints the seed; a failing sequence is shrunk and printed as redis-cli lines, which ``--replay FILE`` (or
``-`` for standard input) runs again. ``--keep-going`` collects the distinct failures.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests import servers
from tests.differential import grammar as grammars
from tests.differential.runner import Pair, minimal, parse_line, report


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__.split("\n")[0])
    parser.add_argument("--family", default="all", help=f"all or one of {', '.join(grammars.families())}")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, printed")
    parser.add_argument("--commands", type=int, default=2000, help="how many commands for each pairing")
    parser.add_argument("--length", type=int, default=100, help="commands in a sequence")
    parser.add_argument("--against", choices=("valkey", "redis", "both"), default="valkey")
    parser.add_argument("--subject", choices=servers.KINDS, default="kvstore")
    parser.add_argument("--resp", choices=("2", "3", "both"), default="both")
    parser.add_argument("--keep-going", action="store_true", help="collect distinct failures")
    parser.add_argument("--replay", metavar="FILE", help="run the redis-cli lines of FILE instead")
    return parser.parse_args()


def _replay(pair: Pair, source: str) -> int:
    text = sys.stdin.read() if source == "-" else Path(source).read_text()
    lines = [line.strip() for line in text.splitlines()]
    groups = [(parse_line(line),) for line in lines if line and not line.startswith("#")]
    mismatch = pair.run(groups)
    print(report(pair, groups, mismatch) if mismatch else f"RESP{pair.resp}: {len(groups)} steps agree")
    return int(mismatch is not None)


def _explore(pair: Pair, args: argparse.Namespace) -> int:
    """Run sequences until the commands are used up; the number of distinct failures."""
    seen: dict[str, int] = {}
    started = time.monotonic()
    done = 0
    for number in range(-(-args.commands // args.length)):
        groups = pair.sequence(f"{args.seed}:{number}", args.length)
        done += sum(map(len, groups))
        mismatch = pair.run(groups)
        if mismatch is None:
            continue
        seen[mismatch.signature] = seen.get(mismatch.signature, 0) + 1
        if seen[mismatch.signature] == 1:
            shrunk, found = minimal(pair, groups, mismatch)
            print(f"--- seed {args.seed}, sequence {number}\n{report(pair, shrunk, found)}\n", flush=True)
            if not args.keep_going:
                break
        if not pair.ours.alive():
            print(f"the server died:\n{pair.ours.log()[-4000:]}")
            break
    took = time.monotonic() - started
    names = f"{pair.grammar.family}: {pair.ours.kind} against {pair.theirs.kind}, RESP{pair.resp}"
    print(f"{names}: {done} commands in {took:.1f} s, {len(seen)} failures", flush=True)
    for signature, count in sorted(seen.items(), key=lambda item: -item[1]):
        print(f"  {count:4} sequences: {signature}")
    return len(seen)


def main() -> int:
    args = _arguments()
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {args.seed}", flush=True)
    names = grammars.families() if args.family == "all" else args.family.split(",")
    references = ("valkey", "redis") if args.against == "both" else (args.against,)
    protocols = (2, 3) if args.resp == "both" else (int(args.resp),)
    failures = 0
    with ExitStack() as stack:
        options = {"enable-debug-command": "yes"}
        ours = stack.enter_context(servers.running(args.subject, options=options))
        others = [stack.enter_context(servers.running(kind, options=options)) for kind in references]
        for grammar in map(grammars.load, names):
            for theirs in others:
                if theirs.kind not in grammar.references:
                    continue
                for resp in protocols:
                    pair = Pair(ours, theirs, grammar, resp)
                    failures += _replay(pair, args.replay) if args.replay else _explore(pair, args)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
