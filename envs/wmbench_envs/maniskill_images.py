"""Colours, depth and segmentation as the cameras of a ManiSkill scene see them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wmbench.errors import RenderError

PACKS = {"fast": "minimal", "full": "default"}
"""Render preset to SAPIEN's shader pack. ``full`` adds shadows, and has finer depth."""

DEVICE = "WMBENCH_SAPIEN_DEVICE"
"""Environment variable with the device to draw on, as ``pci:0000:01:00.0``; else a CUDA device, else what there is."""

_TEXTURES = {
    "minimal": {"rgb": "Color", "depth": "PositionSegmentation", "segmentation": "PositionSegmentation"},
    "default": {"rgb": "Color", "depth": "Position", "segmentation": "Segmentation"},
}


@dataclass(frozen=True)
class Looks:
    """How the cameras of a drawn scene see.

    Attributes:
        height: Pixels.
        width: Pixels.
        preset: ``"fast"`` or ``"full"``.
        device: What draws.
    """

    height: int = 64
    width: int = 64
    preset: str = "fast"
    device: str = field(default_factory=lambda: os.environ.get(DEVICE, "gpu"))

    def options(self) -> dict[str, Any]:
        """For ManiSkill's ``gym.make``."""
        return {
            "render_backend": self.device,
            "enable_shadow": self.preset == "full",
            "sensor_configs": {"height": self.height, "width": self.width, "shader_pack": PACKS[self.preset]},
        }


def photograph(env: Any, task: str, camera: str | None, preset: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What a camera sees now.

    Marks that ManiSkill hides from cameras, such as the goal of a cube, are seen: without them an image would not tell
    what is to be done.

    Args:
        env: ManiSkill's environment, drawn with this preset.
        task: For messages.
        camera: A name, or None for the first.
        preset: ``"fast"`` or ``"full"``.
        names: Some of ``"rgb"``, ``"depth"`` and ``"segmentation"``.

    Returns:
        ``rgb`` (H, W, 3) uint8; ``depth`` (H, W, 1) float32, metres along the camera's axis, 0 where nothing is hit,
        with the preset ``fast`` in whole millimetres and at most 32.768; ``segmentation`` (H, W, 1) int16, ids as in
        :func:`segments`, 0 where nothing is hit.

    Raises:
        RenderError: No such camera.
    """
    sensors = env._sensors
    name = next(iter(sensors)) if camera is None else camera
    if name not in sensors:
        raise RenderError(f"{task}: no camera {name!r}; there are {', '.join(sensors)}")
    env.scene.update_render(update_sensors=True, update_human_render_cameras=False)
    eye = sensors[name]
    eye.capture()
    textures = _TEXTURES[PACKS[preset]]
    wanted = list(dict.fromkeys(textures[n] for n in names))
    seen = dict(zip(wanted, (t[0].cpu().numpy() for t in eye.camera.get_picture(wanted)), strict=True))
    return {n: _READ[n](seen[textures[n]]) for n in names}


def segments(env: Any) -> dict[int, str]:
    """Id in a segmentation image to the name of the body or link; 0, where nothing is, is not among them."""
    return {int(i): str(thing.name) for i, thing in sorted(env.segmentation_id_map.items())}


@contextmanager
def devices_by_name() -> Iterator[None]:
    """While an environment is made: a device's name may have several colons, which ManiSkill takes for a list."""
    import mani_skill.envs.utils.system.backend as module

    kept = module.parse_backend_device_id
    module.parse_backend_device_id = _kind_and_number
    try:
        yield
    finally:
        module.parse_backend_device_id = kept


def _kind_and_number(name: str) -> tuple[str, str | None]:
    """``"physx_cuda:1"`` to ``("physx_cuda", "1")``; a PCI address is one name."""
    kind, _, number = name.partition(":")
    return (name, None) if kind == "pci" else (kind, number or None)


def _rgb(colour: np.ndarray) -> np.ndarray:
    """(H, W, 4), bytes or floats from 0 to 1."""
    colour = colour[..., :3]
    if colour.dtype == np.uint8:
        return colour.copy()
    return (colour * 255).round().clip(0, 255).astype(np.uint8)


def _depth(position: np.ndarray) -> np.ndarray:
    """(H, W, 4), in the camera's frame, whose z axis points back; integers are millimetres."""
    depth = np.negative(position[..., 2:3], dtype=np.float32)
    if position.dtype.kind == "i":
        depth /= np.float32(1000)
    return depth + np.float32(0)  # no minus zero


def _segmentation(ids: np.ndarray) -> np.ndarray:
    """(H, W, 4): with the positions, last; else of the body, second."""
    return ids[..., 3:4].copy() if ids.dtype == np.int16 else ids[..., 1:2].astype(np.int16)


_READ = {"rgb": _rgb, "depth": _depth, "segmentation": _segmentation}
