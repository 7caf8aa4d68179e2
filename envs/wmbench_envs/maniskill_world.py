"""Other worlds in ManiSkill: a scene is changed after it has been built and before its episode begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class SceneWorld:
    """Changes every scene that an environment builds, as its values say.

    A new scene is nominal, so that nothing has to be put back. Masses and inertias are those of all moving bodies and
    links; friction is that of the surfaces, static and dynamic; damping and gain are those of the joints' drives
    (damping with dry friction; stiffness with the limit of its force), which are what moves a robot here; gravity is
    the scene's, which ManiSkill's own controllers switch off for most robots.
    """

    def __init__(self) -> None:
        """Nothing is changed yet."""
        self._values: dict[str, float] = {}

    def enter(self, env: Any) -> None:
        """Hook into an environment, ManiSkill's own without wrappers, on the CPU; scenes to come are changed."""
        self._env = env
        self._gravity = np.array(env.sim_config.scene_config.gravity, dtype=np.float64)
        self._after = env._after_reconfigure
        env._after_reconfigure = self._built
        self._weigh_down()

    def choose(self, values: Mapping[str, float]) -> bool:
        """Values of the scenes to come; whether they differ from those before."""
        wanted = {name: value for name, value in values.items() if value != 1.0}
        if wanted == self._values:
            return False
        self._values = wanted
        self._weigh_down()
        return True

    def _weigh_down(self) -> None:
        self._env.sim_config.scene_config.gravity = self._gravity * self._values.get("gravity", 1.0)

    def _built(self, options: Any) -> None:
        """What ManiSkill calls when a scene is complete."""
        if "mass" in self._values:
            self._weigh(self._values["mass"])
        if "friction" in self._values:
            self._roughen(self._values["friction"])
        self._drive(self._values.get("damping", 1.0), self._values.get("gain", 1.0))
        self._after(options)

    def _weigh(self, factor: float) -> None:
        for body in self._bodies():
            if hasattr(body, "mass"):  # static bodies have none
                inertia = body.inertia
                body.mass = body.mass * factor
                body.inertia = inertia * factor

    def _roughen(self, factor: float) -> None:
        from sapien import physx

        for body in self._bodies():
            for shape in body.collision_shapes:
                # A material may be shared by shapes, and by scenes: each shape gets its own.
                now = shape.physical_material
                shape.physical_material = physx.PhysxMaterial(
                    now.static_friction * factor, now.dynamic_friction * factor, now.restitution
                )

    def _drive(self, damping: float, gain: float) -> None:
        if damping == gain == 1.0:
            return
        for robot in self._env.scene.articulations.values():
            for joint in robot._objs[0].joints:
                if joint.dof:
                    joint.friction = joint.friction * damping
                    joint.set_drive_properties(
                        joint.stiffness * gain, joint.damping * damping, joint.force_limit * gain, joint.drive_mode
                    )

    def _bodies(self) -> Iterator[Any]:
        from sapien import physx

        for scene in self._env.scene.sub_scenes:
            for entity in scene.entities:
                for part in entity.components:
                    if isinstance(part, physx.PhysxRigidBaseComponent):
                        yield part
