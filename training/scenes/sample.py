"""A training pair: one object, once on white and once in a scene (ground truth)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.errors import RequestError
from a2edit.training.scenes.backgrounds import draw_background
from a2edit.training.scenes.canvas import Canvas
from a2edit.training.scenes.emblems import EMBLEMS, draw_emblem
from a2edit.training.scenes.front import cover
from a2edit.training.scenes.kinds import CATEGORIES, Kind, Split, kinds_of
from a2edit.training.scenes.light import Box, add_shadow, cast_shadow, grained, ramped, toned
from a2edit.training.scenes.pose import posed, scaled
from a2edit.training.scenes.style import Style, Texture

if TYPE_CHECKING:
    from a2edit.training.photos import Photos

# Objects are drawn larger than the reference shows them, which smooths their edges.
_OVERSAMPLING = 1.5
# Longer side of the object's tight box, as a share of the scene's side: ranges and their chances.
_IN_SCENE = ((0.45, 0.66), (0.3, 0.45), (0.66, 0.76))
_IN_SCENE_SHARES = (0.8, 0.1, 0.1)
_IN_REFERENCE = (0.86, 0.95)
_RAMPED, _RAMPED_SCENES = 0.7, 0.3
_TONED = 0.7
_GRAINED, _GRAIN = 0.2, (1.5, 6.0)
_OCCLUDED = 0.12
_CAST_SHADOWS, _NO_SHADOW = 0.35, 0.1
# Where there are photographs: of the objects, those that are cut-outs or wear a photograph; of
# these, cut-outs where the category has both; of the others, those worn all over; of backgrounds.
_PHOTO_OBJECTS, _CUT_OUTS, _ALL_OVER = 0.2, 0.5, 0.5
_PHOTO_BACKGROUNDS = 0.35


@dataclass(frozen=True, slots=True)
class Sample:
    """Pictures u8 [S, S, 3], masks u8 [S, S] (255 = at least half covered by the object).

    `scene` is the ground truth, with the object; outline, colours and pattern of `reference` are
    the same, its pose and light differ a little. Where something stands before the object
    (`occluded`), `scene_mask` is the part that is seen.
    """

    scene: NDArray[np.uint8]
    scene_mask: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    reference_mask: NDArray[np.uint8]
    caption: str
    category: str
    kind: str
    seed: int
    occluded: bool = False


@dataclass(frozen=True, slots=True)
class _Thing:
    """An object, upright and tight, in premultiplied RGBa: resizing needs no conversion."""

    sprite: Image.Image
    kind: str
    caption: str


def draw_sample(
    seed: int,
    size: int = 256,
    split: Split = "train",
    category: str | None = None,
    photos: Photos | None = None,
) -> Sample:
    """Draw the pair of a seed; the same arguments (and pictures) give the same bytes.

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
    thing = None
    if photos is not None and rng.random() < _PHOTO_OBJECTS:
        thing = _from_photos(photos, chosen, kinds, size, split, rng)
    thing = thing or _drawn(kinds, size, rng)
    place = None
    if photos is not None and rng.random() < _PHOTO_BACKGROUNDS:
        place = photos.background(size, split, rng)

    reference, reference_mask = _on_white(thing.sprite, size, rng)
    scene, scene_mask, occluded = _in_scene(thing.sprite, size, rng, place)
    if rng.random() < _GRAINED:
        scene = grained(scene, rng.uniform(*_GRAIN), rng)
    return Sample(
        scene=scene,
        scene_mask=scene_mask,
        reference=reference,
        reference_mask=reference_mask,
        caption=thing.caption,
        category=chosen,
        kind=thing.kind,
        seed=seed,
        occluded=occluded,
    )


