"""Does the model know what another action would have done? Predicted effects against branches of the true simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wmbench.measures.geometry import CAP, Geometry
from wmbench.measures.result import Arrays, Direction, Measure, Result, finite_or_none
from wmbench.statistics import bootstrap
from wmbench.statistics.bootstrap import Statistic

STEPS = (1, 5, 10)
LEAST_EFFECT = 1e-6
"""True effects below this, in standard deviations of one step's change, are skipped and counted."""

LEAST_SIGN = 0.01
"""Effects on a dimension below this have no sign to agree with: float32 may round them either way."""

MAIN = "data"
BOUNDS = {"cosine": (-1.0, 1.0), "sign-agreement": (0.0, 1.0)}


@dataclass(frozen=True)
class Effects:
    """What changing the actions did, for P pairs of branches, in standard deviations of one step's change.

    Attributes:
        true: (P, D) true effect, the difference between the two branches.
        predicted: (P, D) predicted effect; :data:`CAP` and wrong in sign where it is not finite.
        lost: (P,) bool, where it is not finite.
        member: (C, P) float64, 1 where a pair belongs to an episode.
        skipped: How many pairs had no effect to speak of.
    """

    true: np.ndarray
    predicted: np.ndarray
    lost: np.ndarray
    member: np.ndarray
    skipped: int

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> Statistic:
        """Root of a ratio of sums over pairs, as a function of weights of episodes."""
        above, below = self.member @ numerator, self.member @ denominator
        return lambda w: np.sqrt((w @ above) / np.maximum(w @ below, np.finfo(float).tiny))

    def mean(self, values: np.ndarray) -> Statistic:
        """A mean over pairs, as a function of weights of episodes."""
        total, count = self.member @ values, self.member.sum(1)
        return lambda w: (w @ total) / np.maximum(w @ count, 1.0)

    def error(self) -> Statistic:
        """Counterfactual error: size of the error of the effect over the size of the effect."""
        return self.ratio(((self.predicted - self.true) ** 2).sum(1), (self.true**2).sum(1))

    def magnitude(self) -> Statistic:
        """Size of the predicted effect over that of the true one."""
        return self.ratio((self.predicted**2).sum(1), (self.true**2).sum(1))

    def cosine(self) -> np.ndarray:
        """(P,) cosine between the effects: 0 where none is predicted, -1 where it is not finite."""
        dot = (self.true * self.predicted).sum(1)
        size = np.linalg.norm(self.true, axis=1) * np.linalg.norm(self.predicted, axis=1)
        return np.where(self.lost, -1.0, np.divide(dot, size, out=np.zeros_like(dot), where=size > 0))

    def signs(self) -> np.ndarray:
        """(P,) share of the dimensions with an effect in which its sign is right."""
        moves = np.abs(self.true) > LEAST_SIGN
        right = moves & (np.sign(self.true) == np.sign(self.predicted)) & ~self.lost[:, None]
        return right.sum(1) / np.maximum(moves.sum(1), 1)


def counterfactual(arrays: Arrays) -> list[Result]:
    """Score predicted effects of changed actions.

    From one state s the true simulator f and the model g are branched under two action sequences a and b. With all
    differences in standard deviations of one step's change over the train split, the counterfactual error is

        CFE = || (g(s, a) - g(s, b)) - (f(s, a) - f(s, b)) || / || f(s, a) - f(s, b) ||

    with the norms taken over all pairs together (root of summed squares), so that pairs with hardly any effect do not
    decide it; the median over pairs is in the details. It is 0 for a perfect model and exactly 1 for one that
    ignores the action. The recorded sequence is compared with one near it, one from elsewhere in the data, and
    a corner of the action box. Intervals resample episodes. Our definition.

    Args:
        arrays: ``subject`` (M,), ``dimension`` (O,), ``kind`` (O,), ``unit`` (O,), ``branch`` (B,) with ``recorded``
            first, ``truth`` (N, B, K, O), ``valid`` (N, B, K) bool, ``prediction`` (M, N, B, K, O), ``episode`` (N,),
            ``delta_std``, ``observation_low``, ``observation_high`` (O,).

    Returns:
        For each subject ``cfe`` (one step, actions from the data), ``cosine``, ``sign-agreement``, ``magnitude``,
        ``shuffle-ratio`` (mean squared one-step error with actions from elsewhere over that with the true ones; 1 if
        the action is ignored), and ``cfe-near-1``, ``cfe-data-5`` and so on.
    """
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["delta_std"], arrays["observation_low"], arrays["observation_high"])
    subjects, branches = [str(s) for s in arrays["subject"]], [str(b) for b in arrays["branch"]]
    if not keep.any():
        return [_none(s, "cfe", 0, "every dimension is constant in the train split") for s in subjects]
    scale = geometry.scale(arrays["delta_std"])[keep]

    def apart(ahead: np.ndarray, behind: np.ndarray) -> np.ndarray:
        return geometry.difference(ahead, behind)[..., keep] / scale

    results: list[Result] = []
    for m, subject in enumerate(subjects):
        predicted = arrays["prediction"][m]
        for branch in sorted(branches[1:], key=lambda b: b != MAIN):
            b = branches.index(branch)
            for k in (k for k in STEPS if k <= arrays["valid"].shape[2]):
                rows = np.flatnonzero(arrays["valid"][:, 0, k - 1] & arrays["valid"][:, b, k - 1])
                true = apart(arrays["truth"][rows, b, k - 1], arrays["truth"][rows, 0, k - 1])
                guess = apart(predicted[rows, b, k - 1], predicted[rows, 0, k - 1])
                effects = _effects(true, guess, arrays["episode"][rows])
                name = "cfe" if (branch, k) == (MAIN, 1) else f"cfe-{branch}-{k}"
                results += _score(subject, name, effects, f"actions {branch}, {k} step{'s' * (k > 1)}")
                if name == "cfe":
                    reference = arrays["truth"][rows, 0, 0]
                    error = apart(predicted[rows, 0, 0], reference), apart(predicted[rows, b, 0], reference)
                    results.append(_shuffle(subject, *error, arrays["episode"][rows]))
    return results


