"""Checkpoints: what was saved comes back, and nothing unsafe, damaged or foreign is ever loaded."""

import json
import pickle
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from safetensors.torch import save_file

from wmbench import checkpoints, registration, registry
from wmbench.cards import ModelCard
from wmbench.errors import CheckpointError, NotRegisteredError


@dataclass(frozen=True)
class Config:
    width: int = 4
    rate: float = 0.5
    mode: Literal["a", "b"] = "a"
    layers: tuple[int, ...] = (2, 3)
    note: str | None = None
    flag: bool = False

    def __post_init__(self):
        if self.width < 1:
            raise ValueError("width must be positive")


class Model(torch.nn.Module):
    """A world model as small as can be."""

    Config = Config

    def __init__(self, config, task):
        super().__init__()
        self.config, self.task = config, task
        self.layer = torch.nn.Linear(3, config.width)
        self.register_buffer("scale", torch.ones(3, dtype=torch.float64))
        self.card = ModelCard("toy-model", (task.id,), frozenset({"observation"}), "x", "u", "tests", "none")


class Policy(Model):
    def __init__(self, config, task):
        super().__init__(config, task)
        self.card = {"name": "toy-policy"}


@pytest.fixture(autouse=True)
def installed(toy_card):
    """The toy task, model and policy are registered while a test runs."""
    registry.envs.add("toy-family", (toy_card,))
    registry.world_models.add("toy-model", Model)
    registry.policies.add("toy-policy", Policy)
    registration.task_cards.cache_clear()
    yield
    registry.envs.remove("toy-family")
    registry.world_models.remove("toy-model")
    registry.policies.remove("toy-policy")
    registration.task_cards.cache_clear()


@pytest.fixture
def saved(tmp_path, toy_card):
    """A model and the folder of its checkpoint."""
    torch.manual_seed(0)
    model = Model(Config(width=5, layers=(1, 2, 3), note="x"), toy_card)
    bank = {"observation": torch.randn(7, 3), "seed": torch.arange(7)}
    folder = checkpoints.save(
        model, tmp_path / "c", kind="world_model", name="toy-model", bank=bank, provenance={"seed": 3}
    )
    return model, folder


def edit(folder, **changes):
    path = folder / checkpoints.CONFIG
    data = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del data[key]
        else:
            data[key] = value
    path.write_text(json.dumps(data))


def load(folder, **options):
    return checkpoints.load(folder, kind="world_model", **options)


def test_round_trip(saved, toy_card):
    model, folder = saved
    loaded = load(folder, task=toy_card)
    assert loaded.config == model.config and loaded.card == model.card and loaded.task == toy_card
    assert not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before)
    bank = checkpoints.load_bank(folder)
    assert bank["observation"].shape == (7, 3) and bank["seed"].dtype == torch.int64
    assert checkpoints.read_config(folder)["provenance"] == {"seed": 3}
    assert sorted(p.name for p in folder.iterdir()) == ["bank.safetensors", "config.json", "model.safetensors"]


def test_a_policy_is_no_world_model(tmp_path, toy_card):
    folder = checkpoints.save(Policy(Config(), toy_card), tmp_path / "p", kind="policy", name="toy-policy")
    assert checkpoints.load(folder, kind="policy").card == {"name": "toy-policy"}
    assert checkpoints.load_bank(folder) is None
    with pytest.raises(CheckpointError, match="this is a policy, a world_model is needed"):
        load(folder)


