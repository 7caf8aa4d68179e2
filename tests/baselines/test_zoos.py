"""Every shipped zoo: safe and small files, digests that hold, policies that act, truth that repeats, an honest page."""

from __future__ import annotations

import importlib
import importlib.util
import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

from wmbench import checkpoints, task_card
from wmbench.main import main
from wmbench.measuring.everything import plain_reference, read_policy
from wmbench.provenance import provenance
from wmbench.rollout import rollout
from wmbench.transferring.cards import policy_cards
from wmbench.transferring.fitting import check_fits, weights_of
from wmbench.zoo import load_zoo, shipped_zoos
from wmbench_baselines.shipped import ZOOS

TASKS = [task.removeprefix("wmbench/").rsplit("-v", 1)[0] for task in sorted(shipped_zoos())]
LIMIT = 300_000
RESTING = ("DMC-ReacherEasy", "MS-PullCube")
"""Tasks where what is reached stays: whoever acts no longer in the second half earns what the expert earns."""
REPEATED = 2
"""Frozen episodes that are simulated again, of two members of every task."""


def test_there_are_zoos_and_nothing_else_beside_them() -> None:
    assert {path.suffix for path in ZOOS.iterdir()} == {".json", ".safetensors"}
    assert {path.stem for path in ZOOS.glob("*.json")} == {path.stem for path in ZOOS.glob("*.safetensors")}
    assert len(TASKS) >= 8 and {"DMC-CartpoleSwingup"} <= set(TASKS)


def test_an_installed_package_has_them() -> None:
    """A wheel takes the whole package, but for what git ignores."""
    ignored = Path(__file__).parents[2] / ".gitignore"
    patterns = ignored.read_text().split() if ignored.exists() else []
    assert not {"*.json", "*.safetensors", "zoos", "zoos/", "checkpoints", "checkpoints/"} & set(patterns)
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"].keys() == {"packages"}, "nothing is left out"
    assert ZOOS.parent.name == "wmbench_baselines" and (ZOOS.parent / "__init__.py").exists()


@pytest.mark.parametrize("task", TASKS)
def test_files_are_safe_and_small(task: str) -> None:
    card, zoo = task_card(task), load_zoo(task_card(task))
    files = [shipped_zoos()[card.id], shipped_zoos()[card.id].with_suffix(".safetensors")]
    for member in zoo.members:
        folder = checkpoints.find(plain_reference(member.reference), card, kind="policy")
        assert folder is None or {path.name for path in folder.iterdir()} == {checkpoints.CONFIG, checkpoints.WEIGHTS}
        files += [] if folder is None else list(folder.iterdir())
    for path in files:
        assert path.stat().st_size < LIMIT, path


@pytest.mark.parametrize("task", TASKS)
def test_a_zoo_holds_what_ranking_needs(task: str) -> None:
    zoo = load_zoo(task_card(task))
    cards = policy_cards(zoo)
    means = [card.returns for card in cards]
    assert len(cards) >= 10 and len(zoo.seed) == 200 and len(np.unique(zoo.seed)) == 200
    assert means == sorted(means, reverse=True) and np.isfinite(zoo.returns).all()
    assert len({card.algorithm for card in cards} & {"SAC", "PPO", "TD3", "BC", "scripted"}) >= 3
    by_name = {card.name: card for card in cards}
    assert by_name["random"].algorithm == "random"
    assert by_name["random"].returns < means[0] - 0.5 * (means[0] - means[-1]), "random is no good policy"
    assert any(card.near for card in cards), "two policies are close to each other"
    assert any("+noise" in card.reference or card.name == "early-stop" for card in cards), "some are made worse"
    snapshots = [
        card for card in cards if card.algorithm in ("SAC", "PPO", "TD3") and card.steps and card.name[-1] == "k"
    ]
    families = [card.algorithm for card in snapshots]
    assert any(families.count(algorithm) >= 2 for algorithm in families), "neighbours of one training"


@pytest.mark.parametrize("task", TASKS)
def test_no_policy_is_there_twice(task: str) -> None:
    """Under two names one policy would earn the same in every episode, and so does no other pair but these."""
    zoo = load_zoo(task_card(task))
    known: dict[bytes, str] = {}
    for k, member in enumerate(zoo.members):
        same = known.setdefault(zoo.returns[:, k].tobytes(), member.name)
        stays = task in RESTING and (same, member.name) == ("expert", "early-stop")
        assert stays or same == member.name, f"{member.name} is {same}"


