"""What this machine can do for a task: packages that are there, graphics that draw, asked in processes of their own."""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib.util import find_spec

from wmbench.cards import TaskCard

GL_BACKENDS = ("egl", "osmesa")
GL_PROBE = """
import os
os.environ["MUJOCO_GL"] = {backend!r}
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().max() > 0
"""
SAPIEN_PROBE = "import sapien.render; sapien.render.RenderMaterial()"


def runs(script: str) -> bool:
    """Whether a Python script ends well in a process of its own, within a minute."""
    try:
        return (
            subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


def opengl() -> list[str]:
    """The headless OpenGL backends of MuJoCo that draw a picture here, of ``"egl"`` and ``"osmesa"``."""
    return [backend for backend in GL_BACKENDS if runs(GL_PROBE.format(backend=backend))]


def vulkan() -> bool:
    """Whether SAPIEN finds a device to draw with."""
    return runs(SAPIEN_PROBE)


@functools.cache
def _draws(how: str) -> bool:
    return bool(opengl()) if how == "opengl" else vulkan()


def obstacle(card: TaskCard, observation: str = "state") -> str | None:
    """Why a task cannot be run here, or not observed in this way.

    Args:
        card: The task.
        observation: ``"state"``, or with ``rgb``, ``depth`` or ``segmentation`` in it: then something has to draw.

    Returns:
        A few words, None if nothing stands in the way.
    """
    for module in card.requires:
        if find_spec(module) is None:
            return f"{module} is not installed"
    if observation == "state":
        return None
    if not card.drawn_by:
        return "its simulator draws no images"
    if not _draws(card.drawn_by):
        return {"opengl": "neither EGL nor OSMesa draws here", "vulkan": "SAPIEN finds no Vulkan device"}[card.drawn_by]
    return None
