"""Plants, wild and in pots."""

from __future__ import annotations

import math

import numpy as np

from a2edit.training.scenes.canvas import RGB, Canvas, Point, arc, mirrored, shade, smooth
from a2edit.training.scenes.style import Style

_GREENS: tuple[RGB, ...] = ((64, 150, 70), (104, 170, 60), (40, 116, 84), (130, 160, 90))


def _green(rng: np.random.Generator) -> RGB:
    return _GREENS[rng.integers(len(_GREENS))]


def _leaf(canvas: Canvas, base: Point, tip: Point, width: float, colour: RGB) -> None:
    dx, dy = tip[0] - base[0], tip[1] - base[1]
    length = math.hypot(dx, dy)
    nx, ny = -dy / length * width, dx / length * width
    middle = (base[0] + dx * 0.45, base[1] + dy * 0.45)
    sides = [(middle[0] + nx, middle[1] + ny), tip, (middle[0] - nx, middle[1] - ny)]
    canvas.polygon(smooth([base, *sides]), colour)
    canvas.line([base, tip], 0.006, shade(colour, 0.6))


def _pot(canvas: Canvas, style: Style, top: float) -> None:
    half = [(0.68, top), (0.68, top + 0.07), (0.65, top + 0.07), (0.6, 0.95)]
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    canvas.box((0.31, top, 0.69, top + 0.08), shade(style.main, 0.85), 0.01)