def caption_of(kind: Kind, style: Style) -> str:
    """What a kind in a style is called: "a red striped t-shirt with a star"."""
    words = kind.caption.format(look=style.look)
    if kind.emblem and style.emblem:
        words += f" with {EMBLEMS[style.emblem]}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _drawn(
    kinds: Sequence[Kind], size: int, rng: np.random.Generator, texture: Texture | None = None
) -> _Thing:
    """An object of one of the kinds; some wear a given texture all over, like a cut-out of it."""
    kind = kinds[int(rng.integers(len(kinds)))]
    style = Style.random(rng)
    if texture:
        style = replace(style, texture=texture, main=texture.colour, emblem="")
    canvas = Canvas(round(_OVERSAMPLING * size), light=float(rng.uniform(-1, 1)))
    kind.draw(canvas, style, rng)
    if texture and rng.random() < _ALL_OVER:
        whole = style.fill(canvas.size).picture
        canvas.image.paste(whole, (0, 0), canvas.image.getchannel("A"))
    if kind.emblem and style.emblem:
        draw_emblem(canvas, style.emblem, kind.emblem, style.third)
    return _Thing(canvas.finish().convert("RGBa"), kind.name, caption_of(kind, style))


def _from_photos(
    photos: Photos,
    category: str,
    kinds: Sequence[Kind],
    size: int,
    split: Split,
    rng: np.random.Generator,
) -> _Thing | None:
    """A cut-out of the category, or a drawn object that wears a photograph, or what there is."""
    cut_out = photos.cut_out(category, split, rng)
    texture = photos.texture(size, split, rng)
    if cut_out and (texture is None or rng.random() < _CUT_OUTS):
        return _Thing(cut_out.picture.convert("RGBa"), "cut-out", cut_out.caption)
    return _drawn(kinds, size, rng, Texture.of(texture)) if texture else None


def _binary(alpha: Image.Image) -> NDArray[np.uint8]:
    return np.where(np.asarray(alpha) >= 128, np.uint8(255), np.uint8(0))


def _placed(alpha: Image.Image, size: int, spot: tuple[int, int]) -> Image.Image:
    whole = Image.new("L", (size, size))
    whole.paste(alpha, spot)
    return whole


def _on_white(
    sprite: Image.Image, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    fitted = scaled(sprite, size * rng.uniform(*_IN_REFERENCE)).convert("RGBA")
    spot = ((size - fitted.width) // 2, (size - fitted.height) // 2)
    picture = Image.new("RGB", (size, size), (255, 255, 255))
    picture.paste(fitted, spot, fitted)
    return np.array(picture), _binary(_placed(fitted.getchannel("A"), size, spot))


def _in_scene(
    sprite: Image.Image, size: int, rng: np.random.Generator, place: Image.Image | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bool]:
    sides = _IN_SCENE[rng.choice(len(_IN_SCENE), p=_IN_SCENE_SHARES)]
    placed = posed(sprite, size * rng.uniform(*sides), rng)
    if rng.random() < _RAMPED:
        placed = ramped(placed, rng)
    placed = placed.convert("RGBA")
    x = int(rng.integers(1, size - placed.width))
    # Things stand rather low: the middle of the free heights comes up most.
    y = int(rng.triangular(1, (size - placed.height) * 0.7, size - placed.height))
    box: Box = (x, y, x + placed.width, y + placed.height)
    picture = draw_background(size, box, rng, place)
    shadow, strength = rng.random(), rng.uniform(0.3, 0.6)
    if shadow < _CAST_SHADOWS:
        cast_shadow(picture, placed.getchannel("A"), box, strength, rng)
    elif shadow < 1 - _NO_SHADOW:
        add_shadow(picture, box, strength, rng.uniform(-0.2, 0.2))
    picture.paste(placed, (x, y), placed)
    alpha = _placed(placed.getchannel("A"), size, (x, y))
    seen = cover(picture, alpha, box, rng) if rng.random() < _OCCLUDED else None
    if rng.random() < _RAMPED_SCENES:
        picture = ramped(picture, rng)
    if rng.random() < _TONED:
        picture = toned(picture, rng)
    return np.array(picture), _binary(seen or alpha), seen is not None
