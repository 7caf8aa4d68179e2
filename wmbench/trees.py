"""Rows of pytrees: gather, scatter and convert states whose leaves have the batch as first axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Tree = Any


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function to every leaf (anything but dict, list, tuple and None).

    Raises:
        ValueError: The trees differ in structure.
    """
    if tree is None:
        if any(o is not None for o in others):
            raise ValueError("trees differ: None against something")
        return None
    if isinstance(tree, dict):
        if any(not isinstance(o, dict) or o.keys() != tree.keys() for o in others):
            raise ValueError(f"trees differ: keys {sorted(tree)} against another set")
        return {k: tree_map(function, v, *(o[k] for o in others)) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        if any(len(o) != len(tree) for o in others):
            raise ValueError("trees differ in length")
        return type(tree)(tree_map(function, v, *(o[i] for o in others)) for i, v in enumerate(tree))
    return function(tree, *others)


def gather(tree: Tree, rows: Any) -> Tree:
    """The given rows of every leaf, as copies."""
    return tree_map(lambda leaf: leaf[rows], tree)


def scatter(tree: Tree, rows: Any, values: Tree) -> Tree:
    """A new tree in which the given rows are replaced by those of ``values``, in order."""

    def put(leaf: Any, value: Any) -> Any:
        new = leaf.copy() if isinstance(leaf, np.ndarray) else leaf.clone()
        new[rows] = value
        return new

    return tree_map(put, tree, values)
