"""The second world: named perturbations of a task, their ranges, and what each episode draws from them."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wmbench.cards import TaskCard
from wmbench.errors import CardError, WorldError
from wmbench.keys import fold_in, keys_from_seeds, normal, uniform

Range = tuple[float, float]
Asked = str | Mapping[str, float | str] | None
"""None, ``"nominal"``, ``"near"``, ``"far"``, or names to numbers or to ``"near"`` and ``"far"``: plain JSON."""

WORLDS = ("nominal", "near", "far")
SENSOR_NOISE = 0x73656E73
"""Label of the random numbers of observation noise."""

_PACKER = "Packer et al. 2018, Assessing generalization in deep reinforcement learning, arXiv:1810.12282"
_DEXTERITY = "OpenAI et al. 2018, Learning dexterous in-hand manipulation, arXiv:1808.00177, table of physics ranges"
_REAL_WORLD = (
    "Dulac-Arnold et al. 2020, An empirical investigation of the challenges of real-world RL, arXiv:2003.11881"
)


@dataclass(frozen=True)
class Perturbation:
    """One number in which worlds of a task differ.

    Attributes:
        name: What it is called everywhere.
        unit: Of its values.
        meaning: What a value does to the task.
        nominal: The value of the task as it is.
        near: Closed range of the training worlds.
        far: Closed ranges outside of it.
        allowed: Closed range of values that may be asked for by number.
        scale: How values are drawn: evenly (``"linear"``), evenly in the logarithm (``"log"``), or whole (``"steps"``).
        part: What it changes: ``"physics"``, ``"picture"``, or what lies between simulator and policy (``"shell"``),
            which a learned simulator has, too.
        absent: Why a task may not have it.
        source: Where the ranges come from.
    """

    name: str
    unit: str
    meaning: str
    nominal: float
    near: Range
    far: tuple[Range, ...]
    allowed: Range
    scale: Literal["linear", "log", "steps"]
    part: Literal["physics", "shell", "picture"]
    absent: str
    source: str

    def __post_init__(self) -> None:
        """Refuse ranges that overlap or leave what is allowed."""
        low, high = self.near
        if not low <= self.nominal <= high or not self.far:
            raise CardError(f"perturbation {self.name!r}: near must hold the nominal value, and far at least one range")
        for a, b in (self.near, *self.far):
            if not self.allowed[0] <= a < b <= self.allowed[1]:
                raise CardError(f"perturbation {self.name!r}: range {a} to {b} is empty or not allowed")
        if any(a <= high and low <= b for a, b in self.far):
            raise CardError(f"perturbation {self.name!r}: near and far overlap")

    def where(self, value: float) -> str:
        """``"nominal"``, ``"near"``, ``"far"``, or ``"between"`` for a value in neither range."""
        if value == self.nominal:
            return "nominal"
        if self.near[0] <= value <= self.near[1]:
            return "near"
        return "far" if any(low <= value <= high for low, high in self.far) else "between"

    def draw(self, split: str, seed: int) -> float:
        """The value of an episode: a function of split, name and seed alone, rounded to four decimals."""
        return self.value(split, *_numbers((self.name,), seed)[0])

    def value(self, split: str, which: float, place: float) -> float:
        """The value that two uniform numbers choose: one of far's ranges, and a place in it."""
        ranges = (self.near,) if split == "near" else self.far
        low, high = ranges[int(which * len(ranges))]
        if self.scale == "steps":
            return float(low + math.floor(place * (high - low + 1)))
        if self.scale == "log":
            return round(math.exp(math.log(low) + place * (math.log(high) - math.log(low))), 4)
        return round(low + place * (high - low), 4)


def _numbers(names: tuple[str, ...], seed: int) -> list[list[float]]:
    """Two uniform numbers for each perturbation in the episode of a seed."""
    labels = np.array([zlib.crc32(name.encode()) for name in names], dtype=np.int64)
    return uniform(fold_in(keys_from_seeds([seed]), labels), 2).tolist()


def _factor(
    name: str, meaning: str, absent: str, near: Range, far: tuple[Range, ...], source: str, least: float = 0.0
) -> Perturbation:
    return Perturbation(name, "factor", meaning, 1.0, near, far, (least, 20.0), "log", "physics", absent, source)


