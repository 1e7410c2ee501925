"""Masks: u8 [H,W], 255 = repaint, 0 = keep (SPEC §2 "mask", §7).

Accepted kinds: grey (white = repaint), RGB (by its grey), RGBA or LA whose alpha is not opaque
(transparent = repaint, OpenAI's convention), boxes, and any mixture of a mask and boxes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from a2edit.runtime.boxes import Box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import ImageSource, Picture, Pixels, load_picture
from a2edit.runtime.regions import dilate
from a2edit.runtime.regions import fill_outline as fill_outline_bools

# The seam: beyond this many pixels of the mask nothing of the source changes (SPEC §7: 4-8 px).
FEATHER = 6
HALF = 128  # grey/255 >= 0.5


def binarise(mask: Pixels) -> Pixels:
    """Grey u8 to 0 or 255 at one half."""
    return np.where(mask >= HALF, np.uint8(255), np.uint8(0))


def fill_outline(mask: Pixels) -> Pixels:
    """Open outlines and holes mean their inside; the rules stand at `regions.fill_outline`."""
    return fill_outline_bools(mask >= HALF).astype(np.uint8) * np.uint8(255)


def boxes_mask(boxes: Sequence[Box], width: int, height: int, of: str = "the image") -> Pixels:
    """The union of boxes; every one must lie inside the picture, which is called `of`."""
    mask = np.zeros((height, width), np.uint8)
    for box in boxes:
        if not box.inside(width, height):
            raise RequestError(
                f"box {box} lies outside of {of}, which is {width}x{height} pixels: "
                f"x runs from 0 to {width}, y from 0 to {height}"
            )
        mask[box.slices] = 255
    return mask


def resize_mask(mask: Pixels, width: int, height: int) -> Pixels:
    """Resize, then binarise (SPEC §2); a mask that is not empty does not become so.

    Shrinking averages the covered pixels, growing interpolates. Lines too thin to cover half
    of a pixel would vanish: if all of the mask does, whatever it touches is kept instead.
    """
    if mask.shape == (height, width):
        return binarise(mask)
    shrinks = width <= mask.shape[1] and height <= mask.shape[0]
    kind = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    resized = binarise(np.asarray(Image.fromarray(mask).resize((width, height), kind)))
    if not resized.any():
        rows, columns = np.nonzero(mask >= HALF)
        resized[rows * height // mask.shape[0], columns * width // mask.shape[1]] = 255
    return resized


def selection(picture: Picture, transparent: Literal["edit", "object"]) -> Pixels:
    """The grey meaning of a mask picture, u8 [H,W], not yet binarised.

    `transparent`: "edit", where transparent pixels are the region to repaint; "object", where
    the opaque ones are the object (reference masks).
    """
    if picture.alpha is None:
        return np.asarray(Image.fromarray(picture.rgb).convert("L"))
    return 255 - picture.alpha if transparent == "edit" else picture.alpha


def load_mask(
    source: ImageSource,
    role: str,
    size: tuple[int, int],
    *,
    of: str,
    resize: bool = False,
    transparent: Literal["edit", "object"] = "edit",
) -> Pixels:
    """Read a mask for the picture called `of`, of `size` (width, height): u8 [H,W], 0 or 255.

    Raises RequestError for another size (unless `resize`) and for an empty mask.
    """
    picture = load_picture(source, role)
    grey = selection(picture, transparent)
    if picture.size != size and not resize:
        raise RequestError(
            f"{picture.name} is {picture.size[0]}x{picture.size[1]}, but {of} is "
            f"{size[0]}x{size[1]}: give a mask of the same size, or allow resizing "
            "(--resize-mask, resize_mask=True)"
        )
    mask = resize_mask(grey, *size)
    if not mask.any():
        brightest = int(grey.max())
        hint = (
            f"its brightest pixel is {brightest} of 255, and 128 and more count"
            if brightest
            else "all of it is black"
        )
        raise RequestError(
            f"{picture.name} is empty ({hint}): paint the region white (or make it transparent)"
        )
    return mask


def feathered(mask: Pixels, feather: int = FEATHER) -> Pixels:
    """The blending weight of the edit, u8 [H,W] (SPEC §7): 255 on the mask, 0 past the seam.

    The mask is dilated by half of `feather` and blurred by the other half, so it falls from
    255 at the mask's edge to 0 at most `feather` pixels further out, and is never less than
    the mask.
    """
    reach = feather // 2
    image = Image.fromarray(dilate(mask >= HALF, reach).astype(np.uint8) * np.uint8(255))
    for _ in range(reach):  # repeated boxes are close to a Gaussian, but end for certain
        image = image.filter(ImageFilter.BoxBlur(1))
    return np.maximum(np.array(image, np.uint8), binarise(mask))
