"""Light: a ramp over an object, the tone of a whole scene, grain, and shadows on the ground."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

Box = tuple[int, int, int, int]

# A scene's light shows in its colours, but red stays red.
_CAST = 0.04
_BRIGHTNESS = 0.1
_CONTRAST = 0.1
_RAMP = 0.16
_NOISE_SIDE = 1024


def ramped(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brighter towards one side; RGB or premultiplied RGBa."""
    angle, depth = rng.uniform(0, math.tau), rng.uniform(0, 2 * _RAMP)
    place = np.linspace(-0.5, 0.5, 16, dtype=np.float32)
    along = place[None, :] * np.float32(math.cos(angle)) + place[:, None] * np.float32(
        math.sin(angle)
    )
    level = 1 - np.float32(depth) * (along / np.float32(1.42) + np.float32(0.5))
    small = Image.fromarray((level * 255).astype(np.uint8))
    light = small.resize(picture.size, Image.Resampling.BILINEAR)
    if picture.mode == "RGB":
        return ImageChops.multiply(picture, Image.merge("RGB", [light] * 3))
    bands = [ImageChops.multiply(band, light) for band in picture.split()[:3]]
    return Image.merge("RGBa", [*bands, picture.getchannel("a")])


def toned(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """An RGB picture with another white, brightness and contrast."""
    white = 1 + rng.uniform(-_CAST, _CAST, 3)
    gain = (1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)) * white / white.mean()
    contrast = 1 + rng.uniform(-_CONTRAST, _CONTRAST)
    level = np.arange(256)[None, :] * gain[:, None]
    table = np.clip((level - 128) * contrast + 128, 0, 255).round().astype(np.uint8)
    return picture.point(table.ravel().tolist())


@lru_cache(maxsize=1)
def _noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((_NOISE_SIDE, _NOISE_SIDE), np.float32)


def grained(
    picture: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """u8 [S, S, 3] with the grain of a film, the same in all channels."""
    size = picture.shape[0]
    row, column = (int(v) for v in rng.integers(0, max(1, _NOISE_SIDE - size + 1), 2))
    field = np.resize(_noise(), (size, size)) if size > _NOISE_SIDE else _noise()
    grain = (field[row : row + size, column : column + size] * strength).astype(np.int16)
    noisy: NDArray[np.uint8] = (picture + grain[..., None]).clip(0, 255).astype(np.uint8)
    return noisy


def add_shadow(picture: Image.Image, box: Box, strength: float, lean: float) -> None:
    """Darken the ground under an object's box (xyxy); `lean` moves the shadow sideways."""
    size = picture.height
    x0, _, x1, y1 = box
    wide = (x1 - x0) / 2
    top, bottom = max(0, round(y1 - wide * 0.7)), min(size, round(y1 + wide * 0.6))
    u = (np.arange(size, dtype=np.float32) - (x0 + x1) / 2 - lean * wide) / (wide * 0.95)
    v = (np.arange(top, bottom, dtype=np.float32) - y1 + wide * 0.06) / (wide * 0.24)
    dark = strength * np.exp(-(v**2))[:, None] * np.exp(-(np.abs(u) ** 3))[None, :]
    picture.paste(0, (0, top), Image.fromarray((dark * 255).astype(np.uint8)))


def cast_shadow(
    picture: Image.Image, alpha: Image.Image, box: Box, strength: float, rng: np.random.Generator
) -> None:
    """Lay the object's outline (`alpha`, as large as its box) on the ground, sheared and soft."""
    x0, _, _, y1 = box
    reach = rng.uniform(0.25, 0.55)
    lean = rng.uniform(0.35, 1.1) * (-1, 1)[rng.integers(2)]
    # At half the size: it is blurred anyway.
    small = alpha.resize((max(1, alpha.width // 2), max(1, alpha.height // 2)))
    high = max(2, round(small.height * reach))
    margin = round(abs(lean) * small.height * 0.7) + 8
    wide = small.width + 2 * margin
    # Rows of the shadow run from its far end (0) to the object's foot (`high`).
    slant = lean * small.height * 0.7 / high
    data = (1, slant, -margin - slant * high, 0, small.height / high, 0)
    flat = small.transform(
        (wide, high + 8), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    soft = flat.filter(ImageFilter.GaussianBlur(rng.uniform(1.0, 2.5)))
    dark = soft.resize((wide * 2, (high + 8) * 2), Image.Resampling.BILINEAR)
    dark = dark.point([round(level * strength) for level in range(256)])
    picture.paste(0, (x0 - 2 * margin, y1 - 2 * high), dark)
