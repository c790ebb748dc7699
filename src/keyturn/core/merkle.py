"""Merkle trees over what a key signed (RFC 9162, section 2.1): one hash stands for all, and a short path proves one of them.

Keeps: hashes of leaves and nodes, the tree, and the check of a path. Leaves to others: what is put into a tree, and who signs
its root (``trust``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

EMPTY = hashlib.sha256().digest()
MAX_PATH = 64  # Levels: more leaves than anybody can sign.


class Tree(NamedTuple):
    """All levels of a tree, the leaves' hashes first. Made by :func:`tree`."""

    levels: tuple[tuple[bytes, ...], ...]

    @property
    def size(self) -> int:
        return len(self.levels[0])

    @property
    def root(self) -> bytes:
        """The tree's hash, 32 bytes (RFC 9162, section 2.1.1)."""
        return self.levels[-1][0] if self.size else EMPTY

    def path(self, index: int) -> tuple[bytes, ...]:
        """The hashes that lead from leaf ``index`` to the root (section 2.1.3.1). Raises: IndexError."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        found = []
        for level in self.levels[:-1]:
            if index ^ 1 < len(level):  # The last one of an odd level has no neighbour, and goes up as it is.
                found.append(level[index ^ 1])
            index >>= 1
        return tuple(found)


def leaf(data: bytes) -> bytes:
    """The hash of a leaf; the first byte tells leaves from nodes."""
    return hashlib.sha256(b"\0" + data).digest()


def tree(leaves: Sequence[bytes]) -> Tree:
    """The tree over the hashes ``leaves``, in their order."""
    levels = [tuple(leaves)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        above = [_node(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
        levels.append((*above, *level[len(level) - len(level) % 2 :]))
    return Tree(tuple(levels))


def holds(leaf_hash: bytes, index: int, path: Sequence[bytes], size: int, root: bytes) -> bool:
    """Whether ``path`` leads from ``leaf_hash``, the leaf ``index`` of ``size``, to ``root``.

    1. The index is one of the tree.
    2. Each hash of the path is the left or the right neighbour, as the bits of the index say.
    3. The path ends at the root, with nothing left over (section 2.1.3.2).
    """
    # 1.
    if not 0 <= index < size or len(path) > MAX_PATH:
        return False
    # 2.
    place, last, found = index, size - 1, leaf_hash
    for neighbour in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = _node(neighbour, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = _node(found, neighbour)
        place, last = place >> 1, last >> 1
    # 3.
    return last == 0 and found == root


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
