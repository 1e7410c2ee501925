"""Furniture."""

from __future__ import annotations

import numpy as np

from a2edit.training.scenes.canvas import Canvas, arc, mirrored, shade, smooth
from a2edit.training.scenes.style import CREAM, Style, random_colour


def chair(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A wooden chair with a cushion, from the front."""
    wide, top = rng.uniform(0.24, 0.3), rng.uniform(0.04, 0.12)
    wood = style.wood
    for side in (-1, 1):
        x = 0.5 + side * wide
        canvas.box((x - 0.03, top, x + 0.03, 0.95), wood, 0.015)
        x = 0.5 + side * (wide - 0.08)
        canvas.box((x - 0.022, 0.62, x + 0.022, 0.87), shade(wood, 0.75), 0.01)
    rails = int(rng.integers(2, 5))
    if rng.random() < 0.5:
        back = (0.5 - wide + 0.03, top + 0.04, 0.5 + wide - 0.03, 0.42)
        canvas.box(back, style.fill(canvas.size), 0.03)
    else:
        for i in range(rails):
            y = top + 0.04 + i * 0.36 / rails
            canvas.box((0.5 - wide, y, 0.5 + wide, y + 0.05), style.second, 0.01)
    seat = [(0.5 - wide, 0.5), (0.5 + wide, 0.5), (0.58 + wide, 0.64), (0.42 - wide, 0.64)]
    canvas.polygon(seat, style.fill(canvas.size))
    canvas.box((0.42 - wide, 0.64, 0.58 + wide, 0.69), wood, 0.01)


def lamp(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A table lamp."""
    upper, lower = rng.uniform(0.12, 0.22), rng.uniform(0.3, 0.38)
    canvas.box((0.47, 0.4, 0.53, 0.88), style.third)
    if rng.random() < 0.6:
        belly = rng.uniform(0.1, 0.17)
        canvas.ellipse((0.5, 0.7), (belly, 0.15), style.second)
    canvas.box((0.5 - rng.uniform(0.16, 0.24), 0.87, 0.5 + 0.2, 0.95), style.third, 0.03)
    canvas.polygon(mirrored([(0.5 + upper, 0.05), (0.5 + lower, 0.48)]), style.fill(canvas.size))
    canvas.box((0.5 - lower, 0.455, 0.5 + lower, 0.49), shade(style.main, 0.7), 0.01)


def sofa(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    fabric = style.fill(canvas.size)
    top = rng.uniform(0.2, 0.3)
    for x in (0.14, 0.86):
        canvas.box((x - 0.03, 0.82, x + 0.03, 0.92), style.wood)
    canvas.box((0.1, top, 0.9, 0.7), fabric, 0.08)
    seats = int(rng.integers(2, 4))
    step = 0.68 / seats
    for i in range(seats):
        x = 0.16 + i * step
        canvas.box((x, top + 0.06, x + step, 0.6), fabric, 0.04)
        canvas.box((x, 0.56, x + step, 0.7), shade(style.main, 1.15), 0.03)
    canvas.box((0.1, 0.69, 0.9, 0.84), fabric, 0.03)
    for x in (0.04, 0.82):
        canvas.box((x, 0.46, x + 0.14, 0.85), shade(style.main, 0.85), 0.06)
    if rng.random() < 0.7:
        x = rng.uniform(0.24, 0.5)
        cushion = [(x, 0.42), (x + 0.2, 0.4), (x + 0.22, 0.58), (x + 0.02, 0.6)]
        canvas.polygon(smooth(cushion, 4), style.third)


def shelf(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A bookcase."""
    boards = int(rng.integers(2, 5))
    left = rng.uniform(0.14, 0.24)
    right = 1 - left
    canvas.box((left, 0.04, right, 0.95), style.fill(canvas.size), 0.01)
    step = 0.85 / boards
    palette = [style.second, style.third, *(random_colour(rng) for _ in range(3))]
    for i in range(boards):
        y = 0.08 + i * step
        inner = (left + 0.05, y, right - 0.05, y + step - 0.05)
        canvas.box(inner, shade(style.main, 0.4))
        x = inner[0] + 0.01
        fullness = inner[0] + (inner[2] - inner[0]) * rng.uniform(0.5, 1.0)
        while (width := rng.uniform(0.05, 0.1)) + x < fullness:
            height = (inner[3] - inner[1]) * rng.uniform(0.6, 0.9)
            canvas.box((x, inner[3] - height, x + width, inner[3]), palette[rng.integers(5)])
            x += width


def chest(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A chest of drawers."""
    top, left = rng.uniform(0.14, 0.28), rng.uniform(0.08, 0.18)
    for x in (left + 0.05, 0.95 - left):
        canvas.box((x - 0.03, 0.86, x + 0.03, 0.95), style.wood)
    canvas.box((left, top, 1 - left, 0.88), style.fill(canvas.size), 0.02)
    canvas.box((left - 0.03, top - 0.05, 1.03 - left, top + 0.02), style.second, 0.015)
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(1, 3))
    high, wide = (0.84 - top) / rows, (1 - 2 * left - 0.04) / columns
    for row in range(rows):
        for column in range(columns):
            x, y = left + 0.02 + column * wide, top + 0.04 + row * high
            drawer = (x + 0.015, y, x + wide - 0.015, y + high - 0.03)
            canvas.box(drawer, shade(style.main, 1.2) if rows % 2 else style.second, 0.01)
            canvas.dot((x + wide / 2, y + high / 2 - 0.015), 0.025, style.third, edge=True)


def armchair(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    fabric = style.fill(canvas.size)
    top = rng.uniform(0.06, 0.16)
    for x in (0.24, 0.76):
        canvas.polygon([(x - 0.03, 0.84), (x + 0.03, 0.84), (x, 0.96)], style.wood)
    canvas.polygon(smooth(mirrored([(0.66, top), (0.76, 0.3), (0.74, 0.7)])), fabric)
    for y in (0.26, 0.4):
        for x in (0.4, 0.6):
            canvas.dot((x, y), 0.018, style.third)
    canvas.box((0.26, 0.56, 0.74, 0.7), style.second, 0.05)
    canvas.box((0.22, 0.68, 0.78, 0.86), fabric, 0.04)
    for x in (0.1, 0.74):
        canvas.box((x, rng.uniform(0.42, 0.46), x + 0.16, 0.87), shade(style.main, 0.85), 0.08)


def bed(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A bed from the side, with a pillow and a cover."""
    head, foot = rng.uniform(0.14, 0.28), rng.uniform(0.42, 0.52)
    for x in (0.07, 0.93):
        canvas.box((x - 0.035, 0.6, x + 0.035, 0.92), style.wood, 0.01)
    canvas.box((0.03, head, 0.12, 0.86), style.wood, 0.03)
    canvas.box((0.88, foot, 0.97, 0.86), style.wood, 0.03)
    canvas.box((0.1, 0.56, 0.9, 0.74), CREAM, 0.05)
    canvas.box((0.1, 0.72, 0.9, 0.82), shade(style.wood, 0.8))
    canvas.box((0.13, 0.44, 0.36, 0.6), style.third, 0.07)
    cover = [(0.34, 0.55), (0.5, 0.5), (0.88, 0.52), (0.9, 0.8), (0.36, 0.8)]
    canvas.polygon(cover, style.fill(canvas.size))
    canvas.polygon([(0.34, 0.55), (0.44, 0.515), (0.46, 0.8), (0.36, 0.8)], style.second)


def stool(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A tall stool with a padded seat."""
    splay, top = rng.uniform(0.22, 0.3), rng.uniform(0.16, 0.26)
    ring = rng.uniform(0.6, 0.72)
    for side in (-1, 1):
        inner = [(0.5 + side * 0.08, top), (0.5 + side * splay * 0.4, 0.88)]
        canvas.limb(inner, 0.045, shade(style.wood, 0.7))
    canvas.limb([(0.48 - splay * 0.8, ring), (0.52 + splay * 0.8, ring)], 0.03, style.third)
    for side in (-1, 1):
        outer = [(0.5 + side * 0.2, top), (0.5 + side * splay * 1.2, 0.94)]
        canvas.limb(outer, 0.055, style.wood)
    canvas.box((0.18, top, 0.82, top + 0.15), style.fill(canvas.size), 0.06)
    canvas.ellipse((0.5, top + 0.02), (0.32, 0.07), style.fill(canvas.size))
    canvas.limb(arc((0.5, top + 0.07), (0.32, 0.08), 10, 170, 20), 0.02, style.second)


def wardrobe(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A wardrobe of two doors, one with a mirror."""
    left = rng.uniform(0.18, 0.26)
    for x in (left + 0.05, 0.95 - left):
        canvas.box((x - 0.035, 0.86, x + 0.035, 0.95), style.wood, 0.01)
    canvas.box((left, 0.1, 1 - left, 0.9), style.fill(canvas.size), 0.01)
    canvas.box((left - 0.03, 0.05, 1.03 - left, 0.13), style.second, 0.015)
    canvas.line([(0.5, 0.13), (0.5, 0.72)], 0.014, style.dark)
    mirror = (left + 0.05, 0.18, 0.46, 0.66)
    canvas.box(mirror, (198, 222, 232), rng.uniform(0.0, 0.1))
    canvas.line([(mirror[0] + 0.04, 0.36), (mirror[2] - 0.04, 0.24)], 0.016, CREAM)
    canvas.box((0.54, 0.18, 0.95 - left, 0.66), shade(style.main, 0.8), 0.02)
    canvas.box((left + 0.03, 0.73, 0.97 - left, 0.86), style.third, 0.01)
    for x, y in ((0.475, 0.44), (0.525, 0.44), (0.5, 0.795)):
        canvas.dot((x, y), 0.02, CREAM, edge=True)


def table(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A table under a cloth, with a vase on it."""
    low, top = rng.uniform(0.56, 0.7), 0.4
    for x in (0.16, 0.84):
        canvas.box((x - 0.035, top, x + 0.035, 0.94), style.wood, 0.01)
    waves = [(0.08 + 0.84 * i / 8, low + 0.05 * (i % 2)) for i in range(9)]
    canvas.polygon([(0.06, top), (0.94, top), *reversed(waves)], style.fill(canvas.size))
    seat = [(0.16, top - 0.06), (0.84, top - 0.06), (0.94, top + 0.03), (0.06, top + 0.03)]
    canvas.polygon(seat, style.second)
    x = rng.uniform(0.36, 0.64)
    vase = [(0.05, -0.28), (0.025, -0.22), (0.08, -0.1), (0.04, 0.0)]
    right = [(x + dx, top + dy) for dx, dy in vase]
    curve = smooth(right, closed=False)
    outline = [*curve, *((2 * x - a, b) for a, b in reversed(curve))]
    canvas.polygon(outline, style.third)
