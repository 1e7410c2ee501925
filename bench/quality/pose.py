"""The same object seen again: turned a little, wider or narrower, in another light.

A reference that is pasted must not be the truth itself, or nothing could be told from pasting.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from a2edit.bench.heldout.cases import crop_to_alpha
from a2edit.bench.heldout.rough import Mask
from a2edit.runtime.boxes import Box


@dataclass(frozen=True, slots=True)
class Pose:
    """How an object in a scene differs from its reference."""

    turn: float = 0.0  # degrees, counter-clockwise
    stretch: float = 1.0  # of its width
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of red, green and blue


@dataclass(frozen=True, slots=True)
class Range:
    """What poses are drawn from: a turn of least to most degrees to either side, and so on."""

    turn: tuple[float, float]
    stretch: float
    gain: float
    tint: float

    def draw(self, rng: np.random.Generator) -> Pose:
        turn = float(rng.uniform(*self.turn)) * (1 if rng.random() < 0.5 else -1)
        stretch = float(np.exp(rng.uniform(-1, 1) * np.log(self.stretch)))
        light = 1 + rng.uniform(-self.gain, self.gain) + rng.uniform(-self.tint, self.tint, 3)
        return Pose(turn, stretch, (float(light[0]), float(light[1]), float(light[2])))


# One for each layout of an object: nearly as the reference shows it, turned, seen anew.
NEAR = Range(turn=(2, 5), stretch=1.03, gain=0.08, tint=0.0)
TURNED = Range(turn=(6, 14), stretch=1.08, gain=0.15, tint=0.03)
ANEW = Range(turn=(3, 10), stretch=1.2, gain=0.15, tint=0.08)
RANGES = (NEAR, TURNED, ANEW)


def posed(thing: Image.Image, pose: Pose) -> Image.Image:
    """The RGBA object in a pose, cut to its own box."""
    tight = crop_to_alpha(thing)
    size = max(1, round(tight.width * pose.stretch)), tight.height
    turned = tight.resize(size, Image.Resampling.LANCZOS).rotate(
        pose.turn, Image.Resampling.BICUBIC, expand=True
    )
    pixels = np.asarray(turned).astype(np.float32)
    pixels[..., :3] *= pose.light
    lit = Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8), "RGBA")
    return crop_to_alpha(lit)


def put(
    scene: Image.Image, thing: Image.Image, centre: tuple[float, float], height: float
) -> tuple[Image.Image, Mask]:
    """Paste an RGBA object: the picture, and where the object is, u8 [H,W].

    The centre is in shares of the scene's sides, the height in shares of its height. The object
    is moved into the picture, and made smaller where it would be wider than most of it.
    """
    rows = height * scene.height
    rows = min(rows, 0.8 * scene.width * thing.height / thing.width)
    size = max(1, round(rows * thing.width / thing.height)), max(1, round(rows))
    x0 = min(max(round(centre[0] * scene.width - size[0] / 2), 0), scene.width - size[0])
    y0 = min(max(round(centre[1] * scene.height - size[1] / 2), 0), scene.height - size[1])
    place = Box(x0, y0, x0 + size[0], y0 + size[1])
    fitted = thing.resize(size, Image.Resampling.LANCZOS)
    picture, shape = scene.copy(), Image.new("L", scene.size, 0)
    picture.paste(fitted, (place.x0, place.y0), fitted)
    shape.paste(fitted.getchannel("A"), (place.x0, place.y0))
    return picture, np.asarray(shape)
