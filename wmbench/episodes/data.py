"""One recorded episode as plain arrays, and the rules every recorded episode obeys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import DatasetError

SPLITS = ("train", "val", "test")

CORE = {
    "observation": np.dtype(np.float32),
    "action": np.dtype(np.float32),
    "reward": np.dtype(np.float64),
    "terminated": np.dtype(bool),
    "truncated": np.dtype(bool),
    "success": np.dtype(bool),
}
"""Fields of every episode, with their dtypes."""


@dataclass
class EpisodeData:
    """What happened in one episode of T steps. Row t of the step fields leads from state t to state t + 1.

    Attributes:
        observation: (T + 1, O) float32, units as the task card says.
        action: (T, A) float32, inside the card's bounds.
        reward: (T,) float64.
        terminated: (T,) bool, the task ended here; True in the last row at most.
        truncated: (T,) bool, the time limit (or a divergence) ended the recording here.
        success: (T,) bool, the card's success rule at each step.
        state: (T + 1, S) float64, the true simulator's privileged state, or None.
        seed: Seed of the reset that began it.
        source: Who acted, for example ``"random"`` or ``"bc+noise0.3"``.
        split: ``"train"``, ``"val"`` or ``"test"`` once it is part of a dataset.
        extra: Further fields, (T, ...) or (T + 1, ...), for example ``"rgb"`` (T + 1, 64, 64, 3) uint8.
        diverged: Whether a learned simulator ended it with a prediction that was not finite.
        invalid: Why the episode cannot be scored (a policy's or simulator's fault), None if it can.
        act_seconds: (T,) float64, wall-clock time of the policy's call (shared by its batch), or None.
        step_seconds: (T,) float64, wall-clock time of the simulator's call (shared by its batch), or None.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray
    state: np.ndarray | None = None
    seed: int = -1
    source: str = ""
    split: str = ""
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    diverged: bool = False
    invalid: str | None = None
    act_seconds: np.ndarray | None = None
    step_seconds: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of steps T."""
        return len(self.reward)

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(self.reward.sum())

    def succeeded(self, card: TaskCard) -> bool:
        """Whether the episode counts as solved: at any step or at its last, as the card's rule says."""
        if not len(self):
            return False
        return bool(self.success.any() if card.success.when == "once" else self.success[-1])

    def fields(self) -> dict[str, np.ndarray]:
        """Every array that is stored, by field name."""
        arrays = {name: getattr(self, name) for name in CORE}
        if self.state is not None:
            arrays["state"] = self.state
        return arrays | self.extra


def check_episode(episode: EpisodeData, card: TaskCard) -> dict[str, np.ndarray]:
    """The arrays of an episode that is fit to be stored.

    Args:
        episode: What was recorded.
        card: The task it was recorded on.

    Returns:
        Field name to a contiguous array.

    Raises:
        DatasetError: Wrong shapes or dtypes, no steps, numbers that are not finite, an end in the middle,
            an episode marked invalid, or a source name that cannot be stored.
    """
    who = f"episode with seed {episode.seed} of {card.id}"
    if episode.invalid is not None:
        raise DatasetError(f"{who} is invalid and cannot be stored: {episode.invalid}")
    steps = len(episode)
    if steps == 0:
        raise DatasetError(f"{who} has no steps")
    if not episode.source or len(episode.source) > 64:
        raise DatasetError(f"{who}: the source {episode.source!r} must have 1 to 64 characters")
    if set(episode.extra) & {*CORE, "state"}:
        raise DatasetError(f"{who}: the extra fields {sorted(episode.extra)} must not reuse a core field's name")
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(CORE, (steps,))
    expected["observation"] = (steps + 1, len(card.observation))
    expected["action"] = (steps, len(card.action))
    fields = episode.fields()
    for name, array in fields.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise DatasetError(f"{who}: {name} must be a numeric NumPy array")
        if name in CORE and (array.dtype != CORE[name] or array.shape != expected[name]):
            raise DatasetError(f"{who}: {name} is {array.dtype} {array.shape}, expected {CORE[name]} {expected[name]}")
        if name not in CORE and (array.ndim == 0 or array.shape[0] not in (steps, steps + 1)):
            raise DatasetError(f"{who}: {name} has shape {array.shape}, expected {steps} or {steps + 1} rows")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DatasetError(f"{who}: {name} holds NaN or infinity; such an episode is not stored")
    state = episode.state
    if state is not None and (state.dtype != np.float64 or state.ndim != 2 or len(state) != steps + 1):
        raise DatasetError(f"{who}: state is {state.dtype} {state.shape}, expected float64 ({steps + 1}, S)")
    if episode.terminated[:-1].any() or episode.truncated[:-1].any():
        raise DatasetError(f"{who}: it ends before its last step")
    return {name: np.ascontiguousarray(array) for name, array in fields.items()}


def split_of(index: int, fractions: Sequence[float]) -> str:
    """The split of a source's episode number ``index``: the one that lags most behind its share.

    The pattern is fixed, so a dataset that grows never moves an episode to another split, and with the
    usual shares of 0.8, 0.1 and 0.1 any seven episodes in a row from the start hold all three splits.

    Args:
        index: Number of the episode within its source, from 0.
        fractions: Shares of train, val and test; they add up to 1.

    Returns:
        One of :data:`SPLITS`.
    """
    shares = [Fraction(f).limit_denominator(1000) for f in fractions]
    period = math.lcm(*(share.denominator for share in shares))
    counts = [0] * len(shares)
    choice = 0
    for i in range(index % period + 1):
        # min over -lag: the first of equals wins, so train comes before val and val before test
        choice = min(range(len(shares)), key=lambda s: counts[s] - shares[s] * (i + 1))
        counts[choice] += 1
    return SPLITS[choice]


def check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Shares of the three splits, checked.

    Raises:
        DatasetError: Not three numbers in [0, 1] that add up to 1.
    """
    values = tuple(float(f) for f in fractions)
    if len(values) != 3 or min(values) < 0 or not abs(sum(values) - 1) <= 1e-9:
        raise DatasetError(f"split must be three shares (train, val, test) that add up to 1, got {values}")
    return values
