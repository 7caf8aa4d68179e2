"""How close are predicted pictures to the true ones? For looking at, never for ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from wmbench.measures.events import clusters
from wmbench.measures.numbers import Definition, Numbers
from wmbench.measures.result import Arrays, Measure, Result, finite_or_none
from wmbench.statistics import bootstrap

CAP = 100.0
"""PSNR of identical pictures, dB; without a cap it is infinite."""

WINDOW, SIGMA = 11, 1.5
WORST = {"psnr": 0.0, "ssim": -1.0, "lpips": 1.0}
"""What a frame that could not be drawn counts as."""

BOUNDS = {"psnr": (0.0, CAP), "ssim": (-1.0, 1.0), "lpips": (0.0, np.inf)}
HORIZONS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
CHUNK = 256

_MEAN = "open loop, mean over all frames of all windows"
DEFINITIONS = {
    "psnr": Definition("dB", "higher", f"{_MEAN}, peak 255, at most {CAP:g} dB"),
    "ssim": Definition(
        "1",
        "higher",
        f"{_MEAN}, Gaussian window of {WINDOW} pixels, sigma {SIGMA:g}, mirrored at the border, range 255",
    ),
    "lpips": Definition("1", "lower", f"{_MEAN}, AlexNet, linear weights of version 0.1"),
    "fvd": Definition("1", "lower", "open loop, Frechet distance of video features of complete windows"),
}


def images(arrays: Arrays) -> list[Result]:
    """Compare predicted with true pictures, frame by frame.

    Every result carries ``ranking: False``: pictures may be sharp and wrong in what decides, or blurred and right.

    Args:
        arrays: ``subject`` (M,), ``role`` (M,), ``truth`` (W, H, h, w, 3) uint8, ``valid`` (W, H) bool, ``episode``
            (W,), ``prediction`` (M, W, H, h, w, 3) uint8, ``drawn`` (M, W, H) bool, frames that could be drawn;
            ``has_lpips`` () bool and ``lpips_frame`` (M, W, H); ``true_feature`` (V, F) and ``feature`` (M, V, F) of V
            complete windows, with F = 0 where no video network was given.

    Returns:
        For each subject ``psnr``, ``ssim``, ``lpips``, ``fvd``, with curves by step in the details.
    """
    results: list[Result] = []
    valid = arrays["valid"]
    for m, subject in enumerate(arrays["subject"]):
        common = {"role": str(arrays["role"][m]), "ranking": False}
        numbers = Numbers("images", str(subject), DEFINITIONS, common)
        if not valid.any():
            numbers.none(DEFINITIONS, "there are no frames")
            results += numbers.results
            continue
        found = frame_scores(arrays["prediction"][m][valid], arrays["truth"][valid])
        if arrays["has_lpips"]:
            found["lpips"] = arrays["lpips_frame"][m][valid].astype(np.float64)
        for name in ("psnr", "ssim", "lpips"):
            if name in found:
                _frames(numbers, name, found[name], arrays, m)
        if "ssim" not in found:
            numbers.none(["ssim"], f"frames are smaller than the window of {WINDOW} pixels", int(valid.sum()))
        if "lpips" not in found:
            numbers.none(["lpips"], "no weights were given: record with lpips=PATH of AlexNet's", int(valid.sum()))
        _videos(numbers, arrays["true_feature"], arrays["feature"][m])
        results += numbers.results
    return results


def frame_scores(prediction: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """PSNR and, for frames of at least 11 pixels, SSIM of N pairs of pictures.

    Args:
        prediction: (N, h, w, 3) uint8.
        truth: (N, h, w, 3) uint8.

    Returns:
        ``psnr`` (N,) float64 in [0, 100] dB, ``ssim`` (N,) float64 in [-1, 1].
    """
    scores: dict[str, list[np.ndarray]] = {"psnr": []}
    if min(truth.shape[1:3]) >= WINDOW:
        scores["ssim"] = []
    for start in range(0, len(truth), CHUNK):
        ahead, behind = (x[start : start + CHUNK].astype(np.float64) for x in (prediction, truth))
        squared = ((ahead - behind) ** 2).mean((1, 2, 3))
        with np.errstate(divide="ignore"):
            scores["psnr"].append(np.minimum(10 * np.log10(255.0**2 / squared), CAP))
        if "ssim" in scores:
            scores["ssim"].append(structural_similarity(ahead, behind))
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def structural_similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """SSIM of pictures in 0 to 255 (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861).

    Mean over pixels and channels of (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2)), with
    local moments under a Gaussian window, mirrored at the border, c1 = (0.01 255)^2, c2 = (0.03 255)^2. The same as
    torchmetrics gives, in a fiftieth of the time in double precision.

    Args:
        first: (N, h, w, 3) float64.
        second: (N, h, w, 3) float64.

    Returns:
        (N,) float64.
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def local(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, (0, SIGMA, SIGMA, 0), radius=(0, WINDOW // 2, WINDOW // 2, 0), mode="mirror")

    x, y = local(first), local(second)
    spread = np.maximum(local(first * first) - x * x, 0.0) + np.maximum(local(second * second) - y * y, 0.0)
    shared = local(first * second) - x * y
    each = (2 * x * y + c1) * (2 * shared + c2) / ((x * x + y * y + c1) * (spread + c2))
    return each.mean((1, 2, 3))


def _frames(numbers: Numbers, name: str, scores: np.ndarray, arrays: Arrays, m: int) -> None:
    """Mean over frames, and the curve by step."""
    valid = arrays["valid"]
    lost = ~arrays["drawn"][m][valid] | ~np.isfinite(scores)
    frames = np.zeros(valid.shape)
    frames[valid] = np.where(lost, WORST[name], scores)
    cluster, c = clusters(arrays["episode"])
    member = (cluster == np.arange(c)[:, None]).astype(np.float64)  # (C, W)
    total, count = member @ frames, member @ valid  # (C, H)

    def mean_of(columns: slice) -> Any:
        top, bottom = total[:, columns].sum(1), count[:, columns].sum(1)
        # an episode drawn again and again may have no frame at this step
        return lambda w: np.divide(w @ top, w @ bottom, out=np.full(len(w), WORST[name]), where=w @ bottom > 0)

    def entry(columns: slice) -> tuple[float, Any]:
        statistic = mean_of(columns)
        return float(statistic(np.ones((1, c)))[0]), bootstrap(statistic, c, bounds=BOUNDS[name])

    horizon = int(np.flatnonzero(valid.any(0))[-1]) + 1
    steps = sorted({h for h in HORIZONS if h < horizon} | {horizon})
    curve: dict[str, list[Any]] = {"step": steps, "value": [], "ci_low": [], "ci_high": []}
    for h in steps:
        value, interval = entry(slice(h - 1, h))
        low, high = interval or (None, None)
        curve["value"].append(value)
        curve["ci_low"].append(finite_or_none(low))
        curve["ci_high"].append(finite_or_none(high))
    value, interval = entry(slice(0, horizon))
    numbers.add(name, value, interval, int(valid.sum()), int(lost.sum()), n_episodes=c, curve=curve)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of two samples, taken as Gaussians (Dowson and Landau 1982).

    |mu_1 - mu_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), with unbiased covariances.

    Args:
        first: (N, F), N at least 2.
        second: (M, F), M at least 2.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    gap = a.mean(0) - b.mean(0)
    return max(0.0, float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * shared))


