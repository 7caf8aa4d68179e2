"""Whether SAPIEN finds a render device here, and what stands in for its materials where it does not."""

from __future__ import annotations

import functools
import sys
import warnings
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
    """Whether SAPIEN can make a material here.

    Where it cannot, its materials and textures are replaced by inert ones from now on, in every module of SAPIEN and
    ManiSkill that is loaded or will be: a scene can then be built and simulated, and never drawn. Where it can, nothing
    is touched.

    Raises:
        MissingExtraError: ManiSkill is not installed.
    """
    require("mani_skill", "maniskill")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SAPIEN says that it falls back on its own libvulkan
        import sapien.pysapien.render
        import sapien.render
    if sapien.render.RenderMaterial is Inert:
        return False
    try:
        sapien.render.RenderMaterial()
    except RuntimeError:
        _stand_in({name: getattr(sapien.render, name) for name in NAMES})
        return False
    return True


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


def _stand_in(real: dict[str, Any]) -> None:
    """Replace the real classes wherever they have been imported to."""
    for module in [m for name, m in sys.modules.items() if name.startswith(("sapien", "mani_skill"))]:
        for name, cls in real.items():
            if getattr(module, name, None) is cls:
                setattr(module, name, Inert)
