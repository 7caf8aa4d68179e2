"""A transfer refuses at once what does not fit, loses no more than what broke, and goes on where it was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wmbench.transferring.asking as asking
import wmbench.transferring.evaluation as evaluation
import wmbench.zoo
from wmbench import checkpoints, registry
from wmbench.cards import ModelCard, TaskCard
from wmbench.errors import CheckpointError, DatasetError, DeviceError, MissingHeadError
from wmbench.keys import keys_from_seeds, uniform
from wmbench.main import main
from wmbench.protocols import Prediction
from wmbench.registration import task_card
from wmbench.transferring import freeze_zoo, transfer
from wmbench.zoo import Member, Zoo, load_zoo
from wmbench_baselines.actor import Actor, ActorConfig

CARD = task_card("Gym-InvertedPendulum")
EPISODES = 6
MEMBERS = [
    Member("expert", "expert+noise1.5", "scripted"),  # so noisy that episodes are short
    Member("noisy", "expert+noise2.5", "scripted"),
    Member("zero", "zero", "scripted"),
    Member("random", "random", "random"),
]
HEADS = frozenset({"observation", "reward", "terminated"})
Register = Callable[[str, Callable[[TaskCard, str], Any]], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    freeze_zoo(CARD, MEMBERS, folder / "zoo.json", episodes=EPISODES, work=folder / "work", show_progress=False)
    return folder / "zoo.json"


@pytest.fixture(autouse=True)
def zoo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.setattr(wmbench.zoo, "shipped_zoos", lambda: {CARD.id: made})
    return load_zoo(CARD)


class Toy:
    """Stands still for twelve steps and counts the action as reward; where `chosen`, it breaks at the third step."""

    def __init__(self, task: TaskCard, fault: str = "", heads: frozenset[str] = HEADS, share: float = 0.4) -> None:
        self.task, self.fault, self.share = task, fault, share
        signals = ("wonder", "other") if "uncertainty" in heads else ()
        self.card = ModelCard(
            "toy", (task.id,), heads, *["-"] * 4, sources={"terminated": "card"}, uncertainty=signals, revision=fault
        )

    def initial(self, start: Any, *, keys: torch.Tensor) -> Any:
        chosen = torch.from_numpy(uniform(keys.numpy(), 1)[:, 0] < self.share)
        return {"observation": start.observation, "t": torch.zeros(len(keys)), "chosen": chosen}

    def step(self, state: Any, action: torch.Tensor, *, uncertainty: bool = False) -> tuple[Any, Prediction]:
        t = state["t"] + 1
        bad = state["chosen"] & (t >= 3)
        if self.fault == "raise" and bad.any():
            raise RuntimeError("the model gave up")
        spoilt = torch.where(bad[:, None], torch.nan, state["observation"])
        observation = spoilt if self.fault == "nan" else state["observation"]
        doubt = {"wonder": t * state["chosen"], "other": torch.full_like(t, 7.0)} if uncertainty else None
        ends = (t >= 12).float()
        reward = action.double().sum(1)
        return {**state, "t": t}, Prediction(observation, reward=reward, terminated=ends, uncertainty=doubt)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must refuse, and give back the one sentence that it says."""
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err and len(said.err.strip().splitlines()) == 1
    return " ".join(said.err.split())


def asked(*words: str, out: Path) -> list[str]:
    return ["transfer", CARD.name, "--episodes", "3", "--no-progress", "--out", str(out), *words]


def test_a_model_of_another_task_is_refused_by_both_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(checkpoints.find("ensemble", task_card("Gym-Hopper"), kind="world_model") or "")
    said = refused(asked("--model", "oracle", str(other), out=tmp_path / "out"), capsys)
    assert "made for wmbench/Gym-Hopper-v0, asked for wmbench/Gym-InvertedPendulum-v0" in said
    assert not list((tmp_path / "out").glob("**/*.safetensors")), "the oracle was asked before the other was refused"


