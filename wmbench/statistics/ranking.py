"""What is lost by trusting another's ranking: rank violations and the regret of picking the best k."""

from __future__ import annotations

import numpy as np

from wmbench.statistics.correlation import pairwise_sign

MMRV_VARIANTS = ("sym", "lt", "gt", "product", "sim-gap")
REGRET_VARIANTS = ("range", "raw", "deep-ope", "top-k-mean")


def mmrv(estimate: np.ndarray, true: np.ndarray, variant: str = "sym") -> np.ndarray:
    """Mean maximum rank violation (Li et al. 2024, https://arxiv.org/abs/2405.05941, equation 1).

    (1 / n) sum_i max_j gap_ij [i and j are ordered otherwise by S than by R], with R true, S estimated and the gap
    |R_i - R_j|. What "ordered otherwise" means when values tie is the variant:

    * ``sym``: sign(S_i - S_j) differs from sign(R_i - R_j) and R_i is not R_j (ours: an estimate that ties what
      differs violates, from both sides);
    * ``lt``: (S_i < S_j) differs from (R_i < R_j), the paper's formula;
    * ``gt``: (S_i > S_j) differs from (R_i > R_j), the released code;
    * ``product``: (S_i - S_j)(R_i - R_j) < 0, ties never violate;
    * ``sim-gap``: as ``gt`` with the gap |S_i - S_j|, what swapped arguments compute.

    Args:
        estimate: (..., n) S, finite or minus infinity (``sim-gap``: finite).
        true: (..., n) R, finite.
        variant: One of the above.

    Returns:
        (...) at least 0, in units of R (of S for ``sim-gap``).

    Raises:
        ValueError: Unknown variant.
    """
    s, r = np.asarray(estimate, dtype=np.float64), np.asarray(true, dtype=np.float64)
    s_i, s_j, r_i, r_j = s[..., :, None], s[..., None, :], r[..., :, None], r[..., None, :]
    gap = np.abs(r_i - r_j)  # (..., n, n)
    if variant == "sym":
        violated = pairwise_sign(s) != pairwise_sign(r)  # where R ties the gap is 0
    elif variant == "lt":
        violated = (s_i < s_j) != (r_i < r_j)
    elif variant == "gt":
        violated = (s_i > s_j) != (r_i > r_j)
    elif variant == "product":
        violated = pairwise_sign(s) * pairwise_sign(r) < 0
    elif variant == "sim-gap":
        violated, gap = (s_i > s_j) != (r_i > r_j), np.abs(s_i - s_j)
    else:
        raise ValueError(f"unknown MMRV variant {variant!r}: one of {', '.join(MMRV_VARIANTS)}")
    return np.where(violated, gap, 0.0).max(-1).mean(-1)


def regret_at_k(
    estimate: np.ndarray, true: np.ndarray, k: int, *, variant: str = "range", ties: str = "expected"
) -> float | None:
    """What the k items that the estimate ranks first fall short of what could have been picked.

    Variants, with R true and S estimated:

    * ``range``: (max R - max of R over the top k by S) / (max R - min R);
    * ``raw``: the same without the division;
    * ``deep-ope``: as published code computes it (Fu et al. 2021, https://arxiv.org/abs/2103.16596): R and S are
      taken to [0, 1] by the range of R, and S is cut above at 2, which ties what lies beyond;
    * ``top-k-mean``: mean of the k largest R less the mean of R over the top k by S.

    Where S ties across the border of the top k, ``expected`` is the mean over all ways to break the tie and
    ``worst`` the largest regret among them.

    Args:
        estimate: (n,) S, finite or minus infinity, which ranks last.
        true: (n,) R, finite.
        k: How many are picked, 1 to n.
        variant: One of the above.
        ties: ``expected`` or ``worst``.

    Returns:
        At least 0; None where a variant divides by a range of zero.

    Raises:
        ValueError: Unknown variant or treatment of ties, or k out of range.
    """
    s, r = np.asarray(estimate, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if variant not in REGRET_VARIANTS:
        raise ValueError(f"unknown regret variant {variant!r}: one of {', '.join(REGRET_VARIANTS)}")
    if ties not in ("expected", "worst"):
        raise ValueError(f"unknown treatment of ties {ties!r}: expected or worst")
    if not 1 <= k <= len(r):
        raise ValueError(f"k must lie between 1 and {len(r)}, got {k}")
    top, spread = float(r.max()), float(r.max() - r.min())
    if variant == "deep-ope":
        s = np.minimum(s, float(r.min()) + 2 * spread)
    certain, tied = picked(s, k)
    m = k - len(certain)
    if variant == "top-k-mean":
        best = float(np.sort(r)[-k:].mean())
        part = m * r[tied].mean() if ties == "expected" else np.sort(r[tied])[:m].sum()
        return max(0.0, best - float(r[certain].sum() + part) / k)
    # Of the tied N, m are picked: none of them exceeds the j-th smallest R with chance C(j, m) / C(N, m).
    ordered = np.sort(r[tied])
    values = np.maximum(ordered, r[certain].max(initial=-np.inf))
    if ties == "worst":
        found = float(values[m - 1])
    else:
        up_to = np.arange(1, len(tied) + 1)
        below = np.ones(len(tied))
        for t in range(m):
            below *= np.maximum(up_to - t, 0) / (len(tied) - t)
        found = float(np.diff(below, prepend=0.0) @ values)
    regret = max(0.0, top - found)
    if variant == "raw":
        return regret
    return regret / spread if spread > 0 else None


def picked(estimate: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Who is among the k largest.

    Args:
        estimate: (n,) finite or minus infinity.
        k: 1 to n.

    Returns:
        Indices of those that are in for certain, fewer than k, and of those that tie for the other places.
    """
    s = np.asarray(estimate, dtype=np.float64)
    border = np.sort(s)[len(s) - k]
    return np.flatnonzero(s > border), np.flatnonzero(s == border)