def _effects(true: np.ndarray, guess: np.ndarray, episode: np.ndarray) -> Effects:
    """Drop pairs without an effect, and make what is not finite the worst."""
    moved = np.linalg.norm(true, axis=1) >= LEAST_EFFECT
    true, guess = true[moved], guess[moved]
    lost = ~np.isfinite(guess).all(1)
    guess = np.where(lost[:, None], -np.copysign(CAP, true), np.clip(np.nan_to_num(guess), -CAP, CAP))
    _, cluster = np.unique(episode[moved], return_inverse=True)
    member = (cluster == np.arange(cluster.max(initial=-1) + 1)[:, None]).astype(np.float64)
    return Effects(true, guess, lost, member, int((~moved).sum()))


def _score(subject: str, name: str, effects: Effects, variant: str) -> list[Result]:
    """The counterfactual error of one kind of branch; for the main kind what stands beside it, too."""
    n, clusters = len(effects.true), len(effects.member)
    lost = int(effects.lost.sum())
    if not n:
        return [_none(subject, name, effects.skipped, "no change of action had a true effect")]
    statistics: dict[str, tuple[Statistic, Direction, str]] = {
        name: (effects.error(), "lower", "size of the effect's error over the size of the effect"),
        "cosine": (effects.mean(effects.cosine()), "higher", "mean cosine of predicted and true effect"),
        "sign-agreement": (effects.mean(effects.signs()), "higher", "mean share of dimensions with the right sign"),
        "magnitude": (effects.magnitude(), "none", "size of predicted over true effects; 1 is right"),
    }
    ones = np.ones((1, clusters))
    each = np.linalg.norm(effects.predicted - effects.true, axis=1) / np.linalg.norm(effects.true, axis=1)
    details = {"skipped": effects.skipped, "n_episodes": clusters, "median": float(np.median(each))}
    details |= {key: float(s(ones)[0]) for key, (s, _, _) in statistics.items() if key != name}
    results = []
    for key, (statistic, direction, words) in statistics.items():
        if key != name and name != "cfe":
            continue
        low, high = bootstrap(statistic, clusters, bounds=BOUNDS.get(key, (0.0, np.inf))) or (None, None)
        results.append(
            Result(
                "counterfactual",
                key,
                subject,
                float(statistic(ones)[0]),
                low,
                high,
                n,
                lost,
                "1",
                direction,
                f"{words}; {variant}",
                None,
                details if key == name else {"skipped": effects.skipped, "n_episodes": clusters},
            )
        )
    return results


def _shuffle(subject: str, right: np.ndarray, wrong: np.ndarray, episode: np.ndarray) -> Result:
    """Mean squared error with actions from elsewhere over that with the true ones."""
    lost = int((~np.isfinite(right).all(1) | ~np.isfinite(wrong).all(1)).sum())
    squares = [np.where(np.isfinite(e), np.clip(np.nan_to_num(e), -CAP, CAP), CAP) ** 2 for e in (right, wrong)]
    if not squares[0].sum() > 0:
        return _none(subject, "shuffle-ratio", len(right), "the model makes no error with the true actions")
    _, cluster = np.unique(episode, return_inverse=True)
    member = (cluster == np.arange(cluster.max() + 1)[:, None]).astype(np.float64)
    below, above = (member @ s.sum(1) for s in squares)
    tiny = np.finfo(float).tiny

    def log_ratio(weights: np.ndarray) -> np.ndarray:  # a ratio is skewed, its logarithm much less
        return np.log(np.maximum(weights @ above, tiny)) - np.log(np.maximum(weights @ below, tiny))

    value = float(above.sum() / below.sum())
    interval: Any = bootstrap(log_ratio, len(member)) or (None, None)
    with np.errstate(over="ignore"):
        low, high = (None if end is None else finite_or_none(np.exp(end)) for end in interval)
    variant = "mean squared one-step error with actions from elsewhere in the data over that with the true ones"
    return Result(
        "counterfactual",
        "shuffle-ratio",
        subject,
        value,
        low,
        high,
        len(right),
        lost,
        "1",
        "higher",
        variant,
        None,
        {"n_episodes": len(member)},
    )


def _none(subject: str, name: str, n: int, why: str) -> Result:
    direction: Direction = "higher" if name == "shuffle-ratio" else "lower"
    return Result("counterfactual", name, subject, None, None, None, n, 0, "1", direction, "effect of actions", why)


MEASURE = Measure(
    name="counterfactual",
    question="Does the model know what another action would have done from the same state?",
    unit="1",
    direction="lower",
    range=(0.0, None),
    needs=(
        "subject",
        "dimension",
        "kind",
        "unit",
        "branch",
        "truth",
        "valid",
        "prediction",
        "episode",
        "delta_std",
        "observation_low",
        "observation_high",
    ),
    source="Error of the predicted effect of an action against exact branches (our definition); docs/measures.md",
    function=counterfactual,
)
