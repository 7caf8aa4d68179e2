"""Records what models say about their own errors, beside four signals that cost nothing to have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from wmbench.episodes import Dataset
from wmbench.errors import MissingHeadError
from wmbench.protocols import WorldModel
from wmbench.recording.drift import Windows, cut_windows, imagine
from wmbench.recording.store import Recording
from wmbench.recording.subjects import check_models, describe
from wmbench.recording.trivial import Trivial

DRAWS = 39
"""Draws of a model that draws its predictions: their ranks give central intervals at 5 %, 10 %, ..., 95 %."""

GROUPS = {"near": 0.5, "far": 5.0}
"""How far every dimension of a state is moved from the data: normal noise of so many train standard deviations."""

MARGINAL = "marginal"
"""The subject that predicts the train split's mean change and its standard deviation, whatever it sees."""


def record_uncertainty(
    models: Mapping[str, WorldModel],
    dataset: Dataset,
    *,
    split: str = "test",
    horizon: int = 20,
    windows: int = 400,
    draws: int = DRAWS,
    seed: int = 0,
) -> Recording:
    """Follow every model along open loops with its uncertainty, on the split and on the train split.

    A model whose first two answers from the same states differ is one that draws them: its distribution is recorded as
    ``draws`` draws of one step. Of any other it is the Gaussian of its observation and ``observation_std``, if it has
    one. Signals are those that its card names, in that order, and the root mean variance (``std``) last. The trivial
    ones are a ``constant``; ``motion``, the size of the predicted change; ``nearest``, the distance from the state to
    the nearest of up to 5,000 of the train split; and ``linear-spread``, the disagreement of five linear models fitted
    to resampled train episodes; all in train standard deviations.

    Args:
        models: Name to model, all of the dataset's task.
        dataset: Where the windows come from.
        split: Which split is scored.
        horizon: H, steps of a window.
        windows: W, of each of the two splits.
        draws: K.
        seed: Of the choice of windows, of the models' keys and of the noise.

    Raises:
        DatasetError: A model of another task, or an empty split.
        MissingHeadError: A model does not give a signal that its card names.
    """
    check_models(models, dataset)
    cut = cut_windows(dataset, split, windows, horizon, seed)
    train = cut_windows(dataset, "train", windows, horizon, seed)
    trivial = Trivial(dataset, seed)
    moved = {name: _moved(cut, dataset, distance, seed) for name, distance in GROUPS.items()}
    found = [_Answers(model, cut, train, moved, draws, seed) for model in models.values()]
    delta = dataset.stats["delta"]
    count, shape = len(models) + 1, cut.truth[:, 1:].shape
    prediction, train_prediction = np.zeros((count, *shape)), np.zeros((count, *shape))
    std = np.zeros((count, windows, shape[-1]))
    draw = np.zeros((count, draws, windows, shape[-1]), np.float32)
    signals: list[_Signal] = []
    for m, (name, answers) in enumerate(zip(models, found, strict=True)):
        prediction[m], train_prediction[m] = answers.test["observation"], answers.train["observation"]
        if answers.draws is not None:
            draw[m] = answers.draws
        if answers.has_std:
            std[m] = answers.test["observation_std"][:, 0]
        signals += answers.signals(name, delta["std"])
        signals += _trivial(trivial, name, answers, cut, moved)
    steps = 1 + np.arange(horizon)[:, None]
    prediction[-1] = cut.truth[:, :1] + steps * delta["mean"]
    train_prediction[-1] = train.truth[:, :1] + steps * delta["mean"]
    std[-1] = delta["std"]
    groups = ["nominal", *moved]
    blank = np.zeros((0, windows, horizon)), np.zeros((0, len(groups) * windows))
    with np.errstate(over="ignore"):
        arrays = {
            "subject": np.array([*models, MARGINAL]),
            "role": np.array(["model"] * len(models) + ["baseline"]),
            "truth": cut.truth,
            "valid": cut.valid,
            "episode": cut.episode,
            "step": cut.step,
            "prediction": prediction.astype(np.float32),
            "train_truth": train.truth,
            "train_valid": train.valid,
            "train_prediction": train_prediction.astype(np.float32),
            "signal": np.array([s.name for s in signals], dtype=np.str_),
            "signal_subject": np.array([s.subject for s in signals], dtype=np.str_),
            "signal_role": np.array([s.role for s in signals], dtype=np.str_),
            "signal_value": np.stack([s.value for s in signals]) if signals else blank[0],
            "group": np.repeat(groups, windows),
            "group_episode": np.tile(cut.episode, len(groups)),
            "group_value": np.stack([s.group for s in signals]) if signals else blank[1],
            "group_asked": np.array([s.asked for s in signals], dtype=bool),
            "draws": np.array([0 if f.draws is None else draws for f in found] + [0]),
            "draw": draw,
            "has_std": np.array([f.has_std for f in found] + [True]),
            "prediction_std": std.astype(np.float32),
            **describe(dataset),
        }
    meta = {"task": dataset.task.id, "dataset": dataset.digest, "split": split, "seed": seed, "groups": GROUPS}
    return Recording("uncertainty", arrays, meta)


