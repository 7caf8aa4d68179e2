"""Recording of pictures: drawn from states or decoded, and pretrained networks that are files or nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wmbench.collecting import collect
from wmbench.episodes import Dataset, DatasetWriter
from wmbench.errors import CheckpointError, DatasetError, MissingExtraError, RenderError
from wmbench.measuring import measure_images
from wmbench.protocols import Prediction
from wmbench.recording import Recording
from wmbench.recording.images import BASELINE, record_images
from wmbench.recording.pretrained import Lpips, VideoNetwork
from wmbench.registry import world_models

CUT = {"horizon": 4, "windows": 6, "size": 32}


def shade(number):
    """A picture of one number: a grey that follows it."""
    return np.uint8(np.clip(100 + 20 * number, 0, 255))


class Camera:
    """Draws an observation, or a state, as one shade."""

    def __init__(self, size):
        self.size, self.state, self.closed = size, None, False

    def render_pose(self, observation):
        return np.full((*self.size, 3), shade(observation[0]))

    def set_state(self, state):
        self.state = state

    def render(self):
        return np.full((*self.size, 3), shade(self.state[0]))

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def cameras(monkeypatch):
    made = []

    def make(dataset, size):
        made.append(Camera(size))
        return made[-1]

    monkeypatch.setattr("wmbench.recording.images._simulator", make)
    yield made
    assert all(camera.closed for camera in made)


@pytest.fixture
def dataset(tmp_path, toy_card, toy_episode):
    return write(tmp_path / "toy", toy_card, [toy_episode(seed) for seed in range(12)])


def write(folder, card, episodes):
    with DatasetWriter(folder, card, split=(0.5, 0.1, 0.4)) as writer:
        for episode in episodes:
            writer.add(episode)
    return Dataset(folder, task=card)


class Copier:
    """Copies the observation; may fail after some steps, may decode pixels."""

    def __init__(self, task, fail=None, pixels=None):
        self.card = SimpleNamespace(task_ids=(task.id,))
        self.fail = fail
        if pixels:
            self.render = lambda state: torch.full((len(state["o"]), pixels, pixels, 3), 7, dtype=torch.uint8)

    def initial(self, start, *, keys):
        return {"o": start.observation, "t": torch.zeros(len(keys), dtype=torch.int64)}

    def step(self, state, action, *, uncertainty=False):
        t = state["t"] + 1
        o = state["o"]
        if self.fail is not None:
            o = torch.where((t >= self.fail)[:, None], torch.nan, o)
        return {"o": o, "t": t}, Prediction(o)


def results(recording, subject):
    return {r.name: r for r in recording.results() if r.subject == subject}


def test_states_are_drawn_alike_and_copying_equals_the_baseline(dataset):
    recording = record_images({"copier": Copier(dataset.task)}, dataset, **CUT)
    a = recording.arrays
    w, h = (int(i[0]) for i in np.nonzero(a["valid"]))
    episode = dataset.episode(int(a["episode"][w]))
    at = int(a["step"][w]) + h
    assert a["truth"].shape == (6, 4, 32, 32, 3)
    assert (a["truth"][w, h] == shade(episode.observation[at + 1, 0])).all()
    assert (a["prediction"][0] == a["prediction"][1]).all()
    assert (a["prediction"][0, w, h] == shade(episode.observation[a["step"][w], 0])).all()
    assert not a["truth"][~a["valid"]].any()
    found, base = results(recording, "copier"), results(recording, BASELINE)
    assert found["psnr"].value == base["psnr"].value < 100
    assert "lpips=PATH" in found["lpips"].reason
    alone = record_images({BASELINE: Copier(dataset.task)}, dataset, **CUT)
    assert alone.arrays["subject"].tolist() == [BASELINE]
    assert alone.arrays["role"].tolist() == ["model"]


def test_what_is_not_finite_is_not_drawn_and_counts_as_worst(dataset):
    recording = record_images({"lost": Copier(dataset.task, fail=2)}, dataset, **CUT)
    a = recording.arrays
    assert (a["drawn"][0] == (a["valid"] & (np.arange(4) < 1))).all()
    found = results(recording, "lost")
    assert found["psnr"].n_invalid == (a["valid"] & (np.arange(4) >= 1)).sum()
    assert found["psnr"].details["curve"]["value"][1] == 0.0


def test_decoded_pixels_against_the_simulator_in_the_recorded_states(dataset):
    recording = record_images({"pixels": Copier(dataset.task, pixels=16)}, dataset, **CUT)
    a = recording.arrays
    assert a["truth"].shape == (6, 4, 16, 16, 3)
    w, h = (int(i[0]) for i in np.nonzero(a["valid"]))
    state = dataset.episode(int(a["episode"][w])).state[int(a["step"][w]) + h + 1]
    assert (a["truth"][w, h] == shade(state[0])).all()
    assert (a["prediction"][0][a["valid"]] == 7).all()
    assert not a["prediction"][0][~a["valid"]].any()
    assert a["drawn"][0].sum() == a["valid"].sum()


def test_decoded_pixels_against_stored_pictures(tmp_path, toy_card, toy_episode, cameras):
    def with_pictures(seed):
        episode = toy_episode(seed)
        episode.extra["rgb"] = np.full((len(episode) + 1, 16, 16, 3), 9, np.uint8)
        episode.state = None
        return episode

    dataset = write(tmp_path / "rgb", toy_card, [with_pictures(seed) for seed in range(12)])
    recording = record_images({"pixels": Copier(dataset.task, pixels=16)}, dataset, **CUT)
    assert (recording.arrays["truth"][recording.arrays["valid"]] == 9).all()
    assert not cameras
    with pytest.raises(DatasetError, match="neither pictures"):
        record_images({"pixels": Copier(dataset.task, pixels=24)}, dataset, **CUT)


def test_the_true_simulator_draws_what_it_predicts(tmp_path, monkeypatch):
    monkeypatch.undo()  # no toy camera
    dataset = collect("DMC-CartpoleSwingup", episodes=10, out=tmp_path / "cartpole")
    oracle = world_models.load("oracle").for_task(dataset.task)
    try:
        recording = record_images({"oracle": oracle}, dataset, horizon=3, windows=2, size=24)
    except RenderError as error:
        pytest.skip(str(error))
    assert recording.arrays["truth"].std() > 1
    assert results(recording, "oracle")["psnr"].value == 100.0
    assert results(recording, BASELINE)["psnr"].value < 100.0


def test_models_of_two_kinds_are_recorded_apart(dataset):
    plain, small, large = (Copier(dataset.task, pixels=p) for p in (None, 16, 24))
    with pytest.raises(DatasetError, match="decode pixels and"):
        record_images({"plain": plain, "small": small}, dataset, **CUT)
    with pytest.raises(DatasetError, match="sizes"):
        record_images({"large": large, "small": small}, dataset, **CUT)


@pytest.fixture
def weights(tmp_path):
    """Random weights in the place of AlexNet's."""
    torch.manual_seed(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    tensors = {}
    for i, (out, into, side) in shapes.items():
        tensors[f"features.{i}.weight"] = torch.randn(out, into, side, side) / (into * side**2) ** 0.5
        tensors[f"features.{i}.bias"] = 0.1 * torch.randn(out)
    save_file(tensors | {"classifier.1.weight": torch.zeros(2)}, tmp_path / "alexnet.safetensors")
    return tmp_path / "alexnet.safetensors"


def test_lpips_equals_torchmetrics_on_the_same_weights(weights, monkeypatch):
    theirs = pytest.importorskip("torchmetrics.functional.image.lpips")

    ours = Lpips(weights)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda net, pretrained: ours._layers)
    reference = theirs._LPIPS(net="alex", pnet_rand=True)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 64, 48, 3)).astype(np.uint8)
    tensors = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (a, b)]
    expected = reference(*tensors).detach().flatten().double().numpy()
    assert ours(a, b) == pytest.approx(expected, rel=1e-5)
    assert ours(a, a) == pytest.approx(0.0, abs=1e-12)
    assert ours(b, a) == pytest.approx(ours(a, b), rel=1e-5)
    assert ours(a[:0], b[:0]).shape == (0,)


