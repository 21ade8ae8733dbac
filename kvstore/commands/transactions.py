"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

Between MULTI and EXEC the session's table queues. EXEC runs the queue as one unit: the hub drains
after it, and no command of it blocks.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from kvstore.commands.kinds import OK, Codec
from kvstore.commands.registry import NO_REPLY, Argv, Command, CommandRejected, Family, Run, keys_at
from kvstore.commands.tables import EXECUTING, MULTI
from kvstore.errors import ResponseError

if TYPE_CHECKING:
    from kvstore.commands.session import Session

family = Family("transactions", "transaction")

_FLAGS = "noscript loading stale fast allow_busy"


@family.command("MULTI", 1, f"{_FLAGS} no_multi", kind=OK, since="1.2.0")
def multi(session: Session, argv: Argv) -> bool:
    """Start queueing commands for EXEC. O(1)."""
    session.in_multi = True
    session.table = session.table_in(MULTI)
    return True


@family.command("DISCARD", 1, _FLAGS, kind=OK, since="2.0.0")
def discard(session: Session, argv: Argv) -> bool:
    """Forget the queued commands and the watched keys. O(n) queued commands."""
    if not session.in_multi:
        raise ResponseError("ERR DISCARD without MULTI")
    session.discard()
    return True


@family.command("WATCH", -2, f"{_FLAGS} no_multi", keys_at(1, -1, 1, "RO"), kind=OK, since="2.2.0")
def watch(session: Session, argv: Argv) -> bool:
    """Let the next EXEC fail if one of the keys changes before it. O(1) a key."""
    if not session.tx_dirty:
        session.hub.watch(session, argv[1:])
    return True


@family.command("UNWATCH", 1, _FLAGS, kind=OK, since="2.2.0")
def unwatch(session: Session, argv: Argv) -> bool:
    """Forget all watched keys. O(1) a key."""
    session.hub.unwatch(session)
    return True


def _compile_exec(command: Command, codec: Codec) -> Run:
    def run(session: Session, argv: Argv) -> Any:
        if len(argv) != 1:
            raise command.wrong_arity()
        if not session.in_multi:
            raise ResponseError("ERR EXEC without MULTI")
        for db, key in session.watched:
            session.hub.ctx.database(db)._peek(key)  # one that has just expired counts as changed
        aborted, dirty, queue = session.tx_aborted, session.tx_dirty, session.queue
        session.discard()
        if aborted:
            raise ResponseError("EXECABORT Transaction discarded because of previous errors.")
        if dirty:
            return codec.null_array
        return _run_queue(session, queue, codec)

    return run


def _run_queue(session: Session, queue: list[Argv], codec: Codec) -> Any:
    """The queued commands as one unit: one time for all, and none of them blocks."""
    hub = session.hub
    may_block, exec_ = session.may_block, session.command
    session.may_block = False
    try:
        notifications, slow_nanos = hub.notifications, hub.slow_nanos
        replies = []
        with hub.ctx.unit():
            usual = executing = None
            started = perf_counter_ns()
            for words in queue:
                # At first, and once a command has changed what the client may do.
                if executing is None or session.table is not usual:
                    usual, executing = session.table, session.table_in(EXECUTING)
                told, entry = len(session.out), None
                try:  # as Session.execute, without the calls
                    entry = executing[words[0]]
                    session.command = entry.command
                    run = entry.run
                    reply = run(session, words)
                except Exception as error:
                    reply = session.failed(error, entry, words, started)
                    started = perf_counter_ns()
                else:
                    ended = perf_counter_ns()
                    took = ended - started
                    started = ended
                    stats = entry.stats
                    stats.buckets[took.bit_length()] += 1
                    stats.nanos += took
                    if took >= slow_nanos:
                        hub.was_slow(session, words, took)
                if reply is not NO_REPLY:
                    replies.append(reply)
                elif not codec.on_wire and len(session.out) > told:
                    replies += _taken_back(session, told)
                else:
                    replies.append(codec.nothing)
                if notifications.queue:
                    notifications.send()  # before the next one subscribes, publishes, or wants other events
        if len(replies) <= len(queue):
            return codec.array(replies)
        session.out += [codec.array(replies[: len(queue)]), *replies[len(queue) :]]
        return NO_REPLY
    finally:
        session.may_block, session.command = may_block, exec_


def _taken_back(session: Session, told: int) -> list[Any]:
    """The answers of a command that subscribes, which stand among EXEC's: one that gives several replies counts as
    one element, so that as many of the last ones come after the array."""
    return [session.out.pop() for _ in range(len(session.out) - told)][::-1]


@family.command(
    "EXEC", 1, "noscript loading stale skip_slowlog", kind=OK, since="1.2.0", compile_with=_compile_exec
)
def exec_(session: Session, argv: Argv) -> Any:
    """Run the queued commands as one unit. O(n) in the cost of the commands."""
    raise CommandRejected("ERR EXEC runs by its compiled form")
