"""Portraits: heads and shoulders."""

from __future__ import annotations

import numpy as np

from a2edit.training.scenes.canvas import RGB, Canvas, arc, mirrored, shade, smooth
from a2edit.training.scenes.style import CREAM, INK, Style


def _shoulders(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    width = rng.uniform(0.34, 0.42)
    canvas.polygon(
        smooth(
            mirrored([(0.58, 0.74), (0.5 + width * 0.8, 0.8), (0.5 + width, 0.98), (0.5, 0.98)])
        ),
        style.fill(canvas.size),
    )
    canvas.box((0.42, 0.62, 0.58, 0.8), shade(style.skin, 0.9), 0.06)


def _face(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Head, ears, eyes, nose and mouth about (0.5, 0.45)."""
    skin = style.skin
    wide = rng.uniform(0.2, 0.24)
    for side in (-1, 1):
        canvas.ellipse((0.5 + side * wide, 0.48), (0.045, 0.06), shade(skin, 0.92))
    canvas.ellipse((0.5, 0.45), (wide, rng.uniform(0.25, 0.28)), skin)
    gap, height = rng.uniform(0.075, 0.1), rng.uniform(0.41, 0.46)
    eye: RGB = ((60, 90, 150), (60, 110, 70), (90, 60, 40), INK)[rng.integers(4)]
    blush = shade(skin, 0.86)
    for side in (-1, 1):
        x = 0.5 + side * gap
        canvas.ellipse((x, height), (0.042, 0.034), CREAM)
        canvas.dot((x, height), 0.022, eye)
        canvas.dot((x, height), 0.01, INK)
        canvas.line([(x - 0.045, height - 0.06), (x + 0.045, height - 0.06)], 0.016, INK)
        canvas.ellipse((0.5 + side * 0.14, 0.54), (0.04, 0.028), blush, edge=False)
    canvas.line([(0.5, height + 0.04), (0.515, 0.53), (0.49, 0.53)], 0.012, shade(skin, 0.65))
    mouth = rng.uniform(0.05, 0.09)
    if rng.random() < 0.5:
        canvas.line(arc((0.5, 0.57), (mouth, 0.05), 20, 160, 12), 0.016, (176, 60, 66))
    else:
        canvas.polygon(arc((0.5, 0.58), (mouth, 0.05), 0, 180, 12), (196, 62, 72))
    if rng.random() < 0.3:
        for side in (-1, 1):
            canvas.line(arc((0.5 + side * gap, height), (0.065, 0.06)), 0.012, style.dark)
        canvas.line([(0.48, height), (0.52, height)], 0.012, style.dark)


def _fringe(canvas: Canvas, colour: RGB, rng: np.random.Generator) -> None:
    """Hair over the forehead, parted somewhere."""
    part = rng.uniform(0.4, 0.6)
    canvas.polygon(
        smooth(
            [
                (0.26, 0.42), (0.27, 0.24), (0.4, 0.14), (0.6, 0.14), (0.73, 0.24), (0.74, 0.42),
                (0.68, 0.33), (part + 0.04, 0.27), (part - 0.04, 0.29), (0.32, 0.33),
            ]
        ),
        colour,
    )  # fmt: skip


def short_hair(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    _fringe(canvas, style.second, rng)


def long_hair(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    low, wide = rng.uniform(0.7, 0.86), rng.uniform(0.29, 0.34)
    outline = [(0.5, 0.1), (0.5 + wide * 0.85, 0.24), (0.5 + wide, 0.55), (0.5 + wide * 0.9, low)]
    canvas.polygon(smooth(mirrored(outline)), shade(style.second, 0.85))
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    _fringe(canvas, style.second, rng)


def hat(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    for side in (-1, 1):
        canvas.ellipse((0.5 + side * 0.21, 0.38), (0.05, 0.1), style.third)
    top, wide = rng.uniform(0.03, 0.1), rng.uniform(0.17, 0.22)
    canvas.polygon(
        smooth(mirrored([(0.5 + wide * 0.7, top), (0.5 + wide, top + 0.08), (0.5 + wide, 0.29)])),
        style.second,
    )
    canvas.box((0.5 - wide, 0.22, 0.5 + wide, 0.28), style.main)
    canvas.ellipse((0.5, 0.29), (rng.uniform(0.31, 0.37), 0.045), style.second)


def beard(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    _shoulders(canvas, style, rng)
    low = rng.uniform(0.76, 0.86)
    outline = [(0.73, 0.42), (0.74, 0.58), (0.64, low - 0.04), (0.5, low)]
    _face(canvas, style, rng)
    inner = [(0.5, 0.54), (0.62, 0.54), (0.68, 0.42)]
    canvas.polygon(mirrored([*inner, *outline]), style.second)
    canvas.ellipse((0.5, 0.6), (0.07, 0.025), (196, 62, 72))
    _fringe(canvas, style.second, rng)


def curly_hair(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    _shoulders(canvas, style, rng)
    size = rng.uniform(0.075, 0.1)
    for x, y in arc((0.5, 0.36), (0.25, 0.24), 150, 390, 12):
        canvas.dot((x, y), size, style.second, edge=True)
    _face(canvas, style, rng)
    for x, y in arc((0.5, 0.34), (0.19, 0.14), 190, 350, 6):
        canvas.dot((x, y), size * 0.8, style.second, edge=True)


def bun(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Hair put up in a bun, and earrings."""
    high, size = rng.uniform(0.1, 0.13), rng.uniform(0.08, 0.11)
    canvas.dot((0.5, high), size, style.second, edge=True)
    canvas.line(arc((0.5, high), (size * 0.5, size * 0.45), 200, 380, 10), 0.01, style.dark)
    canvas.ellipse((0.5, 0.37), (0.26, 0.22), style.second)
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    _fringe(canvas, style.second, rng)
    for side in (-1, 1):
        canvas.dot((0.5 + side * 0.23, 0.57), 0.026, style.third, edge=True)


def plaits(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Two plaits with ribbons."""
    low = rng.uniform(0.74, 0.86)
    canvas.ellipse((0.5, 0.36), (0.27, 0.22), style.second)
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    _fringe(canvas, style.second, rng)
    for side in (-1, 1):
        beads = np.linspace(0.44, low, 6)
        for i, y in enumerate(beads):
            x = 0.5 + side * (0.27 + 0.05 * float(i) / 5)
            canvas.ellipse((x, float(y)), (0.06 - 0.004 * i, 0.048), style.second)
        canvas.dot((0.5 + side * 0.32, low + 0.02), 0.035, style.third, edge=True)


def hood(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A hood up, with two cords."""
    wide = rng.uniform(0.3, 0.35)
    outer = [(0.5, 0.06), (0.5 + wide * 0.8, 0.16), (0.5 + wide, 0.45), (0.5 + wide * 0.8, 0.74)]
    canvas.polygon(smooth(mirrored(outer)), style.fill(canvas.size))
    canvas.ellipse((0.5, 0.46), (wide - 0.05, 0.32), style.second)
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    _fringe(canvas, shade(style.dark, 1.1), rng)
    rim = arc((0.5, 0.45), (wide - 0.035, 0.33), 150, 390, 30)
    canvas.limb(rim, 0.055, shade(style.main, 0.8))
    for side in (-1, 1):
        canvas.limb([(0.5 + side * 0.1, 0.78), (0.5 + side * 0.11, 0.93)], 0.018, style.third)


def bobble_hat(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A knitted hat with a bobble and a scarf."""
    _shoulders(canvas, style, rng)
    _face(canvas, style, rng)
    canvas.box((0.3, 0.7, 0.7, 0.8), style.third, 0.05)
    side = (-1, 1)[rng.integers(2)]
    canvas.box((0.46 + side * 0.1, 0.74, 0.56 + side * 0.1, 0.95), style.third, 0.02)
    top = rng.uniform(0.1, 0.14)
    dome = [*arc((0.5, 0.34), (0.27, 0.34 - top), 180, 360, 24)]
    canvas.polygon(dome, style.second)
    canvas.box((0.21, 0.29, 0.79, 0.38), style.third, 0.04)
    for x in np.linspace(0.27, 0.73, 9):
        canvas.line([(float(x), 0.31), (float(x), 0.36)], 0.01, shade(style.third, 0.6))
    canvas.dot((0.5, top), rng.uniform(0.07, 0.09), CREAM, edge=True)
