"""In which nodes a server would hold the entries of a stream, as trimming with ``~`` goes by whole nodes.

A node takes entries until it has ``max_entries``, deleted ones counted too, or until one more would bring it to
``max_bytes``. It goes when nothing of it is left, or as a whole.

Invariants
- Nodes are laid out from the front, no further than somebody asked: entries behind ``done`` are in none yet, and
  none of them was ever deleted. All of them were added under ``limits``.
- IDs of nodes ascend and do not overlap; ``alive`` entries of a node are those of the stream in its range.

Costs: laying out about 0.7 µs an entry, once; O(log n) to find one; about 4 bytes an entry.

Must not know: streams, groups.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from typing import Final

from kvstore.engine.ids import FIRST_ID, ID, LAST_ID, IdMap
from kvstore.engine.types.stream_nodes import NODE_BYTES, NODE_ENTRIES, Words
from kvstore.numbers import parse_int

# A listpack without elements; the largest that a node may be.
_EMPTY_SIZE: Final = 7
MAX_NODE_BYTES: Final = 1 << 30
# Elements before the fields and values of an entry: flags and two distances. Their flags take two bytes.
_FLAGS_SIZE: Final = 2
_64_BITS: Final = (1 << 64) - 1
_HALF: Final = 1 << 63

NodeLimits = tuple[int, int]  # bytes, entries; 0: no limit
DEFAULT_LIMITS: Final[NodeLimits] = (NODE_BYTES, NODE_ENTRIES)


def _integer_size(n: int) -> int:
    """Bytes of an integer as an element of a listpack."""
    if 0 <= n < 128:
        return 2
    if -4096 <= n < 4096:
        return 3
    if -32768 <= n < 32768:
        return 4
    if -(1 << 23) <= n < 1 << 23:
        return 5
    return 6 if -(1 << 31) <= n < 1 << 31 else 10


def _distance_size(n: int) -> int:
    n &= _64_BITS
    return _integer_size(n if n < _HALF else n - 2 * _HALF)


def _word_size(word: bytes) -> int:
    """Bytes of a word as an element of a listpack."""
    size = len(word)
    if 0 < size <= 20 and 48 <= word[-1] <= 57 and (number := parse_int(word)) is not None:
        return _integer_size(number)
    if size < 64:
        return size + 2
    size += 2 if size < 4096 else 5
    behind = 1
    while size >> 7 * behind:
        behind += 1
    return size + behind


class Node:
    __slots__ = ("alive", "dead", "first", "last", "names", "size")

    def __init__(self, first: ID, last: ID, names: Words, size: int, alive: int = 0, dead: int = 0):
        self.first = first
        self.last = last  # of the last entry, even if that was deleted
        self.names = names  # of the fields of the first entry
        self.size = size  # bytes without the two counts
        self.alive = alive
        self.dead = dead

    def take(self, id: ID, words: Words) -> None:
        """Take in an entry behind all others."""
        names = self.names
        size = _FLAGS_SIZE + _distance_size(id[0] - self.first[0]) + _distance_size(id[1] - self.first[1])
        if words[::2] == names:
            size += sum(map(_word_size, words[1::2])) + _integer_size(3 + len(names))
        else:
            size += sum(map(_word_size, words)) + _integer_size(len(words) // 2)
            size += _integer_size(4 + len(words))
        self.size += size
        self.last = id
        self.alive += 1

    def is_full_for(self, words: Words, limits: NodeLimits) -> bool:
        most_bytes, most = limits
        if most and self.alive + self.dead >= most:
            return True
        if not 0 < most_bytes <= MAX_NODE_BYTES:
            most_bytes = MAX_NODE_BYTES
        size = self.size + _integer_size(self.alive) + _integer_size(self.dead)
        return size + sum(map(len, words)) >= most_bytes


def new_node(first: ID, names: Words) -> Node:
    """A node without entries, whose first will have that ID and those fields."""
    size = _EMPTY_SIZE + _integer_size(len(names)) + sum(map(_word_size, names)) + 2
    return Node(first, first, names, size)


def loaded_node(first: ID, last: ID, names: Words, size: int, alive: int, dead: int) -> Node:
    """A node whose listpack has ``size`` bytes."""
    return Node(first, last, names, size - _integer_size(alive) - _integer_size(dead), alive, dead)


class Layout:
    __slots__ = ("done", "limits", "nodes")

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.done: ID = FIRST_ID  # the last that is in a node, or was
        self.limits = DEFAULT_LIMITS

    def lay_out(self, entries: IdMap[Words], most: int) -> bool:
        """Lay out up to ``most`` entries more; False if that was all there are."""
        nodes, limits = self.nodes, self.limits
        node = nodes[-1] if nodes else None
        time, sequence = self.done
        if self.done == LAST_ID:
            return False
        count, id = 0, self.done
        for id, words in islice(entries.items((time, sequence + 1)), most):
            if node is None or node.is_full_for(words, limits):
                names = words[::2]
                if node is not None and node.names == names:
                    names = node.names  # one object for all that have the same
                node = new_node(id, names)
                nodes.append(node)
            node.take(id, words)
            count += 1
        self.done = id
        return count == most

    def settle(self, entries: IdMap[Words]) -> list[Node]:
        """All nodes of the stream."""
        while self.lay_out(entries, 1 << 20):
            pass
        return self.nodes

    def whole(self, entries: IdMap[Words], at: int) -> Node | None:
        """Node ``at``, which takes no more entries of those that are there; None where there is none."""
        nodes = self.nodes
        while len(nodes) <= at + 1 and self.lay_out(entries, NODE_ENTRIES):
            pass
        return nodes[at] if at < len(nodes) else None

    def change_limits(self, entries: IdMap[Words], limits: NodeLimits) -> None:
        """Entries that are added from now on stand in nodes of these limits."""
        self.settle(entries)
        self.limits = limits

    def step_back(self, entries: IdMap[Words], id: ID) -> None:
        """Entries that are added from now on only come behind that ID, which no entry does."""
        nodes = self.settle(entries)
        while nodes and nodes[-1].first > id:
            nodes.pop()  # nothing of it is left
        if nodes:
            nodes[-1].last = min(nodes[-1].last, id)
        self.done = min(self.done, id)

    def delete(self, entries: IdMap[Words], id: ID) -> None:
        """An entry is about to be deleted. O(log n) where it is laid out."""
        while self.done < id and self.lay_out(entries, NODE_ENTRIES):
            pass
        at = bisect_right(self.nodes, id, key=lambda node: node.first) - 1
        node = self.whole(entries, at)
        assert node is not None
        if node.alive == 1:
            del self.nodes[at]
        else:
            node.alive -= 1
            node.dead += 1

    def copy(self) -> Layout:
        twin = Layout()
        twin.nodes = [Node(n.first, n.last, n.names, n.size, n.alive, n.dead) for n in self.nodes]
        twin.done, twin.limits = self.done, self.limits
        return twin

    def check(self, entries: IdMap[Words]) -> None:
        last = FIRST_ID
        for node in self.nodes:
            # In order, and not empty but by exact trimming up to an ID that its last entry is not below.
            assert last < node.first <= node.last <= self.done
            last = node.last
            assert node.alive >= 0 and node.dead >= 0 and node.alive + node.dead
            assert sum(1 for _ in entries.items(node.first, node.last)) == node.alive
        # What is not in a node is behind all that is.
        if self.done < LAST_ID:
            behind = sum(1 for _ in entries.items((self.done[0], self.done[1] + 1)))
            assert sum(node.alive for node in self.nodes) + behind == len(entries)


def radix_nodes(keys: list[bytes]) -> int:
    """How many nodes a radix tree of these keys has, which ascend and are of one length. O(their length).

    A leaf for each key, one for each place where keys part, one for each run of bytes in between.
    """
    if not keys:
        return 1
    count = len(keys)
    length = len(keys[0])
    # Depths at which the key before parted from its neighbours, the deepest last.
    forks: list[int] = []
    above = -1
    for one, two in zip(keys, [*keys[1:], b""], strict=True):
        depth = -1
        if two:
            depth = next(at for at in range(length) if one[at] != two[at])
        nearest = max(above, depth)
        if length - nearest > 1:  # a run from the nearest fork, or from the root, to the leaf
            count += 1
        # Forks that end here are done with, and hang from the one above them.
        while forks and forks[-1] > depth:
            fork = forks.pop()
            parent = max(forks[-1] if forks else -1, depth)
            if fork - parent > 1:
                count += 1
        if depth >= 0 and (not forks or forks[-1] < depth):
            forks.append(depth)
            count += 1
        above = depth
    return count