def _look(
    name: str, unit: str, meaning: str, near: Range, far: tuple[Range, ...], allowed: Range, **rest: Any
) -> Perturbation:
    source = (
        "our choice; colours and cameras vary in the Distracting Control Suite, Stone et al. 2021, arXiv:2101.02722"
    )
    absent = "this simulator's pictures cannot be changed so"
    common = {"near": near, "far": far, "allowed": allowed, "part": "picture", "absent": absent, "source": source}
    return Perturbation(name, unit, meaning, **{"scale": "linear", **common, **rest})


PERTURBATIONS: dict[str, Perturbation] = {
    p.name: p
    for p in (
        _factor(
            "mass",
            "mass and inertia of every body, times this",
            "every body is massless",
            (0.75, 1.25),
            ((0.4, 0.5), (1.5, 2.5)),
            f"near: the random range of {_PACKER} (density, HalfCheetah and Hopper); far: beyond their extreme range",
            least=0.05,  # without mass MuJoCo gives up, and PhysX's numbers are not finite
        ),
        _factor(
            "friction",
            "friction of every surface, times this",
            "nothing that moves slides on anything",
            (0.625, 1.375),
            ((0.1, 0.25), (1.75, 3.0)),
            f"near: the random range of {_PACKER} (friction, relative to 0.8); far: beyond their extreme range",
        ),
        _factor(
            "damping",
            "what brakes the joints (and, where there is one, the drag of the medium), times this",
            "no joint is braked",
            (0.6, 1.5),
            ((0.1, 0.3),),
            f"near: the middle of the range of {_DEXTERITY}, 0.3 to 3; far: below it. Above it, light worlds of "
            "Gym-Humanoid are too stiff for its explicit integrator",
        ),
        _factor(
            "gain",
            "force of every actuator, times this",
            "there is no actuator",
            (0.78, 1.22),
            ((0.35, 0.55), (1.45, 2.2)),
            f"near: random range of {_PACKER} (power, HalfCheetah, relative to 0.9); far: beyond their extreme range",
        ),
        _factor(
            "gravity",
            "gravity, times this",
            "gravity moves nothing here",
            (0.9, 1.1),
            ((0.4, 0.7), (1.4, 2.0)),
            f"near: 2.5 standard deviations of {_DEXTERITY} (0.4 m/s2); far: our choice, from Mars to twice the earth",
        ),
        Perturbation(
            "delay",
            "control steps",
            "an action is applied this many control steps after it is given; before the first, the zero action is",
            0.0,
            (0.0, 1.0),
            ((3.0, 6.0),),
            (0.0, 10.0),
            "steps",
            "shell",
            "",
            f"far: the easy to the medium setting of {_REAL_WORLD} (3 and 6 steps); near: our choice",
        ),
        Perturbation(
            "noise",
            "typical standard deviations",
            "independent Gaussian noise on every number of the state observation, as a share of its typical standard "
            "deviation; reward and success are those of the true state",
            0.0,
            (0.0, 0.03),
            ((0.1, 0.3),),
            (0.0, 10.0),
            "linear",
            "shell",
            "the card states no typical standard deviations (typical_std)",
            f"far: the easy to the medium setting of {_REAL_WORLD} (0.1 and 0.3); near: our choice",
        ),
        _look(
            "colour",
            "share",
            "every thing that is drawn has its colour mixed with one drawn for it, which has this share",
            (0.0, 0.2),
            ((0.5, 1.0),),
            (0.0, 1.0),
            nominal=0.0,
        ),
        _look(
            "light",
            "factor",
            "ambient, diffuse and specular light of every lamp, times this",
            (0.8, 1.25),
            ((0.2, 0.5), (1.6, 2.5)),
            (0.0, 10.0),
            nominal=1.0,
            scale="log",
        ),
        _look(
            "camera",
            "degrees",
            "every camera is turned by this much about an axis that is drawn",
            (0.0, 2.0),
            ((6.0, 15.0),),
            (0.0, 180.0),
            nominal=0.0,
        ),
    )
}
"""Every perturbation by name, in the order in which worlds list them."""

MOST_DELAY = int(PERTURBATIONS["delay"].allowed[1])


def supported(card: TaskCard) -> tuple[str, ...]:
    """Names of the perturbations that a task has: those of its backend, and those of the shell around any backend.

    Raises:
        CardError: The card names one that does not exist.
    """
    if unknown := sorted(set(card.perturbations) - set(PERTURBATIONS)):
        raise CardError(f"{card.id}: unknown perturbations {unknown}; known: {list(PERTURBATIONS)}")
    shell = {"delay", *(("noise",) if card.typical_std else ())}
    return tuple(n for n, p in PERTURBATIONS.items() if n in (shell if p.part == "shell" else card.perturbations))


