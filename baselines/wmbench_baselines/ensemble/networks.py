"""Several multilayer perceptrons of one shape: trained together in batched products, used one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from wmbench_baselines.ensemble.rows import mlp


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

    def one(self, member: int, x: torch.Tensor, outputs: int) -> torch.Tensor:
        """One member on (N, I) inputs, N a multiple of 8: its first ``outputs`` outputs, in fresh memory."""
        layers = [(w[member], b[member, 0]) for w, b in zip(self.weights, self.biases, strict=True)]
        return mlp(x, layers, outputs)
