"""Garments, laid out flat."""

from __future__ import annotations

import numpy as np

from a2edit.training.scenes.canvas import Canvas, arc, mirrored, shade, smooth
from a2edit.training.scenes.style import CREAM, Style


def t_shirt(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    sleeve, waist = rng.uniform(0.36, 0.46), rng.uniform(0.24, 0.3)
    half = [
        (0.6, 0.1), (0.74, 0.15), (0.95, sleeve), (0.81, sleeve + 0.08), (0.5 + waist, 0.34),
        (0.5 + waist, 0.92),
    ]  # fmt: skip
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    canvas.polygon(arc((0.5, 0.1), (0.11, rng.uniform(0.06, 0.12)), 0, 180, 16), style.third)
    if rng.random() < 0.4:
        canvas.dot((0.5, 0.45), rng.uniform(0.07, 0.12), style.third, edge=True)
    for side in (-1, 1):
        cuff = [(0.5 + side * 0.45, sleeve), (0.5 + side * 0.31, sleeve + 0.08)]
        canvas.line(cuff, 0.03, shade(style.main, 0.7))


def dress(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    waist, hem = rng.uniform(0.1, 0.14), rng.uniform(0.28, 0.42)
    long = rng.uniform(0.86, 0.96)
    bodice = [(0.56, 0.2), (0.62, 0.05), (0.67, 0.05), (0.68, 0.24), (0.5 + waist, 0.44)]
    skirt = [(0.5 + waist, 0.42), (0.5 + hem * 0.7, 0.66), (0.5 + hem, long), (0.5, long + 0.02)]
    canvas.polygon(mirrored(skirt), style.fill(canvas.size))
    for fold in (-0.45, 0.0, 0.45):
        canvas.line([(0.5 + fold * waist, 0.5), (0.5 + fold * hem, long)], 0.008, style.dark)
    canvas.polygon(mirrored(bodice), style.fill(canvas.size))
    canvas.box((0.5 - waist - 0.02, 0.4, 0.5 + waist + 0.02, 0.47), style.third, 0.02)


def trousers(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    flare, long = rng.uniform(0.24, 0.34), rng.uniform(0.85, 0.96)
    half = [
        (0.68, 0.06), (0.72, 0.3), (0.5 + flare, long), (0.5 + flare - 0.17, long), (0.5, 0.4),
    ]  # fmt: skip
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    canvas.box((0.31, 0.05, 0.69, 0.12), style.third)
    canvas.box((0.46, 0.055, 0.54, 0.115), style.second, 0.01)
    for side in (-1, 1):
        start = 0.5 + side * 0.17
        canvas.line([(start, 0.14), (start - side * 0.06, 0.24)], 0.012, style.dark)
        x = 0.5 + side * (flare - 0.085)
        canvas.box((x - 0.09, long - 0.05, x + 0.09, long), shade(style.main, 0.75))


def jumper(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A jumper with long sleeves and ribbed borders."""
    sleeve = rng.uniform(0.72, 0.84)
    arm = [(0.63, 0.14), (0.8, 0.2), (0.95, sleeve), (0.8, sleeve + 0.04), (0.7, 0.4)]
    trim = style.third
    for flip in (1, -1):
        canvas.polygon([(0.5 + flip * (x - 0.5), y) for x, y in arm], style.fill(canvas.size))
        cuff = [(0.5 + flip * 0.45, sleeve), (0.5 + flip * 0.3, sleeve + 0.04)]
        canvas.limb(cuff, 0.055, trim)
    canvas.polygon(mirrored([(0.62, 0.13), (0.73, 0.2), (0.74, 0.88)]), style.fill(canvas.size))
    canvas.box((0.25, 0.85, 0.75, 0.93), trim, 0.02)
    canvas.box((0.37, 0.06, 0.63, 0.17), trim, 0.05)
    for x in np.linspace(0.3, 0.7, 9):
        canvas.line([(float(x), 0.865), (float(x), 0.915)], 0.008, shade(trim, 0.6))


def coat(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A long coat with lapels and a row of buttons."""
    hem = rng.uniform(0.27, 0.34)
    for flip in (1, -1):
        arm = smooth([(0.62, 0.1), (0.78, 0.18), (0.9, 0.62), (0.78, 0.66), (0.68, 0.36)])
        canvas.polygon([(0.5 + flip * (x - 0.5), y) for x, y in arm], style.fill(canvas.size))
    half = [(0.6, 0.08), (0.7, 0.16), (0.66, 0.45), (0.5 + hem, 0.95)]
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    canvas.line([(0.5, 0.3), (0.5, 0.95)], 0.012, style.dark)
    canvas.polygon([(0.4, 0.08), (0.6, 0.08), (0.5, 0.3)], style.third)
    for flip in (1, -1):
        lapel = [(0.6, 0.06), (0.67, 0.2), (0.5, 0.36)]
        canvas.polygon([(0.5 + flip * (x - 0.5), y) for x, y in lapel], shade(style.main, 0.75))
        pocket = 0.5 + flip * 0.14
        canvas.box((pocket - 0.06, 0.6, pocket + 0.06, 0.64), shade(style.main, 0.7))
    for y in np.linspace(0.42, 0.8, int(rng.integers(3, 6))):
        canvas.dot((0.54, float(y)), 0.02, style.second, edge=True)


def skirt(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A skirt with a band at the waist and pleats."""
    waist, hem, long = rng.uniform(0.17, 0.22), rng.uniform(0.34, 0.44), rng.uniform(0.78, 0.9)
    half = [(0.5 + waist, 0.14), (0.5 + hem, long), (0.5 + hem * 0.5, long + 0.04)]
    canvas.polygon(smooth(mirrored([*half, (0.5, long + 0.05)]), 3), style.fill(canvas.size))
    canvas.polygon(mirrored([half[0], (0.5 + waist * 1.2, 0.2)]), style.fill(canvas.size))
    for fold in np.linspace(-0.7, 0.7, int(rng.integers(3, 7))):
        x = float(fold)
        canvas.line([(0.5 + x * waist, 0.24), (0.5 + x * hem, long)], 0.01, style.dark)
    canvas.box((0.5 - waist - 0.015, 0.1, 0.515 + waist, 0.2), style.third, 0.02)
    canvas.dot((0.5 + waist * 0.6, 0.15), 0.022, style.second, edge=True)


def shorts(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    flare, long = rng.uniform(0.36, 0.44), rng.uniform(0.72, 0.84)
    half = [(0.76, 0.2), (0.5 + flare, long), (0.54, long + 0.04), (0.5, 0.54)]
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    for side in (-1, 1):
        ends = [(0.5 + side * flare, long), (0.5 + side * 0.04, long + 0.04)]
        canvas.limb(ends, 0.035, style.second)
        canvas.line([(0.5 + side * 0.27, 0.28), (0.5 + side * 0.2, 0.4)], 0.014, style.dark)
    canvas.box((0.23, 0.16, 0.77, 0.26), style.third, 0.02)
    canvas.line([(0.5, 0.27), (0.5, 0.52)], 0.01, style.dark)
    for side in (-1, 1):
        canvas.limb([(0.5, 0.22), (0.5 + side * 0.05, 0.36)], 0.014, CREAM)


def jacket(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A short jacket with a zip, a collar and patch pockets."""
    sleeve, low = rng.uniform(0.66, 0.78), rng.uniform(0.74, 0.84)
    arm = [(0.64, 0.14), (0.8, 0.2), (0.95, sleeve), (0.8, sleeve + 0.03), (0.7, 0.42)]
    for flip in (1, -1):
        sleeves = [(0.5 + flip * (x - 0.5), y) for x, y in arm]
        canvas.polygon(sleeves, style.second)
        cuff = [(0.5 + flip * 0.44, sleeve), (0.5 + flip * 0.31, sleeve + 0.03)]
        canvas.limb(cuff, 0.035, style.third)
    canvas.polygon(mirrored([(0.62, 0.14), (0.72, 0.22), (0.72, low)]), style.fill(canvas.size))
    canvas.box((0.27, low - 0.02, 0.73, low + 0.06), style.third, 0.02)
    canvas.polygon(mirrored([(0.5, 0.24), (0.62, 0.08), (0.68, 0.2), (0.54, 0.32)]), style.third)
    canvas.line([(0.5, 0.26), (0.5, low + 0.05)], 0.026, style.dark)
    canvas.line([(0.5, 0.26), (0.5, low + 0.05)], 0.01, CREAM)
    for flip in (1, -1):
        x = 0.5 + flip * 0.12
        canvas.box((x - 0.065, low - 0.2, x + 0.065, low - 0.07), shade(style.main, 0.75), 0.015)


def dungarees(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    flare, long = rng.uniform(0.25, 0.32), rng.uniform(0.88, 0.95)
    for side in (-1, 1):
        canvas.limb([(0.5 + side * 0.15, 0.24), (0.5 + side * 0.1, 0.06)], 0.05, style.third)
    half = [(0.7, 0.42), (0.5 + flare, long), (0.54, long), (0.5, 0.58)]
    canvas.polygon(mirrored(half), style.fill(canvas.size))
    canvas.box((0.33, 0.2, 0.67, 0.46), style.fill(canvas.size), 0.03)
    canvas.box((0.29, 0.4, 0.71, 0.46), shade(style.main, 0.75), 0.01)
    canvas.box((0.41, 0.27, 0.59, 0.38), style.second, 0.02)
    for side in (-1, 1):
        canvas.dot((0.5 + side * 0.15, 0.235), 0.026, CREAM, edge=True)
        x = 0.5 + side * (flare + 0.04) / 2
        canvas.box((x - 0.12, long - 0.05, x + 0.12, long), style.second, 0.01)
