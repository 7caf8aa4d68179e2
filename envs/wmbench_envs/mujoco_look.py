"""Other looks of a MuJoCo scene: colours, light and camera, changed in what is drawn and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wmbench.keys import fold_in, keys_from_seeds, uniform

PICTURES = ("colour", "light", "camera")
_TINT, _AIM = 0x74696E74, 0x61696D00
"""Labels of the random numbers of colours and of the camera's axis."""


class Look:
    """Changes scenes after MuJoCo has filled them, so that the model, and with it the physics, stays as it is.

    Colours and the axis about which the camera is turned are drawn from the episode's seed.
    """

    def __init__(self, values: Mapping[str, float], seed: int) -> None:
        """Remember how.

        Args:
            values: ``colour``, a share; ``light``, a factor; ``camera``, degrees. What is missing is nominal.
            seed: The episode's.
        """
        self._colour, self._light = values.get("colour", 0.0), values.get("light", 1.0)
        self._key = keys_from_seeds([seed])
        self._turn = _rotation(uniform(fold_in(self._key, _AIM), 2)[0], math.radians(values.get("camera", 0.0)))
        self._tints: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, scene: Any) -> None:
        """Change a filled ``mujoco.MjvScene``."""
        if self._colour:
            for shape in scene.geoms[: scene.ngeom]:
                own = shape.rgba
                own[:3] = (1 - self._colour) * own[:3] + self._colour * self._tint(shape.objtype, shape.objid)
        if self._light != 1.0:
            for light in scene.lights[: scene.nlight]:
                for part in (light.ambient, light.diffuse, light.specular):
                    part *= np.float32(self._light)
        if self._turn is not None:
            for camera in scene.camera:
                right = np.cross(camera.forward, camera.up)
                frame = np.stack([right, camera.up, camera.forward], axis=1)  # (3, 3), columns in the world's frame
                turned = frame @ self._turn
                camera.up[:], camera.forward[:] = turned[:, 1], turned[:, 2]

    def _tint(self, kind: int, number: int) -> np.ndarray:
        """A colour (3,) for one thing of the model, the same in every picture of the episode."""
        if (kind, number) not in self._tints:
            key = fold_in(fold_in(self._key, _TINT), kind * 65536 + number)
            self._tints[kind, number] = uniform(key, 3)[0]
        return self._tints[kind, number]


def look(values: Mapping[str, float], seed: int) -> Look | None:
    """The look of a world, None if it is the nominal one."""
    nominal = {"colour": 0.0, "light": 1.0, "camera": 0.0}
    return None if all(values.get(name, value) == value for name, value in nominal.items()) else Look(values, seed)


def _rotation(draw: np.ndarray, angle: float) -> np.ndarray | None:
    """A turn (3, 3) by an angle about an axis drawn evenly from the sphere (Rodrigues' formula); None for no turn."""
    if not angle:
        return None
    z, phi = 2 * float(draw[0]) - 1, 2 * math.pi * float(draw[1])
    ring = math.sqrt(1 - z * z)
    x, y = ring * math.cos(phi), ring * math.sin(phi)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
