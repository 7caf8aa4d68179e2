"""What planning in the model costs against planning in the truth: under iterated pressure, and in a closed loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays
from wmbench.measures.sums import Sums
from wmbench.statistics import agresti_caffo, paired_difference

_BY = "over what planning in the truth gains on the mean random plan"
_PLAN = f"best plan of the cross-entropy method, {_BY}"
ITERATED = {
    "systematic-iterated": Definition(
        "1", "none", f"{_PLAN}: gap less that of planning in the truth with noise; 0 is right"
    ),
    "gap-iterated": Definition("1", "none", f"{_PLAN}: imagined less true return; 0 is right"),
    "curse-iterated": Definition("1", "none", f"{_PLAN}: imagined less true return when planning in noise"),
    "true-gain-iterated": Definition("1", "higher", f"{_PLAN}: true return less the mean random plan's"),
}
CLOSED = {
    "cpg": Definition(
        "1", "lower", "success of the planner in the true simulator less that in the model, same candidates and starts"
    ),
    "cpg-return": Definition(
        "reward",
        "lower",
        "return of the stretch of the planner in the true simulator less that in the model, same candidates and starts",
    ),
}
PLANNING = {**ITERATED, **CLOSED}


def planning_gap(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """Iterated pressure and the Counterfactual Planning Gap of one subject."""
    _iterated(numbers, arrays, m)
    _closed(numbers, arrays, m)


def _iterated(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """The best plan so far after each iteration of the cross-entropy method."""
    true, oracle = arrays["true"], arrays["oracle_true"]
    n, iterations = oracle.shape
    if not iterations:
        numbers.none(ITERATED, "no planning was recorded", n)
        return
    mean, low = true.mean(1, keepdims=True), true.min(1, keepdims=True)
    gain = oracle[:, -1] - mean[:, 0]  # (N,)
    sums = Sums(arrays["episode"])
    if not gain.sum() > 0:
        numbers.none(ITERATED, "planning in the truth gains nothing on random plans", n)
        return

    def of(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True return less the mean, gap, and which plans were none."""
        imagined, real = arrays[f"{kind}_imagined"][m], arrays[f"{kind}_true"][m]
        lost = ~np.isfinite(imagined)
        real = np.where(lost, low, real)
        hoped = np.where(lost, np.maximum(oracle, true.max(1, keepdims=True)), imagined)
        return real - mean, hoped - real, lost.any(1)

    (found, gap, lost), (_, curse, _) = of("cem"), of("noise")
    n_invalid = int(lost.sum())
    parts = {
        "systematic-iterated": gap - curse,
        "gap-iterated": gap,
        "curse-iterated": curse,
        "true-gain-iterated": found,
    }
    for name, part in parts.items():
        value, interval = sums.ratio(part[:, -1], gain)
        curve = {
            "iteration": list(range(1, iterations + 1)),
            "value": [sums.ratio(part[:, i], gain)[0] for i in range(iterations)],
            "reward": part.mean(0).tolist(),
        }
        numbers.add(name, value, interval, n, n_invalid, n_episodes=sums.clusters, curve=curve)


def _closed(numbers: Numbers, arrays: Arrays, m: int) -> None:
    """The same planner in the truth and in the model, acting in the truth."""
    pressures, episode = arrays["pressure"].tolist(), arrays["drive_episode"]
    n = len(episode)
    if not (n and pressures):
        numbers.none(CLOSED, "no planner was recorded in a closed loop", n)
        return
    sums, ones = Sums(episode), np.ones(n)
    lost = arrays["drive_planless"][m]  # (E, L)
    acted = arrays["drive_return"][arrays["has_reward"]]  # without rewards nobody drove, and zeros are no returns
    worst = np.concatenate([acted, arrays["oracle_return"][None]]).min((0, 2))  # (E,)
    for k in np.argsort(-arrays["pressure"], kind="stable").tolist():
        suffix = "" if pressures[k] == max(pressures) else f":{pressures[k]}"
        n_invalid = int(lost[:, k].sum())
        ours = arrays["drive_success"][m, :, k] & ~lost[:, k]
        oracle = arrays["oracle_success"][:, k]
        common: dict[str, Any] = {"n_episodes": sums.clusters, "candidates": pressures[k]}
        numbers.add(
            f"cpg{suffix}",
            float(oracle.mean() - ours.mean()),
            agresti_caffo(int(oracle.sum()), n, int(ours.sum()), n),
            n,
            n_invalid,
            reason=None if oracle.any() else "not even planning in the truth succeeds with this budget",
            **common,
            oracle=float(oracle.mean()),
            model=float(ours.mean()),
            rule=str(arrays["success_rule"]),
            paired=list(paired_difference(oracle, ours)),
        )
        reached = np.where(lost[:, k], worst, arrays["drive_return"][m, :, k])
        value, interval = sums.ratio(arrays["oracle_return"][:, k] - reached, ones)
        common |= {"oracle": float(arrays["oracle_return"][:, k].mean()), "model": float(reached.mean())}
        numbers.add(f"cpg-return{suffix}", value, interval, n, n_invalid, **common)