@dataclasses.dataclass(frozen=True)
class _Signal:
    """One signal of one subject: (W, H) along the windows, (G,) one step from each group's states."""

    name: str
    subject: str
    role: str
    value: np.ndarray
    group: np.ndarray
    asked: bool


class _Answers:
    """What one model was asked."""

    def __init__(
        self, model: WorldModel, cut: Windows, train: Windows, moved: Mapping[str, Windows], draws: int, seed: int
    ) -> None:
        self.test = imagine(model, cut, seed, uncertainty=True)
        self.train = imagine(model, train, seed)
        once = _first(cut)
        start = (seed + 1) * 1_000_003  # other keys than those of the rollouts
        first = self.test["observation"][:, 0]
        second = imagine(model, once, start)["observation"][:, 0]
        self.draws: np.ndarray | None = None
        if not np.array_equal(first, second, equal_nan=True):
            rest = [imagine(model, once, start + k)["observation"][:, 0] for k in range(1, draws)]
            self.draws = np.stack([second, *rest])
        self.has_std = self.draws is None and "observation_std" in self.test
        self.names = [f"uncertainty/{name}" for name in model.card.uncertainty]
        if lacking := [name for name in self.names if name not in self.test]:
            raise MissingHeadError(
                f"model {model.card.name!r} names the signals {list(model.card.uncertainty)} in its card "
                f"and did not give {lacking[0].removeprefix('uncertainty/')!r}"
            )
        self.names += sorted(k for k in self.test if k.startswith("uncertainty/") and k not in self.names)
        self.names += ["observation_std"] if "observation_std" in self.test else []
        # a model without uncertainty has nothing to say about states that the simulator never was in
        self.moved = {k: imagine(model, w, seed, uncertainty=True) for k, w in moved.items()} if self.names else {}

    def signals(self, subject: str, scale: np.ndarray) -> list[_Signal]:
        """The model's own signals, preferred ones first."""

        def of(answers: Mapping[str, np.ndarray], name: str) -> np.ndarray:
            if name != "observation_std":
                return answers[name]
            relative = np.divide(answers[name], scale, out=np.zeros_like(answers[name]), where=scale > 0)
            return np.sqrt((relative**2).mean(-1))

        found = []
        for name in self.names:
            value = of(self.test, name)
            group = np.concatenate([value[:, 0], *(of(answers, name)[:, 0] for answers in self.moved.values())])
            short = "std" if name == "observation_std" else name.removeprefix("uncertainty/")
            found.append(_Signal(short, subject, "own", value, group, True))
        return found


def _trivial(
    rule: Trivial, subject: str, answers: _Answers, cut: Windows, moved: Mapping[str, Windows]
) -> list[_Signal]:
    """The four of one subject along the windows, and from each group's states if the model was asked there."""
    windows, horizon = cut.valid.shape
    before = np.concatenate([cut.truth[:, :1], answers.test["observation"][:, :-1]], axis=1)
    flat = [x.reshape(windows * horizon, -1) for x in (before, cut.action, answers.test["observation"])]
    along = {name: value.reshape(windows, horizon) for name, value in rule(*flat).items()}
    asked = bool(answers.moved)
    groups = {name: [value[:, 0]] for name, value in along.items()}
    for name, where in moved.items():
        there = answers.moved[name]["observation"][:, 0] if asked else where.truth[:, 0]
        for signal, value in rule(where.truth[:, 0], where.action[:, 0], there).items():
            groups[signal].append(value)
    return [_Signal(name, subject, "trivial", along[name], np.concatenate(groups[name]), asked) for name in along]


def _first(cut: Windows) -> Windows:
    """Only the first step."""
    return dataclasses.replace(cut, action=cut.action[:, :1], valid=cut.valid[:, :1])


def _moved(cut: Windows, dataset: Dataset, distance: float, seed: int) -> Windows:
    """First steps from states off the data: every dimension moved by normal noise, the action kept."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    noise = rng.normal(size=cut.truth[:, :1].shape) * (distance * dataset.stats["observation"]["std"])
    once = _first(cut)
    return dataclasses.replace(once, truth=(cut.truth[:, :1] + noise).astype(np.float32), state=None)
