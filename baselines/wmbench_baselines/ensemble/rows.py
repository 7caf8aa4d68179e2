"""Dense layers whose rows, on the CPU, have the same bits whatever the batch around them.

Three things break that in plain torch. Matrix products treat rows beyond the last multiple of 8 with other
kernels, so batches are padded. With few output columns, and not a multiple of 16 of them, even a row's place
within the 8 decides its rounding, so outputs are padded too. And SiLU takes a scalar path, with another
exponential, for what is left when a thread's share is not a multiple of the vector length; where shares begin
depends on the size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad, silu

ROWS = 8
"""Matrix kernels treat whole groups of this many rows alike."""

COLUMNS = 16
"""And whole groups of this many output columns."""

_SHARE = 32_768
"""Elements below which torch gives elementwise work to one thread; a multiple of every vector length."""


def silu_(x: torch.Tensor) -> torch.Tensor:
    """SiLU in place, of a contiguous tensor with a multiple of 32 elements.

    Threads are given shares of exactly :data:`_SHARE` elements, and the rest goes to a single one, so that no
    element meets the scalar path.
    """
    flat = x.view(-1)
    n = flat.numel()
    if not flat.is_cpu or n <= _SHARE:
        silu(flat, inplace=True)
        return x
    whole = n - n % _SHARE
    stride = _SHARE * torch.get_num_threads()
    for start in range(0, whole, stride):
        silu(flat[start : min(start + stride, whole)], inplace=True)
    if whole < n:
        silu(flat[whole:], inplace=True)
    return x


def mlp(x: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor]], outputs: int) -> torch.Tensor:
    """A multilayer perceptron with SiLU between its layers.

    Args:
        x: (N, I), N a multiple of :data:`ROWS`; not changed.
        layers: Weight (in, out) and bias (out,) of each layer; hidden widths are multiples of 8.
        outputs: How many of the last layer's outputs are wanted: the first so many.

    Returns:
        (N, outputs).
    """
    for weight, bias in layers[:-1]:
        x = silu_(torch.addmm(bias, x, weight))  # (N, H)
    weight, bias = layers[-1]
    missing = -outputs % COLUMNS
    weight, bias = pad(weight[:, :outputs], (0, missing)), pad(bias[:outputs], (0, missing))
    return torch.addmm(bias, x, weight)[:, :outputs]


def grouped(
    x: torch.Tensor, member: torch.Tensor, members: int, network: Callable[[int, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Each row by its own network, the rows of one together.

    Args:
        x: (B, I), B > 0.
        member: (B,) int64, the network of each row.
        members: How many there are.
        network: Called with a network's number and (N, I) inputs, N a multiple of :data:`ROWS`; gives (N, O).

    Returns:
        (B, O), in the order of ``x``.
    """
    order = torch.argsort(member)
    counts = torch.bincount(member, minlength=members).tolist()
    x = pad(x[order], (0, 0, 0, ROWS))  # the last group needs rows to be padded with
    parts, start = [], 0
    for e, n in enumerate(counts):
        if n:  # rows of the next group serve as padding, and what comes of them is dropped
            parts.append(network(e, x[start : start + n + -n % ROWS])[:n])
            start += n
    out = torch.cat(parts)
    return torch.empty_like(out).index_copy_(0, order, out)


def whole(x: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """All rows of (B, I) by one network that wants a multiple of :data:`ROWS` of them: (B, O)."""
    return network(pad(x, (0, 0, 0, -len(x) % ROWS)))[: len(x)]
