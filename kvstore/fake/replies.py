"""Reply trees (see ``kvstore.resp``) as the objects that a client library's parser makes of their bytes.

Bulk and simple strings are bytes or, decoded, str; errors are exceptions; maps dicts; sets lists, or what the
library makes of them.

Must not know: connections.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from kvstore.resp import NULL_ARRAY, BigNumber, ErrorReply, Push, RespSet, Status, Verbatim

# What a tree of arrays may hold to be, as it is, what a parser gives.
_PLAIN = {bytes, int, type(None)}
_NULL = type(NULL_ARRAY)


class Shaper:
    """Turns trees into objects for one connection.

    ``as_error``: makes an exception of an error's text. ``decode``: makes a str of bytes; None: they stay.
    ``as_set``: what becomes of a set. ``numbers``: whether big numbers become int, or are text.
    ``as_push``: what becomes of what is pushed.
    """

    __slots__ = ("_as_error", "_as_set", "_by_class", "_decode", "quick")

    def __init__(
        self,
        as_error: Callable[[str], Exception],
        decode: Callable[[bytes], Any] | None = None,
        as_set: Callable[[list[Any]], Any] = list,
        numbers: bool = True,
        as_push: Callable[[list[Any]], Any] = list,
    ):
        self._as_error = as_error
        self._decode = decode
        self._as_set = as_set
        text: Callable[[Any], Any] = (lambda tree: decode(bytes(tree))) if decode else bytes
        self._by_class: dict[type, Callable[[Any], Any]] = {
            bytes: decode or _same,
            int: _same,
            float: _same,
            bool: _same,
            type(None): _same,
            _NULL: lambda tree: None,
            Status: text,
            Verbatim: text,
            BigNumber: int if numbers else lambda tree: text(b"%d" % tree),
            ErrorReply: self._error,
            list: self._items,
            tuple: self._items,
            Push: lambda tree: as_push(self._items(tree)),
            RespSet: lambda tree: self._as_set(self._items(tree)),
            dict: self._map,
        }
        # The functions for all replies that only have to be handed out, by class: no errors, nothing pushed.
        self.quick = {
            cls: shape for cls, shape in self._by_class.items() if cls is not ErrorReply and cls is not Push
        }

    def shape(self, tree: Any) -> Any:
        """What the library's parser would have given. O(size)."""
        return self._by_class[tree.__class__](tree)

    def _error(self, tree: ErrorReply) -> Exception:
        # An error is one line of the protocol.
        text = tree.replace(b"\r", b" ").replace(b"\n", b" ")
        return self._as_error(text.decode("utf-8", "replace"))

    def _items(self, tree: Any) -> list[Any]:
        by_class = self._by_class
        classes = set(map(type, tree))
        if self._decode is None and classes <= _PLAIN:
            return list(tree)
        if len(classes) == 1:
            return list(map(by_class[classes.pop()], tree))
        return [by_class[item.__class__](item) for item in tree]

    def _map(self, tree: dict[Any, Any]) -> dict[Any, Any]:
        if self._decode is None and set(map(type, chain(tree, tree.values()))) <= _PLAIN:
            return dict(tree)
        by_class = self._by_class
        return {by_class[key.__class__](key): by_class[value.__class__](value) for key, value in tree.items()}


def _same(tree: Any) -> Any:
    return tree
