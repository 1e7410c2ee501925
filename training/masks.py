"""MATS: masks from fine to rough to box (SPEC §8).

All masks are u8 [H,W], 255 = repaint. Lengths are pixels at 1024 and are scaled by √(HW)/1024.
The same generator state gives the same mask; an empty mask comes back unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from skimage.measure import find_contours

from a2edit.runtime.errors import RequestError
from a2edit.runtime.layout import tight_box
from a2edit.training.shapes import Mask, free_shape, scribble

Reals = NDArray[np.float64]
# Radius of the paper's evaluation rough mask, which is a dilation alone.
EVALUATION_RADIUS = 20.0
_SCRIBBLE_SHARE = 0.2


class MaskStage(Enum):
    """What the user's mask looks like: MATS's three stages, and shapes drawn by hand."""

    FINE = "fine"
    ROUGH = "rough"
    BOX = "box"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class MaskMix:
    """Shares of the stages in a training leg, in any unit."""

    fine: float = 0.0
    rough: float = 0.0
    box: float = 0.0
    free: float = 0.0

    def __post_init__(self) -> None:
        shares = self.shares()
        if min(shares) < 0 or not 0 < sum(shares) < math.inf:
            raise RequestError(
                f"{self} is no mixture of masks: shares are not negative, and one is above 0"
            )

    def shares(self) -> tuple[float, ...]:
        """In the order of MaskStage."""
        return tuple(float(getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, slots=True)
class RoughSettings:
    """Bounds of the uniform draws of a rough mask; pixels at 1024.

    Attributes:
        radius: a of the dilation, pixels.
        strength: α as a share of a.
        frequency: s of the noise, cycles a pixel.
        decorrelation: δ·s, the way in the noise's own units from the noise that moves x to the one
            that moves y.
    """

    radius: tuple[float, float] = (8.0, 40.0)
    strength: tuple[float, float] = (0.4, 1.0)
    frequency: tuple[float, float] = (1 / 128, 1 / 32)
    decorrelation: float = 31.7


MATS = RoughSettings()


def draw_mask(mask: Mask, rng: np.random.Generator, mix: MaskMix) -> Mask:
    """A user's mask for the object of `mask`, of a stage drawn from the mixture."""
    shares = np.array(mix.shares())
    return stage_mask(mask, rng, list(MaskStage)[rng.choice(len(shares), p=shares / shares.sum())])


def stage_mask(mask: Mask, rng: np.random.Generator, stage: MaskStage) -> Mask:
    """A user's mask as a stage has it; FREE is one of FlexEdit's shapes or a scribble."""
    if stage is MaskStage.FINE:
        return mask.copy()
    if stage is MaskStage.FREE:
        return scribble(mask, rng) if rng.random() < _SCRIBBLE_SHARE else free_shape(mask, rng)
    rough = rough_mask(mask, rng)
    return rough if stage is MaskStage.ROUGH else box_mask(rough)


def rough_mask(mask: Mask, rng: np.random.Generator, settings: RoughSettings = MATS) -> Mask:
    """Dilate, move every outer contour by Perlin noise, fill again (SPEC §8)."""
    if not mask.any():
        return mask.copy()
    height, width = mask.shape
    scale = _scale(mask)
    radius = rng.uniform(*settings.radius) * scale
    strength = rng.uniform(*settings.strength) * radius
    frequency = rng.uniform(*settings.frequency) / scale
    offset = rng.uniform(0, _PERIOD, 2)

    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    for contour in _outer_contours(mask, radius):
        u, v = (contour * frequency + offset).T
        move = [perlin(u, v), perlin(u + settings.decorrelation, v + settings.decorrelation)]
        moved = contour + strength * np.stack(move, 1)
        moved = np.clip(moved, 0, (width - 1, height - 1))
        draw.polygon([(x, y) for x, y in moved.tolist()], 255)
    return np.array(image)


def box_mask(mask: Mask) -> Mask:
    """The tight box, filled."""
    box = np.zeros_like(mask)
    if mask.any():
        box[tight_box(mask).slices] = 255
    return box


def dilate(mask: Mask, radius: float = EVALUATION_RADIUS) -> Mask:
    """Every pixel within `radius` (a disk; pixels at 1024) of the mask."""
    if not mask.any():
        return mask.copy()
    far: Reals = distance_transform_edt(mask < 128)
    return np.where(far <= radius * _scale(mask), np.uint8(255), np.uint8(0))


def _scale(mask: Mask) -> float:
    return math.sqrt(mask.size) / 1024


def _outer_contours(mask: Mask, radius: float) -> list[Reals]:
    """Where the distance to the mask is `radius`: points (x, y) [n, 2] of each closed curve.

    The mask is dilated beyond the picture's edge too, so that curves close; holes are left out.
    """
    box = tight_box(mask)
    margin = math.ceil(radius) + 2
    window = np.pad(mask[box.slices] < 128, margin, constant_values=True)
    far: Reals = distance_transform_edt(window)
    corner = np.array([box.x0 - margin, box.y0 - margin])
    # A curve around low values (the mask) runs one way, a hole's the other.
    curves = [curve[:, ::-1] for curve in find_contours(far, radius, positive_orientation="high")]
    return [curve + corner for curve in curves if _signed_area(curve) > 0]


def _signed_area(points: Reals) -> float:
    x, y = points.T
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


# The noise repeats after this many cells, far more than a picture has.
_PERIOD = 256
_RNG = np.random.default_rng(0)
_TABLE = np.concatenate([_RNG.permutation(_PERIOD)] * 2)
_ANGLES = _RNG.uniform(0, math.tau, _PERIOD)
_GRADIENTS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


def perlin(x: Reals, y: Reals) -> Reals:
    """Gradient noise of period 256, one cycle a unit, within [-1, 1] and 0 at whole numbers."""
    column, row = np.floor(x), np.floor(y)
    u, v = x - column, y - row
    i, j = column.astype(np.int64) % _PERIOD, row.astype(np.int64) % _PERIOD

    def corner(right: int, down: int) -> Reals:
        gradient = _GRADIENTS[_TABLE[_TABLE[(i + right) % _PERIOD] + (j + down) % _PERIOD]]
        return gradient[:, 0] * (u - right) + gradient[:, 1] * (v - down)

    fade_u, fade_v = (t**3 * (t * (6 * t - 15) + 10) for t in (u, v))
    upper = corner(0, 0) * (1 - fade_u) + corner(1, 0) * fade_u
    lower = corner(0, 1) * (1 - fade_u) + corner(1, 1) * fade_u
    # Unit gradients reach √½ at most.
    return (upper * (1 - fade_v) + lower * fade_v) * math.sqrt(2)
