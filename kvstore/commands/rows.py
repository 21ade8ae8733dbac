"""Rows: requests of a pipeline that are brief ones of one command, and run with one look at the table and at the clock.

Invariant: nobody can tell a row from its requests run one by one, but by the clock: each of them counts as the mean
of all.

Must not know: what commands do.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING

from kvstore.commands.registry import NO_REPLY, Argv
from kvstore.commands.tables import LIMITED, Entry

if TYPE_CHECKING:
    from kvstore.commands.session import Session

# Features under which nothing follows from a brief request but its reply.
_UNSEEN = frozenset({LIMITED})


def run_row(session: Session, requests: list[Argv], pending: Iterator[Argv]) -> bool:
    """Run what ``pending`` gives of the requests as one row, if they are one. False: what is left in ``pending``, all or
    some, is to be run.
    """
    table, name, count = session.table, requests[0][0], len(requests)
    entry, sizes = table.get(name), set(map(len, requests))
    if entry is None or max(sizes) > entry.brief or [argv[0] for argv in requests].count(name) != count:
        return False
    hub, argv = session.hub, requests[-1]
    session.command = entry.command
    started = perf_counter_ns()
    if hub.hears or not table.features <= _UNSEEN:
        calls, argv = _run_seen(session, entry, pending)
    elif sizes == entry.row_sizes and (replies := entry.row(session, requests, table.codec)) is not None:
        calls = count
        if session.reply == session.out.append:
            session.out += replies
        else:
            for reply in replies:
                session.reply(reply)
    else:
        calls = count - _run_unseen(session, entry, pending)
    took = perf_counter_ns() - started
    stats = entry.stats
    stats.buckets[(took // (calls or 1)).bit_length()] += calls
    stats.nanos += took
    if took >= hub.slow_nanos:
        hub.was_slow(session, argv, took)
    if session.stopped:
        session.backlog.extend(pending)
    return calls == count


def _run_unseen(session: Session, entry: Entry, pending: Iterator[Argv]) -> int:
    """Run requests of which nobody hears, so that nothing follows from one of them; how many failed."""
    run, put, failures = entry.run, session.reply, 0
    argv: Argv = []
    while True:
        try:
            for argv in pending:
                put(run(session, argv))
            return failures
        except Exception as error:
            failures += 1
            put(session.failed(error, entry, argv, perf_counter_ns()))


def _run_seen(session: Session, entry: Entry, pending: Iterator[Argv]) -> tuple[int, Argv]:
    """Run requests up to one that changes what the client may do; how many did not fail, and the last."""
    hub, table, run, calls = session.hub, session.table, entry.run, 0
    argv: Argv = []
    for argv in pending:
        try:
            reply = run(session, argv)
        except Exception as error:
            reply = session.failed(error, entry, argv, perf_counter_ns())
        else:
            calls += 1
        if reply is not NO_REPLY:
            put = session.reply
            put(reply)
        if hub.pending:
            hub.drain()
        if session.stopped or session.table is not table:
            break
    return calls, argv
