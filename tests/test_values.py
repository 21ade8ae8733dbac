"""Python objects as values: what is packed comes back equal and of the same type, or is refused."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import DataError, Store, values

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    # A day from either end of the calendar, as the same moment in UTC must be a date, too.
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()).map(
        lambda moment: moment.astimezone(UTC)
    ),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
HASHABLE = st.one_of(SCALARS, st.tuples(SCALARS, SCALARS), st.frozensets(SCALARS, max_size=3))
VALUES = st.recursive(
    st.one_of(HASHABLE, st.sets(SCALARS, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
    ),
    max_leaves=20,
)


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down (1, 1.0 and True are not the same)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            any(same(key, other) and same(value, right[other]) for other in right if other == key)
            for key, value in left.items()
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_what_is_packed_comes_back_of_the_same_types(value: Any) -> None:
    assert same(values.unpack(values.pack(value)), value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_foreign_bytes_give_a_value_or_a_clear_error(data: bytes) -> None:
    try:
        values.unpack(data)
    except DataError as error:
        assert "cannot unpack" in str(error)


@given(st.sets(st.integers(), max_size=8))
def test_equal_sets_give_equal_bytes(members: set[int]) -> None:
    other: set[int] = set()
    for member in sorted(members, reverse=True):
        other.add(member)
    assert values.pack(members) == values.pack(other)


@pytest.mark.parametrize("value", [object(), 1j, len, datetime(2026, 1, 1), [[object()]], {"a": range(3)}])
def test_what_has_no_form_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="cannot pack"):
        values.pack(value)


def test_the_form_does_not_change() -> None:
    """These bytes are in people's stores."""
    assert values.pack({"a": [1, 2.5, b"x", None, True]}) == bytes.fromhex(
        "81a16195 01 cb4004000000000000 c40178 c0 c3"
    )
    assert values.pack((1,)) == bytes.fromhex("d501 9101")
    assert values.pack({2, 1}) == bytes.fromhex("c703 02 920102")
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=1)))
    assert values.pack(moment) == b"\xc7\x20\x04" + b"2026-01-02T03:04:05.000006+01:00"
    assert values.pack(date(2026, 1, 2)) == b"\xc7\x0a\x05" + b"2026-01-02"
    assert values.pack(timedelta(1, 2, 3)) == bytes.fromhex("d6 06 93010203")
    assert values.pack(Decimal("1.10")) == b"\xd6\x07" + b"1.10"
    assert values.pack(UUID(int=5)) == b"\xd8\x08" + UUID(int=5).bytes
    assert values.pack(1 << 64) == b"\xc7\x14\x09" + b"18446744073709551616"


def test_in_a_store() -> None:
    store = Store()
    store.set("job", values.pack({"tags": {"a", "b"}, "tries": 0}))
    assert values.unpack(store.get("job")) == {"tags": {"a", "b"}, "tries": 0}
    assert values.unpack(store.get("none")) is None
    assert math.isnan(values.unpack(values.pack(math.nan)))
