"""Animals, seen from the side or the front."""

from __future__ import annotations

import numpy as np

from a2edit.training.scenes.canvas import Canvas, Point, arc, shade, smooth
from a2edit.training.scenes.style import CREAM, INK, Style


def _eye(canvas: Canvas, at: Point, radius: float) -> None:
    canvas.dot(at, radius, CREAM, edge=True)
    canvas.dot(at, radius * 0.55, INK)
    canvas.dot((at[0] - radius * 0.2, at[1] - radius * 0.2), radius * 0.18, CREAM)


def cat(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A cat that sits and looks at you."""
    fur = style.fill(canvas.size)
    curl = rng.uniform(0.4, 0.6)
    tail: list[Point] = [(0.7, 0.86), (0.88, 0.8), (0.9, curl + 0.1), (0.82, curl)]
    canvas.limb(smooth(tail, closed=False), 0.07, style.main)
    body = [(0.5, 0.4), (0.66, 0.5), (0.76, 0.8), (0.68, 0.94), (0.32, 0.94), (0.24, 0.8)]
    canvas.polygon(smooth([*body, (0.34, 0.5)]), fur)
    canvas.ellipse((0.5, 0.74), (0.13, 0.17), style.second)
    for side in (-1, 1):
        canvas.ellipse((0.5 + side * 0.12, 0.92), (0.08, 0.045), style.second)
    high = rng.uniform(0.03, 0.1)
    for side in (-1, 1):
        ear = [(0.5 + side * 0.06, 0.18), (0.5 + side * 0.22, high), (0.5 + side * 0.25, 0.32)]
        canvas.polygon(ear, style.main)
        inner = [(0.5 + side * 0.13, 0.17), (0.5 + side * 0.2, high + 0.07)]
        canvas.polygon([*inner, (0.5 + side * 0.21, 0.26)], style.third, edge=False)
    canvas.ellipse((0.5, 0.33), (rng.uniform(0.24, 0.28), 0.2), fur)
    for side in (-1, 1):
        _eye(canvas, (0.5 + side * 0.1, 0.3), 0.045)
        for lift in (-0.02, 0.02):
            start = (0.5 + side * 0.08, 0.4)
            canvas.line([start, (0.5 + side * 0.24, 0.4 + lift)], 0.006, style.dark)
        canvas.line(arc((0.5 + side * 0.035, 0.405), (0.035, 0.03), 10, 170, 8), 0.01, INK)
    canvas.polygon([(0.465, 0.365), (0.535, 0.365), (0.5, 0.4)], (226, 120, 130))


def fish(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    deep, tail = rng.uniform(0.2, 0.29), rng.uniform(0.18, 0.26)
    fin = style.second
    canvas.polygon(
        smooth([(0.7, 0.5), (0.95, 0.5 - tail), (0.89, 0.5), (0.95, 0.5 + tail)], 4), fin
    )
    canvas.polygon([(0.35, 0.55 - deep), (0.5, 0.36 - deep), (0.66, 0.6 - deep)], fin)
    canvas.polygon([(0.45, 0.44 + deep), (0.6, 0.58 + deep), (0.64, 0.4 + deep)], fin)
    body = [(0.05, 0.5), (0.22, 0.5 - deep * 0.85), (0.45, 0.5 - deep), (0.68, 0.5 - deep * 0.5)]
    below = [(x, 1 - y) for x, y in reversed(body[1:])]
    canvas.polygon(smooth([*body, (0.78, 0.5), *below]), style.fill(canvas.size))
    canvas.line(arc((0.2, 0.5), (0.1, deep * 0.75), -70, 70, 14), 0.014, shade(style.main, 0.5))
    canvas.polygon(smooth([(0.4, 0.5), (0.54, 0.52), (0.5, 0.62)]), style.third)
    _eye(canvas, (0.17, 0.5 - deep * 0.25), 0.04)
    canvas.line([(0.06, 0.53), (0.12, 0.55)], 0.012, INK)


def bird(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A small round bird."""
    legs: list[Point] = [(0.46, 0.76), (0.56, 0.76)]
    for x, y in legs:
        canvas.line([(x, y), (x, 0.93)], 0.018, (214, 132, 40))
        canvas.line([(x - 0.06, 0.94), (x + 0.03, 0.93)], 0.018, (214, 132, 40))
    lift = rng.uniform(0.3, 0.5)
    canvas.polygon([(0.68, 0.5), (0.95, lift), (0.96, lift + 0.12), (0.72, 0.68)], style.second)
    body = [(0.26, 0.36), (0.44, 0.34), (0.72, 0.46), (0.78, 0.6), (0.6, 0.78), (0.38, 0.76)]
    canvas.polygon(smooth([*body, (0.24, 0.58)]), style.fill(canvas.size))
    canvas.polygon(smooth([(0.28, 0.5), (0.42, 0.52), (0.5, 0.72), (0.36, 0.73)]), style.third)
    bill = rng.uniform(0.02, 0.1)
    canvas.polygon([(0.17, 0.24), (bill, 0.3), (0.17, 0.34)], (240, 160, 40))
    canvas.ellipse((0.3, 0.3), (0.16, 0.16), style.main)
    if rng.random() < 0.5:
        canvas.polygon(
            smooth([(0.26, 0.16), (0.3, 0.03), (0.34, 0.08), (0.4, 0.06), (0.36, 0.16)]),
            style.second,
        )
    _eye(canvas, (0.25, 0.28), 0.036)
    canvas.polygon(smooth([(0.44, 0.46), (0.68, 0.5), (0.8, 0.64), (0.56, 0.66)]), style.second)


def butterfly(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    high, low = rng.uniform(0.08, 0.2), rng.uniform(0.82, 0.95)
    wing = style.fill(canvas.size)
    for side in (-1, 1):
        lower = [(0.52, 0.5), (0.78, 0.52), (0.84, 0.72), (0.7, low), (0.56, 0.74)]
        upper = [(0.52, 0.52), (0.6, 0.26), (0.84, high), (0.95, 0.26), (0.86, 0.52)]
        canvas.polygon(smooth([(0.5 + side * (x - 0.5), y) for x, y in lower]), style.third)
        canvas.polygon(smooth([(0.5 + side * (x - 0.5), y) for x, y in upper]), wing)
        canvas.dot((0.5 + side * 0.32, high + 0.17), 0.06, style.second, edge=True)
        canvas.dot((0.5 + side * 0.2, 0.7), 0.045, style.main, edge=True)
        feeler = [(0.5, 0.3), (0.5 + side * 0.08, 0.14), (0.5 + side * 0.14, 0.1)]
        canvas.line(smooth(feeler, closed=False), 0.012, style.dark)
    canvas.ellipse((0.5, 0.54), (0.035, 0.26), style.dark)
    canvas.dot((0.5, 0.28), 0.05, style.dark)


def rabbit(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A rabbit that sits and looks at you."""
    fur = style.fill(canvas.size)
    lean = rng.uniform(0.0, 0.1)
    for side in (-1, 1):
        x = 0.5 + side * 0.1
        ear = [(x - 0.05, 0.3), (x + side * lean, 0.03), (x + 0.06, 0.3)]
        canvas.polygon(smooth(ear), style.main)
        canvas.line([(x, 0.24), (x + side * lean * 0.7, 0.1)], 0.03, style.third)
    canvas.ellipse((0.5, 0.74), (0.24, 0.21), fur)
    for side in (-1, 1):
        canvas.ellipse((0.5 + side * 0.17, 0.92), (0.12, 0.05), style.second)
    canvas.ellipse((0.5, 0.4), (0.2, 0.18), fur)
    for side in (-1, 1):
        _eye(canvas, (0.5 + side * 0.09, 0.37), 0.036)
        canvas.ellipse((0.5 + side * 0.04, 0.47), (0.05, 0.035), CREAM)
    canvas.box((0.47, 0.5, 0.53, 0.55), CREAM)
    canvas.dot((0.5, 0.44), 0.022, (226, 120, 130))


def snail(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    body = [(0.04, 0.86), (0.2, 0.78), (0.2, 0.5), (0.32, 0.46), (0.4, 0.74), (0.8, 0.78)]
    for x in (0.17, 0.31):
        canvas.limb([(x + 0.04, 0.5), (x - 0.04, 0.3)], 0.02, style.third)
        canvas.dot((x - 0.04, 0.29), 0.03, INK)
    canvas.polygon(smooth([*body, (0.97, 0.9), (0.5, 0.92), (0.12, 0.92)]), style.third)
    radius = rng.uniform(0.26, 0.31)
    canvas.ellipse((0.6, 0.8 - radius), (radius, radius), style.fill(canvas.size))
    turns = [
        (0.6 + radius * r * np.cos(a), 0.8 - radius + radius * r * np.sin(a))
        for r, a in zip(np.linspace(0.85, 0.05, 44), np.linspace(0, 4.5 * np.pi, 44), strict=True)
    ]
    canvas.line([(float(x), float(y)) for x, y in turns], 0.028, style.second)
