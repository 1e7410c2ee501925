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


def turtle(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A tortoise from the side."""
    skin, high = style.third, rng.uniform(0.24, 0.34)
    canvas.polygon([(0.82, 0.62), (0.97, 0.72), (0.8, 0.72)], skin)
    for x in (0.26, 0.68):
        canvas.box((x - 0.07, 0.62, x + 0.07, 0.84), skin, 0.05)
    neck: list[Point] = [(0.24, 0.62), (0.14, 0.56), (0.12, 0.46)]
    canvas.limb(smooth(neck, closed=False), 0.1, skin)
    canvas.ellipse((0.12, 0.44), (0.09, 0.08), skin)
    _eye(canvas, (0.09, 0.42), 0.026)
    canvas.line(arc((0.08, 0.45), (0.05, 0.035), 60, 150, 6), 0.01, INK)
    shell = [*arc((0.52, 0.68), (0.36, 0.68 - high), 180, 360, 28)]
    canvas.polygon(shell, style.fill(canvas.size))
    dark = shade(style.second, 0.8)
    canvas.polygon([(0.42, 0.42), (0.62, 0.42), (0.68, 0.56), (0.52, 0.64), (0.36, 0.56)],
                   style.second)  # fmt: skip
    for ends in ([(0.36, 0.56), (0.2, 0.6)], [(0.68, 0.56), (0.84, 0.6)], [(0.42, 0.42),
                 (0.37, high + 0.07)], [(0.62, 0.42), (0.67, high + 0.07)]):  # fmt: skip
        canvas.line(ends, 0.014, dark)
    canvas.box((0.14, 0.65, 0.9, 0.71), dark, 0.03)


def dog(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A dog that stands, from the side, with a collar."""
    fur = style.fill(canvas.size)
    lift = rng.uniform(0.14, 0.4)
    tail: list[Point] = [(0.84, 0.5), (0.92, 0.42), (0.94, lift)]
    canvas.limb(smooth(tail, closed=False), 0.05, style.main)
    for x in (0.36, 0.74):
        canvas.box((x - 0.045, 0.6, x + 0.045, 0.93), shade(style.main, 0.75), 0.03)
    body = [(0.26, 0.46), (0.5, 0.46), (0.82, 0.44), (0.88, 0.6), (0.78, 0.72), (0.5, 0.7)]
    canvas.polygon(smooth([*body, (0.28, 0.74)]), fur)
    for x in (0.29, 0.81):
        canvas.box((x - 0.05, 0.58, x + 0.05, 0.95), style.main, 0.03)
        canvas.ellipse((x - 0.02, 0.93), (0.07, 0.03), style.second)
    head = [(0.14, 0.2), (0.32, 0.16), (0.42, 0.3), (0.38, 0.48), (0.24, 0.48), (0.06, 0.42)]
    canvas.polygon(smooth([*head, (0.05, 0.34)]), fur)
    canvas.polygon(smooth([(0.3, 0.18), (0.42, 0.2), (0.48, 0.42), (0.38, 0.42)]), style.second)
    canvas.ellipse((0.06, 0.34), (0.035, 0.03), INK)
    canvas.line(smooth([(0.08, 0.43), (0.16, 0.42), (0.2, 0.38)], closed=False), 0.012, INK)
    _eye(canvas, (0.22, 0.28), 0.032)
    canvas.limb([(0.24, 0.5), (0.41, 0.47)], 0.045, style.third)
    canvas.dot((0.3, 0.54), 0.03, CREAM, edge=True)


def frog(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A frog that sits and looks at you."""
    skin, wide = style.fill(canvas.size), rng.uniform(0.26, 0.31)
    for side in (-1, 1):
        canvas.ellipse((0.5 + side * 0.29, 0.72), (0.16, 0.17), skin)
        canvas.ellipse((0.5 + side * 0.33, 0.89), (0.14, 0.045), style.second)
    canvas.ellipse((0.5, 0.67), (0.25, 0.25), skin)
    canvas.ellipse((0.5, 0.72), (0.15, 0.17), style.third)
    for side in (-1, 1):
        canvas.box((0.44 + side * 0.13, 0.68, 0.56 + side * 0.13, 0.9), style.main, 0.05)
        canvas.ellipse((0.5 + side * 0.14, 0.9), (0.09, 0.035), style.second)
        canvas.dot((0.5 + side * 0.17, 0.2), 0.105, style.main, edge=True)
    canvas.ellipse((0.5, 0.37), (wide + 0.03, 0.19), skin)
    for side in (-1, 1):
        _eye(canvas, (0.5 + side * 0.17, 0.2), 0.07)
        canvas.dot((0.5 + side * 0.05, 0.32), 0.012, INK)
    canvas.line(arc((0.5, 0.36), (wide - 0.04, 0.1), 15, 165, 16), 0.014, INK)


def elephant(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """An elephant from the side, under a blanket."""
    skin = style.fill(canvas.size)
    canvas.limb([(0.92, 0.42), (0.95, 0.62)], 0.025, style.main)
    for x in (0.48, 0.74):
        canvas.box((x - 0.06, 0.6, x + 0.06, 0.92), shade(style.main, 0.75), 0.02)
    body = [(0.36, 0.3), (0.6, 0.2), (0.86, 0.26), (0.94, 0.5), (0.86, 0.7), (0.6, 0.74)]
    canvas.polygon(smooth([*body, (0.38, 0.7)]), skin)
    for x in (0.42, 0.82):
        canvas.box((x - 0.07, 0.58, x + 0.07, 0.94), style.main, 0.02)
        canvas.line([(x - 0.04, 0.915), (x + 0.04, 0.915)], 0.018, CREAM)
    reach = rng.uniform(0.66, 0.88)
    trunk: list[Point] = [(0.16, 0.4), (0.09, 0.56), (0.1, reach), (0.04, reach + 0.03)]
    canvas.limb(smooth(trunk, closed=False), 0.085, style.main)
    canvas.ellipse((0.26, 0.34), (0.18, 0.19), skin)
    canvas.limb(smooth([(0.17, 0.5), (0.2, 0.6), (0.12, 0.62)], closed=False), 0.03, CREAM)
    ear = [(0.28, 0.2), (0.44, 0.16), (0.52, 0.36), (0.42, 0.54), (0.3, 0.42)]
    canvas.polygon(smooth(ear), style.second)
    _eye(canvas, (0.19, 0.3), 0.03)
    canvas.polygon([(0.56, 0.21), (0.8, 0.22), (0.83, 0.5), (0.54, 0.5)], style.third)
