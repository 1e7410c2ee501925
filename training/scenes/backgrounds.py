"""Places for an object to stand in: u8 [S, S, 3] pictures, drawn at their own size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from a2edit.training.scenes.canvas import RGB, Canvas, shade
from a2edit.training.scenes.kinds import kinds_of
from a2edit.training.scenes.light import Box
from a2edit.training.scenes.style import Style, random_colour


def _mix(first: RGB, second: RGB, share: float) -> RGB:
    red, green, blue = (
        round(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True)
    )
    return red, green, blue


def _calm(rng: np.random.Generator) -> RGB:
    """A colour that leaves the strong ones to the object."""
    return _mix(random_colour(rng), (214, 212, 208), rng.uniform(0.35, 0.75))


def _ramp(size: tuple[int, int], top: RGB, bottom: RGB) -> Image.Image:
    levels = np.linspace(np.array(top), np.array(bottom), size[1])
    rows = np.broadcast_to(levels[:, None], (size[1], size[0], 3))
    return Image.fromarray(rows.astype(np.uint8))


def landscape(size: int, rng: np.random.Generator) -> Image.Image:
    """Sky, sometimes hills and clouds, and ground."""
    sky, ground = _calm(rng), _calm(rng)
    image = _ramp((size, size), sky, _mix(sky, (255, 250, 240), 0.6))
    draw = ImageDraw.Draw(image)
    horizon = rng.uniform(0.45, 0.75) * size
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 5))):
            x, y = rng.uniform(0, size), rng.uniform(0.05, 0.4) * size
            for _ in range(3):
                w, h = rng.uniform(0.06, 0.16) * size, rng.uniform(0.03, 0.06) * size
                x += rng.uniform(-0.6, 0.6) * w
                draw.ellipse((x - w, y - h, x + w, y + h), _mix(sky, (255, 255, 255), 0.75))
    for _ in range(int(rng.integers(0, 3))):
        x, w = rng.uniform(0, size), rng.uniform(0.25, 0.6) * size
        h = rng.uniform(0.08, 0.25) * size
        colour = _mix(ground, sky, rng.uniform(0.3, 0.7))
        draw.ellipse((x - w, horizon - h, x + w, horizon + h), colour)
    low = _ramp((size, size - int(horizon)), ground, shade(ground, rng.uniform(0.7, 0.95)))
    image.paste(low, (0, int(horizon)))
    if rng.random() < 0.4:
        draw = ImageDraw.Draw(image)
        x, w = rng.uniform(0.2, 0.8) * size, rng.uniform(0.02, 0.06) * size
        path = [(x - w, horizon), (x + w, horizon), (x + 8 * w, size), (x - 6 * w, size)]
        draw.polygon(path, _mix(ground, (255, 250, 240), 0.35))
    return image


def room(size: int, rng: np.random.Generator) -> Image.Image:
    """Wallpaper, a floor of boards or carpet, sometimes a window or a picture on the wall."""
    wall, floor = _calm(rng), _calm(rng)
    corner = int(rng.uniform(0.55, 0.78) * size)
    image = _ramp((size, size), wall, shade(wall, 0.9))
    draw = ImageDraw.Draw(image)
    paper = rng.integers(3)
    step = int(rng.uniform(0.06, 0.14) * size)
    if paper == 1:
        for left in range(0, size, step):
            draw.rectangle((left, 0, left + step // 2, corner), shade(wall, 1.18))
    elif paper == 2:
        for row, top in enumerate(range(0, corner, step)):
            for left in range(row % 2 * step // 2, size, step):
                spot = (left, top, left + step // 4, top + step // 4)
                draw.ellipse(spot, shade(wall, 0.86))
    if rng.random() < 0.5:
        x, y = rng.uniform(0.05, 0.65) * size, rng.uniform(0.05, 0.2) * size
        w, h = rng.uniform(0.18, 0.3) * size, rng.uniform(0.18, 0.3) * size
        draw.rectangle((x, y, x + w, y + h), (246, 240, 228))
        frame = 0.02 * size
        draw.rectangle((x + frame, y + frame, x + w - frame, y + h - frame), _calm(rng))
        draw.line((x + w / 2, y, x + w / 2, y + h), (246, 240, 228), max(1, size // 90))
    draw.rectangle((0, corner, size, size), floor)
    if rng.random() < 0.6:
        vanish = rng.uniform(0.2, 0.8) * size
        for x in np.linspace(-2 * size, 3 * size, int(rng.integers(14, 30))):
            start = vanish + (x - vanish) * 0.35
            draw.line((start, corner, float(x), size), shade(floor, 0.82), max(1, size // 128))
    draw.rectangle((0, corner - size // 40, size, corner), shade(wall, 1.4))
    return image


def tiles(size: int, rng: np.random.Generator) -> Image.Image:
    """Square tiles in two tones, with joints."""
    first = _calm(rng)
    second = _mix(first, _calm(rng), rng.uniform(0.2, 1.0))
    image = Image.new("RGB", (size, size), shade(first, 0.8))
    draw = ImageDraw.Draw(image)
    step = rng.uniform(0.08, 0.22) * size
    joint = max(1, round(0.012 * size))
    offset = rng.uniform(0, step)
    for row in range(-1, int(size / step) + 1):
        for column in range(-1, int(size / step) + 1):
            x, y = column * step + offset, row * step + offset
            colour = shade((first, second)[(row + column) % 2], rng.uniform(0.95, 1.0))
            draw.rectangle((x, y, x + step - joint, y + step - joint), colour)
    return image


def cloudy(size: int, rng: np.random.Generator) -> Image.Image:
    """Smooth value noise between two or three colours."""
    first, second, third = _calm(rng), _calm(rng), _calm(rng)
    cells, half = int(rng.integers(3, 8)), size // 2
    layers = []
    for scale in (cells, cells * 2, cells * 4):
        grid = Image.fromarray((rng.random((scale, scale)) * 255).astype(np.uint8))
        layers.append(np.asarray(grid.resize((half, half), Image.Resampling.BICUBIC), np.float32))
    level = (layers[0] * 0.6 + layers[1] * 0.28 + layers[2] * 0.12) / 255
    mixed = _blend(_flat(first, half), second, np.clip(level * 1.6 - 0.3, 0, 1))
    if rng.random() < 0.5:
        mixed = _blend(mixed, third, np.clip(layers[0] / 128 - 1, 0, 1))
    return _enlarged(mixed, size)


def stripes(size: int, rng: np.random.Generator) -> Image.Image:
    """Broad slanting bands of two or three tones."""
    first = _calm(rng)
    palette = [first, _mix(first, _calm(rng), 0.6), shade(first, 1.25)]
    y, x = _grid(size)
    angle = rng.uniform(0, math.pi)
    phase = (x * math.cos(angle) + y * math.sin(angle)) * rng.uniform(4, 12)
    index = np.floor(phase).astype(np.int64) % int(rng.integers(2, 4))
    return Image.fromarray(np.array(palette, np.uint8)[index])


def glow(size: int, rng: np.random.Generator) -> Image.Image:
    """A studio backdrop: light in the middle, darker to the corners, a few soft discs."""
    inner = _calm(rng)
    outer = shade(_mix(inner, _calm(rng), 0.5), rng.uniform(0.6, 0.95))
    half = size // 2
    y, x = _grid(half)
    centre = rng.uniform(0.3, 0.7, 2)
    level = _blend(
        _flat(inner, half), outer, np.clip(np.hypot(x - centre[0], y - centre[1]) * 1.4, 0, 1)
    )
    for _ in range(int(rng.integers(0, 7))):
        u, v, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.04, 0.14)
        disc = np.clip((radius - np.hypot(x - u, y - v)) * 40, 0, 1) * np.float32(0.35)
        level = _blend(level, _calm(rng), disc)
    return _enlarged(level, size)


Reals = NDArray[np.float32]


def _grid(size: int) -> tuple[Reals, Reals]:
    """Rows and columns in [0, 1), to be broadcast."""
    ramp = np.arange(size, dtype=np.float32) / np.float32(size)
    return ramp[:, None], ramp[None, :]


def _flat(colour: RGB, size: int) -> Reals:
    return np.broadcast_to(np.array(colour, np.float32), (size, size, 3))


def _blend(picture: Reals, colour: RGB, weight: NDArray[np.floating]) -> Reals:
    share = weight.astype(np.float32)[..., None]
    blended: Reals = picture + (np.array(colour, np.float32) - picture) * share
    return blended


def _enlarged(picture: Reals, size: int) -> Image.Image:
    """What is smooth needs half of the pixels only."""
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    return image.resize((size, size), Image.Resampling.BILINEAR)


_PLACES = (landscape, room, tiles, cloudy, stripes, glow)
_SHARES = (0.28, 0.26, 0.12, 0.14, 0.08, 0.12)


def draw_background(
    size: int, keep_clear: Box, rng: np.random.Generator, photograph: Image.Image | None = None
) -> Image.Image:
    """A place with a few other things in it, which leave most of `keep_clear` (xyxy) free.

    A photograph is a place of its own, which needs fewer things.
    """
    if photograph is None:
        place = _PLACES[rng.choice(len(_PLACES), p=_SHARES)]
        image = place(size, rng)
    else:
        image = photograph
    for _ in range(int(rng.integers(0, 4 if photograph is None else 2))):
        _add_shape(image, size, keep_clear, rng)
    if rng.random() < (0.4 if photograph is None else 0.2):
        _add_object(image, size, keep_clear, rng)
    return image


def _free_spot(
    size: int, side: int, clear: Box, rng: np.random.Generator
) -> tuple[int, int] | None:
    """A corner for a square of `side` that hardly touches the box; None if chance finds none."""
    for _ in range(6):
        x, y = (int(v) for v in rng.integers(-side // 4, size - side * 3 // 4, 2))
        slack = side // 5
        if (
            x + side - slack < clear[0]
            or x + slack > clear[2]
            or y + side - slack < clear[1]
            or y + slack > clear[3]
        ):
            return x, y
    return None


def _add_shape(image: Image.Image, size: int, clear: Box, rng: np.random.Generator) -> None:
    side = int(rng.uniform(0.08, 0.2) * size)
    spot = _free_spot(size, side, clear, rng)
    if spot is None:
        return
    canvas = Canvas(side * 2, line=0.04)
    colour = _mix(random_colour(rng), (128, 128, 128), 0.2)
    shape = rng.integers(3)
    if shape == 0:
        canvas.dot((0.5, 0.5), 0.45, colour, edge=True)
    elif shape == 1:
        canvas.box((0.08, 0.08, 0.92, 0.92), colour, rng.uniform(0, 0.2))
    else:
        canvas.polygon([(0.5, 0.08), (0.93, 0.9), (0.07, 0.9)], colour)
    _place(image, canvas.finish(), spot, side)


def _add_object(image: Image.Image, size: int, clear: Box, rng: np.random.Generator) -> None:
    side = int(rng.uniform(0.18, 0.32) * size)
    spot = _free_spot(size, side, clear, rng)
    if spot is None:
        return
    kinds = kinds_of("train")
    canvas = Canvas(side * 2)
    kinds[rng.integers(len(kinds))].draw(canvas, Style.random(rng), rng)
    _place(image, canvas.finish(), spot, side)


def _place(image: Image.Image, sprite: Image.Image, spot: tuple[int, int], side: int) -> None:
    scale = side / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    small = sprite.resize(size, Image.Resampling.BOX)
    image.paste(small, spot, small)
