"""Every method of the Store takes what redis-py's method of that name takes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import redis
from redis.commands import core

from kvstore import Store

# redis-py's groups of commands that a Store answers with typed methods of its own.
GROUPS = [
    core.BasicKeyCommands,
    core.ListCommands,
    core.ScanCommands,
    core.SetCommands,
    core.SortedSetCommands,
    core.GeoCommands,
    core.HyperlogCommands,
    core.StreamCommands,
    core.HashCommands,
    core.FunctionCommands,
]
# Why a method of these groups has no typed twin.
MISSING = {
    **dict.fromkeys(
        ("lmovem", "blmovem", "sdiffcard", "sunioncard", "xackdel", "xcfgset", "xdelex", "xnack"),
        "newer than any server to compare with",
    ),
    **dict.fromkeys(
        (
            "himport_prepare_internal",
            "himport_set",
            "himport_discard_internal",
            "himport_discard_all_internal",
            "stralgo",
            "digest_local",
        ),
        "redis-py's own machinery, or gone from Redis",
    ),
    **dict.fromkeys(("watch", "unwatch"), "a pipeline's"),
}


def public_methods(group: type) -> list[tuple[str, Any]]:
    dunders = ("__contains__", "__getitem__", "__setitem__", "__delitem__")
    return [
        (name, method)
        for name, method in vars(group).items()
        if callable(method) and (not name.startswith("_") or name in dunders)
    ]


def own(name: str) -> Any:
    """The Store's own method, or None; what it has of its client is not."""
    return next((vars(cls)[name] for cls in Store.__mro__ if callable(vars(cls).get(name))), None)


def parameters(method: Any) -> list[tuple[str, str, Any]]:
    return [
        (each.name, each.kind.name, each.default) for each in inspect.signature(method).parameters.values()
    ]


def with_redis_py_of_the_comparison() -> bool:
    return int(redis.__version__.split(".")[0]) >= 8


@pytest.mark.skipif(not with_redis_py_of_the_comparison(), reason="signatures are those of redis-py 8")
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_method_is_there_with_the_same_parameters(group: type) -> None:
    methods = public_methods(group)
    assert len(methods) >= 3
    missing = {name for name, _ in methods if own(name) is None}
    assert missing <= MISSING.keys()
    for name, method in methods:
        if name not in missing and name != "__contains__":
            assert parameters(own(name)) == parameters(method), name


def test_methods_without_a_reason_to_be_missing_are_not_listed() -> None:
    assert [name for name in MISSING if own(name) is not None] == []


@pytest.mark.skipif(not with_redis_py_of_the_comparison(), reason="names are those of redis-py 8")
def test_what_a_client_has_besides_is_the_clients() -> None:
    without = {
        "bf",
        "cf",
        "cms",
        "ft",
        "json",
        "tdigest",
        "topk",
        "ts",
        "vset",
    }  # of modules that are not here
    store = Store()
    for name in dir(redis.Redis):
        newer = name.startswith(("ar", "himport_", "hotkeys_", "sentinel")) or name in MISSING
        if not (name.startswith("_") or name in without or newer):
            assert hasattr(Store, name), name
    assert store.config_get("maxmemory") == {"maxmemory": "0"}
    assert not hasattr(store, "nothing_has_this")


def test_every_public_method_says_what_it_does() -> None:
    for name in dir(Store):
        method = getattr(Store, name)
        if not name.startswith("_") and callable(method):
            assert inspect.getdoc(method), name