class Bomb:
    """Unpickling it would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.safetensors", "weights.bin"])
def test_a_pickle_is_refused_and_never_run(tmp_path, name, toy_card):
    trace, file = tmp_path / "trace", tmp_path / name
    file.write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(CheckpointError, match="pickles"):
        load(file)
    with pytest.raises(CheckpointError, match=r"pickle|damaged"):
        checkpoints.load_tensors(file)
    with pytest.raises(CheckpointError, match="pickles"):
        checkpoints.resolve(str(file), toy_card, kind="world_model")
    assert not trace.exists()


def test_a_pickle_in_place_of_the_weights(saved, tmp_path):
    _, folder = saved
    (folder / checkpoints.WEIGHTS).write_bytes(pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a safetensors file or is damaged"):
        load(folder)
    torch.save({"x": torch.zeros(1)}, folder / checkpoints.BANK)
    with pytest.raises(CheckpointError, match=r"bank\.safetensors is not a safetensors file"):
        checkpoints.load_bank(folder)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_truncated_weights(saved, keep):
    _, folder = saved
    path = folder / checkpoints.WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load(folder)


def test_absent_weights(saved):
    _, folder = saved
    (folder / checkpoints.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        load(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_read(saved, tmp_path, toy_card, value):
    model, folder = saved
    tensors = model.state_dict()
    tensors["layer.weight"][0, 1] = value
    with pytest.raises(CheckpointError, match=r"'layer\.weight' holds NaN or infinite"):
        checkpoints.save(model, tmp_path / "new", kind="world_model", name="toy-model")
    assert not (tmp_path / "new").exists()
    with pytest.raises(CheckpointError, match="'observation' holds NaN"):
        bank = {"observation": torch.tensor([[value]])}
        checkpoints.save(Model(Config(), toy_card), folder, kind="world_model", name="toy-model", bank=bank)
    assert load(folder).config.width == 5  # what was there is still there
    save_file(tensors, folder / checkpoints.WEIGHTS)
    with pytest.raises(CheckpointError, match=r"'layer\.weight' holds NaN or infinite"):
        load(folder)
    save_file({"observation": torch.tensor([value])}, folder / checkpoints.BANK)
    with pytest.raises(CheckpointError, match="'observation' holds NaN or infinite"):
        checkpoints.load_bank(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 5, "depth": 3}, r"unknown config fields \['depth'\]; Config has"),
        ({"width": "5"}, "config field 'width' is '5', expected"),
        ({"width": 5.0}, "config field 'width'"),
        ({"width": True}, "config field 'width'"),
        ({"width": None}, "config field 'width'"),
        ({"rate": "fast"}, "config field 'rate'"),
        ({"rate": True}, "config field 'rate'"),
        ({"mode": "c"}, "config field 'mode'"),
        ({"layers": [1, "2"]}, "config field 'layers'"),
        ({"layers": 3}, "config field 'layers'"),
        ({"note": 3}, "config field 'note'"),
        ({"flag": 1}, "config field 'flag'"),
        ({"width": 0}, "width must be positive"),
    ],
)
def test_config_fields_are_checked(saved, changes, words):
    _, folder = saved
    edit(folder, config=changes)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


def test_whole_numbers_may_stand_for_real_ones(saved):
    _, folder = saved
    edit(folder, config={"width": 5, "rate": 1, "note": None, "layers": []})
    assert load(folder).config == Config(width=5, rate=1.0, layers=())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"format": None}, "format None"),
        ({"kind": "planner"}, "unknown kind 'planner'"),
        ({"kind": ["policy"]}, "'kind' must be a str"),
        ({"name": "no-such-model"}, "names an unknown class: no world model is called 'no-such-model'"),
        ({"name": 7}, "'name' must be a str"),
        ({"task": "wmbench/Toy-Gone-v0"}, "made for a task that is not installed"),
        ({"task_digest": "0" * 64}, "has changed since this checkpoint was made; train it again"),
        ({"config": [1]}, "'config' must be a dict"),
        ({"card": "none"}, "'card' must be a dict"),
        ({"card": {"name": "x"}}, "not a model card"),
        ({"card": None}, "the field 'card' is missing"),
        ({"provenance": None}, "the field 'provenance' is missing"),
        ({"config": {"width": 6}}, "does not fit its config"),
    ],
)
def test_config_file_is_checked(saved, changes, words):
    _, folder = saved
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "\x00\x01", '{"format": 1'])
def test_config_file_that_is_no_object(saved, text):
    _, folder = saved
    (folder / checkpoints.CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)
    (folder / checkpoints.CONFIG).write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load(folder)


def test_weights_of_another_model(saved):
    _, folder = saved
    save_file({"other": torch.zeros(1)}, folder / checkpoints.WEIGHTS)
    with pytest.raises(CheckpointError, match="does not fit its config"):
        load(folder)


def test_another_task_is_refused(saved):
    _, folder = saved
    with pytest.raises(CheckpointError, match=r"made for wmbench/Toy-Point-v0, asked for wmbench/Gym-Hopper-v0"):
        load(folder, task="Gym-Hopper")
    assert load(folder, task="Toy-Point").task.id == "wmbench/Toy-Point-v0"


def test_a_write_that_dies_leaves_no_checkpoint_of_two_halves(saved, monkeypatch, toy_card):
    _, folder = saved
    other = Model(Config(width=5), toy_card)
    real = checkpoints.write_json

    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_json", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(other, folder, kind="world_model", name="toy-model")
    with pytest.raises(CheckpointError, match="not a checkpoint folder"):  # never old settings with new weights
        load(folder)
    monkeypatch.setattr(checkpoints, "write_json", real)
    checkpoints.save(other, folder, kind="world_model", name="toy-model")
    assert torch.equal(load(folder).layer.weight, other.layer.weight)
    assert checkpoints.load_bank(folder) is None  # nor an old bank with a new model
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_references(saved, toy_card, tmp_path):
    _, folder = saved
    assert checkpoints.find(str(folder), toy_card, kind="world_model") == folder
    assert checkpoints.resolve(str(folder), toy_card, kind="world_model").config.width == 5
    for reference, words in (
        (str(tmp_path / "gone"), "there is no checkpoint folder"),
        ("toy-mdoel", "neither a checkpoint folder nor a registered world_model.*did you mean 'toy-model'"),
        ("toy-model", "no 'toy-model' is shipped for wmbench/Toy-Point-v0 .*wmbench train toy-model --task Toy-Point"),
    ):
        with pytest.raises(CheckpointError, match=words):
            checkpoints.resolve(reference, toy_card, kind="world_model")
    with pytest.raises(NotRegisteredError):
        load(folder, task="Gym-Hoper")


def test_every_shipped_checkpoint_loads():
    """Fails when a card or a class changes under what is shipped."""
    shipped = registration.shipped_checkpoints()
    assert {task for name, task in shipped if name == "ensemble"} >= {
        "wmbench/Gym-HalfCheetah-v0",
        "wmbench/Gym-Hopper-v0",
        "wmbench/DMC-CartpoleSwingup-v0",
    }
    for (name, task), folder in shipped.items():
        kind = checkpoints.read_config(folder)["kind"]
        model = checkpoints.load(folder, kind=kind, task=task)
        if kind == "world_model":
            bank = checkpoints.load_bank(folder)
            assert bank is not None and bank["observation"].shape[1] == len(model.task.observation), name
