"""Probabilities of events against what happened: replaced where they are none, calibrated or not, telling or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from wmbench.measures.numbers import Numbers
from wmbench.statistics import bootstrap
from wmbench.statistics.calibration import Reliability
from wmbench.statistics.clustered import auroc_interval, norm_interval
from wmbench.statistics.selective import Ranking


def clusters(episode: np.ndarray) -> tuple[np.ndarray, int]:
    """Index of each item's episode, and how many episodes there are."""
    names, cluster = np.unique(episode, return_inverse=True)
    return cluster, len(names)


def probabilities(predicted: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions with what is no probability replaced by the worst one, and which were replaced.

    Args:
        predicted: (...), should lie in [0, 1].
        outcome: (...) bool.

    Returns:
        (...) float64 in [0, 1], and (...) bool.
    """
    p = np.asarray(predicted, dtype=np.float64)
    bad = ~((p >= 0) & (p <= 1))
    return np.where(bad, np.where(outcome, 0.0, 1.0), p), bad


def probability(numbers: Numbers, head: str, outcome: np.ndarray, predicted: np.ndarray, episode: np.ndarray) -> None:
    """Brier score, calibration and separation of one probability."""
    p, bad = probabilities(predicted, outcome)
    cluster, c = clusters(episode)
    sums = Reliability.of(p, outcome, cluster)
    whole = sums.weighted(np.ones((1, c)))
    reliability, resolution, uncertainty = (float(part[0]) for part in whole.parts)
    brier, n, n_invalid = float(whole.brier[0]), len(p), int(bad.sum())
    numbers.add(
        f"{head}-brier",
        brier,
        bootstrap(lambda w: sums.weighted(w).brier, c, bounds=(0.0, 1.0)),
        n,
        n_invalid,
        n_episodes=c,
        base_rate=float(whole.base_rate[0]),
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        skill=1 - brier / uncertainty if uncertainty > 0 else None,
    )

    def gap(w: np.ndarray) -> np.ndarray:
        part = sums.weighted(w)
        return (part.probability - part.happened) / part.n[:, None]  # (R, B)

    used = whole.count[0] > 0
    numbers.add(
        f"{head}-ece",
        float(whole.ece[0]),
        norm_interval(gap, lambda g: np.abs(g).sum(-1), c),
        n,
        n_invalid,
        n_episodes=c,
        if_calibrated=float(whole.ece_if_calibrated[0]),
        sharpness=float(whole.sharpness[0]),
        resolution=resolution,
        bins={
            "n": whole.count[0][used].tolist(),
            "probability": (whole.probability[0][used] / whole.count[0][used]).tolist(),
            "frequency": (whole.happened[0][used] / whole.count[0][used]).tolist(),
        },
    )
    auroc(numbers, f"{head}-auroc", p, np.asarray(outcome, dtype=bool), episode, n_invalid)


def auroc(
    numbers: Numbers,
    name: str,
    score: np.ndarray,
    positive: np.ndarray,
    episode: np.ndarray,
    n_invalid: int,
    **details: Any,
) -> None:
    """Area under the ROC curve, if there are both classes."""
    n, hits = len(score), int(positive.sum())
    if hits in (0, n):
        which = "never happens" if hits == 0 else "happens at every step"
        numbers.none([name], f"what the head predicts {which} in this split", n)
        return
    ranking = Ranking(score, episode)
    value, interval = float(ranking.auroc(positive)[0]), auroc_interval(ranking, positive)
    numbers.add(name, value, interval, n, n_invalid, n_episodes=ranking.clusters, positives=hits, **details)
