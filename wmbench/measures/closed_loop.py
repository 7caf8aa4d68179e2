"""How far apart are the distributions that a policy meets in two simulators? A part of the measure ``exposure``."""

from __future__ import annotations

import numpy as np

from wmbench.measures.geometry import CAP, Geometry
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays
from wmbench.statistics import Interval, bootstrap_interval
from wmbench.statistics.clustered import norm_interval
from wmbench.statistics.transport import Seminorm, circular_wasserstein, energy_distance, mean_of, wasserstein

RESAMPLES = 1000
DEFINITIONS = {
    "closed-w1": Definition(
        "1", "lower", "Wasserstein-1 of each dimension's marginal in train std, mean over dimensions and steps"
    ),
    "closed-energy": Definition(
        "1", "lower", "energy distance of whole observations in train std, over sqrt(dimensions), mean over steps"
    ),
    "closed-return": Definition("reward", "none", "mean return in the model less that in the true simulator"),
}


def closed_loop(numbers: Numbers, arrays: Arrays, seen: np.ndarray, returns: np.ndarray) -> None:
    """Distances between what a policy met in some simulator and in the true one.

    Args:
        numbers: Takes the results.
        arrays: As :func:`wmbench.measures.exposure.exposure` takes them.
        seen: (E, K, O) observations, NaN where an episode broke off.
        returns: (E,), NaN where an episode is invalid.
    """
    episodes = len(seen)
    invalid = ~np.isfinite(returns) | ~np.isfinite(seen).all((1, 2))
    marginal, whole = _distances(arrays, seen)
    numbers.common = {"role": numbers.common["role"], "n_episodes": episodes, "steps": arrays["closed_step"].tolist()}
    equal = np.full((1, episodes), 1 / episodes)
    for name, norms in (("closed-w1", marginal), ("closed-energy", whole)):
        if not norms:
            numbers.none([name], "every dimension is constant in the train split", episodes)
            continue
        norm = mean_of(norms)
        by_step = [float(one(equal)[0]) for one in norms]
        value, lost = float(norm(equal)[0]), int(invalid.sum())
        numbers.add(name, value, _around(norm, episodes), episodes, lost, curve=by_step)
    true = arrays["return_true"]
    known = np.concatenate([true, returns])
    least = known[np.isfinite(known)].min(initial=np.inf)
    if not np.isfinite(least):
        numbers.none(["closed-return"], "no episode has a return", episodes)
        return
    mine, theirs = (np.where(np.isfinite(r), r, least) for r in (returns, true))
    value, lost = float((mine - theirs).mean()), int((~np.isfinite(returns)).sum())
    spread = float(theirs.std())
    numbers.add(
        "closed-return",
        value,
        bootstrap_interval(mine - theirs),
        episodes,
        lost,
        true=float(theirs.mean()),
        model=float(mine.mean()),
        in_std=value / spread if spread > 0 else None,
    )


def _around(norm: Seminorm, episodes: int) -> Interval | None:
    return norm_interval(lambda w: w / w.sum(1, keepdims=True), norm, episodes, resamples=RESAMPLES)


def _distances(arrays: Arrays, seen: np.ndarray) -> tuple[list[Seminorm], list[Seminorm]]:
    """Distance of the marginals, and of whole observations, at each step."""
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    low, high = (np.asarray(arrays[f"observation_{end}"], dtype=np.float64) for end in ("low", "high"))
    keep = geometry.varies(arrays["observation_std"], low, high)
    scale = geometry.scale(arrays["observation_std"])
    marginal: list[Seminorm] = []
    whole: list[Seminorm] = []
    for k in range(len(arrays["closed_step"])):
        single: list[Seminorm] = []
        embedded: list[np.ndarray] = []
        for kind, columns, size, kept in zip(geometry.kinds, geometry.columns, scale, keep, strict=True):
            if not kept:
                continue
            if kind == "angle":
                two = np.stack([arrays["closed_true"][:, k, columns], seen[:, k, columns]]).astype(np.float64)[..., 0]
                bad = ~np.isfinite(two)
                turn = np.where(bad, 0.0, two)
                points = np.stack([np.sin(turn), np.cos(turn)], -1) / size
                points[bad] = CAP
                embedded.append(points)
                if bad.any():
                    single.append(wasserstein(*np.where(bad, CAP, 0.0)))
                else:
                    single.append(_scaled(circular_wasserstein(*turn), size))
            else:
                middle = ((low + high) / 2)[columns] if kind == "linear" else np.zeros(4)
                points = np.stack([_plain(x[:, k, columns], kind, middle, size) for x in (arrays["closed_true"], seen)])
                embedded.append(points)
                parts = [wasserstein(*points[..., i]) for i in range(points.shape[-1])]
                single.append(mean_of(parts))
        if single:
            marginal.append(mean_of(single))
            x, y = np.concatenate(embedded, axis=-1)  # (E, D') each
            whole.append(_scaled(energy_distance(x, y), np.sqrt(len(single))))
    return marginal, whole


def _plain(values: np.ndarray, kind: str, middle: np.ndarray, scale: float) -> np.ndarray:
    """(E, C) numbers in standard deviations, at most CAP from the middle; what is not finite is there."""
    found = values.astype(np.float64)
    if kind == "quaternion":
        found = np.where(found[:, :1] < 0, -found, found)  # q and -q are the same rotation
    with np.errstate(over="ignore", invalid="ignore"):
        found = (found - middle) / scale
    return np.clip(np.where(np.isfinite(found), found, CAP), -CAP, CAP)


def _scaled(norm: Seminorm, scale: float) -> Seminorm:
    return lambda p: norm(p) / scale
