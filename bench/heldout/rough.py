"""Rough masks as a hurried person paints them, from the place that an object will take.

None of this is training's (MATS moves contours by Perlin noise): a blob is a thresholded sum of
blurs, a scribble a zigzag brush, an outline an open ring of a pen line.
"""

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from a2edit.runtime.boxes import Box, tight_box

Mask = npt.NDArray[np.uint8]
Kind = Literal["blob", "box", "scribble", "outline", "ellipse"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def rough_mask(shape: Mask, kind: Kind, seed: int) -> Mask:
    """A mask of `kind` around `shape`: u8 [H,W], 0 or 255; both white where the object is."""
    drawers = {
        "blob": _blob,
        "box": _box,
        "scribble": _scribble,
        "outline": _outline,
        "ellipse": _ellipse,
    }
    return drawers[kind](shape, tight_box(shape), np.random.default_rng(seed))


def _blob(shape: Mask, box: Box, rng: np.random.Generator) -> Mask:
    size = max(box.width, box.height)
    near = Image.fromarray(shape).filter(ImageFilter.GaussianBlur(0.08 * size))
    waves = Image.fromarray(rng.uniform(0.1, 0.4, (7, 7)).astype(np.float32))
    level = waves.resize((shape.shape[1], shape.shape[0]), Image.Resampling.BICUBIC)
    wobbly = np.asarray(near, np.float32) / 255 > np.asarray(level)
    return np.where(wobbly | (shape >= 128), np.uint8(255), np.uint8(0))


def _box(shape: Mask, box: Box, rng: np.random.Generator) -> Mask:
    mask = np.zeros_like(shape)
    margin = round(float(rng.uniform(0.03, 0.06)) * max(box.width, box.height))
    mask[box.grown(margin).clipped(shape.shape[1], shape.shape[0]).slices] = 255
    return mask


def _scribble(shape: Mask, box: Box, rng: np.random.Generator) -> Mask:
    rows = 6
    brush = round(1.25 * box.height / rows)
    points = []
    for row in range(rows + 1):
        y = box.y0 + box.height * row / rows
        filled = np.flatnonzero(shape[min(max(round(y), box.y0 + 2), box.y1 - 3)] >= 128)
        if filled.size:
            slack = rng.uniform(-0.02, 0.06, 2) * box.width
            ends = (filled[0] - slack[0], filled[-1] + slack[1])
            points += [(float(x), y) for x in (ends if row % 2 else ends[::-1])]
    return _strokes(shape, points, brush)


def _outline(shape: Mask, box: Box, rng: np.random.Generator) -> Mask:
    start = float(rng.uniform(0, 2 * math.pi))
    points = []
    for angle in np.linspace(start, start + 1.86 * math.pi, 60):
        # A superellipse hugs a box better than an ellipse; the hand wanders a little.
        reach = 1.06 + 0.03 * math.sin(3 * angle + start)
        cos, sin = math.cos(angle), math.sin(angle)
        across, down = (math.copysign(abs(part) ** 0.6, part) * reach for part in (cos, sin))
        points.append(
            (
                (box.x0 + box.x1) / 2 + across * box.width / 2,
                (box.y0 + box.y1) / 2 + down * box.height / 2,
            )
        )
    return _strokes(shape, points, 5)


def _ellipse(shape: Mask, box: Box, rng: np.random.Generator) -> Mask:
    picture = Image.new("L", (shape.shape[1], shape.shape[0]), 0)
    margin = float(rng.uniform(0.08, 0.14)) * max(box.width, box.height)
    corners = (box.x0 - margin, box.y0 - margin, box.x1 + margin, box.y1 + margin)
    ImageDraw.Draw(picture).ellipse(corners, fill=255)
    return np.asarray(picture)


def _strokes(shape: Mask, points: list[tuple[float, float]], brush: int) -> Mask:
    picture = Image.new("L", (shape.shape[1], shape.shape[0]), 0)
    draw = ImageDraw.Draw(picture)
    draw.line(points, fill=255, width=brush)
    for x, y in points:
        draw.ellipse((x - brush / 2, y - brush / 2, x + brush / 2, y + brush / 2), fill=255)
    return np.asarray(picture)
