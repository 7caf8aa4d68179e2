"""What an observation consists of: the state vector, pictures of which kind, how large, from where, and how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wmbench.errors import ViewError

if TYPE_CHECKING:
    from wmbench.cards import TaskCard

STATE = "state"

CHANNELS: Mapping[str, tuple[int, str]] = {"rgb": (3, "uint8"), "depth": (1, "float32"), "segmentation": (1, "int16")}
"""Kinds of pictures: channels and dtype. A picture is (H, W, C)."""

UNITS: Mapping[str, str] = {
    "rgb": "red, green and blue, 0 to 255 (sRGB)",
    "depth": "metres along the camera's axis",
    "segmentation": "number of a body, 0 where there is none",
}
"""What the numbers of a picture mean."""

NAMES = (STATE, *CHANNELS)
"""Everything that an observation can consist of, in the order in which it is named."""

OPTIONS = ("image_size", "camera", "render_preset", "frame_stack")
"""Options of ``gym.make`` beside ``observation`` that make a view."""

LARGEST = 4096
"""Pixels of a side at most."""


@dataclass(frozen=True)
class View:
    """What a task's observations consist of; the default is the state vector alone.

    Attributes:
        names: Subset of :data:`NAMES` in that order. One name: observations are arrays. Several: dictionaries.
        height: Pixels.
        width: Pixels.
        camera: Name of a camera of the task; None is the card's own (its first).
        preset: ``"fast"`` or ``"full"``, or what else the card declares; None is the card's own (its first).
        frame_stack: Pictures k of the last k steps, oldest first, along a new first axis; 1: no such axis.
    """

    names: tuple[str, ...] = (STATE,)
    height: int = 64
    width: int = 64
    camera: str | None = None
    preset: str | None = None
    frame_stack: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no view."""
        if not self.names or self.names != tuple(name for name in NAMES if name in self.names):
            raise ViewError(f"a view names some of {', '.join(NAMES)} in this order, each once, got {self.names!r}")
        for what, value, most in (
            ("image height", self.height, LARGEST),
            ("image width", self.width, LARGEST),
            ("frame_stack", self.frame_stack, LARGEST),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise ViewError(f"{what} must be an integer from 1 to {most}, got {value!r}")
        if self.frame_stack > 1 and not self.images:
            raise ViewError("frame_stack stacks pictures, and the state alone has none: leave it at 1")
        for what, name in (("camera", self.camera), ("render_preset", self.preset)):
            if name is not None and (not isinstance(name, str) or not name):
                raise ViewError(f"{what} must be a name or None, got {name!r}")

    @classmethod
    def parse(
        cls,
        observation: str = STATE,
        *,
        image_size: int | Sequence[int] = 64,
        camera: str | None = None,
        render_preset: str | None = None,
        frame_stack: int = 1,
    ) -> View:
        """A view from the plain options of ``gym.make``.

        Args:
            observation: Names joined by ``+`` in the order of :data:`NAMES`, for example ``"state+rgb"``.
            image_size: Pixels of each side, or height and width.
            camera: See the class.
            render_preset: See the class.
            frame_stack: See the class.

        Raises:
            ViewError: No such observation, or an option of the wrong type or range.
        """
        if not isinstance(observation, str):
            raise ViewError(f"observation must be a string such as 'state+rgb', got {observation!r}")
        names = tuple(observation.split("+"))
        if names != tuple(name for name in NAMES if name in names):
            raise ViewError(
                f"observation must be one of {', '.join(map(repr, NAMES))}, or several of them joined by '+' "
                f"in this order, for example 'state+rgb', got {observation!r}"
            )
        if isinstance(image_size, Sequence) and not isinstance(image_size, str):
            sides = tuple(image_size)
        else:
            sides = (image_size, image_size)
        if len(sides) != 2:
            raise ViewError(f"image_size must be one integer, or height and width, got {image_size!r}")
        return cls(names, *sides, camera=camera, preset=render_preset, frame_stack=frame_stack)

    def of(self, card: TaskCard) -> View:
        """This view of a task: the camera and the preset named, and known to the card.

        Args:
            card: The task. Where it declares no cameras or presets, its simulator decides.

        Raises:
            ViewError: The task has no such camera or preset.
        """
        found: dict[str, Any] = {}
        for what, field, known in (("camera", "camera", card.cameras), ("render_preset", "preset", card.presets)):
            name = getattr(self, field)
            if name is not None and known and name not in known:
                raise ViewError(f"{card.id}: {what} must be one of {', '.join(map(repr, known))}, got {name!r}")
            found[field] = known[0] if name is None and known else name
        return dataclasses.replace(self, **found)

    @property
    def images(self) -> tuple[str, ...]:
        """The kinds of pictures among the names."""
        return tuple(name for name in self.names if name != STATE)

    @property
    def observation(self) -> str:
        """The names joined by ``+``, as :meth:`parse` takes them."""
        return "+".join(self.names)

    def image_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one observation's pictures of a kind: (H, W, C), or (k, H, W, C) if they are stacked."""
        shape = (self.height, self.width, CHANNELS[name][0])
        return shape if self.frame_stack == 1 else (self.frame_stack, *shape)

    def unstacked(self) -> View:
        """The same with one picture per step."""
        return dataclasses.replace(self, frame_stack=1)

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``gym.make``, plain JSON; none for the state alone."""
        if not self.images:
            return {}
        return {
            "observation": self.observation,
            "image_size": [self.height, self.width],
            "camera": self.camera,
            "render_preset": self.preset,
            "frame_stack": self.frame_stack,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data, readable again by :meth:`from_json`."""
        return {**dataclasses.asdict(self), "names": list(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> View:
        """Read a view back from plain data.

        Raises:
            ViewError: A field is unknown or of the wrong type.
        """
        try:
            return cls(**{**data, "names": tuple(data["names"])})
        except (TypeError, KeyError) as error:
            raise ViewError(f"not a view: {error}") from error

    def with_units(self, action_repeat: int = 1) -> dict[str, Any]:
        """Plain data for a manifest: the view, the action repeat, and the units of all of it."""
        units = {name: UNITS[name] for name in self.images}
        units |= {"height": "pixels", "width": "pixels", "frame_stack": "agent steps"}
        return {**self.to_json(), "action_repeat": action_repeat, "units": units | {"action_repeat": "control steps"}}


def wanted_by(policy: Any) -> View:
    """What a policy acts on: the state, unless it, or the one that it wraps, declares something else.

    A policy declares it by attributes named and valued like the options of ``gym.make``: ``observation`` (for example
    ``"rgb"`` or ``"state+rgb"``), and if need be ``image_size``, ``camera``, ``render_preset`` and ``frame_stack``.
    With one name it is given arrays, with several a dictionary of them, batch first.

    Args:
        policy: A :class:`wmbench.protocols.Policy`, or one of several (``policies``) or one other (``policy``).

    Raises:
        ViewError: What it declares is no view, or several policies that act together declare different ones.
    """
    observation = getattr(policy, "observation", None)
    if isinstance(observation, str):
        given = {name: getattr(policy, name) for name in OPTIONS if hasattr(policy, name)}
        return View.parse(observation, **given)
    if hasattr(policy, "policies"):
        found = {wanted_by(one) for one in policy.policies}
        if len(found) > 1:
            raise ViewError("policies that act side by side must want the same observations")
        return found.pop()
    return wanted_by(policy.policy) if hasattr(policy, "policy") else View()


def joined(recorded: View, wanted: View) -> View:
    """What an environment must show so that one view can be recorded and a policy act on another; always the state.

    Raises:
        ViewError: Both have pictures, of different size, camera or preset.
    """
    if recorded.images and wanted.images:
        for field in ("height", "width", "camera", "preset"):
            one, other = getattr(recorded, field), getattr(wanted, field)
            if one != other:
                raise ViewError(f"pictures are to be recorded with {field} {one!r}, and the policy acts on {other!r}")
    basis = wanted if wanted.images else recorded
    names = tuple(name for name in NAMES if name in {STATE, *recorded.images, *wanted.images})
    return dataclasses.replace(basis, names=names, frame_stack=wanted.frame_stack)