def test_a_model_without_a_head_is_refused_by_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world_model: Register
) -> None:
    name = world_model("endless", lambda task, device: Toy(task, heads=frozenset({"observation", "reward"})))
    said = refused(asked("--model", "oracle", name, out=tmp_path / "out"), capsys)
    assert "'toy' has no 'terminated' head" in said and "this task can terminate" in said
    with pytest.raises(MissingHeadError, match="terminated"):
        transfer(CARD, [name], episodes=1)


def test_a_policy_of_another_task_is_refused_by_both_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    folder = checkpoints.find("actor", task_card("Gym-Hopper"), kind="policy")
    words = ["zoo", CARD.name, "--policies", "zero", str(folder), "--out", str(tmp_path / "mine.json")]
    said = refused([*words, "--episodes", "2"], capsys)
    assert "made for wmbench/Gym-Hopper-v0, asked for wmbench/Gym-InvertedPendulum-v0" in said
    assert not (tmp_path / "mine.json").exists()
    said = refused(["transfer", "Gym-Hopper", "--zoo", str(made), "--out", str(tmp_path)], capsys)
    assert "made for wmbench/Gym-InvertedPendulum-v0" in said and "wmbench/Gym-Hopper-v0" in said


class Wide:
    """Acts in three dimensions."""

    def initial(self, batch_size: int) -> Any:
        return None

    def act(self, observation: np.ndarray, state: Any, *, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        return np.zeros((len(observation), 3), np.float32), state


class Foreign(Wide):
    """Says of itself that it is for another task."""

    task = task_card("Gym-HalfCheetah")


class Sees(Wide):
    """Wants pictures."""

    observation = "rgb"


class Fails:
    """Pushes gently; in the third of the zoo's episodes it fails at the fifth step, by an exception or by NaN."""

    how = "raise"

    def __init__(self) -> None:
        self.bad = keys_from_seeds([int(load_zoo(CARD).seed[2])])

    def initial(self, batch_size: int) -> Any:
        return {"first": np.zeros(batch_size, np.int64), "t": np.zeros(batch_size, np.int64)}

    def act(self, observation: np.ndarray, state: Any, *, keys: np.ndarray) -> tuple[np.ndarray, Any]:
        from wmbench.keys import fold_in

        first = np.where(state["t"] == 0, keys, state["first"])
        bad = (first == fold_in(self.bad, 0)) & (state["t"] == 4)
        action = (-observation[:, 1:2] - 0.2 * observation[:, 3:4]).astype(np.float32).clip(-3, 3)
        if self.how == "raise" and bad.any():
            raise RuntimeError("out of ideas")
        action[bad] = np.nan
        return action, {"first": first, "t": state["t"] + 1}


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, type], str]:
    """Function that registers a policy until the test ends."""

    def add(name: str, made: type) -> str:
        entry = type(name, (), {"for_task": staticmethod(lambda task, *, device="cpu": made())})
        monkeypatch.setitem(registry.policies._local, name, entry)
        return name

    return add


