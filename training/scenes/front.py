"""Things in front of an object: grass, a post, a ball, a part of another object."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from a2edit.training.scenes.canvas import RGB, Canvas, Point, shade
from a2edit.training.scenes.kinds import kinds_of
from a2edit.training.scenes.light import Box
from a2edit.training.scenes.pose import scaled
from a2edit.training.scenes.style import WOODS, Style, random_colour

_GRASS: tuple[RGB, ...] = ((84, 150, 66), (120, 168, 70), (60, 118, 58), (170, 160, 84))
_TRIES = 4
# Of the object's area: less is not worth it, more hides what it is.
_COVERED = (0.02, 0.25)


def cover(
    picture: Image.Image, alpha: Image.Image, box: Box, rng: np.random.Generator
) -> Image.Image | None:
    """Put something in front of the object that `alpha` (as large as the picture) shows in a box.

    Returns:
        the alpha of what is still seen, or None where no place was found; then nothing is drawn.
    """
    whole = float(np.asarray(alpha.crop(box), np.float32).sum())
    for _ in range(_TRIES):
        sprite, (x, y) = _things[rng.integers(len(_things))](box, rng)
        front = Image.new("L", alpha.size)
        front.paste(sprite.getchannel("A"), (x, y))
        left = alpha.copy()
        left.paste(0, (0, 0), front)
        covered = 1 - float(np.asarray(left.crop(box), np.float32).sum()) / whole
        if _COVERED[0] <= covered <= _COVERED[1]:
            picture.paste(sprite, (x, y), sprite)
            return left
    return None


def _grass(box: Box, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int]]:
    """Blades from below, over the object's foot."""
    x0, y0, x1, y1 = box
    side = max(24, round((x1 - x0) * rng.uniform(0.8, 1.3)))
    canvas = Canvas(side * 2, line=0.004)
    colour = _GRASS[rng.integers(len(_GRASS))]
    high = min(0.8, rng.uniform(0.2, 0.45) * (y1 - y0) / side)
    for x in np.sort(rng.uniform(0.05, 0.95, int(rng.integers(9, 22)))):
        foot = float(x)
        tip = (foot + rng.uniform(-0.08, 0.08), 0.98 - high * rng.uniform(0.5, 1.0))
        half = rng.uniform(0.01, 0.022)
        blade: list[Point] = [(foot - half, 0.98), tip, (foot + half, 0.98)]
        canvas.polygon(blade, shade(colour, rng.uniform(0.75, 1.1)))
    sprite = scaled(canvas.finish(), side)
    x = round((x0 + x1 - sprite.width) / 2 + rng.uniform(-0.2, 0.2) * (x1 - x0))
    return sprite, (x, y1 + round(0.03 * side) - sprite.height)


def _post(box: Box, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int]]:
    """An upright post that runs over the whole height."""
    x0, y0, x1, y1 = box
    high = round((y1 - y0) * rng.uniform(1.15, 1.5))
    canvas = Canvas(high, line=0.006)
    half = rng.uniform(0.05, 0.11) * (x1 - x0) / high
    colour = WOODS[rng.integers(len(WOODS))] if rng.random() < 0.6 else random_colour(rng)
    canvas.box((0.5 - half, 0.01, 0.5 + half, 0.99), colour, rng.uniform(0, half))
    x = x0 + round(rng.uniform(0.05, 0.95) * (x1 - x0)) - round(half * high)
    return canvas.finish(), (x, y1 + round(0.06 * high) - high)


def _ball(box: Box, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int]]:
    side = max(10, round(rng.uniform(0.22, 0.45) * max(box[2] - box[0], box[3] - box[1])))
    canvas = Canvas(side * 2, line=0.02)
    style = Style.random(rng)
    canvas.dot((0.5, 0.5), 0.47, style.fill(canvas.size), edge=True)
    return scaled(canvas.finish(), side), _at_the_edge(box, side, side, rng)


def _other(box: Box, rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int]]:
    side = max(16, round(rng.uniform(0.4, 0.7) * max(box[2] - box[0], box[3] - box[1])))
    kinds = kinds_of("train")
    canvas = Canvas(side * 2)
    kinds[rng.integers(len(kinds))].draw(canvas, Style.random(rng), rng)
    sprite = scaled(canvas.finish(), side)
    return sprite, _at_the_edge(box, sprite.width, sprite.height, rng)


def _at_the_edge(box: Box, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
    """A corner that puts the middle near the box's edge, rather below than above."""
    angle, reach = rng.uniform(-0.15 * math.pi, 1.15 * math.pi), rng.uniform(0.75, 1.1)
    x = (box[0] + box[2]) / 2 + math.cos(angle) * reach * (box[2] - box[0]) / 2
    y = (box[1] + box[3]) / 2 + math.sin(angle) * reach * (box[3] - box[1]) / 2
    return round(x - width / 2), round(y - height / 2)


_things = (_grass, _post, _ball, _other)
