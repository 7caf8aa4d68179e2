"""OpenGL for MuJoCo: what a model needs to be drawn, uploaded once per process and shared by environments alike."""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import importlib
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mujoco

from wmbench.errors import RenderError

INSTALL = (
    "for rendering without a display run  apt-get install libegl1 libgl1-mesa-dri  (EGL), "
    "or  apt-get install libosmesa6  (OSMesa); for a display set DISPLAY"
)

IDLE = 4
"""So many uploads stay after the last environment that draws with them is closed: a new one takes 0.2 s or more."""

FAST = {"shadowsize": 0, "offsamples": 0, "numslices": 16, "numstacks": 10}
"""The preset ``fast`` in ``model.vis.quality``: no shadow map, no multisampling, round bodies of fewer faces."""

CELLS = 40
"""And how many cells a side of a floor has at most that would have thousands in all, and cost more than all else."""

_ARRAYS = (
    *("tex_data", "tex_type", "tex_width", "tex_height", "tex_nchannel", "tex_adr"),
    *("mesh_vert", "mesh_face", "mesh_normal", "mesh_texcoord", "hfield_data", "hfield_size", "hfield_nrow"),
    *("geom_type", "geom_size", "geom_dataid"),
)
"""What of a model is uploaded: environments whose models agree in it share the upload."""


@dataclass
class _Upload:
    """One model in one preset and size, on the graphics side."""

    gl: Any  # an OpenGL context of its own: in a common one the shadow maps of two uploads get mixed up
    context: Any  # mujoco.MjrContext
    users: int = 0


_uploads: dict[tuple[Any, ...], _Upload] = {}
"""By process, thread, backend, content of the model, preset, height and width; least recently left alone first."""


class Canvas:
    """Where one model is drawn in one preset and size. Close it when done."""

    def __init__(self, task_id: str, model: Any, preset: str, height: int, width: int) -> None:
        """Upload the model, unless an equal one is there already.

        Args:
            task_id: Named in errors.
            model: ``mujoco.MjModel``.
            preset: ``"fast"`` or ``"full"``.
            height: Pixels.
            width: Pixels.

        Raises:
            RenderError: No graphics backend works here; says what to install.
        """
        backend = _chosen(task_id)
        self._key = (*_here(), backend, _content(model), preset, height, width)
        if self._key not in _uploads:
            gl = _gl_context(task_id, backend, height, width)
            atexit.register(_free_all)  # after the graphics library's own registration, so it runs before
            gl.make_current()
            _uploads[self._key] = _Upload(gl, _upload(model, preset, height, width))
        self._upload = _uploads[self._key]
        self._upload.users += 1
        self._open = True

    def here(self) -> bool:
        """Whether this process and thread can draw on it."""
        return self._key[:2] == _here()

    def begin(self) -> Any:
        """Make it current; returns the ``mujoco.MjrContext``."""
        self._upload.gl.make_current()
        return self._upload.context

    def close(self) -> None:
        """Leave it to the other environments that draw on it, if there are any."""
        if not self._open:
            return
        self._open = False
        self._upload.users -= 1
        if self._key in _uploads and not self._upload.users:
            _uploads[self._key] = _uploads.pop(self._key)  # now the youngest of those that are left alone
            idle = [key for key, upload in _uploads.items() if not upload.users and key[:2] == _here()]
            _free(idle[: max(0, len(idle) - IDLE)])


def _here() -> tuple[int, int]:
    """Process and thread, to which an OpenGL context belongs."""
    return os.getpid(), threading.get_ident()


def _free(keys: list[tuple[Any, ...]]) -> None:
    for key in keys:
        upload = _uploads.pop(key)
        upload.gl.make_current()
        upload.context.free()
        upload.gl.free()


def _free_all() -> None:
    """Free what is left, while the graphics library is still there."""
    _free([key for key in _uploads if key[:2] == _here()])
    _uploads.clear()


def _upload(model: Any, preset: str, height: int, width: int) -> Any:
    with _prepared(model, preset, height, width):
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
    context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR.value
    return context


@contextmanager
def _prepared(model: Any, preset: str, height: int, width: int) -> Iterator[None]:
    """The model with a preset's settings, which are read once, while it is uploaded; unchanged afterwards."""
    quality, whole = model.vis.quality, model.vis.global_
    before = {name: getattr(quality, name) for name in FAST}
    size = whole.offheight, whole.offwidth
    floors = model.geom_size.copy()
    try:
        whole.offheight, whole.offwidth = height, width
        if preset == "fast":
            for name, value in FAST.items():
                setattr(quality, name, min(value, before[name]))
            for geom in (model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE).nonzero()[0]:
                x, y, cell = model.geom_size[geom]
                if cell > 0 and 4 * x * y > (CELLS * cell) ** 2:
                    model.geom_size[geom, 2] = max(cell, 2 * min(x, y) / CELLS)
        yield
    finally:
        whole.offheight, whole.offwidth = size
        for name, value in before.items():
            setattr(quality, name, value)
        model.geom_size[:] = floors


def _content(model: Any) -> int:
    """A checksum of everything that is uploaded."""
    found = zlib.crc32(repr((model.stat.extent, model.vis.map.zfar)).encode())
    for name in _ARRAYS:
        array = getattr(model, name)
        found = zlib.crc32(array.tobytes(), zlib.crc32(repr(array.shape).encode(), found))
    return found


def _chosen(task_id: str) -> str:
    """The backend that ``MUJOCO_GL`` names, or the first that can work here."""
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in ("off", "false", "0", "disable", "disabled"):
        raise RenderError(f"{task_id}: MUJOCO_GL={asked} turns rendering off; unset it, or set it to egl or osmesa")
    backend = asked if asked in ("egl", "osmesa", "glfw", "cgl") else _backend()
    if backend is None:
        raise RenderError(f"{task_id}: there is neither a display nor a library to draw without one; {INSTALL}")
    return backend


def _gl_context(task_id: str, backend: str, height: int, width: int) -> Any:
    """An OpenGL context."""
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
