"""What a dataset's sources cover, as pure functions of arrays and one row of numbers per source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wmbench.episodes.dataset import Dataset

BINS = 20
SAMPLE = 2000
"""States and actions of each source that are looked at, drawn with a fixed seed."""


@dataclass(frozen=True)
class Coverage:
    """What one source covers.

    Attributes:
        source: Its name; ``"all"`` for everything together.
        states: (O,) share of the bins of each observation dimension that hold a state. The dataset's range is cut into
            :data:`BINS` equal bins; NaN where the dataset has no range.
        actions: (A,) the same over the action bounds.
        state_dimension: How many directions its states vary in, see :func:`effective_dimension`; 0 to O.
        action_dimension: The same of its actions; 0 to A.
        spread: Median distance from a state to the nearest one in another episode of the source, root mean square over
            dimensions in standard deviations of the dataset; NaN with one episode.
        novelty: The same to the nearest state of any other source; NaN with one source.
        rows: (n, O) float64 the states that were looked at, in the same standard deviations.
    """

    source: str
    states: np.ndarray
    actions: np.ndarray
    state_dimension: float
    action_dimension: float
    spread: float
    novelty: float
    rows: np.ndarray


def coverage(data: Dataset, *, sample: int = SAMPLE, seed: int = 0) -> list[Coverage]:
    """What each source covers, and everything together if there are several.

    Args:
        data: The dataset.
        sample: Steps of each source to look at, at most.
        seed: Of their choice.
    """
    sources = list(data.manifest["counts"]["source"])
    drawn = {source: _draw(data, source, sample, seed) for source in sources}
    every = tuple(np.concatenate([drawn[source][i] for source in sources]) for i in range(3))
    states = every[0]
    low, high, scale = states.min(0), states.max(0), states.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    least, most = (bound.astype(np.float64) for bound in data.task.action_bounds())
    found = []
    for source in [*sources, "all"] if len(sources) > 1 else sources:
        own_states, own_actions, own_episodes = every if source == "all" else drawn[source]
        rest = [drawn[other][0] for other in sources if other != source]
        alone = source == "all" or not rest
        found.append(
            Coverage(
                source,
                occupied(own_states, low, high),
                occupied(own_actions, least, most),
                effective_dimension(own_states / scale),
                effective_dimension(own_actions / (most - least)),
                _median(nearest(own_states / scale, own_states / scale, own_episodes)),
                float("nan") if alone else _median(nearest(own_states / scale, np.concatenate(rest) / scale)),
                own_states / scale,
            )
        )
    return found


def occupied(values: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Share of equal bins of each dimension that hold at least one row.

    Args:
        values: (N, D).
        low: (D,) where the first bin begins.
        high: (D,) where the last one ends; rows outside count for the nearest bin.
        bins: How many.

    Returns:
        (D,) in [1 / bins, 1]; NaN where ``low`` equals ``high``.
    """
    width = np.where(high > low, high - low, np.nan)
    with np.errstate(invalid="ignore"):
        place = np.clip(np.floor((values - low) / width * bins), 0, bins - 1)
    shares = np.full(values.shape[1], np.nan)
    for d in np.flatnonzero(high > low):
        shares[d] = len(np.unique(place[:, d])) / bins
    return shares


def effective_dimension(values: np.ndarray) -> float:
    """How many directions rows vary in: the participation ratio (sum of eigenvalues)^2 / sum of their squares.

    Of the covariance of the (N, D) rows; 1 if all lie on a line, D if all directions vary alike, 0 if nothing varies.
    """
    centred = values - values.mean(0)
    covariance = centred.T @ centred
    total = float((covariance * covariance).sum())  # the sum of squared eigenvalues
    return float(np.trace(covariance)) ** 2 / total if total > 0 else 0.0


def nearest(rows: np.ndarray, others: np.ndarray, group: np.ndarray | None = None) -> np.ndarray:
    """Distance from each row to the nearest of the others, root mean square over dimensions.

    Args:
        rows: (N, D).
        others: (M, D).
        group: (N,) where ``others`` are the same rows: a row's own group does not count.

    Returns:
        (N,), infinite where there is no other row.
    """
    found = np.empty(len(rows))
    squares = (others * others).sum(1)
    for start in range(0, len(rows), 500):
        part = rows[start : start + 500]
        gaps = (part * part).sum(1)[:, None] - 2 * part @ others.T + squares  # (n, M)
        if group is not None:
            gaps[group[start : start + 500, None] == group] = np.inf
        found[start : start + 500] = gaps.min(1)
    return np.sqrt(np.maximum(found, 0) / rows.shape[1])


def histogram(values: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """Counts (bins,) of values in equal bins from ``low`` to ``high``; a range of no width is one full first bin."""
    if not high > low:
        return np.array([len(values)] + [0] * (bins - 1))
    return np.histogram(values, bins=bins, range=(low, high))[0]


def _draw(data: Dataset, source: str, sample: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States (n, O), actions (n, A) and episodes (n,) of a source, as many of each episode as its length asks for."""
    episodes = data.episodes(source=source)
    lengths = data.index["length"][episodes]
    total = int(lengths.sum())
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(total, sample, replace=False)) if total > sample else np.arange(total)
    first = np.cumsum(lengths) - lengths
    which = np.searchsorted(first, chosen, side="right") - 1
    states, actions = [], []
    for i in np.unique(which):
        steps = chosen[which == i] - first[i]
        arrays = data.arrays(int(episodes[i]))
        states.append(np.asarray(arrays["observation"][steps], dtype=np.float64))
        actions.append(np.asarray(arrays["action"][steps], dtype=np.float64))
    return np.concatenate(states), np.concatenate(actions), episodes[which]


def _median(distances: np.ndarray) -> float:
    known = distances[np.isfinite(distances)]
    return float(np.median(known)) if len(known) else float("nan")
