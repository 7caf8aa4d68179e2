"""Pictures: known answers, independent implementations, what cannot be drawn, and never in a ranking."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wmbench import registry
from wmbench.measures import Result
from wmbench.measures.images import MEASURE, frame_scores, frechet_distance

WINDOWS, HORIZON, SIZE = 6, 3, 16


def recording(**changes):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 200, (WINDOWS, HORIZON, SIZE, SIZE, 3)).astype(np.uint8)
    arrays = {
        "subject": np.array(["model"]),
        "role": np.array(["model"]),
        "truth": truth,
        "valid": np.ones((WINDOWS, HORIZON), dtype=bool),
        "episode": np.arange(WINDOWS) // 2,
        "prediction": truth[None].copy(),
        "drawn": np.ones((1, WINDOWS, HORIZON), dtype=bool),
        "has_lpips": np.array(False),
        "lpips_frame": np.zeros((1, WINDOWS, HORIZON)),
        "true_feature": np.zeros((WINDOWS, 0)),
        "feature": np.zeros((1, WINDOWS, 0)),
    }
    return arrays | changes


def measured(arrays):
    found = {r.name: r for r in MEASURE(arrays)}
    for result in found.values():
        assert Result.from_json(result.to_json()) == result
        assert result.details["ranking"] is False
    return found


def test_identical_pictures_and_no_place_in_a_ranking():
    found = measured(recording())
    assert found["psnr"].value == 100.0
    assert found["ssim"].value == pytest.approx(1.0, rel=1e-12)
    assert (found["psnr"].n, found["psnr"].n_invalid) == (WINDOWS * HORIZON, 0)
    assert "lpips=PATH" in found["lpips"].reason
    assert "fvd=PATH" in found["fvd"].reason
    assert MEASURE.ranks is False
    assert registry.measures.load("images") is MEASURE
    assert registry.measures.load("drift").ranks is True


def test_a_constant_offset_has_a_closed_form():
    arrays = recording()
    for h, offset in enumerate((1, 5, 25)):
        arrays["prediction"][0, :, h] += np.uint8(offset)
    curve = measured(arrays)["psnr"].details["curve"]
    assert curve["step"] == [1, 2, 3]
    assert curve["value"] == pytest.approx([20 * np.log10(255 / o) for o in (1, 5, 25)], rel=1e-12)
    assert measured(arrays)["psnr"].value == pytest.approx(np.mean(curve["value"]), rel=1e-12)
    assert curve["ci_low"][0] == pytest.approx(curve["value"][0])


def test_black_against_white_is_zero():
    zero, full = np.zeros((1, SIZE, SIZE, 3), np.uint8), np.full((1, SIZE, SIZE, 3), 255, np.uint8)
    scores = frame_scores(zero, full)
    assert scores["psnr"][0] == 0.0
    c1 = (0.01 * 255) ** 2  # two constants: only the luminance term is left
    assert scores["ssim"][0] == pytest.approx(c1 / (255.0**2 + c1), rel=1e-9)


def test_equal_to_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (4, 24, 20, 3)).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    scores = frame_scores(a, b)
    mse = ((a.astype(float) - b) ** 2).mean((1, 2, 3))
    assert scores["psnr"] == pytest.approx(10 * np.log10(255**2 / mse), rel=1e-12)
    tensors = [torch.from_numpy(x).permute(0, 3, 1, 2).double() for x in (a, b)]
    theirs = functional.peak_signal_noise_ratio(*tensors, data_range=255.0, dim=(1, 2, 3), reduction="none")
    assert scores["psnr"] == pytest.approx(theirs.numpy(), rel=1e-6)  # which takes a logarithm in float32
    theirs = functional.structural_similarity_index_measure(*tensors, data_range=255.0, reduction="none")
    assert scores["ssim"] == pytest.approx(theirs.numpy(), rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_symmetric_and_indifferent_to_order_and_mirrors(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 256, (2, 5, 12, 14, 3)).astype(np.uint8)
    order = rng.permutation(5)
    for name, values in frame_scores(a, b).items():
        assert frame_scores(b, a)[name] == pytest.approx(values, rel=1e-12)
        assert frame_scores(a[order], b[order])[name] == pytest.approx(values[order], rel=1e-12)
        flipped = frame_scores(a[:, :, ::-1].copy(), b[:, :, ::-1].copy())[name]
        assert flipped == pytest.approx(values, rel=1e-9)


def test_frames_that_cannot_be_drawn_are_the_worst_there_are():
    arrays = recording(has_lpips=np.array(True))
    arrays["drawn"][0, 0, 1] = False
    arrays["lpips_frame"][0, 2, 2] = np.nan
    found = measured(arrays)
    n = WINDOWS * HORIZON
    assert found["psnr"].value == pytest.approx(100 * (n - 1) / n)
    assert found["ssim"].value == pytest.approx((n - 2) / n)
    assert found["lpips"].value == pytest.approx(2 / n)
    assert (found["psnr"].n_invalid, found["lpips"].n_invalid) == (1, 2)


def test_past_the_end_nothing_is_compared():
    arrays = recording()
    arrays["valid"][::2, 1:] = False
    arrays["prediction"][0, ::2, 1:] = 0
    found = measured(arrays)
    assert found["psnr"].value == 100.0
    assert found["psnr"].n == WINDOWS + 2 * WINDOWS // 2
    only = recording()
    only["valid"][:, 2] = False
    only["valid"][2:, 1] = False  # one episode alone reaches the second step
    only["prediction"][0, :2, 1] += np.uint8(5)
    curve = measured(only)["psnr"].details["curve"]
    assert curve["step"] == [1, 2]
    assert curve["value"][1] == pytest.approx(20 * np.log10(51))
    alone = recording(episode=np.zeros(WINDOWS, dtype=int))
    assert measured(alone)["psnr"].details["curve"]["ci_low"] == [None] * HORIZON


def test_small_frames_and_none():
    small = recording()
    small["truth"], small["prediction"] = small["truth"][:, :, :8], small["prediction"][:, :, :, :8]
    found = measured(small)
    assert found["psnr"].value == 100.0
    assert "11 pixels" in found["ssim"].reason
    nothing = recording(valid=np.zeros((WINDOWS, HORIZON), dtype=bool))
    assert {r.reason for r in MEASURE(nothing)} == {"there are no frames"}


def test_frechet_distance_known_answers():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 4))
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(x, x + np.array([3.0, 0, 4.0, 0])) == pytest.approx(25.0, rel=1e-9)
    y = x[:, :1]  # in one dimension (mu_1 - mu_2)^2 + (sigma_1 - sigma_2)^2
    assert frechet_distance(y, 3 * y + 1) == pytest.approx((2 * y.mean() + 1) ** 2 + 4 * y.var(ddof=1), rel=1e-9)


def test_frechet_distance_equals_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6)) + 1
    moments = [torch.from_numpy(part) for z in (x, y) for part in (z.mean(0), np.cov(z, rowvar=False))]
    assert frechet_distance(x, y) == pytest.approx(fid._compute_fid(*moments).item(), rel=1e-9)


def test_video_distance_of_recorded_features():
    rng = np.random.default_rng(4)
    feature = rng.normal(size=(60, 2))
    found = measured(recording(true_feature=feature, feature=feature[None] + 2.0))
    assert found["fvd"].value == pytest.approx(8.0, rel=1e-9)
    assert found["fvd"].reason is None
    assert found["fvd"].ci_low is None
    few = measured(recording(true_feature=feature[:5], feature=feature[None, :5]))
    assert "by chance" in few["fvd"].reason
    assert few["fvd"].value == pytest.approx(0.0, abs=1e-9)
    one = measured(recording(true_feature=feature[:1], feature=feature[None, :1]))
    assert "two windows" in one["fvd"].reason
    bad = measured(recording(true_feature=feature, feature=np.full((1, 60, 2), np.nan)))
    assert "not finite" in bad["fvd"].reason