def _videos(numbers: Numbers, truth: np.ndarray, predicted: np.ndarray) -> None:
    """Frechet video distance, if features were recorded."""
    videos, features = truth.shape
    if not features:
        numbers.none(["fvd"], "no weights were given: record with fvd=PATH of a video network", videos)
    elif videos < 2:
        numbers.none(["fvd"], "fewer than two windows are complete", videos)
    elif not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        numbers.none(["fvd"], "the video network gave features that are not finite", videos)
    else:
        few = f"too large by chance: {videos} videos for {features} features" if videos <= 10 * features else None
        value = frechet_distance(truth, predicted)
        numbers.add("fvd", value, None, videos, reason=few, features=features)


MEASURE = Measure(
    name="images",
    question="How close are the predicted pictures to the true ones (for looking at, never for ranking)?",
    unit="dB",
    direction="higher",
    range=(0.0, CAP),
    needs=(
        "subject",
        "role",
        "truth",
        "valid",
        "episode",
        "prediction",
        "drawn",
        "has_lpips",
        "lpips_frame",
        "true_feature",
        "feature",
    ),
    source="PSNR, SSIM (Wang 2004), LPIPS (Zhang 2018), FVD (Unterthiner 2018); docs/measures.md",
    function=images,
    ranks=False,
)
