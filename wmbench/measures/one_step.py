"""How wrong is one step? Errors of the predicted change, per dimension, against doing nothing and a linear fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wmbench.measures.geometry import CAP, Geometry, normalised
from wmbench.measures.result import Arrays, Direction, Measure, Result, finite_or_none, json_list
from wmbench.statistics import bootstrap
from wmbench.statistics.bootstrap import Statistic

REFERENCES = ("copy-last", "mean-delta", "linear")


def one_step(arrays: Arrays) -> list[Result]:
    """Score one-step predictions in delta form.

    With y the true and p the predicted change of dimension d, both in units of the train split's standard
    deviation of that change: NMSE_d = mean (p - y)^2, and skill = 1 - NMSE / NMSE of a reference, where the
    NMSE is averaged over dimensions first. A model with an absolute R^2 of .999 may have negative skill where a
    control step is short. Angles are wrapped, quaternions compared by their rotation, constant dimensions masked
    and listed. Intervals resample episodes.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``dimension`` (O,), ``kind`` (O,), ``unit`` (O,), ``observation``
            (N, O), ``next_observation`` (N, O), ``prediction`` (M, N, O), ``episode`` (N,), ``delta_std`` (O,),
            ``observation_low`` (O,), ``observation_high`` (O,). The last three are of the train split.

    Returns:
        For each subject ``skill`` (against copy-last), ``skill-median``, ``skill-worst``, ``skill-mean-delta``,
        ``skill-linear``, ``nmse``, ``nmse-median``, ``nmse-worst``.
    """
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["delta_std"], arrays["observation_low"], arrays["observation_high"])
    masked = [name for name, kept in zip(geometry.names, keep, strict=True) if not kept]
    subjects = [str(s) for s in arrays["subject"]]
    truth, prediction = arrays["next_observation"], arrays["prediction"]
    if not keep.any() or not len(truth):
        why = "there are no transitions" if keep.any() else "every dimension is constant in the train split"
        return [_result(s, "skill", None, None, len(truth), 0, reason=why) for s in subjects]
    scale = geometry.scale(arrays["delta_std"])[keep]
    episodes, cluster = np.unique(arrays["episode"], return_inverse=True)
    member = (cluster == np.arange(len(episodes))[:, None]).astype(np.float64)  # (C, N)
    counts = member.sum(1)
    sums = {}  # subject -> (C, D) summed squared normalised errors of each episode
    for m, subject in enumerate(subjects):
        error = normalised(geometry.difference(prediction[m], truth)[:, keep], scale)  # (N, D)
        sums[subject] = member @ error**2
    still = normalised(geometry.difference(arrays["observation"], truth)[:, keep], scale)
    sums.setdefault("copy-last", member @ still**2)

    def nmse(weights: np.ndarray, subject: str) -> np.ndarray:
        return weights @ sums[subject] / (weights @ counts)[:, None]  # (R, D)

    ones = np.ones((1, len(episodes)))
    results = []
    for m, subject in enumerate(subjects):
        n_invalid = int((~np.isfinite(prediction[m]).all(1)).sum())
        own, still_nmse = nmse(ones, subject)[0], nmse(ones, "copy-last")[0]
        table = {
            "dimension": [n for n, kept in zip(geometry.names, keep, strict=True) if kept],
            "unit": [u for u, kept in zip(geometry.units, keep, strict=True) if kept],
            "rmse": json_list(np.sqrt(own) * scale),
            "nmse": json_list(own),
            "skill": json_list(_skill(own, still_nmse)),
        }
        for name, (statistic, variant) in _statistics(subject, nmse, [r for r in REFERENCES if r in sums]).items():
            value = float(statistic(ones)[0])
            fine = bool(np.isfinite(value))
            results.append(
                _result(
                    subject,
                    name,
                    value if fine else None,
                    bootstrap(statistic, len(episodes), bounds=_bounds(name)) if fine else None,
                    len(truth),
                    n_invalid,
                    variant=variant,
                    reason=None if fine else "the reference makes no error at all on this split",
                    details={"n_episodes": len(episodes), "masked": masked}
                    | ({"table": table} if name == "skill" else {}),
                )
            )
    return results


def _statistics(
    subject: str, nmse: Callable[[np.ndarray, str], np.ndarray], references: list[str]
) -> dict[str, tuple[Statistic, str]]:
    """Every number about one subject: name to its function of episode weights and its variant.

    Args:
        subject: Whose.
        nmse: (R, C) weights and a subject to (R, D) errors.
        references: What it is compared with.
    """

    def skill(reference: str) -> Statistic:
        return lambda weights: _skill(nmse(weights, subject).mean(1), nmse(weights, reference).mean(1))

    def over(reduce: Callable[..., np.ndarray]) -> Statistic:
        return lambda weights: reduce(nmse(weights, subject), axis=1)

    def skill_over(reduce: Callable[..., np.ndarray]) -> Statistic:
        return lambda weights: reduce(_skill(nmse(weights, subject), nmse(weights, "copy-last")), axis=1)

    skills = {r: (skill(r), f"delta form, 1 - NMSE / NMSE of {r}, mean of dimensions") for r in references}
    per_dimension = "delta form, 1 - NMSE / NMSE of copy-last"
    plain = f"delta form, variance of the train split, errors capped at {CAP:g} sigma"
    return {
        "skill": skills.pop("copy-last"),
        "skill-median": (skill_over(np.median), f"{per_dimension}, median dimension"),
        "skill-worst": (skill_over(np.min), f"{per_dimension}, worst dimension"),
        **{f"skill-{reference}": pair for reference, pair in skills.items()},
        "nmse": (over(np.mean), f"{plain}, mean of dimensions"),
        "nmse-median": (over(np.median), f"{plain}, median dimension"),
        "nmse-worst": (over(np.max), f"{plain}, worst dimension"),
    }


def _bounds(name: str) -> tuple[float, float]:
    return (-np.inf, 1.0) if name.startswith("skill") else (0.0, np.inf)


def _skill(own: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """1 - own / reference; where the reference is exact, 1 for an exact model and minus infinity for any other."""
    ratio = np.divide(own, reference, out=np.where(own > 0, np.inf, 0.0), where=reference > 0)
    return 1.0 - ratio


def _result(
    subject: str,
    name: str,
    value: float | None,
    interval: tuple[float, float] | None,
    n: int,
    n_invalid: int,
    *,
    variant: str = "delta form",
    reason: str | None = None,
    details: dict[str, object] | None = None,
) -> Result:
    low, high = interval or (None, None)
    direction: Direction = "higher" if name.startswith("skill") else "lower"
    return Result(
        "one-step",
        name,
        subject,
        value,
        finite_or_none(low),
        finite_or_none(high),
        n,
        n_invalid,
        "1",
        direction,
        variant,
        reason,
        details or {},
    )


MEASURE = Measure(
    name="one-step",
    question="How much of the true change in one control step does the model predict?",
    unit="1",
    direction="higher",
    range=(None, 1.0),
    needs=(
        "subject",
        "dimension",
        "kind",
        "unit",
        "observation",
        "next_observation",
        "prediction",
        "episode",
        "delta_std",
        "observation_low",
        "observation_high",
    ),
    source="Normalised mean squared error and skill score (Murphy 1988) of the predicted change; docs/measures.md",
    function=one_step,
)
