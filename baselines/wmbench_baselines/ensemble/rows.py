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

VECTOR = 32
"""Elements that elementwise kernels take at once, a multiple of every vector length; the rest takes a scalar path."""

_SHARE = 32_768
"""Elements below which torch gives elementwise work to one thread."""


def silu_(x: torch.Tensor) -> torch.Tensor:
    """SiLU in place, of a contiguous tensor with a multiple of 32 elements, none of which meets the scalar path."""
    flat = x.view(-1)
    n = flat.numel()
    threads = min(torch.get_num_threads(), -(-n // _SHARE)) if flat.is_cpu else 1
    if threads == 1:
        silu(flat, inplace=True)
        return x
    even = n - n % (threads * VECTOR)  # splits into equal shares of whole vectors
    if -(-even // _SHARE) < threads:  # so little beyond a share's size that torch would take one thread less
        even = (threads - 1) * _SHARE
    silu(flat[:even], inplace=True)
    if even < n:
        silu(flat[even:], inplace=True)
    return x


def mlp(x: torch.Tensor, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """A multilayer perceptron with SiLU between its layers.

    Args:
        x: (N, I), N a multiple of :data:`ROWS`; not changed.
        layers: Weight (in, out) and bias (out,) of each layer; hidden widths are multiples of 8, and that of the
            output one of :data:`COLUMNS`.

    Returns:
        (N, O), fresh memory.
    """
    for weight, bias in layers[:-1]:
        x = silu_(torch.addmm(bias, x, weight))  # (N, H)
    weight, bias = layers[-1]
    return torch.addmm(bias, x, weight)


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
    x = x.index_select(0, torch.cat([order, order[:1].expand(ROWS)]))  # the last group needs rows to be padded with
    parts, start = [], 0
    for e, n in enumerate(counts):
        if n:  # rows of the next group serve as padding, and what comes of them is dropped
            parts.append(network(e, x[start : start + n + -n % ROWS])[:n])
            start += n
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return torch.cat(parts).index_select(0, place)


def whole(x: torch.Tensor, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """All rows of (B, I) by one network that wants a multiple of :data:`ROWS` of them: (B, O)."""
    return network(pad(x, (0, 0, 0, -len(x) % ROWS)))[: len(x)]
