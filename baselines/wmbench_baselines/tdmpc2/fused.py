"""Layer norm and Mish in one differentiable step: half the passes over memory that autograd would make of them."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import layer_norm

from wmbench_baselines.tdmpc2.maths import mish

EPS = 1e-5
"""Of every layer norm."""


def norm_mish(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Mish of the layer norm of (K, N, W) rows, with weights and biases (K, 1, W) for each of the K groups.

    Compiled, it is the plain formula, which the compiler fuses itself; and so it is elsewhere than on a CPU, where many
    small kernels cost more than passes over memory.
    """
    if torch.compiler.is_compiling() or not x.is_cpu:
        return mish(layer_norm(x, x.shape[-1:], eps=EPS) * weight + bias)
    if torch.is_grad_enabled():
        result: torch.Tensor = _NormMish.apply(x, weight, bias)
        return result
    h, _, _ = _normed(x, weight, bias)
    d = h.exp().add_(1.0)
    d.mul_(d).add_(1.0)
    return h.addcdiv_(h, d, value=-2.0)  # where the exponential is too large for a number, this is h, as it should be


def _normed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The layer norm of (K, N, W), and each row's mean and inverse standard deviation (K, N, 1)."""
    if len(x) == 1:
        return torch.native_layer_norm(x, x.shape[-1:], weight[0, 0], bias[0, 0], EPS)
    h = torch.empty_like(x, memory_format=torch.contiguous_format)
    mean, scale = x.new_empty(*x.shape[:2], 1), x.new_empty(*x.shape[:2], 1)
    for k in range(len(x)):
        out = {"out0": h[k], "out1": mean[k], "out2": scale[k]}
        torch.ops.aten.native_layer_norm.out(x[k], x.shape[-1:], weight[k, 0], bias[k, 0], EPS, **out)
    return h, mean, scale


def _one(like: torch.Tensor) -> torch.Tensor:
    """The number 1."""
    return torch.ones((), dtype=like.dtype, device=like.device)


class _NormMish(torch.autograd.Function):
    """Mish is h - 2 h / d with d = u^2 + 1 and u = 1 + exp(h), its derivative 1 - 2 / d + 4 h u (u - 1) / d^2."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        h, mean, scale = _normed(x, weight, bias)
        u = h.clamp(max=20.0).exp_().add_(1.0)  # beyond 20 Mish is h
        r = torch.addcmul(_one(u), u, u).reciprocal_()  # 1 / d
        torch.addcmul(r, u, r, out=u)
        torch.addcmul(r, r, u, value=-1.0, out=u)  # u (u - 1) / d^2 = (1 - (u + 1) / d) / d
        tanh = r.mul_(-2.0).add_(1.0)
        slope = torch.addcmul(tanh, h, u, value=4.0, out=u)
        ctx.save_for_backward(x, weight, bias, mean, scale, slope)  # the slope alone: buffers cost as much as sums
        return tanh.mul_(h)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        x, weight, bias, mean, scale, slope = ctx.saved_tensors
        slope = slope * gradient
        needed = [True, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
        of_x, of_weight, of_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        for k in range(len(x)):
            parts = torch.ops.aten.native_layer_norm_backward(
                slope[k], x[k], x.shape[-1:], mean[k], scale[k], weight[k, 0], bias[k, 0], needed
            )
            of_x[k] = parts[0]
            if needed[1]:
                of_weight[k, 0] = parts[1]
            if needed[2]:
                of_bias[k, 0] = parts[2]
        return of_x, of_weight if needed[1] else None, of_bias if needed[2] else None
