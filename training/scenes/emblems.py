"""Emblems for chests and sides: a star, a heart, letters; drawn over a kind's own place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from a2edit.training.scenes.canvas import RGB, Canvas, Point, arc


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kind shows an emblem, in unit coordinates."""

    centre: Point
    radius: float


def _star() -> list[Point]:
    reach = [(1.0, 0.42)[i % 2] for i in range(10)]
    angles = [math.pi * (i / 5 - 0.5) for i in range(10)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(reach, angles, strict=True)]


def _heart() -> list[Point]:
    left = arc((-0.45, -0.3), (0.47, 0.45), 160, 350, 10)
    right = arc((0.45, -0.3), (0.47, 0.45), 190, 380, 10)
    return [*left, *right, (0.0, 0.95)]


_SHAPES: dict[str, list[Point]] = {
    "star": _star(),
    "heart": _heart(),
    "diamond": [(0.0, -1.0), (0.75, 0.0), (0.0, 1.0), (-0.75, 0.0)],
    "circle": arc((0.0, 0.0), (0.8, 0.8), steps=24)[:-1],
}  # fmt: skip
# Strokes of capitals, in a square from -1 to 1.
_LETTERS: dict[str, list[list[Point]]] = {
    "a": [[(-0.7, 1), (0, -1), (0.7, 1)], [(-0.4, 0.3), (0.4, 0.3)]],
    "h": [[(-0.6, -1), (-0.6, 1)], [(0.6, -1), (0.6, 1)], [(-0.6, 0), (0.6, 0)]],
    "k": [[(-0.6, -1), (-0.6, 1)], [(0.6, -1), (-0.5, 0.1), (0.65, 1)]],
    "m": [[(-0.8, 1), (-0.7, -1), (0, 0.3), (0.7, -1), (0.8, 1)]],
    "t": [[(-0.8, -0.9), (0.8, -0.9)], [(0, -0.9), (0, 1)]],
    "x": [[(-0.7, -1), (0.7, 1)], [(0.7, -1), (-0.7, 1)]],
    "z": [[(-0.7, -0.9), (0.7, -0.9), (-0.7, 0.9), (0.75, 0.9)]],
}
# Names and what captions call them.
EMBLEMS: dict[str, str] = {name: f"a {name}" for name in _SHAPES} | {
    name: f"the letter {name}" for name in _LETTERS
}


def draw_emblem(canvas: Canvas, name: str, place: Place, colour: RGB) -> None:
    """An emblem of that name; see `EMBLEMS`."""

    def at(points: list[Point]) -> list[Point]:
        (x, y), r = place.centre, place.radius
        return [(x + r * u, y + r * v) for u, v in points]

    if name in _SHAPES:
        canvas.polygon(at(_SHAPES[name]), colour)
        return
    for stroke in _LETTERS[name]:
        canvas.limb(at(stroke), place.radius * 0.4, colour)
    # Again without edges: where strokes meet, no edge is left between them.
    for stroke in _LETTERS[name]:
        canvas.line(at(stroke), place.radius * 0.4, colour)
