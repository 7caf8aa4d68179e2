"""Do actions sit beside the observations they act on? Fits f(o_t, a_{t+k}) to o_{t+1} - o_t and compares the shifts k.

An off-by-one between actions and observations is the commonest silent fault of recorded robot data: models
still train on it, badly. If recorded correctly, the action at k = 0 explains the next change of the
observation better than its neighbours do, on episodes that the fit has not seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wmbench.cards import TaskCard
from wmbench.episodes.dataset import Dataset
from wmbench.episodes.statistics import difference
from wmbench.errors import DatasetError

SHIFTS = (-2, -1, 0, 1, 2)
FOLDS = 5
FEATURES = 300
PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Ridge penalties, of which the one that serves f(o_t) best is used for all."""

LIMIT = 8000
"""Transitions used at most."""
BLOCK = 25
"""Steps whose errors are averaged into one item for the comparison of shifts."""
SIGMAS = 4.0
GAIN = 0.01
"""An action explains something if it lowers the error by this share."""
CLOSED_LOOP = 0.5
"""Share of the actions' variance that observations may explain before cause and effect cannot be told apart;
half of it before a dataset is called shifted."""


@dataclass(frozen=True)
class Alignment:
    """Outcome of the check.

    Attributes:
        verdict: ``"aligned"``, ``"shifted"`` or ``"cannot tell"``.
        reason: One sentence with the numbers behind it.
        best: The shift with the lowest error.
        errors: Shift k to held-out error of f(o_t, a_{t+k}): mean squared error in units of each dimension's
            variance, 1 meaning no better than the mean.
        without_action: The same for f(o_t).
        action_from_observation: Share of the actions' variance that o_t explains, held out.
        transitions: How many were used.
        episodes: From how many episodes.
        sources: From which sources.
    """

    verdict: Literal["aligned", "shifted", "cannot tell"]
    reason: str
    best: int
    errors: dict[int, float]
    without_action: float
    action_from_observation: float
    transitions: int
    episodes: int
    sources: tuple[str, ...]


def check_alignment(dataset: Dataset, *, seed: int = 0) -> Alignment:
    """Check a dataset, on its random episodes if it has enough of them.

    Args:
        dataset: At least one episode of ten steps.
        seed: Of the random features.

    Raises:
        DatasetError: No episode is long enough.
    """
    names = list(dataset.manifest["counts"]["source"])
    random = [name for name in names if re.fullmatch(r"random([(+].*)?", name)]
    chosen = np.flatnonzero(np.isin(dataset.index["source"], random))
    open_loop = dataset.index["length"][chosen].sum() >= 500
    if not open_loop:
        random, chosen = names, np.arange(len(dataset))
    rng = np.random.default_rng(seed)
    pairs, used = [], 0
    for i in rng.permutation(chosen):
        fields = dataset.arrays(int(i))
        pairs.append((fields["observation"], fields["action"]))
        used += len(fields["action"])
        if used >= LIMIT:
            break
    return compare_shifts(pairs, dataset.task, open_loop=bool(open_loop), sources=tuple(random), seed=seed)


