"""Whether SAPIEN finds a render device here, and what stands in for its materials where nothing is to be drawn."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from wmbench.errors import require

NAMES = ("RenderMaterial", "RenderTexture2D")
"""What SAPIEN makes while it builds a scene, whether or not anybody will look at it."""

INSTALL = (
    "SAPIEN finds no Vulkan device it can use: install a driver (on Debian and Ubuntu: apt-get install "
    "mesa-vulkan-drivers libvulkan1, Mesa 25 or newer; on Debian 12 from bookworm-backports), or use a GPU with its "
    "driver's Vulkan files; then start again"
)


@functools.cache
def has_renderer() -> bool:
    """Whether SAPIEN can make a material here: it then has a device, which it opens, to draw with.

    Raises:
        MissingExtraError: ManiSkill is not installed.
    """
    try:
        _real()["RenderMaterial"]()
    except RuntimeError:
        return False
    return True


@contextmanager
def undrawn() -> Iterator[None]:
    """While a scene is built that nobody will look at: its materials and textures are inert.

    SAPIEN makes both while it builds a scene, which is the only thing about a simulation that fails without a render
    device, and costs time with one. Inside this context inert objects stand in for them, in every module of SAPIEN and
    ManiSkill; such a scene (``render_backend="none"``) is simulated to the same bits. Afterwards all is as before, so
    that other environments of the process can be drawn.

    Raises:
        MissingExtraError: ManiSkill is not installed.
    """
    real = _real()
    places = [(module, name) for module in _modules() for name, cls in real.items() if vars(module).get(name) is cls]
    for module, name in places:
        setattr(module, name, Inert)
    try:
        yield
    finally:
        # All modules again: some may have been imported meanwhile.
        for module in _modules():
            for name, cls in real.items():
                if vars(module).get(name) is Inert:
                    setattr(module, name, cls)


class Inert:
    """Takes any attribute and any call, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take anything."""

    def __getattr__(self, name: str) -> Any:
        """Another one, unless Python itself asks."""
        if name.startswith("__"):
            raise AttributeError(name)
        return Inert()

    def __setattr__(self, name: str, value: Any) -> None:
        """Forget it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Itself."""
        return self


@functools.cache
def _real() -> dict[str, type]:
    """SAPIEN's own classes."""
    require("mani_skill", "maniskill")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SAPIEN says that it falls back on its own libvulkan
        import mani_skill.envs  # the modules that import the names, before any is replaced
        import sapien.render

    assert mani_skill.envs
    return {name: getattr(sapien.render, name) for name in NAMES}


_known: tuple[int, list[ModuleType]] = (0, [])


def _modules() -> list[ModuleType]:
    """Of SAPIEN and ManiSkill, all that are loaded."""
    global _known
    if _known[0] != len(sys.modules):
        names = [name for name in sys.modules if name.startswith(("sapien", "mani_skill"))]
        _known = len(sys.modules), [sys.modules[name] for name in names]
    return _known[1]
