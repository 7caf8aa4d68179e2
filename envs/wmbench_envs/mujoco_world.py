"""Other worlds in MuJoCo: a model's own numbers, changed relative to what they were when it was compiled."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

PHYSICS = ("mass", "friction", "damping", "gain", "gravity")

FIELDS = {
    "mass": ("body_mass", "body_inertia"),
    "friction": ("geom_friction", "pair_friction"),
    "damping": (
        "dof_damping",
        "dof_dampingpoly",
        "dof_frictionloss",
        "tendon_damping",
        "tendon_dampingpoly",
        "tendon_frictionloss",
        "actuator_damping",
        "actuator_dampingpoly",
    ),
    "gain": ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"),
}
"""Arrays of the model that are multiplied, by perturbation. Limits of an actuator's force grow with it."""

OPTIONS = {"gravity": ("gravity",), "damping": ("density", "viscosity")}
"""The same for its options: density and viscosity are those of the medium, and do nothing but brake."""

FOLLOWING = (
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "dof_M0",
    "tendon_invweight0",
    "actuator_acc0",
)
"""What MuJoCo derives from masses when it compiles: the solver's regularisation depends on it."""


class ModelWorld:
    """Puts a world into a model, always starting from the nominal one, so that worlds leave no trace."""

    def __init__(self, model: Any) -> None:
        """Remember the nominal model.

        Args:
            model: ``mujoco.MjModel`` as the task's reset leaves it, which is changed in place from now on.
        """
        self._model = model
        self._nominal = copy.copy(model)
        self._scratch: tuple[Any, Any] | None = None  # a model and data in which derived numbers are computed
        self._in_force: dict[str, float] = {}

    def apply(self, values: Mapping[str, float]) -> None:
        """Put the physical values of a world in force; derived numbers of any data are brought up to date by a step."""
        wanted = {name: value for name, value in values.items() if name in PHYSICS and value != 1.0}
        if wanted == self._in_force:
            return
        model, nominal = self._model, self._nominal
        for name in PHYSICS:
            if name in self._in_force or name in wanted:
                self._multiply(name, wanted.get(name))
        if "mass" in self._in_force and "mass" not in wanted:
            for field in FOLLOWING:
                getattr(model, field)[:] = getattr(nominal, field)
            model.stat.meaninertia, model.stat.meanmass = nominal.stat.meaninertia, nominal.stat.meanmass
        elif wanted.get("mass") != self._in_force.get("mass"):
            if self._scratch is None:
                scratch = copy.copy(nominal)
                self._scratch = scratch, mujoco.MjData(scratch)
            changed, data = self._scratch
            for field in FIELDS["mass"]:
                getattr(changed, field)[:] = getattr(model, field)
            mujoco.mj_setConst(changed, data)
            for field in FOLLOWING:
                getattr(model, field)[:] = getattr(changed, field)
            # MuJoCo computes its statistics only when it compiles; the solver's tolerance is relative to this one.
            model.stat.meaninertia = nominal.stat.meaninertia * (np.mean(model.dof_M0) / np.mean(nominal.dof_M0))
            model.stat.meanmass = nominal.stat.meanmass * wanted["mass"]
        self._in_force = wanted

    def hold(self) -> None:
        """Put back in force what a task's reset has overwritten with nominal numbers, as dm_control's finger does."""
        for name, value in self._in_force.items():
            if name != "mass":
                self._multiply(name, value)

    def _multiply(self, name: str, factor: float | None) -> None:
        """The nominal numbers times a factor, or, without one, as they were."""
        for owner, original, fields in (
            (self._model, self._nominal, FIELDS.get(name, ())),
            (self._model.opt, self._nominal.opt, OPTIONS.get(name, ())),
        ):
            for field in fields:
                value = getattr(original, field, None)  # some fields are younger than the oldest MuJoCo that is allowed
                if value is None:
                    continue
                value = value if factor is None else value * factor
                if isinstance(value, np.ndarray):
                    getattr(owner, field)[:] = value
                else:
                    setattr(owner, field, value)