def flower(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    green = _green(rng)
    canvas.limb([(0.5, 0.4), (0.5 + rng.uniform(-0.03, 0.03), 0.96)], 0.03, green)
    for side in (-1, 1):
        base = (0.5, rng.uniform(0.74, 0.88))
        _leaf(canvas, base, (0.5 + side * 0.27, base[1] - rng.uniform(0.08, 0.2)), 0.06, green)
    count = int(rng.integers(5, 10))
    petal = style.fill(canvas.size)
    long = rng.uniform(0.22, 0.28)
    wide = min(0.13, 2.6 / count * 0.25)
    for i in range(count):
        angle = 2 * math.pi * i / count - math.pi / 2
        cos, sin = math.cos(angle), math.sin(angle)
        oval = arc((0.6 * long, 0), (0.55 * long, wide), steps=24)
        points = [(0.5 + x * cos - y * sin, 0.34 + x * sin + y * cos) for x, y in oval]
        canvas.polygon(points, petal)
    canvas.dot((0.5, 0.34), rng.uniform(0.08, 0.12), style.third, edge=True)


def tulip(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    green = _green(rng)
    canvas.limb([(0.5, 0.5), (0.5, 0.96)], 0.035, green)
    for side in (-1, 1):
        _leaf(canvas, (0.5, 0.95), (0.5 + side * rng.uniform(0.2, 0.32), 0.5), 0.06, green)
    wide = rng.uniform(0.2, 0.25)
    for side in (-1, 1):
        outer = [(0.5, 0.56), (0.5 + side * wide, 0.4), (0.5 + side * wide, 0.08), (0.5, 0.26)]
        canvas.polygon(smooth(outer), style.second)
    inner = [(0.5, 0.06), (0.5 + wide * 0.6, 0.28), (0.5 + wide * 0.5, 0.48), (0.5, 0.56)]
    canvas.polygon(smooth(mirrored(inner)), style.fill(canvas.size))


def tree(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A fir of some layers, or a round crown with or without fruit."""
    canvas.polygon(mirrored([(0.54, 0.5), (0.55, 0.86), (0.6, 0.96)]), style.wood)
    leaves = style.fill(canvas.size)
    if rng.random() < 0.5:
        layers = int(rng.integers(2, 5))
        for i in range(layers):
            low = 0.78 - i * 0.6 / layers
            wide = 0.38 - i * 0.24 / layers
            top = max(0.04, low - 0.9 / layers)
            canvas.polygon([(0.5 - wide, low), (0.5, top), (0.5 + wide, low)], leaves)
        return
    bumps = zip(np.linspace(0, math.tau, 11)[:-1], rng.uniform(0.88, 1.1, 10), strict=True)
    crown = [(0.5 + r * 0.34 * math.cos(a), 0.36 + r * 0.3 * math.sin(a)) for a, r in bumps]
    canvas.polygon(smooth(crown), leaves)
    for _ in range(int(rng.integers(0, 8))):
        angle, reach = rng.uniform(0, math.tau), rng.uniform(0.2, 0.8)
        at = (0.5 + 0.3 * reach * math.cos(angle), 0.36 + 0.26 * reach * math.sin(angle))
        canvas.dot(at, 0.035, style.third, edge=True)


def cactus(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A cactus with arms, in a pot."""
    green = _green(rng)
    wide = rng.uniform(0.09, 0.12)
    for side in (-1, 1):
        low, high = rng.uniform(0.42, 0.56), rng.uniform(0.18, 0.34)
        elbow = [(0.5, low), (0.5 + side * 0.24, low), (0.5 + side * 0.24, high)]
        canvas.limb(elbow, wide * 1.1, green)
    canvas.box((0.5 - wide, 0.06, 0.5 + wide, 0.75), green, wide)
    for x in (-0.5, 0.0, 0.5):
        canvas.line([(0.5 + x * wide, 0.16), (0.5 + x * wide, 0.64)], 0.008, shade(green, 0.6))
    for i in range(int(rng.integers(1, 4))):
        canvas.dot((0.5 + (i - 1) * 0.06, 0.07), 0.045, style.third, edge=True)
    _pot(canvas, style, rng.uniform(0.62, 0.68))


def leafy(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Long leaves out of a pot."""
    green = _green(rng)
    top = rng.uniform(0.55, 0.66)
    for i in np.linspace(-1, 1, int(rng.integers(5, 10))):
        angle = float(i) * rng.uniform(0.95, 1.25)
        reach = rng.uniform(0.42, 0.54)
        tip = (0.5 + reach * math.sin(angle) * 0.85, top + 0.02 - reach * math.cos(angle))
        _leaf(canvas, (0.5, top + 0.04), tip, rng.uniform(0.05, 0.075), green)
    _pot(canvas, style, top)


def mushroom(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    foot = rng.uniform(0.1, 0.15)
    stem = [(0.5 + foot * 0.7, 0.45), (0.5 + foot * 0.8, 0.7), (0.5 + foot * 1.2, 0.92)]
    canvas.polygon(smooth(mirrored(stem)), style.third)
    wide, high = rng.uniform(0.36, 0.44), rng.uniform(0.34, 0.44)
    cap = [*arc((0.5, 0.5), (wide, high), 180, 360, 24), *arc((0.5, 0.5), (wide, 0.06), 0, 180, 16)]
    canvas.polygon(cap, style.fill(canvas.size))


def palm(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A palm tree with a bent trunk and fruit."""
    lean = rng.uniform(-0.1, 0.1)
    trunk = smooth([(0.5 + lean, 0.36), (0.5, 0.62), (0.5 - lean, 0.95)], closed=False)
    canvas.limb(trunk, 0.075, style.wood)
    for x, y in trunk[2::2]:
        canvas.line([(x - 0.035, y), (x + 0.035, y + 0.01)], 0.01, shade(style.wood, 0.6))
    top, fronds = (0.5 + lean, 0.36), style.fill(canvas.size)
    for degrees in (-165, -15, -128, -52, -90, 172, 8):
        angle = math.radians(degrees + rng.uniform(-6, 6))
        reach = rng.uniform(0.3, 0.36)
        dx, dy = reach * math.cos(angle), reach * math.sin(angle)
        tip = (top[0] + dx * 1.15, top[1] + dy * 0.8 + 0.1)
        over = (top[0] + dx * 0.6, top[1] + dy - 0.07)
        under = (top[0] + dx * 0.55, top[1] + dy * 0.85 + 0.05)
        canvas.polygon(smooth([top, over, tip, under]), fronds)
    for dx, dy in ((-0.04, 0.05), (0.05, 0.05), (0.0, 0.08)):
        canvas.dot((top[0] + dx, top[1] + dy), 0.042, style.third, edge=True)


def bush(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A round bush full of blossom."""
    green = _green(rng)
    canvas.polygon(mirrored([(0.53, 0.7), (0.55, 0.94)]), style.wood)
    bumps = zip(np.linspace(0, math.tau, 13)[:-1], rng.uniform(0.9, 1.08, 12), strict=True)
    crown = [(0.5 + r * 0.41 * math.cos(a), 0.46 + r * 0.33 * math.sin(a)) for a, r in bumps]
    canvas.polygon(smooth(crown, 3), green)
    size, petal = rng.uniform(0.055, 0.075), style.fill(canvas.size)
    for ring, count in ((0.0, 1), (0.42, 6), (0.8, 11)):
        for i in range(count):
            angle = math.tau * (i + ring) / count + rng.uniform(-0.12, 0.12)
            at = (0.5 + 0.37 * ring * math.cos(angle), 0.46 + 0.3 * ring * math.sin(angle))
            canvas.dot(at, size, petal, edge=True)
            canvas.dot(at, size * 0.35, style.third)


def strawberry(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A berry with seeds under a crown of leaves."""
    green, wide = _green(rng), rng.uniform(0.34, 0.41)
    canvas.limb(smooth([(0.5, 0.24), (0.52, 0.14), (0.6, 0.06)], closed=False), 0.03, green)
    half = [(0.5, 0.24), (0.5 + wide * 0.8, 0.22), (0.5 + wide, 0.42), (0.5 + wide * 0.6, 0.74)]
    canvas.polygon(smooth(mirrored([*half, (0.5, 0.95)])), style.fill(canvas.size))
    for row, y in enumerate((0.44, 0.56, 0.68, 0.8)):
        for i in range(4 - row):
            x = 0.5 + (i - (3 - row) / 2) * 0.15
            canvas.ellipse((x, y), (0.014, 0.022), style.third)
    for x, y in ((0.2, 0.26), (0.34, 0.35), (0.66, 0.35), (0.8, 0.26), (0.5, 0.38)):
        _leaf(canvas, (0.5, 0.2), (x, y), 0.16, green)


def pumpkin(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A ribbed pumpkin with a stalk and a leaf."""
    green, high = _green(rng), rng.uniform(0.27, 0.32)
    stalk = [(0.5, 0.34), (0.5, 0.2), (0.5 + rng.uniform(-0.1, 0.1), 0.1)]
    canvas.limb(smooth(stalk, closed=False), 0.075, green)
    skin = style.fill(canvas.size)
    for reach in (0.28, 0.17):
        for side in (-1, 1):
            canvas.ellipse((0.5 + side * reach, 0.6), (0.17, high * (1.1 - reach * 0.5)), skin)
    canvas.ellipse((0.5, 0.6), (0.13, high * 1.1), skin)
    side = (-1, 1)[rng.integers(2)]
    _leaf(canvas, (0.5, 0.26), (0.5 + side * 0.38, rng.uniform(0.14, 0.24)), 0.2, green)
