"""A pen on a transparent square, in unit coordinates, with paints that vary over the square.

Drawing is done twice too large and reduced once at the end, so that edges come out smooth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Floats = npt.NDArray[np.floating]
# An RGB picture as large as the pen's square, or one colour.
Paint = Colour | Image.Image

OVERSAMPLE = 2


@cache
def _grid(side: int) -> tuple[Floats, Floats]:
    """Unit coordinates (x, y) of pixel centres, each [side, side]."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(axis, axis)
    return x, y


def _blend(first: Colour, second: Colour, share: Floats) -> Image.Image:
    """`first` where share is 0, `second` where it is 1."""
    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    mixed = a + (b - a) * np.clip(share, 0, 1)[..., None]
    return Image.fromarray(np.round(mixed).astype(np.uint8), "RGB")


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws on an RGBA square of `side` pixels; coordinates and widths are shares of the side."""

    side: int = 320
    canvas: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        large = self.side * OVERSAMPLE
        object.__setattr__(self, "canvas", Image.new("RGBA", (large, large), (0, 0, 0, 0)))

    # ---- paints

    def gradient(self, first: Colour, second: Colour, angle: float = 90.0) -> Image.Image:
        """From `first` to `second` along `angle` in degrees: 0 rightwards, 90 downwards."""
        x, y = _grid(self.canvas.width)
        turn = math.radians(angle)
        along = (x - 0.5) * math.cos(turn) + (y - 0.5) * math.sin(turn) + 0.5
        return _blend(first, second, along)

    def stripes(
        self, first: Colour, second: Colour, period: float, angle: float = 0.0
    ) -> Image.Image:
        """Bands of equal width across `angle`; `period` is one pair's width."""
        x, y = _grid(self.canvas.width)
        turn = math.radians(angle)
        phase = (x * math.cos(turn) + y * math.sin(turn)) / period
        return _blend(first, second, (np.modf(phase + 64)[0] >= 0.5).astype(np.float32))

    def checks(self, first: Colour, second: Colour, period: float) -> Image.Image:
        """Woven squares: where both bands cross, the second colour is full, else half."""
        x, y = _grid(self.canvas.width)
        bands = [(np.modf(axis / period)[0] >= 0.5).astype(np.float32) for axis in (x, y)]
        return _blend(first, second, (bands[0] + bands[1]) / 2)

    def dots(self, ground: Colour, dot: Colour, period: float, radius: float) -> Image.Image:
        """Round dots on a staggered grid; `radius` is a share of the period."""
        x, y = _grid(self.canvas.width)
        row = np.floor(y / period)
        u = np.modf(x / period + 0.5 * (row % 2))[0] - 0.5
        v = np.modf(y / period)[0] - 0.5
        return _blend(ground, dot, (np.hypot(u, v) < radius).astype(np.float32))

    # ---- shapes

    def polygon(self, points: Iterable[Point], paint: Paint) -> None:
        stencil, draw = self._stencil()
        draw.polygon([self._pixel(point) for point in points], fill=255)
        self._fill(stencil, paint)

    def blob(self, points: Sequence[Point], paint: Paint) -> None:
        """A closed smooth outline through `points` (Catmull-Rom)."""
        self.polygon(smooth(points), paint)

    def ellipse(self, centre: Point, radii: Point, paint: Paint, turn: float = 0.0) -> None:
        """`radii` along x and y before turning by `turn` degrees."""
        angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        u, v = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
        points = zip(centre[0] + u * cos - v * sin, centre[1] + u * sin + v * cos, strict=True)
        self.polygon(((float(x), float(y)) for x, y in points), paint)

    def box(self, corner: Point, opposite: Point, paint: Paint, rounding: float = 0.0) -> None:
        stencil, draw = self._stencil()
        draw.rounded_rectangle(
            [self._pixel(corner), self._pixel(opposite)], rounding * self.canvas.width, fill=255
        )
        self._fill(stencil, paint)

    def line(self, points: Sequence[Point], width: float, paint: Paint) -> None:
        """A stroke with round ends and joints."""
        stencil, draw = self._stencil()
        pixels = [self._pixel(point) for point in points]
        radius = width * self.canvas.width / 2
        draw.line(pixels, fill=255, width=max(1, round(2 * radius)))
        for x, y in pixels:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        self._fill(stencil, paint)

    # ---- the end

    def finish(self, grain: float = 0.02, seed: int = 0) -> Image.Image:
        """The drawing at `side` pixels, lit from the top left, with a little `grain` of its own."""
        alpha = self.canvas.getchannel("A")
        blur = ImageFilter.GaussianBlur(0.035 * self.canvas.width)
        height = np.asarray(alpha.filter(blur), float) / 255
        # The blurred outline as a height field: its slope is what catches the light.
        slope_y, slope_x = np.gradient(height, 1 / self.canvas.width)
        light = 1 + np.clip(0.018 * (slope_x + slope_y), -0.28, 0.22)
        noise = np.random.default_rng(seed).normal(0, grain, (self.side, self.side))
        coarse = Image.fromarray(noise.astype(np.float32)).resize(
            self.canvas.size, Image.Resampling.BICUBIC
        )
        lit = (
            np.asarray(self.canvas.convert("RGB"), float) * (light + np.asarray(coarse))[..., None]
        )
        shaded = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8), "RGB").convert("RGBA")
        shaded.putalpha(alpha)
        return shaded.resize((self.side, self.side), Image.Resampling.BOX)

    def scenery(self, height: float, grain: float = 3.0, seed: int = 0) -> Image.Image:
        """The top `height` of the square as an RGB picture with `grain` grey levels of noise."""
        rows = round(self.side * height)
        large = self.canvas.convert("RGB").crop((0, 0, self.canvas.width, rows * OVERSAMPLE))
        small = np.asarray(large.resize((self.side, rows), Image.Resampling.BOX), float)
        noise = np.random.default_rng(seed).normal(0, grain, (rows, self.side, 1))
        return Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8), "RGB")

    def _pixel(self, point: Point) -> Point:
        return point[0] * self.canvas.width, point[1] * self.canvas.height

    def _stencil(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        stencil = Image.new("L", self.canvas.size, 0)
        return stencil, ImageDraw.Draw(stencil)

    def _fill(self, stencil: Image.Image, paint: Paint) -> None:
        # Pasting what the shape covers, and not the square, is most of the speed.
        box = stencil.getbbox()
        if box is None:
            return
        if isinstance(paint, tuple):
            self.canvas.paste((*paint, 255), box, stencil.crop(box))
        else:
            self.canvas.paste(paint.crop(box).convert("RGBA"), box, stencil.crop(box))


def smooth(points: Sequence[Point], steps: int = 12) -> list[Point]:
    """Points on the closed Catmull-Rom curve through `points`."""
    knots = np.asarray(points, float)
    before, after, beyond = (np.roll(knots, shift, axis=0) for shift in (1, -1, -2))
    curve = [
        0.5
        * (
            2 * knots
            + (after - before) * t
            + (2 * before - 5 * knots + 4 * after - beyond) * t**2
            + (3 * knots - before - 3 * after + beyond) * t**3
        )
        for t in np.arange(steps) / steps
    ]
    path = np.stack(curve, axis=1).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in path]
