"""Merkle trees against the recursive definition of RFC 9162, and paths that prove what is there and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import merkle


def defined(data: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\0" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\1" + defined(data[:k]) + defined(data[k:])).digest()


def words(count: int) -> list[bytes]:
    return [f"leaf {number}".encode() for number in range(count)]


@pytest.mark.parametrize("count", [*range(20), 31, 32, 33, 100, 255, 256, 257])
def test_the_root_is_the_one_of_the_definition(count: int) -> None:
    assert merkle.tree([merkle.leaf(data) for data in words(count)]).root == defined(words(count))


@pytest.mark.parametrize("count", [*range(1, 34), 100, 257])
def test_every_leaf_is_proven_and_no_other(count: int) -> None:
    leaves = [merkle.leaf(data) for data in words(count)]
    tree = merkle.tree(leaves)
    for index, leaf in enumerate(leaves):
        path = tree.path(index)
        assert merkle.holds(leaf, index, path, count, tree.root)
        assert not merkle.holds(merkle.leaf(b"another"), index, path, count, tree.root)
        assert not merkle.holds(leaf, index, (*path, tree.root), count, tree.root)
        assert not merkle.holds(leaf, index, path[:-1], count, tree.root) or not path
        assert not merkle.holds(leaf, index, path, count, merkle.leaf(b"root"))
        for place in range(len(path)):
            changed = (*path[:place], merkle.leaf(b"changed"), *path[place + 1 :])
            assert not merkle.holds(leaf, index, changed, count, tree.root)
        for wrong in (-1, index + 1, index ^ 1, count, count + index):
            if wrong != index:
                assert not merkle.holds(leaf, wrong, path, count, tree.root)


def test_a_node_is_no_leaf() -> None:
    """The first byte keeps an inner node from being shown as something that was signed (RFC 9162, section 2.1.1)."""
    leaves = [merkle.leaf(data) for data in words(4)]
    tree = merkle.tree(leaves)
    assert not merkle.holds(merkle.leaf(leaves[0] + leaves[1]), 0, tree.levels[1][1:], 2, tree.root)


@given(st.integers(-3, 70), st.integers(-3, 70), st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_nonsense_proves_nothing(index: int, size: int, path: list[bytes]) -> None:
    tree = merkle.tree([merkle.leaf(data) for data in words(9)])
    assert not merkle.holds(merkle.leaf(b"nonsense"), index, path, size, tree.root)
