"""Architecture: buildings from the front."""

from __future__ import annotations

import numpy as np

from a2edit.training.scenes.canvas import RGB, Canvas, arc, mirrored, shade
from a2edit.training.scenes.style import Style

_PANE: RGB = (150, 200, 230)


def _window(canvas: Canvas, x: float, y: float, wide: float, high: float, frame: RGB) -> None:
    canvas.box((x - wide, y - high, x + wide, y + high), _PANE)
    canvas.line([(x, y - high), (x, y + high)], 0.012, frame)
    canvas.line([(x - wide, y), (x + wide, y)], 0.012, frame)


def house(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    wide, eaves = rng.uniform(0.32, 0.4), rng.uniform(0.38, 0.48)
    if rng.random() < 0.6:
        x = rng.uniform(0.62, 0.7)
        canvas.box((x, 0.1, x + 0.09, eaves), style.wood)
        canvas.box((x - 0.015, 0.08, x + 0.105, 0.13), shade(style.wood, 0.8))
    canvas.box((0.5 - wide, eaves, 0.5 + wide, 0.94), style.fill(canvas.size))
    peak = rng.uniform(0.05, 0.12)
    ridge = rng.choice([0.0, 0.2])
    roof = [(0.5 + float(ridge), peak), (0.56 + wide, eaves + 0.02)]
    canvas.polygon(mirrored(roof), style.second)
    door = rng.uniform(-0.16, 0.16) if rng.random() < 0.5 else 0.0
    canvas.box((0.43 + door, 0.66, 0.57 + door, 0.94), style.third, 0.01)
    canvas.dot((0.54 + door, 0.81), 0.014, style.dark)
    for x in (0.5 - wide * 0.62, 0.5 + wide * 0.62):
        if abs(x - 0.5 - door) > 0.15:
            _window(canvas, x, eaves + 0.2, 0.065, 0.075, style.third)
    if eaves > 0.42:
        canvas.dot((0.5, (peak + eaves) / 2 + 0.05), 0.055, _PANE, edge=True)


def tower(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A round tower, with battlements or a pointed roof."""
    wide, top = rng.uniform(0.15, 0.2), rng.uniform(0.3, 0.36)
    canvas.polygon(mirrored([(0.5 + wide, top), (0.55 + wide, 0.95)]), style.fill(canvas.size))
    if rng.random() < 0.5:
        canvas.polygon(mirrored([(0.5, 0.04), (0.58 + wide, top + 0.02)]), style.second)
    else:
        canvas.box((0.46 - wide, top - 0.1, 0.54 + wide, top + 0.02), style.second)
        step = (0.08 + 2 * wide) / 5
        for i in (0, 2, 4):
            x = 0.46 - wide + i * step
            canvas.box((x, top - 0.18, x + step, top - 0.09), style.second)
    for i in range(int(rng.integers(1, 4))):
        y = top + 0.13 + i * 0.15
        canvas.polygon(
            [*arc((0.5, y), (0.04, 0.04), 180, 360, 10), (0.54, y + 0.06), (0.46, y + 0.06)],
            style.dark,
        )
    door = [*arc((0.5, 0.82), (0.075, 0.07), 180, 360, 12), (0.575, 0.95), (0.425, 0.95)]
    canvas.polygon(door, style.third)


def temple(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Columns, steps and a pediment."""
    columns, peak = int(rng.integers(3, 6)), rng.uniform(0.08, 0.18)
    canvas.box((0.14, 0.36, 0.86, 0.8), style.dark)
    thick = rng.uniform(0.035, 0.05)
    for x in np.linspace(0.18, 0.82, columns):
        at = float(x)
        canvas.box((at - thick, 0.38, at + thick, 0.8), style.fill(canvas.size))
        for y in (0.36, 0.77):
            canvas.box((at - thick - 0.02, y, at + thick + 0.02, y + 0.04), style.third)
    canvas.polygon([(0.05, 0.34), (0.5, peak), (0.95, 0.34)], style.second)
    canvas.polygon([(0.25, 0.31), (0.5, peak + 0.08), (0.75, 0.31)], style.third)
    canvas.box((0.08, 0.32, 0.92, 0.38), style.main)
    for i in range(3):
        y = 0.8 + i * 0.05
        canvas.box((0.1 - i * 0.03, y, 0.9 + i * 0.03, y + 0.05), shade(style.second, 1.2))


def block(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A block of flats."""
    wide, top = rng.uniform(0.2, 0.32), rng.uniform(0.08, 0.14)
    canvas.box((0.5 - wide, top, 0.5 + wide, 0.95), style.fill(canvas.size))
    canvas.box((0.47 - wide, top - 0.04, 0.53 + wide, top + 0.03), style.second)
    rows, columns = int(rng.integers(3, 6)), int(rng.integers(2, 4))
    high, across = (0.76 - top) / rows, 2 * wide / columns
    for row in range(rows):
        for column in range(columns):
            x = 0.5 - wide + (column + 0.5) * across
            y = top + 0.08 + (row + 0.4) * high
            box = (x - across * 0.28, y - high * 0.28, x + across * 0.28, y + high * 0.28)
            canvas.box(box, style.third)
    canvas.box((0.44, 0.84, 0.56, 0.95), style.dark)


def bridge(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A stone bridge; the scene is seen through its arches."""
    top = rng.uniform(0.34, 0.42)
    canvas.box((0.04, top, 0.96, 0.82), style.fill(canvas.size))
    spans = int(rng.integers(2, 4))
    step = 0.86 / spans
    for i in range(spans):
        x = 0.07 + (i + 0.5) * step
        rim = [*arc((x, 0.68), (step * 0.44, 0.2), 180, 360, 20), (x + step * 0.44, 0.83)]
        canvas.polygon([*rim, (x - step * 0.44, 0.83)], style.third)
        hole = [*arc((x, 0.68), (step * 0.36, 0.16), 180, 360, 20), (x + step * 0.36, 0.84)]
        canvas.cut([*hole, (x - step * 0.36, 0.84)])
    canvas.box((0.03, top - 0.07, 0.97, top + 0.02), style.second, 0.01)
    for x in np.linspace(0.08, 0.92, 6):
        canvas.box((float(x) - 0.025, top - 0.14, float(x) + 0.025, top), style.second)


def windmill(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    canvas.polygon(mirrored([(0.6, 0.36), (0.7, 0.95)]), style.fill(canvas.size))
    canvas.polygon(arc((0.5, 0.37), (0.12, 0.13), 180, 360, 16), style.second)
    canvas.box((0.44, 0.78, 0.56, 0.95), style.third, 0.02)
    canvas.dot((0.5, 0.62), 0.04, _PANE, edge=True)
    turn = rng.uniform(20, 70)
    for quarter in range(4):
        angle = np.radians(turn + 90 * quarter)
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        sail = [(0.08, 0.0), (0.34, 0.0), (0.34, 0.1), (0.08, 0.1)]
        canvas.polygon(
            [(0.5 + x * cos - y * sin, 0.36 + x * sin + y * cos) for x, y in sail], style.third
        )
        canvas.line([(0.5, 0.36), (0.5 + 0.35 * cos, 0.36 + 0.35 * sin)], 0.022, style.wood)
    canvas.dot((0.5, 0.36), 0.035, style.dark)


def castle(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A wall with a gate between two towers."""
    top, wall = rng.uniform(0.26, 0.34), rng.uniform(0.46, 0.54)
    stone = style.fill(canvas.size)
    canvas.box((0.2, wall, 0.8, 0.94), stone)
    for i in range(5):
        canvas.box((0.26 + i * 0.11, wall - 0.06, 0.31 + i * 0.11, wall + 0.01), stone)
    pointed = rng.random() < 0.6
    for x in (0.18, 0.82):
        canvas.box((x - 0.13, top, x + 0.13, 0.95), stone)
        if pointed:
            canvas.polygon([(x - 0.16, top), (x, 0.07), (x + 0.16, top)], style.second)
        else:
            for i in (-1, 0, 1):
                battlement = (x + i * 0.105 - 0.035, top - 0.08, x + i * 0.105 + 0.035, top + 0.02)
                canvas.box(battlement, style.second)
        slit = [*arc((x, top + 0.16), (0.035, 0.04), 180, 360, 8), (x + 0.035, top + 0.26)]
        canvas.polygon([*slit, (x - 0.035, top + 0.26)], style.dark)
    gate = [*arc((0.5, 0.74), (0.11, 0.12), 180, 360, 16), (0.61, 0.94), (0.39, 0.94)]
    canvas.polygon(gate, style.third)
    for x in (0.45, 0.5, 0.55):
        canvas.line([(x, 0.68), (x, 0.93)], 0.01, style.dark)
    canvas.line([(0.5, wall), (0.5, 0.2)], 0.016, style.dark)
    canvas.polygon([(0.5, 0.2), (0.64, 0.25), (0.5, 0.3)], style.third)


def church(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A nave and a steeple with a cross."""
    eaves, side = rng.uniform(0.56, 0.62), (-1, 1)[rng.integers(2)]
    stone, x = style.fill(canvas.size), 0.5 - side * 0.24
    ends = sorted((0.5 - side * 0.14, 0.5 + side * 0.42))
    canvas.box((ends[0], eaves, ends[1], 0.94), stone)
    roof = [(ends[0] - 0.02, eaves + 0.02), (ends[1] + 0.03, eaves + 0.02),
            (ends[1] - 0.05, eaves - 0.2), (ends[0] + 0.02, eaves - 0.2)]  # fmt: skip
    canvas.polygon(roof, style.second)
    for i in range(3):
        at = ends[0] + (0.24 + 0.27 * i) * (ends[1] - ends[0]) + 0.02
        pane = [*arc((at, 0.72), (0.045, 0.06), 180, 360, 10), (at + 0.045, 0.84)]
        canvas.polygon([*pane, (at - 0.045, 0.84)], _PANE)
    top = rng.uniform(0.34, 0.42)
    canvas.box((x - 0.14, top, x + 0.14, 0.95), stone)
    canvas.polygon([(x - 0.17, top + 0.01), (x, 0.12), (x + 0.17, top + 0.01)], style.second)
    canvas.line([(x, 0.13), (x, 0.04)], 0.018, style.dark)
    canvas.line([(x - 0.035, 0.07), (x + 0.035, 0.07)], 0.018, style.dark)
    canvas.dot((x, top + 0.12), 0.06, style.third, edge=True)
    door = [*arc((x, 0.78), (0.065, 0.07), 180, 360, 10), (x + 0.065, 0.95), (x - 0.065, 0.95)]
    canvas.polygon(door, style.third)


def tent(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """A round circus tent with a flag."""
    wide, eaves = rng.uniform(0.38, 0.42), rng.uniform(0.5, 0.56)
    canvas.line([(0.5, 0.2), (0.5, 0.05)], 0.02, style.dark)
    canvas.polygon([(0.5, 0.04), (0.64, 0.08), (0.5, 0.13)], style.third)
    canvas.box((0.5 - wide, eaves, 0.5 + wide, 0.94), style.fill(canvas.size))
    half = [(0.5, 0.16), (0.6, 0.32), (0.54 + wide, eaves)]
    canvas.polygon(mirrored(half), style.second)
    canvas.polygon(mirrored([(0.5, 0.16), (0.53, 0.32), (0.5 + wide * 0.32, eaves)]), style.third)
    step = (2 * wide + 0.08) / 6
    for i in range(6):
        x = 0.46 - wide + (i + 0.5) * step
        scallop = arc((x, eaves), (step / 2, 0.07), 0, 180, 10)
        canvas.polygon(scallop, (style.second, style.third)[i % 2])
    canvas.polygon([(0.5, eaves + 0.06), (0.62, 0.94), (0.38, 0.94)], style.dark)
    for side in (-1, 1):
        flap = [(0.5, eaves + 0.05), (0.5 + side * 0.15, 0.94), (0.5 + side * 0.09, 0.94)]
        canvas.polygon(flap, style.third)


def pagoda(canvas: Canvas, style: Style, rng: np.random.Generator) -> None:
    """Storeys with curved roofs, each smaller than the one below."""
    storeys = int(rng.integers(3, 5))
    high = 0.76 / storeys
    canvas.line([(0.5, 0.2), (0.5, 0.04)], 0.022, style.dark)
    canvas.box((0.16, 0.89, 0.84, 0.95), shade(style.wood, 0.9))
    for i in range(storeys):
        floor = 0.9 - i * high
        wide = 0.3 - i * 0.2 / storeys
        ceiling = floor - high * 0.6
        canvas.box((0.5 - wide, ceiling, 0.5 + wide, floor), style.fill(canvas.size))
        canvas.box((0.44, floor - high * 0.42, 0.56, floor), style.third)
        eave = [(0.53 + wide * 0.5, ceiling - high * 0.42), (0.54 + wide, ceiling - 0.01),
                (0.62 + wide, ceiling - 0.04), (0.56 + wide, ceiling + 0.05)]  # fmt: skip
        canvas.polygon(mirrored(eave), style.second)
