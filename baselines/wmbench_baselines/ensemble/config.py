"""Settings of the probabilistic ensemble, and the presets that the suite uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Propagation = Literal["ts_inf", "ts_1", "mean"]


@dataclass(frozen=True)
class EnsembleConfig:
    """The ensemble of PETS (https://arxiv.org/abs/1805.12114) and MBPO (https://arxiv.org/abs/1906.08253).

    The defaults are those of MBPO's released code; :data:`PAPER`, :data:`SMALL` and :data:`QUICK` name presets.

    Attributes:
        members: Networks trained.
        elites: Networks used, those with the lowest hold-out loss.
        hidden: Widths of the hidden layers, multiples of 8.
        end_hidden: Widths of the hidden layers of the networks that tell an episode's end, and of those that tell a
            success, multiples of 8.
        propagation: Which elite predicts a row: ``"ts_inf"``, one for the whole episode; ``"ts_1"``, one drawn at
            every step; ``"mean"``, the mean of all of them, without noise.
        sample: Whether ``ts_inf`` and ``ts_1`` add the member's Gaussian noise or return its mean.
        learning_rate: Of Adam, at the start.
        schedule: ``"constant"``, or ``"cosine"``: to zero over ``max_updates``.
        batch_size: Transitions per member and update.
        max_updates: Gradient steps after which training ends at the latest.
        patience: Epochs without improvement of any member after which it ends earlier.
        improvement: Relative decrease of a member's hold-out loss that counts as an improvement for ``patience``.
        bootstrap: Whether every member has its own resample of the train split.
        weight_decay: L2 penalty per layer, input layer first: one more than ``hidden`` has entries. There is none
            on the networks that tell an episode's end or a success.
        variance_weight: The likelihood's terms are weighted by the predicted variance to this power, held constant
            (beta-NLL, https://arxiv.org/abs/2203.09168): 0 is the plain likelihood of PETS, which neglects what it
            finds hard, such as rare contacts; 1 fits the mean as the squared error does.
        bound_weight: Weight of the sum of upper minus the sum of lower log-variance bounds in the loss.
    """

    members: int = 7
    elites: int = 5
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    end_hidden: tuple[int, ...] = (64, 64)
    propagation: Propagation = "ts_inf"
    sample: bool = True
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = 256
    max_updates: int = 200_000
    patience: int = 5
    improvement: float = 0.01
    bootstrap: bool = True
    weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    variance_weight: float = 0.0
    bound_weight: float = 0.01

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if not 1 <= self.elites <= self.members:
            raise ValueError(f"elites must be between 1 and members ({self.members}), got {self.elites}")
        for name in ("hidden", "end_hidden"):
            widths = getattr(self, name)
            if not widths or any(width < 8 or width % 8 for width in widths):
                raise ValueError(f"{name} must be widths that are positive multiples of 8, got {widths}")
        if len(self.weight_decay) != len(self.hidden) + 1:
            raise ValueError(
                f"weight_decay needs {len(self.hidden) + 1} entries for {len(self.hidden)} hidden layers, "
                f"got {len(self.weight_decay)}"
            )
        if min(self.batch_size, self.max_updates, self.patience) < 1:
            raise ValueError("batch_size, max_updates and patience must be at least 1")
        if not 0 <= self.variance_weight <= 1:
            raise ValueError(f"variance_weight must lie in [0, 1], got {self.variance_weight}")
        if not self.learning_rate > 0 or not 0 <= self.improvement < 1:
            raise ValueError("learning_rate must be positive and improvement in [0, 1)")


PAPER = EnsembleConfig()
"""7 members of 4 x 200, 5 elites, constant learning rate, early stopping."""

SMALL = EnsembleConfig(
    members=5,
    elites=4,
    hidden=(80, 80, 80),
    weight_decay=(2.5e-5, 5e-5, 7.5e-5, 1e-4),
    schedule="cosine",
    learning_rate=4e-3,
    max_updates=60_000,
    patience=1000,
    variance_weight=0.5,
    sample=False,
)
"""The shipped reference models: about 400 kB each at most. No noise is drawn: nor do the true simulators draw any."""

QUICK = EnsembleConfig(
    members=5,
    elites=3,
    hidden=(128, 128, 128),
    weight_decay=(2.5e-5, 5e-5, 7.5e-5, 1e-4),
    schedule="cosine",
    learning_rate=6e-3,
    max_updates=3_500,
    patience=1000,
    variance_weight=0.5,
    sample=False,
)
"""Some twenty seconds of training on two cores, for ``wmbench run quick``."""

PRESETS = {"paper": PAPER, "small": SMALL, "quick": QUICK}