@pytest.mark.parametrize(
    ("made_of", "words"),
    [
        (Wide, ("actions of shape (3,)", "takes actions of shape (1,)")),
        (Foreign, ("Gym-HalfCheetah-v0 (17 observations, 6 actions)", "Gym-InvertedPendulum-v0 (4 observations, 1")),
        (Sees, ("acts on 'rgb'", "act on the state")),
    ],
)
def test_policies_of_other_spaces_are_refused_by_both(
    made_of: type,
    words: tuple[str, ...],
    policy: Any,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = policy("odd", made_of)
    said = refused(["zoo", CARD.name, "--policies", "zero", name, "--out", str(tmp_path / "mine.json")], capsys)
    assert all(word in said for word in words), said
    odd = wmbench.zoo.read_zoo(made, CARD)
    members = (replace(odd.members[0], reference=name), *odd.members[1:])
    monkeypatch.setattr(evaluation, "load_zoo", lambda card: replace(odd, members=members))
    said = refused(asked("--model", "oracle", out=tmp_path / "out"), capsys)
    assert "the zoo's 'expert'" in said and all(word in said for word in words), said


def test_weights_that_have_changed_since_the_truth_was_found_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    folder = checkpoints.save(Actor(ActorConfig((8,)), CARD), tmp_path / "mine", kind="policy", name="actor")
    words = ["--policies", "zero", str(folder), "--episodes", "3", "--out", str(tmp_path / "mine.json")]
    assert main(["zoo", CARD.name, *words]) == 0
    capsys.readouterr()
    zoo = wmbench.zoo.read_zoo(tmp_path / "mine.json", CARD)
    checkpoints.save(Actor(ActorConfig((8,)), CARD), folder, kind="policy", name="actor")
    said = refused(asked("--model", "oracle", "--zoo", str(tmp_path / "mine.json"), out=tmp_path / "out"), capsys)
    assert f"its true results were found with {zoo.members[1].weights[:12]}" in said and "'mine' has weights" in said


def test_what_a_command_line_gets_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be a folder" in refused(asked("--model", "oracle", out=tmp_path / "file"), capsys)
    assert "cannot be a folder" in refused(asked("--model", "oracle", out=tmp_path / "file" / "under"), capsys)
    assert "device 'abacus' cannot be used" in refused(
        asked("--model", "oracle", "--device", "abacus", out=tmp_path), capsys
    )
    assert "not a zoo" in refused(asked("--zoo", str(tmp_path / "no.json"), out=tmp_path), capsys)
    assert "has no 'expart'" in refused(asked("--policies", "expart", out=tmp_path), capsys)
    assert "asked for 0" in refused(asked("--model", "oracle", "--episodes", "0", out=tmp_path), capsys)
    assert "no task is called" in refused(["transfer", "DMC-Cartpol"], capsys)
    with pytest.raises(DeviceError):
        transfer(CARD, ["oracle"], episodes=1, device="abacus")


@pytest.mark.parametrize("fault", ["nan", "raise"])
def test_a_model_that_breaks_in_some_rows_loses_these_episodes_alone(
    fault: str, world_model: Register, zoo: Zoo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sound = world_model("sound", lambda task, device: Toy(task))
    broken = world_model("broken", lambda task, device: Toy(task, fault))
    chosen = uniform(keys_from_seeds(zoo.seed), 1)[:, 0] < 0.4  # (E,)
    assert 0 < chosen.sum() < EPISODES
    found = transfer(CARD, [sound, broken], episodes=EPISODES)
    fine, spoilt = found.recording.arrays["learned"]  # (H, K, E)
    assert np.isfinite(fine).all()
    np.testing.assert_array_equal(spoilt[:, :, ~chosen], fine[:, :, ~chosen])
    assert np.isnan(spoilt[:, :, chosen]).all()
    lost = found.facts["lost"]
    assert set(lost) == {"broken"} and len(lost["broken"]) == len(MEMBERS) * chosen.sum()
    reason = {"nan": "a prediction was not finite", "raise": "RuntimeError: the model gave up"}[fault]
    assert {(one["seed"], one["steps"], one["reason"]) for one in lost["broken"]} == {
        (int(seed), 3 if fault == "nan" else 2, reason) for seed in zoo.seed[chosen]
    }
    assert main(asked("--model", broken, "--episodes", str(EPISODES), out=tmp_path)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{len(lost['broken'])} episodes broke off" in said and reason in said
    assert reason in (tmp_path / "index.html").read_text()


def test_what_halts_an_episode_is_the_signal_that_the_model_names_first(world_model: Register, zoo: Zoo) -> None:
    name = world_model("unsure", lambda task, device: Toy(task, heads=HEADS | {"uncertainty"}))
    chosen = uniform(keys_from_seeds(zoo.seed), 1)[:, 0] < 0.4  # (E,)
    policy = checkpoints.resolve("random", CARD, kind="policy")
    seeds = zoo.seed.tolist()
    found = asking.rollout(CARD, policy, seeds, simulator=name, num_envs=4, uncertainty=True)
    for episode, doubtful in zip(found, chosen, strict=True):
        assert episode.extra["doubt"].tolist() == [float(t * doubtful) for t in range(1, 13)]
    plain, stopped = transfer(CARD, [name], episodes=EPISODES).recording.arrays["learned"]  # (H, K, E)
    np.testing.assert_array_equal(stopped[..., ~chosen], plain[..., ~chosen])
    assert (stopped[:, 3][..., chosen] != plain[:, 3][..., chosen]).all(), "the random policy's, which vary"


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_policy_that_breaks_in_one_episode_loses_it_alone(
    how: str, policy: Any, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fails, "how", "none")
    name = policy("fails", Fails)
    members = (*zoo.members[:2], replace(zoo.members[2], reference=name), zoo.members[3])
    monkeypatch.setattr(evaluation, "load_zoo", lambda card: replace(zoo, members=members))
    monkeypatch.setattr(Fails, "how", how)
    found = transfer(CARD, ["oracle"], episodes=EPISODES).recording.arrays["learned"][0]
    assert np.argwhere(np.isnan(found[-1])).tolist() == [[2, 2]]
    np.testing.assert_array_equal(found[:, [0, 1, 3]], zoo.returns[:, [0, 1, 3]])


def test_a_killed_study_goes_on_with_the_next_model(
    tmp_path: Path, world_model: Register, monkeypatch: pytest.MonkeyPatch, zoo: Zoo
) -> None:
    names = [world_model(f"toy-{i}", lambda task, device, i=i: Toy(task, share=i / 4)) for i in range(3)]
    ran: list[str] = []
    rollout = asking.rollout

    def counted(*args: Any, **options: Any) -> Any:
        ran.append(options["simulator"])
        if len(ran) == 2:
            raise KeyboardInterrupt
        return rollout(*args, **options)

    monkeypatch.setattr(asking, "rollout", counted)
    assert main(asked("--model", *names, out=tmp_path)) == 130
    assert not (tmp_path / "transfer.json").exists()
    found = transfer(CARD, names, episodes=3, out=tmp_path)
    assert ran == ["toy-0", "toy-1", "toy-1", "toy-2"] and found.facts["kept"] == ["toy-0"]
    again = transfer(CARD, [names[0], names[2]], episodes=3, out=tmp_path, outcome="success")
    assert len(ran) == 4 and again.facts["kept"] == ["toy-0", "toy-2"], "both outcomes come from one answer"
    assert len(transfer(CARD, names, episodes=3).facts["kept"]) == 0
    np.testing.assert_array_equal(
        transfer(CARD, names, episodes=3, out=tmp_path).recording.arrays["learned"],
        transfer(CARD, names, episodes=3).recording.arrays["learned"],
    )


def test_only_what_was_asked_in_the_same_way_is_kept(
    tmp_path: Path, world_model: Register, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = ["one"]
    name = world_model("toy", lambda task, device: Toy(task, revision[0]))
    transfer(CARD, [name], episodes=3, out=tmp_path)

    def kept(**options: Any) -> bool:
        return bool(transfer(CARD, [name], **{"episodes": 3, "out": tmp_path, **options}).facts["kept"])

    assert kept()
    assert not kept(episodes=4) and not kept(policies=["zero", "random"])
    revision[0] = "two"
    assert not kept()
    revision[0] = "one"
    assert kept()
    monkeypatch.setattr(evaluation, "load_zoo", lambda card: replace(zoo, digest="another"))
    assert not kept()


def test_a_damaged_answer_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked("--model", "oracle", out=tmp_path)) == 0
    capsys.readouterr()
    (part,) = (tmp_path / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:100])
    said = refused(asked("--model", "oracle", out=tmp_path), capsys)
    assert part.name in said and "remove it" in said
    with pytest.raises(DatasetError, match="damaged"):
        transfer(CARD, ["oracle"], episodes=3, out=tmp_path)


def test_a_record_says_which_zoo_and_which_models(tmp_path: Path, zoo: Zoo) -> None:
    transfer(CARD, ["oracle"], episodes=3, out=tmp_path)
    record = json.loads((tmp_path / "transfer.json").read_text())
    assert record["zoo"]["digest"] == zoo.digest and len(record["facts"]["models"]["oracle"]) == 64
    assert record["facts"]["lost"] == {}
    with pytest.raises(CheckpointError, match="ensemble"):
        transfer(CARD, ["ensemble"], episodes=1)
