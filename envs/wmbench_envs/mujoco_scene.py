"""Pictures of MuJoCo scenes, as they are or posed from an observation; OpenGL is touched at the first picture."""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import importlib
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import RenderError
from wmbench_envs.mujoco_pose import positions

INSTALL = (
    "for rendering without a display run  apt-get install libegl1 libgl1-mesa-dri  (EGL), "
    "or  apt-get install libosmesa6  (OSMesa); for a display set DISPLAY"
)

_OPEN: weakref.WeakSet[Scene] = weakref.WeakSet()


class Scene:
    """Draws one model. Nothing here changes the simulation."""

    def __init__(
        self, task: TaskCard, model: Any, camera: Any, place: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        """Remember what to draw.

        Args:
            task: Its id is named in errors; its pose says how observations are drawn.
            model: ``mujoco.MjModel``.
            camera: ``mujoco.MjvCamera``.
            place: For posing, geoms that no joint moves: name to (name of another geom, index of x, index of y),
                where the observation holds the vector from the other geom to this one.
        """
        self._task = task
        self._model = model
        self._camera = camera
        self._place = place or {}
        self._posed: Any = None  # a second mujoco.MjData
        self._context: Any = None
        self._gl: Any = None
        self._size = (0, 0)

    def render(self, data: Any, height: int, width: int) -> np.ndarray:
        """The scene of some data.

        Args:
            data: ``mujoco.MjData``.
            height: Pixels.
            width: Pixels.

        Returns:
            (H, W, 3) uint8, fresh.

        Raises:
            RenderError: No graphics backend works here; says what to install.
        """
        if self._size != (height, width):
            self._open(height, width)
        self._gl.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, everything, self._scene)
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(area, self._scene, self._context)
        frame = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(frame, None, area, self._context)
        return np.ascontiguousarray(frame[::-1])

    def posed(self, observation: np.ndarray) -> Any:
        """Data in which the joints stand as an observation says.

        Args:
            observation: (O,) floats.

        Returns:
            ``mujoco.MjData``, the same object at every call.
        """
        if self._posed is None:
            self._posed = mujoco.MjData(self._model)
        data = self._posed
        mujoco.mj_resetData(self._model, data)
        data.qpos[:] = positions(self._task, self._model, observation[None])[0]
        mujoco.mj_fwdPosition(self._model, data)
        for name, (other, x, y) in self._place.items():
            geoms = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_GEOM, n) for n in (name, other)]
            data.geom_xpos[geoms[0], :2] = data.geom_xpos[geoms[1], :2] + observation[[x, y]]
        return data

    def close(self) -> None:
        """Free the graphics context, if there is one."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._context = self._gl = None
            self._size = (0, 0)

    def _open(self, height: int, width: int) -> None:
        self.close()
        buffer = self._model.vis.global_
        buffer.offwidth, buffer.offheight = max(buffer.offwidth, width), max(buffer.offheight, height)
        self._gl = _gl_context(self._task.id, height, width)
        if not _OPEN:
            atexit.register(_close_all)  # after OpenGL's own registration, so it runs before
        _OPEN.add(self)
        self._gl.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(self._model, maxgeom=1000)
        self._options = mujoco.MjvOption()
        self._size = (height, width)


def _close_all() -> None:
    """Free what environments that were never closed hold, while the graphics library is still there."""
    for scene in list(_OPEN):
        scene.close()


def camera(model: Any, name: str | int | None = None, **free: Any) -> Any:
    """A camera of the model, or a free one.

    Args:
        model: ``mujoco.MjModel``.
        name: Name or number of a fixed camera. If None, or if the model has none of that name, a free one.
        **free: Attributes of the free camera, for example ``distance=4.0``.

    Returns:
        ``mujoco.MjvCamera``.
    """
    found = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name) if isinstance(name, str) else name
    view = mujoco.MjvCamera()
    if found is not None and found >= 0:
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = found
        return view
    for key, value in free.items():
        if key == "lookat":
            view.lookat[:] = value
        else:
            setattr(view, key, value)
    return view


def _gl_context(task_id: str, height: int, width: int) -> Any:
    """An OpenGL context of the backend that ``MUJOCO_GL`` names, or of the first that can work here."""
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ("off", "false", "0", "disable", "disabled"):
        raise RenderError(f"{task_id}: MUJOCO_GL={asked} turns rendering off; unset it, or set it to egl or osmesa")
    backend = asked if asked in ("egl", "osmesa", "glfw", "cgl") else _backend()
    if backend is None:
        raise RenderError(f"{task_id}: there is neither a display nor a library to draw without one; {INSTALL}")
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RenderError(
            f"{task_id}: OpenGL by way of {backend!r} does not work here ({reason}); {INSTALL}"
        ) from error


def _backend() -> str | None:
    """Chosen before the first import of PyOpenGL, which can be bound to one platform per process only."""
    if sys.platform == "darwin":
        return "cgl"
    if sys.platform != "linux" or os.environ.get("DISPLAY"):
        return "glfw"
    if os.environ.get("PYOPENGL_PLATFORM") in ("egl", "osmesa"):
        return os.environ["PYOPENGL_PLATFORM"]
    if _egl_has_device():
        return "egl"
    return "osmesa" if ctypes.util.find_library("OSMesa") else None


def _egl_has_device() -> bool:
    """Whether EGL is installed and has a driver: the library alone, as in many containers, draws nothing."""
    name = ctypes.util.find_library("EGL")
    if name is None:
        return False
    library = ctypes.CDLL(name)
    library.eglGetProcAddress.restype = ctypes.c_void_p
    address = library.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
    count = ctypes.c_int(0)
    return bool(query(0, None, ctypes.byref(count))) and count.value > 0
