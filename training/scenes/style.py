"""Colours, patterns, emblems and their names."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from a2edit.training.scenes.canvas import RGB, Paint
from a2edit.training.scenes.emblems import EMBLEMS
from a2edit.training.scenes.patterns import PATTERNS, Swatch, draw_pattern

_EMBLEM_SHARE = 0.3
CREAM: RGB = (250, 244, 230)
INK: RGB = (44, 38, 48)
WOODS: tuple[RGB, ...] = ((168, 112, 62), (124, 78, 44), (206, 160, 104), (92, 60, 42))
SKINS: tuple[RGB, ...] = (
    (255, 224, 196), (244, 200, 164), (222, 170, 128), (188, 130, 90), (142, 92, 62), (104, 66, 46),
)  # fmt: skip
# Upper bounds of hue, in degrees; red comes round again at the end.
_HUES = (
    (14, "red"), (42, "orange"), (68, "yellow"), (160, "green"), (192, "turquoise"),
    (256, "blue"), (292, "purple"), (342, "pink"), (361, "red"),
)  # fmt: skip
# A second colour must be told from the first by eye: Euclidean, of 441.
_CONTRAST = 120.0


def random_colour(rng: np.random.Generator) -> RGB:
    """Any hue; mostly strong, some pale, deep or without colour."""
    tone = rng.random()
    hue = rng.random()
    if tone < 0.55:
        saturation, value = rng.uniform(0.7, 1.0), rng.uniform(0.75, 1.0)
    elif tone < 0.72:
        saturation, value = rng.uniform(0.2, 0.45), rng.uniform(0.88, 1.0)
    elif tone < 0.9:
        saturation, value = rng.uniform(0.6, 1.0), rng.uniform(0.35, 0.65)
    else:
        saturation, value = rng.uniform(0.0, 0.08), rng.uniform(0.25, 0.97)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def contrasting(rng: np.random.Generator, *others: RGB) -> RGB:
    """A random colour that is easily told from the others."""
    best, distance = CREAM, -1.0
    for _ in range(8):
        colour = random_colour(rng)
        gap = min(float(np.linalg.norm(np.subtract(colour, other))) for other in others)
        if gap > _CONTRAST:
            return colour
        if gap > distance:
            best, distance = colour, gap
    return best


def colour_name(colour: RGB) -> str:
    """The everyday name: "red", "pale blue", "dark green", "brown", "grey"."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    if saturation < 0.14:
        return "white" if value > 0.85 else "grey" if value > 0.35 else "black"
    name = next(name for bound, name in _HUES if hue * 360 < bound)
    if name in ("orange", "yellow") and value < 0.68:
        return "brown" if name == "orange" else "olive"
    if saturation < 0.5 and value > 0.8:
        return "pink" if name == "red" else f"pale {name}"
    return f"dark {name}" if value < 0.68 else name


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """A picture that an object wears in place of a pattern, and its mean colour."""

    picture: Image.Image
    colour: RGB

    @classmethod
    def of(cls, picture: Image.Image) -> Texture:
        mean = picture.resize((1, 1), Image.Resampling.BOX)
        red, green, blue = np.asarray(mean)[0, 0].tolist()
        return cls(picture, (red, green, blue))


@dataclass(frozen=True, slots=True)
class Style:
    """What reference and scene share: four colours that differ, a pattern and an emblem.

    `emblem` is "" for none; only kinds with a place for one show it.
    """

    main: RGB
    second: RGB
    third: RGB
    dark: RGB
    skin: RGB
    wood: RGB
    pattern: str
    emblem: str
    period: float
    angle: int
    seed: int
    texture: Texture | None = None

    @classmethod
    def random(cls, rng: np.random.Generator) -> Style:
        shares = [share for _, share in PATTERNS.values()]
        pattern = str(rng.choice(list(PATTERNS), p=shares))
        wood = WOODS[rng.integers(len(WOODS))]
        # Wood is brown more often than it is painted.
        main = wood if pattern == "wooden" and rng.random() < 0.6 else random_colour(rng)
        second = contrasting(rng, main)
        return cls(
            main=main,
            second=second,
            third=contrasting(rng, main, second),
            dark=tuple(rng.integers(30, 80, 3).tolist()),
            skin=SKINS[rng.integers(len(SKINS))],
            wood=wood,
            pattern=pattern,
            emblem=str(rng.choice(list(EMBLEMS))) if rng.random() < _EMBLEM_SHARE else "",
            period=float(rng.uniform(0.1, 0.2)),
            angle=int(rng.integers(3)),
            seed=int(rng.integers(1 << 31)),
        )

    @property
    def look(self) -> str:
        """Colour and pattern in words: "red striped"."""
        if self.texture:
            return f"{colour_name(self.texture.colour)} patterned"
        if self.pattern == "two-tone":
            return f"{colour_name(self.main)} and {colour_name(self.second)}"
        words = [colour_name(self.main)]
        if self.pattern not in ("plain", "shaded"):
            words.append(self.pattern)
        return " ".join(words)

    def fill(self, size: int) -> Paint:
        """The pattern, drawn over a canvas of `size` pixels; not to be drawn on."""
        return _paint(self, size)


# An object asks for its pattern once for every part.
@lru_cache(maxsize=2)
def _paint(style: Style, size: int) -> Paint:
    if style.texture:
        picture = style.texture.picture.resize((size, size), Image.Resampling.BILINEAR)
        return Paint(style.texture.colour, picture.convert("RGBA"))
    swatch = Swatch(style.main, style.second, style.third, style.period, style.angle, style.seed)
    return Paint(style.main, draw_pattern(style.pattern, swatch, size).convert("RGBA"))
