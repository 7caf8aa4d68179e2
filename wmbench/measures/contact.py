"""Where does a model go wrong: in the air, while something touches, or at the moment it makes or breaks contact?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wmbench.measures.drift import LEAST_SHARE, SATURATION, rollouts
from wmbench.measures.geometry import Geometry, normalised
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result
from wmbench.statistics import Interval, bootstrap

AFTER = 5
"""Steps, the first of them that in which contact is made, that count as after it."""

PHASES = ("free", "making", "in-contact", "breaking", "after-making")
DEFINITIONS = {
    "making-ratio": Definition("1", "none", "one-step error while making contact over that while nothing touches"),
    "after-ratio": Definition(
        "1", "none", f"one-step error in the {AFTER} steps from making contact over that while nothing touches"
    ),
    "one-step": Definition("1", "lower", "mean one-step NRMSE in train std of one step's change, steps of this phase"),
    "open": Definition("1", "lower", f"mean open-loop NRMSE in train std, cut at {SATURATION:g}, steps of this phase"),
}


@dataclass(frozen=True)
class Phase:
    """The steps of one kind.

    Attributes:
        here: (W, H) bool.
        member: (C, W) float64, 1 where a window belongs to an episode.
    """

    here: np.ndarray
    member: np.ndarray

    def sums(self, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum of the errors and number of steps by episode, (C,) each."""
        return self.member @ np.where(self.here, error, 0.0).sum(1), self.member @ self.here.sum(1)


