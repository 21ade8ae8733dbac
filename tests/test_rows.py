"""Requests of a pipeline that run as a row: nothing but the clock may tell them from requests that come alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.commands.hub import Hub
from kvstore.commands.kinds import RESP2, RESP3
from kvstore.commands.session import Session
from kvstore.engine.context import Context, ManualClock
from kvstore.engine.database import Database
from kvstore.resp import encode_request

_KEYS = st.sampled_from([b"string", b"list", b"none"])
_WORDS = st.one_of(
    st.tuples(st.just(b"GET"), _KEYS),
    st.tuples(st.just(b"SET"), _KEYS, st.sampled_from([b"x", b"long" * 700])),
    st.tuples(st.just(b"SET"), st.just(b"string"), st.just(b"x"), st.just(b"PX"), st.just(b"1000")),
    st.tuples(st.just(b"GET"), st.just(b"string")),
    st.tuples(st.just(b"INCR"), _KEYS),
    st.tuples(st.just(b"RPUSH"), _KEYS, st.just(b"1")),
    st.tuples(st.just(b"LPOP"), _KEYS),
    st.tuples(st.just(b"SET"), _KEYS, st.just(b"x"), st.sampled_from([b"NX", b"GET", b"WRONG"])),
    st.sampled_from(
        [
            (b"GET",),
            (b"get", b"string"),
            (b"MULTI",),
            (b"EXEC",),
            (b"CLIENT", b"REPLY", b"SKIP"),
            (b"HELLO", b"3"),
            (b"SUBSCRIBE", b"news"),
            (b"WATCH", b"string"),
            (b"BLPOP", b"none", b"0"),
            (b"LPOP", b"list", b"2"),
        ]
    ),
)
# Each request some times in a row, as they run together only then.
_REQUESTS = st.lists(st.tuples(_WORDS, st.integers(1, 9)), min_size=1, max_size=6)


class _Side:
    """A client, and another one that waits for what it pushes."""

    def __init__(self, codec: object, slow_nanos: int):
        self.hub = Hub(Context(Database, clock=ManualClock(1_700_000_000_000)))
        self.hub.slow_nanos = slow_nanos
        self.client = Session(self.hub, codec)  # type: ignore[arg-type]
        self.waiter = Session(self.hub, RESP2)
        self.waiter.feed(b"BLPOP list 0\r\n" * 3)

    def seen(self) -> object:
        stats = self.hub.stats
        return (
            b"".join(self.client.out),
            b"".join(self.waiter.out),
            self.client.stopped,
            {command.full_name: (each.calls, each.failed, each.rejected) for command, each in stats.items()},
        )


@settings(max_examples=300, deadline=None)
@given(requests=_REQUESTS, codec=st.sampled_from([RESP2, RESP3]), slow_nanos=st.sampled_from([0, 10_000_000]))
def test_a_pipeline_is_answered_and_counted_as_its_requests_one_by_one(
    requests: list[tuple[tuple[bytes, ...], int]], codec: object, slow_nanos: int
) -> None:
    together, alone = _Side(codec, slow_nanos), _Side(codec, slow_nanos)
    packed = [encode_request(words) for words, times in requests for _ in range(times)]
    together.client.feed(b"".join(packed))
    for each in packed:
        alone.client.feed(each)
    assert together.seen() == alone.seen()
    for side in (together, alone):  # what has been stopped goes on
        Session(side.hub, RESP2).feed(encode_request((b"RPUSH", b"none", *[b"2"] * 60)))
    assert together.seen() == alone.seen()


def test_each_request_is_timed_by_itself_while_what_is_short_is_to_be_heard_of() -> None:
    client = _Side(RESP2, 0).client
    client.feed(encode_request((b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0")))
    client.hub.slow_nanos = 0
    client.hub.slowlog.entries.clear()
    client.feed(encode_request((b"STRLEN", b"string")) * 20)
    assert len(client.hub.slowlog.entries) == 20


def test_each_request_of_a_row_counts_as_the_mean() -> None:
    side = _Side(RESP2, 10_000_000_000)
    side.client.feed(encode_request((b"STRLEN", b"string")))  # which puts the command into the client's table
    (stats,) = (each for command, each in side.hub.stats.items() if command.name == "STRLEN")
    before = list(stats.buckets)
    side.client.feed(encode_request((b"STRLEN", b"string")) * 20)
    assert sorted(now - then for now, then in zip(stats.buckets, before, strict=True))[-2:] == [0, 20]
    assert stats.nanos > 0