def compare_shifts(
    episodes: list[tuple[np.ndarray, np.ndarray]],
    task: TaskCard,
    *,
    open_loop: bool,
    sources: tuple[str, ...] = (),
    seed: int = 0,
) -> Alignment:
    """Compare the shifts on plain arrays.

    Args:
        episodes: Pairs of observation (T + 1, O) and action (T, A).
        task: For the kinds of the observation's dimensions.
        open_loop: Whether the actions are known not to depend on the observations.
        sources: Where they come from, for the record.
        seed: Of the random features.

    Raises:
        DatasetError: No episode is long enough.
    """
    reach = max(SHIFTS)
    observation, target, fold, block = [], [], [], []
    actions: dict[int, list[np.ndarray]] = {k: [] for k in SHIFTS}
    long_enough = [(o, a) for o, a in episodes if len(a) >= 2 * reach + 6]
    if not long_enough:
        raise DatasetError(f"{task.id}: the alignment check needs an episode of at least {2 * reach + 6} steps")
    number = 0
    for e, (o, a) in enumerate(long_enough):
        t = np.arange(reach, len(a) - reach)
        observation.append(_plain(o[t], task))
        target.append(difference(o[t + 1], o[t], task.observation))
        for k in SHIFTS:
            actions[k].append(a[t + k].astype(np.float64))
        few = len(long_enough) < FOLDS  # then consecutive parts of the episodes take their place
        fold.append(np.arange(len(t)) * FOLDS // len(t) if few else np.full(len(t), e % FOLDS))
        block.append(number + np.arange(len(t)) // BLOCK)
        number = int(block[-1][-1]) + 1
    folds, blocks = np.concatenate(fold), np.concatenate(block)
    x, y = _scale(np.concatenate(observation)), _scale(np.concatenate(target))
    u = {k: _scale(np.concatenate(actions[k])) for k in SHIFTS}
    rng = np.random.default_rng(seed)
    from_state = _features(x, rng)
    penalty = min(PENALTIES, key=lambda p: float(_held_out(from_state, y, folds, p).mean()))
    none = _held_out(from_state, y, folds, penalty)
    varies = u[0].shape[1] > 0
    explained = 1 - float(_held_out(from_state, u[0], folds, penalty).mean()) if varies else 0.0
    per_row = {k: _held_out(_features(np.hstack([x, u[k]]), rng), y, folds, penalty) for k in SHIFTS}

    counts = np.bincount(blocks)
    blockwise = {k: np.bincount(blocks, e) / counts for k, e in per_row.items()}
    blockwise_none = np.bincount(blocks, none) / counts
    errors = {k: float(e.mean()) for k, e in per_row.items()}
    best = min(errors, key=lambda k: errors[k])
    rivals = [k for k in SHIFTS if k != best]
    closest = min(rivals, key=lambda k: _sigmas(blockwise[k] - blockwise[best]))
    lead = _sigmas(blockwise[closest] - blockwise[best])
    gain = 1 - errors[best] / float(none.mean())
    verdict: Literal["aligned", "shifted", "cannot tell"] = "cannot tell"
    if gain < GAIN or _sigmas(blockwise_none - blockwise[best]) < SIGMAS:
        reason = f"no action explains the change of the observation (the best lowers the error by {max(gain, 0):.1%})"
    elif not open_loop and explained > (CLOSED_LOOP if best == 0 else CLOSED_LOOP / 2):
        reason = (
            f"observations explain {explained:.0%} of the actions, so a later action gives its observation away; "
            "collect some episodes with the policy 'random'"
        )
    elif lead < SIGMAS:
        reason = f"k = {best} and k = {closest} explain the change equally well ({lead:.1f} standard errors apart)"
    else:
        verdict = "aligned" if best == 0 else "shifted"
        beside = (
            "as it should"
            if best == 0
            else f"so each action belongs {abs(best)} step(s) {'earlier' if best > 0 else 'later'}"
        )
        reason = f"the action at k = {best} explains the change best, by {lead:.1f} standard errors, {beside}"
    return Alignment(
        verdict=verdict,
        reason=reason,
        best=best,
        errors=errors,
        without_action=float(none.mean()),
        action_from_observation=explained,
        transitions=len(y),
        episodes=len(long_enough),
        sources=sources,
    )


def _plain(observation: np.ndarray, task: TaskCard) -> np.ndarray:
    """Observations (N, O) in float64 with angles replaced by their sines and cosines."""
    values = observation.astype(np.float64)
    angle = np.array([d.kind == "angle" for d in task.observation])
    return np.hstack([values[:, ~angle], np.sin(values[:, angle]), np.cos(values[:, angle])])


def _scale(values: np.ndarray) -> np.ndarray:
    """Zero mean, unit variance, outliers cut at five deviations; dimensions that do not vary are left out."""
    std = values.std(0)
    keep = std > 1e-9
    return np.clip((values[:, keep] - values[:, keep].mean(0)) / std[keep], -5, 5)


def _features(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, F): one, the inputs, and random Fourier features of them (Rahimi and Recht 2007)."""
    width = rng.standard_normal((z.shape[1], FEATURES)) / np.sqrt(2 * max(z.shape[1], 1))
    waves = np.cos(z @ width + rng.uniform(0, 2 * np.pi, FEATURES)) * np.sqrt(2 / FEATURES)
    return np.hstack([np.ones((len(z), 1)), z, waves])


def _held_out(features: np.ndarray, y: np.ndarray, folds: np.ndarray, penalty: float) -> np.ndarray:
    """(N,) squared error of ridge regression, mean over dimensions, each row predicted from the other folds."""
    parts = {f: (features[folds == f], y[folds == f]) for f in np.unique(folds)}
    gram = {f: (x.T @ x, x.T @ t) for f, (x, t) in parts.items()}
    total_x, total_y = sum(g for g, _ in gram.values()), sum(g for _, g in gram.values())
    errors = np.empty(len(y))
    for f, (x, t) in parts.items():
        ridge = penalty * np.eye(features.shape[1])
        weights = np.linalg.solve(total_x - gram[f][0] + ridge, total_y - gram[f][1])
        errors[folds == f] = ((x @ weights - t) ** 2).mean(1)
    return errors


def _sigmas(differences: np.ndarray) -> float:
    """Mean over standard error."""
    spread = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.inf
    return float(differences.mean() / max(spread, 1e-12))
