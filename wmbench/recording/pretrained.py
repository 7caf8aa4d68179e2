"""Pretrained networks that judge pictures. Weights are files that the user names; nothing is ever downloaded."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from wmbench.errors import CheckpointError, require

AFTER = (1, 4, 7, 9, 11)
"""Layers of AlexNet, after whose rectifiers LPIPS compares."""

CONVERT = (
    "python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('alexnet-owt-7be5be79.pth', "
    "weights_only=True), 'alexnet.safetensors')\""
)
CHUNK = 64


class Lpips:
    """Learned perceptual image patch similarity on AlexNet (Zhang et al. 2018, https://arxiv.org/abs/1801.03924).

    The backbone's weights are torchvision's, from the user's file; the linear weights (version 0.1) come with
    torchmetrics.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the weights.

        Args:
            path: Safetensors file with torchvision's names, ``features.0.weight`` and so on.

        Raises:
            MissingExtraError: torchmetrics is not installed.
            CheckpointError: The file is absent, no safetensors file, incomplete, or holds numbers that are not finite.
        """
        require("torchmetrics", "images")
        self._layers = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        weights = _read(Path(path))
        wanted = {f"features.{name}": tensor.shape for name, tensor in self._layers.state_dict().items()}
        for name, shape in wanted.items():
            if name not in weights or weights[name].shape != shape:
                raise CheckpointError(
                    f"{path}: {name} of shape {tuple(shape)} is missing; expected torchvision's AlexNet"
                )
            if not torch.isfinite(weights[name]).all():
                raise CheckpointError(f"{path}: {name} holds NaN or infinity; fetch the file again")
        self._layers.load_state_dict({name.removeprefix("features."): weights[name] for name in wanted})
        lines = files("torchmetrics").joinpath("functional/image/lpips_models/alex.pth")
        with lines.open("rb") as file:
            linear = torch.load(file, map_location="cpu", weights_only=True)
        self._linear = [linear[f"lin{i}.model.1.weight"] for i in range(len(AFTER))]  # (1, C, 1, 1) each
        self._shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
        self._scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]

    @torch.no_grad()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Distance of pictures.

        Args:
            first: (N, h, w, 3) uint8, at least 32 pixels wide and high.
            second: (N, h, w, 3) uint8.

        Returns:
            (N,) float64, 0 for equal pictures.
        """
        parts = [np.zeros(0)]
        for start in range(0, len(first), CHUNK):
            pair = [self._features(x[start : start + CHUNK]) for x in (first, second)]
            apart = [((a - b) ** 2 * w).sum(1).mean((1, 2)) for a, b, w in zip(*pair, self._linear, strict=True)]
            parts.append(torch.stack(apart).sum(0).double().numpy())
        return np.concatenate(parts)

    def _features(self, pictures: np.ndarray) -> list[torch.Tensor]:
        """(B, h, w, 3) uint8 to activations (B, C, h', w') of unit length over C."""
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x = (x - self._shift) / self._scale
        found = []
        for i, layer in enumerate(self._layers):
            x = layer(x)
            if i in AFTER:
                found.append(x / torch.sqrt((x**2).sum(1, keepdim=True) + 1e-8))
        return found


class VideoNetwork:
    """Features of videos for the Frechet video distance, by a TorchScript network such as the I3D of published numbers.

    Called as StyleGAN-V's ``i3d_torchscript.pt`` is: ``network(x, rescale=True, resize=True, return_features=True)``
    with x (N, 3, T, h, w) float32 in 0 to 255.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the network.

        Raises:
            CheckpointError: The file is absent or no TorchScript network.
        """
        self._path = Path(path)
        if not self._path.is_file():
            raise CheckpointError(
                f"{path} does not exist: FVD needs a TorchScript file of a video network (I3D) on disk"
            )
        try:
            self._network = torch.jit.load(str(self._path), map_location="cpu").eval()
        except RuntimeError as error:
            raise CheckpointError(f"{path} is no TorchScript network: {str(error).splitlines()[0]}") from error

    @torch.no_grad()
    def __call__(self, videos: np.ndarray) -> np.ndarray:
        """Features.

        Args:
            videos: (N, T, h, w, 3) uint8.

        Returns:
            (N, F) float64.

        Raises:
            CheckpointError: The network takes or gives something else.
        """
        parts = []
        for video in videos:
            x = torch.from_numpy(np.ascontiguousarray(video)).permute(3, 0, 1, 2)[None].float()
            try:
                answer = self._network(x, rescale=True, resize=True, return_features=True)
            except RuntimeError as error:
                raise CheckpointError(
                    f"{self._path} does not take {len(video)} frames as I3D does: {str(error).splitlines()[-1]}"
                ) from error
            if answer.ndim != 2 or len(answer) != 1:
                raise CheckpointError(f"{self._path} gave {tuple(answer.shape)} for one video, expected (1, features)")
            parts.append(answer[0].double().numpy())
        return np.stack(parts)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: LPIPS needs AlexNet's weights on disk and downloads nothing")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file; convert torchvision's with\n  {CONVERT}") from error
