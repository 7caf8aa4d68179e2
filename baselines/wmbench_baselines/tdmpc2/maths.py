"""The formulas of TD-MPC2 that have one right answer: symlog, two-hot, SimNorm, Mish and the running scale."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import softmax


class Bins(NamedTuple):
    """Equally spaced bins in symlog space.

    Attributes:
        low: The first bin.
        high: The last bin.
        number: How many.
    """

    low: float
    high: float
    number: int

    def centres(self, like: torch.Tensor) -> torch.Tensor:
        """(number,) on the device and of the type of another tensor; shared, never to be written to."""
        if torch.compiler.is_compiling():
            return torch.linspace(self.low, self.high, self.number, device=like.device, dtype=like.dtype)
        return _centres(self, like.device, like.dtype)


@functools.lru_cache(16)
def _centres(bins: Bins, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """The bins' centres, made once, in a way that gradients can use."""
    with torch.inference_mode(False):
        return torch.linspace(bins.low, bins.high, bins.number, device=device, dtype=dtype)


def symlog(x: torch.Tensor) -> torch.Tensor:
    """sign(x) log(1 + |x|)."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: torch.Tensor) -> torch.Tensor:
    """sign(x) (exp(|x|) - 1), the inverse of :func:`symlog`."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


def _place(x: torch.Tensor, bins: Bins) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the bin below each number's symlog, and how far towards the next it lies, in [0, 1]."""
    width = (bins.high - bins.low) / (bins.number - 1)
    place = (symlog(x).clamp(bins.low, bins.high) - bins.low) / width
    below = place.floor().clamp(0, bins.number - 2)  # the highest number is all of the last bin, not one beyond
    return below.long(), place - below


def two_hot(x: torch.Tensor, bins: Bins) -> torch.Tensor:
    """The distribution over the two bins around symlog(x) whose mean it is.

    Args:
        x: (...), any numbers; beyond the bins they count as the outermost.
        bins: B bins.

    Returns:
        (..., B), non-negative, summing to one.
    """
    below, weight = _place(x, bins)
    hot = torch.zeros(*x.shape, bins.number, dtype=x.dtype, device=x.device)
    hot.scatter_(-1, below[..., None], 1 - weight[..., None])
    return hot.scatter_(-1, below[..., None] + 1, weight[..., None])


def two_hot_inverse(logits: torch.Tensor, bins: Bins) -> torch.Tensor:
    """The number whose symlog is the mean of a distribution: (..., B) logits to (...)."""
    return symexp(softmax(logits, -1) @ bins.centres(logits))


def soft_cross_entropy(logits: torch.Tensor, x: torch.Tensor, bins: Bins) -> torch.Tensor:
    """Cross-entropy of a predicted distribution against :func:`two_hot`, of which it needs the two non-zero terms.

    Args:
        logits: (..., B).
        x: (...), the numbers.
        bins: B bins.

    Returns:
        (...).
    """
    below, weight = _place(x, bins)
    pair = torch.stack((below, below + 1), -1)  # (..., 2)
    near = logits.gather(-1, pair.expand(*logits.shape[:-1], 2))
    return logits.logsumexp(-1) - (1 - weight) * near[..., 0] - weight * near[..., 1]


def mish(x: torch.Tensor) -> torch.Tensor:
    """Mish, x tanh(log(1 + exp(x))), written with one exponential: tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2)."""
    e = x.clamp(max=20.0).exp()  # beyond 20 the tanh is 1 in single precision
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def simnorm(x: torch.Tensor, size: int) -> torch.Tensor:
    """Softmax within each group of ``size`` neighbours: (..., L) to (..., L)."""
    groups = x.unflatten(-1, (-1, size))
    e = (groups - groups.detach().amax(-1, keepdim=True)).exp_()  # the shift is of no effect, so it needs no gradient
    return (e / e.sum(-1, keepdim=True)).flatten(-2)


class RunningScale(nn.Module):
    """Slow average of the range of Q-values, between the 5th and the 95th percentile and one at least."""

    value: torch.Tensor

    def __init__(self, tau: float) -> None:
        """Start at one.

        Args:
            tau: How much of each new range is taken over.
        """
        super().__init__()
        self.tau = tau
        self.register_buffer("value", torch.ones(()))

    @torch.no_grad()
    def update(self, q: torch.Tensor) -> None:
        """Take over some of the range of (N,) Q-values."""
        low, high = percentile(q, 0.05), percentile(q, 0.95)
        self.value.lerp_((high - low).clamp(min=1.0), self.tau)


def percentile(x: torch.Tensor, share: float) -> torch.Tensor:
    """The value below which a share of (N,) numbers lies, linear between neighbours."""
    ordered = x.sort().values
    place = share * (len(x) - 1)
    below = int(place)
    above = min(below + 1, len(x) - 1)
    return ordered[below] * (1 - (place - below)) + ordered[above] * (place - below)
