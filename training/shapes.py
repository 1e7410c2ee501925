"""What a hand paints over an object: FlexEdit's free shapes, and scribbles (SPEC §7).

All masks are u8 [H,W], 255 = repaint. A shape holds the whole object, because an object that shows
from under the mask would be taught as background.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Mask = NDArray[np.uint8]


class FreeShape(Enum):
    """FlexEdit's four; each is filled, or an open outline that means its inside."""

    CIRCLE = "circle"
    RECTANGLE = "rectangle"
    TRIANGLE = "triangle"
    IRREGULAR = "irregular"


def free_shape(mask: Mask, rng: np.random.Generator, shape: FreeShape | None = None) -> Mask:
    """A filled shape (a random one by default) around the object; an empty mask stays empty."""
    if not mask.any():
        return mask.copy()
    shape = shape or list(FreeShape)[rng.integers(len(FreeShape))]
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], 1).astype(np.float64)
    centre = (points.min(0) + points.max(0)) / 2
    outline = _OUTLINES[shape](points, centre, rng)
    return np.maximum(_filled(outline, mask.shape), mask)


def outlined(filled: Mask, width: int) -> Mask:
    """The open outline of a filled mask: a line of about `width` pixels, inside its edge."""
    if not filled.any():
        return filled.copy()
    # One more pixel of black around, so that the line also runs along the picture's edge.
    padded = Image.fromarray(np.pad(filled, width + 1))
    inner = np.asarray(padded.filter(ImageFilter.MinFilter(2 * width + 1)))
    return filled & ~inner[width + 1 : -width - 1, width + 1 : -width - 1]


def scribble(mask: Mask, rng: np.random.Generator, coverage: float = 0.97) -> Mask:
    """Strokes of one brush that walk over the object until it is covered, and what they missed."""
    if not mask.any():
        return mask.copy()
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    brush = max(2.0, extent * rng.uniform(0.08, 0.2))
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    at = rng.integers(len(rows))
    x, y = float(columns[at]), float(rows[at])
    # A walk that jumps to any open spot ends; the bound is for odd shapes.
    for _ in range(60):
        open_rows, open_columns = np.nonzero((mask > 0) & (np.asarray(image) == 0))
        if len(open_rows) <= (1 - coverage) * len(rows):
            break
        at = rng.integers(len(open_rows))
        goal = (float(open_columns[at]), float(open_rows[at]))
        bend = rng.normal(0, brush / 2, 2)
        middle = ((x + goal[0]) / 2 + bend[0], (y + goal[1]) / 2 + bend[1])
        path = [(x, y), middle, goal]
        draw.line(path, 255, max(1, round(brush)), joint="curve")
        for u, v in path:
            draw.ellipse((u - brush / 2, v - brush / 2, u + brush / 2, v + brush / 2), 255)
        x, y = goal
    return np.maximum(np.asarray(image), mask)


Outline = NDArray[np.float64]  # [points, (x, y)]


def _filled(outline: Outline, shape: tuple[int, ...]) -> Mask:
    image = Image.new("L", (shape[1], shape[0]))
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in outline], 255)
    return np.array(image)


def _circle(points: Outline, centre: Outline, rng: np.random.Generator) -> Outline:
    radius = np.hypot(*(points - centre).T).max() * rng.uniform(1.02, 1.15) + 1
    angles = np.linspace(0, math.tau, 64, endpoint=False)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _rectangle(points: Outline, _: Outline, rng: np.random.Generator) -> Outline:
    low, high = points.min(0), points.max(0)
    margin = (high - low + 1) * rng.uniform(0, 0.15, 2)
    low, high = low - margin, high + margin
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _triangle(points: Outline, centre: Outline, rng: np.random.Generator) -> Outline:
    """Three lines that just miss the object; their crossings are the corners."""
    turn = rng.choice([0.5, -0.5]) * math.pi + rng.normal(0, 0.25)
    angles = turn + math.tau * np.arange(3) / 3 + rng.normal(0, 0.12, 3)
    normals = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = ((points - centre) @ normals.T).max(0) * rng.uniform(1.02, 1.15) + 1
    pairs = ((0, 1), (1, 2), (2, 0))
    corners = [np.linalg.solve(normals[list(pair)], reach[list(pair)]) for pair in pairs]
    return centre + np.array(corners)


def _irregular(points: Outline, centre: Outline, rng: np.random.Generator) -> Outline:
    """The object's reach by angle, with a wobbling margin."""
    count = 72
    offsets = points - centre
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    bins = (np.floor(angles / math.tau * count).astype(np.int64)) % count
    reach = np.zeros(count)
    np.maximum.at(reach, bins, np.hypot(*offsets.T))
    wide = np.stack([np.roll(reach, shift) for shift in range(-6, 7)]).max(0)
    phase = np.arange(count) / count * math.tau
    wobble = sum(
        rng.uniform(0, 0.09) * np.sin(n * phase + rng.uniform(0, math.tau)) for n in (2, 3, 5, 7)
    )
    radius = wide * (1.2 + wobble) + 2
    middle = phase + math.pi / count
    return centre + radius[:, None] * np.stack([np.cos(middle), np.sin(middle)], 1)


_OUTLINES = {
    FreeShape.CIRCLE: _circle,
    FreeShape.RECTANGLE: _rectangle,
    FreeShape.TRIANGLE: _triangle,
    FreeShape.IRREGULAR: _irregular,
}