def test_the_script_leaves_out_an_expert_that_is_the_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "baselines" / "scripts"))
    script = importlib.import_module("make_zoo")
    references = {task: [m.reference for m in script.untrained(task_card(task))] for task in TASKS}
    assert references["Gym-Hopper"] == [
        *("random", "early-stop", "actor", "actor+noise0.3", "actor+noise0.6", "actor-medium")
    ]
    assert {"expert", "expert+noise0.3", "actor", "actor+noise0.3"} <= set(references["DMC-CartpoleSwingup"])
    assert {"expert", "expert+noise1.0"} <= set(references["MS-PushCube"]) and "actor" not in references["MS-PushCube"]
    for task, found in references.items():
        shipped = [m.reference for m in load_zoo(task_card(task)).members]
        assert [reference for reference in shipped if reference in found] == found


@pytest.mark.parametrize("task", TASKS)
def test_every_member_has_the_weights_that_its_truth_was_found_with_and_acts(task: str) -> None:
    card, zoo = task_card(task), load_zoo(task_card(task))
    low, high = card.action_bounds()
    start = np.zeros((3, len(card.observation)), np.float32)
    for member in zoo.members:
        assert weights_of(member, card) == member.weights, member.name
        policy = read_policy(member.reference, card)
        check_fits(policy, card, start[:1], name=member.name)
        if member.weights:  # scripted ones want observations that can occur
            action, _ = policy.act(start, policy.initial(3), keys=np.arange(3))
            assert action.shape == (3, len(card.action)) and (low <= action).all() and (action <= high).all()


@pytest.mark.parametrize("task", TASKS)
def test_frozen_episodes_repeat(task: str) -> None:
    """Bit for bit on the kind of machine that froze them; elsewhere bits may differ, and a warning says so."""
    card, zoo = task_card(task), load_zoo(task_card(task))
    made, here = zoo.facts["provenance"], provenance()
    same = all(made[key] == here[key] for key in ("python", "platform", "cpu", "versions"))
    trained = max(range(len(zoo.members)), key=lambda k: (bool(zoo.members[k].weights), zoo.returns[-1, k].mean()))
    random = [member.name for member in zoo.members].index("random")
    for k in (trained, random):
        policy = read_policy(zoo.members[k].reference, card)
        for e, episode in enumerate(rollout(card, policy, zoo.seed[:REPEATED].tolist())):
            returns = [episode.reward[:steps].sum() for steps in zoo.horizon]
            if same or np.array_equal(returns, zoo.returns[:, k, e]):
                np.testing.assert_array_equal(returns, zoo.returns[:, k, e], err_msg=zoo.members[k].name)
                assert len(episode) == zoo.length[k, e] and episode.succeeded(card) == zoo.success[-1, k, e]
            else:
                assert len(episode) <= card.horizon
                warnings.warn(f"{task} {zoo.members[k].name}: other bits here than where it was frozen", stacklevel=1)


def test_the_page_is_up_to_date() -> None:
    path = Path(__file__).parents[2] / "docs" / "scripts" / "write_zoo_page.py"
    spec = importlib.util.spec_from_file_location("write_zoo_page", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), "run: python docs/scripts/write_zoo_page.py"


def test_the_command_shows_cards(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "180")
    assert main(["zoo"]) == 0
    said = capsys.readouterr().out
    assert all(task in said for task in TASKS)
    assert main(["zoo", "DMC-CartpoleSwingup"]) == 0
    said = capsys.readouterr().out
    zoo = load_zoo(task_card("DMC-CartpoleSwingup"))
    assert all(member.name in said and member.weights[:8] in said for member in zoo.members) and zoo.digest in said
    assert main(["zoo", "DMC-CartpoleSwingup", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["digest"] == zoo.digest and len(data["policies"]) == len(zoo.members)
    assert main(["zoo", "Gym-Pusher"]) == 1
    assert "no zoo of policies is shipped for wmbench/Gym-Pusher-v0" in " ".join(capsys.readouterr().err.split())
    assert main(["zoo", "--policies", "random"]) == 1
    assert main(["zoo", "Gym-Hopper", "--policies", "random"]) == 1
    assert "--out NAME.json" in " ".join(capsys.readouterr().err.split())
