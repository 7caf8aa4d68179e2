"""The layers of TD-MPC2: normalised linear layers with Mish, ensembles of them, and the image encoder."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import layer_norm, linear, pad

from wmbench_baselines.tdmpc2.fused import norm_mish
from wmbench_baselines.tdmpc2.maths import simnorm

INIT_STD = 0.02
"""Standard deviation of the truncated normal that every linear layer's weights start from; biases start at zero."""

COLUMNS = 16
"""CPU kernels treat whole groups of this many output columns alike, whatever a row's place in the batch."""

SHIFT = 3
"""Images are shifted by at most so many pixels."""


class NormedLinear(nn.Linear):
    """Linear, layer norm, then Mish or SimNorm.

    It takes any number of inputs that broadcast against each other and stand for their concatenation, so that a
    part that many rows share is multiplied once.
    """

    def __init__(self, inputs: int, outputs: int, simplex: int | None = None, *, normed: bool = True) -> None:
        """Draw the weights.

        Args:
            inputs: Total width of the inputs.
            outputs: Width of the output.
            simplex: Group size of SimNorm; None for Mish.
            normed: False for a plain linear layer, without norm and activation.
        """
        super().__init__(inputs, outputs)
        self.simplex = simplex
        self.norm = nn.LayerNorm(outputs) if normed else None

    def reset_parameters(self) -> None:
        """Nothing: :func:`initialise` does it, from a generator."""

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Parts (..., I_i), broadcasting, to (..., O)."""
        weight: torch.Tensor = self.weight
        bias: torch.Tensor = self.bias
        if not torch.is_grad_enabled() and len(bias) % COLUMNS:
            extra = -len(bias) % COLUMNS
            weight, bias = pad(weight, (0, 0, 0, extra)), pad(bias, (0, extra))
        x = joint_linear(parts, weight, bias)[..., : self.out_features]  # (..., O)
        if self.norm is None:
            return x
        if self.simplex is None:
            rows = x.reshape(1, -1, x.shape[-1])
            return norm_mish(rows, self.norm.weight[None, None], self.norm.bias[None, None]).view(x.shape)
        x = layer_norm(x, self.norm.normalized_shape, self.norm.weight, self.norm.bias)
        return simnorm(x, self.simplex)


def joint_linear(parts: tuple[torch.Tensor, ...], weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The linear layer of a concatenation: weight (O, I), bias (O,). Parts that broadcast are multiplied once."""
    if all(part.shape[:-1] == parts[0].shape[:-1] for part in parts):
        return linear(torch.cat(parts, -1) if len(parts) > 1 else parts[0], weight, bias)
    total, start = bias, 0
    for part in parts:
        total = total + linear(part, weight[:, start : start + part.shape[-1]])
        start += part.shape[-1]
    return total


class MLP(nn.Module):
    """Hidden :class:`NormedLinear` layers and an output layer."""

    def __init__(self, inputs: int, hidden: list[int], outputs: int, simplex: int | None = None) -> None:
        """Stack the layers.

        Args:
            inputs: Total width of the inputs.
            hidden: Widths of the hidden layers.
            outputs: Width of the output.
            simplex: The output passes a layer norm and SimNorm of this group size; None: it is plain.
        """
        super().__init__()
        widths = [inputs, *hidden]
        layers = [NormedLinear(a, b) for a, b in pairwise(widths)]
        layers.append(NormedLinear(widths[-1], outputs, simplex, normed=simplex is not None))
        self.layers = nn.ModuleList(layers)

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """Parts (..., I_i), broadcasting, to (..., O)."""
        x = self.layers[0](*parts)
        for layer in self.layers[1:]:
            x = layer(x)
        return x


