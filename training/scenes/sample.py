"""A training pair: one object, once on white and once in a scene (ground truth)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.errors import RequestError
from a2edit.training.scenes.backgrounds import Box, add_shadow, draw_background
from a2edit.training.scenes.canvas import Canvas
from a2edit.training.scenes.kinds import CATEGORIES, Split, kinds_of
from a2edit.training.scenes.style import Style

# Objects are drawn larger than the reference shows them, which smooths their edges.
_OVERSAMPLING = 1.5
# Longer side of the object's tight box, as a share of the scene's side.
_IN_SCENE = (0.34, 0.53)
_IN_REFERENCE = (0.86, 0.95)
_TURN_DEGREES = 5.0
_BRIGHTNESS = 0.08


@dataclass(frozen=True, slots=True)
class Sample:
    """Pictures u8 [S, S, 3], masks u8 [S, S] (255 = at least half covered by the object).

    `scene` is the ground truth, with the object; outline, colours and pattern of `reference` are
    the same, its pose and light differ a little.
    """

    scene: NDArray[np.uint8]
    scene_mask: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    reference_mask: NDArray[np.uint8]
    caption: str
    category: str
    kind: str
    seed: int


def draw_sample(
    seed: int, size: int = 256, split: Split = "train", category: str | None = None
) -> Sample:
    """Draw the pair of a seed; the same arguments give the same bytes.

    Raises RequestError for an unknown category or split.
    """
    kinds = kinds_of(split, category)
    if not kinds:
        raise RequestError(
            f"no kind of object in split {split!r}, category {category!r}: "
            f"splits are train and held_out, categories are {', '.join(CATEGORIES)}"
        )
    rng = np.random.default_rng(seed)
    # Categories come equally often, however many kinds they have.
    chosen = category or CATEGORIES[rng.integers(len(CATEGORIES))]
    kinds = kinds_of(split, chosen)
    kind = kinds[rng.integers(len(kinds))]
    style = Style.random(rng)
    canvas = Canvas(round(_OVERSAMPLING * size), light=float(rng.uniform(-1, 1)))
    kind.draw(canvas, style, rng)
    sprite = canvas.finish()

    reference, reference_mask = _on_white(sprite, size, rng)
    scene, scene_mask = _in_scene(sprite, size, rng)
    caption = kind.caption.format(look=style.look)
    article = "an" if caption[0] in "aeiou" else "a"
    return Sample(
        scene=scene,
        scene_mask=scene_mask,
        reference=reference,
        reference_mask=reference_mask,
        caption=f"{article} {caption}",
        category=chosen,
        kind=kind.name,
        seed=seed,
    )


def _scaled(sprite: Image.Image, side: float) -> Image.Image:
    scale = side / max(sprite.size)
    size = (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale)))
    return sprite.resize(size, Image.Resampling.HAMMING)


def _lit(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    gain = 1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    table = [min(255, round(level * gain)) for level in range(256)]
    return sprite.point([*table, *table, *table, *range(256)])


def _binary(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(alpha >= 128, np.uint8(255), np.uint8(0))


def _paste(
    picture: Image.Image, sprite: Image.Image, spot: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    alpha = Image.new("L", picture.size)
    alpha.paste(sprite.getchannel("A"), spot)
    picture.paste(sprite, spot, sprite)
    return np.array(picture), _binary(np.asarray(alpha))


def _on_white(
    sprite: Image.Image, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    fitted = _scaled(sprite, size * rng.uniform(*_IN_REFERENCE))
    spot = ((size - fitted.width) // 2, (size - fitted.height) // 2)
    return _paste(Image.new("RGB", (size, size), (255, 255, 255)), fitted, spot)


def _in_scene(
    sprite: Image.Image, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    side = size * rng.uniform(*_IN_SCENE)
    # Turned at a larger size: turning blurs, and this keeps the blur under a pixel.
    turned = _scaled(sprite, 1.6 * side).rotate(
        rng.uniform(-_TURN_DEGREES, _TURN_DEGREES), Image.Resampling.BILINEAR, expand=True
    )
    placed = _lit(_scaled(turned.crop(turned.getchannel("A").getbbox()), side), rng)
    x = int(rng.integers(1, size - placed.width))
    # Things stand rather low: the middle of the free heights comes up most.
    y = int(rng.triangular(1, (size - placed.height) * 0.7, size - placed.height))
    box: Box = (x, y, x + placed.width, y + placed.height)
    picture = draw_background(size, box, rng)
    if rng.random() < 0.9:
        add_shadow(picture, box, rng.uniform(0.3, 0.6), rng.uniform(-0.2, 0.2))
    return _paste(picture, placed, (x, y))