def phases(touching: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """What every step does to the contacts.

    Args:
        touching: (W, H + 1, P) bool, at the true states; pairs that always touch do not count.
        valid: (W, H) bool.

    Returns:
        Each of :data:`PHASES` to (W, H) bool. The first four are disjoint and make up all valid steps: ``making`` if
        any pair begins to touch, ``breaking`` if any stops and none begins, else ``in-contact`` if any touches, else
        ``free``.
    """
    seen = np.concatenate([valid[:, :1], valid], axis=1)  # (W, H + 1) states
    moving = touching[..., ~(touching | ~seen[..., None]).all((0, 1))]
    before, after = moving[:, :-1], moving[:, 1:]
    making = (after & ~before).any(-1) & valid
    breaking = (before & ~after).any(-1) & valid & ~making
    still = valid & ~making & ~breaking
    recent = making.copy()
    for k in range(1, min(AFTER, making.shape[1])):
        recent[:, k:] |= making[:, :-k]
    return {
        "free": still & ~after.any(-1),
        "making": making,
        "in-contact": still & after.any(-1),
        "breaking": breaking,
        "after-making": recent & valid,
    }


def contact(arrays: Arrays) -> list[Result]:
    """Split errors by what the step did to the contacts of the true simulator.

    A pair of bodies touches or does not at each true state; a step makes contact if a pair begins to touch, breaks it
    if one stops and none begins, and is otherwise free or in contact. One-step errors are predicted from the true
    observation, in standard deviations of one step's change; open-loop errors in those of the observation, up to the
    floor of the task. ``making-ratio`` is 1 for a model that finds impacts no harder than flight. Intervals
    resample episodes.

    Args:
        arrays: ``subject``, ``role`` (M,), ``dimension``, ``kind``, ``unit`` (O,), ``truth`` (W, H + 1, O), ``valid``
            (W, H) bool, ``prediction``, ``teacher`` (M, W, H, O), ``episode`` (W,), ``pair`` (P,) str, ``touching``
            (W, H + 1, P) bool, ``contacts_known`` () bool, ``delta_std``, ``observation_std``, ``observation_low``,
            ``observation_high`` (O,), ``floor_steps`` ().

    Returns:
        For each subject ``making-ratio``, ``after-ratio``, and ``one-step:free``, ``open:making`` and so on.
    """
    subjects, roles = [str(s) for s in arrays["subject"]], [str(r) for r in arrays["role"]]
    windows = len(arrays["valid"])
    every, masked = rollouts(arrays) if (arrays["valid"].mean(0) >= LEAST_SHARE).any() else ([], [])
    found = phases(arrays["touching"], arrays["valid"])
    if not arrays["contacts_known"]:
        why = "the true simulator does not say what touches"
    elif not every:
        why = "every dimension is constant in the train split" if masked else "there are no valid steps"
    elif not (found["making"] | found["in-contact"] | found["breaking"]).any():
        why = "no contact begins or ends in these windows"
    else:
        why = ""
    results: list[Result] = []
    for m, (subject, role) in enumerate(zip(subjects, roles, strict=True)):
        numbers = Numbers("contact", subject, DEFINITIONS, {"role": role, "pairs": arrays["pair"].tolist()})
        if why:
            numbers.none(["making-ratio"], why, windows)
        else:
            steps = every[m].error.shape[1]
            floor = float(arrays["floor_steps"])
            reach = steps if np.isnan(floor) else int(min(steps, floor))
            member = (every[m].cluster == np.arange(every[m].clusters)[:, None]).astype(np.float64)  # (C, W)
            inside = np.arange(arrays["valid"].shape[1]) < reach
            opened = np.zeros(arrays["valid"].shape)
            opened[:, :steps] = np.minimum(every[m].error, SATURATION)
            taught = _one_step(arrays, m)
            one = {phase: Phase(here, member) for phase, here in found.items()}
            lost = int((~np.isfinite(arrays["teacher"][m]).all(-1) & arrays["valid"]).any(1).sum())
            _ratio(numbers, "making-ratio", one["making"], one["free"], taught, lost)
            _ratio(numbers, "after-ratio", one["after-making"], one["free"], taught, lost)
            for phase in PHASES:
                _mean(numbers, f"one-step:{phase}", one[phase], taught, lost)
            lost = int((~np.isfinite(arrays["prediction"][m]).all(-1) & arrays["valid"] & inside).any(1).sum())
            for phase in PHASES:
                _mean(numbers, f"open:{phase}", Phase(found[phase] & inside, member), opened, lost)
        results += numbers.results
    return results


def _one_step(arrays: Arrays, m: int) -> np.ndarray:
    """(W, H) NRMSE of teacher-forced predictions in standard deviations of one step's change."""
    geometry = Geometry.of(arrays["dimension"], arrays["kind"], arrays["unit"])
    keep = geometry.varies(arrays["delta_std"], arrays["observation_low"], arrays["observation_high"])
    scale = geometry.scale(arrays["delta_std"])[keep]
    predicted = arrays["teacher"][m]
    each = normalised(geometry.difference(predicted, arrays["truth"][:, 1:])[..., keep], scale)
    return np.sqrt((each**2).mean(-1))


def _mean(numbers: Numbers, name: str, phase: Phase, error: np.ndarray, lost: int) -> None:
    """Mean error over the steps of a phase."""
    total, count = phase.sums(error)
    used = count > 0
    n, steps = int(phase.here.any(1).sum()), int(count.sum())
    if not steps:
        numbers.none([name], "no step of the windows is of this phase")
        return
    total, count = total[used], count[used]
    interval = bootstrap(lambda w: (w @ total) / (w @ count), int(used.sum()), bounds=(0.0, np.inf))
    numbers.add(name, float(total.sum() / steps), interval, n, lost, steps=steps, n_episodes=int(used.sum()))


def _ratio(numbers: Numbers, name: str, above: Phase, below: Phase, error: np.ndarray, lost: int) -> None:
    """Mean error in one phase over that in another; its interval is taken on the logarithm."""
    (a, n_a), (b, n_b) = above.sums(error), below.sums(error)
    if not n_a.sum() or not n_b.sum():
        what = "contact is never made" if not n_a.sum() else "something always touches"
        numbers.none([name], f"{what} in these windows")
        return
    if not a.sum() or not b.sum():
        where = "while nothing touches" if a.sum() else "there"
        numbers.none([name], f"the model makes no error {where}", int(above.here.any(1).sum()))
        return
    whole = float(np.log(a.sum() / n_a.sum()) - np.log(b.sum() / n_b.sum()))

    def statistic(w: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log(w @ a) - np.log(w @ n_a) - np.log(w @ b) + np.log(w @ n_b)
        return np.where(np.isfinite(found), found, whole)

    used = (n_a > 0) | (n_b > 0)
    a, n_a, b, n_b = a[used], n_a[used], b[used], n_b[used]
    ends = bootstrap(statistic, int(used.sum()))
    interval = None if ends is None else Interval(float(np.exp(ends.low)), float(np.exp(ends.high)))
    numbers.add(
        name,
        float(np.exp(whole)),
        interval,
        int(above.here.any(1).sum()),
        lost,
        steps=int(n_a.sum()),
        free_steps=int(n_b.sum()),
        n_episodes=int(used.sum()),
    )


MEASURE = Measure(
    name="contact",
    question="Does the model go wrong in the air, in contact, or at the moment contact is made or broken?",
    unit="1",
    direction="none",
    range=(0.0, None),
    needs=(
        "subject",
        "role",
        "dimension",
        "kind",
        "unit",
        "truth",
        "valid",
        "prediction",
        "teacher",
        "episode",
        "pair",
        "touching",
        "contacts_known",
        "delta_std",
        "observation_std",
        "observation_low",
        "observation_high",
        "floor_steps",
    ),
    source="Errors by contact phase (our definition); docs/measures.md",
    function=contact,
    ranks=False,
)
