"""Patterns in a few colours, drawn over a whole square: u8 RGB [S, S, 3] pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from a2edit.training.scenes.canvas import RGB, shade


@dataclass(frozen=True, slots=True)
class Swatch:
    """What a pattern is made of; `period` is a share of the side, `angle` is 0, 1 or 2."""

    main: RGB
    second: RGB
    third: RGB
    period: float
    angle: int
    seed: int


def _indexed(index: NDArray[np.uint8], *colours: RGB) -> Image.Image:
    """A picture of colours from an index for every pixel."""
    image = Image.fromarray(index, "P")
    image.putpalette([level for colour in colours for level in colour])
    return image.convert("RGB")


def _tiled(tile: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    rows, columns = (-(-size // side) for side in tile.shape)
    return np.ascontiguousarray(np.tile(tile, (rows, columns))[:size, :size])


def _plain(swatch: Swatch, size: int) -> Image.Image:
    return Image.new("RGB", (size, size), swatch.main)


def _striped(swatch: Swatch, size: int) -> Image.Image:
    """Stripes across, upright or slanting."""
    image = _plain(swatch, size)
    draw = ImageDraw.Draw(image)
    period = swatch.period * size
    place = -size * 1.0
    while place < size:
        _stripe(draw, swatch, size, place, place + period / 2)
        place += period
    return image


def _pinstriped(swatch: Swatch, size: int) -> Image.Image:
    """Fine stripes of two widths, by turns."""
    image = _plain(swatch, size)
    draw = ImageDraw.Draw(image)
    period = swatch.period * size * 0.75
    place = -size * 1.0
    while place < size:
        _stripe(draw, swatch, size, place, place + period * 0.3)
        _stripe(draw, swatch, size, place + period * 0.55, place + period * 0.68)
        place += period
    return image


def _stripe(
    draw: ImageDraw.ImageDraw, swatch: Swatch, size: int, start: float, stop: float
) -> None:
    if swatch.angle == 0:
        draw.rectangle((0, start, size, stop), swatch.second)
    elif swatch.angle == 1:
        draw.rectangle((start, 0, stop, size), swatch.second)
    else:
        corners = [(start, 0), (stop, 0), (stop + size, size), (start + size, size)]
        draw.polygon(corners, swatch.second)


def _zigzag(swatch: Swatch, size: int) -> Image.Image:
    step = swatch.period * size
    place = np.arange(size, dtype=np.float32)
    wave = np.abs(place / step % 2 - 1) * step
    index = (((place[:, None] + wave[None, :]) / (step * 0.6)).astype(np.int32) & 1).astype(
        np.uint8
    )
    if swatch.angle == 1:
        index = np.ascontiguousarray(index.T)
    return _indexed(index, swatch.main, swatch.second)


def _checked(swatch: Swatch, size: int) -> Image.Image:
    image = _plain(swatch, size)
    draw = ImageDraw.Draw(image)
    step = swatch.period * size * 0.6
    count = int(size / step) + 1
    for row in range(count):
        for column in range(row % 2, count, 2):
            x, y = column * step, row * step
            draw.rectangle((x, y, x + step, y + step), swatch.second)
    return image


def _dotted(swatch: Swatch, size: int) -> Image.Image:
    image = _plain(swatch, size)
    draw = ImageDraw.Draw(image)
    step, radius = swatch.period * size * 0.75, swatch.period * size * 0.22
    count = int(size / step) + 2
    for row in range(count):
        for column in range(count):
            x, y = (column + row % 2 / 2) * step, row * step
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), swatch.second)
    return image


def _leopard(swatch: Swatch, size: int) -> Image.Image:
    """Rings of the second colour, broken and of uneven size."""
    rng = np.random.default_rng(swatch.seed)
    image = _plain(swatch, size)
    draw = ImageDraw.Draw(image)
    step = swatch.period * size * 0.8
    count = int(size / step) + 2
    shifts = rng.uniform(-0.28, 0.28, (count, count, 2)) * step
    radii = rng.uniform(0.26, 0.44, (count, count, 2)) * step
    starts = rng.integers(0, 360, (count, count))
    width = max(1, round(step * 0.2))
    for row in range(count):
        for column in range(count):
            x = (column + row % 2 / 2) * step + shifts[row, column, 0]
            y = row * step + shifts[row, column, 1]
            w, h = radii[row, column]
            box, start = (x - w, y - h, x + w, y + h), int(starts[row, column])
            draw.ellipse(box, shade(swatch.main, 0.8))
            draw.arc(box, start, start + 280, swatch.second, width)
    return image


def _patchwork(swatch: Swatch, size: int) -> Image.Image:
    """Square patches of four colours, with seams."""
    cells = max(3, round(0.55 / swatch.period))
    rng = np.random.default_rng(swatch.seed)
    # Neighbours differ, and no two rows are the same.
    index = (np.arange(cells)[:, None] * 2 + np.arange(cells)[None, :]) % 4
    index = (index + rng.integers(0, 2, (cells, 1))) % 4
    colours = (swatch.main, swatch.second, swatch.third, shade(swatch.main, 0.6))
    small = _indexed(index.astype(np.uint8), *colours)
    image = small.resize((size, size), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for i in range(1, cells):
        place = i * size / cells
        for line in ((0, place, size, place), (place, 0, place, size)):
            draw.line(line, shade(swatch.second, 0.5), max(1, size // 128))
    return image


def _wooden(swatch: Swatch, size: int) -> Image.Image:
    """Boards with a wavy grain."""
    rng = np.random.default_rng(swatch.seed)
    x = np.arange(size, dtype=np.float32) / np.float32(size)
    bend = np.float32(0.03) * np.sin(x * rng.uniform(5, 12) + rng.uniform(0, 6))
    fine = rng.integers(0, 5, 64).astype(np.uint8)
    lines = ((x[:, None] + bend[None, :]) * 48).astype(np.int32) % 64
    index = fine[lines]
    board = max(2, round(swatch.period * size * 1.4))
    index[::board] = 5
    index[1::board] = 5
    if swatch.angle == 1:
        index = np.ascontiguousarray(index.T)
    shades = [shade(swatch.main, 0.78 + 0.06 * i) for i in range(5)]
    return _indexed(index, *shades, shade(swatch.main, 0.45))


def _knitted(swatch: Swatch, size: int) -> Image.Image:
    """Rows of V stitches, with a band of the second colour now and then."""
    half = max(2, round(size * 0.016))
    row = half * 2
    y, x = np.mgrid[0:row, 0 : 2 * half]
    lift = np.where(x < half, x, 2 * half - 1 - x)
    stitch = ((y + half - lift) % row < row * 0.3).astype(np.uint8)
    stitch[:, 0] = 1
    index = _tiled(stitch, size)
    bands = max(3, round(swatch.period * 4 * size / row))
    band = (np.arange(size) // row % bands < max(1, bands // 4)).astype(np.uint8) * np.uint8(2)
    index = index + band[:, None]
    first, second = swatch.main, swatch.second
    return _indexed(index, first, shade(first, 0.66), second, shade(second, 0.66))


def _tweed(swatch: Swatch, size: int) -> Image.Image:
    """Flecks of three tones, coarse enough to be seen when the object is small."""
    cells = max(8, size // 7)
    rng = np.random.default_rng(swatch.seed)
    index = np.searchsorted([0.55, 0.8], rng.random((cells, cells))).astype(np.uint8)
    flecks = _indexed(index, swatch.main, swatch.second, shade(swatch.main, 0.66))
    return flecks.resize((size, size), Image.Resampling.NEAREST)


def _two_tone(swatch: Swatch, size: int) -> Image.Image:
    image = _plain(swatch, size)
    upper = round(size * (0.3 + 2 * swatch.period))
    box = (0, upper, size, size) if swatch.angle else (size // 2, 0, size, size)
    ImageDraw.Draw(image).rectangle(box, swatch.second)
    return image


def _shaded(swatch: Swatch, size: int) -> Image.Image:
    """A gradient from the first colour halfway to the second."""
    ramp = Image.linear_gradient("L").resize((size, size)).point(lambda level: level * 0.75)
    end = Image.new("RGB", (size, size), swatch.second)
    return Image.composite(end, _plain(swatch, size), ramp)


# How to draw a pattern, and how often it comes up.
PATTERNS: dict[str, tuple[Callable[[Swatch, int], Image.Image], float]] = {
    "plain": (_plain, 0.2),
    "striped": (_striped, 0.12),
    "checked": (_checked, 0.1),
    "dotted": (_dotted, 0.1),
    "two-tone": (_two_tone, 0.07),
    "shaded": (_shaded, 0.09),
    "pinstriped": (_pinstriped, 0.06),
    "zigzag": (_zigzag, 0.06),
    "leopard": (_leopard, 0.05),
    "patchwork": (_patchwork, 0.05),
    "wooden": (_wooden, 0.03),
    "knitted": (_knitted, 0.04),
    "tweed": (_tweed, 0.03),
}


def draw_pattern(name: str, swatch: Swatch, size: int) -> Image.Image:
    """The pattern, over a square of `size` pixels."""
    return PATTERNS[name][0](swatch, size)