class ImageEncoder(nn.Module):
    """The published encoder of 64 x 64 images: four convolutions with ReLU between them, then SimNorm."""

    def __init__(self, planes: int, channels: int, simplex: int) -> None:
        """Make the layers.

        Args:
            planes: Of an input, three for each stacked frame.
            channels: Of every convolution; 16 times as many numbers come out.
            simplex: Group size of SimNorm.
        """
        super().__init__()
        shape = ((planes, 7, 2), (channels, 5, 2), (channels, 3, 2), (channels, 3, 1))
        self.layers = nn.ModuleList([nn.Conv2d(a, channels, size, stride) for a, size, stride in shape])
        self.simplex = simplex

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (..., planes, 64, 64) uint8 to (..., 16 channels)."""
        lead = images.shape[:-3]
        x = images.reshape(-1, *images.shape[-3:]).float() / 255 - 0.5
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else x.relu())
        return simnorm(x.flatten(1), self.simplex).reshape(*lead, -1)


def shifted(images: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Images moved by whole pixels, the edge repeated: random shift augmentation (DrQ-v2, arXiv 2107.09645).

    Args:
        images: (..., C, H, W).
        by: (..., 2) int64, rows and columns from 0 to 2 :data:`SHIFT`; :data:`SHIFT` leaves an image where it is.
    """
    flat, moves = images.reshape(-1, *images.shape[-3:]), by.reshape(-1, 2) - SHIFT
    at = torch.arange(images.shape[-1], device=images.device)
    rows, columns = ((at + moves[:, i : i + 1]).clamp(0, len(at) - 1) for i in (0, 1))  # (N, H) each
    n = torch.arange(len(flat), device=images.device)[:, None, None]
    moved = flat.movedim(1, -1)[n, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return moved.movedim(-1, 1).reshape(images.shape)


class Ensemble(nn.Module):
    """E networks of two hidden :class:`NormedLinear` layers and a plain output, their weights in one tensor each.

    Weights are (E, in, out), biases and norms (E, 1, out).
    """

    def __init__(self, members: int, inputs: int, width: int, outputs: int) -> None:
        """Make room for the weights; :func:`initialise` draws them."""
        super().__init__()
        widths = [inputs, width, width, outputs]
        pairs = list(pairwise(widths))
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(members, a, b)) for a, b in pairs])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, b)) for _, b in pairs])
        self.norm_weights = nn.ParameterList([nn.Parameter(torch.ones(members, 1, width)) for _ in range(2)])
        self.norm_biases = nn.ParameterList([nn.Parameter(torch.zeros(members, 1, width)) for _ in range(2)])

    def forward(
        self,
        *parts: torch.Tensor,
        heads: torch.Tensor | None = None,
        dropout: torch.Tensor | None = None,
        frozen: bool = False,
    ) -> torch.Tensor:
        """Some members' outputs for rows that all of them see.

        Args:
            *parts: (N, I_i), standing for their concatenation.
            heads: (K,) int64, the members wanted; None: all E.
            dropout: (K, N, width) factors of the first hidden layer before its norm: 0 where a unit is dropped,
                1 / (1 - p) elsewhere; None: no dropout.
            frozen: Whether the weights get no gradient.

        Returns:
            (K, N, outputs).
        """
        members = self.weights[0].shape[0]
        chosen = heads is not None and not (members == len(heads) == 2)  # two of two, in either order, are both

        def pick(tensor: torch.Tensor) -> torch.Tensor:
            tensor = tensor.detach() if frozen else tensor
            return tensor.index_select(0, heads) if chosen and heads is not None else tensor

        first, x = pick(self.weights[0]), pick(self.biases[0])
        if frozen:  # part by part, so that the gradient is computed for those alone that want one
            for part, rows in zip(parts, first.split([part.shape[-1] for part in parts], 1), strict=True):
                x = torch.baddbmm(x, part.expand(len(first), *part.shape), rows)
        else:
            joint = torch.cat(parts, -1)  # (N, I)
            x = torch.baddbmm(x, joint.expand(len(first), *joint.shape), first)  # (K, N, width)
        for i in range(3):
            if i:
                x = torch.baddbmm(pick(self.biases[i]), x, pick(self.weights[i]))
            if i < 2:
                if i == 0 and dropout is not None:
                    x = x * dropout
                x = norm_mish(x, pick(self.norm_weights[i]), pick(self.norm_biases[i]))
        return x


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights as published: truncated normal of standard deviation 0.02, zero biases, plain norms.

    The truncation is at two units, which is a hundred standard deviations: it is of no effect, as in the original.
    """
    for part in module.modules():
        if isinstance(part, NormedLinear):
            part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * INIT_STD)
            part.bias.zero_()
        elif isinstance(part, Ensemble):
            for weight in part.weights:
                weight.copy_(torch.randn(weight.shape, generator=generator) * INIT_STD)
        elif isinstance(part, nn.Conv2d):  # torch's own law, as published
            bound = 1 / part.weight[0].numel() ** 0.5
            for parameter in part.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)
        elif isinstance(part, nn.Embedding):
            part.weight.copy_(torch.rand(part.weight.shape, generator=generator) * 2 * INIT_STD - INIT_STD)
