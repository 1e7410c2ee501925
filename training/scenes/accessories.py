"""Accessories: what one wears or carries."""

from __future__ import annotations

import math

import numpy as np

from a2edit.training.scenes.canvas import Canvas, arc, mirrored, shade, smooth
from a2edit.training.scenes.style import CREAM, INK, Style


def bag(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A handbag."""
    high, wide = rng.uniform(0.05, 0.15), rng.uniform(0.14, 0.22)
    canvas.limb(arc((0.5, 0.42), (wide, 0.4 - high), 180, 360, 24), 0.045, style.third)
    spread = rng.uniform(0.34, 0.42)
    half = [(0.5 + spread * 0.8, 0.38), (0.5 + spread, 0.88), (0.5 + spread * 0.9, 0.95)]
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    flap = [(0.5 + spread * 0.8, 0.36), (0.5 + spread * 0.75, 0.52), (0.5, rng.uniform(0.6, 0.7))]
    canvas.polygon(mirrored(flap), style.second)
    canvas.box((0.46, 0.56, 0.54, 0.66), style.third, 0.02)


def watch(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A wrist watch."""
    strap = rng.uniform(0.1, 0.14)
    canvas.polygon(
        mirrored([(0.5 + strap * 0.8, 0.03), (0.5 + strap * 1.2, 0.3), (0.5 + strap * 1.2, 0.7),
                  (0.5 + strap * 0.8, 0.97)]),
        style.fill(canvas.size),
    )  # fmt: skip
    for i in range(3):
        canvas.dot((0.5, 0.8 + i * 0.055), 0.012, style.dark)
    radius = rng.uniform(0.24, 0.29)
    canvas.box((0.5 + radius, 0.46, 0.55 + radius, 0.54), style.third, 0.01)
    canvas.dot((0.5, 0.5), radius, style.second, edge=True)
    canvas.dot((0.5, 0.5), radius * 0.8, CREAM, edge=True)
    for i in range(12):
        angle = math.tau * i / 12
        x, y = math.cos(angle) * radius, math.sin(angle) * radius
        ends = [(0.5 + x * 0.62, 0.5 + y * 0.62), (0.5 + x * 0.72, 0.5 + y * 0.72)]
        canvas.line(ends, 0.012, INK)
    for length, width in ((0.4, 0.022), (0.58, 0.014)):
        angle = rng.uniform(0, math.tau)
        tip = (
            0.5 + radius * length * math.cos(angle),
            0.5 + radius * length * math.sin(angle),
        )
        canvas.line([(0.5, 0.5), tip], width, style.dark)


def shoe(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A laced shoe, seen from the side."""
    high = rng.uniform(0.16, 0.34)
    upper = [
        (0.08, 0.68), (0.1, high), (0.24, high - 0.03), (0.38, high), (0.46, 0.46), (0.72, 0.54),
        (0.93, 0.62), (0.95, 0.74), (0.5, 0.76), (0.1, 0.76),
    ]  # fmt: skip
    canvas.polygon(smooth(upper, 4), style.fill(canvas.size))
    toe = [(0.74, 0.56), (0.9, 0.6), (0.95, 0.73), (0.74, 0.75)]
    canvas.polygon(smooth(toe, 4), style.second)
    canvas.box((0.06, 0.73, 0.95, rng.uniform(0.81, 0.87)), style.third, 0.04)
    for i in range(4):
        x, y = 0.38 + i * 0.075, high + 0.1 + i * (0.5 - high) * 0.22
        canvas.line([(x - 0.03, y + 0.07), (x + 0.07, y - 0.02)], 0.02, CREAM)


def umbrella(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    handle = [(0.5, 0.06), (0.5, 0.84), (0.46, 0.93), (0.38, 0.92), (0.35, 0.84)]
    canvas.limb(handle[:2], 0.025, style.third)
    canvas.limb(smooth(handle[1:], closed=False), 0.03, style.third)
    low, ribs = rng.uniform(0.5, 0.58), int(rng.integers(4, 7))
    step = 0.9 / ribs
    dome = arc((0.5, low), (0.45, low - 0.1), 180, 360, 28)
    waves = [
        point
        for i in range(ribs)
        for point in arc((0.95 - (i + 0.5) * step, low), (step / 2, 0.05), 0, -180, 8)
    ]
    canvas.polygon([*dome, *waves], style.fill(canvas.size))
    for i in range(1, ribs):
        x = 0.05 + i * step
        canvas.line(
            smooth([(0.5, 0.1), (0.5 + (x - 0.5) * 0.8, 0.28), (x, low)], closed=False),
            0.01, shade(style.main, 0.5),
        )  # fmt: skip


def glasses(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Sunglasses with a thick frame."""
    wide, high = rng.uniform(0.18, 0.21), rng.uniform(0.13, 0.2)
    radius = rng.uniform(0.05, high)
    canvas.limb(arc((0.5, 0.52), (0.1, 0.08), 200, 340, 10), 0.04, style.main)
    for side in (-1, 1):
        x = 0.5 + side * 0.24
        canvas.limb([(0.5 + side * 0.4, 0.44), (0.5 + side * 0.46, 0.36)], 0.045, style.main)
        lens = (x - wide, 0.5 - high, x + wide, 0.5 + high)
        canvas.box(lens, style.fill(canvas.size), radius)
        rim = 0.05
        inner = (lens[0] + rim, lens[1] + rim, lens[2] - rim, lens[3] - rim)
        canvas.box(inner, style.dark, radius - rim / 2)
        canvas.line([(x - 0.07, 0.5 - high * 0.3), (x - 0.02, 0.5 - high * 0.5)], 0.02, CREAM)


def cap(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A cap with a peak, seen from the side."""
    high = rng.uniform(0.2, 0.3)
    dome = [*arc((0.42, 0.62), (0.34, 0.62 - high), 180, 360, 24), (0.76, 0.64), (0.08, 0.64)]
    canvas.polygon(dome, style.fill(canvas.size))
    canvas.line(arc((0.42, 0.62), (0.12, 0.6 - high), 180, 360, 20), 0.01, shade(style.main, 0.5))
    peak = [(0.66, 0.6), (0.86, 0.62), (0.96, 0.7), (0.8, 0.71), (0.6, 0.68)]
    canvas.polygon(smooth(peak), style.second)
    canvas.box((0.08, 0.6, 0.76, 0.67), style.third, 0.01)
    canvas.dot((0.42, high), 0.03, style.second, edge=True)


def backpack(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    top = rng.uniform(0.14, 0.2)
    canvas.limb(arc((0.5, top), (0.1, 0.1), 180, 360, 16), 0.04, style.third)
    for side in (-1, 1):
        strap = [(0.5 + side * 0.3, 0.34), (0.5 + side * 0.4, 0.56), (0.5 + side * 0.34, 0.84)]
        canvas.limb(smooth(strap, closed=False), 0.06, style.third)
    canvas.box((0.18, top, 0.82, 0.94), style.fill(canvas.size), rng.uniform(0.12, 0.26))
    canvas.line(arc((0.5, 0.42), (0.25, 0.42 - top - 0.07), 180, 360, 20), 0.014, style.dark)
    pocket = rng.uniform(0.52, 0.6)
    canvas.box((0.26, pocket, 0.74, 0.88), style.second, 0.06)
    canvas.line([(0.29, pocket + 0.08), (0.71, pocket + 0.08)], 0.016, style.dark)
    canvas.dot((0.68, pocket + 0.11), 0.025, CREAM, edge=True)


def mitten(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    top, thumb = rng.uniform(0.05, 0.1), rng.uniform(0.36, 0.44)
    hand = [(0.36, 0.72), (0.32, 0.4), (0.34, top + 0.1), (0.5, top), (0.66, top + 0.1)]
    thumbs = [(0.62, 0.52), (0.78, thumb), (0.88, thumb + 0.06), (0.84, 0.56), (0.66, 0.72)]
    canvas.polygon(smooth(thumbs), style.fill(canvas.size))
    canvas.polygon(smooth([*hand, (0.68, 0.42), (0.66, 0.74)]), style.fill(canvas.size))
    canvas.box((0.3, 0.7, 0.72, 0.94), style.third, 0.03)
    for x in np.linspace(0.35, 0.67, 7):
        canvas.line([(float(x), 0.73), (float(x), 0.91)], 0.01, shade(style.third, 0.6))
    canvas.box((0.31, 0.6, 0.69, 0.66), style.second)


def sun_hat(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A hat with a broad brim and a ribbon."""
    wide, high = rng.uniform(0.22, 0.26), rng.uniform(0.26, 0.32)
    canvas.ellipse((0.5, 0.64), (0.45, rng.uniform(0.12, 0.17)), style.fill(canvas.size))
    half = [(0.5, high), (0.5 + wide * 0.7, high + 0.04), (0.5 + wide, 0.62), (0.5, 0.68)]
    canvas.polygon(smooth(mirrored(half)), style.fill(canvas.size))
    band = [(0.5 - wide, 0.56), (0.5, 0.61), (0.5 + wide, 0.56)]
    canvas.limb(smooth(band, closed=False), 0.07, style.third)
    bow = 0.5 + wide * 0.8
    for flip in (1, -1):
        loop = [(bow, 0.58), (bow + flip * 0.1, 0.51), (bow + flip * 0.1, 0.65)]
        canvas.polygon(loop, style.second)


def headphones(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    wide, thick = rng.uniform(0.3, 0.34), rng.uniform(0.06, 0.09)
    canvas.limb(arc((0.5, 0.5), (wide, 0.4), 180, 360, 30), thick, style.third)
    canvas.limb(arc((0.5, 0.5), (wide, 0.4), 215, 325, 24), thick * 1.3, style.second)
    for side in (-1, 1):
        x = 0.5 + side * wide
        canvas.box((x - 0.13, 0.46, x + 0.13, 0.9), style.fill(canvas.size), 0.12)
        inner = x - side * 0.11
        canvas.box((inner - 0.05, 0.48, inner + 0.05, 0.88), style.dark, 0.05)
        canvas.dot((x + side * 0.04, 0.68), 0.06, style.second, edge=True)
