"""Registries suggest, refuse doubles, and tell a plug-in's name; trees of rows gather and scatter."""

from typing import Any

import numpy as np
import pytest
import torch

from wmbench import registry
from wmbench.errors import MissingExtraError, NotRegisteredError, WmbenchError, require
from wmbench.registration import task_card
from wmbench.trees import gather, scatter, tree_map


def test_a_wrong_name_suggests_the_right_one() -> None:
    with pytest.raises(NotRegisteredError, match="did you mean 'ensemble'"):
        registry.world_models.load("ensembel")
    with pytest.raises(NotRegisteredError, match=r"known: .*random"):
        registry.policies.load("xyzzy")
    with pytest.raises(NotRegisteredError, match="DMC-CartpoleSwingup"):
        task_card("DMC-CartpolSwingup")


def test_local_entries_come_and_go_and_never_shadow() -> None:
    registry.world_models.add("toy-local", dict)
    try:
        assert registry.world_models.load("toy-local") is dict
        assert "toy-local" in registry.world_models.names()
        with pytest.raises(WmbenchError, match="already registered"):
            registry.world_models.add("toy-local", list)
    finally:
        registry.world_models.remove("toy-local")
    with pytest.raises(WmbenchError, match="already registered"):
        registry.world_models.add("linear", dict)


def test_two_packages_with_one_name_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    both = [EntryPoint("twice", value, "wmbench.world_models") for value in ("a:A", "b:B")]
    monkeypatch.setattr(registry, "_entries", lambda group: {"twice": both})
    with pytest.raises(WmbenchError, match=r"offered twice: a:A .* b:B"):
        registry.world_models.load("twice")


def test_every_entry_point_loads() -> None:
    groups = (registry.envs, registry.world_models, registry.policies, registry.measures, registry.commands)
    for group in groups:
        assert group.names(), group.group
        for name, entry in group:
            assert entry is not None, name


def test_a_missing_extra_names_its_install_line() -> None:
    require("numpy", "anything")
    with pytest.raises(MissingExtraError, match=r"pip install 'wmbench\[nope\]'"):
        require("no_such_module_anywhere", "nope")


@pytest.mark.parametrize("make", [np.arange, torch.arange])
def test_rows_are_gathered_and_scattered_without_touching_the_original(make: Any) -> None:
    tree = {"a": make(6).reshape(3, 2), "b": (make(3), None)}
    picked = gather(tree, [2, 0])
    assert picked["a"].tolist() == [[4, 5], [0, 1]] and picked["b"][0].tolist() == [2, 0]
    merged = scatter(tree, [1], {"a": make(2).reshape(1, 2) + 90, "b": (make(1) + 90, None)})
    assert merged["a"].tolist() == [[0, 1], [90, 91], [4, 5]]
    assert tree["a"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_trees_of_different_structure_are_refused() -> None:
    for one, other in (({"a": 1}, {"b": 1}), ([1, 2], [1]), (None, 1)):
        with pytest.raises(ValueError, match="trees differ"):
            tree_map(lambda x, y: x, one, other)
