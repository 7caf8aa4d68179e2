"""Positions and rotations, a column per row of a batch, by elementwise arithmetic: no row depends on the others."""

from __future__ import annotations

import numpy as np

Vectors = np.ndarray
"""(3, B) float64: x, y and z, one column per row of the batch."""

Turns = np.ndarray
"""(4, B) float64: unit quaternions, w first."""


def vectors(x: float | np.ndarray, y: float | np.ndarray, z: float | np.ndarray) -> Vectors:
    """Three components, numbers or (B,), as vectors; (3, 1) if all are numbers."""
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, dtype=np.float64)) for c in (x, y, z))))


def length(v: Vectors) -> np.ndarray:
    """(B,): the Euclidean norm."""
    return np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])


def level(v: Vectors) -> np.ndarray:
    """(B,): the norm of x and y alone."""
    return np.sqrt(v[0] * v[0] + v[1] * v[1])


def multiply(a: Turns, b: Turns) -> Turns:
    """First ``b``, then ``a``."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ]
    )


def inverse(a: Turns) -> Turns:
    """The way back."""
    return np.stack([a[0], -a[1], -a[2], -a[3]])


def rotate(a: Turns, v: Vectors) -> Vectors:
    """The vectors, turned (Rodrigues' formula)."""
    w, (x, y, z) = a[0], a[1:]
    tx, ty, tz = 2.0 * (y * v[2] - z * v[1]), 2.0 * (z * v[0] - x * v[2]), 2.0 * (x * v[1] - y * v[0])
    return np.stack(
        [
            v[0] + w * tx + y * tz - z * ty,
            v[1] + w * ty + z * tx - x * tz,
            v[2] + w * tz + x * ty - y * tx,
        ]
    )


def about(axis: int, angle: np.ndarray | float) -> Turns:
    """A turn by an angle (B,) in rad about x (0), y (1) or z (2)."""
    half = 0.5 * np.atleast_1d(np.asarray(angle, dtype=np.float64))
    turn = np.zeros((4, len(half)))
    turn[0], turn[1 + axis] = np.cos(half), np.sin(half)
    return turn


def rotation_vector(a: Turns) -> Vectors:
    """The axis times the angle, at most half a turn, in rad."""
    sign = np.where(a[0] < 0, -1.0, 1.0)
    sine = length(a[1:])
    angle = 2.0 * np.arctan2(sine, sign * a[0])
    scale = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0)
    return sign * scale * a[1:]


def turn_by(v: Vectors) -> Turns:
    """The turn about the axis v by its length in rad."""
    angle = length(v)
    scale = np.where(angle > 1e-9, np.sin(0.5 * angle) / np.maximum(angle, 1e-9), 0.5)
    return np.stack([np.cos(0.5 * angle), scale * v[0], scale * v[1], scale * v[2]])


def between(a: Vectors, b: Vectors) -> Turns:
    """The least turn that brings the direction of unit vectors a to that of b; none where they are opposite."""
    axis = np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
    sine = length(axis)
    angle = np.arctan2(sine, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])
    return turn_by(axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 0.0))


def heading(a: Turns) -> np.ndarray:
    """(B,): the angle about z of where the body's own x axis points, rad."""
    w, x, y, z = a
    return np.arctan2(2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z))


def nearest(angle: np.ndarray, to: np.ndarray, period: float) -> np.ndarray:
    """The angle plus the multiple of the period that brings it nearest to another, both (B,)."""
    return angle + period * np.round((to - angle) / period)


def down(angle: np.ndarray | float) -> Turns:
    """A hand that points down, with its x axis at this heading; its fingers close across."""
    return multiply(about(2, angle), about(0, np.pi))
