"""A transparent square to draw an object on, in unit coordinates (x right, y down, 0 to 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

RGB = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Paint:
    """A patterned fill: `picture` covers the whole canvas, `colour` stands for it in outlines."""

    colour: RGB
    picture: Image.Image


Fill = RGB | Paint


def shade(colour: RGB, factor: float) -> RGB:
    """Darker for factors below 1; towards white above 1 (2 is white)."""
    if factor <= 1:
        red, green, blue = (round(c * factor) for c in colour)
    else:
        red, green, blue = (round(255 - (255 - c) * max(0.0, 2 - factor)) for c in colour)
    return red, green, blue


def arc(
    centre: Point, radii: Point, start: float = 0, stop: float = 360, steps: int = 40
) -> list[Point]:
    """Points of an ellipse's arc; degrees run clockwise on the screen from the right."""
    angles = (math.radians(start + (stop - start) * i / steps) for i in range(steps + 1))
    return [
        (centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles
    ]


def mirrored(half: Sequence[Point]) -> list[Point]:
    """A closed outline from its right half, given from top to bottom, about x = 0.5."""
    return [*half, *((1 - x, y) for x, y in reversed(half))]


def smooth(points: Sequence[Point], steps: int = 6, *, closed: bool = True) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    count = len(points)
    curve: list[Point] = []
    for i in range(count if closed else count - 1):
        indices = [i - 1, i, i + 1, i + 2]
        if closed:
            p = [points[j % count] for j in indices]
        else:
            p = [points[min(max(j, 0), count - 1)] for j in indices]
        for step in range(steps):
            t = step / steps
            weights = (
                (-t + 2 * t**2 - t**3) / 2,
                (2 - 5 * t**2 + 3 * t**3) / 2,
                (t + 4 * t**2 - 3 * t**3) / 2,
                (t**3 - t**2) / 2,
            )
            pairs = list(zip(weights, p, strict=True))
            curve.append((sum(w * q[0] for w, q in pairs), sum(w * q[1] for w, q in pairs)))
    if not closed:
        curve.append(points[-1])
    return curve


class Canvas:
    """Shapes are opaque and cover one another in the order drawn.

    `light` is where the light comes from, -1 (left) to 1 (right); `finish` applies it.
    """

    def __init__(self, size: int, line: float = 0.009, light: float = -0.6) -> None:
        self.size = size
        self.line_width = line
        self.light = light
        self.image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[Point], fill: Fill, *, edge: bool = True) -> None:
        """A filled outline; `edge` draws a darker line around it."""
        pixels = [(x * self.size, y * self.size) for x, y in points]
        if isinstance(fill, Paint):
            colour = fill.colour
            self._paint(pixels, fill.picture)
        else:
            colour = fill
            self._draw.polygon(pixels, (*colour, 255))
        if edge:
            self._line([*pixels, *pixels[:2]], self.line_width, shade(colour, 0.5))

    def _paint(self, pixels: list[Point], picture: Image.Image) -> None:
        xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
        left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
        right = min(self.size, math.ceil(max(xs)) + 1)
        bottom = min(self.size, math.ceil(max(ys)) + 1)
        if right <= left or bottom <= top:
            return
        stencil = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(stencil).polygon([(x - left, y - top) for x, y in pixels], 255)
        self.image.paste(picture.crop((left, top, right, bottom)), (left, top), stencil)

    def _line(self, pixels: list[Point], width: float, colour: RGB) -> None:
        thick = max(1, round(width * self.size))
        self._draw.line(pixels, (*colour, 255), thick, joint="curve")

    def line(self, points: Sequence[Point], width: float, colour: RGB) -> None:
        """An open line with round ends."""
        pixels = [(x * self.size, y * self.size) for x, y in points]
        self._line(pixels, width, colour)
        radius = width * self.size / 2
        for x, y in (pixels[0], pixels[-1]):
            box = (x - radius, y - radius, x + radius, y + radius)
            self._draw.ellipse(box, (*colour, 255))

    def limb(self, points: Sequence[Point], width: float, colour: RGB) -> None:
        """A thick line with a darker edge."""
        self.line(points, width + 2 * self.line_width, shade(colour, 0.5))
        self.line(points, width, colour)

    def ellipse(self, centre: Point, radii: Point, fill: Fill, *, edge: bool = True) -> None:
        self.polygon(arc(centre, radii)[:-1], fill, edge=edge)

    def dot(self, centre: Point, radius: float, fill: Fill, *, edge: bool = False) -> None:
        self.polygon(arc(centre, (radius, radius), steps=20)[:-1], fill, edge=edge)

    def box(
        self,
        corners: tuple[float, float, float, float],
        fill: Fill,
        radius: float = 0.0,
        *,
        edge: bool = True,
    ) -> None:
        """A rectangle (x0, y0, x1, y1), its corners rounded by `radius`."""
        x0, y0, x1, y1 = corners
        r = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
        if r <= 0:
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        else:
            points = [
                *arc((x1 - r, y0 + r), (r, r), -90, 0, 6),
                *arc((x1 - r, y1 - r), (r, r), 0, 90, 6),
                *arc((x0 + r, y1 - r), (r, r), 90, 180, 6),
                *arc((x0 + r, y0 + r), (r, r), 180, 270, 6),
            ]
        self.polygon(points, fill, edge=edge)

    def cut(self, points: Sequence[Point]) -> None:
        """Make the inside transparent: a hole through which the scene is seen."""
        self._draw.polygon([(x * self.size, y * self.size) for x, y in points], (0, 0, 0, 0))

    def finish(self) -> Image.Image:
        """The shaded sprite, RGBA, cropped to what was drawn."""
        # The light is smooth: an eighth of the size is enough to compute it.
        small = max(8, self.size // 8)
        alpha = self.image.getchannel("A")
        soft = alpha.resize((small, small), Image.Resampling.BOX)
        soft = soft.filter(ImageFilter.GaussianBlur(small / 20))
        rim = np.asarray(soft, np.float32) / 255
        y, x = np.mgrid[0:small, 0:small] / np.float32(small) - 0.5
        level = 0.93 - 0.13 * y + 0.10 * self.light * x - 0.22 * (1 - rim)
        light = Image.fromarray((np.clip(level, 0, 1) * 255).astype(np.uint8))
        box = alpha.getbbox() or (0, 0, self.size, self.size)
        share = small / self.size
        light = light.resize(
            (box[2] - box[0], box[3] - box[1]),
            Image.Resampling.BILINEAR,
            (box[0] * share, box[1] * share, box[2] * share, box[3] * share),
        )
        bands = self.image.crop(box).split()
        lit = [ImageChops.multiply(band, light) for band in bands[:3]]
        return Image.merge("RGBA", [*lit, bands[3]])