class Video(nn.Module):
    """Mean colour of a video, called like I3D."""

    def __init__(self, flat: bool = False):
        super().__init__()
        self.flat = flat

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        mean = x.mean(dim=(2, 3, 4))
        return mean[0] if self.flat else mean


def scripted(path, flat=False):
    torch.jit.script(Video(flat)).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lpips_and_video_features_of_a_recording(dataset, weights, tmp_path):
    pytest.importorskip("torchmetrics")
    video = scripted(tmp_path / "video.pt")
    recording = record_images({"copier": Copier(dataset.task)}, dataset, lpips=weights, fvd=video, **CUT)
    a = recording.arrays
    assert a["has_lpips"]
    assert a["true_feature"].shape == (a["valid"].all(1).sum(), 3)
    complete = a["truth"][a["valid"].all(1)]
    assert a["true_feature"] == pytest.approx(complete.reshape(*complete.shape[:2], -1, 3).mean((1, 2)), rel=1e-5)
    found = results(recording, "copier")
    assert found["lpips"].value >= 0
    assert found["fvd"].value is not None
    again = Recording.load(recording.save(tmp_path / "r.safetensors"))
    assert [r.to_json() for r in again.results()] == [r.to_json() for r in recording.results()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_are_files_of_the_right_kind_or_a_sentence(weights, tmp_path, monkeypatch):
    with monkeypatch.context() as absent:
        absent.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"wmbench\[images\]"):
            Lpips(weights)
    pytest.importorskip("torchmetrics")
    with pytest.raises(CheckpointError, match="downloads nothing"):
        Lpips(tmp_path / "absent")
    torch.save({}, tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match="convert"):
        Lpips(tmp_path / "pickle.pth")
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"features\.0\.weight.*missing"):
        Lpips(tmp_path / "other.safetensors")
    from safetensors.torch import load_file

    bad = load_file(weights)
    bad["features.3.bias"][0] = float("nan")
    save_file(bad, tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match="NaN"):
        Lpips(tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match="on disk"):
        VideoNetwork(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="TorchScript"):
        VideoNetwork(weights)
    frames = np.zeros((1, 4, 8, 8, 3), np.uint8)
    with pytest.raises(CheckpointError, match="expected"):
        VideoNetwork(scripted(tmp_path / "flat.pt", flat=True))(frames)
    torch.jit.script(nn.Identity()).save(str(tmp_path / "identity.pt"))
    with pytest.raises(CheckpointError, match="as I3D does"):
        VideoNetwork(tmp_path / "identity.pt")(frames)


def test_without_complete_windows_there_are_no_features(tmp_path, toy_card, toy_episode):
    short = write(tmp_path / "short", toy_card, [toy_episode(seed, steps=3) for seed in range(12)])
    recording = record_images({}, short, fvd=None, **CUT)
    assert recording.arrays["true_feature"].shape == (0, 0)
    assert "fvd=PATH" in results(recording, BASELINE)["fvd"].reason


def test_in_one_call(dataset):
    assert measure_images({}, dataset, **CUT).find("psnr", BASELINE).value is not None
