"""Several multilayer perceptrons of one shape: trained together in batched products, used one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from wmbench_baselines.ensemble.rows import COLUMNS

Layers = list[tuple[torch.Tensor, torch.Tensor]]


class Members(nn.Module):
    """E perceptrons with SiLU between their layers."""

    def __init__(self, members: int, sizes: Sequence[int]) -> None:
        """Make them, with zeros for weights.

        Args:
            members: E.
            sizes: Number of inputs, hidden widths, number of outputs.
        """
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros(members, i, o) for i, o in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for o in sizes[1:])

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw weights from a normal distribution of width 1 / (2 sqrt(fan-in)), cut at two widths; biases are zero."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            std = 0.5 / weight.shape[1] ** 0.5
            fresh = torch.empty(weight.shape)
            nn.init.trunc_normal_(fresh, std=std, a=-2 * std, b=2 * std, generator=generator)
            weight.copy_(fresh)
            bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All members, each on inputs of its own; differentiable.

        Args:
            x: (E, B, I), or (1, B, I) for the same inputs.

        Returns:
            (E, B, O).
        """
        x = x.expand(len(self.biases[0]), -1, -1)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)  # (E, B, H)
            if i < last:
                x = nn.functional.silu(x)
        return x

    def apart(self, outputs: int) -> list[Layers]:
        """Each member's weights (in, out) and biases (out,) by layer, for :func:`~.rows.mlp`: views, but for the last.

        Args:
            outputs: How many outputs are wanted, the first so many; zeros fill up what the kernels like.
        """
        weights, biases = [*self.weights], [b[:, 0] for b in self.biases]
        missing = -outputs % COLUMNS
        weights[-1] = nn.functional.pad(weights[-1][:, :, :outputs], (0, missing))
        biases[-1] = nn.functional.pad(biases[-1][:, :outputs], (0, missing))
        by_layer = [zip(w.unbind(0), b.unbind(0), strict=True) for w, b in zip(weights, biases, strict=True)]
        return [list(layers) for layers in zip(*by_layer, strict=True)]
