"""Vehicles on land, water and in the air."""

from __future__ import annotations

import math

import numpy as np

from a2edit.training.scenes.canvas import RGB, Canvas, arc, mirrored, shade, smooth
from a2edit.training.scenes.style import CREAM, INK, Style

_GLASS: RGB = (176, 220, 240)
_TYRE: RGB = (50, 48, 54)


def _wheel(canvas: Canvas, x: float, y: float, radius: float, hub: RGB) -> None:
    canvas.dot((x, y), radius, _TYRE, edge=True)
    canvas.dot((x, y), radius * 0.55, hub, edge=True)
    canvas.dot((x, y), radius * 0.15, INK)


def car(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    roof, wheel = rng.uniform(0.24, 0.34), rng.uniform(0.09, 0.12)
    cabin = [(0.2, 0.52), (0.3, roof), (rng.uniform(0.6, 0.7), roof), (0.8, 0.52)]
    canvas.polygon(cabin, style.second)
    panes = [(0.27, 0.5), (0.34, roof + 0.05), (0.49, roof + 0.05), (0.49, 0.5)]
    canvas.polygon(panes, _GLASS)
    canvas.polygon(
        [(0.53, 0.5), (0.53, roof + 0.05), (cabin[2][0] - 0.02, roof + 0.05), (0.72, 0.5)], _GLASS
    )
    nose = rng.uniform(0.5, 0.58)
    body = [(0.05, 0.54), (0.2, 0.5), (0.8, 0.5), (0.95, nose + 0.04), (0.96, 0.72), (0.04, 0.72)]
    canvas.polygon(body, style.fill(canvas.size))
    canvas.line([(0.51, 0.53), (0.51, 0.7)], 0.01, shade(style.main, 0.5))
    canvas.line([(0.44, 0.56), (0.48, 0.56)], 0.018, style.dark)
    canvas.ellipse((0.92, nose + 0.08), (0.03, 0.035), (255, 240, 170))
    canvas.box((0.03, 0.68, 0.97, 0.74), style.third, 0.02)
    for x in (0.25, 0.75):
        _wheel(canvas, x, 0.73, wheel, style.third)


def bus(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    top = rng.uniform(0.18, 0.3)
    canvas.box((0.04, top, 0.96, 0.78), style.fill(canvas.size), 0.06)
    canvas.box((0.04, 0.6, 0.96, rng.uniform(0.64, 0.7)), style.second)
    windows = int(rng.integers(3, 6))
    step = 0.7 / windows
    for i in range(windows):
        x = 0.07 + i * step
        canvas.box((x, top + 0.07, x + step - 0.03, 0.54), _GLASS, 0.02)
    canvas.box((0.79, top + 0.07, 0.93, 0.76), _GLASS, 0.02)
    canvas.line([(0.86, top + 0.07), (0.86, 0.76)], 0.012, style.dark)
    for x in (0.24, 0.66):
        _wheel(canvas, x, 0.8, rng.uniform(0.08, 0.1), style.third)


def boat(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A sailing boat."""
    mast = rng.uniform(0.42, 0.52)
    canvas.limb([(mast, 0.06), (mast, 0.74)], 0.02, style.wood)
    canvas.polygon(
        smooth([(mast + 0.02, 0.1), (0.76, 0.4), (0.88, 0.64), (mast + 0.02, 0.66)], 4),
        style.fill(canvas.size),
    )
    canvas.polygon([(mast - 0.03, 0.14), (mast - 0.03, 0.66), (0.14, 0.66)], style.third)
    canvas.polygon([(mast, 0.04), (mast + 0.16, 0.07), (mast, 0.11)], style.second)
    hull = [(0.05, 0.72), (0.95, 0.7), (0.84, 0.92), (0.2, 0.93)]
    canvas.polygon(hull, style.second)
    canvas.polygon([(0.05, 0.72), (0.95, 0.7), (0.93, 0.75), (0.08, 0.77)], style.main)
    for i in range(int(rng.integers(0, 4))):
        canvas.dot((0.34 + i * 0.14, 0.84), 0.026, _GLASS, edge=True)


def balloon(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A hot-air balloon."""
    wide = rng.uniform(0.3, 0.36)
    for side in (-1, 1):
        canvas.line([(0.5 + side * 0.16, 0.6), (0.5 + side * 0.08, 0.84)], 0.012, style.dark)
    half = [(0.5, 0.04), (0.5 + wide * 0.7, 0.1), (0.5 + wide, 0.34), (0.5 + wide * 0.7, 0.54)]
    canvas.polygon(smooth(mirrored([*half, (0.6, 0.68)])), style.fill(canvas.size))
    if style.pattern in ("plain", "shaded"):
        gore = [(0.5, 0.04), (0.5 + wide * 0.4, 0.34), (0.54, 0.68)]
        canvas.polygon(smooth(mirrored(gore)), style.second)
    canvas.box((0.4, 0.65, 0.6, 0.69), style.third, 0.01)
    canvas.box((0.41, 0.82, 0.59, 0.96), style.wood, 0.03)
    canvas.line([(0.42, 0.87), (0.58, 0.87)], 0.014, shade(style.wood, 0.6))


def lorry(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    top, split = rng.uniform(0.16, 0.3), rng.uniform(0.6, 0.66)
    canvas.box((0.04, 0.68, 0.96, 0.76), style.dark, 0.02)
    canvas.box((0.04, top, split, 0.7), style.fill(canvas.size), 0.02)
    cab = [(split + 0.03, 0.36), (0.84, 0.36), (0.95, 0.54), (0.96, 0.74), (split + 0.03, 0.74)]
    canvas.polygon(cab, style.second)
    canvas.polygon([(0.74, 0.4), (0.82, 0.4), (0.9, 0.54), (0.74, 0.54)], _GLASS)
    canvas.dot((0.94, 0.64), 0.022, (255, 240, 170), edge=True)
    for x in (0.18, 0.36, 0.8):
        _wheel(canvas, x, 0.76, rng.uniform(0.08, 0.1), style.third)


def plane(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A propeller plane from the side."""
    deep = rng.uniform(0.09, 0.13)
    canvas.polygon([(0.8, 0.46), (0.86, 0.2), (0.95, 0.2), (0.93, 0.5)], style.second)
    body = [(0.1, 0.5), (0.2, 0.5 - deep), (0.5, 0.48 - deep), (0.94, 0.46), (0.92, 0.54)]
    canvas.polygon(smooth([*body, (0.5, 0.52 + deep), (0.2, 0.5 + deep)]), style.fill(canvas.size))
    for i in range(int(rng.integers(2, 5))):
        canvas.dot((0.3 + i * 0.1, 0.46), 0.03, _GLASS, edge=True)
    wing = [(0.32, 0.54), (0.56, 0.54), (0.7, rng.uniform(0.72, 0.8)), (0.56, 0.78)]
    canvas.polygon(wing, style.third)
    canvas.line([(0.24, 0.58), (0.24, 0.7)], 0.02, style.dark)
    _wheel(canvas, 0.24, 0.72, 0.05, style.third)
    spin = rng.uniform(0.14, 0.2)
    for angle in (70.0, 250.0):
        tip = (0.08 + spin * math.cos(math.radians(angle)), 0.5 + spin * math.sin(
            math.radians(angle)))  # fmt: skip
        canvas.limb([(0.08, 0.5), tip], 0.025, style.wood)
    canvas.polygon(arc((0.11, 0.5), (0.06, 0.05), 90, 270, 12), style.second)


def locomotive(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A steam engine from the side."""
    top = rng.uniform(0.2, 0.27)
    canvas.polygon([(0.8, top + 0.2), (0.82, 0.18), (0.78, 0.08), (0.94, 0.08), (0.9, 0.18),
                    (0.91, top + 0.2)], style.dark)  # fmt: skip
    canvas.ellipse((0.58, 0.41), (0.06, 0.1), style.third)
    canvas.box((0.3, 0.4, 0.95, 0.66), style.fill(canvas.size), 0.05)
    for x in (0.5, 0.72):
        canvas.box((x, 0.4, x + 0.03, 0.66), style.second)
    canvas.box((0.07, top, 0.4, 0.7), style.second, 0.02)
    canvas.box((0.13, top + 0.09, 0.33, top + 0.26), _GLASS, 0.02)
    canvas.box((0.03, top - 0.05, 0.44, top + 0.03), style.third, 0.02)
    canvas.box((0.06, 0.65, 0.94, 0.74), style.dark, 0.01)
    canvas.polygon([(0.88, 0.74), (0.94, 0.74), (0.98, 0.9), (0.86, 0.9)], style.third)
    wheel = rng.uniform(0.11, 0.125)
    for x in (0.2, 0.45):
        _wheel(canvas, x, 0.8, wheel, style.third)
    for x in (0.65, 0.8):
        _wheel(canvas, x, 0.84, 0.075, style.third)
    canvas.line([(0.2, 0.83), (0.66, 0.83)], 0.025, CREAM)


def helicopter(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    reach = rng.uniform(0.36, 0.43)
    canvas.limb([(0.4, 0.2), (0.4, 0.32)], 0.035, style.dark)
    canvas.limb([(0.44 - reach, 0.18), (0.4 + reach, 0.2)], 0.028, style.dark)
    canvas.polygon([(0.5, 0.4), (0.94, 0.36), (0.94, 0.44), (0.55, 0.6)], style.second)
    canvas.polygon([(0.86, 0.4), (0.92, 0.22), (0.97, 0.22), (0.96, 0.48)], style.third)
    body = [(0.08, 0.56), (0.16, 0.38), (0.38, 0.3), (0.58, 0.36), (0.68, 0.54), (0.52, 0.7)]
    canvas.polygon(smooth([*body, (0.2, 0.7)]), style.fill(canvas.size))
    canvas.polygon(smooth([(0.11, 0.54), (0.18, 0.41), (0.32, 0.36), (0.34, 0.54)], 5), _GLASS)
    canvas.box((0.4, 0.4, 0.53, 0.54), _GLASS, 0.03)
    for x in (0.26, 0.5):
        canvas.limb([(x, 0.7), (x, 0.82)], 0.02, style.dark)
    skid = [(0.08, 0.76), (0.14, 0.83), (0.66, 0.83)]
    canvas.limb(smooth(skid, closed=False), 0.028, style.third)
    canvas.dot((0.94, 0.4), rng.uniform(0.045, 0.06), style.dark)


def tractor(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    big, top = rng.uniform(0.23, 0.26), rng.uniform(0.1, 0.18)
    canvas.limb([(0.76, 0.44), (0.76, 0.24)], 0.035, style.dark)
    canvas.box((0.5, 0.4, 0.95, 0.7), style.fill(canvas.size), 0.05)
    for i in range(3):
        canvas.line([(0.87, 0.48 + i * 0.06), (0.93, 0.48 + i * 0.06)], 0.018, style.dark)
    canvas.box((0.16, top, 0.56, 0.66), style.second, 0.03)
    canvas.box((0.22, top + 0.06, 0.5, 0.44), _GLASS, 0.02)
    canvas.box((0.12, top - 0.04, 0.6, top + 0.04), style.third, 0.02)
    canvas.polygon(arc((0.3, 0.66), (big + 0.04, big + 0.05), 180, 340, 20), style.main)
    _wheel(canvas, 0.3, 0.95 - big, big, style.third)
    _wheel(canvas, 0.8, 0.81, 0.14, style.third)


def rocket(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A rocket with fins, and its flame."""
    wide = rng.uniform(0.14, 0.18)
    canvas.polygon(smooth([(0.42, 0.8), (0.58, 0.8), (0.54, 0.92), (0.5, 0.97), (0.46, 0.92)]),
                   (250, 170, 50))  # fmt: skip
    for side in (-1, 1):
        fin = [
            (0.5 + side * wide * 0.8, 0.52),
            (0.5 + side * 0.34, 0.74),
            (0.5 + side * 0.32, 0.88),
        ]
        canvas.polygon([*fin, (0.5 + side * wide * 0.7, 0.76)], style.second)
    half = [(0.5, 0.03), (0.5 + wide * 0.75, 0.2), (0.5 + wide, 0.46), (0.5 + wide * 0.6, 0.8)]
    canvas.polygon(smooth(mirrored(half), 5), style.fill(canvas.size))
    nose = [(0.5, 0.03), (0.5 + wide * 0.45, 0.12), (0.5 + wide * 0.8, 0.24)]
    canvas.polygon(mirrored(nose), style.third)
    canvas.box((0.5 - wide * 0.65, 0.77, 0.5 + wide * 0.65, 0.82), style.dark, 0.01)
    for i in range(int(rng.integers(1, 3))):
        canvas.dot((0.5, 0.36 + i * 0.18), 0.075, style.third, edge=True)
        canvas.dot((0.5, 0.36 + i * 0.18), 0.05, _GLASS, edge=True)
