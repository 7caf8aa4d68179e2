"""Differences between observations, taken by the geometry of each dimension and counted in its own spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CAP = 1000.0
"""Largest normalised error, in standard deviations. Whatever is not finite counts as this much: nothing finite
can be worse, so a model never gains by failing outright."""

FLOAT32_RESOLUTION = 2.0**-23


@dataclass(frozen=True)
class Geometry:
    """How two observations are compared.

    Four neighbouring dimensions of kind ``quaternion`` become one, the angle of the rotation between them.
    What is left are D <= O dimensions.

    Attributes:
        names: D names.
        units: D units.
        kinds: D kinds.
        columns: D slices into the observation.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    kinds: tuple[str, ...]
    columns: tuple[slice, ...]

    @classmethod
    def of(cls, names: np.ndarray, kinds: np.ndarray, units: np.ndarray) -> Geometry:
        """Read the geometry of O observation dimensions.

        Args:
            names: (O,) str.
            kinds: (O,) str: ``linear``, ``angle`` or ``quaternion``.
            units: (O,) str.

        Raises:
            ValueError: Quaternion dimensions that do not come in fours, or an unknown kind.
        """
        out: list[tuple[str, str, str, slice]] = []
        i = 0
        while i < len(kinds):
            kind = str(kinds[i])
            if kind not in ("linear", "angle", "quaternion"):
                raise ValueError(f"dimension {names[i]!r} has the unknown kind {kind!r}")
            width = 4 if kind == "quaternion" else 1
            if width == 4 and (len(kinds) < i + 4 or any(k != kind for k in kinds[i : i + 4])):
                raise ValueError(f"the quaternion at dimension {names[i]!r} does not have four components")
            unit = "rad" if kind == "quaternion" else str(units[i])
            out.append((str(names[i]), unit, kind, slice(i, i + width)))
            i += width
        return cls(*(tuple(column) for column in zip(*out, strict=True)))

    def difference(self, ahead: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """How far ``ahead`` is from ``behind``.

        Args:
            ahead: (..., O).
            behind: (..., O).

        Returns:
            (..., D) float64: plain, wrapped to [-pi, pi), or the rotation angle 2 acos |<q, p>| in [0, pi].
        """
        a, b = np.asarray(ahead, dtype=np.float64), np.asarray(behind, dtype=np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            if all(kind == "linear" for kind in self.kinds):
                return a - b
            parts = [_DIFFERENCES[k](a[..., c], b[..., c]) for k, c in zip(self.kinds, self.columns, strict=True)]
        return np.concatenate(parts, axis=-1)

    def scale(self, std: np.ndarray) -> np.ndarray:
        """Standard deviations of the D dimensions from those of the O components.

        A rotation by a small angle t moves a unit quaternion by t / 2, so a rotation's spread is twice the
        root of its four variances (our definition).

        Args:
            std: (O,).

        Returns:
            (D,) float64.
        """
        std = np.asarray(std, dtype=np.float64)
        factors = [2.0 if kind == "quaternion" else 1.0 for kind in self.kinds]
        return np.array([f * np.sqrt(np.sum(std[c] ** 2)) for f, c in zip(factors, self.columns, strict=True)])

    def varies(self, std: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which dimensions move enough to be scored.

        Constant ones are never divided by: those whose spread is below 1e-8 max(1, range), or below the
        resolution of float32 at the largest magnitude seen.

        Args:
            std: (O,) spread of what is predicted, over the train split.
            low: (O,) smallest observation of the train split.
            high: (O,) largest observation of the train split.

        Returns:
            (D,) bool.
        """
        low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        least = np.maximum(
            1e-8 * np.maximum(1.0, high - low), FLOAT32_RESOLUTION * np.maximum(np.abs(low), np.abs(high))
        )
        return np.array([bool((np.asarray(std)[c] >= least[c]).any()) for c in self.columns])


def normalised(difference: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Absolute differences in standard deviations, at most :data:`CAP`; what is not finite counts as that.

    Args:
        difference: (..., D).
        scale: (D,) positive.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(difference) / scale
    return np.minimum(np.where(np.isfinite(size), size, CAP), CAP)


def _linear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - b


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a - b + np.pi) % (2 * np.pi) - np.pi


def _quaternion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """2 acos |<a, b>| of unit quaternions, computed as an arctangent, which stays exact for small angles."""
    with np.errstate(divide="ignore"):
        a = a / np.linalg.norm(a, axis=-1, keepdims=True)
        b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)  # q and -q are the same rotation
    apart = np.linalg.norm(a - b, axis=-1, keepdims=True)
    return 4.0 * np.arctan2(apart, np.linalg.norm(a + b, axis=-1, keepdims=True))


_DIFFERENCES = {"linear": _linear, "angle": _angle, "quaternion": _quaternion}
