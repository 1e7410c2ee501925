"""Poses: a sprite turned, sheared, stretched and seen a little from the side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TURN_DEGREES = 12.0
_SHEAR = 0.09
_STRETCH = 0.06
_PERSPECTIVE = 0.07
# Of these bounds, the share that a sample has is a uniform draw to this power: most objects stand
# nearly as the reference shows them, one in six has more than half of it. A model that always has
# to guess the pose from a rough mask paints no detail at all (docs/decisions/0008).
_RARITY = 4
# Warped at a larger size: warping blurs, and this keeps the blur under a pixel.
_OVERSAMPLING = 1.5


def scaled(sprite: Image.Image, side: float) -> Image.Image:
    """The sprite with a longer side of `side` pixels."""
    scale = side / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    return sprite.resize(size, Image.Resampling.HAMMING)


def posed(sprite: Image.Image, side: float, rng: np.random.Generator) -> Image.Image:
    """A random pose of a sprite with premultiplied alpha ("RGBa"), tight, `side` pixels long."""
    flat = scaled(sprite, _OVERSAMPLING * side)
    amount = rng.random() ** _RARITY
    turn = math.radians(amount * rng.uniform(-_TURN_DEGREES, _TURN_DEGREES))
    shear = amount * rng.uniform(-_SHEAR, _SHEAR)
    wide = 1 + amount * rng.uniform(-_STRETCH, _STRETCH)
    cos, sin = math.cos(turn), math.sin(turn)
    pull = np.array([[cos, -sin], [sin, cos]]) @ np.array([[wide, shear], [0.0, 1 / wide]])
    width, height = flat.size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    moved = (corners - (width / 2, height / 2)) @ pull.T
    # One side is nearer: its two corners move apart by what the others come together.
    near = 1 + amount * rng.uniform(-_PERSPECTIVE, _PERSPECTIVE)
    ends = ((0, 3), (1, 2)) if rng.random() < 0.5 else ((0, 1), (3, 2))
    for (i, j), factor in zip(ends, (near, 2 - near), strict=True):
        middle = (moved[i] + moved[j]) / 2
        moved[[i, j]] = middle + (moved[[i, j]] - middle) * factor
    moved -= moved.min(0)
    size = tuple(int(v) for v in np.ceil(moved.max(0)))
    warped = flat.transform(
        (size[0], size[1]),
        Image.Transform.PERSPECTIVE,
        _coefficients(moved, corners),
        Image.Resampling.BILINEAR,
    )
    return scaled(warped.crop(warped.getchannel("a").getbbox()), side)


def _coefficients(targets: NDArray[np.float64], sources: NDArray[np.float64]) -> list[float]:
    """Pillow's eight numbers of the map from target to source corners, both [4, 2]."""
    rows, values = [], []
    for (x, y), (u, v) in zip(targets, sources, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solution: list[float] = np.linalg.solve(np.array(rows), np.array(values)).tolist()
    return solution
