"""Pictures of MuJoCo scenes, as they are or posed from an observation; OpenGL is touched at the first picture."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import ViewError
from wmbench.views import View
from wmbench_envs.mujoco_gl import Canvas
from wmbench_envs.mujoco_pose import positions

FREE = "free"
"""Name of the camera of a model that has none."""

GEOMS = 1000
"""Shapes in a scene at most."""

_GEOM, _SITE = mujoco.mjtObj.mjOBJ_GEOM.value, mujoco.mjtObj.mjOBJ_SITE.value
_EVERYTHING = mujoco.mjtCatBit.mjCAT_ALL.value
_SHADOW, _REFLECTION = mujoco.mjtRndFlag.mjRND_SHADOW.value, mujoco.mjtRndFlag.mjRND_REFLECTION.value
_NUMBERED = mujoco.mjtRndFlag.mjRND_SEGMENT.value, mujoco.mjtRndFlag.mjRND_IDCOLOR.value


class Scene:
    """Draws one model. Nothing here changes the simulation, and a picture depends on the positions alone.

    Attributes:
        look: Changes a filled scene before it is drawn, see :class:`wmbench_envs.mujoco_look.Look`; None: as it is.
    """

    def __init__(
        self,
        task: TaskCard,
        model: Any,
        cameras: Mapping[str, Mapping[str, Any]] | None = None,
        place: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Remember what to draw.

        Args:
            task: Its id is named in errors; its pose says how observations are drawn; its first camera is the default.
            model: ``mujoco.MjModel``.
            cameras: Cameras that are no part of the model: name to attributes, for example ``{"distance": 4.0}``.
            place: For posing, geoms that no joint moves: name to (name of another geom, index of x, index of y),
                where the observation holds the vector from the other geom to this one.
        """
        self._task = task
        self._model = model
        self._others = {FREE: {}, **(cameras or {})}
        self._place = place or {}
        self._canvases: dict[tuple[str, int, int], Canvas] = {}
        self._cameras: dict[str, Any] = {}
        self._posed: Any = None  # a second mujoco.MjData
        self.look: Callable[[Any], None] | None = None
        weakref.finalize(self, _close, self._canvases)

    def render(self, data: Any, height: int, width: int) -> np.ndarray:
        """The scene of some data, as MuJoCo draws by itself.

        Args:
            data: ``mujoco.MjData``.
            height: Pixels.
            width: Pixels.

        Returns:
            (H, W, 3) uint8, fresh.

        Raises:
            RenderError: No graphics backend works here; says what to install.
        """
        self._update(data, None)
        return self._picture("full", height, width)

    def render_pose(self, observation: np.ndarray, height: int, width: int) -> np.ndarray:
        """The scene that an observation (O,) describes, (H, W, 3) uint8."""
        self._pose(observation)
        self._shoot(None)
        return self._picture("full", height, width)

    def images(self, data: Any, view: View) -> dict[str, np.ndarray]:
        """The pictures of a view, each fresh.

        Args:
            data: ``mujoco.MjData``; only its positions are read.
            view: With camera and preset named.

        Returns:
            ``rgb`` (H, W, 3) uint8; ``depth`` (H, W, 1) float32, metres along the camera's axis up to the end of
            what is drawn; ``segmentation`` (H, W, 1) int16, see :meth:`segments`.
        """
        self._update(data, view.camera)
        return self._images(view)

    def images_of(self, observation: np.ndarray, view: View) -> dict[str, np.ndarray]:
        """The pictures of the scene that an observation (O,) describes, as :meth:`images`."""
        self._pose(observation)
        self._shoot(view.camera)
        return self._images(view)

    def segments(self) -> dict[int, str]:
        """Numbers in a segmentation to the names of the model's bodies; 0, where there is none, is not among them."""
        names = (mujoco.mj_id2name(self._model, mujoco.mjtObj.mjOBJ_BODY, i) for i in range(self._model.nbody))
        return {i + 1: name or f"body {i}" for i, name in enumerate(names)}

    def close(self) -> None:
        """Free what was needed for drawing."""
        _close(self._canvases)

    def _update(self, data: Any, name: str | None) -> None:
        """Build the scene of some data's positions, in data of its own.

        The simulator's own derived arrays are those of its last sub-step, and some tasks read them as they are.
        """
        posed = self._stage()
        posed.qpos[:] = data.qpos
        posed.mocap_pos[:], posed.mocap_quat[:] = data.mocap_pos, data.mocap_quat
        mujoco.mj_kinematics(self._model, posed)
        mujoco.mj_comPos(self._model, posed)
        mujoco.mj_camlight(self._model, posed)
        mujoco.mj_tendon(self._model, posed)
        self._shoot(name)

    def _pose(self, observation: np.ndarray) -> None:
        """Put the joints where an observation says."""
        posed = self._stage()
        mujoco.mj_resetData(self._model, posed)
        posed.qpos[:] = positions(self._task, self._model, observation[None])[0]
        mujoco.mj_fwdPosition(self._model, posed)
        for name, (other, x, y) in self._place.items():
            geoms = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_GEOM, n) for n in (name, other)]
            posed.geom_xpos[geoms[0], :2] = posed.geom_xpos[geoms[1], :2] + observation[[x, y]]

    def _stage(self) -> Any:
        """The data that is drawn, made with everything else when it is first needed."""
        if self._posed is None:
            self._posed = mujoco.MjData(self._model)
            self._scene = mujoco.MjvScene(self._model, maxgeom=GEOMS)
            self._options = mujoco.MjvOption()
        return self._posed

    def _shoot(self, name: str | None) -> None:
        """Choose what the camera of a name sees; None is the task's own."""
        if name is None:
            named = mujoco.mj_id2name(self._model, mujoco.mjtObj.mjOBJ_CAMERA, 0) if self._model.ncam else None
            name = next(iter(self._task.cameras), named or FREE)
        if name not in self._cameras:
            self._cameras[name] = self._camera(name)
        mujoco.mjv_updateScene(
            self._model, self._posed, self._options, None, self._cameras[name], _EVERYTHING, self._scene
        )
        if self.look is not None:
            self.look(self._scene)

    def _images(self, view: View) -> dict[str, np.ndarray]:
        size = view.height, view.width
        found: dict[str, np.ndarray] = {}
        if "rgb" in view.names:
            found["rgb"] = self._picture(view.preset or "fast", *size)
        if "depth" in view.names or "segmentation" in view.names:
            number, nearness = self._numbered(*size)
            if "depth" in view.names:
                found["depth"] = self._metres(nearness)
            if "segmentation" in view.names:
                found["segmentation"] = self._who(number)
        return found

    def _picture(self, preset: str, height: int, width: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        frame = np.empty((height, width, 3), dtype=np.uint8)
        full = preset == "full"
        self._scene.flags[_SHADOW] = self._scene.flags[_REFLECTION] = full
        self._draw(preset, height, width, frame, None)
        return np.ascontiguousarray(frame[::-1])

    def _numbered(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of shapes (H, W) int, 0 where there is none, and nearness (H, W) float32, 0 at the far end.

        Always without multisampling, which would mix numbers and depths where bodies meet.
        """
        frame, near = np.empty((height, width, 3), dtype=np.uint8), np.empty((height, width), dtype=np.float32)
        flags = self._scene.flags
        flags[_SHADOW] = flags[_REFLECTION] = False
        flags[list(_NUMBERED)] = True
        try:
            self._draw("fast", height, width, frame, near)
        finally:
            flags[list(_NUMBERED)] = False
        return frame[::-1].astype(np.int32) @ np.array([1, 256, 65536]), near[::-1]

    def _draw(self, preset: str, height: int, width: int, frame: np.ndarray, near: np.ndarray | None) -> None:
        """Draw the scene, and read colours and nearness, lowest row first."""
        key = preset, height, width
        canvas = self._canvases.get(key)
        if canvas is None or not canvas.here():
            self._canvases[key] = canvas = Canvas(self._task.id, self._model, *key)
        context = canvas.begin()
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(area, self._scene, context)
        mujoco.mjr_readPixels(frame, near, area, context)

    def _metres(self, nearness: np.ndarray) -> np.ndarray:
        """(H, W) nearness, 1 at the near and 0 at the far plane, to (H, W, 1) float32 metres.

        A depth buffer holds ``near * (far / depth - 1) / (far - near)``; this is its inverse.
        """
        near, far = (limit * self._model.stat.extent for limit in (self._model.vis.map.znear, self._model.vis.map.zfar))
        depth = near * far / (nearness.astype(np.float64) * (far - near) + near)
        return depth.astype(np.float32)[:, :, None]

    def _who(self, number: np.ndarray) -> np.ndarray:
        """(H, W) numbers of shapes to (H, W, 1) int16 numbers of bodies plus one, 0 where there is none."""
        owner = np.zeros(self._scene.ngeom + 1, dtype=np.int16)
        of = {_GEOM: self._model.geom_bodyid, _SITE: self._model.site_bodyid}
        for shape in self._scene.geoms[: self._scene.ngeom]:
            if shape.segid >= 0 and (bodies := of.get(shape.objtype)) is not None:
                owner[shape.segid + 1] = bodies[shape.objid] + 1
        return owner[number][:, :, None]

    def _camera(self, name: str) -> Any:
        """``mujoco.MjvCamera`` of a name.

        Raises:
            ViewError: The model has none of this name.
        """
        found = mujoco.MjvCamera()
        number = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if number >= 0:
            found.type = mujoco.mjtCamera.mjCAMERA_FIXED
            found.fixedcamid = number
        elif name in self._others:
            for key, value in self._others[name].items():
                if key == "lookat":
                    found.lookat[:] = value
                else:
                    setattr(found, key, value)
        else:
            raise ViewError(f"{self._task.id}: the model has no camera {name!r}")
        return found


def _close(canvases: dict[Any, Canvas]) -> None:
    """Free canvases; also called when a scene that was never closed is collected."""
    while canvases:
        canvases.popitem()[1].close()