@dataclass(frozen=True)
class World:
    """Which worlds the episodes of an environment take place in.

    Attributes:
        names: The task's perturbations, in order.
        asked: Name to a number, ``"near"`` or ``"far"``; the others are nominal.
        label: What was asked for, as plain JSON.
    """

    names: tuple[str, ...]
    asked: Mapping[str, float | str]
    label: Any

    def draw(self, seed: int) -> dict[str, float]:
        """The world of an episode, the same in every environment.

        Args:
            seed: The episode's.

        Returns:
            Every perturbation of the task to its value.
        """
        values = {}
        for name, (which, place) in zip(self.names, _numbers(self.names, seed), strict=True):
            asked, kind = self.asked.get(name, "nominal"), PERTURBATIONS[name]
            if isinstance(asked, str):
                values[name] = kind.nominal if asked == "nominal" else kind.value(asked, which, place)
            else:
                values[name] = asked
        return values


def parse_world(card: TaskCard, world: Asked) -> World | None:
    """What ``world=`` asks of a task.

    Args:
        card: The task.
        world: See :data:`Asked`. ``"near"`` and ``"far"`` vary every perturbation of the task at once.

    Returns:
        The worlds, or None for the nominal one.

    Raises:
        WorldError: A world, perturbation or value that does not exist, or that this task does not have.
    """
    names = supported(card)
    if world is None or world == "nominal" or (isinstance(world, Mapping) and not world):
        return None
    if isinstance(world, str):
        if world not in WORLDS:
            raise WorldError(f"{card.id}: world must be one of {', '.join(WORLDS)} or a dict, got {world!r}")
        return World(names, dict.fromkeys(names, world), world)
    if not isinstance(world, Mapping):
        raise WorldError(f"{card.id}: world must be a name or a dict of values, got {type(world).__name__}")
    asked: dict[str, float | str] = {}
    for name, value in world.items():
        if name not in PERTURBATIONS:
            raise WorldError(f"{card.id}: there is no perturbation {name!r}; this task has {', '.join(names)}")
        if name not in names:
            raise WorldError(
                f"{card.id}: {name} cannot be varied: {PERTURBATIONS[name].absent}; this task has {', '.join(names)}"
            )
        asked[name] = _value(card, PERTURBATIONS[name], value)
    return World(names, asked, dict(world))


def read_world(text: str) -> Asked:
    """A world as it is written on the command line: a name, or JSON.

    Raises:
        WorldError: What begins like JSON is none.
    """
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise WorldError(
            f"{text} is neither {', '.join(WORLDS)} nor JSON such as '{{\"mass\": 1.5}}': {error}"
        ) from None


def world_suffix(world: Asked) -> str:
    """What file names say of a world: nothing of the nominal one."""
    if world is None or world == "nominal":
        return ""
    return "-" + (world if isinstance(world, str) else ",".join(f"{name}={value}" for name, value in world.items()))


def _value(card: TaskCard, kind: Perturbation, value: Any) -> float | str:
    """One value of a dict, checked."""
    if isinstance(value, str):
        if value not in WORLDS:
            raise WorldError(f"{card.id}: {kind.name} must be a number or one of {', '.join(WORLDS)}, got {value!r}")
        return value
    low, high = kind.allowed
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise WorldError(f"{card.id}: {kind.name} must be a number, got {type(value).__name__}")
    if not low <= value <= high or (kind.scale == "steps" and value != int(value)):
        whole = "a whole number " if kind.scale == "steps" else ""
        raise WorldError(f"{card.id}: {kind.name} must be {whole}from {low:g} to {high:g} ({kind.unit}), got {value}")
    return float(value)


def sensor_noise(card: TaskCard, seeds: Any, counts: Any, share: Any) -> np.ndarray:
    """Observation noise of rows, a function of episode seed and step alone.

    Args:
        card: The task, for its typical standard deviations.
        seeds: (B,) int, the episodes'.
        counts: (B,) int, control steps taken.
        share: (B,) float, standard deviation as a share of the typical one.

    Returns:
        (B, O) float32.
    """
    keys = fold_in(fold_in(keys_from_seeds(seeds), SENSOR_NOISE), np.asarray(counts, dtype=np.int64))
    scale = np.asarray(share, dtype=np.float32)[:, None] * np.asarray(card.typical_std, dtype=np.float32)
    return scale * normal(keys, len(card.typical_std))
